"""Data with a known truth, shaped like MovieLens: the default of every script, and the yardstick of tests.

Users and items are vectors. An item's vector is mostly the mean of its genres' vectors, so that features help. A user
meets items without replacement in proportion to exp(strength * u·v_i + popularity_i), by
an exponential race (Gumbel top-k in another guise), in random order. `oracle_scores` are the true log-probabilities:
what no recommender can beat on average.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from tff_rec.data.schema import InteractionData, empty_genome
from tff_rec.errors import InputError

_GENRES = """
    Action|Adventure|Animation|Children|Comedy|Crime|Documentary|Drama|Fantasy|Film-Noir|Horror|Musical|Mystery|Romance|
    Sci-Fi|Thriller|War|Western
"""
_TAGS = """
    atmospheric|based on a book|beautiful|boring|classic|cult film|dark|dialogue|dystopia|family|feel-good|funny|heist|
    history|love|magic|mindblowing|music|quirky|revenge|road trip|sad|satire|slow|space|surreal|suspense|time travel|
    twist|violent|weird|witty
"""
_ADJECTIVES = """
    Silent|Golden|Last|Hidden|Broken|Crimson|Distant|Electric|Forgotten|Frozen|Gentle|Haunted|Invisible|Lonely|Midnight|
    Northern|Perfect|Quiet|Restless|Savage|Secret|Seventh|Stolen|Wild
"""
_NOUNS = """
    River|Garden|Station|Promise|Mirror|Empire|Summer|Witness|Harbour|Letter|Island|Machine|Orchard|Passenger|Queen|Road|
    Shadow|Storm|Stranger|Tower|Valley|Voyage|Winter|Wolf
