"""Finds the source of task classes, tells whether it stands alone, and brings it to life from its text."""

import ast
import builtins
import importlib.util
import inspect
import linecache
import symtable
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import BuiltinFunctionType, FrameType, FunctionType, ModuleType
from typing import Any, Final

from eth_hash.auto import keccak

from twopm_kit.errors import TaskError, TwoPMError

__all__ = [
    "Origin",
    "code_of",
    "demand_self_contained",
    "kit_hash",
    "kit_version",
    "origin_of",
    "run_sources",
]

_KIT: Final = "twopm_kit"
_NAMED: Final = "__archived_as__"  # in a module made from an archive: the name that its source was written in
# Python's own builtins only: a notebook puts names of its own beside them, such as get_ipython.
_GIVEN: Final = frozenset(
    name
    for name, value in vars(builtins).items()
    if isinstance(value, type | BuiltinFunctionType) and value.__module__ in ("builtins", "io", "_io")
) | {"NotImplemented", "Ellipsis", "__debug__", "__name__", "__doc__", "__package__", "__annotations__"}
_LIBRARIES: Final = ("site-packages", "dist-packages")
_RUNNING: ContextVar[bool] = ContextVar("running", default=False)


@dataclass(frozen=True)
class Origin:
    """Where a class was written.

    Attributes
    ----------
    module : str
        Name of the module; cells of a notebook share one.
    filename : str
        What its functions say; for this process only.
    text : str
        The whole file or cell, as it was when the class was made.
    """

    module: str
    filename: str
    text: str


def origin_of(cls: type) -> Origin | None:
    """Return where a class that is being made is written; call it from ``__init_subclass__``.

    The text is taken now, because a file may change after its import, and None if nobody has kept it.
    """
    if _in_kit(cls):
        return None  # its file has a hash of its own
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__") != cls.__module__:
        frame = frame.f_back
    if frame is None:
        return None
    filename = frame.f_code.co_filename
    linecache.checkcache(filename)
    text = "".join(linecache.getlines(filename, frame.f_globals))
    return Origin(frame.f_globals.get(_NAMED, cls.__module__), filename, text) if text else None


def code_of(cls: type) -> dict[str, Any]:
    """Return what a task class runs, JSON values only.

    Returns
    -------
    dict
        ``kit``: the kit's version; ``task``: module and name of the class; ``bases``: hash of the file of
        every kit class below it; ``sources``: module and text of every file or notebook cell that the other
        classes were written in, bases first.

    Raises
    ------
    TaskError
        If source cannot be found, as for a class typed into a bare interpreter, or if a method of a class
        was replaced later.
    """
    bases: dict[str, str] = {}
    sources: list[dict[str, str]] = []
    module = cls.__module__
    for base in reversed(cls.__mro__):
        if _in_kit(base):
            bases[f"{base.__module__}.{base.__qualname__}"] = kit_hash(base.__module__).hex()
        elif not _in_library(base.__module__) or "_origin" in vars(base):
            origin = _origin(base)
            _demand_own_methods(base, origin)
            part = {"module": origin.module, "text": origin.text}
            if part not in sources:
                sources.append(part)
            module = origin.module
    task = {"module": module, "name": cls.__qualname__}
    return {"kit": kit_version(), "task": task, "bases": bases, "sources": sources}


def kit_version() -> str:
    """Return the version of the kit that runs."""
    return version("twopm-kit")


@cache
def kit_hash(module: str) -> bytes:
    """Return keccak256 of the file of one of the kit's modules."""
    return keccak(Path(inspect.getfile(sys.modules[module])).read_bytes())


# Does it stand alone? -------------------------------------------------------------------------------------


