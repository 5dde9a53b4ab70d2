# SPDX-License-Identifier: GPL-2.0-only
"""The way back to the distribution's msm.ko: packaging/boot, in a root directory that isn't one.

The line of modprobe.conf and the scripts are run as they are, with paths that lead into that
directory. Of the programs they call, insmod and modprobe are stand-ins: they say that a module is
loaded, or refuse if its file is damaged, as the kernel would. tests/boot/run has the real ones in
a guest. And scripts/install, which has no way back.
"""

import lzma
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

BOOT = Path(__file__).resolve().parents[2] / "packaging/boot"
KVER = "7.3.4+deb13-arm64"
STOCK = f"lib/modules/{KVER}/kernel/drivers/gpu/drm/msm/msm.ko.xz"
OURS = f"lib/modules/{KVER}/updates/dkms/msm.ko.xz"
PREBUILT = f"lib/modules/{KVER}/updates/msm.ko.xz"
INITRAMFS = f"usr/lib/msm-rs/{KVER}/msm.ko"
INITRAMFS_NEXT = f"usr/lib/msm-rs/{KVER}/2/msm.ko"

# A module's file says "ours" or "stock"; anything else isn't a module.
INSMOD = """#!/bin/sh
[ ! -e "$ROOT/sys/module/msm" ] || { echo "insmod: ERROR: $1: File exists" >&2; exit 1; }
read -r kind <"$1"
[ ! -e "$ROOT/depends" ] || [ -e "$ROOT/sys/module/gpu_sched" ] ||
	{ echo "insmod: ERROR: could not insert module $1: Unknown symbol in module" >&2; exit 1; }
case $kind in
ours) printf '0 t msm_rs_init\\t[msm]\\n' >"$ROOT/proc/kallsyms" ;;
stock) printf '0 t msm_drm_register\\t[msm]\\n' >"$ROOT/proc/kallsyms" ;;
*) echo "insmod: ERROR: could not insert module $1: Invalid module format" >&2; exit 1 ;;
esac
mkdir "$ROOT/sys/module/msm"
shift
echo "$*" >"$ROOT/options"
"""
# It takes the file that depmod has written down.
MODPROBE = """#!/bin/sh
case "$1" in drm_exec | gpu_sched) mkdir "$ROOT/sys/module/$1"; exit ;; esac
[ "$1 $2" = "--ignore-install msm" ] || { echo "modprobe: not expected: $*" >&2; exit 64; }
shift 2
[ ! -e "$ROOT/sys/module/msm" ] || exit 0
read -r file <"$ROOT/modules.dep"
exec "$ROOT/sbin/insmod" "$ROOT/$file" "$@"
"""
# What the distribution's depends on, if it does.
MODINFO = """#!/bin/sh
case "$1 $2 $3" in "-F depends "*/kernel/*) cat "$ROOT/depends" ;; *) exit 1 ;; esac
"""


