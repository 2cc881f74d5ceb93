"""A pool of worker processes for engines that ask for them: `--environment_type=EXTERNAL` on Flink or Spark.

python -m duologue.pipelines.worker_pool --service_port=50000
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import grpc
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer

_HANG_UP_S = 10


class WorkerPool(BeamFnExternalWorkerPoolServicer):
    """Beam's own pool, which besides says so when a worker dies.

    An engine waits for the call of a worker that it asked for, and for ever where that one died before.
    """

    def StartWorker(
        self, request: beam_fn_api_pb2.StartWorkerRequest, context: Any
    ) -> beam_fn_api_pb2.StartWorkerResponse:
        """Start a worker process, and answer whether it could be started."""
        response = super().StartWorker(request, context)
        if process := self._worker_processes.get(request.worker_id):
            Thread(target=self._watch, args=(process, request), daemon=True).start()
        return response

    def _watch(self, process: subprocess.Popen[bytes], request: beam_fn_api_pb2.StartWorkerRequest) -> None:
        process.wait()
        if request.worker_id not in self._worker_processes:
            # It was told to stop.
            return
        # To the engine this is a worker that calls and hangs up, which it takes for the failure that it is.
        worker = (("worker_id", request.worker_id),)
        with suppress(grpc.RpcError), grpc.insecure_channel(request.control_endpoint.url) as channel:
            control = beam_fn_api_pb2_grpc.BeamFnControlStub(channel).Control
            for _ in control(iter(()), metadata=worker, timeout=_HANG_UP_S):
                pass


def main() -> None:
    """Serve until told to end."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--service_port", type=int, required=True, help="where engines ask for workers")
    port = parser.parse_args().service_port
    # Workers are started by the name `python`: it must be this one.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    _, server = WorkerPool.start(use_process=True, port=port)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
