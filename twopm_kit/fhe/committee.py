"""A key that nobody holds alone: a committee of n, of whom any t open together.

The secret key s is shared after Shamir ("How to share a secret", 1979), word by word, modulo each prime. A
ciphertext (c0, c1) opens to c0 + c1·s. With Lagrange factors λ_i of the set S that opens, s is the sum of
λ_i·s_i, so member i answers

    p_i = c1 · λ_i · s_i + e_i + z_i

and c0 plus the sum over S is the message. e_i is Gaussian noise, each member's own and alone large enough to
flood the error of the ciphertext (see `twopm_kit.fhe.flooding`): as long as one member of S is honest, the
result is flooded for all others. z_i is a share of zero: each pair of members expands a seed that only these
two know, for this frame and this set; one adds what the other subtracts. A partial alone, and any incomplete
collection of them, is therefore uniformly random to everybody else. Without z_i the factors would be in the
way: λ_i is a fraction such as 15/8, and through it small noise leaves the ciphertext's error modulo 8 in the
open; answers to several sets would add up.

What has to be trusted. The *dealer* knows the key when it deals: dealing makes shares, it cannot erase the
holder's own copy, nor key files. Delete them, and give each member its own. That all shares lie on one
polynomial is the dealer's word too; the published SHA-256 of each share lets a member check that its share is
the one of this deal, and no more. *Members* are semi-honest: they follow the protocol and look at what they
see. One that shows something else makes the result wrong; commitments, announced before anybody shows
anything, keep it from choosing what to show. Up to t - 1 members together learn nothing about the key.
"""

import hmac
import html
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, Final, TypeVar, overload

import numpy as np
import numpy.typing as npt
import pandas as pd

from twopm_kit.errors import CiphertextError, CommitteeError, SecretRefused
from twopm_kit.fhe.engine import Engine, guard_fork
from twopm_kit.fhe.flooding import DEFAULT_BUDGET, DEFAULT_PRECISION, QueryLedger
from twopm_kit.fhe.frames import EncryptedFrame
from twopm_kit.fhe.joint_opening import check_set, engine_of, plan_opening
from twopm_kit.fhe.keys import KeyHolder
from twopm_kit.fhe.member import SEED_BYTES, Member, share_commitment
from twopm_kit.fhe.opening import read_values
from twopm_kit.fhe.partials import MAX_MEMBERS, Partial, Roster, same_opening
from twopm_kit.fhe.raw import (
    Words,
    add_mod,
    cipher_words,
    plaintext_of,
    scale_mod,
    secret_words,
    uniform_words,
)
from twopm_kit.fhe.statistics import EncryptedStatistic
from twopm_kit.fhe.tables import rebuild
from twopm_kit.secrecy import KeptSecret

__all__ = ["Committee"]

#: An error that is larger than the members' noise by more than this is not theirs.
_ESTIMATED: Final = 1.25

_T = TypeVar("_T")


