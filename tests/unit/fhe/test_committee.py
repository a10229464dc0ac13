import copy
import pickle
import stat
import struct
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from twopm_kit.errors import (
    BudgetSpent,
    CiphertextError,
    CommitteeError,
    ForkRefused,
    SecretRefused,
    WrongKey,
)
from twopm_kit.fhe import (
    Committee,
    EncryptedFrame,
    KeyHolder,
    Layout,
    Member,
    Partial,
    Roster,
    raw,
    slot_sums,
)

PHRASE = "several unrelated words"


@pytest.fixture(scope="module")
def group(holder):
    return Committee.deal(holder, 3, 5, budget=100_000)


@pytest.fixture
def enc(holder, small):
    return holder.encrypt(small)


def partials_of(group, enc, members, **options):
    return [group.members[i - 1].partial(enc, members, **options) for i in members]


def tampered(partial, change):
    words = partial.words.copy()
    change(words)
    return replace(partial, words=words)


# Opening ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [*combinations(range(1, 6), 3), (1, 2, 4, 5), (1, 2, 3, 4, 5)])
def test_any_set_of_three_or_more_opens(group, enc, small, members):
    opened = group.combine(enc, partials_of(group, enc, members))
    pd.testing.assert_frame_equal(opened, small, atol=1.5e-6, rtol=0)
    assert not np.array_equal(opened, small)


@pytest.mark.parametrize(("t", "n"), [(2, 2), (2, 3), (4, 4), (5, 7)])
def test_other_sizes_of_committee(holder, enc, small, t, n):
    group = Committee.deal(holder, t, n)
    pd.testing.assert_frame_equal(group.decrypt(enc), small, atol=1.5e-6, rtol=0)
    last = tuple(range(n - t + 1, n + 1))
    pd.testing.assert_frame_equal(
        group.combine(enc, partials_of(group, enc, last)), small, atol=1.5e-6, rtol=0
    )


@pytest.mark.parametrize("profile", ["agg", "train", "cnn", "deep"])
def test_every_profile_opens_within_what_the_report_says(profile):
    holder = KeyHolder.generate(profile)
    group = Committee.deal(holder, 3, 5)
    values = np.random.default_rng(2).uniform(-1, 1, (50, 2))
    enc = holder.encrypt(values)
    lower = enc * 0.5 if enc.level else enc * 2
    for frame, expected in ((enc, values), (lower, values * (0.5 if enc.level else 2))):
        report = group.opening_report(frame)
        error = np.abs(group.decrypt(frame) - expected)
        own = np.abs(holder.decrypt(frame, flood=False) - expected).max()
        assert (error.max(axis=0) <= report["largest error"].to_numpy() + own).all()
        assert (report["noise / error (bits)"] >= 10).all()


def test_layouts_and_packings(holder, group):
    values = np.random.default_rng(4).normal(size=(5000, 2))
    packed = holder.encrypt(values, packing="complex")
    np.testing.assert_allclose(group.decrypt(packed), values, atol=1.5e-6)
    blocks = holder.encrypt(values[:3], layout=Layout.blocks(2))
    np.testing.assert_allclose(group.decrypt(blocks), values[:3], atol=1.5e-6)
    assert len(partials_of(group, blocks, (1, 2, 3))[0].words) == blocks.n_ciphertexts == 2


def test_sums_open_to_sums(holder, group):
    values = np.random.default_rng(4).uniform(-1, 1, (100, 1))
    enc = holder.encrypt(values)
    head = replace(enc.heads[0], bound=4096.0)
    masked = slot_sums(enc, [(head, enc.ciphers(head.name)[0])], level=enc.level)
    total = group.decrypt(masked)
    largest = group.opening_report(masked)["largest error"].iloc[0]
    assert largest < 1e-5
    assert total.to_numpy()[0, 0] == pytest.approx(values.sum(), abs=largest)


def test_products_need_relinearising_first(holder, group):
    enc = holder.encrypt(np.array([0.5, 0.25]))
    (cipher,) = enc.ciphers("x0")
    square = holder.engine.square(cipher)
    head = replace(enc.heads[0], bound=4096.0, scale=float(square.scale))
    masked = slot_sums(enc, [(head, square)], level=enc.level)
    with pytest.raises(CiphertextError, match="3 polynomials"):
        group.members[0].partial(masked, (1, 2, 3))


