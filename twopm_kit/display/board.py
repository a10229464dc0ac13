"""The round board: who joined, shared, submitted, dropped and unmasked, live, without widgets."""

import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, TextIO

import pandas as pd
from IPython.core.getipython import get_ipython
from IPython.display import display

from twopm_kit.display.formats import gas, markup, printable, seconds
from twopm_kit.display.table import RULE, STRONG_RULE, grid
from twopm_kit.errors import DataError

__all__ = ["STATUSES", "STEPS", "RoundBoard", "RoundEvent"]

#: Steps of a task in their order, with the word that the board shows for the phase.
STEPS = {
    "register": "register",
    "join": "join",
    "select": "select",
    "share": "share",
    "submit": "submit",
    "challenge": "challenge",
    "freeze": "freeze",
    "open": "unmask",
    "attest": "attest",
    "convict": "judge",
    "finish": "finish",
    "abort": "abort",
}

#: What can become of a node in a step, with the sign that the board shows before the word.
STATUSES = {"done": "✓", "dropped": "✕", "refused": "⊘", "pending": "…"}

# Steps that are columns: what a node has behind it when the step is done.
_COLUMNS = {
    "join": "joined",
    "select": "selected",
    "share": "shared",
    "submit": "submitted",
    "freeze": "survived",
    "open": "unmasked",
    "attest": "attested",
}
# Seconds of sending that may be saved up for a quick succession of events.
_BURST = 4.0
# Earlier rounds that keep a line of their own.
_EARLIER = 12
# Nodes that such a line names when a round lost them; the others are counted.
_NAMED = 4
# Steps that every round takes: the others come only when somebody has done wrong, or too few are left.
_PATH = [step for step in STEPS if step not in {"abort", "challenge", "convict"}]

_PILL = "display:inline-block;padding:0 5px;border-radius:9px"
_PILLS = {
    "done": "border:1px solid rgba(38,150,90,.55);background:rgba(38,150,90,.14)",
    "dropped": "border:1px dashed rgba(205,60,50,.9);background:rgba(205,60,50,.14);font-weight:600",
    "refused": "border:3px double rgba(200,125,0,.9);background:rgba(200,125,0,.14);font-weight:600",
    "pending": "border:1px dotted rgba(128,128,128,.8);font-style:italic",
}


class RoundEvent(Protocol):
    """What the board reads from an event; any object with these attributes will do.

    ``step`` is one of ``STEPS`` and ``status`` one of ``STATUSES``; ``gas`` and ``seconds`` are what this
    event cost. ``node`` may be empty, or somebody who is no node, for steps of the whole task. Round 0 is
    before the first round.
    """

    @property
    def task_id(self) -> int:
        """Number of the task."""

    @property
    def round(self) -> int:
        """Number of the round."""

    @property
    def step(self) -> str:
        """What was done."""

    @property
    def node(self) -> str:
        """Who did it."""

    @property
    def status(self) -> str:
        """How it ended."""

    @property
    def gas(self) -> int:
        """Gas that it took."""

    @property
    def seconds(self) -> float:
        """Time that it took."""

    @property
    def detail(self) -> str:
        """One sentence about it."""


