"""twopm_kit: train AI models together on data that nobody shows.

The whole public API on one screen. A room is loaded when it is first used, so ``import twopm_kit as kit``
costs nothing and needs neither torch nor tenseal nor web3.

======================  ====================================================================================
``kit.datasets``        bundled tables with checksums, and partitioners that spread them over nodes
``kit.chain``           a local or remote EVM chain: accounts, contracts, events, gas
``kit.vsies``           the data service: check, standardise, prove, encrypt, store, index
``kit.secagg``          secure aggregation as pure functions and state machines
``kit.federated``       tasks, nodes and networks that train through the chain
``kit.fhe``             encrypted frames and models (CKKS)
``kit.inference``       predictions in clear or on ciphertexts, paid for on chain
``kit.notebook``        what the notebook series stands on
``kit.display``         tables, the live round board, panels
``kit.config``          settings
``kit.errors``          every error, each with a hint
======================  ====================================================================================
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from twopm_kit.errors import TwoPMError, UnknownRoom

if TYPE_CHECKING:
    from twopm_kit import (
        chain,
        config,
        datasets,
        display,
        errors,
        federated,
        fhe,
        inference,
        notebook,
        secagg,
        vsies,
    )
    from twopm_kit.notebook import check, expect_error

__all__ = [
    "TwoPMError",
    "chain",
    "check",
    "config",
    "datasets",
    "display",
    "errors",
    "expect_error",
    "federated",
    "fhe",
    "inference",
    "notebook",
    "secagg",
    "vsies",
]

__version__ = version("twopm-kit")

_FROM_NOTEBOOK = ("check", "expect_error")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise UnknownRoom(f"twopm_kit has no {name!r}", hint=f"use one of: {', '.join(__all__)}")
    if name in _FROM_NOTEBOOK:
        return getattr(import_module("twopm_kit.notebook"), name)
    return import_module(f"twopm_kit.{name}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
