"""The program as `python -m duologue`, which is how `torchrun` starts it."""

from duologue.program import main

if __name__ == "__main__":
    main()
