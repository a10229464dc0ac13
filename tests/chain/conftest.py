"""Tests of chains run on the embedded, on anvil, and on one by URL; those of contracts on the first two."""

import os
from contextlib import contextmanager
from pathlib import Path

import pytest

import twopm_kit as kit
from twopm_kit.chain.anvil import find_anvil
from twopm_kit.errors import AnvilMissing

LOCAL = ["embedded", pytest.param("anvil", marks=pytest.mark.anvil)]
# An embedded chain behind a URL differs from the first in how calls travel, not in what contracts do.
BACKENDS = [*LOCAL, "served"]


def require_anvil():
    """Skip where anvil cannot be had; in CI it must be there."""
    try:
        find_anvil()
    except AnvilMissing as missing:
        if os.environ.get("CI", "").lower() in {"1", "true", "yes", "on"}:
            pytest.fail(f"CI must have anvil: {missing}")
        pytest.skip(str(missing))


@contextmanager
def opened(kind):
    """Give a chain of one kind."""
    if kind == "anvil":
        require_anvil()
    if kind != "served":
        with kit.chain.connect(kind) as fresh:
            yield fresh
        return
    with (
        kit.chain.connect("embedded") as shared,
        shared.serve() as server,
        kit.chain.connect(server.url) as fresh,
    ):
        yield fresh


@pytest.fixture(params=BACKENDS)
def chain(request):
    """A fresh chain of each kind."""
    with opened(request.param) as fresh:
        yield fresh


@pytest.fixture(scope="module", params=LOCAL)
def kept_chain(request):
    """One chain of each local kind for all tests of a module: for what contracts do."""
    with opened(request.param) as one:
        yield one


@pytest.fixture(scope="module", params=BACKENDS)
def reached_chain(request):
    """One chain of each kind for all tests of a module: for how calls travel."""
    with opened(request.param) as one:
        yield one


@pytest.fixture
def excuse():
    """What decides between skipping and failing."""
    return require_anvil


@pytest.fixture
def anvil():
    """An anvil of its own."""
    require_anvil()
    with kit.chain.connect("anvil") as fresh:
        yield fresh


@pytest.fixture
def alice(chain):
    """A funded account."""
    return chain.account("alice")


@pytest.fixture(scope="session")
def probe_artifact():
    """The test contract, compiled; the ABI also names its custom error, as other compilers do."""
    made = kit.chain.compile((Path(__file__).parent / "Probe.vy").read_text(), "Probe")
    made.abi.append({"type": "error", "name": "Custom", "inputs": [{"name": "code", "type": "uint256"}]})
    return made


@pytest.fixture
def probe(chain, alice, probe_artifact):
    """The test contract, deployed."""
    return chain.deploy(probe_artifact, 7, sender=alice)
