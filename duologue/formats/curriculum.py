"""How the share of speech sentences rises over stage 1 (Veluri et al. 2024, section 4 and Figure 4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from duologue.errors import UserError

# Truncated normals fitted to the digitised curves of Figure 4: at epochs 0, 1 and 2 (and later).
_PAPER_EPOCHS = (0.0, 1.0, 2.0)
_PAPER_MEANS = (0.26, 0.49, 0.86)
_PAPER_DEVIATIONS = (0.20, 0.21, 0.25)
_PAPER_RUN = 3.0
_DEVIATION = 0.2
# Of a share that is meant to be 1: about one sentence in a million stays text.
_NONE = 1e-6
_FORMS = "paper, linear, linear:FROM:TO, constant, constant:MEAN or speech, with means between 0 and 1"


@dataclass(frozen=True)
class Curriculum:
    """A normal distribution truncated to [0, 1] whose parameters follow the progress of training.

    Attributes:
        name: as the user wrote it.
        parameters: progress (float array, 0 to 1) to mean and standard deviation *before* truncation.
    """

    name: str
    parameters: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

    def draw(self, progress: np.ndarray, chance: np.ndarray) -> np.ndarray:
        """Draw shares of speech by inverting the distribution function.

        Args:
            progress: float `[n]`, place in the training run, 0 to 1.
            chance: float `[n]`, uniform in [0, 1).

        Returns:
            float64 `[n]` in [0, 1].
        """
        mean, deviation = self.parameters(np.asarray(progress, np.float64))
        low, high = ndtr(-mean / deviation), ndtr((1 - mean) / deviation)
        return np.clip(mean + deviation * ndtri(low + np.asarray(chance) * (high - low)), 0.0, 1.0)


def _paper(progress: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # Between the fitted epochs the parameters go straight: the paper found that raising them in steps is unstable.
    epoch = progress * _PAPER_RUN
    return np.interp(epoch, _PAPER_EPOCHS, _PAPER_MEANS), np.interp(epoch, _PAPER_EPOCHS, _PAPER_DEVIATIONS)


def curriculum(name: str) -> Curriculum:
    """Return a curriculum by name.

    `paper` runs through Figure 4 once, whatever the number of epochs. `linear:FROM:TO` (0 to 1 by default) moves the
    mean straight, `constant:MEAN` (0.5 by default) leaves it; both have a standard deviation of 0.2. `speech` leaves
    no text: what the paper holds its curriculum against.

    Raises:
        UserError: there is no such curriculum.
    """
    kind, *numbers = name.split(":")
    try:
        means = [float(number) for number in numbers]
    except ValueError:
        means = [-1.0]
    if not all(0 <= mean <= 1 for mean in means):
        kind = ""
    if kind == "paper" and not means:
        return Curriculum(name, _paper)
    if kind == "linear" and len(means) in (0, 2):
        low, high = means or (0.0, 1.0)
        return Curriculum(name, lambda progress: (low + (high - low) * progress, np.full_like(progress, _DEVIATION)))
    if kind == "constant" and len(means) < 2:
        mean = means[0] if means else 0.5
        return Curriculum(name, lambda progress: (np.full_like(progress, mean), np.full_like(progress, _DEVIATION)))
    if kind == "speech" and not means:
        return Curriculum(name, lambda progress: (np.ones_like(progress), np.full_like(progress, _NONE)))
    raise UserError(f"there is no curriculum {name!r}", where="--curriculum", hint=f"Use {_FORMS}")
