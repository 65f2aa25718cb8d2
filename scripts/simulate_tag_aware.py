"""Trains a tag-aware rating model by federated learning of users or of silos, judges it and exports it to serve.

Without options it runs on synthetic data. With --data.source NAME the preset of that source in
scripts/presets/tag_aware/ gives the defaults. --clients users makes each user a client, --clients 4 makes four silos.
"""

import pathlib
import time
from collections.abc import Sequence

from rich.console import Console

from tff_rec import cli
from tff_rec.simulation.config import read_defaults
from tff_rec.simulation.rating_config import TagAwareConfig
from tff_rec.simulation.run_folder import find_run_folder

PRESETS = pathlib.Path(__file__).parent / "presets" / "tag_aware"


def defaults(arguments: Sequence[str]) -> TagAwareConfig:
    return read_defaults(arguments, PRESETS, TagAwareConfig)


def main(config: TagAwareConfig) -> None:
    began = time.perf_counter()
    console = Console(markup=False, highlight=False)
    folder = find_run_folder(config)
    console.print(f"reading {config.data.source}")
    from tff_rec.simulation.rating_preparation import prepare

    prepared = prepare(config)
    console.print(prepared.describe(), soft_wrap=True)
    folder.begin(config)
    prepared = prepared.on_disk(folder.clients)
    console.print("starting TensorFlow and TFF (10 to 20 seconds)")
    from tff_rec.simulation.tag_aware import simulate

    simulate(config, prepared, folder, console)
    console.print(f"done in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    cli.run(main, TagAwareConfig, __doc__, defaults)
