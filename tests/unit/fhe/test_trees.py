import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.model_selection import train_test_split
from sklearn.tree import DecisionTreeClassifier

from twopm_kit.errors import CiphertextError, SchemaError, WrongKey
from twopm_kit.fhe import EncryptedFrame, KeyHolder
from twopm_kit.fhe.layouts import Layout
from twopm_kit.fhe.models.comparison import minimax_sign
from twopm_kit.fhe.models.multilinear import Multilinear
from twopm_kit.fhe.models.trees import GradientBoosting, RandomForest, Tree, TreeEnsemble

PLENTY = 1_000_000


@pytest.fixture(scope="module")
def keys():
    made = {}

    def holder(profile):
        if profile not in made:
            made[profile] = KeyHolder.generate(profile, budget=PLENTY)
        return made[profile]

    return holder


def table(name):
    load = {"cancer": load_breast_cancer, "iris": load_iris, "diabetes": load_diabetes}[name]
    x, y = load(return_X_y=True, as_frame=True)
    return train_test_split(x, y, test_size=0.3, random_state=0)


@pytest.fixture(scope="module")
def boosted():
    """Ten trees of depth 3 on the breast-cancer table, with rows that they have not seen."""
    x, test, y, truth = table("cancer")
    fitted = GradientBoostingClassifier(n_estimators=10, max_depth=3, random_state=0).fit(x, y)
    return fitted, GradientBoosting.from_sklearn(fitted), test, truth


def ask(model, holder, rows, **options):
    scores = model.decision_function(holder.encrypt(model.encode(rows)))
    assert scores.shape == (len(rows), len(model.columns))
    assert scores.columns == model.columns
    assert scores.level == 0
    return scores, holder.decrypt(scores, **options).to_numpy()


CLASSIFIERS = [
    ("cancer", GradientBoostingClassifier(n_estimators=8, max_depth=1, random_state=0), "trees"),
    ("cancer", GradientBoostingClassifier(n_estimators=8, max_depth=2, random_state=0), "trees"),
    ("cancer", GradientBoostingClassifier(n_estimators=8, max_depth=4, random_state=0), "trees"),
    ("cancer", GradientBoostingClassifier(n_estimators=5, loss="exponential", init="zero"), "trees"),
    ("iris", GradientBoostingClassifier(n_estimators=5, max_depth=3, random_state=0), "trees"),
    ("cancer", HistGradientBoostingClassifier(max_iter=6, max_depth=3, random_state=0), "trees"),
    ("iris", HistGradientBoostingClassifier(max_iter=5, max_depth=2, random_state=0), "trees"),
]
FORESTS = [
    ("cancer", RandomForestClassifier(6, max_depth=3, random_state=0), "trees"),
    ("iris", RandomForestClassifier(6, max_depth=4, random_state=0), "trees"),
    ("iris", ExtraTreesClassifier(4, max_depth=3, random_state=0), "trees"),
    ("cancer", DecisionTreeClassifier(max_depth=6, min_samples_leaf=3, random_state=0), "deep"),
]
REGRESSORS = [
    (GradientBoosting, GradientBoostingRegressor(n_estimators=6, max_depth=3, random_state=0)),
    (GradientBoosting, HistGradientBoostingRegressor(max_iter=5, max_depth=3, random_state=0)),
    (RandomForest, RandomForestRegressor(4, max_depth=3, random_state=0)),
]


def named(case):
    return "-".join([case[0], type(case[1]).__name__, str(case[1].get_params().get("max_depth"))])


def made(kind, case):
    name, estimator, profile = case
    x, test, y, truth = table(name)
    fitted = estimator.fit(x, y)
    return fitted, kind.from_sklearn(fitted), profile, test, truth


@pytest.mark.parametrize("case", CLASSIFIERS, ids=named)
def test_boosted_scores_equal_those_of_sklearn(keys, case):
    fitted, model, profile, test, truth = made(GradientBoosting, case)
    clear = fitted.decision_function(test)
    assert np.abs(model.simulate(test) - clear).max() < 1e-12
    scores, opened = ask(model, keys(profile), test)
    assert np.abs(opened - clear.reshape(opened.shape)).max() < 1e-4
    exact = keys(profile).decrypt(scores, flood=False).to_numpy()
    assert np.abs(exact - clear.reshape(opened.shape)).max() < 1e-6
    assert (model.classes_of(opened) == fitted.predict(test)).all()
    assert np.abs(model.probabilities(opened) - fitted.predict_proba(test)).max() < 1e-4
    assert model.score(test, truth) == fitted.score(test, truth)


