"""References to datasets: text that survives every change of hands, and refuses every change of content."""

import json
from dataclasses import fields, replace

import pytest

from twopm_kit.errors import IndexRefused
from twopm_kit.vsies.reference import DatasetRef

REF = DatasetRef(
    chain_id=1337,
    index="0x" + "1A" * 20,
    dataset_id=3,
    upload_id=14,
    contributor="0x" + "2b" * 20,
    root="0x" + "3c" * 32,
    cid="bafybei" + "a" * 52,
    rows=100_000,
    size=86_662_436,
)


def test_text_and_back():
    text = REF.to_json()
    assert DatasetRef.from_json(text) == DatasetRef.from_json(text.encode()) == REF
    assert list(json.loads(text)) == sorted(field.name for field in fields(DatasetRef))


def test_it_shows_what_matters_escaped():
    assert repr(REF) == (
        "<DatasetRef: upload 14 of dataset 3, 100,000 rows, 86,662,436 bytes, root 0x3c3c3c3c…>"
    )
    page = REF._repr_html_()
    for text in (REF.root, REF.cid, REF.contributor, REF.index, "100,000"):
        assert text in page


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("chain_id", 0),
        ("dataset_id", -1),
        ("upload_id", True),
        ("rows", 1.0),
        ("size", 2**256),
        ("size", "5"),
        ("index", "0x12"),
        ("index", "1a" * 21),
        ("contributor", None),
        ("root", "0x" + "3C" * 32),
        ("root", "0x" + "3c" * 32 + "\n"),
        ("cid", "Qm" + "a" * 57),
        ("cid", "<script>" + "a" * 60),
    ],
)
def test_values_that_cannot_be(name, value):
    with pytest.raises(IndexRefused, match=name) as caught:
        replace(REF, **{name: value})
    assert caught.value.hint
    body = json.loads(REF.to_json()) | {name: value}
    with pytest.raises(IndexRefused):
        DatasetRef.from_json(json.dumps(body))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        "{" * 3000,
        b"\xff\xfe",
        REF.to_json()[:-1],
        REF.to_json() + " " * 5000,
        REF.to_json().replace('"rows"', '"more"'),
        REF.to_json()[:-1] + ', "more": 1}',
        '{"rows": "\ud800"}',
        REF.to_json().replace("100000", "NaN"),
        REF.to_json().replace("100000", "1e5"),
    ],
)
def test_texts_that_are_no_reference(text):
    with pytest.raises(IndexRefused) as caught:
        DatasetRef.from_json(text)
    assert caught.value.hint


@pytest.mark.parametrize("thing", [None, 5, {"rows": 1}])
def test_things_that_are_no_text(thing):
    with pytest.raises(IndexRefused):
        DatasetRef.from_json(thing)
