"""A node's commitment to the rows that it joins with."""

from typing import Any

import numpy as np
import pandas as pd
from eth_hash.auto import keccak

__all__ = ["frame_commitment"]

_LABEL = b"twopm/federated/v1/rows"


def frame_commitment(frame: pd.DataFrame, salt: bytes) -> bytes:
    """Return keccak256 over a salt and the rows, every bit of every number.

    Parameters
    ----------
    frame : DataFrame
        The rows.
    salt : bytes
        32 secret bytes that the node keeps: without them nobody can guess rows and compare.

    Returns
    -------
    bytes
        32 bytes. They bind the node to its rows from the moment it joins; opening them to an auditor shows
        the rows.

    Notes
    -----
    Hashed are, for the index and for each column in order, the hashes of its name, of its dtype, and of its
    values: as they lie in memory for numpy's numbers, as JSON for all others.
    """
    parts = [_hashed("", pd.Series(frame.index))]
    parts += [_hashed(str(name), frame.iloc[:, at]) for at, name in enumerate(frame.columns)]
    return keccak(_LABEL + salt + b"".join(parts))


def _hashed(name: str, column: "pd.Series[Any]") -> bytes:
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "biuf":
        values = np.ascontiguousarray(column.to_numpy()).tobytes()
    else:
        values = column.to_frame().to_json(orient="split", date_format="iso", default_handler=str).encode()
    return keccak(b"".join(keccak(part) for part in (name.encode(), str(column.dtype).encode(), values)))
