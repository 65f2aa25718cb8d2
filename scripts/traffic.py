"""What a device sends, receives and computes in a round of training, split and unsplit, at several dimensions.

Bytes are counted from the tensors and their codings (`federated/communication.py`), multiply-adds from the graph of one
device's work (`simulation/device_compute.py`); the device is one with the median length of history. Nothing is trained:
give finished runs with --runs to see what the ways cost in quality.
"""

import dataclasses
import json
import pathlib
from typing import TYPE_CHECKING, Any, Literal

from tff_rec import cli
from tff_rec.errors import InputError
from tff_rec.simulation import config as configs
from tff_rec.simulation import toml_file

if TYPE_CHECKING:  # TensorFlow is imported after the options are read: `--help` answers at once.
    import pandas as pd

    from tff_rec.federated.communication import Traffic
    from tff_rec.report.measurement import Measurement
    from tff_rec.simulation.preparation import Prepared

PRESETS = pathlib.Path(__file__).parent / "presets" / "two_tower"
UNSPLIT = "unsplit FedAvg"


@dataclasses.dataclass(frozen=True)
class TrafficOptions:
    """What is counted.

    Attributes:
        config: TOML file of the training whose traffic is counted, with requested rows.
        catalogue: Items of the table, training's or all that the data describes; by default the file's.
        path: The data's zip, folder or file; by default the file's, or looked for in $TFF_REC_DATA/SOURCE/.
        dimensions: Lengths of item vectors.
        runs: Run folders of `simulate_two_tower.py`, the first with the whole table, to show what quality costs.
        output: Folder for the tables, as JSON and Markdown.
        readme: File whose table between <!-- measured NAME --> and <!-- end of measured --> is written anew.
    """

    config: pathlib.Path = PRESETS / "ml-1m-rows.toml"
    catalogue: Literal["training", "all"] | None = None
    path: pathlib.Path | None = None
    dimensions: tuple[int, ...] = (16, 32, 64)
    runs: tuple[pathlib.Path, ...] = ()
    output: pathlib.Path = pathlib.Path("runs/traffic")
    readme: pathlib.Path | None = None

    def __post_init__(self) -> None:
        if not self.dimensions or min(self.dimensions) < 1:
            raise InputError("--dimensions need one whole number or more, each 1 or more.")
        for run in self.runs:
            if not (run / configs.CONFIG_FILE).is_file():
                raise InputError(f"--runs {run} is no run folder: it has no {configs.CONFIG_FILE}.")


def main(options: TrafficOptions) -> None:
    config = toml_file.read_toml(options.config, configs.TwoTowerConfig)
    if config.transport.items == "table":
        raise InputError(f"--config {options.config} requests no rows; name one with transport.items = 'rows'.")
    data = dataclasses.replace(config.data, path=options.path or config.data.path)
    config = dataclasses.replace(config, data=data, catalogue=options.catalogue or config.catalogue)
    qualities = [quality(run) for run in options.runs]
    from tff_rec.report import measurement
    from tff_rec.simulation import preparation, run_folder, traffic_study

    name = f"traffic-{config.data.source}"
    measurement.check(name, options.readme)
    run_folder.make_folder(options.output)
    print(f"reading {config.data.source}")
    prepared = preparation.prepare(config)
    print(f"{config.data.source}: {len(prepared.vocabulary):,} items, {prepared.item_features.num_features:,} features")
    print("counting the rows that rings send")
    sent_in_ring = traffic_study.ring_rows(config, prepared)
    cells: list[dict[str, Any]] = []
    for dimension in options.dimensions:
        print(f"dimension {dimension}")
        cells += count(config, prepared, dimension, sent_in_ring)
    report({"traffic": cells, "quality": qualities}, options.output)
    told = f"{len(prepared.vocabulary):,} items, {prepared.item_features.num_features:,} feature values"
    protocol = f"{config.data.source} ({told}), {options.config.stem}; bytes of a device and round, both ways"
    measurement.show(in_short(name, protocol, cells), options.readme)


def count(
    config: configs.TwoTowerConfig, prepared: "Prepared", dimension: int, sent_in_ring: int
) -> list[dict[str, Any]]:
    """Every way to train at one dimension: bytes by part and what the device computes."""
    from tff_rec.simulation import traffic_study

    records: list[dict[str, Any]] = []
    for way in traffic_study.ways(config, prepared, dimension, sent_in_ring):
        records.append({"dimension": dimension, "way": way.name, **parts(way.traffic), "total": way.traffic.total})
        records[-1] |= {"multiply_adds": way.compute.multiply_adds, "milliseconds": way.compute.milliseconds}
    unsplit = records[0]
    for record in records:
        record["times_fewer_bytes"] = unsplit["total"] / record["total"]
        record["times_fewer_multiply_adds"] = unsplit["multiply_adds"] / record["multiply_adds"]
        record["times_less_time"] = unsplit["milliseconds"] / record["milliseconds"]
    return records


