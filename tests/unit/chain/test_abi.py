"""Encoding and decoding: whatever goes in comes out, and logs are read strictly."""

import pytest
from eth_abi import abi as codec
from hypothesis import given
from hypothesis import strategies as st

from twopm_kit.chain import abi
from twopm_kit.chain.events import Log, decode_event
from twopm_kit.chain.jsonrpc import Fault
from twopm_kit.chain.reverts import explain, refusal, was_execution
from twopm_kit.errors import CallError, ChainError

ADDRESS = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"


def kind(name, **more):
    return {"name": "x", "type": name, **more}


@given(
    st.lists(st.integers(0, 2**256 - 1), max_size=40),
    st.binary(max_size=80),
    st.text(max_size=40),
    st.booleans(),
)
def test_values_survive_the_journey(numbers, data, text, flag):
    components = [kind("uint256[]"), kind("bytes"), kind("string"), kind("bool")]
    sent = abi.encode(components, [numbers, data, text, flag], "f")
    assert abi.decode(components, sent, "f") == (numbers, data, text, flag)


@given(st.integers(), st.integers(1, 32), st.booleans())
def test_every_integer_width_is_exact(value, width, signed):
    bits = 8 * width
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    component = [kind(f"{'' if signed else 'u'}int{bits}")]
    if low <= value <= high:
        assert abi.decode(component, abi.encode(component, [value], "f"), "f") == value
    else:
        with pytest.raises(CallError, match="does not fit"):
            abi.encode(component, [value], "f")


@given(st.binary(max_size=40), st.integers(1, 32))
def test_fixed_bytes_are_never_padded_or_cut(data, size):
    component = [kind(f"bytes{size}")]
    if len(data) == size:
        assert abi.decode(component, abi.encode(component, [data], "f"), "f") == data
    else:
        with pytest.raises(CallError, match="bytes were passed"):
            abi.encode(component, [data], "f")


@pytest.mark.parametrize(
    "address", [ADDRESS, ADDRESS.lower(), bytes.fromhex(ADDRESS[2:]), bytearray.fromhex(ADDRESS[2:])]
)
def test_addresses_in_every_form(address):
    assert abi.address_of(address, "x") == ADDRESS


@pytest.mark.parametrize("address", [ADDRESS[2:], ADDRESS[:-1], ADDRESS.swapcase(), bytes(19), 5, None, ""])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(CallError, match="must be an address"):
        abi.address_of(address, "x")


def test_nested_structs_and_arrays():
    inner = kind(
        "tuple[2]", components=[{"name": "a", "type": "uint8"}, {"name": "from", "type": "address[]"}]
    )
    outer = [kind("tuple[]", components=[{"name": "id", "type": "bytes4"}, {**inner, "name": "parts"}])]
    pair = {"a": 1, "from": [ADDRESS]}
    sent = abi.encode(outer, [[{"id": b"abcd", "parts": [pair, (2, [])]}]], "f")
    [one] = abi.decode(outer, sent, "f")
    assert one.id == b"abcd"
    # 'from' is a keyword of Python: the field goes by its place
    assert [tuple(part) for part in one.parts] == [(1, [ADDRESS]), (2, [])]


def test_results_that_do_not_fit_are_refused():
    with pytest.raises(ChainError, match="do not fit its ABI"):
        abi.decode([kind("uint256")], b"\x01", "f")
    with pytest.raises(ChainError, match="do not fit its ABI"):
        abi.decode([kind("string")], codec.encode(["bytes"], [b"\xff\xfe"]), "f")
    assert abi.decode([], b"", "f") is None


def test_a_field_that_cannot_be_searched_for_is_named():
    with pytest.raises(CallError, match="cannot be searched for"):
        abi.topic_of(kind("uint8[2]", indexed=True), [1, 2], "Event, field x")


def test_a_log_with_other_topics_than_the_abi_is_not_decoded():
    entry = {"name": "E", "inputs": [kind("uint256", indexed=True)]}
    topic = b"\x01" * 32
    whole = Log(ADDRESS, (topic, b"\0" * 31 + b"\x05"), b"", 1, 0, "0x")
    assert decode_event({topic: entry}, whole).args["x"] == 5
    assert decode_event({topic: entry}, Log(ADDRESS, (topic,), b"", 1, 0, "0x")) is None
    assert decode_event({topic: entry}, Log(ADDRESS, (), b"", 1, 0, "0x")) is None
    assert decode_event({}, whole) is None


@given(st.text(max_size=60))
def test_written_reasons_are_read(reason):
    data = bytes.fromhex("08c379a0") + codec.encode(["string"], [reason])
    assert explain(data) == reason


@given(st.binary(max_size=120))
def test_no_revert_data_can_confuse_the_reader(data):
    assert isinstance(explain(data), str)
    assert isinstance(explain(bytes.fromhex("08c379a0") + data), str)
    assert isinstance(explain(bytes.fromhex("4e487b71") + data), str)


# what several kinds of nodes say, and what a caller reads
@pytest.mark.parametrize(
    ("words", "code", "data", "reason"),
    [
        ("execution reverted", 3, b"", ""),
        (
            "execution reverted: told",
            3,
            bytes.fromhex("08c379a0") + codec.encode(["string"], ["told"]),
            "told",
        ),
        ("execution reverted", -32000, None, ""),
        ("EVM error OutOfGas", -32003, None, "out of gas"),
        ("out of gas", -32000, None, "out of gas"),
        ("invalid opcode: INVALID", -32000, None, "invalid instruction"),
        ("EVM error InvalidFEOpcode", -32003, None, "invalid instruction"),
        ("execution stopped: InvalidInstruction", -32000, None, "invalid instruction"),
        ("invalid jump destination", -32000, None, "invalid jump"),
        ("stack underflow (0 <=> 1)", -32000, None, "stack error"),
        ("write protection", -32000, None, "write in a read-only call"),
    ],
)
def test_nodes_with_different_words_give_one_reason(words, code, data, reason):
    fault = Fault(words, code=code, data=data)
    assert was_execution(fault)
    assert refusal(fault, "C.f").reason == reason


@pytest.mark.parametrize("words", ["header not found", "rate limit exceeded", "nonce too low", ""])
def test_other_faults_are_not_taken_for_the_contracts_refusal(words):
    assert not was_execution(Fault(words))
