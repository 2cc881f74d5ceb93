"""Where work runs: Beam's in-process runner by default, any other by Beam's own flags."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions
from apache_beam.portability.api import beam_job_api_pb2, beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.runners.portability.portable_runner import JobServiceHandle, PortableRunner
from apache_beam.runners.runner import PipelineResult, PipelineRunner, create_runner
from threadpoolctl import threadpool_limits

from duologue.errors import UserError, explained, reason_of
from duologue.pipelines import local_workers
from duologue.pipelines.flags import check_flags, runner_of
from duologue.pipelines.refusals import refusal_of
from duologue.progress import say

# Base64, so that no runner's quoting breaks it, and no line of a traceback is taken for it.
_MARK = re.compile(r"duologue-error:([A-Za-z0-9+/=]+):")


# Of Beam's metrics, which are whole numbers: what is ours, and the milliseconds of an item.
_METRICS, _TIME = "duologue", "item_ms"

Counts = Mapping[str, int]
Work = Counts | Generator[None, None, Counts] | None


@dataclass(frozen=True)
class Measured:
    """What Beam's metrics say of a pipeline that has run.

    Attributes:
        items: how many the function was called on; less than were asked for only where a runner loses metrics.
        counts: sums of what the function returned.
        seconds: sum, least and most of the time it took for an item; of what was done beside the next item, the time
            that this one had to wait for it.
        wall_s: from the call to the end of the pipeline, in seconds; what the items did not take, the engine did.
    """

    items: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    wall_s: float = 0.0


@contextmanager
def _marked() -> Iterator[None]:
    """Give a user's error a form that survives the way back."""
    try:
        with explained("", "reading or writing"):
            yield
    except UserError as error:
        content = json.dumps({"what": error.what, "where": error.where, "hint": error.hint})
        raise RuntimeError(f"duologue-error:{b64encode(content.encode()).decode()}:") from None


def _ended(work: Work) -> Counts:
    """Do what is left of work, and return what it counted."""
    if not isinstance(work, Generator):
        return work or {}
    try:
        while True:
            next(work)
    except StopIteration as end:
        return end.value


class _Each(beam.DoFn):
    """Calls the function on each item; the rest of one is done beside the next."""

    def __init__(self, function: Callable[[Any], Work]) -> None:
        self._function = function
        self._last: tuple[float, Future[Counts]] | None = None

    def setup(self) -> None:
        self._beside = ThreadPoolExecutor(1, "beside")
        # Sums of several threads come out differently each time, and the workers are the parallelism.
        threadpool_limits(1, user_api="blas")
        # A function that computes with torch has it imported by now; a mix does without, and saves half a gigabyte
        # for each process.
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)

    def process(self, item: Any) -> Iterator[int]:
        with _marked(), ExitStack() as failing:
            began = time.perf_counter()
            try:
                work = self._function(item)
                if isinstance(work, Generator):
                    # It may hold files open, and would as long as the error that ends it.
                    failing.callback(work.close)
                    next(work)
                took = time.perf_counter() - began
            finally:
                self._end_last()
            failing.pop_all()
            self._last = took, self._beside.submit(_ended, work)
        yield 1

    def finish_bundle(self) -> None:
        # What an engine has taken for done is not done again.
        with _marked():
            self._end_last()

    def teardown(self) -> None:
        self._beside.shutdown()

    def _end_last(self) -> None:
        if self._last is None:
            return
        (took, rest), self._last = self._last, None
        began = time.perf_counter()
        counts = rest.result()
        took += time.perf_counter() - began
        for name, count in counts.items():
            Metrics.counter(_METRICS, name).inc(count)
        Metrics.distribution(_METRICS, _TIME).update(round(1000 * took))


def _runner(options: PipelineOptions, workers: int) -> PipelineRunner:
    # Constructed here and not by flag: by flag it drops the options in worker processes, and Beam's DirectRunner
    # picks its engine by the transforms, downloading one of them.
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    info = beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded)
    processes = local_workers.environment() if workers > 1 else None
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


def _named_runner(name: str, flags: Sequence[str]) -> PipelineRunner:
    runner = create_runner(name)
    if not isinstance(runner, PortableRunner):
        check_flags(flags, ())
        return runner
    handle_of = runner.create_job_service_handle

    def checked(job_service: Any, options: PipelineOptions) -> JobServiceHandle:
        # A job server knows flags that Beam's Python side doesn't: what is unknown to both, nobody would look at.
        request = beam_job_api_pb2.DescribePipelineOptionsRequest()
        wait = options.view_as(PortableOptions).job_server_timeout
        described = job_service.DescribePipelineOptions(request, timeout=wait)
        check_flags(flags, [option.name for option in described.options])
        return handle_of(job_service, options)

    runner.create_job_service_handle = checked  # type: ignore[method-assign]
    return runner


def _measured(result: PipelineResult) -> Measured:
    try:
        found = result.metrics().query(MetricsFilter().with_namespace(_METRICS))
    except Exception as error:  # of whatever speaks to the engine: what was made is there all the same
        say(f"the engine does not say what it measured ({reason_of(error)})")
        return Measured()
    # Beam says None for a sum of nothing.
    counts = {counter.key.metric.name: counter.result or 0 for counter in found["counters"]}
    times = [one.result for one in found["distributions"] if one.key.metric.name == _TIME]
    if not times:
        return Measured(counts=counts)
    took = times[0]
    seconds = {"sum": took.sum / 1000, "least": took.min / 1000, "most": took.max / 1000}
    return Measured(took.count, dict(sorted(counts.items())), seconds)


def for_each(
    function: Callable[[Any], Work],
    items: Sequence[Any],
    *,
    workers: int = 1,
    flags: Sequence[str] = (),
) -> Measured:
    """Call a function on every item, in no particular order, on the engine the flags name.

    Args:
        function: picklable; what it has to say it writes to files, nothing comes back but counts to be summed. A
            generator yields once: a thread does what is behind that, such as to publish, beside the next item.
        items: small and picklable.
        workers: processes on this machine; not with a `--runner` among the flags.
        flags: Beam's own, such as `--runner=FlinkRunner`.

    Raises:
        UserError: the function raised one, a flag is wrong, the engine cannot be reached, or a worker process died.
    """
    check_flags(flags)
    name = runner_of(flags)
    if name is None:
        check_flags(flags, ())
    if not items:
        return Measured()
    began = time.perf_counter()
    local = [f"--direct_num_workers={workers}", "--default_sdk_harness_log_level=ERROR"]
    options = PipelineOptions([*flags, *([] if name else local)])
    try:
        runner = _named_runner(name, flags) if name else _runner(options, workers)
        pipeline = beam.Pipeline(runner=runner, options=options)
    except (ValueError, ImportError) as error:
        raise UserError(
            str(error), where="the flags behind --", hint="They are Beam's own: see its runners"
        ) from error
    done = pipeline | beam.Create(list(items)) | beam.ParDo(_Each(function))
    # The sum is for Beam: only of a worker that owes it a result does it notice the death; for others it waits.
    _ = done | beam.CombineGlobally(sum)
    try:
        with _quiet_threads():
            result = pipeline.run()
            result.wait_until_finish()
    except UserError:
        raise
    except Exception as error:  # Beam wraps what a worker raised in whatever its runner likes
        marked = _MARK.search(str(error))
        if marked:
            raise UserError(**json.loads(b64decode(marked.group(1)))) from None
        refused = refusal_of(error, name, workers)
        if refused is None:
            raise
        raise refused from error
    return replace(_measured(result), wall_s=round(time.perf_counter() - began, 3))
