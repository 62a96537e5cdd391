# SPDX-License-Identifier: MIT
"""demo up, status, kill, start, down: what a newcomer types first, and that nothing is left."""
import os
import subprocess

import cluster
from cluster import CLAUDEFS, Cluster, check, note, start_ticks, wait_for


def check_status_shape(status):
    check(status["health"] == "ok", f"health is {status['health']}: {status['reasons']}")
    check(len(status["nodes"]) == 3, "three nodes are listed")
    for node in status["nodes"]:
        check(node["state"] == "up", f"{node['name']} is {node['state']}")
        for key in ("name", "state", "pid", "addr", "used_bytes", "size_bytes"):
            check(key in node, f"nodes[].{key} is missing")
    for key in ("full_bytes", "degraded_bytes", "lost_bytes"):
        check(key in status["protect"], f"protect.{key} is missing")
    check(isinstance(status["jobs"], list), "jobs is a list")


def status_code(demo):
    return subprocess.run([CLAUDEFS, "status", "--dir", demo.dir], capture_output=True, text=True,
                          check=False)


def test():
    mount = cluster.can_mount()
    demo = Cluster(mount=mount)
    note(f"demo up took {demo.up_seconds:.2f} s")
    check(demo.up_seconds < 3, f"demo up took {demo.up_seconds:.2f} s, the goal is 3 s")
    if mount:
        with open("/proc/mounts") as mounts:
            line = [x for x in mounts if x.split()[1] == demo.mnt]
        check(line and line[0].split()[2] == "fuse.claudefs", "it is mounted as fuse.claudefs")
    check_status_shape(demo.status())
    shown = status_code(demo)
    check(shown.returncode == 0, f"status exits with {shown.returncode}")
    lines = shown.stdout.splitlines()
    check(len(lines) <= 24 and all(len(line) <= 80 for line in lines), "status fits 80x24")
    pids = demo.pids(mount)

    demo.up()  # again: nothing to do, nothing breaks
    check(demo.pids(mount) == pids, "demo up on a running cluster starts nothing")

    demo.kill(2)
    check(start_ticks(pids[1]) is None, "the process is gone")
    wait_for(lambda: demo.status()["health"] == "warn", 5, "status to be warn")
    check(status_code(demo).returncode == 1, "warn exits with 1")
    demo.start(2)
    demo.wait_ok(30)

    demo.kill(1)
    demo.kill(3)
    wait_for(lambda: demo.status()["health"] == "error", 10, "status to be error")
    check(status_code(demo).returncode == 2, "error exits with 2")
    demo.start(1)
    demo.start(3)
    demo.wait_ok(30)

    demo.kill(1, "STOP")
    check(status_code(demo).returncode != 0, "a stopped node shows")
    demo.kill(1, "CONT")
    demo.wait_ok(30)

    pids = demo.pids(mount)
    demo.down()
    for pid in pids:
        check(start_ticks(pid) is None, f"process {pid} is left after demo down")
    check(not mount or not os.path.ismount(demo.mnt), "the mount is left after demo down")
    demo.up()
    demo.wait_ok(10)
    demo.down("--wipe")
    check(not os.path.exists(demo.dir), "demo down --wipe leaves the directory")
    gone = subprocess.run([CLAUDEFS, "status", "--dir", demo.dir], capture_output=True, text=True,
                          check=False)
    check(gone.returncode == 2 and "fix" in gone.stderr, "status of nothing says what to do")


cluster.main(test)