@pytest.mark.parametrize("case", FORESTS, ids=named)
def test_probabilities_of_forests_equal_those_of_sklearn(keys, case):
    fitted, model, profile, test, truth = made(RandomForest, case)
    _, opened = ask(model, keys(profile), test)
    assert np.abs(model.probabilities(opened) - fitted.predict_proba(test)).max() < 1e-4
    assert model.score(test, truth) == pytest.approx(fitted.score(test, truth), abs=0.02)  # ties may turn


@pytest.mark.parametrize(("kind", "estimator"), REGRESSORS)
def test_regressions_equal_those_of_sklearn(keys, kind, estimator):
    x, test, y, truth = table("diabetes")
    fitted = estimator.fit(x, y)
    model = kind.from_sklearn(fitted)
    scores, opened = ask(model, keys("trees"), test)
    clear = fitted.predict(test)
    assert np.abs(opened.ravel() - clear).max() < 1e-5 * np.abs(clear).max()
    assert np.abs(keys("trees").decrypt(scores, flood=False).to_numpy().ravel() - clear).max() < 1e-4
    assert model.score(test, truth) == pytest.approx(fitted.score(test, truth), abs=1e-9)
    with pytest.raises(SchemaError, match="regression"):
        model.classes_of(opened)


def test_values_next_to_a_threshold_go_where_sklearn_sends_them(boosted):
    fitted, model, test, _ = boosted
    rows = []
    for feature, threshold in zip(model.predicates["feature"], model.predicates["threshold"], strict=True):
        column = list(test.columns).index(feature)
        near = np.float32(threshold)
        for value in (
            threshold,
            np.nextafter(threshold, np.inf),
            np.nextafter(threshold, -np.inf),
            float(near),
            float(np.nextafter(near, np.float32(np.inf))),
            float(near) * (1 + 2.0**-26),
        ):
            row = test.iloc[0].to_numpy(copy=True)
            row[column] = value
            rows.append(row)
    frame = pd.DataFrame(rows, columns=test.columns)
    assert np.abs(model.simulate(frame) - fitted.decision_function(frame)).max() < 1e-12


def test_what_the_client_learns_is_the_sorted_list_of_predicates(boosted):
    fitted, model, test, _ = boosted
    table_of = model.predicates
    expected = {
        (test.columns[f], t)
        for tree in fitted.estimators_.ravel()
        for f, t in zip(tree.tree_.feature, tree.tree_.threshold, strict=True)
        if f >= 0
    }
    listed = list(zip(table_of["feature"], table_of["threshold"], strict=True))
    assert set(listed) <= expected
    order = [(list(test.columns).index(f), t) for f, t in listed]
    assert order == sorted(order)
    bits = model.encode(test)
    assert list(bits.columns) == list(table_of["predicate"])
    for name, feature, threshold in table_of.itertuples(index=False):
        assert name == f"{feature} <= {threshold!r}"
        left = test[feature].to_numpy().astype(np.float32).astype(np.float64) <= threshold
        assert (bits[name].to_numpy() == left).all()
    assert f"{len(bits.columns)} predicates" in repr(model)


def test_rows_through_files_in_many_blocks(keys, boosted, tmp_path):
    fitted, model, test, _ = boosted
    holder = keys("trees")
    rows = test.iloc[np.arange(5000) % len(test)]
    path = holder.encrypt(model.encode(rows)).save(tmp_path / "bits.ct")
    evaluator = holder.evaluator()
    scores = model.decision_function(EncryptedFrame.load(path, key=evaluator))
    sent = scores.save(tmp_path / "scores.ct")
    assert sent.stat().st_size < path.stat().st_size / 40
    opened = holder.decrypt(EncryptedFrame.load(sent, key=holder))
    assert np.abs(opened["score"] - fitted.decision_function(rows)).max() < 1e-4
    with pytest.raises(CiphertextError, match="needs evaluation keys"):
        model.decision_function(EncryptedFrame.load(path))
    with pytest.raises(WrongKey):
        EncryptedFrame.load(sent, key=KeyHolder.generate("trees"))


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_the_header_tells_the_noise_that_there_is(keys, depth):
    x, _, y, _ = table("cancer")
    fitted = GradientBoostingClassifier(n_estimators=10, max_depth=depth, random_state=0).fit(x, y)
    model, holder = GradientBoosting.from_sklearn(fitted), keys("trees")
    rows = x.iloc[np.arange(4096) % len(x)]
    scores, opened = ask(model, holder, rows, flood=False)
    head = scores.heads[0]
    told = head.noise * np.sqrt(holder.engine.profile.degree / 2) / head.scale
    found = (opened.ravel() - model.simulate(rows)).std()
    assert found < told < 16 * found