def test_noise_differs_from_opening_to_opening_and_has_the_size_it_should(holder, group):
    values = np.zeros(holder.engine.slots)
    enc = holder.encrypt(values)
    one, two = (group.decrypt(enc, precision=1e-3)[:, 0] for _ in range(2))
    expected = group.opening_report(enc, precision=1e-3)["noise (std)"].iloc[0]
    assert expected == pytest.approx(1e-3 / 6.2)
    assert np.std(one) == pytest.approx(expected, rel=0.1)
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.1


def test_noise_far_above_the_bound_is_not_taken_for_garbage(holder, group):
    enc = holder.encrypt(np.zeros((500, 2)), bounds={"x0": 1e-3, "x1": 1.0})
    opened = group.decrypt(enc, precision=0.5)
    assert (np.abs(opened).max(axis=0) > 0.1).all()
    assert np.abs(opened).max() < 0.6


def test_it_opens_for_models_as_a_holder_does(holder, group, enc, small):
    for opener in (holder, group):
        for opened in (opener.decrypt(enc, precision=1e-5), opener.open_for_others(enc)):
            pd.testing.assert_frame_equal(opened, small, atol=2e-5, rtol=0)
        assert list(opener.opening_report(enc).index) == ["a", "b", "c"]
        assert (opener.fingerprint, opener.profile, opener.engine) == (
            enc.fingerprint,
            enc.profile,
            enc.engine,
        )


def test_a_committee_has_no_full_precision(group, enc):
    with pytest.raises(SecretRefused, match="full precision"):
        group.decrypt(enc, flood=False)


def test_a_partial_of_one_ciphertext_is_small(holder, group):
    enc = holder.encrypt(np.ones(holder.engine.slots))
    (partial, *_) = partials_of(group, enc, (1, 2, 3))
    assert partial.words.shape == (1, 1, 8192)
    assert len(partial.to_bytes()) <= 70_000


def test_bytes_are_enough_to_combine(holder, group, small):
    enc = EncryptedFrame.from_bytes(holder.encrypt(small).to_bytes())
    sent = [p.to_bytes() for p in partials_of(group, enc, (5, 1, 3))]
    elsewhere = Committee(Roster.from_bytes(group.roster.to_bytes()))
    received = [Partial.from_bytes(content) for content in sent]
    opened = elsewhere.combine(
        EncryptedFrame.from_bytes(enc.to_bytes()),
        received,
        announced={p.member: p.commitment for p in received},
    )
    pd.testing.assert_frame_equal(opened, small, atol=1.5e-6, rtol=0)
    with pytest.raises(CommitteeError, match="set"):
        elsewhere.decrypt(enc)


# Secrecy ------------------------------------------------------------------------------------------------


def lagrange(points, at, prime):
    """Value at ``at`` of the polynomial through points {x: residues}, with whole numbers of Python."""
    total = 0
    for i, values in points.items():
        above = below = 1
        for j in points:
            if j != i:
                above, below = above * (at - j) % prime, below * (i - j) % prime
        total = total + values.astype(object) * (above * pow(below, -1, prime) % prime)
    return (total % prime).astype(np.uint64)


def test_three_shares_are_the_key(holder, group):
    secret = raw.secret_words(holder.engine, holder._secret)
    for chosen in ((1, 2, 3), (2, 4, 5)):
        for r, prime in enumerate(holder.engine.primes):
            points = {i: group.members[i - 1]._share[r] for i in chosen}
            assert np.array_equal(lagrange(points, 0, prime), secret[r])


@pytest.mark.parametrize("known", list(combinations(range(1, 6), 2)))
def test_two_shares_fit_every_key_equally(holder, group, known):
    """For any other key there is a deal in which these two members have these very shares."""
    prime = holder.engine.primes[0]
    other = raw.uniform_words((prime,), 8192)[0]
    theirs = {i: group.members[i - 1]._share[0] for i in known}
    deal = {i: lagrange({0: other, **theirs}, i, prime) for i in range(1, 6)}
    assert all(np.array_equal(deal[i], theirs[i]) for i in known)
    for chosen in combinations(range(1, 6), 3):
        assert np.array_equal(lagrange({i: deal[i] for i in chosen}, 0, prime), other)


