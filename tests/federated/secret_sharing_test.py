"""The ring: exact sums or none, uniform shares and uploads, refusals; inside TFF the same bits as the secure sum."""

import collections
import functools
import hashlib
import unittest

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from hypothesis import strategies
from scipy import stats

from tff_rec.federated import (
    aggregators,
    contributions,
    encoding,
    ring_aggregator,
    secret_sharing,
    split_two_tower,
    stages,
)
from tff_rec.federated.encoding import FixedPoint
from tff_rec.federated.secret_sharing import Ring
from tff_rec.models import candidate_tower, objectives, query_towers, two_tower

ITEMS, DIMENSION = 12, 4


def _keys(count, salt=0):
    return [hashlib.sha256(f"{salt}/{user}".encode()).digest() for user in range(count)]


@strategies.composite
def rounds(draw):
    """A ring that its cohort's sum just fits into, values up to the limit, and drop-outs at every stage."""
    shares, users = draw(strategies.integers(2, 5)), draw(strategies.integers(0, 23))
    minimum = draw(strategies.integers(1, 4))
    bits = draw(strategies.integers(8, 64))
    limit = (2 ** (bits - 1) - 1) // 23
    group = draw(strategies.integers(max(shares, minimum), 12))
    ring = Ring(max(limit, 1), 23, shares, group, bits, minimum)
    rng = np.random.default_rng(draw(strategies.integers(0, 2**32)))
    values = rng.integers(-ring.value_limit, ring.value_limit, (users, 3), np.int64, endpoint=True)
    values[:, 0] = ring.value_limit * draw(strategies.sampled_from([-1, 1]))
    stays = draw(strategies.sampled_from([1.0, 0.9, 0.5]))
    sent = np.where(rng.random(users) < stays, shares, rng.integers(0, shares, users, endpoint=True))
    return ring, values, sent


