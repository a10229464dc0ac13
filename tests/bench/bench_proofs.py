"""Prints what proofs about columns cost: run as ``python tests/bench/bench_proofs.py``.

A column of 2,048 numbers of 16 bits. Beside it stands what a prover without these proofs would do: open every
value by itself with a KZG proof, which the chain checks one by one, and which shows all values; a few are
measured and scaled up.
"""

import time
from statistics import median

import numpy as np
from report import at_most, bars, compare, machine, show

import twopm_kit as kit
from twopm_kit import kzg
from twopm_kit.vsies import ColumnProofs, CommittedColumn, prove_range, prove_total

ROWS, BITS, SEED, REPEATS, SINGLE = 2_048, 16, 7, 5, 8
# of the point evaluation precompile (EIP-4844), without the transaction around it
SINGLE_GAS = 50_000


def timed(call):
    """Result and seconds of one call."""
    start = time.perf_counter()
    result = call()
    return result, time.perf_counter() - start


def repeated(call):
    """Result and median seconds."""
    results = [timed(call) for _ in range(REPEATS)]
    return results[0][0], median(seconds for _, seconds in results)


def one_by_one(values):
    """Seconds, gas and bytes of a column whose values are opened one after the other."""
    blob = b"".join(int(value).to_bytes(32, "big") for value in values).ljust(kzg.BLOB_BYTES, b"\0")
    kzg.commit(blob)
    _, seconds = timed(lambda: [kzg.point_proof(blob, index) for index in range(SINGLE)])
    scale = ROWS / SINGLE
    return {
        "": "every value opened",
        "prove, s": seconds * scale,
        "gas": SINGLE_GAS * ROWS,
        "bytes": (48 + 32) * ROWS,
        "shows": "all values",
    }


def main():
    """Measure, print both sides, and hold them against the bars."""
    machine("ckzg", "numpy", "vyper", seed=SEED, threads=1)
    kzg.trusted_setup()
    values = np.random.default_rng(SEED).integers(0, 1 << BITS, ROWS)
    with kit.chain.connect() as chain:
        alice = chain.account("alice")
        proofs = ColumnProofs.deploy(chain, alice)
        context = proofs.context(1, alice, "income")
        prove_range(values[:1], BITS)  # tables that are made once a process
        proof, seconds = repeated(lambda: prove_range(values, BITS, context=context))
        _, check = repeated(proof.verify)
        gas = proofs.verify(proof, sender=alice).gas
        calldata = len(proofs.contract.method("prove_range").encode(*proof.arguments()))
        rows = [
            one_by_one(values),
            {"": "range proof", "prove, s": seconds, "gas": gas, "bytes": proof.nbytes, "shows": "nothing"},
        ]
        show(compare(rows, "prove, s", "gas", "bytes"), f"{ROWS:,} values of {BITS} bits")
        rows = [{"": "range", "prove, s": seconds, "check off chain, s": check, "gas": gas}]
        column = CommittedColumn.commit(values, 0, (1 << BITS) - 1)
        context = proofs.context(2, alice, "income")
        ranged = prove_range(column, context=context)
        proofs.verify(ranged, sender=alice)
        for squares in (False, True):
            total = int((values**2 if squares else values).sum())
            made, spent = timed(
                lambda total=total, squares=squares: prove_total(
                    column, 0, total + 1, squares=squares, context=context
                )
            )
            _, off_chain = timed(lambda made=made: made.verify(ranged))
            paid = proofs.verify(made, sender=alice).gas
            name = "L2 norm" if squares else "sum"
            rows.append({"": name, "prove, s": spent, "check off chain, s": off_chain, "gas": paid})
        show(rows, "The three claims about a column; a total is checked together with its range")
        print(f"calldata of the range proof: {calldata:,} bytes\n")
    bars(
        [
            at_most("proving a range", seconds, 1.5, "s"),
            at_most("gas", gas, 400_000),
            at_most("bytes as calldata", calldata, 3_500),
        ]
    )


if __name__ == "__main__":
    main()
