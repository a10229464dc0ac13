"""The datasheet of a dataset, readable as an object, as text and in a notebook."""

import textwrap
from dataclasses import dataclass
from html import escape
from itertools import groupby

__all__ = ["Column", "Datasheet"]

_RULE = "1px solid rgba(128,128,128,.35)"


@dataclass(frozen=True)
class Column:
    """One column: its name, what it means, and its unit."""

    name: str
    meaning: str
    unit: str


@dataclass(frozen=True, repr=False)
class Datasheet:
    """What must be known about a table before it is used.

    Attributes
    ----------
    name, title, summary : str
        The name for :func:`twopm_kit.datasets.load`, a title, and one sentence.
    origin, licence, licence_url, citation, changes : str
        Where the values come from, under which terms, whom to cite, and what the kit changed.
    used_for, known_limits : str, tuple of str
        What the table is good for here, and what it is not good for.
    columns : tuple of Column
        In the order of the frame; ``target`` names the one to predict.
    rows : int
        Number of rows.
    file, sha256 : str
        The file and its published checksum (hexadecimal).
    """

    name: str
    title: str
    summary: str
    origin: str
    licence: str
    licence_url: str
    citation: str
    changes: str
    used_for: str
    target: str
    known_limits: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: int
    file: str
    sha256: str

    def _facts(self) -> list[tuple[str, str]]:
        """Return the labelled lines of the sheet, in reading order."""
        licence = f"{self.licence} ({self.licence_url})" if self.licence_url else self.licence
        return [
            ("size", f"{self.rows:,} rows × {len(self.columns)} columns; target: {self.target}"),
            ("used for", self.used_for),
            ("origin", self.origin),
            ("licence", licence),
            ("cite", self.citation),
            ("changes", self.changes),
            ("file", self.file),
            ("sha256", self.sha256),
        ]

    def _column_groups(self) -> list[tuple[str, str, str]]:
        """Return (names, meaning, unit), neighbours with the same meaning and unit in one line."""
        lines = []
        for (meaning, unit), group in groupby(self.columns, key=lambda column: (column.meaning, column.unit)):
            members = [column.name for column in group]
            many = len(members) > 1
            names = f"{members[0]} … {members[-1]} ({len(members)})" if many else members[0]
            lines.append((names, meaning, unit))
        return lines

    def __repr__(self) -> str:
        return f"<Datasheet {self.name}: {self.rows:,} rows × {len(self.columns)} columns, {self.licence}>"

    def __str__(self) -> str:
        return self.text

    @property
    def text(self) -> str:
        """The whole sheet as plain text, at most 100 characters wide."""
        lines = [f"{self.title} ({self.name})", self.summary, ""]
        for label, value in self._facts():
            lines += textwrap.wrap(value, 100, initial_indent=f"{label:<10}", subsequent_indent=" " * 10)
        lines += ["", "known limits"]
        for limit in self.known_limits:
            lines += textwrap.wrap(limit, 100, initial_indent="  - ", subsequent_indent="    ")
        groups = self._column_groups()
        width = max(len(names) for names, _, _ in groups)
        lines += ["", "columns"]
        for names, meaning, unit in groups:
            first, rest = f"  {names:<{width}}  ", " " * (width + 4)
            lines += textwrap.wrap(f"{meaning} [{unit}]", 100, initial_indent=first, subsequent_indent=rest)
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return the sheet for a notebook: every value escaped, no script, fit for light and dark themes."""
        small = "font-size:13px;line-height:1.45"
        table = f"border-collapse:collapse;border:0;margin:6px 0;{small}"
        cell = f"padding:3px 12px 3px 0;text-align:left;vertical-align:top;border-bottom:{_RULE};white-space:"
        mono = "font-family:monospace;overflow-wrap:anywhere"

        def th(value: str, scope: str) -> str:
            return f'<th scope="{scope}" style="{cell}nowrap;font-weight:600">{escape(value)}</th>'

        def td(value: str, style: str = "") -> str:
            return f'<td style="{cell}normal;{style}">{escape(value)}</td>'

        def tr(*cells: str) -> str:
            return f'<tr style="background:transparent">{"".join(cells)}</tr>'

        facts = "".join(
            tr(th(label, "row"), td(value, mono if label == "sha256" else ""))
            for label, value in self._facts()
        )
        columns = "".join(
            tr(td(names, mono), td(meaning), td(unit)) for names, meaning, unit in self._column_groups()
        )
        head = tr(*(th(label, "col") for label in ("column", "meaning", "unit")))
        limits = "".join(f"<li>{escape(limit)}</li>" for limit in self.known_limits)
        return (
            '<div style="max-width:880px">'
            f'<div style="font-size:15px;font-weight:600">{escape(self.title)}</div>'
            f"<div>{escape(self.summary)}</div>"
            f'<table style="{table}"><tbody>{facts}</tbody></table>'
            f'<div style="{small};font-weight:600">known limits</div>'
            f'<ul style="{small};margin:2px 0 6px">{limits}</ul>'
            f'<details><summary style="{small};font-weight:600;cursor:pointer">'
            f"{len(self.columns)} columns</summary>"
            f'<table style="{table}"><thead>{head}</thead><tbody>{columns}</tbody></table></details></div>'
        )
