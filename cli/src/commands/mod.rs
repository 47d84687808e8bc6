//! One verb, one file: from the typed arguments to the domain call to the words shown.

mod doctor;
mod down;
mod enter;
mod env;
mod generate;
mod image;
mod init;
mod internal_ghost;
mod internal_session;
mod lock;
mod login;
mod login_inside;
mod logout;
mod logs;
mod pull;
mod reinit;
mod run;
mod status;
mod status_all;
mod unlock;
mod up;
mod vault;
mod vault_backup;
mod vault_check;
mod vault_create;
mod vault_diff;
mod vault_export;
mod vault_header;
mod vault_import;
mod vault_info;
mod vault_kdf;
mod vault_luks;
mod vault_luks_header;
mod vault_luks_resize;
mod vault_migrate;
mod vault_mount;
mod vault_passwd;
mod vault_rekey;
mod vault_repair;
mod vault_resize;
mod vault_salvage;
mod vault_slot;

use crate::app::App;
use crate::args::Command;
use crate::error::Result;

/// Runs the verb and returns the exit status.
pub(crate) fn run(app: &App, command: Command) -> Result<u8> {
    match command {
        Command::Pull(args) => pull::run(app, &args),
        Command::Unlock(args) => unlock::run(app, &args),
        Command::Lock(args) => lock::run(app, &args),
        Command::Up(args) => up::run(app, &args),
        Command::Enter(args) => enter::run(app, &args),
        Command::Down(args) => down::run(app, &args),
        Command::Doctor(args) => doctor::run(app, &args),
        Command::Logs(args) => logs::run(app, &args),
        Command::Run(args) => run::run(app, args),
        Command::InternalSession(args) => internal_session::run(app, &args),
        Command::Generate(args) => generate::run(app, &args.what),
        Command::InternalGhost => internal_ghost::run(app),
        Command::Login(args) => login::run(app, &args),
        Command::Logout(args) => logout::run(app, &args),
        Command::Init(args) => init::run(app, &args),
        Command::Env(args) => env::run(app, &args),
        Command::Reinit(args) => reinit::run(app, &args),
        Command::Vault(args) => vault::run(app, &args.command),
        Command::Image(args) => image::run(app, &args.command),
        Command::Status(args) => status::run(app, &args),
    }
}
