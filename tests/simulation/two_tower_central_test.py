"""Central training is what federated training becomes with one local step: the same losses, the same weights."""

import dataclasses
import pathlib
import tempfile

import numpy as np
import pytest
import tensorflow as tf

from tff_rec.simulation import assembly, rounds, two_tower_central
from tff_rec.simulation.checkpoints import Checkpoints
from tff_rec.simulation.config import EvaluationConfig, ExportConfig, ModelConfig, TrainingConfig, TwoTowerConfig
from tff_rec.simulation.preparation import prepare

CONFIG = TwoTowerConfig(
    model=ModelConfig(tower="bag", dimension=4, max_length=10, dropout=0.0, initial_stddev=0.5),
    training=TrainingConfig(
        rounds=3, clients_per_round=40, users_per_block=20, server_optimizer="sgd", server_learning_rate=1.0
    ),
    evaluation=EvaluationConfig(every=3, patience=0),
    export=ExportConfig(k=5),
)


@pytest.mark.usefixtures("execution_context")
class CentralTest(tf.test.TestCase):
    def _model(self, config, prepared):
        return assembly.build_model(config, len(prepared.vocabulary), prepared.item_features, prepared.popularity)

    def test_running_means_are_of_all_rounds_and_federated_ones_the_same(self):
        directory = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        config = dataclasses.replace(CONFIG, training=dataclasses.replace(CONFIG.training, averaging_rounds=2))
        prepared = prepare(config)
        model = self._model(config, prepared)
        progress, after = two_tower_central.initial_progress(model), []
        for _ in two_tower_central.train(config, prepared, model, progress):
            after.append([weight.numpy() for weight in model.trainable_weights])
        counts = np.array([0.5, 0.5**0.5, 1.0])
        expected = [np.tensordot(counts / counts.sum(), np.stack(values), 1) for values in zip(*after, strict=True)]
        other = self._model(config, prepared)
        process = assembly.build_process(config, other)
        federated = rounds.initial_progress(process, averaging=True)
        list(rounds.train(config, prepared, other, process, federated, Checkpoints(directory)))
        for by_hand, one, same, last in zip(
            expected, progress.best_weights, federated.best_weights, after[-1], strict=True
        ):
            self.assertAllClose(one, by_hand, atol=1e-6)
            self.assertAllClose(same, by_hand, atol=1e-6, rtol=1e-5)
            self.assertNotAllClose(one, last, atol=1e-6)

    def test_equals_federated_training_of_one_local_step(self):
        directory = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        for objective in ("full-softmax", "sampled-softmax"):
            config = dataclasses.replace(CONFIG, training=dataclasses.replace(CONFIG.training, objective=objective))
            prepared = prepare(config)
            model = self._model(config, prepared)
            progress = two_tower_central.initial_progress(model)
            central = list(two_tower_central.train(config, prepared, model, progress))
            trained = [weight.numpy() for weight in model.trainable_weights]
            other = self._model(config, prepared)
            process = assembly.build_process(config, other)
            begun = rounds.initial_progress(process)
            checkpoints = Checkpoints(directory / objective)
            federated = list(rounds.train(config, prepared, other, process, begun, checkpoints))
            self.assertAllClose([one.loss for one in central], [one.loss for one in federated], atol=1e-5)
            before = self._model(config, prepared).trainable_weights
            for one, weight, first in zip(trained, begun.best_weights, before, strict=True):
                self.assertAllClose(one, weight, atol=1e-6, rtol=1e-5)
                if "features" not in first.name:  # The data's items have few.
                    self.assertGreater(float(np.abs(one - first).max()), 1e-4, first.name)
            self.assertAllClose(central[-1].validation.as_dict(), federated[-1].validation.as_dict(), atol=0.002)


if __name__ == "__main__":
    tf.test.main()
