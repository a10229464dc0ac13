"""``EncryptedFrame``: a table of ciphertexts, one feature per ciphertext, rows in the slots."""

import html
import math
import numbers
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
import numpy.typing as npt

from twopm_kit.errors import CiphertextError, WrongKey
from twopm_kit.fhe.container import ColumnHeader, FrameHeader, pack, unpack
from twopm_kit.fhe.engine import FRESH_NOISE, Engine, cipher_bytes, engine_for
from twopm_kit.fhe.profiles import PROFILES
from twopm_kit.fhe.seal_io import read_file, write_atomic
from twopm_kit.fhe.tables import Table

__all__ = ["Chunk", "Column", "EncryptedFrame", "encrypt_table", "same_key"]

_INTEGER_LIMIT: Final = 1 << 20
_SMALLEST_SCALE_BITS: Final = 16
_SHOWN_COLUMNS: Final = 6


class Chunk:
    """One ciphertext, as bytes, as a SEAL object, or both; the missing form is made when it is asked for."""

    __slots__ = ("_bytes", "_cipher")

    def __init__(self, content: bytes | None = None, cipher: Any | None = None) -> None:
        self._bytes = content
        self._cipher = cipher

    def content(self) -> bytes:
        """Serialise; fresh ciphertexts are seeded, half the size of computed ones."""
        if self._bytes is None:
            self._bytes = cipher_bytes(self._cipher)
        return self._bytes

    def cipher(self, engine: Engine, level: int, scale: float, what: str) -> Any:
        """SEAL object; read from the bytes and checked against level and scale on first use."""
        if self._cipher is None:
            self._cipher = engine.load_cipher(self.content(), level=level, scale=scale, what=what)
        return self._cipher


@dataclass(frozen=True, slots=True, repr=False)
class Column:
    """A column: what everybody may know of it, and its ciphertexts, one for each block of rows."""

    head: ColumnHeader
    chunks: tuple[Chunk, ...]


def same_key(left: str, right: str, doing: str) -> None:
    """Refuse to bring two keys together.

    Raises
    ------
    WrongKey
        Names both fingerprints: SEAL itself would go on and return garbage.
    """
    if left != right:
        raise WrongKey(
            f"{doing}: one side is under key {left}, the other under key {right}",
            hint="use the key holder that encrypted the frame; frames can only meet under one key",
        )


