"""The parameters cell is read strictly, and overrides must fit it."""

import nbformat
import pytest

from twopm_kit.errors import ParameterError
from twopm_kit.notebook.parameters import (
    Parameter,
    injected,
    inspect,
    parse_cell,
    parse_override,
    validate_overrides,
)

MODE = 'MODE: str = "learn"  # fast | learn | full'


def test_a_cell_is_read():
    found = parse_cell(
        f"{MODE}\nROUNDS: int = 5  # how many\nRATES: list[float] = [0.5, 1]  # fast\nON: bool = True  # x"
    )
    assert found == [
        Parameter("MODE", "str", "learn", "fast | learn | full"),
        Parameter("ROUNDS", "int", 5, "how many"),
        Parameter("RATES", "list[float]", [0.5, 1], "fast"),
        Parameter("ON", "bool", True, "x"),
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ROUNDS = 5  # how many", "expected an annotated literal"),
        ("print(1)  # hello", "expected an annotated literal"),
        ("ROUNDS: int = 5", "has no comment"),
        ("ROUNDS: int = 2 + 3j  # how many", "expected a value of type int"),
        ("ROUNDS: int = len('ab')  # how many", "is not a literal"),
        ("ROUNDS: list[int] = [  # how many\n 1]", "does not stand on one line"),
        ('NOTE: str = "a=b"  # two', "one '='"),
        ("ROUNDS: int = 5.0  # how many", "expected a value of type int"),
        ("ROUNDS: int = True  # how many", "expected a value of type int"),
        ("ROUNDS: Path = 'x'  # where", "has the type Path"),
        ("ROUNDS: dict = {}  # what", "has the type dict"),
        ("ROUNDS: int  # how many", "one '='"),
        ("ROUNDS: int = (  # how many", "is not Python"),
        ("RATES: list[int] = [1, 'a']  # how many", "expected a value of type list"),
    ],
)
def test_a_line_that_is_odd_is_refused(line, words):
    with pytest.raises(ParameterError, match=words.replace("|", r"\|")) as caught:
        parse_cell(f"{MODE}\n{line}")
    assert caught.value.hint


PARAMETERS = {
    one.name: one
    for one in parse_cell(f"{MODE}\nROUNDS: int = 5  # a\nRATE: float = 1.0  # b\nXS: list[int] = [1]  # c")
}


@pytest.mark.parametrize("good", [{}, {"MODE": "fast"}, {"ROUNDS": 1, "RATE": 2}, {"RATE": 0.5, "XS": []}])
def test_overrides_that_fit(good):
    validate_overrides("x.ipynb", PARAMETERS, good)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"ROUND": 1}, "no parameter 'ROUND'; it has MODE, ROUNDS, RATE, XS"),
        ({"ROUNDS": "1"}, "expected a value of type int"),
        ({"ROUNDS": 1.0}, "expected a value of type int"),
        ({"ROUNDS": True}, "expected a value of type int"),
        ({"RATE": True}, "expected a value of type float"),
        ({"XS": [1.5]}, "expected a value of type list"),
        ({"MODE": "quick"}, "MODE is 'quick'"),
    ],
)
def test_overrides_that_do_not_fit(bad, words):
    with pytest.raises(ParameterError, match=words):
        validate_overrides("x.ipynb", PARAMETERS, bad)


def write(path, *cells):
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    for source, tags in cells:
        notebook.cells.append(nbformat.v4.new_code_cell(source, metadata={"tags": tags}))
    nbformat.write(notebook, path)
    return path


def test_a_notebook_is_inspected(tmp_path):
    path = write(tmp_path / "a.ipynb", ("x = 1", []), (f"{MODE}\nN: int = 3  # how many", ["parameters"]))
    assert list(inspect(path)) == ["MODE", "N"]


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([("x = 1", [])], "0 cells tagged"),
        ([(MODE, ["parameters"]), (MODE, ["parameters"])], "2 cells tagged"),
        ([("N: int = 3  # how many", ["parameters"])], "does not begin its parameters with MODE"),
        ([('MODE: str = "quick"  # mode', ["parameters"])], "does not begin its parameters with MODE"),
    ],
)
def test_a_notebook_without_proper_parameters_is_refused(tmp_path, cells, words):
    with pytest.raises(ParameterError, match=words):
        inspect(write(tmp_path / "a.ipynb", *cells))


def test_injected_values_are_read_back(tmp_path):
    import papermill

    path = write(tmp_path / "a.ipynb", (f"{MODE}\nN: int = 3  # how many", ["parameters"]))
    values = {"MODE": "fast", "N": 4, "X": [1.5, None, True], "S": 'it\'s "quoted"\n'}
    done = papermill.execute_notebook(
        str(path), None, parameters=values, prepare_only=True, kernel_name="python3", language="python"
    )
    assert injected(done) == values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("N=3", ("N", 3)),
        ("MODE=fast", ("MODE", "fast")),
        ("X=[1, 2]", ("X", [1, 2])),
        ("S='3'", ("S", "3")),
        ("E=", ("E", "")),
    ],
)
def test_overrides_on_the_command_line(text, expected):
    assert parse_override(text) == expected


@pytest.mark.parametrize("text", ["N", "=3", "1N=3", ""])
def test_odd_overrides_on_the_command_line(text):
    with pytest.raises(ParameterError, match="not of the form NAME=value"):
        parse_override(text)
