"""``Standard``: how every node brings its columns to one scale, bit for bit the same."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pandas as pd
from eth_hash.auto import keccak

from twopm_kit.errors import SchemaError
from twopm_kit.vsies.canonical import dumps, loads
from twopm_kit.vsies.field import Field, meant
from twopm_kit.vsies.report import html_table
from twopm_kit.vsies.scales import Floats, log1p, scaled, unscaled
from twopm_kit.vsies.schema import Schema
from twopm_kit.vsies.statistics import Statistics, measured

__all__ = ["Standard", "Statistics", "measured"]

_FORMAT: Final = "2PM standard 1"
_LABEL: Final = b"twopm/vsies/v1/standard"
_KEYS: Final = frozenset({"format", "schema", "statistics"})
_STATISTICS_KEYS: Final = frozenset(entry.name for entry in fields(Statistics))
#: Longest canonical text: a schema, and figures and categories of 256 columns.
_MAX_TEXT: Final = 4 << 20
#: A column whose values differ by less than this part of their size is constant up to rounding.
_CONSTANT: Final = 1e-12
_HEADS: Final = ("column", "standard", "centre", "scale", "values", "note")


@dataclass(frozen=True, slots=True)
class _Scale:
    """What is taken from a value, and what it is divided by."""

    centre: float
    scale: float
    note: str = ""


class Standard:
    """Fitted transforms of all columns of a schema. Public: it holds figures over all nodes, and no row.

    ==========  ============================================================================================
    "none"      the value
    "zscore"    (x - mean) / std
    "minmax"    (x - low) / (high - low), with low and high of the schema: it needs no statistics
    "robust"    (x - median) / (75 % quantile - 25 % quantile)
    "log"       log(1 + x), then zscore with mean and std of the logarithms
    ==========  ============================================================================================

    Every node gets the same bits: the transforms are IEEE 754 operations in a fixed order, the logarithm too
    (see :mod:`twopm_kit.vsies.scales`), on figures that are exchanged exactly. A column without spread is
    only centred (its scale is 1) and is mentioned in `notes`.

    Made by `fit`, `of` or `declared`.

    Parameters
    ----------
    schema : Schema
        Whose columns are transformed.
    statistics : mapping of str to Statistics
        By column; those that a transform needs must be there.
    """

    def __init__(self, schema: Schema, statistics: Mapping[str, Statistics]) -> None:
        if not isinstance(schema, Schema):
            raise _no_schema(schema)
        fit = isinstance(statistics, Mapping) and all(isinstance(s, Statistics) for s in statistics.values())
        strange = [name for name in statistics if name not in schema] if fit else []
        if not fit or strange:
            said = f": it names {str(strange[0])[:80]!r}" if strange else ""
            raise SchemaError(
                f"statistics is not a mapping from columns of the schema to Statistics{said}",
                hint=f"{meant(strange[0], schema.names) if strange else ''}pass one Statistics for each of: "
                f"{', '.join(schema.names[:20])}",
            )
        self._schema = schema
        self._statistics = MappingProxyType({n: statistics[n] for n in schema.names if n in statistics})
        self._scales = {
            field.name: _scale(field, self._statistics.get(field.name)) for field in schema if field.is_number
        }
        self._categories = {
            field.name: _categories(field, self._statistics.get(field.name))
            for field in schema
            if field.kind == "category"
        }
        figures = {name: _body(one) for name, one in self._statistics.items()}
        # The schema's own text is canonical, so it is the same inside another
        body = {"format": _FORMAT, "schema": schema.body, "statistics": figures}
        self._json = dumps(body, "standard", _MAX_TEXT)

    @classmethod
    def fit(cls, schema: Schema, frame: pd.DataFrame) -> "Standard":
        """Fit on one table in clear, for learning and tests.

        Parameters
        ----------
        schema : Schema
            What the frame must keep.
        frame : pandas.DataFrame
            The table, validated or not.

        Raises
        ------
        SchemaError
            The frame does not fit the schema, or a column has no value at all.
        """
        if not isinstance(schema, Schema):
            raise _no_schema(schema)
        valid = schema.validate(frame)
        return cls(schema, {field.name: Statistics.measure(field, valid[field.name]) for field in schema})

    @classmethod
    def of(cls, schema: Schema, statistics: Mapping[str, Statistics]) -> "Standard":
        """Make transforms from figures over all nodes, as federated fitting gives them.

        Parameters
        ----------
        schema : Schema
            Whose columns are transformed.
        statistics : mapping of str to Statistics
            By column. "zscore" and "log" need mean and std, "robust" the quantiles 0.25, 0.5 and 0.75, and a
            category that the schema leaves open its categories. Others are optional: drift is measured
            against them.

        Raises
        ------
        SchemaError
            Figures are missing, or are of no column of the schema.
        """
        return cls(schema, statistics)

    @classmethod
    def declared(cls, schema: Schema) -> "Standard":
        """Make transforms that the schema alone declares: "none", and "minmax" from low and high.

        Raises
        ------
        SchemaError
            A column needs figures over all nodes; the message names it.
        """
        return cls(schema, {})

    @property
    def schema(self) -> Schema:
        """Whose columns are transformed."""
        return self._schema

    @property
    def schema_hash(self) -> bytes:
        """Hash of the schema, 32 bytes."""
        return self._schema.hash

    @property
    def statistics(self) -> Mapping[str, Statistics]:
        """Figures by column; cannot be changed."""
        return self._statistics

    @property
    def categories(self) -> dict[str, tuple[str, ...]]:
        """Categories of each category column: the schema's, or the union over all nodes."""
        return dict(self._categories)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know, such as columns without spread."""
        return tuple(f"{name}: {scale.note}" for name, scale in self._scales.items() if scale.note)

    @property
    def bounds(self) -> dict[str, float]:
        """Public upper limit of the absolute value of each column after `apply`, from low and high.

        What ``bounds=`` of an encrypted frame takes. Columns of numbers without low or high are missing, and
        so are categories; a bool has 1.
        """
        found = {}
        for field in self._schema:
            if field.kind == "bool":
                found[field.name] = 1.0
            elif field.low is not None and field.high is not None:
                ends = np.abs(self._forward(field, np.array([field.low, field.high])))
                if np.isfinite(ends).all():
                    # The transforms rise, and rounding keeps their order, the logarithm's up to its last two
                    # places. A column of zeros has a limit too.
                    slack = 1.0 + 1e-15 if field.standard == "log" else 1.0
                    found[field.name] = float(ends.max()) * slack or 1.0
        return found

    @property
    def hash(self) -> bytes:
        """keccak256 of a label and the canonical JSON, 32 bytes."""
        return bytes(keccak(_LABEL + self._json.encode()))

    def apply(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Transform a validated frame.

        Parameters
        ----------
        frame : pandas.DataFrame
            As `Schema.validate` returned it, whole or any rows of it. It is checked again, because
            limits that others rely on follow from the schema.

        Returns
        -------
        pandas.DataFrame
            The same rows and columns: float64 for numbers (NaN where missing), bool or boolean, and
            Categorical of all categories.

        Raises
        ------
        SchemaError
            The frame was not validated, or for another schema; or it has a category that nobody declared.
        """
        self._demand(frame)
        return pd.DataFrame(
            {field.name: self._applied(field, frame[field.name]) for field in self._schema},
            index=frame.index,
        )

    def undo(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Bring transformed columns back, up to rounding; whole numbers come back exactly.

        Nothing is built on the last bit of what comes back: "log" is undone by numpy's ``expm1``.

        Parameters
        ----------
        frame : pandas.DataFrame
            Columns that `apply` returned, all or some of them, in any order.

        Raises
        ------
        SchemaError
            Not a frame, or a column that the schema does not have or that is not of its kind.
        """
        if not isinstance(frame, pd.DataFrame) or not frame.columns.is_unique:
            raise SchemaError(
                f"a {type(frame).__name__} was passed; expected a DataFrame of different columns",
                hint="pass columns that apply() returned",
            )
        back = {name: self._undone(self._schema[name], frame[name]) for name in frame.columns}
        return pd.DataFrame(back, index=frame.index)

    def to_json(self) -> str:
        """Return the canonical text, which holds the schema and all figures."""
        return self._json

    @classmethod
    def from_json(cls, text: str | bytes) -> "Standard":
        """Read a standard from anybody.

        Raises
        ------
        SchemaError
            Too long, not the canonical text of a standard, or figures that cannot be.
        """
        body = loads(text, "standard", _FORMAT, _KEYS, _MAX_TEXT)
        figures = body["statistics"]
        keys = isinstance(figures, dict) and all(
            isinstance(one, dict) and set(one) == _STATISTICS_KEYS and isinstance(one["quantiles"], dict)
            for one in figures.values()
        )
        if not keys or not isinstance(body["schema"], dict):
            raise _foreign("its schema or its statistics are not of the right form")
        schema = Schema.from_json(dumps(body["schema"], "schema"))
        standard = cls(schema, {name: _read(one) for name, one in figures.items()})
        if standard.to_json() != (text if isinstance(text, str) else text.decode("ascii")):
            raise _foreign("its text is not canonical, so its hash would not name it")
        return standard

    def _demand(self, frame: pd.DataFrame) -> None:
        """Refuse what `Schema.validate` did not return."""
        hint = "pass schema.validate(frame), with the schema of this standard"
        if not isinstance(frame, pd.DataFrame):
            raise SchemaError(f"a {type(frame).__name__} was passed; expected a DataFrame", hint=hint)
        if [*frame.columns] != self._schema.names:
            raise SchemaError(
                f"the frame has {len(frame.columns)} columns; expected the {len(self._schema)} of schema "
                f"{self._schema.name!r}, in its order",
                hint=hint,
            )
        for field in self._schema:
            dtype = frame[field.name].dtype
            if not _is_validated(field, dtype):
                raise SchemaError(
                    f"column {field.name!r} has dtype {dtype}, which is not what validation gives for the "
                    f"kind {field.kind!r}",
                    hint=hint,
                )
        self._schema.validate(frame)

    def _applied(self, field: Field, column: "pd.Series[Any]") -> Any:
        if field.kind == "bool":
            return column
        if field.kind == "category":
            known = self._categories[field.name]
            unknown = set(column.dropna().unique()) - set(known)
            if unknown:
                raise SchemaError(
                    f"column {field.name!r} has {len(unknown)} categories that are not among the "
                    f"{len(known)} of the standard",
                    hint="fit again over all nodes, or leave these rows out",
                )
            return pd.Categorical(column, categories=pd.Index(known, dtype="str"))
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        moved = self._forward(field, values)
        if not np.isfinite(moved[~np.isnan(values)]).all():
            raise SchemaError(
                f"column {field.name!r} has values that leave the range of float64 when they are scaled",
                hint='set low and high of the field, or its standard to "none"',
            )
        return moved

    def _forward(self, field: Field, values: Floats) -> Floats:
        if field.standard == "none":
            return values
        one = self._scales[field.name]
        with np.errstate(over="ignore"):
            return scaled(log1p(values) if field.standard == "log" else values, one.centre, one.scale)

    def _undone(self, field: Field, column: "pd.Series[Any]") -> Any:
        if not field.is_number:
            return column
        if not pd.api.types.is_float_dtype(column.dtype):
            raise SchemaError(
                f"column {field.name!r} has dtype {column.dtype}; expected the floats that apply() returned",
                hint="pass columns that apply() returned",
            )
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        if field.standard != "none":
            one = self._scales[field.name]
            values = unscaled(values, one.centre, one.scale)
            values = np.expm1(values) if field.standard == "log" else values
        if field.kind == "float":
            return values
        whole = pd.Series(np.rint(values), index=column.index)
        return whole.astype("Int64" if field.nullable else "int64")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Standard) and other._json == self._json

    def __hash__(self) -> int:
        return hash(self._json)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Standard, (self._schema, dict(self._statistics)))

    def __repr__(self) -> str:
        kinds = [field.standard for field in self._schema if field.standard != "none"]
        many = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)) or "nothing to do"
        return f"<Standard of schema {self._schema.name!r}: {many}, hash 0x{self.hash.hex()[:12]}…>"

    def _repr_html_(self) -> str:
        lines = []
        for field in self._schema:
            one = self._scales.get(field.name)
            moved = one is not None and field.standard != "none"
            figures = self._statistics.get(field.name)
            lines.append(
                (
                    field.name,
                    field.standard,
                    f"{one.centre:.6g}" if one and moved else "",
                    f"{one.scale:.6g}" if one and moved else "",
                    f"{figures.count:,}" if figures else "",
                    one.note if one else "",
                )
            )
        title = f"Standard of schema {self._schema.name}, hash 0x{self.hash.hex()[:12]}…"
        return html_table(title, _HEADS, lines)


def _scale(field: Field, figures: Statistics | None) -> _Scale:
    """Return centre and scale of a column of numbers."""
    if field.standard == "none":
        return _Scale(0.0, 1.0)
    if field.standard == "minmax":
        low, high = field.low or 0.0, field.high or 0.0  # a field with "minmax" has both
        return _spread(field, low, high - low)
    if figures is None:
        raise SchemaError(
            f'column {field.name!r} has standard "{field.standard}", which needs figures over all nodes',
            hint="fit it (federated, or Standard.fit on one table), or use minmax with low and high",
        )
    if field.standard == "robust":
        quartiles = [figures.quantiles.get(q) for q in (0.25, 0.5, 0.75)]
        low, middle, high = (np.nan if q is None else q for q in quartiles)
        if None in quartiles:
            raise SchemaError(
                f'column {field.name!r} has standard "robust"; its statistics lack a quartile',
                hint="pass quantiles for 0.25, 0.5 and 0.75",
            )
        return _spread(field, middle, high - low)
    return _spread(field, figures.mean, figures.std)


def _spread(field: Field, centre: float, scale: float) -> _Scale:
    if not np.isfinite(scale):
        raise SchemaError(
            f"column {field.name!r} reaches too far for float64", hint="set low and high of the field"
        )
    if scale <= _CONSTANT * abs(centre):
        return _Scale(centre, 1.0, f"no spread around {centre:.6g}: the scale is 1")
    return _Scale(centre, scale)


def _categories(field: Field, figures: Statistics | None) -> tuple[str, ...]:
    """Return the categories of a column: the schema's, or the union over all nodes."""
    found = figures.categories if figures else ()
    if field.categories:
        if found and found != field.categories:
            raise SchemaError(
                f"column {field.name!r}: the statistics have other categories than the schema",
                hint="pass the schema's categories, in its order",
            )
        return field.categories
    if not found:
        raise SchemaError(
            f"column {field.name!r} has an open set of categories, which only all nodes together know",
            hint="list categories in the schema, or fit over all nodes",
        )
    return found


def _is_validated(field: Field, dtype: Any) -> bool:
    """Tell whether this is the dtype that `Schema.validate` gives."""
    if field.kind == "category":
        known = isinstance(dtype, pd.CategoricalDtype) and not dtype.ordered
        return known and (not field.categories or tuple(dtype.categories) == field.categories)
    masked = {"int": "Int64", "bool": "boolean"}
    plain = {"float": "float64", "int": "int64", "bool": "bool"}
    return str(dtype) == (masked if field.nullable and field.kind in masked else plain)[field.kind]


def _body(figures: Statistics) -> dict[str, Any]:
    body = asdict(figures)
    body["quantiles"] = {repr(key): value for key, value in figures.quantiles.items()}
    return body


def _read(body: dict[str, Any]) -> Statistics:
    try:
        quantiles = {float(key): value for key, value in body["quantiles"].items()}
    except ValueError:
        raise _foreign("a quantile is not named by a number") from None
    return Statistics(**{**body, "quantiles": quantiles})


def _no_schema(what: object) -> SchemaError:
    return SchemaError(
        f"a {type(what).__name__} was passed; expected a Schema", hint="pass the dataset's schema first"
    )


def _foreign(why: str) -> SchemaError:
    return SchemaError(f"this is not a standard: {why}", hint="pass what the standard's to_json() returned")
