"""A masked vector that lies in storage: bound to its sender, checked against what its sender put on chain.

The chain has a Merkle root over chunks of the vector, which names the round and the sender, and in KZG rounds
one commitment per 4,096 elements. The proofs that come along make the check of a commitment twenty times
faster than making it again. Where vector and commitments contradict each other, `contradiction` finds the one
element that convinces a judge.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from twopm_kit.errors import DataError, EncodingError, ProtocolError, TamperedMessage
from twopm_kit.kzg import (
    BLOB_ELEMENTS,
    commit,
    compress,
    omega,
    point_proof,
    prove,
    split,
    uncompress,
    verify,
    verify_point,
    versioned_hash,
)
from twopm_kit.secagg.commitments import (
    CHUNK_ELEMENTS,
    HASH_BYTES,
    chunk_leaf,
    data_root,
    merkle_proof,
    vector_digest,
    verify_proof,
)
from twopm_kit.secagg.context import ADDRESS_BYTES, Party, RoundContext, party_id, party_name
from twopm_kit.secagg.field import LIMBS, WORD_BYTES, Limbs, check_limbs, to_big_endian

__all__ = ["ChunkProof", "PointProof", "VectorMessage", "contradiction"]

#: Most elements of a vector: 128 MiB, 33 million parameters in eight lanes.
MAX_ELEMENTS: Final = 1 << 22
_HEADER: Final = b"2PM\x01V"
_COUNT_BYTES, _BLOBS_BYTES = 4, 2
_HEAD_BYTES: Final = len(_HEADER) + HASH_BYTES + ADDRESS_BYTES + _COUNT_BYTES + _BLOBS_BYTES
_SHORT_BYTES: Final = 48
_POINT_BYTES: Final = 128
_CHUNK_BYTES: Final = CHUNK_ELEMENTS * WORD_BYTES


def _refuse(what: str, *, guilty: bytes = b"") -> TamperedMessage:
    return TamperedMessage(what, hint="Refuse the vector and name its sender.", dealer=guilty)


@dataclass(frozen=True)
class ChunkProof:
    """The 32 elements around one element, and the Merkle path from them to the data root.

    Attributes
    ----------
    index, count : int
        Which of how many chunks.
    chunk : bytes
        1,024 bytes.
    path : tuple of bytes
        Siblings, from the leaf up.
    """

    index: int
    count: int
    chunk: bytes
    path: tuple[bytes, ...]

    def opens(self, root: bytes, context: RoundContext, sender: Party) -> bool:
        """Tell whether the chunk is in a sender's vector of a round."""
        leaf = chunk_leaf(context.binding, party_id(sender), self.chunk)
        return verify_proof(root, self.count, self.index, leaf, self.path)

    def value(self, element: int) -> bytes:
        """Give one element of the chunk by its index in the whole vector; 32 bytes, big-endian."""
        at = WORD_BYTES * (element - CHUNK_ELEMENTS * self.index)
        return self.chunk[at : at + WORD_BYTES]


@dataclass(frozen=True)
class PointProof:
    """What one element is in the blob behind a commitment.

    Attributes
    ----------
    element : int
        Index in the whole vector.
    commitment, proof : bytes
        48 bytes each.
    value : bytes
        The element; 32 bytes, big-endian.
    """

    element: int
    commitment: bytes
    value: bytes
    proof: bytes

    @classmethod
    def of(cls, blobs: Sequence[bytes], element: int) -> "PointProof":
        """Prove an element of the blobs of a vector."""
        number, index = divmod(element, BLOB_ELEMENTS)
        if not 0 <= number < len(blobs):
            raise ProtocolError(
                f"element {element} is not in {len(blobs)} blobs", hint="Pass all blobs of the vector."
            )
        proof, value = point_proof(blobs[number], index)
        return cls(element, commit(blobs[number]), value, proof)

    @property
    def holds(self) -> bool:
        """Whether the proof is right."""
        return verify_point(self.commitment, self.element % BLOB_ELEMENTS, self.value, self.proof)

    def to_bytes(self) -> bytes:
        """Give the 192 bytes that the point evaluation precompile (0x0a, EIP-4844) takes."""
        at = omega(self.element % BLOB_ELEMENTS).to_bytes(WORD_BYTES, "big")
        return versioned_hash(self.commitment) + at + self.value + self.commitment + self.proof


