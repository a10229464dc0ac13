"""``PredictionService``: checks the payment on chain, then answers; it never holds a key of its clients."""

import threading
import time
from collections import deque
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from twopm_kit.chain import Account
from twopm_kit.chain.deployed import facts_table
from twopm_kit.errors import (
    ForeignRequest,
    InferenceError,
    InputMismatch,
    RequestNotFinal,
    SchemaError,
    TwoPMError,
)
from twopm_kit.fhe import EncryptedFrame
from twopm_kit.inference import wire
from twopm_kit.inference.desk import (
    DeskRequest,
    Listing,
    PredictionDesk,
    RequestState,
    model_number,
    payment_error,
)
from twopm_kit.inference.predictor import Predictor

if TYPE_CHECKING:
    from twopm_kit.inference.client import PaidRequest

__all__ = ["Answer", "PredictionService"]

_LOG_ROWS: Final = 10_000
_COLUMNS: Final = ("request", "client", "kind", "rows", "bytes_in", "bytes_out", "gas", "seconds", "status")


@dataclass(frozen=True, repr=False)
class Answer:
    """The answer to one request, as it travels.

    Attributes
    ----------
    request_id : int
        The request on the desk.
    kind : Kind
        In clear or encrypted.
    content : bytes
        What the client reads; its hash is on chain.
    """

    request_id: int
    kind: wire.Kind
    content: bytes

    def __repr__(self) -> str:
        return f"<Answer to request {self.request_id}: {self.kind}, {len(self.content):,} bytes>"

    def _repr_html_(self) -> str:
        facts = {"kind": str(self.kind), "bytes": f"{len(self.content):,}"}
        if self.kind is wire.Kind.ENCRYPTED:
            facts["beginning"] = self.content[1024:1048].hex(" ") + " …"
        return f"<p><strong>Answer to request {self.request_id}</strong></p>{facts_table(facts)}"


