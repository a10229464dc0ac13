"""Rules about stored outputs: none at all, or exactly those that the refresh command stored."""

from collections.abc import Iterator
from typing import Any

from twopm_kit.notebook.hashes import STAMP, has_outputs, outputs_hash, source_hash
from twopm_kit.notebook.hygiene.document import Document, Finding, Rule
from twopm_kit.notebook.machine import machine_path
from twopm_kit.notebook.results import WIDGET_MIME


def fresh(document: Document) -> Iterator[Finding]:
    """Expect that stored outputs belong to this source and were stored by the refresh command."""
    if not has_outputs(document.node):
        return
    remedy = f"run 'twopm refresh {document.path.stem}', or clear all outputs"
    stamp = document.node.metadata.get(STAMP)
    if stamp is None:
        yield Finding("outputs-unstamped", None, "the outputs do not come from the refresh command", remedy)
    elif stamp.get("source_sha256") != source_hash(document.node):
        yield Finding("outputs-stale", None, "the source has changed since the outputs were stored", remedy)
    elif stamp.get("outputs_sha256") != outputs_hash(document.node):
        yield Finding("outputs-changed", None, "the outputs have changed since they were stored", remedy)


def clean(document: Document) -> Iterator[Finding]:
    """Expect no error, no widget view, no path of a machine, no image without words in an output."""
    for cell in document.code:
        for output in cell.outputs:
            data: dict[str, Any] = output.get("data", {})
            if output.get("output_type") == "error":
                yield Finding(
                    "output-error", cell.number, f"the error {output.get('ename')}", "correct the cell"
                )
            if output.get("name") == "stderr":
                yield Finding("output-stderr", cell.number, "words on standard error", "correct their cause")
            if WIDGET_MIME in data:
                yield Finding("output-widget", cell.number, "a view of a widget", "run 'twopm refresh'")
            if any(kind.startswith("image/") for kind in data):
                yield Finding(
                    "output-image", cell.number, "an image without words", "use kit.notebook.figure"
                )
            texts = [output.get("text", ""), *(value for value in data.values() if isinstance(value, str))]
            if found := machine_path("\n".join(texts)):
                yield Finding("output-path", cell.number, f"the path {found!r}", "print a name, not a place")


RULES: tuple[Rule, ...] = (fresh, clean)
