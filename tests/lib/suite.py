# SPDX-License-Identifier: GPL-2.0-only
"""Runs the tests that tests/suite.toml lists. Called by tests/run-tests, inside the toolchain
root, with everything built."""

import concurrent.futures
import fcntl
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).parent))
import guests  # noqa: E402
from guests import KERNELS, TOP  # noqa: E402

LOGS = TOP / "build/test"
# What commands of this machine begin with.
HOST = ["env", f"CARGO_TARGET_DIR={TOP}/build/cargo-host"]

# Of what takes long and finds little, a run has a part: which, this number says.
TURN = int(os.environ.get("TURN") or time.time())
# With the kernel's own module, of which the tests are to be true, and on the debug kernel, each
# program runs each third time.
STOCK_TURNS, DEBUG_TURNS = 3, 3

KEYS = {
    "host": {"name", "command", "turns"},
    "script": {"name", "command", "counts", "turns", "jobs"},
    "guest": {
        "name",
        "program",
        "args",
        "kernels",
        "modules",
        "timeout",
        "turns",
        "alone",
        "vm",
        "fails",
        "complains",
        "after",
    },
    "gpu": {"name", "tests", "vm", "why"},
}

# A program's lines, between those of the script around it.
BEGIN, END, RESULT = (
    re.compile(r"@begin (\d+)"),
    re.compile(r"@end (\d+) (\d+)"),
    re.compile(r"(ok|FAIL) ([\w-]+)(?:: (.*))?"),
)
DEFECT = re.compile(r"defect_(\d+)")
# What the harness says of a sub-test that it had to kill.
TOO_LONG = re.compile(r"still running after|can't be killed")
NONE = re.compile(r"^@none (\d+)$")
KTAP = re.compile(r"^(\s*)(not )?ok (\d+) (.+)$")


@dataclass
class Test:
    """One program on one kernel with one module."""

    name: str
    program: str
    kernel: str
    module: str
    timeout: int
    args: list[str] = field(default_factory=list)
    vm: list[str] = field(default_factory=list)
    alone: bool = False
    fails: bool = False
    # what the kernel is to complain of
    complains: str = ""
    # what looks at the files that it leaves
    after: str = ""
    # the only sub-test to run: one that shows a known defect
    defect: str = ""
    # another GPU than the default one, and the sub-tests that can't run there
    gpu: str = ""
    without: list[str] = field(default_factory=list)

    @property
    def where(self):
        return "/".join(filter(None, [self.module, self.kernel, self.gpu]))


class Report:
    """The lines on the terminal, and the count."""

    def __init__(self):
        self.lock = threading.Lock()
        self.passed = self.failed = self.skipped = self.defects = 0
        self.failures = []
        self.here = threading.local()

    def counted(self):
        """What this thread has counted since it asked last: passed, failed."""
        counts = getattr(self.here, "counts", (0, 0))
        self.here.counts = (0, 0)
        return counts

    def count(self, passed, failed):
        self.passed += passed
        self.failed += failed
        before = getattr(self.here, "counts", (0, 0))
        self.here.counts = (before[0] + passed, before[1] + failed)

    def line(self, verdict, seconds, where, name, why=""):
        with self.lock:
            print(
                f"{verdict:<6} {seconds:6.1f} s  {where:<12} {name}{': ' + why if why else ''}",
                flush=True,
            )

    def ok(self, seconds, where, name, why=""):
        with self.lock:
            self.count(1, 0)
        self.line("ok", seconds, where, name, why)

    def fail(self, seconds, where, name, why="", detail=""):
        with self.lock:
            self.count(0, 1)
            self.failures.append((f"{where} {name}{': ' + why if why else ''}", detail))
        self.line("FAIL", seconds, where, name, why)
        with self.lock:
            self.quote(detail, 80)

    @staticmethod
    def quote(detail, lines):
        for line in detail.splitlines()[-lines:]:
            print(f"       | {line}", flush=True)

    def repeat_failures(self):
        """For who sees the end of the output alone."""
        for name, detail in self.failures:
            print(f"failed: {name}")
            self.quote(detail, 12)

    def skip(self, where, name, why):
        with self.lock:
            self.skipped += 1
        self.line("skip", 0, where, name, why)

    def known(self, seconds, where, name, number, why):
        with self.lock:
            self.defects += 1
        self.line("-", seconds, where, name, f"known defect {number} ({why})")


