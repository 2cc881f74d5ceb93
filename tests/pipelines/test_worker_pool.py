from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import pytest
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc, endpoints_pb2

from duologue.pipelines.worker_pool import WorkerPool
from tests.pipelines.killing import children, kill


class Engine(beam_fn_api_pb2_grpc.BeamFnControlServicer):
    """What an engine has for workers to call: it notes who has called, and who has hung up."""

    def __init__(self) -> None:
        self.heard: SimpleQueue[tuple[str, str]] = SimpleQueue()

    def Control(self, responses: Iterator[Any], context: Any) -> Iterator[Any]:
        worker = dict(context.invocation_metadata())["worker_id"]
        self.heard.put((worker, "called"))
        context.add_callback(lambda: self.heard.put((worker, "hung up")))
        yield from (beam_fn_api_pb2.InstructionRequest() for _ in responses)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Engine, str]]:
    # The pool starts its workers by the name `python`.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    engine, server = Engine(), grpc.server(ThreadPoolExecutor(4))
    beam_fn_api_pb2_grpc.add_BeamFnControlServicer_to_server(engine, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield engine, f"127.0.0.1:{port}"
    server.stop(None).wait()


def started(pool: WorkerPool, worker: str, url: str) -> int:
    """Ask the pool for a worker; return its process."""
    before = set(children(os.getpid()))
    control = endpoints_pb2.ApiServiceDescriptor(url=url)
    request = beam_fn_api_pb2.StartWorkerRequest(worker_id=worker, control_endpoint=control)
    assert pool.StartWorker(request, None).error == ""
    (process,) = set(children(os.getpid())) - before
    return process


def test_a_worker_that_dies_before_it_has_called_is_told_of(engine: tuple[Engine, str]) -> None:
    process = started(WorkerPool(use_process=True), "first", engine[1])
    kill([process])
    heard = [engine[0].heard.get(timeout=60) for _ in range(2)]
    assert heard == [("first", "called"), ("first", "hung up")]


def test_a_worker_that_calls_speaks_for_itself_and_one_that_is_stopped_is_not_told_of(
    engine: tuple[Engine, str],
) -> None:
    pool = WorkerPool(use_process=True)
    process = started(pool, "second", engine[1])
    assert engine[0].heard.get(timeout=60) == ("second", "called")
    assert process in children(os.getpid())
    pool.StopWorker(beam_fn_api_pb2.StopWorkerRequest(worker_id="second"), None)
    assert engine[0].heard.get(timeout=60) == ("second", "hung up")
    assert process not in children(os.getpid())
    # Whoever is told of after this one comes before the next.
    kill([started(pool, "third", engine[1])])
    assert engine[0].heard.get(timeout=60) == ("third", "called")
