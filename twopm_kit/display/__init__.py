"""What a learner sees: tables, the live round board, panels to try things in, and figures with words.

``kit.display.plots`` is loaded on first use, because matplotlib takes its time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from twopm_kit.display.board import RoundBoard
from twopm_kit.display.formats import gas, seconds, size
from twopm_kit.display.panel import Panel, panel
from twopm_kit.display.prover import Prover, prover
from twopm_kit.display.table import Table, table
from twopm_kit.errors import UnknownRoom

if TYPE_CHECKING:
    import twopm_kit.display.plots as plots

__all__ = [
    "Panel",
    "Prover",
    "RoundBoard",
    "Table",
    "gas",
    "panel",
    "plots",
    "prover",
    "seconds",
    "size",
    "table",
]


def __getattr__(name: str) -> Any:
    if name == "plots":
        return import_module("twopm_kit.display.plots")
    raise UnknownRoom(f"twopm_kit.display has no {name!r}", hint=f"use one of: {', '.join(__all__)}")
