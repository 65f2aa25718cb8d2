"""Times a round of federated two-tower training, per user, beside what it could be and what it replaces.

Four ways to the same work (stock reconstruction trains matrix factorisation instead): this package with blocks of
users, with one user a TFF client, plain TensorFlow with gradients by hand, and TFF's own federated reconstruction. They
run in turns; medians are printed. First, blocks and plain TensorFlow are checked to give the same gradients.
"""

import dataclasses
import pathlib
from typing import TYPE_CHECKING

from tff_rec import cli
from tff_rec.cli import DataOptions
from tff_rec.simulation.option_checks import check_whole_numbers

if TYPE_CHECKING:  # NumPy, pandas and TensorFlow are imported after the options are read: `--help` answers at once.
    import numpy as np

    from tff_rec.data import clients
    from tff_rec.simulation.speed import Contestant

NAME = "two-tower-speed"
MAX_LENGTH = 64
TOLERANCE = 1e-4
LABELS = {
    "blocks": "this process, blocks of users",
    "one_user_per_client": "this process, one user a TFF client",
    "plain_tf": "plain TensorFlow, gradients by hand (the bound)",
    "stock_fed_recon": "stock build_fed_recon, matrix factorisation",
}


@dataclasses.dataclass(frozen=True)
class Options:
    """What is timed.

    Attributes:
        data: Which interactions; histories are the training part of leave-one-out.
        cohort: Users of a round, in blocks and in plain TensorFlow.
        users_per_block: Users of a block.
        num_clients: TFF clients that the blocks are dealt out to; one a core is best.
        single_users: Users of a round with one user a TFF client.
        stock_users: Users of a round of stock federated reconstruction.
        rounds: Timed rounds of each, after one to warm up.
        json: Print one line of JSON and nothing else.
        readme: File whose table between <!-- measured NAME --> and <!-- end of measured --> is written anew.
        seed: Of the choice of users.
    """

    data: DataOptions = dataclasses.field(default_factory=DataOptions)
    cohort: int = 1000
    users_per_block: int = 250
    num_clients: int = 2
    single_users: int = 100
    stock_users: int = 25
    rounds: int = 7
    json: bool = False
    readme: pathlib.Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        names = ("cohort", "users_per_block", "num_clients", "single_users", "stock_users", "rounds")
        check_whole_numbers((name.replace("_", "-"), getattr(self, name), 1) for name in names)


def main(options: Options) -> None:
    import numpy as np

    from tff_rec.data import clients, features, sources, splits
    from tff_rec.report import measurement

    say = (lambda text: None) if options.json else print
    measurement.check(NAME, options.readme)
    say(f"reading {options.data.source}")
    data = sources.read_source(options.data.source, options.data.path)
    vocabulary = features.build_item_vocabulary(data.interactions)
    train = splits.leave_one_out(data).train
    store = clients.build_client_store(train, vocabulary)
    users = clients.cohort(np.arange(store.num_users), min(options.cohort, store.num_users), options.seed, 0)
    if len(users) < options.cohort:
        say(f"there are {len(users):,} users: the cohort is as large")
    say("starting TensorFlow and TFF (10 to 20 seconds)")
    from tff_rec.simulation import execution, speed

    with execution.running():
        contestants = _contestants(options, store, train["rating"].to_numpy(), users, len(vocabulary))
        difference = speed.largest_difference(contestants[0].run(), contestants[2].run())
        if not difference <= TOLERANCE:
            raise SystemExit(f"error: blocks and plain TensorFlow differ by {difference:.1e}; nothing was timed")
        times = speed.measure(contestants, options.rounds)
        memory = speed.peak_memory()
    lengths = np.minimum(store.lengths()[users], MAX_LENGTH)
    protocol = (
        f"{options.data.source}, {len(vocabulary):,} items × {speed.DIMENSION}; {len(users):,} users of "
        f"{lengths.mean():.1f} positives (at most {MAX_LENGTH}) × {speed.NEGATIVES} negatives; {speed.LOCAL_STEPS} "
        f"local steps; {speed.circumstances(options.rounds)}"
    )
    say(f"same gradients in blocks and by hand: largest relative difference {difference:.1e}")
    say(speed.describe_memory(memory))
    table = measurement.of_speed(NAME, protocol, times, LABELS)
    measurement.show(table, options.readme, times if options.json else None)


def _contestants(
    options: Options, store: "clients.ClientStore", ratings: "np.ndarray", users: "np.ndarray", num_items: int
) -> list["Contestant"]:
    from tff_rec.simulation import speed

    model = speed.build_model(num_items)
    blocks = _blocks(store, users, options.users_per_block, options.seed)
    single = _blocks(store, users[: options.single_users], 1, options.seed)
    stock = users[: options.stock_users]
    items = [store.history(user)[-MAX_LENGTH:] for user in stock]
    rated = [ratings[store.offsets[user] : store.offsets[user + 1]][-MAX_LENGTH:] for user in stock]
    return [
        speed.in_blocks("blocks", model, blocks, min(options.num_clients, len(blocks))),
        speed.in_blocks("one_user_per_client", model, single, len(single)),
        speed.plain_tensorflow("plain_tf", model, blocks, options.num_clients),
        speed.stock_fed_recon("stock_fed_recon", items, rated, num_items),
    ]


def _blocks(
    store: "clients.ClientStore", users: "np.ndarray", users_per_block: int, seed: int
) -> list["clients.Block"]:
    from tff_rec.data import clients

    return list(
        clients.blocks(
            store,
            users,
            max_length=MAX_LENGTH,
            users_per_block=users_per_block,
            random_window=0.0,
            shuffle_ties=False,
            seed=seed,
            round_number=0,
        )
    )


if __name__ == "__main__":
    cli.run(main, Options, __doc__)
