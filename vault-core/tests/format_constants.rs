//! FORMAT.md is the one place where the layout is written down. These tests read its tables and hold
//! the code to them: every offset, length, magic number, label and bound that both state.
#![allow(clippy::unwrap_used)]

#[path = "vectors/mod.rs"]
mod vectors;

use hkdf::Hkdf;
use sha2::Sha256;
use std::ops::Range;
use vault_core::codec::Writer;
use vault_core::crypto::aead::{Nonce, SealingKey, Tag};
use vault_core::crypto::kdf::{KdfCost, KdfLimits};
use vault_core::crypto::secret::SecretBytes;
use vault_core::crypto::subkeys::{SUITE, Subkeys};
use vault_core::format::header::{
    BLOCK_SHIFTS, FORMAT_VERSION, HEADER_MAGIC, HEADER_UNITS, Header, KEYSLOTS_AT, MAC_AT,
};
use vault_core::format::inode::{INODE_LEN, Inode};
use vault_core::format::key::{Key, kind};
use vault_core::format::keyslot::{BOUND_LEN, KEYSLOT_LEN, KEYSLOTS, Keyslot, SlotKind, SlotLabel};
use vault_core::format::node::{self, CHILD_LEN, HEAD_LEN, ITEM_OVERHEAD, MAX_VALUE, TreeId};
use vault_core::format::pointer::{
    ADDRESS_LIMIT, BlockKind, FIRST_BLOCK, MAX_DATA_UNITS, MAX_LEVEL, MAX_NODE_UNITS, Pointer,
};
use vault_core::format::superblock::{self, BODY_LEN, SealedSlot, Superblock};
use vault_core::format::witness::{WITNESS_LEN, WITNESS_MAC_AT, WITNESS_MAGIC, Witness};
use vault_core::fs::FileKind;
use vault_core::ids::{BlockNo, Generation, UNIT, VaultId};
use vault_core::ports::Timestamp;
use vectors::hex;

const FORMAT: &str = include_str!("../FORMAT.md");

/// One `| offset | size | field |` table.
struct Layout(Vec<Row>);

struct Row {
    offset: usize,
    /// `None` where the table leaves the size open.
    len: Option<usize>,
    text: &'static str,
}

impl Layout {
    /// Returns where the field lies whose description begins with `text`.
    fn range(&self, text: &str) -> Range<usize> {
        let row = self.0.iter().find(|row| row.text.starts_with(text));
        let row = row.unwrap_or_else(|| panic!("no field '{text}'"));
        row.offset..row.offset + row.len.unwrap()
    }

    /// Returns the bytes that the table gives for a magic number.
    fn magic(&self) -> Vec<u8> {
        let text = self.0[0].text;
        let digits = text.strip_prefix("magic `").unwrap().split('`').next().unwrap();
        hex(&digits.replace(' ', ""))
    }

    fn len(&self) -> Option<usize> {
        let last = self.0.last().unwrap();
        Some(last.offset + last.len?)
    }
}

/// Returns the text from a heading to the next of the same depth.
fn section(heading: &str) -> &'static str {
    let depth = heading.split(' ').next().unwrap();
    let start = FORMAT.find(&format!("\n{heading}")).unwrap_or_else(|| panic!("no '{heading}'"));
    let text = &FORMAT[start + 1..];
    let end = text[1..].find(&format!("\n{depth} ")).map_or(text.len(), |at| at + 1);
    &text[..end]
}

