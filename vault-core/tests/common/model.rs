//! A file system that is obviously right: a map of nodes in memory. Operations run on it and on a volume alike.

use super::operation::Op;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use vault_core::error::{FsError, FsResult};
use vault_core::fs::{
    Fallocate, FileKind, NewFile, RenameMode, SetAttr, Volume, WriteOrigin, XattrMode,
};
use vault_core::ids::InodeNo;

#[derive(Clone, Debug)]
enum Content {
    File(Vec<u8>),
    Folder(BTreeMap<Vec<u8>, u64>),
    Link(Vec<u8>),
}

#[derive(Clone, Debug)]
struct Node {
    content: Content,
    links: u32,
    mode: u16,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    parent: u64,
}

/// What the model and the volume answered.
type Outcomes = (FsResult<()>, FsResult<()>);

/// Is shown each node with its path.
type Show<'s> = dyn FnMut(u64, &[Vec<u8>], &Node) + 's;

/// A node with the path that leads to it.
type Found = (u64, Vec<Vec<u8>>);

/// The file system that is obviously right.
#[derive(Clone, Debug)]
pub struct Model {
    nodes: BTreeMap<u64, Node>,
    next: u64,
}

fn name_of(name: u8) -> Vec<u8> {
    // A few long names, so that leaves fill.
    let len = if name.is_multiple_of(3) { 180 } else { 3 };
    let mut bytes = vec![b'a' + name; len];
    bytes.push(b'.');
    bytes
}

impl Model {
    pub fn new() -> Self {
        let root = Node {
            content: Content::Folder(BTreeMap::new()),
            links: 2,
            mode: 0o700,
            xattrs: BTreeMap::new(),
            parent: 1,
        };
        Self { nodes: BTreeMap::from([(1, root)]), next: 2 }
    }

    /// The model of what a volume holds already.
    pub fn of(volume: &Volume) -> Self {
        let mut model = Self::new();
        model.nodes.get_mut(&1).unwrap().links = volume.attr(InodeNo::ROOT).unwrap().links;
        model.adopt(volume, InodeNo::ROOT);
        model.next = 1 + model.nodes.keys().max().unwrap();
        model
    }

    fn adopt(&mut self, volume: &Volume, folder: InodeNo) {
        let mut children = Vec::new();
        volume
            .read_dir(folder, 2, &mut |entry| {
                children.push((entry.name, entry.inode));
                true
            })
            .unwrap();
        for (name, inode) in children {
            self.children(folder.0).insert(name, inode.0);
            let attr = volume.attr(inode).unwrap();
            let content = match attr.kind {
                FileKind::Directory => Content::Folder(BTreeMap::new()),
                FileKind::Symlink => Content::Link(volume.read_link(inode).unwrap()),
                _ => Content::File(volume.read(inode, 0, attr.size as usize).unwrap()),
            };
            let names = volume.list_xattrs(inode).unwrap().into_iter();
            let xattrs = names.map(|name| (name.clone(), volume.xattr(inode, &name).unwrap()));
            let node = Node {
                content,
                links: attr.links,
                mode: attr.permissions,
                xattrs: xattrs.collect(),
                parent: if attr.kind == FileKind::Directory { folder.0 } else { 0 },
            };
            self.nodes.insert(inode.0, node);
            if attr.kind == FileKind::Directory {
                self.adopt(volume, inode);
            }
        }
    }

    fn pick(&self, index: u64, wanted: impl Fn(&Node) -> bool) -> Option<Found> {
        let mut found = Vec::new();
        self.walk(1, &mut Vec::new(), &mut |id, path, node| {
            if wanted(node) {
                found.push((id, path.to_vec()));
            }
        });
        let index = usize::try_from(index % found.len().max(1) as u64).unwrap();
        found.into_iter().nth(index)
    }

    fn walk(&self, id: u64, path: &mut Vec<Vec<u8>>, show: &mut Show<'_>) {
        let node = &self.nodes[&id];
        show(id, path, node);
        if let Content::Folder(children) = &node.content {
            for (name, child) in children {
                path.push(name.clone());
                self.walk(*child, path, show);
                path.pop();
            }
        }
    }

    fn folder(&self, index: u64) -> Found {
        self.pick(index, |node| matches!(node.content, Content::Folder(_))).unwrap()
    }

    fn file(&self, index: u64) -> Option<Found> {
        self.pick(index, |node| matches!(node.content, Content::File(_)))
    }

    fn children(&mut self, id: u64) -> &mut BTreeMap<Vec<u8>, u64> {
        match &mut self.nodes.get_mut(&id).unwrap().content {
            Content::Folder(children) => children,
            _ => unreachable!("only folders are asked for children"),
        }
    }

    fn child(&self, id: u64, name: &[u8]) -> Option<u64> {
        match &self.nodes[&id].content {
            Content::Folder(children) => children.get(name).copied(),
            _ => None,
        }
    }

