# SPDX-License-Identifier: GPL-2.0-only
"""`make series`: what it writes applies to a vanilla tree with `git am`, and leaves what
`make overlay` does. checkpatch.pl is called by it."""

import filecmp
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ["MSM_RS_CACHE"])
SOURCE = CACHE / "linux/source"
DRM = "drivers/gpu/drm"
WHO = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "A Developer"), ("EMAIL", "developer@example.org"))
}


def run(*command, **more):
    env = dict(os.environ, **WHO)
    done = subprocess.run(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more
    )
    if done.returncode:
        raise AssertionError(f"{command}: {done.stdout}")
    return done.stdout


def vanilla(path):
    """What of a kernel tree the series and the overlay look at."""
    (path / DRM).mkdir(parents=True)
    shutil.copy(SOURCE / "Makefile", path)
    shutil.copytree(SOURCE / DRM / "msm", path / DRM / "msm")


def contents(top):
    """The files of a tree, but for what git keeps and what the overlay keeps to undo itself."""
    found = {str(path.relative_to(top)) for path in top.rglob("*") if path.is_file()}
    return {
        file for file in found if not file.startswith((".git/", f"{DRM}/msm_rs/patches/"))
    }


class Series(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        directory = tempfile.TemporaryDirectory(dir=TOP / "build")
        cls.addClassCleanup(directory.cleanup)
        cls.dir = Path(directory.name)
        cls.out = cls.dir / "out"
        cls.said = run(TOP / "scripts/series", cls.out)
        cls.patches = sorted(cls.out.glob("*.patch"))

    def tree(self, name, patches):
        tree = self.dir / name
        vanilla(tree)
        run("git", "init", "-q", cwd=tree)
        run("git", "add", "-A", "-f", cwd=tree)
        run("git", "commit", "-q", "-m", "vanilla", cwd=tree)
        run("git", "am", "-q", *patches, cwd=tree)
        return tree

    def test_is_the_overlay(self):
        tree = self.tree("am", self.patches[1:])
        overlaid = self.dir / "overlaid"
        vanilla(overlaid)
        run(TOP / "scripts/overlay", overlaid)
        self.assertEqual(contents(tree), contents(overlaid))
        _, differ, errors = filecmp.cmpfiles(tree, overlaid, contents(tree), shallow=False)
        self.assertEqual((differ, errors), ([], []))

    def test_mends_need_nothing_of_ours(self):
        mends = sorted((TOP / DRM / "msm_rs/patches").glob("00*.patch"))
        self.assertGreater(len(mends), 0)
        tree = self.tree("mends", self.patches[1 : 1 + len(mends)])
        self.assertEqual(len(run("git", "log", "--format=%h", cwd=tree).split()), len(mends) + 1)
        used = subprocess.run(["grep", "-rl", "msm_rs", DRM], cwd=tree, stdout=subprocess.PIPE)
        self.assertEqual(used.stdout, b"")

    def test_cover_letter_is_filled_in(self):
        text = self.patches[0].read_text()
        self.assertIn(f"[PATCH 00/{len(self.patches) - 1}]", text)
        letter, _, _ = text.partition("\nA Developer (")
        self.assertNotIn("***", letter)
        self.assertNotRegex(letter, "@[a-z]+@")
        self.assertRegex(letter, r"MAP of 4 KiB: 1 op +\d\.\d\d\n")

    def test_every_file_has_to_be_in_a_patch(self):
        spec = importlib.util.spec_from_file_location("series", TOP / "packaging/series.py")
        series = importlib.util.module_from_spec(spec)
        self.addCleanup(setattr, sys, "dont_write_bytecode", sys.dont_write_bytecode)
        sys.dont_write_bytecode = True
        spec.loader.exec_module(series)
        ours = series.Overlay(self.dir / "ours").ours()
        series.pieces(ours)
        with self.assertRaisesRegex(SystemExit, "in no piece .*: msm_rs/new.rs"):
            series.pieces([*ours, "msm_rs/new.rs"])


if __name__ == "__main__":
    # what runs the suite reads the output
    unittest.main(testRunner=unittest.TextTestRunner(stream=sys.stdout))
