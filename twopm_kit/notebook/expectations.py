"""Shows a failure that belongs to the lesson, and fails itself when nothing failed."""

import re
from contextlib import AbstractContextManager
from html import escape
from types import TracebackType
from typing import Final

from twopm_kit.errors import ExpectationFailed, NotebookError, TwoPMError
from twopm_kit.notebook._show import note, show

_LONGEST: Final = 600


class ExpectedError(AbstractContextManager["ExpectedError"]):
    """A block of code that must be refused; made by :func:`expect_error`.

    Attributes
    ----------
    error : Exception or None
        The error that came, once the block has ended.
    """

    def __init__(self, kinds: tuple[type[Exception], ...], match: str | None) -> None:
        self._kinds = kinds
        self._match = match
        self.error: Exception | None = None

    @property
    def _wanted(self) -> str:
        names = " or ".join(kind.__name__ for kind in self._kinds)
        return f"{names} matching {self._match!r}" if self._match else names

    def __enter__(self) -> "ExpectedError":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            raise ExpectationFailed(
                f"nothing failed, expected {self._wanted}",
                hint="find out why the call was accepted: this is the mistake that it must refuse",
            )
        if not isinstance(error, Exception):
            return False  # an interrupt belongs to the person at the keyboard
        if not isinstance(error, self._kinds):
            raise ExpectationFailed(
                f"{type(error).__name__} came, expected {self._wanted}: {_shortened(error)}",
                hint="read the error above: another thing went wrong than the one shown here",
            ) from error
        if self._match is not None and not re.search(self._match, str(error)):
            raise ExpectationFailed(
                f"{type(error).__name__} came with another message, expected {self._wanted}: "
                f"{_shortened(error)}",
                hint="correct the expression in match= or the call that is refused for another reason",
            ) from error
        self.error = error
        _show_refusal(error)
        return True

    def __repr__(self) -> str:
        state = f"got {type(self.error).__name__}" if self.error else "nothing yet"
        return f"<expects {self._wanted}: {state}>"


def expect_error(
    kind: type[Exception] | tuple[type[Exception], ...], *, match: str | None = None
) -> ExpectedError:
    """Expect the block to be refused, and show the refusal as part of the lesson.

    Parameters
    ----------
    kind : type or tuple of types
        The error class, or several.
    match : str, optional
        A regular expression that must be found in the error's text.

    Returns
    -------
    ExpectedError
        A context manager; ``.error`` holds the error afterwards.

    Raises
    ------
    ExpectationFailed
        When the block ends without an error, with an error of another class, or with another message.
    NotebookError
        When ``kind`` is not a class of errors.

    Examples
    --------
    >>> with expect_error(ZeroDivisionError):
    ...     1 / 0
    refused, as it should be: ZeroDivisionError: division by zero
    """
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not kinds or not all(isinstance(one, type) and issubclass(one, Exception) for one in kinds):
        raise NotebookError(
            f"expect_error was given {kind!r}, expected a class of errors",
            hint="pass the class itself, for example kit.errors.DataError",
        )
    return ExpectedError(kinds, match)


def _shortened(error: Exception) -> str:
    text = (error.message if isinstance(error, TwoPMError) else str(error)).strip()
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " …"


def _show_refusal(error: Exception) -> None:
    name, message = type(error).__name__, _shortened(error)
    hint = error.hint if isinstance(error, TwoPMError) else ""
    text = f"refused, as it should be: {name}: {message}" + (f"\n  → {hint}" if hint else "")
    lines = escape(message).replace("\n", "<br>")
    body = f"<code>{escape(name)}</code>: {lines}" + (f"<br>→ {escape(hint)}" if hint else "")
    show(text, note("✓ refused, as it should be:", "#0b7285", body))
