#!/usr/bin/env python3
"""Writes the seeds that fuzzing starts from, by the layouts of vault-core/FORMAT.md."""

import json
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

CIPHER = "aes-xts-plain64"


def luks2():
    kdf = {"type": "argon2id", "time": 4, "memory": 65536, "cpus": 4, "salt": "AAAAAAAAAAAAAAAAAAAAAA=="}
    area = {"type": "raw", "offset": "32768", "size": "0", "encryption": CIPHER, "key_size": 64}
    keyslot = {"type": "luks2", "key_size": 64, "area": area, "kdf": kdf}
    keyslot["af"] = {"type": "luks1", "stripes": 0, "hash": "sha256"}
    segment = {"type": "crypt", "offset": "32768", "size": "dynamic", "iv_tweak": "0", "sector_size": 512}
    segment["encryption"] = CIPHER
    digest = {"type": "pbkdf2", "keyslots": ["0"], "segments": ["0"], "hash": "sha256", "iterations": 1000}
    digest |= {"salt": kdf["salt"], "digest": kdf["salt"]}
    whole = {"keyslots": {"0": keyslot}, "segments": {"0": segment}, "digests": {"0": digest}, "config": {}, "tokens": {}}
    return json.dumps(whole, separators=(",", ":")).encode()


def luks1():
    text = lambda value, size: value.ljust(size, b"\0")
    head = b"LUKS\xba\xbe\0\x01" + text(b"aes", 32) + text(b"xts-plain64", 32) + text(b"sha256", 32)
    head += struct.pack(">II", 8, 64) + bytes(20 + 32) + struct.pack(">I", 1000) + text(b"uuid", 40)
    return head + (struct.pack(">II", 0x00AC71F3, 1000) + bytes(32) + struct.pack(">II", 2, 4)) * 8


def ext4_inode(mode, size, content, links=1, flags=0x80000, rest=b""):
    head = struct.pack("<HHIIIIIHHIII", mode, 0, size, 1, 2, 3, 0, 0, links, 2, flags, 0)
    head = head + content.ljust(60, b"\0") + bytes(28)
    extra = struct.pack("<HHIIII", 32, 0, 4, 8, 12, 0).ljust(32, b"\0")
    return (head.ljust(128, b"\0") + extra + rest).ljust(256, b"\0")


def extents(*runs):
    head = struct.pack("<HHHHI", 0xF30A, len(runs), 4, 0, 0)
    return head + b"".join(struct.pack("<IHHI", first, size, 0, place) for first, size, place in runs)


