"""A mix of one unit set that is over in a moment."""

from __future__ import annotations

from pathlib import Path

from duologue.pipelines.mix_settings import MixSettings, UnitSource


def small_mix(units: Path, stage: int) -> MixSettings:
    """Return the settings of a mix of several small shards."""
    return MixSettings(stage=stage, sources=(UnitSource(units, 1.0),), sequence_length=512, sequences_per_shard=2)
