"""A task as bytes that can be read before they run: canonical JSON, source, and arrays as safetensors.

``magic 8 | version u8 | four lengths u64 | code | parameters | genesis | arrays``. There are no names and no
paths inside, nothing is compressed, every section has one form only, and the lengths must add up: a reader
has no choice in how to take an archive. Code and parameters are canonical JSON; genesis, the first model, and
arrays, which are constructor arguments, are safetensors.

The chain holds keccak256 of code, of parameters (which name the hash of the arrays) and of genesis: together
they cover every byte.
"""

import struct
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, Final

from eth_hash.auto import keccak

from twopm_kit.errors import TaskError, TwoPMError
from twopm_kit.federated.sources import code_of, demand_self_contained, kit_hash, kit_version, run_sources
from twopm_kit.federated.task import State, Task
from twopm_kit.federated.values import arguments_for, decode, pack_arrays, parse, unpack_arrays
from twopm_kit.secagg import RoundConfig

__all__ = ["TaskArchive"]

_MAGIC: Final = b"2PM.task"
_VERSION: Final = 1
_FRONT: Final = struct.Struct("<8sB4Q")
_MOST: Final = (1 << 22, 1 << 22, 1 << 28, 1 << 28)  # bytes of code, parameters, genesis, arrays
_SECTIONS: Final = ("code", "parameters", "genesis", "arrays")
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})

_DAMAGED: Final = "fetch it again, and from whoever the chain's hashes name"


