# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize codesize
"""
@title SecureRound
@license Apache-2.0
@notice The chain's part of secure aggregation: public key directory, clock, dice, adder, judge's bench, and
        the one place where the list of survivors is written down.

A task is registered once and then runs for several rounds. One round moves through these phases:

    SHARE      each member publishes its mask key and commits to the shares of its secrets
    SUBMIT     each member sends its masked vector, or commits to it; the contract adds
    CHALLENGE  (KZG mode) a member that keeps its vector back is told to publish it as blobs, or is dropped
    OPEN       the survivors are final; each commits to the shares it opens, and attests to the result
    DONE       the sum is out, and it is the sum of what was committed
    ABORTED    too few came: nothing is published, and the next round may open

A phase ends when everybody has spoken or when its deadline (in blocks) has passed; then anybody may call
`advance`. Nobody, the task's owner included, can stall a round, announce another survivor list, or
publish a sum that differs from the one that the masked vectors add up to.

Where the masked vectors are, and what the contract adds, is the task's mode:

    DIRECT  in calldata; the contract adds the field elements themselves
    KZG     in storage; on chain a KZG commitment for every 4,096 elements. Commitments add like vectors do
            (EIP-2537), so the contract holds the commitment to the true sum, and a blob (EIP-4844) must fit it
    HASH    in storage; on chain a Merkle root. The contract adds nothing: who attests has added for itself,
            and a vector that is kept back cannot be judged here
    BLOB    in blobs that travel with the commitment

A member is a seat: its place in the draw, which is its place on the ring of neighbours. All that the
contract remembers about a seat in a round is one word (account, step, flags) and the hashes of what the
member has said; what was hashed is in the events.
"""


import RoundJudge


struct Task:
    owner: address
    terms: RoundJudge.Terms
    join_deadline: uint256
    beacon_block: uint256  # its hash throws the dice of the next round; also the end of the last round
    round: uint256  # number of the current round, from 1
    closed: bool
    reward: uint256  # wei that a finished round pays to its openers
    pot: uint256  # wei that are left for rewards
    blobs: uint256  # commitments of one vector


struct Round:
    phase: uint256
    deadline: uint256
    quorum: uint256  # survivors and attestations that a result needs
    selected: uint256
    shared: uint256
    submitted: uint256
    opened: uint256
    result_hash: bytes32
    opened_block: uint256  # block in which the round began
    degree: uint256  # neighbours of a member
    share_threshold: uint256  # shares that open a secret
    reached: uint256  # the last phase before DONE or ABORTED
    challenged: uint256  # challenges so far
    posted: uint256  # one bit for each blob of the sum that has been published
    started: uint256  # one bit for each group whose sum is not empty
    mode: uint256
    sealed: bool
    groups: uint256
    blobs: uint256  # commitments of one vector
    step_blocks: uint256


struct Membership:
    joined: bool
    box_key: bytes32
    rows: uint256
    dataset: bytes32
    stake: uint256
    data_commitment: bytes32
    free_block: uint256  # has left, and may take its stake after this block; 0: has not left


struct Member:
    seat: uint256  # account | step << 160 | flags << 168
    box_key: bytes32
    share_digest: bytes32
    vector_digest: bytes32
    open_root: bytes32


# A point of the curve G1, 381 bits a coordinate: the high 128 bits of both share a word.
struct Point:
    high: uint256  # of x << 128 | of y
    x: uint256
    y: uint256


event Registered:
    task: indexed(uint256)
    owner: indexed(address)
    terms: RoundJudge.Terms


event Joined:
    task: indexed(uint256)
    node: indexed(address)
    box_key: bytes32
    rows: uint256
    data_commitment: bytes32


event RoundOpened:
    task: indexed(uint256)
    round: indexed(uint256)
    beacon: bytes32
    members: DynArray[address, MAX_MEMBERS]
    quorum: uint256
    degree: uint256
    share_threshold: uint256


event Shared:
    task: indexed(uint256)
    round: indexed(uint256)
    node: indexed(address)
    seat: uint256
    mask_key: bytes32
    seed_hash: bytes32
    share_root: bytes32


event Submitted:
    task: indexed(uint256)
    round: indexed(uint256)
    node: indexed(address)
    seat: uint256
    data_root: bytes32
    commitments: Bytes[128 * MAX_BLOBS]


event Challenged:
    task: indexed(uint256)
    round: indexed(uint256)
    node: indexed(address)
    seat: uint256


event Answered:
    task: indexed(uint256)
    round: indexed(uint256)
    node: indexed(address)
    seat: uint256
    shown: uint256


event Opened:
    task: indexed(uint256)
    round: indexed(uint256)
    node: indexed(address)
    seat: uint256
    open_root: bytes32


event Attested:
    task: indexed(uint256)
    round: indexed(uint256)
    node: indexed(address)
    seat: uint256
    digest: bytes32


event Published:
    task: indexed(uint256)
    round: indexed(uint256)
    node: indexed(address)
    data: Bytes[16_384]


event Accused:
    task: indexed(uint256)
    round: indexed(uint256)
    dealer: indexed(address)
    node: address


event Expelled:
    task: indexed(uint256)
    round: indexed(uint256)
    dealer: indexed(address)


event Convicted:
    task: indexed(uint256)
    round: indexed(uint256)
    node: indexed(address)
    seat: uint256
    fault: uint256
    slashed: uint256


event PhaseChanged:
    task: indexed(uint256)
    round: indexed(uint256)
    phase: uint256
    present: uint256


event Posted:
    task: indexed(uint256)
    round: indexed(uint256)
    posted: uint256


event Finished:
    task: indexed(uint256)
    round: indexed(uint256)
    survivors: uint256
    mask_digest: bytes32
    sum_digest: bytes32
    words: DynArray[uint256, MAX_WORDS]


event Closed:
    task: indexed(uint256)


event Withdrawn:
    task: indexed(uint256)
    node: indexed(address)
    amount: uint256


# r, the order of the scalar field of BLS12-381, a number of 255 bits.
R: constant(uint256) = 52435875175126190479447740508185965837690552500527637822603658699938581184513

MAX_MEMBERS: constant(uint256) = 128
MAX_VERIFIERS: constant(uint256) = 16
MAX_WORDS: constant(uint256) = 520  # DIRECT: 4,096 parameters in lanes of 32 bits, and room for metrics
MAX_BLOBS: constant(uint256) = 12  # commitments of all groups together
BLOBS_A_CALL: constant(uint256) = 6  # blobs that one transaction carries
COMPLETE_UP_TO: constant(uint256) = 50  # members that all share with all

