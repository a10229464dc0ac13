"""The judge of the round contract: every fault is proved by its evidence, and no honest party ever."""

import secrets

import pytest
from eth_abi import abi as codec
from eth_hash.auto import keccak
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twopm_kit import kzg
from twopm_kit.errors import ContractReverted
from twopm_kit.federated import faults
from twopm_kit.secagg import (
    Graph,
    OpenedShare,
    OpeningMessage,
    Roster,
    RoundContext,
    ShareKind,
    ShareMessage,
    VectorMessage,
    from_words,
)
from twopm_kit.secagg.commitments import seed_hash, share_leaf, survivors_digest
from twopm_kit.secagg.messages import BOX_BYTES
from twopm_kit.secagg.shares import PRIME, split

R = kzg.MODULUS
SHARED, SUBMITTED = 2, 3
TASK, ROUND = 5, 2
SEED, KEY = ShareKind.SELF_SEED, ShareKind.MASK_KEY
#: Numbers at which arithmetic modulo 2^256 + 297 could slip.
EDGES = [0, 1, 296, 297, 298, 2**255, 2**256 - 298, 2**256 - 1, 2**256, 2**256 + 1, PRIME - 2, PRIME - 1]


def refuses(reason, act):
    with pytest.raises(ContractReverted) as refused:
        act()
    assert refused.value.reason == reason


@pytest.fixture(scope="module")
def judge(kept_chain):
    """The judge, and the account that stands for the contract that asks it."""
    account = kept_chain.account("board")
    return kept_chain.deploy("RoundJudge", sender=account), account


def member(seat):
    return keccak(b"member" + bytes([seat]))[:20]


def polynomial(values):
    """The polynomial, as a function, through the points of a dict."""
    return lambda x: faults._interpolate(values, x)


