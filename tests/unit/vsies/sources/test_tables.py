"""Tables of text: rules of the header, delimiter and dtypes; the same dtypes in every chunk; refusals."""

import bz2
import gzip
import lzma
import traceback
import zipfile

import fsspec
import numpy as np
import pandas as pd
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twopm_kit.errors import SourceError
from twopm_kit.vsies.sources import open_source, read


@pytest.fixture
def write(tmp_path):
    def write(content, name="table.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return path

    return write


def refused(what, *parts, **options):
    """Assert that reading is refused, in words that name all these parts; give back the error."""
    with pytest.raises(SourceError) as caught:
        read(what, **options)
    assert caught.value.hint
    for part in parts:
        assert part in caught.value.message, caught.value.message
    return caught.value


# Header ---------------------------------------------------------------------------------------------------


def test_a_first_line_without_numbers_is_the_header(write):
    source = open_source(write("a, b ,c\n1,2.5,x\n3,4,y\n"))
    assert source.columns == ["a", "b", "c"]
    assert source.read().to_dict("list") == {"a": [1, 3], "b": [2.5, 4.0], "c": ["x", "y"]}
    assert "no cell of line 1 is a number" in source.describe()


def test_a_first_line_with_a_number_is_data(write):
    source = open_source(write("x,1\ny,2\n"))
    assert source.read().to_dict("list") == {"x0": ["x", "y"], "x1": [1, 2]}
    assert "line 1 holds the number '1'" in source.describe()


def test_the_caller_can_name_header_and_columns(write):
    path = write("a,b\nc,d\n")
    assert read(path, header=False).to_dict("list") == {"x0": ["a", "c"], "x1": ["b", "d"]}
    assert read(write("1,2\n3,4\n", "other.csv"), header=True).to_dict("list") == {"1": [3], "2": [4]}
    assert read(path, columns=["left", "right"]).to_dict("list") == {"left": ["c"], "right": ["d"]}
    refused(path, "3 names", "2 cells", columns=["a", "b", "c"])


@pytest.mark.parametrize(
    ("header", "parts"),
    [
        ("a,b, a", ("columns 1 and 3", "'a'")),
        ("a,,c", ("column 2 of 3 has no name",)),
        ("a, ,c", ("column 2 of 3 has no name",)),
        ("a,b\x07,c", ("column 2", "do not print")),
    ],
)
def test_names_that_cannot_be_are_refused(write, header, parts):
    refused(write(f"{header}\n1,2,3\n"), "table.csv, line 1", *parts)


def test_a_header_alone_gives_one_empty_frame(write):
    source = open_source(write("a,b\n"))
    [frame] = source.chunks()
    assert list(frame.columns) == ["a", "b"]
    assert len(frame) == source.n_rows == 0


@pytest.mark.parametrize("content", ["", "\n\n", " \n", '""\n'])
def test_an_empty_file_is_refused(write, content):
    refused(write(content), "is empty")


# Delimiter, encoding, decimal sign -------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(write, sign):
    content = f"a{sign}b\n1{sign}x\n2{sign}y z\n"
    assert read(write(content, "table.txt")).to_dict("list") == {"a": [1, 2], "b": ["x", "y z"]}


def test_two_possible_delimiters_are_refused_until_one_is_named(write):
    path = write("1,5;2,5\n3,5;4,5\n")
    error = refused(path, "comma (into 3 cells)", "semicolon (into 2 cells)")
    assert "delimiter=" in error.hint
    assert read(path, delimiter=";", decimal=",").to_dict("list") == {"x0": [1.5, 3.5], "x1": [2.5, 4.5]}
    # a decimal comma cannot be the delimiter as well
    assert read(path, decimal=",").to_dict("list") == {"x0": [1.5, 3.5], "x1": [2.5, 4.5]}


def test_tsv_has_tabs_whatever_else_is_in_it(write):
    assert read(write("a,b\tc,d\n1\t2\n", "t.tsv")).to_dict("list") == {"a,b": [1], "c,d": [2]}


def test_one_column(write):
    assert read(write("a\n1\n\n3\n")).a.to_list() == [1, pd.NA, 3]


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_mark_and_line_ends(write, ends):
    content = "\ufeff" + ends.join(["a,b", "1,ä", "2,ö"]) + ends
    assert read(write(content)).to_dict("list") == {"a": [1, 2], "b": ["ä", "ö"]}


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_other_encodings_are_named(write, encoding):
    path = write("a;b\nköln;1\n", encoding=encoding)
    refused(path, "line", "utf-8")
    assert read(path, encoding=encoding).to_dict("list") == {"a": ["köln"], "b": [1]}


def test_quotes_hold_delimiters_lines_and_quotes(write):
    path = write('a,b,c\n"x\ny, z","say ""hi""",\nu,5" pipe,2\n')
    frame = read(path)
    assert frame.a.to_list() == ["x\ny, z", "u"]
    assert frame.b.to_list() == ['say "hi"', '5" pipe']
    assert frame.c.to_list() == [pd.NA, 2]


def test_formulas_stay_text(write):
    assert read(write("a,b\n=cmd|' /C calc'!A0,1\n@SUM(A1),2\n")).a.to_list() == [
        "=cmd|' /C calc'!A0",
        "@SUM(A1)",
    ]


# Dtypes ----------------------------------------------------------------------------------------------------


def test_every_chunk_has_the_dtypes_of_the_whole(write):
    """Whole numbers in chunk 1, a float and gaps in chunk 3, a word in chunk 9."""
    lines = [f"{at},{at},{at},{at % 2 == 0},{at}" for at in range(30)]
    lines[7] = "7,7.5,,,7"
    lines[28] = "28,28,28,True,word"
    source = open_source(write("whole,float,gap,truth,text\n" + "\n".join(lines) + "\n"), rows=3)
    expected = {"whole": "int64", "float": "float64", "gap": "Int64", "truth": "boolean", "text": "str"}
    chunks = list(source.chunks())
    assert len(chunks) == 10
    for chunk in chunks:
        assert {name: str(dtype) for name, dtype in chunk.dtypes.items()} == expected == source.dtypes
    frame = source.read()
    assert frame.text.to_list() == [str(at) for at in range(28)] + ["word", "29"]
    assert frame.index.equals(pd.RangeIndex(30))
    assert frame.gap.isna().sum() == frame.truth.isna().sum() == 1


def test_passes_are_the_same(write):
    source = open_source(write("a,b\n" + "".join(f"{at},{at / 7}\n" for at in range(100))), rows=7)
    once, again = list(source.chunks()), list(source.chunks())
    assert len(once) == len(again) == 15
    for left, right in zip(once, again, strict=True):
        pd.testing.assert_frame_equal(left, right)
    assert source.n_rows == 100


def test_no_digit_is_lost(write):
    content = "big,id,float,gap\n9007199254740993,18446744073709551616,0.1,9007199254740993\n1,007,1e-5,\n"
    frame = read(write(content))
    assert frame.big.to_list() == [9007199254740993, 1]
    assert frame["id"].to_list() == ["18446744073709551616", "007"]
    assert frame["float"].to_list() == [0.1, 1e-5]
    assert frame.gap.to_list() == [9007199254740993, pd.NA]


@pytest.mark.parametrize("cell", ["01234", "007", "00", "-07", "+07", " 07 ", '"07"'])
@pytest.mark.parametrize("rows", [1, 100])
def test_no_leading_zero_is_lost(write, cell, rows):
    text = cell.strip('"')
    # the other columns look alike, and stay numbers
    lines = ["1,1,0", "0,0.5,-0", f"{cell},1e05,10", "NA,2,100"]
    frame = read(write("code,number,whole\n" + "\n".join(lines) + "\n"), rows=rows)
    assert [str(dtype) for dtype in frame.dtypes] == ["str", "float64", "int64"]
    assert frame.code.fillna("").to_list() == ["1", "0", text, ""]
    alone = read(write(f"code\n{cell}\n12\n"), rows=rows)
    assert alone.code.to_list() == [text, "12"]
    assert read(write(f"x,1.5\ny,{cell}\n"), header=False, rows=rows).x1.to_list() == ["1.5", text]
    assert read(write(f"code\n{cell}\n12\n"), dtypes={"code": "int64"}).code.to_list() == [int(text), 12]


def test_what_only_looks_like_a_leading_zero_stays_a_number(write):
    lines = ["2026-01-05,01:02 03,1.07,1e-05,0.07", "2026-01-06,04:05 06,2.01,1E+05,-0.01"]
    frame = read(write("day,time,version,a,b\n" + "\n".join(lines) + "\n"))
    assert frame.a.to_list() == [1e-5, 1e5]
    assert frame.b.to_list() == [0.07, -0.01]
    assert frame.version.to_list() == [1.07, 2.01]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_a_leading_zero_is_seen_where_pieces_meet(write, monkeypatch, size):
    monkeypatch.setattr("twopm_kit.vsies.sources.tables._BLOCK", size)
    for at in range(4):
        assert read(write(f"a,b\n{'1' * at},2\n{'1' * at},-07\n")).b.to_list() == ["2", "-07"]


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=20), st.integers(1, 7))
def test_floats_come_back_bit_by_bit(tmp_path, values, rows):
    path = tmp_path / "floats.csv"
    path.write_text("a,b\n" + "".join(f"{value!r},x\n" for value in values))
    got = read(path, rows=rows).a.to_numpy(float)
    assert np.array_equal(got.view(np.uint64), np.array(values).view(np.uint64))


