"""The gas ledger: who spent how much on which call, for every transaction sent through one connection."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from twopm_kit.errors import CallError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Entry", "GasLedger"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One mined transaction."""

    block: int
    sender: str
    contract: str
    call: str
    gas: int
    blob_gas: int
    status: str
    section: str


_COLUMNS = ("block", "sender", "contract", "call", "gas", "blob_gas", "status", "section")


class GasLedger:
    """Keeps one row for each transaction that was mined. Thread-safe.

    A call that was refused before it was sent costs nothing and leaves no row; neither do gifts of the
    development faucet. Reverting to a snapshot removes the rows of the blocks that it undoes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: list[Entry] = []
        self._sections: list[str] = []
        self._addresses: dict[str, str] = {}

    def _add(
        self, *, block: int, sender: Any, contract: str, call: str, gas: int, blob_gas: int, refused: bool
    ) -> None:
        with self._lock:
            section = self._sections[-1] if self._sections else ""
            status = "reverted" if refused else "ok"
            self._addresses[sender.address] = sender.name
            self._rows.append(Entry(block, sender.name, contract, call, gas, blob_gas, status, section))

    def _forget_after(self, block: int) -> None:
        with self._lock:
            self._rows = [row for row in self._rows if row.block <= block]

    @contextmanager
    def section(self, label: str) -> Iterator["GasLedger"]:
        """Label every row that is written meanwhile, from any thread, in the column ``section``."""
        with self._lock:
            self._sections.append(str(label))
        try:
            yield self
        finally:
            with self._lock:
                self._sections.remove(str(label))

    def rows(self) -> list[Entry]:
        """Give the rows, oldest first."""
        with self._lock:
            return list(self._rows)

    def frame(self) -> "pd.DataFrame":
        """Give the rows as a table.

        Returns
        -------
        pandas.DataFrame
            Columns block, sender (the account's name), contract, call, gas, blob_gas (131,072 a blob, with a
            price of its own), status (ok or reverted), section.
        """
        import pandas as pd

        frame = pd.DataFrame([asdict(row) for row in self.rows()], columns=list(_COLUMNS))
        return frame.astype({"block": "int64", "gas": "int64", "blob_gas": "int64"})

    def total(self, sender: Any = None) -> int:
        """Sum the gas, without blob gas, of everybody or of one account (itself, its name or its address)."""
        wanted = None
        if sender is not None:
            wanted = getattr(sender, "name", sender)
            wanted = self._addresses.get(wanted, wanted)
        return sum(row.gas for row in self.rows() if wanted is None or row.sender == wanted)

    def by(self, *columns: str) -> "pd.DataFrame":
        """Sum the gas by columns.

        Returns
        -------
        pandas.DataFrame
            Index: the columns; values: ``calls``, ``gas`` and, where blobs were sent, ``blob_gas``; the
            largest first.

        Raises
        ------
        CallError
            When a column is unknown or none is given.
        """
        known = [name for name in _COLUMNS if name not in ("gas", "blob_gas")]
        if not columns or not set(columns) <= set(known):
            raise CallError(
                f"the ledger cannot be summed by {', '.join(map(repr, columns)) or 'nothing'}",
                hint=f"name one or more of {', '.join(known)}",
            )
        frame = self.frame()
        sums = {"calls": ("gas", "size"), "gas": ("gas", "sum")}
        if frame["blob_gas"].any():
            sums["blob_gas"] = ("blob_gas", "sum")
        table = frame.groupby(list(columns), sort=False).agg(**sums)
        return table.sort_values("gas", ascending=False, kind="stable")

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"<GasLedger: {len(self):,} transactions, {self.total():,} gas>"

    def _repr_html_(self) -> str:
        # pandas escapes cell texts
        table = self.by("sender", "contract", "call").reset_index().to_html(index=False, border=0)
        return f"<div><strong>{len(self):,} transactions, {self.total():,} gas</strong>{table}</div>"
