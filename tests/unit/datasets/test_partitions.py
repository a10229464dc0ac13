"""Partitions: every row once, no empty node, the same for the same seed, skewed as asked."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twopm_kit import datasets
from twopm_kit.errors import PartitionError

SCHEMES = list(datasets.SCHEMES)


@st.composite
def cases(draw):
    rows = draw(st.integers(1, 60))
    classes = draw(st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=rows, max_size=rows))
    index = draw(st.sampled_from(["range", "shifted", "text", "repeated"]))
    frame = pd.DataFrame({"row": np.arange(rows), "kind": classes})
    if index == "shifted":
        frame.index = frame.index * 7 + 100
    elif index == "text":
        frame.index = [f"patient-{i}" for i in range(rows)]
    elif index == "repeated":
        frame.index = [0] * rows
    scheme = draw(st.sampled_from(SCHEMES))
    shards = draw(st.integers(1, 3)) if scheme == "shards" else 1
    nodes = draw(st.integers(1, max(1, rows // shards)))
    keywords = {
        "alpha": draw(st.sampled_from([1e-9, 0.01, 0.5, 1, 100.0, 1e9])),
        "label": "kind",
        "shards_per_node": shards if nodes * shards <= rows else 1,
        "seed": draw(st.integers(0, 2**40)),
    }
    return frame, nodes, scheme, keywords


@given(cases())
@settings(max_examples=150, deadline=None)
def test_rows_are_conserved_disjoint_and_no_node_is_empty(case):
    frame, nodes, scheme, keywords = case
    parts = datasets.partition(frame, nodes, scheme, **keywords)
    assert len(parts) == nodes
    assert all(len(part) > 0 for part in parts)
    rows = [row for part in parts for row in part["row"]]
    assert sorted(rows) == list(range(len(frame)))
    for part in parts:
        assert part["row"].is_monotonic_increasing
        pd.testing.assert_frame_equal(part, frame.iloc[part["row"].to_list()])


@given(cases())
@settings(max_examples=60, deadline=None)
def test_equal_seeds_give_equal_parts_whatever_numpy_did_before(case):
    frame, nodes, scheme, keywords = case
    first = datasets.partition(frame, nodes, scheme, **keywords)
    np.random.seed(1)  # noqa: NPY002  the global generator must not matter
    second = datasets.partition(frame, nodes, scheme, **keywords)
    for one, other in zip(first, second, strict=True):
        pd.testing.assert_frame_equal(one, other)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_another_seed_gives_other_parts(scheme):
    frame = datasets.load("digits")
    one, other = (datasets.partition(frame, 5, scheme, label="target", seed=seed)[0] for seed in (1, 2))
    assert not one.index.equals(other.index)


def _skew(parts, frame):
    """Mean total variation distance between the classes of a node and those of all rows."""
    overall = frame["target"].value_counts(normalize=True).sort_index()
    shares = [p["target"].value_counts(normalize=True).reindex(overall.index, fill_value=0.0) for p in parts]
    return float(np.mean([(share - overall).abs().sum() / 2 for share in shares]))


def test_dirichlet_is_more_skewed_for_smaller_alpha_at_equal_sizes():
    frame = datasets.load("digits")
    skews = []
    for alpha in (0.05, 1.0, 1000.0):
        parts = datasets.partition(frame, 10, "dirichlet", alpha=alpha, label="target", seed=3)
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1
        skews.append(_skew(parts, frame))
    assert skews[0] > skews[1] > skews[2]
    assert skews[0] > 0.5
    assert skews[2] < 0.12


def test_shards_give_each_node_few_classes():
    frame = datasets.load("digits")
    parts = datasets.partition(frame, 10, "shards", label="target", seed=5)
    # A shard of about 90 sorted rows touches at most two of ten classes of about 180 rows.
    assert all(part["target"].nunique() <= 4 for part in parts)
    assert {digit for part in parts for digit in part["target"]} == set(range(10))


def test_iid_is_even_in_size_and_classes():
    frame = datasets.load("digits")
    parts = datasets.partition(frame, 4, seed=5)
    assert sorted(len(part) for part in parts) == [449, 449, 449, 450]
    assert _skew(parts, frame) < 0.12


def test_quantity_skews_sizes_only():
    frame = datasets.load("digits")
    uneven = [len(p) for p in datasets.partition(frame, 6, "quantity", alpha=0.3, seed=7)]
    even = [len(p) for p in datasets.partition(frame, 6, "quantity", alpha=1e6, seed=7)]
    assert max(uneven) > 3 * min(uneven)
    assert max(even) - min(even) <= 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n_nodes": 33}, ["32 rows", "33 nodes"]),
        ({"n_nodes": 17, "scheme": "shards"}, ["32 rows", "17 nodes × 2 shards"]),
        ({"n_nodes": 0}, ["n_nodes is 0"]),
        ({"n_nodes": True}, ["n_nodes is True"]),
        ({"n_nodes": 2.0}, ["n_nodes is 2.0"]),
        ({"n_nodes": 2, "scheme": "iidd"}, ["'iidd'", "dirichlet"]),
        ({"n_nodes": 2, "scheme": "dirichlet", "alpha": 0.0}, ["alpha is 0.0"]),
        ({"n_nodes": 2, "scheme": "dirichlet", "alpha": float("nan")}, ["alpha is nan"]),
        ({"n_nodes": 2, "scheme": "quantity", "alpha": "0.5"}, ["alpha is '0.5'"]),
        ({"n_nodes": 2, "scheme": "shards", "shards_per_node": 0}, ["shards_per_node is 0"]),
        ({"n_nodes": 2, "scheme": "shards", "label": "grade"}, ["'grade'", "'GRADE'"]),
        ({"n_nodes": 2, "scheme": "dirichlet", "label": None}, ["'target'"]),
        ({"n_nodes": 2, "seed": -1}, ["seed is -1"]),
    ],
)
def test_what_cannot_be_is_refused_with_the_numbers(arguments, words):
    keywords = {"label": "GRADE", **arguments}
    with pytest.raises(PartitionError) as caught:
        datasets.partition(datasets.load("spector"), **keywords)
    assert all(word in caught.value.message for word in words)
    assert caught.value.hint


def test_frames_that_cannot_be_spread_are_refused():
    with pytest.raises(PartitionError, match="got list"):
        datasets.partition([1, 2], 2)
    with pytest.raises(PartitionError, match="empty"):
        datasets.partition(pd.DataFrame({"a": []}), 1)
    with pytest.raises(PartitionError, match="1 rows without a label"):
        datasets.partition(pd.DataFrame({"target": [1.0, np.nan]}), 1, "dirichlet")
    twice = pd.DataFrame([[1, 2], [3, 4]], columns=["target", "target"])
    with pytest.raises(PartitionError, match="more than once"):
        datasets.partition(twice, 2, "shards", shards_per_node=1)


def test_split_is_stratified_disjoint_and_repeatable():
    frame = datasets.load("breast_cancer")
    train, test = datasets.split(frame, 0.3, label="target", seed=4)
    assert len(test) == 171
    assert not set(train.index) & set(test.index)
    assert sorted([*train.index, *test.index]) == list(frame.index)
    assert train["target"].mean() == pytest.approx(test["target"].mean(), abs=0.01)
    again, _ = datasets.split(frame, 0.3, label="target", seed=4)
    pd.testing.assert_frame_equal(train, again)
    other, _ = datasets.split(frame, 0.3, label="target", seed=5)
    assert not train.index.equals(other.index)


@pytest.mark.parametrize("test", [0.0, 1.0, -0.1, 3, "0.3", True, float("nan")])
def test_split_refuses_shares_outside_of_zero_and_one(test):
    with pytest.raises(PartitionError, match="test is"):
        datasets.split(datasets.load("spector"), test)


def test_split_refuses_a_class_with_one_row():
    frame = pd.DataFrame({"x": range(5), "target": [0, 0, 0, 0, 1]})
    with pytest.raises(PartitionError, match="cannot be split"):
        datasets.split(frame, 0.4, label="target")
    with pytest.raises(PartitionError, match="seed"):
        datasets.split(frame, 0.4, seed=-3)
