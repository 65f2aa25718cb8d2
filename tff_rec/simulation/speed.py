"""What `scripts/benchmark.py` times: one round of the same training, written four ways.

Every user takes five full-batch steps on a sampled softmax with inner products over a temperature: query tower, mean of
the history's item embeddings → relu layer → vector. `in_blocks` runs it as TFF with blocks of users or with one
user a client; `plain_tensorflow` computes the same sums with gradients written by hand, as a bound; `stock_fed_recon`
is matrix factorisation by `tff.learning.algorithms.build_fed_recon`, as TFF's tutorial "Federated Reconstruction for
Matrix Factorization" writes it.
"""

import collections
import dataclasses
import os
import pathlib
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_rec.data import clients
from tff_rec.federated import contributions, split_two_tower, stages
from tff_rec.models import objectives, query_towers, two_tower
from tff_rec.models.candidate_tower import CandidateTower
from tff_rec.simulation import assembly, memory, privacy_ledger, rounds
from tff_rec.simulation.config import TwoTowerConfig
from tff_rec.simulation.preparation import Prepared

Block = collections.OrderedDict[str, np.ndarray]
Gradients = list[np.ndarray]

DIMENSION = 32
HIDDEN = 64
NEGATIVES = 4
LOCAL_STEPS = 5
LEARNING_RATE = 0.1
TEMPERATURE = 0.1
_RECON_BATCH = 5
SERVER_RATE = 1024.0  # The state is never kept: a long step, so that rounded weights still show the gradient exactly.


@dataclasses.dataclass(frozen=True)
class Contestant:
    """A way to compute a round.

    Attributes:
        name: As in the report.
        users: Users of a round.
        run: Computes a round; returns the mean update of the query tower's weights and minus the mean gradient of the
            item embeddings, or nothing where it trains another model.
    """

    name: str
    users: int
    run: Callable[[], Gradients]


def build_model(num_items: int) -> two_tower.TwoTower:
    """The two-tower model that is timed: embeddings of `num_items` items, no features."""
    return two_tower.TwoTower(
        query_towers.BagQueryTower(DIMENSION, half_lives=(0.0,), hidden=HIDDEN, residual=False),
        CandidateTower(num_items, 1, DIMENSION, stddev=0.1),
        np.zeros([num_items, 1], np.int32),
        np.zeros([num_items, 1], np.float32),
        objectives.SampledSoftmax(TEMPERATURE, NEGATIVES, pairs=objectives.own_items),
    )


def in_blocks(name: str, model: two_tower.TwoTower, blocks: Sequence[Block], num_clients: int) -> Contestant:
    """`build_split_two_tower` with blocks dealt out to TFF clients."""
    training = contributions.LocalTraining(
        model.query_tower, model.objective, model.weighting, LOCAL_STEPS, LEARNING_RATE
    )
    sgd = tff.learning.optimizers.build_sgdm(SERVER_RATE)
    process = split_two_tower.build_split_two_tower(model, training, stages.ServerOptimizers(sgd, sgd))
    step = server_step(process, blocks, num_clients)
    return Contestant(name, num_users(blocks), lambda: step()[:-1])  # Without embeddings of features: there are none.


def server_step(
    process: tff.learning.templates.LearningProcess, blocks: Sequence[Block], num_clients: int
) -> Callable[[], Gradients]:
    """A round of a process whose server takes SGD steps of `SERVER_RATE`: the change of its weights over that rate."""
    state = process.initialize()
    before = state.global_model_weights.trainable

    def run() -> Gradients:
        data = assembly.as_datasets(blocks, num_clients)
        after = process.next(state, data).state.global_model_weights.trainable
        return [(new - old) / SERVER_RATE for new, old in zip(after, before, strict=True)]

    return run


def plain_tensorflow(name: str, model: two_tower.TwoTower, blocks: Sequence[Block], num_threads: int) -> Contestant:
    """The same sums by `hand_written_block`, without TFF."""
    query = [value.numpy() for value in model.query_tower.trainable_weights]
    table = model.candidate_embeddings().numpy()

    @tf.function(autograph=False, input_signature=_signature(query, table))
    def block_sum(query: list[tf.Tensor], table: tf.Tensor, history: tf.Tensor, seeds: tf.Tensor) -> list[tf.Tensor]:
        rows = model.objective.rows({"history": history, "seed": seeds}, table.shape[0])
        assert rows is not None
        return hand_written_block(query, table, history, rows)

    pool = futures.ThreadPoolExecutor(num_threads)

    def run() -> Gradients:
        sums = list(pool.map(lambda block: block_sum(query, table, block["history"], block["seed"]), blocks))
        *totals, weight = [tf.add_n(parts) for parts in zip(*sums, strict=True)]
        return [(total / weight).numpy() for total in totals]

    return Contestant(name, num_users(blocks), run)


