import numpy as np
import pytest

from twopm_kit.fhe.engine import engine_for
from twopm_kit.fhe.layouts import COLUMNS, Layout
from twopm_kit.fhe.plan import Plan, Step, costs_of, fresh_bytes, key_bytes, result_bytes


@pytest.fixture
def plan():
    steps = (
        Step("first <b>", "affine", 3, 4, 0.25, spends=1, scale=30.0, rotations=5),
        Step("second", "square", 2, 4, 0.5, spends=1, scale=32.0),
        Step("sum", "add", 1, 4, 0.25),
    )
    return Plan("train", Layout.blocks(2), steps, frozenset({2, 4}), 1000, 200, 3000)


def test_a_plan_adds_up_what_its_steps_take(plan):
    assert plan.depth == 2
    assert plan.seconds == 1.0
    assert Plan("agg", COLUMNS, ()).depth == 0


def test_a_plan_describes_every_step(plan):
    table = plan.describe()
    assert list(table.index) == ["first <b>", "second", "sum"]
    assert table["level after"].tolist() == [2, 1, 1]
    assert table["rotations"].tolist() == [5, 0, 0]
    assert table["seconds"].sum() == plan.seconds


def test_a_plan_shows_itself_without_foreign_markup(plan):
    shown = plan._repr_html_()
    assert "first &lt;b&gt;" in shown
    assert "<b>" not in shown
    assert "2 rotation keys" in repr(plan)
    assert "blocks of 2 rows" in repr(plan)


def test_costs_are_measured_once_and_grow_with_the_level():
    engine = engine_for("train")
    costs = costs_of(engine)
    assert costs_of(engine) is costs
    for kind in costs.describe().index:
        by_level = [costs.seconds(kind, level) for level in range(engine.profile.levels + 1)]
        assert by_level == sorted(by_level)
        assert by_level[-1] > 0.0
    assert costs.total(2, rotate=2, add=3) == pytest.approx(
        2 * costs.seconds("rotate", 2) + 3 * costs.seconds("add", 2)
    )


def test_a_profile_without_levels_has_costs_too():
    engine = engine_for("agg")
    assert costs_of(engine).seconds("add", 0) > 0.0
    assert key_bytes(engine, 0) == 0


def test_bytes_are_what_is_sent(holder):
    engine, enc = holder.engine, holder.encrypt(np.random.default_rng(0).normal(size=(9, 1)))
    assert enc.nbytes == pytest.approx(fresh_bytes(engine), rel=0.15)
    assert (enc * 0.3).nbytes == pytest.approx(result_bytes(engine, 0), rel=0.15)
    keys = holder.evaluator(rotations=[1, 2]).keys
    assert keys.nbytes == pytest.approx(key_bytes(engine, 2), rel=0.15)
