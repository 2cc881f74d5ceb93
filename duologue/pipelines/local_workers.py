"""Worker processes of the in-process runner, whose death ends the run whenever it comes."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import threading
from typing import Any

from apache_beam.portability import python_urns
from apache_beam.portability.api import beam_fn_api_pb2, endpoints_pb2
from apache_beam.runners.portability.fn_api_runner import worker_handlers
from apache_beam.transforms.environments import SubprocessSDKEnvironment
from google.protobuf import json_format, text_format


def environment() -> SubprocessSDKEnvironment:
    """Return the environment of worker processes on this machine, with this Python."""
    command = shlex.join([sys.executable, "-m", "duologue.pipelines.worker"])
    return SubprocessSDKEnvironment.from_command_string(command_string=command)


# In the place of Beam's own, which hears of a death only from a worker that has its work and owes a result: for one
# that dies as it starts, or as it is told what to do, it waits for ever.
@worker_handlers.WorkerHandler.register_environment(python_urns.SUBPROCESS_SDK, bytes)
class _Worker(worker_handlers.GrpcWorkerHandler):
    """Starts a worker process, and ends all waiting for it when it dies."""

    def __init__(self, command: bytes, state: Any, provision_info: Any, grpc_server: Any) -> None:
        super().__init__(state, provision_info, grpc_server)
        self._command = shlex.split(command.decode())
        self._connection: Any = self.control_conn
        self._push = self._connection.push
        self._closing = False

    def start_worker(self) -> None:
        control = endpoints_pb2.ApiServiceDescriptor(url=self.control_address)
        variables = {
            "CONTROL_API_SERVICE_DESCRIPTOR": text_format.MessageToString(control),
            "PIPELINE_OPTIONS": json_format.MessageToJson(self.provision_info.provision_info.pipeline_options),
            "WORKER_ID": self.worker_id,
        }
        with worker_handlers.SUBPROCESS_LOCK:
            self._process = subprocess.Popen(self._command, env={**os.environ, **variables})
        self._watching = threading.Thread(name="watch_worker", target=self._watch)
        self._watching.start()

    def _watch(self) -> None:
        code = self._process.wait()
        if not self._closing:
            self._give_up(RuntimeError(f"a worker process died with exit code {code}"))

    def _give_up(self, death: Exception) -> None:
        def refused(request: Any) -> Any:
            if not isinstance(request, beam_fn_api_pb2.InstructionRequest):
                # The mark that there is no more to do: it lets Beam's own thread go.
                return self._push(request)
            future: Any = self._push(request)
            future.abort(death)
            return future

        self._connection.push = refused
        self._connection.abort(death)
        self.data_conn.close()

    def close(self) -> None:
        self._closing = True
        if self._connection._state == worker_handlers.BeamFnControlServicer.UNSTARTED_STATE:
            # It has not called yet: nobody could tell it to end.
            self._process.kill()
        super().close()

    def stop_worker(self) -> None:
        self._watching.join()