    fn is_folder(&self, id: u64) -> bool {
        matches!(self.nodes[&id].content, Content::Folder(_))
    }

    fn is_empty(&self, id: u64) -> bool {
        matches!(&self.nodes[&id].content, Content::Folder(children) if children.is_empty())
    }

    fn add(&mut self, folder: u64, name: Vec<u8>, content: Content) -> FsResult<()> {
        if self.child(folder, &name).is_some() {
            return Err(FsError::Exists);
        }
        let is_folder = matches!(content, Content::Folder(_));
        let mode = match content {
            Content::File(_) => 0o644,
            Content::Folder(_) => 0o755,
            Content::Link(_) => 0o777,
        };
        let links = if is_folder { 2 } else { 1 };
        let parent = if is_folder { folder } else { 0 };
        let id = self.next;
        self.next += 1;
        let node = Node { content, links, mode, xattrs: BTreeMap::new(), parent };
        self.nodes.insert(id, node);
        self.children(folder).insert(name, id);
        if is_folder {
            self.nodes.get_mut(&folder).unwrap().links += 1;
        }
        Ok(())
    }

    fn detach(&mut self, folder: u64, name: &[u8]) {
        let id = self.children(folder).remove(name).unwrap();
        if self.is_folder(id) {
            self.nodes.get_mut(&folder).unwrap().links -= 1;
            self.nodes.remove(&id);
        } else {
            let node = self.nodes.get_mut(&id).unwrap();
            node.links -= 1;
            if node.links == 0 {
                self.nodes.remove(&id);
            }
        }
    }

    fn below(&self, mut id: u64, ancestor: u64) -> bool {
        loop {
            if id == ancestor {
                return true;
            }
            if id == 1 {
                return false;
            }
            id = self.nodes[&id].parent;
        }
    }

    fn rename(
        &mut self,
        (folder, name): (u64, &[u8]),
        (to, new): (u64, &[u8]),
        mode: RenameMode,
    ) -> FsResult<()> {
        let source = self.child(folder, name).ok_or(FsError::NotFound)?;
        let target = self.child(to, new);
        match (mode, target) {
            (RenameMode::NoReplace, Some(_)) => return Err(FsError::Exists),
            (RenameMode::Exchange, None) => return Err(FsError::NotFound),
            (_, Some(target)) if target == source => return Ok(()),
            _ => {}
        }
        if self.is_folder(source) && self.below(to, source) {
            return Err(FsError::InvalidArgument);
        }
        if mode == RenameMode::Exchange {
            let target = target.unwrap();
            if self.is_folder(target) && self.below(folder, target) {
                return Err(FsError::InvalidArgument);
            }
            for (id, from, into) in [(source, folder, to), (target, to, folder)] {
                if self.is_folder(id) {
                    self.nodes.get_mut(&from).unwrap().links -= 1;
                    self.nodes.get_mut(&into).unwrap().links += 1;
                    self.nodes.get_mut(&id).unwrap().parent = into;
                }
            }
            self.children(folder).insert(name.to_vec(), target);
            self.children(to).insert(new.to_vec(), source);
            return Ok(());
        }
        if let Some(target) = target {
            match (self.is_folder(source), self.is_folder(target)) {
                (true, false) => return Err(FsError::NotDirectory),
                (false, true) => return Err(FsError::IsDirectory),
                (true, true) if !self.is_empty(target) => return Err(FsError::NotEmpty),
                _ => {}
            }
            self.detach(to, new);
        }
        self.children(folder).remove(name);
        self.children(to).insert(new.to_vec(), source);
        if self.is_folder(source) {
            self.nodes.get_mut(&folder).unwrap().links -= 1;
            self.nodes.get_mut(&to).unwrap().links += 1;
            self.nodes.get_mut(&source).unwrap().parent = to;
        }
        Ok(())
    }

    fn bytes(&mut self, id: u64) -> &mut Vec<u8> {
        match &mut self.nodes.get_mut(&id).unwrap().content {
            Content::File(bytes) => bytes,
            _ => unreachable!("only files are asked for bytes"),
        }
    }

    /// Writes down the whole tree.
    pub fn dump(&self) -> String {
        let mut out = String::new();
        self.walk(1, &mut Vec::new(), &mut |_, path, node| {
            let content = match &node.content {
                Content::File(bytes) => ('f', bytes.clone()),
                Content::Folder(_) => ('d', Vec::new()),
                Content::Link(target) => ('l', target.clone()),
            };
            line(&mut out, path, content, (node.links, node.mode), &node.xattrs);
        });
        out
    }
}

