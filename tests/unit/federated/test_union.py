"""One sum tells the union of the nodes' categories, whatever is in the columns and whoever drops out."""

import numpy as np
import pandas as pd
import pytest

from twopm_kit import errors
from twopm_kit.federated import CategoryUnion, LocalNetwork, RunRecord, Task, load_result
from twopm_kit.federated.union import TABLES, LookupTable
from twopm_kit.secagg import Decoded, RoundConfig

TOWNS = [
    ["Ulm", "Bern", "Bern", None, "Zürich"],
    ["Ulm", "東京", "São Paulo"],
    ["Ulm", "Bern", "<b>Oslo</b>"],
    [None, None],
]
HOLDERS = {"<b>Oslo</b>": 1, "Bern": 2, "São Paulo": 1, "Ulm": 3, "Zürich": 1, "東京": 1}


def frames(towns=TOWNS):
    return [
        pd.DataFrame({"town": pd.Series(held, dtype=object), "colour": ["red", "blue"][at % 2]})
        for at, held in enumerate(towns)
    ]


def decoded(table, nodes):
    vector = np.asarray(table, np.float64).ravel()
    return Decoded(vector / nodes, nodes, np.empty(0), 0, 1.0)


def merged(task, *sums):
    """Return the state after sums of tables, each with the number of nodes in it."""
    state = task.initial_state()
    for table, nodes in sums:
        state = task.merge(state, decoded(table, nodes))
    return state


def read(task, *sums):
    return task.table.read([table for table, _ in sums], max(nodes for _, nodes in sums))


@pytest.fixture(scope="module")
def network():
    return LocalNetwork(frames())


@pytest.fixture(scope="module")
def result(network):
    return network.run(CategoryUnion("towns", ["town", "colour"], max_categories=16))


def test_one_round_finds_all_categories_and_how_many_nodes_hold_them(result):
    assert result.complete
    assert [record.status for record in result.rounds] == ["done"]
    assert result.categories == {"town": tuple(sorted(HOLDERS)), "colour": ("blue", "red")}
    assert result["town"] == tuple(sorted(HOLDERS))
    assert result.nodes["town"].to_dict() == HOLDERS
    assert result.nodes["colour"].to_dict() == {"blue": 2, "red": 2}
    assert result.refused == 0


def test_a_result_shows_its_categories_and_is_kept(result, tmp_path):
    assert "'Bern'" in repr(result)
    html = result._repr_html_()
    assert "&lt;b&gt;Oslo&lt;/b&gt;" in html
    assert "<b>Oslo" not in html
    result.save(tmp_path / "towns")
    assert load_result(tmp_path / "towns").categories == result.categories
    with pytest.raises(errors.TaskError, match="not asked"):
        result["country"]


def test_the_words_of_the_sum_do_not_depend_on_who_holds_what():
    table = LookupTable(8, 8, "")
    one, two = [(0, "a"), (0, "b")], [(0, "b"), (0, "c")]
    swapped = table.filled([(0, "a"), (0, "b"), (0, "c")], 0) + table.filled([(0, "b")], 0)
    assert np.array_equal(table.filled(one, 0) + table.filled(two, 0), swapped)


def test_masked_and_clear_unions_are_equal(network, result):
    assert network.run_in_clear(result.task).nodes.equals(result.nodes)


def test_rare_categories_are_counted_and_not_named(network):
    shown = network.run_in_clear(CategoryUnion("towns", ["town"], max_categories=16, min_nodes=2))
    assert shown["town"] == ("Bern", "Ulm")
    assert shown.hidden == {"town": 4}
    for text in (repr(shown), shown._repr_html_()):
        assert "4 held by fewer than 2 nodes" in text
        assert "Oslo" not in text
    # As the docstring says, the sum itself tells them all.
    assert len(shown.task.entries(shown.state)) == len(HOLDERS)


def test_a_lost_node_is_in_no_union(network):
    result = network.run(CategoryUnion("towns", ["town"], max_categories=16), drop={1: ["node-2"]})
    assert result["town"] == ("<b>Oslo</b>", "Bern", "Ulm", "Zürich")
    assert result.nodes["town", "Ulm"] == 2


def test_the_task_travels(result):
    again = Task.from_archive(result.task.archive())
    assert again.settings() == result.task.settings()
    wanted = RoundConfig(clip=1.0, value_bits=4, max_clients=50)  # would spoil every table
    assert again.with_config(wanted).config().step == 1


# Tables ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 8, 64, 256])
def test_full_tables_are_read(size):
    table = LookupTable(size, 32, "")
    entries = [(at % 3, f"category {at}") for at in range(size)]
    sums = [
        2 * table.filled(entries, at) + table.filled(entries[::2], at) for at in range(TABLES)
    ]  # three nodes
    found = table.read(sums, 3)
    assert found == {(c, name.encode()): 2 + (at % 2 == 0) for at, (c, name) in enumerate(entries)}


def test_a_second_table_reads_what_one_cannot():
    table = LookupTable(64, 8, "")
    entries = [(0, f"{at:08}") for at in range(120)]
    first, second = table.filled(entries, 0), table.filled(entries, 1)
    assert table.read([first], 2) is None
    assert table.read([second], 2) is None
    assert len(table.read([first, second], 2)) == 120


def test_too_many_categories_take_a_second_round_by_themselves():
    held = [[f"{node}/{at}" for at in range(14)] for node in range(3)]
    union = LocalNetwork(frames(held)).run_in_clear(CategoryUnion("towns", ["town"], max_categories=16))
    assert [len(union.rounds), len(union["town"])] == [2, 42]


