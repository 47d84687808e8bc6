//! Content of every kind, and the listing that the reader must print for it.

use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use vault_core::fs::{
    Creator, Fallocate, FileKind, NewFile, RenameMode, SetAttr, SetTime, Volume, WriteOrigin,
    XattrMode,
};
use vault_core::ids::InodeNo;
use vault_core::ports::Timestamp;

const ROOT: InodeNo = InodeNo(1);

/// Makes an empty regular file.
pub(crate) fn file(volume: &Volume, folder: InodeNo, name: &[u8], creator: &Creator) -> InodeNo {
    let new = NewFile { kind: FileKind::Regular, permissions: 0o640, device: 0 };
    volume.create(folder, name, &new, creator).unwrap().inode
}

/// Fills a volume with files of every shape, with names of every kind, in several commits.
pub(crate) fn fill(volume: &Volume, block: u64) {
    let creator = Creator { uid: 1000, gid: 1000, umask: 0o022 };
    sizes(volume, block, &creator);
    volume.sync().unwrap();
    holes(volume, block, &creator);
    kinds(volume, &creator);
    volume.sync().unwrap();
    names_and_links(volume, &creator);
    attributes(volume, &creator);
    volume.settle().unwrap();
    crowd(volume, &creator);
    orphans(volume, &creator);
}

fn write(volume: &Volume, inode: InodeNo, offset: u64, data: &[u8]) {
    volume.write(inode, offset, data, WriteOrigin::Direct, false).unwrap();
}

fn pattern(len: u64) -> Vec<u8> {
    // Two periods that share no factor: no block of it equals another.
    (0..len).map(|n| n.to_le_bytes()[1] ^ (n % 251).to_le_bytes()[0]).collect()
}

fn sizes(volume: &Volume, block: u64, creator: &Creator) {
    let folder = volume.make_dir(ROOT, b"sizes", 0o750, creator).unwrap().inode;
    let around = [1, 2048, 4096, 8192, block, 2 * block, 5 * block];
    let sizes: BTreeSet<u64> =
        around.into_iter().flat_map(|size| [size - 1, size, size + 1]).collect();
    for size in sizes {
        let inode = file(volume, folder, format!("{size}").as_bytes(), creator);
        write(volume, inode, 0, &pattern(size));
    }
    let big = file(volume, folder, b"megabytes", creator);
    write(volume, big, 0, &pattern(3 << 20));
}

fn holes(volume: &Volume, block: u64, creator: &Creator) {
    let folder = volume.make_dir(ROOT, b"holes", 0o700, creator).unwrap().inode;
    let sparse = file(volume, folder, b"sparse", creator);
    write(volume, sparse, 9 * block + 5, b"after a hole");
    // Once is enough: both sides hash every byte of the hole.
    if block == 1 << 17 {
        write(volume, sparse, (4 << 30) + 3, b"beyond four gigabytes");
    }
    let punched = file(volume, folder, b"punched", creator);
    write(volume, punched, 0, &pattern(8 * block));
    volume.fallocate(punched, block / 2, 3 * block, Fallocate::PunchHole).unwrap();
    volume.fallocate(punched, 5 * block, block, Fallocate::ZeroRange { keep_size: false }).unwrap();
    let reserved = file(volume, folder, b"reserved", creator);
    volume.fallocate(reserved, 0, 4 * block, Fallocate::Reserve { keep_size: false }).unwrap();
    write(volume, reserved, block + 9, b"in the middle");
    let kept = file(volume, folder, b"kept", creator);
    write(volume, kept, 0, b"short");
    volume.fallocate(kept, 0, 6 * block, Fallocate::Reserve { keep_size: true }).unwrap();
    let empty = file(volume, folder, b"empty-kept", creator);
    volume.fallocate(empty, 0, 2 * block, Fallocate::Reserve { keep_size: true }).unwrap();
    for (name, size) in
        [(b"cut".as_slice(), block + 100), (b"cut-small", 900), (b"grown", 70 * block)]
    {
        let inode = file(volume, folder, name, creator);
        write(volume, inode, 0, &pattern(3 * block));
        let change = SetAttr { size: Some(size), ..SetAttr::default() };
        volume.set_attr(inode, &change).unwrap();
    }
}

