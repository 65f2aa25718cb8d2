"""From a configuration to everything that is known before training: records, split, features and simulated devices."""

import contextlib
import dataclasses
import hashlib
import pathlib
from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np

from tff_rec.data import cleaning, clients, features, ncf, sources, splits, synthetic
from tff_rec.data.schema import InteractionData
from tff_rec.errors import InputError
from tff_rec.simulation.config import TwoTowerConfig


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What training, evaluation and export share.

    Attributes:
        data: The validated record.
        split: Its parts.
        vocabulary: Items to rank: those of the training part, or all that the data describes.
        item_features: Of those items.
        popularity: Their training interactions, float32 [items].
        store: Histories of the devices, from the training part.
        validation: Held-out items for model selection.
        test: Held-out items that only the final numbers come from.
        truth: What the synthetic data was made from; None for real data.
    """

    data: InteractionData
    split: splits.Split
    vocabulary: features.ItemVocabulary
    item_features: features.ItemFeatures
    popularity: np.ndarray
    store: clients.ClientStore
    validation: clients.HeldOut
    test: clients.HeldOut
    truth: synthetic.SyntheticData | None

    @property
    def trainable_users(self) -> np.ndarray:
        """Users with a next item to predict: int64."""
        return np.flatnonzero(self.store.lengths() >= 2)

    def titles(self) -> list[str]:
        """Title of every item of the vocabulary."""
        return titles_of(self.data, self.vocabulary)

    def on_disk(self, directory: pathlib.Path) -> Self:
        """The same with the devices' arrays memory-mapped from a directory.

        Raises:
            InputError: The directory holds the arrays of other data, as that of a run to resume may.
        """
        with claimed(directory, self.vocabulary, (self.store.offsets, self.store.items, self.store.timestamps)):
            return dataclasses.replace(self, store=clients.memory_mapped(self.store, directory))

    def describe(self) -> str:
        """What was read, cleaned and split, a line each."""
        lines = [cleaning.describe(self.data.cleaning)] if self.data.cleaning else []
        lines.append(
            f"{self.data.name}: {len(self.data.interactions):,} interactions, {self.store.num_users:,} users and "
            f"{len(self.vocabulary):,} items to rank, {self.item_features.num_features:,} item features"
        )
        lines.append(f"split: {self.split.protocol}")
        return "\n".join(lines)


def titles_of(data: InteractionData, vocabulary: features.ItemVocabulary) -> list[str]:
    """Title of every item of a vocabulary; empty where there is none."""
    known = data.items.drop_duplicates("item_id").set_index("item_id")["title"]
    return known.reindex(list(vocabulary.item_ids)).fillna("").tolist()


@contextlib.contextmanager
def claimed(
    directory: pathlib.Path, vocabulary: features.ItemVocabulary, arrays: Sequence[np.ndarray]
) -> Iterator[None]:
    """Marks a directory, once the block inside is done, as that of the data that training sees.

    Args:
        directory: Where the arrays of a run are written.
        vocabulary: Of the data.
        arrays: What else training sees of it.

    Raises:
        InputError: The directory holds the arrays of other data, as that of a run to resume may.
    """
    digest = hashlib.sha256("\n".join(vocabulary.item_ids).encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    known = directory / "sha256"
    if known.is_file() and known.read_text() != digest.hexdigest():
        raise InputError(f"The run of {directory.parent} has other data; resume it with the files it began with.")
    yield
    known.write_text(digest.hexdigest())


def prepare(config: TwoTowerConfig) -> Prepared:
    """Reads, cleans, splits and indexes the data.

    Raises:
        InputError: The data is wrong, or too small for the cohort or for the export's k.
    """
    data, truth = _read(config)
    split = _split(config, data)
    vocabulary = features.build_item_vocabulary(split.train, data.items if config.catalogue == "all" else None)
    store = clients.build_client_store(split.train, vocabulary)
    prepared = Prepared(
        data=data,
        split=split,
        vocabulary=vocabulary,
        item_features=features.build_item_features(data, vocabulary, split.train),
        popularity=features.popularity(split.train, vocabulary),
        store=store,
        validation=clients.held_out_items(store, split.validation, vocabulary),
        test=clients.held_out_items(store, split.test, vocabulary),
        truth=truth,
    )
    if config.export.k > len(vocabulary):
        raise InputError(
            f"--export.k is {config.export.k} and the catalogue has {len(vocabulary)} items; give at most that many."
        )
    if config.judged and not len(prepared.test.users):
        raise InputError(f"{data.name} has no user with three interactions to hold out; use --split none.")
    clients.cohort(prepared.trainable_users, config.training.clients_per_round, config.seed, 0)
    return prepared


def _split(config: TwoTowerConfig, data: InteractionData) -> splits.Split:
    if config.split == "loo":
        return splits.leave_one_out(data)
    if config.split == "ncf":
        return splits.leave_published_out(data, ncf.read_published_test())
    return splits.no_split(data)


def _read(config: TwoTowerConfig) -> tuple[InteractionData, synthetic.SyntheticData | None]:
    options = config.data
    if options.source == "synthetic" and options.path is None:
        truth = synthetic.generate_synthetic(synthetic.SyntheticConfig())
        return cleaning.filter_rare(truth.data, options.min_user_items, options.min_item_users), truth
    data = sources.read_source(
        options.source,
        options.path,
        min_user_items=options.min_user_items,
        min_item_users=options.min_item_users,
    )
    return data, None
