"""Executes the notebook series headlessly, one kernel after the other, and judges what came out.

A notebook passes when every cell ran in this environment's own interpreter, inside its time limits, off the
network, without unapproved words on standard error, with every override in effect, and with every metric of
the manifest recorded and within its bound.
"""

import json
import math
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import papermill
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from twopm_kit.errors import CellTimeout, NotebookError, ParameterError, TwoPMError
from twopm_kit.notebook import kernels, parameters
from twopm_kit.notebook.files import place, read_notebook
from twopm_kit.notebook.manifest import Entry, Series
from twopm_kit.notebook.modes import validate_mode
from twopm_kit.notebook.results import RUN_VARIABLE, Result, Scalar, read_result

BANNED_TAGS: Final = ("raises-exception", "skip-execution")
_TIMEOUT_TAG: Final = re.compile(r"timeout-(\d+)")

OnCell = Callable[[], object]


@dataclass(frozen=True)
class Run:
    """One executed notebook that passed."""

    path: Path
    notebook: NotebookNode = field(repr=False)
    result: Result
    seconds: float


@dataclass(frozen=True)
class Row:
    """One line of the runner's table."""

    name: str
    shows: str
    metric: str
    value: Scalar
    seconds: float
    gas: int | None
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Tell whether the notebook passed."""
        return not self.problem


def count_cells(path: Path) -> int:
    """Return the number of code cells, for a progress bar; 0 when the file cannot be read as a notebook."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError):
        return 0
    return sum(cell.get("cell_type") == "code" and bool(cell.get("source")) for cell in cells)


def run_notebook(
    path: Path,
    entry: Entry,
    *,
    mode: str = "fast",
    overrides: Mapping[str, Any] | None = None,
    output: Path,
    inject: bool = True,
    on_cell: OnCell | None = None,
) -> Run:
    """Execute one notebook and judge it.

    Parameters
    ----------
    path : Path
        The notebook.
    entry : Entry
        What the manifest says about it.
    mode : str
        ``fast``, ``learn`` or ``full``.
    overrides : mapping, optional
        Parameters to override besides the manifest's.
    output : Path
        The folder for the executed notebook. It lands there under its own name only when it passed; a
        failed run is kept as ``name.failed.ipynb``.
    inject : bool
        False runs the notebook with the parameters that it has; papermill then adds no cell to it.
    on_cell : callable, optional
        Called after each code cell.

    Returns
    -------
    Run

    Raises
    ------
    ParameterError
        Unknown, ill-typed or ineffective override; no parameters cell.
    CellTimeout
        A cell, or the notebook as a whole, took longer than it may.
    NotebookError
        Anything else that makes the notebook fail; the message names the cell.
    """
    validate_mode(mode)
    source = read_notebook(path)
    values = {"MODE": mode, **entry.parameters.get(mode, {}), **(overrides or {})} if inject else {}
    parameters.validate_overrides(path.name, parameters.inspect(path), values)
    for tag in BANNED_TAGS:
        if found := parameters.tagged(source, tag):
            raise NotebookError(
                f"cell {found[0] + 1} of {path.name} has the tag {tag!r}",
                hint="show a failure with kit.expect_error(...) instead",
            )
    output.mkdir(parents=True, exist_ok=True)
    final, failed = output / path.name, output / f"{path.stem}.failed.ipynb"
    final.unlink(missing_ok=True)
    failed.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="twopm-") as scratch:
        executed = Path(scratch) / "executed.ipynb"
        started = time.monotonic()
        try:
            _execute(path, source, executed, Path(scratch), entry, mode, values, on_cell)
            seconds = time.monotonic() - started
            notebook = read_notebook(executed)
            result = _judge(path.name, notebook, entry, values)
        except NotebookError:
            if executed.exists():
                place(executed, failed)
            raise
        place(executed, final)
    return Run(final, notebook, result, seconds)


def _execute(
    path: Path,
    source: NotebookNode,
    executed: Path,
    scratch: Path,
    entry: Entry,
    mode: str,
    values: Mapping[str, Any],
    on_cell: OnCell | None,
) -> None:
    """Run the notebook with papermill in its own kernel, folder and environment."""
    deadline = time.monotonic() + entry.limit(mode)
    work = scratch / "work"
    work.mkdir()
    environment = {
        "PYTHONPATH": str(kernels.write_offline_hook(scratch / "offline")),
        "IPYTHONDIR": str(scratch / "ipython"),  # a user's start-up files do not belong to the series
        "TWOPM_MODE": mode,
        RUN_VARIABLE: json.dumps(sorted(values)),
    }
    specifications = kernels.write_kernelspec(scratch / "jupyter", environment)

    def seconds_for(cell: NotebookNode) -> float:
        tags = [_TIMEOUT_TAG.fullmatch(tag) for tag in cell.metadata.get("tags", [])]
        longest = max((float(tag[1]) for tag in tags if tag), default=entry.cell_seconds)
        return max(0.05, min(longest, deadline - time.monotonic()))

    def cell_done(**_: Any) -> None:
        if on_cell is not None:
            on_cell()

    try:
        papermill.execute_notebook(
            str(path),
            str(executed),
            parameters=dict(values),
            kernel_name=kernels.KERNEL_NAME,
            language="python",
            progress_bar=False,
            cwd=str(work),
            timeout_func=seconds_for,
            kernel_manager_class=kernels.manager_class(specifications, scratch / "k"),
            store_widget_state=False,
            coalesce_streams=True,
            on_cell_executed=cell_done,
        )
    except PapermillExecutionError as error:
        number = _number(source, error.cell_index, values)
        raise NotebookError(
            f"cell {number} of {path.name} failed with {error.ename}: {error.evalue}",
            hint=f"open {path.stem}.failed.ipynb among the executed notebooks: it ends where it failed",
        ) from error
    except CellTimeoutError as error:
        whole = time.monotonic() >= deadline
        limit = entry.limit(mode) if whole else entry.cell_seconds
        raise CellTimeout(
            f"{'the whole of ' if whole else 'a cell of '}{path.name} took longer than it may "
            + (f"({limit:g} s in {mode} mode)" if whole else f"(its own timeout tag, or {limit:g} s)"),
            hint="do less in fast mode, or raise the limit in series.toml"
            if whole
            else "do less in the cell, or give it a tag such as timeout-120",
        ) from error
    except DeadKernelError as error:
        raise NotebookError(
            f"the kernel of {path.name} died without a word",
            hint="look at the machine's memory first: the system ends a process that asks for too much",
        ) from error


