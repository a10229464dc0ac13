"""The round contract with typed answers: what ``SecureAggregation.vy`` says, as dataclasses."""

from dataclasses import astuple, dataclass
from enum import IntEnum
from typing import Any

from eth_hash.auto import keccak

from twopm_kit.chain import Account, Chain, Contract, Receipt
from twopm_kit.errors import TaskError
from twopm_kit.federated.task import Task, state_hash
from twopm_kit.secagg import Encoder, RoundContext, ShareAnnouncement, party_id

__all__ = ["AggregationContract", "Phase", "Roster", "RoundStatus", "Seat", "Step", "Terms", "dataset_id"]

CONTRACT = "SecureAggregation"
MAX_WORDS = 520
ZERO = bytes(32)


class Phase(IntEnum):
    """Phases of a round, with the contract's numbers."""

    IDLE = 0
    SHARE = 1
    SUBMIT = 2
    OPEN = 3
    DONE = 4
    ABORTED = 5


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
    max_rounds: int
    join_blocks: int
    step_blocks: int

    @classmethod
    def of(cls, task: Task, *, join_blocks: int, step_blocks: int) -> "Terms":
        """Return the terms that describe a task.

        Raises
        ------
        TaskError
            If the vector is longer than one transaction carries, or the threshold is not the contract's.
        """
        words = encoder_of(task).elements
        if words > MAX_WORDS:
            raise TaskError(
                f"the task sends {task.update_size()} values, which fill {words} field elements; "
                f"masked vectors that travel as calldata have at most {MAX_WORDS}",
                hint="use a smaller model: up to 4,096 parameters fit in lanes of 32 bits",
            )
        config = task.round_config()
        clients = task.max_clients
        if config.threshold(clients) != clients // 2 + 1:
            raise TaskError(
                f"gamma={config.gamma} asks for {config.threshold(clients)} of {clients} shares, "
                f"the contract for {clients // 2 + 1}",
                hint="lower gamma below one half",
            )
        criteria = task.criteria
        return cls(
            code_hash=task.code_hash(),
            params_hash=keccak(task.parameters()),
            genesis_hash=state_hash(task.initial_state()),
            dataset_id=dataset_id(task.dataset_name()),
            min_rows=criteria.min_rows,
            min_stake=criteria.min_stake,
            min_clients=task.min_clients,
            max_clients=task.max_clients,
            words=words,
            lanes=config.lanes,
            max_rounds=task.max_rounds,
            join_blocks=join_blocks,
            step_blocks=step_blocks,
        )


@dataclass(frozen=True)
class RoundStatus:
    """State of one round on chain."""

    phase: Phase
    deadline: int
    threshold: int
    selected: int
    shared: int
    submitted: int
    opened: int
    result_hash: bytes


class Step(IntEnum):
    """How far a member has come in a round, with the contract's numbers."""

    SELECTED = 1
    SHARED = 2
    SUBMITTED = 3
    OPENED = 4
    ATTESTED = 5


@dataclass(frozen=True)
class Seat:
    """What one member has committed to in one round."""

    node: str
    box_key: bytes
    step: Step
    mask_key: bytes
    seed_hash: bytes
    share_root: bytes
    open_root: bytes

    @property
    def announcement(self) -> ShareAnnouncement:
        """The member's share announcement; meaningful once it has shared."""
        return ShareAnnouncement(party_id(self.node), self.mask_key, self.seed_hash, self.share_root)


@dataclass(frozen=True)
class Roster:
    """Everything that the members of a round have published, as one look at the chain shows it.

    Attributes
    ----------
    seats : tuple of Seat
        In the order of the members' scores.
    """

    seats: tuple[Seat, ...]

    def reached(self, step: Step) -> list[Seat]:
        """Return the seats of the members that have come at least this far."""
        return [seat for seat in self.seats if seat.step >= step]

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
        """Accounts whose vector is in the sum; final once the SUBMIT phase is over."""
        return [seat.node for seat in self.reached(Step.SUBMITTED)]

    @property
    def openers(self) -> list[str]:
        """Accounts that have opened shares."""
        return [seat.node for seat in self.reached(Step.OPENED)]

    @property
    def announcements(self) -> list[ShareAnnouncement]:
        """What every member that shared has put on chain."""
        return [seat.announcement for seat in self.reached(Step.SHARED)]


def dataset_id(name: str) -> bytes:
    """Return the identifier of a data set on chain: keccak256 of its name, zero for any."""
    return keccak(name.encode()) if name else ZERO


def encoder_of(task: Task) -> Encoder:
    """Return the encoder that every party of a task uses."""
    return Encoder(task.round_config(), task.update_size(), metrics=len(task.metric_names))


class AggregationContract:
    """One deployed round contract, as one party sees it through its own connection.

    Parameters
    ----------
    chain : Chain
        The party's connection.
    contract : Contract
        The deployed contract.
    """

    def __init__(self, chain: Chain, contract: Contract) -> None:
        self.chain = chain
        self.contract = contract
        self.address = contract.address

    @classmethod
    def deploy(cls, chain: Chain, sender: Account) -> "AggregationContract":
        """Put a fresh contract on the chain."""
        return cls(chain, chain.deploy(CONTRACT, sender=sender))

    @classmethod
    def at(cls, chain: Chain, address: str) -> "AggregationContract":
        """Take the contract that is deployed at an address, if its code is the kit's own."""
        return cls(chain, chain.at(CONTRACT, address, exact=True))

    def __repr__(self) -> str:
        return f"AggregationContract({self.address})"

    def context(self, task_id: int, round: int) -> RoundContext:
        """Return what every message of a round is bound to."""
        return RoundContext(self.chain.chain_id, self.address, task_id, round)

    # Views --------------------------------------------------------------------------------------------

    def terms(self, task_id: int) -> Terms:
        """Return the terms of a task."""
        return Terms(*self._task(task_id)[1])

    def join_deadline(self, task_id: int) -> int:
        """Return the last block in which a node may join."""
        return int(self._task(task_id)[2])

    def current_round(self, task_id: int) -> int:
        """Return the number of the latest round, 0 before the first."""
        return int(self._task(task_id)[4])

    def status(self, task_id: int, round: int) -> RoundStatus:
        """Return the state of a round."""
        phase, *rest = self.contract.round_info(task_id, round)
        return RoundStatus(Phase(phase), *rest)

    def stake(self, task_id: int, node: str) -> int:
        """Return the coins, in wei, that a node has at stake."""
        return int(self.contract.membership(task_id, node)[4])

    def roster(self, task_id: int, round: int) -> Roster:
        """Return everything that the members of a round have published."""
        return Roster(
            tuple(
                Seat(node, box_key, Step(seat[0]), *seat[1:])
                for node, box_key, seat in self.contract.roster(task_id, round)
            )
        )

    def masked_sum(self, task_id: int) -> list[int]:
        """Return the field elements that the contract has added up in the current round."""
        return list(self.contract.masked_sum(task_id))

    # Transactions -------------------------------------------------------------------------------------

    def send(self, method: str, *args: Any, sender: Account, value: int = 0) -> Receipt:
        """Send one transaction."""
        receipt: Receipt = getattr(self.contract, method)(*args, sender=sender, value=value)
        return receipt

    def register(self, terms: Terms, allow_list: tuple[str, ...], sender: Account) -> tuple[int, Receipt]:
        """Register a task; return its number and the receipt."""
        receipt = self.send("register", astuple(terms), list(allow_list), sender=sender)
        return int(receipt.events[0].args["task"]), receipt

    def _task(self, task_id: int) -> Any:
        return self.contract.task_info(task_id)
