"""The round contract: every message in every phase, accepted where it belongs and refused elsewhere."""

import secrets

import pytest
from eth_hash.auto import keccak

from twopm_kit.errors import ContractReverted
from twopm_kit.federated.contract import Phase, Terms
from twopm_kit.secagg import MODULUS

WORDS = 3
STEP = 12
ZERO = bytes(32)


def terms(**changes):
    fields = {
        "code_hash": keccak(b"code"),
        "params_hash": keccak(b"params"),
        "genesis_hash": keccak(b"genesis"),
        "dataset_id": ZERO,
        "min_rows": 10,
        "min_stake": 1000,
        "min_clients": 2,
        "max_clients": 3,
        "words": WORDS,
        "lanes": 8,
        "max_rounds": 2,
        "join_blocks": 8,
        "step_blocks": STEP,
    }
    return tuple({**fields, **changes}.values())


def digest(words):
    return keccak(b"".join(word.to_bytes(32, "big") for word in words))


class Story:
    """One task of three nodes that can be brought to any phase, with sums that are known."""

    def __init__(self, chain):
        self.chain = chain
        self.owner = chain.account("owner")
        self.nodes = [chain.account(f"node {i}") for i in range(3)]
        self.stranger = chain.account("stranger")
        self.board = chain.deploy("SecureAggregation", sender=self.owner)
        self.plain = [[i + 1, 10 * i, 7] for i in range(3)]
        self.masks = [[secrets.randbelow(MODULUS) for _ in range(WORDS)] for _ in range(3)]
        self.round = 1

    @property
    def sum(self):
        return [sum(column) % MODULUS for column in zip(*self.plain, strict=True)]

    @property
    def mask(self):
        return [sum(column) % MODULUS for column in zip(*self.masks, strict=True)]

    def vector(self, i):
        return [(x + m) % MODULUS for x, m in zip(self.plain[i], self.masks[i], strict=True)]

    # One legal step each -----------------------------------------------------------------------------

    def register(self, *, allow=(), **changes):
        self.task = (
            self.board.register(terms(**changes), list(allow), sender=self.owner).events[0].args["task"]
        )

    def join(self, node):
        return self.board.join(self.task, keccak(node.address.encode()), 10, ZERO, sender=node, value=1000)

    def until(self, block):
        missing = block - self.chain.block_number
        if missing > 0:
            self.chain.mine(missing)

    def open_round(self):
        self.until(self.board.task_info(self.task)[2] + 1)
        self.board.open_round(self.task, sender=self.stranger)
        self.round = self.board.task_info(self.task)[4]

    def share(self, node):
        return self.board.share(self.task, self.round, b"\1" * 32, b"\2" * 32, b"\3" * 32, sender=node)

    def submit(self, i):
        return self.board.submit(self.task, self.round, self.vector(i), sender=self.nodes[i])

    def open_shares(self, node):
        return self.board.open_shares(self.task, self.round, b"\4" * 32, sender=node)

    def attest(self, node):
        return self.board.attest(self.task, self.round, digest(self.mask), sender=node)

    def advance(self):
        return self.board.advance(self.task, self.round, sender=self.stranger)

    def finish(self, words=None):
        return self.board.finish(self.task, self.round, words or self.sum, sender=self.stranger)

    def status(self):
        return self.board.round_info(self.task, self.round)

    def late(self):
        self.until(self.status()[1] + 1)

    # Phases -----------------------------------------------------------------------------------------

    def to(self, phase):
        order = ["registered", "joined", "share", "submit", "open", "opened", "attested", "done"]
        if phase == "aborted":
            self.to("share")
            self.late()
            self.advance()
            return self
        if phase == "closed":
            self.to("joined")
            self.board.close(self.task, sender=self.owner)
            return self
        steps = [
            self.register,
            lambda: ([self.join(n) for n in self.nodes], self.until(self.board.task_info(self.task)[2] + 1)),
            self.open_round,
            lambda: ([self.share(n) for n in self.nodes], self.advance()),
            lambda: ([self.submit(i) for i in range(3)], self.advance()),
            lambda: [self.open_shares(n) for n in self.nodes[:2]],
            lambda: [self.attest(n) for n in self.nodes[:2]],
            self.finish,
        ]
        for step in steps[: order.index(phase) + 1]:
            step()
        return self

    def attempt(self, call):
        node, task, round = self.nodes[2], self.task, self.round
        calls = {
            "join": lambda: self.join(self.stranger),
            "open_round": lambda: self.board.open_round(task, sender=self.stranger),
            "share": lambda: self.share(node),
            "submit": lambda: self.submit(2),
            "open_shares": lambda: self.open_shares(node),
            "attest": lambda: self.attest(self.nodes[1]),
            "finish": self.finish,
            "advance": self.advance,
            "close": lambda: self.board.close(task, sender=self.owner),
            "withdraw": lambda: self.board.withdraw(task, sender=node),
            "leave": lambda: self.board.leave(task, sender=node),
            "accuse": lambda: self.board.accuse(task, self.round, node, sender=self.nodes[0]),
        }
        del round
        return calls[call]()


