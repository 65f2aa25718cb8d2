"""Clip norms that follow a quantile of users' norms (Andrew et al. 2021, https://arxiv.org/abs/1905.03871).

A round that is composed of stages (`stages`) is given them by wrapping three of its stages. The norms are weights that
nobody differentiates: they stand in `global_model_weights.non_trainable`, first that of the query part and then that of
the item part, and are sent, saved and restored with the model.

Devices send each part in units of its norm: divided by it, then clipped to 1. Encodings and noise see nothing but
units, so that the range of a secure sum and the noise multiplier stay what they are while norms move. The server
multiplies the noised mean by the norms that it had sent: the noise on a part has the standard deviation
z · C / √share of the present norm C.

Beside its parts a user sends for each of them whether it was below the norm, as 1/2 or -1/2, which together are one
more part, `BELOW`, of clip norm `BELOW_NORM`: with a share of the privacy budget, noise of its own, and nothing more to
account for. (The paper splits the noise multiplier likewise, into z_Δ and that of the counts.) After the round C
becomes C · exp(-rate · (share of users below C - quantile)).

With the noise of a tree, which cancels over rounds, what cancels is in units too, and does so but for what norms moved
in between; the guarantee, which is of units, stays.
"""

import collections
import dataclasses
import math
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

NORMS = "norms"
BELOW = "below"
PARTS = ("query", "items")
BELOW_BOUND = 0.5
BELOW_NORM = BELOW_BOUND * math.sqrt(len(PARTS))
BELOW_SPEC = tf.TensorSpec([len(PARTS)])


@dataclasses.dataclass(frozen=True)
class AdaptiveClipping:
    """Where clip norms begin and what they follow.

    Attributes:
        query_norm: Of the query part, in the first round.
        item_norm: Of the item part.
        quantile: Share of users whose norm should be below the clip norm, in (0, 1).
        rate: Largest change of a norm's logarithm in a round.
    """

    query_norm: float
    item_norm: float
    quantile: float = 0.5
    rate: float = 0.2

    def __post_init__(self) -> None:
        for name in ("query_norm", "item_norm", "rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}.")
        if not 0 < self.quantile < 1:
            raise ValueError(f"A quantile lies between 0 and 1, unlike {self.quantile}.")

    def following(self, norms: list[tf.Tensor], below: tf.Tensor) -> list[tf.Tensor]:
        """The norms of the next round.

        Args:
            norms: Of this one, float32 [] each, in the order of `PARTS`.
            below: float32 [2], the mean over users of 1/2 where they were below the norm and -1/2 elsewhere; with
                noise, which may bring it out of that range.
        """
        share = tf.clip_by_value(below + BELOW_BOUND, 0.0, 1.0)
        factors = tf.exp(-self.rate * (share - self.quantile))
        return [norm * factor for norm, factor in zip(norms, tf.unstack(factors), strict=True)]


def check_unit_norms(*norms: float | None) -> None:
    """Raises ValueError unless clip norms of local training are 1: of contributions in units of the present norm."""
    if any(norm != 1.0 for norm in norms):
        raise ValueError("Adaptive clipping bounds contributions in units of its own norms: let clip norms be 1.")


def build_initial_weights(initial: tff.Computation, clipping: AdaptiveClipping) -> tff.Computation:
    """`( -> ModelWeights)` with the first norms beside the weights of `initial`, which has no others."""

    @tff.tensorflow.computation
    def with_norms() -> tff.learning.models.ModelWeights:
        norms = [tf.constant(norm, tf.float32) for norm in (clipping.query_norm, clipping.item_norm)]
        return tff.learning.models.ModelWeights(list(initial().trainable), norms)

    return with_norms


