//! `tazpod vault info` and `slot list`: what an image says about itself to anyone who holds it.

use crate::app::App;
use crate::args::vault::{InfoArgs, VaultInfoArgs};
use crate::caller::Caller;
use crate::dates;
use crate::error::Result;
use crate::image::volume::remembered;
use crate::image::{self, Image};
use crate::quoting::JsonName;
use crate::units::ByteSize;
use serde::Serialize;
use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use vault_core::backup::FixedUnits;
use vault_core::device::Access;
use vault_core::format::keyslot::{KEYSLOTS, Keyslot};
use vault_core::ids::{SlotIndex, UNIT_U64};
use vault_core::vault::VaultError;

/// Shows the image.
pub(crate) fn run(app: &App, args: &VaultInfoArgs) -> Result<u8> {
    let mut info = read(app, &args.info)?;
    if args.open || !args.credential.is_empty() {
        info.content = Some(open(app, args)?);
    }
    if args.info.json {
        app.ui.json(&info)?;
    } else {
        app.ui.print(&info.text(app.ui.shows_results()))?;
    }
    Ok(0)
}

/// Shows the keyslots alone.
pub(crate) fn list_slots(app: &App, args: &InfoArgs) -> Result<u8> {
    let info = read(app, args)?;
    if args.json {
        app.ui.json(&info.keyslots)?;
    } else {
        app.ui.print(&info.slots_text())?;
    }
    Ok(0)
}

fn read(app: &App, args: &InfoArgs) -> Result<Info> {
    let caller = Caller::detect()?;
    let _as_caller = caller.act()?;
    let (path, shown) = Image::place(app, &args.image)?;
    // Reading needs no lock: this also works beside an open ghost.
    let image = Image::peek(&path, &shown)?;
    let fixed = File::open(&path).map_err(VaultError::Io).and_then(|file| {
        FixedUnits::read(&mut |buffer, offset| file.read_exact_at(buffer, offset))
    });
    Ok(Info::of(&path, &image, fixed.ok().map(|fixed| fixed.generation().0)))
}

/// Reads what only the opened vault can tell.
fn open(app: &App, args: &VaultInfoArgs) -> Result<Content> {
    let caller = Caller::detect()?;
    let _as_caller = caller.act()?;
    let (path, shown) = Image::place(app, &args.info.image)?;
    let image = Image::open(&path, &shown, Access::ReadOnly)?;
    let credential = image::credential(&app.ui, &args.credential, &shown)?;
    let vault = image.unlock(&credential, &args.credential)?;
    let seen = remembered(&app.ui, &vault)?.map(|witness| witness.generation.0);
    let volume = image.volume(&app.ui, &vault, true, None)?;
    let space = volume.stat_fs();
    Ok(Content {
        generation: volume.anchor().generation.0,
        seen_generation: seen,
        capacity: space.total * UNIT_U64,
        used: space.total.saturating_sub(space.free) * UNIT_U64,
        available: space.available * UNIT_U64,
        files: space.files,
    })
}

/// What the header says. Nothing in it has been authenticated.
#[derive(Debug, Serialize)]
struct Info {
    image: JsonName,
    #[serde(skip)]
    shown: String,
    format: u16,
    vault: String,
    header_sequence: u64,
    generation: Option<u64>,
    data_block: u64,
    size_on_disk: u64,
    keyslots: Vec<SlotInfo>,
    content: Option<Content>,
}

/// What the opened vault says, which is authentic.
#[derive(Debug, Serialize)]
struct Content {
    generation: u64,
    seen_generation: Option<u64>,
    capacity: u64,
    used: u64,
    available: u64,
    files: u64,
}

#[derive(Debug, Serialize)]
struct SlotInfo {
    slot: u8,
    kind: String,
    label: String,
    created: i64,
    kdf_memory: Option<u64>,
    kdf_passes: Option<u32>,
    kdf_lanes: Option<u32>,
}

impl Info {
    fn of(path: &Path, image: &Image, generation: Option<u64>) -> Self {
        let header = image.vault().header();
        Self {
            image: JsonName::shown(path, &image.shown),
            shown: image.shown.clone(),
            format: 1,
            vault: header.vault.to_string(),
            header_sequence: header.sequence,
            generation,
            data_block: 1 << header.block_shift,
            size_on_disk: image.len,
            keyslots: image.vault().slots().map(SlotInfo::of).collect(),
            content: None,
        }
    }

    fn text(&self, on_terminal: bool) -> String {
        let generation = self.generation.map_or("none".to_owned(), |number| number.to_string());
        let end = match &self.content {
            Some(content) => content.text(on_terminal),
            None => "Nothing above is proven before a keyslot opens; --open shows what is in it."
                .to_owned(),
        };
        format!(
            "image       {}\nformat      {} (fuse)\nvault       {}\nheader      change {}\n\
             generation  {generation}\ndata block  {}\nsize        {}\nkeyslots    {} of {KEYSLOTS}\n{}\n{end}",
            self.shown,
            self.format,
            self.vault,
            self.header_sequence,
            ByteSize(self.data_block),
            ByteSize(self.size_on_disk),
            self.keyslots.len(),
            self.slots_text(),
        )
    }

    fn slots_text(&self) -> String {
        self.keyslots.iter().map(SlotInfo::text).collect::<Vec<_>>().join("\n")
    }
}

/// Columns of the bar.
const BAR: u64 = 40;

impl Content {
    fn text(&self, on_terminal: bool) -> String {
        let percent = self.used.saturating_mul(100) / self.capacity.max(1);
        let (used, capacity) = (ByteSize(self.used), ByteSize(self.capacity));
        let seen = match self.seen_generation {
            None => "nothing: that the image is the newest cannot be told".to_owned(),
            Some(seen) if seen == self.generation => "this very state".to_owned(),
            Some(seen) => format!("generation {seen}, which is older"),
        };
        let bar = if on_terminal {
            let full = usize::try_from((percent * BAR).div_ceil(100).min(BAR)).unwrap_or_default();
            let free = usize::try_from(BAR).unwrap_or_default() - full;
            format!("            [{}{}]\n", "#".repeat(full), ".".repeat(free))
        } else {
            String::new()
        };
        format!(
            "used        {used} of {capacity}, {percent} %\n{bar}available   {}\nfiles       {}\n\
             remembered  {seen}",
            ByteSize(self.available),
            self.files,
        )
    }
}

impl SlotInfo {
    fn of((index, slot): (SlotIndex, &Keyslot)) -> Self {
        Self {
            slot: index.0,
            kind: slot.kind.to_string(),
            label: slot.label.as_str().to_owned(),
            created: slot.created,
            kdf_memory: slot.cost.map(|cost| u64::from(cost.memory_kib) << 10),
            kdf_passes: slot.cost.map(|cost| cost.passes),
            kdf_lanes: slot.cost.map(|cost| cost.lanes),
        }
    }

    fn text(&self) -> String {
        let mut line =
            format!("  {}  {:<12}  made {}", self.slot, self.kind, dates::utc(self.created));
        if let (Some(memory), Some(passes), Some(lanes)) =
            (self.kdf_memory, self.kdf_passes, self.kdf_lanes)
        {
            let memory = ByteSize(memory);
            let _ = write!(line, "  Argon2id m={memory} t={passes} p={lanes}");
        }
        if !self.label.is_empty() {
            let _ = write!(line, "  {}", self.label);
        }
        line
    }
}
