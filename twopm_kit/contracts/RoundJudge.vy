# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize codesize
"""
@title RoundJudge
@license Apache-2.0
@notice What `SecureRound` has to think through but need not remember: whether the terms of a task can work,
        who is drawn, and whether a piece of evidence proves a fault. It has no state, no owner and no coins.

Three faults can be proved to a contract. Each proof is built from what the culprit itself has committed to,
so nobody else can make one:

    1  bad dealer        the shares that it dealt do not lie on one polynomial, or not on that of its seed
    2  bad opener        it has opened a share that is not the one it was dealt, or of the wrong kind
    3  wrong commitment  its KZG commitment is not that of the vector under its data root

Shares are numbers below p = 2^256 + 297, which is more than a word holds. Here they are written as a word
with a sign: -2^256 < n < 2^256. What is above a word turns up below zero, because 2^256 = -297 (mod p).
"""


struct Terms:
    code_hash: bytes32  # of the code that every node runs
    params_hash: bytes32  # of the task's parameters as canonical JSON
    genesis_hash: bytes32  # of the model that the first round starts from
    dataset_id: bytes32  # zero: any data set
    min_rows: uint256
    min_stake: uint256
    min_clients: uint256
    max_clients: uint256
    words: uint256  # field elements of one vector
    lanes: uint256  # 8 or 4 a field element
    mode: uint256
    sealed: bool  # the openings are for the owner and the verifiers only
    groups: uint256  # sums that are kept apart
    degree: uint256  # neighbours of a member in a round of more than 50
    share_threshold: uint256  # shares that open a secret in such a round
    max_rounds: uint256
    join_blocks: uint256
    step_blocks: uint256
    silence_penalty: uint256  # wei that a missing message costs
    owner_key: bytes32  # X25519 key that sealed openings are for


struct Verifier:
    account: address
    box_key: bytes32


# All that the judge is told about a fault; it reads nothing from the chain.
struct Case:
    task: uint256
    round: uint256
    fault: uint256
    seat: uint256  # the accused
    other: uint256  # bad opener: seat of the dealer; wrong commitment: number of the element or blob
    degree: uint256
    share_threshold: uint256
    words: uint256
    share_digest: bytes32  # of the dealer
    fact: bytes32  # wrong commitment: digest of its vector; else root of its opened shares
    seats: DynArray[uint256, MAX_MEMBERS]  # of all members: account | step << 160 | flags << 168


# A number modulo 2^256 + 297.
struct Number:
    minus: bool
    size: uint256


# One share that a dealer has committed to, with what leads from it to the dealer's root.
struct Leaf:
    seat: uint256  # of the receiver
    salt: bytes32
    high: uint256  # the first byte of the share
    low: uint256  # the other 32
    inverse: Number  # of the product of (x of this receiver - x of another) over all others in the evidence
    path: DynArray[bytes32, SHARE_PATH]


# Threshold + 1 leaves: not on one polynomial. Threshold leaves: not on that of the seed. One leaf: no share.
struct DealerEvidence:
    mask_key: bytes32
    seed_hash: bytes32
    share_root: bytes32
    leaves: DynArray[Leaf, MAX_LEAVES]


# One entry of an opening, with what leads from it to the opener's root. The rest is needed where the kind is
# right: the leaf that the dealer has committed to instead.
struct OpenerEvidence:
    kind: uint256
    salt: bytes32
    high: uint256
    low: uint256
    count: uint256
    index: uint256
    path: DynArray[bytes32, MAX_PATH]
    mask_key: bytes32
    seed_hash: bytes32
    share_root: bytes32
    leaf: bytes32
    leaf_path: DynArray[bytes32, SHARE_PATH]


# The chunk that holds an element (none, where only zeros can be), and a proof of what the commitment says it
# is. Without a proof: the commitment is said not to be in the group at all.
struct VectorEvidence:
    data_root: bytes32
    commitments: Bytes[128 * MAX_BLOBS]
    chunk: Bytes[1024]
    path: DynArray[bytes32, MAX_PATH]
    value: bytes32
    proof: Bytes[48]


