"""How item vectors travel: codings, rows alone through federated_select, and rows that too few asked for."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import two_tower_cases as cases
from absl.testing import parameterized

from tff_rec.federated import (
    aggregators,
    contributions,
    ring_aggregator,
    row_release,
    select_two_tower,
    split_two_tower,
    table_codings,
)

pytestmark = pytest.mark.usefixtures("execution_context")

SECURE = aggregators.secure_mean(query_bound=1.0, item_bound=1.0, weight_bound=8.0)


def process(objective=cases.REQUESTED, aggregator=None, **transport):
    built = cases.small_model(objective)
    return split_two_tower.build_split_two_tower(
        built, cases.training(built), cases.sgd(), aggregator, split_two_tower.Transport(**transport)
    )


def requested(seed=0, grouping=cases.ALL_IN_ONE):
    return cases.datasets(cases.histories(seed), grouping, cases.REQUESTED)


class CodingTest(tf.test.TestCase, parameterized.TestCase):
    def test_int8_by_hand(self):
        """Row (1, -2): scale 2/127; 63.5 rounds to the even 64. A row of zeros has the scale 0."""
        values, scale = table_codings.INT8.encode(tf.constant([[1.0, -2.0], [0.0, 0.0]]))
        self.assertAllEqual(values, [[64, -127], [0, 0]])
        self.assertAllClose(scale, [[2 / 127], [0.0]])
        self.assertAllClose(table_codings.INT8.decode((values, scale)), [[128 / 127, -2.0], [0.0, 0.0]])

    @parameterized.parameters(
        (table_codings.FLOAT32, 0.0), (table_codings.FLOAT16, 2**-11), (table_codings.INT8, 0.5 / 127)
    )
    def test_what_arrives_is_near_what_was_sent(self, coding, tolerance):
        table = np.random.default_rng(0).normal(size=[50, 8]).astype(np.float32)
        arrived = coding.decode(coding.encode(tf.constant(table))).numpy()
        largest = np.abs(table).max(axis=1, keepdims=True)
        self.assertTrue(np.all(np.abs(arrived - table) <= tolerance * largest * 1.001))
        if tolerance:
            self.assertNotAllEqual(arrived, table)

    def test_a_coded_round_differs_by_the_rounding_alone(self):
        exact = cases.trained(process(cases.FULL), [cases.datasets(cases.histories())])
        for coding in (table_codings.FLOAT16, table_codings.INT8):
            coded = cases.trained(process(cases.FULL, coding=coding), [cases.datasets(cases.histories())])
            for one, other in zip(coded, exact, strict=True):
                self.assertAllClose(one, other, atol=0.05)
            self.assertNotAllEqual(coded[0], exact[0])


class SelectTest(cases.TwoTowerTestCase, parameterized.TestCase):
    @parameterized.named_parameters(
        ("plain", cases.SAMPLED, None, {}),
        ("secure", cases.REQUESTED, SECURE, {"minimum_requesters": 3, "coding": table_codings.INT8}),
    )
    def test_equals_the_table_that_all_receive(self, objective, aggregator, transport):
        transport = split_two_tower.Transport(**transport)
        groupings = ("one_user_a_client", "two_clients_of_blocks")
        rounds = [
            cases.datasets(cases.histories(seed), cases.GROUPINGS[grouping], objective)
            for seed, grouping in enumerate(groupings)
        ]
        results = []
        for build, options in (
            (split_two_tower.build_split_two_tower, {}),
            (select_two_tower.build_select_two_tower, {"max_rows": cases.NUM_ITEMS}),
        ):
            built = cases.small_model(objective)
            local = cases.training(built, local_steps=2, learning_rate=0.3)
            results.append(cases.trained(build(built, local, cases.adam(), aggregator, transport, **options), rounds))
        self.assert_same(*results)

    def test_a_client_asks_for_its_rows_alone(self):
        """Two users with history (2, 5) and (5), decoys (0, 1) and (0): items 0, 1, 2 and 5, the last one repeated."""
        objective = dataclasses.replace(cases.REQUESTED, fresh_rows=0)
        keys = select_two_tower.build_row_keys(cases.small_model(objective), max_rows=6)
        users = [np.array([2, 5], np.int32), np.array([5], np.int32)]
        (client,) = cases.datasets(users, [[[0], [1]]], objective)
        self.assertAllEqual(keys(client), [0, 1, 2, 5, 5, 5])
        self.assertEqual(str(keys.type_signature.result), "int32[6]")

    def test_a_client_receives_its_rows_alone(self):
        """The vectors of a client with history (2, 5) and decoys (7, 9) are 4 of 12; item 0's is none of them."""
        vectors = tf.constant(np.arange(4 * cases.DIMENSION, dtype=np.float32).reshape(4, -1))
        received = contributions.ReceivedItems(cases.NUM_ITEMS, vectors, tf.constant([2, 5, 7, 9]))
        self.assertAllEqual(received.of(tf.constant([[9, 2], [5, -1]]))[0], vectors.numpy()[[3, 0]])
        built = cases.small_model(cases.FULL)
        with self.assertRaisesRegex(ValueError, "whole table"):
            block = {name: tf.constant(value) for name, value in cases.block([np.array([2, 5])], [1]).items()}
            contributions.block_sum(cases.training(built), None, dict(built.query_tower.tensors), received, block)

    def test_more_rows_than_allowed_are_an_error(self):
        built = cases.small_model(cases.REQUESTED)
        select = select_two_tower.build_select_two_tower(built, cases.training(built), cases.sgd(), max_rows=2)
        with self.assertRaisesRegex(Exception, "max_rows"):
            select.next(select.initialize(), requested())


