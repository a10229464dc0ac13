"""A node's commitment to the rows that it joins with."""

import pandas as pd
from eth_hash.auto import keccak

__all__ = ["frame_commitment"]

_LABEL = b"twopm/federated/v1/rows"


def frame_commitment(frame: pd.DataFrame, salt: bytes) -> bytes:
    """Return keccak256 over a salt and the rows in a canonical form.

    Parameters
    ----------
    frame : DataFrame
        The rows.
    salt : bytes
        32 random bytes that the node keeps: without them nobody can guess rows and compare.

    Notes
    -----
    It binds a node to its rows from the moment it joins; opening it to an auditor shows them. The form is
    JSON by columns with every digit of a float64.
    """
    text = frame.to_json(orient="split", double_precision=15, date_format="iso", default_handler=str)
    return keccak(_LABEL + salt + text.encode())
