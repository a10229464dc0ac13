"""Transforms fitted over nodes equal those of the pooled rows, and drift is told without naming a node."""

import numpy as np
import pandas as pd
import pytest

from twopm_kit import errors
from twopm_kit.federated import (
    DriftTask,
    LocalNetwork,
    RunRecord,
    StandardiseTask,
    Task,
    drift_report,
    fit_standard,
    load_result,
)
from twopm_kit.federated.standardise import _of_truths
from twopm_kit.vsies.drift_table import drift
from twopm_kit.vsies.schema import Field, Schema
from twopm_kit.vsies.standard import Standard
from twopm_kit.vsies.statistics import Statistics

RESOLUTION = 2.0**-24
SCHEMA = Schema(
    "people",
    [
        Field("age", "int", low=0, high=120, standard="zscore"),
        Field("income", "float", low=0, standard="log"),
        Field("score", "float", nullable=True, standard="robust"),
        Field("part", "float", low=0, high=1, standard="minmax"),
        Field("smoker", "bool", nullable=True),
        Field("colour", "category", categories=("red", "green", "blue")),
        Field("town", "category", nullable=True),
    ],
    ["age >= 18 or not smoker"],
)
FEW = Schema("few", [Field("age", "int", standard="zscore"), Field("town", "category")])


def rows(size, node):
    """Return rows whose distribution is another one at every node."""
    draw = np.random.default_rng(node)
    towns = draw.choice([f"town {node}", "Ulm", "Zürich"], size).astype(object)
    towns[3] = None
    return pd.DataFrame(
        {
            "age": draw.integers(18 + 10 * node, 60 + 10 * node, size),
            "income": np.round(draw.lognormal(8 + node, 1, size), 2),
            "score": np.where(draw.random(size) < 0.1, np.nan, draw.normal(node, 1 + node, size)),
            "part": draw.random(size) ** (node + 1),
            "smoker": pd.array(draw.random(size) < 0.2 * (node + 1), dtype="boolean"),
            "colour": draw.choice(["red", "green"], size),
            "town": towns,
        }
    )


FRAMES = {f"clinic-{node}": rows(80 + 20 * node, node) for node in range(3)}


def pooled(*without):
    return pd.concat([f for name, f in FRAMES.items() if name not in without], ignore_index=True)


def task(schema=SCHEMA, **options):
    return StandardiseTask("fit", schema.to_json(), **options)


@pytest.fixture(scope="module")
def network():
    return LocalNetwork(FRAMES)


@pytest.fixture(scope="module")
def fit(network):
    return network.run_in_clear(task(max_categories=8))


def assert_same(ours, theirs, places=1):
    """Compare statistics; up to some values may stand on the other side of a decile that is rounded."""
    assert list(ours) == list(theirs)
    for name, one in theirs.items():
        mine = ours[name]
        assert [mine.count, mine.categories] == [one.count, one.categories], name
        assert mine.mean == pytest.approx(one.mean, rel=1e-12)
        assert mine.std == pytest.approx(one.std, rel=1e-9)
        assert mine.quantiles == pytest.approx(one.quantiles, rel=2 * RESOLUTION, abs=1e-12)
        assert mine.shares == pytest.approx(one.shares, abs=places / one.count + 1e-12)


# Fitting ------------------------------------------------------------------------------------------------


def test_statistics_equal_those_of_the_pooled_rows(fit):
    reference = Standard.fit(SCHEMA, pooled())
    assert fit.complete
    assert_same(fit.statistics, reference.statistics)
    assert fit.standard.categories["town"] == ("Ulm", "Zürich", "town 0", "town 1", "town 2")


def test_every_node_transforms_as_if_on_the_pooled_rows(fit):
    reference = Standard.fit(SCHEMA, pooled())
    everywhere = Standard.from_json(fit.standard.to_json())
    assert everywhere == fit.standard
    for frame in FRAMES.values():
        valid = SCHEMA.validate(frame)
        pd.testing.assert_frame_equal(everywhere.apply(valid), reference.apply(valid), rtol=1e-5, atol=1e-6)


def test_a_masked_fit_on_chain_equals_the_one_in_clear(network, tmp_path):
    options = {"resolution": 1, "max_categories": 8, "salt": "a"}
    told = []
    masked = fit_standard(network, SCHEMA, observe=told.append, **options)
    assert masked.task.name == "standard of people"
    assert masked.standard == network.run_in_clear(task(**options)).standard
    assert [record.status for record in masked.rounds] == ["done"] * 4
    assert masked.gas["total"].gt(0).all()
    assert told
    masked.save(tmp_path / "fit")
    assert load_result(tmp_path / "fit").standard == masked.standard
    assert Task.from_archive(masked.task.archive()).settings() == masked.task.settings()
    page = masked._repr_html_()
    assert "town 1" in page
    assert "income" in page
    assert "categories ['red', 'green', 'blue']" in repr(masked)


