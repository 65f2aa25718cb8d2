"""What a device trains: which queries meet which positives, and the softmax that tells them from negatives.

An objective asks for item vectors in one of two forms. `FullSoftmax` scores the whole table. `SampledSoftmax` names the
rows it needs, the user's positives and negatives drawn on the device, and sees those alone.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import tensorflow as tf

from tff_rec.models import layers, randomness
from tff_rec.models.query_towers import QueryTower

Block = Mapping[str, tf.Tensor]
"""Users to train at once: `history`, int32 [users, n], padded at the end with PADDING; `seed`, int32 [users]."""
PADDING = -1
MASKED = -1e9


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Queries and the positives they should find.

    Attributes:
        queries: float32 [users, n, d], or [users, 1, d] where one query serves all positives.
        positives: int32 [users, n], positions in the history, PADDING where there is none.
    """

    queries: tf.Tensor
    positives: tf.Tensor


PairsFn = Callable[[QueryTower, layers.Weights, tf.Tensor, tf.Tensor, tf.Tensor | None], Pairs]
LossFn = Callable[[layers.Weights, tf.Tensor | None], tf.Tensor]


def next_items(
    tower: QueryTower, weights: layers.Weights, vectors: tf.Tensor, mask: tf.Tensor, seeds: tf.Tensor | None
) -> Pairs:
    """Every position predicts the item after it."""
    queries = tower.encode(weights, vectors[:, :-1], mask[:, :-1], seeds)
    return Pairs(queries, _positions(mask)[:, 1:])


def own_items(
    tower: QueryTower, weights: layers.Weights, vectors: tf.Tensor, mask: tf.Tensor, seeds: tf.Tensor | None
) -> Pairs:
    """One query from the whole history predicts every item of it: the classic two-tower task."""
    return Pairs(tower.query(weights, vectors, mask, seeds)[:, tf.newaxis, :], _positions(mask))


class Objective(Protocol):
    """What client work and central training call.

    `loss` is `prepare` and one call of what it returns; local steps on the same item vectors share one `prepare`.
    """

    @property
    def temperature(self) -> float:
        """Divides the product of a query and an item vector: their score."""
        ...

    @property
    def block_keys(self) -> tuple[str, ...]:
        """What a block carries besides `history` and `seed`: int32 [users, any] each."""
        ...

    def rows(self, block: Block, num_items: int) -> tf.Tensor | None:
        """Ids of the item vectors that the device needs, int32 [users, rows]; None for the whole table."""
        ...

    def prepare(self, tower: QueryTower, vectors: tf.Tensor, block: Block, rows: tf.Tensor | None) -> LossFn:
        """Does what depends on the item vectors alone; returns what depends on the weights.

        Args:
            tower: The query tower.
            vectors: Those of `rows`, float32 [users, rows, d]; or the table, float32 [items, d] or one a user.
            block: Of the same users.
            rows: As `rows` returned them.

        Returns:
            Mean loss of each user over its positives, float32 [users], 0 for a user without any, as a function of the
            tower's weights and of seeds for dropout, int32 [users] or None.
        """
        ...

    def num_positives(self, history: tf.Tensor) -> tf.Tensor:
        """Number of predictions each user trains on, float32 [users]."""
        ...


@dataclasses.dataclass(frozen=True)
class Scored:
    """Losses, and for a whole table what its gradient is made of.

    Attributes:
        losses: Mean loss of each user, float32 [users].
        logits: float32 [users, m, items], the scores of m queries; None where rows were asked for.
        queries: float32 [users, m, d], over the temperature, what the table was multiplied with; None likewise.
    """

    losses: tf.Tensor
    logits: tf.Tensor | None = None
    queries: tf.Tensor | None = None


