# SPDX-License-Identifier: MIT
"""Fill and delete until 20 times a disk's size has been written: no leak of space, memory or
descriptors."""
import os
import time

import cluster
from cluster import Cluster, check, memory_bytes, note, say

CHUNK = os.urandom(4 << 20)
SIZE = 1 << 30
TIMES = 20
COPIES = 2
NODES = 3


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def free_bytes(demo):
    usage = os.statvfs(demo.mnt)
    return usage.f_bavail * usage.f_frsize


def fill(top, total):
    """Large and small files; bytes written."""
    os.mkdir(top)
    written = number = 0
    while written < total:
        with open(os.path.join(top, f"f{number}"), "wb", buffering=0) as file:
            for _ in range(1 + number % 8):
                written += file.write(CHUNK)
        for small in range(20):
            with open(os.path.join(top, f"s{number}-{small}"), "wb") as file:
                file.write(CHUNK[:small * 300])
        number += 1
    return written


def empty(top):
    for name in os.listdir(top):
        os.unlink(os.path.join(top, name))
    os.rmdir(top)


def settle(demo, target):
    """Wait until deleted space is free again (a new primary first lets clients say what they have
    open)."""
    deadline = time.monotonic() + 40
    while free_bytes(demo) < target and time.monotonic() < deadline:
        time.sleep(0.1)
    return free_bytes(demo)


def test():
    demo = Cluster(nodes=NODES, copies=COPIES, size=str(SIZE))
    total = SIZE * TIMES
    top = os.path.join(demo.mnt, "fill")
    at_start = free_bytes(demo)
    share = int(at_start * 0.6)
    check(share > 64 << 20, f"only {at_start >> 20} MiB are free on empty disks")
    begin = time.monotonic()
    written = fill(top, share)
    empty(top)
    settle(demo, at_start * 0.9)
    warm = [(memory_bytes(pid, "VmRSS"), descriptors(pid)) for pid in demo.pids()]
    rounds = 1
    while written < total:
        written += fill(top, share)
        empty(top)
        left = settle(demo, at_start * 0.9)
        check(left >= at_start * 0.9, f"round {rounds}: {left >> 20} of {at_start >> 20} MiB came "
                                      "back after deleting all")
        rounds += 1
        say(f"round {rounds}: {written >> 20} MiB")
    seconds = time.monotonic() - begin
    note(f"{rounds} rounds, {written >> 20} MiB, {written / seconds / 1e6:.0f} MB/s")
    for pid, (memory, files) in zip(demo.pids(), warm):
        now = memory_bytes(pid, "VmRSS")
        check(now < memory * 1.3 + (64 << 20), f"process {pid} grew from {memory >> 20} to "
                                               f"{now >> 20} MiB")
        check(memory_bytes(pid) < 512 << 20, f"process {pid} was over its budget")
        check(descriptors(pid) <= files + 4, f"process {pid} has {descriptors(pid)} descriptors, "
                                             f"{files} before")
    demo.wait_ok(10)


cluster.main(test)
