"""A local or remote EVM chain: accounts, contracts, events, gas.

>>> chain = connect()  # embedded; or connect("anvil"), or connect("http://…")
>>> alice = chain.account("alice")
>>> tally = chain.deploy("Tally", 3_600, sender=alice)
>>> tally.add(5, sender=alice)
<Receipt Tally.add: block 3, 69,671 gas, 1 events>
>>> tally.total()
5

``%load_ext twopm_kit.chain`` gives notebooks the cell magic ``%%vyper Name``.
"""

from typing import Any

from twopm_kit.chain.accounts import Account, recover
from twopm_kit.chain.artifacts import Artifact, artifact
from twopm_kit.chain.compiler import compile_source as compile  # noqa: A004  (kit.chain.compile reads well)
from twopm_kit.chain.connection import ETHER, TX_GAS, Chain, connect
from twopm_kit.chain.contract import Contract, ContractMethod, Receipt
from twopm_kit.chain.events import Event, EventCursor
from twopm_kit.chain.ledger import GasLedger
from twopm_kit.chain.server import Server
from twopm_kit.chain.snapshot import Snapshot

__all__ = [
    "ETHER",
    "TX_GAS",
    "Account",
    "Artifact",
    "Chain",
    "Contract",
    "ContractMethod",
    "Event",
    "EventCursor",
    "GasLedger",
    "Receipt",
    "Server",
    "Snapshot",
    "artifact",
    "compile",
    "connect",
    "load_ipython_extension",
    "recover",
    "register_magic",
]


def register_magic() -> None:
    """Make the cell magic ``%%vyper Name`` known to the running notebook."""
    from twopm_kit.chain.magic import register

    register()


def load_ipython_extension(shell: Any) -> None:
    """Answer ``%load_ext twopm_kit.chain``."""
    from twopm_kit.chain.magic import register

    register(shell)
