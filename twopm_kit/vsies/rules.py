"""Row rules: a comparison between columns, written as text, read and evaluated by our own walker.

A rule such as ``worst_radius >= mean_radius`` or ``age > 18 or not employed`` is part of a schema, and a
schema comes from anybody: it is never run as a program. The text is cut into words of a small alphabet,
parsed into a syntax tree, and every node of the tree must be one of those below. Types are checked against
the fields when the schema is made, so that a rule that cannot be evaluated never reaches data.

========================  ==================================================================================
names                     of columns; in backticks when they are not plain words: ```mean radius` > 1``
numbers, texts, truth     ``1``, ``2.5e3``, ``"yes"``, ``True``, ``False``
arithmetic                ``+ - * /`` and signs, on numbers
comparisons               ``< <= > >= == !=``, chained too; texts and truth values with ``==`` and ``!=`` only
logic                     ``and``, ``or``, ``not`` on comparisons and bool columns
========================  ==================================================================================

Numbers are float64. A row in which a named value is missing (or was refused on its own) passes: whether a
value may be missing is the field's own rule. A row in which arithmetic has no finite result, such as a
division by 0, is a breach.
"""

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from twopm_kit.errors import SchemaError
from twopm_kit.vsies.cells import Cells, Mask
from twopm_kit.vsies.field import EXACT, Field, is_label, meant

__all__ = ["MAX_RULE", "MAX_RULES", "Rule"]

MAX_RULE: Final = 500
MAX_RULES: Final = 64
_DEEPEST: Final = 32
_MOST_NODES: Final = 200

# One word of a rule; a word must end before the next begins, so that nothing but these can be written.
_WORD: Final = re.compile(
    r"(?P<space> +)|(?P<tick>`[^`]+`)|(?P<text>\"[^\"\\]*\"|'[^'\\]*')(?![\"'\w])"
    r"|(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.])|(?P<name>[^\W\d]\w*)(?![\"'])"
    r"|(?P<sign>[<>=!]=|[<>()+\-*/])"
)
_ARITHMETIC: Final[dict[type[ast.AST], Callable[..., Any]]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.UAdd: np.positive,
    ast.USub: np.negative,
}
_COMPARISONS: Final[dict[type[ast.AST], Callable[..., Any]]] = {
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
}
_KINDS: Final = {"float": "number", "int": "number", "bool": "truth", "category": "text"}
_AGAIN: Final = "write comparisons of columns with + - * /, and, or, not; put unusual names in backticks"


@dataclass(frozen=True)
class Rule:
    """One rule, parsed and checked against the fields.

    Attributes
    ----------
    text : str
        The rule as it was written.
    names : tuple of str
        Columns that it names, in the order of the text.
    """

    text: str
    names: tuple[str, ...]
    _tree: ast.expr
    _places: dict[int, str]

    @classmethod
    def parse(cls, text: str, fields: Mapping[str, Field]) -> "Rule":
        """Read a rule.

        Raises
        ------
        SchemaError
            Anything but the language above, an unknown column, or values that cannot be compared. The message
            shows the rule with a mark under the character.
        """
        if not is_label(text, MAX_RULE):
            size = f"{text[:60]!r}" if isinstance(text, str) else f"a {type(text).__name__}"
            raise SchemaError(
                f"a rule is {size}; expected 1 to {MAX_RULE} printable characters without spaces around them",
                hint=_AGAIN,
            )
        plain, places = _plain(text)
        try:
            tree = ast.parse(plain, mode="eval").body
        except SyntaxError as error:
            place = min(error.offset - 1, len(text)) if error.offset else len(text)
            raise _refusal(text, place, "the rule stops making sense here") from None
        except (ValueError, RecursionError, MemoryError):
            raise _refusal(text, 0, "the rule is nested too deep") from None
        checker = _Checker(text, fields, places)
        if checker.kind(tree) != "truth":
            raise checker.refuse(tree, "the rule is not true or false: it has no comparison")
        names = tuple(dict.fromkeys(checker.names))
        if not names:
            raise _refusal(text, 0, "the rule names no column")
        return cls(text, names, tree, places)

    def holds(self, cells: Mapping[str, Cells]) -> Mask:
        """Tell which rows keep the rule, shape (n,).

        Parameters
        ----------
        cells : mapping of str to Cells
            Every column that the rule names, as read by its field.
        """
        named = [cells[name] for name in self.names]
        there = reduce(np.logical_and, (one.good & one.finite for one in named))
        return np.asarray(_Walker(cells, self._places, len(there)).keeps(self._tree) | ~there)


def _plain(text: str) -> tuple[str, dict[int, str]]:
    """Return the rule with words of equal length that Python can parse, and the column name at each place.

    Names are taken from the text itself, never from the parser: it folds letters that look alike into one.
    Every name is replaced by as many ``_`` as it is long, so that places in the tree are places in the text.
    """
    words: list[str] = []
    places: dict[int, str] = {}
    at = 0
    while at < len(text):
        word = _WORD.match(text, at)
        if word is None:
            raise _refusal(text, at, f"{text[at]!r} cannot stand here")
        found = word[0]
        if word.lastgroup == "text":
            # The content is looked up as a name is: what stays has one byte for each character.
            places[at] = found[1:-1]
            found = f'"{"_" * (len(found) - 2)}"'
        elif word.lastgroup == "tick":
            places[at] = found[1:-1]
            found = "_" * len(found)
        elif word.lastgroup == "name" and found not in ("and", "or", "not", "True", "False"):
            places[at] = found
            found = "_" * len(found)
        words.append(found)
        at = word.end()
    return "".join(words), places


