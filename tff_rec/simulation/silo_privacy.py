"""Differential privacy of the tag-aware simulation's users: its account, and the steps of silos that add noise."""

import collections

import numpy as np

from tff_rec.data import clients, ratings
from tff_rec.federated import private_silos, silos, tag_aware
from tff_rec.models.tag_aware import TagAware
from tff_rec.models.two_tower import equally
from tff_rec.simulation import privacy_assembly, privacy_ledger
from tff_rec.simulation.privacy_ledger import Ledger
from tff_rec.simulation.rating_config import TagAwareConfig
from tff_rec.simulation.rating_preparation import PreparedRatings

_NOISE = 12


def open_ledger(config: TagAwareConfig, prepared: PreparedRatings) -> Ledger | None:
    """The ledger of a run, of users or of silos; None where it has no privacy.

    Raises:
        InputError: The rounds do not fit the budget.
    """
    training, silo = config.training, config.silo
    if not config.num_silos:
        users = len(prepared.training_users)
        return privacy_ledger.open_ledger(config.privacy, users, training.clients_per_round, training.rounds)
    sizes = [len(np.intersect1d(users, prepared.training_users)) for users in prepared.silos]
    return privacy_ledger.open_silo_ledger(config.privacy, sizes, silo.users_per_batch, silo.local_epochs, silo.rounds)


def mini_batches(config: TagAwareConfig, model: TagAware, ledger: Ledger) -> silos.MiniBatches:
    """Steps of silos that add the ledger's noise themselves."""
    options, privacy = config.silo, config.privacy
    assert options.row_clip_norm is not None and options.tower_clip_norm is not None
    local = tag_aware.LocalRatings(
        model.rating_tower,
        row_clip_norm=options.row_clip_norm,
        tower_clip_norm=options.tower_clip_norm,
        weighting=equally,
        loss_bound=privacy.loss_bound,
    )
    parts = privacy_assembly.parts(privacy, options.tower_clip_norm, options.row_clip_norm)
    return private_silos.private_batches(model, local, parts, ledger.noise_multiplier, options.users_per_batch)


def steps(config: TagAwareConfig, prepared: PreparedRatings, place: int, number: int) -> list[clients.Block]:
    """Steps of a silo in a round under differential privacy, each a Poisson sample of its users.

    Args:
        config: The run.
        prepared: Its data.
        place: Of the silo among all.
        number: Of the round, from 0.

    Returns:
        Blocks as `private_silos` takes them; that of a sample of nobody has one user without ratings.
    """
    users = np.intersect1d(prepared.silos[place], prepared.training_users)
    count = privacy_ledger.steps(len(users), config.silo.users_per_batch, config.silo.local_epochs)
    found: list[clients.Block] = []
    for step in range(number * count, (number + 1) * count):
        sample = clients.poisson_cohort(users, config.silo.users_per_batch, config.seed, step)
        blocks = ratings.rating_blocks(
            prepared.store,
            sample,
            users_per_block=max(1, len(sample)),
            max_ratings=config.training.max_ratings,
            seed=config.seed,
            round_number=step,
        )
        block = next(blocks, _nobody())
        key = np.random.SeedSequence([config.seed, _NOISE, place, step]).generate_state(2)
        found.append(collections.OrderedDict(block, **{private_silos.NOISE: key.view(np.int32)}))
    return found


def _nobody() -> clients.Block:
    return collections.OrderedDict(
        items=np.full([1, 1], -1, np.int32), ratings=np.zeros([1, 1], np.float32), seed=np.zeros([1], np.int32)
    )