report = Report()


class Progress:
    """The file of --resume: what has passed, with how many sub-tests. What has failed runs again.

    A program counts as done when the one after it has ended in the same guest, or the guest: a
    splat takes some seconds to end one.
    """

    def __init__(self):
        self.path = None
        self.done = {}

    def read(self, path):
        self.path = Path(path)
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                passed, key = line.split(" ", 1)
                self.done[key] = int(passed)

    @staticmethod
    def key(test):
        return f"{test.where} {test.name}"

    def write(self, test, counts):
        passed, failed = counts
        if self.path and not failed:
            with report.lock, open(self.path, "a", encoding="utf-8") as file:
                file.write(f"{passed} {self.key(test)}\n")


progress = Progress()


def run(argv, log, take=None):
    """Runs a command with its lines going to `take`; returns its status and standard error."""
    errors = []
    with guests.running(argv, stderr=subprocess.PIPE, errors="replace") as child:

        def drain():
            for line in child.stderr:
                errors.append(line)

        drainer = threading.Thread(target=drain)
        drainer.start()
        with open(log, "w", encoding="utf-8") as copy:
            for line in child.stdout:
                copy.write(line)
                if take:
                    take(line.rstrip("\n"))
            status = child.wait()
            drainer.join()
            copy.writelines(errors)
    return status, "".join(errors)


def ended(status, errors):
    """What the status of tests/vm says, and the kernel's first complaint, if there is any."""
    what = {
        70: "the kernel complained",
        124: "too slow",
        125: "the guest can't be started",
    }.get(status, f"status {status}")
    splat = guests.SPLAT.search(errors)
    return f"{what}: {splat[0].strip()[:120]}" if splat else what


def script(tests):
    """What runs the programs in the guest, one after the other, until one fails."""
    lines = []
    for i, test in enumerate(tests):
        # with its path: `alias` is also a word of the shell
        program = f"/guest/{test.program}"
        slow, limit = (4, 240) if test.kernel == "debug" else (1, 150)
        argv = shlex.join([program, "--timeout", str(limit), "--part", str(slow), *test.args])
        lines.append(f"echo @begin {i}")
        if test.defect:
            lines.append(f"{argv} --only {test.defect}")
        elif (left_out := left_out_of(test)) and "--only" not in test.args:
            lines.append("set --")
            lines.append(f"if list=$({argv} --list); then")
            lines.append("for t in $list; do")
            lines.append(f'case $t in {"|".join(left_out)}) ;; *) set -- "$@" --only "$t";; esac')
            lines.append("done")
            lines.append(f'if [ $# != 0 ]; then {argv} "$@"; else echo @none {i}; fi')
            lines.append("else false; fi")
        else:
            lines.append(argv)
        lines.append(f"s=$?; echo @end {i} $s; [ $s = 0 ] || exit 0")
    return "\n".join(lines)


def left_out_of(test):
    """Patterns of the sub-tests that aren't to run."""
    return (["defect_*"] if test.module == "stock" else []) + test.without


