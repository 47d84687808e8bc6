//! `tazpod vault`: the verbs about the image.

use super::{vault_check, vault_create, vault_info, vault_luks, vault_passwd, vault_slot};
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
        VaultCommand::Passwd(args) => vault_passwd::run(app, args),
        VaultCommand::Info(args) => vault_info::run(app, args),
        VaultCommand::Slot(args) => vault_slot::run(app, &args.command),
    }
}
