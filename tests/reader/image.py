"""Opens a TazPod vault image as `vault-core/FORMAT.md` describes it, and refuses what that page does not allow.

Written from that page alone, as a second opinion on the Rust code: section numbers in comments are the page's. Nothing is
written, nothing is repaired. The order of the file is the order of opening: header, keyslots, superblocks, trees.
"""

import hmac
import struct

import sealed

UNIT = 4096
FIRST_UNIT = 16
ADDRESS_LIMIT = 1 << 40
TREE_FILES, TREE_ALLOCATION = 1, 2
POINTER = struct.Struct("<QQHBBI24s16s")


class Refused(Exception):
    """The image is not what the format allows, or not what the caller may believe."""


def require(condition, message):
    if not condition:
        raise Refused(message)


def zero(data):
    return not any(data)


class Slot:
    """A keyslot (4), judged before anything in it is used."""

    def __init__(self, index, raw, allow_cheap):
        self.index, self.raw = index, raw
        self.kind, self.memory, self.passes, self.lanes = struct.unpack_from("<B3xIII", raw)
        self.salt, self.commitment, self.nonce, self.wrapped, self.tag = struct.unpack_from("<32s32s24s32s16s", raw, 16)
        self.created, length = struct.unpack_from("<qB", raw, 152)
        if self.kind == 0:
            require(zero(raw), f"empty keyslot {index} is not zero")
            return
        require(self.kind in (1, 2, 3), f"keyslot {index} is of unknown kind {self.kind}")
        require(zero(raw[1:4]) and zero(raw[224:256]), f"keyslot {index} has stray bytes")
        require(length <= 63 and zero(raw[161 + length : 224]), f"keyslot {index} has a malformed label")
        try:
            self.label = raw[161 : 161 + length].decode("utf-8")
        except UnicodeDecodeError:
            raise Refused(f"label of keyslot {index} is not UTF-8") from None
        require(not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in self.label), f"label of keyslot {index} has controls")
        if self.kind == 3:
            require((self.memory, self.passes, self.lanes) == (0, 0, 0), f"keyslot {index} has costs it does not use")
            return
        require(1 <= self.lanes <= 8 and 1 <= self.passes <= 16, f"costs of keyslot {index} are out of bounds")
        least = 8 * self.lanes if allow_cheap else 64 << 10
        require(least <= self.memory <= 4 << 20, f"memory cost of keyslot {index} is out of bounds")

    def unlock(self, credential, vault_id):
        """The volume key, or None: every failure looks the same."""
        kind, secret = credential
        if kind != self.kind:
            return None
        if kind != 3:
            secret = sealed.argon2id(secret, self.salt, self.memory, self.passes, self.lanes)
        prk = sealed.hkdf_extract(self.salt, secret)
        if not hmac.compare_digest(sealed.derive(prk, b"slot-commitment", vault_id), self.commitment):
            return None
        aad = sealed.PREFIX + b"keyslot" + vault_id + sealed.SUITE + bytes([self.index]) + self.raw[:48]
        return sealed.Xaes(sealed.derive(prk, b"slot-wrap", vault_id)).open(self.nonce, self.wrapped, self.tag, aad)


class Header:
    """One copy of the header (4)."""

    def __init__(self, raw, allow_cheap):
        self.raw = raw
        magic, version, suite, self.shift, self.vault_id, self.sequence = struct.unpack_from("<8sHHB3x16sQ", raw)
        require(magic == b"TAZPOD\r\n", "not a TazPod vault image")
        require(version == 1 and suite == 1, f"format {version}, suite {suite}: this reader knows 1 and 1")
        require(12 <= self.shift <= 17, "data block size out of bounds")
        require(zero(raw[13:16]) and zero(raw[40:64]) and zero(raw[2112:4064]), "the header has stray bytes")
        require(self.sequence >= 1, "header sequence number is 0")
        self.slots = [Slot(i, raw[64 + 256 * i : 320 + 256 * i], allow_cheap) for i in range(8)]

    def unlock(self, credential):
        for slot in self.slots:
            volume_key = slot.unlock(credential, self.vault_id) if slot.kind else None
            if volume_key is not None and self.verified_by(volume_key):
                return volume_key
        return None

    def verified_by(self, volume_key):
        key = Subkeys(volume_key, self.vault_id).header_mac
        return hmac.compare_digest(sealed.hmac_sha256(key, self.raw[:4064]), self.raw[4064:])


class Subkeys:
    """The keys of section 3."""

    def __init__(self, volume_key, vault_id):
        prk = sealed.hkdf_extract(vault_id, volume_key)
        self.header_mac = sealed.derive(prk, b"header-mac", vault_id)
        self.superblock = sealed.Xaes(sealed.derive(prk, b"superblock", vault_id))
        self.metadata = sealed.Xaes(sealed.derive(prk, b"metadata", vault_id))
        self.data = sealed.Xaes(sealed.derive(prk, b"data", vault_id))
        self.directory_hash = sealed.derive(prk, b"directory-hash", vault_id, 16)
        self.witness_mac = sealed.derive(prk, b"witness-mac", vault_id)


