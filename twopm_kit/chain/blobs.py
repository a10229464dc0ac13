"""Blobs beside a transaction (EIP-4844): what is sent with the signed part, and what a node checks of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import rlp  # type: ignore[import-untyped]

from twopm_kit import kzg
from twopm_kit.chain.jsonrpc import INVALID_PARAMS, Fault
from twopm_kit.errors import CallError, DataError

__all__ = ["BLOB_GAS", "BLOB_TYPE", "MOST_BLOBS", "Sidecar", "unwrap"]

#: First byte of a blob transaction.
BLOB_TYPE: Final = b"\x03"
#: Most blobs of one transaction: what EIP-7594 allows.
MOST_BLOBS: Final = 6
#: Blob gas of one blob: a byte costs one.
BLOB_GAS: Final = kzg.BLOB_BYTES

_CELLS: Final = b"\x01"  # EIP-7594: proofs of cells instead of proofs of blobs


@dataclass(frozen=True)
class Sidecar:
    """The blobs of one transaction with their commitments.

    Attributes
    ----------
    blobs : tuple of bytes
        131,072 bytes each.
    commitments : tuple of bytes
        48 bytes each.
    """

    blobs: tuple[bytes, ...]
    commitments: tuple[bytes, ...]

    @classmethod
    def of(cls, blobs: Any, label: str) -> "Sidecar":
        """Commit to the blobs of a call.

        Raises
        ------
        CallError
            When there is none or more than six, or one of them is no blob.
        """
        if isinstance(blobs, bytes | bytearray | str) or not isinstance(blobs, Sequence):
            raise CallError(
                f"{label}: blobs must be a list of bytes, not {type(blobs).__name__}",
                hint="pass blobs=[blob, …]; twopm_kit.kzg.split cuts words into blobs",
            )
        if not 1 <= len(blobs) <= MOST_BLOBS:
            raise CallError(
                f"{label}: a transaction carries 1 to {MOST_BLOBS} blobs, {len(blobs)} were passed",
                hint="leave blobs= out when there are none, and send several transactions for more",
            )
        commitments = []
        for index, blob in enumerate(blobs):
            try:
                commitments.append(kzg.commit(blob))
            except DataError as wrong:
                raise CallError(f"{label}, blob {index}: {wrong.message}", hint=wrong.hint) from None
        return cls(tuple(blobs), tuple(commitments))

    @cached_property
    def versioned_hashes(self) -> tuple[bytes, ...]:
        """What ``blobhash`` shows to the contract."""
        return tuple(kzg.versioned_hash(commitment) for commitment in self.commitments)

    def wrap(self, raw: str, *, cells: bool) -> str:
        """Put the blobs beside a signed transaction, as a node wants to be sent it; both hexadecimal.

        Parameters
        ----------
        raw : str
            The signed transaction alone.
        cells : bool
            Whether to prove the cells (EIP-7594), as public networks want since the fork Osaka and which
            takes 0.2 s a blob, or the blobs (EIP-4844).
        """
        signed = rlp.decode(bytes.fromhex(raw[4:]))
        pairs = zip(self.blobs, self.commitments, strict=True)
        if cells:
            proofs = [proof for blob, _ in pairs for proof in kzg.cell_proofs(blob)]
            parts = [signed, _CELLS, self.blobs, self.commitments, proofs]
        else:
            proofs = [kzg.prove(blob, commitment) for blob, commitment in pairs]
            parts = [signed, self.blobs, self.commitments, proofs]
        return "0x" + (BLOB_TYPE + bytes(rlp.encode(parts))).hex()


def unwrap(data: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """Take a blob transaction apart, as a node does, and check its blobs.

    Parameters
    ----------
    data : bytes
        The transaction with its blobs, in the form of EIP-4844.

    Returns
    -------
    tuple
        The signed transaction alone, and its blobs by their versioned hashes.

    Raises
    ------
    Fault
        When blobs are missing, of another form, or not what their commitments and proofs say.
    """
    parts = rlp.decode(data[1:])
    if not isinstance(parts, list) or len(parts) != 4 or not isinstance(parts[0], list):
        raise Fault(
            "a blob transaction comes with its blobs, commitments and blob proofs (EIP-4844)",
            code=INVALID_PARAMS,
        )
    signed, *lists = parts
    sizes = (kzg.BLOB_BYTES, 48, 48)
    for items, size in zip(lists, sizes, strict=True):
        if not isinstance(items, list) or not 1 <= len(items) <= MOST_BLOBS or len(items) != len(lists[0]):
            raise Fault(
                f"expected 1 to {MOST_BLOBS} blobs and as many commitments and proofs", code=INVALID_PARAMS
            )
        if any(not isinstance(item, bytes) or len(item) != size for item in items):
            raise Fault("a blob has 131072 bytes, a commitment and a proof 48", code=INVALID_PARAMS)
    blobs, commitments, proofs = lists
    if not kzg.verify(blobs, commitments, proofs):
        raise Fault("the blobs are not what their commitments and proofs say")
    hashes = map(kzg.versioned_hash, commitments)
    return BLOB_TYPE + rlp.encode(signed), dict(zip(hashes, blobs, strict=True))
