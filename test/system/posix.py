# SPDX-License-Identifier: MIT
"""What POSIX programs rely on, call by call."""
import ctypes
import errno
import os
import stat
import subprocess
import sys
import time

import cluster
from cluster import Cluster, check

LIBC = ctypes.CDLL(None, use_errno=True)
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 1, 2


def fails(code, call, *args, **options):
    try:
        call(*args, **options)
    except OSError as error:
        check(error.errno == code, f"{call.__name__}{args}: {errno.errorcode[error.errno]}, "
                                   f"expected {errno.errorcode[code]}")
        return
    raise cluster.Failure(f"{call.__name__}{args} succeeded, expected {errno.errorcode[code]}")


def renameat2(source, target, flags):
    if LIBC.renameat2(-100, source.encode(), -100, target.encode(), flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def fallocate(fd, mode, offset, length):
    if LIBC.fallocate64(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def put(path, text):
    with open(path, "w") as file:
        file.write(text)


def get(path):
    with open(path) as file:
        return file.read()


def names(top):
    os.mkdir("dir")
    put("dir/file", "one")
    fails(errno.EEXIST, os.mkdir, "dir")
    fails(errno.ENOTEMPTY, os.rmdir, "dir")
    fails(errno.ENOENT, os.stat, "none")
    fails(errno.ENOTDIR, os.stat, "dir/file/below")
    fails(errno.EISDIR, open, "dir", "w")
    fails(errno.EISDIR, os.unlink, "dir")
    fails(errno.ENOTDIR, os.rmdir, "dir/file")
    fails(errno.ENAMETOOLONG, open, "x" * 256, "w")
    check(os.stat("dir").st_nlink == 2, "nlink of a directory without subdirectories")
    os.mkdir("dir/sub")
    check(os.stat("dir").st_nlink == 3, "nlink counts subdirectories")
    os.symlink("dir/file", "link")
    check(os.readlink("link") == "dir/file" and get("link") == "one", "symlink")
    os.symlink("loop", "loop")
    fails(errno.ELOOP, open, "loop")
    os.mkfifo("fifo")
    check(stat.S_ISFIFO(os.stat("fifo").st_mode), "fifo")


def links(top):
    put("a", "content")
    os.link("a", "b")
    check(os.stat("a").st_ino == os.stat("b").st_ino and os.stat("a").st_nlink == 2, "hard link")
    os.mkdir("other")
    os.link("a", "other/c")
    put("other/c", "changed")
    check(get("a") == "changed" and os.stat("b").st_nlink == 3, "hard link across directories")
    os.unlink("a")
    os.unlink("b")
    check(os.stat("other/c").st_nlink == 1, "nlink goes down")
    fails(errno.EPERM, os.link, "other", "dirlink")


def renames(top):
    put("a", "A")
    put("b", "B")
    os.rename("a", "b")
    check(get("b") == "A" and not os.path.exists("a"), "rename replaces")
    put("a", "A2")
    fails(errno.EEXIST, renameat2, "a", "b", RENAME_NOREPLACE)
    renameat2("a", "b", RENAME_EXCHANGE)
    check(get("a") == "A" and get("b") == "A2", "RENAME_EXCHANGE keeps both")
    os.makedirs("x/y/z")
    os.makedirs("other/deep")
    fails(errno.EINVAL, os.rename, "x", "x/y/inside")
    os.rename("x/y", "other/deep/y")
    check(os.path.isdir("other/deep/y/z") and os.stat("x").st_nlink == 2, "rename of a directory")
    put("other/f", "f")
    fails(errno.ENOTEMPTY, os.rename, "x", "other")
    fails(errno.ENOTDIR, os.rename, "x", "a")
    fails(errno.EISDIR, os.rename, "a", "x")
    renameat2("x", "a", RENAME_EXCHANGE)
    check(os.path.isdir("a") and get("x") == "A", "exchange of a file and a directory")
    check(os.stat("other/deep/y/..").st_ino == os.stat("other/deep").st_ino, "'..' after a rename")


def files(top):
    fd = os.open("f", os.O_CREAT | os.O_RDWR)
    os.pwrite(fd, b"end", 10 << 20)
    check(os.fstat(fd).st_size == (10 << 20) + 3, "size after a sparse write")
    check(os.pread(fd, 100, 5 << 20) == bytes(100), "a hole reads as zeroes")
    os.ftruncate(fd, 100)
    os.ftruncate(fd, 10000)
    check(os.pread(fd, 20000, 0) == bytes(10000), "shrunk and grown: zeroes")
    os.pwrite(fd, b"x" * 10000, 0)
    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1000, 5000)
    check(os.pread(fd, 20000, 0) == b"x" * 1000 + bytes(5000) + b"x" * 4000, "punched hole")
    fallocate(fd, 0, 0, 20000)
    check(os.fstat(fd).st_size == 20000, "fallocate extends")
    os.unlink("f")
    check(os.fstat(fd).st_nlink == 0, "unlinked and open")
    os.pwrite(fd, b"alive", 15000)
    check(os.pread(fd, 5, 15000) == b"alive", "an unlinked open file lives on")
    os.close(fd)
    with open("append", "ab", buffering=0) as one, open("append", "ab", buffering=0) as two:
        one.write(b"1")
        two.write(b"2")
        one.write(b"3")
    check(get("append") == "123", "O_APPEND")
    for size in (1, 4095, 4096, 4097, 8192, 300000, 5 << 20):  # from inline to several objects
        data = os.urandom(size)
        with open("grow", "wb") as file:
            file.write(data)
        with open("grow", "rb") as file:
            check(file.read() == data, f"{size} bytes come back")
    put("grow", "small again")
    check(get("grow") == "small again", "O_TRUNC")


def attributes(top):
    put("f", "text")
    os.chmod("f", 0o4751)
    check(stat.S_IMODE(os.stat("f").st_mode) == 0o4751, "chmod")
    os.utime("f", ns=(123456789012345678, 987654321098765432))
    check(os.stat("f").st_mtime_ns == 987654321098765432, "utime to the nanosecond")
    before = os.stat("f").st_ctime_ns
    time.sleep(0.02)
    os.chmod("f", 0o640)
    check(os.stat("f").st_ctime_ns > before, "ctime moves")
    mtime = os.stat(".").st_mtime_ns
    time.sleep(0.02)
    put("g", "")
    check(os.stat(".").st_mtime_ns > mtime, "a directory's mtime moves")
    if os.geteuid() == 0:
        os.chmod("f", 0o6755)
        os.chown("f", 1234, 5678)
        status = os.stat("f")
        check((status.st_uid, status.st_gid) == (1234, 5678), "chown")
        check(not status.st_mode & 0o6000, "chown clears the set-id bits")
    os.setxattr("f", "user.name", b"value")
    check(os.getxattr("f", "user.name") == b"value", "xattr")
    check(os.listxattr("f") == ["user.name"], "listxattr")
    fails(errno.EEXIST, os.setxattr, "f", "user.name", b"2", os.XATTR_CREATE)
    fails(errno.ENODATA, os.setxattr, "f", "user.none", b"2", os.XATTR_REPLACE)
    os.removexattr("f", "user.name")
    fails(errno.ENODATA, os.getxattr, "f", "user.name")


def directories(top):
    os.mkdir("big")
    wanted = {f"entry-{number:05d}" for number in range(3000)}
    for name in wanted:
        os.close(os.open(f"big/{name}", os.O_CREAT | os.O_WRONLY))
    check(set(os.listdir("big")) == wanted, "readdir of 3000 entries")
    found = set()
    with os.scandir("big") as entries:  # what stays is seen once while others go
        for number, entry in enumerate(entries):
            check(entry.name not in found, f"{entry.name} is listed twice")
            found.add(entry.name)
            if number % 3 == 0:
                os.unlink(f"big/{entry.name}")
    check(found == wanted, "readdir while entries are removed")
    subprocess.run(["rm", "-r", "big"], check=True)


def permissions(top):
    if os.geteuid() != 0:
        return
    os.chmod(".", 0o755)
    put("secret", "s")
    os.chmod("secret", 0o600)
    os.mkdir("shared")
    os.chmod("shared", 0o1777)
    put("shared/root", "r")
    script = ("import os,errno\n"
              "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
              "def no(f, *a):\n"
              "    try: f(*a)\n"
              "    except PermissionError: return\n"
              "    raise SystemExit(f'{f} {a} was allowed')\n"
              "no(open, 'secret')\n"
              "no(open, 'new', 'w')\n"
              "no(os.unlink, 'shared/root')\n"
              "no(os.chmod, 'secret', 0o777)\n"
              "open('shared/mine', 'w').close()\n"
              "os.unlink('shared/mine')\n")
    subprocess.run([sys.executable, "-c", script], check=True)


def test():
    demo = Cluster(size="2G")
    os.chmod(demo.base, 0o755)
    for part in (names, links, renames, files, attributes, directories, permissions):
        top = os.path.join(demo.mnt, part.__name__)
        os.mkdir(top)
        os.chdir(top)
        try:
            part(top)
        except cluster.Failure as failure:
            raise cluster.Failure(f"{part.__name__}: {failure}") from failure
        finally:
            os.chdir("/")
    demo.wait_ok(10)


cluster.main(test)
