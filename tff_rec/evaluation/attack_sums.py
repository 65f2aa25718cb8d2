"""How the contributions of a cohort meet, and what of them is seen: uploads, sums, sums of rings, sums with noise.

Sums go through the encodings of `federated.aggregators` and `ring_aggregator`, and noise is that of `privacy`.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tff_rec.evaluation.attack_views import Device, Subject, View, bounds, view_of
from tff_rec.federated import aggregators, privacy, requests, ring_aggregator, secret_sharing
from tff_rec.federated.encoding import Encode

Sums = Callable[[Device, np.ndarray, int], Iterator[View]]
"""From devices, a cohort and a round to what the server sees."""


def each_upload(device: Device, cohort: np.ndarray, round_number: int) -> Iterator[View]:
    """No protection of sums: the server sees what each device sends."""
    for user in cohort:
        yield view_of(device, np.array([user]), round_number, device.sum_of(np.array([user]), round_number))


def plain_sum(device: Device, cohort: np.ndarray, round_number: int) -> Iterator[View]:
    """A sum over the cohort: of floats, or of integers that the device's `encode` makes, decoded."""
    total = device.total_of(cohort, round_number)
    if total["items"].dtype == np.int64:
        total = _decoded(device.subject, total)
    yield view_of(device, cohort, round_number, total)


def ring_sums(ring: secret_sharing.Ring) -> Sums:
    """One sum a ring, from the uploads of its members, whose masks cancel."""

    def views(device: Device, cohort: np.ndarray, round_number: int) -> Iterator[View]:
        for places in ring.groups(len(cohort)):
            uploads = device.sum_of(cohort[places], round_number)
            signed = tf.nest.map_structure(
                lambda value: secret_sharing.group_sum(np.asarray(value).view(np.uint64)[np.newaxis], ring), uploads
            )
            yield view_of(device, cohort[places], round_number, _decoded(device.subject, signed))

    return views


def noisy_sum(noise_multiplier: float) -> Sums:
    """The cohort's sum of clipped contributions with Gaussian noise: what is released.

    This is the view of whoever sees models, not of the server that adds the noise: that one has `plain_sum`.
    """

    def views(device: Device, cohort: np.ndarray, round_number: int) -> Iterator[View]:
        subject = device.subject
        rng = np.random.default_rng([subject.seed, round_number, 3])
        for view in plain_sum(device, cohort, round_number):
            total = add_noise({"items": view.items, "query": view.query}, subject, noise_multiplier, rng)
            yield dataclasses.replace(view, items=total["items"], query=total["query"])

    return views


def add_noise(
    total: dict[str, Any], subject: Subject, noise_multiplier: float, rng: np.random.Generator
) -> dict[str, Any]:
    """Noise on the `items` and `query` of a sum, by the standard deviations of `privacy.NoisedMeanFactory`."""
    norms = {"query": subject.query_clip_norm, "items": subject.item_clip_norm}
    parts = {name: privacy.Part(norm, 1 / len(norms)) for name, norm in norms.items()}
    inner = aggregators.SecureMeanFactory(bounds(subject))
    factory = privacy.NoisedMeanFactory(inner, parts, noise_multiplier, expected_users=1.0, seed=subject.seed)
    noised = {}
    for name in norms:
        numbers = sum(value.size for value in tf.nest.flatten(total[name]))
        deviation = factory.standard_deviation(name, numbers)
        noised[name] = tf.nest.map_structure(
            lambda value, deviation=deviation: value + deviation * rng.standard_normal(value.shape), total[name]
        )
    return noised


def held_back(sums: Sums, minimum: int) -> Sums:
    """Rows that fewer than `minimum` members asked for are struck from the sum."""

    def views(device: Device, cohort: np.ndarray, round_number: int) -> Iterator[View]:
        for view in sums(device, cohort, round_number):
            if view.asked is None:
                raise ValueError("Nobody asks for rows of a table that all receive: there is no minimum to meet.")
            release = requests.minimum_requesters(view.asked, device.subject.num_items, minimum)
            yield dataclasses.replace(view, items=np.where(release.released[:, np.newaxis], view.items, 0.0))

    return views


def secure_encode(subject: Subject) -> Encode:
    """As under TFF's secure sum."""
    return aggregators.SecureMeanFactory(bounds(subject)).encode


def ring_of(subject: Subject, group_size: int = 10, shares: int = 3) -> tuple[secret_sharing.Ring, Encode]:
    """A ring for clipped contributions, and what its devices do to theirs."""
    limit = bounds(subject)["weight"].limit
    ring = secret_sharing.Ring(limit, 1 << 16, shares, group_size)
    return ring, ring_aggregator.RingMeanFactory(bounds(subject), ring).encode


def _decoded(subject: Subject, total: dict[str, Any]) -> dict[str, Any]:
    points = bounds(subject)
    return {
        name: tf.nest.map_structure(lambda value, name=name: points[name].decode(tf.constant(value)).numpy(), part)
        for name, part in total.items()
    }
