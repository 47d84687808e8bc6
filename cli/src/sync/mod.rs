//! Secrets in an open vault: fetched, compared, written, and put into the environment.
//!
//! Everything here runs as the caller, inside the ghost. The rule is `INV-S: nothing is written
//! before everything was fetched and staged, and each file is whole at every moment`.
//!
//! - [`vault`]: the vault as it is seen from inside, proven before anything is written;
//! - [`fetch`]: one request for each folder; [`change`]: what that means for the files;
//! - [`apply`]: staging and placing; [`record`]: what the last pull did;
//! - [`variables`]: what the environment gets; [`redact`]: values masked in a program's output.

pub(crate) mod apply;
pub(crate) mod change;
pub(crate) mod fetch;
pub(crate) mod record;
pub(crate) mod redact;
pub(crate) mod variables;
pub(crate) mod vault;
