//! The supervisor's side of the vault's server: the credential, the state that is remembered, and
//! the image's name and note.
//!
//! Steps 9 to 11 and 13 of GHOST.md. What the server says is judged as hostile: it has parsed an
//! image that anybody may have written.

use super::link::Received;
use super::protocol::{CredentialKind, Failure, FromServer, ToServer};
use super::supervisor::{FIRST, Phase, Supervisor};
use crate::backend;
use crate::error::{Error, Result};
use crate::witness_store::WitnessStore;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use vault_core::ids::VaultId;

/// Attempts at a terminal before the ghost gives up.
const ATTEMPTS: u32 = 3;

/// How often a new witness is written at most.
const WITNESS_PAUSE: Duration = Duration::from_millis(100);

/// The newest state that the server reported, and what is already on the disk.
pub(super) struct Witness {
    pub(super) store: Option<WitnessStore>,
    pub(super) vault: Option<VaultId>,
    pub(super) pending: Option<Vec<u8>>,
    pub(super) next: Instant,
}

impl Supervisor {
    pub(super) fn hear_server(&mut self) {
        while let Some(link) = &mut self.server {
            match link.try_receive::<FromServer>() {
                Ok(None) => return,
                Ok(Some(Received::Message(message, fds))) => self.obey_server(message, &fds),
                _ => {
                    self.server = None;
                    return;
                }
            }
        }
    }

    fn obey_server(&mut self, message: FromServer, fds: &[OwnedFd]) {
        match message {
            // The server may be faster than init.
            FromServer::Waiting { vault } if self.phase == Phase::Making => {
                self.waiting = Some(vault.is_some());
            }
            FromServer::Waiting { vault } if self.phase == Phase::Looking => {
                self.ready_to_open(vault.is_some());
            }
            FromServer::Refused(failure) if self.phase == Phase::Opening => self.refused(failure),
            FromServer::Opened { vault, notices, weaknesses } if self.phase == Phase::Opening => {
                self.weaknesses.extend(weaknesses);
                // A luks vault has no generation that could be remembered.
                if self.holder.is_none() {
                    self.remember(&vault);
                }
                for notice in notices {
                    self.notice(&notice);
                }
                match self.place_new_image() {
                    Ok(()) => self.vault_is_open(fds.first()),
                    Err(error) => self.fail(error),
                }
            }
            FromServer::Proved(proved) => self.proved(proved),
            FromServer::Witness(bytes) => self.witness.pending = Some(bytes),
            FromServer::Trouble(what, hint) => self.warn(&what, &hint),
            FromServer::Closed => self.closed = true,
            FromServer::Failed(failure) => self.end(Err(failure)),
            // Out of order: the server is not what it was.
            FromServer::Waiting { .. } | FromServer::Refused(_) | FromServer::Opened { .. } => {
                self.fail(Error::internal("the vault's server talks out of order"));
            }
        }
    }

    pub(super) fn ready_to_open(&mut self, exists: bool) {
        self.phase = Phase::Opening;
        self.announce(exists);
        self.need_secret();
    }

    /// Gives the server a credential, or asks the person for one.
    fn need_secret(&mut self) {
        if let Some(secret) = self.secret.take() {
            self.attempts = ATTEMPTS;
            return self.try_secret(&secret);
        }
        let question = self.question();
        let repeat = self.request.vault.create.is_some();
        let asked = match self.clients.get_mut(&FIRST) {
            Some(client) => client.ask(&question, repeat, &self.identity),
            None => Err(Error::internal("nobody is there to be asked")),
        };
        if let Err(error) = asked {
            self.fail(error);
        }
    }

    fn question(&self) -> String {
        let shown = &self.request.vault.shown;
        let what = match self.request.vault.credential {
            CredentialKind::RecoveryKey => "Recovery key",
            _ => "Passphrase",
        };
        match (&self.request.vault.create, self.attempts) {
            (Some(_), _) => {
                let backend = self.request.vault.backend;
                format!("New vault {shown} ({backend}). {what}: ")
            }
            (None, 0) => format!("{what} of {shown}: "),
            (None, _) => format!("That did not open the vault. {what} of {shown}: "),
        }
    }

    fn try_secret(&mut self, secret: &[u8]) {
        let Some(server) = &self.server else { return };
        let sent = server.send(&ToServer::Open {}, &[]).and_then(|()| server.send_secret(secret));
        if sent.is_err() {
            self.fail(Error::internal("the vault's server is gone"));
        }
    }

    fn refused(&mut self, failure: Failure) {
        self.attempts += 1;
        if self.attempts >= ATTEMPTS {
            return self.end(Err(failure));
        }
        self.need_secret();
    }

    /// The agent of a session has the person's answer.
    pub(crate) fn answered(&mut self, session: u32, answer: std::result::Result<&[u8], Failure>) {
        match answer {
            Ok(secret) if session == FIRST => self.try_secret(secret),
            Ok(secret) => self.prove(session, secret),
            Err(failure) if session == FIRST => self.end(Err(failure)),
            Err(failure) => self.dismiss(session, Err(failure)),
        }
    }

    /// Keeps what is needed to write witnesses; the folder is opened with the caller's rights.
    fn remember(&mut self, vault: &str) {
        self.witness.vault = vault_id(vault);
        let opened = self.as_caller(|| WitnessStore::open(self.request.state.path()));
        match opened {
            Ok(store) => self.witness.store = Some(store),
            Err(cause) => self.warn(
                &format!("no rollback witness can be kept: {cause}"),
                "make the state folder writable, or a rollback of the image cannot be seen",
            ),
        }
    }

    /// Leaves a note beside the image that says who has it open.
    fn announce(&mut self, exists: bool) {
        if !exists {
            return;
        }
        let holder = super::note::of_this_process();
        let image = self.request.vault.image.path();
        // The note is advice for others; a folder that takes none does not stop the ghost.
        self.note = self.as_caller(|| holder.announce(image)).ok();
    }

    /// Gives a new vault its name, now that it is whole.
    fn place_new_image(&mut self) -> Result<()> {
        if self.request.vault.create.take().is_none() {
            return Ok(());
        }
        let image = self.request.vault.image.path();
        self.as_caller(|| backend::image::place_new(image)).map_err(|cause| {
            let shown = &self.request.vault.shown;
            Error::environment(format!("cannot give the new vault its name '{shown}'"))
                .caused_by(cause)
        })?;
        self.announce(true);
        Ok(())
    }

    pub(super) fn write_witness(&mut self) {
        let Witness { store: Some(store), vault: Some(vault), pending, next } = &mut self.witness
        else {
            return;
        };
        let Some(bytes) = pending.take() else { return };
        *next = Instant::now() + WITNESS_PAUSE;
        let result = store.write(*vault, &bytes);
        if let Err(cause) = result {
            self.warn(
                &format!("the rollback witness cannot be written: {cause}"),
                "until it can, putting back today's older images goes unnoticed",
            );
            // Said once; the store is as it is.
            self.witness.store = None;
        }
    }
}

fn vault_id(text: &str) -> Option<VaultId> {
    let bytes: Vec<u8> = (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect::<Option<_>>()?;
    bytes.try_into().ok().map(VaultId)
}
