"""Plans: what a computation on ciphertexts will spend in levels, keys, bytes and seconds, before it runs."""

import html
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import pandas as pd
import tenseal.sealapi as seal

from twopm_kit.fhe.engine import Engine, seal_words
from twopm_kit.fhe.layouts import Layout
from twopm_kit.fhe.raw import cipher_words

__all__ = ["Costs", "Plan", "Step", "costs_of", "fresh_bytes", "key_bytes", "result_bytes"]

#: Primitives whose cost is proportional to the primes of a level, and those that switch keys, whose cost
#: also has a quadratic part.
_LINEAR: Final = (
    "add",
    "times_plain",
    "add_plain",
    "square",
    "multiply",
    "rescale",
    "constant",
    "encode",
    "words",
)
_SWITCHING: Final = ("relinearize", "rotate")
_TRIES: Final = 3
#: What zstandard writes of words with zero bytes on top, over the bytes that are not zero.
_PACKING: Final = 1.12


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a plan: a layer, a sum, whatever a reader would name.

    Parameters
    ----------
    name : str
        What is done: "affine 32×144".
    kind : str
        "affine", "square", "polynomial", "add", … .
    level : int
        Level of what it reads.
    count : int
        Ciphertexts that it makes.
    seconds : float
        Estimate on this machine.
    spends : int
        Levels between what it reads and what it makes.
    scale : float
        log2 of the scale of what it makes; 0 when it does not matter.
    rotations : int
        Rotations that it takes.
    """

    name: str
    kind: str
    level: int
    count: int
    seconds: float
    spends: int = 0
    scale: float = 0.0
    rotations: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """What a computation takes, known before anything is encrypted.

    Parameters
    ----------
    profile : str
        Name of the encryption profile.
    layout : Layout
        Where values sit.
    steps : tuple of Step
        In order.
    rotations : frozenset of int
        Slots to the left that the evaluator needs a key for: ``holder.evaluator(rotations=plan.rotations)``.
    bytes_up : int
        Encrypted input, as it is sent.
    bytes_down : int
        Encrypted result.
    key_bytes : int
        Evaluation keys, sent once.
    """

    profile: str
    layout: Layout
    steps: tuple[Step, ...]
    rotations: frozenset[int] = frozenset()
    bytes_up: int = 0
    bytes_down: int = 0
    key_bytes: int = 0

    @property
    def depth(self) -> int:
        """Levels from the first step to the last."""
        if not self.steps:
            return 0
        return max(s.level for s in self.steps) - min(s.level - s.spends for s in self.steps)

    @property
    def seconds(self) -> float:
        """Estimate of what the server computes, on this machine and one core."""
        return sum(step.seconds for step in self.steps)

    def describe(self) -> pd.DataFrame:
        """Put every step in a row.

        Returns
        -------
        pandas.DataFrame
            Indexed by step: kind, level before and after, log2 of the scale, ciphertexts, rotations, seconds.
        """
        rows = [
            (s.name, s.kind, s.level, s.level - s.spends, s.scale, s.count, s.rotations, s.seconds)
            for s in self.steps
        ]
        names = [
            "step",
            "kind",
            "level",
            "level after",
            "scale (bits)",
            "ciphertexts",
            "rotations",
            "seconds",
        ]
        return pd.DataFrame(rows, columns=names).set_index("step")

    def __repr__(self) -> str:
        return f"<Plan {self._words()}>"

    def _words(self) -> str:
        where = "columns" if self.layout.kind != "blocks" else f"blocks of {self.layout.samples} rows"
        return (
            f"profile {self.profile}, {where}: depth {self.depth}, {len(self.rotations)} rotation keys, "
            f"{self.bytes_up:,} bytes up, {self.bytes_down:,} down, {self.key_bytes:,} of keys once, "
            f"about {self.seconds:.3g} s"
        )

    def _repr_html_(self) -> str:
        table = self.describe().reset_index()
        head = "".join(f"<th scope='col'>{html.escape(str(c))}</th>" for c in table.columns)
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_short(v))}</td>" for v in row) + "</tr>"
            for row in table.itertuples(index=False)
        )
        words = html.escape(self._words())
        return (
            f"<p><strong>Plan</strong>: {words}</p>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        )


class Costs:
    """Seconds of each primitive at each level, measured on this machine.

    Parameters
    ----------
    by_kind : dict of str to sequence of float
        Primitive -> seconds at level 0, 1, ….
    multiply_add : float
        Seconds of one multiplication and addition in a product of ordinary matrices.
    """

    __slots__ = ("_by_kind", "multiply_add")

    def __init__(self, by_kind: dict[str, tuple[float, ...]], multiply_add: float) -> None:
        self._by_kind = by_kind
        self.multiply_add: Final = multiply_add

    def seconds(self, kind: str, level: int) -> float:
        """Seconds of one primitive on a ciphertext at a level.

        Parameters
        ----------
        kind : str
            "add", "times_plain" (by an encoded plaintext), "add_plain", "square", "multiply", "rescale",
            "constant" (encode one number), "encode" (encode a vector), "words" (read its residues),
            "relinearize" or "rotate".
        level : int
            Of the ciphertext that is read.
        """
        return self._by_kind[kind][level]

    def total(self, level: int, **counts: float) -> float:
        """Seconds of several primitives at one level: ``total(3, rotate=12, rescale=1)``."""
        return sum(count * self.seconds(kind, level) for kind, count in counts.items())

    def describe(self) -> pd.DataFrame:
        """Milliseconds by primitive and level."""
        return 1e3 * pd.DataFrame(self._by_kind).rename_axis("level").T.rename_axis("primitive")


def costs_of(engine: Engine) -> Costs:
    """Cost of the primitives of a profile on this machine; measured once a process, in 50 to 200 ms."""
    return _measured(engine)


def fresh_bytes(engine: Engine) -> int:
    """Bytes of a fresh ciphertext as the key holder sends it: one polynomial and a seed, compressed."""
    return _sent(engine, engine.profile.levels, 1)


def result_bytes(engine: Engine, level: int = 0, size: int = 2) -> int:
    """Bytes of a computed ciphertext at a level, compressed."""
    return _sent(engine, level, size)


def key_bytes(engine: Engine, rotations: int) -> int:
    """Bytes of one relinearisation key and of keys for so many rotations, seeded and compressed."""
    if engine.profile.levels < 1:
        return 0
    return (1 + rotations) * len(engine.primes) * _packed(engine, engine.profile.bits)


def _sent(engine: Engine, level: int, polynomials: int) -> int:
    return polynomials * _packed(engine, [prime.bit_length() for prime in engine.primes[: level + 1]])


def _packed(engine: Engine, bits: Iterable[int]) -> int:
    # compression takes away the zero bytes above each prime, and pays some for saying so
    return round(_PACKING * engine.profile.degree * sum(-(-size // 8) for size in bits))


@lru_cache(maxsize=16)
def _measured(engine: Engine) -> Costs:
    top = engine.profile.levels
    with seal_words("measuring the speed of this machine"):
        secret = seal.KeyGenerator(engine.context)  # of a key that nobody ever uses
        encryptor = seal.Encryptor(engine.context, secret.secret_key())
        relin = seal.RelinKeys()
        if top >= 1:
            secret.create_relin_keys(relin)
        scale = 2.0 ** min(engine.profile.scale_bits, 30)
        plain = engine.encode(np.linspace(-1.0, 1.0, engine.slots), scale, top)
        cipher = seal.Ciphertext()
        encryptor.encrypt_symmetric(plain, cipher)
        found = {kind: _linear(engine, kind, cipher, plain, scale) for kind in _LINEAR}
        if top >= 1:
            by_level = _quadratic([_switching(engine, cipher, relin, at) for at in sorted({1, top})], top)
        else:
            by_level = (0.0,)
    # a rotation is a permutation and the same key switch
    ones = np.ones((64, 256)), np.ones((256, 1024))
    product = _best(lambda: ones[0] @ ones[1]) / (64 * 256 * 1024)
    return Costs({**found, **dict.fromkeys(_SWITCHING, by_level)}, product)


def _linear(engine: Engine, kind: str, cipher: Any, plain: Any, scale: float) -> tuple[float, ...]:
    evaluator, out, vector = engine.evaluator, seal.Ciphertext(), np.linspace(-1.0, 1.0, engine.slots)
    top = engine.profile.levels
    actions: dict[str, Callable[[], Any]] = {
        "add": lambda: evaluator.add_inplace(cipher, cipher),
        "times_plain": lambda: evaluator.multiply_plain(cipher, plain, out),
        "add_plain": lambda: evaluator.add_plain(cipher, plain, out),
        "square": lambda: evaluator.square(cipher, out),
        "multiply": lambda: evaluator.multiply(cipher, cipher, out),
        "rescale": lambda: evaluator.rescale_to_next(cipher, out),
        "constant": lambda: engine.encode_constant(0.5, scale, top),
        "encode": lambda: engine.encode(vector, scale, top),
        "words": lambda: cipher_words(engine, cipher),
    }
    if top == 0 and kind in ("times_plain", "square", "multiply", "rescale"):
        return (0.0,)  # there is no room for a product, nothing to plan
    whole = _best(actions[kind])
    return tuple(whole * (level + 1) / (top + 1) for level in range(top + 1))


def _switching(engine: Engine, cipher: Any, relin: Any, level: int) -> tuple[int, float]:
    """Primes of a level, and seconds of a key switch there."""
    pair, out = engine.square(engine.drop_to(cipher, level)), seal.Ciphertext()
    return level + 1, _best(lambda: engine.evaluator.relinearize(pair, relin, out))


def _quadratic(points: Iterable[tuple[int, float]], top: int) -> tuple[float, ...]:
    """Fit ``a k + b k²`` through one or two points (primes, seconds); seconds by level."""
    first, *rest = points
    k, t = first
    if not rest:
        return tuple(t * (level + 1) / k for level in range(top + 1))
    (n, u) = rest[0]
    b = (u / n - t / k) / (n - k)
    a = t / k - b * k
    return tuple(max(a * (level + 1) + b * (level + 1) ** 2, 0.0) for level in range(top + 1))


def _best(action: Callable[[], Any]) -> float:
    best = float("inf")
    for _ in range(_TRIES):
        start = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - start)
    return best


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
