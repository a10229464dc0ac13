"""Arrays and tensors: every layout gives the same rows, nothing in a file is run, no size is believed."""

import io
import os
import struct
import zipfile

import numpy as np
import pandas as pd
import pytest

from twopm_kit.errors import SourceError
from twopm_kit.vsies.sources import open_source, read


def refused(what, *parts, **options):
    with pytest.raises(SourceError) as caught:
        read(what, **options)
    assert caught.value.hint
    for part in parts:
        assert part in caught.value.message, caught.value.message


@pytest.fixture
def cube():
    return np.random.default_rng(1).normal(size=(11, 3, 2))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("rows", [1, 4, 100])
def test_npy_in_both_orders(tmp_path, cube, order, rows):
    np.save(tmp_path / "x.npy", np.asarray(cube, order=order))
    source = open_source(tmp_path / "x.npy", rows=rows)
    assert source.columns == [f"x{at}" for at in range(6)]
    assert (source.n_rows, source.n_bytes) == (11, (tmp_path / "x.npy").stat().st_size)
    frame = source.read()
    assert np.array_equal(frame.to_numpy(), cube.reshape(11, 6))
    assert frame.equals(source.read())
    assert max(map(len, source.chunks())) <= rows


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.arange(5, dtype=">i4"), "int32"),
        (np.arange(5, dtype=np.float16), "float32"),
        (np.array([True, False]), "bool"),
        (np.array(["a", "bc"]), "str"),
        (np.array(["2020-01-01", "NaT"], "datetime64[D]"), "datetime64[us]"),
    ],
)
def test_kinds_of_values(tmp_path, array, dtype):
    np.save(tmp_path / "x.npy", array)
    source = open_source(tmp_path / "x.npy")
    assert source.dtypes == {"x0": dtype}
    assert {str(dtype) for chunk in source.chunks() for dtype in chunk.dtypes} == {dtype}
    assert len(source.read()) == len(array)


def test_records_have_names(tmp_path):
    np.save(tmp_path / "x.npy", np.array([(1, 2.5), (3, 4.5)], dtype=[("age", "i8"), ("size", "f8")]))
    assert read(tmp_path / "x.npy").to_dict("list") == {"age": [1, 3], "size": [2.5, 4.5]}


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_npz(tmp_path, cube, write):
    write(tmp_path / "x.npz", pixels=np.asfortranarray(cube), label=np.arange(11))
    source = open_source(tmp_path / "x.npz", rows=4)
    assert source.columns == [*(f"pixels{at}" for at in range(6)), "label"]
    frame = source.read()
    assert np.array_equal(frame.iloc[:, :6].to_numpy(), cube.reshape(11, 6))
    assert frame.label.to_list() == list(range(11))


def test_tensors(tmp_path, cube):
    import torch
    from safetensors.torch import save_file

    tensors = {"x": torch.tensor(cube), "y": torch.arange(11), "z": torch.ones(11, dtype=torch.bfloat16)}
    torch.save(tensors, tmp_path / "t.pt")
    save_file(tensors, tmp_path / "t.safetensors")
    frame = read(tmp_path / "t.pt", rows=4)
    assert frame.equals(read(tmp_path / "t.safetensors"))
    assert np.array_equal(frame.iloc[:, :6].to_numpy(), cube.reshape(11, 6))
    assert [str(dtype) for dtype in frame.dtypes] == ["float64"] * 6 + ["int64", "float32"]
    torch.save(tensors["x"], tmp_path / "one.pt")
    assert read(tmp_path / "one.pt").columns.to_list() == [f"x{at}" for at in range(6)]


def test_names_can_be_given(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(4).reshape(2, 2))
    assert read(tmp_path / "x.npy", columns=["a", "b"]).to_dict("list") == {"a": [0, 2], "b": [1, 3]}
    refused(tmp_path / "x.npy", "1 names", "2 columns", columns=["a"])


# Hostile files ---------------------------------------------------------------------------------------------


