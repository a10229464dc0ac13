"""The panel without a browser: values set from code do what clicks do."""

import ipywidgets as widgets
import pytest

from twopm_kit.display import Panel, panel
from twopm_kit.errors import DataError, RoundAborted

from .conftest import NODES, joined, played


def texts(widget):
    """All values and descriptions in a widget tree."""
    yield str(getattr(widget, "value", ""))
    yield str(getattr(widget, "description", ""))
    for child in getattr(widget, "children", ()):
        yield from texts(child)


def make(run=None, **keywords):
    def play(drop, observe):
        for one in [*joined(), *played(1, silent=dict.fromkeys(drop.get(1, []), "submit"))]:
            observe(one)
        return drop

    return panel(run or play, NODES, **keywords)


def test_ticking_and_running():
    made = make(rounds=2)
    assert isinstance(made, Panel)
    assert made.drop == {}
    assert "nobody drops out" in set(texts(made.widget))
    made.boxes[1]["Oslo"].value = True
    made.boxes[2]["Lyon"].value = True
    made.boxes[2]["Oslo"].value = True
    assert made.drop == {1: ["Oslo"], 2: ["Lyon", "Oslo"]}
    assert "round 1 loses Oslo; round 2 loses Lyon, Oslo" in set(texts(made.widget))
    made.click()
    assert made.result == made.drop
    assert made.error is None
    [board] = [text for text in texts(made.widget) if "survived" in text]
    assert "4 of 5 nodes survived" in board
    assert "done" in set(texts(made.widget))


def test_each_box_says_by_itself_what_it_is_for():
    made = make(rounds=2)
    boxes = [w for w in walk(made.widget) if isinstance(w, widgets.Checkbox)]
    assert [box.description for box in boxes] == [f"{node}, round {n}" for node in NODES for n in (1, 2)]
    assert len({box.tooltip for box in boxes}) == len(boxes)
    assert made.boxes[2]["Oslo"].tooltip == "Oslo drops out in round 2"


def test_the_button_does_the_same():
    made = make()
    [button] = [w for w in walk(made.widget) if isinstance(w, widgets.Button)]
    button.click()
    assert made.result == {}
    assert not button.disabled


def walk(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from walk(child)


def test_an_error_of_the_kit_is_shown_with_its_hint():
    def run(*_):
        raise RoundAborted("2 of <5> nodes are left", hint="let fewer & fewer drop out")

    made = make(run)
    made.click()
    assert isinstance(made.error, RoundAborted)
    assert made.result is None
    [shown] = [text for text in texts(made.widget) if "RoundAborted" in text]
    assert "2 of &lt;5&gt; nodes are left" in shown
    assert "let fewer &amp; fewer drop out" in shown


def test_another_error_is_not_swallowed_and_the_button_comes_back():
    def run(drop, _):
        return 1 // len(drop)

    made = make(run)
    with pytest.raises(ZeroDivisionError):
        made.click()
    made.boxes[1]["Lyon"].value = True
    made.click()
    assert made.result == 1


def test_a_run_cannot_start_itself_again():
    calls = []

    def run(drop, _):
        calls.append(drop)
        made.click()

    made = make(run)
    made.click()
    assert calls == [{}]


def test_hostile_names_are_inert(hostile):
    made = panel(lambda *_: None, [hostile], title=hostile)
    assert not made.boxes[1][hostile].description_allow_html
    assert "\x1b" not in made.boxes[1][hostile].description
    html = [w.value for w in walk(made.widget) if isinstance(w, widgets.HTML)]
    made.boxes[1][hostile].value = True
    html += [w.value for w in walk(made.widget) if isinstance(w, widgets.HTML)]
    assert not any("<script" in text or "\x1b" in text or "\u202e" in text for text in html)
    assert made.drop == {1: [hostile]}
    assert "\x1b" not in repr(made)


def test_a_notebook_gets_the_widget_and_a_word():
    made = make()
    data, _ = made._repr_mimebundle_()
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == made.widget.model_id
    assert data["text/plain"] == repr(made) == "<Panel Who drops out?: 5 nodes, 1 rounds, drop={}>"


@pytest.mark.parametrize(
    ("nodes", "rounds", "words"),
    [
        ([], 1, "nodes of a panel"),
        (["a", "a"], 1, "none twice"),
        (["a"], 0, "rounds is 0"),
        (["a"], True, "rounds is True"),
    ],
)
def test_what_makes_no_panel_is_refused(nodes, rounds, words):
    with pytest.raises(DataError, match=words):
        panel(lambda *_: None, nodes, rounds=rounds)