@dataclass(frozen=True)
class VectorMessage:
    """Message M2 of rounds whose vectors travel through storage: a masked vector.

    Attributes
    ----------
    binding : bytes
        `RoundContext.binding`.
    sender : bytes
        Address.
    elements : bytes
        The masked vector, 32 big-endian bytes an element.
    commitments, proofs : tuple of bytes
        One of 48 bytes each per 4,096 elements; none where the round is verified by hashes alone.
    """

    binding: bytes
    sender: bytes
    elements: bytes
    commitments: tuple[bytes, ...] = ()
    proofs: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        for name, size in (("binding", HASH_BYTES), ("sender", ADDRESS_BYTES)):
            value = getattr(self, name)
            if not isinstance(value, bytes) or len(value) != size:
                raise _refuse(f"VectorMessage.{name} is not {size} bytes")
        if not isinstance(self.elements, bytes) or len(self.elements) % WORD_BYTES:
            raise _refuse("VectorMessage.elements are not words of 32 bytes")
        _check_counts(len(self), len(self.commitments))
        if len(self.proofs) != len(self.commitments):
            raise _refuse(
                f"VectorMessage: {len(self.commitments)} commitments with {len(self.proofs)} proofs"
            )
        for one in (*self.commitments, *self.proofs):
            if not isinstance(one, bytes) or len(one) != _SHORT_BYTES:
                raise _refuse(f"VectorMessage: a commitment or a proof is not {_SHORT_BYTES} bytes")

    @classmethod
    def of(cls, context: RoundContext, sender: Party, limbs: Limbs, kzg: bool = True) -> "VectorMessage":
        """Make the message of one's own masked vector.

        Parameters
        ----------
        context : RoundContext
        sender : bytes or str
            Own address.
        limbs : uint32 array, shape (m, 8)
            The masked vector.
        kzg : bool
            Whether the round commits by KZG: 0.08 s per 4,096 elements.

        Raises
        ------
        EncodingError
            If it is not a vector of field elements, or has none or too many.
        """
        count = len(check_limbs(limbs))
        if not 1 <= count <= MAX_ELEMENTS:
            raise EncodingError(
                f"a vector has 1 to {MAX_ELEMENTS:,} elements, got {count:,}", hint="Pass a whole update."
            )
        words = to_big_endian(limbs)
        blobs = split(words) if kzg else []
        commitments = tuple(commit(blob) for blob in blobs)
        proofs = tuple(prove(*pair) for pair in zip(blobs, commitments, strict=True))
        return cls(context.binding, party_id(sender), words, commitments, proofs)

    def __len__(self) -> int:
        return len(self.elements) // WORD_BYTES

    @cached_property
    def data_root(self) -> bytes:
        """Merkle root over the chunks, for the chain."""
        return data_root(self.binding, self.sender, self.elements)

    @cached_property
    def points(self) -> bytes:
        """The commitments as the chain adds them: 128 bytes each (EIP-2537)."""
        return b"".join(uncompress(one) for one in self.commitments)

    @cached_property
    def digest(self) -> bytes:
        """The one word that the chain keeps of the submission."""
        return vector_digest(self.data_root, [self.points])

    @property
    def blobs(self) -> list[bytes]:
        """The vector cut into blobs, the last one filled up with zeros."""
        return split(self.elements)

    @cached_property
    def limbs(self) -> Limbs:
        """The vector as field elements, uint32 of shape (m, 8).

        Raises
        ------
        TamperedMessage
            If an element is not below r.
        """
        digits = np.frombuffer(self.elements, ">u4").reshape(-1, LIMBS)[:, ::-1]
        limbs = digits.astype(np.uint32, order="C")
        try:
            return check_limbs(limbs)
        except EncodingError as wrong:
            raise _refuse(f"the vector of {party_name(self.sender)}: {wrong.message}") from None

    def verify(
        self,
        context: RoundContext,
        sender: Party,
        data_root: bytes,
        commitments: bytes = b"",
        *,
        elements: int | None = None,
    ) -> None:
        """Check the message against what the sender put on chain.

        Parameters
        ----------
        context : RoundContext
        sender : bytes or str
            Whose vector is wanted.
        data_root : bytes
        commitments : bytes
            128 bytes each, as in the event; empty where the round is verified by hashes alone.
        elements : int, optional
            How many elements every vector of the round has. Pass it: the root tells it to the next 32 only.

        Raises
        ------
        TamperedMessage
            If anything differs; the message names the sender. ``dealer`` is the sender where it is certain
            that the sender itself, and not the storage, is to blame: the vector is the one under its root,
            and is outside the field or not what its commitments on chain stand for.
        """
        wanted = party_id(sender)
        name = party_name(wanted)
        if self.binding != context.binding:
            raise _refuse(f"the vector of {name} belongs to another round, task, contract or chain")
        if self.sender != wanted:
            raise _refuse(f"the vector of {name} says that it is of {party_name(self.sender)}")
        if elements is not None and len(self) != elements:
            raise _refuse(f"the vector of {name} has {len(self):,} elements, expected {elements:,}")
        if len(commitments) != _POINT_BYTES * len(self.commitments):
            raise _refuse(
                f"the vector of {name} comes with {len(self.commitments)} commitments, the chain has "
                f"{len(commitments) / _POINT_BYTES:g}"
            )
        if self.data_root != data_root:
            raise _refuse(f"the vector of {name} is not the one whose root is on chain")
        try:
            self.limbs  # noqa: B018  (its check is what is wanted)
        except TamperedMessage as outside:
            raise _refuse(outside.message, guilty=wanted) from None
        if self.commitments:
            self._verify_commitments(name, commitments)

    def _verify_commitments(self, name: str, on_chain: bytes) -> None:
        shorts = tuple(
            _compressed(on_chain[at : at + _POINT_BYTES]) for at in range(0, len(on_chain), _POINT_BYTES)
        )
        if shorts == self.commitments and verify(self.blobs, self.commitments, self.proofs):
            return
        # Proofs and the message's own commitments are not under the root, so somebody else may have spoiled
        # them. Only commitments made anew tell whether the sender contradicts itself; 0.04 s each.
        for index, (blob, short) in enumerate(zip(self.blobs, shorts, strict=True)):
            if commit(blob) != short:
                raise _refuse(
                    f"commitment {index} of {name} on chain is not the one to its vector", guilty=self.sender
                )
        raise _refuse(f"the commitments or proofs that came with the vector of {name} are not its own")

    def chunk_proof(self, element: int) -> ChunkProof:
        """Open the chunk of one element under the data root.

        Raises
        ------
        ProtocolError
            If no chunk has this element.
        """
        padded = self.elements + bytes(-len(self.elements) % _CHUNK_BYTES)
        chunks = [padded[at : at + _CHUNK_BYTES] for at in range(0, len(padded), _CHUNK_BYTES)]
        index = element // CHUNK_ELEMENTS
        if not 0 <= index < len(chunks):
            raise ProtocolError(
                f"element {element} is in none of the {len(chunks)} chunks",
                hint="Pass an index below the number of elements.",
            )
        leaves = [chunk_leaf(self.binding, self.sender, chunk) for chunk in chunks]
        return ChunkProof(index, len(chunks), chunks[index], tuple(merkle_proof(leaves, index)))

    def to_bytes(self) -> bytes:
        """Serialise: 4 bytes a parameter in eight lanes, 63 bytes, and 96 for each commitment."""
        head = [_HEADER, self.binding, self.sender, len(self).to_bytes(_COUNT_BYTES, "big")]
        head.append(len(self.commitments).to_bytes(_BLOBS_BYTES, "big"))
        return b"".join([*head, self.elements, *self.commitments, *self.proofs])

    @classmethod
    def from_bytes(cls, data: bytes) -> "VectorMessage":
        """Parse, or raise `TamperedMessage`. Nothing is trusted yet: call `verify`."""
        if not isinstance(data, bytes) or not data.startswith(_HEADER) or len(data) < _HEAD_BYTES:
            raise _refuse(f"VectorMessage: expected bytes that begin with {_HEADER!r}")
        at = len(_HEADER)
        binding, at = data[at : at + HASH_BYTES], at + HASH_BYTES
        sender, at = data[at : at + ADDRESS_BYTES], at + ADDRESS_BYTES
        count, at = int.from_bytes(data[at : at + _COUNT_BYTES], "big"), at + _COUNT_BYTES
        number = int.from_bytes(data[at : at + _BLOBS_BYTES], "big")
        _check_counts(count, number)
        end = _HEAD_BYTES + WORD_BYTES * count
        size = end + 2 * _SHORT_BYTES * number
        if len(data) != size:
            raise _refuse(
                f"VectorMessage: {len(data):,} bytes, expected {size:,} for {count:,} elements and "
                f"{number} commitments"
            )
        short = [data[start : start + _SHORT_BYTES] for start in range(end, size, _SHORT_BYTES)]
        return cls(binding, sender, data[_HEAD_BYTES:end], tuple(short[:number]), tuple(short[number:]))

    def __repr__(self) -> str:
        return (
            f"VectorMessage(sender={party_name(self.sender)}, {len(self):,} elements, "
            f"{len(self.commitments)} commitments)"
        )


