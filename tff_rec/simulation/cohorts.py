"""Who takes part in a round, and their blocks as TFF takes them, with and without differential privacy."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tff_rec.data import clients
from tff_rec.simulation import assembly
from tff_rec.simulation.privacy_config import PrivacyConfig

BlocksOf = Callable[[np.ndarray, int], list[clients.Block]]


def cohort(
    options: PrivacyConfig, users: np.ndarray, clients_per_round: int, seed: int, round_number: int
) -> np.ndarray:
    """Users of a round: a Poisson sample under Gaussian noise, which assumes it; else `clients.cohort`."""
    draw = clients.poisson_cohort if options.mechanism == "gaussian" else clients.cohort
    return draw(users, clients_per_round, seed, round_number)


def datasets(
    blocks_of: BlocksOf, drawn: np.ndarray, users: np.ndarray, round_number: int, num_clients: int
) -> list[tf.data.Dataset]:
    """A round's blocks dealt out to TFF clients; for a cohort of nobody one client without blocks.

    Args:
        blocks_of: From users and a round to blocks.
        drawn: int64, the cohort.
        users: int64, all who could have been drawn.
        round_number: From 0.
        num_clients: Most TFF clients.
    """
    if len(drawn):
        return assembly.as_datasets(blocks_of(drawn, round_number), num_clients)
    return [assembly.as_datasets(blocks_of(users[:1], round_number), 1)[0].take(0)]
