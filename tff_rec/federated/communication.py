"""Bytes that a device receives and sends in a round, counted from the tensors of a process."""

import dataclasses
import math

import numpy as np

from tff_rec.models.two_tower import TwoTower


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes of one device in one round.

    Attributes:
        down: From the server: the query tower and the item vectors.
        up: To the server: the query tower's update, item gradients, loss and weight.
    """

    down: int
    up: int

    def describe(self) -> str:
        """E.g. `1.04 MB down, 0.97 MB up`."""
        return f"{self.down / 1e6:.2f} MB down, {self.up / 1e6:.2f} MB up"


def traffic(model: TwoTower, bits_up: int = 32) -> Traffic:
    """Traffic of a device that receives the whole table of item vectors and sends a dense summand.

    Args:
        model: Its query tower travels, and one vector an item of its catalogue.
        bits_up: Width of a number on its way up: 32 for floats; under secure aggregation what the sum of all users'
            encoded values needs. A real protocol's keys and shares of keys are not counted.
    """
    query = sum(int(np.prod(weight.shape)) for weight in model.query_tower.trainable_weights)
    table = model.candidate_tower.num_items * model.candidate_tower.dimension
    loss_and_weight = 2
    return Traffic(down=4 * (query + table), up=math.ceil((query + table + loss_and_weight) * bits_up / 8))
