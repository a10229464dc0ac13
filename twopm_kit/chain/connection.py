"""The chain as everybody uses it: one interface over the embedded chain, anvil and any RPC URL."""

import threading
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any

from eth_utils.abi import event_abi_to_log_topic

from twopm_kit.chain import abi, jsonrpc
from twopm_kit.chain.accounts import Account, created_address
from twopm_kit.chain.artifacts import Artifact, artifact
from twopm_kit.chain.blobs import BLOB_GAS, Sidecar
from twopm_kit.chain.contract import Contract, Receipt, sender_of
from twopm_kit.chain.events import Event, Log, decode_event, parse_log
from twopm_kit.chain.jsonrpc import Call, Fault, Node, as_bytes, as_int
from twopm_kit.chain.ledger import GasLedger
from twopm_kit.chain.reverts import custom_errors, refusal, reverted, was_execution
from twopm_kit.chain.snapshot import Snapshot
from twopm_kit.errors import AccountError, CallError, ChainError, UnknownContract

if TYPE_CHECKING:
    from web3 import Web3

    from twopm_kit.chain.server import Server

__all__ = ["ETHER", "TX_GAS", "Chain", "connect"]

#: Wei in one ether.
ETHER = 10**18
#: Most gas that one transaction may have: the limit of EIP-7825, kept on every chain.
TX_GAS = 2**24

_TRANSFER_GAS = 21_000
_DEVELOPMENT = ("anvil/", "hardhat", "twopm-embedded/", "ethereumtester/", "ganache")
_NONCE_ATTEMPTS = 5
_LOG_SPAN = 5_000
_G1_ADD = "0x000000000000000000000000000000000000000b"


def connect(target: str | None = None, *, timeout: float = 30.0) -> "Chain":
    """Connect to a chain.

    Parameters
    ----------
    target : str, optional
        ``"embedded"``: a new chain inside this process. ``"anvil"``: a new anvil process, ended with the
        connection. A URL starting with ``http``: any EVM node. By default the setting ``chain``, which is
        ``"embedded"`` unless somebody changed it.
    timeout : float
        Seconds to wait for a node's answer.

    Returns
    -------
    Chain
        Also a context manager that closes itself.

    Raises
    ------
    ChainError
        When the target is none of these.
    AnvilMissing
        When anvil is wanted and not installed; the hint is the command that installs it.
    ChainUnavailable
        When nobody answers behind the URL.
    """
    if target is None:
        from twopm_kit.config import settings

        target = settings().chain
    if target == "embedded":
        from twopm_kit.chain.embedded import EmbeddedNode

        return Chain(EmbeddedNode())
    if target == "anvil":
        from twopm_kit.chain.anvil import AnvilNode

        return Chain(AnvilNode(timeout=timeout))
    if isinstance(target, str) and target.startswith(("http://", "https://")):
        from twopm_kit.chain.rpc import HttpNode

        return Chain(HttpNode(target, timeout=timeout))
    # what follows the scheme of a URL may be a key
    shown = repr(target.partition("://")[0][:40]) if isinstance(target, str) else type(target).__name__
    raise ChainError(
        f"{shown} is not a chain; expected 'embedded', 'anvil' or a URL that starts with http",
        hint="call kit.chain.connect() for a chain inside this process",
    )


