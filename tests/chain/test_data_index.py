"""The index of datasets: who may do what, what fits, and which attestations count."""

from dataclasses import replace

import pytest
from eth_hash.auto import keccak

from twopm_kit.errors import AttestationError, ContractReverted
from twopm_kit.vsies.attestation import Allocator, Attestation, PublicFacts, Subject, Validator
from twopm_kit.vsies.index import structure_hash

PEOPLE = "deployer", "owner", "clinic", "validator", "allocator", "stranger"
ZERO = bytes(32)
NOBODY = "0x" + "00" * 20
NAMES, TYPES = ["age", "smoker", "stage", "visits"], ["float", "bool", "category", "int"]
STRUCTURE = structure_hash(dict(zip(NAMES, TYPES, strict=True)))
SCHEMA = keccak(b"schema")
VALIDATOR, ALLOCATOR = 1, 2
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def planned(**changes):
    """Arguments of an upload that fits dataset 1."""
    fields = {
        "dataset": 1,
        "root": keccak(b"root"),
        "cid": keccak(b"cid"),
        "rows": 100,
        "size": 5_000,
        "structure": STRUCTURE,
        "schema": SCHEMA,
        "standard": ZERO,
        "key": bytes(range(16)),
        "previous": 0,
    }
    return list({**fields, **changes}.values())


class Story:
    """An index with one dataset, whom its owner trusts, and who contributes."""

    def __init__(self, chain):
        self.chain = chain
        self.people = {name: chain.account(name) for name in PEOPLE}
        for name, account in self.people.items():
            setattr(self, name, account)
        self.index = chain.deploy("DataIndex", sender=self.deployer)
        self.index.registerDataset("patients", NAMES, TYPES, SCHEMA, sender=self.owner)

    def upload(self, word=b"root", who=None, **changes):
        arguments = planned(root=keccak(word), **changes)
        receipt = self.index.uploadData(*arguments, sender=who or self.clinic)
        return receipt.events[0]["uploadId"]

    def trust(self):
        self.index.grant(1, self.validator, VALIDATOR, sender=self.owner)
        self.index.grant(1, self.allocator, ALLOCATOR, sender=self.owner)

    def subject(self, upload, **changes):
        info = self.index.upload(upload)
        place = self.chain.chain_id, self.index.address
        return replace(Subject(*place, upload, info.contributor, info.data_hash, info.schema_hash), **changes)

    def issue(self, subject, **people):
        signers = {"allocator": self.allocator, "validator": self.validator, **people}
        facts = PublicFacts(100, subject.schema, ("ranges",))
        return Attestation.issue(subject, **signers, u_hash=keccak(b"u"), facts=facts)

    def attest(self, upload, a, **options):
        options = {"sender": self.stranger, **options}
        hashes = a.task_id, a.schema, a.u_hash, a.public_fields_hash
        signed = a.validator_signature, a.validator_address, a.allocator_signature
        return self.index.attest(upload, *hashes, *signed, **options)


@pytest.fixture
def story(kept_chain):
    for name in PEOPLE:
        kept_chain.account(name)  # their coins come before what is undone
    with kept_chain.snapshot():
        yield Story(kept_chain)


def refused(reason, call, *arguments, **options):
    with pytest.raises(ContractReverted) as caught:
        call(*arguments, **options)
    assert caught.value.reason == reason


# Datasets ------------------------------------------------------------------------------------------------


def test_the_documented_calls_work_as_documented(story):
    index = story.index
    receipt = index.registerDataset("two", ["x", "größe"], ["int", "float"], sender=story.owner)
    said = receipt.events[0]
    assert (said.name, said["datasetId"], said["owner"]) == ("DatasetRegistered", 2, story.owner.address)
    assert (said["schemaHash"], said["name"]) == (ZERO, "two")
    assert (said["fieldNames"], said["fieldTypes"]) == (["x", "größe"], ["int", "float"])
    assert [index.getFieldType(2, name) for name in ("x", "größe")] == ["int", "float"]
    assert [index.getFieldType(1, name) for name in NAMES] == TYPES
    refused("unknown field", index.getFieldType, 2, "y")
    refused("unknown field", index.getFieldType, 2, "")
    refused("unknown dataset", index.getFieldType, 3, "x")
    refused("unknown dataset", index.getFieldType, 0, "x")


