"""The predictor in clear: right numbers, the right threshold, and models and frames that it refuses."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from twopm_kit import datasets
from twopm_kit.errors import InferenceError, SchemaError
from twopm_kit.federated import FaultTolerantFedAvg, HorizontalLearning, LocalNetwork, LogitTask, Moments
from twopm_kit.inference import ModelCard, Predictor, classify, probabilities


class Hospital(HorizontalLearning):
    """Logistic regression in torch, as a user writes it."""

    def __init__(self):
        strategy = FaultTolerantFedAvg(min_clients=2, max_clients=3, merge_epoch=2)
        super().__init__("breast cancer", 2, strategy=strategy)
        torch.manual_seed(0)
        self.model = torch.nn.Sequential()
        self.model.add_module("linear", torch.nn.Linear(30, 1))

    def dataset(self):
        return "breast_cancer"

    def make_train_dataloader(self, dataset):
        x = torch.tensor(dataset.drop(columns="target").to_numpy(), dtype=torch.float32)
        return [(x, torch.tensor(dataset["target"].to_numpy(), dtype=torch.float32)[:, None])]

    make_validate_dataloader = make_train_dataloader

    def train(self, dataloader):
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.5)
        for x, y in dataloader:
            optimizer.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(self.model(x), y).backward()
            optimizer.step()

    def validate(self, dataloader):
        x, y = dataloader[0]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(self.model(x), y)
        return {"loss": loss.item(), "accuracy": ((self.model(x) > 0) == (y > 0.5)).float().mean().item()}

    def state_dict(self):
        return self.model.state_dict()


@pytest.fixture(scope="module")
def federated(patients, scaler):
    rows = patients[0].drop(columns="target")
    scaled = ((rows - scaler[0]) / scaler[1]).assign(target=patients[0]["target"])
    return LocalNetwork(datasets.partition(scaled, 3, seed=3)).run(Hospital())


def test_a_federated_torch_model_predicts_what_torch_predicts(federated, patients, rows, scaler):
    model = Predictor.from_result(federated, features=list(rows.columns), scaler=scaler)
    layer = torch.nn.Sequential()
    layer.add_module("linear", torch.nn.Linear(30, 1))
    layer.load_state_dict(federated.state_dict)
    with torch.no_grad():
        x = torch.tensor(((rows - scaler[0]) / scaler[1]).to_numpy(), dtype=torch.float32)
        expected = torch.sigmoid(layer(x)).numpy().ravel()
    np.testing.assert_allclose(model.predict_proba(rows), expected, atol=1e-6)
    assert (model.predict(rows) == patients[1]["target"]).mean() > 0.85
    assert model.name == "breast cancer"
    assert model.coef.shape == (30,)
    assert model.intercept == pytest.approx(float(federated.state["linear.bias"][0]))
    assert model.features == list(rows.columns)


def test_a_result_that_does_not_know_its_columns_asks_for_them(federated):
    with pytest.raises(InferenceError, match="30 columns") as refused:
        Predictor.from_result(federated)
    assert "features=" in refused.value.hint


@pytest.mark.parametrize("intercept", [True, False])
def test_a_logit_result_knows_its_columns_and_its_constant(intercept):
    frame = datasets.load("spector")
    features = ["GPA", "PSI"]
    task = LogitTask("spector", target="GRADE", features=features, intercept=intercept)
    result = LocalNetwork(frame, n_nodes=2).run(task)
    model = Predictor.from_result(result)
    assert model.features == features
    np.testing.assert_array_equal(model.coef, result.params[features])
    assert model.intercept == (result.params["const"] if intercept else 0.0)
    scores = frame[features] @ result.params[features] + (result.params["const"] if intercept else 0.0)
    np.testing.assert_allclose(model.decision_function(frame[features]), scores)
    with pytest.raises(InferenceError, match="fitted on"):
        Predictor.from_result(result, features=["PSI", "GPA"])


def test_scikit_learn_agrees(predictor, fitted, rows, scaler):
    scaled = ((rows - scaler[0]) / scaler[1]).to_numpy()
    np.testing.assert_allclose(predictor.predict_proba(rows), fitted.predict_proba(scaled)[:, 1], atol=1e-12)
    np.testing.assert_array_equal(predictor.predict(rows), fitted.predict(scaled))
    assert predictor.predict_proba(rows).name == "probability"
    assert set(predictor.predict(rows).unique()) == {0, 1}
    assert predictor.predict(rows).index.equals(rows.index)


# The threshold -----------------------------------------------------------------------------------------


def test_the_class_is_the_probability_against_one_half_and_nothing_else():
    """A logit between 0 and a training loss such as ln 2 is class 1: its probability is above 0.5."""
    model = Predictor([1.0], 0.0, features=["x"])
    frame = pd.DataFrame({"x": [-5.0, -1e-9, 0.0, 1e-9, 0.1, 0.3, 0.49, 0.5, np.log(2) - 1e-9, 0.9, 5.0]})
    assert model.predict(frame).tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1]


def test_the_threshold_does_not_move_with_the_loss_that_training_ended_with(federated, rows, scaler):
    model = Predictor.from_result(federated, features=list(rows.columns), scaler=scaler)
    loss = float(federated.history["loss"].iloc[-1])
    scores = model.decision_function(rows)
    between = (scores >= 0) & (scores < loss)
    assert between.any(), "the test needs rows whose score lies between 0 and the loss"
    assert (model.predict(rows)[between] == 1).all()


@given(st.floats(-800, 800))
def test_every_score_has_a_probability_and_the_class_that_belongs_to_it(score):
    p = probabilities([score])
    assert 0 <= p[0] <= 1
    assert classify(p)[0] == (p[0] >= 0.5)


# Frames ------------------------------------------------------------------------------------------------


@given(hnp.arrays(np.float64, (3, 2), elements=st.floats(-100, 100)))
def test_the_order_of_columns_does_not_matter(values):
    model = Predictor([1.0, -2.0], 0.5, features=["a", "b"])
    frame = pd.DataFrame(values, columns=["a", "b"])
    np.testing.assert_array_equal(model.predict_proba(frame), model.predict_proba(frame[["b", "a"]]))


BAD_FRAMES = {
    "missing": (pd.DataFrame({"a": [1.0]}), "missing: 'b'"),
    "renamed": (pd.DataFrame({"a": [1.0], "c": [1.0]}), "not of the model: 'c'"),
    "extra": (pd.DataFrame({"a": [1.0], "b": [1.0], "target": [1]}), "not of the model: 'target'"),
    "repeated": (pd.DataFrame([[1.0, 2.0, 3.0]], columns=["a", "b", "b"]), "repeated"),
    "nan": (pd.DataFrame({"a": [1.0, np.nan], "b": [1.0, 1.0]}), "column 'a', row 1: the value is missing"),
    "infinite": (pd.DataFrame({"a": [1.0], "b": [-np.inf]}), "column 'b', row 0: the value is infinite"),
    "text": (pd.DataFrame({"a": ["1"], "b": [1.0]}), "column 'a' has dtype"),
    "complex": (pd.DataFrame({"a": [1j], "b": [1.0]}), "column 'a' has dtype"),
    "empty": (pd.DataFrame({"a": [], "b": []}, dtype=float), "no rows"),
    "array": (np.ones((1, 2)), "expected a DataFrame"),
}


@pytest.mark.parametrize("case", BAD_FRAMES)
@pytest.mark.parametrize("call", ["predict", "predict_proba", "decision_function", "prepare"])
def test_a_frame_that_does_not_fit_is_refused_by_name(small, case, call):
    frame, words = BAD_FRAMES[case]
    with pytest.raises(SchemaError, match=words) as refused:
        getattr(small, call)(frame)
    assert refused.value.hint


# Models ------------------------------------------------------------------------------------------------

BAD_STATES = {
    "two outputs": {"linear.weight": np.ones((2, 3)), "linear.bias": np.ones(2)},
    "two layers": {
        "a.weight": np.ones((4, 3)),
        "a.bias": np.ones(4),
        "b.weight": np.ones((1, 4)),
        "b.bias": np.ones(1),
    },
    "two layers of one output": {"a.weight": np.ones((1, 1)), "b.weight": np.ones((1, 1))},
    "foreign bias": {"a.weight": np.ones((1, 3)), "b.bias": np.ones(1)},
    "convolution": {"conv.weight": np.ones((1, 1, 3, 3)), "conv.bias": np.ones(1)},
    "no weight": {"bias": np.ones(1)},
    "counts": {"linear.weight": np.ones((1, 3), dtype=np.int64)},
    "nothing": {},
}


@pytest.mark.parametrize("case", BAD_STATES)
def test_a_model_that_is_not_logistic_is_refused_with_what_was_found(case):
    with pytest.raises(
        InferenceError, match=r"not a logistic one.*expected one linear layer with one output"
    ) as refused:
        Predictor.from_result(BAD_STATES[case], features=["a", "b", "c"])
    for name in list(BAD_STATES[case])[:1]:
        assert name in str(refused.value)


def test_moments_are_no_model(patients):
    result = LocalNetwork(patients[0][["mean_radius", "mean_texture"]], n_nodes=2).run(
        Moments("moments", ["mean_radius", "mean_texture"])
    )
    with pytest.raises(InferenceError, match="not a logistic one"):
        Predictor.from_result(result, features=["mean_radius", "mean_texture"])


def test_a_layer_without_a_bias_has_intercept_zero():
    model = Predictor.from_result({"weight": np.array([[1.0, 2.0]], dtype=np.float32)}, features=["a", "b"])
    assert model.intercept == 0.0
    assert model.coef.tolist() == [1.0, 2.0]


BAD_MODELS = {
    "shape": (lambda: Predictor(np.ones((2, 2)), 0.0, features=["a", "b"]), "not a logistic one"),
    "intercepts": (lambda: Predictor([1.0, 1.0], [0.0, 1.0], features=["a", "b"]), "not a logistic one"),
    "too few names": (lambda: Predictor([1.0, 1.0], features=["a"]), "2 weights, 1 features"),
    "one string": (lambda: Predictor([1.0], features="a"), "expected 1 to"),
    "repeated name": (lambda: Predictor([1.0, 1.0], features=["a", "a"]), "repeated"),
    "nan": (lambda: Predictor([np.nan], features=["a"]), "not finite"),
    "text": (lambda: Predictor(["x"], features=["a"]), "not a number"),
    "scaler of one": (lambda: Predictor([1.0], features=["a"], scaler=([0.0],)), "expected two things"),
    "zero deviation": (lambda: Predictor([1.0], features=["a"], scaler=([0.0], [0.0])), "not above 0"),
    "scaler width": (
        lambda: Predictor([1.0], features=["a"], scaler=([0.0, 1.0], [1.0, 1.0])),
        "1 finite numbers",
    ),
    "scaler names": (
        lambda: Predictor([1.0], features=["a"], scaler=(pd.Series({"b": 1.0}), [1.0])),
        "no 'a'",
    ),
    "no result": (lambda: Predictor.from_result(42, features=["a"]), "int was passed"),
}


@pytest.mark.parametrize("case", BAD_MODELS)
def test_a_model_that_contradicts_itself_is_refused(case):
    make, words = BAD_MODELS[case]
    with pytest.raises(InferenceError, match=words):
        make()


def test_the_hash_names_everything_that_a_prediction_depends_on(small):
    same = Predictor([1.0, -2.0], 0.5, features=["a", "b"], name="another name")
    others = [
        Predictor([1.0, -2.5], 0.5, features=["a", "b"]),
        Predictor([1.0, -2.0], 0.25, features=["a", "b"]),
        Predictor([1.0, -2.0], 0.5, features=["b", "a"]),
        Predictor([1.0, -2.0], 0.5, features=["a", "b"], scaler=([0, 0], [1, 1])),
    ]
    assert same.model_hash == small.model_hash
    assert len({small.model_hash, *(model.model_hash for model in others)}) == 5


def test_weights_cannot_be_changed_afterwards(small):
    with pytest.raises(ValueError, match="read-only"):
        small.coef[0] = 2.0


def test_a_predictor_shows_itself_escaped():
    model = Predictor([1.0], features=["<b>x</b>"], name="<script>")
    assert "1 features" in repr(model)
    assert "<script>" not in model._repr_html_()
    assert "<b>x</b>" not in model._repr_html_()
    assert "&lt;b&gt;" in model.card._repr_html_()


# The card ----------------------------------------------------------------------------------------------


def test_a_card_travels_and_holds_no_weight(predictor):
    content = predictor.card.to_bytes()
    assert ModelCard.from_bytes(content) == predictor.card
    assert repr(float(predictor.coef[0])).encode() not in content


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c[:-1],
        lambda c: c + b" ",
        lambda c: c.replace(b'"a"', b'"b"'),
        lambda c: c.replace(b"1.0", b"1"),
        lambda c: c.replace(b"1.0", b"NaN"),
        lambda c: c.replace(b"card 1", b"card 2"),
        lambda c: c.replace(b"[0.0,0.0]", b"null"),
        lambda _: b"[" * 50_000,
        lambda _: b"",
    ],
)
def test_a_changed_card_is_refused(change):
    card = ModelCard.of(["a", "b"], ([0.0, 0.0], [1.0, 1.0]))
    with pytest.raises(InferenceError, match="not a model card"):
        ModelCard.from_bytes(change(card.to_bytes()))


def test_a_card_that_is_too_long_for_the_desk_is_refused():
    card = ModelCard.of([f"{i:04}" + "x" * 180 for i in range(300)])
    with pytest.raises(InferenceError, match="limit"):
        card.to_bytes()
