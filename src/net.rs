//! TLS and name resolution, with a stopwatch on each step.
//!
//! reqwest opens its connections inside; what it does is seen through the hooks that rustls and reqwest offer: the resolver,
//! the session store (asked first thing in a TLS handshake, so TCP is connected by then) and the certificate verifier. They
//! write to a task-local [`Watch`], so a request that reuses a pooled connection shows no connection steps, rightly.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, NamedGroup, RootCertStore, SignatureScheme};
use sha2::{Digest as _, Sha256};

use crate::config::{ConfigError, Target};
use crate::exchange::{Timing, Tls, ms};
use crate::expect::{Class, Stop, Trouble};
use crate::secret::{hex, redact};

tokio::task_local! {
    static WATCH: Watch;
}

/// Instants of the steps of one connection.
#[derive(Clone, Debug, Default)]
pub struct Watch(Arc<Mutex<Steps>>);

#[derive(Debug, Default)]
struct Steps {
    dns: Option<(Instant, Instant)>,
    tls_started: Option<Instant>,
    tls_verified: Option<Instant>,
    tls: Option<Tls>,
    refused: Option<String>,
}

impl Watch {
    /// Runs a future with this watch in reach of the hooks.
    pub async fn over<T>(&self, future: impl Future<Output = T>) -> T {
        WATCH.scope(self.clone(), future).await
    }

    fn note(change: impl FnOnce(&mut Steps)) {
        let _ = WATCH.try_with(|watch| change(&mut watch.0.lock().unwrap_or_else(PoisonError::into_inner)));
    }

    /// Fills in the steps that happened. `started` is when the request was handed over.
    pub fn read(&self, started: Instant, timing: &mut Timing) -> Option<Tls> {
        let steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        timing.dns_ms = steps.dns.map(|(from, to)| ms(to - from));
        if let (Some(from), Some(to)) = (steps.tls_started, steps.tls_verified) {
            let tcp_from = steps.dns.map_or(started, |(_, to)| to);
            timing.tcp_ms = Some(ms(from.saturating_duration_since(tcp_from)));
            timing.tls_ms = Some(ms(to - from));
        }
        steps.tls.clone()
    }

    /// The certificate that was not trusted, in words; empty if there was none.
    #[must_use]
    pub fn refused_certificate(&self) -> String {
        let steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        steps.refused.as_ref().map_or(String::new(), |certificate| format!(" ({certificate})"))
    }

    /// The step that was under way when a connection failed; the place follows.
    #[must_use]
    pub fn step(&self) -> &'static str {
        let steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (&steps.dns, steps.tls_started) {
            (_, Some(_)) => "TLS handshake with",
            _ => "connecting to",
        }
    }
}

/// Resolves through the system, and notes the time.
#[derive(Debug)]
pub struct TimedResolver;

