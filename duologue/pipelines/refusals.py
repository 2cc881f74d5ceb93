"""What engines say when they cannot run, as one message that names the next step."""

from __future__ import annotations

import shutil

import grpc

from duologue.errors import UserError

_LONGEST = 400
# What Dataflow's runner and the clients under it raise.
_GOOGLE = ("apache_beam.runners.dataflow", "apitools", "google")


def refusal_of(error: Exception, runner: str | None, workers: int) -> UserError | None:
    """Return what an engine's exception means to the user, or None where it is a fault of the program.

    Args:
        error: out of Beam.
        runner: as the flags name it; None: the in-process one.
        workers: processes on this machine.
    """
    text = str(error)
    if runner is None:
        if "Channel closed prematurely" in text or ("worker" in text and "died" in text):
            return UserError(
                "a worker process died; the system may have killed it for its memory",
                where=f"--workers {workers}",
                hint="Run the same command again, which goes on from here, with fewer --workers if it happens again",
            )
        return None
    jar = "--spark_job_server_jar" if "spark" in runner.lower() else "--flink_job_server_jar"
    if "jar URL" in text:
        return UserError("the job server jar is not there", where=jar, hint="Correct its path")
    if "job server jar" in text:
        return UserError(
            f"Beam's job server jar cannot be had: {_first_line(text)}",
            where=runner,
            hint=f"Download it from Maven Central where there is a network, and name the file by {jar}=PATH",
        )
    if isinstance(error, FileNotFoundError) and shutil.which("java") is None:
        return UserError(
            "there is no Java, which Beam's job server runs on",
            where=runner,
            hint="Install a Java runtime, 11 or 17, or name a running job server by --job_endpoint=HOST:PORT",
        )
    if isinstance(error, grpc.FutureTimeoutError | grpc.RpcError | TimeoutError):
        return UserError(
            f"the job server does not answer: {_first_line(text) or type(error).__name__}",
            where=runner,
            hint="Check that it runs, and --job_endpoint=HOST:PORT",
        )
    if isinstance(error, ImportError):
        return UserError(_first_line(text), where=runner, hint="Install it where this command runs")
    of_google = type(error).__module__.startswith(_GOOGLE)
    if of_google or "failed in state" in text or "You must specify" in text or "Unable to" in text:
        return UserError(
            f"the engine gave up: {_ends_of(text) if of_google else _first_line(text)}",
            where=runner,
            hint="Its own log says more. Run the same command again: it goes on from here",
        )
    return None


def _ends_of(text: str) -> str:
    # First stands that it failed, and last, behind a traceback, why.
    first, last = _first_line(text), _first_line("\n".join(reversed(text.splitlines())))
    return first if first == last else f"{first} {last}"


def _first_line(text: str) -> str:
    line = next((line.strip() for line in text.splitlines() if line.strip()), "").rstrip(".")
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
