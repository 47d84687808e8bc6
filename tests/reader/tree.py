"""The file system inside an opened image: FORMAT.md sections 8 and 13."""

import stat
import struct

import sealed
from image import FIRST_UNIT, TREE_ALLOCATION, TREE_FILES, UNIT, Refused, require, zero

INODE = struct.Struct("<IIIIQQII4q4IQQII")
CHUNK = 2048
PAGE_UNITS = 16384
CONTENT = 1 << 63


class Inode:
    """Attributes (8.1) and everything that hangs on them."""

    def __init__(self, number, raw):
        require(len(raw) == INODE.size, f"inode {number} is malformed")
        (self.mode, self.uid, self.gid, self.links, self.size, self.units, self.device, flags, *rest) = INODE.unpack(raw)
        self.number = number
        self.times, self.nanos = rest[0:4], rest[4:8]
        self.parent, self.entry_count, self.xattr_count, blank = rest[8:12]
        kind = stat.S_IFMT(self.mode)
        self.is_dir, self.is_file, self.is_link = kind == stat.S_IFDIR, kind == stat.S_IFREG, kind == stat.S_IFLNK
        kinds = (stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK)
        require(kind in kinds and self.mode < 1 << 16, f"inode {number} is of unknown type")
        require(flags in (0, 1) and blank == 0, f"inode {number} has stray bytes")
        self.inline_flag = flags == 1
        require(all(n < 10**9 for n in self.nanos), f"inode {number} has a malformed time")
        require(self.device == 0 or kind in (stat.S_IFCHR, stat.S_IFBLK), f"inode {number} has a device number")
        require(self.is_file or self.is_link or self.size == 0, f"inode {number} has a size")
        require(self.size < 1 << 63, f"inode {number} is too large")
        require(self.is_dir or (self.parent, self.entry_count) == (0, 0), f"inode {number} has a folder's fields")
        require(not self.inline_flag or (self.is_file and 1 <= self.size <= 4096), f"inode {number} cannot be inline")
        self.entries, self.chunks, self.extents = {}, {}, []
        self.target = self.inline = None
        self.seen_links = 0


