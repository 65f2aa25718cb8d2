"""From a record of interactions to a study of attacks: histories, models trained in every way, and what poisons one."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from tff_rec.data import clients, features, splits
from tff_rec.data.schema import InteractionData
from tff_rec.errors import InputError
from tff_rec.evaluation import attack_views as views
from tff_rec.evaluation import attacks, poisoning
from tff_rec.evaluation.attack_grid import Say, Study, model_with_noise
from tff_rec.evaluation.attack_training import Combine, Recipe, clip_norms, mean_of, train
from tff_rec.federated import privacy_accounting
from tff_rec.models import objectives, query_towers, two_tower
from tff_rec.models.candidate_tower import CandidateTower

EPSILONS = (1.0, 3.0, 8.0)
MALICIOUS = 0.05
_FEWEST_ITEMS = 5
_USERS_OF_CLIP_NORMS = 100
_HIDDEN = 64
_STDDEV = 0.1
TABLE = "table"
BuildModel = Callable[[], two_tower.TwoTower]


@dataclasses.dataclass(frozen=True)
class Size:
    """How large a study is.

    Attributes:
        users: Who are attacked, drawn at random, in whole cohorts; 0 for all.
        max_length: Items of a history, the newest.
        dimension: Of vectors.
        recipe: Of every training.
    """

    users: int
    max_length: int
    dimension: int
    recipe: Recipe


def noise_multipliers(members: int, recipe: Recipe) -> dict[float, float]:
    """The least noise multiplier for each ε, at δ = members^-1.1, for a recipe's rounds of Poisson cohorts."""
    delta = privacy_accounting.default_delta(members)
    share = min(recipe.cohort / members, 1.0)
    noise = privacy_accounting.noise_multiplier
    return {epsilon: noise(epsilon, recipe.rounds, share, delta) for epsilon in EPSILONS}


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A study ready to be attacked.

    Attributes:
        study: Who is attacked.
        noise_multipliers: By ε.
        build_model: A model of the study's shape, untrained.
    """

    study: Study
    noise_multipliers: Mapping[float, float]
    build_model: BuildModel


def prepare(data: InteractionData, attributes: Mapping[str, np.ndarray], size: Size, seed: int, say: Say) -> Prepared:
    """Trains all models of the grid, each on the same random half of the users.

    Args:
        data: All of it is histories; nothing is held out but half the users.
        attributes: bool by name, of the record's users in their order; what may be inferred of them.
        size: Of the study.
        seed: Of everything random.
        say: Is told of progress.

    Raises:
        InputError: There are fewer users than are to be attacked, or than two cohorts need.
    """
    rows = splits.no_split(data).train
    vocabulary = features.build_item_vocabulary(rows)
    store = clients.build_client_store(rows, vocabulary)
    known = [np.unique(store.history(user)) for user in range(store.num_users)]
    places = np.flatnonzero([_FEWEST_ITEMS <= len(items) < len(vocabulary) for items in known])
    _check(data.name, len(places), size)
    popularity, item_features = (
        features.popularity(rows, vocabulary),
        features.build_item_features(data, vocabulary, rows),
    )

    def build_model() -> two_tower.TwoTower:
        return _model(item_features, len(vocabulary), size.dimension, seed)

    attacked = (size.users or len(places)) // size.recipe.cohort * size.recipe.cohort
    rng = np.random.default_rng(seed)
    members = np.zeros(len(places), bool)
    members[rng.permutation(len(places))[: len(places) // 2]] = True
    histories = [store.history(user)[-size.max_length :] for user in places]
    multipliers = noise_multipliers(int(np.sum(members)), size.recipe)
    say("noise multipliers " + ", ".join(f"{value:.2f} (ε = {epsilon:g})" for epsilon, value in multipliers.items()))
    initial = views.Subject(build_model(), histories, popularity, seed=seed)
    subjects = _trained(initial, build_model, size.recipe, np.flatnonzero(members), multipliers, say)
    order = pd.Index(data.users["user_id"]).get_indexer(pd.Index(store.user_ids[places]))
    study = Study(
        subjects=subjects,
        steady=TABLE,
        users=rng.choice(len(places), attacked, replace=False),
        cohort=size.recipe.cohort,
        members=members,
        attributes={name: values[order] for name, values in attributes.items()},
        covers=attacks.matched_covers(histories, [known[place] for place in places], popularity, seed),
    )
    return Prepared(study, multipliers, build_model)


def poisoned(prepared: Prepared, recipe: Recipe, say: Say) -> dict[str, poisoning.Exposure]:
    """How a target that few have stands before, and after rounds in which clients push it, under various means."""
    study, subject = prepared.study, prepared.study.subject
    users, longest = np.flatnonzero(study.members), max(map(len, subject.histories))
    target = int(np.argsort(subject.popularity, kind="stable")[subject.num_items // 4])
    results = {"before": poisoning.exposure(subject, study.users, target, longest)}
    for name, (share, combine, clipped) in _MEANS.items():
        say(f"poisoning: {name}")
        victim = dataclasses.replace(subject, model=prepared.build_model())
        for variable, value in zip(victim.model.trainable_weights, subject.model.trainable_weights, strict=True):
            variable.assign(value)
        poisoning.poison(victim, recipe, users, target, malicious_share=share, combine=combine, clipped=clipped)
        results[name] = poisoning.exposure(victim, study.users, target, longest)
    return results


_MEANS: dict[str, tuple[float, Combine, bool]] = {
    "no malicious clients": (0.0, mean_of, False),
    "mean": (MALICIOUS, mean_of, False),
    "mean, clipped": (MALICIOUS, mean_of, True),
    "median of blocks": (MALICIOUS, poisoning.coordinate_median, False),
    "trimmed mean of blocks": (MALICIOUS, poisoning.trimmed_mean(0.4), False),
    "median of blocks, clipped": (MALICIOUS, poisoning.coordinate_median, True),
}


def _trained(
    initial: views.Subject,
    build_model: BuildModel,
    recipe: Recipe,
    members: np.ndarray,
    multipliers: Mapping[float, float],
    say: Say,
) -> dict[str, views.Subject]:
    """Every model of the grid; all subjects bound contributions by the median norms under the first one."""
    say(f"training '{TABLE}', {recipe.rounds} rounds of {recipe.cohort} of {len(members):,} users")
    table = train(initial, recipe, members)
    query_norm, item_norm = clip_norms(table, members[:_USERS_OF_CLIP_NORMS])
    bounded = dataclasses.replace(table, query_clip_norm=query_norm, item_clip_norm=item_norm)
    subjects = {TABLE: bounded}
    ways: dict[str, tuple[views.Decoys | None, float | None]] = {
        "own rows": (views.no_decoys, None),
        "fresh decoys": (views.fresh_decoys, None),
        "persistent decoys": (views.persistent_decoys, None),
    }
    ways |= {model_with_noise(epsilon): (None, multiplier) for epsilon, multiplier in multipliers.items()}
    for name, (decoys, multiplier) in ways.items():
        say(f"training '{name}'")
        start = dataclasses.replace(bounded, model=build_model())
        subjects[name] = train(start, recipe, members, decoys=decoys, noise_multiplier=multiplier)
    return subjects


def _model(item_features: features.ItemFeatures, num_items: int, dimension: int, seed: int) -> two_tower.TwoTower:
    """A bag tower without dropout and the whole softmax."""
    return two_tower.TwoTower(
        query_towers.BagQueryTower(dimension, hidden=_HIDDEN, seed=seed),
        CandidateTower(num_items, item_features.num_features, dimension, stddev=_STDDEV, seed=seed),
        item_features.indices,
        item_features.weights,
        objectives.FullSoftmax(),
        two_tower.equally,
    )


def _check(name: str, users: int, size: Size) -> None:
    if size.users > users:
        raise InputError(f"--users is {size.users}, and {name} has {users} to attack; give at most that.")
    if users < 2 * size.recipe.cohort:
        raise InputError(f"--cohort is {size.recipe.cohort}, and {users} users of {name} allow {users // 2} at most.")
