"""Ways to train one two-tower model, beside each other: what a device sends, receives and computes in each."""

import dataclasses
from collections.abc import Iterator
from typing import Literal

import numpy as np
import tensorflow as tf

from tff_rec.data import clients
from tff_rec.federated import communication
from tff_rec.models import requested_softmax, two_tower
from tff_rec.simulation import assembly, decoys, device_compute, device_traffic
from tff_rec.simulation.config import TwoTowerConfig
from tff_rec.simulation.preparation import Prepared
from tff_rec.simulation.transport_config import TransportConfig

Aggregation = Literal["plain", "secure", "ring"]
_SUMMED: tuple[Aggregation, ...] = ("secure", "ring")
NARROW = "unsplit FedAvg, embeddings of d"
ENCODED, OF_ROWS, OF_TABLES, RING = "encoded", "secure sum of rows", "secure sum of tables", "ring"


@dataclasses.dataclass(frozen=True)
class Way:
    """A way to train, and what a device does in a round of it.

    Attributes:
        name: For people.
        traffic: Bytes.
        compute: Multiply-adds and time.
    """

    name: str
    traffic: communication.Traffic
    compute: device_compute.DeviceCompute


def ring_rows(config: TwoTowerConfig, prepared: Prepared) -> int:
    """Rows that a device sends in a ring, at any dimension; it takes the decoys of all devices, so ask once."""
    ring = _replace(config, aggregation="ring")
    model = assembly.build_model(ring, len(prepared.vocabulary), prepared.item_features, prepared.popularity)
    return device_traffic.mean_ring_rows(ring, prepared, model)


def ways(config: TwoTowerConfig, prepared: Prepared, dimension: int, sent_in_ring: int) -> Iterator[Way]:
    """Unsplit averaging first, then split training with each transport and aggregation.

    Wide embeddings of the candidate tower make unsplit training dear: where the model has them, unsplit training of the
    model without is there too.

    Args:
        config: Its model, at another dimension, is what is trained, and its `transport` and bits those of the requested
            rows.
        prepared: Its data.
        dimension: Length of item vectors.
        sent_in_ring: `ring_rows`.
    """
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, dimension=dimension))
    whole = _replace(config, transport=TransportConfig(), aggregation="plain")
    model, block = _model_and_block(whole, prepared)
    training = assembly.local_training(whole, model)
    unsplit = device_compute.unsplit_compute(model, training, block)
    secure_bits = assembly.number_bits(_replace(config, aggregation="secure"))
    yield Way("unsplit FedAvg", communication.unsplit_traffic(model), unsplit)
    yield Way("unsplit FedAvg, secure sum", communication.unsplit_traffic(model, secure_bits), unsplit)
    if config.model.candidate_expansion > 1:
        narrow = dataclasses.replace(whole, model=dataclasses.replace(whole.model, candidate_expansion=1))
        other, block = _model_and_block(narrow, prepared)
        compute = device_compute.unsplit_compute(other, assembly.local_training(narrow, other), block)
        yield Way(NARROW, communication.unsplit_traffic(other), compute)
    split = device_compute.split_compute(model, training, block)
    for transport in (TransportConfig(), TransportConfig(coding="float16"), TransportConfig(coding="int8")):
        whole = _replace(whole, transport=transport)
        yield Way(f"whole table, {transport.coding}", device_traffic.traffic(whole, prepared, model), split)
    for aggregation in _SUMMED:
        yield Way(
            f"whole table, int8, {aggregation}",
            device_traffic.traffic(_replace(whole, aggregation=aggregation), prepared, model),
            split,
        )
    model, block = _model_and_block(config, prepared)
    split = device_compute.split_compute(model, assembly.local_training(whole, model), block)
    exact = _replace(config, transport=dataclasses.replace(config.transport, coding="float32"), aggregation="plain")
    yield Way("requested rows, float32", device_traffic.traffic(exact, prepared, model), split)
    yield from _encoded_rows(config, prepared, model, split, sent_in_ring)


def _encoded_rows(
    config: TwoTowerConfig,
    prepared: Prepared,
    model: two_tower.TwoTower,
    compute: device_compute.DeviceCompute,
    sent_in_ring: int,
) -> Iterator[Way]:
    """Requested rows whose gradients go up as integers.

    Three ways add the same ones to the same sum. The server adds them itself, and sees each device's. Or it sees the
    sum alone, of numbers as wide as that: of rows that devices asked for, which takes masks agreed on row by row among
    those that asked for it; or of whole tables, zero but for these rows, which is what TFF's secure sum adds. In a ring
    all members send all rows, zeros included, or with a minimum of requesters those that enough members asked for.
    """
    secure, ring = (_replace(config, aggregation=aggregation) for aggregation in _SUMMED)
    sums = {
        ENCODED: device_traffic.traffic(secure, prepared, model, bits=config.training.secure_bits),
        OF_ROWS: device_traffic.traffic(secure, prepared, model),
        OF_TABLES: device_traffic.traffic(secure, prepared, model, sent_rows=model.candidate_tower.num_items),
        RING: device_traffic.traffic(ring, prepared, model, sent_rows=sent_in_ring),
    }
    for name, traffic in sums.items():
        yield Way(f"requested rows, {config.transport.coding}, {name}", traffic, compute)


def _replace(
    config: TwoTowerConfig, *, transport: TransportConfig | None = None, aggregation: Aggregation | None = None
) -> TwoTowerConfig:
    training = config.training
    if aggregation is not None:
        training = dataclasses.replace(training, aggregation=aggregation)
    return dataclasses.replace(config, transport=transport or config.transport, training=training)


def _model_and_block(config: TwoTowerConfig, prepared: Prepared) -> tuple[two_tower.TwoTower, dict[str, tf.Tensor]]:
    """The model, and the block of the user with the median length of history."""
    model = assembly.build_model(config, len(prepared.vocabulary), prepared.item_features, prepared.popularity)
    users = prepared.trainable_users
    lengths = prepared.store.lengths()[users]
    median = users[np.argsort(lengths, kind="stable")[len(users) // 2]]
    beside = {}
    if requested_softmax.DECOYS in model.objective.block_keys:
        one_by_one = dataclasses.replace(config.transport, decoy_strategy="fresh")
        draw = decoys.decoys_of_rounds(
            one_by_one, prepared.store, prepared.vocabulary.item_ids, prepared.popularity, config.seed
        )
        beside[requested_softmax.DECOYS] = draw(np.array([median]), 0)
    (block,) = clients.blocks(
        prepared.store,
        np.array([median]),
        max_length=config.model.max_length + 1,
        users_per_block=1,
        random_window=0.0,
        shuffle_ties=False,
        seed=config.seed,
        round_number=0,
        beside=beside,
    )
    return model, {name: tf.constant(value) for name, value in block.items()}
