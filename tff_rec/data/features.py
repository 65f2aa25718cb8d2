"""What is known of items, as indices and weights: the item vocabulary, categorical features, and users' tags.

Everything is derived from the training part. The tag genome is left out: GroupLens computed it from all ratings and
tags, the held-out ones too.
"""

import dataclasses
import functools
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from tff_rec.data.schema import InteractionData

NO_FEATURE = "none"


@dataclasses.dataclass(frozen=True)
class ItemVocabulary:
    """The catalogue: index i stands for `item_ids[i]`."""

    item_ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.item_ids)

    def index(self, ids: Iterable[str]) -> np.ndarray:
        """Indices of items: int32, as many as `ids`, -1 for an id that is not in the vocabulary."""
        values = ids.to_numpy() if isinstance(ids, pd.Series | pd.Index) else np.asarray(list(ids), dtype=object)
        return self._lookup.get_indexer(pd.Index(values, dtype=object)).astype(np.int32)

    @functools.cached_property
    def _lookup(self) -> pd.Index:
        return pd.Index(self.item_ids, dtype=object)


@dataclasses.dataclass(frozen=True)
class ItemFeatures:
    """A sparse matrix of items by features, rows padded to one length.

    Attributes:
        indices: int32 [num_items, max_features], in [0, num_features); 0 where padded.
        weights: float32 [num_items, max_features], positive; 0 where padded.
        names: num_features names such as `genres=Drama` or `tag=funny`; only `none` if the data has no features.
    """

    indices: np.ndarray
    weights: np.ndarray
    names: tuple[str, ...]

    @property
    def num_features(self) -> int:
        """Number of features; at least 1."""
        return len(self.names)


def build_item_vocabulary(train: pd.DataFrame, described: pd.DataFrame | None = None) -> ItemVocabulary:
    """The items of the training part, and of a table that describes items if it is given, sorted by id."""
    ids = set(train["item_id"].unique()).union(() if described is None else described["item_id"])
    return ItemVocabulary(tuple(sorted(ids)))


def popularity(train: pd.DataFrame, vocabulary: ItemVocabulary) -> np.ndarray:
    """Training interactions of each item: float32 [num_items]; rows with unknown items are not counted."""
    indices = vocabulary.index(train["item_id"])
    return np.bincount(indices[indices >= 0], minlength=len(vocabulary)).astype(np.float32)


def build_item_features(
    data: InteractionData,
    vocabulary: ItemVocabulary,
    train: pd.DataFrame,
    min_item_count: int = 2,
    max_tags: int = 500,
) -> ItemFeatures:
    """Values of the items' feature columns, and the tags that users gave to items of their training part.

    The n values that an item has in one column weigh 1/sqrt(n) each, so that every column is a vector of length 1 (or
    0); the tags together are one column. A value that fewer than `min_item_count` items of the vocabulary carry is
    dropped: it would be a second id. A tag on a (user, item) pair outside `train` is dropped: it would reveal the pair.

    Args:
        data: Interactions with item columns and tags.
        vocabulary: The items to describe, in order.
        train: The training part, columns `user_id` and `item_id`.
        min_item_count: Least number of items that carry a value.
        max_tags: Number of tags kept: those on most items, ties in alphabetical order.

    Returns:
        Features of every item of the vocabulary; an item with none has a row of padding.
    """
    items = data.items.assign(index=vocabulary.index(data.items["item_id"]))
    items = items[items["index"] >= 0].drop_duplicates("index")
    columns = [(name, column_values(items["index"], items[name])) for name in data.item_feature_columns]
    tagged = tag_applications(data.tags, vocabulary, train)
    columns.append(("tag", tagged[["index", "value"]].drop_duplicates()))
    limits = [None] * (len(columns) - 1) + [max_tags]
    tables = [
        _weigh(name, _frequent(pairs, min_item_count, limit))
        for (name, pairs), limit in zip(columns, limits, strict=True)
    ]
    return _pad(pd.concat(tables, ignore_index=True), len(vocabulary))


