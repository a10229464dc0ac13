"""Every hygiene rule: the template keeps it, and a notebook that breaks it is found, by name and by cell."""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from twopm_kit.errors import NotebookError
from twopm_kit.notebook import hygiene
from twopm_kit.notebook.hashes import STAMP, stamp
from twopm_kit.notebook.hygiene import examine

ROOT = Path(__file__).parents[3]
TEMPLATE = ROOT / "notebooks" / "_template.ipynb"
KEY = "0x" + "ab" * 32


@pytest.fixture
def template():
    book = nbformat.read(TEMPLATE, as_version=4)
    for one in book.cells:
        if one.cell_type == "code":
            one.outputs, one.execution_count = [], None
    book.metadata.pop(STAMP, None)
    return book


def cell(book, name):
    return next(one for one in book.cells if one.id == name)


def code(book, source, position=6):
    book.cells.insert(position, nbformat.v4.new_code_cell(source, id="added"))


def text(book, source, position=6):
    book.cells.insert(position, nbformat.v4.new_markdown_cell(source, id="added"))


def replaced(name, old, new):
    def change(book):
        one = cell(book, name)
        assert old in one.source
        one.source = one.source.replace(old, new)

    return change


def output(name, one):
    def change(book):
        cell(book, name).outputs = [one]
        stamp(book, "0.1.0")

    return change


def shown(kind, value):
    return nbformat.v4.new_output("display_data", data={kind: value})


def removed(name):
    return lambda book: book.cells.remove(cell(book, name))


def meta(name, **changes):
    return lambda book: cell(book, name).metadata.update(changes)


def stale(book):
    cell(book, "told").outputs = [shown("text/plain", "1")]
    stamp(book, "0.1.0")
    cell(book, "told").source += "\n"


def touched(book):
    cell(book, "told").outputs = [shown("text/plain", "1")]
    stamp(book, "0.1.0")
    cell(book, "told").outputs[0].data["text/plain"] = "2"


def book_metadata(**changes):
    return lambda book: book.metadata.update(changes)


def moved_parameters(book):
    book.cells.append(book.cells.pop(book.cells.index(cell(book, "parameters"))))


def wordless(book):
    head = cell(book, "head")
    head.source = head.source.partition("In words")[0] + "See there."


LONG_FUNCTION = "def f(x):\n" + "    x += 1\n" * 16 + "    return x"
BREACHES = [
    ("format", lambda book: book.update(nbformat_minor=4)),
    ("kernel", lambda book: book.metadata.kernelspec.update(name="py311")),
    ("cell-id", lambda book: cell(book, "told").update(id="no spaces please")),
    ("cell-id", lambda book: cell(book, "told").update(id="setup")),
    ("widget-state", book_metadata(widgets={"application/vnd.jupyter.widget-state+json": {}})),
    ("run-traces", book_metadata(papermill={"duration": 1.0})),
    ("run-traces", meta("told", execution={"iopub.status.busy": "x"})),
    ("banned-tag", meta("told", tags=["raises-exception"])),
    ("banned-tag", meta("told", tags=["injected-parameters"])),
    ("size", lambda book: text(book, "word " * 500_000)),
    ("title", replaced("head", "# Compute", "## Compute")),
    ("title", lambda book: text(book, "# Compute again")),
    ("title-verb", replaced("head", "# Compute a mean", "# The mean")),
    ("title-verb", replaced("head", "# Compute a mean", "# Introduction")),
    ("heading-level", replaced("sums-title", "## Let", "#### Let")),
    ("head-section", replaced("head", "**What you will do.**", "**Content.**")),
    ("head-section", replaced("head", "**Prerequisites.**", "**Content.**")),
    ("head-measured", replaced("head", "About 2 seconds", "Some seconds")),
    ("diagram", replaced("head", "```mermaid", "```text")),
    ("diagram-words", wordless),
    ("alt-text", lambda book: text(book, "![](picture.png)")),
    ("alt-text", lambda book: text(book, '<img src="picture.png" alt="">')),
    ("end-section", replaced("summary", "## Summary", "## The end")),
    ("end-section", replaced("summary", "## What next", "## Also")),
    ("link", lambda book: text(book, "[there](09_nowhere.ipynb)")),
    ("machine-path", lambda book: text(book, "look into /home/ann/data")),
    ("machine-path", lambda book: code(book, 'open("/tmp/x")')),
    ("secret", lambda book: code(book, f'key = "{KEY}"')),
    ("secret", lambda book: code(book, f'key = "{KEY[2:]}"')),
    ("setup", replaced("setup", "kit.notebook.setup", "print")),
    ("setup-version", replaced("setup", 'written_for="0.1"', "")),
    ("parameters", meta("parameters", tags=[])),
    ("parameters", meta("derived", tags=["parameters"])),
    ("parameters-place", moved_parameters),
    ("parameters-form", replaced("parameters", "  # how many nodes hold rows", "")),
    ("parameters-mode", replaced("parameters", '"learn"', '"fast"')),
    ("cell-length", lambda book: code(book, "x = 1\n" * 26)),
    ("function-length", lambda book: code(book, LONG_FUNCTION)),
    ("empty-cell", lambda book: code(book, " \n")),
    ("syntax", lambda book: code(book, "1 +")),
    ("except", lambda book: code(book, "try:\n    import x\nexcept ImportError:\n    x = None")),
    ("except", lambda book: code(book, "try:\n    f()\nexcept (ValueError, Exception):\n    pass")),
    ("except", lambda book: code(book, "try:\n    f()\nexcept:\n    pass")),
    ("silenced", lambda book: code(book, 'import warnings\n\nwarnings.filterwarnings("ignore")')),
    ("kernel-trap", lambda book: code(book, 'name = input("who?")')),
    ("kernel-trap", lambda book: code(book, "asyncio.run(main())")),
    ("shell", lambda book: code(book, "!pip install x")),
    ("shell", lambda book: code(book, "%pip install x")),
    ("record", replaced("record", "kit.notebook.record", "print")),
    ("record", lambda book: code(book, "kit.notebook.record(a=1)")),
    ("record", lambda book: text(book, "after the end", len(book.cells))),
    ("record-hidden", meta("record", tags=[])),
    ("record-hidden", meta("record", jupyter={})),
    ("exercise", replaced("exercise-1", "## Exercise 1", "## Question 1")),
    ("exercise-check", removed("exercise-1-attempt")),
    ("exercise-open", replaced("exercise-1-attempt", "= ...", "= 3")),
    ("exercise-solution", removed("exercise-1-solution")),
    ("exercise-proof", replaced("exercise-1-solution", "assert ", "")),
    ("outputs-unstamped", lambda book: cell(book, "told").update(outputs=[shown("text/plain", "1")])),
    ("outputs-unstamped", lambda book: cell(book, "told").update(execution_count=3)),
    ("outputs-stale", stale),
    ("outputs-changed", touched),
    ("output-error", output("told", nbformat.v4.new_output("error", ename="E", evalue="v", traceback=[]))),
    ("output-stderr", output("told", nbformat.v4.new_output("stream", name="stderr", text="x"))),
    ("output-widget", output("told", shown("application/vnd.jupyter.widget-view+json", {}))),
    ("output-image", output("told", shown("image/png", "iVBOR"))),
    ("output-path", output("told", nbformat.v4.new_output("stream", text="/home/ann/x"))),
    ("output-path", output("told", shown("text/html", "<b>/home/ann/x</b>"))),
]