def test_two_shares_give_noise_for_a_key(holder, group):
    prime = holder.engine.primes[0]
    secret = raw.secret_words(holder.engine, holder._secret)[0]
    guess = lagrange({i: group.members[i - 1]._share[0] for i in (1, 4)}, 0, prime)
    assert not (guess == secret).any()


def test_shares_and_partials_look_uniform(holder, group):
    prime = holder.engine.primes[0]
    enc = holder.encrypt(np.zeros(3))
    partials = partials_of(group, enc, (1, 2, 3))
    tables = [m._share[0] for m in group.members] + [p.words[0, 0] for p in partials]
    tables.append(raw.add_mod(tables[-1], tables[-2], prime))  # two of three partials, added
    for table in tables:
        counts = np.histogram(table.astype(float) / prime, bins=32, range=(0, 1))[0]
        expected = table.size / 32
        assert ((counts - expected) ** 2 / expected).sum() < 31 + 7 * np.sqrt(62)


def test_parts_for_two_sets_have_nothing_in_common(holder, group):
    """Without shares of zero, the quotient of two Lagrange factors would lead from one part to the other."""
    prime, enc = holder.engine.primes[0], holder.encrypt(np.zeros(3))
    member = group.members[0]
    one, two = (member.partial(enc, chosen).words[0, 0] for chosen in ((1, 2, 3), (1, 2, 4)))
    # factors of member 1 are 3 and 8/3: 8·one - 9·two would be nothing but noise
    rest = raw.subtract_mod(raw.scale_mod(one, 8, prime), raw.scale_mod(two, 9, prime), prime)
    key, level = member._share[0], enc.level
    c1 = raw.cipher_words(holder.engine, enc.ciphers("x0")[0])[1, 0]
    base = raw.multiply_mod(c1, key, prime)
    assert level == holder.engine.profile.levels
    plain = raw.plaintext_of(holder.engine, 0, 1.0, rest[None])
    assert np.abs(holder.engine.encoder.decode_double(plain)).max() > 2.0**50
    # the same relation on what the zero shares hide is exact
    factors = [3, 8 * pow(3, -1, prime) % prime]
    bare = [raw.multiply_mod(base, factor, prime) for factor in factors]
    left, right = raw.scale_mod(bare[0], 8, prime), raw.scale_mod(bare[1], 9, prime)
    assert np.array_equal(left, right)


def test_two_partials_of_a_set_of_three_open_nothing(holder, group, small, enc):
    one, two, three = partials_of(group, enc, (1, 2, 3))
    blank = tampered(three, lambda words: words.fill(0))
    with pytest.raises(CommitteeError, match="do not add up"):
        group.combine(enc, [one, two, blank])


@pytest.mark.parametrize(
    "leak", [pickle.dumps, copy.copy, copy.deepcopy, lambda m: m.__reduce__(), lambda m: m.__getstate__()]
)
def test_shares_do_not_leave_their_member(group, leak):
    with pytest.raises(SecretRefused, match="share"):
        leak(group.members[0])
    for whole in (group, Committee(group.roster)):
        with pytest.raises(SecretRefused, match="committee"):
            leak(whole)


def test_nothing_public_holds_a_share_or_seed(holder, group, enc):
    member = group.members[0]
    secrets = [member._share[:, :4].tobytes(), *member._seeds.values()]
    public = b"".join(
        [
            group.roster.to_bytes(),
            member.partial(enc, (1, 2, 3)).to_bytes(),
            repr(member).encode(),
            repr(group).encode(),
            group._repr_html_().encode(),
        ]
    )
    for secret in secrets:
        assert secret not in public
        assert secret.hex().encode() not in public


