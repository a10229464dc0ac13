"""Transactions that carry blobs, and what a contract can tell of them."""

import secrets
from pathlib import Path

import pytest
import rlp

import twopm_kit as kit
from twopm_kit import kzg
from twopm_kit.chain.accounts import Account
from twopm_kit.chain.blobs import BLOB_GAS, Sidecar, unwrap
from twopm_kit.chain.connection import Chain
from twopm_kit.chain.jsonrpc import INVALID_PARAMS, UNKNOWN_METHOD, Fault
from twopm_kit.errors import AccountError, CallError, ChainError, ContractReverted

ELEMENTS = kzg.BLOB_ELEMENTS


def random_elements(count=ELEMENTS):
    return [secrets.randbelow(kzg.MODULUS) for _ in range(count)]


def as_blob(elements):
    [blob] = kzg.split(b"".join(element.to_bytes(32, "big") for element in elements))
    return blob


@pytest.fixture(scope="session")
def parts():
    """Two random vectors."""
    return random_elements(), random_elements()


@pytest.fixture(scope="session")
def blob(parts):
    return as_blob(parts[0])


@pytest.fixture(scope="session")
def looker_artifact():
    return kit.chain.compile((Path(__file__).parent / "Blobs.vy").read_text(), "Blobs")


@pytest.fixture(scope="module")
def chain(reached_chain):
    """One of each kind for all tests here: every anvil reads the ceremony's points anew (1.5 s)."""
    return reached_chain


@pytest.fixture
def looker(chain, alice, looker_artifact):
    return chain.deploy(looker_artifact, sender=alice)


def test_a_contract_sees_the_blobs_of_its_transaction(chain, alice, looker, blob):
    before = chain.balance(alice)
    receipt = looker.keep(sender=alice, blobs=[blob])
    assert looker.seen() == kzg.versioned_hash(kzg.commit(blob))
    assert looker.count() == 1
    assert receipt.blob_gas == BLOB_GAS == 131_072
    # the calldata is a selector; a blob's bytes cost no gas of the usual kind
    assert receipt.gas < 100_000
    assert before - chain.balance(alice) >= receipt.gas + receipt.blob_gas
    assert looker.look(0) == bytes(32)


def test_six_blobs_travel_together_and_in_order(alice, looker):
    blobs = [as_blob([number]) for number in range(6)]
    assert looker.keep(sender=alice, blobs=blobs).blob_gas == 6 * BLOB_GAS
    assert looker.seen() == kzg.versioned_hash(kzg.commit(blobs[0]))
    assert looker.count() == 6


def test_the_chain_adds_commitments_and_knows_the_blob_of_the_sum(chain, alice, looker, parts):
    left, right = (kzg.commit(as_blob(part)) for part in parts)
    points = kzg.uncompress(left), kzg.uncompress(right)
    total = [(a + b) % kzg.MODULUS for a, b in zip(*parts, strict=True)]
    before = chain.block_number
    with pytest.raises(ContractReverted) as caught:
        looker.keep_sum(*points, sender=alice, blobs=[as_blob([total[0] ^ 1, *total[1:]])])
    assert caught.value.reason == "not the blob of the sum"
    assert chain.block_number == before
    looker.keep_sum(*points, sender=alice, blobs=[as_blob(total)])
    assert looker.seen() == kzg.versioned_hash(kzg.compress(kzg.add(*points)))


def test_the_chain_evaluates_a_blob_at_one_element(looker, parts, blob):
    commitment = kzg.commit(blob)
    proof, value = kzg.point_proof(blob, 1234)
    assert int.from_bytes(value, "big") == parts[0][1234]
    at = kzg.omega(1234).to_bytes(32, "big")
    arguments = (kzg.versioned_hash(commitment), at, value, commitment, proof)
    assert looker.evaluate(*arguments) == ELEMENTS
    wrong = (int.from_bytes(value, "big") ^ 1).to_bytes(32, "big")
    with pytest.raises(ContractReverted):
        looker.evaluate(*arguments[:2], wrong, *arguments[3:])


def test_a_refusal_has_its_reason_with_and_without_blobs(chain, alice, looker, blob):
    with pytest.raises(ContractReverted) as caught:
        looker.keep(sender=alice)
    assert caught.value.reason == "no blob came along"
    points = kzg.GENERATOR, kzg.GENERATOR
    with pytest.raises(ContractReverted, match="its gas is spent") as caught:
        looker.keep_sum(*points, sender=alice, blobs=[blob], check=False)
    assert caught.value.reason == "not the blob of the sum"
    last = chain.ledger.rows()[-1]
    assert (last.call, last.status, last.blob_gas) == ("keep_sum", "reverted", BLOB_GAS)