class ProtocolTest(tf.test.TestCase):
    @hypothesis.settings(max_examples=200, deadline=None)
    @hypothesis.given(rounds())
    def test_the_sum_is_exact_or_the_ring_is_abandoned(self, drawn):
        ring, values, sent = drawn
        result = secret_sharing.ring_round(values, ring, sent, _keys(len(values)))
        exact = sum((row for row in values[result.included].astype(object)), np.zeros(3, object))
        np.testing.assert_array_equal(result.total.astype(object), exact)
        self.assertTrue(np.all(sent[result.included] == ring.shares))
        given_up = {member for ring_ in result.abandoned for member in ring_.members}
        self.assertFalse(result.included[sorted(given_up)].any())
        for group in ring.groups(len(values)):
            late = np.any(sent[group] == ring.shares - 1)
            shared = np.sum(sent[group] >= ring.shares - 1)
            self.assertEqual(set(group) <= given_up, bool(late or shared < ring.fewest))
            if not late and shared >= ring.fewest:
                np.testing.assert_array_equal(result.included[group], sent[group] == ring.shares)

    def test_groups(self):
        sizes = [[len(group) for group in Ring(1, 99, group_size=10).groups(users)] for users in (4, 10, 19, 20, 35)]
        self.assertEqual(sizes, [[4], [10], [19], [10, 10], [10, 10, 15]])

    def test_by_hand(self):
        """b = 8, s = 2: devices 5, -3, 7 send r to the next; uploads are x - r + r of the one before."""
        ring = Ring(8, 3, shares=2, group_size=3, modulus_bits=8)
        values = np.array([5, -3, 7])
        shares = secret_sharing.share(values, ring, _keys(3))
        kept, sent = shares[:, 0].astype(int), shares[:, 1].astype(int)
        self.assertAllEqual((kept + sent) % 256, [5, 253, 7])
        uploads = secret_sharing.upload(shares, ring)
        self.assertAllEqual(uploads, [(kept[i] + sent[i - 1]) % 256 for i in range(3)])
        self.assertEqual(secret_sharing.group_sum(uploads, ring), 9)

    def test_drop_outs(self):
        """Three rings of 4, s = 3: one lacks a device before and one during sharing; one lacks an upload; one is whole.

        The last ring takes the remainder: 4 + 1.
        """
        ring = Ring(1000, 20, shares=3, group_size=4)
        sent = np.array([0, 3, 3, 3, 3, 1, 3, 3, 3, 3, 2, 3, 3, 3, 3, 3, 3])
        result = secret_sharing.ring_round(np.arange(17), ring, sent)
        self.assertAllEqual(np.flatnonzero(~result.included), [0, 5, 8, 9, 10, 11])
        self.assertEqual(result.total, sum(range(17)) - 0 - 5 - (8 + 9 + 10 + 11))
        reason = "1 of 4 members shared and did not upload"
        self.assertEqual(result.abandoned, (secret_sharing.Abandoned((8, 9, 10, 11), reason),))
        few = secret_sharing.ring_round(np.arange(4), ring, np.array([0, 1, 3, 3]))
        self.assertEqual(
            few.abandoned, (secret_sharing.Abandoned((0, 1, 2, 3), "2 of 4 members shared, and a ring needs 3"),)
        )
        self.assertEqual((few.total, few.included.any()), (0, False))

    def test_keys_decide_shares(self):
        ring = Ring(10, 20)
        values = np.zeros((3, 2), np.int64)
        first, again, other, retry = (
            secret_sharing.share(values, ring, keys, attempt)
            for keys, attempt in ((_keys(3), 0), (_keys(3), 0), (_keys(3, 1), 0), (_keys(3), 1))
        )
        self.assertAllEqual(first, again)
        for different in (other, retry):
            self.assertFalse(np.any(first == different))
        self.assertLen({key for _ in range(2) for key in secret_sharing.new_keys(5)}, 10)

    def test_shares_and_uploads_are_uniform(self):
        """Chi-square over 2^8 values, jointly over pairs of high nibbles, 20000 rounds of a constant vector.

        The keys are fixed, so the p-values are; each is above 0.001.
        """
        rounds_, shares = 20_000, 3
        ring = Ring(20, 5, shares, group_size=5, modulus_bits=8)
        values = np.tile(np.array([20, -20, 0, 1, 7])[:, np.newaxis], rounds_)
        split = secret_sharing.share(values, ring, _keys(5))
        uploads = secret_sharing.upload(split, ring)
        singles = [split[user, k] for user in range(5) for k in range(shares)] + list(uploads)
        high = (split >> np.uint64(4)).astype(int)
        pairs = [16 * high[0, i] + high[0, j] for i, j in ((0, 1), (0, 2), (1, 2))]
        # What successor 1 of device 0 and the server hold together; and the uploads of two devices.
        pairs += [16 * high[0, 1] + (uploads[0] >> np.uint64(4)).astype(int)]
        pairs += [16 * (uploads[0] >> np.uint64(4)).astype(int) + (uploads[3] >> np.uint64(4)).astype(int)]
        p_values = [
            stats.chisquare(np.bincount(sample.astype(int), minlength=256)).pvalue for sample in singles + pairs
        ]
        self.assertGreater(min(p_values), 0.001)
        # The control: all s shares together do tell.
        self.assertAllEqual(split[0].sum(axis=0) % 256, np.full(rounds_, 20))

    def test_refusals(self):
        for sentence, arguments in (
            ("at least 2 shares, not 1", {"shares": 1}),
            ("2 to 64 bits, not 65", {"modulus_bits": 65}),
            ("A ring of 4 is below the 5", {"shares": 5, "group_size": 4}),
            ("A ring of 4 is below the 6", {"minimum_members": 6, "group_size": 4}),
            ("must be positive", {"max_users": 0}),
            ("sum of 100 integers of up to 1000 can exceed 17 bits", {"modulus_bits": 17}),
        ):
            with self.assertRaisesRegex(ValueError, sentence):
                Ring(**({"value_limit": 1000, "max_users": 100} | arguments))
        Ring(1000, 100, modulus_bits=18)  # 100 * 1000 < 2^17.
        ring, values = Ring(1000, 4), np.zeros(4, np.int64)
        for wrong in (
            np.array([0, 1001, 0, 0]),
            np.array([0, -1001, 0, 0]),
            np.array([0, -(2**63), 0, 0]),
            values * 0.5,
        ):
            for sent in (None, np.zeros(4, np.int64)):  # Nobody's sharing hides a wrong value.
                with self.assertRaisesRegex(ValueError, "int64 within ±1000"):
                    secret_sharing.ring_round(wrong, ring, sent)
        with self.assertRaisesRegex(ValueError, "the same key"):
            secret_sharing.ring_round(values, ring, keys=[bytes(secret_sharing.KEY_BYTES)] * 4)
        for sentence, arguments in (
            ("5 devices, and the ring was made for up to 4", (np.zeros(5, np.int64),)),
            ("from 0 to 3 a device", (values, np.array([3, 3, 3, 4]))),
            ("from 0 to 3 a device", (values, np.array([3, 3, 3]))),
            ("2 keys for 4 devices", (values, None, _keys(2))),
        ):
            with self.assertRaisesRegex(ValueError, sentence):
                secret_sharing.ring_round(arguments[0], ring, *arguments[1:])
        with self.assertRaisesRegex(ValueError, "2 keys for 4 devices"):
            secret_sharing.share(values, ring, _keys(2))


