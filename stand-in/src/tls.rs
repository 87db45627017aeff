//! A certificate authority and a server certificate, fresh for every start.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::{ServerConfig, pki_types::PrivatePkcs8KeyDer};

/// A throw-away authority: clients trust it, and it signs certificates for loopback.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// What is wrong with a certificate, when a fault says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// It is for another host.
    OtherHost,
    /// It was good until last year.
    Expired,
    /// An authority signed it that nobody trusts.
    Untrusted,
}

impl Authority {
    /// Makes a P-256 authority.
    pub(crate) fn fresh() -> Result<Self, String> {
        Self::named("netra stand-in authority (throw-away)")
    }

    fn named(name: &str) -> Result<Self, String> {
        let (issuer, pem) = authority(name).map_err(|e| format!("making the authority: {e}"))?;
        Ok(Self { issuer, pem })
    }

    /// What a listener needs to encrypt: a certificate for loopback, signed by this authority unless it is flawed.
    pub(crate) fn identity(&self, flaw: Option<Flaw>) -> Result<Arc<ServerConfig>, String> {
        if flaw == Some(Flaw::Untrusted) {
            return Self::named("netra unknown authority (throw-away)")?.identity(None);
        }
        let (certificate, key) = leaf(&self.issuer, flaw).map_err(|e| format!("making the certificate: {e}"))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| format!("choosing TLS versions: {e}"))?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key.into())
            .map_err(|e| format!("taking the certificate: {e}"))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn authority(name: &str) -> Result<(Issuer<'static, KeyPair>, String), rcgen::Error> {
    let mut params = dated(CertificateParams::new(Vec::new())?);
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    let pem = params.self_signed(&key)?.pem();
    Ok((Issuer::new(params, key), pem))
}

fn leaf(
    issuer: &Issuer<'static, KeyPair>,
    flaw: Option<Flaw>,
) -> Result<(rustls::pki_types::CertificateDer<'static>, PrivatePkcs8KeyDer<'static>), rcgen::Error> {
    let names: &[&str] = if flaw == Some(Flaw::OtherHost) { &["other-host.example"] } else { &["localhost", "127.0.0.1", "::1"] };
    let mut params = dated(CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?);
    if flaw == Some(Flaw::Expired) {
        params.not_after = date_time_ymd(this_year() - 1, 6, 30);
    }
    params.distinguished_name.push(DnType::CommonName, "netra stand-in");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Strict clients (OpenSSL's X509_STRICT) insist on it.
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    Ok((certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der())))
}

/// Valid from last year to next year: no test runs that long, and no clock is that wrong.
fn dated(mut params: CertificateParams) -> CertificateParams {
    params.not_before = date_time_ymd(this_year() - 1, 1, 1);
    params.not_after = date_time_ymd(this_year() + 1, 12, 31);
    params
}

fn this_year() -> i32 {
    i32::from(jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).year())
}
