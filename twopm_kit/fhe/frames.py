"""``EncryptedFrame``: a table of ciphertexts that anybody can compute on and only the key holder can read."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from twopm_kit.errors import CiphertextError
from twopm_kit.fhe import arithmetic, selection
from twopm_kit.fhe.arithmetic import best_scale, exhausted, rescale_noise
from twopm_kit.fhe.columns import Chunk, Column, computed, fold, same_key, unfold
from twopm_kit.fhe.container import ColumnHeader, ContainerReader, FrameHeader, unpack
from twopm_kit.fhe.engine import FRESH_NOISE, Engine
from twopm_kit.fhe.frame_bytes import blocks_of, columns_of, container_of
from twopm_kit.fhe.frame_html import counted, frame_html
from twopm_kit.fhe.habits import Habits
from twopm_kit.fhe.layouts import COLUMNS, SUMS, Layout, n_blocks, spread
from twopm_kit.fhe.seal_io import as_path, read_file, write_atomic
from twopm_kit.fhe.summaries import Summaries
from twopm_kit.fhe.tables import CATEGORY, PRESENT, Table

if TYPE_CHECKING:
    from twopm_kit.fhe.evaluation import EvaluationKeys
    from twopm_kit.fhe.keys import Evaluator

__all__ = [
    "Chunk",
    "Column",
    "EncryptedFrame",
    "as_bytes",
    "best_scale",
    "computed_frame",
    "concat",
    "constants_frame",
    "encrypt_table",
    "exhausted",
    "rescale_noise",
    "same_key",
    "sums_frame",
]


class EncryptedFrame(Habits, Summaries):
    """Rows and columns that only the key holder can read; anybody can compute on them.

    Made by ``KeyHolder.encrypt``, by arithmetic, or read with `load` and `from_bytes`. Never changes. Holds
    no key. What it does show to everybody: column names, kinds and categories, shape, a public bound of each
    column, profile, fingerprint of the key, level and scale.

    Select with ``enc["a"]``, ``enc[["a", "b"]]`` and `drop`; add, subtract and multiply frames, columns and
    numbers; take whole powers; weigh columns with ``enc @ weights``; summarise with `mean`, `var`, `cov`,
    `corr`, `describe` and their kin. Frames meet under one key, with equal rows and column names; two single
    columns meet whatever they are called, and the result has the name of the left one.

    Parameters
    ----------
    engine : Engine
        Parameters and arithmetic.
    fingerprint : str
        Of the key.
    columns : tuple of Column
        In order.
    n_rows, level : int
        Rows, and how many products can still be rescaled.
    packing : str
        "real": a row a slot. "complex": two rows a slot, for linear work on many rows.
    source : str
        "frame" or "array": what decryption gives back.
    layout : Layout
        Where values sit. In blocks all columns share their ciphertexts.
    size : int
        Polynomials of each ciphertext: 3 after a product that was not relinearised.
    evaluator : Evaluator, optional
        Public half of the key; never a part of the frame's bytes.
    padding : str
        "zeros": slots beyond the last row hold 0, so that a sum over all slots is one over the rows. "any":
        nobody knows.
    """

    __slots__ = (
        "_columns",
        "_engine",
        "_root",
        "evaluator",
        "fingerprint",
        "layout",
        "level",
        "n_rows",
        "packing",
        "padding",
        "size",
        "source",
    )

    def __init__(
        self,
        engine: Engine,
        fingerprint: str,
        columns: tuple[Column, ...],
        *,
        n_rows: int,
        level: int,
        packing: str,
        source: str,
        layout: Layout = COLUMNS,
        size: int = 2,
        evaluator: "Evaluator | None" = None,
        padding: str = "any",
    ) -> None:
        self._engine = engine
        self._columns = columns
        self._root: str | None = None
        self.fingerprint = fingerprint
        self.n_rows = n_rows
        self.level = level
        self.packing = packing
        self.source = source
        self.layout = layout
        self.size = size
        self.evaluator = evaluator
        self.padding = padding

    # What it is ------------------------------------------------------------------------------------------

    @property
    def columns(self) -> list[str]:
        """Names of the encrypted columns; each category of a categorical column has one: ``name=value``."""
        return [column.head.name for column in self._columns]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.n_rows, len(self._columns)

    @property
    def profile(self) -> str:
        """Name of the encryption profile."""
        return self._engine.profile.name

    @property
    def engine(self) -> Engine:
        """Parameters and arithmetic; no key."""
        return self._engine

    @property
    def heads(self) -> tuple[ColumnHeader, ...]:
        """Public facts of each column: name, bound, scale, noise, kind."""
        return tuple(column.head for column in self._columns)

    @property
    def scale(self) -> float:
        """Scale of the ciphertexts; the smallest one when columns differ (see `scales`)."""
        return min(column.head.scale for column in self._columns)

    @property
    def scales(self) -> dict[str, float]:
        """Scale of each column; after a product of columns it need not be a power of two."""
        return {column.head.name: column.head.scale for column in self._columns}

    @property
    def bounds(self) -> dict[str, float]:
        """Public upper limit of the absolute values of each column."""
        return {column.head.name: column.head.bound for column in self._columns}

    @property
    def kinds(self) -> dict[str, str]:
        """What each column held in clear: "float", "int", "bool" or "category:<column>"."""
        return {column.head.name: column.head.kind for column in self._columns}

    @property
    def categories(self) -> dict[str, list[str]]:
        """Public categories of each categorical column."""
        found: dict[str, list[str]] = {}
        for head in self.heads:
            if head.kind.startswith(CATEGORY):
                group = head.kind.removeprefix(CATEGORY)
                found.setdefault(group, []).append(head.name.removeprefix(group + "="))
        return found

    @property
    def masked(self) -> list[str]:
        """Columns that may have missing values; which ones is encrypted in a mask beside each."""
        return [column.head.name for column in self._columns if column.present is not None]

    @property
    def nbytes(self) -> int:
        """Bytes of all ciphertexts as they are sent."""
        return sum(len(chunk.content()) for column in unfold(self.stored) for chunk in column.chunks)

    @property
    def n_ciphertexts(self) -> int:
        """How many ciphertexts there are, masks included."""
        return sum(len(column.chunks) for column in unfold(self.stored))

    @property
    def every(self) -> tuple[Column, ...]:
        """The columns with their ciphertexts and masks."""
        return self._columns

    @property
    def stored(self) -> tuple[Column, ...]:
        """The columns that have ciphertexts of their own."""
        return self._columns[:1] if self.layout.kind == "blocks" else self._columns

    def value_noise(self, head: ColumnHeader) -> float:
        """Noise of a column in coefficients, as large as it would be if its values were slots."""
        # a sum is slots times one coefficient; a slot gathers sqrt(slots) times the noise of one
        return head.noise * (math.sqrt(self._engine.slots) if self.layout.kind == "sums" else 1.0)

    def keys(self) -> "EvaluationKeys":
        """Keys for products and rotations.

        Raises
        ------
        CiphertextError
            The frame came as bytes, and nobody has said whose evaluator goes with it.
        """
        if self.evaluator is None:
            raise CiphertextError(
                "a product or rotation of ciphertexts needs evaluation keys, and this frame has none",
                hint="read it with EncryptedFrame.load(path, key=evaluator)",
            )
        return self.evaluator.keys

    @property
    def root(self) -> str:
        """Merkle root of header and ciphertexts, 64 hex digits: a short name for exactly these bytes."""
        if self._root is None:
            self._root = unpack(self.to_bytes())[2].hex()
        return self._root

    def ciphers(self, name: str) -> list[Any]:
        """SEAL ciphertexts of a column, one for each block of rows.

        Raises
        ------
        CiphertextError
            There is no such column, it may have missing values (computing on would take them for 0), or it
            is one of several in blocks, where only the first stands for the ciphertexts of all.
        """
        column = next((c for c in self._columns if c.head.name == name), None)
        if column is None:
            raise CiphertextError(
                f"the ciphertexts of {name!r} were asked for, which the frame does not have",
                hint=f"ask for one of: {', '.join(self.columns[:20])}",
            )
        if self.layout.kind == "blocks" and column is not self._columns[0]:
            raise CiphertextError(
                f"the ciphertexts of {name!r} alone were asked for; in blocks all columns share theirs",
                hint="encrypt in columns, the default layout; blocks are for networks and recommenders",
            )
        self.with_columns([column]).complete("computing")
        return self.open(column)

    def open(self, column: Column) -> list[Any]:
        """SEAL ciphertexts of a column of this frame, checked when they come from bytes."""
        head = column.head
        return [
            chunk.cipher(self._engine, self.level, head.scale, f"column {head.name!r}, block {i}", self.size)
            for i, chunk in enumerate(column.chunks)
        ]

    def complete(self, doing: str) -> None:
        """Refuse columns that may have missing values.

        Raises
        ------
        CiphertextError
            Names them.
        """
        if self.masked:
            raise CiphertextError(
                f"{doing}: {', '.join(self.masked[:8])} may have missing values, which would count as 0",
                hint="put 0 there with .fillna(0), or fill or drop them before encrypting",
            )

    def fits(self, head: ColumnHeader, level: int) -> ColumnHeader:
        """Return the head of a column whose values fit a level.

        Raises
        ------
        CiphertextError
            Bound times scale is beyond the primes of the level.
        """
        # a sum sits in one coefficient, divided by the number of slots
        bound = head.bound / self._engine.slots if self.layout.kind == "sums" else head.bound
        needed = (
            math.log2(max(bound, 2.0**-60))
            + math.log2(head.scale)
            + (0.5 if self.packing == "complex" else 0)
        )
        room = self._engine.room_bits(level)
        if needed > room:
            raise CiphertextError(
                f"column {head.name!r}: values up to {head.bound:g} at scale {head.scale:g} need "
                f"{needed:.0f} bits; level {level} of profile {self.profile!r} has {room:.0f}",
                hint="encrypt with smaller bounds= (standardise the columns), or use a profile with a larger "
                "base prime",
            )
        return head

    def __len__(self) -> int:
        return self.n_rows

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __contains__(self, name: object) -> bool:
        return name in self.columns or name in self.categories

    # Making others of it ---------------------------------------------------------------------------------

    def with_columns(self, columns: Iterable[Column], level: int | None = None) -> "EncryptedFrame":
        """Frame of other columns over the same rows, under the same key."""
        return EncryptedFrame(
            self._engine,
            self.fingerprint,
            tuple(columns),
            n_rows=self.n_rows,
            level=self.level if level is None else level,
            packing=self.packing,
            source=self.source,
            layout=self.layout,
            size=self.size,
            evaluator=self.evaluator,
            padding=self.padding,
        )

    def with_padding(self, padding: str) -> "EncryptedFrame":
        """Note what is known of the slots beyond the last row."""
        frame = self.with_columns(self._columns)
        frame.padding = padding
        return frame

    def unfolded(self) -> "EncryptedFrame":
        """Show every mask as a column of its own, behind the one that it belongs to."""
        return self.with_columns(unfold(self._columns)) if self.masked else self

    def each(
        self,
        change: Callable[[Column], Column],
        level: int | None = None,
        *,
        kind: Callable[[ColumnHeader], str] | None = None,
        padding: str | None = None,
    ) -> "EncryptedFrame":
        """Change every column; in blocks, where columns share their ciphertexts, only once.

        Masks come along unchanged, at the new level.
        """
        lower = self.level if level is None else level
        changed = [change(column) for column in self.stored]
        if self.layout.kind == "blocks":
            changed *= len(self._columns)
        columns = []
        for old, new in zip(self._columns, changed, strict=True):
            head = replace(new.head, name=old.head.name, kind=kind(old.head) if kind else old.head.kind)
            mask = old.present
            if mask is not None and lower < self.level:
                self.fits(mask.head, lower)
                mask = computed(mask.head, [self._engine.drop_to(c, lower) for c in self.open(mask)])
            columns.append(Column(head, new.chunks, mask))
        frame = self.with_columns(columns, lower)
        frame.padding = self.padding if padding is None else padding
        return frame

    def __getitem__(self, names: str | list[str]) -> "EncryptedFrame":
        """Take columns; the name of a categorical column stands for all of its categories."""
        return selection.chosen(self, selection.spelled(self, names, ""))

    def drop(self, columns: str | Sequence[str]) -> "EncryptedFrame":
        """Leave columns out.

        Raises
        ------
        CiphertextError
            There is no such column, or none would be left.
        """
        gone = set(selection.spelled(self, columns, " to be dropped"))
        rest = [name for name in self.columns if name not in gone]
        if not rest:
            raise CiphertextError("every column was to be dropped", hint="keep at least one column")
        return selection.chosen(self, rest)

    def rename(self, columns: Sequence[str] | Mapping[str, str] | Callable[[str], str]) -> "EncryptedFrame":
        """Give columns other names: one for each, a mapping of old to new ones, or a function of a name."""
        return selection.renamed(self, columns)

    def assign(
        self, **columns: "EncryptedFrame | Callable[[EncryptedFrame], EncryptedFrame]"
    ) -> "EncryptedFrame":
        """Add single columns, or put them in the place of those with the same name.

        Parameters
        ----------
        **columns : EncryptedFrame of one column, or a function that makes one of this frame
            Under the same key, with the same rows. The result is at the lowest level of all.
        """
        result = self
        for name, given in columns.items():
            column = given(result) if callable(given) else given
            if not isinstance(column, EncryptedFrame) or len(column.columns) != 1:
                raise CiphertextError(
                    f"{name!r} was assigned an object of type {type(column).__name__}"
                    + (f" with {len(column.columns)} columns" if isinstance(column, EncryptedFrame) else "")
                    + "; expected an EncryptedFrame of one column",
                    hint="select one column: enc['a'], or compute one; encrypt plain values first",
                )
            new = column.rename([name])
            order = result.columns if name in result.columns else [*result.columns, name]
            rest = [other for other in result.columns if other != name]
            kept = [selection.chosen(result, rest)] if rest else []
            result = selection.side_by_side([*kept, new])[order]
        return result

    def fillna(self, value: float) -> "EncryptedFrame":
        """Put 0 where values are missing: the slots hold it already, the masks are left out.

        Raises
        ------
        CiphertextError
            Another value than 0.
        """
        if arithmetic.number(value, "put into") != 0.0:
            raise CiphertextError(
                f"missing values were to be filled with {value!r}; only 0 is there to be put in their place",
                hint="standardise before encrypting, so that 0 is the mean, or fill before encrypting",
            )
        return self.with_columns(replace(column, present=None) for column in self._columns)

    def drop_to(self, level: int) -> "EncryptedFrame":
        """Bring the frame to a lower level: smaller to send, fewer products left.

        Raises
        ------
        CiphertextError
            The level is above the frame's, or values do not fit into the primes that would be left.
        """
        if type(level) is not int or not 0 <= level <= self.level:
            raise CiphertextError(
                f"level {level!r} was asked for; the frame is at level {self.level}",
                hint=f"ask for a whole number from 0 to {self.level}",
            )
        if level == self.level:
            return self

        def lower(column: Column) -> Column:
            self.fits(column.head, level)
            return computed(column.head, (self._engine.drop_to(c, level) for c in self.open(column)))

        return self.each(lower, level)

    # Arithmetic ------------------------------------------------------------------------------------------

    def __add__(self, other: object) -> "EncryptedFrame":
        if isinstance(other, EncryptedFrame):
            return arithmetic.combine(self, other, self._engine.add, "adding frames")
        return arithmetic.shift(self, arithmetic.number(other, "added to"))

    __radd__ = __add__

    def __sub__(self, other: object) -> "EncryptedFrame":
        if isinstance(other, EncryptedFrame):
            return arithmetic.combine(self, other, self._engine.subtract, "subtracting frames")
        return arithmetic.shift(self, -arithmetic.number(other, "subtracted from"))

    def __rsub__(self, other: object) -> "EncryptedFrame":
        return arithmetic.shift(-self, arithmetic.number(other, "an operand of"))

    def __neg__(self) -> "EncryptedFrame":
        return arithmetic.negate(self)

    def __mul__(self, other: object) -> "EncryptedFrame":
        """Product with a number or a frame.

        A whole number up to 2^20 uses no level; any other number, or a frame, uses one. A product of frames
        needs the key holder's evaluation keys, which encrypted frames carry (see `keys`).
        """
        if isinstance(other, EncryptedFrame):
            return arithmetic.multiply(self, other)
        return arithmetic.times(self, arithmetic.number(other, "multiplied with"))

    __rmul__ = __mul__

    def __pow__(self, exponent: object) -> "EncryptedFrame":
        return arithmetic.power(self, exponent)

    def __truediv__(self, other: object) -> "EncryptedFrame":
        if isinstance(other, EncryptedFrame):
            raise CiphertextError(
                "an encrypted frame was divided by an encrypted frame; a quotient is not a polynomial",
                hint="open sums and divide in clear, or divide by a plain number",
            )
        divisor = arithmetic.number(other, "a divisor of")
        if divisor == 0.0 or math.isinf(1.0 / divisor):
            raise CiphertextError(
                f"an encrypted frame was divided by {divisor:g}", hint="divide by a number further from 0"
            )
        return arithmetic.times(self, 1.0 / divisor)

    def __matmul__(self, weights: object) -> "EncryptedFrame":
        """Weighted sums of columns: plain weights of shape (d,) or (d, k), Series or DataFrame; one level."""
        return arithmetic.weigh(self, weights)

    # Bytes -----------------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Serialise the frame as a ``.ct`` container; holds no key."""
        return container_of(self)

    @classmethod
    def from_bytes(cls, content: bytes, key: Any = None) -> "EncryptedFrame":
        """Read container bytes from anybody; every field is checked against the ciphertexts.

        Parameters
        ----------
        content : bytes
            What `to_bytes` made.
        key : KeyHolder, Evaluator or str, optional
            Whose key the frame must be under.

        Raises
        ------
        CiphertextError
            Damaged, cut short, changed, of another version or beyond limits.
        WrongKey
            Under another key than ``key``.
        """
        header, chunks, root = unpack(as_bytes(content, "a ciphertext container"))
        frame = cls._assemble(header, chunks, key)
        frame._root = root.hex()
        return frame

    @classmethod
    def _assemble(cls, header: FrameHeader, chunks: list[bytes], key: Any) -> "EncryptedFrame":
        if key is not None:
            fingerprint = getattr(key, "fingerprint", key)
            if not isinstance(fingerprint, str):
                raise CiphertextError(
                    f"key= was given an object of type {type(key).__name__}; expected whose key the frame "
                    "must be under",
                    hint="pass a KeyHolder, an Evaluator, or the fingerprint as text",
                )
            same_key(fingerprint, header.fingerprint, "reading a container")
        engine, columns = columns_of(header, chunks)
        frame = cls(
            engine,
            header.fingerprint,
            columns,
            n_rows=header.rows,
            level=header.level,
            packing=header.packing,
            source=header.source,
            layout=Layout(header.layout, header.samples),
            size=header.size,
            padding=header.padding,
        )
        for column in unfold(frame.stored):
            frame.fits(column.head, frame.level)
            frame.open(column)
        # a holder gives its public half; an evaluator is one
        half = key.evaluator() if hasattr(key, "evaluator") else key
        frame.evaluator = half if hasattr(half, "keys") else None
        return frame

    def save(self, path: str | Path) -> Path:
        """Write the container to ``path``, whole or not at all; returns the path."""
        target = as_path(path)
        write_atomic(target, self.to_bytes())
        return target

    @classmethod
    def load(cls, path: str | Path, key: Any = None) -> "EncryptedFrame":
        """Read a container file; see `from_bytes` for what is checked."""
        return cls.from_bytes(read_file(path, "a ciphertext container"), key)

    @classmethod
    def stream(cls, path: str | Path, key: Any = None) -> Iterator["EncryptedFrame"]:
        """Read a container file of any size as frames of as many rows as a ciphertext holds, one by one.

        Parameters
        ----------
        path : str or pathlib.Path
            What `save` or ``KeyHolder.encrypt_to`` wrote.
        key : KeyHolder, Evaluator or str, optional
            Whose key the frame must be under.

        Yields
        ------
        EncryptedFrame
            The next rows, all columns. Only they are in memory.

        Raises
        ------
        CiphertextError
            As `from_bytes`; a damaged ciphertext is found when its rows are read.
        WrongKey
            Under another key than ``key``.
        """
        with ContainerReader(as_path(path)) as reader:
            header = reader.header
            for rows, chunks in blocks_of(header, len(reader)):
                yield cls._assemble(replace(header, rows=rows), [reader.chunk(i) for i in chunks], key)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise CiphertextError(
            "an EncryptedFrame cannot be pickled or copied",
            hint="send .to_bytes() or a path; a frame never changes",
        )

    # Showing ---------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return (
            f"<EncryptedFrame {counted(self.n_rows, 'row')} × {counted(len(self._columns), 'column')}, "
            f"profile {self.profile}, level {self.level}, {self.nbytes:,} bytes, key {self.fingerprint[:8]}…>"
        )

    def _repr_html_(self) -> str:
        return frame_html(self)