class BlockTest(tf.test.TestCase):
    def test_block_sums(self):
        """Uploads of a block add up to its sum modulo 2^b and do not resemble the values; rings as in `Ring.groups`."""
        rng = np.random.default_rng(0)
        for users, group, shares, bits in (
            (3, 3, 2, 64),
            (7, 3, 3, 64),
            (23, 5, 4, 40),
            (40, 10, 3, 33),
            (25, 10, 2, 32),
            (9, 4, 3, 29),
            (6, 9, 2, 64),
        ):
            with self.subTest(users=users, bits=bits):
                ring = Ring(10**6, 100, shares, group, bits)
                values = rng.integers(-(10**6), 10**6, (users, 5))
                uploads = ring_aggregator.block_uploads(tf.constant(values), ring).numpy()
                total = secret_sharing.group_sum(uploads.astype(np.uint64), ring)
                self.assertAllEqual(total, values.sum(axis=0))
                self.assertFalse(np.any(uploads == values))
                if bits < 64:
                    self.assertTrue(np.all((uploads >= 0) & (uploads < 2**bits)))
                for members in ring.groups(users):
                    part = secret_sharing.group_sum(uploads[members].astype(np.uint64), ring)
                    self.assertAllEqual(part, values[members].sum(axis=0))

    def test_users_played_together_give_the_sum_of_devices(self):
        """The integers of a block, by training's sum, by uploads of each device, and by the protocol with ChaCha20."""
        rng = np.random.default_rng(1)
        for users, group, shares, bits in ((3, 3, 2, 32), (23, 5, 4, 40), (40, 10, 3, 64), (25, 10, 2, 27)):
            with self.subTest(users=users, bits=bits):
                ring = Ring(2**15 - 1, 100, shares, group, bits)
                values = rng.integers(-ring.value_limit, ring.value_limit, (users, 5), endpoint=True)
                encode = encoding.Encode({"items": FixedPoint(1.0, 16)}, ring_aggregator.BlockRings(ring))
                words = tf.cast(tf.cast(values, tf.float64) * encode.points["items"].step, tf.float32)
                together = secret_sharing.group_sum(encode.sum("items", words).numpy().view(np.uint64)[None], ring)
                uploads = ring_aggregator.block_uploads(tf.constant(values), ring).numpy().astype(np.uint64)
                self.assertAllEqual(together, secret_sharing.group_sum(uploads, ring))
                self.assertAllEqual(together, secret_sharing.ring_round(values, ring).total)

    def test_uploads_are_uniform(self):
        """Chi-square of the high byte of one device's uploads of a constant; with this seed p is fixed."""
        tf.random.set_seed(7)
        values = tf.tile(tf.constant([[3], [-9], [1]], tf.int64), [1, 20_000])
        uploads = ring_aggregator.block_uploads(values, Ring(9, 3, 2, 3)).numpy()
        counts = np.bincount((uploads[0] >> np.uint64(56)).astype(int), minlength=256)
        self.assertGreater(stats.chisquare(counts).pvalue, 0.001)

    def test_refusals(self):
        ring = Ring(1000, 4, group_size=4)
        for sentence, values in (
            ("needs 3 users", [0, 0]),
            ("at most 4 users", [0] * 5),
            ("out of range", [0, 1001, 0]),
            ("out of range", [0, -1001, 0]),
        ):
            with self.assertRaisesRegex(tf.errors.InvalidArgumentError, sentence):
                ring_aggregator.block_uploads(tf.cast(values, tf.int64), ring)
        with self.assertRaisesRegex(ValueError, "needs a bound for items, loss"):
            points = {"query": FixedPoint(1.0), "weight": FixedPoint(1.0)}
            ring_aggregator.RingMeanFactory(points, ring)
        with self.assertRaisesRegex(ValueError, "encoding of query, items exceeds the ring's limit 1000"):
            points = {name: FixedPoint(1.0, 8) for name in ("loss", "weight")}
            points = {name: FixedPoint(1.0, 12) for name in ("query", "items")} | points
            ring_aggregator.RingMeanFactory(points, ring)
        with self.assertRaisesRegex(ValueError, "can exceed 36 bits"):
            ring_aggregator.ring_mean(1.0, 1.0, 1.0, modulus_bits=36)


