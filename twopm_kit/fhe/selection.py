"""Choose, rename and put side by side the columns of encrypted frames."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from twopm_kit.errors import CiphertextError
from twopm_kit.fhe.columns import fold, same_key, unfold, ungroup

if TYPE_CHECKING:
    from twopm_kit.fhe.frames import EncryptedFrame

__all__ = ["chosen", "renamed", "side_by_side", "spelled"]


def spelled(frame: "EncryptedFrame", names: object, doing: str) -> list[str]:
    """Names of encrypted columns; the name of a categorical column stands for all of its categories.

    Raises
    ------
    CiphertextError
        None, one that the frame does not have, or one twice.
    """
    given = names if isinstance(names, Iterable) and not isinstance(names, str) else (names,)
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


def renamed(frame: "EncryptedFrame", names: Sequence[str] | Mapping[str, str]) -> "EncryptedFrame":
    """Frame with other column names: one for each, or a mapping of old names to new ones."""
    old = frame.columns
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
            f"{len(new)} names were passed for {len(old)} columns",
            hint="pass one different name for each column",
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
        mine, theirs = ((f.n_rows, f.profile, f.packing, f.layout, f.size) for f in (first, other))
        if mine != theirs or first.layout.kind == "blocks":
            raise CiphertextError(
                f"putting frames side by side: {mine[0]} rows ({mine[2]}) in {mine[3].kind} and {theirs[0]} "
                f"rows ({theirs[2]}) in {theirs[3].kind}; rows, profile and packing must agree, in columns",
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


def _members(frame: "EncryptedFrame") -> dict[str, list[str]]:
    """Names of the indicator columns of each categorical column."""
    return {group: [f"{group}={value}" for value in values] for group, values in frame.categories.items()}
