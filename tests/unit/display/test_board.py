"""The round board: what it knows, how it looks, when it draws."""

import re
import threading
from types import SimpleNamespace

import pytest

from twopm_kit.display import RoundBoard
from twopm_kit.errors import DataError

from .conftest import NODES, event, joined, played
from .test_table import Outline


def board_of(*groups, **keywords):
    drawn = []
    board = RoundBoard(sink=drawn.append, **keywords)
    for group in groups:
        for one in group:
            board(one)
    return board, drawn


def test_a_round_without_drop_outs():
    board, _ = board_of(joined(), played(1))
    frame = board.frame()
    assert list(frame.index) == NODES
    assert (frame.drop(columns=["gas", "seconds"]) == "done").all().all()
    assert (frame["gas"] == 40_000).all()
    assert (frame["seconds"] == 2.0).all()
    assert "5 of 5 nodes survived" in board.text
    assert "370,000 by coordinator" not in board.text
    assert "320,000 gas (120,000 by coordinator)" in board.text
    assert "task so far: 1.12 M gas" in board.text
    assert "coordinator" not in list(frame.index)


def test_drop_outs_show_where_and_who_survived():
    board, _ = board_of(joined(), played(1, silent={"Quito": "share", "Porto": "submit", "Riga": "open"}))
    frame = board.frame()
    assert frame.loc["Quito", ["shared", "submitted", "survived", "unmasked"]].tolist() == [
        "dropped",
        "",
        "dropped",
        "",
    ]
    assert frame.loc["Porto", ["shared", "submitted", "survived"]].tolist() == ["done", "dropped", "dropped"]
    # Who falls silent after submitting is in the sum.
    assert frame.loc["Riga", ["submitted", "survived", "unmasked"]].tolist() == ["done", "done", "dropped"]
    [riga] = [line for line in board.text.splitlines() if line.startswith("Riga")]
    assert re.search(r"✓ survived +✕ dropped +– ", riga)
    assert "3 of 5 nodes survived" in board.text
    assert "✕ Quito dropped at share: Quito falls silent" in board.text
    assert "✕ dropped" in board._repr_html_()


def test_survivors_are_not_announced_before_the_submissions():
    events = list(played(1))
    cut = next(i for i, one in enumerate(events) if one.step == "freeze")
    board, _ = board_of(joined(), events[: cut + 1])
    assert (board.frame()["survived"] == "").all()
    assert "phase: share" in board.text
    assert "5 of 5 nodes still in" in board.text


def test_each_status_has_a_sign_and_a_word():
    board, _ = board_of(
        joined(),
        [event(1, "share", "Lyon", "pending"), event(1, "share", "Oslo", "refused", detail="bad signature")],
        [event(1, "share", "Porto", "dropped"), event(1, "share", "Quito")],
    )
    for shown in (board.text, board._repr_html_()):
        for words in ("… pending", "⊘ refused", "✕ dropped", "✓ done"):
            assert words in shown
        assert "bad signature" in shown
    board(event(1, "share", "Lyon", gas=5))
    assert board.frame().loc["Lyon", "shared"] == "done"


def test_rounds_follow_each_other_and_joining_carries_over():
    board, _ = board_of(joined(), played(1), played(2, silent={"Oslo": "submit"}))
    assert (board.frame()["joined"] == "done").all()
    lines = board.text.splitlines()
    assert lines[0] == "before round 1: 5 of 5 joined · 800,000 gas · 500 ms"
    assert lines[1] == "round 1: 5 of 5 survived · 320,000 gas · 10.0 s"
    assert lines[2] == "Task 1 · round 2"
    board(event(3, "select", "Lyon"))
    assert board.text.splitlines()[2] == (
        "round 2: 4 of 5 survived · lost Oslo at submit · 290,000 gas · 8.50 s"
    )
    many, _ = board_of(joined(), *(played(number) for number in range(1, 20)))
    assert many.text.splitlines()[0] == "… 7 earlier rounds"


def test_a_line_on_an_earlier_round_stays_short():
    silent = dict.fromkeys(NODES, "submit")
    board, _ = board_of(joined(), played(1, silent=silent), [event(2, "share", "Lyon")], title="Five clinics")
    [line] = [line for line in board.text.splitlines() if line.startswith("round 1")]
    assert "lost Lyon at submit, Oslo at submit, Porto at submit, Quito at submit, 1 more · " in line
    assert "Five clinics" not in line
    assert "phase" not in line
    assert "round 1 is public" not in line
    assert "0 of 5 survived" in line


def test_an_earlier_round_says_when_it_was_aborted_and_of_which_task_it_was():
    board, _ = board_of(
        joined(), [event(1, "share", "Lyon", gas=9), event(1, "abort", "coordinator", detail="too few")]
    )
    board(event(2, "share", "Lyon"))
    assert "round 1: aborted · 5 of 5 still in · 9 gas · 0 s" in board.text.splitlines()
    board(event(1, "share", "Turin", task=2))
    assert "task 1 round 1: aborted · 5 of 5 still in · 9 gas · 0 s" in board.text.splitlines()


def test_the_html_lets_long_lines_break_between_their_pieces():
    board, _ = board_of(joined(), played(1))
    html = board._repr_html_()
    assert "white-space:normal;overflow-wrap:anywhere" in html.split(">")[0]
    pieces = re.findall(r'<span style="display:inline-block">([^<]*)</span>', html)
    assert "320,000 gas (120,000 by coordinator)" in pieces
    assert "round 1 is public" in pieces
    assert '<div style="overflow:auto' in html
    # The steps above the table say which one is at hand.
    assert "phase:" not in html
    assert ">finish</span>" in html


