"""Bytes that a device receives and sends in a round, by what they are, counted from the tensors of a process.

What travels in simulation is not what would travel: TFF clients are groups of devices, and secure sums are simulated.
Counted is what a device's part of the round is made of: the tensors in the coding they are sent in, ids of requested
rows, and on the way up numbers as wide as the sum of all devices' encoded values. Keys, signatures and headers of a
real protocol are not counted; nor is what it takes to agree on masks row by row, where devices that ask for different
rows send a secure sum no others.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tff_rec.federated import adaptive_clipping, stages, table_codings
from tff_rec.models.two_tower import TwoTower

FLOAT_BITS = 32
_ID_BYTES = 4
_LOSS_AND_WEIGHT = 2


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes of one device in one round, by part.

    Attributes:
        down: From the server.
        up: To the server.
        peers: To other devices; through the server where devices cannot reach each other.
    """

    down: Mapping[str, int]
    up: Mapping[str, int]
    peers: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def total(self) -> int:
        """All bytes that the device receives from the server or sends to anybody."""
        return sum(sum(part.values()) for part in (self.down, self.up, self.peers))

    def describe(self) -> str:
        """E.g. `1.04 MB down, 0.97 MB up`."""
        words = [f"{sum(self.down.values()) / 1e6:.3g} MB down", f"{sum(self.up.values()) / 1e6:.3g} MB up"]
        if self.peers:
            words.append(f"{sum(self.peers.values()) / 1e6:.3g} MB to peers")
        return ", ".join(words)


def split_traffic(
    model: TwoTower,
    coding: table_codings.TableCoding = table_codings.FLOAT32,
    requested_rows: int | None = None,
    number_bits: int = FLOAT_BITS,
    shares: int = 1,
    sent_rows: int | None = None,
) -> Traffic:
    """Traffic of a device in split training.

    Args:
        model: Its query tower travels, and vectors of items of its catalogue.
        coding: Item vectors on their way down.
        requested_rows: Item vectors that the device asks for; None for the whole table, which nobody asks for.
        number_bits: Width of a number on its way up: `FLOAT_BITS`; under secure aggregation what the sum of all users'
            encoded values needs.
        shares: Of the ring: a device sends all but one to peers, each as large as its upload.
        sent_rows: Rows of gradients that the device sends, zeros included; None for those that it received.
    """
    query = _numbers(stages.weight_shapes(model.query_tower))
    rows = model.candidate_tower.num_items if requested_rows is None else requested_rows
    gradients = (rows if sent_rows is None else sent_rows) * model.candidate_tower.dimension
    up = {
        "query tower": _packed(query, number_bits),
        "item gradients": _packed(gradients, number_bits),
        "loss and weight": _packed(_LOSS_AND_WEIGHT, number_bits),
    }
    peers = {"shares": (shares - 1) * sum(up.values())} if shares > 1 else {}
    if requested_rows is not None:
        up["requests"] = _ID_BYTES * requested_rows
    vectors = rows * _row_bytes(coding, model.candidate_tower.dimension)
    return Traffic({"query tower": 4 * query, "item vectors": vectors}, up, peers)


def with_released_rows(traffic: Traffic, requested_rows: int) -> Traffic:
    """Traffic with what a minimum of requesters adds: a bit a row, whether to send its gradient."""
    return Traffic({**traffic.down, "released rows": _packed(requested_rows, 1)}, traffic.up, traffic.peers)


def with_moving_norms(traffic: Traffic, number_bits: int = FLOAT_BITS, shares: int = 1) -> Traffic:
    """Traffic with what adaptive clipping adds: norms down, and up whether a device was below each of them."""
    norms = len(adaptive_clipping.PARTS)
    counts = _packed(norms, number_bits)
    peers = dict(traffic.peers)
    if shares > 1:
        peers["shares"] += (shares - 1) * counts
    return Traffic({**traffic.down, "clip norms": 4 * norms}, {**traffic.up, "below clip norms": counts}, peers)


def unsplit_traffic(model: TwoTower, number_bits: int = FLOAT_BITS) -> Traffic:
    """Traffic of a device in federated averaging of both towers; the catalogue's features are taken to be there."""
    query = _numbers(stages.weight_shapes(model.query_tower))
    candidate = _numbers(stages.weight_shapes(model.candidate_tower))
    return Traffic(
        {"query tower": 4 * query, "item tower": 4 * candidate},
        {
            "query tower": _packed(query, number_bits),
            "item tower": _packed(candidate, number_bits),
            "loss and weight": _packed(_LOSS_AND_WEIGHT, number_bits),
        },
    )


def _row_bytes(coding: table_codings.TableCoding, dimension: int) -> int:
    """Bytes of one coded row."""
    coded = tf.nest.flatten(coding.encode(tf.zeros([1, dimension])))
    return sum(int(tf.size(part)) * part.dtype.size for part in coded)


def _numbers(specs: Mapping[str, Any]) -> int:
    return sum(math.prod(spec.shape) for spec in specs.values())


def _packed(count: int, bits: int) -> int:
    return math.ceil(count * bits / 8)
