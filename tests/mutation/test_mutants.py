"""Breaks the rules that privacy and integrity hang on, one at a time, and sees that some test fails for each.

Every mutant is a copy of the package with one line changed; contracts are compiled again. A rule that can go
without a test noticing is a rule that nobody guards. Run alone with ``pytest tests/mutation``.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FAILED = 1  # pytest's exit code for tests that ran and failed; a broken copy would give another one


@dataclass(frozen=True)
class Mutant:
    """One rule, how it is broken, and the tests that must notice.

    Attributes
    ----------
    file : str
        Below ``twopm_kit``.
    old, new : str
        What is replaced, found exactly once, and by what.
    tests : tuple of str
        Arguments of pytest.
    """

    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def is_contract(self):
        return self.file.endswith(".vy")


COMPILE = """
import sys
from twopm_kit.chain.compiler import compile_source
from twopm_kit.contracts import BUILD, SOURCES
name = sys.argv[1]
(BUILD / f"{name}.json").write_text(compile_source((SOURCES / f"{name}.vy").read_text(), name).to_json())
"""
NODE = ("tests/unit/secagg/test_node.py",)
CHAIN = "tests/chain/test_secure_round.py"
MUTANTS = {
    "one kind of share": Mutant(
        "secagg/node.py",
        "        if self._opening is not None:\n            if digest == self._opening.survivors:\n"
        "                return self._opening\n            raise",
        "        if self._opening is not None:\n            if digest == self._opening.survivors:\n"
        "                return self._opening\n        if False:\n            raise",
        NODE,
    ),
    "one kind of share, at the aggregator": Mutant(
        "secagg/aggregator.py",
        "entry.kind is not wanted",
        "entry.kind is None",
        ("tests/unit/secagg/test_round.py",),
    ),
    "streams are continuous and apart": Mutant(
        "secagg/masks.py",
        "        for stream, operation in streams:\n",
        "        streams = [(key._stream(0), np.add) for key in plus]\n"
        "        streams += [(key._stream(0), np.subtract) for key in minus]\n"
        "        for stream, operation in streams:\n",
        ("tests/unit/secagg/test_masks.py",),
    ),
    "masks are bound to their round": Mutant(
        "secagg/masks.py",
        "length=32, salt=binding,",
        "length=32, salt=None,",
        ("tests/unit/secagg/test_masks.py", "tests/unit/secagg/test_boxes.py"),
    ),
    "survivors are frozen": Mutant(
        "contracts/SecureRound.vy",
        'self._check(r.phase == phase, "not in this phase")',
        'self._check(r.phase >= phase, "not in this phase")',
        (CHAIN, "-k", "embedded and test_every_call_in_every_phase"),
    ),
    "shares open their leaves": Mutant(
        "secagg/node.py",
        "            if leaf != message.leaf(me, kind):\n",
        "            if False:\n",
        ("tests/unit/secagg/test_round.py",),
    ),
    "boxes are authenticated": Mutant(
        "secagg/boxes.py",
        '        raise TamperedMessage(\n            f"the box from',
        "        return bytes(len(box) - BOX_OVERHEAD)\n"
        '        raise TamperedMessage(\n            f"the box from',
        ("tests/unit/secagg/test_boxes.py",),
    ),
    "deadlines hold": Mutant(
        "contracts/SecureRound.vy",
        'self._check(block.number <= r.deadline, "deadline has passed")',
        'self._check(block.number <= max_value(uint256), "deadline has passed")',
        (CHAIN, "-k", "embedded and test_a_message_is_heard_once_and_not_after_its_deadline"),
    ),
}


def copy_of_the_house(place):
    """Copy what the tests need; nothing of it is shared with the tree."""
    ignore = shutil.ignore_patterns("__pycache__", ".*", "node_modules")
    for name in ("twopm_kit", "tests", "data"):
        shutil.copytree(ROOT / name, place / name, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", place)
    return place


def run(place, *arguments):
    """Run python in a copy, which comes before the installed package."""
    environment = {**os.environ, "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, timeout=280, check=False
    )


def pytest_in(place, tests):
    return run(place, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests)


@pytest.mark.parametrize("rule", MUTANTS)
def test_a_broken_rule_does_not_go_unnoticed(rule, tmp_path):
    mutant = MUTANTS[rule]
    place = copy_of_the_house(tmp_path)
    path = place / "twopm_kit" / mutant.file
    source = path.read_text()
    assert source.count(mutant.old) == 1, f"the line that guards {rule!r} has moved"
    path.write_text(source.replace(mutant.old, mutant.new))
    if mutant.is_contract:
        compiled = run(place, "-c", COMPILE, path.stem)
        assert compiled.returncode == 0, compiled.stderr
    done = pytest_in(place, mutant.tests)
    assert done.returncode == FAILED, f"no test has noticed that {rule!r} is broken\n{done.stdout[-2000:]}"


def test_an_unbroken_copy_passes(tmp_path):
    place = copy_of_the_house(tmp_path)
    quick = sorted({test for mutant in MUTANTS.values() if not mutant.is_contract for test in mutant.tests})
    done = pytest_in(place, quick)
    assert done.returncode == 0, done.stdout[-2000:]
