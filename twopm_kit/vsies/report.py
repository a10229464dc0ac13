"""``ValidationReport``: what a table breaks of its schema, in words and rows that a person can look up."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

import pandas as pd

from twopm_kit.errors import SchemaError

__all__ = ["MAX_LINES", "ValidationReport", "html_table"]

#: Longest failure table; more breaches than these are counted.
MAX_LINES: Final = 1_000
_RULE: Final = "1px solid rgba(128,128,128,.35)"


def html_table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[Any]], more: str = "") -> str:
    """Return a table for a notebook: every text escaped, no script, fit for light and dark themes."""
    cell = f'style="padding:3px 12px 3px 0;text-align:left;vertical-align:top;border-bottom:{_RULE}"'
    top = "".join(f'<th scope="col" {cell}>{escape(head)}</th>' for head in heads)
    body = "".join(
        '<tr style="background:transparent">'
        + "".join(f"<td {cell}>{escape(str(value))}</td>" for value in row)
        + "</tr>"
        for row in rows
    )
    style = "border-collapse:collapse;border:0;margin:6px 0;font-size:13px;line-height:1.45"
    title = 'style="caption-side:top;text-align:left;color:inherit;font-weight:600"'
    rest = f'<p style="opacity:.7;font-size:13px">{escape(more)}</p>' if more else ""
    return (
        f'<div style="overflow-x:auto"><table style="{style}"><caption {title}>{escape(caption)}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>{rest}"
    )


@dataclass(frozen=True, repr=False)
class ValidationReport:
    """What was found when a table was held against a schema.

    It quotes values: it is for the person who holds the table, and is not sent anywhere.

    Attributes
    ----------
    schema : str
        Name of the schema.
    rows : int
        Rows of the table.
    failures : pandas.DataFrame
        One line for each breach, at most 1,000: ``column``, ``rule`` in words, what was ``found``, and in
        which ``row`` (counted from 0; NA where the whole column or table is meant).
    counts : pandas.DataFrame
        ``column``, ``rule`` and ``breaches``: how often each rule is broken, all breaches counted.
    """

    schema: str
    rows: int
    failures: pd.DataFrame
    counts: pd.DataFrame

    def __bool__(self) -> bool:
        raise SchemaError(
            "a report as such is neither true nor false", hint="ask for report.ok, or report.breaches"
        )

    @property
    def ok(self) -> bool:
        """Whether nothing is broken."""
        return self.counts.empty

    @property
    def breaches(self) -> int:
        """How many breaches there are, listed or not."""
        return int(self.counts["breaches"].sum())

    @property
    def more(self) -> str:
        """A sentence about breaches that are not listed, empty when all are."""
        hidden = self.breaches - len(self.failures)
        return f"{hidden:,} more breaches are counted, not listed" if hidden else ""

    def __repr__(self) -> str:
        rows = f"{self.rows:,} row{'' if self.rows == 1 else 's'}"
        if self.ok:
            return f"<ValidationReport: {rows} fit schema {self.schema!r}>"
        many = f"{self.breaches:,} breach{'' if self.breaches == 1 else 'es'}"
        return f"<ValidationReport: {many} of schema {self.schema!r} in {rows}>"

    def __str__(self) -> str:
        if self.ok:
            return repr(self)
        return "\n".join([repr(self), self.failures.head(20).to_string(index=False), self.more]).rstrip()

    def _repr_html_(self) -> str:
        if self.ok:
            return f"<p><strong>{escape(repr(self))}</strong></p>"
        listed = min(len(self.failures), 20)
        hidden = self.breaches - listed
        lines = self.failures.head(listed).itertuples(index=False)
        return html_table(
            repr(self),
            ["column", "rule", "found", "row"],
            ([*line[:3], "" if line[3] is pd.NA else line[3]] for line in lines),
            f"{hidden:,} more; see .failures and .counts" if hidden else "",
        )