class Boot(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = Path(directory.name)
        self.write("proc/sys/kernel/osrelease", KVER + "\n")
        self.write("proc/cmdline", "root=/dev/vda quiet\n")
        self.write("proc/kallsyms", "")
        self.write("modules.dep", STOCK + "\n")
        self.write("sbin/insmod", INSMOD, 0o755)
        self.write("sbin/modprobe", MODPROBE, 0o755)
        self.write("sbin/modinfo", MODINFO, 0o755)
        self.write("usr/lib/msm-rs/load", (BOOT / "load").read_text(), 0o755)
        self.write(STOCK, "stock\n")
        (self.root / "sys/module").mkdir(parents=True)
        self.line = re.search(r"^install msm (.*)$", (BOOT / "modprobe.conf").read_text(), re.M)[1]

    def write(self, file, text, mode=0o644):
        path = self.root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def run_in(self, *command):
        return subprocess.run(
            command,
            cwd=self.root,
            env={
                "ROOT": str(self.root),
                "MSM_RS_ROOT": str(self.root),
                "PATH": f"{self.root}/sbin:/usr/bin:/bin",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def modprobe(self, options="vm_log_shift=8"):
        """What modprobe does for `msm` once its dependencies are loaded."""
        line = re.sub(r"(?<![\w$.])/(?=(proc|sys|sbin|usr|lib)/)", f"{self.root}/", self.line)
        self.assertEqual(line.count(str(self.root)), self.line.count(" /") + self.line.count("</"))
        done = self.run_in("/bin/sh", "-c", line.replace("$CMDLINE_OPTS", options))
        self.loaded_by = done.stdout
        return done.returncode

    def status(self):
        done = self.run_in("/bin/sh", BOOT / "msm-rs-status")
        return done.returncode, done.stdout.replace(str(self.root), "")

    def assert_runs(self, which, *why):
        if self.modprobe():
            self.fail(f"modprobe has failed: {self.loaded_by}")
        code, said = self.status()
        self.assertEqual(code, {"ours": 0, "stock": 1}[which], said)
        for words in why:
            self.assertIn(words, said)
        self.assertEqual((self.root / "options").read_text(), "vm_log_shift=8\n")

    def test_ours(self):
        self.write(OURS, "ours\n")
        self.assert_runs("ours", f"it was loaded from /{OURS}", f"next boot takes /{OURS}")

    def test_ours_prebuilt(self):
        self.write(PREBUILT, "ours\n")
        self.assert_runs("ours", f"it was loaded from /{PREBUILT}")

    def test_ours_in_an_initramfs(self):
        self.write(INITRAMFS, "ours\n")
        self.assert_runs("ours", f"it was loaded from /{INITRAMFS}")

    def test_command_line(self):
        self.write(OURS, "ours\n")
        self.write("proc/cmdline", "msm_rs=off root=/dev/vda\n")
        self.assert_runs("stock", "msm_rs=off is on the kernel's command line")

    def test_command_line_of_another_name(self):
        self.write(OURS, "ours\n")
        line = "root=/dev/vda msm_rs=offset xmsm_rs=off 'msm_rs=off' x=\"msm_rs=off\""
        self.write("proc/cmdline", line + "\n")
        self.assert_runs("ours")

    def test_command_line_as_the_kernel_takes_it(self):
        """White space of any kind between words, and words in quotes."""
        self.write(OURS, "ours\n")
        for line in (
            "root=/dev/vda\tmsm_rs=off\tquiet",
            "root=/dev/vda\nmsm_rs=off",
            'root=/dev/vda "msm_rs=off" quiet',
            'quiet msm_rs="off"',
        ):
            with self.subTest(line=line):
                self.write("proc/cmdline", line + "\n")
                self.assert_runs("stock", "msm_rs=off is on the kernel's command line")
                (self.root / "sys/module/msm").rmdir()

    def test_command_line_that_is_no_pattern(self):
        """A word of it is nobody's file."""
        self.write(OURS, "ours\n")
        self.write("msm_rs=off", "")
        self.write("proc/cmdline", "m* quiet\n")
        self.assert_runs("ours")

    def test_command_line_with_a_script_that_ignores_it(self):
        self.write(OURS, "ours\n")
        self.write("proc/cmdline", "root=/dev/vda msm_rs=off\n")
        self.write("usr/lib/msm-rs/load", f"#!/bin/sh\ninsmod {self.root}/{OURS}\n", 0o755)
        self.assert_runs("stock")

    def test_none_for_this_kernel(self):
        self.assert_runs("stock", f"there is no msm.ko of msm_rs for {KVER}")

    def test_a_build_that_failed(self):
        log = "var/lib/dkms/msm-rs/0.1.0/build/make.log"
        self.write(log, f"# {KVER}\nmsm_rs: can't be built for {KVER}.\nmsm_rs:     rustc: …\n")
        self.assert_runs("stock", f"/{log} says:", "rustc: …")

    def test_damaged_module(self):
        self.write(OURS, "\n")
        self.assert_runs("stock", f"/{OURS}: insmod: ERROR", "Invalid module format")

    def test_damaged_module_of_dkms_beside_a_good_one(self):
        self.write(OURS, "\n")
        self.write(PREBUILT, "ours\n")
        self.assert_runs("ours", f"it was loaded from /{PREBUILT}")

    def test_without_the_script(self):
        self.write(OURS, "ours\n")
        (self.root / "usr/lib/msm-rs/load").unlink()
        self.assert_runs("stock", "it was loaded without /usr/lib/msm-rs/load")

    def test_damaged_script(self):
        self.write(OURS, "ours\n")
        for text in ("", "\0" * 4096, "#!/bin/sh\nexit 0\n", "#!/bin/sh\nif\n", "#!/nonexistent\n"):
            with self.subTest(text=text[:20]):
                self.write("usr/lib/msm-rs/load", text, 0o755)
                self.assert_runs("stock")
                (self.root / "sys/module/msm").rmdir()

    def test_script_that_may_not_be_run(self):
        self.write(OURS, "ours\n")
        self.write("usr/lib/msm-rs/load", "#!/bin/sh\nexit 0\n", 0o644)
        self.assert_runs("stock")

    def test_damaged_module_that_depmod_prefers(self):
        """As after `depmod` without our depmod.d/msm-rs.conf."""
        self.write(OURS, "\n")
        self.write("modules.dep", OURS + "\n")
        self.assert_runs("stock", f"/{OURS}: insmod: ERROR")

    def test_damaged_module_that_depmod_prefers_and_what_it_depends_on(self):
        """depmod can't read from it what it depends on, and kmod has loaded nothing before."""
        self.write(OURS, "\n")
        self.write("modules.dep", OURS + "\n")
        self.write("depends", "drm_exec,gpu_sched\n")
        self.assert_runs("stock", f"/{OURS}: insmod: ERROR")

    def test_command_line_with_ours_preferred_by_depmod(self):
        self.write(OURS, "ours\n")
        self.write("modules.dep", OURS + "\n")
        self.write("proc/cmdline", "msm_rs=off\n")
        self.assert_runs("stock")

    def test_only_the_line_and_the_distributions_module_are_whole(self):
        self.write(OURS, "\n")
        self.write("modules.dep", OURS + "\n")
        self.write("proc/cmdline", "msm_rs=off\n")
        (self.root / "usr/lib/msm-rs/load").unlink()
        self.assert_runs("stock")

    def test_without_insmod(self):
        """As in an initramfs that was made without our hook."""
        (self.root / "sbin/insmod").rename(self.root / "sbin/kmod-insmod")
        self.write("sbin/modprobe", MODPROBE.replace("/sbin/insmod", "/sbin/kmod-insmod"), 0o755)
        self.assert_runs("stock")

    def test_none_at_all(self):
        (self.root / STOCK).unlink()
        self.assertNotEqual(self.modprobe(), 0)
        code, said = self.status()
        self.assertEqual(code, 2)
        self.assertIn("no msm.ko", said)

    def test_installed_after_it_was_loaded(self):
        self.assertEqual(self.modprobe(), 0)
        self.write(OURS, "ours\n")
        code, said = self.status()
        self.assertEqual(code, 1)
        self.assertIn("there is now", said)
        self.assertIn(f"next boot takes /{OURS}", said)

    def initramfs(self, age):
        """An initramfs that was made some seconds ago, with our hook."""
        self.write(f"boot/initrd.img-{KVER}", "")
        made = time.time() - age
        os.utime(self.root / f"boot/initrd.img-{KVER}", (made, made))
        (self.root / f"usr/lib/msm-rs/{KVER}").mkdir()

    def booted(self):
        """What is beside the script in the initramfs isn't in the system that it starts."""
        shutil.rmtree(self.root / f"usr/lib/msm-rs/{KVER}")

    def test_built_after_the_initramfs(self):
        """It is what the next boot has as well, and that says msm-rs-status."""
        self.initramfs(age=3600)
        self.assertEqual(self.modprobe(), 0)
        self.booted()
        self.write(OURS, "ours\n")
        code, said = self.status()
        self.assertEqual(code, 1)
        self.assertIn("the initramfs loads msm.ko, and had none of msm_rs", said)
        self.assertIn("the next boot takes the distribution's msm.ko again", said)
        self.assertIn(f"older than /{OURS}; 'sudo update-initramfs -u -k {KVER}'", said)
        self.initramfs(age=-3600)
        self.booted()
        code, said = self.status()
        self.assertEqual(code, 1)
        self.assertIn("the initramfs loads msm.ko, and had none of msm_rs", said)
        self.assertIn(f"next boot takes /{OURS}\n", said)

    def test_built_again_after_the_initramfs(self):
        self.initramfs(age=3600)
        self.write(INITRAMFS, "ours\n")
        self.assertEqual(self.modprobe(), 0)
        self.booted()
        self.write(OURS, "ours\n")
        code, said = self.status()
        self.assertEqual(code, 0)
        self.assertIn("takes msm_rs's again as it was when the initramfs was made", said)
        self.assertIn(f"older than /{OURS}", said)

    def test_removed_and_still_in_the_initramfs(self):
        self.initramfs(age=3600)
        self.write(INITRAMFS, "ours\n")
        self.assertEqual(self.modprobe(), 0)
        self.booted()
        code, said = self.status()
        self.assertEqual(code, 0)
        self.assertIn("if the initramfs has been made anew", said)

    def test_an_initramfs_from_before_msm_rs(self):
        self.initramfs(age=3600)
        self.booted()
        self.write("usr/lib/msm-rs/load", "#!/nonexistent\n", 0o755)
        self.assertEqual(self.modprobe(), 0)
        self.write(OURS, "ours\n")
        code, said = self.status()
        self.assertEqual(code, 1)
        self.assertIn("but not where the initramfs loads msm.ko", said)
        self.assertIn("update-initramfs -u", said)

    def hook(self):
        """What initramfs-tools does with our hook; the initramfs's tree."""
        self.write("usr/share/initramfs-tools/hook-functions", "copy_exec() { echo \"$1 $2\"; }\n")
        text = (BOOT / "initramfs-hook").read_text()
        text = re.sub(r"(?<![\w$])/(?=(usr/share|usr/lib|lib)/)", f"{self.root}/", text)
        text = text.replace(f"$DESTDIR{self.root}", "$DESTDIR")
        self.write("hook", text, 0o755)
        tree = self.root / "initramfs"
        tree.mkdir()
        done = subprocess.run(
            ["/bin/sh", self.root / "hook"],
            env={"DESTDIR": str(tree), "version": KVER, "PATH": "/usr/bin:/bin"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            check=True,
        )
        self.assertEqual(done.stdout, "/sbin/insmod /sbin\n")
        return tree

    def test_hook(self):
        self.write(OURS, "")
        (self.root / OURS).write_bytes(lzma.compress(b"ours\n"))
        self.write(PREBUILT, "")
        (self.root / PREBUILT).write_bytes(lzma.compress(b"prebuilt\n"))
        tree = self.hook()
        self.assertEqual((tree / INITRAMFS).read_text(), "ours\n")
        self.assertEqual((tree / INITRAMFS_NEXT).read_text(), "prebuilt\n")
        self.assertEqual((tree / "usr/lib/msm-rs/load").read_text(), (BOOT / "load").read_text())
        # where depmod doesn't look
        self.assertEqual(list(tree.glob("**/modules")), [])

    def test_hook_without_a_module(self):
        tree = self.hook()
        self.assertFalse((tree / INITRAMFS).exists())
        self.assertTrue((tree / "usr/lib/msm-rs/load").exists())

    def test_hook_with_a_damaged_module(self):
        """The initramfs is made all the same, and loads the distribution's."""
        self.write(OURS, "damaged\n")
        tree = self.hook()
        self.assertEqual((tree / INITRAMFS).read_text(), "")

    def test_initramfs_with_a_damaged_module_beside_a_good_one(self):
        """It takes the one that is taken without an initramfs."""
        self.write(OURS, "damaged\n")
        self.write(PREBUILT, "")
        (self.root / PREBUILT).write_bytes(lzma.compress(b"ours\n"))
        tree = self.hook()
        (self.root / OURS).unlink()
        (self.root / PREBUILT).unlink()
        shutil.copytree(tree / "usr/lib/msm-rs", self.root / "usr/lib/msm-rs", dirs_exist_ok=True)
        self.assert_runs("ours", f"it was loaded from /{INITRAMFS_NEXT}")

    def test_a_line_that_kmod_takes_whole(self):
        """kmod drops backslashes, reads on after one that ends a line, and ends a comment with its
        line."""
        for line in (BOOT / "modprobe.conf").read_text().splitlines():
            self.assertNotIn("\\", line)
            self.assertRegex(line, r"^(#|install msm )")


class Install(unittest.TestCase):
    """scripts/install, into a root directory of its own. The way of a file onto the disk."""

    def test_module_is_on_the_disk_before_it_has_its_name(self):
        with tempfile.TemporaryDirectory() as directory:
            top = Path(directory)
            scripts = top / "scripts"
            scripts.mkdir()
            for name in ("install", "lib.sh", "in-root"):
                shutil.copy(BOOT.parents[1] / "scripts" / name, scripts)
            modules = top / f"device/lib/modules/{KVER}"
            modules.mkdir(parents=True)
            (top / "build").mkdir()
            module = top / "build/msm.ko"
            module.write_bytes(f"\0vermagic={KVER} SMP\0".encode())
            (top / "bin").mkdir()
            for name in ("sync", "mv", "depmod"):
                program = top / "bin" / name
                program.write_text(f'#!/bin/sh\necho "{name} $*" >>{top}/log\n/bin/{name} "$@"\n')
                program.chmod(0o755)
            (top / "bin/depmod").write_text(f"#!/bin/sh\necho depmod >>{top}/log\n")
            subprocess.run(
                [scripts / "install", module],
                env={
                    "PATH": f"{top}/bin:/usr/bin:/bin",
                    "DESTDIR": str(top / "device"),
                    "MSM_RS_CACHE": str(top / "cache"),
                    "MSM_RS_IN_ROOT": "1",
                },
                stderr=subprocess.PIPE,
                check=True,
            )
            new, place = modules / "updates/.msm.ko.new", modules / "updates/msm.ko.xz"
            self.assertEqual(
                (top / "log").read_text().splitlines(),
                [f"sync {new}", f"mv {new} {place}", "depmod"],
            )
            self.assertEqual(lzma.decompress(place.read_bytes()), module.read_bytes())


if __name__ == "__main__":
    unittest.main(testRunner=unittest.TextTestRunner(stream=sys.stdout))
