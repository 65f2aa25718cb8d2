"""Cells that rank items: how each way to recommend is fitted, tuned on validation and judged on test."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator

import numpy as np
from rich.console import Console
from scipy import sparse

from tff_rec.data import candidates, clients, ncf
from tff_rec.evaluation import (
    baselines,
    grids,
    item_baselines,
    never_drawn,
    ranking,
    ranking_quality,
    recommenders,
    tuning,
)
from tff_rec.evaluation.recommenders import Recommender
from tff_rec.evaluation.tuning import Settings, Tuned
from tff_rec.simulation import assembly, device_traffic, preparation, rounds, two_tower, two_tower_central
from tff_rec.simulation.config import CONFIG_FILE, TwoTowerConfig
from tff_rec.simulation.preparation import Prepared
from tff_rec.simulation.run_folder import find_run_folder
from tff_rec.simulation.study_cells import Curve, Judgement, Trained, epsilon_record, traffic_record
from tff_rec.simulation.study_config import Cell

_GOODNESS = "ndcg_10"
_DRAWS_OF_CANDIDATES = 0
TunedRecommender = Tuned[Trained[Recommender]]


def fit(cell: Cell, run_folder: pathlib.Path, console: Console) -> TunedRecommender:
    """Fits a cell's recommender, the best on validation (LOO-full NDCG@10) of its settings.

    Args:
        cell: Which.
        run_folder: Of a federated run; of several, begins their folders' names.
        console: Where progress is shown.

    Raises:
        InputError: The data is wrong or too small.
    """
    run = _two_tower(cell.run)
    prepared = _prepared(run)
    held_out = prepared.validation
    histories = prepared.store.histories(held_out.users)

    def judge_validation(trained: Trained[Recommender]) -> dict[str, float]:
        ranked = recommenders.rank(trained.model, held_out.users, histories, held_out.items)
        return _percent(ranking.metrics_from_ranks(ranked.ranks))

    settings = _candidates(cell, run_folder, console, prepared)
    return tuning.best(settings, judge_validation, lambda scores: scores[_GOODNESS])


def judge(cell: Cell, tuned: TunedRecommender) -> Judgement:
    """Looks at test: ranks among all items or among 99, and the lists of the whole catalogue."""
    run = _two_tower(cell.run)
    prepared = _prepared(run)
    test, histories = prepared.test, rounds.histories_at_test(prepared)
    among = _candidates_99(run, prepared, histories) if cell.table.protocol == "loo-99" else None
    ranked = recommenders.rank(tuned.model.model, test.users, histories, test.items, among)
    popularity = prepared.popularity
    return Judgement(
        metrics=dict(ranking_quality.intervals(ranked.ranks, seed=cell.seed)),
        users=len(ranked.ranks),
        values=ranked.ranks,
        owners=test.users,
        buckets={
            "popularity": ranking_quality.bucketed(ranked.ranks, test.items, popularity),
            "activity": ranking_quality.bucketed(ranked.ranks, test.users, prepared.store.lengths()),
        },
        coverage=ranking_quality.coverage(ranked.top, len(popularity)),
        popularity_bias=ranking_quality.popularity_bias(ranked.top, popularity),
    )


@functools.lru_cache(maxsize=2)  # Of a cell, and of one of its choices.
def _prepared(run: TwoTowerConfig) -> Prepared:
    return preparation.prepare(run)


def _candidates(
    cell: Cell, run_folder: pathlib.Path, console: Console, prepared: Prepared
) -> Iterator[tuple[Settings, Callable[[], Trained[Recommender]]]]:
    """Settings of a cell's way, and what fits it with them."""
    if cell.way in ("federated", "centralised"):
        for number, (settings, choice) in enumerate(cell.choices):
            run = _two_tower(choice)
            if cell.way == "centralised":
                yield settings, functools.partial(_centrally, run)
            else:
                own = run_folder if len(cell.choices) == 1 else run_folder.with_name(f"{run_folder.name}-{number}")
                yield settings, functools.partial(_federated, run, own, console)
    elif cell.way in grids.GRIDS:
        interactions = _interactions(prepared)
        for settings, build in item_baselines.candidates(cell.way, interactions, cell.seed, cell.row.grid):
            yield settings, functools.partial(_built, build)
    else:
        yield {}, functools.partial(_built, functools.partial(_untuned, cell, prepared))


