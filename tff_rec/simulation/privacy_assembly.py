"""From options of privacy to what both recommenders' processes take: the noise of the server or of devices."""

from tff_rec.errors import InputError
from tff_rec.federated import adaptive_clipping, aggregators, contributions, noise_shrinkage, privacy
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
        query_clip_norm: Of what is sent of the query or rating tower (`sent_norm`).
        item_clip_norm: Of what is sent of the item part.
        clients_per_round: Users of a cohort, with Poisson sampling in the mean.
        seed: Of the run.

    Raises:
        InputError: The server should add noise, and there is no ledger: the caller trains without accounting.
    """
    if not options.central:
        return inner
    ledger = accounted(ledger)
    if query_clip_norm is None or item_clip_norm is None:
        raise ValueError("A user without a bound has no privacy: give both clip norms.")
    noised = privacy.NoisedMeanFactory(
        inner,
        parts(options, query_clip_norm, item_clip_norm),
        ledger.noise_multiplier,
        clients_per_round,
        seed,
        privacy.tree_noise(ledger.populations[0].rounds_per_epoch)
        if options.mechanism == "tree"
        else privacy.independent_noise,
    )
    if not options.shrinkage:
        return noised
    shrinkage = noise_shrinkage.Shrinkage(options.shrinkage, options.shrinkage_momentum)
    return noise_shrinkage.ShrunkMeanFactory(noised, shrinkage)


def accounted(ledger: Ledger | None) -> Ledger:
    """The ledger; raises InputError where there is none: the caller trains without accounting."""
    if ledger is None:
        raise InputError("This program keeps no account of privacy; leave --privacy.mechanism at none.")
    return ledger


def parts(options: PrivacyConfig, query_clip_norm: float, item_clip_norm: float) -> dict[str, privacy.Part]:
    """The parts of a contribution with their bounds and shares of the budget."""
    norms = {
        "query": query_clip_norm,
        "items": item_clip_norm,
        "loss": options.loss_bound,
        adaptive_clipping.BELOW: adaptive_clipping.BELOW_NORM,
    }
    return {name: privacy.Part(norms[name], share) for name, share in options.shares.items()}


def sent_norm(options: PrivacyConfig, clip_norm: float | None) -> float | None:
    """Bound on what a device sends: the clip norm; or 1 where norms move and are the unit of what is sent."""
    return 1.0 if options.adaptive else clip_norm


def clipping(
    options: PrivacyConfig, query_clip_norm: float | None, item_clip_norm: float | None
) -> adaptive_clipping.AdaptiveClipping | None:
    """How clip norms move that begin as given; None where they are fixed."""
    if not options.adaptive or query_clip_norm is None or item_clip_norm is None:
        return None
    return adaptive_clipping.AdaptiveClipping(query_clip_norm, item_clip_norm, options.clip_quantile)


def upload_noise(
    options: PrivacyConfig, query_clip_norm: float | None, item_clip_norm: float | None
) -> contributions.UploadNoise | None:
    """Laplace noise of devices whose scale is a multiple of the clip norm; None for other mechanisms."""
    if options.mechanism != "local-laplace" or query_clip_norm is None or item_clip_norm is None:
        return None
    noise = options.noise_multiplier or 2.0 / (options.target_epsilon or 1.0)
    return privacy.laplace_uploads({"query": noise * query_clip_norm, "items": noise * item_clip_norm})
