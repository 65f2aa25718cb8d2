"""What an honest-but-curious server learns from the rows that devices ask for.

The intersection attack: a device asks for its positives each round, and for a decoy only when it was drawn. So the
server counts, and takes for positive what was asked for often enough: in every round, where rounds ask for all
positives, or in fewer, where a round asks for a part of them, as random windows of a history do. Items that were asked
for equally often look alike, and of m of them taken at random out of n, with p positives, the expected F1 is
2 m p / (n (m + p)), which grows with m: it takes all or none. One request, or requests that never change, give
2 / (2 + ρ): precision 1 / (1 + ρ), recall 1.

A server that knows more than counts guesses better: `popularity_auc` orders by popularity what was asked for equally
often.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np

from tff_rec.federated.requests import ItemSets, minimum_requesters


@dataclasses.dataclass(frozen=True)
class Guess:
    """How well positives are guessed, each a mean over devices.

    Attributes:
        auc: Probability that a positive was asked for more often than another item that was asked for, equals half.
            Devices that never asked for another item are left out; 0.5 where none is left.
        f1: Of the rule "positive is what was asked for at least so many times", the number being the same for all
            devices and the one for which F1 is largest, as if the attacker knew it.
        at_least: That number.
    """

    auc: float
    f1: float
    at_least: int


@dataclasses.dataclass(frozen=True)
class Exposure:
    """What rows asked for by a single device give away, and what holding them back costs.

    Attributes:
        exposed: Share of (device, positive) pairs whose row has no other requester and is released: the row's "sum" is
            that device's gradient, whose sign tells positive from decoy.
        lost: Share of (device, positive) pairs whose row is held back, so that it does not train.
        rows_dropped: Mean number of rows held back a round.
    """

    exposed: float
    lost: float
    rows_dropped: float


def count_requests(counts: np.ndarray, requests: ItemSets) -> None:
    """Adds a round's requests to int32 [devices, items], in place."""
    devices = np.repeat(np.arange(len(requests)), requests.sizes())
    counts[devices, requests.items] += 1


def membership(sets: ItemSets, num_items: int) -> np.ndarray:
    """bool [devices, items]: whether a device has an item."""
    result = np.zeros((len(sets), num_items), bool)
    result[np.repeat(np.arange(len(sets)), sets.sizes()), sets.items] = True
    return result


def intersection_attack(counts: np.ndarray, is_positive: np.ndarray, rounds: int) -> Guess:
    """The attack after some rounds.

    Args:
        counts: int32 [devices, items], how often each row was asked for.
        is_positive: bool [devices, items]; each device has a positive at least.
        rounds: Number of rounds counted.
    """
    positives, others = _histograms(counts, is_positive, rounds)
    others[:, 0] = 0
    below = np.cumsum(others, axis=1) - others
    wins = np.sum(positives * (below + others / 2), axis=1)
    pairs = positives.sum(axis=1) * others.sum(axis=1)
    auc = float(np.mean(wins[pairs > 0] / pairs[pairs > 0])) if np.any(pairs) else 0.5
    found, mistaken = (np.cumsum(counted[:, ::-1], axis=1)[:, ::-1] for counted in (positives, others))
    f1 = np.mean(2 * found / (positives.sum(axis=1, keepdims=True) + found + mistaken), axis=0)
    at_least = 1 + int(np.argmax(f1[1:]))
    return Guess(auc, float(f1[at_least]), at_least)


def popularity_auc(counts: np.ndarray, is_positive: np.ndarray, popularity: np.ndarray) -> float:
    """AUC, as `Guess.auc`, of ordering by count and then by popularity.

    Args:
        counts: int32 [devices, items].
        is_positive: bool [devices, items].
        popularity: [items], number of devices that have each item. The attacked device itself is left out of it.
    """
    aucs = []
    for count, mine in zip(counts, is_positive, strict=True):
        asked = count > 0
        labels = mine[asked]
        num_positives, num_others = np.sum(labels), np.sum(~labels)
        if num_positives and num_others:
            others_have = popularity[asked] - labels
            scores = count[asked] + others_have / (1.0 + np.max(popularity))
            ordered = np.sort(scores[~labels])
            wins = sum(np.sum(np.searchsorted(ordered, scores[labels], side)) for side in ("left", "right")) / 2
            aucs.append(wins / (num_positives * num_others))
    return float(np.mean(aucs)) if aucs else 0.5


def single_requester_exposure(
    cohorts: Iterable[tuple[ItemSets, ItemSets]], num_items: int, minimum: int = 1
) -> Exposure:
    """Exposure by rows with a single requester, over some cohorts.

    Args:
        cohorts: Positives and requests of each cohort's devices.
        num_items: Size of the catalogue.
        minimum: Requesters that a row needs to be released; 1 releases all.
    """
    exposed, lost, total, dropped = 0, 0, 0, []
    for positives, requests in cohorts:
        release = minimum_requesters(requests, num_items, minimum)
        requesters, released = release.requesters[positives.items], release.released[positives.items]
        exposed += int(np.sum((requesters == 1) & released))
        lost += int(np.sum(~released))
        total += len(positives.items)
        dropped.append(release.dropped)
    return Exposure(exposed / max(total, 1), lost / max(total, 1), float(np.mean(dropped)) if dropped else 0.0)


def _histograms(counts: np.ndarray, is_positive: np.ndarray, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """int64 [devices, rounds + 1] of positives and of others: items that each device asked for 0, 1, … times."""
    devices = np.arange(len(counts))[:, np.newaxis]
    codes = ((devices * (rounds + 1) + counts) * 2 + is_positive).ravel()
    histograms = np.bincount(codes, minlength=len(counts) * (rounds + 1) * 2).reshape(len(counts), rounds + 1, 2)
    return histograms[:, :, 1], histograms[:, :, 0]
