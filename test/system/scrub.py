# SPDX-License-Identifier: MIT
"""A scrub finds what nobody reads: bits are flipped on one node's disk while it is down; started
again with frequent scrubs, it reports the running scrub as a job, finds the damage, has it
repaired from the other copies, and the disk is whole again. Nothing of it is read by a client.
Then a copy of the superblock is damaged while the node runs.
"""
import os
import subprocess

import cluster
from cluster import CLAUDEFSD, Cluster, check, note, wait_for
from disks import BLOCK, find_all, flip, leaves_with, newest_superblock

BLOCKS = 4096
FLIPS = 12


def pattern(index):
    return f"<scrub block {index:08d}>".encode()


def node_of(status, node):
    return next(entry for entry in status["nodes"] if entry["id"] == node)


def content(index):
    return pattern(index).ljust(BLOCK, bytes([97 + index % 26]))


def scrubs(demo):
    return [job for job in demo.status()["jobs"] if job["kind"] == "scrub"]


def device_of(status, node):
    """What is told of all of a node's targets, in sum."""
    devices = [target["device"] for target in node_of(status, node)["targets"]]
    return {key: sum(device[key] for device in devices)
            for key in ("scrubs", "scrub_found", "written_data_bytes")}


def disk_with_data(demo):
    for node in demo.nodes():
        if find_all(demo.disk(node), pattern(7)):
            return node
    raise cluster.Failure("no disk holds the file's blocks")


def damage_disk(demo, node):
    offsets = find_all(demo.disk(node), b"<scrub block ")
    wanted = offsets[:: max(1, len(offsets) // FLIPS)][:FLIPS]
    for offset in wanted:
        flip(demo.disk(node), offset // BLOCK * BLOCK + 100)
    leaves = list(leaves_with(demo.disk(node), b"marker-"))
    for blocks, offset in leaves[:1]:  # of a tree node, the copy that is not read
        flip(demo.disk(node), blocks[1] * BLOCK + offset)
    return len(wanted), len(leaves[:1])


def test():
    demo = Cluster(nodes=2, size="2G")
    for number in range(300):
        with open(os.path.join(demo.mnt, f"marker-{number:05d}"), "wb"):
            pass
    path = os.path.join(demo.mnt, "data")
    with open(path, "wb") as file:
        file.write(b"".join(content(i) for i in range(BLOCKS)))
        file.flush()
        os.fsync(file.fileno())
    node = disk_with_data(demo)
    demo.kill(node, "TERM")
    wait_for(lambda: node_of(demo.status(), node)["state"] != "up", 10, "the node to stop")
    data, metadata = damage_disk(demo, node)
    check(data == FLIPS and metadata == 1, f"{data} blocks and {metadata} tree nodes damaged")
    log = open(os.path.join(demo.base, "scrubbing.log"), "wb")
    server = subprocess.Popen([CLAUDEFSD, "--disk", demo.disk(node), "--scrub-rate", "8M",
                               "--scrub-every", "2"], stdin=subprocess.DEVNULL, stdout=log,
                              stderr=log)
    try:
        # the last records count when the node is a member again, and is told what is committed
        wait_for(lambda: any(job["total_bytes"] >= BLOCKS * BLOCK for job in scrubs(demo)), 20,
                 "a scrub of all that there is among the jobs")
        check(all(job["rate_bytes_per_s"] == 8 << 20 for job in scrubs(demo)),
              f"the jobs are {scrubs(demo)}")
        wait_for(lambda: device_of(demo.status(), node)["scrubs"] >= 2, 60, "two scrubs")
        status = demo.status()
        counted, device = status["damage"], device_of(status, node)
        check(device["scrub_found"] >= 1 and counted["data_repairs"] >= data,
              f"found: {device}, {counted}")
        check(counted["metadata_repairs"] >= metadata and counted["data_losses"] == 0,
              f"counted: {counted}")
        check(device["written_data_bytes"] > 0, "repairs are written")
        note(f"{data} blocks and {metadata} tree nodes damaged; {device['scrub_found']} extents "
             f"found, {counted['data_repairs']} blocks and {counted['metadata_repairs']} nodes "
             "repaired")
        flip(demo.disk(node), newest_superblock(demo.disk(node)) + 100)
        wait_for(lambda: demo.status()["damage"]["metadata_repairs"] > counted["metadata_repairs"],
                 30, "a bad superblock to be found and replaced")
        with open(path, "rb") as file:
            check(all(file.read(BLOCK) == content(i) for i in range(BLOCKS)),
                  "the file reads right")
    finally:
        server.terminate()
        server.wait(20)


cluster.main(test)
