"""The round contract: every message in every phase, accepted where it belongs and refused elsewhere."""

import secrets

import pytest
from eth_hash.auto import keccak

from twopm_kit import kzg
from twopm_kit.errors import ContractReverted

DIRECT, KZG, HASH, BLOB = range(4)
IDLE, SHARE, SUBMIT, CHALLENGE, OPEN, DONE, ABORTED = range(7)
DROPPED, CONVICTED, CHALLENGED, ANSWERED, REPORTED, CLAIMED = (1 << bit for bit in range(6))
R = kzg.MODULUS
WORDS, STEP, STAKE, POT, PENALTY = 3, 12, 1000, 600, 100
ZERO, ROOT = bytes(32), b"\7" * 32
BURNED = "0x" + "0" * 40

PLAIN = [[i + 1, 10 * i, 7] for i in range(3)]
MASKS = [[secrets.randbelow(R) for _ in range(WORDS)] for _ in range(3)]
VECTORS = [[(x + m) % R for x, m in zip(*pair, strict=True)] for pair in zip(PLAIN, MASKS, strict=True)]


def terms(**changes):
    fields = {
        "code_hash": keccak(b"code"),
        "params_hash": keccak(b"params"),
        "genesis_hash": keccak(b"genesis"),
        "dataset_id": ZERO,
        "min_rows": 10,
        "min_stake": STAKE,
        "min_clients": 2,
        "max_clients": 3,
        "words": WORDS,
        "lanes": 8,
        "mode": DIRECT,
        "sealed": False,
        "groups": 1,
        "degree": 0,
        "share_threshold": 0,
        "max_rounds": 2,
        "join_blocks": 9,
        "step_blocks": STEP,
        "silence_penalty": PENALTY,
        "owner_key": ZERO,
    }
    return tuple({**fields, **changes}.values())


def words_of(vector):
    return b"".join(word.to_bytes(32, "big") for word in vector)


def digest(vector):
    return keccak(words_of(vector))


def blob(vector):
    [one] = kzg.split(words_of(vector))
    return one


def point(vector):
    return kzg.uncompress(kzg.commit(blob(vector)))


def added(vectors):
    return [sum(column) % R for column in zip(*vectors, strict=True)]


class Story:
    """One task of a few nodes that can be brought to any phase, with sums that are known."""

    def __init__(self, chain, board, accounts, mode=DIRECT, **changes):
        self.chain, self.board, self.mode, self.changes = chain, board, mode, changes
        self.owner, self.stranger, *self.nodes = accounts
        self.nodes = self.nodes[:3]
        self.vectors = VECTORS
        self.round = 1

    @property
    def sum(self):
        return added(PLAIN)

    @property
    def mask(self):
        return digest(added(MASKS))

    def data(self, i):
        """What seat i commits to."""
        return (ROOT, b"" if self.mode == HASH else point(self.vectors[i]))

    # One legal step each -----------------------------------------------------------------------------

    def register(self, *, allow=(), verifiers=(), value=POT, **changes):
        wanted = terms(mode=self.mode, **{**self.changes, **changes})
        receipt = self.board.register(wanted, list(allow), list(verifiers), sender=self.owner, value=value)
        self.task = receipt.events[0].args["task"]

    def join(self, node):
        key = keccak(node.address.encode())
        return self.board.join(self.task, key, 10, ZERO, ZERO, sender=node, value=STAKE)

    def until(self, block):
        missing = block - self.chain.block_number
        if missing > 0:
            self.chain.mine(missing)

    def open_round(self):
        self.until(self.board.task_info(self.task)[2] + 1)
        self.board.open_round(self.task, sender=self.stranger)
        self.round = self.board.task_info(self.task)[4]
        seated = [member[0] & (2**160 - 1) for member in self.roster()]
        self.nodes = sorted(
            self.nodes,
            key=lambda n: seated.index(int(n.address, 16)) if int(n.address, 16) in seated else len(seated),
        )

    def say(self, call, seat, *words, **options):
        method = self.board.method(call)
        return method(self.task, self.round, seat, *words, sender=self.nodes[seat], **options)

    def share(self, seat):
        return self.say("share", seat, b"\1" * 32, b"\2" * 32, b"\3" * 32)

    def submit(self, seat):
        return self.say("submit", seat, self.vectors[seat])

    def commit(self, seat):
        blobs = {"blobs": [blob(self.vectors[seat])]} if self.mode == BLOB else {}
        return self.say("commit", seat, *self.data(seat), **blobs)

    def send(self, seat):
        return self.submit(seat) if self.mode == DIRECT else self.commit(seat)

    def challenge(self, seat, sender=None):
        return self.board.challenge(
            self.task, self.round, seat, *self.data(seat), sender=sender or self.owner
        )

    def answer(self, seat):
        return self.say("answer", seat, *self.data(seat), blobs=[blob(self.vectors[seat])])

    def open_shares(self, seat):
        return self.say("open_shares", seat, b"\4" * 32)

    def attest(self, seat):
        mask = self.mask
        if self.mode == HASH:
            mask = keccak(mask + digest(added(self.vectors)))
        return self.say("attest", seat, mask)

    def advance(self):
        return self.board.advance(self.task, self.round, sender=self.stranger)

    def finish(self, words=None):
        return self.board.finish(self.task, self.round, words or self.sum, sender=self.stranger)

    def finish_committed(self, mask=None, total=None, blobs=None):
        if blobs is None:
            blobs = [blob(added(self.vectors))] if self.mode in (KZG, BLOB) else []
        carried = {"blobs": blobs} if blobs else {}
        wanted = digest(added(self.vectors)) if self.mode == HASH else ZERO
        arguments = (self.task, self.round, mask or self.mask, wanted if total is None else total)
        return self.board.finish_committed(*arguments, sender=self.stranger, **carried)

    def end(self):
        return self.finish() if self.mode == DIRECT else self.finish_committed()

    def status(self):
        return self.board.round_info(self.task, self.round)

    @property
    def phase(self):
        return self.status()[0]

    def roster(self):
        return self.board.roster(self.task, self.round)

    def step(self, seat):
        return (self.roster()[seat][0] >> 160) & 255

    def flags(self, seat):
        return self.roster()[seat][0] >> 168

    def stake(self, node):
        return self.board.membership(self.task, node)[4]

    def late(self):
        self.until(self.status()[1] + 1)

    # Phases -----------------------------------------------------------------------------------------

    def to(self, phase):
        order = ["registered", "joined", "share", "submit"]
        order += ["challenge", "challenged", "answered"] if self.mode == KZG else []
        order += ["open", "opened", "attested", "done"]
        if phase == "aborted":
            self.to("share")
            self.late()
            self.advance()
            return self
        if phase == "closed":
            self.to("joined")
            self.board.close(self.task, sender=self.owner)
            return self
        deadline = lambda: self.until(self.board.task_info(self.task)[2] + 1)  # noqa: E731
        steps = {
            "registered": self.register,
            "joined": lambda: ([self.join(node) for node in self.nodes], deadline()),
            "share": self.open_round,
            "submit": lambda: ([self.share(seat) for seat in range(3)], self.advance()),
            "challenge": lambda: ([self.send(seat) for seat in range(3)], self.advance()),
            "challenged": lambda: self.challenge(2),
            "answered": lambda: self.answer(2),
            "open": lambda: (self.late(), self.advance()),
            "opened": lambda: [self.open_shares(seat) for seat in range(2)],
            "attested": lambda: [self.attest(seat) for seat in range(2)],
            "done": self.end,
        }
        if self.mode != KZG:
            steps["open"] = steps["challenge"]
        for name in order[: order.index(phase) + 1]:
            steps[name]()
        return self

    def attempt(self, call):
        task, round, node = self.task, self.round, self.nodes[2]
        board, stranger = self.board, self.stranger
        calls = {
            "join": lambda: self.join(stranger),
            "open_round": lambda: board.open_round(task, sender=stranger),
            "challenge": lambda: self.challenge(2),
            "answer": lambda: self.answer(2),
            "attest": lambda: self.attest(1),
            "accuse": lambda: self.say("accuse", 0, 2),
            "publish": lambda: self.say("publish", 2, b"a message"),
            "finish": self.finish,
            "post_sum": lambda: board.post_sum(
                task, round, 0, sender=stranger, blobs=[blob(added(self.vectors))]
            ),
            "finish_committed": self.finish_committed,
            "advance": self.advance,
            "convict": lambda: board.convict(task, round, 2, 9, 0, b"", sender=stranger),
            "report_silence": lambda: board.report_silence(task, round, 2, sender=stranger),
            "claim": lambda: self.say("claim", 0),
            "close": lambda: board.close(task, sender=self.owner),
            "withdraw": lambda: board.withdraw(task, sender=node),
            "leave": lambda: board.leave(task, sender=node),
        }
        return calls[call]() if call in calls else getattr(self, call)(2)


