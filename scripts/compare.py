"""Compares ways to train the tag-aware rating model on the same splits and seeds: one table, paired tests and plots.

Baselines, each silo alone, silos by FedAvg, FedProx and FedOpt, users as clients with and without tags, and all ratings
in one place. A comparison that was cut off goes on with --resume: what is done is not done again.
"""

import pathlib
import time
from collections.abc import Sequence

from rich.console import Console

from tff_rec import cli
from tff_rec.simulation.comparison_config import CompareConfig
from tff_rec.simulation.config import read_defaults
from tff_rec.simulation.run_folder import find_run_folder

PRESETS = pathlib.Path(__file__).parent / "presets" / "tag_aware"


def defaults(arguments: Sequence[str]) -> CompareConfig:
    return read_defaults(arguments, PRESETS, CompareConfig)


def main(config: CompareConfig) -> None:
    began = time.perf_counter()
    console = Console(markup=False, highlight=False)
    folder = find_run_folder(config)
    console.print(f"reading {config.data.source}")
    from tff_rec.simulation.rating_preparation import prepare

    console.print(prepare(config.of_silos(config.seed)).describe(), soft_wrap=True)
    folder.begin(config)
    console.print("starting TensorFlow and TFF (10 to 20 seconds)")
    from tff_rec.simulation import comparison, comparison_report

    cells, failures = comparison.run(config, folder, console)
    console.print(comparison_report.write(config, cells, failures, folder), soft_wrap=True)
    console.print(f"table, plots and cells: {folder.path}", soft_wrap=True)
    console.print(f"done in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    cli.run(main, CompareConfig, __doc__, defaults)
