"""Choose, rename and put side by side the columns of encrypted frames."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from twopm_kit.errors import CiphertextError
from twopm_kit.fhe.columns import fold, same_key, unfold, ungroup
from twopm_kit.fhe.container import MAX_NAME

if TYPE_CHECKING:
    from twopm_kit.fhe.frames import EncryptedFrame

__all__ = ["chosen", "differences", "renamed", "side_by_side", "spelled"]


def spelled(frame: "EncryptedFrame", names: object, doing: str) -> list[str]:
    """Names of encrypted columns; the name of a categorical column stands for all of its categories.

    Raises
    ------
    CiphertextError
        None, one that the frame does not have, or one twice.
    """
    given = names if isinstance(names, Iterable) and not isinstance(names, str | bytes) else (names,)
    if _are_rows(names) or (
        isinstance(names, tuple) and any(_are_rows(n) or isinstance(n, np.ndarray) for n in names)
    ):
        raise CiphertextError(
            f"rows of an encrypted frame were asked for, by {_told(names)}; only columns can be chosen",
            hint="choose rows before encrypting, or columns by name: enc[['a', 'b']]",
        )
    wanted = [str(name) for name in given]
    members = _members(frame)
    known = {name: [name] for name in frame.columns} | members
    missing = [name for name in wanted if name not in known]
    found = [one for name in wanted if name in known for one in known[name]]
    if missing or not wanted or len(set(found)) != len(found):
        raise CiphertextError(
            f"columns {wanted[:20]!r} were asked for{doing}"
            + (f"; not here: {', '.join(missing[:20])}" if missing else ""),
            hint=f"ask for one or more different columns of: {', '.join(frame.columns[:20])}",
        )
    return found


def chosen(frame: "EncryptedFrame", names: list[str]) -> "EncryptedFrame":
    """Frame of some columns; what is left of a categorical column that loses categories are truth values."""
    if frame.layout.kind == "blocks" and names != frame.columns:
        raise CiphertextError(
            f"{len(names)} of {len(frame.columns)} columns were asked for; in blocks all columns share their "
            "ciphertexts",
            hint="encrypt in columns, the default layout, to take some of them",
        )
    if names == frame.columns:
        return frame
    by_name = {column.head.name: column for column in frame.stored}
    return frame.with_columns(ungroup((by_name[name] for name in names), _members(frame)))


def renamed(
    frame: "EncryptedFrame", names: Sequence[str] | Mapping[str, str] | Callable[[str], str]
) -> "EncryptedFrame":
    """Frame with other column names: one for each, a mapping of old names to new ones, or a function."""
    old = frame.columns
    if callable(names):
        names = [names(name) for name in old]
    if not isinstance(names, Iterable):
        raise CiphertextError(
            f"an object of type {type(names).__name__} was passed to rename columns",
            hint="pass one name for each column, a mapping of old names to new ones, or a function",
        )
    if isinstance(names, Mapping):
        missing = [str(name) for name in names if name not in old]
        if missing:
            raise CiphertextError(
                f"names for {', '.join(missing[:8])} were passed, which the frame does not have",
                hint=f"rename columns of: {', '.join(old[:20])}",
            )
        names = [names.get(name, name) for name in old]
    new = [str(name) for name in names]
    if isinstance(names, str) or len(new) != len(old) or len(set(new)) != len(new):
        raise CiphertextError(
            f"{len(new)} names ({len(set(new))} different) were passed for {len(old)} columns",
            hint="pass a sequence with one different name for each column",
        )
    if any(len(name) > MAX_NAME for name in new):
        raise CiphertextError(
            f"a column name is longer than {MAX_NAME} characters, which no container takes",
            hint="shorten the name",
        )
    columns = (column.renamed(name) for column, name in zip(frame.every, new, strict=True))
    return frame.with_columns(fold(unfold(ungroup(columns, _members(frame)))))


def side_by_side(frames: "Sequence[EncryptedFrame]") -> "EncryptedFrame":
    """Columns of one or more frames in one, at the lowest level of all.

    Raises
    ------
    WrongKey
        Under different keys.
    CiphertextError
        Rows, profile, packing or layout differ, or a name comes twice.
    """
    first = frames[0]
    for other in frames[1:]:
        same_key(first.fingerprint, other.fingerprint, "putting frames side by side")
        differ = differences(first, other)
        if differ or first.layout.kind == "blocks":
            raise CiphertextError(
                f"putting frames side by side: {'; '.join(differ) or 'both are in blocks'}; rows, profile, "
                "packing and layout must agree, in columns",
                hint="encrypt the same rows in the same way, in columns",
            )
    names = [name for frame in frames for name in frame.columns]
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise CiphertextError(
            f"columns {', '.join(twice[:8])} come twice", hint="drop or .rename() them on one side"
        )
    level = min(frame.level for frame in frames)
    low = [frame.drop_to(level) for frame in frames]
    joined = low[0].with_columns(fold(unfold(column for frame in low for column in frame.every)))
    joined.source = "frame" if any(frame.source == "frame" for frame in frames) else "array"
    joined.padding = "zeros" if all(frame.padding == "zeros" for frame in frames) else "any"
    joined.evaluator = next((f.evaluator for f in frames if f.evaluator is not None), None)
    return joined


def differences(left: "EncryptedFrame", right: "EncryptedFrame") -> list[str]:
    """Say in what two frames differ that keeps their slots from meeting; column names do not count."""
    facts: dict[str, Callable[[EncryptedFrame], object]] = {
        "rows": lambda f: f"{f.n_rows:,}",
        "profile": lambda f: repr(f.profile),
        "packing": lambda f: repr(f.packing),
        "layout": lambda f: (
            f"{f.layout.samples} rows a block" if f.layout.kind == "blocks" else f.layout.kind
        ),
        "polynomials a ciphertext": lambda f: f.size,
    }
    return [
        f"{name} {fact(left)} and {fact(right)}" for name, fact in facts.items() if fact(left) != fact(right)
    ]


def _are_rows(names: object) -> bool:
    return isinstance(names, slice) or names is Ellipsis or _is_mask(names)


def _told(names: object) -> str:
    if isinstance(names, slice):
        return f"{names.start or ''}:{names.stop or ''}"
    return "a mask" if _is_mask(names) else f"an object of type {type(names).__name__}"


def _is_mask(names: object) -> bool:
    dtype = getattr(names, "dtype", None)
    if dtype is not None:
        return str(dtype) in ("bool", "boolean")
    return isinstance(names, Sequence) and bool(names) and all(isinstance(n, bool | np.bool_) for n in names)


def _members(frame: "EncryptedFrame") -> dict[str, list[str]]:
    """Names of the indicator columns of each categorical column."""
    return {group: [f"{group}={value}" for value in values] for group, values in frame.categories.items()}
