"""Live compilation, committed artefacts, and the command that makes them."""

import json
import subprocess
import sys

import pytest

import twopm_kit as kit
from twopm_kit.chain.artifacts import Artifact
from twopm_kit.contracts import BUILD, SOURCES, names
from twopm_kit.contracts.__main__ import main
from twopm_kit.errors import ChainError, CompileError, UnknownContract

GOOD = """
# pragma version 0.4.3
answer: public(uint256)

@external
def set_answer(number: uint256):
    self.answer = number
"""


def test_the_committed_artefacts_are_what_the_sources_compile_to():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "twopm_kit.contracts", "--check"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.stdout.splitlines() == [f"{name}.json: up to date" for name in names()]
    assert (done.returncode, done.stderr) == (0, "")
    assert names() == sorted(path.stem for path in SOURCES.glob("*.vy"))
    assert names() == sorted(path.stem for path in BUILD.glob("*.json"))
    assert not any(b"\r" in path.read_bytes() for path in BUILD.glob("*.json"))


def test_every_artefact_states_how_it_was_made():
    for name in names():
        body = json.loads((BUILD / f"{name}.json").read_text())
        assert (body["compiler"], body["evm_version"]) == ("vyper 0.4.3", "prague")
        assert len(body["source_sha256"]) == 64
        assert kit.chain.artifact(name) == kit.chain.artifact(name)


def test_the_result_does_not_depend_on_the_working_directory(monkeypatch, tmp_path):
    made = kit.chain.compile(GOOD, "Answer")
    monkeypatch.chdir(tmp_path)
    assert kit.chain.compile(GOOD, "Answer").to_json() == made.to_json()
    assert list(tmp_path.iterdir()) == []


def test_a_compiled_source_is_an_artefact():
    made = kit.chain.compile(GOOD, name="Answer")
    assert made.name == "Answer"
    assert [entry["name"] for entry in made.abi if entry["type"] == "function"] == ["set_answer", "answer"]
    assert Artifact.from_json(made.to_json()).to_json() == made.to_json()
    assert "Answer" in repr(made)
    assert "set_answer(number: uint256)" in made._repr_html_()


@pytest.mark.parametrize(
    ("source", "line", "words"),
    [
        (GOOD.replace("self.answer", "self.anwser"), 7, "anwser"),
        (GOOD.replace("= number", "= number +"), 7, ""),
        (GOOD.replace("uint256):", "uint255):"), 6, "uint255"),
        (GOOD.replace("0.4.3", "0.3.10"), 2, "0.3.10"),
        ("x = = 1", 1, ""),
        ("\tthis is no contract", 1, ""),
    ],
)
def test_a_refused_source_names_its_line(source, line, words):
    with pytest.raises(CompileError) as caught:
        kit.chain.compile(source, "Broken")
    assert caught.value.lineno == line
    assert f"line {line}" in str(caught.value)
    assert words in str(caught.value)
    assert caught.value.filename == "Broken.vy"
    assert isinstance(caught.value, SyntaxError)


@pytest.mark.parametrize(
    ("source", "name"),
    [(GOOD, "two words"), (GOOD, "class"), (GOOD, ""), (GOOD, "../up"), (b"x", "X"), (GOOD, 3)],
)
def test_wrong_arguments_are_refused(source, name):
    with pytest.raises(CompileError):
        kit.chain.compile(source, name)


def test_code_above_the_limit_of_a_chain_is_refused():
    words = "ab" * 25_000
    source = f'@external\n@pure\ndef words() -> Bytes[25000]:\n    return x"{words}"\n'
    with pytest.raises(CompileError, match="EIP-170"):
        kit.chain.compile(source, "Huge")


@pytest.mark.parametrize("name", ["Nothing", "../__init__", "", "tally"])
def test_unknown_artefacts_are_named(name):
    with pytest.raises(UnknownContract, match="no compiled contract called") as caught:
        kit.chain.artifact(name)
    assert "Tally" in caught.value.hint


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "X"}', "null"])
def test_a_damaged_artefact_is_refused(text):
    with pytest.raises(ChainError, match="not a contract artefact"):
        Artifact.from_json(text)


def _folder(tmp_path, monkeypatch):
    for module in ("twopm_kit.contracts.__main__",):
        monkeypatch.setattr(f"{module}.SOURCES", tmp_path)
        monkeypatch.setattr(f"{module}.BUILD", tmp_path / "build")
    (tmp_path / "Answer.vy").write_text(GOOD)


def test_the_command_writes_compares_and_removes(tmp_path, monkeypatch, capsys):
    _folder(tmp_path, monkeypatch)
    assert main(["--check"]) == 1
    assert not (tmp_path / "build" / "Answer.json").exists()
    assert main([]) == 0
    assert main(["--check"]) == 0
    (tmp_path / "Answer.vy").write_text(GOOD + "\n# changed\n")
    (tmp_path / "build" / "Old.json").write_text("{}")
    assert main(["--check"]) == 1
    assert "differs from its source" in capsys.readouterr().out
    assert main([]) == 0
    assert [path.name for path in (tmp_path / "build").iterdir()] == ["Answer.json"]


def test_the_command_leaves_everything_as_it_was_when_a_source_is_broken(tmp_path, monkeypatch, capsys):
    _folder(tmp_path, monkeypatch)
    main([])
    before = (tmp_path / "build" / "Answer.json").read_bytes()
    (tmp_path / "Broken.vy").write_text("x = = 1")
    (tmp_path / "Answer.vy").write_text(GOOD + "\n# changed\n")
    assert main([]) == 1
    assert "Vyper refused Broken, line 1" in capsys.readouterr().err
    assert (tmp_path / "build" / "Answer.json").read_bytes() == before
