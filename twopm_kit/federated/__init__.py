"""Federated learning through the chain: tasks, nodes, and networks of them.

A task says what to compute; a network runs it in rounds of secure aggregation, so that only sums over many
nodes ever become readable.

>>> network = LocalNetwork(frames)
>>> result = network.run(task, drop={2: ["node-3"]})
>>> result.state_dict, result.history, result.gas, result.rounds
"""

from twopm_kit.federated.contract import AggregationContract, Phase, Roster, RoundStatus, Seat, Step, Terms
from twopm_kit.federated.coordinator import Coordinator
from twopm_kit.federated.events import Observer, RoundEvent
from twopm_kit.federated.horizontal import HorizontalLearning
from twopm_kit.federated.inspect import Inspector, OpenedBox
from twopm_kit.federated.logit import LogitResult, LogitTask
from twopm_kit.federated.mailbox import Mailbox
from twopm_kit.federated.moments import Moments, MomentsResult
from twopm_kit.federated.network import LocalNetwork
from twopm_kit.federated.node import Node
from twopm_kit.federated.result import FederatedResult, RoundRecord, RunRecord
from twopm_kit.federated.strategy import FaultTolerantFedAvg
from twopm_kit.federated.task import Criteria, State, Task, Update

__all__ = [
    "AggregationContract",
    "Coordinator",
    "Criteria",
    "FaultTolerantFedAvg",
    "FederatedResult",
    "HorizontalLearning",
    "Inspector",
    "LocalNetwork",
    "LogitResult",
    "LogitTask",
    "Mailbox",
    "Moments",
    "MomentsResult",
    "Node",
    "Observer",
    "OpenedBox",
    "Phase",
    "Roster",
    "RoundEvent",
    "RoundRecord",
    "RoundStatus",
    "RunRecord",
    "Seat",
    "State",
    "Step",
    "Task",
    "Terms",
    "Update",
]
