"""Proofs as bytes: fixed fields in one order, points compressed."""

from collections.abc import Sequence

from twopm_kit import kzg
from twopm_kit.errors import DataError, ProofRefused

__all__ = ["Reader", "Writer"]


class Writer:
    """Puts fields one after another, behind a mark."""

    def __init__(self, magic: bytes) -> None:
        self._parts = [magic]

    def number(self, value: int, size: int, *, signed: bool = False) -> None:
        """Add a big-endian whole number."""
        self._parts.append(value.to_bytes(size, "big", signed=signed))

    def points(self, points: Sequence[bytes]) -> None:
        """Add points, 48 bytes each."""
        self._parts += [kzg.compress(point) for point in points]

    def elements(self, values: Sequence[int]) -> None:
        """Add field elements, 32 bytes each."""
        self._parts += [value.to_bytes(32, "big") for value in values]

    def finish(self, last: bytes) -> bytes:
        """Add the last field, and give all bytes."""
        return b"".join([*self._parts, last])


class Reader:
    """Takes fields off bytes that may be hostile.

    Raises
    ------
    ProofRefused
        If they do not begin with the mark, end too early or too late, or hold what a writer never writes.
    """

    def __init__(self, content: bytes, magic: bytes) -> None:
        self._content, self._at = content, 0
        if not isinstance(content, bytes):
            raise _damaged(f"a {type(content).__name__} was passed")
        if self._take(len(magic)) != magic:
            raise _damaged("they do not begin with its mark")

    def _take(self, size: int) -> bytes:
        part = self._content[self._at : self._at + size]
        self._at += size
        if len(part) != size:
            raise _damaged("they are cut short")
        return part

    def number(self, size: int, *, signed: bool = False) -> int:
        """Take a big-endian whole number."""
        return int.from_bytes(self._take(size), "big", signed=signed)

    def points(self, count: int) -> list[bytes]:
        """Take points; whether they are in the group is checked where they are used."""
        try:
            return [kzg.uncompress(self._take(48)) for _ in range(count)]
        except DataError:
            raise _damaged("a point is none of the curve") from None

    def elements(self, count: int) -> tuple[int, ...]:
        """Take field elements."""
        values = tuple(self.number(32) for _ in range(count))
        if any(value >= kzg.MODULUS for value in values):
            raise _damaged("an element is not below r")
        return values

    def finish(self, size: int) -> bytes:
        """Take the last field, and refuse anything behind it."""
        last = self._take(size)
        if self._at != len(self._content):
            raise _damaged("something follows it")
        return last


def _damaged(why: str) -> ProofRefused:
    return ProofRefused(f"these bytes are no proof: {why}", hint="ask its prover to send it again")
