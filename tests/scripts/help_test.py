"""Every script answers `--help` at once: it imports neither TensorFlow nor pandas for it."""

import pathlib
import subprocess
import sys

from absl.testing import absltest, parameterized

SCRIPTS = pathlib.Path(__file__).parents[2] / "scripts"


class HelpTest(parameterized.TestCase):
    @parameterized.parameters(*((path.name,) for path in sorted(SCRIPTS.glob("*.py"))))
    def test_help_imports_neither_tensorflow_nor_pandas(self, name):
        script = str(SCRIPTS / name)
        code = f"""
import runpy, sys
sys.argv = [{script!r}, "--help"]
try:
    runpy.run_path({script!r}, run_name="__main__")
except SystemExit as stop:
    assert stop.code in (0, None)
assert not {{"tensorflow", "tensorflow_federated", "pandas"}} & sys.modules.keys()
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("--help", done.stdout)


if __name__ == "__main__":
    absltest.main()
