"""A column of ciphertexts, what kind of values it holds, and the mask that says which of them are there."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from twopm_kit.errors import CiphertextError, WrongKey
from twopm_kit.fhe.container import ColumnHeader
from twopm_kit.fhe.engine import Engine, cipher_bytes
from twopm_kit.fhe.tables import CATEGORY, NUMBERS, PRESENT, present_name

__all__ = ["Chunk", "Column", "computed", "fold", "merged_kind", "same_key", "unfold", "ungroup"]

_AGAIN: Final = "get the file again from where it was made"


class Chunk:
    """One ciphertext, as bytes, as a SEAL object, or both; the missing form is made when it is asked for."""

    __slots__ = ("_bytes", "_cipher")

    def __init__(self, content: bytes | None = None, cipher: Any | None = None) -> None:
        self._bytes = content
        self._cipher = cipher

    def content(self) -> bytes:
        """Serialise; fresh ciphertexts are seeded, half the size of computed ones."""
        if self._bytes is None:
            self._bytes = cipher_bytes(self._cipher)
        return self._bytes

    def cipher(self, engine: Engine, level: int, scale: float, what: str, size: int = 2) -> Any:
        """SEAL object; read from the bytes and checked against level, scale and size on first use."""
        if self._cipher is None:
            self._cipher = engine.load_cipher(self.content(), level=level, scale=scale, what=what, size=size)
        return self._cipher


@dataclass(frozen=True, slots=True, repr=False)
class Column:
    """A column: what everybody may know of it, and its ciphertexts, one for each block of rows.

    Parameters
    ----------
    head : ColumnHeader
        Public facts.
    chunks : tuple of Chunk
        Ciphertexts; where a value is missing, a slot holds 0.
    present : Column, optional
        Mask: 1 where there is a value, 0 where it is missing. Without it no value is missing.
    """

    head: ColumnHeader
    chunks: tuple[Chunk, ...]
    present: "Column | None" = None

    def renamed(self, name: str) -> "Column":
        """Give column and mask another name."""
        if self.present is None:
            return replace(self, head=replace(self.head, name=name))
        mask = replace(self.present.head, name=present_name(name), kind=PRESENT + name)
        return Column(replace(self.head, name=name), self.chunks, replace(self.present, head=mask))


def computed(head: ColumnHeader, ciphers: Iterable[Any]) -> Column:
    """Column of SEAL ciphertexts."""
    return Column(head, tuple(Chunk(cipher=cipher) for cipher in ciphers))


def unfold(columns: Iterable[Column]) -> Iterator[Column]:
    """Every column, each mask as a column of its own behind the one that it belongs to."""
    for column in columns:
        yield replace(column, present=None)
        if column.present is not None:
            yield column.present


def fold(columns: Iterable[Column]) -> tuple[Column, ...]:
    """Put masks where they belong, the inverse of `unfold`.

    Raises
    ------
    CiphertextError
        A mask without its column, or the categories of a column that are scattered or misnamed.
    """
    folded: list[Column] = []
    groups: list[str] = []
    for column in columns:
        name, kind = column.head.name, column.head.kind
        if kind.startswith(PRESENT):
            owner = folded[-1] if folded else None
            if (
                owner is None
                or owner.present is not None
                or owner.head.kind not in NUMBERS
                or (kind, name) != (PRESENT + owner.head.name, present_name(owner.head.name))
            ):
                raise CiphertextError(f"the mask {name!r} does not follow its column", hint=_AGAIN)
            folded[-1] = replace(owner, present=column)
            continue
        if kind.startswith(CATEGORY):
            group = kind.removeprefix(CATEGORY)
            again = group in groups and folded[-1].head.kind != kind
            if again or not name.startswith(group + "="):
                raise CiphertextError(f"column {name!r} is not in its place among {group!r}", hint=_AGAIN)
            groups.append(group)
        folded.append(column)
    both = set(groups) & {column.head.name for column in folded}
    if both:
        raise CiphertextError(f"{min(both)!r} is a column and has categories as well", hint=_AGAIN)
    return tuple(folded)


def ungroup(columns: Iterable[Column], full: dict[str, list[str]]) -> Iterator[Column]:
    """Make truth values of categories that have lost some of their group.

    Parameters
    ----------
    columns : iterable of Column
        What is left.
    full : dict
        Names of all indicator columns of each categorical column.
    """
    kept = tuple(columns)
    for column in kept:
        group = column.head.kind.removeprefix(CATEGORY)
        names = [c.head.name for c in kept if c.head.kind == column.head.kind]
        if column.head.kind.startswith(CATEGORY) and names != full[group]:
            yield replace(column, head=replace(column.head, kind="bool"))
        else:
            yield column


def merged_kind(left: str, right: str) -> str:
    """Kind of the sum or product of two columns."""
    return "float" if "float" in (left, right) else "int"


def same_key(left: str, right: str, doing: str) -> None:
    """Refuse to bring two keys together.

    Raises
    ------
    WrongKey
        Names both fingerprints: SEAL itself would go on and return garbage.
    """
    if left != right:
        raise WrongKey(
            f"{doing}: one side is under key {left}, the other under key {right}",
            hint="use the key holder that encrypted the frame; frames can only meet under one key",
        )
