# SPDX-License-Identifier: MIT
"""A real tree of at least 10 000 files copied in and compared; also through a restart of all."""
import os
import subprocess
import time

import cluster
import trees
from cluster import Cluster, check, memory_bytes, note, run


def test():
    demo = Cluster(size="8G")
    begin = time.monotonic()
    chosen = trees.sources()
    for source in chosen:
        run("cp", "-a", source, demo.mnt, timeout=150)
    seconds = time.monotonic() - begin
    special = os.path.join(demo.scratch, "special")
    trees.make_special(special)
    run("cp", "-a", special, demo.mnt)
    chosen.append(special)

    def compare_all():
        return sum(trees.compare(source, os.path.join(demo.mnt, os.path.basename(source)))
                   for source in chosen)

    entries = compare_all()
    note(f"{entries} entries copied at {entries / seconds:.0f}/s, all equal")
    for pid in demo.pids():
        check(memory_bytes(pid) < 512 << 20, f"process {pid} uses {memory_bytes(pid) >> 20} MiB")

    demo.down()
    demo.up()
    demo.wait_ok(20)
    compare_all()
    usage = os.statvfs(demo.mnt)
    check(usage.f_bfree < usage.f_blocks, "df shows use")
    run("rm", "-rf", *[os.path.join(demo.mnt, os.path.basename(x)) for x in chosen], timeout=120)
    left = subprocess.run(["find", demo.mnt, "-mindepth", "1"], capture_output=True, check=True)
    check(left.stdout == b"", "rm -rf leaves nothing")
    demo.wait_ok(10)


cluster.main(test)
