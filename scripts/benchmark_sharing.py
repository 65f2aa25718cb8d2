"""Times a round under plain, secure and ring aggregation, per user, of the same training on the same cohort.

The three run in turns; medians are printed. Quantising and sharing cost their time over that of the plain round.
"""

import dataclasses
import json
import os
import pathlib

from tff_rec import cli
from tff_rec.errors import InputError
from tff_rec.simulation import config as configs
from tff_rec.simulation import toml_file

PRESETS = pathlib.Path(__file__).parent / "presets" / "two_tower"


@dataclasses.dataclass(frozen=True)
class Options:
    """What is timed.

    Attributes:
        config: TOML file of the training, e.g. a preset.
        path: The data's zip, folder or file; by default the file's, or looked for in $TFF_REC_DATA/SOURCE/.
        cohort: Users of a round.
        rounds: Timed rounds of each, after one to warm up.
        json: Print one line of JSON and nothing else.
    """

    config: pathlib.Path = PRESETS / "ml-1m.toml"
    path: pathlib.Path | None = None
    cohort: int = 1000
    rounds: int = 5
    json: bool = False

    def __post_init__(self) -> None:
        for name in ("cohort", "rounds"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} is {getattr(self, name)}; give 1 or more.")


def main(options: Options) -> None:
    say = (lambda text: None) if options.json else print
    config = toml_file.read_toml(options.config, configs.TwoTowerConfig)
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, path=options.path or config.data.path),
        training=dataclasses.replace(config.training, clients_per_round=options.cohort, aggregation="plain"),
    )
    say(f"reading {config.data.source}")
    from tff_rec.simulation import preparation

    prepared = preparation.prepare(config)
    say("starting TensorFlow and TFF (10 to 20 seconds)")
    from tff_rec.simulation import execution, speed

    execution.start()
    times = speed.measure(speed.aggregations(config, prepared), options.rounds)
    execution.stop()
    if options.json:
        print(json.dumps({name: round(value, 4) for name, value in times.items()}))
        return
    print(
        f"{len(prepared.vocabulary):,} items x {config.model.dimension}; {config.model.tower} tower; "
        f"{options.cohort:,} users; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; "
        f"medians of {options.rounds} rounds"
    )
    print(f"{'':10}{'ms per user':>12}{'times plain':>14}")
    for name, value in times.items():
        print(f"{name:10}{value:12.3f}{value / times['plain']:14.2f}")


if __name__ == "__main__":
    cli.run(main, Options, __doc__)
