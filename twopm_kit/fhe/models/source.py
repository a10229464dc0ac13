"""Where training gets its sums from: encrypted rows and somebody who opens sums, or rows in clear."""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from twopm_kit.errors import CiphertextError
from twopm_kit.fhe.frames import EncryptedFrame
from twopm_kit.fhe.models.gradient import GradientSums, ScorePolynomial, Sums, clear_sums
from twopm_kit.fhe.models.inputs import Array
from twopm_kit.fhe.models.moments import Opener, open_sums
from twopm_kit.fhe.models.training import TrainingData

__all__ = ["ClearSource", "EncryptedSource", "Source", "check_sizes"]

Guard = Callable[[Array], None]

#: Columns with a larger root mean square are not standardised, and would leave the interval at once.
_LARGEST_SIZE = 4.0


class Source(Protocol):
    """What training asks of data: sums over all rows, and nothing else."""

    n_rows: int
    columns: tuple[str, ...] | None
    sizes: Array
    n_targets: int

    def sums(self, weights: Array, offsets: Array, guard: Guard) -> Sums:
        """Get sums for weights (k, d), offsets (k,); ``guard`` sees the spread before the rest is opened."""

    def spread(self, weights: Array, offsets: Array) -> Array:
        """Get the root mean square of the scores, shape (k,)."""


class ClearSource:
    """Rows in clear: the twin that encrypted training is compared with."""

    def __init__(
        self,
        polynomial: ScorePolynomial,
        rows: Array,
        targets: Array,
        columns: tuple[str, ...] | None,
    ) -> None:
        self._polynomial, self._rows, self._targets = polynomial, rows, targets
        self.n_rows, self.columns, self.n_targets = len(rows), columns, targets.shape[1]
        self.sizes = np.sqrt((rows**2).mean(axis=0))
        check_sizes(self.sizes, columns)

    def sums(self, weights: Array, offsets: Array, guard: Guard) -> Sums:
        """Compute them in clear."""
        found = clear_sums(self._polynomial, self._rows, self._targets, weights, offsets)
        guard(found.spread)
        return found

    def spread(self, weights: Array, offsets: Array) -> Array:
        """Compute it in clear."""
        return np.asarray(np.sqrt(((self._rows @ weights.T + offsets) ** 2).mean(axis=0)))


class EncryptedSource:
    """Encrypted rows: the server's sums, opened by the opener."""

    def __init__(
        self,
        polynomial: ScorePolynomial,
        data: TrainingData,
        opener: Opener,
        *,
        subtract: bool = True,
        hidden: bool = False,
    ) -> None:
        self._opener, self._hidden, self._subtract = opener, hidden, subtract
        self._polynomial, self._data = polynomial, data
        self.n_rows, self.columns, self.n_targets = data.n_rows, data.columns, data.n_targets
        self.sizes = data.row_sizes(opener)
        check_sizes(self.sizes, data.columns)
        self._server = GradientSums(data, polynomial, self.sizes, subtract=subtract, hidden=hidden)
        #: Sum of each column, where it has been opened already.
        self.totals: Array | None = None

    def sums(self, weights: Array, offsets: Array, guard: Guard) -> Sums:
        """Let the server compute masked sums, and the opener open them."""
        if not self._subtract and not weights.any():
            return self._start(offsets)
        sums = self._server.sums(weights, offsets, self._weights(weights, offsets))
        spreads = [name for name in sums.columns if name.endswith("²")]
        rest = [name for name in sums.columns if not name.endswith("²")]
        opened = self._opened(sums, spreads)
        guard(self._server.read_spread(opened, offsets))
        return self._server.read(opened | self._opened(sums, rest), offsets)

    def spread(self, weights: Array, offsets: Array) -> Array:
        """Let the server compute masked sums of squares, and the opener open them."""
        if not weights.any():
            return np.abs(offsets)
        sums = self._server.spreads(weights, offsets, self._weights(weights, offsets))
        return self._server.read_spread(self._opened(sums, sums.columns), offsets)

    def _opened(self, sums: EncryptedFrame, names: list[str]) -> dict[str, float]:
        if not names:
            return {}
        return dict(zip(names, open_sums(self._opener, sums[names]).tolist(), strict=True))

    def _start(self, offsets: Array) -> Sums:
        """Take sums for zero weights from the column sums, times one rate: nothing new to open."""
        if self.totals is None:
            self.totals = self._data.row_totals(self._opener)
        rates = self._polynomial(offsets)
        return Sums(np.outer(rates, self.totals), rates * self.n_rows, np.abs(offsets))

    def _weights(self, weights: Array, offsets: Array) -> list[EncryptedFrame] | None:
        if not self._hidden:
            return None
        # who opens encrypts best: with a secret key there is less noise; a committee has the public key
        encrypt = getattr(self._opener, "encrypt_constants", None) or getattr(
            self._data.rows[0].evaluator, "encrypt_constants", None
        )
        if encrypt is None:
            raise CiphertextError(
                "the frames have no public key to encrypt weights with",
                hint="read them with EncryptedFrame.load(path, key=evaluator)",
            )
        return self._server.hide(weights, offsets, encrypt)


def check_sizes(sizes: Array, columns: tuple[str, ...] | None) -> None:
    """Refuse columns that are not standardised.

    Raises
    ------
    CiphertextError
        Names the columns.
    """
    wide = np.flatnonzero(sizes > _LARGEST_SIZE)
    if wide.size:
        names = [f"x{j}" if columns is None else columns[j] for j in wide[:8]]
        raise CiphertextError(
            f"{wide.size} columns have a root mean square of up to {float(sizes.max()):.3g}, where about 1 "
            f"is expected: {', '.join(names)}",
            hint="standardise the columns before encrypting, to mean 0 and variance 1",
        )
