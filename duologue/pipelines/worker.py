"""A worker process of the in-process runner: Beam's own, without its talk of itself on standard error."""

from __future__ import annotations

import logging
import sys

if __name__ == "__main__":
    # Before Beam is imported: it logs as it is imported, and would set up a handler of its own. Of the handler and
    # not of the logger, whose level Beam sets anew.
    quiet = logging.StreamHandler()
    quiet.setLevel(logging.CRITICAL)
    logging.basicConfig(handlers=[quiet])
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv)
