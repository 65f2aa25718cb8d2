"""Measures what a server learns from the item rows that devices ask for.

Compares fresh and persistent decoys, these also beside fresh rows and for windows of the history as in training, rows
with and without a minimum of requesters, and the whole table for everybody.

Writes attack.csv, popularity.csv, exposure.csv and audit.png to --output.
"""

import dataclasses
import math
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tff_rec import cli
from tff_rec.cli import DataOptions
from tff_rec.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from tff_rec.federated.requests import ItemSets
    from tff_rec.report.measurement import Measurement

NAMES = ("requests", "requests-popularity")
ROUNDS = (1, 2, 3, 10)
RHOS = (1.0, 4.0)
COHORTS = (10, 50, 100, 500)
COHORTS_DRAWN = 10
FEW = 20
FRESH_ROWS = 200
WINDOW = 100
LARGEST = 300_000_000  # Users times items: some 6 GB.
STYLES = {
    "fresh": "-o",
    "persistent": "--s",
    "persistent, fresh rows beside": "-.^",
    "persistent, random windows": ":d",
    "whole table": ":",
}


@dataclasses.dataclass(frozen=True)
class AuditOptions:
    """What to audit.

    Attributes:
        data: Whose interactions.
        output: Folder of the tables and the plot.
        seed: Of decoys, secrets and cohorts.
        users: Number of users, drawn at random; 0 takes all.
        minimum: Least number of requesters of a row that is released.
        readme: File whose table between <!-- measured requests --> and <!-- end of measured --> is written anew.
    """

    output: pathlib.Path
    data: DataOptions = dataclasses.field(default_factory=DataOptions)
    seed: int = 0
    users: int = 0
    minimum: int = 3
    readme: pathlib.Path | None = None


@dataclasses.dataclass(frozen=True)
class Way:
    """A way to ask for rows.

    Attributes:
        name: Of its rows in the table.
        asked: What devices ask for in a round.
        decoys: Where they ask for rows beside positives and decoys: which are decoys.
    """

    name: str
    asked: Callable[["np.random.Generator"], "ItemSets"]
    decoys: "ItemSets | None" = None


def main(options: AuditOptions) -> None:
    began = time.perf_counter()
    check(options)
    from tff_rec.report import measurement
    from tff_rec.simulation import run_folder

    for name in NAMES:
        measurement.check(name, options.readme)
    positives, item_ids = read_positives(options)
    if len(positives) < min(COHORTS):
        raise InputError(f"The audit draws cohorts of {min(COHORTS)} devices, and there are {len(positives)}.")
    run_folder.make_folder(options.output)
    num_items = len(item_ids)
    print(f"{options.data.source}: {len(positives):,} devices, {num_items:,} items, {len(positives.items):,} positives")
    tables = {
        "attack": audit_attack(positives, item_ids, options.seed),
        "popularity": audit_popularity(positives, item_ids, options.seed),
        "exposure": audit_exposure(positives, num_items, options.seed, options.minimum),
    }
    plot(tables, options.data.source, options.output / "audit.png")
    for name, table in tables.items():
        table.to_csv(options.output / f"{name}.csv", index=False)
    report(tables)
    protocol = f"{options.data.source}, {len(positives):,} devices, {num_items:,} items"
    for found in (counting_in_short(protocol, tables["attack"]), popularity_in_short(protocol, tables["popularity"])):
        print()
        measurement.show(found, options.readme)
    print(f"tables and plot are in {options.output}; {time.perf_counter() - began:.0f} s")


def check(options: AuditOptions) -> None:
    if options.seed < 0 or options.users < 0:
        raise InputError("--seed and --users must be 0 or more.")
    if options.minimum < 2:
        raise InputError(f"--minimum is {options.minimum}; give 2 or more, as the audit compares it with none.")
    if options.output.exists() and not options.output.is_dir():
        raise InputError(f"--output {options.output} is a file; give a folder.")


