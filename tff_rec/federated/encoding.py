"""What users do to their values before these are added to anybody's: they round them to integers, and mask them."""

import collections
import dataclasses
from collections.abc import Callable, Mapping
from typing import Protocol

import tensorflow as tf

from tff_rec.federated import by_user

NOT_A_NUMBER = "not a number"
"""What errors say of a value that cannot be encoded."""
_FLOAT32_BITS = 24
_ROOM = 17  # Float32 multiplies and takes roots with an error of 2^-24; the room for it is a part of 2^-17.


@dataclasses.dataclass(frozen=True)
class FixedPoint:
    """Rounding of a real number in [-bound, bound] to an integer of `bits` bits; beyond the bound it is clipped.

    Attributes:
        bound: Largest magnitude of one user's weighted value.
        bits: Width of the integer, sign included.
    """

    bound: float
    bits: int = 24

    def __post_init__(self) -> None:
        if self.bound <= 0:
            raise ValueError(f"The bound of a fixed-point number must be positive, not {self.bound}.")
        if not 2 <= self.bits <= 32:
            raise ValueError(f"A fixed-point number has 2 to 32 bits, not {self.bits}.")

    @property
    def limit(self) -> int:
        """Largest integer."""
        return 2 ** (self.bits - 1) - 1

    @property
    def step(self) -> float:
        """Distance of neighbouring values. The bound's integer leaves room below the limit for float32's errors."""
        return self.bound / (self.limit - self._room)

    def encode(
        self, values: tf.Tensor, factors: tf.Tensor | None = None, squares: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Rounds values, or factors × values; within the bound by half a step at most, and float32's own rounding.

        Up to 24 bits float32 holds every integer, and is the faster way there.

        Args:
            values: float32 [...]; [users, ...] where there are factors.
            factors: float32 [users], not negative.
            squares: With factors: each user's squared norm, float32 [users]. Where they show that no value of anybody
                is beyond the bound, values are spared the clipping, which takes as long as all else.

        Returns:
            int32 of the shape of the values, in [-limit, limit].

        Raises:
            tf.errors.InvalidArgumentError: A value is not a number.
        """
        exact = tf.float32 if self.bits <= _FLOAT32_BITS else tf.float64
        scale = tf.constant(1.0 / self.step, exact)
        if factors is not None:
            scale = by_user.beside(tf.cast(factors, exact) * scale, values)

        def rounded() -> tf.Tensor:
            return tf.cast(tf.round(tf.cast(values, exact) * scale), tf.int32)

        def clipped() -> tf.Tensor:
            limit = tf.constant(self.limit, exact)
            scaled = tf.cast(values, exact) * scale
            inside = tf.raw_ops.ClipByValue(t=scaled, clip_value_min=-limit, clip_value_max=limit)  # In one pass.
            return _numbers(tf.cast(tf.round(inside), tf.int32))

        if squares is None:
            return clipped()
        largest = tf.sqrt(tf.cast(squares, exact)) * tf.reshape(scale, [-1])
        most = tf.constant(self.limit - self._room // 2 + 0.25, exact)
        return tf.cond(tf.reduce_all(largest <= most), rounded, clipped)

    def decode(self, value: tf.Tensor) -> tf.Tensor:
        """A sum of encoded values, int64, to float32."""
        return tf.cast(tf.cast(value, tf.float64) * self.step, tf.float32)

    @property
    def _room(self) -> int:
        return self.limit >> _ROOM


class Rings(Protocol):
    """Masks on integers of users that cancel in the sum over a ring, where an entry is the same thing for all members.

    The first users of a block are its first ring, the next its second, and so on.
    """

    def of(self, users: tf.Tensor) -> tf.Tensor:
        """From a number of users, int32 [], to the ring of each: int32 [users], from 0."""
        ...

    def masks(self, shape: tf.Tensor) -> tf.Tensor:
        """Signed integers of a shape, int32 [rank], users first, to add to theirs."""
        ...

    def uploads(self, masked: tf.Tensor) -> tf.Tensor:
        """What users send, unsigned, from their integers and masks together, which may have wrapped."""
        ...


@dataclasses.dataclass(frozen=True)
class Encode:
    """What each user does to its values before they are added to anybody's.

    Attributes:
        points: How each part of a contribution (`query`, `items`, `loss`, `weight`) becomes integers.
        rings: What hides these integers, so that only sums over whole rings mean something; None where every integer
            stands for itself.
    """

    points: Mapping[str, FixedPoint]
    rings: Rings | None = None

    def sum(
        self, part: str, values: tf.Tensor, factors: tf.Tensor | None = None, squares: tf.Tensor | None = None
    ) -> tf.Tensor:
        """The sum over users of what they send: float32 [users, ...] → int64 [...]; arguments as `FixedPoint.encode`.

        All entries mean the same for all users, as masks of rings need it.
        """
        point = self.points[part]
        codes = point.encode(values, factors, squares)
        return integer_sum(codes, point.limit) if self.rings is None else residue_sum(masked(codes, self.rings))

    def sums(
        self, part: str, values: Mapping[str, tf.Tensor], factors: tf.Tensor | None = None
    ) -> collections.OrderedDict[str, tf.Tensor]:
        """`sum` of several tensors, by name, which every user lays out in one vector: one graph encodes them all."""
        shapes = {name: value.shape[1:] for name, value in values.items()}
        vectors = tf.concat([tf.reshape(values[name], [-1, shapes[name].num_elements()]) for name in shapes], axis=1)
        squares = None if factors is None else by_user.squares([vectors])
        total = self.sum(part, vectors, factors, squares)
        parts = tf.split(total, [shape.num_elements() for shape in shapes.values()])
        named = zip(shapes.items(), parts, strict=True)
        return collections.OrderedDict((name, tf.reshape(flat, shape)) for (name, shape), flat in named)


def masked(codes: tf.Tensor, rings: Rings) -> tf.Tensor:
    """Uploads of users whose integers all have the same entries: signed to unsigned, [users, ...]."""
    masks = rings.masks(tf.shape(codes))
    return rings.uploads(tf.cast(codes, masks.dtype) + masks)


def residue_sum(uploads: tf.Tensor) -> tf.Tensor:
    """Sums uploads over users, which may wrap: unsigned [users, ...] → int64 [...], residues."""
    total = tf.reduce_sum(uploads, axis=0)
    return tf.bitcast(total, tf.int64) if total.dtype.size == tf.int64.size else tf.cast(total, tf.int64)


def integer_sum(codes: tf.Tensor, limit: int) -> tf.Tensor:
    """Sums integers of magnitudes up to `limit` over users, exactly: int32 [users, ...] → int64 [...]."""
    return exactly(lambda integers: tf.reduce_sum(integers, axis=0), codes, limit)


def exactly(total: Callable[[tf.Tensor], tf.Tensor], codes: tf.Tensor, limit: int) -> tf.Tensor:
    """A sum of no more than one integer a user, as int64; in 32 bits, which takes a third of the time, where they do.

    Args:
        total: From integers like the codes, int32 or int64, to sums of the same type.
        codes: int32 [users, ...].
        limit: Largest magnitude of a code.
    """
    fits = tf.shape(codes, tf.int64)[0] * limit <= codes.dtype.max
    return tf.cond(fits, lambda: tf.cast(total(codes), tf.int64), lambda: total(tf.cast(codes, tf.int64)))


def _numbers(codes: tf.Tensor) -> tf.Tensor:
    """The codes, int32; raises InvalidArgumentError where one is the smallest of its type: that is what NaN becomes."""
    problem = f"A user's value is {NOT_A_NUMBER}."
    check = tf.debugging.assert_greater(tf.reduce_min(codes), codes.dtype.min, problem)
    with tf.control_dependencies([check]):
        return tf.identity(codes)
