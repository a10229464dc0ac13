"""Reads ``notebooks/series.toml``: which notebooks there are, in which order, and what each must show."""

import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from twopm_kit.errors import NotebookError
from twopm_kit.notebook.modes import MODES
from twopm_kit.notebook.results import Scalar

MANIFEST: Final = "series.toml"


@dataclass(frozen=True)
class Bound:
    """What a metric must be: a smallest value, a largest value, or one value."""

    min: float | None = None
    max: float | None = None
    equals: Scalar = None

    def accepts(self, value: Scalar) -> bool:
        """Tell whether the recorded value is within the bound; a bool or a string is never a number."""
        if self.equals is not None:
            return type(value) is type(self.equals) and value == self.equals
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)

    def __str__(self) -> str:
        if self.equals is not None:
            return f"= {self.equals}"
        return " and ".join(
            f"{sign} {limit}" for sign, limit in (("≥", self.min), ("≤", self.max)) if limit is not None
        )


@dataclass(frozen=True)
class Entry:
    """One notebook of the manifest.

    Attributes
    ----------
    name : str
        The file's name without its ending.
    title : str
        Its title, for tables of contents.
    shows : str
        What a reader sees happen, for the runner's table.
    metric : str
        The recorded metric that the table shows; must be among ``metrics``.
    metrics : dict
        Recorded name to :class:`Bound`; each must be recorded and within its bound.
    parameters : dict
        ``fast`` and ``full`` to overrides of parameters in that mode (besides ``MODE`` itself). The values of
        ``learn`` stand in the notebook.
    seconds : dict
        Mode to the longest time that the whole notebook may take.
    cell_seconds : float
        The longest time that a cell may take; a tag ``timeout-120`` on the cell replaces it.
    stderr : tuple of str
        Regular expressions of what may appear on standard error.
    series : bool
        False for the template, which is tested but not part of the walk.
    """

    name: str
    title: str
    shows: str
    metric: str
    metrics: dict[str, Bound]
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    cell_seconds: float = 60.0
    stderr: tuple[str, ...] = ()
    series: bool = True

    def limit(self, mode: str) -> float:
        """Return the time limit of the whole notebook in seconds."""
        return self.seconds.get(mode, {"fast": 60.0, "learn": 600.0, "full": 7200.0}[mode])


@dataclass(frozen=True)
class Series:
    """The manifest and the folder that it describes."""

    folder: Path
    entries: tuple[Entry, ...]

    def path(self, entry: Entry) -> Path:
        """Return where the notebook of an entry is."""
        return self.folder / f"{entry.name}.ipynb"

    def differences(self) -> list[str]:
        """Return, in words, where the manifest and the folder disagree; empty when they do not."""
        listed = {entry.name for entry in self.entries}
        present = {path.stem for path in self.folder.glob("*.ipynb")}
        return [
            *(
                f"{name}: listed in {MANIFEST}, but there is no {name}.ipynb"
                for name in sorted(listed - present)
            ),
            *(
                f"{name}: {name}.ipynb exists, but {MANIFEST} does not list it"
                for name in sorted(present - listed)
            ),
        ]

    def select(self, names: Iterable[str] = ()) -> tuple[Entry, ...]:
        """Return the named entries in the series' order; all of the walk when no name is given.

        Parameters
        ----------
        names : iterable of str
            Names, with or without ``.ipynb``, or unambiguous beginnings of names such as ``04``.

        Raises
        ------
        NotebookError
            When a name fits no entry or several.
        """
        wanted = {self._find(name) for name in names}
        return tuple(one for one in self.entries if (one.name in wanted if wanted else one.series))

    def _find(self, name: str) -> str:
        stem = Path(name).name.removesuffix(".ipynb")
        fits = [entry.name for entry in self.entries if entry.name == stem] or [
            entry.name for entry in self.entries if entry.name.startswith(stem)
        ]
        if len(fits) != 1:
            raise NotebookError(
                f"{name!r} is the name of {len(fits)} notebooks of the series",
                hint=f"use one of: {', '.join(entry.name for entry in self.entries)}",
            )
        return fits[0]


def load_series(folder: Path) -> Series:
    """Read the manifest of a folder of notebooks.

    Parameters
    ----------
    folder : Path
        The folder with ``series.toml``.

    Returns
    -------
    Series

    Raises
    ------
    NotebookError
        When the manifest is missing, is not TOML, or has a key or a value that it cannot have.
    """
    path = folder / MANIFEST
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotebookError(
            f"there is no {MANIFEST} in the folder {folder.name!r}", hint="work in a clone of the project"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise NotebookError(f"{MANIFEST} is not TOML: {error}", hint="correct the line") from error
    _only("the manifest", document, {"notebook"})
    entries = tuple(_entry(table) for table in document.get("notebook", []))
    names = [entry.name for entry in entries]
    if len(set(names)) != len(names):
        raise NotebookError(f"{MANIFEST} lists a notebook twice", hint="give every notebook one entry")
    return Series(folder, entries)


def _only(where: str, table: Mapping[str, Any], allowed: set[str]) -> None:
    unknown = sorted(set(table) - allowed)
    if unknown:
        raise NotebookError(
            f"{where} has the unknown key {unknown[0]!r}", hint=f"use only: {', '.join(sorted(allowed))}"
        )


def _entry(table: Mapping[str, Any]) -> Entry:
    name = str(table.get("name", "?"))
    where = f"the entry {name!r} of {MANIFEST}"
    _only(where, table, set(Entry.__dataclass_fields__))
    missing = sorted({"name", "title", "shows", "metric", "metrics"} - set(table))
    if missing:
        raise NotebookError(f"{where} has no {missing[0]!r}", hint=f"add the key {missing[0]!r}")
    bounds = {}
    for metric, bound in table["metrics"].items():
        _only(f"the metric {metric!r} in {where}", bound, {"min", "max", "equals"})
        if not bound:
            raise NotebookError(
                f"the metric {metric!r} in {where} has no bound", hint="add min, max or equals"
            )
        bounds[metric] = Bound(**bound)
    if table["metric"] not in bounds:
        raise NotebookError(
            f"{where} shows the metric {table['metric']!r}, but has no bound for it",
            hint="add it to the metrics",
        )
    for key in ("parameters", "seconds"):
        _only(f"{key!r} in {where}", table.get(key, {}), set(MODES))
    if "learn" in table.get("parameters", {}):
        raise NotebookError(
            f"{where} overrides parameters in learn mode",
            hint="write the values of learn mode into the notebook: its defaults are what a reader sees",
        )
    return Entry(**{**table, "metrics": bounds, "stderr": tuple(table.get("stderr", ()))})
