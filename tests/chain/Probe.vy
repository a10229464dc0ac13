# pragma version 0.4.3
"""
@title A contract that does everything a client must be able to handle
"""

struct Pair:
    left: uint256
    right: address

event Mixed:
    who: indexed(address)
    tag: indexed(bytes32)
    label: indexed(String[16])
    number: uint256
    data: Bytes[64]

event Ping:
    number: uint256

counter: public(uint256)
dice: public(bytes32)
seen: public(HashMap[address, uint256])
filler: HashMap[uint256, uint256]
start: public(immutable(uint256))


@deploy
@payable
def __init__(first: uint256):
    assert first < 100, "the start is too large"
    start = first


# Ways to refuse

@external
def told():
    raise "told you so"


@external
def silent():
    assert self.counter > 10**30


@external
def panics(code: uint256):
    raw_revert(abi_encode(code, method_id=method_id("Panic(uint256)")))


@external
def custom(code: uint256):
    raw_revert(abi_encode(code, method_id=method_id("Custom(uint256)")))


@external
def garbage():
    raw_revert(concat(method_id("Error(string)"), b"\xff\xff"))


@external
def overflows(amount: uint256):
    self.counter = max_value(uint256) + amount


@external
def unreachable():
    assert self.counter > 10**30, UNREACHABLE


@external
def burn():
    for i: uint256 in range(1_000_000):
        self.filler[i] = i + 1


@external
@view
def told_reading():
    raise "told you so"


@external
@view
def item(index: uint256) -> uint256:
    items: uint256[3] = [10, 20, 30]
    return items[index]


@external
def not_before(number: uint256):
    assert block.number >= number, "too early"
    self.counter += 1


# Kinds of values

@external
@view
def echo(
    flag: bool, small: int8, who: address, word: bytes32, text: String[32], data: Bytes[32], three: uint8[3]
) -> (bool, int8, address, bytes32, String[32], Bytes[32], uint8[3]):
    return flag, small, who, word, text, data, three


@external
@view
def swap(pairs: DynArray[Pair, 4]) -> DynArray[Pair, 4]:
    out: DynArray[Pair, 4] = []
    for pair: Pair in pairs:
        out.append(Pair(left=pair.left + 1, right=pair.right))
    return out


@external
@view
def one(pair: Pair) -> Pair:
    return pair


@external
@view
def plus(a: uint256 = 1, b: uint256 = 2) -> uint256:
    return a + b


@external
@view
def name() -> String[8]:
    return "probe"


@external
@view
def caller() -> address:
    return msg.sender


@external
@view
def now() -> (uint256, uint256):
    return block.number, block.timestamp


# Things that happen

@external
def bump(times: uint256 = 1):
    self.counter += times
    self.seen[msg.sender] += 1
    for i: uint256 in range(times, bound=16):
        log Ping(number=self.counter)


@external
def mix(tag: bytes32, label: String[16], number: uint256, data: Bytes[64]):
    log Mixed(who=msg.sender, tag=tag, label=label, number=number, data=data)


@external
def roll():
    self.dice = block.prevrandao


@external
@payable
def pay():
    self.counter += msg.value
