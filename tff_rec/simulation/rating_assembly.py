"""From options to the rating model, the learning process, a round's data and what a round sends."""

import dataclasses
import functools
import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_rec.data import clients, ratings
from tff_rec.federated import aggregators, communication, silos, stages, tag_aware
from tff_rec.models import layers
from tff_rec.models.rating_towers import ItemTower, RatingTower
from tff_rec.models.tag_aware import Penalties, TagAware
from tff_rec.models.two_tower import WEIGHTINGS
from tff_rec.simulation import assembly, cohorts, privacy_assembly, silo_privacy
from tff_rec.simulation.privacy_ledger import Ledger
from tff_rec.simulation.rating_config import DeviceTrainingConfig, ServerConfig, TagAwareConfig
from tff_rec.simulation.rating_preparation import PreparedRatings

RoundData = Callable[[int], list[tf.data.Dataset]]
_DEFAULT_CLIP_NORM = 10.0
_LARGEST_ERROR = 25.0
_LOSS_AND_WEIGHT = 2
_BATCHES = 11


def build_model(config: TagAwareConfig, prepared: PreparedRatings) -> TagAware:
    """The rating model with seeded initial weights."""
    options, known = config.model, prepared.training_ratings
    item_features = prepared.item_features
    # Of a model without features all weigh 0.
    weight = np.float32(0.0 if options.features == "none" and not options.popularity_scale else 1.0)
    return TagAware(
        ItemTower(
            num_items=len(prepared.vocabulary),
            num_features=item_features.num_features,
            dimension=options.dimension,
            stddev=options.initial_stddev,
            seed=config.seed,
        ),
        RatingTower(
            dimension=options.dimension,
            mean=float(known.mean(dtype=np.float64)),
            lowest=float(known.min()),
            highest=float(known.max()),
            hidden=options.hidden,
            dropout=options.dropout,
            user_bias=options.user_bias,
            seed=config.seed,
        ),
        item_features.indices,
        item_features.weights * weight,
        Penalties(
            biases=config.penalties.biases,
            vectors=config.penalties.vectors,
            choices=config.penalties.choices,
            features=config.penalties.features,
            network=config.penalties.network,
        ),
        len(known),
    )


def build_process(
    config: TagAwareConfig, model: TagAware, ledger: Ledger | None = None
) -> tff.learning.templates.LearningProcess:
    """The learning process of the options: users or silos; with differential privacy it needs the run's ledger."""
    build = _build_silos if config.num_silos else _build_users
    return build(config, model, ledger)


def local_ratings(config: TagAwareConfig, model: TagAware) -> tag_aware.LocalRatings:
    """What a device does."""
    training = config.training
    row_clip, tower_clip = training.row_clip_norm, training.tower_clip_norm
    if training.aggregation != "plain":
        # Integers need a range: a norm that training stays under unless the options say otherwise.
        row_clip, tower_clip = row_clip or _DEFAULT_CLIP_NORM, tower_clip or _DEFAULT_CLIP_NORM
    row_clip = privacy_assembly.sent_norm(config.privacy, row_clip)
    tower_clip = privacy_assembly.sent_norm(config.privacy, tower_clip)
    return tag_aware.LocalRatings(
        rating_tower=model.rating_tower,
        local_steps=training.local_steps,
        learning_rate=training.client_learning_rate,
        tower_learning_rate=training.tower_learning_rate,
        proximal=training.proximal,
        row_clip_norm=row_clip,
        tower_clip_norm=tower_clip,
        weighting=WEIGHTINGS[training.weighting],
        loss_bound=config.privacy.loss_bound if config.privacy.central else None,
        upload_noise=privacy_assembly.upload_noise(config.privacy, tower_clip, row_clip),
    )