def test_splits_that_decide_nothing_leave_no_predicate(keys):
    # x0 <= 1 ? (x1 <= 2 ? 5 : 5) : (x2 <= inf ? 7 : 8)
    tree = Tree(
        np.array([0, 1, 2, -1, -1, -1, -1]),
        np.array([1.0, 2.0, np.inf, 0.0, 0.0, 0.0, 0.0]),
        np.array([1, 3, 5, -1, -1, -1, -1]),
        np.array([2, 4, 6, -1, -1, -1, -1]),
        np.array([[0.0], [0.0], [0.0], [5.0], [5.0], [7.0], [8.0]]),
    )
    model = TreeEnsemble([tree], np.zeros(1), width=3)
    assert model.depth == 1
    assert model.predicates["predicate"].tolist() == ["x0 <= 1.0"]
    rows = np.array([[0.0, 9.0, 9.0], [2.0, 0.0, 0.0]])
    assert model.simulate(rows).tolist() == [5.0, 7.0]
    _, opened = ask(model, keys("trees"), rows)
    assert np.abs(opened.ravel() - [5.0, 7.0]).max() < 1e-4


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"left": [0, -1, -1]}, "no later node"),
        ({"right": [9, -1, -1]}, "no later node"),
        ({"threshold": [np.nan, 0.0, 0.0]}, "not a number"),
        ({"threshold": [1.0]}, "arrays of shapes"),
        ({"values": [[0.0], [np.inf], [1.0]]}, "a leaf holds"),
    ],
)
def test_trees_that_cannot_be(changed, words):
    good = {"feature": [0, -1, -1], "threshold": [1.0, 0.0, 0.0], "left": [1, -1, -1], "right": [2, -1, -1]}
    arrays = good | {"values": [[0.0], [2.0], [3.0]]}
    tree = Tree(**{name: np.array(value) for name, value in arrays.items()})
    with pytest.raises(SchemaError, match="feature 0"):
        TreeEnsemble([tree], np.zeros(1), width=0)
    with pytest.raises(SchemaError, match="base has 2 scores"):
        TreeEnsemble([tree], np.zeros(2), width=1)
    with pytest.raises(SchemaError, match=words):
        Tree(**{name: np.array(value) for name, value in (arrays | changed).items()})


def test_leaf_values_that_vanish_are_refused(keys):
    tree = Tree(
        np.array([0, -1, -1]),
        np.array([1.0, 0.0, 0.0]),
        np.array([1, -1, -1]),
        np.array([2, -1, -1]),
        np.array([[0.0], [0.0], [1e-40]]),
    )
    model = TreeEnsemble([tree], np.zeros(1), width=1)
    with pytest.raises(CiphertextError, match="too small"):
        ask(model, keys("trees"), np.array([[0.0], [2.0]]))


def test_a_polynomial_knows_its_levels():
    made = {d: Multilinear({(): 1.0, tuple(range(d)): 2.0}) for d in (1, 2, 3, 4, 5, 8, 9)}
    assert [p.least_levels for p in made.values()] == [1, 1, 2, 2, 3, 3, 4]
    bits = np.array([[1.0] * 9, [1.0] * 8 + [0.0]])
    assert made[9].values(bits).tolist() == [3.0, 1.0]
    assert made[8].values(bits).tolist() == [3.0, 3.0]


