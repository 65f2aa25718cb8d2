"""A two-tower model as a SavedModel that core TensorFlow serves: item ids in, item ids and scores out.

The candidate tower is run once; what is served is its table, the query tower's weights and the ids. No line of this
package is needed to serve. Signatures for servers, both with `history`, string [batch, length]: item ids as the data
set writes them, oldest first; empty strings and ids outside the catalogue are passed over.

- `recommend(history)`: `item_ids` (string [batch, k]) and `scores` (float32 [batch, k]), best first, without the
  history. Where fewer than k items are left the rest is empty strings and the lowest float32.
- `score(history, item_ids)`: `scores` (float32 [batch, n]) of `item_ids` (string [batch, n]), the lowest float32 for
  one outside the catalogue.

A user without a history is served by popularity.

Two more are for devices that keep their history to themselves (`device`): `item_vectors(item_ids)` gives `vectors`
(float32 [n, d]), and `score_vectors(history_vectors, candidate_vectors)`, which runs on the device, `scores` (float32
[n]).
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from tff_rec.data.features import ItemVocabulary
from tff_rec.errors import InputError
from tff_rec.evaluation import ranking
from tff_rec.models.layers import own_weights
from tff_rec.models.two_tower import TwoTower
from tff_rec.serving import folder
from tff_rec.serving.catalogue import LOWEST, Catalogue, are_best, frozen, padded_ids, titles_by_id

_SIGNATURES = ("recommend", "score", "item_vectors", "score_vectors")


def export_two_tower(
    model: TwoTower,
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
        max_length: Number of items, the newest ones, that a query is made of.
        k: Number of recommendations.

    Raises:
        InputError: `k` or `max_length` does not fit the catalogue or the tower, a number is not finite, or `directory`
            cannot be written.
    """
    _check(model, vocabulary, popularity, max_length, k)
    description = folder.Description(k, max_length, len(vocabulary), _in_words(model))
    with folder.replacing(directory) as new:
        server = _Server(model, Catalogue(vocabulary, k), popularity, max_length)
        tf.saved_model.save(server, str(new), signatures={name: getattr(server, name) for name in _SIGNATURES})
        folder.write_extra(new, description, titles_by_id(titles, vocabulary))


def check_export(
    directory: pathlib.Path, model: TwoTower, vocabulary: ItemVocabulary, sample_histories: Sequence[np.ndarray]
) -> int:
    """Reloads an export and compares both signatures with the scores that the model is judged by, item for item.

    Args:
        directory: Written by `export_two_tower`.
        model: What was exported.
        vocabulary: What was exported.
        sample_histories: An int array of items a user, oldest first; users without items are passed over.

    Returns:
        Number of users compared.

    Raises:
        RuntimeError: The export recommends other items (ties aside) or gives other scores.
    """
    description = folder.read_description(directory)
    histories = [items[items >= 0] for items in sample_histories if (items >= 0).any()]
    with tf.device("/CPU:0"):  # GPUs round products of float32 by default.
        served = tf.saved_model.load(str(directory)).signatures
        scored = ranking.two_tower_scores(model, histories, description.max_length)
        agree = all(
            _agrees(served, vocabulary, [histories[user] for user in users], scores) for users, scores in scored
        )
    if not agree:
        raise RuntimeError(f"The export in {directory} does not recommend what the model does; it is not to be used.")
    return len(histories)


