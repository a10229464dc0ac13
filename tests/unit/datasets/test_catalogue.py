"""The bundled tables: right values, checked bytes, complete datasheets."""

import hashlib
import json
import re
import runpy
import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets as sk
from statsmodels.datasets import spector

from twopm_kit import config, datasets
from twopm_kit.datasets import catalogue
from twopm_kit.errors import ChecksumMismatch, DataError, UnknownDataset

SHAPES = {
    "breast_cancer": (569, 31),
    "digits": (1797, 65),
    "ratings": (5080, 3),
    "spector": (32, 4),
    "wages": (1200, 6),
}


def test_names_are_the_index_in_order():
    assert datasets.names() == sorted(SHAPES)


@pytest.mark.parametrize(("name", "shape"), SHAPES.items())
def test_each_table_is_complete_and_numeric(name, shape):
    frame = datasets.load(name)
    sheet = datasets.describe(name)
    assert frame.shape == shape == (sheet.rows, len(sheet.columns))
    assert list(frame.columns) == [column.name for column in sheet.columns]
    assert frame.columns[-1] == sheet.target
    assert frame.index.equals(pd.RangeIndex(len(frame)))
    assert {str(kind) for kind in frame.dtypes} <= {"int64", "float64"}
    assert not frame.isna().any().any()


@pytest.mark.parametrize(
    ("name", "loader"), [("breast_cancer", sk.load_breast_cancer), ("digits", sk.load_digits)]
)
def test_values_are_those_of_scikit_learn_to_the_last_bit(name, loader):
    frame, bunch = datasets.load(name), loader()
    assert np.array_equal(frame.drop(columns="target").to_numpy(dtype=np.float64), bunch.data)
    assert np.array_equal(frame["target"], bunch.target)


def test_spector_is_what_statsmodels_carries():
    frame = datasets.load("spector")
    pd.testing.assert_frame_equal(
        frame.astype(float), spector.load_pandas().data[["GPA", "TUCE", "PSI", "GRADE"]]
    )


def test_spector_is_not_copied_into_the_repository(repository):
    sheet = datasets.describe("spector")
    assert "not redistributed" in sheet.licence
    assert not list(repository.glob("data/*spector*.csv"))


def test_frames_are_fresh():
    first = datasets.load("wages")
    first.loc[:, "wage"] = 0.0
    assert (datasets.load("wages")["wage"] > 0).all()


def test_wages_follow_the_equation_of_their_datasheet(repository):
    truth = runpy.run_path(str(repository / "data" / "make_data.py"))
    frame = datasets.load("wages").assign(experience_squared=lambda f: f["experience"] ** 2)
    design = np.column_stack([np.ones(len(frame)), frame[list(truth["WAGES_COEFFICIENTS"])]])
    found, residual, *_ = np.linalg.lstsq(design, np.log(frame["wage"].to_numpy()), rcond=None)
    expected = [truth["WAGES_INTERCEPT"], *truth["WAGES_COEFFICIENTS"].values()]
    noise = np.sqrt(residual[0] / (len(frame) - len(found)))
    errors = noise * np.sqrt(np.diag(np.linalg.inv(design.T @ design)))
    assert np.all(np.abs(found - expected) < 3.5 * errors)
    assert noise == pytest.approx(truth["WAGES_NOISE"], rel=0.1)
    stated = datasets.describe("wages").used_for
    assert all(str(abs(number)) in stated for number in [*expected, truth["WAGES_NOISE"]])


def test_ratings_meet_each_pair_once_and_stay_in_range():
    frame = datasets.load("ratings")
    assert not frame.duplicated(["user", "item"]).any()
    assert frame["user"].nunique() == 240
    assert frame["item"].nunique() == 80
    assert set(frame["rating"]) == {1, 2, 3, 4, 5}


def test_the_generator_rebuilds_every_file_byte_for_byte(repository):
    built = runpy.run_path(str(repository / "data" / "make_data.py"))["build"]()
    on_disk = {path.name: path.read_bytes() for path in (repository / "data").glob("*") if path.name in built}
    assert built == on_disk
    assert {path.name for path in (repository / "data").glob("*.csv")} == {
        n for n in built if n.endswith(".csv")
    }


def test_index_holds_the_checksums_of_the_files(repository):
    index = json.loads((repository / "data" / "index.json").read_text())["datasets"]
    for name, entry in index.items():
        if "package" not in entry:
            content = (repository / "data" / entry["file"]).read_bytes()
            assert entry["sha256"] == hashlib.sha256(content).hexdigest()
            assert entry["bytes"] == len(content)
        assert datasets.describe(name).sha256 == entry["sha256"]


