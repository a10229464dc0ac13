"""The data service: from a raw file to a checked, standardised, encrypted, stored and indexed dataset.

VSIES stands for its parts: validation, standardisation and index, encryption, storage.
"""

from importlib import import_module
from typing import Any

from twopm_kit.errors import UnknownRoom

# Where each public name is made: loaded when it is first used.
_PLACES = {
    "Allocator": "attestation",
    "Assignment": "attestation",
    "Attestation": "attestation",
    "CheckState": "spot",
    "ColumnProofs": "proofs",
    "CommittedColumn": "proofs",
    "DataClient": "client",
    "DataIndex": "index",
    "DatasetEntry": "index",
    "DatasetRef": "reference",
    "EntryTree": "storage",
    "Field": "schema",
    "ProofContext": "proofs",
    "PublicFacts": "attestation",
    "RangeProof": "proofs",
    "Role": "index",
    "RowCheck": "spot",
    "RowCommitment": "rows",
    "RowLayout": "rows",
    "RowOpening": "rows",
    "Schema": "schema",
    "SliceProof": "storage",
    "SpotCheck": "spot",
    "Standard": "standard",
    "Statistics": "standard",
    "Store": "storage",
    "StoredObject": "storage",
    "Subject": "attestation",
    "TotalProof": "proofs",
    "UploadEntry": "index",
    "ValidationReport": "report",
    "Validator": "attestation",
    "bits_of": "proofs",
    "commit_field": "proofs",
    "content_id": "storage",
    "detects": "spot",
    "drift": "drift_table",
    "identity_hash": "attestation",
    "in_steps": "proofs",
    "open_source": "sources",
    "prove_range": "proofs",
    "prove_total": "proofs",
    "read": "sources",
    "rows_needed": "spot",
    "storage_root": "storage",
    "weights_of": "proofs",
}

__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise UnknownRoom(f"twopm_kit.vsies has no {name!r}", hint=f"use one of: {', '.join(__all__)}")
    return getattr(import_module(f"twopm_kit.vsies.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__]
