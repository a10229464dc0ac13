"""A contribution that is cut off at any moment goes on: the same ciphertexts, one upload, one reference."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest

from twopm_kit import chain as chains
from twopm_kit.chain import Chain
from twopm_kit.fhe import KeyHolder
from twopm_kit.fhe.container import _JOURNAL, _LINE, _PREFIX, ContainerWriter
from twopm_kit.vsies.client import DataClient
from twopm_kit.vsies.index import DataIndex
from twopm_kit.vsies.reference import DatasetRef
from twopm_kit.vsies.schema import Field, Schema
from twopm_kit.vsies.storage import Store, storage_root
from twopm_kit.vsies.storage.places import FilePlace
from twopm_kit.vsies.workplace import Workplace

SEED = 20
NAMES = ["x", "y"]
SCHEMA = Schema("points", [Field(name, "float", low=-8, high=8) for name in NAMES])
PASSPHRASE = "several words that nobody guesses"

CHILD = """
import os, sys
from pathlib import Path
from twopm_kit import chain as chains
from twopm_kit.fhe import KeyHolder
from twopm_kit.vsies import DataClient, Schema
folder, url = Path(sys.argv[1]), sys.argv[2]
chain = chains.connect(url)
account = chain.account("clinic", key=(folder / "account").read_bytes())
client = DataClient(
    chain=chain, account=account, storage=f"file://{folder}/store", index=sys.argv[3], workdir=folder / "work"
)
keys = KeyHolder.load(folder / "key", sys.argv[4])
schema = Schema.from_json((folder / "schema.json").read_text())
print("ready", flush=True)
sys.stdin.readline()
print(client.contribute(folder / "rows.csv", schema, keys=keys, progress=False).to_json(), flush=True)
"""


class Cut(BaseException):
    """What Ctrl-C would raise."""


class Cutter:
    """Raises at the n-th entry into or return from any function, Python's own included; or only counts.

    Counting begins with the first call of one method of ours.
    """

    def __init__(self, cls, method, after=None):
        self.cls, self.method, self.after = cls, method, after
        self.count, self.cut, self.reached = 0, False, {}

    def __enter__(self):
        self.real = getattr(self.cls, self.method)

        def counted(*arguments, **options):
            sys.setprofile(self.watch)
            return self.real(*arguments, **options)

        setattr(self.cls, self.method, counted)
        return self

    def __exit__(self, kind, error, trace):
        sys.setprofile(None)
        setattr(self.cls, self.method, self.real)
        return kind is Cut

    def watch(self, frame, event, _argument):
        if frame.f_code.co_filename == __file__:
            return
        self.count += 1
        if event == "call":
            self.reached.setdefault(frame.f_code.co_qualname, self.count)
        if self.after is not None and self.count > self.after and not self.cut:
            self.cut = True
            raise Cut


@pytest.fixture(scope="module")
def holder():
    return KeyHolder.generate("linear")


@pytest.fixture(scope="module")
def served():
    """A chain behind HTTP, in threads of its own: what strikes the client does not strike the chain."""
    with chains.connect("embedded") as chain, chain.serve() as server:
        index = DataIndex.deploy(chain, chain.account("owner"))
        index.register(SCHEMA, sender=chain.account("owner"))
        yield server.url, index.address


class World:
    """Rows, a store, a folder and an account; clients that know nothing of each other but these."""

    def __init__(self, folder, served, holder, rows=46_000, seed=0):
        self.folder, self.holder = folder, holder
        self.url, self.index_address = served
        self.chain = chains.connect(self.url)
        folder.mkdir(exist_ok=True)
        (folder / "account").write_bytes(os.urandom(32))
        self.account = self.chain.account("clinic", key=(folder / "account").read_bytes())
        self.work, self.store, self.csv = folder / "work", folder / "store", folder / "rows.csv"
        values = np.random.default_rng(seed).normal(size=(rows, len(NAMES))).clip(-8, 8)
        pd.DataFrame(values, columns=NAMES).to_csv(self.csv, index=False)

    def client(self, **options):
        options = {
            "workdir": self.work,
            "storage": f"file://{self.store}",
            "index": self.index_address,
            **options,
        }
        return DataClient(chain=self.chain, account=self.account, **options)

    def contribute(self, client=None):
        return (client or self.client()).contribute(self.csv, SCHEMA, keys=self.holder, progress=False)

    def encrypted(self, work=None):
        """Bytes of all whole ciphertexts that are there so far, finished or not."""
        work = work or self.work
        for draft in work.glob("*.ct"):
            return draft.read_bytes()
        for journal in work.glob("*.part.journal"):
            lines = journal.read_bytes()
            if len(lines) < _JOURNAL.size:
                return b""
            at, end = _JOURNAL.size + _JOURNAL.unpack_from(lines)[2], _PREFIX.size
            for place in range(at, len(lines) - _LINE.size + 1, _LINE.size):
                end += _LINE.unpack_from(lines, place)[0]
            return journal.with_suffix("").read_bytes()[:end]
        return b""

    def uploads(self):
        return self.client().find(contributor=self.account)

    def settled(self, ref):
        """Assert that exactly this is listed and stored, and that nothing else is left."""
        assert self.uploads() == [ref]
        stored = self.client().store.get(ref.root)
        assert storage_root(stored) == ref.root
        assert [path.name for path in self.store.iterdir()] == [ref.root]
        kept = sorted(path.suffix for path in self.work.iterdir())
        assert kept == [".json", ".key"]
        before = self.chain.block_number
        assert self.contribute() == ref
        assert self.chain.block_number == before
        return stored


@pytest.fixture
def world(tmp_path, served, holder):
    made = World(tmp_path, served, holder)
    yield made
    made.chain.close()


# What is cut off leaves files to the garbage collector, as Ctrl-C does.
careless = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(scope="module")
def course(tmp_path_factory, served, holder):
    """How many calls it takes to prepare, to encrypt, and then to store, list and note."""
    folder = tmp_path_factory.mktemp("course")
    small, world = World(folder / "small", served, holder, rows=3), World(folder / "world", served, holder)
    small.contribute()  # what is imported once is not counted
    with Cutter(DataClient, "contribute") as whole:
        world.contribute()
    begun, stored = (whole.reached[name] for name in ("ContainerWriter.append", "Store.put"))
    for one in (small, world):
        one.chain.close()
    return begun, stored - begun, whole.count - stored


@careless
def test_twenty_cuts_within_one_contribution(world, course):
    rng = random.Random(SEED)
    client, seen, prefix = world.client(), [], b""
    for cut in range(20):
        if cut % 2:
            cutter = Cutter(DataClient, "contribute", rng.randrange(course[0]))
        else:
            cutter = Cutter(ContainerWriter, "append", rng.randrange(course[1] // 80))
        with cutter:
            world.contribute(client)
        assert cutter.cut
        found = world.encrypted()
        assert found.startswith(prefix)
        prefix = found
        seen.append(len(prefix))
    assert len(set(seen)) > 5
    assert world.uploads() == []
    ref = world.contribute(client)
    assert world.settled(ref).startswith(prefix)


@careless
def test_cuts_after_encrypting_end_in_the_same_root(world, course, tmp_path):
    rng = random.Random(SEED)
    with Cutter(Store, "put", 0):
        world.contribute()
    encrypted = world.encrypted()
    root = storage_root(encrypted)
    assert not world.store.exists()
    stages = set()
    for cut in range(8):
        half = shutil.copytree(world.work, tmp_path / f"work {cut}")
        store = f"file://{tmp_path}/store {cut}"
        with world.chain.snapshot():
            client = world.client(workdir=half, storage=store)
            with Cutter(Store, "put", rng.randrange(course[2])) as cutter:
                world.contribute(client)
            assert cutter.cut
            stages |= cutter.reached.keys()
            ref = world.contribute(client)
            assert ref.root == root
            assert world.uploads() == [ref]
            assert client.store.get(root) == encrypted
            assert world.contribute(world.client(workdir=half, storage=store)) == ref
    assert {"FilePlace.write", "FilePlace.publish", "DataIndex.upload", "Chain._send"} <= stages
    assert world.settled(world.contribute()) == encrypted


@careless
@pytest.mark.parametrize(
    ("cls", "method"),
    [
        (ContainerWriter, "append"),
        (ContainerWriter, "finish"),
        (Store, "put"),
        (FilePlace, "write"),
        (FilePlace, "publish"),
        (DataIndex, "upload"),
        (Chain, "_send"),
        (Workplace, "write"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_cut_at_each_stage(cls, method, when, tmp_path, served, holder, monkeypatch):
    world = World(tmp_path, served, holder, rows=20)
    real = getattr(cls, method)

    def once(*arguments, **options):
        monkeypatch.undo()
        if when == "after":
            real(*arguments, **options)
        raise Cut

    monkeypatch.setattr(cls, method, once)
    with pytest.raises(Cut):
        world.contribute()
    encrypted = world.encrypted()
    ref = world.contribute()
    assert world.settled(ref).startswith(encrypted)
    world.chain.close()


def test_killed_processes_and_two_at_once(world):
    rng = random.Random(SEED)
    world.holder.save(world.folder / "key", PASSPHRASE)
    (world.folder / "schema.json").write_text(SCHEMA.to_json())
    with running(world) as child:
        time.sleep(rng.uniform(0.1, 0.5))
        child.kill()
        assert child.wait() == -signal.SIGKILL
    prefix = world.encrypted()
    with running(world) as one, running(world) as two:
        refs = [DatasetRef.from_json(child.stdout.readline()) for child in (one, two)]
        assert [child.wait() for child in (one, two)] == [0, 0]
    assert refs[0] == refs[1]
    assert world.settled(refs[0]).startswith(prefix)


@contextmanager
def running(world):
    """A process that is about to contribute."""
    words = (str(world.folder), world.url, world.index_address, PASSPHRASE)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        try:
            assert child.stdout.readline() == "ready\n"
            child.stdin.write("go\n")
            child.stdin.flush()
            yield child
        finally:
            child.kill()