@dataclass(frozen=True, repr=False)
class TaskArchive:
    """A task that can be read, compared with the chain, approved, and only then loaded.

    Make one with `of` or `from_bytes`; neither runs anything.

    Attributes
    ----------
    code, parameters, genesis, arrays : bytes
        The four sections.

    Examples
    --------
    >>> archive = TaskArchive.from_bytes(data)
    >>> print(archive.source)
    >>> task = archive.load(approved=archive.code_hash)
    """

    code: bytes
    parameters: bytes
    genesis: bytes
    arrays: bytes

    @classmethod
    def of(cls, task: Task) -> "TaskArchive":
        """Archive a task.

        Raises
        ------
        TaskError
            If the source does not stand alone, or an argument cannot travel; the message says which.
        """
        code = task.code()
        demand_self_contained(code_of(type(task)))
        return cls._sized(code, task.parameters(), pack_arrays(task.genesis()), task.arrays())

    @classmethod
    def from_bytes(cls, data: bytes) -> "TaskArchive":
        """Read an archive that somebody else wrote.

        Raises
        ------
        TaskError
            If it is anything but what `to_bytes` writes.
        """
        if not isinstance(data, bytes) or len(data) < _FRONT.size or data[: len(_MAGIC)] != _MAGIC:
            raise TaskError("these bytes are no task archive", hint="pass what task.archive() returned")
        _, version, *sizes = _FRONT.unpack_from(data)
        if version != _VERSION:
            raise TaskError(
                f"the archive has format version {version}, this kit reads {_VERSION}",
                hint="archive the task with this version of the kit",
            )
        if sum(sizes) + _FRONT.size != len(data):
            raise TaskError(f"the archive is cut short or too long: {len(data)} bytes", hint=_DAMAGED)
        sections, at = [], _FRONT.size
        for size in sizes:
            sections.append(data[at : at + size])
            at += size
        archive = cls._sized(*sections)
        archive._demand_form()
        return archive

    @classmethod
    def _sized(cls, *sections: bytes) -> "TaskArchive":
        for name, section, most in zip(_SECTIONS, sections, _MOST, strict=True):
            if len(section) > most:
                raise TaskError(
                    f"the {name} of the task has {len(section):,} bytes, at most {most:,} travel",
                    hint="load large data from the nodes' own rows, and keep code and arguments short",
                )
        return cls(*sections)

    def to_bytes(self) -> bytes:
        """Return the archive as it travels."""
        sections = (self.code, self.parameters, self.genesis, self.arrays)
        return _FRONT.pack(_MAGIC, _VERSION, *map(len, sections)) + b"".join(sections)

    # What the chain holds -----------------------------------------------------------------------------

    @property
    def code_hash(self) -> bytes:
        """keccak256 of the code: source, classes, and the kit's version and files."""
        return keccak(self.code)

    @property
    def params_hash(self) -> bytes:
        """keccak256 of the parameters, which name the hash of the arrays."""
        return keccak(self.parameters)

    @property
    def genesis_hash(self) -> bytes:
        """keccak256 of the first model."""
        return keccak(self.genesis)

    def demand(self, *, code_hash: bytes, params_hash: bytes, genesis_hash: bytes) -> "TaskArchive":
        """Return itself if it is the archive that the chain's hashes name; nothing is run.

        Raises
        ------
        TaskError
            If a hash differs; the message says which.
        """
        wanted = {"code_hash": code_hash, "params_hash": params_hash, "genesis_hash": genesis_hash}
        different = [name for name, value in wanted.items() if getattr(self, name) != value]
        if different:
            raise TaskError(
                f"the archive is not of the registered task: {', '.join(different)} differ",
                hint="fetch the archive that the chain's hashes name, and read its source before running it",
            )
        return self

    # What an operator reads ---------------------------------------------------------------------------

    @property
    def settings(self) -> dict[str, Any]:
        """The parameters by name, as the archive claims them; `load` proves the claim."""
        settings: dict[str, Any] = parse(self.parameters, "the parameters")
        return settings

    @property
    def is_foreign(self) -> bool:
        """Whether loading runs source that is not the kit's own."""
        return bool(self._parsed_code()["sources"])

    @property
    def source(self) -> str:
        """Everything that loading runs, for reading.

        Characters that cannot be seen, or that turn or move text on a screen, are written as ``⟨U+202E⟩``, so
        that what is read is what runs (Boucher and Anderson 2023, "Trojan Source").
        """
        code = self._parsed_code()
        lines = [f"# task {code['task']['name']}, twopm_kit {code['kit']}"]
        lines += [f"# runs {base}, {digest[:12]}…" for base, digest in code["bases"].items()]
        for number, part in enumerate(code["sources"], start=1):
            lines.append(f"\n# part {number} of {len(code['sources'])}, {part['module']}\n{part['text']}")
        return _visible("\n".join(lines))

    def __repr__(self) -> str:
        name = self._parsed_code()["task"]["name"]
        size = len(self.to_bytes())
        return _visible(f"TaskArchive({name}, {size:,} bytes, code_hash={self.code_hash.hex()[:12]}…)")

    def _repr_html_(self) -> str:
        def row(name: str, value: Any) -> str:
            shown = _visible(str(value))
            return (
                f'<tr><th scope="row">{escape(_visible(name))}</th><td><code>{escape(shown)}</code></td></tr>'
            )

        settings = self.settings
        rows = [row(name, value) for name, value in _flat("", settings)]
        rows += [row(name, "0x" + getattr(self, name).hex()) for name in ("code_hash", "params_hash")]
        rows.append(row("first model", _shapes(unpack_arrays(self.genesis, "the first model"))))
        said = "runs source that is not the kit's" if self.is_foreign else "runs the kit's own classes only"
        return (
            f"<p><b>{escape(repr(self))}</b>, {said}</p>"
            f'<table><thead><tr><th scope="col">parameter</th><th scope="col">value</th></tr></thead>'
            f"<tbody>{''.join(rows)}</tbody></table>"
            f'<pre style="white-space:pre-wrap;overflow-wrap:anywhere">{escape(self.source)}</pre>'
        )

    # To a task again ----------------------------------------------------------------------------------

    def load(self, *, approved: bytes | None = None) -> Task:
        """Make the task; this runs its source, if a person has approved that source.

        Parameters
        ----------
        approved : bytes, optional
            The `code_hash` that a person has approved after reading `source`. Tasks of the kit's own classes
            need none.

        Returns
        -------
        Task
            A task of its own: nothing of it is shared with other tasks from the same archive. Archived
            again, it gives the same bytes.

        Raises
        ------
        TaskError
            If the code was not approved, was made for another kit, fails, or gives another task here than
            the archive says.
        """
        code = self._parsed_code()
        self._demand_approval(approved)
        _demand_kit(code)
        cls = run_sources(code, self.code_hash)
        if not issubclass(cls, Task):
            raise TaskError(f"{code['task']['name']!r} is no task", hint="derive it from a task of the kit")
        arrays = unpack_arrays(self.arrays, "the arrays") if self.arrays else {}
        named = {name: decode(value, arrays) for name, value in self.settings["arguments"].items()}
        bound = arguments_for(cls, named)
        try:
            task = cls(*bound.args, **bound.kwargs)
            wanted = self.settings.get("wanted")
            task = task if wanted is None else task.with_config(RoundConfig(**wanted))
            fresh = task.initial_state()
        except TwoPMError:
            raise
        except Exception as fault:
            raise TaskError(
                f"{cls.__name__} cannot be made from its arguments: {type(fault).__name__}: {fault}",
                hint="read the traceback above: it leads into the task's own source",
            ) from fault
        task._genesis = _fitting(unpack_arrays(self.genesis, "the first model"), fresh)
        self._demand_same(task)
        return task

    def _demand_approval(self, approved: bytes | None) -> None:
        if approved is None and self.is_foreign:
            raise TaskError(
                "the archive holds source that nobody has approved",
                hint="read archive.source, then pass approved=archive.code_hash",
            )
        if approved is not None and approved != self.code_hash:
            shown = approved.hex()[:12] if isinstance(approved, bytes) else repr(approved)
            raise TaskError(
                f"the code hash {shown}… was approved, this archive has {self.code_hash.hex()[:12]}…",
                hint="read the source of this archive before approving it: it is another one",
            )

    def _demand_same(self, task: Task) -> None:
        own = {"code": task.code(), "parameters": task.parameters(), "arrays": task.arrays()}
        different = [name for name, content in own.items() if content != getattr(self, name)]
        if "parameters" in different:
            found, said = parse(own["parameters"], "the parameters"), self.settings
            different += [f"{key!r} in them" for key in said if found.get(key) != said[key]]
        if different:
            raise TaskError(
                f"the archive makes another task here: {', '.join(different)} differ",
                hint="set everything in the constructor: what is changed on a task later does not travel",
            )

    # Form ---------------------------------------------------------------------------------------------

    def _parsed_code(self) -> dict[str, Any]:
        code: dict[str, Any] = parse(self.code, "the code")
        return code

    def _demand_form(self) -> None:
        """Refuse sections that are not what `of` writes."""
        code = self._parsed_code()
        right = (
            _is_record(code, {"kit": str, "task": dict, "bases": dict, "sources": list})
            and _is_record(code["task"], {"module": str, "name": str})
            and all(isinstance(digest, str) for digest in code["bases"].values())
            and all(_is_record(part, {"module": str, "text": str}) for part in code["sources"])
        )
        settings = parse(self.parameters, "the parameters")
        right = (
            right
            and isinstance(settings, dict)
            and isinstance(settings.get("arguments"), dict)
            and settings.get("arrays") == keccak(self.arrays).hex()
        )
        if not right:
            raise TaskError("the archive's code or parameters lack fields or have others", hint=_DAMAGED)
        unpack_arrays(self.genesis, "the first model")
        if self.arrays:
            unpack_arrays(self.arrays, "the arrays")


