"""From options of privacy to what both recommenders' processes take: the noise of the server or of devices."""

from tff_rec.errors import InputError
from tff_rec.federated import aggregators, contributions, privacy
from tff_rec.simulation.privacy_config import PrivacyConfig
from tff_rec.simulation.privacy_ledger import Ledger


def private_mean(
    options: PrivacyConfig,
    ledger: Ledger | None,
    inner: aggregators.UserSumFactory,
    *,
    query_clip_norm: float | None,
    item_clip_norm: float | None,
    clients_per_round: int,
    seed: int,
) -> aggregators.UserMeanFactory:
    """The aggregation with the noise of the ledger; `inner` as it is where the server adds none.

    Args:
        options: The mechanism and how the parts share the budget.
        ledger: Says how much noise.
        inner: From users to their sum.
        query_clip_norm: Of the query or rating tower.
        item_clip_norm: Of the item part.
        clients_per_round: Users of a cohort, with Poisson sampling in the mean.
        seed: Of the run.

    Raises:
        InputError: The server should add noise, and there is no ledger: the caller trains without accounting.
    """
    if not options.central:
        return inner
    if ledger is None or query_clip_norm is None or item_clip_norm is None:
        raise InputError("This program keeps no account of privacy; leave --privacy.mechanism at none.")
    norms = {"query": query_clip_norm, "items": item_clip_norm, "loss": options.loss_bound}
    return privacy.NoisedMeanFactory(
        inner,
        {name: privacy.Part(norm, options.shares[name]) for name, norm in norms.items()},
        ledger.noise_multiplier,
        clients_per_round,
        seed,
        privacy.tree_noise(ledger.rounds_per_epoch) if options.mechanism == "tree" else privacy.independent_noise,
    )


def upload_noise(
    options: PrivacyConfig, query_clip_norm: float | None, item_clip_norm: float | None
) -> contributions.UploadNoise | None:
    """Laplace noise of devices whose scale is a multiple of the clip norm; None for other mechanisms."""
    if options.mechanism != "local-laplace" or query_clip_norm is None or item_clip_norm is None:
        return None
    noise = options.noise_multiplier or 2.0 / (options.target_epsilon or 1.0)
    return privacy.laplace_uploads({"query": noise * query_clip_norm, "items": noise * item_clip_norm})
