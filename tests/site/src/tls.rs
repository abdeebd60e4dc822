//! The site over TLS: an authority made anew in each process, and hosts whose certificates are wrong.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType, date_time_ymd};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ServerConfig};

use crate::site::{CDN, HSTS, THIRD, TRACKER};

/// The host whose certificate has expired.
pub const EXPIRED: &str = "expired.localhost";
/// The host whose certificate names another one.
pub const OTHER_NAME: &str = "other-name.localhost";
/// The host whose certificate nobody but itself vouches for.
pub const SELF_SIGNED: &str = "self-signed.localhost";

/// First-party hosts that the certificate names.
const SITES: usize = 64;

/// Why there is no TLS.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot make the site's certificates: {0}")]
pub struct TlsError(String);

impl TlsError {
    fn of(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

struct Authority {
    pem: String,
    acceptor: TlsAcceptor,
}

/// One for the process: a browser that trusts it can visit every site of the process.
fn authority() -> Result<&'static Authority, TlsError> {
    static AUTHORITY: OnceLock<Result<Authority, TlsError>> = OnceLock::new();
    AUTHORITY.get_or_init(make).as_ref().map_err(Clone::clone)
}

/// The certificate of the authority that vouches for every host of every site of this process, as PEM.
pub fn authority_pem() -> Result<&'static str, TlsError> {
    authority().map(|authority| &*authority.pem)
}

pub(crate) fn acceptor() -> Result<TlsAcceptor, TlsError> {
    authority().map(|authority| authority.acceptor.clone())
}

fn make() -> Result<Authority, TlsError> {
    let key = KeyPair::generate().map_err(TlsError::of)?;
    let mut params = CertificateParams::new([]).map_err(TlsError::of)?;
    params.distinguished_name.push(DnType::CommonName, "Sonde fixture authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2060, 1, 1));
    let root = params.self_signed(&key).map_err(TlsError::of)?;
    let issuer = Issuer::new(params, key);

    let mut names: Vec<String> = (0..SITES).map(|n| format!("site-{n}.localhost")).collect();
    names.extend([THIRD, TRACKER, CDN, HSTS].map(str::to_owned));
    let good = leaf(names, 2060)?;
    let expired = leaf(vec![EXPIRED.to_owned()], 2021)?;
    let other = leaf(vec!["site-0.localhost".to_owned()], 2060)?;
    let own = leaf(vec![SELF_SIGNED.to_owned()], 2060)?;
    let signed = |(params, key): &(CertificateParams, KeyPair)| {
        params.signed_by(key, &issuer).map(|cert| cert.der().clone()).map_err(TlsError::of)
    };
    let hosts = Hosts {
        // With the root, so that a browser can know the chain by it.
        good: certified(vec![signed(&good)?, root.der().clone()], &good.1)?,
        expired: certified(vec![signed(&expired)?], &expired.1)?,
        other_name: certified(vec![signed(&other)?], &other.1)?,
        self_signed: certified(vec![own.0.self_signed(&own.1).map_err(TlsError::of)?.der().clone()], &own.1)?,
    };
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::of)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(hosts));
    Ok(Authority { pem: root.pem(), acceptor: TlsAcceptor::from(Arc::new(config)) })
}

/// A certificate for these names that ends with that year.
fn leaf(names: Vec<String>, until: i32) -> Result<(CertificateParams, KeyPair), TlsError> {
    let mut params = CertificateParams::new(names).map_err(TlsError::of)?;
    params.distinguished_name.push(DnType::CommonName, "Sonde fixture site");
    params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(until, 1, 1));
    Ok((params, KeyPair::generate().map_err(TlsError::of)?))
}

fn certified(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Result<Arc<CertifiedKey>, TlsError> {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(TlsError::of)?;
    Ok(Arc::new(CertifiedKey::new(chain, key)))
}

#[derive(Debug)]
struct Hosts {
    good: Arc<CertifiedKey>,
    expired: Arc<CertifiedKey>,
    other_name: Arc<CertifiedKey>,
    self_signed: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Hosts {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(match hello.server_name() {
            Some(EXPIRED) => &self.expired,
            Some(OTHER_NAME) => &self.other_name,
            Some(SELF_SIGNED) => &self.self_signed,
            _ => &self.good,
        }))
    }
}
