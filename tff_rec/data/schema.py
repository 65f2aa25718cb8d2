"""The one record that every loader returns, and the checks it passes.

Ids are strings at the edges, as the data set writes them; indices appear only in `features` and `clients`.
"""

import dataclasses

import numpy as np
import pandas as pd

from tff_rec.errors import InputError

INTERACTION_COLUMNS = ("user_id", "item_id", "rating", "timestamp")
TAG_COLUMNS = ("user_id", "item_id", "tag", "timestamp")
GENOME_COLUMNS = ("item_id", "tag", "relevance")


@dataclasses.dataclass(frozen=True)
class CleaningStep:
    """One thing that cleaning did: `count` rows, users or items (`what` says which), and where the first few were."""

    what: str
    count: int
    examples: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class InteractionData:
    """Validated interactions of users with items, and what is known of the items.

    Attributes:
        name: Name of the data set, e.g. `ml-1m`.
        interactions: One row an interaction in file order; `user_id`, `item_id` (str), `rating` (float32; 1.0 where
            the data has none), `timestamp` (int64 seconds; the row's number where the data has none).
        items: One row an item: `item_id`, `title` (str), then feature columns (str; several values of one item are
            separated by `|`, none is the empty string). May hold items without interactions.
        tags: `user_id`, `item_id`, `tag` (str), `timestamp` (int64): tags that users gave to items. May be empty.
        genome: `item_id`, `tag` (str), `relevance` (float32 in [0, 1]). May be empty.
        users: `user_id`, then columns of str. May be empty.
        cleaning: What cleaning removed or mended, in order.
    """

    name: str
    interactions: pd.DataFrame
    items: pd.DataFrame
    tags: pd.DataFrame
    genome: pd.DataFrame
    users: pd.DataFrame
    cleaning: tuple[CleaningStep, ...] = ()

    def __post_init__(self) -> None:
        _check_columns(self.name, "interactions", self.interactions, INTERACTION_COLUMNS)
        _check_columns(self.name, "items", self.items, ("item_id", "title"))
        _check_columns(self.name, "tags", self.tags, TAG_COLUMNS)
        _check_columns(self.name, "genome", self.genome, GENOME_COLUMNS)
        _check_columns(self.name, "users", self.users, ("user_id",))
        if self.interactions.empty:
            raise InputError(
                f"{self.name} has no interactions left after cleaning; check the file or lower the thresholds."
            )
        if not np.isfinite(self.interactions["rating"]).all():
            raise InputError(f"{self.name} has ratings that are not finite numbers; clean them before loading.")
        if (self.interactions["timestamp"] < 0).any():
            raise InputError(f"{self.name} has negative timestamps; clean them before loading.")
        if self.interactions.duplicated(["user_id", "item_id"]).any():
            raise InputError(f"{self.name} holds the same user and item twice; keep one row of each pair.")

    @property
    def item_feature_columns(self) -> tuple[str, ...]:
        """Names of the columns of `items` that describe an item."""
        return tuple(column for column in self.items.columns if column not in ("item_id", "title"))


def empty_tags() -> pd.DataFrame:
    """A tag table without rows."""
    return pd.DataFrame(
        {
            "user_id": pd.Series(dtype=str),
            "item_id": pd.Series(dtype=str),
            "tag": pd.Series(dtype=str),
            "timestamp": pd.Series(dtype=np.int64),
        }
    )


def empty_genome() -> pd.DataFrame:
    """A genome table without rows."""
    return pd.DataFrame(
        {"item_id": pd.Series(dtype=str), "tag": pd.Series(dtype=str), "relevance": pd.Series(dtype=np.float32)}
    )


def _check_columns(name: str, table: str, frame: pd.DataFrame, columns: tuple[str, ...]) -> None:
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise InputError(
            f"{name}: the {table} table lacks the column {missing[0]}; it has {', '.join(map(str, frame.columns))}."
        )
