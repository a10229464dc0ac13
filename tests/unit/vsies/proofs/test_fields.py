"""Columns of a schema become whole numbers of steps, in parts, and are proven part by part."""

import numpy as np
import pandas as pd
import pytest

import twopm_kit as kit
from twopm_kit.errors import ProofRefused, SchemaError
from twopm_kit.vsies import ColumnProofs, Field, commit_field, in_steps

TEMPERATURE = Field("temperature", "float", low=34.0, high=43.0, unit="°C", resolution=0.1)


def test_steps_keep_what_the_field_allows():
    values = np.array([34.0, 34.04, 36.65, 42.96, 43.0])
    steps = in_steps(TEMPERATURE, values)
    assert list(steps) == [340, 340, 366, 430, 430]
    (column,) = commit_field(TEMPERATURE, values)
    assert (column.low, column.high, column.rows) == (340, 430, 5)


def test_every_kind_with_a_range_is_counted():
    assert list(in_steps(Field("smoker", "bool"), pd.Series([True, False]))) == [1, 0]
    assert list(in_steps(Field("age", "int", low=0, high=120), pd.Series([7, 99]))) == [7, 99]
    wide = Field("wage", "int", low=0, high=90_000, resolution=10)
    assert list(in_steps(wide, pd.Series([123, 129], dtype="Int64"))) == [12, 13]


def test_long_columns_are_cut():
    values = np.random.default_rng(5).uniform(34, 43, 5_000)
    assert [column.rows for column in commit_field(TEMPERATURE, values)] == [2_048, 2_048, 904]


@pytest.mark.parametrize(
    ("field", "values", "says"),
    [
        (Field("t", "float", low=0, high=1), [0.5], "no range in steps"),
        (Field("t", "float", low=0, resolution=0.1), [0.5], "no range in steps"),
        (Field("t", "category", categories=("a",)), ["a"], "no range in steps"),
        (TEMPERATURE, [36.0, np.nan], "no value in row 1"),
        (TEMPERATURE, pd.Series([36.0, None]), "no value in row 1"),
        (TEMPERATURE, [36.0, 98.6], "row 1 is not between 34 and 43 °C"),
        (TEMPERATURE, [np.inf], "row 0"),
    ],
)
def test_what_cannot_be_proven_is_named(field, values, says):
    with pytest.raises(SchemaError, match=says) as refused:
        commit_field(field, values)
    assert "98.6" not in refused.value.message


def test_totals_follow_when_the_commitments_are_kept():
    with kit.chain.connect() as chain:
        alice = chain.account("alice")
        proofs = ColumnProofs.deploy(chain, alice)
        field = Field("flag", "bool")
        columns = commit_field(field, [True, False, True])
        proofs.prove_column(7, field, columns, sender=alice, progress=False)
        context = proofs.context(7, alice, "flag")
        proofs.verify(kit.vsies.prove_total(columns[0], 1, 2, context=context), sender=alice)
        assert proofs.proven(7, alice, "flag").sum == (1, 2)


def test_a_column_is_proven_part_by_part_and_once():
    with kit.chain.connect() as chain:
        alice = chain.account("alice")
        proofs = ColumnProofs.deploy(chain, alice)
        field = Field("flag", "bool")
        values = np.arange(2_500) % 3 == 0
        proofs.prove_column(7, field, values[:2_048], sender=alice, progress=False)
        block = chain.block_number
        found = proofs.prove_column(7, field, values, sender=alice, progress=False)
        assert chain.block_number == block + 1  # the first part was proven before
        assert [(part.rows, part.low, part.high) for part in found] == [(2_048, 0, 1), (452, 0, 1)]
        assert proofs.demand(7, alice, field, 2_500) == found
        for rows, says in ((2_501, "part 1"), (452, "part 0"), (4_097, "part 1")):
            with pytest.raises(ProofRefused, match=says):
                proofs.demand(7, alice, field, rows)
        with pytest.raises(ProofRefused, match="proven is nothing"):
            proofs.demand(7, chain.account("bob"), field, 2_500)
        with pytest.raises(ProofRefused, match="part 1 of column 'flag' is proven already"):
            proofs.prove_column(7, field, values[:2_400], sender=alice, progress=False)