def test_the_structure_is_one_hash_of_names_and_types_in_order(story):
    assert story.index.dataset(1).structure_hash == STRUCTURE
    assert structure_hash(dict(zip(NAMES[::-1], TYPES[::-1], strict=True))) != STRUCTURE
    assert structure_hash(dict(zip(NAMES, [*TYPES[1:], TYPES[0]], strict=True))) != STRUCTURE
    info = story.index.dataset(1)
    assert (info.name, info.owner, info.fields, info.uploads) == ("patients", story.owner.address, 4, 0)
    assert info.registered_at >= story.index.first_block() > 0
    assert not info.closed


@pytest.mark.parametrize(
    ("name", "names", "types", "reason"),
    [
        ("", ["a"], ["int"], "name is empty"),
        ("d", [], [], "no fields"),
        ("d", ["a", "b"], ["int"], "one type for each field"),
        ("d", ["a"], ["int", "int"], "one type for each field"),
        ("d", ["a", ""], ["int", "int"], "field name is empty"),
        ("d", ["a", "b", "a"], ["int", "bool", "float"], "field name is repeated"),
        ("d", ["a"], ["Float"], "unknown field type"),
        ("d", ["a"], [""], "unknown field type"),
        ("d", ["a"], ["string"], "unknown field type"),
    ],
)
def test_a_structure_that_makes_no_sense_is_refused(story, name, names, types, reason):
    refused(reason, story.index.registerDataset, name, names, types, sender=story.owner)
    assert story.index.dataset_count() == 1


def test_names_have_64_bytes_at_most(story):
    story.index.registerDataset("n" * 64, ["é" * 32], ["int"], sender=story.owner)
    assert story.index.getFieldType(2, "é" * 32) == "int"
    for names in (("n" * 65, "a"), ("n", "a" * 65)):
        with pytest.raises(ContractReverted):
            story.index.registerDataset(names[0], [names[1]], ["int"], sender=story.owner)


def with_name(contract, good, raw):
    """Call data of a registration in which a name of the same length is other bytes."""
    data = contract.method("registerDataset").encode("set", [good], ["int"], SCHEMA)
    length = len(raw).to_bytes(32)
    assert data.count(length + good.encode()) == 1
    return data.replace(length + good.encode(), length + raw)


