"""Federated learning through the chain: tasks, nodes, and networks of them.

A task says what to compute; a network runs it in rounds of secure aggregation, so that only sums over many
nodes ever become readable.

>>> network = LocalNetwork(frames)
>>> result = network.run(task, drop={2: ["node-3"]})
>>> result.state_dict, result.history, result.gas, result.rounds
"""

from twopm_kit.federated.analytics import AnalyticsResult, AnalyticsTask, HorizontalAnalytics
from twopm_kit.federated.archive import TaskArchive
from twopm_kit.federated.contract import (
    AggregationContract,
    Phase,
    Roster,
    RoundStatus,
    Seat,
    Step,
    Terms,
    VerifierSeat,
)
from twopm_kit.federated.coordinator import Coordinator
from twopm_kit.federated.drift import DriftReport, DriftTask, drift_report
from twopm_kit.federated.events import Observer, RoundEvent
from twopm_kit.federated.faults import Evidence, Fault
from twopm_kit.federated.horizontal import HorizontalLearning
from twopm_kit.federated.inspect import Inspector, OpenedBox
from twopm_kit.federated.logit import LogitResult, LogitTask
from twopm_kit.federated.mailbox import Mailbox
from twopm_kit.federated.mnlogit import MNLogitResult, MNLogitTask
from twopm_kit.federated.moments import Moments, MomentsResult
from twopm_kit.federated.network import LocalNetwork
from twopm_kit.federated.node import Node
from twopm_kit.federated.privacy import Privacy, Spent
from twopm_kit.federated.result import FederatedResult, RoundRecord, RunRecord
from twopm_kit.federated.robust import Robust
from twopm_kit.federated.saved import load_result, save_result
from twopm_kit.federated.standardise import StandardFit, StandardiseTask, fit_standard
from twopm_kit.federated.strategy import FaultTolerantFedAvg, FedAdam, FedAvgM, FedProx, FedYogi
from twopm_kit.federated.task import Criteria, State, Task, Update
from twopm_kit.federated.union import CategoryUnion, CategoryUnionResult
from twopm_kit.federated.vault import Vault
from twopm_kit.federated.verifier import Verifier
from twopm_kit.federated.view import RoundView

__all__ = [
    "AggregationContract",
    "AnalyticsResult",
    "AnalyticsTask",
    "CategoryUnion",
    "CategoryUnionResult",
    "Coordinator",
    "Criteria",
    "DriftReport",
    "DriftTask",
    "Evidence",
    "Fault",
    "FaultTolerantFedAvg",
    "FedAdam",
    "FedAvgM",
    "FedProx",
    "FedYogi",
    "FederatedResult",
    "HorizontalAnalytics",
    "HorizontalLearning",
    "Inspector",
    "LocalNetwork",
    "LogitResult",
    "LogitTask",
    "MNLogitResult",
    "MNLogitTask",
    "Mailbox",
    "Moments",
    "MomentsResult",
    "Node",
    "Observer",
    "OpenedBox",
    "Phase",
    "Privacy",
    "Robust",
    "Roster",
    "RoundEvent",
    "RoundRecord",
    "RoundStatus",
    "RoundView",
    "RunRecord",
    "Seat",
    "Spent",
    "StandardFit",
    "StandardiseTask",
    "State",
    "Step",
    "Task",
    "TaskArchive",
    "Terms",
    "Update",
    "Vault",
    "Verifier",
    "VerifierSeat",
    "drift_report",
    "fit_standard",
    "load_result",
    "save_result",
]
