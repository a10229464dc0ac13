"""Prints the findings about the notebooks named on the command line; exit code 1 when there are any."""

import sys
from pathlib import Path

from twopm_kit.errors import TwoPMError
from twopm_kit.notebook.hygiene import examine


def main(names: list[str]) -> int:
    """Print the findings about each named notebook and return how the program ends."""
    if not names:
        sys.stderr.write("usage: python -m twopm_kit.notebook.hygiene notebooks/NAME.ipynb …\n")
        return 2
    bad = 0
    for name in names:
        try:
            lines = [str(finding) for finding in examine(Path(name))]
        except TwoPMError as error:
            lines = [str(error)]
        bad += bool(lines)
        sys.stdout.write(
            "\n".join([f"{name}: {len(lines) or 'no'} findings", *(f"  {one}" for one in lines), ""])
        )
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
