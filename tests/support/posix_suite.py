# SPDX-License-Identifier: Apache-2.0
# Part of sprite-env.
"""What POSIX and Linux say of files, tried one by one in the directory given; prints a dictionary of outcomes.

Runs as root in a sprite and on bare btrfs with a minimal Python, so it uses nothing but built-in modules.
"""

import errno
import fcntl
import os
import sys

CHECKS = {}


def check(function):
    CHECKS[function.__name__] = function
    return function


def error_of(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))
    return "ok"


def write(path, data=b"x", flags=os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode=0o644):
    file = os.open(path, flags, mode)
    try:
        os.write(file, data)
    finally:
        os.close(file)


def read(path):
    file = os.open(path, os.O_RDONLY)
    try:
        return os.read(file, 1 << 20)
    finally:
        os.close(file)


@check
def exclusive_creation():
    write("a")
    return error_of(os.open, "a", os.O_CREAT | os.O_EXCL | os.O_WRONLY)


@check
def exclusive_creation_through_a_dangling_link():
    os.symlink("nowhere", "link")
    return error_of(os.open, "link", os.O_CREAT | os.O_EXCL | os.O_WRONLY)


@check
def opening_flags():
    os.mkdir("d")
    write("f")
    os.symlink("f", "l")
    return [
        error_of(os.open, "d", os.O_WRONLY), error_of(os.open, "f", os.O_DIRECTORY), error_of(os.open, "l", os.O_NOFOLLOW),
        error_of(os.open, "f/x", os.O_RDONLY), error_of(os.open, "none", os.O_RDONLY), error_of(os.open, "", os.O_RDONLY),
    ]


@check
def appending_after_a_seek():
    write("f", b"one")
    file = os.open("f", os.O_WRONLY | os.O_APPEND)
    os.lseek(file, 0, os.SEEK_SET)
    os.write(file, b"two")
    os.close(file)
    return read("f").decode()


@check
def names_of_every_length():
    return [error_of(write, "n" * 255), error_of(write, "n" * 256), error_of(os.open, "p/" * 2048, os.O_RDONLY)]


@check
def names_of_any_bytes():
    name = bytes(byte for byte in range(1, 256) if byte != 0x2F)[:250]
    write(name)
    return [os.listdir(b".") == [name], read(name) == b"x"]


@check
def link_counts():
    write("a")
    os.link("a", "b")
    os.link("b", "c")
    first = os.stat("a").st_nlink
    os.unlink("a")
    return [first, os.stat("b").st_nlink, os.stat("b").st_ino == os.stat("c").st_ino]


@check
def a_link_to_a_directory():
    os.mkdir("d")
    return error_of(os.link, "d", "e")


@check
def a_change_through_one_link_shows_in_the_other():
    write("a", b"one")
    os.link("a", "b")
    write("b", b"two")
    os.chmod("a", 0o640)
    return [read("a").decode(), oct(os.stat("b").st_mode)]


@check
def renaming_over():
    write("a", b"new")
    write("b", b"old")
    os.mkdir("d")
    os.mkdir("e")
    write("e/x")
    os.rename("a", "b")
    return [
        read("b").decode(), error_of(os.rename, "b", "d"), error_of(os.rename, "d", "b"), error_of(os.rename, "d", "e"),
        error_of(os.rename, "e", "d"), sorted(os.listdir("d")), error_of(os.rename, "d", "d/inside"),
    ]


@check
def renaming_one_link_to_another_of_the_same_file():
    write("a")
    os.link("a", "b")
    os.rename("a", "b")
    return sorted(os.listdir("."))


@check
def renaming_a_directory_keeps_its_inode_and_content():
    os.makedirs("d/e/f")
    write("d/e/f/x", b"deep")
    before = os.stat("d").st_ino
    os.rename("d", "g")
    return [os.stat("g").st_ino == before, read("g/e/f/x").decode()]


@check
def removing():
    os.mkdir("d")
    write("d/x")
    write("f")
    return [
        error_of(os.rmdir, "d"), error_of(os.unlink, "d"), error_of(os.rmdir, "f"), error_of(os.rmdir, "d/."),
        error_of(os.rmdir, "none"), error_of(os.unlink, "none"),
    ]


