//! TLS between members, from files, as `--peer-cert-file` and its like name them.
//!
//! The certificate is read anew for each handshake, as etcd does, so that it can be replaced while the member runs.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme};
use rustls::{SupportedProtocolVersion, version};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tracing::warn;

use crate::io::Connection;

/// What a member shows and whom it believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Its certificate with what leads to the authority, in PEM; for both directions.
    pub cert: PathBuf,
    /// The key of that.
    pub key: PathBuf,
    /// The authorities that certificates of other members must lead to. Whoever connects must show one.
    pub trusted_ca: PathBuf,
    /// The oldest version of TLS to speak.
    pub min: TlsVersion,
    /// The newest.
    pub max: TlsVersion,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.2.
    V12,
    /// 1.3.
    V13,
}

/// Both sides of TLS. Clones share what was read.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// Why files are of no use for TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It can't be read, or is no PEM of what it should be.
    #[error("{path}: {what}", path = .0.display(), what = .1)]
    File(PathBuf, String),
    /// They do not go together.
    #[error("tls: {0}")]
    Setup(String),
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// If one can't be read, or the key is not the certificate's.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let identity = Arc::new(Identity {
            cert: files.cert.clone(),
            key: files.key.clone(),
            provider: Arc::clone(&provider),
        });
        identity.read()?;
        let roots = Arc::new(read_authorities(&files.trusted_ca)?);
        let versions: Vec<&'static SupportedProtocolVersion> =
            [(TlsVersion::V12, &version::TLS12), (TlsVersion::V13, &version::TLS13)]
                .into_iter()
                .filter(|(version, _)| (files.min..=files.max).contains(version))
                .map(|(_, version)| version)
                .collect();
        let setup = |err: &dyn std::fmt::Display| TlsError::Setup(err.to_string());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(|err| setup(&err))?;
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(|err| setup(&err))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::clone(&identity) as Arc<dyn ResolvesServerCert>);
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(|err| setup(&err))?
            .with_root_certificates(roots)
            .with_client_cert_resolver(identity);
        Ok(Self { acceptor: Arc::new(server).into(), connector: Arc::new(client).into() })
    }

    /// The other side's half of a handshake, and etcd's check that whoever connects does so from where its
    /// certificate is for.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<Box<dyn Connection>> {
        let from = stream.peer_addr()?.ip();
        let stream = self.acceptor.accept(stream).await?;
        let (_, session) = stream.get_ref();
        let shown = session.peer_certificates().and_then(<[_]>::first);
        let shown = shown.ok_or_else(|| io::Error::other("tls: no certificate was shown"))?;
        check_origin(shown, from).await?;
        Ok(Box::new(stream))
    }

    /// This side's half. The certificate of the other must be for `host`.
    pub(crate) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> io::Result<Box<dyn Connection>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Ok(Box::new(self.connector.connect(name, stream).await?))
    }
}

/// The member's own certificate.
#[derive(Debug)]
struct Identity {
    cert: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
}

impl Identity {
    fn read(&self) -> Result<Arc<CertifiedKey>, TlsError> {
        let chain = read_certificates(&self.cert)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|err| TlsError::File(self.key.clone(), err.to_string()))?;
        CertifiedKey::from_der(chain, key, &self.provider)
            .map(Arc::new)
            .map_err(|err| TlsError::File(self.cert.clone(), err.to_string()))
    }

    fn read_or_warn(&self) -> Option<Arc<CertifiedKey>> {
        self.read()
            .inspect_err(|err| warn!(error = %err, "failed to load the peer certificate"))
            .ok()
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.read_or_warn()
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.read_or_warn()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let fail = |what: String| TlsError::File(path.to_owned(), what);
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|err| fail(err.to_string()))?;
    if certificates.is_empty() {
        return Err(fail("no certificate in it".to_owned()));
    }
    Ok(certificates)
}

fn read_authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots.add(certificate).map_err(|err| TlsError::File(path.to_owned(), err.to_string()))?;
    }
    Ok(roots)
}

/// A certificate that names addresses or hosts is good only from there; one without is good from anywhere.
/// DIFF(etcd): names with an asterisk are for servers, and nobody connects from one.
async fn check_origin(certificate: &CertificateDer<'_>, from: IpAddr) -> io::Result<()> {
    let certificate = webpki::EndEntityCert::try_from(certificate).map_err(io::Error::other)?;
    let from = from.to_canonical();
    match certificate.verify_is_valid_for_subject_name(&ServerName::from(from)) {
        Ok(()) => return Ok(()),
        Err(webpki::Error::CertNotValidForName(context)) if context.presented.is_empty() => {
            return Ok(());
        }
        Err(_) => {}
    }
    for name in certificate.valid_dns_names() {
        // A name that can't be looked up is no proof of anything.
        let Ok(mut found) = tokio::net::lookup_host((name, 0)).await else { continue };
        if found.any(|address| address.ip().to_canonical() == from) {
            return Ok(());
        }
    }
    Err(io::Error::other(format!("tls: {from} does not match the names of the certificate")))
}

#[cfg(test)]
mod tests;