@dataclasses.dataclass(frozen=True)
class FullSoftmax:
    """Cross-entropy over the whole catalogue, for tables that every device can hold."""

    temperature: float = 1.0
    pairs: PairsFn = next_items
    block_keys = ()

    def rows(self, block: Block, num_items: int) -> tf.Tensor | None:
        """None: the whole table."""
        del block, num_items
        return None

    def prepare(self, tower: QueryTower, vectors: tf.Tensor, block: Block, rows: tf.Tensor | None) -> LossFn:
        """As `Objective.prepare`; `vectors` is the table, float32 [items, d]."""
        del rows
        own = tf.gather(vectors, tf.maximum(block["history"], 0))
        return lambda weights, seeds: self.score(tower, weights, vectors, own, block, seeds).losses

    def score(
        self,
        tower: QueryTower,
        weights: layers.Weights,
        table: tf.Tensor,
        own: tf.Tensor,
        block: Block,
        seeds: tf.Tensor | None,
    ) -> Scored:
        """Losses by a table and, apart from it, the vectors of the history: users differ in these alone.

        Args:
            tower: The query tower.
            weights: Of the tower.
            table: float32 [items, d], what queries are scored with.
            own: float32 [users, n, d], what the tower reads; any vector for PADDING.
            block: Of the same users.
            seeds: For dropout, int32 [users] or None.
        """
        mask = history_mask(block["history"])
        pairs = self.pairs(tower, weights, own * mask[:, :, tf.newaxis], mask, seeds)
        queries = pairs.queries / self.temperature  # Here, not later: there are fewer queries than scores.
        logits = scored = layers.dense(queries, tf.linalg.matrix_transpose(table))
        labels = tf.gather(tf.maximum(block["history"], 0), tf.maximum(pairs.positives, 0), batch_dims=1)
        if pairs.queries.shape[1] == 1:
            scored = tf.repeat(logits, tf.shape(labels)[1], axis=1)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=scored)
        return Scored(mean_over_positives(losses, pairs.positives >= 0), logits, queries)

    def num_positives(self, history: tf.Tensor) -> tf.Tensor:
        """As `Objective.num_positives`."""
        return num_positives(self.pairs, history)


@dataclasses.dataclass(frozen=True)
class SampledSoftmax:
    """Cross-entropy of each positive against negatives of its own, drawn on the device.

    A negative that stands in the user's training history is masked: the sampler knows that history and nothing of what
    is held out. With `probabilities` the negatives follow them and every score is corrected by the logarithm of the
    expected count (logQ; Bengio and Senécal 2008, Yi et al. 2019), so that the loss estimates the full softmax.

    Attributes:
        temperature: Of the scores.
        num_negatives: Negatives a positive.
        probabilities: float32 [items], sums to 1; None for uniform negatives.
        pairs: Which queries meet which positives.
    """

    temperature: float
    num_negatives: int
    probabilities: np.ndarray | None = None
    pairs: PairsFn = next_items
    block_keys = ()

    def rows(self, block: Block, num_items: int) -> tf.Tensor | None:
        """The history, then a draw for each of its places, `num_negatives` times; PADDING where nothing is needed."""
        history, seeds = block["history"], block["seed"]
        shape = tf.shape(history)
        count = shape[1] * self.num_negatives
        if self.probabilities is None:
            negatives = randomness.integers(seeds, count, num_items, "negatives")
        else:
            negatives = randomness.weighted(seeds, count, self.probabilities, "negatives")
        # A place's draws stand together in the stream, so that they do not depend on how far the history is padded.
        negatives = tf.transpose(tf.reshape(negatives, [shape[0], shape[1], self.num_negatives]), [0, 2, 1])
        negatives = tf.reshape(negatives, [shape[0], count])
        unused = contains(history, negatives)
        unused |= tf.tile(history < 0, [1, self.num_negatives])
        return tf.concat([history, tf.where(unused, PADDING, negatives)], axis=1)

    def prepare(self, tower: QueryTower, vectors: tf.Tensor, block: Block, rows: tf.Tensor | None) -> LossFn:
        """As `Objective.prepare`; `vectors` are those of `rows`, float32 [users, rows, d]."""
        assert rows is not None, "SampledSoftmax needs the rows it named."
        history = block["history"]
        users, length, mask = tf.shape(history)[0], tf.shape(history)[1], history_mask(history)
        own, _ = tf.split(vectors, [length, length * self.num_negatives], axis=1)
        own *= mask[:, :, tf.newaxis]
        ids = tf.reshape(rows, [users, 1 + self.num_negatives, length])
        offset = self._log_expected_count(ids)

        def loss(weights: layers.Weights, seeds: tf.Tensor | None) -> tf.Tensor:
            pairs = self.pairs(tower, weights, own, mask, seeds)
            scores = _scores_by_place(pairs.queries / self.temperature, vectors, tf.shape(ids))
            scores = tf.where(ids >= 0, scores if offset is None else scores - offset, MASKED)
            first = length - tf.shape(pairs.positives)[1]
            valid = tf.pad(pairs.positives, [[0, 0], [first, 0]], constant_values=PADDING) >= 0
            return mean_over_positives(tf.reduce_logsumexp(scores, axis=1) - scores[:, 0], valid)

        return loss

    def num_positives(self, history: tf.Tensor) -> tf.Tensor:
        """As `Objective.num_positives`."""
        return num_positives(self.pairs, history)

    def _log_expected_count(self, ids: tf.Tensor) -> tf.Tensor | None:
        if self.probabilities is None:
            return None
        expected = np.log(np.maximum(self.probabilities * self.num_negatives, 1e-12)).astype(np.float32)
        return tf.gather(tf.constant(expected), tf.maximum(ids, 0))


