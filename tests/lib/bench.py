# SPDX-License-Identifier: GPL-2.0-only
"""Runs the benchmark with both modules and compares them. Called by tests/bench/run, inside the
toolchain root, with everything built."""

import argparse
import concurrent.futures
import errno
import json
import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
OUT = TOP / "build/bench"
BASELINE = TOP / "tests/bench/baseline.json"
MODULES = ("stock", "rust")
# A ratio may get worse by so much before a check fails; figures of two runs that differ by more
# than SPREAD are counted.
TOLERANCE, SPREAD = 0.05, 0.02
# What else the table shows of a scenario that says it.
EXTRAS = ("runs", "bytes", "used", "unmaps", "items", "reads")
# Words for the guest's kernel: what would run beside the scenario, or differ from run to run.
QUIET = "cryptomgr.notests=1 nokaslr norandmaps arm64.nomops"


def newest_input():
    """When what is measured was last changed."""
    parts = (
        "build/module/msm.ko",
        "build/vadreno",
        "build/guest/bench",
        "build/guest-root-stock.cpio",
    )
    return max((TOP / part).stat().st_mtime for part in parts)


def measure(module, scenario, size, number, kept_since):
    """One scenario at one size in a fresh guest: {what: value}. What was measured after
    `kept_since` is taken as it is."""
    name = OUT / f"{scenario['name']}-{size}-{module}-{number}"
    figures = Path(f"{name}.json")
    if kept_since and figures.exists() and figures.stat().st_mtime > kept_since:
        return json.loads(figures.read_text())
    figures.unlink(missing_ok=True)
    argv = [
        str(TOP / "tests/vm"),
        "--module",
        module,
        "--kernel",
        "stock",
        "--icount",
        "--no-watch",
        "--timeout",
        "1800",
        "--append",
        QUIET,
    ]
    argv += [
        "--mem",
        scenario.get("mem", "1G"),
        "--log",
        f"{name}.kernel",
        *(["--display", scenario["display"]] if "display" in scenario else []),
        "--",
        "bench",
        scenario["name"],
        str(size),
    ]
    done = subprocess.run(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False
    )
    Path(f"{name}.log").write_text(done.stdout + done.stderr)
    if done.returncode:
        raise RuntimeError(
            f"{scenario['name']} {size} with the {module} module: status "
            f"{done.returncode}\n{done.stderr}"
        )
    measured = {
        what: float(value)
        for mark, what, value in map(str.split, done.stdout.splitlines())
        if mark == "="
    }
    figures.write_text(json.dumps(measured) + "\n")
    return measured


def measure_all(scenarios, runs, jobs, kept_since):
    """{(scenario, size): {module: [{what: value} for each run]}}. What can't be measured is
    named when all else has been."""
    results, failed = {}, []
    todo = [
        (module, s, size, n + 1)
        for n in range(runs)
        for s in scenarios
        for size in s["sizes"]
        for module in MODULES
    ]
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(measure, *args, kept_since): args for args in todo}
        try:
            for done, future in enumerate(concurrent.futures.as_completed(running), 1):
                module, scenario, size, number = running[future]
                try:
                    of = results.setdefault((scenario["name"], size), {m: {} for m in MODULES})
                    of[module][number] = future.result()
                except RuntimeError as error:
                    failed.append(str(error))
                if done % 10 == 0 or done == len(todo):
                    print(
                        f"msm_rs: {done} of {len(todo)} measurements", file=sys.stderr, flush=True
                    )
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if failed:
        sys.exit(
            "\n".join(
                [
                    *failed,
                    f"{len(failed)} of {len(todo)} measurements have failed; --keep keeps the "
                    "others",
                ]
            )
        )
    return {
        key: {m: [r[n] for n in sorted(r)] for m, r in of.items()} for key, of in results.items()
    }


def mean(values):
    return sum(values) / len(values)


