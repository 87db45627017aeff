//! Who is asking: users of the run, and what they show at the door.

use std::fs::File;
use std::sync::Arc;

use crate::secret::{Secret, redact};
use crate::token::Claims;

/// A user with tokens.
#[derive(Debug)]
pub struct Identity {
    /// What the check calls it: `alice`.
    pub label: String,
    /// The `sub` of its tokens.
    pub user_id: String,
    /// Its e-mail.
    pub email: String,
    /// Its access token.
    pub access: Secret,
    /// Its refresh token, where the source gives one.
    pub refresh: Option<Secret>,
    /// Keeps a seeded user from other checks, shards and colleagues on this machine, for as long as it lives.
    #[expect(dead_code, reason = "held for its lock")]
    pub(crate) lease: Option<File>,
}

/// What a caller shows.
#[derive(Clone, Debug)]
pub enum Credential {
    /// Nothing.
    Nobody,
    /// The access token of a user.
    User(Arc<Identity>),
    /// Any value of `Authorization`, with a label for the evidence, and whether it should be accepted.
    Raw {
        /// `alice, expired`.
        label: String,
        /// The value of the header.
        authorization: String,
        /// True if the service should accept it.
        good: bool,
    },
}

impl Credential {
    /// A bearer token that must be refused.
    #[must_use]
    pub fn bad(kind: &str, token: &str) -> Self {
        Self::Raw { label: format!("token {kind}"), authorization: format!("Bearer {token}"), good: false }
    }

    /// A token with every claim of this user in order, signed by somebody else: it must be refused.
    #[must_use]
    pub fn forged(who: &Identity) -> Self {
        let secret = Secret::new(uuid::Uuid::new_v4().to_string());
        Self::bad("signed with another secret", &Claims::access(&who.user_id, &who.email).sign(&secret))
    }

    /// A bearer token that must be accepted.
    #[must_use]
    pub fn good(label: &str, token: &str) -> Self {
        Self::Raw { label: label.to_owned(), authorization: format!("Bearer {token}"), good: true }
    }

    /// Who this is, for the evidence.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Self::Nobody => "nobody".to_owned(),
            Self::User(identity) => format!("{} ({})", identity.label, identity.user_id),
            Self::Raw { label, .. } => redact(label),
        }
    }

    /// The value of `Authorization`.
    #[must_use]
    pub fn authorization(&self) -> Option<String> {
        match self {
            Self::Nobody => None,
            Self::User(identity) => Some(format!("Bearer {}", identity.access.expose())),
            Self::Raw { authorization, .. } => Some(authorization.clone()),
        }
    }

    /// True if the service should accept it.
    #[must_use]
    pub fn is_good(&self) -> bool {
        match self {
            Self::Nobody => false,
            Self::User(_) => true,
            Self::Raw { good, .. } => *good,
        }
    }
}

impl From<&Arc<Identity>> for Credential {
    fn from(identity: &Arc<Identity>) -> Self {
        Self::User(Arc::clone(identity))
    }
}
