"""Everything a run needs to go on, saved through TFF's program state manager."""

import asyncio
import dataclasses
import math
import pathlib
from typing import Any

import numpy as np
import tensorflow_federated as tff
import tree

from tff_rec.errors import InputError


@dataclasses.dataclass
class Progress:
    """Where a run stands.

    Attributes:
        state: Of the learning process.
        best_weights: Weights at the best look at validation; the latest where nothing is held out.
        rounds: Rounds done.
        best_score: Of `best_weights` on validation; larger is better.
        best_round: Rounds that had been done then.
        looks_since_best: Looks at validation since.
    """

    state: Any
    best_weights: list[np.ndarray]
    rounds: int = 0
    best_score: float = -math.inf
    best_round: int = 0
    looks_since_best: int = 0


class Checkpoints:
    """Saves and restores `Progress`, keeping the last two versions."""

    def __init__(self, directory: pathlib.Path) -> None:
        self._manager = tff.program.FileProgramStateManager(directory, keep_total=2, keep_first=False)

    def save(self, progress: Progress) -> None:
        """Saves under the number of rounds done; again for the same number does nothing."""
        if progress.rounds in (asyncio.run(self._manager.get_versions()) or []):
            return
        values = [np.asarray(value) for value in tree.flatten(dataclasses.asdict(progress))]
        asyncio.run(self._manager.save(values, progress.rounds))

    def restore(self, like: Progress) -> Progress:
        """The latest progress; `like` gives the structure, and is returned where nothing was saved.

        Raises:
            InputError: What was saved does not fit the process.
        """
        versions = asyncio.run(self._manager.get_versions())
        if not versions:
            return like
        structure = dataclasses.asdict(like)
        expected = [np.asarray(value) for value in tree.flatten(structure)]
        values = asyncio.run(self._manager.load(versions[-1], expected))
        if [np.shape(value) for value in values] != [value.shape for value in expected]:
            raise InputError(
                "The checkpoint is of a model of other shapes; the data or tff_rec changed since: begin anew."
            )
        fields = tree.unflatten_as(structure, values)
        numbers = {
            name: type(getattr(like, name))(fields[name]) for name in ("rounds", "best_round", "looks_since_best")
        }
        return Progress(
            state=fields["state"],
            best_weights=fields["best_weights"],
            best_score=float(fields["best_score"]),
            **numbers,
        )