def _is_record(value: Any, kinds: Mapping[str, type]) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == kinds.keys()
        and all(isinstance(value[name], kind) for name, kind in kinds.items())
    )


def _demand_kit(code: Mapping[str, Any]) -> None:
    """Refuse code that was archived with other kit files than the ones that would run here."""
    if code["kit"] != kit_version():
        raise TaskError(
            f"the task was archived with twopm_kit {_visible(code['kit'])}, this is {kit_version()}",
            hint="install the same version of the kit as the task's owner",
        )
    for base, digest in code["bases"].items():
        module = base.rpartition(".")[0]
        mine = module.startswith("twopm_kit.federated.") and module in sys.modules
        if not mine or kit_hash(module).hex() != digest:
            raise TaskError(
                f"the task needs {_visible(base)} of twopm_kit {_visible(code['kit'])}; the one here differs",
                hint="install the same version of the kit as the task's owner",
            )


def _fitting(genesis: State, fresh: State) -> State:
    """Return the archived model if a model of the task has its form."""
    if _shapes(genesis) != _shapes(fresh):
        raise TaskError(
            f"the archived model has {_shapes(genesis)}, the task's own has {_shapes(fresh)}",
            hint="archive the task again: its first model must be one that the task can hold",
        )
    return genesis


def _shapes(state: State) -> str:
    return _visible(", ".join(f"{name} {v.dtype}{list(v.shape)}" for name, v in state.items()))


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield a row for every value inside nested settings."""
    if isinstance(value, dict) and value:
        for name, below in value.items():
            yield from _flat(f"{path}.{name}" if path else str(name), below)
    else:
        yield path, value


def _visible(text: str) -> str:
    """Return text in which no character hides, or moves what stands beside it."""
    return "".join(
        f"⟨U+{ord(c):04X}⟩" if c not in "\n\t" and unicodedata.category(c) in _HIDDEN else c for c in text
    )
