"""Updates of a tower's weights, one a user, that are bounded and summed.

In a single local step users share the tower's kernels, and what each would add to one is a product (`products`): of
what it multiplied by the kernel, and of the gradients of the results. After further steps users have kernels of their
own, and updates are stacked.
"""

import collections
import dataclasses
from collections.abc import Mapping

import tensorflow as tf

from tff_rec.federated import by_user, table_codes
from tff_rec.federated.encoding import Encode
from tff_rec.federated.products import Products


@dataclasses.dataclass(frozen=True)
class TowerUpdates:
    """What users would add to the weights of a tower.

    Attributes:
        stacked: By name, float32 [users, ...].
        products: By name, of kernels.
    """

    stacked: Mapping[str, tf.Tensor]
    products: Mapping[str, Products] = dataclasses.field(default_factory=dict)

    @property
    def squares(self) -> tf.Tensor:
        """Each user's squared L2 norm over all weights: float32 [users]."""
        of_stacked = [by_user.squares([value]) for value in self.stacked.values()]
        return tf.add_n(of_stacked + [product.squares for product in self.products.values()])

    def sum(self, factors: tf.Tensor) -> collections.OrderedDict[str, tf.Tensor]:
        """The sum over users, by name [...], with factors, float32 [users]."""
        stacked = {name: tf.tensordot(factors, value, 1) for name, value in self.stacked.items()}
        products = {name: product.times(factors).sum() for name, product in self.products.items()}
        return collections.OrderedDict(stacked | products)

    def encoded_sum(
        self, factors: tf.Tensor, encode: Encode, part: str = "query"
    ) -> collections.OrderedDict[str, tf.Tensor]:
        """The sum over users of what each encodes of its own times its factor, in one vector: by name, int64 [...].

        Args:
            factors: float32 [users].
            encode: What users do.
            part: Whose bounds hold.
        """
        point = encode.points[part]
        shapes = {name: value.shape[1:] for name, value in self.stacked.items()}
        words = []
        if self.stacked:
            flat = [tf.reshape(value, [-1, shapes[name].num_elements()]) for name, value in self.stacked.items()]
            vectors = tf.concat(flat, axis=1)
            words.append(encode.words(point, vectors, factors, by_user.squares([vectors])))
        if self.products:
            own = [product.times(factors / point.step) for product in self.products.values()]
            of_kernels = table_codes.sums_of_products(own, point, encode)
            shapes |= {name: total.shape[1:] for name, total in zip(self.products, of_kernels, strict=True)}
            words += [tf.reshape(total, [encode.places, -1]) for total in of_kernels]
        total = encode.sent(tf.concat(words, axis=1))
        flat = tf.split(total, [shape.num_elements() for shape in shapes.values()])
        named = zip(shapes.items(), flat, strict=True)
        return collections.OrderedDict((name, tf.reshape(vector, shape)) for (name, shape), vector in named)
