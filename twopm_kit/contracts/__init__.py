"""The kit's own contracts: Vyper sources, and what the compiler made of them.

Sources are ``*.vy`` in this folder; compiled artefacts are in ``build/``, one JSON file each with ABI,
bytecode, compiler, EVM version and the checksum of the source. ``python -m twopm_kit.contracts`` compiles
them all again.
"""

from pathlib import Path

__all__ = ["BUILD", "SOURCES", "names"]

#: Folder of the Vyper sources.
SOURCES = Path(__file__).parent
#: Folder of the compiled artefacts.
BUILD = SOURCES / "build"


def names() -> list[str]:
    """Name the contracts that have a source here, in alphabetical order."""
    return sorted(path.stem for path in SOURCES.glob("*.vy"))