def _model(objective):
    return two_tower.TwoTower(
        query_towers.BagQueryTower(DIMENSION, hidden=5),
        candidate_tower.CandidateTower(ITEMS, 1, DIMENSION, stddev=0.5),
        np.zeros((ITEMS, 1), np.int32),
        np.ones((ITEMS, 1), np.float32),
        objective,
    )


def _block(users, seed):
    rng = np.random.default_rng(seed)
    history = rng.permuted(np.tile(np.arange(ITEMS, dtype=np.int32), (users, 1)), axis=1)[:, :6].copy()
    history[0, 4:] = -1
    return collections.OrderedDict(history=history, seed=rng.integers(0, 2**31, users).astype(np.int32))


class ContributionsTest(tf.test.TestCase):
    def test_a_block_gives_the_bits_of_the_secure_sum(self):
        """Rings of 3, 3 and 5; of sampled rows, which the server does not know, members send all.

        With 22 bits tables come rounded out of their product, and words have 32.
        """
        narrow = {"bits": 22, "modulus_bits": 32, "most_users": 512, "shares": 2}
        for objective, bits, options in (
            (objectives.FullSoftmax(), 24, {}),
            (objectives.FullSoftmax(), 22, narrow),
            (objectives.SampledSoftmax(1.0, 2), 24, {}),
            (objectives.SampledSoftmax(1.0, 2), 22, narrow),
        ):
            model = _model(objective)
            training = contributions.LocalTraining(
                model.query_tower, objective, two_tower.by_positives, query_clip_norm=2.0, item_clip_norm=0.1
            )
            block = {name: tf.constant(value) for name, value in _block(11, 0).items()}
            received = contributions.ReceivedItems(ITEMS, model.candidate_embeddings())
            secure, ring = (
                contributions.block_sum(training, sums.encode, dict(model.query_tower.tensors), received, block)
                for sums in (
                    aggregators.secure_mean(2.0, 2.0, 8.0, bits=bits),
                    ring_aggregator.ring_mean(2.0, 2.0, 8.0, group_size=3, **options),
                )
            )
            self.assertGreater(np.count_nonzero(secure["items"]), ITEMS)
            if options:  # Words of 32 bits, unsigned, of which the server takes the nearest to 0.
                ring = tf.nest.map_structure(lambda part: tf.cast(tf.cast(part, tf.int32), tf.int64), ring)
            tf.nest.map_structure(self.assertAllEqual, ring, secure)


