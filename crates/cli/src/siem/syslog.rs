//! Events as syslog messages (RFC 5424) over TCP or TLS, each with its length before it (RFC 6587
//! section 3.4.1, RFC 5425 section 4.3).
//!
//! Syslog has no acknowledgement. What was written counts as arrived when the connection has stood for
//! a while since: longer than the system leaves data unacknowledged by the other side before it ends
//! the connection. So what counts is in the collector's hands as far as its system is; what happens to
//! it there, nothing tells. When a connection breaks, everything that did not yet count is sent again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use intended_runtime::siem::{Collector, Line, Sending};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Tls;

/// Data that the other side has not acknowledged for so long ends the connection.
const UNACKNOWLEDGED: Duration = Duration::from_secs(4);
/// What stands for so long has arrived.
const SETTLED: Duration = Duration::from_secs(5);
/// Longest time to connect, and to get rid of a batch.
const PATIENCE: Duration = Duration::from_secs(10);
/// Log audit (RFC 5424, table 1).
const FACILITY: u8 = 13;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `host:port`.
    pub address: String,
    /// Absent: TCP alone, where everyone on the way reads along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// The name in the collector's certificate; absent: the host of the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// HOSTNAME of the messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
}

trait Wire: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Wire for T {}

pub struct Syslog {
    address: String,
    tls: Option<(tokio_rustls::TlsConnector, ServerName<'static>)>,
    hostname: String,
    wire: Option<Box<dyn Wire>>,
}

impl Syslog {
    pub fn new(dir: &Path, config: &Config) -> Result<Self, String> {
        let (host, port) = config.address.rsplit_once(':').ok_or("`address` is written host:port")?;
        if host.is_empty() || port.parse::<u16>().is_err() {
            return Err("`address` is written host:port".to_owned());
        }
        let hostname = config.hostname.clone().unwrap_or_else(|| "-".to_owned());
        if hostname.is_empty() || hostname.len() > 255 || !hostname.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("`hostname` has 1 to 255 printable ASCII characters".to_owned());
        }
        let tls = match &config.tls {
            None => None,
            Some(tls) => {
                let name = config.server_name.clone().unwrap_or_else(|| host.trim_matches(['[', ']']).to_owned());
                let name = ServerName::try_from(name).map_err(|e| format!("`server_name`: {e}"))?;
                Some((Arc::new(client(dir, tls)?).into(), name))
            }
        };
        Ok(Self { address: config.address.clone(), tls, hostname, wire: None })
    }

    async fn connect(&self) -> Result<Box<dyn Wire>, String> {
        let said = |e: std::io::Error| e.to_string();
        let stream = TcpStream::connect(&self.address).await.map_err(said)?;
        let socket = socket2::SockRef::from(&stream);
        socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED)).map_err(said)?;
        let alive =
            socket2::TcpKeepalive::new().with_time(Duration::from_secs(10)).with_interval(Duration::from_secs(2));
        socket.set_tcp_keepalive(&alive).map_err(said)?;
        stream.set_nodelay(true).map_err(said)?;
        match &self.tls {
            None => Ok(Box::new(stream)),
            Some((connector, name)) => Ok(Box::new(connector.connect(name.clone(), stream).await.map_err(said)?)),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut wire = match self.wire.take() {
            Some(wire) => wire,
            None => self.connect().await?,
        };
        let said = |e: std::io::Error| e.to_string();
        wire.write_all(bytes).await.map_err(said)?;
        wire.flush().await.map_err(said)?;
        // Only now: what broke off is not written to again.
        self.wire = Some(wire);
        Ok(())
    }

    /// One message (RFC 5424, section 6), with its length before it.
    fn frame(&self, line: &Line, out: &mut Vec<u8>) {
        let message = format!(
            "<{}>1 {} {} intended - {} - {}",
            u32::from(FACILITY) * 8 + u32::from(line.severity.syslog()),
            line.at,
            self.hostname,
            // MSGID: at most 32 characters.
            line.kind.get(..32).unwrap_or(line.kind),
            line.text
        );
        out.extend_from_slice(format!("{} {message}", message.len()).as_bytes());
    }
}

fn client(dir: &Path, tls: &Tls) -> Result<rustls::ClientConfig, String> {
    use rustls_platform_verifier::BuilderVerifierExt as _;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    let certificates = |path: &PathBuf| {
        let path = dir.join(path);
        let said = |e: rustls::pki_types::pem::Error| format!("{}: {e}", path.display());
        let read: Vec<_> =
            CertificateDer::pem_file_iter(&path).map_err(said)?.collect::<Result<_, _>>().map_err(said)?;
        if read.is_empty() { Err(format!("{}: there is no certificate in it", path.display())) } else { Ok(read) }
    };
    let builder = match &tls.ca_file {
        None => builder.with_platform_verifier().map_err(|e| e.to_string())?,
        Some(path) => {
            let mut roots = rustls::RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|e| format!("{}: {e}", path.display()))?;
            }
            builder.with_root_certificates(roots)
        }
    };
    match (&tls.client_cert_file, &tls.client_key_file) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(cert), Some(key)) => {
            let path = dir.join(key);
            let key = PrivateKeyDer::from_pem_file(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            builder.with_client_auth_cert(certificates(cert)?, key).map_err(|e| e.to_string())
        }
        _ => Err("`client_cert_file` and `client_key_file` belong together".to_owned()),
    }
}

impl Collector for Syslog {
    fn send<'a>(&'a mut self, batch: &'a [Line]) -> Sending<'a, Duration> {
        Box::pin(async move {
            // What has been closed meanwhile is not written to: it would be taken and lost.
            self.stands_still().await?;
            let mut bytes = Vec::with_capacity(batch.iter().map(|l| l.text.len() + 96).sum());
            for line in batch {
                self.frame(line, &mut bytes);
            }
            let written = tokio::time::timeout(PATIENCE, self.write(&bytes)).await;
            written.map_err(|_| "the collector takes nothing".to_owned())??;
            Ok(SETTLED)
        })
    }

    fn stands(&mut self) -> Sending<'_, ()> {
        Box::pin(async move {
            match self.wire {
                Some(_) => self.stands_still().await,
                None => Err("the connection was lost".to_owned()),
            }
        })
    }
}

impl Syslog {
    /// Looks whether the collector has ended a connection, if there is one. It says nothing else.
    async fn stands_still(&mut self) -> Result<(), String> {
        let Some(wire) = &mut self.wire else { return Ok(()) };
        let mut byte = [0; 256];
        loop {
            let read = tokio::time::timeout(Duration::from_millis(1), wire.read(&mut byte)).await;
            let why = match read {
                Err(_) => return Ok(()),
                // Nothing that it says means anything.
                Ok(Ok(n)) if n > 0 => continue,
                Ok(Ok(_)) => "the collector closed the connection".to_owned(),
                Ok(Err(error)) => error.to_string(),
            };
            self.wire = None;
            return Err(why);
        }
    }
}

#[cfg(test)]
mod tests;
