"""Shows one message in a notebook as html with a text fallback, and in a terminal as text."""

import sys
from collections.abc import Mapping
from typing import Any


def shell() -> Any | None:
    """Return the running IPython shell, or None outside IPython, without importing IPython for it."""
    module = sys.modules.get("IPython")
    return module.get_ipython() if module is not None else None


def publish(data: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> bool:
    """Publish a mime bundle to the running notebook; return False when there is none."""
    if shell() is None:
        return False
    from IPython.display import publish_display_data

    publish_display_data(dict(data), dict(metadata or {}))  # type: ignore[no-untyped-call]
    return True


def show(text: str, html: str) -> None:
    """Show ``html`` where it can be shown, otherwise print ``text``."""
    if not publish({"text/plain": text, "text/html": html}):
        sys.stdout.write(text + "\n")


def note(sign: str, colour: str, body: str) -> str:
    """Return the html of a framed note; ``body`` must already be escaped.

    The sign says the same as the colour, so that nothing depends on seeing colours. Only the line at the side
    is coloured: no one colour of text can be read on white and on black.
    """
    return (
        f'<div role="note" style="border-left:4px solid {colour};padding:.4em .8em;margin:.3em 0;'
        f'line-height:1.4"><strong>{sign}</strong> {body}</div>'
    )