class Pointer:
    """Where a block lies and how it is recognised (6)."""

    def __init__(self, raw):
        fields = POINTER.unpack(raw)
        self.address, self.birth, self.length, self.kind, self.level, blank, self.nonce, self.tag = fields
        require(FIRST_UNIT <= self.address and self.address + self.length <= ADDRESS_LIMIT, "pointer out of range")
        require(self.length >= 1 and blank == 0 and self.kind in (1, 2), "malformed pointer")
        require(self.level <= (15 if self.kind == 1 else 0), "malformed pointer level")


class Superblock:
    """One slot of the ring (5), after it opened."""

    def __init__(self, slot, generation, tag, body):
        self.slot, self.generation, self.tag = slot, generation, tag
        require(generation >= 1, "superblock of generation 0")
        fields = struct.unpack_from("<QI4xQQQQQQ", body)
        self.header_sequence, flags, self.capacity, self.length = fields[:4]
        self.allocated, self.reserved, self.next_inode, self.inodes = fields[4:]
        require(flags in (0, 1) and zero(body[12:16]) and zero(body[200:]), "the superblock has stray bytes")
        self.proven = flags == 1
        require(FIRST_UNIT <= self.length <= self.capacity <= ADDRESS_LIMIT, "superblock geometry out of bounds")
        self.files, self.allocation = Pointer(body[64:128]), Pointer(body[128:192])
        for root in (self.files, self.allocation):
            require(root.kind == 1 and root.birth <= generation, "malformed root pointer")
        (self.committed,) = struct.unpack_from("<q", body, 192)