def test_what_is_not_utf8_is_refused_and_what_is_passes(kept_chain, story):
    words = [
        "a\x7f",
        "a\x80",
        "ab\u07ff",
        "\u0800x",
        "\ud7ff",
        "\ue000",
        "\uffff",
        "\U00010000",
        "\U0010ffff",
    ]
    words += ["größe", "日本", "x" * 30 + "日", "x" * 31 + "é", "x" * 61 + "€"]
    story.index.registerDataset("words", words, ["int"] * len(words), sender=story.owner)
    assert [story.index.getFieldType(2, word) for word in words] == ["int"] * len(words)
    bad = [b"\x80", b"\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xc3", b"\xc3(", b"\xe0\x9f\xbf", b"\xed\xa0\x80"]
    bad += [b"\xe2\x82", b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xff", b"a\xf8"]
    bad += [b"\xf0\x90\x80", b"x" * 31 + b"\xc3(", b"x" * 63 + b"\xc3", b"\xc3\xa9\xa9"]
    for raw in bad:
        with pytest.raises(UnicodeDecodeError):
            raw.decode()
        data = with_name(story.index, "q" * len(raw), raw)
        with pytest.raises(ContractReverted, match="field name is not UTF-8"):
            kept_chain.call(story.index.address, data, sender=story.owner.address, label="registerDataset")


def test_a_wide_dataset_fits_one_transaction(story):
    names = [f"{i:03d}".ljust(64, "x") for i in range(256)]
    receipt = story.index.registerDataset("wide", names, ["float"] * 256, SCHEMA, sender=story.owner)
    assert receipt.gas < 8_000_000
    assert story.index.getFieldType(2, names[-1]) == "float"
    awkward = [f"{i:04d}" + "é" * 30 for i in range(128)]
    receipt = story.index.registerDataset("odd", awkward, ["int"] * 128, SCHEMA, sender=story.owner)
    assert receipt.gas < 8_000_000
    with pytest.raises(ContractReverted):
        story.index.registerDataset("w", [*names, "one"], ["int"] * 257, SCHEMA, sender=story.owner)


def test_only_owners_close_and_close_once(story):
    index = story.index
    for who in (story.clinic, story.stranger):
        refused("only an owner closes a dataset", index.close, 1, sender=who)
    for number in (0, 2):
        refused("unknown dataset", index.close, number, sender=story.deployer)
    for who in (story.deployer, story.owner):
        with story.chain.snapshot():
            assert index.close(1, sender=who).events[0]["by"] == who.address
            refused("dataset is closed", index.close, 1, sender=story.owner)
            refused("dataset is closed", index.uploadData, *planned(), sender=story.clinic)


@pytest.mark.parametrize(("number", "holder"), [(0, "deployer"), (1, "owner")])
def test_ownership_passes_on_in_two_steps(story, number, holder):
    index, first, heir = story.index, story.people[holder], story.clinic
    refused("ownership was not offered to you", index.take, number, sender=heir)
    refused("only the owner may do this", index.offer, number, heir, sender=heir)
    index.offer(number, heir, sender=first)
    refused("ownership was not offered to you", index.take, number, sender=story.stranger)
    index.offer(number, NOBODY, sender=first)
    refused("ownership was not offered to you", index.take, number, sender=heir)
    index.offer(number, heir, sender=first)
    assert index.dataset(number).owner == first.address
    assert index.take(number, sender=heir).events[0]["owner"] == heir.address
    assert (index.dataset(number).owner, index.dataset(number).offered_to) == (heir.address, NOBODY)
    refused("only the owner may do this", index.offer, number, first, sender=first)
    refused("ownership was not offered to you", index.take, number, sender=heir)
    refused("unknown dataset", index.take, 2, sender=heir)
    refused("unknown dataset", index.offer, 2, heir, sender=heir)


def test_the_owner_of_the_index_has_no_right_in_a_dataset_but_to_close_it(story):
    index, upload = story.index, story.upload()
    refused("only the owner may do this", index.grant, 1, story.validator, 1, sender=story.deployer)
    refused("only the owner may do this", index.offer, 1, story.deployer, sender=story.deployer)
    refused("only contributor or owner deprecates", index.deprecate, upload, ZERO, sender=story.deployer)


def test_roles_are_granted_and_revoked_by_the_datasets_owner(story):
    index, account = story.index, story.validator
    index.registerDataset("other", ["a"], ["int"], sender=story.stranger)
    for role in (VALIDATOR, ALLOCATOR):
        assert not index.has_role(1, account, role)
        refused("role was not granted", index.revoke, 1, account, role, sender=story.owner)
        refused("only the owner may do this", index.grant, 1, account, role, sender=story.stranger)
        assert dict(index.grant(1, account, role, sender=story.owner).events[0].args) == {
            "datasetId": 1,
            "account": account.address,
            "role": role,
        }
        refused("role was granted before", index.grant, 1, account, role, sender=story.owner)
        assert index.has_role(1, account, role)
        assert not index.has_role(2, account, role)
    assert index.has_role(1, account, 3)
    assert not index.has_role(1, account, 0)
    refused("only the owner may do this", index.revoke, 1, account, VALIDATOR, sender=account)
    index.revoke(1, account, VALIDATOR, sender=story.owner)
    assert [index.has_role(1, account, role) for role in (1, 2, 3)] == [False, True, False]
    for role in (0, 3, 4):
        refused("unknown role", index.grant, 1, account, role, sender=story.owner)
        refused("unknown role", index.revoke, 1, account, role, sender=story.owner)
    refused("account is zero", index.grant, 1, NOBODY, 1, sender=story.owner)
    for number in (0, 3):
        refused("unknown dataset", index.grant, number, account, 1, sender=story.deployer)
        refused("unknown dataset", index.revoke, number, account, 1, sender=story.deployer)


# Uploads -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dataset": 0}, "unknown dataset"),
        ({"dataset": 2}, "unknown dataset"),
        ({"structure": keccak(b"else")}, "fields are not the dataset's"),
        ({"schema": keccak(b"else")}, "schema is not the dataset's"),
        ({"schema": ZERO}, "schema is not the dataset's"),
        ({"root": ZERO}, "data hash is zero"),
        ({"cid": ZERO}, "content identifier is zero"),
        ({"key": bytes(16)}, "key fingerprint is zero"),
        ({"rows": 0}, "rows out of range"),
        ({"rows": 2**48 + 1}, "rows out of range"),
        ({"rows": 2**255}, "rows out of range"),
        ({"size": 0}, "size out of range"),
        ({"size": 2**56 + 1}, "size out of range"),
        ({"previous": 1}, "unknown upload"),
        ({"previous": 2**255}, "unknown upload"),
    ],
)
def test_an_upload_that_does_not_fit_is_refused(story, changes, reason):
    refused(reason, story.index.uploadData, *planned(**changes), sender=story.clinic)
    assert story.index.upload_count() == 0
    assert story.index.dataset(1).uploads == 0


