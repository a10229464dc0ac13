# pragma version 0.4.3
"""
@title A shared tally
@notice Anybody may add numbers to one sum until a deadline; only the owner may close it early.
        Small enough to read in one go: storage, an event, rules that refuse, and the clock.
"""

# One of these is written into the block's log at every addition. The indexed field can be searched for.
event Added:
    who: indexed(address)
    amount: uint256
    total: uint256

# Written once, when the tally ends.
event Closed:
    total: uint256

# The largest number that one call may add.
LIMIT: constant(uint256) = 1_000

# Set at deployment and never changed: cheaper to read than storage.
owner: public(immutable(address))
deadline: public(immutable(uint256))  # seconds since 1970, compared with the block's own time

# The contract's memory between transactions. `public` makes each readable from outside, for free.
total: public(uint256)
closed: public(bool)
added_by: public(HashMap[address, uint256])


@deploy
def __init__(open_for: uint256):
    """
    @param open_for For how many seconds numbers may be added.
    """
    owner = msg.sender
    deadline = block.timestamp + open_for


@external
def add(amount: uint256):
    """
    @notice Add a number to the tally. A rule that is not met undoes the whole call.
    """
    assert not self.closed, "the tally is closed"
    assert block.timestamp <= deadline, "too late"
    assert amount > 0, "add at least 1"
    assert amount <= LIMIT, "at most 1000 at a time"

    self.total += amount
    self.added_by[msg.sender] += amount
    log Added(who=msg.sender, amount=amount, total=self.total)


@external
def close():
    """
    @notice End the tally: the owner at any time, anybody after the deadline.
    """
    assert not self.closed, "the tally is closed"
    assert msg.sender == owner or block.timestamp > deadline, "only the owner may close before the deadline"

    self.closed = True
    log Closed(total=self.total)


@external
@view
def seconds_left() -> uint256:
    """
    @notice How long numbers may still be added.
    """
    if self.closed or block.timestamp > deadline:
        return 0
    return deadline - block.timestamp
