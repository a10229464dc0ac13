"""Opens data of many kinds as one: files, folders, URLs, databases, frames and arrays, in chunks of rows.

>>> from twopm_kit.vsies import sources
>>> source = sources.open_source("patients.csv")
>>> print(source.describe())
>>> for chunk in source.chunks(progress=True): ...
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from twopm_kit.errors import SourceError
from twopm_kit.vsies.sources.base import DataSource
from twopm_kit.vsies.sources.files import Place
from twopm_kit.vsies.sources.registry import formats, made

__all__ = ["DataSource", "formats", "open_source", "read"]


def open_source(what: Any, *, rows: int = 65_536, **options: Any) -> DataSource:
    """Open data for reading in chunks.

    Parameters
    ----------
    what : str, Path, DataFrame or ndarray
        One of

        - a path or fsspec URL (``s3://…``, ``memory://…``, ``zip://a.csv::b.zip``) of a file: csv, tsv, txt
          (also compressed), xls, xlsx, Parquet, npy, npz, pt, safetensors; see `formats`;
        - a folder: pictures in sub-folders named for their class, one table, or ``train/`` and ``val/``,
          which are then in ``source.split``;
        - an SQLAlchemy URL, with ``query=`` or ``table=``;
        - a frame, or an array (with ``columns=``, or x0, x1, …).
    rows : int
        Most rows of a chunk.
    **options
        What the kind of source offers, for example ``delimiter=``, ``header=``, ``dtypes=``; the class that
        `formats` names for the ending describes them. ``storage_options=`` goes to fsspec.

    Returns
    -------
    DataSource
        With ``chunks``, ``read``, ``describe`` and ``fingerprint``.

    Raises
    ------
    SourceError
        If it cannot be read as a table; the message says where and why.
    """
    from twopm_kit.vsies.sources.folders import from_place
    from twopm_kit.vsies.sources.frames import FrameSource, from_array
    from twopm_kit.vsies.sources.sql import DIALECTS, SqlSource

    if isinstance(what, pd.DataFrame):
        return made(FrameSource, what, rows, **options)
    if isinstance(what, np.ndarray):
        return made(from_array, what, rows, **options)
    if not isinstance(what, str | Path) or not str(what) or "\0" in str(what):
        shown = repr(what)[:80] if isinstance(what, str) else type(what).__name__
        raise SourceError(f"{shown} is no source of rows", hint=_instead(what))
    if "\n" in str(what):
        raise SourceError(
            "a text of several lines is no path; expected where the table lies",
            hint="write the text to a file, or pass pandas.read_csv(io.StringIO(text))",
        )
    dialect = str(what).partition("://")[0].split("+")[0] if "://" in str(what) else ""
    if dialect in DIALECTS or "query" in options or "table" in options:
        return made(SqlSource, str(what), rows, **options)
    storage = options.pop("storage_options", None)
    if storage is not None and not isinstance(storage, Mapping):
        raise SourceError(
            f"storage_options is a {type(storage).__name__}; expected a mapping",
            hint='pass storage_options={"key": …}, as fsspec takes them',
        )
    return from_place(Place(what, storage), rows, **options)


def _instead(what: Any) -> str:
    """Say what to pass instead of something that is no source."""
    if isinstance(what, pd.Series):
        return "pass a frame: series.to_frame()"
    if isinstance(what, Mapping | list | tuple):
        return (
            "pass pandas.DataFrame(…) of it; several files are read one by one, and pandas.concat joins them"
        )
    if hasattr(what, "to_pandas"):
        return "pass its frame: .to_pandas()"
    if hasattr(what, "numpy"):
        return "pass its array: .numpy()"
    if hasattr(what, "read"):
        return "pass the path of the file instead of the open file"
    if isinstance(what, bytes):
        return "pass the path as text"
    return "pass a path, a URL, a DataFrame or a numpy array"


def read(what: Any, **options: Any) -> pd.DataFrame:
    """Read all rows of whatever `open_source` opens into one frame.

    Raises
    ------
    SourceError
        If it cannot be read as a table.
    """
    return open_source(what, **options).read()