MAX_MEMBERS: constant(uint256) = 128
MAX_VERIFIERS: constant(uint256) = 16
MAX_WORDS: constant(uint256) = 520  # DIRECT: 4,096 parameters in lanes of 32 bits, and room for metrics
MAX_BLOBS: constant(uint256) = 12  # commitments of all groups together
BLOBS_A_CALL: constant(uint256) = 6  # blobs that one transaction carries
BLOB_WORDS: constant(uint256) = 4096
MAX_BLOCKS: constant(uint256) = 1_000_000  # longest window that a task may ask for
MAX_ROUNDS: constant(uint256) = 10_000
COMPLETE_UP_TO: constant(uint256) = 50  # members that all share with all

MAX_PATH: constant(uint256) = 12  # the chunks of 12 blobs make a tree of 11 levels
SHARE_PATH: constant(uint256) = 8  # 128 receivers have two leaves each
MAX_LEAVES: constant(uint256) = 66  # threshold + 1 of 128 members

# Modes.
DIRECT: constant(uint256) = 0
KZG: constant(uint256) = 1
HASH: constant(uint256) = 2
BLOB: constant(uint256) = 3

# Faults.
BAD_DEALER: constant(uint256) = 1
BAD_OPENER: constant(uint256) = 2
WRONG_COMMITMENT: constant(uint256) = 3

# Kinds of shares: of the self-mask seed b, opened for a survivor; of the mask key s, opened for a drop-out.
SELF_SEED: constant(uint256) = 0
MASK_KEY: constant(uint256) = 1

SHARED: constant(uint256) = 2
SUBMITTED: constant(uint256) = 3

ABOVE: constant(uint256) = 297  # the prime of the shares is this much above 2^256

# r, the order of the group and the field of the elements, and an element of order 4,096 in it (EIP-4844).
R: constant(uint256) = 52435875175126190479447740508185965837690552500527637822603658699938581184513
OMEGA: constant(uint256) = 39033254847818212395286706435128746857159659164139250548781411570340225835782
POINT_EVALUATION: constant(address) = 0x000000000000000000000000000000000000000A
MULTIPLY_POINTS: constant(address) = 0x000000000000000000000000000000000000000C

# (p - 1) / 2 for the modulus p of the curve G1, in two words: a larger y is told by a bit of its own.
HALF_HIGH: constant(uint256) = 17282741772707453034394598013407712875
HALF_LOW: constant(uint256) = 80617075055843030690312053732876818007934237714091801549733396136033114903893


@external
@pure
def check_terms(terms: Terms, verifiers: DynArray[Verifier, MAX_VERIFIERS]) -> uint256:
    """
    @notice Refuse terms under which no round could end well.
    @return Commitments of one vector
    """
    assert terms.code_hash != empty(bytes32), "code hash is zero"
    assert terms.params_hash != empty(bytes32), "parameter hash is zero"
    assert terms.min_clients >= 2, "fewer than two clients hide nothing"
    assert terms.min_clients <= terms.max_clients, "min clients above max clients"
    assert terms.max_clients <= MAX_MEMBERS, "too many clients"
    assert terms.lanes == 8 or terms.lanes == 4, "lanes must be 8 or 4"
    assert terms.mode <= BLOB, "unknown mode"
    assert terms.max_rounds >= 1 and terms.max_rounds <= MAX_ROUNDS, "number of rounds out of range"
    assert terms.join_blocks >= 1 and terms.join_blocks <= MAX_BLOCKS, "join window out of range"
    assert terms.step_blocks >= 1 and terms.step_blocks <= MAX_BLOCKS, "step window out of range"

    assert terms.groups >= 1 and terms.groups <= terms.max_clients // 2, "number of groups out of range"
    if terms.max_clients > COMPLETE_UP_TO:
        assert terms.groups == 1, "groups need a round of at most 50"
        assert terms.degree >= 2 and terms.degree < terms.max_clients, "degree out of range"
        assert terms.degree % 2 == 0 or terms.degree == terms.max_clients - 1, "degree must be even"
        assert (
            terms.share_threshold >= 2 and terms.share_threshold <= terms.degree + 1
        ), "share threshold out of range"

    limit: uint256 = MAX_WORDS
    if terms.mode == HASH:
        limit = 1 << 32
    elif terms.mode != DIRECT:
        limit = BLOB_WORDS * MAX_BLOBS
    assert terms.words >= 1 and terms.words <= limit // terms.groups, "vector length out of range"
    blobs: uint256 = 0
    if terms.mode == KZG or terms.mode == BLOB:
        blobs = (terms.words + BLOB_WORDS - 1) // BLOB_WORDS
        assert blobs * terms.groups <= MAX_BLOBS, "vector length out of range"
        assert terms.mode == KZG or blobs <= BLOBS_A_CALL, "too many blobs for one transaction"

    if not terms.sealed:
        assert len(verifiers) == 0, "only a sealed task has verifiers"
        return blobs
    assert terms.owner_key != empty(bytes32), "owner key is zero"
    assert len(verifiers) > 0, "a sealed task needs verifiers"
    for i: uint256 in range(len(verifiers), bound=MAX_VERIFIERS):
        assert verifiers[i].account != empty(address), "verifier is zero"
        assert verifiers[i].box_key != empty(bytes32), "box key is zero"
        for other: uint256 in range(i, bound=MAX_VERIFIERS):
            assert verifiers[other].account != verifiers[i].account, "verifier named twice"
    return blobs