OK = None
NOT_CURRENT, NOT_PHASE = "not the current round", "not in this phase"
JOIN_OVER, JOIN_OPEN = "join window is over", "join window is open"
RUNNING, OPEN, OVER = "last round is still running", "phase is still open", "round is over"
NOT_ENDED = "task has not ended"

#: What each call meets in each phase: None where it is accepted, else the reason.
MATRIX = {
    "registered": {
        "join": OK, "open_round": JOIN_OPEN, "share": NOT_CURRENT, "submit": NOT_CURRENT,
        "open_shares": NOT_CURRENT, "attest": NOT_CURRENT, "finish": NOT_CURRENT, "advance": NOT_CURRENT,
        "close": OK, "withdraw": NOT_ENDED, "leave": "not a member of this task", "accuse": NOT_CURRENT,
    },
    "joined": {
        "join": JOIN_OVER, "open_round": OK, "share": NOT_CURRENT, "submit": NOT_CURRENT,
        "open_shares": NOT_CURRENT, "attest": NOT_CURRENT, "finish": NOT_CURRENT, "advance": NOT_CURRENT,
        "close": OK, "withdraw": NOT_ENDED, "leave": OK, "accuse": NOT_CURRENT,
    },
    "share": {
        "join": JOIN_OVER, "open_round": RUNNING, "share": OK, "submit": NOT_PHASE,
        "open_shares": NOT_PHASE, "attest": NOT_PHASE, "finish": NOT_PHASE, "advance": OPEN,
        "close": RUNNING, "withdraw": NOT_ENDED, "leave": RUNNING, "accuse": NOT_PHASE,
    },
    "submit": {
        "join": JOIN_OVER, "open_round": RUNNING, "share": NOT_PHASE, "submit": OK,
        "open_shares": NOT_PHASE, "attest": NOT_PHASE, "finish": NOT_PHASE, "advance": OPEN,
        "close": RUNNING, "withdraw": NOT_ENDED, "leave": RUNNING, "accuse": NOT_PHASE,
    },
    "open": {
        "join": JOIN_OVER, "open_round": RUNNING, "share": NOT_PHASE, "submit": NOT_PHASE,
        "open_shares": OK, "attest": "an earlier message is missing",
        "finish": "sum does not fit the attested mask", "advance": OPEN,
        "close": RUNNING, "withdraw": NOT_ENDED, "leave": RUNNING, "accuse": OK,
    },
    "opened": {
        "join": JOIN_OVER, "open_round": RUNNING, "share": NOT_PHASE, "submit": NOT_PHASE,
        "open_shares": OK, "attest": OK,
        "finish": "sum does not fit the attested mask", "advance": OPEN,
        "close": RUNNING, "withdraw": NOT_ENDED, "leave": RUNNING, "accuse": OK,
    },
    "attested": {
        "join": JOIN_OVER, "open_round": RUNNING, "share": NOT_PHASE, "submit": NOT_PHASE,
        "open_shares": OK, "attest": "already sent", "finish": OK, "advance": OPEN,
        "close": RUNNING, "withdraw": NOT_ENDED, "leave": RUNNING, "accuse": OK,
    },
    "done": {
        "join": JOIN_OVER, "open_round": OK, "share": NOT_PHASE, "submit": NOT_PHASE,
        "open_shares": NOT_PHASE, "attest": NOT_PHASE, "finish": NOT_PHASE, "advance": OVER,
        "close": OK, "withdraw": NOT_ENDED, "leave": OK, "accuse": NOT_PHASE,
    },
    "aborted": {
        "join": JOIN_OVER, "open_round": OK, "share": NOT_PHASE, "submit": NOT_PHASE,
        "open_shares": NOT_PHASE, "attest": NOT_PHASE, "finish": NOT_PHASE, "advance": OVER,
        "close": OK, "withdraw": NOT_ENDED, "leave": OK, "accuse": NOT_PHASE,
    },
    "closed": {
        "join": "task is closed", "open_round": "task is closed", "share": NOT_CURRENT, "submit": NOT_CURRENT,
        "open_shares": NOT_CURRENT, "attest": NOT_CURRENT, "finish": NOT_CURRENT, "advance": NOT_CURRENT,
        "close": "task is closed", "withdraw": OK, "leave": OK, "accuse": NOT_CURRENT,
    },
}  # fmt: skip


