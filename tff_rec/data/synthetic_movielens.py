"""Generated data in MovieLens' files: of any size, to measure what a real edition of that size would cost.

Tastes, popularity, genres and tags are those of `synthetic`; beside them stand tags that few others use, as in the
editions of GroupLens, where most distinct tags are such.
"""

import dataclasses
import pathlib

import numpy as np
import pandas as pd

from tff_rec.data.schema import InteractionData
from tff_rec.data.synthetic import SyntheticConfig, generate_synthetic
from tff_rec.errors import InputError

_RARE_SHARE = 0.15


@dataclasses.dataclass(frozen=True)
class MovieLensSize:
    """Numbers of rows; by default those of ML-20M.

    Attributes:
        users: Users with ratings.
        movies: Movies listed; some may have no rating.
        ratings: Ratings of all users together.
        tags: Tags of all users together, on what they rated.
        seed: Of everything random.
    """

    users: int = 138_493
    movies: int = 27_278
    ratings: int = 20_000_263
    tags: int = 465_564
    seed: int = 0


def generate_movielens(size: MovieLensSize) -> InteractionData:
    """Generates data of exactly this many ratings and tags; the same `size` gives the same data.

    Raises:
        InputError: So many ratings of so many users and movies, or tags on them, cannot be made.
    """
    if size.ratings < 5 * size.users or not 0 <= size.tags <= size.ratings:
        raise InputError(
            f"{size.ratings} ratings of {size.users} users with {size.tags} tags cannot be made; give 5 or more "
            "ratings a user, and no more tags than ratings."
        )
    config = SyntheticConfig(
        num_users=size.users,
        num_items=size.movies,
        mean_interactions=_surplus(size.users) * size.ratings / size.users,
        activity_sigma=1.1,
        tag_rate=min(1, _surplus(size.tags) * size.tags / size.ratings),
        seed=size.seed,
    )
    data = generate_synthetic(config).data
    rng = np.random.default_rng([size.seed, 1])
    interactions = _some(data.interactions, size.ratings, rng)
    tags = data.tags.merge(interactions[["user_id", "item_id"]], on=["user_id", "item_id"])
    tags = _with_rare_tags(_some(tags, size.tags, rng), rng)
    return dataclasses.replace(data, name="movielens-like", interactions=interactions, tags=tags)


def write_movielens(data: InteractionData, directory: pathlib.Path) -> None:
    """Writes data with numeric ids as the CSV files of ML-20M: ratings, tags, movies, links and, if any, the genome."""
    directory.mkdir(parents=True, exist_ok=True)
    ids = {"user_id": "userId", "item_id": "movieId"}
    genome_tags = pd.DataFrame({"tag": data.genome["tag"].unique()})
    genome_tags.insert(0, "tagId", np.arange(1, len(genome_tags) + 1))
    links = data.items[["item_id"]].assign(imdbId=data.items["item_id"].str.zfill(7), tmdbId=data.items["item_id"])
    tables = {
        "movies": data.items[["item_id", "title", "genres"]].replace({"genres": ""}, "(no genres listed)"),
        "links": links,
        "tags": data.tags,
        "ratings": data.interactions,
    }
    if not data.genome.empty:
        tables["genome-tags"] = genome_tags
        tables["genome-scores"] = data.genome.merge(genome_tags, on="tag")[["item_id", "tagId", "relevance"]]
    for name, table in tables.items():
        table.rename(columns=ids).to_csv(directory / f"{name}.csv", index=False)


def _surplus(draws: int) -> float:
    """How many times what is wanted to draw, so that what chance gives is enough: the rest is dropped."""
    return 1.1 + 6 / np.sqrt(max(draws, 1))


def _some(table: pd.DataFrame, count: int, rng: np.random.Generator) -> pd.DataFrame:
    """As many rows, drawn at random, in their order."""
    if len(table) < count:
        raise InputError(f"Only {len(table)} of {count} ratings or tags can be made; give more movies or fewer rows.")
    return table.iloc[np.sort(rng.permutation(len(table))[:count])].reset_index(drop=True)


def _with_rare_tags(tags: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Replaces some tags by remarks, most of them one row's alone."""
    rare = np.flatnonzero(rng.random(len(tags)) < _RARE_SHARE)
    remarks = rng.integers(0, max(1, len(rare)), len(rare))
    texts = tags["tag"].to_numpy(copy=True)
    texts[rare] = [f"remark {number}" for number in remarks]
    return tags.assign(tag=texts)
