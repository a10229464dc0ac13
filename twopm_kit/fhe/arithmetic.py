"""Arithmetic on encrypted frames: sums, products and weighted sums, each with its bound, scale and noise."""

import math
import numbers
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NoReturn

import numpy as np
import numpy.typing as npt
import pandas as pd

from twopm_kit.errors import CiphertextError, SchemaError
from twopm_kit.fhe.columns import Column, computed, merged_kind, same_key
from twopm_kit.fhe.container import ColumnHeader
from twopm_kit.fhe.engine import FRESH_NOISE, Engine
from twopm_kit.fhe.frame_html import counted
from twopm_kit.fhe.layouts import spread
from twopm_kit.fhe.profiles import PROFILES
from twopm_kit.fhe.selection import differences
from twopm_kit.fhe.tables import plain_array

if TYPE_CHECKING:
    from twopm_kit.fhe.frames import EncryptedFrame

__all__ = [
    "best_scale",
    "combine",
    "exhausted",
    "multiply",
    "negate",
    "number",
    "power",
    "product_noise",
    "refuse_order",
    "relinearisation_noise",
    "rescale_noise",
    "shift",
    "times",
    "weigh",
]

_INTEGER_LIMIT: Final = 1 << 20
_SMALLEST_SCALE_BITS: Final = 16
_MOST_POWER: Final = 64
#: Two scales that float64 rounding alone has parted.
_SAME_SCALE: Final = 1e-12


# With a plain number ------------------------------------------------------------------------------------


def shift(frame: "EncryptedFrame", value: float) -> "EncryptedFrame":
    """Add a number to every row; slots beyond the last row stay as they are."""
    if frame.layout.kind == "sums":
        raise CiphertextError(
            "a number was added to sums; a sum is spread over all slots",
            hint="open the sums and add the number to the values",
        )
    frame.complete("adding a number")
    engine, both = frame.engine, frame.packing == "complex"
    rest = frame.n_rows % frame.layout.rows(engine.slots, frame.packing)
    ragged = frame.padding == "zeros" and frame.layout.kind == "columns" and rest > 0

    def shifted(column: Column) -> Column:
        head = frame.fits(replace(column.head, bound=column.head.bound + abs(value)), frame.level)
        *full, last = frame.open(column)
        ciphers = [engine.add_constant(c, value, both=both) for c in full]
        if ragged:
            rows = np.full((rest, 1), value)
            ((vector,),) = spread(rows, frame.layout, engine.slots, frame.packing)
            ciphers.append(engine.add_plain(last, engine.encode(vector, head.scale, frame.level)))
        else:
            ciphers.append(engine.add_constant(last, value, both=both))
        return computed(head, ciphers)

    kind = _whole if value.is_integer() else _float
    padding = frame.padding if frame.layout.kind == "columns" else "any"
    return frame.each(shifted, kind=kind, padding=padding)


def times(frame: "EncryptedFrame", factor: float) -> "EncryptedFrame":
    """Multiply by a number: whole ones up to 2^20 use no level, others use one."""
    if factor == 0.0:
        raise CiphertextError(
            "multiplying by 0 would give a ciphertext that anyone can read",
            hint="leave the product out: its value is 0",
        )
    if factor.is_integer() and abs(factor) <= _INTEGER_LIMIT:
        return frame.each(lambda column: _times_whole(frame, column, int(factor)), kind=_whole)
    if frame.level < 1:
        raise exhausted(frame.engine, frame.level)
    return frame.each(lambda column: _scaled(frame, column, factor), frame.level - 1, kind=_float)


def negate(frame: "EncryptedFrame") -> "EncryptedFrame":
    """Change every sign."""
    negative = frame.engine.negate
    return frame.each(lambda c: computed(c.head, map(negative, frame.open(c))), kind=_whole)


def _times_whole(frame: "EncryptedFrame", column: Column, factor: int) -> Column:
    size = abs(factor)
    head = replace(column.head, bound=column.head.bound * size, noise=column.head.noise * size)
    frame.fits(head, frame.level)
    ciphers = (frame.engine.times_integer(c, factor) for c in frame.open(column))
    return computed(head, ciphers)


