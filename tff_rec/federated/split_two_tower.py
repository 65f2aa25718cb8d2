"""Split federated training of a two-tower model as a TFF learning process (SpFedRec, Qin et al. 2023).

A round in four typed parts:

- distributor: the server runs the candidate tower over the catalogue and sends the query tower and the item vectors;
- client work: devices train the query tower and differentiate the item vectors (`contributions`);
- aggregator: any `aggregators.UserMeanFactory`;
- finalizer: a server optimizer on the query tower; the mean item gradients pulled back through the candidate tower by
  its vector-Jacobian product, with an optimizer of its own.

With plain aggregation a split round equals a round in which devices hold both towers (`unsplit_two_tower`), since the
pull-back is linear.
"""

import collections
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tff_rec.federated import aggregators, contributions, stages
from tff_rec.models.two_tower import TwoTower


def build_split_two_tower(
    model: TwoTower,
    training: contributions.LocalTraining,
    optimizers: stages.ServerOptimizers,
    aggregator: aggregators.UserMeanFactory | None = None,
) -> tff.learning.templates.LearningProcess:
    """Builds the process `(<state@SERVER, {<history=int32[?,?], seed=int32[?]>*}@CLIENTS> -> <state, metrics>)`.

    A TFF client is a group of devices: each element of its dataset is a block of users. The state's
    `global_model_weights.trainable` are the query tower's weights, then the candidate tower's, as in
    `model.trainable_weights`; they begin as they stand in `model`.

    Args:
        model: The two towers and the catalogue's features.
        training: What each device does.
        optimizers: At the server. They see minus the mean update of the query tower, and the mean gradient of the
            candidate tower.
        aggregator: From users to their mean; plain by default.
    """
    aggregator = aggregator or aggregators.PlainMeanFactory()
    encode = aggregator.encode

    def what_is_sent(query: stages.Named, candidate: stages.Named) -> collections.OrderedDict[str, Any]:
        table = model.candidate_embeddings(candidate)
        return collections.OrderedDict(query=collections.OrderedDict(query), items=table)

    def block_sum(sent: Any, history: tf.Tensor, seeds: tf.Tensor) -> collections.OrderedDict[str, Any]:
        return contributions.block_sum(training, encode, sent["query"], sent["items"], history, seeds)

    def candidate_gradients(candidate: list[tf.Tensor], mean: Any) -> list[tf.Tensor]:
        return stages.pull_back(model, candidate, mean["items"])

    return stages.compose(
        model,
        optimizers,
        aggregator,
        what_is_sent=what_is_sent,
        block_sum=block_sum,
        candidate_gradients=candidate_gradients,
    )
