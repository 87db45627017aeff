//! What the body of a check holds in its hands: users, clients, sockets, expectations, and cleaning up.

use std::borrow::Cow;
use std::fs::File;
use std::panic::Location;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::check::Check;
use crate::config::{Deadlines, Settings, TokenSource};
use crate::dial::Dial;
use crate::event::{Run, events};
use crate::exchange::Recorder;
use crate::expect::{Expect, Held, Is, Trouble};
use crate::http::Caller;
use crate::identity::{Credential, Identity};
use crate::net;
use crate::poll;
use crate::secret::{Secret, fingerprint};
use crate::suite::{LaunchOptions, Suite};
use crate::token::{Claims, decode};
use crate::ws::Socket;

type Step = (String, Pin<Box<dyn Future<Output = Held> + Send>>);

/// The context of one check.
#[derive(Clone)]
pub struct Cx {
    suite: Arc<Suite>,
    check: &'static Check,
    recorder: Arc<Recorder>,
    cleanup: Arc<Mutex<Vec<Step>>>,
    identities: Arc<Mutex<Vec<Arc<Identity>>>>,
}

impl std::fmt::Debug for Cx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cx").field("check", &self.check.name).finish_non_exhaustive()
    }
}

/// A message that was sent over a socket, and what became of it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The id that it was sent with.
    pub message_id: String,
    /// The thread that it went to.
    pub thread_id: String,
    /// Its run, ended.
    pub run: Run,
}

impl Cx {
    pub(crate) fn new(suite: Arc<Suite>, check: &'static Check) -> Self {
        Self { suite, check, recorder: Arc::default(), cleanup: Arc::default(), identities: Arc::default() }
    }

