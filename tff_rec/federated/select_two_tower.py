"""Split training in which devices fetch their item vectors with `tff.federated_select`.

The same round as `split_two_tower`, with TFF's own primitive for what the paper calls item requests: a client names
keys, the server makes a slice for each, and the client receives its slices and nothing else. A TFF client that holds
one user asks for that user's rows; one that holds several asks for all of theirs together. TFF's runtimes let the
server see the keys.
"""

import collections
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_rec.federated import aggregators, contributions, split_two_tower, stages
from tff_rec.models.two_tower import TwoTower


def build_select_two_tower(
    model: TwoTower,
    training: contributions.LocalTraining,
    optimizers: stages.ServerOptimizers,
    aggregator: aggregators.UserMeanFactory | None = None,
    transport: split_two_tower.Transport = split_two_tower.WHOLE_TABLE,
    *,
    max_rows: int,
) -> tff.learning.templates.LearningProcess:
    """Builds the process `(<state@SERVER, {<history=int32[?,?], seed=int32[?], …>*}@CLIENTS> -> <state, metrics>)`.

    Arguments, state and data are those of `split_two_tower.build_split_two_tower`.

    Args:
        model: The two towers; its objective must name rows.
        training: What each device does.
        optimizers: At the server.
        aggregator: From users to their mean; plain by default.
        transport: Of the item vectors.
        max_rows: Keys of a TFF client: at least the different rows that its users ask for. A client with fewer repeats
            its last one.
    """
    whole = split_two_tower.build_split_two_tower(model, training, optimizers, aggregator, transport)
    aggregator = split_two_tower.released(aggregator or aggregators.PlainMeanFactory(), transport)
    keys = build_row_keys(model, max_rows)
    work = _client_work(model, training, aggregator, transport, max_rows)
    result_type = work.type_signature.result
    aggregation = aggregator.create(result_type.update, result_type.update_weight)
    finalizer = stages.build_finalizer(
        model,
        optimizers,
        aggregation.next.type_signature.result.result.member,
        split_two_tower.candidate_gradients(model),
    )
    state_type, data_type = whole.next.type_signature.parameter
    num_items = model.candidate_tower.num_items

    @tff.tensorflow.computation(state_type.member.global_model_weights)
    def prepare(weights: Any) -> Any:
        query, candidate = stages.split_weights(model, weights.trainable)
        table = model.candidate_embeddings(candidate)
        return collections.OrderedDict(query), transport.coding.encode(table), np.int32(num_items)

    @tff.tensorflow.computation(prepare.type_signature.result[1], np.int32)
    def row(table: Any, key: Any) -> Any:
        return tf.nest.map_structure(lambda part: tf.gather(part, key), table)

    @tff.federated_computation(state_type, data_type)
    def next_fn(state: Any, blocks: Any) -> Any:
        query, table, max_key = tff.federated_map(prepare, state.global_model_weights)
        wanted = tff.federated_map(keys, blocks)
        rows = tff.federated_select(wanted, max_key, table, row)
        result = tff.federated_map(work, (tff.federated_broadcast(query), rows, wanted, blocks))
        mean = aggregation.next(state.aggregator, result.update, result.update_weight)
        final = finalizer.next(state.finalizer, state.global_model_weights, mean.result)
        new_state = tff.learning.templates.LearningAlgorithmState(
            final.result, state.distributor, state.client_work, mean.state, final.state
        )
        metrics = collections.OrderedDict(aggregator=mean.measurements, finalizer=final.measurements)
        return tff.learning.templates.LearningProcessOutput(tff.federated_zip(new_state), tff.federated_zip(metrics))

    return tff.learning.templates.LearningProcess(
        whole.initialize, next_fn, whole.get_model_weights, whole.set_model_weights
    )


def build_row_keys(model: TwoTower, max_rows: int) -> tff.Computation:
    """Builds what a client asks for: `(<history=int32[?,?], seed=int32[?], …>* -> int32[max_rows])`.

    The rows that the model's objective names for the client's blocks, each once, in order; the last one repeated.
    """
    num_items = model.candidate_tower.num_items

    @tff.tensorflow.computation(stages.block_type(model))
    @tf.function
    def keys(blocks: Any) -> Any:
        wanted = tf.zeros([num_items], tf.bool)
        for block in iter(blocks):
            rows = model.objective.rows(block, num_items)
            assert rows is not None, "The objective scores the whole table; it asks for no rows."
            places = tf.reshape(tf.where(rows < 0, num_items, rows), [-1])
            wanted |= tf.math.bincount(places, minlength=num_items + 1, maxlength=num_items + 1)[:-1] > 0
        found = tf.cast(tf.where(wanted)[:, 0], tf.int32)
        enough = tf.debugging.assert_less_equal(tf.size(found), max_rows, "A client asks for more than max_rows.")
        with tf.control_dependencies([enough]):
            last = tf.reduce_max(tf.concat([found, [0]], axis=0))
            padded = tf.concat([found, tf.fill([max_rows - tf.size(found)], last)], axis=0)
        return tf.ensure_shape(padded, [max_rows])

    return keys


def _client_work(
    model: TwoTower,
    training: contributions.LocalTraining,
    aggregator: aggregators.UserMeanFactory,
    transport: split_two_tower.Transport,
    max_rows: int,
) -> tff.Computation:
    """`(<query, rows*, keys, blocks*> -> ClientResult)`."""
    num_items, dimension = model.candidate_tower.num_items, model.candidate_tower.dimension
    blocks_type = stages.block_type(model)
    zeros = stages.zero_sums(
        split_two_tower.sums(model, transport, aggregator), tf.float32 if aggregator.encode is None else tf.int64
    )
    coded = tf.nest.map_structure(
        lambda part: tff.TensorType(part.dtype.as_numpy_dtype, part.shape[1:]),
        transport.coding.encode(tf.zeros([num_items, dimension])),
    )
    query_type = tff.to_type(
        collections.OrderedDict(
            (name, tff.TensorType(np.float32, spec.shape))
            for name, spec in stages.weight_shapes(model.query_tower).items()
        )
    )

    @tff.tensorflow.computation(query_type, tff.SequenceType(coded), tff.TensorType(np.int32, [max_rows]), blocks_type)
    def work(query: Any, rows: Any, ids: Any, blocks: Any) -> tff.learning.templates.ClientResult:
        @tf.function
        def over_blocks(query: Any, rows: Any, ids: Any, blocks: Any) -> Any:
            vectors = transport.coding.decode(rows.batch(max_rows).get_single_element())
            received = contributions.ReceivedItems(num_items, tf.ensure_shape(vectors, [None, dimension]), ids)
            return stages.sum_over_blocks(
                lambda block: split_two_tower.released_block_sum(
                    training, aggregator, transport, query, received, block
                ),
                blocks,
                zeros,
                aggregator.most_users,
            )

        total = over_blocks(query, rows, ids, blocks)
        weight = total.pop("weight")
        return tff.learning.templates.ClientResult(update=total, update_weight=weight)

    return work