# The two highest bits of every lane are zero in an honest sum: 8 lanes of 32 bits, 4 lanes of 64 bits:
# 0xC0000000 eight times, and 0xC000000000000000 four times.
GUARD_8: constant(uint256) = 86844066948207106572749044905152329006347442535766919752609660481680017719296
GUARD_4: constant(uint256) = 86844066927987146572386065058055941463084542341826876689281320602911981436928

# The generator of G1 and its negative, as EIP-2537 writes points; p, the modulus of the curve, in two words.
GENERATOR: constant(Bytes[128]) = x"0000000000000000000000000000000017f1d3a73197d7942695638c4fa9ac0fc3688c4f9774b905a14e3a3f171bac586c55e83ff97a1aeffb3af00adb22c6bb0000000000000000000000000000000008b3f481e3aaa0f1a09e30ed741d8ae4fcf5e095d5d00af600db18cb2c04b3edd03cc744a2888ae40caa232946c5e7e1"
P_HIGH: constant(uint256) = 34565483545414906068789196026815425751
P_LOW: constant(uint256) = 45442060874369865957053122457065728162598490762543039060009208264153100167851
ADD_POINTS: constant(address) = 0x000000000000000000000000000000000000000b

# Modes.
DIRECT: constant(uint256) = 0
KZG: constant(uint256) = 1
HASH: constant(uint256) = 2
BLOB: constant(uint256) = 3

# Phases of a round.
IDLE: constant(uint256) = 0
SHARE: constant(uint256) = 1
SUBMIT: constant(uint256) = 2
CHALLENGE: constant(uint256) = 3
OPEN: constant(uint256) = 4
DONE: constant(uint256) = 5
ABORTED: constant(uint256) = 6

# How far one member has come in a round.
SELECTED: constant(uint256) = 1
SHARED: constant(uint256) = 2
SUBMITTED: constant(uint256) = 3
OPENED: constant(uint256) = 4
ATTESTED: constant(uint256) = 5

# Flags of a seat.
DROPPED: constant(uint256) = 1 << 168  # its vector is not in the sum, whatever it says from now on
CONVICTED: constant(uint256) = 1 << 169
CHALLENGED: constant(uint256) = 1 << 170  # has not shown its vector
ANSWERED: constant(uint256) = 1 << 171  # has shown it, and cannot be asked again
REPORTED: constant(uint256) = 1 << 172  # has paid for its silence
CLAIMED: constant(uint256) = 1 << 173  # has taken its reward
A_STEP: constant(uint256) = 1 << 160
ACCOUNT: constant(uint256) = 2**160 - 1

# Faults.
BAD_DEALER: constant(uint256) = 1
BAD_OPENER: constant(uint256) = 2
WRONG_COMMITMENT: constant(uint256) = 3
WITHHELD: constant(uint256) = 4
SILENCE: constant(uint256) = 5

judge: public(immutable(RoundJudge.__interface__))
task_count: public(uint256)
_tasks: HashMap[uint256, Task]
_verifiers: HashMap[uint256, DynArray[RoundJudge.Verifier, MAX_VERIFIERS]]
_allow_listed: HashMap[uint256, bool]
_allowed: HashMap[uint256, HashMap[address, bool]]
_memberships: HashMap[uint256, HashMap[address, Membership]]
_joined: HashMap[uint256, DynArray[address, MAX_MEMBERS]]
# One word a round, and one word a seat each. `_key` makes one number of task, round and seat.
_rounds: HashMap[uint256, uint256]
_results: HashMap[uint256, bytes32]
_seats: HashMap[uint256, uint256]
_share_digests: HashMap[uint256, bytes32]
_vector_digests: HashMap[uint256, bytes32]
_open_roots: HashMap[uint256, bytes32]
# By seat; in a sealed task by the verifier's number.
_attested: HashMap[uint256, bytes32]
_accusers: HashMap[uint256, uint256]
_shown: HashMap[uint256, uint256]
_rewards: HashMap[uint256, uint256]
# Accumulators, one set a task, used again in each round: a slot in use is four times cheaper.
_masked: HashMap[uint256, uint256[MAX_WORDS]]
_sums: HashMap[uint256, Point[MAX_BLOBS]]


@deploy
def __init__(judge_: RoundJudge.__interface__):
    """
    @param judge_ The contract that looks at the evidence of faults; it has neither state nor owner
    """
    judge = judge_


# T0: register --------------------------------------------------------------------------------------------


@external
@payable
def register(
    terms: RoundJudge.Terms,
    allow_list: DynArray[address, MAX_MEMBERS],
    verifiers: DynArray[RoundJudge.Verifier, MAX_VERIFIERS],
) -> uint256:
    """
    @notice Publish a task. Everything that a node must know before it joins is in the terms. The coins sent
            along are the pot: each finished round pays an equal part of it to the members that opened shares.
    @param terms Hashes of code, parameters and first model; criteria; sizes; windows in blocks
    @param allow_list The only accounts that may join; empty: everybody who meets the criteria
    @param verifiers In a sealed task, those who can read the openings and attest to the result
    @return The task's number, from 1
    """
    blobs: uint256 = staticcall judge.check_terms(terms, verifiers)
    self.task_count += 1
    task: uint256 = self.task_count
    self._verifiers[task] = verifiers
    join_deadline: uint256 = block.number + terms.join_blocks
    self._tasks[task] = Task(
        owner=msg.sender,
        terms=terms,
        join_deadline=join_deadline,
        beacon_block=join_deadline,
        round=0,
        closed=False,
        reward=msg.value // terms.max_rounds,
        pot=msg.value,
        blobs=blobs,
    )
    if len(allow_list) > 0:
        self._allow_listed[task] = True
        for node: address in allow_list:
            self._allowed[task][node] = True
    log Registered(task=task, owner=msg.sender, terms=terms)
    return task


# T1: join ------------------------------------------------------------------------------------------------


