"""Speech to units: tokenizers behind one interface, on one clock."""
