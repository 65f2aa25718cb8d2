import os
import pathlib
import tempfile
import threading
from unittest import mock

from absl.testing import absltest

from tff_rec.errors import InputError
from tff_rec.serving import folder

DESCRIPTION = folder.Description(k=5, max_length=6, num_items=2, model="a tower")


class FolderTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.parent = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.target = self.parent / "export"

    def _write(self, titles):
        with folder.replacing(self.target) as new:
            new.mkdir()
            folder.write_extra(new, DESCRIPTION, titles)

    def _only_the_target(self):
        return [entry.name for entry in self.parent.iterdir()] == ["export"]

    def test_reads_what_it_wrote(self):
        titles = {"1": "Träume, süße", "2": 'He said "no"\nand left'}
        self._write(titles)
        self.assertEqual(folder.read_description(self.target), DESCRIPTION)
        self.assertEqual(folder.read_titles(self.target), titles)
        self.assertTrue(self._only_the_target())

    def test_anyone_may_read_the_folder(self):
        self._write({})
        plain = self.parent / "plain"
        plain.mkdir()
        self.assertEqual(self.target.stat().st_mode, plain.stat().st_mode)

    def test_makes_parents_and_takes_an_empty_folder(self):
        self.target = self.parent / "a" / "b"
        self._write({"1": "old"})
        self.target = self.parent / "empty"
        self.target.mkdir()
        self._write({"1": "new"})
        self.assertEqual(folder.read_titles(self.target), {"1": "new"})

    def test_readers_always_meet_an_export(self):
        """Another thread reads while the export is replaced 200 times."""
        self._write({"1": "first"})
        missed, done = [], threading.Event()

        def read():
            while not done.is_set():
                if not os.path.lexists(self.target):
                    missed.append(self.target)

        reader = threading.Thread(target=read)
        reader.start()
        for _ in range(200):
            self._write({"1": "next"})
        done.set()
        reader.join()
        self.assertEmpty(missed)
        self.assertTrue(self._only_the_target())

    def test_a_file_system_that_cannot_exchange(self):
        self._write({"1": "old"})
        with mock.patch.object(folder.ctypes, "CDLL", return_value=object()):
            self._write({"1": "new"})
        self.assertEqual(folder.read_titles(self.target), {"1": "new"})
        self.assertTrue(self._only_the_target())

    def test_a_failing_rename_puts_the_old_one_back(self):
        self._write({"1": "old"})
        rename = pathlib.Path.rename

        def fail(path, target):
            if path.name == "new":
                raise OSError("no")
            return rename(path, target)

        with (
            mock.patch.object(folder.ctypes, "CDLL", return_value=object()),
            mock.patch.object(pathlib.Path, "rename", fail),
            self.assertRaises(OSError),
        ):
            self._write({"1": "new"})
        self.assertEqual(folder.read_titles(self.target), {"1": "old"})

    def test_a_failure_while_writing_leaves_the_old_one(self):
        self._write({"1": "old"})
        with self.assertRaises(ZeroDivisionError), folder.replacing(self.target) as new:
            new.mkdir()
            raise ZeroDivisionError
        self.assertEqual(folder.read_titles(self.target), {"1": "old"})
        self.assertTrue(self._only_the_target())

    def test_refuses_what_is_not_an_export(self):
        self.target.mkdir()
        (self.target / "thesis.tex").write_text("years of work")
        with self.assertRaisesRegex(InputError, "in use by something that is not an export"):
            self._write({})
        self.assertTrue((self.target / "thesis.tex").exists())
        self.target = self.target / "thesis.tex"
        with self.assertRaisesRegex(InputError, "in use by something that is not an export"):
            self._write({})

    def test_refuses_where_nothing_can_be_written(self):
        (self.parent / "file").write_text("")
        self.target = self.parent / "file" / "export"
        with self.assertRaisesRegex(InputError, "Nothing can be written to"):
            self._write({})

    def test_reading_what_is_not_there(self):
        with self.assertRaisesRegex(InputError, "does not exist"):
            folder.read_description(self.target)
        with self.assertRaisesRegex(InputError, "is not an export"):
            folder.read_description(self.parent)
        self._write({"1": "title"})
        for text in ("", "[]", "{}", '{"k": 5}', "null"):
            (self.target / "assets.extra" / "export.json").write_text(text)
            with self.assertRaisesRegex(InputError, "is not an export"):
                folder.read_description(self.target)
        for data in (b"a,b\n1,2\n", b"item_id,title\n\xff,\n"):
            (self.target / "assets.extra" / "items.csv").write_bytes(data)
            with self.assertRaisesRegex(InputError, "titles in .* cannot be read"):
                folder.read_titles(self.target)


if __name__ == "__main__":
    absltest.main()