def test_a_union_that_never_fits_says_what_to_do():
    held = [[f"{node}/{at}" for at in range(16)] for node in range(10)]
    union = LocalNetwork(frames(held)).run_in_clear(CategoryUnion("towns", ["town"], max_categories=16))
    assert len(union.rounds) == TABLES
    assert not union.complete
    assert "NOT complete" in repr(union)
    assert "NOT complete" in union._repr_html_()
    with pytest.raises(errors.TaskError, match="larger max_categories"):
        _ = union.categories


def test_tables_over_other_survivors_are_not_mixed():
    table = LookupTable(16, 8, "")
    mine, others = [(0, "a"), (0, "b")], [(0, "b")]
    full = table.filled(mine, 0) + table.filled(others, 0)
    full[:, -1] += 1  # spoilt: the second round is over the other node alone, with another one
    assert table.read([full, 2 * table.filled(others, 1)], 2) == {(0, b"b"): 2}


def test_hashing_follows_salt_and_table():
    one = LookupTable(64, 8, "").filled([(0, "a")], 0)
    assert not np.array_equal(one, LookupTable(64, 8, "other").filled([(0, "a")], 0))
    assert not np.array_equal(one, LookupTable(64, 8, "").filled([(0, "a")], 1))


# Nodes that lie ---------------------------------------------------------------------------------------


@pytest.fixture
def honest():
    task = CategoryUnion("towns", ["town"], max_categories=16)
    return task, 2 * task.table.filled([(0, "Ulm")], 0) + task.table.filled([(0, "Bern")], 0)


@pytest.mark.parametrize(
    ("column", "name"),
    [(0, b"\xff\xfe"), (0, b"a\x00b"), (0, "e\u0301".encode()), (9, b"Ulm"), (0, "\u200b".encode() * 3)],
)
def test_names_that_nobody_may_send_are_left_out(honest, column, name):
    task, table = honest
    row, cells = task.table._row(column, name, 0)
    table[cells] += row
    found = task.result(merged(task, (table, 3)), RunRecord(0, "", 0, (), ()))
    assert found.refused == 1
    assert found["town"] == ("Bern", "Ulm")


@pytest.mark.parametrize("lie", [1, -1, 2**49, -(2**49)])
@pytest.mark.parametrize("lane", [0, 1, 2, -1])
def test_a_spoilt_cell_is_seen(honest, lie, lane):
    task, table = honest
    table[5, lane] += lie
    assert not merged(task, (table, 3))["complete"]


def test_more_nodes_than_there_are_hold_nothing(honest):
    task, table = honest
    assert read(task, (table, 1)) is None
    assert read(task, (table, 2)) == {(0, b"Ulm"): 2, (0, b"Bern"): 1}


def test_noise_in_place_of_a_table_ends(honest):
    task, _ = honest
    rng = np.random.default_rng(5)
    sums = [(rng.integers(-(2**49), 2**49, (task.table.cells, task.table.lanes)), 3)] * TABLES
    state = merged(task, *sums)
    assert task.finished(state)
    assert not state["complete"]


# Odd input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ([1, 2], "a int in row 0"),
        (["Ulm", 2.5], "a float in row 1"),
        (["Ulm", ["Bern"]], "a list in row 1"),
        (["x" * 33], "more than 32 bytes"),
        (["ü" * 17], "more than 32 bytes"),
        (["Ulm", "Zu\u0308rich"], "row 1 is not of 1 to 64 .* NFC"),
        (["a\x00b"], "printable"),
        (["a\ud800"], "printable"),
        (["Ulm "], "not spaced"),
        (["Ulm", ""], "1 to 64"),
        ([f"{at}" for at in range(17)], "17 categories"),
        ([], "no rows"),
    ],
)
def test_unfit_columns_are_named_with_their_node(held, words):
    network = LocalNetwork(frames([["Ulm"], held]))
    spent = network.chain.ledger.total()
    with pytest.raises(errors.SchemaError, match="node-2: .*" + words) as raised:
        network.run(CategoryUnion("towns", ["town"], max_categories=16))
    assert raised.value.hint
    assert network.chain.ledger.total() == spent


@pytest.mark.parametrize(
    "frame", [pd.DataFrame({"land": ["CH"]}), pd.DataFrame([["a", "b"]], columns=["town"] * 2)]
)
def test_a_column_must_be_there_once(frame):
    with pytest.raises(errors.SchemaError, match="once"):
        CategoryUnion("towns", ["town"]).check(frame)


def test_what_is_held_counts_not_what_could_be():
    held = pd.DataFrame({"town": pd.Categorical(["Ulm", "Ulm", "Bern"], categories=["Bern", "Ulm", "Rome"])})
    union = LocalNetwork([held, held]).run_in_clear(CategoryUnion("towns", ["town"], max_categories=4))
    assert union["town"] == ("Bern", "Ulm")


def test_nodes_without_any_category_have_an_empty_union():
    union = LocalNetwork(frames([[None], [None]])).run_in_clear(CategoryUnion("towns", ["town"]))
    assert union["town"] == ()
    assert union.nodes.empty


@pytest.mark.parametrize(
    "options",
    [
        {"columns": "town"},
        {"columns": []},
        {"columns": [f"{at}" for at in range(1025)]},
        {"max_categories": 0},
        {"max_categories": 5000},
        {"max_bytes": 257},
        {"min_nodes": 0},
        {"salt": b"bytes"},
        {"salt": "\ud800"},
    ],
)
def test_slips_are_named_where_they_are_made(options):
    with pytest.raises(errors.TaskError) as raised:
        CategoryUnion(**{"name": "towns", "columns": ["town"], **options})
    assert raised.value.hint
