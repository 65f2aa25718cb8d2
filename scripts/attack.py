"""Attacks federated training as its server would, under every protection, and tabulates what each attack finds.

Trains small models in every way of the grid on half of the users, then attacks what devices send and ask for, the
models, and the mean. Writes attacks.md, attacks.csv, attacks.json and attacks.png to --output.
"""

import dataclasses
import pathlib
import time
from typing import TYPE_CHECKING

from tff_rec import cli
from tff_rec.cli import DataOptions
from tff_rec.errors import InputError
from tff_rec.simulation.option_checks import check_whole_numbers

if TYPE_CHECKING:
    import numpy as np

    from tff_rec.data.schema import InteractionData
    from tff_rec.evaluation import attack_study

SYNTHETIC_USERS = 300
POISONED_ROUNDS = 10
SMALLEST_RING = 3


@dataclasses.dataclass(frozen=True)
class AttackOptions:
    """What to attack.

    Attributes:
        output: Folder of the tables and the heat map.
        data: Whose interactions.
        seed: Of users, models, cohorts, decoys and noise.
        users: Users who are attacked, drawn at random; 0 takes all.
        rounds: Of each training.
        cohort: Users of a round, and of a sum.
        ring_sizes: Users of a ring, a row each; 0 is the whole cohort. What protects is the number of users in a sum.
        max_length: Items of a history, the newest.
        dimension: Of vectors.
    """

    output: pathlib.Path
    data: DataOptions = dataclasses.field(default_factory=DataOptions)
    seed: int = 0
    users: int = 80
    rounds: int = 30
    cohort: int = 40
    ring_sizes: tuple[int, ...] = (10, 0)
    max_length: int = 20
    dimension: int = 16


def main(options: AttackOptions) -> None:
    began = time.perf_counter()
    check(options)

    def say(line: str) -> None:
        print(f"{time.perf_counter() - began:6.0f} s  {line}", flush=True)

    say(f"reading {options.data.source}, starting TensorFlow (10 to 20 seconds)")
    from tff_rec.simulation import run_folder

    data, attributes = read(options)
    run_folder.make_folder(options.output)
    from tff_rec.evaluation import attack_grid, attack_report, attack_study, attack_training

    recipe = attack_training.Recipe(options.rounds, options.cohort)
    size = attack_study.Size(options.users, options.max_length, options.dimension, recipe)
    prepared = attack_study.prepare(data, attributes, size, options.seed, say)
    rings = list(dict.fromkeys(size or options.cohort for size in options.ring_sizes))
    grid = attack_grid.grid(prepared.study, attack_grid.protections(prepared.noise_multipliers, rings), say)
    few = dataclasses.replace(recipe, rounds=min(POISONED_ROUNDS, options.rounds))
    poisoned = attack_study.poisoned(prepared, few, say)
    text = attack_report.write(options.output, grid, poisoned, protocol(options, prepared))
    print(text)
    say(f"tables and heat map are in {options.output}")


def check(options: AttackOptions) -> None:
    """Raises InputError for options that make no sense, before anything is read or written."""
    least = {"seed": 0, "users": 0, "rounds": 1, "cohort": 10, "max_length": 2, "dimension": 2}
    check_whole_numbers((name.replace("_", "-"), getattr(options, name), smallest) for name, smallest in least.items())
    if 0 < options.users < options.cohort:
        raise InputError(f"--users is {options.users}, fewer than the --cohort of {options.cohort}; give as many.")
    for size in options.ring_sizes:
        if size and not SMALLEST_RING <= size <= options.cohort:
            between = f"{SMALLEST_RING} or more, and no more than the --cohort of {options.cohort}"
            raise InputError(f"--ring-sizes has {size}; give {between}, or 0 for all of it.")
    if options.output.exists() and not options.output.is_dir():
        raise InputError(f"--output {options.output} is a file; give a folder.")


def read(options: AttackOptions) -> tuple["InteractionData", dict[str, "np.ndarray"]]:
    """The record, and what may be inferred of its users: of synthetic ones the first component of their taste."""
    from tff_rec.data import attributes, sources, synthetic

    if options.data.source == "synthetic" and options.data.path is None:
        config = synthetic.SyntheticConfig(num_users=SYNTHETIC_USERS, seed=options.seed)
        truth = synthetic.generate_synthetic(config)
        return truth.data, {"taste": truth.user_vectors[:, 0] > 0}
    data = sources.read_source(options.data.source, options.data.path)
    return data, attributes.user_attributes(data)


def protocol(options: AttackOptions, prepared: "attack_study.Prepared") -> dict[str, object]:
    """How all was measured, to stand over the tables."""
    study = prepared.study
    noise = ", ".join(f"{value:.2f} (ε {epsilon:g})" for epsilon, value in prepared.noise_multipliers.items())
    return {
        "data": options.data.source,
        "users attacked": len(study.users),
        "seed": options.seed,
        "cohort": study.cohort,
        "rounds": options.rounds,
        "members": int(study.members.sum()),
        "newest items of a history": options.max_length,
        "dimension": options.dimension,
        "clip norms": f"{study.subject.query_clip_norm:.3g} (query), {study.subject.item_clip_norm:.3g} (items)",
        "noise multipliers": noise,
    }


if __name__ == "__main__":
    cli.run(main, AttackOptions, __doc__)
