"""Where values sit: columns for many rows, blocks for an answer without delay, sums for one number."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from twopm_kit.errors import CiphertextError

__all__ = ["COLUMNS", "SUMS", "Layout", "gather", "n_blocks", "spread"]

_KINDS: Final = ("columns", "blocks", "sums")


@dataclass(frozen=True, slots=True)
class Layout:
    """One family: ``slot = feature · samples + sample``.

    Parameters
    ----------
    kind : str
        "columns": one feature a ciphertext, as many rows as there are slots. "blocks": all features of
        ``samples`` rows in one ciphertext, the width padded to a power of two and the whole repeated until
        all slots are filled, so that rotations turn in a circle. "sums": one number a ciphertext, in its
        constant coefficient.
    samples : int
        Rows that a ciphertext of blocks holds, a power of two; 0 otherwise.
    """

    kind: str
    samples: int = 0

    def __post_init__(self) -> None:
        whole = type(self.samples) is int
        power = whole and self.samples > 0 and self.samples & (self.samples - 1) == 0
        if not whole or self.kind not in _KINDS or power != (self.kind == "blocks"):
            raise CiphertextError(
                f"layout {self.kind!r} with {self.samples!r} samples is unknown",
                hint="use COLUMNS, or Layout.blocks(samples) with a power of two",
            )

    @classmethod
    def blocks(cls, samples: int = 1) -> "Layout":
        """All features of ``samples`` rows (a power of two) in one ciphertext."""
        return cls("blocks", samples)

    def rows(self, slots: int, packing: str) -> int:
        """Rows that a ciphertext holds."""
        if self.kind == "columns":
            return slots * (2 if packing == "complex" else 1)
        return self.samples or 1

    def check(self, width: int, slots: int, packing: str) -> None:
        """Refuse a table that is too wide for the blocks, or packed as only columns can be.

        Raises
        ------
        CiphertextError
            Names width and slots.
        """
        if self.kind == "blocks" and padded(width) * self.samples > slots:
            raise CiphertextError(
                f"{width} columns × {self.samples} rows do not fit into the {slots} slots of a ciphertext",
                hint=f"use Layout.blocks(samples={max(slots // padded(width), 1)}) or fewer, or columns",
            )
        if packing not in ("real", "complex") or (packing == "complex" and self.kind != "columns"):
            raise CiphertextError(
                f"packing {packing!r} is unknown for layout {self.kind!r}",
                hint="use 'real', or 'complex' with columns",
            )


COLUMNS: Final = Layout("columns")
SUMS: Final = Layout("sums")


def padded(width: int) -> int:
    """Next power of two."""
    return 1 << max(width - 1, 0).bit_length()


def n_blocks(layout: Layout, rows: int, slots: int, packing: str) -> int:
    """Ciphertexts that a column needs (in blocks: that all columns together need)."""
    return -(-rows // layout.rows(slots, packing))


def spread(
    values: npt.NDArray[np.float64], layout: Layout, slots: int, packing: str
) -> Iterator[list[npt.NDArray[np.float64] | npt.NDArray[np.complex128]]]:
    """Slot vectors of a table, column by column (blocks: once for all columns), padded with zeros.

    Parameters
    ----------
    values : ndarray of float64, shape (n, d)
        Rows.
    layout : Layout
        Columns or blocks.
    slots : int
        Slots of a ciphertext.
    packing : str
        "complex" puts row i into the real and row i + slots into the imaginary part of slot i.
    """
    rows, width = values.shape
    per = layout.rows(slots, packing)
    blocks = n_blocks(layout, rows, slots, packing)
    if layout.kind == "blocks":
        room = np.zeros((blocks, per, padded(width)))
        room.reshape(blocks * per, -1)[:rows, :width] = values
        flat = room.transpose(0, 2, 1).reshape(blocks, -1)
        yield list(np.tile(flat, (1, slots // flat.shape[1])))
        return
    for j in range(width):
        column = np.zeros(blocks * per)
        column[:rows] = values[:, j]
        if packing == "complex":
            halves = column.reshape(blocks, 2, slots)
            yield list(halves[:, 0] + 1j * halves[:, 1])
        else:
            yield list(column.reshape(blocks, slots))


def gather(
    slots: list[npt.NDArray[np.complex128]], layout: Layout, rows: int, width: int, packing: str
) -> npt.NDArray[np.float64]:
    """Rows back from the slot vectors of one column (blocks: of all columns), shape (n, 1) or (n, d)."""
    if layout.kind == "blocks":
        per, wide = layout.samples, padded(width)
        found = np.stack([vector.real[: wide * per].reshape(wide, per).T for vector in slots])
        return found.reshape(-1, wide)[:rows, :width]
    parts = [part for v in slots for part in ((v.real, v.imag) if packing == "complex" else (v.real,))]
    return np.concatenate(parts)[:rows, None]