class RowReleaseTest(cases.TwoTowerTestCase, parameterized.TestCase):
    def test_requesters_by_hand(self):
        rows = tf.constant([[3, 1, 3, -1], [1, -1, -1, -1], [0, 1, 4, 2]])
        self.assertAllEqual(row_release.count_requesters(rows, 6), [1, 3, 1, 1, 1, 0])

    @parameterized.named_parameters(("plain", None), ("secure", SECURE))
    def test_rows_under_the_minimum_stay_as_they_are(self, aggregator):
        """The item embeddings move under SGD where enough asked; the other rows' gradients are struck and counted."""
        built = cases.small_model(cases.REQUESTED)
        block = cases.clients(cases.histories(), cases.ALL_IN_ONE, cases.REQUESTED)[0][0]
        rows = cases.REQUESTED.rows({name: tf.constant(value) for name, value in block.items()}, cases.NUM_ITEMS)
        counts = row_release.count_requesters(rows, cases.NUM_ITEMS).numpy()
        minimum = int(np.median(counts)) + 1
        kept = counts >= minimum
        self.assertTrue(0 < kept.sum() < cases.NUM_ITEMS)
        items, before = len(built.query_tower.weight_specs()), built.candidate_tower.tensors["items"].numpy()
        moved = {}
        for fewest in (1, minimum):
            learning = process(aggregator=aggregator, minimum_requesters=fewest)
            output = learning.next(learning.initialize(), requested())
            moved[fewest] = output.state.global_model_weights.trainable[items] - before
        self.assertAllEqual(moved[minimum][~kept], np.zeros_like(before[~kept]))
        self.assertAllClose(moved[minimum][kept], moved[1][kept], atol=1e-5)
        self.assertEqual(output.metrics["aggregator"]["dropped_rows"], np.sum(~kept & (counts > 0)))

    def test_requesters_of_rings_by_hand(self):
        """Rings of two; item 1 has two requesters in the first alone, item 0 in the second. Three rows have one."""
        rows, rings = tf.constant([[3, 1, 3], [1, -1, -1], [0, 1, -1], [0, -1, 2]]), tf.constant([0, 0, 1, 1])
        released, dropped = row_release.within_rings(rows, rings, 5, 2)
        self.assertAllEqual(released(rows), [[-1, 1, -1], [1, -1, -1], [0, -1, -1], [0, -1, -1]])
        self.assertAllEqual(released(rows[:, :1]), [[-1], [1], [0], [0]])
        self.assertEqual(dropped, 3)

    def test_rings_hold_back_rows_that_few_members_asked_for(self):
        """A block's rings give the secure sums over the members of each, without the rows below the minimum."""
        built = cases.small_model(cases.REQUESTED)
        training = dataclasses.replace(cases.training(built), query_clip_norm=1.0, item_clip_norm=0.05)
        received = contributions.ReceivedItems(cases.NUM_ITEMS, built.candidate_embeddings())
        [[block]] = cases.clients(cases.histories(), cases.ALL_IN_ONE, cases.REQUESTED)
        members = [slice(0, 3), slice(3, len(block["seed"]))]

        def sums(aggregator, part, minimum):
            transport = split_two_tower.Transport(minimum_requesters=minimum)
            aggregator = split_two_tower.released(aggregator, transport)
            block_of = {name: tf.constant(value[part]) for name, value in block.items()}
            query = dict(built.query_tower.tensors)
            return split_two_tower.released_block_sum(training, aggregator, transport, query, received, block_of)

        ring = ring_aggregator.ring_mean(1.0, 1.0, 8.0, shares=2, group_size=3)
        ringed, parts = sums(ring, slice(None), 2), [sums(SECURE, part, 2) for part in members]
        counts = [part.pop(row_release.RELEASE).numpy() for part in parts]
        self.assertEqual(ringed.pop(row_release.RELEASE), np.sum([count == 1 for count in counts]))
        self.assertTrue(all(np.any(count == 1) and np.any(count > 1) for count in counts))
        for part, count in zip(parts, counts, strict=True):
            part["items"] = tf.where(count[:, np.newaxis] > 1, part["items"], 0)
        self.assertAllEqual(ringed["items"], tf.add_n([part["items"] for part in parts]))
        tf.nest.map_structure(lambda value, *of: self.assertAllEqual(value, tf.add_n(of)), ringed, *parts)

    def test_grouping_changes_nothing(self):
        built = process(minimum_requesters=4)
        results = [
            cases.trained(built, [requested(0, grouping)])
            for grouping in (cases.ALL_IN_ONE, cases.GROUPINGS["two_clients_of_blocks"])
        ]
        self.assert_same(*results)

    def test_a_minimum_below_one_is_refused(self):
        with self.assertRaisesRegex(ValueError, "1 or more"):
            row_release.RowReleaseFactory(SECURE, 0)

    def test_a_minimum_needs_requests(self):
        with self.assertRaisesRegex(ValueError, "minimum_requesters"):
            process(cases.FULL, minimum_requesters=2)


if __name__ == "__main__":
    tf.test.main()
