"""``DataIndex``: where datasets are registered, found, and checked before anything is uploaded."""

import operator
from base64 import b32decode, b32encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum
from html import escape
from threading import Lock
from typing import Any, Final

import numpy as np
import pandas as pd
from eth_hash.auto import keccak

from twopm_kit.chain import Account, Chain, Contract, Event, Receipt
from twopm_kit.chain.abi import address_of
from twopm_kit.chain.deployed import Deployed, facts_table
from twopm_kit.errors import ContractReverted, IndexRefused
from twopm_kit.vsies.attestation import Allocator, Attestation, Subject, Validator
from twopm_kit.vsies.field import meant
from twopm_kit.vsies.schema import Schema

__all__ = ["DataIndex", "DatasetEntry", "Role", "UploadEntry", "structure_hash"]

ZERO: Final = bytes(32)
MAX_FIELDS: Final = 256
MAX_NAME: Final = 64  # bytes of UTF-8
_CODES: Final = {"float": 1, "int": 2, "bool": 3, "category": 4}
_CHUNK: Final = 262_144  # data up to here is one raw block; longer data is a tree of them
_RAW, _TREE = 0x55, 0x70  # codecs of content identifiers


class Role(IntEnum):
    """What a dataset's owner trusts an account with, with the contract's numbers."""

    VALIDATOR = 1
    ALLOCATOR = 2

    def __str__(self) -> str:
        return self.name.lower()


def structure_hash(field_types: Mapping[str, str]) -> bytes:
    """Return what the contract keeps of names and types of the fields, in their order: 32 bytes.

    Parameters
    ----------
    field_types : mapping of str to str
        Name to ``"float"``, ``"int"``, ``"bool"`` or ``"category"``: ``schema.field_types``.

    Raises
    ------
    IndexRefused
        No fields or too many, an unknown type, or a name that is empty or longer than 64 bytes.
    """
    if not 0 < len(field_types) <= MAX_FIELDS:
        raise IndexRefused(
            f"a dataset has {len(field_types)} fields; the index takes 1 to {MAX_FIELDS}",
            hint="register the fields that are to be found, and keep the rest in a dataset of their own",
        )
    link = len(field_types).to_bytes(32, "big")
    for name, kind in field_types.items():
        _check_name(name)
        if kind not in _CODES:
            raise IndexRefused(
                f"the field {name!r} has the type {kind!r}; expected one of {', '.join(_CODES)}",
                hint="pass schema.field_types",
            )
        link = bytes(keccak(link + keccak(name.encode()) + _CODES[kind].to_bytes(32, "big")))
    return link


@dataclass(frozen=True, repr=False)
class DatasetEntry:
    """A dataset as the index knows it.

    Attributes
    ----------
    dataset_id : int
        Its number, from 1.
    name : str
        What people call it; anybody may use the same.
    owner : str
        Who says whom it trusts, and may close it.
    schema_hash, structure_hash : bytes
        Of the whole schema (zero: only fields were registered), and of names and types of the fields.
    field_types : dict of str to str
        Name to type, in order.
    uploads : int
        How many there are.
    block : int
        In which it was registered.
    closed : bool
        Whether no more uploads are taken.
    """

    dataset_id: int
    name: str
    owner: str
    schema_hash: bytes
    structure_hash: bytes
    field_types: dict[str, str]
    uploads: int
    block: int
    closed: bool

    def __repr__(self) -> str:
        state = "closed, " if self.closed else ""
        return (
            f"<DatasetEntry {self.dataset_id} {self.name!r}: {state}{len(self.field_types)} fields, "
            f"{self.uploads} uploads>"
        )

    def _repr_html_(self) -> str:
        listed = [f"{name}: {kind}" for name, kind in self.field_types.items()]
        facts = {
            "owner": self.owner,
            "fields": ", ".join(listed[:12]) + (" …" if len(listed) > 12 else ""),
            "schema": "0x" + self.schema_hash.hex(),
            "uploads": f"{self.uploads:,}",
            "registered in block": f"{self.block:,}",
            "state": "closed" if self.closed else "open",
        }
        title = escape(f"Dataset {self.dataset_id}: {self.name}")
        return f"<p><strong>{title}</strong></p>{facts_table(facts)}"


