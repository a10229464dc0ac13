import hmac
import os
import pickle
import signal
import struct
import subprocess
import sys
import time
import tracemalloc
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from twopm_kit.errors import CiphertextError, FHEError, ForkRefused, SchemaError, WrongKey
from twopm_kit.fhe import EncryptedFrame, KeyHolder, LogisticRegression, engine
from twopm_kit.fhe.container import ContainerReader
from twopm_kit.fhe.parallel import encrypt_to
from twopm_kit.fhe.seal_io import dump

BLOCK = 2048  # rows of a ciphertext of profile "agg"


@pytest.fixture(scope="module")
def summer():
    return KeyHolder.generate("agg", budget=1_000_000)


@pytest.fixture(scope="module")
def table():
    values = np.random.default_rng(2).uniform(-7, 7, size=(3 * BLOCK + 100, 3))
    return pd.DataFrame(values, columns=["a", "b", "c"])


def opened(holder, path):
    return holder.decrypt(EncryptedFrame.load(path, holder), flood=False)


def cut(table, size):
    return (table.iloc[at : at + size] for at in range(0, len(table), size))


def chunks_of(path):
    with ContainerReader(path) as reader:
        return list(reader)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def quiet(keys, source, path, **options):
    return encrypt_to(keys, source, path, progress=False, **options)


class Stop(BaseException):
    """What Ctrl-C is, without stopping the test run."""


def interrupted(table, size, after):
    """Pieces of a table, and Ctrl-C after some of them."""
    for number, piece in enumerate(cut(table, size)):
        if number == after:
            raise Stop
        yield piece


# Sources ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", ["real", "complex"])
def test_every_source_gives_the_values_of_encrypt(summer, table, tmp_path, packing):
    sources = {
        "frame": table,
        "pieces": cut(table, 777),
        "list": list(cut(table, 3000)),
        "callable": lambda: cut(table, 1000),
    }
    whole = summer.encrypt(table, bounds=8.0, packing=packing)
    for name, source in sources.items():
        path = quiet(summer, source, tmp_path / f"{name}.ct", bounds=8.0, packing=packing)
        assert path == tmp_path / f"{name}.ct"
        enc = EncryptedFrame.load(path, summer)
        assert (enc.shape, enc.heads, enc.packing) == (whole.shape, whole.heads, packing)
        assert (enc.level, enc.n_ciphertexts) == (whole.level, whole.n_ciphertexts)
        pd.testing.assert_frame_equal(summer.decrypt(enc, flood=False), table, atol=1e-4)
    assert names(tmp_path) == sorted(f"{name}.ct" for name in sources)


def test_arrays_csv_files_and_chosen_columns(summer, table, tmp_path):
    path = tmp_path / "x.ct"
    array = opened(summer, quiet(summer, table.to_numpy(), path))
    assert isinstance(array, np.ndarray)
    np.testing.assert_allclose(array, table, atol=1e-4)
    np.testing.assert_allclose(opened(summer, quiet(summer, [1.0, 2.0], path)), [[1.0], [2.0]], atol=1e-4)
    table.assign(when=pd.Timestamp(0)).to_csv(tmp_path / "x.csv", index=False)
    with pd.read_csv(tmp_path / "x.csv", chunksize=1500) as rows:
        quiet(summer, rows, path, columns=["c", "a"], bounds={"a": 8.0, "c": 16.0})
    np.testing.assert_allclose(opened(summer, path), table[["c", "a"]], atol=1e-4)
    assert EncryptedFrame.load(path).bounds == {"c": 16.0, "a": 8.0}


