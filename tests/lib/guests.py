# SPDX-License-Identifier: GPL-2.0-only
"""What the scripts share that start guests: commands that end with the script, its options, why a
guest has died. Their python runs isolated, so they have to add this folder to its path."""

import argparse
import contextlib
import itertools
import os
import queue
import re
import signal
import subprocess
from pathlib import Path

TOP = Path(os.environ["MSM_RS_TOP"])
KERNELS = ["stock", "debug"]
BROKEN = 125  # status of tests/vm: it can't be started

SPLAT = re.compile(
    r"BUG: .*|WARNING: .*|kmemleak: .*|Unable to handle .*|INFO: .*|Kernel panic .*"
    r"|refcount_t: .*|DMA-API: .*"
)

children = set()


def end_with_children():
    """From now on, a signal that ends this script ends the commands that it runs as well."""

    def stop(number, _):
        for child in list(children):
            child.terminate()
        os._exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)


@contextlib.contextmanager
def running(argv, **how):
    """Runs a command whose lines are to be read from its `stdout`. In the end it is waited for."""
    child = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, **how
    )
    children.add(child)
    try:
        with child:
            yield child
    finally:
        children.discard(child)


class HostCpus:
    """Which processor of this machine each of several guests at a time runs on.

    A guest of one processor and its virtual Adreno mostly wait for each other. On one processor
    of the host that takes two thirds of the time: neither has to be woken up on another one.
    """

    def __init__(self, guests):
        cpus = itertools.cycle(sorted(os.sched_getaffinity(0)))
        self.free = queue.SimpleQueue()
        for cpu in itertools.islice(cpus, guests):
            self.free.put(cpu)

    @contextlib.contextmanager
    def run_on_one(self, argv, cpus):
        """The command of a guest with so many processors."""
        if cpus > 1:
            yield argv
            return
        cpu = self.free.get()
        try:
            yield ["taskset", "--cpu-list", str(cpu), *argv]
        finally:
            self.free.put(cpu)


def why_it_died(errors):
    """What the kernel has complained of, or else the last line that tests/vm has said."""
    splat = SPLAT.search(errors)
    return splat[0] if splat else (errors.strip().splitlines() or [""])[-1]


def is_release(kernel):
    """Whether that is the release of a kernel of Debian's: on it runs what runs on the stock one."""
    return kernel not in (None, *KERNELS)


def kernel_name(text):
    """The argument of --kernel."""
    if text not in KERNELS and not re.match(r"\d", text):
        raise argparse.ArgumentTypeError(f"{text}: neither {' nor '.join(KERNELS)}, and no release")
    return text


def parser(prog, description, kernel=None):
    """A parser that knows --kernel: the default, or all of them if there is none."""
    result = argparse.ArgumentParser(prog=prog, description=description, allow_abbrev=False)
    text = f"on which kernel (default: {kernel})" if kernel else "only on this kernel"
    text += ": stock, debug, or another one of Debian's by its release"
    metavar = "stock|debug|KVER"
    result.add_argument("--kernel", type=kernel_name, metavar=metavar, default=kernel, help=text)
    return result


def add_cpus(to, default=2):
    """--cpus, for tests/vm."""
    text = "processors of a guest (default: %(default)s); one is quicker"
    to.add_argument("--cpus", type=int, default=default, metavar="N", help=text)
