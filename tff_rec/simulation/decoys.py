"""Decoys of simulated devices: with which rows each hides the items that it asks for.

One process holds the secrets of all devices, derived from the run's seed so that runs can be repeated. A real device
draws its secret itself and keeps it.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tff_rec.data.clients import ClientStore
from tff_rec.federated import requests
from tff_rec.simulation.transport_config import TransportConfig

DecoysOfRound = Callable[[np.ndarray, int], np.ndarray]
"""From a cohort, int64 [users], and a round to decoys beside each item of the store, int32 [items, ρ]."""


def decoys_of_rounds(
    transport: TransportConfig, store: ClientStore, item_ids: Sequence[str], popularity: np.ndarray, seed: int
) -> DecoysOfRound:
    """Decoys by the strategy of the options.

    Args:
        transport: Number, strategy and law of the decoys.
        store: Histories of all devices; a device has decoys for the whole of its history.
        item_ids: The catalogue's.
        popularity: float32 [items], of the training part.
        seed: Of the run.
    """
    weights = requests.decoy_weights(transport.decoy_sampling, popularity)
    if transport.decoy_strategy == "fresh":
        return _fresh(store, len(popularity), transport.decoys, weights, seed)
    return _persistent(store, item_ids, transport.decoys, weights, seed)


def device_secret(seed: int, device: int) -> bytes:
    """A simulated device's secret, that of the text `SEED/DEVICE`."""
    return requests.secret_of(f"{seed}/{device}")


def _persistent(
    store: ClientStore, item_ids: Sequence[str], rho: int, weights: np.ndarray | None, seed: int
) -> DecoysOfRound:
    positives = requests.ItemSets(store.offsets, store.items)
    secrets = [device_secret(seed, device) for device in range(len(positives))]
    decoys = requests.persistent_decoys(positives, item_ids, rho, secrets, weights)
    seeds = [(seed, device) for device in range(len(positives))]
    paired = requests.decoys_by_place(positives, decoys, rho, seeds)
    return lambda users, round_number: paired


def _fresh(store: ClientStore, num_items: int, rho: int, weights: np.ndarray | None, seed: int) -> DecoysOfRound:
    everybody = requests.ItemSets(store.offsets, store.items)

    def draw(users: np.ndarray, round_number: int) -> np.ndarray:
        positives = everybody.of(users)
        rng = np.random.default_rng([seed, round_number])
        decoys = requests.fresh_decoys(positives, num_items, rho, rng, weights)
        paired = requests.decoys_by_place(positives, decoys, rho, [(seed, round_number, user) for user in users])
        beside = np.full((len(store.items), rho), -1, np.int32)
        for place, user in enumerate(users):
            own = paired[positives.offsets[place] : positives.offsets[place + 1]]
            beside[store.offsets[user] : store.offsets[user + 1]] = own
        return beside

    return draw
