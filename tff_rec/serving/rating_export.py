"""A tag-aware model as a SavedModel that core TensorFlow serves: rated item ids in, ratings and item ids out.

The item part is run once; what is served is its table, the rating tower's weights and the ids. No user is known to the
graph: the user part is formed in it from the history, as a device does it. No line of this package is needed to serve.
Signatures, where `history` is string [batch, length]: item ids as the data set writes them, oldest first, and
`history_ratings` float32 of the same shape:

- `predict_rating(history, history_ratings, item_id)`: `rating` (float32 [batch]) of `item_id` (string [batch]), clipped
  to the scale. Without a history it is mean + item bias, for an unknown item mean + user bias, for both the mean.
- `recommend(history)`: `item_ids` (string [batch, k]) and `scores` (float32 [batch, k]), best first, without the
  history. Where fewer than k items are left the rest is empty strings and the lowest float32. Scores are predicted
  ratings, not clipped, so that the best keep their order; a user without a history is served by popularity.
  The history is taken as liked, every item rated a point above mean + item bias. (On ml-latest-small this finds about
  twice as many of the held-out items as a residual of 0, which tells of a user only what was chosen.)
- `recommend_rated(history, history_ratings)`: the same for a history with ratings, of which more is known.
- `similar_items(item_id)`: as `recommend`, the items nearest to each of `item_id` (string [batch]), itself left out, by
  the cosine of vectors, each the sum of the embeddings of the id and of the features: items that are rated alike and
  tagged alike, and an item without ratings by its features alone. None for an unknown id.

Empty and unknown ids, anywhere in a history, are passed over, with their ratings. A rating of 0 stands for none: the
item counts as rated mean + item bias, a residual of 0.
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from tff_rec.data.features import ItemVocabulary
from tff_rec.errors import InputError
from tff_rec.models.layers import own_weights
from tff_rec.models.rating_towers import RatingTower, item_part
from tff_rec.models.tag_aware import TagAware
from tff_rec.serving import folder
from tff_rec.serving.catalogue import Catalogue, are_best, close, frozen, padded_ids, titles_by_id

_SIGNATURES = ("predict_rating", "recommend", "recommend_rated", "similar_items")
_HISTORY = tf.TensorSpec([None, None], tf.string, name="history")
_RATINGS = tf.TensorSpec([None, None], tf.float32, name="history_ratings")
_ITEM = tf.TensorSpec([None], tf.string, name="item_id")
_LIKED = 1.0
_TARGETS = 16
_BLOCK = 64
_Signatures = Mapping[str, Callable[..., dict[str, tf.Tensor]]]


def export_tag_aware(
    model: TagAware,
    vocabulary: ItemVocabulary,
    popularity: np.ndarray,
    titles: Mapping[str, str] | Sequence[str],
    directory: pathlib.Path,
    max_length: int,
    k: int = 100,
) -> None:
    """Writes the SavedModel, its description and the titles; who reads `directory` meets the old or the new export.

    Args:
        model: Under its own weights.
        vocabulary: The catalogue that the model was trained on.
        popularity: float32 [items], scores for users without a history.
        titles: By item id (where there is none it is empty), or in the order of the vocabulary.
        directory: Where to write. An export that is there is replaced; anything else is left and refused.
        max_length: Number of items, the newest ones, that the user part is made of.
        k: Number of recommendations, and of similar items.

    Raises:
        InputError: `k` or `max_length` is out of range, the catalogue's sizes differ, the scale holds 0, a number is
            not finite, or `directory` cannot be written.
    """
    _check(model, vocabulary, popularity, max_length, k)
    words = f"ItemTower and RatingTower, {model.item_tower.dimension} dimensions"
    description = folder.Description(k, max_length, len(vocabulary), words)
    with folder.replacing(directory) as new:
        server = _Server(model, Catalogue(vocabulary, k), popularity, max_length)
        tf.saved_model.save(server, str(new), signatures={name: getattr(server, name) for name in _SIGNATURES})
        folder.write_extra(new, description, titles_by_id(titles, vocabulary))


def check_export(
    directory: pathlib.Path,
    model: TagAware,
    vocabulary: ItemVocabulary,
    sample_histories: Sequence[np.ndarray],
    sample_ratings: Sequence[np.ndarray],
) -> int:
    """Reloads an export and compares its signatures with the model itself, by brute force.

    Args:
        directory: Written by `export_tag_aware`.
        model: What was exported.
        vocabulary: What was exported.
        sample_histories: An int array of items a user, oldest first; users without items are passed over.
        sample_ratings: Their ratings.

    Returns:
        Number of users compared.

    Raises:
        RuntimeError: The export gives other ratings, or other items (ties aside).
    """
    max_length = folder.read_description(directory).max_length
    samples = [
        (items[items >= 0], ratings[items >= 0].astype(np.float32))
        for items, ratings in zip(sample_histories, sample_ratings, strict=True)
        if (items >= 0).any()
    ]
    with tf.device("/CPU:0"):  # GPUs round products of float32 by default.
        served = tf.saved_model.load(str(directory)).signatures
        reference = _Reference(model, vocabulary, max_length)
        blocks = [samples[start : start + _BLOCK] for start in range(0, len(samples), _BLOCK)]
        agree = all(_agrees(served, reference, block) for block in blocks)
    if not agree:
        raise RuntimeError(f"The export in {directory} does not answer as the model does; it is not to be used.")
    return len(samples)


class _Server(tf.Module):
    """State and signatures of the SavedModel."""

    def __init__(self, model: TagAware, catalogue: Catalogue, popularity: np.ndarray, max_length: int) -> None:
        super().__init__()
        tower, table = model.rating_tower, model.item_table()
        self.max_length = max_length
        self.catalogue = catalogue
        self.popularity = frozen(popularity, "popularity")
        self.table = frozen(table, "table")
        self.directions = frozen(tf.math.l2_normalize(item_part(table).vectors, axis=1), "directions")
        self.tower_weights = [frozen(value, "rating_tower") for value in own_weights(tower).values()]
        # Bound methods: a tower in an attribute would be saved as a Keras layer.
        self.name_weights = tower.as_weights
        self.predict = tower.predict
        self.predict_unclipped = _unclipped(tower).predict

    @tf.function(input_signature=[_HISTORY, _RATINGS, _ITEM])
    def predict_rating(
        self, history: tf.Tensor, history_ratings: tf.Tensor, item_id: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """The rating of one item a user."""
        items = self.catalogue.indices(history)
        user, targets = (self._newest(items), self._given(items, history_ratings)), self.catalogue.indices(item_id)
        return {"rating": self.predict(self._weights(), self._table(), *user, targets[:, tf.newaxis])[:, 0]}

    @tf.function(input_signature=[_HISTORY])
    def recommend(self, history: tf.Tensor) -> dict[str, tf.Tensor]:
        """The k best items outside the history."""
        items = self.catalogue.indices(history)
        return self._recommend(items, self._expected(items) + _LIKED)

    @tf.function(input_signature=[_HISTORY, _RATINGS])
    def recommend_rated(self, history: tf.Tensor, history_ratings: tf.Tensor) -> dict[str, tf.Tensor]:
        """The k best items outside the history, whose ratings are known."""
        items = self.catalogue.indices(history)
        return self._recommend(items, self._given(items, history_ratings))

    @tf.function(input_signature=[_ITEM])
    def similar_items(self, item_id: tf.Tensor) -> dict[str, tf.Tensor]:
        """The k items nearest to each one."""
        items = self.catalogue.indices(item_id)
        cosines = tf.matmul(tf.gather(self.directions, tf.maximum(items, 0)), self.directions, transpose_b=True)
        itself = tf.equal(items[:, tf.newaxis], tf.range(self.catalogue.num_items))
        return self.catalogue.best(cosines, tf.logical_or(itself, items[:, tf.newaxis] < 0))

    def _recommend(self, items: tf.Tensor, ratings: tf.Tensor) -> dict[str, tf.Tensor]:
        catalogue = tf.range(self.catalogue.num_items)[tf.newaxis]

        def scores_of_one(known: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            user, given = known[0][tf.newaxis], known[1][tf.newaxis]
            return self.predict_unclipped(self._weights(), self._table(), user, given, catalogue)[0]

        # One user at a time: each takes a copy of the table.
        each = tf.TensorSpec([self.catalogue.num_items], tf.float32)
        scores = tf.map_fn(scores_of_one, (self._newest(items), ratings), fn_output_signature=each)
        has_history = tf.reduce_any(items >= 0, axis=1, keepdims=True)
        return self.catalogue.best(tf.where(has_history, scores, self.popularity), self.catalogue.seen(items))

    def _newest(self, items: tf.Tensor) -> tf.Tensor:
        """The items that the user part is made of, -1 for others: int32 [batch, n]."""
        age = tf.cumsum(tf.cast(items >= 0, tf.int32), axis=1, reverse=True)
        return tf.where(age <= self.max_length, items, -1)

    def _given(self, items: tf.Tensor, ratings: tf.Tensor) -> tf.Tensor:
        """The ratings, and what is expected where there is none: float32 [batch, n]."""
        same = tf.debugging.assert_equal(
            tf.shape(items), tf.shape(ratings), "history and history_ratings differ in shape; give a rating an item."
        )
        with tf.control_dependencies([same]):
            return tf.where(ratings > 0.0, ratings, self._expected(items))

    def _expected(self, items: tf.Tensor) -> tf.Tensor:
        """Mean + item bias: float32, as many as `items`."""
        biases = tf.gather(item_part(self._table()).biases, tf.maximum(items, 0))
        return self._weights()["intercept"] + biases

    def _weights(self) -> Mapping[str, tf.Tensor]:
        return self.name_weights([tf.convert_to_tensor(value) for value in self.tower_weights])

    def _table(self) -> tf.Tensor:
        return tf.convert_to_tensor(self.table)


def _unclipped(tower: RatingTower) -> RatingTower:
    """A tower that computes the same on a scale without ends."""
    return RatingTower.from_config(tower.get_config() | {"lowest": -np.inf, "highest": np.inf})


def _check(model: TagAware, vocabulary: ItemVocabulary, popularity: np.ndarray, max_length: int, k: int) -> None:
    num_items, tower = len(vocabulary), model.rating_tower
    if not 1 <= k <= num_items:
        raise InputError(f"{k} recommendations of {num_items} items cannot be made; give a k from 1 to {num_items}.")
    if max_length < 1:
        raise InputError(f"The user part is made of 1 item or more, not {max_length}; give such a max_length.")
    if not num_items == len(popularity) == model.item_tower.num_items:
        raise InputError(
            f"The model knows {model.item_tower.num_items} items, the vocabulary {num_items} and the popularity "
            f"{len(popularity)}; give those that the model was trained with."
        )
    if tower.lowest <= 0:
        raise InputError(f"The scale begins at {tower.lowest}, but a rating of 0 stands for none; shift the ratings.")
    if not all(np.isfinite(value).all() for value in (popularity, model.item_table(), *own_weights(tower).values())):
        raise InputError("The model holds numbers that are not finite; train it with a lower learning rate.")


class _Reference:
    """What the model itself says, of one user at a time."""

    def __init__(self, model: TagAware, vocabulary: ItemVocabulary, max_length: int) -> None:
        self.vocabulary = vocabulary
        self.table = model.item_table()
        self._tower = model.rating_tower
        self._weights = own_weights(model.rating_tower)
        self._max_length = max_length
        self._predict = tf.function(_unclipped(model.rating_tower).predict, reduce_retracing=True)
        self._directions = tf.math.l2_normalize(item_part(self.table).vectors, axis=1)

    def ratings(self, items: np.ndarray, ratings: Sequence[np.ndarray]) -> np.ndarray:
        """Ratings of all items, not clipped, after each of some ratings of the user's: float32 [those, items]."""
        given = np.stack(ratings)[:, -self._max_length :]
        rated = np.broadcast_to(items[-self._max_length :], given.shape)
        every = np.broadcast_to(np.arange(len(self.vocabulary), dtype=np.int32), [len(given), len(self.vocabulary)])
        return self._predict(self._weights, self.table, *map(tf.constant, (rated, given, every))).numpy()

    def agrees(
        self,
        items: np.ndarray,
        ratings: np.ndarray,
        predicted: np.ndarray,
        answers: Sequence[tuple[np.ndarray, np.ndarray]],
    ) -> bool:
        """Whether a user is served this: ratings of its newest items, the newest first; and of each list (after its own
        ratings, after none, like its newest item) ids and scores."""
        rated, unrated = self.ratings(items, [ratings, self.expected(items) + _LIKED])
        targets = items[: -_TARGETS - 1 : -1]
        clipped = np.clip(rated[targets], self._tower.lowest, self._tower.highest)
        lists = ((rated, items), (unrated, items), (self.cosines(items[-1]), items[-1:]))
        return close(predicted[: len(targets)], clipped) and all(
            are_best(self.vocabulary, *expected, *answer) for expected, answer in zip(lists, answers, strict=True)
        )

    def expected(self, items: np.ndarray) -> np.ndarray:
        """Ratings of items by nobody in particular: float32, as many as `items`."""
        return (self._weights["intercept"] + tf.gather(item_part(self.table).biases, items)).numpy()

    def cosines(self, item: int) -> np.ndarray:
        """Of all items with one: float32 [items]."""
        return tf.linalg.matvec(self._directions, self._directions[item]).numpy()


