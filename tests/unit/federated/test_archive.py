"""Tasks as bytes: they come back the same from files and cells, run only when approved, and hide nothing."""

import importlib.util
import inspect
import linecache
import struct
import sys
import textwrap
import traceback

import numpy as np
import pandas as pd
import pytest
import torch
from eth_hash.auto import keccak
from IPython.core.compilerop import CachingCompiler

from tests.unit.federated.conftest import Classifier
from twopm_kit import datasets, errors
from twopm_kit.federated import Criteria, LocalNetwork, LogitTask, Moments, Task
from twopm_kit.federated.archive import TaskArchive
from twopm_kit.federated.task import state_hash

IMPORTS = """
import numpy as np
import torch
import twopm_kit as kit
"""
NET = """
class Net(kit.federated.HorizontalLearning):
    def __init__(self, rounds, *sizes, weights=None, **options):
        super().__init__("net", rounds, **options)
        torch.manual_seed(5)
        self.sizes = sizes
        self.weights = weights
        self.model = torch.nn.Linear(4, 1)

    def dataset(self):
        return DATA

    def make_train_dataloader(self, dataset):
        return [torch.tensor(dataset.to_numpy(), dtype=torch.float32)]

    make_validate_dataloader = make_train_dataloader

    def train(self, dataloader):
        raise RuntimeError("never trained")

    def validate(self, dataloader):
        return {"loss": 0.0, "accuracy": 0.0}

    def state_dict(self):
        return self.model.state_dict()
"""
DATA = 'DATA = "rows"\n'
WHOLE = IMPORTS + DATA + NET


class Notebook:
    """Runs cells as a notebook does: one namespace, and each cell's text kept where IPython keeps it."""

    def __init__(self):
        self.names = {"__name__": "__main__"}
        self.compiler = CachingCompiler()
        self.count = 0

    def __call__(self, text):
        self.count += 1
        filename = self.compiler.cache(text, self.count)
        exec(compile(text, filename, "exec", dont_inherit=True), self.names)
        return self


@pytest.fixture
def notebook():
    return Notebook()


@pytest.fixture
def in_file(tmp_path, monkeypatch):
    """Return a function that imports a module from text."""

    def load(text, name="my_task"):
        path = tmp_path / f"{name}.py"
        path.write_text(text, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


def again(task):
    """Bring a task through its bytes, approved."""
    data = task.archive()
    found = Task.from_archive(data, approved=task.code_hash())
    assert found.archive() == data
    assert found.parameters() == task.parameters()
    assert found is not task
    return found


# Round trips ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "task",
    [
        LogitTask(
            "grades", "GRADE", ["GPA", "PSI"], criteria=Criteria(min_rows=3, allow_list=("0x" + "ab" * 20,))
        ),
        LogitTask("grades", target="GRADE", features=pd.Index(["GPA"]), tolerance=np.float64(1e-5)),
        Moments("scale", ["a", "b"], bound=5.0),
    ],
    ids=["logit", "logit-numpy", "moments"],
)
def test_tasks_of_the_kit_come_back_without_approval(task):
    found = Task.from_archive(task.archive())
    assert type(found) is type(task)
    assert found.archive() == task.archive()
    assert found.criteria == task.criteria
    assert not TaskArchive.of(task).is_foreign


def test_a_class_in_a_test_module_comes_back_and_computes_the_same(patients):
    task = Classifier(3, clip=0.5)
    found = again(task)
    assert type(found) is not Classifier
    assert found.clip == 0.5
    rows = patients[0].head(60)
    ours, theirs = (t.for_node("n").local_update(t.genesis(), rows, 1) for t in (task, found))
    assert np.array_equal(ours.values, theirs.values)
    assert np.array_equal(ours.metrics, theirs.metrics)


def test_a_class_in_a_file_comes_back(in_file):
    task = in_file(WHOLE).Net(3, 8, 16, weights=np.arange(6.0).reshape(2, 3), seed=4, clip=0.25)
    found = again(task)
    assert found.sizes == (8, 16)
    assert found.weights.shape == (2, 3)
    assert (found.seed, found.clip) == (4, 0.25)


def test_a_class_in_a_cell_comes_back(notebook):
    task = notebook(WHOLE).names["Net"](2)
    found = again(task)
    for name, value in task.genesis().items():
        assert np.array_equal(found.genesis()[name], value)


