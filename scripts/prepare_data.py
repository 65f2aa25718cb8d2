"""Prepares an edition of MovieLens for the tag-aware recommender and shows what that did.

Reads and cleans the files, holds out ratings, and builds the item-tag matrix, the user-item matrix and tag profiles of
users from the training part. With --output DIR the arrays are written there.
"""

import dataclasses
import json
import pathlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.table import Table

from tff_rec import cli
from tff_rec.errors import InputError
from tff_rec.simulation.memory import high_water_mark
from tff_rec.simulation.option_checks import check_whole_numbers

if TYPE_CHECKING:  # NumPy and pandas are imported after the options are read: `--help` answers at once.
    from tff_rec.data.features import ItemVocabulary
    from tff_rec.data.item_tags import ItemTags
    from tff_rec.data.ratings import RatingStore
    from tff_rec.data.schema import InteractionData
    from tff_rec.data.splits import Split

TOP = 5


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """Which ratings.

    Attributes:
        source: synthetic, ml-100k, ml-1m, ml-10m, ml-20m, ml-25m, ml-32m, ml-latest-small or ml-latest.
        path: The published zip or a folder; by default looked for in $TFF_REC_DATA/SOURCE/.
    """

    source: str = "synthetic"
    path: pathlib.Path | None = None


@dataclasses.dataclass(frozen=True)
class PrepareOptions:
    """What to prepare.

    Attributes:
        data: Which ratings.
        output: Folder to write arrays to; without it nothing is written.
        tags: Of users, from the training part; or genome: relevances where the edition has them, which GroupLens
            computed from the held-out ratings too, so that results flatter.
        min_tag_items: Fold tags on fewer items.
        max_tags: Fold all tags but so many.
        examples: Number of tag profiles to show.
        seed: Of the split (80/10/10 of the ratings) and of the choice of examples.
    """

    data: DataOptions = dataclasses.field(default_factory=DataOptions)
    output: pathlib.Path | None = None
    tags: Literal["users", "genome"] = "users"
    min_tag_items: int = 2
    max_tags: int = 1000
    examples: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        names = ("min_tag_items", "max_tags", "examples", "seed")
        check_whole_numbers((name.replace("_", "-"), getattr(self, name), 0) for name in names)
        if self.output is not None and self.output.exists():
            raise InputError(f"--output {self.output} exists; give the path of a folder to make.")


