"""The network guard: this machine yes, everything else no."""

import subprocess
import sys

import pytest

from twopm_kit.errors import NetworkRefused
from twopm_kit.notebook.offline import refuse

HERE = {"", "localhost", "box"}


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "box", "", None, b"127.0.0.1", 0]
)
def test_this_machine_may_be_reached(host):
    refuse(host, HERE)


@pytest.mark.parametrize(
    "host", ["192.0.2.1", "2001:db8::1", "example.org", b"example.org", "fe80::1%eth0", "128.0.0.1"]
)
def test_everything_else_may_not(host):
    with pytest.raises(NetworkRefused, match="tried to reach") as caught:
        refuse(host, HERE)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("attempt", "refused"),
    [
        ("socket.create_connection(('192.0.2.1', 9), timeout=1)", True),
        ("socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 9))", True),
        ("socket.socket(type=socket.SOCK_DGRAM).connect(('192.0.2.1', 9))", True),
        ("socket.getaddrinfo('example.org', 80)", True),
        ("socket.gethostbyname('example.org')", True),
        ("socket.getaddrinfo('localhost', 80)", False),
        ("own = socket.create_server(('127.0.0.1', 0)); socket.create_connection(own.getsockname())", False),
        ("socket.socketpair()", False),
    ],
)
def test_a_process_with_the_guard(attempt, refused):
    code = f"from twopm_kit.notebook.offline import install; install(); import socket; {attempt}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ("NetworkRefused" in done.stderr) is refused
    assert (done.returncode != 0) is refused
