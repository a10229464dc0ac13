"""The ``twopm`` command: run the series, open it, test it, look after it."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from twopm_kit.errors import NotebookError, TwoPMError

if TYPE_CHECKING:
    from twopm_kit.notebook.manifest import Series
    from twopm_kit.notebook.series import Row

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train AI models together on data that nobody shows: run, open and test the notebook series.",
)

_LOG_WIDTH: Final = 130
_MOST_PROCESSES: Final = 4  # of pytest: each starts chains and torch of its own
_PASS_THROUGH: Final = {"allow_extra_args": True, "ignore_unknown_options": True}
Mode = Annotated[str, typer.Option("--mode", "-m", help="fast (tests), learn (reading along) or full.")]
Names = Annotated[
    list[str] | None, typer.Argument(help="Notebooks, or beginnings such as 04; all when empty.")
]


@contextmanager
def _in_words() -> Iterator[None]:
    """Turn an error of the kit into its two lines and exit code 1; a traceback would hide them."""
    try:
        yield
    except TwoPMError as error:
        Console(stderr=True, soft_wrap=True).print(Text(str(error), style="red"))
        raise typer.Exit(1) from error


def repository() -> Path:
    """Return the root of the clone: the folder above ``notebooks/series.toml``.

    Raises
    ------
    NotebookError
        When neither the working directory nor the kit itself is in a clone.
    """
    for start in (Path.cwd(), Path(__file__).resolve().parent):
        for folder in (start, *start.parents):
            if (folder / "notebooks" / "series.toml").is_file():
                return folder
    raise NotebookError(
        "there is no notebooks/series.toml here or above",
        hint="change into a clone of the project and try again",
    )


def _call(command: Sequence[str], **options: Any) -> int:
    """Run a program of this environment to its end and return its exit code."""
    try:
        return subprocess.run(list(command), check=False, **options).returncode  # noqa: S603 - our own words
    except KeyboardInterrupt:
        return 130


@app.command()
def run(
    names: Names = None,
    mode: Mode = "fast",
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", help="Override NAME=value in every notebook run.")
    ] = None,
) -> None:
    """Execute the notebooks headlessly, in order, and print what each one showed."""
    from twopm_kit.notebook.manifest import load_series
    from twopm_kit.notebook.modes import validate_mode
    from twopm_kit.notebook.parameters import parse_override

    with _in_words():
        validate_mode(mode)
        root = repository()
        series = load_series(root / "notebooks")
        overrides = dict(parse_override(text) for text in parameter or [])
        rows = _run_with_bar(series, names or [], mode, root / "build" / "notebooks", overrides)
    console = _console()
    console.print(_table(rows, mode))
    for row in rows:
        if not row.passed:
            console.print(Text(f"{row.name}: {row.problem}", style="red"), soft_wrap=True)
    passed = sum(row.passed for row in rows)
    console.print(f"{passed} of {len(rows)} notebooks passed; executed notebooks are in build/notebooks/")
    if passed < len(rows) or not rows:
        raise typer.Exit(1)


def _console() -> Console:
    """Return a console; where nobody sees a terminal, one that is wide enough for the table."""
    return Console() if sys.stdout.isatty() else Console(width=_LOG_WIDTH)


def _run_with_bar(
    series: "Series", names: Sequence[str], mode: str, output: Path, overrides: dict[str, Any]
) -> "list[Row]":
    from tqdm.auto import tqdm

    from twopm_kit.notebook.series import count_cells, run_series

    entries = series.select(names)
    cells = sum(count_cells(series.path(entry)) + 1 for entry in entries)  # papermill adds one cell to each
    with tqdm(total=cells, unit="cell", leave=False, dynamic_ncols=True) as bar:
        return run_series(
            series,
            entries,
            mode=mode,
            output=output,
            overrides=overrides,
            on_start=lambda entry: bar.set_description(entry.name),
            on_cell=bar.update,
        )


def _table(rows: "Sequence[Row]", mode: str) -> Table:
    table = Table(title=f"The series in {mode} mode", title_justify="left", caption_justify="left")
    table.add_column("notebook", no_wrap=True)
    table.add_column("what it showed", ratio=1)
    table.add_column("key metric", no_wrap=True)
    for heading in ("seconds", "gas"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for row in rows:
        value = f"{row.value:.6g}" if isinstance(row.value, float) else str(row.value)
        table.add_row(
            row.name,
            row.shows,
            f"{row.metric} {value}" if row.passed else "–",
            f"{row.seconds:.1f}",
            "–" if row.gas is None else f"{row.gas:,}",
            Text("✓ ok", style="green") if row.passed else Text("✗ failed", style="bold red"),
        )
    total, gas = sum(row.seconds for row in rows), sum(row.gas or 0 for row in rows)
    table.add_section()
    table.add_row("total", "", "", f"{total:.1f}", f"{gas:,}", "")
    return table


@app.command(context_settings=_PASS_THROUGH)
def lab(context: typer.Context) -> None:
    """Open JupyterLab on the series; further options go to JupyterLab."""
    from twopm_kit.notebook.lab import lab_command

    with _in_words():
        root = repository()
    command, environment = lab_command(root / "notebooks", root / "build" / "jupyter", options=context.args)
    # JupyterLab takes this process's place, so that a signal to 'twopm lab' ends it and its kernels.
    os.execve(command[0], command, environment)  # noqa: S606


@app.command(context_settings=_PASS_THROUGH)
def test(context: typer.Context) -> None:
    """Pass every test, on all cores; or what the arguments, which go to pytest, ask for."""
    with _in_words():
        root = repository()
    pytest = [sys.executable, "-m", "pytest"]
    if context.args:
        raise typer.Exit(_call([*pytest, *context.args], cwd=root))
    side_by_side = ["--numprocesses", str(min(os.cpu_count() or 1, _MOST_PROCESSES)), "--dist"]
    # Notebooks have time limits, which a busy neighbour would break: they come last, beside each other only.
    timed = [str(Path("tests") / folder) for folder in ("notebooks", "browser")]
    apart = [f"--ignore={folder}" for folder in timed]
    # Neighbours in a file share what is slow to make: halves of the whole, then whole files.
    steps = (["worksteal", *apart], ["loadfile", *timed])
    codes = [_call([*pytest, *side_by_side, *step], cwd=root) for step in steps]
    raise typer.Exit(max(codes))


@app.command()
def check() -> None:
    """Look for mistakes in style, types and imports."""
    steps = [
        ["ruff", "check"],
        ["ruff", "format", "--check"],
        ["mypy", "--cache-dir", "build/mypy"],
        ["lint-imports", "--cache-dir", "build/lint-imports"],
    ]
    raise typer.Exit(_all_of(steps))


@app.command()
def fix() -> None:
    """Correct what can be corrected by itself."""
    raise typer.Exit(_all_of([["ruff", "check", "--fix", "--exit-zero"], ["ruff", "format"]]))


def _all_of(steps: Sequence[Sequence[str]]) -> int:
    """Run every step, also after one that failed; return 1 when any failed."""
    with _in_words():
        root = repository()
    programs = Path(sys.executable).parent
    codes = []
    for step in steps:
        Console().rule(" ".join(step), align="left")
        codes.append(_call([str(programs / step[0]), *step[1:]], cwd=root))
    return int(any(codes))


@app.command()
def bench(
    names: Annotated[list[str] | None, typer.Argument(help="Beginnings of names; all when empty.")] = None,
) -> None:
    """Measure speed: run tests/bench/bench_*.py one after the other."""
    with _in_words():
        root = repository()
        chosen = [
            path
            for path in sorted((root / "tests" / "bench").glob("bench_*.py"))
            if not names or any(path.stem.removeprefix("bench_").startswith(name) for name in names)
        ]
        if not chosen:
            raise NotebookError(
                f"no benchmark is called {names or 'bench_*.py'}", hint="look into tests/bench"
            )
    codes = []
    for path in chosen:
        Console().rule(path.stem, align="left")
        codes.append(_call([sys.executable, str(path)], cwd=root))
    raise typer.Exit(int(any(codes)))


@app.command()
def refresh(names: Names = None) -> None:
    """Execute notebooks in learn mode and store their outputs in notebooks/."""
    from tqdm.auto import tqdm

    from twopm_kit.notebook.manifest import load_series
    from twopm_kit.notebook.refresh import refresh_notebook

    with _in_words():
        root = repository()
        series = load_series(root / "notebooks")
        chosen = series.select(names) if names else series.entries
        with tqdm(chosen, unit="notebook", leave=False) as bar:
            for entry in bar:
                bar.set_description(entry.name)
                refresh_notebook(series.path(entry), entry, scratch=root / "build" / "refresh")
    Console().print(f"{len(chosen)} notebooks have fresh outputs")


@app.command()
def doctor() -> None:
    """Print the environment card, and what to do about what is missing; exit code 1 when it is needed."""
    from twopm_kit.notebook.doctor import examine

    try:
        root: Path | None = repository()
    except NotebookError:
        root = None  # installed without a clone: there is no lock file to compare with
    findings = examine(root)
    table = Table(title="Environment", title_justify="left")
    table.add_column("what", no_wrap=True)
    table.add_column("found")
    table.add_column("")
    for finding in findings:
        sign = {"ok": Text("✓", style="green"), "optional": Text("○", style="yellow")}
        table.add_row(finding.name, finding.found, sign.get(finding.state, Text("✗", style="bold red")))
    console = _console()
    console.print(table)
    for finding in findings:
        if finding.state != "ok":
            console.print(Text(f"{finding.name}: {finding.remedy}"), soft_wrap=True)
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(1)
