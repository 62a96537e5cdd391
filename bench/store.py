#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Figures of one store alone, each beside what fio gets out of the same device in the same minute.

usage: ./dev bench store [--path DIR] [--quick] [--repeat N] [--json FILE] [--growth FILES]

  tx        small transactions, per second of one core's time
  flush     durable small transactions: flushes a second in proportion to what a plain writer gets
            (write, fdatasync, of as many bytes), both by turns of a quarter of a second; medians.
            Turns in which a checkpoint merges share the device with it: see the note
  pause     the longest a small transaction waits while checkpoints follow each other, in proportion
            to what a single 4 KiB write or a timer waits at that time
  data      1 MiB appends and reads, 4 KiB random reads
  full      random overwrites of 16 KiB with 90 % of the space in use, in proportion to a fresh
            store, and the write amplification
  growth    files created with a budget of memory far below their metadata, in proportion to the
            same with all of it in the cache; the longest pause

Rates of a machine that does other things are of little worth: look at the ratios, at CPU time
and at several repetitions (the median is shown).
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.join(HERE, "..", "build")
BENCH = os.path.join(BUILD, "bench", "store_bench")
MIB = 1 << 20
MEMORY_RATE = 20000  # flushes a second of a plain writer, beyond which they cost nothing


class Device:
    """A directory on the file system that is measured."""

    def __init__(self, path, seconds):
        self.folder = tempfile.mkdtemp(prefix="store-bench-", dir=path)
        self.seconds = seconds

    def lines(self, only, *options):
        """All lines of store_bench."""
        path = os.path.join(self.folder, "store")
        try:
            done = subprocess.run([BENCH, "--only", only, "--seconds", str(self.seconds), *options,
                                   path], check=True, capture_output=True, text=True)
        finally:
            if os.path.exists(path):
                os.unlink(path)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def store(self, only, *options):
        """Rows of store_bench by name, and the lines of progress as a list."""
        lines = self.lines(only, *options)
        progress = [line for line in lines if line["row"].endswith("progress")]
        return {line["row"]: line for line in lines if line not in progress}, progress

    def fio(self, mode, block, depth, *options):
        """Operations per second of one job of fio."""
        path = os.path.join(self.folder, "fio")
        done = subprocess.run(
            ["fio", "--name=job", f"--filename={path}", f"--rw={mode}", f"--bs={block}",
             f"--iodepth={depth}", "--ioengine=io_uring", "--direct=1", "--fallocate=none",
             f"--runtime={self.seconds}", "--output-format=json", *options],
            check=True, capture_output=True, text=True)
        job = json.loads(done.stdout[done.stdout.index("{"):])["jobs"][0]
        side = job["write" if mode == "write" else "read"]
        ended = max(side["runtime"], job["job_runtime"]) / 1e3
        return side["total_ios"] / ended

    def fio_forget(self):
        os.unlink(os.path.join(self.folder, "fio"))

    def remove(self):
        shutil.rmtree(self.folder, ignore_errors=True)


def transactions(device):
    rows, _ = device.store("tx")
    for name in ("tx durable x1", "tx durable x64", "tx durable x256", "tx commit",
                 "tx written x64", "tx lookup x1"):
        yield name, rows[name], {}


