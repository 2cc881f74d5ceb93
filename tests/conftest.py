"""Settings of the whole suite, and what more than one room's tests need."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests import WITH_GPU
from tests.commands import Command, Ended, call, make_lab
from tests.stores import Store

# How long an example takes says nothing on a machine that others use too.
settings.register_profile("duologue", deadline=None)
settings.load_profile("duologue")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("gpu") and not WITH_GPU:
            item.add_marker(pytest.mark.skip(reason="`make gpu` runs it, on a machine with a GPU"))


@pytest.fixture(scope="session")
def store() -> Iterator[Store]:
    """An object store, which this process and those it starts reach as `s3://`."""
    running = Store()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", running.url)
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        # s3fs tries some again by itself, botocore the others; with more of its tries, to give up would take minutes.
        patch.setenv("AWS_MAX_ATTEMPTS", "3")
        yield running
    running.close()


@pytest.fixture
def bucket(store: Store) -> Iterator[str]:
    """The URL of an empty bucket."""
    import boto3

    name = f"bucket-{uuid.uuid4().hex[:8]}"
    boto3.client("s3").create_bucket(Bucket=name)
    yield f"s3://{name}"
    store.refuses = lambda number, method: False


@pytest.fixture
def duologue(capfd: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: object) -> Ended:
        capfd.readouterr()
        code = call(*arguments)
        return Ended(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One artefact of each kind, made by the commands, and inputs that are wrong in all the usual ways."""
    return make_lab(tmp_path_factory.mktemp("lab"))
