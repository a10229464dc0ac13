"""Runs a round of Flower's SecAgg+ in one process and prints what it took as JSON.

Needs the bench environment. Server and clients are those of the installed package, unchanged: the stages of
its SecAggPlusWorkflow, and its secaggplus_mod for each client. Messages are handed over in memory. Counted
are the stage functions alone, without Flower's handling of messages: all four of a client (the third is
quantisation, masks, and the vector as bytes); and of the server what follows the last masked vector (their
sum) and what lies between the last opened share and the strategy (secrets, masks, dequantisation).
"""

import copy
import importlib
import json
import logging
import platform
import random
import resource
import sys
import time
from importlib.metadata import version
from statistics import median
from types import SimpleNamespace

import numpy as np
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.common import (
    Code,
    FitIns,
    FitRes,
    Parameters,
    Status,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key, Stage
from flwr.compat.common import recorddict_compat as compat
from flwr.server.compat.legacy_context import LegacyContext
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.constant import Key as WorkflowKey
from flwr.server.workflow.secure_aggregation.secaggplus_workflow import SecAggPlusWorkflow
from flwr.supercore.task_identity import TaskIdentity

# The package gives the name of this module to the function in it.
client = importlib.import_module("flwr.client.mod.secure_aggregation.secaggplus_mod")

STAGES = {
    Stage.SETUP: "_setup",
    Stage.SHARE_KEYS: "_share_keys",
    Stage.COLLECT_MASKED_VECTORS: "_collect_masked_vectors",
    Stage.UNMASK: "_unmask",
}


class Clients:
    """All clients in this process, in the place of Flower's grid."""

    def __init__(self, vectors, gone):
        self.vectors, self.gone = vectors, gone
        self.contexts = {node: Context(1, node, {}, RecordDict(), {}) for node in vectors}
        self.seconds = {node: dict.fromkeys(STAGES, 0.0) for node in vectors}
        self.sent = dict.fromkeys(vectors, 0)
        self.answered = 0.0
        self.node = 0
        for stage, name in STAGES.items():
            setattr(client, name, self.timed(stage, getattr(client, name)))

    def timed(self, stage, function):
        """Add what a stage function takes to the seconds of the client whose turn it is."""

        def call(*arguments):
            start = time.perf_counter()
            result = function(*arguments)
            self.seconds[self.node][stage] += time.perf_counter() - start
            return result

        return call

    def train(self, message, context):
        """Answer as a client app does that has trained: its vector, and weight 1."""
        parameters = ndarrays_to_parameters([self.vectors[context.node_id]])
        result = FitRes(Status(Code.OK, ""), parameters, 1, {})
        return Message(compat.fitres_to_recorddict(result, keep_input=True), reply_to=message)

    def send_and_receive(self, messages, **_options):
        """Hand each message to its client and return the answers."""
        answers = [self.answer(message) for message in messages]
        self.answered = time.perf_counter()
        return answers

    def answer(self, message):
        """Let one client answer; who has left answers with an error."""
        self.node = message.metadata.dst_node_id
        stage = message.content.config_records[RECORD_KEY_CONFIGS][Key.STAGE]
        if stage == Stage.COLLECT_MASKED_VECTORS and self.node in self.gone:
            return Message(Error(0, "left"), reply_to=message)
        message.content = copy.deepcopy(message.content)  # clients take their copy apart
        answer = client.secaggplus_mod(message, self.contexts[self.node], self.train)
        for value in answer.content.config_records[RECORD_KEY_CONFIGS].values():
            listed = value if isinstance(value, list) else [value]
            self.sent[self.node] += sum(len(part) for part in listed if isinstance(part, bytes))
        return answer


class Strategy:
    """Selects every client and keeps the mean that the workflow hands over."""

    def __init__(self, nodes):
        self.nodes = nodes
        self.mean = None
        self.received = 0.0

    def configure_fit(self, _round, _parameters, _manager):
        instructions = FitIns(Parameters([], "numpy.ndarray"), {})
        return [(SimpleNamespace(node_id=node), instructions) for node in self.nodes]

    def aggregate_fit(self, _round, results, _failures):
        self.received = time.perf_counter()
        self.mean = parameters_to_ndarrays(results[0][1].parameters)[0]
        return None, {}


def run(members, parameters, drops, neighbours, threshold, clip, value_bits, seed, vectors):
    """Run a round; the first members drop out before they send their vector."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 0  # messages carry them
    random.seed(seed)  # the order in the ring
    np.random.seed(seed)  # the rounding  # noqa: NPY002
    table = np.load(vectors)
    windows = {i + 1: table[i : i + parameters] for i in range(members)}
    clients = Clients(windows, gone=set(range(1, drops + 1)))
    strategy = Strategy(list(windows))
    context = LegacyContext(Context(1, 0, {}, RecordDict(), {}), strategy=strategy)
    context.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({WorkflowKey.CURRENT_ROUND: 1})
    context.state.array_records[MAIN_PARAMS_RECORD] = compat.parameters_to_arrayrecord(
        ndarrays_to_parameters([]), keep_input=True
    )
    workflow = SecAggPlusWorkflow(
        neighbours + 1,
        threshold,
        max_weight=1.0,
        clipping_range=clip,
        quantization_range=1 << value_bits,
    )
    adding, collect = [], workflow.collect_masked_vectors_stage

    def timed_collect(*arguments):
        done = collect(*arguments)
        adding.append(time.perf_counter() - clients.answered)
        return done

    workflow.collect_masked_vectors_stage = timed_collect
    start = time.perf_counter()
    workflow(clients, context)
    whole = time.perf_counter() - start
    survivors = range(drops + 1, members + 1)
    clear = sum(windows[node].astype(np.float64) for node in survivors) / len(survivors)
    return {
        "client": median(sum(clients.seconds[node].values()) for node in survivors),
        "add": sum(adding),
        "unmask": strategy.received - clients.answered,
        "whole": whole,
        "client_up": int(median(clients.sent[node] for node in survivors)),
        "error": float(np.abs(strategy.mean - clear).max()),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "versions": {name: version(name) for name in ("flwr", "numpy", "cryptography", "pycryptodome")},
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    logging.getLogger("flwr").setLevel(logging.ERROR)
    print(json.dumps(run(**json.loads(sys.argv[1]))))
