# SPDX-License-Identifier: GPL-2.0-only
"""compare.py TOOL DIR: whether TOOL and crashdec agree where the CP was, and at which packet, in
each DIR/traces/NAME.devcore; DIR/reference/NAME.log is what crashdec says of it.

crashdec marks the first packet that wasn't over at the position. What is no packet it reports, and
goes on with the next one."""

import json
import re
import subprocess
import sys
from pathlib import Path

MARK = "ESTIMATED CRASH LOCATION!"


def crashdec(log):
    """The marked packet's address and header, and what was no packet just before it."""
    lines = log.read_text(errors="replace").splitlines()
    at = lines.index(MARK)
    address, header = re.match(r"([0-9a-f]{16}):\s+0000: ([0-9a-f]{8})", lines[at + 1]).groups()
    # The packet's decoded fields stand before the mark; those of an earlier packet have its dwords.
    malformed = None
    for line in reversed(lines[:at]):
        if re.match(r"[0-9a-f]{16}:", line):
            break
        if found := re.match(r"bad type! ([0-9a-f]{8})", line):
            malformed = int(found[1], 16)
            break
    return int(address, 16), int(header, 16), malformed


def ours(tool, dump):
    """The same of the tool, and its verdict."""
    done = subprocess.run([tool, "json", dump], capture_output=True, text=True, check=True)
    everything = json.loads(done.stdout)
    position = everything["positions"][-1]
    here, malformed = position["here"], position["malformed"]
    at = here["at"] if here else position["at"]
    return (
        None if at is None else position["base"] + 4 * at,
        here and here["packet"]["header"],
        malformed and malformed[1],
        everything["finding"]["happened"],
    )


def shown(number):
    return "nothing" if number is None else f"{number:#x}"


def compare(tool, dump, log):
    """What they don't agree on."""
    address, header, malformed = crashdec(log)
    our_address, our_header, our_malformed, happened = ours(tool, dump)
    print(f"    crashdec: {address:#x}: {header:08x}", end="")
    print(f", before it {malformed:08x}" if malformed is not None else "")
    print(f"    ours: {happened}")
    if our_address != address:
        yield f"the position: {shown(our_address)}, not {shown(address)}"
    if our_malformed != malformed:
        yield f"what is no packet: {shown(our_malformed)}, not {shown(malformed)}"
    # Behind what is no packet this tool doesn't look for one.
    if malformed is None and our_header != header:
        yield f"the packet: {shown(our_header)}, not {shown(header)}"


def main():
    tool, top = sys.argv[1], Path(sys.argv[2])
    dumps = sorted(top.glob("traces/*.devcore"))
    passed = failed = 0
    for dump in dumps:
        print(dump.name)
        differences = list(compare(tool, dump, top / "reference" / f"{dump.stem}.log"))
        for difference in differences:
            print(f"    DIFFERENT: {difference}")
        failed += bool(differences)
        passed += not differences
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not dumps else 0


sys.exit(main())