def _agrees(served: _Signatures, reference: _Reference, samples: Sequence[tuple[np.ndarray, np.ndarray]]) -> bool:
    """Whether all signatures give users (their items and ratings) together what brute force gives each, ties aside."""
    histories = [items for items, _ in samples]
    history = padded_ids(reference.vocabulary, histories)
    given = np.zeros(history.shape, dtype=np.float32)
    for row, (items, ratings) in zip(given, samples, strict=True):
        row[: len(items)] = ratings
    user = {"history": tf.constant(history), "history_ratings": tf.constant(given)}
    newest = padded_ids(reference.vocabulary, [items[: -_TARGETS - 1 : -1] for items in histories])
    predicted = np.stack([_predicted(served, user, targets) for targets in newest.T], axis=1)
    answers = (
        served["recommend_rated"](**user),
        served["recommend"](history=user["history"]),
        served["similar_items"](item_id=tf.constant(newest[:, 0])),
    )
    lists = [(answer["item_ids"].numpy(), answer["scores"].numpy()) for answer in answers]
    return all(
        reference.agrees(items, ratings, predicted[row], [(ids[row], scores[row]) for ids, scores in lists])
        for row, (items, ratings) in enumerate(samples)
    )


def _predicted(served: _Signatures, user: Mapping[str, tf.Tensor], targets: np.ndarray) -> np.ndarray:
    return served["predict_rating"](**user, item_id=tf.constant(targets))["rating"].numpy()