@external
@payable
def join(task: uint256, box_key: bytes32, rows: uint256, dataset: bytes32, data_commitment: bytes32):
    """
    @notice Opt in. The coins sent along are the stake; `withdraw` gives them back when the task has ended.
    @param box_key X25519 public key under which others seal shares for this node
    @param rows Rows of data that the node brings
    @param dataset Identifier of the data set that the rows belong to
    @param data_commitment Salted hash of the node's own rows; zero: none
    """
    self._open_task(task)
    self._check(block.number <= self._tasks[task].join_deadline, "join window is over")
    self._check(not self._memberships[task][msg.sender].joined, "already joined")
    self._given(box_key)
    self._check(rows >= self._tasks[task].terms.min_rows, "too few rows")
    wanted: bytes32 = self._tasks[task].terms.dataset_id
    self._check(wanted == empty(bytes32) or dataset == wanted, "wrong data set")
    self._check(msg.value >= self._tasks[task].terms.min_stake, "stake too small")
    self._check(not self._allow_listed[task] or self._allowed[task][msg.sender], "not on the allow list")
    self._check(len(self._joined[task]) < MAX_MEMBERS, "task is full")

    self._memberships[task][msg.sender] = Membership(
        joined=True,
        box_key=box_key,
        rows=rows,
        dataset=dataset,
        stake=msg.value,
        data_commitment=data_commitment,
        free_block=0,
    )
    self._joined[task].append(msg.sender)
    log Joined(task=task, node=msg.sender, box_key=box_key, rows=rows, data_commitment=data_commitment)


# T2: select ----------------------------------------------------------------------------------------------


@external
def open_round(task: uint256) -> uint256:
    """
    @notice Start the next round: anybody may, once the join window or the last round is over.
    @dev The dice are the hash of a block that was fixed before it existed, so neither owner nor node
         can choose the members. A beacon that the chain has forgotten (256 blocks) is thrown again.
    @return The round's number, or 0 when the beacon had to be thrown again: call once more
    """
    self._open_task(task)
    round: uint256 = self._tasks[task].round + 1
    beacon_block: uint256 = self._tasks[task].beacon_block
    self._check(round <= self._tasks[task].terms.max_rounds, "all rounds have run")
    self._after_round(task)
    self._check(block.number > self._tasks[task].join_deadline, "join window is open")
    self._check(block.number > beacon_block, "beacon is not mined yet")
    if block.number - beacon_block > 255:
        self._tasks[task].beacon_block = block.number
        return 0

    self._check(len(self._joined[task]) >= self._tasks[task].terms.min_clients, "too few nodes joined")
    beacon: bytes32 = blockhash(beacon_block)
    members: DynArray[address, MAX_MEMBERS] = staticcall judge.draw(
        self._joined[task], task, round, beacon, self._tasks[task].terms.max_clients
    )
    self._tasks[task].round = round
    seat: uint256 = 0
    for node: address in members:
        self._seats[self._key(task, round, seat)] = convert(node, uint256) | (SELECTED << 160)
        seat += 1

    quorum: uint256 = len(members) // 2 + 1
    degree: uint256 = len(members) - 1
    share_threshold: uint256 = quorum
    if len(members) > COMPLETE_UP_TO and self._tasks[task].terms.degree < degree:
        degree = self._tasks[task].terms.degree
        share_threshold = self._tasks[task].terms.share_threshold
    step_blocks: uint256 = self._tasks[task].terms.step_blocks
    self._store(
        task,
        round,
        Round(
            phase=SHARE,
            deadline=block.number + step_blocks,
            quorum=quorum,
            selected=len(members),
            shared=0,
            submitted=0,
            opened=0,
            result_hash=empty(bytes32),
            opened_block=block.number,
            degree=degree,
            share_threshold=share_threshold,
            reached=SHARE,
            challenged=0,
            posted=0,
            started=0,
            mode=self._tasks[task].terms.mode,
            sealed=self._tasks[task].terms.sealed,
            groups=self._tasks[task].terms.groups,
            blobs=self._tasks[task].blobs,
            step_blocks=step_blocks,
        ),
    )
    log RoundOpened(
        task=task,
        round=round,
        beacon=beacon,
        members=members,
        quorum=quorum,
        degree=degree,
        share_threshold=share_threshold,
    )
    return round


# M1: share -----------------------------------------------------------------------------------------------


@external
def share(
    task: uint256, round: uint256, seat: uint256, mask_key: bytes32, seed_hash: bytes32, share_root: bytes32
):
    """
    @notice Publish this round's mask key, and commit to the self-mask seed and to all dealt shares.
    """
    r: Round = self._speak(task, round, seat, SHARE, SELECTED)
    self._given(mask_key)
    self._given(seed_hash)
    self._given(share_root)
    self._share_digests[self._key(task, round, seat)] = keccak256(concat(mask_key, seed_hash, share_root))
    r.shared += 1
    self._store(task, round, r)
    log Shared(
        task=task,
        round=round,
        node=msg.sender,
        seat=seat,
        mask_key=mask_key,
        seed_hash=seed_hash,
        share_root=share_root,
    )


# M2: submit ----------------------------------------------------------------------------------------------


@external
def submit(task: uint256, round: uint256, seat: uint256, words: DynArray[uint256, MAX_WORDS]):
    """
    @notice Send the masked vector. The contract adds it in F_r to the sum of the member's group.
    """
    r: Round = self._speak(task, round, seat, SUBMIT, SHARED)
    self._mode(r.mode == DIRECT)
    self._check(len(words) == self._tasks[task].terms.words, "wrong vector length")
    group: uint256 = seat % r.groups
    first: bool = (r.started >> group) & 1 == 0
    i: uint256 = group * len(words)
    highest: uint256 = 0
    for word: uint256 in words:
        highest = max(highest, word)
        if first:
            self._masked[task][i] = word
        else:
            self._masked[task][i] = uint256_addmod(self._masked[task][i], word, R)
        i = unsafe_add(i, 1)
    self._check(highest < R, "word is not in the field")
    r.started |= 1 << group
    r.submitted += 1
    self._store(task, round, r)
    log Submitted(
        task=task, round=round, node=msg.sender, seat=seat, data_root=empty(bytes32), commitments=b""
    )


@external
def commit(
    task: uint256, round: uint256, seat: uint256, data_root: bytes32, commitments: Bytes[128 * MAX_BLOBS]
):
    """
    @notice Commit to the masked vector, which is in storage, or (BLOB) in the blobs of this transaction.
    @param data_root Merkle root over chunks of 32 elements
    @param commitments KZG commitments, one for each 4,096 elements, 128 bytes each; none in HASH mode
    """
    r: Round = self._speak(task, round, seat, SUBMIT, SHARED)
    self._mode(r.mode != DIRECT)
    self._given(data_root)
    self._check(len(commitments) == 128 * r.blobs, "wrong number of commitments")
    if r.mode == BLOB:
        for i: uint256 in range(r.blobs, bound=MAX_BLOBS):
            self._fits(i, slice(commitments, 128 * i, 128))
    self._add(task, r, seat, commitments, False)
    self._vector_digests[self._key(task, round, seat)] = keccak256(concat(data_root, commitments))
    r.submitted += 1
    self._store(task, round, r)
    log Submitted(
        task=task, round=round, node=msg.sender, seat=seat, data_root=data_root, commitments=commitments
    )


