//! Verbs about logins.

use super::ghost::OpenArgs;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Log in to Infisical; the login is kept in the vault
///
/// From outside a ghost this opens the vault, or joins the ghost that is open, for as long as it
/// takes. Without options it asks on the terminal. A client secret or token that is given by file
/// or descriptor is read once and kept in the vault alone.
#[derive(Args, Clone, Debug)]
pub(crate) struct LoginArgs {
    /// How to log in [default: what is given, else what you choose]
    #[arg(long, value_enum)]
    pub(crate) method: Option<Method>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// The machine identity's client id
    #[arg(long, value_name = "ID", conflicts_with = "client_id_file")]
    pub(crate) client_id: Option<String>,
    /// Read the client id from this file
    #[arg(long, value_name = "FILE")]
    pub(crate) client_id_file: Option<PathBuf>,
    /// Read the client secret from this file
    #[arg(long, value_name = "FILE", group = "given-secret")]
    pub(crate) client_secret_file: Option<PathBuf>,
    /// Read the client secret from this open file descriptor
    #[arg(long, value_name = "N", group = "given-secret")]
    pub(crate) client_secret_fd: Option<i32>,
    /// Read a token from this file
    #[arg(long, value_name = "FILE", group = "given-secret")]
    pub(crate) token_file: Option<PathBuf>,
    /// Read a token from this open file descriptor
    #[arg(long, value_name = "N", group = "given-secret")]
    pub(crate) token_fd: Option<i32>,
    /// What was given comes on standard input
    #[arg(long, hide = true)]
    pub(crate) handed: bool,
    #[command(flatten)]
    pub(crate) open: OpenArgs,
}

/// End the login: on the server and in the vault
#[derive(Args, Clone, Debug)]
pub(crate) struct LogoutArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) open: OpenArgs,
}

/// The ways to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Method {
    /// A machine identity: client id and client secret
    UniversalAuth,
    /// A token that you have
    Token,
    /// You, by the infisical program
    User,
}

/// Which server.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ServerArgs {
    /// The server [default: what secrets.yml says, else `INFISICAL_DOMAIN`, else where a login is]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Trust the certificates in this file beside the machine's
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Accept plain http to another machine: everybody on the way reads along
    #[arg(long)]
    pub(crate) allow_http: bool,
}
