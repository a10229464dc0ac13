"""What a newcomer touches first: pins that agree, commands that exist, a script that CI can run."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.testing import CliRunner

import twopm_kit as kit
from twopm_kit.cli import app

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
COMMANDS = {command.name or command.callback.__name__ for command in app.registered_commands}


def pins(lines):
    found = {}
    for line in lines:
        name, sign, pin = line.strip().partition("==")
        assert sign == "==", line
        assert canonicalize_name(name) not in found, name
        found[canonicalize_name(name)] = pin
    return found


LOCK = pins(
    line
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    if line.strip() and not line.startswith("#")
)


def test_environment_yml_has_the_pins_of_the_lock():
    document = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    from_conda = [one for one in document["dependencies"] if isinstance(one, str)]
    from_pip = next(one["pip"] for one in document["dependencies"] if isinstance(one, dict))
    assert document["channels"] == ["conda-forge"]
    assert from_conda == ["python=3.11", "pip"]
    assert from_pip[-1] == "-e ."
    assert pins(from_pip[:-1]) == LOCK


def test_every_dependency_is_locked_at_a_version_that_fits():
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(LOCK[canonicalize_name(requirement.name)], prereleases=True), (
            requirement
        )


def test_the_lock_names_packages_and_nothing_else():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "twopm" not in text
    assert "://" not in text
    assert "file:" not in text


def test_what_is_installed_is_what_is_locked():
    differing = {name: version(name) for name, pin in LOCK.items() if version(name).partition("+")[0] != pin}
    assert differing == {}


def test_the_version_is_said_once():
    assert kit.__version__ == PROJECT["version"]


def test_ci_runs_the_tests():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    text = script.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in text
    assert "export CI=true" in text
    assert text.rstrip().splitlines()[-1] == "make test"
    subprocess.run(["bash", "-n", script], check=True)


def test_make_offers_what_was_promised():
    assert {
        *("run", "test", "lab", "check", "fix", "bench", "refresh", "doctor"),
        *("clean", "help", "lock", "env"),
    } <= TARGETS
    assert {"run", "lab", "test", "doctor", "bench", "refresh", "check", "fix"} <= COMMANDS
    for command in COMMANDS:
        assert re.search(rf"^{command}: env .*\n\t@\$\(TWOPM\) {command}\b", MAKEFILE, re.MULTILINE), command


def test_make_help_lists_every_target():
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(re.findall(r"make (\w+)", done.stdout)) == TARGETS


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_the_commands_in_the_texts_exist(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL))
    made, typed = set(re.findall(r"\bmake ([a-z]+)", code)), set(re.findall(r"\btwopm ([a-z]+)", code))
    assert made
    assert made <= TARGETS
    assert typed <= COMMANDS


def test_the_files_that_people_look_for_are_there():
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "LICENSE"):
        assert (ROOT / name).stat().st_size > 200, name
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")


def run(*arguments):
    return CliRunner().invoke(app, list(arguments))


def test_twopm_without_arguments_explains_itself():
    done = run("--help")
    assert done.exit_code == 0
    for command in COMMANDS:
        assert command in done.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "99_nowhere"), "'99_nowhere' is the name of 0 notebooks"),
        (("run", "--mode", "quick"), "the mode is 'quick'"),
        (("run", "_template", "-p", "ROUNDS"), "not of the form NAME=value"),
        (("bench", "nothing"), "no benchmark is called"),
        (("refresh", "99_nowhere"), "'99_nowhere' is the name of 0 notebooks"),
    ],
)
def test_a_mistake_on_the_command_line_is_answered_in_words(arguments, words):
    done = run(*arguments)
    assert done.exit_code == 1
    assert words in done.output
    assert "→" in done.output
    assert "Traceback" not in done.output


def test_a_failing_notebook_makes_the_run_fail():
    done = run("run", "_template", "-p", "N_NODES=0")
    assert done.exit_code == 1
    assert "✗ failed" in done.output
    assert "0 of 1 notebooks passed" in done.output


def test_a_passing_notebook_makes_the_run_pass():
    done = run("run", "_template")
    assert done.exit_code == 0, done.output
    for words in ("_template", "pooled_mean", "✓ ok", "1 of 1 notebooks passed"):
        assert words in done.output
    assert (ROOT / "build" / "notebooks" / "_template.ipynb").is_file()


def test_the_doctor_finds_nothing_missing():
    done = run("doctor")
    assert done.exit_code == 0, done.output
    for words in ("Python", "chain embedded", "chain anvil", "data breast_cancer", "cores", "Chromium"):
        assert words in done.output


def test_outside_a_clone_the_command_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("twopm_kit.cli.__file__", str(tmp_path / "cli.py"))
    done = run("run")
    assert done.exit_code == 1
    assert "change into a clone" in done.output


def test_arguments_of_twopm_test_go_to_pytest():
    done = subprocess.run(
        [Path(sys.executable).parent / "twopm", "test", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("pytest ")
