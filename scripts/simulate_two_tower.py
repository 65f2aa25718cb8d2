"""Trains a two-tower recommender by split federated learning, judges it and exports it to serve.

Without options it runs on synthetic data whose truth is known. With --data.source NAME the preset of that source in
scripts/presets/two_tower/ gives the defaults.
"""

import pathlib
import time
from collections.abc import Sequence

from rich.console import Console

from tff_rec import cli
from tff_rec.simulation.config import TwoTowerConfig, read_defaults
from tff_rec.simulation.run_folder import find_run_folder

PRESETS = pathlib.Path(__file__).parent / "presets" / "two_tower"


def defaults(arguments: Sequence[str]) -> TwoTowerConfig:
    return read_defaults(arguments, PRESETS, TwoTowerConfig)


def main(config: TwoTowerConfig) -> None:
    began = time.perf_counter()
    console = Console(markup=False, highlight=False)
    folder = find_run_folder(config)
    console.print(f"reading {config.data.source}")
    from tff_rec.simulation.preparation import prepare

    prepared = prepare(config)
    console.print(prepared.describe(), soft_wrap=True)
    folder.begin(config)
    prepared = prepared.on_disk(folder.clients)
    console.print("starting TensorFlow and TFF (10 to 20 seconds)")
    from tff_rec.simulation.two_tower import simulate

    simulate(config, prepared, folder, console)
    console.print(f"done in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    cli.run(main, TwoTowerConfig, __doc__, defaults)
