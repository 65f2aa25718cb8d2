"""From a configuration to all that is known before ratings are trained on: split, features, devices and silos."""

import dataclasses
import pathlib
from typing import Self

import numpy as np
import pandas as pd

from tff_rec.data import cleaning, clients, features, item_tags, ratings, silos, sources, splits
from tff_rec.data.schema import InteractionData
from tff_rec.errors import InputError
from tff_rec.simulation import preparation
from tff_rec.simulation.rating_config import TagAwareConfig

_SPLIT_SEED = 7


@dataclasses.dataclass(frozen=True)
class PreparedRatings:
    """What training, evaluation and export share.

    Attributes:
        data: The validated record.
        protocol: How ratings were held out, to print.
        vocabulary: All items that the data describes, also those without training ratings.
        item_features: Of those items.
        item_rows: Genres and tags of the items, for silos, baselines and groups.
        store: What devices hold: the training part, and the histories of held-out users.
        training_users: Rows of the store that take part in rounds: int64.
        popularity: Training ratings of each item, those of held-out users left out: float32 [items].
        validation: Ratings for model selection.
        test: Ratings that only the final numbers come from.
        silos: Users of each silo, rows of the store; none where each user is a client.
    """

    data: InteractionData
    protocol: str
    vocabulary: features.ItemVocabulary
    item_features: features.ItemFeatures
    item_rows: item_tags.ItemTags
    store: ratings.RatingStore
    training_users: np.ndarray
    popularity: np.ndarray
    validation: ratings.HeldOutRatings
    test: ratings.HeldOutRatings
    silos: tuple[np.ndarray, ...]

    @property
    def training_ratings(self) -> np.ndarray:
        """Ratings of the training users: float32."""
        taking_part = np.zeros(self.store.num_users, dtype=bool)
        taking_part[self.training_users] = True
        return self.store.ratings[taking_part[self.store.owners()]]

    def titles(self) -> list[str]:
        """Title of every item of the vocabulary."""
        return preparation.titles_of(self.data, self.vocabulary)

    def on_disk(self, directory: pathlib.Path) -> Self:
        """The same with the devices' arrays memory-mapped from a directory.

        Raises:
            InputError: The directory holds the arrays of other data, as that of a run to resume may.
        """
        seen = [self.store.offsets, self.store.items, self.store.ratings, self.training_users]
        seen += [self.item_features.indices, self.item_features.weights]
        with preparation.claimed(directory, self.vocabulary, seen):
            return dataclasses.replace(self, store=ratings.memory_mapped(self.store, directory))

    def describe(self) -> str:
        """What was read, cleaned, split and parted, a line each."""
        lines = [cleaning.describe(self.data.cleaning)] if self.data.cleaning else []
        lines.append(
            f"{self.data.name}: {len(self.data.interactions):,} ratings, {len(self.training_users):,} users in "
            f"training, {len(self.vocabulary):,} items of which {np.count_nonzero(self.popularity):,} are rated there, "
            f"{self.item_features.num_features:,} item features"
        )
        lines.append(f"split: {self.protocol}")
        if self.silos:
            counts = [int(self.store.lengths()[silo].sum()) for silo in self.silos]
            sizes = (f"{len(silo):,} users with {count:,}" for silo, count in zip(self.silos, counts, strict=True))
            lines.append(f"silos: {', '.join(sizes)} ratings")
        return "\n".join(lines)


def prepare(config: TagAwareConfig) -> PreparedRatings:
    """Reads, cleans, splits, describes and parts the data.

    Raises:
        InputError: The data is wrong, has one rating for everything, or is too small for the cohort, the silos or the
            export's k.
    """
    data = sources.read_source(
        config.data.source,
        config.data.path,
        min_user_items=config.data.min_user_items,
        min_item_users=config.data.min_item_users,
    )
    parts = _split(config, data)
    vocabulary = _catalogue(data, parts.train)
    store = ratings.build_rating_store(pd.concat([parts.train, parts.histories]), vocabulary)
    if store.ratings.min() == store.ratings.max():
        raise InputError(f"All training ratings of {data.name} are {store.ratings.min():g}; give ratings that differ.")
    training = np.isin(store.user_ids, parts.train["user_id"].unique())
    prepared = PreparedRatings(
        data=data,
        protocol=parts.protocol,
        vocabulary=vocabulary,
        item_features=_item_features(config, data, vocabulary, parts.train),
        item_rows=item_tags.build_item_tags(data, vocabulary, parts.train),
        store=store,
        training_users=np.flatnonzero(training & (store.lengths() >= 2)),
        popularity=features.popularity(parts.train, vocabulary),
        validation=ratings.held_out_ratings(store, parts.validation, vocabulary),
        test=ratings.held_out_ratings(store, parts.test, vocabulary),
        silos=(),
    )
    _check(config, prepared)
    return dataclasses.replace(prepared, silos=_silos(config, prepared))


