"""Training: a sequence set and a recipe become a run, a directory of metrics and checkpoints."""
