# SPDX-License-Identifier: GPL-2.0-only
"""Runs random programs with both modules and compares what they do. Called by
tests/differential/run, inside the toolchain root, with everything built."""

import concurrent.futures
import copy
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).parent))
import guests  # noqa: E402
from guests import BROKEN, TOP  # noqa: E402

OUT = TOP / "build/differential"
DIED = "the guest has died"
# The programs of `make test`, another share of the first 10,000 each time.
SHARE = 2500
# What programs are troubled with in a soak, in turn, and how many with each; the number of programs
# in a guest.
TROUBLE = ["none", "signals", "failslab", "sleep", "kill"]
IN_TURN = 50
ROUND = 500
# Guests that may die before a run is given up, findings that are shortened, and how often a program
# is run again for which the machine was too slow.
DEATHS, SHORTENED, AGAIN = 5, 3, 3


def except_for(module, args):
    """The defects of the C memory manager with which a module's programs aren't run."""
    return (
        ",".join(str(n) for n in range(1, 32))
        if module == "stock" and not args.with_defects
        else ""
    )


def guest(module, words, log, args, share=None):
    """Runs programs in a fresh guest; returns their reports, and what was wrong with the guest,
    if anything was."""
    for _ in range(3):
        reports, why, status = try_guest(module, words, log, args, share)
        if status != BROKEN or reports:
            return reports, why
    sys.exit(f"no guest can be started, see {log}.err")


def try_guest(module, words, log, args, share):
    """… and the status of tests/vm."""
    argv = [
        str(TOP / "tests/vm"),
        "--module",
        module,
        "--kernel",
        args.kernel,
        "--log",
        f"{log}.kernel",
    ]
    argv += ["--timeout", "100000", "--silence", "240", "--cpus", str(args.cpus)]
    argv += ["--share", share] if share else []
    argv += [f"--device-arg={arg}" for arg in args.device_arg]
    argv += ["--", "differential", "--except", except_for(module, args), *words]
    argv += ["--trouble", ",".join(args.trouble)] if args.trouble else []
    argv += ["--vandal"] if args.vandal else []
    # the C memory manager loses BOs here and there
    argv += ["--leaky"] if module == "stock" else []
    reports = []
    with open(f"{log}.err", "w", encoding="utf-8") as errors:
        with args.host_cpus.run_on_one(argv, args.cpus) as argv, guests.running(
            argv, stderr=errors
        ) as child:
            for line in child.stdout:
                try:
                    reports.append(json.loads(line))
                except ValueError:
                    break  # the last line of a guest that died
            child.stdout.read()
    if child.returncode in (0, 1):
        return reports, None, child.returncode
    text = Path(f"{log}.err").read_text(encoding="utf-8", errors="replace")
    why = guests.why_it_died(text)
    return reports, f"{DIED} (status {child.returncode}): {why}", child.returncode


