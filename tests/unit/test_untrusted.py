"""Foreign JSON is read or refused, whatever Python's recursion limit is."""

import sys

import pytest

from twopm_kit.errors import DataError
from twopm_kit.untrusted import load_json


@pytest.mark.parametrize("text", [b"", b"\xff", b"{", b"nul", b'{"a": 1}x', b'"\\', b"[1,]"])
def test_what_is_no_json_is_refused(text):
    with pytest.raises(DataError):
        load_json(text)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
def test_deep_nesting_is_refused_before_it_is_parsed(opening):
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(10**6)
    try:
        with pytest.raises(DataError, match="nested"):
            load_json(opening * 100_000)
    finally:
        sys.setrecursionlimit(before)


def test_brackets_in_strings_are_no_nesting():
    assert load_json(b'["' + b"[" * 1000 + b'\\"{", {"a": [null, true, 1.5]}]')[1] == {"a": [None, True, 1.5]}
    assert load_json(b"[" * 64 + b"]" * 64)
    with pytest.raises(DataError):
        load_json(b"[" * 65 + b"]" * 65)
