"""Print what an export recommends to a history of item ids, or to a user of a data set."""

import dataclasses
import os
import pathlib
from typing import TYPE_CHECKING, Literal

from tff_rec import cli
from tff_rec.errors import InputError

if TYPE_CHECKING:
    from tff_rec.serving.reader import Recommendations


_TOP = 10


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """Where the history of `--user` is read.

    Attributes:
        source: Name of the data set, e.g. synthetic or ml-latest-small.
        path: Where its files are; by default they are looked for in $TFF_REC_DATA/<source>/.
    """

    source: str | None = None
    path: pathlib.Path | None = None


@dataclasses.dataclass(frozen=True)
class RecommendOptions:
    """What to recommend to whom.

    Attributes:
        export: Folder of the export.
        history: Item ids separated by commas, oldest first. Give this or a user.
        user: Id of a user of --data.source.
        data: Where the history of the user is read.
        path: The server is told the history; or the device holds all item vectors, or asks for those of its history
            among decoys, and computes the rest itself.
        shortlist: Device that asks: public candidates that every device receives, the most popular ones.
        decoys: Device that asks: decoys an item of the history.
        decoy_sampling: Device that asks: decoys uniform, or by popularity.
        secret: Device that asks: what its decoys are drawn from. A device keeps its own, with the number of decoys and
            how they are drawn, so that they stay; one that asked for rows in training asks with what it had there, a
            simulated one with SEED/NUMBER, counted from 0.
        top: Number of recommendations; by default 10, or all that the export gives if those are fewer.
    """

    export: pathlib.Path
    history: str | None = None
    user: str | None = None
    data: DataOptions = dataclasses.field(default_factory=DataOptions)
    path: Literal["server", "device-holds", "device-asks"] = "server"
    shortlist: int = 500
    decoys: int = 1
    decoy_sampling: Literal["uniform", "popularity"] = "popularity"
    secret: str = ""
    top: int | None = None


def main(options: RecommendOptions) -> None:
    check(options)
    history = read_history(options)
    # TensorFlow takes seconds to import: neither for --help nor for mistakes.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from tff_rec.serving import folder, reader

    top = options.top or min(_TOP, folder.read_description(options.export).k)
    if options.path == "server":
        print_recommendations(reader.recommend(options.export, history, top), len(history))
        return
    from tff_rec.serving import device

    server = device.ItemServer(options.export)
    if options.path == "device-holds":
        found = device.recommend_holding(server, history, top)
    else:
        from tff_rec.federated import requests

        secret = requests.secret_of(options.secret)
        found = device.recommend_asking(
            server, history, top, options.shortlist, options.decoys, secret, options.decoy_sampling
        )
    print_recommendations(found, len(history))
    print(f"The server saw requests for {len(server.requested):,} items.")


def check(options: RecommendOptions) -> None:
    """Checks what can be checked at once."""
    from tff_rec.serving import folder

    if (options.history is None) == (options.user is None):
        raise InputError("Give either --history with item ids or --user with --data.source, and not both.")
    if options.user is not None and options.data.source is None:
        raise InputError("--user needs to know the data set; give --data.source as well.")
    description = folder.read_description(options.export)
    if options.path == "device-asks" and not options.secret:
        raise InputError("--path device-asks needs --secret, any text that this device uses every time.")
    if options.shortlist < 1 or options.decoys < 0:
        raise InputError("--shortlist must be 1 or more and --decoys 0 or more.")
    if options.top is not None and not 1 <= options.top <= description.k:
        raise InputError(f"The export gives 1 to {description.k} recommendations, not {options.top}; change --top.")


def read_history(options: RecommendOptions) -> list[str]:
    """Item ids, oldest first."""
    if options.history is not None:
        return [item_id.strip() for item_id in options.history.split(",") if item_id.strip()]
    from tff_rec.data import sources, splits

    assert options.data.source is not None
    interactions = sources.read_source(options.data.source, options.data.path).interactions
    of_user = interactions[interactions["user_id"] == options.user]
    if of_user.empty:
        raise InputError(f"There is no user '{options.user}' in {options.data.source}; give the id of one.")
    return splits.order_by_user_and_time(of_user)["item_id"].tolist()


def print_recommendations(found: "Recommendations", given: int) -> None:
    from rich import box, console, table

    if not found.known:
        reason = "none of the history's items is in the catalogue" if given else "the history is empty"
        print(f"Popular items, since {reason}:")
    else:
        print(f"From {found.known} of {given} items of the history that the catalogue holds:")
    grid = table.Table("rank", "item", "title", "score", box=box.SIMPLE)
    for rank, item in enumerate(found.items, 1):
        grid.add_row(str(rank), item.item_id, item.title, f"{item.score:.4f}")
    console.Console(markup=False, highlight=False).print(grid)


if __name__ == "__main__":
    cli.run(main, RecommendOptions, __doc__)
