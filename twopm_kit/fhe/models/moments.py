"""Sums of columns and of products of columns, opened one number at a time: what many models are made of.

The server multiplies encrypted columns, adds over the rows, and masks all but the sum (see
`twopm_kit.fhe.sums`): no rotation, no rescaling, no relinearisation. The server sees nothing. Whoever opens
learns the sums, and nothing about single rows beyond what the sums say.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from twopm_kit.errors import CiphertextError, SchemaError
from twopm_kit.fhe.arithmetic import product_noise, rescale_noise
from twopm_kit.fhe.container import ColumnHeader
from twopm_kit.fhe.flooding import DEFAULT_PRECISION
from twopm_kit.fhe.frames import EncryptedFrame, same_key, sums_frame
from twopm_kit.fhe.keys import KeyHolder
from twopm_kit.fhe.sums import slot_sums

__all__ = ["Moments", "Opener", "class_sums", "products", "squares", "totals"]


class Opener(Protocol):
    """Whoever opens masked sums: a key holder, or a committee of whom nobody holds the key alone."""

    def decrypt(
        self, enc: EncryptedFrame, *, flood: bool = True, precision: float = DEFAULT_PRECISION
    ) -> pd.DataFrame | npt.NDArray[np.float64]:
        """Flooded values of a frame."""


@dataclass(frozen=True, repr=False)
class Moments:
    """Encrypted sums; adding two adds them up, so that several owners of rows can be opened as one.

    Parameters
    ----------
    sums : EncryptedFrame
        One row, in layout "sums".
    shape : tuple of int
        Of the matrix that they fill.
    symmetric : bool
        Only the upper triangle is there.
    rows : int
        How many rows were added up.
    """

    sums: EncryptedFrame
    shape: tuple[int, int]
    symmetric: bool
    rows: int

    def __add__(self, other: "Moments") -> "Moments":
        mine, theirs = (self.shape, self.symmetric), (other.shape, other.symmetric)
        if mine != theirs:
            raise CiphertextError(
                f"sums of shape {self.shape} and of shape {other.shape} were added",
                hint="add the sums of frames that have the same columns",
            )
        return Moments(self.sums + other.sums, self.shape, self.symmetric, self.rows + other.rows)

    def open(self, opener: Opener, *, precision: float = DEFAULT_PRECISION) -> npt.NDArray[np.float64]:
        """Open the sums, flooded and counted.

        Parameters
        ----------
        opener : KeyHolder or Committee
            For a committee products are relinearised, with ``sums.keys()``, and rescaled first: shares of a
            key open ciphertexts of two polynomials.
        precision : float
            Largest error that flooding adds to a sum.

        Returns
        -------
        ndarray of float64, shape ``shape``
        """
        sums = self.sums if isinstance(opener, KeyHolder) else _small(self.sums)
        values = np.asarray(opener.decrypt(sums, precision=precision), dtype=np.float64).ravel()
        full = np.empty(self.shape)
        if not self.symmetric:
            full[:] = values.reshape(self.shape)
            return full
        upper = np.triu_indices(self.shape[0])
        full[upper] = values
        full.T[upper] = values
        return full

    def __repr__(self) -> str:
        return f"<Moments {self.shape[0]} × {self.shape[1]} over {self.rows} rows: encrypted>"


def totals(enc: EncryptedFrame) -> Moments:
    """Sum of each column.

    Parameters
    ----------
    enc : EncryptedFrame, n rows × d columns
        In columns, packing "real".

    Returns
    -------
    Moments, shape (1, d)

    Raises
    ------
    CiphertextError
        Another layout, or a sum may not fit.
    """
    _check(enc)
    names = enc.columns
    heads = [_summed(enc, str(j), h.bound, h.scale, h.noise) for j, h in enumerate(enc.heads)]
    level = _lowest(enc, heads)
    low = enc.drop_to(level)
    added = (_added(enc, low.ciphers(name)) for name in names)
    sums = slot_sums(low, zip(heads, added, strict=True), level=level)
    return Moments(sums, (1, len(names)), False, enc.n_rows)


def products(left: EncryptedFrame, right: EncryptedFrame | None = None) -> Moments:
    """Sum over the rows of the product of each column of one frame with each of another.

    Parameters
    ----------
    left : EncryptedFrame, n rows × k columns
        In columns, packing "real", with a level left.
    right : EncryptedFrame, n rows × d columns, optional
        Under the same key. Without it, ``left`` with itself: only the upper triangle is computed.

    Returns
    -------
    Moments, shape (k, d)

    Raises
    ------
    CiphertextError
        Another layout, other rows, no level for a product, or a sum may not fit.
    WrongKey
        The frames are under different keys.
    """
    other = left if right is None else right
    places = [
        (i, j) for i in range(len(left.heads)) for j in range(i if right is None else 0, len(other.heads))
    ]
    sums = _product_sums(left, other, places)
    return Moments(sums, (len(left.heads), len(other.heads)), right is None, left.n_rows)


def squares(enc: EncryptedFrame) -> Moments:
    """Sum of the squares of each column, shape (1, d); raises as `products` does."""
    width = len(enc.heads)
    return Moments(_product_sums(enc, enc, [(j, j) for j in range(width)]), (1, width), False, enc.n_rows)


def class_sums(
    enc: EncryptedFrame,
    labels: EncryptedFrame,
    opener: Opener,
    classes: Sequence[Any] | None,
    precision: float,
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Open classes (k,), rows of each (k,) and sums over their rows (k, d).

    Classes are the given ones, the categories of a single categorical column, or the names of the columns.

    Raises
    ------
    SchemaError
        Labels are not a single 1 a row, or a class has no row.
    """
    groups = list(labels.categories.values())
    own = groups[0] if len(groups) == 1 and len(groups[0]) == len(labels.columns) else labels.columns
    names = np.asarray(own if classes is None else classes)
    if len(names) != len(labels.columns) or len(names) < 2:
        raise SchemaError(
            f"{len(names)} classes were passed for {len(labels.columns)} columns of labels; two are needed",
            hint="encrypt one_hot(y) and pass one class for each of its columns",
        )
    sums = products(labels, enc)
    found = totals(labels).open(opener, precision=precision)[0]
    counts = np.rint(found).astype(np.int64)
    if np.abs(found - counts).max() > 0.1 or counts.min() < 1 or counts.sum() != enc.n_rows:
        raise SchemaError(
            f"the labels add up to {np.round(found, 3).tolist()} over {enc.n_rows} rows; expected a single 1 "
            "in each row and every class in one row or more",
            hint="encrypt one_hot(y) of the same rows, and leave out classes without rows",
        )
    return names, counts, sums.open(opener, precision=precision)