/// Returns the rows of every table of a text, as trimmed cells.
fn tables(text: &'static str) -> Vec<Vec<Vec<&'static str>>> {
    let mut tables = vec![Vec::new()];
    for line in text.lines() {
        match line.strip_prefix('|') {
            Some(row) => {
                let cells = row.trim_end_matches('|').split('|').map(str::trim).collect();
                tables.last_mut().unwrap().push(cells);
            }
            None => tables.push(Vec::new()),
        }
    }
    tables.retain(|table| !table.is_empty());
    tables
}

fn layouts(text: &'static str) -> Vec<Layout> {
    let number = |cell: &str| cell.trim().parse::<usize>().ok();
    let of = |rows: Vec<Vec<&'static str>>| {
        let rows = rows.into_iter().skip(2).filter_map(|row| {
            let factors = row[1].split('×').map(number).collect::<Option<Vec<_>>>();
            let len = factors.map(|factors| factors.iter().product());
            Some(Row { offset: number(row[0])?, len, text: row[2] })
        });
        Layout(rows.collect())
    };
    let is_layout = |table: &Vec<Vec<&str>>| table[0][..] == ["offset", "size", "field"];
    tables(text).into_iter().filter(is_layout).map(of).collect()
}

fn layout(heading: &str, place: usize) -> Layout {
    layouts(section(heading)).swap_remove(place)
}

fn slot(kind: SlotKind) -> Keyslot {
    Keyslot {
        kind,
        cost: Some(KdfCost { memory_kib: 0x0a0a_0a0a, passes: 0x0b0b_0b0b, lanes: 0x0c0c_0c0c }),
        salt: [1; 32],
        commitment: [2; 32],
        nonce: Nonce::from_stored([3; 24]),
        wrapped: [4; 32],
        tag: Tag([5; 16]),
        created: 0x0606_0606_0606_0606,
        label: SlotLabel::new(&"\u{7e}".repeat(63)).unwrap(),
    }
}

fn assert_filled(bytes: &[u8], range: Range<usize>, value: u8) {
    assert!(bytes[range.clone()].iter().all(|&byte| byte == value), "{range:?} is not {value}");
}

fn pointer() -> Pointer {
    Pointer {
        address: BlockNo(0x0101_0101_0101_0101),
        birth: Generation(0x0202_0202_0202_0202),
        units: 0x0303,
        kind: BlockKind::Data,
        level: 4,
        nonce: Nonce::from_stored([5; 24]),
        tag: Tag([6; 16]),
    }
}

fn assert_zeros(bytes: &[u8], layout: &Layout) {
    for row in layout.0.iter().filter(|row| row.text == "zero") {
        assert_filled(bytes, row.offset..row.offset + row.len.unwrap(), 0);
    }
}

#[test]
fn no_layout_has_a_gap_or_an_overlap() {
    let layouts = layouts(FORMAT);
    assert!(layouts.len() >= 7, "{} layouts", layouts.len());
    for layout in &layouts {
        let mut expected = 0;
        for row in &layout.0 {
            assert_eq!(row.offset, expected, "field '{}'", row.text);
            expected += row.len.unwrap_or(0);
        }
    }
}

#[test]
fn units_and_versions_are_those_of_the_page() {
    assert!(section("## 1.").contains(&format!("A **unit** is {UNIT} bytes")));
    assert!(FORMAT.starts_with(&format!("# The TazPod vault image, format {FORMAT_VERSION}\n")));
    assert!(section("## 1.").contains(&format!("Suite {SUITE}, the only one")));
    let places = &tables(section("## 2."))[0];
    let unit_of = |text: &str| places.iter().find(|row| row[1] == text).unwrap()[0];
    assert_eq!(unit_of("header, copy A"), HEADER_UNITS[0].to_string());
    assert_eq!(unit_of("header, copy B"), HEADER_UNITS[1].to_string());
    let last_slot = superblock::FIRST_SLOT_UNIT + superblock::SLOTS as u64 - 1;
    let ring = format!("superblock ring, slots 0 to {}", superblock::SLOTS - 1);
    assert_eq!(unit_of(&ring), format!("{} to {last_slot}", superblock::FIRST_SLOT_UNIT));
    let blocks = places.iter().find(|row| row[1].starts_with("blocks:")).unwrap()[0];
    assert_eq!(blocks, format!("{FIRST_BLOCK} and up"));
    assert!(section("## 1.").contains("Addresses stay below 2^40"));
    assert_eq!(ADDRESS_LIMIT, 1 << 40);
}