@dataclass(frozen=True, repr=False)
class UploadEntry:
    """An upload as the index knows it.

    Attributes
    ----------
    upload_id, dataset_id : int
        Numbers at the index, from 1.
    contributor : str
        Account that uploaded.
    root : str
        Storage root, ``"0x…"``.
    cid : str
        Content identifier (CIDv1).
    rows, size : int
        Rows of the data, and bytes in storage.
    schema_hash, standard_hash : bytes
        Of the schema that it was validated with, and of the standardisation (zero: none).
    key_fingerprint : str
        Of the public key that it is encrypted under, 32 hexadecimal digits.
    version, previous, superseded_by : int
        1 for the first of its line; numbers of the upload before and the one after it, 0 where there is none.
    attested : int
        How many attestations the contract has counted.
    deprecated : bool
        Whether its contributor or the dataset's owner has withdrawn it.
    block : int
        In which it was uploaded.
    """

    upload_id: int
    dataset_id: int
    contributor: str
    root: str
    cid: str
    rows: int
    size: int
    schema_hash: bytes
    standard_hash: bytes
    key_fingerprint: str
    version: int
    previous: int
    superseded_by: int
    attested: int
    deprecated: bool
    block: int

    def __repr__(self) -> str:
        state = "deprecated, " if self.deprecated else ""
        state += f"superseded by {self.superseded_by}, " if self.superseded_by else ""
        return (
            f"<UploadEntry {self.upload_id} in dataset {self.dataset_id}: {state}{self.rows:,} rows, "
            f"{self.size:,} bytes, version {self.version}, {self.attested} attestations>"
        )

    def _repr_html_(self) -> str:
        facts = {
            "dataset": str(self.dataset_id),
            "contributor": self.contributor,
            "rows": f"{self.rows:,}",
            "bytes": f"{self.size:,}",
            "root": self.root,
            "CID": self.cid,
            "key": self.key_fingerprint,
            "version": f"{self.version}" + (f", follows {self.previous}" if self.previous else ""),
            "attestations": str(self.attested),
            "state": self._state,
        }
        return f"<p><strong>Upload {self.upload_id}</strong></p>{facts_table(facts)}"

    @property
    def _state(self) -> str:
        if self.deprecated:
            return "deprecated"
        return f"superseded by {self.superseded_by}" if self.superseded_by else "current"


# What to do about a refusal of the contract.
_HINTS: Final = {
    "unknown dataset": "pass what index.register(...) returned, or find one with index.datasets()",
    "unknown field": "ask for one of index.dataset(number).field_types",
    "unknown upload": "find one with index.find(...)",
    "dataset is closed": "register a dataset of your own: index.register(schema, sender=…)",
    "fields are not the dataset's": "compare with index.demand(dataset, schema): it names each difference",
    "schema is not the dataset's": "compare with index.demand(dataset, schema): it names each difference",
    "already uploaded": "find the upload with index.upload_of(dataset, root); encrypt again for another root",
    "only the contributor supersedes an upload": "upload without previous=, as a first version",
    "already superseded": "pass the latest version as previous=: index.entry(number).superseded_by",
    "only the owner may do this": "send it as index.dataset(number).owner",
    "upload is deprecated": "attest its newer version, if there is one",
    "attestation is for another schema": "ask its issuer for one made for the schema of this dataset",
    "allocator is not trusted here": "ask an allocator in index.allocators(dataset) to assign the task",
    "validator has not signed this": "bring the attestation unchanged, and for the upload that it names",
    "validator is not trusted here": "ask a validator in index.validators(dataset)",
    "allocator and validator are one": "let two parties sign",
    "contributor attests itself": "ask parties who did not contribute the data",
    "task was counted before": "ask the allocator for a new task",
    "ownership was not offered to you": "ask the owner for index.offer(number, account, sender=owner)",
    "only contributor or owner deprecates": "send it as index.entry(number).contributor",
    "role was granted before": "nothing is left to do: index.has_role(...) is true",
    "rows out of range": "pass how many rows the data has, from 1",
    "size out of range": "pass stored.size, the bytes in storage",
}