def test_an_upload_says_all_and_only_hashes_and_counts(story):
    largest = planned(rows=2**48, size=2**56, standard=keccak(b"standard"))
    receipt = story.index.uploadData(*largest, sender=story.clinic)
    said = receipt.events[0]
    assert (said["uploadId"], said["datasetId"], said["contributor"]) == (1, 1, story.clinic.address)
    info = story.index.upload(1)
    assert (info.dataset_id, info.contributor) == (1, story.clinic.address)
    assert (info.data_hash, info.cid_digest) == (keccak(b"root"), keccak(b"cid"))
    assert (info.rows, info.size, info.uploaded_at) == (2**48, 2**56, receipt.block)
    assert (info.schema_hash, info.standard_hash) == (SCHEMA, keccak(b"standard"))
    assert (info.key_fingerprint, info.version, info.previous) == (bytes(range(16)), 1, 0)
    assert (info.superseded_by, info.attestations, info.deprecated) == (0, 0, False)
    assert all(
        said[n] == v
        for n, v in zip(("rows", "size", "version", "previous"), (2**48, 2**56, 1, 0), strict=True)
    )
    assert story.index.upload_of(1, keccak(b"root")) == 1
    assert story.index.dataset(1).uploads == 1
    assert story.index.upload(2).dataset_id == 0


def test_a_root_counts_once_in_a_dataset(story):
    story.upload()
    for who in (story.clinic, story.stranger):
        refused("already uploaded", story.index.uploadData, *planned(), sender=who)
    story.index.registerDataset("patients", NAMES, TYPES, SCHEMA, sender=story.owner)
    assert story.upload(dataset=2) == 2
    story.index.deprecate(1, ZERO, sender=story.clinic)
    refused("already uploaded", story.index.uploadData, *planned(), sender=story.clinic)


def test_a_dataset_without_a_schema_takes_uploads_without_one(story):
    story.index.registerDataset("bare", NAMES, TYPES, sender=story.owner)
    refused("schema is not the dataset's", story.index.uploadData, *planned(dataset=2), sender=story.clinic)
    assert story.upload(dataset=2, schema=ZERO) == 1


