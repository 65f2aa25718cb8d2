"""The candidate (item) tower: an item's id and features to its vector. It stands on the server."""

from typing import Any

import numpy as np
import tensorflow as tf

from tff_rec.models import layers


class CandidateTower(layers.Tower):
    """Sums an id embedding and the item's feature embeddings; then an optional projection, hidden layer and SE block.

    Embeddings may be wider than item vectors, as those of SpFedRec's towers are: the server holds them, and devices
    meet nothing but the vectors.

    With `unit_norm` vectors leave the tower with length 1, and a device's product with a query is a cosine: the norm is
    differentiated at the server, once, where devices would have to do it user by user.

    Called on the whole catalogue it is a deterministic function of its weights: no dropout, so that the vectors sent to
    devices and those differentiated afterwards are the same (SpFedRec, section on server-side back-propagation).

    Args:
        num_items: Size of the catalogue.
        num_features: Size of the feature vocabulary.
        dimension: Length of an item vector.
        expansion: Embeddings are so many times as wide as vectors, onto which they are projected; 1 for as wide,
            without projection.
        hidden: Width of a residual hidden layer; 0 for none.
        se_ratio: Reduction ratio of a squeeze-and-excitation block; 0 for none.
        unit_norm: Whether vectors have length 1.
        stddev: Standard deviation of the initial embeddings.
    """

    def __init__(
        self,
        num_items: int,
        num_features: int,
        dimension: int,
        expansion: int = 1,
        hidden: int = 0,
        se_ratio: int = 0,
        unit_norm: bool = False,
        stddev: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_items = num_items
        self.num_features = num_features
        self.dimension = dimension
        self.expansion = expansion
        self.hidden = hidden
        self.se_ratio = se_ratio
        self.unit_norm = unit_norm
        self.stddev = stddev

    def weight_specs(self) -> layers.WeightSpecs:
        """`items`, `features`, then the projection's, the hidden layer's and the SE block's kernels."""
        d, zeros = self.dimension, tf.keras.initializers.Zeros()
        width = self.expansion * d
        specs: layers.WeightSpecs = {
            "items": ((self.num_items, width), self.initializer("items", self.stddev)),
            "features": ((self.num_features, width), self.initializer("features", self.stddev)),
        }
        if self.expansion > 1:
            specs["projection/kernel"] = ((width, d), self.initializer("projection", width**-0.5))
        if self.hidden:
            specs["hidden/kernel"] = ((d, self.hidden), self.initializer("hidden", d**-0.5))
            specs["hidden/bias"] = ((self.hidden,), zeros)
            specs["output/kernel"] = ((self.hidden, d), self.initializer("output", 0.1 * self.hidden**-0.5))
        if self.se_ratio:
            specs |= layers.squeeze_excitation_specs(self, d, self.se_ratio)
        return specs

    def apply(self, weights: layers.Weights, features: tf.sparse.SparseTensor) -> tf.Tensor:
        """Vectors of the whole catalogue.

        Args:
            weights: By the names of `weight_specs`.
            features: float32 [num_items, num_features], as `sparse_features` makes it.

        Returns:
            float32 [num_items, dimension].
        """
        described = tf.sparse.sparse_dense_matmul(features, weights["features"])
        vectors = (weights["items"] + described)[tf.newaxis]
        if self.expansion > 1:
            vectors = layers.dense(vectors, weights["projection/kernel"])
        if self.hidden:
            hidden = tf.nn.relu(layers.dense(vectors, weights["hidden/kernel"], weights["hidden/bias"]))
            vectors += layers.dense(hidden, weights["output/kernel"])
        if self.se_ratio:
            vectors = layers.squeeze_excitation(vectors, weights["se/squeeze"], weights["se/excite"])
        return (layers.unit_length(vectors) if self.unit_norm else vectors)[0]

    def call(self, features: tf.sparse.SparseTensor) -> tf.Tensor:
        """Vectors of the whole catalogue with the layer's own weights, as in `apply`."""
        return self.apply({name: tf.convert_to_tensor(value) for name, value in self.tensors.items()}, features)

    def get_config(self) -> dict[str, Any]:
        """Arguments that rebuild the layer."""
        names = (
            "num_items",
            "num_features",
            "dimension",
            "expansion",
            "hidden",
            "se_ratio",
            "unit_norm",
            "stddev",
            "seed",
        )
        return super().get_config() | {name: getattr(self, name) for name in names}


def sparse_features(indices: np.ndarray, weights: np.ndarray, num_features: int) -> tf.sparse.SparseTensor:
    """Padded rows of features as a sparse matrix.

    Args:
        indices: int32 [num_items, m], indices of each item's features.
        weights: float32 [num_items, m], their weights; 0 where padded.
        num_features: Columns of the result.

    Returns:
        float32 [num_items, num_features].
    """
    rows, places = np.nonzero(weights)
    cells = np.stack([rows, indices[rows, places]], axis=1).astype(np.int64)
    return tf.sparse.SparseTensor(cells, weights[rows, places], [len(weights), num_features])