@dataclass
class _Round:
    """What is known of one round."""

    task: int
    number: int
    cells: dict[str, dict[str, str]] = field(default_factory=dict)
    details: dict[tuple[str, str], str] = field(default_factory=dict)
    gas: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    phase: str = "register"
    closing: str = ""
    printed: bool = False

    def total_gas(self) -> int:
        return sum(self.gas.values())

    def total_seconds(self) -> float:
        return sum(self.seconds.values())

    def members(self) -> list[str]:
        """Return who takes part: the selected nodes, or all as long as nobody is selected."""
        selected = [node for node, cells in self.cells.items() if cells.get("select") == "done"]
        return selected or list(self.cells)

    def gone(self, node: str) -> bool:
        """Tell whether a node was not chosen, or was lost before the survivors were counted."""
        cells = self.cells[node]
        before = ("join", "select", "share", "submit", "challenge", "freeze")
        return node not in self.members() or any(cells.get(step) in {"dropped", "refused"} for step in before)

    def frozen(self) -> bool:
        """Tell whether the survivors are final."""
        return any("freeze" in cells for cells in self.cells.values())

    def losses(self) -> list[tuple[str, str, str]]:
        """Return (node, step, status) where a node was dropped or refused, without what follows from it."""
        return [
            (node, step, status)
            for node, cells in self.cells.items()
            for step, status in cells.items()
            if status in {"dropped", "refused"} and (step != "freeze" or (node, step) in self.details)
        ]

    def survivors(self) -> int:
        """Count who survived, or who is still in as long as that is open."""
        if self.frozen():
            return sum(cells.get("freeze") == "done" for cells in self.cells.values())
        return sum(not self.gone(node) for node in self.cells)


