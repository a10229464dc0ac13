# pragma version 0.4.3
# pragma evm-version prague
"""
@title SecureAggregation
@license Apache-2.0
@notice The chain's part of secure aggregation in `direct` mode: public key directory, clock, dice,
        adder, and the one place where the list of survivors is written down.

A task is registered once and then runs for several rounds. One round moves through four phases:

    SHARE    each member publishes its mask key and commits to the shares of its secrets
    SUBMIT   each member sends its masked vector; the contract adds it, element by element, in F_r
    OPEN     the survivors are final; each commits to the shares it opens, works out the total mask
             for itself, and attests to the hash of that mask
    DONE     somebody posted the sum, and sum + attested mask = the masked sum that the contract holds

A phase ends when everybody has spoken or when its deadline (in blocks) has passed; then anybody may call
`advance`. Nobody, the task's owner included, can stall a round, announce another survivor list, or
publish a sum that differs from the one that the masked vectors add up to.
"""

# r, the order of the scalar field of BLS12-381, a number of 255 bits.
R: constant(uint256) = 52435875175126190479447740508185965837690552500527637822603658699938581184513

MAX_MEMBERS: constant(uint256) = 64
MAX_WORDS: constant(uint256) = 520  # 4,096 parameters in lanes of 32 bits, and room for weights and metrics
MAX_BLOCKS: constant(uint256) = 1_000_000  # longest window that a task may ask for
MAX_ROUNDS: constant(uint256) = 10_000

# The two highest bits of every lane are zero in an honest sum: 8 lanes of 32 bits, 4 lanes of 64 bits:
# 0xC0000000 eight times, and 0xC000000000000000 four times.
GUARD_8: constant(uint256) = 86844066948207106572749044905152329006347442535766919752609660481680017719296
GUARD_4: constant(uint256) = 86844066927987146572386065058055941463084542341826876689281320602911981436928

# Phases of a round.
IDLE: constant(uint256) = 0
SHARE: constant(uint256) = 1
SUBMIT: constant(uint256) = 2
OPEN: constant(uint256) = 3
DONE: constant(uint256) = 4
ABORTED: constant(uint256) = 5

# How far one member has come in a round.
SELECTED: constant(uint256) = 1
SHARED: constant(uint256) = 2
SUBMITTED: constant(uint256) = 3
OPENED: constant(uint256) = 4
ATTESTED: constant(uint256) = 5


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
    max_rounds: uint256
    join_blocks: uint256
    step_blocks: uint256


struct Task:
    owner: address
    terms: Terms
    join_deadline: uint256
    beacon_block: uint256  # its hash throws the dice of the next round
    round: uint256  # number of the current round, from 1
    closed: bool


struct Round:
    phase: uint256
    deadline: uint256
    threshold: uint256
    selected: uint256
    shared: uint256
    submitted: uint256
    opened: uint256
    result_hash: bytes32


struct Membership:
    joined: bool
    box_key: bytes32
    rows: uint256
    dataset: bytes32
    stake: uint256


struct Seat:
    step: uint256
    mask_key: bytes32
    seed_hash: bytes32
    share_root: bytes32
    open_root: bytes32


struct Member:
    node: address
    box_key: bytes32
    seat: Seat


event Registered:
    task: indexed(uint256)
    owner: indexed(address)
    terms: Terms


event Joined:
    task: indexed(uint256)
    node: indexed(address)
    box_key: bytes32
    rows: uint256


event RoundOpened:
    task: indexed(uint256)
    round: indexed(uint256)
    beacon: bytes32
    members: DynArray[address, MAX_MEMBERS]
    threshold: uint256


event Shared:
    task: indexed(uint256)
    round: indexed(uint256)
    node: indexed(address)


event Submitted:
    task: indexed(uint256)
    round: indexed(uint256)
    node: indexed(address)


event Opened:
    task: indexed(uint256)
    round: indexed(uint256)
    node: indexed(address)


event Attested:
    task: indexed(uint256)
    round: indexed(uint256)
    node: indexed(address)
    mask_digest: bytes32