@external
@pure
def draw(
    nodes: DynArray[address, MAX_MEMBERS], task: uint256, round: uint256, beacon: bytes32, seats: uint256
) -> DynArray[address, MAX_MEMBERS]:
    """
    @notice Draw the members of a round: the nodes with the lowest scores, in the order of their scores.
    @dev One word holds a score, less its lowest seven bits, and the node's place on the list; insertion
         keeps the words sorted.
    """
    ordered: DynArray[uint256, MAX_MEMBERS] = []
    at: uint256 = 0
    for node: address in nodes:
        score: uint256 = convert(keccak256(abi_encode(beacon, task, round, node)), uint256)
        word: uint256 = (score & ~(MAX_MEMBERS - 1)) | at
        ordered.append(word)
        for _: uint256 in range(MAX_MEMBERS):
            if at == 0 or ordered[unsafe_sub(at, 1)] < word:
                break
            ordered[at] = ordered[unsafe_sub(at, 1)]
            at = unsafe_sub(at, 1)
        ordered[at] = word
        at = len(ordered)
    drawn: DynArray[address, MAX_MEMBERS] = []
    for word: uint256 in ordered:
        if len(drawn) == seats:
            break
        drawn.append(nodes[word & (MAX_MEMBERS - 1)])
    return drawn


@external
@pure
def can_open(
    seats: DynArray[uint256, MAX_MEMBERS], groups: uint256, degree: uint256, share_threshold: uint256
) -> bool:
    """
    @notice Say whether the survivors may and can open their shares: no group is left with one survivor, whose
            own vector its sum would be, and every dealer has enough neighbours among the survivors.
    """
    members: uint256 = len(seats)
    survivors: DynArray[uint256, MAX_MEMBERS] = []  # of each group
    for _: uint256 in range(groups, bound=MAX_MEMBERS):
        survivors.append(0)
    for seat: uint256 in range(members, bound=MAX_MEMBERS):
        survivors[seat % groups] += self._survives(seats[seat])
    if degree + 1 < members:
        # A window moves round the ring: a dealer in its middle, half of its neighbours on either side.
        half: uint256 = degree // 2
        holders: uint256 = 0
        for i: uint256 in range(2 * members, bound=2 * MAX_MEMBERS):
            holders += self._survives(seats[i % members])
            if i < 2 * half:
                continue
            middle: uint256 = seats[(i - half) % members]
            if holders < share_threshold and self._step(middle) >= SHARED:
                return False
            holders -= self._survives(seats[(i - 2 * half) % members])
    return 1 not in survivors


@external
@pure
def versioned_hash(point: Bytes[128]) -> bytes32:
    """
    @notice What `blobhash` gives for the blob of a commitment (EIP-4844): sha256 of the compressed point,
            its first byte replaced by the version.
    """
    return self._versioned_hash(self._compressed(point))


@external
@view
def judge(case: Case, evidence: Bytes[38_400]) -> Bytes[128 * MAX_BLOBS]:
    """
    @notice Say whether the evidence proves the fault: if it does not, the call reverts. It is to be called by
            the contract that the round belongs to.
    @return The commitments of the accused, when the fault is in them
    """
    assert case.seat < len(case.seats), "no such seat"
    # Every hash of a round begins with this, so that nothing of one round passes for another's.
    binding: bytes32 = keccak256(
        concat(
            b"twopm/secagg/v1/round",
            convert(chain.id, bytes32),
            convert(msg.sender, bytes20),
            convert(case.task, bytes32),
            convert(case.round, bytes32),
        )
    )
    if case.fault == BAD_DEALER:
        self._bad_dealer(case, binding, abi_decode(evidence, DealerEvidence))
        return b""
    if case.fault == BAD_OPENER:
        self._bad_opener(case, binding, abi_decode(evidence, OpenerEvidence))
        return b""
    assert case.fault == WRONG_COMMITMENT, "unknown fault"
    found: VectorEvidence = abi_decode(evidence, VectorEvidence)
    self._wrong_commitment(case, binding, found)
    return found.commitments


