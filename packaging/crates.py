# SPDX-License-Identifier: GPL-2.0-only
"""crates MANIFEST TARGET: the crates that a program contains, with the texts of their licenses."""

import json
import subprocess
import sys
from pathlib import Path

manifest, target = sys.argv[1:]
cargo = ["--offline", "--locked", "--manifest-path", manifest]
tree = subprocess.run(
    ["cargo", "tree", *cargo, "-e", "normal,no-proc-macro", "--target", target]
    + ["--prefix", "none", "--format", "{p}"],
    stdout=subprocess.PIPE,
    text=True,
    check=True,
).stdout
used = {tuple(line.split()[:2]) for line in tree.splitlines() if line.strip()}
metadata = json.loads(
    subprocess.run(
        ["cargo", "metadata", *cargo, "--format-version", "1", "--filter-platform", target],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
)
first = {}
for package in sorted(metadata["packages"], key=lambda package: package["name"]):
    if package["source"] is None or (package["name"], f"v{package['version']}") not in used:
        continue
    print(f"{package['name']} {package['version']}: {package['license']}")
    print(f"by {', '.join(package['authors']) or 'its authors'}, {package['repository']}\n")
    folder = Path(package["manifest_path"]).parent
    for text in sorted(folder.iterdir()):
        if text.is_file() and text.name.upper().startswith(("LICEN", "COPYING", "NOTICE")):
            words = text.read_text(errors="replace").strip()
            same = first.setdefault(" ".join(words.split()), f"{package['name']}'s {text.name}")
            if same == f"{package['name']}'s {text.name}":
                print(f"--- {text.name} ---\n\n{words}\n")
            else:
                print(f"--- {text.name}: the same as {same} ---\n")
