"""A table that a script measured, of times or bytes: printed, kept as JSON, and shown in the README.

A measurement's place in a README is everything between `<!-- measured NAME -->` and `<!-- end of measured -->`. What
stands there is made from `scripts/presets/measured/NAME.json`.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from tff_rec.report import render
from tff_rec.report.document import Grid, Text
from tff_rec.report.places import NOT_RUN, Places
from tff_rec.simulation.run_folder import write_text

FOLDER = pathlib.Path("scripts/presets/measured")
Figures = Mapping[str, "float | Figures"]
"""Numbers by name, or groups of them."""
_PLACES = Places("measured")


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A table of numbers.

    Attributes:
        name: Of its file and its place.
        protocol: What was measured, of what, how often and on what machine.
        columns: Their heads, with units.
        rows: Of as many cells; words stay as they are, numbers get three digits or so.
    """

    name: str
    protocol: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | float, ...], ...]

    def markdown(self) -> str:
        """The table, and under it how it was measured."""
        rows = tuple(tuple(Text(_cell(value)) for value in row) for row in self.rows)
        return f"{render.markdown_grid(Grid('', '', '', self.columns, rows))}\n\nProtocol: {self.protocol}."


def of_speed(name: str, protocol: str, times: Mapping[str, float], labels: Mapping[str, str]) -> Measurement:
    """Times beside those of `plain_tf`, the bound, and `stock_fed_recon`.

    Args:
        name: Of the measurement.
        protocol: What was timed.
        times: Milliseconds per user and round, as `speed.measure` gives them.
        labels: What to call them.
    """
    columns = ("", "ms per user and round", "times the bound", "times faster than stock")
    bound, stock = times["plain_tf"], times["stock_fed_recon"]
    rows = tuple((labels[key], value, value / bound, stock / value) for key, value in times.items())
    return Measurement(name, protocol, columns, rows)


def check(name: str, readme: pathlib.Path | None) -> None:
    """Raises InputError, before anything is measured, if a README is given and has no place for it."""
    if readme is not None:
        _PLACES.check(readme, name, f"'{name}'")


def show(measurement: Measurement, readme: pathlib.Path | None, as_json: Figures | None = None) -> None:
    """Prints a measurement and publishes it, where there is a README to do so in.

    Args:
        measurement: What was measured.
        readme: The README, or None.
        as_json: Figures to be printed as one line of JSON instead, with four decimals, and nothing else.
    """
    print(measurement.markdown() if as_json is None else json.dumps(_rounded(as_json)))
    if readme is not None:
        publish(measurement, readme)
        if as_json is None:
            print(f"README: {readme} shows it")


def publish(measurement: Measurement, readme: pathlib.Path) -> None:
    """Keeps a measurement under the README's folder and writes the README's tables anew.

    Raises:
        InputError: There is no README, or it has no place for the measurement.
    """
    check(measurement.name, readme)
    kept = readme.parent / FOLDER / f"{measurement.name}.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_text(kept, json.dumps(dataclasses.asdict(measurement), indent=1, ensure_ascii=False) + "\n")
    write_text(readme, filled(readme))


def places(readme: pathlib.Path) -> set[str]:
    """The measurements that a README has a place for."""
    return _PLACES.names(readme)


def filled(readme: pathlib.Path) -> str:
    """The README with every place filled from `FOLDER`; "not run" where there is no file."""
    return _PLACES.filled(readme, lambda name: _kept(readme.parent / FOLDER / f"{name}.json"))


def _rounded(figures: Figures) -> dict[str, Any]:
    return {key: _rounded(of) if isinstance(of, Mapping) else round(of, 4) for key, of in figures.items()}


def _kept(path: pathlib.Path) -> str:
    if not path.is_file():
        return NOT_RUN
    fields = json.loads(path.read_text(encoding="utf-8"))
    rows = tuple(tuple(row) for row in fields["rows"])
    return Measurement(fields["name"], fields["protocol"], tuple(fields["columns"]), rows).markdown()


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return value
    digits = next((digits for limit, digits in ((1, 3), (10, 2), (100, 1)) if abs(value) < limit), 0)
    return f"{value:,.{digits}f}"
