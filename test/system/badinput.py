# SPDX-License-Identifier: MIT
"""Garbage at the ports and wrong disks are refused with a clear error; nothing crashes."""
import os
import socket
import struct
import subprocess
import random

import cluster
from cluster import CLAUDEFSD, Cluster, check, note, run

MAGIC = 0x31534643
HEADER = struct.Struct("<IHHIIIIQQIIQiI")  # format/wire_header.h

CRC_TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
    CRC_TABLE.append(byte)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def message(body=b"", magic=MAGIC, version=1, kind=1, body_bytes=None, payload_bytes=0, crc=None):
    """A message with whatever is wrong about it."""
    fields = [magic, version, kind, 0, len(body) if body_bytes is None else body_bytes,
              payload_bytes, 0, 1, 0, 0, 0, 0, 0, 0]
    fields[6] = crc32c(HEADER.pack(*fields) + body) if crc is None else crc
    return HEADER.pack(*fields) + body


def hello(cluster_id, level=1, fixed_bytes=48):
    return struct.pack("<HHHH16sIIQQ", fixed_bytes, 0, 0, 0, cluster_id, 0, level, 0, 12345)


def talk(address, data, expect_close):
    """Send data; True if the node closed the connection or answered."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=5) as conn:
        conn.settimeout(3)
        try:
            conn.sendall(data)
            if not expect_close:
                conn.shutdown(socket.SHUT_WR)
            return conn.recv(4096)
        except (ConnectionResetError, BrokenPipeError):
            return b""
        except socket.timeout:
            check(not expect_close, "the node neither answered nor closed the connection")
            return b""


def bad_messages():
    rng = random.Random(7)
    good = hello(bytes(16))
    yield "random bytes", rng.randbytes(10000), True
    yield "64 random bytes", rng.randbytes(64), True
    yield "wrong magic", message(good, magic=0x12345678), True
    yield "wrong version", message(good, version=999), True
    yield "wrong checksum", message(good, crc=1), True
    yield "body of 4 GiB", message(good, body_bytes=0xFFFFFFFF), True
    yield "payload of 4 GiB", message(good, payload_bytes=0xFFFFFFFF), True
    yield "unknown type", message(good, kind=999), True
    yield "truncated header", message(good)[:40], False
    yield "truncated body", message(good)[:80], False
    yield "nothing", b"", False
    yield "empty body", message(b""), True
    yield "body shorter than it says", message(hello(bytes(16), fixed_bytes=4096)), True
    yield "another cluster", message(hello(b"\x77" * 16)), True
    for kind in (2, 10, 11, 12, 14, 20, 21, 40, 43, 52, 63, 80, 82, 100, 101, 104):
        yield f"type {kind} before HELLO", message(rng.randbytes(128), kind=kind), False
    for kind in (2, 10, 11, 12, 13, 14, 15, 20, 21, 22, 23, 24, 25, *range(40, 65), 80, 81, 82, 83,
                 100, 101, 102, 103, 104):
        body = struct.pack("<HHHH", 128, 0, 0, 0) + rng.randbytes(rng.choice((0, 8, 120, 400)))
        yield f"HELLO, then garbage of type {kind}", message(good) + message(body, kind=kind), False


def try_ports(demo):
    addresses = [node["addr"] for node in demo.status()["nodes"]]
    pids = demo.pids()
    count = 0
    for what, data, expect_close in bad_messages():
        for address in addresses:
            try:
                talk(address, data, expect_close)
            except cluster.Failure as failure:
                raise cluster.Failure(f"{what}: {failure}") from failure
            count += 1
    check(demo.pids() == pids, "a node has died")
    status = demo.status()
    check(status["health"] == "ok", f"health is {status['health']}: {status['reasons']}")
    check(status["damage"]["wire_refused"] > 0, "refused messages are counted in status")
    note(f"{count} bad messages sent, {status['damage']['wire_refused']} counted as refused")
    with open(os.path.join(demo.mnt, "works"), "w") as file:
        file.write("still")


def refused(demo, *argv):
    done = subprocess.run([CLAUDEFSD, *argv], capture_output=True, text=True, timeout=20,
                          check=False)
    check(done.returncode > 0, f"claudefsd {' '.join(argv)}: exit code {done.returncode}")
    return done.stderr


def try_disks(demo):
    zeroes = os.path.join(demo.scratch, "zeroes")
    with open(zeroes, "wb") as file:
        file.truncate(1 << 30)
    check("no ClaudeFS store" in refused(demo, "--disk", zeroes), "a disk of zeroes: said so")
    noise = os.path.join(demo.scratch, "noise")
    with open(noise, "wb") as file:
        file.write(os.urandom(64 << 20))
        file.truncate(1 << 30)
    refused(demo, "--disk", noise)
    refused(demo, "--disk", "/no/such/disk")
    refused(demo, "--disk", "/dev/null")
    text = refused(demo, "--disk", demo.disk(1))
    check("busy" in text or "EBUSY" in text or "another process" in text.lower(),
          f"a disk in use: said so\n{text}")

    other = Cluster(nodes=1, copies=1, size="1G", mount=False)
    other.down()
    demo.kill(2)
    own = demo.disk(2) + ".own"
    os.rename(demo.disk(2), own)
    run("cp", "--sparse=always", other.disk(1), demo.disk(2))
    started = subprocess.run([cluster.CLAUDEFS, "demo", "start", "2", "--dir", demo.dir],
                             capture_output=True, text=True, timeout=60, check=False)
    check(started.returncode != 0 and "another cluster" in started.stderr,
          f"the disk of another cluster is refused:\n{started.stderr}")
    run("cp", "--sparse=always", demo.disk(1), demo.disk(2))  # a copy of node1's disk is not node2
    started = subprocess.run([cluster.CLAUDEFS, "demo", "start", "2", "--dir", demo.dir],
                             capture_output=True, text=True, timeout=60, check=False)
    check(started.returncode != 0, "the disk of another node is refused")
    os.rename(own, demo.disk(2))
    demo.start(2)
    demo.wait_ok(30)


def test():
    demo = Cluster(size="1G")
    try_ports(demo)
    try_disks(demo)


cluster.main(test)
