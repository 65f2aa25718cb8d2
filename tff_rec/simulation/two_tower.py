"""The main job: from raw files to a trained, judged and exported two-tower model, in one run folder."""

from typing import Any

import numpy as np
import tensorflow as tf
from rich.console import Console

from tff_rec.evaluation import baselines, ranking, recommenders
from tff_rec.federated.communication import Traffic
from tff_rec.models.two_tower import TwoTower
from tff_rec.serving import export
from tff_rec.simulation import assembly, device_traffic, display, execution, plots, privacy_ledger, rounds
from tff_rec.simulation.checkpoints import Progress
from tff_rec.simulation.config import TwoTowerConfig
from tff_rec.simulation.preparation import Prepared
from tff_rec.simulation.privacy_ledger import Ledger
from tff_rec.simulation.run_folder import RunFolder

_CHECKED_USERS = 256


def simulate(config: TwoTowerConfig, prepared: Prepared, folder: RunFolder, console: Console) -> None:
    """Trains, looks at test once, exports and checks the export.

    Args:
        config: The run.
        prepared: Its data.
        folder: Where everything goes.
        console: Where progress is shown.
    """
    model, progress, ledger = train(config, prepared, folder, console)
    record: dict[str, Any] = {"round": progress.rounds, "best_round": progress.best_round}
    if ledger is not None:
        record |= ledger.record(progress.rounds)
    if config.judged:
        record |= _judge(config, prepared, model, console, ledger.describe(progress.rounds) if ledger else "")
        folder.append(record)
    plots.plot_run(folder.records(), f"{prepared.data.name}, {config.model.tower} tower, {config.split}", folder.plot)
    _export(config, prepared, model, folder, console)
    console.print(f"run folder: {folder.path}", soft_wrap=True)


def train(
    config: TwoTowerConfig, prepared: Prepared, folder: RunFolder, console: Console
) -> tuple[TwoTower, Progress, Ledger | None]:
    """Trains; arguments as of `simulate`.

    Returns:
        The model under the weights that validation chose, where training stands, and what privacy it cost.
    """
    training = config.training
    ledger = privacy_ledger.open_ledger(
        config.privacy, len(prepared.trainable_users), training.clients_per_round, training.rounds
    )
    with execution.running():
        model, progress = _train(config, prepared, folder, console, ledger)
    rounds.end(model, progress, console, ledger)
    return model, progress, ledger


def _train(
    config: TwoTowerConfig, prepared: Prepared, folder: RunFolder, console: Console, ledger: Ledger | None
) -> tuple[TwoTower, Progress]:
    model = assembly.build_model(config, len(prepared.vocabulary), prepared.item_features, prepared.popularity)
    process = assembly.build_process(config, model, ledger)
    checkpoints, progress = rounds.begin(
        config, process, folder, console, ledger, averaging=config.training.averaging_rounds > 0
    )
    traffic = device_traffic.traffic(config, prepared, model)
    shown = display.RoundDisplay(
        console, config.training.rounds, progress.rounds, config.training.clients_per_round, traffic.describe()
    )
    if config.training.aggregation == "secure" and config.transport.items != "table":
        console.print("bytes up are those of a secure sum of rows, which is not built; TFF's adds whole tables")
    writer = tf.summary.create_file_writer(str(folder.tensorboard))
    if ledger is not None:
        console.print(ledger.announcement(), soft_wrap=True)
    with shown.running(), writer.as_default():
        for done in rounds.train(config, prepared, model, process, progress, checkpoints, ledger):
            spent = shown.account(ledger, done.number, done.validation is not None) | shown.clip(done.clip_norms)
            shown.show(done)
            folder.append(_record(done, config, traffic) | spent)
            _write_summaries(done)
    if progress.rounds < config.training.rounds:
        console.print(
            f"stopped after round {progress.rounds}: validation NDCG@10 was best after round {progress.best_round}"
        )
    return model, progress


def _record(done: rounds.Round, config: TwoTowerConfig, traffic: Traffic) -> dict[str, Any]:
    record: dict[str, Any] = {
        "round": done.number,
        "loss": done.loss,
        "ms_per_user": 1000 * done.seconds / config.training.clients_per_round,
        "bytes_down": sum(traffic.down.values()),
        "bytes_up": sum(traffic.up.values()),
        "bytes_to_peers": sum(traffic.peers.values()),
    }
    if config.transport.minimum_requesters > 1:
        record["dropped_rows"] = done.dropped_rows
    if done.validation is not None:
        record["validation"] = done.validation.as_dict()
    return record


def _write_summaries(done: rounds.Round) -> None:
    tf.summary.scalar("loss", done.loss, step=done.number)
    if done.validation is not None:
        for name, value in done.validation.as_dict().items():
            tf.summary.scalar(f"validation/{name}", value, step=done.number)


def _judge(
    config: TwoTowerConfig, prepared: Prepared, model: TwoTower, console: Console, privacy: str
) -> dict[str, Any]:
    """The one look at test, beside popularity and, where the truth is known, the oracle; and what privacy it cost."""
    histories, held_out = rounds.histories_at_test(prepared), prepared.test.items
    ours = ranking.evaluate_two_tower(model, histories, held_out, config.model.max_length)
    users = prepared.test.users
    ranked = recommenders.rank(baselines.popularity(prepared.popularity), users, histories, held_out)
    popular = ranking.metrics_from_ranks(ranked.ranks)
    rows = {"popularity": popular.as_dict(), f"federated, {config.model.tower} tower": ours.as_dict()}
    record = {"test": ours.as_dict(), "popularity": popular.as_dict()}
    if prepared.truth is not None:
        best = baselines.oracle(prepared.truth, prepared.vocabulary, prepared.store.user_ids)
        oracle = ranking.metrics_from_ranks(recommenders.rank(best, users, histories, held_out).ranks)
        rows["oracle"] = oracle.as_dict()
        record["oracle"] = oracle.as_dict()
    title = f"test, {prepared.split.protocol}, {ours.users:,} users{', ' if privacy else ''}{privacy}"
    console.print(display.results_table(title, rows))
    if "oracle" in record:
        shares = [f"{100 * metrics.ndcg_10 / oracle.ndcg_10:.1f} %" for metrics in (ours, popular)]
        console.print(f"share of the oracle's NDCG@10: {shares[0]} (popularity: {shares[1]})")
    return record


def _export(config: TwoTowerConfig, prepared: Prepared, model: TwoTower, folder: RunFolder, console: Console) -> None:
    export.export_two_tower(
        model,
        prepared.vocabulary,
        prepared.popularity,
        prepared.titles(),
        folder.export,
        config.model.max_length,
        config.export.k,
    )
    count = min(_CHECKED_USERS, prepared.store.num_users)
    users = np.random.default_rng(config.seed).choice(prepared.store.num_users, count, replace=False)
    checked = export.check_export(folder.export, model, prepared.vocabulary, prepared.store.histories(users))
    console.print(f"export: reloaded, and its top {config.export.k} equals brute force for {checked} users")
