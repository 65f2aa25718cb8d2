"""Layers as functions of (inputs, weights), for one set of weights or one set a user.

Local training gives every device its own query tower. A block of devices is computed at once, so a weight is either
shared, `[...]`, or stacked, `[users, ...]`; each function here takes both and tells them apart by rank. `Tower` wraps
such functions as a Keras layer.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tff_rec.models import randomness

Weights = Mapping[str, Any]
"""By name: float32 tensors, shared or one a user; a shared kernel may be a `NotedKernel`."""
WeightSpecs = dict[str, tuple[tuple[int, ...], tf.keras.initializers.Initializer]]


class Tower(tf.keras.layers.Layer):
    """A Keras layer whose computation is also a function of explicit weights.

    A subclass declares its weights in `weight_specs` and computes in `apply`. `tensors` are the layer's own variables,
    by name, in the order of `trainable_weights`.
    """

    def __init__(self, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = seed
        self.tensors: dict[str, tf.Variable] = {}

    def weight_specs(self) -> WeightSpecs:
        """Shape and initializer of every weight, in order."""
        raise AttributeError(f"{type(self).__name__} does not say which weights it has.")

    def build(self, input_shape: Any = None) -> None:
        """Creates the weights of `weight_specs`; the inputs' shape is not needed."""
        if not self.built:
            for name, (shape, initializer) in self.weight_specs().items():
                self.tensors[name] = self.add_weight(name=name, shape=shape, initializer=initializer)
        super().build(input_shape)

    def as_weights(self, values: list[tf.Tensor]) -> Weights:
        """Names values that stand in the order of `weight_specs`."""
        return dict(zip(self.weight_specs(), values, strict=True))

    def kernels(self) -> list[str]:
        """Names of weights, [in, out], that `dense` multiplies by and nothing else uses."""
        return []

    def initializer(self, name: str, stddev: float) -> tf.keras.initializers.Initializer:
        """Truncated normal, seeded by the tower's seed and the weight's name."""
        position = sum(ord(letter) * (index + 1) for index, letter in enumerate(name))
        return tf.keras.initializers.TruncatedNormal(stddev=stddev, seed=(self.seed * 10_007 + position) % 2**31)


def own_weights(tower: Tower) -> Weights:
    """A tower's own variables, read."""
    return {name: tf.convert_to_tensor(value) for name, value in tower.tensors.items()}


@dataclasses.dataclass(frozen=True)
class NotedKernel:
    """A kernel that users share, and what `dense` multiplied by it: its gradient for each user is made of that.

    Attributes:
        value: float32 [in, out].
        inputs: float32 [users, n, in] each.
        outputs: float32 [users, n, out] each, products of these.
    """

    value: tf.Tensor
    inputs: list[tf.Tensor] = dataclasses.field(default_factory=list)
    outputs: list[tf.Tensor] = dataclasses.field(default_factory=list)

    def applied(self, inputs: tf.Tensor) -> tf.Tensor:
        """The product, noted; one a user, so that the users beside it change no bit of it."""
        outputs = tf.matmul(inputs, self.value[tf.newaxis])
        self.inputs.append(inputs)
        self.outputs.append(outputs)
        return outputs


def values(weights: Weights) -> dict[str, tf.Tensor]:
    """Of all weights, those of noted kernels too."""
    return {name: weight.value if isinstance(weight, NotedKernel) else weight for name, weight in weights.items()}


def differentiable(weights: Weights) -> dict[str, Any]:
    """By what to differentiate: weights; of noted kernels what they made."""
    return {name: weight.outputs if isinstance(weight, NotedKernel) else weight for name, weight in weights.items()}


def dense(inputs: tf.Tensor, kernel: tf.Tensor | NotedKernel, bias: tf.Tensor | None = None) -> tf.Tensor:
    """`inputs @ kernel + bias`: float32 [users, n, in] and [in, out] or [users, in, out] → [users, n, out]."""
    if isinstance(kernel, NotedKernel):
        outputs = kernel.applied(inputs)
    else:
        outputs = tf.tensordot(inputs, kernel, 1) if kernel.shape.rank == 2 else tf.matmul(inputs, kernel)
    return outputs if bias is None else outputs + beside(bias)


def beside(vector: tf.Tensor) -> tf.Tensor:
    """Makes a weight vector, [d] or [users, d], broadcast against [users, n, d]."""
    return vector if vector.shape.rank == 1 else vector[:, tf.newaxis, :]


