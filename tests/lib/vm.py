# SPDX-License-Identifier: GPL-2.0-only
"""Runs a command in a fresh guest with the virtual Adreno.

Called by tests/vm, inside the toolchain root, where everything has been built. The guest's side is
tests/lib/init.
"""

import argparse
import hashlib
import json
import lzma
import os
import re
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).parent))
import cmd_db  # noqa: E402

TOP = Path(os.environ["MSM_RS_TOP"])
CACHE = Path(os.environ["MSM_RS_CACHE"])

GPUS = ("a702", "a618", "a740", "a702-shared")

TIMEOUT = 124  # the command took too long
SPLAT = 70  # the kernel complained
BROKEN = 125  # the guest could not run the command

EPILOG = """\
CMD is looked for among the guest programs (tests/guest) and in busybox. It starts in /share if
there is one, otherwise in /, without input. Its output is this command's output; everything else
goes to standard error.

exit status:
  CMD's own, or
  70   the kernel's log shows a splat, a page was freed that the GPU can reach (the watch), or the
       virtual Adreno says that it was used in a way that isn't allowed; that is printed
  124  CMD took longer than --timeout, or was silent for longer than --silence; what the kernel says
       of blocked tasks is printed
  125  the guest could not be started, or CMD could not be started in it

examples:
  tests/vm -- alias                                   a guest program, our module, Debian's kernel
  tests/vm --module stock -- hostile --list           with the C memory manager
  tests/vm --kernel debug -- two-queues               on the kernel that looks for mistakes
  tests/vm --kernel 7.3.4+deb13-rt-arm64 -- fault     another kernel of Debian's
  tests/vm --kernel ~/linux/out -- fault              a kernel of your own, and its msm.ko
  tests/vm --share /tmp/mine -- ./prog                a program of your own
  tests/vm --rootfs /srv/debian-arm64 -- vulkaninfo   in a Debian tree, changes being forgotten
"""


