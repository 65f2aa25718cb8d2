"""Becomes TFF's worker: `python worker_launcher.py PARENT BINARY [ARGUMENT ...]`. Needs the standard library alone.

A program of its own rather than code between fork and exec of a process full of threads, where gRPC's and TensorFlow's
handlers of fork run, and may crash.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    parent, command = int(sys.argv[1]), sys.argv[2:]
    # The kernel kills the worker when Python dies, even of SIGKILL. Ctrl-C reaches Python alone.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.getppid() == parent:
        os.execv(command[0], command)
