"""Tests on real data, which is not in the repository: without it they are skipped, and pytest shows them."""

import os
import pathlib
import unittest
from collections.abc import Callable
from typing import Any

from tff_rec.data.names import DATA_VARIABLE


def missing(path: str) -> str | None:
    """Why a source's folder or file is not there to read; None where it is."""
    root = os.environ.get(DATA_VARIABLE)
    if not root:
        return f"{DATA_VARIABLE} is not set: no published data to read"
    found = pathlib.Path(root) / path
    return None if found.exists() else f"There is no {found} to read"


def needed(path: str) -> Callable[[Any], Any]:
    """Decorator of a test or a class of tests that read a source's folder or file."""
    reason = missing(path)
    return unittest.skipIf(reason is not None, reason or "")
