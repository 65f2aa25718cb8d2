"""What a run leaves behind: configuration, metrics, TensorBoard logs, a plot, checkpoints and the export."""

import dataclasses
import datetime
import json
import pathlib
from typing import Any

from tff_rec.errors import InputError
from tff_rec.simulation import config as configuration
from tff_rec.simulation import toml_file
from tff_rec.simulation.config import DataConfig, RunConfig


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Paths of a run.

    Attributes:
        path: The folder.
    """

    path: pathlib.Path

    @property
    def config(self) -> pathlib.Path:
        """The resolved configuration."""
        return self.path / configuration.CONFIG_FILE

    @property
    def metrics(self) -> pathlib.Path:
        """One JSON object a line: rounds, looks at validation, and the end."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> pathlib.Path:
        """Program states of TFF's file manager."""
        return self.path / "checkpoints"

    @property
    def tensorboard(self) -> pathlib.Path:
        """Event files."""
        return self.path / "tensorboard"

    @property
    def plot(self) -> pathlib.Path:
        """Loss and validation metrics against rounds."""
        return self.path / "metrics.png"

    @property
    def clients(self) -> pathlib.Path:
        """Memory-mapped arrays of the simulated devices."""
        return self.path / "clients"

    @property
    def export(self) -> pathlib.Path:
        """The SavedModel."""
        return self.path / "export"

    def begin(self, config: RunConfig) -> None:
        """Makes the folder of a new run and writes its configuration; an existing run stays as it is.

        Raises:
            InputError: The folder cannot be made.
        """
        if config.resume:
            return
        make_folder(self.path, exist_ok=False)
        data = config.data if config.data.path is None else _absolute(config.data)
        write_text(self.config, toml_file.to_toml(dataclasses.replace(config, data=data, output=self.path)))

    def append(self, record: dict[str, Any]) -> None:
        """Adds a line to the metrics."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def records(self) -> list[dict[str, Any]]:
        """All lines of the metrics; a last line that a kill cut short is left out."""
        if not self.metrics.is_file():
            return []
        lines = self.metrics.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines[:-1]]

    def forget_after(self, round_number: int) -> None:
        """Drops the lines of rounds after `round_number`, which a resumed run writes anew."""
        kept = [record for record in self.records() if record["round"] <= round_number and "test" not in record]
        write_text(self.metrics, "".join(json.dumps(record) + "\n" for record in kept))


def find_run_folder(config: RunConfig) -> RunFolder:
    """Names the folder of a new run, or finds that of a run to resume; writes nothing.

    Raises:
        InputError: The folder exists and `resume` is off; or `resume` is on and it is missing, holds no run, or holds
            one of another configuration.
    """
    if config.resume:
        return _existing(config)
    path = config.output or _default_path(config)
    if path.exists():
        raise InputError(f"The output folder {path} exists; add --resume to go on with its run, or name another.")
    return RunFolder(path)


def _absolute(data: DataConfig) -> DataConfig:
    assert data.path is not None
    return dataclasses.replace(data, path=data.path.resolve())


def make_folder(path: pathlib.Path, *, exist_ok: bool = True) -> None:
    """Makes a folder for results, and those above it.

    Raises:
        InputError: It cannot be made, or is there and must not be.
    """
    try:
        path.mkdir(parents=True, exist_ok=exist_ok)
    except OSError as error:
        raise InputError(f"The output folder {path} cannot be made ({error.strerror}); name another.") from None


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes beside and renames, so that no reader meets half a file."""
    write_bytes(path, text.encode())


def write_bytes(path: pathlib.Path, content: bytes) -> None:
    """As `write_text`."""
    beside = path.with_name(f".{path.name}.partial")
    beside.write_bytes(content)
    beside.replace(path)


def _existing(config: RunConfig) -> RunFolder:
    assert config.output is not None
    folder = RunFolder(config.output)
    if not folder.config.is_file():
        raise InputError(f"There is no run to resume in {config.output}; leave out --resume to begin one.")
    before = configuration.identity(toml_file.read_toml(folder.config, type(config)))
    now = configuration.identity(config)
    if before != now:
        raise InputError(
            f"The run in {config.output} has another configuration ({_difference(before, now)}); resume it with the "
            "same options, or begin another folder."
        )
    return folder


def _difference(before: Any, now: Any, prefix: str = "") -> str:
    """The first option in which two configurations differ."""
    for field in dataclasses.fields(before):
        old, new = getattr(before, field.name), getattr(now, field.name)
        if old != new and dataclasses.is_dataclass(old):
            return _difference(old, new, f"{field.name}.")
        if old != new:
            return f"{prefix}{field.name} is {old} there and {new} here"
    return "no option differs"


def _default_path(config: RunConfig) -> pathlib.Path:
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return pathlib.Path("runs") / f"{config.data.source}-{stamp}"
