"""Prints what a secure aggregation round costs: run as ``python tests/bench/bench_secagg.py``.

Beside the client's steps stand the same number of masks alone, in the field and in plain 32-bit arithmetic
(AES-128-CTR keystream added modulo 2^32), both in one thread: their ratio is the price of the field.
"""

import os
import time

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from report import machine

from twopm_kit.secagg import BoxKey, Encoder, NodeSession, RoundConfig, RoundContext, reconstruct_mask, total
from twopm_kit.secagg import masks as masks_module
from twopm_kit.secagg.masks import MaskKey, add_masks

SEED = 2024
REPEATS = 3
CHUNK = 1 << 16


def milliseconds(call, repeats=REPEATS):
    """Best wall time of some calls, in milliseconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times) * 1e3


def plain_masks(parameters, masks):
    """Add `masks` keystreams to a uint32 vector modulo 2^32, chunk by chunk."""
    vector = np.zeros(parameters, np.uint32)
    zeros, keystream = bytes(CHUNK), bytearray(CHUNK + 16)
    words = np.frombuffer(keystream, np.uint32)
    streams = [Cipher(algorithms.AES(os.urandom(16)), modes.CTR(bytes(16))).encryptor() for _ in range(masks)]
    for start in range(0, parameters, CHUNK // 4):
        part = vector[start : start + CHUNK // 4]
        for stream in streams:
            stream.update_into(memoryview(zeros)[: 4 * part.size], keystream)
            np.add(part, words[: part.size], out=part)


def field_masks(parameters, masks):
    """Add `masks` keystreams in the field, in one thread."""
    threads, masks_module._THREADS = masks_module._THREADS, 1
    add_masks(-(-parameters // 8), plus=[MaskKey(os.urandom(32)) for _ in range(masks)])
    masks_module._THREADS = threads


class OneRound:
    """A round in which one member's steps are timed."""

    def __init__(self, members, parameters):
        self.config = RoundConfig(clip=4.0, max_clients=members)
        self.context = RoundContext(31337, "0x" + "c0" * 20, 1, 1)
        self.encoder = Encoder(self.config, parameters)
        self.keys = {(i + 1).to_bytes(20, "big"): BoxKey.generate() for i in range(members)}
        self.peers = {address: key.public for address, key in self.keys.items()}
        self.vector = np.random.default_rng(SEED).normal(size=parameters)
        self.sessions = [NodeSession(self.context, self.config, a, k) for a, k in self.keys.items()]
        dealt = [session.share_message(self.peers) for session in self.sessions]
        self.announcements = [message.announcement for message in dealt]
        self.messages = {message.dealer: message.to_bytes() for message in dealt}
        self.masks = self.config.graph(members).degree + 1

    def share(self):
        address, key = next(iter(self.keys.items()))
        NodeSession(self.context, self.config, address, key).share_message(self.peers)

    def receive(self):
        """Milliseconds in which the first member reads its neighbours' messages."""
        start = time.perf_counter()
        self.sessions[0].receive(self.messages, self.announcements)
        return (time.perf_counter() - start) * 1e3

    def unmask(self, tenths):
        """Milliseconds that anyone needs for the total mask after some tenths of the members dropped out."""
        encoded = self.encoder.encode(self.vector)
        living = [session for i, session in enumerate(self.sessions) if i % 10 >= tenths]
        for session in living:
            session.receive(self.messages, self.announcements)
        masked = total(session.mask(encoded) for session in living)
        survivors = [session.address for session in living]
        openings = {session.address: session.open_shares(survivors).to_bytes() for session in living}
        start = time.perf_counter()
        unmasking = reconstruct_mask(
            self.context,
            self.config,
            members=self.peers,
            announcements=self.announcements,
            messages=self.messages,
            survivors=survivors,
            openings=openings,
            elements=self.encoder.elements,
        )
        summed = unmasking.unmask(masked)
        elapsed = (time.perf_counter() - start) * 1e3
        assert self.encoder.decode(summed, len(living)).weight == len(living)
        return elapsed


def main():
    """Print the table."""
    machine("numpy", "cryptography", seed=SEED)
    print(f"times     milliseconds, best of {REPEATS}; receive and the two unmask columns are one run each")
    print("columns   mask: the whole of NodeSession.mask, key agreement and input checks included")
    print("          field, uint32: as many masks alone, one thread, in F_r and modulo 2^32; their ratio")
    head = ("n", "k", "parameters", "share", "receive", "encode", "mask", "field", "uint32", "ratio")
    print(" | ".join(f"{title:>10}" for title in (*head, "B/param", "unmask", "30% gone")))
    for members, parameters in (
        (10, 100_000),
        (32, 100_000),
        (100, 100_000),
        (10, 1_000_000),
        (32, 1_000_000),
    ):
        one = OneRound(members, parameters)
        share, receive = milliseconds(one.share), one.receive()
        encoded = one.encoder.encode(one.vector)
        encode = milliseconds(lambda one=one: one.encoder.encode(one.vector))
        client = milliseconds(lambda s=one.sessions[0], e=encoded: s.mask(e))
        field = milliseconds(lambda m=one.masks, p=parameters: field_masks(p, m))
        plain = milliseconds(lambda m=one.masks, p=parameters: plain_masks(p, m))
        size = one.encoder.elements * 32 / parameters
        unmask = OneRound(members, parameters).unmask(0)
        gone = OneRound(members, parameters).unmask(3)
        row = [share, receive, encode, client, field, plain, field / plain, size, unmask, gone]
        cells = [f"{members:>10}", f"{one.masks - 1:>10}", f"{parameters:>10,}"]
        print(" | ".join([*cells, *(f"{value:>10.2f}" for value in row)]))


if __name__ == "__main__":
    main()
