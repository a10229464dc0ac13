"""Attestations off chain: what their JSON may be, what signers refuse to sign, and what hashes hide."""

import json
import pickle
from dataclasses import replace

import pytest
from eth_account.messages import encode_typed_data
from eth_hash.auto import keccak

from twopm_kit.chain import Account
from twopm_kit.errors import AttestationError, TwoPMError
from twopm_kit.vsies.attestation import (
    Allocator,
    Assignment,
    Attestation,
    PublicFacts,
    Subject,
    Validator,
    identity_hash,
)

FIELDS = {
    "taskId",
    "schema",
    "uHash",
    "publicFieldsHash",
    "validatorSignature",
    "validatorAddress",
    "allocatorSignature",
}
CONTRACT = "0x" + "11" * 20
SCHEMA = keccak(b"schema")
ALLOCATOR, VALIDATOR = Account("allocator", b"\x01" * 32), Account("validator", b"\x02" * 32)
CLINIC = Account("clinic", b"\x03" * 32)
SUBJECT = Subject(5, CONTRACT, 7, CLINIC.address, keccak(b"root"), SCHEMA)
FACTS = PublicFacts(100, SCHEMA, ("every value is in its range",))
TRUSTED = {"allocators": [ALLOCATOR.address], "validators": [VALIDATOR.address]}


@pytest.fixture(scope="module")
def attestation():
    return Attestation.issue(
        SUBJECT, allocator=ALLOCATOR, validator=VALIDATOR, u_hash=keccak(b"u"), facts=FACTS
    )


def test_json_has_exactly_the_fields_of_the_format_and_comes_back(attestation):
    body = json.loads(attestation.to_json())
    assert set(body) == FIELDS
    assert Attestation.from_json(attestation.to_json()) == attestation
    assert Attestation.from_json(json.dumps(body, indent=2).encode()) == attestation
    lower = {**body, "validatorAddress": body["validatorAddress"].lower()}
    assert Attestation.from_json(json.dumps(lower)) == attestation
    assert attestation.verify(SUBJECT, **TRUSTED) == ALLOCATOR.address


def test_no_length_of_a_text_that_is_cut_short_is_an_attestation(attestation):
    text = attestation.to_json()
    for size in range(len(text)):
        with pytest.raises(AttestationError):
            Attestation.from_json(text[:size])


@pytest.mark.parametrize("field", sorted(FIELDS))
@pytest.mark.parametrize(
    "value",
    [
        None,
        5,
        "",
        "0x",
        "ab" * 32,
        "0x" + "zz" * 32,
        "0x" + "ab" * 31,
        "0x" + "ab" * 66,
        ["0x"],
        {"a": 1},
        True,
    ],
)
def test_a_field_of_another_form_is_refused(attestation, field, value):
    body = json.loads(attestation.to_json())
    with pytest.raises(AttestationError, match=field):
        Attestation.from_json(json.dumps({**body, field: value}))


def test_other_texts_are_refused(attestation):
    body = json.loads(attestation.to_json())
    missing = {name: value for name, value in body.items() if name != "uHash"}
    texts = [
        "", "[]", "null", "5", "{}", "{", "\x00", "é", "[" * 2_000, "{" * 60 + "}" * 60, json.dumps(missing),
        json.dumps({**body, "more": 1}), json.dumps(body) + " " * 5_000, 5, None, body,
    ]  # fmt: skip
    for text in texts:
        with pytest.raises(AttestationError) as caught:
            Attestation.from_json(text)
        assert caught.value.hint
        assert len(str(caught.value)) < 500


def test_the_typed_data_is_that_of_the_standard(attestation):
    """A wallet that knows EIP-712 and nothing of the kit makes the same signatures."""
    text = [("taskId", "bytes32"), ("schema", "bytes32"), ("validatorAddress", "address")]
    domain_types = [("name", "string"), ("version", "string"), ("chainId", "uint256")]
    message = encode_typed_data(
        full_message={
            "primaryType": "Assignment",
            "types": {
                "EIP712Domain": [
                    {"name": name, "type": kind}
                    for name, kind in [*domain_types, ("verifyingContract", "address")]
                ],
                "Assignment": [{"name": name, "type": kind} for name, kind in text],
            },
            "domain": {
                "name": "2PM DataIndex",
                "version": "1",
                "chainId": 5,
                "verifyingContract": CONTRACT,
            },
            "message": {
                "taskId": attestation.task_id,
                "schema": SCHEMA,
                "validatorAddress": VALIDATOR.address,
            },
        }
    )
    from eth_account import Account as Wallet

    assert Wallet.recover_message(message, signature=attestation.allocator_signature) == ALLOCATOR.address


