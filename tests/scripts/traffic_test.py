"""scripts/traffic.py on synthetic data: every cell is what `communication` counts; and README's by hand."""

import collections
import contextlib
import dataclasses
import importlib.util
import io
import json
import math
import pathlib
import sys
import tempfile

import numpy as np
import script_cases
import tensorflow as tf
from absl.testing import parameterized

from tff_rec.data import clients
from tff_rec.errors import InputError
from tff_rec.federated import communication, table_codings
from tff_rec.simulation import assembly, device_traffic, preparation, rounds, toml_file, traffic_study
from tff_rec.simulation import config as configs

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "traffic.py"
_SPEC = importlib.util.spec_from_file_location("traffic", SCRIPT)
script = importlib.util.module_from_spec(_SPEC)
sys.modules["traffic"] = script
_SPEC.loader.exec_module(script)

CONFIG = """
[data]
source = "synthetic"
[model]
tower = "bag"
hidden = 3
max_length = 9
candidate_expansion = 2
half_lives = [5.0, 0.0]
[training]
clients_per_round = 100
secure_bits = 14
item_clip_norm = 2.0
ring_shares = 3
[transport]
items = "rows"
coding = "int8"
fresh_rows = 30
minimum_requesters = 2
"""
BITS = 14 + 7  # 100 values of 14 bits add up to one of 21; the ring adds in words of 32.


class TrafficTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        (cls.folder / "rows.toml").write_text(CONFIG)
        cls.config = toml_file.read_toml(cls.folder / "rows.toml", configs.TwoTowerConfig)
        cls.prepared = preparation.prepare(cls.config)
        cls.printed = io.StringIO()
        with contextlib.redirect_stdout(cls.printed):
            script.main(cls._options(dimensions=(4, 6), runs=(cls._run("table", 0.25), cls._run("rows", 0.2))))
        cls.tables = json.loads((cls.folder / "tables" / "traffic.json").read_text())

    @classmethod
    def _options(cls, **changes):
        return script.TrafficOptions(
            **({"config": cls.folder / "rows.toml", "output": cls.folder / "tables"} | changes)
        )

    @classmethod
    def _run(cls, items, ndcg):
        """A finished run of which nothing but its configuration and metrics is there."""
        run = cls.folder / f"run-{items}"
        run.mkdir()
        (run / "config.toml").write_text(f'[transport]\nitems = "{items}"\n')
        sizes = {"round": 0, "bytes_down": 1000, "bytes_up": 200, "bytes_to_peers": 30}
        test = {"round": 7, "test": {"hit_rate_10": 2 * ndcg, "ndcg_10": ndcg}}
        (run / "metrics.jsonl").write_text(f"{json.dumps(sizes)}\n{json.dumps(test)}\n")
        return run

    def _model(self, dimension, **options):
        changed = dataclasses.replace(self.config.model, dimension=dimension, **options)
        config = dataclasses.replace(self.config, model=changed)
        return assembly.build_model(
            config, len(self.prepared.vocabulary), self.prepared.item_features, self.prepared.popularity
        )

    def _expected(self, dimension):
        """Of each way. A device asks for at most 10 positives, as many decoys, and what is new of 30 draws."""
        model, num_items = self._model(dimension), len(self.prepared.vocabulary)
        own = 2 * np.minimum(self.prepared.store.lengths()[self.prepared.trainable_users], 10)
        rows = math.ceil(np.mean(own + (num_items - own) * (1 - (1 - 1 / num_items) ** 30)))
        float16, int8, split = table_codings.FLOAT16, table_codings.INT8, communication.split_traffic

        def asked(coding=table_codings.FLOAT32, **options):
            return communication.with_released_rows(split(model, coding, rows, **options), rows)

        return {
            "unsplit FedAvg": communication.unsplit_traffic(model),
            "unsplit FedAvg, secure sum": communication.unsplit_traffic(model, BITS),
            "unsplit FedAvg, embeddings of d": communication.unsplit_traffic(
                self._model(dimension, candidate_expansion=1)
            ),
            "whole table, float32": split(model),
            "whole table, float16": split(model, float16),
            "whole table, int8": split(model, int8),
            "whole table, int8, secure": split(model, int8, number_bits=BITS),
            "whole table, int8, ring": split(model, int8, number_bits=32, shares=3),
            "requested rows, float32": asked(),
            "requested rows, int8, encoded": asked(int8, number_bits=14),
            "requested rows, int8, secure sum of rows": asked(int8, number_bits=BITS),
            "requested rows, int8, secure sum of tables": asked(int8, number_bits=BITS, sent_rows=num_items),
            "requested rows, int8, ring": communication.with_released_rows(
                split(model, int8, rows, number_bits=32, shares=3, sent_rows=self._mean_ring_rows(model)), num_items
            ),
        }

    def _in_rings(self):
        training = dataclasses.replace(self.config.training, aggregation="ring")
        return dataclasses.replace(self.config, training=training)

    def _mean_ring_rows(self, model):
        """Rings of 10 among the 100 devices of round 0, whose blocks of 50 cut none; rows of two requesters or more."""
        num_items = len(self.prepared.vocabulary)
        cohort = clients.cohort(self.prepared.trainable_users, 100, self.config.seed, 0)
        blocks = rounds.block_source(self._in_rings(), self.prepared, model)(cohort, 0)
        rows = [set(user[user >= 0]) for block in blocks for user in model.objective.rows(block, num_items).numpy()]
        rings = [collections.Counter(item for user in rows[of : of + 10] for item in user) for of in range(0, 100, 10)]
        return math.ceil(np.mean([sum(count >= 2 for count in ring.values()) for ring in rings]))

    def test_every_cell_is_what_communication_counts(self):
        for dimension in (4, 6):
            cells = {cell["way"]: cell for cell in self.tables["traffic"] if cell["dimension"] == dimension}
            expected = self._expected(dimension)
            self.assertEqual(list(cells), list(expected))
            whole = expected["unsplit FedAvg"].total
            for way, traffic in expected.items():
                cell = cells[way]
                counted = {name: size for name, size in cell.items() if ": " in name}
                directions = (("down", traffic.down), ("up", traffic.up), ("to peers", traffic.peers))
                self.assertEqual(counted, {f"{to}: {part}": of[part] for to, of in directions for part in of})
                self.assertEqual(cell["total"], traffic.total)
                self.assertAllClose(cell["times_fewer_bytes"], whole / traffic.total)
                fewer = cells["unsplit FedAvg"]["multiply_adds"] / cell["multiply_adds"]
                self.assertAllClose(cell["times_fewer_multiply_adds"], fewer)
            self.assertGreater(cells["whole table, int8"]["times_fewer_multiply_adds"], 1.0)
            self.assertGreater(
                cells["whole table, int8"]["multiply_adds"], cells["requested rows, float32"]["multiply_adds"]
            )

    def test_the_query_tower_by_hand(self):
        """Two half-lives at dimension 4: 8 × 3 + 3 + 3 × 4 + 4 = 43 numbers, 172 bytes; at 6: 36 + 3 + 18 + 6 = 63."""
        for dimension, size in ((4, 172), (6, 252)):
            sizes = {cell["down: query tower"] for cell in self.tables["traffic"] if cell["dimension"] == dimension}
            self.assertEqual(sizes, {size})

    def test_requested_rows_are_those_of_the_blocks(self):
        """The mean over 800 devices of what the objective names, within 1 % and one row for rounding up."""
        model = self._model(4)
        users = self.prepared.trainable_users[:800]
        asked = [
            np.sum(model.objective.rows(block, len(self.prepared.vocabulary)) >= 0, axis=1)
            for block in rounds.block_source(self.config, self.prepared, model)(users, 0)
        ]
        counted = device_traffic.mean_requested_rows(self.config, model, self.prepared.store.lengths()[users])
        self.assertAllClose(counted, np.concatenate(asked).mean(), rtol=0.01, atol=1.0)

    def test_rows_of_a_ring_are_those_that_enough_members_asked_for(self):
        """Both shares that go to peers are as large as the upload, but for the requests; one bit an item more down."""
        config, model, num_items = self._in_rings(), self._model(4), len(self.prepared.vocabulary)
        traffic = device_traffic.traffic(config, self.prepared, model)
        self.assertEqual(traffic.up["item gradients"], 4 * 4 * self._mean_ring_rows(model))
        numbers = sum(traffic.up.values()) - traffic.up["requests"]
        self.assertEqual(traffic.peers, {"shares": 2 * numbers})
        self.assertEqual(traffic.down["released rows"], math.ceil(num_items / 8))
        asked = dataclasses.replace(config, transport=dataclasses.replace(config.transport, minimum_requesters=1))
        self.assertEqual(device_traffic.mean_ring_rows(asked, self.prepared, model), num_items)

    def test_a_device_that_runs_out_of_decoys_asks_for_fewer_rows(self):
        """Of I items a device has I - 6; its window of 10 has 10 · 6 / (I - 6) of 6 decoys in the mean, rounded up."""
        model, num_items = self._model(4), len(self.prepared.vocabulary)
        model.objective = dataclasses.replace(model.objective, fresh_rows=0)
        counted = device_traffic.mean_requested_rows(self.config, model, np.array([num_items - 6]))
        self.assertEqual(counted, math.ceil(10 + 60 / (num_items - 6)))

    def test_the_table_has_all_ways_and_runs(self):
        """Of NDCG@10 25 % the second run has 20 %: it lost 20 %. Each moved 1,230 bytes, 1.2 kB."""
        text = (self.folder / "tables" / "traffic.md").read_text()
        self.assertIn(text.strip(), self.printed.getvalue())
        for way in self._expected(4):
            self.assertLen([line for line in text.splitlines() if f"| {way} |" in line], 2)
        for row in ("| run-table | table |", "| run-rows | rows |"):
            self.assertIn(row, text)
        (lost,) = (line for line in text.splitlines() if line.startswith("| run-rows "))
        self.assertRegex(lost, r"\| 1\.2 \| 40\.00 \| 20\.00 \| 20\.00 \|$")

    def test_in_short(self):
        """At each dimension what the long table has of three ways, in kB, and how much less rows are than the first.

        Without wide embeddings there are two.
        """
        short = script.in_short("traffic-x", "made up", self.tables["traffic"])
        cells = {(str(cell["dimension"]), cell["way"]): cell for cell in self.tables["traffic"]}
        narrow, rows = "unsplit FedAvg, embeddings of d", "requested rows, int8, "
        sums = ("encoded", "secure sum of rows", "secure sum of tables", "ring")
        ways = ("unsplit FedAvg", narrow, *(f"{rows}{way}" for way in sums))
        self.assertEqual(short.columns[1:4], tuple(f"{way}, kB" for way in ways[:3]))
        self.assertEqual([row[0] for row in short.rows], ["4", "6"])
        for dimension, *numbers in short.rows:
            sizes, fewer_bytes, (fewer_products, less_time) = numbers[:3], numbers[3:7], numbers[7:]
            found = [cells[dimension, way] for way in ways]
            self.assertAllClose(sizes, [cell["total"] / 1e3 for cell in found[:3]])
            self.assertAllClose(fewer_bytes, [found[0]["total"] / cell["total"] for cell in found[2:]])
            self.assertAllClose(fewer_products, found[0]["multiply_adds"] / found[2]["multiply_adds"])
            self.assertAllClose(less_time, found[0]["milliseconds"] / found[2]["milliseconds"])
        without = [cell for cell in self.tables["traffic"] if cell["way"] != narrow]
        self.assertLen(script.in_short("traffic-x", "made up", without).columns, 9)

    def test_unsplit_devices_bound_no_item_gradients(self):
        """Their products are those of a training without clip norm; of a whole table, split devices have more."""
        cells = {cell["way"]: cell for cell in self.tables["traffic"] if cell["dimension"] == 4}
        unclipped = dataclasses.replace(
            self.config, training=dataclasses.replace(self.config.training, item_clip_norm=None)
        )
        ways = {way.name: way.compute for way in traffic_study.ways(unclipped, self.prepared, 4, 1)}
        for way in ("unsplit FedAvg", "unsplit FedAvg, embeddings of d"):
            self.assertEqual(cells[way]["multiply_adds"], ways[way].multiply_adds)
        table = "whole table, float32"
        self.assertGreater(cells[table]["multiply_adds"], ways[table].multiply_adds)

    def test_a_catalogue_that_there_is_not(self):
        script_cases.assert_refused(self, script_cases.run("traffic.py", "--catalogue", "half"), "'half'")

    def test_refusals(self):
        (self.folder / "unfinished").mkdir(exist_ok=True)
        (self.folder / "unfinished" / "config.toml").write_text("seed = 3\n")
        (self.folder / "table.toml").write_text("seed = 3\n")
        for sentence, changes in (
            ("--runs .*unfinished has no test metrics", {"runs": (self.folder / "unfinished",)}),
            ("--runs .*nowhere is no run folder", {"runs": (self.folder / "nowhere",)}),
            ("--dimensions need", {"dimensions": ()}),
            ("--dimensions need", {"dimensions": (0,)}),
            ("table.toml requests no rows", {"config": self.folder / "table.toml"}),
            ("cannot be made .*; name another", {"output": self.folder / "table.toml", "runs": ()}),
        ):
            with self.assertRaisesRegex(InputError, sentence) as caught:
                script.main(self._options(**({"output": self.folder / "refused"} | changes)))
            self.assertNotIn("\n", str(caught.exception))
        self.assertFalse((self.folder / "refused").exists())