def read_positives(options: AuditOptions) -> tuple["ItemSets", tuple[str, ...]]:
    """Every interaction of every chosen user, and the ids of the items."""
    import numpy as np

    from tff_rec.data import clients, features, sources, splits
    from tff_rec.federated.requests import ItemSets

    rows = splits.no_split(sources.read_source(options.data.source, options.data.path)).train
    vocabulary = features.build_item_vocabulary(rows)
    store = clients.build_client_store(rows, vocabulary)
    sets = ItemSets(store.offsets, store.items)
    if options.users > len(sets):
        raise InputError(f"--users is {options.users}, and {options.data.source} has {len(sets)}; give at most that.")
    if options.users:
        chosen = np.random.default_rng(options.seed).choice(len(sets), options.users, replace=False)
        sets = sets.of(np.sort(chosen))
    cells = len(sets) * len(vocabulary)
    if cells > LARGEST:
        raise InputError(
            f"{options.data.source} has {len(sets):,} users and {len(vocabulary):,} items, too many for a table of "
            f"what each asked for; give --users {LARGEST // len(vocabulary)} or fewer."
        )
    return sets, vocabulary.item_ids


def secrets_of(num_devices: int, seed: int) -> list[bytes]:
    """Devices' secrets, those of a training with this seed."""
    from tff_rec.simulation.decoys import device_secret

    return [device_secret(seed, device) for device in range(num_devices)]


def audit_attack(positives: "ItemSets", item_ids: Sequence[str], seed: int) -> "pd.DataFrame":
    """AUC and F1 of the intersection attack after every number of rounds, on the positives that were asked for."""
    import numpy as np
    import pandas as pd

    from tff_rec.evaluation import request_attacks

    is_positive = request_attacks.membership(positives, len(item_ids))
    records = []
    for rho in RHOS:
        for way in attacked(positives, item_ids, rho, seed):
            rng, counts, rows = np.random.default_rng([seed, 1]), np.zeros(is_positive.shape, np.int16), 0
            for number in range(1, max(ROUNDS) + 1):
                asked = way.asked(rng)
                request_attacks.count_requests(counts, asked)
                rows += len(asked.items)
                if number in ROUNDS:
                    guessed = _guess(way.decoys, counts, is_positive, number)
                    records.append((way.name, rho, number, *guessed, 2 / (2 + rho), rows / number))
    for number in ROUNDS:
        everything = np.full(is_positive.shape, number, np.int16)
        guessed = _guess(None, everything, is_positive, number)
        records.append(("whole table", np.nan, number, *guessed, np.nan, is_positive.size))
    columns = ["decoys", "rho", "rounds", "auc", "auc against decoys", "f1", "at least", "2 / (2 + rho)", "rows"]
    table = pd.DataFrame(records, columns=columns)
    return table.assign(rows=table["rows"] / len(positives)).rename(columns={"rows": "rows a device and round"})


def _guess(
    decoys: "ItemSets | None", counts: "np.ndarray", is_positive: "np.ndarray", rounds: int
) -> tuple[float, float, float, int]:
    """AUC against all other rows that were asked for, AUC against decoys alone, F1, and the requests it takes."""
    from tff_rec.evaluation import request_attacks

    mine = is_positive & (counts > 0)
    guess = request_attacks.intersection_attack(counts, mine, rounds)
    if decoys is None:
        return guess.auc, guess.auc, guess.f1, guess.at_least
    hidden = mine | request_attacks.membership(decoys, counts.shape[1])
    among = request_attacks.intersection_attack(counts * hidden, mine, rounds)
    return guess.auc, among.auc, guess.f1, guess.at_least


def attacked(positives: "ItemSets", item_ids: Sequence[str], rho: float, seed: int) -> list[Way]:
    """Ways to ask for positives, or for a part of them, among decoys."""
    from tff_rec.federated import requests

    num_items, secrets = len(item_ids), secrets_of(len(positives), seed)
    kept = requests.persistent_decoys(positives, item_ids, rho, secrets)
    seeds = [(seed, device) for device in range(len(positives))]
    paired = requests.decoys_by_place(positives, kept, round(rho), seeds)

    def fresh(rng: "np.random.Generator") -> "ItemSets":
        return requests.shuffled_requests(positives, requests.fresh_decoys(positives, num_items, rho, rng), rng)

    def persistent(rng: "np.random.Generator") -> "ItemSets":
        again = requests.persistent_decoys(positives, item_ids, rho, secrets)
        return requests.shuffled_requests(positives, again, rng)

    return [
        Way("fresh", fresh),
        Way("persistent", persistent),
        Way(
            "persistent, fresh rows beside", lambda rng: _with_fresh_rows(positives, kept, num_items, rng), decoys=kept
        ),
        Way("persistent, random windows", lambda rng: _of_windows(positives, paired, rng)),
    ]