@dataclasses.dataclass(frozen=True)
class _Parts:
    """Rows of interactions: `histories` are those of users outside training that their devices may use."""

    protocol: str
    train: pd.DataFrame
    histories: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame


def _split(config: TagAwareConfig, data: InteractionData) -> _Parts:
    if config.split == "held-out-users":
        return _held_out_users(config, data)
    if config.split == "loo":
        split = splits.leave_one_out(data)
    elif config.split == "none":
        split = splits.no_split(data)
    else:
        split = splits.random_ratings(data, config.seed)
    return _Parts(split.protocol, split.train, split.train[:0], split.validation, split.test)


def _held_out_users(config: TagAwareConfig, data: InteractionData) -> _Parts:
    """Held-out users with a random part of their ratings as history, the rest to judge (Singhal et al. 2021)."""
    share, part = config.evaluation.history_share, config.evaluation.held_out_share
    split = splits.held_out_users(data, 2 * part, config.seed)
    histories, judged = [], []
    for number, rows in enumerate((split.validation, split.test)):
        chosen = _history_rows(rows, share, [config.seed, _SPLIT_SEED, number])
        histories.append(rows[chosen])
        judged.append(rows[~chosen])
    protocol = f"{split.protocol}; {100 * share:g} % of a held-out user's ratings, at random, are its history"
    return _Parts(protocol, split.train, pd.concat(histories), *judged)


def _history_rows(rows: pd.DataFrame, share: float, seed: list[int]) -> np.ndarray:
    """Marks a random share of each user's rows, rounded down: bool [rows]."""
    users, _ = pd.factorize(rows["user_id"])
    counts = np.bincount(users)
    order = np.lexsort((np.random.default_rng(seed).random(len(rows)), users))
    place = np.arange(len(rows)) - (np.cumsum(counts) - counts)[users]
    chosen = np.zeros(len(rows), dtype=bool)
    chosen[order] = place < np.floor(share * counts)[users]
    return chosen


def _catalogue(data: InteractionData, train: pd.DataFrame) -> features.ItemVocabulary:
    """Items that the data describes, united with those of the training part: cold items keep their features."""
    return features.ItemVocabulary(tuple(sorted({*data.items["item_id"], *train["item_id"]})))


def _item_features(
    config: TagAwareConfig, data: InteractionData, vocabulary: features.ItemVocabulary, train: pd.DataFrame
) -> features.ItemFeatures:
    """The features that the model is to have, in one padded matrix."""
    model = config.model
    if model.features == "untagged":
        data = dataclasses.replace(data, tags=data.tags[:0])
    elif model.features == "none":
        data = dataclasses.replace(data, tags=data.tags[:0], items=data.items[["item_id", "title"]])
    known = features.build_item_features(data, vocabulary, train, max_tags=model.max_tags)
    if not model.popularity_scale:
        return known
    log_counts = np.log1p(features.popularity(train, vocabulary))
    standardised = (log_counts - log_counts.mean()) / max(float(log_counts.std()), 1e-6)
    column = np.full([len(vocabulary), 1], known.num_features, np.int32)
    weights = (model.popularity_scale * standardised)[:, np.newaxis].astype(np.float32)
    return features.ItemFeatures(
        indices=np.concatenate([known.indices, column], axis=1),
        weights=np.concatenate([known.weights, weights], axis=1),
        names=(*known.names, "popularity"),
    )


def _silos(config: TagAwareConfig, prepared: PreparedRatings) -> tuple[np.ndarray, ...]:
    """All users of the store, training users and held-out ones, parted as the options say."""
    if not config.num_silos:
        return ()
    if config.silos == "random":
        parts = silos.at_random(prepared.store, config.num_silos, config.seed)
    elif config.silos == "activity":
        parts = silos.by_activity(prepared.store, config.num_silos, config.seed)
    else:
        parts = silos.by_taste(prepared.store, prepared.item_rows.genres, config.num_silos, config.seed)
    if any(not np.isin(silo, prepared.training_users).any() for silo in parts):
        raise InputError(f"A silo has no user with two training ratings; give fewer --clients than {config.clients}.")
    return tuple(parts)


def _check(config: TagAwareConfig, prepared: PreparedRatings) -> None:
    name, items = prepared.data.name, len(prepared.vocabulary)
    if config.export.k > items:
        raise InputError(
            f"--export.k is {config.export.k} and the catalogue has {items} items; give at most that many."
        )
    if config.judged and not (len(prepared.validation.ratings) and len(prepared.test.ratings)):
        raise InputError(f"{name} has too few ratings to hold any out for validation and test; use --split none.")
    if not config.num_silos:
        clients.cohort(prepared.training_users, config.training.clients_per_round, config.seed, 0)