class Committee(KeptSecret):
    """Opens frames of a key that nobody holds alone.

    Parameters
    ----------
    roster : Roster
        Public facts of the deal.
    members : sequence of Member
        Those that live in this process: all of them right after `deal`, none for somebody who only combines.

    Notes
    -----
    Frames are opened at the lowest level, modulo one prime where values fit it: dropping primes changes
    neither scale nor error, so a fresh ciphertext loses nothing. All noise together is as large as
    ``precision`` allows (1e-6 by default), and never less than 1024 times the ciphertext's own error for each
    member, hence sqrt(t) times what a `KeyHolder` adds. With t = 3 and values up to 1, errors stay below 1e-6
    in profile "linear"; fresh ciphertexts of the others have 3e-6 ("deep") to 8e-3 ("cnn"), rescaled ones up
    to ten times that: ask `opening_report`.
    """

    _holds = "the shares of its members"
    _instead = "give .roster.to_bytes() to others: a committee that only combines needs no more"

    __slots__ = ("_engine", "members", "roster")

    def __init__(self, roster: Roster, members: Sequence[Member] = ()) -> None:
        self._engine = engine_of(roster)
        members = _all_of(members, Member, "committee.members, or nothing to combine only")
        strange = [m.number for m in members if m.roster.identity != roster.identity]
        if strange or len({m.number for m in members}) != len(members):
            raise CommitteeError(
                f"members {[m.number for m in members]} were passed; of another deal: {strange}",
                hint="pass each member of this deal at most once",
            )
        self.roster: Final = roster
        self.members: Final = tuple(members)

    @classmethod
    def deal(cls, holder: KeyHolder, t: int, n: int, *, budget: int = DEFAULT_BUDGET) -> "Committee":
        """Share a key among n members, of whom any t can open and t - 1 learn nothing.

        The holder is not changed and still has the key: delete it and its files once every member has its
        share, or the committee is for show.

        Parameters
        ----------
        holder : KeyHolder
            Whose key is shared.
        t : int
            Members that it takes, at least 2.
        n : int
            Members, at most 64.
        budget : int
            Ciphertexts that each member takes part in opening.

        Returns
        -------
        Committee
            With all members: ``save`` each where it belongs, and publish ``roster``.

        Raises
        ------
        CommitteeError
            t, n or budget cannot be.
        """
        guard_fork()
        if not isinstance(holder, KeyHolder):
            raise CommitteeError(
                f"a {type(holder).__name__} was passed; expected the KeyHolder", hint="pass the key's holder"
            )
        _check_size(t, n)
        engine = holder.engine
        draft = Roster(  # checks the budget before anything secret is touched
            profile=holder.profile,
            params=engine.params_hash,
            fingerprint=holder.fingerprint,
            threshold=t,
            budget=budget,
            commitments=("0" * 64,) * n,
        )
        shares = _share(engine, secret_words(engine, holder._secret), t, n)
        seeds = {pair: os.urandom(SEED_BYTES) for pair in combinations(range(1, n + 1), 2)}
        known = [
            {other: seeds[min(i, other), max(i, other)] for other in range(1, n + 1) if other != i}
            for i in range(1, n + 1)
        ]
        commitments = tuple(
            share_commitment(i, holder.fingerprint, known[i - 1], share) for i, share in enumerate(shares, 1)
        )
        roster = replace(draft, commitments=commitments)
        return cls(
            roster,
            [
                Member(roster, i, share, known[i - 1], QueryLedger(budget))
                for i, share in enumerate(shares, 1)
            ],
        )

    @property
    def fingerprint(self) -> str:
        """Of the key that is shared."""
        return self.roster.fingerprint

    @property
    def profile(self) -> str:
        """Name of the encryption profile."""
        return self.roster.profile

    @property
    def engine(self) -> Engine:
        """Parameters and arithmetic; no key."""
        return self._engine

    def combine(
        self,
        enc: EncryptedFrame,
        partials: Sequence[Partial],
        *,
        announced: Mapping[int, str] | None = None,
    ) -> pd.DataFrame | npt.NDArray[np.float64]:
        """Values of a frame from the partial openings of a set of members: no secret is needed.

        Parameters
        ----------
        enc : EncryptedFrame
            The frame that they opened.
        partials : sequence of Partial
            One of each member of the set that they name.
        announced : mapping of int to str, optional
            Commitments by member, as they were announced before anybody showed a partial.

        Returns
        -------
        pandas.DataFrame or ndarray of float64, shape (n, d)
            A frame when a frame was encrypted, else an array. A value is off by at most the members'
            ``precision``, or where the ciphertext's own error asks for more noise, by 6.2·sqrt(t) times 1024
            times that error (see `opening_report`), and by the error itself.

        Raises
        ------
        WrongKey
            Frame or partial under another key.
        CommitteeError
            A partial is missing, doubled, of a stranger, for another frame or set, not the one that was
            announced, or changed; names the member where that can be told. Or the result has an error that is
            not the members' noise.
        """
        guard_fork()
        parts = _all_of(partials, Partial, "a list of what the members gave; read bytes with from_bytes")
        chosen = self._agreed(parts)
        opening = plan_opening(enc, self.roster, parts[0].precision, len(chosen))
        ciphers = [cipher for cipher, _ in opening.ciphers()]
        primes = self._engine.primes[: opening.frame.level + 1]
        for part in parts:
            same_opening(part, self.roster, enc.root)
            self._check_words(part, len(ciphers), primes)
            if announced is not None and not hmac.compare_digest(
                part.commitment, announced.get(part.member, "")
            ):
                raise CommitteeError(
                    f"the partial opening of member {part.member} is not the one that was announced",
                    hint="ask the member for the one that it committed to, or open with another set",
                )
        summed = []
        for index, cipher in enumerate(ciphers):
            total = cipher_words(self._engine, cipher)[0]
            for r, prime in enumerate(primes):
                for part in parts:
                    total[r] = add_mod(total[r], part.words[index, r], prime)
            summed.append(plaintext_of(self._engine, opening.frame.level, float(cipher.scale), total))
        plains = iter(summed)
        try:
            values, seen = read_values(opening.frame, lambda _: next(plains), opening.errors)
        except CiphertextError as error:
            raise CommitteeError(
                f"the partial openings of {chosen} do not add up: {error.message}",
                hint="ask for commitments first and pass announced=, then open with another set",
            ) from None
        for head, flood, noise in zip(enc.heads, opening.floods, seen, strict=True):
            expected = flood.std * math.sqrt(len(chosen))
            if noise > _ESTIMATED * expected:
                raise CommitteeError(
                    f"members {chosen} opened column {head.name!r} with an error of {noise:.2g}; their noise "
                    f"has {expected:.2g}",
                    hint="do not pass on what was opened: a partial is wrong, or the ciphertexts were made "
                    "up to learn the key",
                )
        return rebuild(tuple(enc.columns), values, enc.source)

    @overload
    def decrypt(
        self, enc: EncryptedFrame, *, flood: bool = ..., precision: float = ...
    ) -> pd.DataFrame | npt.NDArray[np.float64]: ...

    @overload
    def decrypt(
        self, enc: EncryptedStatistic, *, flood: bool = ..., precision: float = ...
    ) -> pd.DataFrame | pd.Series: ...

    def decrypt(
        self,
        enc: EncryptedFrame | EncryptedStatistic,
        *,
        flood: bool = True,
        precision: float = DEFAULT_PRECISION,
    ) -> pd.DataFrame | pd.Series | npt.NDArray[np.float64]:
        """Open a frame or a statistic with t of the members that live here, as ``KeyHolder.decrypt`` does.

        Takes those who have most openings left.

        Raises
        ------
        SecretRefused
            ``flood=False``: a committee has no eyes of its own, whatever it opens is shown to others.
        CommitteeError
            Fewer than t members live here.
        """
        if not flood:
            raise SecretRefused(
                "full precision was asked of a committee; what it opens is seen by all of its members",
                hint="leave out flood=False",
            )
        if isinstance(enc, EncryptedStatistic):
            small = enc.compact()  # products as they are leave no room for the members' noise
            if small.sums is None:
                return small.finish(None)
            return small.finish(self.decrypt(small.sums, precision=precision))
        able = sorted(self.members, key=lambda member: -member.ledger.left)[: self.roster.threshold]
        chosen = sorted(member.number for member in able)
        return self.combine(enc, [member.partial(enc, chosen, precision=precision) for member in able])

    def open_for_others(
        self, enc: EncryptedFrame, *, precision: float = DEFAULT_PRECISION
    ) -> pd.DataFrame | npt.NDArray[np.float64]:
        """Flooded values, as `decrypt` gives them."""
        return self.decrypt(enc, precision=precision)

    def opening_report(self, enc: EncryptedFrame, *, precision: float = DEFAULT_PRECISION) -> pd.DataFrame:
        """Tell what opening a frame by t members costs in precision, and what it is worth.

        Returns
        -------
        pandas.DataFrame
            One row a column: standard deviation and largest error of all members' noise on a value; log2 of
            *one* member's noise over the ciphertext's own error, which is what protects when the others are
            dishonest; and the bits of the worst-case proof over the whole budget for it (see
            `twopm_kit.fhe.flooding.Flood`).
        """
        opening = plan_opening(enc, self.roster, precision, self.roster.threshold)
        rows = [
            (f.std * math.sqrt(opening.parties), error, round(f.ratio_bits, 1), round(f.statistical_bits, 1))
            for f, error in zip(opening.floods, opening.errors, strict=True)
        ]
        names = ["noise (std)", "largest error", "noise / error (bits)", "proof (bits)"]
        return pd.DataFrame(rows, columns=names, index=pd.Index(enc.columns, name="column"))

    def _agreed(self, parts: list[Partial]) -> tuple[int, ...]:
        """Return the set that all partials name, once each of its members has answered exactly once."""
        asked = {(part.members, part.precision) for part in parts}
        if len(asked) != 1:
            raise CommitteeError(
                f"{len(parts)} partial openings name {len(asked)} different sets of members or precisions",
                hint="ask all members to open for one set with one precision, and combine those",
            )
        chosen = check_set(self.roster, parts[0].members)
        numbers = [part.member for part in parts]
        missing, doubled = set(chosen) - set(numbers), {i for i in numbers if numbers.count(i) > 1}
        strangers = set(numbers) - set(chosen)
        wrong = {"missing": missing, "more than once": doubled, "strangers": strangers}
        if any(wrong.values()):
            found = ", ".join(f"{what}: {sorted(who)}" for what, who in wrong.items() if who)
            raise CommitteeError(
                f"partial openings of members {numbers} were passed for the set {chosen}; {found}",
                hint="pass exactly one partial of each member of the set",
            )
        return chosen

    def _check_words(self, part: Partial, count: int, primes: tuple[int, ...]) -> None:
        shape = (count, len(primes), self._engine.profile.degree)
        limits = np.array(primes, np.uint64)[:, None]
        if part.words.shape != shape or part.words.dtype != np.uint64 or bool((part.words >= limits).any()):
            raise CommitteeError(
                f"member {part.member} sent words of shape {part.words.shape}; expected {shape}, each below "
                "its prime",
                hint=f"ask member {part.member} for its partial opening again",
            )

    def __repr__(self) -> str:
        return (
            f"<Committee: {self.roster.threshold} of {self.roster.size}, profile {self.profile}, key "
            f"{self.fingerprint[:8]}…, {len(self.members)} members here>"
        )

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{m.number}</td><td>{m.ledger.left:,}</td></tr>"
            for m in sorted(self.members, key=lambda m: m.number)
        )
        return (
            f"<p><strong>Committee</strong>: {self.roster.threshold} of {self.roster.size} open together, "
            f"profile {html.escape(self.profile)}, key {self.fingerprint[:8]}…</p>"
            "<table><thead><tr><th scope='col'>member here</th><th scope='col'>openings left</th></tr>"
            f"</thead><tbody>{rows}</tbody></table>"
        )


