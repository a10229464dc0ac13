"""Prints what a round costs on chain in gas: run as ``python tests/bench/bench_gas.py``.

Commit mode (KZG) at 3, 9 and 27 nodes beside its bars, then the other modes and a hundred nodes: the embedded
chain, 100 parameters (14 field elements with the lanes that every update carries), no drop-outs. A node's own
transactions are ``share``, ``submit`` or ``commit``, ``open_shares`` and ``attest``; everybody else's are
``open_round``, ``advance`` and the last one, which carries the sum. The round contract is driven directly:
what the messages commit to makes no difference to their price.
"""

import secrets

from eth_hash.auto import keccak
from report import at_most, bars, fact, machine

from twopm_kit import chain, kzg
from twopm_kit.display import table

WORDS = 14
OWN_BAR, OTHERS_BAR, OTHERS_PER_NODE, SPREAD_BAR = 300_000, 600_000, 40_000, 0.05
TRANSACTION_BAR = 16_700_000
MODES = {"direct": 0, "kzg": 1, "hash": 2, "blob": 3}


def words_of(vector):
    """Write field elements as big-endian words."""
    return b"".join(word.to_bytes(32, "big") for word in vector)


def terms(mode, nodes):
    """Return terms of a task for so many nodes."""
    hashed = keccak(b"bench")
    windows = (3, nodes + 5, 2 * nodes + 5)
    degree = (34, 11) if nodes > 50 else (0, 0)
    numbers = (0, 1000, 2, max(nodes, 2), WORDS, 8, MODES[mode], False, 1, *degree, *windows, 10)
    return (hashed, hashed, hashed, bytes(32), *numbers, bytes(32))


class Meter:
    """Runs rounds of one task and adds up gas by who pays it."""

    def __init__(self, connection, mode, nodes):
        self.chain, self.mode = connection, mode
        self.owner = connection.account("owner")
        judge = connection.deploy("RoundJudge", sender=self.owner)
        self.board = connection.deploy("SecureRound", judge.address, sender=self.owner)
        self.deployment = judge.deployment.gas + self.board.deployment.gas
        self.members = [connection.account(f"node {i}") for i in range(nodes)]
        registered = self.board.register(terms(mode, nodes), [], [], sender=self.owner)
        self.register = registered.gas
        self.task = registered.events[0].args["task"]
        for account in self.members:
            key = keccak(account.address.encode())
            joined = self.board.join(self.task, key, 1, bytes(32), bytes(32), sender=account, value=1000)
        self.join = joined.gas

    def until(self, block):
        """Mine up to a block."""
        if block > self.chain.block_number:
            self.chain.mine(block - self.chain.block_number)

    def run(self, round):
        """Run one round; return gas of each node and of everybody else, by call."""
        board, task, owner = self.board, self.task, self.owner
        self.until(board.task_info(task)[2] + 1)
        others = {"open_round": board.open_round(task, sender=owner).gas}
        seated = [member[0] & (2**160 - 1) for member in board.roster(task, round)]
        members = sorted(self.members, key=lambda account: seated.index(int(account.address, 16)))
        own = [{} for _ in members]

        def say(call, words, **options):
            for seat, account in enumerate(members):
                options_now = {name: value[seat] for name, value in options.items()}
                method = board.method(call)
                name = "submit or commit" if call in ("submit", "commit") else call
                own[seat][name] = method(task, round, seat, *words[seat], sender=account, **options_now).gas

        def advance():
            others["advance"] = others.get("advance", 0) + board.advance(task, round, sender=owner).gas

        say("share", [[secrets.token_bytes(32) for _ in range(3)] for _ in members])
        advance()
        vectors = [[secrets.randbelow(kzg.MODULUS) for _ in range(WORDS)] for _ in members]
        total = [sum(column) % kzg.MODULUS for column in zip(*vectors, strict=True)]
        blobs = [kzg.split(words_of(vector)) for vector in vectors]
        points = [kzg.uncompress(kzg.commit(blob)) for [blob] in blobs]
        if self.mode == "direct":
            say("submit", [[vector] for vector in vectors])
        else:
            some = points if self.mode != "hash" else [b""] * len(points)
            carried = {"blobs": blobs} if self.mode == "blob" else {}
            say("commit", [[secrets.token_bytes(32), point] for point in some], **carried)
        advance()
        if self.mode == "kzg":
            self.until(board.round_info(task, round)[1] + 1)
            advance()
        say("open_shares", [[secrets.token_bytes(32)] for _ in members])
        # the plain sum is taken to be zero, so that the masked sum is the mask
        mask, hashed = keccak(words_of(total)), self.mode == "hash"
        say("attest", [[keccak(2 * mask) if hashed else mask] for _ in members])
        if self.mode == "direct":
            last = board.finish(task, round, [0] * WORDS, sender=owner)
        elif hashed:
            last = board.finish_committed(task, round, mask, mask, sender=owner)
        else:
            carried = {"blobs": kzg.split(words_of(total))}
            last = board.finish_committed(task, round, mask, bytes(32), sender=owner, **carried)
        others["finish"] = last.gas
        return own, others


def measure(mode, nodes, rounds=2):
    """Measure the first rounds of one task; return rows of the table, one a round."""
    rows = []
    with chain.connect("embedded") as connection:
        meter = Meter(connection, mode, nodes)
        for round in range(1, rounds + 1):
            own, others = meter.run(round)
            sums = sorted(sum(one.values()) for one in own)
            median = own[-1]
            rows.append(
                {
                    "mode": mode,
                    "nodes": nodes,
                    "round": round,
                    **median,
                    "a node, least": sums[0],
                    "a node, most": sums[-1],
                    "bar of a node": OWN_BAR,
                    **{f"others: {name}": gas for name, gas in others.items()},
                    "everybody else": sum(others.values()),
                    "bar of the others": OTHERS_BAR + OTHERS_PER_NODE * nodes,
                }
            )
    return rows, meter


def main():
    """Print the tables, with the machine, versions and whether each bar is met."""
    machine("py-evm", "vyper", "ckzg")
    committed = []
    for nodes in (3, 9, 27):
        rows, meter = measure("kzg", nodes)
        committed += rows
    print(table(committed, caption="commit mode (KZG): the bars"))
    extremes = [row[name] for row in committed for name in ("a node, least", "a node, most")]
    spread = max(extremes) / min(extremes) - 1
    tightest = max(committed, key=lambda row: row["everybody else"] / row["bar of the others"])
    [large], _ = measure("kzg", 100, rounds=1)
    bars(
        [
            at_most("a node, at most", max(extremes), OWN_BAR, "gas"),
            fact(
                "nodes differ, at 3, 9 and 27", f"{spread:.2%}", f"≤ {SPREAD_BAR:.0%}", spread <= SPREAD_BAR
            ),
            at_most(
                f"everybody else, {tightest['nodes']} nodes, where it is tightest",
                tightest["everybody else"],
                tightest["bar of the others"],
                "gas",
            ),
            at_most("open_round of 100 nodes", large["others: open_round"], TRANSACTION_BAR, "gas"),
        ]
    )
    others = [row for mode in ("direct", "hash", "blob") for row in measure(mode, 9)[0]]
    print(table([*others, large], caption="the other modes, and a hundred nodes"))
    print(f"once: deploy {meter.deployment:,}, register {meter.register:,}, join {meter.join:,}")


if __name__ == "__main__":
    main()
