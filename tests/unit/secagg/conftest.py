"""A round whose every message a test can read and alter."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from eth_hash.auto import keccak

from twopm_kit.secagg import (
    BoxKey,
    Encoder,
    NodeSession,
    Roster,
    RoundConfig,
    RoundContext,
    ShareAnnouncement,
    ShareMessage,
    reconstruct_mask,
    total,
)


def address(index):
    return keccak(index.to_bytes(2, "big"))[:20]  # the ring's order is not the order of addresses


@dataclass
class Round:
    """Members step through the round; every message lies open in between."""

    context: RoundContext
    config: RoundConfig
    keys: list[BoxKey]
    vectors: np.ndarray
    weights: list[int]
    sessions: list[NodeSession] = field(default_factory=list)
    messages: dict[bytes, ShareMessage] = field(default_factory=dict)
    announcements: list[ShareAnnouncement] = field(default_factory=list)
    masked: dict[int, np.ndarray] = field(default_factory=dict)
    openings: dict = field(default_factory=dict)

    def __post_init__(self):
        self.addresses = [address(i) for i in range(len(self.keys))]
        self.peers = {a: k.public for a, k in zip(self.addresses, self.keys, strict=True)}
        self.sessions = [
            NodeSession(self.context, self.config, a, k)
            for a, k in zip(self.addresses, self.keys, strict=True)
        ]
        self.encoder = Encoder(self.config, self.vectors.shape[1], rounding_key=bytes(16))

    @property
    def everybody(self):
        return range(len(self.keys))

    @property
    def roster(self):
        return Roster.of(self.config, self.addresses)

    def share(self, absent=()):
        for i in self.everybody:
            if i not in absent:
                message = self.sessions[i].share_message(self.peers)
                self.messages[self.addresses[i]] = message
        self.announcements = [m.announcement for m in self.messages.values()]
        return self

    def receive(self, absent=()):
        for i in self.everybody:
            if self.addresses[i] in self.messages and i not in absent:
                self.sessions[i].receive(self.messages, self.announcements)
        return self

    def mask(self, absent=()):
        for i in self.everybody:
            if self.addresses[i] in self.messages and i not in absent:
                self.masked[i] = self.sessions[i].mask(self.encoder.encode(self.vectors[i], self.weights[i]))
        return self

    @property
    def survivors(self):
        return [self.addresses[i] for i in self.masked]

    def open(self, absent=()):
        for i in self.masked:
            if i not in absent:
                self.openings[self.addresses[i]] = self.sessions[i].open_shares(self.survivors)
        return self

    def reconstruct(self, **changes):
        arguments = {
            "members": self.addresses,
            "announcements": self.announcements,
            "messages": self.messages,
            "survivors": self.survivors,
            "openings": self.openings,
            "elements": self.encoder.elements,
        } | changes
        return reconstruct_mask(self.context, self.config, **arguments)

    def finish(self, **changes):
        unmasking = self.reconstruct(**changes)
        summed = unmasking.unmask(total(self.masked.values()))
        return self.encoder.decode(summed, len(self.masked)), unmasking

    def expected(self):
        chosen = list(self.masked)
        weights = np.array([self.weights[i] for i in chosen], float)
        return weights @ self.vectors[chosen] / weights.sum()


@pytest.fixture
def context():
    return RoundContext(chain_id=31337, contract="0x" + "c0" * 20, task_id=7, round=3)


@pytest.fixture
def make_round(context):
    def make(members=5, length=37, config=None, **changes):
        config = config or RoundConfig(clip=2.0, max_clients=max(members, 2))
        vectors = np.random.default_rng(members).uniform(-2, 2, (members, length))
        keys = [BoxKey.generate() for _ in range(members)]
        weights = [1 + i for i in range(members)]
        return Round(changes.pop("context", context), config, keys, vectors, weights, **changes)

    return make
