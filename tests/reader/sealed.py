"""The ciphers of FORMAT.md's suite 1, and nothing else: XAES-256-GCM, Argon2id, HKDF, HMAC, SipHash-2-4.

Only the `cryptography` package is needed, or, where it is older than 44 and has no Argon2id, `argon2-cffi` beside it
(Debian 12: python3-cryptography and python3-argon2).
"""

import hashlib
import hmac
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SUITE = struct.pack("<H", 1)
PREFIX = b"tazpod/v1/"


def hmac_sha256(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def hkdf_extract(salt, secret):
    """RFC 5869, section 2.2."""
    return hmac_sha256(salt, secret)


def hkdf_expand(prk, info, length):
    """RFC 5869, section 2.3, for at most 32 bytes: a single block."""
    assert length <= 32
    return hmac_sha256(prk, info + b"\x01")[:length]


def derive(prk, label, vault_id, length=32):
    return hkdf_expand(prk, PREFIX + label + b"\x00" + SUITE + vault_id, length)


def argon2id(secret, salt, memory_kib, passes, lanes):
    try:
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

        kdf = Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory_kib)
        return kdf.derive(secret)
    except ImportError:
        from argon2 import low_level

        return low_level.hash_secret_raw(
            secret, salt, passes, memory_kib, lanes, 32, low_level.Type.ID, version=0x13
        )


class Xaes:
    """XAES-256-GCM (C2SP): the first half of the nonce derives a key by CMAC, the second half is GCM's nonce."""

    def __init__(self, key):
        self._block = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
        zero = int.from_bytes(self._block.update(bytes(16)), "big")
        doubled = (zero << 1) & ((1 << 128) - 1)
        self._k1 = doubled ^ 0x87 if zero >> 127 else doubled

    def _cipher(self, nonce):
        key = b""
        for counter in (1, 2):
            message = struct.pack(">H", counter) + b"X\x00" + nonce[:12]
            masked = int.from_bytes(message, "big") ^ self._k1
            key += self._block.update(masked.to_bytes(16, "big"))
        return AESGCM(key), nonce[12:]

    def open(self, nonce, ciphertext, tag, aad):
        """The plaintext, or None where the tag does not verify."""
        cipher, rest = self._cipher(nonce)
        try:
            return cipher.decrypt(rest, ciphertext + tag, aad)
        except InvalidTag:
            return None


def siphash24(key, data):
    """SipHash-2-4 with a 64-bit result."""
    mask = (1 << 64) - 1
    k0, k1 = struct.unpack("<QQ", key)
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def rotate(x, n):
        return (x << n | x >> (64 - n)) & mask

    def rounds(count):
        for _ in range(count):
            v[0] = (v[0] + v[1]) & mask
            v[1] = rotate(v[1], 13) ^ v[0]
            v[0] = rotate(v[0], 32)
            v[2] = (v[2] + v[3]) & mask
            v[3] = rotate(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & mask
            v[3] = rotate(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & mask
            v[1] = rotate(v[1], 17) ^ v[2]
            v[2] = rotate(v[2], 32)

    whole = len(data) // 8 * 8
    last = data[whole:].ljust(7, b"\0") + bytes([len(data) & 0xFF])
    for (word,) in struct.iter_unpack("<Q", data[:whole] + last):
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xFF
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def self_test():
    """Vectors of C2SP's XAES-256-GCM, of the SipHash paper and of RFC 5869, before anything is trusted to them."""
    vectors = [
        (b"\x01", b"", "ce546ef63c9cc60765923609", "b33a9a1974e96e52daf2fcf7075e2271"),
        (b"\x03", b"c2sp.org/XAES-256-GCM", "986ec1832593df5443a17943", "7fd083bf3fdb41abd740a21f71eb769d"),
    ]
    for byte, aad, ciphertext, tag in vectors:
        opened = Xaes(byte * 32).open(
            b"ABCDEFGHIJKLMNOPQRSTUVWX", bytes.fromhex(ciphertext), bytes.fromhex(tag), aad
        )
        assert opened == b"XAES-256-GCM"
    assert siphash24(bytes(range(16)), bytes(range(15))) == 0xA129CA6149BE45E5
    prk = hkdf_extract(bytes(range(13)), b"\x0b" * 22)
    assert hkdf_expand(prk, bytes(range(0xF0, 0xFA)), 32).hex().startswith("3cb25f25faacd57a90434f64d0362f2a")