class Chain:
    """A connection to a chain. Thread-safe. Made by `connect`.

    Attributes
    ----------
    kind : str
        ``"embedded"``, ``"anvil"`` or ``"rpc"``.
    chain_id : int
        The chain's id (EIP-155).
    is_development : bool
        Whether it is a local development chain: with a faucet, snapshots and a clock that can be moved.
    ledger : GasLedger
        Every transaction sent through this connection, and its gas.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self.kind = node.kind
        try:
            version, chain_id = node.batch([("web3_clientVersion", []), ("eth_chainId", [])])
            if isinstance(chain_id, Fault):
                raise chain_id
            self.chain_id = as_int(chain_id)
        except BaseException:
            node.close()
            raise
        self.client = "" if isinstance(version, Fault) else str(version)[:200]
        self.is_development = self.client.lower().startswith(_DEVELOPMENT)
        # the embedded chain executes, checks and mines in one request
        self._transacts_at_once = self.client.startswith("twopm-embedded/")
        self.ledger = GasLedger()
        self._accounts: dict[str, Account] = {}
        self._accounts_lock = threading.RLock()
        self._event_entries: dict[str, Mapping[bytes, abi.Component]] = {}
        self._servers: list[Server] = []
        self._abilities: dict[str, bool] = {}

    # Facts ----------------------------------------------------------------------------------------------

    @property
    def url(self) -> str | None:
        """The URL that others connect to; None for an embedded chain, which is shared with `serve`."""
        return self._node.url

    @property
    def block_number(self) -> int:
        """Number of the last block."""
        return as_int(self._node.request("eth_blockNumber"))

    @property
    def timestamp(self) -> int:
        """Time of the last block, in seconds since 1970."""
        return as_int(self._block("latest")["timestamp"])

    @cached_property
    def w3(self) -> "Web3":
        """A `Web3` object on the same chain, for those who want it."""
        from twopm_kit.chain.web3_door import open_web3

        return open_web3(self._node)

    def supports(self, ability: str) -> bool:
        """Tell whether the chain can do what not every chain can.

        Parameters
        ----------
        ability : str
            ``"blobs"``: transactions that carry blobs (EIP-4844). ``"bls"``: sums of points of BLS12-381 in
            contracts (EIP-2537). The node is asked once.

        Raises
        ------
        CallError
            When the ability has another name.
        """
        if ability not in ("blobs", "bls"):
            raise CallError(f"{ability!r} is not an ability of chains", hint="ask for 'blobs' or 'bls'")
        if ability not in self._abilities:
            self._abilities[ability] = self._has_blobs() if ability == "blobs" else self._has_bls()
        return self._abilities[ability]

    def _has_blobs(self) -> bool:
        return self._block("latest").get("excessBlobGas") is not None

    def _has_bls(self) -> bool:
        # nothing plus nothing: where there is no such precompile, the empty account answers with nothing
        try:
            answer = self._node.request(
                "eth_call", {"to": _G1_ADD, "data": "0x" + bytes(256).hex()}, "latest"
            )
        except Fault as fault:
            if was_execution(fault):
                return False
            raise
        return as_bytes(answer) == bytes(128)

    def blob(self, versioned_hash: bytes) -> bytes:
        """Fetch a blob that a transaction has carried, 131,072 bytes.

        Raises
        ------
        ChainError
            When the node does not have it: contracts see hashes only, and nodes forget the blobs themselves
            (EIP-4844: after 18 days; execution nodes of public networks never have them).
        """
        name = "0x" + versioned_hash.hex()
        try:
            answer = self._node.request("anvil_getBlobByHash", name)
        except Fault:
            answer = None
        if answer is None:
            raise ChainError(
                f"the node has no blob {name}",
                hint="ask who sent it, a consensus node or an archive of blobs for it, and compare the hash",
            )
        return as_bytes(answer)

    def balance(self, account: Any) -> int:
        """Tell how much an account or address has, in wei."""
        return as_int(self._node.request("eth_getBalance", abi.address_of(account, "account"), "latest"))

    def block_hash(self, number: int) -> str | None:
        """Give the hash of a block; None when there is no such block."""
        block = self._node.request("eth_getBlockByNumber", hex(number), False)
        return str(block["hash"]) if isinstance(block, dict) and "hash" in block else None

    def _block(self, at: str) -> Mapping[str, Any]:
        block = self._node.request("eth_getBlockByNumber", at, False)
        if not isinstance(block, dict) or "timestamp" not in block:
            raise ChainError(
                f"the node has no block {at!r}", hint="check that the URL belongs to an EVM node"
            )
        return block

    # Accounts -------------------------------------------------------------------------------------------

    def account(self, name: str, *, key: bytes | None = None, fund: int | None = None) -> Account:
        """Make the account of this name, or give it again.

        Parameters
        ----------
        name : str
            Its name on this connection.
        key : bytes, optional
            32 secret bytes; fresh ones by default.
        fund : int, optional
            Wei that the account shall have at least. By default a new account gets 100 ether on a development
            chain and nothing elsewhere. 0 means none.

        Raises
        ------
        AccountError
            When the name has another key already, or the node has no faucet for what is wanted.
        """
        with self._accounts_lock:
            known = self._accounts.get(name) if isinstance(name, str) else None
            if known is None:
                known = Account(name, key)
                if fund is None:
                    fund = 100 * ETHER if self.is_development else 0
            elif key is not None and Account(name, key).address != known.address:
                raise AccountError(
                    f"the account {name!r} exists with another key",
                    hint="choose another name, or leave key out",
                )
            if fund:
                self._fund(known, fund)
            self._accounts[name] = known
            return known

    @property
    def accounts(self) -> list[Account]:
        """The accounts made on this connection, in order of making."""
        return list(self._accounts.values())

    def _fund(self, account: Account, wei: int) -> None:
        if isinstance(wei, bool) or not isinstance(wei, int) or wei < 0:
            raise AccountError(
                f"fund must be a number of wei, not {wei!r}", hint="pass a whole number, at least 0"
            )
        missing = wei - self.balance(account)
        if missing <= 0:
            return
        try:
            holders = self._node.request("eth_accounts")
        except Fault:
            holders = []
        if not holders:
            raise AccountError(
                f"the node has no faucet, and {account.name!r} lacks {_ether(missing)}",
                hint=f"send coins to {account.address}, or pass key= of an account that has some",
            )
        try:
            tx_hash = self._node.request(
                "eth_sendTransaction",
                {"from": holders[0], "to": account.address, "value": hex(missing), "gas": hex(_TRANSFER_GAS)},
            )
        except Fault as fault:
            raise AccountError(
                f"the node's faucet did not give {_ether(missing)} to {account.name!r}: {fault.words}",
                hint="ask for less with fund=",
            ) from fault
        self._wait(tx_hash)

    # Contracts ------------------------------------------------------------------------------------------

    def deploy(
        self, what: str | Artifact, *arguments: Any, sender: Account | None = None, value: int = 0
    ) -> Contract:
        """Put a contract on the chain.

        Parameters
        ----------
        what : str or Artifact
            Name of a bundled contract, or what ``kit.chain.compile`` returned.
        *arguments
            Arguments of its constructor.
        sender : Account
            Who pays for it.
        value : int
            Wei to send along.

        Raises
        ------
        UnknownContract
            When no bundled contract has this name.
        CallError
            When the arguments do not fit the constructor.
        ContractReverted
            When the constructor refuses.
        """
        made = _artifact(what)
        entry = next((item for item in made.abi if item["type"] == "constructor"), None)
        label = f"the constructor of {made.name}"
        data = made.bytecode + abi.encode(entry["inputs"] if entry else [], arguments, label)
        receipt, nonce = self._transact(
            to=None,
            data=data,
            sender=sender,
            value=value,
            contract=made.name,
            call="deploy",
            errors=custom_errors(made.abi),
        )
        # worked out here rather than asked for: a node cannot pass off another contract as the new one
        return self._bind(made, created_address(bytes.fromhex(receipt.sender[2:]), nonce), receipt)

    def at(self, what: str | Artifact, address: Any, *, exact: bool = False) -> Contract:
        """Use a contract that is on the chain already.

        Parameters
        ----------
        what : str or Artifact
            What the contract is.
        address : str
            Where it is.
        exact : bool
            Whether its code must be that of the artefact: a look-alike with the same methods may lie.

        Raises
        ------
        UnknownContract
            When there is no code at the address, or, with ``exact``, other code.
        """
        made = _artifact(what)
        checked = abi.address_of(address, "address")
        code = self.require_code(checked, made.name)
        # Immutable values follow the code and cannot be reached as code: its jumps are fixed.
        if exact and not code.startswith(made.runtime):
            raise UnknownContract(
                f"the code at {checked} is not that of {made.name}",
                hint="stay away from it: a contract with the same methods can tell everybody another story",
            )
        return self._bind(made, checked)

    def require_code(self, address: str, name: str) -> bytes:
        """Return the code at an address, or raise UnknownContract when there is none."""
        code = as_bytes(self._node.request("eth_getCode", address, "latest"))
        if not code:
            raise UnknownContract(
                f"there is no contract at {address}, where {name} was expected",
                hint="check the address and that this is the chain on which the contract was deployed",
            )
        return code

    def _bind(self, made: Artifact, address: str, deployment: Receipt | None = None) -> Contract:
        self._event_entries[address] = {
            event_abi_to_log_topic(entry): entry  # type: ignore[arg-type]
            for entry in made.abi
            if entry["type"] == "event"
        }
        return Contract(self, made, address, deployment)

    # Calls and transactions -----------------------------------------------------------------------------

    def call(
        self,
        to: str,
        data: bytes,
        *,
        sender: str | None = None,
        block: int | None = None,
        label: str = "the call",
        errors: Mapping[bytes, str] | None = None,
    ) -> bytes:
        """Ask a contract and change nothing. Contracts' methods use this.

        Raises
        ------
        ContractReverted
            When the contract refuses.
        """
        request = {"to": to, "data": "0x" + data.hex()} | ({"from": sender} if sender else {})
        at = "latest" if block is None else hex(_whole("block", block))
        try:
            return as_bytes(self._node.request("eth_call", request, at))
        except Fault as fault:
            if was_execution(fault):
                raise refusal(fault, label, errors) from None
            raise

    def transfer(self, to: Any, wei: int, *, sender: Account | None = None) -> Receipt:
        """Send coins to an account or address."""
        return self.transact(to=abi.address_of(to, "to"), data=b"", call="transfer", sender=sender, value=wei)

    def transact(self, **what: Any) -> Receipt:
        """Sign a transaction, send it, wait for its block. Contracts' methods use this.

        Parameters
        ----------
        **what
            ``to`` (str), ``data`` (bytes), ``sender`` (Account), ``value`` (wei), ``gas`` (limit), ``check``
            (ask first), ``blobs`` (list of bytes), ``contract`` and ``call`` (names for the ledger),
            ``errors`` (custom errors by selector).

        Raises
        ------
        ContractReverted
            When the contract refuses. Where the node can tell, before anything is spent.
        AccountError
            When the sender has too little for the value and the gas.
        """
        return self._transact(**what)[0]

    def _transact(
        self,
        *,
        to: str | None,
        data: bytes,
        sender: Account | None = None,
        value: int = 0,
        gas: int | None = None,
        check: bool = True,
        blobs: Sequence[bytes] | None = None,
        contract: str = "",
        call: str = "transaction",
        errors: Mapping[bytes, str] | None = None,
    ) -> tuple[Receipt, int]:
        label = f"{contract}.{call}" if contract else call
        account = sender_of(sender, label)
        request: dict[str, Any] = {
            "from": account.address,
            "data": "0x" + data.hex(),
            "value": hex(_whole("value", value)),
            **({} if to is None else {"to": to}),
        }
        sidecar = None
        if blobs is not None:
            sidecar = Sidecar.of(blobs, label)
            request["blobVersionedHashes"] = ["0x" + one.hex() for one in sidecar.versioned_hashes]
        limit = TX_GAS if gas is None else _whole("gas", gas)
        if self.is_development or gas is not None:
            # room for everything costs nothing where gas is free, and saves an estimate
            request["gas"] = hex(limit)
        answer, nonce = self._send(
            account, request, sidecar, label, errors, check=check, estimate="gas" not in request
        )
        refused = answer.get("status") == "0x0"
        number, used = as_int(answer["blockNumber"]), as_int(answer["gasUsed"])
        blob_gas = BLOB_GAS * len(sidecar.blobs) if sidecar else 0
        self.ledger._add(
            block=number,
            sender=account,
            contract=contract,
            call=call,
            gas=used,
            blob_gas=blob_gas,
            refused=refused,
        )
        if refused:
            raise self._replay(request, number, label, errors)
        receipt = Receipt(
            tx_hash=str(answer["transactionHash"]),
            gas=used,
            block=number,
            events=self._decode_known(answer["logs"]),
            call=call,
            sender=account.address,
            contract=contract,
            blob_gas=blob_gas,
        )
        return receipt, nonce

    def _send(
        self,
        account: Account,
        request: dict[str, Any],
        sidecar: Sidecar | None,
        label: str,
        errors: Mapping[bytes, str] | None,
        *,
        check: bool,
        estimate: bool,
    ) -> tuple[Mapping[str, Any], int]:
        """Send a signed transaction; give the node's receipt and the transaction's number (nonce)."""
        at_once = self._transacts_at_once and check
        calls: list[Call] = [
            ("eth_getTransactionCount", [account.address, "pending"]),
            ("eth_gasPrice", []),
            ("eth_getBalance", [account.address, "latest"]),
        ]
        if sidecar:
            calls.append(("eth_blobBaseFee", []))
        facts = len(calls)
        if check and not at_once:
            calls.append(("eth_call", [request, "pending"]))
        if estimate:
            calls.append(("eth_estimateGas", [request]))
        for attempt in range(_NONCE_ATTEMPTS):
            with account.lock:
                answers = self._node.batch(calls)
                for answer in answers[:facts]:
                    if isinstance(answer, Fault):
                        raise self._without_blobs(answer, label) if sidecar else answer
                if estimate and isinstance(answers[-1], Fault):
                    raise self._explained(answers[-1], label, errors, account)
                nonce, price, balance, *blob_price = (as_int(answer) for answer in answers[:facts])
                blob_fee = 2 * blob_price[0] if blob_price else 0
                limit = min(as_int(answers[-1]) * 5 // 4, TX_GAS) if estimate else as_int(request["gas"])
                fields = self._fields(request, account, nonce, price, blob_fee, balance, limit, label)
                for answer in answers[facts:]:
                    if isinstance(answer, Fault):
                        raise self._explained(answer, label, errors, account)
                raw, tx_hash = account.sign_transaction(fields)
                if sidecar:
                    # development chains take either form of proofs, and this one is made five times faster
                    raw = sidecar.wrap(raw, cells=not self.is_development)
                try:
                    sent = self._node.request("twopm_transact" if at_once else "eth_sendRawTransaction", raw)
                    break
                except Fault as fault:
                    # another process that signs with the same key was faster
                    if "nonce" not in fault.words.lower() or attempt == _NONCE_ATTEMPTS - 1:
                        raise self._explained(fault, label, errors, account) from None
        answer = _receipt(sent) if at_once else self._wait(tx_hash)
        if answer["transactionHash"] != tx_hash:
            raise ChainError(
                f"the node answered about another transaction than {tx_hash}",
                hint="use a node that you trust",
            )
        return answer, nonce

    def _without_blobs(self, fault: Fault, label: str) -> ChainError:
        if fault.code != jsonrpc.UNKNOWN_METHOD:
            return fault
        return ChainError(
            f"{label} carries blobs, and this chain takes none",
            hint="ask chain.supports('blobs') before; the embedded chain and anvil take them",
        )

    def _fields(
        self,
        request: Mapping[str, Any],
        account: Account,
        nonce: int,
        price: int,
        blob_fee: int,
        balance: int,
        limit: int,
        label: str,
    ) -> dict[str, Any]:
        """Fill in a transaction (EIP-1559, with blobs EIP-4844), within what the account can pay."""
        value = as_int(request["value"])
        hashes = request.get("blobVersionedHashes", [])
        most = 2 * price
        affordable = (balance - value - BLOB_GAS * len(hashes) * blob_fee) // most if most else limit
        if affordable < _TRANSFER_GAS or (not self.is_development and affordable < limit):
            raise AccountError(
                f"{account.name!r} has {_ether(balance)}, too little for {label} with {_ether(value)}",
                hint=f"send coins to {account.address}"
                + (f", or call chain.account({account.name!r}, fund=…)" if self.is_development else ""),
            )
        return {
            "type": 3 if hashes else 2,
            "chainId": self.chain_id,
            "nonce": nonce,
            "maxFeePerGas": most,
            "maxPriorityFeePerGas": min(10**9, most),
            "gas": min(limit, affordable),
            "value": value,
            "data": request["data"],
            **({"to": request["to"]} if "to" in request else {}),
            **({"maxFeePerBlobGas": blob_fee, "blobVersionedHashes": hashes} if hashes else {}),
        }

    def _explained(
        self, fault: Fault, label: str, errors: Mapping[bytes, str] | None, account: Account
    ) -> ChainError:
        words = fault.words.lower()
        if fault.data is None and ("insufficient" in words or "enough" in words):
            return AccountError(
                f"{account.name!r} has too little for {label}: {fault.words}",
                hint=f"send coins to {account.address}, or lower value=",
            )
        if was_execution(fault):
            return refusal(fault, label, errors)
        return fault

    def _replay(
        self, request: Mapping[str, Any], block: int, label: str, errors: Mapping[bytes, str] | None
    ) -> ChainError:
        """Find out why a mined transaction failed, by asking again at its block and at the one before."""
        for at in (block, block - 1):
            try:
                self._node.request("eth_call", request, hex(at))
            except Fault as fault:
                if was_execution(fault):
                    why = refusal(fault, label, errors)
                    return reverted(label, why.reason, mined=f" (in block {block}; its gas is spent)")
        return reverted(label, "", mined=f" (in block {block}; its gas is spent)")

    def _wait(self, tx_hash: Any, timeout: float = 120.0) -> Mapping[str, Any]:
        give_up = time.monotonic() + timeout
        pause, slowest = (0.0005, 0.05) if self.is_development else (0.1, 2.0)
        while True:
            answer = self._node.request("eth_getTransactionReceipt", tx_hash)
            if answer is not None:
                return _receipt(answer)
            if time.monotonic() > give_up:
                raise ChainError(
                    f"the transaction {str(tx_hash)[:66]} was not mined within {timeout:g} seconds",
                    hint="look for it in a block explorer before you send it again",
                )
            time.sleep(pause)
            pause = min(2 * pause, slowest)

    # Events ---------------------------------------------------------------------------------------------

    def logs(self, address: str, topics: Sequence[Any], first: int, last: int) -> list[Log]:
        """Read log entries of a contract from a range of blocks, both ends included, oldest first."""
        found: list[Log] = []
        first, last = _whole("from_block", first), _whole("to_block", last)
        span = last - first + 1 if self.is_development else _LOG_SPAN
        for start in range(first, last + 1, max(span, 1)):
            query = {
                "address": address,
                "topics": list(topics),
                "fromBlock": hex(start),
                "toBlock": hex(min(start + span - 1, last)),
            }
            answer = self._node.request("eth_getLogs", query)
            if not isinstance(answer, list):
                raise ChainError(
                    "the node's logs are not a list", hint="check that the URL belongs to an EVM node"
                )
            found += [parse_log(item) for item in answer]
        # a node that answers with logs of another contract is not believed
        found = [log for log in found if log.address == address and first <= log.block <= last]
        return sorted(found, key=lambda log: (log.block, log.log_index))

    def _decode_known(self, logs: Sequence[Any]) -> list[Event]:
        events = []
        for item in logs:
            log = parse_log(item)
            event = decode_event(self._event_entries.get(log.address, {}), log)
            if event is not None:
                events.append(event)
        return events

    # Development ----------------------------------------------------------------------------------------

    def control(self, method: str, *parameters: Any) -> Any:
        """Ask for something that only development chains do.

        Raises
        ------
        ChainError
            When the node cannot.
        """
        try:
            return self._node.request(method, *parameters)
        except Fault as fault:
            unknown = fault.code == jsonrpc.UNKNOWN_METHOD
            raise ChainError(
                f"this chain cannot do {method}" + ("" if unknown else f": {fault.words}"),
                hint="use a development chain: kit.chain.connect() or kit.chain.connect('anvil')",
            ) from None

    def go_back(self, number: Any) -> bool:
        """Revert to a snapshot by the node's number for it; False when the node has forgotten it."""
        self._let_the_pool_empty()
        try:
            return self._node.request("evm_revert", number) is True
        except Fault as fault:
            if fault.code == jsonrpc.UNKNOWN_METHOD:
                raise
            return False  # anvil refuses where others answer false

    def _let_the_pool_empty(self, timeout: float = 1.0) -> None:
        """Wait until mined transactions have left the pool.

        Anvil shows a receipt a moment before. A chain that goes back in that moment would count such a
        transaction as waiting: the sender's next one would get a number too high and never be mined.
        """
        give_up = time.monotonic() + timeout
        while time.monotonic() < give_up:
            try:
                pool = self._node.request("txpool_status")
            except Fault:
                return  # a node without a pool: the embedded chain
            if not isinstance(pool, Mapping) or as_int(pool.get("pending", "0x0")) == 0:
                return
            time.sleep(0.0005)

    def snapshot(self) -> Snapshot:
        """Remember this moment: ``revert()`` the result later, or use it in a ``with`` block."""
        block = self.block_number
        return Snapshot(self, self.control("evm_snapshot"), block)

    def mine(self, n: int = 1) -> int:
        """Mine empty blocks and give the number of the last.

        Raises
        ------
        ChainError
            When the node cannot.
        """
        if _whole("n", n) < 1:
            raise CallError(f"{n} blocks cannot be mined", hint="pass at least 1")
        self.control("anvil_mine", hex(n))
        return self.block_number

    def warp(self, seconds: int) -> int:
        """Move the chain's clock forward, mine one block then, and give its time.

        Raises
        ------
        ChainError
            When the node cannot.
        """
        if _whole("seconds", seconds) < 1:
            raise CallError(f"the clock cannot be moved by {seconds} seconds", hint="pass at least 1")
        self.control("evm_increaseTime", hex(seconds))
        self.control("evm_mine")
        return self.timestamp

    def serve(self, port: int = 0) -> "Server":
        """Share the embedded chain over loopback HTTP, so that other processes and kernels meet on it.

        Parameters
        ----------
        port : int
            Port on 127.0.0.1; a free one by default.

        Returns
        -------
        Server
            Also a context manager; others call ``kit.chain.connect(server.url)``.

        Raises
        ------
        ChainError
            When the chain has a URL already, or the port is taken.
        """
        if self.kind != "embedded":
            raise ChainError(
                f"a chain of kind {self.kind!r} has a URL already",
                hint="connect with kit.chain.connect(chain.url)",
            )
        from twopm_kit.chain.server import Server

        server = Server(self._node, port)
        self._servers.append(server)
        return server

    def close(self) -> None:
        """End what this connection started: servers, the anvil process, open connections."""
        for server in self._servers:
            server.close()
        self._node.close()

    def __enter__(self) -> "Chain":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Chain {self.kind}, id {self.chain_id}, {len(self._accounts)} accounts>"

    def _repr_html_(self) -> str:
        try:
            block, balances = self.block_number, [_ether(self.balance(account)) for account in self.accounts]
        except ChainError:
            return f"<div>{escape(repr(self))}, not reachable</div>"
        rows = "".join(
            f"<tr><td>{escape(account.name)}</td><td><code>{account.address}</code></td><td>{balance}</td></tr>"
            for account, balance in zip(self.accounts, balances, strict=True)
        )
        return (
            f"<div><strong>Chain</strong> {escape(self.kind)}, id {self.chain_id}, block {block}"
            f"<table><tr><th>account</th><th>address</th><th>balance</th></tr>{rows}</table></div>"
        )


def _artifact(what: Any) -> Artifact:
    if isinstance(what, Artifact):
        return what
    if isinstance(what, str):
        return artifact(what)
    raise UnknownContract(
        f"{type(what).__name__} is not a contract; expected a name or an artefact",
        hint="pass the name of a bundled contract or what kit.chain.compile returned",
    )


def _receipt(answer: Any) -> Mapping[str, Any]:
    needed = {"blockNumber", "gasUsed", "logs", "status", "transactionHash"}
    if not isinstance(answer, dict) or not needed <= set(answer):
        raise ChainError("the node's receipt is not one", hint="check that the URL belongs to an EVM node")
    return answer


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or value.__index__() < 0:
        raise CallError(f"{name} must be a whole number, at least 0, not {value!r}", hint=f"correct {name}=")
    return int(value.__index__())


def _ether(wei: int) -> str:
    return f"{wei / ETHER:,.6g} ether"