class Boot:
    """One guest, and the tests that are to run in it as far as it gets."""

    count = 0
    lock = threading.Lock()

    def __init__(self, tests):
        self.tests = tests
        self.current = None  # index of the test that runs
        self.since = time.monotonic()
        self.results = {i: [] for i in range(len(tests))}
        self.ended = {}
        self.without = set()  # those of which all sub-tests are left out
        self.last = None  # the test that has ended, and its counts
        with Boot.lock:
            Boot.count += 1
            first = tests[0]
            name = f"{first.module}-{first.kernel}-{Boot.count:03}-{first.name}"
            name += f"-{first.defect}" if first.defect else ""
            name += f"-{first.gpu}" if first.gpu else ""
        self.log = LOGS / name

    def take(self, line):
        now = time.monotonic()
        if match := BEGIN.match(line):
            self.current = int(match[1])
            self.since = now
        elif match := NONE.match(line):
            self.without.add(int(match[1]))
        elif match := END.match(line):
            self.ended[int(match[1])] = int(match[2])
            self.current = None
            if self.last:
                progress.write(*self.last)
            self.last = (self.tests[int(match[1])], report.counted())
        elif (match := RESULT.match(line)) and self.current is not None:
            test = self.tests[self.current]
            result = (match[1], match[2], match[3] or "", now - self.since)
            self.results[self.current].append(result)
            self.since = now
            if not test.defect and not test.fails and not test.complains:
                (report.ok if match[1] == "ok" else report.fail)(
                    result[3], test.where, f"{test.name} {match[2]}", result[2]
                )

    def run(self):
        """Runs, reports and remembers; returns the tests that still have to run."""
        report.counted()
        left = self.run_and_report()
        passed, failed = report.counted()
        test, before = self.last or (self.tests[0], (0, 0))
        progress.write(test, (before[0] + passed, before[1] + failed))
        return left

    def run_and_report(self):
        """As run, but doesn't remember."""
        first = self.tests[0]
        start = time.monotonic()
        argv = [str(TOP / "tests/vm"), "--module", first.module, "--kernel", first.kernel]
        argv += [
            "--timeout",
            str(sum(test.timeout for test in self.tests)),
            "--log",
            f"{self.log}.kernel",
            *first.vm,
        ]
        share = Path(f"{self.log}.share")
        if first.after:
            share.mkdir()
            argv += ["--share", str(share)]
        if first.defect:
            argv += ["--no-kmemleak"]
        status, errors = run(
            [*argv, "--", "sh", "-c", script(self.tests)], f"{self.log}.log", self.take
        )
        seconds = time.monotonic() - start
        if first.defect:
            self.judge_defect(status, errors, seconds)
            return []
        said = "".join(
            f"{verdict} {name}{': ' + why if why else ''}\n"
            for verdict, name, why, _ in self.results[0]
        )
        if first.fails:
            failed = [
                name
                for verdict, name, why, _ in self.results[0]
                # what takes too long has noticed nothing
                if verdict == "FAIL" and not TOO_LONG.match(why)
            ]
            if status == 0 and 0 in self.ended and failed:
                report.ok(seconds, first.where, first.name, f"noticed by {', '.join(failed)}")
            else:
                why = f"status {status}" if status else "nothing has failed"
                report.fail(seconds, first.where, first.name, why, errors + said)
            return []
        if first.complains:
            found = re.search(first.complains, errors)
            if status == 70 and found:
                report.ok(seconds, first.where, first.name, f"noticed: {found[0]}")
            else:
                report.fail(
                    seconds,
                    first.where,
                    first.name,
                    f"status {status}, without {first.complains}",
                    errors + said,
                )
            return []
        done = len(self.ended)
        for i, test_status in self.ended.items():
            verdicts = [verdict for verdict, *_ in self.results[i]]
            # a status that its lines don't explain
            if (test_status != 0) != ("FAIL" in verdicts):
                report.fail(0, first.where, self.tests[i].name, f"exit status {test_status}")
            elif not verdicts and i not in self.without:
                report.fail(0, first.where, self.tests[i].name, "no sub-test was run")
        if status == 0 or (status == 1 and done):
            report.ok(
                seconds,
                first.where,
                f"kernel log and leaks after {', '.join(t.name for t in self.tests[:done])}",
            )
        else:
            what = ended(status, errors)
            blamed = self.tests[self.current] if self.current is not None else None
            name = (
                blamed.name
                if blamed
                else f"after {', '.join(t.name for t in self.tests[:done]) or 'boot'}"
            )
            report.fail(seconds, first.where, name, f"{what}, see {self.log}.kernel", errors)
            if blamed or not done:
                done += 1
        if first.after:
            self.look_at(share)
        return self.tests[done:]

    def look_at(self, share):
        """Has the files that a program has left looked at; what does so prints lines as
        programs do."""
        first = self.tests[0]
        begin = time.monotonic()
        verdicts = []

        def take(line):
            if match := RESULT.match(line):
                verdicts.append(match[1])
                (report.ok if match[1] == "ok" else report.fail)(
                    0, first.where, f"{first.name} {match[2]}", match[3] or ""
                )

        status, errors = run(
            [*HOST, *shlex.split(first.after), str(share)], f"{self.log}.after.log", take
        )
        if not verdicts or (status != 0) != ("FAIL" in verdicts):
            seconds = time.monotonic() - begin
            report.fail(
                seconds,
                first.where,
                f"{first.name}: {first.after}",
                f"status {status}, {len(verdicts)} results",
                errors,
            )

    def out_of_memory(self):
        """What the kernel says of the first process that it has killed for want of memory, if
        any."""
        match = re.search(
            r"Out of memory: Killed process .*?\)",
            Path(f"{self.log}.kernel").read_text(errors="replace"),
        )
        return match and match[0]

    def judge_defect(self, status, errors, seconds):
        test = self.tests[0]
        number = int(DEFECT.match(test.defect)[1])
        splat = re.search(
            r"(BUG: .*|WARNING: .*|Kernel panic .*|Unable to handle .*|INFO: task .*)", errors
        )
        results = {name: (verdict, why) for verdict, name, why, _ in self.results[0]}
        verdict, why = results.get(test.defect, ("", ""))
        if status == 70 and splat:
            report.known(
                seconds, test.where, f"{test.name} {test.defect}", number, splat[1].strip()[:100]
            )
        elif status == 124 or (status == 0 and not verdict):
            report.known(seconds, test.where, f"{test.name} {test.defect}", number, "never ends")
        elif verdict == "FAIL":
            report.known(seconds, test.where, f"{test.name} {test.defect}", number, why[:100])
        elif status == 137 and (victim := self.out_of_memory()):
            report.known(seconds, test.where, f"{test.name} {test.defect}", number, victim)
        elif verdict == "ok":
            report.line(
                "-",
                seconds,
                test.where,
                f"{test.name} {test.defect}",
                f"known defect {number} was not seen this time",
            )
        else:
            report.fail(
                seconds, test.where, f"{test.name} {test.defect}", f"status {status}", errors
            )


