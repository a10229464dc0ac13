"""Parquet, workbooks, pictures, folders and databases: the same rows each time, and what is refused."""

import os
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import traceback
import zlib
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from twopm_kit.errors import SourceError
from twopm_kit.vsies.sources import formats, open_source, read

FIXTURES = Path(__file__).parent / "fixtures"


def refused(what, *parts, **options):
    with pytest.raises(SourceError) as caught:
        read(what, **options)
    assert caught.value.hint
    for part in parts:
        assert part in caught.value.message, caught.value.message


def test_formats():
    assert set(formats()) >= {
        ".csv", ".tsv", ".txt", ".xls", ".xlsx", ".parquet", ".npy", ".npz", ".pt", ".safetensors"
    }  # fmt: skip


# Parquet ---------------------------------------------------------------------------------------------------


def test_parquet_has_one_dtype_for_each_column(tmp_path):
    big = 9007199254740993
    table = pa.table(
        {
            "whole": pa.array([1, 2, 3, 4], pa.int16()),
            "gap": pa.array([big, big, big, None]),
            "float": pa.array([1.5, 2, 3, None], pa.float32()),
            "truth": [True, False, True, None],
            "town": pa.array(["a", "b", None, "a"]).dictionary_encode(),
            "when": pa.array([0, 1, None, 3], pa.date32()),
            "zone": pa.array([0, 1, 2, 3], pa.timestamp("ms", "Europe/Berlin")),
            "empty": pa.nulls(4),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    source = open_source(tmp_path / "t.parquet", rows=1)
    expected = {
        "whole": "int64",
        "gap": "Int64",
        "float": "float64",
        "truth": "boolean",
        "town": "str",
        "when": "datetime64[us]",
        "zone": "datetime64[us, Europe/Berlin]",
        "empty": "float64",
    }
    chunks = list(source.chunks())
    assert len(chunks) == source.n_rows == 4
    for chunk in chunks:
        assert {name: str(dtype) for name, dtype in chunk.dtypes.items()} == expected == source.dtypes
    assert source.read().gap.to_list() == [big, big, big, pd.NA]
    assert read(tmp_path / "t.parquet", columns=["town"]).town.to_list()[:2] == ["a", "b"]
    refused(tmp_path / "t.parquet", "no column 'nothing'", columns=["nothing"])


def test_parquet_without_statistics_may_lack_values(tmp_path):
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "t.parquet", write_statistics=False)
    assert open_source(tmp_path / "t.parquet").dtypes == {"a": "Int64"}


def test_parquet_that_is_damaged(tmp_path, monkeypatch):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": np.random.default_rng(1).normal(size=5000)}), path)
    whole = path.read_bytes()
    for cut in (whole[:-50], whole[:100], b""):
        path.write_bytes(cut)
        refused(path, "not a whole Parquet file")
    path.write_bytes(whole[:200] + bytes(500) + whole[700:])
    monkeypatch.setattr("twopm_kit.vsies.sources.parquet.GROUP", 1000)
    refused(path, "row group of")
    pq.write_table(pa.table({"a": [[1], [2]]}), path)
    refused(path, "list", "column 'a'")
    pq.write_table(pa.table([[1], [2]], names=["a", "a "]), path)
    refused(path, "columns 1 and 2")


# Workbooks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["people.xlsx", "people.xls"])
def test_workbooks(name):
    source = open_source(FIXTURES / name, rows=2)
    assert source.dtypes == {
        "id": "int64", "weight": "float64", "ok": "bool", "born": "datetime64[us]", "note": "str"
    }  # fmt: skip
    assert [len(chunk) for chunk in source.chunks()] == [2, 1]
    frame = source.read()
    assert frame["id"].to_list() == [1, 2, 4]
    assert frame.note.to_list() == ["a", "=1+1 as text", "7"]
    assert frame.born[0] == pd.Timestamp("1990-01-02")
    assert "'people' of" in source.describe()


def test_sheets():
    path = FIXTURES / "people.xlsx"
    assert read(path, sheet="numbers").to_dict("list") == {"x0": [1, 3], "x1": [2.0, 4.5]}
    assert read(path, sheet=1, header=True).to_dict("list") == {"1": [3], "2": [4.5]}
    assert read(path, sheet="hidden gap", dtypes={"a": "float"}).to_dict("list") == {
        "a": [1.0, 2.0],
        "b": ["x", "3"],
    }
    refused(path, "row 4, column 'b': 'x'", sheet="hidden gap", dtypes={"b": "int"})
    refused(path, "no sheet 'none'", sheet="none")
    refused(path, "no sheet 9", sheet=9)
    refused(path, "is empty", sheet="nothing")


def test_workbooks_that_are_hostile(tmp_path, monkeypatch):
    refused(FIXTURES / "corners.xlsx", "too much memory")
    refused(FIXTURES / "corners.xls", "16,777,216 cells")
    # an external entity is not followed: its cell has no value
    assert read(FIXTURES / "entity.xlsx").weight.to_list() == [pd.NA, 3, pd.NA]
    for name in ("people.xlsx", "people.xls"):
        content = (FIXTURES / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        refused(tmp_path / name, name)
        (tmp_path / name).write_bytes(b"no workbook")
        refused(tmp_path / name, "cannot be read as a workbook")
    monkeypatch.setattr("twopm_kit.vsies.sources.files.UNPACKED_FLOOR", 1000)
    monkeypatch.setattr("twopm_kit.vsies.sources.files.RATIO", 2)
    refused(FIXTURES / "people.xlsx", "unpacks from")


KILLED = """
import os, signal, sys
from twopm_kit.vsies.sources import arrays, files, read, workbooks
import fsspec
kind, path = sys.argv[1:]
far = fsspec.filesystem("memory")
far.pipe_file("/far." + kind, open(path, "rb").read())
copied = files.Place.on_disk
def kill(place):
    print(copied(place).read_bytes() == open(path, "rb").read(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
files.Place.on_disk = kill
read("memory://far." + kind)
"""


@pytest.mark.parametrize("kind", ["xlsx", "pt", "safetensors"])
def test_copies_of_far_files_leave_nothing_behind(kind, tmp_path, monkeypatch):
    path = FIXTURES / "people.xlsx" if kind == "xlsx" else tmp_path / f"far.{kind}"
    if kind == "pt":
        torch.save({"x": torch.arange(6.0)}, path)
    elif kind == "safetensors":
        save_file({"x": torch.arange(6.0)}, path)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", KILLED, kind, str(path)],
        env={**os.environ, "TMPDIR": str(temporary)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "True\n"), done.stderr
    assert not list(temporary.iterdir())
    # and a copy is read like the file itself
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    fsspec.filesystem("memory").pipe_file(f"/far.{kind}", path.read_bytes())
    assert read(f"memory://far.{kind}").equals(read(path))
    assert not list(temporary.iterdir())


# Pictures --------------------------------------------------------------------------------------------------


@pytest.fixture
def zoo(tmp_path):
    rng = np.random.default_rng(1)
    for label in ("cat", "dog"):
        (tmp_path / "zoo" / label).mkdir(parents=True)
        for at in range(3):
            pixels = rng.integers(0, 256, (4, 5, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "zoo" / label / f"{at}.png")
    return tmp_path / "zoo"


def test_pictures(zoo):
    source = open_source(zoo, rows=4)
    assert source.columns == [*(f"x{at}" for at in range(60)), "label"]
    assert [len(chunk) for chunk in source.chunks()] == [4, 2]
    frame = source.read()
    assert frame.label.to_list() == ["cat"] * 3 + ["dog"] * 3
    with Image.open(zoo / "dog" / "0.png") as picture:
        assert np.array_equal(frame.iloc[3, :60].to_numpy(np.uint8), np.asarray(picture).reshape(-1))
    assert {str(dtype) for dtype in frame.dtypes} == {"uint8", "str"}
    known = source.fingerprint()
    assert open_source(zoo).fingerprint() == known
    (zoo / "dog" / "0.png").rename(zoo / "dog" / "9.png")
    assert open_source(zoo).fingerprint() != known


def test_size_and_mode(zoo):
    Image.new("RGB", (7, 7)).save(zoo / "dog" / "large.png")
    refused(zoo, "dog/large.png has 7 × 7 pixels", "5 × 4")
    assert read(zoo, size=(3, 2)).shape == (7, 19)
    Image.new("L", (5, 4)).save(zoo / "dog" / "large.png")
    refused(zoo, "dog/large.png has mode L")
    assert read(zoo, mode="L").shape == (7, 21)
    refused(zoo, "mode must be", mode="CMYK")
    refused(zoo, "size must be", size=(0, 3))


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_pictures_that_are_hostile(zoo):
    bad = zoo / "dog" / "bad.png"
    size = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bad.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    refused(zoo, "bad.png", "3600000000 pixels")
    size = struct.pack(">IIBBBBB", 5000, 5000, 8, 2, 0, 0, 0)
    bad.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    refused(zoo, "bad.png has 5000 × 5000 pixels")
    whole = (zoo / "dog" / "0.png").read_bytes()
    bad.write_bytes(whole[:90])
    refused(zoo, "bad.png is")
    bad.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0")
    refused(zoo, "bad.png is not a picture")
    frames = [Image.new("L", (5, 4), shade) for shade in (0, 255)]
    frames[0].save(bad, save_all=True, append_images=frames[1:])
    refused(zoo, "2 frame(s)")
    bad.unlink()
    (zoo / "dog" / "notes.txt").write_text("x")
    refused(zoo, "notes.txt is no picture")
    (zoo / "dog" / "notes.txt").rename(zoo / "dog" / ".notes.txt")
    assert len(read(zoo)) == 6


def test_links_do_not_lead_out(zoo, tmp_path):
    secret = tmp_path / "secret"
    shutil.copytree(zoo / "cat", secret)
    (zoo / "dog" / "same.png").symlink_to(zoo / "dog" / "0.png")
    assert len(read(zoo)) == 7
    (zoo / "dog" / "out.png").symlink_to(secret / "0.png")
    refused(zoo, "dog/out.png is a symbolic link that leads out")
    (zoo / "dog" / "out.png").unlink()
    (zoo / "fox").symlink_to(secret)
    refused(zoo, "fox is a symbolic link that leads out")
    (zoo / "fox").unlink()
    (zoo / "dog" / "loop.png").symlink_to(zoo / "dog" / "loop.png")
    refused(zoo, "loop.png")


def test_train_and_val(zoo, tmp_path):
    for name in ("train", "val"):
        shutil.copytree(zoo, tmp_path / "both" / name)
    shutil.rmtree(tmp_path / "both" / "val" / "cat")
    source = open_source(tmp_path / "both", rows=2)
    assert {name: len(part.read()) for name, part in source.split.items()} == {"train": 6, "val": 3}
    assert (source.n_rows, source.columns) == (9, None)
    assert len(source.fingerprint()) == 32
    assert "train" in source.describe()
    assert "val" in source._repr_html_()
    refused(tmp_path / "both", "divided into train, val")


def test_train_and_val_as_tables(tmp_path):
    for name in ("train", "val"):
        (tmp_path / f"{name}.csv").write_text(f"a,b\n1,{name}\n")
    assert open_source(tmp_path).split["val"].read().b.to_list() == ["val"]
    assert open_source(tmp_path / "val.csv").split == {}


# Databases -------------------------------------------------------------------------------------------------


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "people.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, size REAL, odd)")
    rows = [(at, f"n{at}", at / 7 if at % 3 else None, at if at < 90 else "word") for at in range(99, -1, -1)]
    connection.executemany("INSERT INTO people VALUES (?, ?, ?, ?)", rows)
    connection.execute("CREATE TABLE loose (a, b)")
    connection.executemany("INSERT INTO loose VALUES (?, ?)", [(2, None), (1, 5), (1, 4)])
    connection.execute("CREATE TABLE raw (a BLOB)")
    connection.execute("INSERT INTO raw VALUES (x'00')")
    connection.commit()
    connection.close()
    return path


def test_tables_of_a_database(database):
    source = open_source(f"sqlite:///{database}", table="people", rows=7)
    chunks = list(source.chunks())
    assert len(chunks) == 15
    expected = {"id": "int64", "name": "str", "size": "float64", "odd": "str"}
    for one in chunks:
        assert {name: str(dtype) for name, dtype in one.dtypes.items()} == expected == source.dtypes
    frame = source.read()
    assert frame["id"].to_list() == list(range(100))
    assert frame.odd.to_list()[89:91] == ["89", "word"]
    assert source.n_rows == 100
    loose = read(f"sqlite:///{database}", table="loose")
    assert (loose.a.to_list(), loose.b.to_list()) == ([1, 1, 2], [4, 5, pd.NA])


def test_queries(database):
    url = f"sqlite:///{database}"
    query = "-- the last ones\nSELECT id, '12:30' AS time FROM people ORDER BY id DESC LIMIT 2;"
    assert read(url, query=query).to_dict("list") == {"id": [99, 98], "time": ["12:30"] * 2}
    assert read(url, query="SELECT id FROM people WHERE id > 1000").shape == (0, 1)
    refused(url, "no such column", query="SELECT no_such FROM people")
    refused(url, "columns 1 and 2", query="SELECT id, id FROM people")
    refused(
        url,
        "row 91, column 'odd'",
        "int64",
        query="SELECT odd FROM people ORDER BY id",
        dtypes={"odd": "int"},
    )
    refused(url, "raw bytes", table="raw")
    refused(url, "no table 'none'", table="none")
    refused(url, "either query= or table=")
    refused(url, "either query= or table=", query="SELECT 1", table="people")


def test_text_that_a_database_gives_keeps_its_zeros(database):
    frame = read(f"sqlite:///{database}", query="SELECT '007' AS code, 7 AS number UNION ALL SELECT '12', 12")
    assert frame.code.to_list() == ["007", "12"]
    assert frame.number.to_list() == [7, 12]


def test_nothing_is_written(database, tmp_path):
    url, before = f"sqlite:///{database}", database.read_bytes()
    for query in (
        "DROP TABLE people",
        "PRAGMA journal_mode=WAL",
        "ATTACH 'x.db' AS x",
        "SELECT 1; DROP TABLE people",
    ):
        refused(url, query=query)
    refused(url, "readonly", query="WITH x AS (SELECT 1) DELETE FROM people")
    assert database.read_bytes() == before
    refused(f"sqlite:///{tmp_path}/none.db", "there is no database", table="people")
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "no.db").write_text("this is no database at all")
    refused(f"sqlite:///{tmp_path}/no.db", "not an SQLite file", table="people")
    (tmp_path / "no.db").write_bytes(before[:3000])
    refused(f"sqlite:///{tmp_path}/no.db", "no.db", table="people")


def test_a_changing_answer_is_refused(database):
    source = open_source(f"sqlite:///{database}", table="loose")
    known = source.fingerprint()
    source.read()
    connection = sqlite3.connect(database)
    connection.execute("INSERT INTO loose VALUES (9, 9)")
    connection.commit()
    connection.close()
    with pytest.raises(SourceError, match="answers otherwise than in the first pass"):
        source.read()
    assert source.fingerprint() != known


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hunter2@127.0.0.1:1/db?sslpassword=hunter3",
        "mysql+nothing://me:hunter2@127.0.0.1/db",
        "sqlite:///none.db?key=hunter2",
        "postgresql://me:hunter2@[::1/db",
    ],
)
def test_passwords_are_not_told(url):
    told = []
    try:
        source = open_source(url, table="people")
        told += [repr(source), source.name]
        source.read()
    except SourceError as error:
        told += traceback.format_exception(error)
    assert told
    assert "hunter" not in " ".join(told)
