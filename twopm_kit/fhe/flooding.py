"""Noise that makes an opened result safe to show, and the ledger that counts openings.

A CKKS decryption is the value *plus the ciphertext's own error*, and that error is a linear equation in the
secret key. Whoever sees the ciphertext and one full-precision decryption can solve for the whole key
(Li and Micciancio, "On the Security of Homomorphic Encryption on Approximate Numbers", EUROCRYPT 2021). The
remedy is to add Gaussian noise that drowns the error before anybody sees the value (Li, Micciancio, Schultz
and Sorrell, "Securing Approximate Homomorphic Encryption Using Differential Privacy", CRYPTO 2022).
"""

import fcntl
import json
import math
import numbers
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from twopm_kit.errors import BudgetSpent, CiphertextError
from twopm_kit.fhe.engine import FRESH_NOISE, Engine
from twopm_kit.fhe.frame_html import counted
from twopm_kit.fhe.seal_io import write_atomic
from twopm_kit.untrusted import load_json

__all__ = [
    "DEFAULT_BUDGET",
    "DEFAULT_PRECISION",
    "Flood",
    "QueryLedger",
    "checked_precision",
    "cover_noise",
    "flood_values",
    "plan_flood",
    "secure_normal",
]

#: Largest error that flooding adds to a value by default.
DEFAULT_PRECISION: Final = 1e-6
#: Ciphertexts that a key may open before it has to be replaced.
DEFAULT_BUDGET: Final = 4096

#: A value strays from its true one by more than this many standard deviations once in 10^9.
_DEVIATIONS: Final = 6.2
#: The noise is at least this many times the ciphertext's own error, whatever precision was asked for:
#: averaging over the whole default budget still leaves the error 16 times smaller than what hides it.
_LEAST_RATIO: Final = 1024.0
#: Errors are estimated to this factor; only where more is seen, more noise is added, ...
_ESTIMATED: Final = 1.25
#: ... and where this many times more is, the frame is not what its header says.
_MISSED: Final = 64.0
#: Results are rounded to this part of the noise, so that no digit below it shows.
_GRID: Final = 16.0


def secure_normal(count: int) -> npt.NDArray[np.float64]:
    """Draw standard normal numbers from a keyed stream cipher (AES-256-CTR with a fresh key; Box-Muller).

    Parameters
    ----------
    count : int
        How many.

    Returns
    -------
    ndarray of float64, shape (count,)
    """
    pairs = (count + 1) // 2
    stream = Cipher(algorithms.AES(os.urandom(32)), modes.CTR(bytes(16))).encryptor()
    words = np.frombuffer(stream.update(bytes(16 * pairs)), dtype="<u8").reshape(2, pairs)
    uniform = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53  # never 0
    radius = np.sqrt(-2.0 * np.log(uniform[0]))
    angle = 2.0 * np.pi * uniform[1]
    return np.concatenate((radius * np.cos(angle), radius * np.sin(angle)))[:count]


@dataclass(frozen=True, slots=True)
class Flood:
    """How much noise an opening gets, and what it is worth.

    Parameters
    ----------
    std : float
        Standard deviation of the noise on a value.
    error : float
        Largest error to expect on a value.
    ratio_bits : float
        log2 of noise over the ciphertext's own error, in coefficients. Averaging r openings of the same value
        takes log2(r)/2 away.
    statistical_bits : float
        Statistical security that the worst-case proof (CRYPTO 2022) leaves over the whole budget, about
        2·ratio_bits - log2(24·N·budget). Where it is small, protection rests on `ratio_bits`, not on the
        proof.
    """

    std: float
    error: float
    ratio_bits: float
    statistical_bits: float


def checked_precision(precision: object) -> float:
    """Precision as a number.

    Raises
    ------
    CiphertextError
        It is not a positive number.
    """
    number = isinstance(precision, numbers.Real) and not isinstance(precision, bool)
    value = float(precision) if number and isinstance(precision, numbers.Real) else math.nan
    if not (math.isfinite(value) and value > 0.0):
        raise CiphertextError(
            f"precision {precision!r} was asked for", hint="pass a number above 0, such as 1e-6"
        )
    return value


def plan_flood(engine: Engine, scale: float, noise: float, precision: float, budget: int) -> Flood:
    """Noise for ciphertexts at a scale with an estimated error.

    Parameters
    ----------
    engine : Engine
        Gives N.
    scale, noise : float
        Of the ciphertext: scale, and standard deviation of the error of a coefficient.
    precision : float
        Largest error wanted on a value; larger is safer. It is exceeded where the ciphertext's own error
        is so large that less noise would not hide it.
    budget : int
        Openings to protect.

    Raises
    ------
    CiphertextError
        The precision is not a positive number.
    """
    precision = checked_precision(precision)
    spread = math.sqrt(engine.profile.degree / 2.0) / scale  # a coefficient's error as seen on a real value
    own = max(noise, FRESH_NOISE) * spread
    std = max(precision / _DEVIATIONS, _LEAST_RATIO * own)
    ratio = math.log2(std / own)
    proof = 2.0 * ratio - math.log2(24.0 * engine.profile.degree * budget)
    return Flood(std=std, error=std * _DEVIATIONS, ratio_bits=ratio, statistical_bits=proof)


