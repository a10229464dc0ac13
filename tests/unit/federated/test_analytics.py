"""Statistics over nodes equal pandas on the pooled rows, and nodes leave out what is too small."""

import json

import numpy as np
import pandas as pd
import pytest

from twopm_kit import datasets, errors
from twopm_kit.federated import LocalNetwork
from twopm_kit.federated.analytics import AnalyticsTask, HorizontalAnalytics, exact
from twopm_kit.federated.analytics.task import _Parts
from twopm_kit.federated.contract import encoder_of

COLUMNS = ["schooling", "tenure", "wage"]
RESOLUTION = 2.0**-24


@pytest.fixture(scope="module")
def pooled():
    frame = datasets.load("wages").iloc[:300].reset_index(drop=True)
    area = np.where(frame["urban"] == 1, "town", "country")
    frame = frame.assign(area=area, rare=(frame.index < 3) * 1, wage=frame["wage"].where(frame.index % 7 > 0))
    return frame.assign(area=frame["area"].where(frame.index % 11 > 0))


@pytest.fixture(scope="module")
def network(pooled):
    return LocalNetwork(pooled, n_nodes=3)


@pytest.fixture(scope="module")
def study():
    return HorizontalAnalytics(
        "pay", COLUMNS, {"manager": [0, 1], "area": ["country", "town"], "rare": [0, 1]}
    )


def same(ours, theirs, rtol=1e-9):
    """Compare an answer with pandas' own: a number, a series or a frame, labels included."""
    if isinstance(theirs, pd.DataFrame):
        pd.testing.assert_frame_equal(ours, theirs, rtol=rtol, check_dtype=False, check_index_type=False)
    elif isinstance(theirs, pd.Series):
        pd.testing.assert_series_equal(
            ours, theirs, rtol=rtol, check_dtype=False, check_names=False, check_index_type=False
        )
    else:
        assert ours == pytest.approx(theirs, rel=rtol)


# The same text is a question to all nodes and to pandas.
FORMULAS = {
    "missing values": lambda f: f["wage"],
    "whole numbers": lambda f: f["tenure"],
    "a quotient": lambda f: f["wage"] / f["schooling"],
    "arithmetic": lambda f: -((f["wage"] - 20) ** 2) / 3 + 2 * f["tenure"] - 1.5,
    "constants first": lambda f: 100 - 2 / f["schooling"] + 1.01 ** f["tenure"],
    "absolute": lambda f: (f["wage"] - 25).abs(),
    "filtered": lambda f: f[f["tenure"] > 5]["wage"],
    "filtered twice": lambda f: f[(f["tenure"] > 2) & ~(f["schooling"] == 12)]["wage"][f["wage"] < 60],
    "a category": lambda f: f[f["area"] == "town"]["wage"],
    "not a category": lambda f: f[(f["area"] != "town") | f["wage"].isna()]["tenure"],
    "a large offset": lambda f: f["wage"] * 1e-9 + 1e6,
    "tiny and huge": lambda f: f["wage"] * 1e-12 + f["tenure"] * 1e12,
}
EXACT = ("count", "sum", "mean", "var", "std", "sem")


@pytest.fixture(scope="module")
def sums(network, study):
    asked = {
        f"{name} {reduce}": getattr(formula(study), reduce)()
        for name, formula in FORMULAS.items()
        for reduce in EXACT
    }
    return study.run(network, **asked)


@pytest.mark.parametrize("name", FORMULAS)
def test_sums_equal_pandas(sums, pooled, name):
    for reduce in EXACT:
        # What float64 loses in the column itself, pandas loses too.
        rtol = 1e-6 if name == "a large offset" and reduce in ("var", "std", "sem") else 1e-9
        same(sums[f"{name} {reduce}"], getattr(FORMULAS[name](pooled), reduce)(), rtol)


def test_all_that_is_asked_together_takes_three_rounds(sums):
    assert len(sums.rounds) == 3
    assert len(sums.values) == len(FORMULAS) * len(EXACT)


def test_order_statistics_equal_pandas_to_the_resolution(network, study, pooled):
    asked = {
        "low": lambda f: f["wage"].min(),
        "high": lambda f: (f["wage"] - 40).max(),
        "whole": lambda f: f["tenure"].max(),
        "negative": lambda f: (f["wage"] / -7).quantile(0.25),
        "median": lambda f: f[f["manager"] == 1]["wage"].median(),
        "ties": lambda f: f["schooling"].median(),
    }
    result = study.run(network, **{name: ask(study) for name, ask in asked.items()})
    assert result.resolution == RESOLUTION
    for name, ask in asked.items():
        same(result[name], ask(pooled), 2 * RESOLUTION)
    assert result["whole"] == pooled["tenure"].max()
    assert result["low"] == pooled["wage"].min()  # two decimals are found in full
    assert result["ties"] == pooled["schooling"].median()
    assert len(result.rounds) == 7


