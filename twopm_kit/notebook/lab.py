"""Starts JupyterLab on the series: on loopback, with this environment's kernel, telling nobody anything."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from twopm_kit.notebook.kernels import write_kernelspec

FIRST: Final = "00_start_here.ipynb"
_SETTINGS: Final = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
}


def lab_command(
    notebooks: Path, build: Path, *, options: Sequence[str] = ()
) -> tuple[list[str], dict[str, str]]:
    """Return the command that starts JupyterLab, and the environment that it needs.

    Parameters
    ----------
    notebooks : Path
        The folder to open.
    build : Path
        A folder for the kernel's specification and JupyterLab's settings; written by this function.
    options : sequence of str
        More options of JupyterLab; they win over the ones here.

    Returns
    -------
    command : list of str
        To be run as it is.
    environment : dict
        All variables of the new process.
    """
    write_kernelspec(build)
    settings = build / "lab-settings"
    settings.mkdir(parents=True, exist_ok=True)
    (settings / "overrides.json").write_text(json.dumps(_SETTINGS), encoding="utf-8")
    command = [
        *(sys.executable, "-m", "jupyterlab"),
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.root_dir={notebooks}",
        f"--LabApp.app_settings_dir={settings}",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate",
        "--LabApp.extension_manager=readonly",
        *([f"--LabApp.default_url=/lab/tree/{FIRST}"] if (notebooks / FIRST).is_file() else []),
        *(["--allow-root"] if os.geteuid() == 0 else []),
        *([] if has_display() else ["--no-browser"]),
        *options,
    ]
    # The environment's own kernel comes before a user's kernel of the same name.
    places = [str(build), *filter(None, [os.environ.get("JUPYTER_PATH")])]
    return command, {**os.environ, "JUPYTER_PATH": os.pathsep.join(places)}


def has_display() -> bool:
    """Tell whether a browser could open a window here."""
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
