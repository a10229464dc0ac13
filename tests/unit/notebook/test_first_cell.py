"""The environment card and its guards."""

import pytest

import twopm_kit as kit
from twopm_kit.errors import NotebookError, ParameterError
from twopm_kit.notebook.environment import EnvironmentCard, guard_kit, guard_python


def test_the_card_shows_versions_chain_and_mode():
    card = kit.notebook.setup(written_for="0.1")
    labels = [label for label, _ in card.rows()]
    assert labels[:4] == ["twopm_kit", "Python", "chain", "mode"]
    assert {"torch", "tenseal", "web3"} <= set(labels)
    assert f"twopm_kit {kit.__version__}" in repr(card)
    assert "\n" not in repr(card)


def test_the_card_in_html_is_escaped_and_has_no_script():
    card = EnvironmentCard(kit="<b>", python="3", mode="fast", chain="<script>", packages={"a&b": "1"})
    html = card._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "&lt;b&gt;" in html
    assert "a&amp;b" in html


def test_a_key_in_the_chain_url_is_not_shown(monkeypatch):
    monkeypatch.setenv("TWOPM_CHAIN", "https://node.example/v3/very-secret-key")
    kit.config.reload()
    try:
        card = kit.notebook.setup()
        assert "very-secret-key" not in repr(card) + card._repr_html_()
        assert "node.example" in card.chain
    finally:
        monkeypatch.undo()
        kit.config.reload()


def test_the_mode_can_be_given():
    assert kit.notebook.setup("full").mode == "full"
    with pytest.raises(ParameterError, match="'slow'"):
        kit.notebook.setup("slow")


@pytest.mark.parametrize("found", [(3, 10), (3, 12), (2, 7)])
def test_another_python_is_refused_with_a_way_out(found):
    with pytest.raises(NotebookError, match=rf"Python {found[0]}\.{found[1]}, the kit needs 3\.11") as caught:
        guard_python(found)
    assert "twopm lab" in caught.value.hint


@pytest.mark.parametrize(
    ("found", "written_for"),
    [
        ("0.1.0", "0.1"),
        ("0.1.7", "0.1"),
        ("0.1.7", "0.1.3"),
        ("1.4.0", "1.2"),
        ("1.4.0", "1.4"),
        ("0.2.0rc1", "0.2"),
    ],
)
def test_a_kit_that_fits_passes(found, written_for):
    guard_kit(found, written_for)


@pytest.mark.parametrize(
    ("found", "written_for", "remedy"),
    [
        ("0.1.0", "0.2", "make env"),
        ("0.1.2", "0.1.3", "make env"),
        ("1.1.0", "1.2", "make env"),
        ("0.2.0", "0.1", "came with this version"),
        ("2.0.0", "1.9", "came with this version"),
        ("1.0.0", "0.9", "came with this version"),
    ],
)
def test_a_kit_that_does_not_fit_is_refused(found, written_for, remedy):
    with pytest.raises(NotebookError, match="written for") as caught:
        guard_kit(found, written_for)
    assert remedy in caught.value.hint


@pytest.mark.parametrize("written_for", ["", "1", "v0.1", "0.x", "0.1.0.0"])
def test_what_is_no_version_is_refused(written_for):
    with pytest.raises(NotebookError, match="expected a version"):
        guard_kit("0.1.0", written_for)


def test_the_mode_picks_a_value():
    pick = kit.notebook.by_mode
    assert [pick(mode, fast=1, learn=2, full=3) for mode in kit.notebook.MODES] == [1, 2, 3]
    assert pick("full", fast=1, learn=2) == 2
    assert pick("fast", fast=0, learn=2, full=0) == 0
    assert pick("full", fast=1, learn=2, full=0) == 0


@pytest.mark.parametrize("mode", ["", "FAST", None, 3])
def test_an_unknown_mode_is_refused(mode):
    with pytest.raises(ParameterError, match="expected one of fast, learn, full"):
        kit.notebook.by_mode(mode, fast=1, learn=2)
