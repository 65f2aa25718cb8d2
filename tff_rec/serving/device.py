"""Inference on the device: the query vector is computed where the history is, and the server is not told the history.

Either the device holds the vectors of the whole catalogue, fetched once, and asks for nothing; or it asks for the
vectors of its history hidden among decoys (`federated.requests`), and ranks a shortlist of public candidates, the same
for every device. Server and device are one process here; `ItemServer.requested` is what a server would see.
"""

import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tff_rec.errors import InputError
from tff_rec.federated import requests
from tff_rec.serving import folder
from tff_rec.serving.reader import Recommendation, Recommendations


class ItemServer:
    """The server's side of an export, as a device meets it.

    Args:
        directory: Of the export.

    Raises:
        InputError: There is no export in it, or one without what a device needs.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self.titles = folder.read_titles(directory)
        self.item_ids = list(self.titles)
        try:
            served = tf.saved_model.load(str(directory))
            self._vectors = served.signatures["item_vectors"]
            self._score = served.signatures["score"]
            self.score_vectors = served.signatures["score_vectors"]
        except (OSError, KeyError, tf.errors.OpError) as error:
            raise InputError(f"The SavedModel in {directory} serves no devices; export the model again.") from error
        self._served = served  # The signatures do not keep it alive.
        self.requested: list[str] = []

    def shortlist(self, items: np.ndarray) -> np.ndarray:
        """Vectors of public candidates, int64 [n] → float32 [n, d], which every device is sent alike."""
        return self._vectors(item_ids=tf.constant([self.item_ids[item] for item in items]))["vectors"].numpy()

    def popularity(self) -> np.ndarray:
        """Public: float32 [items], in the order of `item_ids`."""
        scores = self._score(history=tf.constant([[""]]), item_ids=tf.constant([self.item_ids]))["scores"]
        return scores.numpy()[0]

    def catalogue(self) -> np.ndarray:
        """Vectors of all items, float32 [items, d], which every device is sent alike."""
        return self.shortlist(np.arange(len(self.item_ids)))

    def vectors(self, item_ids: Sequence[str]) -> np.ndarray:
        """Vectors of the items that a device asks for, float32 [n, d]; the server sees the ids."""
        self.requested.extend(item_ids)
        return self._vectors(item_ids=tf.constant(list(item_ids), tf.string))["vectors"].numpy()


def recommend_holding(server: ItemServer, history: Sequence[str], top: int) -> Recommendations:
    """Ranks the whole catalogue on the device, from vectors that every device is sent; equal to the server's answer.

    Args:
        server: Asked for the catalogue alone.
        history: Item ids, oldest first; stays on the device.
        top: Number of recommendations.
    """
    vectors, own = server.catalogue(), _places(server, history)
    return _rank(server, vectors[own], own, np.arange(len(server.item_ids)), vectors, top)


def recommend_asking(
    server: ItemServer,
    history: Sequence[str],
    top: int,
    shortlist: int,
    decoys: int,
    secret: bytes,
    decoy_sampling: requests.Sampling,
) -> Recommendations:
    """Ranks the most popular items on the device, after asking for the history's vectors hidden among decoys.

    Decoys are a function of all arguments but `top` and `shortlist`, the same one as in training on requested rows
    (`simulation.decoys`): a device that was there with this secret, number and law of decoys, and history asks for what
    it asked for there; with a history that has grown it asks for that, and more. A server that sees a device ask under
    another secret, number or law intersects the two, as it does fresh decoys.

    Args:
        server: Sends all devices the shortlist; is asked for the history's items and the decoys, shuffled.
        history: Item ids, oldest first; stays on the device.
        top: Number of recommendations.
        shortlist: Number of candidates, the most popular items.
        decoys: Decoys an item of the history.
        secret: 32 bytes that the device keeps for good.
        decoy_sampling: How decoys are drawn.
    """
    popularity, own = server.popularity(), _places(server, history)
    candidates = np.argsort(-popularity, kind="stable")[:shortlist]
    positives = requests.item_sets([np.unique(own)])
    weights = requests.decoy_weights(decoy_sampling, np.maximum(popularity, 0.0).astype(np.float64))
    hidden = requests.persistent_decoys(positives, server.item_ids, decoys, [secret], weights)
    asked = requests.shuffled_requests(positives, hidden, np.random.default_rng())[0]
    received = dict(zip(asked.tolist(), server.vectors([server.item_ids[item] for item in asked]), strict=True))
    own_vectors = np.array([received[item] for item in own.tolist()], np.float32)
    return _rank(server, own_vectors, own, candidates, server.shortlist(candidates), top)


def _places(server: ItemServer, history: Sequence[str]) -> np.ndarray:
    place = {item_id: number for number, item_id in enumerate(server.item_ids)}
    return np.array([place[item_id] for item_id in history if item_id in place], np.int64)


def _rank(
    server: ItemServer,
    history_vectors: np.ndarray,
    own: np.ndarray,
    candidates: np.ndarray,
    candidate_vectors: np.ndarray,
    top: int,
) -> Recommendations:
    """The best candidates outside the history; by popularity where the history is empty."""
    if len(own):
        answer = server.score_vectors(
            history_vectors=tf.constant(history_vectors), candidate_vectors=tf.constant(candidate_vectors)
        )
        scores = answer["scores"].numpy()
    else:
        scores = server.popularity()[candidates]
    scores = np.where(np.isin(candidates, own), -np.inf, scores)
    best = [place for place in np.argsort(-scores, kind="stable")[:top] if np.isfinite(scores[place])]
    ids = [server.item_ids[candidates[place]] for place in best]
    items = zip(ids, scores[best].tolist(), strict=True)
    return Recommendations(
        tuple(Recommendation(item_id, server.titles[item_id], score) for item_id, score in items), len(own)
    )