def _packed(numbers, bits):
    return math.ceil(numbers * bits / 8)


class PublishedTest(tf.test.TestCase, parameterized.TestCase):
    """Bytes of README's tables, by hand from the presets' shapes and the rows that their mean device asks for."""

    @parameterized.parameters(
        ("hm", 257, 128, lambda d: 152_237 * d, 105_542, 22, 4_209, 2_763),
        ("ml-1m", 41, 8, lambda d: 3_800 * 4 * d + 4 * d * d, 3_704, 16, 589, 864),
    )
    def test_by_hand(self, source, slope, constant, candidate, items, bits, rows, released):
        """Numbers of the query tower, of the candidate tower, and bytes of each.

        H&M's query tower: d × 128, 128, 128 × d, d. Candidate tower: 105,542 articles and 46,695 features.
        ML-1M's: four half-lives, 4d × 8, 8, 8 × d, d; 3,704 items and 96 features of 4d each, a projection 4d × d.
        Rows: d bytes and a scale of 4 down, with a bit each whether it is released; d codes and an id of 4 up. In a
        ring of two shares a bit for each item of the catalogue down; words of 4 bytes up, of the rows that the ring
        releases, and as many to a peer.
        """
        published = json.loads((script_cases.SCRIPTS / "presets" / "measured" / f"traffic-{source}.json").read_text())
        cells = [dict(zip(published["columns"], row, strict=True)) for row in published["rows"]]
        self.assertEqual([cell["d"] for cell in cells], ["16", "32", "64"])
        for cell in cells:
            d = int(cell["d"])
            query = slope * d + constant
            unsplit = 2 * 4 * (query + candidate(d)) + 8
            down = 4 * query + rows * (d + 4) + _packed(rows, 1)
            up = _packed(query, bits) + _packed(rows * d, bits) + _packed(2, bits) + 4 * rows
            self.assertAllClose(cell["unsplit FedAvg, kB"], unsplit / 1e3, rtol=1e-9)
            self.assertAllClose(cell["requested rows, int8, encoded, kB"], (down + up) / 1e3, rtol=1e-9)
            self.assertAllClose(cell["times fewer bytes"], unsplit / (down + up), rtol=1e-9)
            self.assertGreater(cell["times fewer bytes"], 42)
            ring = 4 * query + rows * (d + 4) + _packed(items, 1) + 2 * 4 * (query + released * d + 2) + 4 * rows
            self.assertAllClose(cell["under a ring"], unsplit / ring, rtol=1e-9)


if __name__ == "__main__":
    tf.test.main()