def test_versions_form_one_line_of_one_contributor(story):
    index = story.index
    first, foreign = story.upload(), story.upload(b"foreign", story.stranger)
    index.registerDataset("patients", NAMES, TYPES, SCHEMA, sender=story.owner)

    def follow(previous, dataset=1):
        return planned(root=keccak(b"next"), previous=previous, dataset=dataset)

    refused(
        "only the contributor supersedes an upload", index.uploadData, *follow(foreign), sender=story.clinic
    )
    refused("previous is of another dataset", index.uploadData, *follow(first, 2), sender=story.clinic)
    refused("unknown upload", index.uploadData, *follow(3), sender=story.clinic)
    second = story.upload(b"second", previous=first)
    refused("already superseded", index.uploadData, *follow(first), sender=story.clinic)
    index.deprecate(second, ZERO, sender=story.clinic)
    third = story.upload(b"third", previous=second)
    line = [index.upload(number) for number in (first, second, third)]
    assert [(u.version, u.previous, u.superseded_by) for u in line] == [
        (1, 0, second),
        (2, first, third),
        (3, second, 0),
    ]
    assert [u.deprecated for u in line] == [False, True, False]


def test_contributor_and_owner_deprecate_once(story):
    index, upload = story.index, story.upload()
    refused("unknown upload", index.deprecate, 2, ZERO, sender=story.owner)
    refused("unknown upload", index.deprecate, 0, ZERO, sender=story.owner)
    refused("only contributor or owner deprecates", index.deprecate, upload, ZERO, sender=story.stranger)
    for who in (story.clinic, story.owner):
        with story.chain.snapshot():
            said = index.deprecate(upload, keccak(b"typo"), sender=who).events[0]
            assert (said["by"], said["reasonHash"]) == (who.address, keccak(b"typo"))
            assert index.upload(upload).deprecated
            refused("already deprecated", index.deprecate, upload, ZERO, sender=story.owner)


# Attestations --------------------------------------------------------------------------------------------


def verdicts(story, upload, attestation):
    """What chain and kit say to an attestation: None, or the reason."""
    trusted = {
        role: [a.address for a in story.people.values() if story.index.has_role(1, a, role)]
        for role in (1, 2)
    }
    said = []
    for check in (
        lambda: story.attest(upload, attestation),
        lambda: attestation.verify(story.subject(upload), validators=trusted[1], allocators=trusted[2]),
    ):
        with story.chain.snapshot():
            try:
                check()
                said.append(None)
            except ContractReverted as error:
                said.append(error.reason)
            except AttestationError as error:
                said.append(error.message.removeprefix("the attestation is refused: "))
    assert said[0] == said[1]
    return said[0]


def test_a_good_attestation_counts_once_whoever_brings_it(story):
    upload = story.upload()
    story.trust()
    attestation = story.issue(story.subject(upload))
    assert verdicts(story, upload, attestation) is None
    said = story.attest(upload, attestation).events[0]
    assert said["validator"] == story.validator.address
    assert said["allocator"] == story.allocator.address
    assert (said["taskId"], said["schema"]) == (attestation.task_id, SCHEMA)
    assert (said["uHash"], said["publicFieldsHash"]) == (keccak(b"u"), attestation.public_fields_hash)
    assert story.index.upload(upload).attestations == 1
    assert story.index.counted(story.allocator, attestation.task_id) == upload
    refused("task was counted before", story.attest, upload, attestation)
    story.attest(upload, story.issue(story.subject(upload)))
    assert story.index.upload(upload).attestations == 2
    info = story.index.upload(upload)
    assert (info.contributor, info.version, info.deprecated) == (story.clinic.address, 1, False)


def flipped(value):
    return bytes([value[0] ^ 1]) + value[1:]


def high(signature):
    """The other form of a signature, which recovers to the same account."""
    s = ORDER - int.from_bytes(signature[32:64])
    return signature[:32] + s.to_bytes(32) + bytes([55 - signature[64]])


