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
        only: Methods to run now; the others stay as they are. Calls with different methods may run side by side.
    """

    config: pathlib.Path = PRESETS / "studies" / "quick.toml"
    output: pathlib.Path | None = None
    only: tuple[str, ...] = ()


def main(options: CompareOptions) -> None:
    began = time.perf_counter()
    console = Console(markup=False, highlight=False)
    study = read_study(options.config, PRESETS)
    cells = study.cells_of(options.only)
    from tff_rec.simulation.study_folder import StudyFolder

    folder = StudyFolder(options.output or pathlib.Path("runs") / study.name)
    folder.begin(study)
    missing = [cell for cell in cells if not folder.is_done(cell)]
    console.print(f"{study.title}: {len(cells)} cells, of which {len(cells) - len(missing)} are done")
    if missing:
        console.print("starting TensorFlow and TFF (10 to 20 seconds)")
        from tff_rec.simulation import study as runner

        failed = runner.run(cells, folder, console)
        console.print(f"done in {time.perf_counter() - began:.0f} s, {failed} of {len(missing)} cells failed")
    from tff_rec.report.summary import summary

    console.print(summary(folder.path), soft_wrap=True)
    console.print(f"results: {folder.results}", soft_wrap=True)


if __name__ == "__main__":
    cli.run(main, CompareOptions, __doc__)