def sequence(tests):
    """Runs tests one after the other in as few guests as possible."""
    while tests:
        tests = Boot(tests).run()


def with_defects(tests):
    """The sub-tests of these programs that show known defects, each a test for a guest of its
    own."""
    names = "; ".join(
        f"/guest/{test.program} --list | sed -n 's/^defect_/{i} &/p'"
        for i, test in enumerate(tests)
    )
    lines = []
    argv = [str(TOP / "tests/vm"), "--module", "none", "--kernel", "stock", "--", "sh", "-c", names]
    status, errors = run(argv, LOGS / "defects.log", lines.append)
    if status:
        report.fail(0, "stock/stock", "list of known defects", f"status {status}", errors)
    found = [line.split() for line in lines]
    return [Test(**{**vars(tests[int(i)]), "defect": name, "timeout": 60}) for i, name in found]


def guarded(function, *args):
    """A mistake in here must not look like success."""
    try:
        function(*args)
    except Exception as error:  # pylint: disable=broad-except
        report.fail(0, "", "tests/run-tests itself", repr(error))


def kunit_suites():
    """The names of all suites that there are in the source."""
    return {
        name
        for file in (TOP / "drivers").rglob("*.rs")
        for name in re.findall(r"^#\[kunit_tests\((\w+)\)\]", file.read_text(), re.MULTILINE)
    }


