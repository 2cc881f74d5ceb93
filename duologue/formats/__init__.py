"""What the artefacts are made of: streams, vocabularies, packing, shards and their cards."""