# 1: bad dealer -------------------------------------------------------------------------------------------


@internal
@view
def _bad_dealer(case: Case, binding: bytes32, found: DealerEvidence):
    assert (
        keccak256(concat(found.mask_key, found.seed_hash, found.share_root)) == case.share_digest
    ), "not what was committed"
    members: uint256 = len(case.seats)
    dealer: address = self._account(case.seats[case.seat])
    kind: uint256 = self._kind(case.seats[case.seat])
    in_field: bool = True
    points: DynArray[uint256, MAX_LEAVES] = []
    for leaf: Leaf in found.leaves:
        place: uint256 = self._place(case.seat, leaf.seat, members, case.degree)
        receiver: address = self._account(case.seats[leaf.seat])
        self._under(
            found.share_root,
            2 * (case.degree + 1),
            2 * place + kind,
            self._share_leaf(binding, dealer, receiver, kind, leaf.salt, leaf.high, leaf.low),
            leaf.path,
        )
        in_field = in_field and (leaf.high == 0 or (leaf.high == 1 and leaf.low < ABOVE))
        points.append(convert(receiver, uint256))
    if len(points) == 1:
        assert not in_field, "the share is a number of the field"
        return
    assert in_field, "a share is no number of the field"
    to_seed: bool = len(points) == case.share_threshold
    assert to_seed or len(points) == case.share_threshold + 1, "wrong number of shares"

    # With w = 1 / product of (x - other x), the polynomial through the points has at zero the value
    # sum of y * w * product of (0 - other x), and sum of y * w is the coefficient that one more point than
    # the polynomial needs must leave at zero.
    total: Number = empty(Number)
    for i: uint256 in range(len(points), bound=MAX_LEAVES):
        below: Number = Number(minus=False, size=1)
        above: Number = below
        for j: uint256 in range(len(points), bound=MAX_LEAVES):
            if i == j:
                continue
            below = self._times(below, self._minus(points[i], points[j]))
            if to_seed:
                above = self._times(above, Number(minus=True, size=points[j]))
        one: Number = self._times(below, found.leaves[i].inverse)
        assert one.size == 1 and not one.minus, "wrong inverse"
        share: Number = Number(minus=False, size=found.leaves[i].low)
        if found.leaves[i].high == 1:
            share = Number(minus=True, size=ABOVE - share.size)
        total = self._plus(total, self._times(self._times(share, found.leaves[i].inverse), above))
    if not to_seed:
        assert total.size != 0, "the shares lie on one polynomial"
        return
    assert kind == SELF_SEED, "only a seed has a hash"
    if total.minus and total.size != 0:
        # 2^256 + 297 - size: a seed if it fits a word.
        if total.size <= ABOVE:
            return
        total.size = unsafe_sub(ABOVE, total.size)
    seed_hash: bytes32 = keccak256(
        concat(x"03", binding, convert(dealer, bytes20), convert(total.size, bytes32))
    )
    assert seed_hash != found.seed_hash, "the shares lead to the seed"


@internal
@pure
def _minus(a: uint256, b: uint256) -> Number:
    if a >= b:
        return Number(minus=False, size=unsafe_sub(a, b))
    return Number(minus=True, size=unsafe_sub(b, a))


@internal
@pure
def _plus(a: Number, b: Number) -> Number:
    if a.minus != b.minus:
        if a.size >= b.size:
            return Number(minus=a.minus, size=unsafe_sub(a.size, b.size))
        return Number(minus=b.minus, size=unsafe_sub(b.size, a.size))
    size: uint256 = unsafe_add(a.size, b.size)
    if size >= a.size:
        return Number(minus=a.minus, size=size)
    # 2^256 + size = size - 297
    if size >= ABOVE:
        return Number(minus=a.minus, size=unsafe_sub(size, ABOVE))
    return Number(minus=not a.minus, size=unsafe_sub(ABOVE, size))


