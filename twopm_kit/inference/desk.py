"""``PredictionDesk``: where predictions are paid for; the contract with typed answers and named refusals."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from html import escape
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
from eth_hash.auto import keccak

from twopm_kit.chain import Account, Chain, Contract, Receipt
from twopm_kit.chain.deployed import Deployed, facts_table
from twopm_kit.errors import (
    AlreadyAnswered,
    ContractReverted,
    InferenceError,
    PaymentError,
    RequestExpired,
    RequestRefunded,
    UnknownRequest,
)
from twopm_kit.inference.card import ModelCard
from twopm_kit.inference.wire import answer_hash, request_hash

if TYPE_CHECKING:
    from twopm_kit.inference.predictor import Predictor

__all__ = ["DeskRequest", "Listing", "PredictionDesk", "RequestState"]


class RequestState(IntEnum):
    """States of a request, with the contract's numbers."""

    NONE = 0
    PAID = 1
    ANSWERED = 2
    REFUNDED = 3

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, repr=False)
class Listing:
    """A model as the desk lists it.

    Attributes
    ----------
    model_id : int
        Its number on the desk, from 1.
    owner : str
        The only account that answers.
    model_hash : bytes
        Commits to the weights.
    card : ModelCard
        What clients must know.
    price : int
        Wei a row.
    answer_blocks : int
        Blocks after a request in which an answer counts.
    payees : dict of str to int
        Who earns the payments, by weight.
    closed : bool
        Whether no more requests are taken.
    """

    model_id: int
    owner: str
    model_hash: bytes
    card: ModelCard
    price: int
    answer_blocks: int
    payees: dict[str, int]
    closed: bool

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{self.price:,} wei a row"
        return f"<Listing {self.model_id}: {len(self.card.features)} features, {state}>"

    def _repr_html_(self) -> str:
        facts = {
            "price": f"{self.price:,} wei a row",
            "owner": self.owner,
            "payees": ", ".join(f"{who} ({weight})" for who, weight in self.payees.items()),
            "model hash": "0x" + self.model_hash.hex(),
            "features": ", ".join(self.card.features[:8]) + (" …" if len(self.card.features) > 8 else ""),
            "answer window": f"{self.answer_blocks} blocks",
            "state": "closed" if self.closed else "open",
        }
        return f"<p><strong>Model {self.model_id}</strong></p>{facts_table(facts)}"


@dataclass(frozen=True, repr=False)
class DeskRequest:
    """A request as the chain knows it.

    Attributes
    ----------
    request_id, model_id : int
        Numbers on the desk.
    client : str
        Address of the account that paid.
    request_hash : bytes
        Of the input, bound to chain, desk, model and client.
    rows, paid : int
        Rows of the input, and wei.
    requested_at, deadline : int
        Block of the payment, and last block in which an answer counts.
    state : RequestState
        How far it has come.
    answer_hash : bytes
        Of the answer; zero before there is one.
    """

    request_id: int
    model_id: int
    client: str
    request_hash: bytes
    rows: int
    paid: int
    requested_at: int
    deadline: int
    state: RequestState
    answer_hash: bytes

    def __repr__(self) -> str:
        return (
            f"<DeskRequest {self.request_id}: {self.state}, {self.rows} rows for model {self.model_id}, "
            f"{self.paid:,} wei, answer until block {self.deadline}>"
        )

    def _repr_html_(self) -> str:
        facts = {
            "state": str(self.state),
            "model": str(self.model_id),
            "client": self.client,
            "rows": f"{self.rows:,}",
            "paid": f"{self.paid:,} wei in block {self.requested_at}",
            "answer until block": f"{self.deadline:,}",
            "request hash": "0x" + self.request_hash.hex(),
            "answer hash": "0x" + self.answer_hash.hex(),
        }
        return f"<p><strong>Request {self.request_id}</strong></p>{facts_table(facts)}"