@external
def challenge(
    task: uint256, round: uint256, seat: uint256, data_root: bytes32, commitments: Bytes[128 * MAX_BLOBS]
):
    """
    @notice Say that a vector is kept back: it is out of the sum until its sender publishes it as blobs. The
            owner and every node of the task may ask, each sender can be asked once, and only in the first
            window of the phase: the first challenge adds a second window for the answers.
    @param data_root What the sender has committed to, as `commitments`
    """
    r: Round = self._in_phase(task, round, CHALLENGE)
    until: uint256 = r.deadline
    if r.challenged > 0:
        until -= r.step_blocks
    self._check(block.number <= until, "deadline has passed")
    self._check(
        self._tasks[task].owner == msg.sender or self._memberships[task][msg.sender].joined,
        "not a member of this task",
    )
    at: uint256 = self._key(task, round, seat)
    word: uint256 = self._seats[at]
    self._check(word & (CHALLENGED | ANSWERED | CONVICTED) == 0, "already challenged")
    self._check(self._step(word) == SUBMITTED, "it has committed to nothing")
    self._check_vector(at, data_root, commitments)
    self._add(task, r, seat, commitments, True)
    self._seats[at] = (word - A_STEP) | DROPPED | CHALLENGED
    if r.challenged == 0:
        r.deadline += r.step_blocks
    r.challenged += 1
    r.submitted -= 1
    self._store(task, round, r)
    log Challenged(task=task, round=round, node=self._account(word), seat=seat)


@external
def answer(
    task: uint256, round: uint256, seat: uint256, data_root: bytes32, commitments: Bytes[128 * MAX_BLOBS]
):
    """
    @notice Publish the own vector: this transaction carries the blobs that the commitments stand for. A
            vector of more than six blobs needs a second call, which goes on where the first has ended.
    """
    r: Round = self._in_time(task, round, CHALLENGE)
    at: uint256 = self._key(task, round, seat)
    word: uint256 = self._own_seat(at)
    self._check(word & CHALLENGED != 0, "nobody has asked")
    self._check_vector(at, data_root, commitments)
    shown: uint256 = self._shown[at]
    self._check(blobhash(0) != empty(bytes32), "blob does not fit")
    for i: uint256 in range(BLOBS_A_CALL):
        if blobhash(i) == empty(bytes32) or shown == r.blobs:
            break
        self._fits(i, slice(commitments, 128 * shown, 128))
        shown += 1
    self._shown[at] = shown
    if shown == r.blobs:
        self._add(task, r, seat, commitments, False)
        self._seats[at] = ((word ^ DROPPED ^ CHALLENGED) + A_STEP) | ANSWERED
        r.submitted += 1
        self._store(task, round, r)
    log Answered(task=task, round=round, node=msg.sender, seat=seat, shown=shown)


# M3: open and attest -------------------------------------------------------------------------------------


@external
def open_shares(task: uint256, round: uint256, seat: uint256, open_root: bytes32):
    """
    @notice Commit to the shares that this survivor opens: one kind for each neighbour, as the list says.
    """
    r: Round = self._speak(task, round, seat, OPEN, SUBMITTED)
    self._given(open_root)
    self._open_roots[self._key(task, round, seat)] = open_root
    r.opened += 1
    self._store(task, round, r)
    log Opened(task=task, round=round, node=msg.sender, seat=seat, open_root=open_root)


@external
def attest(task: uint256, round: uint256, seat: uint256, digest: bytes32):
    """
    @notice Say which result the caller has worked out for itself: a survivor that has opened its shares, or,
            in a sealed task, a verifier.
    @param seat The member's seat; in a sealed task the verifier's number in the list
    @param digest keccak256 of the total mask's words, 32 bytes each, big endian; in HASH mode keccak256 of
           that digest and the masked sum's
    """
    self._given(digest)
    r: Round = self._in_time(task, round, OPEN)
    at: uint256 = self._key(task, round, seat)
    if r.sealed:
        self._check(seat < len(self._verifiers[task]), "not a verifier")
        self._check(self._verifiers[task][seat].account == msg.sender, "not a verifier")
        self._check(self._attested[at] == empty(bytes32), "already sent")
    else:
        self._step_from(at, OPENED)
    self._check(r.opened >= r.share_threshold, "too few shares are open")
    self._attested[at] = digest
    log Attested(task=task, round=round, node=msg.sender, seat=seat, digest=digest)


@external
def accuse(task: uint256, round: uint256, seat: uint256, dealer: uint256):
    """
    @notice Say that a dealer's shares do not lead to the secrets that it announced, so no mask can be worked
            out. When a threshold of its neighbours says so, an honest one among them, it is drawn no more.
    @dev Its stake stays its own: a storage that hides an honest dealer's message looks the same.
    """
    r: Round = self._in_phase(task, round, OPEN)
    word: uint256 = self._own_seat(self._key(task, round, seat))
    self._check(self._step(word) >= SUBMITTED, "not a survivor of this round")
    at: uint256 = self._key(task, round, dealer)
    accused: uint256 = self._seats[at]
    self._check(self._step(accused) >= SHARED, "it has dealt no shares")
    away: uint256 = (dealer + r.selected - seat) % r.selected
    near: bool = away <= r.degree // 2 or away + r.degree // 2 >= r.selected
    self._check(near or r.degree + 1 == r.selected, "not a neighbour")
    # One bit for each accuser, and above them their number.
    accusers: uint256 = self._accusers[at]
    self._check((accusers >> seat) & 1 == 0, "already sent")
    accusers = (accusers | (1 << seat)) + (1 << MAX_MEMBERS)
    self._accusers[at] = accusers
    node: address = self._account(accused)
    log Accused(task=task, round=round, dealer=node, node=msg.sender)
    if accusers >> MAX_MEMBERS == r.share_threshold and self._remove(task, node):
        log Expelled(task=task, round=round, dealer=node)


@external
def publish(task: uint256, round: uint256, seat: uint256, data: Bytes[16_384]):
    """
    @notice Put a message on the chain that storage does not pass on; nobody can then say it was not there.
    """
    self._running(self._load(task, round).phase)
    self._own_seat(self._key(task, round, seat))
    log Published(task=task, round=round, node=msg.sender, data=data)


# Finish --------------------------------------------------------------------------------------------------


