"""Recommendation: an encrypted user against a plain table of items, scored without seeing the user.

``scores = items @ user`` by the diagonals of the item table (Halevi and Shoup, CRYPTO 2014) with baby steps
and giant steps (the same, CRYPTO 2018): the user's vector, repeated until it fills all slots, is rotated a
few times; each rotation meets plain diagonals that were rotated and encoded beforehand; sums are rescaled,
and only then rotated by giant steps, where fewer primes make a rotation three times cheaper. Where there are
more items than slots, a second item sits in the imaginary part of a slot at no cost.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from twopm_kit.errors import CiphertextError, SchemaError
from twopm_kit.fhe.arithmetic import best_scale, exhausted, relinearisation_noise, rescale_noise
from twopm_kit.fhe.columns import Chunk, Column
from twopm_kit.fhe.container import MAX_COLUMNS, ColumnHeader
from twopm_kit.fhe.engine import Engine, engine_for
from twopm_kit.fhe.frames import EncryptedFrame
from twopm_kit.fhe.layouts import COLUMNS, Layout, padded
from twopm_kit.fhe.models.inputs import Array, check_encrypted, choose_columns, power_above, real_numbers
from twopm_kit.fhe.models.linear_form import LinearForm
from twopm_kit.fhe.plan import Plan, Step, costs_of, fresh_bytes, key_bytes, result_bytes

__all__ = ["Recommender", "top", "user_vector"]

#: Scores carry at most this scale: beyond it float64 has nothing to hold the digits in.
_SCORE_SCALE_BITS: Final = 52.0
_INDEXES_KEPT: Final = 4
_TOGETHER: Final = 64
#: What uneven noise after rotations adds to the noise that an opening finds, at most as seen.
_UNEVEN: Final = 1.4


class Recommender:
    """Scores of plain items for encrypted users.

    What each side sees: the server sees its items, that somebody asked, and a ciphertext; never the user's
    vector, scores or choice. The user opens a score for *every* item, and nothing else of the table; but
    scores are linear in the vector, so d well-chosen questions give the whole table away: items are not
    secret from those who may ask. The evaluation keys let the server rotate, and read nothing.

    Parameters
    ----------
    items : DataFrame or array of shape (n_items, d)
        A vector for each item; the index of a DataFrame names the items, its columns the d dimensions.
    names : sequence, optional
        Names of the items, all different.

    Attributes
    ----------
    names : pandas.Index
        Names of the items.
    vectors : ndarray of float64, shape (n_items, d)
    rotations : tuple of int
        What `score` needs keys for: ``holder.evaluator(rotations=recommender.rotations)``;
        ``holder.encrypt(user, plan=recommender.plan())`` attaches them.

    Examples
    --------
    >>> import pandas as pd
    >>> from twopm_kit import fhe
    >>> from twopm_kit.fhe.models.recommend import Recommender, top, user_vector
    >>> tastes = {"light": [0.9, 0.8, 0.1], "dark": [0.0, 0.3, 0.9]}
    >>> items = pd.DataFrame(tastes, index=["ale", "bock", "stout"])
    >>> recommender = Recommender(items)
    >>> holder = fhe.KeyHolder.generate("linear")
    >>> enc = holder.encrypt(user_vector(["ale"], items), plan=recommender.plan())
    >>> scores = holder.decrypt(recommender.score(enc))
    >>> top(scores, 1, names=items.index, exclude=["ale"])["item"].item()
    'bock'
    """

    def __init__(self, items: pd.DataFrame | npt.ArrayLike, names: Sequence[Any] | None = None) -> None:
        self.vectors: Final = real_numbers(items, "items")
        if self.vectors.ndim != 2 or self.vectors.size == 0 or not self.vectors.any():
            raise SchemaError(
                f"items of shape {self.vectors.shape} were passed; expected a table that is not all zero",
                hint="pass one row for each item and one column for each dimension",
            )
        given = items.index if names is None and isinstance(items, pd.DataFrame) else names
        self.names: Final = pd.Index(range(len(self.vectors)) if given is None else given)
        if len(self.names) != len(self.vectors) or not self.names.is_unique:
            raise SchemaError(
                f"{len(self.names)} names ({self.names.nunique()} different) for {len(self.vectors)} items",
                hint="pass one different name for each item",
            )
        self.columns: Final = tuple(map(str, items.columns)) if isinstance(items, pd.DataFrame) else None
        self._width: Final = padded(self.vectors.shape[1])
        self._baby: Final = 1 << -(-(self._width.bit_length() - 1) // 2)
        self._indexes: dict[tuple[Any, ...], _Index] = {}

    @property
    def rotations(self) -> tuple[int, ...]:
        """Slots to the left that `score` rotates by: baby steps, then giant steps."""
        return (*range(1, self._baby), *range(self._baby, self._width, self._baby))

    def score(self, enc: EncryptedFrame, items: Sequence[Any] | None = None) -> EncryptedFrame:
        """Encrypted scores of items.

        Parameters
        ----------
        enc : EncryptedFrame, u users × d columns
            In ``Layout.blocks()``, for an answer without delay; ``enc.evaluator`` must have the keys of
            `rotations`. Or in columns, for very many users at once: no keys are needed then, the time is that
            of 4,096 users whatever their number, and the result is large, a ciphertext for each item.
        items : sequence, optional
            Names of the items to score; only for columns. All of them without it.

        Returns
        -------
        EncryptedFrame
            Of blocks: n_items rows, a column for each user ("score" for one, else "score_0", …). Of columns:
            u rows, a column for each item, under its name.

        Raises
        ------
        SchemaError
            Another number of columns, or an unknown item.
        CiphertextError
            No level or no rotation keys, or the worst case does not fit into the profile.
        """
        check_encrypted(enc, "user, plan=recommender.plan()")
        chosen = self._select(enc)
        if enc.level < 1:
            raise exhausted(enc.engine, enc.level)
        low = chosen.drop_to(1)
        if enc.layout.kind == "columns":
            return self._for_many(low, items)
        if items is not None or enc.layout != Layout.blocks() or enc.packing != "real":
            raise CiphertextError(
                f"users came in layout {enc.layout.kind!r} with {enc.layout.samples} rows a ciphertext"
                + ("" if items is None else f", and {len(items)} items were chosen"),
                hint="encrypt with layout=Layout.blocks() and score all items, or encrypt in columns",
            )
        return self._for_each(low)

    def simulate(self, X: pd.DataFrame | npt.ArrayLike) -> Array:  # noqa: N803
        """Scores in clear: users (u, d) to an ndarray of shape (n_items, u), as `score` of blocks has it."""
        values = np.atleast_2d(real_numbers(X, "X"))
        if values.ndim != 2 or values.shape[1] != self.vectors.shape[1]:
            raise SchemaError(
                f"X has shape {values.shape}; items have {self.vectors.shape[1]} dimensions",
                hint="pass one row for each user",
            )
        return np.asarray(self.vectors @ values.T)

    def top(
        self, scores: pd.DataFrame | npt.ArrayLike, k: int = 10, *, exclude: Sequence[Any] = ()
    ) -> pd.DataFrame:
        """Best k items from opened scores of one user, in clear at the user; see `top`."""
        return top(scores, k, names=self.names, exclude=exclude)

    def plan(self, profile: str = "linear", *, bound: float = 1.0) -> Plan:
        """Tell what scoring one user takes, before anything runs.

        ``holder.encrypt(user, plan=plan)`` takes layout and rotation keys from it.

        Parameters
        ----------
        profile : str
            One of ``kit.fhe.PROFILES``, with a level.
        bound : float
            Public bound of the user's vector: the scale of the scores depends on it.
        """
        engine = engine_for(profile)
        if engine.profile.levels < 1:
            raise exhausted(engine, 0)
        costs, (blocks, packing) = costs_of(engine), self._blocks(engine)
        giants = self._width // self._baby
        fresh = float(engine.profile.fresh_scale_bits(bound, products=False))
        scale = math.log2(_scores_of(engine, self.vectors, bound, packing)[1])
        steps = (
            Step(
                "rotate the user",
                "rotate",
                1,
                self._baby,
                costs.total(1, rotate=self._baby - 1),
                scale=fresh,
                rotations=self._baby - 1,
            ),
            Step(
                f"items {len(self.vectors)}×{self.vectors.shape[1]}",
                "affine",
                1,
                blocks * giants,
                costs.total(1, times_plain=blocks * self._width, add=blocks * (self._width - giants))
                + costs.total(1, rescale=blocks * giants),
                spends=1,
                scale=scale,
            ),
            Step(
                "giant steps",
                "rotate",
                0,
                blocks,
                costs.total(0, rotate=blocks * (giants - 1), add=blocks * (giants - 1)),
                scale=scale,
                rotations=blocks * (giants - 1),
            ),
        )
        return Plan(
            profile,
            Layout.blocks(),
            steps,
            frozenset(self.rotations),
            fresh_bytes(engine),
            blocks * result_bytes(engine),
            key_bytes(engine, len(self.rotations)),
        )

    def _select(self, enc: EncryptedFrame) -> EncryptedFrame:
        width = self.vectors.shape[1]
        if self.columns is None or enc.source != "frame" or enc.columns == list(self.columns):
            if enc.shape[1] != width:
                raise SchemaError(
                    f"the frame has {enc.shape[1]} columns; items have {width} dimensions",
                    hint="encrypt vectors with the dimensions of the items",
                )
            return enc
        return enc[choose_columns(self.columns, enc.columns)]

    def _blocks(self, engine: Engine) -> tuple[int, str]:
        """Ciphertexts that hold the scores of a user, and how rows are packed in them."""
        if len(self.vectors) <= engine.slots:
            return 1, "real"
        return -(-len(self.vectors) // (2 * engine.slots)), "complex"

    def _for_each(self, enc: EncryptedFrame) -> EncryptedFrame:
        index = self._index(enc)
        keys = enc.keys()
        users = enc.ciphers(enc.columns[0])
        names = ["score"] if len(users) == 1 else [f"score_{i}" for i in range(len(users))]
        columns = []
        for name, user in zip(names, users, strict=True):
            turned = [user, *(keys.rotate(user, step) for step in range(1, self._baby))]
            head = ColumnHeader(name, index.bound, index.scale, index.noise)
            columns.append(Column(head, tuple(Chunk(cipher=c) for c in index.apply(turned, keys))))
        return EncryptedFrame(
            enc.engine,
            enc.fingerprint,
            tuple(columns),
            n_rows=len(self.vectors),
            level=0,
            packing=self._blocks(enc.engine)[1],
            source="frame",
            layout=COLUMNS,
            evaluator=enc.evaluator,
        )

    def _index(self, enc: EncryptedFrame) -> "_Index":
        head = enc.heads[0]
        key = (enc.engine.params_hash, head.bound, head.scale, head.noise)
        if key not in self._indexes:
            while len(self._indexes) >= _INDEXES_KEPT:
                self._indexes.pop(next(iter(self._indexes)))
            blocks, packing = self._blocks(enc.engine)
            self._indexes[key] = _Index(enc.engine, head, self.vectors, self._baby, blocks, packing)
        return self._indexes[key]

    def _for_many(self, enc: EncryptedFrame, items: Sequence[Any] | None) -> EncryptedFrame:
        places = self.names.get_indexer(pd.Index(self.names if items is None else items))
        if (places < 0).any() or not 0 < len(places) <= MAX_COLUMNS or len(set(places)) != len(places):
            raise SchemaError(
                f"{len(places)} items were chosen, {int((places < 0).sum())} of them unknown",
                hint=f"choose up to {MAX_COLUMNS} different names of recommender.names",
            )
        columns: list[Column] = []
        made = None
        for start in range(0, len(places), _TOGETHER):  # encoded weights are large: not all at once
            part = places[start : start + _TOGETHER]
            names = tuple(str(self.names[i]) for i in part)
            made = LinearForm(self.vectors[part], np.zeros(len(part)), names, constant=True).apply(enc)
            columns += (
                Column(head, tuple(Chunk(cipher=c) for c in made.ciphers(head.name))) for head in made.heads
            )
        return EncryptedFrame(
            enc.engine,
            enc.fingerprint,
            tuple(columns),
            n_rows=enc.n_rows,
            level=0,
            packing=enc.packing,
            source="frame",
            layout=COLUMNS,
            evaluator=enc.evaluator,
        )

    def __repr__(self) -> str:
        n, d = self.vectors.shape
        return f"<encrypted Recommender: {n} items × {d} dimensions, {len(self.rotations)} rotations>"


class _Index:
    """Encoded diagonals of an item table for one kind of user ciphertext."""

    __slots__ = ("_baby", "_blocks", "_engine", "bound", "noise", "scale")

    def __init__(
        self, engine: Engine, head: ColumnHeader, vectors: Array, baby: int, blocks: int, packing: str
    ) -> None:
        self._engine, self._baby = engine, baby
        bound, scale = _scores_of(engine, vectors, head.bound, packing)
        self.bound: Final = bound
        self.scale: Final = scale
        width, slots = padded(vectors.shape[1]), engine.slots
        table = np.zeros((blocks * slots * (2 if packing == "complex" else 1), width))
        table[: len(vectors), : vectors.shape[1]] = vectors
        if packing == "complex":
            halves = table.reshape(blocks, 2, slots, width)
            parts: Any = halves[:, 0] + 1j * halves[:, 1]
        else:
            parts = table.reshape(blocks, slots, width)
        factor = engine.factor_scale(head.scale, self.scale, 1)
        self._blocks: Final = [self._encode(part, factor) for part in parts]
        self.noise: Final = self._noise(engine, head, parts, width // baby)

    def _encode(self, part: Any, factor: float) -> list[list[tuple[int, Any]]]:
        """For each giant step its (baby step, plaintext) pairs; a diagonal of zeros is left out."""
        slots, width = part.shape
        rows = np.arange(slots)
        groups = []
        for giant in range(0, width, self._baby):
            group = []
            for step in range(self._baby):
                diagonal = np.roll(part[rows, (rows + giant + step) % width], giant)
                if float(np.abs(diagonal).max()) * factor >= 1.0:
                    group.append((step, self._engine.encode(diagonal, factor, 1)))
            groups.append(group)
        return groups

    def _noise(self, engine: Engine, head: ColumnHeader, parts: Any, giants: int) -> float:
        """Noise of a coefficient: of the rotated user under the items, of rescaling, of giant steps."""
        # SEAL's digits are not centred: a few slots, slot 0 first, get some fifty times what the others get
        turned = math.hypot(head.noise, _UNEVEN * relinearisation_noise(engine))
        # few items fill few slots, and the noise is there: the longest item counts, not the mean one
        length = float(np.sqrt(np.sum(np.abs(parts) ** 2, axis=-1).max()))
        through = turned * length * self.scale / head.scale
        each = math.hypot(rescale_noise(engine), relinearisation_noise(engine))
        return math.hypot(through, each * math.sqrt(giants))

    def apply(self, turned: list[Any], keys: Any) -> list[Any]:
        """Scores of one user, a ciphertext for each block of items."""
        return [self._block(groups, turned, keys) for groups in self._blocks]

    def _block(self, groups: list[list[tuple[int, Any]]], turned: list[Any], keys: Any) -> Any:
        total = None
        for giant, group in enumerate(groups):
            if group:
                terms = [(turned[step], plain) for step, plain in group]
                part = self._engine.multiply_accumulate(terms, None, self.scale)
                part = keys.rotate(part, giant * self._baby)
                total = part if total is None else self._engine.add(total, part)
        if total is None:
            raise CiphertextError(
                "a whole block of items rounds to 0 at this precision", hint="scale the item vectors up"
            )
        return total


def _scores_of(engine: Engine, vectors: Array, bound: float, packing: str) -> tuple[float, float]:
    """Bound and scale of the scores of users with a bound."""
    # a power of two: the header goes to the key owner, who need not learn the norms of the items
    largest = power_above(max(float(np.abs(vectors).sum(axis=1).max()) * bound, 2.0**-40))
    spare = math.sqrt(2.0) if packing == "complex" else 1.0
    return largest, best_scale(engine, 0, largest * spare, most_bits=_SCORE_SCALE_BITS, what="the scores")


def user_vector(
    history: Sequence[Any] | Mapping[Any, float], items: pd.DataFrame, *, name: Any = "user"
) -> pd.DataFrame:
    """Make a user's vector of what the user liked, in clear where the history is: it never leaves.

    Parameters
    ----------
    history : sequence of item names, or mapping of item name to weight
        What was liked, and how much (all the same without weights; a negative weight is a dislike).
    items : DataFrame of shape (n_items, d)
        Vectors by item name.
    name
        Of the row.

    Returns
    -------
    DataFrame of shape (1, d)
        Weighted mean of the item vectors; weights are divided by the sum of their absolute values.

    Raises
    ------
    SchemaError
        Nothing, or an unknown item, is in the history.
    """
    weights = pd.Series(dict(history) if isinstance(history, Mapping) else dict.fromkeys(history, 1.0))
    unknown = [str(item) for item in weights.index if item not in items.index]
    if unknown or not len(weights) or not items.index.is_unique:
        raise SchemaError(
            f"a history of {len(weights)} items was passed, {len(unknown)} of them unknown",
            hint="name items of the table, whose index has each name once",
        )
    factors = real_numbers(weights, "history")
    total = np.abs(factors).sum()
    if total == 0:
        raise SchemaError("every weight of the history is 0", hint="pass a weight that is not 0")
    mean = factors / total @ real_numbers(items.loc[weights.index], "items")
    return pd.DataFrame([mean], columns=items.columns, index=[name])


def top(
    scores: pd.DataFrame | npt.ArrayLike,
    k: int = 10,
    *,
    names: Sequence[Any] | pd.Index | None = None,
    exclude: Sequence[Any] = (),
) -> pd.DataFrame:
    """Best k items from opened scores of one user, in clear where they were opened.

    Parameters
    ----------
    scores : DataFrame or array of shape (n_items,) or (n_items, 1)
        As ``holder.decrypt(recommender.score(enc))`` gives them.
    k : int
        How many.
    names : sequence, optional
        Names of the items; 0, 1, … without it.
    exclude : sequence
        Names to leave out, such as the history.

    Returns
    -------
    DataFrame
        Columns "item" and "score", best first; equal scores in the order of the items.

    Raises
    ------
    SchemaError
        Scores of several users, other numbers of scores and names, or a k that is not above 0.
    """
    values = real_numbers(scores, "scores")
    items = pd.Index(range(len(values)) if names is None else names)
    if values.size != len(values) or len(items) != len(values) or type(k) is not int or k < 1:
        raise SchemaError(
            f"scores of shape {values.shape}, {len(items)} names and k={k!r} were passed",
            hint="pass the scores of one user, a name for each, and k above 0",
        )
    table = pd.DataFrame({"item": items, "score": values.ravel()})
    table = table[~table["item"].isin(list(exclude))]
    return table.sort_values("score", ascending=False, kind="stable").head(k).reset_index(drop=True)
