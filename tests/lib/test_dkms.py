# SPDX-License-Identifier: GPL-2.0-only
"""What DKMS calls says what a device lacks, before it does anything. The programs and files that it
looks for are stand-ins, but for the headers of libraries, which the toolchain root has."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

BUILD = Path(__file__).resolve().parents[2] / "packaging/dkms/build"
CONF = BUILD.parent / "dkms.conf"
INSTALLED = BUILD.parent / "installed"
DEBIAN = BUILD.parents[2] / "debian"
KVER = "7.3.4+deb13-arm64"
TOOLS = "make flex bison bc patch xz bindgen pahole ld gcc gcc-14".split()
NEEDED = "bash sed grep dirname readlink cat rm mkdir".split()


class Dkms(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.dir = Path(directory.name)
        self.bin = self.dir / "bin"
        self.bin.mkdir()
        for name in NEEDED:
            (self.bin / name).symlink_to(f"/usr/bin/{name}")
        for name in TOOLS:
            self.program(name, "exit 0")
        # tar is what it does first: from here on it builds
        self.program("tar", "echo unpacking; exit 99")
        self.program("dpkg-query", 'for p; do :; done; echo "installed 7.3.4-1"')
        core = self.dir / "sysroot/lib/rustlib/src/rust/library/core/src/lib.rs"
        core.parent.mkdir(parents=True)
        core.touch()
        self.rustc("1.85.1")
        self.headers = self.dir / "headers"
        self.headers.mkdir()
        (self.headers / ".config").write_text(
            'CONFIG_CC_VERSION_TEXT="gcc-14 (Debian 14.2.0-19) 14.2.0"\n'
            "CONFIG_RUSTC_VERSION=108501\n"
            'CONFIG_RUSTC_VERSION_TEXT="rustc 1.85.1 (4eb161250 2025-03-15)"\n'
        )
        self.source = self.dir / "linux-source.tar.xz"
        self.source.touch()
        # it builds where it is
        self.build = self.dir / "msm-rs/packaging/dkms/build"
        self.build.parent.mkdir(parents=True)
        self.build.write_text(BUILD.read_text())

    def program(self, name, script):
        path = self.bin / name
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)

    def rustc(self, version):
        self.program(
            "rustc",
            f'case $1 in --print) echo {self.dir}/sysroot ;; *) echo "rustc {version} (x)" ;; esac',
        )

    def run_build(self, *options, **env):
        done = subprocess.run(
            ["/bin/bash", self.build, *options, KVER, self.headers],
            env={"PATH": str(self.bin), "MSM_RS_LINUX_SOURCE": str(self.source), **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    def test_builds_when_all_is_there(self):
        status, said = self.run_build()
        self.assertEqual((status, said), (99, "unpacking\n"))
        # what is left of a build that fails
        self.assertEqual(list((self.dir / "msm-rs/built").iterdir()), [])

    def test_version_of_what_is_unpacked(self):
        self.build.write_text(BUILD.read_text().replace("/usr/src", str(self.dir)))
        (self.dir / "linux-source-7.3.tar.xz").touch()
        script = 'for p; do :; done; case $p in linux-source-*) echo "unpacked 7.3.5-1" ;; '
        for status in ("half-configured", "unpacked", "installed"):
            self.program("dpkg-query", script + f'*) echo "{status} 7.3.4-1" ;; esac')
            code, said = self.run_build("--check", MSM_RS_LINUX_SOURCE="")
            self.assertEqual(code, 1)
            self.assertIn("linux 7.3.4-1, and linux-source-7.3 is of 7.3.5-1", said)

    def test_says_all_that_is_missing(self):
        (self.bin / "bindgen").unlink()
        (self.bin / "gcc-14").unlink()
        (self.bin / "flex").unlink()
        self.source.unlink()
        (self.dir / "sysroot/lib/rustlib/src/rust/library/core/src/lib.rs").unlink()
        status, said = self.run_build()
        self.assertEqual(status, 1)
        for words in (
            f"can't be built for {KVER}",
            "apt install linux-source-7.3",
            "bindgen: apt install bindgen",
            "gcc-14: apt install gcc-14",
            "flex: apt install flex",
            "apt install rust-src",
            "the distribution's msm.ko is used",
        ):
            self.assertIn(words, said)
        self.assertNotIn("bison", said)
        self.assertFalse((self.dir / "msm-rs/built").exists())

    def test_check_builds_nothing(self):
        self.assertEqual(self.run_build("--check"), (0, ""))
        self.assertFalse((self.dir / "msm-rs/built").exists())
        self.source.unlink()
        status, said = self.run_build("--check")
        self.assertEqual(status, 1)
        self.assertIn("apt install linux-source-7.3", said)

    def conf(self, action, kver=KVER):
        """What DKMS makes of dkms.conf for that kernel: whether it builds, and what is said."""
        (self.dir / "msm-rs/dkms.conf").write_text(CONF.read_text())
        self.build.chmod(0o755)
        script = (
            f". {self.dir}/msm-rs/dkms.conf >/dev/null; "
            "[[ $kernelver =~ $BUILD_EXCLUSIVE_KERNEL ]] && echo builds || echo skips"
        )
        done = subprocess.run(
            ["/bin/bash", "-c", script],
            env={
                "PATH": str(self.bin),
                "MSM_RS_LINUX_SOURCE": str(self.source),
                "MSM_RS_HEADERS": str(self.headers),
                "kernelver": kver,
                "action": action,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            check=True,
        )
        return done.stdout.strip(), done.stderr

    def test_conf_builds(self):
        self.assertEqual(self.conf("autoinstall"), ("builds", ""))

    def test_conf_skips_a_kernel_for_which_something_is_missing(self):
        self.source.unlink()
        verdict, said = self.conf("autoinstall")
        self.assertEqual(verdict, "skips")
        self.assertIn("apt install linux-source-7.3", said)
        self.assertEqual(self.conf("status"), ("skips", ""))

    def test_conf_says_nothing_of_other_lines(self):
        self.source.unlink()
        self.assertEqual(self.conf("autoinstall", "6.12.107+deb13-arm64"), ("skips", ""))

    def installed(self, **env):
        """What comes of POST_INSTALL, which DKMS runs once it has installed the module."""
        done = subprocess.run(
            ["/bin/sh", INSTALLED, KVER],
            env={"PATH": f"{self.bin}:/usr/bin:/bin", "MSM_RS_ROOT": str(self.dir), **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        )
        return done.stdout

    def archived(self, place, text, under=""):
        """As DKMS leaves a module of another's with our name. Where it was, and where it is."""
        place = self.dir / f"lib/modules/{KVER}" / place
        archive = self.dir / f"var/lib/dkms/msm-rs/original_module/{KVER}/aarch64" / under
        archive.mkdir(parents=True, exist_ok=True)
        (archive / place.name).write_text(text)
        (archive / f"{place.name}.origin").write_text(f"{place}\n")
        return place, archive / place.name

    def test_one_place_has_the_version(self):
        """The changelog: DKMS finds the sources by the version that dkms.conf gets from there."""
        for line in (DEBIAN / "msm-rs-dkms.install").read_text().splitlines():
            place = line.split()[1] + "/"
            self.assertTrue(place.startswith("usr/src/msm-rs-${env:DEB_VERSION_UPSTREAM}/"), line)
        rules = (DEBIAN / "rules").read_text()
        self.assertIn("\nexport DEB_VERSION_UPSTREAM\n", rules)
        self.assertIn("dh_dkms -p msm-rs-dkms -V $(DEB_VERSION_UPSTREAM)\n", rules)
        self.assertIn('PACKAGE_VERSION="#MODULE_VERSION#"\n', CONF.read_text())

    def test_conf_has_what_runs_after_the_installation(self):
        self.assertIn('POST_INSTALL="packaging/dkms/installed ${kernelver}"\n', CONF.read_text())
        self.assertTrue(INSTALLED.stat().st_mode & 0o111)

    def test_the_distributions_module_stays(self):
        for under in ("", "collisions/kernel/drivers/gpu/drm/msm"):
            with self.subTest(under=under):
                place, _ = self.archived(
                    "kernel/drivers/gpu/drm/msm/msm.ko.xz", "stock", under
                )
                self.assertEqual(self.installed(), "")
                self.assertEqual(place.read_text(), "stock")
                self.assertEqual([file.name for file in place.parent.iterdir()], [place.name])
                self.assertFalse((self.dir / "var/lib/dkms/msm-rs/original_module").exists())
                place.unlink()

    def test_where_ours_is_now_nothing_is_put_back(self):
        place, archive = self.archived("updates/dkms/msm.ko.xz", "before")
        place.parent.mkdir(parents=True)
        place.write_text("ours")
        self.assertEqual(self.installed(), "")
        self.assertEqual(place.read_text(), "ours")
        self.assertEqual(archive.read_text(), "before")

    def test_the_distributions_module_that_cant_be_put_back(self):
        place, archive = self.archived("kernel/drivers/gpu/drm/msm/msm.ko.xz", "stock")
        self.program("sync", "exit 1")
        self.assertIn(f"DKMS has moved {place} away", self.installed())
        self.assertEqual(list(place.parent.iterdir()), [])
        self.assertEqual(archive.read_text(), "stock")

    def initramfs(self, script="exit 0"):
        """An initramfs of that kernel, and what makes it: the file that says how it is called."""
        image = self.dir / f"boot/initrd.img-{KVER}"
        image.parent.mkdir()
        image.touch()
        self.program("update-initramfs", f'echo "$@" >>{self.dir}/called; {script}')
        return self.dir / "called"

    def test_initramfs_is_renewed_after_a_later_build(self):
        called = self.initramfs()
        self.assertEqual(self.installed(), "")
        self.assertEqual(called.read_text(), f"-u -k {KVER}\n")
        called.unlink()
        self.installed(DPKG_MAINTSCRIPT_PACKAGE=f"linux-headers-{KVER}")
        self.assertTrue(called.exists())

    def test_initramfs_that_dpkg_makes(self):
        called = self.initramfs()
        for package in (f"linux-image-{KVER}", "msm-rs-dkms"):
            self.assertEqual(self.installed(DPKG_MAINTSCRIPT_PACKAGE=package), "")
        self.assertFalse(called.exists())

    def test_initramfs_that_isnt_there_yet(self):
        called = self.initramfs()
        (self.dir / f"boot/initrd.img-{KVER}").unlink()
        self.assertEqual(self.installed(), "")
        self.assertFalse(called.exists())

    def test_initramfs_that_cant_be_renewed(self):
        self.initramfs("exit 1")
        self.assertIn(f"'update-initramfs -u -k {KVER}' tries again", self.installed())

    def maintainer(self, script, *args, **env):
        """Runs a maintainer script as dpkg does. Its status, and what it says."""
        text = subprocess.run(
            ["sed", "-f", DEBIAN / "insert.sed", DEBIAN / script],
            cwd=DEBIAN.parent,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        text = text.replace("@VERSION@", "0.1.0").replace("@KVER@", KVER)
        done = subprocess.run(
            ["/bin/sh", "-c", text, script, *args],
            env={"PATH": f"{self.bin}:/usr/bin:/bin", "DPKG_ROOT": str(self.dir), **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    def dkms_tree(self, version):
        """What DKMS has of a module that it has built and installed."""
        tree = self.dir / "var/lib/dkms/msm-rs"
        (tree / version / KVER / "aarch64/module").mkdir(parents=True)
        (tree / version / "build/built/source").mkdir(parents=True)
        (tree / f"kernel-{KVER}-aarch64").symlink_to(f"{version}/{KVER}/aarch64")
        module = self.dir / f"lib/modules/{KVER}/updates/dkms/msm.ko.xz"
        module.parent.mkdir(parents=True)
        module.touch()
        return tree, module

    def test_removal_of_what_dkms_doesnt_remove(self):
        self.program("depmod", f'echo "$@" >>{self.dir}/depmod')
        for said in ("msm-rs/0.1.0: broken", ""):
            with self.subTest(said=said):
                self.program("dkms", f'case $1 in status) echo "{said}" ;; *) exit 4 ;; esac')
                tree, module = self.dkms_tree("0.1.0")
                self.assertEqual(self.maintainer("msm-rs-dkms.prerm", "remove"), (0, ""))
                self.assertFalse(tree.exists())
                self.assertFalse(module.exists())
                self.assertEqual((self.dir / "depmod").read_text(), f"{KVER}\n")
                (self.dir / "depmod").unlink()
                module.parent.rmdir()

    def test_one_initramfs_that_cant_be_renewed(self):
        """It is said, the other kernel's is renewed, and dpkg goes on."""
        older = "7.2.12+deb13-arm64"
        called = self.initramfs(f"case $* in *{KVER}) exit 1 ;; esac")
        self.program("depmod", "exit 0")
        for kver in (older, KVER):
            (self.dir / f"lib/modules/{kver}").mkdir(parents=True)
            (self.dir / f"lib/modules/{kver}/modules.dep").touch()
            (self.dir / f"boot/initrd.img-{kver}").touch()
        (self.dir / f"boot/initrd.img-{older}.bak").touch()
        every = [f"-u -k {older}", f"-u -k {KVER}"]
        for script, renewed in (
            ("msm-rs-common.postinst", every),
            ("msm-rs-common.postrm", every),
            ("msm-rs-dkms.postinst", every),
            ("msm-rs-dkms.postrm", every),
            ("modules.postinst.in", every[1:]),
            ("modules.postrm.in", every[1:]),
        ):
            with self.subTest(script=script):
                what = "configure" if "postinst" in script else "remove"
                status, said = self.maintainer(script, what, "")
                self.assertEqual(status, 0)
                self.assertIn(f"the initramfs of {KVER} can't be renewed", said)
                self.assertNotIn(older, said)
                self.assertEqual(called.read_text().splitlines(), renewed)
                called.unlink()

    def test_removal_leaves_another_version(self):
        self.program("dkms", "exit 0")
        tree, module = self.dkms_tree("0.2.0")
        (tree / "0.1.0/build").mkdir(parents=True)
        self.assertEqual(self.maintainer("msm-rs-dkms.prerm", "remove"), (0, ""))
        self.assertFalse((tree / "0.1.0").exists())
        self.assertTrue((tree / "0.2.0").exists())
        self.assertTrue((tree / f"kernel-{KVER}-aarch64").is_symlink())
        self.assertTrue(module.exists())

    def test_without_headers(self):
        (self.headers / ".config").unlink()
        status, said = self.run_build()
        self.assertEqual(status, 1)
        self.assertIn(f"apt install linux-headers-{KVER}", said)

    def test_another_rustc(self):
        self.rustc("1.90.0")
        status, said = self.run_build()
        self.assertEqual(status, 1)
        self.assertIn("the kernel was built with rustc 1.85.1", said)
        self.assertIn("this is rustc 1.90.0", said)
        self.assertIn("the distribution's msm.ko is used", said)


if __name__ == "__main__":
    unittest.main(testRunner=unittest.TextTestRunner(stream=sys.stdout))