def _all_of(given: object, kind: type[_T], pass_: str) -> list[_T]:
    """List of what was passed, each of one kind."""
    items: list[Any] = list(given) if isinstance(given, Iterable) else [given]
    for item in items:
        if not isinstance(item, kind):
            raise CommitteeError(
                f"a {type(item).__name__} was passed; expected a {kind.__name__}", hint=f"pass {pass_}"
            )
    return items


def _check_size(t: object, n: object) -> None:
    """Refuse numbers of members that cannot be, before anything secret is touched."""
    if type(t) is not int or type(n) is not int or not 2 <= t <= n <= MAX_MEMBERS:
        way = "pass whole numbers"
        if type(t) is int and type(n) is int:
            way = (
                f"deal to at most {MAX_MEMBERS} members"
                if n > MAX_MEMBERS
                else "let at least 2 members open together: one alone would have the key"
                if t < 2
                else "deal to more members, or with a lower threshold"
            )
        raise CommitteeError(
            f"a threshold of t={t!r} with n={n!r} members was passed; expected 2 <= t <= n <= {MAX_MEMBERS}",
            hint=way,
        )


def _share(engine: Engine, secret: Words, t: int, n: int) -> list[Words]:
    """Shamir, word by word: values at 1 to n of polynomials of degree t - 1 that are the secret at 0."""
    primes, degree = engine.primes, engine.profile.degree
    secret = secret[: len(primes)]  # ciphertexts never carry the key-switching prime
    coefficients = [secret, *(uniform_words(primes, degree) for _ in range(t - 1))]
    shares = []
    for point in range(1, n + 1):
        value = coefficients[-1].copy()
        for coefficient in coefficients[-2::-1]:
            for r, prime in enumerate(primes):
                value[r] = add_mod(scale_mod(value[r], point, prime), coefficient[r], prime)
        shares.append(value)
    for coefficient in coefficients:
        coefficient.fill(0)  # copies that libraries made are out of reach
    return shares
