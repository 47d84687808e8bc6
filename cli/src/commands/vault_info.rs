//! `tazpod vault info` and `slot list`: what an image says about itself to anyone who holds it.

use crate::app::App;
use crate::args::vault::InfoArgs;
use crate::caller::Caller;
use crate::dates;
use crate::error::Result;
use crate::image::Image;
use crate::units::ByteSize;
use serde::Serialize;
use std::fmt::Write as _;
use vault_core::format::keyslot::{KEYSLOTS, Keyslot};
use vault_core::ids::SlotIndex;

/// Shows the image.
pub(crate) fn run(app: &App, args: &InfoArgs) -> Result<u8> {
    let info = read(app, args)?;
    if args.json {
        app.ui.json(&info)?;
    } else {
        app.ui.print(&info.text())?;
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
    Image::peek(&path, &shown).map(|image| Info::of(&image))
}

/// What the header says. Nothing in it has been authenticated.
#[derive(Debug, Serialize)]
struct Info {
    image: String,
    format: u16,
    vault: String,
    header_sequence: u64,
    data_block: u64,
    size_on_disk: u64,
    keyslots: Vec<SlotInfo>,
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
    fn of(image: &Image) -> Self {
        let header = image.vault().header();
        Self {
            image: image.shown.clone(),
            format: 1,
            vault: header.vault.to_string(),
            header_sequence: header.sequence,
            data_block: 1 << header.block_shift,
            size_on_disk: image.len,
            keyslots: image.vault().slots().map(SlotInfo::of).collect(),
        }
    }

    fn text(&self) -> String {
        format!(
            "image       {}\nformat      {} (fuse)\nvault       {}\nheader      change {}\n\
             data block  {}\nsize        {}\nkeyslots    {} of {KEYSLOTS}\n{}\n\
             Nothing above is proven before a keyslot opens.",
            self.image,
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
