"""The index from Python: what it says before an upload, what it finds, and how it follows the chain."""

import random
import threading
from dataclasses import replace

import pytest
from eth_hash.auto import keccak

from twopm_kit import chain as chains
from twopm_kit.errors import ContractReverted, IndexRefused, UnknownContract
from twopm_kit.vsies.attestation import Attestation, PublicFacts
from twopm_kit.vsies.field import Field
from twopm_kit.vsies.index import DataIndex, Role, _cid, structure_hash
from twopm_kit.vsies.schema import Schema

FLOWERS = Schema(
    "flowers", [Field("length", "float", 0, 10), Field("petals", "int", 0), Field("red", "bool")]
)
TREES = Schema("trees", [Field("height", "float"), Field("kind", "category", categories=("oak", "elm"))])
KEY = "ab" * 16


def stored(word, size=900):
    digest = keccak(b"cid" + word)
    return {"root": "0x" + keccak(word).hex(), "cid": _cid(digest, size), "size": size}


@pytest.fixture(scope="module")
def chain():
    with chains.connect("embedded") as fresh:
        for name in ("owner", "clinic", "lab", "validator", "allocator"):
            fresh.account(name)
        yield fresh


@pytest.fixture(scope="module")
def deployed(chain):
    index = DataIndex.deploy(chain, sender=chain.account("lab"))
    assert index.register(FLOWERS, sender=chain.account("owner")) == 1
    return index


@pytest.fixture
def index(chain, deployed):
    with chain.snapshot():
        yield DataIndex.at(chain, deployed.address)


@pytest.fixture
def put(chain, index):
    def upload(word=b"data", who="clinic", dataset=1, schema=FLOWERS, rows=100, size=900, **more):
        what = {**stored(word, size), "rows": rows, "schema": schema, "key_fingerprint": KEY, **more}
        return index.upload(dataset, **what, sender=chain.account(who))

    return upload


def numbers(entries):
    return [entry.upload_id for entry in entries]


def test_a_dataset_says_its_fields(chain, index):
    entry = index.dataset(1)
    assert (entry.name, entry.owner) == ("flowers", chain.account("owner").address)
    assert entry.field_types == FLOWERS.field_types
    assert (entry.schema_hash, entry.structure_hash) == (FLOWERS.hash, structure_hash(FLOWERS.field_types))
    assert index.field_type(1, "petals") == "int"
    with pytest.raises(ContractReverted, match="unknown field") as caught:
        index.field_type(1, "thorns")
    assert "field_types" in caught.value.hint
    index.register(TREES, sender=chain.account("lab"))
    assert [d.dataset_id for d in index.datasets()] == [1, 2]
    assert [d.dataset_id for d in index.datasets(TREES)] == [2]
    for unknown in (0, 3, -1, True, "1", 1 << 64):
        with pytest.raises(IndexRefused, match="has no dataset"):
            index.dataset(unknown)
        with pytest.raises(IndexRefused, match="has no upload"):
            index.entry(unknown)


def test_what_the_index_does_not_take_is_refused_before_it_is_sent(chain, index):
    owner = chain.account("owner")
    before = chain.block_number
    with pytest.raises(IndexRefused, match="257 fields"):
        structure_hash({f"c{i}": "int" for i in range(257)})
    with pytest.raises(IndexRefused, match="66 bytes"):
        index.register(Schema("long", [Field("é" * 33, "int")]), sender=owner)
    with pytest.raises(IndexRefused, match="66 bytes"):
        index.register(Schema("é" * 33, [Field("a", "int")]), sender=owner)
    with pytest.raises(IndexRefused, match="expected one of float"):
        structure_hash({"a": "text"})
    with pytest.raises(IndexRefused, match="0 fields"):
        structure_hash({})
    assert chain.block_number == before