@pytest.mark.parametrize("phase", list(MATRIX))
def test_every_call_in_every_phase(chain, phase):
    story = Story(chain).to(phase)
    for call, reason in MATRIX[phase].items():
        snapshot = chain.snapshot()
        if reason is OK:
            story.attempt(call)
        else:
            with pytest.raises(ContractReverted) as refused:
                story.attempt(call)
            assert refused.value.reason == reason, (phase, call)
        snapshot.revert()


def refuses(reason, act):
    with pytest.raises(ContractReverted) as refused:
        act()
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"code_hash": ZERO}, "code hash is zero"),
        ({"params_hash": ZERO}, "parameter hash is zero"),
        ({"min_clients": 1}, "fewer than two clients hide nothing"),
        ({"min_clients": 4}, "min clients above max clients"),
        ({"max_clients": 65}, "too many clients"),
        ({"words": 0}, "vector length out of range"),
        ({"words": 521}, "vector length out of range"),
        ({"lanes": 7}, "lanes must be 8 or 4"),
        ({"max_rounds": 0}, "number of rounds out of range"),
        ({"max_rounds": 10_001}, "number of rounds out of range"),
        ({"join_blocks": 0}, "join window out of range"),
        ({"step_blocks": 0}, "step window out of range"),
        ({"step_blocks": 2**255}, "step window out of range"),
        ({"join_blocks": 2**255}, "join window out of range"),
    ],
)
def test_terms_that_cannot_work_are_refused(chain, changes, reason):
    story = Story(chain)
    refuses(reason, lambda: story.register(**changes))
    assert story.board.task_count() == 0


def test_joining_has_criteria(chain):
    story = Story(chain)
    mine = keccak(b"rows")
    story.register(dataset_id=mine, allow=[story.nodes[0].address])
    board, task, node = story.board, story.task, story.nodes[0]
    key = b"\1" * 32
    refuses("unknown task", lambda: board.join(task + 1, key, 10, mine, sender=node, value=1000))
    refuses("box key is zero", lambda: board.join(task, ZERO, 10, mine, sender=node, value=1000))
    refuses("too few rows", lambda: board.join(task, key, 9, mine, sender=node, value=1000))
    refuses("wrong data set", lambda: board.join(task, key, 10, ZERO, sender=node, value=1000))
    refuses("stake too small", lambda: board.join(task, key, 10, mine, sender=node, value=999))
    stranger = story.nodes[1]
    refuses("not on the allow list", lambda: board.join(task, key, 10, mine, sender=stranger, value=1000))
    board.join(task, key, 10, mine, sender=node, value=1000)
    refuses("already joined", lambda: board.join(task, key, 10, mine, sender=node, value=1000))


def test_the_sum_is_the_survivors_sum(chain):
    story = Story(chain).to("submit")
    story.submit(0)
    story.submit(2)
    story.late()
    story.advance()
    assert list(story.board.survivors(story.task, 1)) == [
        n.address for n in _in_order(story) if n is not story.nodes[1]
    ]
    expected = [(a + b) % MODULUS for a, b in zip(story.vector(0), story.vector(2), strict=True)]
    assert list(story.board.masked_sum(story.task)) == expected


def _in_order(story):
    by_address = {n.address: n for n in story.nodes}
    return [by_address[a] for a in story.board.members(story.task, 1)]


def test_a_late_vector_is_refused_by_the_clock_and_by_the_phase(chain):
    story = Story(chain).to("submit")
    story.submit(0)
    story.submit(1)
    story.late()
    refuses("deadline has passed", lambda: story.submit(2))
    story.advance()
    refuses("not in this phase", lambda: story.submit(2))


