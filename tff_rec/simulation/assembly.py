"""From options to the model, the learning process and what a round of it sends."""

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_rec.data import clients
from tff_rec.data.features import ItemFeatures
from tff_rec.federated import (
    aggregators,
    communication,
    contributions,
    requests,
    ring_aggregator,
    select_two_tower,
    split_two_tower,
    stages,
    table_codings,
)
from tff_rec.federated.encoding import FixedPoint
from tff_rec.federated.secret_sharing import Ring
from tff_rec.models import objectives, query_towers, requested_softmax, two_tower
from tff_rec.models.candidate_tower import CandidateTower
from tff_rec.simulation import privacy_assembly
from tff_rec.simulation.config import DEFAULT_CLIP_NORM, ModelConfig, TrainingConfig, TwoTowerConfig
from tff_rec.simulation.privacy_ledger import Ledger
from tff_rec.simulation.rating_config import DeviceTrainingConfig, ServerConfig

CODINGS = {coding.name: coding for coding in (table_codings.FLOAT32, table_codings.FLOAT16, table_codings.INT8)}
_SHORT_WORD = 32
_LOSS_BOUND = 100.0


def build_model(
    config: TwoTowerConfig, num_items: int, item_features: ItemFeatures, popularity: np.ndarray
) -> two_tower.TwoTower:
    """The two-tower model with seeded initial weights."""
    model = config.model
    return two_tower.TwoTower(
        _query_tower(model, config.seed),
        CandidateTower(
            num_items=num_items,
            num_features=item_features.num_features,
            dimension=model.dimension,
            expansion=model.candidate_expansion,
            hidden=model.candidate_hidden,
            se_ratio=model.se_ratio,
            unit_norm=model.unit_norm,
            stddev=model.initial_stddev,
            seed=config.seed,
        ),
        item_features.indices,
        item_features.weights * np.float32(model.feature_scale),
        _objective(config, popularity),
        two_tower.WEIGHTINGS[config.training.weighting],
    )


def build_process(
    config: TwoTowerConfig, model: two_tower.TwoTower, ledger: Ledger | None = None
) -> tff.learning.templates.LearningProcess:
    """The split learning process of the options; with differential privacy it needs the run's ledger."""
    training, local = config.training, local_training(config, model)
    private = privacy_assembly.private_mean(
        config.privacy,
        ledger,
        aggregator(config, model),
        query_clip_norm=local.query_clip_norm,
        item_clip_norm=local.item_clip_norm,
        clients_per_round=training.clients_per_round,
        seed=config.seed,
    )
    parts = local, server_optimizers(training), private
    transport = split_two_tower.Transport(CODINGS[config.transport.coding], config.transport.minimum_requesters)
    if config.transport.items != "select":
        clipping = privacy_assembly.clipping(config.privacy, training.query_clip_norm, training.item_clip_norm)
        return split_two_tower.build_split_two_tower(model, *parts, transport, clipping)
    # A TFF client asks for the rows of all its users together, at most the whole table.
    per_user = (config.model.max_length + 1) * (1 + config.transport.decoys) + config.transport.fresh_rows
    users = math.ceil(config.training.clients_per_round / config.training.tff_clients) + users_per_block(
        config.training
    )
    max_rows = min(model.candidate_tower.num_items, users * per_user)
    return select_two_tower.build_select_two_tower(model, *parts, transport, max_rows=max_rows)


def local_training(config: TwoTowerConfig, model: two_tower.TwoTower) -> contributions.LocalTraining:
    """What a device does."""
    training = config.training
    query_clip, item_clip = _sent_norms(config)
    return contributions.LocalTraining(
        query_tower=model.query_tower,
        objective=model.objective,
        weighting=model.weighting,
        local_steps=training.local_steps,
        learning_rate=training.client_learning_rate,
        query_clip_norm=query_clip,
        item_clip_norm=item_clip,
        loss_bound=config.privacy.loss_bound if config.privacy.central else None,
        upload_noise=privacy_assembly.upload_noise(config.privacy, query_clip, item_clip),
    )


