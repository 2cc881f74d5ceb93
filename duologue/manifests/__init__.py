"""Corpora in: text dialogues and two-channel audio become Parquet manifests."""
