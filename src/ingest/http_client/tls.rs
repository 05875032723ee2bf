//! TLS of the client: whom it trusts, what it shows of itself, and a verifier that keeps what it saw.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{Resumption, WebPkiServerVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::time_provider::TimeProvider;
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::Certificate;
use crate::world::{Clock, World};

/// How TLS is spoken; the names are those of Prometheus' `tls_config`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsSpec {
    /// Certificates that are trusted besides those of this machine, a PEM file.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate and its key, PEM files, for servers that ask who we are.
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// The name that the server's certificate must have, where it is not that of the address.
    pub server_name: Option<String>,
    /// Takes any certificate.
    pub insecure_skip_verify: bool,
}

impl TlsSpec {
    /// What is wrong with it: the key, and what to write.
    pub fn fault(&self) -> Option<(&'static str, String)> {
        let told = "write cert_file and key_file, or neither".to_owned();
        match (&self.cert_file, &self.key_file) {
            (Some(_), None) => Some(("cert_file", told)),
            (None, Some(_)) => Some(("key_file", told)),
            _ => None,
        }
    }
}

/// How a handshake ended.
pub(super) struct Shaken {
    pub stream: Result<TlsStream<TcpStream>, String>,
    /// Also of a server that is not trusted.
    pub certificate: Option<Certificate>,
}

pub(super) async fn shake_hands(spec: &TlsSpec, world: &World, host: &str, stream: TcpStream) -> Shaken {
    let host = spec.server_name.as_deref().unwrap_or(host);
    let prepared = prepare(spec, world, host);
    let (config, witness, name) = match prepared {
        Ok(prepared) => prepared,
        Err(told) => return Shaken { stream: Err(told), certificate: None },
    };
    let stream = TlsConnector::from(config).connect(name, stream).await;
    let certificate = Certificate::of_chain(&witness.seen());
    let stream = stream.map_err(|error| told_of_tls(&error, host, certificate.as_ref()));
    Shaken { stream, certificate }
}

type Prepared = (Arc<ClientConfig>, Arc<Witness>, ServerName<'static>);

fn prepare(spec: &TlsSpec, world: &World, host: &str) -> Result<Prepared, String> {
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(bare).map_err(|_| format!("`{host}` is no name for TLS: correct server_name"))?;
    let provider = Arc::new(ring::default_provider());
    let trusted = if spec.insecure_skip_verify { None } else { Some(verifier(spec, world, provider.clone())?) };
    let witness = Arc::new(Witness { trusted, provider: provider.clone(), seen: Mutex::default() });
    let config = ClientConfig::builder_with_details(provider, Arc::new(Time(world.clock.clone())))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(witness.clone());
    let mut config = match own(spec, world)? {
        None => config.with_no_client_auth(),
        Some((chain, key)) => config
            .with_client_auth_cert(chain, key)
            .map_err(|error| format!("our own certificate cannot be used ({error}): check cert_file and key_file"))?,
    };
    // Each handshake shows the server's certificate anew.
    config.resumption = Resumption::disabled();
    Ok((Arc::new(config), witness, name))
}

/// The machine's own roots, read once.
fn system_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    })
}

fn verifier(spec: &TlsSpec, world: &World, provider: Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, String> {
    let mut roots = system_roots().clone();
    if let Some(path) = &spec.ca_file {
        let certificates = certificates("ca_file", path, world)?;
        roots.add_parsable_certificates(certificates);
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().map_err(|_| {
        "this machine trusts nobody: install its root certificates (ca-certificates), or name ca_file".to_owned()
    })
}

fn own(
    spec: &TlsSpec,
    world: &World,
) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, String> {
    let (Some(chain), Some(key)) = (&spec.cert_file, &spec.key_file) else { return Ok(None) };
    let pem = read("key_file", key, world)?;
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|error| format!("key_file {} holds no key in PEM form ({error})", key.display()))?;
    Ok(Some((certificates("cert_file", chain, world)?, key)))
}

fn certificates(key: &str, path: &Path, world: &World) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read(key, path, world)?;
    let told = |why: &dyn fmt::Display| format!("{key} {} holds no certificate in PEM form ({why})", path.display());
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|error| told(&error))?;
    if found.is_empty() { Err(told(&"it is empty")) } else { Ok(found) }
}

fn read(key: &str, path: &Path, world: &World) -> Result<Vec<u8>, String> {
    let read = world.disk.open(path).and_then(|file| file.read_all());
    read.map_err(|error| format!("{key} {} cannot be read ({error}): name a file that is there", path.display()))
}

/// The world's time, for dates of certificates.
struct Time(Arc<dyn Clock>);

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Time")
    }
}

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let nanos = u64::try_from(self.0.now().nanos()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_nanos(nanos)))
    }
}

/// Asks the usual verifier, if any, and keeps what the server showed.
#[derive(Debug)]
struct Witness {
    /// `None` takes anybody.
    trusted: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
    seen: Mutex<Vec<CertificateDer<'static>>>,
}

impl Witness {
    fn seen(&self) -> Vec<CertificateDer<'static>> {
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(end_entity).chain(intermediates).map(|der| der.clone().into_owned());
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = chain.collect();
        match &self.trusted {
            None => Ok(ServerCertVerified::assertion()),
            Some(trusted) => trusted.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn told_of_tls(error: &std::io::Error, host: &str, certificate: Option<&Certificate>) -> String {
    let subject = certificate.map_or("", |certificate| certificate.subject.as_str());
    let issuer = certificate.map_or("", |certificate| certificate.issuer.as_str());
    match error.get_ref().and_then(|error| error.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(wrong)) => match wrong {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("the certificate of `{subject}` has expired: renew it")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                format!("the certificate of `{subject}` is not valid yet: check this machine's clock")
            }
            CertificateError::UnknownIssuer => {
                format!("the certificate of `{subject}` is from the unknown issuer `{issuer}`: name its PEM as ca_file")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("the certificate of `{subject}` is not for `{host}`: set server_name, or correct the address")
            }
            other => format!("the certificate of `{subject}` is not taken: {other}"),
        },
        Some(Error::InvalidMessage(_)) => {
            "the server does not speak TLS there: is it http, or another port?".to_owned()
        }
        Some(Error::AlertReceived(alert)) => format!("the server refuses the handshake ({alert:?}): see its log"),
        _ => format!("no handshake of TLS: {error}"),
    }
}
