"""The two-tower retrieval model as a TFRS model: it trains centrally with `fit`, and lends its parts to federation."""

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from tff_rec.models import layers, objectives
from tff_rec.models.candidate_tower import CandidateTower, sparse_features
from tff_rec.models.query_towers import QueryTower

UserWeighting = Callable[[tf.Tensor], tf.Tensor]


def by_positives(num_positives: tf.Tensor) -> tf.Tensor:
    """Weighs a user by the number of its predictions: the mean over users is the mean over predictions."""
    return num_positives


def equally(num_positives: tf.Tensor) -> tf.Tensor:
    """Weighs every user that has a prediction alike."""
    return tf.cast(num_positives > 0, tf.float32)


WEIGHTINGS: dict[str, UserWeighting] = {"positives": by_positives, "equal": equally}


class TwoTower(tfrs.Model):
    """A query tower over the history's item vectors and a candidate tower over the catalogue.

    Args:
        query_tower: Stands on the device.
        candidate_tower: Stands on the server.
        feature_indices: int32 [items, m], features of each item of the catalogue.
        feature_weights: float32 [items, m], their weights.
        objective: Loss of a user's history.
        weighting: Weight of a user from its number of predictions.
    """

    def __init__(
        self,
        query_tower: QueryTower,
        candidate_tower: CandidateTower,
        feature_indices: np.ndarray,
        feature_weights: np.ndarray,
        objective: objectives.Objective,
        weighting: UserWeighting = by_positives,
    ) -> None:
        super().__init__()
        self.query_tower = query_tower
        self.candidate_tower = candidate_tower
        # In NumPy arrays, not tensors, so that computations traced by TFF can hold them as constants.
        self._features = _Features(feature_indices.astype(np.int32), feature_weights.astype(np.float32))
        self.objective = objective
        self.weighting = weighting
        query_tower.build()
        candidate_tower.build()

    def candidate_embeddings(self, weights: layers.Weights | None = None) -> tf.Tensor:
        """Vectors of the catalogue, float32 [items, dimension], under the given or the model's own weights."""
        weights = layers.own_weights(self.candidate_tower) if weights is None else weights
        return self.candidate_tower.apply(weights, self._features.sparse(self.candidate_tower.num_features))

    def query_embeddings(self, history: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
        """Query after the whole history: int32 [users, n] (padded with -1) → float32 [users, dimension]."""
        mask = objectives.history_mask(history)
        vectors = tf.gather(table, tf.maximum(history, 0)) * mask[:, :, tf.newaxis]
        return self.query_tower.query(layers.own_weights(self.query_tower), vectors, mask)

    def score(self, queries: tf.Tensor, vectors: tf.Tensor) -> tf.Tensor:
        """Products over the temperature: float32 [users, dimension] and [items, dimension] → [users, items]."""
        return tf.matmul(queries / self.objective.temperature, vectors, transpose_b=True)

    def compute_loss(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Weighted mean over users of the objective, for a block (`history` int32 [users, n], `seed` int32 [users])."""
        history, seeds = inputs["history"], inputs["seed"]
        table = self.candidate_embeddings()
        rows = self.objective.rows(inputs, self.candidate_tower.num_items)
        vectors = table if rows is None else tf.gather(table, tf.maximum(rows, 0))
        losses = objectives.mean_losses(
            self.objective,
            self.query_tower,
            layers.own_weights(self.query_tower),
            vectors,
            inputs,
            rows,
            seeds if training else None,
        )
        user_weights = self.weighting(self.objective.num_positives(history))
        return tf.math.divide_no_nan(tf.reduce_sum(losses * user_weights), tf.reduce_sum(user_weights))


class _Features:
    """Features of the items, kept from Keras, which would turn arrays in attributes into tracked containers."""

    def __init__(self, indices: np.ndarray, weights: np.ndarray) -> None:
        self._indices = indices
        self._weights = weights

    def sparse(self, num_features: int) -> tf.sparse.SparseTensor:
        """A constant of the graph that is being traced."""
        return sparse_features(self._indices, self._weights, num_features)
