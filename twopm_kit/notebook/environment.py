"""The first cell of every notebook: which versions, which chain, which mode, and whether they fit."""

import platform
import re
import sys
from dataclasses import dataclass
from html import escape
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from twopm_kit.config import settings
from twopm_kit.errors import NotebookError
from twopm_kit.notebook.modes import validate_mode

PYTHON: Final = (3, 11)
_SHOWN: Final = ("numpy", "pandas", "torch", "tenseal", "web3", "vyper")


@dataclass(frozen=True)
class EnvironmentCard:
    """What a notebook runs on; shown by the setup cell.

    Attributes
    ----------
    kit, python : str
        Versions.
    mode : str
        ``fast``, ``learn`` or ``full``, as the settings have it. The parameters cell of a notebook decides.
    chain : str
        The chain that ``kit.chain.connect()`` will use.
    packages : dict
        Package to version; ``"not installed"`` where there is none.
    """

    kit: str
    python: str
    mode: str
    chain: str
    packages: dict[str, str]

    def rows(self) -> list[tuple[str, str]]:
        """Return the card as pairs of a label and a value."""
        return [
            ("twopm_kit", self.kit),
            ("Python", self.python),
            ("chain", self.chain),
            ("mode", self.mode),
            *self.packages.items(),
        ]

    def __repr__(self) -> str:
        return " · ".join(f"{label} {value}" for label, value in self.rows())

    def _repr_html_(self) -> str:
        cells = "".join(
            f'<tr><th scope="row" style="text-align:left">{escape(label)}</th>'
            f'<td style="text-align:left">{escape(value)}</td></tr>'
            for label, value in self.rows()
        )
        return f'<table><caption style="text-align:left">Environment</caption><tbody>{cells}</tbody></table>'


def setup(mode: str | None = None, *, written_for: str | None = None) -> EnvironmentCard:
    """Check that the notebook and the kit fit, and return the environment card.

    Parameters
    ----------
    mode : str, optional
        The mode to show, instead of the one in the settings.
    written_for : str, optional
        The version of the kit that the notebook was written for, for example ``"0.1"``.

    Returns
    -------
    EnvironmentCard
        Shown by Jupyter when it is the cell's last line.

    Raises
    ------
    NotebookError
        When the Python or the kit is another one than the notebook needs.
    ParameterError
        When the mode is none of the three.
    """
    guard_python(sys.version_info[:2])
    kit = version("twopm-kit")
    if written_for is not None:
        guard_kit(kit, written_for)
    current = settings()
    return EnvironmentCard(
        kit=kit,
        python=platform.python_version(),
        mode=validate_mode(current.mode if mode is None else mode),
        chain=str(dict(current.__repr_args__())["chain"]),  # the text form: a URL's path can be a key
        packages={name: _installed(name) for name in _SHOWN},
    )


def guard_python(found: tuple[int, int]) -> None:
    """Refuse a Python that the kit's packages were not made for."""
    if found != PYTHON:
        raise NotebookError(
            f"this kernel runs Python {found[0]}.{found[1]}, the kit needs {PYTHON[0]}.{PYTHON[1]}",
            hint="start JupyterLab with 'make lab' or 'twopm lab': its Python 3 kernel is the right one",
        )


def guard_kit(found: str, written_for: str) -> None:
    """Refuse a kit whose public names may differ from the ones that the notebook uses.

    Before 1.0 a change of the second number may rename things, from 1.0 on only one of the first.
    """
    if not re.fullmatch(r"\d+\.\d+(\.\d+)?", written_for):
        raise NotebookError(
            f"written_for is {written_for!r}, expected a version", hint="write it like '0.1' or '1.4'"
        )
    have = tuple(int(number) for number in re.findall(r"\d+", found)[:3])
    need = tuple(int(number) for number in written_for.split("."))
    series = 1 if need[0] >= 1 else 2
    if have[:series] == need[:series] and have >= need:
        return
    older = have < need
    raise NotebookError(
        f"this notebook was written for twopm_kit {written_for}, installed is {found}",
        hint="run 'make env' to bring the kit up to date, then restart the kernel"
        if older
        else "open the notebook that came with this version of the kit",
    )


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