fn line(
    out: &mut String,
    path: &[Vec<u8>],
    (kind, content): (char, Vec<u8>),
    (links, mode): (u32, u16),
    xattrs: &BTreeMap<Vec<u8>, Vec<u8>>,
) {
    let path: Vec<_> = path.iter().map(|name| String::from_utf8_lossy(name)).collect();
    let hash = content.iter().fold(1_469_598_103_934_665_603_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(1_099_511_628_211)
    });
    let len = content.len();
    write!(out, "{kind} /{} {links} {mode:o} {len} {hash:x}", path.join("/")).unwrap();
    for (name, value) in xattrs {
        let sum: u64 = value.iter().map(|byte| u64::from(*byte)).sum();
        write!(out, " {}={}:{sum}", String::from_utf8_lossy(name), value.len()).unwrap();
    }
    out.push('\n');
}

/// Writes down a volume's tree in the model's words.
pub fn dump(volume: &Volume) -> FsResult<String> {
    let mut out = String::new();
    dump_below(volume, InodeNo::ROOT, &mut Vec::new(), &mut out)?;
    Ok(out)
}

fn dump_below(
    volume: &Volume,
    inode: InodeNo,
    path: &mut Vec<Vec<u8>>,
    out: &mut String,
) -> FsResult<()> {
    let attr = volume.attr(inode)?;
    let content = match attr.kind {
        FileKind::Directory => ('d', Vec::new()),
        FileKind::Symlink => ('l', volume.read_link(inode)?),
        _ => ('f', volume.read(inode, 0, usize::try_from(attr.size).unwrap())?),
    };
    let mut xattrs = BTreeMap::new();
    for name in volume.list_xattrs(inode)? {
        let value = volume.xattr(inode, &name)?;
        xattrs.insert(name, value);
    }
    line(out, path, content, (attr.links, attr.permissions), &xattrs);
    if attr.kind == FileKind::Directory {
        let mut children = Vec::new();
        volume.read_dir(inode, 2, &mut |entry| {
            children.push((entry.name, entry.inode));
            true
        })?;
        children.sort();
        for (name, child) in children {
            path.push(name);
            dump_below(volume, child, path, out)?;
            path.pop();
        }
    }
    Ok(())
}

fn resolve(volume: &Volume, path: &[Vec<u8>]) -> FsResult<InodeNo> {
    path.iter().try_fold(InodeNo::ROOT, |at, name| Ok(volume.lookup(at, name)?.inode))
}

/// Runs an operation on both; returns the two outcomes, model first, or `None` if there was nothing to
/// run it on.
pub fn run(model: &mut Model, volume: &Volume, op: &Op) -> Option<Outcomes> {
    let before = model.clone();
    let (ideal, real) = run_both(model, volume, op)?;
    if matches!(real, Err(FsError::NoSpace)) {
        // Whether a small vault has room is its own affair, as long as nothing happened.
        *model = before;
        return Some((Err(FsError::NoSpace), real));
    }
    Some((ideal, real))
}