@pytest.fixture(scope="module")
def bench(kept_chain):
    """The two contracts and seven accounts, once for the module."""
    accounts = [kept_chain.account(name) for name in ("owner", "stranger", *"abcde")]
    judge = kept_chain.deploy("RoundJudge", sender=accounts[0])
    return kept_chain, kept_chain.deploy("SecureRound", judge.address, sender=accounts[0]), accounts


@pytest.fixture
def tell(bench):
    """Begin a story on a chain that is put back afterwards."""
    snapshot = bench[0].snapshot()
    yield lambda mode=DIRECT, **changes: Story(*bench, mode, **changes)
    snapshot.revert()


def refuses(reason, act):
    with pytest.raises(ContractReverted) as refused:
        act()
    assert refused.value.reason == reason


# Every call in every phase ------------------------------------------------------------------------------

NONE, NOW = "not the current round", "not in this phase"
OK, MODE, RUNS, ENDED = None, "not in this mode", "last round is still running", "task has not ended"
LATE, MISSING, SENT = "join window is over", "an earlier message is missing", "already sent"
MASK, STILL, OVER = "sum does not fit the attested mask", "phase is still open", "round is over"
FREE, PROOF, NOTHING = "not a member of this task", "unknown fault", "nothing is missing"

#: Before the first round: nothing of a round is accepted.
BEFORE = {
    **dict.fromkeys(
        ("share", "submit", "commit", "challenge", "answer", "open_shares", "attest", "accuse", "publish",
         "finish", "post_sum", "finish_committed", "advance", "claim"),
        NONE,
    ),
    "convict": "no such seat", "report_silence": "no such seat", "withdraw": ENDED,
}  # fmt: skip
#: While a round runs: what belongs to another phase or another time is refused.
RUNNING = {
    **dict.fromkeys(
        ("share", "submit", "commit", "challenge", "answer", "open_shares", "attest", "accuse", "finish",
         "post_sum", "finish_committed", "convict", "claim"),
        NOW,
    ),
    "join": LATE, "open_round": RUNS, "publish": OK, "advance": STILL, "report_silence": NOTHING,
    "close": RUNS, "withdraw": ENDED, "leave": RUNS,
}  # fmt: skip
AFTER = {**RUNNING, "open_round": OK, "publish": OVER, "advance": OVER, "close": OK, "leave": OK}

#: What each call meets in each phase: None where it is accepted, else the reason.
BOTH = {
    "registered": {**BEFORE, "join": OK, "open_round": "join window is open", "close": OK, "leave": FREE},
    "joined": {**BEFORE, "join": LATE, "open_round": OK, "close": OK, "leave": OK},
    "share": {**RUNNING, "share": OK},
    "aborted": {**AFTER, "report_silence": NOTHING},
    "closed": {
        **BEFORE, "join": "task is closed", "open_round": "task is closed", "close": "task is closed",
        "withdraw": OK, "leave": OK,
    },
}  # fmt: skip
CLAIMS = {**AFTER, "convict": PROOF, "claim": OK}
DIRECTLY = {
    **BOTH,
    "submit": {**RUNNING, "submit": OK, "commit": MODE},
    "open": {
        **RUNNING, "convict": PROOF, "open_shares": OK, "attest": MISSING, "accuse": OK, "finish": MASK,
        "post_sum": "the sum has no such blob", "finish_committed": MODE,
    },
    "opened": {
        **RUNNING, "convict": PROOF, "open_shares": OK, "attest": OK, "accuse": OK, "finish": MASK,
        "post_sum": "the sum has no such blob", "finish_committed": MODE,
    },
    "attested": {
        **RUNNING, "convict": PROOF, "open_shares": OK, "attest": SENT, "accuse": OK, "finish": OK,
        "post_sum": "the sum has no such blob", "finish_committed": MODE,
    },
    "done": CLAIMS,
}  # fmt: skip
COMMITTED = {
    **BOTH,
    "submit": {**RUNNING, "submit": MODE, "commit": OK},
    "challenge": {**RUNNING, "challenge": OK, "answer": "nobody has asked"},
    "challenged": {**RUNNING, "challenge": "already challenged", "answer": OK},
    "answered": {**RUNNING, "challenge": "already challenged", "answer": "nobody has asked"},
    "open": {
        **RUNNING, "convict": PROOF, "open_shares": OK, "attest": MISSING, "accuse": OK, "finish": MODE,
        "post_sum": OK, "finish_committed": MASK,
    },
    "opened": {
        **RUNNING, "convict": PROOF, "open_shares": OK, "attest": OK, "accuse": OK, "finish": MODE,
        "post_sum": OK, "finish_committed": MASK,
    },
    "attested": {
        **RUNNING, "convict": PROOF, "open_shares": OK, "attest": SENT, "accuse": OK, "finish": MODE,
        "post_sum": OK, "finish_committed": OK,
    },
    "done": CLAIMS,
}  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "phase"),
    [(DIRECT, phase) for phase in DIRECTLY] + [(KZG, phase) for phase in COMMITTED if phase not in BOTH],
)
def test_every_call_in_every_phase(tell, mode, phase):
    story = tell(mode).to(phase)
    expected = (DIRECTLY if mode == DIRECT else COMMITTED)[phase]
    wrong = {}
    for call, reason in expected.items():
        snapshot = story.chain.snapshot()
        try:
            story.attempt(call)
            met = OK
        except ContractReverted as refused:
            met = refused.reason
        snapshot.revert()
        if met != reason:
            wrong[call] = (met, "instead of", reason)
    assert not wrong