class PredictionDesk(Deployed):
    """A deployed desk, as one party sees it through its own connection. Make one with `deploy` or `at`.

    Whoever deploys a desk has no rights on it.

    Parameters
    ----------
    chain : Chain
        The party's connection.
    contract : Contract
        The deployed contract.
    """

    CONTRACT = "PredictionDesk"

    def __init__(self, chain: Chain, contract: Contract) -> None:
        super().__init__(chain, contract)
        self._cards: dict[int, ModelCard] = {}

    # The owner's side -----------------------------------------------------------------------------------

    def register(
        self,
        predictor: "Predictor",
        *,
        price: int,
        sender: Account,
        payees: "Sequence[Account | str] | Mapping[Any, int] | None" = None,
        answer_blocks: int = 50,
    ) -> Listing:
        """List a model. Its terms are fixed for good.

        Parameters
        ----------
        predictor : Predictor
            Its hash and its card go on chain; its weights do not.
        price : int
            Wei a row.
        sender : Account
            The owner.
        payees : sequence of Account or address, or mapping of them to int, optional
            Who earns the payments: equally, or by weight. The owner alone by default.
        answer_blocks : int
            Blocks after a request in which an answer counts; later the client may take the payment back.

        Raises
        ------
        ContractReverted
            The desk refuses the terms; the reason says which.
        """
        shares = payees if isinstance(payees, Mapping) else dict.fromkeys(map(_address, payees or ()), 1)
        receipt = self.send(
            "register",
            predictor.model_hash,
            predictor.card.to_bytes(),
            price,
            list(map(_address, shares)),
            list(shares.values()),
            answer_blocks,
            sender=sender,
        )
        return self.listing(self.event(receipt, "Registered")["model_id"])

    def close(self, model: "Listing | int", *, sender: Account) -> Receipt:
        """Take no more requests for a model; the owner may. Paid requests keep their answer window."""
        return self.send("close", model_number(model), sender=sender)

    def answer(self, request_id: int, digest: bytes, *, sender: Account) -> Receipt:
        """Name the answer to a paid request; the payment goes to the payees' credit.

        Raises
        ------
        PaymentError
            The request cannot be answered any more: already answered, refunded, or too late.
        """
        with _named(request_id):
            return self.send("answer", request_id, digest, sender=sender)

    def withdraw(self, *, sender: Account) -> Receipt:
        """Take everything that the sender has earned on this desk."""
        return self.send("withdraw", sender=sender)

    def credit(self, account: "Account | str") -> int:
        """Return what an account has earned and not yet taken, in wei."""
        return int(self.contract.credit(_address(account)))

    # The client's side ----------------------------------------------------------------------------------

    def pay(
        self, model: "Listing | int", digest: bytes, rows: int, *, sender: Account
    ) -> tuple[DeskRequest, Receipt]:
        """Pay for a prediction on the input that a hash names; return the request as the chain knows it.

        Raises
        ------
        ContractReverted
            The desk refuses; nothing is spent.
        """
        number = model_number(model)
        price = int(self.contract.quote(number, rows))
        receipt = self.send("request", number, digest, rows, sender=sender, value=price)
        return self.request(self.event(receipt, "Requested")["request_id"]), receipt

    def refund(self, request_id: int, *, sender: Account) -> Receipt:
        """Take back the payment of a request that was not answered in its window; the client may.

        Raises
        ------
        PaymentError
            It was answered, or refunded before, or nobody paid for it.
        ContractReverted
            The window is still open, or the sender did not pay.
        """
        with _named(request_id):
            return self.send("refund", request_id, sender=sender)

    # Views ----------------------------------------------------------------------------------------------

    def listing(self, model: "Listing | int") -> Listing:
        """Return a model as the desk lists it now.

        Raises
        ------
        InferenceError
            The desk has no such model.
        """
        number = model_number(model)
        info = self.contract.model_info(number)
        if not any(info.model_hash):
            raise InferenceError(
                f"the desk at {self.address} has no model {number}; it lists {self.contract.model_count()}",
                hint="pass what desk.register(...) returned, or a number from 1",
            )
        accounts, weights = self.contract.payees(number)
        return Listing(
            number,
            str(info.owner),
            bytes(info.model_hash),
            self._card(number, int(info.registered_at), bytes(info.card_hash)),
            int(info.price),
            int(info.answer_blocks),
            _summed(accounts, weights),
            bool(info.closed),
        )

    def request(self, request_id: int) -> DeskRequest:
        """Return a request as this party's view of the chain knows it.

        Raises
        ------
        UnknownRequest
            The desk has no such request.
        """
        known = isinstance(request_id, int) and not isinstance(request_id, bool) and 0 < request_id < 1 << 256
        info = self.contract.request_info(request_id) if known else None
        if info is None or info.state == RequestState.NONE:
            raise UnknownRequest(
                f"the desk at {self.address} on chain {self.chain.chain_id} has no request {request_id!r}",
                hint="pay on this desk and this chain first: client.pay(frame)",
            )
        return DeskRequest(
            request_id,
            int(info.model_id),
            str(info.client),
            bytes(info.request_hash),
            int(info.rows),
            int(info.paid),
            int(info.requested_at),
            int(info.deadline),
            RequestState(info.state),
            bytes(info.answer_hash),
        )

    def requests(self) -> pd.DataFrame:
        """Return one row a request, from the desk's events and their present state."""
        events = self.contract.events("Requested")
        columns = ["model", "client", "rows", "paid", "block", "deadline", "state"]
        rows = []
        for event in events:
            r = self.request(event["request_id"])
            rows.append((r.model_id, r.client, r.rows, r.paid, event.block, r.deadline, str(r.state)))
        index = pd.Index([event["request_id"] for event in events], name="request", dtype="int64")
        return pd.DataFrame(rows, columns=columns, index=index)

    def request_hash(self, model: "Listing | int", client: str, payload: bytes) -> bytes:
        """Return the hash that a client of this desk, on this chain, pays for."""
        return request_hash(self.chain.chain_id, self.address, model_number(model), client, payload)

    def answer_hash(self, request_id: int, content: bytes) -> bytes:
        """Return the hash that this desk, on this chain, keeps of an answer."""
        return answer_hash(self.chain.chain_id, self.address, request_id, content)

    def _card(self, number: int, block: int, digest: bytes) -> ModelCard:
        if number not in self._cards:
            found = self.contract.events("Registered", from_block=block, to_block=block, model_id=number)
            content = bytes(found[0]["card"]) if found else b""
            if keccak(content) != digest:
                raise InferenceError(
                    f"the card of model {number} is not in the log of block {block}",
                    hint="connect to a node that keeps the chain's logs",
                )
            self._cards[number] = ModelCard.from_bytes(content)
        return self._cards[number]

    def _repr_html_(self) -> str:
        models, requests = self.contract.model_count(), self.contract.request_count()
        facts = {"models": f"{models:,}", "requests": f"{requests:,}"}
        return f"<p><strong>{escape(repr(self))}</strong></p>{facts_table(facts)}"