def test_only_members_speak_once_and_in_their_round(chain):
    story = Story(chain).to("share")
    board, task = story.board, story.task
    words = (b"\1" * 32, b"\2" * 32, b"\3" * 32)
    refuses("not a member of this round", lambda: board.share(task, 1, *words, sender=story.stranger))
    refuses("not the current round", lambda: board.share(task, 2, *words, sender=story.nodes[0]))
    refuses("not the current round", lambda: board.share(task, 0, *words, sender=story.nodes[0]))
    for i, name in enumerate(("mask key", "seed hash", "share root")):
        zeroed = [ZERO if k == i else word for k, word in enumerate(words)]
        refuses(f"{name} is zero", lambda z=zeroed: board.share(task, 1, *z, sender=story.nodes[0]))
    story.share(story.nodes[0])
    refuses("already sent", lambda: story.share(story.nodes[0]))


def test_who_did_not_share_cannot_submit(chain):
    story = Story(chain).to("share")
    story.share(story.nodes[0])
    story.share(story.nodes[1])
    story.late()
    story.advance()
    refuses("an earlier message is missing", lambda: story.submit(2))


def test_vectors_outside_the_field_or_of_another_length_are_refused(chain):
    story = Story(chain).to("submit")
    board, task, node = story.board, story.task, story.nodes[0]
    refuses("word is not in the field", lambda: board.submit(task, 1, [0, 0, MODULUS], sender=node))
    refuses("word is not in the field", lambda: board.submit(task, 1, [2**256 - 1, 0, 0], sender=node))
    refuses("wrong vector length", lambda: board.submit(task, 1, [0, 0], sender=node))
    refuses("wrong vector length", lambda: board.submit(task, 1, [0, 0, 0, 0], sender=node))


def test_a_wrong_sum_reverts(chain):
    story = Story(chain).to("attested")
    for i in range(WORDS):
        wrong = list(story.sum)
        wrong[i] += 1
        refuses("sum does not fit the attested mask", lambda w=wrong: story.finish(w))
    refuses("a lane is beyond its bound", lambda: story.finish([*story.sum[:2], 1 << 30]))
    refuses("word is not in the field", lambda: story.finish([*story.sum[:2], MODULUS]))
    refuses("wrong vector length", lambda: story.finish(story.sum[:2]))
    receipt = story.finish()
    assert list(receipt.events[0].args["words"]) == story.sum
    assert story.status()[0] == Phase.DONE
    assert story.status()[7] == digest(story.sum)


def test_a_minority_cannot_attest_another_mask(chain):
    story = Story(chain).to("opened")
    forged = [(m - 1) % MODULUS for m in story.mask]
    story.board.attest(story.task, 1, digest(forged), sender=story.nodes[0])
    refuses("sum does not fit the attested mask", lambda: story.finish([x + 1 for x in story.sum]))
    story.attest(story.nodes[1])
    refuses("sum does not fit the attested mask", story.finish)
    story.open_shares(story.nodes[2])
    story.attest(story.nodes[2])
    story.finish()


def test_attesting_waits_for_enough_open_shares(chain):
    story = Story(chain).to("open")
    story.open_shares(story.nodes[0])
    refuses("too few shares are open", lambda: story.attest(story.nodes[0]))


@pytest.mark.parametrize("phase", ["share", "submit", "open"])
def test_a_round_without_enough_voices_aborts_and_the_next_one_opens(chain, phase):
    story = Story(chain).to(phase)
    act = {"share": story.share, "submit": lambda n: story.submit(story.nodes.index(n))}.get(phase)
    if act:
        act(story.nodes[0])
    story.late()
    if phase == "open":
        refuses("phase is still open", story.advance)
        story.until(story.status()[1] + STEP + 1)
    story.advance()
    assert story.status()[0] == Phase.ABORTED
    story.open_round()
    assert story.round == 2
    assert story.status()[0] == Phase.SHARE


def test_a_second_round_starts_from_an_empty_sum(chain):
    story = Story(chain).to("done")
    story.open_round()
    assert list(story.board.masked_sum(story.task)) == []
    for node in story.nodes:
        story.share(node)
    story.advance()
    story.submit(1)
    assert list(story.board.masked_sum(story.task)) == story.vector(1)


def test_selection_takes_the_lowest_scores_in_their_order(chain):
    story = Story(chain)
    story.register(max_clients=2)
    for node in story.nodes:
        story.join(node)
    story.open_round()
    [opened] = story.board.events("RoundOpened", task=story.task)
    scores = {
        node.address: keccak(
            opened.args["beacon"]
            + story.task.to_bytes(32, "big")
            + (1).to_bytes(32, "big")
            + bytes(12)
            + bytes.fromhex(node.address[2:])
        )
        for node in story.nodes
    }
    assert list(story.board.members(story.task, 1)) == sorted(scores, key=scores.get)[:2]