def test_members_agree_on_seeds_in_pairs_only(group):
    for a, b in combinations(group.members, 2):
        assert a._seeds[b.number] == b._seeds[a.number]
    assert len({seed for m in group.members for seed in m._seeds.values()}) == 10


# Refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [(1, 2), (), (1, 1, 2), (1, 2, 6), (0, 1, 2), (1, 2, True), (1, 2, 3.0)])
def test_a_set_that_cannot_be_is_refused(group, enc, members):
    with pytest.raises(CommitteeError, match="at least 3 different members of 1 to 5"):
        group.members[0].partial(enc, members)


def test_a_member_answers_only_for_sets_with_itself(group, enc):
    with pytest.raises(CommitteeError, match="member 1 was asked"):
        group.members[0].partial(enc, (2, 3, 4))


def test_missing_doubled_and_strange_partials_are_named(group, enc):
    one, two, three = partials_of(group, enc, (1, 2, 3))
    four = group.members[3].partial(enc, (1, 2, 4))
    with pytest.raises(CommitteeError, match=r"missing: \[3\]"):
        group.combine(enc, [one, two])
    with pytest.raises(CommitteeError, match=r"more than once: \[2\]"):
        group.combine(enc, [one, two, two])
    with pytest.raises(CommitteeError, match="2 different sets"):
        group.combine(enc, [one, two, four])
    with pytest.raises(CommitteeError, match=r"strangers: \[4\]"):
        group.combine(enc, [one, two, replace(three, member=4)])
    with pytest.raises(CommitteeError, match="at least 3"):
        group.combine(enc, [replace(p, members=(1, 2)) for p in (one, two)])
    with pytest.raises(CommitteeError, match="0 different sets"):
        group.combine(enc, [])
    with pytest.raises(CommitteeError, match="expected a Partial"):
        group.combine(enc, [one, two, three.to_bytes()])


def test_a_partial_of_another_frame_is_refused(holder, group, enc, small):
    again = holder.encrypt(small)
    partials = partials_of(group, enc, (1, 2, 3))
    partials[1] = group.members[1].partial(again, (1, 2, 3))
    with pytest.raises(CommitteeError, match="member 2 opened frame"):
        group.combine(enc, partials)


def test_another_key_is_refused(holder, stranger, group, enc, small):
    with pytest.raises(WrongKey):
        group.members[0].partial(stranger.encrypt(small), (1, 2, 3))
    with pytest.raises(WrongKey):
        group.combine(stranger.encrypt(small), partials_of(group, enc, (1, 2, 3)))
    others = Committee.deal(stranger, 3, 5)
    foreign = partials_of(others, stranger.encrypt(small), (1, 2, 3))
    with pytest.raises(WrongKey):
        group.combine(enc, foreign)


def test_shares_of_two_deals_do_not_mix(holder, group, enc):
    second = Committee.deal(holder, 3, 5)
    partials = partials_of(group, enc, (1, 2, 3))
    partials[2] = second.members[2].partial(enc, (1, 2, 3))
    with pytest.raises(CommitteeError, match="member 3 belongs to deal"):
        group.combine(enc, partials)
    with pytest.raises(CommitteeError, match="another deal"):
        Committee(group.roster, [second.members[0]])
    with pytest.raises(CommitteeError, match="members"):
        Committee(group.roster, [group.members[0], group.members[0]])


def flip(words):
    words[0, 0, 17] ^= np.uint64(1)


def test_a_changed_partial_is_refused_and_its_member_named_when_announced(group, enc):
    partials = partials_of(group, enc, (1, 2, 3))
    announced = {p.member: p.commitment for p in partials}
    partials[1] = tampered(partials[1], flip)
    with pytest.raises(CommitteeError, match="member 2 is not the one that was announced"):
        group.combine(enc, partials, announced=announced)
    with pytest.raises(CommitteeError, match="not add up"):
        group.combine(enc, partials)
    del announced[2]
    with pytest.raises(CommitteeError, match="announced"):
        group.combine(enc, partials, announced=announced)


