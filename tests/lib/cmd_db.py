# SPDX-License-Identifier: GPL-2.0-only
"""The command DB of a Qualcomm SoC: a table in reserved memory, from the firmware, of what RPMh can
be asked for. msm makes the GMU's votes of it. Its layout is that of drivers/soc/qcom/cmd-db.c in
Linux."""

import struct
import subprocess

# Below where QEMU puts the kernel, above what it starts from.
ADDRESS = 0x4010_0000
SIZE = 0x1000

# Levels of a rail, as qcom-rpmpd.h numbers them.
LEVELS = struct.pack("<10H", 0, 16, 48, 64, 128, 192, 256, 320, 384, 416)

# What a bus can carry: unit and width of a vote, its domain.
BUS = struct.pack("<IHBB", 0x200000, 16, 0, 0)

# By the accelerator's number, name, address and data of each resource.
RESOURCES = {
    3: [("cx.lvl", 0x30000, LEVELS), ("mx.lvl", 0x30010, LEVELS), ("gfx.lvl", 0x30080, LEVELS)],
    5: [(name, 0x50000 + 4 * n, BUS) for n, name in enumerate(["SH0", "MC0", "ACV", "CN0"])],
}

ACCELERATORS = 8


def blob():
    """The table."""
    headers, body = b"", b""
    for number, resources in RESOURCES.items():
        entries, data = b"", b""
        for name, address, value in resources:
            entry = (name.encode(), 0, 0, address, len(value), len(data))
            entries += struct.pack("<8s3I2H", *entry)
            data += value
        at = len(body)
        header = (number, at, at + len(entries), len(resources), 0x100)
        headers += struct.pack("<5H6x", *header)
        body += entries + data
    headers = headers.ljust(16 * ACCELERATORS, b"\0")
    # version, magic; checksum and a reserved word
    return struct.pack("<I4s", 1, b"\xdb\x30\x03\x0c") + headers + bytes(8) + body


def arguments(qemu, path):
    """What to add to QEMU's arguments, which have -machine; `path` gives the place of a file."""
    machine = qemu.index("-machine") + 1
    dump = [*qemu[:machine], f"{qemu[machine]},dumpdtb={path('dtb')}", *qemu[machine + 1 :]]
    subprocess.run(dump, stdin=subprocess.DEVNULL, capture_output=True, check=True)

    def put(node, name, kind, *values):
        command = ["fdtput", "-p", f"-t{kind}", path("dtb"), node, name, *values]
        subprocess.run(command, check=True)

    memory, node = "/reserved-memory", f"/reserved-memory/cmd-db@{ADDRESS:x}"
    put(memory, "#address-cells", "u", "2")
    put(memory, "#size-cells", "u", "2")
    put(memory, "ranges", "bx")
    put(node, "compatible", "s", "qcom,cmd-db")
    put(node, "reg", "x", "0", f"{ADDRESS:x}", "0", f"{SIZE:x}")
    put(node, "no-map", "bx")
    with open(path("cmd-db"), "wb") as file:
        file.write(blob().ljust(SIZE, b"\0"))
    loader = f"loader,file={path('cmd-db')},addr={ADDRESS:#x},force-raw=on"
    return ["-dtb", path("dtb"), "-device", loader]
