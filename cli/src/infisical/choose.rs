//! Which source is taken: what the configuration says, else what is there.

use super::address::{Address, CLOUD};
use super::client::Client;
use super::keyring::UserSession;
use super::native::Native;
use super::program::Program;
use super::session::Store;
use super::settings::{Folders, Settings, SourceKind};
use super::source::{Source, SourceError};
use super::transport::Transport;
use crate::error::{Error, Result};
use crate::sys::allocation;

/// Picks the source. Nothing is asked and nobody logged in; a source without a login says so when
/// it is used.
pub(crate) fn choose(settings: &Settings, folders: &Folders) -> Result<Box<dyn Source>> {
    allocation::wipe_what_is_freed();
    let store = Store::new(&folders.infisical);
    let user = folders.kept().session(settings.allow_http);
    let address = address(settings, &store, user.as_ref().ok().and_then(Option::as_ref))?;
    let stored = store.load(address.as_str())?.is_some();
    // A keyring that does not open is the program's too: it says what is wrong with it.
    let foreign = user.as_ref().is_ok_and(|user| match user {
        Some(user) => user.address != address,
        None => true,
    });
    let by_program = match settings.source {
        Some(kind) => kind == SourceKind::Cli,
        None => !stored && !foreign && Program::is_installed(),
    };
    if by_program {
        if !address.is_https() {
            known_way(&client(address.clone(), settings)?, &store)?;
        }
        return Ok(Box::new(Program::new(address, settings, folders)?));
    }
    if !stored && let Some(user) = user?.filter(|user| user.address == address) {
        let client = client(address, settings)?;
        known_way(&client, &store)?;
        return Ok(Box::new(Native::user(client, user.email, user.token)));
    }
    let client = client(address, settings)?;
    if stored {
        known_way(&client, &store)?;
    }
    Ok(Box::new(Native::stored(client, store)?))
}

/// Refuses to send what is kept a way that no login went.
fn known_way(client: &Client, store: &Store) -> std::result::Result<(), SourceError> {
    let at = client.at();
    if store.knows_way(&at, client.way())? { Ok(()) } else { Err(SourceError::OtherWay { at }) }
}

/// Notes the way of a login at a server that the `infisical` program did: what it left goes that one.
pub(crate) fn keep_way(settings: &Settings, folders: &Folders, at: &str) -> Result<()> {
    let there = Settings { url: Some(at.to_owned()), ..settings.clone() };
    Ok(native(&there, folders)?.keep_way()?)
}

/// Returns the `infisical` program, to log a user in.
pub(crate) fn program(settings: &Settings, folders: &Folders) -> Result<Program> {
    let store = Store::new(&folders.infisical);
    let user = folders.kept().session(settings.allow_http).ok().flatten();
    Ok(Program::new(address(settings, &store, user.as_ref())?, settings, folders)?)
}

/// Forgets the session that the `infisical` program left, if it is with this server; returns whose
/// it was. A user's session cannot be ended on the server without the program.
pub(crate) fn forget_user(
    settings: &Settings,
    folders: &Folders,
    at: &str,
) -> Result<Option<String>> {
    let kept = folders.kept();
    let found = kept.session(settings.allow_http)?.filter(|user| user.address.as_str() == at);
    if found.is_some() {
        kept.forget().map_err(|cause| {
            Error::environment("cannot remove the session from the keyring").caused_by(cause)
        })?;
    }
    Ok(found.map(|user| user.email))
}

/// Returns our own client with what the vault has for its server: for logins.
pub(crate) fn native(settings: &Settings, folders: &Folders) -> Result<Native> {
    allocation::wipe_what_is_freed();
    let store = Store::new(&folders.infisical);
    let address = address(settings, &store, None)?;
    Ok(Native::stored(client(address, settings)?, store)?)
}

fn client(address: Address, settings: &Settings) -> std::result::Result<Client, SourceError> {
    Ok(Client::new(Transport::new(address, settings)?))
}

/// Decides the server: the configuration's, else the environment's, else the one that somebody is
/// logged in to, else the cloud.
fn address(settings: &Settings, store: &Store, user: Option<&UserSession>) -> Result<Address> {
    let variables = ["INFISICAL_DOMAIN", "INFISICAL_API_URL"];
    let named = variables.iter().filter_map(|name| {
        std::env::var(name).ok().filter(|text| !text.is_empty()).map(|text| (*name, text))
    });
    let configured = settings.url.clone().map(|text| ("infisical_url", text));
    if let Some((place, text)) = configured.into_iter().chain(named).next() {
        return Address::parse(&text, settings.allow_http).map_err(|cause| {
            Error::config(format!("'{text}' is no address of an Infisical server"))
                .caused_by(cause)
                .hint(format!("it comes from {place}"))
        });
    }
    let sessions = store.all()?;
    if let [only] = &sessions[..] {
        return Address::parse(&only.at, true)
            .map_err(|cause| Error::internal("the stored address is none").caused_by(cause));
    }
    if let Some(user) = user.filter(|_| sessions.is_empty()) {
        return Ok(user.address.clone());
    }
    Address::parse(CLOUD, false)
        .map_err(|cause| Error::internal("the cloud's address is none").caused_by(cause))
}
