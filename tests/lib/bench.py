# SPDX-License-Identifier: GPL-2.0-only
"""Runs the benchmark with both modules and compares them. Called by tests/bench/run, inside the toolchain root, with everything built."""

import argparse
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

TOP = Path(os.environ["MSM_RS_TOP"])
OUT = TOP / "build/bench"
BASELINE = TOP / "tests/bench/baseline.json"
# A ratio may get worse by so much before `check` fails, and figures of two runs may differ by so much.
TOLERANCE, SPREAD = 0.05, 0.02


def measure(module, names, number):
    """One run in a fresh guest: {(scenario, size, what): value}."""
    log = OUT / f"{module}-{number}"
    argv = [str(TOP / "tests/vm"), "--module", module, "--kernel", "stock", "--icount", "--timeout", "1200"]
    argv += ["--log", f"{log}.kernel", "--", "bench", *names]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    log.with_suffix(".log").write_text(done.stdout + done.stderr)
    if done.returncode:
        sys.exit(f"bench with the {module} module: status {done.returncode}\n{done.stderr}")
    figures = {}
    for line in done.stdout.splitlines():
        if line.startswith("=\t"):
            _, scenario, size, what, value = line.split("\t")
            figures[scenario, int(size), what] = float(value)
    return figures


def judge(scenario, row):
    """What of the target isn't reached."""
    missed = []
    if "most" in scenario and row["ours"] > scenario["most"]:
        missed.append(f"more than {scenario['most']}")
    if "ratio" in scenario and row["ratio"] > scenario["ratio"] * (1 + SPREAD):
        missed.append(f"more than {scenario['ratio']:.2f}")
    if "tlbi" in scenario and row["ours_tlbi"] > scenario["tlbi"]:
        missed.append(f"more than {scenario['tlbi']} TLBI")
    return ", ".join(missed)


def compare(scenarios, runs):
    """A row for each scenario and size."""
    rows = []
    stock, ours = (runs[module] for module in ("stock", "rust"))
    for scenario in scenarios:
        name, what = scenario["name"], scenario["what"]
        for size in sorted({key[1] for key in stock[0] if key[0] == name and key[2] == what}):
            values = {module: [run[name, size, what] for run in runs[module]] for module in runs}
            mean = {module: sum(v) / len(v) for module, v in values.items()}
            tlbi = {module: max(run.get((name, size, "tlbi"), 0) for run in runs[module]) for module in runs}
            row = {
                "scenario": name,
                "size": size,
                "what": what,
                "stock": mean["stock"],
                "ours": mean["rust"],
                "ratio": mean["rust"] / mean["stock"],
                "stock_tlbi": tlbi["stock"],
                "ours_tlbi": tlbi["rust"],
                "spread": max((max(v) - min(v)) / min(v) for v in values.values()),
            }
            for extra in ("runs", "bytes"):
                if (name, size, extra) in stock[0] and (name, size, extra) in ours[0]:
                    row[f"stock_{extra}"], row[f"ours_{extra}"] = stock[0][name, size, extra], ours[0][name, size, extra]
            row["missed"] = judge(scenario, row)
            rows.append(row)
    return rows


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def table(scenarios, rows):
    print(f"{'scenario':<18}{'size':>8}{'stock':>14}{'ours':>14}{'ratio':>8}{'TLBI':>14}{'spread':>8}  target")
    for scenario in scenarios:
        mine = [row for row in rows if row["scenario"] == scenario["name"]]
        if mine:
            print(f"\n{scenario['title']} (instructions to {scenario['what']} per {scenario['unit']})")
        for row in mine:
            tlbi = f"{row['stock_tlbi']:.0f} → {row['ours_tlbi']:.0f}"
            verdict = f"MISSED: {row['missed']}" if row["missed"] else "reached"
            more = "".join(
                f", {extra}: {row[f'stock_{extra}']:.0f} → {row[f'ours_{extra}']:.0f}" for extra in ("runs", "bytes") if f"ours_{extra}" in row
            )
            print(
                f"{row['scenario']:<18}{row['size']:>8}{number(row['stock']):>14}{number(row['ours']):>14}"
                f"{row['ratio']:>8.2f}{tlbi:>14}{row['spread']:>7.1%}  {verdict}{more}"
            )


def check(rows):
    """Compares ratios with the baseline's."""
    if not BASELINE.exists():
        sys.exit(f"there is no {BASELINE.relative_to(TOP)}: make one with --save-baseline")
    baseline = {(row["scenario"], row["size"]): row["ratio"] for row in json.loads(BASELINE.read_text())}
    worse = 0
    for row in rows:
        before = baseline.get((row["scenario"], row["size"]))
        if before is None:
            print(f"new: {row['scenario']} {row['size']}")
        elif row["ratio"] > before * (1 + TOLERANCE):
            worse += 1
            print(f"WORSE: {row['scenario']} {row['size']}: {row['ratio']:.3f} of stock's cost, was {before:.3f}")
    missing = sorted(set(baseline) - {(row["scenario"], row["size"]) for row in rows})
    print(f"{len(rows)} ratios compared, {worse} worse by more than {TOLERANCE:.0%}, {len(missing)} not measured")
    return worse


def main():
    parser = argparse.ArgumentParser(prog="tests/bench/run", description="Measures our module beside the stock one.", allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="SCENARIO", help="only those whose names begin so")
    parser.add_argument("--runs", type=int, default=2, help="runs of each module (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="fail if a ratio is worse than the baseline's by more than 5 %%")
    parser.add_argument("--save-baseline", action="store_true", help="write the ratios to tests/bench/baseline.json")
    args = parser.parse_args()
    if args.save_baseline and args.names:
        parser.error("a baseline has all scenarios")
    with open(TOP / "tests/bench/scenarios.toml", "rb") as file:
        scenarios = tomllib.load(file)["scenario"]
    OUT.mkdir(parents=True, exist_ok=True)
    runs = {"stock": [], "rust": []}
    for n in range(args.runs):
        for module, results in runs.items():
            print(f"msm_rs: measuring the {module} module, run {n + 1} of {args.runs} …", file=sys.stderr, flush=True)
            results.append(measure(module, args.names, n + 1))
    rows = compare(scenarios, runs)
    if not rows:
        sys.exit("no such scenario")
    table(scenarios, rows)
    (OUT / "bench.json").write_text(json.dumps(rows, indent=1) + "\n")
    spread = max(row["spread"] for row in rows)
    missed = sum(bool(row["missed"]) for row in rows)
    print(f"\n{len(rows)} figures, {missed} miss their target; largest spread between runs {spread:.1%}. JSON: build/bench/bench.json")
    if args.save_baseline:
        BASELINE.write_text(json.dumps([{k: row[k] for k in ("scenario", "size", "ratio")} for row in rows], indent=1) + "\n")
    return 1 if args.check and check(rows) else 0


sys.exit(main())
