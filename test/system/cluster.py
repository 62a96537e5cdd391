# SPDX-License-Identifier: MIT
"""A demo cluster for one test, and what tests ask of it.

Every test is a program: `cluster.main(test)` runs it, always takes its clusters down again (also
after a failure or SIGTERM), and keeps the nodes' logs of a failure. Lines printed with note() are
shown by the runner even when the test passes.
"""
import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
BUILD = os.path.abspath(os.environ.get("CLAUDEFS_BUILD", os.path.join(ROOT, "build")))
CLAUDEFS = os.path.join(BUILD, "src", "cmd", "claudefs")
CLAUDEFSD = os.path.join(BUILD, "src", "cmd", "claudefsd")
SKIPPED = 77


class Failure(Exception):
    """The test's own finding; shown without a traceback."""


def check(condition, text):
    if not condition:
        raise Failure(text)


def note(text):
    print("# " + text, flush=True)


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def run(*argv, ok=(0,), timeout=120, cwd=None, env=None, stdin=subprocess.DEVNULL):
    """Run a command; its standard output. Failure if its exit code is not in ok."""
    done = subprocess.run([str(arg) for arg in argv], stdin=stdin, capture_output=True, text=True,
                          errors="replace", timeout=timeout, cwd=cwd, env=env)
    if ok is not None and done.returncode not in ok:
        raise Failure(f"{' '.join(map(str, argv))}: exit code {done.returncode}\n"
                      f"{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


def start_ticks(pid):
    """Start time of a living process (None: gone or a zombie)."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def can_mount():
    return os.path.exists("/dev/fuse") and os.access("/dev/fuse", os.R_OK | os.W_OK)


class Cluster:
    """A demo cluster in a directory of its own."""

    def __init__(self, nodes=3, copies=2, size="4G", mount=True, reactors=None):
        if mount and not can_mount():
            print("no /dev/fuse here: skipped")
            sys.exit(SKIPPED)
        self.base = tempfile.mkdtemp(prefix="claudefs-test-", dir=os.environ.get("TMPDIR", "/tmp"))
        self.dir = os.path.join(self.base, "demo")
        self.mnt = os.path.join(self.dir, "mnt")
        self.scratch = os.path.join(self.base, "scratch")
        self.count = nodes
        os.mkdir(self.scratch)
        atexit.register(self.destroy)
        self.up_seconds = None
        self.up("--nodes", nodes, "--copies", copies, "--size", size,
                *([] if mount else ["--no-mount"]),
                *(["--reactors", reactors] if reactors else []))

    # ---- verbs

    def claudefs(self, *argv, **options):
        return run(CLAUDEFS, *argv, "--dir", self.dir, **options)

    def up(self, *options):
        begin = time.monotonic()
        text = self.claudefs("demo", "up", *options, timeout=60)
        self.up_seconds = time.monotonic() - begin
        say(f"demo up in {self.up_seconds:.2f} s")
        return text

    def kill(self, node, name="KILL"):
        say(f"node{node}: SIG{name}")
        self.claudefs("demo", "kill", node, "--signal", name)

    def kill_all(self):
        """All at once, not one after the other."""
        pids = [self.pid(node) for node in self.nodes()]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            wait_for(lambda: start_ticks(pid) is None, 5, f"process {pid} to end")

    def start(self, node):
        say(f"node{node}: start")
        self.claudefs("demo", "start", node, timeout=60)

    def down(self, *options):
        return self.claudefs("demo", "down", *options, timeout=60)

    # ---- state

    def nodes(self):
        return range(1, self.count + 1)

    def status(self):
        text = self.claudefs("status", "--json", ok=(0, 1, 2), timeout=20)
        return json.loads(text)

    def wait_ok(self, seconds):
        """Wait until health is ok; returns how long it took."""
        begin = time.monotonic()
        while True:
            status = self.status()
            if status["health"] == "ok":
                return time.monotonic() - begin
            check(time.monotonic() - begin < seconds,
                  f"health is {status['health']} after {seconds} s: {status['reasons']}")
            time.sleep(0.1)

    def leader(self):
        name = self.status()["leader"]
        check(name, "there is no map leader")
        return int(name.removeprefix("node"))

    def pid(self, node):
        """Of a living node process that is ours."""
        with open(os.path.join(self.dir, f"node{node}", "pid")) as file:
            pid, ticks = map(int, file.read().split())
        check(start_ticks(pid) == ticks, f"node{node} is not running")
        return pid

    def mount_pid(self):
        with open(os.path.join(self.dir, "mount.pid")) as file:
            return int(file.read().split()[0])

    def pids(self, mount=True):
        return [self.pid(node) for node in self.nodes()] + ([self.mount_pid()] if mount else [])

    def disk(self, node):
        return os.path.join(self.dir, f"node{node}", "disk")

    def log(self, node):
        with open(os.path.join(self.dir, f"node{node}", "log"), errors="replace") as file:
            return file.read()

    # ---- end

    def keep_logs(self):
        target = os.environ.get("CLAUDEFS_TEST_LOGS")
        if not target or not os.path.isdir(self.dir):
            return
        sources = [(f"node{n}.log", os.path.join(self.dir, f"node{n}", "log")) for n in self.nodes()]
        sources.append(("mount.log", os.path.join(self.dir, "mount.log")))
        for name, source in sources:
            if os.path.exists(source):
                shutil.copyfile(source, os.path.join(target, name))

    def destroy(self):
        """Take everything down, whatever state it is in."""
        if not os.path.isdir(self.base):
            return
        self.keep_logs()
        for node in self.nodes():
            self.end(os.path.join(self.dir, f"node{node}", "pid"), signal.SIGKILL)
        if os.path.exists(os.path.join(self.dir, "cluster.json")):
            try:
                run(CLAUDEFS, "demo", "down", "--dir", self.dir, ok=None, timeout=30)
            except subprocess.TimeoutExpired:
                pass
        self.end(os.path.join(self.dir, "mount.pid"), signal.SIGKILL)
        subprocess.run(["umount", "-l", self.mnt], stderr=subprocess.DEVNULL, check=False)
        if not os.path.ismount(self.mnt):
            shutil.rmtree(self.base, ignore_errors=True)

    @staticmethod
    def end(pid_file, signo):
        try:
            with open(pid_file) as file:
                pid, ticks = map(int, file.read().split())
            if start_ticks(pid) == ticks:
                os.kill(pid, signo)
        except (OSError, ValueError):
            pass


def wait_for(condition, seconds, what, step=0.02):
    deadline = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < deadline, f"waited {seconds} s for {what}")
        time.sleep(step)


def cpu_ns(pid):
    """CPU time of a process and all its threads so far."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat") as file:
            total += int(file.read().split()[0])
    return total


def memory_bytes(pid, field="VmHWM"):
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    raise Failure(f"no {field} of process {pid}")


def main(test):
    """Run test() as a program."""
    def terminate(_signo, _frame):
        raise Failure("took too long")

    signal.signal(signal.SIGTERM, terminate)
    try:
        test()
    except Failure as failure:
        traceback.print_exc(limit=8)
        print(f"FAILED: {failure}", flush=True)
        sys.exit(1)
    except subprocess.TimeoutExpired as timeout:
        traceback.print_exc(limit=8)
        print(f"FAILED: {timeout}", flush=True)
        sys.exit(1)
