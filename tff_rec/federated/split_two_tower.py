"""Split federated training of a two-tower model as a TFF learning process (SpFedRec, Qin et al. 2023).

A round in four typed parts:

- distributor: the server runs the candidate tower over the catalogue and sends the query tower and the item vectors;
- client work: devices train the query tower and differentiate the item vectors (`contributions`);
- aggregator: any `aggregators.UserMeanFactory`;
- finalizer: a server optimizer on the query tower; the mean item gradients pulled back through the candidate tower by
  its vector-Jacobian product, with an optimizer of its own.

With plain aggregation a split round equals a round in which devices hold both towers (`unsplit_two_tower`), since the
pull-back is linear.

Which item vectors a device works with is the objective's matter: the whole table, or the rows that it asks for. In this
process every TFF client is handed the whole table, and a device that asks for rows reads those alone;
`select_two_tower` hands out only the rows, with the same result.

The paper's symbols: θu, the query tower, and θv, the candidate tower, are the two parts of the state's weights; β1, β2
and τ of its FedAdam are `beta_1`, `beta_2` and `epsilon` of `tff.learning.optimizers.build_adam`; the K clients of a
round are its cohort; V⁺ is a history, V⁻ are the decoys, ρ a positive.
"""

import collections
import dataclasses
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tff_rec.federated import adaptive_clipping, aggregators, contributions, row_release, stages, table_codings
from tff_rec.models.objectives import Block
from tff_rec.models.two_tower import TwoTower


@dataclasses.dataclass(frozen=True)
class Transport:
    """How item vectors travel, and when their summed gradients may be used.

    Attributes:
        coding: How vectors are written on their way to devices.
        minimum_requesters: Fewest devices of a cohort that must ask for a row for its gradient to be released; 1 for an
            objective over the whole table, which nobody asks for.
    """

    coding: table_codings.TableCoding = table_codings.FLOAT32
    minimum_requesters: int = 1


WHOLE_TABLE = Transport()


def build_split_two_tower(
    model: TwoTower,
    training: contributions.LocalTraining,
    optimizers: stages.ServerOptimizers,
    aggregator: aggregators.UserMeanFactory | None = None,
    transport: Transport = WHOLE_TABLE,
    clipping: adaptive_clipping.AdaptiveClipping | None = None,
) -> tff.learning.templates.LearningProcess:
    """Builds the process `(<state@SERVER, {<history=int32[?,?], seed=int32[?], …>*}@CLIENTS> -> <state, metrics>)`.

    A TFF client is a group of devices: each element of its dataset is a block of users (`stages.block_type`). The
    state's `global_model_weights.trainable` are the query tower's weights, then the candidate tower's, as in
    `model.trainable_weights`; they begin as they stand in `model`.

    Args:
        model: The two towers and the catalogue's features.
        training: What each device does.
        optimizers: At the server. They see minus the mean update of the query tower, and the mean gradient of the
            candidate tower.
        aggregator: From users to their mean; plain by default.
        transport: Of the item vectors.
        clipping: Clip norms that move from round to round, of which those of `training` are multiples: 1.

    Raises:
        ValueError: There are adaptive clip norms, and others than 1 in `training`.
    """
    if clipping is not None:
        adaptive_clipping.check_unit_norms(training.query_clip_norm, training.item_clip_norm)
    aggregator = released(aggregator or aggregators.PlainMeanFactory(), transport)
    num_items = model.candidate_tower.num_items

    def what_is_sent(query: stages.Named, candidate: stages.Named) -> collections.OrderedDict[str, Any]:
        items = transport.coding.encode(model.candidate_embeddings(candidate))
        return collections.OrderedDict(query=collections.OrderedDict(query), items=items)

    def block_sum(sent: Any, block: Block) -> collections.OrderedDict[str, Any]:
        received = contributions.ReceivedItems(num_items, transport.coding.decode(sent["items"]))
        units = sent.get(adaptive_clipping.NORMS)
        return released_block_sum(training, aggregator, transport, sent["query"], received, block, units)

    return stages.compose(
        model,
        optimizers,
        aggregator,
        what_is_sent=what_is_sent,
        block_sum=block_sum,
        sums=sums(model, transport, aggregator),
        candidate_gradients=candidate_gradients(model),
        clipping=clipping,
    )


def released(aggregator: aggregators.UserMeanFactory, transport: Transport) -> aggregators.UserMeanFactory:
    """The aggregator behind the transport's minimum of requesters, if it has one."""
    if transport.minimum_requesters == 1:
        return aggregator
    return row_release.RowReleaseFactory(aggregator, transport.minimum_requesters)


def released_block_sum(
    training: contributions.LocalTraining,
    aggregator: aggregators.UserMeanFactory,
    transport: Transport,
    query: stages.Named,
    received: contributions.ReceivedItems,
    block: Block,
    units: contributions.Units | None = None,
) -> collections.OrderedDict[str, Any]:
    """`contributions.block_sum`, and what a minimum of requesters, if there is one, needs beside or holds back."""
    encode, num_items, minimum = aggregator.encode, received.num_items, transport.minimum_requesters
    if minimum == 1:
        return contributions.block_sum(training, encode, query, received, block, units)
    rows = training.objective.rows(block, num_items)
    if rows is None:
        raise ValueError("Nobody asks for rows of a table that all receive: leave minimum_requesters at 1.")
    if encode is None or encode.rings is None:
        total = contributions.block_sum(training, encode, query, received, block, units)
        total[row_release.RELEASE] = row_release.count_requesters(rows, num_items)
        return total
    released, dropped = row_release.within_rings(rows, encode.rings.of(tf.shape(rows)[0]), num_items, minimum)
    total = contributions.block_sum(training, encode, query, received, block, units, released)
    total[row_release.RELEASE] = dropped
    return total


def sums(model: TwoTower, transport: Transport, aggregator: aggregators.UserMeanFactory) -> stages.Sums:
    """Shapes of what a block sums."""
    num_items = model.candidate_tower.num_items
    items = tf.TensorSpec([num_items, model.candidate_tower.dimension])
    shapes = collections.OrderedDict(query=stages.weight_shapes(model.query_tower), items=items)
    if transport.minimum_requesters > 1:
        shapes[row_release.RELEASE] = row_release.release_spec(aggregator.encode, num_items)
    return shapes


def candidate_gradients(model: TwoTower) -> stages.CandidateGradients:
    """From the mean of item gradients, at the server, to the gradients of the candidate tower's weights."""
    return lambda candidate, mean: stages.pull_back(model, candidate, mean["items"])