def findings(book, folder):
    path = folder / "_template.ipynb"
    path.write_text(json.dumps(book), encoding="utf-8")  # nbformat would repair some of the breaches
    (folder / "series.toml").write_text((ROOT / "notebooks" / "series.toml").read_text())
    return examine(path)


def test_the_template_keeps_every_rule(template, tmp_path):
    assert examine(TEMPLATE) == []
    assert findings(template, tmp_path) == []


@pytest.mark.parametrize(
    ("rule", "breach"), BREACHES, ids=[f"{i}-{rule}" for i, (rule, _) in enumerate(BREACHES)]
)
def test_a_breach_is_found(rule, breach, template, tmp_path):
    broken = copy.deepcopy(template)
    breach(broken)
    found = findings(broken, tmp_path)
    assert rule in {finding.rule for finding in found}
    for finding in found:
        assert finding.remedy
        assert finding.cell is None or 1 <= finding.cell <= len(broken.cells)


def test_every_rule_has_a_breach():
    source = "".join(path.read_text() for path in Path(hygiene.__file__).parent.glob("*.py"))
    named = set(re.findall(r"Finding\(\s*\"([a-z-]+)\"", source))
    assert named == {rule for rule, _ in BREACHES}


def test_the_cell_is_named(template, tmp_path):
    code(template, 'open("/tmp/x")', position=6)
    found = findings(template, tmp_path)
    assert [(finding.rule, finding.cell) for finding in found] == [("machine-path", 7)]
    assert str(found[0]) == "cell 7: [machine-path] the path '/tmp/x' → use names relative to the project"


def test_code_in_fences_and_magics_are_understood(template, tmp_path):
    text(template, "```python\n# no heading\n#### neither\n```\n\n![a picture of it](picture.png)")
    code(template, "%%vyper Counter\n# a contract\ncount: uint256")
    code(template, "%load_ext twopm_kit.chain")
    assert findings_without_ids(template, tmp_path) == []


def findings_without_ids(book, folder):
    for number, one in enumerate(book.cells):
        one.id = f"c{number}"
    return findings(book, folder)


def test_what_is_no_notebook_is_refused(tmp_path):
    for name, content in [
        ("a.ipynb", "{"),
        ("b.ipynb", "{}"),
        ("c.ipynb", '{"nbformat": 4, "nbformat_minor": 5}'),
    ]:
        (tmp_path / name).write_text(content)
        with pytest.raises(NotebookError):
            examine(tmp_path / name)
    with pytest.raises(NotebookError, match="there is no notebook"):
        examine(tmp_path / "none.ipynb")


def test_on_the_command_line(template, tmp_path):
    findings(template, tmp_path)
    good = run_hygiene(tmp_path / "_template.ipynb")
    assert good.returncode == 0
    assert "no findings" in good.stdout
    removed("summary")(template)
    findings(template, tmp_path)
    bad = run_hygiene(tmp_path / "_template.ipynb", tmp_path / "none.ipynb")
    assert bad.returncode == 1
    assert "[end-section]" in bad.stdout
    assert "there is no notebook none.ipynb" in bad.stdout
    assert run_hygiene().returncode == 2


def run_hygiene(*paths):
    command = [sys.executable, "-m", "twopm_kit.notebook.hygiene", *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=False)