class RoundBoard:
    """A table of a round that fills while the round runs: pass it as the observer of a network.

    In a notebook the table updates in place through a display handle; in a plain terminal each event is one
    line and the table follows when the round ends. Names and details are shown escaped, whatever they hold.
    Who joins has a row; others who spend gas, as a coordinator does, are named under the table. Make a new
    board for each cell that runs a network: a board stays where it was first shown.

    Parameters
    ----------
    title : str, optional
        A heading; by default the number of the task.
    nodes : iterable of str
        Names that have a row from the start.
    sink : callable, optional
        Called with the board instead of displaying it, each time it should be drawn.
    stream : text file, optional
        Where the lines go in a terminal; standard output by default.
    bytes_per_second : int
        How much html the live table may send; more events than that are drawn together. The last state of a
        round is always drawn. Jupyter's server stops listening at 1,000,000 bytes a second.

    Examples
    --------
    >>> board = RoundBoard(nodes=["a", "b"])
    >>> board.frame().columns.tolist()[:2]
    ['joined', 'selected']
    """

    def __init__(
        self,
        title: str = "",
        *,
        nodes: Iterable[str] = (),
        sink: Callable[["RoundBoard"], None] | None = None,
        stream: TextIO | None = None,
        bytes_per_second: int = 200_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.title = title
        self._nodes = [str(node) for node in nodes]
        self._sink = sink
        self._stream = stream
        self._rate = max(1, int(bytes_per_second))
        self._clock = clock
        self._budget = _BURST * self._rate
        self._refilled = clock()
        self._cost = 0
        self._stale = False
        self._handle: Any = None
        self._rounds: dict[tuple[int, int], _Round] = {}
        self._current: _Round | None = None
        # Nodes may run in threads; they all report here.
        self._lock = threading.RLock()

    # What happens -----------------------------------------------------------------------------------------

    def __call__(self, event: RoundEvent) -> None:
        """Take in one event and draw.

        Raises
        ------
        DataError
            When the step or the status is none of the known ones.
        """
        if event.step not in STEPS or event.status not in STATUSES:
            raise DataError(
                f"event with step {event.step!r} and status {event.status!r};"
                f" expected a step of {', '.join(STEPS)} and a status of {', '.join(STATUSES)}",
                hint="send a RoundEvent of twopm_kit.federated",
            )
        with self._lock:
            self._take(event)
            self._draw(event, last=event.step in {"finish", "abort"})

    def _take(self, event: RoundEvent) -> None:
        """Write an event into the state."""
        key = (int(event.task_id), int(event.round))
        known = self._rounds.get(key)
        if known is None:
            known = self._rounds[key] = _Round(*key, cells={node: {} for node in self._nodes})
            self._inherit(known)
        self._current = known
        node, step = str(event.node), event.step
        known.gas[node] = known.gas.get(node, 0) + int(event.gas)
        known.seconds[node] = known.seconds.get(node, 0.0) + float(event.seconds)
        joined = any("join" in cells for cells in known.cells.values())
        if step in _COLUMNS and (node in known.cells or step == "join" or (node and not joined)):
            known.cells.setdefault(node, {})[step] = event.status
            if event.detail:
                known.details[node, step] = str(event.detail)
        elif step == "freeze":
            if not any("submit" in cells for cells in known.cells.values()):
                return  # the list of who shared is final; who survives is counted after the submissions
            for name in known.members():
                cells = known.cells[name]
                stays = cells.get("submit") == "done" and cells.get("challenge", "done") == "done"
                cells["freeze"] = "done" if stays else "dropped"
        elif step == "challenge" and node in known.cells:
            known.cells[node][step] = event.status
            known.details[node, step] = str(event.detail)
        elif step in {"finish", "abort"} and not known.closing:
            known.closing = str(event.detail) or STEPS[step]
        known.phase = step

    def _inherit(self, new: _Round) -> None:
        """Let those who joined the task earlier stand in its new round; one joins once."""
        for (task, _), earlier in self._rounds.items():
            if task == new.task and earlier is not new:
                for node, cells in earlier.cells.items():
                    if "join" in cells:
                        new.cells.setdefault(node, {}).setdefault("join", cells["join"])

    # How it is shown --------------------------------------------------------------------------------------

    def _draw(self, event: RoundEvent, *, last: bool) -> None:
        """Draw within the budget; always when a round ends."""
        shell = get_ipython()
        if self._sink is None and (shell is None or not hasattr(shell, "kernel")):
            stream = sys.stdout if self._stream is None else self._stream
            stream.write(f"{self._line(event)}\n")
            if last and self._current is not None and not self._current.printed:
                self._current.printed = True
                stream.write(f"\n{self.text}\n\n")
            stream.flush()
            return
        now = self._clock()
        self._budget = min(_BURST * self._rate, self._budget + (now - self._refilled) * self._rate)
        self._refilled = now
        self._stale = True
        if last or self._budget >= self._cost:
            self._show()

    def _show(self) -> None:
        """Bring the shown table up to date."""
        self._cost = len(self._repr_html_().encode())
        self._budget -= self._cost
        self._stale = False
        if self._sink is not None:
            self._sink(self)
        elif self._handle is None:
            self._handle = display(self, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(self)

    def flush(self) -> None:
        """Draw what the budget has held back."""
        with self._lock:
            if self._stale:
                self._show()

    def _earlier(self) -> list[str]:
        """Return one line for each round before the current one, the newest last."""
        rounds = [known for known in self._rounds.values() if known is not self._current]
        lines = [self._summary(known) for known in rounds[-_EARLIER:]]
        hidden = len(rounds) - len(lines)
        return [f"… {hidden} earlier rounds", *lines] if hidden else lines

    def _summary(self, known: _Round) -> str:
        """Return a past round in one short line: its number, who survived, whom it lost, gas, seconds."""
        here = self._current is not None and known.task == self._current.task
        when = f"round {known.number}" if known.number else "before round 1"
        parts = [f"{known.survivors()} of {len(known.members())} {self._word(known)}"]
        lost = [f"{printable(node)} at {STEPS[step]}" for node, step, _ in known.losses()]
        if lost:
            more = [f"{len(lost) - _NAMED} more"] if len(lost) > _NAMED else []
            parts.append(f"lost {', '.join(lost[:_NAMED] + more)}")
        parts += [gas(known.total_gas()) + " gas", seconds(known.total_seconds())]
        if known.phase == "abort":
            parts.insert(0, "aborted")
        return f"{'' if here else f'task {known.task} '}{when}: {' · '.join(parts)}"

    def _word(self, known: _Round) -> str:
        """Return what those have done who are counted."""
        if known.number == 0 and known.phase in {"register", "join"}:
            return "joined"
        return "survived" if known.frozen() else "still in"

    def _cell(self, known: _Round, node: str, step: str) -> tuple[str, str]:
        """Return (status, text) of one cell."""
        status = known.cells[node].get(step, "")
        if status:
            word = "survived" if (step, status) == ("freeze", "done") else status
            return status, f"{STATUSES[status]} {word}"
        columns = list(_COLUMNS)
        before = columns[: columns.index(step)]
        lost = any(known.cells[node].get(earlier) in {"dropped", "refused"} for earlier in before)
        return "", "–" if lost or known.gone(node) else "·"

    def _head(self, known: _Round) -> str:
        """Return the heading of a round."""
        when = f"round {known.number}" if known.number else "before the first round"
        return f"{printable(self.title) or f'Task {known.task}'} · {when}"

    def _foot(self, known: _Round) -> list[str]:
        """Return the sums of the current round, each as a piece of its foot line."""
        others = [
            f"{gas(spent)} by {printable(name) or 'others'}"
            for name, spent in known.gas.items()
            if spent and name not in known.cells
        ]
        parts = [
            f"{known.survivors()} of {len(known.members())} nodes {self._word(known)}",
            f"{gas(known.total_gas())} gas" + (f" ({', '.join(others)})" if others else ""),
            seconds(known.total_seconds()),
        ]
        task = [other.total_gas() for other in self._rounds.values() if other.task == known.task]
        if len(task) > 1:
            parts.append(f"task so far: {gas(sum(task))} gas")
        if known.closing:
            parts.append(printable(known.closing))
        return parts

    def _notes(self, known: _Round) -> list[str]:
        """Return what was said about nodes that dropped or were refused."""
        return [
            f"{STATUSES[status]} {printable(node)} {status} at {STEPS[step]}: {printable(detail)}"
            for node, step, status in known.losses()
            if (detail := known.details.get((node, step)))
        ]

    def _line(self, event: RoundEvent) -> str:
        """Return one event as one line for a terminal."""
        parts = [f"task {event.task_id} round {event.round}", f"{STEPS[event.step]:<8}"]
        parts.append(f"{STATUSES[event.status]} {event.status:<7}")
        parts.append(printable(event.node)[:32])
        parts += [f"{gas(event.gas)} gas"] if event.gas else []
        parts += [seconds(event.seconds)] if event.seconds >= 0.001 else []
        parts += [printable(event.detail)[:80]] if event.detail else []
        return "  ".join(part for part in parts if part.strip())

    @property
    def text(self) -> str:
        """The board as aligned text, earlier rounds in one line each."""
        with self._lock:
            if self._current is None:
                return f"{printable(self.title) or 'Round board'}: no event yet"
            known = self._current
            lines = [*self._earlier(), self._head(known)]
            heads = ["node", *_COLUMNS.values(), "gas", "time"]
            rows = []
            for node in known.cells:
                name = printable(node)
                cells = [self._cell(known, node, step)[1] for step in _COLUMNS]
                spent = [gas(known.gas.get(node, 0)), seconds(known.seconds.get(node, 0.0))]
                rows.append([name if len(name) <= 28 else f"{name[:27]}…", *cells, *spent])
            if rows:
                lines += grid(heads, rows, [False] * (1 + len(_COLUMNS)) + [True, True])
            foot = " · ".join([f"phase: {STEPS[known.phase]}", *self._foot(known)])
            return "\n".join([*lines, foot, *self._notes(known)])

    def frame(self) -> pd.DataFrame:
        """Return the current round: a row for each node; a status for each step, gas, seconds."""
        with self._lock:
            known = self._current or _Round(0, 0, cells={node: {} for node in self._nodes})
            rows = [
                {
                    **{head: cells.get(step, "") for step, head in _COLUMNS.items()},
                    "gas": known.gas.get(node, 0),
                    "seconds": known.seconds.get(node, 0.0),
                }
                for node, cells in known.cells.items()
            ]
            index = pd.Index(list(known.cells), name="node", dtype=object)
            return pd.DataFrame(rows, index=index, columns=[*_COLUMNS.values(), "gas", "seconds"])

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        """Return the board as html: escaped, inline style only, no script."""
        with self._lock:
            known = self._current
            if known is None:
                return f'<div style="opacity:.8">{markup(self.title or "Round board")}: no event yet</div>'
            lines = "".join(f"<div>{markup(line)}</div>" for line in self._earlier())
            earlier = f'<div style="margin:0 0 8px;opacity:.8">{lines}</div>' if lines else ""
            notes = "".join(f"<div>{markup(note)}</div>" for note in self._notes(known))
            notes = f'<div style="margin-top:4px">{notes}</div>' if notes else ""
            # A line breaks between its pieces; only a piece that is longer than the line breaks inside.
            pieces = (
                f'<span style="display:inline-block">{markup(part)}</span>' for part in self._foot(known)
            )
            foot = " · ".join(pieces)
            # Widgets do not break lines unless they are told to.
            wrap = "white-space:normal;overflow-wrap:anywhere"
            return (
                f'<div style="font-size:13px;line-height:1.5;font-variant-numeric:tabular-nums;{wrap}">'
                f'{earlier}<div style="font-size:15px;font-weight:600">{markup(self._head(known))}</div>'
                f"{self._ribbon(known)}{self._table(known)}"
                f'<div style="margin-top:6px">{foot}</div>{notes}</div>'
            )

    def _ribbon(self, known: _Round) -> str:
        """Return the steps of a round with the one at hand marked by weight and line, not by colour alone."""
        path = [step for step in STEPS if step in _PATH or step == known.phase]
        if known.phase == "abort":
            path.remove("finish")
        here = path.index(known.phase)
        items = []
        for position, step in enumerate(path):
            style = "padding:1px 2px;"
            if position == here:
                style += "font-weight:700;border-bottom:2px solid currentColor"
            elif position > here:
                style += "opacity:.55"
            current = ' aria-current="step"' if position == here else ""
            items.append(f'<span style="{style}"{current}>{STEPS[step]}</span>')
        arrow = '<span style="opacity:.55"> › </span>'
        return f'<div style="margin:3px 0 8px">{arrow.join(items)}</div>'

    def _table(self, known: _Round) -> str:
        """Return the nodes and their steps."""
        cell = "padding:4px 7px 4px 0;white-space:nowrap;"
        heads = ["node", *_COLUMNS.values(), "gas", "time"]
        head = "".join(
            f'<th scope="col" style="{cell}font-weight:600;border-bottom:{STRONG_RULE};'
            f'text-align:{"right" if name in {"gas", "time"} else "left"}">{name}</th>'
            for name in heads
        )
        body = [self._row(known, node, cell) for node in known.cells]
        if not body:
            return ""
        style = (
            "border-collapse:collapse;border:0;margin:0;font-size:12px;color:inherit;background:transparent"
        )
        return (
            f'<div style="overflow:auto;max-height:460px"><table style="{style}">'
            f'<thead><tr style="background:transparent">{head}</tr></thead>'
            f"<tbody>{''.join(body)}</tbody></table></div>"
        )

    def _row(self, known: _Round, node: str, cell: str) -> str:
        """Return the row of one node."""
        name = (
            f"{cell}text-align:left;font-weight:600;max-width:150px;overflow:hidden;text-overflow:ellipsis;"
        )
        shown = markup(node)
        row = f'<th scope="row" title="{shown}" style="{name}border-bottom:{RULE}">{shown}</th>'
        for step in _COLUMNS:
            status, text = self._cell(known, node, step)
            detail = known.details.get((node, step), "")
            title = f' title="{markup(detail)}"' if detail else ""
            look = f"{_PILL};{_PILLS[status]}" if status else "opacity:.5"
            pill = f'<span style="{look}"{title}>{text}</span>'
            row += f'<td style="{cell}text-align:left;border-bottom:{RULE}">{pill}</td>'
        for spent in (gas(known.gas.get(node, 0)), seconds(known.seconds.get(node, 0.0))):
            row += f'<td style="{cell}text-align:right;border-bottom:{RULE}">{spent}</td>'
        return f'<tr style="background:transparent">{row}</tr>'
