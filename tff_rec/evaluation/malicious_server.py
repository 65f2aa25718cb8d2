"""A server that does not follow the protocol: it authors the vectors that it sends, to learn one bit of one device.

All vectors are 0 but that of one item. A device that has the item then has a query and gradients that are not 0, and a
device that does not has next to none. A secure sum over a cohort hides whose they are, unless the server sends the
others a model under which they contribute exactly nothing (Pasquini et al. 2022, https://arxiv.org/abs/2111.07380): the
sum is then the upload of one. TFF's own broadcast sends all the same; a malicious server is not bound to it.

For towers that pass the mean of the history on, as `BagQueryTower` does.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from tff_rec.evaluation.attack_views import Device

PLANTED = 5.0


def planted_model(device: Device, item: int) -> tuple[np.ndarray, dict[str, tf.Tensor]]:
    """Item vectors and query tower under which a device that has the item answers loudly."""
    table, query = silent_model(device)
    table[item, 0] = PLANTED
    return table, query


def silent_model(device: Device) -> tuple[np.ndarray, dict[str, tf.Tensor]]:
    """Item vectors and query tower under which no device has a gradient at all: zeros."""
    query = {name: tf.zeros_like(value) for name, value in device.query_weights().items()}
    return np.zeros_like(device.subject.table.numpy()), query


def loudness(device: Device, users: np.ndarray, item: int, silent: np.ndarray, round_number: int = 0) -> float:
    """Norm of the item gradients that the server gets.

    Args:
        device: Their code.
        users: int64, those who are sent the planted model.
        item: What the server wants to know of.
        silent: int64, those who share the sum with them and are sent the silent model.
        round_number: Of the round.
    """
    total: Any = device.total_of(users, round_number, *planted_model(device, item))["items"]
    if len(silent):
        total = total + device.total_of(silent, round_number, *silent_model(device))["items"]
    return float(np.linalg.norm(total.astype(np.float64)))