def arguments():
    parser = argparse.ArgumentParser(
        prog="tests/vm",
        usage="tests/vm [OPTIONS] -- CMD ARGS…",
        description="Runs CMD in a fresh arm64 guest whose msm.ko drives a virtual Adreno.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--module",
        default=None,
        metavar="rust|stock|none|FILE.ko",
        help="the msm.ko to load (default: rust; with --kernel DIR stock, that kernel's own)",
    )
    add(
        "--kernel",
        default="stock",
        metavar="stock|debug|KVER|DIR",
        help="Debian's kernel, the debug kernel, another one of Debian's by its release (make "
        "kernels), or one of your own: the object tree where it was compiled, configured with "
        "tests/kernel/guest.config",
    )
    add(
        "--mem",
        default=None,
        metavar="SIZE",
        help="memory: 1G, 768M (default: 1G, debug kernel 2G)",
    )
    add("--cpus", type=int, default=2, metavar="N", help="processors (default: 2)")
    add(
        "--icount",
        action="store_true",
        help="the clock counts instructions, 1 ns each; one processor",
    )
    add(
        "--modparam",
        action="append",
        default=[],
        metavar="K=V",
        help="parameter of msm.ko; repeatable",
    )
    add("--share", metavar="DIR", help="directory to appear as /share")
    add(
        "--rootfs",
        metavar="DIR",
        help="run CMD with this directory as its root; writes are kept in memory",
    )
    add("--disk", metavar="FILE", help="the image of a disk, /dev/vda")
    add(
        "--slow-disk",
        metavar="MIB:N",
        help="an empty disk of that size, /dev/vda without --disk, of which N reads are done a second; "
        "writes aren't held up",
    )
    add(
        "--boot",
        metavar="DIR",
        help="boot DIR/vmlinuz with DIR/initrd.img from --disk, as a device does; what runs CMD "
        "there is tests/installed/agent",
    )
    add("--timeout", type=float, default=120, metavar="S", help="seconds for CMD (default: 120)")
    add(
        "--silence",
        type=float,
        default=None,
        metavar="S",
        help="seconds that CMD may go without output (default: --timeout)",
    )
    add("--log", metavar="FILE", help="write the kernel's log there")
    add(
        "--append",
        action="append",
        default=[],
        metavar="WORDS",
        help="add to the kernel's command line",
    )
    add(
        "--expect-splat",
        action="append",
        default=[],
        metavar="REGEX",
        help="splats that match are not counted",
    )
    add(
        "--keep-going",
        action="store_true",
        help="let CMD go on for as long as it likes after a splat",
    )
    add(
        "--no-watch",
        dest="watch",
        action="store_false",
        help="don't look whether the GPU can reach pages that are freed",
    )
    add(
        "--kmemleak",
        action=argparse.BooleanOptionalAction,
        help="look for leaks at the end (default: debug kernel)",
    )
    add(
        "--device-arg",
        action="append",
        default=[],
        metavar="ARG",
        help="argument for the virtual Adreno; repeatable",
    )
    add("--counters", metavar="FILE", help="write the virtual Adreno's counters there, as JSON")
    add(
        "--gpu",
        choices=GPUS,
        default="a702",
        help="a702 (the default); a618, which has a GMU; a740, which has one, and preemption; or "
        "a702-shared, an a702 with one address space for all processes, as older GPUs have it",
    )
    add(
        "--display",
        choices=("component", "separate"),
        help="with a display, of whose DRM device the GPU is a component, or separate from it "
        "(only with a msm.ko that has a display driver)",
    )
    add(
        "--screenshot",
        metavar="FILE.png",
        help="with --display, write there what the display showed last, or what CMD wanted to be "
        "kept",
    )
    add("--trace", metavar="FILE", help="write what the virtual Adreno does there")
    add("--device", metavar="FILE", help="another vfio-user device than tests/vadreno")
    add(
        "--verbose",
        action="store_true",
        help="show the kernel's log as it comes, and where time goes",
    )
    add("command", nargs="+", metavar="CMD", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.tree = None
    if args.kernel == release_of(CACHE / "stock"):
        args.kernel = "stock"
    if args.kernel not in ("stock", "debug") and not is_release(args.kernel):
        args.tree = Path(args.kernel).resolve()
        if not args.tree.is_dir():
            parser.error(f"--kernel {args.kernel}: neither stock nor debug, no release, no directory")
        if args.module == "rust":
            parser.error("--kernel DIR: build the module with make module KDIR=DIR, and name it")
        digest = hashlib.sha256(str(args.tree).encode()).hexdigest()
        args.kernel = f"tree-{digest[:12]}"
    if args.module is None:
        args.module = "stock" if args.tree else "rust"
    if args.icount:
        args.cpus = 1
    if args.mem is None:
        args.mem = "2G" if args.kernel == "debug" else "1G"
    if args.kmemleak is None:
        args.kmemleak = args.kernel == "debug"
    for pattern in args.expect_splat:
        try:
            re.compile(pattern)
        except re.error as error:
            parser.error(f"--expect-splat {pattern}: {error}")
    if args.screenshot and not args.display:
        parser.error("--screenshot: there is no display without --display")
    args.gpu, _, shared = args.gpu.partition("-")
    args.shared = bool(shared)
    if args.shared and args.display:
        parser.error("--gpu a702-shared: there is none with a display")
    if args.shared and args.module == "stock":
        # once, for a GPU of this generation
        args.expect_splat.append("WARNING: .* at msm_iommu_pagetable_create")
    if args.slow_disk and not re.fullmatch(r"[1-9]\d*:[1-9]\d*", args.slow_disk):
        parser.error(f"--slow-disk {args.slow_disk}: MIB:N, as 320:100")
    if args.boot and not args.disk:
        parser.error("--boot: there is nothing to boot from without --disk")
    for name in ("share", "rootfs", "boot"):
        if getattr(args, name) and not Path(getattr(args, name)).is_dir():
            parser.error(f"--{name} {getattr(args, name)}: no such directory")
    return args


class Broken(Exception):
    """The guest can't be run: not the fault of what is tested."""


def release_of(home):
    """The release of a kernel in the cache, whose directory that is."""
    try:
        return (home / "kver").read_text().strip()
    except OSError:
        return None


def is_release(kernel):
    return bool(re.match(r"\d", kernel)) and not Path(kernel).is_dir()


def home(kernel):
    """The directory in the cache of the kernel stock, debug, or of that release."""
    return CACHE / kernel if kernel in ("stock", "debug") else CACHE / "kernels" / kernel


def say(text):
    print(f"tests/vm: {text}", file=sys.stderr, flush=True)


# What goes into the guest


def module(args):
    """The bytes of the msm.ko to load, None for none."""
    if args.module == "none":
        return None
    suffix = "" if args.kernel == "stock" else f"-{args.kernel}"
    if args.module == "rust":
        path = TOP / f"build/module{suffix}/msm.ko"
    elif args.module == "stock" and args.tree:
        path = args.tree / "drivers/gpu/drm/msm/msm.ko"
    elif args.module == "stock" and args.kernel == "debug":
        path = CACHE / "debug/modules/kernel/drivers/gpu/drm/msm/msm.ko"
    elif args.module == "stock":
        kernel = home(args.kernel)
        modules = kernel / f"usr/lib/modules/{release_of(kernel)}"
        path = modules / "kernel/drivers/gpu/drm/msm/msm.ko.xz"
    else:
        path = Path(args.module)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Broken(f"{path}: {error.strerror}") from error
    return lzma.decompress(data) if path.suffix == ".xz" else data


def depends(data):
    """The modules that a module says it needs, without those that are never there in the guest."""
    match = re.search(rb"\0depends=([^\0]*)\0", data)
    names = match.group(1).decode().split(",") if match else []
    return [name for name in names if name not in ("", "ubwc_config")]


def watch(args, data):
    """The glue module's parameter of that name. The C memory manager frees tables that tables
    lead to when a context ends."""
    if not args.watch or not data:
        return 0
    return 1 if b"msm_rs" in data else 2


def cpio(files):
    """An initramfs (newc) with {path: (mode, bytes)}; the kernel unpacks it after the first."""
    out = bytearray()

    def entry(name, mode, data):
        name = name.encode() + b"\0"
        fields = [0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0]
        out.extend(b"070701" + b"".join(b"%08x" % field for field in fields) + name)
        out.extend(bytes(-len(out) % 4))
        out.extend(data)
        out.extend(bytes(-len(out) % 4))

    for path, (mode, data) in files.items():
        entry(path, mode, data)
    entry("TRAILER!!!", 0, b"")
    return bytes(out)


def initrd(args, shares):
    """The guest's root of that kernel, and what is this run's own."""
    data = module(args)
    parameters = [] if args.display == "component" else ["separate_gpu_kms=1"]
    if args.watch:
        # for what it prints
        parameters.append("vm_log_shift=5")
    modules = depends(data) if data else []
    if args.display:
        modules.append("panel_lvds")
    config = {
        "gpu": "1" if data else "",
        "watch": str(watch(args, data)),
        "shared": "1" if args.shared else "0",
        "modules": " ".join(modules),
        "parameters": " ".join([*parameters, *args.modparam]),
        "shares": " ".join(tag for tag in shares if tag != "rootfs"),
        "rootfs": "1" if args.rootfs else "",
        "kmemleak": "1" if args.kmemleak else "",
    }
    files = {
        "vm/config": (
            0o100644,
            "".join(f"{k}={shlex.quote(v)}\n" for k, v in config.items()).encode(),
        ),
        "vm/command": (0o100644, f"exec {shlex.join(args.command)}\n".encode()),
    }
    if data:
        files["vm/msm.ko"] = (0o100644, data)
    base = TOP / f"build/guest-root-{args.kernel}.cpio"
    return base.read_bytes() + cpio(files)


# The kernel's log

# A line that starts so, after the time, is a complaint.
COMPLAINT = re.compile(
    r"BUG: |BUG\b.* at |kernel BUG |WARNING: |WARN_ON|Internal error: |Oops|Unable to handle kernel"
    r"|Kernel panic|UBSAN: |refcount_t: |INFO: task .* blocked for more than|INFO: lockdep|INFO: "
    r"trying to register"
    r"|rcu: INFO: .* stall|watchdog: .*lockup|DMA-API: (?!preallocated|debugging enabled|disabl)"
    r"|ODEBUG: "
    r"|pagealloc: |usercopy: |list_(add|del) corruption|slab .*corruption|.*scheduling while atomic"
    r"|.*memory manager during takedown|.*\[drm\] \*ERROR\* .*(leaked|not clean)"
    r"|DEBUG_LOCKS_WARN_ON|.*Failure not reported to KUnit"
    r"|.*sleeping function called|\S+: Bad page|page dumped because|.*possible (circular|recursive"
    r"|irq|deadlock)"
)
LINE = re.compile(r"\[ *\d+\.\d+\](?:\[ *[CT]\d+\])? ?(.*)")


class Log:
    """Collects the kernel's log and finds the splats in it."""

    def __init__(self, path, verbose, expected):
        self.file = open(path, "wb") if path else None
        self.verbose = verbose
        self.expected = [re.compile(pattern) for pattern in expected]
        self.rest = b""
        self.lines = []
        self.splats = []  # numbers of lines
        self.first = None  # when the first one was seen

    def feed(self, data):
        if self.file:
            self.file.write(data)
            self.file.flush()
        if self.verbose:
            sys.stderr.buffer.write(data)
            sys.stderr.flush()
        *lines, self.rest = (self.rest + data).split(b"\n")
        for raw in lines:
            text = raw.decode(errors="replace").rstrip("\r")
            self.lines.append(text)
            match = LINE.match(text)
            if match and COMPLAINT.match(match.group(1)) and not self.allowed(match.group(1)):
                self.splats.append(len(self.lines) - 1)
                self.first = self.first or time.monotonic()

    def found(self, text):
        """A complaint that doesn't come from the kernel."""
        self.lines += [text, "---[ end trace"]
        if not self.allowed(text):
            self.splats.append(len(self.lines) - 2)
            self.first = self.first or time.monotonic()

    def allowed(self, text):
        return any(pattern.search(text) for pattern in self.expected)

    def report(self):
        """Each splat with what follows it, once."""
        shown = -1
        for start in self.splats[:10]:
            if start <= shown:
                continue
            end = start
            while (
                end + 1 < len(self.lines)
                and end - start < 70
                and "---[ end trace" not in self.lines[end]
            ):
                end += 1
            print("\n".join(self.lines[max(0, start - 1) : end + 1]), file=sys.stderr)
            shown = end
        if len(self.splats) > 10:
            say(f"… and {len(self.splats) - 10} more")


# The run


class Guest:
    """QEMU, the virtual Adreno and the channels to the guest, for one command."""

    def __init__(self, args, directory):
        self.args = args
        self.dir = directory
        self.log = Log(args.log, args.verbose, args.expect_splat)
        self.status = None
        self.failure = None
        self.ready = None
        self.heard = None  # when CMD last said something
        self.leaks = []
        self.leaks_since = None
        self.ctl_rest = b""
        self.device_said = 0
        self.children = []
        self.channels = {}
        self.selector = selectors.DefaultSelector()
        self.started = time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in reversed(self.children):
            if child.poll() is None:
                child.kill()
                child.wait()

    def path(self, name):
        return str(self.dir / name)

    def spawn(self, argv, **kwargs):
        try:
            child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, **kwargs)
        except OSError as error:
            raise Broken(f"{argv[0]}: {error.strerror}") from error
        self.children.append(child)
        return child

    def start(self):
        args = self.args
        device = [args.device or str(TOP / "build/vadreno"), "--socket", self.path("device")]
        device += ["--gpu", args.gpu]
        for name in ("trace", "counters"):
            if getattr(args, name):
                device += [f"--{name}", getattr(args, name)]
        if args.display:
            device.append("--display")
        if args.screenshot:
            device += ["--screenshot", args.screenshot]
        with open(self.path("device.log"), "wb") as log:
            self.device = self.spawn([*device, *args.device_arg], stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while not os.path.exists(self.path("device")):
            if self.device.poll() is not None or time.monotonic() > deadline:
                raise Broken("the virtual Adreno doesn't start")
            time.sleep(0.01)

        shares = {"guest": str(TOP / "build/guest")}
        if args.share:
            shares["share"] = args.share
        if args.rootfs:
            shares["rootfs"] = args.rootfs
        ramdisk = self.path("initrd")
        # The kernel's parameters come before those of init ("--").
        words = ["console=ttyAMA0", "loglevel=8", "panic=-1"]
        if args.boot:
            ramdisk = f"{args.boot}/initrd.img"
            words += ["root=/dev/vda", "rw"]
        else:
            Path(ramdisk).write_bytes(initrd(args, shares))
            words += ["rdinit=/init"]
        words += ["sysctl.kernel.hung_task_timeout_secs=120"]
        # A processor that this machine doesn't run for 20 s isn't locked up. With 30, it is said
        # after 60 s.
        words += ["sysctl.kernel.watchdog_thresh=30", "rcupdate.rcu_cpu_stall_timeout=60"]
        if args.boot:
            image = Path(args.boot) / "vmlinuz"
        elif args.kernel == "debug":
            words += ["page_poison=1", "page_owner=on", "kunit.enable=0"]
            words += ["kmemleak=on" if args.kmemleak else "kmemleak=off"]
            image = CACHE / "debug/Image"
        elif args.tree:
            image = args.tree / "arch/arm64/boot/Image"
        else:
            image = home(args.kernel) / "Image"
        words += args.append

        qemu = [
            "qemu-system-aarch64",
            "-nodefaults",
            "-display",
            "none",
            "-no-reboot",
            "-nic",
            "none",
        ]
        qemu += [
            "-accel",
            "tcg" if args.icount else "tcg,thread=multi",
            "-cpu",
            "max,pauth-impdef=on",
        ]
        qemu += ["-smp", str(args.cpus), "-m", args.mem]
        # without virtualization=on the first SMC would be an undefined instruction
        qemu += ["-machine", "virt,virtualization=on,gic-version=3,memory-backend=mem"]
        qemu += ["-object", f"memory-backend-memfd,id=mem,size={args.mem},share=on"]
        if args.icount:
            qemu += ["-icount", "shift=0,sleep=on"]
        if args.gpu != "a702":
            # It has a GMU.
            try:
                qemu += cmd_db.arguments(qemu, self.path)
            except (OSError, subprocess.CalledProcessError) as error:
                raise Broken(f"the device tree: {error}") from error
        # On a busy machine an answer may take long. Without one a read gives all ones.
        vfio = {
            "driver": "vfio-user-pci",
            "socket": {"type": "unix", "path": self.path("device")},
            "x-msg-timeout": 600_000,
        }
        qemu += ["-device", json.dumps(vfio)]
        qemu += [
            "-chardev",
            f"socket,id=console,path={self.path('console')}",
            "-serial",
            "chardev:console",
        ]
        qemu += ["-device", "virtio-serial-pci"]
        for name in ("out", "err", "ctl"):
            qemu += ["-chardev", f"socket,id={name},path={self.path(name)}"]
            qemu += ["-device", f"virtserialport,chardev={name},name={name}"]
        for tag, directory in shares.items():
            quoted = directory.replace(",", ",,")
            readonly = ",readonly=on" if tag != "share" else ""
            fsdev = f"local,id={tag},path={quoted},security_model=none,multidevs=remap{readonly}"
            qemu += ["-fsdev", fsdev, "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
        if args.disk:
            disk = args.disk.replace(",", ",,")
            qemu += ["-drive", f"if=virtio,format=raw,cache=unsafe,file={disk}"]
        if args.slow_disk:
            size, reads = map(int, args.slow_disk.split(":"))
            with open(self.path("slow-disk"), "wb") as disk:
                disk.truncate(size << 20)
            slow = f"throttling.iops-read={reads},throttling.iops-read-max={reads}"
            drive = f"if=virtio,format=raw,cache=unsafe,file={self.path('slow-disk')},{slow}"
            qemu += ["-drive", drive]
        if args.boot:
            Path(self.path("command")).write_text(f"{shlex.join(args.command)}\n")
            qemu += ["-fw_cfg", f"name=opt/msm_rs/command,file={self.path('command')}"]
        qemu += [
            "-kernel",
            str(image),
            "-initrd",
            ramdisk,
            "-append",
            " ".join(filter(None, words)),
        ]

        listeners = {}
        for name in ("console", "out", "err", "ctl"):
            listeners[name] = socket.socket(socket.AF_UNIX)
            listeners[name].bind(self.path(name))
            listeners[name].listen(1)
            listeners[name].settimeout(120)
        with open(self.path("qemu.log"), "wb") as log:
            self.qemu = self.spawn(qemu, stdout=log, stderr=log)
        for name, listener in listeners.items():
            try:
                self.channels[name] = listener.accept()[0]
            except TimeoutError as error:
                raise Broken("QEMU doesn't start") from error
            listener.close()
            self.selector.register(self.channels[name], selectors.EVENT_READ, name)

    def take(self, name, data):
        if name == "console":
            self.log.feed(data)
        elif name in ("out", "err"):
            self.heard = time.monotonic()
            stream = sys.stdout.buffer if name == "out" else sys.stderr.buffer
            stream.write(data)
            stream.flush()
        else:
            *lines, self.ctl_rest = (self.ctl_rest + data).split(b"\n")
            for line in lines:
                self.told(line.decode(errors="replace"))

    def told(self, line):
        word, _, rest = line.partition(" ")
        if word == "ready":
            self.ready = self.heard = time.monotonic()
            if self.args.verbose:
                say(
                    f"CMD starts {self.ready - self.started:.1f} s after tests/vm, {rest} s after "
                    "the kernel"
                )
        elif word == "fail":
            self.failure = rest
        elif word == "exit":
            self.status = int(rest)
        elif word == "leaks-since":
            self.leaks_since = int(rest)
        elif word == "leak":
            self.leaks.append(rest)

    def pump(self, until):
        """Moves data until that time or QEMU's end; True while QEMU runs."""
        while self.selector.get_map():
            left = until - time.monotonic()
            if left <= 0:
                return True
            for key, _ in self.selector.select(min(left, 1)):
                data = key.fileobj.recv(1 << 16)
                if data:
                    self.take(key.data, data)
                else:
                    self.selector.unregister(key.fileobj)
            self.hear_device()
            if self.log.first and not self.args.keep_going and self.ended is None:
                # time for the rest of the splat, and for a command that ends by itself
                until = min(until, self.log.first + 10)
        self.qemu.wait()
        return False

    def hear_device(self):
        """What the device has found."""
        text = (self.dir / "device.log").read_bytes()
        end = text.rfind(b"\n") + 1
        for line in text[self.device_said : end].decode(errors="replace").splitlines():
            if line.startswith("BUG: "):
                self.log.found(line)
        self.device_said = end

    def patience(self):
        """Until when the command may go on as it does."""
        end = self.ready + self.args.timeout
        return end if self.args.silence is None else min(end, self.heard + self.args.silence)

    @property
    def ended(self):
        return self.status

    def run(self):
        """Returns the exit status."""
        self.start()
        boot = 900 if self.args.kernel == "debug" or self.args.boot else 600
        if self.args.icount:
            boot = max(4 * boot, self.args.timeout)
        running = True
        deadline = time.monotonic() + boot
        while (
            running and self.ready is None and self.failure is None and time.monotonic() < deadline
        ):
            running = self.pump(min(deadline, time.monotonic() + 0.5))
            if self.log.first and time.monotonic() > self.log.first + 10:
                break
        if running and self.ready:
            while (
                running and self.status is None and time.monotonic() < (deadline := self.patience())
            ):
                running = self.pump(min(deadline, time.monotonic() + 0.5))
                if (
                    self.log.first
                    and not self.args.keep_going
                    and time.monotonic() > self.log.first + 10
                ):
                    break
        timed_out = running and self.status is None and not self.log.first and self.failure is None
        if timed_out:
            mark = len(self.log.lines)
            try:
                self.channels["ctl"].send(b"dump\n")
            except OSError:
                pass
            self.pump(time.monotonic() + 5)
            seconds = time.monotonic() - self.heard if self.heard else 0
            say(
                f"{shlex.join(self.args.command)} has not ended, and has said nothing for "
                f"{seconds:.0f} s"
            )
            print("\n".join(self.log.lines[mark:][:120]), file=sys.stderr)
        elif running:
            # powering off; or a splat that has stopped everything
            self.pump(time.monotonic() + (15 if self.status is not None else 0))
        return self.verdict(timed_out)

    def verdict(self, timed_out):
        self.hear_device()
        if self.args.kmemleak and self.status is not None:
            self.check_leaks()
        if self.log.splats:
            say("the kernel has complained, or the device:")
            self.log.report()
            return SPLAT
        if timed_out:
            return TIMEOUT if self.ready else BROKEN
        if self.failure is not None:
            raise Broken(self.failure)
        if self.status is None:
            raise Broken("the guest ended before the command")
        return self.status

    def check_leaks(self):
        """Leaks of what was allocated after the modules under test were loaded count as splats,
        and so does not knowing."""
        if self.leaks_since is None:
            self.log.splats.append(len(self.log.lines))
            self.log.lines += [
                "kmemleak: can't scan: not in this kernel, or it has switched itself off",
                "---[ end trace",
            ]
            return
        objects, text = [], "\n".join(self.leaks)
        for part in re.split(r"(?=^unreferenced object)", text, flags=re.M):
            match = re.search(r"jiffies (\d+)", part)
            if match and int(match.group(1)) >= self.leaks_since and not self.log.allowed(part):
                objects.append(part)
        for part in objects:
            self.log.splats.append(len(self.log.lines))
            self.log.lines += ["kmemleak: " + part.rstrip(), "---[ end trace"]

    def explain(self):
        """What there is to see when the guest doesn't come up."""
        for name in ("device.log", "qemu.log"):
            path = self.dir / name
            text = path.read_text(errors="replace").strip() if path.exists() else ""
            if text:
                print(
                    "\n".join(f"    {name}: {line}" for line in text.splitlines()[-10:]),
                    file=sys.stderr,
                )
        if self.log.lines:
            print("\n".join("    " + line for line in self.log.lines[-25:]), file=sys.stderr)

    def stop_device(self):
        """The device ends by itself when QEMU has; its counters are complete only then."""
        try:
            self.device.wait(5)
        except subprocess.TimeoutExpired:
            self.device.terminate()
            try:
                self.device.wait(5)
            except subprocess.TimeoutExpired:
                say("the virtual Adreno had to be killed")


def main():
    args = arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="vm-") as directory, Guest(
        args, Path(directory)
    ) as guest:
        try:
            status = guest.run()
            if guest.qemu.poll() is None:
                guest.qemu.kill()
                guest.qemu.wait()
            guest.stop_device()
        except Broken as error:
            say(str(error))
            guest.explain()
            status = BROKEN
        except KeyboardInterrupt:
            status = 130
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = 141
    sys.exit(status)


main()
