"""Statistics of encrypted frames: masked sums that a server computes, finished in clear by the key holder."""

import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from html import escape
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm.auto import tqdm

from twopm_kit.errors import CiphertextError, DataError
from twopm_kit.fhe.arithmetic import product_noise, relinearisation_noise, rescale_noise
from twopm_kit.fhe.columns import Column, unfold
from twopm_kit.fhe.container import MAX_COLUMNS, MAX_NAME, MAX_ROWS, ColumnHeader
from twopm_kit.fhe.flooding import DEFAULT_BUDGET, DEFAULT_PRECISION, plan_flood
from twopm_kit.fhe.frame_html import counted
from twopm_kit.fhe.frames import EncryptedFrame, as_bytes, sums_frame
from twopm_kit.fhe.seal_io import as_path, read_file, write_atomic
from twopm_kit.fhe.summaries import Shift
from twopm_kit.fhe.sums import slot_sums
from twopm_kit.fhe.tables import NUMBERS, plain_array
from twopm_kit.untrusted import load_json

__all__ = ["KINDS", "EncryptedStatistic", "Recipe", "summarise"]

KINDS: Final = ("sum", "mean", "count", "var", "std", "cov", "corr", "describe")

_MAGIC: Final = b"2PM.st\r\n"
_VERSION: Final = 1
_FRONT: Final = struct.Struct("<8sHI")
_SHOWN: Final = 8
_LEFT: Final = "text-align:left"
_MAX_RECIPE: Final = 4 << 20
_AGAIN: Final = "get the statistic again from where it was computed"
#: A count is a whole number: the nearest one is meant below this error.
_SAFE_ERROR: Final = 0.25
_PATIENCE: Final = 2.0
#: Rounding may be this many times the noise that is there already; sums fill this part of the primes.
_WORTH: Final = 16.0
_FILLED: Final = 0.9
#: Room that is left where there are levels, so that eight statistics can be pooled.
_POOLED_BITS: Final = 3.0
#: Masked sums live side by side in memory.
_MOST_BYTES: Final = 1 << 32

#: What is multiplied and summed: "x" is a column and "n" its mask, each with its number.
Factor = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How masked sums become a statistic: public, plain, and checked when it comes from others.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    columns, kinds : tuple of str
        Names and kinds of the d columns.
    masked : tuple of bool
        Which columns may have missing values.
    shift : tuple of float
        What was subtracted from each column before squaring.
    rows, ddof : int
        Rows, and how much less than them variances are divided by.
    """

    kind: str
    columns: tuple[str, ...]
    kinds: tuple[str, ...]
    masked: tuple[bool, ...]
    shift: tuple[float, ...]
    rows: int
    ddof: int

    def terms(self) -> Iterator[tuple[Factor, ...]]:
        """Give the products of columns and masks whose sums are needed, in the order of sending."""
        every = range(len(self.columns))
        if self.kind != "count":
            yield from ((("x", j),) for j in every)
        if self.kind != "sum":
            yield from ((("n", j),) for j in every if self.masked[j])
        if self.kind in ("var", "std", "describe"):
            yield from ((("x", j), ("x", j)) for j in every)
        if self.kind in ("cov", "corr"):
            yield from ((("x", i), ("x", j)) for i in every for j in every[i:])
            yield from ((("x", i), ("n", j)) for i in every for j in every if i != j and self.masked[j])
            yield from (
                (("n", i), ("n", j))
                for i in every
                for j in every[i + 1 :]
                if self.masked[i] and self.masked[j]
            )

    def to_json(self) -> bytes:
        """Canonical bytes."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "Recipe":
        """Read a recipe from anybody.

        Raises
        ------
        CiphertextError
            Names the field that is not what it has to be.
        """
        try:
            raw = load_json(text)
        except DataError:
            raise CiphertextError("the statistic's recipe is not JSON", hint=_AGAIN) from None
        if not isinstance(raw, dict) or set(raw) != set(cls.__dataclass_fields__):
            raise CiphertextError("the statistic's recipe has other fields than it must have", hint=_AGAIN)
        width = len(raw["columns"]) if isinstance(raw["columns"], list) else 0
        lists: dict[str, Any] = {
            "columns": lambda v: isinstance(v, str) and len(v) <= MAX_NAME,
            "kinds": lambda v: v in NUMBERS,
            "masked": lambda v: type(v) is bool,
            "shift": lambda v: type(v) is float and math.isfinite(v),
        }
        wrong = [
            name
            for name, good in lists.items()
            if not isinstance(raw[name], list)
            or not 0 < len(raw[name]) == width <= MAX_COLUMNS
            or not all(map(good, raw[name]))
        ]
        wrong += [] if raw["kind"] in KINDS else ["kind"]
        wrong += [n for n in ("rows", "ddof") if type(raw[n]) is not int or not 0 <= raw[n] <= MAX_ROWS]
        if wrong or len(set(raw["columns"])) != width:
            raise CiphertextError(
                f"the statistic's recipe is not what it must be in: {', '.join(wrong) or 'columns'}",
                hint=_AGAIN,
            )
        fields: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in raw.items()}
        recipe = cls(**fields)
        if recipe.to_json() != text:
            raise CiphertextError("the statistic's recipe is not in canonical form", hint=_AGAIN)
        return recipe


