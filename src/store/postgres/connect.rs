//! The **way** to one Postgres server: the URL as libpq reads it, TLS, and a session with its limits set.
//!
//! Invariant: no session exists without the three limits on the server's side, so a zombie frozen inside its transaction
//! cannot hold a lock for long; and what this module says of a place never holds a password.

use super::super::Error;
use super::Limits;
use super::client::Client;
use super::fault::Fault;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{NoTls, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

/// libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

pub(super) struct Way {
    config: tokio_postgres::Config,
    mode: Mode,
    tls: MakeRustlsConnect,
    limits: Limits,
    schema: &'static str,
    /// "postgres at host:port (database d, user u)"
    pub place: String,
}

impl Way {
    /// `schema`: where the sessions' texts find the store, [`super::client`].
    pub fn new(url: &str, password: Option<&str>, limits: Limits, schema: &'static str) -> Result<Self, Error> {
        let fatal = |why: String| Error::Fatal(format!("[store] url: {why}"));
        let (bare, mode, root) = take_tls(url).map_err(fatal)?;
        let mut config: tokio_postgres::Config =
            bare.parse().map_err(|e: tokio_postgres::Error| fatal(format!("not a Postgres URL: {}", chain(&e))))?;
        if config.get_hosts().is_empty() {
            config.host("localhost");
        }
        if let Some(password) = password {
            config.password(password);
        }
        let user = config.get_user().unwrap_or("postgres").to_owned();
        config.user(&user);
        let database = config.get_dbname().unwrap_or(&user).to_owned();
        config.dbname(&database);
        config
            .application_name("huntline")
            .connect_timeout(limits.connect)
            .keepalives_idle(Duration::from_secs(15))
            .tcp_user_timeout(Duration::from_secs(30));
        let hosts: Vec<String> = config
            .get_hosts()
            .iter()
            .enumerate()
            .map(|(i, host)| {
                let ports = config.get_ports();
                let port = ports.get(i).or(ports.first()).copied().unwrap_or(5432);
                match host {
                    Host::Tcp(name) => format!("{name}:{port}"),
                    Host::Unix(path) => format!("{}:{port}", path.display()),
                }
            })
            .collect();
        let place = format!("postgres at {} (database {database}, user {user})", hosts.join(", "));
        let tls = MakeRustlsConnect::new(tls(mode, root.as_deref()).map_err(fatal)?);
        Ok(Self { config, mode, tls, limits, schema, place })
    }

    /// A new session, its limits set.
    pub async fn connect(&self) -> Result<Session, Fault> {
        let session = match self.mode {
            Mode::Disable => self.plain().await?,
            Mode::Allow => match self.plain().await {
                Err(fault) if fault.is_refused_route() => self.encrypted(SslMode::Require).await?,
                other => other?,
            },
            Mode::Prefer => match self.encrypted(SslMode::Prefer).await {
                Err(fault) if fault.is_refused_route() => self.plain().await?,
                other => other?,
            },
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => self.encrypted(SslMode::Require).await?,
        };
        session.client.batch_execute(&self.limits.as_sql()).await?;
        Ok(session)
    }

    async fn plain(&self) -> Result<Session, Fault> {
        let mut config = self.config.clone();
        let (client, connection) = config.ssl_mode(SslMode::Disable).connect(NoTls).await?;
        Ok(Session::new(Client::new(client, self.schema), tokio::spawn(async move { drop(connection.await) })))
    }

    async fn encrypted(&self, mode: SslMode) -> Result<Session, Fault> {
        let mut config = self.config.clone();
        let (client, connection) = config.ssl_mode(mode).connect(self.tls.clone()).await?;
        Ok(Session::new(Client::new(client, self.schema), tokio::spawn(async move { drop(connection.await) })))
    }
}

/// One connection and the statements prepared on it. Dropping it closes the socket at once, whatever is under way.
pub(super) struct Session {
    pub client: Client,
    wire: tokio::task::JoinHandle<()>,
    prepared: HashMap<&'static str, Statement>,
}

impl Session {
    fn new(client: Client, wire: tokio::task::JoinHandle<()>) -> Self {
        Self { client, wire, prepared: HashMap::new() }
    }

    pub fn is_closed(&self) -> bool {
        self.client.is_closed() || self.wire.is_finished()
    }

    pub async fn prepare(&mut self, sql: &'static str) -> Result<Statement, tokio_postgres::Error> {
        if let Some(statement) = self.prepared.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.prepared.insert(sql, statement.clone());
        Ok(statement)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.wire.abort();
    }
}

impl Limits {
    fn as_sql(&self) -> String {
        format!(
            "SET statement_timeout = {}; SET lock_timeout = {}; SET idle_in_transaction_session_timeout = {}; SET timezone = 'UTC'; \
             SET client_encoding = 'UTF8'",
            self.statement.as_millis(),
            self.lock.as_millis(),
            self.idle_in_transaction.as_millis()
        )
    }
}

/// Takes `sslmode` and `sslrootcert` out of the URL, whose other parameters stay.
fn take_tls(url: &str) -> Result<(String, Mode, Option<String>), String> {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let (mut mode, mut root, mut rest) = (Mode::Prefer, None, Vec::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = || percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned();
        match name {
            "sslmode" => {
                mode = match value {
                    "disable" => Mode::Disable,
                    "allow" => Mode::Allow,
                    "prefer" => Mode::Prefer,
                    "require" => Mode::Require,
                    "verify-ca" => Mode::VerifyCa,
                    "verify-full" => Mode::VerifyFull,
                    _ => {
                        return Err(format!(
                            "found sslmode={value}, expected disable, allow, prefer, require, verify-ca or verify-full"
                        ));
                    }
                }
            }
            "sslrootcert" => root = Some(decoded()).filter(|file| file != "system"),
            _ => rest.push(pair),
        }
    }
    if mode == Mode::Require && root.is_some() {
        // As libpq has it: a root that is given is used.
        mode = Mode::VerifyCa;
    }
    let bare = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
    Ok((bare, mode, root))
}

fn tls(mode: Mode, root: Option<&str>) -> Result<rustls::ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match mode {
        Mode::VerifyCa | Mode::VerifyFull => {
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(root)?), provider.clone())
                .build()
                .map_err(|e| format!("no usable root certificates: {e}"))?;
            if mode == Mode::VerifyFull { verifier } else { Arc::new(AnyName(verifier)) }
        }
        _ => Arc::new(AnyCertificate(provider.clone())),
    };
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("no TLS: {e}"))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

