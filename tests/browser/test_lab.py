"""The notebooks in a real JupyterLab: what a reader sees after Run All, and what a click does."""

import re

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

BOARDS = 'table:has(th:text-is("submitted"))'
ERRORS = '[data-mime-type="application/vnd.jupyter.error"], [data-mime-type="application/vnd.jupyter.stderr"]'
# Pictures that hold nothing, diagrams that were refused, formulas that could not be set.
UNDRAWN = """() => [
  ...[...document.querySelectorAll('.jp-Notebook img')].filter(it => !it.complete || !it.naturalWidth),
  ...document.querySelectorAll('.jp-Notebook .jp-RenderedMermaid.jp-mod-warning'),
  ...document.querySelectorAll('.jp-Notebook mjx-merror'),
].map(it => it.outerHTML.slice(0, 200))"""
# What stands in outputs with too little contrast to what is behind it: 4.5 is wanted for words, 3 for signs
# (WCAG 2.2, success criteria 1.4.3 and 1.4.11).
FAINT = """() => {
  const parse = text => {
    const parts = text.match(/^rgba?\\(([^)]*)\\)$/)[1].split(/[, /]+/).map(Number);
    return [...parts.slice(0, 3), parts[3] ?? 1];
  };
  const over = (front, alpha, back) => back.map((value, i) => alpha * front[i] + (1 - alpha) * value);
  const light = colour => {
    const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = colour.map(value => linear(value / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = {};
  // Tracebacks have colours of Jupyter's own.
  const ours = '.jp-Notebook .jp-OutputArea-output:not([data-mime-type="application/vnd.jupyter.error"])';
  for (const output of document.querySelectorAll(ours)) {
    const words = document.createTreeWalker(output, NodeFilter.SHOW_TEXT);
    while (words.nextNode()) {
      const text = words.currentNode.data.trim(), holder = words.currentNode.parentElement;
      if (!text || holder.closest('svg, style, button') || !holder.getClientRects().length) continue;
      const line = [];
      for (let it = holder; it; it = it.parentElement) line.unshift(getComputedStyle(it));
      let back = [255, 255, 255], opacity = 1;
      for (const style of line) {
        opacity *= Number(style.opacity);
        const [r, g, b, alpha] = parse(style.backgroundColor);
        back = over([r, g, b], alpha * opacity, back);
      }
      const [r, g, b, alpha] = parse(line.at(-1).color);
      const [low, high] = [light(back), light(over([r, g, b], alpha * opacity, back))].sort((x, y) => x - y);
      const contrast = (high + 0.05) / (low + 0.05);
      const wanted = /[\\p{L}\\p{N}]/u.test(text) ? 4.5 : 3;
      if (contrast < wanted) found[text.slice(0, 60)] = Math.round(contrast * 100) / 100;
    }
  }
  return found;
}"""


def rows(board):
    """Return what a board shows: node to column to text."""
    heads = [text.strip() for text in board.locator("thead th").all_text_contents()]
    lines = [row.locator("th, td").all_text_contents() for row in board.locator("tbody tr").all()]
    return {line[0].strip(): dict(zip(heads, map(str.strip, line), strict=True)) for line in lines}


def test_no_cell_fails_or_warns(ran):
    bad = [
        (cell.id, output.output_type, output.get("text") or output.get("evalue"))
        for cell in ran.save().cells
        for output in cell.get("outputs", [])
        if output.output_type == "error" or output.get("name") == "stderr"
    ]
    assert bad == []
    assert ran.page.locator(ERRORS).count() == 0


def test_everything_is_drawn(ran):
    diagrams = sum(cell.source.count("```mermaid") for cell in ran.save().cells)
    assert diagrams > 0
    expect(ran.page.locator(".jp-RenderedMermaid :is(img, svg)")).to_have_count(diagrams, timeout=30_000)
    assert ran.page.evaluate(UNDRAWN) == []


def test_the_page_asks_nobody_else(ran):
    assert len(ran.asked) > 0
    assert ran.strangers() == []


@pytest.mark.parametrize("ran", ["00_start_here", "04_federated_rounds"], indirect=True)
def test_the_round_board_fills(ran):
    board = ran.page.locator(f".jp-RenderedHTML {BOARDS}").first
    ran.show(board)
    ran.picture(board)
    shown = rows(board)
    assert len(shown) >= 3
    for node, line in shown.items():
        assert line["joined"] == "✓ done", node
        assert line["submitted"] in {"✓ done", "✕ dropped", "–"}, node
        assert re.search("[1-9]", line["gas"]), node
    assert sum(line["submitted"] == "✓ done" for line in shown.values()) >= 3


@pytest.mark.parametrize("ran", ["04_federated_rounds"], indirect=True)
def test_a_node_can_be_dropped_by_hand(ran):
    panel = ran.page.locator(".jp-OutputArea-output").filter(has=ran.page.locator(".jupyter-button")).first
    ran.show(panel)
    node = next(iter(rows(panel.locator(BOARDS))))
    others = {name for name in rows(panel.locator(BOARDS)) if name != node}
    assert "dropped" not in " ".join(rows(panel.locator(BOARDS))[node].values())

    # By the name that a screen reader says.
    panel.get_by_role("checkbox", name=f"{node}, round 1", exact=True).check()
    panel.get_by_text(f"round 1 loses {node}", exact=True).wait_for()
    panel.locator(".jupyter-button").click()
    panel.get_by_text(f"✕ {node} dropped").first.wait_for(timeout=100_000)
    panel.get_by_text("done", exact=True).wait_for(timeout=100_000)

    shown = rows(panel.locator(BOARDS))
    assert shown[node]["submitted"] == "✕ dropped"
    assert {shown[name]["submitted"] for name in others} == {"✓ done"}
    assert ran.page.locator(ERRORS).count() == 0
    ran.picture(panel)


@pytest.mark.parametrize("ran", ["04_federated_rounds"], indirect=True)
@pytest.mark.parametrize("theme", ["JupyterLab Dark", "JupyterLab Light"])
def test_outputs_can_be_read_in_both_themes(ran, theme):
    ran.theme(theme)
    for board in ran.page.locator(f"{BOARDS}:visible").all():
        ran.show(board)
        ran.picture()
    assert ran.page.evaluate(FAINT) == {}


@pytest.mark.parametrize("ran", ["12_prove_your_data"], indirect=True)
def test_a_value_is_changed_by_hand_and_its_proof_fails(ran):
    desk = ran.page.locator(".jp-OutputArea-output").filter(has=ran.page.get_by_text("Prove and forge")).first
    ran.show(desk)
    row, value = (desk.get_by_role("spinbutton", name=name) for name in ("row", "value"))
    verdicts = {"99.99": "✕ not believed, whatever is tried", "20": "✓ believed, with a new proof"}
    row.fill("10")
    row.press("Enter")
    desk.get_by_text("row 10: stays").wait_for()
    for number, verdict in verdicts.items():
        value.fill(number)
        value.press("Enter")
        desk.get_by_text(f"becomes {number}").wait_for()
        desk.locator(".jupyter-button").click()
        desk.get_by_text(f"Row 10: {verdict}").wait_for(timeout=60_000)
        desk.get_by_text("the proof does not hold").first.wait_for()
    assert ran.page.locator(ERRORS).count() == 0
    ran.picture(desk)
