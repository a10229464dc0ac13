"""Publishes a notebook's metrics as an output that the series runner and the tests read back."""

import json
import math
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from twopm_kit.errors import NotebookError
from twopm_kit.notebook._show import publish, shell

RESULT_MIME: Final = "application/vnd.twopm.result+json"
WIDGET_MIME: Final = "application/vnd.jupyter.widget-view+json"
RUN_VARIABLE: Final = "SERIES_RUN_PARAMETERS"
"""Set by the series runner in its kernels: the names of the parameters that it has overridden, as JSON."""

Scalar: TypeAlias = bool | int | float | str | None


@dataclass(frozen=True)
class Result:
    """What one run of a notebook recorded.

    Attributes
    ----------
    metrics : dict
        Name to JSON scalar.
    parameters : dict
        The overridden parameters with the values that they had at the end of the run (runner only).
    executable : str
        The interpreter that ran the kernel (runner only, otherwise empty).
    """

    metrics: dict[str, Scalar]
    parameters: dict[str, Any] = field(default_factory=dict)
    executable: str = ""


def record(**metrics: Any) -> None:
    """Publish the notebook's metrics; the call stands in the last, hidden cell.

    Parameters
    ----------
    **metrics : bool, int, float, str or None
        JSON scalars; numpy scalars are converted. ``gas`` and the manifest's key metric appear in the table
        of ``twopm run``; the bounds in the manifest are asserted by the tests.

    Raises
    ------
    NotebookError
        When nothing is recorded, or when a value is not a finite JSON scalar.
    """
    if not metrics:
        raise NotebookError("record() was called without a metric", hint="record at least the key metric")
    result: dict[str, Any] = {"metrics": {name: _scalar(name, value) for name, value in metrics.items()}}
    if RUN_VARIABLE in os.environ:
        result |= _run_facts(json.loads(os.environ[RUN_VARIABLE]))
    # One metric a line: a page would break a long line inside a word.
    lines = [f"  {name} = {_short(value)}" for name, value in result["metrics"].items()]
    text = "\n".join(["recorded:", *lines])
    if not publish({RESULT_MIME: result, "text/plain": text}):
        sys.stdout.write(text + "\n")


def _short(value: Scalar) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _scalar(name: str, value: Any) -> Scalar:
    """Return ``value`` as a plain JSON scalar."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise NotebookError(
            f"the metric {name!r} is not a lower-case name", hint="name metrics like 'test_accuracy'"
        )
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        value = value.item()
    if value is not None and not isinstance(value, bool | int | float | str):
        raise NotebookError(
            f"the metric {name!r} is a {type(value).__name__}, expected a number, string, boolean or None",
            hint="record one number; convert it with float() or int()",
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise NotebookError(
            f"the metric {name!r} is {value}, expected a finite number",
            hint="find out where the computation lost its value before recording it",
        )
    # A scalar of a subclass (an enum, a SafeString) would not come back from JSON as what it was.
    for plain in (bool, int, float, str):
        if isinstance(value, plain):
            return plain(value)
    return None


def _run_facts(names: Iterable[str]) -> dict[str, Any]:
    """Return what only the series runner wants to know: the interpreter, and the overrides as they ended."""
    running = shell()
    namespace: Mapping[str, Any] = running.user_ns if running is not None else {}
    found = {name: namespace[name] for name in names if name in namespace}
    return {"executable": sys.executable, "parameters": json.loads(json.dumps(found, default=repr))}


def read_result(notebook: Mapping[str, Any]) -> Result | None:
    """Read back what an executed notebook recorded.

    Parameters
    ----------
    notebook : NotebookNode
        The executed notebook.

    Returns
    -------
    Result or None
        None when nothing was recorded.

    Raises
    ------
    NotebookError
        When there is more than one record: then it would be a matter of luck which one is asserted.
    """
    found = [
        output["data"][RESULT_MIME]
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
        if RESULT_MIME in output.get("data", {})
    ]
    if len(found) > 1:
        raise NotebookError(
            f"{len(found)} results were recorded, expected one", hint="call record() once, in the last cell"
        )
    if not found:
        return None
    return Result(
        metrics=dict(found[0]["metrics"]),
        parameters=dict(found[0].get("parameters", {})),
        executable=found[0].get("executable", ""),
    )