def test_words_beyond_their_prime_or_of_another_shape_are_refused(group, enc):
    partials = partials_of(group, enc, (1, 2, 3))
    prime = group.engine.primes[0]

    def large(words):
        words[0, 0, 0] = prime

    with pytest.raises(CommitteeError, match="member 1 sent words"):
        group.combine(enc, [tampered(partials[0], large), *partials[1:]])
    short = replace(partials[0], words=partials[0].words[:2])
    with pytest.raises(CommitteeError, match="member 1 sent words"):
        group.combine(enc, [short, *partials[1:]])


def test_commitments_hide_nothing_that_a_bit_can_change(group, enc):
    partial = group.members[0].partial(enc, (1, 2, 3))
    other = Partial.from_bytes(partial.to_bytes())
    assert other.commitment == partial.commitment
    for changed in (
        replace(partial, member=2),
        replace(partial, precision=2e-6),
        replace(partial, members=(1, 2, 4)),
        tampered(partial, flip),
    ):
        assert changed.commitment != partial.commitment


def test_partial_bytes_are_strict(holder, group):
    partial = group.members[1].partial(holder.encrypt(np.ones(3)), (1, 2, 3))
    content = partial.to_bytes()
    again = Partial.from_bytes(content)
    assert again.to_bytes() == content
    assert (again.member, again.members, again.frame) == (2, (1, 2, 3), partial.frame)
    member_at = 8 + 2 + 32 + 16 + 32

    def put(at, form, *values):
        new = struct.pack(form, *values)
        return content[:at] + new + content[at + len(new) :]

    hostile = {
        "empty": b"",
        "another file": put(0, "<8s", b"2PM.key\n"),
        "version": put(8, "<H", 9),
        "cut": content[:-1],
        "longer": content + b"\0",
        "header alone": content[:member_at],
        "stranger": put(member_at, "<H", 5),
        "huge": put(member_at + 6, "<II", 1 << 20, 1 << 16),
        "no words": put(member_at + 6, "<II", 0, 8192),
        "precision": put(member_at + 14, "<d", float("nan")),
        "unordered": put(member_at + 22, "<3H", 2, 1, 3),
        "doubled": put(member_at + 22, "<3H", 2, 2, 3),
    }
    accepted = []
    for name, bad in hostile.items():
        try:
            Partial.from_bytes(bad)
            accepted.append(name)
        except CommitteeError as error:
            assert error.hint  # noqa: PT017 - each of them is looked at
    assert accepted == []


def test_rosters_are_strict(group):
    roster = group.roster
    assert Roster.from_bytes(roster.to_bytes()) == roster
    assert Roster.from_bytes(roster.to_bytes()).identity == roster.identity
    assert replace(roster, threshold=2).identity != roster.identity
    fields = roster.to_json()
    bad = [
        {},
        {**fields, "more": 1},
        {**fields, "threshold": 1},
        {**fields, "threshold": 6},
        {**fields, "threshold": True},
        {**fields, "budget": 0},
        {**fields, "commitments": 5},
        {**fields, "commitments": ["x" * 64] * 5},
        {**fields, "fingerprint": "AB" * 16},
        {**fields, "profile": None},
        None,
        [],
    ]
    for case in bad:
        with pytest.raises(CommitteeError):
            Roster.from_json(case)
    for content in (b"", b"{", b"[" * 70000, b"nul"):
        with pytest.raises(CommitteeError):
            Roster.from_bytes(content)
    with pytest.raises(CommitteeError, match="profile"):
        Committee(replace(roster, profile="none"))
    with pytest.raises(CommitteeError, match="parameters"):
        Committee(replace(roster, params="0" * 64))


@pytest.mark.parametrize(
    ("t", "n"), [(1, 3), (4, 3), (2, 65), (0, 0), (2, -1), (2.0, 3), (2, "3"), (3, 10**9)]
)
def test_deals_that_cannot_be_are_refused(holder, t, n):
    with pytest.raises(CommitteeError, match="threshold"):
        Committee.deal(holder, t, n)


def test_only_a_holder_can_deal(holder):
    with pytest.raises(CommitteeError, match="KeyHolder"):
        Committee.deal(holder.evaluator(), 2, 3)


