# pragma version 0.4.3
# pragma evm-version prague
"""
@title SpotCheck
@license Apache-2.0
@notice Opens random rows of a committed table. A contributor commits to all rows with one root and to a range
        for each field; a block that is not there yet says which rows to open; each of them must be where the
        draw says, under that root, with every value in its range.

A check has one way through these states:

    (none) -- commit --> COMMITTED -- draw, within 256 blocks of the one that decides --> DRAWN
                         DRAWN -- open, as often as it takes to open all drawn rows --> PROVEN

What PROVEN says: draws are independent and each row is as likely as any other, so a table of which a share f
of the rows is out of range, or cannot be opened, comes through one check of k rows with probability
(1 - f)^k, and through one of t attempts with at most t times that. Attempts on a subject are therefore
counted, and each check carries its number. A row that is drawn twice is opened twice: leaving it out would
need memory of what was drawn and would change the formula.

What it does not say: that the rows are true, that they are the contributor's own, or that what is uploaded
elsewhere under the same subject holds them. Counting is by account and subject: whoever relies on a check
compares both, the terms, and this contract's address. The producer of the block that decides can throw a
block away to draw again, which costs what a block earns.

The rows that are opened are public for ever. The others stay hidden behind 32 secret bytes in each entry.

A row is written in entries of 256 bytes: 32 of salt, then 28 values of 8 bytes (big-endian, two's
complement; the lowest stands for a missing value). Entries are leaves of a 0G storage tree: keccak256, trees
over segments of 1,024 entries, then a tree over their roots; the odd last node of a level is carried up.
Places in it follow from the number of rows alone, and an inner node has 64 bytes: it is never an entry.
"""

DELAY: constant(uint256) = 4  # blocks from a commitment to the block that decides
REACH: constant(uint256) = 256  # blocks that the chain remembers the hash of
MAX_DRAWS: constant(uint256) = 1024
MAX_ENTRIES: constant(uint256) = 2**32  # of one commitment

ENTRY_BYTES: constant(uint256) = 256
SEGMENT: constant(uint256) = 1024  # entries
ENTRY_VALUES: constant(uint256) = 28
ROW_ENTRIES: constant(uint256) = 8
MAX_FIELDS: constant(uint256) = 224  # ROW_ENTRIES * ENTRY_VALUES
LEVELS: constant(uint256) = 22  # of the tree over MAX_ENTRIES // SEGMENT segments; one segment has ten

CALL_ENTRIES: constant(uint256) = 256  # in one call of open
CALL_BYTES: constant(uint256) = 65_536  # CALL_ENTRIES * ENTRY_BYTES
CALL_NODES: constant(uint256) = 3072  # of all paths in one call

VALUE_MASK: constant(uint256) = 2**64 - 1
# A value with its sign bit turned orders as an unsigned number: a missing one is 0, zero is ZERO.
ZERO: constant(uint256) = 2**63
SIGNS: constant(uint256) = 2**63 + 2**127 + 2**191 + 2**255

DOMAIN: constant(bytes32) = keccak256("twopm/vsies/v1/spot-check")

# States of a check. Zero: there is no such check.
COMMITTED: constant(uint256) = 1
DRAWN: constant(uint256) = 2
PROVEN: constant(uint256) = 3


struct Bounds:
    low: int64  # units of the field's resolution; both ends belong to the range
    high: int64
    nullable: bool  # whether a value may be missing


struct Check:
    contributor: address  # the only account that opens
    subject: uint256  # what the rows belong to, such as a dataset's number in an index
    schema_hash: bytes32  # says what fields and units are; not looked at here
    root: bytes32
    ranges_hash: bytes32  # keccak256 of the ABI-encoded ranges in the event Committed
    n_rows: uint256
    draws: uint256  # how many rows are drawn
    decided_by: uint256  # block whose hash draws
    attempt: uint256  # of this account on this subject, from 1
    seed: bytes32  # zero until drawn
    opened: uint256  # how many draws are open; they open in order


struct CheckInfo:
    state: uint256
    terms: Check


event Committed:
    check_id: indexed(uint256)
    contributor: indexed(address)
    subject: indexed(uint256)
    schema_hash: bytes32
    root: bytes32
    n_rows: uint256
    draws: uint256
    decided_by: uint256
    attempt: uint256
    ranges: DynArray[Bounds, MAX_FIELDS]


event Drawn:
    check_id: indexed(uint256)
    seed: bytes32


event Opened:
    check_id: indexed(uint256)
    first: uint256  # number of the first draw that this call opened
    draws: uint256


event Proven:
    check_id: indexed(uint256)
    contributor: indexed(address)
    subject: indexed(uint256)
    draws: uint256
    attempt: uint256


