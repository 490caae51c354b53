"""A Ray cluster: every task is a Ray task, which Ray runs again elsewhere when its worker or node is lost.

Artifacts travel through the build directory, which all nodes must share under one path, as they must this project and
its environment; each task looks before it begins. Nothing but commands and exit codes passes through Ray itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when ray is imported: nothing is sent to its makers

import ray
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayError, RayTaskError, WorkerCrashedError

from pipeline.errors import ArtifactError, RecipeError, UnavailableError
from reconvert.execution import execute, without_secrets
from reconvert.key import converter_digest
from reconvert.task import GIB, Command, Executor, Options

RETRIES = 3  # of a task whose worker or node is lost
AT_ONCE = 64  # recipes whose tasks wait in Ray's queue
PATIENCE = 10.0  # seconds for a connection
START = "start one with `ray start --head` (and `ray start --address=...` on other nodes), and name its HOST:PORT"
LOST = (WorkerCrashedError, NodeDiedError, OutOfMemoryError)


@dataclass(frozen=True)
class Fleet:
    """Runs commands on whatever node has a core and the memory that the task asks for."""

    remote: Any  # the Ray task
    code: str
    at_once: int = AT_ONCE
    spreads: bool = True

    async def run(self, task: Command) -> int:
        """The command's exit code.

        UnavailableError when worker after worker was lost, ArtifactError when the nodes do not share what they must.
        """
        largest = max((node["Resources"].get("memory", 0) for node in ray.nodes() if node["Alive"]), default=0)
        if task.memory > largest:
            what = f"{task.label} asks for {task.memory / GIB:.1f} GiB, the largest node has {largest / GIB:.1f}"
            raise ArtifactError(what, where="--executor ray", hint="add a node with more memory")
        mark = f"# task {os.urandom(8).hex()}\n"
        with task.log.open("a", encoding="utf-8") as stream:
            stream.write(mark)
        reference = self.remote.options(memory=task.memory, name=task.label).remote(task, mark, self.code)
        try:
            return int(await reference)
        except asyncio.CancelledError:
            ray.cancel(reference, force=True)
            raise
        except RayTaskError as error:
            raise error.cause if isinstance(error.cause, ArtifactError) else error from error
        except LOST as error:
            hint = "look at the cluster's nodes: memory, disk, connection"
            raise UnavailableError(
                f"{task.label}: {RETRIES + 1} workers were lost", where=task.log, hint=hint
            ) from error


def work(task: Command, mark: str, code: str) -> int:
    """On a node: run the command. ArtifactError when this node does not share the build directory or the code."""
    node = str(ray.get_runtime_context().get_node_id())
    hint = "give every node the same build directory, project and environment under the same paths"
    if not task.log.is_file() or mark not in task.log.read_text(encoding="utf-8", errors="replace"):
        raise ArtifactError(f"node {node} does not share the build directory", where=task.log.parent, hint=hint)
    if converter_digest() != code:
        raise ArtifactError(f"node {node} has another version of this project", where=node, hint=hint)
    return asyncio.run(execute(task.command, task.log, without_secrets(os.environ), f"node {node}"))


@contextlib.asynccontextmanager
async def open_executor(options: Options) -> AsyncIterator[Executor]:
    """An executor on the cluster at an address; RecipeError when none is given or nothing answers there."""
    try:
        ray.init(address=_reached(options.address), log_to_driver=False, configure_logging=False)
    except (ConnectionError, ValueError, RuntimeError, RayError) as error:
        raise RecipeError(f"no Ray cluster: {error}", where="--address", hint=START) from error
    try:
        # A fresh worker for every task: what a stage's process inherits is the same every time.
        yield Fleet(ray.remote(num_cpus=1, max_calls=1, max_retries=RETRIES)(work), converter_digest())
    finally:
        ray.shutdown()


def _reached(address: str | None) -> str:
    """The address in a form that Ray takes as it is, of a cluster that answers: Ray itself waits for minutes.

    No cluster is started here: on Linux Ray's servers would listen on every interface of the machine.
    """
    host, _, port = (address or "").rpartition(":")
    if not host or not port.isdecimal():
        raise RecipeError("the executor ray needs the address of a cluster", where="--address", hint=START)
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise RecipeError(f"nothing answers at {address}: {error}", where="--address", hint=START) from error
    # Ray replaces loopback by the machine's own address, where a cluster that keeps to loopback does not listen.
    return f"[::ffff:127.0.0.1]:{port}" if host in ("127.0.0.1", "localhost") else f"{host}:{port}"
