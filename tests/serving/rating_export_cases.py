"""A small tag-aware model and its export, for the tests of both kinds: what is served, and what is refused."""

import numpy as np

from tff_rec.data.features import ItemVocabulary
from tff_rec.models import rating_towers, tag_aware
from tff_rec.serving import rating_export

ITEMS, FEATURES, DIMENSION, LENGTH, K = 30, 5, 4, 6, 5
MEAN, LOWEST_RATING, HIGHEST_RATING = 3.5, 0.5, 5.0
VOCABULARY = ItemVocabulary(tuple(f"item {i:02}" for i in range(ITEMS)))
POPULARITY = np.random.default_rng(3).permutation(ITEMS).astype(np.float32)


def small_model(hidden=0, seed=0, lowest=LOWEST_RATING, scale=0.8):
    """A model whose weights are all moved away from zeros."""
    draw = np.random.default_rng(seed)
    model = tag_aware.TagAware(
        rating_towers.ItemTower(ITEMS, FEATURES, DIMENSION),
        rating_towers.RatingTower(DIMENSION, MEAN, lowest, HIGHEST_RATING, hidden=hidden, dropout=0.3),
        draw.integers(0, FEATURES, (ITEMS, 2)),
        draw.random((ITEMS, 2)).astype(np.float32),
        tag_aware.Penalties(),
        100,
    )
    for weight in model.trainable_weights:
        weight.assign_add(scale * draw.normal(size=weight.shape))
    return model


def export(model, directory, **changes):
    arguments = {"titles": {}, "directory": directory, "max_length": LENGTH, "k": K} | changes
    popularity, vocabulary = arguments.pop("popularity", POPULARITY), arguments.pop("vocabulary", VOCABULARY)
    rating_export.export_tag_aware(model, vocabulary, popularity, **arguments)
