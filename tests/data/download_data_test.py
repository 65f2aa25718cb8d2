"""The download script against `file:` addresses: no network is used."""

import contextlib
import hashlib
import importlib.util
import io
import tempfile
import urllib.error
import zipfile
from pathlib import Path
from unittest import mock

from absl.testing import absltest, parameterized

from tff_rec.errors import InputError

_PATH = Path(__file__).parents[2] / "scripts" / "download_data.py"
_SPEC = importlib.util.spec_from_file_location("download_data", _PATH)
download_data = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(download_data)


class DownloadTest(parameterized.TestCase):
    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.to = Path(folder.name) / "to"
        self.host = Path(folder.name) / "host"
        self.host.mkdir()
        self.enterContext(contextlib.redirect_stderr(io.StringIO()))

    def publish(self, source: str, md5: str | None) -> bytes:
        path = self.host / f"{source}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("ratings.csv", "1,2\n" * 100)
        content = path.read_bytes()
        if md5 is not None:
            digest = hashlib.md5(content).hexdigest()
            (self.host / f"{source}.zip.md5").write_text(md5.format(digest))
        return content

    def download(self, source: str) -> Path:
        return download_data.download(source, self.to, f"{self.host.as_uri()}/")

    def assert_nothing_written(self) -> None:
        self.assertEqual([path for path in self.to.rglob("*") if path.is_file()], [])

    @parameterized.parameters("MD5 (ml-1m.zip) = {}\n", "{}  ml-1m.zip\n")
    def test_checks_the_published_md5(self, md5):
        content = self.publish("ml-1m", md5)
        self.assertEqual(self.download("ml-1m"), self.to / "ml-1m" / "ml-1m.zip")
        self.assertEqual((self.to / "ml-1m" / "ml-1m.zip").read_bytes(), content)
        with self.assertRaisesRegex(InputError, "is there already; remove it"):
            self.download("ml-1m")

    def test_wrong_md5(self):
        self.publish("ml-1m", "0" * 32)
        with self.assertRaisesRegex(InputError, "has the md5 .* and not 0000"):
            self.download("ml-1m")
        self.assert_nothing_written()

    def test_known_sha256(self):
        self.publish("ml-latest-small", None)
        with self.assertRaisesRegex(InputError, "has the sha256 .* and not 696d65a3"):
            self.download("ml-latest-small")
        self.assert_nothing_written()

    def test_no_checksum_published(self):
        self.publish("ml-latest", "none")
        self.assertTrue(self.download("ml-latest").exists())

    def test_no_checksum_and_damaged(self):
        content = self.publish("ml-latest", "none")
        (self.host / "ml-latest.zip").write_bytes(content[:100])
        with self.assertRaisesRegex(InputError, "is no intact zip file"):
            self.download("ml-latest")
        self.assert_nothing_written()

    def test_checksum_of_a_host_that_has_none(self):
        missing = urllib.error.HTTPError("http://x", 404, "Not Found", {}, None)
        forbidden = urllib.error.HTTPError("http://x", 403, "Forbidden", {}, None)
        with mock.patch.object(download_data.urllib.request, "urlopen", side_effect=[missing, forbidden]):
            self.assertIsNone(download_data._published_md5("http://x"))
            with self.assertRaises(urllib.error.HTTPError):
                download_data._published_md5("http://x")

    def test_broken_off(self):
        answer = mock.MagicMock(headers={"Content-Length": "9"})
        answer.__enter__.return_value = answer
        answer.read.side_effect = [b"1234", b""]
        with (
            mock.patch.object(download_data.urllib.request, "urlopen", return_value=answer),
            self.assertRaisesRegex(InputError, "broke off after 4 of 9 bytes"),
        ):
            self.download("ml-1m")
        self.assert_nothing_written()

    def test_unreachable(self):
        with self.assertRaisesRegex(InputError, "cannot be downloaded .*; check the network"):
            self.download("ml-20m")
        self.assertFalse(self.to.exists())

    def test_main_prints_one_sentence_and_exits_with_2(self):
        error = io.StringIO()
        with self.assertRaises(SystemExit) as caught, contextlib.redirect_stderr(error):
            download_data.main("hm", self.to)
        self.assertEqual(caught.exception.code, 2)
        self.assertIn("needs a Kaggle login", error.getvalue())
        self.assertIn("transactions_train.csv, articles.csv, customers.csv", error.getvalue())

    def test_main_says_where_the_file_is(self):
        self.publish("ml-1m", "{}")
        output = io.StringIO()
        with (
            mock.patch.object(download_data, "BASE_URL", f"{self.host.as_uri()}/"),
            contextlib.redirect_stdout(output),
        ):
            download_data.main("ml-1m", self.to)
        self.assertIn(f"set TFF_REC_DATA={self.to}", output.getvalue())


if __name__ == "__main__":
    absltest.main()