class DataIndex(Deployed):
    """A deployed index, as one party sees it through its own connection. Make one with `deploy` or `at`.

    Whoever deploys an index may close datasets in it and nothing else.

    Parameters
    ----------
    chain : Chain
        The party's connection.
    contract : Contract
        The deployed contract.
    """

    CONTRACT = "DataIndex"
    HINTS = _HINTS

    def __init__(self, chain: Chain, contract: Contract) -> None:
        super().__init__(chain, contract)
        self._log = _Log(chain, contract)

    # Datasets -------------------------------------------------------------------------------------------

    def register(self, schema: Schema, *, sender: Account) -> int:
        """Register a schema's fields and its hash; return the number of the dataset.

        Raises
        ------
        IndexRefused
            It has more fields than the index takes, or a name is too long for it.
        """
        structure_hash(_schema(schema).field_types)
        _check_name(schema.name)
        names, kinds = list(schema.field_types), list(schema.field_types.values())
        receipt = self.send("registerDataset", schema.name, names, kinds, schema.hash, sender=sender)
        return int(self.event(receipt, "DatasetRegistered")["datasetId"])

    def dataset(self, dataset_id: int) -> DatasetEntry:
        """Return a dataset as the index knows it now.

        Raises
        ------
        IndexRefused
            There is none of this number.
        """
        dataset_id = _whole(dataset_id)
        info = self.contract.dataset(dataset_id) if _fits(dataset_id) else None
        if info is None or not info.registered_at:
            raise IndexRefused(
                f"the index at {self.address} has no dataset {dataset_id!r}; it has "
                f"{self.contract.dataset_count()}",
                hint="pass what index.register(...) returned, or find one with index.datasets()",
            )
        block, structure = int(info.registered_at), bytes(info.structure_hash)
        return DatasetEntry(
            dataset_id=dataset_id,
            name=str(info.name),
            owner=str(info.owner),
            schema_hash=bytes(info.schema_hash),
            structure_hash=structure,
            field_types=self._field_types(dataset_id, block, structure),
            uploads=int(info.uploads),
            block=block,
            closed=bool(info.closed),
        )

    def datasets(self, schema: "Schema | bytes | None" = None) -> list[DatasetEntry]:
        """Return all datasets, or those of one schema, oldest first."""
        wanted = None if schema is None else _schema_hash(schema)
        found = [n for n, known in self._log.read().datasets.items() if wanted in (None, known)]
        return [self.dataset(number) for number in found]

    def field_type(self, dataset_id: int, field: str) -> str:
        """Return the type of a dataset's field.

        Raises
        ------
        ContractReverted
            The dataset has no such field, or there is no such dataset.
        """
        with self.explained():
            return str(self.contract.getFieldType(dataset_id, field))

    def close(self, dataset_id: int, *, sender: Account) -> Receipt:
        """Take no more uploads to a dataset; its owner may, and the owner of the index."""
        return self.send("close", dataset_id, sender=sender)

    def offer(self, dataset_id: int, to: "Account | str", *, sender: Account) -> Receipt:
        """Offer the ownership of a dataset (0: of the index); it passes on when it is taken."""
        return self.send("offer", dataset_id, to, sender=sender)

    def take(self, dataset_id: int, *, sender: Account) -> Receipt:
        """Take over an ownership that was offered to the sender."""
        return self.send("take", dataset_id, sender=sender)

    # Uploads --------------------------------------------------------------------------------------------

    def demand(
        self,
        dataset_id: int,
        schema: Schema,
        *,
        root: str | None = None,
        contributor: "Account | str | None" = None,
        previous: int = 0,
    ) -> DatasetEntry:
        """Compare a planned upload with the index before anything is uploaded.

        Parameters
        ----------
        dataset_id : int
            Where it is to go.
        schema : Schema
            What the data was validated with.
        root : str, optional
            Storage root, if it is known already.
        contributor : Account or address, optional
            Who is to upload.
        previous : int
            Upload that it is to supersede; 0 for none.

        Returns
        -------
        DatasetEntry
            The dataset that it fits.

        Raises
        ------
        IndexRefused
            It does not fit; the message names every difference.
        """
        entry = self.dataset(dataset_id)
        _schema(schema)
        faults = ["it is closed"] if entry.closed else []
        faults += _differences(entry.field_types, schema.field_types)
        if not faults and schema.hash != entry.schema_hash and any(entry.schema_hash):
            faults.append(
                f"its schema is 0x{entry.schema_hash.hex()[:16]}…, this one is 0x{schema.hash.hex()[:16]}…: "
                "fields and types agree, but name, ranges, categories, rules, units or standards do not"
            )
        if root is not None and (there := self.upload_of(dataset_id, root)):
            faults.append(f"this root was uploaded before, as upload {there}")
        if previous:
            faults += self._line_faults(entry, previous, contributor)
        if faults:
            raise IndexRefused(
                f"this cannot be uploaded to dataset {dataset_id} ({entry.name!r}): {'; '.join(faults)}",
                hint="use the schema of the dataset, or register this one as a dataset of its own",
            )
        return entry

    def upload(
        self,
        dataset_id: int,
        *,
        root: str,
        cid: str,
        rows: int,
        size: int,
        schema: Schema,
        standard_hash: bytes = ZERO,
        key_fingerprint: str,
        previous: int = 0,
        sender: Account,
    ) -> int:
        """List encrypted data that is in storage already; return the number of the upload.

        Parameters
        ----------
        dataset_id : int
            Its dataset.
        root, cid : str
            Storage root and content identifier of the stored bytes.
        rows, size : int
            Rows of the data, bytes in storage.
        schema : Schema
            What the data was validated with.
        standard_hash : bytes
            Of the standardisation, 32 bytes; zero for none.
        key_fingerprint : str
            Of the public key, 32 hexadecimal digits.
        previous : int
            An upload of the sender's that this one supersedes.
        sender : Account
            The contributor.

        Raises
        ------
        IndexRefused
            It does not fit the dataset, or a value is not of its form.
        ContractReverted
            The contract refuses; the reason says why.
        """
        entry = self.demand(dataset_id, schema, root=root, contributor=sender, previous=previous)
        receipt = self.send(
            "uploadData",
            dataset_id,
            _root(root),
            _cid_digest(cid, size),
            rows,
            size,
            structure_hash(schema.field_types),
            entry.schema_hash,
            standard_hash,
            _digits(
                key_fingerprint, 16, "the key fingerprint has to be", key_fingerprint, "holder.fingerprint"
            ),
            previous,
            sender=sender,
        )
        return int(self.event(receipt, "DataUploaded")["uploadId"])

    def entry(self, upload_id: int) -> UploadEntry:
        """Return an upload as the index knows it now.

        Raises
        ------
        IndexRefused
            There is none of this number.
        """
        upload_id = _whole(upload_id)
        info = self.contract.upload(upload_id) if _fits(upload_id) else None
        if info is None or not info.dataset_id:
            raise IndexRefused(
                f"the index at {self.address} has no upload {upload_id!r}; it has "
                f"{self.contract.upload_count()}",
                hint="find one with index.find(...)",
            )
        return UploadEntry(
            upload_id=upload_id,
            dataset_id=int(info.dataset_id),
            contributor=str(info.contributor),
            root="0x" + bytes(info.data_hash).hex(),
            cid=_cid(bytes(info.cid_digest), int(info.size)),
            rows=int(info.rows),
            size=int(info.size),
            schema_hash=bytes(info.schema_hash),
            standard_hash=bytes(info.standard_hash),
            key_fingerprint=bytes(info.key_fingerprint).hex(),
            version=int(info.version),
            previous=int(info.previous),
            superseded_by=int(info.superseded_by),
            attested=int(info.attestations),
            deprecated=bool(info.deprecated),
            block=int(info.uploaded_at),
        )

    def upload_of(self, dataset_id: int, root: str) -> int:
        """Return the upload that brought a root to a dataset; 0 when none has."""
        return int(self.contract.upload_of(dataset_id, _root(root)))

    def deprecate(self, upload_id: int, *, sender: Account, reason: str = "") -> Receipt:
        """Say that an upload is not to be used any more; its contributor or the dataset's owner may.

        The chain keeps the hash of the reason, not its words.
        """
        if not isinstance(reason, str):
            raise IndexRefused(f"reason is a {type(reason).__name__}", hint="pass a short sentence")
        digest = bytes(keccak(reason.encode())) if reason else ZERO
        return self.send("deprecate", upload_id, digest, sender=sender)

    # Attestations ---------------------------------------------------------------------------------------

    def grant(
        self, dataset_id: int, account: "Account | str", role: "Role | str", *, sender: Account
    ) -> Receipt:
        """Trust an account as a dataset's ``"validator"`` or ``"allocator"``; the dataset's owner may."""
        return self.send("grant", dataset_id, account, _role(role), sender=sender)

    def revoke(
        self, dataset_id: int, account: "Account | str", role: "Role | str", *, sender: Account
    ) -> Receipt:
        """Trust it no more; attestations that were counted stay."""
        return self.send("revoke", dataset_id, account, _role(role), sender=sender)

    def has_role(self, dataset_id: int, account: "Account | str", role: "Role | str") -> bool:
        """Tell whether a dataset trusts an account in a role."""
        return bool(self.contract.has_role(dataset_id, account, _role(role)))

    def validators(self, dataset_id: int) -> list[str]:
        """Return the accounts whose verdicts a dataset trusts."""
        return self._log.read().trusted(_demanded(dataset_id, "dataset_id"), Role.VALIDATOR)

    def allocators(self, dataset_id: int) -> list[str]:
        """Return the accounts whose assignments a dataset trusts."""
        return self._log.read().trusted(_demanded(dataset_id, "dataset_id"), Role.ALLOCATOR)

    def allocator(self, account: Account) -> Allocator:
        """Return an allocator that signs for this index."""
        return Allocator(account, self.chain.chain_id, self.address)

    def validator(self, account: Account) -> Validator:
        """Return a validator that signs for this index."""
        return Validator(account, self.chain.chain_id, self.address)

    def subject(self, upload_id: int) -> Subject:
        """Return what an attestation of an upload has to be about."""
        found = self.entry(upload_id)
        return Subject(
            self.chain.chain_id,
            self.address,
            found.upload_id,
            found.contributor,
            _root(found.root),
            found.schema_hash,
        )

    def attest(self, upload_id: int, attestation: Attestation, *, sender: Account) -> Receipt:
        """Bring an attestation on chain; anybody may, its force is in its signatures.

        Raises
        ------
        ContractReverted
            It is forged, of somebody who is not trusted, of something else, or was counted before.
        """
        if not isinstance(attestation, Attestation):
            raise IndexRefused(
                f"attestation is a {type(attestation).__name__}; expected an Attestation",
                hint="read it with Attestation.from_json, and pass the number of the upload before it",
            )
        a = attestation
        return self.send(
            "attest",
            upload_id,
            a.task_id,
            a.schema,
            a.u_hash,
            a.public_fields_hash,
            a.validator_signature,
            a.validator_address,
            a.allocator_signature,
            sender=sender,
        )

    # Search ---------------------------------------------------------------------------------------------

    def find(
        self,
        schema: "Schema | bytes | None" = None,
        field: str | None = None,
        min_rows: int = 0,
        max_size: int | None = None,
        attested: bool | None = None,
        contributor: "Account | str | None" = None,
        deprecated: bool = False,
        superseded: bool = False,
        owner: "Account | str | None" = None,
    ) -> list[UploadEntry]:
        """Search the uploads, oldest first. Each call reads only the blocks that are new since the last.

        Parameters
        ----------
        schema : Schema or bytes, optional
            Only uploads that were validated with it, or with the schema of this hash.
        field : str, optional
            Only uploads to datasets that have a field of this name.
        min_rows : int
            Only uploads of at least so many rows.
        max_size : int, optional
            Only uploads of at most so many bytes.
        attested : bool, optional
            True: only uploads with an attestation; False: only those without. An attestation is worth what
            the dataset's owner is, and anybody may own a dataset with validators of his own: pass `owner`.
        contributor : Account or address, optional
            Only uploads of this account.
        deprecated, superseded : bool
            Whether uploads that were withdrawn, or have a newer version, are found too.
        owner : Account or address, optional
            Only uploads to datasets of this account, whose choice of validators and allocators one trusts.

        Raises
        ------
        IndexRefused
            A condition is not of its type: it would find nothing, or everything.
        """
        for name, number in (("min_rows", min_rows), ("max_size", 0 if max_size is None else max_size)):
            _demanded(number, name)
        for name, said in (("deprecated", deprecated), ("superseded", superseded), ("attested", attested)):
            if not isinstance(said, bool) and (said is not None or name != "attested"):
                raise IndexRefused(f"{name} is {str(said)[:40]!r}", hint="pass True or False")
        if field is not None and not isinstance(field, str):
            raise IndexRefused(
                f"field is a {type(field).__name__}; expected the name of one field", hint='pass field="age"'
            )
        wanted = None if schema is None else _schema_hash(schema)
        account = None if contributor is None else address_of(contributor, "contributor")
        found = [
            entry
            for entry in self._log.read().uploads.values()
            if wanted in (None, entry.schema_hash)
            and account in (None, entry.contributor)
            and entry.rows >= min_rows
            and (max_size is None or entry.size <= max_size)
            and attested in (None, entry.attested > 0)
            and (deprecated or not entry.deprecated)
            and (superseded or not entry.superseded_by)
        ]
        if owner is not None:
            trusted = address_of(owner, "owner")
            numbers = {entry.dataset_id for entry in found}
            owned = {n for n in numbers if str(self.contract.dataset(n).owner) == trusted}
            found = [entry for entry in found if entry.dataset_id in owned]
        if field is None:
            return found
        has = {number: self._has_field(number, field) for number in {entry.dataset_id for entry in found}}
        return [entry for entry in found if has[entry.dataset_id]]

    def table(self, entries: "Iterable[UploadEntry] | None" = None) -> pd.DataFrame:
        """Return one row an upload: of what `find` returned, or of everything that is current."""
        listed = self.find() if entries is None else _entries(entries)
        names = [item.name for item in fields(UploadEntry) if item.name != "upload_id"]
        rows = [[_readable(getattr(entry, name)) for name in names] for entry in listed]
        index = pd.Index([entry.upload_id for entry in listed], name="upload", dtype="int64")
        return pd.DataFrame(rows, columns=names, index=index)

    def _has_field(self, dataset_id: int, field: str) -> bool:
        try:
            return bool(self.contract.getFieldType(dataset_id, field))
        except ContractReverted as refused:
            if refused.reason == "unknown field":
                return False
            raise

    def _field_types(self, dataset_id: int, block: int, structure: bytes) -> dict[str, str]:
        found = self.contract.events(
            "DatasetRegistered", from_block=block, to_block=block, datasetId=dataset_id
        )
        types = dict(zip(found[0]["fieldNames"], found[0]["fieldTypes"], strict=True)) if found else {}
        if not types or structure_hash(types) != structure:
            raise IndexRefused(
                f"the fields of dataset {dataset_id} are not in the log of block {block}",
                hint="connect to a node that keeps the chain's logs",
            )
        return types

    def _line_faults(
        self, entry: DatasetEntry, previous: int, contributor: "Account | str | None"
    ) -> list[str]:
        before = self.entry(previous)
        faults = []
        if before.dataset_id != entry.dataset_id:
            faults.append(f"upload {previous} is in dataset {before.dataset_id}")
        if before.superseded_by:
            faults.append(f"upload {previous} has a newer version already: {before.superseded_by}")
        if contributor is not None and before.contributor != address_of(contributor, "contributor"):
            faults.append(f"upload {previous} is of {before.contributor}, who alone may supersede it")
        return faults

    def _repr_html_(self) -> str:
        datasets, uploads = self.contract.dataset_count(), self.contract.upload_count()
        facts = {"datasets": f"{datasets:,}", "uploads": f"{uploads:,}"}
        return f"<p><strong>{escape(repr(self))}</strong></p>{facts_table(facts)}"


