"""``Attestation``: two signatures that say who checked an upload, for whom and against which schema.

An *allocator* gives one task to one validator: it signs an ``Assignment``. The *validator* looks at the data,
where its contributor lets it, and signs a ``Verdict`` on one upload. Both are typed data of EIP-712, bound to
the chain and to the index contract, and both count only if the owner of the dataset trusts the signer. One
signature alone is worth nothing: whoever could skip the allocator's could appoint a validator of its own.

What is checked here is checked by the contract too, in the same order and with the same words.
"""

import json
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from html import escape
from typing import Any, Final, Self

from eth_account import Account as EthAccount
from eth_account.messages import SignableMessage, encode_typed_data
from eth_hash.auto import keccak

from twopm_kit.chain import Account
from twopm_kit.chain.abi import address_of
from twopm_kit.chain.deployed import facts_table
from twopm_kit.errors import AttestationError, CallError, DataError
from twopm_kit.untrusted import load_json
from twopm_kit.vsies.schema import Schema

__all__ = ["Allocator", "Assignment", "Attestation", "PublicFacts", "Subject", "Validator", "identity_hash"]

ZERO: Final = bytes(32)
MAX_TEXT: Final = 4_096  # characters of an attestation as JSON; it takes about 800
MAX_CHECKS: Final = 64
# Half the order of secp256k1: of the two forms of a signature only the lower counts (EIP-2).
_HALF_ORDER: Final = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_IDENTITY: Final = b"twopm/vsies/v1/identity"
_FACTS: Final = b"twopm/vsies/v1/facts"
_HINT: Final = "ask its issuer for another, made for exactly this upload"


@dataclass(frozen=True, repr=False)
class Subject:
    """What an attestation is about: one upload, at one index, on one chain.

    Attributes
    ----------
    chain_id : int
        Chain (EIP-155).
    contract : str
        Address of the index.
    upload_id : int
        Number of the upload.
    contributor : str
        Who uploaded.
    root : bytes
        Storage root of the upload, 32 bytes.
    schema : bytes
        Hash of the dataset's schema, 32 bytes.
    """

    chain_id: int
    contract: str
    upload_id: int
    contributor: str
    root: bytes
    schema: bytes

    def __post_init__(self) -> None:
        # in one spelling: addresses are compared
        for name in ("contract", "contributor"):
            object.__setattr__(self, name, _address(name, getattr(self, name)))

    def __repr__(self) -> str:
        return f"<Subject: upload {self.upload_id} at {self.contract}, chain {self.chain_id}>"


@dataclass(frozen=True, repr=False)
class PublicFacts:
    """What a validator says in public: how many rows it saw, and what it checked in them.

    Attributes
    ----------
    rows : int
        Rows that were checked.
    schema : bytes
        Hash of the schema, 32 bytes.
    checks : tuple of str
        What was checked, in words; everything that is listed was found right.
    """

    rows: int
    schema: bytes
    checks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_bytes("schema", self.schema, 32)
        right = isinstance(self.rows, int) and not isinstance(self.rows, bool) and self.rows >= 0
        said = isinstance(self.checks, tuple) and len(self.checks) <= MAX_CHECKS
        if not right or not said or not all(isinstance(c, str) and 0 < len(c) <= 200 for c in self.checks):
            raise AttestationError(
                f"public facts are a number of rows and at most {MAX_CHECKS} checks of 1 to 200 characters",
                hint="pass rows as an int, and checks as a tuple of short sentences",
            )

    def __repr__(self) -> str:
        many = f"{self.rows:,} rows, {len(self.checks)} checks"
        return f"<PublicFacts: {many}, schema 0x{self.schema.hex()[:12]}…>"

    def to_json(self) -> str:
        """Return the canonical text: sorted keys, no spaces, ASCII."""
        return _json({"checks": list(self.checks), "rows": self.rows, "schema": "0x" + self.schema.hex()})

    @property
    def hash(self) -> bytes:
        """What the attestation names: keccak256 of a label and the canonical text, 32 bytes."""
        return bytes(keccak(_FACTS + self.to_json().encode()))


def identity_hash(fingerprint: bytes, salt: bytes) -> bytes:
    """Return the ``uHash``: it identifies a contributor's data to whoever knows the salt, and to nobody else.

    Parameters
    ----------
    fingerprint : bytes
        Of the raw data, 32 bytes, such as ``DataSource.fingerprint()``. It stays with the contributor: raw
        data can often be guessed, and a guess would be confirmed by a hash without salt.
    salt : bytes
        32 secret random bytes that the contributor keeps: with them it can show later which data it was.

    Raises
    ------
    AttestationError
        One of them is not 32 bytes.
    """
    _check_bytes("fingerprint", fingerprint, 32)
    _check_bytes("salt", salt, 32)
    return bytes(keccak(_IDENTITY + salt + fingerprint))