@pytest.mark.usefixtures("execution_context")
class ProcessTest(tf.test.TestCase):
    def _process(self, aggregator, objective=None):
        objective = objective or objectives.FullSoftmax()
        model = _model(objective)
        training = contributions.LocalTraining(
            model.query_tower, objective, two_tower.by_positives, query_clip_norm=2.0, item_clip_norm=2.0
        )
        adam = tff.learning.optimizers.build_adam(0.01)
        optimizers = stages.ServerOptimizers(adam, adam)
        return split_two_tower.build_split_two_tower(model, training, optimizers, aggregator)

    def test_three_blocks_give_the_bits_of_the_secure_sum(self):
        """Blocks of 3, 7 and 11 users, rings of 3 and more; two rounds, so that the second starts from the first."""
        data = [tf.data.Dataset.from_tensors(_block(users, users)) for users in (3, 7, 11)]
        results = []
        for aggregator in (
            aggregators.secure_mean(2.0, 2.0, 8.0),
            ring_aggregator.ring_mean(2.0, 2.0, 8.0, shares=3, group_size=3),
            ring_aggregator.ring_mean(2.0, 2.0, 8.0, shares=2, group_size=5, modulus_bits=41),
        ):
            process = self._process(aggregator)
            state, losses = process.initialize(), []
            for _ in range(2):
                output = process.next(state, data)
                state = output.state
                losses.append(output.metrics["finalizer"]["loss"])
            results.append([*process.get_model_weights(state).trainable, *losses])
        for ring in results[1:]:
            for expected, value in zip(results[0], ring, strict=True):
                np.testing.assert_array_equal(value, expected)
        self.assertLess(results[0][-1], results[0][-2])

    def test_a_client_of_several_blocks(self):
        """Blocks one after the other add up as those side by side do, up to the users whose sum surely fits."""
        blocks = [tf.data.Dataset.from_tensors(_block(users, users)) for users in (3, 7, 11)]
        together = functools.reduce(tf.data.Dataset.concatenate, blocks)
        process = self._process(
            ring_aggregator.ring_mean(2.0, 2.0, 8.0, shares=2, group_size=3, modulus_bits=29, most_users=21)
        )
        apart, one = (process.next(process.initialize(), data).state for data in (blocks, [together]))
        for expected, value in zip(
            *(process.get_model_weights(state).trainable for state in (apart, one)), strict=True
        ):
            np.testing.assert_array_equal(value, expected)
        with self.assertRaisesRegex(Exception, "A client has at most 21 users"):
            process.next(process.initialize(), [together.concatenate(blocks[0])])

    def test_type(self):
        factory = ring_aggregator.ring_mean(1.0, 1.0, 1.0)
        value = tff.StructWithPythonType(
            [("query", [("w", tff.TensorType(np.int64, [3]))]), ("items", tff.TensorType(np.int64, [ITEMS, 2])),
             ("loss", np.int64)], collections.OrderedDict,
        )  # fmt: skip
        process = factory.create(value, tff.TensorType(np.int64))
        expected = "<query=<w=float32[3]>,items=float32[12,2],loss=float32>@SERVER"
        self.assertEqual(str(process.next.type_signature.result.result), expected)
        mean = process.next(
            process.initialize(),
            [collections.OrderedDict(query=collections.OrderedDict(w=[2**23 - 1, 0, 2]), items=np.ones((ITEMS, 2), int),
                                     loss=4)] * 2,
            [2**22, 2**22],
        ).result  # fmt: skip
        self.assertAllClose(mean["query"]["w"], [2.0, 0.0, 2.0**-21], rtol=1e-6)
        self.assertAllClose(mean["loss"], 32.0 * 2.0**-20, rtol=1e-6)

    def test_a_block_too_small_for_a_ring_stops_the_round(self):
        process = self._process(ring_aggregator.ring_mean(2.0, 2.0, 8.0))
        data = [tf.data.Dataset.from_tensors(_block(users, users)) for users in (5, 2)]
        with self.assertRaisesRegex(Exception, "A block needs 3 users to form a ring"):
            process.next(process.initialize(), data)


if __name__ == "__main__":
    unittest.main()