class _Log:
    """What the events of an index say so far; read on from where the last reading ended."""

    def __init__(self, chain: Chain, contract: Contract) -> None:
        self._chain, self._contract = chain, contract
        self._lock = Lock()
        self._first: int | None = None
        self._said = _Said()

    def read(self) -> "_Said":
        """Take in what is new; after a reorganisation of the chain, everything again."""
        with self._lock:
            # in one step, when all is read: a reading that is interrupted must count nothing twice
            self._said = self._read(self._said)
            return self._said

    def _read(self, said: "_Said") -> "_Said":
        if self._first is None:
            self._first = int(self._contract.first_block())
        if said.next is not None and self._chain.block_hash(said.next - 1) != said.mark:
            said = _Said()
        start = self._first if said.next is None else said.next
        head = self._chain.block_number
        if head < start:
            return said
        mark = self._chain.block_hash(head)
        fresh = _Said(dict(said.datasets), dict(said.uploads), dict(said.roles), head + 1, mark)
        for event in self._contract.events(from_block=start, to_block=head):
            fresh.take(event)
        return fresh


@dataclass
class _Said:
    """What the events say up to a block; once it is read, nobody changes it."""

    datasets: dict[int, bytes] = field(default_factory=dict)  # number -> schema hash
    uploads: dict[int, UploadEntry] = field(default_factory=dict)
    roles: dict[tuple[int, str], int] = field(default_factory=dict)
    next: int | None = None
    mark: str | None = None

    def trusted(self, dataset_id: int, role: Role) -> list[str]:
        found = ((number, account) for (number, account), held in self.roles.items() if held & role)
        return [account for number, account in found if number == dataset_id]

    def take(self, event: Event) -> None:
        """Take in one event."""
        said = event.args
        if event.name == "DatasetRegistered":
            self.datasets[int(said["datasetId"])] = bytes(said["schemaHash"])
        elif event.name in ("RoleGranted", "RoleRevoked"):
            key = int(said["datasetId"]), str(said["account"])
            self.roles[key] = self.roles.get(key, 0) ^ int(said["role"])
        elif event.name == "DataUploaded":
            entry = _entry(said, event.block)
            self.uploads[entry.upload_id] = entry
            if entry.previous:
                self._change(entry.previous, superseded_by=entry.upload_id)
        elif event.name == "Deprecated":
            self._change(int(said["uploadId"]), deprecated=True)
        elif event.name == "Attested":
            number = int(said["uploadId"])
            self._change(number, attested=self.uploads[number].attested + 1)

    def _change(self, upload_id: int, **changes: Any) -> None:
        self.uploads[upload_id] = replace(self.uploads[upload_id], **changes)


