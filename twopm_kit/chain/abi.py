"""Values in and out of a contract: strict encoding of arguments, friendly decoding of results.

The encoding itself is eth-abi's; this module checks and converts on the Python side, so that a wrong argument
is refused with its name and type instead of being padded or truncated.
"""

import operator
import re
from collections import namedtuple
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from eth_abi import abi as codec
from eth_abi.exceptions import DecodingError, EncodingError
from eth_utils.abi import collapse_if_tuple
from eth_utils.address import is_address, to_checksum_address
from eth_utils.crypto import keccak

from twopm_kit.errors import CallError, ChainError

__all__ = ["Component", "address_of", "decode", "decode_log", "encode", "signature", "topic_of"]

#: One input or output of an ABI entry.
Component = Mapping[str, Any]

_ARRAY = re.compile(r"(.*)\[(\d*)\]")
_NUMBER = re.compile(r"(u?)int(\d+)")
_FIXED_BYTES = re.compile(r"bytes(\d+)")


def signature(entry: Component) -> str:
    """Write an ABI entry for people: ``add(amount: uint256) -> uint256``."""

    def show(component: Component) -> str:
        kind = collapse_if_tuple(dict(component))
        return f"{component['name']}: {kind}" if component.get("name") else kind

    text = f"{entry.get('name', 'constructor')}({', '.join(show(item) for item in entry.get('inputs', ()))})"
    outputs = entry.get("outputs") or ()
    if outputs:
        text += " -> " + ", ".join(collapse_if_tuple(dict(item)) for item in outputs)
    return text


def encode(components: Sequence[Component], values: Sequence[Any], call: str) -> bytes:
    """Encode arguments after checking each against its type.

    Raises
    ------
    CallError
        When the number of arguments, a type, a size or a range does not fit.
    """
    if len(values) != len(components):
        raise CallError(
            f"{call} takes {len(components)} arguments, {len(values)} were passed",
            hint=f"pass ({', '.join(str(item.get('name') or item['type']) for item in components)})",
        )
    ready = [
        _check(item, value, f"{call}, argument {item.get('name') or index}")
        for index, (item, value) in enumerate(zip(components, values, strict=True))
    ]
    try:
        return codec.encode([collapse_if_tuple(dict(item)) for item in components], ready)
    except EncodingError as error:
        raise CallError(f"{call}: {error}", hint="pass values of the types in the contract") from error


def address_of(value: Any, where: str) -> str:
    """Read an address from an account, a contract, 20 bytes or a hexadecimal string."""
    value = getattr(value, "address", value)
    if isinstance(value, bytes | bytearray) and len(value) == 20:
        return to_checksum_address(bytes(value))
    if isinstance(value, str) and value[:2] == "0x" and is_address(value):
        return to_checksum_address(value)
    raise CallError(
        f"{where} must be an address, not {_describe(value)}",
        hint="pass an account, a contract, 20 bytes, or 0x and 40 hexadecimal digits",
    )


def _check(component: Component, value: Any, where: str) -> Any:
    kind = str(component["type"])
    array = _ARRAY.fullmatch(kind)
    if array:
        return _check_array(component, array, value, where)
    if kind == "tuple":
        return _check_struct(component, value, where)
    number = _NUMBER.fullmatch(kind)
    if number:
        return _check_number(kind, number, value, where)
    if kind == "address":
        return address_of(value, where)
    if kind == "bool":
        if isinstance(value, bool) or type(value).__name__ == "bool":  # numpy's too
            return bool(value)
    elif kind == "string":
        if isinstance(value, str):
            return value
    elif kind.startswith("bytes"):
        return _check_bytes(kind, value, where)
    raise CallError(f"{where} must be {kind}, not {_describe(value)}", hint=f"pass a value of type {kind}")


def _check_array(component: Component, array: re.Match[str], value: Any, where: str) -> list[Any]:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, str | bytes | bytearray | Mapping) or not isinstance(value, Sequence):
        raise CallError(f"{where} must be a list, not {_describe(value)}", hint="pass a list or a tuple")
    if array[2] and len(value) != int(array[2]):
        raise CallError(
            f"{where} must have {array[2]} entries, {len(value)} were passed", hint="pass as many as expected"
        )
    inner = {**component, "type": array[1]}
    return [_check(inner, item, f"{where}[{index}]") for index, item in enumerate(value)]


def _check_struct(component: Component, value: Any, where: str) -> tuple[Any, ...]:
    fields = component["components"]
    names = [field["name"] for field in fields]
    if isinstance(value, Mapping):
        if set(value) != set(names):
            raise CallError(
                f"{where} has the fields {', '.join(map(str, value))}; expected {', '.join(names)}",
                hint="pass exactly the struct's fields",
            )
        value = [value[name] for name in names]
    if isinstance(value, str | bytes) or not isinstance(value, Sequence) or len(value) != len(names):
        raise CallError(
            f"{where} must be a struct, not {_describe(value)}", hint=f"pass the fields {', '.join(names)}"
        )
    return tuple(
        _check(field, item, f"{where}.{field['name']}") for field, item in zip(fields, value, strict=True)
    )