class _Server(tf.Module):
    """State and signatures of the SavedModel."""

    def __init__(self, model: TwoTower, catalogue: Catalogue, popularity: np.ndarray, max_length: int) -> None:
        super().__init__()
        table = model.candidate_embeddings()
        self.max_length = max_length
        self.catalogue = catalogue
        self.popularity = frozen(popularity, "popularity")
        self.vectors = frozen(table, "vectors")
        self.query_weights = [frozen(value, "query_tower") for value in own_weights(model.query_tower).values()]
        # Bound methods: a tower in an attribute would be saved as a Keras layer.
        self.name_weights = model.query_tower.as_weights
        self.query = model.query_tower.query
        self.temperature = model.objective.temperature

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.string, name="history")])
    def recommend(self, history: tf.Tensor) -> dict[str, tf.Tensor]:
        """The k best items outside the history."""
        items = self.catalogue.indices(history)
        queries, known = self._queries(items)
        scores = tf.matmul(queries, self.vectors, transpose_b=True)
        scores = tf.where(known, scores, self.popularity[tf.newaxis, :])
        return self.catalogue.best(scores, self.catalogue.seen(items))

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.string, name="history"),
            tf.TensorSpec([None, None], tf.string, name="item_ids"),
        ]
    )
    def score(self, history: tf.Tensor, item_ids: tf.Tensor) -> dict[str, tf.Tensor]:
        """Scores of given items."""
        queries, known = self._queries(self.catalogue.indices(history))
        items = self.catalogue.indices(item_ids)
        places = tf.maximum(items, 0)
        scores = tf.linalg.matvec(tf.gather(self.vectors, places), queries)
        scores = tf.where(known, scores, tf.gather(self.popularity, places))
        return {"scores": tf.where(items >= 0, scores, LOWEST)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="item_ids")])
    def item_vectors(self, item_ids: tf.Tensor) -> dict[str, tf.Tensor]:
        """What the server gives a device that asks for items; zeros for an id that it does not know."""
        items = self.catalogue.indices(item_ids)
        known = tf.cast(items >= 0, tf.float32)[:, tf.newaxis]
        return {"vectors": tf.gather(self.vectors, tf.maximum(items, 0)) * known}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.float32, name="history_vectors"),
            tf.TensorSpec([None, None], tf.float32, name="candidate_vectors"),
        ]
    )
    def score_vectors(self, history_vectors: tf.Tensor, candidate_vectors: tf.Tensor) -> dict[str, tf.Tensor]:
        """What a device computes with the vectors that it holds: scores of candidates after a history, oldest first."""
        vectors = tf.ensure_shape(history_vectors, [None, self.vectors.shape[1]])[tf.newaxis, -self.max_length :]
        weights = self.name_weights([tf.convert_to_tensor(value) for value in self.query_weights])
        query = self.query(weights, vectors, tf.ones_like(vectors[:, :, 0])) / self.temperature
        return {"scores": tf.linalg.matvec(candidate_vectors, query[0])}

    def _queries(self, items: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Queries over the temperature and which histories hold an item, of items (int32 [batch, n], -1 anywhere).

        Returns:
            float32 [batch, d] and bool [batch, 1].
        """
        items = tf.pad(items, [[0, 0], [1, 0]], constant_values=-1)  # So that n is at least 1.
        newest = _known_last(items)[:, -self.max_length :]
        newest = tf.reverse(_known_last(tf.reverse(newest, [1])), [1])
        mask = tf.cast(newest >= 0, tf.float32)
        vectors = tf.gather(self.vectors, tf.maximum(newest, 0)) * mask[:, :, tf.newaxis]
        weights = self.name_weights([tf.convert_to_tensor(value) for value in self.query_weights])
        queries = self.query(weights, vectors, mask) / self.temperature
        return queries, tf.reduce_any(newest >= 0, axis=1, keepdims=True)


def _known_last(items: tf.Tensor) -> tf.Tensor:
    """Moves -1 to the front of each row and leaves the rest in order."""
    order = tf.argsort(tf.cast(items >= 0, tf.int32), axis=1, stable=True)
    return tf.gather(items, order, batch_dims=1)


def _check(model: TwoTower, vocabulary: ItemVocabulary, popularity: np.ndarray, max_length: int, k: int) -> None:
    num_items = len(vocabulary)
    if not 1 <= k <= num_items:
        raise InputError(f"{k} recommendations of {num_items} items cannot be made; give a k from 1 to {num_items}.")
    longest = getattr(model.query_tower, "max_length", max_length)
    if not 1 <= max_length <= longest:
        raise InputError(f"The query tower reads 1 to {longest} items, not {max_length}; give such a max_length.")
    values = [model.candidate_embeddings(), popularity, *own_weights(model.query_tower).values()]
    if not all(np.isfinite(value).all() for value in values):
        raise InputError("The model holds numbers that are not finite; train it with a lower learning rate.")


def _in_words(model: TwoTower) -> str:
    towers = (model.query_tower, model.candidate_tower)
    return " and ".join(type(tower).__name__ for tower in towers) + f", {model.candidate_tower.dimension} dimensions"


def _agrees(
    served: Mapping[str, Callable[..., dict[str, tf.Tensor]]],
    vocabulary: ItemVocabulary,
    histories: Sequence[np.ndarray],
    expected: np.ndarray,
) -> bool:
    """Whether both signatures give histories what the model's scores (float32 [users, items]) give, ties aside."""
    history = tf.constant(padded_ids(vocabulary, histories))
    answer = served["recommend"](history=history)
    again = served["score"](history=history, item_ids=answer["item_ids"])["scores"].numpy()
    rows = zip(histories, expected, answer["item_ids"].numpy(), answer["scores"].numpy(), again, strict=True)
    return all(are_best(vocabulary, scored, items, *answered) for items, scored, *answered in rows)