class PredictionService:
    """Answers paid requests for one model.

    Everything arrives as bytes. Before a request's bytes are parsed, the service reads the request from its
    own view of the chain: paid, for this model, not answered, not refunded, in time, deep enough, and naming
    the hash of exactly these bytes from exactly this client. It names the answer on chain before it hands it
    out.

    Parameters
    ----------
    predictor : Predictor
        The model.
    desk : PredictionDesk
        Through the service's own connection.
    model : Listing or int
        The model on the desk; its hash must be the predictor's.
    account : Account
        The model's owner.
    confirmations : int
        Blocks that must lie on top of a payment; 0 on development chains.
    max_bytes : int
        Largest payload.

    Raises
    ------
    InferenceError
        The listed model is another one, or belongs to another account.

    Notes
    -----
    The desk makes sure that one payment buys one answer and that no answer means a refund. It cannot judge an
    answer: a client who doubts one compares it with the answers to rows that it knows. Scores, and clear
    probabilities too, tell about the weights: d + 1 well chosen rows determine a logistic model, in clear or
    encrypted. The price is what slows that down.
    """

    def __init__(
        self,
        predictor: Predictor,
        desk: PredictionDesk,
        model: Listing | int,
        *,
        account: Account,
        confirmations: int = 0,
        max_bytes: int = wire.MAX_PAYLOAD,
    ) -> None:
        self.predictor: Final = predictor
        self.desk: Final = desk
        self.account: Final = account
        self.model_id: Final = model_number(model)
        self.confirmations: Final = confirmations
        self.max_bytes: Final = max_bytes
        listing = desk.listing(self.model_id)
        if listing.model_hash != predictor.model_hash:
            raise InferenceError(
                f"model {self.model_id} is listed with hash 0x{listing.model_hash.hex()[:16]}…, "
                f"this predictor has 0x{predictor.model_hash.hex()[:16]}…",
                hint="list this predictor with desk.register(...), or serve the one that is listed",
            )
        if listing.owner != account.address:
            raise InferenceError(
                f"model {self.model_id} belongs to {listing.owner}, not to {account.address}",
                hint="pass the account that listed the model",
            )
        self._rows: deque[tuple[Any, ...]] = deque(maxlen=_LOG_ROWS)
        self._lock = threading.Lock()

    @property
    def log(self) -> pd.DataFrame:
        """What the service saw, one row a call: sizes and times, and no value of any input.

        Columns: request, client (address), kind, rows, bytes_in, bytes_out, gas, seconds, and status:
        "answered", "sent again", or the name of the error. The last 10,000 calls are kept.
        """
        with self._lock:
            return pd.DataFrame(list(self._rows), columns=list(_COLUMNS))

    def answer(self, request: "PaidRequest | DeskRequest | int", payload: bytes) -> Answer:
        """Check the payment, predict, name the answer on chain, hand it out.

        Parameters
        ----------
        request : PaidRequest, DeskRequest or int
            Only its number is used; the rest is read from the chain.
        payload : bytes
            What the client paid for.

        Raises
        ------
        PaymentError
            No payment covers this: `UnknownRequest`, `ForeignRequest`, `InputMismatch`, `AlreadyAnswered`,
            `RequestRefunded`, `RequestExpired` or `RequestNotFinal`. Nothing is answered and nothing earned.
        SchemaError, InferenceError, CiphertextError
            The input is the one that was paid for, but it cannot be used. The client gets its payment back
            when the window is over.
        """
        with _Entry(self, request, payload) as entry:
            paid = self._check(entry.request_id, payload, RequestState.PAID, entry)
            content = self._compute(paid, payload, entry)
            digest = self.desk.answer_hash(paid.request_id, content)
            entry.gas = self.desk.answer(paid.request_id, digest, sender=self.account).gas
            return entry.done(content, "answered")

    def resend(self, request: "PaidRequest | DeskRequest | int", payload: bytes) -> Answer:
        """Hand the same answer out once more, for a client that lost it; the payload proves who asks.

        Raises
        ------
        PaymentError
            As `answer`; also when the request was not answered yet.
        """
        with _Entry(self, request, payload) as entry:
            paid = self._check(entry.request_id, payload, RequestState.ANSWERED, entry)
            content = self._compute(paid, payload, entry)  # the same bytes again: nothing in it is random
            if self.desk.answer_hash(paid.request_id, content) != paid.answer_hash:
                raise InferenceError(
                    f"this version of the kit cannot make the answer to request {paid.request_id} again",
                    hint="ask the model's owner for the version that answered",
                )
            return entry.done(content, "sent again")

    # Checking ---------------------------------------------------------------------------------------------

    def _check(self, request_id: int, payload: bytes, wanted: RequestState, entry: "_Entry") -> DeskRequest:
        paid = self.desk.request(request_id)
        entry.client, entry.rows = paid.client, paid.rows
        if paid.model_id != self.model_id:
            raise ForeignRequest(
                f"request {request_id} was paid for model {paid.model_id}, this is model {self.model_id}",
                hint=f"send it to the service of model {paid.model_id}, or pay for model {self.model_id}",
            )
        head = self.desk.chain.block_number
        if paid.state != wanted:
            if paid.state == RequestState.PAID:
                raise InferenceError(
                    f"request {request_id} was not answered yet", hint="call service.answer first"
                )
            raise payment_error(request_id, str(paid.state))
        if wanted == RequestState.PAID and head + 1 > paid.deadline:
            raise payment_error(request_id, "late", deadline=paid.deadline)
        if head - paid.requested_at < self.confirmations:
            raise RequestNotFinal(
                f"request {request_id} was paid in block {paid.requested_at}, the last block is {head}; "
                f"this service waits for {self.confirmations} blocks on top",
                hint=f"ask again after block {paid.requested_at + self.confirmations}",
            )
        if not isinstance(payload, bytes) or len(payload) > self.max_bytes:
            size = f"{len(payload):,} bytes" if isinstance(payload, bytes) else f"a {type(payload).__name__}"
            raise InferenceError(
                f"{size} were sent, the limit is {self.max_bytes:,} bytes", hint="ask for fewer rows at once"
            )
        if self.desk.request_hash(self.model_id, paid.client, payload) != paid.request_hash:
            raise InputMismatch(
                f"the input is not the one that request {request_id} paid for, or it was paid for on "
                "another chain, desk or model, or by another account",
                hint="send request.payload unchanged; a new input needs a new payment",
            )
        return paid

    # Predicting -------------------------------------------------------------------------------------------

    def _compute(self, paid: DeskRequest, payload: bytes, entry: "_Entry") -> bytes:
        kind, body = wire.unpack_request(payload)
        entry.kind = kind
        made = (
            self._encrypted(body, paid.rows) if kind is wire.Kind.ENCRYPTED else self._clear(body, paid.rows)
        )
        return wire.pack_answer(kind, paid.request_hash, made)

    def _clear(self, body: bytes, rows: int) -> bytes:
        names, values = wire.unpack_table(body)
        _same_rows(len(values), rows)
        probability = self.predictor.predict_proba(pd.DataFrame(values, columns=names))
        return wire.pack_table(["probability"], np.array(probability, dtype=np.float64).reshape(-1, 1))

    def _encrypted(self, body: bytes, rows: int) -> bytes:
        enc = EncryptedFrame.from_bytes(body)
        _same_rows(enc.n_rows, rows)
        return self.predictor.predict_encrypted(enc).to_bytes()

    def __repr__(self) -> str:
        return f"<PredictionService of model {self.model_id} at {self.desk.address}: {len(self._rows)} calls>"

    def _repr_html_(self) -> str:
        return (
            f"<p><strong>{escape(repr(self))}</strong></p>{self.log.tail(12).to_html(border=0, index=False)}"
        )


def _same_rows(found: int, paid: int) -> None:
    if found != paid:
        raise SchemaError(
            f"the input has {found} rows, {paid} were paid for", hint="pay for as many rows as the input has"
        )


class _Entry:
    """One line of the log while it is written: whatever happens, the call is in the log."""

    def __init__(self, service: PredictionService, request: Any, payload: Any) -> None:
        self.request_id = getattr(request, "request_id", request)
        self.client, self.kind = "", None
        self.rows = self.gas = self.bytes_out = 0
        self.status = ""
        self._service = service
        self._bytes_in = len(payload) if isinstance(payload, bytes) else 0
        self._start = time.perf_counter()

    client: str
    kind: wire.Kind | None
    gas: int

    def done(self, content: bytes, status: str) -> Answer:
        self.bytes_out, self.status = len(content), status
        return Answer(self.request_id, self.kind or wire.Kind.CLEAR, content)

    def __enter__(self) -> "_Entry":
        return self

    def __exit__(self, _type: Any, error: BaseException | None, _trace: Any) -> None:
        status = self.status or (type(error).__name__ if isinstance(error, TwoPMError) else "failed")
        shown = self.request_id if isinstance(self.request_id, int) else -1
        seconds = time.perf_counter() - self._start
        kind = "" if self.kind is None else str(self.kind)
        row = (shown, self.client, kind, self.rows, self._bytes_in, self.bytes_out, self.gas, seconds, status)
        with self._service._lock:
            self._service._rows.append(row)
