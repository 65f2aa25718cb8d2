"""Loads an export and recommends from it, with titles: what `scripts/recommend.py` prints."""

import dataclasses
import pathlib
from collections.abc import Sequence

import tensorflow as tf

from tff_rec.errors import InputError
from tff_rec.serving import folder


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """One item, with its title and its score."""

    item_id: str
    title: str
    score: float


@dataclasses.dataclass(frozen=True)
class Recommendations:
    """Items, best first, and the number of items of the history that the catalogue holds."""

    items: tuple[Recommendation, ...]
    known: int


def recommend(directory: pathlib.Path, history: Sequence[str], top: int) -> Recommendations:
    """Recommends `top` items (or as many as are left) to a history of item ids, oldest first.

    Raises:
        InputError: There is no export in `directory`, it is damaged, or it gives fewer than `top` items.
    """
    description, titles = folder.read_description(directory), folder.read_titles(directory)
    if top > description.k:
        raise InputError(f"The export in {directory} gives {description.k} items, not {top}; ask for fewer.")
    try:
        served = tf.saved_model.load(str(directory)).signatures["recommend"]
    except (OSError, KeyError, tf.errors.OpError) as error:
        raise InputError(f"The SavedModel in {directory} cannot be read; export the model again.") from error
    answer = served(history=tf.constant([list(history)], tf.string))
    ids = [item_id.decode() for item_id in answer["item_ids"].numpy()[0, :top] if item_id]
    scores = answer["scores"].numpy()[0].tolist()
    items = tuple(Recommendation(item_id, titles[item_id], score) for item_id, score in zip(ids, scores, strict=False))
    return Recommendations(items, sum(item_id in titles for item_id in history))
