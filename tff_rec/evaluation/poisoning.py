"""A study of poisoning: some clients of each cohort push one item, under means that bound them or do not.

A malicious client ignores its history and sends the gradient that draws the item's vector along the mean query. Under
a norm bound it sends as much as the bound lets through. Robust means are over the sums of blocks of users (Yin et al.
2018, https://arxiv.org/abs/1803.01498), which a server sees only where it sees blocks: not under a secure sum.
"""

import collections
import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tff_rec.evaluation import ranking
from tff_rec.evaluation.attack_training import Combine, Recipe, Server, mean_of
from tff_rec.evaluation.attack_views import Device, Subject, Total, add
from tff_rec.evaluation.inference_attacks import queries_of

BOOST = 20.0
USERS_OF_BLOCK = 8


@dataclasses.dataclass(frozen=True)
class Exposure:
    """How a target stands with users who do not have it.

    Attributes:
        hit_rate_10: Share of them for whom it is among the first 10 of all items that they do not have.
        mean_rank: Its mean rank there, from 1.
    """

    hit_rate_10: float
    mean_rank: float


def exposure(subject: Subject, users: np.ndarray, target: int, max_length: int) -> Exposure:
    """Of an item under the subject's model; users who have it are passed over."""
    histories = [subject.histories[user] for user in users if target not in subject.histories[user]]
    ranks = ranking.two_tower_ranks(subject.model, histories, np.full(len(histories), target, np.int32), max_length)
    return Exposure(float(np.mean(ranks <= 10)), float(np.mean(ranks)))


def coordinate_median(totals: Sequence[Total]) -> Total:
    """The median over blocks of their means, number by number."""
    return _over_blocks(totals, lambda values: np.median(values, axis=0))


def trimmed_mean(share: float) -> Combine:
    """The mean over blocks of their means, number by number, without that share of them at either end."""

    def trim(values: np.ndarray) -> np.ndarray:
        cut = int(np.ceil(share * len(values)))
        return np.sort(values, axis=0)[cut : len(values) - cut].mean(axis=0)

    return lambda totals: _over_blocks(totals, trim)


def poison(
    subject: Subject,
    recipe: Recipe,
    users: np.ndarray,
    target: int,
    *,
    malicious_share: float,
    combine: Combine = mean_of,
    clipped: bool = False,
) -> None:
    """Trains the subject's model in place for some rounds more, with malicious clients among the cohort.

    Args:
        subject: Its clip norms bound everybody where `clipped`.
        recipe: How.
        users: int64, who takes part.
        target: The item that is pushed.
        malicious_share: Of each cohort; rounded.
        combine: From blocks to the mean.
        clipped: Whether contributions are bounded, malicious ones too.
    """
    device, server = Device(subject, clipped=clipped), Server(subject, recipe.learning_rate)
    rng = np.random.default_rng([subject.seed, 4])
    for number in range(recipe.rounds):
        cohort = rng.choice(users, min(recipe.cohort, len(users)), replace=False)
        bad = np.zeros(len(cohort), bool)
        bad[rng.choice(len(cohort), round(malicious_share * len(cohort)), replace=False)] = True
        table, query = server.sent()
        lie = _lie(device, cohort, target, clipped)
        totals = []
        for start in range(0, len(cohort), USERS_OF_BLOCK):
            part = slice(start, start + USERS_OF_BLOCK)
            honest, liars = cohort[part][~bad[part]], int(np.sum(bad[part]))
            sums = [device.sum_of(honest, number, table=table, query=query)] if len(honest) else []
            if liars:
                sums.append(tf.nest.map_structure(lambda value, liars=liars: liars * value, lie))
            totals.append(add(sums))
        server.step(combine(totals))


def _lie(device: Device, cohort: np.ndarray, target: int, clipped: bool) -> Total:
    """What a malicious client sends: the gradient on one row, against the mean query."""
    subject = device.subject
    histories = [subject.histories[user] for user in cohort]
    query = queries_of(subject.model, histories, max(map(len, histories))).mean(axis=0)
    norm = subject.item_clip_norm if clipped else BOOST * subject.item_clip_norm
    items = np.zeros([subject.num_items, len(query)], np.float32)
    items[target] = -norm * query / max(float(np.linalg.norm(query)), 1e-12)
    query_update = [(name, np.zeros(value.shape, np.float32)) for name, value in device.query_weights().items()]
    return {
        "query": collections.OrderedDict(query_update),
        "items": items,
        "loss": np.float32(0),
        "weight": np.float32(1),
    }


def _over_blocks(totals: Sequence[Total], reduce: Callable[[np.ndarray], np.ndarray]) -> Total:
    means = [mean_of([total]) for total in totals]
    return tf.nest.map_structure(lambda *values: reduce(np.stack(values)), *means)
