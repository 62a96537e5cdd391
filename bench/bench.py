#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Figures of a demo cluster (3 nodes, 2 copies, one FUSE mount) beside a local file system and tmpfs.

usage: ./dev bench [--quick] [--json FILE] [--only NAME] [--local DIR] [--peers NAME,...]

Columns: operations/s or MB/s; for ClaudeFS also the CPU microseconds per operation (or MiB) that
all servers and the mount's process used together, which a noisy machine spoils least. Caches are
dropped before phases that read (as root). Every phase is one run of fsbench (fsbench.c).

With --peers (moosefs, gluster) these run beside it, phase by phase, and the table shows rate and
CPU of each, and ours as a part of the best peer's CPU.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "test", "system"))
sys.dont_write_bytecode = True
from cluster import BUILD, Cluster, cpu_ns  # noqa: E402
import peers  # noqa: E402

FSBENCH = os.path.join(BUILD, "bench", "fsbench")


class Target:
    """A directory to measure in, and the processes that serve it."""

    def __init__(self, name, path, pids=()):
        self.name = name
        self.path = tempfile.mkdtemp(prefix="bench-", dir=path)
        self.pids = pids

    def phase(self, folder, name, count, threads=1, size=0, layout="shared", cold=False):
        path = os.path.join(self.path, folder)
        os.makedirs(path, exist_ok=True)
        if cold:
            drop_caches()
        before = [cpu_ns(pid) for pid in self.pids]
        done = subprocess.run([FSBENCH, path, name, str(count), str(threads), str(size), layout],
                              check=True, capture_output=True, text=True)
        result = json.loads(done.stdout)
        used = sum(cpu_ns(pid) - then for pid, then in zip(self.pids, before))
        result["rate"] = result["ops"] / result["seconds"]
        result["cpu_us"] = used / 1e3 / result["ops"] if self.pids else None
        return result

    def remove(self):
        shutil.rmtree(self.path, ignore_errors=True)


def drop_caches():
    subprocess.run(["sync"], check=True)
    try:
        with open("/proc/sys/vm/drop_caches", "w") as file:
            file.write("3")
    except OSError:
        pass  # not root: figures of reads are warm then, and say so below


def metadata_rows(quick):
    """(row name, unit, runner)"""
    per_thread = 500 if quick else 2000
    for size, label in ((0, "empty"), (4096, "4k")):
        for threads in (1, 4):
            layouts = ("shared",) if threads == 1 else ("shared", "private")
            for layout in layouts:
                folder = f"md-{label}-{threads}-{layout}"
                count = per_thread * (2 if threads == 1 else 1)
                for phase in ("create", "stat", "read", "unlink"):
                    name = f"{'open+read' if phase == 'read' else phase} {label} t{threads} {layout}"
                    yield name, "ops/s", lambda target, p=phase, f=folder, c=count, t=threads, \
                        s=size, lay=layout: target.phase(f, p, c, t, s, lay,
                                                         cold=p in ("stat", "read"))


