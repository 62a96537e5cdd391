# SPDX-License-Identifier: MIT
"""claudefs fsck: a cluster that was used is clean, however it ended; damage is found and named; the
disks are not changed. (Damage of single rows: test/sim/fsck_test.c.)"""
import json
import os

import cluster
from cluster import Cluster, check, note
from disks import BLOCK, digest, find_all, flip, leaves_with


def fsck(demo, *options, ok=(0,)):
    return json.loads(demo.claudefs("fsck", "--json", *options, ok=ok))


def found(report):
    return {finding["name"]: finding for finding in report["findings"]}


def workload(mnt, tag):
    """Names, links, attributes, small and large files, things removed and moved."""
    for number in range(8):
        top = os.path.join(mnt, f"{tag}{number}")
        os.mkdir(top)
        for name in range(30):
            with open(os.path.join(top, f"file{name}"), "wb") as file:
                file.write(os.urandom(100 if name % 5 else 300000))
        os.link(os.path.join(top, "file0"), os.path.join(top, "link"))
        os.symlink("file1", os.path.join(top, "symlink"))
        os.setxattr(os.path.join(top, "file2"), "user.tag", tag.encode())
        os.truncate(os.path.join(top, "file5"), 5000)
        os.unlink(os.path.join(top, "file6"))
        os.makedirs(os.path.join(top, "a", "b"))
        if number:
            os.rename(os.path.join(top, "a"), os.path.join(mnt, f"{tag}{number - 1}", "moved"))
    with open(os.path.join(mnt, f"{tag}-marked"), "wb") as file:
        file.write(b"".join((b"<%s %06d>" % (tag.encode(), i)).ljust(BLOCK, b".")
                            for i in range(256)))
    os.sync()


def check_clean(demo, how):
    before = [digest(demo.disk(node)) for node in demo.nodes()]
    report = fsck(demo, "--data")
    after = [digest(demo.disk(node)) for node in demo.nodes()]
    check(report["problems"] == 0, f"{how}: {report['findings']}")
    check(report["inodes"] > 200 and report["names"] >= report["inodes"], f"{how}: {report}")
    check(before == after, f"{how}: a disk was changed")
    notes = {name: finding["count"] for name, finding in found(report).items()}
    note(f"{how}: clean, {report['inodes']} inodes, notes {notes}")


def test():
    demo = Cluster(size="2G")
    workload(demo.mnt, "one")
    report = fsck(demo, ok=(2,))
    check(found(report)["DISK"]["count"] == 3, f"running nodes: {report}")
    demo.down()
    check_clean(demo, "stopped in order")

    demo.up()
    demo.wait_ok(20)
    workload(demo.mnt, "two")
    demo.kill_all()
    demo.down()
    check_clean(demo, "killed")

    # One copy of a block of data is damaged: only reading all data finds it. (Of what was written
    # just before the kill, damage looks like a write that the kill cut short.)
    disk, offset = next((demo.disk(node), offset) for node in demo.nodes()
                        for offset in find_all(demo.disk(node), b"<one 000099>"))
    flip(disk, offset)
    check(fsck(demo)["problems"] == 0, "data is not read without being asked to")
    report = fsck(demo, "--data", ok=(1,))
    problems = [finding["name"] for finding in report["findings"] if finding["level"] == "problem"]
    check(problems == ["DATA_DAMAGED"], f"damaged data: {report['findings']}")
    flip(disk, offset)
    check(fsck(demo, "--data")["problems"] == 0, "the bit was put back")

    # Both copies of a tree node.
    demo.up()
    demo.wait_ok(20)
    demo.down()  # writes the tree
    disk, blocks = next((demo.disk(node), blocks) for node in demo.nodes()
                        for blocks, _ in leaves_with(demo.disk(node), b"file29"))
    flip(disk, blocks[0] * BLOCK + 100)
    check(fsck(demo)["problems"] == 0, "one copy of a tree node is enough")
    flip(disk, blocks[1] * BLOCK + 100)
    report = fsck(demo, ok=(1, 2))
    named = found(report).get("STORE") or found(report).get("DISK_LOST")
    check(named and (str(blocks[0]) in named["where"][0] or disk in named["where"][0]),
          f"a lost tree node: {report['findings']}")
    flip(disk, blocks[0] * BLOCK + 100)
    flip(disk, blocks[1] * BLOCK + 100)

    # A disk is missing: the rest is checked as far as it goes.
    os.rename(demo.disk(2), demo.disk(2) + ".away")
    report = fsck(demo, ok=(2,))
    check("DISK" in found(report) and report["problems"] == 0, f"a disk is away: {report}")
    os.rename(demo.disk(2) + ".away", demo.disk(2))
    check(fsck(demo)["problems"] == 0, "clean at the end")


cluster.main(test)
