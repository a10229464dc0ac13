# pragma version 0.4.3
# pragma evm-version prague
"""
@title PredictionDesk
@license Apache-2.0
@notice Where predictions are paid for. An owner lists a model with a price a row; a client pays for one
        request, named by the hash of its input; the owner answers with the hash of the answer and the
        payment is divided among the payees. A request without an answer in its window is given back.

A request has one way through these states:

    (none) -- request --> PAID -- answer, until the deadline --> ANSWERED
                               -- refund, after the deadline --> REFUNDED

The coins of a PAID request belong to nobody but the client and, once it answers, the payees: no call lets
the owner keep them without an answer, or hold them beyond the deadline. Coins leave only to the account that
asks for them, so nobody can make a call of somebody else fail. The desk sees hashes only. Whether an answer
is a good one it cannot know: the hash that it keeps is the client's evidence of what was delivered.
"""

MAX_PAYEES: constant(uint256) = 16
MAX_WEIGHT: constant(uint256) = 1_000_000
MAX_CARD: constant(uint256) = 32_768  # bytes
MAX_ROWS: constant(uint256) = 1_000_000  # of one request
MAX_PRICE: constant(uint256) = 10**30  # wei a row; times MAX_ROWS and MAX_WEIGHT it is far below 2**256
MAX_BLOCKS: constant(uint256) = 1_000_000  # longest answer window

# States of a request. Zero: there is no such request.
PAID: constant(uint256) = 1
ANSWERED: constant(uint256) = 2
REFUNDED: constant(uint256) = 3


struct Model:
    owner: address  # the only account that answers
    model_hash: bytes32  # commits to the weights without showing them
    card_hash: bytes32  # of the public card in the event Registered
    price: uint256  # wei a row; never changes
    answer_blocks: uint256  # length of the answer window
    registered_at: uint256  # block
    closed: bool


# What is stored of a request. Price and window of a model never change, so what was paid, and when, follow.
struct Request:
    model_id: uint256
    client: address
    request_hash: bytes32
    rows: uint256
    deadline: uint256  # last block in which an answer counts
    state: uint256
    answer_hash: bytes32


struct RequestInfo:
    model_id: uint256
    client: address
    request_hash: bytes32
    rows: uint256
    paid: uint256  # wei
    requested_at: uint256  # block
    deadline: uint256
    state: uint256
    answer_hash: bytes32


event Registered:
    model_id: indexed(uint256)
    owner: indexed(address)
    model_hash: bytes32
    price: uint256
    payees: DynArray[address, MAX_PAYEES]
    weights: DynArray[uint256, MAX_PAYEES]
    card: Bytes[MAX_CARD]


event Closed:
    model_id: indexed(uint256)


event Requested:
    request_id: indexed(uint256)
    model_id: indexed(uint256)
    client: indexed(address)
    request_hash: bytes32
    rows: uint256
    paid: uint256
    deadline: uint256


event Answered:
    request_id: indexed(uint256)
    model_id: indexed(uint256)
    client: indexed(address)
    answer_hash: bytes32


event Refunded:
    request_id: indexed(uint256)
    client: indexed(address)
    amount: uint256


event Withdrawn:
    account: indexed(address)
    amount: uint256


model_count: public(uint256)
request_count: public(uint256)
# What an account has earned and not yet taken, in wei.
credit: public(HashMap[address, uint256])
_models: HashMap[uint256, Model]
_payees: HashMap[uint256, DynArray[address, MAX_PAYEES]]
_weights: HashMap[uint256, DynArray[uint256, MAX_PAYEES]]
_requests: HashMap[uint256, Request]


# The owner's side ----------------------------------------------------------------------------------------


@external
def register(
    model_hash: bytes32,
    card: Bytes[MAX_CARD],
    price: uint256,
    payees: DynArray[address, MAX_PAYEES],
    weights: DynArray[uint256, MAX_PAYEES],
    answer_blocks: uint256,
) -> uint256:
    """
    @notice List a model. Hash, price, payees and window are fixed for good; list again to change them.
    @param card What clients must know to ask: names of the features, and how to standardise them
    @param price Wei a row
    @param payees Who earns the payments, each in proportion to its weight; empty: the owner alone
    @param answer_blocks Blocks after a request in which an answer counts
    @return The model's number, from 1
    """
    assert model_hash != empty(bytes32), "model hash is zero"
    assert len(card) > 0, "card is empty"
    assert price <= MAX_PRICE, "price out of range"
    assert len(payees) == len(weights), "one weight for each payee"
    assert answer_blocks >= 1 and answer_blocks <= MAX_BLOCKS, "answer window out of range"

    self.model_count += 1
    model_id: uint256 = self.model_count
    self._models[model_id] = Model(
        owner=msg.sender,
        model_hash=model_hash,
        card_hash=keccak256(card),
        price=price,
        answer_blocks=answer_blocks,
        registered_at=block.number,
        closed=False,
    )
    if len(payees) == 0:
        self._payees[model_id] = [msg.sender]
        self._weights[model_id] = [1]
    else:
        for payee: address in payees:
            assert payee != empty(address), "payee is zero"
        for weight: uint256 in weights:
            assert weight >= 1 and weight <= MAX_WEIGHT, "weight out of range"
        self._payees[model_id] = payees
        self._weights[model_id] = weights
    log Registered(
        model_id=model_id,
        owner=msg.sender,
        model_hash=model_hash,
        price=price,
        payees=self._payees[model_id],
        weights=self._weights[model_id],
        card=card,
    )
    return model_id


