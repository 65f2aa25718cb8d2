"""The main job on ratings: from raw files to a trained, judged and exported tag-aware model, in one run folder."""

from typing import Any

import numpy as np
import tensorflow as tf
from rich.console import Console

from tff_rec.evaluation import ranking
from tff_rec.federated.communication import Traffic
from tff_rec.models.tag_aware import TagAware
from tff_rec.serving import rating_export
from tff_rec.simulation import (
    display,
    execution,
    rating_assembly,
    rating_plots,
    rating_predictions,
    rating_report,
    rating_rounds,
    rounds,
    silo_privacy,
)
from tff_rec.simulation.checkpoints import Progress
from tff_rec.simulation.privacy_ledger import Ledger
from tff_rec.simulation.rating_config import TagAwareConfig
from tff_rec.simulation.rating_preparation import PreparedRatings
from tff_rec.simulation.run_folder import RunFolder

_CHECKED_USERS = 256


def simulate(config: TagAwareConfig, prepared: PreparedRatings, folder: RunFolder, console: Console) -> None:
    """Trains, looks at test once, exports and checks the export.

    Args:
        config: The run.
        prepared: Its data.
        folder: Where everything goes.
        console: Where progress is shown.
    """
    model, progress, ledger = train(config, prepared, folder, console)
    spent = ledger.record(progress.rounds) if ledger else {}
    privacy = ledger.describe(progress.rounds) if ledger else ""
    if config.judged:
        record = {"round": progress.rounds, "best_round": progress.best_round}
        folder.append(record | _judge(config, prepared, model, console, privacy) | spent)
    rating_plots.plot_run(folder.records(), f"{prepared.data.name}, {clients_in_words(config)}", folder.plot)
    _export(config, prepared, model, folder, console)
    console.print(f"run folder: {folder.path}", soft_wrap=True)


def train(
    config: TagAwareConfig, prepared: PreparedRatings, folder: RunFolder, console: Console
) -> tuple[TagAware, Progress, Ledger | None]:
    """Trains; arguments as of `simulate`.

    Returns:
        The model under the weights that validation chose, where training stands, and what privacy it cost.
    """
    ledger = silo_privacy.open_ledger(config, prepared)
    with execution.running():
        model, progress = _train(config, prepared, folder, console, ledger)
    rounds.end(model, progress, console, ledger)
    return model, progress, ledger


def _train(
    config: TagAwareConfig, prepared: PreparedRatings, folder: RunFolder, console: Console, ledger: Ledger | None
) -> tuple[TagAware, Progress]:
    model = rating_assembly.build_model(config, prepared)
    process = rating_assembly.build_process(config, model, ledger)
    checkpoints, progress = rounds.begin(config, process, folder, console, ledger)
    traffic, users = rating_assembly.traffic(config, model), users_per_round(config, prepared)
    shown = display.RoundDisplay(console, config.server.rounds, progress.rounds, users, traffic.describe())
    writer, validation = tf.summary.create_file_writer(str(folder.tensorboard)), "-"
    data = rating_assembly.round_data(config, prepared)
    if ledger is not None:
        console.print(ledger.announcement(), soft_wrap=True)
    with shown.running(), writer.as_default():
        for done in rating_rounds.train(config, prepared, model, process, data, progress, checkpoints.save, ledger):
            looked = done.validation_rmse is not None
            if looked:
                validation = f"{done.validation_rmse:.4f}"
            words = f"training RMSE {done.loss**0.5:.4f}  validation RMSE {validation}"
            spent = shown.account(ledger, done.number, looked) | shown.clip(done.clip_norms)
            shown.update(done.number, done.seconds, words, looked)
            folder.append(_record(done, users, traffic) | spent)
            _write_summaries(done)
    if progress.rounds < config.server.rounds:
        console.print(
            f"stopped after round {progress.rounds}: validation RMSE was best after round {progress.best_round}"
        )
    return model, progress


def users_per_round(config: TagAwareConfig, prepared: PreparedRatings) -> int:
    """Users whose ratings a round trains on."""
    return len(prepared.training_users) if config.num_silos else config.training.clients_per_round


def clients_in_words(config: TagAwareConfig) -> str:
    """E.g. `each user a client` or `4 silos, random`."""
    return f"{config.clients} silos, {config.silos}" if config.num_silos else "each user a client"


def _record(done: rating_rounds.RatingRound, users: int, traffic: Traffic) -> dict[str, Any]:
    record: dict[str, Any] = {
        "round": done.number,
        "loss": done.loss,
        "ms_per_user": 1000 * done.seconds / users,
        "bytes_down": sum(traffic.down.values()),
        "bytes_up": sum(traffic.up.values()),
    }
    if done.validation_rmse is not None:
        record["validation_rmse"] = done.validation_rmse
    return record


def _write_summaries(done: rating_rounds.RatingRound) -> None:
    tf.summary.scalar("loss", done.loss, step=done.number)
    if done.validation_rmse is not None:
        tf.summary.scalar("validation/rmse", done.validation_rmse, step=done.number)


def _judge(
    config: TagAwareConfig, prepared: PreparedRatings, model: TagAware, console: Console, privacy: str
) -> dict[str, Any]:
    """The one look at test, beside baselines; and what privacy it cost."""
    console.print("tuning the baselines and judging on test")
    predictions = {
        f"federated, {clients_in_words(config)}": rating_predictions.build_predict(model)(
            prepared.store, prepared.test
        ),
        **rating_report.baseline_predictions(prepared),
    }
    scores = rating_report.score(config, prepared, predictions)
    title = f"test, {prepared.protocol}, {len(prepared.test.ratings):,} ratings{', ' if privacy else ''}{privacy}"
    console.print(rating_report.overall_table(title, scores))
    console.print(rating_report.groups_table("test RMSE of some ratings", scores))
    record: dict[str, Any] = {"protocol": prepared.protocol, "test": rating_report.as_record(scores)}
    if config.split == "loo":
        found = rating_predictions.ranks(model, prepared.store, prepared.test)
        metrics = ranking.metrics_from_ranks(found)
        console.print(f"{prepared.protocol}, by predicted rating: {metrics.describe()}", soft_wrap=True)
        record["ranking"] = metrics.as_dict()
    return record


def _export(
    config: TagAwareConfig, prepared: PreparedRatings, model: TagAware, folder: RunFolder, console: Console
) -> None:
    rating_export.export_tag_aware(
        model,
        prepared.vocabulary,
        prepared.popularity,
        prepared.titles(),
        folder.export,
        config.model.max_history,
        config.export.k,
    )
    store = prepared.store
    count = min(_CHECKED_USERS, store.num_users)
    users = np.random.default_rng(config.seed).choice(store.num_users, count, replace=False)
    owned = [slice(*store.offsets[user : user + 2]) for user in users]
    histories = [store.items[part] for part in owned]
    given = [store.ratings[part] for part in owned]
    checked = rating_export.check_export(folder.export, model, prepared.vocabulary, histories, given)
    console.print(f"export: reloaded, and its ratings and lists equal the model's for {checked} users")
