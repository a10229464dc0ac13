"""Encrypt a table that is larger than memory, block by block, into a ``.ct`` file that can be taken up again.

One core is the default, and often enough. With ``n_jobs`` above 1, processes are started anew (never forked:
SEAL's locks do not survive it) and get what they need through anonymous pipes that only they and this
process hold: the key, once, then rows. So the secret key is in no pickle, no file, no argument and no
environment, and the processes are gone when the call returns. They encrypt with the key that was passed: the
workers of a key holder make the same seeded ciphertexts as the holder, which are half the size of those that
the public key makes, in half the time.
"""

import hmac
import io
import json
import os
import resource
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import tenseal.sealapi as seal
from joblib import effective_n_jobs
from tqdm.auto import tqdm

from twopm_kit.errors import CiphertextError, FHEError, SchemaError, TwoPMError
from twopm_kit.fhe.container import MAX_CHUNKS, MAX_ROWS, ContainerReader, ContainerWriter, FrameHeader
from twopm_kit.fhe.engine import engine_for, guard_fork, seal_words
from twopm_kit.fhe.flooding import QueryLedger
from twopm_kit.fhe.keys import Evaluator, KeyHolder
from twopm_kit.fhe.layouts import COLUMNS
from twopm_kit.fhe.profiles import Profile
from twopm_kit.fhe.seal_io import as_path, dump, load_into
from twopm_kit.fhe.tables import NUMBERS, PRESENT, Bounds, Missing, Table, check_table, plain_array

__all__ = ["Source", "encrypt_to"]

#: A table, or what gives it piece by piece: an iterable of tables, or a function that makes such an iterable.
Source = pd.DataFrame | npt.ArrayLike | Iterable[Any] | Callable[[], Iterable[Any]]
Keys = KeyHolder | Evaluator
Values = npt.NDArray[np.float64]

# Columns that are encrypted at a time: enough work for a message, few enough to share and to keep in memory.
_GROUP: Final = 8
_SIZE: Final = struct.Struct("<Q")
_PLACE: Final = struct.Struct("<QQ")
# -P: nothing is imported from the folder that happens to be the current one
_WORKER: Final = (sys.executable, "-P", "-c", "from twopm_kit.fhe.parallel import _serve; _serve()")


def encrypt_to(
    keys: Keys,
    source: Source,
    path: str | Path,
    *,
    columns: Sequence[str] | None = None,
    bounds: Bounds | None = None,
    packing: str = "real",
    missing: Missing = "refuse",
    n_jobs: int = 1,
    progress: bool = True,
    resume: bool = True,
) -> Path:
    """Encrypt a table of any length into a container file, with the memory of a few blocks.

    When it is interrupted, by whatever means, ``<name>.part`` and its journal stay. The same call with the
    same rows then goes on after the last whole ciphertext; rows that differ from those that are encrypted
    already are refused. Every ciphertext is made with fresh randomness, also after an interruption.

    Parameters
    ----------
    keys : KeyHolder or Evaluator
        Who encrypts. Ciphertexts of an evaluator are twice as large.
    source : DataFrame, array, iterable of these, or function that returns such an iterable
        Rows. ``pandas.read_csv(path, chunksize=…)`` is an iterable; a memory-mapped array is read block by
        block. Pieces may have any length.
    path : str or pathlib.Path
        The file to write; a file that is there is replaced when the new one is whole.
    columns : sequence of str, optional
        Which columns of a frame, in this order.
    bounds : float or mapping of column name to float, optional
        Public upper limits of the absolute values. An iterable needs them; a table, or a function that can be
        called twice, is looked through first when they are missing.
    packing : str
        "complex" puts two rows into a slot.
    missing : str or sequence of str
        "refuse", "mask" or names of columns that get a mask, as for ``KeyHolder.encrypt``.
    n_jobs : int
        Processes that encrypt: 1 is this one, -1 is one for each core. Starting one takes about a second and
        a half, so they pay for tables of some thousand ciphertexts.
    progress : bool
        Show a bar.
    resume : bool
        False starts anew whatever is there.

    Returns
    -------
    pathlib.Path
        The file; read it with ``EncryptedFrame.load`` or, chunk by chunk, with ``ContainerReader``.

    Raises
    ------
    SchemaError
        Not a table, or one with missing, infinite or too large values; an iterable without bounds. A table is
        looked through before anything is encrypted; of an iterable, what came before the error stays in
        ``<name>.part``.
    CiphertextError
        The file cannot be written, or was begun with other rows, bounds or another key.
    FHEError
        A worker process ended.

    Notes
    -----
    To recognise the rows again, the journal holds a keyed hash of the values of each ciphertext. A key
    holder's hash key comes from the secret key. An evaluator has no secret, so its hash key stands in the
    journal: who can read that file (its owner only, and only until the file is finished) can test guesses of
    a whole block of values.
    """
    guard_fork()
    path = as_path(path)
    count = _processes(n_jobs)
    table = _Rows(source, columns, bounds, missing, keys.engine.profile, _rows_of_block(keys, packing))
    header = _header(keys, table, packing)
    with (
        ContainerWriter(path, header, resume=resume) as writer,
        tqdm(total=table.total, unit="row", unit_scale=True, disable=not progress, leave=False) as bar,
        _crew(keys, count) as encrypt,
    ):
        for unit, content in encrypt(_units(table, packing, _tag_key(keys, writer.salt), writer.tags)):
            for chunk, tag in zip(_chunks(content, unit, header), unit.tags, strict=True):
                writer.append(chunk, tag)
            bar.update(unit.reached - bar.n)
        writer.finish(rows=table.seen)
    return path