def test_the_table_names_every_call(bench):
    _, board, _ = bench
    changing = {
        entry["name"]
        for entry in board.abi
        if entry["type"] == "function" and entry["stateMutability"] not in ("view", "pure")
    }
    for table in (DIRECTLY, COMMITTED):
        for phase, calls in table.items():
            assert set(calls) == changing - {"register"}, phase


# Joining and drawing ------------------------------------------------------------------------------------


def test_joining_has_criteria(tell):
    story = tell()
    mine = keccak(b"rows")
    story.register(dataset_id=mine, allow=[story.nodes[0].address])
    board, task, (node, other, _) = story.board, story.task, story.nodes
    key = b"\1" * 32

    def join(task=task, key=key, rows=10, dataset=mine, sender=node, value=STAKE):
        return board.join(task, key, rows, dataset, b"\5" * 32, sender=sender, value=value)

    refuses("unknown task", lambda: join(task=task + 1))
    refuses("a key or hash is zero", lambda: join(key=ZERO))
    refuses("too few rows", lambda: join(rows=9))
    refuses("wrong data set", lambda: join(dataset=ZERO))
    refuses("stake too small", lambda: join(value=STAKE - 1))
    refuses("not on the allow list", lambda: join(sender=other))
    join()
    refuses("already joined", join)
    assert list(board.membership(task, node)) == [True, key, 10, mine, STAKE, b"\5" * 32, 0]


def test_terms_that_cannot_work_are_refused(tell):
    story = tell()
    before = story.board.task_count()
    refuses("code hash is zero", lambda: story.register(code_hash=ZERO))
    refuses("only a sealed task has verifiers", lambda: story.register(verifiers=[(BURNED, ROOT)]))
    assert story.board.task_count() == before


def test_selection_takes_the_lowest_scores_in_their_order(tell):
    story = tell()
    story.register(max_clients=2)
    for node in story.nodes:
        story.join(node)
    story.open_round()
    [opened] = story.board.events("RoundOpened", task=story.task)

    def score(address):
        words = opened.args["beacon"] + story.task.to_bytes(32, "big") + (1).to_bytes(32, "big")
        return keccak(words + bytes(12) + bytes.fromhex(address[2:]))

    drawn = sorted((node.address for node in story.nodes), key=score)[:2]
    assert list(opened.args["members"]) == drawn
    assert [member[0] & (2**160 - 1) for member in story.roster()] == [int(a, 16) for a in drawn]
    assert [member[1] for member in story.roster()] == [keccak(a.encode()) for a in drawn]
    assert list(story.status())[2:4] == [2, 2]


def test_an_old_beacon_is_thrown_again(tell):
    story = tell().to("joined")
    story.chain.mine(300)
    story.board.open_round(story.task, sender=story.stranger)
    assert story.board.task_info(story.task)[4] == 0
    story.board.open_round(story.task, sender=story.stranger)
    assert story.board.task_info(story.task)[4] == 1


# Speaking -----------------------------------------------------------------------------------------------

SPEECHES = {
    "share": ("share", DIRECT, lambda _: (b"\1" * 32, b"\2" * 32, b"\3" * 32)),
    "submit": ("submit", DIRECT, lambda _: (VECTORS[2],)),
    "commit": ("submit", KZG, lambda s: s.data(2)),
    "answer": ("challenged", KZG, lambda s: s.data(2)),
    "open_shares": ("open", DIRECT, lambda _: (b"\4" * 32,)),
    "attest": ("opened", DIRECT, lambda s: (s.mask,)),
    "accuse": ("open", DIRECT, lambda _: (0,)),
    "publish": ("share", DIRECT, lambda _: (b"a message",)),
    "claim": ("done", DIRECT, lambda _: ()),
}


@pytest.mark.parametrize("call", list(SPEECHES))
def test_only_the_account_of_a_seat_speaks_for_it_and_in_its_round(tell, call):
    phase, mode, words = SPEECHES[call]
    story = tell(mode).to(phase)
    board, task, node = story.board, story.task, story.nodes[2]

    def say(task=task, round=1, seat=2, sender=node):
        options = {"blobs": [blob(VECTORS[2])]} if call == "answer" else {}
        return board.method(call)(task, round, seat, *words(story), sender=sender, **options)

    refuses("not your seat", lambda: say(sender=story.stranger))
    refuses("not your seat", lambda: say(sender=story.nodes[0]))
    refuses("not your seat", lambda: say(seat=1))
    refuses("not your seat", lambda: say(seat=3))
    refuses("number out of range", lambda: say(seat=2**64 + 2))
    for other in ({"round": 0}, {"round": 2}, {"task": task + 1}):
        refuses(NONE, lambda other=other: say(**other))
    refuses("number out of range", lambda: say(task=task + 2**64))
    refuses("number out of range", lambda: say(round=2**64 + 1))