def _scaled(frame: "EncryptedFrame", column: Column, factor: float) -> Column:
    engine, head = frame.engine, column.head
    bound = head.bound * abs(factor)
    most = math.log2(head.scale)
    wanted = best_scale(engine, frame.level - 1, bound, most_bits=most, what=f"column {head.name!r}")
    return _restated(frame, column, factor, wanted)


def _restated(frame: "EncryptedFrame", column: Column, factor: float, wanted: float) -> Column:
    """Multiply by a number so that the result has exactly the wanted scale, one level down."""
    engine, head, level = frame.engine, column.head, frame.level
    plain = engine.encode_constant(factor, engine.factor_scale(head.scale, wanted, level), level)
    if plain is None:
        raise CiphertextError(
            f"the factor {factor:g} is too small for profile {frame.profile!r}: it rounds to 0",
            hint="scale the column before encrypting",
        )
    noise = math.hypot(head.noise * abs(factor) * wanted / head.scale, rescale_noise(engine))
    made = replace(head, bound=head.bound * abs(factor), scale=wanted, noise=noise)
    frame.fits(made, level - 1)
    products = (engine.multiply_accumulate([(c, plain)], None, wanted) for c in frame.open(column))
    return computed(made, products)


# Of two frames ------------------------------------------------------------------------------------------


def combine(
    left: "EncryptedFrame", right: "EncryptedFrame", operation: Callable[[Any, Any], Any], doing: str
) -> "EncryptedFrame":
    """Add or subtract: columns of one name, or the only columns of both, at one scale and level."""
    right = matched(left, right, doing)
    if any(not _doublings(a, b) for a, b in _scales(left, right)):
        left, right = _brought_together(left, right, doing)
    level = min(left.level, right.level)
    left, right = left.drop_to(level), right.drop_to(level)
    theirs_of = {column.head.name: column for column in right.stored}

    def pair(column: Column) -> Column:
        opposite = theirs_of[column.head.name]
        mine, other = column.head, opposite.head
        scale = max(mine.scale, other.scale)
        # both may hold the same ciphertexts, so their errors may point the same way
        noise = mine.noise * scale / mine.scale + other.noise * scale / other.scale
        head = replace(mine, bound=mine.bound + other.bound, scale=scale, noise=noise)
        left.fits(head, level)
        ones = (_raised(left.engine, c, mine.scale, scale) for c in left.open(column))
        twos = (_raised(left.engine, c, other.scale, scale) for c in right.open(opposite))
        return computed(head, (operation(a, b) for a, b in zip(ones, twos, strict=True)))

    return _joined(left, right, pair, level, all_zero=True)


def multiply(left: "EncryptedFrame", right: "EncryptedFrame") -> "EncryptedFrame":
    """Multiply columns of one name, or the only columns of both: relinearised, rescaled, one level down."""
    doing = "multiplying frames"
    right = matched(left, right, doing)
    for frame in (left, right):
        if frame.packing != "real" or frame.layout.kind == "sums":
            raise CiphertextError(
                f"{doing}: in layout {frame.layout.kind!r}, packing {frame.packing!r}, a product would mix "
                "rows",
                hint="encrypt in columns with packing='real', the defaults",
            )
    level = min(left.level, right.level)
    if level < 1:
        raise exhausted(left.engine, level)
    keys = (left if left.evaluator is not None else right).keys()
    engine = left.engine
    left, right = left.drop_to(level), right.drop_to(level)
    theirs_of = {column.head.name: column for column in right.stored}

    def pair(column: Column) -> Column:
        opposite = theirs_of[column.head.name]
        mine, other = column.head, opposite.head
        product = replace(
            mine,
            bound=mine.bound * other.bound,
            scale=mine.scale * other.scale,
            noise=math.hypot(product_noise(engine, mine, other), relinearisation_noise(engine)),
        )
        left.fits(product, level)
        prime = float(engine.primes[level])
        noise = math.hypot(product.noise / prime, rescale_noise(engine))
        head = replace(product, scale=product.scale / prime, noise=noise)
        left.fits(head, level - 1)
        if math.log2(head.scale) < _SMALLEST_SCALE_BITS:
            raise _too_coarse(engine, f"the product {mine.name!r}", head.bound, math.log2(head.scale))
        chunks = []
        for a, b in zip(left.open(column), right.open(opposite), strict=True):
            wide = engine.square(a) if a is b else engine.multiply(a, b)
            chunks.append(engine.rescale(keys.relinearize(wide), head.scale))
        return computed(head, chunks)

    return _joined(left, right, pair, level - 1, all_zero=False)