def _entry(said: Mapping[str, Any], block: int) -> UploadEntry:
    return UploadEntry(
        upload_id=int(said["uploadId"]),
        dataset_id=int(said["datasetId"]),
        contributor=str(said["contributor"]),
        root="0x" + bytes(said["dataHash"]).hex(),
        cid=_cid(bytes(said["cidDigest"]), int(said["size"])),
        rows=int(said["rows"]),
        size=int(said["size"]),
        schema_hash=bytes(said["schemaHash"]),
        standard_hash=bytes(said["standardHash"]),
        key_fingerprint=bytes(said["keyFingerprint"]).hex(),
        version=int(said["version"]),
        previous=int(said["previous"]),
        superseded_by=0,
        attested=0,
        deprecated=False,
        block=block,
    )


def _differences(registered: Mapping[str, str], planned: Mapping[str, str]) -> list[str]:
    # anybody registers names: signs that steer a terminal are shown, not sent to it
    registered = {name if name.isprintable() else repr(name): kind for name, kind in registered.items()}
    faults = []
    if missing := [name for name in registered if name not in planned]:
        faults.append(f"missing: {', '.join(missing)}")
    if extra := [name for name in planned if name not in registered]:
        faults.append(f"not registered: {', '.join(extra)}")
    faults += [
        f"{name} is {planned[name]}, registered as {kind}"
        for name, kind in registered.items()
        if planned.get(name, kind) != kind
    ]
    if not faults and list(registered) != list(planned):
        faults.append(f"the order of the fields is not {', '.join(registered)}")
    return faults


