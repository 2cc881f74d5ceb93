"""Where work runs: Beam's in-process runner by default, any other by Beam's own flags."""

from __future__ import annotations

import json
import re
import shlex
import sys
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.runners.runner import PipelineRunner
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from duologue.errors import UserError, explained

# Base64, so that no runner's quoting breaks it, and no line of a traceback is taken for it.
_MARK = re.compile(r"duologue-error:([A-Za-z0-9+/=]+):")


class _Each(beam.DoFn):
    """Calls the function on each item, and gives a user's error a form that survives the way back."""

    def __init__(self, function: Callable[[Any], None]) -> None:
        self._function = function

    def setup(self) -> None:
        import torch

        # Sums of several threads come out differently each time, and the workers are the parallelism.
        torch.set_num_threads(1)

    def process(self, item: Any) -> Iterator[int]:
        try:
            with explained("", "reading or writing"):
                self._function(item)
            yield 1
        except UserError as error:
            content = json.dumps({"what": error.what, "where": error.where, "hint": error.hint})
            raise RuntimeError(f"duologue-error:{b64encode(content.encode()).decode()}:") from None


def _runner(options: PipelineOptions, workers: int) -> PipelineRunner:
    # Constructed here and not by flag: by flag it drops the options in worker processes, and Beam's DirectRunner
    # picks its engine by the transforms, downloading one of them.
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    info = beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded)
    command = f"{shlex.quote(sys.executable)} -m duologue.pipelines.worker"
    processes = SubprocessSDKEnvironment.from_command_string(command_string=command) if workers > 1 else None
    return fn_runner.FnApiRunner(processes, provision_info=fn_runner.ExtendedProvisionInfo(info))


@contextmanager
def _quiet_threads() -> Iterator[None]:
    # What goes wrong in Beam's threads ends the run with an error of its own; their tracebacks say nothing more.
    hook = threading.excepthook
    threading.excepthook = lambda _: None
    try:
        yield
    finally:
        threading.excepthook = hook


def for_each(
    function: Callable[[Any], None], items: Sequence[Any], *, workers: int = 1, flags: Sequence[str] = ()
) -> None:
    """Call a function on every item, in no particular order, on the engine the flags name.

    Args:
        function: picklable; what it has to say it writes to files, nothing comes back.
        items: small and picklable.
        workers: processes on this machine; not with a `--runner` among the flags.
        flags: Beam's own, such as `--runner=FlinkRunner`.

    Raises:
        UserError: the function raised one, or a worker process died.
    """
    if not items:
        return
    named = any(flag.split("=")[0] == "--runner" for flag in flags)
    local = [f"--direct_num_workers={workers}", "--default_sdk_harness_log_level=ERROR"]
    options = PipelineOptions([*flags, *([] if named else local)])
    try:
        pipeline = beam.Pipeline(runner=None if named else _runner(options, workers), options=options)
    except ValueError as error:
        raise UserError(
            str(error), where="the flags behind --", hint="They are Beam's own: see its runners"
        ) from error
    done = pipeline | beam.Create(list(items)) | beam.ParDo(_Each(function))
    # The sum is for Beam: only of a worker that owes it a result does it notice the death; for others it waits.
    _ = done | beam.CombineGlobally(sum)
    try:
        with _quiet_threads():
            pipeline.run().wait_until_finish()
    except Exception as error:  # Beam wraps what a worker raised in whatever its runner likes
        marked = _MARK.search(str(error))
        if marked:
            raise UserError(**json.loads(b64decode(marked.group(1)))) from None
        if "Channel closed prematurely" in str(error) or ("worker" in str(error) and "died" in str(error)):
            raise UserError(
                "a worker process died; the system may have killed it for its memory",
                where=f"--workers {workers}",
                hint="Run the same command again, which goes on from here, with fewer --workers if it happens again",
            ) from error
        raise