def test_cells_of_one_notebook_are_loaded_together(notebook):
    notebook(WHOLE)(
        "LABEL = 3\n\nclass Small(Net):\n    def finished(self, state):\n        return LABEL == 4\n"
    )
    task = notebook.names["Small"](2)
    assert not again(task).finished({})
    archive = TaskArchive.of(task)
    assert archive.source.index("class Net") < archive.source.index("class Small")


def test_a_cell_that_redefines_a_class_on_top_of_itself(notebook):
    notebook(WHOLE)("class Net(Net):\n    def finished(self, state):\n        return True\n")
    assert again(notebook.names["Net"](2)).finished({})


def test_a_class_without_methods_of_its_own(notebook):
    notebook(WHOLE)("class Named(Net):\n    metric_names = ()\n")
    assert "class Named" in TaskArchive.of(again(notebook.names["Named"](1))).source


def test_a_base_class_in_another_file_travels_too(in_file):
    in_file(WHOLE, "my_base")
    derived = "from my_base import DATA, Net\n\nclass Small(Net):\n    "
    derived += "def finished(self, state):\n        return bool(DATA)\n"
    task = in_file(derived, "my_derived").Small(1)
    data, code = task.archive(), task.code_hash()
    del sys.modules["my_base"], sys.modules["my_derived"]
    found = Task.from_archive(data, approved=code)
    assert found.finished({})
    assert found.archive() == data


def test_a_mixin_travels_too(notebook):
    notebook(WHOLE)("class Done:\n    def finished(self, state):\n        return True\n")
    notebook("class Small(Done, Net):\n    pass\n")
    assert again(notebook.names["Small"](1)).finished({})


def test_each_load_shares_nothing_with_another(notebook):
    task = notebook(WHOLE + "SEEN = []\n").names["Net"](1)
    one, two = again(task), again(task)
    sys.modules[type(one).__module__]
    inspect.unwrap(type(one).train).__globals__["SEEN"].append(1)
    assert inspect.unwrap(type(two).train).__globals__["SEEN"] == []


def test_tracebacks_and_inspect_show_the_source_of_a_loaded_task(notebook):
    found = again(notebook(WHOLE).names["Net"](1))
    assert "class Net" in inspect.getsource(type(found))
    with pytest.raises(RuntimeError) as raised:
        found.train([])
    linecache.checkcache()
    assert 'raise RuntimeError("never trained")' in "".join(traceback.format_exception(raised.value))


def test_a_random_first_model_travels(notebook):
    task = notebook(WHOLE.replace("torch.manual_seed(5)", "pass")).names["Net"](1)
    found = again(task)
    assert not np.array_equal(found.initial_state()["weight"], task.genesis()["weight"])
    assert np.array_equal(found.genesis()["weight"], task.genesis()["weight"])
    assert np.array_equal(found.for_node("n").genesis()["weight"], task.genesis()["weight"])


def test_how_arguments_were_passed_does_not_matter():
    one = LogitTask("t", "y", ["a"], bound=3.0, tolerance=0.1)
    other = LogitTask(tolerance=0.1, features=["a"], target="y", name="t", bound=3.0)
    assert one.archive() == other.archive()
    assert one.archive() != LogitTask("t", "y", ("a",), bound=3.0, tolerance=0.1).archive()


def test_what_happens_to_arguments_later_does_not_matter():
    features = ["a"]
    task = LogitTask("t", "y", features)
    before = task.archive()
    features.append("b")
    assert task.archive() == before


VALUES = """
class Holder(kit.federated.Moments):
    def __init__(self, value):
        super().__init__("holder", ["a"])
        self.value = value
"""


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -0.0,
        1e300,
        float("inf"),
        2**200,
        "‮ \ud800 text",
        (1, (2, [3])),
        {"b": 1, "a": {2: (3,)}, (1, 2): None},
        [{"tuple": [1]}, {"kit": "x", "fields": {}}],
        np.arange(3, dtype=">i2"),
        np.array(7.5),
        np.zeros((0, 3), dtype=bool),
        {"deep": [np.ones(2, dtype=np.float16)]},
        Criteria(3, allow_list=("x",)),
    ],
    ids=repr,
)
def test_values_come_back_exactly(notebook, value):
    found = again(notebook(IMPORTS + VALUES).names["Holder"](value)).value
    assert type(found) is type(value)
    assert repr(found) == repr(value.astype("i2") if getattr(value, "dtype", None) == ">i2" else value)


