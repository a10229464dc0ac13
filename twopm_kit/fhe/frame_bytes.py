"""An encrypted frame as a ``.ct`` container, and what has to hold before a container becomes a frame."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from twopm_kit.errors import CiphertextError
from twopm_kit.fhe.columns import Chunk, Column, fold, unfold
from twopm_kit.fhe.container import FrameHeader, pack
from twopm_kit.fhe.engine import Engine, engine_for
from twopm_kit.fhe.layouts import Layout, n_blocks
from twopm_kit.fhe.profiles import PROFILES
from twopm_kit.fhe.tables import PRESENT

if TYPE_CHECKING:
    from twopm_kit.fhe.frames import EncryptedFrame

__all__ = ["blocks_of", "columns_of", "container_of"]

_AGAIN: Final = "get the file again from where it was made"


def container_of(frame: "EncryptedFrame") -> bytes:
    """Container bytes of a frame: masks are columns of their own in it."""
    header = FrameHeader(
        profile=frame.profile,
        params=frame.engine.params_hash,
        fingerprint=frame.fingerprint,
        packing=frame.packing,
        source=frame.source,
        rows=frame.n_rows,
        level=frame.level,
        columns=frame.unfolded().heads,
        layout=frame.layout.kind,
        samples=frame.layout.samples,
        size=frame.size,
        padding=frame.padding,
    )
    blocks = zip(*(column.chunks for column in unfold(frame.stored)), strict=True)
    return pack(header, (chunk.content() for block in blocks for chunk in block))


def columns_of(header: FrameHeader, chunks: list[bytes]) -> tuple[Engine, tuple[Column, ...]]:
    """Engine and columns of a container of anybody; the ciphertexts themselves are not looked at yet.

    Raises
    ------
    CiphertextError
        Parameters that this kit does not have, or a header that contradicts itself or the number of chunks.
    """
    engine = _engine(header)
    layout = Layout(header.layout, header.samples)
    layout.check(len(header.columns), engine.slots, header.packing)
    together = layout.kind == "blocks"
    stored = _stored(header, engine, len(chunks))
    if together:
        _check_blocks(header)
    if (layout.kind == "sums" and header.rows != 1) or (header.size != 2 and layout.kind != "sums"):
        raise CiphertextError(
            f"{header.rows} rows of size {header.size} in layout {layout.kind!r}", hint=_AGAIN
        )
    made = [Chunk(content) for content in chunks]
    return engine, fold(
        Column(head, tuple(made if together else made[j::stored])) for j, head in enumerate(header.columns)
    )


def blocks_of(header: FrameHeader, count: int) -> Iterator[tuple[int, range]]:
    """Rows of each block of a container with ``count`` chunks, and the numbers of its chunks.

    Raises
    ------
    CiphertextError
        As `columns_of`.
    """
    engine = _engine(header)
    stored = _stored(header, engine, count)
    per = Layout(header.layout, header.samples).rows(engine.slots, header.packing)
    for block, start in enumerate(range(0, header.rows, per)):
        yield min(per, header.rows - start), range(block * stored, (block + 1) * stored)


def _stored(header: FrameHeader, engine: Engine, count: int) -> int:
    """Ciphertexts of a block of rows, when the container has as many as its rows and columns need."""
    layout = Layout(header.layout, header.samples)
    blocks = n_blocks(layout, header.rows, engine.slots, header.packing)
    stored = 1 if layout.kind == "blocks" else len(header.columns)
    if count != blocks * stored or header.level > engine.profile.levels:
        raise CiphertextError(
            f"the container holds {count} ciphertexts at level {header.level}; {header.rows} rows × "
            f"{len(header.columns)} columns need {blocks * stored}, at most at level {engine.profile.levels}",
            hint=_AGAIN,
        )
    return stored


def _engine(header: FrameHeader) -> Engine:
    if header.profile not in PROFILES:
        raise CiphertextError(
            f"the container uses the profile {header.profile!r}, which this kit does not have",
            hint=f"use one of: {', '.join(PROFILES)}",
        )
    engine = engine_for(header.profile)
    if engine.params_hash != header.params:
        raise CiphertextError(
            f"the container's parameters are {header.params[:16]}…; profile {header.profile!r} has "
            f"{engine.params_hash[:16]}…",
            hint="write it again with this version of the kit",
        )
    return engine


def _check_blocks(header: FrameHeader) -> None:
    first = header.columns[0]
    if any(replace(head, name=first.name, kind=first.kind) != first for head in header.columns):
        raise CiphertextError("the columns of a block differ in bound, scale or noise", hint=_AGAIN)
    if any(head.kind.startswith(PRESENT) for head in header.columns):
        raise CiphertextError("a block has a mask, which blocks cannot have", hint=_AGAIN)
