"""Values and models as canonical bytes: JSON that has one form only, and arrays as safetensors."""

import inspect
import json
import math
import re
import struct
import sys
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from importlib import import_module
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from twopm_kit.errors import DataError, TaskError
from twopm_kit.untrusted import load_json

__all__ = ["Recorded", "canonical", "decode", "encode", "pack_arrays", "parse", "recorded", "unpack_arrays"]

_DTYPES: Final = frozenset(
    {"bool", "float16", "float32", "float64"}
    | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)
_ROOMS: Final = ("federated", "secagg")
_PLAIN: Final = (type(None), bool, int, float, str)
_NUMBER: Final = re.compile(r"nan|-?inf")
_DEEPEST: Final = 56  # brackets in brackets; readers refuse 64
_WIDEST: Final = 256  # bits of a whole number
_MOST_HEADER: Final = 1 << 22
_METADATA: Final = "__metadata__"

_DAMAGED: Final = "fetch it again, and from whoever the chain's hashes name"


@dataclass(frozen=True)
class Recorded:
    """What a task was made from, in a form that nobody can change afterwards.

    Attributes
    ----------
    arguments : dict
        Constructor arguments by name, as `encode` writes them.
    arrays : dict of ndarray
        Arrays and tensors among them.
    fault : TaskError or None
        Why an argument has no such form.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    fault: TaskError | None = None

    def demand(self) -> "Recorded":
        """Return itself, or raise what kept an argument from being recorded."""
        if self.fault is not None:
            raise TaskError(self.fault.message, hint=self.fault.hint)
        return self


def recorded(cls: type, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Recorded:
    """Record constructor arguments; a fault is kept for the moment at which somebody needs them."""
    arrays: dict[str, NDArray[Any]] = {}
    try:
        bound = _signature(cls).bind(*args, **kwargs)
    except TypeError as fault:  # the constructor itself is about to say so
        return Recorded(fault=TaskError(f"{cls.__name__}: {fault}", hint="pass what its constructor takes"))
    named = dict(bound.arguments)
    for parameter in bound.signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD and parameter.name in named:
            # Keywords have no order that means anything.
            named[parameter.name] = dict(sorted(named[parameter.name].items()))
    try:
        found = {name: encode(value, name, arrays) for name, value in named.items()}
    except TaskError as fault:
        return Recorded(fault=fault)
    return Recorded(found, arrays)


def arguments_for(cls: type, named: Mapping[str, Any]) -> inspect.BoundArguments:
    """Return decoded arguments in the form in which the constructor takes them.

    Raises
    ------
    TaskError
        If the constructor has no such parameters.
    """
    signature = _signature(cls)
    kinds = {p.name: p.kind for p in signature.parameters.values()}
    wrong = sorted(set(named) - set(kinds))
    for name, value in named.items():
        kind = kinds.get(name)
        if (kind is inspect.Parameter.VAR_POSITIONAL and not isinstance(value, tuple)) or (
            kind is inspect.Parameter.VAR_KEYWORD
            and not (isinstance(value, dict) and all(isinstance(key, str) for key in value))
        ):
            wrong.append(name)
    if wrong:
        raise TaskError(
            f"the archive gives {cls.__name__} the arguments {wrong}, which its constructor does not take",
            hint=_DAMAGED,
        )
    return inspect.BoundArguments(
        signature, OrderedDict((name, named[name]) for name in kinds if name in named)
    )


def _signature(cls: type) -> inspect.Signature:
    """Return what the constructor takes, without ``self`` (``Task.__new__`` would hide it)."""
    signature = inspect.signature(cls.__init__)  # type: ignore[misc]
    return signature.replace(parameters=list(signature.parameters.values())[1:])


# Values ---------------------------------------------------------------------------------------------------


def canonical(value: Any) -> bytes:
    """Return JSON in its one form: keys sorted, no spaces, ASCII.

    Raises
    ------
    TaskError
        If a value has no JSON form.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as fault:
        raise TaskError(
            f"a setting of the task has no JSON form: {fault}", hint="use numbers, texts, lists and None"
        ) from None


