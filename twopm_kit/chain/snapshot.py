"""Snapshots: a moment of the chain to which it can be taken back."""

from typing import TYPE_CHECKING, Any

from twopm_kit.errors import ChainError

if TYPE_CHECKING:
    from twopm_kit.chain.connection import Chain

__all__ = ["Snapshot"]


class Snapshot:
    """A moment of the chain, made by ``chain.snapshot()``.

    As a plain object it waits for ``revert()``, which may be called again and again. As a context manager it
    reverts at the end of the block, also after an error. Going back undoes every later snapshot.
    """

    def __init__(self, chain: "Chain", number: Any, block: int) -> None:
        self._chain = chain
        self._number = number
        #: The last block that stays.
        self.block = block

    def revert(self) -> None:
        """Take the chain back to this moment: state, blocks, events, clock, and the rows of the ledger.

        Raises
        ------
        ChainError
            When the chain went back to an earlier moment meanwhile.
        """
        if not self._chain.go_back(self._number):
            raise ChainError(
                f"the snapshot of block {self.block} is gone: the chain went back to an earlier moment",
                hint="take a new snapshot with chain.snapshot()",
            )
        # nodes forget a snapshot when they use it; a new one at the same moment keeps this object useful
        self._number = self._chain.control("evm_snapshot")
        self._chain.ledger._forget_after(self.block)

    def __enter__(self) -> "Snapshot":
        return self

    def __exit__(self, *_: object) -> None:
        self.revert()

    def __repr__(self) -> str:
        return f"<Snapshot of block {self.block}>"
