"""Duologue: training data for full-duplex spoken dialogue models, and the trainer that consumes it."""

__version__ = "0.1.0"
