//! `tazpod logout`: the session ends on the server and is forgotten in the vault.

use super::internal_session::folders;
use super::login::{guard, in_ghost, server_words};
use super::login_inside::settings;
use super::pull;
use crate::app::App;
use crate::args::login::LogoutArgs;
use crate::docker::route;
use crate::error::{Error, Result};
use crate::infisical::choose;

/// Logs out.
pub(crate) fn run(app: &App, args: &LogoutArgs) -> Result<u8> {
    guard()?;
    let Some(ghost) = app.open_vault()? else {
        if let Some(status) = route::to_container(app, args.open.place.here)? {
            return Ok(status);
        }
        let mut words = vec!["logout".into()];
        words.extend(server_words(&args.server)?);
        return in_ghost(app, words, &args.open, pull::Given::default());
    };
    let (settings, folders) = (settings(app, &args.server, &ghost)?, folders(&ghost.vault));
    let mut native = choose::native(&settings, &folders)?;
    let at = native.at();
    let was_logged_in = native.log_out().map_err(|error| {
        Error::from(error)
            .hint("the login is forgotten here; on the server it lasts until its own end")
    })?;
    if was_logged_in {
        app.ui.print(&format!("Logged out of {at}; the token is revoked."))?;
    }
    let user = choose::forget_user(&settings, &folders, &at)?;
    if let Some(email) = &user {
        app.ui.print(&format!("Forgot the session of {email} at {at}."))?;
    }
    if !was_logged_in && user.is_none() {
        app.ui.notice(&format!("Nobody was logged in to {at}."));
    }
    Ok(0)
}
