"""Evaluation keys: what products and rotations of ciphertexts need, and whoever computes may have."""

import json
import struct
from collections.abc import Iterable
from typing import Any, Final

import tenseal.sealapi as seal

from twopm_kit.errors import CiphertextError, DataError
from twopm_kit.fhe.engine import Engine, guard_fork, seal_words
from twopm_kit.fhe.seal_io import check_foreign, dump, load_into
from twopm_kit.untrusted import load_json

__all__ = ["EvaluationKeys", "make_keys"]

_FRONT: Final = struct.Struct("<II")
_MAX_STEPS: Final = 512
#: Words of 64 bits with residues of 20 bits or more pack to no less than this part.
_PACKED: Final = 4
_AGAIN: Final = "get the bundle again from the key holder"


class EvaluationKeys:
    """Public keys that bring a product back to two polynomials, and that rotate slots.

    They let nobody read anything. They are made from the secret key by ``KeyHolder.evaluator`` and travel
    in its bundle.

    Parameters
    ----------
    engine : Engine
        Parameters and arithmetic.
    relin : bytes
        Relinearisation key as SEAL writes it; empty when the profile has no level.
    galois : bytes
        Rotation keys as SEAL writes them; empty without any.
    steps : iterable of int
        The rotations that there are keys for, in slots to the left.
    """

    __slots__ = ("_engine", "_galois", "_galois_bytes", "_relin", "_relin_bytes", "steps")

    def __init__(self, engine: Engine, relin: bytes, galois: bytes, steps: Iterable[int]) -> None:
        self._engine = engine
        self._relin_bytes, self._galois_bytes = relin, galois
        self._relin: Any = None
        self._galois: Any = None
        self.steps: Final = frozenset(steps)

    @property
    def nbytes(self) -> int:
        """Bytes as they are sent."""
        return len(self._relin_bytes) + len(self._galois_bytes)

    def relinearize(self, cipher: Any) -> Any:
        """Bring a product of size 3 back to size 2; level, scale and value stay.

        Raises
        ------
        CiphertextError
            The profile has no level, so there is no such key.
        """
        guard_fork()
        if self._relin is None:
            self._relin = self._load(seal.RelinKeys(), self._relin_bytes, "relinearisation keys", [2])
        small = seal.Ciphertext()
        with seal_words("relinearising a product"):
            self._engine.evaluator.relinearize(cipher, self._relin, small)
        return small

    def rotate(self, cipher: Any, steps: int) -> Any:
        """Rotate slots to the left: slot i of the result is slot i + steps; level, scale and noise stay.

        Raises
        ------
        CiphertextError
            There is no key for this rotation: names it, and how to get it.
        """
        guard_fork()
        steps %= self._engine.slots
        if steps == 0:
            return cipher
        if steps not in self.steps:
            have = ", ".join(map(str, sorted(self.steps)[:12])) or "none"
            raise CiphertextError(
                f"a rotation by {steps} slots needs a key; there are keys for: {have}",
                hint="ask the key holder for holder.evaluator(rotations=plan.rotations)",
            )
        if self._galois is None:
            elements = _elements(self._engine, self.steps)
            self._galois = self._load(seal.GaloisKeys(), self._galois_bytes, "rotation keys", elements)
        turned = seal.Ciphertext()
        with seal_words(f"rotating by {steps} slots"):
            self._engine.evaluator.rotate_vector(cipher, steps, self._galois, turned)
        return turned

    def _load(self, keys: Any, content: bytes, what: str, wanted: Iterable[int]) -> Any:
        if not content:
            raise CiphertextError(
                f"profile {self._engine.profile.name!r} has no {what}: it has no level for a product",
                hint="encrypt with a profile that has levels (see kit.fhe.PROFILES)",
            )
        with seal_words(f"reading {what}"):
            load_into(keys, self._engine.context, content)
            # SEAL does not look when it uses them: where one is missing or short, the process ends
            whole = all(keys.has_key(i) and len(keys.key(i)) == len(self._engine.primes) for i in wanted)
        if not whole:
            raise CiphertextError(f"the {what} are not those that the bundle names", hint=_AGAIN)
        return keys

    def to_bytes(self) -> bytes:
        """Lengths, rotations as JSON, keys."""
        steps = json.dumps(sorted(self.steps), separators=(",", ":")).encode()
        front = _FRONT.pack(len(steps), len(self._relin_bytes))
        return front + steps + self._relin_bytes + self._galois_bytes

    @classmethod
    def from_bytes(cls, engine: Engine, content: bytes) -> "EvaluationKeys":
        """Read what `to_bytes` wrote, from anybody; SEAL checks the keys against the parameters.

        Raises
        ------
        CiphertextError
            Cut short, changed, or more than the rotations it names could need.
        """
        if len(content) < _FRONT.size:
            raise CiphertextError(f"the evaluation keys have only {len(content)} bytes", hint=_AGAIN)
        size, relin_size = _FRONT.unpack_from(content)
        start = _FRONT.size + size
        try:
            steps = load_json(content[_FRONT.size : start])
        except DataError:
            steps = None
        slots = engine.slots
        if (
            not isinstance(steps, list)
            or len(steps) > _MAX_STEPS
            or any(type(step) is not int or not 0 < step < slots for step in steps)
            or len(set(steps)) != len(steps)
            or start + relin_size > len(content)
        ):
            raise CiphertextError("the evaluation keys do not say what they are", hint=_AGAIN)
        relin, galois = content[start : start + relin_size], content[start + relin_size :]
        for part, keys, what in (
            (relin, 1, "the relinearisation key"),
            (galois, len(steps), "rotation keys"),
        ):
            if part:
                # keys are uniform numbers, so what has been packed tells how much there can be
                most = min(keys * _key_bytes(engine), _PACKED * len(part)) + _table_bytes(engine)
                check_foreign(part, most, what)
        if bool(galois) != bool(steps):
            raise CiphertextError("the evaluation keys do not hold the rotations they name", hint=_AGAIN)
        return cls(engine, relin, galois, steps)

    def __repr__(self) -> str:
        return f"<EvaluationKeys: products, {len(self.steps)} rotations, {self.nbytes:,} bytes: public>"


