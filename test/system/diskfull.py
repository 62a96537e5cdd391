# SPDX-License-Identifier: MIT
"""A full cluster says ENOSPC and nothing else breaks; deleting works and space comes back."""
import errno
import os

import cluster
from cluster import Cluster, check, note, wait_for

CHUNK = os.urandom(1 << 20)


def fill(path):
    """Write until the file system is full; bytes written."""
    written = 0
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        while True:
            written += os.write(fd, CHUNK)
    except OSError as error:
        check(error.errno == errno.ENOSPC, f"a full disk says {error}")
    finally:
        try:
            os.close(fd)
        except OSError as error:
            check(error.errno == errno.ENOSPC, f"close on a full disk says {error}")
    return written


def free_bytes(demo):
    usage = os.statvfs(demo.mnt)
    return usage.f_bavail * usage.f_frsize


def test():
    demo = Cluster(size="1G")
    keep = os.path.join(demo.mnt, "keep")
    with open(keep, "wb") as file:
        file.write(CHUNK * 8)
        os.fsync(file.fileno())
    empty = free_bytes(demo)
    rounds = []
    for _ in range(3):
        written = 0
        for number in range(50):  # data groups fill one after the other
            part = fill(os.path.join(demo.mnt, f"big{number}"))
            written += part
            if part < len(CHUNK) * 4:
                break
        rounds.append(written >> 20)
        with open(keep, "rb") as file:
            check(file.read() == CHUNK * 8, "what was there reads right while full")
        os.listdir(demo.mnt)
        os.stat(keep)
        check(demo.status()["health"] != "error", "a full cluster is not a broken one")
        for name in os.listdir(demo.mnt):
            if name.startswith("big"):
                os.unlink(os.path.join(demo.mnt, name))
        wait_for(lambda: free_bytes(demo) > empty * 0.9, 40, "the space to come back", 0.2)
        with open(os.path.join(demo.mnt, "after"), "wb") as file:
            file.write(CHUNK * 16)
        os.unlink(os.path.join(demo.mnt, "after"))
    note("MiB written until full, three times: " + ", ".join(map(str, rounds)))
    check(min(rounds) > 0.8 * rounds[0], "each round gets about the same space")
    check(rounds[0] << 20 > empty * 0.5, f"df promised {empty >> 20} MiB, {rounds[0]} were had")
    demo.wait_ok(10)


cluster.main(test)
