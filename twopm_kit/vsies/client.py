"""``DataClient``: a raw file to an encrypted, stored and indexed dataset, and back to encrypted columns."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import platformdirs

from twopm_kit.chain import Account, Chain
from twopm_kit.errors import CiphertextError, ContractReverted, IndexRefused, SchemaError, UnknownContract
from twopm_kit.fhe import EncryptedFrame, Evaluator, KeyHolder
from twopm_kit.vsies.index import DataIndex, UploadEntry, structure_hash
from twopm_kit.vsies.prepared import Prepared
from twopm_kit.vsies.reference import DatasetRef
from twopm_kit.vsies.schema import Schema
from twopm_kit.vsies.sources import open_source
from twopm_kit.vsies.standard import Standard
from twopm_kit.vsies.storage import Store, StoredObject, storage_root
from twopm_kit.vsies.workplace import Workplace

__all__ = ["DataClient"]

_CATEGORY: Final = "category:"
_PRESENT: Final = "present:"


class DataClient:
    """One party's way into the data service: contribute, find, fetch.

    Parameters
    ----------
    chain : Chain
        The party's connection.
    storage : str or Store, optional
        Where ciphertexts lie: ``file:///folder``, ``memory://name``, ``s3://bucket/prefix``,
        ``ipfs+http://host:port``; memory of its own if not given. Nobody who runs it is trusted.
    account : Account
        Who signs; its coins pay the gas.
    index : DataIndex or str, optional
        The index contract or its address; references to another are then refused. Without one, the client
        takes the index that it used before on this chain, and deploys one for its first contribution.
    workdir : path, optional
        Folder of its own for what is under way, so that an interrupted contribution goes on: ciphertexts,
        public facts, and a key that the names of files are made with. By default a folder of the user's.

    Examples
    --------
    >>> client = DataClient(chain=chain, storage="file:///srv/shared", account=hospital)
    >>> ref = client.contribute("patients.csv", schema, keys=holder)
    >>> enc = client.fetch(ref)  # the same on any other machine, by anybody
    """

    def __init__(
        self,
        *,
        chain: Chain,
        account: Account,
        storage: str | Store | None = None,
        index: DataIndex | str | None = None,
        workdir: str | Path | None = None,
    ) -> None:
        if not isinstance(chain, Chain) or not isinstance(account, Account):
            raise IndexRefused(
                f"chain is a {type(chain).__name__} and account a {type(account).__name__}",
                hint='pass chain=kit.chain.connect(…) and account=chain.account("…")',
            )
        self.chain = chain
        self.account = account
        self.store = storage if isinstance(storage, Store) else Store(storage)
        self._place = Workplace(Path(workdir or platformdirs.user_state_path("twopm_kit")))
        self._index = DataIndex.at(chain, index) if isinstance(index, str) else index
        self._is_pinned = index is not None

    def __repr__(self) -> str:
        return f"<DataClient {self.account.name}: {self.store.url}, chain {self.chain.chain_id}>"

    @property
    def index(self) -> DataIndex:
        """The index contract; deployed when there is none yet."""
        if self._known_index() is None:
            note = self._index_note
            with self._place.alone(note):
                if self._known_index() is None:
                    self._index = DataIndex.deploy(self.chain, self.account)
                    self._place.write(note, self._index.address)
        return self._need_index()

    # Contributing ---------------------------------------------------------------------------------------

    def register(self, schema: Schema) -> int:
        """Return the dataset of a schema: the oldest that is open, or a new one that this account owns.

        The owner of a dataset says who attests in it and may withdraw uploads: where the oldest is not of
        somebody you trust, register with ``client.index`` and pass ``dataset_id=`` to `contribute`.
        """
        if not isinstance(schema, Schema):
            raise SchemaError(
                f"a {type(schema).__name__} was passed as schema", hint="pass a kit.vsies.Schema"
            )
        if not self._open_datasets(schema):
            self.index.register(schema, sender=self.account)
        # somebody else may have registered it in the same moment: then all take the older one
        return self._open_datasets(schema)[0]

    def contribute(
        self,
        data: Any,
        schema: Schema,
        *,
        keys: KeyHolder | Evaluator,
        standard: Standard | None = None,
        dataset_id: int | None = None,
        previous: int = 0,
        packing: str = "real",
        n_jobs: int = 1,
        progress: bool = True,
        observe: Callable[[str], object] | None = None,
        **options: Any,
    ) -> DatasetRef:
        """Validate, standardise, encrypt, store and index a table.

        All rows are validated and standardised before one is encrypted, and the plan is held against the
        index before anything is stored. Nothing in clear leaves the process, and nothing in clear is written:
        workbooks and tensors that lie behind a URL are read from memory without a name, which ends with it.
        With `n_jobs` above 1, rows go to processes of this user through pipes that nobody else can open.

        A call that was interrupted, by whatever means, goes on where it was when it is made again with the
        same arguments: ciphertexts, slices and the upload itself are not made twice. A call that was
        finished returns the same reference again; only when storage has lost the data is it encrypted anew,
        as the next version. Of several such calls at once, one works and the others wait for it.

        Parameters
        ----------
        data : path, URL, DataFrame or array
            Whatever ``open_source`` opens; larger than memory if need be.
        schema : Schema
            What every row must keep. Columns of numbers need `low` and `high`: the public bounds of the
            ciphertexts follow from them, not from the values.
        keys : KeyHolder or Evaluator
            Whose key it is encrypted under; a holder's ciphertexts are half the size.
        standard : Standard, optional
            How columns are brought to one scale. Without one, what the schema alone declares.
        dataset_id : int, optional
            The dataset to contribute to. Without one, that of `previous`; or `register` finds or makes one.
        previous : int
            An earlier upload of this account that this one supersedes.
        packing : str
            "complex" puts two rows into a slot: half the bytes, for linear work.
        n_jobs : int
            Processes that encrypt.
        progress : bool
            Show bars.
        observe : callable, optional
            Called with ``"checked"``, ``"encrypted"``, ``"stored"`` and ``"listed"`` when that is done.
            What it raises ends the call there, and the next one goes on.
        **options
            For ``open_source``, for example ``delimiter=``.

        Returns
        -------
        DatasetRef

        Raises
        ------
        SourceError
            The data cannot be read.
        SchemaError
            Rows break the schema; ``failures`` is the table. Or the schema or standard do not suffice.
        WrongKey
            ``keys`` is no key.
        IndexRefused
            It does not fit the index, and nothing has been stored; or it was contributed and withdrawn.
        StoreError
            Storage refuses; the ciphertexts wait in `workdir` for the next call.
        """
        tell = observe or (lambda _: None)
        source = open_source(data, **options)
        table = Prepared(source, schema, standard, keys, packing)
        if dataset_id is not None or previous:
            self._need_index()
        is_checked = self._known_index() is None
        if is_checked:  # rows that do not fit are no reason to deploy an index
            table.check(progress=progress)
        with self._job(table, dataset_id, previous, options) as job:
            draft, note = job.with_suffix(".ct"), job.with_suffix(".json")
            known = self._known(note)
            if known is not None:
                if StoredObject(known.root, known.cid, known.size) in self.store:
                    draft.unlink(missing_ok=True)
                    return known
                previous = known.upload_id
            if previous and dataset_id is None:
                dataset_id = self.index.entry(previous).dataset_id
            if not draft.exists():
                self._demand(schema, dataset_id, previous)
                if not is_checked:
                    table.check(progress=progress)
                tell("checked")
                table.encrypt_to(draft, n_jobs=n_jobs, progress=progress)
                tell("encrypted")
            elif self._listed(storage_root(draft), schema, dataset_id) is None:
                self._demand(schema, dataset_id, previous)
            stored = self.store.put(draft, progress=progress)
            tell("stored")
            ref = self._list(draft, stored, table, dataset_id, previous)
            self._place.write(note, ref.to_json())
            draft.unlink(missing_ok=True)
        tell("listed")
        return ref

    @contextmanager
    def _job(
        self, table: Prepared, dataset_id: int | None, previous: int, options: Mapping[str, Any]
    ) -> Iterator[Path]:
        """Hold the path of a contribution: the same for the same rows, key, index and account."""
        path = self._place.path(
            *(str(part).encode() for part in (self.chain.chain_id, self.index.address, self.account.address)),
            *(str(part).encode() for part in (dataset_id, previous, table.packing, sorted(options.items()))),
            f"{type(table.keys).__name__} {table.keys.fingerprint}".encode(),
            table.standard.hash,  # and with it the schema
            table.source.fingerprint(),
        )
        with self._place.alone(path):
            yield path

    def _known(self, note: Path) -> DatasetRef | None:
        """Return the reference that an earlier call left, if the chain still knows it."""
        text = self._place.read(note)
        try:
            ref = DatasetRef.from_json(text or "")
            entry = self._entry(self.index, ref)
        except IndexRefused:
            return None  # no such note, or a local chain that was started anew
        if entry.deprecated:
            raise IndexRefused(
                f"these rows were contributed as upload {entry.upload_id}, which was withdrawn",
                hint=f"pass previous={entry.upload_id} to contribute them again, as its next version",
            )
        return ref

    def _demand(self, schema: Schema, dataset_id: int | None, previous: int) -> None:
        """Refuse what the index would refuse; a dataset that is yet to be registered fits."""
        for number in self._open_datasets(schema)[:1] if dataset_id is None else [dataset_id]:
            self.index.demand(number, schema, contributor=self.account, previous=previous)

    def _list(
        self, draft: Path, stored: StoredObject, table: Prepared, dataset_id: int | None, previous: int
    ) -> DatasetRef:
        """List what is stored, once."""
        if (known := self._listed(stored.root, table.schema, dataset_id)) is not None:
            return known
        number = self.register(table.schema) if dataset_id is None else dataset_id
        if taken := self.index.upload_of(number, stored.root):
            draft.unlink(missing_ok=True)
            raise IndexRefused(
                f"somebody else has listed these ciphertexts, as upload {taken}",
                hint="contribute again: the rows are encrypted anew, under another root",
            )
        try:
            self.index.upload(
                number,
                root=stored.root,
                cid=stored.cid,
                rows=_rows_of(draft),
                size=stored.size,
                schema=table.schema,
                standard_hash=table.standard.hash,
                key_fingerprint=table.keys.fingerprint,
                previous=previous,
                sender=self.account,
            )
        except (ContractReverted, IndexRefused):
            # the transaction of an interrupted call may have been under way until now
            if (known := self._listed(stored.root, table.schema, dataset_id)) is None:
                raise
            return known
        return self._reference(self.index.entry(self.index.upload_of(number, stored.root)))

    def _listed(self, root: str, schema: Schema, dataset_id: int | None) -> DatasetRef | None:
        """Return this account's upload of a root, if there is one."""
        own = self.index.datasets(schema) if dataset_id is None else [self.index.dataset(dataset_id)]
        for dataset in own:
            if upload_id := self.index.upload_of(dataset.dataset_id, root):
                entry = self.index.entry(upload_id)
                if entry.contributor == self.account.address:
                    return self._reference(entry)
        return None

    def _open_datasets(self, schema: Schema) -> list[int]:
        index = self._known_index()
        # anybody can register other fields under a schema's hash: the contract cannot compare the two
        wanted = structure_hash(schema.field_types)
        return [
            one.dataset_id
            for one in ([] if index is None else index.datasets(schema))
            if not one.closed and one.structure_hash == wanted
        ]

    # Consuming ------------------------------------------------------------------------------------------

    def find(self, schema: Schema | None = None, **wanted: Any) -> list[DatasetRef]:
        """Search the index; the same conditions as ``DataIndex.find``."""
        index = self._need_index()
        return [self._reference(entry) for entry in index.find(schema, **wanted)]

    def fetch(
        self,
        ref: DatasetRef | UploadEntry | int,
        *,
        key: KeyHolder | Evaluator | None = None,
        progress: bool = True,
    ) -> EncryptedFrame:
        """Fetch a dataset, checked against the chain and its root, as encrypted columns.

        Parameters
        ----------
        ref : DatasetRef, UploadEntry or int
            What `contribute` or `find` returned, an entry of the index, or the number of an upload.
        key : KeyHolder or Evaluator, optional
            For products and rotations; compared with the key that the chain names.
        progress : bool
            Show a bar.

        Raises
        ------
        IndexRefused
            The chain knows no such upload, knows another, or it was withdrawn.
        StoreError
            Storage lacks it, or gives something else; the message names the slices.
        CiphertextError
            It is no container, or not one of the dataset's structure.
        """
        index, entry = self._located(ref)
        path = self._place.folder / f"fetched-{entry.root[2:34]}.ct"
        with self._place.alone(path):
            try:
                self.store.fetch(_stored(entry), path, progress=progress)
                enc = EncryptedFrame.load(path, key=key)
            finally:
                path.unlink(missing_ok=True)
        _demand_structure(enc, entry, index.dataset(entry.dataset_id).field_types)
        return enc

    def download(
        self, ref: DatasetRef | UploadEntry | int, path: str | Path, *, progress: bool = True
    ) -> Path:
        """Fetch a dataset to a file, for ``EncryptedFrame.stream``; an interrupted download goes on."""
        return self.store.fetch(_stored(self._located(ref)[1]), Path(path), progress=progress)

    def _located(self, ref: DatasetRef | UploadEntry | int) -> tuple[DataIndex, UploadEntry]:
        """Return what the chain says of a reference, and where; refuse one that says something else."""
        if isinstance(ref, UploadEntry):
            ref = self._reference(ref)
        if isinstance(ref, int | np.integer) and not isinstance(ref, bool):
            index = self._need_index()
            entry = index.entry(int(ref))
        elif isinstance(ref, DatasetRef):
            index = self._index_of(ref)
            entry = self._entry(index, ref)
        else:
            raise IndexRefused(
                f"a {type(ref).__name__} was passed; expected a reference to a dataset",
                hint="pass what client.contribute(...) or client.find(...) returned",
            )
        if entry.deprecated:
            raise IndexRefused(
                f"upload {entry.upload_id} was withdrawn", hint="find another with client.find(...)"
            )
        return index, entry

    def _entry(self, index: DataIndex, ref: DatasetRef) -> UploadEntry:
        """Return what the index says of a reference, in every field the same."""
        entry = index.entry(ref.upload_id)
        listed = DatasetRef.of(entry, self.chain.chain_id, index.address)
        different = [
            name for name in DatasetRef.__annotations__ if getattr(ref, name) != getattr(listed, name)
        ]
        if different:
            raise IndexRefused(
                f"the chain says otherwise about upload {ref.upload_id}: {', '.join(different)} differ",
                hint="find the dataset with client.find(...), and refuse this reference",
            )
        return entry

    def _reference(self, entry: UploadEntry) -> DatasetRef:
        return DatasetRef.of(entry, self.chain.chain_id, self._need_index().address)

    # The index ------------------------------------------------------------------------------------------

    def _index_of(self, ref: DatasetRef) -> DataIndex:
        """Return the index that a reference names, if this client may use it."""
        if ref.chain_id != self.chain.chain_id:
            raise IndexRefused(
                f"the reference is to chain {ref.chain_id}, this client is on {self.chain.chain_id}",
                hint="connect to the chain of the reference",
            )
        if self._index is not None and self._index.address == ref.index:
            return self._index
        if self._is_pinned:
            raise IndexRefused(
                f"the reference is to the index at {ref.index}, this client was made for another",
                hint="if you trust that index, make a client with index= and its address",
            )
        return DataIndex.at(self.chain, ref.index)

    @property
    def _index_note(self) -> Path:
        return self._place.folder / f"index-{self.chain.chain_id}-{self.account.address}"

    def _known_index(self) -> DataIndex | None:
        """Return the client's index, if it has one or had one before."""
        if self._index is None and (address := self._place.read(self._index_note)):
            try:
                self._index = DataIndex.at(self.chain, address)
            except UnknownContract:
                return None  # a local chain that was started anew
        return self._index

    def _need_index(self) -> DataIndex:
        index = self._known_index()
        if index is None:
            raise IndexRefused(
                "this client knows no index yet",
                hint="make the client with index= and the address of the index, or contribute first",
            )
        return index


