"""Prints what commitments to masked vectors cost: run as ``python tests/bench/bench_kzg.py``.

First the kit beside bare ckzg on the same bytes, alternating in one run: 32,768 parameters are one blob. Then
the whole message of a masked vector, as its sender makes it and as everybody else checks it.
"""

import secrets
import time
from statistics import median

import ckzg
import numpy as np
from report import machine

from twopm_kit import kzg
from twopm_kit.secagg import RoundContext
from twopm_kit.secagg.field import to_big_endian
from twopm_kit.secagg.vectors import VectorMessage

REPEATS = 9
LANES = 8
CONTEXT = RoundContext(31337, "0x" + "c0" * 20, 1, 1)
SENDER = b"\xaa" * 20


def random_vector(elements):
    """Random field elements, as a masked vector looks."""
    drawn = np.frombuffer(secrets.token_bytes(32 * elements), np.uint32).reshape(-1, 8).copy()
    drawn[:, -1] %= 0x73EDA753
    return drawn


def timed(call):
    """Result and milliseconds of one call."""
    start = time.perf_counter()
    result = call()
    return result, (time.perf_counter() - start) * 1e3


def commit_table():
    """Commit to blobs of 4,096 elements by the kit and by bare ckzg, in turns."""
    setup = kzg.trusted_setup()
    kit, bare = [], []
    for _ in range(REPEATS):
        # a new vector each time: the kit remembers what it has committed to
        vector = random_vector(kzg.BLOB_ELEMENTS)
        message, elapsed = timed(lambda vector=vector: commit_to(vector))
        kit.append(elapsed)
        blob = vector[:, ::-1].astype(">u4").tobytes()
        commitment, elapsed = timed(lambda blob=blob: ckzg.blob_to_kzg_commitment(blob, setup))
        bare.append(elapsed)
        assert message == [commitment]
    print(f"{'parameters':>11} {'kit':>8} {'ckzg':>8} {'ratio':>6}   milliseconds, median of {REPEATS}")
    print(
        f"{LANES * kzg.BLOB_ELEMENTS:>11,} {median(kit):>8.1f} {median(bare):>8.1f} "
        f"{median(kit) / median(bare):>6.2f}"
    )


def commit_to(vector):
    """From limbs to commitments, as a member of a round does it."""
    return [kzg.commit(blob) for blob in kzg.split(to_big_endian(vector))]


def message_table():
    """Make, parse and verify whole messages."""
    head = f"{'parameters':>11} {'mode':>5} {'bytes each':>10} {'make':>9} {'parse':>7} {'verify':>8}"
    print(f"{head}   milliseconds")
    for parameters in (44_000, 100_000, 1_000_000):
        for mode in ("kzg", "hash"):
            vector = random_vector(-(-parameters // LANES))

            def make(vector=vector, mode=mode):
                message = VectorMessage.of(CONTEXT, SENDER, vector, kzg=mode == "kzg")
                return message, message.data_root, message.points

            (message, root, points), making = timed(make)
            data = message.to_bytes()
            arrived, parsing = timed(lambda data=data: VectorMessage.from_bytes(data))
            _, checking = timed(
                lambda arrived=arrived, root=root, points=points: arrived.verify(
                    CONTEXT, SENDER, root, points, elements=len(arrived)
                )
            )
            print(
                f"{parameters:>11,} {mode:>5} {len(data) / parameters:>10.3f} {making:>9.1f} {parsing:>7.2f} "
                f"{checking:>8.1f}"
            )


def main():
    """Print the tables."""
    machine("ckzg", "numpy", "pycryptodome")
    _, loading = timed(kzg.trusted_setup)
    print(f"set-up {loading:,.0f} ms, once a process")
    print()
    commit_table()
    print()
    message_table()


if __name__ == "__main__":
    main()