def test_an_assignment_travels_as_json():
    assignment = Allocator(ALLOCATOR, 5, CONTRACT).assign(VALIDATOR.address, SCHEMA)
    assert Assignment.from_json(assignment.to_json()) == assignment
    assert set(json.loads(assignment.to_json())) == FIELDS - {
        "uHash",
        "publicFieldsHash",
        "validatorSignature",
    }
    assert assignment.task_id != Allocator(ALLOCATOR, 5, CONTRACT).assign(VALIDATOR.address, SCHEMA).task_id
    with pytest.raises(AttestationError, match="Assignment"):
        Assignment.from_json("{}")


def test_a_validator_signs_only_what_was_assigned_to_it():
    allocator = Allocator(ALLOCATOR, 5, CONTRACT)
    validator = Validator(VALIDATOR, 5, CONTRACT)
    task = allocator.assign(VALIDATOR.address, SCHEMA)
    cases = [
        (allocator.assign(CLINIC.address, SCHEMA), SUBJECT, FACTS, "the task is for"),
        (allocator.assign(VALIDATOR.address, keccak(b"other")), SUBJECT, FACTS, "another schema"),
        (task, SUBJECT, PublicFacts(1, keccak(b"other")), "the facts are of another schema"),
        (task, Subject(6, CONTRACT, 7, CLINIC.address, SUBJECT.root, SCHEMA), FACTS, "another chain"),
        (task, Subject(5, CLINIC.address, 7, CLINIC.address, SUBJECT.root, SCHEMA), FACTS, "another index"),
    ]
    for assignment, subject, facts, words in cases:
        with pytest.raises(AttestationError, match=words):
            validator.attest(assignment, subject, u_hash=bytes(32), facts=facts)
    with pytest.raises(AttestationError, match="uHash"):
        validator.attest(task, SUBJECT, u_hash=b"short", facts=FACTS)


def test_a_demo_that_checks_one_signature_could_be_cheated_and_this_cannot(attestation):
    """Who appoints itself as a validator has no allocator's signature for it."""
    forger = Account("forger")
    own = Attestation.issue(SUBJECT, allocator=forger, validator=forger, u_hash=bytes(32), facts=FACTS)
    with pytest.raises(AttestationError, match="allocator is not trusted here"):
        own.verify(SUBJECT, allocators=[ALLOCATOR.address], validators=[forger.address])
    stolen = Attestation(
        task_id=attestation.task_id,
        schema=own.schema,
        u_hash=own.u_hash,
        public_fields_hash=own.public_fields_hash,
        validator_signature=own.validator_signature,
        validator_address=own.validator_address,
        allocator_signature=attestation.allocator_signature,
    )
    with pytest.raises(AttestationError, match="allocator is not trusted here"):
        stolen.verify(SUBJECT, allocators=[ALLOCATOR.address], validators=[forger.address])


def test_who_signed_is_told_whoever_it_is(attestation):
    assert attestation.signed_by(SUBJECT) == (ALLOCATOR.address, VALIDATOR.address)
    moved = replace(attestation, public_fields_hash=keccak(b"other"))
    allocator, signer = moved.signed_by(SUBJECT)
    assert allocator == ALLOCATOR.address
    assert signer not in (ALLOCATOR.address, VALIDATOR.address)


def test_public_facts_have_one_text_and_one_hash():
    assert FACTS.to_json() == (
        '{"checks":["every value is in its range"],"rows":100,"schema":"0x' + SCHEMA.hex() + '"}'
    )
    others = [
        PublicFacts(101, SCHEMA, FACTS.checks),
        PublicFacts(100, keccak(b"other"), FACTS.checks),
        PublicFacts(100, SCHEMA),
        PublicFacts(100, SCHEMA, ("every value is", "in its range")),
    ]
    assert len({FACTS.hash, *(facts.hash for facts in others)}) == 5
    for bad in ((-1, SCHEMA), (True, SCHEMA), (1.0, SCHEMA), (1, b"short"), (1, SCHEMA, ["list"]),
                (1, SCHEMA, ("",)), (1, SCHEMA, ("x" * 201,)), (1, SCHEMA, ("x",) * 65)):  # fmt: skip
        with pytest.raises(AttestationError):
            PublicFacts(*bad)


def test_the_identity_of_data_is_hidden_by_its_salt():
    one, two = b"\x01" * 32, b"\x02" * 32
    assert identity_hash(one, two) == identity_hash(one, two)
    assert len({identity_hash(one, two), identity_hash(two, one), identity_hash(one, one), keccak(one)}) == 4
    for bad in ((b"", two), (one, b""), (one, b"short"), ("text", two)):
        with pytest.raises(AttestationError, match="expected 32 bytes"):
            identity_hash(*bad)


def test_signers_show_addresses_and_never_keys(attestation):
    shown = [Allocator(ALLOCATOR, 5, CONTRACT), Validator(VALIDATOR, 5, CONTRACT), attestation]
    for one in shown:
        text = repr(one) + getattr(one, "_repr_html_", str)()
        assert "01" * 32 not in text
        assert "02" * 32 not in text
    assert attestation.validator_address in attestation._repr_html_()
    for signer in shown[:2]:
        with pytest.raises(TwoPMError):
            pickle.dumps(signer)
