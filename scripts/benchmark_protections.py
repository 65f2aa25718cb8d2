"""Times a round per user, plain and under each protection, of the same training on the same cohort.

Protections are secure sum, ring, and user-level differential privacy on a plain sum (every user clipped, noise added),
with the file's own privacy options where it has some; not of requested rows, which noise does not hide. "clipped" is a
plain round whose users are bounded as for secure sum and ring. All run in turns; medians are printed. What a protection
costs is its time over that of the plain round.
"""

import dataclasses
import pathlib
from typing import TYPE_CHECKING

from tff_rec import cli
from tff_rec.errors import InputError
from tff_rec.simulation import config as configs
from tff_rec.simulation import toml_file
from tff_rec.simulation.option_checks import check_whole_numbers
from tff_rec.simulation.privacy_config import PrivacyConfig

if TYPE_CHECKING:  # TensorFlow is imported after the options are read: `--help` answers at once.
    from tff_rec.simulation.preparation import Prepared

NAME = "protections"
RATIOS = ("secure sum / plain", "ring / plain", "private / plain")
COLUMNS = ("", "plain", "clipped", "secure sum", "ring", "private", *RATIOS)
PROTECTIONS = ("secure", "ring", "private")
NOT_MEASURED = "–"
CLIP_NORM = 0.5
PRESETS = pathlib.Path(__file__).parent / "presets" / "two_tower"


@dataclasses.dataclass(frozen=True)
class Options:
    """What is timed.

    Attributes:
        config: TOML files of trainings, e.g. presets; each is compared by itself.
        path: The data's zip, folder or file; by default the files', or looked for in $TFF_REC_DATA/SOURCE/.
        cohort: Users of a round.
        rounds: Timed rounds of each, after one to warm up.
        json: Print one line of JSON and nothing else: by the name of the file, of each way its ms per user.
        readme: File whose table between <!-- measured NAME --> and <!-- end of measured --> is written anew.
    """

    config: tuple[pathlib.Path, ...] = (PRESETS / "ml-1m-private.toml",)
    path: pathlib.Path | None = None
    cohort: int = 1000
    rounds: int = 5
    json: bool = False
    readme: pathlib.Path | None = None

    def __post_init__(self) -> None:
        check_whole_numbers([("cohort", self.cohort, 1), ("rounds", self.rounds, 1)])
        if not self.config:
            raise InputError("--config names no file; give one or more.")
        names = [path.stem for path in self.config]
        if len(set(names)) < len(names):
            raise InputError(f"--config names files alike: {', '.join(names)}; give each a name of its own.")


def main(options: Options) -> None:
    say = (lambda text: None) if options.json else print
    configs_by_name = {path.stem: configured(path, options) for path in options.config}
    compared = {name: variants(config) for name, config in configs_by_name.items()}
    from tff_rec.report import measurement
    from tff_rec.simulation import preparation

    measurement.check(NAME, options.readme)
    say(f"reading {', '.join(dict.fromkeys(config.data.source for config in configs_by_name.values()))}")
    prepared = {name: preparation.prepare(config) for name, config in configs_by_name.items()}
    say("starting TensorFlow and TFF (10 to 20 seconds)")
    from tff_rec.simulation import execution, speed

    times = {}
    with execution.running():
        for name, ways in compared.items():
            say(f"timing {name}")
            contestants = [speed.round_of(way, config, prepared[name]) for way, config in ways.items()]
            times[name] = speed.measure(contestants, options.rounds)
    rows = tuple(row(name, config, prepared[name], times[name]) for name, config in configs_by_name.items())
    protocol = f"ms per user and round; {options.cohort:,} users; {speed.circumstances(options.rounds)}"
    table = measurement.Measurement(NAME, protocol, COLUMNS, rows)
    measurement.show(table, options.readme, times if options.json else None)


def row(
    name: str, config: configs.TwoTowerConfig, prepared: "Prepared", times: dict[str, float]
) -> tuple[str | float, ...]:
    """A training's times, and how many times the plain round's the others are."""
    label = f"{name} ({config.model.tower}, {len(prepared.vocabulary):,} items × {config.model.dimension})"
    plain, protected = times["plain"], [times.get(name) for name in PROTECTIONS]
    costs = [value and value / plain for value in protected]
    return (label, plain, times["clipped"], *(value or NOT_MEASURED for value in (*protected, *costs)))


def configured(path: pathlib.Path, options: Options) -> configs.TwoTowerConfig:
    """The training of a file, with what the options say."""
    config = toml_file.read_toml(path, configs.TwoTowerConfig)
    data = dataclasses.replace(config.data, path=options.path or config.data.path)
    training = dataclasses.replace(config.training, clients_per_round=options.cohort)
    return dataclasses.replace(config, data=data, training=training)


def variants(config: configs.TwoTowerConfig) -> dict[str, configs.TwoTowerConfig]:
    """What is compared, by name; raises InputError where a protection does not go with the options."""
    none = dataclasses.replace(config, privacy=PrivacyConfig())
    unbounded = dataclasses.replace(config.training, aggregation="plain", query_clip_norm=None, item_clip_norm=None)
    secure = dataclasses.replace(config.training, aggregation="secure")
    ring = dataclasses.replace(config.training, aggregation="ring")
    bounded = dataclasses.replace(
        config.training,
        aggregation="plain",
        query_clip_norm=config.training.query_clip_norm or configs.DEFAULT_CLIP_NORM,
        item_clip_norm=config.training.item_clip_norm or configs.DEFAULT_CLIP_NORM,
    )
    ways = {"plain": unbounded, "clipped": bounded, "secure": secure, "ring": ring}
    compared = {name: dataclasses.replace(none, training=way) for name, way in ways.items()}
    if config.transport.items == "rows":  # Noise does not hide who asks for what.
        return compared
    clipped = dataclasses.replace(
        config.training,
        aggregation="plain",
        weighting="equal",
        query_clip_norm=config.training.query_clip_norm or CLIP_NORM,
        item_clip_norm=config.training.item_clip_norm or CLIP_NORM,
    )
    private = config.privacy if config.privacy.central else PrivacyConfig("gaussian", noise_multiplier=1.0)
    return compared | {"private": dataclasses.replace(config, training=clipped, privacy=private)}


if __name__ == "__main__":
    cli.run(main, Options, __doc__)
