"""Run by `execution_test` in a process of its own: forks one child an ending, so that TFF is imported once.

Usage: execution_scripts.py ENDING... Each child starts a worker, prints `ENDING PYTHON_PID WORKER_PID` and ends so.
"""

import os
import signal
import sys
import time

import tensorflow_federated as tff

from tff_rec.simulation import execution


def main(endings: list[str]) -> None:
    children = []
    for ending in endings:
        child = os.fork()
        if child == 0:
            end(ending)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


def end(ending: str) -> None:
    os.setpgid(0, 0)
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123
    # A shell that started this in the background has set it to ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if ending == "sigterm":
        execution.end_on_signals()
    execution.start()
    assert execution._worker is not None
    print(ending, os.getpid(), execution._worker.pid, flush=True)
    if ending == "exit":
        raise SystemExit(0)
    if ending == "exception":
        raise RuntimeError
    time.sleep(120)


if __name__ == "__main__":
    del tff
    main(sys.argv[1:])