#[test]
fn labels_of_subkeys_are_those_of_the_page() {
    let vault = VaultId([9; 16]);
    let volume_key = SecretBytes::init(|key| key.fill(7));
    let subkeys = Subkeys::derive(&volume_key, vault);
    let schedule = Hkdf::<Sha256>::new(Some(&vault.0), volume_key.expose());
    let sealed = |key: &SealingKey| key.seal(&Nonce::from_stored([1; 24]), b"", &mut []).0.to_vec();
    let rows = &tables(section("## 3."))[0];
    assert_eq!(rows.len(), 2 + 6, "six labels");
    for row in &rows[2..] {
        let label = row[0].trim_matches('`');
        let info = [b"tazpod/v1/", label.as_bytes(), &[0], &SUITE.to_le_bytes(), &vault.0].concat();
        let mut key = vec![0; row[1].parse().unwrap()];
        schedule.expand(&info, &mut key).unwrap();
        let as_sealing_key = |key: &[u8]| {
            sealed(&SealingKey::new(&SecretBytes::init(|bytes| bytes.copy_from_slice(key))))
        };
        match label {
            "header-mac" => assert_eq!(key, subkeys.header_mac.expose()),
            "directory-hash" => assert_eq!(key, subkeys.directory_hash.expose()),
            "witness-mac" => assert_eq!(key, subkeys.witness_mac.expose()),
            "superblock" => assert_eq!(as_sealing_key(&key), sealed(&subkeys.superblock)),
            "metadata" => assert_eq!(as_sealing_key(&key), sealed(&subkeys.metadata)),
            "data" => assert_eq!(as_sealing_key(&key), sealed(&subkeys.data)),
            other => panic!("label '{other}' has no key"),
        }
    }
}

#[test]
fn header_fields_lie_where_the_page_says() {
    let layout = layout("## 4.", 0);
    assert_eq!(layout.len(), Some(UNIT));
    assert_eq!(layout.magic(), HEADER_MAGIC);
    assert_eq!(layout.range("keyslots"), KEYSLOTS_AT..KEYSLOTS_AT + KEYSLOTS * KEYSLOT_LEN);
    assert_eq!(layout.range("HMAC-SHA256(`header-mac`, bytes 0 to 4063)"), MAC_AT..UNIT);
    let slots = [SlotKind::Passphrase; KEYSLOTS].map(|kind| Some(slot(kind)));
    let sequence = 0x0303_0303_0303_0303;
    let bytes = Header { block_shift: 15, vault: VaultId([2; 16]), sequence, slots }.encode();
    assert_eq!(bytes.len(), MAC_AT);
    assert_eq!(bytes[layout.range("magic")], HEADER_MAGIC);
    assert_eq!(bytes[layout.range("format version")], FORMAT_VERSION.to_le_bytes());
    assert_eq!(bytes[layout.range("suite")], SUITE.to_le_bytes());
    assert_filled(&bytes, layout.range("data block shift"), 15);
    assert_filled(&bytes, layout.range("vault id"), 2);
    assert_filled(&bytes, layout.range("header sequence number"), 3);
    assert_zeros(&bytes, &layout);
}

#[test]
fn keyslot_fields_lie_where_the_page_says() {
    let layout = layout("## 4.", 1);
    assert_eq!(layout.len(), Some(KEYSLOT_LEN));
    assert_eq!(layout.range("commitment").start, BOUND_LEN);
    assert!(section("## 3.").contains(&format!("slot bytes 0..{BOUND_LEN}")));
    let bytes = slot(SlotKind::KeyFile).encode();
    let fields = [
        ("Argon2id memory", 0x0a),
        ("Argon2id passes", 0x0b),
        ("Argon2id lanes", 0x0c),
        ("salt", 1),
        ("commitment", 2),
        ("nonce", 3),
        ("wrapped volume key", 4),
        ("tag", 5),
        ("created", 6),
        ("label length", 63),
        ("label, UTF-8", 0x7e),
    ];
    for (text, value) in fields {
        assert_filled(&bytes, layout.range(text), value);
    }
    assert_zeros(&bytes, &layout);
    assert_eq!(layout.range("label, UTF-8").len(), SlotLabel::MAX_LEN);
}

