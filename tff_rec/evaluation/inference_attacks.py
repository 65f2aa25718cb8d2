"""Inference about users: who was in training, from a model's losses, and who they are, from what devices send or ask.

Membership by a threshold on the loss: Yeom et al. 2018, https://arxiv.org/abs/1709.01604. Attributes by a logistic
regression that has seen other users' truth, in five folds.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from scipy import optimize, special

from tff_rec.evaluation.attack_views import View
from tff_rec.evaluation.ranking import pad_histories
from tff_rec.models import layers, objectives, two_tower

FOLDS = 5
COMPONENTS = 50
PENALTY = 10.0
_BATCH = 64


def losses_of(model: two_tower.TwoTower, histories: Sequence[np.ndarray], max_length: int) -> np.ndarray:
    """Mean full-softmax loss of each user's history under the model, without dropout: float64 [users]."""
    objective = objectives.FullSoftmax(model.objective.temperature)
    table = model.candidate_embeddings()

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32), tf.TensorSpec.from_tensor(table)])
    def loss(history: tf.Tensor, vectors: tf.Tensor) -> tf.Tensor:
        weights = layers.own_weights(model.query_tower)
        return objectives.mean_losses(objective, model.query_tower, weights, vectors, {"history": history}, None, None)

    blocks = [histories[start : start + _BATCH] for start in range(0, len(histories), _BATCH)]
    return np.concatenate([loss(pad_histories(block, max_length), table).numpy() for block in blocks]).astype(float)


def queries_of(model: two_tower.TwoTower, histories: Sequence[np.ndarray], max_length: int) -> np.ndarray:
    """Query vectors that a server would serve: float32 [users, d]."""
    table = model.candidate_embeddings()
    return model.query_embeddings(tf.constant(pad_histories(histories, max_length)), table).numpy()


def upload_features(view: View, item_scores: np.ndarray) -> np.ndarray:
    """What an upload or a sum gives to learn from: scores of the items, then the query update, each of length 1."""
    update = np.concatenate([value.ravel() for value in view.query.values()])
    parts = [part / max(float(np.linalg.norm(part)), 1e-30) for part in (item_scores, update)]
    return np.concatenate(parts).astype(np.float32)


def attribute_scores(features: np.ndarray, labels: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Scores of users by a logistic regression fitted to users of other folds.

    Args:
        features: float [users, n]; of them the first principal components are used.
        labels: bool [users].
        groups: int [users]: users of one group are in one fold, as those must be who share their features.
        seed: Of the folds.

    Returns:
        float64 [users], without the intercept, so that scores of different folds compare.
    """
    names = np.random.default_rng(seed).permutation(np.unique(groups))
    fold = np.zeros(len(labels), int)
    for number, part in enumerate(np.array_split(names, min(FOLDS, len(names)))):
        fold[np.isin(groups, part)] = number
    components = _principal(features)
    scores = np.zeros(len(labels))
    for number in np.unique(fold):
        held_out = fold == number
        if len(np.unique(labels[~held_out])) == 2:
            scores[held_out] = _fit(components[~held_out], labels[~held_out], components[held_out])
    return scores


def _principal(features: np.ndarray) -> np.ndarray:
    """The first components of centred features, each of variance 1 or 0: float64 [users, at most COMPONENTS]."""
    centred = features.astype(np.float64) - features.mean(axis=0)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    kept = vectors[:, -min(COMPONENTS, len(values)) :]
    kept = kept[:, values[-kept.shape[1] :] > 1e-12 * max(float(values[-1]), 1e-30)]
    return kept * np.sqrt(len(kept))


def _fit(inputs: np.ndarray, labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    signs = np.where(labels, 1.0, -1.0)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margins = signs * (inputs @ weights[:-1] + weights[-1])
        slopes = -signs * special.expit(-margins)
        gradient = np.append(inputs.T @ slopes + PENALTY * weights[:-1], np.sum(slopes))
        return float(np.sum(np.logaddexp(0.0, -margins)) + PENALTY / 2 * np.sum(weights[:-1] ** 2)), gradient

    found = optimize.minimize(loss, np.zeros(inputs.shape[1] + 1), jac=True, method="L-BFGS-B")
    return others @ found.x[:-1]
