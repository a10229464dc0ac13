"""``PredictionClient``: pays, asks, checks and reads; the only place that holds a client's key.

`EncryptedClient` is its part without a payment: encrypt, let somebody compute, decrypt.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twopm_kit.chain import Account, Receipt
from twopm_kit.chain.deployed import facts_table
from twopm_kit.errors import AnswerMismatch, ForeignRequest, InferenceError, SecretRefused, UnknownRequest
from twopm_kit.fhe import EncryptedFrame, KeyHolder
from twopm_kit.inference import wire
from twopm_kit.inference.card import ModelCard
from twopm_kit.inference.desk import Listing, PredictionDesk
from twopm_kit.inference.predictor import Predictor, classify, probabilities
from twopm_kit.inference.service import Answer, PredictionService

__all__ = ["EncryptedClient", "PaidRequest", "PredictionClient"]


@dataclass(frozen=True, repr=False, eq=False)
class PaidRequest:
    """A request that a client has paid for, with what it sends to the service.

    Attributes
    ----------
    request_id, model_id : int
        Numbers on the desk.
    client : str
        Address of the account that paid.
    kind : Kind
        In clear or encrypted.
    rows, paid, gas, deadline : int
        Rows of the input, wei, gas of the payment, last block in which an answer counts.
    request_hash : bytes
        What the chain knows of the input.
    payload : bytes
        The input as it travels; never shown.
    index : pandas.Index
        Row labels, which stay with the client.
    """

    request_id: int
    model_id: int
    client: str
    kind: wire.Kind
    rows: int
    paid: int
    gas: int
    deadline: int
    request_hash: bytes
    payload: bytes
    index: pd.Index

    def __repr__(self) -> str:
        return (
            f"<PaidRequest {self.request_id}: {self.rows} rows, {self.kind}, {self.paid:,} wei, "
            f"{len(self.payload):,} bytes>"
        )

    def _repr_html_(self) -> str:
        facts = {
            "model": str(self.model_id),
            "rows": f"{self.rows:,}, {self.kind}",
            "paid": f"{self.paid:,} wei, and {self.gas:,} gas",
            "bytes to send": f"{len(self.payload):,}",
            "request hash": "0x" + self.request_hash.hex(),
            "answer until block": f"{self.deadline:,}",
        }
        return f"<p><strong>Paid request {self.request_id}</strong></p>{facts_table(facts)}"

    def __reduce__(self) -> str:
        raise SecretRefused(
            "a paid request holds its input and does not travel as a pickle",
            hint="send request.payload to the service",
        )


class EncryptedClient:
    """A client that shows nothing: encrypts its rows, and opens the scores that come back.

    Parameters
    ----------
    card : ModelCard or Predictor
        What is public of the model.
    holder : KeyHolder
        The client's key.
    """

    def __init__(self, card: ModelCard | Predictor, holder: KeyHolder) -> None:
        self.card: Final = card.card if isinstance(card, Predictor) else card
        self._holder: Final = _checked(holder)

    def encrypt(self, frame: pd.DataFrame) -> EncryptedFrame:
        """Return raw rows checked, standardised if the model is, and encrypted.

        Raises
        ------
        SchemaError
            Names the column and row that are wrong. Nothing has been encrypted then.
        """
        return self._holder.encrypt(self.card.prepare(frame))

    def open(self, scores: EncryptedFrame | bytes, index: pd.Index | None = None) -> pd.DataFrame:
        """Return probability and class of encrypted scores, or of the bytes that they travelled as.

        Raises
        ------
        WrongKey
            The scores are under another key.
        InferenceError
            They are not scores of one model.
        CiphertextError
            The bytes are not those of an encrypted frame.
        """
        if isinstance(scores, bytes):
            scores = EncryptedFrame.from_bytes(scores, key=self._holder)
        if scores.columns != ["score"]:
            raise InferenceError(
                f"the answer has columns {scores.columns[:5]}; expected one, 'score'",
                hint="open what predictor.predict_encrypted(enc) returned",
            )
        opened = np.asarray(self._holder.decrypt(scores), dtype=np.float64).reshape(-1)
        return _table(probabilities(opened), pd.RangeIndex(len(opened)) if index is None else index)

    def ask(self, predictor: Predictor, frame: pd.DataFrame) -> pd.DataFrame:
        """Encrypt, let the predictor compute, decrypt. Between the two, everything travels as bytes.

        Returns
        -------
        DataFrame
            Columns probability (float64) and class (int64), with the frame's index.
        """
        sent = self.encrypt(frame).to_bytes()
        received = predictor.predict_encrypted(EncryptedFrame.from_bytes(sent)).to_bytes()
        return self.open(received, frame.index)

    def __repr__(self) -> str:
        return f"<EncryptedClient: {len(self.card.features)} features, key {self._holder.fingerprint[:8]}…>"


class PredictionClient:
    """Pays for predictions of one model and reads the answers.

    Parameters
    ----------
    desk : PredictionDesk
        Through the client's own connection.
    model : Listing or int
        The model on the desk. Its card is read from the chain.
    account : Account
        Who pays.
    holder : KeyHolder, optional
        With a key, rows travel encrypted; without, in clear.
    max_price : int, optional
        Most wei that one request may cost; without it, whatever the desk asks.
    """

    def __init__(
        self,
        desk: PredictionDesk,
        model: Listing | int,
        *,
        account: Account,
        holder: KeyHolder | None = None,
        max_price: int | None = None,
    ) -> None:
        self.desk: Final = desk
        self.listing: Final = desk.listing(model)
        self.account: Final = account
        self.max_price: Final = max_price
        self._secret = None if holder is None else EncryptedClient(self.listing.card, holder)
        self._requests: dict[int, PaidRequest] = {}

    @property
    def card(self) -> ModelCard:
        """What is public of the model."""
        return self.listing.card

    @property
    def kind(self) -> wire.Kind:
        """How this client's rows travel."""
        return wire.Kind.CLEAR if self._secret is None else wire.Kind.ENCRYPTED

    def quote(self, frame: pd.DataFrame) -> int:
        """Return what the rows of a frame cost, in wei."""
        return self.listing.price * len(frame)

    def pay(self, frame: pd.DataFrame) -> PaidRequest:
        """Check and pack the rows, and pay for their prediction.

        Parameters
        ----------
        frame : DataFrame
            Exactly the model's columns, raw values.

        Raises
        ------
        SchemaError
            Names the column and row that are wrong; nothing is paid.
        InferenceError
            It costs more than ``max_price``; nothing is paid.
        ContractReverted
            The desk refuses; nothing is paid.
        """
        values = self.card.matrix(frame)
        price = self.quote(frame)
        if self.max_price is not None and price > self.max_price:
            raise InferenceError(
                f"{len(frame)} rows cost {price:,} wei, this client pays at most {self.max_price:,}",
                hint="ask for fewer rows, or make a client with a larger max_price",
            )
        if self._secret is None:
            body = wire.pack_table(self.card.features, values)
        else:
            body = self._secret.encrypt(frame).to_bytes()
        payload = wire.pack_request(self.kind, body)
        digest = self.desk.request_hash(self.listing, self.account.address, payload)
        made, receipt = self.desk.pay(self.listing, digest, len(frame), sender=self.account)
        request = PaidRequest(
            made.request_id,
            self.listing.model_id,
            self.account.address,
            self.kind,
            len(frame),
            made.paid,
            receipt.gas,
            made.deadline,
            digest,
            payload,
            frame.index,
        )
        self._requests[request.request_id] = request
        return request

    def read(self, answer: Answer) -> pd.DataFrame:
        """Check an answer against the chain and open it.

        Returns
        -------
        DataFrame
            Columns probability (float64) and class (int64), with the index of the frame that was paid for.

        Raises
        ------
        UnknownRequest
            This client did not make the request.
        AnswerMismatch
            The bytes are not the ones that the chain names for the request, or answer something else.
        WrongKey
            The scores are under another key.
        """
        if not isinstance(answer, Answer):
            raise InferenceError(
                f"a {type(answer).__name__} was passed; expected an Answer",
                hint="pass what service.answer(request, request.payload) returned",
            )
        request = self._requests.get(answer.request_id)
        if request is None:
            raise UnknownRequest(
                f"this client has made no request {answer.request_id!r}",
                hint="read an answer with the client that paid for it",
            )
        named = self.desk.request(request.request_id).answer_hash
        if self.desk.answer_hash(request.request_id, answer.content) != named:
            raise AnswerMismatch(
                f"the answer to request {request.request_id} is not the one that the chain names",
                hint="ask for it again: service.resend(request, request.payload)",
            )
        kind, asked, body = wire.unpack_answer(answer.content)
        if kind is not request.kind or asked != request.request_hash:
            raise AnswerMismatch(
                f"the answer is {kind} and to another request than {request.request_id} ({request.kind})",
                hint="keep it as evidence: its hash is on chain under the model owner's signature",
            )
        return self._opened(body, request)

    def predict(self, service: PredictionService, frame: pd.DataFrame) -> pd.DataFrame:
        """Pay, ask and read in one call; see `pay`, ``service.answer`` and `read`."""
        request = self.pay(frame)
        return self.read(service.answer(request, request.payload))

    def refund(self, request: PaidRequest) -> Receipt:
        """Take a payment back that bought no answer in its window.

        Raises
        ------
        PaymentError
            It bought an answer, or was taken back before.
        ContractReverted
            The window is still open.
        """
        if request.client != self.account.address:
            raise ForeignRequest(
                f"request {request.request_id} was paid by {request.client}, not by {self.account.address}",
                hint="refund with the client that paid",
            )
        return self.desk.refund(request.request_id, sender=self.account)

    def _opened(self, body: bytes, request: PaidRequest) -> pd.DataFrame:
        if self._secret is not None:
            scores = EncryptedFrame.from_bytes(body, key=self._secret._holder)
            _rows(scores.n_rows, request)
            return self._secret.open(scores, request.index)
        names, values = wire.unpack_table(body)
        _rows(len(values), request)
        if names != ["probability"] or not ((values >= 0) & (values <= 1)).all():
            raise InferenceError(
                f"the answer has columns {names[:5]}; expected one, 'probability', with values from 0 to 1",
                hint="keep it as evidence: its hash is on chain under the model owner's signature",
            )
        return _table(values[:, 0], request.index)

    def __repr__(self) -> str:
        return f"<PredictionClient {self.account.name!r} of model {self.listing.model_id}: {self.kind}>"


def _rows(found: int, request: PaidRequest) -> None:
    if found != request.rows:
        raise AnswerMismatch(
            f"the answer has {found} rows, request {request.request_id} has {request.rows}",
            hint="keep it as evidence: its hash is on chain under the model owner's signature",
        )


def _table(probability: NDArray[np.float64], index: pd.Index) -> pd.DataFrame:
    return pd.DataFrame({"probability": probability, "class": classify(probability)}, index=index)


def _checked(holder: KeyHolder) -> KeyHolder:
    if not isinstance(holder, KeyHolder):
        raise InferenceError(
            f"a {type(holder).__name__} was passed as holder; expected a KeyHolder, which can open answers",
            hint="make one with kit.fhe.KeyHolder.generate()",
        )
    if holder.engine.profile.levels < 1:
        raise InferenceError(
            f"profile {holder.profile!r} has no level, a weighted sum needs one",
            hint="generate the key with the profile 'linear'",
        )
    return holder
