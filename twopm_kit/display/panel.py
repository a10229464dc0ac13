"""One ipywidgets panel over the round board: choose who drops out, run, watch."""

from collections.abc import Callable, Iterable
from typing import Any

import ipywidgets as widgets

from twopm_kit.display.board import RoundBoard, RoundEvent
from twopm_kit.display.formats import markup, printable
from twopm_kit.errors import DataError, TwoPMError

__all__ = ["Panel", "panel"]

Observe = Callable[[RoundEvent], None]
Run = Callable[[dict[int, list[str]], Observe], Any]


class Panel:
    """Checkboxes for who drops out in which round, a button that runs, and the board.

    Setting ``panel.boxes[round][node].value`` from code does what a click does, so a panel also works in a
    headless run; :meth:`click` presses the button.

    Attributes
    ----------
    boxes : dict of int to dict of str to Checkbox
        One box for each round and node; checked means that the node drops out.
    result : object
        What ``run`` returned last; None before.
    error : TwoPMError or None
        What ended the last run, if anything did.
    """

    def __init__(self, run: Run, nodes: Iterable[str], rounds: int, title: str) -> None:
        self._run = run
        self._title = title
        self._nodes = [str(node) for node in nodes]
        if not self._nodes or len(set(self._nodes)) != len(self._nodes):
            raise DataError(
                f"the nodes of a panel are {self._nodes}; expected at least one name and none twice",
                hint="pass the names of the network's nodes",
            )
        if isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 1:
            raise DataError(
                f"rounds is {rounds!r}; expected a whole number of at least 1", hint="pass rounds=1"
            )
        self.result: Any = None
        self.error: TwoPMError | None = None
        self.boxes: dict[int, dict[str, Any]] = {
            number: {node: self._box(node, number) for node in self._nodes} for number in range(1, rounds + 1)
        }
        self._button = widgets.Button(
            description="Run", icon="play", button_style="primary", tooltip="Run with the chosen drop-outs"
        )
        self._button.on_click(lambda _: self.click())
        self._plan = widgets.HTML()
        self._status = widgets.HTML()
        self._board = widgets.HTML(layout=widgets.Layout(width="100%", min_width="0"))
        self._say_plan()
        self.widget = self._layout()

    def _box(self, node: str, number: int) -> Any:
        """Return the box of one node in one round."""
        # The description is the box's accessible name, so it says on its own what the box is for.
        box = widgets.Checkbox(
            value=False,
            indent=False,
            description=f"{printable(node)}, round {number}",
            tooltip=f"{printable(node)} drops out in round {number}",
            layout=widgets.Layout(width="auto", margin="0"),
        )
        box.observe(lambda _: self._say_plan(), names="value")
        return box

    def _layout(self) -> Any:
        """Return the widget: a row of boxes for each node, the button, the plan, the board."""
        heading = widgets.HTML(
            f'<div style="font-size:15px;font-weight:600">{markup(self._title)}</div>'
            "<div>Tick who falls silent in which round, then run.</div>"
        )
        # Many nodes scroll: the button stays in reach.
        chooser = widgets.GridBox(
            [boxes[node] for node in self._nodes for boxes in self.boxes.values()],
            layout=widgets.Layout(
                grid_template_columns=f"repeat({len(self.boxes)}, minmax(140px, max-content))",
                grid_gap="0 12px",
                max_height="260px",
                overflow="auto",
                margin="4px 0 8px",
            ),
        )
        go = widgets.HBox(
            [self._button, self._plan], layout=widgets.Layout(align_items="center", grid_gap="12px")
        )
        return widgets.VBox([heading, chooser, go, self._status, self._board])

    @property
    def drop(self) -> dict[int, list[str]]:
        """Who drops out in which round; rounds without drop-outs are left out."""
        chosen = {
            number: [node for node, box in boxes.items() if box.value] for number, boxes in self.boxes.items()
        }
        return {number: gone for number, gone in chosen.items() if gone}

    def _say_plan(self) -> None:
        """Say in words what is ticked."""
        words = "; ".join(f"round {number} loses {', '.join(gone)}" for number, gone in self.drop.items())
        self._plan.value = markup(words or "nobody drops out")

    def _draw(self, board: RoundBoard) -> None:
        self._board.value = board._repr_html_()

    def click(self) -> None:
        """Run with what is ticked; the panel says what went wrong when the kit refuses."""
        if self._button.disabled:
            return
        self._button.disabled = True
        self._status.value = "running …"
        self.result = self.error = None
        board = RoundBoard(nodes=self._nodes, sink=self._draw)
        closing = "stopped by an error that the kit did not raise; see the log"
        try:
            self.result = self._run(self.drop, board)
            closing = "done"
        except TwoPMError as error:
            self.error = error
            hint = f"<br>→ {markup(error.hint)}" if error.hint else ""
            closing = f"<b>✕ {markup(type(error).__name__)}</b>: {markup(error.message)}{hint}"
        finally:
            board.flush()
            self._status.value = closing
            self._button.disabled = False

    def __repr__(self) -> str:
        rounds = len(self.boxes)
        return (
            f"<Panel {printable(self._title)}: {len(self._nodes)} nodes, {rounds} rounds, drop={self.drop}>"
        )

    def _repr_mimebundle_(self, **keywords: Any) -> Any:
        """Return the widget for a notebook, with the text form as fallback."""
        bundle = self.widget._repr_mimebundle_(**keywords)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        return {**(data or {}), "text/plain": repr(self)}, metadata


def panel(run: Run, nodes: Iterable[str], *, rounds: int = 1, title: str = "Who drops out?") -> Panel:
    """Return a panel that runs a network with chosen drop-outs.

    Parameters
    ----------
    run : callable
        Called as ``run(drop, observe)``: ``drop`` maps round numbers, from 1, to names of nodes; ``observe``
        takes the events. ``lambda drop, observe: network.run(task, drop=drop, observe=observe)`` is enough.
    nodes : iterable of str
        Names of the nodes, each once.
    rounds : int
        Number of rounds to choose drop-outs for.
    title : str
        Heading of the panel.

    Raises
    ------
    DataError
        When there are no nodes, a name comes twice, or ``rounds`` is not a whole number from 1.
    """
    return Panel(run, nodes, rounds, title)