def changed(*fields, name="flowers"):
    return Schema(name, fields)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (changed(FLOWERS["length"], FLOWERS["petals"]), "missing: red"),
        (changed(*FLOWERS.fields, Field("thorns", "int")), "not registered: thorns"),
        (
            changed(FLOWERS["length"], Field("petals", "float"), FLOWERS["red"]),
            "petals is float, registered as int",
        ),
        (changed(*FLOWERS.fields[::-1]), "the order of the fields is not length, petals, red"),
        (changed(Field("length", "float", 0, 99), *FLOWERS.fields[1:]), "fields and types agree"),
        (changed(*FLOWERS.fields, name="roses"), "fields and types agree, but name"),
        (TREES, "missing: length, petals, red; not registered: height, kind"),
    ],
)
def test_a_difference_is_named_before_anything_is_uploaded(chain, index, put, schema, words):
    before = chain.block_number
    with pytest.raises(IndexRefused, match=words):
        index.demand(1, schema)
    with pytest.raises(IndexRefused, match=words):
        put(schema=schema)
    assert chain.block_number == before


def test_what_fits_passes_and_what_was_done_before_is_named(chain, index, put):
    root = stored(b"data")["root"]
    assert index.demand(1, FLOWERS, root=root).dataset_id == 1
    assert index.upload_of(1, root) == 0
    first = put()
    assert index.upload_of(1, root) == first
    with pytest.raises(IndexRefused, match="uploaded before, as upload 1"):
        put(who="lab")
    second = put(b"two", previous=first)
    with pytest.raises(IndexRefused, match="newer version already: 2"):
        put(b"three", previous=first)
    with pytest.raises(IndexRefused, match="who alone may supersede it"):
        put(b"three", "lab", previous=second)
    index.register(FLOWERS, sender=chain.account("lab"))
    with pytest.raises(IndexRefused, match="upload 2 is in dataset 1"):
        put(b"three", dataset=2, previous=second)
    index.close(1, sender=chain.account("owner"))
    with pytest.raises(IndexRefused, match="it is closed"):
        put(b"three")


def test_a_dataset_that_has_only_fields_takes_every_schema_with_them(chain, index, put):
    types = FLOWERS.field_types
    index.contract.registerDataset("bare", list(types), list(types.values()), sender=chain.account("owner"))
    assert index.entry(put(dataset=2)).schema_hash == bytes(32)
    put(b"two", dataset=2, schema=changed(Field("length", "float", 0, 99), *FLOWERS.fields[1:]))
    with pytest.raises(IndexRefused, match="missing"):
        put(b"three", dataset=2, schema=TREES)


def test_an_upload_comes_back_as_it_was_listed(chain, index, put):
    standard = keccak(b"standard")
    for size, start in ((1, "bafk"), (262_144, "bafk"), (262_145, "bafy")):
        where = stored(b"%d" % size, size)
        entry = index.entry(put(b"%d" % size, size=size, rows=7, standard_hash=standard))
        assert entry.cid == where["cid"]
        assert entry.cid.startswith(start)
        assert (entry.root, entry.size, entry.rows) == (where["root"], size, 7)
        assert (entry.schema_hash, entry.standard_hash) == (FLOWERS.hash, standard)
        assert (entry.key_fingerprint, entry.contributor) == (KEY, chain.account("clinic").address)
        assert entry == index.find()[-1]


@pytest.mark.parametrize(
    "change",
    [
        {"root": "ab" * 32}, {"root": "0x" + "ab" * 31}, {"root": "0x" + "zz" * 32}, {"root": b"\x01" * 32},
        {"cid": "bafk"}, {"cid": ""}, {"cid": None}, {"cid": stored(b"data")["cid"].upper()},
        {"cid": stored(b"data", 300_000)["cid"]}, {"cid": "b" + "a" * 58},
        {"key_fingerprint": "ab" * 15}, {"key_fingerprint": "zz" * 16}, {"key_fingerprint": b"\xab" * 16},
    ],
)  # fmt: skip
def test_values_of_another_form_are_refused_before_they_are_sent(chain, index, put, change):
    before = chain.block_number
    with pytest.raises(IndexRefused) as caught:
        put(**change)
    assert caught.value.hint
    assert chain.block_number == before


