# SPDX-License-Identifier: MIT
"""claudefs device: format refuses what holds something, check finds damage and changes nothing, dump
shows what is there."""
import os
import shutil
import uuid

import cluster
from cluster import CLAUDEFS, Cluster, check, note, run
from disks import BLOCK, digest, find_all, flip

MARK = b"<MARKED %06d>"


def test_format(folder):
    disk = os.path.join(folder, "disk")
    plan = ["--cluster", str(uuid.uuid4()), "--node", "1", "--nodes", "127.0.0.1:7000"]
    run(CLAUDEFS, "device", "format", disk, "--size", "1G", *plan)
    info = run(CLAUDEFS, "device", "info", disk)
    check("store of node 1" in info and plan[1] in info, f"info: {info}")
    before = digest(disk)
    run(CLAUDEFS, "device", "format", disk, *plan, ok=(65,))
    check(digest(disk) == before, "a refused format changes nothing")
    run(CLAUDEFS, "device", "format", disk, "--force", *plan)
    check(digest(disk) != before, "a forced format makes a new store")

    junk = os.path.join(folder, "junk")
    with open(junk, "wb") as file:
        file.truncate(1 << 30)
        file.seek(600000)
        file.write(b"somebody's")
    run(CLAUDEFS, "device", "format", junk, *plan, ok=(65,))
    if shutil.which("mkfs.ext4"):
        os.truncate(junk, 0)
        os.truncate(junk, 1 << 30)
        run("mkfs.ext4", "-q", "-F", junk)
        check("ext4" in run(CLAUDEFS, "device", "info", junk), "info names the file system")
        run(CLAUDEFS, "device", "format", junk, *plan, ok=(65,))
    run(CLAUDEFS, "device", "check", junk, ok=(2,))
    os.unlink(junk)
    os.unlink(disk)


def test_check(demo):
    with open(os.path.join(demo.dir, "source"), "wb") as file:
        file.write(b"".join((MARK % i).ljust(BLOCK, b".") for i in range(600)))
    demo.claudefs("cp", os.path.join(demo.dir, "source"), "cfs:/copy")
    run(CLAUDEFS, "device", "check", demo.disk(1), ok=(2,))  # a node runs on it
    demo.down()
    before = [digest(demo.disk(node)) for node in demo.nodes()]
    compared = 0
    for node in demo.nodes():
        said = run(CLAUDEFS, "device", "check", demo.disk(node))
        check(": 0 problems;" in said, said)
        compared += int(said.split("problems; ")[1].split()[0])
        shown = run(CLAUDEFS, "device", "dump", "--rows", demo.disk(node))
        check("superblock slot=" in shown and "\nsegment " in shown and "\nrow group=" in shown,
              f"dump: {shown[:500]}")
    check(compared >= 4, f"{compared} extents of 600 blocks in two copies")
    check(before == [digest(demo.disk(node)) for node in demo.nodes()], "a disk was changed")

    disk, offset = next((demo.disk(node), offset) for node in demo.nodes()
                        for offset in find_all(demo.disk(node), MARK % 99))
    flip(disk, offset)
    said = run(CLAUDEFS, "device", "check", disk, ok=(1,))
    check("data do not have their checksums" in said and ": 1 problems;" in said, said)
    run(CLAUDEFS, "device", "check", "--no-data", disk)
    flip(disk, offset)
    run(CLAUDEFS, "device", "check", disk)
    note(f"{compared} extents compared")


def test():
    run(CLAUDEFS, "device", "list")
    demo = Cluster(size="1G", mount=False)
    test_format(demo.dir)
    test_check(demo)


cluster.main(test)
