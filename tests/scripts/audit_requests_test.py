"""scripts/audit_requests.py: as a person runs it on synthetic data, its refusals, and ML-1M where it is at hand."""

import functools
import importlib.util
import pathlib
import sys
import tempfile
import unittest
import unittest.mock

import numpy as np
import pandas as pd
import real_data
import script_cases
import tensorflow as tf

from tff_rec.errors import InputError
from tff_rec.federated import requests

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "audit_requests.py"
_SPEC = importlib.util.spec_from_file_location("audit_requests", SCRIPT)
script = importlib.util.module_from_spec(_SPEC)
sys.modules["audit_requests"] = script
_SPEC.loader.exec_module(script)


_run = functools.partial(script_cases.run, "audit_requests.py")


class AuditTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.output = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "audit"

    def _check(self, source, users):
        readme = self.output.parent / "README.md"
        readme.write_text("".join(f"<!-- measured {name} -->\n<!-- end of measured -->\n" for name in script.NAMES))
        options = ("--users", users, "--output", self.output, "--minimum", 2, "--readme", readme)
        result = _run("--data.source", source, *options)
        self.assertEqual(result.returncode, 0, result.stderr)
        # Persistent decoys: AUC 1/2, and F1 2 / (2 + ρ), after 1, 2, 3 and 10 rounds.
        for rho, f1 in ((1, "0.66[5-9]"), (4, "0.3[34][0-9]")):
            self.assertRegex(readme.read_text(), rf"\n\| persistent \| {rho} \|( 0.500 / {f1} \|){{4}}\n")
        self.assertEqual(result.stderr, "")
        self.assertIn(f"{source}: {users:,} devices", result.stdout)
        self.assertEqual((self.output / "audit.png").read_bytes()[:4], b"\x89PNG")
        attack, popularity, exposure = (
            pd.read_csv(self.output / f"{name}.csv") for name in ("attack", "popularity", "exposure")
        )
        persistent, table = attack[attack["decoys"] == "persistent"], attack[attack["decoys"] == "whole table"]
        self.assertEqual(persistent["rounds"].tolist(), [1, 2, 3, 10] * 2)
        self.assertAllClose(persistent["auc"], [0.5] * 8, atol=1e-9)
        self.assertAllClose(persistent["f1"], persistent["2 / (2 + rho)"], atol=0.02)
        self._check_parts(attack)
        self.assertAllClose(table["auc"], [0.5] * 4)
        fresh = attack[(attack["decoys"] == "fresh") & (attack["rounds"] == 3)]
        self.assertLen(popularity, 5)
        for way, rho, auc in popularity.itertuples(index=False):
            self.assertIn(f"\n| {way} | {'' if np.isnan(rho) else f'{rho:g}'} | {auc:.3f} |\n", readme.read_text())
        uniform, popular = (
            popularity[popularity.iloc[:, 0] == way].iloc[:, -1] for way in ("uniform", "by popularity")
        )
        self.assertGreater(uniform.min(), popular.max() + 0.05)
        self.assertAllEqual(exposure["exposed, minimum 2"], [0.0] * len(exposure))
        # What has one requester is exactly what a minimum of two holds back.
        self.assertAllClose(exposure["exposed"], exposure["positives lost"])
        self.assertGreater(exposure["exposed"].max(), 0.05)
        return fresh

    def _check_parts(self, attack):
        """Fresh rows beside thin out what was asked for every time down to positives and decoys, and no further."""
        beside = attack[attack["decoys"] == "persistent, fresh rows beside"]
        self.assertAllClose(beside["auc against decoys"], [0.5] * 8, atol=0.01)
        self.assertAllClose(beside["f1"][beside["rounds"] == 10], [2 / 3, 1 / 3], atol=0.02)
        once, thrice = (beside["f1"][beside["rounds"] == number].to_numpy() for number in (1, 3))
        self.assertTrue(np.all(once < thrice))
        windows = attack[attack["decoys"] == "persistent, random windows"]
        self.assertAllClose(windows["auc"], [0.5] * 8, atol=0.01)
        self.assertAllClose(windows["f1"], windows["2 / (2 + rho)"], atol=0.02)
        self.assertAllEqual(windows["at least"], [1] * 8)
        rows = attack.groupby("decoys")["rows a device and round"].mean()
        self.assertLess(rows["persistent, random windows"], rows["persistent"])
        self.assertBetween(rows["persistent, fresh rows beside"] - rows["persistent"], 50, script.FRESH_ROWS)

    def test_windows_by_hand(self):
        """Of 150 positives with the decoy 200 later: 100 neighbours with theirs. Of two with one decoy: all three."""
        positives = requests.item_sets([np.arange(150), np.array([900, 901])])
        paired = np.append(np.arange(200, 350), [903, -1])[:, np.newaxis]
        begins = set()
        for seed in range(20):
            asked = script._of_windows(positives, paired, np.random.default_rng(seed))
            own = asked[0][asked[0] < 150]
            self.assertAllEqual(own, np.arange(100) + own[0])
            self.assertCountEqual(asked[0][100:], own + 200)
            self.assertCountEqual(asked[1], [900, 901, 903])
            begins.add(int(own[0]))
        self.assertGreater(len(begins), 10)

    def test_synthetic(self):
        fresh = self._check("synthetic", 60)
        self.assertGreater(fresh["auc"].min(), 0.9)

    @real_data.needed("ml-1m")
    def test_ml_1m(self):
        fresh = self._check("ml-1m", 500)
        self.assertGreater(fresh["auc"].min(), 0.95)

    def test_refusals(self):
        file = self.output.parent / "file"
        file.touch()
        for sentence, options in (
            ("--seed and --users must be 0 or more", {"users": -1}),
            ("--seed and --users must be 0 or more", {"seed": -1}),
            ("--minimum is 1; give 2 or more", {"minimum": 1}),
            ("is a file; give a folder", {"output": file}),
            ("cannot be made .*; name another", {"output": file / "folder", "users": 10}),
            ("cohorts of 10 devices, and there are 9", {"users": 9}),
            ("no data source 'x'", {"data": script.DataOptions("x")}),
            ("--users is 100000000, and synthetic has", {"users": 10**8}),
        ):
            with self.assertRaisesRegex(InputError, sentence):
                script.main(script.AuditOptions(**({"output": self.output} | options)))
        with unittest.mock.patch.object(script, "LARGEST", 10_000), self.assertRaisesRegex(InputError, "give --users "):
            script.main(script.AuditOptions(output=self.output))
        self.assertFalse(self.output.exists())
        result = _run("--output", file)
        self.assertEqual((result.returncode, result.stdout), (2, ""))
        self.assertRegex(result.stderr, r"^error: --output .* is a file; give a folder\.\n$")


if __name__ == "__main__":
    unittest.main()
