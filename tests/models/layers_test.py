"""Functional layers: shared and stacked weights, dropout a stream a user, attention that looks back."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from tff_rec.models import layers


def normal(seed, *shape):
    return tf.constant(np.random.default_rng(seed).standard_normal(shape), tf.float32)


class LayersTest(tf.test.TestCase, parameterized.TestCase):
    def test_dense_with_shared_and_stacked_weights(self):
        inputs, kernel, bias = normal(0, 3, 5, 4), normal(1, 3, 4, 2), normal(2, 3, 2)
        stacked = layers.dense(inputs, kernel, bias)
        for user in range(3):
            one = layers.dense(inputs[user : user + 1], kernel[user], bias[user])
            self.assertAllClose(stacked[user], one[0], atol=1e-5)
            self.assertAllClose(one[0], inputs[user].numpy() @ kernel[user].numpy() + bias[user].numpy(), atol=1e-5)

    def test_layer_norm_equals_keras(self):
        inputs, scale, offset = normal(0, 2, 3, 6), normal(1, 6), normal(2, 6)
        keras = tf.keras.layers.LayerNormalization(epsilon=1e-6)
        keras.build(inputs.shape)
        keras.set_weights([scale, offset])
        self.assertAllClose(layers.layer_norm(inputs, scale, offset), keras(inputs), atol=1e-5)

    def test_squeeze_excitation_begins_as_the_identity(self):
        inputs = normal(0, 2, 3, 6)
        self.assertAllClose(layers.squeeze_excitation(inputs, normal(1, 6, 2), tf.zeros([2, 6])), inputs)
        self.assertNotAllClose(layers.squeeze_excitation(inputs, normal(1, 6, 2), tf.ones([2, 6])), inputs)


class DropoutTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(0.1, 0.5, 0.9)
    def test_drops_at_the_rate_and_scales_the_rest(self, rate):
        outputs = layers.dropout(tf.ones([20, 50, 100]), rate, tf.range(20), "here").numpy()
        self.assertAllClose(np.mean(outputs == 0), rate, atol=4 * (rate * (1 - rate) / outputs.size) ** 0.5)
        self.assertAllClose(outputs[outputs > 0], np.full(np.sum(outputs > 0), 1 / (1 - rate)))

    def test_is_the_identity_at_inference(self):
        inputs = normal(0, 2, 3, 4)
        self.assertIs(layers.dropout(inputs, 0.5, None, "here"), inputs)
        self.assertIs(layers.dropout(inputs, 0.0, tf.range(2), "here"), inputs)

    def test_seeds_reproduce_and_streams_differ(self):
        inputs = tf.ones([3, 8, 8])
        first = layers.dropout(inputs, 0.5, tf.constant([1, 2, 3]), "here")
        self.assertAllEqual(first, layers.dropout(inputs, 0.5, tf.constant([1, 2, 3]), "here"))
        self.assertNotAllEqual(first, layers.dropout(inputs, 0.5, tf.constant([1, 2, 3]), "there"))
        self.assertNotAllEqual(first[0], first[1])

    def test_does_not_depend_on_neighbours(self):
        together = layers.dropout(tf.ones([3, 8, 8]), 0.5, tf.constant([1, 2, 3]), "here")
        alone = layers.dropout(tf.ones([1, 5, 8]), 0.5, tf.constant([2]), "here")
        self.assertAllEqual(together[1, :5], alone[0])


class AttentionTest(tf.test.TestCase):
    def test_equals_keras(self):
        queries, keys, values = normal(0, 2, 5, 6), normal(1, 2, 5, 6), normal(2, 2, 5, 6)
        keras = tf.keras.layers.Attention(use_scale=False)
        for head in range(2):
            part = slice(3 * head, 3 * head + 3)
            expected = keras(
                [queries[:, :, part] * 3**-0.5, values[:, :, part], keys[:, :, part]], use_causal_mask=True
            )
            ours = layers.causal_attention(queries, keys, values, 2, 0.0, None, "here")
            self.assertAllClose(ours[:, :, part], expected, atol=1e-5)

    def test_dropout_does_not_depend_on_padding(self):
        queries, keys, values = normal(0, 2, 5, 6), normal(1, 2, 5, 6), normal(2, 2, 5, 6)
        seeds = tf.constant([8, 9])
        long = layers.causal_attention(queries, keys, values, 2, 0.5, seeds, "here")
        short = layers.causal_attention(queries[:, :3], keys[:, :3], values[:, :3], 2, 0.5, seeds, "here")
        self.assertAllClose(long[:, :3], short, atol=1e-5)

    def test_dropout_keeps_the_mean(self):
        queries = tf.zeros([4000, 4, 2])
        outputs = layers.causal_attention(queries, queries, tf.ones_like(queries), 1, 0.3, tf.range(4000), "here")
        self.assertAllClose(tf.reduce_mean(outputs, axis=[0, 2]), tf.ones([4]), atol=0.03)


if __name__ == "__main__":
    tf.test.main()