def hand_written_block(
    query: Sequence[tf.Tensor], table: tf.Tensor, history: tf.Tensor, rows: tf.Tensor
) -> list[tf.Tensor]:
    """Local training of a block with gradients written out.

    Args:
        query: Kernels and biases of both layers, as the query tower holds them.
        table: float32 [items, d].
        history: int32 [users, n], padded with -1.
        rows: int32 [users, n + n × negatives]: the history, then the negatives of its places, -1 where masked.

    Returns:
        Sums over users, weighted by their positives: updates of `query`; minus the gradient of `table`; the weight.
    """
    users, length = tf.shape(history)[0], tf.shape(history)[1]
    mask = tf.cast(history >= 0, tf.float32)
    counts = tf.reduce_sum(mask, axis=1)
    share = mask / counts[:, tf.newaxis]
    valid = tf.reshape(rows >= 0, [users, 1 + NEGATIVES, length])
    target = tf.reshape(tf.one_hot(0, 1 + NEGATIVES), [1, -1, 1])
    vectors = tf.gather(table, tf.maximum(rows, 0))
    mean = tf.matmul(share[:, tf.newaxis, :], vectors[:, :length])
    start = [tf.repeat(tf.reshape(value, [1, -1, value.shape[-1]]), users, axis=0) for value in query]
    kernel, bias, out_kernel, out_bias = start
    mean_gradient, score_gradients, outputs = tf.zeros_like(mean), [], []
    for _ in range(LOCAL_STEPS):
        hidden = tf.nn.relu(tf.matmul(mean, kernel) + bias)
        output = tf.matmul(hidden, out_kernel) + out_bias
        scores = tf.reshape(tf.matmul(output / TEMPERATURE, vectors, transpose_b=True), [users, -1, length])
        scores = tf.where(valid, scores, -1e9)
        softmax = tf.exp(scores - tf.reduce_max(scores, axis=1, keepdims=True))
        softmax /= tf.reduce_sum(softmax, axis=1, keepdims=True)
        error = (softmax - target) * (share / TEMPERATURE)[:, tf.newaxis, :]
        error = tf.reshape(error, [users, 1, -1])
        output_gradient = tf.matmul(error, vectors)
        hidden_gradient = tf.where(hidden > 0, tf.matmul(output_gradient, out_kernel, transpose_b=True), 0.0)
        mean_gradient += tf.matmul(hidden_gradient, kernel, transpose_b=True)
        score_gradients.append(error)
        outputs.append(output)
        kernel -= LEARNING_RATE * tf.matmul(mean, hidden_gradient, transpose_a=True)
        bias -= LEARNING_RATE * hidden_gradient
        out_kernel -= LEARNING_RATE * tf.matmul(hidden, output_gradient, transpose_a=True)
        out_bias -= LEARNING_RATE * output_gradient
    weighted = tf.concat(outputs, axis=1) * counts[:, tf.newaxis, tf.newaxis]
    gradient = tf.matmul(tf.concat(score_gradients, axis=1), weighted, transpose_a=True)
    through_mean = tf.pad(mask[:, :, tf.newaxis] * mean_gradient, [[0, 0], [0, length * NEGATIVES], [0, 0]])
    places = tf.reshape(tf.where(rows >= 0, rows, table.shape[0]), [-1, 1])
    total = tf.zeros([table.shape[0] + 1, DIMENSION])
    items = tf.tensor_scatter_nd_sub(total, places, tf.reshape(gradient + through_mean, [-1, DIMENSION]))[:-1]
    trained = [kernel, bias, out_kernel, out_bias]
    updates = [tf.tensordot(counts, new - old, 1) for new, old in zip(trained, start, strict=True)]
    updates = [tf.reshape(update, value.shape) for update, value in zip(updates, query, strict=True)]
    return [*updates, items, tf.reduce_sum(counts)]


def stock_fed_recon(
    name: str, histories: Sequence[np.ndarray], ratings: Sequence[np.ndarray], num_items: int, epochs: int = 1
) -> Contestant:
    """Matrix factorisation: the item embedding is global, a user's embedding is reconstructed on its device.

    Args:
        name: As in the report.
        histories: Items of each user.
        ratings: Its ratings of them.
        num_items: Size of the catalogue.
        epochs: Passes over a user's ratings that train the item embedding, after one that reconstructs the user's.
    """
    model = tff.learning.models.ReconstructionModel
    process = tff.learning.algorithms.build_fed_recon(
        model_fn=lambda: _matrix_factorisation(num_items),
        loss_fn=tf.keras.losses.MeanSquaredError,
        metrics_fn=lambda: [tf.keras.metrics.RootMeanSquaredError()],
        server_optimizer_fn=tff.learning.optimizers.build_sgdm(1.0),
        client_optimizer_fn=tff.learning.optimizers.build_sgdm(0.5),
        reconstruction_optimizer_fn=tff.learning.optimizers.build_sgdm(0.1),
        dataset_split_fn=model.build_dataset_split_fn(recon_epochs=1, post_recon_epochs=epochs),
    )
    state = process.initialize()

    def run() -> Gradients:
        process.next(state, [_ratings(*user) for user in zip(histories, ratings, strict=True)])
        return []

    return Contestant(name, len(histories), run)