class FileSystem:
    """All of the file system tree, collected and judged as a whole."""

    def __init__(self, image):
        self.image = image
        self.inodes, self.orphans, self.used = {}, set(), {}
        loose = []
        for key, value, node in image.walk(TREE_FILES, image.superblock.files, visit=self._claim):
            if key[1] == 1:
                require(key[2] == 0 and 1 <= key[0] < CONTENT, "malformed inode key")
                self.inodes[key[0]] = Inode(key[0], value)
            else:
                loose.append((key, value, node))
        for key, value, node in loose:
            self._attach(key, value, node)
        for inode in self.inodes.values():
            self._judge(inode)
        self._judge_tree()

    def _claim(self, pointer):
        """Every unit is referenced at most once."""
        for unit in range(pointer.address, pointer.address + pointer.length):
            require(unit not in self.used, f"unit {unit} is referenced twice")
            self.used[unit] = pointer.kind

    def _attach(self, key, value, node):
        number, kind, offset = key
        require((number >= CONTENT) == (kind == 4), f"an item of kind {kind} in the wrong range")
        number %= CONTENT
        if kind == 7:
            require(number == 0 and value == b"", "malformed orphan")
            self.orphans.add(offset)
            return
        inode = self.inodes.get(number)
        require(inode is not None, f"items of inode {number}, which does not exist")
        if kind == 2:
            inode.chunks[offset] = value
        elif kind == 3:
            self._attach_entry(inode, offset, value)
        elif kind == 4:
            require(offset == 0 and inode.inline_flag and len(value) == inode.size, f"stray content of inode {number}")
            inode.inline = value
        elif kind == 5:
            require(offset == 0 and inode.is_link and len(value) == inode.size, f"stray target of inode {number}")
            require(1 <= len(value) <= 4095 and b"\0" not in value, f"malformed target of inode {number}")
            inode.target = value
        elif kind == 6:
            self._attach_extent(inode, offset, value, node)
        else:
            raise Refused(f"item of unknown kind {kind}")

    def _attach_entry(self, folder, cookie, value):
        require(folder.is_dir and len(value) >= 10, f"malformed entry of folder {folder.number}")
        number, kind = struct.unpack_from("<QB", value)
        name = value[9:]
        require(len(name) <= 255 and not set(name) & {0, 0x2F} and name not in (b".", b".."), "malformed name")
        base = max(sealed.siphash24(self.image.keys.directory_hash, name) >> 9, 1)
        require(cookie >> 8 == base, "an entry lies under another name's hash")
        require(name not in folder.entries, "a name occurs twice")
        target = self.inodes.get(number)
        require(target is not None, "an entry names an inode that does not exist")
        require(target.mode >> 12 == kind, "an entry and its inode differ in type")
        folder.entries[name] = target
        if not target.is_dir:
            target.seen_links += 1

    def _attach_extent(self, inode, block, value, node):
        number, shift = inode.number, self.image.header.shift
        require(inode.is_file and not inode.inline_flag and len(value) >= 1, f"stray extent of inode {number}")
        if value[0] == 1:
            pointer, count = self.image.data_pointer(value, node), 1
            require(block << shift < inode.size, f"data of inode {number} beyond its size")
            self._claim(pointer)
        else:
            require(value[0] == 2 and len(value) == 9, f"malformed extent of inode {number}")
            pointer, (count,) = None, struct.unpack("<Q", value[1:])
        require(count >= 1 and (block + count) << shift <= 1 << 63, f"extent of inode {number} out of range")
        end = inode.extents[-1][0] + inode.extents[-1][1] if inode.extents else 0
        require(block >= end, f"extents of inode {number} overlap")
        inode.extents.append((block, count, pointer))

    def _judge(self, inode):
        number = inode.number
        require(inode.inline_flag == (inode.inline is not None), f"inode {number} lacks its inline content")
        require(inode.is_link == (inode.target is not None), f"link {number} lacks its target")
        per_block = 1 << self.image.header.shift - 12
        units = sum(p.length if p else count * per_block for _, count, p in inode.extents)
        require(units == inode.units, f"inode {number} counts {inode.units} units, has {units}")
        inode.xattrs = self._xattrs(inode)
        require(len(inode.xattrs) == inode.xattr_count, f"inode {number} counts its attributes wrongly")
        if inode.is_dir:
            require(len(inode.entries) == inode.entry_count, f"folder {number} counts its entries wrongly")
            inode.seen_links = 2 + sum(child.is_dir for child in inode.entries.values())
            if number in self.orphans:
                require(not inode.entries, f"removed folder {number} has entries")

    def _xattrs(self, inode):
        groups, found = {}, {}
        for offset, value in inode.chunks.items():
            groups.setdefault(offset >> 8, {})[offset & 0xFF] = value
        for group, chunks in groups.items():
            parts = [chunks.get(i) for i in range(len(chunks))]
            require(None not in parts and len(parts[0]) >= 6 and len(parts) <= 32, "malformed attribute")
            length, name_length = struct.unpack_from("<IB", parts[0])
            name, parts[0] = parts[0][5 : 5 + name_length], parts[0][5 + name_length :]
            require(1 <= len(name) == name_length and b"\0" not in name, "malformed attribute name")
            require(length <= 65536 and sum(map(len, parts)) == length, "malformed attribute value")
            require(all(len(part) == CHUNK for part in parts[:-1]) and len(parts[-1]) <= CHUNK, "malformed chunks")
            require(len(parts) == 1 or parts[-1], "an empty chunk")
            base = sealed.siphash24(self.image.keys.directory_hash, name) >> 16
            require(group >> 8 == base, "an attribute lies under another name's hash")
            require(name not in found, "an attribute occurs twice")
            found[name] = b"".join(parts)
        return found

    def _judge_tree(self):
        root = self.inodes.get(1)
        require(root is not None and root.is_dir and root.parent == 1, "there is no root folder")
        reached, queue = {1}, [root]
        while queue:
            folder = queue.pop()
            for child in folder.entries.values():
                if child.is_dir:
                    require(child.number not in reached, f"folder {child.number} has two parents")
                    require(child.parent == folder.number, f"folder {child.number} names another parent")
                    reached.add(child.number)
                    queue.append(child)
        for inode in self.inodes.values():
            number = inode.number
            if number in self.orphans:
                require(inode.links == 0, f"orphan {number} has links")
                require(inode.is_dir or inode.seen_links == 0, f"orphan {number} has a name")
                require(number not in reached, f"orphan {number} has a name")
            else:
                require(inode.links == inode.seen_links >= 1, f"inode {number} counts its links wrongly")
                require(not inode.is_dir or number in reached, f"folder {number} cannot be reached")
        require(self.orphans <= self.inodes.keys(), "an orphan that does not exist")
        block = self.image.superblock
        require(len(self.inodes) == block.inodes, "the superblock counts inodes wrongly")
        require(max(self.inodes) < block.next_inode, "the next inode number is taken")

    def paths(self):
        """(path, inode) of everything, parents first, names in byte order."""
        queue = [(b"", self.inodes[1])]
        while queue:
            path, inode = queue.pop()
            yield path, inode
            for name in sorted(inode.entries, reverse=True):
                queue.append((path + b"/" + name if path else name, inode.entries[name]))

    def pieces(self, inode):
        """(offset, bytes) of what a file holds; what is not named reads as zeros."""
        if inode.inline is not None:
            yield 0, inode.inline
        for block, _, pointer in inode.extents:
            if pointer is not None:
                start = block << self.image.header.shift
                plain = self.image.read_data(pointer, inode.number, block)
                inside = min(len(plain), inode.size - start)
                require(zero(plain[inside:]), f"bytes beyond the end of inode {inode.number} are not zero")
                yield start, plain[:inside]

    def check(self):
        """What section 13 asks beyond what collecting the tree has shown: all data, and the allocation map."""
        for inode in self.inodes.values():
            for _ in self.pieces(inode):
                pass
        self._check_allocation()
        require(self.image.header_copies_agree, "the header's copies differ")

    def _check_allocation(self):
        image, block = self.image, self.image.superblock
        pages = {}
        for key, value, _ in image.walk(TREE_ALLOCATION, block.allocation, visit=self._claim):
            require(key[:2] == (0, 8) and len(value) == 2048, "malformed allocation page")
            pages[key[2]] = value
        marked = set()
        for page, bits in pages.items():
            for index in range(PAGE_UNITS):
                if bits[index // 8] >> index % 8 & 1:
                    marked.add(page * PAGE_UNITS + index)
        expected = set(self.used) | set(range(FIRST_UNIT))
        require(marked == expected, f"the allocation map is wrong at {sorted(marked ^ expected)[:8]}")
        require(all(unit < block.length for unit in marked), "the allocation map goes beyond the end")
        require(block.allocated == len(marked), "the superblock counts allocated units wrongly")
        per_block = 1 << image.header.shift - 12
        reserved = sum(
            count * per_block for inode in self.inodes.values() for _, count, p in inode.extents if p is None
        )
        require(block.reserved == reserved, f"the superblock reserves {block.reserved} units, extents {reserved}")


assert UNIT == 4096
