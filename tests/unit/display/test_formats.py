"""Numbers in few characters; nothing that moves a cursor or opens a tag."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twopm_kit.display import formats
from twopm_kit.errors import DataError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (12_345, "12.3 kB"),
        (999_600, "1.00 MB"),
        (5e9, "5.00 GB"),
        (7e15, "7000 TB"),
        (-2048, "-2.05 kB"),
    ],
)
def test_size(value, text):
    assert formats.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (1e-9, "< 1 µs"),
        (0.00012, "120 µs"),
        (0.045, "45.0 ms"),
        (0.9996, "1.00 s"),
        (1.234, "1.23 s"),
        (59.99, "60.0 s"),
        (60, "1 min 00 s"),
        (125.4, "2 min 05 s"),
        (3599.9, "1 h 00 min"),
        (7380, "2 h 03 min"),
        (-1, "-1 s"),
    ],
)
def test_seconds(value, text):
    assert formats.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (21_000, "21,000"), (999_499, "999,499"), (999_500, "1.00 M"), (1_234_567, "1.23 M")],
)
def test_gas(value, text):
    assert formats.gas(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "—"),
        (float("nan"), "—"),
        (pd.NA, "—"),
        (pd.NaT, "—"),
        (True, "yes"),
        (np.False_, "no"),
        (1234567, "1,234,567"),
        (np.int64(5), "5"),
        (0.95612345, "0.9561"),
        (1234.5678, "1,235"),
        (2.5, "2.5"),
        (0.0, "0"),
        (-0.00001234, "-1.234e-05"),
        (float("inf"), "inf"),
        (b"\x01\x02", "0x0102"),
        (bytes(32), "0x00000000…000000"),
        ("<b>", "<b>"),
        ([1, 2], "[1, 2]"),
        (np.array([1, 2]), "[1 2]"),
    ],
)
def test_plain(value, text):
    assert formats.plain(value) == text


@given(st.text())
@settings(deadline=None)
def test_markup_is_inert(text):
    shown = formats.markup(text)
    assert not set(shown) & set("<>\"'\x1b\x00\r\n\u202e\u2028")
    assert formats.width(formats.printable(text)) >= 0


def test_printable_spells_out_what_cannot_be_seen(hostile):
    shown = formats.printable(hostile)
    assert "\\x1b[2J" in shown
    assert "\\u202e" in shown
    assert formats.width("東京") == 4
    assert formats.width("e\u0301") == 1


def test_a_format_that_does_not_suit_names_the_value():
    with pytest.raises(DataError, match=r"format '\.3f' .* 'Lyon'") as caught:
        formats.formatter(".3f")("Lyon")
    assert "percent" in caught.value.hint
    assert formats.formatter("percent")(0.5) == "50.0 %"
    assert formats.formatter(lambda value: f"<{value}>")(3) == "<3>"
    assert formats.formatter(".3f")(None) == "—"
