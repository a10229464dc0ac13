"""Accounts: a name, an address, and a key that signs here and is never shown.

Every transaction is signed locally, on every back end, so nothing changes when a chain is remote.
"""

import os
import threading
from html import escape
from typing import Any, NoReturn

from eth_account import Account as EthAccount
from eth_account.messages import SignableMessage, encode_defunct
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from rlp import encode as rlp_encode  # type: ignore[import-untyped]

from twopm_kit.errors import AccountError, SecretRefused

__all__ = ["Account", "created_address", "recover"]


class Account:
    """A signer. Make one with ``chain.account(name)``.

    Parameters
    ----------
    name : str
        What the gas ledger and the tables call it.
    key : bytes, optional
        32 secret bytes; fresh ones from the operating system by default.
    """

    __slots__ = ("__weakref__", "_signer", "address", "lock", "name")

    def __init__(self, name: str, key: bytes | None = None) -> None:
        if not isinstance(name, str) or not name or len(name) > 64 or not name.isprintable():
            raise AccountError(
                f"{str(name)[:80]!r} cannot name an account", hint="use a short name of printable characters"
            )
        if key is not None and not (isinstance(key, bytes | bytearray) and len(key) == 32):
            raise AccountError(
                f"the key of {name!r} must be 32 bytes, not {type(key).__name__}"
                + (f" of length {len(key)}" if isinstance(key, bytes | bytearray | str) else ""),
                hint="pass 32 secret bytes, or leave key out",
            )
        try:
            self._signer: LocalAccount = EthAccount.from_key(os.urandom(32) if key is None else bytes(key))
        except Exception:  # noqa: BLE001  (libraries differ in what they raise for a bad scalar)
            raise AccountError(
                f"the key of {name!r} is not a valid secp256k1 key",
                hint="pass 32 secret bytes between 1 and the curve's order",
            ) from None  # a library's message may repeat the key
        self.name = name
        #: Checksummed address.
        self.address: str = self._signer.address
        #: Held while a transaction of this account is numbered and sent.
        self.lock = threading.RLock()

    def sign_transaction(self, fields: dict[str, Any]) -> tuple[str, str]:
        """Sign a transaction; give its raw form and its hash, both in hexadecimal."""
        signed = self._signer.sign_transaction(fields)
        return "0x" + bytes(signed.raw_transaction).hex(), "0x" + bytes(signed.hash).hex()

    def sign(self, message: bytes) -> bytes:
        """Sign a message (EIP-191, version 0x45). `recover` gives back the address.

        Returns
        -------
        bytes
            65 bytes: r, s, v.
        """
        return bytes(self._signer.sign_message(encode_defunct(bytes(message))).signature)

    def sign_typed(self, message: SignableMessage) -> bytes:
        """Sign typed data (EIP-712), as ``eth_account.messages.encode_typed_data`` gives it: 65 bytes."""
        return bytes(self._signer.sign_message(message).signature)

    def __repr__(self) -> str:
        return f"<Account {self.name} {self.address}>"

    def _repr_html_(self) -> str:
        return f"<div><strong>{escape(self.name)}</strong> <code>{self.address}</code></div>"

    def __reduce_ex__(self, _protocol: Any) -> NoReturn:
        raise SecretRefused(
            f"the account {self.name!r} holds a key and cannot be pickled or copied",
            hint="pass account.address instead; a process that must sign makes an account of its own",
        )


def created_address(sender: bytes, nonce: int) -> str:
    """Give the address of the contract that an account's transaction number ``nonce`` creates."""
    return to_checksum_address(keccak(rlp_encode([sender, nonce]))[-20:])


def recover(message: bytes, signature: bytes) -> str:
    """Tell whose `Account.sign` made a signature.

    Returns
    -------
    str
        Checksummed address.

    Raises
    ------
    AccountError
        When the signature is not one.
    """
    try:
        return str(EthAccount.recover_message(encode_defunct(bytes(message)), signature=bytes(signature)))
    except Exception as error:
        raise AccountError(
            f"these {len(signature)} bytes are not a signature", hint="pass what account.sign returned"
        ) from error
