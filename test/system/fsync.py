# SPDX-License-Identifier: MIT
"""fsync means it: what a writer was told is safe is there after all nodes died at once."""
import errno
import json
import os
import subprocess
import sys
import time

import cluster
from cluster import Cluster, check, note, say

RECORD = "%012d %s\n"


def safe(fd):
    """fsync. EIO says that something acknowledged was lost with all its copies' memory: not safe,
    but not a lie either."""
    try:
        os.fsync(fd)
        return True
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        print(f"{time.strftime('%H:%M:%S')} fsync: EIO", flush=True)
        return False


def writer(top, log_path):
    """Append records to some files, fsync, then log outside what is safe. Ends when killed."""
    files = [open(os.path.join(top, f"log{i}"), "ab", buffering=0) for i in range(4)]
    with open(log_path, "a") as log:
        for number in range(10**9):
            which = number % len(files)
            files[which].write((RECORD % (number, "x" * (number % 300))).encode())
            if not safe(files[which].fileno()):
                continue
            if number % 7 == 0:  # also: a new file, its directory, a rename
                fresh = os.path.join(top, f"new{number}")
                try:
                    with open(fresh + ".tmp", "w") as file:
                        file.write(str(number))
                        file.flush()
                        is_safe = safe(file.fileno())
                    os.rename(fresh + ".tmp", fresh)
                except OSError as error:  # made, not yet fsynced, and gone with all memory
                    if error.errno not in (errno.ESTALE, errno.ENOENT):
                        raise
                    print(f"{time.strftime('%H:%M:%S')} {error}", flush=True)
                    is_safe = False
                folder = os.open(top, os.O_RDONLY)
                is_safe = safe(folder) and is_safe
                os.close(folder)
                if is_safe:
                    log.write(json.dumps(["new", number]) + "\n")
            log.write(json.dumps([which, number]) + "\n")
            log.flush()


def check_records(top, log_path):
    with open(log_path) as log:
        logged = [json.loads(line) for line in log if line.endswith("\n")]
    check(len(logged) > 20, f"the writer got only {len(logged)} records out")
    found = {}
    for which in range(4):
        with open(os.path.join(top, f"log{which}"), "rb") as file:
            for line in file.read().decode().splitlines(keepends=True):
                line = line.lstrip("\0")  # a record that was never fsynced may be a hole
                if not line:
                    continue
                number = int(line.split()[0])
                check(line == RECORD % (number, "x" * (number % 300)),
                      f"log{which}: record {number} is damaged")
                found[(which, number)] = True
    for which, number in logged:
        if which == "new":
            with open(os.path.join(top, f"new{number}")) as file:
                check(file.read() == str(number), f"new{number} has wrong content")
        else:
            check((which, number) in found, f"record {number} of log{which} was fsynced and is gone")
    return len(logged)


def look(top):
    """What is there now, for a failure's text."""
    try:
        return f"{top} has {len(os.listdir(top))} entries, {os.stat(top)}"
    except OSError as error:
        return str(error)


def consistent(top):
    """Every entry that is listed can be looked at and read."""
    for folder, _, files in os.walk(top):
        for name in files:
            with open(os.path.join(folder, name), "rb") as file:
                file.read()


def test():
    demo = Cluster()
    log_path = os.path.join(demo.scratch, "safe")
    for round_number in range(3):
        top = os.path.join(demo.mnt, f"round{round_number}")
        os.mkdir(top)
        open(log_path, "w").close()
        child = subprocess.Popen([sys.executable, __file__, "writer", top, log_path])
        try:
            time.sleep(2 + round_number)
            demo.kill_all()
            say("all nodes killed")
            time.sleep(0.5)
            demo.up()
            demo.wait_ok(30)
            time.sleep(0.5)
            if child.poll() is not None:
                raise cluster.Failure(f"the writer got an error (above); afterwards: {look(top)}")
        finally:
            child.kill()
            child.wait()
        count = check_records(top, log_path)
        consistent(demo.mnt)
        note(f"round {round_number}: {count} logged records, all there")
    demo.wait_ok(10)


if sys.argv[1:2] == ["writer"]:
    writer(sys.argv[2], sys.argv[3])
else:
    cluster.main(test)