def contradiction(
    message: VectorMessage, blobs: Sequence[bytes]
) -> tuple[ChunkProof | None, PointProof] | None:
    """Find an element that is one thing under the data root and another in the committed blobs.

    Parameters
    ----------
    message : VectorMessage
        A vector that is the one under the root on chain.
    blobs : sequence of bytes
        The blobs behind the commitments on chain, as their sender made them public.

    Returns
    -------
    tuple or None
        Both openings, for a judge; None when all agree. Behind the last chunk the vector has no leaf and the
        blob must be zero, so there the point proof stands alone.
    """
    own = message.blobs
    if len(own) != len(blobs):
        raise ProtocolError(
            f"got {len(blobs)} blobs for a vector of {len(own)}", hint="Pass all blobs of the commitments."
        )
    for number, (mine, theirs) in enumerate(zip(own, blobs, strict=True)):
        for at in range(0, len(mine), WORD_BYTES) if mine != theirs else ():
            if mine[at : at + WORD_BYTES] != theirs[at : at + WORD_BYTES]:
                element = BLOB_ELEMENTS * number + at // WORD_BYTES
                in_vector = element < -(-len(message) // CHUNK_ELEMENTS) * CHUNK_ELEMENTS
                chunk = message.chunk_proof(element) if in_vector else None
                return chunk, PointProof.of(blobs, element)
    return None


def _compressed(point: bytes) -> bytes:
    try:
        return compress(point)
    except DataError:
        return b""  # equals no commitment


def _check_counts(elements: int, commitments: int) -> None:
    if not 1 <= elements <= MAX_ELEMENTS:
        raise _refuse(f"VectorMessage: {elements:,} elements, expected 1 to {MAX_ELEMENTS:,}")
    needed = -(-elements // BLOB_ELEMENTS)
    if commitments not in (0, needed):
        raise _refuse(
            f"VectorMessage: {commitments} commitments for {elements:,} elements, expected {needed} or none"
        )
