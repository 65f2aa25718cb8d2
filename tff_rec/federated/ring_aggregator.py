"""The ring of `secret_sharing` as an aggregation factory, for any process that sums blocks of users.

In simulation one process plays all devices, and masks come from TensorFlow's Philox generator, which is uniform but
keeps no secrets: the arithmetic of the chain, with no cryptography in it. Rings lie within blocks. What devices upload
is used in sum alone, so in training they are played together, in as few places as there are shares: what those at a
place share is the sum of their integers, and what they send on a sum of uniform words, which is uniform. The sum
of all uploads, modulo 2^b, is the same as that of `block_uploads`, where each device is played by itself (a test).
"""

import collections
import dataclasses
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tff_rec.federated import encoding
from tff_rec.federated.aggregators import check_bounds, mean_of_sums, weighted_bounds
from tff_rec.federated.encoding import Encode, FixedPoint
from tff_rec.federated.secret_sharing import Ring

_WORD_BITS = 32
_OUT_OF_RANGE = "A value is out of range."


@dataclasses.dataclass(frozen=True)
class BlockRings:
    """`encoding.Rings` as the chain makes them: a device's mask are the shares it received less those it sent.

    Words have 32 bits where that is enough, else 64.

    Attributes:
        ring: Parameters.
    """

    ring: Ring

    @property
    def word(self) -> tf.DType:
        """As in `encoding.Rings`."""
        return tf.int32 if self.ring.modulus_bits <= _WORD_BITS else tf.int64

    def of(self, users: tf.Tensor) -> tf.Tensor:
        """The ring of each user, as `Ring.groups` makes them: int32 [users]."""
        last = tf.maximum(users // self.ring.group_size, 1) - 1
        return tf.minimum(tf.range(users) // self.ring.group_size, last)

    @property
    def places(self) -> int:
        """As in `encoding.Rings`: as few as a chain of so many shares can have."""
        return self.ring.shares

    def checked(self, users: tf.Tensor) -> tf.Tensor:
        """As in `encoding.Rings`: a block has the users of a ring or more, and no more than `max_users`."""
        fewest, most = self.ring.fewest, self.ring.max_users
        checks = [
            tf.debugging.assert_greater_equal(users, fewest, f"A block needs {fewest} users to form a ring."),
            tf.debugging.assert_less_equal(users, most, f"A block has at most {most} users."),
        ]
        with tf.control_dependencies(checks):
            return tf.identity(users)

    def masks(self, shape: tf.Tensor) -> tf.Tensor:
        """As in `encoding.Rings`; each mask is uniform, and any of a ring but all together are independent."""
        sent, received = [], []
        for distance in range(1, self.ring.shares):
            seed = tf.random.uniform([2], maxval=tf.int64.max, dtype=tf.int64)
            sent.append(tf.random.stateless_uniform(shape, seed, minval=None, maxval=None, dtype=self.word))
            received.append(tf.gather(sent[-1], self._predecessors(shape[0], distance)))
        return tf.add_n(received) - tf.add_n(sent)

    def uploads(self, masked: tf.Tensor) -> tf.Tensor:
        """As in `encoding.Rings`: residues modulo 2^b."""
        word = tf.uint32 if self.word == tf.int32 else tf.uint64
        total = tf.bitcast(masked, word)
        if self.ring.modulus_bits in (_WORD_BITS, 2 * _WORD_BITS):
            return total
        return tf.bitwise.bitwise_and(total, tf.constant(int(self.ring.mask), word))

    def _predecessors(self, users: tf.Tensor, distance: int) -> tf.Tensor:
        """Position of the member `distance` places before each user of a block, counted around its ring."""
        place, rings = tf.range(users), self.of(users)
        start = rings * self.ring.group_size
        size = tf.where(tf.equal(rings, tf.reduce_max(rings)), users - start, self.ring.group_size)
        return start + tf.math.floormod(place - start - distance, size)


def block_uploads(values: tf.Tensor, ring: Ring) -> tf.Tensor:
    """Uploads of all devices of a block, whose rings lie within it: signed → unsigned integers [users, ...].

    A device's upload is its vector, less the shares that it sent, plus those that it received. Over the block, the sum
    of uploads modulo 2^b is the sum of vectors. Entry [i, ...] must mean the same for all users.

    Raises:
        tf.errors.InvalidArgumentError: A value is out of range (as NaN is, once encoded), or the block has fewer users
            than a ring needs or more than `max_users`.
    """
    rings = BlockRings(ring)
    with tf.control_dependencies([rings.checked(tf.shape(values)[0])]):
        return encoding.uploads(tf.cast(_in_range(values, ring), rings.word), rings)


class RingMeanFactory(tff.aggregators.WeightedAggregationFactory):
    """A weighted mean over users through rings of devices; a drop-in for `aggregators.SecureMeanFactory`.

    `encode` turns the users' contributions into uploads, and the sum over the block, which `contributions.block_sum`
    takes, is what the server gets by adding them. No user of the simulation drops out. All members of a ring send the
    same rows of items, zeros where they have none; else masks would land on different items and not cancel.

    Args:
        bounds: Encoding of `query`, `items`, `loss` and `weight`. The bounds hold after weighting.
        ring: Parameters; `max_users` bounds a TFF client, all its blocks together.
    """

    def __init__(self, bounds: dict[str, FixedPoint], ring: Ring) -> None:
        check_bounds(bounds)
        if too_large := [name for name, point in bounds.items() if point.limit > ring.value_limit]:
            raise ValueError(f"The encoding of {', '.join(too_large)} exceeds the ring's limit {ring.value_limit}.")
        self._bounds = dict(bounds)
        self._ring = ring
        self.most_users = ring.max_users

    @property
    def encode(self) -> Encode:
        """To integers, none out of the ring's range, and to uploads."""
        return Encode(self._bounds, BlockRings(self._ring))

    def create(self, value_type: tff.Type, weight_type: tff.Type) -> tff.templates.AggregationProcess:
        """`value_type` and `weight_type` hold sums of uploads, as `contributions.block_sum` gives with `encode`."""
        return mean_of_sums(self.create_sum(value_type, weight_type))

    def rounding_error(self, name: str) -> float:
        """As of the part's encoding."""
        return self._bounds[name].rounding_error

    def create_sum(self, value_type: tff.Type, weight_type: tff.Type) -> tff.templates.AggregationProcess:
        """As in `aggregators.UserSumFactory`; types as in `create`."""
        most_clients = (2**63 - 1) // (self._ring.value_limit * self._ring.max_users)

        @tff.tensorflow.computation(value_type, weight_type)
        def client_total(value: Any, weight: Any) -> Any:
            one = tf.ones([], tf.int64)
            return *tf.nest.map_structure(lambda part: _centred(part, self._ring), (value, weight)), one

        @tff.tensorflow.computation(client_total.type_signature.result)
        def decode(total: Any) -> Any:
            value, weight, clients = total
            most = tf.constant(most_clients, tf.int64)
            with tf.control_dependencies([tf.debugging.assert_less_equal(clients, most, "Too many clients.")]):
                weight = self._bounds["weight"].decode(tf.identity(weight))
            decoded = collections.OrderedDict(
                (name, tf.nest.map_structure(self._bounds[name].decode, part)) for name, part in value.items()
            )
            return decoded, weight

        @tff.federated_computation
        def initialize() -> Any:
            return tff.federated_value((), tff.SERVER)

        @tff.federated_computation(
            initialize.type_signature.result,
            tff.FederatedType(value_type, tff.CLIENTS),
            tff.FederatedType(weight_type, tff.CLIENTS),
        )
        def next_fn(state: Any, value: Any, weight: Any) -> Any:
            total = tff.federated_sum(tff.federated_map(client_total, (value, weight)))
            sums = tff.federated_map(decode, total)
            return tff.templates.MeasuredProcessOutput(state, sums, tff.federated_value((), tff.SERVER))

        return tff.templates.AggregationProcess(initialize, next_fn)


def ring_mean(
    query_bound: float,
    item_bound: float,
    weight_bound: float,
    loss_bound: float = 32.0,
    bits: int = 24,
    shares: int = 3,
    group_size: int = 10,
    modulus_bits: int = 64,
    most_users: int = 1 << 16,
) -> RingMeanFactory:
    """A mean through rings from bounds on one user's values before weighting, as in `aggregators.secure_mean`.

    Args:
        query_bound: Of any coordinate of the query-tower update, e.g. its clip norm.
        item_bound: Of any coordinate of the item gradients, e.g. their clip norm.
        weight_bound: Of a user's weight.
        loss_bound: Of a user's mean loss.
        bits: Width of one encoded value.
        shares: Shares of a user's contribution.
        group_size: Users in a ring.
        modulus_bits: Width of a share.
        most_users: Bounds what the sum of a TFF client's blocks can reach.
    """
    bounds = weighted_bounds(query_bound, item_bound, weight_bound, loss_bound, bits)
    limit = bounds["weight"].limit
    ring = Ring(limit, most_users, shares, group_size, modulus_bits)
    return RingMeanFactory(bounds, ring)


def _in_range(values: tf.Tensor, ring: Ring) -> tf.Tensor:
    """The values, which raise InvalidArgumentError when the sum of the devices' could wrap."""
    limit = tf.constant(ring.value_limit, values.dtype)
    checks = [
        tf.debugging.assert_less_equal(tf.reduce_max(values), limit, _OUT_OF_RANGE),
        tf.debugging.assert_greater_equal(tf.reduce_min(values), -limit, _OUT_OF_RANGE),
    ]
    with tf.control_dependencies(checks):
        return tf.identity(values)


def _centred(total: tf.Tensor, ring: Ring) -> tf.Tensor:
    """An int64 modulo 2^b as the one of its representatives that is nearest to 0."""
    spare = tf.constant(64 - ring.modulus_bits, tf.int64)
    return tf.bitwise.right_shift(tf.bitwise.left_shift(total, spare), spare)
