"""The data service: from a raw file to a checked, standardised, encrypted, stored and indexed dataset.

VSIES stands for its parts: validation, standardisation and index, encryption, storage.
"""

from importlib import import_module
from typing import Any

from twopm_kit.errors import UnknownRoom

# Where each public name is made: loaded when it is first used.
_PLACES = {
    "ColumnProofs": "proofs",
    "CommittedColumn": "proofs",
    "ProofContext": "proofs",
    "RangeProof": "proofs",
    "TotalProof": "proofs",
    "prove_range": "proofs",
    "prove_total": "proofs",
}

__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise UnknownRoom(f"twopm_kit.vsies has no {name!r}", hint=f"use one of: {', '.join(__all__)}")
    return getattr(import_module(f"twopm_kit.vsies.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__]