def make_keys(engine: Engine, secret: Any, rotations: Iterable[int]) -> EvaluationKeys:
    """Make evaluation keys of a secret key, seeded: half the size.

    Parameters
    ----------
    engine : Engine
        Parameters.
    secret : SEAL secret key
        Stays here.
    rotations : iterable of int
        Slots to the left; negative ones are taken to the right.
    """
    if engine.profile.levels < 1:
        return EvaluationKeys(engine, b"", b"", ())
    steps = sorted({int(step) % engine.slots for step in rotations} - {0})
    if len(steps) > _MAX_STEPS:
        raise CiphertextError(
            f"{len(steps)} rotations were asked for; at most {_MAX_STEPS} have keys", hint="ask for fewer"
        )
    guard_fork()
    with seal_words("making evaluation keys"):
        generator = seal.KeyGenerator(engine.context, secret)
        relin = dump(generator.create_relin_keys())
        galois = b""
        if steps:
            galois = dump(generator.create_galois_keys(_elements(engine, steps)))
    return EvaluationKeys(engine, relin, galois, steps)


def _elements(engine: Engine, steps: Iterable[int]) -> list[int]:
    """Galois elements of rotations: a rotation by k slots takes X to the power 3^k."""
    return [pow(3, step, 2 * engine.profile.degree) for step in steps]


def _key_bytes(engine: Engine) -> int:
    """Upper limit of one switching key: a public key over all primes for each data prime."""
    primes = len(engine.primes)
    return primes * (2 * 8 * engine.profile.degree * (primes + 1) + 256)


def _table_bytes(engine: Engine) -> int:
    """Upper limit of the table of Galois elements around the keys, most of it empty."""
    return 8 * engine.profile.degree + 4096
