# SPDX-License-Identifier: MIT
"""A tree is copied while a node is taken away; what kill9 and sigstop have in common.

A writer with a clock runs beside the copy: it overwrites records in files that are spread over all
groups, creates and removes files, and remembers the longest time that one operation took.
"""
import os
import subprocess
import threading
import time

import trees
from cluster import Cluster, check, note, say


class Writer(threading.Thread):
    """Small writes and creates without pause, each timed."""

    def __init__(self, top, files=48):
        super().__init__(daemon=True)
        self.top = top
        self.files = files
        self.stop = False
        self.error = None
        self.count = 0
        self.longest = 0.0
        self.longest_what = "nothing"
        os.makedirs(top)
        for number in range(files):
            folder = os.path.join(top, f"d{number % 8}")
            os.makedirs(folder, exist_ok=True)
            with open(self.path(number), "wb") as file:
                file.write(b"\0" * 65536)

    def path(self, number):
        return os.path.join(self.top, f"d{number % 8}", f"f{number}")

    def timed(self, what, action):
        begin = time.monotonic()
        result = action()
        seconds = time.monotonic() - begin
        self.count += 1
        if seconds > self.longest:
            self.longest, self.longest_what = seconds, what
        return result

    def step(self, round_number):
        number = round_number % self.files
        fd = self.timed(f"open f{number}", lambda: os.open(self.path(number), os.O_RDWR))
        try:
            record = b"%016d" % round_number * 256
            offset = 4096 * (round_number // self.files % 16)
            written = self.timed(f"write f{number}", lambda: os.pwrite(fd, record, offset))
            check(written == len(record), "a short write")
            back = self.timed(f"read f{number}", lambda: os.pread(fd, len(record), offset))
            check(back == record, f"f{number} at {offset}: read differs from what was written")
        finally:
            self.timed("close", lambda: os.close(fd))
        fresh = os.path.join(self.top, f"d{round_number % 8}", f"new{round_number}")
        fd = self.timed("create", lambda: os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        self.timed("close", lambda: os.close(fd))
        self.timed("unlink", lambda: os.unlink(fresh))

    def run(self):
        round_number = 0
        try:
            while not self.stop:
                self.step(round_number)
                round_number += 1
        except Exception as error:  # shown by finish()
            self.error = error

    def finish(self):
        self.stop = True
        self.join(60)
        check(not self.is_alive(), "the writer hangs")
        check(self.error is None, f"the writer failed: {self.error!r}")


def copy_through(demo, sources, target, writer, disturb):
    """Copy sources into target; disturb() is called when the copy is well under way."""
    os.mkdir(target)
    copy = subprocess.Popen(["cp", "-a", *sources, target], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)
    try:
        time.sleep(1.0)
        check(copy.poll() is None, "the copy ended before the disturbance")
        writer.longest = 0.0
        disturb()
        output, _ = copy.communicate(timeout=120)
    finally:
        if copy.poll() is None:
            copy.kill()
            copy.wait()
    check(copy.returncode == 0, f"cp failed:\n{output[-2000:]}")


def compare_all(sources, target):
    for source in sources:
        trees.compare(source, os.path.join(target, os.path.basename(source)))


def try_node(demo, node, sources, disturb, restore, longest_allowed):
    """One round: disturb the node during a copy, compare, restore, wait for full protection, kill
    another node, compare again."""
    role = "leader" if demo.leader() == node else "no leader"
    say(f"round: node{node} ({role})")
    target = os.path.join(demo.mnt, f"copy{node}")
    writer = Writer(os.path.join(demo.mnt, f"writer{node}"))
    writer.start()
    copy_through(demo, sources, target, writer, lambda: disturb(node))
    writer.finish()
    longest, what = writer.longest, writer.longest_what
    compare_all(sources, target)
    restore(node)
    healed = demo.wait_ok(60)
    status = demo.status()
    check(status["protect"]["degraded_bytes"] == 0 and status["protect"]["lost_bytes"] == 0,
          "status is ok, but not all bytes are fully protected")
    note(f"node{node} ({role}): longest stall {longest:.2f} s ({what}), "
         f"{writer.count} operations; healed in {healed:.1f} s")
    other = node % 3 + 1
    demo.kill(other)
    compare_all(sources, target)
    demo.start(other)
    demo.wait_ok(60)
    check(longest < longest_allowed,
          f"node{node}: {what} stalled for {longest:.2f} s, {longest_allowed} s are allowed")
    subprocess.run(["rm", "-rf", target, writer.top], check=True)


def test(disturb, restore, longest_allowed, files=3000):
    demo = Cluster(size="8G")
    sources = trees.sources(files)
    failures = []
    leader = demo.leader()
    # the leader first, with so many files; then two that are not (unless leadership has moved)
    for node in [leader] + [n for n in demo.nodes() if n != leader]:
        try:
            if node != leader:
                sources = trees.sources(3000)
            try_node(demo, node, sources, lambda n: disturb(demo, n), lambda n: restore(demo, n),
                     longest_allowed)
        except Exception as error:
            if "stalled for" not in str(error):
                raise
            failures.append(str(error))
    check(not failures, "\n".join(failures))
