"""Exercises: kind feedback, and nothing raised because of an answer."""

import numpy as np
import pandas as pd
import pytest

import twopm_kit as kit
from twopm_kit.errors import NotebookError


@pytest.mark.parametrize("attempt", [None, ...])
def test_an_open_answer_is_neither_right_nor_wrong(attempt, capsys):
    assert kit.check("a sum", attempt, 4) is None
    assert kit.check("a sum", attempt, predicate=lambda answer: answer.impossible) is None
    assert "a sum: not tried yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("attempt", "expected", "tolerance", "verdict"),
    [
        (4, 4, 0, True),
        (5, 4, 0, False),
        (4.0, 4, 0, True),
        (4.1, 4, 0.2, True),
        (4.3, 4, 0.2, False),
        (float("nan"), 4, 100, False),
        (np.float64(4), 4, 0, True),
        (4, np.int64(4), 0, True),
        (True, 1, 0, False),
        ("four", 4, 0, False),
        ("a", "a", 0, True),
        ("a", "b", 0, False),
        (1, True, 0, False),
        ({"a": 1}, {"a": 1}, 0, True),
        ([1, 2], [1, 2], 0, True),
        ((1, 2.05), [1, 2], 0.1, True),
        ([1, 2, 3], [1, 2], 0, False),
        (["x"], [1], 0, False),
        (np.array([1.0, 2.0]), np.array([1.0, 2.0]), 0, True),
        (np.array([1.0, np.nan]), np.array([1.0, 2.0]), 9, False),
        ([1.0, 2.0], np.array([1.0, 2.5]), 0.1, False),
        (np.array(["a", "b"]), np.array(["a", "b"]), 0, True),
        (pd.Series([1.0, 2.0]), pd.Series([1.0, 2.0]), 0, True),
        (pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [1, 3]}), 0, False),
    ],
)
def test_answers_are_judged(attempt, expected, tolerance, verdict, capsys):
    assert kit.check("it", attempt, expected, tolerance=tolerance) is verdict
    assert capsys.readouterr().out.startswith("✓ it: right." if verdict else "✗ it: not yet:")


def test_tensors_are_judged():
    import torch

    assert kit.check("it", torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0])) is True
    assert kit.check("it", [1.0, 2.5], torch.tensor([1.0, 2.0])) is False


def test_a_predicate_judges_what_an_answer_does(capsys):
    assert kit.check("double", lambda x: 2 * x, predicate=lambda double: double(21) == 42) is True
    assert kit.check("double", lambda x: x, predicate=lambda double: double(21) == 42, hint="Try 2.") is False
    assert "Try 2." in capsys.readouterr().out


class Explosive:
    def __eq__(self, other):
        raise ZeroDivisionError("boom")

    def __sub__(self, other):
        raise ZeroDivisionError("boom")

    __hash__ = None


def test_an_answer_that_cannot_be_examined_is_only_wrong(capsys):
    assert kit.check("it", 3, predicate=lambda answer: answer.nothing) is False
    assert "AttributeError" in capsys.readouterr().out
    assert kit.check("it", Explosive(), 3) is False
    assert kit.check("it", Explosive(), Explosive()) is False


def test_the_expected_value_is_not_shown(capsys):
    kit.check("it", 3, 123456789)
    kit.check("it", "x", "the answer")
    out = capsys.readouterr().out
    assert "123456789" not in out
    assert "the answer." not in out.replace("the answer is", "")


@pytest.mark.parametrize(
    "arguments", [{}, {"expected": 1, "predicate": bool}, {"expected": 1, "tolerance": -1}]
)
def test_an_exercise_that_is_wrong_itself_is_refused(arguments):
    with pytest.raises(NotebookError):
        kit.check("it", ..., **arguments)


def test_none_can_be_expected():
    assert kit.check("it", 3, None) is False
