"""A tag-aware collaborative filter for ratings, whose user part is formed from the user's history and stays with it.

The rating of item i by user u is predicted as

    mean + b_i + x_iᵀ p_u + network(p_u, x_i),    x_i = [c, v_i].

The item part (b_i, v_i, q_i) is the sum of an embedding of the item's id and of embeddings of its features (tags,
genres and what else is known), as in SVDFeature (Chen et al. 2012). It is global, trained from summed gradients. An
item without ratings is left with its features.

The user part p_u is private, solved anew from the history (`reconstruction`): ridge regression of the residuals
y_j = r_j - mean - b_j on the items' x_j, towards a prior mean Σ_j q_j / √n that items tell by having been chosen, as in
SVD++ (Koren 2008). Its first component, times the constant c, is the user's bias, a shrunken mean of residuals. In
Σ_j y_j x_j the features' embeddings multiply Σ_j y_j features_j: the user's tag profile, weighed by residuals.

There are no user ids: a user never seen in training is served as every other, and one without history gets mean + b_i.

The towers stand in `rating_towers`: that of items may stand on a server, that of ratings stands on the device.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from tff_rec.models import layers
from tff_rec.models.candidate_tower import sparse_features
from tff_rec.models.layers import own_weights
from tff_rec.models.rating_towers import ItemTower, RatingTower


@dataclasses.dataclass(frozen=True)
class Penalties:
    """Factors of squared L2 norms, beside the sum of squared errors over all ratings of the training part.

    A factor is the variance of ratings around their prediction over that of the weights: about as many ratings of an
    item make up for it. For the users' vectors it is 1, see `reconstruction`.

    Attributes:
        biases: On the items' biases.
        vectors: On the items' vectors.
        choices: On the items' and the features' choices.
        features: On the features' biases and vectors.
        network: On the network's kernels.
    """

    biases: float = 2.0
    vectors: float = 1000.0
    choices: float = 30_000.0
    features: float = 300.0
    network: float = 10.0

    def of(self, name: str) -> float:
        """Factor for the weight of the given name, of either tower."""
        factors = {
            "items/biases": self.biases,
            "items/vectors": self.vectors,
            "items/choices": self.choices,
            "features/biases": self.features,
            "features/vectors": self.features,
            "features/choices": self.choices,
            "hidden/kernel": self.network,
            "output/kernel": self.network,
        }
        return factors.get(name, 0.0)

    def penalty(self, weights: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Scalar to add to the sum of squared errors over all ratings; its gradient is 2 · factor · weight."""
        return tf.add_n([tf.zeros([])] + [self.of(name) * tf.reduce_sum(tf.square(weights[name])) for name in weights])


class TagAware(tfrs.Model):
    """Both towers and the catalogue's features: trains centrally with `fit`, and lends its parts to federation.

    Args:
        item_tower: Global.
        rating_tower: Stands on the device.
        feature_indices: int32 [items, m], features of each item of the catalogue.
        feature_weights: float32 [items, m], their weights, of any sign; 0 where padded.
        penalties: What keeps weights small.
        num_ratings: Ratings of the training part.
    """

    def __init__(
        self,
        item_tower: ItemTower,
        rating_tower: RatingTower,
        feature_indices: np.ndarray,
        feature_weights: np.ndarray,
        penalties: Penalties,
        num_ratings: int,
    ) -> None:
        super().__init__()
        self.item_tower = item_tower
        self.rating_tower = rating_tower
        # In a closure, as Keras would track arrays; and as NumPy arrays, so that TFF can trace them as constants.
        self._features = lambda: sparse_features(feature_indices, feature_weights, item_tower.num_features)
        self.penalties = penalties
        self.num_ratings = num_ratings
        item_tower.build()
        rating_tower.build()

    def item_table(self, weights: layers.Weights | None = None) -> tf.Tensor:
        """The catalogue's item part, float32 [items, 2 + 2 · dimension], under the given or the model's own weights."""
        return self.item_tower.apply(own_weights(self.item_tower) if weights is None else weights, self._features())

    def predict_ratings(self, items: tf.Tensor, ratings: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        """`RatingTower.predict` under the model's own weights: float32 [users, m]."""
        return self.rating_tower.predict(own_weights(self.rating_tower), self.item_table(), items, ratings, targets)

    def compute_loss(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Mean squared error over the ratings of a block, and in training the penalty.

        Args:
            inputs: `items` int32 [users, n] padded with -1, `ratings` float32 [users, n], `seed` int32 [users].
            training: Whether to drop and to penalise.
        """
        items, seeds = inputs["items"], inputs["seed"] if training else None
        weights = own_weights(self.rating_tower)
        losses = self.rating_tower.losses(weights, self.item_table(), items, inputs["ratings"], seeds)
        loss = tf.math.divide_no_nan(tf.reduce_sum(losses), tf.reduce_sum(tf.cast(items >= 0, tf.float32)))
        if not training:
            return loss
        return loss + self.penalties.penalty({**own_weights(self.item_tower), **weights}) / self.num_ratings