def test_the_ledger_has_blob_gas_in_a_column_of_its_own(chain, alice, looker, blob):
    with chain.ledger.section("two blobs"):
        receipt = looker.keep(sender=alice, blobs=[blob, blob])
    frame = chain.ledger.frame()
    assert frame["blob_gas"].tolist()[-2:] == [0, 2 * BLOB_GAS]
    assert frame["gas"].tolist()[-1] == receipt.gas
    assert chain.ledger.total() == frame["gas"].sum()
    assert chain.ledger.by("section").loc["two blobs", "blob_gas"] == 2 * BLOB_GAS


def test_a_ledger_without_blobs_has_no_sums_of_them(looker_artifact):
    with kit.chain.connect() as plain:
        plain.deploy(looker_artifact, sender=plain.account("alice"))
        assert list(plain.ledger.by("call").columns) == ["calls", "gas"]


WRONG = [
    ([], "a transaction carries 1 to 6 blobs, 0 were passed"),
    ([b""] * 7, "a transaction carries 1 to 6 blobs, 7 were passed"),
    ([bytes(131_071)], "blob 0: a blob has 131,072 bytes, got 131,071 bytes"),
    ([bytes(131_072), "text"], "blob 1: a blob has 131,072 bytes, got str"),
    ([bytes(32) + b"\xff" * 32 + bytes(131_008)], "blob 0: element 1 of the blob is not below the modulus r"),
    (bytes(131_072), "blobs must be a list of bytes, not bytes"),
    (5, "blobs must be a list of bytes, not int"),
]


@pytest.mark.parametrize(("blobs", "words"), WRONG)
def test_wrong_blobs_are_refused_before_they_reach_the_chain(chain, alice, looker, blobs, words):
    before = chain.block_number
    with pytest.raises(CallError) as caught:
        looker.keep(sender=alice, blobs=blobs)
    assert words in caught.value.message
    assert caught.value.hint
    assert chain.block_number == before


def test_reading_takes_no_blobs(looker, blob):
    with pytest.raises(CallError, match="reads only and does not take blobs"):
        looker.look(0, blobs=[blob])


def test_who_cannot_pay_for_the_blobs_is_told(chain, looker, blob):
    poor = chain.account("poor", fund=0)
    with pytest.raises(AccountError, match="'poor' has 0 ether"):
        looker.keep(sender=poor, blobs=[blob])


def test_the_chain_tells_what_it_can(chain):
    assert chain.supports("blobs")
    assert chain.supports("bls")
    with pytest.raises(CallError, match="'flying' is not an ability"):
        chain.supports("flying")


def test_web3_reads_a_blob_transaction(chain, alice, looker, blob):
    receipt = looker.keep(sender=alice, blobs=[blob])
    found = chain.w3.eth.get_transaction_receipt(receipt.tx_hash)
    assert found["type"] == 3
    assert found["gasUsed"] == receipt.gas
    assert (found["blobGasUsed"], found["blobGasPrice"]) == (BLOB_GAS, 1)
    assert chain.w3.eth.get_block(receipt.block)["blobGasUsed"] == BLOB_GAS


# What a node checks


def signed(chain, alice, looker, sidecar, **changes):
    fields = {
        "type": 3,
        "chainId": chain.chain_id,
        "nonce": int(chain._node.request("eth_getTransactionCount", alice.address, "latest"), 16),
        "maxFeePerGas": 10**11,
        "maxPriorityFeePerGas": 10**9,
        "gas": 200_000,
        "value": 0,
        "data": "0x" + looker.keep.encode().hex(),
        "to": looker.address,
        "maxFeePerBlobGas": 10,
        "blobVersionedHashes": list(sidecar.versioned_hashes),
    } | changes
    return alice.sign_transaction(fields)[0]


def test_no_node_takes_blobs_that_are_not_those_of_the_transaction(chain, alice, looker, blob):
    own, other = Sidecar.of([blob], "own"), Sidecar.of([as_blob([7])], "other")
    raw = signed(chain, alice, looker, own)
    before = chain.block_number
    for sent in (
        raw,
        other.wrap(raw, cells=False),
        Sidecar(other.blobs, own.commitments).wrap(raw, cells=False),
    ):
        with pytest.raises(Fault):
            chain._node.request("eth_sendRawTransaction", sent)
    assert chain.block_number == before
    chain._wait(chain._node.request("eth_sendRawTransaction", own.wrap(raw, cells=False)))
    assert looker.seen() == own.versioned_hashes[0]


