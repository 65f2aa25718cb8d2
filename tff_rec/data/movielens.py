"""MovieLens in all its published editions (Harper and Konstan, 2015, https://doi.org/10.1145/2827872).

Three layouts: 100K (`u.data`), 1M and 10M (`ratings.dat`, fields parted by `::`), and the CSV files of 20M, 25M, 32M
and latest. The files that are there must be those of the edition asked for.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from tff_rec.data import cleaning
from tff_rec.data.csv_file import TextFile, list_files, read_table, with_header
from tff_rec.data.schema import CleaningStep, InteractionData, empty_genome, empty_tags
from tff_rec.errors import InputError

Files = Mapping[str, TextFile]
Steps = list[CleaningStep]

NO_GENRES = ("(no genres listed)", "unknown")
_RATING_FIELDS = ("user_id", "item_id", "rating", "timestamp")
_USER_FIELDS_100K = ("user_id", "age", "gender", "occupation", "zip_code")
_USER_FIELDS_1M = ("user_id", "gender", "age", "occupation", "zip_code")
_ITEM_FIELDS_100K = ("item_id", "title", "release_date", "video_release_date", "url")
_GENRES_100K = """
    unknown|Action|Adventure|Animation|Children's|Comedy|Crime|Documentary|Drama|Fantasy|Film-Noir|Horror|Musical|Mystery|
    Romance|Sci-Fi|Thriller|War|Western