check_count: public(uint256)
# How often an account has committed to rows of a subject.
attempts: public(HashMap[address, HashMap[uint256, uint256]])
_checks: HashMap[uint256, Check]


# The contributor's side ----------------------------------------------------------------------------------


@external
def commit(
    subject: uint256,
    schema_hash: bytes32,
    root: bytes32,
    n_rows: uint256,
    ranges: DynArray[Bounds, MAX_FIELDS],
    draws: uint256,
) -> uint256:
    """
    @notice Commit to a table, before anybody can know which rows will be drawn. Counts as an attempt.
    @param root Root of the entries of all rows
    @param ranges What the values of each field must lie in; fixed for this check
    @param draws How many rows to open
    @return The check's number, from 1
    """
    assert root != empty(bytes32), "root is zero"
    assert len(ranges) > 0, "no fields"
    assert n_rows >= 1, "no rows"
    assert n_rows <= MAX_ENTRIES // self._row_entries(len(ranges)), "too many rows"
    assert draws >= 1 and draws <= MAX_DRAWS, "number of draws out of range"
    for r: Bounds in ranges:
        assert r.low > min_value(int64), "the lowest value stands for a missing one"
        assert r.low <= r.high, "range is empty"

    self.check_count += 1
    check_id: uint256 = self.check_count
    attempt: uint256 = self.attempts[msg.sender][subject] + 1
    self.attempts[msg.sender][subject] = attempt
    self._checks[check_id] = Check(
        contributor=msg.sender,
        subject=subject,
        schema_hash=schema_hash,
        root=root,
        ranges_hash=keccak256(abi_encode(ranges)),
        n_rows=n_rows,
        draws=draws,
        decided_by=block.number + DELAY,
        attempt=attempt,
        seed=empty(bytes32),
        opened=0,
    )
    log Committed(
        check_id=check_id,
        contributor=msg.sender,
        subject=subject,
        schema_hash=schema_hash,
        root=root,
        n_rows=n_rows,
        draws=draws,
        decided_by=block.number + DELAY,
        attempt=attempt,
        ranges=ranges,
    )
    return check_id


@external
def draw(check_id: uint256):
    """
    @notice Keep what the block says, before the chain forgets it. Anybody may: a contributor who does not
        like the draw cannot let it pass by. When nobody did in time, the rows must be committed to again.
    """
    c: Check = self._checks[check_id]
    assert c.contributor != empty(address), "unknown check"
    assert c.seed == empty(bytes32), "already drawn"
    assert block.number > c.decided_by, "the block that draws is not there yet"
    assert block.number <= c.decided_by + REACH, "the block that draws is forgotten"
    seed: bytes32 = keccak256(
        abi_encode(DOMAIN, chain.id, self, check_id, c.root, c.draws, blockhash(c.decided_by))
    )
    self._checks[check_id].seed = seed
    log Drawn(check_id=check_id, seed=seed)


