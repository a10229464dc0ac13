"""Rules of the whole house: light import, one public map, errors with hints, imports one way, clean code."""

import ast
import builtins
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import twopm_kit as kit

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "twopm_kit"
PROGRAMS = Path(sys.executable).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
NAMES = [path.relative_to(ROOT).as_posix() for path in MODULES]
FILES = pytest.mark.parametrize("name", NAMES)

HEAVY = {
    "torch",
    "tenseal",
    "web3",
    "pandas",
    "numpy",
    "IPython",
    "matplotlib",
    "vyper",
    "eth_tester",
    "papermill",
}
BUILTIN_ERRORS = {
    name
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, BaseException)
}
# A generator or an iterator ends, a descriptor is absent, and a program exits in these ways by definition.
# A secret that refuses to be copied into a pickle is not among them: that is SecretRefused.
ALLOWED_RAISES = {"StopIteration", "StopAsyncIteration", "SystemExit"}


@cache
def tree(name):
    """Return the syntax tree of a module; a file that this Python cannot read fails its own tests only."""
    return ast.parse((ROOT / name).read_text(encoding="utf-8"))


def fresh(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", ["twopm_kit", "twopm_kit.errors", "twopm_kit.notebook"])
def test_the_import_is_light(name):
    roots = "sorted({module.partition('.')[0] for module in sys.modules})"
    assert HEAVY & set(fresh(f"import json, sys, {name}; print(json.dumps({roots}))")) == set()


def test_the_map_of_the_house_is_complete():
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and (path / "__init__.py").is_file()}
    rooms |= {path.stem for path in PACKAGE.glob("*.py")}
    doors = {name for name in kit.__all__ if not callable(getattr(kit, name))}
    assert rooms - {"__init__", "cli", "contracts", "kzg", "secrecy", "untrusted"} == doors
    assert sorted(kit.__all__) == sorted(set(kit.__all__))
    assert set(kit.__all__) <= set(dir(kit))
    with pytest.raises(AttributeError, match="has no 'attic'"):
        kit.attic  # noqa: B018


@pytest.mark.parametrize("name", [name for name in kit.__all__ if not callable(getattr(kit, name))])
def test_every_room_lists_what_it_offers(name):
    room = getattr(kit, name)
    assert room.__all__
    for public in room.__all__:
        assert hasattr(room, public), public


@pytest.mark.parametrize("name", kit.errors.__all__)
def test_every_error_says_what_to_do(name):
    error = getattr(kit.errors, name)
    assert issubclass(error, kit.TwoPMError)
    assert error.__doc__
    assert str(error("what came", hint="do this")) == "what came\n  → do this"
    assert str(error("what came")) == "what came"


def test_every_error_class_is_listed():
    defined = {
        name
        for name, value in vars(kit.errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert defined == set(kit.errors.__all__)


def raised(parsed):
    """Yield line and name of every exception raised by name."""
    for node in ast.walk(parsed):
        if isinstance(node, ast.Raise) and node.exc is not None:
            target = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if isinstance(target, ast.Name):
                yield node.lineno, target.id


@FILES
def test_no_bare_builtin_is_raised(name):
    bare = [(line, error) for line, error in raised(tree(name)) if error in BUILTIN_ERRORS - ALLOWED_RAISES]
    assert bare == []


@FILES
def test_every_error_raised_here_carries_a_hint(name):
    """An error of the kit is raised with hint= (ContractReverted explains itself by its reason)."""
    without = []
    for node in ast.walk(tree(name)):
        if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)):
            continue
        function = node.exc.func
        known = isinstance(function, ast.Name) and function.id in kit.errors.__all__
        if known and not {"hint", None} & {keyword.arg for keyword in node.exc.keywords}:
            without.append((node.lineno, function.id))
    assert without == []


@FILES
def test_nothing_is_imported_that_must_not_be(name):
    """No pickles, no generator for games where secrets are made, no fallback when an import fails."""
    for node in ast.walk(tree(name)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        assert not {one.partition(".")[0] for one in names} & {
            "pickle",
            "cloudpickle",
            "dill",
            "marshal",
            "shelve",
        }
        if name.startswith(("twopm_kit/secagg/", "twopm_kit/fhe/")):
            assert "random" not in names
        if isinstance(node, ast.ExceptHandler) and node.type is not None:
            caught = ast.unparse(node.type)
            assert "ImportError" not in caught
            assert "ModuleNotFoundError" not in caught


@FILES
def test_nothing_is_left_undone(name):
    source = (ROOT / name).read_text(encoding="utf-8")
    for word in ("TODO", "FIXME", "XXX", "NotImplementedError", "breakpoint("):
        assert word not in source, word


@FILES
def test_the_first_line_says_what_the_module_does(name):
    document = ast.get_docstring(tree(name))
    assert document, "no docstring"
    first = document.splitlines()[0]
    assert 15 <= len(first) <= 110
    assert first.endswith((".", ":"))


@FILES
def test_what_is_public_is_described(name):
    for node in tree(name).body:
        described = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if described and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name


def run(*command):
    done = subprocess.run(
        [PROGRAMS / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "check"),
        ("ruff", "format", "--check"),
        ("mypy", "--cache-dir", "build/mypy"),
        ("lint-imports", "--cache-dir", "build/lint-imports"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_the_code_is_clean(command):
    code, words = run(*command)
    assert code == 0, words
