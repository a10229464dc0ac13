"""Expected failures: shown when they come, failures themselves when they do not."""

import pytest

import twopm_kit as kit
from twopm_kit.errors import DataError, ExpectationFailed, NotebookError


def test_an_expected_error_is_shown_with_its_hint(capsys):
    with kit.expect_error(DataError, match="no rows") as refusal:
        raise DataError("the table has no rows", hint="pass a table with rows")
    assert capsys.readouterr().out == (
        "refused, as it should be: DataError: the table has no rows\n  → pass a table with rows\n"
    )
    assert isinstance(refusal.error, DataError)
    assert "DataError" in repr(refusal)


def test_one_of_several_classes_is_enough():
    with kit.expect_error((KeyError, ZeroDivisionError)):
        1 / 0  # noqa: B018


def test_nothing_failed():
    with (
        pytest.raises(ExpectationFailed, match="nothing failed, expected DataError"),
        kit.expect_error(DataError),
    ):
        pass


def test_another_error_came():
    with (
        pytest.raises(ExpectationFailed, match="ZeroDivisionError came") as caught,
        kit.expect_error(DataError),
    ):
        1 / 0  # noqa: B018
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_another_message_came():
    with (
        pytest.raises(ExpectationFailed, match="another message, expected DataError matching 'rows'"),
        kit.expect_error(DataError, match="rows"),
    ):
        raise DataError("no columns")


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_passes(interrupt):
    with pytest.raises(interrupt), kit.expect_error(Exception):
        raise interrupt


@pytest.mark.parametrize("kind", [(), "DataError", BaseException, DataError("x"), (DataError, 3)])
def test_what_is_no_class_of_errors_is_refused(kind):
    with pytest.raises(NotebookError, match="expected a class of errors"):
        kit.expect_error(kind)


def test_a_long_message_is_cut(capsys):
    with kit.expect_error(DataError):
        raise DataError("x" * 5000)
    assert len(capsys.readouterr().out) < 700


def test_html_is_escaped(monkeypatch):
    shown = []
    monkeypatch.setattr("twopm_kit.notebook.expectations.show", lambda *parts: shown.append(parts[1]))
    with kit.expect_error(DataError):
        raise DataError("<script>alert(1)</script>", hint="<img src=x>")
    assert "<script" not in shown[0]
    assert "<img" not in shown[0]