def test_whole_numbers_categories_and_masks_come_back(summer, tmp_path):
    rng, rows = np.random.default_rng(9), 2 * BLOCK + 10
    frame = pd.DataFrame(
        {
            "count": rng.integers(0, 9, rows),
            "age": np.where(rng.random(rows) < 0.2, np.nan, rng.uniform(0, 90, rows)),
            "word": np.where(np.arange(rows) < BLOCK, "early", "late"),  # no block has seen all
            "truth": rng.random(rows) < 0.5,
        }
    )
    whole = summer.encrypt(frame, missing=["age"])
    for n_jobs in (1, 2):
        path = quiet(summer, frame, tmp_path / "x.ct", missing=["age"], n_jobs=n_jobs)
        enc = EncryptedFrame.load(path, summer)
        assert (enc.heads, enc.n_ciphertexts) == (whole.heads, whole.n_ciphertexts)
        back, wanted = summer.decrypt(enc), summer.decrypt(whole)
        pd.testing.assert_frame_equal(back, wanted, atol=1e-3)
        assert (back["age"].isna() == frame["age"].isna()).all()
    pieces = [frame[["count"]], frame[["count"]].astype(float)]
    with pytest.raises(SchemaError, match=r"from 4106 on have .*'float'\) where those .*'int'\)"):
        quiet(summer, pieces, tmp_path / "y.ct")


def test_an_array_on_disk_is_never_read_whole(summer, tmp_path):
    shape = (BLOCK * 200, 1)
    stored = np.memmap(tmp_path / "x.bin", np.float64, "w+", shape=shape)
    stored[:] = np.arange(shape[0])[:, None] % 13
    quiet(summer, stored[:BLOCK], tmp_path / "first.ct")  # what is made once
    tracemalloc.start()
    quiet(summer, stored, tmp_path / "x.ct")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    with ContainerReader(tmp_path / "x.ct") as reader:
        assert len(reader) == 200
        assert peak < 1 << 20 < reader.nbytes / 4


def test_bounds_are_found_by_looking_twice_or_asked_for(summer, table, tmp_path):
    path = tmp_path / "x.ct"
    tall = table * [1.0, 1.0, 0.1]
    tall.iloc[-1, 0] = 100.0
    whole = summer.encrypt(tall).heads
    for source in (tall, lambda: cut(tall, 1000), list(cut(tall, 1000))):
        assert EncryptedFrame.load(quiet(summer, source, path)).heads == whole
    with pytest.raises(SchemaError, match="it can be read once"):
        quiet(summer, cut(tall, 1000), path)
    with pytest.raises(SchemaError, match="bounds has none for b, c"):
        quiet(summer, cut(tall, 1000), path, bounds={"a": 256.0})
    with pytest.raises(SchemaError, match=r"in the rows from 6000 on: column 'a', row \d+: .*limit of 8"):
        quiet(summer, lambda: cut(tall, 1000), path, bounds=8.0)


def test_what_cannot_be_encrypted_is_refused_by_name(summer, table, tmp_path):
    path = tmp_path / "x.ct"
    holes = table.copy()
    holes.iloc[-1, 1] = np.nan
    for source, options, words in (
        (holes, {}, "column 'b'.*missing"),
        (table.iloc[:0], {}, "no rows"),
        (iter([]), {"bounds": 1.0}, "no rows"),
        (object(), {}, "a object was passed"),
        ([[1.0], [1.0, 2.0]], {}, "different length"),
        (["a", "b"], {}, "dtype"),
        (pd.DataFrame([[1.0, 2.0]], columns=["a", "a"]), {}, "not unique"),
        (pd.DataFrame({"a": ["x", 5]}), {}, "values of type int"),
        (np.zeros((2, 2, 2)), {}, "3 dimensions"),
        (table, {"columns": ["a", "zz"]}, "zz"),
        (table, {"columns": []}, "were chosen"),
        (np.zeros((2, 2)), {"columns": ["x0"]}, "no names"),
        (table, {"bounds": {"d": 1.0}}, "d, which"),
        ([table, table[["b", "a", "c"]]], {}, r"from 6244 on have the column \('b', 'float'\) where"),
    ):
        with pytest.raises(SchemaError, match=words):
            quiet(summer, source, path, **options)
    with pytest.raises(CiphertextError, match="packing"):
        quiet(summer, table, path, packing="tight")
    for wrong in (0, 1.0, None, True):
        with pytest.raises(FHEError, match="n_jobs"):
            quiet(summer, table, path, n_jobs=wrong)
    with pytest.raises(SchemaError, match="takes 2147483648 and 1048576"):
        quiet(summer, np.broadcast_to(1.0, (1 << 32, 1)), path, bounds=1.0)
    assert names(tmp_path) == []


