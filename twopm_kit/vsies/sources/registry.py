"""The formats by the ending of a file's name: a module of this folder adds one by naming its endings."""

import inspect
import pkgutil
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, Final

from twopm_kit.errors import SourceError
from twopm_kit.vsies.field import meant
from twopm_kit.vsies.sources.base import DataSource

__all__ = ["formats", "made", "reads"]

_FORMATS: dict[str, type[DataSource]] = {}
#: What pandas calls options, and what it offers that is done afterwards here.
_ELSEWHERE: Final = {
    "sep": "delimiter",
    "sheet_name": "sheet",
    "na_values": "missing",
    "names": "columns",
    "dtype": "dtypes",
    "chunksize": "rows",
}
_AFTERWARDS: Final = frozenset({"usecols", "nrows", "index_col"})


def reads(*suffixes: str) -> Callable[[type[DataSource]], type[DataSource]]:
    """Decorate the class that reads files with these endings: ``Class(place, rows=…, **options)``."""

    def register(source: type[DataSource]) -> type[DataSource]:
        _FORMATS.update(dict.fromkeys(suffixes, source))
        return source

    return register


@cache
def formats() -> dict[str, type[DataSource]]:
    """Return the class for each ending, in alphabetical order."""
    import twopm_kit.vsies.sources as room

    for module in pkgutil.iter_modules(room.__path__):
        import_module(f"{room.__name__}.{module.name}")
    return dict(sorted(_FORMATS.items()))


def made(source: Callable[..., DataSource], *arguments: Any, **options: Any) -> DataSource:
    """Call a class of sources; refuse options that it does not have.

    Raises
    ------
    SourceError
        If an option is unknown; the message names those that there are.
    """
    known = inspect.signature(source).parameters
    strange = [name for name in options if name not in known]
    if strange:
        offered = sorted(name for name, one in known.items() if one.kind is inspect.Parameter.KEYWORD_ONLY)
        other = _ELSEWHERE.get(strange[0], "")
        question = (
            f"{strange[0]}= is called {other}= here; " if other in offered else meant(strange[0], offered)
        )
        after = "take rows and columns afterwards, from the frame; " if strange[0] in _AFTERWARDS else ""
        raise SourceError(
            f"this kind of source has no option {strange[0]!r}; it has {', '.join(offered)}",
            hint=f"{question}{after}remove it, or use one of these",
        )
    return source(*arguments, **options)
