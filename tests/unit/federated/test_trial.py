"""What a newcomer passes by mistake: each slip is named, and none gives a wrong result."""

import struct

import numpy as np
import pandas as pd
import pytest
import torch
from eth_hash.auto import keccak

from twopm_kit import datasets, errors, secagg
from twopm_kit.errors import EncodingError, ProtocolError, RoundConfigError, StoreError, TaskError
from twopm_kit.federated import (
    Criteria,
    FaultTolerantFedAvg,
    FedAvgM,
    HorizontalAnalytics,
    HorizontalLearning,
    LocalNetwork,
    LogitTask,
    MNLogitTask,
    Moments,
    Privacy,
    Robust,
    load_result,
    save_result,
)
from twopm_kit.federated.saved import pack_result, unpack_result
from twopm_kit.secagg import RoundConfig


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(4)
    rows = pd.DataFrame(rng.normal(3.0, 2.0, size=(60, 2)), columns=["a", "b"])
    return rows.assign(y=(rows["a"] + rng.normal(0, 2, 60) > 3).astype(int), g=rng.integers(0, 2, 60))


# A network's configuration does not change what a task promises ------------------------------------------


@pytest.mark.parametrize("clip", [1.0, 1000.0])
def test_four_lanes_of_a_network_do_not_cut_exact_sums(frame, clip):
    network = LocalNetwork(frame, n_nodes=3, config=RoundConfig(clip=clip, lanes=4, mode="commit"))
    study = HorizontalAnalytics("study", columns=["a"])
    assert study.collect(network, study["a"].mean()) == pytest.approx(frame["a"].mean(), rel=1e-12)
    found = network.run_in_clear(Moments("moments", ["a", "b"]))
    assert found.mean.to_numpy() == pytest.approx(frame[["a", "b"]].mean().to_numpy(), rel=1e-12)


@pytest.mark.parametrize(
    "task",
    [
        LogitTask("logit", "y", ["a"]),
        MNLogitTask("classes", "y", ["a"], classes=2),
        Moments("moments", ["a"]),
        HorizontalAnalytics("study", columns=["a"]).ask(HorizontalAnalytics("study", columns=["a"]).size()),
    ],
    ids=lambda task: type(task).__name__,
)
def test_exact_tasks_keep_their_encoding_and_take_the_rest(task):
    wanted = RoundConfig(clip=1.0, lanes=4, gamma=0.2, delta=0.2, mode="blob", visibility="sealed")
    own, adapted = task.config(), task.with_config(wanted).config()
    kept = ("clip", "value_bits", "lanes", "min_clients", "max_clients", "max_weight", "groups")
    assert [getattr(adapted, name) for name in kept] == [getattr(own, name) for name in kept]
    taken = ("gamma", "delta", "mode", "visibility")
    assert [getattr(adapted, name) for name in taken] == [getattr(wanted, name) for name in taken]


def test_a_network_cannot_switch_off_the_noise_of_a_task(classifier):
    private = classifier(privacy=Privacy(noise_multiplier=2.0, clip_norm=0.5))
    adapted = private.with_config(RoundConfig(clip=0.5, value_bits=18, lanes=4, mode="commit")).config()
    for name, value in private.privacy.round_fields().items():
        assert getattr(adapted, name) == value
    assert (adapted.clip, adapted.value_bits, adapted.lanes, adapted.mode) == (0.5, 18, 4, "commit")


def test_a_network_that_contradicts_the_noise_of_a_task_is_refused(classifier):
    private = classifier(privacy=Privacy(noise_multiplier=2.0, clip_norm=0.5))
    other = RoundConfig(clip=1.0, clip_norm=0.5, noise_multiplier=1.0)
    with pytest.raises(TaskError, match="noise_multiplier=1"):
        private.with_config(other).config()


