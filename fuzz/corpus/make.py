#!/usr/bin/env python3
"""Writes the seeds that fuzzing starts from, by the layouts of vault-core/FORMAT.md."""

import pathlib
import struct

HERE = pathlib.Path(__file__).parent
INODE, XATTR, DIRENT, INLINE, SYMLINK, EXTENT, ORPHAN = range(1, 8)
DIRECTORY, REGULAR, LINK = 4, 8, 10
CONTENT = 1 << 63


def key(obj, kind, offset):
    return struct.pack("<QBQ", obj, kind, offset)


def item(obj, kind, offset, value):
    return key(obj, kind, offset) + struct.pack("<H", len(value)) + value


def inode(kind, size=0, links=1, units=0, inline=0, parent=0, entries=0, xattrs=0):
    head = struct.pack("<IIIIQQII", kind << 12 | 0o755, 1, 1, links, size, units, 0, inline)
    return head + bytes(4 * 8 + 4 * 4) + struct.pack("<QQII", parent, entries, xattrs, 0)


def pointer(address, units=1, kind=2, level=0):
    return struct.pack("<QQHBB", address, 1, units, kind, level) + bytes(4 + 24 + 16)


def entry(folder, cookie, child, kind, name):
    return item(folder, DIRENT, cookie, struct.pack("<QB", child, kind) + name)


def leaf(items, level=0, tree=1, count=None):
    body = b"".join(items)
    used = 8 + len(body)
    head = struct.pack("<BBHI", level, tree, len(items) if count is None else count, used)
    return (head + body).ljust(-(-used // 4096) * 4096, b"\0")


ROOT = [
    item(0, ORPHAN, 9, b""),
    item(1, INODE, 0, inode(DIRECTORY, links=3, parent=1, entries=5)),
    entry(1, 0x100, 2, REGULAR, b"data"),
    entry(1, 0x200, 3, REGULAR, b"sparse"),
    entry(1, 0x300, 4, LINK, b"link"),
    entry(1, 0x400, 5, DIRECTORY, b"folder"),
    entry(1, 0x500, 6, REGULAR, b"inline"),
]
FILES = [
    item(2, INODE, 0, inode(REGULAR, size=4000, units=1, xattrs=1)),
    item(2, XATTR, 0x10000, struct.pack("<IB", 5, 6) + b"user.a" + b"value"),
    item(2, EXTENT, 0, b"\x01" + pointer(16)),
    item(3, INODE, 0, inode(REGULAR, size=100000, units=9)),
    item(3, EXTENT, 1, b"\x01" + pointer(17)),
    item(3, EXTENT, 2, b"\x02" + struct.pack("<Q", 2)),
    item(4, INODE, 0, inode(LINK, size=6)),
    item(4, SYMLINK, 0, b"target"),
    item(5, INODE, 0, inode(DIRECTORY, links=2, parent=1)),
    item(6, INODE, 0, inode(REGULAR, size=5, inline=1)),
    item(9, INODE, 0, inode(REGULAR, links=0)),
    item(CONTENT + 6, INLINE, 0, b"inner"),
]
LOOP = [
    item(1, INODE, 0, inode(DIRECTORY, links=3, parent=1, entries=2)),
    entry(1, 0x100, 1, DIRECTORY, b"self"),
    entry(1, 0x200, 2, DIRECTORY, b"other"),
    item(2, INODE, 0, inode(DIRECTORY, links=3, parent=2, entries=1)),
    entry(2, 0x100, 2, DIRECTORY, b"self"),
]


def write(target, name, content):
    folder = HERE / target
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)


write("image", "one-leaf", b"".join(ROOT + FILES))
write("image", "two-leaves", b"".join(ROOT) + b"LEAF" + b"".join(FILES))
write("image", "folder-in-itself", b"".join(LOOP))
write("node", "leaf", b"\x04" + leaf(ROOT + FILES))
write("node", "empty", b"\x04" + leaf([]))
branch = [key(0, 0, 0) + pointer(20, 4, 1), key(7, 0, 0) + pointer(24, 4, 1)]
write("node", "branch", b"\x10" + leaf(branch, level=1))
write("node", "map", b"\x05" + leaf([item(0, 8, 0, bytes(2048))], tree=2))

body = struct.pack("<QII6Q", 1, 1, 0, 2048, 1024, 40, 0, 10, 3)
body = (body + pointer(16, 4, 1) + pointer(20, 1, 1) + struct.pack("<q", 0)).ljust(4016, b"\0")
write("superblock", "body", b"\x01" + body[1:])
slot = b"TZSUPER\n" + struct.pack("<HHI", 1, 1, 0) + b"\x07" * 16 + struct.pack("<Q", 5)
write("superblock", "slot", slot + bytes(24 + 16) + bytes(4016))

keyslot = struct.pack("<B3xIII", 1, 262144, 3, 4) + bytes(32 + 32 + 24 + 32 + 16 + 8 + 1 + 63 + 32)
header = b"TAZPOD\r\n" + struct.pack("<HHB3x", 1, 1, 14) + b"\x07" * 16 + struct.pack("<Q", 1)
header = (header + bytes(24) + keyslot).ljust(4096, b"\0")
write("header", "one-slot", header + header)
write("header", "luks", b"LUKS\xba\xbe" + b"\0\x02" + bytes(100))
write("operations", "mixed", bytes(range(200)))
write("operations", "reopened", bytes([1, 2, 3, 251, 0, 0, 9, 8, 7, 250, 0, 0] * 10))