def _matrix_factorisation(num_items: int) -> tff.learning.models.ReconstructionModel:
    items = tf.keras.layers.Input(shape=[1], name="item")
    item_embedding = tf.keras.layers.Embedding(num_items, DIMENSION, name="item_embedding")
    user_embedding = _UserEmbedding(name="user_embedding")
    item_vectors = tf.keras.layers.Flatten()(item_embedding(items))
    predictions = tf.keras.layers.Dot(1)([item_vectors, user_embedding(items)])
    return tff.learning.models.ReconstructionModel.from_keras_model_and_layers(
        tf.keras.Model(inputs=items, outputs=predictions),
        global_layers=[item_embedding],
        local_layers=[user_embedding],
        input_spec=collections.OrderedDict(
            x=tf.TensorSpec([None, 1], tf.int64), y=tf.TensorSpec([None, 1], tf.float32)
        ),
    )


class _UserEmbedding(tf.keras.layers.Layer):
    """One vector, the only user of a device."""

    def build(self, input_shape: Any) -> None:
        self.embedding = self.add_weight("embedding", [1, DIMENSION], initializer="uniform")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        del inputs
        return self.embedding


def _ratings(items: np.ndarray, ratings: np.ndarray) -> tf.data.Dataset:
    columns = collections.OrderedDict(
        x=items.astype(np.int64)[:, np.newaxis], y=ratings.astype(np.float32)[:, np.newaxis]
    )
    return tf.data.Dataset.from_tensor_slices(columns).batch(_RECON_BATCH)


def round_of(name: str, config: TwoTowerConfig, prepared: Prepared) -> Contestant:
    """A round of a configuration on the first cohort of its data, always the same."""
    training = config.training
    ledger = privacy_ledger.open_ledger(
        config.privacy, len(prepared.trainable_users), training.clients_per_round, training.rounds
    )
    model = assembly.build_model(config, len(prepared.vocabulary), prepared.item_features, prepared.popularity)
    process = assembly.build_process(config, model, ledger)
    state = process.initialize()
    cohort = clients.cohort(prepared.trainable_users, config.training.clients_per_round, config.seed, 0)
    blocks = rounds.block_source(config, prepared, model)(cohort, 0)

    def run() -> Gradients:
        process.next(state, assembly.as_datasets(blocks, config.training.tff_clients))
        return []

    return Contestant(name, len(cohort), run)


def largest_difference(first: Gradients, second: Gradients) -> float:
    """Largest distance of two lists of arrays, each over the largest magnitude of the second's array."""
    pairs = zip(first, second, strict=True)
    return max(float(np.max(np.abs(one - other)) / np.max(np.abs(other))) for one, other in pairs)


def measure(contestants: Sequence[Contestant], rounds: int) -> dict[str, float]:
    """Milliseconds per user and round of each: the median of `rounds`, taken in turns after one to warm up."""
    times: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for number in range(rounds + 1):
        for contestant in contestants:
            began = time.perf_counter()
            contestant.run()
            if number > 0:
                times[contestant.name].append(1000 * (time.perf_counter() - began) / contestant.users)
    return {name: statistics.median(values) for name, values in times.items()}


def peak_memory() -> dict[str, int]:
    """Largest resident memory so far in bytes, of this process (`python`) and of its children (`worker`)."""
    children = [task.read_text().split() for task in pathlib.Path("/proc/self/task").glob("*/children")]
    return {
        "python": memory.high_water_mark(),
        "worker": sum(memory.high_water_mark(child) for task in children for child in task),
    }


def circumstances(rounds: int) -> str:
    """How `measure` measured, and on what."""
    return f"medians of {rounds} rounds, in one run; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def describe_memory(peak: dict[str, int]) -> str:
    """`peak_memory` in words."""
    python, worker = peak["python"] / 2**20, peak["worker"] / 2**20
    return f"peak memory: Python {python:,.0f} MiB, TFF's worker {worker:,.0f} MiB"


def _signature(query: Sequence[np.ndarray], table: np.ndarray) -> list[Any]:
    weights = [tf.TensorSpec(value.shape) for value in query]
    return [weights, tf.TensorSpec(table.shape), tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)]


def num_users(blocks: Sequence[Block]) -> int:
    """Users of some blocks."""
    return sum(len(block["seed"]) for block in blocks)
