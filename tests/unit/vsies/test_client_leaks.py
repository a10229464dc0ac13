"""Nothing in clear leaves the process: every byte that a contribution writes or sends is caught."""

import base64
import json
import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from twopm_kit import chain as chains
from twopm_kit.fhe import KeyHolder
from twopm_kit.vsies.client import DataClient
from twopm_kit.vsies.index import DataIndex
from twopm_kit.vsies.reference import DatasetRef
from twopm_kit.vsies.schema import Field, Schema
from twopm_kit.vsies.sources import open_source
from twopm_kit.vsies.standard import Standard

PASSPHRASE = "several words that nobody guesses"
ROWS = 24
SCHEMA = Schema(
    "patients",
    [
        Field("number", "int", low=0, high=1_000_000_000, standard="minmax"),
        Field("dose", "float", low=0, high=100, standard="zscore"),
        Field("level", "float", low=-50, high=50, standard="minmax", nullable=True),
        Field("smoker", "bool"),
        Field("town", "category", categories=("Bonn", "Ulm")),
    ],
)

CHILD = '''
import base64, ctypes, json, os, socket, struct, sys
from pathlib import Path

caught, opened, busy, off = [], set(), False, False
LIBC = ctypes.CDLL(None, use_errno=True)


def keep(what, content):
    if not off:
        caught.append((what, bytes(content)))


def snapshot(path):
    """Keep what is in a file, if it is one."""
    global busy
    busy = True
    try:
        if os.path.isfile(path) and not str(path).startswith(("/proc", "/dev")):
            with open(path, "rb") as file:
                keep(f"file {path}", file.read())
    finally:
        busy = False


def placed(path, folder):
    """Where a name leads that is looked for in an open folder."""
    place = os.readlink(f"/proc/self/fd/{folder}") if folder not in (None, -1) else ""
    return os.path.join(place, os.fsdecode(path))


def about_to_open(path, flags):
    if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        snapshot(path)
        opened.add(os.path.abspath(path))


def opening(path, flags, mode=0o777, *, dir_fd=None, real=os.open):
    """What an audit hook is not told: in which open folder."""
    if dir_fd is not None and not off:
        about_to_open(placed(path, dir_fd), flags)
    return real(path, flags, mode, dir_fd=dir_fd)


def hook(event, arguments):
    if busy or off:
        return
    if event == "open" and not isinstance(arguments[0], int):
        about_to_open(os.fsdecode(arguments[0]), arguments[2] or 0)
    elif event in ("os.rename", "os.link"):
        here, there = (placed(*arguments[i::2]) for i in range(2))
        snapshot(here)
        snapshot(there)
        opened.add(os.path.abspath(there))
    elif event == "os.remove":
        snapshot(placed(*arguments))
    elif event == "os.truncate":
        snapshot(arguments[0])
    elif event in ("subprocess.Popen", "os.posix_spawn", "os.exec", "os.system", "os.fork"):
        keep("process", repr(arguments).encode())


def passing(name):
    real = getattr(socket.socket, name)

    def send(self, data, *more):
        pieces = data if name == "sendmsg" else [data]
        keep(f"socket {name}", b"".join(bytes(piece) for piece in pieces))
        return real(self, data, *more)

    setattr(socket.socket, name, send)


class Watch:
    """Names of all files that anybody, also a library in C, makes in some folders."""

    def __init__(self, *folders):
        self.fd = LIBC.inotify_init1(os.O_NONBLOCK)
        made = 0x100 | 0x80  # IN_CREATE, IN_MOVED_TO
        self.folders = {LIBC.inotify_add_watch(self.fd, os.fsencode(one), made): one for one in folders}

    def made(self):
        try:
            content, names = os.read(self.fd, 1 << 20), []
        except BlockingIOError:
            return []
        while content:
            number, _, _, size = struct.unpack_from("iIII", content)
            name = os.fsdecode(content[16:16 + size].rstrip(b"\\0"))
            names.append(os.path.join(self.folders[number], name))
            content = content[16 + size:]
        return names


folder = Path(sys.argv[1])
from twopm_kit import chain as chains
from twopm_kit.fhe import KeyHolder
from twopm_kit.vsies import DataClient, Schema, Standard

keys = KeyHolder.load(folder / "key", sys.argv[4])
schema = Schema.from_json((folder / "schema.json").read_text())
standard = Standard.from_json((folder / "standard.json").read_text())
chain = chains.connect(sys.argv[2])
account = chain.account("clinic")
for name in ("work", "store"):
    (folder / name).mkdir()
watch = Watch(os.environ["TMPDIR"], os.environ["HOME"], os.getcwd(), folder, folder / "work")
sys.addaudithook(hook)
os.open = opening
for name in ("send", "sendall", "sendto", "sendmsg"):
    passing(name)

client = DataClient(
    chain=chain, account=account, storage=f"file://{folder}/store", index=sys.argv[3], workdir=folder / "work"
)
text = client.contribute(folder / "clear" / "secret-rows.csv", schema, keys=keys, standard=standard).to_json()
for path in opened:
    snapshot(path)
honest, caught = caught, []
unseen = [path for path in watch.made() if os.path.abspath(path) not in opened and not os.path.isdir(path)]

# the trap itself: what is planted in a file that goes, and on a socket, has to be found
planted = Path(sys.argv[1]) / "planted"
planted.write_bytes(bytes.fromhex(sys.argv[5]))
planted.unlink()
here, there = socket.socketpair()
here.sendall(bytes.fromhex(sys.argv[5]))
off = True
print(json.dumps({
    "ref": text,
    "unseen": unseen,
    "honest": [[what, base64.b64encode(content).decode()] for what, content in honest],
    "planted": [[what, base64.b64encode(content).decode()] for what, content in caught],
}))
'''