def kunit():
    """The tests that are compiled into the kernel and our module."""
    log = LOGS / "kunit"
    start = time.monotonic()
    argv = [
        str(TOP / "tests/vm"),
        "--kernel",
        "debug",
        "--timeout",
        "1800",
        "--log",
        f"{log}.kernel",
    ]
    # whoever loads the module waits meanwhile, with a limit of KUnit's own
    words = "kunit.enable=1 kunit.autorun=1 kunit.filter_glob=*rs*.* "
    words += "sysctl.kernel.hung_task_timeout_secs=400"
    argv += ["--append", words, "--", "true"]
    status, errors = run(argv, f"{log}.log")
    text = (
        Path(f"{log}.kernel").read_text(errors="replace") if Path(f"{log}.kernel").exists() else ""
    )
    # KTAP: "1..N" says how many follow at that depth; cases are one below the suites
    suite, cases, planned, run_of, since = "", 0, 0, set(), []
    for line in text.splitlines():
        line = re.sub(r"^\[ *[\d.]+\](\[ *[CT]\d+\])? ?", "", line.rstrip())
        if match := re.match(r"\s+# Subtest: (.*)", line):
            suite = match[1]
        elif match := re.match(r" {4}1\.\.(\d+)$", line):
            planned += int(match[1])
        elif (match := KTAP.match(line)) and len(match[1]) == 4:
            cases += 1
            skipped = "# SKIP" in match[4]
            if not skipped:
                run_of.add(suite)
            name = f"{suite} {match[4]}"
            if match[2] or skipped:
                report.fail(0, "kunit", name, detail="\n".join(since))
            else:
                report.ok(0, "kunit", name)
            since = []
        else:
            since.append(line)
    for missing in sorted(kunit_suites() - run_of):
        report.fail(0, "kunit", missing, "it isn't compiled in, or wasn't run")
    seconds = time.monotonic() - start
    if not cases or cases != planned:
        report.fail(
            seconds, "kunit", f"{cases} of {planned} tests were run", f"see {log}.kernel", errors
        )
    elif status:
        why = f"{ended(status, errors)}, see {log}.kernel"
        report.fail(seconds, "kunit", "kernel log", why, errors)
    else:
        report.ok(seconds, "kunit", "kernel log and leaks")


def script_of_its_own(entry):
    """A script that starts its guests itself."""
    start = time.monotonic()
    log = LOGS / f"script-{entry['name']}.log"
    lines = []
    status, errors = run(shlex.split(entry["command"]), log, lines.append)
    seconds = time.monotonic() - start
    if status:
        report.fail(
            seconds, "guests", entry["name"], f"see {log}", "\n".join(lines[-40:]) + "\n" + errors
        )
    else:
        counted = next((line for line in lines if re.search(entry["counts"], line)), None)
        if counted is None:
            report.fail(seconds, "guests", entry["name"], f"it doesn't say what it did: see {log}")
        else:
            report.ok(seconds, "guests", entry["name"], counted)


def host(entry):
    start = time.monotonic()
    log = LOGS / f"host-{entry['name']}.log"
    lines = []
    status, errors = run([*HOST, *shlex.split(entry["command"])], log, lines.append)
    seconds = time.monotonic() - start
    if status:
        report.fail(
            seconds, "host", entry["name"], f"see {log}", "\n".join(lines[-40:]) + "\n" + errors
        )
    else:
        # as cargo, Python's unittest and node say it
        counts = re.findall(r"\d+(?= passed)|(?<=Ran )\d+|(?<=# pass )\d+", "\n".join(lines))
        passed = sum(int(n) for n in counts)
        if passed:
            report.ok(seconds, "host", entry["name"], f"{passed} tests")
        else:
            report.fail(seconds, "host", entry["name"], f"no test was run: see {log}")


def hosts(entries):
    """Those of this machine, one after the other: they share what they compile."""
    for entry in entries:
        guarded(host, entry)