MUTATIONS = {
    "task": lambda a: {"task_id": flipped(a.task_id)},
    "schema": lambda a: {"schema": flipped(a.schema)},
    "no schema": lambda _: {"schema": ZERO},
    "user": lambda a: {"u_hash": flipped(a.u_hash)},
    "facts": lambda a: {"public_fields_hash": flipped(a.public_fields_hash)},
    "validator's r": lambda a: {"validator_signature": flipped(a.validator_signature)},
    "allocator's r": lambda a: {"allocator_signature": flipped(a.allocator_signature)},
    "validator is zero": lambda _: {"validator_address": NOBODY},
    "validator is another": lambda _: {"validator_address": "0x" + "11" * 20},
    "swapped": lambda a: {
        "validator_signature": a.allocator_signature,
        "allocator_signature": a.validator_signature,
    },
    "validator signs twice": lambda a: {"allocator_signature": a.validator_signature},
    "allocator signs twice": lambda a: {"validator_signature": a.allocator_signature},
    **{
        f"{who}: {how}": lambda a, field=f"{who}_signature", change=change: {field: change(getattr(a, field))}
        for who in ("validator", "allocator")
        for how, change in {
            "high s": high,
            "s + 1": lambda x: x[:32] + (int.from_bytes(x[32:64]) + 1).to_bytes(32) + x[64:],
            "other v": lambda x: x[:64] + bytes([55 - x[64]]),
            "v of 0 or 1": lambda x: x[:64] + bytes([x[64] - 27]),
            "v of EIP-155": lambda x: x[:64] + bytes([x[64] + 10]),
            "v of 255": lambda x: x[:64] + b"\xff",
            "zero": lambda _: bytes(65),
            "zero with v": lambda _: bytes(64) + b"\x1b",
            "zero s": lambda x: x[:32] + ZERO + x[64:],
            "r beyond the order": lambda x: ORDER.to_bytes(32) + x[32:],
            "r of ones": lambda x: b"\xff" * 32 + x[32:],
        }.items()
    },
}


def test_every_single_change_is_refused_on_chain_and_off_with_the_same_words(story):
    upload = story.upload()
    story.trust()
    attestation = story.issue(story.subject(upload))
    reasons = {
        name: verdicts(story, upload, replace(attestation, **change(attestation)))
        for name, change in MUTATIONS.items()
    }
    assert [name for name, reason in reasons.items() if reason is None] == []
    assert (
        reasons["validator: high s"] == reasons["allocator: high s"] == "signature is not in its lower form"
    )
    assert reasons["validator: v of 0 or 1"] == "signature ends neither in 27 nor in 28"
    assert reasons["validator: zero with v"] == reasons["allocator: r of ones"] == "signature is nobody's"
    assert reasons["swapped"] == "allocator is not trusted here"
    assert reasons["user"] == reasons["facts"] == "validator has not signed this"
    assert reasons["schema"] == "attestation is for another schema"


def test_signatures_of_other_lengths_are_refused(story):
    upload = story.upload()
    story.trust()
    a = story.issue(story.subject(upload))
    hashes = a.task_id, a.schema, a.u_hash, a.public_fields_hash
    for one, two in ((b"", a.allocator_signature), (a.validator_signature, a.allocator_signature[:64])):
        reason = "signature is not 65 bytes"
        refused(
            reason, story.index.attest, upload, *hashes, one, a.validator_address, two, sender=story.owner
        )
        with pytest.raises(AttestationError, match="expected 65 bytes"):
            replace(a, validator_signature=one, allocator_signature=two)


def test_an_attestation_cannot_be_carried_elsewhere(story):
    """To another upload, contributor, root, chain or contract."""
    upload, foreign = story.upload(), story.upload(b"foreign", story.stranger)
    newer = story.upload(b"newer", previous=upload)
    story.trust()
    right = story.subject(upload)
    good = story.issue(right)
    for other in (foreign, newer):
        assert verdicts(story, other, good) == "validator has not signed this"
    for change in (
        {"upload_id": newer},
        {"contributor": story.stranger.address},
        {"root": keccak(b"another")},
    ):
        made = story.issue(replace(right, **change))
        assert verdicts(story, upload, made) == "validator has not signed this", change
    for change in ({"chain_id": right.chain_id + 1}, {"contract": story.stranger.address}):
        made = story.issue(replace(right, **change))
        assert verdicts(story, upload, made) == "allocator is not trusted here", change
        mixed = replace(made, allocator_signature=good.allocator_signature, task_id=good.task_id)
        assert verdicts(story, upload, mixed) == "validator has not signed this", change
    assert verdicts(story, upload, good) is None


