//! What a server's certificate says, whether or not it is trusted.

use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::model::Timestamp;

/// A server's certificate and those it was sent with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// As in `CN=example.org`.
    pub subject: String,
    pub issuer: String,
    /// When it expires, in seconds since 1970.
    pub expires: i64,
    /// When the first of all that were sent expires.
    pub chain_expires: i64,
}

impl Certificate {
    /// Reads what a server sent, its own certificate first; `None` where that is none.
    pub(super) fn of_chain(chain: &[CertificateDer<'_>]) -> Option<Certificate> {
        let parsed: Vec<X509Certificate<'_>> =
            chain.iter().filter_map(|der| X509Certificate::from_der(der).ok()).map(|(_, parsed)| parsed).collect();
        let expiry = |certificate: &X509Certificate<'_>| certificate.validity().not_after.timestamp();
        let leaf = parsed.first()?;
        Some(Certificate {
            subject: leaf.subject().to_string(),
            issuer: leaf.issuer().to_string(),
            expires: expiry(leaf),
            chain_expires: parsed.iter().map(expiry).min()?,
        })
    }

    /// Days until it expires, with their fraction; below 0 when it has.
    pub fn days_left(&self, now: Timestamp) -> f64 {
        (self.expires as f64 - now.nanos() as f64 / 1e9) / 86_400.0
    }
}