def test_hashing_is_keyed_afresh_for_every_fit():
    network = LocalNetwork([FRAMES["clinic-0"][["town"]].dropna()] * 2)
    schema = Schema("towns", [Field("town", "category")])
    salts = set()
    for _ in range(2):
        found = fit_standard(_InClear(network), schema, max_categories=4)
        salts.add(found.task.settings()["categories"]["salt"])
        assert found.standard.categories == {"town": ("Ulm", "Zürich", "town 0")}
    assert len(salts) == 2


class _InClear:
    """A network whose runs need no chain."""

    def __init__(self, network):
        self._network = network

    def run(self, task, **_):
        return self._network.run_in_clear(task)


def test_a_lost_node_is_in_no_figure(network):
    every = {number: ["clinic-1"] for number in range(1, 14)}
    fit = network.run_in_clear(task(max_categories=8), drop=every)
    assert_same(fit.statistics, Standard.fit(SCHEMA, pooled("clinic-1")).statistics)


def test_a_node_that_comes_back_is_in_the_later_figures(network):
    fit = network.run_in_clear(task(max_categories=8), drop={1: ["clinic-1"]})
    assert fit.complete
    assert fit.statistics["age"].count == len(pooled("clinic-1"))
    assert fit.statistics["age"].mean == pytest.approx(pooled()["age"].mean(), rel=1e-12)
    assert "town 1" not in fit.statistics["town"].categories
    assert sum(fit.statistics["town"].shares) == pytest.approx(1)


def test_the_last_round_can_be_left_out(network, fit):
    brief = network.run_in_clear(task(max_categories=8, shares=False))
    assert len(brief.rounds) == len(fit.rounds) - 1
    assert not any(one.shares for one in brief.statistics.values())
    assert brief.statistics["age"].quantiles == fit.statistics["age"].quantiles


def test_columns_of_too_few_values_have_no_statistics():
    frames = [pd.DataFrame({"age": [30, 40], "town": ["Ulm", "Bern"]})] * 2
    fit = LocalNetwork(frames).run_in_clear(task(FEW))
    assert fit.complete
    assert fit.statistics == {}
    assert "too few" in fit._repr_html_()
    with pytest.raises(errors.SchemaError, match=r"'age'.*needs figures"):
        _ = fit.standard
    # Nothing of them was in a sum but their number.
    known = fit.task.part_state("numbers", fit.state)
    assert known["counts"].tolist() == [4, 4]
    assert np.isnan(known["means"]).all()


def test_all_values_are_shown_on_demand():
    frames = [pd.DataFrame({"age": [30, 40], "town": ["Ulm", "Bern"]})] * 2
    fit = LocalNetwork(frames).run_in_clear(task(FEW, min_count=1))
    assert_same(fit.statistics, Standard.fit(FEW, pd.concat(frames)).statistics)


def test_a_union_that_cannot_be_read_is_no_fit():
    frames = [pd.DataFrame({"age": 1, "town": [f"{node}/{at}" for at in range(16)]}) for node in range(10)]
    fit = LocalNetwork(frames).run_in_clear(task(FEW, max_categories=16))
    assert not fit.complete
    assert "NOT complete" in repr(fit)
    assert "NOT complete" in fit._repr_html_()
    for name in ("statistics", "standard"):
        with pytest.raises(errors.TaskError, match="larger max_categories"):
            getattr(fit, name)


def test_more_categories_than_planned_still_have_shares():
    frames = [pd.DataFrame({"age": 1, "town": [f"{node}/{at}" for at in range(15)]}) for node in range(3)]
    fit = LocalNetwork(frames).run_in_clear(task(FEW, max_categories=16))
    assert_same(fit.statistics, Standard.fit(FEW, pd.concat(frames)).statistics)


@pytest.mark.parametrize(
    ("false", "true"), [(1, 0), (0, 1), (1, 1), (5, 0), (3, 4), (90, 10), (89, 11), (7, 993)]
)
def test_truth_values_are_known_by_their_mean(false, true):
    measured = Statistics.measure(Field("x", "bool"), pd.Series([False] * false + [True] * true))
    quantiles, shares = _of_truths(measured.count, measured.mean)
    assert quantiles == pytest.approx(measured.quantiles)
    assert shares == pytest.approx(measured.shares)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.assign(age=200), "between 0 and 120"),
        (lambda f: f.drop(columns="town"), "town"),
        (lambda f: f.assign(colour="pink"), "one of"),
        (lambda f: f.assign(age=17, smoker=True), "age >= 18"),
        (lambda f: f.assign(town="Zu\u0308rich"), "town"),
        (lambda f: f.assign(town=[f"{at}" for at in range(len(f))]), "larger max_categories"),
    ],
)
def test_unfit_rows_are_refused_before_anything_happens(change, words):
    network = LocalNetwork([FRAMES["clinic-0"], change(FRAMES["clinic-0"])])
    spent = network.chain.ledger.total()
    with pytest.raises(errors.SchemaError, match="(?s)node-2: .*" + words):
        fit_standard(network, SCHEMA, max_categories=8)
    assert network.chain.ledger.total() == spent