def test_forked_processes_are_refused(summer, table, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "_HOME_PROCESS", os.getpid() + 1)
    with pytest.raises(ForkRefused, match="forked process"):
        quiet(summer, table, tmp_path / "x.ct")
    assert names(tmp_path) == []


# Interruptions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["holder", "evaluator"])
def test_an_interrupted_run_goes_on_with_fresh_randomness(summer, table, tmp_path, role):
    keys = summer if role == "holder" else summer.evaluator()
    path, part = tmp_path / "x.ct", tmp_path / "x.ct.part"
    with pytest.raises(Stop):
        quiet(keys, interrupted(table, 1000, 5), path, bounds=8.0)
    begun = part.read_bytes()
    assert names(tmp_path) == ["x.ct.part", "x.ct.part.journal"]
    quiet(keys, cut(table, 999), path, bounds=8.0)
    assert path.read_bytes().startswith(begun)
    assert names(tmp_path) == ["x.ct"]
    np.testing.assert_allclose(opened(summer, path), table, atol=1e-3)
    again = quiet(keys, cut(table, 999), tmp_path / "y.ct", bounds=8.0)
    first, second = chunks_of(path), chunks_of(again)
    assert len(set(first + second)) == 24


def test_other_rows_bounds_or_keys_are_not_mixed_in(summer, stranger, table, tmp_path):
    path = tmp_path / "x.ct"
    with pytest.raises(Stop):
        quiet(summer, interrupted(table, BLOCK, 2), path, bounds=8.0)
    left = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    changed = table.copy()
    changed.iloc[BLOCK + 3, 2] += 1e-9
    for keys, rows, bounds, words in (
        (summer, changed, 8.0, r"block 1 \(from row 2048 on\) differ in column 'c'"),
        (summer, table.iloc[: BLOCK + 5], 8.0, "block 1"),
        (summer, table.iloc[:BLOCK], 8.0, "have only 3"),
        (summer, table, 16.0, "columns differ"),
        (summer, table.rename(columns={"a": "z"}), 8.0, "columns differ"),
        (KeyHolder.generate("agg"), table, 8.0, "fingerprint differ"),
        (stranger, table, 8.0, "profile, params, fingerprint"),
    ):
        with pytest.raises(CiphertextError, match=words):
            quiet(keys, rows, path, bounds=bounds)
        assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == left
    quiet(summer, changed, path, bounds=8.0, resume=False)
    np.testing.assert_allclose(opened(summer, path), changed, atol=1e-4)
    assert not path.read_bytes().startswith(left["x.ct.part"])


def test_a_bad_row_late_in_a_stream_can_be_mended(summer, table, tmp_path):
    path, holes = tmp_path / "x.ct", table.copy()
    holes.iloc[5000, 1] = np.inf
    with pytest.raises(
        SchemaError, match="in the rows from 4500 on: column 'b', row 500: the value is infin"
    ):
        quiet(summer, cut(holes, 1500), path, bounds=8.0)
    begun = (tmp_path / "x.ct.part").read_bytes()
    quiet(summer, cut(table, 1500), path, bounds=8.0)
    assert path.read_bytes().startswith(begun)
    np.testing.assert_allclose(opened(summer, path), table, atol=1e-4)


def test_the_journal_gives_no_way_to_test_guesses_without_the_key(summer, tmp_path):
    path = tmp_path / "x.ct"
    for turn in range(2):  # the same values twice: the two journals have nothing in common but the header
        with pytest.raises(Stop):
            quiet(
                summer, interrupted(pd.DataFrame({"a": np.full(2 * BLOCK, 5.0)}), BLOCK, 1), path, bounds=8.0
            )
        path.with_name("x.ct.part.journal").rename(tmp_path / f"{turn}.log")
    first, second = ((tmp_path / f"{n}.log").read_bytes() for n in range(2))
    assert len(first) == len(second)
    assert first[-32:] != second[-32:]
    salt, tag, values = first[14:46], first[-32:], np.full(BLOCK, 5.0).tobytes()
    guess = struct.pack("<QQ", 0, BLOCK) + values
    assert tag not in {hmac.digest(key, guess, "sha256") for key in (salt, b"", bytes(32))}
    with pytest.raises(Stop):  # an evaluator has no secret to mix in, which its documentation says
        quiet(
            summer.evaluator(),
            interrupted(pd.DataFrame({"a": np.full(5000, 5.0)}), BLOCK, 1),
            path,
            bounds=8.0,
        )
    public = path.with_name("x.ct.part.journal").read_bytes()
    assert public[-32:] == hmac.digest(public[14:46], guess, "sha256")


