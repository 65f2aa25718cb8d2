"""Every attack on a small set: it succeeds where nothing protects from it, and fails where its protection is on."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from tff_rec.data import attributes, synthetic
from tff_rec.evaluation import (
    attack_grid,
    attack_study,
    attack_sums,
    attack_training,
    attack_views,
    attacks,
    inference_attacks,
    malicious_server,
    poisoning,
)

pytestmark = pytest.mark.xdist_group("attacks")

SUCCEEDS, FAILS, OVER_THE_FLOOR = 0.95, 0.55, 0.02
PLAIN, FRESH, PERSISTENT = "plain: own rows only", "fresh decoys", "persistent decoys"


def quiet(line):
    del line


@functools.cache
def prepared():
    """160 synthetic users of 600 items, 80 of them attacked in two cohorts, small models of few rounds."""
    config = synthetic.SyntheticConfig(num_users=160)
    truth = synthetic.generate_synthetic(config)
    size = attack_study.Size(80, 20, 16, attack_training.Recipe(rounds=20, cohort=40))
    return attack_study.prepare(truth.data, {"taste": truth.user_vectors[:, 0] > 0}, size, 0, quiet)


@functools.cache
def uploads(name):
    study, noise = prepared().study, prepared().noise_multipliers
    [protection] = [one for one in attack_grid.protections(noise) if one.name == name]
    return attack_grid.on_uploads(study, protection)


class ItemsTest(tf.test.TestCase):
    def assert_succeeds(self, score):
        self.assertGreater(score.auc.value, SUCCEEDS)

    def assert_fails(self, score):
        self.assertLessEqual(score.auc.value, FAILS)
        self.assertLessEqual(score.f1.value, score.f1_floor + OVER_THE_FLOOR)

    def test_non_zero_rows(self):
        self.assert_succeeds(uploads(PLAIN)[attack_grid.ROWS])
        for protected in (FRESH, PERSISTENT, "whole table", "secure sum"):
            with self.subTest(protected):
                self.assert_fails(uploads(protected)[attack_grid.ROWS])

    def test_directions(self):
        for open_one in (PLAIN, FRESH, PERSISTENT, "whole table"):
            with self.subTest(open_one):
                self.assert_succeeds(uploads(open_one)[attack_grid.DIRECTIONS])
        for epsilon in (1, 3, 8):
            with self.subTest(epsilon=epsilon):
                self.assert_fails(uploads(f"DP, ε = {epsilon}")[attack_grid.DIRECTIONS])

    def test_directions_of_a_larger_sum_tell_less(self):
        study = prepared().study
        rows = attack_grid.protections({}, ring_sizes=(3, 10, 40))[-3:]
        small, larger, cohort = (attack_grid.on_uploads(study, row)[attack_grid.DIRECTIONS].auc for row in rows)
        self.assertLess(larger.value, small.low)
        self.assertLess(cohort.value, larger.low)
        self.assertAllClose(cohort.value, uploads("secure sum")[attack_grid.DIRECTIONS].auc.value, atol=0.01)

    def test_whose(self):
        self.assert_succeeds(uploads("whole table")[attack_grid.WHOSE])
        self.assertAllClose(uploads("secure sum")[attack_grid.WHOSE].auc.value, 0.5)

    def test_requests(self):
        self.assert_succeeds(uploads(PLAIN)[attack_grid.REQUESTS])
        self.assert_succeeds(uploads(FRESH)[attack_grid.REQUESTS])
        self.assert_fails(uploads(PERSISTENT)[attack_grid.REQUESTS])
        self.assertEqual(uploads("whole table")[attack_grid.REQUESTS].users, 0)

    def test_single_requesters(self):
        self.assert_succeeds(uploads(PLAIN)[attack_grid.ALONE])
        self.assertGreater(uploads("persistent decoys, secure sum")[attack_grid.ALONE].users, 0)
        self.assertEqual(uploads("the same, minimum of 3")[attack_grid.ALONE].users, 0)

    def test_ring_hides_uploads(self):
        """A member's own upload, one of a ring, is masked: directions and norms tell nothing of it."""
        subject = prepared().study.subject
        ring, _ = attack_sums.ring_of(subject, 5)
        device = attack_views.Device(subject, clipped=True)
        gradients = np.stack([device.sum_of(np.array([user]), 0)["items"] for user in range(5)])
        point = attack_views.bounds(subject)["items"]
        from tff_rec.federated import ring_aggregator

        masked = ring_aggregator.block_uploads(point.encode(tf.constant(gradients)), ring).numpy()
        norms = np.linalg.norm(masked.astype(np.float64), axis=2)
        own = [subject.histories[user] for user in range(5)]
        covers = prepared().study.covers
        guesses = [attacks.judged(norms[user], own[user], covers[user]) for user in range(5)]
        from tff_rec.evaluation.attack_scores import score_items

        self.assertBetween(score_items(guesses, 0).auc.value, 0.3, 0.7)


class CoversTest(tf.test.TestCase):
    def test_matched_by_hand(self):
        """Item i has popularity i: of 1 and 4, and 2 known as well, the neighbours are 0 or 3, and 3 or 5."""
        for seed in range(10):
            [cover] = attacks.matched_covers([np.array([1, 4])], [np.array([1, 2, 4])], np.arange(6.0), seed)
            self.assertIn(cover[0], (0, 3))
            self.assertIn(cover[1], (3, 5))

    def test_popularity_tells_nothing_of_them(self):
        study = prepared().study
        popularity = study.subject.popularity
        found = [attacks.judged(popularity, study.subject.histories[user], study.covers[user]) for user in study.users]
        self.assertBetween(np.mean([_auc(one) for one in found]), 0.45, 0.55)


