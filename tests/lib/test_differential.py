# SPDX-License-Identifier: GPL-2.0-only
"""Tests what differential.py does when the machine is too slow: python3 -m unittest
tests/lib/test_differential.py"""

import argparse
import contextlib
import io
import sys
import unittest
from pathlib import Path
from unittest import mock

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).parent))
import differential  # noqa: E402


def report(seed, late=False, wrong=None):
    wrong = "too slow" if late else wrong
    return {
        "seed": seed,
        "late": late,
        "wrong": wrong,
        "answers": "",
        "view": "",
        "excepted": [],
    }


class Late(unittest.TestCase):
    """Programs for which the machine was too slow."""

    def again(self, reports, answers, trouble=None):
        """Runs them again, which gives these answers; returns the reports and what was run."""
        args = argparse.Namespace(trouble=trouble)
        with mock.patch.object(differential, "guest", side_effect=answers) as guest:
            with contextlib.redirect_stdout(io.StringIO()):
                differential.again_if_late("rust", reports, "log", args)
        ran = [(call.args[1], call.args[3].trouble) for call in guest.call_args_list]
        return reports, ran

    def test_only_those(self):
        before = [report(7), report(8, wrong="a wrong byte")]
        reports, ran = self.again(list(before), [])
        self.assertEqual((reports, ran), (before, []))

    def test_until_it_is_not(self):
        answers = [([report(8, late=True)], None), ([report(8)], None)]
        reports, ran = self.again([report(7), report(8, late=True)], answers)
        self.assertEqual(reports, [report(7), report(8)])
        self.assertEqual(ran, [(["--from", "8", "--count", "1"], None)] * 2)

    def test_with_its_trouble(self):
        reports = [report(seed, late=seed == 60) for seed in range(100)]
        answers = [([report(60)], None)]
        _, ran = self.again(reports, answers, ["none", "kill", "sleep"])
        self.assertEqual(ran, [(["--from", "60", "--count", "1"], ["kill"])])

    def test_not_for_ever(self):
        late = report(7, late=True)
        reports, ran = self.again([late], [([late], None)] * differential.AGAIN)
        self.assertEqual(len(ran), differential.AGAIN)
        self.assertTrue(differential.judge({"rust": reports[0]}))

    def test_something_else_is_wrong_then(self):
        answers = [([report(7, wrong="a wrong byte")], None)]
        reports, _ = self.again([report(7, late=True)], answers)
        self.assertEqual(reports[0]["wrong"], "a wrong byte")
        reports, ran = self.again([report(7, late=True)], [([], "the guest has died")])
        self.assertEqual(reports[0]["wrong"], "the guest has died")
        self.assertEqual(len(ran), 1)


if __name__ == "__main__":
    unittest.main()