def test_tensors_come_back(notebook):
    tensor = torch.arange(6, dtype=torch.float32).reshape(2, 3).T
    found = again(notebook(IMPORTS + VALUES).names["Holder"]([tensor])).value
    assert torch.equal(found[0], tensor)


def test_nan_comes_back(notebook):
    assert np.isnan(again(notebook(IMPORTS + VALUES).names["Holder"](float("nan"))).value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (print, "builtin_function"),
        (b"x", "bytes"),
        ({1, 2}, "value is a builtins.set"),
        ([torch.nn.Linear(1, 1)], r"value\[0\] is a torch"),
        ({"k": object()}, r"value\['k'\] is a builtins.object"),
        (np.array(["a"]), "array of <U1"),
        (torch.ones(1, requires_grad=True), "NumPy cannot take"),
        (torch.ones(1, dtype=torch.bfloat16), "NumPy cannot take"),
        (2**300, "256 bits"),
        (pd.Series([1.0]), "Series"),
    ],
    ids=["function", "bytes", "set", "module", "object", "texts", "grad", "bfloat16", "wide", "series"],
)
def test_other_values_are_refused_with_the_path_to_them(notebook, value, words):
    task = notebook(IMPORTS + VALUES).names["Holder"](value)
    with pytest.raises(errors.TaskError, match=words):
        task.archive()


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: (v,), lambda v: {"k": v}])
def test_nesting_has_a_limit_and_comes_back_up_to_it(notebook, wrap):
    holder = notebook(IMPORTS + VALUES).names["Holder"]
    values = [1]
    while holder(values[-1])._recorded.fault is None:
        values.append(wrap(values[-1]))
    assert len(values) > 15
    again(holder(values[-2]))
    with pytest.raises(errors.TaskError, match="nested too deep"):
        holder(values[-1]).archive()


def test_a_list_that_holds_itself_is_refused(notebook):
    value = []
    value.append(value)
    with pytest.raises(errors.TaskError, match="nested"):
        notebook(IMPORTS + VALUES).names["Holder"](value).archive()


# Source that does not stand alone -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "cell", "words"),
    [
        (IMPORTS + DATA, NET, "the cell of the task uses `kit`, `torch`, `DATA`"),
        (DATA, IMPORTS + NET, "uses `DATA`"),
        ("", WHOLE + "\n\ndef f():\n    return network\n", "uses `network`"),
        ("", WHOLE + "import my_helpers\n", "imports `my_helpers`, which other nodes do not have"),
        ("", WHOLE + "WHERE = __file__\n", "uses `__file__`"),
        ("", WHOLE + "from torch.nn import *\n", "imports everything from torch.nn"),
        ("", WHOLE + "import tests.unit.federated\n", "imports `tests.unit.federated`"),
    ],
    ids=["imports", "constant", "function", "helpers", "place", "star", "local"],
)
def test_a_cell_that_needs_another_one_is_refused(notebook, in_file, first, cell, words):
    in_file("", "my_helpers")
    notebook.names["__file__"] = "here"
    notebook(first or "0")(cell)
    with pytest.raises(errors.TaskError, match=words) as raised:
        notebook.names["Net"](1).archive()
    assert raised.value.hint


def test_a_magic_in_the_cell_is_refused(notebook, monkeypatch):
    monkeypatch.setattr("builtins.get_ipython", lambda: 0, raising=False)  # where kernels keep it
    notebook(WHOLE + "get_ipython()\n")
    with pytest.raises(errors.TaskError, match="magic"):
        notebook.names["Net"](1).archive()


def test_a_cell_that_runs_the_task_is_refused(notebook):
    text = WHOLE + "\nPROOF = Net(1).archive()\n"
    notebook(text)
    data, code = notebook.names["PROOF"], notebook.names["Net"](1).code_hash()
    with pytest.raises(errors.TaskError, match="while it is being loaded"):
        Task.from_archive(data, approved=code)


def test_a_class_inside_a_function_is_refused():
    class Local(LogitTask):
        pass

    with pytest.raises(errors.TaskError, match="inside a function"):
        Local("t", "y", ["x"]).archive()


def test_a_class_without_source_is_refused():
    names = {"__name__": "nowhere"}
    exec(WHOLE, names)
    with pytest.raises(errors.TaskError, match="source of Net cannot be found"):
        names["Net"](1).archive()