class EncryptedFrame:
    """Rows and columns that only the key holder can read; anybody can compute on them.

    Made by ``KeyHolder.encrypt``, by arithmetic, or read with `load` and `from_bytes`. Never changes. Holds
    no key. What it does show to everybody: column names, shape, a public bound of each column, profile,
    fingerprint of the key, level and scale.

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
    """

    __slots__ = ("_columns", "_engine", "_root", "fingerprint", "level", "n_rows", "packing", "source")
    __array_ufunc__ = None  # so that numpy_number * frame asks the frame

    layout: Final = "columns"

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
    ) -> None:
        self._engine = engine
        self._columns = columns
        self._root: str | None = None
        self.fingerprint = fingerprint
        self.n_rows = n_rows
        self.level = level
        self.packing = packing
        self.source = source

    # What it is ------------------------------------------------------------------------------------------

    @property
    def columns(self) -> list[str]:
        """Column names."""
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
        """Public facts of each column: name, bound, scale, noise."""
        return tuple(column.head for column in self._columns)

    @property
    def scale(self) -> float:
        """Scale of the ciphertexts; the smallest one when columns differ (see `scales`)."""
        return min(column.head.scale for column in self._columns)

    @property
    def scales(self) -> dict[str, float]:
        """Scale of each column: a power of two."""
        return {column.head.name: column.head.scale for column in self._columns}

    @property
    def bounds(self) -> dict[str, float]:
        """Public upper limit of the absolute values of each column."""
        return {column.head.name: column.head.bound for column in self._columns}

    @property
    def nbytes(self) -> int:
        """Bytes of all ciphertexts as they are sent."""
        return sum(len(chunk.content()) for column in self._columns for chunk in column.chunks)

    @property
    def n_ciphertexts(self) -> int:
        """How many ciphertexts there are."""
        return sum(len(column.chunks) for column in self._columns)

    @property
    def root(self) -> str:
        """Merkle root of header and ciphertexts, 64 hex digits: a short name for exactly these bytes."""
        if self._root is None:
            self._root = unpack(self.to_bytes())[2].hex()
        return self._root

    def ciphers(self, name: str) -> list[Any]:
        """SEAL ciphertexts of a column, one for each block of rows."""
        column = next(c for c in self._columns if c.head.name == name)
        return self._open(column)

    def _open(self, column: Column) -> list[Any]:
        head = column.head
        return [
            chunk.cipher(self._engine, self.level, head.scale, f"column {head.name!r}, block {i}")
            for i, chunk in enumerate(column.chunks)
        ]

    def __len__(self) -> int:
        return self.n_rows

    # Selection and arithmetic ----------------------------------------------------------------------------

    def _with(self, columns: Iterable[Column], level: int | None = None) -> "EncryptedFrame":
        return EncryptedFrame(
            self._engine,
            self.fingerprint,
            tuple(columns),
            n_rows=self.n_rows,
            level=self.level if level is None else level,
            packing=self.packing,
            source=self.source,
        )

    def __getitem__(self, names: str | list[str]) -> "EncryptedFrame":
        wanted = [names] if isinstance(names, str) else list(names)
        by_name = {column.head.name: column for column in self._columns}
        missing = [str(name) for name in wanted if name not in by_name]
        if missing or not wanted or len(set(wanted)) != len(wanted):
            raise CiphertextError(
                f"columns {wanted!r} were asked for"
                + (f"; not here: {', '.join(missing)}" if missing else ""),
                hint=f"ask for one or more different columns of: {', '.join(list(by_name)[:20])}",
            )
        return self._with(by_name[name] for name in wanted)

    def rename(self, names: list[str]) -> "EncryptedFrame":
        """Give the columns other names."""
        if len(names) != len(self._columns) or len(set(names)) != len(names):
            raise CiphertextError(
                f"{len(names)} names were passed for {len(self._columns)} columns",
                hint="pass one different name for each column",
            )
        return self._with(
            Column(replace(c.head, name=str(n)), c.chunks) for c, n in zip(self._columns, names, strict=True)
        )

    def drop_to(self, level: int) -> "EncryptedFrame":
        """Bring the frame to a lower level: smaller to send, fewer products left.

        Raises
        ------
        CiphertextError
            The level is above the frame's, or values do not fit into the primes that would be left.
        """
        if not 0 <= level <= self.level:
            raise CiphertextError(
                f"level {level} was asked for; the frame is at level {self.level}",
                hint=f"ask for a level from 0 to {self.level}",
            )
        if level == self.level:
            return self

        def lower(column: Column) -> Column:
            self._fits(column.head, level)
            return _computed(column.head, (self._engine.drop_to(c, level) for c in self._open(column)))

        return self._with(map(lower, self._columns), level)

    def _fits(self, head: ColumnHeader, level: int) -> ColumnHeader:
        needed = (
            math.log2(max(head.bound, 2.0**-60))
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

    def __add__(self, other: object) -> "EncryptedFrame":
        if isinstance(other, EncryptedFrame):
            return self._combine(other, self._engine.add, "adding frames")
        return self._shift(_number(other, "added to"))

    def __radd__(self, other: object) -> "EncryptedFrame":
        return self._shift(_number(other, "added to"))

    def __sub__(self, other: object) -> "EncryptedFrame":
        if isinstance(other, EncryptedFrame):
            return self._combine(other, self._engine.subtract, "subtracting frames")
        return self._shift(-_number(other, "subtracted from"))

    def __rsub__(self, other: object) -> "EncryptedFrame":
        return (-self)._shift(_number(other, "an operand of"))

    def __neg__(self) -> "EncryptedFrame":
        return self._with(_computed(c.head, map(self._engine.negate, self._open(c))) for c in self._columns)

    def __mul__(self, other: object) -> "EncryptedFrame":
        """Product with a plain number. A whole number up to 2^20 uses no level, any other uses one."""
        factor = _number(other, "multiplied with")
        if factor == 0.0:
            raise CiphertextError(
                "multiplying by 0 would give a ciphertext that anyone can read",
                hint="leave the product out: its value is 0",
            )
        if factor.is_integer() and abs(factor) <= _INTEGER_LIMIT:
            return self._times_integer(int(factor))
        if self.level < 1:
            raise exhausted(self._engine, self.level)
        return self._with((self._scaled(column, factor) for column in self._columns), self.level - 1)

    __rmul__ = __mul__

    def _shift(self, number: float) -> "EncryptedFrame":
        def shifted(column: Column) -> Column:
            head = self._fits(replace(column.head, bound=column.head.bound + abs(number)), self.level)
            both = self.packing == "complex"
            return _computed(
                head, (self._engine.add_constant(c, number, both=both) for c in self._open(column))
            )

        return self._with(map(shifted, self._columns))

    def _times_integer(self, factor: int) -> "EncryptedFrame":
        def times(column: Column) -> Column:
            size = abs(factor)
            head = replace(column.head, bound=column.head.bound * size, noise=column.head.noise * size)
            self._fits(head, self.level)
            return _computed(head, (self._engine.times_integer(c, factor) for c in self._open(column)))

        return self._with(map(times, self._columns))

    def _scaled(self, column: Column, factor: float) -> Column:
        engine, head, level = self._engine, column.head, self.level
        bound = head.bound * abs(factor)
        wanted = best_scale(
            engine, level - 1, bound, most_bits=math.log2(head.scale), what=f"column {head.name!r}"
        )
        plain = engine.encode_constant(factor, engine.factor_scale(head.scale, wanted, level), level)
        if plain is None:
            raise CiphertextError(
                f"the factor {factor:g} is too small for profile {self.profile!r}: it rounds to 0",
                hint="scale the column before encrypting",
            )
        noise = math.hypot(head.noise * abs(factor) * wanted / head.scale, rescale_noise(engine))
        products = (engine.multiply_accumulate([(c, plain)], None, wanted) for c in self._open(column))
        return _computed(replace(head, bound=bound, scale=wanted, noise=noise), products)

    def _combine(
        self, other: "EncryptedFrame", operation: Callable[[Any, Any], Any], doing: str
    ) -> "EncryptedFrame":
        same_key(self.fingerprint, other.fingerprint, doing)
        if self._engine.params_hash != other._engine.params_hash:
            raise CiphertextError(
                f"{doing}: profiles {self.profile!r} and {other.profile!r}",
                hint="encrypt both with one key holder",
            )
        mine, theirs = (self.n_rows, self.packing, self.columns), (other.n_rows, other.packing, other.columns)
        if mine != theirs:
            raise CiphertextError(
                f"{doing}: {mine[0]} rows ({mine[1]}) of {mine[2][:8]} and {theirs[0]} rows ({theirs[1]}) of "
                f"{theirs[2][:8]}; rows, packing and column names must agree",
                hint="select and .rename() columns until both have the same names",
            )
        level = min(self.level, other.level)
        left, right = self.drop_to(level), other.drop_to(level)
        pairs = zip(left._columns, right._columns, strict=True)
        return left._with(left._pair(a, right._open(b), b.head, operation) for a, b in pairs)

    def _pair(
        self, mine: Column, theirs: list[Any], other: ColumnHeader, operation: Callable[[Any, Any], Any]
    ) -> Column:
        engine, scale = self._engine, max(mine.head.scale, other.scale)
        head = ColumnHeader(
            name=mine.head.name,
            bound=mine.head.bound + other.bound,
            scale=scale,
            noise=math.hypot(mine.head.noise * scale / mine.head.scale, other.noise * scale / other.scale),
        )
        self._fits(head, self.level)
        left = (_raised(engine, c, mine.head.scale, scale) for c in self._open(mine))
        right = (_raised(engine, c, other.scale, scale) for c in theirs)
        return _computed(head, (operation(a, b) for a, b in zip(left, right, strict=True)))

    # Bytes -----------------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Serialise the frame as a ``.ct`` container; holds no key."""
        header = FrameHeader(
            profile=self.profile,
            params=self._engine.params_hash,
            fingerprint=self.fingerprint,
            layout=self.layout,
            packing=self.packing,
            source=self.source,
            rows=self.n_rows,
            level=self.level,
            columns=self.heads,
        )
        return pack(header, (chunk.content() for column in self._columns for chunk in column.chunks))

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
        header, chunks, root = unpack(bytes(content))
        if header.profile not in PROFILES:
            raise CiphertextError(
                f"the container uses the profile {header.profile!r}, which this kit does not have",
                hint=f"use one of: {', '.join(PROFILES)}",
            )
        engine = engine_for(header.profile)
        if engine.params_hash != header.params:
            raise CiphertextError(
                f"the container's parameters are {header.params[:16]}…; profile {header.profile!r} has "
                f"{engine.params_hash[:16]}…",
                hint="write it again with this version of the kit",
            )
        if key is not None:
            same_key(str(getattr(key, "fingerprint", key)), header.fingerprint, "reading a container")
        frame = cls._assemble(engine, header, chunks)
        frame._root = root.hex()
        return frame

    @classmethod
    def _assemble(cls, engine: Engine, header: FrameHeader, chunks: list[bytes]) -> "EncryptedFrame":
        blocks = n_blocks(engine, header.rows, header.packing)
        if len(chunks) != blocks * len(header.columns) or header.level > engine.profile.levels:
            raise CiphertextError(
                f"the container holds {len(chunks)} ciphertexts at level {header.level}; {header.rows} "
                f"rows × {len(header.columns)} columns need {blocks * len(header.columns)}, at most at level "
                f"{engine.profile.levels}",
                hint="get the file again from where it was made",
            )
        made = [Chunk(content) for content in chunks]
        columns = tuple(
            Column(head, tuple(made[j * blocks : (j + 1) * blocks])) for j, head in enumerate(header.columns)
        )
        frame = cls(
            engine,
            header.fingerprint,
            columns,
            n_rows=header.rows,
            level=header.level,
            packing=header.packing,
            source=header.source,
        )
        for column in columns:
            if column.head.scale != 2.0 ** round(math.log2(column.head.scale)):
                raise CiphertextError(
                    f"column {column.head.name!r} has scale {column.head.scale!r}; expected a power of two",
                    hint="get the file again from where it was made",
                )
            frame._fits(column.head, frame.level)
            frame._open(column)
        return frame

    def save(self, path: str | Path) -> Path:
        """Write the container to ``path``, whole or not at all; returns the path."""
        target = Path(path)
        write_atomic(target, self.to_bytes())
        return target

    @classmethod
    def load(cls, path: str | Path, key: Any = None) -> "EncryptedFrame":
        """Read a container file; see `from_bytes` for what is checked."""
        return cls.from_bytes(read_file(Path(path), "a ciphertext container"), key)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise CiphertextError(
            "an EncryptedFrame cannot be pickled or copied",
            hint="send .to_bytes() or a path; a frame never changes",
        )

    # Showing ---------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return (
            f"<EncryptedFrame {self.n_rows} rows × {len(self._columns)} columns, profile {self.profile}, "
            f"level {self.level}, {self.nbytes:,} bytes, key {self.fingerprint[:8]}…>"
        )

    def _repr_html_(self) -> str:
        rows = "".join(self._html_rows())
        rest = len(self._columns) - _SHOWN_COLUMNS
        more = f"<p>… and {rest} more columns</p>" if rest > 0 else ""
        return (
            f"<p><strong>EncryptedFrame</strong>: {self.n_rows:,} rows × {len(self._columns)} columns, "
            f"{self.nbytes:,} bytes, profile {html.escape(self.profile)}, level {self.level}, "
            f"key {html.escape(self.fingerprint[:8])}…<br>This is all that a server sees:</p>"
            "<table><thead><tr><th scope='col'>column</th><th scope='col'>bound</th><th scope='col'>scale"
            "</th><th scope='col'>bytes</th><th scope='col'>beginning of the ciphertext</th></tr></thead>"
            f"<tbody>{rows}</tbody></table>{more}"
        )

    def _html_rows(self) -> Iterator[str]:
        for column in self._columns[:_SHOWN_COLUMNS]:
            head, content = column.head, column.chunks[0].content()
            size = sum(len(chunk.content()) for chunk in column.chunks)
            yield (
                f"<tr><td>{html.escape(head.name)}</td><td>±{head.bound:g}</td>"
                f"<td>2^{math.log2(head.scale):g}</td><td>{size:,}</td>"
                f"<td><code>{content[1024:1040].hex(' ')} …</code></td></tr>"
            )