CHILD = """
import sys, time
import numpy as np
from twopm_kit.fhe import KeyHolder
from twopm_kit.fhe.parallel import encrypt_to

def pieces():
    for piece in np.split(np.load(sys.argv[2]), 60):
        time.sleep(0.01)
        yield piece

holder = KeyHolder.load(sys.argv[1], "four unrelated long words")
encrypt_to(holder, pieces(), sys.argv[3], bounds=8.0, progress=False)
"""


def test_kill_9_at_random_points_and_going_on(summer, tmp_path):
    values = np.random.default_rng(4).uniform(-8, 8, (60 * BLOCK, 2))
    np.save(tmp_path / "x.npy", values)
    summer.save(tmp_path / "key", "four unrelated long words")
    path, part, journal = (tmp_path / f"x.ct{end}" for end in ("", ".part", ".part.journal"))
    begun, rng = b"", np.random.default_rng()
    for target in np.array([5, 45, 85]) + rng.integers(0, 30, 3):
        command = [sys.executable, "-c", CHILD, *map(str, (tmp_path / "key", tmp_path / "x.npy", path))]
        child = subprocess.Popen(command, cwd=Path(__file__).parents[3])
        while child.poll() is None and (not journal.exists() or journal.stat().st_size < 700 + 68 * target):
            time.sleep(rng.uniform(0, 0.004))
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        assert not path.exists()
        now = part.read_bytes()
        assert len(now) > len(begun)
        assert now.startswith(begun)
        length = whole(journal.read_bytes())
        assert 0 < length <= len(now)  # the journal is never ahead of the chunks
        begun = now[:length]
    holder = KeyHolder.load(tmp_path / "key", "four unrelated long words")
    quiet(holder, values, path, bounds=8.0)
    assert path.read_bytes().startswith(begun)
    assert names(tmp_path) == ["key", "key.ledger", "x.ct", "x.npy"]
    np.testing.assert_allclose(opened(summer, path), values, atol=1e-4)


def whole(journal: bytes) -> int:
    """Length of an unfinished file up to its last chunk that the journal knows."""
    start = 46 + struct.unpack_from("<I", journal, 10)[0]
    lines = (len(journal) - start) // 68
    return 10 + sum(struct.unpack_from("<I", journal, start + 68 * i)[0] for i in range(lines))


# Processes ----------------------------------------------------------------------------------------------


def workers():
    """The processes that encrypt; other tests of this process may keep pools of their own warm."""
    mine = psutil.Process().children(recursive=True)
    return [child for child in mine if any("twopm_kit.fhe.parallel" in word for word in child.cmdline())]


def watching(table, seen):
    """Pieces of a table; looks at the worker processes while they work."""
    for piece in cut(table, BLOCK):
        for child in workers():
            with child.oneshot():
                written = [f.path for f in child.open_files() if f.mode != "r"]
                seen.append((child.pid, child.cmdline(), child.environ(), written))
        yield piece