def _sent_norms(config: TwoTowerConfig) -> tuple[float | None, float | None]:
    """Bounds on the query part and on the item part of what a device sends."""
    training = config.training
    query_clip, item_clip = training.query_clip_norm, training.item_clip_norm
    if training.aggregation != "plain":
        query_clip, item_clip = query_clip or DEFAULT_CLIP_NORM, item_clip or DEFAULT_CLIP_NORM
    return privacy_assembly.sent_norm(config.privacy, query_clip), privacy_assembly.sent_norm(config.privacy, item_clip)


def aggregator(config: TwoTowerConfig, model: two_tower.TwoTower) -> aggregators.UserSumFactory:
    """Plain mean, secure sum or ring, before any noise."""
    training = config.training
    most_users = config.privacy.largest_cohort(training.clients_per_round)
    query_clip, item_clip = _sent_norms(config)
    if training.aggregation == "plain" or query_clip is None or item_clip is None:
        return aggregators.PlainMeanFactory()
    bounds = aggregators.weighted_bounds(
        query_bound=query_clip,
        item_bound=item_clip,
        weight_bound=float(config.model.max_length + 1) if training.weighting == "positives" else 1.0,
        loss_bound=_LOSS_BOUND,
        bits=training.secure_bits,
    )
    if training.aggregation == "secure":
        return aggregators.SecureMeanFactory(bounds, most_users)
    return ring_mean(training, bounds, most_users)


def ring_mean(
    training: TrainingConfig | DeviceTrainingConfig, bounds: dict[str, FixedPoint], most_users: int
) -> ring_aggregator.RingMeanFactory:
    """The ring of the options, for sums of up to `most_users` encoded contributions."""
    limit, bits = bounds["weight"].limit, encoded_bits(training, most_users)
    return ring_aggregator.RingMeanFactory(
        bounds, Ring(limit, most_users, training.ring_shares, training.ring_size, bits)
    )


def server_optimizers(training: TrainingConfig) -> stages.ServerOptimizers:
    """Optimizers of both towers."""
    candidate_rate = training.candidate_learning_rate or training.server_learning_rate
    return stages.ServerOptimizers(
        query=_optimizer(training, training.server_learning_rate), candidate=_optimizer(training, candidate_rate)
    )


def as_datasets(blocks: Sequence[clients.Block], num_clients: int) -> list[tf.data.Dataset]:
    """Deals blocks out to TFF clients, which run side by side, each one block after the other.

    The largest first, each to the client that has least, since a round takes as long as its longest client; none has
    more than its share of them, which bounds its users.
    """
    num_clients = min(num_clients, len(blocks))
    sizes = np.array([sum(values.size for values in block.values()) for block in blocks])
    hands: list[list[int]] = [[] for _ in range(num_clients)]
    totals, share = np.zeros(num_clients), math.ceil(len(blocks) / num_clients)
    for number in np.argsort(-sizes, kind="stable"):
        client = np.argmin(totals)
        hands[client].append(number)
        totals[client] += sizes[number] if len(hands[client]) < share else np.inf
    singles = [[tf.data.Dataset.from_tensors(blocks[number]) for number in sorted(hand)] for hand in hands]
    return [functools.reduce(tf.data.Dataset.concatenate, hand) for hand in singles]


def users_per_block(training: TrainingConfig | DeviceTrainingConfig) -> int:
    """Users that are computed at once, or as many as rings need.

    Blocks are of like size: with up to twice the users of a ring allowed, none falls below a ring.
    """
    users = training.users_per_block
    return users if training.aggregation != "ring" else max(users, 2 * training.ring_size)