def _check_number(kind: str, number: re.Match[str], value: Any, where: str) -> int:
    bits = int(number[2])
    low, high = (0, 2**bits - 1) if number[1] else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise CallError(f"{where} must be an integer, not {_describe(value)}", hint=f"pass an int for {kind}")
    exact = operator.index(value)
    if not low <= exact <= high:
        raise CallError(f"{where} = {exact} does not fit {kind}", hint=f"pass a value in [{low}, {high}]")
    return exact


def _check_bytes(kind: str, value: Any, where: str) -> bytes:
    if isinstance(value, str) and re.fullmatch(r"0x([0-9a-fA-F]{2})*", value):
        value = bytes.fromhex(value[2:])
    fixed = _FIXED_BYTES.fullmatch(kind)
    if not isinstance(value, bytes | bytearray | memoryview):
        raise CallError(
            f"{where} must be {kind}, not {_describe(value)}", hint="pass bytes, or 0x and hex digits"
        )
    if fixed and len(value) != int(fixed[1]):
        raise CallError(
            f"{where} must be {kind}, {len(value)} bytes were passed", hint=f"pass exactly {fixed[1]} bytes"
        )
    return bytes(value)


def _describe(value: Any) -> str:
    """Name what was passed without repeating it: a mistaken argument may be a secret."""
    try:
        return f"{type(value).__name__} of length {len(value)}"
    except TypeError:
        return type(value).__name__


def decode(components: Sequence[Component], data: bytes, call: str) -> Any:
    """Decode a result: nothing, one value, or a tuple. Structs become named tuples, arrays lists.

    Raises
    ------
    ChainError
        When the bytes are not what the ABI promises.
    """
    if not components:
        return None
    try:
        values = codec.decode([collapse_if_tuple(dict(item)) for item in components], data)
    except (DecodingError, UnicodeDecodeError) as error:
        raise ChainError(
            f"{call} returned {len(data)} bytes that do not fit its ABI",
            hint="check that the address belongs to this contract and that the artefact is up to date",
        ) from error
    friendly = [_friendly(item, value) for item, value in zip(components, values, strict=True)]
    return friendly[0] if len(friendly) == 1 else tuple(friendly)


@lru_cache(maxsize=256)
def _struct(name: str, fields: tuple[str, ...]) -> Any:
    return namedtuple(name, fields, rename=True)


def _friendly(component: Component, value: Any) -> Any:
    kind = str(component["type"])
    array = _ARRAY.fullmatch(kind)
    if array:
        inner = {**component, "type": array[1]}
        return [_friendly(inner, item) for item in value]
    if kind == "tuple":
        fields = component["components"]
        make = _struct("Struct", tuple(field["name"] for field in fields))
        return make(*(_friendly(field, item) for field, item in zip(fields, value, strict=True)))
    return to_checksum_address(value) if kind == "address" else value


def topic_of(component: Component, value: Any, where: str) -> str:
    """Encode the value of an indexed field as a log topic."""
    kind = str(component["type"])
    checked = _check(component, value, where)
    if kind in ("string", "bytes"):
        return "0x" + keccak(checked.encode() if isinstance(checked, str) else checked).hex()
    if kind == "tuple" or _ARRAY.fullmatch(kind):
        raise CallError(
            f"{where}: a field of type {collapse_if_tuple(dict(component))} cannot be searched for",
            hint="read the events and filter the list in Python",
        )
    return "0x" + codec.encode([kind], [checked]).hex()


def decode_log(entry: Component, topics: Sequence[bytes], data: bytes) -> dict[str, Any]:
    """Decode a log's fields. Indexed fields of dynamic type stay the 32-byte hash that the chain keeps."""
    indexed = [item for item in entry["inputs"] if item["indexed"]]
    plain = [item for item in entry["inputs"] if not item["indexed"]]
    name = str(entry["name"])
    values: dict[str, Any] = {}
    for item, topic in zip(indexed, topics[1:], strict=True):
        kind = str(item["type"])
        hashed = kind in ("string", "bytes", "tuple") or _ARRAY.fullmatch(kind)
        values[item["name"]] = topic if hashed else decode([item], topic, name)
    rest = decode(plain, data, name)
    for item, value in zip(plain, (rest,) if len(plain) == 1 else rest or (), strict=True):
        values[item["name"]] = value
    return {item["name"]: values[item["name"]] for item in entry["inputs"]}