def test_missing_cells_are_stated(write):
    path = write("a,b\nNA,Namibia\n-,x\nnull,y\n5,z\n")
    assert read(path).a.isna().to_list() == [True, False, True, False]
    assert read(path, missing=["-"]).a.isna().to_list() == [False, True, False, False]


def test_dtypes_can_be_asked_for(write):
    path = write("a,b,c,d\n1,2,2020-01-02,007\n3,,2020-01-03,1\n")
    asked = {"a": float, "b": "Int64", "c": "datetime64[us]", "d": "str"}
    frame = read(path, dtypes=asked)
    assert [str(dtype) for dtype in frame.dtypes] == ["float64", "Int64", "datetime64[us]", "str"]
    assert frame.d.to_list() == ["007", "1"]
    assert frame.c[1] == pd.Timestamp("2020-01-03")


@pytest.mark.parametrize(
    ("cells", "dtype", "found"),
    [
        (["1", "2", "x"], "int64", "'x'"),
        (["1", "2", ""], "int64", "a missing cell"),
        (["1", "2", "2.5"], "Int64", "'2.5'"),
        (["1", "2", "x"], "float64", "'x'"),
        (["True", "False", "1"], "bool", "'1'"),
        (["2020-01-01", "", "soon"], "datetime64[us]", "'soon'"),
    ],
)
@pytest.mark.parametrize("rows", [2, 100])
def test_cells_that_do_not_fit_are_named(write, cells, dtype, found, rows):
    path = write("a,b\n" + "".join(f"y,{cell}\n" for cell in cells))
    refused(path, "row 3", "column 'b'", found, dtype, dtypes={"b": dtype}, rows=rows)


