"""The README's tables of results, written from the numbers that are committed beside it.

A study's place in a README is everything between `<!-- results NAME -->` and `<!-- end of results -->`: all its tables;
or `<!-- results NAME/TABLE -->`: that one. What stands there is made from `plan.json`, `results.jsonl` and
`paired.json` in `scripts/presets/studies/NAME/`, beside the study's preset: numbers over users, nothing of any user. So
it can be checked wherever the repository is.
"""

import pathlib

from tff_rec.report import pairs
from tff_rec.report.places import NOT_RUN, Places
from tff_rec.report.study import PLAN_FILE, RESULTS_FILE, read_study
from tff_rec.report.summary import summary
from tff_rec.simulation.run_folder import write_text

RESULTS = pathlib.Path("scripts/presets/studies")
COMMITTED = (PLAN_FILE, RESULTS_FILE, pairs.PAIRS_FILE)
_PLACES = Places("results")


def publish(folder: pathlib.Path, readme: pathlib.Path) -> list[pathlib.Path]:
    """Copies a study's numbers to `RESULTS` under the README's folder and writes the README's tables anew.

    Args:
        folder: The study's, with `paired.json`.
        readme: The README.

    Returns:
        The files that changed.

    Raises:
        InputError: There is no README, it has no place for the study, or names a study or table that is not there.
    """
    name = read_study(folder).name
    _PLACES.check(readme, name, f"study '{name}'")
    kept = readme.parent / RESULTS / name
    kept.mkdir(parents=True, exist_ok=True)
    sources = [folder / file for file in COMMITTED if (folder / file).is_file()]
    wanted = {kept / source.name: source.read_text(encoding="utf-8") for source in sources}
    changed = [path for path, text in wanted.items() if _changes(path, text)]
    for path in changed:
        write_text(path, wanted[path])
    text = filled(readme)
    if _changes(readme, text):
        write_text(readme, text)
        changed.append(readme)
    return changed


def places(readme: pathlib.Path) -> set[str]:
    """The studies that a README has a place for."""
    return _PLACES.names(readme)


def filled(readme: pathlib.Path) -> str:
    """The README with every place filled from `RESULTS`; "not run" where there is no study of that name.

    Raises:
        InputError: A place names a table that its study does not have.
    """

    def tables(name: str) -> str:
        study, _, table = name.partition("/")
        kept = readme.parent / RESULTS / study
        return summary(kept, table or None) if (kept / PLAN_FILE).is_file() else NOT_RUN

    return _PLACES.filled(readme, tables)


def _changes(path: pathlib.Path, text: str) -> bool:
    return not path.is_file() or path.read_text(encoding="utf-8") != text
