# SPDX-License-Identifier: MIT
"""A cluster grows and shrinks under a mounted tree: a fourth node joins, replicas move there, the
first node is drained and removed; nothing is lost, and no file is unreadable meanwhile."""
import os
import shutil
import time

import cluster
import trees
from cluster import CLAUDEFSD, Cluster, check, note, run, wait_for


def nodes(demo):
    """id -> (state, voter, replicas)"""
    found = {}
    for line in demo.claudefs("node", "list").splitlines()[1:]:
        words = line.split()
        found[int(words[0])] = (words[2], words[3] == "yes", int(words[4]))
    return found


def spread(demo):
    counts = [replicas for state, _, replicas in nodes(demo).values() if state == "up"]
    return max(counts) / (sum(counts) / len(counts))


def at_rest(demo):
    status = demo.status()
    return status["health"] == "ok" and not status["jobs"]


def test():
    demo = Cluster()
    source = trees.sources(1500)
    for path in source:
        shutil.copytree(path, os.path.join(demo.mnt, os.path.basename(path)), symlinks=True)

    demo.claudefs("demo", "add", timeout=60)
    begin = time.monotonic()
    wait_for(lambda: nodes(demo)[4][2] > 0 and spread(demo) < 1.3 and at_rest(demo), 40,
             "replicas to move to node 4", 0.2)
    before = nodes(demo)
    note(f"a fourth node has {before[4][2]} of {sum(n[2] for n in before.values())} replicas "
         f"after {time.monotonic() - begin:.1f} s")

    begin = time.monotonic()
    demo.claudefs("node", "drain", 1, "--wait", timeout=60)
    after = nodes(demo)
    check(after[1] == ("drained", False, 0), f"node 1 after its drain: {after[1]}")
    check(sum(voter for _, voter, _ in after.values()) == 3, f"voters: {after}")
    note(f"drained in {time.monotonic() - begin:.1f} s")

    run(cluster.CLAUDEFS, "node", "remove", 4, "--dir", demo.dir, ok=(75,))  # it holds replicas
    pid = demo.pid(1)
    demo.claudefs("node", "remove", 1)
    wait_for(lambda: cluster.start_ticks(pid) is None, 5, "the removed node's process to end")
    check(1 not in nodes(demo), "node 1 is out of the map")
    check(not os.path.exists(demo.disk(1)), "node 1 left its disk")
    demo.wait_ok(20)
    for path in source:
        trees.compare(path, os.path.join(demo.mnt, os.path.basename(path)))

    disk = os.path.join(demo.scratch, "disk")
    text = run(CLAUDEFSD, "--disk", disk, "--size", "1G", "--join", "cfs1.nonsense", ok=(64,))
    check(not os.path.exists(disk) and not text, "a wrong token writes nothing")


cluster.main(test)
