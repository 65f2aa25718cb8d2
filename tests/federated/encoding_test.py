"""Rounding to integers: by half a step, within the limit, and refused where it is no number; sums are exact."""

import functools

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

from tff_rec.federated import by_user, encoding
from tff_rec.federated.encoding import FixedPoint

bounds = st.floats(1e-3, 1e4)
widths = st.integers(2, 32)
shares = st.lists(st.floats(-1.0, 1.0, width=32), min_size=1, max_size=20)


class FixedPointTest(parameterized.TestCase, tf.test.TestCase):
    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(bounds, widths, shares)
    def test_rounds_by_half_a_step_at_most(self, bound, bits, shares):
        point = FixedPoint(bound, bits)
        values = np.clip(np.float32(bound) * np.array(shares, np.float32), -bound, bound).astype(np.float32)
        integers = point.encode(tf.constant(values)).numpy()
        self.assertEqual(integers.dtype, np.int32)
        self.assertLessEqual(np.abs(integers).max(), point.limit)
        errors = np.abs(integers * point.step - values.astype(np.float64))
        self.assertLessEqual(errors.max(), point.step / 2 * (1 + 1e-6) + 2.0**-22 * bound)
        self.assertAllClose(point.decode(tf.constant(integers)), integers * point.step, rtol=1e-6)

    @settings(max_examples=30, deadline=None, derandomize=True)
    @given(bounds, widths, st.floats(1.0, 1e6))
    def test_clips_beyond_the_bound(self, bound, bits, factor):
        point = FixedPoint(bound, bits)
        value = tf.constant([1.1, -1.1, np.inf, -np.inf]) * tf.constant(bound * factor, tf.float32)
        self.assertAllEqual(point.encode(value), point.limit * np.array([1, -1, 1, -1]))

    @settings(max_examples=30, deadline=None, derandomize=True)
    @given(bounds, widths, shares)
    def test_the_decoded_sum_is_the_sum_of_decoded_values(self, bound, bits, shares):
        point = FixedPoint(bound, bits)
        integers = tf.cast(point.encode(tf.constant(np.array(shares) * bound, tf.float32)), tf.int64)
        each = point.decode(integers).numpy().astype(np.float64)
        self.assertAllClose(point.decode(tf.reduce_sum(integers)), each.sum(), rtol=1e-5, atol=1e-6 * bound)
        self.assertEqual(int(tf.reduce_sum(integers)), sum(int(integer) for integer in integers))

    @parameterized.parameters((0.0, 24), (-1.0, 24), (1.0, 1), (1.0, 33))
    def test_refuses(self, bound, bits):
        with self.assertRaises(ValueError):
            FixedPoint(bound, bits)


class KnownNormsTest(tf.test.TestCase):
    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(bounds, widths, st.integers(0, 2**31), st.floats(0.1, 10.0))
    def test_codes_are_the_same_and_within_the_limit(self, bound, bits, seed, longest):
        """Users clipped to the bound as training does it: long ones, short ones, of one value or of many; or not."""
        rng = np.random.default_rng(seed)
        values = (bound * longest * rng.standard_normal([9, 5])).astype(np.float32)
        values[:3, 1:], values[3] = 0.0, 0.0
        weights = tf.constant(rng.uniform(0.5, 1.0, 9).astype(np.float32))
        squares = by_user.squares([tf.constant(values)])
        point = FixedPoint(bound, bits)
        for factors in (weights * by_user.clip_scale(squares * weights**2, bound * weights), weights):
            slow = point.encode(tf.constant(values), factors)
            fast = point.encode(tf.constant(values), factors, squares)
            self.assertAllEqual(fast, slow)
            self.assertLessEqual(np.abs(fast.numpy().astype(np.int64)).max(), point.limit)

    def test_users_at_the_bound_are_spared_the_clipping(self):
        """A norm that is not that of the values shows it: what is beyond the bound then stays so."""
        rng = np.random.default_rng(0)
        for bits in (8, 18, 19, 22, 24, 32):
            point = FixedPoint(0.3, bits)
            squares = tf.constant(rng.uniform(0.1, 100.0, 2000).astype(np.float32))
            factors = by_user.clip_scale(squares, 0.3)
            values = (tf.sqrt(squares) * tf.constant(rng.uniform(0.9, 1.0, 2000).astype(np.float32)))[:, tf.newaxis]
            slow = point.encode(values, factors)
            self.assertAllEqual(point.encode(values, factors, squares), slow)
            if bits < 32:
                values = tf.tensor_scatter_nd_update(values, [[7, 0]], 1.5 * values[7, :1])
                code = point.encode(values, factors, squares)[7, 0]
                self.assertAllClose(code, 1.5 * tf.cast(slow[7, 0], tf.float32), rtol=0.01)
                self.assertEqual(point.encode(values, factors)[7, 0], point.limit)


def sum_of_users(limit, codes):
    return encoding.Encode({}).added(lambda whole: tf.reduce_sum(whole, axis=0), codes, limit)


class SumTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(0, 1, 2, 3, 500)
    def test_is_exact_at_the_ends_of_the_range(self, users):
        for limit in (2**31 - 1, 2**31 // 500, 2**31 // 500 + 1, 7):
            total = tf.function(functools.partial(sum_of_users, limit), autograph=False)
            for code in (limit, -limit):
                found = total(tf.constant(np.full([users, 2], code, np.int32)))
                self.assertEqual(found.dtype, tf.int64)
                self.assertAllEqual(found, [users * code] * 2)

    def test_residues_wrap(self):
        """Of 32 bits and of 64: what masks the members have, words that wrap add up to the same."""
        for word in (tf.int32, tf.int64):
            words = tf.constant([[word.max], [3]], word)
            self.assertAllEqual(encoding.Encode({}, _Masks(word)).sent(words) % 2**32, [(int(word.max) + 3) % 2**32])

    def test_users_are_played_in_places(self):
        """Users 0 to 2 and 3, 4 together: places have their sums, and masks are added to these."""
        values = tf.constant([[1.0], [2.0], [3.0], [4.0], [5.0]])
        rings = _Masks(tf.int64)
        encode = encoding.Encode({"items": FixedPoint(7.0, 4)}, rings)
        self.assertAllEqual(encode.place(tf.constant(5)), [0, 0, 0, 1, 1])
        self.assertAllEqual(encode.sum("items", values), [15])
        self.assertAllEqual(rings.masked, [[6 + rings.MASK], [9 - rings.MASK]])


class _Masks:
    """Two places whose masks cancel; remembers what they made."""

    MASK = 2**31 - 5
    places = 2

    def __init__(self, word):
        self.word = word

    def checked(self, users):
        return users

    def masks(self, shape):
        return tf.broadcast_to(tf.constant([[self.MASK], [-self.MASK]], self.word), shape)

    def uploads(self, masked):
        self.masked = masked
        return tf.bitcast(masked, tf.uint32 if self.word == tf.int32 else tf.uint64)


class NotANumberTest(tf.test.TestCase):
    def test_wherever_it_stands_it_is_refused(self):
        """Places of vector instructions and of the rest, one user and many, bits of float32 and of float64."""
        for bits in (22, 32):
            for place in (0, 5, 16, 18):
                values = np.ones([3, 19], np.float32)
                values[1, place] = np.nan
                point, values = FixedPoint(2.0, bits), tf.constant(values)
                for known in ((), (tf.ones([3]), by_user.squares([values]))):
                    with self.assertRaisesRegex(tf.errors.InvalidArgumentError, "is not a number"):
                        point.encode(values, *known)


if __name__ == "__main__":
    tf.test.main()