def test_a_method_from_another_cell_is_refused(notebook):
    notebook(WHOLE)("def finished(self, state):\n    return True\n\nNet.finished = finished\n")
    with pytest.raises(errors.TaskError, match="finished of Net was written in another cell"):
        notebook.names["Net"](1).archive()


def test_a_task_that_was_changed_after_it_was_made_does_not_come_back(notebook):
    task = notebook(WHOLE).names["Net"](1)
    task.max_rounds = 7
    with pytest.raises(errors.TaskError, match="'max_rounds' in them"):
        Task.from_archive(task.archive(), approved=task.code_hash())


def test_the_source_is_the_one_that_ran_when_the_file_changes_later(in_file, tmp_path):
    module = in_file(WHOLE)
    (tmp_path / "my_task.py").write_text("raise SystemExit\n")
    assert "class Net" in TaskArchive.of(again(module.Net(1))).source


def test_a_network_runs_a_task_that_came_as_bytes():
    task = LogitTask("grades", "GRADE", ["PSI"], max_rounds=1)
    network = LocalNetwork(datasets.load("spector"), n_nodes=3)
    ours, theirs = network.run(task), network.run(Task.from_archive(task.archive()))
    assert np.allclose(ours.params, theirs.params, atol=1e-9)


# Approval -------------------------------------------------------------------------------------------------

TRAP = "import builtins\nbuiltins.__dict__.setdefault('_sprung', []).append(1)\n"


@pytest.fixture
def trap(notebook, monkeypatch):
    """Return an archive whose source leaves a trace when it runs, and the trace."""
    sprung = []
    monkeypatch.setattr("builtins._sprung", sprung, raising=False)
    data = notebook(TRAP + WHOLE).names["Net"](1).archive()
    sprung.clear()
    return data, sprung


def test_nothing_runs_before_approval(trap):
    data, sprung = trap
    archive = TaskArchive.from_bytes(data)
    assert "class Net" in archive.source
    assert archive._repr_html_()
    assert repr(archive)
    for approved, words in (
        (None, "nobody has approved"),
        (b"\x01" * 32, "was approved"),
        ("0x", "was approved"),
    ):
        with pytest.raises(errors.TaskError, match=words):
            Task.from_archive(data, approved=approved)
    assert sprung == []
    Task.from_archive(data, approved=archive.code_hash)
    assert sprung == [1]


def test_the_hashes_are_those_that_the_chain_holds(notebook):
    task = notebook(WHOLE).names["Net"](1)
    archive = TaskArchive.of(task)
    assert archive.code_hash == task.code_hash()
    assert archive.params_hash == keccak(task.parameters())
    assert archive.genesis_hash == state_hash(task.genesis())


def test_every_byte_is_covered_by_the_hashes(notebook):
    data = notebook(WHOLE).names["Net"](1, weights=np.ones(2)).archive()
    archive = TaskArchive.from_bytes(data)
    hashes = {name: getattr(archive, name) for name in ("code_hash", "params_hash", "genesis_hash")}
    assert archive.demand(**hashes) is archive
    for place in range(0, len(data), 7):
        altered = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises(errors.TaskError):
            TaskArchive.from_bytes(altered).demand(**hashes)
    for cut in (data[:-1], data + b"\0", data[:8], b"", None):
        with pytest.raises(errors.TaskError):
            TaskArchive.from_bytes(cut)


def sections(data):
    sizes = struct.unpack_from("<4Q", data, 9)
    at, parts = 41, []
    for size in sizes:
        parts.append(data[at : at + size])
        at += size
    return parts


def packed(parts):
    return struct.pack("<8sB4Q", b"2PM.task", 1, *map(len, parts)) + b"".join(parts)


