# SPDX-License-Identifier: MIT
"""Two reactors a node: both work, each with its part of the groups and of the disk; a node dies
with both and comes back with both."""
import os
import shutil
import subprocess
import time

import cluster
import trees
from cluster import CLAUDEFSD, Cluster, check, note, run

REACTORS = 2


def thread_ns(pid):
    """name -> CPU time of the reactors' threads (not the kernel's workers for them)"""
    found = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/comm") as file:
            name = file.read().strip()
        if not name.startswith("iou-"):
            with open(f"/proc/{pid}/task/{task}/schedstat") as file:
                found[name] = int(file.read().split()[0])
    return found


def check_targets(status):
    for node in status["nodes"]:
        targets = node["targets"]
        check(len(targets) == REACTORS, f"{node['name']} has {len(targets)} targets")
        check(all(target["groups"] > 0 and target["used_bytes"] > 0 for target in targets),
              f"a target of {node['name']} holds nothing: {targets}")
        for key in ("size_bytes", "used_bytes"):
            check(node[key] == sum(target[key] for target in targets), f"{key} is no sum: {node}")


def copy(sources, target):
    os.mkdir(target)
    for path in sources:
        shutil.copytree(path, os.path.join(target, os.path.basename(path)), symlinks=True)


def compare(sources, target):
    for path in sources:
        trees.compare(path, os.path.join(target, os.path.basename(path)))


def test():
    demo = Cluster(reactors=REACTORS)
    check_targets(demo.status())
    sources = trees.sources(800)
    before = [thread_ns(demo.pid(node)) for node in demo.nodes()]
    copy(sources, os.path.join(demo.mnt, "one"))
    compare(sources, os.path.join(demo.mnt, "one"))
    for node, then in zip(demo.nodes(), before):
        used = {name: (now - then[name]) / 1e6 for name, now in thread_ns(demo.pid(node)).items()}
        note(f"node{node}: " + ", ".join(f"{name} {ms:.0f} ms" for name, ms in used.items()))
        check(len(used) == REACTORS, f"threads of node{node}: {list(used)}")
        check(min(used.values()) > 0.1 * max(used.values()),
              f"node{node}: one thread does nearly all the work: {used}")

    demo.kill(2)
    begin = time.monotonic()
    copy(sources, os.path.join(demo.mnt, "two"))
    compare(sources, os.path.join(demo.mnt, "one"))
    compare(sources, os.path.join(demo.mnt, "two"))
    logs = "".join(demo.log(node) for node in demo.nodes())
    check(logs.count(" node-down ") == 1 and "scope=process" in logs,
          "the death of a process is not one entry of the map")
    note(f"copied and compared in {time.monotonic() - begin:.1f} s without node2")
    demo.start(2)
    healed = demo.wait_ok(20)
    note(f"node2 is back in {healed:.1f} s")
    check_targets(demo.status())

    demo.down()
    wrong = subprocess.run([CLAUDEFSD, "--disk", demo.disk(1), "--reactors", str(REACTORS + 1)],
                           capture_output=True, text=True, timeout=20, check=False)
    check(wrong.returncode == 64 and f"formatted for {REACTORS} reactors" in wrong.stderr,
          f"another number of reactors: {wrong.returncode} {wrong.stderr}")
    check("\n0 problems" in run(cluster.CLAUDEFS, "fsck", "--dir", demo.dir), "fsck finds problems")
    demo.up()
    demo.wait_ok(20)
    compare(sources, os.path.join(demo.mnt, "two"))


cluster.main(test)