def ext4():
    def names(*entries):
        out = b""
        for at, (number, kind, name) in enumerate(entries):
            size = -(-(8 + len(name)) // 4) * 4
            size = size if at + 1 < len(entries) else 1024 - len(out)
            out += struct.pack("<IHBB", number, size, len(name), kind) + name.ljust(size - 8, b"\0")
        return out

    blocks = [bytes(1024)] * 15
    blocks[1] = struct.pack("<III", 0, 0, 3).ljust(1024, b"\0")
    attribute = struct.pack("<I", 0xEA020000) + struct.pack("<BBHIII", 1, 1, 60, 0, 5, 0) + b"a\0\0\0"
    attribute = attribute.ljust(64, b"\0") + b"value"
    table = [bytes(256)] * 24
    table[1] = ext4_inode(0o040755, 1024, extents((0, 1, 9)), 3)
    table[11] = ext4_inode(0o100644, 5000, extents((0, 1, 11), (3, 32769, 12)), 2, rest=attribute)
    table[12] = ext4_inode(0o120777, 6, b"target", flags=0)
    table[13] = ext4_inode(0o040755, 1024, extents((0, 1, 10)), 2)
    table[14] = ext4_inode(0o020600, 0, struct.pack("<II", 0, 259), flags=0)
    inodes = b"".join(table)
    blocks[2:8] = [inodes[at : at + 1024] for at in range(0, 6144, 1024)]
    top = [(2, 2, b"."), (2, 2, b".."), (12, 1, b"file"), (12, 1, b"again"), (13, 7, b"link")]
    blocks[8] = names(*top, (14, 2, b"folder"), (15, 3, b"device"))
    blocks[9] = names((14, 2, b"."), (2, 2, b".."))
    return b"".join(blocks)


write("luks", "version-2", b"\x01" + luks2())
write("luks", "version-1", b"\x04" + luks1())
write("ext4", "one-of-each", ext4())


def ext4_with_journal():
    image = bytearray(ext4())
    image[96] = 4
    image[224:228] = struct.pack("<I", 16)
    at = 2048 + 15 * 256
    image[at : at + 256] = ext4_inode(0o100600, 4096, extents((0, 4, 12)))
    head = lambda kind: struct.pack(">III", 0xC03B3998, kind, 1)
    superblock = head(4) + struct.pack(">IIIII4x4xI", 1024, 4, 1, 1, 1, 0x13)
    descriptor = head(1) + struct.pack(">IIII", 9, 2 | 8, 0, 0)
    for block, content in ((12, superblock), (13, descriptor), (15, head(2))):
        at = (block - 1) * 1024
        image[at : at + len(content)] = content
    image[13 * 1024 : 14 * 1024] = image[8 * 1024 : 9 * 1024]
    return bytes(image)


write("ext4", "journal", ext4_with_journal())


def pax(*records):
    out = b""
    for name, value in records:
        body = b" " + name + b"=" + value + b"\n"
        size = len(body)
        while len(str(size)) + len(body) != size:
            size = len(str(size)) + len(body)
        out += str(size).encode() + body
    return out


def tar(*entries):
    """Entries of name, kind, link and content. Sums are left to the target."""
    out = b""
    for name, kind, link, content in entries:
        head = name.ljust(100, b"\0") + b"0000755\0" + b"0001750\0" * 2 + b"%011o\0" % len(content) + b"14000000000\0"
        head += b" " * 8 + kind + link.ljust(100, b"\0") + b"ustar\x0000"
        out += head.ljust(512, b"\0") + content.ljust(-(-len(content) // 512) * 512, b"\0")
    return out + bytes(1024)


ACL = b"user::rwx,user:7:r--,group::r-x,mask::r-x,other::r-x"
ABOUT = (b"mtime", b"1700000000.5"), (b"SCHILY.xattr.user.a", b"value"), (b"SCHILY.acl.access", ACL)
SPARSE = (b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", b"holes"), (b"GNU.sparse.realsize", b"9000")
write("import", "one-of-each", b"\x00" + tar(
    (b"./", b"5", b"", b""),
    (b"./PaxHeaders/entry", b"x", b"", pax(*ABOUT)),
    (b"folder/", b"5", b"", b""),
    (b"folder/file", b"0", b"", b"content"),
    (b"again", b"1", b"folder/file", b""),
    (b"link", b"2", b"../../outside", b""),
    (b"fifo", b"6", b"", b""),
    (b"device", b"3", b"", b""),
    (b"L", b"L", b"", b"a-long-name/" * 12 + b"\0"),
    (b"x", b"0", b"", b"x" * 600),
    (b"./PaxHeaders/entry", b"x", b"", pax(*SPARSE)),
    (b"GNUSparseFile/holes", b"0", b"", b"1\n4096\n100\n".ljust(512, b"\0") + b"y" * 100),
))
write("import", "overwrite", b"\x03" + tar(
    (b"g", b"g", b"", pax((b"uid", b"7"), (b"gid", b"8"))),
    (b"./", b"5", b"", b""),
    (b"kept", b"0", b"", b"other"),
    (b"folder", b"5", b"", b""),
    (b"folder/new", b"0", b"", b""),
    (b"folder/new", b"2", b"kept", b""),
))


def old_sparse(name, size, *ranges):
    """GNU's older form: up to four ranges in the header, and then their content."""
    content = b"".join(bytes([at % 256]) * count for at, count in ranges)
    head = bytearray(tar((name, b"S", b"", content)))[:-1024]
    octal = lambda value: b"%011o\0" % value
    head[257:265] = b"ustar  \0"
    head[386 : 386 + 24 * len(ranges)] = b"".join(octal(at) + octal(count) for at, count in ranges)
    head[483:495] = octal(size)
    return bytes(head)


write("import", "old-sparse", b"\x00" + old_sparse(b"holes", 70000, (512, 100), (65536, 1000)) + bytes(1024))
write("import", "escape", b"\x01" + tar((b"folder/../../x", b"0", b"", b"x"), (b"/etc/x", b"0", b"", b"x")))
