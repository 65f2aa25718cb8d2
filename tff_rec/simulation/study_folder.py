"""What a study leaves behind: its plan, a line of JSON a cell, and what each user got, for tests between cells."""

import dataclasses
import datetime
import fcntl
import functools
import json
import os
import pathlib
import platform
import subprocess
from importlib import metadata
from typing import Any

import numpy as np

from tff_rec.errors import InputError
from tff_rec.simulation.run_folder import make_folder, write_text
from tff_rec.simulation.study_config import Cell, Study

Record = dict[str, Any]
_LARGEST_RANK = np.iinfo(np.int32).max


@dataclasses.dataclass(frozen=True)
class StudyFolder:
    """Paths of a study.

    Attributes:
        path: The folder.
    """

    path: pathlib.Path

    @property
    def results(self) -> pathlib.Path:
        """One JSON object a line: a cell that is done or failed."""
        return self.path / "results.jsonl"

    def begin(self, study: Study) -> None:
        """Makes the folder, and writes the study and its plan.

        Raises:
            InputError: The folder cannot be made, or holds something else.
        """
        make_folder(self.path)
        if any(self.path.iterdir()) and not (self.path / "plan.json").is_file():
            raise InputError(f"{self.path} exists and holds no study; name another folder with --output.")
        write_text(self.path / "study.toml", study.text)
        write_text(self.path / "plan.json", json.dumps(plan(study), indent=1))

    def records(self) -> dict[str, Record]:
        """Lines by cell.

        Raises:
            InputError: A line is no result, as a hand that edits may leave it.
        """
        if not self.results.is_file():
            return {}
        try:
            lines = [json.loads(line) for line in self.results.read_text(encoding="utf-8").splitlines() if line]
            return {record["key"]: record for record in lines}
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"{self.results} has a line that is no result ({error}); delete it.") from None

    def is_done(self, cell: Cell) -> bool:
        """Whether the cell, as it is now, has a result."""
        record = self.records().get(cell.key, {})
        return record.get("status") == "done" and record.get("config_hash") == cell.config_hash

    def write(self, record: Record) -> None:
        """Adds a cell's line, or puts it in the place of the cell's line before; others may write beside."""
        with (self.path / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lines = self.records() | {record["key"]: record}
            write_text(self.results, "".join(json.dumps(line) + "\n" for line in lines.values()))

    def write_users(self, cell: Cell, values: np.ndarray, owners: np.ndarray) -> None:
        """Writes what a paired test needs.

        Args:
            cell: Whose.
            values: Ranks from 1, int64 [users] (`ranks/KEY.npy`, int32); or squared errors, float [ratings]
                (`errors/KEY.npy`, float64).
            owners: int64, as many: the user of each. Written as `owners/KEY.npy` where values are of ratings.
        """
        if not cell.table.of_ratings:
            _save(self.path / "ranks" / f"{cell.key}.npy", np.minimum(values, _LARGEST_RANK).astype(np.int32))
            return
        _save(self.path / "errors" / f"{cell.key}.npy", values.astype(np.float64))
        _save(self.path / "owners" / f"{cell.key}.npy", owners.astype(np.int64))

    def users(self, cell: Cell) -> tuple[np.ndarray, np.ndarray]:
        """What `write_users` wrote: values and, of ratings, their owners; of ranks, the users' places."""
        if not cell.table.of_ratings:
            ranks = np.load(self.path / "ranks" / f"{cell.key}.npy").astype(np.int64)
            return ranks, np.arange(len(ranks))
        return np.load(self.path / "errors" / f"{cell.key}.npy"), np.load(self.path / "owners" / f"{cell.key}.npy")

    def run_folder(self, cell: Cell, fit_hash: str) -> pathlib.Path:
        """Where a federated run of the cell lies, so that it can go on after a stop."""
        return self.path / "runs" / f"{cell.data}.{cell.row.method}.{cell.seed}-{fit_hash}"


def plan(study: Study) -> Record:
    """All cells and tables of a study, run or not, as `plan.json` has them."""
    return {
        "name": study.name,
        "title": study.title,
        "cells": [_describe(cell) for cell in study.cells],
        "tables": [
            {
                "id": table.id,
                "title": table.title,
                "caption": table.caption,
                "protocol": table.protocol,
                "kind": "sweep" if table.axis else "table",
                "group": table.group,
                "metrics": list(table.metrics),
                "published": [dataclasses.asdict(figure) for figure in table.published],
            }
            for table in study.tables
        ],
    }


def _describe(cell: Cell) -> Record:
    """What a cell is."""
    described: Record = {
        "key": cell.key,
        "table": cell.table.id,
        "data": cell.data,
        "method": cell.row.method,
        "protocol": cell.table.protocol,
        "seed": cell.seed,
        "label": cell.label,
        "config_hash": cell.config_hash,
    }
    if cell.table.axis is not None:
        described["x"] = dataclasses.asdict(cell.table.axis) | {"value": cell.row.x}
    return described


def begin_record(cell: Cell) -> Record:
    """The part of a cell's line that is known before it is run."""
    return _describe(cell) | {
        "code_version": code_version(),
        "environment": environment(),
    }


def end_of(record: Record, seconds: float) -> Record:
    """A line with when it was finished and how long it took."""
    finished = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return record | {"finished": finished, "seconds": round(seconds, 2)}


@functools.cache
def code_version() -> str:
    """The checkout's commit, with `-dirty` where files differ from it; the package's version where there is none."""
    root = pathlib.Path(__file__).parents[2]
    try:
        commit = _git(root, "rev-parse", "--short=12", "HEAD")
        return commit + ("-dirty" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return metadata.version("tff-rec")


def environment() -> Record:
    """Versions and machine."""
    return {
        "python": platform.python_version(),
        "tensorflow": metadata.version("tensorflow"),
        "tensorflow_federated": metadata.version("tensorflow-federated"),
        "cpus": os.cpu_count(),
        "machine": f"{platform.system()} {platform.machine()}",
    }


def _git(root: pathlib.Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def _save(path: pathlib.Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.partial.npy")
    np.save(beside, array)
    beside.replace(path)
