"""Bytes that a device of a two-tower run receives and sends in a round."""

import math

import numpy as np
import tensorflow as tf

from tff_rec.federated import communication, row_release
from tff_rec.models import requested_softmax, two_tower
from tff_rec.simulation import assembly, cohorts, rounds
from tff_rec.simulation.config import TwoTowerConfig
from tff_rec.simulation.preparation import Prepared


def traffic(
    config: TwoTowerConfig,
    prepared: Prepared,
    model: two_tower.TwoTower,
    bits: int | None = None,
    sent_rows: int | None = None,
) -> communication.Traffic:
    """Bytes of a device and round; one that asks for rows is the mean device.

    Args:
        config: Of the training.
        prepared: Its data.
        model: Of the training.
        bits: Width of a number on its way up; None for `assembly.number_bits`.
        sent_rows: Rows of gradients that a device sends, zeros included; None for those that the training sends.
    """
    training, transport = config.training, config.transport
    lengths = prepared.store.lengths()[prepared.trainable_users]
    in_rings = training.aggregation == "ring"
    shares = training.ring_shares if in_rings else 1
    rows = None if transport.items == "table" else mean_requested_rows(config, model, lengths)
    if sent_rows is None and in_rings:
        sent_rows = mean_ring_rows(config, prepared, model)
    bits = bits or assembly.number_bits(config)
    coding = assembly.CODINGS[transport.coding]
    found = communication.split_traffic(model, coding, rows, bits, shares, sent_rows)
    if rows is not None and transport.minimum_requesters > 1:
        # Of the rows that it asked for a device learns which are released; in a ring, of all.
        found = communication.with_released_rows(found, model.candidate_tower.num_items if in_rings else rows)
    return communication.with_moving_norms(found, bits, shares) if config.privacy.adaptive else found


def mean_requested_rows(config: TwoTowerConfig, model: two_tower.TwoTower, lengths: np.ndarray) -> int:
    """Rows that a device asks for in a round, its mean over devices rounded up.

    Positives and decoys are all different; of the fresh rows a device asks for those that differ from them and from
    each other, which is counted in expectation.
    """
    num_items, objective = model.candidate_tower.num_items, model.objective
    assert isinstance(objective, requested_softmax.RequestedSoftmax), "Only requested rows have a number."
    # A device that has a large part of the catalogue has fewer decoys, spread over all that it has.
    decoys = np.minimum(config.transport.decoys, (num_items - lengths) / np.maximum(lengths, 1))
    own = np.minimum(lengths, config.model.max_length + 1) * (1 + decoys)
    return math.ceil(np.mean(objective.expected_rows(own)))


def mean_ring_rows(config: TwoTowerConfig, prepared: Prepared, model: two_tower.TwoTower) -> int:
    """Rows of gradients that a device in a ring sends: all; with a minimum those that its ring releases.

    The latter are the mean over the rings of the first round, rounded up.
    """
    num_items, minimum = model.candidate_tower.num_items, config.transport.minimum_requesters
    if minimum == 1:
        return num_items
    drawn = cohorts.cohort(
        config.privacy, prepared.trainable_users, config.training.clients_per_round, config.seed, round_number=0
    )
    encode = assembly.aggregator(config, model).encode
    assert encode is not None and encode.rings is not None, "Only a ring has rows that its members agree on."
    released = []
    for block in rounds.block_source(config, prepared, model)(drawn, 0):
        rows = model.objective.rows({name: tf.constant(value) for name, value in block.items()}, num_items)
        assert rows is not None, "Only requested rows can be too few."
        counts = row_release.requesters_by_ring(rows, encode.rings.of(tf.shape(rows)[0]), num_items)
        released.extend(tf.reduce_sum(tf.cast(counts >= minimum, tf.int32), axis=1).numpy())
    return math.ceil(np.mean(released))