def test_a_network_cannot_put_all_nodes_into_one_group(classifier):
    strategy = FaultTolerantFedAvg(min_clients=6)
    robust = classifier(robust=Robust(groups=3))
    robust.min_clients = strategy.min_clients
    assert robust.with_config(RoundConfig(clip=1.0)).config().groups == 3


@pytest.mark.parametrize("most", [5, 100])
def test_weights_follow_the_configuration_in_use(classifier, most):
    task = classifier()
    task.max_clients = most
    running = task.with_config(RoundConfig(clip=1.0))  # its largest weight was worked out for 50 clients
    config = running.config()
    assert config.max_weight == RoundConfig(clip=1.0, max_clients=most).max_weight
    assert running.with_config(RoundConfig(clip=1.0, max_weight=7)).config().max_weight == 7
    rows = pd.DataFrame(np.zeros((3000, 31)), columns=[*map(str, range(30)), "target"])
    update = running.local_update(running.genesis(), rows, 1)
    assert update.weight <= config.weight_limit
    assert update.metric_weight <= config.weight_limit


def test_metrics_are_cut_to_the_bound_in_use(classifier, hospitals):
    running = classifier().with_config(RoundConfig(clip=1.0, metric_bound=0.125))
    update = running.local_update(running.genesis(), hospitals["hospital-1"], 1)
    assert np.abs(update.metrics).max() == 0.125


# What cannot be merged is refused ----------------------------------------------------------------------


class Shaped(HorizontalLearning):
    """A model that is nearly one."""

    def __init__(self, kind: str):
        super().__init__("shaped", 1)
        self.kind = kind
        self.model = torch.nn.LazyLinear(1) if kind == "lazy" else torch.nn.Linear(30, 1)
        if kind == "bfloat16":
            self.model.bfloat16()
        if kind == "complex":
            self.model.register_parameter("phase", torch.nn.Parameter(torch.zeros(2, dtype=torch.complex64)))

    def dataset(self):
        return ""

    def make_train_dataloader(self, dataset):
        return [dataset]

    def make_validate_dataloader(self, dataset):
        return [dataset]

    def train(self, dataloader):
        del dataloader

    def validate(self, dataloader):
        del dataloader
        return {"loss": "high", "accuracy": 0.0}

    def state_dict(self):
        found = self.model.state_dict()
        if self.kind == "names":
            self.count = getattr(self, "count", 0) + 1
            return {f"{name}{self.count}": tensor for name, tensor in found.items()}
        return found


@pytest.mark.parametrize("kind", ["bfloat16", "complex", "lazy", "names"])
def test_tensors_that_cannot_be_merged_are_named(kind, hospitals):
    with pytest.raises(TaskError, match="state_dict") as caught:
        Shaped(kind).check(hospitals["hospital-1"])
    assert caught.value.hint


def test_wrong_validation_is_named(hospitals):
    for part in ("a", None):
        with pytest.raises(TaskError, match="validate_frac"):
            HorizontalPart(part)
    task = Shaped("plain")
    with pytest.raises(TaskError, match="no number"):
        task.local_update(task.genesis(), hospitals["hospital-1"], 1)


class HorizontalPart(Shaped):
    """A model that keeps some part of the rows for validation."""

    def __init__(self, part: object):
        HorizontalLearning.__init__(self, "part", 1, validate_frac=part)


def test_momentum_is_one_number():
    for momentum in (np.ones(2), False):
        with pytest.raises(TaskError, match="momentum"):
            FedAvgM(momentum=momentum)


@pytest.mark.parametrize(
    "options",
    [
        {"seed": None},
        {"seed": "a"},
        {"seed": -1},
        {"metrics": None},
    ],
    ids=str,
)
def test_wrong_settings_of_learning_are_named(classifier, options):
    with pytest.raises(TaskError, match=next(iter(options))):
        classifier(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"features": None},
        {"features": 5},
        {"features": [["a"]]},
        {"intercept": "no"},
        {"intercept": None},
        {"ridge": np.ones(2)},
        {"ridge": 10**400},
        {"tolerance": np.ones(2)},
    ],
    ids=lambda options: next(iter(options)),
)
def test_wrong_settings_of_a_logit_are_named(options):
    with pytest.raises(TaskError, match=next(iter(options))) as caught:
        LogitTask("logit", **{"target": "y", "features": ["a"], **options})
    assert caught.value.hint