def _build_users(
    config: TagAwareConfig, model: TagAware, ledger: Ledger | None
) -> tff.learning.templates.LearningProcess:
    training, local = config.training, local_ratings(config, model)
    aggregator = _aggregator(
        training,
        tower_clip=local.tower_clip_norm,
        item_clip=local.row_clip_norm,
        largest_weight=1 if training.weighting == "equal" else training.max_ratings,
        clients=config.privacy.largest_cohort(training.clients_per_round),
    )
    private = privacy_assembly.private_mean(
        config.privacy,
        ledger,
        aggregator,
        query_clip_norm=local.tower_clip_norm,
        item_clip_norm=local.row_clip_norm,
        clients_per_round=training.clients_per_round,
        seed=config.seed,
    )
    optimizers = stages.ServerOptimizers(query=server_optimizer(training), candidate=server_optimizer(training))
    clipping = privacy_assembly.clipping(config.privacy, training.tower_clip_norm, training.row_clip_norm)
    return tag_aware.build_tag_aware(model, local, optimizers, private, clipping)


def _build_silos(
    config: TagAwareConfig, model: TagAware, ledger: Ledger | None
) -> tff.learning.templates.LearningProcess:
    options = config.silo
    clip = options.clip_norm or (_DEFAULT_CLIP_NORM if options.aggregation == "secure" else None)
    mini_batches, largest_weight = silos.open_batches(model), model.num_ratings
    if config.privacy.central:
        ledger = privacy_assembly.accounted(ledger)
        mini_batches = silo_privacy.mini_batches(config, model, ledger)
        largest_weight = max(population.sums for population in ledger.populations)
    aggregator = _aggregator(
        options, tower_clip=clip, item_clip=clip, largest_weight=largest_weight, clients=config.num_silos
    )
    training, optimizer = silo_training(config), server_optimizer(options)
    if config.privacy.central:
        # All steps of a round are elements of the silo's data set.
        training = dataclasses.replace(training, epochs=1)
    return silos.build_silo_tag_aware(model, training, optimizer, aggregator, mini_batches)


def silo_training(config: TagAwareConfig) -> silos.SiloTraining:
    """What a silo does."""
    options = config.silo
    builders: dict[str, silos.BuildOptimizer] = {
        "sgd": tff.learning.optimizers.build_sgdm,
        "adam": functools.partial(
            tff.learning.optimizers.build_adam,
            beta_1=options.beta_1,
            beta_2=options.beta_2,
            epsilon=options.epsilon,
        ),
    }
    return silos.SiloTraining(
        epochs=options.local_epochs,
        learning_rate=options.learning_rate,
        proximal=options.proximal,
        build_optimizer=builders[options.optimizer],
        decay=0.5 ** (1 / options.learning_rate_rounds) if options.learning_rate_rounds else 1.0,
        clip_norm=options.clip_norm or (_DEFAULT_CLIP_NORM if options.aggregation == "secure" else None),
    )


def _aggregator(
    server: ServerConfig,
    *,
    tower_clip: float | None,
    item_clip: float | None,
    largest_weight: int,
    clients: int,
) -> aggregators.UserSumFactory:
    """Plain mean; or secure sum or ring of integers in the range that the clip norms leave."""
    if server.aggregation == "plain" or tower_clip is None or item_clip is None:
        return aggregators.PlainMeanFactory()
    bounds = aggregators.weighted_bounds(
        query_bound=tower_clip,
        item_bound=item_clip,
        weight_bound=float(largest_weight),
        loss_bound=_LARGEST_ERROR,
        bits=server.secure_bits,
    )
    if isinstance(server, DeviceTrainingConfig) and server.aggregation == "ring":
        return assembly.ring_mean(server, bounds, clients)
    return aggregators.SecureMeanFactory(bounds, clients)


def server_optimizer(server: ServerConfig) -> tff.learning.optimizers.Optimizer:
    """The server's optimizer with its schedule."""
    return assembly.build_optimizer(
        server.server_optimizer,
        server.server_learning_rate,
        beta_1=server.beta_1,
        beta_2=server.beta_2,
        epsilon=server.epsilon,
        decay_rounds=server.decay_rounds,
    )