# Helpers that models share ------------------------------------------------------------------------------


def exhausted(engine: Engine, level: int) -> CiphertextError:
    """Make the error for a product at level 0; it names the profiles that have more levels."""
    own = engine.profile
    more = [f"{p.name!r} ({p.levels} levels)" for p in PROFILES.values() if p.levels > own.levels]
    return CiphertextError(
        f"the frame is at level {level}: profile {own.name!r} has {own.levels} level(s) and a product "
        "needs one more",
        hint=f"encrypt with {' or '.join(more)}"
        if more
        else "merge factors so that fewer products follow each other",
    )


def best_scale(engine: Engine, level: int, bound: float, *, most_bits: float, what: str) -> float:
    """Find the largest power of two, up to 2^most_bits, at which values up to ``bound`` fit a level."""
    room = engine.room_bits(level) - 0.4 - math.log2(max(bound, 2.0**-60))
    bits = min(math.floor(room), math.floor(most_bits))
    if bits < _SMALLEST_SCALE_BITS:
        raise CiphertextError(
            f"{what}: results may reach {bound:g}, which leaves 2^{bits} as scale in profile "
            f"{engine.profile.name!r}: too coarse",
            hint="standardise the columns, or encrypt with smaller bounds=",
        )
    return 2.0**bits


