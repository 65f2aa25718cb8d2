"""Gradients in factors equal those of a table a user, computed the slow way."""

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tff_rec.federated import encoding, item_gradients

ITEMS, DIMENSION = 7, 3
LIMIT = 2**17 - 1
THOUSANDTHS = encoding.Encode({"items": encoding.FixedPoint(1e-3 * (LIMIT - (LIMIT >> 13)), 18)})


def table_gradient(seed, users, places, queries):
    """Random factors, with repeated items and padding."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return tf.constant(rng.standard_normal(shape).astype(np.float32))

    ids = rng.integers(-1, ITEMS, [users, places]).astype(np.int32)
    return item_gradients.TableGradient(
        num_items=ITEMS,
        ids=tf.constant(ids),
        values=normal(users, places, DIMENSION),
        logits=normal(users, queries, ITEMS),
        queries=normal(users, queries, DIMENSION),
    )


def tables(gradient):
    """Each user's own gradient by loops and by hand, float64 [users, items, d]."""
    result = []
    for ids, values, logits, queries in zip(
        *(part.numpy() for part in (gradient.ids, gradient.values, gradient.logits, gradient.queries)), strict=True
    ):
        own = logits.T.astype(np.float64) @ queries
        for item, value in zip(ids, values, strict=True):
            if item >= 0:
                own[item] += value
        result.append(own)
    return np.stack(result)


class TableGradientTest(tf.test.TestCase):
    def test_equals_a_table_a_user(self):
        @settings(max_examples=15, deadline=None, derandomize=True)
        @given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 6), st.integers(1, 5))
        def check(seed, users, places, queries):
            gradient = table_gradient(seed, users, places, queries)
            slow, factors = tables(gradient), np.linspace(0.5, 2.0, users).astype(np.float32)
            total, rounded = np.tensordot(factors, slow, 1), np.rint(1e3 * factors[:, np.newaxis, np.newaxis] * slow)
            for form in (gradient, gradient.combined()):
                self.assertAllClose(form.squares, np.sum(slow**2, axis=(1, 2)), rtol=1e-4, atol=1e-4)
                self.assertAllClose(form.sum(tf.constant(factors)), total, rtol=1e-4, atol=1e-4)
            encoded = gradient.combined().encoded_sum(tf.constant(factors), THOUSANDTHS)
            self.assertEqual(encoded.dtype, tf.int64)
            self.assertAllClose(encoded, np.sum(rounded, axis=0), rtol=1e-4, atol=users)

        check()

    def test_a_norm_of_nothing_is_nothing(self):
        gradient = table_gradient(0, 2, 3, 2)
        nothing = item_gradients.TableGradient(
            ITEMS,
            gradient.ids,
            tf.zeros_like(gradient.values),
            tf.zeros_like(gradient.logits),
            gradient.queries,
        )
        self.assertAllEqual(nothing.squares, [0.0, 0.0])


class RowGradientTest(tf.test.TestCase):
    def test_an_item_named_twice_is_one_row_of_the_norm(self):
        ids = tf.constant([[2, 2, -1]])
        values = tf.constant([[[1.0, 0.0], [2.0, 4.0], [9.0, 9.0]]])
        combined = item_gradients.RowGradient(4, ids, values).combined()
        self.assertAllClose(combined.squares, [3.0**2 + 4.0**2])
        self.assertAllClose(combined.sum(tf.constant([2.0])), [[0, 0], [0, 0], [6, 8], [0, 0]])

    def test_members_of_rings_send_the_same_rows(self):
        """All rows, or those of them that are released, if any; the sum is what each row by itself gives."""
        rings = _OneRing()
        encode = encoding.Encode(THOUSANDTHS.points, rings)
        values = tf.constant(np.random.default_rng(0).standard_normal([3, 2, 2]).astype(np.float32))
        factors = tf.constant([1.0, 0.5, 2.0])
        for ids, released, rows in (
            ([[5, 1], [1, -1], [-1, 3]], tf.identity, [1, 3, 5]),
            ([[5, 1], [1, -1], [-1, 3]], lambda ids: tf.where(ids == 3, -1, ids), [1, 5]),
            ([[5, 1], [1, -1], [-1, 3]], None, range(ITEMS)),
            ([[-1, -1]] * 3, tf.identity, []),
        ):
            ids = tf.constant(ids)
            known = ids if released is None else released(ids)
            expected = item_gradients.RowGradient(ITEMS, known, values).encoded_sum(factors, THOUSANDTHS)
            gradient = item_gradients.RowGradient(ITEMS, ids, values, released)
            found = gradient.encoded_sum(factors, encode)
            self.assertAllEqual(found, expected)
            self.assertContainsSubset(np.flatnonzero(np.any(found != 0, axis=1)), rows)
            self.assertEqual(rings.shape, [2, ITEMS, 2])


class _OneRing:
    """Masks of two places that cancel; remembers what shape they had."""

    word, places = tf.int64, 2

    def checked(self, users):
        return users

    def masks(self, shape):
        self.shape = shape.numpy().tolist()
        return tf.broadcast_to(tf.constant([-7, 7], tf.int64)[:, tf.newaxis, tf.newaxis], shape)

    def uploads(self, masked):
        return tf.bitcast(masked, tf.uint64)


if __name__ == "__main__":
    tf.test.main()
