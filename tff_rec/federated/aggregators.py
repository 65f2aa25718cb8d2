"""From every user's contribution to the mean over users: plainly, or through TFF's secure sum of integers.

Blocks of devices arrive with sums over their users (`contributions.block_sum`), so an aggregation has two halves: what
happens to each user's contribution inside the block, before it is added to any other (`encode`), and how the blocks'
sums meet at the server (`create`).
"""

import collections
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_rec.federated import adaptive_clipping
from tff_rec.federated.encoding import Encode, FixedPoint


class UserMeanFactory(Protocol):
    """A weighted aggregation factory over sums of blocks, with the encoding that each user applies first."""

    @property
    def encode(self) -> Encode | None:
        """Applied to each user's weighted contribution; None where values are summed as they are."""
        ...

    @property
    def most_users(self) -> int | None:
        """Users of one TFF client, all its blocks together, whose sum fits; None where any number's does."""
        ...

    def create(self, value_type: tff.Type, weight_type: tff.Type) -> tff.templates.AggregationProcess:
        """`(<S@SERVER, {V}@CLIENTS, {W}@CLIENTS> -> <state=S, result=mean@SERVER, measurements>)`."""
        ...


class UserSumFactory(UserMeanFactory, Protocol):
    """A `UserMeanFactory` that can stop short of the division, for those who have another use for the sums."""

    def create_sum(self, value_type: tff.Type, weight_type: tff.Type) -> tff.templates.AggregationProcess:
        """`(<S@SERVER, {V}@CLIENTS, {W}@CLIENTS> -> <state=S, result=<value, weight>@SERVER, measurements>)`.

        The result are sums over all users, decoded to float32.
        """
        ...

    def rounding_error(self, name: str) -> float:
        """Most that encoding changes a coordinate of part `name` of a user's contribution within its bound."""
        ...


class PlainMeanFactory(tff.aggregators.WeightedAggregationFactory):
    """Sums values and weights as floats and divides. The server sees each block's sum."""

    encode = None
    most_users = None

    def create(self, value_type: tff.Type, weight_type: tff.Type) -> tff.templates.AggregationProcess:
        """`value_type` holds sums over a block's users, `weight_type` the sum of their weights."""
        return mean_of_sums(self.create_sum(value_type, weight_type))

    def create_sum(self, value_type: tff.Type, weight_type: tff.Type) -> tff.templates.AggregationProcess:
        """As in `UserSumFactory`."""
        return _decoded_sums(
            tff.aggregators.SumFactory(), value_type, weight_type, lambda value, weight: (value, weight)
        )

    def rounding_error(self, name: str) -> float:
        """None."""
        del name
        return 0.0


class SecureMeanFactory(tff.aggregators.WeightedAggregationFactory):
    """Each user's weighted values become integers; integers are summed through `tff.aggregators.SecureSumFactory`.

    TFF ships no secure-aggregation protocol: in simulation the secure sum is a plain sum of the same integers, and the
    process has the type and the arithmetic of the real one. What the server would learn under a protocol is the sum.

    Args:
        bounds: Encoding of `query`, `items`, `loss` and `weight`. The bounds hold after weighting.
        most_users: Bounds what the sum of a TFF client's blocks can reach.
    """

    def __init__(self, bounds: dict[str, FixedPoint], most_users: int = 1 << 16) -> None:
        check_bounds(bounds)
        self._bounds = dict(bounds)
        self.most_users = most_users

    @property
    def encode(self) -> Encode:
        """To integers, each by itself."""
        return Encode(self._bounds)

    def create(self, value_type: tff.Type, weight_type: tff.Type) -> tff.templates.AggregationProcess:
        """`value_type` and `weight_type` hold sums of int64, as `contributions.block_sum` gives with `encode`."""
        return mean_of_sums(self.create_sum(value_type, weight_type))

    def create_sum(self, value_type: tff.Type, weight_type: tff.Type) -> tff.templates.AggregationProcess:
        """As in `UserSumFactory`; types as in `create`."""

        def decode(value: Any, weight: Any) -> tuple[Any, Any]:
            decoded = collections.OrderedDict(
                (name, tf.nest.map_structure(self._bounds[name].decode, part)) for name, part in value.items()
            )
            return decoded, self._bounds["weight"].decode(weight)

        largest = max(point.limit for point in self._bounds.values()) * self.most_users
        secure_sum = tff.aggregators.SecureSumFactory(np.int64(largest), np.int64(-largest))
        return _decoded_sums(secure_sum, value_type, weight_type, decode)

    def rounding_error(self, name: str) -> float:
        """As of the part's encoding."""
        return self._bounds[name].rounding_error