def test_numpy_truth_values_are_truth_values():
    assert LogitTask("logit", "y", ["a"], intercept=np.bool_(False)).terms == ["a"]


def test_a_huge_number_of_classes_is_refused_before_it_fills_the_memory():
    with pytest.raises(TaskError, match="classes is 1000000000"):
        MNLogitTask("classes", "y", ["a"], classes=10**9)


def test_statistics_that_overflow_are_beyond_the_bound(frame):
    task = LogitTask("logit", "y", ["a"])
    with pytest.raises(EncodingError, match="bound"):
        task.local_update(task.genesis(), frame.assign(a=1e300 * frame["a"]), 1)


# Questions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "categories"),
    [
        (None, None),
        (5, None),
        ([0, 1], None),
        (["a"], ["g"]),
        (["a"], {0: [0, 1]}),
        (["a"], {"g": [[0]]}),
        (["a"], {"g": [False, True]}),
    ],
)
def test_wrong_columns_of_a_study_are_named(columns, categories):
    with pytest.raises(TaskError) as caught:
        HorizontalAnalytics("study", columns, categories)
    assert caught.value.hint


def test_a_study_may_have_categories_alone():
    assert list(HorizontalAnalytics("study", categories={"g": [0, 1]}).schema) == ["g"]
    assert list(HorizontalAnalytics("study", ["g"], categories={"g": [0, 1]}).schema) == ["g"]


def test_wrong_arguments_of_a_study_are_named():
    study = HorizontalAnalytics("study", columns=["a"])
    for values in (5, None, []):
        with pytest.raises(TaskError, match="values is"):
            study["a"].isin(values)
    with pytest.raises(TaskError, match="network is None"):
        study.collect(None, study.size())


# Results -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted(frame):
    return LocalNetwork(frame, n_nodes=3).run_in_clear(LogitTask("logit", "y", ["a"]))


def test_a_result_is_whole_or_refused(fitted, tmp_path):
    path = save_result(fitted, tmp_path / "fit.2pm")
    content = path.read_bytes()
    assert load_result(path).params.equals(fitted.params)
    for at in range(0, len(content), 97):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(TaskError):
            load_result(path)


def test_a_hash_that_fits_does_not_make_a_story(fitted):
    front, data = struct.Struct("<8sB3Q32s"), pack_result(fitted)
    magic, version, *sizes, _ = front.unpack_from(data)
    body = data[front.size :].replace(b'"federated.RunRecord"', b'"federated.Criteria"')
    sizes[2] += len(body) + front.size - len(data)
    with pytest.raises(TaskError):
        unpack_result(front.pack(magic, version, *sizes, keccak(body)) + body)


def test_places_that_cannot_hold_a_result_are_named(fitted, tmp_path):
    for path in (tmp_path, tmp_path / "nowhere" / "fit.2pm", None, 5, ""):
        with pytest.raises(StoreError) as caught:
            fitted.save(path)
        assert caught.value.hint
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StoreError, match="path"):
        load_result(None)
    with pytest.raises(TaskError, match="no result"):
        save_result(None, tmp_path / "fit.2pm")
    with pytest.raises(TaskError, match="alpha"):
        fitted.conf_int("a")


# A simulated round -------------------------------------------------------------------------------------

VECTORS = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)


@pytest.mark.parametrize(
    "weights", [[1.9] * 5, [float("nan")] * 5, ["a"] * 5, 3, "11111", [True] * 5, [0] * 5], ids=str
)
def test_weights_that_are_no_whole_numbers_are_refused(weights):
    with pytest.raises(EncodingError, match="weight"):
        secagg.simulate(VECTORS, weights=weights)