def build_distributor(
    inner: tff.learning.templates.DistributionProcess, weights_type: tff.Type
) -> tff.learning.templates.DistributionProcess:
    """Sends what the other sends, which is a struct with names, and `NORMS`: by the names of `PARTS`, float32 [].

    Args:
        inner: Takes weights without norms.
        weights_type: Of weights with norms.
    """
    state_type, plain_type = (part.member for part in inner.next.type_signature.parameter)
    sent_type = inner.next.type_signature.result.result.member
    plain = _without_norms(weights_type, plain_type)

    @tff.tensorflow.computation(weights_type)
    def norms_of(weights: Any) -> Any:
        return collections.OrderedDict(zip(PARTS, weights.non_trainable, strict=True))

    @tff.tensorflow.computation(sent_type, norms_of.type_signature.result)
    def beside(sent: Any, norms: Any) -> Any:
        return collections.OrderedDict(sent, **{NORMS: norms})

    @tff.federated_computation(tff.FederatedType(state_type, tff.SERVER), tff.FederatedType(weights_type, tff.SERVER))
    def next_fn(state: Any, weights: Any) -> Any:
        output = inner.next(state, tff.federated_map(plain, weights))
        norms = tff.federated_broadcast(tff.federated_map(norms_of, weights))
        sent = tff.federated_map(beside, (output.result, norms))
        return tff.templates.MeasuredProcessOutput(output.state, sent, output.measurements)

    return tff.learning.templates.DistributionProcess(inner.initialize, next_fn)


def build_finalizer(
    inner: tff.learning.templates.FinalizerProcess, clipping: AdaptiveClipping, weights_type: tff.Type
) -> tff.learning.templates.FinalizerProcess:
    """Hands the other the mean in its own size, and moves the norms by what the mean tells of users below them.

    Its measurements are the other's, and `NORMS`: those of the round, by the names of `PARTS`.

    Args:
        inner: Takes weights without norms, and a mean with the parts `PARTS` and `BELOW`, which it does not use.
        clipping: How norms move.
        weights_type: Of weights with norms.
    """
    state_type, plain_type, mean_type = (part.member for part in inner.next.type_signature.parameter)
    measured_type = inner.next.type_signature.result.measurements.member
    plain = _without_norms(weights_type, plain_type)

    @tff.tensorflow.computation(weights_type, mean_type)
    def in_full(weights: Any, mean: Any) -> Any:
        parts = collections.OrderedDict(mean)
        for name, norm in zip(PARTS, weights.non_trainable, strict=True):
            parts[name] = tf.nest.map_structure(lambda value, norm=norm: value * norm, mean[name])
        return parts

    @tff.tensorflow.computation(plain_type, weights_type, mean_type)
    def moved(after: Any, before: Any, mean: Any) -> Any:
        norms = clipping.following(list(before.non_trainable), mean[BELOW])
        return tff.learning.models.ModelWeights(list(after.trainable), norms)

    @tff.tensorflow.computation(measured_type, weights_type)
    def measured(measurements: Any, weights: Any) -> Any:
        norms = collections.OrderedDict(zip(PARTS, weights.non_trainable, strict=True))
        return collections.OrderedDict(measurements, **{NORMS: norms})

    @tff.federated_computation(
        tff.FederatedType(state_type, tff.SERVER),
        tff.FederatedType(weights_type, tff.SERVER),
        tff.FederatedType(mean_type, tff.SERVER),
    )
    def next_fn(state: Any, weights: Any, mean: Any) -> Any:
        output = inner.next(state, tff.federated_map(plain, weights), tff.federated_map(in_full, (weights, mean)))
        after = tff.federated_map(moved, (output.result, weights, mean))
        measurements = tff.federated_map(measured, (output.measurements, weights))
        return tff.templates.MeasuredProcessOutput(output.state, after, measurements)

    return tff.learning.templates.FinalizerProcess(inner.initialize, next_fn)


def _without_norms(weights_type: tff.Type, plain_type: tff.Type) -> tff.Computation:
    """`(weights with norms -> weights)`."""

    @tff.tensorflow.computation(weights_type)
    def plain(weights: Any) -> tff.learning.models.ModelWeights:
        return tff.learning.models.ModelWeights(list(weights.trainable), [])

    plain_type.check_assignable_from(plain.type_signature.result)
    return plain
