"""A minimum of requesters: the summed gradient of a row is used only if enough devices asked for the row.

The sum over one requester is that device's gradient. The server serves the requests and so can count them; it tells the
devices which rows to leave out before they send anything. Counted are those whose sum it sees: the cohort, where in
simulation the rows are struck from the sum, with the same result; or a ring, whose members hold them back.
"""

import collections
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_rec.federated.aggregators import UserMeanFactory
from tff_rec.federated.encoding import Encode
from tff_rec.federated.item_gradients import Released

RELEASE = "release"
_COUNT_BITS = 32


def count_requesters(rows: tf.Tensor, num_items: int) -> tf.Tensor:
    """Users of a block that ask for each item: int32 [users, r], negative for none → int32 [num_items]."""
    return requesters_by_ring(rows, tf.zeros(tf.shape(rows)[:1], tf.int32), num_items)[0]


def requesters_by_ring(rows: tf.Tensor, rings: tf.Tensor, num_items: int) -> tf.Tensor:
    """As `count_requesters`, of each ring: with the users' rings, int32 [users], to int32 [rings, num_items]."""
    ordered = tf.sort(rows, axis=1)
    again = tf.concat([tf.zeros_like(ordered[:, :1], tf.bool), tf.equal(ordered[:, 1:], ordered[:, :-1])], axis=1)
    items = tf.where(again | (ordered < 0), num_items, ordered) + (num_items + 1) * rings[:, tf.newaxis]
    size = (num_items + 1) * (tf.reduce_max(rings) + 1)
    counts = tf.math.bincount(tf.reshape(items, [-1]), minlength=size, maxlength=size)
    return tf.reshape(counts, [-1, num_items + 1])[:, :-1]


def within_rings(rows: tf.Tensor, rings: tf.Tensor, num_items: int, minimum: int) -> tuple[Released, tf.Tensor]:
    """What members of rings send: each ring's rows if enough of its members asked for them.

    Args:
        rows: int32 [users, r] that users ask for, negative for none.
        rings: int32 [users], from 0.
        num_items: Size of the catalogue.
        minimum: Fewest members that must ask for a row.

    Returns:
        From rows of the users to those that they send; and how many rows rings hold back, int32 [].
    """
    counts = requesters_by_ring(rows, rings, num_items)

    def released(rows: tf.Tensor) -> tf.Tensor:
        asked = tf.gather(tf.reshape(counts, [-1]), tf.maximum(rows, 0) + num_items * rings[:, tf.newaxis])
        return tf.where((rows >= 0) & (asked >= minimum), rows, -1)

    return released, tf.reduce_sum(tf.cast((counts > 0) & (counts < minimum), tf.int32))


class RowReleaseFactory(tff.aggregators.WeightedAggregationFactory):
    """Another factory, without the gradients of rows that too few asked for.

    The value carries, besides what the other factory takes, `release`: how many asked for each item, int32 [items]; or,
    if the other factory adds rings, the number of rows that these held back (`within_rings`), int32 []. The
    measurements are the other factory's as `inner`, and the number of `dropped_rows`, of a cohort or of all rings.

    Args:
        inner: From users to their mean.
        minimum: Fewest requesters of a row that is released.
    """

    def __init__(self, inner: UserMeanFactory, minimum: int) -> None:
        if minimum < 1:
            raise ValueError(f"A minimum of {minimum} requesters means nothing; give 1 or more.")
        self._inner = inner
        self._minimum = minimum

    @property
    def encode(self) -> Encode | None:
        """The other factory's."""
        return self._inner.encode

    @property
    def most_users(self) -> int | None:
        """The other factory's."""
        return self._inner.most_users

    def create(self, value_type: tff.Type, weight_type: tff.Type) -> tff.templates.AggregationProcess:
        """`value_type` holds sums over a block's users, `weight_type` the sum of their weights."""
        # Not `value_type.items()`: `items` is one of its fields.
        parts = collections.OrderedDict(tff.structure.to_elements(value_type))
        release_type = parts.pop(RELEASE)
        inner = self._inner.create(tff.to_type(parts), weight_type)
        mean_type = inner.next.type_signature.result.result.member
        secure = self._inner.encode is not None

        @tff.tensorflow.computation(value_type)
        def part(value: Any) -> Any:
            value = collections.OrderedDict(value)
            release = value.pop(RELEASE)
            return value, release

        @tff.tensorflow.computation(mean_type, release_type)
        def released(mean: Any, release: Any) -> Any:
            if not release_type.shape:
                return mean, release
            enough = release >= self._minimum
            mean = collections.OrderedDict(mean)
            mean["items"] = tf.where(enough[:, tf.newaxis], mean["items"], 0.0)
            return mean, tf.reduce_sum(tf.cast(~enough & (release > 0), tf.int32))

        @tff.federated_computation(
            inner.initialize.type_signature.result,
            tff.FederatedType(value_type, tff.CLIENTS),
            tff.FederatedType(weight_type, tff.CLIENTS),
        )
        def next_fn(state: Any, value: Any, weight: Any) -> Any:
            parted = tff.federated_map(part, value)
            output = inner.next(state, parted[0], weight)
            release = (
                tff.federated_secure_sum_bitwidth(parted[1], _COUNT_BITS) if secure else tff.federated_sum(parted[1])
            )
            mean, dropped = tff.federated_map(released, (output.result, release))
            measurements = collections.OrderedDict(inner=output.measurements, dropped_rows=dropped)
            return tff.templates.MeasuredProcessOutput(output.state, mean, tff.federated_zip(measurements))

        return tff.templates.AggregationProcess(inner.initialize, next_fn)


def release_spec(encode: Encode | None, num_items: int) -> tf.TensorSpec:
    """Of `release` in a block's sums."""
    in_rings = encode is not None and encode.rings is not None
    return tf.TensorSpec([] if in_rings else [num_items], np.int32)
