# SPDX-License-Identifier: GPL-2.0-only
"""A kernel whose pages aren't of 4 KiB is refused, by `make module` and by Kconfig."""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ["MSM_RS_CACHE"])

# What the option depends on, as a kernel source tree has it.
AROUND = """\
mainmenu "test"
config ARM64
	def_bool y
config RUST
	def_bool y
config SPARSEMEM_VMEMMAP
	def_bool y
config DRM_MSM
	def_bool y
config PAGE_SIZE_4KB
	def_bool {four_kib}
source "{kconfig}"
"""


class PageSizes(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.dir = Path(directory.name)

    def module(self, shift, *args):
        """Output and status of scripts/module for a tree that isn't there beyond its
        configuration."""
        config = self.dir / "include/config/auto.conf"
        config.parent.mkdir(parents=True)
        config.write_text(f"CONFIG_ARM64=y\nCONFIG_PAGE_SHIFT={shift}\n")
        done = subprocess.run(
            ["make", "-C", TOP, "module", f"KDIR={self.dir}", *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.stdout, done.returncode

    def test_module_for_16_kib(self):
        said, status = self.module(14)
        self.assertIn(
            "this kernel has pages of 16 KiB, and msm_rs works only with pages of 4 KiB", said
        )
        self.assertNotEqual(status, 0)

    def test_module_for_64_kib(self):
        said, status = self.module(16)
        self.assertIn(
            "this kernel has pages of 64 KiB, and msm_rs works only with pages of 4 KiB", said
        )
        self.assertNotEqual(status, 0)

    def kconfig(self, four_kib):
        (self.dir / "Kconfig").write_text(AROUND.format(four_kib=four_kib, kconfig=TOP / "Kconfig"))
        config = self.dir / ".config"
        config.write_text("CONFIG_DRM_MSM_RS=y\n")
        conf = CACHE / "linux/stock/scripts/kconfig/conf"
        env = dict(os.environ, KCONFIG_CONFIG=str(config), srctree=str(self.dir))
        subprocess.run([conf, "-s", "--olddefconfig", "Kconfig"], cwd=self.dir, env=env, check=True)
        return config.read_text()

    def test_kconfig(self):
        self.assertIn("CONFIG_DRM_MSM_RS=y\n", self.kconfig("y"))

    def test_kconfig_refuses(self):
        config = self.kconfig("n")
        self.assertNotIn("CONFIG_DRM_MSM_RS", config)
        self.assertIn("# Memory manager in Rust: needs a kernel with pages of 4 KiB\n", config)


if __name__ == "__main__":
    # what runs the suite reads the output
    unittest.main(testRunner=unittest.TextTestRunner(stream=sys.stdout))
