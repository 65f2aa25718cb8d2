"""The circular secret-sharing chain of SpFedRec (Qin et al. 2023): exact sums of integers, simulated.

A device splits its vector of fixed-point integers into s shares that are each uniform modulo 2^b and add up to it. It
keeps one, sends one to each of its next s-1 neighbours in a ring of devices, and uploads the sum of what it kept and
received. The server adds the uploads of the ring: the shares cancel, and the sum of the vectors is left, exactly.

Who learns what, if all follow the protocol: the server learns the sum over each ring (not over the cohort) and who
dropped out; a device learns uniform shares. In a ring of 2s-1 members or more a device's vector stays hidden until the
server, all its s-1 predecessors and all its s-1 successors put together what they saw. A lying server is not covered.

What is simulated: one process plays all devices and the server. There is no network, no key agreement, and no
encryption of the shares on their way, which real devices need, as their messages pass through the server. `ring_round`
draws shares from ChaCha20 under keys of the operating system. Inside TFF, `RingMeanFactory` computes the same uploads
with masks from TensorFlow's Philox generator, which is uniform but keeps no secrets.
"""

import collections
import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from tff_rec.federated.aggregators import FixedPoint

KEY_BYTES = 32


@dataclasses.dataclass(frozen=True)
class Ring:
    """Parameters of the chain.

    A cohort of n devices, in its order, makes max(1, n // group_size) rings of `group_size` members; the last takes the
    remainder, so that it has up to 2 group_size - 1. A cohort below `group_size` is one smaller ring.

    Attributes:
        value_limit: Largest magnitude of one device's integer.
        max_users: Most devices whose integers are added up.
        shares: Shares of a vector, s; the chain goes to s-1 neighbours.
        group_size: Devices in a ring.
        modulus_bits: b: shares and uploads are integers modulo 2^b.
        minimum_members: Fewest devices whose sum is released; a ring never has fewer than `shares` either.
    """

    value_limit: int
    max_users: int
    shares: int = 3
    group_size: int = 10
    modulus_bits: int = 64
    minimum_members: int = 3

    def __post_init__(self) -> None:
        if self.shares < 2:
            raise ValueError(f"A vector is split into at least 2 shares, not {self.shares}.")
        if min(self.value_limit, self.max_users, self.minimum_members) < 1:
            raise ValueError("value_limit, max_users and minimum_members must be positive.")
        if self.group_size < self.fewest:
            raise ValueError(f"A ring of {self.group_size} is below the {self.fewest} members that it needs.")
        if not 2 <= self.modulus_bits <= 64:
            raise ValueError(f"The modulus has 2 to 64 bits, not {self.modulus_bits}.")
        if self.value_limit * self.max_users >= 2 ** (self.modulus_bits - 1):
            raise ValueError(
                f"The sum of {self.max_users} integers of up to {self.value_limit} can exceed {self.modulus_bits} bits."
            )

    @property
    def fewest(self) -> int:
        """Fewest members of a ring that yields a sum."""
        return max(self.shares, self.minimum_members)

    def groups(self, num_users: int) -> list[np.ndarray]:
        """Members of every ring of a cohort: int64 positions in it."""
        cuts = np.arange(1, max(1, num_users // self.group_size)) * self.group_size
        return np.split(np.arange(num_users), cuts)


@dataclasses.dataclass(frozen=True)
class Abandoned:
    """A ring without a sum in this round: its members' positions in the cohort, and why."""

    members: tuple[int, ...]
    reason: str


@dataclasses.dataclass(frozen=True)
class RingRound:
    """What the server has after a round.

    Attributes:
        total: int64, sum of the included devices' integers.
        included: bool [users].
        abandoned: Rings that gave no sum. Their members, and those who dropped out while sharing, are not included.
    """

    total: np.ndarray
    included: np.ndarray
    abandoned: tuple[Abandoned, ...]


def new_keys(num_users: int) -> list[bytes]:
    """One key a device for one round, from the operating system's generator."""
    return [os.urandom(KEY_BYTES) for _ in range(num_users)]


def share(values: np.ndarray, ring: Ring, keys: Sequence[bytes], attempt: int = 0) -> np.ndarray:
    """Shares of every device's vector: the last s-1 from its ChaCha20 stream, the first makes up the rest.

    Args:
        values: int64 [users, ...], each in [-value_limit, value_limit].
        ring: Parameters.
        keys: Of each device 32 bytes, never used for another vector.
        attempt: Another attempt with the same vector takes another stream.

    Returns:
        uint64 [users, s, ...], below 2^b. Share 0 is kept, share k is for the k-th neighbour.

    Raises:
        ValueError: A value is no integer or out of range, or there is not one key a device.
    """
    if values.dtype != np.int64 or np.any(values > ring.value_limit) or np.any(values < -ring.value_limit):
        raise ValueError(f"Shared values must be int64 within ±{ring.value_limit}.")
    if len(keys) != len(values):
        raise ValueError(f"There are {len(keys)} keys for {len(values)} devices.")
    shape = (ring.shares - 1, *values.shape[1:])
    words = np.array([_words(key, attempt, int(np.prod(shape))) for key in keys], np.uint64)
    sent = words.reshape(len(values), *shape) & _mask(ring)
    kept = (values.view(np.uint64) - sent.sum(axis=1, dtype=np.uint64)) & _mask(ring)
    return np.concatenate([kept[:, np.newaxis], sent], axis=1)


def upload(shares: np.ndarray, ring: Ring) -> np.ndarray:
    """What each member of one ring uploads: uint64 [members, s, ...] → [members, ...].

    Share k of member i has gone to member i + k, counted around the ring.
    """
    arrived = [np.roll(shares[:, distance], distance, axis=0) for distance in range(shares.shape[1])]
    return np.sum(arrived, axis=0, dtype=np.uint64) & _mask(ring)


def group_sum(uploads: np.ndarray, ring: Ring) -> np.ndarray:
    """The sum of the members' vectors from all uploads of one ring: uint64 [members, ...] → int64 [...]."""
    spare = np.uint64(64 - ring.modulus_bits)
    total = np.asarray(np.sum(uploads, axis=0, dtype=np.uint64))
    return np.right_shift(np.left_shift(total, spare).view(np.int64), np.int64(spare))


def ring_round(
    values: np.ndarray, ring: Ring, messages_sent: np.ndarray | None = None, keys: Sequence[bytes] | None = None
) -> RingRound:
    """One round of a cohort, with devices that drop out.

    A device that has not sent all its shares is missed by a neighbour before anybody uploads: the ring closes without
    it and shares again, with fresh randomness. A device that has shared and does not upload leaves a sum that nothing
    is known of, and its ring is abandoned. To repair that sum, neighbours would have to reveal the missing device's
    shares, and an upload that is only late would then lay its vector open.

    Args:
        values: int64 [users, ...], each in [-value_limit, value_limit].
        ring: Parameters.
        messages_sent: int64 [users], messages that a device got out before it dropped out: 0 to s-1 shares, nearest
            neighbour first; s with the upload, as all do by default.
        keys: One a device, for this round only; by default from the operating system.

    Raises:
        ValueError: A value is no integer or out of range, there are more devices than `max_users`, or `messages_sent`
            or `keys` are not one a device.
    """
    num_users = len(values)
    if num_users > ring.max_users:
        raise ValueError(f"There are {num_users} devices, and the ring was made for up to {ring.max_users}.")
    sent = np.full(num_users, ring.shares) if messages_sent is None else np.asarray(messages_sent)
    if sent.shape != (num_users,) or np.any(sent < 0) or np.any(sent > ring.shares):
        raise ValueError(f"messages_sent must be one number from 0 to {ring.shares} a device.")
    keys = new_keys(num_users) if keys is None else keys
    if len(keys) != num_users:
        raise ValueError(f"There are {len(keys)} keys for {num_users} devices.")
    total, included, abandoned = np.zeros(values.shape[1:], np.int64), np.zeros(num_users, bool), []
    for group in ring.groups(num_users):
        members = group[sent[group] >= ring.shares - 1]
        if len(members) < ring.fewest:
            abandoned.append(Abandoned(tuple(group.tolist()), f"{len(members)} of {len(group)} members shared"))
            continue
        attempt = int(len(members) < len(group))
        uploads = upload(share(values[members], ring, [keys[member] for member in members], attempt), ring)
        arrived = sent[members] == ring.shares
        if not arrived.all():
            reason = f"{np.sum(~arrived)} of {len(members)} members shared and did not upload"
            abandoned.append(Abandoned(tuple(group.tolist()), reason))
            continue
        total += group_sum(uploads, ring)
        included[members] = True
    return RingRound(total, included, tuple(abandoned))


def block_uploads(values: tf.Tensor, ring: Ring) -> tf.Tensor:
    """Uploads of all devices of a block, whose rings lie within it: int64 [users, ...] → int64 [users, ...].

    A device's upload is its vector, less the shares that it sent, plus those that it received. Over the block, the sum
    of uploads modulo 2^b is the sum of vectors. Entry [i, ...] must mean the same for all users.

    Raises:
        tf.errors.InvalidArgumentError: A value is out of range (as NaN is, once encoded), or the block has fewer users
            than a ring needs or more than `max_users`.
    """
    users = tf.shape(values)[0]
    checks = [
        tf.debugging.assert_greater_equal(users, ring.fewest, f"A block needs {ring.fewest} users to form a ring."),
        tf.debugging.assert_less_equal(users, ring.max_users, f"A block has at most {ring.max_users} users."),
        tf.debugging.assert_less_equal(values, tf.constant(ring.value_limit, tf.int64), "A value is out of range."),
        tf.debugging.assert_greater_equal(values, tf.constant(-ring.value_limit, tf.int64), "A value is out of range."),
    ]
    with tf.control_dependencies([check for check in checks if check is not None]):
        total = tf.bitcast(values, tf.uint64)
    for distance in range(1, ring.shares):
        seed = tf.random.uniform([2], maxval=tf.int64.max, dtype=tf.int64)
        sent = tf.random.stateless_uniform(tf.shape(values), seed, minval=None, maxval=None, dtype=tf.uint64)
        total = total - sent + tf.gather(sent, _predecessors(users, ring, distance))
    return tf.bitcast(tf.bitwise.bitwise_and(total, tf.constant(int(_mask(ring)), tf.uint64)), tf.int64)


class RingMeanFactory(tff.aggregators.WeightedAggregationFactory):
    """A weighted mean over users through rings of devices; a drop-in for `aggregators.SecureMeanFactory`.

    In simulation the rings lie within blocks: `encode` turns the users' contributions into their uploads, and the sum
    over the block, which `contributions.block_sum` takes, is what the server gets by adding them. No user of the
    simulation drops out. Contributions must be dense: with rows of a user's own choice, neighbours' masks would land on
    different items and not cancel.

    Args:
        bounds: Encoding of `query`, `items`, `loss` and `weight`. The bounds hold after weighting.
        ring: Parameters; `max_users` bounds a block.
        num_items: Rows of a dense item gradient.
    """

    def __init__(self, bounds: dict[str, FixedPoint], ring: Ring, num_items: int) -> None:
        if missing := {"query", "items", "loss", "weight"} - bounds.keys():
            raise ValueError(f"The ring needs a bound for {', '.join(sorted(missing))}.")
        if too_large := [name for name, point in bounds.items() if point.limit > ring.value_limit]:
            raise ValueError(f"The encoding of {', '.join(too_large)} exceeds the ring's limit {ring.value_limit}.")
        self._bounds = dict(bounds)
        self._ring = ring
        self._num_items = num_items

    def encode(self, name: str, value: tf.Tensor) -> tf.Tensor:
        """Uploads of part `name` of a block's contributions: float32 [users, ...] → int64 [users, ...].

        Raises:
            ValueError: Item gradients are not those of the whole table.
        """
        if name == "items" and value.shape[1] != self._num_items:
            raise ValueError(f"The ring adds gradients of all {self._num_items} items; train on the whole table.")
        return block_uploads(self._bounds[name].encode(value), self._ring)

    def create(self, value_type: tff.Type, weight_type: tff.Type) -> tff.templates.AggregationProcess:
        """`value_type` and `weight_type` hold sums of uploads, as `contributions.block_sum` gives with `encode`."""
        most_blocks = (2**63 - 1) // (self._ring.value_limit * self._ring.max_users)

        @tff.tensorflow.computation(value_type, weight_type)
        def block_total(value: Any, weight: Any) -> Any:
            one = tf.ones([], tf.int64)
            return *tf.nest.map_structure(lambda part: _centred(part, self._ring), (value, weight)), one

        @tff.tensorflow.computation(block_total.type_signature.result)
        def divide(total: Any) -> Any:
            value, weight, blocks = total
            most = tf.constant(most_blocks, tf.int64)
            with tf.control_dependencies([tf.debugging.assert_less_equal(blocks, most, "Too many blocks.")]):
                weight = self._bounds["weight"].decode(tf.identity(weight))
            decoded = collections.OrderedDict(
                (name, tf.nest.map_structure(self._bounds[name].decode, part)) for name, part in value.items()
            )
            return tf.nest.map_structure(lambda part: tf.math.divide_no_nan(part, weight), decoded)

        @tff.federated_computation
        def initialize() -> Any:
            return tff.federated_value((), tff.SERVER)

        @tff.federated_computation(
            initialize.type_signature.result,
            tff.FederatedType(value_type, tff.CLIENTS),
            tff.FederatedType(weight_type, tff.CLIENTS),
        )
        def next_fn(state: Any, value: Any, weight: Any) -> Any:
            total = tff.federated_sum(tff.federated_map(block_total, (value, weight)))
            mean = tff.federated_map(divide, total)
            return tff.templates.MeasuredProcessOutput(state, mean, tff.federated_value((), tff.SERVER))

        return tff.templates.AggregationProcess(initialize, next_fn)


def ring_mean(
    query_bound: float,
    item_bound: float,
    weight_bound: float,
    num_items: int,
    loss_bound: float = 32.0,
    bits: int = 24,
    shares: int = 3,
    group_size: int = 10,
    modulus_bits: int = 64,
    max_users_per_block: int = 1 << 16,
) -> RingMeanFactory:
    """A mean through rings from bounds on one user's values before weighting, as in `aggregators.secure_mean`.

    Args:
        query_bound: Of any coordinate of the query-tower update, e.g. its clip norm.
        item_bound: Of any coordinate of the item gradients, e.g. their clip norm.
        weight_bound: Of a user's weight.
        num_items: Rows of the table of item vectors.
        loss_bound: Of a user's mean loss.
        bits: Width of one encoded value.
        shares: Shares of a user's contribution.
        group_size: Users in a ring.
        modulus_bits: Width of a share.
        max_users_per_block: Bounds what a block's sum can reach.
    """
    bounds = {
        "query": FixedPoint(query_bound * weight_bound, bits),
        "items": FixedPoint(item_bound * weight_bound, bits),
        "loss": FixedPoint(loss_bound * weight_bound, bits),
        "weight": FixedPoint(weight_bound, bits),
    }
    limit = bounds["weight"].limit
    ring = Ring(limit, max_users_per_block, shares, group_size, modulus_bits)
    return RingMeanFactory(bounds, ring, num_items)


def _words(key: bytes, attempt: int, count: int) -> np.ndarray:
    nonce = bytes(8) + attempt.to_bytes(8, "little")  # The block counter, from 0, then the nonce proper.
    stream = Cipher(algorithms.ChaCha20(key, nonce), mode=None).encryptor()
    return np.frombuffer(stream.update(bytes(8 * count)), "<u8")


def _mask(ring: Ring) -> np.uint64:
    return np.uint64(2**ring.modulus_bits - 1)


def _predecessors(users: tf.Tensor, ring: Ring, distance: int) -> tf.Tensor:
    """Position of the member `distance` places before each user of a block, counted around its ring."""
    place = tf.range(users)
    last = tf.maximum(users // ring.group_size, 1) - 1
    start = tf.minimum(place // ring.group_size, last) * ring.group_size
    size = tf.where(tf.equal(start, last * ring.group_size), users - start, ring.group_size)
    return start + tf.math.floormod(place - start - distance, size)


def _centred(total: tf.Tensor, ring: Ring) -> tf.Tensor:
    """An int64 modulo 2^b as the one of its representatives that is nearest to 0."""
    spare = tf.constant(64 - ring.modulus_bits, tf.int64)
    return tf.bitwise.right_shift(tf.bitwise.left_shift(total, spare), spare)