def power(frame: "EncryptedFrame", exponent: object) -> "EncryptedFrame":
    """Whole power: as many levels as the exponent has binary digits, less one, rounded up."""
    if isinstance(exponent, np.integer | np.floating | float) and float(exponent).is_integer():
        exponent = int(exponent)
    if type(exponent) is not int or not 1 <= exponent <= _MOST_POWER:
        raise CiphertextError(
            f"the exponent {exponent!r} was passed; expected a whole number from 1 to {_MOST_POWER}",
            hint="use ** 2, or products; roots and negative powers are not polynomials",
        )
    if exponent == 1:
        return frame
    half = power(frame, exponent // 2)
    square = multiply(half, half)
    return multiply(square, frame) if exponent % 2 else square


def weigh(frame: "EncryptedFrame", weights: object) -> "EncryptedFrame":
    """Weighted sums of columns with plain weights: ``frame @ weights``, one level."""
    # A linear form is a model on frames: this module is below it.
    from twopm_kit.fhe.models.linear import LinearForm

    matrix, names = _weights(frame, weights)
    if frame.layout.kind != "columns":
        raise CiphertextError(
            f"columns in layout {frame.layout.kind!r} were to be weighed; they share their slots there",
            hint="encrypt in columns, the default layout",
        )
    form = LinearForm(matrix.T, np.zeros(matrix.shape[1]), names)
    return form.apply(frame).with_padding(frame.padding)


def _weights(frame: "EncryptedFrame", weights: object) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    names: tuple[str, ...] | None = None
    if isinstance(weights, pd.Series):
        weights = weights.to_frame("sum" if weights.name is None else str(weights.name))
    if isinstance(weights, pd.DataFrame):
        index = [str(label) for label in weights.index]
        if sorted(index) != sorted(frame.columns):
            raise SchemaError(
                f"the weights are for {index[:8]}; the frame has {frame.columns[:8]}",
                hint="give the weights the frame's column names as index, or select columns first",
            )
        names = tuple(str(name) for name in weights.columns)
        weights = weights.set_axis(index, axis=0).loc[frame.columns].to_numpy()
    given = plain_array(weights)
    if given.dtype.kind not in "biuf":
        raise SchemaError(
            f"weights of type {type(weights).__name__}, dtype {given.dtype}, were passed; expected numbers",
            hint="pass a plain vector or matrix, a Series or a DataFrame; convert it with .astype(float)",
        )
    matrix = given.astype(np.float64)
    if matrix.ndim == 1:
        matrix, names = matrix.reshape(-1, 1), names or ("sum",)
    width = len(frame.columns)
    if matrix.ndim != 2 or matrix.shape[0] != width or not matrix.size or not np.isfinite(matrix).all():
        raise SchemaError(
            f"weights of shape {given.shape} were passed for {width} columns; expected finite numbers "
            f"of shape ({width},) or ({width}, k)",
            hint="pass a plain vector or matrix, a Series or a DataFrame",
        )
    names = names or tuple(f"y{k}" for k in range(matrix.shape[1]))
    if len(set(names)) != len(names):
        raise SchemaError("the weights name two results alike", hint="rename the columns of the weights")
    return matrix, names


def matched(left: "EncryptedFrame", right: "EncryptedFrame", doing: str) -> "EncryptedFrame":
    """Right frame with the names of the left one, when the two can meet slot by slot.

    Raises
    ------
    WrongKey, CiphertextError
        Another key, profile, or shape.
    """
    same_key(left.fingerprint, right.fingerprint, doing)
    if left.engine.params_hash != right.engine.params_hash:
        raise CiphertextError(
            f"{doing}: profiles {left.profile!r} and {right.profile!r}",
            hint="encrypt both with one key holder",
        )
    for frame in (left, right):
        frame.complete(doing)
    if len(left.columns) == len(right.columns) == 1:
        right = right.rename(left.columns)
    if differ := differences(left, right):
        raise CiphertextError(
            f"{doing}: {'; '.join(differ)}; rows, packing and layout must agree",
            hint="encrypt the same rows in the same way",
        )
    if sorted(left.columns) != sorted(right.columns):
        raise CiphertextError(
            f"{doing}: columns {left.columns[:8]} and {right.columns[:8]}; column names must agree",
            hint="select and .rename() columns until both have the same names",
        )
    return right if left.columns == right.columns else right[left.columns]


def _joined(
    left: "EncryptedFrame",
    right: "EncryptedFrame",
    pair: Callable[[Column], Column],
    level: int,
    *,
    all_zero: bool,
) -> "EncryptedFrame":
    theirs = dict(zip(right.columns, (head.kind for head in right.heads), strict=True))
    zeros = [frame.padding == "zeros" for frame in (left, right)]
    made = left.each(
        pair,
        level,
        kind=lambda head: merged_kind(head.kind, theirs[head.name]),
        padding="zeros" if (all(zeros) if all_zero else any(zeros)) else "any",
    )
    made.evaluator = left.evaluator or right.evaluator
    return made


# Scales -------------------------------------------------------------------------------------------------


def _scales(left: "EncryptedFrame", right: "EncryptedFrame") -> Iterator[tuple[float, float]]:
    theirs = right.scales
    return ((scale, theirs[name]) for name, scale in left.scales.items())


def _doublings(left: float, right: float) -> bool:
    """Whether one scale is the other doubled some times, so that a whole factor brings them together."""
    ratio = max(left, right) / min(left, right)
    return abs(ratio / 2.0 ** round(math.log2(ratio)) - 1.0) < _SAME_SCALE


def _raised(engine: Engine, cipher: Any, scale: float, wanted: float) -> Any:
    if scale == wanted:
        return cipher
    raised = engine.raise_scale(cipher, round(math.log2(wanted / scale)))
    engine.settle(raised, wanted)
    return raised


def _brought_together(
    left: "EncryptedFrame", right: "EncryptedFrame", doing: str
) -> "tuple[EncryptedFrame, EncryptedFrame]":
    """Bring two frames to the same scales with a factor of 1, on the level that one of them has to spare."""
    if left.level == right.level == 0:
        (a, b) = next(pair for pair in _scales(left, right) if not _doublings(*pair))
        raise CiphertextError(
            f"{doing}: scales 2^{math.log2(a):.4f} and 2^{math.log2(b):.4f} are no power of two apart, as "
            "happens after a product, and no level is left to bring them together",
            hint="multiply the frame that had no product by a number that is not whole before its last level "
            "is used, or encrypt with a profile that has more levels",
        )
    # the one with more levels is restated at the level of the other; of equals, the one with larger scales
    equal = left.level == right.level
    if left.level > right.level or (equal and left.scale > right.scale):
        return _at_scales_of(left, right), right
    return left, _at_scales_of(right, left)


def _at_scales_of(frame: "EncryptedFrame", other: "EncryptedFrame") -> "EncryptedFrame":
    low = frame.drop_to(min(other.level + 1, frame.level))
    wanted = other.scales
    return low.each(lambda c: _restated(low, c, 1.0, wanted[c.head.name]), low.level - 1)


def best_scale(engine: Engine, level: int, bound: float, *, most_bits: float, what: str) -> float:
    """Find the largest power of two, up to 2^most_bits, at which values up to ``bound`` fit a level."""
    room = engine.room_bits(level) - 0.4 - math.log2(max(bound, 2.0**-60))
    bits = min(room, most_bits)
    if bits < _SMALLEST_SCALE_BITS:
        raise _too_coarse(engine, what, bound, bits)
    return 2.0 ** math.floor(bits)


def _too_coarse(engine: Engine, what: str, bound: float, bits: float) -> CiphertextError:
    return CiphertextError(
        f"{what}: results may reach {bound:g}, which leaves 2^{bits:.0f} as scale in profile "
        f"{engine.profile.name!r}: too coarse",
        hint="standardise the columns, or encrypt with smaller bounds=",
    )


def exhausted(engine: Engine, level: int) -> CiphertextError:
    """Make the error for a product at level 0; it names the profiles that have more levels."""
    own = engine.profile
    more = [f"{p.name!r} ({counted(p.levels, 'level')})" for p in PROFILES.values() if p.levels > own.levels]
    return CiphertextError(
        f"the frame is at level {level}, and this product takes a level; profile {own.name!r} has "
        f"{counted(own.levels, 'level')} in all",
        hint=f"encrypt with {' or '.join(more)}"
        if more
        else "merge factors so that fewer products follow each other",
    )


# Noise --------------------------------------------------------------------------------------------------


def rescale_noise(engine: Engine) -> float:
    """Estimate what rounding adds to a coefficient at a rescaling: standard deviation, ternary secret."""
    return math.sqrt((1.0 + 2.0 * engine.profile.degree / 3.0) / 12.0)


def relinearisation_noise(engine: Engine) -> float:
    """Estimate what key switching adds to a coefficient: an error for each prime, over the special one.

    That one is no smaller than half of the largest of the others.
    """
    digits = len(engine.primes) * engine.profile.degree / 12.0
    return math.hypot(2.0 * FRESH_NOISE * math.sqrt(digits), rescale_noise(engine))


def product_noise(engine: Engine, left: ColumnHeader, right: ColumnHeader, *, filled: float = 1.0) -> float:
    """Estimate the noise of a coefficient of a product: each value spreads the noise of the other.

    ``filled`` is the part of the slots that may hold values; all others hold zeros.
    """
    # in slots the error of one factor is multiplied by the other, whose mean square is at most this
    a, b = (head.bound * math.sqrt(filled) * head.scale for head in (left, right))
    mixed = left.noise * right.noise * math.sqrt(engine.profile.degree)
    return math.hypot(left.noise * b, right.noise * a, mixed)


# Operands -----------------------------------------------------------------------------------------------


def number(value: object, relation: str) -> float:
    """Plain finite number, or a named error."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()  # arrays and tensors of no dimension
    try:
        plain = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
        result = float(value) if isinstance(value, numbers.Real) and plain else math.nan
    except OverflowError:  # whole numbers and fractions know no limit
        result = math.inf
    if not math.isfinite(result):
        several = hasattr(value, "__len__") and not isinstance(value, str | bytes)
        raise CiphertextError(
            f"{value if isinstance(value, float) else f'an object of type {type(value).__name__}'} was "
            f"{relation} an encrypted frame; expected a finite number or an encrypted frame",
            hint="encrypt it, or take columns one by one: kit.fhe.concat([enc[c] - mean[c] for c in enc])"
            if several
            else "pass an int or a float, or encrypt the other side",
        )
    return result


def refuse_order(frame: "EncryptedFrame", what: str) -> NoReturn:
    """Refuse what needs to compare values."""
    raise CiphertextError(
        f"{what} of {counted(len(frame.columns), 'encrypted column')} was asked for; it compares values, "
        "which ciphertexts under CKKS cannot do",
        hint="use sum, mean, var, std, cov, corr or describe, or ask the key owner",
    )


def _whole(head: ColumnHeader) -> str:
    """Kind of the negative, a whole multiple or a whole shift of a column."""
    return merged_kind(head.kind, "int")


def _float(_: ColumnHeader) -> str:
    return "float"
