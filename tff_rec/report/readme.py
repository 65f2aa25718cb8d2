"""The README's tables of results, written from the numbers that are committed beside it.

A study's place in a README is everything between `<!-- results NAME -->` and `<!-- end of results -->`: all its tables;
or `<!-- results NAME/TABLE -->`: that one. What stands there is made from `plan.json`, `results.jsonl` and
`paired.json` in `scripts/presets/studies/NAME/`, beside the study's preset: numbers over users, nothing of any user. So
it can be checked wherever the repository is.
"""

import pathlib
import re

from tff_rec.errors import InputError
from tff_rec.report import pairs
from tff_rec.report.study import PLAN_FILE, RESULTS_FILE, read_study
from tff_rec.report.summary import summary
from tff_rec.simulation.run_folder import write_text

RESULTS = pathlib.Path("scripts/presets/studies")
COMMITTED = (PLAN_FILE, RESULTS_FILE, pairs.PAIRS_FILE)
_PLACE = re.compile(
    r"(<!-- results (?P<study>[^\s/]+)(?:/(?P<table>\S+))? -->\n).*?(<!-- end of results -->)", re.DOTALL
)


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
    if not readme.is_file():
        raise InputError(f"There is no file {readme} to write results into.")
    if name not in places(readme):
        raise InputError(
            f"{readme} has no place for study '{name}'; put <!-- results {name} --> and <!-- end of results --> on "
            "lines of their own where its tables belong."
        )
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
    return {match["study"] for match in _PLACE.finditer(readme.read_text(encoding="utf-8"))}


def filled(readme: pathlib.Path) -> str:
    """The README with every place filled from `RESULTS`.

    Raises:
        InputError: A place names a study or a table that is not there.
    """

    def fill(match: re.Match[str]) -> str:
        return f"{match[1]}\n{summary(readme.parent / RESULTS / match['study'], match['table'])}\n\n{match[4]}"

    return _PLACE.sub(fill, readme.read_text(encoding="utf-8"))


def _changes(path: pathlib.Path, text: str) -> bool:
    return not path.is_file() or path.read_text(encoding="utf-8") != text