class Code:
    """A pickle that leaves a file where it was run."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_pickles_are_never_run(tmp_path):
    import torch

    trace = tmp_path / "trace"
    np.save(tmp_path / "x.npy", np.array([Code(trace)], dtype=object), allow_pickle=True)
    refused(tmp_path / "x.npy", "Python objects")
    np.savez(tmp_path / "x.npz", x=np.array([Code(trace)], dtype=object))
    refused(tmp_path / "x.npz", "Python objects")
    torch.save({"x": Code(trace)}, tmp_path / "x.pt")
    refused(tmp_path / "x.pt", "more than tensors", "mkdir")
    assert not trace.exists()


def header(shape, descr="<f8"):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"shape": shape, "fortran_order": False, "descr": descr})
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (header((10,)) + bytes(72), "72 bytes of values"),
        (header((1 << 62, 1 << 62)) + bytes(8), "8 bytes of values"),
        (header((-1, 2)), "shape (-1, 2)"),
        (header((10,), "<U0"), "without a size"),
        (b"\x93NUMPY\x01\x00\x10\x00{'shape': __im}", "no valid npy header"),
        (b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535, "no valid npy header"),
        (b"", "no valid npy header"),
        (b"not an array", "no valid npy header"),
    ],
)
def test_headers_are_not_believed(tmp_path, content, words):
    (tmp_path / "x.npy").write_bytes(content)
    refused(tmp_path / "x.npy", "x.npy", words)


def test_archives_are_not_believed(tmp_path, monkeypatch):
    monkeypatch.setattr("twopm_kit.vsies.sources.files.UNPACKED_FLOOR", 1 << 20)
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.zeros(1 << 20))
    refused(path, "x.npz (x.npy) unpacks from")
    np.savez(path, x=np.zeros(3), y=np.zeros(4))
    refused(path, "different numbers of rows", "x (3,)", "y (4,)")
    np.savez(path, x=np.array(3))
    refused(path, "different numbers of rows")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.exe", "")
    refused(path, "x.exe", "not an npy file")
    with zipfile.ZipFile(path, "w"):
        pass
    refused(path, "no array")
    path.write_bytes(b"PK nothing")
    refused(path, "not the archive")
    np.savez_compressed(path, x=np.random.default_rng(1).normal(size=1000))
    damaged = bytearray(path.read_bytes())
    damaged[2000] ^= 255
    path.write_bytes(damaged)
    refused(path, "cannot be read to its end")


def test_tensors_are_not_believed(tmp_path):
    import torch

    path = tmp_path / "x.pt"
    torch.save(torch.ones(1).expand(10**12), path)
    refused(path, "more bytes than the file holds")
    torch.save([torch.ones(2)], path)
    refused(path, "holds a list")
    torch.save({"a": {"b": torch.ones(2)}}, path)
    refused(path, "holds a dict")
    torch.save(torch.ones(3, 3).to_sparse(), path)
    refused(path, "sparse")
    torch.save(torch.ones(3, dtype=torch.complex64), path)
    refused(path, "complex")
    torch.save(torch.ones(3), path, _use_new_zipfile_serialization=False)
    refused(path, "not the archive")
    torch.save(torch.ones(1000), path)
    path.write_bytes(path.read_bytes()[:-100])
    refused(path, "x.pt")


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 100, struct.pack("<Q", 1 << 40), struct.pack("<Q", 2) + b"{}"[:1]],
)
def test_safetensors_are_not_believed(tmp_path, content):
    (tmp_path / "x.safetensors").write_bytes(content)
    refused(tmp_path / "x.safetensors", "x.safetensors")


# In memory -------------------------------------------------------------------------------------------------


def test_arrays_in_memory():
    array = np.arange(6).reshape(3, 2)
    assert read(array).to_dict("list") == {"x0": [0, 2, 4], "x1": [1, 3, 5]}
    assert read(array, columns=["a", "b"]).columns.to_list() == ["a", "b"]
    assert [len(chunk) for chunk in open_source(array, rows=2).chunks()] == [2, 1]
    refused(np.array(1.0), "single value")
    refused(np.array([None]), "object")
    refused(np.array([1j]), "complex")
    refused(array, "1 names", "2 columns", columns=["a"])


def test_frames():
    frame = pd.DataFrame({" a": [1, 2, 3], "b": pd.Categorical(["x", "y", "x"])}, index=[7, 8, 9])
    source = open_source(frame, rows=2)
    chunks = list(source.chunks())
    assert [list(chunk.index) for chunk in chunks] == [[0, 1], [2]]
    assert source.dtypes == {"a": "int64", "b": "category"}
    chunks[0].loc[0, "a"] = 100
    assert source.read().a.to_list() == [1, 2, 3]
    assert frame.columns.to_list() == [" a", "b"]
    refused(pd.DataFrame([[1, 2]]), "name of column 1 is '0' (int)")
    refused(pd.DataFrame([[1, 2]], columns=["a", "a"]), "columns 1 and 2")
    refused(pd.DataFrame(), "no column")


def test_the_fingerprint_of_a_frame_is_that_of_its_content():
    frame = pd.DataFrame({"a": [0.0, 1.5], "b": ["x", None]})
    known = open_source(frame).fingerprint()
    assert len(known) == 32
    assert open_source(frame.copy(), rows=1).fingerprint() == known
    for changed in (
        frame.assign(a=[-0.0, 1.5]),
        frame.assign(b=["x", "None"]),
        frame.rename(columns={"a": "c"}),
        frame.astype({"a": "float32"}),
        frame[::-1],
        frame[["b", "a"]],
    ):
        assert open_source(changed).fingerprint() != known