def in_short(name: str, protocol: str, cells: list[dict[str, Any]]) -> "Measurement":
    """Unsplit training and requested rows, the last four ways, by dimension; and how much less rows are."""
    from tff_rec.report.measurement import Measurement
    from tff_rec.simulation.traffic_study import NARROW, OF_ROWS, OF_TABLES, RING

    ways = list(dict.fromkeys(cell["way"] for cell in cells))
    rows = ways[-4:]
    sized = [way for way in (UNSPLIT, NARROW, rows[0]) if way in ways]
    by_place = {(cell["dimension"], cell["way"]): cell for cell in cells}
    lines: list[tuple[str | float, ...]] = []
    for dimension in dict.fromkeys(cell["dimension"] for cell in cells):
        sizes = [by_place[dimension, way]["total"] / 1e3 for way in sized]
        fewer = [by_place[dimension, way]["times_fewer_bytes"] for way in rows]
        computed = [by_place[dimension, rows[0]][name] for name in ("times_fewer_multiply_adds", "times_less_time")]
        lines.append((str(dimension), *sizes, *fewer, *computed))
    fewer_bytes = ("times fewer bytes", *(f"under a {way}" for way in (OF_ROWS, OF_TABLES, RING)))
    columns = ("d", *(f"{way}, kB" for way in sized), *fewer_bytes, "times fewer multiply-adds", "times less time")
    return Measurement(name, protocol, columns, tuple(lines))


def parts(traffic: "Traffic") -> dict[str, int]:
    """Bytes by direction and part."""
    directions = {"down": traffic.down, "up": traffic.up, "to peers": traffic.peers}
    return {f"{name}: {part}": size for name, sizes in directions.items() for part, size in sizes.items()}


def quality(run: pathlib.Path) -> dict[str, Any]:
    """Test metrics of a finished run and its bytes."""
    from tff_rec.simulation.run_folder import RunFolder

    config = toml_file.read_toml(run / configs.CONFIG_FILE, configs.TwoTowerConfig)
    records = RunFolder(run).records()
    tested = [record for record in records if "test" in record]
    if not tested:
        raise InputError(f"--runs {run} has no test metrics: it is not finished, or has --split none.")
    sizes = next(record for record in records if "bytes_down" in record)
    return {
        "run": run.name,
        "items": config.transport.items,
        "coding": config.transport.coding,
        "aggregation": config.training.aggregation,
        "dimension": config.model.dimension,
        "seed": config.seed,
        "total": sizes["bytes_down"] + sizes["bytes_up"] + sizes["bytes_to_peers"],
        "HR@10 %": 100 * tested[-1]["test"]["hit_rate_10"],
        "NDCG@10 %": 100 * tested[-1]["test"]["ndcg_10"],
    }


def report(tables: dict[str, list[dict[str, Any]]], output: pathlib.Path) -> None:
    """Prints the tables and writes them."""
    import pandas as pd

    from tff_rec.simulation.run_folder import write_text

    write_text(output / "traffic.json", json.dumps(tables, indent=1))
    text = [_table(pd.DataFrame(tables["traffic"]))]
    if tables["quality"]:
        runs = pd.DataFrame(tables["quality"])
        runs["NDCG@10 lost %"] = 100 * (1 - runs["NDCG@10 %"] / runs["NDCG@10 %"].iloc[0])
        text.append(_table(runs))
    else:
        text.append("quality: not run; give finished runs with --runs")
    write_text(output / "traffic.md", "\n\n".join(text) + "\n")
    print("\n" + "\n\n".join(text) + f"\n\ntables are in {output}\n")


def _table(frame: "pd.DataFrame") -> str:
    """Markdown; byte columns in kB."""
    frame = frame.copy()
    for column in frame.columns:
        if column == "total" or column.split(":")[0] in ("down", "up", "to peers"):
            frame[column] = (frame[column] / 1e3).map("{:,.1f}".format).replace("nan", "")
            frame = frame.rename(columns={column: f"{column}, kB"})
        elif frame[column].dtype == float:
            frame[column] = frame[column].map("{:,.2f}".format)
        elif frame[column].dtype == int:
            frame[column] = frame[column].map("{:,}".format)
    rows = [list(frame.columns), ["---"] * len(frame.columns), *frame.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


if __name__ == "__main__":
    cli.run(main, TrafficOptions, __doc__)