class _Signed:
    """JSON of records made of bytes and addresses; the names in it are the EIP-712 names."""

    _SIZES: Mapping[str, tuple[str, int]]  # JSON name -> attribute, bytes (20: an address)

    def __post_init__(self) -> None:
        for name, (attribute, size) in self._SIZES.items():
            value = getattr(self, attribute)
            if size == 20:
                object.__setattr__(self, attribute, _address(name, value))
            else:
                _check_bytes(name, value, size)

    def to_json(self) -> str:
        """Return the record as JSON: every field in hexadecimal."""
        values = {name: getattr(self, attribute) for name, (attribute, _) in self._SIZES.items()}
        return _json({n: v if isinstance(v, str) else "0x" + v.hex() for n, v in values.items()})

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a record from anybody.

        Raises
        ------
        AttestationError
            Too long, not JSON, other fields than expected, or a field of another form or size.
        """
        what = cls.__name__
        if not isinstance(text, str | bytes) or len(text) > MAX_TEXT or not text.isascii():
            raise AttestationError(
                f"this is not an {what}: expected at most {MAX_TEXT:,} characters of ASCII text", hint=_HINT
            )
        try:
            body = load_json(text.encode() if isinstance(text, str) else text)
        except DataError as error:
            raise AttestationError(f"this is not an {what}: {error.message}", hint=_HINT) from None
        if not isinstance(body, dict) or set(body) != set(cls._SIZES):
            raise AttestationError(
                f"this is not an {what}: it does not have exactly the fields {', '.join(cls._SIZES)}",
                hint=_HINT,
            )
        values = {at: _unhex(name, body[name], size) for name, (at, size) in cls._SIZES.items()}
        return cls(**values)

    def _repr_html_(self) -> str:
        facts = {name: str(value) for name, value in json.loads(self.to_json()).items()}
        return f"<p><strong>{escape(type(self).__name__)}</strong></p>{facts_table(facts)}"


@dataclass(frozen=True, repr=False)
class Assignment(_Signed):
    """A task that an allocator gives to a validator.

    Attributes
    ----------
    task_id : bytes
        The allocator's number for it, 32 bytes; counts once.
    schema : bytes
        Hash of the schema to check against, 32 bytes.
    validator_address : str
        Who is to check.
    allocator_signature : bytes
        65 bytes: r, s, v.
    """

    task_id: bytes
    schema: bytes
    validator_address: str
    allocator_signature: bytes

    _SIZES = {  # noqa: RUF012  (constant, and no field of the dataclass)
        "taskId": ("task_id", 32),
        "schema": ("schema", 32),
        "validatorAddress": ("validator_address", 20),
        "allocatorSignature": ("allocator_signature", 65),
    }

    def __repr__(self) -> str:
        return f"<Assignment 0x{self.task_id.hex()[:8]}… to {self.validator_address}>"


@dataclass(frozen=True, repr=False)
class Attestation(_Signed):
    """A validator's word on an upload, with the allocator's that it was asked.

    Attributes
    ----------
    task_id : bytes
        The allocator's number for the task, 32 bytes.
    schema : bytes
        Hash of the schema that the data was checked against, 32 bytes.
    u_hash : bytes
        Salted hash that identifies the contributor's data (`identity_hash`), 32 bytes.
    public_fields_hash : bytes
        Hash of the public facts (`PublicFacts`), 32 bytes.
    validator_signature : bytes
        Over the verdict, 65 bytes: r, s, v.
    validator_address : str
        Who checked.
    allocator_signature : bytes
        Over the assignment, 65 bytes: r, s, v.
    """

    task_id: bytes
    schema: bytes
    u_hash: bytes
    public_fields_hash: bytes
    validator_signature: bytes
    validator_address: str
    allocator_signature: bytes

    _SIZES = {  # noqa: RUF012  (constant, and no field of the dataclass)
        "taskId": ("task_id", 32),
        "schema": ("schema", 32),
        "uHash": ("u_hash", 32),
        "publicFieldsHash": ("public_fields_hash", 32),
        "validatorSignature": ("validator_signature", 65),
        "validatorAddress": ("validator_address", 20),
        "allocatorSignature": ("allocator_signature", 65),
    }

    @classmethod
    def issue(
        cls, subject: Subject, *, allocator: Account, validator: Account, u_hash: bytes, facts: PublicFacts
    ) -> "Attestation":
        """Assign and attest in one step, where one process holds both accounts.

        Raises
        ------
        AttestationError
            As `Validator.attest`.
        """
        _check_type("subject", subject, Subject, "index.subject(upload_id)")
        place = subject.chain_id, subject.contract
        assignment = Allocator(allocator, *place).assign(validator.address, subject.schema)
        return Validator(validator, *place).attest(assignment, subject, u_hash=u_hash, facts=facts)

    def verify(
        self,
        subject: Subject,
        *,
        allocators: "Collection[Account | str]",
        validators: "Collection[Account | str]",
    ) -> str:
        """Check both signatures for an upload, as the contract does.

        Parameters
        ----------
        subject : Subject
            The upload, as the verifier's own view of the chain knows it: ``index.subject(upload_id)``.
        allocators, validators : collection of str or Account
            Who is trusted by the dataset: ``index.allocators(dataset)``, ``index.validators(dataset)``.

        Returns
        -------
        str
            Address of the allocator.

        Raises
        ------
        AttestationError
            The first thing that is wrong, in the contract's words. Whether the task was counted before is
            for the chain to say.
        """
        _check_type("subject", subject, Subject, "index.subject(upload_id)")
        trusted = _addresses("allocators", allocators), _addresses("validators", validators)
        self._require(self.schema == subject.schema, "attestation is for another schema")
        self._require(self.schema != ZERO, "dataset has no schema")
        allocator = _signer(self._assigned(subject), self.allocator_signature)
        self._require(allocator in trusted[0], "allocator is not trusted here")
        signer = _signer(self._said(subject), self.validator_signature)
        self._require(signer == self.validator_address, "validator has not signed this")
        self._require(signer in trusted[1], "validator is not trusted here")
        self._require(allocator != signer, "allocator and validator are one")
        self._require(subject.contributor not in (allocator, signer), "contributor attests itself")
        return allocator

    def signed_by(self, subject: Subject) -> tuple[str, str]:
        """Tell whose the signatures of allocator and validator are; whether to trust them says `verify`.

        Raises
        ------
        AttestationError
            A signature is nobody's.
        """
        allocator = _signer(self._assigned(subject), self.allocator_signature)
        return allocator, _signer(self._said(subject), self.validator_signature)

    def _assigned(self, subject: Subject) -> SignableMessage:
        place = subject.chain_id, subject.contract
        return _assignment(place, self.task_id, self.schema, self.validator_address)

    def _said(self, subject: Subject) -> SignableMessage:
        return _verdict(subject, self.task_id, self.u_hash, self.public_fields_hash)

    def _require(self, right: bool, reason: str) -> None:
        if not right:
            raise refused(reason)

    def __repr__(self) -> str:
        return f"<Attestation of task 0x{self.task_id.hex()[:8]}… by {self.validator_address}>"


def refused(reason: str) -> AttestationError:
    """Return the error for an attestation that does not hold."""
    return AttestationError(f"the attestation is refused: {reason}", hint=_HINT)


class _Signer:
    """Who signs for one index.

    Parameters
    ----------
    account : Account
        Holds the key; needs its role in the dataset.
    chain_id : int
        Chain (EIP-155).
    contract : str
        Address of the index.
    """

    def __init__(self, account: Account, chain_id: int, contract: str) -> None:
        _check_type("account", account, Account, "chain.account('name')")
        self.account = account
        self._place = chain_id, contract

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.account.address}>"


class Allocator(_Signer):
    """Gives tasks to validators, with its account's signature."""

    def assign(self, validator: str, schema: bytes, *, task_id: bytes | None = None) -> Assignment:
        """Give a task to a validator.

        Parameters
        ----------
        validator : str
            Its address.
        schema : bytes
            Hash of the schema to check against, 32 bytes.
        task_id : bytes, optional
            32 bytes, fresh random ones by default. A number that was counted does not count again.
        """
        task_id = os.urandom(32) if task_id is None else task_id
        unsigned = Assignment(task_id, schema, validator, bytes(65))
        message = _assignment(self._place, task_id, schema, unsigned.validator_address)
        return replace(unsigned, allocator_signature=self.account.sign_typed(message))


