"""Rules about what is read: headings, the head of the notebook, the diagram, images, the end."""

import re
from collections.abc import Iterator
from typing import Final

from twopm_kit.notebook.hygiene.document import Document, Finding, Rule, without_fences
from twopm_kit.notebook.machine import machine_path

HEAD_SECTIONS: Final = ("What you will do", "What you will learn", "Prerequisites", "Run time and memory")
END_SECTIONS: Final = ("Summary", "What next")
_DIAGRAM: Final = re.compile(r"^```mermaid$.*?^```$|!\[[^\]]+\]\([^)]+\)", re.DOTALL | re.MULTILINE)
_IMAGE: Final = re.compile(r"!\[([^\]]*)\]\([^)]+\)")
_TAG: Final = re.compile(r"<img\b[^>]*>", re.IGNORECASE)
_ALT: Final = re.compile(r"""\balt=(["'])(?!\1).+?\1""", re.IGNORECASE | re.DOTALL)
_LINK: Final = re.compile(r"(?<!!)\[[^\]]+\]\(([^)#\s]+)(?:#[^)]*)?\)")
_FEWEST_WORDS: Final = 8
_NOT_A_VERB: Final = re.compile(
    r"^(the|an?|this|introduction|notebook|tutorial|\d.*|.*(ing|tion|ment|ness))$", re.I
)


def one_title(document: Document) -> Iterator[Finding]:
    """Expect exactly one heading of level 1, first of all, and it says what the reader does."""
    titles = [heading for heading in document.headings if heading.level == 1]
    if len(titles) != 1 or document.headings[0].level != 1 or titles[0].cell != 1:
        yield Finding(
            "title", None, f"{len(titles)} headings of level 1", "begin the first cell with one '# Title'"
        )
        return
    words = titles[0].title.split()
    if len(words) < 2 or _NOT_A_VERB.match(words[0]):
        yield Finding(
            "title-verb",
            titles[0].cell,
            f"the title begins with {words[0]!r}",
            "begin it with a verb: '# Encrypt a table'",
        )


def heading_levels(document: Document) -> Iterator[Finding]:
    """Expect that headings never skip a level on the way down."""
    level = 0
    for heading in document.headings:
        if heading.level > level + 1:
            yield Finding(
                "heading-level",
                heading.cell,
                f"{heading.title!r} is of level {heading.level} below one of level {level}",
                f"make it level {level + 1}",
            )
        level = heading.level


def head_sections(document: Document) -> Iterator[Finding]:
    """Expect that the head says what, why, for whom, and how long."""
    for section in HEAD_SECTIONS:
        if not re.search(rf"^(?:\*\*|#+ ){section}\b", without_fences(document.head), re.I | re.M):
            yield Finding(
                "head-section", 1, f"there is no {section!r}", f"add a paragraph '**{section}.** …'"
            )
    time = re.search(r"run time and memory(.*?)(?:\n\n|\Z)", document.head, re.IGNORECASE | re.DOTALL)
    if time and not re.search(r"\d.*\b(s|seconds?|min|minutes?)\b.*\d.*\b[MG]i?B\b", time[1], re.DOTALL):
        yield Finding(
            "head-measured", 1, "run time and memory are not measured", "write seconds and MB as measured"
        )


def diagram(document: Document) -> Iterator[Finding]:
    """Expect a diagram in the head, and a sentence that says the same in words."""
    found = _DIAGRAM.search(document.head)
    if found is None:
        yield Finding(
            "diagram", 1, "there is no diagram", "add a ```mermaid block, or an image with alt text"
        )
        return
    after = document.head[found.end() :].strip().partition("\n\n")[0]
    if after.startswith("#") or len(after.split()) < _FEWEST_WORDS:
        yield Finding(
            "diagram-words", 1, "no sentence follows the diagram", "say in words what the diagram shows"
        )


def image_texts(document: Document) -> Iterator[Finding]:
    """Expect that every image has alternative text, in markdown and in html."""
    for cell in document.text:
        bare = [match[0] for match in _IMAGE.finditer(cell.source) if not match[1].strip()]
        bare += [tag for tag in _TAG.findall(cell.source) if not _ALT.search(tag)]
        for image in bare:
            yield Finding(
                "alt-text", cell.number, f"{image[:60]} has no text", "say in words what the image shows"
            )


def end_sections(document: Document) -> Iterator[Finding]:
    """Expect a summary and where to go next."""
    titles = [heading.title.strip().lower() for heading in document.headings]
    for section in END_SECTIONS:
        if section.lower() not in titles:
            yield Finding(
                "end-section", None, f"there is no heading {section!r}", f"add '## {section}' at the end"
            )


def links(document: Document) -> Iterator[Finding]:
    """Expect that a link to a file leads to one that is there, or to a notebook of the series."""
    folder = document.path.parent
    manifest = folder / "series.toml"
    series = manifest.read_text(encoding="utf-8") if manifest.is_file() else ""
    for cell in document.text:
        for target in _LINK.findall(without_fences(cell.source)):
            if "://" in target or target.startswith("mailto:"):
                continue
            if not (folder / target).exists() and f'"{target.removesuffix(".ipynb")}"' not in series:
                yield Finding("link", cell.number, f"{target!r} does not exist", "correct the link")


def text_paths(document: Document) -> Iterator[Finding]:
    """Expect no path of anybody's machine in the text."""
    for cell in document.text:
        if found := machine_path(cell.source):
            yield Finding(
                "machine-path", cell.number, f"the path {found!r}", "name files relative to the project"
            )


RULES: tuple[Rule, ...] = (
    one_title,
    heading_levels,
    head_sections,
    diagram,
    image_texts,
    end_sections,
    links,
    text_paths,
)