#[test]
fn kinds_of_keyslots_are_numbered_as_the_page_says() {
    let kinds = layout("## 4.", 1).0[0].text;
    for kind in [SlotKind::Passphrase, SlotKind::KeyFile, SlotKind::RecoveryKey] {
        assert!(kinds.contains(&format!("{} {kind}", kind.number())), "{kind}");
    }
}

#[test]
fn bounds_of_the_header_are_those_of_the_page() {
    let text = section("## 4.");
    let shifts =
        format!("data block shift `s`, {} to {}", BLOCK_SHIFTS.start(), BLOCK_SHIFTS.end());
    assert!(text.contains(&shifts));
    assert_eq!((KdfCost::MIN_MEMORY_KIB, KdfCost::MAX_MEMORY_KIB), (64 << 10, 4 << 20));
    assert!(text.contains("memory 64 MiB to 4 GiB"));
    let cheap = format!("from {} KiB per lane", KdfCost::MIN_KIB_PER_LANE);
    let counts = format!("passes 1 to {}, lanes 1 to {}", KdfCost::MAX_PASSES, KdfCost::MAX_LANES);
    assert!(text.contains(&cheap));
    assert!(text.contains(&counts));
    let bound = format!("{} GiB passes", KdfLimits::MAX_WORK >> 20);
    assert!(text.contains(&bound), "{bound}");
}

#[test]
fn witness_fields_lie_where_the_page_says() {
    let layout = layout("## 12.", 0);
    assert_eq!(layout.len(), Some(WITNESS_LEN));
    assert_eq!(layout.magic(), WITNESS_MAGIC);
    assert_eq!(layout.range("HMAC-SHA256(`witness-mac`, bytes 0 to 63)").start, WITNESS_MAC_AT);
    let witness = Witness {
        vault: VaultId([2; 16]),
        generation: Generation(0x0303_0303_0303_0303),
        header_sequence: 0x0404_0404_0404_0404,
        root_tag: Tag([5; 16]),
        retired: true,
    };
    let bytes = witness.encode_body();
    assert_eq!(bytes[layout.range("magic")], WITNESS_MAGIC);
    assert_filled(&bytes, layout.range("vault id"), 2);
    assert_filled(&bytes, layout.range("generation"), 3);
    assert_filled(&bytes, layout.range("header sequence number"), 4);
    assert_filled(&bytes, layout.range("root tag"), 5);
    assert_eq!(bytes[layout.range("flags: bit 0 *retired*")], 1_u64.to_le_bytes());
}

#[test]
fn superblock_fields_lie_where_the_page_says() {
    let layout = layout("## 5.", 0);
    assert_eq!(layout.len(), Some(UNIT));
    assert_eq!(layout.range("body").len(), BODY_LEN);
    let generation = Generation(0x0303_0303_0303_0303);
    let slot = SealedSlot {
        generation,
        nonce: Nonce::from_stored([4; 24]),
        tag: Tag([5; 16]),
        body: vec![6; BODY_LEN],
    };
    let bytes = slot.encode(VaultId([2; 16]));
    assert_eq!(bytes[layout.range("magic")], layout.magic());
    assert_eq!(bytes[layout.range("format version")], FORMAT_VERSION.to_le_bytes());
    assert_eq!(bytes[layout.range("suite")], SUITE.to_le_bytes());
    assert_filled(&bytes, layout.range("vault id"), 2);
    assert_filled(&bytes, layout.range("generation"), 3);
    assert_filled(&bytes, layout.range("nonce"), 4);
    assert_filled(&bytes, layout.range("tag"), 5);
    assert_filled(&bytes, layout.range("body"), 6);
    assert_zeros(&bytes, &layout);
    let aad = superblock::slot_aad(VaultId([2; 16]), generation, 7);
    assert_eq!(aad, [&bytes[..40], &[7]].concat());
}

