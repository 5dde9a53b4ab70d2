# SPDX-License-Identifier: GPL-2.0-only
"""verdicts.py DIR: whether tools/devcoredump makes of DIR/*.dump what DIR/*.expect say (see the
guest program `verdicts`)."""

import json
import os
import subprocess
import sys
from pathlib import Path

TOP = Path(os.environ["MSM_RS_TOP"])
MANIFEST = TOP / "tools/devcoredump/Cargo.toml"
TOOL = (
    Path(os.environ.get("CARGO_TARGET_DIR", TOP / "tools/devcoredump/target"))
    / "debug/msm-devcoredump"
)


def tool(*args, status):
    done = subprocess.run(
        [TOOL, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != status:
        raise ValueError(
            f"{' '.join(map(str, args[:1]))}: status {done.returncode}, not {status}: "
            f"{(done.stderr or done.stdout).strip()}"
        )
    return done.stdout


def judge(path, expected):
    """What is wrong with the tool's opinion."""
    tool("check", path, status=0)
    everything = json.loads(tool("json", path, status=0))
    finding, dump = everything["finding"], everything["dump"]
    if finding["verdict"] != expected["verdict"]:
        raise ValueError(f"{finding['verdict']}, not {expected['verdict']}: {finding['happened']}")
    address = dump["fault"] and dump["fault"]["iova"]
    if address != expected.get("address"):
        raise ValueError(f"the fault is at {address}, not {expected.get('address')}")
    if "op" in expected:
        entry = finding["entry"]
        if entry is None:
            raise ValueError("it blames no op")
        entry = dump["vm_log"]["entries"][entry]
        found = f"{entry['op']} of {entry['start']}-{entry['end']}"
        wanted = f"{expected['op']} of {expected['range']}"
        if found != wanted:
            raise ValueError(f"it blames the {found}, not the {wanted}")
    lines = tool("explain", path, status=0).splitlines()
    if not lines[0].startswith("Verdict:") or not lines[2].startswith("Where:"):
        raise ValueError(f"explain begins with {lines[:3]}")
    # where no submit is to blame there are no BOs
    if dump["bos"]:
        tool("map", *([] if address else ["--address", "0x100000000"]), path, status=0)
    return f"{lines[0].removeprefix('Verdict:').strip()}"


def main():
    subprocess.run(
        ["cargo", "build", "--quiet", "--locked", "--manifest-path", MANIFEST], check=True
    )
    failed = 0
    for path in sorted(Path(sys.argv[1]).glob("*.expect")):
        expected = dict(line.split(" ", 1) for line in path.read_text().splitlines())
        try:
            said = judge(path.with_suffix(".dump"), expected)
            print(f"ok explain-{path.stem}: {said}", flush=True)
        except (ValueError, KeyError, OSError) as error:
            failed += 1
            print(f"FAIL explain-{path.stem}: {error}", flush=True)
    return 1 if failed else 0


sys.exit(main())