def test_whole_weights_of_any_kind_count():
    for kind in (list, np.array, lambda weights: np.array(weights, np.float64)):
        assert secagg.simulate(VECTORS, weights=kind([1, 2, 3, 4, 5])).weight == 15


@pytest.mark.parametrize(
    "vectors",
    [None, 5, "ab", {0: VECTORS[0], 1: VECTORS[1]}, VECTORS[0], [["a"], ["b"]], [["1"], ["2"]], VECTORS + 1j],
    ids=lambda vectors: type(vectors).__name__,
)
def test_vectors_that_are_none_are_refused(vectors):
    with pytest.raises(EncodingError) as caught:
        secagg.simulate(vectors)
    assert caught.value.hint


def test_rows_of_frames_tensors_and_generators_are_vectors():
    expected = VECTORS.mean(axis=0)
    for vectors in (pd.DataFrame(VECTORS), torch.tensor(VECTORS), (row for row in VECTORS), list(VECTORS)):
        found = secagg.simulate(vectors)
        assert found.mean == pytest.approx(expected, abs=found.step)


@pytest.mark.parametrize(
    "drop",
    [7, "submit", ["a", 9], {"submit": 9}, {"submit": None}, {"submit": "a"}, [1.5], [True], {"x": [0]}],
)
def test_drops_that_name_nobody_are_refused(drop):
    with pytest.raises(ProtocolError, match="drop names"):
        secagg.simulate(VECTORS, drop=drop)


def test_drops_may_be_one_member_or_an_array():
    for drop in (1, [1], np.array([1]), {"submit": 1}, {"submit": {1}}):
        assert secagg.simulate(VECTORS, drop=drop).survivors == (0, 2, 3, 4)


def test_a_configuration_of_another_kind_is_refused():
    for config in ("x", {}):
        with pytest.raises(RoundConfigError, match="config is"):
            secagg.simulate(VECTORS, config=config)


def test_every_error_here_has_a_hint():
    with pytest.raises(errors.TwoPMError) as caught:
        secagg.simulate([])
    assert caught.value.hint


def test_networks_name_slips_in_names_config_and_drops():
    frame = datasets.load("spector")
    for arguments, words in (
        ({"frames": {1: frame, "1": frame, 2: frame}}, "3 frames have 2 names"),
        ({"frames": {"task owner": frame, "b": frame}}, "names of parties"),
        ({"frames": [frame, frame], "config": "direct"}, "a RoundConfig was expected"),
    ):
        with pytest.raises(errors.TaskError, match=words):
            LocalNetwork(**arguments)
    network = LocalNetwork(frame, n_nodes=3, config=RoundConfig(clip=1.0))
    task = LogitTask("t", target="GRADE", features=["PSI"], max_rounds=1)
    for drop in ({1: 5}, {1: None}, {1: {"submit": 5}}):
        with pytest.raises(errors.TaskError, match="list of nodes"):
            network.run(task, drop=drop)
    crowd = LogitTask("t", target="GRADE", features=["PSI"], max_clients=129)
    with pytest.raises(errors.TaskError, match="at most 128"):
        network.run(crowd)
    with pytest.raises(errors.TaskError, match="criteria"):
        LogitTask("t", target="GRADE", features=["PSI"], criteria="x")


def test_an_observer_that_fails_holds_back_no_stake():
    network = LocalNetwork(datasets.load("spector"), n_nodes=3)
    task = LogitTask("t", target="GRADE", features=["PSI"], max_rounds=1, criteria=Criteria(min_stake=1000))

    def failing(event):
        if event.step in {"join", "finish"}:
            raise errors.DataError("broken board", hint="mend it")

    with pytest.raises(errors.DataError):
        network.run(task, observe=failing)
    assert network.chain.balance(network.contract.address) == 0
