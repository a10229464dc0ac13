"""Why a contract refused a call: one readable reason, the same on every back end.

What a contract returns when it reverts follows the Solidity ABI: ``Error(string)`` for a written reason,
``Panic(uint256)`` for a failed check of the language, a selector of its own for a custom error, or nothing.
"""

import re
from collections.abc import Mapping
from typing import Any

from eth_abi import abi as codec
from eth_abi.exceptions import DecodingError
from eth_utils.abi import function_signature_to_4byte_selector

from twopm_kit.chain.jsonrpc import REVERTED, Fault
from twopm_kit.errors import ContractReverted

__all__ = ["explain", "refusal", "was_execution"]

_ERROR = function_signature_to_4byte_selector("Error(string)")
_PANIC = function_signature_to_4byte_selector("Panic(uint256)")
_PANICS = {
    0x01: "assertion failed",
    0x11: "arithmetic overflow or underflow",
    0x12: "division by zero",
    0x21: "value outside its enumeration",
    0x22: "badly encoded storage bytes",
    0x31: "pop from an empty array",
    0x32: "index out of bounds",
    0x41: "too much memory",
    0x51: "call of an unset function",
}
# Nodes name the EVM's own halts in their own words; the left side is looked for without regard to case.
_HALTS = (
    (r"out ?of ?gas|gas required exceeds|MemoryOOG|PrecompileOOG", "out of gas"),
    (r"invalid ?(fe)? ?opcode|invalid ?instruction|opcode ?not ?found|NotActivated", "invalid instruction"),
    (r"stack ?(too small|underflow|overflow|limit)|insufficientstack|fullstack", "stack error"),
    (r"invalid ?jump", "invalid jump"),
    (r"write ?protection|state ?change ?during ?static", "write in a read-only call"),
    (r"contract ?size|code ?size|create.?contract.?(size|limit)", "contract code too large"),
)


def explain(data: bytes, errors: Mapping[bytes, str] | None = None) -> str:
    """Decode what a reverting contract returned.

    Parameters
    ----------
    data : bytes
        Returned bytes.
    errors : mapping of bytes to str, optional
        Names of the contract's custom errors by selector.

    Returns
    -------
    str
        The reason; empty when the contract gave none.
    """
    if not data:
        return ""
    selector, body = data[:4], data[4:]
    try:
        if selector == _ERROR:
            return str(codec.decode(["string"], body)[0])
        if selector == _PANIC:
            code = int(codec.decode(["uint256"], body)[0])
            return f"panic 0x{code:02x}: {_PANICS.get(code, 'unknown code')}"
    except (DecodingError, UnicodeDecodeError):
        return f"unreadable reason of {len(data)} bytes"
    if errors and selector in errors:
        return errors[selector]
    return f"custom error 0x{selector.hex()}"


def was_execution(fault: Fault) -> bool:
    """Tell whether a node's fault is the contract's refusal rather than the node's own."""
    return (
        fault.data is not None or fault.code == REVERTED or _halt(fault) is not None or _says_reverted(fault)
    )


def refusal(fault: Fault, call: str, errors: Mapping[bytes, str] | None = None) -> ContractReverted:
    """Turn the fault of a refused execution into the error that a caller sees."""
    halt = _halt(fault) if not fault.data else None
    reason = halt if halt is not None else explain(fault.data or b"", errors)
    return reverted(call, reason)


def reverted(call: str, reason: str, *, mined: str = "") -> ContractReverted:
    """Make the error for one refused call."""
    because = f": {reason}" if reason else " and gave no reason"
    return ContractReverted(
        f"{call} was refused by the contract{because}{mined}",
        reason=reason,
        hint="read the contract's rule for this call; change its arguments, its sender or its moment",
    )


def _halt(fault: Fault) -> str | None:
    if _says_reverted(fault):
        return None
    for pattern, name in _HALTS:
        if re.search(pattern, fault.words, re.IGNORECASE):
            return name
    return None


def _says_reverted(fault: Fault) -> bool:
    return fault.words.lower().startswith(("execution reverted", "vm execution error: revert"))


def custom_errors(abi: list[dict[str, Any]]) -> dict[bytes, str]:
    """Collect a contract's custom errors: selector to name."""
    from eth_utils.abi import function_abi_to_4byte_selector

    return {
        function_abi_to_4byte_selector(entry): str(entry["name"])  # type: ignore[arg-type]
        for entry in abi
        if entry.get("type") == "error"
    }
