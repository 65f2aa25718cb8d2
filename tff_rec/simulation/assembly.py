"""From options to the model, the learning process and what a round of it sends."""

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_rec.data import clients
from tff_rec.data.features import ItemFeatures
from tff_rec.federated import aggregators, contributions, split_two_tower, stages
from tff_rec.models import objectives, query_towers, two_tower
from tff_rec.models.candidate_tower import CandidateTower
from tff_rec.simulation.config import ModelConfig, TrainingConfig, TwoTowerConfig

_WEIGHTINGS = {"positives": two_tower.by_positives, "equal": two_tower.equally}
_LOSS_BOUND = 100.0
_DEFAULT_CLIP_NORM = 10.0
_OWN_TABLE_NUMBERS = 16_000_000


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
            hidden=model.candidate_hidden,
            se_ratio=model.se_ratio,
            stddev=model.initial_stddev,
            seed=config.seed,
        ),
        item_features.indices,
        item_features.weights * np.float32(model.feature_scale),
        _objective(config, popularity),
        _WEIGHTINGS[config.training.weighting],
    )


def build_process(config: TwoTowerConfig, model: two_tower.TwoTower) -> tff.learning.templates.LearningProcess:
    """The split learning process of the options."""
    return split_two_tower.build_split_two_tower(
        model, local_training(config, model), server_optimizers(config.training), aggregator(config)
    )


def local_training(config: TwoTowerConfig, model: two_tower.TwoTower) -> contributions.LocalTraining:
    """What a device does."""
    training = config.training
    query_clip, item_clip = training.query_clip_norm, training.item_clip_norm
    if training.aggregation == "secure":
        # Integers need a range: a norm that training stays under unless the options say otherwise.
        query_clip, item_clip = query_clip or _DEFAULT_CLIP_NORM, item_clip or _DEFAULT_CLIP_NORM
    return contributions.LocalTraining(
        query_tower=model.query_tower,
        objective=model.objective,
        weighting=model.weighting,
        local_steps=training.local_steps,
        learning_rate=training.client_learning_rate,
        query_clip_norm=query_clip,
        item_clip_norm=item_clip,
    )


def aggregator(config: TwoTowerConfig) -> aggregators.UserMeanFactory:
    """Plain mean or secure sum."""
    training = config.training
    if training.aggregation == "plain":
        return aggregators.PlainMeanFactory()
    return aggregators.secure_mean(
        query_bound=training.query_clip_norm or _DEFAULT_CLIP_NORM,
        item_bound=training.item_clip_norm or _DEFAULT_CLIP_NORM,
        weight_bound=float(config.model.max_length + 1) if training.weighting == "positives" else 1.0,
        loss_bound=_LOSS_BOUND,
        bits=training.secure_bits,
    )


def server_optimizers(training: TrainingConfig) -> stages.ServerOptimizers:
    """Optimizers of both towers."""
    candidate_rate = training.candidate_learning_rate or training.server_learning_rate
    return stages.ServerOptimizers(
        query=_optimizer(training, training.server_learning_rate), candidate=_optimizer(training, candidate_rate)
    )


def as_datasets(blocks: Sequence[clients.Block], num_clients: int) -> list[tf.data.Dataset]:
    """Deals blocks out to TFF clients, which run side by side, each one block after the other."""
    dealt = [blocks[client::num_clients] for client in range(min(num_clients, len(blocks)))]
    singles = [[tf.data.Dataset.from_tensors(block) for block in hand] for hand in dealt]
    return [functools.reduce(tf.data.Dataset.concatenate, hand) for hand in singles]


def users_per_block(config: TwoTowerConfig, num_items: int) -> int:
    """Users that are computed at once: fewer where each needs an item table of its own, to bound memory."""
    training = config.training
    own_table = training.aggregation == "secure" or training.item_clip_norm is not None
    if not own_table or training.objective != "full-softmax":
        return training.users_per_block
    return max(1, min(training.users_per_block, _OWN_TABLE_NUMBERS // (num_items * config.model.dimension)))


def _query_tower(model: ModelConfig, seed: int) -> query_towers.QueryTower:
    if model.tower == "bag":
        return query_towers.BagQueryTower(
            dimension=model.dimension,
            half_lives=model.half_lives,
            hidden=model.hidden,
            dropout=model.dropout,
            se_ratio=model.se_ratio,
            seed=seed,
        )
    return query_towers.AttentionQueryTower(
        dimension=model.dimension,
        max_length=model.max_length,
        num_blocks=model.num_blocks,
        num_heads=model.num_heads,
        dropout=model.dropout,
        se_ratio=model.se_ratio,
        seed=seed,
    )


def _objective(config: TwoTowerConfig, popularity: np.ndarray) -> objectives.Objective:
    similarity = {"dot": objectives.dot_similarity, "cosine": objectives.cosine_similarity}[config.model.similarity](
        config.model.temperature
    )
    if config.training.objective == "full-softmax":
        return objectives.FullSoftmax(similarity)
    probabilities = None
    if config.training.negative_sampling == "popularity":
        probabilities = (popularity / popularity.sum()).astype(np.float32)
    return objectives.SampledSoftmax(similarity, config.training.negatives, probabilities)


def _optimizer(training: TrainingConfig, learning_rate: float) -> tff.learning.optimizers.Optimizer:
    build: Callable[..., tff.learning.optimizers.Optimizer]
    if training.server_optimizer == "sgd":
        optimizer = tff.learning.optimizers.build_sgdm(learning_rate)
    elif training.server_optimizer == "adagrad":
        optimizer = tff.learning.optimizers.build_adagrad(learning_rate, epsilon=training.epsilon)
    else:
        adaptive = {"adam": tff.learning.optimizers.build_adam, "yogi": tff.learning.optimizers.build_yogi}
        build = adaptive[training.server_optimizer]
        optimizer = build(learning_rate, beta_1=training.beta_1, beta_2=training.beta_2, epsilon=training.epsilon)
    if not training.decay_rounds:
        return optimizer
    return tff.learning.optimizers.schedule_learning_rate(
        optimizer, lambda step: learning_rate * 0.5 ** (tf.cast(step, tf.float32) / training.decay_rounds)
    )


def bits_up(training: TrainingConfig) -> int:
    """Width of a number that a device sends: a float, or what the sum of a cohort's encoded values needs."""
    if training.aggregation == "plain":
        return 32
    return training.secure_bits + math.ceil(math.log2(training.clients_per_round))
