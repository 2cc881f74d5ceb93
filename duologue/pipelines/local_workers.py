"""Worker processes of the in-process runner, whose death ends the run whenever it comes."""

from __future__ import annotations

import json
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from apache_beam.portability import python_urns
from apache_beam.portability.api import beam_fn_api_pb2, endpoints_pb2
from apache_beam.runners.portability.fn_api_runner import worker_handlers
from apache_beam.transforms.environments import SubprocessSDKEnvironment
from google.protobuf import json_format, text_format

from duologue import children


def environment() -> SubprocessSDKEnvironment:
    """Return the environment of worker processes on this machine, with this Python."""
    command = shlex.join(children.command_of("duologue.pipelines.worker"))
    return SubprocessSDKEnvironment.from_command_string(command_string=command)


class _Process:
    """A worker process, which serves one pipeline after the other."""

    def __init__(self, command: Sequence[str]) -> None:
        with worker_handlers.SUBPROCESS_LOCK:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0, env=children.environment())
        self._stdin: Any = self._process.stdin
        self._on_death: Callable[[int], None] | None = None
        self._watching = threading.Thread(name="watch_worker", target=self._watch)
        self._watching.start()

    def serve(self, variables: Mapping[str, str], on_death: Callable[[int], None]) -> None:
        """Let it serve a pipeline, and tell of its death, with the exit code, if it comes before `leave`."""
        self._on_death = on_death
        try:
            self._stdin.write(json.dumps(variables).encode() + b"\n")
        except BrokenPipeError:
            on_death(self._process.wait())

    def leave(self) -> None:
        """Tell nobody of its death any more."""
        self._on_death = None

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def close(self) -> None:
        """Wait until it has ended what it serves, and itself."""
        self._stdin.close()
        self._watching.join()

    def _watch(self) -> None:
        code = self._process.wait()
        if on_death := self._on_death:
            on_death(code)


_idle: list[_Process] | None = None


@contextmanager
def kept() -> Iterator[None]:
    """Let the workers of a pipeline serve those that come after it: starting takes them seconds."""
    global _idle
    _idle = []
    try:
        yield
    finally:
        for process in _idle:
            process.close()
        _idle = None


# In the place of Beam's own, which hears of a death only from a worker that has its work and owes a result: for one
# that dies as it starts, or as it is told what to do, it waits for ever.
@worker_handlers.WorkerHandler.register_environment(python_urns.SUBPROCESS_SDK, bytes)
class _Worker(worker_handlers.GrpcWorkerHandler):
    """Has a worker process serve a pipeline, and ends all waiting for it when it dies."""

    def __init__(self, command: bytes, state: Any, provision_info: Any, grpc_server: Any) -> None:
        super().__init__(state, provision_info, grpc_server)
        self._command = shlex.split(command.decode())
        self._connection: Any = self.control_conn
        self._push = self._connection.push

    def start_worker(self) -> None:
        control = endpoints_pb2.ApiServiceDescriptor(url=self.control_address)
        variables = {
            "CONTROL_API_SERVICE_DESCRIPTOR": text_format.MessageToString(control),
            "PIPELINE_OPTIONS": json_format.MessageToJson(self.provision_info.provision_info.pipeline_options),
            "WORKER_ID": self.worker_id,
        }
        self._process = _idle.pop() if _idle else _Process(self._command)
        self._process.serve(variables, self._give_up)

    def _give_up(self, code: int) -> None:
        death = RuntimeError(f"a worker process died with exit code {code}")

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
        self._process.leave()
        if self._connection._state == worker_handlers.BeamFnControlServicer.UNSTARTED_STATE:
            # It has not called yet: nobody could tell it to end.
            self._process.kill()
        super().close()

    def stop_worker(self) -> None:
        if _idle is None:
            self._process.close()
        else:
            _idle.append(self._process)
