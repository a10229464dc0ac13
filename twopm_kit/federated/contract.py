"""The round contract with typed answers: what ``SecureRound.vy`` says, as dataclasses."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from enum import IntEnum
from typing import Any, Self

from eth_hash.auto import keccak

from twopm_kit.chain import Account, Chain, Contract, Receipt
from twopm_kit.chain.abi import address_of
from twopm_kit.chain.deployed import Deployed
from twopm_kit.errors import ProtocolError, TaskError
from twopm_kit.federated.task import Task, state_hash
from twopm_kit.secagg import Encoder, RoundContext, ShareAnnouncement, party_id

__all__ = [
    "AggregationContract",
    "Phase",
    "Roster",
    "RoundStatus",
    "Seat",
    "Step",
    "Terms",
    "VerifierSeat",
    "dataset_id",
    "encoder_of",
]

JUDGE = "RoundJudge"
ZERO = bytes(32)
MAX_MEMBERS = 128
_KEPT_ROUNDS = 8  # whose events one party remembers
# A seat's word: account, step, and flags above them.
_STEP_AT, _STEP_MASK = 160, 0xFF
_DROPPED, _CONVICTED, _CHALLENGED, _ANSWERED = (1 << bit for bit in range(168, 172))


class Phase(IntEnum):
    """Phases of a round, with the contract's numbers."""

    IDLE = 0
    SHARE = 1
    SUBMIT = 2
    CHALLENGE = 3
    OPEN = 4
    DONE = 5
    ABORTED = 6


class Step(IntEnum):
    """How far a member has come in a round, with the contract's numbers."""

    SELECTED = 1
    SHARED = 2
    SUBMITTED = 3
    OPENED = 4
    ATTESTED = 5


@dataclass(frozen=True)
class Terms:
    """What a task's owner registers; field by field the struct of the contract."""

    code_hash: bytes
    params_hash: bytes
    genesis_hash: bytes
    dataset_id: bytes
    min_rows: int
    min_stake: int
    min_clients: int
    max_clients: int
    words: int
    lanes: int
    mode: int
    sealed: bool
    groups: int
    degree: int
    share_threshold: int
    max_rounds: int
    join_blocks: int
    step_blocks: int
    silence_penalty: int
    owner_key: bytes

    @classmethod
    def of(
        cls, task: Task, chain: Chain, *, join_blocks: int, step_blocks: int, owner_key: bytes = ZERO
    ) -> "Terms":
        """Return the terms that describe a task.

        Parameters
        ----------
        task : Task
        chain : Chain
            Where it will run; what it can do decides the mode that ``mode="auto"`` stands for.
        join_blocks, step_blocks : int
            Windows.
        owner_key : bytes
            X25519 key of the owner, to which openings are sealed; only sealed tasks have one.

        Raises
        ------
        RoundConfigError
            If the wished mode cannot be had for this size on this chain.
        """
        config = task.config()
        if task.max_clients > MAX_MEMBERS:
            raise TaskError(
                f"max_clients is {task.max_clients}; a round on chain has at most {MAX_MEMBERS} members",
                hint=f"pass max_clients={MAX_MEMBERS} or fewer: each round draws as many of all who joined",
            )
        words = encoder_of(task).elements
        mode = config.mode_for(words, blobs=chain.supports("blobs"), bls=chain.supports("bls"))
        graph = config.graph(task.max_clients)
        criteria = task.criteria
        sealed = config.visibility == "sealed"
        return cls(
            code_hash=task.code_hash(),
            params_hash=keccak(task.parameters()),
            genesis_hash=state_hash(task.genesis()),
            dataset_id=dataset_id(task.dataset_name()),
            min_rows=criteria.min_rows,
            min_stake=criteria.min_stake,
            min_clients=task.min_clients,
            max_clients=task.max_clients,
            words=words,
            lanes=config.lanes,
            mode=int(mode),
            sealed=sealed,
            groups=config.groups,
            degree=graph.degree,
            share_threshold=graph.threshold,
            max_rounds=task.max_rounds,
            join_blocks=join_blocks,
            step_blocks=step_blocks,
            silence_penalty=criteria.silence_penalty,
            owner_key=owner_key if sealed else ZERO,
        )


@dataclass(frozen=True)
class RoundStatus:
    """State of one round on chain."""

    phase: Phase
    deadline: int
    quorum: int
    selected: int
    shared: int
    submitted: int
    opened: int
    result_hash: bytes
    opened_block: int
    degree: int
    share_threshold: int