class Stages:
    """Prints each stage's seconds as it ends, and the most memory so far."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = self._last = time.perf_counter()

    def done(self, what: str) -> None:
        """Ends a stage."""
        now = time.perf_counter()
        self._console.print(f"{what}: {now - self._last:.1f} s, peak memory {high_water_mark() / 1e9:.2f} GB")
        self._last = now

    def total(self) -> None:
        """Ends the last."""
        seconds = time.perf_counter() - self._began
        self._console.print(f"done in {seconds:.0f} s; peak memory {high_water_mark() / 1e9:.2f} GB")


def main(options: PrepareOptions) -> None:
    console = Console(markup=False, highlight=False)
    stages = Stages(console)
    console.print(f"reading {options.data.source}")
    from tff_rec.data import features, item_tags, ratings, sources, splits

    data = sources.read_source(options.data.source, options.data.path)
    stages.done("read and cleaned")
    split = splits.random_ratings(data, options.seed)
    stages.done("split")
    vocabulary = features.build_item_vocabulary(split.train)
    store = ratings.build_rating_store(split.train, vocabulary)
    stages.done("arrays of users' ratings")
    strengths = item_tags.genome_or_user_tags if options.tags == "genome" else item_tags.user_tags
    tags = item_tags.build_item_tags(data, vocabulary, split.train, strengths, options.min_tag_items, options.max_tags)
    stages.done("item-tag matrix")
    show_cleaning(console, data)
    show_ratings(console, data, split, vocabulary, store)
    show_tags(console, data, split, vocabulary, tags)
    show_profiles(console, store, tags, options)
    if options.output is not None:
        write(options.output, vocabulary, store, tags)
        console.print(f"arrays are in {options.output}")
    stages.total()


def show_cleaning(console: Console, data: "InteractionData") -> None:
    """What was dropped or mended, and what is missing all the same."""
    rows = {step.what: f"{step.count:,} {' '.join(step.examples)}".strip() for step in data.cleaning}
    rows = rows or {"nothing to clean": ""}
    for column in data.item_feature_columns:
        rows[f"movies without {column}"] = f"{(data.items[column] == '').sum():,}"
    tagged = data.items["item_id"].isin(data.tags["item_id"].unique())
    rows["movies without tags"] = f"{(~tagged).sum():,}"
    _show(console, "cleaning and missing values", rows)


def show_ratings(
    console: Console, data: "InteractionData", split: "Split", vocabulary: "ItemVocabulary", store: "RatingStore"
) -> None:
    """Sizes before and after the split."""
    import numpy as np

    given = data.interactions["rating"].to_numpy()
    lengths, cells = store.lengths(), store.num_users * len(vocabulary)
    rows = {
        "ratings": f"{len(given):,}, {given.min():g} to {given.max():g} stars, mean {given.mean(dtype=float):.3f}",
        "users; movies listed": f"{data.interactions['user_id'].nunique():,}; {len(data.items):,}",
        "split": split.protocol,
        "training, validation, test": f"{len(split.train):,}, {len(split.validation):,}, {len(split.test):,}",
        "users; movies in training": f"{store.num_users:,}; {len(vocabulary):,}",
        "training ratings of a user": f"{lengths.min():,} to {lengths.max():,}, median {np.median(lengths):g}",
        "user-item matrix": f"{store.num_users:,} x {len(vocabulary):,}, density {len(store.items) / cells:.3%}",
    }
    _show(console, "ratings", rows)


def show_tags(
    console: Console, data: "InteractionData", split: "Split", vocabulary: "ItemVocabulary", tags: "ItemTags"
) -> None:
    """Tags from raw text to columns."""
    from tff_rec.data import features

    texts = data.tags["tag"].unique()
    used = features.tag_applications(data.tags, vocabulary, split.train)
    items = len(vocabulary)
    rows = {
        "tags that users gave": f"{len(data.tags):,}, {len(texts):,} distinct texts",
        "after normalising": f"{len({features.normalise_tag(text) for text in texts}):,} distinct",
        "on ratings of the training part": f"{len(used):,}, {used['value'].nunique():,} distinct",
        "scores of the genome": f"{len(data.genome):,}",
        "folded into one column": f"{tags.folded:,}",
        "item-tag matrix": _shape(tags.tags),
        "movies with tags": f"{(tags.tags.getnnz(axis=1) > 0).sum():,} of {items:,}",
        "genres": _shape(tags.genres),
    }
    _show(console, "tags", rows)


def show_profiles(console: Console, store: "RatingStore", tags: "ItemTags", options: PrepareOptions) -> None:
    """Some users' strongest tags and genres."""
    import numpy as np

    from tff_rec.data import item_tags

    users = np.random.default_rng(options.seed).permutation(store.num_users)[: options.examples]
    blocks = ((tags.tags, tags.tag_names), (tags.genres, tags.genre_names))
    profiles = [(item_tags.tag_profiles(store, users, rows), names) for rows, names in blocks]
    rows = {}
    for place, user in enumerate(users):
        strongest = []
        for values, names in profiles:
            best = [number for number in np.argsort(-values[place], kind="stable")[:TOP] if values[place, number] > 0]
            strongest.append(", ".join(f"{names[number]} {values[place, number]:.2f}" for number in best))
        rows[f"user {store.user_ids[user]}, {store.lengths()[user]:,} ratings"] = "; ".join(filter(None, strongest))
    _show(console, "profiles that devices form of their own ratings", rows)


def write(output: pathlib.Path, vocabulary: "ItemVocabulary", store: "RatingStore", tags: "ItemTags") -> None:
    """Writes to a folder beside, which then takes the name."""
    from scipy import sparse

    from tff_rec.data import ratings

    beside = output.with_name(f"{output.name}.partial")
    ratings.memory_mapped(store, beside)
    sparse.save_npz(beside / "tags.npz", tags.tags)
    sparse.save_npz(beside / "genres.npz", tags.genres)
    names = {"items": vocabulary.item_ids, "tags": tags.tag_names, "genres": tags.genre_names}
    names["users"] = tuple(store.user_ids)
    (beside / "names.json").write_text(json.dumps(names, ensure_ascii=False), encoding="utf-8")
    beside.rename(output)


def _show(console: Console, title: str, rows: Mapping[str, str]) -> None:
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)


def _shape(matrix: Any) -> str:
    cells = max(1, matrix.shape[0] * matrix.shape[1])
    return f"{matrix.shape[0]:,} x {matrix.shape[1]:,}, density {matrix.nnz / cells:.3%}"


if __name__ == "__main__":
    cli.run(main, PrepareOptions, __doc__)
