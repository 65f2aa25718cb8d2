"""Runs a script as a user does, in a process of its own."""

import os
import pathlib
import subprocess
import sys
import unittest

SCRIPTS = pathlib.Path(__file__).parents[2] / "scripts"


def run(script: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """`scripts/SCRIPT` with arguments, and what it printed; `environment` is added to that of the tests."""
    return subprocess.run(
        [sys.executable, str(SCRIPTS / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": str(SCRIPTS.parent), **environment},
    )


def assert_refused(test: unittest.TestCase, result: subprocess.CompletedProcess[str], words: str) -> None:
    """The script ended with 2 and one line of standard error, which has the words."""
    test.assertEqual((result.returncode, len(result.stderr.splitlines())), (2, 1), result.stderr)
    test.assertIn(words, result.stderr)
