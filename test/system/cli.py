# SPDX-License-Identifier: MIT
"""claudefs ls, stat, cat, cp, mv, rm, mkdir on a cluster that is not mounted."""
import os
import subprocess

import cluster
import trees
from cluster import CLAUDEFS, Cluster, Failure, check


def fails(demo, *argv):
    """Run a command that has to fail with a report; its exit code."""
    done = subprocess.run([CLAUDEFS, *argv, "--dir", demo.dir], capture_output=True, text=True,
                          check=False)
    if done.returncode == 0 or "claudefs: " not in done.stderr:
        raise Failure(f"claudefs {' '.join(argv)} should fail with a report:\n{done.stderr}")
    return done.returncode


def test():
    demo = Cluster(mount=False)
    check(demo.claudefs("ls", "cfs:/") == "", "a new file system is empty")
    demo.claudefs("mkdir", "-p", "cfs:/a/b/c")
    demo.claudefs("mkdir", "-p", "cfs:/a/b/c")
    check(fails(demo, "mkdir", "cfs:/a") == 73, "mkdir of what exists")
    check(fails(demo, "mkdir", "cfs:/no/such") == 66, "mkdir without parents")
    check(demo.claudefs("ls", "cfs:/a") == "b\n", "ls shows the directory")

    local = os.path.join(demo.scratch, "local")
    os.mkdir(local)
    for name, size in (("small", 100), ("large", (9 << 20) + 17), ("empty", 0)):
        with open(os.path.join(local, name), "wb") as file:
            file.write(os.urandom(size))
    os.symlink("small", os.path.join(local, "link"))
    os.mkdir(os.path.join(local, "dir"))
    os.chmod(os.path.join(local, "small"), 0o640)
    demo.claudefs("cp", "-r", local, "cfs:/a/b/c")
    demo.claudefs("cp", "-r", "cfs:/a/b/c/local", "cfs:/again")
    back = os.path.join(demo.scratch, "back")
    demo.claudefs("cp", "-r", "cfs:/again", back)
    trees.compare(local, back, link_times=False)  # claudefs cp does not set those

    with open(os.path.join(local, "large"), "rb") as file:
        content = file.read()
    cat = subprocess.run([CLAUDEFS, "cat", "cfs:/again/large", "--dir", demo.dir],
                         capture_output=True, check=True)
    check(cat.stdout == content, "cat gives the bytes")
    check("-rw-r-----" in demo.claudefs("ls", "-l", "cfs:/again/small"), "ls -l shows the mode")
    check(f"size    {(9 << 20) + 17}" in demo.claudefs("stat", "cfs:/again/large"), "stat: size")

    demo.claudefs("cp", os.path.join(local, "small"), "cfs:/again/large")  # shrinks it
    check("size    100" in demo.claudefs("stat", "cfs:/again/large"), "cp replaces content")
    demo.claudefs("mv", "cfs:/again/large", "cfs:/a/renamed")
    demo.claudefs("mv", "cfs:/a/renamed", "cfs:/again/dir")
    check(demo.claudefs("ls", "cfs:/again/dir") == "renamed\n", "mv into a directory")
    check(fails(demo, "cat", "cfs:/again/large") == 66, "cat of what is gone")
    check(fails(demo, "rm", "cfs:/again") == 64, "rm of a directory wants -r")
    demo.claudefs("rm", "-r", "cfs:/again", "cfs:/a")
    check(demo.claudefs("ls", "cfs:/") == "", "rm -r removed all")
    check(fails(demo, "ls", "/local/path") == 64, "a local path is refused")
    check(subprocess.run([CLAUDEFS, "frobnicate"], capture_output=True, check=False).returncode
          == 64, "an unknown command is a usage error")
    away = subprocess.run([CLAUDEFS, "ls", "cfs:/", "--cluster", "127.0.0.1:1"],
                          capture_output=True, text=True, check=False)
    check(away.returncode == 69 and "fix" in away.stderr, "no cluster there: said so")


cluster.main(test)
