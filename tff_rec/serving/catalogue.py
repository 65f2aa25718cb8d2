"""What the SavedModels share: the catalogue's ids, looked up and given back, and the titles beside them."""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from tff_rec.data.features import ItemVocabulary
from tff_rec.evaluation import ranking

LOWEST = float(np.finfo(np.float32).min)
_TOLERANCE = 1e-4


class Catalogue(tf.Module):
    """Ids of the items, a part of the SavedModel.

    Args:
        vocabulary: The catalogue.
        k: Number of items in an answer.
    """

    def __init__(self, vocabulary: ItemVocabulary, k: int) -> None:
        super().__init__()
        self.k = k
        self.num_items = len(vocabulary)
        self.item_ids = tf.constant(vocabulary.item_ids)
        self.lookup = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(self.item_ids, tf.range(self.num_items)), default_value=-1
        )

    def indices(self, ids: tf.Tensor) -> tf.Tensor:
        """Items of ids, string [...] → int32 [...]; -1 for an empty or unknown one."""
        return self.lookup.lookup(ids)

    def seen(self, items: tf.Tensor) -> tf.Tensor:
        """Which items stand in each history, int32 [batch, n], -1 anywhere: bool [batch, items]."""
        rows = tf.repeat(tf.range(tf.shape(items)[0]), tf.shape(items)[1])
        cells = tf.stack([rows, tf.reshape(items, [-1]) + 1], axis=1)
        counts = tf.scatter_nd(cells, tf.ones_like(rows), [tf.shape(items)[0], self.num_items + 1])
        return counts[:, 1:] > 0

    def best(self, scores: tf.Tensor, left_out: tf.Tensor) -> dict[str, tf.Tensor]:
        """The k best items, best first; where fewer are left, empty strings and the lowest float32.

        Args:
            scores: float32 [batch, items].
            left_out: bool [batch, items].
        """
        best, places = tf.math.top_k(tf.where(left_out, LOWEST, scores), self.k)
        missing = tf.gather(left_out, places, batch_dims=1)
        return {"item_ids": tf.where(missing, "", tf.gather(self.item_ids, places)), "scores": best}


def frozen(value: np.ndarray | tf.Tensor, name: str) -> tf.Variable:
    """A float32 variable that is saved and not trained."""
    return tf.Variable(tf.cast(value, tf.float32), trainable=False, name=name)


def titles_by_id(titles: Mapping[str, str] | Sequence[str], vocabulary: ItemVocabulary) -> dict[str, str]:
    """Titles of all items, given by id (where there is none it is empty) or in the order of the vocabulary."""
    if isinstance(titles, Mapping):
        return {item_id: titles.get(item_id, "") for item_id in vocabulary.item_ids}
    return dict(zip(vocabulary.item_ids, titles, strict=True))


def padded_ids(vocabulary: ItemVocabulary, histories: Sequence[np.ndarray]) -> np.ndarray:
    """Ids of each row's items, with empty strings behind: object [rows, longest]."""
    longest = max(map(len, histories), default=0)
    return np.array([*vocabulary.item_ids, ""], dtype=object)[ranking.pad_histories(histories, longest)]


def close(values: np.ndarray, expected: np.ndarray) -> bool:
    """Whether served numbers are the model's, as nearly as float32 on another device gives them."""
    scale = np.abs(expected).max(initial=0.0)
    return values.shape == expected.shape and np.allclose(values, expected, rtol=_TOLERANCE, atol=_TOLERANCE * scale)


def are_best(
    vocabulary: ItemVocabulary, expected: np.ndarray, left_out: np.ndarray, ids: np.ndarray, *scores: np.ndarray
) -> bool:
    """Whether an answer to one user holds the items that score best, ties aside, and their scores.

    Args:
        vocabulary: The catalogue.
        expected: Scores of all items: float32 [items].
        left_out: Items that are not to be answered.
        ids: Bytes [k], empty strings behind where there are fewer.
        scores: As served, each float32 [k].
    """
    answered = [item_id.decode() for item_id in ids if item_id]
    best = np.sort(np.delete(expected, left_out))[::-1][: len(ids)]
    found = vocabulary.index(answered)
    distinct = len(set(answered)) == len(best) and not np.isin(found, left_out).any()
    return distinct and all(close(values[: len(answered)], best) for values in (expected[found], *scores))
