"""The commitment to a node's rows changes with every bit of them, and with nothing else."""

import numpy as np
import pandas as pd
import pytest

from twopm_kit import datasets
from twopm_kit.federated.commitment import frame_commitment

SALT = bytes(range(32))
ROWS = pd.DataFrame(
    {"small": [1e-30, 2.0], "count": [1, 2], "flag": [True, False], "name": ["a", None]}, index=[3, 5]
)


def test_the_same_rows_have_the_same_commitment():
    assert frame_commitment(ROWS, SALT) == frame_commitment(ROWS.copy(), SALT)
    assert len(frame_commitment(datasets.load("spector"), SALT)) == 32


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows.assign(small=[np.nextafter(1e-30, 1), 2.0]),
        lambda rows: rows.assign(count=[1.0, 2.0]),
        lambda rows: rows.assign(flag=[True, True]),
        lambda rows: rows.assign(name=["a", "None"]),
        lambda rows: rows.rename(columns={"count": "counts"}),
        lambda rows: rows[["count", "small", "flag", "name"]],
        lambda rows: rows.iloc[::-1],
        lambda rows: rows.reset_index(drop=True),
    ],
)
def test_other_rows_have_another(change):
    assert frame_commitment(change(ROWS), SALT) != frame_commitment(ROWS, SALT)


def test_another_salt_hides_the_same_rows():
    assert frame_commitment(ROWS, bytes(32)) != frame_commitment(ROWS, SALT)
