"""Turns a schema into pandera checks, and what pandera finds into lines for a person."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from twopm_kit.vsies.cells import Cells, Mask, read
from twopm_kit.vsies.field import Field, nearest
from twopm_kit.vsies.report import MAX_LINES, ValidationReport
from twopm_kit.vsies.rules import Rule

if TYPE_CHECKING:
    import pandera.pandas as pa

__all__ = ["MISSING", "STRANGE", "pandera_schema", "renaming", "run"]

#: Rules about whole columns.
MISSING: Final = "column is missing"
STRANGE: Final = "column is not in the schema"

_KIND: Final = {"float": "a number", "int": "a whole number", "bool": "true or false", "category": "text"}
_HELD: Final = {
    "float": "a number that float64 holds exactly (whole ones up to 2^53)",
    "int": "a whole number of 64 bits (up to 2^53 if it comes as a float)",
}
#: Cells that pandera quotes in its own message; ours come from the full mask.
_QUOTED: Final = 5


def _tests(field: Field) -> Iterator[tuple[str, Callable[[Cells], Mask]]]:
    """Yield each rule of a field in words, and what tells the cells that keep it."""
    yield _KIND[field.kind], lambda cells: ~cells.wrong
    if not field.nullable:
        yield "not missing", lambda cells: ~cells.missing
    if field.kind in _HELD:
        yield _HELD[field.kind], lambda cells: ~cells.inexact
    if field.kind == "float":
        yield "a finite number", lambda cells: cells.finite
    if field.low is not None or field.high is not None:
        yield field.allowed, lambda cells: cells.in_range
    if field.kind == "category":
        yield field.allowed, lambda cells: cells.known


def pandera_schema(
    name: str, fields: Sequence[Field], rules: Sequence[Rule], known: Mapping[str, Cells] | None = None
) -> "pa.DataFrameSchema":
    """Return the schema that pandera checks: all columns at once, whole columns at a time.

    Parameters
    ----------
    name, fields, rules
        Of the schema.
    known : mapping of str to Cells, optional
        Columns that were read already; without it each check reads the column that it is given.
    """
    import pandera.pandas as pa

    by_name = {field.name: field for field in fields}

    def column_check(field: Field, words: str, test: Callable[[Cells], Mask]) -> pa.Check:
        def keeps(column: "pd.Series[Any]") -> "pd.Series[Any]":
            cells = read(field, column) if known is None else known[field.name]
            return pd.Series(test(cells), index=column.index)

        return pa.Check(keeps, name=words, error=words, ignore_na=False, n_failure_cases=_QUOTED)

    def row_check(rule: Rule) -> pa.Check:
        def keeps(frame: pd.DataFrame) -> "pd.Series[Any]":
            if not set(rule.names) <= set(frame.columns):
                return pd.Series(True, index=frame.index)
            cells = known or {one: read(by_name[one], frame[one]) for one in rule.names}
            return pd.Series(rule.holds(cells), index=frame.index)

        return pa.Check(keeps, name=rule.text, error=rule.text, ignore_na=False, n_failure_cases=_QUOTED)

    columns = {
        field.name: pa.Column(
            checks=[column_check(field, *test) for test in _tests(field)], nullable=True, name=field.name
        )
        for field in fields
    }
    return pa.DataFrameSchema(
        columns,
        checks=[row_check(rule) for rule in rules],
        strict=True,
        unique_column_names=True,
        name=name,
    )


def run(
    name: str, fields: Sequence[Field], rules: Sequence[Rule], frame: pd.DataFrame, first_row: int
) -> tuple[ValidationReport, dict[str, Cells]]:
    """Check a frame, and return what was found and the columns as they were read."""
    repeated = frame.columns[frame.columns.duplicated()].unique()
    found: list[tuple[str, str, Any]] = [
        (_label(label), "column appears once", "more than once") for label in repeated
    ]
    if frame.columns.nlevels > 1:
        found.append(("", "one row of column names", f"{frame.columns.nlevels} rows of them"))
    elif len(frame) == 0:
        found.append(("", "at least one row", "no rows"))
    else:
        # Rows are known by their place: labels of an index may be repeated, or be anything.
        once = frame.loc[:, ~frame.columns.duplicated()].set_axis(pd.RangeIndex(len(frame)), axis=0)
        cells = {field.name: read(field, once[field.name]) for field in fields if field.name in once.columns}
        found += _breaches(pandera_schema(name, fields, rules, cells), once)
        order = {field.name: place for place, field in enumerate(fields)}
        found.sort(
            key=lambda breach: order.get(breach[0], -1 if breach[1].startswith("column") else len(order))
        )
        named = {rule.text: rule.names for rule in rules}
        return _report(name, once, found, named, first_row), cells
    return _report(name, frame, found, {}, first_row), {}


def renaming(report: ValidationReport) -> str:
    """Return what to do about columns that are missing, or not known; "" when there are none."""
    missing, strange = (
        list(report.counts.loc[report.counts["rule"] == rule, "column"]) for rule in (MISSING, STRANGE)
    )
    if not missing and not strange:
        return ""
    if pairs := {one: near for one in strange[:20] if (near := nearest(one, missing))}:
        return f"if it is only the name, rename it: frame.rename(columns={pairs})"
    if missing:
        return f"add the missing columns: {', '.join(missing[:8])}"
    return f"leave out what the schema does not know: frame[schema.names], without {', '.join(strange[:8])}"


def _breaches(schema: "pa.DataFrameSchema", frame: pd.DataFrame) -> list[tuple[str, str, Any]]:
    """Return (column, rule, rows or words) for each rule that pandera found broken."""
    from pandera.config import ValidationDepth, config_context
    from pandera.errors import SchemaErrorReason, SchemaErrors

    try:
        # An environment variable can turn pandera's checks off: not these
        with config_context(validation_enabled=True, validation_depth=ValidationDepth.SCHEMA_AND_DATA):
            schema.validate(frame, lazy=True)
    except SchemaErrors as caught:
        found: list[tuple[str, str, Any]] = []
        for error in caught.schema_errors:
            if error.reason_code is SchemaErrorReason.COLUMN_NOT_IN_SCHEMA:
                found.append((_label(error.failure_cases), STRANGE, "column"))
            elif error.reason_code is SchemaErrorReason.COLUMN_NOT_IN_DATAFRAME:
                found.append((_label(error.failure_cases), MISSING, "no column"))
            else:
                column = error.column_name or ""
                rows = np.flatnonzero(~error.check_output.to_numpy(dtype=bool))
                found.append((column, error.check.name, rows))
        return found
    return []


def _report(
    name: str,
    frame: pd.DataFrame,
    found: Sequence[tuple[str, str, Any]],
    named: Mapping[str, tuple[str, ...]],
    first_row: int,
) -> ValidationReport:
    # Each broken rule gets its share of the lines, so that one bad column does not hide the others.
    share = max(1, MAX_LINES // max(1, len(found)))
    lines: list[tuple[str, str, str, Any]] = []
    counts: list[tuple[str, str, int]] = []
    for column, rule, what in found:
        names = (column,) if column else named.get(rule, ())
        shown = column or ", ".join(names)
        if isinstance(what, str):
            lines.append((shown, rule, what, pd.NA))
            counts.append((shown, rule, 1))
            continue
        counts.append((shown, rule, len(what)))
        listed = what[:share]
        columns = [frame[one].iloc[listed] for one in names]
        for place, row in enumerate(listed):
            values = [_value(one.iloc[place]) for one in columns]
            text = (
                values[0]
                if column
                else ", ".join(f"{one} = {value}" for one, value in zip(names, values, strict=True))
            )
            lines.append((shown, rule, text, first_row + int(row)))
    failures = pd.DataFrame(lines[:MAX_LINES], columns=["column", "rule", "found", "row"])
    failures["row"] = failures["row"].astype("Int64")
    summary = pd.DataFrame(counts, columns=["column", "rule", "breaches"])
    return ValidationReport(name, len(frame), failures, summary.astype({"breaches": "int64"}))


def _label(label: Any) -> str:
    return label[:80] if isinstance(label, str) else _value(label)


def _value(cell: Any) -> str:
    """Write one cell, shortened; a text in quotes, so that "12" is not taken for 12."""
    if isinstance(cell, str):
        return repr(cell[:60] + "…" if len(cell) > 60 else cell)
    if cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, float) and cell != cell):
        return "missing"
    if isinstance(cell, np.generic):
        cell = cell.item()
    if isinstance(cell, bool | int | float | complex):
        return repr(cell)[:60]
    return f"a {type(cell).__name__}"