@dataclass(frozen=True)
class Seat:
    """What one member has committed to in one round.

    Attributes
    ----------
    number : int
        Its place in the ring.
    node : str
        Account.
    step : Step
    dropped, convicted, challenged, answered : bool
        Whether it was taken out of the sum, was found guilty of a fault, is asked to publish its vector, and
        has done so.
    box_key : bytes
        X25519 key under which others seal shares for it.
    mask_key, seed_hash, share_root, open_root : bytes
        Its commitments; zero as long as it has not spoken.
    data_root, commitments : bytes
        Of its masked vector, when vectors are not in calldata.
    """

    number: int
    node: str
    step: Step
    dropped: bool
    convicted: bool
    challenged: bool
    answered: bool
    box_key: bytes
    mask_key: bytes = ZERO
    seed_hash: bytes = ZERO
    share_root: bytes = ZERO
    data_root: bytes = ZERO
    commitments: bytes = b""
    open_root: bytes = ZERO

    @property
    def announcement(self) -> ShareAnnouncement:
        """The member's share announcement; meaningful once it has shared."""
        return ShareAnnouncement(party_id(self.node), self.mask_key, self.seed_hash, self.share_root)


@dataclass(frozen=True)
class VerifierSeat:
    """One verifier of a sealed task."""

    account: str
    box_key: bytes


@dataclass(frozen=True)
class Roster:
    """Everything that the members of a round have published, as one look at the chain shows it.

    Attributes
    ----------
    seats : tuple of Seat
        In ring order, the order of the members' scores.
    """

    seats: tuple[Seat, ...]

    def reached(self, step: Step) -> list[Seat]:
        """Return the seats of the members that have come at least this far."""
        return [seat for seat in self.seats if seat.step >= step]

    def seat_of(self, account: str) -> int:
        """Return the number of an account's seat.

        Raises
        ------
        ProtocolError
            If it has none.
        """
        for seat in self.seats:
            if seat.node == account:
                return seat.number
        raise ProtocolError(
            f"{account} has no seat in this round", hint="sit this round out: other members were drawn"
        )

    @property
    def members(self) -> list[str]:
        """Accounts that were selected."""
        return [seat.node for seat in self.seats]

    @property
    def sharers(self) -> list[str]:
        """Accounts whose shares are committed; final once the SHARE phase is over."""
        return [seat.node for seat in self.reached(Step.SHARED)]

    @property
    def survivors(self) -> list[str]:
        """Accounts whose vector is in the sum; final once the round is in its OPEN phase."""
        return [seat.node for seat in self.reached(Step.SUBMITTED)]

    @property
    def openers(self) -> list[str]:
        """Accounts that have opened shares."""
        return [seat.node for seat in self.reached(Step.OPENED)]

    @property
    def announcements(self) -> list[ShareAnnouncement]:
        """What every member that shared has put on chain."""
        return [seat.announcement for seat in self.reached(Step.SHARED)]

    def counts(self, groups: int) -> list[int]:
        """Return how many survivors each group has."""
        found = [0] * groups
        for seat in self.reached(Step.SUBMITTED):
            found[seat.number % groups] += 1
        return found


def dataset_id(name: str) -> bytes:
    """Return the identifier of a data set on chain: keccak256 of its name, zero for any."""
    return keccak(name.encode()) if name else ZERO


def encoder_of(task: Task) -> Encoder:
    """Return the encoder that every party of a task uses."""
    return Encoder(task.config(), task.update_size(), metrics=len(task.metric_names))