@external
def finish(task: uint256, round: uint256, words: DynArray[uint256, MAX_WORDS]):
    """
    @notice Publish the sum (DIRECT, not sealed): anybody may. The contract subtracts it from the masked sum
            that it holds; what is left must be the mask that a quorum of survivors attested to, so a wrong
            sum reverts.
    """
    r: Round = self._in_phase(task, round, OPEN)
    self._mode(r.mode == DIRECT and not r.sealed)
    mask: DynArray[uint256, MAX_WORDS] = self._masked_words(task, r)
    self._check(len(words) == len(mask), "wrong vector length")
    guard: uint256 = GUARD_8
    if self._tasks[task].terms.lanes == 4:
        guard = GUARD_4
    i: uint256 = 0
    highest: uint256 = 0
    bits: uint256 = 0
    for word: uint256 in words:
        highest = max(highest, word)
        bits |= word
        mask[i] = uint256_addmod(mask[i], unsafe_sub(R, word), R)
        i = unsafe_add(i, 1)
    self._check(highest < R, "word is not in the field")
    # With groups, one that a member has spoiled must not keep back the others.
    self._check(r.groups > 1 or bits & guard == 0, "a lane is beyond its bound")
    mask_digest: bytes32 = self._digest(mask)
    sum_digest: bytes32 = self._digest(words)
    self._finish(task, round, r, mask_digest, mask_digest, sum_digest, sum_digest, words)


@external
def post_sum(task: uint256, round: uint256, first: uint256):
    """
    @notice Publish blobs of the masked sum, from number `first` on: for sums of more than six.
    """
    r: Round = self._in_phase(task, round, OPEN)
    r = self._post(task, r, first)
    self._store(task, round, r)
    log Posted(task=task, round=round, posted=r.posted)


@external
def finish_committed(task: uint256, round: uint256, mask_digest: bytes32, sum_digest: bytes32):
    """
    @notice End the round with the digest that a quorum attested to: anybody may. KZG and BLOB: this
            transaction carries the blobs of the masked sum, unless `post_sum` has published them all.
    @param mask_digest keccak256 of the total mask
    @param sum_digest HASH: keccak256 of the masked sum; else zero, the contract knows the sum
    """
    r: Round = self._in_phase(task, round, OPEN)
    self._mode(r.mode != DIRECT or r.sealed)
    attested: bytes32 = mask_digest
    total: bytes32 = sum_digest
    if r.mode == HASH:
        attested = keccak256(concat(mask_digest, sum_digest))
    else:
        self._check(sum_digest == empty(bytes32), "only hash mode takes a sum digest")
        if r.mode == DIRECT:
            total = self._digest(self._masked_words(task, r))
        else:
            if blobhash(0) != empty(bytes32):
                r = self._post(task, r, 0)
            # A chain of hashes over the commitments of the sum.
            for i: uint256 in range(r.groups * r.blobs, bound=MAX_BLOBS):
                self._check((r.posted >> i) & 1 == 1, "a blob of the sum is missing")
                total = keccak256(concat(total, self._sum(task, i)))
    self._finish(task, round, r, attested, mask_digest, total, keccak256(concat(mask_digest, total)), [])


@internal
def _finish(
    task: uint256,
    round: uint256,
    r: Round,
    attested: bytes32,
    mask_digest: bytes32,
    sum_digest: bytes32,
    result_hash: bytes32,
    words: DynArray[uint256, MAX_WORDS],
):
    needed: uint256 = r.quorum
    if r.sealed:
        needed = len(self._verifiers[task]) // 2 + 1
    self._check(self._votes(task, round, r, attested) >= needed, "sum does not fit the attested mask")
    reward: uint256 = self._tasks[task].reward
    if reward > 0:
        each: uint256 = reward // r.opened
        self._rewards[self._key(task, round, 0)] = each
        self._tasks[task].pot -= each * r.opened
    ended: Round = r
    ended.phase = DONE
    self._store(task, round, ended)
    self._results[self._key(task, round, 0)] = result_hash
    self._tasks[task].beacon_block = block.number
    log Finished(
        task=task,
        round=round,
        survivors=r.submitted,
        mask_digest=mask_digest,
        sum_digest=sum_digest,
        words=words,
    )


@internal
@view
def _votes(task: uint256, round: uint256, r: Round, digest: bytes32) -> uint256:
    voters: uint256 = r.selected
    if r.sealed:
        voters = len(self._verifiers[task])
    votes: uint256 = 0
    for i: uint256 in range(voters, bound=MAX_MEMBERS):
        if self._attested[self._key(task, round, i)] == digest:
            votes += 1
    return votes


@internal
@view
def _post(task: uint256, r: Round, first: uint256) -> Round:
    """
    @dev Mark the blobs of this transaction as published; each must be the blob of the sum's commitment.
    """
    after: Round = r
    for i: uint256 in range(BLOBS_A_CALL):
        if blobhash(i) == empty(bytes32):
            break
        at: uint256 = first + i
        self._check(at < r.groups * r.blobs, "the sum has no such blob")
        self._fits(i, self._sum(task, at))
        after.posted |= 1 << at
    return after


# The clock -----------------------------------------------------------------------------------------------


@external
def advance(task: uint256, round: uint256):
    """
    @notice End the current phase: anybody may, when everybody has spoken or the deadline has passed.
    @dev A phase that too few have reached aborts the round. Once shares are open, anybody who reads them can
         work out the sum, so an OPEN phase has one more window in which `finish` cannot be overtaken.
    """
    r: Round = self._load(task, round)
    self._running(r.phase)
    late: bool = block.number > r.deadline
    present: uint256 = r.submitted
    next: uint256 = OPEN
    if r.phase == SHARE:
        present = r.shared
        late = late or present == r.selected
        next = SUBMIT
    elif r.phase == SUBMIT:
        late = late or present == r.shared
        if r.mode == KZG:
            next = CHALLENGE
    elif r.phase == OPEN:
        # The way forward is `finish`; this one is for a round in which it can no longer come.
        # After the last word there is one more window, in which nobody can abort what can be finished.
        present = r.opened
        late = block.number > r.deadline + r.step_blocks
        next = ABORTED
    self._check(late, "phase is still open")
    if r.phase != OPEN and present < max(r.quorum, self._tasks[task].terms.min_clients):
        next = ABORTED
    if next == SUBMIT:
        # Sums of points begin at the generator and not at zero: every sender then pays the same for its
        # addition. `_sum` takes the generator off again.
        for i: uint256 in range(r.groups * r.blobs, bound=MAX_BLOBS):
            self._sums[task][i] = self._point(self._generator())
    if next == OPEN and (r.groups > 1 or r.degree + 1 < r.selected):
        seats: DynArray[uint256, MAX_MEMBERS] = self._all_seats(task, round, r.selected)
        if not staticcall judge.can_open(seats, r.groups, r.degree, r.share_threshold):
            next = ABORTED
    if next == ABORTED:
        self._tasks[task].beacon_block = block.number
    else:
        r.deadline = block.number + r.step_blocks
        r.reached = next
    r.phase = next
    self._store(task, round, r)
    log PhaseChanged(task=task, round=round, phase=next, present=present)


