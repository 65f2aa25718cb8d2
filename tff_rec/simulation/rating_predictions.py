"""Ratings that the model predicts for held-out pairs, and its ranking of the whole catalogue for a held-out item."""

from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from tff_rec.data.clients import pad
from tff_rec.data.ratings import HeldOutRatings, RatingStore
from tff_rec.evaluation import ranking
from tff_rec.models.layers import own_weights
from tff_rec.models.rating_towers import RatingTower
from tff_rec.models.tag_aware import TagAware

_CELLS = 1_000_000
_UNBOUNDED = 1e6

PredictBlock = Callable[[tf.Tensor, np.ndarray, np.ndarray, np.ndarray], tf.Tensor]
Predict = Callable[[RatingStore, HeldOutRatings], np.ndarray]


def build_predict(model: TagAware) -> Predict:
    """A function that predicts held-out ratings from each user's ratings in a store, compiled once.

    Args:
        model: Its weights count as they stand at each call.

    Returns:
        From histories and held-out pairs to float32, as many as pairs. An unknown user (-1) has no history; of an
        unknown item nothing is known.
    """
    predict_block = _build_predict_block(model, model.rating_tower)

    def predict(store: RatingStore, held_out: HeldOutRatings) -> np.ndarray:
        table = model.item_table()
        predictions = np.empty(len(held_out.users), dtype=np.float32)
        order = np.argsort(held_out.users, kind="stable")
        users, begins, counts = np.unique(held_out.users[order], return_index=True, return_counts=True)
        for rows in _like_lengths(_lengths(store, users) + counts, model.rating_tower.dimension):
            targets = pad(held_out.items[order], begins[rows], counts[rows])
            predicted = predict_block(table, *_histories(store, users[rows]), targets).numpy()
            # Not the targets: of these -1 may also be an unknown item.
            places = pad(order, begins[rows], counts[rows])
            predictions[places[places >= 0]] = predicted[places >= 0]
        return predictions

    return predict


def ranks(model: TagAware, store: RatingStore, held_out: HeldOutRatings) -> np.ndarray:
    """Ranks of held-out items by predicted rating among all items outside the user's history: int64 [users].

    Ratings are not cut off at the ends of the scale here, where many would tie.

    Args:
        model: Under its own weights.
        store: Histories.
        held_out: One rating a user.
    """
    unbounded = {"lowest": -_UNBOUNDED, "highest": _UNBOUNDED}
    score = _build_predict_block(model, RatingTower.from_config(model.rating_tower.get_config() | unbounded))
    table, catalogue = model.item_table(), np.arange(model.item_tower.num_items, dtype=np.int32)
    found = np.empty(len(held_out.users), dtype=np.int64)
    lengths = _lengths(store, held_out.users) + len(catalogue)
    for rows in _like_lengths(lengths, model.rating_tower.dimension):
        items, given = _histories(store, held_out.users[rows])
        scores = score(table, items, given, np.tile(catalogue, [len(rows), 1])).numpy()
        found[rows] = ranking.rank_of_held_out(scores, held_out.items[rows], list(items))
    return found


def _build_predict_block(model: TagAware, tower: RatingTower) -> PredictBlock:
    """`predict` of a tower under the weights of the model's, for blocks of any lengths."""
    matrix = [None, None]

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 2 + 2 * tower.dimension]),
            tf.TensorSpec(matrix, tf.int32),
            tf.TensorSpec(matrix),
            tf.TensorSpec(matrix, tf.int32),
        ]
    )
    def predict_block(table: tf.Tensor, items: tf.Tensor, ratings: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        return tower.predict(own_weights(model.rating_tower), table, items, ratings, targets)

    return predict_block


def _lengths(store: RatingStore, users: np.ndarray) -> np.ndarray:
    return np.where(users >= 0, store.lengths()[users], 0)


def _histories(store: RatingStore, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Items int32 [users, n], padded with -1, and ratings float32 [users, n], 0 where padded."""
    starts, counts = np.where(users >= 0, store.offsets[users], 0), _lengths(store, users)
    items = pad(store.items, starts, counts)
    return items, np.where(items >= 0, pad(store.ratings, starts, counts), np.float32(0))


def _like_lengths(lengths: np.ndarray, dimension: int) -> Iterator[np.ndarray]:
    """Groups of rows of like length, few enough that their padded vectors stay small."""
    order, begin = np.argsort(-lengths, kind="stable"), 0
    while begin < len(order):
        size = max(1, _CELLS // (int(lengths[order[begin]]) * dimension))
        yield order[begin : begin + size]
        begin += size
