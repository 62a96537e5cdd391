# SPDX-License-Identifier: MIT
"""The project is built inside the mount, and what was built runs."""
import os
import time

import cluster
from cluster import ROOT, Cluster, check, note, run


def test():
    demo = Cluster()
    clone = os.path.join(demo.mnt, "project")
    run("git", "clone", "-q", "--no-hardlinks", ROOT, clone)
    begin = time.monotonic()
    run("meson", "setup", "build", "-Doptimization=0", "-Ddebug=false", cwd=clone, timeout=100)
    run("ninja", "-C", "build", cwd=clone, timeout=200)
    note(f"built in {time.monotonic() - begin:.0f} s")
    check("usage" in run("build/src/cmd/claudefs", "--help", cwd=clone), "what was built runs")
    check("no work to do" in run("ninja", "-C", "build", cwd=clone), "times are consistent")


cluster.main(test)