event Accused:
    task: indexed(uint256)
    round: indexed(uint256)
    dealer: indexed(address)
    node: address


event Expelled:
    task: indexed(uint256)
    round: indexed(uint256)
    dealer: indexed(address)


event PhaseChanged:
    task: indexed(uint256)
    round: indexed(uint256)
    phase: uint256
    present: uint256


event Finished:
    task: indexed(uint256)
    round: indexed(uint256)
    survivors: uint256
    words: DynArray[uint256, MAX_WORDS]


event Closed:
    task: indexed(uint256)


event Withdrawn:
    task: indexed(uint256)
    node: indexed(address)
    amount: uint256


task_count: public(uint256)
_tasks: HashMap[uint256, Task]
_allow_listed: HashMap[uint256, bool]
_allowed: HashMap[uint256, HashMap[address, bool]]
_memberships: HashMap[uint256, HashMap[address, Membership]]
_joined: HashMap[uint256, DynArray[address, MAX_MEMBERS]]
_rounds: HashMap[uint256, HashMap[uint256, Round]]
_members: HashMap[uint256, HashMap[uint256, DynArray[address, MAX_MEMBERS]]]
_seats: HashMap[uint256, HashMap[uint256, HashMap[address, Seat]]]
_attestations: HashMap[uint256, HashMap[uint256, HashMap[bytes32, uint256]]]
_accusers: HashMap[uint256, HashMap[uint256, HashMap[address, DynArray[address, MAX_MEMBERS]]]]
# One accumulator a task, overwritten by the first vector of each round: a slot in use is four times cheaper.
_masked: HashMap[uint256, uint256[MAX_WORDS]]


# T0: register --------------------------------------------------------------------------------------------


