"""The embedded chain: a whole EVM in this process (py-evm set up by eth-tester), spoken to by JSON-RPC.

One transaction makes one block, at once. The clock is the machine's own plus whatever was warped; as on
Ethereum no two blocks have the same second, so a burst of blocks runs ahead of the machine by a second each.
The few methods that are called all the time are answered straight from py-evm; everything else
goes through web3's ``EthereumTesterProvider``.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from eth.abc import BlockAPI, BlockHeaderAPI, ComputationAPI, SignedTransactionAPI
from eth.exceptions import OutOfGas, PyEVMError, Revert, VMError
from eth.vm.forks.cancun.state import get_total_blob_gas
from eth.vm.spoof import SpoofTransaction
from eth_tester import EthereumTester
from eth_tester.backends.pyevm import PyEVMBackend
from eth_utils.address import to_checksum_address
from eth_utils.exceptions import ValidationError
from rlp.exceptions import RLPException  # type: ignore[import-untyped]

from twopm_kit.chain.accounts import created_address
from twopm_kit.chain.blobs import BLOB_GAS, BLOB_TYPE, unwrap
from twopm_kit.chain.evm_memory import lend_memory
from twopm_kit.chain.jsonrpc import INVALID_PARAMS, REFUSED, REVERTED, UNKNOWN_METHOD, Call, Fault, to_plain
from twopm_kit.errors import ChainUnavailable

__all__ = ["BLOCK_GAS", "CLIENT", "EmbeddedNode"]

#: Gas in one block. Ethereum's own limit at the end of 2025; eth-tester's default is half of it.
BLOCK_GAS = 60_000_000
#: Gas that one call may use when it names no limit.
CALL_GAS = 50_000_000
#: First word of ``web3_clientVersion``; tells a client that ``twopm_transact`` exists.
CLIENT = "twopm-embedded"

lend_memory()

_FAUCET_WEI = 10**27
_KEPT_BLOBS = 256  # 32 MiB
_TIP = 10**9
_NO_ADDRESS = b"\0" * 20
_MOST_BLOCKS_AT_ONCE = 100_000
#: Methods that eth-tester answers well enough; filters are left out because a cursor does their work.
_THROUGH_TESTER = frozenset(
    {
        "eth_feeHistory",
        "eth_getBlockByHash",
        "eth_getBlockByNumber",
        "eth_getBlockTransactionCountByHash",
        "eth_getBlockTransactionCountByNumber",
        "eth_getStorageAt",
        "eth_getTransactionByBlockHashAndIndex",
        "eth_getTransactionByBlockNumberAndIndex",
        "eth_getTransactionByHash",
        "eth_getUncleCountByBlockHash",
        "eth_getUncleCountByBlockNumber",
        "eth_syncing",
        "net_listening",
        "net_peerCount",
        "web3_sha3",
    }
)


@dataclass(frozen=True, slots=True)
class _Record:
    """What is asked about a mined block again and again, already in JSON's types."""

    hash: bytes
    header: BlockHeaderAPI
    transactions: tuple[str, ...]
    logs: tuple[dict[str, Any], ...]


