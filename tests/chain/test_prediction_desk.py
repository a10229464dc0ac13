"""The prediction desk: every call in every state by everybody, accepted or refused as it should be."""

import pytest
from eth_hash.auto import keccak

from twopm_kit.errors import ContractReverted

WINDOW = 4
PRICE = 11
HASH = keccak(b"input")
ANSWER = keccak(b"answer")
ZERO = bytes(32)
NOBODY = "0x" + "00" * 20


def listing(**changes):
    fields = {
        "model_hash": keccak(b"model"),
        "card": b"card",
        "price": PRICE,
        "payees": [],
        "weights": [],
        "answer_blocks": WINDOW,
    }
    return list({**fields, **changes}.values())


class Story:
    """A desk with one model, whose requests can be brought to any state."""

    def __init__(self, chain):
        self.chain = chain
        self.owner, self.client, self.stranger = (chain.account(n) for n in ("owner", "client", "stranger"))
        self.desk = chain.deploy("PredictionDesk", sender=self.stranger)
        self.desk.register(*listing(), sender=self.owner)

    def pay(self, rows=2):
        receipt = self.desk.request(1, HASH, rows, sender=self.client, value=PRICE * rows)
        return receipt.events[0]["request_id"]

    def bring(self, state):
        if state == "none":
            return self.desk.request_count() + 1
        request = self.pay()
        if state == "answered":
            self.desk.answer(request, ANSWER, sender=self.owner)
        if state in ("late", "refunded"):
            self.chain.mine(WINDOW)
        if state == "refunded":
            self.desk.refund(request, sender=self.client)
        return request


@pytest.fixture
def story(chain):
    return Story(chain)


def refused(reason, call, *arguments, **options):
    with pytest.raises(ContractReverted) as caught:
        call(*arguments, **options)
    assert caught.value.reason == reason


STATES = ("none", "paid", "late", "answered", "refunded")
#: What each call says in each state: None where it is accepted.
ANSWERS = {
    "none": "unknown request",
    "paid": None,
    "late": "answer window is over",
    "answered": "already answered",
    "refunded": "already refunded",
}
REFUNDS = {
    "none": "unknown request",
    "paid": "answer window is open",
    "late": None,
    "answered": "already answered",
    "refunded": "already refunded",
}


def test_every_call_in_every_state_by_everybody(story):
    desk = story.desk
    for state in STATES:
        request = story.bring(state)
        known = state != "none"
        for who in (story.client, story.stranger):
            reason = "only the model's owner answers" if known else "unknown request"
            refused(reason, desk.answer, request, ANSWER, sender=who)
        for who in (story.owner, story.stranger):
            reason = "only the client takes a payment back" if known else "unknown request"
            refused(reason, desk.refund, request, sender=who)
        for call, extra, who, reasons, after in (
            (desk.answer, (ANSWER,), story.owner, ANSWERS, 2),
            (desk.refund, (), story.client, REFUNDS, 3),
        ):
            before = desk.request_info(request).state
            if reasons[state] is not None:
                refused(reasons[state], call, request, *extra, sender=who)
                assert desk.request_info(request).state == before
                continue
            with story.chain.snapshot():
                call(request, *extra, sender=who)
                assert desk.request_info(request).state == after


def test_an_answer_moves_the_escrow_to_the_owner_once(story):
    desk, request = story.desk, story.pay(3)
    refused("answer hash is zero", desk.answer, request, ZERO, sender=story.owner)
    receipt = desk.answer(request, ANSWER, sender=story.owner)
    assert dict(receipt.events[0].args) == {
        "request_id": request,
        "model_id": 1,
        "client": story.client.address,
        "answer_hash": ANSWER,
    }
    assert desk.request_info(request).answer_hash == ANSWER
    assert desk.credit(story.owner.address) == 3 * PRICE
    assert story.chain.balance(desk.address) == 3 * PRICE
    refused("nothing to withdraw", desk.withdraw, sender=story.client)
    assert desk.withdraw(sender=story.owner).events[0]["amount"] == 3 * PRICE
    refused("nothing to withdraw", desk.withdraw, sender=story.owner)
    assert story.chain.balance(desk.address) == 0


def test_a_refund_gives_everything_back(story):
    desk, request = story.desk, story.bring("late")
    other = story.pay()
    assert desk.refund(request, sender=story.client).events[0]["amount"] == 2 * PRICE
    assert story.chain.balance(desk.address) == 2 * PRICE
    assert desk.request_info(other).state == 1


def test_the_window_ends_with_its_last_block(story):
    request = story.pay()
    deadline = story.desk.request_info(request).deadline
    story.chain.mine(deadline - 1 - story.chain.block_number)
    refused("answer window is open", story.desk.refund, request, sender=story.client)
    with story.chain.snapshot():
        assert story.desk.answer(request, ANSWER, sender=story.owner).block == deadline
    story.chain.mine(1)
    refused("answer window is over", story.desk.answer, request, ANSWER, sender=story.owner)
    assert story.desk.refund(request, sender=story.client).block == deadline + 1