def test_no_room_for_the_noise_is_said(group, enc):
    with pytest.raises(CiphertextError, match="finer precision"):
        group.decrypt(enc, precision=1e6)
    with pytest.raises(CiphertextError, match="precision"):
        group.decrypt(enc, precision=float("nan"))
    with pytest.raises(CiphertextError, match="expected an EncryptedFrame"):
        group.decrypt(enc.to_bytes())


def test_forked_processes_are_refused(holder, group, enc, monkeypatch):
    partials = partials_of(group, enc, (1, 2, 3))
    monkeypatch.setattr("twopm_kit.fhe.engine._HOME_PROCESS", -1)
    for work in (
        lambda: Committee.deal(holder, 2, 3),
        lambda: group.members[0].partial(enc, (1, 2, 3)),
        lambda: group.combine(enc, partials),
    ):
        with pytest.raises(ForkRefused):
            work()


# Budget and files ---------------------------------------------------------------------------------------


def test_each_member_counts_and_stops(holder, small):
    group = Committee.deal(holder, 2, 3, budget=7)
    enc = holder.encrypt(small)
    one, two, _ = group.members
    one.partial(enc, (1, 2))
    one.partial(enc, (1, 2))
    assert (one.ledger.left, two.ledger.left) == (1, 7)
    with pytest.raises(BudgetSpent):
        one.partial(enc, (1, 2))
    assert one.ledger.left == 1
    group.decrypt(enc)  # by those with most openings left
    assert [m.ledger.left for m in group.members] == [1, 4, 4]


def test_a_share_file_keeps_member_and_count(tmp_path, holder, small):
    group = Committee.deal(holder, 2, 3, budget=50)
    enc = holder.encrypt(small)
    paths = [m.save(tmp_path / f"{m.number}.share", PHRASE) for m in group.members]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in paths)
    loaded = [Member.load(path, PHRASE) for path in paths]
    assert [m.number for m in loaded] == [1, 2, 3]
    opened = Committee(group.roster, loaded).decrypt(enc)
    pd.testing.assert_frame_equal(opened, small, atol=1.5e-6, rtol=0)
    assert Member.load(paths[0], PHRASE).ledger.used == loaded[0].ledger.used == 3
    assert group.members[0].save(paths[0], PHRASE) == paths[0]  # the same share again
    for m in group.members:
        content = paths[m.number - 1].read_bytes()
        assert m._share[:, :2].tobytes() not in content
        assert all(seed not in content for seed in m._seeds.values())


def test_share_files_are_refused_when_wrong(tmp_path, holder, group):
    member = group.members[0]
    path = member.save(tmp_path / "one", PHRASE)
    with pytest.raises(WrongKey, match="passphrase"):
        Member.load(path, PHRASE + "s")
    with pytest.raises(WrongKey, match="characters"):
        member.save(tmp_path / "two", "short")
    assert not (tmp_path / "two").exists()
    with pytest.raises(WrongKey, match="would be lost"):
        group.members[1].save(path, PHRASE)
    key_file = holder.save(tmp_path / "key", PHRASE)
    with pytest.raises(CiphertextError, match="not a share file"):
        Member.load(key_file, PHRASE)
    with pytest.raises(CiphertextError, match="not a share file"):
        member.save(key_file, PHRASE)
    with pytest.raises(CiphertextError, match="expected at"):
        Member.load(tmp_path / "nowhere", PHRASE)
    content = path.read_bytes()
    for at in (20, len(content) // 2, len(content) - 1):
        changed = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        path.write_bytes(changed)
        with pytest.raises((WrongKey, CiphertextError)):
            Member.load(path, PHRASE)


def test_a_share_of_another_deal_does_not_fit_the_commitment(holder, group):
    second = Committee.deal(holder, 3, 5)
    mine, other = group.members[0], second.members[0]
    for number, share, seeds in (
        (1, other._share, mine._seeds),
        (1, mine._share, other._seeds),
        (2, mine._share, mine._seeds),
        (6, mine._share, mine._seeds),
    ):
        with pytest.raises(CommitteeError, match="committed"):
            Member(group.roster, number, share, seeds, mine.ledger)
    assert Member(group.roster, 1, mine._share, mine._seeds, mine.ledger).number == 1