def _schema_hash(schema: "Schema | bytes") -> bytes:
    found = schema.hash if isinstance(schema, Schema) else schema
    if not isinstance(found, bytes) or len(found) != 32:
        raise IndexRefused(
            f"a {type(schema).__name__} was passed as a schema; expected a Schema or its hash of 32 bytes",
            hint="pass schema, or schema.hash; names may be anybody's: choose from index.datasets() by them",
        )
    return found


def _schema(schema: Any) -> Schema:
    if not isinstance(schema, Schema):
        raise IndexRefused(
            f"a {type(schema).__name__} was passed as schema; expected a Schema",
            hint="pass the schema that the data was validated with; Schema.from_json reads one from text",
        )
    return schema


def _entries(entries: Any) -> list[UploadEntry]:
    listed = list(entries) if isinstance(entries, Iterable) else [entries]
    if strange := [one for one in listed if not isinstance(one, UploadEntry)]:
        raise IndexRefused(
            f"a {type(strange[0]).__name__} was passed; expected entries of uploads",
            hint="pass what index.find(...) returned, or [index.entry(number)]",
        )
    return listed


def _whole(number: Any) -> Any:
    """Return numpy's whole numbers as Python's, and everything else as it is."""
    return operator.index(number) if isinstance(number, np.integer) else number