def normalise_tag(tag: str) -> str:
    """One spelling of a tag: NFKC, case folded, runs of white space one blank, ends trimmed."""
    return " ".join(unicodedata.normalize("NFKC", tag).casefold().split())


def column_values(index: pd.Series, column: pd.Series) -> pd.DataFrame:
    """Distinct (`index`, `value`) pairs of a column whose cells hold values separated by `|`."""
    values = [str(cell).split("|") for cell in column.fillna("")]
    pairs = pd.DataFrame({"index": index, "value": values}).explode("value")
    pairs["value"] = pairs["value"].str.strip()
    return pairs[pairs["value"] != ""].drop_duplicates()


def tag_applications(tags: pd.DataFrame, vocabulary: ItemVocabulary, train: pd.DataFrame) -> pd.DataFrame:
    """Who tagged what: distinct (`user_id`, item `index`, normalised tag `value`), pairs of the training part only."""
    users = pd.Index(tags["user_id"].unique(), dtype=object)
    pairs, known = (_pairs(table, users, vocabulary) for table in (tags, train))
    normalised = {tag: normalise_tag(tag) for tag in tags["tag"].unique()}
    index, values = vocabulary.index(tags["item_id"]), tags["tag"].map(normalised)
    rows = pd.DataFrame({"user_id": tags["user_id"], "index": index, "value": values})
    return rows[(pairs >= 0) & np.isin(pairs, known[np.isin(known, pairs)]) & (values != "")].drop_duplicates()


def _pairs(table: pd.DataFrame, users: pd.Index, vocabulary: ItemVocabulary) -> np.ndarray:
    """A number for each row's user and item, -1 if one of them is unknown: int64, which stays small over millions."""
    user, item = users.get_indexer(pd.Index(table["user_id"], dtype=object)), vocabulary.index(table["item_id"])
    return np.where((user >= 0) & (item >= 0), user * len(vocabulary) + item, -1)


def _frequent(pairs: pd.DataFrame, min_item_count: int, limit: int | None) -> pd.DataFrame:
    """Pairs whose value enough items carry, of at most `limit` values."""
    counts = pairs["value"].value_counts().rename_axis("value").reset_index(name="count")
    counts = counts[counts["count"] >= min_item_count].sort_values(["count", "value"], ascending=[False, True])
    return pairs[pairs["value"].isin(counts["value"].head(len(counts) if limit is None else limit))]


def _weigh(column: str, pairs: pd.DataFrame) -> pd.DataFrame:
    """Adds weights of unit length an item, and the features' names."""
    count = pairs.groupby("index")["value"].transform("size").to_numpy(dtype=np.float64)
    return pd.DataFrame(
        {
            "index": pairs["index"].to_numpy(),
            "name": [f"{column}={value}" for value in pairs["value"]],
            "weight": 1 / np.sqrt(count),
            "column": column,
        }
    )


def _pad(table: pd.DataFrame, num_items: int) -> ItemFeatures:
    """Rows of (item index, name, weight) as padded arrays; names in the order of columns, then alphabetical."""
    names = _feature_names(table)
    feature = table["name"].map({name: i for i, name in enumerate(names)}).to_numpy(dtype=np.int64)
    order = np.lexsort((feature, table["index"].to_numpy(dtype=np.int64)))
    item, feature = table["index"].to_numpy(dtype=np.int64)[order], feature[order]
    per_item = np.bincount(item, minlength=num_items)
    place = np.arange(len(item)) - (np.cumsum(per_item) - per_item)[item]
    indices = np.zeros((num_items, max(1, per_item.max(initial=0))), dtype=np.int32)
    weights = np.zeros(indices.shape, dtype=np.float32)
    indices[item, place] = feature
    weights[item, place] = table["weight"].to_numpy(dtype=np.float32)[order]
    return ItemFeatures(indices=indices, weights=weights, names=tuple(names) or (NO_FEATURE,))


def _feature_names(table: pd.DataFrame) -> Sequence[str]:
    names: list[str] = []
    for column in table["column"].unique():
        names.extend(sorted(table.loc[table["column"] == column, "name"].unique()))
    return names
