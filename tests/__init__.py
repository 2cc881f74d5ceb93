"""The tests. What they compare is what a CPU computes, but for those marked `gpu`, which `make gpu` runs."""

from __future__ import annotations

import os

WITH_GPU = "DUOLOGUE_GPU" in os.environ
if not WITH_GPU:
    # Before anybody asks for one, also in the processes that tests start.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
