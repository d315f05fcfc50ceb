//! What we trust and how we identify ourselves: the three PEM files made into a `ClientConfig`.
//!
//! Read when an attempt starts, so files that appear or are renewed while the daemon runs are taken up without a restart.
//! The server's certificate is always verified; nothing here or in the configuration can turn that off.

use super::TlsFiles;
use super::failure::{Class, Failure, words};
use crate::clock::Clock;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio_rustls::rustls;

/// The files a refusal is explained with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trust {
    /// The private CA.
    pub ca: Option<PathBuf>,
    /// Our certificate.
    pub cert: Option<PathBuf>,
}

/// Makes the configuration again only when a file has changed or the last one did not work; session tickets live in it.
pub(super) struct Loader {
    files: TlsFiles,
    date: Arc<Date>,
    loaded: Option<(Vec<Option<SystemTime>>, Arc<ClientConfig>)>,
}

impl Loader {
    /// Reads nothing yet.
    pub fn new(files: TlsFiles, clock: Arc<dyn Clock>) -> Self {
        Self { files, date: Arc::new(Date(clock)), loaded: None }
    }

    /// What refusals are explained with.
    pub fn trust(&self) -> Trust {
        Trust { ca: self.files.ca.clone(), cert: self.files.cert.clone() }
    }

    /// The configuration for the next attempt; an error names the file.
    pub fn load(&mut self) -> Result<Arc<ClientConfig>, Failure> {
        let times = self.changed_at();
        if let Some((loaded, config)) = &self.loaded
            && *loaded == times
        {
            return Ok(config.clone());
        }
        let config = Arc::new(client_config(&self.files, self.date.clone())?);
        self.loaded = Some((times, config.clone()));
        Ok(config)
    }

    /// Makes the next [`Loader::load`] read everything again: the system's roots have no time of their own.
    pub fn forget(&mut self) {
        self.loaded = None;
    }

    fn changed_at(&self) -> Vec<Option<SystemTime>> {
        let changed = |path: &PathBuf| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        [&self.files.ca, &self.files.cert, &self.files.key].map(|path| path.as_ref().and_then(changed)).to_vec()
    }
}

fn failure(cause: String) -> Failure {
    Failure::new(Class::Unreachable, cause)
}

/// The date by which certificates are judged.
struct Date(Arc<dyn Clock>);

impl TimeProvider for Date {
    fn current_time(&self) -> Option<UnixTime> {
        let since_epoch = u64::try_from(self.0.date().0).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_millis(since_epoch)))
    }
}

impl fmt::Debug for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Date({})", self.0.date())
    }
}

fn client_config(files: &TlsFiles, date: Arc<Date>) -> Result<ClientConfig, Failure> {
    let roots = match &files.ca {
        Some(path) => private_roots(path)?,
        None => system_roots()?,
    };
    let builder = ClientConfig::builder_with_details(Arc::new(ring::default_provider()), date)
        .with_safe_default_protocol_versions()
        .expect("ring has what TLS 1.2 and 1.3 need")
        .with_root_certificates(roots);
    match (&files.cert, &files.key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(cert), Some(key)) => {
            let unfit = |error| failure(format!("{} and {} do not fit: {error}", cert.display(), key.display()));
            builder.with_client_auth_cert(certificates("tls.cert", cert)?, private_key(key)?).map_err(unfit)
        }
        (Some(_), None) => Err(failure("tls.cert is set without tls.key".into())),
        (None, Some(_)) => Err(failure("tls.key is set without tls.cert".into())),
    }
}

fn private_roots(path: &Path) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("tls.ca", path)? {
        roots.add(certificate).map_err(|error| failure(format!("tls.ca {}: {error}", path.display())))?;
    }
    Ok(roots)
}

/// The system's authorities; a bad one among them is left out rather than the end of all.
fn system_roots() -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(failure(
            "this system has no certificate authorities: install ca-certificates or set tls.ca".into(),
        ));
    }
    Ok(roots)
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let unreadable = |error| failure(format!("{key} {}: {}", path.display(), pem_words(error)));
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<_, _>>).map_err(unreadable)?;
    if certificates.is_empty() {
        return Err(failure(format!("{key} {}: no certificate in it, PEM is expected", path.display())));
    }
    Ok(certificates)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Failure> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            failure(format!("tls.key {}: no private key in it, unencrypted PEM is expected", path.display()))
        }
        other => failure(format!("tls.key {}: {}", path.display(), pem_words(other))),
    })
}

fn pem_words(error: pem::Error) -> String {
    match error {
        pem::Error::Io(error) => words(&error),
        other => format!("not PEM: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    fn cause(files: TlsFiles) -> String {
        client_config(&files, Arc::new(Date(Arc::new(SystemClock)))).map(|_| ()).expect_err("a refusal").cause
    }

    #[test]
    fn every_refusal_names_its_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = folder.path().join("text.pem");
        std::fs::write(&text, "no PEM at all").expect("written");
        let absent = folder.path().join("absent.pem");

        let ca = |path: &Path| TlsFiles { ca: Some(path.into()), ..TlsFiles::default() };
        assert_eq!(cause(ca(&absent)), format!("tls.ca {}: no such file or directory", absent.display()));
        assert_eq!(cause(ca(&text)), format!("tls.ca {}: no certificate in it, PEM is expected", text.display()));
        assert!(private_key(&text).expect_err("no key").cause.contains("no private key in it"));
    }

    #[test]
    fn a_file_that_appears_is_taken_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let ca = folder.path().join("ca.pem");
        let files = TlsFiles { ca: Some(ca.clone()), ..TlsFiles::default() };
        let mut loader = Loader::new(files, Arc::new(SystemClock));
        assert!(loader.load().is_err());
        std::fs::write(&ca, ROOT).expect("written");
        let first = loader.load().expect("a configuration");
        assert!(Arc::ptr_eq(&first, &loader.load().expect("the same")), "an unchanged file is not read again");
        loader.forget();
        assert!(!Arc::ptr_eq(&first, &loader.load().expect("another")));
    }

    #[test]
    fn a_certificate_needs_its_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, ROOT).expect("written");
        let files = TlsFiles { ca: Some(ca.clone()), cert: Some(ca), key: None };
        assert_eq!(cause(files), "tls.cert is set without tls.key");
    }

    /// A self-signed P-256 authority made for this test; its key is nowhere.
    const ROOT: &str = "\
-----BEGIN CERTIFICATE-----
MIIBfzCCASWgAwIBAgIUcvrOchMNLJTUnTcE1VOAaV/UaNowCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJdGVzdCByb290MCAXDTI2MTEyMTA2MDMyMVoYDzIxMjYxMDI4
MDYwMzIxWjAUMRIwEAYDVQQDDAl0ZXN0IHJvb3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAARB3M4aJ226xs42deEEbmNdYjWGD5aIyTAlWOa+TqcUEHlHhN8ieTuo
VKkvKFVt18gdnUks/j1fpwjtVCWJRTACo1MwUTAdBgNVHQ4EFgQUTomgAzCtq317
bi8gZ0JBWjS9yYYwHwYDVR0jBBgwFoAUTomgAzCtq317bi8gZ0JBWjS9yYYwDwYD
VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiEAmxABVfGbwhTtD3IIjc6t
WUpj7PFnlN8HEr7f60EaP+UCID/GWiVSEoukmkL84nXpXwhuorw3j5UtDTJmtMPl
c2vD
-----END CERTIFICATE-----
";
}
