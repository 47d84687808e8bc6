//! `tazpod vault`: the verbs about the image.

use super::{
    vault_backup, vault_check, vault_create, vault_diff, vault_export, vault_header, vault_import,
    vault_info, vault_kdf, vault_luks, vault_migrate, vault_mount, vault_passwd, vault_rekey,
    vault_resize, vault_salvage, vault_slot,
};
use crate::app::App;
use crate::args::vault::VaultCommand;
use crate::error::Result;

/// Runs the verb below `vault`.
pub(crate) fn run(app: &App, command: &VaultCommand) -> Result<u8> {
    if let Some(status) = vault_luks::run(app, command)? {
        return Ok(status);
    }
    match command {
        VaultCommand::Create(args) => vault_create::run(app, args),
        VaultCommand::Check(args) => vault_check::run(app, args),
        VaultCommand::Salvage(args) => vault_salvage::run(app, args),
        VaultCommand::Rekey(args) => vault_rekey::run(app, args),
        VaultCommand::Resize(args) => vault_resize::resize(app, args),
        VaultCommand::Compact(args) => vault_resize::compact(app, args),
        VaultCommand::Header(args) => vault_header::run(app, &args.command),
        VaultCommand::Mount(args) => vault_mount::mount(app, args),
        VaultCommand::Unmount(args) => vault_mount::unmount(app, args),
        VaultCommand::Kdf(args) => vault_kdf::run(app, args),
        VaultCommand::Passwd(args) => vault_passwd::run(app, args),
        VaultCommand::Info(args) => vault_info::run(app, args),
        VaultCommand::Export(args) => vault_export::run(app, args),
        VaultCommand::Import(args) => vault_import::run(app, args),
        VaultCommand::Backup(args) => vault_backup::run(app, args),
        VaultCommand::Migrate(args) => vault_migrate::run(app, args),
        VaultCommand::Diff(args) => vault_diff::run(app, args),
        VaultCommand::Slot(args) => vault_slot::run(app, &args.command),
    }
}
