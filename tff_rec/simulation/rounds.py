"""The round loop: cohorts in, metrics out; validation chooses, test is looked at once."""

import dataclasses
import time
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow_federated as tff
import tensorflow_recommenders as tfrs
from rich.console import Console

from tff_rec.data import clients
from tff_rec.evaluation import ranking
from tff_rec.federated import adaptive_clipping
from tff_rec.models import requested_softmax
from tff_rec.models.two_tower import TwoTower
from tff_rec.simulation import assembly, cohorts, decoys, execution
from tff_rec.simulation.checkpoints import Checkpoints, Progress
from tff_rec.simulation.config import RunConfig, TwoTowerConfig
from tff_rec.simulation.preparation import Prepared
from tff_rec.simulation.privacy_ledger import Ledger
from tff_rec.simulation.run_folder import RunFolder

ClipNorms = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Round:
    """What is known after a round.

    Attributes:
        number: Rounds done.
        loss: Mean training loss of the cohort, in nats.
        seconds: Wall time, cohort and evaluation excluded.
        validation: Metrics, after every `evaluation.every` rounds.
        dropped_rows: Rows of the item table whose gradients were dropped, as too few devices asked for them.
        clip_norms: Of the round, of `query` and `items`, where they move; else empty.
    """

    number: int
    loss: float
    seconds: float
    validation: ranking.RankingMetrics | None
    dropped_rows: int = 0
    clip_norms: ClipNorms = dataclasses.field(default_factory=dict)


def initial_progress(process: tff.learning.templates.LearningProcess, averaging: bool = False) -> Progress:
    """Nothing done yet; with room for a running mean of weights or without."""
    state = process.initialize()
    weights = _weights(process, state)
    return Progress(state=state, best_weights=weights, mean_weights=weights if averaging else [])


def begin(
    config: RunConfig,
    process: tff.learning.templates.LearningProcess,
    folder: RunFolder,
    console: Console,
    ledger: Ledger | None,
    averaging: bool = False,
) -> tuple[Checkpoints, Progress]:
    """Where a run begins: anew, or with --resume where its last checkpoint stands.

    With averaging it has room for a running mean of weights.

    Raises:
        InputError: The checkpoint does not fit the process, or had another noise than the ledger's.
    """
    checkpoints, progress = Checkpoints(folder.checkpoints), initial_progress(process, averaging)
    if config.resume:
        progress = checkpoints.restore(progress)
        folder.forget_after(progress.rounds)
        console.print(f"resuming after round {progress.rounds}")
        if ledger is not None:
            ledger.check_state(progress.state.aggregator)
    return checkpoints, progress


def end(model: tfrs.Model, progress: Progress, console: Console, ledger: Ledger | None) -> None:
    """Puts the best weights into the model of a run that has ended, and says what its rounds cost in privacy."""
    assign(model, progress.best_weights)
    if ledger is not None:
        console.print(f"privacy of {progress.rounds} rounds: {ledger.describe(progress.rounds)}", soft_wrap=True)


def train(
    config: TwoTowerConfig,
    prepared: Prepared,
    model: TwoTower,
    process: tff.learning.templates.LearningProcess,
    progress: Progress,
    checkpoints: Checkpoints,
    ledger: Ledger | None = None,
) -> Iterator[Round]:
    """Runs rounds until the last, or until validation stops improving; `progress` is brought up to date in place.

    Raises:
        InputError: The ledger's budget is spent, or integers are summed and training has diverged.
    """
    users = prepared.trainable_users
    patience = config.evaluation.patience if config.judged else 0
    blocks_of = block_source(config, prepared, model)
    while progress.rounds < config.training.rounds and not (patience and progress.looks_since_best >= patience):
        if ledger is not None:
            ledger.check(progress.rounds + 1)
        cohort = cohorts.cohort(config.privacy, users, config.training.clients_per_round, config.seed, progress.rounds)
        datasets = cohorts.datasets(blocks_of, cohort, users, progress.rounds, config.training.tff_clients)
        began = time.perf_counter()
        with execution.round_number(progress.rounds + 1):
            output = process.next(progress.state, datasets)
        seconds = time.perf_counter() - began
        progress.state, progress.rounds = output.state, progress.rounds + 1
        done = progress.rounds == config.training.rounds
        validation = None
        if config.training.averaging_rounds:
            progress.average(_weights(process, progress.state), config.training.averaging_rounds)
        if done or progress.rounds % config.evaluation.every == 0:
            judged = progress.mean_weights or _weights(process, progress.state)
            validation = look(config, prepared, model, judged, progress)
        loss, dropped = output.metrics["finalizer"]["loss"], 0
        if config.transport.minimum_requesters > 1:
            dropped = int(output.metrics["aggregator"]["dropped_rows"])
        yield Round(progress.rounds, float(loss), seconds, validation, dropped, clip_norms(output))
        if done or progress.rounds % config.checkpoint_every == 0:
            checkpoints.save(progress)


