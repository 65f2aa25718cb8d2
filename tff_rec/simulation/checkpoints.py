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
        mean_weights: The running mean of the rounds' weights; empty where none is kept.
    """

    state: Any
    best_weights: list[np.ndarray]
    rounds: int = 0
    best_score: float = -math.inf
    best_round: int = 0
    looks_since_best: int = 0
    mean_weights: list[np.ndarray] = dataclasses.field(default_factory=list)

    def average(self, weights: list[np.ndarray], half_life: int) -> None:
        """Brings the running mean up to date with the weights after the latest round.

        A round counts half as much as one `half_life` rounds later, and all count together 1, in the first rounds too:
        Polyak and Juditsky 1992, with weights that fade. It reads nothing but models, so that privacy stays what it is.
        """
        kept = 0.5 ** (1 / half_life)
        share = np.float32((1 - kept) / (1 - kept**self.rounds))
        if not self.mean_weights:
            self.mean_weights = weights
        self.mean_weights = [mean + share * (now - mean) for mean, now in zip(self.mean_weights, weights, strict=True)]


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
            mean_weights=fields["mean_weights"],
            **numbers,
        )