class Validator(_Signer):
    """Says what it found in an upload, with its account's signature."""

    def attest(
        self, assignment: Assignment, subject: Subject, *, u_hash: bytes, facts: PublicFacts
    ) -> Attestation:
        """Sign a verdict on an upload. Sign only what was looked at: a signature cannot be taken back.

        Parameters
        ----------
        assignment : Assignment
            The allocator's task.
        subject : Subject
            The upload, from the validator's own view of the chain.
        u_hash : bytes
            Salted hash of the contributor's data (`identity_hash`), 32 bytes.
        facts : PublicFacts
            What was checked.

        Raises
        ------
        AttestationError
            The task is another validator's, or task, upload and facts do not belong together.
        """
        _check_type("assignment", assignment, Assignment, "allocator.assign(validator, schema.hash)")
        _check_type("subject", subject, Subject, "index.subject(upload_id)")
        _check_type("facts", facts, PublicFacts, "PublicFacts(rows, schema.hash)")
        mismatch = {
            f"the task is for {assignment.validator_address}, not for {self.account.address}": (
                assignment.validator_address != self.account.address
            ),
            "the task is for another schema than the upload's": assignment.schema != subject.schema,
            "the facts are of another schema than the upload's": facts.schema != subject.schema,
            "the upload is at another index or on another chain": (
                (subject.chain_id, subject.contract) != self._place
            ),
        }
        for reason, found in mismatch.items():
            if found:
                raise AttestationError(reason, hint="take the task that was assigned for this upload")
        _check_bytes("uHash", u_hash, 32)
        return Attestation(
            task_id=assignment.task_id,
            schema=assignment.schema,
            u_hash=u_hash,
            public_fields_hash=facts.hash,
            validator_signature=self.account.sign_typed(
                _verdict(subject, assignment.task_id, u_hash, facts.hash)
            ),
            validator_address=self.account.address,
            allocator_signature=assignment.allocator_signature,
        )