"""
_MARKERS = {"ml-100k": "u.data", "ml-1m": "ratings.dat", "ml-10m": "ratings.dat"}
_YEAR = r"\((\d{4})(?:\s*[-–]\s*\d{0,4})?\s*\)\s*$"


def read_movielens(path: Path, name: str) -> InteractionData:
    """Reads an edition of MovieLens.

    Args:
        path: The published zip, the folder that holds its files, or a folder whose only subfolder does.
        name: Name of the data set, e.g. `ml-1m`.

    Returns:
        Interactions with ratings and times. Items have the columns `genres` and `year`; users of 100K and 1M have
        `gender`, `age`, `occupation` and `zip_code`; tags come with 10M and later, the genome with 20M and later.

    Raises:
        InputError: A file is missing or damaged, or holds a wrong value; or it is another edition than `name`.
    """
    files = list_files(path)
    found = [marker for marker in LAYOUTS if marker in files]
    if not found:
        raise InputError(
            f"{path} holds no MovieLens ratings ({', '.join(LAYOUTS)}); give the published zip or the folder it "
            "unpacks to."
        )
    expected = _MARKERS.get(name, "ratings.csv")
    if expected not in found:
        raise InputError(f"{path} is no {name}, which has {expected}: it holds {found[0]}; choose another source.")
    if expected == "ratings.dat" and ("users.dat" in files) != (name == "ml-1m"):
        has, holds = ("and", "no users.dat") if name == "ml-1m" else ("but no", "both")
        raise InputError(
            f"{path} is no {name}, which has ratings.dat {has} users.dat: it holds {holds}; choose another source."
        )
    return LAYOUTS[expected](files, name, path)


def _read_100k(files: Files, name: str, path: Path) -> InteractionData:
    ratings, steps = _ratings(_as(files["u.data"], _RATING_FIELDS, "\t", "latin-1"), 1, 1)
    genres = _genre_names(files)
    file = _as(_member(files, "u.item", path), (*_ITEM_FIELDS_100K, *genres), "|", "latin-1")
    table, malformed = read_table(file)
    flags = (table[genres] == "1").to_numpy()
    table["genres"] = ["|".join(np.asarray(genres)[row]) for row in flags]
    items, more = _items(table[["item_id", "title", "genres"]], file, ratings)
    users, user_steps = _users(_as(_member(files, "u.user", path), _USER_FIELDS_100K, "|", "latin-1"))
    cleaned = (*steps, *malformed, *more, *user_steps)
    return InteractionData(name, ratings, items, empty_tags(), empty_genome(), users, cleaned)


def _read_dat(files: Files, name: str, path: Path) -> InteractionData:
    """1M has `users.dat`, whole stars and ISO-8859-1; 10M has `tags.dat`, half stars and UTF-8."""
    is_1m = name == "ml-1m"
    encoding, smallest = ("latin-1", 1.0) if is_1m else ("utf-8", 0.5)
    ratings, steps = _ratings(_as(files["ratings.dat"], _RATING_FIELDS, "::", encoding), smallest, smallest)
    file = _as(_member(files, "movies.dat", path), ("item_id", "title", "genres"), "::", encoding)
    table, malformed = read_table(file)
    items, more = _items(table, file, ratings)
    users, user_steps, tags, tag_steps = _ids(ratings), Steps(), empty_tags(), Steps()
    if is_1m:
        users, user_steps = _users(_as(files["users.dat"], _USER_FIELDS_1M, "::", encoding))
    if "tags.dat" in files:
        tags, tag_steps = _tags(_as(files["tags.dat"], ("user_id", "item_id", "tag", "timestamp"), "::", encoding))
    cleaned = (*steps, *malformed, *more, *user_steps, *tag_steps)
    return InteractionData(name, ratings, items, tags, empty_genome(), users, cleaned)


def _read_csv(files: Files, name: str, path: Path) -> InteractionData:
    file = with_header(files["ratings.csv"], ("userId", "movieId", "rating", "timestamp"))
    ratings, steps = _ratings(_renamed(file), 0.5, 0.5)
    file = _renamed(with_header(_member(files, "movies.csv", path), ("movieId", "title", "genres")))
    table, malformed = read_table(file)
    items, more = _items(table, file, ratings)
    tags, tag_steps = empty_tags(), Steps()
    if "tags.csv" in files:
        tags, tag_steps = _tags(_renamed(with_header(files["tags.csv"], ("userId", "movieId", "tag", "timestamp"))))
    genome, genome_steps = _genome(files, path) if "genome-scores.csv" in files else (empty_genome(), Steps())
    cleaned = (*steps, *malformed, *more, *tag_steps, *genome_steps)
    return InteractionData(name, ratings, items, tags, genome, _ids(ratings), cleaned)


LAYOUTS: Mapping[str, Callable[[Files, str, Path], InteractionData]] = {
    "u.data": _read_100k,
    "ratings.dat": _read_dat,
    "ratings.csv": _read_csv,
}


def _ratings(file: TextFile, smallest: float, step: float) -> tuple[pd.DataFrame, Steps]:
    """Ratings of a file with the columns of `_RATING_FIELDS`, on a scale from `smallest` to 5 stars."""
    table, malformed = read_table(file, numbers=("rating", "timestamp"))
    table, missing = cleaning.drop_missing(table, file, _RATING_FIELDS)
    cleaning.check_numbers(table, file, "rating", smallest, 5, step)
    cleaning.check_timestamps(table, file)
    table, repeats = cleaning.drop_repeats(table, file, ("user_id", "item_id"))
    return cleaning.as_interactions(table), malformed + missing + repeats


def _items(table: pd.DataFrame, file: TextFile, ratings: pd.DataFrame) -> tuple[pd.DataFrame, Steps]:
    """Items with `genres` and `year`; a rated movie that the file lacks gets its id for a title."""
    table, missing = cleaning.drop_missing(table, file, ("item_id",))
    table, repeats = cleaning.drop_repeats(table, file, ("item_id",))
    items = table[["item_id", "title", "genres"]].fillna("")
    unknown = sorted(set(ratings["item_id"].unique()) - set(items["item_id"]))
    extra = pd.DataFrame({"item_id": unknown, "title": "", "genres": ""}, dtype=object)
    items = pd.concat([items, extra], ignore_index=True)
    items["title"] = items["title"].mask(items["title"] == "", items["item_id"])
    items["genres"] = items["genres"].mask(items["genres"].isin(NO_GENRES), "")
    items["year"] = items["title"].str.extract(_YEAR, expand=False).fillna("")
    steps = missing + repeats
    if unknown:
        examples = tuple(unknown[: cleaning.NUM_EXAMPLES])
        steps.append(
            CleaningStep(f"rated movies missing from {file.name}: the id is the title", len(unknown), examples)
        )
    return items, steps


def _tags(file: TextFile) -> tuple[pd.DataFrame, Steps]:
    table, malformed = read_table(file, numbers=("timestamp",))
    table, missing = cleaning.drop_missing(table, file, ("user_id", "item_id", "tag", "timestamp"))
    cleaning.check_timestamps(table, file)
    table = table[["user_id", "item_id", "tag", "timestamp"]].astype({"timestamp": np.int64})
    return table.reset_index(drop=True), malformed + missing


def _genome(files: Files, path: Path) -> tuple[pd.DataFrame, Steps]:
    file = with_header(_member(files, "genome-tags.csv", path), ("tagId", "tag"))
    table, steps = read_table(file)
    names = table.drop_duplicates("tagId").set_index("tagId")["tag"]
    file = _renamed(with_header(files["genome-scores.csv"], ("movieId", "tagId", "relevance")))
    table, malformed = read_table(file, numbers=("relevance",))
    table, missing = cleaning.drop_missing(table, file, ("item_id", "tagId", "relevance"))
    cleaning.check_numbers(table, file, "relevance", 0, 1)
    tags = table["tagId"].map(names).fillna(table["tagId"])
    genome = pd.DataFrame(
        {"item_id": table["item_id"], "tag": tags, "relevance": table["relevance"].astype(np.float32)}
    )
    return genome.reset_index(drop=True), steps + malformed + missing


def _users(file: TextFile) -> tuple[pd.DataFrame, Steps]:
    table, malformed = read_table(file)
    table, missing = cleaning.drop_missing(table, file, ("user_id",))
    columns = ["user_id", "gender", "age", "occupation", "zip_code"]
    return table[columns].fillna("").drop_duplicates("user_id").reset_index(drop=True), malformed + missing


def _ids(ratings: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"user_id": ratings["user_id"].unique()})


def _genre_names(files: Files) -> list[str]:
    """Names of the genre columns of `u.item`, from `u.genre` where it is there."""
    if "u.genre" not in files:
        return [genre.strip() for genre in _GENRES_100K.split("|")]
    return [
        fields[0] for _, fields in dataclasses.replace(files["u.genre"], delimiter="|", encoding="latin-1").records()
    ]


def _member(files: Files, name: str, path: Path) -> TextFile:
    if name not in files:
        raise InputError(f"{path} lacks the file {name}; give the complete published zip or folder.")
    return files[name]


def _as(file: TextFile, columns: tuple[str, ...], delimiter: str, encoding: str) -> TextFile:
    return dataclasses.replace(file, columns=columns, delimiter=delimiter, encoding=encoding)


def _renamed(file: TextFile) -> TextFile:
    """The file with MovieLens' names of the id columns replaced by ours."""
    ours = {"userId": "user_id", "movieId": "item_id"}
    return dataclasses.replace(file, columns=tuple(ours.get(column, column) for column in file.columns))
