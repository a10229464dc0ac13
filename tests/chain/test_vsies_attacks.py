"""What hostile accounts try with the contracts of the data service, and what readers make of it."""

import os

import numpy as np
import pandas as pd
import pytest

from twopm_kit.errors import ProofRefused
from twopm_kit.vsies import Attestation, DataClient, DataIndex, Field, PublicFacts, Schema, content_id
from twopm_kit.vsies.proofs import ColumnProofs, CommittedColumn, prove_range
from twopm_kit.vsies.proofs.polynomials import ROWS
from twopm_kit.vsies.rows import RowCommitment
from twopm_kit.vsies.spot import SpotCheck

AGES = Schema("ages", [Field("age", "int", low=0, high=120)])


@pytest.fixture(scope="module")
def chain(kept_chain):
    return kept_chain


@pytest.fixture
def mallory(chain):
    return chain.account("mallory")


@pytest.fixture
def index(chain, alice):
    return DataIndex.deploy(chain, alice)


def garbage(index, dataset, sender):
    """List random bytes that nobody holds."""
    return index.upload(
        dataset,
        root="0x" + os.urandom(32).hex(),
        cid=content_id(os.urandom(100)),
        rows=1_000_000,
        size=100,
        schema=AGES,
        key_fingerprint=os.urandom(16).hex(),
        sender=sender,
    )


def test_places_that_are_no_rows_cannot_carry_a_sum(chain, mallory):
    """One row of 0 to 10, and a sum of 20,000: the other 2,047 places would have to be counted."""
    proofs = ColumnProofs.deploy(chain, mallory)
    context = proofs.context(1, mallory, "age")
    column = CommittedColumn(np.full(ROWS, 10, dtype=np.int64), 1, 0, 10)
    with pytest.raises(ProofRefused, match="does not hold"):
        proofs.verify(prove_range(column, context=context), sender=mallory)
    proofs.verify(prove_range(CommittedColumn.commit([10], 0, 10), context=context), sender=mallory)


def test_an_attestation_counts_for_those_who_trust_the_owner(chain, index, alice, mallory):
    """Anybody may own a dataset of a schema and trust validators that are himself."""
    dataset = index.register(AGES, sender=mallory)
    friends = [chain.account("mallory two"), chain.account("mallory three")]
    index.grant(dataset, friends[0], "allocator", sender=mallory)
    index.grant(dataset, friends[1], "validator", sender=mallory)
    upload = garbage(index, dataset, mallory)
    made = Attestation.issue(
        index.subject(upload),
        allocator=friends[0],
        validator=friends[1],
        u_hash=os.urandom(32),
        facts=PublicFacts(1_000_000, AGES.hash, ("every row is true",)),
    )
    index.attest(upload, made, sender=mallory)
    assert [found.upload_id for found in index.find(AGES, attested=True)] == [upload]
    assert index.find(AGES, attested=True, owner=alice) == []
    assert [found.upload_id for found in index.find(AGES, attested=True, owner=mallory)] == [upload]


def test_other_fields_under_a_schema_keep_nobody_out(chain, index, alice, mallory, tmp_path):
    """The contract cannot tell that a hash is of other fields than those that are registered with it."""
    index.contract.registerDataset("ages", ["cost"], ["float"], AGES.hash, sender=mallory)
    client = DataClient(chain=chain, account=alice, index=index, workdir=tmp_path / "work")
    number = client.register(AGES)
    assert index.dataset(number).owner == alice.address
    assert client.register(AGES) == number


def test_a_check_of_a_tiny_table_is_not_taken_for_one_of_all_rows(chain, mallory):
    """A table of one row passes any number of draws."""
    spot = SpotCheck.deploy(chain, mallory)
    one = RowCommitment(AGES, AGES.validate(pd.DataFrame({"age": [40]})), os.urandom(32))
    check = spot.commit(9, one, 64, sender=mallory).check_id
    chain.mine(SpotCheck.DELAY)
    spot.open(check, one, sender=mallory)
    with pytest.raises(ProofRefused, match="it is to 1 rows"):
        spot.demand(check, AGES, contributor=mallory, subject=9, n_rows=1_000_000)
    with pytest.raises(TypeError, match="n_rows"):
        spot.demand(check, AGES, contributor=mallory, subject=9)
