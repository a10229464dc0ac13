"""Finds what belongs to one machine only and must not be in a published notebook."""

import re
import sys
from pathlib import Path
from typing import Final

_POSIX: Final = re.compile(
    r"(?<![\w.+/=:~-])/(?:home|root|Users|tmp|var|usr|opt|mnt|srv|work|private)/[\w.+-]+"
)
_WINDOWS: Final = re.compile(r"(?<![\w])[A-Za-z]:\\\\?(?:Users|Windows|Program Files)\b")


def machine_path(text: str) -> str | None:
    """Return the first path of a machine in the text, or None.

    A URL's path, a relative path and base64 are none: they have a letter, a digit or a sign before the slash.
    """
    for place in {str(Path.home()), sys.prefix, str(Path.cwd())}:
        if len(place) > len("/root") and place in text:
            return place
    found = _POSIX.search(text) or _WINDOWS.search(text)
    return found[0] if found else None