def load():
    with open(TOP / "tests/suite.toml", "rb") as file:
        suite = tomllib.load(file)
    for kind, entries in suite.items():
        for entry in entries:
            unknown = set(entry) - KEYS.get(kind, set())
            if kind not in KEYS or unknown or "name" not in entry:
                sys.exit(
                    f"tests/suite.toml: [[{kind}]] {entry.get('name')}: unknown "
                    f"{', '.join(unknown) or kind}"
                )
    return suite


def on_gpu(gpu, entries, test):
    """Makes a test one on that GPU; False when it can't run there, which is reported."""
    if any(word.startswith("--gpu") for word in test.vm):
        return False  # on one of its own
    test.gpu = gpu
    test.vm = [*test.vm, "--gpu", gpu]
    for entry in (entry for entry in entries if entry["name"] == gpu):
        names = [name.partition(" ") for name in entry["tests"]]
        mine = [sub for program, _, sub in names if program in (test.name, test.program)]
        for sub_test in mine:
            if "vm" in entry:
                test.vm += entry["vm"]
                continue
            report.skip(test.where, f"{test.name} {sub_test}".strip(), entry["why"])
            if not sub_test:
                return False
            test.without.append(sub_test)
    return True


class Plan:
    """What a run does, by its arguments and whose turn it is."""

    def __init__(self, args, suite):
        self.args, self.suite = args, suite
        # of all kinds
        self.whole = not (args.kernel or args.module or args.defects or args.gpu)
        self.all_turns = bool(args.all or args.names or not self.whole)
        self.scripts = self.entries("script") if self.whole and not args.host else []

    def wanted(self, name):
        return not self.args.names or name in self.args.names

    def in_turn(self, number, turns):
        """Whether what comes each `turns`th time, and is the `number`th of its kind, comes now."""
        return self.all_turns or (TURN + number) % turns == 0

    def entries(self, kind):
        return [
            entry
            for number, entry in enumerate(self.suite[kind])
            if self.wanted(entry["name"]) and self.in_turn(number, entry.get("turns", 1))
        ]

    def tests(self):
        """Those in guests, one by one."""
        args = self.args
        for number, entry in enumerate([] if args.host else self.suite["guest"]):
            if not self.wanted(entry["name"]):
                continue
            control = entry.get("fails") or entry.get("complains")
            for module in entry.get("modules", ["rust", "stock"]):
                turns = entry.get("turns", 1)
                if module == "stock" and not control:
                    turns = max(turns, STOCK_TURNS)
                kernels = entry.get("kernels", KERNELS)
                if guests.is_release(args.kernel) and "stock" in kernels:
                    kernels = [args.kernel]
                for kernel in kernels:
                    if (module, kernel) == ("stock", "debug") or not self.in_turn(number, turns):
                        continue
                    if args.module not in (None, module) or args.kernel not in (None, kernel):
                        continue
                    test = Test(
                        name=entry["name"],
                        program=entry.get("program", entry["name"]),
                        kernel=kernel,
                        module=module,
                        timeout=entry.get("timeout", 300) * (4 if kernel == "debug" else 1),
                        args=entry.get("args", []),
                        vm=[os.path.expandvars(word) for word in entry.get("vm", [])],
                        alone=any(
                            entry.get(key) for key in ("alone", "fails", "complains", "after")
                        ),
                        after=entry.get("after", ""),
                        fails=entry.get("fails", False),
                        complains=entry.get("complains", ""),
                    )
                    if args.gpu and not on_gpu(args.gpu, self.suite["gpu"], test):
                        continue
                    if (passed := progress.done.get(progress.key(test))) is not None:
                        report.count(passed, 0)
                        continue
                    yield test

    def tasks(self):
        """What runs side by side: functions and their arguments, the slowest first."""
        args, groups, apart = self.args, {}, []
        for test in self.tests():
            if test.alone:
                apart.append([test])
            else:
                groups.setdefault((test.kernel, test.module, *test.vm), []).append(test)
        if args.defects:
            stock = [
                test
                for tests in [*groups.values(), *apart]
                for test in tests
                if test.module == "stock" and not (test.fails or test.complains)
            ]
            return [(sequence, [test]) for test in with_defects(stock)]

        # Guests with a display, another GPU or less memory have their turn as a whole, as each has
        # to be started; the others, program by program.
        special = [key for key in groups if key[0] == "debug" and len(key) > 2]
        for number, key in enumerate(special):
            if not self.in_turn(number, DEBUG_TURNS):
                del groups[key]
        if plain := groups.get(("debug", "rust")):
            plain[:] = [test for n, test in enumerate(plain) if self.in_turn(n, DEBUG_TURNS)]

        keys = sorted(groups, key=lambda key: key[0] != "debug")
        tasks = [(sequence, groups[key]) for key in keys]
        kunit_wanted = self.wanted("kunit") and not args.host and not args.gpu
        if kunit_wanted and args.kernel in (None, "debug") and args.module != "stock":
            tasks.insert(1, (kunit,))
        if self.whole and not args.no_host:
            tasks.insert(1, (hosts, self.entries("host")))
        tasks += [(script_of_its_own, e) for e in self.scripts if e.get("jobs") == 1]
        return tasks + [(sequence, tests) for tests in apart]


