# SPDX-License-Identifier: MIT
"""What tests do to the disks of stopped (or running) nodes: find data and tree nodes, damage them."""
import hashlib
import os
import struct

from cluster import check

BLOCK = 4096


def ranges(path):
    """(begin, end) of the allocated parts of a sparse file."""
    size = os.path.getsize(path)
    with open(path, "rb", buffering=0) as file:
        end = 0
        while end < size:
            try:
                begin = os.lseek(file.fileno(), end, os.SEEK_DATA)
                end = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            except OSError:  # no more data
                break
            yield begin, end


def digest(path):
    """Of all that is allocated, and of where that is."""
    total = hashlib.blake2b()
    with open(path, "rb", buffering=0) as file:
        for begin, end in ranges(path):
            total.update(struct.pack("<QQ", begin, end))
            while begin < end:
                data = os.pread(file.fileno(), min(8 << 20, end - begin), begin)
                total.update(data)
                begin += len(data)
    return total.hexdigest()


def find_all(path, needle):
    """Offsets of needle in the allocated parts of a sparse file."""
    found = set()
    step = 8 << 20
    with open(path, "rb", buffering=0) as file:
        for begin, end in ranges(path):
            for offset in range(begin, end, step):
                data = os.pread(file.fileno(), min(step, end - offset) + len(needle), offset)
                at = data.find(needle)
                while at >= 0:
                    found.add(offset + at)
                    at = data.find(needle, at + 1)
    return sorted(found)


def newest_superblock(path):
    """Offset of the newest superblock of the first store on a device without zones."""
    with open(path, "rb") as file:
        slots = [file.read(BLOCK) for _ in range(8)]
    sequences = [struct.unpack_from("<24xQ", slot)[0] for slot in slots]
    return sequences.index(max(sequences)) * BLOCK


def flip(path, offset):
    with open(path, "r+b", buffering=0) as file:
        byte = os.pread(file.fileno(), 1, offset)[0]
        os.pwrite(file.fileno(), bytes([byte ^ 0x10]), offset)
        os.fsync(file.fileno())


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
