"""Compiled contracts: what the compiler made of a source, and how the bundled ones are loaded."""

import json
import re
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from twopm_kit.chain.abi import signature
from twopm_kit.contracts import BUILD, names
from twopm_kit.errors import ChainError, UnknownContract

__all__ = ["Artifact", "artifact"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, repr=False, eq=False)
class Artifact:
    """A compiled contract.

    Attributes
    ----------
    name : str
        The contract's name.
    abi : list of dict
        Application binary interface, as the compiler gives it.
    bytecode : bytes
        Code that creates the contract.
    runtime : bytes
        Code that stays at the contract's address; immutable values follow it there.
    source_sha256 : str
        Checksum of the source, hexadecimal.
    compiler : str
        Compiler and version, such as ``vyper 0.4.3``.
    evm_version : str
        The fork that the code is for.
    """

    name: str
    abi: list[dict[str, Any]]
    bytecode: bytes
    runtime: bytes
    source_sha256: str
    compiler: str
    evm_version: str

    def to_json(self) -> str:
        """Write the artefact in its one stable format."""
        body = {
            "name": self.name,
            "compiler": self.compiler,
            "evm_version": self.evm_version,
            "source_sha256": self.source_sha256,
            "abi": self.abi,
            "bytecode": "0x" + self.bytecode.hex(),
            "runtime": "0x" + self.runtime.hex(),
        }
        return json.dumps(body, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Artifact":
        """Read what `to_json` wrote.

        Raises
        ------
        ChainError
            When the text is not an artefact.
        """
        try:
            body = json.loads(text)
            return cls(
                name=str(body["name"]),
                abi=list(body["abi"]),
                bytecode=bytes.fromhex(body["bytecode"].removeprefix("0x")),
                runtime=bytes.fromhex(body["runtime"].removeprefix("0x")),
                source_sha256=str(body["source_sha256"]),
                compiler=str(body["compiler"]),
                evm_version=str(body["evm_version"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ChainError(
                f"this is not a contract artefact: {error}",
                hint="compile the contracts again with 'python -m twopm_kit.contracts'",
            ) from error

    def __repr__(self) -> str:
        return f"<Artifact {self.name}: {len(self.bytecode):,} bytes, {self.compiler}, {self.evm_version}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(entry['type'])}</td>"
            f"<td style='text-align:left'><code>{escape(signature(entry))}</code></td></tr>"
            for entry in self.abi
        )
        return (
            f"<div><strong>{escape(self.name)}</strong> {len(self.bytecode):,} bytes, "
            f"{escape(self.compiler)}, {escape(self.evm_version)}<table>{rows}</table></div>"
        )


def artifact(name: str) -> Artifact:
    """Load a bundled contract's committed artefact.

    Raises
    ------
    UnknownContract
        When the kit has no compiled contract of this name.
    """
    path = BUILD / f"{name}.json"
    if not _NAME.fullmatch(str(name)) or not path.is_file():
        raise UnknownContract(
            f"the kit has no compiled contract called {str(name)[:80]!r}",
            hint=f"use one of: {', '.join(names())}; 'python -m twopm_kit.contracts' compiles new sources",
        )
    return _load(path, path.stat().st_mtime_ns)


@cache
def _load(path: Path, _changed: int) -> Artifact:
    # the time of change is part of the key, so that a fresh compilation is seen without a restart
    return Artifact.from_json(path.read_text(encoding="utf-8"))