def test_nodes_that_were_not_selected_do_not_count():
    board, _ = board_of(joined(), [event(1, "select", node) for node in NODES[:3]])
    assert "3 of 3 nodes still in" in board.text
    assert board.text.splitlines()[-2].split()[1:4] == ["✓", "done", "–"]


def test_another_task_starts_afresh():
    board, _ = board_of(joined(), played(1), joined(task=2, nodes=["Turin"]))
    assert list(board.frame().index) == ["Turin"]


def test_an_aborted_round_says_why():
    board, _ = board_of(
        joined(), [event(1, "share", "Lyon"), event(1, "abort", "coordinator", detail="too few are left")]
    )
    assert "phase: abort" in board.text
    assert "too few are left" in board.text
    assert ">abort</span>" in board._repr_html_()


def test_the_first_closing_word_stays():
    board, _ = board_of(
        joined(), played(1), [event(1, "finish", "Lyon", gas=7, detail="Lyon takes its stake back")]
    )
    assert "round 1 is public" in board.text
    assert "stake" not in board.text
    assert board.frame().loc["Lyon", "gas"] == 40_007


def test_without_joining_the_nodes_are_those_who_act():
    board, _ = board_of([event(3, "share", "a"), event(3, "submit", "b"), event(3, "freeze", "")])
    assert list(board.frame().index) == ["a", "b"]
    assert board.frame()["survived"].tolist() == ["dropped", "done"]


def test_named_nodes_have_rows_from_the_start():
    board = RoundBoard(nodes=["a", "b"], title="Clinics")
    assert "Clinics: no event yet" in repr(board)
    assert "Clinics: no event yet" in board._repr_html_()
    assert list(board.frame().index) == ["a", "b"]


@pytest.mark.parametrize(("step", "status"), [("sumbit", "done"), ("submit", "ok"), ("", "")])
def test_unknown_steps_and_statuses_are_refused_and_change_nothing(step, status):
    board, drawn = board_of(joined())
    before, count = board.text, len(drawn)
    with pytest.raises(DataError, match="expected a step of register, join") as caught:
        board(event(1, step, "Lyon", status))
    assert "RoundEvent" in caught.value.hint
    assert (board.text, len(drawn)) == (before, count)


def test_any_object_with_the_attributes_will_do():
    board, _ = board_of(
        [
            SimpleNamespace(
                task_id=9, round=1, step="share", node="x", status="done", gas=1, seconds=0.1, detail=""
            )
        ]
    )
    assert "Task 9 · round 1" in board.text


def test_hostile_names_and_details_are_inert(hostile):
    board, _ = board_of(
        [event(0, "join", hostile, detail=hostile), event(1, "share", hostile, "refused", detail=hostile)],
        [event(1, "abort", hostile, detail=hostile, gas=3)],
        title=hostile,
    )
    outline = Outline(board._repr_html_())
    assert "script" not in outline.tags
    assert set(outline.attributes) <= {"style", "scope", "title", "aria-current"}
    for text in (board._repr_html_(), board.text, repr(board)):
        assert "\x1b" not in text
        assert "\u202e" not in text


def test_a_terminal_gets_a_line_for_each_event_and_the_table_once(stream):
    board = RoundBoard(stream=stream)
    events = [*joined(), *played(1, silent={"Oslo": "submit"}), event(1, "finish", "Lyon", gas=7)]
    for one in events:
        board(one)
    text = stream.getvalue()
    assert text.count("\n") >= len(events)
    assert text.count("task 1 round ") == len(events)
    assert text.count("joined  selected") == 1
    assert "✕ dropped  Oslo" in text


def test_a_terminal_is_not_moved_by_names(stream, hostile):
    RoundBoard(stream=stream)(event(1, "share", hostile, detail=hostile))
    assert "\x1b" not in stream.getvalue()


def test_drawing_stays_within_its_budget_and_ends_up_to_date():
    now = [0.0]
    drawn = []
    board = RoundBoard(
        sink=lambda shown: drawn.append(shown._repr_html_()), clock=lambda: now[0], bytes_per_second=30_000
    )
    events = [*joined(), *played(1)]
    for one in events[:-1]:
        board(one)
    assert 1 < len(drawn) < len(events) - 1
    assert sum(map(len, drawn)) < 200_000 + len(drawn[-1])
    held_back = len(drawn)
    board.flush()
    assert len(drawn) == held_back + 1
    board.flush()
    assert len(drawn) == held_back + 1
    board(events[-1])
    assert len(drawn) == held_back + 2
    assert drawn[-1] == board._repr_html_()
    now[0] = 60.0
    board(event(2, "share", "Lyon"))
    assert len(drawn) == held_back + 3


def test_a_small_federation_is_drawn_at_every_event():
    _, drawn = board_of(joined(), played(1))
    assert len(drawn) == len([*joined(), *played(1)])


def test_threads_may_report_at_the_same_time():
    board, _ = board_of(joined())
    workers = [
        threading.Thread(target=lambda name=node: [board(event(1, "share", name, gas=1)) for _ in range(50)])
        for node in NODES
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert board.frame()["gas"].tolist() == [50] * 5