def cover_noise(flood: Flood, seen: float) -> Flood | None:
    """Noise that is planned, or more where more error is seen than was planned for; None where far more is.

    Whoever sees the result sees how large its noise is. So the noise grows in steps of four, and an error
    that no honest estimate misses is not answered at all: made-up ciphertexts learn two bits of an opening.

    Parameters
    ----------
    flood : Flood
        Planned from what the frame's header says.
    seen : float
        Standard deviation of the error of a value, as the decryption shows it; 0 when it shows none.
    """
    lacking = _LEAST_RATIO * seen / flood.std / _ESTIMATED
    if lacking <= 1.0:
        return flood
    if lacking > _MISSED:
        return None
    more = 4.0 ** math.ceil(math.log2(lacking) / 2.0)
    ratio = math.log2(flood.std * more / seen)
    return Flood(
        std=flood.std * more,
        error=flood.error * more,
        ratio_bits=ratio,
        statistical_bits=flood.statistical_bits - 2.0 * (flood.ratio_bits - ratio),
    )


def flood_values(values: npt.NDArray[np.float64], flood: Flood) -> npt.NDArray[np.float64]:
    """Values plus noise, rounded to a grid below the noise."""
    grid = 2.0 ** math.floor(math.log2(flood.std / _GRID))
    noisy = values + secure_normal(values.size).reshape(values.shape) * flood.std
    return np.asarray(np.round(noisy / grid) * grid)


class QueryLedger:
    """Counts the ciphertexts that a key has opened for others, and stops at a budget.

    Parameters
    ----------
    budget : int
        How many ciphertexts may be opened.
    used : int
        How many have been.
    """

    __slots__ = ("_fingerprint", "_lock", "_path", "budget", "used")

    def __init__(self, budget: int = DEFAULT_BUDGET, used: int = 0) -> None:
        self.budget: Final = budget
        self.used = used
        self._lock = Lock()
        self._path: Path | None = None
        self._fingerprint = ""

    @property
    def left(self) -> int:
        """Openings that are left."""
        return max(self.budget - self.used, 0)

    def charge(self, count: int) -> None:
        """Count openings before they happen.

        Raises
        ------
        BudgetSpent
            Not enough openings are left; nothing was counted.
        """
        with self._alone():
            kept = self._read()  # another session with the same key may have counted meanwhile
            if count > self.left:
                raise BudgetSpent(
                    f"opening {counted(count, 'ciphertext')} was asked for; this key has opened "
                    f"{self.used} of {self.budget}",
                    hint="generate a new key and encrypt again, or open fewer columns",
                )
            self.used += count
            self._write(kept)

    def keep_at(self, path: Path, fingerprint: str) -> None:
        """Keep the count in a file from now on, written before an opening is returned.

        Parameters
        ----------
        path : pathlib.Path
            The file. A higher count of the same key that is already there wins; counts of other keys stay.
        fingerprint : str
            Whose openings are counted.
        """
        self._path, self._fingerprint = path, fingerprint
        with self._alone():
            self._write(self._read())

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other threads and processes from counting at the same time."""
        with self._lock:
            if self._path is None:
                yield
                return
            try:
                folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as error:
                raise CiphertextError(
                    f"the ledger of openings {self._path.name!r} cannot be kept: {error.strerror}",
                    hint="bring its folder back, or load the key from where it is now",
                ) from None
            try:
                # the file itself is replaced at each count, so its folder carries the lock
                fcntl.flock(folder, fcntl.LOCK_EX)
                yield
            finally:
                os.close(folder)

    def _read(self) -> dict[str, int]:
        kept = {} if self._path is None else _read_counts(self._path)
        self.used = max(self.used, kept.get(self._fingerprint, 0))
        return kept

    def _write(self, kept: dict[str, int]) -> None:
        if self._path is not None:
            text = json.dumps({"opened": {**kept, self._fingerprint: self.used}})
            write_atomic(self._path, text.encode(), mode=0o600)

    def __repr__(self) -> str:
        return f"<QueryLedger: {self.used} of {self.budget} openings used>"


def _read_counts(path: Path) -> dict[str, int]:
    """Return the openings of every key that was ever kept under this name."""
    if not path.exists():
        return {}
    try:
        kept = load_json(path.read_bytes())
        counts: Any = kept["opened"]
        if "key" in kept:  # as it was written when a file held one key
            counts = {kept["key"]: counts}
        whole = all(type(count) is int and count >= 0 for count in counts.values())
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise CiphertextError(
            f"the ledger of openings {path.name!r} is damaged", hint="restore it, or generate a new key"
        )
    return dict(counts)
