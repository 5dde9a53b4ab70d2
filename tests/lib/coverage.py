# SPDX-License-Identifier: GPL-2.0-only
"""Which lines of the pure modules their host tests run. Called by tests/coverage/run, inside
the toolchain root."""

import argparse
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

TOP = Path(os.environ["MSM_RS_TOP"])
OUT = TOP / "build/coverage"
FLOOR = TOP / "tests/coverage/floor.toml"
MANIFEST = TOP / "tests/pure/Cargo.toml"


def run(argv, **kwargs):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, text=True, check=False, **kwargs)
    if done.returncode:
        sys.exit(f"{argv[0]}: status {done.returncode}\n{done.stdout or ''}")
    return done.stdout


def tests():
    """Runs the tests, instrumented; returns their executables."""
    for old in OUT.glob("*.profraw"):
        old.unlink()
    env = {
        **os.environ,
        "CARGO_TARGET_DIR": str(TOP / "build/cargo-coverage"),
        "RUSTFLAGS": "-Cinstrument-coverage",
        "LLVM_PROFILE_FILE": str(OUT / "%p-%m.profraw"),
        "PROPTEST_CASES": os.environ.get("PROPTEST_CASES", "2000"),
    }
    argv = ["cargo", "test", "--quiet", "--locked", "--manifest-path", str(MANIFEST)]
    found = run([*argv, "--no-run", "--message-format=json"], stdout=subprocess.PIPE, env=env)
    run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env)
    messages = [json.loads(line) for line in found.splitlines()]
    return [message["executable"] for message in messages if message.get("executable")]


def measure(executables):
    """{file: LLVM's summary of it}"""
    profile = OUT / "pure.profdata"
    run(
        [
            "llvm-profdata-19",
            "merge",
            "-sparse",
            "-o",
            str(profile),
            *map(str, OUT.glob("*.profraw")),
        ]
    )
    objects = [word for executable in executables[1:] for word in ("-object", executable)]
    common = [f"-instr-profile={profile}", executables[0], *objects]
    text = run(["llvm-cov-19", "export", "-summary-only", *common], stdout=subprocess.PIPE)
    files = {
        str(Path(file["filename"]).resolve()): file["summary"]
        for file in json.loads(text)["data"][0]["files"]
    }
    drivers = TOP / "drivers"
    ours = {name: summary for name, summary in files.items() if Path(name).is_relative_to(drivers)}
    with open(OUT / "lines.txt", "w", encoding="utf-8") as lines:
        run(["llvm-cov-19", "show", "-show-line-counts-or-regions", *common, *ours], stdout=lines)
    return {str(Path(name).relative_to(TOP)): summary for name, summary in ours.items()}


def main():
    parser = argparse.ArgumentParser(
        prog="tests/coverage/run",
        description="Measures which lines of the pure modules their host tests run.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--update", action="store_true", help="make what was measured the new floor"
    )
    args = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    measured = measure(tests())
    floors = tomllib.loads(FLOOR.read_text(encoding="utf-8")) if FLOOR.exists() else {}
    low = []
    print(f"{'lines':>12} {'':>7} {'functions':>10} {'regions':>9}  file")
    for name, summary in sorted(measured.items()):
        lines, functions, regions = (summary[what] for what in ("lines", "functions", "regions"))
        percent = lines["percent"]
        print(
            f"{lines['covered']:>5} of {lines['count']:>4} {percent:6.1f}% "
            f"{functions['percent']:9.1f}% {regions['percent']:8.1f}%  {name}"
        )
        if percent < floors.get(name, 100):
            low.append(f"{name}: {percent:.1f} % of the lines, {floors.get(name, 100)} % before")
    low += [f"{name}: not measured any more" for name in sorted(set(floors) - set(measured))]
    print(f"each line's count: {(OUT / 'lines.txt').relative_to(TOP)}")
    if args.update:
        head = re.match(r"(#.*\n)*", FLOOR.read_text(encoding="utf-8"))[0] if FLOOR.exists() else ""
        rows = "".join(
            f'"{name}" = {int(summary["lines"]["percent"])}\n'
            for name, summary in sorted(measured.items())
        )
        FLOOR.write_text(head + rows, encoding="utf-8")
        return 0
    for line in low:
        print(f"too low: {line}")
    return 1 if low or not measured else 0


sys.exit(main())