class EncryptedStatistic:
    """Masked sums of an encrypted frame, and the recipe that makes a pandas object of them in clear.

    Made by ``enc.mean()``, ``enc.cov()`` and their kin, or read with `load` and `from_bytes`. Open it with
    ``holder.decrypt(statistic)``. Adding two with the same recipe pools their rows: several owners of rows
    get the statistic of all of them.

    Parameters
    ----------
    recipe : Recipe
        Public.
    sums : EncryptedFrame or None
        One row in layout "sums", which is what is sent; None when the result is public without any (counts
        of columns without masks).
    """

    __slots__ = ("recipe", "sums")

    def __init__(self, recipe: Recipe, sums: EncryptedFrame | None) -> None:
        self.recipe: Final = recipe
        self.sums: Final = sums

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        return self.recipe.kind

    @property
    def n_ciphertexts(self) -> int:
        """How many sums opening it counts in the ledger."""
        return 0 if self.sums is None else self.sums.n_ciphertexts

    def finish(
        self,
        opened: pd.DataFrame | npt.ArrayLike | None,
        errors: Sequence[float] | None = None,
    ) -> pd.Series | pd.DataFrame:
        """Make the statistic of the opened sums, in clear.

        Parameters
        ----------
        opened : DataFrame or array of shape (1, k), or None
            What the opener of `sums` got; None when there are none.
        errors : sequence of float of length k, optional
            Largest error of each; without them those of flooding at the default precision.

        Returns
        -------
        pandas.Series or pandas.DataFrame
            With the index and columns that pandas gives.

        Raises
        ------
        CiphertextError
            The sums are not those of the recipe, or counts cannot be told apart from their error.
        """
        terms = [_name(term) for term in self.recipe.terms()]
        given = np.zeros(0) if opened is None else plain_array(opened)
        if given.dtype.kind not in "biuf":
            raise CiphertextError(
                f"opened sums of dtype {given.dtype} were passed; expected numbers",
                hint="pass what holder.decrypt(statistic.sums) gave",
            )
        values = given.astype(np.float64).ravel()
        errors = self._errors() if errors is None else errors
        if len(values) != len(terms) or len(errors) != len(terms):
            raise CiphertextError(
                f"{counted(len(values), 'opened sum')} came with {counted(len(errors), 'error')}; expected "
                f"{len(terms)} of each",
                hint="open statistic.sums whole",
            )
        return _Finish(
            self.recipe,
            dict(zip(terms, map(float, values), strict=True)),
            dict(zip(terms, map(float, errors), strict=True)),
        ).result()

    def _errors(self) -> list[float]:
        sums = self.sums
        if sums is None:
            return []
        return [
            plan_flood(sums.engine, h.scale, sums.value_noise(h), DEFAULT_PRECISION, DEFAULT_BUDGET).error
            for h in sums.heads
        ]

    def __add__(self, other: "EncryptedStatistic | int") -> "EncryptedStatistic":
        if type(other) is int and other == 0:
            return self  # where sum() begins
        if not isinstance(other, EncryptedStatistic) or replace(other.recipe, rows=0) != replace(
            self.recipe, rows=0
        ):
            raise CiphertextError(
                f"the {self.kind} of {counted(len(self.recipe.columns), 'column')} was added to "
                f"{_told(other)}, which is not the same statistic of the same columns",
                hint="compute both with the same columns, missing=, shift= and ddof=",
            )
        mine, theirs = self.sums, other.sums
        sums = None if mine is None or theirs is None else mine + theirs
        return EncryptedStatistic(replace(self.recipe, rows=self.recipe.rows + other.recipe.rows), sums)

    __radd__ = __add__

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
        raise CiphertextError(
            f"an array of an encrypted {self.kind} was asked for; only the key holder can read it",
            hint="open it with holder.decrypt(statistic)",
        )

    def compact(self) -> "EncryptedStatistic":
        """Relinearise products, and rescale them where that costs no digits: what a committee can open.

        Less to send for 1.4 ms a product: of 30 columns a `cov` is 171 MB as computed and 65 MB compact, with
        errors no larger than before, and opens four times faster.

        Raises
        ------
        CiphertextError
            The statistic came as bytes without ``key=``, so there are no evaluation keys.
        """
        sums = self.sums
        if sums is None or sums.size == 2:
            return self
        engine, keys = sums.engine, sums.keys()
        products = [len(term) > 1 for term in self.recipe.terms()]
        lower = _rescaled(sums, products)
        parts = []
        for head, product in zip(sums.heads, products, strict=True):
            (cipher,) = sums.ciphers(head.name)
            small = keys.relinearize(cipher) if product else _sized(sums, cipher, 2)
            if lower:
                new = lower[head.name]
                small = engine.rescale(small, new.scale) if product else engine.drop_to(small, sums.level - 1)
                head = new
            parts.append((head, small))
        return EncryptedStatistic(self.recipe, sums_frame(sums, parts, sums.level - bool(lower)))

    # Bytes -----------------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Recipe as JSON, then the sums as a ``.ct`` container; holds no key and no code."""
        recipe = self.recipe.to_json()
        sums = b"" if self.sums is None else self.sums.to_bytes()
        return _FRONT.pack(_MAGIC, _VERSION, len(recipe)) + recipe + sums

    @classmethod
    def from_bytes(cls, content: bytes, key: Any = None) -> "EncryptedStatistic":
        """Read a statistic from anybody.

        Parameters
        ----------
        content : bytes
            What `to_bytes` made.
        key : KeyHolder, Evaluator or str, optional
            Whose key it must be under.

        Raises
        ------
        CiphertextError
            Damaged, changed, of another version, or not the sums that its recipe asks for.
        WrongKey
            Under another key than ``key``.
        """
        content = as_bytes(content, "an encrypted statistic")
        front = content[: _FRONT.size]
        magic, version, size = _FRONT.unpack(front) if len(front) == _FRONT.size else (b"", 0, 0)
        if magic != _MAGIC or version != _VERSION:
            raise CiphertextError(
                f"these bytes are not an encrypted statistic of version {_VERSION}",
                hint="pass bytes that EncryptedStatistic.to_bytes() made with this version of the kit",
            )
        start = _FRONT.size + size
        if size > _MAX_RECIPE or start > len(content):
            raise CiphertextError(
                f"the statistic has {len(content)} bytes and announces a recipe of {size}", hint=_AGAIN
            )
        recipe = Recipe.from_json(content[_FRONT.size : start])
        sums = EncryptedFrame.from_bytes(content[start:], key) if content[start:] else None
        wanted = [_name(term) for term in recipe.terms()]
        found = [] if sums is None else sums.columns
        if found != wanted or (sums is not None and sums.layout.kind != "sums"):
            raise CiphertextError(
                f"a {recipe.kind} of {len(recipe.columns)} columns needs {len(wanted)} sums; "
                f"{len(found)} came, or others",
                hint=_AGAIN,
            )
        return cls(recipe, sums)

    def save(self, path: str | Path) -> Path:
        """Write the statistic to ``path``, whole or not at all; returns the path."""
        target = as_path(path)
        write_atomic(target, self.to_bytes())
        return target

    @classmethod
    def load(cls, path: str | Path, key: Any = None) -> "EncryptedStatistic":
        """Read a statistic file; see `from_bytes` for what is checked."""
        return cls.from_bytes(read_file(path, "an encrypted statistic"), key)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise CiphertextError(
            "an EncryptedStatistic cannot be pickled or copied", hint="send .to_bytes() or a path"
        )

    def __repr__(self) -> str:
        key = "" if self.sums is None else f", key {self.sums.fingerprint[:8]}…"
        return (
            f"<EncryptedStatistic {self.kind} of {counted(len(self.recipe.columns), 'column')} "
            f"over {counted(self.recipe.rows, 'row')}: {counted(self.n_ciphertexts, 'masked sum')}{key}; "
            "open with holder.decrypt>"
        )

    def _repr_html_(self) -> str:
        names = ", ".join(map(escape, self.recipe.columns[:_SHOWN]))
        more = len(self.recipe.columns) - _SHOWN
        facts = {
            "statistic": self.kind,
            "columns": names + (f" and {more} more" if more > 0 else ""),
            "rows": f"{self.recipe.rows:,}",
            "masked sums": f"{self.n_ciphertexts:,}",
            "key": "none is needed" if self.sums is None else f"{escape(self.sums.fingerprint[:8])}…",
        }
        body = "".join(
            f"<tr><th scope='row' style='{_LEFT}'>{name}</th><td style='{_LEFT}'>{fact}</td></tr>"
            for name, fact in facts.items()
        )
        return (
            f"<table><caption style='caption-side:top;color:inherit;{_LEFT}'><strong>EncryptedStatistic"
            f"</strong>: open it with <code>holder.decrypt</code></caption><tbody>{body}</tbody></table>"
        )


