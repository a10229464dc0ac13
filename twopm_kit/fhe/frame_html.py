"""What a server sees of an encrypted frame, as an HTML table that reads well in light and dark."""

import math
from html import escape
from typing import TYPE_CHECKING, Final

from twopm_kit.fhe.columns import Column
from twopm_kit.fhe.tables import CATEGORY

if TYPE_CHECKING:
    from twopm_kit.fhe.frames import EncryptedFrame

__all__ = ["counted", "frame_html"]

_SHOWN: Final = 6
#: Only what inherits: colours are the theme's own.
_NUMBER: Final = "text-align:right;font-variant-numeric:tabular-nums"
_TEXT: Final = "text-align:left"
_HEADINGS: Final = {
    "column": _TEXT,
    "kind": _TEXT,
    "bound": _NUMBER,
    "scale": _NUMBER,
    "bytes": _NUMBER,
    "beginning of the ciphertext": _TEXT,
}
_NOTE: Final = "caption-side:top;text-align:left;color:inherit;padding:0.3em 0"


def counted(number: int, noun: str) -> str:
    """Say how many, with the noun in the singular or the plural."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def frame_html(frame: "EncryptedFrame") -> str:
    """Table of public facts and the first bytes of each column's ciphertexts.

    Parameters
    ----------
    frame : EncryptedFrame
        Any; names in it are escaped.
    """
    columns = frame.stored[:_SHOWN] if frame.layout.kind != "blocks" else frame.stored
    shared = frame.layout.kind == "blocks"
    together = ", ".join(frame.columns[:_SHOWN]) + (", …" if len(frame.columns) > _SHOWN else "")
    rest = 0 if shared else len(frame.columns) - len(columns)
    size = f"{counted(frame.n_rows, 'row')} × {counted(len(frame.columns), 'column')}"
    caption = (
        f"<strong>EncryptedFrame</strong>: {size}, {counted(frame.n_ciphertexts, 'ciphertext')} of "
        f"{frame.nbytes:,} bytes<br>profile {escape(frame.profile)}, layout {frame.layout.kind}, level "
        f"{frame.level}, key {escape(frame.fingerprint[:8])}…<br>This is all that a server sees:"
    )
    head = "".join(f"<th scope='col' style='{style}'>{name}</th>" for name, style in _HEADINGS.items())
    body = "".join(_row(column, together if shared else None) for column in columns)
    more = f"<p>… and {counted(rest, 'more column')}</p>" if rest > 0 else ""
    return (
        f"<table><caption style='{_NOTE}'>{caption}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>{more}"
    )


def _row(column: Column, together: str | None) -> str:
    head = column.head
    chunks = column.chunks + (column.present.chunks if column.present is not None else ())
    size = sum(len(chunk.content()) for chunk in chunks)
    beginning = column.chunks[0].content()[1024:1040].hex(" ")
    return (
        f"<tr><th scope='row' style='{_TEXT}'>{escape(together or head.name)}</th>"
        f"<td style='{_TEXT}'>{escape(_kind(column))}</td>"
        f"<td style='{_NUMBER}'>±{head.bound:g}</td>"
        f"<td style='{_NUMBER}'>2^{math.log2(head.scale):.6g}</td>"
        f"<td style='{_NUMBER}'>{size:,}</td>"
        f"<td style='{_TEXT}'><code>{beginning} …</code></td></tr>"
    )


def _kind(column: Column) -> str:
    kind = column.head.kind
    if kind.startswith(CATEGORY):
        return f"category of {kind.removeprefix(CATEGORY)}"
    return kind if column.present is None else f"{kind}, mask encrypted"
