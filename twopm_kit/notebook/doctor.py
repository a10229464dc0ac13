"""Examines the environment: what is there, and what to do about each thing that is missing."""

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Literal

from twopm_kit.errors import TwoPMError
from twopm_kit.notebook.environment import PYTHON, setup

_BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_LEAST_GB: Final = 4


@dataclass(frozen=True)
class Condition:
    """The state of one thing: ``ok``, ``optional`` (missing, but not needed) or ``missing`` (needed)."""

    name: str
    found: str
    state: Literal["ok", "optional", "missing"] = "ok"
    remedy: str = ""


def examine(root: Path | None = None) -> list[Condition]:
    """Examine the environment.

    Parameters
    ----------
    root : Path, optional
        The clone, for its lock file.

    Returns
    -------
    list of Condition
        In the order of the card. Nothing that is found wrong raises.
    """
    return [
        _python(),
        *_card(),
        *([_lock(root)] if root is not None else []),
        _machine(),
        *_chains(),
        *_data(),
        _browser(),
    ]


def _python() -> Condition:
    found = platform.python_version()
    if sys.version_info[:2] == PYTHON:
        return Condition("Python", found)
    wanted = ".".join(map(str, PYTHON))
    return Condition(
        "Python", found, "missing", f"install Python {wanted} and make the environment anew: make env"
    )


def _card() -> Iterator[Condition]:
    """Yield the rows of the card that notebooks show, or what is wrong with the settings."""
    try:
        card = setup()
    except TwoPMError as error:
        yield Condition("settings", error.message, "missing", error.hint)
        return
    for name, found in card.rows():
        if name == "Python":
            continue
        missing = found == "not installed"
        yield Condition(name, found, "missing" if missing else "ok", "run 'make env'" if missing else "")


def _lock(root: Path) -> Condition:
    """Compare what is installed with the lock file."""
    pins = dict(
        line.split("==", 1)
        for line in (root / "requirements.lock").read_text(encoding="utf-8").splitlines()
        if "==" in line and not line.startswith("#")
    )
    other = [name for name, pin in pins.items() if _installed(name) != pin.strip()]
    if not other:
        return Condition("packages", f"all {len(pins)} as in requirements.lock")
    shown = ", ".join(other[:5]) + (" …" if len(other) > 5 else "")
    remedy = "run 'make env' (conda: conda env update -f environment.yml)"
    return Condition("packages", f"{len(other)} of {len(pins)} differ: {shown}", "optional", remedy)


def _installed(name: str) -> str:
    """Return the public version; what follows a '+' names a build, and builds differ by machine."""
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return ""


def _machine() -> Condition:
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = psutil.virtual_memory()
    found = f"{cores} cores, {memory.total / 2**30:.1f} GB of memory, {memory.available / 2**30:.1f} GB free"
    if memory.available < _LEAST_GB * 2**30:
        return Condition(
            "machine", found, "optional", f"close other programs: below {_LEAST_GB} GB kernels may end"
        )
    return Condition("machine", found)


def _chains() -> Iterator[Condition]:
    """Start each local chain for a moment: a chain that is installed and does not start is not there."""
    from twopm_kit import chain
    from twopm_kit.config import settings

    def start(target: str) -> str:
        with chain.connect(target) as started:
            return f"starts, chain id {started.chain_id}"

    yield _try("chain embedded", partial(start, "embedded"), "missing", "run 'make env'")
    remedy = "run 'make env', or put anvil on PATH; the embedded chain works without it"
    yield _try("chain anvil", partial(start, "anvil"), "optional", remedy)
    try:
        wanted = settings()
    except TwoPMError:
        return  # the card has said it
    if wanted.chain not in ("embedded", "anvil"):
        remedy = "start that node, or correct TWOPM_CHAIN"
        yield _try("chain set", partial(start, wanted.chain), "missing", remedy)


def _data() -> Iterator[Condition]:
    from twopm_kit import datasets

    try:
        known = datasets.names()
    except TwoPMError as error:
        yield Condition("data", error.message, "missing", error.hint)
        return
    for name in known:
        yield _try(f"data {name}", partial(_load, name), "missing", "restore data/")


def _load(name: str) -> str:
    from twopm_kit import datasets

    frame = datasets.load(name)
    return f"checksum right, {len(frame):,} × {len(frame.columns)}"


def _try(
    name: str, attempt: Callable[[], str], without: Literal["optional", "missing"], remedy: str
) -> Condition:
    try:
        return Condition(name, attempt())
    except TwoPMError as error:
        return Condition(name, error.message, without, error.hint or remedy)


def _browser() -> Condition:
    for name in _BROWSERS:
        if found := shutil.which(name):
            return Condition("Chromium", Path(found).name)
    return Condition(
        "Chromium",
        "not found",
        "optional",
        "install it for the browser tests (Debian: apt-get install chromium)",
    )
