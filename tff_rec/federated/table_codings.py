"""How item vectors are written on their way to devices: as floats of 32 or 16 bits, or as 8 bit integers and a scale.

The server differentiates the candidate tower at the vectors that it computed, devices at those that they decoded: the
difference is a rounding error of the forward pass (a straight-through estimate, Bengio et al. 2013).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

_LARGEST_INT8 = 127.0


@dataclasses.dataclass(frozen=True)
class TableCoding:
    """A way to write rows of item vectors.

    Attributes:
        name: For people, e.g. `float16`.
        encode: float32 [rows, d] to what is sent: one tensor, or a tuple of tensors, whose first axis is rows.
        decode: Back to float32 [rows, d].
    """

    name: str
    encode: Callable[[tf.Tensor], Any]
    decode: Callable[[Any], tf.Tensor]


def _to_int8(vectors: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    scale = tf.reduce_max(tf.abs(vectors), axis=1, keepdims=True) / _LARGEST_INT8
    return tf.cast(tf.round(tf.math.divide_no_nan(vectors, scale)), tf.int8), scale


def _from_int8(coded: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
    return tf.cast(coded[0], tf.float32) * coded[1]


FLOAT32 = TableCoding("float32", tf.identity, tf.identity)
FLOAT16 = TableCoding("float16", lambda vectors: tf.cast(vectors, tf.float16), lambda coded: tf.cast(coded, tf.float32))
INT8 = TableCoding("int8", _to_int8, _from_int8)
