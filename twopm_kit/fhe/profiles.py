"""Encryption profiles: named CKKS parameter sets, each checked before a key is made from it."""

import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import pandas as pd

from twopm_kit.errors import ProfileError

__all__ = ["PROFILES", "SECURITY_LIMIT", "Profile", "ProfileTable"]

#: Largest log2(QP) at 128 bits by ring degree, ternary secret: Bossuat et al., "Security guidelines for
#: implementing homomorphic encryption", IACR ePrint 2024/463. SEAL itself enforces only 109, 218 and 438.
SECURITY_LIMIT: Final[Mapping[int, int]] = {4096: 106, 8192: 214, 16384: 430}

#: Bits between the first prime and the scale: sign, one addition, and six for values and flooding noise.
_FLOOD_ROOM = 8
_PRIME_BITS = (20, 60)


@dataclass(frozen=True, slots=True)
class Profile:
    """One CKKS parameter set, refused at construction when its numbers cannot work together.

    Parameters
    ----------
    name : str
        What it is called in files and messages.
    degree : int
        Ring degree N; a ciphertext has N/2 complex slots.
    bits : tuple of int
        Sizes of the primes: first the base, then one for each level, last the key-switching prime (a
        single entry means: no level, no key switching).
    scale_bits : int
        log2 of the scale of fresh ciphertexts. With two or more levels the scale has to survive rescaling,
        so it must match the middle primes. With fewer, it is only an upper limit: a column with wide values
        gets a smaller power of two.
    min_scale_bits : int
        The smallest scale to which wide values may push a column.
    headroom_bits : int
        log2 of how many frames may be added before values overflow.
    purpose : str
        What the profile is for, in a few words.

    Raises
    ------
    ProfileError
        Names the number to change.
    """

    name: str
    degree: int
    bits: tuple[int, ...]
    scale_bits: int
    min_scale_bits: int
    headroom_bits: int
    purpose: str

    def __post_init__(self) -> None:
        total = sum(self.bits)
        limit = SECURITY_LIMIT.get(self.degree)
        if limit is None:
            raise ProfileError(
                f"profile {self.name!r} has ring degree {self.degree}; expected one of "
                f"{', '.join(map(str, SECURITY_LIMIT))}",
                hint="choose one of these degrees",
            )
        low, high = _PRIME_BITS
        if not self.bits or any(not low <= size <= high for size in self.bits):
            raise ProfileError(
                f"profile {self.name!r} has primes of {list(self.bits)} bits; each must have {low} to {high}",
                hint="change the prime sizes in bits=",
            )
        if total > limit:
            larger = next((n for n, most in SECURITY_LIMIT.items() if most >= total), None)
            way = f" or take degree={larger}" if larger else ""
            raise ProfileError(
                f"profile {self.name!r} has {total} bits of primes at degree {self.degree}; 128-bit security "
                f"allows {limit} (ePrint 2024/463)",
                hint=f"take {total - limit} bits out of bits={way}",
            )
        if len(self.bits) > 1 and self.bits[-1] < max(self.bits[:-1]):
            raise ProfileError(
                f"profile {self.name!r} has a key-switching prime of {self.bits[-1]} bits below its largest "
                f"prime of {max(self.bits[:-1])}",
                hint="make the last entry of bits= at least as large as the others",
            )
        if len(self.bits) == 2:
            raise ProfileError(
                f"profile {self.name!r} has two primes: a base and a key-switching prime without a level",
                hint="pass one prime for sums, or three and more",
            )
        self._check_scale()

    def _check_scale(self) -> None:
        base = self.bits[0]
        if not 16 <= self.min_scale_bits <= self.scale_bits:
            raise ProfileError(
                f"profile {self.name!r} has scale_bits={self.scale_bits} and "
                f"min_scale_bits={self.min_scale_bits}; expected 16 <= min_scale_bits <= scale_bits",
                hint="change min_scale_bits",
            )
        if base - self.scale_bits < _FLOOD_ROOM:
            raise ProfileError(
                f"profile {self.name!r} has a base of {base} bits over a scale of {self.scale_bits}; values "
                f"and flooding noise need {_FLOOD_ROOM} bits between them",
                hint="raise the first entry of bits= or lower scale_bits",
            )
        if self.levels >= 2 and any(size != self.scale_bits for size in self.bits[1:-1]):
            raise ProfileError(
                f"profile {self.name!r} has level primes of {list(self.bits[1:-1])} bits at a scale of "
                f"{self.scale_bits}; after a product and a rescaling the scale would drift",
                hint="make every middle entry of bits= equal to scale_bits",
            )
        if self.levels >= 2 and self.min_scale_bits != self.scale_bits:
            raise ProfileError(
                f"profile {self.name!r} has {self.levels} levels and lets the scale of a column vary",
                hint="set min_scale_bits to scale_bits",
            )
        if not 0 <= self.headroom_bits <= base - 2 - self.scale_bits:
            raise ProfileError(
                f"profile {self.name!r} has headroom_bits={self.headroom_bits}; between base and scale there "
                f"is room for 0 to {base - 2 - self.scale_bits}",
                hint="lower headroom_bits or scale_bits",
            )

    @property
    def slots(self) -> int:
        """Number of complex slots of a ciphertext, N/2."""
        return self.degree // 2

    @property
    def levels(self) -> int:
        """How many times a fresh ciphertext can be multiplied and rescaled."""
        return max(len(self.bits) - 2, 0)

    @property
    def max_value(self) -> float:
        """Largest absolute value that may be encrypted."""
        return 2.0 ** (self.bits[0] - 2 - self.headroom_bits - self.min_scale_bits)

    def bound_for(self, largest: float) -> float:
        """Public bound of a column whose largest absolute value is ``largest``: the next power of 4.

        The steps are coarse on purpose: a server learns of the values only which of a dozen size classes
        they are in.
        """
        bound = 1.0
        while bound < largest:
            bound *= 4.0
        return min(bound, self.max_value)

    def fresh_scale_bits(self, bound: float, blocks: int = 1, *, products: bool = True) -> int:
        """log2 of the scale for a column with values up to ``bound`` in some blocks of rows.

        So that bound · scale <= q0/4, and, down to the smallest scale, so that the sum over all blocks of a
        product of two such columns fits into all primes, with two bits to spare, or one where there are many.
        Without products, and with a single level, the scale is as large as flooding leaves room for.
        """
        wide = max(0, _ceil_log2(bound))
        single = self.bits[0] - 2 - self.headroom_bits - wide
        if self.levels == 1 and not products:
            return min(self.bits[0] - _FLOOD_ROOM - 2, single)
        if self.levels < 1:
            return min(self.scale_bits, single)
        spare = max(3, _ceil_log2(float(blocks)) + 1)
        product = (sum(self.bits[: self.levels + 1]) - 1 - spare) // 2 - wide
        return min(self.scale_bits, single, max(product, self.min_scale_bits))