def flushes(device):
    lines = device.lines("flush")
    for fibers in (1, 16, 64, 256):
        ours = [line for line in lines if line["row"] == f"flush store x{fibers}"]
        plain = [line for line in lines if line["row"] == f"flush raw x{fibers}"]
        rate = statistics.median(line["flushes"] / line["seconds"] for line in plain)
        ratios = [(a["flushes"] / a["seconds"]) / (b["flushes"] / b["seconds"])
                  for a, b in zip(ours, plain)]
        calm = [ratio for line, ratio in zip(ours, ratios) if line["node_bytes"] == 0]
        merge = f", {statistics.median(calm):.2f} beside no merge" if calm else ""
        ours.sort(key=lambda line: line["ops_per_s"])
        row = ours[len(ours) // 2]
        batch = row["ops"] / max(row["flushes"], 1)
        relation = {
            "fio": rate * batch, "ratio": statistics.median(ratios),
            "note": f"{rate:.0f} plain flushes/s of {plain[-1]['write_bytes'] >> 10} KiB, ratios "
                    f"{min(ratios):.2f} to {max(ratios):.2f}{merge}, batch {batch:.0f}, "
                    f"{100 * row['cpu_seconds'] / row['seconds']:.0f} % of a core"}
        goal = 0.8
        cores = goal * rate * batch * row["cpu_seconds"] / row["ops"]
        if rate > MEMORY_RATE:
            del relation["ratio"]
        elif cores < 0.8:  # what it would take: the device is the bound, not the core
            relation["goal"] = goal
        yield f"flush store x{fibers}", row, relation


def pauses(device):
    lines = device.lines("pause", "--memory", "32", "--seconds", str(5 * device.seconds))
    row, parts = ([line for line in lines if line["row"] == name][0]
                  for name in ("pause", "pause parts"))
    machine = max(parts["probe_ms"], parts["clock_ms"])
    yield "pause", row, {
        "ratio": row["stall_ms"] / max(machine, 0.001),
        "note": f"{row['checkpoints']} checkpoints; p50 {parts['p50_ms']:.1f}, p99 "
                f"{parts['p99_ms']:.1f}, p99.99 {parts['p9999_ms']:.1f} ms; longest: reserve "
                f"{parts['reserve_ms']:.0f}, write {parts['written_ms']:.0f}; a 4 KiB write "
                f"{parts['probe_ms']:.0f}, a timer {parts['clock_ms']:.0f} ms"}


def data(device):
    rows, _ = device.store("data")
    row = rows["data append 1 MiB x8"]
    size = f"--size={row['ops'] * MIB}"
    fio = device.fio("write", MIB, 8, size, "--end_fsync=1")
    yield row["row"], row, {"fio": fio, "ratio": row["ops_per_s"] / fio, "goal": 0.9}
    for name, mode, block, depth, goal in (("data read 1 MiB x8", "read", MIB, 8, 0.9),
                                           ("data read 4 KiB x1", "randread", 4096, 1, 0.85),
                                           ("data read 4 KiB x32", "randread", 4096, 32, 0.85)):
        fio = device.fio(mode, block, depth, size, "--time_based=1")
        yield name, rows[name], {"fio": fio, "ratio": rows[name]["ops_per_s"] / fio, "goal": goal}
    device.fio_forget()
    yield "data log 64 KiB x32", rows["data log 64 KiB x32"], {}


def full(device):
    rows, _ = device.store("full")
    fresh, steady = rows["full 20 % overwrite"], rows["full 90 % overwrite"]
    yield fresh["row"], fresh, {}
    user = steady["ops"] * steady["op_bytes"]
    yield steady["row"], steady, {
        "ratio": steady["ops_per_s"] / fresh["ops_per_s"], "goal": 0.4,
        "note": f"write amplification {(user + steady['cleaned_bytes']) / user:.2f} data, "
                f"{amplification(steady):.2f} all"}


def amplification(row):
    written = row["data_bytes"] + row["node_bytes"] + row["journal_bytes"]
    return written / (row["ops"] * row["op_bytes"])


def growth(device, files):
    """The same files with room for all of their metadata, and with a tenth of that."""
    need = files * 400 // MIB
    wide, _ = device.store("growth", "--growth", str(files), "--size", "16", "--memory",
                           str(max(1024, 4 * need)))
    tight, progress = device.store("growth", "--growth", str(files), "--size", "16", "--memory",
                                   str(max(32, need // 10)))
    row, other = tight["growth"], wide["growth"]
    yield "growth, all cached", other, {"note": f"stall {other['stall_ms']:.0f} ms"}
    last = progress[len(progress) // 2:]
    late = sum(line["ops_per_s"] for line in last) / max(len(last), 1)
    yield "growth, cache 1/10", row, {
        "ratio": row["ops_per_s"] / other["ops_per_s"], "goal": 0.5,
        "note": f"stall {row['stall_ms']:.0f} ms, second half {late:.0f}/s"}


def show(name, lines, results):
    """The median of the repetitions by ratio."""
    lines.sort(key=lambda line: line[1].get("ratio", line[0]["ops_per_s"]))
    row, relation = lines[len(lines) // 2]
    ratio = relation.get("ratio")
    goal = relation.get("goal")
    print(f"{name:<22} {row['ops_per_s']:>10.0f} {1e6 / row['ops_per_cpu_s']:>9.1f} "
          f"{relation.get('fio', 0) or '-':>10.6} {format(ratio, '.2f') if ratio else '-':>6} "
          f"{format(goal, '.2f') if goal else '-':>5} {row['allocs'] / row['ops']:>8.3f} "
          f"{row['stall_ms']:>8.1f}  {relation.get('note', '')}", flush=True)
    results.append({"name": name, "row": row, **relation,
                    "ratios": [line[1].get("ratio") for line in lines]})


def main():
    parser = argparse.ArgumentParser(prog="./dev bench store", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", metavar="DIR", action="append",
                        help="a directory on the device to measure; may be given several times "
                             "(/dev/shm and the build directory)")
    parser.add_argument("--quick", action="store_true", help="rows of one second")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="show the median of N")
    parser.add_argument("--only", metavar="GROUP", help="tx, flush, pause, data, full or growth")
    parser.add_argument("--growth", type=int, default=1000000, metavar="FILES",
                        help="files of the group growth (1000000)")
    parser.add_argument("--json", metavar="FILE", help="also write the figures there")
    arguments = parser.parse_args()
    groups = {"tx": transactions, "flush": flushes, "pause": pauses, "data": data, "full": full,
              "growth": lambda device: growth(device, arguments.growth)}
    if arguments.only and arguments.only not in groups:
        parser.error(f"--only {arguments.only}: not one of {', '.join(groups)}")
    if not shutil.which("fio"):
        sys.exit("bench store: fio is missing: ./dev deps installs it")
    results = []
    for path in arguments.path or ["/dev/shm", BUILD]:
        device = Device(path, 1 if arguments.quick else 3)
        print(f"\n{os.path.realpath(path)}  {time.strftime('%Y-%m-%d %H:%M')}  {os.cpu_count()} "
              f"cpus, load {os.getloadavg()[0]:.1f}\n{'row':<22} {'op/s':>10} {'CPU us/op':>9} "
              f"{'fio op/s':>10} {'ratio':>6} {'goal':>5} {'alloc/op':>8} {'stall ms':>8}")
        try:
            for group, run in groups.items():
                if arguments.only and group != arguments.only:
                    continue
                lines = {}
                for _ in range(arguments.repeat):
                    for name, row, relation in run(device):
                        lines.setdefault(name, []).append((row, relation))
                for name, found in lines.items():
                    show(name, found, results)
        finally:
            device.remove()
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"schema": 1, "rows": results}, file, indent=2)
    return 0


sys.exit(main())