class EmbeddedNode:
    """An EVM chain in this process. Thread-safe: one lock around everything.

    Gas price rules are London's, the fork is Prague, and there is one unlocked faucet account.
    """

    kind = "embedded"
    url: str | None = None

    def __init__(self) -> None:
        genesis = PyEVMBackend.generate_genesis_params({"gas_limit": BLOCK_GAS})
        state = PyEVMBackend.generate_genesis_state(overrides={"balance": _FAUCET_WEI}, num_accounts=1)
        self._lock = threading.RLock()
        self._backend = PyEVMBackend(genesis, state)
        self._clock_offset = 0
        self._records: list[_Record] = []
        self._receipts: dict[str, dict[str, Any]] = {}
        self._snapshots: dict[int, bytes] = {}
        self._next_snapshot = 1
        self._through_tester: Callable[[str, Any], Any] | None = None
        self._closed = False
        self._blobs: dict[bytes, bytes] = {}
        self._methods: dict[str, Callable[..., Any]] = {
            "anvil_getBlobByHash": self._blob,
            "anvil_mine": self._mine,
            "eth_accounts": lambda: [self._faucet],
            "eth_blobBaseFee": lambda: self._state("pending").blob_base_fee,
            "eth_blockNumber": lambda: len(self._records) - 1,
            "eth_call": self._call,
            "eth_chainId": lambda: self._chain.chain_id,
            "eth_estimateGas": self._estimate_gas,
            "eth_gasPrice": lambda: self._base_fee + _TIP,
            "eth_getBalance": lambda address, at="latest": self._state(at).get_balance(_address(address)),
            "eth_getBlockByNumber": self._block_by_number,
            "eth_getCode": lambda address, at="latest": self._state(at).get_code(_address(address)),
            "eth_getLogs": self._logs,
            "eth_getTransactionCount": lambda address, at="latest": self._state(at).get_nonce(
                _address(address)
            ),
            "eth_getTransactionReceipt": lambda tx_hash: self._receipts.get(_lower(tx_hash)),
            "eth_maxPriorityFeePerGas": lambda: _TIP,
            "eth_sendRawTransaction": lambda raw: self._send(self._decode(raw), even_if_refused=True)[
                "transactionHash"
            ],
            "eth_sendTransaction": self._send_from_faucet,
            "evm_increaseTime": self._increase_time,
            "evm_mine": lambda *_: self._mine(1),
            "evm_revert": self._revert,
            "evm_snapshot": self._snapshot,
            "net_version": lambda: str(self._chain.chain_id),
            "twopm_transact": lambda raw: self._send(self._decode(raw), even_if_refused=False),
            "web3_clientVersion": lambda: f"{CLIENT}/{version('twopm-kit')}/py-evm-{version('py-evm')}",
        }
        self._catch_up()

    # The door -------------------------------------------------------------------------------------------

    def request(self, method: str, *params: Any) -> Any:
        """Answer one JSON-RPC request; raise `Fault` when it is refused."""
        with self._lock:
            if self._closed:
                raise ChainUnavailable(
                    "this embedded chain was closed", hint="make a new one with kit.chain.connect()"
                )
            self._catch_up()
            try:
                return to_plain(self._answer(method, params))
            except (ValidationError, PyEVMError, RLPException, OverflowError) as error:
                raise Fault(str(error) or type(error).__name__, code=REFUSED) from error
            except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
                raise Fault(
                    f"the parameters of {method} cannot be read: {error}", code=INVALID_PARAMS
                ) from error

    def batch(self, calls: Sequence[Call]) -> list[Any]:
        """Answer several requests with nothing in between."""
        answers: list[Any] = []
        with self._lock:
            for method, params in calls:
                try:
                    answers.append(self.request(method, *params))
                except Fault as fault:
                    answers.append(fault)
        return answers

    def close(self) -> None:
        """Forget the chain; every later request is refused."""
        with self._lock:
            self._closed = True
            self._records.clear()
            self._receipts.clear()
            self._snapshots.clear()
            self._through_tester = None

    def _answer(self, method: str, params: Sequence[Any]) -> Any:
        handler = self._methods.get(method)
        if handler is not None:
            answer = handler(*params)
            if answer is not NotImplemented:
                return answer
        if method not in _THROUGH_TESTER:
            raise Fault(f"the embedded chain has no method {method!r}", code=UNKNOWN_METHOD)
        if self._through_tester is None:
            self._through_tester = self._make_tester_door()
        response = self._through_tester(method, list(params))
        if "error" in response:
            raise Fault.from_json(response["error"])
        return response["result"]

    def _make_tester_door(self) -> Callable[[str, Any], Any]:
        from web3 import EthereumTesterProvider, Web3

        provider = EthereumTesterProvider(EthereumTester(self._backend))
        w3 = Web3(provider, middleware=[])
        return provider.request_func(w3, w3.middleware_onion)

    # State ----------------------------------------------------------------------------------------------

    @property
    def _chain(self) -> Any:
        # eth-tester replaces the object when the chain goes back to genesis, so it is never kept
        return self._backend.chain

    @property
    def _faucet(self) -> str:
        return to_checksum_address(self._backend.get_accounts()[0])

    @property
    def _base_fee(self) -> int:
        return int(self._chain.header.base_fee_per_gas)

    def _catch_up(self) -> None:
        """Make the records those of the chain: after a revert, or an interrupt at the wrong moment."""
        open_header = self._chain.header
        if self._records and self._records[-1].hash == open_header.parent_hash:
            return
        while self._records and not self._still_there(len(self._records) - 1):
            for tx_hash in self._records.pop().transactions:
                self._receipts.pop(tx_hash, None)
        while len(self._records) < open_header.block_number:
            self._record(self._chain.get_canonical_block_by_number(len(self._records)))

    def _still_there(self, number: int) -> bool:
        if number >= self._chain.header.block_number:
            return False
        on_chain: bytes = self._chain.get_canonical_block_by_number(number).hash
        return on_chain == self._records[number].hash

    def _record(self, block: BlockAPI) -> None:
        header = block.header
        base_fee = int(header.base_fee_per_gas or 0)
        receipts = block.get_receipts(self._chain.chaindb)
        logs: list[dict[str, Any]] = []
        hashes: list[str] = []
        used_before = 0
        for index, (transaction, receipt) in enumerate(zip(block.transactions, receipts, strict=True)):
            where = {
                "blockHash": "0x" + header.hash.hex(),
                "blockNumber": hex(header.block_number),
                "transactionHash": "0x" + transaction.hash.hex(),
                "transactionIndex": hex(index),
            }
            own_logs = [
                {
                    "address": to_checksum_address(log.address),
                    "topics": [f"0x{topic:064x}" for topic in log.topics],
                    "data": "0x" + log.data.hex(),
                    "logIndex": hex(len(logs) + position),
                    "removed": False,
                    **where,
                }
                for position, log in enumerate(receipt.logs)
            ]
            logs += own_logs
            hashes.append(where["transactionHash"])
            sender = transaction.sender
            fee = min(transaction.max_fee_per_gas, transaction.max_priority_fee_per_gas + base_fee)
            self._receipts[where["transactionHash"]] = {
                **where,
                "from": to_checksum_address(sender),
                "to": to_checksum_address(transaction.to) if transaction.to else None,
                "contractAddress": None if transaction.to else created_address(sender, transaction.nonce),
                "status": "0x1" if receipt.state_root == b"\x01" else "0x0",
                "gasUsed": hex(receipt.gas_used - used_before),
                "cumulativeGasUsed": hex(receipt.gas_used),
                "effectiveGasPrice": hex(fee),
                "logs": own_logs,
                "logsBloom": f"0x{int(receipt.bloom):0512x}",
                "type": hex(getattr(transaction, "type_id", None) or 0),
            }
            if (blob_gas := get_total_blob_gas(transaction)) > 0:
                self._receipts[where["transactionHash"]] |= {
                    "blobGasUsed": hex(blob_gas),
                    "blobGasPrice": hex(self._chain.get_vm(at_header=header).state.blob_base_fee),
                }
            used_before = receipt.gas_used
        self._records.append(_Record(header.hash, header, tuple(hashes), tuple(logs)))

    def _header_at(self, at: Any) -> BlockHeaderAPI:
        """Give the header whose state a request means; *pending* is the block that comes next."""
        if at == "pending":
            return self._next_header()
        return self._records[self._number(at)].header

    def _number(self, at: Any) -> int:
        last = len(self._records) - 1
        if at in ("latest", "safe", "finalized", None):
            return last
        if at == "earliest":
            return 0
        number = int(at, 16)
        if not 0 <= number <= last:
            raise Fault(f"there is no block {number}; the last one is {last}")
        return number

    def _state(self, at: Any) -> Any:
        return self._chain.get_vm(at_header=self._header_at(at)).state

    def _next_header(self) -> BlockHeaderAPI:
        """Give the open block's header with the present time and fresh dice (PREVRANDAO, EIP-4399)."""
        now = int(time.time()) + self._clock_offset
        stamp = max(now, self._records[-1].header.timestamp + 1)
        header: BlockHeaderAPI = self._chain.header.copy(timestamp=stamp, mix_hash=os.urandom(32))
        return header

    # Execution ------------------------------------------------------------------------------------------

    def _call(self, request: dict[str, Any], at: Any = "latest", *_: Any) -> bytes:
        header = self._header_at(at)
        computation = self._dry_run(request, header, _quantity(request.get("gas"), CALL_GAS))
        _raise_if_refused(computation)
        output: bytes = computation.output
        return output

    def _estimate_gas(self, request: dict[str, Any], at: Any = "pending", *_: Any) -> int:
        """Find the smallest sufficient limit, to within 1,000 gas, by bisection."""
        header = self._header_at(at)
        most = _quantity(request.get("gas"), CALL_GAS)
        computation = self._dry_run(request, header, most)
        _raise_if_refused(computation)
        enough, short = most, 20_999
        guess = min(int(computation.get_gas_used() * 1.1) + 30_000, most)
        while enough - short > 1_000:
            try:
                works = not self._dry_run(request, header, guess).is_error
            except (ValidationError, PyEVMError):  # below the intrinsic cost
                works = False
            if works:
                enough = guess
            else:
                short = guess
            guess = (enough + short) // 2
        return enough

    def _dry_run(self, request: dict[str, Any], header: BlockHeaderAPI, gas: int) -> ComputationAPI:
        """Execute on a throw-away state. The gas is lent, so a caller without coins may ask too."""
        vm = self._chain.get_vm(at_header=header)
        sender = _address(request["from"]) if request.get("from") else _NO_ADDRESS
        price = int(header.base_fee_per_gas or 0)
        hashes = [_data(item) for item in request.get("blobVersionedHashes") or ()]
        fields: dict[str, Any] = {
            "chain_id": self._chain.chain_id,
            "nonce": vm.state.get_nonce(sender),
            "max_priority_fee_per_gas": 0,
            "max_fee_per_gas": price,
            "gas": gas,
            "to": _address(request["to"]) if request.get("to") else b"",
            "value": _quantity(request.get("value"), 0),
            "data": _data(request.get("data", request.get("input"))),
            "access_list": (),
        }
        lent = gas * price
        builder = vm.get_transaction_builder()
        if hashes:
            blob_price = vm.state.blob_base_fee
            lent += BLOB_GAS * len(hashes) * blob_price
            unsigned = builder.new_unsigned_blob_transaction(
                **fields, max_fee_per_blob_gas=blob_price, blob_versioned_hashes=hashes
            )
        else:
            unsigned = builder.new_unsigned_dynamic_fee_transaction(**fields)
        vm.state.delta_balance(sender, lent)
        computation: ComputationAPI = vm.state.apply_transaction(SpoofTransaction(unsigned, from_=sender))
        return computation

    def _decode(self, raw: str) -> SignedTransactionAPI:
        data = _data(raw)
        blobs: dict[bytes, bytes] = {}
        if data[:1] == BLOB_TYPE:
            data, blobs = unwrap(data)
        transaction: SignedTransactionAPI = self._chain.get_vm().get_transaction_builder().decode(data)
        if blobs and set(transaction.blob_versioned_hashes) != set(blobs):
            raise Fault("the transaction names other blobs than those that came with it")
        # Kept for a while, as the nodes of a public network do (EIP-4844: 18 days).
        self._blobs |= blobs
        for oldest in list(self._blobs)[:-_KEPT_BLOBS]:
            del self._blobs[oldest]
        return transaction

    def _blob(self, versioned_hash: str) -> str | None:
        blob = self._blobs.get(_data(versioned_hash))
        return None if blob is None else "0x" + blob.hex()

    def _send(self, transaction: SignedTransactionAPI, *, even_if_refused: bool) -> dict[str, Any]:
        """Execute a transaction in a block of its own and give its receipt."""
        chain = self._chain
        before = chain.header
        chain.header = self._next_header()
        try:
            _, _, computation = chain.apply_transaction(transaction)
            if not even_if_refused:
                _raise_if_refused(computation)
            self._seal()
        except BaseException:
            # nothing is on the chain until the block is sealed: an open block is simply dropped
            if chain.header.block_number == before.block_number:
                chain.header = before
            raise
        return self._receipts["0x" + transaction.hash.hex()]

    def _seal(self) -> None:
        chain = self._chain
        blob_gas = sum(get_total_blob_gas(transaction) for transaction in chain.get_block().transactions)
        self._record(
            chain.mine_block(coinbase=_NO_ADDRESS, mix_hash=chain.header.mix_hash, blob_gas_used=blob_gas)
        )

    def _send_from_faucet(self, request: dict[str, Any]) -> str:
        key = self._backend.account_keys[0]
        sender = key.public_key.to_canonical_address()
        if _address(request["from"]) != sender:
            raise Fault(
                f"the node has no key for {request['from']!s:.80}; its only account is {self._faucet}"
            )
        vm = self._chain.get_vm(at_header=self._chain.header)
        unsigned = vm.get_transaction_builder().new_unsigned_dynamic_fee_transaction(
            chain_id=self._chain.chain_id,
            nonce=vm.state.get_nonce(sender),
            max_priority_fee_per_gas=_TIP,
            max_fee_per_gas=2 * self._base_fee + _TIP,
            gas=_quantity(request.get("gas"), 100_000),
            to=_address(request["to"]) if request.get("to") else b"",
            value=_quantity(request.get("value"), 0),
            data=_data(request.get("data", request.get("input"))),
            access_list=(),
        )
        signed = unsigned.as_signed_transaction(key, self._chain.chain_id)
        return str(self._send(signed, even_if_refused=False)["transactionHash"])

    # Time and history -----------------------------------------------------------------------------------

    def _mine(self, blocks: Any = 1, *_: Any) -> str:
        count = blocks if isinstance(blocks, int) else int(blocks, 16)
        if not 1 <= count <= _MOST_BLOCKS_AT_ONCE:
            raise Fault(f"{count} blocks were asked for; expected 1 to {_MOST_BLOCKS_AT_ONCE}")
        for _index in range(count):
            self._chain.header = self._next_header()
            self._seal()
        return "0x0"

    def _increase_time(self, seconds: Any) -> int:
        step = seconds if isinstance(seconds, int) else int(seconds, 16)
        if not 0 <= step < 2**40:
            raise Fault(f"the clock cannot be moved by {step} seconds")
        # from the last block on: with many blocks in one second the chain's clock runs ahead of the machine's
        now = int(time.time())
        self._clock_offset = max(now + self._clock_offset, self._records[-1].header.timestamp) + step - now
        return self._clock_offset

    def _snapshot(self) -> int:
        number = self._next_snapshot
        self._next_snapshot += 1
        self._snapshots[number] = self._records[-1].hash
        return number

    def _revert(self, snapshot: Any) -> bool:
        number = snapshot if isinstance(snapshot, int) else int(snapshot, 16)
        block_hash = self._snapshots.get(number)
        if block_hash is None:
            return False
        # like every node: a snapshot serves once, and those taken after it go with it
        self._snapshots = {key: value for key, value in self._snapshots.items() if key < number}
        self._backend.revert_to_snapshot(block_hash)
        self._catch_up()
        self._clock_offset = self._records[-1].header.timestamp - int(time.time())
        return True

    # Reading --------------------------------------------------------------------------------------------

    def _block_by_number(self, at: Any, full: bool = False) -> Any:
        if full or at == "pending":
            return NotImplemented  # eth-tester knows how
        try:
            record = self._records[self._number(at)]
        except Fault:
            return None
        header = record.header
        return {
            "number": header.block_number,
            "hash": record.hash,
            "parentHash": header.parent_hash,
            "timestamp": header.timestamp,
            "gasLimit": header.gas_limit,
            "gasUsed": header.gas_used,
            "baseFeePerGas": header.base_fee_per_gas,
            "mixHash": header.mix_hash,
            "miner": to_checksum_address(header.coinbase),
            "stateRoot": header.state_root,
            "transactionsRoot": header.transaction_root,
            "receiptsRoot": header.receipt_root,
            "logsBloom": f"0x{int(header.bloom):0512x}",
            "blobGasUsed": header.blob_gas_used,
            "excessBlobGas": header.excess_blob_gas,
            "extraData": header.extra_data,
            "nonce": header.nonce,
            "sha3Uncles": header.uncles_hash,
            "difficulty": 0,
            "uncles": [],
            "transactions": list(record.transactions),
        }

    def _logs(self, query: dict[str, Any]) -> list[dict[str, Any]]:
        if "blockHash" in query:
            raise Fault("logs are read by block numbers here; pass fromBlock and toBlock")
        last = len(self._records) - 1
        first_block, last_block = (
            last
            if at in ("latest", "pending", "safe", "finalized", None)
            else 0
            if at == "earliest"
            else int(at, 16)
            for at in (query.get("fromBlock"), query.get("toBlock"))
        )
        wanted = query.get("address")
        addresses = {_lower(item) for item in ([wanted] if isinstance(wanted, str) else wanted or [])}
        topics = [
            None
            if topic is None
            else {_lower(item) for item in ([topic] if isinstance(topic, str) else topic)}
            for topic in query.get("topics") or []
        ]
        return [
            log
            for record in self._records[max(first_block, 0) : last_block + 1]
            for log in record.logs
            if (not addresses or log["address"].lower() in addresses)
            and len(topics) <= len(log["topics"])
            and all(want is None or have in want for want, have in zip(topics, log["topics"], strict=False))
        ]


def _raise_if_refused(computation: ComputationAPI) -> None:
    if not computation.is_error:
        return
    error: VMError = computation.error
    if isinstance(error, Revert):
        raise Fault("execution reverted", code=REVERTED, data=bytes(computation.output))
    if isinstance(error, OutOfGas):
        raise Fault("execution stopped: OutOfGas", code=REFUSED)
    raise Fault(f"execution stopped: {type(error).__name__}", code=REFUSED)


def _address(value: str) -> bytes:
    data = _data(value)
    if len(data) != 20:
        raise Fault(f"an address has 20 bytes; {len(data)} were passed", code=INVALID_PARAMS)
    return data


def _data(value: Any) -> bytes:
    if value is None:
        return b""
    if not isinstance(value, str) or not value.startswith("0x"):
        raise Fault("bytes are passed as 0x and hexadecimal digits", code=INVALID_PARAMS)
    return bytes.fromhex(value[2:])


def _quantity(value: Any, default: int) -> int:
    if value is None:
        return default
    number = value if isinstance(value, int) else int(value, 16)
    if number < 0:
        raise Fault("a quantity cannot be negative", code=INVALID_PARAMS)
    return number


def _lower(value: Any) -> str:
    return str(value).lower()
