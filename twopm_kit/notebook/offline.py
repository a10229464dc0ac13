"""Keeps a kernel of the series runner, and every Python that it starts, off the network except loopback.

The runner puts a folder with a short ``sitecustomize.py`` on the kernels' ``PYTHONPATH``; Python runs it at
start, in child processes too. It installs an audit hook: the interpreter reports each connection and each
name look-up before it happens, whichever library asked for it, and a hook cannot be removed again. Programs
that are not Python (a local chain's node, for example) are not watched.
"""

import ipaddress
import socket
import sys
from typing import Any, Final

from twopm_kit.errors import NetworkRefused

SITECUSTOMIZE: Final = "from twopm_kit.notebook.offline import install\n\ninstall()\n"
_LOOKUPS: Final = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}
_SENDS: Final = {"socket.connect", "socket.sendto", "socket.sendmsg"}


def install() -> None:
    """Refuse, from now on and for the life of this process, to reach anything but this machine."""
    here = {"", "localhost", "localhost.localdomain", "ip6-localhost", socket.gethostname()}

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _LOOKUPS:
            refuse(arguments[0], here)
        elif event in _SENDS and isinstance(arguments[1], tuple):
            refuse(arguments[1][0], here)

    sys.addaudithook(hook)


def refuse(host: object, here: set[str]) -> None:
    """Raise unless ``host`` is this machine (a loopback address, or one of the names in ``here``)."""
    if not isinstance(host, str | bytes):
        return  # None asks about this machine; numbers address the kernel's own sockets (netlink)
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if name in here:
        return
    try:
        if ipaddress.ip_address(name.partition("%")[0]).is_loopback or name == "0.0.0.0":  # noqa: S104
            return
    except ValueError:
        pass  # a name that is not in the list
    raise NetworkRefused(
        f"a notebook of the series tried to reach {name!r}; the runner lets it reach this machine only",
        hint="use bundled data (kit.datasets) and a local chain (kit.chain.connect)",
    )