def test_a_finer_resolution_is_kept(network, pooled):
    study = HorizontalAnalytics("pay", ["wage"], resolution=1e-13, min_count=1)
    result = network.run_in_clear(study.ask(top=study["wage"].max()))
    assert result.resolution <= 1e-13
    same(result["top"], pooled["wage"].max(), 1e-13)


def test_groups_and_frames_equal_pandas(network, study, pooled):
    numbers = ["schooling", "tenure", "wage", "manager", "rare"]
    asked = {
        "rows": lambda f: f.groupby("manager").size(),
        "means": lambda f: f.groupby("area")["wage"].mean(),
        "filtered": lambda f: f[f["tenure"] > 1].groupby("manager")["wage"].sum(),
        "condition": lambda f: f["wage"].groupby(f["tenure"] > 5).std(),
        "frame of groups": lambda f: f.groupby("manager").mean(),
        "counts": lambda f: f.count(),
        "frame": lambda f: f.mean(),
    }
    ours = study.run(network, all=study.size(), **{name: ask(study) for name, ask in asked.items()})
    assert ours["all"] == len(pooled)
    for name, ask in asked.items():
        part = pooled[numbers] if "frame" in name or name == "counts" else pooled
        same(ours[name], ask(part))


def test_truth_values_equal_pandas(network, study, pooled):
    asked = [
        lambda f: (f["wage"] > 1e6).any(),
        lambda f: (f["schooling"] >= 0).all(),
        lambda f: (f["wage"] > 0).all(),  # missing values are not above 0
        lambda f: f["tenure"].any(),
        lambda f: f["tenure"].all(),
        lambda f: (f["area"] == "town").sum(),
        lambda f: f["area"].isna().sum(),
        lambda f: f["wage"].notna().mean(),
        lambda f: f["area"].count(),
        lambda f: f["schooling"].isin([12, 16]).sum(),
        lambda f: f["wage"].between(10, 20).sum(),
    ]
    ours = study.collect(network, *(ask(study) for ask in asked))
    assert list(ours) == [ask(pooled) for ask in asked]
    assert [type(answer) for answer in ours[:6]] == [bool] * 5 + [int]


def test_small_groups_are_left_out_by_the_nodes(network, study, pooled):
    groups, few = study.groupby("rare"), study[study["rare"] == 1]
    asked = {"rows": groups.size(), "mean": groups["wage"].mean(), "top": groups["wage"].max()}
    result = study.run(network, any=few["wage"].any(), **asked)
    for name in asked:
        assert result[name].isna().tolist() == [False, True]
    same(result["mean"][0], pooled.groupby("rare")["wage"].mean()[0])
    assert result["any"] is pd.NA
    # Nothing but the counts of the small group was ever in a sum.
    task = result.task
    small = task._plan.series.index((["column", "wage"], ["==", ["column", "rare"], 1]))
    for record in result.rounds:
        parts = _Parts(task, np.round(encoder_of(task).decode(list(record.words), len(record.survivors)).sum))
        assert parts.counts[small] == 2
        assert not parts.sums[task._plan.sums.index(small)].any()
        assert not parts.bins[[order.series for order in task._plan.orders].index(small)].any()


def test_small_groups_are_shown_on_demand(network, pooled):
    study = HorizontalAnalytics("pay", ["wage"], {"rare": [0, 1]}, min_count=1)
    rows, means = study.collect(network, study.groupby("rare").size(), study.groupby("rare").mean())
    same(rows, pooled.groupby("rare").size())
    same(means, pooled.groupby("rare")[["wage"]].mean())


def test_rounds_are_as_few_as_the_questions_allow(network, study):
    wage = study["wage"]
    for asked, rounds in (([wage.count(), study.size(), wage.any()], 1), ([wage.mean()], 2)):
        assert len(study.run(network, *asked).rounds) == rounds