class Image:
    """An opened image: the chosen superblock, and the means to read blocks below it."""

    def __init__(self, file, credential, witness=None, accept_generation=None, allow_cheap=True):
        self.file = file
        self.units, rest = divmod(file.seek(0, 2), UNIT)
        require(rest == 0 and self.units >= FIRST_UNIT, "the image is truncated")
        self.warnings = []
        self._open_header(credential, allow_cheap)
        self._check_witness_mac(witness)
        self._recover(accept_generation)

    def _unit(self, address, count=1):
        self.file.seek(address * UNIT)
        data = self.file.read(count * UNIT)
        require(len(data) == count * UNIT, "the image is truncated")
        return data

    def _open_header(self, credential, allow_cheap):
        copies, problems = [], []
        for unit in (0, 9):
            try:
                copies.append(Header(self._unit(unit), allow_cheap))
            except Refused as problem:
                problems.append(problem)
        if not copies:
            raise problems[0]
        keys = [key for key in (copy.unlock(credential) for copy in copies) if key is not None]
        require(keys, "no keyslot opened with this credential")
        volume_key = keys[0]
        good = [copy for copy in copies if copy.verified_by(volume_key)]
        self.header_copies_agree = len(good) == 2 and good[0].raw == good[1].raw
        self.header = max(good, key=lambda copy: copy.sequence)
        self.vault_id = self.header.vault_id
        self.keys = Subkeys(volume_key, self.vault_id)
        if not self.header_copies_agree:
            self.warnings.append("the header's copies differ")

    def _superblocks(self):
        for slot in range(8):
            raw = self._unit(1 + slot)
            if zero(raw):
                continue
            magic, version, suite, blank, vault_id, generation = struct.unpack_from("<8sHHI16sQ", raw)
            body = None
            if (magic, version, suite, blank, vault_id) == (b"TZSUPER\n", 1, 1, 0, self.vault_id):
                aad = raw[:40] + bytes([slot])
                body = self.keys.superblock.open(raw[40:64], raw[80:], raw[64:80], aad)
            if body is None:
                self.warnings.append(f"superblock slot {slot} is torn or unreadable")
            else:
                yield Superblock(slot, generation, raw[64:80], body)

    def _check_witness_mac(self, raw):
        self.witness = None
        if raw is None:
            return
        require(len(raw) == 96 and raw[:8] == b"TZWITN\n\x01", "the witness is malformed")
        mac = sealed.hmac_sha256(self.keys.witness_mac, raw[:64])
        require(hmac.compare_digest(mac, raw[64:]), "the witness does not authenticate")
        vault_id, generation, sequence, tag, flags = struct.unpack_from("<16sQQ16sQ", raw, 8)
        require(vault_id == self.vault_id, "the witness is another vault's")
        require(flags in (0, 1), "the witness has stray bytes")
        require(flags == 0, "this vault was retired by a re-key")
        self.witness = (generation, sequence, tag)

    def _recover(self, accept_generation):
        """Section 9: the newest state that is whole."""
        ring = sorted(self._superblocks(), key=lambda block: block.generation, reverse=True)
        require(ring, "no superblock opens")
        require(len({block.generation for block in ring}) == len(ring), "two superblocks of one generation")
        newest = ring[0]
        self.superblock, self.stepped_back = newest, None
        witnessed = self.witness[0] if self.witness and accept_generation is None else 0
        if not newest.proven:
            problem = self._unproven_damage(newest)
            if problem is not None:
                require(newest.generation > witnessed and len(ring) > 1, f"damaged: {problem}")
                self.superblock, self.stepped_back = ring[1], newest.generation
        sequence = self.header.sequence
        require(newest.header_sequence <= sequence <= newest.header_sequence + 1, "an old header was put back")
        self._check_rollback(accept_generation)
        self._adopt(self.superblock)

    def _check_rollback(self, accept_generation):
        found = self.superblock.generation
        if accept_generation is not None:
            require(found == accept_generation, f"generation {found} is not the accepted {accept_generation}")
        elif self.witness:
            generation, sequence, tag = self.witness
            require(found >= generation, f"generation {found} is older than {generation}, seen before")
            require(found > generation or self.superblock.tag == tag, f"generation {found} is another one: a fork")
            require(self.header.sequence >= sequence, "an older header than the one seen before")

    def _adopt(self, superblock):
        require(superblock.length <= self.units, "the image is truncated")
        self.length = superblock.length

    def _unproven_damage(self, superblock):
        """What is wrong with the blocks born in this generation; None when all are whole."""
        try:
            self._adopt(superblock)
            for tree, root in ((TREE_FILES, superblock.files), (TREE_ALLOCATION, superblock.allocation)):
                if root.birth == superblock.generation:
                    self._read_born(tree, root, superblock.generation)
        except Refused as problem:
            return problem
        return None

    def _read_born(self, tree, root, generation):
        for key, value, node in self.walk(tree, root, born=generation):
            if key[1] == 6 and value[0] == 1:
                pointer = self.data_pointer(value, node)
                if pointer.birth == generation:
                    self.read_data(pointer, key[0], key[2])

    def read_block(self, pointer, owner, index):
        """The authenticated plaintext of a block (6)."""
        require(pointer.address + pointer.length <= self.length, "a block lies beyond the end")
        aad = b"TZBLOCK\n" + self.vault_id + struct.pack(
            "<QQHBBIQQ", pointer.address, pointer.birth, pointer.length, pointer.kind, pointer.level, 0, owner, index
        )
        key = self.keys.metadata if pointer.kind == 1 else self.keys.data
        plain = key.open(pointer.nonce, self._unit(pointer.address, pointer.length), pointer.tag, aad)
        require(plain is not None, f"the block at unit {pointer.address} does not authenticate")
        return plain

    def data_pointer(self, value, node):
        require(len(value) == 65, "malformed extent")
        pointer = Pointer(value[1:])
        require(pointer.kind == 2 and pointer.birth <= node.birth, "malformed data pointer")
        require(pointer.length * UNIT <= 1 << self.header.shift, "a data block is too long")
        return pointer

    def read_data(self, pointer, inode, block):
        return self.read_block(pointer, inode, block)

    def walk(self, tree, root, born=None, visit=None):
        """All (key, value, node) of a tree in order (7); with `born`, only below nodes of that generation."""
        require(root.kind == 1, "malformed root pointer")
        yield from self._walk(tree, root, (0, 0, 0), None, born, visit, True)

    def _walk(self, tree, node, low, high, born, visit, is_root):
        require(node.length <= 4, "a node is too long")
        if visit is not None:
            visit(node)
        items = list(self._items(self.read_block(node, tree, 0), tree, node, is_root))
        keys = [key for key, _ in items]
        require(all(a < b for a, b in zip(keys, keys[1:])), "keys out of order")
        require(not keys or (low <= keys[0] and (high is None or keys[-1] < high)), "keys out of bounds")
        for (key, value), after in zip(items, keys[1:] + [high]):
            if node.level == 0:
                yield key, value, node
                continue
            child = Pointer(value)
            require(child.kind == 1 and child.level == node.level - 1, "malformed child pointer")
            require(child.birth <= node.birth, "a child is younger than its parent")
            if born is None or child.birth == born:
                yield from self._walk(tree, child, key, after, born, visit, False)

    def _items(self, plain, tree, pointer, is_root):
        level, node_tree, count, used = struct.unpack_from("<BBHI", plain)
        require((level, node_tree) == (pointer.level, tree), "a node is not what its pointer says")
        require(8 <= used <= len(plain) and zero(plain[used:]), "a node has stray bytes")
        require(count > 0 or (level == 0 and is_root), "an empty node")
        at = 8
        for _ in range(count):
            require(at + 17 <= used, "a node is cut short")
            key = struct.unpack_from("<QBQ", plain, at)
            at += 17
            length = 64
            if level == 0:
                require(at + 2 <= used, "a node is cut short")
                (length,) = struct.unpack_from("<H", plain, at)
                require(length <= 4200, "a value is too long")
                at += 2
            require(at + length <= used, "a node is cut short")
            yield key, plain[at : at + length]
            at += length
        require(at == used, "a node has stray items")
