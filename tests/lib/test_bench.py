# SPDX-License-Identifier: GPL-2.0-only
"""Tests what bench.py makes of measurements: python3 -m unittest tests/lib/test_bench.py"""

import sys
import tomllib
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).parent))
import bench  # noqa: E402

SCENARIO = {
    "name": "map",
    "title": "MAP",
    "sizes": [1, 64],
    "of": "MiB",
    "unit": "op",
    "what": "fence",
    "ratio": 0.6,
    "tlbi": 1,
}


def run(fence, tlbi=1):
    return {"ioctl": 1.0, "fence": float(fence), "tlbi": float(tlbi), "registers": 3.0}


def row(ours, **scenario):
    """The row of a size at which stock costs 1000, ours so much in each run."""
    scenario = {**SCENARIO, "sizes": [1], **scenario}
    return bench.rows_of(
        [scenario], {("map", 1): {"stock": [run(1000)] * len(ours), "rust": [run(v) for v in ours]}}
    )[0]


class Rows(unittest.TestCase):
    def test_ratio_and_spread(self):
        it = row([500, 520])
        self.assertEqual((it["stock"], it["ours"], it["ratio"]), (1000, 510, 0.51))
        self.assertAlmostEqual(it["spread"], 0.04)
        self.assertEqual(it["missed"], [])

    def test_targets_are_judged_as_shown(self):
        self.assertEqual(row([604])["missed"], [])
        self.assertEqual(row([606])["missed"], ["more than 0.6 of stock's"])
        self.assertEqual(row([500], most=499)["missed"], ["more than 499"])
        self.assertEqual(row([500], tlbi=0)["missed"], ["more than 0 TLBI"])

    def test_flat(self):
        def missed(great):
            ours = {1: 100, 64: great}
            results = {
                ("map", n): {"stock": [run(1000)], "rust": [run(v)]} for n, v in ours.items()
            }
            return bench.rows_of([{**SCENARIO, "flat": 1.1}], results)[1]["missed"]

        self.assertEqual(missed(109), [])
        self.assertEqual(missed(120), ["1.20 times the smallest's"])

    def test_of_used(self):
        tables = {**SCENARIO, "sizes": [1], "what": "reserved", "of_used": 1.1}
        del tables["ratio"], tables["tlbi"]

        def missed(reserved):
            runs = {
                "stock": [{"reserved": 900.0, "used": 10.0}],
                "rust": [{"reserved": reserved, "used": 10.0}],
            }
            return bench.rows_of([tables], {("map", 1): runs})[0]["missed"]

        self.assertEqual(missed(11.0), [])
        self.assertEqual(missed(12.0), ["more than 1.1 of the tables used"])

    def test_unmaps(self):
        flips = {**SCENARIO, "sizes": [1], "unmaps": 0}

        def missed(unmaps):
            ours = {**run(500), "unmaps": unmaps}
            runs = {"stock": [run(1000)], "rust": [ours]}
            return bench.rows_of([flips], {("map", 1): runs})[0]["missed"]

        self.assertEqual(missed(0.0), [])
        self.assertEqual(missed(0.5), ["more than 0 unmaps"])

    def test_refused(self):
        refused = {"errno": 114.0}

        def ours(rust):
            scenario = {**SCENARIO, "sizes": [1], "works": True}
            return bench.rows_of([scenario], {("map", 1): {"stock": [refused], "rust": [rust]}})[0]

        self.assertEqual(ours(refused)["missed"], ["refused with EALREADY"])
        self.assertEqual(ours(run(5))["missed"], [])
        self.assertIsNone(ours(run(5))["ratio"])


class Check(unittest.TestCase):
    def test_within_tolerance(self):
        baseline = bench.baseline_of([row([500])])
        self.assertEqual(bench.worse([row([500])], baseline, True), [])
        self.assertEqual(bench.worse([row([524])], baseline, True), [])
        self.assertEqual(bench.worse([row([100])], baseline, True), [])

    def test_worse_than_a_doctored_baseline(self):
        baseline = bench.baseline_of([row([500])])
        baseline[0]["ratio"] *= 0.9
        self.assertEqual(
            bench.worse([row([500])], baseline, True), ["map 1: 0.500 of stock's cost, was 0.450"]
        )

    def test_worse_than_nothing(self):
        nothing, something = ({**row([1]), "ratio": ratio} for ratio in (0.0, 0.001))
        self.assertEqual(len(bench.worse([something], bench.baseline_of([nothing]), True)), 1)
        self.assertEqual(bench.worse([nothing], bench.baseline_of([nothing]), True), [])

    def test_refused_now(self):
        works = row([500])
        refused = {**works, "ours": None, "ratio": None, "ours_errno": "EALREADY"}
        self.assertEqual(len(bench.worse([refused], bench.baseline_of([works]), True)), 1)
        self.assertEqual(bench.worse([refused], bench.baseline_of([refused]), True), [])
        self.assertEqual(bench.worse([works], bench.baseline_of([refused]), True), [])

    def test_what_is_missing_or_new(self):
        baseline = bench.baseline_of([row([500])])
        self.assertEqual(len(bench.worse([], baseline, True)), 1)
        self.assertEqual(bench.worse([], baseline, False), [])
        self.assertEqual(bench.worse([row([500])], [], True), [])


class Described(unittest.TestCase):
    def test_scenarios(self):
        described = tomllib.loads((bench.TOP / "tests/bench/scenarios.toml").read_text())
        names = [s["name"] for s in described["scenario"]]
        self.assertEqual(len(names), len(set(names)))
        program = (bench.TOP / "tests/bench/src/scenarios.rs").read_text()
        for scenario in described["scenario"]:
            self.assertIn(f'("{scenario["name"]}",', program.replace("(\n        ", "("))
            self.assertEqual(scenario["sizes"], sorted(scenario["sizes"]))
            self.assertTrue(
                {"ratio", "most", "of_used", "works"} & set(scenario),
                f"{scenario['name']} has no target",
            )


if __name__ == "__main__":
    unittest.main()
