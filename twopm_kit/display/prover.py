"""An ipywidgets panel over one column: change a value, and watch which proofs a contract still believes."""

import dataclasses
import math
from time import perf_counter
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import numpy as np
import numpy.typing as npt

from twopm_kit.display.formats import markup, plain, printable
from twopm_kit.display.table import Table, table
from twopm_kit.errors import DataError, ProofRefused, TwoPMError

if TYPE_CHECKING:
    from twopm_kit.chain import Account
    from twopm_kit.vsies.proofs import ColumnProofs, CommittedColumn, ProofContext, RangeProof

__all__ = ["Prover", "Trial", "prover"]


@dataclasses.dataclass(frozen=True)
class Trial:
    """One attempt to have the changed column believed.

    Attributes
    ----------
    what : str
        What was tried.
    believed : bool
        Whether the contract has taken the proof.
    by : str
        Who decided: ``"kit"`` or ``"contract"``.
    why : str
        The reason of a refusal; empty otherwise.
    making, checking : float or None
        Seconds that it took to make the proof, and to have it checked.
    gas, nbytes : int or None
        Of the transaction that was taken, and of the proof.
    """

    what: str
    believed: bool
    by: str
    why: str
    making: float | None
    checking: float | None
    gas: int | None
    nbytes: int | None

    def _line(self) -> dict[str, Any]:
        verdict = f"✓ the {self.by} believes it" if self.believed else f"✕ {self.why}"
        return {
            "what is tried": self.what,
            "verdict": verdict,
            "made in": self.making,
            "checked in": self.checking,
            "gas": self.gas,
            "bytes": self.nbytes,
        }


