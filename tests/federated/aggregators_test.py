"""The two ways from blocks' sums to a mean over users."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from absl.testing import parameterized

from tff_rec.federated import aggregators
from tff_rec.federated.encoding import FixedPoint

pytestmark = pytest.mark.usefixtures("execution_context")


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
        point = FixedPoint(1.0)
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
