"""Tables: escaped html for both themes, aligned text, no surprise."""

import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from twopm_kit.display import gas, table
from twopm_kit.errors import DataError


class Outline(HTMLParser):
    """Collects tags, attributes and text, and checks that tags close in order."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.text, self.attributes = [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag not in {"img", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


FRAME = pd.DataFrame(
    {"node": ["Lyon", "Oslo"], "sent": [1234, 1_234_567], "time": [0.0123, 75.0], "accuracy": [0.95, None]}
)


def test_text_is_aligned_with_numbers_to_the_right():
    shown = repr(
        table(FRAME, caption="Sent", formats={"sent": "bytes", "time": "seconds", "accuracy": ".3f"})
    )
    assert shown.splitlines() == [
        "Sent",
        "node     sent        time  accuracy",
        "────  ───────  ──────────  ────────",
        "Lyon  1.23 kB     12.3 ms     0.950",
        "Oslo  1.23 MB  1 min 15 s         —",
    ]


def test_html_is_well_formed_and_leaves_colours_to_the_theme():
    html = table(FRAME, caption="Sent")._repr_html_()
    outline = Outline(html)
    assert outline.tags.count("tr") == 3
    assert outline.tags.count("th") == 4
    assert set(outline.attributes) <= {"style", "scope"}
    assert not re.search(r"#[0-9a-f]{3}|(color|background):(?!inherit|transparent)", html)


def test_numbers_do_not_break_inside_and_words_do():
    facts = {"gas": 2_610_000, "cost": "2.61 M", "time": "< 1 µs", "gap": "1.2e-05", "rows": "12 of 20 rows"}
    shown = table(
        pd.Series(facts, name="value"), formats={"value": lambda x: x if isinstance(x, str) else gas(x)}
    )
    cells = re.findall(r'<td style="([^"]*)">([^<]*)</td>', shown._repr_html_())
    wraps = {text: "white-space:nowrap" in style for style, text in cells}
    assert wraps == {"2.61 M": True, "&lt; 1 µs": True, "1.2e-05": True, "12 of 20 rows": False}
    heads = re.findall(r'<th scope="col" style="([^"]*)"', shown._repr_html_())
    assert all("white-space:normal" in style for style in heads)


def test_hostile_names_and_values_are_inert(hostile):
    frame = pd.DataFrame({hostile: [hostile, 1]}, index=pd.Index([hostile, "b"], name=hostile))
    shown = table(frame, caption=hostile)
    outline = Outline(shown._repr_html_())
    assert "script" not in outline.tags
    assert "".join(outline.text).count("<script>alert('x')</script>") == 5
    for text in (shown._repr_html_(), repr(shown)):
        assert "\x1b" not in text
        assert "\u202e" not in text


def test_what_can_be_a_table():
    assert repr(table({"chain": "embedded", "cores": 2})).splitlines()[-1].split() == ["cores", "2"]
    records = table([{"a": 1, "b": 2}, {"a": 3}])
    assert repr(records).splitlines()[-1].split() == ["3", "—"]
    series = table(pd.Series({"x": 1.0, "y": 2.0}, name="weight"))
    assert repr(series).splitlines()[0].split() == ["weight"]
    assert repr(series).splitlines()[-1].split() == ["y", "2"]
    levels = FRAME.set_index(["node", "sent"])
    assert "Lyon · 1,234" in repr(table(levels))
    assert '<th scope="row"' in table(levels)._repr_html_()
    assert repr(table(pd.DataFrame({"a": []}))).splitlines() == ["a", "─"]
    assert table([])._repr_html_()
    assert repr(table([])) is not None


def test_index_and_long_tables():
    long = pd.DataFrame({"n": range(100)})
    shown = table(long, max_rows=5)
    assert repr(shown).splitlines()[-1] == "… 95 more rows"
    assert "95 more rows" in shown._repr_html_()
    assert shown.frame is long
    assert repr(table(long.head(2), index=True)).splitlines()[-1].split() == ["1", "1"]


def test_what_cannot_be_a_table_is_refused():
    with pytest.raises(DataError, match="from int"):
        table(3)
    with pytest.raises(DataError, match="from list"):
        table([1, 2])
    with pytest.raises(DataError, match="formats names"):
        table(FRAME, formats={"gas": "gas"})
    with pytest.raises(DataError, match="does not suit"):
        table(FRAME, formats={"node": "bytes"})
