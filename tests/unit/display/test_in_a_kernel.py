"""In a real kernel: one output that updates in place, and words where there is no html."""

import nbformat
import pytest
from nbclient import NotebookClient

SETUP = """
from types import SimpleNamespace
from twopm_kit import display
def event(step, node, gas=0):
    cost = {"gas": gas, "seconds": 0.1}
    return SimpleNamespace(task_id=1, round=1, step=step, node=node, status="done", detail="", **cost)
"""
BOARD = """
board = display.RoundBoard()
for step in ("join", "select", "share", "submit"):
    for node in ("Lyon", "Oslo<b>"):
        board(event(step, node, gas=10))
board(event("finish", ""))
"""
PANEL = """
def run(drop, observe):
    observe(event("join", "Lyon"))
    observe(event("finish", ""))
    return drop
made = display.panel(run, ["Lyon", "Oslo"])
made.boxes[1]["Oslo"].value = True
made.click()
assert made.result == {1: ["Oslo"]}
made
"""
SHOWN = """
display.table({"chain": "embedded"})
"""
FIGURE = """
display.plots.bars({"a": 1.0}, title="One bar")
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    cells = [nbformat.v4.new_code_cell(source) for source in (SETUP, BOARD, PANEL, SHOWN, FIGURE)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    resources = {"metadata": {"path": str(tmp_path_factory.mktemp("kernel"))}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources).execute()
    return [cell.outputs for cell in notebook.cells]


def test_the_board_is_one_output_with_the_last_state(outputs):
    [shown] = outputs[1]
    assert shown.output_type == "display_data"
    html, text = shown.data["text/html"], shown.data["text/plain"]
    assert 'aria-current="step">finish</span>' in html
    assert "phase: finish" in text
    assert "80 gas" in html
    assert "Oslo&lt;b&gt;" in html
    assert "<b>" not in html


def test_the_panel_is_a_widget_with_a_word_beside_it(outputs):
    [shown] = outputs[2]
    assert "application/vnd.jupyter.widget-view+json" in shown.data
    assert shown.data["text/plain"].startswith("<Panel Who drops out?: 2 nodes")


def test_tables_and_figures_have_html_and_text_and_no_second_picture(outputs):
    [table], [figure] = outputs[3], outputs[4]
    assert set(table.data) == set(figure.data) == {"text/html", "text/plain"}
    assert 'alt="Bar chart: One bar. a 1."' in figure.data["text/html"]