def _number(source: NotebookNode, index: int, values: Mapping[str, Any]) -> int:
    """Return the number, in the file that its author knows, of a cell of the executed notebook."""
    injected = bool(values) and index > parameters.tagged(source, "parameters")[0]
    return index + 1 - injected


def _judge(name: str, notebook: NotebookNode, entry: Entry, values: Mapping[str, Any]) -> Result:
    """Return the result of an executed notebook, or raise what is wrong with it."""
    _judge_stderr(name, notebook, entry)
    result = read_result(notebook)
    if result is None:
        raise NotebookError(
            f"{name} recorded no result", hint="end it with a hidden cell that calls kit.notebook.record(...)"
        )
    if result.executable != sys.executable:
        raise NotebookError(
            f"{name} ran in another Python than this one",
            hint="look for something that replaces the kernel, such as a start-up script",
        )
    _judge_overrides(name, notebook, result, values)
    for metric, bound in entry.metrics.items():
        if metric not in result.metrics:
            raise NotebookError(
                f"{name} did not record the metric {metric!r}; it recorded {', '.join(result.metrics)}",
                hint="add it to the call of kit.notebook.record in the last cell",
            )
        if not bound.accepts(result.metrics[metric]):
            raise NotebookError(
                f"{name}: {metric} is {result.metrics[metric]!r}, expected {bound}",
                hint="look for the change that made it so; the bound is a promise to readers",
            )
    return result


def _judge_stderr(name: str, notebook: NotebookNode, entry: Entry) -> None:
    before = 0  # cells that papermill has put in
    for index, cell in enumerate(notebook.cells):
        before += "injected-parameters" in cell.metadata.get("tags", [])
        for output in cell.get("outputs", []):
            if output.output_type != "stream" or output.name != "stderr":
                continue
            for line in filter(str.strip, output.text.splitlines()):
                if not any(re.search(pattern, line) for pattern in entry.stderr):
                    number, words = index + 1 - before, line.strip()[:300]
                    raise NotebookError(
                        f"cell {number} of {name} wrote to standard error: {words!r}",
                        hint="correct its cause (usually a warning), or approve it in series.toml",
                    )


def _judge_overrides(name: str, notebook: NotebookNode, result: Result, values: Mapping[str, Any]) -> None:
    """Make sure that each override was injected, and still stood when the notebook ended."""
    given = parameters.injected(notebook)
    for key, value in values.items():
        for where, found in (("injected", given), ("at the end", result.parameters)):
            if key not in found or found[key] != value:
                raise ParameterError(
                    f"{name}: {key} was to be {value!r}, but was {found.get(key)!r} ({where})",
                    hint=f"do not assign {key} again after the parameters cell",
                )


def run_series(
    series: Series,
    entries: Iterable[Entry],
    *,
    mode: str,
    output: Path,
    overrides: Mapping[str, Any] | None = None,
    on_start: Callable[[Entry], object] | None = None,
    on_cell: OnCell | None = None,
) -> list[Row]:
    """Execute notebooks one after the other and go on after one that fails.

    Parameters
    ----------
    series : Series
        The manifest.
    entries : iterable of Entry
        What to run, in this order. Kernels never run at the same time: they would race for ports.
    mode, output, overrides, on_cell
        As for :func:`run_notebook`.
    on_start : callable, optional
        Called with each entry before it runs.

    Returns
    -------
    list of Row
        One for each entry.
    """
    rows = []
    for entry in entries:
        if on_start is not None:
            on_start(entry)
        started = time.monotonic()
        try:
            run = run_notebook(
                series.path(entry), entry, mode=mode, overrides=overrides, output=output, on_cell=on_cell
            )
        except TwoPMError as error:
            spent = time.monotonic() - started
            rows.append(Row(entry.name, entry.shows, entry.metric, None, spent, None, str(error)))
        else:
            metrics = run.result.metrics
            gas = metrics.get("gas")
            rows.append(
                Row(
                    entry.name,
                    entry.shows,
                    entry.metric,
                    metrics[entry.metric],
                    run.seconds,
                    int(gas) if isinstance(gas, int | float) and math.isfinite(gas) else None,
                )
            )
    return rows