@external
def close(model_id: uint256):
    """
    @notice Take no more requests for a model. Requests that are paid keep their answer window.
    """
    m: Model = self._models[model_id]
    assert m.owner != empty(address), "unknown model"
    assert msg.sender == m.owner, "only the owner closes a model"
    assert not m.closed, "model is closed"
    self._models[model_id].closed = True
    log Closed(model_id=model_id)


@external
def answer(request_id: uint256, answer_hash: bytes32):
    """
    @notice Name the answer to a paid request, once, and earn the payment for the payees.
    """
    r: Request = self._requests[request_id]
    assert r.state != 0, "unknown request"
    assert msg.sender == self._models[r.model_id].owner, "only the model's owner answers"
    assert r.state != ANSWERED, "already answered"
    assert r.state != REFUNDED, "already refunded"
    assert block.number <= r.deadline, "answer window is over"
    assert answer_hash != empty(bytes32), "answer hash is zero"

    self._requests[request_id].state = ANSWERED
    self._requests[request_id].answer_hash = answer_hash
    self._divide(r.model_id, self._models[r.model_id].price * r.rows)
    log Answered(request_id=request_id, model_id=r.model_id, client=r.client, answer_hash=answer_hash)


@internal
def _divide(model_id: uint256, amount: uint256):
    """
    @dev Credit the payees by weight. What does not divide goes to the first: no wei is lost.
    """
    payees: DynArray[address, MAX_PAYEES] = self._payees[model_id]
    weights: DynArray[uint256, MAX_PAYEES] = self._weights[model_id]
    total: uint256 = 0
    for weight: uint256 in weights:
        total += weight
    rest: uint256 = amount
    for i: uint256 in range(len(payees), bound=MAX_PAYEES):
        part: uint256 = amount * weights[i] // total
        self.credit[payees[i]] += part
        rest -= part
    self.credit[payees[0]] += rest


@external
@nonreentrant
def withdraw() -> uint256:
    """
    @notice Take everything that the caller has earned.
    @return The amount in wei
    """
    amount: uint256 = self.credit[msg.sender]
    assert amount > 0, "nothing to withdraw"
    self.credit[msg.sender] = 0
    log Withdrawn(account=msg.sender, amount=amount)
    raw_call(msg.sender, b"", value=amount)
    return amount


# The client's side ---------------------------------------------------------------------------------------


@external
@payable
def request(model_id: uint256, request_hash: bytes32, rows: uint256) -> uint256:
    """
    @notice Pay for one prediction on the input that the hash names. The coins stay here until it is answered.
    @param rows Rows of the input; the payment is exactly price times rows
    @return The request's number, from 1
    """
    m: Model = self._models[model_id]
    assert m.owner != empty(address), "unknown model"
    assert not m.closed, "model is closed"
    assert request_hash != empty(bytes32), "request hash is zero"
    assert rows >= 1, "no rows"
    assert rows <= MAX_ROWS, "too many rows"
    assert msg.value == m.price * rows, "payment is not price times rows"

    self.request_count += 1
    request_id: uint256 = self.request_count
    deadline: uint256 = block.number + m.answer_blocks
    self._requests[request_id] = Request(
        model_id=model_id,
        client=msg.sender,
        request_hash=request_hash,
        rows=rows,
        deadline=deadline,
        state=PAID,
        answer_hash=empty(bytes32),
    )
    log Requested(
        request_id=request_id,
        model_id=model_id,
        client=msg.sender,
        request_hash=request_hash,
        rows=rows,
        paid=msg.value,
        deadline=deadline,
    )
    return request_id


@external
@nonreentrant
def refund(request_id: uint256):
    """
    @notice Take back the payment of a request that was not answered in its window.
    """
    r: Request = self._requests[request_id]
    assert r.state != 0, "unknown request"
    assert msg.sender == r.client, "only the client takes a payment back"
    assert r.state != ANSWERED, "already answered"
    assert r.state != REFUNDED, "already refunded"
    assert block.number > r.deadline, "answer window is open"

    self._requests[request_id].state = REFUNDED
    paid: uint256 = self._models[r.model_id].price * r.rows
    log Refunded(request_id=request_id, client=msg.sender, amount=paid)
    raw_call(msg.sender, b"", value=paid)


# Views ---------------------------------------------------------------------------------------------------


@external
@view
def model_info(model_id: uint256) -> Model:
    """
    @notice What is fixed about a model; all zero when there is none.
    """
    return self._models[model_id]


@external
@view
def payees(model_id: uint256) -> (DynArray[address, MAX_PAYEES], DynArray[uint256, MAX_PAYEES]):
    """
    @notice Who earns a model's payments, and with which weights.
    """
    return self._payees[model_id], self._weights[model_id]


@external
@view
def request_info(request_id: uint256) -> RequestInfo:
    """
    @notice Everything about a request; all zero when there is none.
    """
    r: Request = self._requests[request_id]
    m: Model = self._models[r.model_id]
    return RequestInfo(
        model_id=r.model_id,
        client=r.client,
        request_hash=r.request_hash,
        rows=r.rows,
        paid=m.price * r.rows,
        requested_at=r.deadline - m.answer_blocks,
        deadline=r.deadline,
        state=r.state,
        answer_hash=r.answer_hash,
    )


@external
@view
def quote(model_id: uint256, rows: uint256) -> uint256:
    """
    @notice What a request of so many rows costs, in wei.
    """
    m: Model = self._models[model_id]
    assert m.owner != empty(address), "unknown model"
    assert rows >= 1, "no rows"
    assert rows <= MAX_ROWS, "too many rows"
    return m.price * rows
