#!/usr/bin/env python3
"""Reads a TazPod vault image without any of TazPod's code.

    tazpod_reader.py IMAGE info    [CREDENTIAL]        header; with a credential also the state that opening chooses
    tazpod_reader.py IMAGE list    CREDENTIAL          one line per path, tab-separated, content hashed
    tazpod_reader.py IMAGE extract CREDENTIAL DIR      everything, into a new folder
    tazpod_reader.py IMAGE check   CREDENTIAL          everything that FORMAT.md section 13 names

CREDENTIAL is --passphrase-file, --key-file or --recovery-key-file (64 hexadecimal digits) with a path. A witness may be given
with --witness, and an older generation accepted with --accept-generation N. Exit code 1 means refused, with the reason.
"""

import argparse
import errno
import hashlib
import os
import stat
import sys

import sealed
from image import Header, Image, Refused, UNIT
from tree import FileSystem

TYPES = {1: "fifo", 2: "char", 4: "dir", 6: "block", 8: "file", 10: "link", 12: "socket"}


def main():
    arguments = parse()
    sealed.self_test()
    try:
        with open(arguments.image, "rb") as file:
            run(arguments, file)
    except (Refused, OSError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    return 0


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image")
    parser.add_argument("command", choices=["info", "list", "extract", "check"])
    parser.add_argument("folder", nargs="?")
    kinds = parser.add_mutually_exclusive_group()
    for name in ("passphrase", "key", "recovery-key"):
        kinds.add_argument(f"--{name}-file", dest=name.replace("-", "_"))
    parser.add_argument("--witness")
    parser.add_argument("--accept-generation", type=int)
    arguments = parser.parse_args()
    if (arguments.command == "extract") != (arguments.folder is not None):
        parser.error("extract, and only extract, takes a folder")
    if arguments.command != "info" and credential(arguments) is None:
        parser.error("a credential is needed")
    return arguments


def credential(arguments):
    """(slot kind, secret bytes). One line end after a passphrase belongs to the file, not to the passphrase."""
    if arguments.passphrase:
        return 1, read(arguments.passphrase).removesuffix(b"\n").removesuffix(b"\r")
    if arguments.key:
        return 2, read(arguments.key)
    if arguments.recovery_key:
        return 3, bytes.fromhex(read(arguments.recovery_key).decode("ascii"))
    return None


def read(path):
    with open(path, "rb") as file:
        return file.read()


def run(arguments, file):
    if arguments.command == "info" and credential(arguments) is None:
        return show_header(Header(file.read(UNIT), allow_cheap=True))
    witness = read(arguments.witness) if arguments.witness else None
    image = Image(file, credential(arguments), witness, arguments.accept_generation)
    for warning in image.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if image.stepped_back:
        print(f"warning: generation {image.stepped_back} is torn, using {image.superblock.generation}", file=sys.stderr)
    if arguments.command == "info":
        show_header(image.header)
        return show_superblock(image.superblock)
    files = FileSystem(image)
    if arguments.command == "list":
        list_paths(files)
    elif arguments.command == "check":
        files.check()
        print(f"clean: generation {image.superblock.generation}, {len(files.inodes)} inodes, {len(files.used)} units")
    else:
        Extraction(files, os.fsencode(arguments.folder)).run()


def show_header(header):
    print(f"vault {header.vault_id.hex()}\nheader sequence {header.sequence}\ndata block {1 << header.shift} bytes")
    for slot in header.slots:
        if slot.kind:
            print(f"slot {slot.index}: kind {slot.kind}, {slot.memory} KiB, {slot.passes} passes, {slot.lanes} lanes")


def show_superblock(block):
    print(f"generation {block.generation} ({'proven' if block.proven else 'unproven'})")
    print(f"units: {block.length} of {block.capacity}, {block.allocated} allocated, {block.reserved} reserved")
    print(f"inodes: {block.inodes}, next {block.next_inode}")


def list_paths(files):
    """type, mode, links, uid, gid, size, mtime, device, hash or target, attributes, path: the fields of a line."""
    for path, inode in files.paths():
        attributes = ",".join(
            f"{escape(name)}={hashlib.sha256(value).hexdigest()[:16]}" for name, value in sorted(inode.xattrs.items())
        )
        if inode.is_file:
            content = digest(files, inode)
        else:
            content = escape(inode.target) if inode.is_link else "-"
        fields = [TYPES[inode.mode >> 12], f"{inode.mode & 0o7777:04o}", inode.links, inode.uid, inode.gid, inode.size]
        fields += [f"{inode.times[1]}.{inode.nanos[1]:09}", inode.device, content, attributes or "-", escape(path) or "."]
        print("\t".join(map(str, fields)))


def digest(files, inode):
    state, at = hashlib.sha256(), 0
    for offset, data in files.pieces(inode):
        hash_zeros(state, offset - at)
        state.update(data)
        at = offset + len(data)
    hash_zeros(state, inode.size - at)
    return state.hexdigest()


def hash_zeros(state, count):
    chunk = bytes(1 << 20)
    while count > 0:
        state.update(chunk[: min(count, len(chunk))])
        count -= len(chunk)


def escape(raw):
    return "".join(chr(b) if 0x20 < b < 0x7F and b not in b"\\,=" else f"\\x{b:02x}" for b in raw)


class Extraction:
    """Writes the tree to a folder. Ownership, devices and privileged attributes need root and are set only then."""

    def __init__(self, files, folder):
        self.files, self.folder, self.privileged = files, folder, os.geteuid() == 0
        self.first_path = {}

    def run(self):
        folders = []
        for path, inode in self.files.paths():
            where = os.path.join(self.folder, path) if path else self.folder
            if inode.number in self.first_path:
                os.link(self.first_path[inode.number], where, follow_symlinks=False)
                continue
            self.make(where, inode)
            if inode.is_dir:
                folders.append((where, inode))
            else:
                self.first_path[inode.number] = where
                self.dress(where, inode)
        for where, inode in reversed(folders):
            self.dress(where, inode)

    def make(self, where, inode):
        if inode.is_dir:
            os.mkdir(where, 0o700)
        elif inode.is_link:
            os.symlink(inode.target, where)
        elif inode.is_file:
            with open(where, "xb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o600)) as file:
                for offset, data in self.files.pieces(inode):
                    file.seek(offset)
                    file.write(data)
                file.truncate(inode.size)
        elif self.privileged or stat.S_ISFIFO(inode.mode) or stat.S_ISSOCK(inode.mode):
            major, minor = inode.device >> 8 & 0xFFF, inode.device & 0xFF | inode.device >> 12 & 0xFFF00
            os.mknod(where, stat.S_IFMT(inode.mode) | 0o600, os.makedev(major, minor))
        else:
            raise Refused(f"{os.fsdecode(where)}: only root can make device nodes")

    def dress(self, where, inode):
        if self.privileged:
            os.chown(where, inode.uid, inode.gid, follow_symlinks=False)
        if not inode.is_link:
            os.chmod(where, inode.mode & 0o7777)
        for name, value in inode.xattrs.items():
            if self.privileged or name.startswith((b"user.", b"system.")):
                self.set_attribute(where, name, value)
        atime, mtime = (inode.times[i] * 10**9 + inode.nanos[i] for i in (0, 1))
        os.utime(where, ns=(atime, mtime), follow_symlinks=False)

    def set_attribute(self, where, name, value):
        """Few file systems take attributes as large as a vault does: what does not fit is named, the rest goes on."""
        try:
            os.setxattr(where, name, value, follow_symlinks=False)
        except OSError as problem:
            if problem.errno not in (errno.ENOSPC, errno.E2BIG, errno.ENOTSUP):
                raise
            print(f"warning: {escape(where)}: attribute {escape(name)} left out: {problem.strerror}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