@check
def a_file_that_is_removed_while_open():
    file = os.open("f", os.O_RDWR | os.O_CREAT)
    os.write(file, b"still")
    os.unlink("f")
    os.lseek(file, 0, os.SEEK_SET)
    return [os.read(file, 10).decode(), os.fstat(file).st_nlink, os.listdir(".")]


@check
def a_directory_that_is_removed_while_open():
    os.mkdir("d")
    folder = os.open("d", os.O_RDONLY)
    os.rmdir("d")
    return [os.listdir(folder), error_of(os.open, "x", os.O_CREAT | os.O_WRONLY, dir_fd=folder)]


@check
def symbolic_links():
    os.symlink("x" * 4000, "long")
    os.symlink("b", "a")
    os.symlink("a", "b")
    return [
        len(os.readlink("long")), error_of(os.symlink, "x" * 4096, "longer"), error_of(os.stat, "a"),
        os.lstat("a").st_size, error_of(os.readlink, "."), error_of(os.symlink, "", "empty"),
    ]


@check
def sizes_and_holes():
    file = os.open("f", os.O_RDWR | os.O_CREAT)
    os.pwrite(file, b"end", 10 << 20)
    size, blocks = os.fstat(file).st_size, os.fstat(file).st_blocks
    os.fsync(file)
    data = os.lseek(file, 0, os.SEEK_DATA)
    hole = os.lseek(file, 0, os.SEEK_HOLE)
    return [size, blocks < 1000, data, hole, os.pread(file, 4, 0) == bytes(4)]


@check
def truncating():
    write("f", b"0123456789")
    os.truncate("f", 4)
    short = read("f").decode()
    os.truncate("f", 6)
    return [short, read("f") == b"0123\0\0", error_of(os.truncate, "f", -1), error_of(os.truncate, ".", 0)]


@check
def the_largest_file():
    file = os.open("f", os.O_RDWR | os.O_CREAT)
    return [error_of(os.ftruncate, file, 1 << 60), os.fstat(file).st_size, error_of(os.ftruncate, file, (1 << 63) - 1)]