fn run_both(model: &mut Model, volume: &Volume, op: &Op) -> Option<Outcomes> {
    let new_file = NewFile { kind: FileKind::Regular, permissions: 0o644, device: 0 };
    let creator = &super::CREATOR;
    Some(match op {
        Op::Create { folder, name } => {
            let (id, path) = model.folder(*folder);
            let name = name_of(*name);
            let real = resolve(volume, &path)
                .and_then(|at| volume.create(at, &name, &new_file, creator).map(drop));
            (model.add(id, name, Content::File(Vec::new())), real)
        }
        Op::MakeDir { folder, name } => {
            let (id, path) = model.folder(*folder);
            let name = name_of(*name);
            let real = resolve(volume, &path)
                .and_then(|at| volume.make_dir(at, &name, 0o755, creator).map(drop));
            (model.add(id, name, Content::Folder(BTreeMap::new())), real)
        }
        Op::Symlink { folder, name, len } => {
            let (id, path) = model.folder(*folder);
            let name = name_of(*name);
            let target = vec![b't'; usize::from(*len)];
            let real = resolve(volume, &path)
                .and_then(|at| volume.make_symlink(at, &name, &target, creator).map(drop));
            (model.add(id, name, Content::Link(target)), real)
        }
        Op::Link { file, folder, name } => {
            let (file, file_path) = model.file(*file)?;
            let (id, path) = model.folder(*folder);
            let name = name_of(*name);
            let real = resolve(volume, &file_path)
                .and_then(|file| volume.link(file, resolve(volume, &path)?, &name).map(drop));
            let ideal = if model.child(id, &name).is_some() {
                Err(FsError::Exists)
            } else {
                model.children(id).insert(name, file);
                model.nodes.get_mut(&file).unwrap().links += 1;
                Ok(())
            };
            (ideal, real)
        }
        Op::Remove { folder, name } => {
            let (id, path) = model.folder(*folder);
            let name = name_of(*name);
            let child = model.child(id, &name)?;
            let at = resolve(volume, &path).unwrap();
            let inode = volume.lookup(at, &name).unwrap().inode;
            if model.is_folder(child) {
                let ideal = if model.is_empty(child) {
                    model.detach(id, &name);
                    Ok(())
                } else {
                    Err(FsError::NotEmpty)
                };
                let real = volume.remove_dir(at, &name);
                volume.forget(inode).ok()?;
                (ideal, real)
            } else {
                model.detach(id, &name);
                let real = volume.unlink(at, &name);
                (Ok(()), real.and_then(|()| volume.forget(inode)))
            }
        }
        Op::Rename { folder, name, to, new, mode } => {
            let (id, path) = model.folder(*folder);
            let (to_id, to_path) = model.folder(*to);
            let (name, new) = (name_of(*name), name_of(*new));
            let at = resolve(volume, &path).unwrap();
            let to = resolve(volume, &to_path).unwrap();
            let old = volume.lookup(to, &new).ok().map(|attr| attr.inode);
            let real = volume.rename(at, &name, to, &new, *mode);
            if let Some(old) = old {
                volume.forget(old).ok()?;
            }
            (model.rename((id, &name), (to_id, &new), *mode), real)
        }
        Op::Write { file, offset, len, byte } => {
            let (id, path) = model.file(*file)?;
            let data: Vec<u8> =
                (0..*len).map(|i| byte.wrapping_add((i / 512) as u8).max(1)).collect();
            let origin = WriteOrigin::Direct;
            let real = resolve(volume, &path)
                .and_then(|inode| volume.write(inode, *offset, &data, origin, false));
            if real.is_ok() {
                let bytes = model.bytes(id);
                let (start, end) = (*offset as usize, *offset as usize + data.len());
                bytes.resize(bytes.len().max(end), 0);
                bytes[start..end].copy_from_slice(&data);
            }
            (Ok(()), real)
        }
        Op::Resize { file, size } => {
            let (id, path) = model.file(*file)?;
            let change = SetAttr { size: Some(*size), ..SetAttr::default() };
            let real =
                resolve(volume, &path).and_then(|inode| volume.set_attr(inode, &change).map(drop));
            if real.is_ok() {
                model.bytes(id).resize(*size as usize, 0);
            }
            (Ok(()), real)
        }
        Op::Allocate { file, offset, len, mode } => {
            let (id, path) = model.file(*file)?;
            let real = resolve(volume, &path)
                .and_then(|inode| volume.fallocate(inode, *offset, *len, *mode));
            if real.is_ok() {
                allocate(model.bytes(id), *offset as usize, (*offset + *len) as usize, *mode);
            }
            (Ok(()), real)
        }
        Op::Chmod { file, mode } => {
            let (id, path) = model.file(*file)?;
            let change = SetAttr { permissions: Some(*mode), ..SetAttr::default() };
            let real =
                resolve(volume, &path).and_then(|inode| volume.set_attr(inode, &change).map(drop));
            model.nodes.get_mut(&id).unwrap().mode = *mode;
            (Ok(()), real)
        }
        Op::SetXattr { file, name, len } => {
            let (id, path) = model.file(*file)?;
            let name = format!("user.{name}").into_bytes();
            let value = vec![7; *len as usize];
            let real = resolve(volume, &path)
                .and_then(|inode| volume.set_xattr(inode, &name, &value, XattrMode::Set));
            model.nodes.get_mut(&id).unwrap().xattrs.insert(name, value);
            (Ok(()), real)
        }
        Op::RemoveXattr { file, name } => {
            let (id, path) = model.file(*file)?;
            let name = format!("user.{name}").into_bytes();
            let real = resolve(volume, &path).and_then(|inode| volume.remove_xattr(inode, &name));
            let removed = model.nodes.get_mut(&id).unwrap().xattrs.remove(&name);
            (removed.map(drop).ok_or(FsError::NoAttribute), real)
        }
    })
}

fn allocate(bytes: &mut Vec<u8>, start: usize, end: usize, mode: Fallocate) {
    let (zero, grow) = match mode {
        Fallocate::Reserve { keep_size } => (false, !keep_size),
        Fallocate::PunchHole => (true, false),
        Fallocate::ZeroRange { keep_size } => (true, !keep_size),
    };
    if zero {
        let (from, to) = (start.min(bytes.len()), end.min(bytes.len()));
        bytes[from..to].fill(0);
    }
    if grow && bytes.len() < end {
        bytes.resize(end, 0);
    }
}

/// Compares two outcomes by their kind of error.
pub fn same(a: &FsResult<()>, b: &FsResult<()>) -> bool {
    match (a, b) {
        (Ok(()), Ok(())) => true,
        (Err(a), Err(b)) => std::mem::discriminant(a) == std::mem::discriminant(b),
        _ => false,
    }
}