def _built(build: Callable[[], Recommender]) -> Trained[Recommender]:
    return Trained(build())


def _untuned(cell: Cell, prepared: Prepared) -> Recommender:
    """A way without settings."""
    num_items = len(prepared.vocabulary)
    if cell.way == "popularity":
        return baselines.popularity(prepared.popularity)
    if cell.way == "device-alone":
        return baselines.device_alone(prepared.item_features)
    sampler = never_drawn.ours() if cell.way == "never-drawn" else never_drawn.as_published(_held_out(prepared))
    return never_drawn.build(sampler, prepared.store.histories, num_items, cell.seed)


def _held_out(prepared: Prepared) -> np.ndarray:
    """Validation and test item of each user of the store: int32 [users, 2], -1 for none."""
    items = np.full([prepared.store.num_users, 2], clients.PADDING, dtype=np.int32)
    for column, part in enumerate((prepared.validation, prepared.test)):
        items[part.users, column] = part.items
    return items


def _interactions(prepared: Prepared) -> sparse.csr_matrix:
    store = prepared.store
    ones = np.ones(len(store.items), dtype=np.float32)
    return sparse.csr_matrix((ones, store.items, store.offsets), shape=(store.num_users, len(prepared.vocabulary)))


def _federated(run: TwoTowerConfig, path: pathlib.Path, console: Console) -> Trained[Recommender]:
    """A run as scripts/simulate_two_tower.py makes it; one that was cut off goes on."""
    prepared = _prepared(run)
    run = dataclasses.replace(run, output=path, resume=(path / CONFIG_FILE).is_file())
    folder = find_run_folder(run)
    folder.begin(run)
    prepared = prepared.on_disk(folder.clients)
    model, progress, ledger = two_tower.train(run, prepared, folder, console)
    users = run.training.clients_per_round
    curve, seconds = [], 0.0
    for record in folder.records():
        seconds += record["ms_per_user"] * users / 1000
        if "validation" in record:
            sent = record["bytes_down"] + record["bytes_up"] + record["bytes_to_peers"]
            shares = record["round"] * users / len(prepared.trainable_users)
            looked = {"round": record["round"], "seconds": seconds, "bytes_per_device": sent * shares}
            curve.append(looked | {name: 100 * record["validation"][name] for name in ranking_quality.METRICS})
    traffic = device_traffic.traffic(run, prepared, model)
    return Trained(
        recommenders.two_tower(model, run.model.max_length),
        curve,
        traffic_record(traffic),
        epsilon_record(ledger, progress.rounds),
    )


def _centrally(run: TwoTowerConfig) -> Trained[Recommender]:
    prepared = _prepared(run)
    model = assembly.build_model(run, len(prepared.vocabulary), prepared.item_features, prepared.popularity)
    progress = two_tower_central.initial_progress(model)
    curve: Curve = []
    seconds = 0.0
    for done in two_tower_central.train(run, prepared, model, progress):
        seconds += done.seconds
        if done.validation is not None:
            curve.append(
                {"round": done.number, "seconds": seconds, "bytes_per_device": 0.0} | _percent(done.validation)
            )
    rounds.assign(model, progress.best_weights)
    return Trained(recommenders.two_tower(model, run.model.max_length), curve)


def _candidates_99(run: TwoTowerConfig, prepared: Prepared, histories: list[np.ndarray]) -> np.ndarray:
    """Published ones where the test items are, else drawn, the same for every seed."""
    if run.split == "ncf":
        users = prepared.store.user_ids[prepared.test.users]
        return candidates.published(ncf.read_published_test(), users, prepared.vocabulary)
    return candidates.drawn(histories, prepared.test.items, len(prepared.vocabulary), _DRAWS_OF_CANDIDATES)


def _percent(metrics: ranking.RankingMetrics) -> dict[str, float]:
    return {name: 100 * getattr(metrics, name) for name in ranking_quality.METRICS}


def _two_tower(run: object) -> TwoTowerConfig:
    assert isinstance(run, TwoTowerConfig), "A cell that ranks items is a two-tower run."
    return run