# Rows ---------------------------------------------------------------------------------------------------


class _Rows:
    """Checked rows of any source, in blocks that fill a ciphertext."""

    def __init__(
        self,
        source: Any,
        columns: Sequence[str] | None,
        bounds: Bounds | None,
        missing: Missing,
        profile: Profile,
        size: int,
    ) -> None:
        self._missing: Final = missing
        self._columns = None if columns is None else list(columns)
        self._profile = profile
        self._size = size
        self.seen = 0
        read, twice, self.total = self._opener(source)
        if bounds is None and not twice:
            raise SchemaError(
                "rows came from an iterable, without bounds: it can be read once, and bounds are written "
                "before its last row is seen",
                hint="pass bounds=, or pass a function that makes the iterable, so that it can be read twice",
            )
        pieces = self._checked(read(), bounds)
        first = next(pieces, None)
        if first is None:
            raise SchemaError("the source has no rows; there is nothing to encrypt", hint="pass some rows")
        self.names, self.kinds, self.source, self.bounds = (
            first.names,
            first.kinds,
            first.source,
            first.bounds,
        )
        numbers = [name for name, kind in zip(self.names, self.kinds, strict=True) if kind in NUMBERS]
        without = set(numbers) - set(bounds) if isinstance(bounds, Mapping) else set()
        if without and not twice:
            raise SchemaError(
                f"rows came from an iterable, and bounds has none for {', '.join(sorted(without)[:10])}",
                hint="name a bound for every column",
            )
        if self.total is not None:
            _check_size(self.total, -(-self.total // size) * len(self.names))
        self._pieces: Iterable[Table] = chain([first], pieces)
        if self.total is not None or bounds is None or without:
            for piece in pieces:
                self.bounds = tuple(map(max, self.bounds, piece.bounds))
            limits = dict(zip(self.names, self.bounds, strict=True))
            self._pieces = self._checked(read(), {name: limits[name] for name in numbers})

    @property
    def scaled_for(self) -> tuple[float, ...]:
        """The bound that gives each column its scale: its own, and for a mask that of its column."""
        own = zip(self.bounds, (0.0, *self.bounds), self.kinds, strict=False)
        return tuple(before if kind.startswith(PRESENT) else bound for bound, before, kind in own)

    def _opener(self, source: Any) -> tuple[Callable[[], Iterable[Any]], bool, int | None]:
        """How to go through the source, whether that works more than once, and how many rows it has."""
        if isinstance(source, str | bytes | Path):
            raise SchemaError(
                f"a path, or other text, was passed as source (type {type(source).__name__}); expected rows",
                hint="read it piece by piece: pd.read_csv(path, chunksize=…), and pass bounds=",
            )
        if callable(source):
            return source, True, None
        if isinstance(source, (list, tuple)) and source and np.ndim(getattr(source[0], "shape", 0)) == 1:
            return lambda: source, True, None  # tables, one after the other
        arrays = any(hasattr(source, name) for name in ("__array__", "toarray"))
        if isinstance(source, (list, tuple)) or (arrays and not _is_frame(source)):
            source = plain_array(source)
        if _is_frame(source) or isinstance(source, np.ndarray):
            rows = _with_categories(source).iloc if _is_frame(source) else source
            total = len(source) if np.ndim(source) else 0
            starts = range(0, total, self._size)
            return lambda: (rows[at : at + self._size] for at in starts), True, total
        if not isinstance(source, Iterable):
            raise SchemaError(
                f"a {type(source).__name__} was passed; expected a table or something that gives tables",
                hint="pass a DataFrame, an array, an iterable of these, or a function that returns one",
            )
        return lambda: source, False, None

    def _checked(self, pieces: Iterable[Any], bounds: Bounds | None) -> Iterator[Table]:
        at, like = 0, None
        for piece in pieces:
            if getattr(piece, "shape", ())[:1] == (0,):
                continue
            try:
                table = check_table(self._select(piece), self._profile, bounds, self._missing)
            except SchemaError as error:
                if at == 0:
                    raise
                raise SchemaError(f"in the rows from {at} on: {error.message}", hint=error.hint) from None
            like = like or table
            if (table.names, table.kinds) != (like.names, like.kinds):
                pairs = zip_longest(*(zip(t.names, t.kinds, strict=True) for t in (table, like)))
                here, before = next((a, b) for a, b in pairs if a != b)
                raise SchemaError(
                    f"the rows from {at} on have the column {here} where those before them had {before}",
                    hint="give every piece the same columns, dtypes and categories, in the same order",
                )
            at += len(table.values)
            yield table

    def _select(self, piece: Any) -> Any:
        if self._columns is None:
            return piece
        if not _is_frame(piece):
            raise SchemaError(
                f"columns were chosen by name from a {type(piece).__name__}, which has no names",
                hint="pass a DataFrame, or slice the array",
            )
        missing = [str(name) for name in self._columns if name not in piece.columns]
        if missing or not self._columns:
            raise SchemaError(
                f"columns {self._columns[:10]} were chosen; not in the table: {', '.join(missing)}",
                hint=f"choose one or more of: {', '.join(map(str, piece.columns[:20]))}",
            )
        return piece[self._columns]

    def blocks(self) -> Iterator[Values]:
        """All rows, once: arrays of shape (block, d), of which only the last is shorter."""
        held: list[Values] = []
        count = 0
        for piece in self._pieces:
            at = 0
            while at < len(piece.values):
                taken = piece.values[at : at + self._size - count]
                held.append(taken)
                count, at = count + len(taken), at + len(taken)
                if count == self._size:
                    self.seen += count
                    yield np.concatenate(held)
                    held, count = [], 0
        if count:
            self.seen += count
            yield np.concatenate(held)


def _check_size(rows: int, chunks: int) -> None:
    if rows > MAX_ROWS or chunks > MAX_CHUNKS:
        raise SchemaError(
            f"the table has {rows} rows, which take {chunks} ciphertexts; a file takes {MAX_ROWS} and "
            f"{MAX_CHUNKS}",
            hint="write several files, each with a part of the rows",
        )


def _is_frame(data: Any) -> bool:
    return isinstance(data, pd.DataFrame)


def _with_categories(frame: pd.DataFrame) -> pd.DataFrame:
    """Text columns as categories, so that every block knows those of the whole table."""
    if not frame.columns.is_unique:
        return frame  # to be refused by name
    text = [name for name in frame.columns if pd.api.types.infer_dtype(frame[name], skipna=True) == "string"]
    return frame.astype(dict.fromkeys(text, "category"))


def _rows_of_block(keys: Keys, packing: str) -> int:
    COLUMNS.check(1, keys.engine.slots, packing)
    return COLUMNS.rows(keys.engine.slots, packing)


# Units of work ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, repr=False)
class _Unit:
    """Some columns of one block: what is encrypted at a time.

    ``at`` is the number of the first column, ``reached`` how many rows are whole once the unit is written.
    """

    names: tuple[str, ...]
    bounds: tuple[float, ...]
    packing: str
    values: Values
    at: int
    tags: tuple[bytes, ...]
    reached: int

    def to_wire(self) -> bytes:
        head = json.dumps([self.names, self.bounds, self.packing, self.values.shape]).encode()
        return _SIZE.pack(len(head)) + head + np.ascontiguousarray(self.values).tobytes()

    @classmethod
    def from_wire(cls, message: bytes) -> "_Unit":
        start = _SIZE.size + _SIZE.unpack_from(message)[0]
        names, bounds, packing, shape = json.loads(message[_SIZE.size : start])
        values = np.frombuffer(message, np.float64, offset=start).reshape(shape)
        return cls(tuple(names), tuple(bounds), packing, values, 0, (), 0)


def _units(table: _Rows, packing: str, key: bytes, done: Sequence[bytes]) -> Iterator[_Unit]:
    """Give what is still to be encrypted; what is done already is compared with the rows that come."""
    width, scaled_for = len(table.names), table.scaled_for
    for block, values in enumerate(table.blocks()):
        first = block * width
        tags = [_tag(key, first + j, values[:, j]) for j in range(width)]
        ready = min(max(len(done) - first, 0), width)
        for j in range(ready):
            if not hmac.compare_digest(tags[j], done[first + j]):
                raise CiphertextError(
                    f"the rows of block {block} (from row {table.seen - len(values)} on) differ in column "
                    f"{table.names[j]!r} from those that were encrypted before the interruption",
                    hint="pass the same rows to go on, or resume=False to start anew",
                )
        for low in range(ready, width, _GROUP):
            high = min(low + _GROUP, width)
            yield _Unit(
                table.names[low:high],
                scaled_for[low:high],
                packing,
                values[:, low:high],
                low,
                tuple(tags[low:high]),
                table.seen - (len(values) if high < width else 0),
            )
    if len(done) > first + width:
        raise CiphertextError(
            f"{len(done)} ciphertexts were made before the interruption; these {table.seen} rows have only "
            f"{first + width}",
            hint="pass the same rows to go on, or resume=False to start anew",
        )


def _encrypt(keys: Keys, unit: _Unit) -> bytes:
    frame = pd.DataFrame(unit.values, columns=list(unit.names))
    bounds = dict(zip(unit.names, unit.bounds, strict=True))
    return keys.encrypt(frame, bounds=bounds, packing=unit.packing).to_bytes()


def _header(keys: Keys, table: _Rows, packing: str) -> FrameHeader:
    """Header of the whole file, but for the number of rows: what a column's bound leads to is tried out."""
    tried = {}
    for name, bound in zip(table.names, table.scaled_for, strict=True):
        if bound not in tried:
            unit = _Unit((name,), (bound,), packing, np.zeros((1, 1)), 0, (), 0)
            with ContainerReader(io.BytesIO(_encrypt(keys, unit))) as reader:
                tried[bound] = reader.header
    columns = zip(table.names, table.bounds, table.kinds, table.scaled_for, strict=True)
    heads = (replace(tried[at].columns[0], name=n, bound=b, kind=k) for n, b, k, at in columns)
    return replace(tried[table.scaled_for[0]], columns=tuple(heads), source=table.source)


def _chunks(content: bytes, unit: _Unit, header: FrameHeader) -> list[bytes]:
    with ContainerReader(io.BytesIO(content)) as reader:
        planned = header.columns[unit.at : unit.at + len(unit.names)]
        made = [(head.name, head.scale, head.noise) for head in reader.header.columns]
        if reader.header.fingerprint != header.fingerprint or made != [
            (head.name, head.scale, head.noise) for head in planned
        ]:
            raise FHEError(
                f"columns {', '.join(unit.names)} were not encrypted as planned",
                hint="encrypt with n_jobs=1; if that works, the worker processes run another version",
            )
        return list(reader)


def _tag_key(keys: Keys, salt: bytes) -> bytes:
    if isinstance(keys, Evaluator):
        return salt
    with seal_words("writing a secret key"):
        return hmac.digest(salt, b"twopm_kit.fhe.journal.1" + dump(keys._secret), "sha256")


def _tag(key: bytes, position: int, values: Values) -> bytes:
    return hmac.digest(key, _PLACE.pack(position, len(values)) + values.tobytes(), "sha256")


# Processes ----------------------------------------------------------------------------------------------

Results = Iterator[tuple[_Unit, bytes]]


def _processes(n_jobs: int) -> int:
    if type(n_jobs) is not int or n_jobs == 0:
        raise FHEError(f"n_jobs={n_jobs!r} was passed", hint="pass 1 or more, or -1 for one for each core")
    return int(effective_n_jobs(n_jobs))


@contextmanager
def _crew(keys: Keys, count: int) -> Iterator[Callable[[Iterable[_Unit]], Results]]:
    """Give a function that encrypts units in order, here or in processes that end with the block."""
    if count == 1:
        yield lambda units: ((unit, _encrypt(keys, unit)) for unit in units)
        return
    threads = ThreadPoolExecutor(count)
    workers: list[_Worker] = []
    try:
        message, idle = _keys_to_wire(keys), SimpleQueue[_Worker]()
        for _ in range(count):
            workers.append(_Worker())
            threads.submit(workers[-1].greet, message, idle)
        del message

        def work(unit: _Unit) -> bytes:
            worker = idle.get()
            try:
                return worker.ask(unit.to_wire())
            finally:
                idle.put(worker)

        yield lambda units: _in_order(threads, work, units, count + 1)
    finally:
        # They have nothing to lose: what they made is here. Threads that wait for them wake up.
        for worker in workers:
            worker.process.kill()
        threads.shutdown(cancel_futures=True)
        for worker in workers:
            worker.close()


def _in_order(
    threads: ThreadPoolExecutor, work: Callable[[_Unit], bytes], units: Iterable[_Unit], ahead: int
) -> Results:
    """Results in the order of the units, never more than ``ahead`` of them under way."""
    waiting: deque[tuple[_Unit, Future[bytes]]] = deque()
    for unit in units:
        waiting.append((unit, threads.submit(work, unit)))
        if len(waiting) >= ahead:
            first, result = waiting.popleft()
            yield first, result.result()
    for unit, result in waiting:
        yield unit, result.result()


class _Worker:
    """A process of this interpreter, and both ends of the pipes that lead to it."""

    def __init__(self) -> None:
        self.process: Final = subprocess.Popen(  # noqa: S603 - our own interpreter and words
            _WORKER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)},
            start_new_session=True,  # Ctrl-C is for this process to handle
        )
        self._questions: Final[Any] = self.process.stdin
        self._answers: Final[Any] = self.process.stdout

    def greet(self, message: bytes, idle: "SimpleQueue[_Worker]") -> None:
        with suppress(OSError):  # when it is gone, who asks it will say so
            _send(self._questions, message)
        idle.put(self)

    def ask(self, message: bytes) -> bytes:
        try:
            _send(self._questions, message)
            reply = _receive(self._answers)
        except OSError:
            reply = None
        if reply is None:
            raise FHEError(
                f"a worker process ended with code {self.process.wait()} while encrypting",
                hint="encrypt with n_jobs=1, or with fewer processes if memory was short",
            )
        if reply[:1] != b"+":
            raise FHEError(f"a worker process refused: {reply[1:].decode()}", hint="encrypt with n_jobs=1")
        return reply[1:]

    def close(self) -> None:
        self.process.wait()
        for pipe in (self._questions, self._answers):
            with suppress(OSError):  # what is left in its buffer has nobody to go to
                pipe.close()


