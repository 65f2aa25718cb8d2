"""A minimum of requesters: the summed gradient of a row is used only if enough devices of the cohort asked for the row.

The sum over one requester is that device's gradient. The server serves the requests and so can count them; it tells the
devices which rows to leave out before they send anything. In simulation the rows are struck from the sum, with the same
result.
"""

import collections
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_rec.federated import contributions
from tff_rec.federated.aggregators import UserMeanFactory

REQUESTERS = "requesters"
_COUNT_BITS = 32


def count_requesters(rows: tf.Tensor, num_items: int) -> tf.Tensor:
    """Users of a block that ask for each item: int32 [users, r], negative for none → int32 [num_items]."""
    ordered = tf.sort(rows, axis=1)
    again = tf.concat([tf.zeros_like(ordered[:, :1], tf.bool), tf.equal(ordered[:, 1:], ordered[:, :-1])], axis=1)
    items = tf.reshape(tf.where(again | (ordered < 0), num_items, ordered), [-1])
    return tf.math.bincount(items, minlength=num_items + 1, maxlength=num_items + 1)[:-1]


class RowReleaseFactory(tff.aggregators.WeightedAggregationFactory):
    """Another factory, with the rows of `items` that too few asked for set to 0.

    The value carries, besides what the other factory takes, `requesters`, int32 [items]. The measurements are the other
    factory's as `inner`, and the number of `dropped_rows`.

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
    def encode(self) -> contributions.Encode | None:
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
        counts_type = parts.pop(REQUESTERS)
        inner = self._inner.create(tff.to_type(parts), weight_type)
        mean_type = inner.next.type_signature.result.result.member
        secure = self._inner.encode is not None

        @tff.tensorflow.computation(value_type)
        def part(value: Any) -> Any:
            value = collections.OrderedDict(value)
            counts = value.pop(REQUESTERS)
            return value, counts

        @tff.tensorflow.computation(mean_type, counts_type)
        def release(mean: Any, counts: Any) -> Any:
            released = counts >= self._minimum
            mean = collections.OrderedDict(mean)
            mean["items"] = tf.where(released[:, tf.newaxis], mean["items"], 0.0)
            return mean, tf.reduce_sum(tf.cast(~released & (counts > 0), tf.int32))

        @tff.federated_computation(
            inner.initialize.type_signature.result,
            tff.FederatedType(value_type, tff.CLIENTS),
            tff.FederatedType(weight_type, tff.CLIENTS),
        )
        def next_fn(state: Any, value: Any, weight: Any) -> Any:
            parted = tff.federated_map(part, value)
            output = inner.next(state, parted[0], weight)
            counts = (
                tff.federated_secure_sum_bitwidth(parted[1], _COUNT_BITS) if secure else tff.federated_sum(parted[1])
            )
            mean, dropped = tff.federated_map(release, (output.result, counts))
            measurements = collections.OrderedDict(inner=output.measurements, dropped_rows=dropped)
            return tff.templates.MeasuredProcessOutput(output.state, mean, tff.federated_zip(measurements))

        return tff.templates.AggregationProcess(inner.initialize, next_fn)


def counts_spec(num_items: int) -> tf.TensorSpec:
    """Of the counts in a block's sums."""
    return tf.TensorSpec([num_items], np.int32)
