"""Compile every contract of the kit: ``python -m twopm_kit.contracts [--check]``.

Without an option the artefacts in ``build/`` are replaced. With ``--check`` nothing is written, and the exit
code is 1 when an artefact is not what its source compiles to.
"""

import os
import sys
from collections.abc import Sequence

from twopm_kit.chain.compiler import compile_folder
from twopm_kit.contracts import BUILD, SOURCES
from twopm_kit.errors import TwoPMError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile, then write or compare. Gives the exit code."""
    check = "--check" in (sys.argv[1:] if arguments is None else arguments)
    try:
        fresh = {f"{item.name}.json": item.to_json() for item in compile_folder(SOURCES)}
    except TwoPMError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    BUILD.mkdir(exist_ok=True)
    stale = 0
    for name, text in fresh.items():
        path = BUILD / name
        same = path.is_file() and path.read_text(encoding="utf-8") == text
        stale += not same
        if not same and not check:
            part = path.with_suffix(".part")
            part.write_text(text, encoding="utf-8")
            os.replace(part, path)  # noqa: PTH105  (atomic on every platform)
        state = "up to date" if same else "differs from its source" if check else "written"
        sys.stdout.write(f"{name}: {state}\n")
    for path in sorted(BUILD.glob("*.json")):
        if path.name not in fresh:
            stale += 1
            if not check:
                path.unlink()
            sys.stdout.write(f"{path.name}: {'has no source' if check else 'removed, it has no source'}\n")
    return 1 if check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
