"""A worker process of the in-process runner: Beam's own, without its talk of itself on standard error."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys

if __name__ == "__main__":
    # Ctrl-C reaches all processes of a terminal: the first one says what there is to say, this one just ends.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Before Beam is imported: it logs as it is imported, and would set up a handler of its own.
    logging.basicConfig(handlers=[logging.NullHandler()])
    from apache_beam.runners.worker import sdk_worker_main

    from duologue.progress import said_alone

    # The harness prints what its work raises, and that the first process is gone: what matters, that one explains.
    with said_alone():
        try:
            # Each line is a pipeline to serve.
            for line in sys.stdin:
                os.environ.update(json.loads(line))
                sdk_worker_main.main(sys.argv)
        finally:
            # Where the first process ended early, threads are at work still, which native libraries do not survive.
            os._exit(0)
