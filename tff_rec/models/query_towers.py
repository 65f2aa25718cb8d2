"""Query towers: a user's history of item vectors to query vectors, one for every position. They stand on the device.

No user id is an input: a user never seen in training gets a query from the history alone.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from tff_rec.models import layers


class QueryTower(layers.Tower):
    """What both towers share. `encode` gives a query at every position, `query` the one after the whole history."""

    def encode(
        self, weights: layers.Weights, vectors: tf.Tensor, mask: tf.Tensor, seeds: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Queries after every position; the query at t depends on positions up to t only.

        Args:
            weights: By the names of `weight_specs`; each shared or stacked by user.
            vectors: float32 [users, n, dimension], oldest first, padded at the end.
            mask: float32 [users, n], 1 where there is an item.
            seeds: int32 [users] for dropout, None at inference.

        Returns:
            float32 [users, n, dimension].
        """
        raise AttributeError(f"{type(self).__name__} does not encode.")

    def query(
        self, weights: layers.Weights, vectors: tf.Tensor, mask: tf.Tensor, seeds: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Query after the whole history: float32 [users, dimension]; arguments as in `encode`."""
        last = tf.maximum(tf.cast(tf.reduce_sum(mask, axis=1), tf.int32) - 1, 0)
        return tf.gather(self.encode(weights, vectors, mask, seeds), last, batch_dims=1)

    def kernels(self) -> list[str]:
        """Those of dense layers and of the SE block."""
        return [name for name in self.weight_specs() if name.endswith("/kernel") or name.startswith("se/")]

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor], seeds: tf.Tensor | None = None) -> tf.Tensor:
        """`encode` with the layer's own weights."""
        vectors, mask = inputs
        weights = {name: tf.convert_to_tensor(value) for name, value in self.tensors.items()}
        return self.encode(weights, vectors, mask, seeds)


class BagQueryTower(QueryTower):
    """Recency-weighted means of the history at several half-lives, then a residual MLP.

    Args:
        dimension: Length of vectors and queries.
        half_lives: In items: a mean in which an item counts half as much as one so many places later. 0 stands for the
            plain mean. The query is the average of the means plus an MLP of them.
        hidden: Width of the MLP's hidden layer.
        residual: Whether the average of the means is added to the MLP's output.
        dropout: Rate on the means.
        se_ratio: Reduction ratio of a squeeze-and-excitation block on the query; 0 for none.
        unit_norm: Whether queries have length 1.
    """

    def __init__(
        self,
        dimension: int,
        half_lives: tuple[float, ...] = (1.0, 5.0, 0.0),
        hidden: int = 64,
        residual: bool = True,
        dropout: float = 0.0,
        se_ratio: int = 0,
        unit_norm: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dimension = dimension
        self.half_lives = tuple(half_lives)
        self.hidden = hidden
        self.residual = residual
        self.dropout = dropout
        self.se_ratio = se_ratio
        self.unit_norm = unit_norm

    def weight_specs(self) -> layers.WeightSpecs:
        """The two dense layers, then the SE block."""
        d, width, zeros = self.dimension, self.dimension * len(self.half_lives), tf.keras.initializers.Zeros()
        specs: layers.WeightSpecs = {
            "hidden/kernel": ((width, self.hidden), self.initializer("hidden", width**-0.5)),
            "hidden/bias": ((self.hidden,), zeros),
            "output/kernel": ((self.hidden, d), self.initializer("output", self.hidden**-0.5)),
            "output/bias": ((d,), zeros),
        }
        if self.se_ratio:
            specs |= layers.squeeze_excitation_specs(self, d, self.se_ratio)
        return specs

    def encode(
        self, weights: layers.Weights, vectors: tf.Tensor, mask: tf.Tensor, seeds: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Queries after every position, as `QueryTower.encode` says."""
        length = tf.shape(vectors)[1]
        age = tf.cast(tf.range(length)[:, tf.newaxis] - tf.range(length)[tf.newaxis, :], tf.float32)
        means = []
        for half_life in self.half_lives:
            recency = tf.where(age >= 0, _recency(tf.maximum(age, 0.0), half_life), 0.0)
            recency = recency[tf.newaxis] * mask[:, tf.newaxis, :]
            means.append(_weighted_mean(recency, vectors))
        return self._network(weights, means, seeds)

    def query(
        self, weights: layers.Weights, vectors: tf.Tensor, mask: tf.Tensor, seeds: tf.Tensor | None = None
    ) -> tf.Tensor:
        """The last position of `encode`, without computing the others."""
        age = tf.reduce_sum(mask, axis=1, keepdims=True) - 1.0 - tf.cast(tf.range(tf.shape(vectors)[1]), tf.float32)
        means = [
            _weighted_mean((_recency(tf.maximum(age, 0.0), half_life) * mask)[:, tf.newaxis, :], vectors)
            for half_life in self.half_lives
        ]
        return self._network(weights, means, seeds)[:, 0]

    def _network(self, weights: layers.Weights, means: list[tf.Tensor], seeds: tf.Tensor | None) -> tf.Tensor:
        inputs = layers.dropout(tf.concat(means, axis=-1), self.dropout, seeds, "bag")
        hidden = tf.nn.relu(layers.dense(inputs, weights["hidden/kernel"], weights["hidden/bias"]))
        queries = layers.dense(hidden, weights["output/kernel"], weights["output/bias"])
        if self.residual:
            queries += tf.add_n(means) / len(means)
        if self.se_ratio:
            queries = layers.squeeze_excitation(queries, weights["se/squeeze"], weights["se/excite"])
        return layers.unit_length(queries) if self.unit_norm else queries

    def get_config(self) -> dict[str, Any]:
        """Arguments that rebuild the layer."""
        names = ("dimension", "half_lives", "hidden", "residual", "dropout", "se_ratio", "unit_norm", "seed")
        return super().get_config() | {name: getattr(self, name) for name in names}


class AttentionQueryTower(QueryTower):
    """Causal self-attention over the sequence: SASRec (Kang and McAuley 2018).

    Args:
        dimension: Length of vectors and queries.
        max_length: Longest history, in items.
        num_blocks: Number of attention and feed-forward blocks.
        num_heads: Heads of each attention.
        dropout: Rate on the inputs, the attention weights and both parts of each block.
        se_ratio: Reduction ratio of a squeeze-and-excitation block on the query; 0 for none.
        unit_norm: Whether queries have length 1.
    """

    def __init__(
        self,
        dimension: int,
        max_length: int,
        num_blocks: int = 2,
        num_heads: int = 1,
        dropout: float = 0.2,
        se_ratio: int = 0,
        unit_norm: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dimension = dimension
        self.max_length = max_length
        self.num_blocks = num_blocks
        self.num_heads = num_heads
        self.dropout = dropout
        self.se_ratio = se_ratio
        self.unit_norm = unit_norm

    def weight_specs(self) -> layers.WeightSpecs:
        """Positions, then each block's kernels, then the last normalisation and the SE block."""
        d = self.dimension
        zeros, ones = tf.keras.initializers.Zeros(), tf.keras.initializers.Ones()
        specs: layers.WeightSpecs = {"positions": ((self.max_length, d), self.initializer("positions", 0.02))}
        for block in range(self.num_blocks):
            for norm in ("attention_norm", "feed_forward_norm"):
                specs[f"{block}/{norm}/scale"] = ((d,), ones)
                specs[f"{block}/{norm}/offset"] = ((d,), zeros)
            for name in ("query", "key", "value", "attention_output", "expand", "contract"):
                specs[f"{block}/{name}/kernel"] = ((d, d), self.initializer(f"{block}/{name}", d**-0.5))
                specs[f"{block}/{name}/bias"] = ((d,), zeros)
        specs["norm/scale"] = ((d,), ones)
        specs["norm/offset"] = ((d,), zeros)
        if self.se_ratio:
            specs |= layers.squeeze_excitation_specs(self, d, self.se_ratio)
        return specs

    def encode(
        self, weights: layers.Weights, vectors: tf.Tensor, mask: tf.Tensor, seeds: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Queries after every position, as `QueryTower.encode` says.

        Padding stands at the end, where causal attention from the history never looks: no mask is needed.
        """
        positions = weights["positions"][..., : tf.shape(vectors)[1], :]
        states = vectors * np.sqrt(self.dimension).astype(np.float32) + positions
        states = layers.dropout(states, self.dropout, seeds, "inputs")
        for block in range(self.num_blocks):
            states = self._attention(weights, states, seeds, block)
            states = self._feed_forward(weights, states, seeds, block)
        states = layers.layer_norm(states, weights["norm/scale"], weights["norm/offset"])
        if self.se_ratio:
            states = layers.squeeze_excitation(states, weights["se/squeeze"], weights["se/excite"])
        return layers.unit_length(states) if self.unit_norm else states

    def _attention(self, weights: layers.Weights, states: tf.Tensor, seeds: tf.Tensor | None, block: int) -> tf.Tensor:
        normed = _norm(weights, states, f"{block}/attention_norm")
        mixed = layers.causal_attention(
            _project(weights, normed, f"{block}/query"),
            _project(weights, normed, f"{block}/key"),
            _project(weights, normed, f"{block}/value"),
            self.num_heads,
            self.dropout,
            seeds,
            f"{block}/attention",
        )
        outputs = _project(weights, mixed, f"{block}/attention_output")
        return states + layers.dropout(outputs, self.dropout, seeds, f"{block}/attention_output")

    def _feed_forward(
        self, weights: layers.Weights, states: tf.Tensor, seeds: tf.Tensor | None, block: int
    ) -> tf.Tensor:
        normed = _norm(weights, states, f"{block}/feed_forward_norm")
        hidden = tf.nn.relu(_project(weights, normed, f"{block}/expand"))
        hidden = layers.dropout(hidden, self.dropout, seeds, f"{block}/expand")
        outputs = _project(weights, hidden, f"{block}/contract")
        return states + layers.dropout(outputs, self.dropout, seeds, f"{block}/contract")

    def get_config(self) -> dict[str, Any]:
        """Arguments that rebuild the layer."""
        names = ("dimension", "max_length", "num_blocks", "num_heads", "dropout", "se_ratio", "unit_norm", "seed")
        return super().get_config() | {name: getattr(self, name) for name in names}


def _recency(age: tf.Tensor, half_life: float) -> tf.Tensor:
    return tf.ones_like(age) if half_life == 0.0 else tf.exp(age * (-np.log(2.0) / half_life))


def _weighted_mean(recency: tf.Tensor, vectors: tf.Tensor) -> tf.Tensor:
    total = tf.reduce_sum(recency, axis=-1, keepdims=True)
    return tf.math.divide_no_nan(tf.matmul(recency, vectors), total)


def _project(weights: layers.Weights, inputs: tf.Tensor, name: str) -> tf.Tensor:
    return layers.dense(inputs, weights[f"{name}/kernel"], weights[f"{name}/bias"])


def _norm(weights: layers.Weights, inputs: tf.Tensor, name: str) -> tf.Tensor:
    return layers.layer_norm(inputs, weights[f"{name}/scale"], weights[f"{name}/offset"])
