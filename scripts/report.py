"""Makes a study's report: report.html, which needs no network, and report.md with its pictures.

What scripts/compare.py has not run yet is "not run" there. Where nothing has changed since the last report, nothing is
done. With --readme the study's numbers are also put beside its preset, and into that file's tables.
"""

import dataclasses
import pathlib
import time
from typing import Annotated

import tyro

from tff_rec import cli


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """What to report.

    Attributes:
        study: Folder of the study, e.g. runs/quick.
        readme: File whose tables between <!-- results NAME --> and <!-- end of results --> are written anew.
    """

    study: Annotated[pathlib.Path, tyro.conf.Positional]
    readme: pathlib.Path | None = None


def main(options: ReportOptions) -> None:
    began = time.perf_counter()
    from tff_rec.report import files

    if files.is_current(options.study):
        print(f"nothing has changed since {options.study / files.REPORT_FILE} was made")
    else:
        from tff_rec.report import report

        changed = report.make(options.study)
        print(f"written: {', '.join(changed) or 'nothing, all files are as they were'}")
        print(f"open {options.study / files.REPORT_FILE}; done in {time.perf_counter() - began:.0f} s")
    if options.readme is not None:
        from tff_rec.report import readme

        written = readme.publish(options.study, options.readme)
        print(f"README: {', '.join(map(str, written)) or 'nothing has changed'}")


if __name__ == "__main__":
    cli.run(main, ReportOptions, __doc__)
