"""Times a round per user, plain and under each protection, of the same training on the same cohort.

Protections are secure sum, ring, and user-level differential privacy on a plain sum (every user clipped, noise added).
All run in turns; medians are printed. What a protection costs is its time over that of the plain round.
"""

import dataclasses
import json
import os
import pathlib

from tff_rec import cli
from tff_rec.simulation import config as configs
from tff_rec.simulation import toml_file
from tff_rec.simulation.option_checks import check_whole_numbers
from tff_rec.simulation.privacy_config import PrivacyConfig

CLIP_NORM = 0.5
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

    config: pathlib.Path = PRESETS / "ml-1m-private.toml"
    path: pathlib.Path | None = None
    cohort: int = 1000
    rounds: int = 5
    json: bool = False

    def __post_init__(self) -> None:
        check_whole_numbers([("cohort", self.cohort, 1), ("rounds", self.rounds, 1)])


def main(options: Options) -> None:
    say = (lambda text: None) if options.json else print
    config = toml_file.read_toml(options.config, configs.TwoTowerConfig)
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, path=options.path or config.data.path),
        training=dataclasses.replace(config.training, clients_per_round=options.cohort),
    )
    compared = variants(config)
    say(f"reading {config.data.source}")
    from tff_rec.simulation import preparation

    prepared = preparation.prepare(config)
    say("starting TensorFlow and TFF (10 to 20 seconds)")
    from tff_rec.simulation import execution, speed

    with execution.running():
        times = speed.measure(
            [speed.round_of(name, variant, prepared) for name, variant in compared.items()], options.rounds
        )
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


def variants(config: configs.TwoTowerConfig) -> dict[str, configs.TwoTowerConfig]:
    """What is compared, by name; raises InputError where a protection does not go with the options."""
    none = dataclasses.replace(config, privacy=PrivacyConfig())
    unbounded = dataclasses.replace(config.training, aggregation="plain", query_clip_norm=None, item_clip_norm=None)
    compared = {"plain": dataclasses.replace(none, training=unbounded)}
    for name in ("secure", "ring"):
        compared[name] = dataclasses.replace(none, training=dataclasses.replace(config.training, aggregation=name))
    clipped = dataclasses.replace(
        config.training, aggregation="plain", weighting="equal", query_clip_norm=CLIP_NORM, item_clip_norm=CLIP_NORM
    )
    private = PrivacyConfig("gaussian", noise_multiplier=1.0)
    return compared | {"private": dataclasses.replace(config, training=clipped, privacy=private)}


if __name__ == "__main__":
    cli.run(main, Options, __doc__)