# Hidden comparisons -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("depth", "trees"), [(1, 8), (2, 3)])
def test_hidden_comparisons(keys, depth, trees):
    x, test, y, truth = table("cancer")
    fitted = GradientBoostingClassifier(n_estimators=trees, max_depth=depth, random_state=0).fit(x, y)
    model = GradientBoosting.from_sklearn(fitted, calibration=x)
    sent = model.encode(test, hidden=True)
    assert set(sent.columns) == set(model.predicates["feature"])
    assert np.abs(sent.to_numpy()).max() <= 1.0
    holder = keys("deep")
    scores = model.decision_function(holder.encrypt(sent))
    opened = holder.decrypt(scores)["score"].to_numpy()
    soft, clear = model.simulate(test, hidden=True), fitted.decision_function(test)
    assert np.abs(opened - soft).max() < 5e-3
    assert np.abs(holder.decrypt(scores, flood=False)["score"] - soft).max() < 1e-4
    # what is outside every margin is decided to within the error of a bit, the rest in part
    margin = model.margin
    inside = np.zeros(len(test), dtype=bool)
    for (_, predicate), (_, limits) in zip(model.predicates.iterrows(), margin.iterrows(), strict=True):
        inside |= test[predicate["feature"]].between(limits["below"], limits["above"]).to_numpy()
    assert 0 < inside.sum() < len(test)
    assert np.abs(opened - clear)[~inside].max() < 2 * depth * minimax_sign().error * np.ptp(clear)
    assert np.abs(opened - clear)[~inside].max() < np.abs(opened - clear)[inside].max()
    agree = (model.classes_of(opened) == fitted.predict(test)).mean()
    assert agree >= 0.97
    accuracy = (model.classes_of(opened) == truth).mean()
    assert accuracy >= fitted.score(test, truth) - 0.02
    assert model.score(test, truth, hidden=True) == pytest.approx(accuracy, abs=0.01)


def test_the_sign_is_right_outside_its_margin():
    sign = minimax_sign()
    z = np.linspace(sign.margin, 1.0, 2001)
    assert np.abs(sign(z) - 1.0).max() <= sign.error < 0.05
    assert (sign(-z) == -sign(z)).all()
    inside = sign(np.linspace(-sign.margin, sign.margin, 201))
    assert (np.diff(inside) > 0).all()
    assert np.abs(inside).max() <= 1.0 + sign.error


def test_hidden_comparisons_that_do_not_fit(keys, boosted):
    fitted, model, test, _ = boosted
    with pytest.raises(SchemaError, match="calibration=rows") as refused:
        model.encode(test, hidden=True)
    assert "calibration" in refused.value.hint
    other = GradientBoosting.from_sklearn(fitted, calibration=test)
    hidden = other.encode(test, hidden=True)
    with pytest.raises(CiphertextError, match="depth 3 need 8 levels, 6 of them") as refused:
        other.decision_function(keys("deep").encrypt(hidden))
    assert "max_depth=2" in refused.value.hint
    assert "bits" in refused.value.hint
    with pytest.raises(CiphertextError, match="6 of them for comparisons"):
        other.decision_function(keys("trees").encrypt(hidden))
    with pytest.raises(SchemaError, match="one value in all calibration rows"):
        GradientBoosting.from_sklearn(fitted, calibration=test.iloc[:1])


# Refusing -----------------------------------------------------------------------------------------------


def test_frames_that_are_refused(keys, boosted):
    _, model, test, _ = boosted
    holder, bits = keys("trees"), model.encode(test)
    with pytest.raises(SchemaError, match="DataFrame was passed"):
        model.decision_function(bits)
    with pytest.raises(SchemaError, match="lacks 1 of the model's"):
        model.decision_function(holder.encrypt(bits.iloc[:, 1:]))
    with pytest.raises(CiphertextError, match="layout 'blocks'"):
        model.decision_function(holder.encrypt(bits, layout=Layout.blocks(1)))
    with pytest.raises(CiphertextError, match="packing 'complex'"):
        model.decision_function(holder.encrypt(bits, packing="complex"))
    with pytest.raises(CiphertextError, match="bounds up to 2"):
        model.decision_function(holder.encrypt(bits, bounds=2.0))
    more = bits.assign(other=1.0)
    assert model.decision_function(holder.encrypt(more[more.columns[::-1]])).shape == (len(test), 1)


