"""What users do to their values before these are added to anybody's: they round them to integers, and mask them."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import tensorflow as tf

from tff_rec.federated import by_user

NOT_A_NUMBER = "not a number"
"""What errors say of a value that cannot be encoded."""
_FLOAT32_BITS = 24
_ROOM = 13  # Float32 multiplies and takes roots with an error of 2^-24, norms add up: the room for it is 2^-13.
_SHIFT = 3.0 * 2**22
_SHIFT_BITS = np.float32(_SHIFT).view(np.int32).item()


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

    @property
    def rounding_error(self) -> float:
        """Most that a value within the bound is changed: half a step, and where two are added (`table_codes`) one."""
        return self.step

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
        scale = tf.constant(1.0 / self.step, self._exact)
        if factors is not None:
            scale = by_user.beside(tf.cast(factors, self._exact) * scale, values)
        scaled = tf.cast(values, self._exact) * scale
        if squares is None or factors is None:
            return self.rounded(scaled)
        return tf.cond(
            self._fit(squares, factors),
            lambda: tf.cast(tf.round(scaled), tf.int32),
            lambda: self.rounded(scaled),
        )

    def rounded(self, scaled: tf.Tensor) -> tf.Tensor:
        """Rounds what is in units of a step, and clips it; otherwise as `encode`."""
        limit = tf.constant(self.limit, self._exact)
        inside = tf.raw_ops.ClipByValue(  # In one pass.
            t=tf.cast(scaled, self._exact), clip_value_min=-limit, clip_value_max=limit
        )
        return _numbers(tf.cast(tf.round(inside), tf.int32))

    def _fit(self, squares: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
        """Whether norms show that no integer of anybody, factors × values, is beyond the limit: bool [].

        It is false where a norm is not a number.
        """
        largest = tf.sqrt(tf.cast(squares, self._exact)) * tf.cast(factors, self._exact) / self.step
        return tf.reduce_all(largest <= tf.constant(self.within, self._exact))

    @property
    def within(self) -> float:
        """What a float32 in units of a step must not exceed, so that for all its errors its integer is in the limit."""
        return self.limit - self._room // 2 + 0.25

    @property
    def shift(self) -> tuple[float, int] | None:
        """What rounds a float32 that fits, in units of a step, by being added, and what it adds to its bits.

        It moves the number to where neighbours are 1 apart: the bits of the sum, taken for an int32, are those of the
        shift and the integer. None where the integers are too wide for that.
        """
        return (_SHIFT, _SHIFT_BITS) if self.bits < _FLOAT32_BITS else None

    def decode(self, value: tf.Tensor) -> tf.Tensor:
        """A sum of encoded values, int64, to float32."""
        return tf.cast(tf.cast(value, tf.float64) * self.step, tf.float32)

    @property
    def _exact(self) -> tf.DType:
        return tf.float32 if self.bits <= _FLOAT32_BITS else tf.float64

    @property
    def _room(self) -> int:
        return self.limit >> _ROOM


class Rings(Protocol):
    """Masks on integers of users that cancel in the sum over a ring, where an entry is the same thing for all members.

    The first users of a block are its first ring, the next its second, and so on.
    """

    @property
    def word(self) -> tf.DType:
        """Signed integers of the width of a share, which may wrap: int32 or int64."""
        ...

    @property
    def places(self) -> int:
        """In how many places a block's users are played.

        Of uploads the server uses their sum alone. So those of users at one place are added before they are made: their
        integers are, and the shares that they send and receive, whose sums are as uniform as each is.
        """
        ...

    def of(self, users: tf.Tensor) -> tf.Tensor:
        """From a number of users, int32 [], to the ring of each: int32 [users], from 0."""
        ...

    def checked(self, users: tf.Tensor) -> tf.Tensor:
        """A block's number of users, int32 []; raises InvalidArgumentError where that makes no rings."""
        ...

    def masks(self, shape: tf.Tensor) -> tf.Tensor:
        """Words of a shape, int32 [rank], the members of a ring or of a block of them first, to add to theirs."""
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

    def sum(self, part: str, values: tf.Tensor) -> tf.Tensor:
        """The sum over users of what they send: float32 [users, ...] → int64 [...].

        All entries mean the same for all users, as masks of rings need it.
        """
        return self.sent(self.words(self.points[part], values))

    def words(
        self,
        point: FixedPoint,
        values: tf.Tensor,
        factors: tf.Tensor | None = None,
        squares: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Sums of codes over users at each place: `word` [places, ...]; arguments as in `FixedPoint.encode`."""
        codes = point.encode(values, factors, squares)
        place = self.place(tf.shape(codes)[0])
        return self.added(lambda whole: tf.math.unsorted_segment_sum(whole, place, self.places), codes, point.limit)

    @property
    def places(self) -> int:
        """As in `Rings`; one without."""
        return 1 if self.rings is None else self.rings.places

    @property
    def word(self) -> tf.DType:
        """Of sums over users at one place."""
        return tf.int64 if self.rings is None else self.rings.word

    def first_at_place(self, users: tf.Tensor) -> tf.Tensor:
        """From a number of users, int32 [], to the first of those at each place, in order, and the end: int32."""
        users = users if self.rings is None else self.rings.checked(users)
        return -(-tf.range(self.places + 1) * users // self.places)

    def place(self, users: tf.Tensor) -> tf.Tensor:
        """From a number of users, int32 [], to the place of each: int32 [users]."""
        return tf.searchsorted(self.first_at_place(users)[1:], tf.range(users), side="right")

    def added(self, total: Callable[[tf.Tensor], tf.Tensor], codes: tf.Tensor, limit: int) -> tf.Tensor:
        """Sums of codes as `exactly` takes them, exact, or modulo 2^b where there are rings: of `word`."""
        return exactly(total, codes, limit) if self.rings is None else total(tf.cast(codes, self.word))

    def by_item(self, ids: tf.Tensor, codes: tf.Tensor, num_items: int, limit: int) -> tf.Tensor:
        """Sums of codes of items, each once a user: `word` [places, num_items, d].

        Args:
            ids: int32 [users, n], whose codes they are; negative for none.
            codes: int32 [users, n, d].
            num_items: Size of the catalogue.
            limit: Largest magnitude of a code.
        """
        first_row = num_items * self.place(tf.shape(ids)[0])[:, tf.newaxis]
        rows, num_rows = tf.where(ids >= 0, ids + first_row, -1), num_items * self.places
        words = self.added(lambda whole: by_user.scatter_sum(rows, whole, num_rows), codes, limit)
        return tf.reshape(words, [self.places, num_items, codes.shape[-1]])

    def sent(self, words: tf.Tensor) -> tf.Tensor:
        """What the server has of sums over users at each place, [places, ...]: int64 [...], with rings residues."""
        if self.rings is None:
            return words[0]
        total = tf.reduce_sum(uploads(words, self.rings), axis=0)
        return tf.bitcast(total, tf.int64) if total.dtype.size == tf.int64.size else tf.cast(total, tf.int64)


def uploads(words: tf.Tensor, rings: Rings) -> tf.Tensor:
    """What members of rings upload: from their own words, [members, ...], which mean the same for all; unsigned."""
    return rings.uploads(words + rings.masks(tf.shape(words)))


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
