"""User-level differential privacy: Gaussian noise on the sum over users, once a round, at the server.

Everything that a user contributes in a round is bounded on the device, by the clip norm of each part: of the query part
and the item part an L2 norm, of the loss its range (`contributions`, `tag_aware`). Every user weighs 1. The server adds
noise to the sum over the cohort and divides by the expected size of a cohort, a public number: neither the count of
users nor an unnoised sum is released, and nothing that the aggregation under the noise measures.

Several parts are released together. Part k, of clip norm C, gets noise of standard deviation z · C / √share, where
shares add up to 1: over z the parts together move by at most 1 with one user, so that the round is a Gaussian mechanism
of noise multiplier z (`privacy_accounting`). m parts of equal shares get z · C · √m each.

Whom one must trust: this is central differential privacy. The server draws the noise, and what protects users from all
who see models protects them from the server only as far as the sum below hides them: devices clip, encode, and add up
(plainly, by secure sum, by ring); the server decodes the sum, adds the noise, and forgets what it saw. With secure sum
or ring it sees the cohort's sum without noise and no user's part. Encoding rounds; by how much a user's rounding can
lengthen a contribution is added to the clip norm.

Noise is independent from round to round (DP-SGD and DP-FedAvg, McMahan et al. 2018, for Poisson cohorts), or that of a
binary tree over rounds (DP-FTRL, Kairouz et al. 2021, https://arxiv.org/abs/2103.00039), for cohorts that are not
sampled. Either is a function of the seed and the round in the aggregation's state, and of nothing else: not of how
users are grouped in blocks. Seeds make simulations repeatable; a real server must draw its seed secretly.

Clip norms may move from round to round (`adaptive_clipping`): what is summed then has the norm 1, and the count that
moves them is one more part. Silos may add noise to sums over their own users (`private_silos`).

`laplace_uploads` is the local baseline of published work, a guarantee per upload and not per user.
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_rec.federated import contributions
from tff_rec.federated.aggregators import UserSumFactory
from tff_rec.federated.encoding import Encode

Noise = Callable[[list[int], tf.Tensor, tf.Tensor], tf.Tensor]
"""Standard normal numbers of a shape, from a key, int32 [2], and the number of the round, from 0, int32."""

_SHARES_TOLERANCE = 1e-6


@dataclasses.dataclass(frozen=True)
class Part:
    """How one part of a user's contribution is bounded, and how much of the privacy budget its release takes.

    Attributes:
        clip_norm: Largest L2 norm of a user's part.
        share: Of the budget, in (0, 1]; the variance of the noise is inverse to it.
    """

    clip_norm: float
    share: float

    def __post_init__(self) -> None:
        if not 0 < self.clip_norm < math.inf:
            raise ValueError(f"A clip norm must be positive, not {self.clip_norm}.")
        if not 0 < self.share <= 1:
            raise ValueError(f"A share of the budget lies in (0, 1], unlike {self.share}.")

    def unit_deviation(self, rounding: float = 0.0) -> float:
        """Standard deviation of the noise for a noise multiplier of 1, where rounding may lengthen a user's part."""
        return (self.clip_norm + rounding) / math.sqrt(self.share)


def independent_noise(shape: list[int], key: tf.Tensor, round_number: tf.Tensor) -> tf.Tensor:
    """New noise each round: float32 of the shape."""
    return tf.random.stateless_normal(shape, tf.random.experimental.stateless_fold_in(key, round_number))