def secure_mean(
    query_bound: float, item_bound: float, weight_bound: float, loss_bound: float = 32.0, bits: int = 24
) -> SecureMeanFactory:
    """A secure mean from bounds on one user's values before weighting.

    Args:
        query_bound: Of any coordinate of the query-tower update, e.g. its clip norm.
        item_bound: Of any coordinate of the item gradients, e.g. their clip norm.
        weight_bound: Of a user's weight.
        loss_bound: Of a user's mean loss.
        bits: Width of one encoded value.
    """
    return SecureMeanFactory(weighted_bounds(query_bound, item_bound, weight_bound, loss_bound, bits))


def weighted_bounds(
    query_bound: float, item_bound: float, weight_bound: float, loss_bound: float, bits: int
) -> dict[str, FixedPoint]:
    """Encodings of a user's weighted contribution and of adaptive clipping's count; arguments as in `secure_mean`."""
    return {
        "query": FixedPoint(query_bound * weight_bound, bits),
        "items": FixedPoint(item_bound * weight_bound, bits),
        "loss": FixedPoint(loss_bound * weight_bound, bits),
        "weight": FixedPoint(weight_bound, bits),
        adaptive_clipping.BELOW: FixedPoint(adaptive_clipping.BELOW_BOUND, bits),
    }


def check_bounds(bounds: dict[str, FixedPoint]) -> None:
    """Raises ValueError unless every part of a contribution has an encoding."""
    missing = {"query", "items", "loss", "weight"} - bounds.keys()
    if missing:
        raise ValueError(f"An encoded sum needs a bound for {', '.join(sorted(missing))}.")


def mean_of_sums(sums: tff.templates.AggregationProcess) -> tff.templates.AggregationProcess:
    """From a process of `UserSumFactory.create_sum` to one whose result is value / weight, 0 where the weight is."""
    state_type, value_type, weight_type = sums.next.type_signature.parameter

    @tff.tensorflow.computation(sums.next.type_signature.result.result.member)
    def divide(total: Any) -> Any:
        return tf.nest.map_structure(lambda part: tf.math.divide_no_nan(part, total[1]), total[0])

    @tff.federated_computation(state_type, value_type, weight_type)
    def next_fn(state: Any, value: Any, weight: Any) -> Any:
        output = sums.next(state, value, weight)
        mean = tff.federated_map(divide, output.result)
        return tff.templates.MeasuredProcessOutput(output.state, mean, output.measurements)

    return tff.templates.AggregationProcess(sums.initialize, next_fn)


def _decoded_sums(
    sum_factory: tff.aggregators.UnweightedAggregationFactory,
    value_type: tff.Type,
    weight_type: tff.Type,
    decode: Callable[[Any, Any], tuple[Any, Any]],
) -> tff.templates.AggregationProcess:
    sum_process = sum_factory.create(tff.StructWithPythonType([value_type, weight_type], tuple))

    @tff.tensorflow.computation(sum_process.next.type_signature.result.result.member)
    def decoded(total: Any) -> Any:
        return decode(total[0], total[1])

    @tff.federated_computation(
        sum_process.initialize.type_signature.result,
        tff.FederatedType(value_type, tff.CLIENTS),
        tff.FederatedType(weight_type, tff.CLIENTS),
    )
    def next_fn(state: Any, value: Any, weight: Any) -> Any:
        total = sum_process.next(state, tff.federated_zip((value, weight)))
        result = tff.federated_map(decoded, total.result)
        return tff.templates.MeasuredProcessOutput(total.state, result, total.measurements)

    return tff.templates.AggregationProcess(sum_process.initialize, next_fn)