fn kinds(volume: &Volume, creator: &Creator) {
    let folder = volume.make_dir(ROOT, b"kinds", 0o755, creator).unwrap().inode;
    let nodes = [
        (FileKind::Fifo, 0, "fifo"),
        (FileKind::Socket, 0, "socket"),
        (FileKind::CharDevice, 0x0103, "null"),
        (FileKind::BlockDevice, 0xfff0_3a11, "disk"),
    ];
    for (kind, device, name) in nodes {
        let new = NewFile { kind, permissions: 0o4711, device };
        volume.create(folder, name.as_bytes(), &new, creator).unwrap();
    }
    for (name, target) in
        [("short", "x"), ("long", &*"y".repeat(4095)), ("dangling", "../nowhere/else")]
    {
        volume.make_symlink(folder, name.as_bytes(), target.as_bytes(), creator).unwrap();
    }
}

fn names_and_links(volume: &Volume, creator: &Creator) {
    let folder = volume.make_dir(ROOT, b"names", 0o2775, creator).unwrap().inode;
    let names: [&[u8]; 6] = [
        b"\xff\xfe not utf-8",
        b"new\nline",
        "ümläut".as_bytes(),
        b"tab\there",
        b"-rf",
        &[b'n'; 255],
    ];
    for name in names {
        let inode = file(volume, folder, name, creator);
        write(volume, inode, 0, name);
    }
    let linked = file(volume, folder, b"first", creator);
    write(volume, linked, 0, &pattern(10_000));
    let deep = volume.make_dir(folder, b"deep", 0o755, creator).unwrap().inode;
    volume.link(linked, deep, b"second").unwrap();
    volume.link(linked, ROOT, b"third").unwrap();
    let moved = volume.make_dir(deep, b"moved", 0o755, creator).unwrap().inode;
    file(volume, moved, b"inside", creator);
    volume.rename(deep, b"moved", ROOT, b"arrived", RenameMode::Replace).unwrap();
    let replaced = file(volume, ROOT, b"replaced", creator);
    write(volume, replaced, 0, &pattern(50_000));
    let by = file(volume, ROOT, b"by", creator);
    write(volume, by, 0, b"the other");
    volume.rename(ROOT, b"by", ROOT, b"replaced", RenameMode::Replace).unwrap();
    volume.forget(replaced).unwrap();
    volume.rename(ROOT, b"third", ROOT, b"arrived", RenameMode::Exchange).unwrap();
}

