"""Sums of columns and of products of columns, opened one number at a time: what many models are made of.

The server multiplies encrypted columns, adds over the rows, and masks all but the sum (see
`twopm_kit.fhe.sums`): no rotation, no rescaling, no relinearisation. The server sees nothing. Whoever opens
learns the sums, and nothing about single rows beyond what the sums say.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from twopm_kit.errors import CiphertextError, SchemaError
from twopm_kit.fhe.arithmetic import product_noise, relinearisation_noise, rescale_noise
from twopm_kit.fhe.container import ColumnHeader
from twopm_kit.fhe.flooding import DEFAULT_PRECISION
from twopm_kit.fhe.frames import EncryptedFrame, same_key, sums_frame
from twopm_kit.fhe.keys import KeyHolder
from twopm_kit.fhe.models.inputs import Array
from twopm_kit.fhe.sums import slot_sums

__all__ = [
    "Moments",
    "Opener",
    "check_opener",
    "check_rows",
    "compact",
    "open_sums",
    "products",
    "squares",
    "together",
    "totals",
]


class Opener(Protocol):
    """Whoever opens masked sums: a key holder, or a committee of whom nobody holds the key alone.

    Shares of a key open ciphertexts of two polynomials, so everybody but a `KeyHolder` gets sums of products
    `compact`; an opener that passes on to one may say ``needs_size_2 = False``.
    """

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

    def with_noise(self, relative: Array) -> "Moments":
        """Put the noise that the sums truly have into their headers, where more is known than public bounds.

        Bounds alone make it up to sixteen times as large as it is, and flooding with it.

        Parameters
        ----------
        relative : ndarray of float64, shape ``shape``
            Standard deviation of the noise of each sum's coefficient, over its scale.
        """
        places = np.triu_indices(self.shape[0]) if self.symmetric else (...,)
        parts = [
            (replace(head, noise=head.scale * float(size)), self.sums.ciphers(head.name)[0])
            for head, size in zip(self.sums.heads, np.ravel(relative[places]), strict=True)
        ]
        return replace(self, sums=sums_frame(self.sums, parts, self.sums.level))

    def open(self, opener: Opener, *, precision: float = DEFAULT_PRECISION) -> npt.NDArray[np.float64]:
        """Open the sums, flooded and counted.

        Parameters
        ----------
        opener : KeyHolder or Committee
            For a committee products are made `compact` first, with ``sums.keys()``.
        precision : float
            Largest error that flooding adds to a sum.

        Returns
        -------
        ndarray of float64, shape ``shape``
        """
        values = open_sums(opener, self.sums, precision=precision)
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


def together(parts: Iterable[Moments]) -> Moments:
    """Add the sums of several owners of rows, to be opened as one."""
    return reduce(add, parts)


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
    check_rows(enc)
    heads = [_summed(enc, str(j), h.bound, h.scale, h.noise) for j, h in enumerate(enc.heads)]
    added = (reduce(enc.engine.add, enc.ciphers(name)) for name in enc.columns)
    # not at a lower level, where sums would be opened as if they carried the noise of rounding
    sums = slot_sums(enc, zip(heads, added, strict=True), level=enc.level)
    return Moments(sums, (1, len(heads)), False, enc.n_rows)


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


def open_sums(opener: Opener, sums: EncryptedFrame, *, precision: float = DEFAULT_PRECISION) -> Array:
    """Open a frame of sums, flooded and counted, in a form that the opener can take; shape (columns,)."""
    whole = not getattr(opener, "needs_size_2", not isinstance(opener, KeyHolder))
    opened = opener.decrypt(sums if whole else compact(sums), precision=precision)
    return np.asarray(opened, dtype=np.float64).ravel()


def compact(sums: EncryptedFrame) -> EncryptedFrame:
    """Bring sums of products to two polynomials, and one level down, where the noise of several fits.

    Raises
    ------
    CiphertextError
        The frame came as bytes without ``key=``, so there are no evaluation keys.
    """
    if sums.size == 2:
        return sums
    keys, engine, prime = sums.keys(), sums.engine, float(sums.engine.primes[sums.level])
    parts = []
    for head in sums.heads:
        (cipher,) = sums.ciphers(head.name)
        switched = math.hypot(head.noise, relinearisation_noise(engine)) / prime
        scale, noise = head.scale / prime, math.hypot(switched, rescale_noise(engine))
        lower = engine.rescale(keys.relinearize(cipher), scale)
        parts.append((replace(head, scale=scale, noise=noise), lower))
    return sums_frame(sums, parts, sums.level - 1)


def check_opener(opener: Any, enc: EncryptedFrame) -> None:
    """Refuse an opener that is none, or that has another key.

    Raises
    ------
    SchemaError
        It cannot decrypt.
    WrongKey
        It has another key.
    """
    if not callable(getattr(opener, "decrypt", None)):
        raise SchemaError(
            f"opener is a {type(opener).__name__}; expected somebody who can open sums",
            hint="pass the KeyHolder, or a Committee: fit(enc_X, enc_y, opener=holder)",
        )
    if (fingerprint := getattr(opener, "fingerprint", None)) is not None:
        same_key(str(fingerprint), enc.fingerprint, "opening sums")


def _product_sums(
    left: EncryptedFrame, right: EncryptedFrame, places: list[tuple[int, int]]
) -> EncryptedFrame:
    """Masked sums of the products of columns i of one and j of the other frame."""
    for enc in (left, right):
        check_rows(enc)
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


def check_rows(enc: EncryptedFrame) -> None:
    """Refuse frames whose slots are not rows and zeros.

    Raises
    ------
    CiphertextError
        Another layout or packing, or slots beyond the last row that may not be 0.
    """
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
    # few rows spread little noise: all slots beyond them hold zeros
    slots = enc.engine.slots
    noise = product_noise(enc.engine, a, b, filled=enc.n_rows / (slots * -(-enc.n_rows // slots)))
    return _summed(enc, f"{i}·{j}", a.bound * b.bound, a.scale * b.scale, noise)


def _lowest(enc: EncryptedFrame, heads: Iterable[ColumnHeader]) -> int:
    """Lowest level at which every sum fits: fewer primes cost less."""
    slots = enc.engine.slots
    needed = max(math.log2(max(h.bound / slots, 1.0)) + math.log2(h.scale) for h in heads)
    return next((low for low in range(enc.level) if needed <= enc.engine.room_bits(low)), enc.level)
