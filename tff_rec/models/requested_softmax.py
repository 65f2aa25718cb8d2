"""A softmax over the rows that a device asks for: its positives, decoys, and rows drawn anew each round.

Decoys hide the positives among the requested rows (`federated.requests`) and double as negatives, as in SpFedRec (Qin
et al. 2023). They can hide for long only if they stay the same, and a device with few positives has few of them: too
few to learn from. So a device may ask for further rows, drawn anew each round from the whole catalogue, uniformly or by
public popularity. They depend on nothing that the device has, and tell nothing; whoever counts requests takes them off
and is left with positives and decoys. Every negative is weighted by the inverse of its probability to be among the
requested rows (Horvitz and Thompson 1952; logQ does the same for sampled softmax), so that the sum estimates that of
the full softmax.
"""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from tff_rec.models import layers, objectives, randomness
from tff_rec.models.query_towers import QueryTower

DECOYS = "decoys"


@dataclasses.dataclass(frozen=True)
class RequestedSoftmax:
    """Cross-entropy of each positive against all other rows that the device asked for.

    Blocks carry `decoys`, int32 [users, r]: items outside the user's training history, PADDING where there is none.

    Attributes:
        temperature: Of the scores.
        num_items: Size of the catalogue.
        decoy_probabilities: float32 [items] that decoys were drawn by, sums to 1; None for uniform.
        fresh_rows: Draws of further rows. What is drawn twice, or is requested already, is asked for once.
        fresh_probabilities: float32 [items] that these draws follow, sums to 1; None for uniform.
        pairs: Which queries meet which positives.
    """

    temperature: float
    num_items: int
    decoy_probabilities: np.ndarray | None = None
    fresh_rows: int = 0
    fresh_probabilities: np.ndarray | None = None
    pairs: objectives.PairsFn = objectives.next_items

    @property
    def block_keys(self) -> tuple[str, ...]:
        """As `Objective.block_keys`."""
        return (DECOYS,)

    def rows(self, block: objectives.Block, num_items: int) -> tf.Tensor | None:
        """The history, the decoys, then the fresh rows: int32 [users, n + r + fresh_rows], PADDING for none."""
        requested = tf.concat([block["history"], block[DECOYS]], axis=1)
        fresh = tf.sort(self._draws(block["seed"], num_items), axis=1)
        again = tf.concat([tf.zeros_like(fresh[:, :1], tf.bool), tf.equal(fresh[:, 1:], fresh[:, :-1])], axis=1)
        again |= objectives.contains(requested, fresh)
        return tf.concat([requested, tf.where(again, objectives.PADDING, fresh)], axis=1)

    def prepare(
        self, tower: QueryTower, vectors: tf.Tensor, block: objectives.Block, rows: tf.Tensor | None
    ) -> objectives.LossFn:
        """As `Objective.prepare`; `vectors` are those of `rows`, float32 [users, rows, d]."""
        assert rows is not None, "RequestedSoftmax needs the rows it named."
        history = block["history"]
        length, mask = tf.shape(history)[1], objectives.history_mask(history)
        own = vectors[:, :length] * mask[:, :, tf.newaxis]
        log_weights = self._log_weights(block, rows)[:, tf.newaxis]

        def loss(weights: layers.Weights, seeds: tf.Tensor | None) -> tf.Tensor:
            pairs = self.pairs(tower, weights, own, mask, seeds)
            logits = tf.matmul(pairs.queries / self.temperature, vectors, transpose_b=True) + log_weights
            if self.pairs is objectives.own_items:
                logits = tf.repeat(logits, tf.shape(pairs.positives)[1], axis=1)
            labels = tf.maximum(pairs.positives, 0)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
            return objectives.mean_over_positives(losses, pairs.positives >= 0)

        return loss

    def num_positives(self, history: tf.Tensor) -> tf.Tensor:
        """As `Objective.num_positives`."""
        return objectives.num_positives(self.pairs, history)

    def expected_rows(self, own: np.ndarray) -> np.ndarray:
        """Rows that devices with so many positives and decoys ask for, in expectation: float64, as many as `own`.

        Of fresh rows that follow `fresh_probabilities`, those that a device has already are not taken off.
        """
        if self.fresh_probabilities is None:
            return own + (self.num_items - own) * (1.0 - self._not_fresh)
        return own + np.sum(1.0 - self._not_fresh)

    def _draws(self, seeds: tf.Tensor, num_items: int) -> tf.Tensor:
        if self.fresh_probabilities is None:
            return randomness.integers(seeds, self.fresh_rows, num_items, "fresh rows")
        return randomness.weighted(seeds, self.fresh_rows, self.fresh_probabilities, "fresh rows")

    @functools.cached_property
    def _not_fresh(self) -> np.ndarray:
        """Probability that no draw is an item: float64, a number or [items]."""
        law = 1.0 / self.num_items if self.fresh_probabilities is None else self.fresh_probabilities
        return (1.0 - np.asarray(law, np.float64)) ** self.fresh_rows

    @functools.cached_property
    def _largest_keys(self) -> np.ndarray:
        """The largest key among n decoys, for n from 0 to all items: float32 [items + 1].

        Decoys are the items of the smallest exponential keys of rates p (Efraimidis and Spirakis 2006): an item is one
        of them if its key is below the largest, t, with probability 1 - exp(-p t); these sum up to n.
        """
        probabilities = self.decoy_probabilities
        assert probabilities is not None
        keys = np.concatenate([[0.0], np.geomspace(1e-2, 30.0 / probabilities.min(), 2000)])
        expected = np.array([np.sum(-np.expm1(-probabilities * key)) for key in keys])
        return np.interp(np.arange(len(probabilities) + 1), expected, keys).astype(np.float32)

    def _log_weights(self, block: objectives.Block, rows: tf.Tensor) -> tf.Tensor:
        """Logarithm of what each row counts in the softmax's sum, float32 [users, rows]; MASKED where it is padding.

        A positive counts 1, a negative 1 / (1 - (1 - a)(1 - b)): a is its probability to be a decoy, b to be fresh.
        """
        positives = tf.shape(block["history"])[1]
        count = tf.reduce_sum(tf.cast(block[DECOYS] >= 0, tf.float32), axis=1, keepdims=True)
        if self.decoy_probabilities is None:
            no_decoy = 1.0 - count / self.num_items
        else:
            largest_key = tf.gather(tf.constant(self._largest_keys), tf.cast(count, tf.int32))
            by_key = tf.gather(tf.constant(self.decoy_probabilities), tf.maximum(rows[:, positives:], 0))
            no_decoy = tf.exp(-largest_key * by_key)
        not_fresh = tf.constant(self._not_fresh, tf.float32)
        if self.fresh_probabilities is not None:
            not_fresh = tf.gather(not_fresh, tf.maximum(rows[:, positives:], 0))
        missed = no_decoy * not_fresh
        negatives = -tf.math.log(tf.maximum(1.0 - missed, 1e-12)) * tf.ones_like(rows[:, positives:], tf.float32)
        log_weights = tf.concat([tf.zeros_like(block["history"], tf.float32), negatives], axis=1)
        return tf.where(rows >= 0, log_weights, objectives.MASKED)
