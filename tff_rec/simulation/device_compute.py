"""What one device computes in a round: the multiply-adds of its graph's matrix products, and the time it takes here.

The graph is that of one device's work, at its shapes, gradients included. TensorFlow's own profiler does not count the
products of gradients and of sparse matrices, so they are counted here: m · k · n, and entries · n for a sparse one.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tff_rec.federated import contributions, stages
from tff_rec.models import objectives, query_towers, two_tower

_REPEATS = 15


@dataclasses.dataclass(frozen=True)
class DeviceCompute:
    """Cost of a device's part of one round.

    Attributes:
        multiply_adds: Of all matrix products.
        milliseconds: Median wall time on this machine.
    """

    multiply_adds: int
    milliseconds: float


def split_compute(
    model: two_tower.TwoTower, training: contributions.LocalTraining, block: objectives.Block
) -> DeviceCompute:
    """A device that receives item vectors: it trains the query tower and differentiates them; a block of one user."""
    training, received = received_items(model, training, block)

    def work(query: Sequence[tf.Tensor], vectors: tf.Tensor) -> Any:
        sent = dataclasses.replace(received, vectors=vectors)
        sums = contributions.block_sum(training, None, model.query_tower.as_weights(list(query)), sent, block)
        return sums["query"], sums["items"]

    return _measure(work, [weight.numpy() for weight in model.query_tower.trainable_weights], received.vectors)


def received_items(
    model: two_tower.TwoTower, training: contributions.LocalTraining, block: objectives.Block
) -> tuple[contributions.LocalTraining, contributions.ReceivedItems]:
    """What a device was sent, and its training on that: of a device that asked for rows, on these alone, ascending."""
    num_items, table = model.candidate_tower.num_items, model.candidate_embeddings()
    rows = training.objective.rows(block, num_items)
    if rows is None:
        return training, contributions.ReceivedItems(num_items, table)
    ids = tf.sort(tf.unique(tf.boolean_mask(rows, rows >= 0)).y)
    training = dataclasses.replace(training, objective=_OwnRows(training.objective, num_items, ids))
    return training, contributions.ReceivedItems(len(ids), tf.gather(table, ids))


def unsplit_compute(
    model: two_tower.TwoTower, training: contributions.LocalTraining, block: objectives.Block
) -> DeviceCompute:
    """A device that holds both towers: it also runs the item tower and differentiates it; a block of one user.

    Unsplit devices bound no item gradients, whatever `training` says (`federated.unsplit_two_tower`).
    """
    training = dataclasses.replace(training, item_clip_norm=None)

    @tf.autograph.experimental.do_not_convert
    def work(weights: Sequence[tf.Tensor]) -> Any:
        query, candidate = stages.split_weights(model, weights)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(candidate)
            table = model.candidate_embeddings(candidate)
        received = contributions.ReceivedItems(model.candidate_tower.num_items, table)
        sums = contributions.block_sum(training, None, query, received, block)
        return sums["query"], tape.gradient(table, candidate, sums["items"], unconnected_gradients="zero")

    return _measure(work, [weight.numpy() for weight in model.trainable_weights])


@dataclasses.dataclass(frozen=True)
class _OwnRows:
    """An objective as a device computes it that holds the rows it asked for and nothing of the others.

    Attributes:
        objective: Names rows by their items.
        num_items: Size of the catalogue.
        ids: int32 [rows], ascending: the items whose rows the device holds, in that order.
    """

    objective: objectives.Objective
    num_items: int
    ids: tf.Tensor

    @property
    def temperature(self) -> float:
        return self.objective.temperature

    @property
    def block_keys(self) -> tuple[str, ...]:
        return self.objective.block_keys

    def rows(self, block: objectives.Block, num_items: int) -> tf.Tensor:
        """Places among the device's rows, of which there are `num_items`: int32, PADDING for none."""
        del num_items
        items = self.objective.rows(block, self.num_items)
        assert items is not None, "A device that holds some rows has an objective that names them."
        places = tf.reshape(tf.searchsorted(self.ids, tf.reshape(items, [-1])), tf.shape(items))
        return tf.where(items >= 0, places, objectives.PADDING)

    def prepare(
        self, tower: query_towers.QueryTower, vectors: tf.Tensor, block: objectives.Block, rows: tf.Tensor | None
    ) -> objectives.LossFn:
        assert rows is not None, "Of rows that `rows` named."
        items = tf.where(rows >= 0, tf.gather(self.ids, tf.maximum(rows, 0)), objectives.PADDING)
        return self.objective.prepare(tower, vectors, block, items)

    def num_positives(self, history: tf.Tensor) -> tf.Tensor:
        return self.objective.num_positives(history)


def _measure(work: Callable[..., Any], *arguments: Any) -> DeviceCompute:
    arguments = tf.nest.map_structure(tf.constant, arguments)
    specs = tf.nest.map_structure(lambda value: tf.TensorSpec(value.shape, value.dtype), arguments)
    function = tf.function(work, autograph=False).get_concrete_function(*specs)
    times = []
    for _ in range(_REPEATS + 1):
        began = time.perf_counter()
        tf.nest.map_structure(lambda value: value.numpy(), function(*arguments))
        times.append(1000 * (time.perf_counter() - began))
    return DeviceCompute(multiply_adds(function.graph), statistics.median(times[1:]))


def multiply_adds(graph: tf.Graph) -> int:
    """Multiply-adds of the matrix products that the outputs of a function's graph need, whose shapes are all known.

    Raises:
        ValueError: The shape of a product is not known.
    """
    return sum(_PRODUCTS[operation.type](operation) for operation in _needed(graph) if operation.type in _PRODUCTS)


def _needed(graph: tf.Graph) -> set[tf.Operation]:
    """Operations that outputs depend on. Gradients leave others behind, which TensorFlow does not run."""
    needed: set[tf.Operation] = set()
    ahead = [output.op for output in graph.outputs]
    while ahead:
        operation = ahead.pop()
        if operation not in needed:
            needed.add(operation)
            ahead += [tensor.op for tensor in operation.inputs] + list(operation.control_inputs)
    return needed


def _dense_product(operation: tf.Operation) -> int:
    transposed = operation.get_attr("transpose_a" if operation.type == "MatMul" else "adj_x")
    inner = operation.inputs[0].shape[-2 if transposed else -1]
    size = operation.outputs[0].shape.num_elements()
    if inner is None or size is None:
        raise ValueError(f"The shapes of {operation.name} are not known.")
    return int(inner * size)


def _sparse_product(operation: tf.Operation) -> int:
    entries, columns = operation.inputs[1].shape[0], operation.outputs[0].shape[-1]
    if entries is None or columns is None:
        raise ValueError(f"The shapes of {operation.name} are not known.")
    return int(entries * columns)


_PRODUCTS: dict[str, Callable[[tf.Operation], int]] = {
    "MatMul": _dense_product,
    "BatchMatMulV2": _dense_product,
    "SparseTensorDenseMatMul": _sparse_product,
}
