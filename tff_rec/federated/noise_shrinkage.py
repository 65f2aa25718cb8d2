"""What a server can do about noise that it has added itself: average over rounds, and shrink rows that are all noise.

Most items of a catalogue are rare: a round's noise on their rows is far longer than their gradient, and an optimizer
that follows it writes noise into the table. The server knows the noise's variance. It keeps an exponential mean of the
noised item gradients over rounds, and multiplies each row m of that mean by

    max(0, 1 - strength · d · variance / |m|²),

the positive-part James-Stein estimate where strength · d is d - 2 (James and Stein 1961; of noised releases Balle and
Wang 2018, https://arxiv.org/abs/1805.06530, section 4). Rows that many users move keep their step, rows of noise stay
where they are. It reads nothing but what was released: by post-processing ε is the same with and without.
"""

import collections
import dataclasses
import math
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tff_rec.federated.encoding import Encode
from tff_rec.federated.privacy import NoisedMeanFactory

_PART = "items"


@dataclasses.dataclass(frozen=True)
class Shrinkage:
    """How much of the noise is taken off.

    Attributes:
        strength: 0 only averages; about 1 is James and Stein's.
        momentum: Share of the mean so far in the new one, in [0, 1).
    """

    strength: float
    momentum: float = 0.9

    def __post_init__(self) -> None:
        if self.strength < 0:
            raise ValueError(f"A strength is 0 or positive, unlike {self.strength}.")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"A momentum lies in [0, 1), unlike {self.momentum}.")


class ShrunkMeanFactory(tff.aggregators.WeightedAggregationFactory):
    """A noised mean, its item part averaged over rounds and shrunk; a `UserMeanFactory`.

    The state holds the other factory's as `noised`, and `running`, float32 [items, d], with the `variance` of the noise
    on each of its numbers.

    Args:
        noised: Noise is drawn anew each round.
        shrinkage: How much.
    """

    def __init__(self, noised: NoisedMeanFactory, shrinkage: Shrinkage) -> None:
        self._noised = noised
        self._shrinkage = shrinkage

    @property
    def encode(self) -> Encode | None:
        """The other factory's."""
        return self._noised.encode

    @property
    def most_users(self) -> int | None:
        """The other factory's."""
        return self._noised.most_users

    def create(self, value_type: tff.Type, weight_type: tff.Type) -> tff.templates.AggregationProcess:
        """As `NoisedMeanFactory.create`."""
        inner = self._noised.create(value_type, weight_type)
        mean_type = inner.next.type_signature.result.result.member
        shape = list(dict(tff.structure.to_elements(mean_type))[_PART].shape)
        deviation = self._noised.mean_deviation(_PART, math.prod(shape))

        @tff.tensorflow.computation
        def first() -> Any:
            return collections.OrderedDict(running=tf.zeros(shape), variance=tf.zeros([]))

        own_type = first.type_signature.result

        @tff.tensorflow.computation(own_type, mean_type)
        @tf.function(autograph=False)
        def averaged(own: Any, mean: Any) -> Any:
            return self._averaged(own, mean[_PART], deviation)

        @tff.tensorflow.computation(own_type, mean_type)
        @tf.function(autograph=False)
        def shrunk(own: Any, mean: Any) -> Any:
            return collections.OrderedDict(mean, **{_PART: shrunk_rows(self._shrinkage, **own)})

        @tff.federated_computation
        def initialize() -> Any:
            own = tff.federated_eval(first, tff.SERVER)
            return tff.federated_zip(collections.OrderedDict(noised=inner.initialize(), own=own))

        @tff.federated_computation(
            initialize.type_signature.result,
            tff.FederatedType(value_type, tff.CLIENTS),
            tff.FederatedType(weight_type, tff.CLIENTS),
        )
        def next_fn(state: Any, value: Any, weight: Any) -> Any:
            output = inner.next(state["noised"], value, weight)
            own = tff.federated_map(averaged, (state["own"], output.result))
            after = tff.federated_zip(collections.OrderedDict(noised=output.state, own=own))
            return tff.templates.MeasuredProcessOutput(
                after, tff.federated_map(shrunk, (own, output.result)), output.measurements
            )

        return tff.templates.AggregationProcess(initialize, next_fn)

    def _averaged(self, own: Any, items: tf.Tensor, deviation: float) -> Any:
        kept = self._shrinkage.momentum
        return collections.OrderedDict(
            running=kept * own["running"] + (1.0 - kept) * items,
            variance=kept**2 * own["variance"] + ((1.0 - kept) * deviation) ** 2,
        )


def shrunk_rows(shrinkage: Shrinkage, running: tf.Tensor, variance: tf.Tensor) -> tf.Tensor:
    """Rows, float32 [items, d] with noise of a variance on each number, with what is taken for noise taken off."""
    energy = tf.reduce_sum(tf.square(running), axis=1, keepdims=True)
    noise = shrinkage.strength * running.shape[1] * variance
    return running * tf.maximum(0.0, 1.0 - tf.math.divide_no_nan(noise, energy))
