//! What the body of a check holds in its hands: users, clients, sockets, expectations, and cleaning up.

use std::borrow::Cow;
use std::panic::Location;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::check::Check;
use crate::config::{Deadlines, Settings};
use crate::dial::Dial;
use crate::event::{Run, events};
use crate::exchange::Recorder;
use crate::expect::{Expect, Held, Trouble};
use crate::http::Caller;
use crate::identity::{Credential, Identity};
use crate::net;
use crate::poll;
use crate::secret::Secret;
use crate::suite::{LaunchOptions, Suite};
use crate::ws::Socket;

type Step = (String, Pin<Box<dyn Future<Output = Held> + Send>>);

/// The context of one check.
#[derive(Clone)]
pub struct Cx {
    pub(crate) suite: Arc<Suite>,
    pub(crate) check: &'static Check,
    pub(crate) recorder: Arc<Recorder>,
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

    /// The users of this check so far.
    pub(crate) fn identities(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Identity>>> {
        self.identities.lock().unwrap_or_else(PoisonError::into_inner)
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
            proves: "a valid token is welcomed on the socket".into(),
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
