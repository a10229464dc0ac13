"""Vyper, live: from a source text to an `Artifact`, with the line in the error when there is one."""

import hashlib
import keyword
import re
import threading
import warnings
from pathlib import Path, PurePath
from typing import Any

from twopm_kit.chain.artifacts import Artifact
from twopm_kit.contracts import SOURCES
from twopm_kit.errors import CompileError

__all__ = ["EVM_VERSION", "compile_folder", "compile_source"]

#: The fork that every contract of the kit is compiled for: it has the BLS12-381 precompiles (EIP-2537).
EVM_VERSION = "prague"
#: Largest deployed code (EIP-170), in bytes.
MAX_CODE = 24_576

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_LINE = re.compile(r"line (\d+)(?::(\d+))?")
# the compiler keeps its settings in module globals
_lock = threading.Lock()


def compile_source(source: str, name: str = "Cell") -> Artifact:
    """Compile a Vyper source.

    Parameters
    ----------
    source : str
        The contract. It may import the modules in ``twopm_kit/contracts``.
    name : str
        What to call it.

    Returns
    -------
    Artifact
        Ready for ``chain.deploy``.

    Raises
    ------
    CompileError
        When the name is not an identifier, or Vyper refuses the source; ``.lineno`` is the line.
    """
    if not isinstance(source, str):
        raise CompileError(
            f"a source is text, not {type(source).__name__}", hint="pass the contract as a str"
        )
    if not isinstance(name, str) or not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise CompileError(
            f"{str(name)[:80]!r} cannot name a contract",
            hint="use letters, digits and underscores, as in Python",
        )
    outputs = _run_vyper(source, name)
    runtime = bytes.fromhex(outputs["bytecode_runtime"].removeprefix("0x"))
    size = len(runtime)
    if size > MAX_CODE:
        raise CompileError(
            f"{name} compiles to {size:,} bytes of code; a chain takes at most {MAX_CODE:,} (EIP-170)",
            hint="move a part of it into a contract of its own",
        )
    return Artifact(
        name=name,
        abi=outputs["abi"],
        bytecode=bytes.fromhex(outputs["bytecode"].removeprefix("0x")),
        runtime=runtime,
        source_sha256=hashlib.sha256(source.encode()).hexdigest(),
        compiler=f"vyper {_version()}",
        evm_version=EVM_VERSION,
    )


def compile_folder(folder: Path) -> list[Artifact]:
    """Compile every ``*.vy`` of a folder, in alphabetical order."""
    return [
        compile_source(path.read_text(encoding="utf-8"), path.stem) for path in sorted(folder.glob("*.vy"))
    ]


def _version() -> str:
    import vyper

    # the part after the plus sign names a commit, not a release
    return str(vyper.__version__).partition("+")[0]


def _run_vyper(source: str, name: str) -> dict[str, Any]:
    from vyper.compiler import compile_code
    from vyper.compiler.input_bundle import FilesystemInputBundle
    from vyper.compiler.settings import Settings

    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what matters is an error; sizes are checked by us
        try:
            outputs: dict[str, Any] = compile_code(
                source,
                contract_path=PurePath(f"{name}.vy"),
                input_bundle=FilesystemInputBundle([SOURCES]),
                settings=Settings(evm_version=EVM_VERSION),
                output_formats=["abi", "bytecode", "bytecode_runtime"],
            )
        except Exception as error:  # noqa: BLE001  (it stops at some sources with an error of Python's own)
            raise _refused(error, source, name) from None
    return outputs


def _refused(error: Exception, source: str, name: str) -> CompileError:
    text = str(error).strip()
    line = getattr(error, "lineno", None)
    found = _LINE.search(text)
    if line is None and found:
        line = int(found[1])
    summary = str(getattr(error, "message", "") or text.partition("\n")[0] or "no reason given").strip()
    lines = source.splitlines()
    where = f"line {line}" if line else "the source"
    shown = f": {lines[line - 1].strip()}" if line and line <= len(lines) else ""
    refused = CompileError(
        f"Vyper refused {name}, {where}{shown}\n  {type(error).__name__}: {summary}",
        hint=f"correct {where} and compile again",
    )
    # what Python's own tools show of a SyntaxError
    refused.msg = f"{type(error).__name__}: {summary}"
    refused.filename = f"{name}.vy"
    refused.lineno = line
    refused.text = lines[line - 1] if line and line <= len(lines) else None
    return refused