def arguments():
    parser = guests.parser("tests/run-tests", "Runs the tests of tests/suite.toml.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these (also: kunit)")
    parser.add_argument("--module", choices=["rust", "stock"], help="only with this msm.ko")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--no-host", action="store_true", help="nothing but guests")
    where.add_argument("--host", action="store_true", help="no guests")
    where.add_argument(
        "--defects", action="store_true", help="show the C memory manager's known defects instead"
    )
    # More than there are processors would end no earlier, but what has a time limit might not end
    # in time.
    parser.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        help="guests at a time (default: %(default)s)",
    )
    parser.add_argument(
        "--gpu", metavar="NAME", help="on this GPU instead of the default one: see tests/vm --help"
    )
    parser.add_argument(
        "--resume", metavar="FILE", help="leave out what has passed by that file, and go on with it"
    )
    parser.add_argument("--list", action="store_true", help="list the tests")
    parser.add_argument(
        "--all",
        action="store_true",
        help="those, too, whose turn it isn't (so with NAME, --kernel, --module, --gpu)",
    )
    parser.add_argument(
        "--in-turn", metavar="SCRIPT", help="only say, by the status, whether it would be run"
    )
    return parser


def main():
    parser = arguments()
    args = parser.parse_args()
    suite = load()
    known = {e["name"] for kind in KEYS if kind != "gpu" for e in suite[kind]} | {"kunit"}
    if set(args.names) - known:
        parser.error(f"no test is called {', '.join(sorted(set(args.names) - known))}")
    if args.list:
        print("\n".join(sorted(known)))
        return 0

    if args.resume:
        progress.read(args.resume)
    plan = Plan(args, suite)
    if args.in_turn:
        return 0 if any(entry["name"] == args.in_turn for entry in plan.scripts) else 1

    guests.end_with_children()

    LOGS.mkdir(parents=True, exist_ok=True)
    lock = os.open(LOGS, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"another run writes to {LOGS.relative_to(TOP)}: wait until it has ended")
    for old in LOGS.iterdir():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    start = time.monotonic()

    if not plan.all_turns:
        print(f"turn {TURN}: TURN={TURN} make test runs the same, make test-all everything")
    # these use all processors by themselves
    for entry in plan.scripts:
        if entry.get("jobs") != 1:
            guarded(script_of_its_own, entry)
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for task in plan.tasks():
            pool.submit(guarded, *task)

    report.repeat_failures()
    if args.defects:
        print(f"known defects of the C code were shown {report.defects} times")
    print(f"{time.monotonic() - start:.0f} s, logs in {LOGS.relative_to(TOP)}")
    skipped = f", {report.skipped} skipped" if report.skipped else ""
    print(f"{report.passed} passed, {report.failed} failed{skipped}", flush=True)
    return 1 if report.failed or not (report.passed or report.defects) else 0


if __name__ == "__main__":
    sys.exit(main())