def _with_fresh_rows(
    positives: "ItemSets", decoys: "ItemSets", num_items: int, rng: "np.random.Generator"
) -> "ItemSets":
    """Positives, decoys and uniform draws, each once, as `models.requested_softmax` asks for them."""
    import numpy as np

    from tff_rec.federated import requests

    drawn = rng.integers(num_items, size=(len(positives), FRESH_ROWS))
    parts = ((positives[device], decoys[device], rows) for device, rows in enumerate(drawn))
    return requests.item_sets([np.unique(np.concatenate(part)) for part in parts])


def _of_windows(positives: "ItemSets", paired: "np.ndarray", rng: "np.random.Generator") -> "ItemSets":
    """A random window of each device's positives, and the decoys that go with them (int32 [positives, ρ])."""
    import numpy as np

    from tff_rec.federated import requests

    begins = positives.offsets[:-1] + rng.integers(np.maximum(positives.sizes() - WINDOW, 0), endpoint=True)
    windows = map(slice, begins, np.minimum(begins + WINDOW, positives.offsets[1:]))
    asked = [np.append(positives.items[window], paired[window]) for window in windows]
    return requests.item_sets([items[items >= 0] for items in asked])


def audit_popularity(positives: "ItemSets", item_ids: Sequence[str], seed: int) -> "pd.DataFrame":
    """AUC of a server that orders what was asked for once by public popularity."""
    import numpy as np
    import pandas as pd

    from tff_rec.evaluation import request_attacks
    from tff_rec.federated import requests

    num_items = len(item_ids)
    is_positive = request_attacks.membership(positives, num_items)
    popularity = np.bincount(positives.items, minlength=num_items)
    secrets, rng = secrets_of(len(positives), seed), np.random.default_rng([seed, 2])
    records = []
    for rho in RHOS:
        for name, weights in (("uniform", None), ("by popularity", requests.popularity_weights(popularity))):
            decoys = requests.persistent_decoys(positives, item_ids, rho, secrets, weights)
            counts = np.zeros(is_positive.shape, np.int16)
            request_attacks.count_requests(counts, requests.shuffled_requests(positives, decoys, rng))
            records.append((name, rho, request_attacks.popularity_auc(counts, is_positive, popularity)))
    everything = np.ones(is_positive.shape, np.int16)
    records.append(("whole table", np.nan, request_attacks.popularity_auc(everything, is_positive, popularity)))
    return pd.DataFrame(records, columns=["persistent decoys", "rho", "auc knowing popularity"])


def audit_exposure(positives: "ItemSets", num_items: int, seed: int, minimum: int) -> "pd.DataFrame":
    """Positives exposed by rows with one requester, with few positives a device and with all of them."""
    import numpy as np
    import pandas as pd

    from tff_rec.evaluation import request_attacks
    from tff_rec.federated import requests

    rng = np.random.default_rng([seed, 3])
    few = requests.item_sets([rng.permutation(positives[device])[:FEW] for device in range(len(positives))])
    records = []
    for label, sets in ((f"at most {FEW}", few), ("all", positives)):
        for rho in RHOS:
            for size in [size for size in COHORTS if size <= len(sets)]:
                cohorts = []
                for _ in range(COHORTS_DRAWN):
                    own = sets.of(rng.choice(len(sets), size, replace=False))
                    cohorts.append((own, requests.item_sets(_asked(own, num_items, rho, rng))))
                without = request_attacks.single_requester_exposure(cohorts, num_items)
                held = request_attacks.single_requester_exposure(cohorts, num_items, minimum)
                records.append((label, rho, size, without.exposed, held.exposed, held.lost, held.rows_dropped))
    columns = ["positives", "rho", "cohort", "exposed", f"exposed, minimum {minimum}", "positives lost", "rows dropped"]
    return pd.DataFrame(records, columns=columns)


def _asked(own: "ItemSets", num_items: int, rho: float, rng: "np.random.Generator") -> list["np.ndarray"]:
    from tff_rec.federated import requests

    asked = requests.shuffled_requests(own, requests.fresh_decoys(own, num_items, rho, rng), rng)
    return [asked[device] for device in range(len(asked))]