def payment_error(request_id: int, state: str, *, deadline: int | None = None) -> PaymentError:
    """Return the error for a request that cannot be answered or refunded because of how far it has come."""
    if state == "answered":
        return AlreadyAnswered(
            f"request {request_id} was answered already: one payment buys one answer",
            hint="pay again with client.pay(frame); service.resend(request, payload) gives the same answer",
        )
    if state == "refunded":
        return RequestRefunded(
            f"the payment of request {request_id} went back to the client",
            hint="pay again with client.pay(frame)",
        )
    if state == "late":
        until = "" if deadline is None else f", which ended with block {deadline}"
        return RequestExpired(
            f"request {request_id} was not answered in its window{until}",
            hint="take the payment back with client.refund(request), then pay again",
        )
    return UnknownRequest(f"the desk has no request {request_id}", hint="pay first: client.pay(frame)")


_REASONS: Final = {
    "unknown request": "unknown",
    "already answered": "answered",
    "already refunded": "refunded",
    "answer window is over": "late",
}


@contextmanager
def _named(request_id: int) -> Iterator[None]:
    """Turn the desk's refusals into the payment errors that say the same."""
    try:
        yield
    except ContractReverted as refused:
        if refused.reason in _REASONS:
            raise payment_error(request_id, _REASONS[refused.reason]) from refused
        raise


def model_number(model: "Listing | int") -> int:
    """Return the number of a model that was passed as a listing or as its number."""
    number = model.model_id if isinstance(model, Listing) else model
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 1 << 256:
        raise InferenceError(
            f"a {type(model).__name__} was passed as model; expected a Listing or its number",
            hint="pass what desk.register(...) returned",
        )
    return number


def _address(account: "Account | str") -> str:
    return account.address if isinstance(account, Account) else account


def _summed(accounts: Sequence[str], weights: Sequence[int]) -> dict[str, int]:
    total: dict[str, int] = {}
    for account, weight in zip(accounts, weights, strict=True):
        total[str(account)] = total.get(str(account), 0) + int(weight)
    return total