def demand_self_contained(code: Mapping[str, Any]) -> None:
    """Refuse source that would not run where nothing but the kit and installed packages is.

    Raises
    ------
    TaskError
        If a class stands inside a function, or its source uses names that it does not define, or imports
        files that do not travel with it.
    """
    if _RUNNING.get():
        raise TaskError(
            "the task's source makes or runs a task while it is being loaded",
            hint="put what runs the task into another cell, or under: if __name__ == '__main__':",
        )
    name = code["task"]["name"]
    if code["sources"] and "<locals>" in name:
        raise TaskError(
            f"{name.rpartition('.')[2]} is defined inside a function, where nobody else can find it",
            hint="move the class out of the function, to the top of the file or cell",
        )
    texts: dict[str, list[str]] = {}
    for part in code["sources"]:
        texts.setdefault(part["module"], []).append(part["text"])
    for module, parts in texts.items():
        place = "cell" if module == "__main__" else f"file {module.rpartition('.')[2]}"
        defined: set[str] = set()
        used: dict[str, None] = {}
        for text in parts:
            found, needed = _names(text, place)
            defined |= found
            used.update(dict.fromkeys(needed))
            _demand_imports(text, place, module, set(texts))
        missing = [word for word in used if word not in defined and word not in _GIVEN]
        if "get_ipython" in missing:
            raise TaskError(
                f"the {place} has a magic, a line that begins with % or !",
                hint="move it to a cell of its own: nodes have no notebook",
            )
        if missing:
            raise TaskError(
                f"the {place} of the task uses {', '.join(f'`{word}`' for word in missing)}, "
                f"which it does not import or define",
                hint="put imports, and what else the class needs, into the same cell or file",
            )


def _names(text: str, place: str) -> tuple[set[str], list[str]]:
    """Return names that a source defines at its top, and names that it looks for there."""
    try:
        top = symtable.symtable(text, "<task>", "exec")
    except SyntaxError as fault:
        raise TaskError(
            f"the {place} of the task is not plain Python: {fault.msg}, line {fault.lineno}",
            hint="keep magics and top-level await in cells of their own",
        ) from None
    defined, used = set[str](), list[str]()
    for symbol in top.get_symbols():
        if symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace():
            defined.add(symbol.get_name())
        elif symbol.is_referenced():
            used.append(symbol.get_name())
    for table in _below(top):
        for symbol in table.get_symbols():
            if symbol.is_declared_global() and symbol.is_assigned():
                defined.add(symbol.get_name())
            elif symbol.is_global() and symbol.is_referenced():
                used.append(symbol.get_name())
    return defined, used


