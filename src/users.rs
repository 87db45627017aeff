//! Where a check's users come from: issued by the auth service, signed here, or handed in. Never from a second source.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::config::TokenSource;
use crate::context::Cx;
use crate::expect::{Held, Is, Trouble};
use crate::identity::Identity;
use crate::poll;
use crate::secret::{Secret, canary, fingerprint};
use crate::token::{Claims, decode};

impl Cx {
    /// One user of this check alone. A check that needs several asks for all of them at once, with [`Cx::users`].
    ///
    /// # Errors
    /// *Errored* when the source gives no user; *failed* when the auth service breaks its contract.
    pub async fn user(&self, label: &str) -> Held<Arc<Identity>> {
        let [user] = self.users([label]).await?;
        Ok(user)
    }

    /// Several users of this check alone, all at once: leases on seeded users are taken together, so checks cannot lock each
    /// other out.
    ///
    /// # Errors
    /// As [`Cx::user`].
    pub async fn users<const N: usize>(&self, labels: [&str; N]) -> Held<[Arc<Identity>; N]> {
        let users = self.crowd(&labels).await?;
        users.try_into().map_err(|_| Trouble::suite("fewer users than asked for", "this is a defect of the suite"))
    }

    /// As [`Cx::users`], for any number.
    ///
    /// # Errors
    /// As [`Cx::user`].
    pub async fn crowd(&self, labels: &[&str]) -> Held<Vec<Arc<Identity>>> {
        let settings = self.settings();
        let mut users = Vec::with_capacity(labels.len());
        match settings.token_source {
            TokenSource::AuthService => {
                for label in labels {
                    users.push(self.issued(label).await?);
                }
            }
            TokenSource::Mint if settings.fresh_users => {
                for label in labels {
                    let email = self.email(label);
                    let user_id = format!("e2e-{}", email.split('@').next().unwrap_or_default());
                    users.push(self.minted(label, &user_id, &email, None)?);
                }
            }
            TokenSource::Mint => {
                for (label, (seat, lease)) in labels.iter().zip(self.lease(settings.users.len(), labels.len()).await?) {
                    let (user_id, email) = settings.users[seat].split_once(' ').unwrap_or((&settings.users[seat], ""));
                    users.push(self.minted(label, user_id, email, Some(lease))?);
                }
            }
            TokenSource::Env => {
                let tokens = &self.suite.target.tokens;
                for (label, (seat, lease)) in labels.iter().zip(self.lease(tokens.len(), labels.len()).await?) {
                    let (access, refresh) = tokens[seat].clone();
                    let claims = decode(access.expose()).unwrap_or_default();
                    let text = |claim: &str| claims[claim].as_str().unwrap_or_default().to_owned();
                    users.push(Identity {
                        label: (*label).to_owned(),
                        user_id: text("sub"),
                        email: text("email"),
                        access,
                        refresh,
                        lease: Some(lease),
                    });
                }
            }
        }
        let users: Vec<_> = users.into_iter().map(Arc::new).collect();
        self.identities().extend(users.iter().cloned());
        Ok(users)
    }

    /// The local part decides who the user is (contract, section 1), so it is unique.
    fn email(&self, label: &str) -> String {
        let unique = &uuid::Uuid::new_v4().simple().to_string()[..8];
        format!("critical-{:03}-{label}-{unique}@{}", self.check.id, self.settings().email_domain)
    }

    async fn issued(&self, label: &str) -> Held<Identity> {
        let key = self.suite.target.e2e_key.clone();
        let key =
            key.ok_or_else(|| Trouble::suite("no key for test users", format!("export {}=…", self.settings().e2e_key_env)))?;
        let email = self.email(label);
        let body = json!({"email": email, "name": format!("{} {}", self.name(label), canary()), "permissions": ["read", "write"]});
        let reply = self.auth().post("/auth/e2e/test-auth", body).header("X-E2E-Bypass-Key", key.expose()).send().await?;
        for token in ["access_token", "refresh_token"] {
            crate::secret::remember(reply.json()[token].as_str().unwrap_or_default());
        }
        if matches!(reply.status, 401 | 403) {
            let name = &self.settings().e2e_key_env;
            let what = format!("the auth service refuses the key for test users: {}", reply.summary());
            return Err(Trouble::suite(
                what,
                format!("correct {name}: it must be the key that the auth service of this target was started with"),
            ));
        }
        let wanted = [
            ("/access_token", Is::Text),
            ("/refresh_token", Is::Text),
            ("/user/id", Is::Text),
            ("/user/email", Is::exactly(email.clone())),
        ];
        reply.must("the auth service issues tokens for a test user").status_and_json(&[200], &wanted)?;
        let text = |pointer: &str| reply.json().pointer(pointer).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
        Ok(Identity {
            label: label.to_owned(),
            user_id: text("/user/id"),
            email,
            access: Secret::new(text("/access_token")),
            refresh: Some(Secret::new(text("/refresh_token"))),
            lease: None,
        })
    }

    fn minted(&self, label: &str, user_id: &str, email: &str, lease: Option<File>) -> Held<Identity> {
        let (secret, mint) = (self.signing_secret()?, &self.settings().mint);
        Ok(Identity {
            label: label.to_owned(),
            user_id: user_id.to_owned(),
            email: email.to_owned(),
            access: Secret::new(Claims::access(user_id, email).as_minted(mint).sign_minted(mint, secret)),
            refresh: Some(Secret::new(Claims::refresh(user_id, email).as_minted(mint).sign_minted(mint, secret))),
            lease,
        })
    }

    /// Takes `wanted` of `seats` seeded users, all or none, and waits for them if others hold them.
    async fn lease(&self, seats: usize, wanted: usize) -> Held<Vec<(usize, File)>> {
        if wanted > seats {
            return Err(Trouble::suite(
                format!("this check needs {wanted} users at once; target `{}` has {seats}", self.target().name),
                "add users (or tokens) to the target, lower its `load`, or use token_source = \"auth-service\"",
            ));
        }
        let folder = self.suite.folder.path.parent().unwrap_or(&self.suite.folder.path).join("leases");
        let cannot =
            |error: std::io::Error| Trouble::suite(format!("leases in {}: {error}", folder.display()), "make the folder writable");
        std::fs::create_dir_all(&folder).map_err(cannot)?;
        let _waiting = self.recorder.waiting(format!("{wanted} of {seats} seeded users, held by other checks"));
        let deadline = Duration::from_secs(self.settings().deadlines.check_s);
        poll::until(deadline, Duration::from_millis(20), async || {
            let mut held = Vec::new();
            for seat in 0..seats {
                let name = format!("{}-{}.lock", self.target().name, fingerprint(&format!("{}{seat}", self.target().api)));
                let file = File::options().create(true).truncate(false).write(true).open(folder.join(name)).map_err(cannot)?;
                if held.len() < wanted && file.try_lock().is_ok() {
                    held.push((seat, file));
                }
            }
            if held.len() == wanted {
                return Ok(held);
            }
            Err(Trouble::suite(
                format!("{wanted} seeded users were not free at once before the check's deadline"),
                "add users, or run fewer checks at once",
            ))
        })
        .await
    }
}
