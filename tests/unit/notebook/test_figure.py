"""Figures carry a text that says what can be seen."""

import matplotlib as mpl
import pytest

import twopm_kit as kit
from twopm_kit.errors import NotebookError
from twopm_kit.notebook import figures

mpl.use("Agg")
from matplotlib import pyplot as plt


def test_a_figure_is_shown_with_its_text_and_closed(monkeypatch):
    shown = []
    monkeypatch.setattr(figures, "show", lambda text, html: shown.append((text, html)))
    drawing, axes = plt.subplots()
    axes.plot([1, 2])
    kit.notebook.figure(drawing, alt='A line rises from 1 to 2, "as it should"')
    text, html = shown[0]
    assert text == '[figure: A line rises from 1 to 2, "as it should"]'
    assert html.startswith(
        '<img alt="A line rises from 1 to 2, &quot;as it should&quot;" src="data:image/png;base64,iVBOR'
    )
    assert not plt.fignum_exists(drawing.number)


@pytest.mark.parametrize("alt", ["", "  ", "a plot"])
def test_a_text_that_says_nothing_is_refused(alt):
    drawing, _ = plt.subplots()
    with pytest.raises(NotebookError, match="expected a sentence"):
        kit.notebook.figure(drawing, alt=alt)
    plt.close(drawing)
