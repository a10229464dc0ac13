"""How tests share the cores: a file stays in one process, and a test that needs the machine gets it alone."""

import fcntl
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

BUILD = Path(__file__).parents[1] / "build"


def pytest_configure(config):
    """Declare the marker of tests that no other test may run beside."""
    config.addinivalue_line("markers", "alone: has a time limit that a busy neighbour would break")


# Outermost: what a test waits for its turn is not part of its own time.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    """Let each test wait for its turn among all processes of this clone."""
    with _turn(alone=item.get_closest_marker("alone") is not None):
        return (yield)


@contextmanager
def _turn(*, alone):
    """Hold the room, with others or alone. Who waits for the room stands in the door, so nobody overtakes."""
    BUILD.mkdir(exist_ok=True)
    with ExitStack() as held:
        door, room = (held.enter_context((BUILD / f"tests.{name}").open("wb")) for name in ("door", "room"))
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        held.callback(fcntl.flock, room, fcntl.LOCK_UN)  # in words: a forked child keeps the file open
        yield
