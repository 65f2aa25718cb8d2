"""What `scripts/benchmark_ratings.py` times: a round of the tag-aware model with TFF and, as the bound, without.

What both make of the weights is compared; no state is kept, so that all rounds are the same.
"""

import dataclasses
from collections.abc import Sequence
from concurrent import futures

import tensorflow as tf

from tff_rec.data import clients
from tff_rec.federated import stages, tag_aware
from tff_rec.models.layers import own_weights
from tff_rec.simulation import rating_assembly, speed
from tff_rec.simulation.rating_config import PenaltyConfig, TagAwareConfig
from tff_rec.simulation.rating_preparation import PreparedRatings


def contestants(
    config: TagAwareConfig, prepared: PreparedRatings, single_users: int, stock_users: int
) -> list[speed.Contestant]:
    """The cohort's round in blocks and by TensorFlow alone; and rounds of fewer users, one a TFF client, and stock.

    Args:
        config: Cohort, blocks and local steps; server optimizer and penalties are put aside.
        prepared: Its data.
        single_users: Users with one a TFF client.
        stock_users: Users of `tff.learning.algorithms.build_fed_recon`, with as many epochs as we have local steps.
    """
    config = _with_plain_step(config)
    blocks = rating_assembly.cohort_blocks(config, prepared, 0)
    few = dataclasses.replace(config.training, clients_per_round=single_users, users_per_block=1)
    single = rating_assembly.cohort_blocks(dataclasses.replace(config, training=few), prepared, 0)
    store = prepared.store
    histories = [slice(*store.offsets[user : user + 2]) for user in prepared.training_users[:stock_users]]
    return [
        with_tff("blocks", config, prepared, blocks, config.training.tff_clients),
        with_tff("one_user_per_client", config, prepared, single, len(single)),
        without_tff("plain_tf", config, prepared, blocks),
        speed.stock_fed_recon(
            "stock_fed_recon",
            [store.items[rated] for rated in histories],
            [store.ratings[rated] for rated in histories],
            len(prepared.vocabulary),
            epochs=config.training.local_steps,
        ),
    ]


def with_tff(
    name: str, config: TagAwareConfig, prepared: PreparedRatings, blocks: Sequence[clients.Block], num_clients: int
) -> speed.Contestant:
    """A round of `build_tag_aware`, blocks dealt out to TFF clients."""
    process = rating_assembly.build_process(config, rating_assembly.build_model(config, prepared))
    run = speed.server_step(process, blocks, min(num_clients, len(blocks)))
    return speed.Contestant(name, speed.num_users(blocks), run)


def without_tff(
    name: str, config: TagAwareConfig, prepared: PreparedRatings, blocks: Sequence[clients.Block]
) -> speed.Contestant:
    """The same sums by TensorFlow, on as many threads as there would be TFF clients."""
    model = rating_assembly.build_model(config, prepared)
    local = rating_assembly.local_ratings(config, model)
    kinds = {"items": tf.TensorSpec([None, None], tf.int32), "ratings": tf.TensorSpec([None, None])}
    signature = [tag_aware.table_shape(model), kinds | {"seed": tf.TensorSpec([None], tf.int32)}]

    @tf.function(autograph=False, input_signature=signature)
    def block_sum(table: tf.Tensor, block: dict[str, tf.Tensor]) -> stages.Sums:
        return tag_aware.block_sum(local, None, own_weights(model.rating_tower), table, block)

    @tf.function(autograph=False)
    def pull_back(table_gradient: tf.Tensor) -> stages.Named:
        return tag_aware.pull_back(model, own_weights(model.item_tower), table_gradient)

    pool = futures.ThreadPoolExecutor(config.training.tff_clients)

    def run() -> speed.Gradients:
        table = model.item_table()
        sums = list(pool.map(lambda block: block_sum(table, dict(block)), blocks))
        weight = tf.add_n([part["weight"] for part in sums])
        items = pull_back(tf.add_n([part["items"] for part in sums]) / weight)
        tower = [tf.add_n([part["query"][each] for part in sums]) / weight for each in sums[0]["query"]]
        return [-value.numpy() for value in [*items.values(), *tower]]

    return speed.Contestant(name, speed.num_users(blocks), run)


def _with_plain_step(config: TagAwareConfig) -> TagAwareConfig:
    training = dataclasses.replace(
        config.training,
        server_optimizer="sgd",
        server_learning_rate=speed.SERVER_RATE,
        decay_rounds=0,
        aggregation="plain",
    )
    none = PenaltyConfig(**dict.fromkeys((field.name for field in dataclasses.fields(PenaltyConfig)), 0.0))
    return dataclasses.replace(config, training=training, penalties=none)