@external
def register(terms: Terms, allow_list: DynArray[address, MAX_MEMBERS]) -> uint256:
    """
    @notice Publish a task. Everything that a node must know before it joins is in the terms.
    @param terms Hashes of code, parameters and first model; criteria; sizes; windows in blocks
    @param allow_list The only accounts that may join; empty: everybody who meets the criteria
    @return The task's number, from 1
    """
    assert terms.code_hash != empty(bytes32), "code hash is zero"
    assert terms.params_hash != empty(bytes32), "parameter hash is zero"
    assert terms.min_clients >= 2, "fewer than two clients hide nothing"
    assert terms.min_clients <= terms.max_clients, "min clients above max clients"
    assert terms.max_clients <= MAX_MEMBERS, "too many clients"
    assert terms.words >= 1 and terms.words <= MAX_WORDS, "vector length out of range"
    assert terms.lanes == 8 or terms.lanes == 4, "lanes must be 8 or 4"
    assert terms.max_rounds >= 1 and terms.max_rounds <= MAX_ROUNDS, "number of rounds out of range"
    assert terms.join_blocks >= 1 and terms.join_blocks <= MAX_BLOCKS, "join window out of range"
    assert terms.step_blocks >= 1 and terms.step_blocks <= MAX_BLOCKS, "step window out of range"

    self.task_count += 1
    task: uint256 = self.task_count
    join_deadline: uint256 = block.number + terms.join_blocks
    self._tasks[task] = Task(
        owner=msg.sender,
        terms=terms,
        join_deadline=join_deadline,
        beacon_block=join_deadline,
        round=0,
        closed=False,
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
def join(task: uint256, box_key: bytes32, rows: uint256, dataset: bytes32):
    """
    @notice Opt in. The coins sent along are the stake; `withdraw` gives them back when the task has ended.
    @param box_key X25519 public key under which others seal shares for this node
    @param rows Rows of data that the node brings
    @param dataset Identifier of the data set that the rows belong to
    """
    t: Task = self._tasks[task]
    assert t.owner != empty(address), "unknown task"
    assert not t.closed, "task is closed"
    assert block.number <= t.join_deadline, "join window is over"
    assert not self._memberships[task][msg.sender].joined, "already joined"
    assert box_key != empty(bytes32), "box key is zero"
    assert rows >= t.terms.min_rows, "too few rows"
    assert t.terms.dataset_id == empty(bytes32) or dataset == t.terms.dataset_id, "wrong data set"
    assert msg.value >= t.terms.min_stake, "stake too small"
    assert not self._allow_listed[task] or self._allowed[task][msg.sender], "not on the allow list"
    assert len(self._joined[task]) < MAX_MEMBERS, "task is full"

    self._memberships[task][msg.sender] = Membership(
        joined=True, box_key=box_key, rows=rows, dataset=dataset, stake=msg.value
    )
    self._joined[task].append(msg.sender)
    log Joined(task=task, node=msg.sender, box_key=box_key, rows=rows)


# T2: select ----------------------------------------------------------------------------------------------


@external
def open_round(task: uint256) -> uint256:
    """
    @notice Start the next round: anybody may, once the join window or the last round is over.
    @dev The dice are the hash of a block that was fixed before it existed, so neither owner nor node
         can choose the members. A beacon that the chain has forgotten (256 blocks) is thrown again.
    @return The round's number, or 0 when the beacon had to be thrown again: call once more
    """
    t: Task = self._tasks[task]
    assert t.owner != empty(address), "unknown task"
    assert not t.closed, "task is closed"
    assert t.round < t.terms.max_rounds, "all rounds have run"
    assert self._between_rounds(task), "last round is still running"
    assert block.number > t.join_deadline, "join window is open"
    assert block.number > t.beacon_block, "beacon is not mined yet"
    if block.number - t.beacon_block > 255:
        self._tasks[task].beacon_block = block.number
        return 0

    assert len(self._joined[task]) >= t.terms.min_clients, "too few nodes joined"
    round: uint256 = t.round + 1
    beacon: bytes32 = blockhash(t.beacon_block)
    members: DynArray[address, MAX_MEMBERS] = self._draw(task, round, beacon, t.terms.max_clients)
    threshold: uint256 = len(members) // 2 + 1

    self._tasks[task].round = round
    self._members[task][round] = members
    for node: address in members:
        self._seats[task][round][node].step = SELECTED
    self._rounds[task][round] = Round(
        phase=SHARE,
        deadline=block.number + t.terms.step_blocks,
        threshold=threshold,
        selected=len(members),
        shared=0,
        submitted=0,
        opened=0,
        result_hash=empty(bytes32),
    )
    log RoundOpened(task=task, round=round, beacon=beacon, members=members, threshold=threshold)
    return round


@internal
@view
def _draw(
    task: uint256, round: uint256, beacon: bytes32, seats: uint256
) -> DynArray[address, MAX_MEMBERS]:
    """
    @dev The nodes with the lowest scores, in the order of their scores (insertion into a sorted list).
    """
    nodes: DynArray[address, MAX_MEMBERS] = []
    scores: DynArray[uint256, MAX_MEMBERS] = []
    for node: address in self._joined[task]:
        score: uint256 = convert(keccak256(abi_encode(beacon, task, round, node)), uint256)
        nodes.append(node)
        scores.append(score)
        at: uint256 = len(nodes) - 1
        for _: uint256 in range(MAX_MEMBERS):
            if at == 0 or scores[at - 1] <= score:
                break
            nodes[at] = nodes[at - 1]
            scores[at] = scores[at - 1]
            at -= 1
        nodes[at] = node
        scores[at] = score
    for _: uint256 in range(MAX_MEMBERS):
        if len(nodes) <= seats:
            break
        nodes.pop()
    return nodes


# M1: share -----------------------------------------------------------------------------------------------


@external
def share(task: uint256, round: uint256, mask_key: bytes32, seed_hash: bytes32, share_root: bytes32):
    """
    @notice Publish this round's mask key, and commit to the self-mask seed and to all dealt shares.
    """
    self._speak(task, round, SHARE, SELECTED)
    assert mask_key != empty(bytes32), "mask key is zero"
    assert seed_hash != empty(bytes32), "seed hash is zero"
    assert share_root != empty(bytes32), "share root is zero"
    self._seats[task][round][msg.sender] = Seat(
        step=SHARED,
        mask_key=mask_key,
        seed_hash=seed_hash,
        share_root=share_root,
        open_root=empty(bytes32),
    )
    self._rounds[task][round].shared += 1
    log Shared(task=task, round=round, node=msg.sender)


# M2: submit ----------------------------------------------------------------------------------------------


@external
def submit(task: uint256, round: uint256, words: DynArray[uint256, MAX_WORDS]):
    """
    @notice Send the masked vector. The contract adds it to the round's sum in F_r.
    """
    self._speak(task, round, SUBMIT, SHARED)
    assert len(words) == self._tasks[task].terms.words, "wrong vector length"
    first: bool = self._rounds[task][round].submitted == 0
    i: uint256 = 0
    for word: uint256 in words:
        assert word < R, "word is not in the field"
        if first:
            self._masked[task][i] = word
        else:
            self._masked[task][i] = uint256_addmod(self._masked[task][i], word, R)
        i = unsafe_add(i, 1)
    self._seats[task][round][msg.sender].step = SUBMITTED
    self._rounds[task][round].submitted += 1
    log Submitted(task=task, round=round, node=msg.sender)


# M3: open and attest -------------------------------------------------------------------------------------


@external
def open_shares(task: uint256, round: uint256, open_root: bytes32):
    """
    @notice Commit to the shares that this survivor opens: one kind for each member, as the frozen list says.
    """
    self._speak(task, round, OPEN, SUBMITTED)
    assert open_root != empty(bytes32), "open root is zero"
    self._seats[task][round][msg.sender].step = OPENED
    self._seats[task][round][msg.sender].open_root = open_root
    self._rounds[task][round].opened += 1
    log Opened(task=task, round=round, node=msg.sender)


@external
def attest(task: uint256, round: uint256, mask_digest: bytes32):
    """
    @notice Say which total mask this survivor has worked out for itself from the opened shares.
    @param mask_digest keccak256 of the total mask's words, 32 bytes each, big endian
    """
    self._speak(task, round, OPEN, OPENED)
    assert self._rounds[task][round].opened >= self._rounds[task][round].threshold, "too few shares are open"
    self._seats[task][round][msg.sender].step = ATTESTED
    self._attestations[task][round][mask_digest] += 1
    log Attested(task=task, round=round, node=msg.sender, mask_digest=mask_digest)


@external
def accuse(task: uint256, round: uint256, dealer: address):
    """
    @notice Say that a dealer's shares do not lead to the secrets that it announced, so no mask can be worked
            out. When a threshold of survivors says so, an honest one among them, the dealer is drawn no more.
    @dev Its stake stays its own: a mailbox that hides an honest dealer's message looks the same.
    """
    assert self._tasks[task].round == round and round > 0, "not the current round"
    assert self._rounds[task][round].phase == OPEN, "not in this phase"
    assert self._seats[task][round][msg.sender].step >= SUBMITTED, "not a survivor of this round"
    assert self._seats[task][round][dealer].step >= SHARED, "it has dealt no shares"
    accusers: DynArray[address, MAX_MEMBERS] = self._accusers[task][round][dealer]
    assert msg.sender not in accusers, "already sent"
    self._accusers[task][round][dealer].append(msg.sender)
    log Accused(task=task, round=round, dealer=dealer, node=msg.sender)
    if len(accusers) + 1 == self._rounds[task][round].threshold and self._remove(task, dealer):
        log Expelled(task=task, round=round, dealer=dealer)


@external
def finish(task: uint256, round: uint256, words: DynArray[uint256, MAX_WORDS]):
    """
    @notice Publish the sum: anybody may. The contract subtracts it from the masked sum that it holds;
            what is left must be the mask that a threshold of survivors attested to, so a wrong sum reverts.
    """
    assert self._tasks[task].round == round, "not the current round"
    r: Round = self._rounds[task][round]
    assert r.phase == OPEN, "not in this phase"
    assert len(words) == self._tasks[task].terms.words, "wrong vector length"
    guard: uint256 = GUARD_8
    if self._tasks[task].terms.lanes == 4:
        guard = GUARD_4
    mask: DynArray[uint256, MAX_WORDS] = []
    i: uint256 = 0
    for word: uint256 in words:
        assert word < R, "word is not in the field"
        assert word & guard == 0, "a lane is beyond its bound"
        mask.append(uint256_addmod(self._masked[task][i], unsafe_sub(R, word), R))
        i = unsafe_add(i, 1)
    digest: bytes32 = keccak256(slice(abi_encode(mask, ensure_tuple=False), 32, 32 * len(words)))
    assert self._attestations[task][round][digest] >= r.threshold, "sum does not fit the attested mask"

    self._rounds[task][round].phase = DONE
    self._rounds[task][round].result_hash = keccak256(
        slice(abi_encode(words, ensure_tuple=False), 32, 32 * len(words))
    )
    self._tasks[task].beacon_block = block.number
    log Finished(task=task, round=round, survivors=r.submitted, words=words)


# The clock -----------------------------------------------------------------------------------------------


@external
def advance(task: uint256, round: uint256):
    """
    @notice End the current phase: anybody may, when everybody has spoken or the deadline has passed.
    @dev A phase that too few have reached aborts the round. Once shares are open, anybody who reads them can
         work out the sum, so an OPEN phase has one more window in which `finish` cannot be overtaken.
    """
    assert self._tasks[task].round == round, "not the current round"
    r: Round = self._rounds[task][round]
    late: bool = block.number > r.deadline
    needed: uint256 = max(r.threshold, self._tasks[task].terms.min_clients)
    phase: uint256 = ABORTED
    present: uint256 = 0
    if r.phase == SHARE:
        present = r.shared
        assert late or present == r.selected, "phase is still open"
        if present >= needed:
            phase = SUBMIT
    elif r.phase == SUBMIT:
        present = r.submitted
        assert late or present == r.shared, "phase is still open"
        if present >= needed:
            phase = OPEN
    elif r.phase == OPEN:
        # The way forward is `finish`; this one is for a round in which it can no longer come.
        # After the last word there is one more window, in which nobody can abort what can be finished.
        present = r.opened
        assert block.number > r.deadline + self._tasks[task].terms.step_blocks, "phase is still open"
    else:
        raise "round is over"
    self._rounds[task][round].phase = phase
    self._rounds[task][round].deadline = block.number + self._tasks[task].terms.step_blocks
    if phase == ABORTED:
        self._tasks[task].beacon_block = block.number
    log PhaseChanged(task=task, round=round, phase=phase, present=present)


@external
def close(task: uint256):
    """
    @notice End the task before all rounds have run. Only its owner may, and only between rounds.
    """
    t: Task = self._tasks[task]
    assert msg.sender == t.owner, "only the owner"
    assert not t.closed, "task is closed"
    assert self._between_rounds(task), "last round is still running"
    self._tasks[task].closed = True
    log Closed(task=task)


@external
@nonreentrant
def withdraw(task: uint256):
    """
    @notice Take the stake back when the task has ended.
    """
    t: Task = self._tasks[task]
    ended: bool = t.closed or t.round == t.terms.max_rounds
    # A task that found too few nodes never starts: its stakes are free once the join window is over.
    if t.round == 0 and block.number > t.join_deadline and len(self._joined[task]) < t.terms.min_clients:
        ended = True
    assert ended and self._between_rounds(task), "task has not ended"
    amount: uint256 = self._memberships[task][msg.sender].stake
    assert amount > 0, "nothing to withdraw"
    self._memberships[task][msg.sender].stake = 0
    raw_call(msg.sender, b"", value=amount)
    log Withdrawn(task=task, node=msg.sender, amount=amount)


@external
@nonreentrant
def leave(task: uint256):
    """
    @notice Leave the task between two rounds, with the stake: nobody can hold a node by never ending a task.
    """
    assert self._between_rounds(task), "last round is still running"
    assert self._memberships[task][msg.sender].joined, "not a member of this task"
    assert self._remove(task, msg.sender), "already left"
    amount: uint256 = self._memberships[task][msg.sender].stake
    self._memberships[task][msg.sender].stake = 0
    log Withdrawn(task=task, node=msg.sender, amount=amount)
    raw_call(msg.sender, b"", value=amount)


# Rules that several messages share -----------------------------------------------------------------------


@internal
@view
def _speak(task: uint256, round: uint256, phase: uint256, step: uint256):
    """
    @dev A message is heard in its own round, phase and window only, and only once from each member.
    """
    assert self._tasks[task].round == round and round > 0, "not the current round"
    assert self._rounds[task][round].phase == phase, "not in this phase"
    assert block.number <= self._rounds[task][round].deadline, "deadline has passed"
    at: uint256 = self._seats[task][round][msg.sender].step
    assert at != 0, "not a member of this round"
    assert at >= step, "an earlier message is missing"
    assert at == step, "already sent"


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
def _between_rounds(task: uint256) -> bool:
    phase: uint256 = self._rounds[task][self._tasks[task].round].phase
    return phase == IDLE or phase == DONE or phase == ABORTED


@internal
@view
def _at_least(task: uint256, round: uint256, step: uint256) -> DynArray[address, MAX_MEMBERS]:
    found: DynArray[address, MAX_MEMBERS] = []
    for node: address in self._members[task][round]:
        if self._seats[task][round][node].step >= step:
            found.append(node)
    return found


# Views ---------------------------------------------------------------------------------------------------


@external
@view
def task_info(task: uint256) -> Task:
    return self._tasks[task]


@external
@view
def round_info(task: uint256, round: uint256) -> Round:
    return self._rounds[task][round]


@external
@view
def membership(task: uint256, node: address) -> Membership:
    return self._memberships[task][node]


@external
@view
def seat(task: uint256, round: uint256, node: address) -> Seat:
    return self._seats[task][round][node]


@external
@view
def joined(task: uint256) -> DynArray[address, MAX_MEMBERS]:
    return self._joined[task]


@external
@view
def roster(task: uint256, round: uint256) -> DynArray[Member, MAX_MEMBERS]:
    """
    @notice Everything that the members of a round have published, in the order of their scores.
    """
    found: DynArray[Member, MAX_MEMBERS] = []
    for node: address in self._members[task][round]:
        found.append(
            Member(
                node=node,
                box_key=self._memberships[task][node].box_key,
                seat=self._seats[task][round][node],
            )
        )
    return found


@external
@view
def members(task: uint256, round: uint256) -> DynArray[address, MAX_MEMBERS]:
    return self._members[task][round]


@external
@view
def sharers(task: uint256, round: uint256) -> DynArray[address, MAX_MEMBERS]:
    """
    @notice Members whose shares are committed: final once the round has left the SHARE phase.
    """
    return self._at_least(task, round, SHARED)


@external
@view
def survivors(task: uint256, round: uint256) -> DynArray[address, MAX_MEMBERS]:
    """
    @notice Members whose vector is in the sum: final once the round has left the SUBMIT phase.
    """
    return self._at_least(task, round, SUBMITTED)


@external
@view
def openers(task: uint256, round: uint256) -> DynArray[address, MAX_MEMBERS]:
    return self._at_least(task, round, OPENED)


@external
@view
def masked_sum(task: uint256) -> DynArray[uint256, MAX_WORDS]:
    """
    @notice The sum of the masked vectors of the current round so far.
    """
    words: DynArray[uint256, MAX_WORDS] = []
    if self._rounds[task][self._tasks[task].round].submitted == 0:
        return words
    for i: uint256 in range(self._tasks[task].terms.words, bound=MAX_WORDS):
        words.append(self._masked[task][i])
    return words


@external
@view
def attestations(task: uint256, round: uint256, mask_digest: bytes32) -> uint256:
    return self._attestations[task][round][mask_digest]
