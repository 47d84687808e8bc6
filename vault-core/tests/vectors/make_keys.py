#!/usr/bin/env python3
"""Makes keys.txt and header.bin from FORMAT.md sections 3, 4 and 12, without any code of vault-core.

Needs the Python package `cryptography` 44 or later (Argon2id). Output is deterministic.
"""

import hashlib
import hmac
import pathlib
import struct

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

HERE = pathlib.Path(__file__).parent
SUITE = struct.pack("<H", 1)
# The entropy that the test hands out: 0, 1, 2, ... in the order vault id, volume key, salt, nonce.
STREAM = bytes(range(104))
VAULT, VOLUME_KEY, SALT, NONCE = STREAM[:16], STREAM[16:48], STREAM[48:80], STREAM[80:104]
PASSPHRASE = b"correct horse battery staple"
MEMORY, PASSES, LANES = 64, 3, 2
CREATED = 1_700_000_000
LABEL = "notebook".encode()


def extract(salt, ikm):
    return hmac.new(salt, ikm, hashlib.sha256).digest()


def expand(prk, label, length):
    info = b"tazpod/v1/" + label.encode() + b"\0" + SUITE + VAULT
    return HKDFExpand(algorithm=SHA256(), length=length, info=info).derive(prk)


def aes_block(key, block):
    return Cipher(algorithms.AES256(key), modes.ECB()).encryptor().update(block)


def xaes_seal(key, nonce, plaintext, aad):
    """C2SP XAES-256-GCM, section "Detailed key derivation algorithm"."""
    left = int.from_bytes(aes_block(key, bytes(16)), "big")
    k1 = (left << 1) & (2**128 - 1) ^ (0b10000111 if left >> 127 else 0)
    halves = [b"\0" + bytes([i]) + b"X\0" + nonce[:12] for i in (1, 2)]
    derived = b"".join(aes_block(key, (int.from_bytes(m, "big") ^ k1).to_bytes(16, "big")) for m in halves)
    return AESGCM(derived).encrypt(nonce[12:], plaintext, aad)


def argon2id(passphrase, salt, memory, passes, lanes):
    kdf = Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory)
    return kdf.derive(passphrase)


def keyslot(kind, secret, cost):
    prk = extract(SALT, secret)
    bound = struct.pack("<B3x3I", kind, *cost) + SALT
    aad = b"tazpod/v1/keyslot" + VAULT + SUITE + b"\0" + bound
    sealed = xaes_seal(expand(prk, "slot-wrap", 32), NONCE, VOLUME_KEY, aad)
    label = bytes([len(LABEL)]) + LABEL.ljust(63, b"\0")
    slot = bound + expand(prk, "slot-commitment", 32) + NONCE + sealed + struct.pack("<q", CREATED) + label + bytes(32)
    assert len(slot) == 256
    return slot


def main():
    secret = argon2id(PASSPHRASE, SALT, MEMORY, PASSES, LANES)
    slot = keyslot(1, secret, (MEMORY, PASSES, LANES))
    volume_prk = extract(VAULT, VOLUME_KEY)
    head = b"TAZPOD\r\n" + struct.pack("<HHB3x", 1, 1, 14) + VAULT + struct.pack("<Q24x", 1)
    body = head + slot + bytes(7 * 256) + bytes(1952)
    unit = body + hmac.new(expand(volume_prk, "header-mac", 32), body, hashlib.sha256).digest()
    assert len(unit) == 4096
    (HERE / "header.bin").write_bytes(unit)

    witness = b"TZWITN\n\x01" + VAULT + struct.pack("<QQ", 92, 3) + bytes(range(200, 216)) + struct.pack("<Q", 0)
    witness += hmac.new(expand(volume_prk, "witness-mac", 32), witness, hashlib.sha256).digest()

    lines = [
        ("argon2id", secret),
        ("recovery-slot", keyslot(3, bytes(range(64, 96)), (0, 0, 0))),
        ("header-mac", expand(volume_prk, "header-mac", 32)),
        ("directory-hash", expand(volume_prk, "directory-hash", 16)),
        ("witness-mac", expand(volume_prk, "witness-mac", 32)),
        ("witness", witness),
    ]
    # These keys are never seen as bytes by the program: what they seal is compared.
    for label in ("superblock", "metadata", "data"):
        key = expand(volume_prk, label, 32)
        lines.append((f"sealed-{label}", xaes_seal(key, NONCE, b"plaintext", b"associated data")))
    text = "".join(f"{name} = {value.hex()}\n" for name, value in lines)
    (HERE / "keys.txt").write_text("# Made by make_keys.py from FORMAT.md alone.\n" + text)


main()
