# SPDX-License-Identifier: MIT
"""Programs that people use: tar, git, sqlite3."""
import os

import cluster
import trees
from cluster import ROOT, Cluster, check, run


def try_tar(demo):
    archive = os.path.join(demo.scratch, "tree.tar")
    source = "/usr/include/linux"
    run("tar", "-C", "/usr/include", "--format=pax", "-cf", archive, "linux")
    run("tar", "-C", demo.mnt, "-xpf", archive)
    trees.compare(source, os.path.join(demo.mnt, "linux"))
    inside = os.path.join(demo.mnt, "again.tar")
    run("tar", "-C", demo.mnt, "-cf", inside, "linux")
    run("tar", "-C", demo.mnt, "-df", inside)  # compares what it archived with what is there


def try_git(demo):
    clone = os.path.join(demo.mnt, "clone")
    run("git", "clone", "-q", "--no-hardlinks", ROOT, clone)
    run("git", "-C", clone, "fsck", "--strict", "--no-progress")
    check(run("git", "-C", clone, "status", "--porcelain") == "", "the clone is clean")
    with open(os.path.join(clone, "new-file"), "w") as file:
        file.write("new\n")
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    run("git", "-C", clone, "add", "new-file")
    run("git", "-C", clone, *identity, "commit", "-q", "-m", "test")
    run("git", "-C", clone, "gc", "-q", "--aggressive", "--prune=now")
    run("git", "-C", clone, "fsck", "--no-progress")


def try_sqlite(demo):
    for journal in ("delete", "persist"):
        path = os.path.join(demo.mnt, f"{journal}.db")
        script = f"pragma journal_mode={journal}; create table t(k integer primary key, v text);"
        for begin in range(0, 2000, 100):
            script += "begin;"
            for key in range(begin, begin + 100):
                script += f"insert into t values({key}, 'value {key * 7919}');"
            script += "commit;"
        script += "begin; delete from t; rollback; delete from t where k % 3 = 0; vacuum;"
        run("sqlite3", path, script)
        check(run("sqlite3", path, "pragma integrity_check;").strip() == "ok", "integrity_check")
        count = run("sqlite3", path, "select count(*), sum(length(v)) from t;").strip()
        expected = [len(f"value {key * 7919}") for key in range(2000) if key % 3]
        check(count == f"{len(expected)}|{sum(expected)}", f"sqlite3 counts {count}")


def test():
    demo = Cluster()
    try_tar(demo)
    try_git(demo)
    try_sqlite(demo)
    demo.wait_ok(10)


cluster.main(test)