@internal
@pure
def _times(a: Number, b: Number) -> Number:
    """
    @dev high * 2^256 + low = low - 297 * high, and that once more for the part of 297 * high above a word.
    """
    minus: bool = a.minus != b.minus
    rest: uint256 = unsafe_mul(a.size, b.size)
    total: Number = Number(minus=minus, size=rest)
    high: uint256 = self._high(a.size, b.size)
    if high != 0:
        rest = unsafe_mul(high, ABOVE)
        total = self._plus(total, Number(minus=not minus, size=rest))
        total = self._plus(total, Number(minus=minus, size=ABOVE * self._high(high, ABOVE)))
    return total


@internal
@pure
def _high(a: uint256, b: uint256) -> uint256:
    """
    @dev a * b // 2^256: the product modulo 2^256 - 1 is high + low, with one carry.
    """
    low: uint256 = unsafe_mul(a, b)
    both: uint256 = uint256_mulmod(a, b, max_value(uint256))
    return unsafe_sub(unsafe_sub(both, low), convert(both < low, uint256))


# 2: bad opener -------------------------------------------------------------------------------------------


@internal
@view
def _bad_opener(case: Case, binding: bytes32, found: OpenerEvidence):
    assert case.other < len(case.seats), "no such seat"
    opener: address = self._account(case.seats[case.seat])
    dealer: address = self._account(case.seats[case.other])
    survivors: uint256 = 0
    seat: uint256 = 0
    for word: uint256 in case.seats:
        survivors |= self._survives(word) << seat
        seat += 1
    opened: bytes32 = keccak256(
        concat(
            x"04",
            binding,
            convert(opener, bytes20),
            keccak256(concat(x"05", binding, convert(survivors, bytes32))),
            convert(dealer, bytes20),
            self._byte(found.kind),
            found.salt,
            self._byte(found.high),
            convert(found.low, bytes32),
        )
    )
    self._under(case.fact, found.count, found.index, opened, found.path)
    if found.kind != self._kind(case.seats[case.other]):
        return
    assert (
        keccak256(concat(found.mask_key, found.seed_hash, found.share_root)) == case.share_digest
    ), "not what was committed"
    place: uint256 = self._place(case.other, case.seat, len(case.seats), case.degree)
    self._under(
        found.share_root, 2 * (case.degree + 1), 2 * place + found.kind, found.leaf, found.leaf_path
    )
    assert found.leaf != self._share_leaf(
        binding, dealer, opener, found.kind, found.salt, found.high, found.low
    ), "the share is the one that was dealt"


# 3: wrong commitment -------------------------------------------------------------------------------------


@internal
@view
def _wrong_commitment(case: Case, binding: bytes32, found: VectorEvidence):
    assert keccak256(concat(found.data_root, found.commitments)) == case.fact, "not what was committed"
    blob: uint256 = case.other
    if len(found.proof) > 0:
        blob = case.other // BLOB_WORDS
    assert blob < MAX_BLOBS and 128 * (blob + 1) <= len(found.commitments), "no such element"
    point: Bytes[128] = slice(found.commitments, 128 * blob, 128)
    if len(found.proof) == 0:
        # A call that gets too little gas fails like one with a bad point: there must be plenty of it.
        assert msg.gas > 200_000, "too little gas"
        in_group: bool = raw_call(
            MULTIPLY_POINTS,
            concat(point, convert(1, bytes32)),
            gas=100_000,
            is_static_call=True,
            revert_on_failure=False,
        )
        assert not in_group, "the commitment is in the group"
        return

    committed: bytes32 = empty(bytes32)
    chunk: uint256 = case.other // 32
    chunks: uint256 = (case.words + 31) // 32
    if chunk < chunks:
        assert len(found.chunk) == 1024, "wrong chunk length"
        leaf: bytes32 = keccak256(
            concat(x"06", binding, convert(self._account(case.seats[case.seat]), bytes20), found.chunk)
        )
        self._under(found.data_root, chunks, chunk, leaf, found.path)
        committed = extract32(found.chunk, 32 * (case.other % 32))
    assert found.value != committed, "the element is the vector's"
    assert len(found.proof) == 48, "wrong proof length"
    short: Bytes[48] = self._compressed(point)
    done: bool = False
    answer: Bytes[64] = b""
    done, answer = raw_call(
        POINT_EVALUATION,
        concat(
            self._versioned_hash(short),
            convert(self._point_of(case.other % BLOB_WORDS), bytes32),
            found.value,
            short,
            found.proof,
        ),
        max_outsize=64,
        gas=100_000,
        is_static_call=True,
        revert_on_failure=False,
    )
    assert done and len(answer) == 64, "the proof does not hold"