def test_every_search_finds_what_it_names(chain, index, put):
    owner, clinic, lab = (chain.account(name) for name in ("owner", "clinic", "lab"))
    index.register(TREES, sender=owner)
    small, big = put(rows=10), put(b"big", "lab", rows=1_000, size=500_000)
    tree = put(b"tree", dataset=2, schema=TREES)
    newer = put(b"newer", rows=20, previous=small)
    index.deprecate(big, sender=owner, reason="wrong unit")
    assert numbers(index.find()) == [tree, newer]
    assert numbers(index.find(deprecated=True)) == [big, tree, newer]
    assert numbers(index.find(superseded=True)) == [small, tree, newer]
    every = {"deprecated": True, "superseded": True}
    assert numbers(index.find(**every)) == [small, big, tree, newer]
    assert numbers(index.find(FLOWERS, **every)) == [small, big, newer]
    assert numbers(index.find(TREES.hash, **every)) == [tree]
    assert numbers(index.find(field="height", **every)) == [tree]
    assert numbers(index.find(field="petals", **every)) == [small, big, newer]
    assert index.find(field="thorns", **every) == []
    assert numbers(index.find(min_rows=20, **every)) == [big, tree, newer]
    assert numbers(index.find(max_size=900, **every)) == [small, tree, newer]
    assert numbers(index.find(contributor=lab, **every)) == [big]
    assert numbers(index.find(contributor=clinic.address.lower(), **every)) == [small, tree, newer]
    assert index.find(attested=True, **every) == []
    table = index.table(index.find(**every))
    assert list(table.index) == [small, big, tree, newer]
    assert list(table["superseded_by"]) == [newer, 0, 0, 0]
    assert list(table["deprecated"]) == [False, True, False, False]
    assert list(index.table().index) == [tree, newer]
    assert list(index.table([]).columns) == list(table.columns)
    for wrong in (b"short", "flowers", 5):
        with pytest.raises(IndexRefused, match="expected a Schema"):
            index.find(wrong)


def test_a_search_reads_only_new_blocks_and_follows_a_chain_that_goes_back(chain, index, put, monkeypatch):
    put()
    asked = []
    events = index.contract.events
    monkeypatch.setattr(
        index.contract,
        "events",
        lambda *a, **k: asked.append((k["from_block"], k["to_block"])) or events(*a, **k),
    )
    assert numbers(index.find()) == [1]
    assert numbers(index.find()) == [1]
    assert len(asked) == 1
    with chain.snapshot():
        put(b"gone", previous=1)
        asked.clear()
        assert numbers(index.find()) == [2]
        assert asked == [(chain.block_number, chain.block_number)]
    assert numbers(index.find()) == [1]
    put(b"other", "lab")
    chain.mine(1)
    assert [entry.contributor for entry in index.find()] == [
        chain.account(name).address for name in ("clinic", "lab")
    ]


def test_random_stories_are_told_alike_by_log_and_contract(chain, index, put):
    rng = random.Random(11)
    for number in range(25):
        who = rng.choice(["clinic", "lab"])
        mine = [e for e in index.find(deprecated=True) if e.contributor == chain.account(who).address]
        previous = rng.choice(mine).upload_id if mine and rng.random() < 0.4 else 0
        upload = put(b"%d" % number, who, rows=rng.randint(1, 99), previous=previous)
        if rng.random() < 0.3:
            index.deprecate(upload, sender=chain.account(who))
    found = index.find(deprecated=True, superseded=True)
    assert found == [index.entry(number) for number in range(1, 26)]
    fresh = DataIndex.at(chain, index.address)
    assert fresh.find(deprecated=True, superseded=True) == found


