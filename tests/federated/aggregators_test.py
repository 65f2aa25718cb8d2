"""Fixed-point numbers, and the two ways from blocks' sums to a mean over users."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

from tff_rec.federated import aggregators

pytestmark = pytest.mark.usefixtures("execution_context")

bounds = st.floats(1e-3, 1e4)
widths = st.integers(2, 32)
shares = st.lists(st.floats(-1.0, 1.0, width=32), min_size=1, max_size=20)


class FixedPointTest(parameterized.TestCase, tf.test.TestCase):
    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(bounds, widths, shares)
    def test_rounds_by_half_a_step_at_most(self, bound, bits, shares):
        point = aggregators.FixedPoint(bound, bits)
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
        point = aggregators.FixedPoint(bound, bits)
        value = tf.constant([1.1, -1.1, np.inf, -np.inf]) * tf.constant(bound * factor, tf.float32)
        self.assertAllEqual(point.encode(value), point.limit * np.array([1, -1, 1, -1]))

    @settings(max_examples=30, deadline=None, derandomize=True)
    @given(bounds, widths, shares)
    def test_the_decoded_sum_is_the_sum_of_decoded_values(self, bound, bits, shares):
        point = aggregators.FixedPoint(bound, bits)
        integers = point.encode(tf.constant(np.array(shares) * bound, tf.float32))
        each = point.decode(integers).numpy().astype(np.float64)
        self.assertAllClose(point.decode(tf.reduce_sum(integers)), each.sum(), rtol=1e-5, atol=1e-6 * bound)
        self.assertEqual(int(tf.reduce_sum(integers)), sum(int(integer) for integer in integers))

    @parameterized.parameters((0.0, 24), (-1.0, 24), (1.0, 1), (1.0, 33))
    def test_refuses(self, bound, bits):
        with self.assertRaises(ValueError):
            aggregators.FixedPoint(bound, bits)


def types(dtype):
    value = collections.OrderedDict(query=collections.OrderedDict(a=(dtype, [2])), items=(dtype, [3, 1]), loss=dtype)
    return tff.types.to_type(value), tff.TensorType(dtype)


def values(dtype, *numbers):
    return [
        collections.OrderedDict(
            query=collections.OrderedDict(a=np.array([n, 2 * n], dtype)),
            items=np.full([3, 1], 3 * n, dtype),
            loss=dtype(n),
        )
        for n in numbers
    ]


class MeanTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.named_parameters(
        ("plain", aggregators.PlainMeanFactory(), np.float32),
        ("secure", aggregators.secure_mean(1.0, 1.0, 2.0), np.int64),
    )
    def test_type(self, factory, dtype):
        value, weight = types(dtype)
        process = factory.create(value, weight)
        parameter = process.next.type_signature.parameter
        self.assertEqual(parameter.value, tff.FederatedType(value, tff.CLIENTS))
        self.assertEqual(parameter.weight, tff.FederatedType(weight, tff.CLIENTS))
        mean, _ = types(np.float32)
        self.assertTrue(process.next.type_signature.result.result.is_equivalent_to(tff.FederatedType(mean, tff.SERVER)))

    def test_plain_is_sums_over_the_sum_of_weights(self):
        """(1 + 2 + 6) / (1 + 1 + 1)."""
        process = aggregators.PlainMeanFactory().create(*types(np.float32))
        result = process.next(process.initialize(), values(np.float32, 1, 2, 6), [1.0, 1.0, 1.0]).result
        self.assertAllClose(result["query"]["a"], [3.0, 6.0])
        self.assertAllClose(result["items"], np.full([3, 1], 9.0))

    def test_secure_decodes_the_sum_of_integers(self):
        """Bounds 2 (query 1 x weight 2), width 3 bits, so limit 3 and step 2/3: 4 + 2 - 3 steps are 2 by weight 2/3."""
        factory = aggregators.secure_mean(1.0, 1.0, 2.0, loss_bound=1.0, bits=3)
        process = factory.create(*types(np.int64))
        result = process.next(process.initialize(), values(np.int64, 4, 2, -3), [1, 1, -1]).result
        self.assertAllClose(result["query"]["a"], [3.0, 6.0])
        self.assertAllClose(result["loss"], 3.0)

    def test_nobody_gives_zero(self):
        process = aggregators.PlainMeanFactory().create(*types(np.float32))
        result = process.next(process.initialize(), values(np.float32, 0), [0.0]).result
        self.assertAllEqual(result["items"], np.zeros([3, 1]))

    def test_a_missing_bound_is_named(self):
        with self.assertRaisesRegex(ValueError, "items, loss, query, weight"):
            aggregators.SecureMeanFactory({})
        point = aggregators.FixedPoint(1.0)
        with self.assertRaisesRegex(ValueError, "weight"):
            aggregators.SecureMeanFactory({"query": point, "items": point, "loss": point})

    def test_secure_is_secure(self):
        tff.test.assert_not_contains_unsecure_aggregation(
            aggregators.secure_mean(1.0, 1.0, 2.0).create(*types(np.int64)).next
        )
        with self.assertRaises(AssertionError):
            tff.test.assert_not_contains_unsecure_aggregation(
                aggregators.PlainMeanFactory().create(*types(np.float32)).next
            )


if __name__ == "__main__":
    tf.test.main()