# Typed data (EIP-712) -----------------------------------------------------------------------------------

_TYPES: Final = {
    "Assignment": {"taskId": "bytes32", "schema": "bytes32", "validatorAddress": "address"},
    "Verdict": {
        "taskId": "bytes32",
        "schema": "bytes32",
        "uHash": "bytes32",
        "publicFieldsHash": "bytes32",
        "recipient": "address",
        "uploadId": "uint256",
        "dataHash": "bytes32",
    },
}


def _typed(kind: str, place: tuple[int, str], values: tuple[Any, ...]) -> SignableMessage:
    chain_id, contract = place
    domain = {"name": "2PM DataIndex", "version": "1", "chainId": chain_id, "verifyingContract": contract}
    types = {kind: [{"name": name, "type": form} for name, form in _TYPES[kind].items()]}
    return encode_typed_data(domain, types, dict(zip(_TYPES[kind], values, strict=True)))


def _assignment(place: tuple[int, str], *values: Any) -> SignableMessage:
    return _typed("Assignment", place, values)


def _verdict(subject: Subject, task_id: bytes, u_hash: bytes, facts_hash: bytes) -> SignableMessage:
    what = subject.contributor, subject.upload_id, subject.root
    values = (task_id, subject.schema, u_hash, facts_hash, *what)
    return _typed("Verdict", (subject.chain_id, subject.contract), values)


def _signer(message: SignableMessage, signature: bytes) -> str:
    if int.from_bytes(signature[32:64]) > _HALF_ORDER:
        raise refused("signature is not in its lower form")
    if signature[64] not in (27, 28):
        raise refused("signature ends neither in 27 nor in 28")
    try:
        return str(EthAccount.recover_message(message, signature=signature))
    except Exception as error:  # libraries differ in what they raise for numbers off the curve
        raise refused("signature is nobody's") from error


# Values -------------------------------------------------------------------------------------------------


def _check_bytes(name: str, value: Any, size: int) -> None:
    if not isinstance(value, bytes) or len(value) != size:
        found = f"{len(value)} bytes" if isinstance(value, bytes) else f"a {type(value).__name__}"
        hint = f"pass exactly {size} bytes"
        if isinstance(value, Schema):
            hint = "pass schema.hash"
        elif isinstance(value, str):
            hint += "; bytes.fromhex(…) reads hexadecimal digits, without 0x"
        raise AttestationError(f"{name} is {found}; expected {size} bytes", hint=hint)


def _check_type(name: str, value: Any, kind: type, source: str) -> None:
    if not isinstance(value, kind):
        raise AttestationError(
            f"{name} is a {type(value).__name__}; expected {kind.__name__}", hint=f"pass {source}"
        )


def _addresses(name: str, accounts: Any) -> set[str]:
    """Return addresses with their checksums. A single text is refused: every part of it would be in it."""
    if isinstance(accounts, str | bytes) or not isinstance(accounts, Iterable):
        raise AttestationError(
            f"{name} is a {type(accounts).__name__}; expected a list of addresses",
            hint=f"pass index.{name}(dataset_id), or a list of accounts",
        )
    return {_address(name, account) for account in accounts}


def _address(name: str, value: Any) -> str:
    try:
        return address_of(value, name)
    except CallError as error:
        raise AttestationError(error.message, hint=error.hint) from None


def _unhex(name: str, value: Any, size: int) -> Any:
    digits = value[2:] if isinstance(value, str) and value[:2] == "0x" else ""
    if len(digits) != 2 * size or not set(digits) <= set("0123456789abcdefABCDEF"):
        raise AttestationError(f"{name} is not 0x and {2 * size} hexadecimal digits", hint=_HINT)
    return value if size == 20 else bytes.fromhex(digits)


def _json(body: dict[str, Any]) -> str:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
