"""`duologue run-info`: what a run would use, before it runs."""

from __future__ import annotations

import json
from typing import Any

import typer

from duologue.cli_options import AsJson, Workers


def run_info(context: typer.Context, workers: Workers = 1, as_json: AsJson = False) -> None:
    """Say what a run would use: engine, workers, GPUs, versions, place of files. Exit code 1: something is missing.

    Example: duologue run-info --workers 8
    """
    from duologue.pipelines.run_info import run_info as look

    about = look(workers, context.obj)
    print(json.dumps(about) if as_json else "\n".join(_told(about)))
    if about["missing"]:
        raise typer.Exit(1)


def _told(about: dict[str, Any]) -> list[str]:
    gpus = [f"{gpu['name']}, {gpu['memory_gb']} GB" for gpu in about["gpus"]]
    rows = {
        "runner": about["runner"],
        "environment": about["environment"],
        "workers": "as the engine has them" if about["workers"] is None else about["workers"],
        "cores here": about["cores"],
        "GPUs here": "; ".join(gpus) or "none",
        "files": about["files"],
        "versions": ", ".join(f"{name} {number}" for name, number in about["versions"].items()),
    }
    lines = [f"{name:>12}  {value}" for name, value in rows.items()]
    lines += [f"{'missing':>12}  {what}" for what in about["missing"]]
    return lines + [f"{'note':>12}  {what}" for what in about["notes"]]