impl reqwest::dns::Resolve for TimedResolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        Box::pin(async move {
            let started = Instant::now();
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Watch::note(|steps| steps.dns = Some((started, Instant::now())));
            Ok(Box::new(found.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

/// A client configuration that trusts the public roots and `extra_pem`, and offers these protocols (RFC 7301).
///
/// # Errors
/// A PEM text without a certificate, or with a broken one.
pub fn client_config(extra_pem: Option<&str>, alpn: &[&str]) -> Result<ClientConfig, ConfigError> {
    let wrong =
        |error: String| ConfigError::new(format!("CA file: {error}"), "give a PEM file with at least one CERTIFICATE block");
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(pem) = extra_pem {
        let mut added = 0;
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(certificate.map_err(|error| wrong(error.to_string()))?).map_err(|error| wrong(error.to_string()))?;
            added += 1;
        }
        if added == 0 {
            return Err(wrong("no certificate in it".to_owned()));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| wrong(error.to_string()))?;
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Observer { inner: verifier, provider }))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config.resumption = Resumption::store(Arc::new(NoSessions));
    Ok(config)
}

/// Verifies exactly as rustls does, and takes down what was verified.
#[derive(Debug)]
struct Observer {
    inner: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
}

impl Observer {
    fn saw(version: &str, certificate: &CertificateDer<'_>) {
        let certificate_sha256 = hex(&Sha256::digest(certificate.as_ref()));
        Watch::note(|steps| {
            steps.tls_verified = Some(Instant::now());
            steps.tls = Some(Tls { version: version.to_owned(), certificate_sha256 });
        });
    }
}

impl ServerCertVerifier for Observer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        if verified.is_err() {
            let refused = crate::certificate::in_words(end_entity.as_ref());
            Watch::note(|steps| steps.refused = Some(refused));
        }
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let valid = self.inner.verify_tls12_signature(message, cert, dss)?;
        Self::saw("TLSv1.2", cert);
        Ok(valid)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let valid = self.inner.verify_tls13_signature(message, cert, dss)?;
        Self::saw("TLSv1.3", cert);
        Ok(valid)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Keeps no sessions: each connection is a full handshake whose certificate is seen. Being asked marks the start of TLS.
#[derive(Debug)]
struct NoSessions;

impl ClientSessionStore for NoSessions {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        Watch::note(|steps| {
            steps.tls_started.get_or_insert_with(Instant::now);
        });
        None
    }
    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}
    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }
    fn remove_tls12_session(&self, _: &ServerName<'static>) {}
    fn insert_tls13_ticket(&self, _: ServerName<'static>, _: Tls13ClientSessionValue) {}
    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        None
    }
}

/// A shared HTTP client over this TLS configuration. It follows no redirect, uses no proxy and repeats nothing.
///
/// # Errors
/// What reqwest says of the configuration.
pub fn http_client(tls: &ClientConfig, connect: Duration) -> Result<reqwest::Client, ConfigError> {
    #[expect(clippy::disallowed_methods, reason = "the one place where an HTTP client is made")]
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .dns_resolver(TimedResolver)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .connect_timeout(connect)
        .user_agent(concat!("netra-critical/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| {
            ConfigError::new(format!("HTTP client: {error}"), "this is a defect of the suite; report it with this text")
        })
}

/// The target cannot be reached: nothing was learned about the service, so this is no *failed*.
pub(crate) fn unreachable_target(target: &Target, what: &str, exchange: u32) -> Stop {
    Stop::Errored(Box::new(Trouble {
        what: format!("target `{}` cannot be reached: {}", target.name, redact(what)),
        remedy: remedy(target, what).to_owned(),
        class: Class::Transport,
        about: vec![exchange],
    }))
}

/// What to do about a connection that was not made, by the words of rustls and of the system.
fn remedy(target: &Target, what: &str) -> &'static str {
    let says = |word: &str| what.contains(word);
    if says("certificate expired") || says("not valid yet") {
        "renew the server's certificate, at the place where TLS ends; if it is not out of date, this machine's clock is"
    } else if says("not valid for name") {
        "the server's certificate is for other names: correct the host in the target's URLs, or the certificate"
    } else if says("certificate") {
        "the server's certificate is not trusted for this name: if the target has a private CA, set CRITICAL_CA_FILE to its PEM file"
    } else if says("corrupt message") {
        "what answers at this port speaks no TLS: correct scheme and port in the target's URLs, or switch TLS on there"
    } else if target.is_local() {
        "nothing answers at this address: start the server there, or unset CRITICAL_*_URL to use the embedded stand-in"
    } else {
        "check that the target is up and that this machine may reach it (DNS, VPN, firewall), and the URLs of the target"
    }
}

/// The inner causes of an error, joined. The outer texts of the HTTP client say only that something failed, and where to; both is
/// known from the exchange.
#[must_use]
pub fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    const OUTER: [&str; 3] = ["error sending request for url", "error decoding response body", "client error ("];
    let mut texts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !texts.last().is_some_and(|last| last.contains(&text)) {
            texts.push(text);
        }
        next = cause.source();
    }
    let outer = texts.iter().take_while(|text| OUTER.iter().any(|start| text.starts_with(start))).count();
    texts.drain(..outer.min(texts.len() - 1));
    texts.join(": ")
}