def test_the_embedded_chain_reads_hostile_wrappings_strictly():
    alice = Account("alice")
    sidecar = Sidecar.of([as_blob([1]), as_blob([2])], "two")
    raw = alice.sign_transaction(
        {
            "type": 3,
            "chainId": 1,
            "nonce": 0,
            "maxFeePerGas": 1,
            "maxPriorityFeePerGas": 1,
            "gas": 21_000,
            "value": 0,
            "data": "0x",
            "to": "0x" + "11" * 20,
            "maxFeePerBlobGas": 1,
            "blobVersionedHashes": list(sidecar.versioned_hashes),
        }
    )[0]
    alone, found = unwrap(bytes.fromhex(sidecar.wrap(raw, cells=False)[2:]))
    assert alone == bytes.fromhex(raw[2:])
    assert tuple(found) == sidecar.versioned_hashes
    assert tuple(found.values()) == sidecar.blobs
    blobs, commitments = sidecar.blobs, sidecar.commitments
    for blobs_sent, commitments_sent in [
        (blobs[:1], commitments),
        (blobs, commitments[:1]),
        ((blobs[0], blobs[1][1:]), commitments),
        (blobs, (commitments[0], commitments[1][1:])),
        (blobs * 4, commitments * 4),
        ((), ()),
    ]:
        proofs = [bytes(48)] * len(blobs_sent)
        body = rlp.encode([rlp.decode(bytes.fromhex(raw[4:])), blobs_sent, commitments_sent, proofs])
        with pytest.raises(Fault) as caught:
            unwrap(b"\x03" + body)
        assert caught.value.code == INVALID_PARAMS
    # swapped: every part is well-formed, and the proofs belong to other blobs
    swapped = Sidecar(blobs[::-1], commitments)
    with pytest.raises(Fault, match="not what their commitments"):
        unwrap(bytes.fromhex(swapped.wrap(raw, cells=False)[2:]))


def test_public_networks_get_proofs_of_cells(blob):
    sidecar = Sidecar.of([blob], "one")
    plain = "0x03" + rlp.encode([b"\x01", b"\x02"]).hex()
    body, wrapping, blobs, commitments, proofs = rlp.decode(
        bytes.fromhex(sidecar.wrap(plain, cells=True)[4:])
    )
    assert (body, wrapping, blobs) == ([b"\x01", b"\x02"], b"\x01", [blob])
    assert commitments == [kzg.commit(blob)]
    assert len(proofs) == 128


def test_anvil_takes_proofs_of_cells_too(chain, alice, looker, blob):
    sidecar = Sidecar.of([blob], "one")
    raw = sidecar.wrap(signed(chain, alice, looker, sidecar), cells=True)
    if chain.kind == "anvil":
        chain._wait(chain._node.request("eth_sendRawTransaction", raw))
        assert looker.count() == 1
    else:
        with pytest.raises(Fault, match="blob proofs"):
            chain._node.request("eth_sendRawTransaction", raw)


OLD_ANSWERS = {
    "web3_clientVersion": "Geth/v1.10",
    "eth_chainId": "0x1",
    "eth_getBlockByNumber": {"timestamp": "0x1"},
    "eth_call": "0x",
    "eth_getTransactionCount": "0x0",
    "eth_gasPrice": "0x1",
    "eth_getBalance": "0xffffffffffffffff",
    "eth_estimateGas": "0x5208",
}


class OldNode:
    """A node from before blobs and before EIP-2537, as its answers look."""

    kind, url = "rpc", None

    def request(self, method, *_):
        if method not in OLD_ANSWERS:
            raise Fault(f"the method {method} does not exist", code=UNKNOWN_METHOD)
        return OLD_ANSWERS[method]

    def batch(self, calls):
        answers = []
        for method, _ in calls:
            try:
                answers.append(self.request(method))
            except Fault as fault:
                answers.append(fault)
        return answers

    def close(self):
        """Hold nothing."""


def test_an_old_chain_says_that_it_takes_no_blobs(blob):
    old = Chain(OldNode())
    assert not old.supports("blobs")
    assert not old.supports("bls")
    with pytest.raises(ChainError, match="this chain takes none") as caught:
        old.transact(to="0x" + "11" * 20, data=b"", sender=old.account("alice"), blobs=[blob])
    assert "supports" in caught.value.hint


def test_a_blob_can_be_fetched_again(chain, alice, looker, blob):
    looker.keep(sender=alice, blobs=[blob])
    assert chain.blob(kzg.versioned_hash(kzg.commit(blob))) == blob
    with pytest.raises(ChainError, match="has no blob"):
        chain.blob(b"\x01" + bytes(31))