@internal
@pure
def _point_of(index: uint256) -> uint256:
    """
    @dev Where EIP-4844 evaluates element `index` of a blob: omega to the power of its 12 bits, reversed.
    """
    point: uint256 = 1
    power: uint256 = OMEGA
    for bit: uint256 in range(12):
        if (index >> (11 - bit)) & 1 == 1:
            point = uint256_mulmod(point, power, R)
        power = uint256_mulmod(power, power, R)
    return point


@internal
@pure
def _compressed(point: Bytes[128]) -> Bytes[48]:
    """
    @dev The 48 bytes of x. Their three highest bits say that the point is compressed, is the one at infinity,
         has the larger y.
    """
    x_high: uint256 = convert(extract32(point, 0), uint256)
    x_low: bytes32 = extract32(point, 32)
    y_high: uint256 = convert(extract32(point, 64), uint256)
    y_low: uint256 = convert(extract32(point, 96), uint256)
    bits: uint256 = 4
    if x_high | convert(x_low, uint256) | y_high | y_low == 0:
        bits = 6
    elif y_high > HALF_HIGH or (y_high == HALF_HIGH and y_low > HALF_LOW):
        bits = 5
    return concat(convert(convert(x_high | (bits << 125), uint128), bytes16), x_low)


@internal
@pure
def _versioned_hash(short: Bytes[48]) -> bytes32:
    hash: uint256 = convert(sha256(short), uint256)
    return convert((hash & (2**248 - 1)) | (1 << 248), bytes32)


# Trees and seats -----------------------------------------------------------------------------------------


@internal
@pure
def _under(
    root: bytes32, count: uint256, index: uint256, leaf: bytes32, path: DynArray[bytes32, MAX_PATH]
):
    """
    @dev The leaf must be number `index` of the `count` leaves under a root. An odd last node moves up.
    """
    assert index < count and count <= 4096, "no such leaf"
    node: bytes32 = leaf
    at: uint256 = index
    width: uint256 = count
    used: uint256 = 0
    for _: uint256 in range(MAX_PATH):
        if width == 1:
            break
        if at ^ 1 < width:
            assert used < len(path), "not under the root"
            if at & 1 == 1:
                node = keccak256(concat(x"01", path[used], node))
            else:
                node = keccak256(concat(x"01", node, path[used]))
            used += 1
        at = at // 2
        width = (width + 1) // 2
    assert used == len(path), "not under the root"
    assert keccak256(concat(x"02", convert(count, bytes32), node)) == root, "not under the root"


@internal
@pure
def _share_leaf(
    binding: bytes32,
    dealer: address,
    receiver: address,
    kind: uint256,
    salt: bytes32,
    high: uint256,
    low: uint256,
) -> bytes32:
    return keccak256(
        concat(
            x"00",
            binding,
            convert(dealer, bytes20),
            convert(receiver, bytes20),
            self._byte(kind),
            salt,
            self._byte(high),
            convert(low, bytes32),
        )
    )


@internal
@pure
def _place(dealer: uint256, receiver: uint256, members: uint256, degree: uint256) -> uint256:
    """
    @dev Place of a receiver on the dealer's list: the dealer itself, then its neighbours round the ring.
    """
    assert receiver < members, "no such seat"
    away: uint256 = (receiver + members - dealer) % members
    if degree + 1 == members or away <= degree // 2:
        return away
    assert away + degree // 2 >= members, "not a neighbour"
    return away - (members - 1 - degree)


@internal
@pure
def _survives(word: uint256) -> uint256:
    if self._step(word) >= SUBMITTED:
        return 1
    return 0


@internal
@pure
def _kind(word: uint256) -> uint256:
    """
    @dev The kind of share that the survivor list asks for.
    """
    assert self._step(word) >= SHARED, "it has dealt no shares"
    if self._survives(word) == 1:
        return SELF_SEED
    return MASK_KEY


@internal
@pure
def _byte(number: uint256) -> bytes1:
    return convert(convert(number, uint8), bytes1)


@internal
@pure
def _account(word: uint256) -> address:
    return convert(word & (2**160 - 1), address)


@internal
@pure
def _step(word: uint256) -> uint256:
    return (word >> 160) & 255