def _told(other: object) -> str:
    if isinstance(other, EncryptedStatistic):
        return f"a {other.kind}"
    return f"an object of type {type(other).__name__}"


# At the server ------------------------------------------------------------------------------------------


def summarise(frame: EncryptedFrame, kind: str, *, ddof: int = 1, shift: Shift = 0.0) -> EncryptedStatistic:
    """Compute the masked sums of a statistic; see `twopm_kit.fhe.summaries` for the public names.

    Sums of products are taken at the lowest level at which they fit, without rescaling and without keys.

    Raises
    ------
    CiphertextError
        Rows do not stand in slots of their own, the padding is not known to be 0, or the sums do not fit
        into the profile: says which bounds would.
    """
    ddof = _whole_number(ddof)
    _check(frame, kind)
    if kind == "corr" and frame.masked:
        raise CiphertextError(
            f"the correlation of {', '.join(frame.masked[:8])}, which may have missing values, needs "
            "products of three",
            hint="take cov(), or fill or drop the missing values before encrypting",
        )
    offsets = _offsets(frame, shift)
    recipe = Recipe(
        kind=kind,
        columns=tuple(frame.columns),
        kinds=tuple(k if k in NUMBERS else "int" for k in frame.kinds.values()),
        masked=tuple(name in frame.masked for name in frame.columns),
        shift=offsets,
        rows=frame.n_rows,
        ddof=ddof,
    )
    terms = list(recipe.terms())
    if not terms:
        return EncryptedStatistic(recipe, None)
    columns = dict(_factors(frame, offsets))
    heads = [_head(frame, term, columns) for term in terms]
    level = _level(frame, kind, heads)
    low = frame.drop_to(level)
    engine = low.engine
    lowered: dict[Factor, list[Any]] = {}

    def ciphers(factor: Factor) -> list[Any]:
        if factor not in lowered:
            lowered[factor] = [engine.drop_to(c, level) for c in frame.open(columns[factor])]
        return lowered[factor]

    size = max(len(term) for term in terms) + 1
    needed = len(terms) * size * (level + 1) * 8 * engine.profile.degree
    if needed > _MOST_BYTES:
        raise CiphertextError(
            f"{kind} of {len(recipe.columns)} columns is {len(terms):,} sums, {needed / 2**30:.1f} GB in all",
            hint="take it of fewer columns at a time: enc[[...]]",
        )

    def summed(term: tuple[Factor, ...]) -> Any:
        if len(term) == 2:
            return engine.sum_of_products(zip(ciphers(term[0]), ciphers(term[1]), strict=True))
        total, *rest = ciphers(term[0])
        for cipher in rest:
            total = engine.add(total, cipher)
        return total if size == 2 else _sized(low, total, size)

    bar = tqdm(zip(heads, terms, strict=True), kind, len(terms), delay=_PATIENCE, leave=False)
    return EncryptedStatistic(recipe, slot_sums(low, ((h, summed(t)) for h, t in bar), level=level))


