"""Shows rows as a quiet html table that fits light and dark themes, with aligned text as fallback."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from twopm_kit.display.formats import Format, formatter, markup, plain, printable, width
from twopm_kit.errors import DataError

__all__ = ["RULE", "STRONG_RULE", "Table", "grid", "table"]

# Half-transparent grey reads on white and on black; the text colour is always the theme's own.
RULE = "1px solid rgba(128,128,128,.28)"
STRONG_RULE = "1.5px solid rgba(128,128,128,.65)"

# A number that came as text, perhaps with a unit: "2.61 M" or "< 1 µs", but not "12 of 20".
_QUANTITY = re.compile(r"[<~±-]? ?\d[\d.,]*(e[+-]?\d+)?( [^\s\d]{1,4})?")

Rows = pd.DataFrame | pd.Series | Mapping[Any, Any] | Sequence[Mapping[str, Any]]


class Table:
    """Rows that are ready to be shown: ``_repr_html_`` in a notebook, ``repr`` everywhere else.

    Attributes
    ----------
    frame : pandas.DataFrame
        The values as they were passed.
    """

    def __init__(
        self, frame: pd.DataFrame, caption: str, formats: Mapping[str, Format], index: bool, max_rows: int
    ) -> None:
        self.frame = frame
        self.caption = caption
        shown = frame.head(max_rows)
        self._hidden = len(frame) - len(shown)
        columns: list[tuple[str, Sequence[Any], Format]] = []
        if index:
            labels = [" · ".join(map(plain, v)) if isinstance(v, tuple) else v for v in shown.index]
            names = [str(name) for name in shown.index.names if name is not None]
            columns.append((" · ".join(names), labels, "plain"))
        for position, name in enumerate(shown.columns):
            values = [shown.iat[row, position] for row in range(len(shown))]
            columns.append((str(name), values, formats.get(name, "plain")))
        self._heads = [printable(head) for head, _, _ in columns]
        self._numeric = [bool(values) and all(map(_is_number, values)) for _, values, _ in columns]
        texts = [list(map(formatter(form), values)) for _, values, form in columns]
        self._rows = [list(row) for row in zip(*texts, strict=True)]
        whole = [
            [
                _is_number(value) or bool(_QUANTITY.fullmatch(text))
                for value, text in zip(values, shown, strict=True)
            ]
            for (_, values, _), shown in zip(columns, texts, strict=True)
        ]
        self._whole = [list(row) for row in zip(*whole, strict=True)]
        self._row_heads = index

    def _more(self) -> str:
        """Return the line that says how many rows are not shown."""
        return f"… {self._hidden:,} more rows" if self._hidden else ""

    def __repr__(self) -> str:
        parts = [printable(self.caption), *grid(self._heads, self._rows, self._numeric), self._more()]
        return "\n".join(part for part in parts if part)

    def _repr_html_(self) -> str:
        """Return the table as html: escaped, inline style only, no script."""
        cell = "padding:4px 14px 4px 0;vertical-align:top;"
        sides = ["right" if numeric else "left" for numeric in self._numeric]

        def td(tag: str, text: str, side: str, extra: str, rule: str) -> str:
            style = f"{cell}text-align:{side};border-bottom:{rule};{extra}"
            return f'<{tag} style="{style}">{markup(text)}</{tag.split()[0]}>'

        head = "".join(
            td('th scope="col"', text, side, "white-space:normal;font-weight:600", STRONG_RULE)
            for text, side in zip(self._heads, sides, strict=True)
        )
        body = []
        for row, whole in zip(self._rows, self._whole, strict=True):
            wraps = ["white-space:nowrap" if number else "white-space:normal" for number in whole]
            cells = [
                td('th scope="row"', text, side, f"{wrap};font-weight:600", RULE)
                if self._row_heads and position == 0
                else td("td", text, side, wrap, RULE)
                for position, (text, side, wrap) in enumerate(zip(row, sides, wraps, strict=True))
            ]
            body.append(f'<tr style="background:transparent">{"".join(cells)}</tr>')
        if self._hidden:
            span = f'<td colspan="{len(self._heads)}" style="{cell}text-align:left;opacity:.7">'
            body.append(f'<tr style="background:transparent">{span}{markup(self._more())}</td></tr>')
        caption = ""
        if self.caption:
            style = "caption-side:top;text-align:left;color:inherit;font-weight:600;white-space:nowrap"
            caption = f'<caption style="{style}">{markup(self.caption)}</caption>'
        style = (
            "border-collapse:collapse;border:0;margin:6px 0;font-size:13px;line-height:1.45;"
            "font-variant-numeric:tabular-nums;color:inherit;background:transparent"
        )
        return (
            f'<div style="overflow-x:auto"><table style="{style}">{caption}'
            f'<thead><tr style="background:transparent">{head}</tr></thead>'
            f"<tbody>{''.join(body)}</tbody></table></div>"
        )


def _is_number(value: Any) -> bool:
    """Tell whether a value belongs in a right-aligned column: a number, or missing."""
    if isinstance(value, bool | np.bool_):
        return False
    return value is None or value is pd.NA or isinstance(value, int | float | np.number)


def grid(heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> list[str]:
    """Return aligned lines of text for a terminal: heads, a rule, rows."""
    widths = [max(map(width, column)) for column in zip(heads, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = []
        for text, room, to_the_right in zip(cells, widths, right, strict=True):
            gap = " " * (room - width(text))
            padded.append(gap + text if to_the_right else text + gap)
        return "  ".join(padded).rstrip()

    return [line(heads), "  ".join("─" * room for room in widths), *map(line, rows)]


def table(
    rows: Rows,
    *,
    caption: str = "",
    formats: Mapping[str, Format] | None = None,
    index: bool | None = None,
    max_rows: int = 40,
) -> Table:
    """Return rows as a table to show.

    Parameters
    ----------
    rows : DataFrame, Series, mapping, or sequence of mappings
        A frame; a series or one mapping (shown as name and value); or one mapping for each row.
    caption : str
        One line above the table.
    formats : mapping of column name to format, optional
        ``"bytes"``, ``"seconds"``, ``"gas"``, ``"percent"``, a format specification such as ``".3f"``, or a
        function from value to text. Other columns are shown as suits their values.
    index : bool, optional
        Whether the frame's index is shown; by default when it is more than a running number.
    max_rows : int
        More rows than these are counted, not shown.

    Raises
    ------
    DataError
        When ``rows`` is none of these, a format names no column, or a value does not suit its format.
    """
    if isinstance(rows, pd.Series):
        frame = rows.to_frame(name="value" if rows.name is None else rows.name)
    elif isinstance(rows, pd.DataFrame):
        frame = rows
    elif isinstance(rows, Mapping):
        values = pd.Series(list(rows.values()), dtype=object)
        frame = pd.DataFrame({"name": [str(name) for name in rows], "value": values})
    elif isinstance(rows, Sequence) and all(isinstance(row, Mapping) for row in rows):
        # Kept as objects: a missing whole number must not turn its column into floats.
        heads = list(dict.fromkeys(name for row in rows for name in row))
        frame = pd.DataFrame([[row.get(h) for h in heads] for row in rows], columns=heads, dtype=object)
    else:
        raise DataError(
            f"a table cannot be made from {type(rows).__name__}",
            hint="pass a DataFrame, a mapping, or a list of mappings",
        )
    chosen = dict(formats or {})
    unknown = [name for name in chosen if name not in list(frame.columns)]
    if unknown:
        raise DataError(
            f"formats names {unknown}; the columns are {[str(name) for name in frame.columns]}",
            hint="name columns that the table has",
        )
    if index is None:
        index = not (isinstance(frame.index, pd.RangeIndex) and frame.index.name is None)
    return Table(frame, caption, chosen, index, max(1, int(max_rows)))