def test_options_that_cannot_be_are_refused(write):
    path = write("a,b\n1,2\n")
    refused(path, "'complex'", dtypes={"a": "complex"})
    refused(path, "'z'", dtypes={"z": "int"})
    refused(path, "no option 'sep'", "delimiter", sep=",")
    refused(path, "header", header="yes")
    refused(path, "delimiter", delimiter=", ")
    refused(path, "delimiter", delimiter='"')
    refused(path, "decimal", decimal="x")
    refused(path, "'utf-99'", encoding="utf-99")
    refused(path, "rows", rows=0)


# Rows that are not whole -----------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 1, 4, 5, 9])
@pytest.mark.parametrize(
    ("row", "found"),
    [
        ("1,2", "2 cells"),
        ("1", "1 cell"),
        ("1,2,3,4", "4 cells"),
        ("1,2,3,", "4 cells"),
        ("1,2,3,,,6", "6 cells"),
    ],
)
@pytest.mark.parametrize("quoted", [False, True])
def test_the_line_with_too_few_or_too_many_cells_is_named(write, at, row, found, quoted):
    lines = ['1,"2,2",3' if quoted else "1,2,3"] * 10
    lines[at] = row
    refused(write("a,b,c\n" + "\n".join(lines) + "\n"), f"line {at + 2}:", found, "expected 3", rows=5)


def test_one_row_too_long_does_not_make_up_for_one_too_short(write):
    refused(write("a,b,c\n1,2,3\n1,2\n1,2,3,\n"), "line 3", "2 cells")
    refused(write('a,b,c\n1,2,3\n1,2\n"1,",2,3\n'), "line 3", "2 cells")


def test_blank_lines_are_left_out(write):
    assert read(write("\n\na,b\n\n1,2\n   \n3,4\n\n")).to_dict("list") == {"a": [1, 3], "b": [2, 4]}


def test_lines_are_counted_through_quotes(write):
    refused(write('a,b\n"x\ny\nz",2\n1\n'), "line 5", "1 cell")


def test_a_quote_that_stays_open_is_named(write):
    refused(write('a,b\n1,2\n3,"4\n5,6\n'), "the row from line 3")


# Hostile and damaged files ---------------------------------------------------------------------------------


def test_nul_characters(write):
    refused(write("a,b\n1,2\n3,\0\n"), "line 3", "NUL")


def test_a_line_without_end(write):
    refused(write("a,b\n1,2\n" + "x" * (1 << 23) + "y"), "line 3", "8,388,608 characters")


def test_too_many_columns(write):
    refused(write(",".join(f"c{at}" for at in range(200_001)) + "\n"), "200,001 columns", "200,000")


def test_ten_million_columns(write):
    refused(write(b"a," * 10_000_000), "line 1", "8,388,608 characters")


def test_a_quote_that_swallows_the_file(write):
    path = write(b'a,b\n1,"' + b"text\n" * 14_000_000)
    refused(path, "67,108,864 characters")


