# SPDX-License-Identifier: GPL-2.0-only
"""Makes the patch series of `make series`: see packaging/series/README.

What `make overlay` leaves in a vanilla tree is taken apart: in a repository of its own, with the
vanilla tree as the first commit and a commit for each patch. In the end the two are compared, and
each patch is given to the kernel's checkpatch.pl.
"""

import argparse
import filecmp
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
CACHE = Path(os.environ["MSM_RS_CACHE"])
SOURCE = CACHE / "linux/source"
PATCHES = TOP / "drivers/gpu/drm/msm_rs/patches"
WORK = TOP / "build/series"
PIECES = TOP / "packaging/series"
DRM = "drivers/gpu/drm"
# From this one on a patch of PATCHES calls Rust, and a piece comes after those patches.
FIRST_CALL = "0100"
FIRST_LAST = "90"

# What checkpatch.pl isn't asked, and why.
SILENCED = {
    "FILE_PATH_CHANGES": "who is to be in MAINTAINERS isn't ours to say",
    "VSPRINTF_POINTER_EXTENSION": "%pA is how Rust prints, and these helpers are called by it alone",
    "MULTISTATEMENT_MACRO_USE_DO_WHILE": "HELPER() declares and begins a function",
    "MACRO_ARG_REUSE": "HELPER() declares and begins a function",
    "UNKNOWN_COMMIT_ID": "Fixes: names commits of Linux's repository, and here is only a tarball",
    "LEADING_SPACE": "arguments aligned below HELPER( begin in column 7, before a tab ends",
}


def die(why):
    sys.exit(f"msm_rs: error: {why}")


def run(*command, **more):
    done = subprocess.run(command, check=False, text=True, **more)
    if done.returncode:
        die(f"{' '.join(map(str, command[:4]))} … has failed")
    return done.stdout


class Piece:
    """A file of packaging/series: which of our files it adds, and its message."""

    def __init__(self, path, ours):
        self.name = path.name
        paths, self.message = path.read_text().split("\n\n", 1)
        self.files = []
        for pattern in paths.split("\n"):
            found = [f for f in ours if Path(f).match(pattern) or inside(f, pattern)]
            if not found:
                die(f"{self.name}: there is no {pattern}")
            self.files += found


def inside(file, pattern):
    return pattern.endswith("/*") and file.startswith(pattern[:-1])


def pieces(ours):
    """The pieces, which have to have each of our files once."""
    found = [Piece(path, ours) for path in sorted(PIECES.iterdir()) if path.name[0].isdigit()]
    home = {}
    for piece in found:
        for file in piece.files:
            if file in home:
                die(f"{file} is in {home[file]} and in {piece.name}")
            home[file] = piece.name
    missing = sorted(set(ours) - set(home))
    if missing:
        die(f"in no piece of packaging/series: {' '.join(missing)}")
    return found


def vanilla(path):
    """What of a kernel tree the overlay and the series look at."""
    shutil.rmtree(path, ignore_errors=True)
    (path / DRM).mkdir(parents=True)
    shutil.copy(SOURCE / "Makefile", path)
    shutil.copytree(SOURCE / DRM / "msm", path / DRM / "msm")


class Overlay:
    """A vanilla tree after `make overlay`."""

    def __init__(self, path):
        self.path = path
        vanilla(path)
        run(TOP / "scripts/overlay", path)
        # with which it undoes itself
        shutil.rmtree(path / DRM / "msm_rs/patches")

    def ours(self):
        """What it has added, by the paths in drivers/gpu/drm."""
        drm = self.path / DRM
        return sorted(
            str(path.relative_to(drm))
            for folder in ("gpuvm_rs", "msm_rs")
            for path in (drm / folder).rglob("*")
            if path.is_file()
        )


class Tree:
    """The repository in which the series is made, of what is in the overlay."""

    def __init__(self, path, overlay):
        self.path = path
        self.overlay = overlay
        vanilla(path)
        self.git("init", "-q")
        self.git("add", "-A", "-f")
        self.git("commit", "-q", "-m", "vanilla")
        self.base = self.head()

    def git(self, *args, **more):
        return run("git", "-C", self.path, "-c", "gc.auto=0", *args, stdout=subprocess.PIPE, **more)

    def head(self):
        return self.git("rev-parse", "HEAD").strip()

    def commit(self, message):
        self.git("commit", "-q", "-s", "-F", "-", input=message)

    def apply(self, patch):
        message, _, _ = patch.read_text().partition("\n--- a/")
        self.git("apply", "--index", patch)
        self.commit(message)

    def take(self, files):
        for file in files:
            target = self.path / DRM / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.overlay.path / DRM / file, target)
        self.git("add", "-A", "-f")


def differences(a, b):
    """Files that aren't the same in two folders."""

    def listing(top):
        found = {str(p.relative_to(top)) for p in top.rglob("*") if p.is_file()}
        return {file for file in found if not file.startswith(".git/")}

    left, right = listing(a), listing(b)
    return sorted(left ^ right) + sorted(
        f for f in left & right if not filecmp.cmp(a / f, b / f, shallow=False)
    )


