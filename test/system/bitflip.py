# SPDX-License-Identifier: MIT
"""Flipped bits on disks: reads stay right, the damage is counted and repaired; where both copies
are damaged, that range and nothing else is EIO, named in the log.

Data is found on the disks by a pattern in it, metadata by walking the tree from the superblock.
"""
import errno
import os
import struct

import cluster
from cluster import Cluster, check, note, wait_for

BLOCK = 4096


def pattern(tag, index):
    return f"<{tag} block {index:08d}>".encode()


def content(tag, blocks):
    return b"".join((pattern(tag, i) * 256)[:BLOCK] for i in range(blocks))


def find_all(path, needle):
    """Offsets of needle in the allocated parts of a sparse file."""
    found = []
    size = os.path.getsize(path)
    step = 8 << 20
    with open(path, "rb", buffering=0) as file:
        at = 0
        while at < size:
            try:
                begin = os.lseek(file.fileno(), at, os.SEEK_DATA)
                end = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            except OSError:  # no more data
                break
            while begin < end:
                data = os.pread(file.fileno(), min(step, end - begin) + len(needle), begin)
                at = data.find(needle)
                while at >= 0:
                    if begin + at not in found:
                        found.append(begin + at)
                    at = data.find(needle, at + 1)
                begin += step
            at = end
    return found


def flip(path, offset):
    with open(path, "r+b", buffering=0) as file:
        byte = os.pread(file.fileno(), 1, offset)[0]
        os.pwrite(file.fileno(), bytes([byte ^ 0x10]), offset)
        os.fsync(file.fileno())


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


def superblock_root(disk):
    """(level, blocks of both copies) of the tree's root, from the newest superblock slot
    (format/disk_store.h)."""
    best = None
    with open(disk, "rb") as file:
        for slot in range(8):
            page = os.pread(file.fileno(), BLOCK, slot * BLOCK)
            magic, sequence = struct.unpack_from("<Q16xQ", page)
            level, one, two = struct.unpack_from("<IQQ", page, 76)
            if magic == 0x726F747353464321 and (best is None or sequence > best[0]):
                best = (sequence, level, (one, two))
    check(best is not None and best[2][0] != 0, f"{disk} has no tree")
    return best[1], best[2]


def leaves_with(disk, text):
    """Blocks of both copies of each leaf that holds text: a walk down from the root."""
    level, root = superblock_root(disk)
    found = []
    with open(disk, "rb", buffering=0) as file:
        stack = [(level, root)]
        while stack:
            level, blocks = stack.pop()
            node = os.pread(file.fileno(), 32 << 10, blocks[0] * BLOCK)
            magic, at_level, count, prefix = struct.unpack_from("<IHHH", node)
            check(magic == 0x65657254 and at_level == level, f"{disk}: not a tree node at {blocks}")
            if level == 0:
                if text in node:
                    found.append((blocks, node.index(text)))
                continue
            for i in range(count):
                (offset,) = struct.unpack_from("<H", node, 32 + (prefix + 1 & ~1) + 2 * i)
                suffix, value = struct.unpack_from("<HH", node, offset)
                stack.append((level - 1, struct.unpack_from("<QQ", node, offset + 4 + suffix)))
                check(value == 24, "a pointer of 24 bytes")
    return found


def test():
    demo = Cluster(size="2G")
    try_data(demo)
    try_metadata(demo)
    try_both(demo)


cluster.main(test)