@check
def allocating():
    file = os.open("f", os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(file, 0, 1 << 20)
    return [os.fstat(file).st_size, os.fstat(file).st_blocks >= 2048, error_of(os.posix_fallocate, file, 0, 0)]


@check
def modes_and_the_mask():
    old = os.umask(0o027)
    write("f", mode=0o666)
    os.mkdir("d", 0o777)
    os.umask(old)
    return [oct(os.stat("f").st_mode), oct(os.stat("d").st_mode)]


@check
def set_group_on_a_directory_is_inherited():
    os.mkdir("d")
    os.chown("d", 0, 1000)
    os.chmod("d", 0o2775)
    write("d/f")
    os.mkdir("d/e")
    return [os.stat("d/f").st_gid, os.stat("d/e").st_gid, oct(os.stat("d/e").st_mode)]


def as_user(user, body):
    """What `body` returns in a process of that user."""
    ends = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            text = repr(body())
        except BaseException as error:
            text = repr(error)
        os.write(ends[1], text.encode())
        os._exit(0)
    os.close(ends[1])
    os.waitpid(child, 0)
    text = os.read(ends[0], 4096).decode()
    os.close(ends[0])
    return text


@check
def rights_of_others():
    write("secret", b"x", mode=0o600)
    os.mkdir("closed", 0o700)
    os.mkdir("sticky")
    os.chmod("sticky", 0o1777)
    write("sticky/mine")
    os.chmod(".", 0o755)
    return as_user(1000, lambda: [
        error_of(os.open, "secret", os.O_RDONLY), error_of(os.listdir, "closed"), error_of(os.unlink, "sticky/mine"),
        error_of(os.chmod, "secret", 0o777), error_of(os.chown, "secret", 1000, 1000), error_of(write, "new"),
        error_of(write, "sticky/yours"),
    ])  # fmt: skip


@check
def set_user_bits_go_with_a_write_by_another():
    write("f")
    os.chmod("f", 0o6777)
    os.chmod(".", 0o755)
    as_user(1000, lambda: write("f", b"y", os.O_WRONLY))
    return oct(os.stat("f").st_mode)


@check
def set_user_bits_go_with_a_change_of_owner():
    write("f")
    os.chmod("f", 0o6755)
    os.chown("f", 1000, 1000)
    return oct(os.stat("f").st_mode)


@check
def times():
    write("f")
    os.utime("f", ns=(1_000_000_123_456_789, 2_000_000_987_654_321))
    stat = os.stat("f")
    changed = stat.st_ctime_ns
    os.chmod("f", 0o600)
    after = os.stat("f")
    os.mkdir("d")
    folder = os.stat("d").st_mtime_ns
    os.utime("d", ns=(0, 0))
    write("d/x")
    return [
        stat.st_atime_ns, stat.st_mtime_ns, after.st_mtime_ns == stat.st_mtime_ns, after.st_ctime_ns >= changed,
        os.stat("d").st_mtime_ns > 0, folder > 0,
    ]


@check
def times_before_and_far_after_1970():
    write("f")
    os.utime("f", (-1000, 1 << 33))
    return [os.stat("f").st_atime, os.stat("f").st_mtime]


@check
def locks_of_processes():
    write("f")
    file = os.open("f", os.O_RDWR)
    fcntl.lockf(file, fcntl.LOCK_EX)
    os.chmod(".", 0o755)
    os.chmod("f", 0o666)
    return as_user(1000, lambda: error_of(fcntl.lockf, os.open("f", os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB))


@check
def locks_of_open_files():
    write("f")
    first, second = os.open("f", os.O_RDWR), os.open("f", os.O_RDWR)
    fcntl.flock(first, fcntl.LOCK_EX)
    busy = error_of(fcntl.flock, second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(first, fcntl.LOCK_UN)
    return [busy, error_of(fcntl.flock, second, fcntl.LOCK_EX | fcntl.LOCK_NB)]


@check
def attributes():
    write("f")
    os.setxattr("f", "user.one", b"1")
    os.setxattr("f", "user.empty", b"")
    return [
        sorted(os.listxattr("f")), os.getxattr("f", "user.one").decode(), error_of(os.getxattr, "f", "user.none"),
        error_of(os.setxattr, "f", "user.one", b"2", os.XATTR_CREATE), error_of(os.setxattr, "f", "user." + "n" * 256, b""),
        error_of(os.removexattr, "f", "user.none"),
    ]


@check
def reading_a_directory_while_it_shrinks():
    for number in range(500):
        write(f"f{number}")
    seen = []
    with os.scandir(".") as entries:
        for entry in entries:
            seen.append(entry.name)
            os.unlink(entry.name)
    return [len(seen), len(set(seen)), os.listdir(".")]


@check
def many_links_and_deep_folders():
    write("f")
    for number in range(200):
        os.link("f", f"l{number}")
    os.makedirs("/".join(["d"] * 200))
    return [os.stat("f").st_nlink, os.path.isdir("/".join(["d"] * 200))]


@check
def special_files():
    os.mkfifo("fifo", 0o600)
    file = os.open("fifo", os.O_RDWR | os.O_NONBLOCK)
    os.write(file, b"through")
    return [os.read(file, 20).decode(), oct(os.stat("fifo").st_mode), error_of(os.open, "fifo", os.O_WRONLY | os.O_NONBLOCK)]


@check
def synchronising():
    write("f")
    file, folder = os.open("f", os.O_RDONLY), os.open(".", os.O_RDONLY)
    return [error_of(os.fsync, file), error_of(os.fdatasync, file), error_of(os.fsync, folder)]


@check
def direct_writes():
    return error_of(os.close, os.open("f", os.O_RDWR | os.O_CREAT | os.O_DIRECT))


@check
def a_file_without_a_name():
    file = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(file, b"named later")
    # With a folder given, the link of /proc is followed.
    os.link(f"/proc/self/fd/{file}", "name", src_dir_fd=os.open("/", os.O_RDONLY), follow_symlinks=True)
    return [os.listdir("."), read("name").decode()]


@check
def copying_a_range():
    write("a", b"0123456789")
    write("b", b"")
    source, target = os.open("a", os.O_RDONLY), os.open("b", os.O_WRONLY)
    return [os.copy_file_range(source, target, 5, 2), read("b").decode()]


def main():
    top = sys.argv[1]
    results = {}
    for name, function in CHECKS.items():
        folder = f"{top}/{name}"
        os.mkdir(folder)
        os.chdir(folder)
        try:
            results[name] = function()
        except OSError as error:
            results[name] = f"failed: {errno.errorcode.get(error.errno)} {error.strerror}"
    # A minimal Python has no module for JSON.
    print(repr(results))


if __name__ == "__main__":
    main()
