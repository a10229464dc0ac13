"""Adding encrypted models, and opening by a committee; beside the context that NVFlare makes with TenSEAL.

Run as a script: prints two tables. One process, one thread; the seed is fixed. Three parties with one key
each encrypt a million floats; a server that has no key adds what arrives; one party opens the sum. "encrypt"
is from floats to bytes, "add" from bytes to bytes, "open" from bytes to floats. The kit floods what it opens,
the other code does not, and warns that long vectors cannot be multiplied, which nobody does here. TenSEAL
cannot open by a committee: beside it stands the holder of the whole key.
"""

import sys
import time
from statistics import median

import numpy as np
import tenseal
from report import at_most, bars, compare, fact, machine, show

from twopm_kit import fhe

SEED = 7
FLOATS = 1_000_000
PARTIES = 3
THRESHOLD, MEMBERS = 3, 5
REPEATS = 15


def updates() -> list[np.ndarray]:
    """A million parameters of each party, as small as updates of a network are."""
    rng = np.random.default_rng(SEED)
    return [0.05 * rng.standard_normal(FLOATS) for _ in range(PARTIES)]


def timed(call):
    """Result and seconds of one call."""
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def summing(name: str, encrypt, add, decrypt) -> dict[str, object]:
    """Encrypt, add and open by three calls on bytes."""
    clear = updates()
    sent = [timed(lambda one=one: encrypt(one)) for one in clear]
    total, adding = timed(lambda: add([content for content, _ in sent]))
    opened, opening = timed(lambda: decrypt(total))
    size = max(len(content) for content, _ in sent)
    return {
        "code": name,
        "MB up, each": size / 1e6,
        "bytes a float": size / FLOATS,
        "MB down": len(total) / 1e6,
        "encrypt, s": median(seconds for _, seconds in sent),
        "add, s": adding,
        "open, s": opening,
        "largest error of the sum": float(np.abs(opened - np.sum(clear, axis=0)).max()),
    }


def tutorial() -> dict[str, object]:
    """One long CKKSVector of a symmetric context, as federated learning frameworks send it."""
    bits, symmetric = [60, 40, 40], tenseal.ENCRYPTION_TYPE.SYMMETRIC
    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 8192, -1, bits, symmetric, n_threads=1)
    context.global_scale = 2**40
    public = tenseal.context_from(context.serialize(save_secret_key=False), n_threads=1)

    def add(contents: list[bytes]) -> bytes:
        total = tenseal.ckks_vector_from(public, contents[0])
        for content in contents[1:]:
            total += tenseal.ckks_vector_from(public, content)
        return total.serialize()

    return summing(
        f"TenSEAL, one vector, {bits}",
        lambda values: tenseal.ckks_vector(context, values).serialize(),
        add,
        lambda content: np.array(tenseal.ckks_vector_from(context, content).decrypt()),
    )


def kit(packing: str) -> dict[str, object]:
    """One column under profile "agg"."""
    holder = fhe.KeyHolder.generate("agg")

    def add(contents: list[bytes]) -> bytes:
        total = fhe.EncryptedFrame.from_bytes(contents[0])
        for content in contents[1:]:
            total = total + fhe.EncryptedFrame.from_bytes(content)
        return total.to_bytes()

    return summing(
        f"twopm_kit, {packing}",
        lambda values: holder.encrypt(values, packing=packing, bounds=1.0).to_bytes(),
        add,
        lambda content: holder.decrypt(fhe.EncryptedFrame.from_bytes(content, holder)).ravel(),
    )


def committee() -> dict[str, object]:
    """One ciphertext with 4,096 rows, opened by three of five, each with its own bytes of the frame."""
    holder = fhe.KeyHolder.generate("linear", budget=1_000_000)
    x = np.random.default_rng(SEED).uniform(-1.0, 1.0, fhe.PROFILES["linear"].slots)
    content = holder.encrypt(x, bounds=1.0).to_bytes()
    group, dealing = timed(lambda: fhe.Committee.deal(holder, THRESHOLD, MEMBERS, budget=1_000_000))
    combiner, chosen = fhe.Committee(group.roster), range(1, THRESHOLD + 1)

    def answer(member: fhe.Member) -> tuple[str, bytes]:
        part = member.partial(fhe.EncryptedFrame.from_bytes(content), chosen)
        return part.commitment, part.to_bytes()

    def combine(answers: list[tuple[str, bytes]]) -> np.ndarray:
        announced = {i: commitment for i, (commitment, _) in zip(chosen, answers, strict=True)}
        parts = [fhe.Partial.from_bytes(part) for _, part in answers]
        return combiner.combine(fhe.EncryptedFrame.from_bytes(content), parts, announced=announced)

    members, combining, alone, errors = [], [], [], []
    for _ in range(REPEATS):
        answers = []
        for member in group.members[:THRESHOLD]:
            made, seconds = timed(lambda member=member: answer(member))
            answers.append(made)
            members.append(seconds)
        opened, seconds = timed(lambda answers=answers: combine(answers))
        combining.append(seconds)
        alone.append(timed(lambda: holder.decrypt(fhe.EncryptedFrame.from_bytes(content, holder)))[1])
        errors.append(np.abs(opened.ravel() - x).max())
    return {
        "deal": 1e3 * dealing,
        "member": 1e3 * median(members),
        "bytes": max(len(part) for _, part in answers),
        "combine": 1e3 * median(combining),
        "alone": 1e3 * median(alone),
        "error": float(max(errors)),
    }


def main() -> None:
    """Print the tables, with the machine, versions and the seed."""
    machine("tenseal", "numpy", "twopm-kit", seed=SEED, threads=1)
    rows = [tutorial(), kit("real"), kit("complex")]
    compare(rows, "MB up, each", "encrypt, s", "add, s", "open, s")
    show(rows, f"{FLOATS:,} floats of {PARTIES} parties, added")
    group, packed = committee(), rows[-1]
    bars(
        [
            at_most(f"{FLOATS:,} floats, {packed['code']}", packed["MB up, each"], 8, "MB"),
            at_most("a member: read, open its part, commit, write", group["member"], 15, "ms"),
            at_most("sent by a member", group["bytes"] / 1e3, 70, "KB"),
            fact("combining them", f"{group['combine']:.2f} ms"),
            fact("largest error", group["error"]),
            fact("the holder of the whole key, alone", f"{group['alone']:.2f} ms"),
            fact("dealing, once", f"{group['deal']:.0f} ms"),
        ],
        f"bars; {THRESHOLD} of a committee of {MEMBERS} open one ciphertext of profile linear",
    )


if __name__ == "__main__":
    sys.exit(main())
