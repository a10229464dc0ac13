"""The table that a fitted model shows: its coefficients as data, with what describes the fit around them."""

from collections.abc import Sequence
from html import escape
from typing import Any, ClassVar

import pandas as pd

__all__ = ["Summary"]

_DIGITS = {"coef": 4}
_RULE = "─"


class Summary(pd.DataFrame):
    """Coefficients of a fit as a frame, shown with its heading and its notes.

    It is a data frame in everything but its looks: ``summary.loc["GPA", "coef"]`` is a number, and what is
    computed from it is a plain frame.

    Parameters
    ----------
    table : DataFrame
        One row a coefficient; a second index level in front makes blocks.
    title : str
        What was fitted.
    facts : sequence of (str, str)
        Names and values of what describes the fit as a whole.
    notes : sequence of str
        Sentences below the table.
    """

    _metadata: ClassVar[list[str]] = ["_title", "_facts", "_notes"]

    def __init__(
        self, table: pd.DataFrame, title: str, facts: Sequence[tuple[str, str]], notes: Sequence[str] = ()
    ) -> None:
        super().__init__(table)  # type: ignore[call-arg]
        self._title = title
        self._facts = tuple(facts)
        self._notes = tuple(notes)

    @property
    def _constructor(self) -> Any:
        return pd.DataFrame

    def __repr__(self) -> str:
        blocks = [(head, _lines(block)) for head, block in self._blocks()]
        facts = _beside(self._facts)
        wide = max(len(line) for line in [self._title, *facts, *(row for _, rows in blocks for row in rows)])
        rule = _RULE * wide
        lines = [self._title.center(wide).rstrip(), rule, *facts, rule]
        for head, (columns, *rows) in blocks:
            lines += [*([head] if head else []), columns, rule, *rows, rule]
        return "\n".join([*lines, *self._notes])

    def _repr_html_(self) -> str:
        cell = (
            '<td style="text-align:left;padding:1px 10px"><b>{}</b></td><td style="text-align:right">{}</td>'
        )
        half = -(-len(self._facts) // 2)
        pairs = [self._facts[at::half] for at in range(half)]
        facts = "".join(
            f"<tr>{''.join(cell.format(escape(name), escape(value)) for name, value in row)}</tr>"
            for row in pairs
        )
        parts = [f"<p><b>{escape(self._title)}</b></p><table><tbody>{facts}</tbody></table>"]
        for head, block in self._blocks():
            shown = block.to_html(border=0, formatters={name: _format(name) for name in block.columns})
            parts.append(f"<p>{escape(head)}</p>{shown}" if head else shown)
        return "".join([*parts, *(f"<p>{escape(note)}</p>" for note in self._notes)])

    def _blocks(self) -> list[tuple[str, pd.DataFrame]]:
        plain = pd.DataFrame(self)
        if plain.index.nlevels == 1:
            return [("", plain)]
        level = plain.index.get_level_values(0)
        return [(f"{plain.index.names[0]} = {name}", plain.loc[name]) for name in level.unique()]


def _format(column: str) -> Any:
    digits = _DIGITS.get(column, 3)

    def number(value: float) -> str:
        tiny = value != 0 and abs(value) < 0.5 * 10**-digits and not column.startswith("P>")
        return f"{value:.2e}" if tiny or abs(value) >= 1e7 else f"{value:.{digits}f}"

    return number


def _beside(facts: Sequence[tuple[str, str]]) -> list[str]:
    """Return names and values in two columns."""
    half = -(-len(facts) // 2)
    columns = [facts[:half], facts[half:]]
    shown: list[list[str]] = []
    for column in columns:
        name = max((len(name) for name, _ in column), default=0)
        value = max((len(value) for _, value in column), default=0)
        shown.append([f"{n:<{name}}  {v:>{value}}" for n, v in column])
    shown[1] += [""] * (half - len(shown[1]))
    return [f"{left}     {right}".rstrip() for left, right in zip(*shown, strict=True)]


def _lines(table: pd.DataFrame) -> list[str]:
    """Return a header and one line a coefficient, with numbers flush right."""
    columns = [["", *map(str, table.index)]]
    columns += [[str(name), *map(_format(str(name)), table[name])] for name in table.columns]
    widths = [max(map(len, column)) for column in columns]
    return [
        "   ".join(
            text.ljust(width) if at == 0 else text.rjust(width)
            for at, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in zip(*columns, strict=True)
    ]