def _auc(guesses):
    from tff_rec.evaluation.attack_scores import auc

    return auc(guesses.scores, guesses.labels)


class UsersTest(tf.test.TestCase):
    def test_membership(self):
        """A model of many rounds on few users knows them; one with noise for ε = 1 does not."""
        study = prepared().study
        subject = attack_views.Subject(prepared().build_model(), study.subject.histories, study.subject.popularity)
        few = np.flatnonzero(study.members)[:20]
        attack_training.train(subject, attack_training.Recipe(150, 20, 0.03), few)
        losses = inference_attacks.losses_of(subject.model, subject.histories, 20)
        outside = np.flatnonzero(~study.members)
        self.assertGreater(np.mean(losses[few][:, np.newaxis] < losses[outside]), 0.8)
        noisy = attack_grid.on_model(study, study.subjects[attack_grid.model_with_noise(1.0)])
        self.assertLess(noisy[attack_grid.MEMBERSHIP].auc.low, FAILS)

    def test_attributes(self):
        """What separates the classes is found in other folds; noise is not; nor what only a shared sum says."""
        rng = np.random.default_rng(0)
        labels = rng.random(300) < 0.4
        told = np.stack([labels + 0.3 * rng.standard_normal(300), rng.standard_normal(300)], axis=1)
        self.assertGreater(self._auc(told, labels, np.arange(300)), 0.95)
        self.assertBetween(self._auc(rng.standard_normal([300, 5]), labels, np.arange(300)), 0.35, 0.65)
        groups = np.repeat(np.arange(30), 10)
        self.assertBetween(self._auc(rng.standard_normal([30, 5])[groups], labels, groups), 0.3, 0.7)

    def _auc(self, features, labels, groups):
        from tff_rec.evaluation.attack_scores import auc

        return auc(inference_attacks.attribute_scores(features, labels, groups, 0), labels)


class MaliceTest(tf.test.TestCase):
    def test_a_silent_model_is_silent(self):
        device = attack_views.Device(prepared().study.subject, clipped=True)
        total = device.sum_of(np.arange(5), 0, *malicious_server.silent_model(device))
        self.assertAllEqual(total["items"], np.zeros_like(total["items"]))
        for value in total["query"].values():
            self.assertAllEqual(value, np.zeros_like(value))

    def test_one_is_singled_out_of_a_secure_sum(self):
        study = prepared().study
        [plain] = [one for one in attack_grid.protections({}) if one.name == "whole table"]
        [secure] = [one for one in attack_grid.protections({}) if one.name == "secure sum"]
        self.assertGreater(attack_grid.on_malice(study, plain)[attack_grid.AUTHORED].auc.value, SUCCEEDS)
        found = attack_grid.on_malice(study, secure)
        self.assertGreater(found[attack_grid.SINGLED_OUT].auc.value, SUCCEEDS)
        self.assertLess(found[attack_grid.AUTHORED].auc.value, found[attack_grid.SINGLED_OUT].auc.value - 0.1)


class PoisoningTest(tf.test.TestCase):
    def test_a_target_rises_and_bounds_hold_it(self):
        found = attack_study.poisoned(prepared(), attack_training.Recipe(10, 40), quiet)
        self.assertLess(found["mean"].mean_rank, found["no malicious clients"].mean_rank)
        self.assertGreater(found["median of blocks"].mean_rank, found["mean"].mean_rank)

    def test_robust_means_by_hand(self):
        """Three blocks of one user: 0, 1 and 100."""
        totals = [{"query": {}, "items": np.array([[value]]), "weight": np.float32(1)} for value in (0.0, 1.0, 100.0)]
        self.assertAllClose(poisoning.coordinate_median(totals)["items"], [[1.0]])
        self.assertAllClose(poisoning.trimmed_mean(0.3)(totals)["items"], [[1.0]])


class TrainingTest(tf.test.TestCase):
    def test_a_block_more_or_less_is_the_same(self):
        """The mean over users does not depend on blocks."""
        device = attack_views.Device(prepared().study.subject)
        one = attack_training.mean_of([device.sum_of(np.arange(6), 0)])
        parts = attack_training.mean_of([device.sum_of(np.arange(4), 0), device.sum_of(np.arange(4, 6), 0)])
        self.assertAllClose(one["items"], parts["items"], atol=1e-5)

    def test_secure_and_ring_views_are_the_plain_sum(self):
        study = prepared().study
        subject, cohort = study.subject, study.users[:20]
        ring, ring_encode = attack_sums.ring_of(subject, 10)
        [plain] = attack_sums.plain_sum(attack_views.Device(subject, clipped=True), cohort, 0)
        encoded = attack_views.Device(subject, None, attack_sums.secure_encode(subject))
        [secure] = attack_sums.plain_sum(encoded, cohort, 0)
        rings = list(attack_sums.ring_sums(ring)(attack_views.Device(subject, None, ring_encode), cohort, 0))
        self.assertLen(rings, 2)
        self.assertAllClose(secure.items, plain.items, atol=1e-4)
        self.assertAllClose(sum(view.items for view in rings), plain.items, atol=1e-4)


class AttributesTest(tf.test.TestCase):
    def test_of_movielens(self):
        import pandas as pd

        empty = pd.DataFrame({"user_id": ["1", "2"], "gender": ["F", "M"], "age": ["25", "35"]})
        data = synthetic.generate_synthetic(synthetic.SyntheticConfig(num_users=2, num_items=20)).data
        self.assertEqual(attributes.user_attributes(data), {})
        import dataclasses

        found = attributes.user_attributes(dataclasses.replace(data, users=empty))
        self.assertAllEqual(found["gender"], [True, False])
        self.assertAllEqual(found["age"], [False, True])


if __name__ == "__main__":
    tf.test.main()