#[test]
fn superblock_body_fields_lie_where_the_page_says() {
    let layout = layout("## 5.", 1);
    assert_eq!(layout.len(), Some(BODY_LEN));
    let root = |level| Pointer { level, ..pointer() };
    let body = Superblock {
        header_sequence: 0x0101_0101_0101_0101,
        proven: true,
        capacity: 0x0202_0202_0202_0202,
        length: 0x0303_0303_0303_0303,
        allocated: 0x0404_0404_0404_0404,
        reserved: 0x0505_0505_0505_0505,
        next_inode: 0x0606_0606_0606_0606,
        inodes: 0x0707_0707_0707_0707,
        fs_root: root(8),
        allocation_root: root(9),
        committed_at: 0x0a0a_0a0a_0a0a_0a0a,
    };
    let bytes = body.encode_body();
    let fields = [
        ("header sequence number", 1),
        ("capacity", 2),
        ("length", 3),
        ("allocated units", 4),
        ("reserved units", 5),
        ("next inode number", 6),
        ("number of inodes", 7),
        ("time of the commit", 0x0a),
    ];
    for (text, value) in fields {
        assert_filled(&bytes, layout.range(text), value);
    }
    assert_eq!(bytes[layout.range("flags: bit 0 *proven*")], 1_u32.to_le_bytes());
    for (text, level) in [
        ("pointer to the root of the file system tree", 8),
        ("pointer to the root of the allocation tree", 9),
    ] {
        let mut encoded = Writer::default();
        root(level).encode(&mut encoded);
        assert_eq!(bytes[layout.range(text)], encoded.finish(), "{text}");
    }
    assert_zeros(&bytes, &layout);
}

#[test]
fn pointer_fields_lie_where_the_page_says() {
    let layout = layout("## 6.", 0);
    assert_eq!(layout.len(), Some(Pointer::LEN));
    let mut out = Writer::default();
    pointer().encode(&mut out);
    let bytes = out.finish();
    let fields = [
        ("address", 1),
        ("birth", 2),
        ("length in units", 3),
        ("kind: 1 tree node, 2 file data", BlockKind::Data.byte()),
        ("level", 4),
        ("nonce", 5),
        ("tag", 6),
    ];
    for (text, value) in fields {
        assert_filled(&bytes, layout.range(text), value);
    }
    assert_eq!((BlockKind::Node.byte(), BlockKind::Data.byte()), (1, 2));
    assert!(layout.0[0].text.ends_with(&format!("at least {FIRST_BLOCK}")));
    assert_zeros(&bytes, &layout);
}

#[test]
fn node_head_and_items_are_those_of_the_page() {
    let layout = layout("## 7.", 0);
    let mut out = node::start(UNIT);
    out.bytes(&[9; 5]);
    let bytes = node::finish(out, TreeId::Allocation, 3, 0x0404);
    assert_filled(&bytes, layout.range("level"), 3);
    assert_filled(&bytes, layout.range("tree: 1 file system, 2 allocation"), 2);
    assert_filled(&bytes, layout.range("number of items"), 4);
    assert_eq!(bytes[layout.range("bytes used")], 13_u32.to_le_bytes());
    assert_eq!(layout.range("bytes used").end, HEAD_LEN);
    assert_filled(&bytes, HEAD_LEN..13, 9);
    assert_eq!(bytes.len(), UNIT);
    assert_filled(&bytes, 13..UNIT, 0);
    assert_eq!(TreeId::FileSystem.byte(), 1);

    let text = section("## 7.");
    let key = format!("A **key** is {} bytes: `object` (8), `kind` (1), `offset` (8)", Key::LEN);
    assert!(text.contains(&key));
    assert!(text.contains(&format!("value (0 to {MAX_VALUE} bytes)")));
    assert!(text.contains(&format!(
        "Internal item: key ({}), pointer ({})",
        Key::LEN,
        Pointer::LEN
    )));
    assert_eq!((ITEM_OVERHEAD, CHILD_LEN), (Key::LEN + 2, Key::LEN + Pointer::LEN));
    assert!(text.contains(&format!("at most {MAX_LEVEL}")));
    assert!(text.contains(&format!("1 to {MAX_NODE_UNITS} units in the file system tree")));
    assert_eq!(TreeId::FileSystem.max_node(), usize::from(MAX_NODE_UNITS) * UNIT);
    assert_eq!(TreeId::Allocation.max_node(), UNIT);
    assert_eq!(usize::from(MAX_DATA_UNITS) * UNIT, 1 << BLOCK_SHIFTS.end());
}

