"""Reads JSON that somebody else wrote, without letting it end the process."""

import json
import re
from typing import Any

from twopm_kit.errors import DataError

__all__ = ["load_json"]

# strings are stepped over, so that only the brackets outside them are left
# (an unfinished one to the end: every byte is looked at once, whatever the text)
_NESTING = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_DEEPEST = 64


def load_json(content: bytes) -> Any:
    """Parse JSON of bounded nesting.

    py-evm raises Python's recursion limit for the whole process, so far that a hostile nesting would run
    over the stack's end and kill it; the depth is therefore counted before anything is parsed.

    Parameters
    ----------
    content : bytes
        UTF-8 text. The caller bounds its size.

    Returns
    -------
    object
        What the text says, in Python's own types.

    Raises
    ------
    DataError
        If it is not JSON, or brackets are nested more than 64 deep.
    """
    depth = 0
    for token in _NESTING.finditer(content):
        depth += 1 if token[0] in b"[{" else -1 if token[0] in b"]}" else 0
        if depth > _DEEPEST:
            raise DataError(f"JSON is nested more than {_DEEPEST} deep", hint="refuse it and its sender")
    try:
        return json.loads(content)
    except ValueError:
        raise DataError("the text is not JSON", hint="refuse it, or fetch it again") from None