def test_drop_outs_leave_answers_about_the_others(pooled):
    parts = datasets.partition(pooled, 4, seed=5)
    study = HorizontalAnalytics("pay", COLUMNS)
    task = study.ask(mean=study["wage"].mean(), spread=study["wage"].std(), middle=study["wage"].median())
    result = LocalNetwork(parts).run(task, drop={2: [2], 3: [0], 5: {"open": [1]}})

    def without(node):
        return pd.concat([part for at, part in enumerate(parts) if at != node])["wage"]

    assert result["mean"] == pytest.approx(without(2).mean(), rel=1e-9)
    assert result["spread"] == pytest.approx(without(0).std(), rel=1e-9)
    assert result.complete
    # A histogram over other rows starts the search again.
    assert result["middle"] == pytest.approx(pooled["wage"].median(), rel=2 * RESOLUTION)


def test_masked_and_clear_answers_are_equal(network, study):
    task = study.ask(study.mean(), study["wage"].var())
    assert repr(network.run(task).values) == repr(network.run_in_clear(task).values)


def test_questions_travel_as_json_and_hold_no_code(network, study):
    task = study.ask(ratio=(study["wage"] / study["schooling"])[study["area"] == "town"].mean())
    settings = json.loads(task.parameters())["settings"]
    assert settings["questions"]["ratio"] == {
        "reduce": "mean",
        "columns": [["(wage / schooling)", ["/", ["column", "wage"], ["column", "schooling"]]]],
        "single": True,
        "where": ["==", ["column", "area"], "town"],
        "by": None,
        "q": None,
    }
    again = AnalyticsTask(task.name, settings["schema"], json.dumps(settings["questions"]))
    assert again.settings() == task.settings()


@pytest.mark.parametrize(
    "formula",
    [
        ["eval", ["column", "wage"]],
        ["column", "salary"],
        ["column", ["wage"]],
        ["+", ["column", "wage"]],
        ["+", ["column", "wage"], "town"],
        ["/", ["column", "wage"], float("nan")],
        ["==", ["column", "area"], "moon"],
        [["column"], "wage"],
        {"column": "wage"},
        None,
    ],
)
def test_hostile_formulas_are_refused(study, formula):
    plan = {
        "reduce": "mean",
        "columns": [["x", formula]],
        "single": True,
        "where": None,
        "by": None,
        "q": None,
    }
    with pytest.raises(errors.TaskError):
        AnalyticsTask("t", dict(study.schema), json.dumps({"x": plan}))


@pytest.mark.parametrize(
    "change",
    [
        {"reduce": "steal"},
        {"reduce": ["mean"]},
        {"columns": []},
        {"columns": [["wage"]]},
        {"columns": [[1, ["column", "wage"]]]},
        {"where": ["column", "wage"]},
        {"by": {"key": ["column", "manager"]}},
        {"by": {"key": ["column", "manager"], "name": "m", "levels": [[]]}},
        {"q": 2.0},
        {"q": "half"},
        {"more": 1},
    ],
)
def test_hostile_questions_are_refused(study, change):
    plan = json.loads(json.dumps(study["wage"].mean().plan)) | change
    with pytest.raises(errors.TaskError):
        AnalyticsTask("t", dict(study.schema), json.dumps({"x": plan}))


@pytest.mark.parametrize("questions", ["", "{}", "[]", "{" * 99, None, {"x": 1}])
def test_questions_are_json(study, questions):
    with pytest.raises(errors.TaskError):
        AnalyticsTask("t", dict(study.schema), questions)


def test_formulas_have_a_size(study):
    deep = study["wage"]
    for _ in range(40):
        deep = deep + 1
    with pytest.raises(errors.TaskError, match="too large"):
        deep + 1


