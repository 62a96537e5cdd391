# SPDX-License-Identifier: MIT
"""Real trees to copy, and the comparison of copies."""
import os
import stat

from cluster import Failure, check

FILES_MIN = 10000


def size_of(path):
    """(entries, bytes) below path."""
    entries = total = 0
    for folder, dirs, files in os.walk(path):
        entries += len(dirs) + len(files)
        for name in files:
            total += os.lstat(os.path.join(folder, name)).st_size
    return entries, total


def sources(entries_min=FILES_MIN):
    """Directories of this machine that hold at least entries_min entries: /usr/include (if many are
    wanted), and parts of /usr/share, none of them huge."""
    chosen = []
    entries = 0
    candidates = ["/usr/include"] if entries_min >= FILES_MIN else []
    candidates += sorted(os.path.join("/usr/share", name) for name in os.listdir("/usr/share"))
    candidates += ["/usr/lib/python3", "/usr/lib/git-core"]
    for path in candidates:
        if entries >= entries_min:
            break
        if not os.path.isdir(path) or os.path.islink(path):
            continue
        count, total = size_of(path)
        if path != "/usr/include" and (count > 4000 or total > 40 << 20):
            continue
        chosen.append(path)
        entries += count
    check(entries >= entries_min, f"this machine has only {entries} files to copy")
    return chosen


def same_bytes(a, b, chunk=1 << 20):
    with open(a, "rb", buffering=0) as one, open(b, "rb", buffering=0) as two:
        while True:
            left, right = one.read(chunk), two.read(chunk)
            if left != right:
                return False
            if not left:
                return True


def entries_of(top):
    """relative path -> lstat, for everything below top and top itself."""
    found = {".": os.lstat(top)}
    stack = [""]
    while stack:
        folder = stack.pop()
        with os.scandir(os.path.join(top, folder)) as entries:
            for entry in entries:
                path = os.path.join(folder, entry.name)
                found[path] = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(found[path].st_mode):
                    stack.append(path)
    return found


def hard_links(entries):
    """Groups of paths that are one file."""
    groups = {}
    for path, status in entries.items():
        if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
            groups.setdefault((status.st_dev, status.st_ino), set()).add(path)
    return {frozenset(group) for group in groups.values() if len(group) > 1}


def compare(original, copy, link_times=True):
    """Names, kinds, bytes, mode, owner, modification times, link targets, hard links. Raises
    Failure with the first differences. link_times: also the times of symbolic links. Returns the
    number of entries."""
    left, right = entries_of(original), entries_of(copy)
    differences = []
    for path in sorted(set(left) ^ set(right)):
        differences.append(f"{path}: only in {'the original' if path in left else 'the copy'}")
    for path in sorted(set(left) & set(right)):
        a, b = left[path], right[path]
        for field in ("st_mode", "st_uid", "st_gid", "st_mtime_ns"):
            is_link_time = field == "st_mtime_ns" and stat.S_ISLNK(a.st_mode)
            if getattr(a, field) != getattr(b, field) and (link_times or not is_link_time):
                differences.append(f"{path}: {field} {getattr(a, field)} became "
                                   f"{getattr(b, field)}")
        if stat.S_IFMT(a.st_mode) != stat.S_IFMT(b.st_mode):
            continue
        one, two = os.path.join(original, path), os.path.join(copy, path)
        if stat.S_ISLNK(a.st_mode):
            if os.readlink(one) != os.readlink(two):
                differences.append(f"{path}: link target differs")
        elif stat.S_ISREG(a.st_mode):
            if a.st_size != b.st_size:
                differences.append(f"{path}: size {a.st_size} became {b.st_size}")
            elif not same_bytes(one, two):
                differences.append(f"{path}: bytes differ")
        if len(differences) > 20:
            break
    if hard_links(left) != hard_links(right):
        differences.append("hard links differ")
    if differences:
        raise Failure("\n".join([f"{copy} differs from {original}:"] + differences[:20]))
    return len(left)


def make_special(top):
    """A small tree with everything that the system's own trees lack."""
    os.makedirs(top)
    with open(os.path.join(top, "file"), "wb") as file:
        file.write(b"x" * 5000)
    os.link(os.path.join(top, "file"), os.path.join(top, "hard"))
    os.symlink("no/such/place", os.path.join(top, "dangling"))
    os.mkfifo(os.path.join(top, "fifo"))
    with open(os.path.join(top, "sparse"), "wb") as file:
        file.truncate(50 << 20)
        file.seek(20 << 20)
        file.write(b"in the middle")
    with open(os.path.join(top, "a name with spaces \xe4\u4e2d.\n"), "w") as file:
        file.write("strange")
    with open(os.path.join(top, "n" * 255), "w") as file:
        file.write("long")
    for mode in (0o000, 0o644, 0o755, 0o4755, 0o2755, 0o600):
        path = os.path.join(top, f"mode{mode:o}")
        with open(path, "w") as file:
            file.write(oct(mode))
        os.chmod(path, mode)
    folder = top
    for depth in range(40):
        folder = os.path.join(folder, f"d{depth}")
        os.mkdir(folder)
    os.mkdir(os.path.join(top, "sticky"))
    os.chmod(os.path.join(top, "sticky"), 0o1777)
    for size in (0, 1, 4095, 4096, 4097, 65536, 262144, 262145, (4 << 20) - 1, 4 << 20,
                 (4 << 20) + 1):
        with open(os.path.join(top, f"size{size}"), "wb") as file:
            file.write((b"%08d" % size * (size // 8 + 1))[:size])
    os.utime(os.path.join(top, "file"), ns=(1_000_000_001, 1_234_567_890_123_456_789))
