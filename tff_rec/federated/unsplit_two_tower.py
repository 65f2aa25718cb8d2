"""Federated training of a two-tower model by devices that hold both towers: FedAvg and FedOpt (Reddi et al. 2021).

The server sends all weights; the catalogue's features are public. Each device runs the candidate tower itself, takes
its local steps on the query tower, and pulls the gradients of the item vectors back through the candidate tower before
it sends them. What `split_two_tower` saves is measured against this, and its arithmetic is tested against it.
"""

import collections
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tff_rec.federated import aggregators, contributions, stages
from tff_rec.models.objectives import Block
from tff_rec.models.two_tower import TwoTower


def build_unsplit_two_tower(
    model: TwoTower,
    training: contributions.LocalTraining,
    optimizers: stages.ServerOptimizers,
    aggregator: aggregators.UserMeanFactory | None = None,
) -> tff.learning.templates.LearningProcess:
    """Builds the process `(<state@SERVER, {<history=int32[?,?], seed=int32[?]>*}@CLIENTS> -> <state, metrics>)`.

    State, arguments and data are those of `build_split_two_tower`, so that one can stand for the other. A bound or an
    encoding would here apply to the gradient of the candidate tower's weights, another quantity than the gradient of
    item vectors; since the pull-back is computed once a block, no user's part could be bounded alone, and neither is
    offered. The update of the query tower can be clipped.

    Raises:
        ValueError: `training.item_clip_norm` is set, or the aggregator encodes each user's values.
    """
    aggregator = aggregator or aggregators.PlainMeanFactory()
    if training.item_clip_norm is not None:
        raise ValueError("Unsplit training sends no item gradients: leave item_clip_norm at None.")
    if aggregator.encode is not None:
        raise ValueError("Unsplit training sums gradients as floats: give an aggregator that does not encode.")

    def what_is_sent(query: stages.Named, candidate: stages.Named) -> collections.OrderedDict[str, Any]:
        return collections.OrderedDict(
            query=collections.OrderedDict(query), candidate=collections.OrderedDict(candidate)
        )

    @tf.autograph.experimental.do_not_convert
    def block_sum(sent: Any, block: Block) -> collections.OrderedDict[str, Any]:
        names, candidate = list(sent["candidate"]), list(sent["candidate"].values())
        table = model.candidate_embeddings(sent["candidate"])
        received = contributions.ReceivedItems(model.candidate_tower.num_items, table)
        sums = contributions.block_sum(training, None, sent["query"], received, block)
        gradients = stages.pull_back(model, candidate, sums["items"])
        return collections.OrderedDict(
            query=sums["query"],
            candidate=collections.OrderedDict(zip(names, gradients, strict=True)),
            loss=sums["loss"],
            weight=sums["weight"],
        )

    def candidate_gradients(candidate: list[tf.Tensor], mean: Any) -> list[tf.Tensor]:
        del candidate
        return list(mean["candidate"].values())

    return stages.compose(
        model,
        optimizers,
        aggregator,
        what_is_sent=what_is_sent,
        block_sum=block_sum,
        sums=collections.OrderedDict(
            query=stages.weight_shapes(model.query_tower), candidate=stages.weight_shapes(model.candidate_tower)
        ),
        candidate_gradients=candidate_gradients,
    )