class AggregationContract(Deployed):
    """One deployed round contract, as one party sees it through its own connection.

    Parameters
    ----------
    chain : Chain
        The party's connection.
    contract : Contract
        The deployed contract.
    """

    CONTRACT = "SecureRound"

    def __init__(self, chain: Chain, contract: Contract) -> None:
        super().__init__(chain, contract)
        self._facts: dict[tuple[int, int], _Facts] = {}
        self._head: bytes | str | None = None
        self._answers: dict[Any, Any] = {}

    @classmethod
    def deploy(cls, chain: Chain, sender: Account) -> Self:
        """Put a fresh contract on the chain, and the judge that it asks beside it."""
        judge = chain.deploy(JUDGE, sender=sender)
        return cls(chain, chain.deploy(cls.CONTRACT, judge.address, sender=sender))

    @classmethod
    def at(cls, chain: Chain, address: str) -> Self:
        """Take the contract that is deployed at an address, if its code and its judge's are the kit's own."""
        found = super().at(chain, address)
        chain.at(JUDGE, found.contract.judge(), exact=True)
        return found

    def __repr__(self) -> str:
        return f"AggregationContract({self.address})"

    def context(self, task_id: int, round: int) -> RoundContext:
        """Return what every message of a round is bound to."""
        return RoundContext(self.chain.chain_id, self.address, task_id, round)

    # Views --------------------------------------------------------------------------------------------

    def owner(self, task_id: int) -> str:
        """Return the account that registered a task."""
        return str(self._task(task_id).owner)

    def terms(self, task_id: int) -> Terms:
        """Return the terms of a task."""
        return Terms(*self._task(task_id).terms)

    def verifiers(self, task_id: int) -> list[VerifierSeat]:
        """Return who attests in a sealed task."""
        return [VerifierSeat(*found) for found in self._once("verifiers", task_id)]

    def join_deadline(self, task_id: int) -> int:
        """Return the last block in which a node may join."""
        return int(self._task(task_id).join_deadline)

    def current_round(self, task_id: int) -> int:
        """Return the number of the latest round, 0 before the first."""
        return int(self._task(task_id).round)

    def status(self, task_id: int, round: int) -> RoundStatus:
        """Return the state of a round."""
        found = self._once("round_info", task_id, round)
        names = [field.name for field in fields(RoundStatus)]
        values = {name: getattr(found, name) for name in names}
        return RoundStatus(**values | {"phase": Phase(found.phase)})

    def last_fault_block(self, task_id: int) -> int:
        """Return the last block in which faults of the last round can be proved; then stakes are free."""
        found = self._task(task_id)
        return int(found.beacon_block) + int(found.terms.step_blocks) if found.round else 0

    def stake(self, task_id: int, node: str) -> int:
        """Return the coins, in wei, that a node has at stake."""
        return int(self.contract.membership(task_id, node).stake)

    def roster(self, task_id: int, round: int) -> Roster:
        """Return everything that the members of a round have published.

        The chain keeps one word for each fact; what is behind it is in the events, and believed only if it
        leads to that word.
        """
        key = (task_id, round)
        if key not in self._facts:
            start = self.status(task_id, round).opened_block
            self._facts[key] = _Facts(self.contract, task_id, round, start)
            for old in list(self._facts)[:-_KEPT_ROUNDS]:
                del self._facts[old]
        return Roster(self._facts[key].seats(self._once("roster", task_id, round)))

    def masked_sum(self, task_id: int) -> list[int]:
        """Return the field elements that the contract has added up in the current round."""
        return list(self.contract.masked_sum(task_id))

    # Transactions -------------------------------------------------------------------------------------

    def register(
        self,
        terms: Terms,
        allow_list: tuple[str, ...],
        sender: Account,
        *,
        verifiers: Sequence[VerifierSeat] = (),
        reward: int = 0,
    ) -> tuple[int, Receipt]:
        """Register a task; return its number and the receipt."""
        listed = [astuple(verifier) for verifier in verifiers]
        receipt = self.send("register", astuple(terms), list(allow_list), listed, sender=sender, value=reward)
        return int(receipt.events[0].args["task"]), receipt

    def _task(self, task_id: int) -> Any:
        return self._once("task_info", task_id)

    def _once(self, view: str, *args: int) -> Any:
        """Ask a view once a block: many parties of one process ask the same, and that takes time."""
        head = self.chain.block_hash(self.chain.block_number)
        if head is None or head != self._head:
            self._head, self._answers = head, {}
        if (view, *args) not in self._answers:
            self._answers[view, *args] = getattr(self.contract, view)(*args)
        return self._answers[view, *args]


class _Facts:
    """What the members of one round have said, read from events and held against the contract's words."""

    def __init__(self, contract: Contract, task_id: int, round: int, start: int) -> None:
        self._contract = contract
        self._where = (task_id, round)
        self._start = start
        self._rewind()

    def seats(self, rows: Sequence[Any]) -> tuple[Seat, ...]:
        if not self._complete(rows):
            self._read()
        if not self._complete(rows):
            # The chain went back: what was read is of a history that is gone.
            self._rewind()
            self._read()
        return tuple(self._seat(number, row) for number, row in enumerate(rows))

    def _rewind(self) -> None:
        task_id, round = self._where
        self._shared: dict[bytes, tuple[bytes, bytes, bytes]] = {}
        self._vectors: dict[bytes, tuple[bytes, bytes]] = {}
        self._cursors = [
            self._contract.cursor(name, position=self._start, task=task_id, round=round)
            for name in ("Shared", "Submitted")
        ]

    def _read(self) -> None:
        for event in self._cursors[0].read():
            said = event.args
            parts = (bytes(said["mask_key"]), bytes(said["seed_hash"]), bytes(said["share_root"]))
            self._shared[keccak(b"".join(parts))] = parts
        for event in self._cursors[1].read():
            root, points = bytes(event.args["data_root"]), bytes(event.args["commitments"])
            self._vectors[keccak(root + points)] = (root, points)

    def _complete(self, rows: Sequence[Any]) -> bool:
        shared = all(bytes(row.share_digest) in (ZERO, *self._shared) for row in rows)
        return shared and all(bytes(row.vector_digest) in (ZERO, *self._vectors) for row in rows)

    def _seat(self, number: int, row: Any) -> Seat:
        word = int(row.seat)
        mask_key, seed_hash, share_root = self._shared.get(bytes(row.share_digest), (ZERO, ZERO, ZERO))
        data_root, commitments = self._vectors.get(bytes(row.vector_digest), (ZERO, b""))
        return Seat(
            number=number,
            node=address_of((word & ((1 << _STEP_AT) - 1)).to_bytes(20, "big"), "a seat"),
            step=Step((word >> _STEP_AT) & _STEP_MASK),
            dropped=bool(word & _DROPPED),
            convicted=bool(word & _CONVICTED),
            challenged=bool(word & _CHALLENGED),
            answered=bool(word & _ANSWERED),
            box_key=bytes(row.box_key),
            mask_key=mask_key,
            seed_hash=seed_hash,
            share_root=share_root,
            data_root=data_root,
            commitments=commitments,
            open_root=bytes(row.open_root),
        )
