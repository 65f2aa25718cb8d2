"""Times a round of the tag-aware model with users as clients, per user, beside what it could be and what it replaces.

This package with blocks of users, with one user a TFF client, the same sums by TensorFlow without TFF, and TFF's own
federated reconstruction of matrix factorisation, which takes as many local epochs. They run in turns; medians are
printed. First, blocks and TensorFlow alone are checked to give the same gradients.
"""

import dataclasses
import pathlib

from tff_rec import cli
from tff_rec.simulation import toml_file
from tff_rec.simulation.option_checks import check_whole_numbers
from tff_rec.simulation.rating_config import TagAwareConfig

PRESETS = pathlib.Path(__file__).parent / "presets" / "tag_aware"
NAME = "rating-speed"
TOLERANCE = 1e-3
LABELS = {
    "blocks": "this process, blocks of users",
    "one_user_per_client": "this process, one user a TFF client",
    "plain_tf": "plain TensorFlow, the same sums (the bound)",
    "stock_fed_recon": "stock build_fed_recon, matrix factorisation",
}


@dataclasses.dataclass(frozen=True)
class Options:
    """What is timed.

    Attributes:
        config: TOML file of the training, e.g. a preset.
        path: The data's zip, folder or file; by default the file's, or looked for in $TFF_REC_DATA/SOURCE/.
        cohort: Users of a round, in blocks and in plain TensorFlow.
        users_per_block: Users of a block.
        local_steps: Full-batch steps of a device, each a local epoch.
        single_users: Users of a round with one user a TFF client.
        stock_users: Users of a round of stock federated reconstruction.
        rounds: Timed rounds of each, after one to warm up.
        json: Print one line of JSON and nothing else.
        readme: File whose table between <!-- measured NAME --> and <!-- end of measured --> is written anew.
    """

    config: pathlib.Path = PRESETS / "ml-1m.toml"
    path: pathlib.Path | None = None
    cohort: int = 1000
    users_per_block: int = 50
    local_steps: int = 5
    single_users: int = 100
    stock_users: int = 25
    rounds: int = 5
    json: bool = False
    readme: pathlib.Path | None = None

    def __post_init__(self) -> None:
        names = ("cohort", "users_per_block", "local_steps", "single_users", "stock_users", "rounds")
        check_whole_numbers((name.replace("_", "-"), getattr(self, name), 1) for name in names)


def main(options: Options) -> None:
    say = (lambda text: None) if options.json else print
    config = configured(options)
    from tff_rec.report import measurement
    from tff_rec.simulation import rating_preparation

    measurement.check(NAME, options.readme)
    say(f"reading {config.data.source}")
    prepared = rating_preparation.prepare(config)
    say("starting TensorFlow and TFF (10 to 20 seconds)")
    from tff_rec.simulation import execution, rating_speed, speed

    with execution.running():
        contestants = rating_speed.contestants(config, prepared, options.single_users, options.stock_users)
        difference = speed.largest_difference(contestants[0].run(), contestants[2].run())
        if not difference <= TOLERANCE:
            raise SystemExit(f"error: blocks and plain TensorFlow differ by {difference:.1e}; nothing was timed")
        times = speed.measure(contestants, options.rounds)
        memory = speed.peak_memory()
    protocol = (
        f"{config.data.source}, {len(prepared.vocabulary):,} items × {config.model.dimension}; "
        f"{contestants[0].users:,} users; {options.local_steps} local steps; {speed.circumstances(options.rounds)}"
    )
    say(f"same gradients with and without TFF: largest relative difference {difference:.1e}")
    say(speed.describe_memory(memory))
    table = measurement.of_speed(NAME, protocol, times, LABELS)
    measurement.show(table, options.readme, times if options.json else None)


def configured(options: Options) -> TagAwareConfig:
    """The training of the file, with what the options say."""
    config = toml_file.read_toml(options.config, TagAwareConfig)
    training = dataclasses.replace(
        config.training,
        clients_per_round=options.cohort,
        users_per_block=options.users_per_block,
        local_steps=options.local_steps,
    )
    data = dataclasses.replace(config.data, path=options.path or config.data.path)
    return dataclasses.replace(config, data=data, training=training, clients="users")


if __name__ == "__main__":
    cli.run(main, Options, __doc__)