def counting_in_short(protocol: str, attack: "pd.DataFrame") -> "Measurement":
    """AUC, of positives against decoys, and F1 of each way, by rounds."""
    from tff_rec.report.measurement import Measurement

    rows: list[tuple[str | float, ...]] = []
    for (decoys, rho), found in attack[attack["decoys"] != "whole table"].groupby(["decoys", "rho"], sort=False):
        pairs = zip(found["auc against decoys"], found["f1"], strict=True)
        rows.append((str(decoys), f"{rho:g}", *(f"{auc:.3f} / {f1:.3f}" for auc, f1 in pairs)))
    rounds = (f"AUC / F1 after {number} round{'s' * (number > 1)}" for number in ROUNDS)
    return Measurement(NAMES[0], protocol, ("decoys", "ρ", *rounds), tuple(rows))


def popularity_in_short(protocol: str, popularity: "pd.DataFrame") -> "Measurement":
    """AUC of the items' popularity, by way and ρ."""
    from tff_rec.report.measurement import Measurement

    found = popularity.itertuples(index=False)
    rows = tuple((str(way), "" if math.isnan(rho) else f"{rho:g}", float(auc)) for way, rho, auc in found)
    return Measurement(
        NAMES[1], protocol, ("persistent decoys", "ρ", "AUC of popularity, positives against all else asked for"), rows
    )


def plot(tables: dict[str, "pd.DataFrame"], source: str, path: pathlib.Path) -> None:
    """AUC and F1 against rounds, what popularity adds, and exposure against the size of the cohort."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(11, 8), layout="constrained")
    figure.suptitle(f"{source}: what the server learns from requests")
    for (decoys, rho), rows in tables["attack"].groupby(["decoys", "rho"], sort=False, dropna=False):
        whole = decoys == "whole table"
        label, color = ("whole table", "black") if whole else (f"{decoys}, ρ = {rho:g}", f"C{RHOS.index(rho)}")
        for axis, metric in zip(axes[0], ("auc against decoys", "f1"), strict=True):
            axis.plot(rows["rounds"], rows[metric], STYLES[str(decoys)], color=color, markersize=4, label=label)
    axes[0, 0].set(xlabel="rounds", ylabel="AUC of counting, positives and decoys", ylim=(0.4, 1.02))
    axes[0, 1].set(xlabel="rounds", ylabel="best F1 of “asked for at least k times”", ylim=(0, 1.02))
    known = tables["popularity"]
    pairs = zip(known.iloc[:, 0], known["rho"], strict=True)
    names = [name if name == "whole table" else f"{name}\nρ = {rho:g}" for name, rho in pairs]
    axes[1, 0].bar(names, known.iloc[:, -1], color="0.6")
    axes[1, 0].axhline(0.5, color="black", linewidth=1)
    axes[1, 0].set(ylabel="AUC of popularity, one request", xlabel="persistent decoys", ylim=(0, 1.02))
    for (positives, rho), rows in tables["exposure"].groupby(["positives", "rho"], sort=False):
        style = "-o" if positives == "all" else "--s"
        label, color = f"{positives} positives a device, ρ = {rho:g}", f"C{RHOS.index(rho)}"
        axes[1, 1].plot(rows["cohort"], 100 * rows["exposed"], style, color=color, markersize=4, label=label)
    axes[1, 1].axhline(0, color="black", linestyle=":", label="with the minimum")
    sizes = tables["exposure"]["cohort"].unique()
    axes[1, 1].set(xlabel="devices in the cohort", ylabel="positives in rows of one requester (%)", xscale="log")
    axes[1, 1].set_xticks(sizes, map(str, sizes))
    axes[1, 1].minorticks_off()
    for axis in (axes[0, 0], axes[1, 1]):  # The first two axes share one legend.
        axis.legend(fontsize="small")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def report(tables: dict[str, "pd.DataFrame"]) -> None:
    """Prints the tables."""
    titles = {
        "attack": "guessing positives by counting requests",
        "popularity": "guessing positives from one request and the items' popularity",
        "exposure": "rows with a single requester, fresh decoys, share of positives",
    }
    for name, title in titles.items():
        print(f"\n{title}\n{tables[name].to_string(index=False, float_format='{:.3f}'.format, na_rep='')}")


if __name__ == "__main__":
    cli.run(main, AuditOptions, __doc__)