def round_data(config: TagAwareConfig, prepared: PreparedRatings) -> RoundData:
    """From a round's number, from 0, to the datasets of its TFF clients."""
    if config.num_silos and config.privacy.central:
        return lambda number: [
            _as_dataset(silo_privacy.steps(config, prepared, place, number)) for place in range(config.num_silos)
        ]
    if config.num_silos:
        return lambda number: [_as_dataset(batches(config, prepared, silo, number)) for silo in prepared.silos]
    return lambda number: _cohort_data(config, prepared, number)


def cohort_blocks(config: TagAwareConfig, prepared: PreparedRatings, number: int) -> list[clients.Block]:
    """Blocks of the users that a round of `--clients users` draws."""
    return _blocks_of(config, prepared, _cohort(config, prepared, number), number)


def _cohort(config: TagAwareConfig, prepared: PreparedRatings, number: int) -> np.ndarray:
    return cohorts.cohort(
        config.privacy, prepared.training_users, config.training.clients_per_round, config.seed, number
    )


def _blocks_of(
    config: TagAwareConfig, prepared: PreparedRatings, cohort: np.ndarray, number: int
) -> list[clients.Block]:
    blocks = ratings.rating_blocks(
        prepared.store,
        cohort,
        users_per_block=assembly.users_per_block(config.training),
        max_ratings=config.training.max_ratings,
        seed=config.seed,
        round_number=number,
    )
    return list(blocks)


def _cohort_data(config: TagAwareConfig, prepared: PreparedRatings, number: int) -> list[tf.data.Dataset]:
    blocks_of = functools.partial(_blocks_of, config, prepared)
    cohort = _cohort(config, prepared, number)
    return cohorts.datasets(blocks_of, cohort, prepared.training_users, number, config.training.tff_clients)


def batches(config: TagAwareConfig, prepared: PreparedRatings, users: np.ndarray, number: int) -> list[clients.Block]:
    """Mini-batches of some users' ratings in a new random order, as a silo trains on them in a round.

    Args:
        config: The run.
        prepared: Its data.
        users: int64, rows of the store; those that do not take part in training are left out.
        number: Of the round, from 0.
    """
    users = users[np.isin(users, prepared.training_users)]
    order = np.random.default_rng([config.seed, _BATCHES, number]).permutation(users)
    found: list[clients.Block] = []
    for part in clients.even_parts(len(order), config.silo.users_per_batch):
        batch = order[part]
        found += ratings.rating_blocks(
            prepared.store,
            batch,
            users_per_block=len(batch),
            max_ratings=config.training.max_ratings,
            seed=config.seed,
            round_number=number,
        )
    return found


def _as_dataset(blocks: list[clients.Block]) -> tf.data.Dataset:
    return assembly.as_datasets(blocks, 1)[0]


def traffic(config: TagAwareConfig, model: TagAware) -> communication.Traffic:
    """Bytes of a client and round.

    A device receives the table of item parts and the rating tower, and sends as many numbers: which rows of the table
    it uses it tells nobody. A silo receives all weights, and knows the items' features.
    """
    parts = {"rating tower": _numbers(model.rating_tower)}
    if config.num_silos:
        parts["item tower"] = _numbers(model.item_tower)
    else:
        parts["item table"] = model.item_tower.num_items * (2 + 2 * model.item_tower.dimension)
    senders = config.num_silos or config.privacy.largest_cohort(config.training.clients_per_round)
    bits = assembly.encoded_bits(config.server, senders)
    shares = config.training.ring_shares if config.server.aggregation == "ring" else 1
    up = {name: math.ceil(count * bits / 8) for name, count in {**parts, "loss and weight": _LOSS_AND_WEIGHT}.items()}
    peers = {"shares": (shares - 1) * sum(up.values())} if shares > 1 else {}
    found = communication.Traffic({name: 4 * count for name, count in parts.items()}, up, peers)
    return communication.with_moving_norms(found, bits, shares) if config.privacy.adaptive else found


def _numbers(tower: layers.Tower) -> int:
    return sum(math.prod(weight.shape) for weight in tower.trainable_weights)
