"""From a study's folder to the files of its report."""

import pathlib

from tff_rec.report import files, groups, pairs, render, sections
from tff_rec.report.study import read_study


def make(folder: pathlib.Path) -> list[str]:
    """Reads a study, tests what is not tested yet, and writes its report.

    Args:
        folder: As scripts/compare.py leaves it.

    Returns:
        Names of the files that were written.

    Raises:
        InputError: The folder holds no study, or a file is not what a study writes.
    """
    study = read_study(folder)
    found = groups.all_of(study)
    tested = pairs.compare(found, folder)
    document = sections.document(study, found, tested)
    contents = {
        pairs.PAIRS_FILE: pairs.as_json(tested).encode(),
        files.REPORT_FILE: render.html(document).encode(),
        files.MARKDOWN_FILE: render.markdown(document).encode(),
    }
    contents |= {f"{render.PICTURES}/{picture.name}.png": picture.png for picture in document.pictures}
    return files.write(folder, contents)