def _demanded(number: Any, name: str) -> int:
    """Return a whole number from 0, numpy's too, or refuse it."""
    found = _whole(number)
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise IndexRefused(f"{name} is {str(number)[:40]!r}", hint="pass a whole number from 0")
    return found


def _check_name(name: str) -> None:
    if not 0 < len(name.encode()) <= MAX_NAME:
        raise IndexRefused(
            f"the name {name[:70]!r} takes {len(name.encode())} bytes; the index takes 1 to {MAX_NAME}",
            hint="shorten it; letters outside ASCII take two bytes and more",
        )


def _fits(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 < number < 1 << 64


def _role(role: "Role | str") -> int:
    names = {str(one): one for one in Role}
    found = names.get(role) if isinstance(role, str) else role
    if found not in tuple(Role):
        raise IndexRefused(
            f"{str(role)[:60]!r} is no role; expected {' or '.join(names)}",
            hint=f"{meant(role, names)}pass one of them, after the account",
        )
    return int(found)


def _root(root: Any) -> bytes:
    digits = root[2:] if isinstance(root, str) and root[:2] == "0x" else None
    return _digits(digits, 32, "a storage root has to be 0x and", root, "stored.root, as the store gave it")


def _digits(text: Any, size: int, what: str, passed: Any, instead: str) -> bytes:
    if not isinstance(text, str) or len(text) != 2 * size or not set(text) <= set("0123456789abcdefABCDEF"):
        found = repr(passed[:80]) if isinstance(passed, str) else f"a {type(passed).__name__}"
        raise IndexRefused(f"{what} {2 * size} hexadecimal digits, not {found}", hint=f"pass {instead}")
    return bytes.fromhex(text)


def _cid(digest: bytes, size: int) -> str:
    """Return the CIDv1 of stored bytes: their codec follows from their size."""
    head = bytes([1, _RAW if size <= _CHUNK else _TREE, 0x12, 32])
    return "b" + b32encode(head + digest).decode().lower().rstrip("=")


def _cid_digest(cid: Any, size: int) -> bytes:
    text = cid if isinstance(cid, str) and len(cid) == 59 and cid.isascii() else ""
    try:
        raw = b32decode(text[1:].upper() + "======")
    except ValueError:
        raw = b""
    if len(raw) != 36 or not isinstance(size, int) or _cid(raw[4:], size) != cid:
        raise IndexRefused(
            f"{str(cid)[:70]!r} is not the content identifier (CIDv1, SHA-256) of {size!r} bytes",
            hint="pass what content_id(data) returned, and the size of the same data",
        )
    return raw[4:]


def _readable(value: Any) -> Any:
    return "0x" + value.hex() if isinstance(value, bytes) else value
