"""The members of a round in ring order: who is whose neighbour, in which group, and who is left."""

from collections.abc import Container, Iterable
from dataclasses import dataclass
from functools import cached_property

from twopm_kit.errors import ProtocolError, TooFewSurvivors
from twopm_kit.secagg.config import MIN_GROUP, RoundConfig
from twopm_kit.secagg.context import Party, party_id, party_name
from twopm_kit.secagg.graph import Graph

__all__ = ["Roster"]

_WORD_BITS = 256


@dataclass(frozen=True)
class Roster:
    """The selected members of a round; a member's seat is its place in the ring.

    Parameters
    ----------
    members : tuple of bytes
        Addresses in ring order, as the contract lists them.
    graph : Graph
        Of as many members.
    groups : int
        The member at seat p belongs to group p mod groups.
    quorum : int
        Fewest survivors.
    """

    members: tuple[bytes, ...]
    graph: Graph
    groups: int = 1
    quorum: int = 0

    def __post_init__(self) -> None:
        if len(self._seats) != len(self.members) or len(self.members) != self.graph.members:
            raise ProtocolError(
                f"{len(self.members)} members, {len(self._seats)} of them different, for a graph of "
                f"{self.graph.members}",
                hint="Read the members of the round, each once, from the round contract.",
            )

    @classmethod
    def of(cls, config: RoundConfig, members: Iterable[Party]) -> "Roster":
        """Seat `members`, given in ring order, as a round of `config` does.

        Raises
        ------
        RoundConfigError
            If the configuration has no round of so many members.
        ProtocolError
            If a member is listed twice.
        """
        seated = tuple(party_id(member) for member in members)
        graph = config.graph(len(seated))
        return cls(seated, graph, config.groups, config.quorum(len(seated)))

    @cached_property
    def _seats(self) -> dict[bytes, int]:
        return {member: seat for seat, member in enumerate(self.members)}

    @cached_property
    def _receivers(self) -> dict[bytes, tuple[bytes, ...]]:
        return {
            member: tuple(self.members[at] for at in self.graph.receivers(seat))
            for member, seat in self._seats.items()
        }

    @property
    def threshold(self) -> int:
        """How many shares reconstruct a secret."""
        return self.graph.threshold

    def seat(self, member: bytes) -> int:
        """Return the seat of a member, or raise `ProtocolError`."""
        if member not in self._seats:
            raise ProtocolError(
                f"{party_name(member)} is not a member of the round",
                hint="Read the members of the round from the round contract.",
            )
        return self._seats[member]

    def receivers(self, dealer: bytes) -> tuple[bytes, ...]:
        """Members that hold a share of `dealer`: itself, then its neighbours in ring order."""
        return self._receivers[self.members[self.seat(dealer)]]

    def group(self, member: bytes) -> int:
        """Return the group of a member."""
        return self.seat(member) % self.groups

    def group_counts(self, some: Iterable[bytes]) -> list[int]:
        """Count the members of each group that are in `some`."""
        counts = [0] * self.groups
        for member in some:
            counts[self.group(member)] += 1
        return counts

    def partners(self, member: bytes) -> tuple[bytes, ...]:
        """Members that share a mask with `member`: its neighbours in its own group."""
        own = self.group(member)
        return tuple(other for other in self.receivers(member)[1:] if self.group(other) == own)

    def seated(self, some: Container[bytes]) -> tuple[bytes, ...]:
        """Return the members that are in `some`, in ring order."""
        return tuple(member for member in self.members if member in some)

    def bitmap(self, survivors: Iterable[bytes]) -> bytes:
        """Return ⌈n/256⌉ big-endian words of 32 bytes; bit p mod 256 of word ⌊p/256⌋ stands for seat p."""
        words = [0] * -(-len(self.members) // _WORD_BITS)
        for survivor in survivors:
            seat = self.seat(survivor)
            words[seat // _WORD_BITS] |= 1 << (seat % _WORD_BITS)
        return b"".join(word.to_bytes(32, "big") for word in words)

    def survivors(self, listed: Iterable[Party], shared: Iterable[bytes]) -> tuple[bytes, ...]:
        """Check a frozen survivor list and return it in ring order.

        Parameters
        ----------
        listed : iterable of addresses
            What the contract froze.
        shared : iterable of bytes
            Members that announced their shares (U1).

        Raises
        ------
        ProtocolError
            If it names a stranger, or somebody twice.
        TooFewSurvivors
            If it is shorter than the quorum, leaves too few neighbours of somebody who shared (its message
            names the dealer), or leaves a group with one survivor, whose vector its sum would be.
        """
        dealers, named = self.seated(set(shared)), [party_id(party) for party in listed]
        living, unknown = set(named), set(named) - set(dealers)
        if len(living) != len(named) or unknown:
            wrong = f"unknown: {', '.join(map(party_name, sorted(unknown)))}" if unknown else "a party twice"
            raise ProtocolError(
                f"the survivor list names {wrong}; expected members that shared, each once",
                hint="Read the frozen survivor list from the round contract.",
            )
        self.demand_enough(dealers, living, "survive")
        for group, left in enumerate(self.group_counts(living)):
            if 0 < left < MIN_GROUP:
                raise TooFewSurvivors(
                    f"group {group} has {left} survivor, expected none or at least {MIN_GROUP}",
                    hint="End the round without a result: the group's sum would be this member's vector.",
                )
        return self.seated(living)

    def demand_enough(self, dealers: Iterable[bytes], present: Container[bytes], verb: str) -> None:
        """Demand a quorum of members, and enough receivers of each dealer to reconstruct its secrets.

        Raises
        ------
        TooFewSurvivors
            If not; where it is one dealer's neighbours that are missing, the message names the dealer.
        """
        there = len(self.seated(present))
        if there < self.quorum:
            raise TooFewSurvivors(
                f"{there} of {len(self.members)} members {verb}, expected at least {self.quorum}",
                hint="End the round without a result; nothing is opened for so few.",
            )
        for dealer in dealers:
            holders = sum(receiver in present for receiver in self.receivers(dealer))
            if holders < self.threshold:
                raise TooFewSurvivors(
                    f"{holders} of the {self.graph.degree + 1} members that hold shares of "
                    f"{party_name(dealer)} {verb}, expected at least {self.threshold}",
                    hint="End the round without a result; nothing is opened, for it could not finish.",
                )
