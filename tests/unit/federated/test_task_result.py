"""Results as files: they come back with task, model and story, and run nothing unapproved."""

import numpy as np
import pytest

from tests.unit.federated.conftest import Classifier
from twopm_kit import datasets, errors
from twopm_kit.federated import FederatedResult, LocalNetwork, LogitResult, LogitTask
from twopm_kit.federated.saved import load_result, pack_result, save_result, unpack_result


@pytest.fixture(scope="module")
def fitted():
    network = LocalNetwork(datasets.load("spector"), n_nodes=3)
    return network.run(LogitTask("grades", target="GRADE", features=["PSI"], max_rounds=2))


def test_a_fit_comes_back_from_a_file(fitted, tmp_path):
    path = save_result(fitted, tmp_path / "fit.2pm")
    assert [p.name for p in tmp_path.iterdir()] == ["fit.2pm"]
    found = load_result(path)
    assert isinstance(found, LogitResult)
    assert found.record == fitted.record
    assert found.params.equals(fitted.params)
    assert found.history.equals(fitted.history)
    assert found.gas.equals(fitted.gas)
    assert pack_result(found) == pack_result(fitted)


class Remembering(Classifier):
    """Its state has more than its result, as that of a strategy with a memory."""

    def initial_state(self):
        return {**super().initial_state(), "memory": np.zeros(3)}


def test_a_result_without_the_memory_of_training_comes_back(fitted):
    task = Remembering(1)
    model = {name: value for name, value in task.genesis().items() if name != "memory"}
    data = pack_result(FederatedResult(task, model, fitted.record))
    assert unpack_result(data, approved=task.code_hash()).state.keys() == model.keys()


def test_a_foreign_task_needs_approval(fitted):
    task = Classifier(1)
    data = pack_result(FederatedResult(task, task.genesis(), fitted.record))
    with pytest.raises(errors.TaskError, match="nobody has approved"):
        unpack_result(data)
    found = unpack_result(data, approved=task.code_hash())
    assert all(np.array_equal(found.state[name], value) for name, value in task.genesis().items())


def test_a_damaged_result_is_refused(fitted, tmp_path):
    data = pack_result(fitted)
    other = pack_result(FederatedResult(fitted.task, {"x": np.zeros(1)}, fitted.record))
    story = data.replace(b'"federated.RunRecord"', b'"federated.Criteria"')
    assert story != data
    cases = (b"", data[:-1], data + b"x", b"x" + data[1:], data[:8] + b"\2" + data[9:], other, story)
    for altered in cases:
        with pytest.raises(errors.TaskError):
            unpack_result(altered)
    with pytest.raises(errors.StoreError):
        load_result(tmp_path)
    with pytest.raises(errors.StoreError):
        load_result(tmp_path / "nothing")