def compare(scenario, size, runs):
    """The row of a scenario at a size."""
    row = {
        "scenario": scenario["name"],
        "size": size,
        "of": scenario["of"],
        "unit": scenario["unit"],
        "what": scenario["what"],
    }
    spreads = []
    for column, module in zip(("stock", "ours"), MODULES):
        measured = runs[module]
        if any("errno" in run for run in measured):
            row[column], row[f"{column}_errno"] = None, errno.errorcode[int(measured[0]["errno"])]
            continue
        values = [run[scenario["what"]] for run in measured]
        row[column], row[f"{column}_runs_of"] = mean(values), values
        spreads.append(
            (max(values) - min(values)) / min(values) if min(values) else float(max(values) > 0)
        )
        for extra in ("tlbi", "registers", *EXTRAS):
            if extra in measured[0]:
                row[f"{column}_{extra}"] = max(run[extra] for run in measured)
    both = row["stock"] is not None and row["ours"] is not None
    row["ratio"] = row["ours"] / row["stock"] if both and row["stock"] else None
    row["spread"] = max(spreads, default=0.0)
    return row


def judge(scenario, row):
    """What of the target isn't reached."""
    if row["ours"] is None:
        return [f"refused with {row['ours_errno']}"] if scenario.get("works") else []
    missed = []

    def most(key, value, words):
        if key in scenario and value > scenario[key]:
            missed.append(f"more than {scenario[key]:g} {words}".rstrip())

    if row["ratio"] is not None:
        most("ratio", round(row["ratio"], 2), "of stock's")
    most("most", row["ours"], "")
    for key, words in (
        ("tlbi", "TLBI"),
        ("unmaps", "unmaps"),
        ("items", "work items"),
        ("bytes", "bytes per VMA"),
    ):
        if key in scenario:
            most(key, row[f"ours_{key}"], words)
    if "of_used" in scenario:
        most("of_used", row["ours"] / row["ours_used"], "of the tables used")
    return missed


def rows_of(scenarios, results):
    """A row for each scenario and size, judged."""
    rows = []
    for scenario in scenarios:
        mine = [
            compare(scenario, size, results[scenario["name"], size]) for size in scenario["sizes"]
        ]
        for row in mine:
            row["missed"] = judge(scenario, row)
        if "flat" in scenario and mine[-1]["ours"] > mine[0]["ours"] * scenario["flat"]:
            mine[-1]["missed"].append(
                f"{mine[-1]['ours'] / mine[0]['ours']:.2f} times the smallest's"
            )
        rows += mine
    return rows


def number(value):
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def table(scenarios, rows):
    print(
        f"{'scenario':<24}{'size':>18}{'stock':>13}{'ours':>13}{'ratio':>7}"
        f"{'TLBI':>15}{'registers':>16}{'spread':>8}  target"
    )
    for scenario in scenarios:
        what = {
            "ioctl": "instructions to ioctl",
            "fence": "instructions to fence",
            "work": "instructions in all",
        }.get(scenario["what"], scenario["what"])
        print(f"\n{scenario['title']} ({what}, per {scenario['unit']})")
        for row in (row for row in rows if row["scenario"] == scenario["name"]):

            def pair(key):
                two = [row.get(f"{column}_{key}") for column in ("stock", "ours")]
                return (
                    " → ".join("–" if v is None else number(v) for v in two)
                    if any(v is not None for v in two)
                    else ""
                )

            cells = [
                row[f"{c}_errno"] if row[c] is None else number(row[c]) for c in ("stock", "ours")
            ]
            ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
            verdict = f"MISSED: {', '.join(row['missed'])}" if row["missed"] else "reached"
            more = "".join(f"; {extra} {pair(extra)}" for extra in EXTRAS if pair(extra))
            print(
                f"{row['scenario']:<24}{row['size']:>8,} "
                f"{row['of'][:9]:<9}{cells[0]:>13}{cells[1]:>13}{ratio:>7}"
                f"{pair('tlbi'):>15}{pair('registers'):>16}{row['spread']:>7.1%}  {verdict}{more}"
            )