@pytest.mark.parametrize(
    ("mode", "phase", "call"),
    [
        (DIRECT, "share", "share"),
        (DIRECT, "submit", "submit"),
        (KZG, "submit", "commit"),
        (DIRECT, "open", "open_shares"),
        (DIRECT, "opened", "attest"),
    ],
)
def test_a_message_is_heard_once_and_not_after_its_deadline(tell, mode, phase, call):
    story = tell(mode).to(phase)
    act = getattr(story, call)
    act(0)
    refuses(SENT, lambda: act(0))
    act(1)
    story.late()
    refuses("deadline has passed", lambda: act(2))
    if phase in ("share", "submit"):
        story.advance()
        refuses(NOW, lambda: act(2))


def test_zero_is_no_key_and_no_hash(tell):
    story = tell(KZG).to("share")
    for at in range(3):
        words = [ZERO if i == at else b"\1" * 32 for i in range(3)]
        refuses("a key or hash is zero", lambda words=words: story.say("share", 0, *words))
    for seat in range(3):
        story.share(seat)
    story.advance()
    refuses("a key or hash is zero", lambda: story.say("commit", 0, ZERO, story.data(0)[1]))
    for seat in range(3):
        story.commit(seat)
    story.advance()
    story.late()
    story.advance()
    refuses("a key or hash is zero", lambda: story.say("open_shares", 0, ZERO))
    for seat in range(2):
        story.open_shares(seat)
    refuses("a key or hash is zero", lambda: story.say("attest", 0, ZERO))


def test_who_did_not_share_cannot_submit(tell):
    story = tell().to("share")
    story.share(0)
    story.share(1)
    story.late()
    story.advance()
    refuses(MISSING, lambda: story.submit(2))


def test_a_withheld_message_can_be_put_on_chain(tell):
    story = tell().to("share")
    data = secrets.token_bytes(16_384)
    [event] = story.say("publish", 1, data).events
    assert event.name == "Published"
    assert (event.args["node"], event.args["data"]) == (story.nodes[1].address, data)
    with pytest.raises(ContractReverted):
        story.say("publish", 1, data + b"!")


def test_events_carry_what_the_words_on_chain_hash(tell):
    story = tell(KZG).to("attested")
    roster, events = story.roster(), story.board.events
    for event in events("Shared", task=story.task):
        said = b"".join(event.args[name] for name in ("mask_key", "seed_hash", "share_root"))
        assert keccak(said) == roster[event.args["seat"]][2]
    for event in events("Submitted", task=story.task):
        said = event.args["data_root"] + event.args["commitments"]
        assert keccak(said) == roster[event.args["seat"]][3]
    assert [event.args["open_root"] for event in events("Opened", task=story.task)] == [b"\4" * 32] * 2
    assert [member[4] for member in roster] == [b"\4" * 32] * 2 + [ZERO]
    assert [event.args["digest"] for event in events("Attested", task=story.task)] == [story.mask] * 2
    assert story.board.attestations(story.task, 1, story.mask) == 2
    assert story.board.attestations(story.task, 1, ZERO) == 0
    assert [story.step(seat) for seat in range(3)] == [5, 5, 3]


# DIRECT -------------------------------------------------------------------------------------------------


def test_the_sum_is_the_survivors_sum(tell):
    story = tell().to("submit")
    story.submit(0)
    story.submit(2)
    story.late()
    story.advance()
    assert [story.step(seat) for seat in range(3)] == [3, 2, 3]
    assert list(story.board.masked_sum(story.task)) == added([VECTORS[0], VECTORS[2]])


def test_vectors_outside_the_field_or_of_another_length_are_refused(tell):
    story = tell().to("submit")
    for bad in ([0, 0, R], [2**256 - 1, 0, 0]):
        refuses("word is not in the field", lambda bad=bad: story.say("submit", 0, bad))
    for bad in ([], [0, 0], [0, 0, 0, 0], [0] * 520):
        refuses("wrong vector length", lambda bad=bad: story.say("submit", 0, bad))
    with pytest.raises(ContractReverted):
        story.say("submit", 0, [0] * 521)


def test_a_wrong_sum_reverts(tell):
    story = tell().to("attested")
    for i in range(WORDS):
        wrong = list(story.sum)
        wrong[i] += 1
        refuses(MASK, lambda wrong=wrong: story.finish(wrong))
    refuses("a lane is beyond its bound", lambda: story.finish([*story.sum[:2], 1 << 30]))
    refuses("word is not in the field", lambda: story.finish([*story.sum[:2], R]))
    refuses("word is not in the field", lambda: story.finish([*story.sum[:2], 2**256 - 1]))
    refuses("wrong vector length", lambda: story.finish(story.sum[:2]))
    [event] = story.finish().events
    assert event.name == "Finished"
    assert list(event.args["words"]) == story.sum
    assert event.args["mask_digest"] == story.mask
    assert event.args["sum_digest"] == digest(story.sum) == story.status()[7]
    assert story.phase == DONE


def test_the_guard_bits_follow_the_lanes(tell):
    story = tell(lanes=4).to("attested")
    refuses("a lane is beyond its bound", lambda: story.finish([1 << 62, *story.sum[1:]]))
    refuses(MASK, lambda: story.finish([1 << 30, *story.sum[1:]]))


def test_a_minority_cannot_attest_another_mask(tell):
    story = tell().to("opened")
    forged = [(m - 1) % R for m in added(MASKS)]
    story.say("attest", 0, digest(forged))
    refuses(MASK, lambda: story.finish([x + 1 for x in story.sum]))
    story.attest(1)
    refuses(MASK, story.finish)
    story.open_shares(2)
    story.attest(2)
    story.finish()


def test_attesting_waits_for_enough_open_shares(tell):
    story = tell().to("open")
    story.open_shares(0)
    refuses("too few shares are open", lambda: story.attest(0))


# KZG ----------------------------------------------------------------------------------------------------


def total(*seats):
    return kzg.add(*(point(VECTORS[seat]) for seat in seats))


def test_commitments_add_up_like_vectors_do(tell):
    story = tell(KZG).to("submit")
    board, task = story.board, story.task
    assert list(board.sum_commitments(task)) == [kzg.INFINITY]
    for seat in range(3):
        story.commit(seat)
        assert list(board.sum_commitments(task)) == [total(*range(seat + 1))]
    assert list(board.sum_commitments(task)) == [point(added(VECTORS))]


