//! What the person presents to open a vault, and what shall open a new keyslot.

use crate::args::access::{CredentialArgs, KdfArgs};
use crate::args::vault::{CreateArgs, NewPassphraseArgs};
use crate::error::{Error, Kind, Result};
use crate::machine;
use crate::ui::Ui;
use crate::ui::secret::{self, PassphraseSource};
use vault_core::crypto::kdf::{KdfCost, KdfLimits};
use vault_core::crypto::secret::Passphrase;
use vault_core::keyslot::{Credential, NewSlot, RecoveryKey, SlotLabel};
use vault_core::ports::SystemEntropy;
use zeroize::Zeroizing;

/// Words of a recovery key in a line.
const WORDS: usize = 6;

/// Reads what opens the existing vault `shown`.
pub(crate) fn credential(ui: &Ui, args: &CredentialArgs, shown: &str) -> Result<Credential> {
    if let Some(path) = &args.key_file {
        return Ok(Credential::KeyFile(secret::key_file(ui, path)?));
    }
    from_source(ui, args, shown, &PassphraseSource::from_args(&args.passphrase))
}

/// Reads what opens the existing vault `shown` where standard input may carry something else.
pub(crate) fn credential_beside_input(
    ui: &Ui,
    args: &CredentialArgs,
    shown: &str,
    input_taken: bool,
) -> Result<Credential> {
    let source = PassphraseSource::from_args(&args.passphrase);
    if input_taken && args.key_file.is_none() && source == PassphraseSource::StandardInput {
        return from_source(ui, args, shown, &PassphraseSource::Terminal);
    }
    credential(ui, args, shown)
}

fn from_source(
    ui: &Ui,
    args: &CredentialArgs,
    shown: &str,
    source: &PassphraseSource,
) -> Result<Credential> {
    if args.recovery {
        let typed = source.read(ui, &format!("Recovery key of {shown}: "))?;
        return recovery_key(&typed).map(Credential::RecoveryKey);
    }
    source.read(ui, &format!("Passphrase of {shown}: ")).map(Credential::Passphrase)
}

/// Reads what shall open a new vault; a typed passphrase is asked for twice.
pub(crate) fn first_credential(ui: &Ui, args: &CreateArgs, shown: &str) -> Result<Credential> {
    if let Some(path) = &args.key_file {
        return Ok(Credential::KeyFile(secret::key_file(ui, path)?));
    }
    let source = PassphraseSource::from_args(&args.passphrase);
    source.read_new(ui, &format!("New passphrase of {shown}: ")).map(Credential::Passphrase)
}

/// Reads what shall open a keyslot of the vault `shown` from now on. Standard input is not a source:
/// it may have given what opens the vault now.
pub(crate) fn next_credential(
    ui: &Ui,
    args: &NewPassphraseArgs,
    shown: &str,
) -> Result<Credential> {
    if let Some(path) = &args.key_file {
        return Ok(Credential::KeyFile(secret::key_file(ui, path)?));
    }
    let source = match (&args.passphrase_file, args.passphrase_fd) {
        (Some(path), _) => PassphraseSource::File(path.clone()),
        (None, Some(fd)) => PassphraseSource::Descriptor(fd),
        (None, None) => PassphraseSource::Terminal,
    };
    source.read_new(ui, &format!("New passphrase of {shown}: ")).map(Credential::Passphrase)
}

/// Makes a recovery key and shows it, once. Unless `unchecked`, it must be typed back before it is
/// believed to have been written down.
pub(crate) fn generated_recovery_key(ui: &Ui, unchecked: bool) -> Result<RecoveryKey> {
    let key = RecoveryKey::generate(&SystemEntropy)
        .map_err(|cause| Error::environment("cannot make a recovery key").caused_by(cause))?;
    let words = key.expose_words();
    if unchecked {
        ui.hand_over(&words).map_err(|error| error.hint("nothing was changed"))?;
        return Ok(key);
    }
    ui.show_once(&in_lines(words))?;
    let differs = || {
        Error::user("this is not the recovery key that was shown")
            .hint("nothing was changed; start again for another key")
    };
    let typed = PassphraseSource::Terminal.read(ui, "Type the recovery key back: ");
    let typed = typed.map_err(|e| if e.kind() == Kind::User { differs() } else { e })?;
    let typed = recovery_key(&typed).map_err(|e| e.hint("nothing was changed"))?;
    if typed.expose() == key.expose() { Ok(key) } else { Err(differs()) }
}

/// Breaks a recovery key between words, before a terminal does it within one.
fn in_lines(mut words: Zeroizing<String>) -> Zeroizing<String> {
    let ends: Vec<_> =
        words.match_indices(' ').map(|(at, _)| at).skip(WORDS - 1).step_by(WORDS).collect();
    for at in ends {
        words.replace_range(at..=at, "\n");
    }
    words
}

fn recovery_key(typed: &Passphrase) -> Result<RecoveryKey> {
    let unreadable = || {
        Error::user("the recovery key cannot be read")
            .hint("it has 24 words; the first four letters of each are enough")
    };
    let text = std::str::from_utf8(typed.expose()).map_err(|_| unreadable())?;
    RecoveryKey::from_words(text).map_err(|cause| unreadable().caused_by(cause))
}

/// Returns what a new keyslot shall cost.
pub(crate) fn new_slot_cost(args: &KdfArgs) -> KdfCost {
    let default = KdfCost::default();
    let memory_kib = args.kdf_memory.map(|size| u32::try_from(size.0 >> 10).unwrap_or(u32::MAX));
    KdfCost {
        memory_kib: memory_kib.unwrap_or(default.memory_kib),
        passes: args.kdf_time.unwrap_or(default.passes),
        lanes: default.lanes,
    }
}

/// Describes a new keyslot.
pub(crate) fn new_slot<'a>(credential: &'a Credential, kdf: &KdfArgs, label: &str) -> NewSlot<'a> {
    let limits = KdfLimits {
        allow_cheap: false,
        // Whoever names a cost means it.
        allow_costly: true,
        max_memory_kib: machine::available_kib(),
    };
    let label = SlotLabel::new(label).unwrap_or_default();
    NewSlot { credential, cost: new_slot_cost(kdf), limits, label }
}
