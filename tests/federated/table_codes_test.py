"""Sums of tables that each user rounds equal those of tables made and rounded one by one, in NumPy."""

import dataclasses
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

from tff_rec.federated import encoding, item_gradients, ring_aggregator, secret_sharing, table_codes
from tff_rec.federated.encoding import FixedPoint
from tff_rec.federated.products import Products

ITEMS, DIMENSION = 6, 3
RING = secret_sharing.Ring(2**22 - 1, 100, shares=2, group_size=4, modulus_bits=32)
FORMS = {"secure": None, "ring": ring_aggregator.BlockRings(RING)}
WIDE = ring_aggregator.BlockRings(secret_sharing.Ring(2**31 - 1, 100, shares=3, group_size=4, modulus_bits=40))


def random_tables(seed, users, largest, whole):
    """Factors with rows in random order and padding; of whole numbers all products and their sums are whole."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        values = rng.uniform(-largest, largest, shape)
        return tf.constant(np.rint(values) if whole else values, tf.float32)

    ids = rng.permuted(np.tile(np.arange(ITEMS + 2), [users, 1]), axis=1)[:, :4]
    ids = np.where(ids < ITEMS, ids, -1).astype(np.int32)
    product = Products(draw(users, 2, ITEMS), draw(users, 2, DIMENSION))
    return table_codes.Tables(product, tf.constant(ids), draw(users, 4, DIMENSION))


def own_tables(tables):
    """Each user's table, float64 [users, items, d]."""
    left, right, rows = (
        part.numpy().astype(np.float64) for part in (tables.product.left, tables.product.right, tables.rows)
    )
    result = np.einsum("umi,umd->uid", left, right)
    for user, ids in enumerate(tables.ids.numpy()):
        for place, item in enumerate(ids):
            if item >= 0:
                result[user, item] += rows[user, place]
    return result


def sum_of_codes(tables, point, rings=None, fit=None):
    """As the server has it, with the residues of a ring brought next to 0; `fit` says what bounds would show."""
    encode = encoding.Encode({"items": point}, rings)
    own_fit = table_codes._fit
    with mock.patch.object(table_codes, "_fit", own_fit if fit is None else lambda *_: tf.constant(fit)):
        found = encode.sent(table_codes.sum_of_codes(tables, point, encode)).numpy()
    return found if rings is None else secret_sharing.group_sum(found.view(np.uint64)[np.newaxis], rings.ring)


def fit(tables, point):
    """Whether bounds show that nothing needs clipping."""
    return table_codes._fit(tables.product.largest, point, tables.largest_in_rows)


class SumOfCodesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(form=list(FORMS), bits=[16, 22, 23, 24, 32], fit=[True, False])
    def test_whole_numbers_are_summed_exactly(self, form, bits, fit):
        """All at once, and by few users and few items; 24 bits and more, and what may not fit,
        take the slow way."""
        rings = WIDE if form == "ring" and bits > 22 else FORMS[form]

        @settings(max_examples=8, deadline=None, derandomize=True)
        @given(st.integers(0, 2**31), st.integers(3, 30), st.sampled_from([(64, 1000), (4, 24), (5, 1)]))
        def check(seed, users, most):
            tables = random_tables(seed, users, 60.0, whole=True)
            limits = dict(zip(("_USERS", "_NUMBERS"), most, strict=True))
            with mock.patch.multiple(table_codes, **limits):
                found = sum_of_codes(tables, FixedPoint(1.0, bits), rings, fit)
            self.assertAllEqual(found, own_tables(tables).sum(axis=0))

        check()

    def test_each_user_rounds_by_itself(self):
        """A third of a step from each of ten users is nothing, two thirds are ten steps, three quarters likewise."""
        tables = random_tables(0, 10, 0.0, whole=True)
        for value, code in ((0.3, 0), (0.6, 10), (-0.6, -10), (0.75, 10), (7.4, 70)):
            product = Products(tf.fill([10, 2, ITEMS], value / 2), tf.ones([10, 2, DIMENSION]))
            found = sum_of_codes(dataclasses.replace(tables, product=product), FixedPoint(1.0, 22))
            self.assertAllEqual(found, np.full([ITEMS, DIMENSION], code))

    @parameterized.product(form=list(FORMS), fit=[True, False])
    def test_rounds_by_half_a_step_and_a_step_where_rows_are_added(self, form, fit):
        tables = random_tables(1, 1 if form == "secure" else 3, 500.0, whole=False)
        if form == "ring":  # One user; the others have nothing.
            alone = tf.constant([[[1.0]], [[0.0]], [[0.0]]])
            product = Products(tables.product.left * alone, tables.product.right)
            tables = dataclasses.replace(tables, product=product, rows=tables.rows * alone)
        own = own_tables(tables)[0]
        errors = np.abs(sum_of_codes(tables, FixedPoint(1.0, 21), FORMS[form], fit) - own)
        named = np.isin(np.arange(ITEMS), tables.ids.numpy()[0])[:, np.newaxis]
        self.assertTrue(np.all(errors <= 0.5 + (0.5 * named if fit else 0.0) + 0.05))

    def test_what_does_not_fit_is_clipped(self):
        """Limit 7: user 0 has 100, -100 and 3, the others nothing; or 4 in a row and 4 more."""
        tables = random_tables(0, 9, 0.0, whole=True)
        logits = np.zeros([9, 2, ITEMS], np.float32)
        logits[0, 1, :3] = 100.0, -100.0, 3.0
        far = dataclasses.replace(tables, product=Products(tf.constant(logits), tf.ones([9, 2, DIMENSION])))
        self.assertAllEqual(sum_of_codes(far, FixedPoint(1.0, 4))[:, 0], [7, -7, 3, 0, 0, 0])
        near = table_codes.Tables(
            Products(tf.fill([9, 1, ITEMS], 4.0), tf.ones([9, 1, DIMENSION])),
            tf.constant([[2]] + [[-1]] * 8),
            tf.constant([[[4.0] * DIMENSION]] + [[[0.0] * DIMENSION]] * 8),
        )
        self.assertAllEqual(sum_of_codes(near, FixedPoint(1.0, 4))[:, 0], [36, 36, 39, 36, 36, 36])

    def test_bounds_show_what_fits(self):
        """Up to the limit, 2^20 - 1, the way that does not clip is taken; whatever is drawn, codes are within it."""
        point = FixedPoint(1.0, 21)

        @settings(max_examples=20, deadline=None, derandomize=True)
        @given(st.integers(0, 2**31), st.floats(100.0, 3000.0))
        def check(seed, largest):
            tables = random_tables(seed, 3, largest, whole=False)
            if fit(tables, point):
                self.assertLess(np.abs(own_tables(tables)).max(), point.limit - 1)

        check()
        tables = random_tables(0, 3, 500.0, whole=False)
        self.assertTrue(fit(tables, point))
        self.assertFalse(fit(tables, FixedPoint(1.0, 17)))

    def test_uploads_of_a_block_are_masked(self):
        """Not even the sum over the users at a place is seen."""
        seen = []

        class Seeing(ring_aggregator.BlockRings):
            def uploads(self, masked):
                seen.append(super().uploads(masked))
                return seen[-1]

        tables = random_tables(2, 12, 60.0, whole=True)
        total = sum_of_codes(tables, FixedPoint(1.0, 22), Seeing(RING))
        self.assertAllEqual(total, own_tables(tables).sum(axis=0))
        [uploads] = seen
        sums = own_tables(tables).reshape(2, 6, ITEMS, DIMENSION).sum(axis=1)
        self.assertFalse(np.any(uploads.numpy().view(np.int32) == sums))


class TableGradientTest(tf.test.TestCase):
    def gradient(self, logits, queries, ids, values):
        return item_gradients.TableGradient(
            2, tf.constant(ids), tf.constant(values), tf.constant(logits), tf.constant(queries)
        )

    def test_a_product_beyond_float32s_reach_is_still_rounded_right(self):
        """Of item 0 the product is 3 million steps, and minus 3 million and 5 come back through the history."""
        point = FixedPoint(1.0, 22)
        far = np.float32(3e6 * point.step)
        gradient = self.gradient([[[far, 0.0]]], [[[1.0]]], [[0, -1]], [[[-far + np.float32(5 * point.step)], [9.0]]])
        found = gradient.encoded_sum(tf.ones([1]), encoding.Encode({"items": point}))
        self.assertAllClose(found, [[5], [0]], atol=1)

    def test_not_a_number_is_refused(self):
        for bits in (22, 32):
            for place in range(3):
                parts = [[[[1.0, 1.0]]], [[[1.0]]], [[[1.0], [1.0]]]]
                parts[place][0][0][0] = np.nan
                logits, queries, values = (np.array(part, np.float32) for part in parts)
                gradient = self.gradient(logits, queries, [[0, 1]], values)
                with self.assertRaisesRegex(tf.errors.InvalidArgumentError, "is not a number"):
                    gradient.encoded_sum(tf.ones([1]), encoding.Encode({"items": FixedPoint(9.0, bits)}))


if __name__ == "__main__":
    tf.test.main()