def _below(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    for child in table.get_children():
        yield child
        yield from _below(child)


def _demand_imports(text: str, place: str, module: str, parts: set[str]) -> None:
    for node in _statements(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            names = [importlib.util.resolve_name("." * node.level + (node.module or ""), _package(module))]
            if any(alias.name == "*" for alias in node.names):
                raise TaskError(
                    f"the {place} imports everything from {node.module}, so nobody can tell what it uses",
                    hint="import the names that the class uses",
                )
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        local = [name for name in names if name not in parts and not _in_library(name)]
        if local:
            raise TaskError(
                f"the {place} imports `{local[0]}`, which other nodes do not have",
                hint="put what the class needs into its own file or cell, or into an installed package",
            )


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield everything but the bodies of top-level functions, whose imports wait until they are called."""
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from ast.walk(node)


def _package(module: str) -> str:
    return module.rpartition(".")[0] or module


# Bring it to life -----------------------------------------------------------------------------------------


def run_sources(code: Mapping[str, Any], digest: bytes) -> type:
    """Run the sources in fresh modules and return the task class. Only for source that a person approved.

    The texts are kept where tracebacks and ``inspect`` look for them.

    Raises
    ------
    TaskError
        If the source fails, or does not define the class.
    """
    label = digest.hex()[:16]
    modules: dict[str, ModuleType] = {}
    token = _RUNNING.set(True)
    try:
        for number, part in enumerate(code["sources"], start=1):
            name, text = part["module"], part["text"]
            if name not in modules:
                modules[name] = _new_module(f"twopm_task_{label}_{len(modules) + 1}", name, modules)
            filename = f"<task {label}, part {number}>"
            linecache.cache[filename] = (len(text), None, _lines(text), filename)
            vars(modules[name])["__file__"] = filename
            exec(compile(text, filename, "exec", dont_inherit=True), vars(modules[name]))  # noqa: S102 - approved by its hash
    except TwoPMError:
        raise
    except Exception as fault:
        raise TaskError(
            f"the source of {code['task']['name']!r} does not run by itself: {type(fault).__name__}: {fault}",
            hint="put imports, and what else the class needs, into the same cell or file",
        ) from fault
    finally:
        _RUNNING.reset(token)
    home = code["task"]["module"]
    # Without sources it is a class of the kit; whatever else this process has loaded is not offered.
    found: Any = modules.get(home) or (sys.modules.get(home) if home.startswith(f"{_KIT}.") else None)
    for step in code["task"]["name"].split("."):
        found = getattr(found, step, None)
    if not isinstance(found, type):
        raise TaskError(
            f"the source does not define {code['task']['name']!r}",
            hint="archive a class that stands at the top of its file or cell",
        )
    return found


def _new_module(name: str, archived_as: str, parts: Mapping[str, ModuleType]) -> ModuleType:
    """Return a module whose imports find the other parts of the same task under the names they had."""

    def find(
        wanted: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002 - the names of __import__
        locals: Mapping[str, Any] | None = None,  # noqa: A002
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> ModuleType:
        package = _package(archived_as)
        absolute = importlib.util.resolve_name("." * level + wanted, package) if level else wanted
        if absolute in parts and (fromlist or "." not in absolute):
            return parts[absolute]
        return builtins.__import__(wanted, globals, locals, fromlist, level)

    module = ModuleType(name)
    vars(module).update({_NAMED: archived_as, "__builtins__": {**vars(builtins), "__import__": find}})
    # Dataclasses and type hints look for the module of a class here; the newest of equal ones will do.
    sys.modules[name] = module
    return module


def _lines(text: str) -> list[str]:
    *whole, last = text.split("\n")
    return [f"{line}\n" for line in whole] + ([last] if last else [])


# Classes and their files ----------------------------------------------------------------------------------


def _in_kit(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == _KIT


@cache
def _in_library(module: str) -> bool:
    """Tell whether a module is Python's own, the kit's, or of an installed package."""
    root = module.partition(".")[0]
    if root == "__main__":
        return False
    if root in sys.stdlib_module_names or root == _KIT:
        return True
    try:
        spec = importlib.util.find_spec(root)
    except ValueError:
        return False
    places = [spec.origin, *(spec.submodule_search_locations or ())] if spec else []
    return any(part in _LIBRARIES for place in places if place for part in Path(place).parts)


def _origin(cls: type) -> Origin:
    noted = vars(cls).get("_origin")
    if isinstance(noted, Origin):
        return noted
    for function in _functions(cls):
        try:
            lines, _ = inspect.findsource(function)
        except (OSError, TypeError):
            continue
        named = function.__globals__.get(_NAMED, cls.__module__)
        return Origin(named, function.__code__.co_filename, "".join(lines))
    raise TaskError(
        f"the source of {cls.__name__} cannot be found, so the chain cannot hold its hash",
        hint="define the task in a notebook cell or in a file",
    )


def _demand_own_methods(cls: type, origin: Origin) -> None:
    """Refuse a class whose methods were replaced from another cell or file: its text would not say so."""
    for function in _functions(cls):
        filename = function.__code__.co_filename
        made = filename.startswith("<") and not filename.startswith(("<ipython", "<task"))
        library = any(part in _LIBRARIES for part in Path(filename).parts) or _in_library(function.__module__)
        if filename != origin.filename and not made and not library:
            raise TaskError(
                f"{function.__name__} of {cls.__name__} was written in another cell or file than the class",
                hint="write the method in the class itself",
            )


def _functions(cls: type) -> list[FunctionType]:
    members: list[Any] = [m.fget if isinstance(m, property) else m for m in vars(cls).values()]
    found = (getattr(member, "__func__", member) for member in members)
    unwrapped = (inspect.unwrap(member) for member in found if callable(member))
    return [function for function in unwrapped if isinstance(function, FunctionType)]
