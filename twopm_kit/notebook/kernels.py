"""Makes the kernel in which the series runs: this interpreter, a clean environment, no network.

A machine can have other kernels that are also called ``python3``, and Jupyter prefers those of the user to
those of the environment. The runner therefore looks in one private folder only.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

from twopm_kit.notebook.offline import SITECUSTOMIZE

KERNEL_NAME: Final = "python3"
_LONGEST_SOCKET: Final = 100


def write_kernelspec(folder: Path, environment: Mapping[str, str] | None = None) -> Path:
    """Write a kernel specification for this interpreter.

    Parameters
    ----------
    folder : Path
        Becomes a Jupyter data folder; the specification lands in ``kernels/python3``.
    environment : mapping, optional
        Variables to set in the kernel.

    Returns
    -------
    Path
        ``folder / "kernels"``.
    """
    target = folder / "kernels" / KERNEL_NAME
    target.mkdir(parents=True, exist_ok=True)
    specification = {
        "argv": [
            sys.executable,
            "-Xfrozen_modules=off",
            "-m",
            "ipykernel_launcher",
            "-f",
            "{connection_file}",
        ],
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "metadata": {"debugger": True},
        "env": dict(environment or {}),
    }
    (target / "kernel.json").write_text(json.dumps(specification, indent=1), encoding="utf-8")
    return folder / "kernels"


def write_offline_hook(folder: Path) -> Path:
    """Write the start-up file that keeps a Python off the network; return the folder for ``PYTHONPATH``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE, encoding="utf-8")
    return folder


def manager_class(kernels: Path, socket: Path) -> type[AsyncKernelManager]:
    """Return a kernel manager class that knows the kernels in ``kernels`` and no others.

    It talks with its kernel through the files ``socket-1`` … ``socket-5``: other users of the machine cannot
    listen there, as they could on TCP ports, and there is no race for port numbers. Where the path is too
    long for a socket, it falls back to TCP on loopback.
    """
    short = len(os.fsencode(socket)) < _LONGEST_SOCKET
    where = {"transport": "ipc", "ip": str(socket)} if short else {"transport": "tcp"}

    class PrivateKernelManager(AsyncKernelManager):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            private = KernelSpecManager(kernel_dirs=[str(kernels)], ensure_native_kernel=False)
            super().__init__(*args, kernel_spec_manager=private, **where, **kwargs)

    return PrivateKernelManager