def worse(rows, baseline, whole):
    """What is worse than in the baseline. Of a whole run none may be missing."""
    before = {(row["scenario"], row["size"]): row for row in baseline}
    found = []
    for row in rows:
        name = f"{row['scenario']} {row['size']}"
        old = before.pop((row["scenario"], row["size"]), None)
        if old is None:
            print(f"new: {name} isn't in the baseline")
        elif row["ours"] is None:
            if not old["refused"]:
                found.append(f"{name}: refused with {row['ours_errno']}, and wasn't before")
        elif None not in (row["ratio"], old["ratio"]) and row["ratio"] > old["ratio"] * (
            1 + TOLERANCE
        ):
            found.append(f"{name}: {row['ratio']:.3f} of stock's cost, was {old['ratio']:.3f}")
    if whole:
        found += [f"{name} {size}: in the baseline, not measured" for name, size in before]
    return found


def baseline_of(rows):
    """What of the rows is kept to compare with."""
    return [
        {
            "scenario": r["scenario"],
            "size": r["size"],
            "ratio": r["ratio"] and float(f"{r['ratio']:.4g}"),
            "refused": r["ours"] is None,
        }
        for r in rows
    ]


def json_lines(rows):
    """A list as JSON, a line each."""
    return "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n"


def main():
    parser = argparse.ArgumentParser(
        prog="tests/bench/run",
        description="Measures our module beside the stock one.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "names", nargs="*", metavar="SCENARIO", help="only those whose names begin so"
    )
    parser.add_argument(
        "--runs", type=int, default=2, help="runs of each module (default: %(default)s)"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="guests at a time (default: processors)",
    )
    parser.add_argument(
        "--keep", action="store_true", help="measure only what wasn't since something was built"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="fail if a ratio is worse than the baseline's by more than 5 %%",
    )
    parser.add_argument(
        "--baseline",
        type=Path,
        default=BASELINE,
        metavar="FILE",
        help="instead of tests/bench/baseline.json",
    )
    parser.add_argument("--save-baseline", action="store_true", help="write the ratios there")
    args = parser.parse_args()
    if args.save_baseline and args.names:
        parser.error("a baseline has all scenarios")
    described = tomllib.loads((TOP / "tests/bench/scenarios.toml").read_text())
    scenarios = [
        s
        for s in described["scenario"]
        if not args.names or s["name"].startswith(tuple(args.names))
    ]
    if not scenarios:
        parser.error(
            "there is no such scenario; they are: "
            + " ".join(s["name"] for s in described["scenario"])
        )
    baseline = None
    if args.check:
        try:
            baseline = json.loads(args.baseline.read_text())
        except OSError as error:
            parser.error(f"{args.baseline}: {error.strerror}; --save-baseline makes one")

    OUT.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    results = measure_all(scenarios, args.runs, args.jobs, newest_input() if args.keep else None)
    rows = rows_of(scenarios, results)
    table(scenarios, rows)
    (OUT / "bench.json").write_text(json_lines(rows))
    plotted = {s["name"]: s["title"] for s in scenarios if s.get("plot")}
    if plotted:
        points = [
            {**row, "title": plotted[row["scenario"]]}
            for row in rows
            if row["scenario"] in plotted and row["ratio"] is not None
        ]
        subprocess.run(
            [str(TOP / "build/bench-plot"), str(OUT / "bench.svg")],
            input=json.dumps(points),
            text=True,
            check=True,
        )
    spreads = [row["spread"] for row in rows]
    print(
        f"\n{len(rows)} figures in {(time.monotonic() - begun) / 60:.0f} min, "
        f"{sum(bool(row['missed']) for row in rows)} miss their target; "
        f"largest spread between runs {max(spreads):.1%}, {sum(s > SPREAD for s in spreads)} above "
        f"{SPREAD:.0%}"
    )
    print("build/bench/bench.json" + (", build/bench/bench.svg" if plotted else ""))
    if args.save_baseline:
        args.baseline.write_text(json_lines(baseline_of(rows)))
    if baseline is not None:
        found = worse(rows, baseline, not args.names)
        print(
            "\n".join(f"WORSE: {line}" for line in found)
            or f"none of {len(rows)} is worse than in the baseline by more than {TOLERANCE:.0%}"
        )
        return 1 if found else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