def checkpatch(patches):
    """What the kernel's checkpatch.pl complains of."""
    env = dict(os.environ, PERL_UNICODE="SD")
    found = []
    for patch in patches:
        done = subprocess.run(
            [
                *("perl", SOURCE / "scripts/checkpatch.pl", f"--root={SOURCE}"),
                *("--strict", "--terse", "--show-types", "--no-summary"),
                *("--ignore", ",".join(SILENCED), patch),
            ],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=False,
        )
        found += [f"{patch.name}: {line}" for line in done.stdout.splitlines()]
    return found


def bench():
    """The figures of the bench's baseline as a table."""
    scenarios = tomllib.loads((TOP / "tests/bench/scenarios.toml").read_text())["scenario"]
    about = {scenario["name"]: scenario for scenario in scenarios}
    rows = []
    for row in json.loads((TOP / "tests/bench/baseline.json").read_text()):
        scenario = about[row["scenario"]]
        of = re.sub(r"s\b", "", scenario["of"], count=1) if row["size"] == 1 else scenario["of"]
        rows.append((f"{scenario['title']}: {row['size']:,} {of}", shown(row["ratio"])))
    lines = []
    for what, ratio in rows:
        wrapped = textwrap.wrap(what, 60, subsequent_indent="  ")
        lines += [f"  {part}" for part in wrapped[:-1]]
        lines.append(f"  {wrapped[-1]:<60} {ratio:>8}")
    return "\n".join(lines)


def shown(ratio):
    if ratio is None:  # the stock module refuses it, or does it in no time
        return "no ratio"
    return f"{ratio:.2f}" if ratio >= 0.01 or ratio == 0 else f"{ratio:.2g}"


def missing():
    """What Documentation/overview.rst says is missing, as plain text."""
    section = (TOP / "Documentation/overview.rst").read_text().split("What is missing\n===", 1)[1]
    points = re.split(r"\n- ", section.partition("\n")[2])[1:]
    text = [" ".join(point.split()).replace("``", "") for point in points]
    return "And, from the documentation:\n\n" + "\n".join(
        textwrap.fill(point, 72, initial_indent="- ", subsequent_indent="  ") for point in text
    )


def main():
    parser = argparse.ArgumentParser(description="see packaging/series/README")
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out

    overlay = Overlay(WORK / "overlay")
    tree = Tree(WORK / "tree", overlay)
    patches = sorted(PATCHES.glob("*.patch"))
    mends = [patch for patch in patches if patch.name < FIRST_CALL]
    calls = [patch for patch in patches if patch.name >= FIRST_CALL]
    parts = pieces(overlay.ours())
    bindings = [piece for piece in parts if piece.files[0].startswith("gpuvm_rs/")]

    for patch in mends:
        tree.apply(patch)
    for piece in parts:
        if piece.name < FIRST_LAST:
            tree.take(piece.files)
            tree.commit(piece.message)
    for patch in calls:
        tree.apply(patch)
    for piece in parts:
        if piece.name >= FIRST_LAST:
            # The calls are there: what these two still lack is the lines that let the build see us
            tree.take([*piece.files, "msm/Makefile", "msm/Kconfig"])
            tree.commit(piece.message)

    different = differences(overlay.path, tree.path)
    if different:
        die(f"the series doesn't leave what `make overlay` does: {' '.join(different)}")

    for old in out.glob("*.patch"):
        old.unlink()
    tree.git("format-patch", "-q", "-p", "--stat", "--cover-letter", "--no-signature", "-o", out, tree.base)
    made = sorted(out.glob("*.patch"))

    letter = (PIECES / "cover-letter").read_text()
    for name, value in {
        "mends": len(mends),
        "bindings": len(bindings),
        "driver": len(made) - 1 - len(mends) - len(bindings),
        "bench": bench(),
        "missing": missing(),
    }.items():
        letter = letter.replace(f"@{name}@", str(value))
    subject, body = letter.split("\n\n", 1)
    text = made[0].read_text()
    text = text.replace("*** SUBJECT HERE ***", subject).replace("*** BLURB HERE ***", body.strip())
    made[0].write_text(text)

    complaints = checkpatch(made[1:])
    for name, why in SILENCED.items():
        print(f"checkpatch isn't asked about {name}: {why}")
    if complaints:
        print("\n".join(complaints))
        die(f"checkpatch --strict has {len(complaints)} complaints")
    print(f"checkpatch --strict: {len(made) - 1} patches, no complaint")
    print(f"{out}: {len(made) - 1} patches and a cover letter, for `git am` on {kernel()}")


def kernel():
    text = (SOURCE / "Makefile").read_text()
    return "Linux " + ".".join(
        re.search(f"^{name} = (\\d+)$", text, re.M)[1] for name in ("VERSION", "PATCHLEVEL")
    )


if __name__ == "__main__":
    main()