def test_a_twin_index_on_the_same_chain_refuses_it(story):
    upload = story.upload()
    story.trust()
    good = story.issue(story.subject(upload))
    twin = Story(story.chain)
    assert twin.upload() == upload
    twin.trust()
    assert verdicts(twin, upload, good) == "allocator is not trusted here"
    assert verdicts(story, upload, good) is None


def test_only_trusted_roles_count_and_only_while_they_are_trusted(story):
    upload = story.upload()
    subject = story.subject(upload)
    good = story.issue(subject)
    assert verdicts(story, upload, good) == "allocator is not trusted here"
    story.index.grant(1, story.allocator, ALLOCATOR, sender=story.owner)
    assert verdicts(story, upload, good) == "validator is not trusted here"
    story.index.grant(1, story.validator, ALLOCATOR, sender=story.owner)
    assert verdicts(story, upload, good) == "validator is not trusted here"
    story.index.grant(1, story.validator, VALIDATOR, sender=story.owner)
    assert verdicts(story, upload, good) is None
    alone = story.issue(subject, allocator=story.validator)
    assert verdicts(story, upload, alone) == "allocator and validator are one"
    wrong_way = story.issue(subject, allocator=story.stranger, validator=story.allocator)
    assert verdicts(story, upload, wrong_way) == "allocator is not trusted here"
    story.index.revoke(1, story.allocator, ALLOCATOR, sender=story.owner)
    assert verdicts(story, upload, good) == "allocator is not trusted here"


@pytest.mark.parametrize("role", ["allocator", "validator"])
def test_contributors_do_not_attest_themselves(story, role):
    upload = story.upload()
    story.trust()
    story.index.grant(
        1, story.clinic, {"allocator": ALLOCATOR, "validator": VALIDATOR}[role], sender=story.owner
    )
    own = story.issue(story.subject(upload), **{role: story.clinic})
    assert verdicts(story, upload, own) == "contributor attests itself"


def test_what_is_gone_or_has_no_schema_is_not_attested(story):
    upload = story.upload()
    story.trust()
    good = story.issue(story.subject(upload))
    for number in (0, 2):
        refused("unknown upload", story.attest, number, good)
    with story.chain.snapshot():
        story.index.close(1, sender=story.owner)
        assert verdicts(story, upload, good) is None
    story.index.deprecate(upload, ZERO, sender=story.clinic)
    refused("upload is deprecated", story.attest, upload, good)
    story.index.registerDataset("bare", NAMES, TYPES, sender=story.owner)
    bare = story.upload(b"bare", dataset=2, schema=ZERO)
    refused("dataset has no schema", story.attest, bare, story.issue(story.subject(bare)))


def test_nobody_uses_up_the_tasks_of_an_allocator_but_itself(story):
    """A stranger's own dataset, in which it trusts itself, cannot spend somebody else's task."""
    upload = story.upload()
    story.trust()
    subject, place = story.subject(upload), (story.chain.chain_id, story.index.address)
    task = keccak(b"task")
    index, thief, friend = story.index, story.stranger, story.deployer
    index.registerDataset("trap", NAMES, TYPES, SCHEMA, sender=thief)
    index.grant(2, thief, ALLOCATOR, sender=thief)
    index.grant(2, friend, VALIDATOR, sender=thief)
    trap = story.subject(story.upload(b"trap", dataset=2))
    for allocator, validator, about in (
        (thief, friend, trap),
        (story.allocator, story.validator, subject),
    ):
        assigned = Allocator(allocator, *place).assign(validator.address, SCHEMA, task_id=task)
        facts = PublicFacts(100, SCHEMA)
        made = Validator(validator, *place).attest(assigned, about, u_hash=ZERO, facts=facts)
        story.attest(about.upload_id, made)
        assert index.counted(allocator, task) == about.upload_id
