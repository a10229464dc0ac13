"""What chain, mailbox and a node's own key show of a round, and what they do not."""

import numpy as np
import pytest

from twopm_kit import errors, secagg
from twopm_kit.federated import Inspector, LocalNetwork, Phase

LOST = "hospital-2"


@pytest.fixture(scope="module")
def played(hospitals):
    """One round played by hand up to the attestations, with one drop-out between share and submit."""
    from tests.unit.federated.conftest import Classifier

    task = Classifier(1)
    network = LocalNetwork(hospitals)
    nodes = network.nodes
    task_id, _ = network.coordinator.register(task, join_blocks=20, step_blocks=20)
    for node in nodes:
        node.enter(task_id, approved=task.code_hash())
        node.join()
    network.coordinator.open_round(task_id)
    for node in nodes:
        node.share(1)
    network.coordinator.end_phase(task_id, 1)
    staying = [node for node in nodes if node.name != LOST]
    receipts = {node.name: node.submit(1) for node in staying}
    assert network.coordinator.end_phase(task_id, 1)[0] is Phase.OPEN
    for node in staying:
        node.open_shares(1)
    for node in staying:
        node.attest(1)
    return network, task, Inspector(network, task, task_id), receipts


def test_terms_are_complete_and_explained(played):
    _, task, inspector, _ = played
    terms = inspector.terms()
    assert terms.loc["min_clients", "on chain"] == "3"
    assert terms.loc["code_hash", "on chain"].startswith("0x" + task.code_hash().hex()[:10])
    assert terms["meaning"].str.len().min() > 10


def test_the_draw_is_the_contracts(played):
    network, _, inspector, _ = played
    draw = inspector.draw(1)
    names = {node.account.address: node.name for node in network.nodes}
    members = network.contract.roster(inspector.task_id, 1).members
    assert list(draw.index) == [names[address] for address in members]
    assert draw["seat"].all()
    assert draw["score"].between(0, 1).all()
    with pytest.raises(errors.ProtocolError, match="not open"):
        inspector.draw(2)


def test_seats_say_who_came_how_far(played):
    _, _, inspector, _ = played
    seats = inspector.seats(1)
    assert seats.loc[LOST, "last step"] == "shared"
    assert set(seats["last step"].drop(LOST)) == {"attested"}
    assert seats.loc[LOST, "open root"] == "–"


def test_a_box_opens_for_its_receiver_alone(played):
    _, _, inspector, _ = played
    box = inspector.open_box("hospital-3", "hospital-1", 1)
    assert box.fits_commitment
    assert (box.dealer, box.receiver, box.share_bytes) == ("hospital-1", "hospital-3", 33)
    with pytest.raises(errors.TamperedMessage, match="does not open"):
        inspector.open_box("hospital-4", "hospital-1", 1, receiver="hospital-3")
    with pytest.raises(errors.ProtocolError, match="no box for itself"):
        inspector.open_box("hospital-1", "hospital-1", 1)
    with pytest.raises(errors.ProtocolError, match="no node"):
        inspector.open_box("nobody", "hospital-1", 1)


def test_posted_vectors_add_up_to_what_the_contract_holds(played):
    network, _, inspector, receipts = played
    posted = [inspector.posted(receipt) for receipt in receipts.values()]
    total = [sum(column) % secagg.MODULUS for column in zip(*posted, strict=True)]
    assert total == network.contract.masked_sum(inspector.task_id)


def test_posted_wants_the_receipt_of_a_vector(played):
    network, task, inspector, _ = played
    _, receipt = network.coordinator.register(task, join_blocks=5, step_blocks=5)
    with pytest.raises(errors.ProtocolError, match="register"):
        inspector.posted(receipt)


def test_a_posted_vector_is_found_by_its_sender(played):
    _, _, inspector, receipts = played
    for name, receipt in receipts.items():
        assert inspector.posted_by(name, 1) == inspector.posted(receipt)
    with pytest.raises(errors.ProtocolError, match="sent no vector in round 1"):
        inspector.posted_by(LOST, 1)
    with pytest.raises(errors.ProtocolError, match="sent no vector in round 2"):
        inspector.posted_by("hospital-1", 2)
    with pytest.raises(errors.ProtocolError, match="no node"):
        inspector.posted_by("nobody", 1)


def test_openings_are_of_one_kind_each(played):
    _, _, inspector, receipts = played
    openings = inspector.openings(1)
    assert sorted(openings.index) == sorted(receipts)
    assert set(openings[LOST]) == {"pair key"}
    assert set(openings.drop(columns=LOST).to_numpy().ravel()) == {"own mask"}


def test_anybody_can_take_the_mask_off_and_a_wrong_sum_is_refused(played):
    network, task, inspector, _ = played
    words = inspector.unmasked(1)
    wrong = [words[0] + 1, *words[1:]]
    with pytest.raises(errors.ContractReverted, match="does not fit"):
        network.contract.send("finish", inspector.task_id, 1, wrong, sender=network.owner)
    decoded = inspector.encoder().decode(words, 4)
    clear = network.run_in_clear(task, drop={1: [LOST]})
    start = task.initial_state()
    assert np.abs(task.merge(start, decoded)["weight"] - clear.state["weight"]).max() <= decoded.step
