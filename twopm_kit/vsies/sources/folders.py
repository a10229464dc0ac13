"""Sorts out what a folder is: splits (train, val, test), one table, or pictures by class."""

import hashlib
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import pandas as pd

from twopm_kit.errors import SourceError
from twopm_kit.vsies.field import meant
from twopm_kit.vsies.sources.base import DataSource, Tick
from twopm_kit.vsies.sources.files import Place
from twopm_kit.vsies.sources.images import ImageFolder
from twopm_kit.vsies.sources.registry import formats, made

__all__ = ["SPLITS", "SplitFolder", "from_place"]

#: Names of folders or files that hold a part of the rows.
SPLITS = ("train", "val", "test")


class SplitFolder(DataSource):
    """A folder with ``train/`` and ``val/`` (and perhaps ``test/``), or files of these names.

    Its rows are never mixed: read ``source.split["train"]`` and ``source.split["val"]``.

    Parameters
    ----------
    place : Place
        The folder.
    rows : int
        Most rows of a chunk.
    parts : mapping
        The sources by name.
    """

    def __init__(self, place: Place, rows: int, *, parts: Mapping[str, DataSource]) -> None:
        super().__init__(place.shown, rows)
        self._parts = dict(parts)

    @property
    def split(self) -> dict[str, DataSource]:
        """The sources by name: train, val, test."""
        return dict(self._parts)

    @property
    def columns(self) -> None:
        """None: the parts have columns."""
        return

    @property
    def n_rows(self) -> int | None:
        """Rows of all parts, or None while one is not known."""
        counts = [part.n_rows for part in self._parts.values()]
        return None if None in counts else sum(count or 0 for count in counts)

    @property
    def n_bytes(self) -> int:
        """Bytes of all parts."""
        return sum(part.n_bytes or 0 for part in self._parts.values())

    def fingerprint(self) -> bytes:
        """Return the SHA-256 over names and fingerprints of the parts."""
        parts = (name.encode() + b"\0" + part.fingerprint() for name, part in self._parts.items())
        return hashlib.sha256(b"".join(parts)).digest()

    def _whole(self) -> SourceError:
        names = ", ".join(f"source.split[{name!r}]" for name in self._parts)
        return SourceError(
            f"{self.name} is divided into {', '.join(self._parts)}; its rows are not mixed",
            hint=f"use {names}",
        )

    def _dtypes(self) -> Mapping[str, str]:
        raise self._whole()

    def _pieces(self, tick: Tick) -> Iterator[pd.DataFrame]:  # noqa: ARG002
        raise self._whole()

    def _decided(self) -> dict[str, str]:
        return {"split": ", ".join(self._parts)}

    def _facts(self) -> dict[str, str]:
        facts = {"source": self.name, **self._decided()}
        for name, part in self._parts.items():
            facts[name] = "; ".join(f"{label} {value}" for label, value in part._facts().items())
        return facts


def from_place(place: Place, rows: int, **options: Any) -> DataSource:
    """Return the source of a file or folder.

    Raises
    ------
    SourceError
        If there is nothing, or nothing that can be read.
    """
    if not place.exists():
        raise SourceError(f"there is no {place.shown}", hint=f"{_beside(place)}check the path or URL")
    if not place.is_folder():
        return _from_file(place, rows, **options)
    children = place.children()
    parts = {name: child for name in SPLITS for child in children if child.name.split(".")[0] == name}
    if {"train", "val"} <= parts.keys():
        opened = {name: from_place(child, rows, **options) for name, child in parts.items()}
        return SplitFolder(place, rows, parts=opened)
    tables = [child for child in children if child.suffixes[0] in formats() and not child.is_folder()]
    if any(child.is_folder() for child in children):
        if tables:
            raise SourceError(
                f"{place.shown} holds tables ({tables[0].name}) beside folders",
                hint="pass one of them by its path",
            )
        return made(ImageFolder, place, rows, **options)
    if len(tables) == 1:
        return _from_file(tables[0], rows, **options)
    listed = ", ".join(child.name for child in children[:8]) or "nothing"
    raise SourceError(
        f"{place.shown} holds {listed}; expected train/ and val/, one table, or a folder for each class",
        hint="pass the path of one file",
    )


def _beside(place: Place) -> str:
    """Ask for a file of a similar name in the same folder; "" for places that are elsewhere."""
    folder = place.local.absolute().parent if place.local is not None else None
    try:
        names = [one.name for one in islice(folder.iterdir(), 1_000)] if folder is not None else []
    except OSError:
        return "" if folder is None or folder.is_dir() else f"there is no folder {folder}; "
    return meant(place.name, names)


def _from_file(place: Place, rows: int, **options: Any) -> DataSource:
    suffix, packed = place.suffixes
    source = formats().get(suffix)
    if source is None:
        ending = f"no format ends in {suffix!r}" if suffix else "its name has no ending that tells its format"
        raise SourceError(
            f"{place.shown}: {ending}; known are {', '.join(formats())}",
            hint=f"name the file for the table in it, such as table.csv{packed}, or pass "
            f"{packed[1:]}://<member>::<path>"
            if packed == ".zip"
            else "rename the file by its format, or convert it",
        )
    if packed and not source.unpacks:
        raise SourceError(f"{place.shown}: only text is read compressed", hint=f"unpack it ({packed}) first")
    return made(source, place, rows, **options)