def test_a_changed_file_is_refused_with_both_checksums(data_copy):
    path = data_copy / "wages.csv"
    published = datasets.describe("wages").sha256
    path.write_bytes(path.read_bytes().replace(b"56.31", b"56.32", 1))
    changed = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(ChecksumMismatch) as caught:
        datasets.load("wages")
    assert published in caught.value.message
    assert changed in caught.value.message
    assert "git checkout -- data/wages.csv" in caught.value.hint
    assert datasets.load("digits").shape == SHAPES["digits"]


def test_without_a_checkout_the_remedy_is_to_reinstall(data_copy):
    (data_copy / "make_data.py").unlink()
    (data_copy / "wages.csv").write_bytes(b"x\n1\n")
    with pytest.raises(ChecksumMismatch) as caught:
        datasets.load("wages")
    assert "--force-reinstall" in caught.value.hint


def test_a_missing_file_says_how_to_restore_it(data_copy):
    (data_copy / "digits.csv").unlink()
    with pytest.raises(DataError, match=r"cannot be read") as caught:
        datasets.load("digits")
    assert "data/digits.csv" in caught.value.hint


def test_a_package_that_carries_a_table_may_be_missing(data_copy):
    index = json.loads((data_copy / "index.json").read_text())
    index["datasets"]["spector"]["package"] = "no_such_package_here"
    (data_copy / "index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="not installed") as caught:
        datasets.load("spector")
    assert "pip install no_such_package_here" in caught.value.hint


def test_a_table_that_contradicts_its_datasheet_is_refused(data_copy):
    sheet = data_copy / "wages.toml"
    sheet.write_text(sheet.read_text().replace('"tenure"', '"tenancy"'))
    with pytest.raises(DataError, match="tenancy"):
        datasets.load("wages")


@pytest.mark.parametrize(
    "content", ["", "[]", '{"datasets": 3}', '{"datasets": {"a": {}}}', '{"datasets": {"a": 1}}']
)
def test_a_broken_index_is_named(data_copy, content):
    (data_copy / "index.json").write_text(content)
    with pytest.raises(DataError, match=r"index\.json"):
        datasets.names()


@pytest.mark.parametrize("content", ["title = ", 'title = "x"', "columns = 3"])
def test_a_broken_datasheet_is_named(data_copy, content):
    (data_copy / "wages.toml").write_text(content)
    with pytest.raises(DataError, match=r"wages\.toml"):
        datasets.describe("wages")


def test_a_folder_without_data_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TWOPM_DATA_DIR", str(tmp_path / "nowhere"))
    try:
        config.reload()
        with pytest.raises(DataError, match="nowhere") as caught:
            datasets.names()
        assert "data_dir" in caught.value.hint
    finally:
        monkeypatch.delenv("TWOPM_DATA_DIR")
        config.reload()


@pytest.mark.parametrize(
    ("name", "near"),
    [("brest-cancer", "breast_cancer"), ("Digit", "digits"), ("wage", "wages"), ("spectre", "spector")],
)
def test_an_unknown_name_gets_the_nearest_and_the_list(name, near):
    for call in (datasets.load, datasets.describe):
        with pytest.raises(UnknownDataset) as caught:
            call(name)
        assert near in caught.value.hint
        assert all(known in caught.value.message for known in SHAPES)


def test_a_name_far_from_all_gets_the_list():
    with pytest.raises(UnknownDataset) as caught:
        datasets.load("../../etc/passwd")
    assert caught.value.hint == "choose one of these names"


@pytest.mark.parametrize("name", SHAPES)
def test_datasheets_read_as_text_and_html(name):
    sheet = datasets.describe(name)
    assert str(sheet) == sheet.text
    assert max(map(len, sheet.text.splitlines())) <= 100
    for part in (
        sheet.licence.split(";")[0],
        sheet.sha256,
        sheet.known_limits[0][:40],
        sheet.columns[0].name,
    ):
        assert part.replace("\n", " ") in re.sub(r"\s+", " ", sheet.text)
        assert part in sheet._repr_html_()
    assert name in repr(sheet)
    assert "<script" not in sheet._repr_html_()


def test_datasheet_html_is_escaped(data_copy):
    path = data_copy / "wages.toml"
    hostile = "<img src=x onerror=alert(1)>"
    path.write_text(
        path.read_text().replace("Synthetic hourly wages", hostile).replace("years spent", hostile)
    )
    html = datasets.describe("wages")._repr_html_()
    assert "<img" not in html
    assert html.count("&lt;img src=x onerror=alert(1)&gt;") == 2


def test_data_inside_the_package_wins_over_the_checkout(tmp_path, monkeypatch, repository):
    installed = tmp_path / "twopm_kit"
    shutil.copytree(repository / "data", installed / "data")
    monkeypatch.setattr(catalogue, "_PACKAGE", installed)
    assert catalogue.folder() == installed / "data"
    assert datasets.load("wages").shape == SHAPES["wages"]