def _send(pipe: BinaryIO, message: bytes) -> None:
    pipe.write(_SIZE.pack(len(message)))
    pipe.write(message)
    pipe.flush()


def _receive(pipe: BinaryIO) -> bytes | None:
    """Next message; None when the other side is gone."""
    front = pipe.read(_SIZE.size)
    if len(front) < _SIZE.size:
        return None
    size = _SIZE.unpack(front)[0]
    message = pipe.read(size)
    return message if len(message) == size else None


def _keys_to_wire(keys: Keys) -> bytes:
    if isinstance(keys, Evaluator):
        return b"E" + keys.to_bytes()
    with seal_words("writing a secret key"):
        secret = dump(keys._secret)
    head = json.dumps([asdict(keys.engine.profile), len(secret)]).encode()
    return b"H" + _SIZE.pack(len(head)) + head + secret + keys._public


def _keys_from_wire(message: bytes) -> Keys:
    if message[:1] == b"E":
        return Evaluator.from_bytes(message[1:])
    start = 1 + _SIZE.size + _SIZE.unpack_from(message, 1)[0]
    fields, size = json.loads(message[1 + _SIZE.size : start])
    engine = engine_for(Profile(**{**fields, "bits": tuple(fields["bits"])}))
    secret = seal.SecretKey()
    with seal_words("reading a secret key"):
        load_into(secret, engine.context, message[start : start + size])
        return KeyHolder(engine, secret, message[start + size :], QueryLedger())


def _serve() -> None:
    """Be a worker: keys come first, then units; every answer is a container of one block."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash must not write the key to disk
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get between the answers
    keys: Keys | None = None
    try:
        while (message := _receive(sys.stdin.buffer)) is not None:
            if keys is None:
                keys = _keys_from_wire(message)
                continue
            try:
                answer = b"+" + _encrypt(keys, _Unit.from_wire(message))
            except TwoPMError as error:
                answer = b"-" + str(error).encode()
            _send(answers, answer)
    except BrokenPipeError:
        os._exit(0)  # nobody is listening any more
