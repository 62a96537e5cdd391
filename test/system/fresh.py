# SPDX-License-Identifier: MIT
"""./dev up on a minimal Debian made for it: mounted in under five minutes, with all packages."""
import os
import shutil
import signal
import subprocess
import sys
import tempfile

import cluster
from cluster import check, note

FRESH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fresh", "run")


def test():
    base = tempfile.mkdtemp(prefix="claudefs-test-")
    # what is mounted there goes with the namespace of the first process
    child = subprocess.Popen([FRESH], env={**os.environ, "TMPDIR": base}, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             start_new_session=True)
    try:
        output, _ = child.communicate()
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        shutil.rmtree(base, ignore_errors=True)
    lines = output.strip().splitlines()
    if child.returncode == cluster.SKIPPED:
        note(lines[-1])
        sys.exit(cluster.SKIPPED)
    check(child.returncode == 0, output)
    note(next(line for line in lines if "./dev up" in line))


cluster.main(test)
