# SPDX-License-Identifier: GPL-2.0-only
"""Tests what suite.py makes of what programs, commands and KUnit say: python3 -m unittest
tests/lib/test_suite.py"""

import contextlib
import io
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).parent))
import suite  # noqa: E402

ALIAS = {
    "name": "alias",
    "program": "alias",
    "kernel": "stock",
    "module": "rust",
    "timeout": 300,
}


class Suite(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.logs = Path(directory.name)
        self.report = suite.Report()
        for name, value in (("LOGS", self.logs), ("report", self.report)):
            patch = mock.patch.object(suite, name, value)
            patch.start()
            self.addCleanup(patch.stop)

    def counts(self, work, status, lines):
        """How many have passed and failed when what `work` starts says that and ends so."""

        def run(_, log, take=None):
            Path(log).write_text("\n".join(lines))
            for line in lines if take else ():
                take(line)
            return status, ""

        with mock.patch.object(suite, "run", run), contextlib.redirect_stdout(io.StringIO()):
            work()
        return self.report.passed, self.report.failed

    def boot(self, status, *lines, **test):
        boot = suite.Boot([suite.Test(**{**ALIAS, **test})])
        return self.counts(boot.run_and_report, status, lines)

    def test_program(self):
        # The last of those that pass is the kernel's log.
        lines = "@begin 0", "ok one", "ok two", "@end 0 0"
        self.assertEqual(self.boot(0, *lines), (3, 0))

    def test_sub_test_fails(self):
        self.assertEqual(self.boot(0, "@begin 0", "ok one", "FAIL two: why", "@end 0 1"), (2, 1))

    def test_program_that_says_nothing(self):
        self.assertEqual(self.boot(0, "@begin 0", "@end 0 0"), (1, 1))

    def test_program_that_is_not_there(self):
        self.assertEqual(self.boot(0, "@begin 0", "@end 0 127"), (1, 1))

    def test_all_sub_tests_left_out(self):
        lines = "@begin 0", "@none 0", "@end 0 0"
        self.assertEqual(self.boot(0, *lines, module="stock"), (1, 0))

    def test_kernel_complains(self):
        self.assertEqual(self.boot(70, "@begin 0", "ok one"), (1, 1))

    def test_control_that_nothing_notices(self):
        lines = "@begin 0", "ok one", "@end 0 0"
        self.assertEqual(self.boot(0, *lines, fails=True), (0, 1))

    def test_control_that_takes_too_long(self):
        lines = "@begin 0", "FAIL one: still running after 60 s", "@end 0 1"
        self.assertEqual(self.boot(0, *lines, fails=True), (0, 1))

    def test_control(self):
        lines = "@begin 0", "FAIL one: page 2 is wrong", "@end 0 1"
        self.assertEqual(self.boot(0, *lines, fails=True), (1, 0))

    def kunit(self, log, status=0):
        (self.logs / "kunit.kernel").write_text(log)
        with mock.patch.object(suite, "kunit_suites", lambda: {"bo"}):
            return self.counts(suite.kunit, status, ())

    def test_kunit(self):
        log = "    KTAP version 1\n    # Subtest: bo\n    1..1\n    ok 1 pins\nok 1 bo\n"
        self.assertEqual(self.kunit(log), (2, 0))
        self.assertEqual(self.kunit(log, 70), (3, 1))

    def test_kunit_case_fails(self):
        self.assertEqual(self.kunit("    # Subtest: bo\n    1..1\n    not ok 1 pins\n"), (1, 1))

    def test_kunit_says_why(self):
        lines = "# Subtest: bo", "1..2", "ok 1 maps", "# pins: EXPECTATION", "not ok 2 pins"
        self.kunit("".join(f"    {line}\n" for line in lines))
        failures = [("kunit bo pins", "    # pins: EXPECTATION")]
        self.assertEqual(self.report.failures, failures)

    def test_the_first_complaint(self):
        self.assertEqual(suite.ended(1, "no splat"), "status 1")
        said = suite.ended(70, "[ 1.0] WARNING: at x\n[ 1.1] WARNING: at y\n")
        self.assertEqual(said, "the kernel complained: WARNING: at x")

    def test_kunit_case_is_skipped(self):
        log = "    # Subtest: bo\n    1..2\n    ok 1 pins # SKIP why\n    ok 2 maps\n"
        self.assertEqual(self.kunit(log), (2, 1))

    def test_kunit_suite_is_not_run(self):
        self.assertEqual(self.kunit("    # Subtest: vm\n    1..1\n    ok 1 ends\n"), (2, 1))

    def test_kunit_says_nothing(self):
        self.assertEqual(self.kunit(""), (0, 2))

    def test_commands(self):
        for lines, counts in ((["3 passed"], (1, 0)), (["0 passed"], (1, 1)), ([], (1, 2))):
            done = self.counts(lambda: suite.host({"name": "x", "command": "x"}), 0, lines)
            self.assertEqual(done, counts)

    def test_scripts(self):
        entry = {"name": "x", "command": "x", "counts": "went wrong"}
        for lines, counts in ((["0 went wrong"], (1, 0)), (["nothing"], (1, 1))):
            done = self.counts(lambda: suite.script_of_its_own(entry), 0, lines)
            self.assertEqual(done, counts)

    @staticmethod
    def planned(turn, *argv):
        """What a run of that turn would run."""
        planned = set()
        with mock.patch.object(suite, "TURN", turn):
            plan = suite.Plan(suite.arguments().parse_args(argv), suite.load())
            for function, *args in plan.tasks():
                if function is suite.sequence:
                    planned.update((test.module, test.kernel, test.name) for test in args[0])
                elif function is suite.hosts:
                    planned.update(("host", entry["name"]) for entry in args[0])
        return planned | {("script", entry["name"]) for entry in plan.scripts}

    def test_turns(self):
        everything = self.planned(0, "--all")
        turns = [self.planned(turn) for turn in range(6)]
        self.assertEqual(set.union(*turns), everything)
        ours = {test for test in everything if test[:2] == ("rust", "stock")}
        for planned in turns:
            self.assertLess(planned, everything)
            self.assertLessEqual(ours, planned)
        self.assertEqual(self.planned(0, "kernels"), self.planned(1, "kernels"))


if __name__ == "__main__":
    unittest.main(testRunner=unittest.TextTestRunner(stream=sys.stdout))
