"""Checks a notebook against the rules of the house; each breach is a named finding with its remedy.

``python -m twopm_kit.notebook.hygiene notebooks/00_start_here.ipynb`` prints them. One file for each family
of rules: ``form`` (the file), ``text`` (what is read), ``code`` (what is run), ``exercises``, ``outputs``.
"""

from pathlib import Path

from twopm_kit.notebook.hygiene import code, exercises, form, outputs, text
from twopm_kit.notebook.hygiene.document import Document, Finding, Rule, read_document

__all__ = ["RULES", "Document", "Finding", "Rule", "examine"]

RULES: tuple[Rule, ...] = (*form.RULES, *text.RULES, *code.RULES, *exercises.RULES, *outputs.RULES)


def examine(path: Path) -> list[Finding]:
    """Return every finding about a notebook.

    Parameters
    ----------
    path : Path
        The notebook.

    Returns
    -------
    list of Finding
        In the order of the cells, what concerns the whole notebook first; empty when it keeps every rule.

    Raises
    ------
    NotebookError
        When the file is not a notebook.
    """
    document = read_document(path)
    findings = [finding for rule in RULES for finding in rule(document)]
    return sorted(findings, key=lambda finding: finding.cell or 0)
