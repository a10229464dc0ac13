"""Rules about the file: format, kernel, ids, size, and what other tools leave behind."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from twopm_kit.notebook.hygiene.document import Document, Finding, Rule

LARGEST_BYTES: Final = 2_000_000
BANNED_TAGS: Final = ("raises-exception", "skip-execution", "injected-parameters")


def format_version(document: Document) -> Iterator[Finding]:
    """Expect format 4.5, the first with cell ids."""
    found = (document.raw.get("nbformat"), document.raw.get("nbformat_minor"))
    if found != (4, 5):
        yield Finding("format", None, f"the format is {found[0]}.{found[1]}", "save it in format 4.5")


def kernel_name(document: Document) -> Iterator[Finding]:
    """Expect the kernel name that is right on every machine: python3."""
    found = document.raw.get("metadata", {}).get("kernelspec", {}).get("name")
    if found != "python3":
        yield Finding(
            "kernel", None, f"the kernel is {found!r}", "choose the kernel 'Python 3', name python3"
        )


def cell_ids(document: Document) -> Iterator[Finding]:
    """Expect that every cell has an id of its own."""
    ids = [cell.get("id") for cell in document.raw["cells"]]
    counts = Counter(ids)
    for number, one in enumerate(ids, start=1):
        if not isinstance(one, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", one):
            yield Finding(
                "cell-id", number, f"the id is {one!r}", "give the cell an id of letters, digits and -"
            )
        elif counts[one] > 1:
            yield Finding(
                "cell-id", number, f"the id {one!r} is used {counts[one]} times", "give each cell its own"
            )


def no_leftovers(document: Document) -> Iterator[Finding]:
    """Expect no widget state and no traces of other tools' runs."""
    metadata = document.raw.get("metadata", {})
    if "widgets" in metadata:
        yield Finding("widget-state", None, "widget state is stored", "clear it, or run 'twopm refresh'")
    if "papermill" in metadata:
        yield Finding("run-traces", None, "papermill's times are stored", "run 'twopm refresh' on the source")
    for number, cell in enumerate(document.raw["cells"], start=1):
        for key in ("execution", "papermill"):
            if key in cell.get("metadata", {}):
                yield Finding("run-traces", number, f"{key!r} times are stored", "run 'twopm refresh'")


def banned_tags(document: Document) -> Iterator[Finding]:
    """Expect no tag that lets a cell fail or be skipped, and none that papermill leaves."""
    for cell in document.cells:
        for tag in set(cell.tags) & set(BANNED_TAGS):
            yield Finding(
                "banned-tag", cell.number, f"the tag {tag!r}", "remove it; show failures with expect_error"
            )


def size(document: Document) -> Iterator[Finding]:
    """Expect a file that is small enough to read and to compare."""
    found = document.path.stat().st_size
    if found > LARGEST_BYTES:
        yield Finding("size", None, f"{found:,} bytes, allowed are {LARGEST_BYTES:,}", "show smaller outputs")


RULES: tuple[Rule, ...] = (format_version, kernel_name, cell_ids, no_leftovers, banned_tags, size)