fn attributes(volume: &Volume, creator: &Creator) {
    let inode = file(volume, ROOT, b"dressed", creator);
    let values: [(&[u8], usize); 6] = [
        (b"user.empty", 0),
        (b"user.small", 5),
        (b"user.chunk", 2048),
        (b"user.more", 2049),
        (b"user.large", 65_536),
        (b"user.gone", 9000),
    ];
    for (name, len) in values {
        volume.set_xattr(inode, name, &pattern(len as u64), XattrMode::Set).unwrap();
    }
    volume.remove_xattr(inode, b"user.gone").unwrap();
    // rwxr-x---, and read for user 7: tags, permissions and ids of Linux's version 2.
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in [
        (1_u16, 7_u16, u32::MAX),
        (2, 4, 7),
        (4, 5, u32::MAX),
        (16, 5, u32::MAX),
        (32, 0, u32::MAX),
    ] {
        acl.extend(tag.to_le_bytes());
        acl.extend(permissions.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    volume.set_xattr(inode, b"system.posix_acl_access", &acl, XattrMode::Set).unwrap();
    let folder = volume.make_dir(ROOT, b"dressed-folder", 0o755, creator).unwrap().inode;
    volume.set_xattr(folder, b"system.posix_acl_default", &acl, XattrMode::Set).unwrap();
    let old = file(volume, folder, b"old", creator);
    let change = SetAttr {
        permissions: Some(0o4755),
        uid: Some(70_000),
        gid: Some(u32::MAX - 5),
        accessed: Some(SetTime::At(Timestamp { seconds: -86_400, nanos: 999_999_999 })),
        modified: Some(SetTime::At(Timestamp { seconds: 9_000_000_000, nanos: 1 })),
        ..SetAttr::default()
    };
    volume.set_attr(old, &change).unwrap();
}

/// Enough entries for a tree of several levels, and enough removed ones for merged nodes.
fn crowd(volume: &Volume, creator: &Creator) {
    let folder = volume.make_dir(ROOT, b"crowd", 0o755, creator).unwrap().inode;
    for number in 0..2500_u32 {
        let inode = file(volume, folder, format!("entry-{number}").as_bytes(), creator);
        write(volume, inode, 0, &pattern(u64::from(number % 700)));
        if number % 500 == 499 {
            volume.sync().unwrap();
        }
    }
    for number in (0..2500).filter(|number| number % 3 == 0) {
        let name = format!("entry-{number}");
        let inode = volume.lookup(folder, name.as_bytes()).unwrap().inode;
        volume.unlink(folder, name.as_bytes()).unwrap();
        volume.forget(inode).unwrap();
    }
}

/// Removed, and not forgotten: still open somewhere.
fn orphans(volume: &Volume, creator: &Creator) {
    for (name, len) in [(b"open-small".as_slice(), 10), (b"open-large", 300_000)] {
        let inode = file(volume, ROOT, name, creator);
        write(volume, inode, 0, &pattern(len));
        volume.unlink(ROOT, name).unwrap();
    }
    volume.make_dir(ROOT, b"open-folder", 0o755, creator).unwrap();
    volume.remove_dir(ROOT, b"open-folder").unwrap();
}

/// What the reader's `list` prints for this volume.
pub(crate) fn listing(volume: &Volume) -> String {
    let mut text = String::new();
    list_below(volume, ROOT, b"", &mut text);
    text
}

fn list_below(volume: &Volume, inode: InodeNo, path: &[u8], text: &mut String) {
    let attr = volume.attr(inode).unwrap();
    let content = match attr.kind {
        FileKind::Regular => hash(volume, inode, attr.size),
        FileKind::Symlink => escape(&volume.read_link(inode).unwrap()),
        _ => "-".to_owned(),
    };
    let mut names = volume.list_xattrs(inode).unwrap();
    names.sort();
    let xattrs: Vec<(Vec<u8>, Vec<u8>)> =
        names.into_iter().map(|name| (name.clone(), volume.xattr(inode, &name).unwrap())).collect();
    let line = Line {
        kind: kind_word(attr.kind.type_bits()),
        mode: u32::from(attr.permissions),
        links: u64::from(attr.links),
        owner: (attr.uid, attr.gid),
        size: if matches!(attr.kind, FileKind::Regular | FileKind::Symlink) {
            attr.size
        } else {
            0
        },
        modified: (attr.modified.seconds, attr.modified.nanos),
        device: attr.device,
        content,
        xattrs,
        path,
    };
    line.write(text);
    if attr.kind == FileKind::Directory {
        let mut entries = Vec::new();
        volume
            .read_dir(inode, 2, &mut |entry| {
                entries.push((entry.name, entry.inode));
                true
            })
            .unwrap();
        entries.sort();
        for (name, child) in entries {
            list_below(volume, child, &join(path, &name), text);
        }
    }
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

fn kind_word(bits: u8) -> &'static str {
    match bits {
        1 => "fifo",
        2 => "char",
        4 => "dir",
        6 => "block",
        8 => "file",
        10 => "link",
        _ => "socket",
    }
}

fn hash(volume: &Volume, inode: InodeNo, size: u64) -> String {
    // A hole of gigabytes is hashed as the reader does it, by its length.
    let mut state = Sha256::new();
    let mut at = 0;
    while at < size {
        let data = volume.read(inode, at, 1 << 20).unwrap();
        assert!(!data.is_empty(), "short read at {at}");
        state.update(&data);
        at += data.len() as u64;
    }
    hex(&state.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn escape(raw: &[u8]) -> String {
    raw.iter().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_graphic() && !b"\\,=".contains(byte) {
            text.push(char::from(*byte));
        } else {
            write!(text, "\\x{byte:02x}").unwrap();
        }
        text
    })
}

/// One path, in the fields that the reader prints.
struct Line<'a> {
    kind: &'static str,
    mode: u32,
    links: u64,
    owner: (u32, u32),
    size: u64,
    modified: (i64, u32),
    device: u32,
    content: String,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    path: &'a [u8],
}

impl Line<'_> {
    fn write(&self, text: &mut String) {
        let xattrs: Vec<String> = self
            .xattrs
            .iter()
            .map(|(name, value)| format!("{}={}", escape(name), &hex(&Sha256::digest(value))[..16]))
            .collect();
        let xattrs = if xattrs.is_empty() { "-".to_owned() } else { xattrs.join(",") };
        let path = if self.path.is_empty() { ".".to_owned() } else { escape(self.path) };
        let Self {
            kind,
            mode,
            links,
            owner: (uid, gid),
            size,
            modified: (seconds, nanos),
            device,
            content,
            ..
        } = self;
        writeln!(
            text,
            "{kind}\t{mode:04o}\t{links}\t{uid}\t{gid}\t{size}\t{seconds}.{nanos:09}\t{device}\t{content}\t{xattrs}\t{path}"
        )
        .unwrap();
    }
}