def _scores_by_place(queries: tf.Tensor, candidates: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Scores of the positive and the negatives of every place.

    Args:
        queries: float32 [users, 1, d], one query for all places, or [users, n, d], one for each of the last n.
        candidates: float32 [users, rows, d], rows as `SampledSoftmax.rows` orders them.
        shape: Of the result, (users, 1 + negatives, places).
    """
    if queries.shape[1] == 1:
        return tf.reshape(tf.matmul(queries, candidates, transpose_b=True), shape)
    queries = tf.pad(queries, [[0, 0], [shape[2] - tf.shape(queries)[1], 0], [0, 0]])
    by_place = tf.reshape(candidates, tf.concat([shape, [candidates.shape[-1]]], axis=0))
    return tf.reduce_sum(queries[:, tf.newaxis] * by_place, axis=-1)


def mean_losses(
    objective: Objective,
    tower: QueryTower,
    weights: layers.Weights,
    vectors: tf.Tensor,
    block: Block,
    rows: tf.Tensor | None,
    seeds: tf.Tensor | None,
) -> tf.Tensor:
    """Mean loss of each user, float32 [users], in one step; arguments as in `Objective.prepare` and what it returns."""
    return objective.prepare(tower, vectors, block, rows)(weights, seeds)


def history_mask(history: tf.Tensor) -> tf.Tensor:
    """float32 1 where the history, int32 [users, n], holds an item and 0 where it is padded."""
    return tf.cast(history >= 0, tf.float32)


def _positions(mask: tf.Tensor) -> tf.Tensor:
    places = tf.range(tf.shape(mask)[1])[tf.newaxis, :]
    return tf.where(mask > 0, places, PADDING)


def num_positives(pairs: PairsFn, history: tf.Tensor) -> tf.Tensor:
    """Number of predictions of each user: int32 [users, n] → float32 [users]."""
    items = tf.reduce_sum(history_mask(history), axis=1)
    return tf.maximum(items - 1.0, 0.0) if pairs is next_items else items


def mean_over_positives(losses: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """Mean of each user's valid losses: float32 and bool [users, n] → float32 [users], 0 for a user without any."""
    mask = tf.cast(valid, tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(losses * mask, axis=1), tf.reduce_sum(mask, axis=1))


def contains(history: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    """Whether each of a user's items is in its history: int32 [users, n] and [users, m] → bool [users, m]."""
    ordered = tf.sort(history, axis=1)
    places = tf.minimum(tf.searchsorted(ordered, items), tf.shape(history)[1] - 1)
    return tf.equal(tf.gather(ordered, places, batch_dims=1), items)