@pytest.mark.parametrize(
    "bad",
    [
        b"\1" * 128,
        (1).to_bytes(64, "big") + (1).to_bytes(64, "big"),
        b"\1" + kzg.GENERATOR[1:],
        kzg.GENERATOR[:64] + (int.from_bytes(kzg.GENERATOR[64:], "big") + kzg._P).to_bytes(64, "big"),
    ],
    ids=["bytes", "not on the curve", "padding", "not canonical"],
)
def test_what_is_no_point_is_refused(tell, bad):
    story = tell(KZG).to("submit")
    refuses("point is not on the curve", lambda: story.say("commit", 0, ROOT, bad))


def test_the_number_of_commitments_is_fixed(tell):
    story = tell(KZG).to("submit")
    for bad in (b"", kzg.GENERATOR[:-1], 2 * kzg.GENERATOR):
        refuses("wrong number of commitments", lambda bad=bad: story.say("commit", 0, ROOT, bad))
    with pytest.raises(ContractReverted):
        story.say("commit", 0, ROOT, 13 * kzg.GENERATOR)


@pytest.mark.parametrize(
    "vector",
    [[0, 0, 0], [1, 1, 1], [R - 1] * 3],
    ids=["infinity", "small", "negative"],
)
def test_special_points_can_be_committed_to(tell, vector):
    story = tell(KZG)
    story.vectors = [vector, VECTORS[1], [(-a - b) % R for a, b in zip(vector, VECTORS[1], strict=True)]]
    story.to("challenge")
    # the three add up to nothing at all, and the blob of zeros fits
    assert list(story.board.sum_commitments(story.task)) == [kzg.INFINITY]
    story.late()
    story.advance()
    for seat in range(2):
        story.open_shares(seat)
    for seat in range(2):
        story.attest(seat)
    story.finish_committed()


def test_a_vector_that_is_kept_back_is_a_drop_out_for_everybody(tell):
    story = tell(KZG).to("challenged")
    board, task = story.board, story.task
    assert (story.step(2), story.flags(2)) == (2, DROPPED | CHALLENGED)
    assert list(board.sum_commitments(task)) == [total(0, 1)]
    refuses(STILL, story.advance)
    story.late()
    refuses("deadline has passed", lambda: story.answer(2))
    story.advance()
    refuses(NOW, lambda: story.answer(2))
    assert (story.step(2), story.flags(2)) == (2, DROPPED | CHALLENGED)
    assert story.status()[5] == 2
    refuses(MISSING, lambda: story.open_shares(2))
    mask = digest(added(MASKS[:2]))
    for seat in range(2):
        story.open_shares(seat)
    for seat in range(2):
        story.say("attest", seat, mask)
    refuses("blob does not fit", lambda: story.finish_committed(mask))
    story.finish_committed(mask, blobs=[blob(added(VECTORS[:2]))])
    story.board.report_silence(task, 1, 2, sender=story.stranger)
    assert [event.args["fault"] for event in board.events("Convicted", task=task)] == [4]


def test_an_answer_puts_the_vector_back(tell):
    story = tell(KZG).to("challenged")
    board, task, data = story.board, story.task, story.data(2)
    refuses("blob does not fit", lambda: story.say("answer", 2, *data, blobs=[blob(VECTORS[1])]))
    refuses("blob does not fit", lambda: story.say("answer", 2, *data))
    others = story.data(1)
    refuses("not what was committed", lambda: story.say("answer", 2, *others, blobs=[blob(VECTORS[1])]))
    refuses("not what was committed", lambda: story.say("answer", 2, b"\1" * 32, data[1]))
    story.answer(2)
    assert (story.step(2), story.flags(2)) == (3, ANSWERED)
    assert list(board.sum_commitments(task)) == [total(0, 1, 2)]
    refuses("nobody has asked", lambda: story.answer(2))
    refuses("already challenged", lambda: story.challenge(2))
    story.late()
    story.advance()
    assert story.status()[5] == 3


def test_challenges_have_one_window_and_answers_one_more(tell):
    story = tell(KZG).to("challenge")
    deadline = story.status()[1]
    refuses(FREE, lambda: story.challenge(2, sender=story.stranger))
    wrong = (story.task, 1, 2, *story.data(1))
    refuses("not what was committed", lambda: story.board.challenge(*wrong, sender=story.owner))
    refuses("it has committed to nothing", lambda: story.board.challenge(
        story.task, 1, 3, *story.data(2), sender=story.owner
    ))  # fmt: skip
    story.until(deadline - 2)
    story.challenge(2, sender=story.nodes[0])
    assert story.status()[1] == deadline + STEP
    story.challenge(1, sender=story.nodes[0])
    assert story.status()[1] == deadline + STEP
    refuses("deadline has passed", lambda: story.challenge(0))
    story.until(deadline + STEP - 1)
    story.answer(2)
    refuses("deadline has passed", lambda: story.answer(1))
    story.advance()
    assert story.phase == OPEN
    assert list(story.board.sum_commitments(story.task)) == [total(0, 2)]


def test_challenges_without_a_deadline_to_answer_in_cannot_be_made(tell):
    story = tell(KZG).to("challenge")
    story.late()
    refuses("deadline has passed", lambda: story.challenge(2))


def test_too_many_withheld_vectors_abort_the_round(tell):
    story = tell(KZG).to("challenge")
    story.challenge(1)
    story.challenge(2)
    story.late()
    story.advance()
    assert story.phase == ABORTED


def test_the_sum_must_be_the_blob_of_the_commitments(tell):
    story = tell(KZG).to("attested")
    good = blob(added(VECTORS))
    refuses("blob does not fit", lambda: story.finish_committed(blobs=[blob(VECTORS[0])]))
    refuses("a blob of the sum is missing", lambda: story.finish_committed(blobs=[]))
    refuses("the sum has no such blob", lambda: story.finish_committed(blobs=[good, good]))
    refuses(MASK, lambda: story.finish_committed(mask=b"\1" * 32))
    refuses("only hash mode takes a sum digest", lambda: story.finish_committed(total=b"\1" * 32))
    refuses("the sum has no such blob", lambda: story.board.post_sum(
        story.task, 1, 1, sender=story.stranger, blobs=[good]
    ))  # fmt: skip
    with pytest.raises(ContractReverted):
        story.board.post_sum(story.task, 1, 2**256 - 1, sender=story.stranger, blobs=[good])
    snapshot = story.chain.snapshot()
    [event] = story.finish_committed().events
    assert list(event.args["words"]) == []
    assert event.args["survivors"] == 3
    assert event.args["mask_digest"] == story.mask
    assert event.args["sum_digest"] == keccak(ZERO + total(0, 1, 2))
    assert story.status()[7] == keccak(story.mask + event.args["sum_digest"])
    snapshot.revert()
    story.attempt("post_sum")
    story.finish_committed(blobs=[])
    assert story.phase == DONE


