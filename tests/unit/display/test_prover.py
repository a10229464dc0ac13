"""The prover without a browser: a value set from code is proven, forged and judged by the real contract."""

import ipywidgets as widgets
import numpy as np
import pytest

import twopm_kit as kit
from twopm_kit.display import Prover, prover
from twopm_kit.errors import DataError, ProofRefused
from twopm_kit.vsies.proofs import ColumnProofs

from .test_panel import texts, walk

# A range of five bits: proofs of narrow ranges are quick.
VALUES = np.random.default_rng(5).integers(300, 320, 40)
RANGE = {"low": 300, "high": 331, "step": 0.01}


@pytest.fixture(scope="module")
def place():
    with kit.chain.connect("embedded") as chain:
        owner = chain.account("hospital")
        yield ColumnProofs.deploy(chain, owner), owner


@pytest.fixture(scope="module")
def made(place):
    return prover(VALUES, *place, **RANGE, dataset=3, column="radius", title="Change one radius")


def said(made):
    return " ".join(texts(made.widget))


def test_a_value_in_range_is_believed_with_a_new_proof_only(made, place):
    assert isinstance(made, Prover)
    assert "nothing tried yet" in repr(made)
    with pytest.raises(DataError, match="nothing was tried"):
        made.verdicts()
    made.value = 3, 3.31
    assert made.value == (3, 3.31)
    assert made.error is None
    new, old = made.trials
    assert (new.believed, new.by, new.why) == (True, "contract", "")
    assert 100_000 < new.gas <= 400_000
    assert new.nbytes > 400
    assert new.making > 0 < new.checking
    assert not old.believed
    assert old.gas is None
    assert "does not hold" in old.why
    assert list(made.verdicts().frame["gas"]) == [new.gas, None]
    assert "Row 3: ✓ believed" in said(made)
    assert "✕ the contract refuses the proof" in said(made)
    proofs, owner = place
    assert proofs.proven(3, owner, "radius", 1).rows == 40
    assert proofs.proven(3, owner, "radius", 0) is None


@pytest.mark.parametrize("bad", [3.32, -9_999.0])
def test_a_value_out_of_range_is_believed_by_nobody(made, bad):
    made.value = 7, bad
    by_rules, old, cheating = made.trials
    assert not any(trial.believed for trial in made.trials)
    assert by_rules.by == "kit"
    assert "row 7" in by_rules.why
    assert old.by == cheating.by == "contract"
    assert "does not hold" in old.why
    assert "does not hold" in cheating.why
    assert "Row 7: ✕ not believed" in said(made)
    assert "refused" in repr(made)


def test_each_run_starts_from_the_column_and_proves_at_a_place_of_its_own(made):
    made.value = 0, 3.3
    once = _commitments(made)
    made.value = 1, 3.31
    again = _commitments(made)
    assert made.trials[0].believed
    assert once[0] == again[0]
    assert len({*once, *again}) == 3


def _commitments(made):
    [shown] = [text for text in texts(made.widget) if "commitment" in text]
    return [part.split("</code>")[0] for part in shown.split("<code>")[1:]]


def test_a_second_panel_at_the_same_place_works(made, place):
    again = prover(VALUES, *place, **RANGE, dataset=3, column="radius")
    again.value = 1, 3.2
    assert again.trials[0].believed


def test_the_boxes_and_the_button_do_the_same(made):
    made.row.value = 5
    assert made.number.value == pytest.approx(VALUES[5] / 100)
    assert "row 5: stays" in said(made)
    made.number.value = 3.15
    assert f"row 5: {VALUES[5] / 100:g} becomes 3.15" in said(made)
    [button] = [widget for widget in walk(made.widget) if isinstance(widget, widgets.Button)]
    button.click()
    assert made.trials[0].believed
    assert not button.disabled


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 1e300])
def test_what_is_no_number_of_steps_is_said(made, number):
    made.value = 2, number
    assert isinstance(made.error, DataError)
    assert made.trials == []
    assert "✕ DataError" in said(made)


def test_it_says_words_and_no_colours_and_keeps_little_state(made):
    made.value = 4, 3.0
    assert made.error is None
    assert "color:" not in said(made).replace("color:inherit", "")
    assert len(list(walk(made.widget))) <= 10
    data, _ = made._repr_mimebundle_()
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == made.widget.model_id
    assert data["text/plain"] == repr(made)


def test_a_hostile_title_is_inert(place, hostile):
    shown = said(prover(VALUES, *place, **RANGE, title=hostile))
    assert "<script" not in shown
    assert "\x1b" not in shown


def test_what_cannot_be_proven_at_the_start_is_refused(place):
    with pytest.raises(ProofRefused, match="row 0"):
        prover([5_000, 400], *place, **RANGE)
    for step in (0, -1, float("nan"), float("inf"), True, "1"):
        with pytest.raises(DataError, match="step"):
            prover([1], *place, low=0, high=9, step=step)