def rows():
    rng = np.random.default_rng(7)
    level = rng.normal(0, 9, ROWS)
    level[5] = np.nan
    return pd.DataFrame(
        {
            "number": rng.integers(100_000_000, 999_999_999, ROWS),
            "dose": rng.uniform(1, 99, ROWS),
            "level": level,
            "smoker": rng.integers(0, 2, ROWS).astype(bool),
            "town": rng.choice(["Bonn", "Ulm"], ROWS),
        }
    )


def numbers(values):
    """Ways to write numbers one by one that are too long to appear by chance."""
    for value in values:
        number = int(value) if float(value).is_integer() else float(value)
        texts = {repr(number), f"{number:.6f}", f"{number:.4f}", f"{number:.8g}", f"{number:.12g}"}
        yield from (text.encode() for text in texts if sum(map(str.isdigit, text)) > 6)
        kinds = ("<f8", ">f8", "<i8", ">i8") if isinstance(number, int) else ("<f8", ">f8")
        for kind in kinds:
            raw = np.array(number, dtype=kind).tobytes()
            yield from (raw, raw.hex().encode(), base64.b64encode(raw)[:10])
    for kind in ("<f4", ">f4"):
        yield from (np.array(pair, dtype=kind).tobytes() for pair in pairwise(values))


def runs(values):
    """Ways to write a column of few different values."""
    values = np.asarray(values)
    for kind in ("i1", "<i4", "<i8", "<f4", "<f8"):
        yield values.astype(kind).tobytes()[:32]
    for texts in (map(str, values.tolist()), map(str, values.astype(int).tolist())):
        listed = list(texts)
        yield from (sign.join(listed[:16]).encode() for sign in (",", ", ", "\n"))


def needles(clear, scaled, path):
    for frame in (clear, scaled):
        for name in ("number", "dose", "level"):
            known = frame[name].dropna().to_numpy(np.float64)
            yield from ((f"{name}, one by one", needle) for needle in numbers(known))
        for row in frame[["number", "dose"]].to_numpy(np.float64):
            yield from (("a row", row.astype(kind).tobytes()) for kind in ("<f4", ">f4"))
        yield from (("smoker", needle) for needle in runs(frame["smoker"].to_numpy(bool)))
        yield from (("town", needle) for needle in runs(frame["town"].astype("category").cat.codes))
    yield "a town after the other", ",".join(clear["town"][:8]).encode()
    digest = open_source(path).fingerprint()
    yield from (
        ("fingerprint", needle) for needle in (digest, digest.hex().encode(), digest.hex()[:16].encode())
    )
    yield from (("path", needle) for needle in (b"secret-rows", b"/clear/"))