def _whole_number(ddof: object) -> int:
    if isinstance(ddof, bool) or not isinstance(ddof, int | np.integer) or not 0 <= ddof <= MAX_ROWS:
        raise CiphertextError(
            f"ddof={ddof!r} was passed; expected a whole number from 0 to {MAX_ROWS:,}",
            hint="pass 1, the default, or 0 for the variance of exactly these rows",
        )
    return int(ddof)


def _check(frame: EncryptedFrame, kind: str) -> None:
    if frame.layout.kind != "columns" or frame.packing != "real":
        raise CiphertextError(
            f"{kind} of a frame in layout {frame.layout.kind!r}, packing {frame.packing!r}: rows do not have "
            "slots of their own",
            hint="encrypt in columns with packing='real', the defaults",
        )
    if frame.padding != "zeros" and frame.n_rows % frame.engine.slots:
        raise CiphertextError(
            f"{kind} of computed columns of {counted(frame.n_rows, 'row')}: what is in the slots beyond "
            "the last row is not known, and would count",
            hint="take statistics of encrypted columns and of sums and products of them, or encrypt a whole "
            f"number of blocks of {frame.engine.slots} rows",
        )


def _offsets(frame: EncryptedFrame, shift: Shift) -> tuple[float, ...]:
    named: dict[str, Any] | None = None
    if isinstance(shift, Mapping | pd.Series):
        named = {str(name): value for name, value in shift.items()}
    unknown = [name for name in named or () if name not in frame.columns]
    given: list[Any] = [shift if named is None else named.get(name, 0.0) for name in frame.columns]
    good = all(
        isinstance(v, int | float | np.integer | np.floating)
        and not isinstance(v, bool)
        and math.isfinite(float(v))
        for v in given
    )
    if unknown or not good:
        raise CiphertextError(
            f"shift= names {', '.join(unknown[:8])}, which the frame does not have"
            if unknown
            else f"shift={shift!r} was passed; expected finite numbers",
            hint=f"pass a finite number, or one by name for columns of: {', '.join(frame.columns[:20])}",
        )
    # where values are missing a slot holds 0 and has to stay so: the mask is multiplied by a whole number
    return tuple(
        float(round(float(v))) if name in frame.masked else float(v)
        for name, v in zip(frame.columns, given, strict=True)
    )