#[test]
fn keys_are_encoded_as_the_page_says() {
    let key = Key { object: 0x0101_0101_0101_0101, kind: 2, offset: 0x0303_0303_0303_0303 };
    let mut out = Writer::default();
    key.encode(&mut out);
    assert_eq!(out.finish(), [&[1; 8][..], &[2], &[3; 8]].concat());
}

#[test]
fn kinds_of_items_are_numbered_as_the_page_says() {
    let headings = [
        ("### 8.1 Inode: key (inode, ", kind::INODE),
        ("### 8.2 Symbolic link target: key (inode, ", kind::SYMLINK),
        ("### 8.3 Folder entry: key (folder, ", kind::DIRENT),
        ("### 8.4 Extended attribute: key (inode, ", kind::XATTR),
        ("### 8.5 Inline content: key (2^63 + inode, ", kind::INLINE),
        ("### 8.6 Extent: key (inode, ", kind::EXTENT),
        ("### 8.7 Orphan: key (0, ", kind::ORPHAN),
        ("### 8.8 Allocation map (allocation tree): key (0, ", kind::BITMAP),
    ];
    for (heading, number) in headings {
        assert!(FORMAT.contains(&format!("\n{heading}{number}, ")), "{heading}{number}");
    }
    assert_eq!(section("## 8.").matches("\n### ").count(), headings.len());
}

#[test]
fn inode_fields_lie_where_the_page_says() {
    let layout = layout("### 8.1", 0);
    assert_eq!(layout.len(), Some(INODE_LEN));
    let time = |byte: u8| Timestamp {
        seconds: i64::from_le_bytes([byte; 8]),
        nanos: u32::from_le_bytes([byte + 0x10; 4]),
    };
    let inode = Inode {
        kind: FileKind::Regular,
        permissions: 0o4755,
        uid: 0x0202_0202,
        gid: 0x0303_0303,
        links: 0x0404_0404,
        size: 0x0505_0505_0505_0505,
        units: 0x0606_0606_0606_0606,
        device: 0x0707_0707,
        inline: true,
        accessed: time(0x21),
        modified: time(0x22),
        changed: time(0x23),
        born: time(0x24),
        parent: 0x0909_0909_0909_0909,
        entries: 0x0a0a_0a0a_0a0a_0a0a,
        xattrs: 0x0b0b_0b0b,
    };
    let bytes = inode.encode();
    let fields = [
        ("uid", 2),
        ("gid", 3),
        ("link count", 4),
        ("size", 5),
        ("units held", 6),
        ("device number", 7),
        ("parent folder", 9),
        ("number of entries", 0x0a),
        ("number of extended attributes", 0x0b),
    ];
    for (text, value) in fields {
        assert_filled(&bytes, layout.range(text), value);
    }
    assert_eq!(bytes[layout.range("mode as in `st_mode`")], 0o104_755_u32.to_le_bytes());
    assert_eq!(bytes[layout.range("flags: bit 0 *inline*")], 1_u32.to_le_bytes());
    let seconds = [[0x21; 8], [0x22; 8], [0x23; 8], [0x24; 8]].concat();
    let nanos = [[0x31; 4], [0x32; 4], [0x33; 4], [0x34; 4]].concat();
    assert_eq!(bytes[layout.range("atime, mtime, ctime, btime: `i64` seconds")], seconds);
    assert_eq!(bytes[layout.range("atime, mtime, ctime, btime: nanoseconds")], nanos);
    assert_zeros(&bytes, &layout);
}
