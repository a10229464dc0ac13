"""Paid predictions: each payment buys one answer to one input, or comes back."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twopm_kit import chain as chains
from twopm_kit.errors import (
    AlreadyAnswered,
    AnswerMismatch,
    ContractReverted,
    ForeignRequest,
    InferenceError,
    InputMismatch,
    PaymentError,
    RequestExpired,
    RequestNotFinal,
    RequestRefunded,
    SchemaError,
    SecretRefused,
    UnknownRequest,
    WrongKey,
)
from twopm_kit.inference import (
    Answer,
    Kind,
    PredictionClient,
    PredictionDesk,
    PredictionService,
    Predictor,
    RequestState,
    wire,
)

PRICE = 1_000
WINDOW = 10


@pytest.fixture(params=["client", "secret_client"])
def asker(request):
    """A client that asks in clear, and one that asks on ciphertexts."""
    return request.getfixturevalue(request.param)


# The way through ---------------------------------------------------------------------------------------


def test_a_paid_prediction_is_the_prediction(asker, service, small, points):
    answer = asker.predict(service, points)
    assert np.abs(answer["probability"] - small.predict_proba(points)).max() < 1e-4
    assert (answer["class"] == small.predict(points)).all()
    assert answer.index.equals(points.index)


def test_breast_cancer_paid_for_in_clear_and_encrypted(desk, predictor, owner, alice, holder, rows):
    listing = desk.register(predictor, price=PRICE, sender=owner)
    service = PredictionService(predictor, desk, listing, account=owner)
    clear = PredictionClient(desk, listing, account=alice).predict(service, rows)
    encrypted = PredictionClient(desk, listing, account=alice, holder=holder).predict(service, rows)
    np.testing.assert_array_equal(clear["probability"], predictor.predict_proba(rows))
    assert np.abs(clear["probability"] - encrypted["probability"]).max() < 1e-4
    assert (clear["class"] == encrypted["class"]).all()


def test_step_by_step_the_chain_knows_hashes_and_the_money_moves(chain, desk, owner, client, service, points):
    request = client.pay(points)
    assert (request.paid, request.rows, request.kind) == (PRICE * 6, 6, Kind.CLEAR)
    assert chain.balance(desk.address) == PRICE * 6
    assert desk.credit(owner) == 0
    known = desk.request(request.request_id)
    assert (known.state, known.client, known.rows) == (RequestState.PAID, client.account.address, 6)
    assert known.request_hash == desk.request_hash(1, client.account.address, request.payload)

    answer = service.answer(request, request.payload)
    known = desk.request(request.request_id)
    assert known.state is RequestState.ANSWERED
    assert known.answer_hash == desk.answer_hash(request.request_id, answer.content)
    assert desk.credit(owner) == PRICE * 6

    before = chain.balance(owner)
    desk.withdraw(sender=owner)
    assert chain.balance(owner) > before - 10**16  # gas, at most
    assert chain.balance(desk.address) == 0
    assert desk.requests()["state"].tolist() == ["answered"]


def test_gas_is_recorded_for_every_call(chain, desk, owner, client, service, points):
    with chain.ledger.section("paid prediction"):
        request = client.pay(points)
        service.answer(request, request.payload)
        desk.withdraw(sender=owner)
    frame = chain.ledger.frame().query("section == 'paid prediction'")
    assert frame["call"].tolist() == ["request", "answer", "withdraw"]
    assert (frame["gas"] > 21_000).all()
    assert request.gas == frame["gas"].iloc[0]
    assert service.log["gas"].iloc[0] == frame["gas"].iloc[1]


def test_payees_share_by_weight_and_no_wei_is_lost(desk, small, owner, alice, bob, points):
    listing = desk.register(small, price=7, sender=owner, payees={bob: 2, owner.address: 1})
    assert listing.payees == {bob.address: 2, owner.address: 1}
    service = PredictionService(small, desk, listing, account=owner)
    PredictionClient(desk, listing, account=alice).predict(service, points.head(1))
    assert (desk.credit(bob), desk.credit(owner)) == (5, 2)
    equal = desk.register(small, price=6, sender=owner, payees=[bob, owner])
    assert set(equal.payees.values()) == {1}


def test_a_client_knows_the_model_from_the_chain_alone(desk, predictor, owner, alice, rows):
    desk.register(predictor, price=3, sender=owner)
    elsewhere = PredictionDesk.at(desk.chain, desk.address)
    client = PredictionClient(elsewhere, 1, account=alice)
    assert client.card == predictor.card
    assert client.quote(rows) == 3 * len(rows)


# The log -----------------------------------------------------------------------------------------------


def test_the_log_says_what_the_server_saw_and_nothing_of_the_rows(client, secret_client, service, points):
    client.predict(service, points)
    secret_client.predict(service, points)
    with pytest.raises(UnknownRequest):
        service.answer(99, b"")
    log = service.log
    assert log["kind"].tolist() == ["clear", "encrypted", ""]
    assert log["status"].tolist() == ["answered", "answered", "UnknownRequest"]
    assert log["rows"].tolist() == [6, 6, 0]
    assert (log["bytes_out"] > 0).tolist() == [True, True, False]
    assert (log["seconds"] > 0).all()
    values = {f"{v:.6g}" for v in points.to_numpy().ravel()}
    assert not values & {f"{v:.6g}" for v in log.select_dtypes("number").to_numpy().ravel()}


def test_the_server_never_gets_the_rows_of_an_encrypted_request(secret_client, service, points):
    request = secret_client.pay(points)
    answer = service.answer(request, request.payload)
    for value in [*points.to_numpy().ravel(), *secret_client.read(answer)["probability"]]:
        assert np.float64(value).tobytes() not in request.payload + answer.content
    with pytest.raises(InferenceError):
        wire.unpack_table(wire.unpack_request(request.payload)[1])


# What a payment does not cover -------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1, 99, -1, 2**256, True, "1", None])
def test_a_request_that_nobody_paid_for(service, number):
    with pytest.raises(UnknownRequest, match="has no request") as refused:
        service.answer(number, b"payload")
    assert "pay" in refused.value.hint


def test_a_request_for_another_model(desk, owner, client, points):
    other = Predictor([3.0, 1.0], 0.0, features=["a", "b"])
    service = PredictionService(other, desk, desk.register(other, price=1, sender=owner), account=owner)
    request = client.pay(points)
    with pytest.raises(ForeignRequest, match="paid for model 1, this is model 2"):
        service.answer(request, request.payload)


def test_one_payment_buys_one_answer(asker, service, points):
    request = asker.pay(points)
    service.answer(request, request.payload)
    with pytest.raises(AlreadyAnswered, match="one payment buys one answer"):
        service.answer(request, request.payload)


def test_two_threads_with_one_payment_get_one_answer(asker, service, points):
    request = asker.pay(points)

    def ask(_):
        try:
            return service.answer(request, request.payload)
        except AlreadyAnswered as refused:
            return refused

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(ask, range(4)))
    answers = [result for result in results if isinstance(result, Answer)]
    assert len(answers) == 1
    assert len(asker.read(answers[0])) == 6
    assert sorted(service.log["status"]) == ["AlreadyAnswered"] * 3 + ["answered"]


def test_a_lost_answer_is_sent_again_to_whoever_holds_the_input(asker, service, points):
    request = asker.pay(points)
    with pytest.raises(InferenceError, match="not answered yet"):
        service.resend(request, request.payload)
    first = service.answer(request, request.payload)
    again = service.resend(request.request_id, request.payload)
    assert again.content == first.content
    with pytest.raises(InputMismatch):
        service.resend(request, request.payload + b"\0")
    assert service.log["status"].tolist() == ["InferenceError", "answered", "sent again", "InputMismatch"]


@pytest.mark.parametrize("at", [0, 11, 12, 43, 44, 60, -1])
def test_a_changed_payload_is_not_the_one_that_was_paid_for(asker, service, points, at):
    request = asker.pay(points)
    payload = bytearray(request.payload)
    payload[at] ^= 1
    with pytest.raises(InputMismatch, match="not the one"):
        service.answer(request, bytes(payload))
    assert service.desk.request(request.request_id).state is RequestState.PAID
    service.answer(request, request.payload)  # the right input is still paid for


def test_a_payment_does_not_cover_another_input(client, service, points):
    first, second = client.pay(points), client.pay(points + 1)
    with pytest.raises(InputMismatch):
        service.answer(first, second.payload)
    with pytest.raises(InputMismatch):
        service.answer(second, first.payload)


def test_a_payment_does_not_cover_another_client(desk, listing, service, client, bob, points):
    """Bob pays with the hash that Alice paid with, and sends her input: it is bound to her address."""
    hers = client.pay(points)
    his, _ = desk.pay(listing, hers.request_hash, hers.rows, sender=bob)
    with pytest.raises(InputMismatch):
        service.answer(his, hers.payload)


def test_a_payment_does_not_cover_another_model_of_the_same_owner(desk, small, owner, alice, client, points):
    request = client.pay(points)
    second = desk.register(small, price=PRICE, sender=owner)
    service = PredictionService(small, desk, second, account=owner)
    copied, _ = desk.pay(second, request.request_hash, request.rows, sender=alice)
    with pytest.raises(InputMismatch):
        service.answer(copied, request.payload)


def test_a_payment_does_not_cover_another_desk(chain, small, owner, alice, client, points):
    request = client.pay(points)
    other = PredictionDesk.deploy(chain, owner)
    listing = other.register(small, price=PRICE, sender=owner)
    service = PredictionService(small, other, listing, account=owner)
    with pytest.raises(UnknownRequest):
        service.answer(request, request.payload)
    copied, _ = other.pay(listing, request.request_hash, request.rows, sender=alice)
    with pytest.raises(InputMismatch):
        service.answer(copied, request.payload)


def test_a_payment_does_not_cover_another_chain(client, small, points):
    """A second chain with a desk at the very same address, and another chain id."""
    request = client.pay(points)
    digest = wire.request_hash(
        client.desk.chain.chain_id + 1, client.desk.address, 1, client.account.address, request.payload
    )
    assert digest != request.request_hash
    with chains.connect("embedded") as elsewhere:
        owner = elsewhere.account("owner")
        desk = PredictionDesk.deploy(elsewhere, owner)
        service = PredictionService(
            small, desk, desk.register(small, price=PRICE, sender=owner), account=owner
        )
        with pytest.raises(UnknownRequest):
            service.answer(request, request.payload)


@pytest.mark.parametrize("kind", list(Kind))
def test_fewer_rows_paid_than_sent(desk, listing, service, holder, alice, points, kind):
    bodies = {
        Kind.CLEAR: wire.pack_table(["a", "b"], points.to_numpy()),
        Kind.ENCRYPTED: holder.encrypt(points).to_bytes(),
    }
    payload = wire.pack_request(kind, bodies[kind])
    digest = desk.request_hash(listing, alice.address, payload)
    request, _ = desk.pay(listing, digest, 1, sender=alice)
    with pytest.raises(SchemaError, match="6 rows, 1 were paid"):
        service.answer(request, payload)
    assert desk.request(request.request_id).state is RequestState.PAID


BAD_INPUTS = {
    "wrong columns": (Kind.CLEAR, lambda _: wire.pack_table(["a", "c"], np.ones((1, 2))), SchemaError),
    "one column": (Kind.CLEAR, lambda _: wire.pack_table(["a"], np.ones((1, 1))), SchemaError),
    "nan": (Kind.CLEAR, lambda _: wire.pack_table(["a", "b"], np.array([[np.nan, 1.0]])), InferenceError),
    "rubbish": (Kind.CLEAR, lambda _: b"rubbish", InferenceError),
    "pickle": (Kind.CLEAR, lambda _: pickle.dumps([1.0, 2.0]), InferenceError),
    "rubbish ciphertext": (Kind.ENCRYPTED, lambda _: b"rubbish", ValueError),
    "encrypted wrong columns": (
        Kind.ENCRYPTED,
        lambda holder: holder.encrypt(pd.DataFrame({"a": [1.0], "c": [1.0]})).to_bytes(),
        SchemaError,
    ),
    "encrypted too narrow": (
        Kind.ENCRYPTED,
        lambda holder: holder.encrypt(pd.DataFrame({"a": [1.0]})).to_bytes(),
        SchemaError,
    ),
    "clear as encrypted": (
        Kind.ENCRYPTED,
        lambda _: wire.pack_table(["a", "b"], np.ones((1, 2))),
        ValueError,
    ),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_an_input_that_is_paid_for_and_cannot_be_used(desk, listing, service, alice, holder, case):
    kind, make, error = BAD_INPUTS[case]
    payload = wire.pack_request(kind, make(holder))
    request, _ = desk.pay(listing, desk.request_hash(listing, alice.address, payload), 1, sender=alice)
    with pytest.raises(error) as refused:
        service.answer(request, payload)
    assert refused.value.hint
    assert desk.request(request.request_id).state is RequestState.PAID
    desk.chain.mine(WINDOW)
    desk.refund(request.request_id, sender=alice)
    assert desk.request(request.request_id).state is RequestState.REFUNDED


def test_a_payload_beyond_the_limit_and_one_that_is_no_bytes(desk, small, listing, owner, client, points):
    service = PredictionService(small, desk, listing, account=owner, max_bytes=100)
    request = client.pay(points)
    with pytest.raises(InferenceError, match="limit is 100 bytes"):
        service.answer(request, request.payload)
    with pytest.raises(InferenceError, match="a str were sent"):
        service.answer(request, "payload")


def test_a_payment_that_is_not_deep_enough(chain, desk, small, listing, owner, client, points):
    service = PredictionService(small, desk, listing, account=owner, confirmations=2)
    request = client.pay(points)
    with pytest.raises(RequestNotFinal, match="waits for 2 blocks"):
        service.answer(request, request.payload)
    chain.mine(2)
    assert len(client.read(service.answer(request, request.payload))) == 6


# Refunds -----------------------------------------------------------------------------------------------


def test_without_an_answer_the_payment_comes_back(chain, asker, service, points):
    request = asker.pay(points)
    with pytest.raises(ContractReverted) as refused:
        asker.refund(request)
    assert refused.value.reason == "answer window is open"

    chain.mine(WINDOW)
    with pytest.raises(RequestExpired, match="not answered in its window"):
        service.answer(request, request.payload)
    assert service.log["kind"].tolist() == [""]  # refused before anything was read or computed
    before = chain.balance(asker.account)
    asker.refund(request)
    assert chain.balance(service.desk.address) == 0
    assert chain.balance(asker.account) + 10**16 > before + request.paid

    with pytest.raises(RequestRefunded):
        service.answer(request, request.payload)
    with pytest.raises(RequestRefunded):
        asker.refund(request)


def test_the_last_block_of_the_window_still_counts(chain, client, service, points):
    request = client.pay(points)
    chain.mine(request.deadline - chain.block_number - 1)
    service.answer(request, request.payload)
    assert service.desk.request(request.request_id).state is RequestState.ANSWERED


def test_an_answered_request_is_not_refunded(chain, client, service, points):
    request = client.pay(points)
    service.answer(request, request.payload)
    chain.mine(WINDOW + 1)
    with pytest.raises(AlreadyAnswered):
        client.refund(request)


def test_only_the_client_takes_its_payment_back(chain, desk, listing, client, bob, points):
    request = client.pay(points)
    chain.mine(WINDOW + 1)
    with pytest.raises(ForeignRequest):
        PredictionClient(desk, listing, account=bob).refund(request)
    with pytest.raises(ContractReverted, match="only the client takes a payment back"):
        desk.refund(request.request_id, sender=bob)


def test_a_race_that_is_lost_on_chain_earns_and_answers_nothing(chain, client, service, points, monkeypatch):
    """The window ends between the check and the answer: the contract has the last word."""
    request = client.pay(points)
    compute = service._compute

    def slow(*arguments):
        chain.mine(WINDOW)
        return compute(*arguments)

    monkeypatch.setattr(service, "_compute", slow)
    with pytest.raises(RequestExpired):
        service.answer(request, request.payload)
    assert service.desk.credit(service.account) == 0
    client.refund(request)


# Reading -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 12, 50, -1])
def test_a_changed_answer_is_not_read(asker, service, points, at):
    request = asker.pay(points)
    answer = service.answer(request, request.payload)
    content = bytearray(answer.content)
    content[at] ^= 1
    with pytest.raises(AnswerMismatch, match="not the one that the chain names"):
        asker.read(Answer(answer.request_id, answer.kind, bytes(content)))
    assert len(asker.read(answer)) == 6


def test_an_answer_to_another_request_is_not_read(asker, service, points):
    first, second = asker.pay(points), asker.pay(points)
    one, two = (service.answer(request, request.payload) for request in (first, second))
    with pytest.raises(AnswerMismatch):
        asker.read(Answer(one.request_id, one.kind, two.content))
    with pytest.raises(UnknownRequest):
        asker.read(Answer(99, one.kind, one.content))


def test_only_an_answer_is_read(client):
    with pytest.raises(InferenceError, match="bytes was passed; expected an Answer"):
        client.read(b"answer")


def test_an_answer_is_not_read_before_the_chain_names_it(client, points):
    request = client.pay(points)
    with pytest.raises(AnswerMismatch):
        client.read(Answer(request.request_id, Kind.CLEAR, b"made up"))


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        (wire.pack_table(["probability"], np.full((5, 1), 0.5)), AnswerMismatch, "5 rows"),
        (wire.pack_table(["probability"], np.full((6, 1), 1.5)), InferenceError, "from 0 to 1"),
        (wire.pack_table(["other"], np.full((6, 1), 0.5)), InferenceError, "expected one, 'probability'"),
        (b"rubbish", InferenceError, "cannot be read"),
    ],
)
def test_an_owner_who_names_a_bad_answer_on_chain_is_found_out(
    desk, owner, client, points, body, error, words
):
    request = client.pay(points)
    content = wire.pack_answer(Kind.CLEAR, request.request_hash, body)
    desk.answer(request.request_id, desk.answer_hash(request.request_id, content), sender=owner)
    with pytest.raises(error, match=words):
        client.read(Answer(request.request_id, Kind.CLEAR, content))


def test_an_answer_of_the_wrong_kind_or_to_another_input_is_found_out(desk, owner, client, points):
    for kind, asked in ((Kind.ENCRYPTED, None), (Kind.CLEAR, bytes(32))):
        request = client.pay(points)
        body = wire.pack_table(["probability"], np.full((6, 1), 0.5))
        content = wire.pack_answer(kind, asked or request.request_hash, body)
        desk.answer(request.request_id, desk.answer_hash(request.request_id, content), sender=owner)
        with pytest.raises(AnswerMismatch, match="to another request"):
            client.read(Answer(request.request_id, kind, content))


def test_scores_under_another_key_are_found_out(desk, small, owner, secret_client, other_holder, points):
    request = secret_client.pay(points)
    body = small.predict_encrypted(other_holder.encrypt(points)).to_bytes()
    content = wire.pack_answer(Kind.ENCRYPTED, request.request_hash, body)
    desk.answer(request.request_id, desk.answer_hash(request.request_id, content), sender=owner)
    with pytest.raises(WrongKey):
        secret_client.read(Answer(request.request_id, Kind.ENCRYPTED, content))


# Setting up --------------------------------------------------------------------------------------------


def test_nothing_is_paid_for_rows_that_do_not_fit(chain, asker, points):
    before = chain.balance(asker.account)
    for broken in (points[["a"]], points.rename(columns={"a": "c"}), points.where(points > 10)):
        with pytest.raises(SchemaError):
            asker.pay(broken)
    assert chain.balance(asker.account) == before


def test_nothing_is_paid_above_the_clients_limit(chain, desk, listing, alice, points):
    client = PredictionClient(desk, listing, account=alice, max_price=PRICE)
    with pytest.raises(InferenceError, match="pays at most 1,000"):
        client.pay(points)
    assert client.pay(points.head(1)).paid == PRICE


def test_a_service_serves_the_listed_model_of_its_own_account_only(desk, listing, small, owner, alice):
    with pytest.raises(InferenceError, match="is listed with hash"):
        PredictionService(Predictor([1.0, 1.0], features=["a", "b"]), desk, listing, account=owner)
    with pytest.raises(InferenceError, match="belongs to"):
        PredictionService(small, desk, listing, account=alice)
    with pytest.raises(InferenceError, match="has no model 9"):
        PredictionService(small, desk, 9, account=owner)
    with pytest.raises(InferenceError, match="expected a Listing"):
        desk.listing("one")


def test_a_closed_model_takes_no_new_request_and_answers_the_old(
    desk, listing, owner, client, service, points
):
    request = client.pay(points)
    desk.close(listing, sender=owner)
    assert desk.listing(listing).closed
    with pytest.raises(ContractReverted, match="model is closed"):
        client.pay(points)
    assert len(client.read(service.answer(request, request.payload))) == 6


def test_every_payment_error_says_what_to_do():
    for error in PaymentError.__subclasses__():
        assert error.__doc__
        assert ":" in error.__doc__


def test_nothing_shows_or_pickles_an_input(asker, service, desk, listing, points):
    request = asker.pay(points)
    answer = service.answer(request, request.payload)
    shown = [request, answer, service, desk, listing, desk.request(request.request_id), asker]
    for thing in shown:
        text = repr(thing) + (thing._repr_html_() if hasattr(thing, "_repr_html_") else "")
        assert request.payload.hex()[100:140] not in text
        assert str(points.iloc[0, 0]) not in text
    with pytest.raises(SecretRefused):
        pickle.dumps(request)


# Any order of calls ------------------------------------------------------------------------------------

CALLS = st.lists(
    st.tuples(st.sampled_from(["pay", "answer", "refund", "withdraw", "mine"]), st.integers(1, 3)),
    max_size=14,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=CALLS)
def test_the_desk_holds_exactly_what_it_owes(chain, small, desk, owner, alice, bob, calls):
    """Whatever happens in whatever order: coins in the desk = open payments + credit."""
    with chain.snapshot():
        listing = desk.register(small, price=7, sender=owner, payees={owner: 1, bob: 2}, answer_blocks=3)
        for call, number in calls:
            try:
                if call == "pay":
                    desk.pay(listing, b"\1" * 32, number, sender=alice)
                elif call == "answer":
                    desk.answer(number, b"\2" * 32, sender=owner)
                elif call == "refund":
                    desk.refund(number, sender=alice)
                elif call == "withdraw":
                    desk.withdraw(sender=(owner, bob, alice)[number - 1])
                else:
                    chain.mine(number)
            except (PaymentError, ContractReverted):
                pass
            known = [desk.request(i) for i in range(1, desk.contract.request_count() + 1)]
            still_open = sum(r.paid for r in known if r.state is RequestState.PAID)
            assert chain.balance(desk.address) == still_open + desk.credit(owner) + desk.credit(bob)
