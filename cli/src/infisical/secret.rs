//! Text that must not be seen: values of secrets, tokens, client secrets.

use serde::{Deserialize, Deserializer, Serializer};
use std::fmt;
use zeroize::Zeroizing;

/// The value of a secret, or something that gives access to it. It is owned once, wiped when
/// dropped, and shown by name only; exposing it is a call that can be searched for.
pub(crate) struct SecretValue(Zeroizing<String>);

impl SecretValue {
    /// Takes over text that was kept wiped so far.
    pub(crate) fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// Returns the text itself.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Writes the text itself, for a request's body or a file in the vault: `serialize_with`.
    pub(crate) fn expose_to<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.expose())
    }
}

impl SecretValue {
    /// Writes the text itself where there is one: `serialize_with`.
    #[allow(clippy::ref_option, reason = "what serde calls it with")]
    pub(crate) fn expose_some_to<S: Serializer>(
        some: &Option<Self>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match some {
            Some(secret) => secret.expose_to(serializer),
            None => serializer.serialize_none(),
        }
    }
}

impl From<String> for SecretValue {
    /// Takes the text over without a copy.
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl<'de> Deserialize<'de> for SecretValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compiles only while the type is no `Clone`: with it, the call below would be ambiguous.
    #[test]
    fn value_is_not_cloned_and_not_shown() {
        trait CloneIsAbsent<Marker> {
            fn check() {}
        }
        struct Implemented;
        impl<T> CloneIsAbsent<()> for T {}
        impl<T: Clone> CloneIsAbsent<Implemented> for T {}
        <SecretValue as CloneIsAbsent<_>>::check();
        let value = SecretValue::from("canary-value".to_owned());
        assert_eq!(format!("{value:?}"), "SecretValue(..)");
        assert_eq!(value.expose(), "canary-value");
    }
}