def layer_norm(inputs: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, epsilon: float = 1e-6) -> tf.Tensor:
    """Layer normalisation over the last axis (Ba et al. 2016)."""
    mean = tf.reduce_mean(inputs, axis=-1, keepdims=True)
    centred = inputs - mean
    variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
    return centred * tf.math.rsqrt(variance + epsilon) * beside(scale) + beside(offset)


def unit_length(vectors: tf.Tensor) -> tf.Tensor:
    """Vectors of length 1 in the same directions: float32 [..., d]; products of such are cosines."""
    return tf.math.l2_normalize(vectors, axis=-1, epsilon=1e-12)


def squeeze_excitation(inputs: tf.Tensor, squeeze: tf.Tensor, excite: tf.Tensor) -> tf.Tensor:
    """Squeeze-and-excitation of features (Hu et al. 2018): `x * 2 sigmoid(relu(x S) E)`.

    The factor 2 makes a block with `excite` = 0 the identity, so that training begins where it would without the block.

    Args:
        inputs: float32 [users, n, d].
        squeeze: float32 [d, d / r] for a reduction ratio r, or one a user.
        excite: float32 [d / r, d], or one a user.
    """
    return inputs * 2.0 * tf.sigmoid(dense(tf.nn.relu(dense(inputs, squeeze)), excite))


def squeeze_excitation_specs(tower: Tower, dimension: int, ratio: int) -> WeightSpecs:
    """Weights of a squeeze-and-excitation block that begins as the identity."""
    reduced = max(1, dimension // ratio)
    return {
        "se/squeeze": ((dimension, reduced), tower.initializer("se/squeeze", dimension**-0.5)),
        "se/excite": ((reduced, dimension), tf.keras.initializers.Zeros()),
    }


def dropout(inputs: tf.Tensor, rate: float, seeds: tf.Tensor | None, stream: str) -> tf.Tensor:
    """Inverted dropout with one random stream a user; the identity where `seeds` is None (inference).

    Args:
        inputs: float32 [users, n, d].
        rate: Share of values set to zero.
        seeds: int32 [users], or None.
        stream: Name of the place in the model, so that places drop independently.
    """
    if seeds is None or rate == 0.0:
        return inputs
    shape = tf.shape(inputs)
    draws = tf.reshape(randomness.uniform(seeds, shape[1] * shape[2], stream), shape)
    return tf.where(draws >= rate, inputs / (1.0 - rate), 0.0)


def causal_attention(
    queries: tf.Tensor,
    keys: tf.Tensor,
    values: tf.Tensor,
    num_heads: int,
    rate: float,
    seeds: tf.Tensor | None,
    stream: str,
) -> tf.Tensor:
    """Scaled dot-product attention where position t sees positions up to t (Vaswani et al. 2017).

    Args:
        queries: float32 [users, n, d]; `keys` and `values` alike.
        keys: As `queries`.
        values: As `queries`.
        num_heads: Divides d.
        rate: Dropout of attention weights.
        seeds: int32 [users], or None at inference.
        stream: Name for dropout.

    Returns:
        float32 [users, n, d].
    """
    users, length, dimension = tf.shape(queries)[0], tf.shape(queries)[1], queries.shape[-1]
    head = dimension // num_heads

    def split(inputs: tf.Tensor) -> tf.Tensor:
        return tf.transpose(tf.reshape(inputs, [users, length, num_heads, head]), [0, 2, 1, 3])

    logits = tf.matmul(split(queries), split(keys), transpose_b=True) * head**-0.5
    visible = tf.linalg.band_part(tf.ones([length, length], tf.bool), -1, 0)
    weights = tf.nn.softmax(tf.where(visible, logits, -1e9))
    weights = _attention_dropout(weights, rate, seeds, stream)
    mixed = tf.matmul(weights, split(values))
    return tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [users, length, dimension])


def _attention_dropout(weights: tf.Tensor, rate: float, seeds: tf.Tensor | None, stream: str) -> tf.Tensor:
    """`dropout` of float32 [users, heads, n, n]; the draws for two places do not depend on n, which padding decides."""
    if seeds is None or rate == 0.0:
        return weights
    shape = tf.shape(weights)
    places = tf.range(shape[2])
    later = tf.maximum(places[:, tf.newaxis], places[tf.newaxis, :])
    earlier = tf.minimum(places[:, tf.newaxis], places[tf.newaxis, :])
    pairs = later * (later + 1) // 2 + earlier
    counters = pairs[tf.newaxis] * shape[1] + tf.range(shape[1])[:, tf.newaxis, tf.newaxis]
    draws = tf.reshape(randomness.uniform_at(seeds, tf.reshape(counters, [-1]), stream), shape)
    return tf.where(draws >= rate, weights / (1.0 - rate), 0.0)