def _product_sums(
    left: EncryptedFrame, right: EncryptedFrame, places: list[tuple[int, int]]
) -> EncryptedFrame:
    """Masked sums of the products of columns i of one and j of the other frame."""
    for enc in (left, right):
        _check(enc)
    same_key(left.fingerprint, right.fingerprint, "multiplying frames")
    if left.n_rows != right.n_rows or left.engine is not right.engine:
        raise CiphertextError(
            f"{left.n_rows} rows under profile {left.profile!r} were multiplied with {right.n_rows} rows "
            f"under {right.profile!r}",
            hint="encrypt the same rows, in the same order, with one profile",
        )
    if min(left.level, right.level) < 1:
        raise CiphertextError(
            f"the frame is at level {min(left.level, right.level)}: a product needs a level",
            hint="encrypt with a profile that has levels, and multiply before anything else",
        )
    heads = [_product(left, i, j, left.heads[i], right.heads[j]) for i, j in places]
    level = _lowest(left if left.level <= right.level else right, heads)
    one, two = left.drop_to(level), right.drop_to(level)
    firsts = [one.ciphers(name) for name in one.columns]
    seconds = firsts if right is left else [two.ciphers(name) for name in two.columns]
    engine = left.engine
    summed = (engine.sum_of_products(zip(firsts[i], seconds[j], strict=True)) for i, j in places)
    return slot_sums(one, zip(heads, summed, strict=True), level=level)


def _check(enc: EncryptedFrame) -> None:
    if enc.layout.kind != "columns" or enc.packing != "real":
        raise CiphertextError(
            f"sums over rows were asked of layout {enc.layout.kind!r}, packing {enc.packing!r}",
            hint="encrypt in columns with packing='real', the defaults",
        )
    if enc.padding != "zeros" and enc.n_rows % enc.engine.slots:
        raise CiphertextError(
            f"sums over {enc.n_rows} rows of computed columns were asked for: what is in the slots beyond "
            "the last row is not known, and would count",
            hint="take sums of encrypted columns, and shift or scale them in clear afterwards",
        )


def _summed(enc: EncryptedFrame, name: str, bound: float, scale: float, noise: float) -> ColumnHeader:
    blocks = -(-enc.n_rows // enc.engine.slots)
    return ColumnHeader(name, bound * enc.n_rows, scale, noise * math.sqrt(blocks))


def _product(enc: EncryptedFrame, i: int, j: int, a: ColumnHeader, b: ColumnHeader) -> ColumnHeader:
    noise = product_noise(enc.engine, a, b)
    return _summed(enc, f"{i}·{j}", a.bound * b.bound, a.scale * b.scale, noise)


def _lowest(enc: EncryptedFrame, heads: Iterable[ColumnHeader]) -> int:
    """Lowest level at which every sum fits: fewer primes cost less."""
    slots = enc.engine.slots
    needed = max(math.log2(max(h.bound / slots, 1.0)) + math.log2(h.scale) for h in heads)
    return next((low for low in range(enc.level) if needed <= enc.engine.room_bits(low)), enc.level)


def _added(enc: EncryptedFrame, blocks: list[Any]) -> Any:
    total, *rest = blocks
    add: Callable[[Any, Any], Any] = enc.engine.add
    for block in rest:
        total = add(total, block)
    return total


def _small(sums: EncryptedFrame) -> EncryptedFrame:
    """Bring products to two polynomials and one level down, where the noise of several parties fits."""
    if sums.size == 2:
        return sums
    keys, engine, prime = sums.keys(), sums.engine, float(sums.engine.primes[sums.level])
    parts = []
    for head in sums.heads:
        (cipher,) = sums.ciphers(head.name)
        scale, noise = head.scale / prime, math.hypot(head.noise / prime, rescale_noise(engine))
        lower = engine.rescale(keys.relinearize(cipher), scale)
        parts.append((replace(head, scale=scale, noise=noise), lower))
    return sums_frame(sums, parts, sums.level - 1)
