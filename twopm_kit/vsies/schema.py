"""``Schema``: what a dataset may hold, as a text that everybody agrees on and a hash that the chain keeps."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any, Final, SupportsIndex

import pandas as pd
from eth_hash.auto import keccak

from twopm_kit.errors import SchemaError
from twopm_kit.vsies import checks
from twopm_kit.vsies.canonical import dumps, loads
from twopm_kit.vsies.field import Field, is_label, meant, number_text
from twopm_kit.vsies.report import ValidationReport, html_table
from twopm_kit.vsies.rules import MAX_RULES, Rule

if TYPE_CHECKING:
    import pandera.pandas as pa

__all__ = ["MAX_FIELDS", "Field", "Schema"]

MAX_FIELDS: Final = 256
_FORMAT: Final = "2PM schema 1"
_LABEL: Final = b"twopm/vsies/v1/schema"
_KEYS: Final = frozenset({"format", "name", "fields", "rules"})
_FIELD_KEYS: Final = frozenset(entry.name for entry in fields(Field))
_HEADS: Final = ("column", "kind", "allowed", "missing", "step", "standard", "meaning")


class Schema:
    """What each row of a dataset must keep: columns with kinds, ranges and categories, and rules.

    A schema is public, cannot be changed, and names itself: equal schemas have equal canonical JSON and equal
    `hash`. `with_field` makes a changed copy.

    Parameters
    ----------
    name : str
        1 to 64 printable characters.
    fields : iterable of Field
        1 to 256 columns of different names; their order is the order of validated frames.
    rules : sequence of str
        At most 64 rules between the values of a row, such as ``"worst_radius >= mean_radius"``; the language
        is that of :mod:`twopm_kit.vsies.rules`.

    Raises
    ------
    SchemaError
        A name is wrong or repeated, there are too many of something, or a rule cannot be read.

    Examples
    --------
    >>> schema = Schema("tumours", [Field("radius", "float", low=1, high=50, unit="mm", resolution=0.01)])
    >>> schema["radius"].allowed
    'between 1 and 50 mm'
    """

    def __init__(self, name: str, fields: Iterable[Field], rules: Sequence[str] = ()) -> None:
        if not is_label(name):
            shown = repr(name[:80]) if isinstance(name, str) else f"a {type(name).__name__}"
            raise SchemaError(
                f"the schema is called {shown}; expected 1 to 64 printable characters without spaces around "
                "them",
                hint='give the schema a short name first: Schema("patients", [Field(…), …])',
            )
        self._name = name
        self._fields = _fields(fields)
        self._by_name = {field.name: field for field in self._fields}
        if len(self._by_name) < len(self._fields):
            names = [field.name for field in self._fields]
            twice = next(one for place, one in enumerate(names) if one in names[:place])
            raise SchemaError(f"the schema has two fields called {twice!r}", hint="name each column once")
        if isinstance(rules, str) or not isinstance(rules, Sequence) or len(rules) > MAX_RULES:
            size = f"{len(rules)} long" if isinstance(rules, Sequence) else "no sequence"
            raise SchemaError(
                f"rules is a {type(rules).__name__}, {size}; expected a list of at most {MAX_RULES} texts",
                hint='pass rules=["worst_radius >= mean_radius"]',
            )
        self._rules = tuple(Rule.parse(rule, self._by_name) for rule in rules)
        if len(set(self.rules)) < len(self._rules):
            raise SchemaError("a rule is written twice", hint="write each rule once")
        self._json = dumps(self.body, "schema")

    @classmethod
    def infer(cls, frame: pd.DataFrame, name: str = "draft") -> "Schema":
        """Return a draft for a frame: read it, correct it with `with_field`, then agree on it.

        Kinds follow the dtypes. A range is the smallest and largest value, rounded outward to one digit of
        their distance and to at least five steps, because a schema is public and an exact extreme is the
        value of one row: 6.98 to 28.11 becomes 0 to 30, and the ratings 1 to 5 become 0 to 5. Rounding blurs
        the extremes, it does not hide that the draft was made from these rows; so write ranges that are known
        from the matter itself. Text of few values becomes categories: they are public too, and a rare one may
        point at a person. The step is guessed from the decimals.

        Parameters
        ----------
        frame : pandas.DataFrame
            At least one row; columns of numbers, truth values and texts.
        name : str
            Name of the draft.

        Raises
        ------
        SchemaError
            Not a frame, no rows, or a column that no kind fits; the message names it.
        """
        from twopm_kit.vsies.infer import draft

        return cls(name, draft(frame))

    @property
    def name(self) -> str:
        """Name of the schema."""
        return self._name

    @property
    def fields(self) -> tuple[Field, ...]:
        """The columns, in order."""
        return self._fields

    @property
    def rules(self) -> tuple[str, ...]:
        """Rules between the values of a row, as they were written."""
        return tuple(rule.text for rule in self._rules)

    @property
    def names(self) -> list[str]:
        """Names of the columns, in order."""
        return [field.name for field in self._fields]

    @property
    def field_types(self) -> dict[str, str]:
        """Kind of each column, by name: what the index contract stores."""
        return {field.name: field.kind for field in self._fields}

    @property
    def hash(self) -> bytes:
        """keccak256 of a label and the canonical JSON, 32 bytes: what the chain keeps."""
        return bytes(keccak(_LABEL + self._json.encode()))

    @property
    def body(self) -> dict[str, Any]:
        """What the canonical JSON says, as plain objects."""
        return {
            "format": _FORMAT,
            "name": self._name,
            "fields": [asdict(field) for field in self._fields],
            "rules": list(self.rules),
        }

    def __getitem__(self, name: str) -> Field:
        if name not in self:
            raise SchemaError(
                f"the schema {self._name!r} has no column {str(name)[:80]!r}",
                hint=f"{meant(name, self.names)}use one of: {', '.join(self.names[:20])}",
            )
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._by_name

    def __iter__(self) -> Iterator[Field]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schema) and other._json == self._json

    def __hash__(self) -> int:
        return hash(self._json)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Schema.from_json, (self._json,))

    def with_field(self, name: str, /, **changes: Any) -> "Schema":
        """Return a copy in which one field is changed: ``schema.with_field("age", low=18)``.

        Raises
        ------
        SchemaError
            No such column, no such entry of a field, or a value that the field cannot have.
        """
        field = self[name]
        unknown = sorted(set(changes) - _FIELD_KEYS)
        if unknown:
            raise SchemaError(
                f"a field has no {unknown[0]!r}",
                hint=f"{meant(unknown[0], _FIELD_KEYS)}change one of: {', '.join(sorted(_FIELD_KEYS))}",
            )
        changed = replace(field, **changes)
        return Schema(self._name, [changed if f is field else f for f in self._fields], self.rules)

    def with_rules(self, *rules: str) -> "Schema":
        """Return a copy that has these rules instead of its own.

        Raises
        ------
        SchemaError
            A rule is no text, or cannot be read.
        """
        if strange := [rule for rule in rules if not isinstance(rule, str)]:
            raise SchemaError(
                f"a {type(strange[0]).__name__} was passed; expected rules, each a text of its own",
                hint='pass them one by one: schema.with_rules("a > 0", "b >= a"), or *rules for a list',
            )
        return Schema(self._name, self._fields, rules)

    def report(self, frame: pd.DataFrame, *, first_row: int = 0) -> ValidationReport:
        """Hold a frame against the schema and say everything that it breaks.

        Parameters
        ----------
        frame : pandas.DataFrame
            The table, or a part of it: each part can be checked alone. Columns may be in any order, the index
            may be anything: rows are known by their place.
        first_row : int
            Place of the frame's first row in the whole table.

        Raises
        ------
        SchemaError
            It is not a frame.
        """
        return self._check(frame, first_row)[0]

    def validate(self, frame: pd.DataFrame, *, first_row: int = 0) -> pd.DataFrame:
        """Return the frame in the schema's order and dtypes; its values are the same, and so is its index.

        float becomes float64; int int64, or Int64 when it is nullable; bool becomes bool, or boolean when it
        is nullable; category a Categorical of exactly the schema's categories (of those in the frame, sorted,
        when the schema leaves them open). Only what is lossless is converted: 3.0 is a whole number, 1 is
        true, "12" is a text.

        Parameters
        ----------
        frame : pandas.DataFrame
            The table, or a part of it.
        first_row : int
            Place of the frame's first row in the whole table, for the failure table.

        Raises
        ------
        SchemaError
            Something is broken. ``failures`` is the table of breaches (column, rule, found, row); it quotes
            values, the message does not.
        """
        report, cells = self._check(frame, first_row)
        if not report.ok:
            column, rule, many = report.counts.iloc[0]
            others = len(report.counts) - 1
            where = f"column {column!r}" if column else "the table"
            broken = (
                rule.removeprefix("column ")
                if rule in (checks.MISSING, checks.STRANGE)
                else f"breaks the rule “{rule}” {many:,} time{'s' if many != 1 else ''}"
            )
            more = f", and {others} more rule{'s are' if others > 1 else ' is'} broken" if others else ""
            raise SchemaError(
                f"this table of {len(frame):,} rows does not fit schema {self._name!r}: "
                f"{where} {broken}{more}",
                hint=checks.renaming(report)
                or "look at .failures of this error, or at schema.report(frame), and correct those rows",
                failures=report.failures,
            )
        return pd.DataFrame({name: cells[name].series(frame.index) for name in self.names})

    def pandera(self) -> "pa.DataFrameSchema":
        """Return the same checks as a pandera schema, for use in a pipeline that has pandera already."""
        return checks.pandera_schema(self._name, self._fields, self._rules)

    def to_json(self) -> str:
        """Return the canonical text: sorted keys, no spaces, ASCII, floats by their shortest exact form."""
        return self._json

    @classmethod
    def from_json(cls, text: str | bytes) -> "Schema":
        """Read a schema from anybody.

        Raises
        ------
        SchemaError
            Too long, not the canonical text of a schema, or a schema that cannot be.
        """
        body = loads(text, "schema", _FORMAT, _KEYS)
        entries, rules = body["fields"], body["rules"]
        fit = isinstance(entries, list) and isinstance(rules, list) and len(entries) <= MAX_FIELDS
        if not fit or not all(isinstance(entry, dict) and set(entry) == _FIELD_KEYS for entry in entries):
            raise SchemaError(
                f"this is not a schema: fields must be at most {MAX_FIELDS} objects of exactly the keys "
                f"{', '.join(sorted(_FIELD_KEYS))}; and rules a list",
                hint="pass what the schema's to_json() returned",
            )
        schema = cls(body["name"], [Field(**entry) for entry in entries], rules)
        if schema.to_json() != (text if isinstance(text, str) else text.decode("ascii")):
            raise SchemaError(
                f"the text of schema {schema.name!r} is not canonical, so its hash would not name it",
                hint="pass exactly what the schema's to_json() returned",
            )
        return schema

    def _check(self, frame: pd.DataFrame, first_row: int) -> tuple[ValidationReport, dict[str, Any]]:
        if not isinstance(frame, pd.DataFrame):
            raise SchemaError(
                f"a {type(frame).__name__} was passed; expected a pandas DataFrame",
                hint="pass a DataFrame with one column for each field: kit.vsies.read(path) makes one",
            )
        if not isinstance(first_row, SupportsIndex) or isinstance(first_row, bool) or first_row < 0:
            raise SchemaError(
                f"first_row is {str(first_row)[:40]!r}; expected a whole number from 0",
                hint="pass how many rows of the table come before this frame",
            )
        return checks.run(self._name, self._fields, self._rules, frame, int(first_row))

    def _lines(self) -> list[tuple[str, ...]]:
        return [
            (
                field.name,
                field.kind,
                field.allowed,
                "allowed" if field.nullable else "no",
                (number_text(field.step) + (f" {field.unit}" if field.unit else "")) if field.step else "",
                field.standard,
                field.description,
            )
            for field in self._fields
        ]

    def __repr__(self) -> str:
        lines = [_HEADS, *(tuple(text[:48] for text in line) for line in self._lines())]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        padded = (zip(line, widths, strict=True) for line in lines)
        table = ["  ".join(text.ljust(width) for text, width in line).rstrip() for line in padded]
        many = f"{len(self._fields)} column{'s' if len(self._fields) > 1 else ''}"
        head = f"Schema {self._name!r}: {many}, hash 0x{self.hash.hex()[:12]}…"
        return "\n".join([head, *table, *(f"rule: {rule}" for rule in self.rules)])

    def _repr_html_(self) -> str:
        return html_table(
            f"Schema {self._name}: {len(self._fields)} columns, hash 0x{self.hash.hex()[:12]}…",
            _HEADS,
            self._lines(),
            " · ".join(f"rule: {rule}" for rule in self.rules),
        )


def _fields(fields: Any) -> tuple[Field, ...]:
    """Return the fields of a schema, or say which of them is none."""
    hint = 'pass [Field("age", "int", low=0, high=120), …]'
    if isinstance(fields, Field | str) or not isinstance(fields, Iterable):
        raise SchemaError(f"fields is a {type(fields).__name__}; expected a list of fields", hint=hint)
    found = tuple(fields)
    for place, field in enumerate(found, 1):
        if not isinstance(field, Field):
            raise SchemaError(
                f"field {place} of {len(found)} is a {type(field).__name__}; expected all of class Field",
                hint=hint,
            )
    if not 0 < len(found) <= MAX_FIELDS:
        raise SchemaError(f"the schema has {len(found)} fields; expected 1 to {MAX_FIELDS}", hint=hint)
    return found
