"""Hugging Face datasets: on the hub, in a directory that `datasets` reads, or saved by `save_to_disk`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duologue.errors import UserError, reason_of
from duologue.formats.hub import is_hub_name
from duologue.manifests.files import Record

_PREFIX = "hf:"
_SAVED = ("dataset_dict.json", "state.json")


@dataclass(frozen=True)
class HubName:
    """A dataset as `datasets.load_dataset` takes it: `hf:owner/name[:config][:split]`, or `owner/name`.

    Attributes:
        path: "owner/name", or a local directory.
        config: the dataset's configuration; its default if None.
        split: one of its splits; all of them if None.
    """

    path: str
    config: str | None = None
    split: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether the dataset is a directory of this machine."""
        return Path(self.path).exists()

    def identity(self) -> dict[str, str | None]:
        """Say which dataset this is, by the commit that the hub has now.

        Raises:
            UserError: the hub cannot be reached, or has no such dataset.
        """
        from huggingface_hub import HfApi

        try:
            revision = HfApi().dataset_info(self.path, timeout=20).sha
        except Exception as error:  # the hub's client passes on whatever its HTTP library raises
            raise UserError(
                f"there is no such file, and no dataset of this name could be had from the hub ({reason_of(error)})",
                where=self.path,
                hint="Check the path; for a dataset of the hub check its name, and that this machine is online",
            ) from error
        return {"name": self.path, "config": self.config, "split": self.split, "revision": revision}

    def records(self, revision: str | None) -> Iterator[Record]:
        """Stream the dataset's records, split after split.

        Args:
            revision: the commit to read; None for a local directory.

        Raises:
            UserError: the dataset cannot be loaded, or breaks off.
        """
        import datasets

        try:
            loaded = datasets.load_dataset(
                self.path, self.config, split=self.split, revision=revision, streaming=True
            )
            yield from _records(loaded, Path(self.path).name)
        except Exception as error:  # datasets raises what the builder, the file system or the network raises
            raise UserError(
                f"the dataset cannot be read ({reason_of(error)})",
                where=self.path,
                hint="Name it as hf:owner/name:config:split, and check that the three exist",
            ) from error


def parse(text: str) -> HubName | None:
    """Return the dataset that a source names, or None where it can only be a path."""
    if text.startswith(_PREFIX):
        path, *rest = text.removeprefix(_PREFIX).split(":")
        if not path or len(rest) > 2:
            raise UserError(
                "this is not the name of a dataset", where=text, hint="Write hf:owner/name[:config][:split]"
            )
        config, split = rest if len(rest) == 2 else (None, *rest) if rest else (None, None)
        return HubName(path, config or None, split or None)
    return HubName(text) if is_hub_name(text) else None


def is_saved(directory: Path) -> bool:
    """Say whether a directory was written by `save_to_disk`."""
    return any((directory / name).is_file() for name in _SAVED)


def read_saved(directory: Path) -> Iterator[Record]:
    """Yield the records of a dataset that `save_to_disk` wrote, split after split.

    Raises:
        UserError: it is damaged.
    """
    import datasets

    try:
        yield from _records(datasets.load_from_disk(str(directory)), directory.name)
    except Exception as error:  # datasets passes on what pyarrow, json and the file system raise
        raise UserError(
            f"the saved dataset cannot be read ({reason_of(error)})", where=directory, hint="Save it again"
        ) from error


def _records(loaded: Any, name: str) -> Iterator[Record]:
    splits = loaded if isinstance(loaded, dict) else {None: loaded}
    for split, rows in splits.items():
        for number, value in enumerate(rows):
            yield Record(f"{name}:{number}" if split is None else f"{name}:{split}:{number}", value)