def test_a_second_round_starts_from_an_empty_sum(tell):
    for mode in (DIRECT, KZG):
        story = tell(mode).to("done")
        story.open_round()
        assert list(story.board.masked_sum(story.task)) == []
        assert list(story.board.sum_commitments(story.task)) == []
        for seat in range(3):
            story.share(seat)
        story.advance()
        story.send(1)
        if mode == DIRECT:
            assert list(story.board.masked_sum(story.task)) == VECTORS[1]
        else:
            assert list(story.board.sum_commitments(story.task)) == [total(1)]


def test_vectors_of_more_blobs_than_a_transaction_carries(tell):
    story = tell(KZG, words=6 * 4096 + 1, max_clients=2)
    story.nodes = story.nodes[:2]
    parts = [[blob([seat + 1, part % 2]) for part in range(7)] for seat in range(2)]
    points = [b"".join(kzg.uncompress(kzg.commit(part)) for part in one) for one in parts]
    story.register()
    for node in story.nodes:
        story.join(node)
    story.open_round()
    for seat in range(2):
        story.share(seat)
    story.advance()
    for seat in range(2):
        story.say("commit", seat, ROOT, points[seat])
    story.advance()
    story.board.challenge(story.task, 1, 1, ROOT, points[1], sender=story.owner)
    # one after the other, and only what is missing
    refuses("blob does not fit", lambda: story.say("answer", 1, ROOT, points[1], blobs=parts[1][1:]))
    story.say("answer", 1, ROOT, points[1], blobs=parts[1][:6])
    assert story.flags(1) == DROPPED | CHALLENGED
    refuses("blob does not fit", lambda: story.say("answer", 1, ROOT, points[1], blobs=parts[1][1:2]))
    story.say("answer", 1, ROOT, points[1], blobs=parts[1][6:])
    assert story.flags(1) == ANSWERED
    story.late()
    story.advance()
    for seat in range(2):
        story.open_shares(seat)
    for seat in range(2):
        story.attest(seat)
    sums = [blob([3, 2 * (part % 2)]) for part in range(7)]
    refuses("a blob of the sum is missing", lambda: story.finish_committed(blobs=sums[:6]))
    story.board.post_sum(story.task, 1, 6, sender=story.stranger, blobs=sums[6:])
    assert story.status()[13] == 1 << 6
    story.finish_committed(blobs=sums[:6])
    assert story.phase == DONE


# HASH and BLOB ------------------------------------------------------------------------------------------


def test_hash_mode_takes_the_digest_that_a_quorum_attested_to(tell):
    story = tell(HASH)
    story.to("submit")
    refuses("wrong number of commitments", lambda: story.say("commit", 0, ROOT, kzg.GENERATOR))
    refuses(MODE, lambda: story.submit(0))
    for seat in range(3):
        story.commit(seat)
    story.advance()
    assert story.phase == OPEN
    for seat in range(2):
        story.open_shares(seat)
    for seat in range(2):
        story.attest(seat)
    refuses(MASK, lambda: story.finish_committed(total=b"\1" * 32))
    refuses(MASK, lambda: story.finish_committed(mask=b"\1" * 32))
    refuses(MODE, story.finish)
    [event] = story.finish_committed().events
    assert event.args["sum_digest"] == digest(added(VECTORS))
    assert story.status()[7] == keccak(story.mask + digest(added(VECTORS)))


def test_blob_mode_sees_the_vectors(tell):
    story = tell(BLOB).to("submit")
    data = story.data(0)
    refuses("blob does not fit", lambda: story.say("commit", 0, *data, blobs=[blob(VECTORS[1])]))
    refuses("blob does not fit", lambda: story.say("commit", 0, *data))
    for seat in range(3):
        story.commit(seat)
    story.advance()
    assert story.phase == OPEN
    for seat in range(2):
        story.open_shares(seat)
    for seat in range(2):
        story.attest(seat)
    refuses("blob does not fit", lambda: story.finish_committed(blobs=[blob(VECTORS[1])]))
    story.finish_committed()
    assert story.phase == DONE


# Groups and neighbours ----------------------------------------------------------------------------------


def grouped(bench, tell, mode):
    story = tell(mode, groups=2, max_clients=5, min_clients=2)
    story.nodes = bench[2][2:7]
    story.vectors = [*VECTORS, [5, 6, 7], [8, 9, R - 1]]
    story.register()
    for node in story.nodes:
        story.join(node)
    story.open_round()
    for seat in range(5):
        story.share(seat)
    story.advance()
    return story


def test_groups_have_sums_of_their_own(bench, tell):
    story = grouped(bench, tell, DIRECT)
    for seat in (4, 1, 0, 2, 3):
        story.submit(seat)
    story.advance()
    sums = [added(story.vectors[group::2]) for group in range(2)]
    assert list(story.board.masked_sum(story.task)) == sums[0] + sums[1]
    for seat in range(3):
        story.open_shares(seat)
    masked = [*sums[0], *sums[1]]
    plain = [1, 2, 3, 4, 5, 6]
    for seat in range(3):
        story.say("attest", seat, digest([(y - x) % R for x, y in zip(plain, masked, strict=True)]))
    refuses("wrong vector length", lambda: story.finish(plain[:3]))
    story.finish(plain)


def test_groups_have_commitments_of_their_own(bench, tell):
    story = grouped(bench, tell, KZG)
    for seat in range(5):
        story.commit(seat)
    story.advance()
    sums = [added(story.vectors[group::2]) for group in range(2)]
    assert list(story.board.sum_commitments(story.task)) == [point(one) for one in sums]
    story.challenge(3)
    assert list(story.board.sum_commitments(story.task)) == [point(sums[0]), point(story.vectors[1])]
    story.answer(3)
    story.late()
    story.advance()
    for seat in range(3):
        story.open_shares(seat)
    for seat in range(3):
        story.attest(seat)
    refuses("a blob of the sum is missing", lambda: story.finish_committed(blobs=[blob(sums[0])]))
    refuses("blob does not fit", lambda: story.finish_committed(blobs=[blob(one) for one in sums[::-1]]))
    story.finish_committed(blobs=[blob(one) for one in sums])


def test_a_group_of_one_survivor_ends_the_round(bench, tell):
    story = grouped(bench, tell, DIRECT)
    for seat in (0, 1, 2):
        story.submit(seat)
    story.late()
    story.advance()
    assert story.phase == ABORTED