def again_if_late(module, reports, log, args):
    """Runs each program again for which the machine was too slow, alone and troubled with the same,
    and puts its new report in place of the old one."""
    for n, report in enumerate(reports):
        how = copy.copy(args)
        how.trouble = args.trouble and [args.trouble[n // IN_TURN % len(args.trouble)]]
        for attempt in range(AGAIN):
            if not reports[n]["late"]:
                break
            print(f"seed {report['seed']}: the machine was too slow; run again", flush=True)
            words = ["--from", str(report["seed"]), "--count", "1"]
            found, why = guest(module, words, Path(f"{log}-again-{attempt}"), how)
            if why:
                reports[n] = {**report, "late": False, "wrong": why}
            elif found:
                reports[n] = found[0]


def campaign(module, args):
    """All programs of a run with one module: {seed: report}."""
    first, end, guests = args.start, args.start + args.count, 0
    reports = {}
    while first < end and guests <= DEATHS:
        words = ["--from", str(first), "--count", str(end - first)]
        log = OUT / f"{module}-{args.kernel}-{guests}"
        found, why = guest(module, words, log, args)
        again_if_late(module, found, log, args)
        reports.update((report["seed"], report) for report in found)
        guests += 1
        if why is None:
            break
        seed = first + len(found)
        if seed == end:  # only at the end, as with a leak: nobody knows whose it is
            reports[seed - 1]["wrong"] = why
            break
        reports[seed] = {"seed": seed, "answers": "", "view": "", "wrong": why, "excepted": []}
        first = seed + 1
    return reports


def judge(reports):
    """What is wrong with a program, given the modules' reports; None if nothing is."""
    ours, stock = reports.get("rust"), reports.get("stock")
    if None in reports.values():
        return "it wasn't run"
    if ours and ours["wrong"]:
        return f"ours: {ours['wrong']}"
    if stock and stock["wrong"]:
        return f"stock: {stock['wrong']}"
    if ours and stock and not (ours["excepted"] or stock["excepted"]):
        for what in ("answers", "view"):
            if ours[what] != stock[what]:
                return f"{what} differ: {ours[what]} and with the stock module {stock[what]}"
    return None


# Shortening


def shorter(program):
    """Programs that do less: without some of the ops, without some of the ops' changes."""
    ops = program["ops"]
    size = len(ops)
    while size := size // 2:
        for start in range(0, len(ops), size):
            yield {**program, "ops": ops[:start] + ops[start + size :]}
    for n, op in enumerate(ops):
        kind = next(iter(op)) if isinstance(op, dict) else None
        for what in ("changes", "writes"):
            if kind and len(op[kind].get(what, ())) > 1:
                for i in range(len(op[kind][what])):
                    less = copy.deepcopy(program)
                    del less["ops"][n][kind][what][i]
                    yield less


def first_failing(programs, modules, args):
    """The first of these programs that goes wrong, if one does, and how."""
    with tempfile.TemporaryDirectory(prefix="shorten-", dir=OUT) as directory:
        text = "".join(json.dumps(program) + "\n" for program in programs)
        Path(directory, "programs").write_text(text, encoding="utf-8")
        words = ["--file", "/share/programs"] + (["--until-wrong"] if len(modules) == 1 else [])

        def one(module):
            found, why = guest(module, words, Path(directory, module), args, directory)
            if why and len(found) < len(programs):
                found.append({"answers": "", "view": "", "wrong": why, "excepted": []})
            return found

        with concurrent.futures.ThreadPoolExecutor() as pool:
            results = dict(zip(modules, pool.map(one, modules)))
        for n, program in enumerate(programs):
            reports = {module: found[n] for module, found in results.items() if n < len(found)}
            if len(reports) < len(modules):
                return None
            if why := judge(reports):
                return program, why
    return None


def shorten(program, modules, args):
    """The shortest program found that still goes wrong, and how."""
    best, why = program, None
    while (candidates := list(shorter(best))) and (
        found := first_failing(candidates, modules, args)
    ):
        best, why = found
    return best, why


def written(seed):
    """A seed's program."""
    argv = [
        str(TOP / "tests/vm"),
        "--module",
        "none",
        "--timeout",
        "600",
        "--",
        "differential",
        "--show",
        str(seed),
    ]
    return json.loads(
        subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True).stdout
    )


def explain(seed, why, modules, args):
    """Says what is wrong with a program, and keeps a short one that shows it."""
    print(f"seed {seed}: {why}", flush=True)
    # what one module alone gets wrong needs no other
    alone = [
        module
        for module, whose in (("rust", "ours: "), ("stock", "stock: "))
        if why.startswith(whose)
    ]
    program, shorter_why = shorten(written(seed), alone or modules, args)
    path = OUT / f"seed-{seed}.json"
    path.write_text(json.dumps(program) + "\n", encoding="utf-8")
    print(f"  {len(program['ops'])} ops are enough: {json.dumps(program['ops'])}")
    if shorter_why:
        print(f"  {shorter_why}")
    print(
        f"  again: tests/differential/run --kernel {args.kernel} --replay {path.relative_to(TOP)}",
        flush=True,
    )


def compare(args):
    """Runs all programs; returns 1 if one went wrong."""
    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        results = dict(
            zip(args.modules, pool.map(lambda module: campaign(module, args), args.modules))
        )
    wrong = {}
    for seed in range(args.start, args.start + args.count):
        if why := judge({module: reports.get(seed) for module, reports in results.items()}):
            wrong[seed] = why
    for module, reports in results.items():
        left_out = Counter(defect for report in reports.values() for defect in report["excepted"])
        programs = sum(not report["excepted"] for report in reports.values())
        names = ", ".join(f"defect {defect}: {count}" for defect, count in sorted(left_out.items()))
        print(
            f"{module}/{args.kernel}: {programs} programs; {len(reports) - programs} left "
            f"out{f' ({names})' if names else ''}"
        )
    compared = sum(
        seed not in wrong and not any(reports[seed]["excepted"] for reports in results.values())
        for seed in range(args.start, args.start + args.count)
    )
    print(
        f"{compared} programs {'did the same' if len(results) > 1 else 'did as they should'}, "
        f"{len(wrong)} went wrong, ",
        end="",
    )
    print(f"{time.monotonic() - start:.0f} s", flush=True)
    if args.control:
        return 0 if wrong else 1
    for seed in sorted(wrong)[:SHORTENED]:
        explain(seed, wrong[seed], args.modules, args)
    for seed in sorted(wrong)[SHORTENED:20]:
        print(f"seed {seed}: {wrong[seed]}")
    return 1 if wrong or not compared else 0


# Soaking


def rounds(args):
    """What the guests of a soak run, one after another: number, first seed, programs, options."""
    start, seed, end = time.monotonic(), args.start, args.start + (args.programs or sys.maxsize)
    for number in itertools.count():
        if args.minutes is not None and time.monotonic() - start > 60 * args.minutes:
            return
        how = copy.copy(args)
        # every third guest has a process in it that makes the GPU fault and hang, which takes its
        # time
        how.vandal = number % 3 == 2
        how.trouble = (
            ["none", "signals", "kill"]
            if how.vandal
            else [t for t in TROUBLE if args.kernel == "debug" or t != "failslab"]
        )
        count = min(ROUND // 5 if how.vandal else ROUND, end - seed)
        if count <= 0:
            return
        yield number, seed, count, how
        seed += count


def soak(args):
    """Programs, guest after guest, for as long as is wanted. Returns 1 if something was found."""
    start, module = time.monotonic(), args.modules[0]
    ended, programs, found = 0, 0, 0
    todo, lock = rounds(args), threading.Lock()

    def work():
        nonlocal ended, programs, found
        while True:
            with lock:
                this = next(todo, None)
            if this is None:
                return
            number, seed, count, how = this
            log = OUT / f"round-{number}"
            reports, why = guest(module, ["--from", str(seed), "--count", str(count)], log, how)
            again_if_late(module, reports, log, how)
            wrong = [report for report in reports if report["wrong"]]
            if why:
                wrong.append({"seed": seed + len(reports) - (len(reports) == count), "wrong": why})
            lines = [f"seed {report['seed']}: {report['wrong']}" for report in wrong]
            if wrong:
                again = f"--from {seed} --count {count} --trouble {','.join(how.trouble)}"
                again += " --vandal" if how.vandal else ""
                again = f"--kernel {args.kernel} --module {module} {again}"
                lines.append(f"  again: tests/differential/run {again}")
                lines.append(f"  the guest's log: {log.relative_to(TOP)}.kernel")
            else:
                for suffix in (".kernel", ".err"):
                    Path(f"{log}{suffix}").unlink(missing_ok=True)
            with lock:
                ended += 1
                programs += sum(not report["excepted"] for report in reports)
                found += len(wrong)
                minutes = (time.monotonic() - start) / 60
                lines.append(
                    f"{ended} guests, {programs} programs, {found} findings, {minutes:.0f} min; "
                    f"last seed {seed + count - 1}"
                )
                print("\n".join(lines), flush=True)

    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for worker in [pool.submit(work) for _ in range(args.jobs)]:
            worker.result()
    return 1 if found or not programs else 0


def replay(args):
    """Runs the programs of a file, and prints what they do."""
    programs = args.replay.read_text(encoding="utf-8").splitlines()
    with tempfile.TemporaryDirectory(prefix="replay-", dir=OUT) as directory:
        Path(directory, "programs").write_text(
            "".join(f"{line}\n" for line in programs), encoding="utf-8"
        )
        words = ["--file", "/share/programs"]
        results = {}
        for module in args.modules:
            found, why = guest(module, words, OUT / f"replay-{module}", args, directory)
            if why:
                found.append({"answers": "", "view": "", "wrong": why, "excepted": []})
            results[module] = found
    status = 0
    for n in range(len(programs)):
        reports = {
            module: found[n] if n < len(found) else None for module, found in results.items()
        }
        for module, report in reports.items():
            print(f"{module}: {json.dumps(report, indent=1)}")
        if why := judge(reports):
            print(why)
            status = 1
    return status


def main():
    parser = guests.parser(
        "tests/differential/run",
        "Runs random programs of ioctls with both modules, compares what they do with each other "
        "and with a model.",
        kernel="stock",
    )
    parser.add_argument(
        "--from",
        dest="start",
        type=int,
        default=0,
        metavar="SEED",
        help="the first seed (default: 0)",
    )
    parser.add_argument(
        "--count",
        type=int,
        default=10000,
        metavar="N",
        help="how many programs (default: %(default)s)",
    )
    parser.add_argument(
        "--share",
        action="store_true",
        help=f"{SHARE} of the first 10,000, others each time, for make test",
    )
    parser.add_argument(
        "--module", choices=["rust", "stock"], help="only this module, beside the model"
    )
    guests.add_cpus(parser)
    parser.add_argument(
        "--with-defects",
        action="store_true",
        help="leave nothing out, whatever known defects it runs into",
    )
    parser.add_argument(
        "--control",
        action="store_true",
        help="succeed when a program goes wrong, and don't explain it",
    )
    parser.add_argument(
        "--device-arg",
        action="append",
        default=[],
        metavar="ARG",
        help="argument for the virtual Adreno; repeatable",
    )
    parser.add_argument(
        "--trouble",
        type=lambda text: text.split(","),
        metavar="KIND,…",
        help=f"what comes in between: {', '.join(TROUBLE)}",
    )
    parser.add_argument(
        "--vandal", action="store_true", help="with a process that makes the GPU fault and hang"
    )
    parser.add_argument(
        "--soak",
        action="store_true",
        help="go on and on, with all kinds of trouble, with our module",
    )
    parser.add_argument(
        "--minutes", type=float, metavar="N", help="… for so long (default: until interrupted)"
    )
    parser.add_argument("--programs", type=int, metavar="N", help="… for so many programs")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="… guests at a time (default: %(default)s)"
    )
    parser.add_argument(
        "--replay",
        type=Path,
        metavar="FILE",
        help="run the programs in FILE, and print what they do",
    )
    args = parser.parse_args()
    if args.share:
        turn = int(os.environ.get("TURN") or time.time())
        args.start, args.count = turn % (10000 // SHARE) * SHARE, SHARE
    args.modules = [args.module] if args.module else ["rust"] if args.soak else ["rust", "stock"]
    args.host_cpus = guests.HostCpus(max(args.jobs, len(args.modules)))
    if args.soak:
        global OUT
        OUT = TOP / "build/soak" / args.kernel

    guests.end_with_children()
    OUT.mkdir(parents=True, exist_ok=True)
    return replay(args) if args.replay else soak(args) if args.soak else compare(args)


if __name__ == "__main__":
    sys.exit(main())