def test_searches_from_several_threads_count_nothing_twice(chain, index, put):
    owner, validator, allocator = (chain.account(n) for n in ("owner", "validator", "allocator"))
    attested(index, put(), owner, validator, allocator)
    found = []
    threads = [threading.Thread(target=lambda: found.extend(index.find())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [entry.attested for entry in found] == [1] * 8


def test_a_reading_that_is_interrupted_counts_nothing_twice(chain, index, put, monkeypatch):
    owner, validator, allocator = (chain.account(n) for n in ("owner", "validator", "allocator"))
    fresh = DataIndex.at(chain, index.address)
    assert fresh.find() == []
    attested(index, put(), owner, validator, allocator)
    events = fresh.contract.events

    def cut(after):
        def some(*given, **named):
            for number, event in enumerate(events(*given, **named)):
                if number == after:
                    raise KeyboardInterrupt
                yield event

        return some

    count = len(events(from_block=0, to_block=chain.block_number))
    for after in range(count - 1):
        with monkeypatch.context() as patch:
            patch.setattr(fresh.contract, "events", cut(after))
            with pytest.raises(KeyboardInterrupt):
                fresh.find()
    assert [entry.attested for entry in fresh.find()] == [1]
    assert fresh.validators(1) == [validator.address]
    assert fresh.allocators(1) == [allocator.address]


def attested(index, upload, owner, validator, allocator):
    for account, role in ((validator, "validator"), (allocator, Role.ALLOCATOR)):
        index.grant(1, account, role, sender=owner)
    subject = index.subject(upload)
    made = Attestation.issue(
        subject,
        allocator=allocator,
        validator=validator,
        u_hash=keccak(b"u"),
        facts=PublicFacts(100, subject.schema),
    )
    made.verify(subject, allocators=index.allocators(1), validators=index.validators(1))
    index.attest(upload, made, sender=validator)
    return made


def test_an_attested_upload_is_found_as_such(chain, index, put):
    owner, validator, allocator = (chain.account(n) for n in ("owner", "validator", "allocator"))
    upload, other = put(), put(b"other")
    made = attested(index, upload, owner, validator, allocator)
    assert numbers(index.find(attested=True)) == [upload]
    assert numbers(index.find(attested=False)) == [other]
    assert index.entry(upload).attested == 1
    assert (index.allocators(1), index.validators(1)) == ([allocator.address], [validator.address])
    assert index.has_role(1, validator, "validator")
    assert not index.has_role(1, validator, "allocator")
    with pytest.raises(ContractReverted, match="task was counted before") as caught:
        index.attest(upload, made, sender=owner)
    assert "new task" in caught.value.hint
    with pytest.raises(ContractReverted, match="has not signed this") as caught:
        index.attest(upload, replace(made, u_hash=bytes(32)), sender=owner)
    assert "unchanged" in caught.value.hint
    index.revoke(1, validator, "validator", sender=owner)
    assert index.validators(1) == []
    index.grant(1, validator, "validator", sender=owner)
    assert index.validators(1) == [validator.address]
    for role in ("owner", 3, None):
        with pytest.raises(IndexRefused, match="no role"):
            index.grant(1, validator, role, sender=owner)


def test_assignments_and_verdicts_are_made_for_this_index(chain, index, put):
    owner, validator, allocator = (chain.account(n) for n in ("owner", "validator", "allocator"))
    upload = put()
    index.grant(1, validator, "validator", sender=owner)
    index.grant(1, allocator, "allocator", sender=owner)
    task = index.allocator(allocator).assign(validator.address, FLOWERS.hash)
    facts = PublicFacts(100, FLOWERS.hash)
    made = index.validator(validator).attest(task, index.subject(upload), u_hash=bytes(32), facts=facts)
    assert index.attest(upload, made, sender=allocator).events[0]["publicFieldsHash"] == facts.hash


def test_ownership_passes_on(chain, index):
    owner, lab = chain.account("owner"), chain.account("lab")
    index.offer(1, lab, sender=owner)
    assert index.dataset(1).owner == owner.address
    index.take(1, sender=lab)
    assert index.dataset(1).owner == lab.address
    with pytest.raises(ContractReverted, match="only the owner") as caught:
        index.grant(1, owner, "validator", sender=owner)
    assert "owner" in caught.value.hint


def test_a_look_alike_is_not_taken_for_an_index(chain):
    other = chain.deploy("PredictionDesk", sender=chain.account("owner"))
    with pytest.raises(UnknownContract, match="not that of DataIndex"):
        DataIndex.at(chain, other.address)


def test_entries_show_themselves_and_escape_what_others_wrote(chain, index, put):
    name = "<script>x</script>"
    index.contract.registerDataset(name, ["<b>"], ["int"], sender=chain.account("lab"))
    shown = index.dataset(2)._repr_html_()
    assert "<script>" not in shown
    assert "<b>" not in shown
    assert "&lt;b&gt;" in shown
    first = put()
    second = put(b"two", previous=first)
    index.deprecate(second, sender=chain.account("clinic"))
    assert f"superseded by {second}" in index.entry(first)._repr_html_()
    assert "deprecated" in repr(index.entry(second))
    assert "version 2" in repr(index.entry(second))
    assert "uploads</th>" in index._repr_html_()
    assert "2 uploads" in repr(index.dataset(1))
