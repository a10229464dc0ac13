"""Results as files: the task's archive, the model as safetensors, the story as canonical JSON."""

import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

from eth_hash.auto import keccak

from twopm_kit.errors import StoreError, TaskError
from twopm_kit.federated.archive import TaskArchive
from twopm_kit.federated.result import FederatedResult, RunRecord
from twopm_kit.federated.values import canonical, decode, encode, pack_arrays, parse, unpack_arrays

__all__ = ["load_result", "pack_result", "save_result", "unpack_result"]

_MAGIC: Final = b"2PM.rslt"
_VERSION: Final = 1
_FRONT: Final = struct.Struct("<8sB3Q32s")
_MOST: Final = 1 << 30

_DAMAGED: Final = "save the result again, or fetch it again"


def pack_result(result: FederatedResult) -> bytes:
    """Return a result as bytes: ``magic 8 | version 1 | 3 lengths u64 | hash 32 | task | model | story``.

    The hash, keccak256 of what follows it, tells of damage; it does not say who wrote the file.

    Raises
    ------
    TaskError
        If the result's task cannot be archived.
    """
    if not isinstance(result, FederatedResult):
        raise TaskError(f"{result!r} is no result", hint="pass what network.run(task) returned")
    sections = (
        result.task.archive(),
        pack_arrays(result.state),
        canonical(encode(result.record, "the story", {})),
    )
    body = b"".join(sections)
    return _FRONT.pack(_MAGIC, _VERSION, *map(len, sections), keccak(body)) + body


def unpack_result(data: bytes, *, approved: bytes | None = None) -> FederatedResult:
    """Return a result from its bytes, which may come from anybody.

    Parameters
    ----------
    data : bytes
        What `pack_result` returned.
    approved : bytes, optional
        Code hash of its task, as for ``TaskArchive.load``.

    Raises
    ------
    TaskError
        If they are damaged, or the task's code was not approved.
    """
    if not isinstance(data, bytes) or len(data) < _FRONT.size or data[: len(_MAGIC)] != _MAGIC:
        raise TaskError("these bytes are no result", hint="pass what was saved from a result")
    _, version, *sizes, digest = _FRONT.unpack_from(data)
    if version != _VERSION or sum(sizes) + _FRONT.size != len(data):
        raise TaskError(
            f"the result has format version {version} and {len(data)} bytes, which do not fit", hint=_DAMAGED
        )
    if keccak(data[_FRONT.size :]) != digest:
        raise TaskError("the result is not as it was saved: its hash is another one", hint=_DAMAGED)
    first, second = _FRONT.size + sizes[0], _FRONT.size + sizes[0] + sizes[1]
    archive = TaskArchive.from_bytes(data[_FRONT.size : first])
    state = unpack_arrays(data[first:second], "the model")
    record = decode(parse(data[second:], "the story"), {})
    if not isinstance(record, RunRecord):
        raise TaskError("the result tells no story of a run", hint=_DAMAGED)
    task = archive.load(approved=approved)
    # A result may leave out what only training needed, such as a strategy's memory.
    if not state or not state.keys() <= task.genesis().keys():
        raise TaskError(f"the model of {task.name!r} has the arrays {list(state)}", hint=_DAMAGED)
    return task.result(state, record)


def save_result(result: FederatedResult, path: str | Path) -> Path:
    """Write a result to a file, whole or not at all; returns its path.

    Raises
    ------
    StoreError
        If no file can be written there.
    TaskError
        If the result's task cannot be archived.
    """
    content, target = pack_result(result), _path(path)
    if not target.name or target.is_dir():
        raise StoreError(f"{str(path)!r} is a folder", hint="name a file in it, such as result.2pm")
    partial = target.with_name(f".{target.name}.{os.urandom(8).hex()}")
    try:
        partial.write_bytes(content)
        partial.replace(target)
    except OSError as fault:
        raise StoreError(
            f"{target.name} cannot be written: {fault.strerror}",
            hint="make its folder first, and see that there is room and that you may write there",
        ) from fault
    finally:
        with suppress(OSError):  # a folder that cannot be written to holds no partial file either
            partial.unlink(missing_ok=True)
    return target


def _path(path: str | Path) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise StoreError(f"the path is {path!r}", hint="pass the path of a file as a text")
    return Path(path)


def load_result(path: str | Path, *, approved: bytes | None = None) -> FederatedResult:
    """Read a result that `save_result` wrote.

    Raises
    ------
    StoreError
        If there is no such file, or it is too large to be one.
    TaskError
        As for `unpack_result`.
    """
    source = _path(path)
    if not source.is_file() or source.stat().st_size > _MOST:
        raise StoreError(f"{source.name} is no file of a result", hint="pass the path that it was saved to")
    return unpack_result(source.read_bytes(), approved=approved)
