"""User-level differential privacy inside each silo: DP-SGD (Abadi et al. 2016) with users as its examples.

A silo takes its local steps on noised sums over its own users: in each step every user takes part with the same
probability, independently of all else; a user's gradients are formed and bounded for it alone, as on a device
(`tag_aware.block_sum`), where every user weighs 1; the silo adds noise to their sum and divides by the expected number
of users in a step. What leaves the silo is made of such sums: its change of the weights, its noised training loss, and
a weight that counts its steps, which follow from its number of users, a public one.

So the server and the other silos, who see the models, need not be trusted with a user's part, nor must the aggregation
hide anything; the silo that has the user's ratings is. A silo's users are in no other silo: each has the privacy of
its silo's steps, accounted for as in `privacy_accounting` with a step for a round.

The noise on the parts `query`, `items` (the table, before it is pulled back through the item tower) and `loss` is that
of `privacy`. A silo's data set holds the steps of a round, one an element, with `noise`, the key of the step's noise:
int32 [2], never the same twice, which a real silo would draw secretly.
"""

import collections
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_rec.federated import privacy, silos, tag_aware
from tff_rec.models.objectives import Block
from tff_rec.models.tag_aware import TagAware

NOISE = "noise"
PARTS = ("query", "items", "loss")


def private_batches(
    model: TagAware,
    local: tag_aware.LocalRatings,
    parts: Mapping[str, privacy.Part],
    noise_multiplier: float,
    expected_users: float,
) -> silos.MiniBatches:
    """Mini-batches for `silos.build_silo_tag_aware`, each of which weighs 1; silos take one epoch over them.

    Args:
        model: Both towers, the catalogue's features and the penalties.
        local: How a user's gradients are formed, in one step, and bounded by the norms of `parts`.
        parts: `query`, `items` and `loss`; their shares add up to 1.
        noise_multiplier: Standard deviation over what one user can change; 0 adds no noise, and promises nothing.
        expected_users: Of a step.

    Raises:
        ValueError: Users take several steps or are bounded by other norms than the parts', or there are other parts.
    """
    if set(parts) != set(PARTS):
        raise ValueError(f"Silos bound the parts {', '.join(PARTS)}, not {', '.join(parts)}.")
    bounds = {"query": local.tower_clip_norm, "items": local.row_clip_norm, "loss": local.loss_bound}
    if local.local_steps != 1 or any(bounds[name] != part.clip_norm for name, part in parts.items()):
        raise ValueError("A user of a private silo takes one step, whose parts are bounded by the parts' clip norms.")

    @tf.autograph.experimental.do_not_convert
    def differentiate(weights: list[tf.Tensor], block: Block, epoch: tf.Tensor) -> silos.Step:
        del epoch
        items, tower = tag_aware.split_weights(model, weights)
        sums = tag_aware.block_sum(local, None, tower, model.item_table(items), block)
        released = privacy.noised_sums(
            collections.OrderedDict((name, sums[name]) for name in PARTS),
            lambda name, _: noise_multiplier * parts[name].unit_deviation(),
            block[NOISE],
            lambda shape, key: tf.random.stateless_normal(shape, key),
        )
        mean = tf.nest.map_structure(lambda value: value / expected_users, released)
        gradients = tag_aware.penalised(model, items, tag_aware.pull_back(model, items, mean["items"]))
        gradients += tag_aware.penalised(model, tower, mean["query"])
        return silos.Step(mean["loss"], tf.constant(1.0), gradients)

    return silos.MiniBatches(block_type(), differentiate)


def block_type() -> tff.SequenceType:
    """Steps of a silo: `{<items=int32[?,?],ratings=float32[?,?],seed=int32[?],noise=int32[2]>*}`."""
    elements = collections.OrderedDict(tff.structure.iter_elements(tag_aware.block_type().element))
    return tff.SequenceType(collections.OrderedDict(elements, **{NOISE: tff.TensorType(np.int32, [2])}))
