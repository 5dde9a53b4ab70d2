# SPDX-License-Identifier: GPL-2.0-only
"""Plays the sequences of the guest program `orders`. Called by tests/orders/run, inside the
toolchain root, with everything built."""

import concurrent.futures
import os
import re
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).parent))
import guests  # noqa: E402
from guests import BROKEN, KERNELS, TOP  # noqa: E402

OUT = TOP / "build/orders"
# Guests of a shard that may die before it is given up, and findings that are printed.
DEATHS, SHOWN = 20, 40
# The share of `make test`: seconds of playing in a guest of each kernel, beside which it boots and
# looks for leaks.
SECONDS = {"stock": 75, "debug": 75}
END = re.compile(r"(\d+) sequences, (\d+) findings, \d+ s")


class Shard:
    """What one guest after another plays: a part of the sequences on one kernel."""

    def __init__(self, kernel, words, name, args):
        self.kernel, self.words, self.name, self.args = kernel, words, name, args
        self.start = self.next = args.start
        self.again = 0
        self.findings = []

    @property
    def played(self):
        return self.next - self.start

    def run(self):
        deaths = 0
        while deaths <= DEATHS and self.guest(f"{OUT}/{self.name}-{deaths}"):
            deaths += 1
        return self

    def guest(self, log):
        """Plays what hasn't been played; whether another guest has to go on."""
        argv = [
            str(TOP / "tests/vm"),
            "--module",
            self.args.module,
            "--kernel",
            self.kernel,
            "--log",
            f"{log}.kernel",
        ]
        argv += ["--timeout", "100000", "--silence", "240", "--cpus", str(self.args.cpus)]
        argv += ["--", "orders", *self.words, "--from", str(self.next)]
        last, ended, begun = None, False, self.next
        with open(f"{log}.err", "w", encoding="utf-8") as errors, open(
            f"{log}.log", "w", encoding="utf-8"
        ) as copy:
            with self.args.host_cpus.run_on_one(argv, self.args.cpus) as argv, guests.running(
                argv, stderr=errors
            ) as child:
                for line in child.stdout:
                    copy.write(line)
                    line = line.rstrip("\n")
                    if line.startswith("> "):
                        last = line[2:]
                        self.next += 1
                    elif line.startswith("AGAIN "):
                        self.again += 1
                    elif line.startswith("FINDING "):
                        self.findings.append(f"{self.kernel}: {line[8:]}")
                    elif END.match(line):
                        ended = True
        if child.returncode in (0, 1) and ended:
            return False
        text = Path(f"{log}.err").read_text(encoding="utf-8", errors="replace")
        why = guests.why_it_died(text)
        if child.returncode == BROKEN and self.next == begun:
            sys.exit(f"no guest can be started, see {log}.err")
        where = f"at {last}" if last and not ended else "in the end"
        self.findings.append(
            f"{self.kernel}: the guest has died (status {child.returncode}) {where}: {why}; see "
            f"{log}.kernel"
        )
        return not ended and not self.args.share and not self.args.only and self.next > begun


def main():
    parser = guests.parser(
        "tests/orders/run",
        "Plays all orders of up to six events around a bind that waits, and looks after each "
        "whether all is as it should be.",
    )
    parser.add_argument(
        "--module",
        default="rust",
        metavar="rust|FILE.ko",
        help="the msm.ko to load (default: rust)",
    )
    parser.add_argument(
        "--share",
        action="store_true",
        help="what make test plays: as much as a minute on each kernel allows for",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=os.environ.get("SEED") or os.environ.get("TURN") or None,
        metavar="N",
        help="which share (default: $SEED, or make test's $TURN, or another each second)",
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="this sequence; repeatable"
    )
    parser.add_argument(
        "--from",
        dest="start",
        type=int,
        default=0,
        metavar="N",
        help="leave out the first N sequences of each guest (with as many guests at a time): to go "
        "on with a run that was ended",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="guests at a time, for each kernel (default: %(default)s)",
    )
    guests.add_cpus(parser, 1)
    args = parser.parse_args()

    guests.end_with_children()
    OUT.mkdir(parents=True, exist_ok=True)
    for old in OUT.iterdir():
        old.unlink()

    start = time.monotonic()
    kernels = [args.kernel] if args.kernel else KERNELS
    seed = int(time.time()) if args.seed is None else args.seed
    if args.share:
        print(f"seed {seed}: SEED={seed} tests/orders/run --share", flush=True)
    jobs = 1 if args.only else args.jobs
    args.host_cpus = guests.HostCpus(jobs)
    shards = []
    for kernel in kernels:
        if args.only:
            shards.append(
                Shard(
                    kernel,
                    [word for name in args.only for word in ("--only-sequence", name)],
                    kernel,
                    args,
                )
            )
        elif args.share:
            # different ones on each kernel
            words = [
                "--share",
                str(2 * seed + (kernel == "debug")),
                "--seconds",
                str(SECONDS[kernel]),
            ]
            shards.append(Shard(kernel, words, kernel, args))
        else:
            shards += [
                Shard(kernel, ["--shard", f"{n}/{jobs}"], f"{kernel}-{n}", args)
                for n in range(jobs)
            ]
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        shards = list(pool.map(Shard.run, shards))

    findings = [finding for shard in shards for finding in shard.findings]
    for finding in findings[:SHOWN]:
        print(finding)
    if len(findings) > SHOWN:
        print(f"… and {len(findings) - SHOWN} more")
    counts = []
    for kernel in kernels:
        mine = [shard for shard in shards if shard.kernel == kernel]
        played, found, again = (
            sum(figures)
            for figures in zip(*((s.played, len(s.findings), s.again) for s in mine))
        )
        counts.append(f"{kernel}: {played} sequences, {found} findings")
        if again:
            counts.append(f"{again} times the machine was too slow, and it was played again")
    print(f"{'; '.join(counts)}; {time.monotonic() - start:.0f} s", flush=True)
    return 1 if findings or not all(shard.played for shard in shards) else 0


sys.exit(main())
