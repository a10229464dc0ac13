"""The cell magic, in a real IPython shell."""

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import twopm_kit as kit
from twopm_kit.chain import magic
from twopm_kit.chain.artifacts import Artifact
from twopm_kit.errors import ChainError, CompileError

SOURCE = "@external\n@view\ndef two() -> uint256:\n    return 2\n"


@pytest.fixture(scope="module")
def shell():
    settings = Config()
    settings.HistoryManager.enabled = False
    yield InteractiveShell.instance(config=settings)
    InteractiveShell.clear_instance()


def test_without_a_notebook_it_says_what_to_do_instead(monkeypatch):
    monkeypatch.setattr(magic, "get_ipython", lambda: None)
    with pytest.raises(ChainError, match="not a notebook") as caught:
        kit.chain.register_magic()
    assert "kit.chain.compile" in caught.value.hint


def test_the_extension_brings_the_magic(shell):
    shell.run_line_magic("load_ext", "twopm_kit.chain")
    made = shell.run_cell_magic("vyper", "Two", SOURCE)
    assert isinstance(made, Artifact)
    assert shell.user_ns["Two"] is made
    with kit.chain.connect("embedded") as chain:
        assert chain.deploy(made, sender=chain.account("a")).two() == 2


def test_the_magic_can_be_registered_by_hand(shell):
    magic.register(shell)
    assert shell.run_cell_magic("vyper", "Again", SOURCE).name == "Again"


@pytest.mark.parametrize(("line", "cell"), [("", SOURCE), ("Two words", SOURCE), ("Broken", "x = = 1")])
def test_a_wrong_cell_is_refused_and_leaves_nothing(shell, line, cell):
    magic.register(shell)
    with pytest.raises(CompileError):
        shell.run_cell_magic("vyper", line, cell)
    assert "Broken" not in shell.user_ns