def data_rows(quick):
    mib = 128 if quick else 1024
    small = 1000 if quick else 4000
    for threads in (1, 4):
        folder = f"seq-{threads}"
        yield f"write 1 MiB + fsync t{threads}", "MB/s", lambda target, f=folder, t=threads: \
            target.phase(f, "seqwrite", mib // t, t)
        yield f"cold read 1 MiB t{threads}", "MB/s", lambda target, f=folder, t=threads: \
            target.phase(f, "seqread", mib // t, t, cold=True)
    yield "random write 4 KiB t1", "ops/s", lambda target: \
        target.phase("seq-1", "randwrite", small, 1, mib << 20)
    yield "random read 4 KiB t1, cold", "ops/s", lambda target: \
        target.phase("seq-1", "randread", small, 1, mib << 20, cold=True)
    yield "random write 4 KiB t4", "ops/s", lambda target: \
        target.phase("seq-4", "randwrite", small, 4, (mib // 4) << 20)
    yield "random read 4 KiB t4, cold", "ops/s", lambda target: \
        target.phase("seq-4", "randread", small, 4, (mib // 4) << 20, cold=True)
    yield "append 4 KiB + fsync t1", "ops/s", lambda target: \
        target.phase("append", "append", 200 if quick else 1000, 1, 4096)
    yield "append 4 KiB + fsync t4", "ops/s", lambda target: \
        target.phase("append", "append", 100 if quick else 500, 4, 4096)


def cell(result, unit):
    if result is None:
        return "-"
    rate = result["rate"] * (1.048576 if unit == "MB/s" else 1)
    return f"{rate:,.0f}".replace(",", " ")


def measured(targets, rows, only):
    """The rows that are wanted, each with what it gave, by target."""
    for name, unit, runner in rows:
        if not only or only in name:
            yield name, unit, {target.name: runner(target) for target in targets}


def peer_table(targets, rows, only):
    """Rate and CPU of each; returns the results."""
    print(f"{'':<30} {'unit':<6}" + "".join(f"{target.name:>20}" for target in targets) +
          f"{'of best peer':>14}")
    results = []
    for name, unit, line in measured(targets, rows, only):
        cpus = [line[target.name]["cpu_us"] for target in targets]
        cells = "".join(f"{cell(line[target.name], unit):>12} {cpu:>7.0f}"
                        for target, cpu in zip(targets, cpus))
        print(f"{name:<30} {unit:<6}{cells}{cpus[0] / min(cpus[1:]):>14.2f}", flush=True)
        results.append({"name": name, "unit": unit, "results": line})
    return results


def table(targets, rows, only):
    print(f"{'':<30} {'unit':<6}" + "".join(f"{target.name:>11}" for target in targets) +
          f"{'CPU us/op':>11} {'p50 us':>9} {'p99 us':>9}")
    results = []
    for name, unit, line in measured(targets, rows, only):
        last = line[targets[-1].name]
        cpu = last["cpu_us"]
        print(f"{name:<30} {unit:<6}" +
              "".join(f"{cell(line[target.name], unit):>11}" for target in targets) +
              f"{'-' if cpu is None else format(cpu, '.0f'):>11} {last['p50_us']:>9.0f} "
              f"{last['p99_us']:>9.0f}", flush=True)
        results.append({"name": name, "unit": unit, "results": line})
    return results


def main():
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller runs: about a minute")
    parser.add_argument("--json", metavar="FILE", help="also write the figures there")
    parser.add_argument("--only", metavar="TEXT", help="rows whose name has it")
    parser.add_argument("--local", metavar="DIR", default=BUILD,
                        help="a directory on the local file system to compare with")
    parser.add_argument("--peers", metavar="NAME,...", default="",
                        help="compare with these: " + ", ".join(peers.KINDS))
    arguments = parser.parse_args()
    wanted = [name for name in arguments.peers.split(",") if name]
    for name in wanted:
        if name not in peers.KINDS:
            parser.error(f"--peers: no peer called '{name}'")
        if peers.missing(name):
            parser.error(f"--peers: {name} is not installed: {peers.missing(name)}")
    if wanted:
        code = peers.enter(sys.argv)
        if code is not None:
            return code
    return run(arguments, wanted)


def run(arguments, wanted):
    demo = Cluster(size="8G")
    others = []
    targets = []
    load = os.getloadavg()[0]
    print(f"{time.strftime('%Y-%m-%d %H:%M')}  {os.cpu_count()} cpus, load {load:.1f}, 3 nodes, "
          f"2 copies, one FUSE mount{'' if os.geteuid() == 0 else '; not root: reads are warm'}")
    rows = list(metadata_rows(arguments.quick)) + list(data_rows(arguments.quick))
    try:
        if wanted:
            print("for each: rate, and CPU us/op of all its servers and its mount together")
            targets.append(Target("claudefs", demo.mnt, demo.pids()))
            for name in wanted:
                others.append(peers.KINDS[name](demo.base))
                targets.append(Target(name, others[-1].mnt, others[-1].pids()))
            results = peer_table(targets, rows, arguments.only)
        else:
            print("CPU us/op, p50 and p99 are those of claudefs; CPU of all servers and the mount "
                  "together")
            targets += [Target("local", arguments.local), Target("tmpfs", "/dev/shm"),
                        Target("claudefs", demo.mnt, demo.pids())]
            results = table(targets, rows, arguments.only)
    finally:
        for target in targets:
            target.remove()
        for peer in others:
            peer.stop()
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"schema": 1, "load": load, "rows": results}, file, indent=2)
    return 0


sys.exit(main())