@external
def open(
    check_id: uint256,
    ranges: DynArray[Bounds, MAX_FIELDS],
    entries: Bytes[CALL_BYTES],
    nodes: DynArray[bytes32, CALL_NODES],
):
    """
    @notice Open the next drawn rows, all or in part. One wrong value, and the call changes nothing.
    @param ranges As committed
    @param entries Entries of the rows in the order of the draws, all of a row in the order of its fields
    @param nodes Siblings on the way from each entry to the root, the lowest first, one entry after the other
    """
    c: Check = self._checks[check_id]
    assert c.contributor != empty(address), "unknown check"
    assert msg.sender == c.contributor, "only the contributor opens"
    assert c.seed != empty(bytes32), "not drawn yet"
    assert c.opened < c.draws, "already proven"
    assert keccak256(abi_encode(ranges)) == c.ranges_hash, "ranges are not the committed ones"

    n_fields: uint256 = len(ranges)
    row_entries: uint256 = self._row_entries(n_fields)
    assert len(entries) > 0, "no entries"
    assert len(entries) % (row_entries * ENTRY_BYTES) == 0, "entries are not whole rows"
    rows: uint256 = len(entries) // (row_entries * ENTRY_BYTES)
    assert rows <= c.draws - c.opened, "more rows than were drawn"

    lows: uint256[MAX_FIELDS] = empty(uint256[MAX_FIELDS])
    highs: uint256[MAX_FIELDS] = empty(uint256[MAX_FIELDS])
    for i: uint256 in range(n_fields, bound=MAX_FIELDS):
        lows[i] = self._ordered(ranges[i].low)
        highs[i] = self._ordered(ranges[i].high)

    size: uint256 = self._padded(c.n_rows * row_entries)
    n_segments: uint256 = (size + SEGMENT - 1) // SEGMENT
    taken: uint256 = 0  # nodes
    at: uint256 = 0  # byte in entries
    for i: uint256 in range(rows, bound=CALL_ENTRIES):
        row: uint256 = self._drawn_row(c.seed, c.opened + i, c.n_rows)
        field: uint256 = 0
        for j: uint256 in range(row_entries, bound=ROW_ENTRIES):
            # the entry is at its place under the root
            place: uint256 = row * row_entries + j
            node: bytes32 = keccak256(slice(entries, at, ENTRY_BYTES))
            segment: uint256 = place // SEGMENT
            index: uint256 = place % SEGMENT
            width: uint256 = min(SEGMENT, size - segment * SEGMENT)
            for stage: uint256 in range(2):
                for _: uint256 in range(LEVELS):
                    if width == 1:
                        break
                    if (index ^ 1) < width:  # else it is the odd last node: carried up as it is
                        assert taken < len(nodes), "path is too short"
                        if index & 1 == 0:
                            node = keccak256(concat(node, nodes[taken]))
                        else:
                            node = keccak256(concat(nodes[taken], node))
                        taken += 1
                    index >>= 1
                    width = (width + 1) >> 1
                index = segment
                width = n_segments
            assert node == c.root, "entry is not at its place under the root"
            # padding has no salt: it is never a row
            assert extract32(entries, at) != empty(bytes32), "salt is zero"
            # every value is in its range
            for w: uint256 in range(1, 8):
                word: uint256 = convert(extract32(entries, at + 32 * w), uint256) ^ SIGNS
                for v: uint256 in range(4):
                    value: uint256 = (word >> (192 - 64 * v)) & VALUE_MASK
                    if field >= n_fields:
                        assert value == ZERO, "unused place is not zero"
                    elif value == 0:
                        assert ranges[field].nullable, "value is missing"
                    else:
                        assert value >= lows[field], "value is below its range"
                        assert value <= highs[field], "value is above its range"
                    field += 1
            at += ENTRY_BYTES
    assert taken == len(nodes), "path is too long"

    opened: uint256 = c.opened + rows
    self._checks[check_id].opened = opened
    log Opened(check_id=check_id, first=c.opened, draws=rows)
    if opened == c.draws:
        log Proven(
            check_id=check_id, contributor=c.contributor, subject=c.subject, draws=c.draws, attempt=c.attempt
        )


# Draws and shapes ----------------------------------------------------------------------------------------


@internal
@pure
def _drawn_row(seed: bytes32, number: uint256, n_rows: uint256) -> uint256:
    """
    @dev Rows are at most 2**32 of 2**256 equally likely numbers: no row is favoured by more than 2**-224.
    """
    return convert(keccak256(abi_encode(seed, number)), uint256) % n_rows


@internal
@pure
def _row_entries(n_fields: uint256) -> uint256:
    return (n_fields + ENTRY_VALUES - 1) // ENTRY_VALUES


@internal
@pure
def _padded(n: uint256) -> uint256:
    """
    @dev Entries that 0G stores for n: up to a multiple of a sixteenth of the next power of two.
    """
    power: uint256 = 1
    for _: uint256 in range(33):
        if power >= n:
            break
        power <<= 1
    step: uint256 = max(power // 16, 1)
    return (n + step - 1) // step * step


@internal
@pure
def _ordered(v: int64) -> uint256:
    return convert(convert(v, int256) + convert(ZERO, int256), uint256)


# Views ---------------------------------------------------------------------------------------------------


@external
@view
def check_info(check_id: uint256) -> CheckInfo:
    """
    @notice Everything about a check; all zero when there is none.
    """
    c: Check = self._checks[check_id]
    state: uint256 = 0
    if c.contributor != empty(address):
        state = COMMITTED
        if c.seed != empty(bytes32):
            state = DRAWN
        if c.opened == c.draws:
            state = PROVEN
    return CheckInfo(state=state, terms=c)


@external
@view
def drawn_rows(check_id: uint256) -> DynArray[uint256, MAX_DRAWS]:
    """
    @notice Which rows a check opens, from 0, in the order of the draws; a row may come more than once.
    """
    c: Check = self._checks[check_id]
    assert c.contributor != empty(address), "unknown check"
    assert c.seed != empty(bytes32), "not drawn yet"
    rows: DynArray[uint256, MAX_DRAWS] = []
    for i: uint256 in range(c.draws, bound=MAX_DRAWS):
        rows.append(self._drawn_row(c.seed, i, c.n_rows))
    return rows