def test_an_empty_group_does_not_end_the_round(bench, tell):
    story = grouped(bench, tell, DIRECT)
    for seat in (0, 2, 4):
        story.submit(seat)
    story.late()
    story.advance()
    assert story.phase == OPEN
    expected = added([story.vectors[seat] for seat in (0, 2, 4)])
    assert list(story.board.masked_sum(story.task)) == [*expected, 0, 0, 0]


def test_a_large_round_has_a_ring_of_neighbours(bench, tell):
    story = tell()
    board = story.board
    story.nodes = [story.chain.account(f"account {i}") for i in range(51)]
    story.register(max_clients=51, degree=4, share_threshold=3, join_blocks=60, step_blocks=120)
    for node in story.nodes:
        story.join(node)
    story.open_round()
    assert list(story.status())[2:4] == [26, 51]
    assert list(story.status())[9:11] == [4, 3]
    story.vectors = [VECTORS[0]] * 51
    for seat in range(51):
        story.share(seat)
    story.advance()
    # seat 0 has the neighbours 49, 50, 1 and 2, and three of them come
    for seat in range(2, 51):
        story.submit(seat)
    story.late()
    story.advance()
    assert story.phase == OPEN
    refuses("not a neighbour", lambda: story.say("accuse", 3, 0))
    refuses("not a survivor of this round", lambda: story.say("accuse", 1, 0))
    for seat in (49, 50):
        story.say("accuse", seat, 0)
    assert board.events("Expelled", task=story.task) == []
    story.say("accuse", 2, 0)
    [expelled] = board.events("Expelled", task=story.task)
    assert expelled.args["dealer"] == story.nodes[0].address


def test_a_dealer_with_too_few_neighbours_left_ends_the_round(bench):
    _, board, _ = bench
    judge = board.chain.at("RoundJudge", board.judge())
    shared, submitted = 2 << 160, 3 << 160
    seats = [shared, shared, *[submitted] * 6]
    assert judge.can_open(seats, 1, 4, 3)  # seat 0: 6, 7 and 2
    assert not judge.can_open(seats, 1, 4, 4)
    assert judge.can_open(seats, 1, 7, 6)
    assert not judge.can_open([shared, submitted, shared, submitted, submitted], 2, 4, 3)


# Sealed -------------------------------------------------------------------------------------------------


def sealed(bench, tell, mode):
    story = tell(mode, sealed=True, owner_key=b"\6" * 32)
    story.judges = [*bench[2][5:7], bench[2][1]]
    verifiers = [(account.address, b"\5" * 32) for account in story.judges]
    register = story.register
    story.register = lambda: register(verifiers=verifiers)
    story.to("opened")
    assert [tuple(one) for one in story.board.verifiers(story.task)] == verifiers
    return story


@pytest.mark.parametrize("mode", [DIRECT, KZG, HASH])
def test_verifiers_attest_to_what_is_sealed(bench, tell, mode):
    story = sealed(bench, tell, mode)
    board, task = story.board, story.task
    said = story.mask if mode != HASH else keccak(story.mask + digest(added(VECTORS)))
    refuses("not a verifier", lambda: story.attest(0))
    refuses("not a verifier", lambda: board.attest(task, 1, 1, said, sender=story.judges[0]))
    refuses("not a verifier", lambda: board.attest(task, 1, 3, said, sender=story.judges[0]))
    board.attest(task, 1, 0, said, sender=story.judges[0])
    refuses(SENT, lambda: board.attest(task, 1, 0, said, sender=story.judges[0]))
    refuses(MASK, story.finish_committed)
    board.attest(task, 1, 2, b"\1" * 32, sender=story.judges[2])
    refuses(MASK, story.finish_committed)
    board.attest(task, 1, 1, said, sender=story.judges[1])
    refuses(MODE, story.finish)
    [event] = story.finish_committed().events
    assert list(event.args["words"]) == []
    if mode == DIRECT:
        assert event.args["sum_digest"] == digest(added(VECTORS))
    assert story.phase == DONE


def test_verifiers_have_the_open_phase(bench, tell):
    story = sealed(bench, tell, DIRECT)
    story.late()
    refuses("deadline has passed", lambda: story.board.attest(
        story.task, 1, 0, story.mask, sender=story.judges[0]
    ))  # fmt: skip


# The clock ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "phase"), [(DIRECT, "share"), (DIRECT, "submit"), (KZG, "submit"), (DIRECT, "open")]
)
def test_a_round_without_enough_voices_aborts_and_the_next_one_opens(tell, mode, phase):
    story = tell(mode).to(phase)
    act = {"share": story.share, "submit": story.send}.get(phase)
    if act:
        act(0)
    story.late()
    if phase == "open":
        refuses(STILL, story.advance)
        story.until(story.status()[1] + STEP + 1)
    story.advance()
    assert story.phase == ABORTED
    refuses(OVER, story.advance)
    story.open_round()
    assert story.round == 2
    assert story.phase == SHARE


def test_min_clients_may_ask_for_more_than_the_quorum(tell):
    story = tell(min_clients=3).to("submit")
    story.submit(0)
    story.submit(1)
    story.late()
    story.advance()
    assert story.phase == ABORTED


def test_a_late_advance_cannot_overtake_a_finish(tell):
    for mode in (DIRECT, KZG):
        story = tell(mode).to("attested")
        story.late()
        refuses(STILL, story.advance)
        story.end()
        assert story.phase == DONE


# Coins --------------------------------------------------------------------------------------------------


def gain(story, account, act):
    """What an account has more after a call that somebody else pays for."""
    before = story.chain.balance(account)
    act()
    return story.chain.balance(account) - before


def paid(story, act):
    """What the contract has less after a call."""
    return -gain(story, story.board.address, act)


def test_stakes_come_back_once_and_only_after_the_last_window(tell):
    story = tell(max_rounds=1).to("done")
    board, task, node = story.board, story.task, story.nodes[0]
    refuses("faults can still be proved", lambda: board.withdraw(task, sender=node))
    story.until(board.task_info(task)[3] + STEP + 1)
    assert paid(story, lambda: board.withdraw(task, sender=node)) == STAKE
    refuses("nothing to withdraw", lambda: board.withdraw(task, sender=node))
    refuses("nothing to withdraw", lambda: board.withdraw(task, sender=story.stranger))