def test_rows_that_grow_come_in_smaller_chunks(write, monkeypatch):
    monkeypatch.setattr("twopm_kit.vsies.sources.tables.CHUNK", 1 << 20)
    path = write("a,b\n" + "1,x\n" * 3000 + f"2,{'y' * 1000}\n" * 4000)
    sizes = [len(chunk) for chunk in open_source(path).chunks()]
    assert sum(sizes) == 7000
    assert max(sizes) == 1024
    assert sizes == [len(chunk) for chunk in open_source(path).chunks()]


def test_a_change_between_passes_is_refused(write):
    path = write("a,b\n1,2\n3,4\n")
    source = open_source(path, rows=1)
    chunks = source.chunks()
    next(chunks)
    path.write_text("a,b\n1,2\n3,4\n5,6\n")
    with pytest.raises(SourceError, match="changed while it was in use"):
        list(chunks)
    with pytest.raises(SourceError, match="changed while it was in use"):
        source.read()


# Compression and places ------------------------------------------------------------------------------------

CONTENT = b"a,b\n" + b"".join(b"%d,%d\n" % (at, at * at) for at in range(5000))


def zipped(content):
    import io

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside.csv", content)
    return stream.getvalue()


PACKERS = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.compress,
    "zip": zipped,
}


@pytest.mark.parametrize("packed", PACKERS)
def test_compressed_tables(write, packed):
    whole = PACKERS[packed](CONTENT)
    source = open_source(write(whole, f"t.csv.{packed}"), rows=1000)
    assert [len(chunk) for chunk in source.chunks()] == [1000] * 5
    assert source.read().b.sum() == sum(at * at for at in range(5000))
    assert source.n_bytes == len(whole)
    refused(write(whole[:-20], f"cut.csv.{packed}"), f"cut.csv.{packed}")


@pytest.mark.parametrize("packed", ["gz", "bz2", "xz", "zst"])
def test_streams_in_a_row_are_one_file(write, packed):
    pack = PACKERS[packed]
    content = pack(CONTENT) + pack(b"1,1\n")
    assert len(read(write(content, f"t.csv.{packed}"))) == 5001


@pytest.mark.parametrize("packed", PACKERS)
def test_bombs(write, packed, monkeypatch):
    monkeypatch.setattr("twopm_kit.vsies.sources.files.UNPACKED_FLOOR", 1 << 20)
    bomb = PACKERS[packed](b"a,b\n" + b"1,2\n" * (1 << 20))
    refused(write(bomb, f"t.csv.{packed}"), "unpacks from", "at most 200 times")


def test_a_zip_file_with_several_tables(tmp_path):
    path = tmp_path / "t.csv.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("one.csv", "a,b\n1,2\n")
        archive.writestr("two.csv", "a,b\n3,4\n")
    refused(path, "holds 2 files")
    assert read(f"zip://two.csv::file://{path}").to_dict("list") == {"a": [3], "b": [4]}


def test_a_bomb_behind_a_zip_url(tmp_path, monkeypatch):
    monkeypatch.setattr("twopm_kit.vsies.sources.files.UNPACKED_FLOOR", 1 << 20)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("t.csv", b"a,b\n" + b"1,2\n" * (1 << 20))
    refused(f"zip://t.csv::file://{tmp_path}/bomb.zip", "unpacks from")


def test_urls():
    with fsspec.open("memory://bucket/table.csv.gz", "wb") as file:
        file.write(gzip.compress(CONTENT))
    assert read("memory://bucket/table.csv.gz").equals(read("memory://bucket"))


def test_what_is_not_there(tmp_path):
    refused(tmp_path / "none.csv", "there is no", "none.csv")
    refused(tmp_path, "holds nothing")
    refused("strange://x.csv", "strange://x.csv", "Protocol not known")
    refused("", "no source of rows")
    refused(17, "int is no source of rows")
    (tmp_path / "x.doc").write_text("a")
    refused(tmp_path / "x.doc", "'.doc'", ".csv", ".parquet")


def test_secrets_of_urls_are_not_told():
    url = "s3://AKIA:hunter2@bucket/table.csv?X-Signature=hunter3"
    options = {"secret": "hunter4"}
    with pytest.raises(SourceError) as caught:
        open_source(url, storage_options=options)
    assert "hunter" not in "".join(traceback.format_exception(caught.value))


def test_the_fingerprint_is_the_hash_of_the_bytes(write):
    import hashlib

    path = write(CONTENT)
    assert open_source(path).fingerprint() == hashlib.sha256(CONTENT).digest()


def test_the_bar_counts_bytes(write, capsys):
    source = open_source(write(CONTENT), rows=1000)
    list(source.chunks())
    assert capsys.readouterr().err == ""
    list(source.chunks(progress=True))
    assert "table.csv" in capsys.readouterr().err


def test_it_prints(write):
    source = open_source(write("a,<b>\n1,2\n"))
    assert repr(source).startswith("<TextTable ")
    assert "&lt;b&gt;" in source._repr_html_()
    assert "<b>" not in source._repr_html_()