    /// The record of this check.
    #[must_use]
    pub fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }

    /// The target's settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.suite.target.settings
    }

    /// The target.
    #[must_use]
    pub fn target(&self) -> &crate::config::Target {
        &self.suite.target
    }

    /// How long an agent run may take.
    #[must_use]
    pub fn run_deadline(&self) -> Duration {
        Deadlines::of(self.settings().deadlines.run_ms)
    }

    /// How long an acknowledgement, or any answer to a frame, may take.
    #[must_use]
    pub fn ack_deadline(&self) -> Duration {
        Deadlines::of(self.settings().deadlines.ack_ms)
    }

    /// Names an expectation.
    #[track_caller]
    pub fn must(&self, name: impl Into<Cow<'static, str>>) -> Expect<'_> {
        Expect::new(&self.recorder, name, Vec::new(), Location::caller())
    }

    /// A remark for the evidence: which permitted variant was seen, what was not tried and why, a figure.
    pub fn note(&self, note: impl Into<String>) {
        self.recorder.note(note);
    }

    /// A name for something made by this check: carries run and check, so that what is left behind can be found.
    #[must_use]
    pub fn name(&self, what: &str) -> String {
        format!("critical {} {:03} {what}", self.suite.folder.run_id, self.check.id)
    }

    /// A word that nobody else knows.
    #[must_use]
    pub fn word(&self) -> String {
        format!("kestrel-{}", &uuid::Uuid::new_v4().simple().to_string()[..10])
    }

    /// The signing secret of the target, for tokens that must be refused.
    ///
    /// # Errors
    /// *Errored* when the target has none.
    pub fn signing_secret(&self) -> Held<&Secret> {
        self.suite.target.jwt_secret.as_ref().ok_or_else(|| {
            let name = &self.settings().jwt_secret_env;
            Trouble::suite(format!("{name} is not set"), format!("export {name}=…: bad tokens are signed with it"))
        })
    }

    // ---- who asks -------------------------------------------------------------------------------------------------

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

    pub(crate) fn identities(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Identity>>> {
        self.identities.lock().unwrap_or_else(PoisonError::into_inner)
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
        let body = json!({"email": email, "name": self.name(label), "permissions": ["read", "write"]});
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
        let secret = self.signing_secret()?;
        Ok(Identity {
            label: label.to_owned(),
            user_id: user_id.to_owned(),
            email: email.to_owned(),
            access: Secret::new(Claims::access(user_id, email).sign(secret)),
            refresh: Some(Secret::new(Claims::refresh(user_id, email).sign(secret))),
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

    // ---- clients --------------------------------------------------------------------------------------------------

    /// The HTTP API, asked by this user.
    #[must_use]
    pub fn api(&self, who: impl Into<Credential>) -> Caller {
        self.caller(self.suite.http.clone(), self.suite.target.api.clone(), who.into())
    }

    /// The HTTP API, asked by nobody.
    #[must_use]
    pub fn anonymous(&self) -> Caller {
        self.api(Credential::Nobody)
    }

    /// The HTTP API on connections of its own, that nothing else uses.
    ///
    /// # Errors
    /// *Errored* when the client cannot be made.
    pub fn api_on_new_connection(&self, who: impl Into<Credential>) -> Held<Caller> {
        let connect = Deadlines::of(self.settings().deadlines.connect_ms);
        let client = net::http_client(&self.suite.http_tls, connect).map_err(|error| Trouble::suite(error.what, error.remedy))?;
        Ok(self.caller(client, self.suite.target.api.clone(), who.into()))
    }

    /// The auth service, asked by nobody; [`Caller::with`] adds a credential.
    #[must_use]
    pub fn auth(&self) -> Caller {
        self.caller(self.suite.http.clone(), self.suite.target.auth.clone(), Credential::Nobody)
    }

    fn caller(&self, client: reqwest::Client, base: url::Url, who: Credential) -> Caller {
        let request_prefix = self.request_prefix();
        Caller { target: Arc::clone(&self.suite.target), recorder: Arc::clone(&self.recorder), client, base, who, request_prefix }
    }

    /// Run and check, so that a request is found in the service's log by its id.
    fn request_prefix(&self) -> String {
        format!("{}-{:03}", self.suite.folder.run_id, self.check.id)
    }

    /// A WebSocket handshake without any credential yet.
    pub fn dial(&self) -> Dial {
        Dial {
            target: Arc::clone(&self.suite.target),
            recorder: Arc::clone(&self.recorder),
            tls: Arc::clone(&self.suite.ws_tls),
            caller: "nobody".to_owned(),
            good: false,
            headers: Vec::new(),
            query: None,
            request_prefix: self.request_prefix(),
        }
    }

    /// An open socket of this user, welcomed.
    ///
    /// # Errors
    /// As [`Dial::welcomed`].
    #[track_caller]
    pub fn socket(&self, who: &Arc<Identity>) -> impl Future<Output = Held<Socket>> {
        self.dial().bearer(who.access.expose()).caller(Credential::from(who).label(), true).welcomed()
    }

    // ---- arranging ------------------------------------------------------------------------------------------------

    /// A new thread of this user; archived when the check ends.
    ///
    /// # Errors
    /// *Failed* when none is made.
    pub async fn thread(&self, who: &Arc<Identity>, title: &str) -> Held<String> {
        let reply = self.api(who).post("/api/threads", json!({"title": self.name(title)})).send().await?;
        let id = reply.must("a thread can be created").text_at("/id")?;
        self.archive_later(who, &id);
        Ok(id)
    }

    /// Archives a thread when the check ends.
    pub fn archive_later(&self, who: &Arc<Identity>, thread_id: &str) {
        let request = self.api(who).delete(format!("/api/threads/{thread_id}"));
        self.defer(format!("thread {thread_id} of {}", who.label), async move {
            let reply = request.send().await?;
            if matches!(reply.status, 200 | 204 | 404) { Ok(()) } else { Err(Trouble::suite(reply.summary(), "")) }
        });
    }

    /// Sends a message, wants its acknowledgement, and waits until its run has ended.
    ///
    /// # Errors
    /// *Failed* when either does not come.
    pub async fn ask(&self, socket: &Socket, thread_id: Option<&str>, prompt: &str) -> Held<Asked> {
        let message_id = uuid::Uuid::new_v4().to_string();
        let before: Vec<_> = events(&socket.frames()).into_iter().map(|event| event.run_id).collect();
        socket.say(&message_id, thread_id, prompt);
        let wanted = format!("the acknowledgement of message {message_id}");
        let ack = socket
            .receive("a message is acknowledged", self.ack_deadline(), &wanted, |frame| frame.acknowledges(&message_id))
            .await?;
        let thread_id = ack.data["data"]["thread_id"].as_str().or(thread_id).unwrap_or_default().to_owned();
        let wanted = format!("the terminal event of a run in thread {thread_id}");
        let run = socket
            .gather("the run of a message ends", self.run_deadline(), &wanted, |frames| {
                let mut runs = Run::of_thread(&events(frames), &thread_id).into_iter();
                runs.find(|run| run.terminal().is_some() && !before.contains(&run.id))
            })
            .await?;
        Ok(Asked { message_id, thread_id, run })
    }

    /// A second server of its own for this check, on this data file; none if the target is not embedded.
    ///
    /// # Errors
    /// *Errored* when it does not start.
    pub fn private_server(&self, options: LaunchOptions) -> Held<Option<Self>> {
        let private = self.suite.private(options).map_err(|error| Trouble::suite(error.what, error.remedy))?;
        Ok(private.map(|suite| Self { suite: Arc::new(suite), ..self.clone() }))
    }

    // ---- cleaning up ----------------------------------------------------------------------------------------------

    /// Registers a step of cleaning up. Steps run last-in-first-out when the body has ended, also after a failure; what fails
    /// is noted in the evidence and changes no verdict.
    pub fn defer(&self, what: impl Into<String>, step: impl Future<Output = Held> + Send + 'static) {
        self.cleanup.lock().unwrap_or_else(PoisonError::into_inner).push((what.into(), Box::pin(step)));
    }

    pub(crate) async fn clean_up(&self, deadline: Duration) -> Vec<String> {
        let end = Instant::now() + deadline;
        let mut left_behind = Vec::new();
        loop {
            let Some((what, step)) = self.cleanup.lock().unwrap_or_else(PoisonError::into_inner).pop() else { return left_behind };
            match poll::within(end.saturating_duration_since(Instant::now()), step).await {
                Some(Ok(())) => {}
                Some(Err(_)) => left_behind.push(what),
                None => left_behind.push(format!("{what} (no time left)")),
            }
        }
    }
}