def test_trees_too_deep_for_a_profile(keys, boosted):
    _, model, test, _ = boosted
    bits = model.encode(test.iloc[:3])
    for profile in ("linear", "agg"):
        with pytest.raises(CiphertextError, match="depth 3 need 2 levels") as refused:
            model.decision_function(keys(profile).encrypt(bits))
        assert "'trees'" in refused.value.hint
        assert "max_depth=2" in refused.value.hint or profile == "agg"
    low = keys("trees").encrypt(bits).drop_to(2)
    with pytest.raises(CiphertextError, match="too few digits"):
        model.decision_function(low)
    x, test, y, _ = table("cancer")
    deep = RandomForest.from_sklearn(RandomForestClassifier(2, max_depth=7, random_state=0).fit(x, y))
    with pytest.raises(CiphertextError, match="too few digits"):
        deep.decision_function(keys("trees").encrypt(deep.encode(test.iloc[:3])))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x.assign(**{"mean area": np.nan}), "'mean area', row 0: the value is missing"),
        (lambda x: x.assign(**{"mean area": np.inf}), "infinite"),
        (lambda x: x.assign(**{"mean area": 1e39}), "too large"),
        (lambda x: x.drop(columns="mean area"), "lacks 1 of the model's 30 columns: mean area"),
        (lambda x: x.assign(**{"mean area": "wide"}), "not a number"),
        (lambda x: x.to_numpy()[:, :4], r"shape \(171, 4\)"),
        (lambda x: x.iloc[:0], r"shape \(0, 30\)"),
        (lambda x: x.to_numpy()[0, :4], r"shape \(1, 4\)"),
        (lambda x: x.to_numpy()[None], r"shape \(1, 171, 30\)"),
        (lambda x: x.to_numpy() + 1j, "complex"),
    ],
)
def test_rows_that_are_refused(boosted, change, words):
    _, model, test, _ = boosted
    with pytest.raises(SchemaError, match=words):
        model.encode(change(test))


@pytest.mark.parametrize(("count", "words"), [(1, "1 tree of"), (2, "2 trees of")])
def test_trees_are_counted_in_words(count, words):
    x, _, y, _ = table("cancer")
    fitted = GradientBoostingClassifier(n_estimators=count, max_depth=1).fit(x, y)
    assert words in repr(GradientBoosting.from_sklearn(fitted))


def test_columns_are_found_by_name(boosted):
    _, model, test, _ = boosted
    mixed = test[test.columns[::-1]].assign(more=1)
    assert (model.simulate(mixed) == model.simulate(test)).all()
    assert (model.simulate(test.to_numpy()) == model.simulate(test)).all()


def test_estimators_that_are_refused():
    x, _, y, _ = table("cancer")
    few = x.iloc[:, :3]
    with pytest.raises(SchemaError, match="AdaBoostClassifier was passed"):
        GradientBoosting.from_sklearn(AdaBoostClassifier())
    for kind, estimator in (
        (GradientBoosting, GradientBoostingClassifier()),
        (GradientBoosting, HistGradientBoostingClassifier()),
        (RandomForest, RandomForestClassifier()),
        (RandomForest, DecisionTreeClassifier()),
    ):
        with pytest.raises(SchemaError, match="not fitted"):
            kind.from_sklearn(estimator)
    with pytest.raises(SchemaError, match="expected one of RandomForestClassifier"):
        RandomForest.from_sklearn(GradientBoostingClassifier())
    started = GradientBoostingClassifier(n_estimators=2, init=DecisionTreeClassifier(max_depth=1)).fit(few, y)
    with pytest.raises(SchemaError, match="init=Decision"):
        GradientBoosting.from_sklearn(started)
    groups = few.assign(kind=(few["mean radius"] // 4).clip(0, 6).astype(int))
    categorical = HistGradientBoostingClassifier(max_iter=2, categorical_features=["kind"]).fit(groups, y)
    with pytest.raises(SchemaError, match="splits on categories"):
        GradientBoosting.from_sklearn(categorical)
    counts = HistGradientBoostingRegressor(max_iter=2, loss="poisson").fit(few, y)
    with pytest.raises(SchemaError, match="'poisson'"):
        GradientBoosting.from_sklearn(counts)
    several = RandomForestRegressor(2, max_depth=2).fit(few, np.stack([y, y], axis=1))
    with pytest.raises(SchemaError, match="2 outputs"):
        RandomForest.from_sklearn(several)
    flat = RandomForestRegressor(2, max_depth=2).fit(few, np.ones(len(few)))
    with pytest.raises(SchemaError, match="0 predicates"):
        RandomForest.from_sklearn(flat)


def test_trees_that_expand_too_far():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 8))
    grown = RandomForestRegressor(1, random_state=0).fit(x, rng.normal(size=4000))
    with pytest.raises(SchemaError, match="more than 50,000 products") as refused:
        RandomForest.from_sklearn(grown)
    assert "max_depth=" in refused.value.hint


def test_scores_that_are_refused(boosted):
    _, model, test, truth = boosted
    with pytest.raises(SchemaError, match="1 a row"):
        model.probabilities(np.zeros((3, 2)))
    with pytest.raises(SchemaError, match="finite"):
        model.classes_of([np.nan])
    with pytest.raises(SchemaError, match="not a number"):
        model.classes_of(["a"])
    with pytest.raises(SchemaError, match="one label"):
        model.score(test, truth[:-1])