/// The same listing of a folder outside, for what was extracted there.
pub(crate) fn listing_of_folder(root: &Path) -> String {
    let mut text = String::new();
    list_folder_below(root, b"", &mut text);
    text
}

fn list_folder_below(at: &Path, path: &[u8], text: &mut String) {
    let data = fs::symlink_metadata(at).unwrap();
    let kind = data.file_type();
    let content = if kind.is_file() {
        let output = Command::new("sha256sum").arg("-z").arg(at).output().unwrap();
        String::from_utf8_lossy(&output.stdout[..64]).into_owned()
    } else if kind.is_symlink() {
        escape(fs::read_link(at).unwrap().as_os_str().as_bytes())
    } else {
        "-".to_owned()
    };
    let device = if kind.is_block_device() || kind.is_char_device() { data.rdev() } else { 0 };
    let line = Line {
        kind: kind_word(u8::try_from(data.mode() >> 12).unwrap()),
        mode: data.mode() & 0o7777,
        links: if kind.is_dir() { 0 } else { data.nlink() },
        owner: (data.uid(), data.gid()),
        size: if kind.is_file() || kind.is_symlink() { data.size() } else { 0 },
        modified: (data.mtime(), u32::try_from(data.mtime_nsec()).unwrap()),
        device: u32::try_from(device).unwrap(),
        content,
        xattrs: Vec::new(),
        path,
    };
    line.write(text);
    if kind.is_dir() {
        let mut names: Vec<_> =
            fs::read_dir(at).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        for name in names {
            list_folder_below(&at.join(&name), &join(path, name.as_bytes()), text);
        }
    }
}

/// A listing without what depends on the file system that it was extracted to: folders' link counts, and attributes, of
/// which a host's file system takes less.
pub(crate) fn without_outside(listing: &str) -> String {
    let mut text = String::new();
    for line in listing.lines() {
        let mut fields: Vec<&str> = line.split('\t').collect();
        if fields[0] == "dir" {
            fields[2] = "0";
        }
        fields[9] = "-";
        text += &fields.join("\t");
        text.push('\n');
    }
    text
}