def test_two_processes_give_the_same_values_and_never_show_the_key(summer, table, tmp_path, monkeypatch):
    def refuse(*args, **options):
        pytest.fail("something was pickled")

    for owner, name in ((pickle, "dump"), (pickle, "dumps"), (ForkingPickler, "dumps")):
        monkeypatch.setattr(owner, name, refuse)
    seen, ours = [], {f.path for f in psutil.Process().open_files()}  # what all processes write to: a log
    secret = dump(summer._secret)
    path = quiet(summer, watching(table, seen), tmp_path / "two.ct", bounds=8.0, n_jobs=2)
    monkeypatch.undo()
    assert workers() == []
    assert len({pid for pid, *_ in seen}) == 2
    inside = [secret[at : at + 24] for at in range(200, len(secret) - 24, 500)]
    for _, command, environment, written in seen:
        assert all(piece not in os.fsencode(word) for piece in inside for word in command)
        assert all(piece not in os.fsencode(word) for piece in inside for word in environment.values())
        assert all(p in ours or "memfd:" in p or p.startswith("/dev/") for p in written)
    assert names(tmp_path) == ["two.ct"]
    one = quiet(summer, table, tmp_path / "one.ct", bounds=8.0)
    with ContainerReader(path) as two, ContainerReader(one) as alone:
        assert two.header.columns == alone.header.columns
        assert two.header.rows == alone.header.rows
        assert abs(two.nbytes / alone.nbytes - 1) < 0.01  # seeded, with the secret key
    np.testing.assert_allclose(opened(summer, path), opened(summer, one), atol=1e-4)


def test_an_evaluators_workers_get_the_public_half(summer, table, tmp_path):
    path = quiet(summer.evaluator(), table, tmp_path / "x.ct", bounds=8.0, n_jobs=2)
    np.testing.assert_allclose(opened(summer, path), table, atol=1e-3)


def killing(table):
    for number, piece in enumerate(cut(table, BLOCK)):
        if number == 1:
            for child in workers():
                child.kill()
        yield piece


def test_a_worker_that_dies_is_named_and_the_rest_is_gone_on_with(summer, table, tmp_path):
    path = tmp_path / "x.ct"
    with pytest.raises(FHEError, match="a worker process ended with code -9") as caught:
        quiet(summer, killing(table), path, bounds=8.0, n_jobs=2)
    assert "n_jobs=1" in caught.value.hint
    assert workers() == []
    quiet(summer, table, path, bounds=8.0)
    np.testing.assert_allclose(opened(summer, path), table, atol=1e-4)


def test_ctrl_c_ends_the_workers_and_leaves_no_descriptor(summer, table, tmp_path):
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with pytest.raises(Stop):
        quiet(summer, interrupted(table, BLOCK, 2), tmp_path / "x.ct", bounds=8.0, n_jobs=2)
    assert workers() == []
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_million_floats_for_sums_take_less_than_8_megabytes(summer, tmp_path):
    values = np.random.default_rng(6).uniform(-1, 1, 1_000_000)
    path = quiet(summer, values, tmp_path / "x.ct", bounds=1.0, packing="complex")
    with ContainerReader(path) as reader:
        assert len(reader) == 245
        added = path.stat().st_size - reader.nbytes
        assert added == 58 + len(reader.header.to_json()) + 36 * 245
        assert added < 10_000
    assert path.stat().st_size <= 8_000_000


def test_a_bar_shows_rows(summer, table, tmp_path, capfd):
    encrypt_to(summer, table, tmp_path / "x.ct", bounds=8.0)
    assert "row" in capfd.readouterr().err
    quiet(summer, table, tmp_path / "x.ct", bounds=8.0)
    assert capfd.readouterr().err == ""


def test_a_long_file_is_computed_on_block_by_block(tmp_path):
    holder = KeyHolder.generate("linear", budget=1_000_000)
    x = np.random.default_rng(5).normal(size=(9_000, 2))
    path = holder.encrypt_to(x, tmp_path / "x.ct", progress=False)
    model = LogisticRegression.from_plain([1.0, -2.0], 0.25)
    parts = [model.decision_function(part) for part in EncryptedFrame.stream(path, holder.evaluator())]
    assert [len(part) for part in parts] == [4096, 4096, 808]
    scores = np.concatenate([holder.decrypt(part) for part in parts])
    assert np.abs(scores[:, 0] - (x @ [1.0, -2.0] + 0.25)).max() < 2e-6
    with pytest.raises(WrongKey):
        next(EncryptedFrame.stream(path, KeyHolder.generate("linear")))
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(bytes(damaged))
    with pytest.raises(CiphertextError, match="chunk"):
        list(EncryptedFrame.stream(path))