def rescale_noise(engine: Engine) -> float:
    """Estimate what rounding adds to a coefficient at a rescaling: standard deviation, ternary secret."""
    return math.sqrt((1.0 + 2.0 * engine.profile.degree / 3.0) / 12.0)


def n_blocks(engine: Engine, rows: int, packing: str) -> int:
    """Ciphertexts a column needs."""
    return -(-rows // (engine.slots * (2 if packing == "complex" else 1)))


def encrypt_table(
    engine: Engine,
    fingerprint: str,
    table: Table,
    encrypt: Callable[[Any], Chunk],
    *,
    packing: str = "real",
    noise: float = FRESH_NOISE,
) -> EncryptedFrame:
    """Encrypted frame of a checked table; ``encrypt`` turns an encoded plaintext into a chunk."""
    if packing not in ("real", "complex"):
        raise CiphertextError(f"packing {packing!r} is unknown", hint="use 'real' or 'complex'")
    level, rows = engine.profile.levels, table.values.shape[0]
    blocks = n_blocks(engine, rows, packing)
    columns = []
    for j, (name, bound) in enumerate(zip(table.names, table.bounds, strict=True)):
        scale = 2.0 ** engine.profile.fresh_scale_bits(bound)
        slots = pack_slots(table.values[:, j], blocks, engine.slots, packing)
        chunks = tuple(encrypt(engine.encode(row, scale, level)) for row in slots)
        columns.append(Column(ColumnHeader(name, float(bound), scale, noise), chunks))
    return EncryptedFrame(
        engine, fingerprint, tuple(columns), n_rows=rows, level=level, packing=packing, source=table.source
    )


def pack_slots(
    values: npt.NDArray[np.float64], blocks: int, slots: int, packing: str
) -> npt.NDArray[np.float64] | npt.NDArray[np.complex128]:
    """Rows into blocks of slots, padded with zeros: shape (blocks, slots)."""
    parts = 2 if packing == "complex" else 1
    padded = np.zeros(blocks * slots * parts)
    padded[: len(values)] = values
    if parts == 1:
        return padded.reshape(blocks, slots)
    halves = padded.reshape(blocks, 2, slots)
    return halves[:, 0] + 1j * halves[:, 1]


def computed_frame(
    like: EncryptedFrame, columns: list[tuple[ColumnHeader, list[Any]]], level: int
) -> EncryptedFrame:
    """Frame of computed ciphertexts with the rows, key and packing of another."""
    return like._with((_computed(head, ciphers) for head, ciphers in columns), level)


def _computed(head: ColumnHeader, ciphers: Iterable[Any]) -> Column:
    return Column(head, tuple(Chunk(cipher=cipher) for cipher in ciphers))


def _raised(engine: Engine, cipher: Any, scale: float, wanted: float) -> Any:
    return cipher if scale == wanted else engine.raise_scale(cipher, round(math.log2(wanted / scale)))


def _number(value: object, relation: str) -> float:
    if isinstance(value, EncryptedFrame):
        raise CiphertextError(
            f"an encrypted frame was {relation} an encrypted frame; only plain numbers can be",
            hint="multiply by a number, or use weighted sums with plain weights",
        )
    if (
        isinstance(value, (bool, np.bool_))
        or not isinstance(value, numbers.Real)
        or not math.isfinite(float(value))
    ):
        raise CiphertextError(
            f"a {type(value).__name__} was {relation} an encrypted frame; expected a finite number",
            hint="pass an int or a float",
        )
    return float(value)
