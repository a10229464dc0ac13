"""Figures: a real picture, words for it, and a refusal for what cannot be drawn."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from twopm_kit import datasets, display
from twopm_kit.display import plots
from twopm_kit.errors import DataError, UnknownRoom

from .test_table import Outline

RUNS = {"together": [0.8, 0.9, 0.96], "alone": [0.7, 0.85, 0.9]}


def picture(figure):
    with Image.open(io.BytesIO(figure.png)) as image:
        return np.asarray(image.convert("L"), dtype=float)


@pytest.mark.parametrize(
    ("make", "facts"),
    [
        (
            lambda: plots.lines(RUNS, title="Accuracy", ylabel="accuracy"),
            ["together from 0.8 to 0.96", "alone"],
        ),
        (
            lambda: plots.lines(pd.DataFrame(RUNS), title="A", ylabel="y", reference={"all data": 0.97}),
            ["all data at 0.97"],
        ),
        (
            lambda: plots.bars({"share": 412_345, "submit": 1.5e6}, title="Gas", form="gas"),
            ["share 412,345", "1.50 M"],
        ),
        (lambda: plots.bars(pd.Series({"a": 1.0, "b": None}), title="B"), ["a 1", "b —"]),
        (lambda: plots.bars(pd.DataFrame(RUNS), title="B", form=".2f"), ["0 together 0.80", "2 alone 0.90"]),
        (
            lambda: plots.heat({"clear": [0.1, -0.2], "masked": [2**250, 5]}, title="Masks"),
            ["masked, 2 values"],
        ),
        (lambda: plots.heat({"flat": [1, 1]}, title="Flat"), ["from 1 to 1"]),
        (lambda: plots.digits(datasets.load("digits").head(3), labels=[0, 1, 2]), ["3 images", "0; 1; 2"]),
        (lambda: plots.digits(np.zeros((2, 8, 8)), labels=[5, 3], predictions=[9, 3]), ["5, not 9", "3 ✓"]),
        (lambda: plots.digits(np.zeros((12, 64)), title="Zeros"), ["12 images: Zeros"]),
    ],
)
def test_each_figure_is_a_picture_with_its_words(make, facts):
    figure = make()
    assert picture(figure).std() > 1
    assert all(fact in figure.alt for fact in facts)
    outline = Outline(figure._repr_html_())
    assert outline.tags == ["img"]
    assert set(outline.attributes) == {"alt", "width", "style", "src"}
    assert repr(figure) == f"[figure] {figure.alt}"
    assert not hasattr(figure, "_repr_png_")  # a notebook would keep the picture twice


def test_the_same_numbers_give_the_same_bytes():
    one, other = (plots.lines(RUNS, title="A", ylabel="y").png for _ in range(2))
    assert one == other


def test_words_can_be_given_but_not_left_out():
    assert plots.bars({"a": 1}, title="B", alt="one bar").alt == "one bar"
    with pytest.raises(DataError, match="words"):
        plots.bars({"a": 1}, title="B", alt=" ")


def test_hostile_names_are_inert(hostile):
    name = f"$\\frac{{{hostile}$ _x"
    for figure in (
        plots.lines({name: [1, 2]}, title=name, ylabel=name, reference={name: 1}),
        plots.bars({name: 1}, title=name),
        plots.heat({name: [1, 2]}, title=name),
        plots.digits(np.ones((1, 4)), labels=[name], predictions=["1"], title=name),
    ):
        assert Outline(figure._repr_html_()).tags == ["img"]
        assert "\x1b" not in repr(figure)


def test_a_figure_is_saved_whole(tmp_path):
    figure = plots.bars({"a": 1}, title="B")
    path = figure.save(tmp_path / "b.png")
    assert path.read_bytes() == figure.png
    assert [p.name for p in tmp_path.iterdir()] == ["b.png"]


def test_direct_labels_keep_apart():
    placed = plots._apart(np.array([0.5, 0.5, 0.51, 0.9]), 0.1)
    ordered = np.sort(placed)
    assert np.diff(ordered).min() > 0.099
    assert placed[3] == 0.9
    assert np.array_equal(np.argsort(placed, kind="stable"), [0, 1, 2, 3])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: plots.lines({}, title="t", ylabel="y"), "empty"),
        (lambda: plots.lines([1, 2], title="t", ylabel="y"), "is a list"),
        (lambda: plots.lines({"a": ["x"]}, title="t", ylabel="y"), "no number"),
        (lambda: plots.lines({"a": []}, title="t", ylabel="y"), "holds no number"),
        (lambda: plots.lines({str(i): [1] for i in range(7)}, title="t", ylabel="y"), "7 lines"),
        (lambda: plots.bars({"a": "x"}, title="t"), "no number"),
        (lambda: plots.bars(pd.DataFrame([range(7)]), title="t"), "7 columns"),
        (lambda: plots.heat({"a": [float("nan")]}, title="t"), "holds no number"),
        (lambda: plots.digits(np.zeros((2, 63))), "63"),
        (lambda: plots.digits(np.zeros((61, 64))), "61"),
        (lambda: plots.digits(np.zeros(64)), "shape"),
        (lambda: plots.digits(np.zeros((2, 64)), labels=[1]), "1 labels for 2 images"),
    ],
)
def test_what_cannot_be_drawn_is_refused(make, words):
    with pytest.raises(DataError, match=words):
        make()


def test_the_room_knows_its_names():
    assert display.plots is plots
    assert callable(display.table)
    assert callable(display.panel)
    with pytest.raises(UnknownRoom, match="tabel"):
        _ = display.tabel
