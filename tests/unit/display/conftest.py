"""Events as `federated` sends them, and names that nobody should trust."""

import io

import pytest

from twopm_kit.federated.events import RoundEvent

HOSTILE = "<script>alert('x')</script>\x1b[2J\u202e\"&"
NODES = ["Lyon", "Oslo", "Porto", "Quito", "Riga"]


def event(round_, step, node="", status="done", gas=0, seconds=0.0, detail="", task=1):
    return RoundEvent(task, round_, step, node, status, gas, seconds, detail)


def joined(task=1, nodes=NODES):
    yield event(0, "register", "coordinator", gas=300_000, task=task)
    for node in nodes:
        yield event(0, "join", node, gas=100_000, seconds=0.1, task=task)


def played(number, *, silent=None, task=1):
    """One round; ``silent`` maps nodes to the step at which they fall silent."""
    silent = dict(silent or {})
    present = list(NODES)
    yield event(number, "select", "coordinator", gas=50_000, task=task)
    for node in present:
        yield event(number, "select", node, task=task)
    for step in ("share", "submit", "open", "attest"):
        for node in list(present):
            if silent.get(node) == step:
                present.remove(node)
                yield event(number, step, node, "dropped", detail=f"{node} falls silent", task=task)
            else:
                yield event(number, step, node, gas=10_000, seconds=0.5, task=task)
        if step in {"share", "submit"}:
            yield event(number, "freeze", "coordinator", gas=20_000, task=task)
    yield event(number, "finish", "coordinator", gas=30_000, detail=f"round {number} is public", task=task)


@pytest.fixture
def hostile():
    return HOSTILE


@pytest.fixture
def stream():
    return io.StringIO()