def _factors(frame: EncryptedFrame, offsets: tuple[float, ...]) -> Iterator[tuple[Factor, Column]]:
    """Columns, shifted, and their masks."""
    for j, (column, offset) in enumerate(zip(frame.stored, offsets, strict=True)):
        here, *masks = [frame.with_columns([part]) for part in unfold([column])]
        for mask in masks:
            yield ("n", j), mask.stored[0]
        if offset:
            here = here - masks[0] * int(offset) if masks else here - offset
        yield ("x", j), here.stored[0]


def _head(frame: EncryptedFrame, term: tuple[Factor, ...], columns: Mapping[Factor, Column]) -> ColumnHeader:
    """Bound, scale and noise of a sum over all rows of a column or a product."""
    blocks = -(-frame.n_rows // frame.engine.slots)
    first, *second = (columns[factor].head for factor in term)
    bound, scale, noise = first.bound, first.scale, first.noise
    if second:
        bound, scale = bound * second[0].bound, scale * second[0].scale
        # few rows spread little noise: all slots beyond them hold zeros
        filled = frame.n_rows / (frame.engine.slots * blocks)
        noise = product_noise(frame.engine, first, second[0], filled=filled)
    return ColumnHeader(_name(term), bound * frame.n_rows, scale, noise * math.sqrt(blocks))


def _level(frame: EncryptedFrame, kind: str, heads: Sequence[ColumnHeader]) -> int:
    """Lowest level at which every sum fits, and sums of some: fewer primes are fewer bytes."""
    engine = frame.engine
    widest = max(heads, key=lambda h: h.bound * h.scale)
    needed = math.log2(max(widest.bound / engine.slots, 2.0**-60)) + math.log2(widest.scale)
    pooled = needed + _POOLED_BITS
    level = next((low for low in range(frame.level) if pooled <= engine.room_bits(low)), frame.level)
    if needed > engine.room_bits(level):
        excess = 2.0 ** (needed - engine.room_bits(frame.level))
        raise CiphertextError(
            f"{kind} over {counted(frame.n_rows, 'row')}: sums need {needed:.1f} bits, level {frame.level} "
            f"of profile {frame.profile!r} has {engine.room_bits(frame.level):.1f}",
            hint=f"encrypt with bounds= {_smaller(kind, excess):.3g} times smaller (standardise columns), "
            + (f"with at most 1/{excess:.3g} of the rows, " if excess < frame.n_rows else "")
            + "or with a profile that has more levels: see kit.fhe.PROFILES",
        )
    return level


def _smaller(kind: str, excess: float) -> float:
    """Factor by which bounds are too large: sums grow with them, sums of products with their square."""
    return excess if kind in ("sum", "mean", "count") else math.sqrt(excess)


def _rescaled(sums: EncryptedFrame, products: Sequence[bool]) -> dict[str, ColumnHeader]:
    """Heads of sums one level down; none where they do not fit, or where rounding would cost digits."""
    engine, level = sums.engine, sums.level
    if level < 1:
        return {}
    prime, rounding = float(engine.primes[level]), rescale_noise(engine)
    heads = {}
    for head, product in zip(sums.heads, products, strict=True):
        if product:
            noise = math.hypot(head.noise, relinearisation_noise(engine)) / prime
            if noise < rounding / _WORTH:
                return {}
            head = replace(head, scale=head.scale / prime, noise=math.hypot(noise, rounding))
        if head.bound * head.scale / engine.slots > _FILLED * 2.0 ** engine.room_bits(level - 1):
            return {}
        heads[head.name] = head
    return heads


def _sized(frame: EncryptedFrame, cipher: Any, size: int) -> Any:
    """Copy of a ciphertext with polynomials of zeros added, or taken away again."""
    copy = frame.engine.times_integer(cipher, 1)
    copy.resize(frame.engine.context, copy.parms_id(), size)
    return copy


def _name(term: tuple[Factor, ...]) -> str:
    return "·".join(f"{what}{j}" for what, j in term)


# At the key holder --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Finish:
    """Opened sums, and what pandas would make of the rows behind them."""

    recipe: Recipe
    values: dict[str, float]
    errors: dict[str, float]

    def result(self) -> pd.Series | pd.DataFrame:
        recipe, index = self.recipe, pd.Index(self.recipe.columns)
        every = range(len(recipe.columns))
        kind = recipe.kind
        if kind == "count":
            return pd.Series([self._count(j) for j in every], index=index, dtype=np.int64)
        if kind == "sum":
            return self._sums(index)
        if kind == "mean":
            return pd.Series([self._mean(j) for j in every], index=index)
        if kind in ("cov", "corr"):
            return pd.DataFrame(self._matrix(), index=index, columns=index)
        variances = pd.Series([self._moment(j, j)[0] for j in every], index=index)
        if kind == "var":
            return variances
        if kind == "std":
            return variances**0.5
        rows = [[self._count(j) for j in every], [self._mean(j) for j in every], variances**0.5]
        return pd.DataFrame(rows, index=["count", "mean", "std"], columns=index, dtype=np.float64)

    def _sums(self, index: pd.Index) -> pd.Series:
        names = [f"x{j}" for j in range(len(index))]
        sums = pd.Series([self.values[name] for name in names], index=index)
        whole = "float" not in self.recipe.kinds and all(self.errors[n] < _SAFE_ERROR for n in names)
        return sums.round().astype(np.int64) if whole else sums

    def _count(self, i: int, j: int | None = None) -> int:
        """Rows in which a column, or both of two, have a value."""
        names = sorted({k for k in (i, j) if k is not None and self.recipe.masked[k]})
        if not names:
            return self.recipe.rows
        name = _name(tuple(("n", k) for k in names))
        if self.errors[name] >= _SAFE_ERROR:
            raise CiphertextError(
                f"the count of {self.recipe.columns[i]!r} is only known to {self.errors[name]:.2g}",
                hint="open it with a finer precision=, or encrypt with smaller bounds=",
            )
        return round(self.values[name])

    def _mean(self, j: int) -> float:
        count = self._count(j)
        return self.values[f"x{j}"] / count + self.recipe.shift[j] if count > 0 else math.nan

    def _sum(self, i: int, j: int) -> tuple[float, float]:
        """Sum of column i over the rows where column j has a value too, and its error."""
        name = f"x{i}·n{j}" if i != j and self.recipe.masked[j] else f"x{i}"
        return self.values[name], self.errors[name]

    def _moment(self, i: int, j: int) -> tuple[float, float]:
        """Covariance of two columns, and its error."""
        count = self._count(i, j)
        if count - self.recipe.ddof <= 0:
            return math.nan, math.inf
        (one, doubt), (two, other) = self._sum(i, j), self._sum(j, i)
        name = f"x{i}·x{j}"
        value = (self.values[name] - one * two / count) / (count - self.recipe.ddof)
        error = self.errors[name] + (abs(one) * other + abs(two) * doubt) / count
        return max(value, 0.0) if i == j else value, error / (count - self.recipe.ddof)

    def _matrix(self) -> npt.NDArray[np.float64]:
        width = len(self.recipe.columns)
        full, doubt = np.empty((width, width)), np.empty(width)
        for i in range(width):
            for j in range(i, width):
                full[i, j], error = self._moment(i, j)
                full[j, i] = full[i, j]
                if i == j:
                    doubt[i] = error
        if self.recipe.kind == "cov":
            return full
        # a variance that is no larger than its error is that of a constant, for all that can be told
        spread = np.sqrt(np.where(np.diag(full) > doubt, np.diag(full), np.nan))
        return np.asarray(np.clip(full / np.outer(spread, spread), -1.0, 1.0))
