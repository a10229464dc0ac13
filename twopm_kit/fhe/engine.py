"""CKKS arithmetic with exact (level, scale) book-keeping on ``tenseal.sealapi``.

A level counts the rescalings that are left; a scale is the exact factor between a value and what the
ciphertext holds. A plain factor is encoded at the scale that makes the product land on the wanted scale after
the prime is divided away. A product of two ciphertexts has the scale that it has: it is carried along, and
the next plain factor brings it back. A scale is never set to what it is not, so nothing drifts.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final, NoReturn

import numpy as np
import numpy.typing as npt
import tenseal.sealapi as seal

from twopm_kit.errors import CiphertextError, FHEError, ForkRefused, ProfileError
from twopm_kit.fhe.profiles import PROFILES, Profile
from twopm_kit.fhe.seal_io import check_foreign, dump, load_into

__all__ = ["FRESH_NOISE", "Engine", "cipher_bytes", "engine_for", "guard_fork", "seal_words"]

#: Standard deviation of the error polynomial of a fresh ciphertext (SEAL: clipped normal).
FRESH_NOISE: Final = 3.2
#: A level prime may differ from the scale by this much when the scale has to survive products.
_PRIME_TOLERANCE: Final = 0.002
#: float64 rounds a product of a few scales and primes by less than this.
_SCALE_ROUNDING: Final = 1e-12

_HOME_PROCESS: Final = os.getpid()

# What SEAL says, and what the user has to change. First match wins.
_TRANSLATIONS: Final = (
    (
        "scale out of bounds",
        "the value times its scale does not fit into the primes that are left",
        "use a profile with more levels or a larger base prime, or smaller values (see kit.fhe.PROFILES)",
    ),
    (
        "scale mismatch",
        "the two operands have different scales",
        "bring both to the same level with the same operations, or encrypt both with the same bounds=",
    ),
    (
        "end of modulus switching chain",
        "no level is left to rescale or switch to",
        "use a profile with more levels (see kit.fhe.PROFILES)",
    ),
    (
        "transparent",
        "the result would be a ciphertext that anyone can read",
        "leave out the multiplication by zero, or the subtraction of a frame from itself",
    ),
    (
        "parameter mismatch",
        "the two operands are at different levels or under different parameters",
        "use frames that were encrypted with the same profile",
    ),
    (
        "encoded value is too large",
        "a value times its scale is larger than the primes can hold",
        "pass smaller values: standardise the column",
    ),
    ("encoded values are too large", "values times scale exceed the primes", "standardise the columns"),
    (
        "not valid for encryption parameters",
        "the ciphertext or key belongs to other encryption parameters",
        "use the profile and the key that it was made with",
    ),
    (
        "incompatible version",
        "the bytes were written by an incompatible version of SEAL",
        "write them again with the installed tenseal",
    ),
    ("invalid", "the bytes are not what SEAL expects", "get the file again from where it was made"),
    ("unexpected", "the bytes are not what SEAL expects", "get the file again from where it was made"),
    (
        "i/o error",
        "the bytes end too early or cannot be unpacked",
        "get the file again from where it was made",
    ),
)


def guard_fork() -> None:
    """Refuse to work in a forked process, where SEAL's locks may be held for ever by threads that are gone.

    Raises
    ------
    ForkRefused
        In every process that was forked after this module was loaded.
    """
    if os.getpid() != _HOME_PROCESS:
        raise ForkRefused(
            "encrypted computing was reached in a forked process; SEAL may hang there for ever",
            hint="start workers with multiprocessing.get_context('spawn') and pass bytes or paths to them",
        )


@contextmanager
def seal_words(doing: str) -> Iterator[None]:
    """Translate whatever SEAL raises inside the block into what to change.

    Parameters
    ----------
    doing : str
        What is being done, for the message: "multiplying column 'age'".

    Raises
    ------
    CiphertextError
        When SEAL refused.
    """
    try:
        yield
    except FHEError:
        raise
    except (ValueError, RuntimeError, IndexError, OverflowError, MemoryError) as error:
        _refuse(doing, error)


def _refuse(doing: str, error: Exception) -> NoReturn:
    said = str(error).lower()
    for needle, meaning, remedy in _TRANSLATIONS:
        if needle in said:
            raise CiphertextError(f"{doing}: {meaning} (SEAL: {error})", hint=remedy) from None
    raise CiphertextError(
        f"{doing}: SEAL refused ({error})", hint="check profile, level and scale of the operands"
    ) from None


class Engine:
    """Everything that needs no key: parameters, encoder, evaluator. Get one with `engine_for`.

    Parameters
    ----------
    profile : Profile
        A checked parameter set.

    Attributes
    ----------
    primes : tuple of int
        The data primes q0, q1, …; a ciphertext at level l lives modulo q0·…·ql.
    params_hash : str
        64 hex digits that name ring degree and all primes.
    """

    def __init__(self, profile: Profile) -> None:
        guard_fork()
        self.profile: Final = profile
        parameters = seal.EncryptionParameters(seal.SCHEME_TYPE.CKKS)
        parameters.set_poly_modulus_degree(profile.degree)
        try:
            parameters.set_coeff_modulus(seal.CoeffModulus.Create(profile.degree, list(profile.bits)))
        except RuntimeError as error:
            raise ProfileError(
                f"profile {profile.name!r}: no such primes of {list(profile.bits)} bits at degree "
                f"{profile.degree} ({error})",
                hint="take larger entries in bits=, or fewer of one size",
            ) from None
        self.context: Final = seal.SEALContext(parameters, True, seal.SEC_LEVEL_TYPE.TC128)
        if not self.context.parameters_set():
            raise ProfileError(
                f"profile {profile.name!r} is refused by SEAL: {self.context.parameters_error_message()}",
                hint="change bits= or degree=",
            )
        self.evaluator: Final = seal.Evaluator(self.context)
        self.encoder: Final = seal.CKKSEncoder(self.context)
        all_primes = [int(p.value()) for p in self.context.key_context_data().parms().coeff_modulus()]
        self.primes: Final = tuple(all_primes[:-1] if len(all_primes) > 1 else all_primes)
        self._check_primes()
        identity = {"scheme": "ckks", "degree": profile.degree, "primes": all_primes}
        self.params_hash: Final = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        ids = {}
        data = self.context.first_context_data()
        while data is not None:
            ids[int(data.chain_index())] = data.parms_id()
            data = data.next_context_data()
        self._ids: Final = ids
        self._levels: Final = {tuple(parms): level for level, parms in ids.items()}

    def _check_primes(self) -> None:
        profile = self.profile
        if profile.levels < 2:
            return  # a single plain product is steered to its scale whatever the prime is
        scale = 2.0**profile.scale_bits
        for prime in self.primes[1:]:
            if abs(prime / scale - 1.0) > _PRIME_TOLERANCE:
                raise ProfileError(
                    f"profile {profile.name!r}: the prime {prime} differs from the scale "
                    f"2^{profile.scale_bits} by {abs(prime / scale - 1.0):.2%}; at most "
                    f"{_PRIME_TOLERANCE:.1%} keeps products exact",
                    hint="take larger middle entries in bits=, with scale_bits equal to them",
                )

    # Levels and room -------------------------------------------------------------------------------------

    @property
    def slots(self) -> int:
        """Complex slots of a ciphertext."""
        return self.profile.slots

    def parms_id(self, level: int) -> Any:
        """SEAL's name for a level."""
        return self._ids[level]

    def level_of(self, cipher: Any) -> int:
        """Level of a SEAL ciphertext or plaintext."""
        level = self._levels.get(tuple(cipher.parms_id()))
        if level is None:
            raise CiphertextError(
                f"the ciphertext is at no level of profile {self.profile.name!r}",
                hint="use the profile that it was made with",
            )
        return level

    def room_bits(self, level: int) -> float:
        """log2 of what |value · scale| has to stay below at a level: half of the product of its primes."""
        return float(sum(np.log2(float(p)) for p in self.primes[: level + 1])) - 1.0

    # Arithmetic ------------------------------------------------------------------------------------------

    def encode(
        self, values: npt.NDArray[np.float64] | npt.NDArray[np.complex128], scale: float, level: int
    ) -> Any:
        """Plaintext of a vector of at most N/2 values at a level and scale."""
        guard_fork()
        plain = seal.Plaintext()
        with seal_words("encoding a column"):
            self.encoder.encode(values.tolist(), self.parms_id(level), scale, plain)
        return plain

    def encode_constant(self, value: float, scale: float, level: int, *, both: bool = False) -> Any | None:
        """Encode ``value`` (``value + value·i`` when ``both``) for every slot; None when it rounds to 0."""
        if round(abs(value) * scale) == 0:
            return None
        if both:
            return self.encode(np.full(self.slots, complex(value, value)), scale, level)
        guard_fork()
        plain = seal.Plaintext()
        with seal_words("encoding a constant"):
            self.encoder.encode(float(value), self.parms_id(level), scale, plain)
        return plain

    def drop_to(self, cipher: Any, level: int) -> Any:
        """Bring a ciphertext to a lower level: primes are dropped; value, scale and noise stay."""
        guard_fork()
        if self.level_of(cipher) == level:
            return cipher
        lower = seal.Ciphertext()
        with seal_words(f"switching to level {level}"):
            self.evaluator.mod_switch_to(cipher, self.parms_id(level), lower)
        return lower

    def add(self, left: Any, right: Any) -> Any:
        """Sum of two ciphertexts at the same level and scale."""
        guard_fork()
        total = seal.Ciphertext()
        with seal_words("adding ciphertexts"):
            self.evaluator.add(left, right, total)
        return total

    def subtract(self, left: Any, right: Any) -> Any:
        """Difference of two ciphertexts at the same level and scale."""
        guard_fork()
        rest = seal.Ciphertext()
        with seal_words("subtracting ciphertexts"):
            self.evaluator.sub(left, right, rest)
        return rest

    def negate(self, cipher: Any) -> Any:
        """Negate a ciphertext."""
        guard_fork()
        negative = seal.Ciphertext()
        with seal_words("negating"):
            self.evaluator.negate(cipher, negative)
        return negative

    def add_constant(self, cipher: Any, value: float, *, both: bool = False) -> Any:
        """Ciphertext plus a plain number in every slot, at the ciphertext's own level and scale."""
        plain = self.encode_constant(value, float(cipher.scale), self.level_of(cipher), both=both)
        if plain is None:
            return cipher
        total = seal.Ciphertext()
        with seal_words("adding a number"):
            self.evaluator.add_plain(cipher, plain, total)
        return total

    def times_integer(self, cipher: Any, factor: int) -> Any:
        """Ciphertext times a whole number, without using a level: scale and level stay."""
        guard_fork()
        plain, product = seal.Plaintext(), seal.Ciphertext()
        with seal_words("multiplying by a whole number"):
            self.encoder.encode(float(factor), self.parms_id(self.level_of(cipher)), 1.0, plain)
            self.evaluator.multiply_plain(cipher, plain, product)
        return product

    def raise_scale(self, cipher: Any, bits: int) -> Any:
        """Raise the scale by 2^bits, without using a level: multiply by the integer 2^bits."""
        raised = self.times_integer(cipher, 1 << bits)
        raised.scale = float(cipher.scale) * 2.0**bits
        return raised

    def multiply(self, left: Any, right: Any) -> Any:
        """Product of two ciphertexts at one level: size 3, the product of the scales. See `rescale`."""
        guard_fork()
        product = seal.Ciphertext()
        with seal_words("multiplying ciphertexts"):
            self.evaluator.multiply(left, right, product)
        return product

    def square(self, cipher: Any) -> Any:
        """Square of a ciphertext: size 3, the square of the scale; faster than `multiply`."""
        guard_fork()
        product = seal.Ciphertext()
        with seal_words("squaring a ciphertext"):
            self.evaluator.square(cipher, product)
        return product

    def sum_of_products(self, pairs: Iterable[tuple[Any, Any]]) -> Any:
        """Sum of products of ciphertexts, all at one level and one product of scales: size 3.

        To be relinearised and rescaled once, by whoever needs it.
        """
        guard_fork()
        total, product = None, seal.Ciphertext()
        with seal_words("multiplying ciphertexts"):
            for left, right in pairs:
                if total is None:
                    total = seal.Ciphertext()
                    self.evaluator.multiply(left, right, total)
                else:
                    self.evaluator.multiply(left, right, product)
                    self.evaluator.add_inplace(total, product)
        if total is None:
            raise CiphertextError("there is nothing to multiply", hint="pass at least one pair")
        return total

    def times_plain(self, cipher: Any, plain: Any) -> Any:
        """Ciphertext times an encoded plaintext at its level: the product of the scales, not rescaled."""
        guard_fork()
        product = seal.Ciphertext()
        with seal_words("multiplying by plain factors"):
            self.evaluator.multiply_plain(cipher, plain, product)
        return product

    def add_plain(self, cipher: Any, plain: Any) -> Any:
        """Ciphertext plus an encoded plaintext, at one level and scale."""
        guard_fork()
        total = seal.Ciphertext()
        with seal_words("adding a plain vector"):
            self.evaluator.add_plain(cipher, plain, total)
        return total

    def rescale(self, cipher: Any, wanted: float | None = None) -> Any:
        """Divide by the last prime: one level down, the scale divided by that prime.

        Parameters
        ----------
        cipher : ciphertext
            At level 1 or above.
        wanted : float, optional
            The scale that was planned. The true one may differ from it by rounding of float64 alone.

        Raises
        ------
        CiphertextError
            No level is left, or the scale is not what was planned: computing on would drift.
        """
        guard_fork()
        lower = seal.Ciphertext()
        with seal_words("rescaling"):
            self.evaluator.rescale_to_next(cipher, lower)
        if wanted is not None:
            self.settle(lower, wanted)
        return lower

    def settle(self, cipher: Any, wanted: float) -> None:
        """Set the scale of a ciphertext to the planned one, from which float64 rounding alone parts it.

        Raises
        ------
        CiphertextError
            They differ by more.
        """
        if abs(float(cipher.scale) / wanted - 1.0) > _SCALE_ROUNDING:
            raise CiphertextError(
                f"the product has scale {float(cipher.scale)!r} where {wanted!r} was planned",
                hint="encode every factor with Engine.factor_scale",
            )
        cipher.scale = wanted

    def factor_scale(self, scale: float, wanted: float, level: int) -> float:
        """Scale of a plain factor with which the product, rescaled from ``level``, has exactly ``wanted``."""
        return wanted * float(self.primes[level]) / scale

    def multiply_accumulate(self, terms: list[tuple[Any, Any]], constant: Any | None, wanted: float) -> Any:
        """Sum of ciphertext · plaintext (+ plaintext), rescaled once to exactly the scale ``wanted``.

        Parameters
        ----------
        terms : list of (ciphertext, plaintext)
            All at one level >= 1; each product must have the same scale (see `factor_scale`).
        constant : plaintext or None
            Added before rescaling, encoded at the scale of the products.
        wanted : float
            Scale of the result, one level down.
        """
        guard_fork()
        evaluator = self.evaluator
        total, product = seal.Ciphertext(), seal.Ciphertext()
        with seal_words("multiplying by plain factors"):
            evaluator.multiply_plain(*terms[0], total)
            for cipher, plain in terms[1:]:
                evaluator.multiply_plain(cipher, plain, product)
                evaluator.add_inplace(total, product)
            if constant is not None:
                evaluator.add_plain_inplace(total, constant)
            evaluator.rescale_to_next_inplace(total)
        self.settle(total, wanted)
        return total

    # Bytes -----------------------------------------------------------------------------------------------

    def load_cipher(self, content: bytes, *, level: int, scale: float, what: str, size: int = 2) -> Any:
        """Ciphertext from the bytes of another party, refused unless it is exactly what its header promised.

        Raises
        ------
        CiphertextError
            Not a ciphertext under these parameters, or at another level, scale or size, or one that anyone
            can read.
        """
        guard_fork()
        check_foreign(content, self.max_chunk_bytes, what)
        cipher = seal.Ciphertext()
        with seal_words(f"reading {what}"):
            load_into(cipher, self.context, content)
            found = (self.level_of(cipher), float(cipher.scale), cipher.size(), bool(cipher.is_ntt_form()))
            readable = bool(cipher.is_transparent())
        if found != (level, scale, size, True) or readable:
            raise CiphertextError(
                f"{what} is at level {found[0]}, scale {found[1]:g}, size {found[2]}; its header says "
                f"level {level}, scale {scale:g}, size {size}",
                hint="get the file again from where it was made",
            )
        return cipher

    @property
    def max_chunk_bytes(self) -> int:
        """Upper limit of a serialised ciphertext: three polynomials of 8-byte words, and headers."""
        return 3 * 8 * self.profile.degree * len(self.primes) + 4096

    def __repr__(self) -> str:
        return f"<Engine {self.profile.name}: N={self.profile.degree}, {self.profile.levels} levels>"

    def __reduce__(self) -> NoReturn:
        raise CiphertextError(
            "an Engine cannot be pickled or copied",
            hint="call kit.fhe.engine.engine_for(profile) in the other process",
        )


@lru_cache(maxsize=16)
def _cached(profile: Profile) -> Engine:
    return Engine(profile)


def engine_for(profile: str | Profile) -> Engine:
    """Engine of a profile; made once in a process.

    Raises
    ------
    ProfileError
        Unknown profile, or one that SEAL or our own checks refuse.
    ForkRefused
        In a forked process.
    """
    guard_fork()
    if not isinstance(profile, str | Profile):
        raise ProfileError(
            f"an object of type {type(profile).__name__} was passed as profile; expected a name or a Profile",
            hint=f"use one of: {', '.join(PROFILES)}",
        )
    return _cached(PROFILES[profile] if isinstance(profile, str) else profile)


def cipher_bytes(cipher: Any) -> bytes:
    """Bytes of a ciphertext that was computed (not seeded: both polynomials)."""
    guard_fork()
    with seal_words("writing a ciphertext"):
        return dump(cipher)