def tree_noise(rounds_per_epoch: int) -> Noise:
    """Noise of which the sum over the first t rounds of an epoch is that of at most log2(t) + 1 nodes of a tree.

    Round t, from 1, ends the node of each level l whose bit is the lowest that is set in t. The sum over rounds 1 to t
    is made of the nodes of the bits set in t; a round adds what that sum gains: a new node, less those it replaces.

    Args:
        rounds_per_epoch: A new tree begins after so many.

    Raises:
        ValueError: There is no round in an epoch.
    """
    if rounds_per_epoch < 1:
        raise ValueError(f"An epoch has one round or more, not {rounds_per_epoch}.")

    @tf.autograph.experimental.do_not_convert
    def noise(shape: list[int], key: tf.Tensor, round_number: tf.Tensor) -> tf.Tensor:
        fold = tf.random.experimental.stateless_fold_in
        epoch_key = fold(key, round_number // rounds_per_epoch)
        before = round_number % rounds_per_epoch

        def node(level: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
            return tf.random.stateless_normal(shape, fold(fold(epoch_key, level), index))

        def replaced(level: tf.Tensor) -> tf.Tensor:
            return tf.equal(tf.bitwise.bitwise_and(tf.bitwise.right_shift(before, level), 1), 1)

        def without(level: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return level + 1, total - node(level, tf.bitwise.right_shift(before, level))

        start = tf.zeros([], tf.int32), tf.zeros(shape)
        level, removed = tf.while_loop(lambda level, total: replaced(level), without, start)
        return removed + node(level, tf.bitwise.right_shift(before + 1, level))

    return noise


class NoisedMeanFactory(tff.aggregators.WeightedAggregationFactory):
    """Another factory's sums over users with noise, over the expected number of users; a `UserMeanFactory`.

    The state holds the other factory's as `inner`, and as `own` `seed`, int32 [2], `round`, int32, from 0, and
    `noise_multiplier`, float32. There are no measurements.

    Args:
        inner: From users to their sum.
        parts: All parts of a contribution but the weight; their shares add up to 1.
        noise_multiplier: z of the module's docstring; not negative. 0 adds no noise, and promises nothing.
        expected_users: Of a cohort.
        seed: Of the noise, not negative.
        noise: How rounds' noises depend on each other.

    Raises:
        ValueError: A number is out of range, or shares do not add up to 1.
    """

    def __init__(
        self,
        inner: UserSumFactory,
        parts: Mapping[str, Part],
        noise_multiplier: float,
        expected_users: float,
        seed: int,
        noise: Noise = independent_noise,
    ) -> None:
        if not 0 <= noise_multiplier < math.inf:
            raise ValueError(f"The noise multiplier must be 0 or positive, not {noise_multiplier}.")
        if expected_users <= 0:
            raise ValueError(f"A cohort of {expected_users} users has no mean.")
        if abs(sum(part.share for part in parts.values()) - 1.0) > _SHARES_TOLERANCE:
            raise ValueError("The parts' shares of the privacy budget must add up to 1.")
        self._inner = inner
        self._parts = dict(parts)
        self._noise_multiplier = noise_multiplier
        self._expected_users = expected_users
        self._seed = np.array([seed, 0], np.int32)
        self._noise = noise

    @property
    def encode(self) -> Encode | None:
        """The other factory's."""
        return self._inner.encode

    @property
    def most_users(self) -> int | None:
        """The other factory's."""
        return self._inner.most_users

    def standard_deviation(self, name: str, numbers: int) -> float:
        """Of the noise on the sum of a part that is made of so many numbers."""
        return self._noise_multiplier * self._unit(name, numbers)

    def mean_deviation(self, name: str, numbers: int) -> float:
        """The same on the mean that is released."""
        return self.standard_deviation(name, numbers) / self._expected_users

    def _unit(self, name: str, numbers: int) -> float:
        """Standard deviation for a noise multiplier of 1."""
        return self._parts[name].unit_deviation(math.sqrt(numbers) * self._inner.rounding_error(name))

    def create(self, value_type: tff.Type, weight_type: tff.Type) -> tff.templates.AggregationProcess:
        """`value_type` holds sums over a block's users, `weight_type` the sum of their weights, which is not released.

        Raises:
            ValueError: The value has other parts than were bounded.
        """
        names = [name for name, _ in tff.structure.to_elements(value_type)]
        if set(names) != set(self._parts):
            raise ValueError(
                f"A contribution has the parts {', '.join(names)}, and bounded are {', '.join(self._parts)}."
            )
        inner = self._inner.create_sum(value_type, weight_type)
        sums_type = inner.next.type_signature.result.result.member

        @tff.tensorflow.computation
        def first() -> Any:
            return collections.OrderedDict(
                seed=tf.constant(self._seed),
                round=tf.zeros([], tf.int32),
                noise_multiplier=tf.constant(self._noise_multiplier, tf.float32),
            )

        own_type = first.type_signature.result

        @tff.tensorflow.computation(own_type, sums_type)
        @tf.function(autograph=False)
        def noised(own: Any, sums: Any) -> Any:
            return self._noised(own, collections.OrderedDict(sums[0]))

        @tff.tensorflow.computation(own_type)
        def following(own: Any) -> Any:
            return collections.OrderedDict(own, round=own["round"] + 1)

        @tff.federated_computation
        def initialize() -> Any:
            return tff.federated_zip(
                collections.OrderedDict(inner=inner.initialize(), own=tff.federated_eval(first, tff.SERVER))
            )

        @tff.federated_computation(
            initialize.type_signature.result,
            tff.FederatedType(value_type, tff.CLIENTS),
            tff.FederatedType(weight_type, tff.CLIENTS),
        )
        def next_fn(state: Any, value: Any, weight: Any) -> Any:
            output = inner.next(state["inner"], value, weight)
            mean = tff.federated_map(noised, (state["own"], output.result))
            after = collections.OrderedDict(inner=output.state, own=tff.federated_map(following, state["own"]))
            return tff.templates.MeasuredProcessOutput(
                tff.federated_zip(after), mean, tff.federated_value((), tff.SERVER)
            )

        return tff.templates.AggregationProcess(initialize, next_fn)

    @tf.autograph.experimental.do_not_convert
    def _noised(self, own: Any, sums: collections.OrderedDict[str, Any]) -> collections.OrderedDict[str, Any]:
        released = noised_sums(
            sums,
            lambda name, numbers: own["noise_multiplier"] * self._unit(name, numbers),
            own["seed"],
            lambda shape, key: self._noise(shape, key, own["round"]),
        )
        return tf.nest.map_structure(lambda total: total / self._expected_users, released)


@tf.autograph.experimental.do_not_convert
def noised_sums(
    sums: collections.OrderedDict[str, Any],
    deviation: Callable[[str, int], tf.Tensor | float],
    key: tf.Tensor,
    draw: Callable[[list[int], tf.Tensor], tf.Tensor],
) -> collections.OrderedDict[str, Any]:
    """Sums over users with noise on every number.

    Args:
        sums: By part, of float32.
        deviation: From a part's name and its number of numbers to the standard deviation.
        key: int32 [2], from which keys of tensors are folded.
        draw: From a shape and a key, int32 [2], to standard normal numbers.
    """
    noisy = collections.OrderedDict()
    for place, (name, part) in enumerate(sums.items()):
        leaves = tf.nest.flatten(part)
        scale = deviation(name, sum(math.prod(leaf.shape) for leaf in leaves))
        part_key = tf.random.experimental.stateless_fold_in(key, place)
        keys = [tf.random.experimental.stateless_fold_in(part_key, number) for number in range(len(leaves))]
        released = [
            leaf + scale * draw(leaf.shape.as_list(), leaf_key) for leaf, leaf_key in zip(leaves, keys, strict=True)
        ]
        noisy[name] = tf.nest.pack_sequence_as(part, released)
    return noisy


def laplace_uploads(scales: Mapping[str, float]) -> contributions.UploadNoise:
    """Laplace noise on each number of each user's upload, as published for federated recommenders.

    E.g. FedGNN (Wu et al. 2021, https://arxiv.org/abs/2102.04925), which states ε = 2 · clip / scale. That is a figure
    of one number of one upload: an upload has many numbers, a user uploads in many rounds, and neither is counted. The
    loss is not covered.

    Args:
        scales: Of the noise, by part.

    Returns:
        From a block's sums and its users' seeds, int32 [users], to the sums of what the users would have sent.
    """

    @tf.autograph.experimental.do_not_convert
    def noised(sums: collections.OrderedDict[str, Any], seeds: tf.Tensor) -> collections.OrderedDict[str, Any]:
        noisy = collections.OrderedDict(sums)
        for place, (name, scale) in enumerate(scales.items()):
            leaves = tf.nest.flatten(sums[name])
            noises = [
                scale * _summed_laplace(leaf.shape.as_list(), seeds, place, number)
                for number, leaf in enumerate(leaves)
            ]
            added = [leaf + noise for leaf, noise in zip(leaves, noises, strict=True)]
            noisy[name] = tf.nest.pack_sequence_as(sums[name], added)
        return noisy

    return noised


def _summed_laplace(shape: list[int], seeds: tf.Tensor, place: int, number: int) -> tf.Tensor:
    """The sum over users of one standard Laplace number each, for every entry of the shape."""
    lowest = np.nextafter(np.float32(-1.0), np.float32(0.0))

    def add(total: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        key = tf.random.experimental.stateless_fold_in(tf.stack([seed, place]), number)
        uniform = tf.random.stateless_uniform(shape, key, minval=lowest, maxval=1.0)
        return total - tf.sign(uniform) * tf.math.log1p(-tf.abs(uniform))

    return tf.foldl(add, seeds, initializer=tf.zeros(shape))
