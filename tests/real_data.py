"""Tests on real data, which is not in the repository: without it they are skipped, and pytest shows them."""

import os
import pathlib
import unittest
from collections.abc import Callable
from typing import Any


def needed(folder: str) -> Callable[[Any], Any]:
    """Decorator of a test or a class of tests that read a folder of $TFF_REC_DATA."""
    there = (pathlib.Path(os.environ.get("TFF_REC_DATA") or "nowhere") / folder).is_dir()
    return unittest.skipUnless(there, f"there is no {folder} in TFF_REC_DATA")