def found(haystack, wanted):
    """What of the table is in some bytes."""
    return sorted({what for what, needle in wanted if needle in haystack})


@pytest.fixture(scope="module")
def caught(tmp_path_factory):
    """Run a contribution in a process of its own that keeps every byte it writes or sends."""
    folder = tmp_path_factory.mktemp("caught")
    for name in ("clear", "tmp", "home", "here"):
        (folder / name).mkdir()
    path, clear = folder / "clear" / "secret-rows.csv", rows()
    clear.to_csv(path, index=False)
    standard = Standard.fit(SCHEMA, clear)
    (folder / "schema.json").write_text(SCHEMA.to_json())
    (folder / "standard.json").write_text(standard.to_json())
    holder = KeyHolder.generate("linear")
    holder.save(folder / "key", PASSPHRASE)
    scaled = standard.apply(SCHEMA.validate(clear))
    plant = np.array(scaled["dose"][3], dtype=">f8").tobytes().hex()
    with chains.connect("embedded") as chain, chain.serve() as server:
        index = DataIndex.deploy(chain, chain.account("owner"))
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(folder), server.url, index.address, PASSPHRASE, plant],
            capture_output=True,
            cwd=folder / "here",
            env={**os.environ, "TMPDIR": str(folder / "tmp"), "HOME": str(folder / "home")},
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        said = json.loads(done.stdout.splitlines()[-1])
        said |= {
            name: [(what, base64.b64decode(content)) for what, content in said[name]]
            for name in ("honest", "planted")
        }
        said["terminal"] = done.stderr + b"".join(done.stdout.splitlines()[:-1])
        lab = DataClient(
            chain=chain,
            account=chain.account("lab"),
            storage=f"file://{folder}/store",
            index=index,
            workdir=folder / "lab",
        )
        enc = lab.fetch(DatasetRef.from_json(said["ref"]), progress=False)
        opened = holder.decrypt(enc)
    np.testing.assert_allclose(opened["dose"], scaled["dose"], atol=1e-4)
    return said, clear, scaled, path, set(needles(clear, scaled, path))


def test_no_value_is_in_what_was_written_or_sent(caught):
    said, *_, wanted = caught
    contents = {content for _, content in said["honest"]}  # the same bytes often pass several doors
    assert found(b"|".join(contents), wanted) == []


def test_what_a_terminal_shows_has_no_value(caught):
    said, *_, wanted = caught
    assert b"row" in said["terminal"]
    assert set(found(said["terminal"], wanted)) <= {"path"}  # the bar says which file is read


def test_every_kind_of_file_and_all_traffic_was_caught(caught):
    said, *_ = caught
    kinds = {what.split(" ")[0] for what, _ in said["honest"]}
    assert kinds == {"file", "socket"}
    names = [what for what, _ in said["honest"]]
    for part in ("/work/names.key", ".ct.part", ".part.journal", "/store/0x", "manifest.json", ".json"):
        assert any(part in name for name in names), part
    sent = b"".join(content for what, content in said["honest"] if what.startswith("socket"))
    assert b"eth_sendRawTransaction" in sent or b"twopm_transact" in sent
    root = json.loads(said["ref"])["root"]
    assert root[2:].encode() in sent
    stored = b"".join(c for what, c in said["honest"] if root in what and "manifest" not in what)
    assert len(stored) >= json.loads(said["ref"])["size"]
    assert said["unseen"] == []


def test_the_trap_works(caught):
    said, clear, scaled, path, wanted = caught
    for what in ("file", "socket"):
        content = b"".join(content for kind, content in said["planted"] if kind.startswith(what))
        assert found(b"before" + content + b"after", wanted) == ["dose, one by one"]
    one_by_one = {f"{name}, one by one" for name in ("number", "dose", "level")}
    assert one_by_one <= set(found(path.read_bytes(), wanted))
    assert one_by_one <= set(found(scaled.to_json().encode(), wanted))
    columns = b"".join(clear[name].to_numpy().tobytes() for name in ("number", "dose", "smoker"))
    assert found(columns, wanted) == ["dose, one by one", "number, one by one", "smoker"]
    assert found(scaled[["number", "dose"]].to_numpy(np.float32).tobytes(), wanted) == ["a row"]
    assert found(os.urandom(1 << 18), wanted) == []
