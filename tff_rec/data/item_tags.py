"""The item-tag matrix, genres beside it, and the tag profiles of users that follow from it.

A tag is a term and an item a document. A row holds (1 + ln users) · idf, idf = 1 + ln((1 + n) / (1 + items)), n the
number of items with tags (Salton and Buckley, 1988), scaled to length 1. Tags that few items carry are folded into one
column, `OTHER_TAGS`: each says little, but that there are such is known.

Where the strength of a tag on an item comes from is a function. By default it is `user_tags`, the training part's own
tags. `genome_or_user_tags` is for serving, or to compare with papers that use the genome: GroupLens computed it from
all ratings and tags, the held-out ones too, so numbers measured with it flatter.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import sparse

from tff_rec.data import features, ratings
from tff_rec.data.features import ItemVocabulary
from tff_rec.data.ratings import RatingStore
from tff_rec.data.schema import InteractionData
from tff_rec.errors import InputError

OTHER_TAGS = "(other tags)"
MIN_RELEVANCE = 0.5
TagStrengths = Callable[[InteractionData, ItemVocabulary, pd.DataFrame], pd.DataFrame]


@dataclasses.dataclass(frozen=True)
class ItemTags:
    """Tags and genres of the items of a vocabulary. Rows are of length 1; of an item without tags or genres, 0.

    Attributes:
        tags: float32 CSR [items, tags].
        tag_names: The columns' tags: `OTHER_TAGS` first if tags were folded, the others in alphabetical order.
        genres: float32 CSR [items, genres], the same weight for all genres of an item.
        genre_names: In alphabetical order.
        folded: Number of tags in the column `OTHER_TAGS`.
    """

    tags: sparse.csr_matrix
    tag_names: tuple[str, ...]
    genres: sparse.csr_matrix
    genre_names: tuple[str, ...]
    folded: int


def build_item_tags(
    data: InteractionData,
    vocabulary: ItemVocabulary,
    train: pd.DataFrame,
    strengths: TagStrengths | None = None,
    min_item_count: int = 2,
    max_tags: int = 1000,
) -> ItemTags:
    """The item-tag matrix by TF-IDF, and the genres.

    Args:
        data: Interactions with tags; genres where `items` has a column `genres`.
        vocabulary: The items to describe, in order.
        train: The training part, columns `user_id` and `item_id`.
        strengths: Gives the tags' strengths, `user_tags` by default.
        min_item_count: A tag on fewer items is folded.
        max_tags: Number of tags that are not folded: those on most items, ties in alphabetical order.

    Raises:
        InputError: A limit is negative, or the strengths want a genome and the data has none.
    """
    if min_item_count < 0 or max_tags < 0:
        raise InputError(f"Tags on {min_item_count} items or more, {max_tags} at most: give limits of 0 or more.")
    table = (strengths or user_tags)(data, vocabulary, train)
    table, folded = _fold(table, min_item_count, max_tags)
    tags, tag_names = _matrix(table, len(vocabulary))
    genres, genre_names = _matrix(_genres(data.items, vocabulary), len(vocabulary))
    return ItemTags(_unit_rows(tags @ _idf(tags)), tag_names, _unit_rows(genres), genre_names, folded)


def user_tags(data: InteractionData, vocabulary: ItemVocabulary, train: pd.DataFrame) -> pd.DataFrame:
    """Strengths in the training part, 1 + ln(users who gave an item a tag): columns `index`, `value`, `strength`."""
    applications = features.tag_applications(data.tags, vocabulary, train)
    counts = applications.groupby(["index", "value"], sort=False).size().reset_index(name="users")
    return counts[["index", "value"]].assign(strength=1 + np.log(counts["users"]))


def genome_or_user_tags(data: InteractionData, vocabulary: ItemVocabulary, train: pd.DataFrame) -> pd.DataFrame:
    """Strengths of items in the genome: relevances of `MIN_RELEVANCE` or more; of the others: `user_tags`.

    Raises:
        InputError: The data has no genome.
    """
    if data.genome.empty:
        raise InputError(f"{data.name} has no tag genome; use the tags of its users.")
    genome = data.genome[data.genome["relevance"] >= MIN_RELEVANCE]
    normalised = {tag: features.normalise_tag(tag) for tag in genome["tag"].unique()}
    index = vocabulary.index(genome["item_id"])
    table = pd.DataFrame({"index": index, "value": genome["tag"].map(normalised), "strength": genome["relevance"]})
    table = table[table["index"] >= 0].groupby(["index", "value"], sort=False, as_index=False).max()
    others = user_tags(data, vocabulary, train)
    return pd.concat([table, others[~others["index"].isin(table["index"].unique())]], ignore_index=True)


def tag_profiles(store: RatingStore, users: np.ndarray, item_rows: sparse.csr_matrix) -> np.ndarray:
    """Profiles of users from their own ratings: the mean of their items' rows, weighted by the ratings.

    Simulated here in one place; in training and serving each device computes its own.

    Args:
        store: The ratings, positive.
        users: int64, rows of the store.
        item_rows: float32 CSR [items, n], such as `ItemTags.tags`.

    Returns:
        float32 [len(users), n]; zeros for a user without ratings.
    """
    rated = ratings.interaction_matrix(store, item_rows.shape[0])[users]
    total = np.asarray(rated.sum(axis=1))
    return ((rated @ item_rows).toarray() / np.where(total > 0, total, 1)).astype(np.float32)


def _fold(table: pd.DataFrame, min_item_count: int, max_tags: int) -> tuple[pd.DataFrame, int]:
    """Gives rare tags one name; on an item that had several of them it is as strong as the strongest."""
    counts = table["value"].value_counts().rename_axis("value").reset_index(name="count")
    frequent = counts[counts["count"] >= min_item_count].sort_values(["count", "value"], ascending=[False, True])
    kept = table["value"].isin(frequent["value"].head(max_tags))
    folded = table["value"][~kept].nunique()
    table = table.assign(value=table["value"].where(kept, OTHER_TAGS))
    return table.groupby(["index", "value"], sort=False, as_index=False).max(), folded


def _genres(items: pd.DataFrame, vocabulary: ItemVocabulary) -> pd.DataFrame:
    if "genres" not in items.columns:
        return pd.DataFrame({"index": [], "value": [], "strength": []})
    items = items.assign(index=vocabulary.index(items["item_id"]))
    items = items[items["index"] >= 0].drop_duplicates("index")
    return features.column_values(items["index"], items["genres"]).assign(strength=1.0)


def _matrix(table: pd.DataFrame, num_items: int) -> tuple[sparse.csr_matrix, tuple[str, ...]]:
    """Rows of (item index, value, strength) as a matrix, and the names of its columns in order."""
    names = sorted(table["value"].unique(), key=lambda name: (name != OTHER_TAGS, name))
    columns = pd.Index(names, dtype=object).get_indexer(pd.Index(table["value"], dtype=object))
    cells = (table["strength"].to_numpy(dtype=np.float64), (table["index"].to_numpy(dtype=np.int64), columns))
    matrix = sparse.csr_matrix(cells, shape=(num_items, len(names)))
    matrix.sort_indices()
    return matrix, tuple(names)


def _idf(strengths: sparse.csr_matrix) -> sparse.dia_matrix:
    """Inverse document frequencies of the columns, as a diagonal matrix."""
    tagged = np.count_nonzero(strengths.getnnz(axis=1))
    return sparse.diags(1 + np.log((1 + tagged) / (1 + strengths.getnnz(axis=0))))


def _unit_rows(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return sparse.csr_matrix(sparse.diags(1 / np.where(lengths > 0, lengths, 1)) @ matrix, dtype=np.float32)
