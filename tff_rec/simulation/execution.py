"""Where TFF computations run in simulation, and the life of the process that runs them.

TFF runs computations in a C++ child process (`worker_binary`). Started by TFF itself it outlives Python and keeps its
standard output open. This module starts the child, so that it ends with Python however Python ends, and it is the one
place that sets TFF's execution context.

The context replaces TFF's secure sums by plain sums of the same integers: arithmetic of secure aggregation, simulated,
with no cryptography in it.
"""

import atexit
import contextlib
import ctypes
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

import grpc
import portpicker
import tensorflow_federated as tff

from tff_rec.errors import InputError
from tff_rec.federated import encoding
from tff_rec.simulation import worker_launcher

_START_SECONDS = 60.0
_TRIES = 3
_MESSAGE_BYTES = 2_000_000_000
_KEEP_MEMORY = {
    "glibc.malloc.mmap_max": 0,
    "glibc.malloc.arena_max": 1,
    "glibc.malloc.trim_threshold": 2**34,
    "glibc.malloc.hugetlb": 1,
}
"""By default glibc gives tensors above 32 MB back to Linux, which clears all their pages when the next one asks for
them: half the time of a round over a large catalogue. The worker keeps up to 16 GiB that it freed, in large pages."""
_KEEP_OWN_MEMORY = {"M_ARENA_MAX": (-8, 1), "M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, 2**31 - 1)}
"""The same of Python, which serialises weights and scores the catalogue: names and numbers of mallopt(3), values."""

_worker: subprocess.Popen[bytes] | None = None


def start() -> None:
    """Starts the worker, if it does not run, and makes it TFF's default execution context. Call from the main thread.

    Raises:
        RuntimeError: If the worker ends or does not answer within a minute.
    """
    global _worker
    if _worker is not None and _worker.poll() is None:
        return
    atexit.register(stop)
    deadline = time.monotonic() + _START_SECONDS
    for _ in range(_TRIES):  # Another program may take the port before the worker does, which then ends.
        port = portpicker.pick_unused_port()
        _worker = _start_worker(port)
        stub = _connect(port, _worker, deadline)
        if stub is not None:
            tff.framework.set_default_context(_build_context(stub))
            return
        stop()
    raise RuntimeError("TFF's worker process did not start; does this machine run x86-64 Linux binaries?")


def stop() -> None:
    """Ends the worker. Safe to call twice."""
    global _worker
    if _worker is not None:
        _worker.kill()
        _worker.wait()
        _worker = None


@contextlib.contextmanager
def running() -> Iterator[None]:
    """The worker for as long as the block lasts, however it ends; errors as of `start`.

    From here on Python, too, keeps the memory that it frees, up to 2 GiB.
    """
    end_on_signals()
    for parameter, value in _KEEP_OWN_MEMORY.values():
        ctypes.CDLL(None).mallopt(parameter, value)
    start()
    try:
        yield
    finally:
        stop()


@contextlib.contextmanager
def round_number(number: int) -> Iterator[None]:
    """Around a round: one that ends because a device's values are not numbers says so in one sentence.

    Raises:
        InputError: It did. Only sums of integers end so; a plain mean is not a number then.
    """
    try:
        yield
    except Exception as error:
        if encoding.NOT_A_NUMBER not in str(error):
            raise
        raise InputError(
            f"Round {number}: a device's loss or update is {encoding.NOT_A_NUMBER}, training has diverged; "
            "take a smaller server learning rate."
        ) from None


def end_on_signals() -> None:
    """Makes SIGTERM and SIGHUP end Python as `sys.exit` does, so that files are closed and the worker is ended."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        del frame
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)


def _start_worker(port: int) -> subprocess.Popen[bytes]:
    binary = pathlib.Path(tff.__file__).parent / "data" / "worker_binary"
    worker = [str(binary), f"--port={port}", "--max_concurrent_computation_calls=-1"]
    tunables = ":".join(f"{name}={value}" for name, value in _KEEP_MEMORY.items())
    return subprocess.Popen(
        [sys.executable, "-I", "-S", worker_launcher.__file__, str(os.getpid()), *worker],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"GLIBC_TUNABLES": tunables} | os.environ,
    )


def _connect(
    port: int, worker: subprocess.Popen[bytes], deadline: float
) -> tff.framework.RemoteExecutorGrpcStub | None:
    """The worker's stub once it answers; None if it ends before, or if the time, `time.monotonic()`, is over."""
    limits = ("max_message_length", "max_receive_message_length", "max_send_message_length")
    options = [(f"grpc.{limit}", _MESSAGE_BYTES) for limit in limits]
    stub = tff.framework.RemoteExecutorGrpcStub(grpc.insecure_channel(f"localhost:{port}", options))
    while not stub.is_ready:
        if worker.poll() is not None or time.monotonic() > deadline:
            return None
        time.sleep(0.05)
    return stub


def _build_context(stub: tff.framework.RemoteExecutorGrpcStub) -> tff.framework.SyncExecutionContext:
    def create_executor(cardinalities: dict[tff.framework.PlacementLiteral, int]) -> tff.framework.RemoteExecutor:
        cardinalities.setdefault(tff.CLIENTS, 0)
        executor = tff.framework.RemoteExecutor(stub)
        executor.set_cardinalities(cardinalities)
        return executor

    def compile_to_native(computation: tff.framework.ConcreteComputation) -> tff.framework.ConcreteComputation:
        summed = tff.backends.test.replace_secure_intrinsics_with_bodies(computation)
        return tff.backends.native.desugar_and_transform_to_native(summed)

    return tff.framework.SyncExecutionContext(
        executor_fn=tff.framework.ResourceManagingExecutorFactory(create_executor),
        compiler_fn=compile_to_native,
        transform_args=tff.tensorflow.transform_args,
        transform_result=tff.tensorflow.transform_result,
    )