@external
def close(task: uint256):
    """
    @notice End the task before all rounds have run. Only its owner may, and only between rounds.
    """
    self._open_task(task)
    self._check(msg.sender == self._tasks[task].owner, "only the owner")
    self._after_round(task)
    self._tasks[task].closed = True
    log Closed(task=task)


# Stakes, rewards and faults ------------------------------------------------------------------------------


@external
@nonreentrant
def convict(
    task: uint256, round: uint256, seat: uint256, fault: uint256, other: uint256, evidence: Bytes[38_400]
):
    """
    @notice Prove a fault: anybody may. The whole stake is slashed, half to the caller, half burned, and the
            node is drawn no more. A round that can go on without it goes on.
    @param fault 1 bad dealer, 2 bad opener, 3 wrong commitment
    @param other Seat of the dealer (2), number of the element or blob (3), else 0
    @param evidence What RoundJudge reads
    """
    r: Round = self._load(task, round)
    at: uint256 = self._key(task, round, seat)
    word: uint256 = self._seats[at]
    self._check(word != 0, "no such seat")
    self._check(word & CONVICTED == 0, "already convicted")
    fact: bytes32 = self._open_roots[at]
    dealer: uint256 = at
    needed: uint256 = OPEN  # which kind of share may be seen is known when the survivors are final
    if fault == BAD_OPENER:
        dealer = self._key(task, round, other)
    elif fault == WRONG_COMMITMENT:
        self._mode(r.mode == KZG)
        fact = self._vector_digests[at]
        needed = CHALLENGE
    self._check(r.reached >= needed, "not in this phase")
    case: RoundJudge.Case = RoundJudge.Case(
        task=task,
        round=round,
        fault=fault,
        seat=seat,
        other=other,
        degree=r.degree,
        share_threshold=r.share_threshold,
        words=self._tasks[task].terms.words,
        share_digest=self._share_digests[dealer],
        fact=fact,
        seats=self._all_seats(task, round, r.selected),
    )
    commitments: Bytes[128 * MAX_BLOBS] = staticcall judge.judge(case, evidence)

    word |= CONVICTED
    if fault == WRONG_COMMITMENT and r.phase == CHALLENGE:
        if word & DROPPED == 0:
            self._add(task, r, seat, commitments, True)
            r.submitted -= 1
            self._store(task, round, r)
            word -= A_STEP
        word = (word | DROPPED | CHALLENGED) ^ CHALLENGED
    self._seats[at] = word
    if not r.sealed:
        self._attested[at] = empty(bytes32)
    node: address = self._account(word)
    self._remove(task, node)
    self._slash(task, round, seat, node, fault, max_value(uint256))


@external
@nonreentrant
def report_silence(task: uint256, round: uint256, seat: uint256):
    """
    @notice Point to a message that is missing at a deadline that has passed, or a vector that was kept back.
            The task's penalty is taken off the stake, once a round, half to the caller, half burned. Who has
            not shared has promised nothing: it may see that the task is finished, or not what it has read.
    """
    r: Round = self._load(task, round)
    at: uint256 = self._key(task, round, seat)
    word: uint256 = self._seats[at]
    self._check(word != 0, "no such seat")
    self._check(word & (REPORTED | CONVICTED) == 0, "already reported")
    fault: uint256 = SILENCE
    phase: uint256 = DONE
    if word & CHALLENGED != 0:
        fault = WITHHELD
        phase = CHALLENGE
    elif self._step(word) == SHARED:
        phase = SUBMIT
    elif self._step(word) == SUBMITTED:
        phase = OPEN
    over: bool = r.reached > phase
    if r.reached == phase:
        over = r.phase == ABORTED or (r.phase == phase and block.number > r.deadline)
    self._check(over, "nothing is missing")
    self._seats[at] = word | REPORTED
    self._slash(task, round, seat, self._account(word), fault, self._tasks[task].terms.silence_penalty)


