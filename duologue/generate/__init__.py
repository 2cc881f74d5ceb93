"""From token streams back to speech: decoding, vocoders."""