def parse(content: bytes, what: str) -> Any:
    """Return what canonical JSON says.

    Raises
    ------
    TaskError
        If it is not JSON, or not in its one form.
    """
    try:
        value = load_json(content)
        same = canonical(value) == content
    except (DataError, TaskError):
        same = False
    if not same:
        raise TaskError(f"{what} of the archive cannot be read: not canonical JSON", hint=_DAMAGED)
    return value


def encode(value: Any, path: str, arrays: dict[str, NDArray[Any]], depth: int = 0) -> Any:
    """Return a value as JSON, with what JSON lacks in objects of one tag; arrays go into ``arrays``.

    Taken are None, bool, int, float, str, lists, tuples, dicts, NumPy scalars and arrays, pandas indexes (as
    lists), torch tensors, and the kit's own frozen dataclasses, such as ``Criteria`` and strategies.

    Raises
    ------
    TaskError
        For anything else; the message names the path to it.
    """
    if depth > _DEEPEST:
        raise TaskError(f"an argument is nested too deep, at {path[:40]}…", hint="pass flatter arguments")
    kind = type(value)
    if kind is float and not math.isfinite(value):
        return {"float": str(value)}
    if kind is int and value.bit_length() > _WIDEST:
        raise TaskError(f"{path} has more than {_WIDEST} bits", hint="pass a smaller number")
    if kind in _PLAIN:
        return value
    if isinstance(value, np.generic) and value.dtype.kind in "biufU" and value.dtype.itemsize != 16:
        return encode(value.item(), path, arrays, depth)
    if kind is list or isinstance(value, pd.Index):
        return [encode(v, f"{path}[{i}]", arrays, depth + 1) for i, v in enumerate(value)]
    if kind is tuple:
        return {"tuple": [encode(v, f"{path}[{i}]", arrays, depth + 2) for i, v in enumerate(value)]}
    if kind is dict:
        pairs = [
            [encode(k, f"a key of {path}", arrays, depth + 3), encode(v, f"{path}[{k!r}]", arrays, depth + 3)]
            for k, v in value.items()
        ]
        return {"dict": pairs}
    if kind is np.ndarray:
        return {"array": _keep(value.copy(), path, arrays)}
    torch = sys.modules.get("torch")
    if torch is not None and kind is torch.Tensor:
        return {"tensor": _keep(_from_torch(value, path), path, arrays)}
    if (name := _public_name(kind)) is not None:
        parts = {
            f.name: encode(getattr(value, f.name), f"{path}.{f.name}", arrays, depth + 2)
            for f in fields(value)
            if f.init
        }
        return {"kit": name, "fields": parts}
    raise TaskError(
        f"{path} is a {kind.__module__}.{kind.__qualname__}, which has no form that could travel",
        hint="pass numbers, texts, lists, arrays or the kit's own settings, and make the rest in __init__",
    )


