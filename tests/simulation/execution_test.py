"""TFF's worker ends with Python however Python ends, and holds no pipe open."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from unittest import mock

import numpy as np
import portpicker
import tensorflow as tf
import tensorflow_federated as tff

from tff_rec.errors import InputError
from tff_rec.federated import encoding
from tff_rec.simulation import execution

_SCRIPT = pathlib.Path(__file__).parent / "execution_scripts.py"
_ENDINGS = {
    "exit": lambda pid: None,
    "exception": lambda pid: None,
    "sigterm": lambda pid: os.kill(pid, signal.SIGTERM),
    "sigkill": lambda pid: os.kill(pid, signal.SIGKILL),
    "interrupt": lambda pid: os.killpg(pid, signal.SIGINT),
}


def is_running(pid: int) -> bool:
    try:
        status = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def page_faults(pid: int) -> int:
    """Those that read nothing from a disk (proc(5): field 10)."""
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


def is_gone_soon(pid: int) -> bool:
    deadline = time.monotonic() + 20.0
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_running(pid)


class ExecutionTest(tf.test.TestCase):
    def test_a_port_that_somebody_takes_meanwhile_is_given_up_for_another(self):
        execution.stop()
        self.addCleanup(execution.stop)
        with socket.socket() as taken:
            taken.bind(("localhost", 0))
            taken.listen()
            ports = [taken.getsockname()[1], portpicker.pick_unused_port()]
            with mock.patch.object(execution.portpicker, "pick_unused_port", side_effect=ports) as picked:
                execution.start()
        self.assertEqual(picked.call_count, 2)
        self.assertEqual(tff.federated_computation(lambda: tff.federated_value(7, tff.SERVER))(), 7)

    def test_the_worker_keeps_the_memory_of_large_tensors(self):
        """Given back and asked for again, every page of 64 MiB would be cleared, a fault each, in every round."""

        @tff.tensorflow.computation(tf.int32)
        def large(seed):
            return tf.reduce_sum(tf.random.stateless_uniform([16, 2**20], [seed, 0]) ** 2)

        self.addCleanup(execution.stop)
        execution.start()
        large(0)
        before = page_faults(execution._worker.pid)
        for seed in range(10):
            large(seed)
        self.assertLess(page_faults(execution._worker.pid) - before, 2**26 // 4096)

    def test_python_keeps_the_memory_of_large_messages(self):
        """As the worker does: 64 MiB, taken and given back ten times, are cleared at most once."""
        with execution.running():
            before = page_faults(os.getpid())
            for _ in range(10):
                bytearray(b"x") * 2**26
        self.assertLess(page_faults(os.getpid()) - before, 2 * 2**26 // 4096)

    def test_a_round_that_diverged_says_so_in_one_sentence(self):
        """What the encoding finds in the worker comes back as bad input; other errors as they are."""

        @tff.tensorflow.computation(tff.TensorType(np.float32, [2]))
        @tf.function
        def codes(values):
            return encoding.FixedPoint(127.0, 8).encode(values)

        self.addCleanup(execution.stop)
        execution.start()
        with execution.round_number(7):
            self.assertAllEqual(codes(np.float32([3, -5])), [3, -5])
        with (
            self.assertRaisesRegex(InputError, "^Round 7: a device's .* not a number, training has diverged; .*rate.$"),
            execution.round_number(7),
        ):
            codes(np.float32([3, np.nan]))
        with self.assertRaisesRegex(ZeroDivisionError, "^division by zero$"), execution.round_number(7):
            _ = 1 / 0

    def test_worker_and_pipeline_end_with_python_however_python_ends(self):
        # A worker that inherited the pipe would keep it open, and with it `cat`.
        pipeline = f"{sys.executable} {_SCRIPT} {' '.join(_ENDINGS)} | cat"
        with subprocess.Popen(
            pipeline, shell=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            started = {}
            while len(started) < len(_ENDINGS):
                ending, *pids = process.stdout.readline().split()
                started[ending] = tuple(map(int, pids))
            for ending in ("sigterm", "sigkill", "interrupt"):
                self.assertTrue(is_running(started[ending][1]), ending)
                _ENDINGS[ending](started[ending][0])
            for ending, (python, worker) in started.items():
                with self.subTest(ending):
                    self.assertTrue(is_gone_soon(python))
                    self.assertTrue(is_gone_soon(worker))
            rest, _ = process.communicate(timeout=20)
            self.assertEqual(rest, "")
            self.assertEqual(process.returncode, 0)


if __name__ == "__main__":
    tf.test.main()