def concat(frames: Iterable[EncryptedFrame]) -> EncryptedFrame:
    """Put the columns of frames side by side, at the lowest level of all.

    Parameters
    ----------
    frames : iterable of EncryptedFrame
        Under one key, with equal rows, in columns, and no column name twice.

    Raises
    ------
    WrongKey
        Under different keys.
    CiphertextError
        Rows, profile, packing or layout differ, or a name comes twice.
    """
    # a frame, and a table, would be taken for the names of its columns
    parts: list[Any]
    parts = list(frames) if isinstance(frames, Iterable) and not hasattr(frames, "columns") else [frames]
    wrong = next((type(part).__name__ for part in parts if not isinstance(part, EncryptedFrame)), None)
    if not parts or wrong is not None:
        raise CiphertextError(
            f"{f'an object of type {wrong}' if wrong else 'nothing'} was passed to be put side by side with "
            "encrypted frames",
            hint="pass a list of one or more encrypted frames",
        )
    return selection.side_by_side(parts)


def as_bytes(content: object, what: str) -> bytes:
    """Bytes that were received.

    Raises
    ------
    CiphertextError
        Something else, as a path or a number would be.
    """
    if not isinstance(content, bytes | bytearray | memoryview):
        raise CiphertextError(
            f"an object of type {type(content).__name__} was passed; expected the bytes of {what}",
            hint="pass what .to_bytes() gave, or read a file with .load(path)",
        )
    return bytes(content)


