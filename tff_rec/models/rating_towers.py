"""The towers of the tag-aware filter (`tag_aware`): items with their features, and a user's part with the prediction.

`ItemTower` may stand on a server and send its table, or rows of it; `RatingTower` stands on the device and takes both.
"""

import dataclasses
from typing import Any

import tensorflow as tf

from tff_rec.models import layers, reconstruction


@dataclasses.dataclass(frozen=True)
class ItemPart:
    """What the model knows of some items; the leading axes are those of the table or of its rows.

    Attributes:
        biases: float32 [...].
        vectors: float32 [..., dimension].
        choices: float32 [..., 1 + dimension], what it says of a user to have rated the item, whatever the rating.
    """

    biases: tf.Tensor
    vectors: tf.Tensor
    choices: tf.Tensor


def item_part(table: tf.Tensor) -> ItemPart:
    """Parts of a table as `ItemTower.apply` gives it, or of rows of it: float32 [..., 2 + 2 · dimension]."""
    dimension = table.shape[-1] // 2 - 1
    return ItemPart(table[..., 0], table[..., 1 : 1 + dimension], table[..., 1 + dimension :])


def rows_of(table: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    """Rows of a shared table or of one a user, float32 [users, n, width]; zeros for negative items."""
    rows = tf.gather(table, tf.maximum(items, 0), batch_dims=table.shape.rank - 2)
    return rows * tf.cast(items >= 0, tf.float32)[:, :, tf.newaxis]


class ItemTower(layers.Tower):
    """The item part: an embedding of the id and the weighted sum of the features' embeddings.

    Biases and choices begin at 0. A model without features, the ablation, is one whose features weigh 0.

    Args:
        num_items: Size of the catalogue.
        num_features: Size of the feature vocabulary.
        dimension: Length of an item's vector.
        stddev: Standard deviation of the features' initial vectors; those of ids have a tenth.
    """

    def __init__(self, num_items: int, num_features: int, dimension: int, stddev: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_items = num_items
        self.num_features = num_features
        self.dimension = dimension
        self.stddev = stddev

    def weight_specs(self) -> layers.WeightSpecs:
        """Of ids, then of features: `biases`, `vectors`, `choices`."""
        zeros = tf.keras.initializers.Zeros()
        specs: layers.WeightSpecs = {}
        for name, rows, stddev in (
            ("items", self.num_items, 0.1 * self.stddev),
            ("features", self.num_features, self.stddev),
        ):
            specs[f"{name}/biases"] = ((rows, 1), zeros)
            specs[f"{name}/vectors"] = ((rows, self.dimension), self.initializer(name, stddev))
            specs[f"{name}/choices"] = ((rows, 1 + self.dimension), zeros)
        return specs

    def apply(self, weights: layers.Weights, features: tf.sparse.SparseTensor) -> tf.Tensor:
        """The item part of the whole catalogue, a linear function of the weights.

        Args:
            weights: By the names of `weight_specs`, shared.
            features: float32 [num_items, num_features], as `sparse_features` makes it.

        Returns:
            float32 [num_items, 2 + 2 · dimension], to be read by `item_part`.
        """
        described = tf.sparse.sparse_dense_matmul(features, _columns(weights, "features"))
        return _columns(weights, "items") + described

    def call(self, features: tf.sparse.SparseTensor) -> tf.Tensor:
        """`apply` with the layer's own weights."""
        return self.apply(layers.own_weights(self), features)

    def get_config(self) -> dict[str, Any]:
        """Arguments that rebuild the layer."""
        names = ("num_items", "num_features", "dimension", "stddev", "seed")
        return super().get_config() | {name: getattr(self, name) for name in names}


class RatingTower(layers.Tower):
    """The user part and the prediction. It stands on the device.

    Args:
        dimension: Length of an item's vector.
        mean: Mean rating of the training part, where the intercept begins.
        lowest: Least rating of the scale.
        highest: Largest rating of the scale.
        hidden: Width of the interaction network's hidden layer; 0 for none, the ablation.
        dropout: Rate at which components of the vectors are dropped in training, the same for all items of a user.
        user_bias: Initial c: standard deviation of users' biases over that of ratings around their prediction.
    """

    def __init__(
        self,
        dimension: int,
        mean: float,
        lowest: float,
        highest: float,
        hidden: int = 0,
        dropout: float = 0.0,
        user_bias: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dimension = dimension
        self.mean = mean
        self.lowest = lowest
        self.highest = highest
        self.hidden = hidden
        self.dropout = dropout
        self.user_bias = user_bias

    def weight_specs(self) -> layers.WeightSpecs:
        """Intercept and c, then the network, whose output begins at 0."""
        constant, zeros = tf.keras.initializers.Constant, tf.keras.initializers.Zeros()
        specs: layers.WeightSpecs = {
            "intercept": ((1,), constant(self.mean)),
            "user_bias": ((1,), constant(self.user_bias)),
        }
        if self.hidden:
            width = 3 * (1 + self.dimension)
            specs["hidden/kernel"] = ((width, self.hidden), self.initializer("hidden", width**-0.5))
            specs["hidden/bias"] = ((self.hidden,), zeros)
            specs["output/kernel"] = ((self.hidden, 1), zeros)
        return specs

    def user_part(self, weights: layers.Weights, table: tf.Tensor, items: tf.Tensor, ratings: tf.Tensor) -> tf.Tensor:
        """Private vectors from whole histories.

        Args:
            weights: By the names of `weight_specs`; each shared or stacked by user.
            table: Of `ItemTower.apply`, float32 [items, width]; or a table of rows for each user, [users, rows, width].
            items: int32 [users, n], positions in the table; negative where padded or unknown.
            ratings: float32 [users, n].

        Returns:
            float32 [users, 1 + dimension], the bias's component first; zeros for an empty history.
        """
        history = self._history(weights, rows_of(table, items), items, ratings)
        choices = tf.reduce_sum(history.choices, axis=1) * _prior_scale(history.count)
        return reconstruction.solve(history.designs, choices + tf.reduce_sum(history.evidence, axis=1))

    def predict(
        self,
        weights: layers.Weights,
        table: tf.Tensor,
        items: tf.Tensor,
        ratings: tf.Tensor,
        targets: tf.Tensor,
    ) -> tf.Tensor:
        """Predicted ratings of targets, on the scale.

        Args:
            weights: As in `user_part`.
            table: As in `user_part`.
            items: int32 [users, n], the history.
            ratings: float32 [users, n], its ratings.
            targets: int32 [users, m], positions in the table; negative for an item of which nothing is known.

        Returns:
            float32 [users, m].
        """
        users = self.user_part(weights, table, items, ratings)
        biases, designs = self._targets(weights, table, targets)
        return tf.clip_by_value(
            biases + self._interaction(weights, users[:, tf.newaxis, :], designs), self.lowest, self.highest
        )

    def losses(
        self,
        weights: layers.Weights,
        table: tf.Tensor,
        items: tf.Tensor,
        ratings: tf.Tensor,
        seeds: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Sum of each user's squared errors, every rating predicted from the user's others.

        Args:
            weights: As in `user_part`.
            table: As in `user_part`.
            items: int32 [users, n], padded with negative numbers.
            ratings: float32 [users, n].
            seeds: int32 [users] for dropout, None for none.

        Returns:
            float32 [users].
        """
        return self.row_losses(weights, rows_of(table, items), items, ratings, seeds)

    def row_losses(
        self,
        weights: layers.Weights,
        rows: tf.Tensor,
        items: tf.Tensor,
        ratings: tf.Tensor,
        seeds: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """`losses` from the rows of the items, float32 [users, n, width], as `rows_of` gives them."""
        history = self._history(weights, rows, items, ratings, seeds)
        scale = _prior_scale(history.count - 1.0)
        if self.hidden:
            users = self._without_each(history, scale)
            predicted = history.mask * self._interaction(weights, users, history.designs)
        else:
            predicted = reconstruction.predict_without_each(history.designs, history.residuals, history.choices, scale)
        return tf.reduce_sum(tf.square(history.residuals - predicted), axis=1)

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """`predict` of (table, items, ratings, targets) with the layer's own weights."""
        return self.predict(layers.own_weights(self), *inputs)

    def get_config(self) -> dict[str, Any]:
        """Arguments that rebuild the layer."""
        names = ("dimension", "mean", "lowest", "highest", "hidden", "dropout", "user_bias", "seed")
        return super().get_config() | {name: getattr(self, name) for name in names}

    def _history(
        self,
        weights: layers.Weights,
        rows: tf.Tensor,
        items: tf.Tensor,
        ratings: tf.Tensor,
        seeds: tf.Tensor | None = None,
    ) -> "_History":
        part = item_part(rows)
        mask = tf.cast(items >= 0, tf.float32)
        # One draw a user and component; inverted dropout would scale XᵀX by the square, hence the root.
        kept = tf.sqrt(layers.dropout(tf.ones_like(part.vectors[:, :1]), self.dropout, seeds, "item vectors"))
        constant = layers.beside(weights["user_bias"]) * mask[:, :, tf.newaxis]
        designs = tf.concat([constant, part.vectors * kept], axis=-1)
        # Padded rows are zeros. So must their gradients be, which the sum of choices alone would not see to.
        choices = part.choices * mask[:, :, tf.newaxis]
        return _History(mask, (ratings - part.biases - weights["intercept"]) * mask, designs, choices)

    def _without_each(self, history: "_History", scale: tf.Tensor) -> tf.Tensor:
        """Users' vectors, each without one of the ratings: [users, n, 1 + dimension]."""
        evidence = tf.reduce_sum(history.evidence, axis=1, keepdims=True) - history.evidence
        choices = tf.reduce_sum(history.choices, axis=1, keepdims=True) - history.choices
        return reconstruction.solve_without_each(history.designs, evidence + choices * scale[:, tf.newaxis])

    def _targets(self, weights: layers.Weights, table: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Intercept and item biases, [users, m], and design rows, [users, m, 1 + dimension]."""
        part = item_part(rows_of(table, targets))
        constant = layers.beside(weights["user_bias"]) * tf.ones_like(part.vectors[:, :, :1])
        return part.biases + weights["intercept"], tf.concat([constant, part.vectors], axis=-1)

    def _interaction(self, weights: layers.Weights, users: tf.Tensor, designs: tf.Tensor) -> tf.Tensor:
        """`x · p` and the network's correction: [users, 1 or m, d] and [users, m, d] → [users, m]."""
        products = users * designs
        scores = tf.reduce_sum(products, axis=-1)
        if not self.hidden:
            return scores
        inputs = tf.concat([products, designs, tf.broadcast_to(users, tf.shape(designs))], axis=-1)
        hidden = tf.nn.relu(layers.dense(inputs, weights["hidden/kernel"], weights["hidden/bias"]))
        return scores + layers.dense(hidden, weights["output/kernel"])[:, :, 0]


@dataclasses.dataclass(frozen=True)
class _History:
    """Of a block of users; zeros where padded.

    Attributes:
        mask: float32 [users, n], 1 where there is a rating.
        residuals: float32 [users, n], ratings without intercept and item biases.
        designs: float32 [users, n, 1 + dimension], rows [c, v].
        choices: float32 [users, n, 1 + dimension].
    """

    mask: tf.Tensor
    residuals: tf.Tensor
    designs: tf.Tensor
    choices: tf.Tensor

    @property
    def evidence(self) -> tf.Tensor:
        """Residual × design row, float32 [users, n, 1 + dimension]."""
        return self.designs * self.residuals[:, :, tf.newaxis]

    @property
    def count(self) -> tf.Tensor:
        """Number of ratings, float32 [users, 1]."""
        return tf.reduce_sum(self.mask, axis=1, keepdims=True)


def _columns(weights: layers.Weights, prefix: str) -> tf.Tensor:
    """The columns of the table that embeddings of `items` or `features` make up."""
    return tf.concat([weights[f"{prefix}/{name}"] for name in ("biases", "vectors", "choices")], axis=1)


def _prior_scale(count: tf.Tensor) -> tf.Tensor:
    """1 / √n, and 1 where there is nothing to scale."""
    return tf.math.rsqrt(tf.maximum(count, 1.0))
