"""Which round a value belongs to, and how a party is named: the binding that every hash and key carries."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias, TypeVar

from eth_hash.auto import keccak

from twopm_kit.errors import ProtocolError, RoundConfigError

__all__ = ["ADDRESS_BYTES", "ByParty", "Party", "RoundContext", "party_id", "party_name"]

ADDRESS_BYTES = 20
Party: TypeAlias = bytes | str
_Value = TypeVar("_Value")
ByParty: TypeAlias = Mapping[bytes, _Value] | Mapping[str, _Value]
_DOMAIN = b"twopm/secagg/v1/round"


def party_id(party: Party) -> bytes:
    """Return the 20 bytes of an address given as bytes or as ``0x…`` text.

    Raises
    ------
    ProtocolError
        If it is no address, or the zero address (its Shamir share would be the secret itself).
    """
    raw = b""
    if isinstance(party, str):
        digits = party.removeprefix("0x").removeprefix("0X")
        if len(digits) == 2 * ADDRESS_BYTES and all(c in "0123456789abcdefABCDEF" for c in digits):
            raw = bytes.fromhex(digits)
    elif isinstance(party, bytes | bytearray):
        raw = bytes(party)
    if len(raw) != ADDRESS_BYTES or not any(raw):
        raise ProtocolError(
            f"{party!r} does not name a party: expected a non-zero address of {ADDRESS_BYTES} bytes",
            hint="Pass the account's address as bytes or as '0x' and 40 hexadecimal digits.",
        )
    return raw


def party_name(party: bytes) -> str:
    """Return the ``0x…`` text of a party, as error messages show it."""
    return "0x" + party.hex()


@dataclass(frozen=True)
class RoundContext:
    """One round of one task of one contract on one chain.

    Parameters
    ----------
    chain_id : int
        The chain's id (EIP-155).
    contract : str
        Address of the round contract, ``0x…``.
    task_id : int
    round : int

    Notes
    -----
    `binding` goes into every key derivation, associated data, leaf and digest of the round, so a message,
    share or mask of another round, task, contract or chain can never pass for one of this round.
    """

    chain_id: int
    contract: str
    task_id: int
    round: int

    def __post_init__(self) -> None:
        party_id(self.contract)
        for name in ("chain_id", "task_id", "round"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 256:
                raise RoundConfigError(
                    f"{name}={value!r} is not a whole number that fits 256 bits",
                    hint="Take chain id, task id and round number from the chain.",
                )

    @cached_property
    def binding(self) -> bytes:
        """32-byte domain separator: keccak256 over a label and the four fixed-width fields."""
        return keccak(
            _DOMAIN
            + self.chain_id.to_bytes(32, "big")
            + party_id(self.contract)
            + self.task_id.to_bytes(32, "big")
            + self.round.to_bytes(32, "big")
        )