def clip_norms(output: tff.learning.templates.LearningProcessOutput) -> ClipNorms:
    """Clip norms of the round that gave the output, where they move; else none."""
    measured = output.metrics["finalizer"].get(adaptive_clipping.NORMS, {})
    return {name: float(norm) for name, norm in measured.items()}


def histories_at_test(prepared: Prepared) -> list[np.ndarray]:
    """Histories of the test users with their validation items."""
    later = dict(zip(prepared.validation.users.tolist(), prepared.validation.items.tolist(), strict=True))
    histories = prepared.store.histories(prepared.test.users)
    extra = [[later[user]] if later.get(user, -1) >= 0 else [] for user in prepared.test.users.tolist()]
    return [np.append(history, more).astype(np.int32) for history, more in zip(histories, extra, strict=True)]


def assign(model: tfrs.Model, weights: list[np.ndarray]) -> None:
    """Puts weights into the model, in the order of `trainable_weights`."""
    for variable, value in zip(model.trainable_weights, weights, strict=True):
        variable.assign(value)


def block_source(
    config: TwoTowerConfig, prepared: Prepared, model: TwoTower
) -> Callable[[np.ndarray, int], list[clients.Block]]:
    """From a cohort and a round to the blocks that the devices train on."""
    decoys_of = None
    if requested_softmax.DECOYS in model.objective.block_keys:
        decoys_of = decoys.decoys_of_rounds(
            config.transport, prepared.store, prepared.vocabulary.item_ids, prepared.popularity, config.seed
        )

    def blocks_of(cohort: np.ndarray, round_number: int) -> list[clients.Block]:
        blocks = clients.blocks(
            prepared.store,
            cohort,
            max_length=config.model.max_length + 1,
            users_per_block=assembly.users_per_block(config.training),
            random_window=config.training.random_window,
            shuffle_ties=config.training.shuffle_ties,
            seed=config.seed,
            round_number=round_number,
            beside={} if decoys_of is None else {requested_softmax.DECOYS: decoys_of(cohort, round_number)},
        )
        return list(blocks)

    return blocks_of


def _weights(process: tff.learning.templates.LearningProcess, state: object) -> list[np.ndarray]:
    return [np.asarray(value) for value in process.get_model_weights(state).trainable]


def look(
    config: TwoTowerConfig, prepared: Prepared, model: TwoTower, weights: list[np.ndarray], progress: Progress
) -> ranking.RankingMetrics | None:
    """Validation metrics of weights, which become the best if they are; None where nothing is held out."""
    if not config.judged:
        progress.best_weights, progress.best_round = weights, progress.rounds
        return None
    assign(model, weights)
    held_out = prepared.validation
    chosen = np.arange(len(held_out.users))
    if 0 < config.evaluation.users < len(chosen):
        chosen = np.sort(np.random.default_rng(config.seed).choice(chosen, config.evaluation.users, replace=False))
    metrics = ranking.evaluate_two_tower(
        model,
        prepared.store.histories(held_out.users[chosen]),
        held_out.items[chosen],
        config.model.max_length,
    )
    if metrics.ndcg_10 > progress.best_score:
        progress.best_weights, progress.best_round = weights, progress.rounds
        progress.best_score, progress.looks_since_best = metrics.ndcg_10, 0
    else:
        progress.looks_since_best += 1
    return metrics
