"""The recipes that ship with Duologue, as TOML."""