"""
_FIRST_SECOND = 1_000_000_000
_YEAR_SECONDS = 365 * 24 * 3600
_CHUNK_CELLS = 8_000_000


@dataclasses.dataclass(frozen=True)
class SyntheticConfig:
    """Size and shape of the generated data.

    Attributes:
        num_users: Number of users.
        num_items: Number of items.
        mean_interactions: Mean of the lognormal number of items of a user, before it is cut to the range below.
        activity_sigma: Standard deviation of the logarithm of that number.
        min_interactions: Least number of items of a user; at most half the items are the most.
        dimension: Length of the latent vectors.
        strength: How much taste counts; 0 leaves only popularity.
        popularity_exponent: An item of rank r has popularity (r + 10) ** -exponent.
        genre_share: Share of an item's vector that its genres explain, in [0, 1].
        tag_rate: Share of interactions with a tag.
        tag_noise: Share of tags that say nothing of the item.
        seed: Seed of everything.
    """

    num_users: int = 1000
    num_items: int = 600
    mean_interactions: float = 40.0
    activity_sigma: float = 0.8
    min_interactions: int = 5
    dimension: int = 8
    strength: float = 5.0
    popularity_exponent: float = 1.0
    genre_share: float = 0.7
    tag_rate: float = 0.05
    tag_noise: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_users < 1 or self.dimension < 1 or self.num_items < 2 * max(self.min_interactions, 1):
            raise InputError(
                f"Synthetic data of {self.num_users} users and {self.num_items} items cannot be made; give at least "
                f"one user and {2 * max(self.min_interactions, 1)} items."
            )
        if self.mean_interactions <= 0 or self.min_interactions < 1 or self.activity_sigma < 0 or self.strength < 0:
            raise InputError("Synthetic activity, its spread and the strength of taste must be positive; correct them.")
        for name in ("genre_share", "tag_rate", "tag_noise"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"Synthetic {name} is {getattr(self, name)}; give a share between 0 and 1.")


@dataclasses.dataclass(frozen=True)
class SyntheticData:
    """Generated interactions and the truth behind them.

    Attributes:
        data: What a loader would return.
        user_ids: num_users ids; row u of `user_vectors` is the taste of `user_ids[u]`.
        item_ids: num_items ids, in the order of `item_vectors` and `item_popularity`.
        user_vectors: float32 [num_users, dimension], already times the strength.
        item_vectors: float32 [num_items, dimension], of length 1.
        item_popularity: float32 [num_items], logarithm of an item's weight.
    """

    data: InteractionData
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    user_vectors: np.ndarray
    item_vectors: np.ndarray
    item_popularity: np.ndarray

    def oracle_scores(self, user_ids: Sequence[str], item_ids: Sequence[str]) -> np.ndarray:
        """True log-probabilities of the items for the users: float32 [len(user_ids), len(item_ids)].

        Raises:
            InputError: An id is unknown.
        """
        users, items = _rows(self._user_index, user_ids, "user"), _rows(self._item_index, item_ids, "item")
        logits = self.user_vectors[users] @ self.item_vectors.T + self.item_popularity
        highest = logits.max(axis=1, keepdims=True)
        normaliser = highest + np.log(np.exp(logits - highest).sum(axis=1, keepdims=True))
        return (logits - normaliser)[:, items].astype(np.float32)

    @functools.cached_property
    def _user_index(self) -> pd.Index:
        return pd.Index(self.user_ids, dtype=object)

    @functools.cached_property
    def _item_index(self) -> pd.Index:
        return pd.Index(self.item_ids, dtype=object)


def generate_synthetic(config: SyntheticConfig) -> SyntheticData:
    """Generates data; the same `config` gives the same data. Memory grows with interactions, not with users x items."""
    item_rng, user_rng, draw_rng, detail_rng, tag_rng = np.random.default_rng(config.seed).spawn(5)
    genre_vectors = _unit(item_rng.standard_normal((len(_words(_GENRES)), config.dimension)))
    membership, item_vectors = _items(config, item_rng, genre_vectors)
    ranks = item_rng.permutation(config.num_items)
    popularity = (-config.popularity_exponent * np.log(ranks + 10.0)).astype(np.float32)
    user_vectors = config.strength * _unit(user_rng.standard_normal((config.num_users, config.dimension)))
    users, items = _draw(config, draw_rng, _activity(config, user_rng), user_vectors, item_vectors, popularity)
    item_ids = np.array([str(i + 1) for i in range(config.num_items)], dtype=object)
    user_ids = np.array([str(u + 1) for u in range(config.num_users)], dtype=object)
    interactions = pd.DataFrame(
        {
            "user_id": user_ids[users],
            "item_id": item_ids[items],
            "rating": _ratings(config, detail_rng, users, items, user_vectors, item_vectors),
            "timestamp": _timestamps(detail_rng, users, config.num_users),
        }
    )
    data = InteractionData(
        name="synthetic",
        interactions=interactions,
        items=_item_table(detail_rng, item_ids, membership),
        tags=_tags(config, tag_rng, interactions, items, item_vectors),
        genome=empty_genome(),
        users=pd.DataFrame({"user_id": user_ids}),
    )
    return SyntheticData(data, tuple(user_ids), tuple(item_ids), user_vectors, item_vectors, popularity)


def _items(config: SyntheticConfig, rng: np.random.Generator, genres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One to three genres of every item, bool [num_items, num_genres], and its vector."""
    scores = rng.standard_exponential((config.num_items, len(genres))) * np.arange(1, len(genres) + 1) ** 0.5
    counts = rng.choice([1, 2, 3], size=config.num_items, p=[0.4, 0.4, 0.2])
    membership = scores.argsort(axis=1).argsort(axis=1) < counts[:, None]
    from_genres = _unit(membership @ genres)
    noise = _unit(rng.standard_normal(from_genres.shape))
    vectors = _unit(np.sqrt(config.genre_share) * from_genres + np.sqrt(1 - config.genre_share) * noise)
    return membership, vectors


