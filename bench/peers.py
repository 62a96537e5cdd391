# SPDX-License-Identifier: MIT
"""Other distributed file systems, for a comparison in the same minute on the same machine.

Each runs as ours does in the bench: servers and one FUSE mount on this machine, two copies of the
data, disks in files below a directory. They are started in a network namespace of their own
(enter), because they refuse the loopback range or want fixed ports. Needs root and their packages.
"""
import os
import shutil
import subprocess
import sys
import time

PACKAGES = {
    "moosefs": "moosefs-master moosefs-chunkserver moosefs-client",
    "gluster": "glusterfs-server glusterfs-client",
}
NET = "10.77.0."


def enter(argv):
    """Run argv again in a new network namespace, unless we are in one. Returns its exit code, or
    None inside."""
    if os.environ.get("CLAUDEFS_BENCH_NETNS"):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        for host in range(1, 5):
            subprocess.run(["ip", "addr", "add", f"{NET}{host}/24", "dev", "lo"], check=True)
        return None
    if os.geteuid() != 0:
        sys.exit("bench: --peers needs root (mounts and a network namespace)")
    name = f"claudefs-bench-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        return subprocess.run(["ip", "netns", "exec", name, sys.executable, *argv],
                              env=dict(os.environ, CLAUDEFS_BENCH_NETNS=name)).returncode
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=False)


def sh(*argv, check=True):
    done = subprocess.run(argv, capture_output=True, text=True)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {done.stdout}{done.stderr}")
    return done.stdout


def pids_of(*names):
    """Processes in this network namespace."""
    mine = os.stat("/proc/self/ns/net").st_ino
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/comm") as comm, open(f"/proc/{pid}/stat") as stat:
                alive = stat.read().rsplit(")", 1)[1].split()[0] not in "ZX"
                if alive and comm.read().strip() in names and \
                        os.stat(f"/proc/{pid}/ns/net").st_ino == mine:
                    found.append(int(pid))
        except OSError:
            continue  # gone meanwhile
    return found


def wait_until(condition, what, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"waited {seconds} s for {what}")
        time.sleep(0.05)


class Peer:
    def __init__(self, base):
        self.dir = os.path.join(base, self.name)
        self.mnt = os.path.join(self.dir, "mnt")
        os.makedirs(self.mnt)
        self.start()
        wait_until(lambda: os.path.ismount(self.mnt), f"the mount of {self.name}")

    def path(self, *parts):
        path = os.path.join(self.dir, *parts)
        os.makedirs(path, exist_ok=True)
        return path

    def write(self, name, text):
        path = os.path.join(self.dir, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def pids(self):
        return pids_of(*self.processes)

    def stop(self):
        sh("umount", "-l", self.mnt, check=False)
        for signal in ("TERM", "KILL"):
            for pid in self.pids():
                sh("kill", f"-{signal}", str(pid), check=False)
            try:
                wait_until(lambda: not self.pids(), f"{self.name} to end", 10)
                break
            except RuntimeError:
                continue
        shutil.rmtree(self.dir, ignore_errors=True)


class Moosefs(Peer):
    """One master, three chunkservers, goal 2, no trash."""
    name = "moosefs"
    processes = ("mfsmaster", "mfschunkserver", "mfsmount")
    common = "WORKING_USER = root\nWORKING_GROUP = root\nNICE_LEVEL = 0\n"

    def start(self):
        with open(os.path.join(self.path("master"), "metadata.mfs"), "w") as file:
            file.write("MFSM NEW")
        exports = self.write("exports", "* / rw,alldirs,maproot=0\n")
        topology = self.write("topology", "")
        listen = "".join(f"{who}_LISTEN_HOST = {NET}1\n" for who in ("MATOML", "MATOCS", "MATOCL"))
        sh("mfsmaster", "-c", self.write("master.cfg", self.common + listen +
                                         f"DATA_PATH = {self.path('master')}\n"
                                         f"EXPORTS_FILENAME = {exports}\n"
                                         f"TOPOLOGY_FILENAME = {topology}\n"), "start")
        for i in (2, 3, 4):
            disks = self.write(f"disks{i}", self.path(f"disk{i}") + "\n")
            sh("mfschunkserver", "-c",
               self.write(f"chunk{i}.cfg", self.common +
                          f"DATA_PATH = {self.path(f'chunk{i}')}\nHDD_CONF_FILENAME = {disks}\n"
                          f"MASTER_HOST = {NET}1\nCSSERV_LISTEN_HOST = {NET}{i}\n"
                          f"BIND_HOST = {NET}{i}\n"), "start")
        wait_until(lambda: subprocess.run(["mfsmount", self.mnt, "-H", f"{NET}1"],
                                          capture_output=True).returncode == 0, "mfsmount")
        sh("mfssetgoal", "-r", "2", self.mnt)
        sh("mfssettrashtime", "-r", "0", self.mnt)
        time.sleep(2)  # the chunkservers report their space once a second


class Gluster(Peer):
    """Three bricks, replica 3 with an arbiter (two copies of the data), default options."""
    name = "gluster"
    processes = ("glusterd", "glusterfsd", "glusterfs")

    def start(self):
        config = self.write("glusterd.vol",
                            "volume management\n    type mgmt/glusterd\n"
                            f"    option working-directory {self.path('state')}\n"
                            "    option transport-type socket\nend-volume\n")
        sh("glusterd", "-f", config, "-l", self.path("log") + "/glusterd", "-p",
           os.path.join(self.dir, "glusterd.pid"))
        bricks = [f"{NET}1:{self.path('bricks')}/{i}" for i in (1, 2, 3)]
        wait_until(lambda: subprocess.run(
            ["gluster", "--mode=script", "volume", "create", "v", "replica", "3", "arbiter", "1",
             *bricks, "force"], capture_output=True).returncode == 0, "the volume")
        sh("gluster", "--mode=script", "volume", "start", "v")
        sh("glusterfs", f"--volfile-server={NET}1", "--volfile-id=v", self.mnt)


KINDS = {kind.name: kind for kind in (Moosefs, Gluster)}


def missing(name):
    """None, or what to install."""
    daemon = {"moosefs": "mfsmaster", "gluster": "glusterd"}[name]
    return None if shutil.which(daemon) else f"apt-get install {PACKAGES[name]}"