def _rows_of(path: Path) -> int:
    from twopm_kit.fhe.container import ContainerReader

    with ContainerReader(path) as reader:
        return int(reader.header.rows)


def _demand_structure(enc: EncryptedFrame, entry: UploadEntry, field_types: Mapping[str, str]) -> None:
    """Refuse a container that is sound but not what was registered."""
    faults = []
    if enc.fingerprint != entry.key_fingerprint:
        faults.append(f"it is under key {enc.fingerprint[:8]}…, not {entry.key_fingerprint[:8]}…")
    if enc.n_rows != entry.rows:
        faults.append(f"it has {enc.n_rows:,} rows, not {entry.rows:,}")
    wanted = {name: "float" if kind == "int" else kind for name, kind in field_types.items()}
    found = {
        kind.removeprefix(_CATEGORY) if kind.startswith(_CATEGORY) else name: kind.partition(":")[0]
        for name, kind in enc.kinds.items()
        if not kind.startswith(_PRESENT)  # which values are there: part of the column before it
    }
    if list(found.items()) != list(wanted.items()):
        faults.append("its columns are not those of the dataset")
    if faults:
        raise CiphertextError(
            f"what lies under {entry.root} is not what upload {entry.upload_id} says: {'; '.join(faults)}",
            hint="refuse it, and tell the dataset's owner",
        )


def _stored(what: DatasetRef | UploadEntry) -> StoredObject:
    return StoredObject(what.root, what.cid, what.size)