@pytest.mark.parametrize(
    ("arguments", "value", "reason"),
    [
        ((2, HASH, 1), PRICE, "unknown model"),
        ((0, HASH, 1), PRICE, "unknown model"),
        ((1, ZERO, 1), PRICE, "request hash is zero"),
        ((1, HASH, 0), 0, "no rows"),
        ((1, HASH, 1_000_001), 1_000_001 * PRICE, "too many rows"),
        ((1, HASH, 2), 2 * PRICE - 1, "payment is not price times rows"),
        ((1, HASH, 2), 2 * PRICE + 1, "payment is not price times rows"),
        ((1, HASH, 2), 0, "payment is not price times rows"),
    ],
)
def test_a_payment_that_does_not_fit_is_refused(story, arguments, value, reason):
    refused(reason, story.desk.request, *arguments, sender=story.client, value=value)
    assert story.desk.request_count() == 0
    assert story.chain.balance(story.desk.address) == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_hash": ZERO}, "model hash is zero"),
        ({"card": b""}, "card is empty"),
        ({"price": 10**30 + 1}, "price out of range"),
        ({"answer_blocks": 0}, "answer window out of range"),
        ({"answer_blocks": 1_000_001}, "answer window out of range"),
        ({"weights": [1]}, "one weight for each payee"),
        ({"payees": [NOBODY], "weights": [1]}, "payee is zero"),
        ({"payees": ["0x" + "11" * 20], "weights": [0]}, "weight out of range"),
        ({"payees": ["0x" + "11" * 20], "weights": [1_000_001]}, "weight out of range"),
    ],
)
def test_terms_that_do_not_fit_are_refused(story, changes, reason):
    refused(reason, story.desk.register, *listing(**changes), sender=story.owner)
    assert story.desk.model_count() == 1


def test_the_dearest_request_does_not_overflow(story):
    story.desk.register(*listing(price=10**30), sender=story.owner)
    assert story.desk.quote(2, 1_000_000) == 10**36
    refused("too many rows", story.desk.quote, 2, 1_000_001)
    refused("no rows", story.desk.quote, 2, 0)
    refused("unknown model", story.desk.quote, 3, 1)


def test_a_model_that_costs_nothing_still_answers_once(story):
    story.desk.register(*listing(price=0), sender=story.owner)
    story.desk.request(2, HASH, 5, sender=story.client)
    story.desk.answer(1, ANSWER, sender=story.owner)
    refused("already answered", story.desk.answer, 1, ANSWER, sender=story.owner)
    refused("nothing to withdraw", story.desk.withdraw, sender=story.owner)


def test_payees_earn_by_weight_and_the_first_gets_the_rest(story):
    payees = ["0x" + f"{i:02x}" * 20 for i in (0x11, 0x22, 0x33)]
    story.desk.register(*listing(price=10, payees=payees, weights=[1, 1, 1]), sender=story.owner)
    story.desk.request(2, HASH, 1, sender=story.client, value=10)
    story.desk.answer(1, ANSWER, sender=story.owner)
    assert [story.desk.credit(payee) for payee in payees] == [4, 3, 3]
    assert story.desk.credit(story.owner.address) == 0
    assert story.desk.payees(2) == (payees, [1, 1, 1])


def test_only_the_owner_closes_and_paid_requests_live_on(story):
    desk, request = story.desk, story.pay()
    refused("only the owner closes a model", desk.close, 1, sender=story.stranger)
    refused("unknown model", desk.close, 2, sender=story.owner)
    desk.close(1, sender=story.owner)
    refused("model is closed", desk.close, 1, sender=story.owner)
    refused("model is closed", desk.request, 1, HASH, 1, sender=story.client, value=PRICE)
    with story.chain.snapshot():
        desk.answer(request, ANSWER, sender=story.owner)
    story.chain.mine(WINDOW)
    desk.refund(request, sender=story.client)
    assert story.chain.balance(desk.address) == 0


def test_views_say_what_was_registered_and_paid(story):
    desk, request = story.desk, story.pay(4)
    model = desk.model_info(1)
    assert model.owner == story.owner.address
    assert model.card_hash == keccak(b"card")
    assert (model.price, model.answer_blocks, model.closed) == (PRICE, WINDOW, False)
    assert desk.events("Registered", model_id=1)[0]["card"] == b"card"
    info = desk.request_info(request)
    assert (info.model_id, info.client, info.rows, info.paid) == (1, story.client.address, 4, 4 * PRICE)
    assert info.deadline == info.requested_at + WINDOW == story.chain.block_number + WINDOW
    assert (info.state, info.answer_hash, info.request_hash) == (1, ZERO, HASH)
    assert desk.model_info(9).owner == NOBODY
    assert desk.request_info(9).state == 0
    assert [e["request_id"] for e in desk.events("Requested", client=story.client.address)] == [request]


def test_coins_sent_without_a_request_are_refused(story):
    with pytest.raises(ContractReverted):
        story.chain.transfer(story.desk.address, 5, sender=story.client)
    assert story.chain.balance(story.desk.address) == 0


THIEF = """
# pragma version 0.4.3
interface Desk:
    def request(model_id: uint256, request_hash: bytes32, rows: uint256) -> uint256: payable
    def refund(request_id: uint256): nonpayable

desk: immutable(Desk)
tried: public(uint256)
gained: public(uint256)

@deploy
def __init__(address_of_desk: address):
    desk = Desk(address_of_desk)

@external
@payable
def pay(request_hash: bytes32):
    extcall desk.request(1, request_hash, 1, value=msg.value)

@external
def take(request_id: uint256):
    extcall desk.refund(request_id)

@external
@payable
def __default__():
    self.gained += 1
    self.tried += 1
    again: bool = raw_call(
        desk.address,
        abi_encode(convert(1, uint256), method_id=method_id("refund(uint256)")),
        revert_on_failure=False,
    )
    if again:
        self.gained += 1
"""


def test_a_client_that_calls_back_is_refunded_once(chain, story):
    from twopm_kit import chain as chains

    thief = chain.deploy(chains.compile(THIEF, "Thief"), story.desk.address, sender=story.stranger)
    thief.pay(HASH, sender=story.stranger, value=PRICE)
    story.pay(1)  # coins of somebody else are in the desk
    chain.mine(WINDOW)
    thief.take(1, sender=story.stranger)
    assert (thief.tried(), thief.gained()) == (1, 1)
    assert chain.balance(thief.address) == PRICE
    assert chain.balance(story.desk.address) == PRICE
