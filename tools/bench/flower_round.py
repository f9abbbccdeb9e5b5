"""One round of Flower's SecAgg+ without a network, measured; runs as a child in Flower's own environment.

Flower's own client and server code is driven stage by stage through a Grid that hands each message to the
client at once. Nothing of this product is imported. Prints one JSON object on standard output.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.client.mod.secure_aggregation.secaggplus_mod import secaggplus_mod
from flwr.common import Code, FitIns, FitRes, Status, ndarrays_to_parameters
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key, Stage
from flwr.common.serde import recorddict_to_proto
from flwr.compat.common import recorddict_compat as compat
from flwr.server.compat.legacy_context import LegacyContext
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.constant import Key as WorkflowKey
from flwr.server.workflow.secure_aggregation.secaggplus_workflow import SecAggPlusWorkflow
from flwr.supercore.task_identity import TaskIdentity

_RUN = 1
_WEIGHT = 1


class Strategy:
    """The least the workflow asks for: chooses everybody, keeps the sum."""

    def __init__(self, nodes: list[int]) -> None:
        self._nodes = nodes
        self.total: Any = None

    def configure_fit(self, _round: int, parameters: Any, _manager: Any) -> list[tuple[Any, Any]]:
        """Choose everybody."""
        return [(_Proxy(node), FitIns(parameters, {})) for node in self._nodes]

    def aggregate_fit(self, _round: int, results: Any, _failures: Any) -> tuple[Any, dict[str, Any]]:
        """Keep what the round came to: the mean, the same in every result."""
        self.total = results[0][1].parameters
        return None, {}


class _Proxy:
    def __init__(self, node: int) -> None:
        self.node_id, self.cid = node, str(node)


class _Manager:
    def __init__(self, count: int) -> None:
        self._count = count

    def num_available(self) -> int:
        """Return how many there are."""
        return self._count


class Grid:
    """Hands messages over, and measures what clients do with them."""

    def __init__(self, nodes: list[int], lanes: int, reading: float, silent: dict[int, str]) -> None:
        self.contexts = {
            node: Context(run_id=_RUN, node_id=node, node_config={}, state=RecordDict(), run_config={})
            for node in nodes
        }
        self._lanes, self._reading, self._silent = lanes, reading, silent
        self._gone = set[int]()
        self.client_ns = dict.fromkeys(nodes, 0)
        self.bytes_up = dict.fromkeys(nodes, 0)
        self.outside_ns = 0
        """CPU of this class itself and of the clients: not the server's."""

    def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> list[Any]:
        """Let each client answer; who is silent from a stage on stays silent."""
        start = time.process_time_ns()
        replies = [reply for message in messages if (reply := self._answer(message)) is not None]
        self.outside_ns += time.process_time_ns() - start
        return replies

    def _answer(self, message: Any) -> Any:
        node = message.metadata.dst_node_id
        stage = message.content.config_records[RECORD_KEY_CONFIGS][Key.STAGE]
        if self._silent.get(node) == stage:
            self._gone.add(node)
        if node in self._gone:
            return None
        # Each client gets content of its own, as behind a network: the code under test empties what it got.
        content = RecordDict()
        for name, record in message.content.items():
            content[name] = type(record)(dict(record)) if isinstance(record, ConfigRecord) else record
        inbound = Message(content, dst_node_id=node, message_type="train", group_id="1")
        start = time.process_time_ns()
        reply = secaggplus_mod(inbound, self.contexts[node], self._train)
        self.client_ns[node] += time.process_time_ns() - start
        self.bytes_up[node] += len(recorddict_to_proto(reply.content).SerializeToString())
        return reply

    def _train(self, message: Any, _context: Any) -> Any:
        """The reading of a client: the same vector for everybody."""
        parameters = ndarrays_to_parameters([np.full(self._lanes, self._reading)])
        result = FitRes(Status(Code.OK, ""), parameters, _WEIGHT, {})
        return Message(compat.fitres_to_recorddict(result, keep_input=False), reply_to=message)


def main(plan: dict[str, Any]) -> dict[str, Any]:
    """Run one round; return what it cost."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = _RUN, 0, 0
    nodes = list(range(1, plan["members"] + 1))
    silent = dict.fromkeys(plan["absent"], Stage.COLLECT_MASKED_VECTORS)
    silent |= dict.fromkeys(plan["lost"], Stage.UNMASK)
    grid = Grid(nodes, plan["lanes"], plan["reading"] / 10, silent)
    strategy = Strategy(nodes)
    state = RecordDict()
    state[MAIN_CONFIGS_RECORD] = ConfigRecord({WorkflowKey.CURRENT_ROUND: 1})
    state[MAIN_PARAMS_RECORD] = ArrayRecord([np.zeros(plan["lanes"])])
    bare = Context(run_id=_RUN, node_id=0, node_config={}, state=state, run_config={})
    context = LegacyContext(bare, strategy=strategy, client_manager=_Manager(len(nodes)))
    workflow = SecAggPlusWorkflow(plan["neighbours"] + 1, plan["threshold"], max_weight=1.0)
    start = time.process_time_ns()
    workflow(grid, context)
    whole = time.process_time_ns() - start
    if not strategy.total:
        raise SystemExit("the round came to no sum")
    mean = [float(x) for part in strategy.total.tensors for x in _array(part)]
    there = [node for node in nodes if node not in silent]
    return {
        "client_us": sum(grid.client_ns[node] for node in there) / len(there) / 1000,
        "server_us": (whole - grid.outside_ns) / 1000,
        "bytes_up": sum(grid.bytes_up[node] for node in there) / len(there),
        "mean": mean,
    }


def _array(tensor: bytes) -> Any:
    from flwr.common import bytes_to_ndarray

    return bytes_to_ndarray(tensor)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    sys.stdout.write(json.dumps(main(json.loads(sys.argv[1]))) + "\n")