def _ceil_log2(value: float) -> int:
    exponent = 0
    while 2.0**exponent < value:
        exponent += 1
    return exponent


class ProfileTable(Mapping[str, Profile]):
    """The profiles by name; shows itself as a table.

    Examples
    --------
    >>> from twopm_kit.fhe import PROFILES
    >>> PROFILES["linear"].levels
    1
    """

    def __init__(self, *profiles: Profile) -> None:
        self._profiles = {profile.name: profile for profile in profiles}

    def __getitem__(self, name: str) -> Profile:
        found = self._profiles.get(name)
        if found is None:
            raise ProfileError(
                f"no profile is called {name!r}", hint=f"use one of: {', '.join(self._profiles)}"
            )
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._profiles

    def __iter__(self) -> Iterator[str]:
        return iter(self._profiles)

    def __len__(self) -> int:
        return len(self._profiles)

    def describe(self) -> pd.DataFrame:
        """Put every profile in a row: degree, primes, bits and their limit, slots, levels, scale, range, use.

        Returns
        -------
        pandas.DataFrame
            Indexed by profile name.
        """
        rows = [
            {
                "profile": p.name,
                "N": p.degree,
                "primes (bits)": ", ".join(map(str, p.bits)),
                "bits": sum(p.bits),
                "limit": SECURITY_LIMIT[p.degree],
                "slots": p.slots,
                "levels": p.levels,
                "scale": f"2^{p.scale_bits}",
                "largest value": f"{p.max_value:,.0f}",
                "for": p.purpose,
            }
            for p in self._profiles.values()
        ]
        return pd.DataFrame(rows).set_index("profile")

    def __repr__(self) -> str:
        return f"<encryption profiles: {', '.join(self._profiles)}>"

    def _repr_html_(self) -> str:
        table = self.describe().reset_index()
        head = "".join(f"<th scope='col'>{html.escape(str(c))}</th>" for c in table.columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(str(v))}</td>" for v in row) + "</tr>"
            for row in table.itertuples(index=False)
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


PROFILES: Final = ProfileTable(
    Profile("agg", 4096, (50,), 36, 24, 6, "sums of many parties"),
    Profile("linear", 8192, (60, 40, 60), 44, 30, 0, "linear and logistic inference, second moments"),
    # three levels with much room over the scale: hidden values and their squares are larger than inputs
    Profile("mlp", 8192, (48, 32, 32, 32, 48), 32, 32, 0, "one hidden square layer, many rows"),
    # two levels for products of bits up to depth 4, one for the digits of leaf values
    Profile("trees", 8192, (48, 39, 39, 39, 49), 39, 39, 0, "trees of depth up to 4, on encrypted bits"),
    # the opened sums of a gradient carry 1024 times the noise of fresh columns: 32 bits keep weights to 1e-5
    Profile("train", 8192, (43, 32, 32, 32, 32, 43), 32, 32, 0, "a training step, one hidden square layer"),
    Profile(
        "cnn", 8192, (37, 28, 28, 28, 28, 28, 37), 28, 28, 0, "convolution, square, dense, square, dense"
    ),
    Profile("deep", 16384, (60, 40, 40, 40, 40, 40, 40, 40, 60), 40, 40, 0, "higher degrees, comparisons"),
)