def _activity(config: SyntheticConfig, rng: np.random.Generator) -> np.ndarray:
    """Number of items of every user: int64 [num_users]."""
    location = np.log(config.mean_interactions) - config.activity_sigma**2 / 2
    counts = rng.lognormal(location, config.activity_sigma, config.num_users).round().astype(np.int64)
    return counts.clip(config.min_interactions, config.num_items // 2)


def _draw(
    config: SyntheticConfig,
    rng: np.random.Generator,
    activity: np.ndarray,
    user_vectors: np.ndarray,
    item_vectors: np.ndarray,
    popularity: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws each user's items without replacement; returns user and item of each row, both int32, in order of users.

    Each item gets an exponential waiting time with its weight as rate; the first `activity[u]` to come are drawn.
    """
    chunk = max(1, _CHUNK_CELLS // config.num_items)
    drawn = []
    for start in range(0, config.num_users, chunk):
        logits = user_vectors[start : start + chunk] @ item_vectors.T + popularity
        waiting = rng.standard_exponential(logits.shape, dtype=np.float32)
        waiting *= np.exp(logits.max(axis=1, keepdims=True) - logits)
        for times, count in zip(waiting, activity[start : start + chunk], strict=True):
            drawn.append(rng.permutation(np.argpartition(times, count)[:count].astype(np.int32)))
    return np.repeat(np.arange(config.num_users, dtype=np.int32), activity), np.concatenate(drawn)


def _ratings(
    config: SyntheticConfig,
    rng: np.random.Generator,
    users: np.ndarray,
    items: np.ndarray,
    user_vectors: np.ndarray,
    item_vectors: np.ndarray,
) -> np.ndarray:
    """Half stars from 0.5 to 5: float32, a user's mean plus taste plus noise."""
    scale = config.strength or 1.0
    means = rng.normal(3.3, 0.4, len(user_vectors)).astype(np.float32)
    ratings = np.empty(len(users), dtype=np.float32)
    for start in range(0, len(users), _CHUNK_CELLS // 8):
        part = slice(start, start + _CHUNK_CELLS // 8)
        affinity = np.einsum("nd,nd->n", user_vectors[users[part]], item_vectors[items[part]]) / scale
        noise = rng.normal(0, 0.6, len(affinity))
        ratings[part] = np.round(2 * (means[users[part]] + 1.5 * affinity + noise)) / 2
    return ratings.clip(0.5, 5.0)


def _timestamps(rng: np.random.Generator, users: np.ndarray, num_users: int) -> np.ndarray:
    """Seconds, ascending within a user: int64. Users begin at any time in ten years and stay for about a month."""
    starts = rng.integers(0, 10 * _YEAR_SECONDS, num_users)
    times = starts[users] + rng.exponential(_YEAR_SECONDS / 12, len(users)).astype(np.int64)
    return _FIRST_SECOND + times[np.lexsort((times, users))]


def _item_table(rng: np.random.Generator, item_ids: np.ndarray, membership: np.ndarray) -> pd.DataFrame:
    years = 2015 - rng.exponential(15, len(item_ids)).astype(int).clip(0, 90)
    names = rng.permutation([f"The {adjective} {noun}" for adjective in _words(_ADJECTIVES) for noun in _words(_NOUNS)])
    parts = [i // len(names) + 1 for i in range(len(item_ids))]
    suffixes = [f" {part}" if part > 1 else "" for part in parts]
    titles = [
        f"{names[i % len(names)]}{suffix} ({year})"
        for i, (suffix, year) in enumerate(zip(suffixes, years, strict=True))
    ]
    genre_names = np.array(_words(_GENRES))
    genres = ["|".join(genre_names[row]) for row in membership]
    table = {"item_id": item_ids, "title": titles, "genres": genres, "year": years.astype(str)}
    return pd.DataFrame(table, dtype=object)


def _tags(
    config: SyntheticConfig,
    rng: np.random.Generator,
    interactions: pd.DataFrame,
    items: np.ndarray,
    vectors: np.ndarray,
) -> pd.DataFrame:
    """Tags on some interactions: mostly one of the three that fit the item best, in three spellings, and some noise."""
    tagged = np.flatnonzero(rng.random(len(interactions)) < config.tag_rate)
    num_tags = len(_words(_TAGS))
    tag_vectors = _unit(rng.standard_normal((num_tags, config.dimension)))
    fitting = np.argsort(-(vectors @ tag_vectors.T), axis=1)[:, :3]
    words = fitting[items[tagged], rng.integers(0, 3, len(tagged))]
    noisy = rng.random(len(tagged)) < config.tag_noise
    words = np.where(noisy, rng.integers(0, num_tags, len(tagged)), words)
    spellings = np.array([[word, word.capitalize(), word.upper()] for word in _words(_TAGS)], dtype=object)
    rows = interactions.iloc[tagged]
    tags = spellings[words, rng.choice(3, size=len(tagged), p=[0.8, 0.15, 0.05])]
    table = {"user_id": rows["user_id"], "item_id": rows["item_id"], "tag": tags, "timestamp": rows["timestamp"] + 60}
    return pd.DataFrame(table).reset_index(drop=True)


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1, float32."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split("|")]


def _rows(index: pd.Index, ids: Sequence[str], what: str) -> np.ndarray:
    rows = index.get_indexer(pd.Index(ids, dtype=object))
    if (rows < 0).any():
        raise InputError(f"The synthetic data has no {what} '{ids[int(np.argmin(rows))]}'; ask for ids that it has.")
    return rows
