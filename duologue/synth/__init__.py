"""Text dialogues to two-channel speech: speakable text, voices, engines and the timeline."""
