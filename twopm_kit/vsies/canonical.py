"""Canonical JSON: one text for one content, so that a hash names it; read back as hostile input."""

import json
from typing import Any, Final

from twopm_kit.errors import DataError, SchemaError
from twopm_kit.untrusted import load_json

__all__ = ["MAX_TEXT", "dumps", "loads"]

#: Longest canonical text in characters.
MAX_TEXT: Final = 1 << 20


def dumps(body: dict[str, Any], what: str, limit: int = MAX_TEXT) -> str:
    """Return sorted keys, no spaces, ASCII only, floats by their shortest exact form (``repr``).

    Raises
    ------
    SchemaError
        The text is longer than ``limit`` characters, or holds a number that is not finite.
    """
    try:
        text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    except ValueError:
        raise SchemaError(f"the {what} has a number that is not finite", hint="use finite numbers") from None
    if len(text) > limit:
        raise SchemaError(
            f"the {what} takes {len(text):,} characters as JSON; the limit is {limit:,}",
            hint="shorten descriptions, or list fewer categories",
        )
    return text


def loads(text: str | bytes, what: str, form: str, keys: frozenset[str], limit: int = MAX_TEXT) -> Any:
    """Return the object in a text from anybody: of exactly these keys and this format.

    The caller builds its object from it, and refuses a text that is not the object's canonical form.

    Raises
    ------
    SchemaError
        Not text, too long, not JSON, other keys, or another format.
    """
    if not isinstance(text, str | bytes) or len(text) > limit or not text.isascii():
        size = f"{len(text):,} characters" if isinstance(text, str | bytes) else type(text).__name__
        raise SchemaError(
            f"this is not a {what}: {size}; expected at most {limit:,} characters of ASCII text",
            hint=f"pass what the {what}'s to_json() returned",
        )
    try:
        body = load_json(text.encode() if isinstance(text, str) else text)
    except DataError as error:
        raise SchemaError(f"this is not a {what}: {error.message}", hint=error.hint) from None
    if not isinstance(body, dict) or set(body) != keys or body["format"] != form:
        raise SchemaError(
            f"this is not a {what}: it does not have exactly the keys {', '.join(sorted(keys))}, "
            f"or its format is not {form!r}",
            hint=f"pass what the {what}'s to_json() returned",
        )
    return body
