"""scripts/audit_requests.py: as a person runs it on synthetic data, its refusals, and ML-1M where it is at hand."""

import importlib.util
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import pandas as pd
import tensorflow as tf

from tff_rec.errors import InputError

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "audit_requests.py"
_SPEC = importlib.util.spec_from_file_location("audit_requests", SCRIPT)
script = importlib.util.module_from_spec(_SPEC)
sys.modules["audit_requests"] = script
_SPEC.loader.exec_module(script)


def _run(*arguments):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, timeout=300
    )


class AuditTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.output = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "audit"

    def _check(self, source, users):
        result = _run("--data.source", source, "--users", users, "--output", self.output, "--minimum", 2)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stderr, "")
        self.assertIn(f"{source}: {users:,} devices", result.stdout)
        self.assertEqual((self.output / "audit.png").read_bytes()[:4], b"\x89PNG")
        attack, popularity, exposure = (
            pd.read_csv(self.output / f"{name}.csv") for name in ("attack", "popularity", "exposure")
        )
        persistent, table = attack[attack["decoys"] == "persistent"], attack[attack["decoys"] == "whole table"]
        self.assertEqual(persistent["rounds"].tolist(), [1, 2, 3, 10] * 2)
        self.assertAllClose(persistent["auc"], [0.5] * 8, atol=1e-9)
        self.assertAllClose(persistent["f1"], persistent["f1 of one request"], atol=0.02)
        self.assertAllClose(table["auc"], [0.5] * 4)
        fresh = attack[(attack["decoys"] == "fresh") & (attack["rounds"] == 3)]
        self.assertLen(popularity, 5)
        self.assertAllEqual(exposure["exposed, minimum 2"], [0.0] * len(exposure))
        # What has one requester is exactly what a minimum of two holds back.
        self.assertAllClose(exposure["exposed"], exposure["positives lost"])
        self.assertGreater(exposure["exposed"].max(), 0.05)
        return fresh

    def test_synthetic(self):
        fresh = self._check("synthetic", 60)
        self.assertGreater(fresh["auc"].min(), 0.9)

    @unittest.skipUnless(
        (pathlib.Path(os.environ.get("TFF_REC_DATA") or "nowhere") / "ml-1m").is_dir(),
        "there is no ml-1m in TFF_REC_DATA",
    )
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
            ("no data source 'x'", {"data": script.DataOptions("x")}),
            ("--users is 100000000, and synthetic has", {"users": 10**8}),
        ):
            with self.assertRaisesRegex(InputError, sentence):
                script.main(script.AuditOptions(**({"output": self.output} | options)))
        self.assertFalse(self.output.exists())
        result = _run("--output", file)
        self.assertEqual((result.returncode, result.stdout), (2, ""))
        self.assertRegex(result.stderr, r"^error: --output .* is a file; give a folder\.\n$")


if __name__ == "__main__":
    unittest.main()