def _refusal(text: str, at: int, why: str) -> SchemaError:
    return SchemaError(f"{why}\n    {text}\n    {' ' * at}^", hint=_AGAIN)


class _Checker:
    """Checks a tree: only known nodes, only known columns, only values that go together."""

    def __init__(self, text: str, fields: Mapping[str, Field], places: Mapping[int, str]) -> None:
        self.text = text
        self.fields = fields
        self.places = places
        self.names: list[str] = []
        self._nodes = 0

    def refuse(self, node: ast.expr, why: str) -> SchemaError:
        return _refusal(self.text, node.col_offset, why)

    def kind(self, node: ast.expr, depth: int = 0) -> str:
        """Return "number", "text" or "truth", or refuse the node."""
        self._nodes += 1
        if depth > _DEEPEST or self._nodes > _MOST_NODES:
            raise self.refuse(
                node, f"the rule is nested over {_DEEPEST} deep, or has over {_MOST_NODES} parts"
            )
        match node:
            case ast.Name(col_offset=place):
                return self._name(node, self.places[place])
            case ast.Constant(value=bool()):
                return "truth"
            case ast.Constant(value=str(), col_offset=start, end_col_offset=end):
                # two texts side by side are one to the parser
                if end != start + len(self.places[start]) + 2:
                    raise self.refuse(node, "two texts stand side by side here")
                return "text"
            case ast.Constant(value=int() | float() as value):
                if (isinstance(value, int) and value > EXACT) or value == np.inf:
                    raise self.refuse(node, "this number is too large")
                return "number"
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                self._expect(operand, "truth", depth)
                return "truth"
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _ARITHMETIC:
                return self._expect(operand, "number", depth)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                self._expect(left, "number", depth)
                return self._expect(right, "number", depth)
            case ast.BoolOp(values=values):
                for part in values:
                    self._expect(part, "truth", depth)
                return "truth"
            case ast.Compare(left=left, ops=ops, comparators=others) if {*map(type, ops)} <= {*_COMPARISONS}:
                self._comparison([left, *others], ops, depth)
                return "truth"
            case _:
                raise self.refuse(node, "this cannot be part of a rule")

    def _name(self, node: ast.expr, name: str) -> str:
        if name not in self.fields:
            raise SchemaError(
                self.refuse(node, f"the schema has no column {name!r}").message,
                hint=f"{meant(name, self.fields)}use one of: {', '.join(list(self.fields)[:20])}",
            )
        self.names.append(name)
        return _KINDS[self.fields[name].kind]

    def _expect(self, node: ast.expr, kind: str, depth: int) -> str:
        found = self.kind(node, depth + 1)
        if found != kind:
            raise self.refuse(node, f"a {kind} is expected here, this is a {found}")
        return kind

    def _comparison(self, nodes: list[ast.expr], ops: list[ast.cmpop], depth: int) -> None:
        first = self.kind(nodes[0], depth + 1)
        for node in nodes[1:]:
            self._expect(node, first, depth)
        if first != "number" and not {*map(type, ops)} <= {ast.Eq, ast.NotEq}:
            raise self.refuse(nodes[0], f"a {first} can only be compared with == and !=")
        known = [
            self.fields[self.places[node.col_offset]].categories
            for node in nodes
            if first == "text" and isinstance(node, ast.Name)
        ]
        for node in nodes:
            # A text that no row can have is a slip of the pen
            if isinstance(node, ast.Constant) and first == "text":
                text = self.places[node.col_offset]
                if not known or any(allowed and text not in allowed for allowed in known):
                    raise self.refuse(node, f"{text!r} is none of the column's categories")


class _Walker:
    """Evaluates a checked tree on columns."""

    def __init__(self, cells: Mapping[str, Cells], places: Mapping[int, str], rows: int) -> None:
        self._cells = cells
        self._places = places
        self._defined = np.ones(rows, dtype=bool)

    def keeps(self, tree: ast.expr) -> Mask:
        """Return the rows for which the tree is true and all arithmetic had a finite result."""
        with np.errstate(all="ignore"):
            return np.asarray(np.logical_and(self._value(tree), self._defined))

    def _value(self, node: ast.expr) -> Any:
        match node:
            case ast.Name(col_offset=place):
                return self._column(self._cells[self._places[place]])
            case ast.Constant(value=str(), col_offset=place):
                return self._places[place]
            case ast.Constant(value=bool() as truth):
                return truth
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return np.logical_not(self._value(operand))
            case ast.UnaryOp(op=op, operand=operand):
                return _ARITHMETIC[type(op)](self._value(operand))
            case ast.BinOp(left=left, op=op, right=right):
                result = _ARITHMETIC[type(op)](self._value(left), self._value(right))
                self._defined &= np.isfinite(result)
                return result
            case ast.BoolOp(op=op, values=values):
                join = np.logical_and if isinstance(op, ast.And) else np.logical_or
                return reduce(join, (self._value(value) for value in values))
            case ast.Compare(left=left, ops=ops, comparators=others):
                sides = [self._value(side) for side in (left, *others)]
                pairs = zip(sides, ops, sides[1:], strict=False)
                return reduce(np.logical_and, (_COMPARISONS[type(op)](a, b) for a, op, b in pairs))
            case _:  # unreachable: the checker let nothing else through
                raise SchemaError("a rule was changed after it was checked", hint=_AGAIN)

    @staticmethod
    def _column(cells: Cells) -> NDArray[Any]:
        if cells.field.kind == "category":
            texts = np.array([*cells.texts, ""], dtype=object)
            return np.asarray(texts[cells.values])
        return cells.values.astype(np.float64) if cells.field.is_number else cells.values
