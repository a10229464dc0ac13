"""Bytes between client and predictor: what was packed comes out, everything else is refused by name."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from twopm_kit.errors import InferenceError
from twopm_kit.inference import Kind, wire

NAMES = st.lists(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=12), min_size=1, max_size=5, unique=True
)
CHAIN, DESK, MODEL, CLIENT = 1337, "0x" + "11" * 20, 3, "0x" + "22" * 20


@given(NAMES, st.data())
def test_a_table_travels(names, data):
    shape = (data.draw(st.integers(1, 4)), len(names))
    values = data.draw(
        hnp.arrays(np.float64, shape, elements=st.floats(allow_nan=False, allow_infinity=False))
    )
    found, back = wire.unpack_table(wire.pack_table(names, values))
    assert found == names
    np.testing.assert_array_equal(back, values)


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused_by_name(content):
    for read in (wire.unpack_table, wire.unpack_request, wire.unpack_answer):
        with contextlib.suppress(InferenceError):  # any other error fails the test
            read(content)


TABLE = wire.pack_table(["a", "b"], np.ones((2, 2)))


@pytest.mark.parametrize("cut", range(len(TABLE)))
def test_a_table_that_is_cut_short_is_refused(cut):
    with pytest.raises(InferenceError):
        wire.unpack_table(TABLE[:cut])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (TABLE + b"\0", "33 bytes follow the names, 32 are expected"),
        (wire.pack_table(["a", "a"], np.ones((1, 2))), "repeated"),
        (wire.pack_table(["a"], np.array([[np.nan]])), "not finite"),
        (wire.pack_table(["a"], np.array([[np.inf]])), "not finite"),
        (b"\xff" * 8 + TABLE[8:], "announces"),
        (b"\0" * 8, "announces 0 rows"),
        (TABLE.replace(b"\x01\0a", b"\x01\0\xff"), "not UTF-8"),
        (TABLE.replace(b"\x01\0a", b"\0\0a"), "wrong length"),
    ],
)
def test_a_table_that_does_not_add_up_is_refused(content, words):
    with pytest.raises(InferenceError, match=words):
        wire.unpack_table(content)


@pytest.mark.parametrize("kind", list(Kind))
def test_envelopes_travel(kind):
    assert wire.unpack_request(wire.pack_request(kind, b"body")) == (kind, b"body")
    assert wire.unpack_answer(wire.pack_answer(kind, b"h" * 32, b"body")) == (kind, b"h" * 32, b"body")


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [
        (0, 0, "not a request"),
        (8, 9, "version 9"),
        (10, 3, "kind 3"),
        (10, 0, "kind 0"),
        (11, 1, "not a request"),
    ],
)
def test_a_changed_envelope_is_refused(at, value, words):
    payload = bytearray(wire.pack_request(Kind.CLEAR, b"body"))
    payload[at] = value
    with pytest.raises(InferenceError, match=words):
        wire.unpack_request(bytes(payload))


def test_an_answer_is_no_request():
    with pytest.raises(InferenceError, match="not a request"):
        wire.unpack_request(wire.pack_answer(Kind.CLEAR, bytes(32), b""))


def test_the_same_input_has_another_hash_each_time():
    """Otherwise whoever can guess an input could see on chain that it was asked for."""
    assert wire.pack_request(Kind.CLEAR, TABLE) != wire.pack_request(Kind.CLEAR, TABLE)


@given(
    st.sampled_from(range(5)),
    st.integers(0, 2**64),
    st.binary(min_size=20, max_size=20),
    st.binary(max_size=40),
)
def test_a_request_hash_is_bound_to_chain_desk_model_client_and_input(which, number, address, payload):
    place = [CHAIN, DESK, MODEL, CLIENT, b"payload"]
    other = list(place)
    other[which] = [number, "0x" + address.hex(), number, "0x" + address.hex(), payload][which]
    assert (wire.request_hash(*place) == wire.request_hash(*other)) == (place == other)


def test_an_answer_hash_is_bound_to_its_request():
    place = (CHAIN, DESK, 1, b"answer")
    others = [(CHAIN + 1, DESK, 1, b"answer"), (CHAIN, CLIENT, 1, b"answer"), (CHAIN, DESK, 2, b"answer")]
    hashes = {wire.answer_hash(*place), *(wire.answer_hash(*other) for other in others)}
    assert len(hashes) == 4