def _query_tower(model: ModelConfig, seed: int) -> query_towers.QueryTower:
    if model.tower == "bag":
        return query_towers.BagQueryTower(
            dimension=model.dimension,
            half_lives=model.half_lives,
            hidden=model.hidden,
            dropout=model.dropout,
            se_ratio=model.se_ratio,
            unit_norm=model.unit_norm,
            seed=seed,
        )
    return query_towers.AttentionQueryTower(
        dimension=model.dimension,
        max_length=model.max_length,
        num_blocks=model.num_blocks,
        num_heads=model.num_heads,
        dropout=model.dropout,
        se_ratio=model.se_ratio,
        unit_norm=model.unit_norm,
        seed=seed,
    )


def _objective(config: TwoTowerConfig, popularity: np.ndarray) -> objectives.Objective:
    temperature = config.model.temperature
    if config.transport.items != "table":
        weights = requests.popularity_weights(popularity)
        laws = {"uniform": None, "popularity": (weights / weights.sum()).astype(np.float32)}
        return requested_softmax.RequestedSoftmax(
            temperature,
            len(popularity),
            laws[config.transport.decoy_sampling],
            config.transport.fresh_rows,
            laws[config.transport.fresh_sampling],
        )
    if config.training.objective == "full-softmax":
        return objectives.FullSoftmax(temperature)
    probabilities = None
    if config.training.negative_sampling == "popularity":
        probabilities = (popularity / popularity.sum()).astype(np.float32)
    return objectives.SampledSoftmax(temperature, config.training.negatives, probabilities)


def _optimizer(training: TrainingConfig, learning_rate: float) -> tff.learning.optimizers.Optimizer:
    return build_optimizer(
        training.server_optimizer,
        learning_rate,
        beta_1=training.beta_1,
        beta_2=training.beta_2,
        epsilon=training.epsilon,
        decay_rounds=training.decay_rounds,
    )


def build_optimizer(
    name: str, learning_rate: float, *, beta_1: float, beta_2: float, epsilon: float, decay_rounds: int
) -> tff.learning.optimizers.Optimizer:
    """A server optimizer.

    Args:
        name: sgd, sgdm, adam, yogi or adagrad.
        learning_rate: At first.
        beta_1: Momentum of sgdm, adam and yogi.
        beta_2: Decay of their second moment.
        epsilon: Adaptivity of all but sgd.
        decay_rounds: The learning rate halves every so many rounds; 0 keeps it.
    """
    build: Callable[..., tff.learning.optimizers.Optimizer]
    if name == "sgd":
        optimizer = tff.learning.optimizers.build_sgdm(learning_rate)
    elif name == "sgdm":
        optimizer = tff.learning.optimizers.build_sgdm(learning_rate, momentum=beta_1)
    elif name == "adagrad":
        optimizer = tff.learning.optimizers.build_adagrad(learning_rate, epsilon=epsilon)
    else:
        build = {"adam": tff.learning.optimizers.build_adam, "yogi": tff.learning.optimizers.build_yogi}[name]
        optimizer = build(learning_rate, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon)
    if not decay_rounds:
        return optimizer
    return tff.learning.optimizers.schedule_learning_rate(
        optimizer, lambda step: learning_rate * 0.5 ** (tf.cast(step, tf.float32) / decay_rounds)
    )


def number_bits(config: TwoTowerConfig) -> int:
    """Width of a number that a device sends."""
    return encoded_bits(config.training, config.privacy.largest_cohort(config.training.clients_per_round))


def encoded_bits(training: TrainingConfig | ServerConfig, senders: int) -> int:
    """Width of a number sent: a float; the sum of all senders' encoded values; or a word of the ring."""
    if training.aggregation == "plain":
        return communication.FLOAT_BITS
    sum_bits = training.secure_bits + math.ceil(math.log2(senders))
    if training.aggregation == "secure":
        return sum_bits
    return _SHORT_WORD if sum_bits <= _SHORT_WORD else 2 * _SHORT_WORD
