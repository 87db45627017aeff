//! What the tests share: a started stand-in, and clients that trust its authority and nothing else.

mod socket;
pub(crate) mod token;

use std::sync::Arc;

use netra_stand_in::{Options, StandIn};
use reqwest::{Method, header::HeaderMap};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer, pki_types::pem::PemObject as _};
use serde_json::Value;

pub(crate) use socket::{Received, Socket};

/// A started stand-in and a client of it.
pub(crate) struct World {
    pub(crate) stand_in: StandIn,
    tls: Arc<ClientConfig>,
    http: reqwest::Client,
}

/// A response, read to its end.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    /// The body as JSON; panics with the whole reply when it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("not JSON ({e}): {self:?}"))
    }
}

impl World {
    pub(crate) fn start(options: Options) -> Self {
        let stand_in = StandIn::start(options).expect("the stand-in starts");
        let mut roots = RootCertStore::empty();
        if let Some(pem) = stand_in.ca_pem() {
            roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM")).expect("an authority");
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let http = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls.clone()).build().expect("a client");
        Self { stand_in, tls: Arc::new(tls), http }
    }

    /// Sends a request to the API, or to the auth service when the path starts with `auth:`.
    pub(crate) async fn send(&self, method: &str, path: &str, headers: &[(&str, String)], body: Option<&Value>) -> Reply {
        let url = match path.strip_prefix("auth:") {
            Some(path) => format!("{}{path}", self.stand_in.auth_url()),
            None => format!("{}{path}", self.stand_in.api_url()),
        };
        let mut request = self.http.request(Method::from_bytes(method.as_bytes()).expect("method"), url);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.unwrap_or_else(|e| panic!("{method} {path}: {e:?}"));
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap_or_else(|e| panic!("{method} {path}: {e:?}"));
        Reply { status, headers, text }
    }

    /// An access token for this user, as anyone who knows the secret would make it.
    pub(crate) fn token(&self, user: &str) -> String {
        token::sign(&token::claims(user), self.stand_in.jwt_secret())
    }

    /// Opens the socket; the welcome is still to be received.
    pub(crate) async fn connect(&self, headers: &[(&str, String)]) -> Socket {
        Socket::open(self.stand_in.ws_url(), Arc::clone(&self.tls), headers).await
    }
}

/// `Authorization` with this token.
pub(crate) fn bearer(token: &str) -> (&'static str, String) {
    ("authorization", format!("Bearer {token}"))
}