# Where frames come from ---------------------------------------------------------------------------------


def constants_frame(
    evaluator: "Evaluator", table: Table, encrypt: Callable[[Any], Any], *, noise: float
) -> EncryptedFrame:
    """Encrypted frame of a table of one row, each number in every slot: weights that are to meet columns."""
    engine = evaluator.engine
    level = engine.profile.levels
    columns = []
    for name, value, bound in zip(table.names, table.values[0], table.bounds, strict=True):
        scale = 2.0 ** engine.profile.fresh_scale_bits(bound)
        # a constant needs no transform: all of its residues are one number
        plain = engine.encode_constant(float(value), scale, level) or engine.encode(np.zeros(1), scale, level)
        columns.append(computed(ColumnHeader(name, float(bound), scale, noise), [encrypt(plain)]))
    return EncryptedFrame(
        engine,
        evaluator.fingerprint,
        tuple(columns),
        n_rows=engine.slots,
        level=level,
        packing="real",
        source="array",
        evaluator=evaluator,
    )


def encrypt_table(
    evaluator: "Evaluator",
    table: Table,
    encrypt: Callable[[Any], Chunk],
    *,
    packing: str = "real",
    layout: Layout = COLUMNS,
    noise: float = FRESH_NOISE,
    products: bool = True,
) -> EncryptedFrame:
    """Encrypted frame of a checked table; ``encrypt`` turns an encoded plaintext into a chunk.

    Without products among its own columns it can have a larger scale, see `Profile.fresh_scale_bits`.
    """
    engine = evaluator.engine
    rows, width = table.values.shape
    kinds = table.kinds or ("float",) * width
    if not isinstance(layout, Layout):
        raise CiphertextError(
            f"layout={layout!r} was passed; expected a Layout",
            hint="leave it out for columns, or pass kit.fhe.Layout.blocks(samples)",
        )
    layout.check(width, engine.slots, packing)
    level, together = engine.profile.levels, layout.kind == "blocks"
    masks = [kind.startswith(PRESENT) for kind in kinds]
    if together and any(masks):
        raise CiphertextError(
            "missing values were to be masked in blocks, where all columns share their ciphertexts",
            hint="encrypt in columns, the default layout, or fill the missing values",
        )
    bounds = (max(table.bounds),) * width if together else table.bounds
    blocks = n_blocks(layout, rows, engine.slots, packing)
    scales = [2.0 ** engine.profile.fresh_scale_bits(bound, blocks, products=products) for bound in bounds]
    # a mask has the scale of its column, so that the two can be added
    scales = [
        scales[j - 1] if mask else scale for j, (mask, scale) in enumerate(zip(masks, scales, strict=True))
    ]
    chunks = [
        tuple(encrypt(engine.encode(vector, scale, level)) for vector in vectors)
        for vectors, scale in zip(spread(table.values, layout, engine.slots, packing), scales, strict=False)
    ]
    columns = fold(
        Column(ColumnHeader(name, float(bound), scale, noise, kind), chunks[0 if together else j])
        for j, (name, bound, scale, kind) in enumerate(zip(table.names, bounds, scales, kinds, strict=True))
    )
    return EncryptedFrame(
        engine,
        evaluator.fingerprint,
        columns,
        n_rows=rows,
        level=level,
        packing=packing,
        source=table.source,
        layout=layout,
        evaluator=evaluator,
        padding="zeros",
    )


def computed_frame(
    like: EncryptedFrame,
    columns: list[tuple[ColumnHeader, list[Any]]],
    level: int,
    *,
    padding: str = "any",
) -> EncryptedFrame:
    """Frame of computed ciphertexts with the rows, key and packing of another.

    Pass ``padding="zeros"`` only where the slots beyond the last row still hold 0: a constant that was added
    to all slots is there as well, and would count in every sum.
    """
    frame = like.with_columns((computed(head, ciphers) for head, ciphers in columns), level)
    frame.padding = padding
    return frame


def sums_frame(like: EncryptedFrame, parts: list[tuple[ColumnHeader, Any]], level: int) -> EncryptedFrame:
    """Frame of one row whose values are masked slot sums, under the key of another."""
    frame = EncryptedFrame(
        like.engine,
        like.fingerprint,
        tuple(computed(head, (cipher,)) for head, cipher in parts),
        n_rows=1,
        level=level,
        packing="real",
        source="frame",
        layout=SUMS,
        size=max(cipher.size() for _, cipher in parts),
        evaluator=like.evaluator,
    )
    for head in frame.heads:
        frame.fits(head, level)
    return frame
