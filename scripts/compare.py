"""Runs a study: ways to recommend beside each other on the same splits and seeds, by the tables of a TOML file.

Studies stand in scripts/presets/studies/. A study that was cut off, or a cell that failed, is taken up where it is when
the same command is given again; what is done is not done again. scripts/report.py makes the report.
"""

import dataclasses
import pathlib
import time

from rich.console import Console

from tff_rec import cli
from tff_rec.simulation.study_config import read_study

PRESETS = pathlib.Path(__file__).parent / "presets"


@dataclasses.dataclass(frozen=True)
class CompareOptions:
    """Which study, and where to.

    Attributes:
        config: Its TOML file.
        output: Folder of its results; by default runs/STUDY.
    """

    config: pathlib.Path = PRESETS / "studies" / "quick.toml"
    output: pathlib.Path | None = None


def main(options: CompareOptions) -> None:
    began = time.perf_counter()
    console = Console(markup=False, highlight=False)
    study = read_study(options.config, PRESETS)
    from tff_rec.simulation.study_folder import StudyFolder

    folder = StudyFolder(options.output or pathlib.Path("runs") / study.name)
    folder.begin(study)
    missing = [cell for cell in study.cells if not folder.is_done(cell)]
    console.print(f"{study.title}: {len(study.cells)} cells, of which {len(study.cells) - len(missing)} are done")
    if missing:
        console.print("starting TensorFlow and TFF (10 to 20 seconds)")
        from tff_rec.simulation import study as runner

        failed = runner.run(study, folder, console)
        console.print(f"done in {time.perf_counter() - began:.0f} s, {failed} of {len(missing)} cells failed")
    from tff_rec.report.summary import summary

    console.print(summary(folder.path), soft_wrap=True)
    console.print(f"results: {folder.results}", soft_wrap=True)


if __name__ == "__main__":
    cli.run(main, CompareOptions, __doc__)
