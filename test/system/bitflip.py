# SPDX-License-Identifier: MIT
"""Flipped bits on disks: reads stay right, the damage is counted and repaired; where both copies
are damaged, that range and nothing else is EIO, named in the log.

Data is found on the disks by a pattern in it, metadata by walking the tree (disks.py).
"""
import errno
import os

import cluster
from cluster import Cluster, check, note, wait_for
from disks import BLOCK, find_all, flip, leaves_with, superblock_root


def pattern(tag, index):
    return f"<{tag} block {index:08d}>".encode()


def content(tag, blocks):
    return b"".join((pattern(tag, i) * 256)[:BLOCK] for i in range(blocks))


def write_file(path, data):
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def read_file(path):
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return file.read()


def restart(demo):
    """All nodes anew, so that nothing is answered from memory."""
    demo.down()
    demo.up()
    demo.wait_ok(20)


def damage(demo):
    return demo.status()["damage"]


def try_data(demo):
    blocks = 512
    path = os.path.join(demo.mnt, "data")
    write_file(path, content("DATA", blocks))
    restart(demo)
    disks = [demo.disk(node) for node in demo.nodes()]
    hit = 0
    for number, disk in enumerate(disks):  # a different block on each disk that has a copy
        offsets = find_all(disk, pattern("DATA", 100 + number))
        if offsets:
            flip(disk, offsets[0])
            hit += 1
    check(hit == 2, f"{hit} disks hold the file's blocks, 2 were expected")
    check(read_file(path) == content("DATA", blocks), "a flipped bit in data shows in a read")
    wait_for(lambda: damage(demo)["data_repairs"] > 0, 10, "the repair of data")
    counted = damage(demo)
    check(counted["data_errors"] >= 1 and counted["data_losses"] == 0, f"counted: {counted}")
    note(f"data: {counted['data_errors']} found, {counted['data_repairs']} repaired")
    restart(demo)
    check(read_file(path) == content("DATA", blocks), "reads are right after the repair")


def try_both(demo):
    blocks = 64
    path = os.path.join(demo.mnt, "both copies")
    write_file(path, content("BOTH", blocks))
    restart(demo)
    for node in demo.nodes():
        for offset in find_all(demo.disk(node), pattern("BOTH", 20))[:1]:
            flip(demo.disk(node), offset)
    with open(path, "rb", buffering=0) as file:
        good = os.pread(file.fileno(), 16 * BLOCK, 0)
        check(good == content("BOTH", blocks)[:16 * BLOCK], "the range before reads right")
        try:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            data = os.pread(file.fileno(), BLOCK, 20 * BLOCK)
            raise cluster.Failure(f"a block with no good copy was read ({data[:40]})")
        except OSError as error:
            check(error.errno == errno.EIO, f"a block with no good copy gives {error}")
        good = os.pread(file.fileno(), BLOCK, 40 * BLOCK)
        check(good == content("BOTH", blocks)[40 * BLOCK:41 * BLOCK], "the range after reads right")
    check(damage(demo)["data_losses"] >= 1, "the loss is counted")
    check(any("both copies" in demo.log(node) for node in demo.nodes()), "the log names the file")
    os.unlink(path)


def try_metadata(demo):
    top = os.path.join(demo.mnt, "names")
    os.mkdir(top)
    names = [f"METADATA-{number:05d}-marker" for number in range(2000)]
    for name in names:
        with open(os.path.join(top, name), "w") as file:
            file.write(name)
    restart(demo)  # an orderly stop writes the tree
    demo.down()
    flipped = 0
    for node in demo.nodes():
        disk = demo.disk(node)
        for blocks, offset in leaves_with(disk, b"METADATA-01000-marker"):
            flip(disk, blocks[0] * BLOCK + offset)
            flipped += 1
        if node == 1:  # and the root: read before anything else
            flip(disk, superblock_root(disk)[1][0] * BLOCK + 40)
    check(flipped > 0, "the name was found in no tree node")
    demo.up()
    demo.wait_ok(20)
    check(sorted(os.listdir(top)) == names, "names after a flipped bit in metadata")
    for name in names:
        with open(os.path.join(top, name)) as file:
            check(file.read() == name, f"{name} has wrong content")
    wait_for(lambda: damage(demo)["metadata_repairs"] > 0, 10, "the repair of metadata")
    counted = damage(demo)
    note(f"metadata: {counted['metadata_errors']} found, {counted['metadata_repairs']} repaired")
    check(demo.status()["health"] == "ok", "health is ok again")


def test():
    demo = Cluster(size="2G")
    try_data(demo)
    try_metadata(demo)
    try_both(demo)


cluster.main(test)