@internal
def _slash(task: uint256, round: uint256, seat: uint256, node: address, fault: uint256, most: uint256):
    stake: uint256 = self._memberships[task][node].stake
    amount: uint256 = min(stake, most)
    self._memberships[task][node].stake = stake - amount
    log Convicted(task=task, round=round, node=node, seat=seat, fault=fault, slashed=amount)
    raw_call(empty(address), b"", value=amount - amount // 2)
    raw_call(msg.sender, b"", value=amount // 2)


@external
@nonreentrant
def claim(task: uint256, round: uint256, seat: uint256):
    """
    @notice Take the reward for a finished round: for each member that has opened its shares.
    """
    self._in_phase(task, round, DONE)
    at: uint256 = self._key(task, round, seat)
    word: uint256 = self._own_seat(at)
    self._check(self._step(word) >= OPENED, "it has opened no shares")
    amount: uint256 = 0
    if word & (CONVICTED | CLAIMED) == 0:
        amount = self._rewards[self._key(task, round, 0)]
    self._seats[at] = word | CLAIMED
    self._pay(task, amount)


@external
@nonreentrant
def withdraw(task: uint256):
    """
    @notice Take the stake back, and the owner what is left in the pot, when the task has ended or after
            having left. One step's window lies between the end of a round and this, in which a fault of that
            round can still be proved.
    """
    owner: bool = msg.sender == self._tasks[task].owner
    free_block: uint256 = self._memberships[task][msg.sender].free_block
    if free_block == 0 or owner:
        ended: bool = (
            self._tasks[task].closed or self._tasks[task].round == self._tasks[task].terms.max_rounds
        )
        free_block = self._last_window(task)
        # A task that found too few nodes never starts: its stakes are free once the join window is over.
        if self._tasks[task].round == 0 and block.number > self._tasks[task].join_deadline:
            ended = ended or len(self._joined[task]) < self._tasks[task].terms.min_clients
        self._check(ended and self._between_rounds(task), "task has not ended")
    self._check(block.number > free_block, "faults can still be proved")
    amount: uint256 = self._memberships[task][msg.sender].stake
    self._memberships[task][msg.sender].stake = 0
    if owner:
        amount += self._tasks[task].pot
        self._tasks[task].pot = 0
    self._pay(task, amount)


@external
@nonreentrant
def leave(task: uint256):
    """
    @notice Leave the task between two rounds: nobody can hold a node by never ending a task. It is drawn no
            more; `withdraw` pays the stake when faults of the last round can no longer be proved.
    """
    self._after_round(task)
    self._check(self._memberships[task][msg.sender].joined, "not a member of this task")
    self._check(self._memberships[task][msg.sender].free_block == 0, "already left")
    self._remove(task, msg.sender)  # an expelled node is drawn no more, and still may go
    self._memberships[task][msg.sender].free_block = max(self._last_window(task), 1)


@internal
def _pay(task: uint256, amount: uint256):
    self._check(amount > 0, "nothing to withdraw")
    log Withdrawn(task=task, node=msg.sender, amount=amount)
    raw_call(msg.sender, b"", value=amount)


@internal
@view
def _last_window(task: uint256) -> uint256:
    """
    @dev The last block in which faults of the last round can be proved for sure.
    """
    round: uint256 = self._tasks[task].round
    if round == 0:
        return 0
    return self._tasks[task].beacon_block + self._load(task, round).step_blocks


# Rules that several messages share -----------------------------------------------------------------------


@internal
@pure
def _check(condition: bool, reason: String[48]):
    """
    @dev `assert`, written once: a hundred of them take more room than a chain gives a contract.
    """
    assert condition, reason


@internal
@pure
def _given(word: bytes32):
    self._check(word != empty(bytes32), "a key or hash is zero")


@internal
@pure
def _mode(right: bool):
    self._check(right, "not in this mode")


@internal
@pure
def _running(phase: uint256):
    self._check(phase != IDLE, "not the current round")
    self._check(phase < DONE, "round is over")


@internal
@view
def _in_phase(task: uint256, round: uint256, phase: uint256) -> Round:
    r: Round = self._load(task, round)
    self._check(r.phase != IDLE, "not the current round")
    self._check(r.phase == phase, "not in this phase")
    return r


@internal
@view
def _in_time(task: uint256, round: uint256, phase: uint256) -> Round:
    r: Round = self._in_phase(task, round, phase)
    self._check(block.number <= r.deadline, "deadline has passed")
    return r


@internal
def _speak(task: uint256, round: uint256, seat: uint256, phase: uint256, step: uint256) -> Round:
    """
    @dev A message is heard in its own round, phase and window only, and only once from each member, which
         is then one step further.
    """
    r: Round = self._in_time(task, round, phase)
    self._step_from(self._key(task, round, seat), step)
    return r


@internal
def _step_from(at: uint256, step: uint256):
    word: uint256 = self._own_seat(at)
    self._check(word & CONVICTED == 0, "convicted")
    self._check(self._step(word) >= step, "an earlier message is missing")
    self._check(self._step(word) == step, "already sent")
    self._seats[at] = word + A_STEP


@internal
@view
def _own_seat(at: uint256) -> uint256:
    word: uint256 = self._seats[at]
    self._check(self._account(word) == msg.sender, "not your seat")
    return word


@internal
@pure
def _key(task: uint256, round: uint256, seat: uint256) -> uint256:
    self._check(max(max(task, round), seat) >> 64 == 0, "number out of range")
    return (task << 128) | (round << 64) | seat


@internal
@pure
def _account(word: uint256) -> address:
    return convert(word & ACCOUNT, address)


@internal
@pure
def _step(word: uint256) -> uint256:
    return (word >> 160) & 255


@internal
@view
def _all_seats(task: uint256, round: uint256, members: uint256) -> DynArray[uint256, MAX_MEMBERS]:
    words: DynArray[uint256, MAX_MEMBERS] = []
    for seat: uint256 in range(members, bound=MAX_MEMBERS):
        words.append(self._seats[self._key(task, round, seat)])
    return words


@internal
@view
def _check_vector(at: uint256, data_root: bytes32, commitments: Bytes[128 * MAX_BLOBS]):
    digest: bytes32 = keccak256(concat(data_root, commitments))
    self._check(digest == self._vector_digests[at], "not what was committed")


@internal
def _remove(task: uint256, node: address) -> bool:
    """
    @dev Take a node off the list that rounds are drawn from. False: it was not on it.
    """
    count: uint256 = len(self._joined[task])
    for i: uint256 in range(count, bound=MAX_MEMBERS):
        if self._joined[task][i] == node:
            self._joined[task][i] = self._joined[task][count - 1]
            self._joined[task].pop()
            return True
    return False


@internal
@view
def _after_round(task: uint256):
    self._check(self._between_rounds(task), "last round is still running")


@internal
@view
def _open_task(task: uint256):
    self._check(self._tasks[task].owner != empty(address), "unknown task")
    self._check(not self._tasks[task].closed, "task is closed")


@internal
@view
def _between_rounds(task: uint256) -> bool:
    phase: uint256 = self._load(task, self._tasks[task].round).phase
    return phase == IDLE or phase >= DONE


# A round in one word -------------------------------------------------------------------------------------


@internal
@view
def _load(task: uint256, round: uint256) -> Round:
    w: uint256 = self._rounds[self._key(task, round, 0)]
    return Round(
        phase=w & 255,
        deadline=(w >> 8) & (2**40 - 1),
        quorum=(w >> 48) & 255,
        selected=(w >> 56) & 255,
        shared=(w >> 64) & 255,
        submitted=(w >> 72) & 255,
        opened=(w >> 80) & 255,
        result_hash=empty(bytes32),
        opened_block=(w >> 88) & (2**40 - 1),
        degree=(w >> 128) & 255,
        share_threshold=(w >> 136) & 255,
        reached=(w >> 144) & 255,
        challenged=(w >> 152) & 255,
        posted=(w >> 160) & (2**12 - 1),
        started=(w >> 176) & (2**32 - 1),
        mode=(w >> 172) & 15,
        sealed=(w >> 208) & 1 == 1,
        groups=(w >> 216) & 255,
        blobs=(w >> 224) & 255,
        step_blocks=w >> 232,
    )


@internal
def _store(task: uint256, round: uint256, r: Round):
    self._rounds[self._key(task, round, 0)] = (
        r.phase
        | (r.deadline << 8)
        | (r.quorum << 48)
        | (r.selected << 56)
        | (r.shared << 64)
        | (r.submitted << 72)
        | (r.opened << 80)
        | (r.opened_block << 88)
        | (r.degree << 128)
        | (r.share_threshold << 136)
        | (r.reached << 144)
        | (r.challenged << 152)
        | (r.posted << 160)
        | (r.mode << 172)
        | (r.started << 176)
        | (convert(r.sealed, uint256) << 208)
        | (r.groups << 216)
        | (r.blobs << 224)
        | (r.step_blocks << 232)
    )


# Sums of vectors and of commitments ----------------------------------------------------------------------


@internal
@view
def _masked_words(task: uint256, r: Round) -> DynArray[uint256, MAX_WORDS]:
    """
    @dev The sums of the groups, one after the other; zeros for a group in which nobody survives.
    """
    words: DynArray[uint256, MAX_WORDS] = []
    size: uint256 = self._tasks[task].terms.words
    for i: uint256 in range(r.groups * size, bound=MAX_WORDS):
        word: uint256 = 0
        if (r.started >> (i // size)) & 1 == 1:
            word = self._masked[task][i]
        words.append(word)
    return words


@internal
@pure
def _digest(words: DynArray[uint256, MAX_WORDS]) -> bytes32:
    return keccak256(slice(abi_encode(words, ensure_tuple=False), 32, 32 * len(words)))


@internal
def _add(task: uint256, r: Round, seat: uint256, commitments: Bytes[128 * MAX_BLOBS], take_off: bool):
    """
    @dev Add a member's commitments to the sums of its group, or take them off.
    """
    at: uint256 = (seat % r.groups) * r.blobs
    for i: uint256 in range(r.blobs, bound=MAX_BLOBS):
        point: Bytes[128] = slice(commitments, 128 * i, 128)
        if take_off:
            point = self._negative(point)
        total: Bytes[128] = self._add_points(self._bytes(self._sums[task][at + i]), point)
        self._sums[task][at + i] = self._point(total)


@internal
@view
def _sum(task: uint256, i: uint256) -> Bytes[128]:
    return self._add_points(self._bytes(self._sums[task][i]), self._negative(self._generator()))


@internal
@view
def _add_points(a: Bytes[128], b: Bytes[128]) -> Bytes[128]:
    """
    @dev G1ADD of EIP-2537. It takes 375 gas, and all that it is given when a point is not on the curve.
    """
    done: bool = False
    total: Bytes[128] = b""
    done, total = raw_call(
        ADD_POINTS, concat(a, b), max_outsize=128, gas=2000, is_static_call=True, revert_on_failure=False
    )
    self._check(done, "point is not on the curve")
    self._check(len(total) == 128, "this chain cannot add points")
    return total


@internal
@pure
def _generator() -> Bytes[128]:
    return GENERATOR


@internal
@pure
def _negative(point: Bytes[128]) -> Bytes[128]:
    """
    @dev (x, p - y); the point at infinity, which has no y, is its own negative.
    """
    high: uint256 = convert(extract32(point, 64), uint256)
    low: uint256 = convert(extract32(point, 96), uint256)
    if high | low == 0:
        return point
    borrow: uint256 = convert(low > P_LOW, uint256)
    return concat(
        slice(point, 0, 64),
        convert(unsafe_sub(unsafe_sub(P_HIGH, high), borrow), bytes32),
        convert(unsafe_sub(P_LOW, low), bytes32),
    )


@internal
@pure
def _point(point: Bytes[128]) -> Point:
    high: uint256 = convert(extract32(point, 0), uint256) << 128
    return Point(
        high=high | convert(extract32(point, 64), uint256),
        x=convert(extract32(point, 32), uint256),
        y=convert(extract32(point, 96), uint256),
    )


@internal
@pure
def _bytes(point: Point) -> Bytes[128]:
    return concat(
        convert(point.high >> 128, bytes32),
        convert(point.x, bytes32),
        convert(point.high & (2**128 - 1), bytes32),
        convert(point.y, bytes32),
    )


@internal
@view
def _fits(i: uint256, point: Bytes[128]):
    """
    @dev Blob number i of this transaction must be the blob of this commitment.
    """
    self._check(blobhash(i) == staticcall judge.versioned_hash(point), "blob does not fit")


# Views ---------------------------------------------------------------------------------------------------


@external
@view
def task_info(task: uint256) -> Task:
    return self._tasks[task]


@external
@view
def verifiers(task: uint256) -> DynArray[RoundJudge.Verifier, MAX_VERIFIERS]:
    return self._verifiers[task]


@external
@view
def round_info(task: uint256, round: uint256) -> Round:
    r: Round = self._load(task, round)
    r.result_hash = self._results[self._key(task, round, 0)]
    return r


@external
@view
def membership(task: uint256, node: address) -> Membership:
    return self._memberships[task][node]


@external
@view
def joined(task: uint256) -> DynArray[address, MAX_MEMBERS]:
    return self._joined[task]


@external
@view
def roster(task: uint256, round: uint256) -> DynArray[Member, MAX_MEMBERS]:
    """
    @notice What the contract knows of each member of a round, in the order of the seats. Survivors are the
            seats that have come at least to step 3, final once the round is in the OPEN phase.
    """
    found: DynArray[Member, MAX_MEMBERS] = []
    for seat: uint256 in range(self._load(task, round).selected, bound=MAX_MEMBERS):
        word: uint256 = self._seats[self._key(task, round, seat)]
        found.append(
            Member(
                seat=word,
                box_key=self._memberships[task][self._account(word)].box_key,
                share_digest=self._share_digests[self._key(task, round, seat)],
                vector_digest=self._vector_digests[self._key(task, round, seat)],
                open_root=self._open_roots[self._key(task, round, seat)],
            )
        )
    return found


@external
@view
def masked_sum(task: uint256) -> DynArray[uint256, MAX_WORDS]:
    """
    @notice DIRECT: the sum of the masked vectors of the current round so far, group after group.
    """
    r: Round = self._load(task, self._tasks[task].round)
    if r.started == 0:
        return []
    return self._masked_words(task, r)


@external
@view
def sum_commitments(task: uint256) -> DynArray[Bytes[128], MAX_BLOBS]:
    """
    @notice KZG, BLOB: the commitments to the masked sum of the current round so far, group after group.
    """
    r: Round = self._load(task, self._tasks[task].round)
    sums: DynArray[Bytes[128], MAX_BLOBS] = []
    if r.reached >= SUBMIT:
        for i: uint256 in range(r.groups * r.blobs, bound=MAX_BLOBS):
            sums.append(self._sum(task, i))
    return sums


@external
@view
def attestations(task: uint256, round: uint256, digest: bytes32) -> uint256:
    """
    @notice How many have attested to a digest; the zero digest counts nothing.
    """
    if digest == empty(bytes32):
        return 0
    return self._votes(task, round, self._load(task, round), digest)
