//! What a JSON web token says about itself. Nothing here is proof of anything: only the server can
//! verify a token, and does.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;

/// Longer than any token.
const LONGEST: usize = 64 << 10;

/// The parts of a token that help to show who is logged in until when.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Claims {
    /// When it ends, in seconds since 1970.
    pub(crate) exp: Option<u64>,
    /// The machine identity's name.
    pub(crate) identity_name: Option<String>,
    /// The machine identity.
    pub(crate) identity_id: Option<String>,
    /// The user.
    pub(crate) user_id: Option<String>,
}

impl Claims {
    /// Reads a token; one that is no JSON web token says nothing.
    pub(crate) fn of(token: &str) -> Self {
        Self::read(token).unwrap_or_default()
    }

    fn read(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let (_, body, _) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || body.len() > LONGEST {
            return None;
        }
        let body = BASE64_URL_SAFE_NO_PAD.decode(body.trim_end_matches('=')).ok()?;
        serde_json::from_slice(&body).ok()
    }

    /// Returns the most telling name.
    pub(crate) fn who(self) -> Option<String> {
        let name = self.identity_name.or(self.identity_id).or(self.user_id)?;
        super::wire::harmless(&name)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn claims_are_read_from_the_middle_part() {
        let body = BASE64_URL_SAFE_NO_PAD.encode(r#"{"exp":17,"identityId":"i","x":[]}"#);
        let claims = Claims::of(&format!("h.{body}.s"));
        assert_eq!(claims.exp, Some(17));
        assert_eq!(claims.who().unwrap(), "i");
    }

    #[test]
    fn what_is_no_token_says_nothing() {
        for text in ["", "a.b", "a.b.c", "a.e30.c.d", "st.abc.def", "..", "a.W10.c"] {
            assert_eq!(Claims::of(text), Claims::default(), "{text}");
        }
    }
}