class Prover:
    """Two boxes for a row and its new value, a button that proves and forges, and the verdicts.

    Setting ``row.value`` and ``number.value`` from code does what typing does, :meth:`click` presses the
    button, and setting :attr:`value` does all three; so it also works in a headless run. The column that was
    passed stays as it is: each run starts from it. It shows values: it is for the column's owner.

    Attributes
    ----------
    row, number : widget
        Which row is changed, from 0, and to what, in the column's own unit.
    trials : list of Trial
        What the last run tried.
    error : TwoPMError or None
        What ended the last run, if anything did.
    """

    def __init__(
        self,
        values: npt.ArrayLike,
        proofs: "ColumnProofs",
        account: "Account",
        low: int,
        high: int,
        step: float,
        dataset: int,
        column: str,
        title: str,
    ) -> None:
        # Here and below: the proofs take more than a second to load, and most readers of tables never prove.
        from twopm_kit.vsies.proofs import CommittedColumn, prove_range

        if isinstance(step, bool) or not isinstance(step, int | float) or not 0 < step < math.inf:
            raise DataError(
                f"step is {step!r}; expected a number above 0", hint="pass the field's resolution"
            )
        self._proofs, self._account, self._place = proofs, account, (dataset, column)
        self._step = step
        self._column: CommittedColumn = CommittedColumn.commit(values, low, high)
        self._values = np.asarray(values).astype(np.int64)
        self._part = -1
        # Never sent with the column that it is about: its place in the contract stays free for forgeries.
        self._old: RangeProof = prove_range(self._column, context=self._next_context())
        self._old.verify()
        self.trials: list[Trial] = []
        self.error: TwoPMError | None = None

        self.row = widgets.BoundedIntText(
            value=0, min=0, max=self._column.rows - 1, description="row", layout=widgets.Layout(width="180px")
        )
        self.number = widgets.FloatText(
            value=self._shown(0), step=step, description="value", layout=widgets.Layout(width="200px")
        )
        self._button = widgets.Button(
            description="Prove and forge",
            icon="play",
            button_style="primary",
            tooltip="Commit to the changed column, and try to have it believed",
        )
        self._plan, self._status = widgets.HTML(), widgets.HTML(layout=widgets.Layout(width="100%"))
        self.row.observe(lambda _: self._take_row(), names="value")
        self.number.observe(lambda _: self._say_plan(), names="value")
        self._button.on_click(lambda _: self.click())
        self._say_plan()
        allowed = f"{plain(low * step)} to {plain(high * step)}, in steps of {plain(step)}"
        heading = widgets.HTML(
            f'<div style="font-size:15px;font-weight:600">{markup(title)}</div>'
            f"<div>{self._column.rows:,} values; allowed: {allowed}, that is {low:,} to {high:,} steps</div>"
        )
        chooser = widgets.HBox([self.row, self.number], layout=widgets.Layout(flex_flow="row wrap"))
        go = widgets.HBox(
            [self._button, self._plan],
            layout=widgets.Layout(align_items="center", flex_flow="row wrap", grid_gap="12px"),
        )
        self.widget = widgets.VBox([heading, chooser, go, self._status])

    @property
    def value(self) -> tuple[int, float]:
        """The row that is changed, and its new value; setting it runs."""
        return int(self.row.value), float(self.number.value)

    @value.setter
    def value(self, chosen: tuple[int, float]) -> None:
        self.row.value, self.number.value = chosen
        self.click()

    def _shown(self, row: int) -> float:
        """Return what stands in a row, in the column's unit, without the dust of a binary fraction."""
        return round(int(self._values[row]) * self._step, 12)

    def _take_row(self) -> None:
        self.number.value = self._shown(self.row.value)
        self._say_plan()

    def _say_plan(self) -> None:
        row, number = self.value
        before = self._shown(row)
        words = f"stays {plain(before)}" if number == before else f"{plain(before)} becomes {plain(number)}"
        self._plan.value = markup(f"row {row}: {words}")

    def click(self) -> None:
        """Commit to the changed column, and try to have it believed, honestly and otherwise."""
        if self._button.disabled:
            return
        self._button.disabled = True
        self._status.value = "working …"
        self.trials, self.error = [], None
        closing = "stopped by an error that the kit did not raise; see the log"
        try:
            closing = self._run()
        except TwoPMError as error:
            self.error = error
            hint = f"<br>→ {markup(error.hint)}" if error.hint else ""
            closing = f"<b>✕ {markup(type(error).__name__)}</b>: {markup(error.message)}{hint}"
        finally:
            self._status.value = closing
            self._button.disabled = False

    def _run(self) -> str:
        """Try everything; return the verdicts as html."""
        row, steps = self.row.value, self._steps()
        committed, honest = self._honest(row, steps)
        self.trials = [honest, self._old_proof(committed)]
        if not honest.believed:
            self.trials.append(self._own_program(committed))
        word = "✓ believed, with a new proof" if honest.believed else "✕ not believed, whatever is tried"
        shown = self.verdicts()._repr_html_()
        before, now = (
            f"0x{point.hex()[32:64]}…" for point in (self._column.commitment, committed.commitment)
        )
        return (
            f'<div style="margin-top:8px;font-weight:600">Row {row}: {markup(word)}</div>{shown}'
            f"<div>What the chain sees of the change: commitment <code>{before}</code> before, "
            f"<code>{now}</code> now.</div>"
        )

    def _steps(self) -> int:
        number = float(self.number.value) / self._step
        if not abs(number) < 2**53:
            raise DataError(
                f"the value {plain(float(self.number.value))} is no number of steps",
                hint="type a number that the column's unit can have",
            )
        return round(number)

    def _honest(self, row: int, steps: int) -> tuple["CommittedColumn", Trial]:
        """Do it as the kit does; where it refuses, commit in spite of that, as a cheater would."""
        from twopm_kit.vsies.proofs import CommittedColumn, prove_range

        low, high = self._column.low, self._column.high
        changed = self._values.copy()
        changed[row] = steps
        what = "a new proof, by the rules"
        began = perf_counter()
        try:
            column = CommittedColumn.commit(changed, low, high)
        except ProofRefused as refusal:
            trial = Trial(
                what, False, "kit", f"the kit makes none: {refusal.message}", None, None, None, None
            )
            offsets = self._column.offsets.copy()
            offsets[row] = steps - low
            return CommittedColumn(offsets, self._column.rows, low, high), trial
        proof = prove_range(column, context=self._next_context())
        return column, self._send(what, proof, perf_counter() - began)

    def _old_proof(self, committed: "CommittedColumn") -> Trial:
        """Pass the proof of the column before the change off as one of the changed column."""
        forged = dataclasses.replace(self._old, commitment=committed.commitment)
        return self._send("the proof from before the change", forged, None)

    def _own_program(self, committed: "CommittedColumn") -> Trial:
        """Prove the changed column with a program that does not look whether it is true."""
        from twopm_kit.vsies.proofs.columns import bits_of
        from twopm_kit.vsies.proofs.ranges import prove_bits

        began = perf_counter()
        bits = bits_of(self._column.offsets, self._column.width)
        forged = prove_bits(committed, bits, self._old.context)
        return self._send("a proof by a program that cheats", forged, perf_counter() - began)

    def _send(self, what: str, proof: "RangeProof", making: float | None) -> Trial:
        began = perf_counter()
        gas, why = None, ""
        try:
            gas = self._proofs.verify(proof, sender=self._account).gas
        except ProofRefused as refusal:
            why = refusal.message
        return Trial(what, not why, "contract", why, making, perf_counter() - began, gas, proof.nbytes)

    def _next_context(self) -> "ProofContext":
        """Return a place in the contract where nothing is proven yet: each is proven once."""
        dataset, column = self._place
        self._part += 1
        while self._proofs.proven(dataset, self._account, column, self._part) is not None:
            self._part += 1
        return self._proofs.context(dataset, self._account, column, self._part)

    def verdicts(self) -> Table:
        """Return what the last run tried as a table.

        Raises
        ------
        DataError
            When nothing was tried, or a value was no number.
        """
        if not self.trials:
            raise DataError("nothing was tried yet", hint="set value to a row and a number")
        return table([trial._line() for trial in self.trials], formats=_FORMS)

    def __repr__(self) -> str:
        told = "; ".join(
            f"{trial.what}: {'believed' if trial.believed else 'refused'}" for trial in self.trials
        )
        return f"<Prover of {self._column.rows:,} values: {printable(told) or 'nothing tried yet'}>"

    def _repr_mimebundle_(self, **keywords: Any) -> Any:
        """Return the widget for a notebook, with the text form as fallback."""
        bundle = self.widget._repr_mimebundle_(**keywords)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        return {**(data or {}), "text/plain": repr(self)}, metadata


_FORMS = {"made in": "seconds", "checked in": "seconds", "gas": ",", "bytes": "bytes"}


def prover(
    values: npt.ArrayLike,
    proofs: "ColumnProofs",
    account: "Account",
    *,
    low: int,
    high: int,
    step: float = 1,
    dataset: int = 0,
    column: str = "values",
    title: str = "Change one value",
) -> Prover:
    """Return a panel in which one value of a column can be changed, and proofs be tried on a contract.

    Parameters
    ----------
    values : sequence of int, shape (n,)
        1 to 2,048 whole numbers: the column in steps of its resolution, every one of them in the range.
    proofs : ColumnProofs
        The contract that is asked.
    account : Account
        Who proves; it sends one transaction for each proof.
    low, high : int
        The range, both ends included, in steps.
    step : float
        What one step is in the column's unit.
    dataset : int
        What the column belongs to.
    column : str
        Name of the column.
    title : str
        Heading of the panel.

    Raises
    ------
    DataError
        When these are no values, no range or no step.
    ProofRefused
        When a value is out of the range before anything is changed.
    """
    return Prover(values, proofs, account, low, high, step, dataset, column, title)