def test_an_old_beacon_is_thrown_again(chain):
    story = Story(chain).to("joined")
    chain.mine(300)
    story.board.open_round(story.task, sender=story.stranger)
    assert story.board.task_info(story.task)[4] == 0
    story.board.open_round(story.task, sender=story.stranger)
    assert story.board.task_info(story.task)[4] == 1


def test_stakes_come_back_once_and_only_after_the_end(chain):
    story = Story(chain).to("done")
    node = story.nodes[0]
    refuses("task has not ended", lambda: story.board.withdraw(story.task, sender=node))
    refuses("only the owner", lambda: story.board.close(story.task, sender=story.stranger))
    story.board.close(story.task, sender=story.owner)
    before = chain.balance(story.board.address)
    story.board.withdraw(story.task, sender=node)
    assert before - chain.balance(story.board.address) == 1000
    refuses("nothing to withdraw", lambda: story.board.withdraw(story.task, sender=node))
    refuses("nothing to withdraw", lambda: story.board.withdraw(story.task, sender=story.stranger))


def test_stakes_come_back_when_too_few_joined(chain):
    story = Story(chain)
    story.register()
    story.join(story.nodes[0])
    refuses("task has not ended", lambda: story.board.withdraw(story.task, sender=story.nodes[0]))
    story.until(story.board.task_info(story.task)[2] + 1)
    refuses("too few nodes joined", lambda: story.board.open_round(story.task, sender=story.owner))
    story.board.withdraw(story.task, sender=story.nodes[0])


def test_stakes_come_back_after_the_last_round(chain):
    story = Story(chain).to("aborted")
    story.open_round()
    story.late()
    story.advance()
    refuses("all rounds have run", lambda: story.board.open_round(story.task, sender=story.owner))
    story.board.withdraw(story.task, sender=story.nodes[0])


def test_a_late_advance_cannot_overtake_a_finish(chain):
    story = Story(chain).to("attested")
    story.late()
    refuses("phase is still open", story.advance)
    story.finish()
    assert story.status()[0] == Phase.DONE


def test_whoever_leaves_takes_the_stake_and_is_not_drawn_again(chain):
    story = Story(chain).to("done")
    node = story.nodes[0]
    before = chain.balance(story.board.address)
    story.board.leave(story.task, sender=node)
    assert before - chain.balance(story.board.address) == 1000
    refuses("already left", lambda: story.board.leave(story.task, sender=node))
    refuses("not a member of this task", lambda: story.board.leave(story.task, sender=story.stranger))
    story.open_round()
    assert set(story.board.members(story.task, 2)) == {n.address for n in story.nodes[1:]}
    for other in story.nodes[1:]:
        refuses("last round is still running", lambda n=other: story.board.leave(story.task, sender=n))


def test_a_threshold_of_survivors_expels_a_dealer(chain):
    story = Story(chain).to("open")
    board, task, bad = story.board, story.task, story.nodes[2]
    refuses("not a survivor of this round", lambda: board.accuse(task, 1, bad, sender=story.stranger))
    refuses("it has dealt no shares", lambda: board.accuse(task, 1, story.stranger, sender=story.nodes[0]))
    refuses("not the current round", lambda: board.accuse(task, 2, bad, sender=story.nodes[0]))
    board.accuse(task, 1, bad, sender=story.nodes[0])
    refuses("already sent", lambda: board.accuse(task, 1, bad, sender=story.nodes[0]))
    assert len(board.joined(task)) == 3
    assert board.events("Expelled", task=task) == []
    board.accuse(task, 1, bad, sender=story.nodes[1])
    assert [event.args["dealer"] for event in board.events("Expelled", task=task)] == [bad.address]
    board.accuse(task, 1, bad, sender=bad)
    assert len(board.events("Expelled", task=task)) == 1
    story.until(story.status()[1] + STEP + 1)
    story.advance()
    story.open_round()
    assert set(board.members(task, 2)) == {n.address for n in story.nodes[:2]}
    story.late()
    story.advance()
    before = chain.balance(board.address)
    board.withdraw(task, sender=bad)
    assert before - chain.balance(board.address) == 1000


def test_terms_mirror_the_struct_of_the_contract(chain):
    story = Story(chain)
    [entry] = [e for e in story.board.abi if e.get("name") == "register"]
    assert [c["name"] for c in entry["inputs"][0]["components"]] == list(Terms.__dataclass_fields__)