class Court:
    """A round of n members that deal, open and commit as a test wants them to, and its judge."""

    def __init__(self, judge, n=5, degree=None, threshold=None, dropped=(), words=40):
        self.judge, self.board = judge
        self.context = RoundContext(self.judge.chain.chain_id, self.board.address, TASK, ROUND)
        self.binding = self.context.binding
        degree = degree or n - 1
        graph = Graph(n, degree, threshold or n // 2 + 1)
        self.roster = Roster(tuple(member(seat) for seat in range(n)), graph)
        self.threshold, self.dropped, self.words = graph.threshold, dropped, words
        self.living = {member(seat) for seat in range(n) if seat not in dropped}
        self.survivors = survivors_digest(self.binding, self.roster.bitmap(self.living))

    def seats(self):
        steps = [SHARED if seat in self.dropped else SUBMITTED for seat in range(len(self.roster.members))]
        return [
            int.from_bytes(who, "big") | step << 160
            for who, step in zip(self.roster.members, steps, strict=True)
        ]

    def deal(self, seat, seed_shares, key_shares, seed):
        """Write a share message with any shares; values or 33 bytes."""
        dealer = self.roster.members[seat]
        receivers = self.roster.receivers(dealer)
        self.salts = {(who, kind): secrets.token_bytes(32) for who in receivers for kind in ShareKind}
        self.shares = {}
        for kind, shares in ((SEED, seed_shares), (KEY, key_shares)):
            for who in receivers:
                share = shares[who]
                self.shares[who, kind] = share if isinstance(share, bytes) else share.to_bytes(33, "big")
        leaves = [
            share_leaf(self.binding, dealer, who, kind, self.salts[who, kind], self.shares[who, kind])
            for who in receivers
            for kind in ShareKind
        ]
        boxes = (bytes(BOX_BYTES),) * (len(receivers) - 1)
        hashed = seed_hash(self.binding, dealer, seed)
        key = secrets.token_bytes(32)
        return ShareMessage(self.binding, dealer, key, hashed, receivers, tuple(leaves), boxes)

    def honest(self, seat, seed=None):
        seed = seed or secrets.token_bytes(32)
        receivers = self.roster.receivers(self.roster.members[seat])
        first, second = (split(s, receivers, self.threshold) for s in (seed, secrets.token_bytes(32)))
        return self.deal(seat, first, second, seed)

    def kind(self, dealer):
        return SEED if dealer in self.living else KEY

    def entry(self, message, opener, kind=None):
        kind = self.kind(message.dealer) if kind is None else kind
        return OpenedShare(message.dealer, kind, self.salts[opener, kind], self.shares[opener, kind])

    def opening(self, opener, *entries):
        return OpeningMessage(self.binding, opener, self.survivors, entries)

    def openings(self, message, count=None):
        openers = [who for who in message.receivers if who in self.living][:count]
        return [self.opening(who, self.entry(message, who)) for who in openers]

    def judged(self, evidence, digest, fact=bytes(32), **changes):
        """Ask the judge; the commitments, or an error with the reason."""
        graph = self.roster.graph
        case = {
            "task": TASK,
            "round": ROUND,
            "fault": int(evidence.fault),
            "seat": evidence.seat,
            "other": evidence.other,
            "degree": graph.degree,
            "share_threshold": graph.threshold,
            "words": self.words,
            "share_digest": digest,
            "fact": fact,
            "seats": self.seats(),
        }
        data = changes.pop("data", evidence.data)
        sender = changes.pop("sender", self.board)
        return self.judge.judge(tuple({**case, **changes}.values()), data, sender=sender)

    def bad_dealer(self, message, count=None):
        return faults.bad_dealer(message, self.openings(message, count), self.roster, self.living)

    def forced(self, message, openers):
        """Evidence against a dealer whom nothing can be proved against."""
        shares = {who: self.entry(message, who) for who in openers}
        return faults._dealer_evidence(message, shares, self.roster)


# Bad dealer ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SEED, KEY])
@pytest.mark.parametrize("off", [0, 2, 4])
@pytest.mark.parametrize("by", [1, 2**256 + 296, 2**200])
def test_shares_off_the_polynomial_convict_their_dealer(judge, kind, off, by):
    court = Court(judge, dropped=() if kind is SEED else (1,))
    receivers, seed = court.roster.receivers(member(1)), secrets.token_bytes(32)
    shares = [
        {who: int.from_bytes(share, "big") for who, share in split(seed, receivers, 3).items()}
        for _ in ShareKind
    ]
    target = [who for who in receivers if who in court.living][min(off, len(court.living) - 1)]
    shares[kind][target] = (shares[kind][target] + by) % PRIME
    message = court.deal(1, *shares, seed)
    evidence = court.bad_dealer(message)
    assert (evidence.seat, evidence.fault) == (1, faults.Fault.BAD_DEALER)
    assert court.judged(evidence, message.announcement.digest) == b""


def test_a_seed_that_is_not_the_announced_one_convicts(judge):
    court = Court(judge)
    receivers = court.roster.receivers(member(0))
    other, key = (split(secrets.token_bytes(32), receivers, 3) for _ in range(2))
    message = court.deal(0, other, key, secrets.token_bytes(32))
    evidence = court.bad_dealer(message, 3)
    assert court.judged(evidence, message.announcement.digest) == b""


@pytest.mark.parametrize("secret", [2**256, PRIME - 1, 2**256 + 100])
def test_a_seed_that_is_longer_than_a_seed_convicts(judge, secret):
    court = Court(judge)
    receivers = court.roster.receivers(member(0))
    points = {0: secret, 1: secrets.randbelow(PRIME), 2: secrets.randbelow(PRIME)}
    shares = {who: polynomial(points)(int.from_bytes(who, "big")) for who in receivers}
    # not even the hash of its lowest 32 bytes helps the dealer
    message = court.deal(0, shares, shares, (secret % 2**256).to_bytes(32, "big"))
    evidence = court.bad_dealer(message)
    assert court.judged(evidence, message.announcement.digest) == b""


@pytest.mark.parametrize("share", [PRIME, 2**257, 2**264 - 1])
def test_a_leaf_that_is_no_share_convicts(judge, share):
    court = Court(judge)
    receivers = court.roster.receivers(member(0))
    shares = split(bytes(32), receivers, 3)
    key = dict(shares)
    shares[receivers[3]] = share.to_bytes(33, "big")
    message = court.deal(0, shares, key, bytes(32))
    opened = (receivers[3], SEED, court.salts[receivers[3], SEED], shares[receivers[3]])
    evidence = faults.no_share(message, *opened, court.roster)
    assert court.judged(evidence, message.announcement.digest) == b""
    good = (receivers[2], SEED, court.salts[receivers[2], SEED], shares[receivers[2]])
    assert faults.no_share(message, *good, court.roster) is None
    assert faults.no_share(message, *opened[:2], bytes(32), opened[3], court.roster) is None
    honest = court.forced(message, [receivers[2]])
    refuses("the share is a number of the field", lambda: court.judged(honest, message.announcement.digest))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_an_honest_dealer_is_never_convicted_and_one_slip_always(judge, data):
    court = Court(judge)
    receivers = court.roster.receivers(member(2))
    value = st.sampled_from(EDGES) | st.integers(0, PRIME - 1)
    secret = data.draw(st.sampled_from([e for e in EDGES if e < 2**256]) | st.integers(0, 2**256 - 1))
    at = data.draw(st.permutations(receivers))
    # a polynomial of degree two through the secret and two chosen shares
    points = {0: secret, **{int.from_bytes(who, "big"): data.draw(value) for who in at[:2]}}
    shares = {who: polynomial(points)(int.from_bytes(who, "big")) for who in receivers}
    message = court.deal(2, shares, shares, secret.to_bytes(32, "big"))
    digest = message.announcement.digest
    assert court.bad_dealer(message) is None
    refuses("the shares lie on one polynomial", lambda: court.judged(court.forced(message, at[:4]), digest))
    refuses("the shares lead to the seed", lambda: court.judged(court.forced(message, at[:3]), digest))

    slip = data.draw(value.filter(lambda v: v != shares[at[0]]))
    message = court.deal(2, {**shares, at[0]: slip}, shares, secret.to_bytes(32, "big"))
    assert court.judged(court.bad_dealer(message), message.announcement.digest) == b""
    assert court.judged(court.forced(message, at[:4]), message.announcement.digest) == b""
    assert court.judged(court.forced(message, at[:3]), message.announcement.digest) == b""


def test_evidence_against_a_dealer_is_bound_to_everything(judge):
    court = Court(judge, n=6, dropped=(5,))
    receivers = court.roster.receivers(member(0))
    shares = split(bytes(32), receivers, 4)
    bad = {**shares, receivers[1]: (int.from_bytes(shares[receivers[1]], "big") ^ 1).to_bytes(33, "big")}
    message = court.deal(0, bad, shares, bytes(32))
    digest = message.announcement.digest
    evidence = court.bad_dealer(message)
    assert court.judged(evidence, digest) == b""
    [decoded] = codec.decode([faults._DEALER], evidence.data)

    def altered(leaf=None, **changes):
        head, leaves = list(decoded[:3]), [list(one) for one in decoded[3]]
        for at, value in changes.items():
            head[int(at[1:])] = value
        if leaf:
            leaf(leaves)
        return codec.encode([faults._DEALER], [(*head, leaves)])

    def twice(leaves):
        leaves[1] = leaves[0]

    def inverse(leaves):
        leaves[0][4] = (not leaves[0][4][0], leaves[0][4][1])

    def longer(leaves):
        leaves[0][5] = (*leaves[0][5], bytes(32))

    def shorter(leaves):
        leaves[0][5] = leaves[0][5][:-1]

    def salted(leaves):
        leaves[0][1] = bytes(32)

    def swapped(leaves):
        leaves[0][0], leaves[1][0] = leaves[1][0], leaves[0][0]

    def strange(leaves):
        leaves[0][0] = 6

    def fewer(leaves):
        del leaves[3:]

    reasons = {
        "wrong inverse": [altered(inverse), altered(twice)],
        "not under the root": [altered(leaf) for leaf in (longer, shorter, salted, swapped)],
        "no such seat": [altered(strange)],
        "wrong number of shares": [altered(fewer), altered(lambda leaves: leaves.clear())],
        "not what was committed": [altered(_0=bytes(32)), altered(_1=bytes(32)), altered(_2=bytes(32))],
    }
    for reason, variants in reasons.items():
        for data in variants:
            refuses(reason, lambda data=data: court.judged(evidence, digest, data=data))
    for changes in ({"task": 6}, {"round": 1}, {"seat": 1}, {"sender": member(9)}):
        refuses("not under the root", lambda changes=changes: court.judged(evidence, digest, **changes))
    refuses("no such seat", lambda: court.judged(evidence, digest, seat=6))
    refuses("unknown fault", lambda: court.judged(evidence, digest, fault=4))
    refuses("not what was committed", lambda: court.judged(evidence, bytes(32)))
    with pytest.raises(ContractReverted):
        court.judged(evidence, digest, data=b"")
    with pytest.raises(ContractReverted):
        court.judged(evidence, digest, data=evidence.data[:-32])


def test_only_the_kind_that_the_list_asks_for_is_evidence(judge):
    court = Court(judge)
    receivers = court.roster.receivers(member(0))
    wrong = {who: 10 * i for i, who in enumerate(receivers)}
    message = court.deal(0, wrong, wrong, bytes(32))
    digest = message.announcement.digest
    for kind, dropped in ((SEED, (0,)), (KEY, ())):
        court.dropped = dropped
        shares = {who: court.entry(message, who, kind) for who in receivers[1:5]}
        evidence = faults._dealer_evidence(message, shares, court.roster)
        refuses("not under the root", lambda evidence=evidence: court.judged(evidence, digest))
    court.dropped = (0,)
    court.living.discard(member(0))
    honest = court.honest(0)
    refuses(
        "only a seed has a hash",
        lambda: court.judged(court.forced(honest, receivers[1:4]), honest.announcement.digest),
    )
    selected = [seat - (seat >> 160 << 160) | 1 << 160 for seat in court.seats()]
    refuses("it has dealt no shares", lambda: court.judged(evidence, digest, seats=selected))


def test_neighbours_of_a_ring_have_their_own_places(judge):
    court = Court(judge, n=60, degree=6, threshold=3)
    for dealer in (0, 2, 30, 58):
        message = court.honest(dealer)
        digest = message.announcement.digest
        for first in range(4):
            evidence = court.forced(message, message.receivers[first : first + 4])
            refuses(
                "the shares lie on one polynomial",
                lambda evidence=evidence, digest=digest: court.judged(evidence, digest),
            )
        evidence = court.forced(message, message.receivers[:4])
        [decoded] = codec.decode([faults._DEALER], evidence.data)
        leaves = [list(one) for one in decoded[3]]
        leaves[2][0] = (dealer + 4) % 60
        data = codec.encode([faults._DEALER], [(*decoded[:3], leaves)])
        refuses(
            "not a neighbour",
            lambda evidence=evidence, digest=digest, data=data: court.judged(evidence, digest, data=data),
        )


def test_the_largest_evidence_fits(judge):
    court = Court(judge, n=128)
    receivers = court.roster.receivers(member(7))
    shares = split(bytes(32), receivers, 65)
    bad = {**shares, receivers[1]: bytes(33)}
    message = court.deal(7, bad, shares, bytes(32))
    evidence = court.bad_dealer(message)
    assert court.judged(evidence, message.announcement.digest) == b""


def test_messages_that_prove_nothing_give_no_evidence(judge):
    court = Court(judge)
    message = court.honest(0)
    assert court.bad_dealer(message) is None
    assert court.bad_dealer(message, 2) is None
    # shares that the dealer did not deal, or of the kind that must stay closed, say nothing about it
    stranger = OpenedShare(member(0), SEED, bytes(32), bytes(33))
    closed = court.entry(message, member(2), KEY)
    forged = [court.opening(member(1), stranger), court.opening(member(2), closed)]
    assert faults.bad_dealer(message, court.openings(message, 2) + forged, court.roster, court.living) is None
    court.dropped, court.living = (0,), court.living - {member(0)}
    assert court.bad_dealer(court.honest(0)) is None


# Bad opener ---------------------------------------------------------------------------------------------


def found(court, opening, message):
    evidence = faults.bad_opener(opening, message, court.roster, court.living)
    return evidence, (message.announcement.digest, opening.root)


@pytest.mark.parametrize("dropped", [(), (1,)])
def test_an_opener_of_another_share_is_convicted(judge, dropped):
    court = Court(judge, dropped=dropped)
    other = court.entry(court.honest(3), member(2))
    message = court.honest(1)
    good = court.entry(message, member(2))
    for bad in (
        OpenedShare(member(1), good.kind, good.salt, bytes(33)),
        OpenedShare(member(1), good.kind, bytes(32), good.share),
    ):
        evidence, facts = found(court, court.opening(member(2), other, bad), message)
        assert (evidence.seat, evidence.other) == (2, 1)
        assert court.judged(evidence, *facts) == b""
    evidence, facts = found(court, court.opening(member(2), other, good), message)
    assert evidence is None


@pytest.mark.parametrize("dropped", [(), (1,)])
def test_an_opener_of_the_other_kind_is_convicted(judge, dropped):
    court = Court(judge, dropped=dropped)
    message = court.honest(1)
    closed = court.entry(message, member(2), KEY if not dropped else SEED)
    evidence, facts = found(court, court.opening(member(2), closed), message)
    assert court.judged(evidence, *facts) == b""
    # under the other list it would have been the right one
    court.dropped = (1,) if not dropped else ()
    refuses("not under the root", lambda: court.judged(evidence, *facts))


def test_an_honest_opener_is_never_convicted(judge):
    court = Court(judge, n=60, degree=6, threshold=3, dropped=(4,))
    for dealer, opener in ((0, 0), (0, 59), (4, 2), (58, 1), (30, 33)):
        message = court.honest(dealer)
        entry = court.entry(message, member(opener))
        opening = court.opening(member(opener), entry)
        assert found(court, opening, message)[0] is None
        dealt = (*faults._announced(message), message.leaf(member(opener), entry.kind))
        path = message.proof(member(opener), entry.kind)
        words = (int(entry.kind), entry.salt, *faults._share_words(entry.share))
        data = codec.encode([faults._OPENER], [(*words, 1, 0, [], *dealt, path)])
        evidence = faults.Evidence(opener, faults.Fault.BAD_OPENER, dealer, data)
        refuses(
            "the share is the one that was dealt",
            lambda evidence=evidence, message=message, opening=opening: court.judged(
                evidence, message.announcement.digest, opening.root
            ),
        )


def test_evidence_against_an_opener_is_bound_to_everything(judge):
    court = Court(judge)
    message, others = court.honest(1), court.honest(3)
    good = court.entry(others, member(2))
    message = court.honest(1)
    bad = OpenedShare(member(1), SEED, bytes(32), bytes(33))
    evidence, facts = found(court, court.opening(member(2), good, bad), message)
    assert court.judged(evidence, *facts) == b""
    [decoded] = codec.decode([faults._OPENER], evidence.data)

    def altered(**changes):
        fields = list(decoded)
        for at, value in changes.items():
            fields[int(at[1:])] = value
        return codec.encode([faults._OPENER], [tuple(fields)])

    reasons = {
        "not under the root": [
            altered(_1=b"\1" * 32), altered(_2=1), altered(_3=1), altered(_4=3), altered(_5=0),
            altered(_6=[]), altered(_10=bytes(32)), altered(_11=decoded[11][:-1]), altered(_0=1),
        ],
        "no such leaf": [altered(_5=2), altered(_4=0), altered(_4=5000)],
        "not what was committed": [altered(_7=bytes(32)), altered(_8=bytes(32)), altered(_9=bytes(32))],
    }  # fmt: skip
    for reason, variants in reasons.items():
        for data in variants:
            refuses(reason, lambda data=data: court.judged(evidence, *facts, data=data))
    with pytest.raises(ContractReverted):
        court.judged(evidence, *facts, data=altered(_0=256))
    refuses("not under the root", lambda: court.judged(evidence, *facts, seat=0))
    refuses("not under the root", lambda: court.judged(evidence, *facts, other=3))
    refuses("no such seat", lambda: court.judged(evidence, *facts, other=5))
    refuses("not under the root", lambda: court.judged(evidence, *facts, round=1))
    refuses("not under the root", lambda: court.judged(evidence, facts[0], bytes(32)))
    absent = court.opening(member(2), good)
    assert found(court, absent, message)[0] is None


# Wrong commitment ---------------------------------------------------------------------------------------


def vector(court, words, seat=1):
    elements = [secrets.randbelow(R) for _ in range(words)]
    return VectorMessage.of(court.context, member(seat), from_words(elements))


def changed(blob, index, value):
    return blob[: 32 * index] + value.to_bytes(32, "big") + blob[32 * index + 32 :]


@pytest.mark.parametrize(("words", "element"), [(40, 0), (40, 39), (40, 63), (40, 64), (5000, 4097)])
def test_a_commitment_to_another_vector_is_proved_by_one_element(judge, words, element):
    court = Court(judge, words=words)
    message = vector(court, words)
    blobs = list(message.blobs)
    blobs[element // 4096] = changed(blobs[element // 4096], element % 4096, 12345)
    points = b"".join(kzg.uncompress(kzg.commit(blob)) for blob in blobs)
    evidence = faults.wrong_commitment(message, points, blobs, court.roster)
    assert (evidence.seat, evidence.other) == (1, element)
    fact = keccak(message.data_root + points)
    assert court.judged(evidence, bytes(32), fact) == points
    refuses("not what was committed", lambda: court.judged(evidence, bytes(32), bytes(32)))
    reason = "not under the root" if element < -(-words // 32) * 32 else "the proof does not hold"
    for changes in ({"seat": 2}, {"round": 9}) if reason == "not under the root" else ():
        refuses(reason, lambda changes=changes: court.judged(evidence, bytes(32), fact, **changes))
    for other in (element + 1, element + 32, 4096 * len(blobs)):
        with pytest.raises(ContractReverted):
            court.judged(evidence, bytes(32), fact, other=other)


def test_a_true_commitment_is_never_convicted(judge):
    court = Court(judge)
    message = vector(court, 40)
    assert faults.wrong_commitment(message, message.points, message.blobs, court.roster) is None
    group = faults.no_group_element(member(1), message.data_root, message.points, court.roster)
    assert group is None
    fact = keccak(message.data_root + message.points)
    for element in (0, 31, 39, 63, 64, 4095):
        proof, value = kzg.point_proof(message.blobs[0], element)
        chunk = message.chunk_proof(element) if element < 64 else None
        parts = (chunk.chunk, chunk.path) if chunk else (b"", ())

        def evidence(value, proof, element=element, parts=parts):
            fields = (message.data_root, message.points, *parts, value, proof)
            data = codec.encode([faults._VECTOR], [fields])
            return faults.Evidence(1, faults.Fault.WRONG_COMMITMENT, element, data)

        false = ((int.from_bytes(value, "big") + 1) % R).to_bytes(32, "big")
        above = (int.from_bytes(value, "big") + R).to_bytes(32, "big")
        for reason, attempt in (
            ("the element is the vector's", evidence(value, proof)),
            ("the proof does not hold", evidence(false, proof)),
            ("the proof does not hold", evidence(above, proof)),
            ("wrong proof length", evidence(false, proof[:-1])),
        ):
            refuses(reason, lambda attempt=attempt: court.judged(attempt, bytes(32), fact))
    data = codec.encode([faults._VECTOR], [(message.data_root, message.points, b"", (), bytes(32), b"")])
    group = faults.Evidence(1, faults.Fault.WRONG_COMMITMENT, 0, data)
    refuses("the commitment is in the group", lambda: court.judged(group, bytes(32), fact))
    refuses("no such element", lambda: court.judged(group, bytes(32), fact, other=1))


def outside():
    """A point of the curve that is not in the group."""
    for x in range(1, 100):
        short = (x | 1 << 383).to_bytes(48, "big")
        try:
            kzg.uncompress(short)
        except kzg.DataError:
            continue
        if not kzg.in_group(short):
            return kzg.uncompress(short)
    return None


def test_a_point_outside_the_group_convicts(judge):
    court = Court(judge)
    root, points = secrets.token_bytes(32), kzg.GENERATOR + outside()
    evidence = faults.no_group_element(member(1), root, points, court.roster)
    assert evidence.other == 1
    assert court.judged(evidence, bytes(32), keccak(root + points)) == points
    refuses(
        "the commitment is in the group",
        lambda: court.judged(evidence, bytes(32), keccak(root + points), other=0),
    )


# On the round contract ----------------------------------------------------------------------------------

STAKE, STEP, POT = 1000, 40, 600
STEPS = {"share": 1, "submit": 2, "challenge": 3, "open": 4, "done": 5, "aborted": 6}
DROPPED, CONVICTED, CHALLENGED = 1, 2, 4


class Trial(Court):
    """Three members on the round contract itself, whose messages are as a test wants them to be."""

    def __init__(self, bench, mode=0, words=3, verifiers=()):
        self.board, self.accounts = bench
        self.chain, self.words = self.board.chain, words
        self.owner, *self.members = self.accounts[:4]
        self.reporter = self.accounts[4]
        shape = {"mode": mode, "words": words, "max_clients": 3, "max_rounds": 2, "min_stake": STAKE}
        shape |= SEALED if verifiers else {}
        terms = tuple({**TERMS, **shape, "join_blocks": 4, "step_blocks": STEP}.values())
        registered = self.board.register(terms, [], list(verifiers), sender=self.owner, value=POT)
        self.task = registered.events[0].args["task"]
        for account in self.members:
            self.board.join(self.task, b"\1" * 32, 1, bytes(32), bytes(32), sender=account, value=STAKE)
        self.chain.mine(6)
        self.round = 1
        self.board.open_round(self.task, sender=self.owner)
        self.context = RoundContext(self.chain.chain_id, self.board.address, self.task, 1)
        self.binding = self.context.binding
        seated = [(word & (2**160 - 1)).to_bytes(20, "big") for word in self.words_of_seats()]
        self.members.sort(key=lambda account: seated.index(bytes.fromhex(account.address[2:])))
        self.roster = Roster(tuple(seated), Graph(3, 2, 2))
        self.threshold, self.living = 2, set(seated)

    def words_of_seats(self):
        return [entry[0] for entry in self.board.roster(self.task, self.round)]

    def who(self, seat):
        return self.roster.members[seat]

    def say(self, call, seat, *words, **options):
        method = self.board.method(call)
        return method(self.task, self.round, seat, *words, sender=self.members[seat], **options)

    def advance(self, late=False):
        if late:
            self.chain.mine(
                max(1, self.board.round_info(self.task, self.round)[1] + 1 - self.chain.block_number)
            )
        self.board.advance(self.task, self.round, sender=self.owner)

    def share(self, bad=None):
        """All deal; one of them, if it is named, shares that lie on no polynomial."""
        self.dealt = []
        for seat in range(len(self.members)):
            if seat == bad:
                shares = dict(zip(self.roster.members, (1, 2, 4), strict=True))
                message = self.deal(seat, shares, shares, bytes(32))
            else:
                message = self.honest(seat)
            self.dealt.append((message, self.salts, self.shares))
            told = message.announcement
            self.say("share", seat, told.mask_public, told.seed_hash, told.root)
        self.advance()

    def submit(self, *silent):
        for seat in range(len(self.members)):
            if seat not in silent:
                self.say("submit", seat, [1, 2, 3])
        self.freeze(silent)

    def freeze(self, dropped):
        self.advance(late=True)
        self.dropped = dropped
        self.living = {who for seat, who in enumerate(self.roster.members) if seat not in dropped}
        self.survivors = survivors_digest(self.binding, self.roster.bitmap(self.living))

    def entry_of(self, dealer, seat, kind=None):
        message, self.salts, self.shares = self.dealt[dealer]
        return self.entry(message, self.roster.members[seat], kind)

    def open(self, *seats, swap=None):
        """Some open; one of them, if it is named, a share of seat 0 that it was not dealt."""
        self.openings_made = {}
        for seat in seats:
            entries = [self.entry_of(dealer, seat) for dealer in range(len(self.members))]
            if seat == swap:
                entries[0] = OpenedShare(entries[0].dealer, entries[0].kind, bytes(32), bytes(33))
            made = self.opening(self.roster.members[seat], *entries)
            self.openings_made[seat] = made
            self.say("open_shares", seat, made.root)

    def attest(self, *seats):
        # the plain sum is zero: the mask is the masked sum
        words = [len(self.living) * word for word in (1, 2, 3)]
        mask = keccak(b"".join(word.to_bytes(32, "big") for word in words))
        for seat in seats:
            self.say("attest", seat, mask)

    def finish(self):
        self.board.finish(self.task, self.round, [0, 0, 0], sender=self.owner)

    def convict(self, evidence, **options):
        return self.board.convict(self.task, self.round, *evidence.arguments, sender=self.reporter, **options)

    def state(self, seat):
        word = self.words_of_seats()[seat]
        return (word >> 160) & 255, word >> 168

    def stake(self, seat):
        return self.board.membership(self.task, self.members[seat])[4]


@pytest.fixture(scope="module")
def bench(kept_chain):
    accounts = [kept_chain.account(name) for name in ("owner", *"abc", "reporter")]
    judge = kept_chain.deploy("RoundJudge", sender=accounts[0])
    return kept_chain.deploy("SecureRound", judge.address, sender=accounts[0]), accounts


@pytest.fixture
def trial(bench):
    snapshot = bench[0].chain.snapshot()
    yield lambda **shape: Trial(bench, **shape)
    snapshot.revert()


def test_a_bad_dealer_loses_its_stake_and_the_round_goes_on(trial):
    case = trial()
    case.share(bad=1)
    message = case.dealt[1][0]
    case.submit()
    case.open(0, 1, 2)
    evidence = faults.bad_dealer(message, list(case.openings_made.values()), case.roster, case.living)
    before = case.chain.balance(case.board.address)
    [event] = case.convict(evidence).events
    assert before - case.chain.balance(case.board.address) == STAKE
    assert list(event.args.values())[2:] == [case.members[1].address, 1, 1, STAKE]
    assert case.state(1) == (4, CONVICTED)
    assert case.stake(1) == 0
    refuses("already convicted", lambda: case.convict(evidence))
    # it is heard no more, and the two others are enough
    refuses("convicted", lambda: case.attest(1))
    case.attest(0, 2)
    case.finish()
    refuses("nothing to withdraw", lambda: case.say("claim", 1))
    case.say("claim", 0)
    assert case.members[1].address not in list(case.board.joined(case.task))
    case.board.open_round(case.task, sender=case.owner)
    drawn = [entry[0] & (2**160 - 1) for entry in case.board.roster(case.task, 2)]
    assert sorted(drawn) == sorted(int(case.members[seat].address, 16) for seat in (0, 2))


def test_a_fault_of_the_last_round_can_still_be_proved(trial):
    case = trial()
    case.share(bad=1)
    message = case.dealt[1][0]
    case.submit()
    case.open(0, 1, 2)
    evidence = faults.bad_dealer(message, list(case.openings_made.values()), case.roster, case.living)
    case.attest(0, 2)
    case.finish()
    case.board.leave(case.task, sender=case.members[1])
    case.board.open_round(case.task, sender=case.owner)
    case.convict(evidence)
    assert case.stake(1) == 0
    case.chain.mine(STEP + 1)
    refuses("nothing to withdraw", lambda: case.board.withdraw(case.task, sender=case.members[1]))


def test_a_bad_opener_loses_its_attestation_too(trial):
    case = trial()
    case.share()
    case.submit()
    case.open(0, 1, 2, swap=2)
    message = case.dealt[0][0]
    evidence = faults.bad_opener(case.openings_made[2], message, case.roster, case.living)
    case.attest(1, 2)
    case.convict(evidence)
    assert case.state(2) == (5, CONVICTED)
    refuses("sum does not fit the attested mask", case.finish)
    case.attest(0)
    case.finish()


def test_a_convicted_member_takes_no_verifier_down(trial, bench):
    case = trial(verifiers=[(bench[1][4].address, b"\5" * 32)])
    case.share(bad=0)
    message = case.dealt[0][0]
    case.submit()
    case.open(0, 1, 2)
    evidence = faults.bad_dealer(message, list(case.openings_made.values()), case.roster, case.living)
    case.board.attest(case.task, 1, 0, b"\6" * 32, sender=case.reporter)
    case.convict(evidence)
    assert case.board.attestations(case.task, 1, b"\6" * 32) == 1
    case.board.finish_committed(case.task, 1, b"\6" * 32, bytes(32), sender=case.owner)


def test_evidence_waits_until_the_survivors_are_final(trial):
    case = trial()
    case.share(bad=1)
    message = case.dealt[1][0]
    for seat in range(3):
        case.say("submit", seat, [1, 2, 3])
    shares = {who: case.entry_of(1, seat) for seat, who in enumerate(case.roster.members)}
    evidence = faults._dealer_evidence(message, shares, case.roster)
    refuses("not in this phase", lambda: case.convict(evidence))
    case.freeze(())
    case.convict(evidence)


def test_a_round_that_ended_before_it_opened_judges_no_shares(trial):
    case = trial()
    case.share(bad=1)
    shares = {who: case.entry_of(1, seat) for seat, who in enumerate(case.roster.members)}
    evidence = faults._dealer_evidence(case.dealt[1][0], shares, case.roster)
    case.say("submit", 0, [1, 2, 3])
    case.advance(late=True)
    assert case.board.round_info(case.task, 1)[0] == STEPS["aborted"]
    refuses("not in this phase", lambda: case.convict(evidence))


def committed(case, seat, words=3):
    """A vector, a commitment to another one, and the evidence."""
    message = VectorMessage.of(case.context, case.roster.members[seat], from_words([7] * words))
    [blob] = message.blobs
    blobs = [changed(blob, 1, 8)]
    points = kzg.uncompress(kzg.commit(blobs[0]))
    return message, points, faults.wrong_commitment(message, points, blobs, case.roster)


def kzg_round(trial):
    case = trial(mode=1)
    case.share()
    message, points, evidence = committed(case, 2)
    for seat in range(2):
        good = VectorMessage.of(case.context, case.roster.members[seat], from_words([5] * 3))
        case.say("commit", seat, good.data_root, good.points)
    case.say("commit", 2, message.data_root, points)
    refuses("not in this phase", lambda: case.convict(evidence))
    case.advance()
    return case, message, points, evidence, good.points


def test_a_wrong_commitment_is_taken_off_the_sum(trial):
    case, message, points, evidence, others = kzg_round(trial)
    case.convict(evidence)
    assert case.state(2) == (2, DROPPED | CONVICTED)
    assert list(case.board.sum_commitments(case.task)) == [kzg.add(others, others)]
    assert case.board.round_info(case.task, 1)[5] == 2
    refuses(
        "already challenged",
        lambda: case.board.challenge(case.task, 1, 2, message.data_root, points, sender=case.owner),
    )
    case.freeze((2,))
    assert case.board.round_info(case.task, 1)[0] == STEPS["open"]


def test_a_challenged_vector_is_taken_off_the_sum_once(trial):
    case, message, points, evidence, others = kzg_round(trial)
    case.board.challenge(case.task, 1, 2, message.data_root, points, sender=case.owner)
    case.convict(evidence)
    assert case.state(2) == (2, DROPPED | CONVICTED)
    assert list(case.board.sum_commitments(case.task)) == [kzg.add(others, others)]
    assert case.board.round_info(case.task, 1)[5] == 2
    blob = changed(message.blobs[0], 1, 8)
    refuses("nobody has asked", lambda: case.say("answer", 2, message.data_root, points, blobs=[blob]))


def test_after_its_window_a_wrong_commitment_costs_the_stake_alone(trial):
    case, _, _, evidence, _ = kzg_round(trial)
    before = list(case.board.sum_commitments(case.task))
    case.freeze(())
    case.convict(evidence)
    assert case.state(2) == (3, CONVICTED)
    assert case.stake(2) == 0
    assert list(case.board.sum_commitments(case.task)) == before
    assert case.board.round_info(case.task, 1)[5] == 3


def test_a_point_outside_the_group_is_taken_off_the_sum(trial):
    case = trial(mode=1)
    case.share()
    good = VectorMessage.of(case.context, case.roster.members[0], from_words([5] * 3))
    bad = outside()
    for seat, point in ((0, good.points), (1, bad), (2, good.points)):
        case.say("commit", seat, good.data_root, point)
    case.advance()
    evidence = faults.no_group_element(case.roster.members[1], good.data_root, bad, case.roster)
    case.convict(evidence)
    assert case.state(1) == (2, DROPPED | CONVICTED)
    assert list(case.board.sum_commitments(case.task)) == [kzg.add(good.points, good.points)]


def test_little_gas_convicts_nobody(trial):
    case = trial(mode=1)
    case.share()
    good = VectorMessage.of(case.context, case.roster.members[0], from_words([5] * 3))
    for seat in range(3):
        case.say("commit", seat, good.data_root, good.points)
    case.advance()
    data = codec.encode([faults._VECTOR], [(good.data_root, good.points, b"", (), bytes(32), b"")])
    evidence = faults.Evidence(1, faults.Fault.WRONG_COMMITMENT, 0, data)
    met = set()
    for gas in range(120_000, 500_000, 20_000):
        with pytest.raises(ContractReverted) as refused:
            case.convict(evidence, gas=gas)
        met.add(refused.value.reason)
    assert {"too little gas", "the commitment is in the group"} <= met
    assert met <= {"too little gas", "the commitment is in the group", "", None}
    assert case.state(1) == (3, 0)


@pytest.mark.parametrize("mode", [0, 2])
def test_commitments_are_judged_where_there_are_any(trial, mode):
    case = trial(mode=mode)
    case.share()
    evidence = faults.Evidence(1, faults.Fault.WRONG_COMMITMENT, 0, b"")
    refuses("not in this mode", lambda: case.convict(evidence))


def test_there_is_nobody_to_convict_in_an_empty_seat(trial):
    case = trial()
    with pytest.raises(ContractReverted):
        case.convict(faults.Evidence(0, faults.Fault.BAD_DEALER, 0, bytes(38_401)))
    for seat in (3, 200):
        empty = faults.Evidence(seat, faults.Fault.BAD_DEALER, 0, b"")
        refuses("no such seat", lambda empty=empty: case.convict(empty))


# What else the judge works out --------------------------------------------------------------------------

TERMS = {
    "code_hash": b"\1" * 32,
    "params_hash": b"\2" * 32,
    "genesis_hash": bytes(32),
    "dataset_id": bytes(32),
    "min_rows": 0,
    "min_stake": 0,
    "min_clients": 2,
    "max_clients": 10,
    "words": 3,
    "lanes": 8,
    "mode": 0,
    "sealed": False,
    "groups": 1,
    "degree": 0,
    "share_threshold": 0,
    "max_rounds": 1,
    "join_blocks": 1,
    "step_blocks": 1,
    "silence_penalty": 0,
    "owner_key": bytes(32),
}
LARGE = {"max_clients": 60, "degree": 20, "share_threshold": 7}
SEALED = {"sealed": True, "owner_key": b"\3" * 32}
WHO = ("0x" + "1" * 40, b"\4" * 32)


@pytest.mark.parametrize(
    ("changes", "verifiers", "reason"),
    [
        ({"code_hash": bytes(32)}, [], "code hash is zero"),
        ({"params_hash": bytes(32)}, [], "parameter hash is zero"),
        ({"min_clients": 1}, [], "fewer than two clients hide nothing"),
        ({"min_clients": 11}, [], "min clients above max clients"),
        ({"max_clients": 129}, [], "too many clients"),
        ({"words": 0}, [], "vector length out of range"),
        ({"words": 521}, [], "vector length out of range"),
        ({"words": 261, "groups": 2}, [], "vector length out of range"),
        ({"mode": 1, "words": 12 * 4096 + 1}, [], "vector length out of range"),
        ({"mode": 1, "words": 4097, "groups": 7, "max_clients": 40}, [], "vector length out of range"),
        ({"mode": 1, "words": 2**256 - 1}, [], "vector length out of range"),
        ({"mode": 3, "words": 6 * 4096 + 1}, [], "too many blobs for one transaction"),
        ({"mode": 2, "words": 2**32 + 1}, [], "vector length out of range"),
        ({"mode": 4}, [], "unknown mode"),
        ({"lanes": 7}, [], "lanes must be 8 or 4"),
        ({"groups": 0}, [], "number of groups out of range"),
        ({"groups": 6}, [], "number of groups out of range"),
        ({**LARGE, "groups": 2}, [], "groups need a round of at most 50"),
        ({**LARGE, "degree": 1}, [], "degree out of range"),
        ({**LARGE, "degree": 60}, [], "degree out of range"),
        ({**LARGE, "degree": 19}, [], "degree must be even"),
        ({**LARGE, "share_threshold": 1}, [], "share threshold out of range"),
        ({**LARGE, "share_threshold": 22}, [], "share threshold out of range"),
        ({"max_rounds": 0}, [], "number of rounds out of range"),
        ({"max_rounds": 10_001}, [], "number of rounds out of range"),
        ({"join_blocks": 0}, [], "join window out of range"),
        ({"join_blocks": 2**255}, [], "join window out of range"),
        ({"step_blocks": 0}, [], "step window out of range"),
        ({"step_blocks": 1_000_001}, [], "step window out of range"),
        ({}, [WHO], "only a sealed task has verifiers"),
        (SEALED, [], "a sealed task needs verifiers"),
        ({**SEALED, "owner_key": bytes(32)}, [WHO], "owner key is zero"),
        (SEALED, [("0x" + "0" * 40, WHO[1])], "verifier is zero"),
        (SEALED, [(WHO[0], bytes(32))], "box key is zero"),
        (SEALED, [WHO, ("0x" + "2" * 40, WHO[1]), WHO], "verifier named twice"),
    ],
)
def test_terms_that_cannot_work_are_refused(judge, changes, verifiers, reason):
    wanted = tuple({**TERMS, **changes}.values())
    refuses(reason, lambda: judge[0].check_terms(wanted, verifiers))


@pytest.mark.parametrize(
    ("changes", "blobs"),
    [
        ({}, 0),
        ({"words": 520}, 0),
        ({"words": 260, "groups": 2}, 0),
        ({"mode": 1}, 1),
        ({"mode": 1, "words": 4097}, 2),
        ({"mode": 1, "words": 12 * 4096}, 12),
        ({"mode": 2, "words": 2**32}, 0),
        ({"mode": 3, "words": 6 * 4096}, 6),
        ({"mode": 1, "groups": 5}, 1),
        (LARGE, 0),
        ({**LARGE, "degree": 59}, 0),
        ({"max_clients": 128, "degree": 34, "share_threshold": 11}, 0),
    ],
)
def test_terms_that_work_say_how_many_commitments_a_vector_has(judge, changes, blobs):
    assert judge[0].check_terms(tuple({**TERMS, **changes}.values()), []) == blobs


def test_sixteen_verifiers_are_taken(judge):
    sixteen = [("0x" + bytes([9, *bytes(18), i]).hex(), WHO[1]) for i in range(16)]
    assert judge[0].check_terms(tuple({**TERMS, **SEALED}.values()), sixteen) == 0


@pytest.mark.parametrize(("nodes", "seats"), [(1, 1), (2, 5), (128, 128), (128, 3), (60, 0)])
def test_the_draw_takes_the_lowest_scores(judge, nodes, seats):
    beacon = secrets.token_bytes(32)
    joined = ["0x" + member(i).hex() for i in range(nodes)]

    def score(address):
        words = TASK.to_bytes(32, "big") + ROUND.to_bytes(32, "big") + bytes(12)
        return keccak(beacon + words + bytes.fromhex(address[2:]))

    drawn = judge[0].draw(joined, TASK, ROUND, beacon, seats)
    assert [one.lower() for one in drawn] == sorted(joined, key=score)[:seats]


def test_versioned_hashes_are_those_of_the_network(judge):
    points = [kzg.INFINITY, kzg.GENERATOR, kzg.negate(kzg.GENERATOR)]
    points += [kzg.uncompress(kzg.commit(kzg.split(secrets.token_bytes(31).rjust(32, b"\0"))[0]))]
    points += [kzg.add(points[3], kzg.GENERATOR), kzg.negate(points[3])]
    for point in points:
        assert judge[0].versioned_hash(point) == kzg.versioned_hash(kzg.compress(point))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 5), min_size=8, max_size=20), st.integers(1, 3), st.sampled_from([2, 4, 6]))
def test_who_can_open_is_what_the_members_would_say(judge, steps, groups, degree):
    n = len(steps)
    shared = [seat for seat in range(n) if steps[seat] >= SHARED]
    living = {seat for seat in range(n) if steps[seat] >= SUBMITTED}
    threshold = degree // 2 + 1
    words = [step << 160 for step in steps]
    counts = [sum(seat % groups == group for seat in living) for group in range(groups)]
    holders = [sum(seat in living for seat in Graph(n, degree, threshold).receivers(d)) for d in shared]
    ring = all(count >= threshold for count in holders)
    assert judge[0].can_open(words, groups, degree, threshold) == (ring and 1 not in counts)
    # where all are neighbours, the quorum of survivors has been counted already
    assert judge[0].can_open(words, groups, n - 1, threshold) == (1 not in counts)
