# SPDX-License-Identifier: MIT
"""An idle cluster uses less than 1 % of one core, and little memory."""
import time

import cluster
from cluster import Cluster, check, cpu_ns, memory_bytes, note

SECONDS = 15


def test():
    demo = Cluster()
    time.sleep(3)
    pids = demo.pids()
    before = [cpu_ns(pid) for pid in pids]
    time.sleep(SECONDS)
    used = [(cpu_ns(pid) - then) / SECONDS / 1e7 for pid, then in zip(pids, before)]
    memory = [memory_bytes(pid) >> 20 for pid in pids]
    names = [f"node{node}" for node in demo.nodes()] + ["mount"]
    note("CPU: " + ", ".join(f"{name} {part:.2f} %" for name, part in zip(names, used)) +
         f"; together {sum(used):.2f} %")
    note("memory: " + ", ".join(f"{name} {mib} MiB" for name, mib in zip(names, memory)))
    check(sum(used) < 1, f"an idle cluster uses {sum(used):.2f} % of a core")
    check(max(memory) < 512, "memory is over budget")


cluster.main(test)
