//! A certificate authority and a server certificate, fresh for every start.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::{ServerConfig, pki_types::PrivatePkcs8KeyDer};

/// What a listener needs to encrypt, and what a client needs to trust it.
pub(crate) struct Identity {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) ca_pem: String,
}

/// Makes a P-256 authority and a certificate for loopback, signed by it.
pub(crate) fn fresh_identity() -> Result<Identity, String> {
    let (issuer, ca_pem) = authority().map_err(|e| format!("making the authority: {e}"))?;
    let (certificate, key) = leaf(&issuer).map_err(|e| format!("making the certificate: {e}"))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("choosing TLS versions: {e}"))?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())
        .map_err(|e| format!("taking the certificate: {e}"))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Identity { config: Arc::new(config), ca_pem })
}

fn authority() -> Result<(Issuer<'static, KeyPair>, String), rcgen::Error> {
    let mut params = dated(CertificateParams::new(Vec::new())?);
    params.distinguished_name.push(DnType::CommonName, "netra stand-in authority (throw-away)");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    let pem = params.self_signed(&key)?.pem();
    Ok((Issuer::new(params, key), pem))
}

fn leaf(
    issuer: &Issuer<'static, KeyPair>,
) -> Result<(rustls::pki_types::CertificateDer<'static>, PrivatePkcs8KeyDer<'static>), rcgen::Error> {
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    let mut params = dated(CertificateParams::new(names)?);
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
    let year = i32::from(jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).year());
    params.not_before = date_time_ymd(year - 1, 1, 1);
    params.not_after = date_time_ymd(year + 1, 12, 31);
    params
}