@pytest.mark.parametrize(
    "slip",
    [
        lambda s: bool(s["wage"] > 3),
        lambda s: list(s["wage"]),
        lambda s: list(s),
        lambda s: s["salary"],
        lambda s: s["wage"] & s["tenure"],
        lambda s: (s["wage"] > 1) + (s["tenure"] > 1),
        lambda s: s["area"] + 1,
        lambda s: s["area"] == "moon",
        lambda s: s["wage"] == "town",
        lambda s: s["wage"] + np.arange(3),
        lambda s: s["wage"] + float("inf"),
        lambda s: s[s["wage"] > 1]["wage"] + s["wage"],
        lambda s: s["wage"] + HorizontalAnalytics("other", ["wage"])["wage"],
        lambda s: s[s["wage"]],
        lambda s: s["wage"][lambda f: f > 1],
        lambda s: s.groupby("wage"),
        lambda s: s.groupby(s["wage"] + 1),
        lambda s: s["wage"].quantile(2),
        lambda s: s["wage"].quantile([0.1, 0.2]),
        lambda s: s["wage"].isin([]),
        lambda s: s.ask(),
        lambda s: s.ask(s["wage"]),
        lambda s: s.ask(s["area"].mean()),
        lambda s: s.ask(s["wage"].mean(), **{"wage.mean()": s["wage"].sum()}),
        lambda _: HorizontalAnalytics("t"),
        lambda _: HorizontalAnalytics("t", "wage"),
        lambda _: HorizontalAnalytics("t", ["wage"], {"area": "town"}),
        lambda _: HorizontalAnalytics("t", ["wage"], {"area": ["town", 1]}),
        lambda _: HorizontalAnalytics("t", ["wage"], min_count=0),
        lambda _: HorizontalAnalytics("t", ["wage"], resolution=0),
    ],
)
def test_slips_are_named_where_they_are_made(study, slip):
    with pytest.raises(errors.TaskError) as raised:
        slip(study)
    assert raised.value.hint


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.drop(columns="wage"), "'wage' is not in the frame once"),
        (lambda f: f.assign(wage="much"), "dtype"),
        (lambda f: f.assign(area="moon"), "'moon'"),
        (lambda f: f.assign(manager=7), r"\[7\]"),
        (lambda f: f.assign(schooling=0), "infinite"),
        (lambda f: f.iloc[:0], "no rows"),
    ],
)
def test_unfit_frames_are_named_with_their_node(study, pooled, change, words):
    network = LocalNetwork([pooled, change(pooled)])
    spent = network.chain.ledger.total()
    with pytest.raises(errors.SchemaError, match="node-2: .*" + words):
        study.run(
            network,
            (study["wage"] / study["schooling"]).mean(),
            study["area"].count(),
            study["manager"].any(),
        )
    assert network.chain.ledger.total() == spent


def test_a_result_shows_its_answers(network, study):
    result = study.run(network, study["wage"].mean(), groups=study.groupby("manager").size())
    assert "wage.mean()" in repr(result)
    assert "NOT complete" not in repr(result)
    html = result._repr_html_()
    assert "wage.mean()" in html
    assert "manager" in html
    assert result[study["wage"].mean()] == result["wage.mean()"]
    assert "not computed yet" in repr(study["wage"].mean())
    with pytest.raises(errors.TaskError, match="was not asked"):
        result["wage.max()"]


def test_an_answer_that_drop_outs_have_left_open_is_said_so(pooled):
    parts = datasets.partition(pooled, 4, seed=5)
    study = HorizontalAnalytics("pay", COLUMNS)
    drop = {number: [number % 2] for number in range(1, 14)}
    result = LocalNetwork(parts).run_in_clear(study.ask(study["wage"].median()), drop=drop)
    assert not result.complete
    assert "NOT complete" in repr(result)
    assert np.isnan(result["wage.median()"])


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 0.1, -1e-20, 1e20, 2.0**94, -123456.789e3, 5e-324])
def test_digits_carry_a_number_exactly(value):
    digits = exact.split(value)
    assert max(map(abs, digits)) <= exact.LANE_BOUND
    assert exact.joined(digits) == pytest.approx(value, abs=2.0**-76, rel=1e-16)
    assert exact.joined([3 * digit for digit in digits]) == pytest.approx(3 * value, abs=2.0**-74, rel=1e-15)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 2.0**95])
def test_digits_have_an_end(value):
    with pytest.raises(errors.EncodingError):
        exact.split(value)


def test_keys_sort_like_numbers():
    values = np.array([-np.finfo(float).max, -1.5, -1e-300, -0.0, 0.0, 5e-324, 1.0, 1.5, 1e300])
    found = exact.keys(values)
    assert found[3] == found[4]
    assert (np.diff(found[[0, 1, 2, 4, 5, 6, 7, 8]].astype(object)) > 0).all()
    assert [exact.key_value(int(key), 64) for key in found] == values.tolist()
    for value in (1234.5678, -1234.5678):
        near = exact.key_value(int(exact.keys(np.array([value]))[0]) >> 28, 36)
        assert near == value  # few digits
    value = np.pi * 1e5
    assert exact.key_value(int(exact.keys(np.array([value]))[0]) >> 28, 36) == pytest.approx(
        value, rel=RESOLUTION
    )
    assert exact.key_value((1 << 35), 36) == 0.0
