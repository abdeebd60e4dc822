//! Certificates that browsers trust beside their own authorities.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use sonde_proto::digest::hex;
use webpki::EndEntityCert;

use crate::config::StartError;

/// What `[browser] trusted_certificates` names.
#[derive(Debug, Clone, Default)]
pub(super) struct Trusted(Vec<Certificate>);

#[derive(Debug, Clone)]
struct Certificate {
    der: Vec<u8>,
    /// SHA-256 of its subject's public key information, as RFC 7469 pins keys.
    key: [u8; 32],
}

impl Trusted {
    /// # Errors
    /// A file that cannot be read, or that holds something else than certificates in PEM.
    pub fn read(paths: &[PathBuf]) -> Result<Self, StartError> {
        let mut all = Vec::new();
        for path in paths {
            let wrong = |what: String| StartError::Config {
                key: "trusted_certificates",
                message: format!("{}: {what}; give files of certificates in PEM", path.display()),
            };
            let found = CertificateDer::pem_file_iter(path).map_err(|e| wrong(e.to_string()))?;
            let before = all.len();
            for certificate in found {
                let der = certificate.map_err(|e| wrong(e.to_string()))?;
                let parsed =
                    EndEntityCert::try_from(&der).map_err(|e| wrong(format!("a certificate in it: {e}")))?;
                let key = Sha256::digest(parsed.subject_public_key_info()).into();
                all.push(Certificate { der: der.to_vec(), key });
            }
            if all.len() == before {
                return Err(wrong("it holds no certificate".to_owned()));
            }
        }
        Ok(Self(all))
    }

    /// As Chromium's `--ignore-certificate-errors-spki-list` takes them: a chain in which a server sends one of these
    /// keys is not checked.
    pub fn chromium_flag(&self) -> Option<String> {
        let keys: Vec<String> = self.0.iter().map(|certificate| BASE64.encode(certificate.key)).collect();
        (!keys.is_empty()).then(|| format!("--ignore-certificate-errors-spki-list={}", keys.join(",")))
    }

    /// In base64, without the lines of PEM.
    pub fn base64(&self) -> Vec<String> {
        self.0.iter().map(|certificate| BASE64.encode(&certificate.der)).collect()
    }

    /// For provenance: SHA-256 of each certificate, as lower-case hex.
    pub fn fingerprints(&self) -> Vec<String> {
        self.0.iter().map(|certificate| hex(&Sha256::digest(&certificate.der))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        file
    }

    #[test]
    fn certificates_are_known_by_their_keys_and_fingerprints() {
        let pem = sonde_site::authority_pem().unwrap();
        let trusted = Trusted::read(&[file(&format!("{pem}\n{pem}")).path().to_owned()]).unwrap();
        assert_eq!(trusted.base64().len(), 2);
        assert!(pem.replace(['\n', '\r'], "").contains(&trusted.base64()[0]));
        let flag = trusted.chromium_flag().unwrap();
        let (_, keys) = flag.split_once('=').unwrap();
        assert_eq!(BASE64.decode(keys.split(',').next().unwrap()).unwrap().len(), 32);
        assert_eq!(trusted.fingerprints()[0].len(), 64);
        assert_eq!(Trusted::read(&[]).unwrap().chromium_flag(), None);
    }

    #[test]
    fn a_file_that_holds_none_is_named() {
        let missing = Trusted::read(&[PathBuf::from("/nowhere/ca.pem")]).unwrap_err().to_string();
        assert!(missing.contains("trusted_certificates: /nowhere/ca.pem"), "{missing}");
        for text in ["", "not PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let file = file(text);
            let error = Trusted::read(&[file.path().to_owned()]).unwrap_err().to_string();
            assert!(error.contains("give files of certificates in PEM"), "{text:?}: {error}");
        }
    }
}