fn roots(file: Option<&str>) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    let Some(file) = file else {
        let found = rustls_native_certs::load_native_certs();
        store.add_parsable_certificates(found.certs);
        return if store.is_empty() {
            Err("sslmode verifies, but this system has no root certificates: name a file with sslrootcert".into())
        } else {
            Ok(store)
        };
    };
    let wrong = |e: &dyn std::fmt::Display| format!("sslrootcert={file}: {e}");
    for certificate in CertificateDer::pem_file_iter(file).map_err(|e| wrong(&e))? {
        store.add(certificate.map_err(|e| wrong(&e))?).map_err(|e| wrong(&e))?;
    }
    if store.is_empty() { Err(wrong(&"holds no certificate")) } else { Ok(store) }
}

/// `sslmode=verify-ca`: the chain counts, the name does not.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.0.verify_server_cert(end, between, name, ocsp, now) {
            // The name is looked at last: the chain has passed.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// `sslmode` allow, prefer and require: encrypted, and no more is asked, as libpq has it.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(inner) => format!("{error}: {inner}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::client::HOME;
    use super::*;

    #[test]
    fn tls_parameters_are_read_as_libpq_reads_them() {
        let (bare, mode, root) = take_tls("postgres://u@h/d?sslmode=verify-full&connect_timeout=3&sslrootcert=%2Fa%20b").unwrap();
        assert_eq!(
            (bare.as_str(), mode, root.as_deref()),
            ("postgres://u@h/d?connect_timeout=3", Mode::VerifyFull, Some("/a b"))
        );
        assert_eq!(take_tls("postgres://h/d").unwrap().1, Mode::Prefer);
        assert_eq!(take_tls("postgres://h/d?sslmode=require&sslrootcert=x").unwrap().1, Mode::VerifyCa);
        assert!(take_tls("postgres://h/d?sslmode=on").is_err());
    }

    #[test]
    fn a_place_names_server_database_and_user_but_no_password() {
        let way = Way::new("postgres://ann:secret@h:6000/events", None, Limits::default(), HOME).unwrap();
        assert_eq!(way.place, "postgres at h:6000 (database events, user ann)");
        let error = Way::new("postgres://ann:secret@h:x/events", None, Limits::default(), HOME).map(|_| ()).unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