def test_only_the_owner_closes_and_only_between_rounds(tell):
    story = tell().to("done")
    board, task = story.board, story.task
    refuses("only the owner", lambda: board.close(task, sender=story.stranger))
    refuses("unknown task", lambda: board.close(task + 1, sender=story.owner))
    board.close(task, sender=story.owner)
    refuses("task is closed", lambda: board.open_round(task, sender=story.stranger))
    story.until(board.task_info(task)[3] + STEP + 1)
    assert paid(story, lambda: board.withdraw(task, sender=story.nodes[1])) == STAKE


def test_stakes_come_back_when_too_few_joined(tell):
    story = tell()
    story.register()
    story.join(story.nodes[0])
    board, task = story.board, story.task
    refuses(ENDED, lambda: board.withdraw(task, sender=story.nodes[0]))
    story.until(board.task_info(task)[2] + 1)
    refuses("too few nodes joined", lambda: board.open_round(task, sender=story.owner))
    assert paid(story, lambda: board.withdraw(task, sender=story.nodes[0])) == STAKE
    assert paid(story, lambda: board.withdraw(task, sender=story.owner)) == POT


def test_all_rounds_have_run(tell):
    story = tell().to("aborted")
    story.open_round()
    story.late()
    story.advance()
    refuses("all rounds have run", lambda: story.board.open_round(story.task, sender=story.owner))


def test_whoever_leaves_is_not_drawn_again_and_is_paid_after_the_window(tell):
    story = tell().to("done")
    board, task, node = story.board, story.task, story.nodes[0]
    board.leave(task, sender=node)
    refuses("already left", lambda: board.leave(task, sender=node))
    refuses(FREE, lambda: board.leave(task, sender=story.stranger))
    refuses("faults can still be proved", lambda: board.withdraw(task, sender=node))
    end, left = board.task_info(task)[3], story.nodes[1:]
    story.open_round()
    assert {member[0] & (2**160 - 1) for member in story.roster()} == {int(n.address, 16) for n in left}
    refuses(RUNS, lambda: board.leave(task, sender=left[0]))
    # the next round does not hold it back
    story.until(end + STEP + 1)
    assert paid(story, lambda: board.withdraw(task, sender=node)) == STAKE
    refuses("nothing to withdraw", lambda: board.withdraw(task, sender=node))


def test_rewards_go_to_those_who_opened(tell):
    story = tell().to("attested")
    board, task = story.board, story.task
    story.end()
    assert list(board.task_info(task))[6:8] == [POT // 2, POT // 2]
    for seat in range(2):
        assert paid(story, lambda seat=seat: story.say("claim", seat)) == POT // 4
        assert story.flags(seat) == CLAIMED
        refuses("nothing to withdraw", lambda seat=seat: story.say("claim", seat))
    refuses("it has opened no shares", lambda: story.say("claim", 2))
    refuses(ENDED, lambda: board.withdraw(task, sender=story.owner))
    board.close(task, sender=story.owner)
    story.until(board.task_info(task)[3] + STEP + 1)
    assert paid(story, lambda: board.withdraw(task, sender=story.owner)) == POT // 2


def test_a_task_without_a_pot_pays_nothing(tell):
    story = tell()
    register = story.register
    story.register = lambda: register(value=0)
    story.to("done")
    refuses("nothing to withdraw", lambda: story.say("claim", 0))


def test_who_has_not_shared_may_stay_out(tell):
    story = tell(DIRECT).to("share")
    story.share(0)
    story.share(1)
    story.late()
    story.advance()
    story.late()
    refuses(NOTHING, lambda: story.board.report_silence(story.task, 1, 2, sender=story.stranger))


@pytest.mark.parametrize(("mode", "phase"), [(KZG, "submit"), (DIRECT, "open")])
def test_silence_has_a_price(tell, mode, phase):
    story = tell(mode).to(phase)
    board, task = story.board, story.task
    act = {"submit": story.send, "open": story.open_shares}[phase]
    act(0)
    act(1)

    def report(seat=2):
        return board.report_silence(task, 1, seat, sender=story.stranger)

    refuses(NOTHING, report)
    story.late()
    refuses(NOTHING, lambda: report(0))
    refuses("no such seat", lambda: report(3))
    refuses("no such seat", lambda: board.report_silence(task, 2, 0, sender=story.stranger))
    snapshot = story.chain.snapshot()
    # the next phase, or the end, changes nothing about it
    story.until(story.status()[1] + STEP + 1)
    story.advance()
    refuses(NOTHING, lambda: report(0))
    report()
    snapshot.revert()
    burned = story.chain.balance(BURNED)
    assert paid(story, report) == PENALTY
    # local chains pay tips, whole gwei, to the same address
    assert (story.chain.balance(BURNED) - burned) % 10**9 == PENALTY // 2
    assert story.stake(story.nodes[2]) == STAKE - PENALTY
    assert story.flags(2) == REPORTED
    refuses("already reported", report)
    [event] = board.events("Convicted", task=task)
    assert list(event.args.values())[2:] == [story.nodes[2].address, 2, 5, PENALTY]


def test_no_more_is_taken_than_there_is(tell):
    story = tell(silence_penalty=10 * STAKE).to("open")
    story.late()
    assert paid(story, lambda: story.attempt("report_silence")) == STAKE
    assert story.stake(story.nodes[2]) == 0


def test_who_was_not_waited_for_was_not_silent(tell):
    story = tell().to("done")
    assert story.step(2) == 3
    story.late()
    refuses(NOTHING, lambda: story.attempt("report_silence"))


def test_a_threshold_of_neighbours_expels_a_dealer(tell):
    story = tell().to("open")
    board, task, bad = story.board, story.task, story.nodes[2]
    refuses("it has dealt no shares", lambda: story.say("accuse", 0, 3))
    story.say("accuse", 0, 2)
    refuses(SENT, lambda: story.say("accuse", 0, 2))
    assert board.events("Expelled", task=task) == []
    story.say("accuse", 1, 2)
    assert [event.args["dealer"] for event in board.events("Expelled", task=task)] == [bad.address]
    story.say("accuse", 2, 2)
    assert len(board.events("Expelled", task=task)) == 1
    story.until(story.status()[1] + STEP + 1)
    story.advance()
    # an expelled node may go, with its stake, however long the task lives
    board.leave(task, sender=bad)
    refuses("already left", lambda: board.leave(task, sender=bad))
    story.open_round()
    assert {member[0] & (2**160 - 1) for member in story.roster()} == {
        int(node.address, 16) for node in story.nodes if node is not bad
    }
    assert story.stake(bad) == STAKE