def decode(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """Return what `encode` was given. The value is hostile until this returns.

    Raises
    ------
    TaskError
        If it is nothing that `encode` writes.
    """
    if isinstance(value, list):
        return [decode(v, arrays) for v in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"float": str(text), **rest} if not rest and _NUMBER.fullmatch(text):
            return float(text)
        case {"tuple": list(items), **rest} if not rest:
            return tuple(decode(v, arrays) for v in items)
        case {"dict": list(pairs), **rest} if not rest:
            if all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
                keys = [decode(key, arrays) for key, _ in pairs]
                if all(isinstance(key, (*_PLAIN, tuple)) for key in keys) and _hashable(keys):
                    return dict(zip(keys, (decode(v, arrays) for _, v in pairs), strict=True))
        case {"array": str(name), **rest} if not rest and name in arrays:
            return arrays[name].copy()
        case {"tensor": str(name), **rest} if not rest and name in arrays:
            import torch  # only tasks that hold tensors need torch

            return torch.from_numpy(arrays[name].copy())
        case {"kit": str(name), "fields": dict(parts), **rest} if not rest:
            return _made(name, {key: decode(v, arrays) for key, v in parts.items()})
    raise TaskError(f"an argument has the unknown form {sorted(value)}", hint=_DAMAGED)


def _hashable(keys: list[Any]) -> bool:
    try:
        return len(set(keys)) == len(keys)
    except TypeError:
        return False


def _keep(value: NDArray[Any], path: str, arrays: dict[str, NDArray[Any]]) -> str:
    name = str(len(arrays))
    arrays[name] = _plain(value, path)
    return name


def _from_torch(tensor: Any, path: str) -> NDArray[Any]:
    try:
        # A copy: the tensor may be trained on after the task was made.
        found: NDArray[Any] = tensor.cpu().numpy().copy()
    except (RuntimeError, TypeError):
        raise TaskError(
            f"{path} is a tensor of {tensor.dtype} that NumPy cannot take as it is",
            hint="pass tensor.detach(), in a dtype that NumPy has",
        ) from None
    return found


def _public_name(kind: type) -> str | None:
    """Return ``room.Name`` of a frozen dataclass that the kit offers, or None."""
    parts = kind.__module__.split(".")
    if parts[0] != "twopm_kit" or len(parts) < 2 or parts[1] not in _ROOMS:
        return None
    name = f"{parts[1]}.{kind.__qualname__}"
    return name if _public(name) is kind else None


def _public(name: str) -> type | None:
    room, _, own = name.partition(".")
    if room not in _ROOMS:
        return None
    module = import_module(f"twopm_kit.{room}")
    found = getattr(module, own, None) if own in module.__all__ else None
    frozen = isinstance(found, type) and is_dataclass(found) and vars(found)["__dataclass_params__"].frozen
    return found if isinstance(found, type) and frozen else None


def _made(name: str, parts: dict[str, Any]) -> Any:
    kind = _public(name)
    if kind is None:
        raise TaskError(f"the archive names {name!r}, which this kit does not offer", hint=_DAMAGED)
    try:
        return kind(**parts)
    except TypeError as fault:
        raise TaskError(f"{name} cannot be made from {sorted(parts)}: {fault}", hint=_DAMAGED) from None


# Arrays ---------------------------------------------------------------------------------------------------


def pack_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return named arrays as a safetensors file whose metadata keep their order.

    Raises
    ------
    TaskError
        If a name or dtype has no place in it.
    """
    plain = {name: _plain(value, f"the array {name!r}") for name, value in arrays.items()}
    if not all(isinstance(name, str) and name != _METADATA for name in plain):
        raise TaskError(f"arrays are called {list(plain)}", hint="give every array a text as its name")
    return save(plain, metadata={"order": json.dumps(list(plain))})


def unpack_arrays(content: bytes, what: str) -> dict[str, NDArray[Any]]:
    """Return what `pack_arrays` was given. The content is hostile until this returns.

    Raises
    ------
    TaskError
        If it is no safetensors file, or not in the one form in which `pack_arrays` writes it.
    """
    try:
        size = struct.unpack_from("<Q", content)[0]
        if size > _MOST_HEADER:
            raise TaskError(f"the header of {what} has {size} bytes", hint=_DAMAGED)
        order = load_json(load_json(content[8 : 8 + size])[_METADATA]["order"].encode())
        found = load(content)
        arrays = {name: found[name].copy() for name in order}
        same = len(arrays) == len(found) and pack_arrays(arrays) == content
    except TaskError:
        raise
    except (SafetensorError, LookupError, TypeError, ValueError, AttributeError, struct.error):
        same = False
    if not same:
        raise TaskError(f"{what} are no arrays as the kit writes them", hint=_DAMAGED)
    return arrays


def _plain(value: NDArray[Any], path: str) -> NDArray[Any]:
    """Return an array that is contiguous and little-endian."""
    array = np.asarray(value)
    if array.dtype.name not in _DTYPES:
        raise TaskError(
            f"{path} is an array of {array.dtype}", hint=f"use one of: {', '.join(sorted(_DTYPES))}"
        )
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