@pytest.mark.parametrize(
    ("section", "old", "new", "words"),
    [
        (0, b'"name":"Moments"', b'"name":"Popen"', "does not define"),
        (
            0,
            b'"module":"twopm_kit.federated.moments","name":"Moments"',
            b'"module":"subprocess","name":"Popen"',
            "does not define",
        ),
        (
            0,
            b'"module":"twopm_kit.federated.moments","name":"Moments"',
            b'"module":"twopm_kit.federated.node","name":"Node"',
            "no task",
        ),
        (
            0,
            b'"module":"twopm_kit.federated.moments","name":"Moments"',
            b'"module":"tests.unit.federated.conftest","name":"Classifier"',
            "does not define",
        ),
        (0, b'"sources":[]', b'"sources":{}', "lack fields"),
        (0, b'"sources":[]', b'"sources":[],"t":1', "lack fields"),
        (0, b'"kit":', b'"kit": ', "canonical"),
        (0, b'"kit":"', b'"kit":"9', "was archived with"),
        (0, b'task.Task":"', b'task.Task":"0', "install the same version"),
        (
            0,
            b"twopm_kit.federated.task.Task",
            b"twopm_kit.federated.nothing.Task",
            "install the same version",
        ),
        (0, b"twopm_kit.federated.task.Task", b"twopm_kit.secagg.Task", "install the same version"),
        (1, b'"columns":["a"]', b'"columns":["b"]', "another task"),
        (1, b'"bound":5.0', b'"bound":{"float":"nan"}', "finite number"),
        (1, b'"bound":5.0', b'"bound":{"float":"12"}', "unknown form"),
        (1, b'"bound":5.0', b'"bound":{"array":"0"}', "unknown form"),
        (1, b'"bound":5.0', b'"bound":{"dict":[[[],1]]}', "unknown form"),
        (1, b'"bound":5.0', b'"bound":{"kit":"federated.Node","fields":{}}', "canonical"),
        (1, b'"bound":5.0', b'"bound":{"fields":{},"kit":"federated.Node"}', "does not offer"),
        (1, b'"bound":5.0', b'"bound":{"fields":{},"kit":"chain.connect"}', "does not offer"),
        (1, b'"bound":5.0', b'"bound":{"fields":{"x":1},"kit":"federated.Criteria"}', "cannot be made"),
        (1, b'"bound":5.0', b'"aaaaa":5.0', "does not take"),
        (1, b'"arguments":{', b'"arguments":{"":1,', "does not take"),
        (1, b'"bound":5.0', b'"bound":NaN', "canonical"),
        (1, b'"bound":5.0', b'"bound":' + b"[" * 5000 + b"]" * 5000, "canonical"),
        (2, b'"F64"', b'"F32"', "no arrays"),
        (3, b"", b"x", "lack fields"),
    ],
)
def test_a_crafted_archive_is_refused(section, old, new, words):
    parts = sections(Moments("scale", columns=["a"], bound=5.0).archive())
    assert old in parts[section]
    parts[section] = parts[section].replace(old, new, 1)
    with pytest.raises(errors.TwoPMError, match=words):
        Task.from_archive(packed(parts), approved=None)


def test_a_model_of_another_form_is_refused():
    parts = sections(Moments("scale", columns=["a"]).archive())
    parts[2] = sections(Moments("scale", columns=["a", "b"]).archive())[2]
    with pytest.raises(errors.TaskError, match="the archived model has"):
        Task.from_archive(packed(parts))


def test_a_format_of_another_version_is_refused():
    data = bytearray(Moments("scale", columns=["a"]).archive())
    data[8] = 2
    with pytest.raises(errors.TaskError, match="format version 2"):
        TaskArchive.from_bytes(bytes(data))


def test_a_section_that_is_too_large_is_refused():
    parts = sections(Moments("scale", columns=["a"]).archive())
    parts[0] += b" " * (1 << 22)
    with pytest.raises(errors.TaskError, match="at most"):
        TaskArchive.from_bytes(packed(parts))


def test_what_an_operator_reads_is_what_runs(notebook):
    hidden = "# \u202e\u2066 \x1b[2K \u200b <script>alert(1)</script>\n"
    archive = TaskArchive.of(notebook(WHOLE + hidden).names["Net"](1))
    assert "⟨U+202E⟩⟨U+2066⟩ ⟨U+001B⟩[2K ⟨U+200B⟩" in archive.source
    shown = archive._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert "⟨U+202E⟩" in shown
    assert "validate_interval" in shown
    assert archive.code_hash.hex() in shown
    assert "source that is not the kit" in shown


def test_source_that_fails_says_so(notebook):
    task = notebook(textwrap.dedent(WHOLE)).names["Net"](1)
    parts = sections(task.archive())
    parts[0] = parts[0].replace(b"class Net(", b"class Nut(")
    archive = TaskArchive.from_bytes(packed(parts))
    with pytest.raises(errors.TaskError, match="does not define 'Net'"):
        archive.load(approved=archive.code_hash)
    parts[0] = parts[0].replace(b"import torch", b"import no_such_package")
    archive = TaskArchive.from_bytes(packed(parts))
    with pytest.raises(errors.TaskError, match="does not run by itself: ModuleNotFoundError"):
        archive.load(approved=archive.code_hash)