def test_unfit_rows_do_not_drift(fit):
    network = LocalNetwork([FRAMES["clinic-0"], FRAMES["clinic-0"].assign(age=200)])
    spent = network.chain.ledger.total()
    with pytest.raises(errors.SchemaError, match=r"node-2: .*between 0 and 120"):
        drift_report(network, SCHEMA, fit.standard)
    assert network.chain.ledger.total() == spent


@pytest.mark.parametrize(
    "slip",
    [
        lambda net: fit_standard(net, "people"),
        lambda _: fit_standard("network", SCHEMA),
        lambda net: fit_standard(net, SCHEMA, shares="no"),
        lambda net: fit_standard(net, SCHEMA, min_count=0),
        lambda net: fit_standard(net, SCHEMA, max_categories=10**6),
        lambda _: StandardiseTask("fit", "{}"),
        lambda net: drift_report(net, SCHEMA, None),
        lambda net: drift_report(net, FEW, Standard.fit(SCHEMA, pooled())),
        lambda _: DriftTask("drift", "{}"),
    ],
)
def test_slips_are_named_where_they_are_made(network, slip):
    with pytest.raises((errors.TaskError, errors.SchemaError)) as raised:
        slip(network)
    assert raised.value.hint


@pytest.mark.parametrize("mean", [-3.0, 0.5001, 7.0])
def test_shares_of_truth_values_stay_shares(mean):
    quantiles, shares = _of_truths(9, mean)
    assert Statistics(9, mean, 0.5, quantiles, shares=shares).shares == shares


# Drift --------------------------------------------------------------------------------------------------


def test_drift_is_told_as_means_and_counts(network, fit):
    report = drift_report(network, SCHEMA, fit.standard)
    assert len(report.rounds) == 1
    at_home = drift(fit.standard, FRAMES)
    for figure in ("psi", "ks", "mean_shift"):
        expected = at_home.assign(**{figure: at_home[figure].abs()}).groupby("column")[figure].mean()
        pd.testing.assert_series_equal(report.table[figure].sort_index(), expected, rtol=1e-9)
    counts = at_home.groupby("column")["verdict"].value_counts().unstack(fill_value=0)
    pd.testing.assert_frame_equal(
        report.table.loc[counts.index, list(counts)], counts, check_dtype=False, check_names=False
    )
    assert (report.table[["stable", "shifted", "drifted", "too few", "unknown"]].sum(axis=1) == 3).all()
    assert report.table.loc["colour", "stable"] == 3
    assert report.table.loc["age", "drifted"] > 0
    assert "drifted" in repr(report)
    assert "income" in report._repr_html_()
    assert Task.from_archive(report.task.archive()).settings() == report.task.settings()


def test_columns_with_few_values_say_so(fit):
    frames = [FRAMES["clinic-0"].iloc[:10], FRAMES["clinic-0"]]
    table = LocalNetwork(frames).run_in_clear(DriftTask("drift", fit.standard.to_json())).table
    assert (table["too few"] == 1).all()
    own = drift(fit.standard, frames[1]).set_index("column")
    assert table["psi"].to_numpy() == pytest.approx(own["psi"].to_numpy())


def test_without_shares_categories_are_unknown(network):
    standard = network.run_in_clear(task(max_categories=8, shares=False)).standard
    table = network.run_in_clear(DriftTask("drift", standard.to_json())).table
    assert (table.loc[["colour", "town"], "unknown"] == 3).all()
    assert table.loc[["colour", "town"], "psi"].isna().all()


def test_an_endless_shift_is_cut():
    schema = Schema("constant", [Field("x", "float", standard="zscore")])
    standard = Standard.fit(schema, pd.DataFrame({"x": [1.0] * 30}))
    frames = [pd.DataFrame({"x": [value] * 30}) for value in (1.0, 2.0)]
    table = LocalNetwork(frames).run_in_clear(DriftTask("drift", standard.to_json())).table
    assert table.loc["x", "mean_shift"] == 8
    assert table.loc["x", "drifted"] == 1


@pytest.mark.parametrize("lie", [1.0, 0.5, -2.0])
def test_verdicts_that_cannot_be_are_refused(network, fit, lie):
    honest = network.run_in_clear(DriftTask("drift", fit.standard.to_json()))
    state = {name: value.copy() for name, value in honest.state.items()}
    state["sums"][0, 0] += lie
    with pytest.raises(errors.TaskError, match="add up"):
        _ = honest.task.result(state, RunRecord(0, "", 0, (), ())).table
