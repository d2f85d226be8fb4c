//! Putting a server together, running it, and stopping it: not ready first, then drained, then closed.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use intended_api::App;
use intended_api::origin::Peer;
use intended_keyring::{RootKey, SystemRng};
use intended_model::{Digest, ExitCode, Name};
use intended_runtime::health::Door;
use intended_runtime::readiness::Thresholds;
use intended_runtime::{RootSource, Runtime, SystemClock};
use intended_store_sqlite::{FILE, Options, ReadOnly, SqliteStore};
use intended_telemetry::Traces;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};
use zeroize::Zeroizing;

use crate::error::{CliError, file};
use crate::rewake;

pub const CONFIG: &str = "intended.toml";
pub const ROOT_KEY: &str = "root.key";

/// The config file of a data directory.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address to listen on.
    pub listen: String,
    /// `iss` of the tokens: where the server is reached.
    pub issuer: String,
    /// What this node is called; absent: as its host is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Name>,
    /// The root key, of exactly one of these: a file, relative to the data directory;
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_key_file: Option<PathBuf>,
    /// an environment variable;
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_key_env: Option<String>,
    /// a program and its arguments, started without a shell, that prints it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_key_command: Option<Vec<String>>,
    /// How long it stays up not ready before it stops taking requests.
    #[serde(default = "default_drain")]
    pub drain_millis: u64,
    /// How long what is running then may still take. A client that sends nothing does not hold it up longer.
    #[serde(default = "default_finish")]
    pub finish_millis: u64,
    /// Largest size of the data file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// Requests that one credential may make in a second; 0 for no limit.
    #[serde(default = "default_requests")]
    pub requests_per_second: u32,
    /// The age at which an active signing key is to have a successor; 0 for no such policy.
    #[serde(default = "default_key_days")]
    pub signing_key_days: u32,
    /// Networks that webhooks may be sent to although they are not public, such as 10.1.0.0/16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub webhook_networks: Vec<ipnet::IpNet>,
    /// Where the ledger is streamed to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub siem: Vec<crate::siem::Table>,
    /// What the figures of a readiness check are held against.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub readiness: Thresholds,
    /// Networks that identity providers may be in although they are not public.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identity_provider_networks: Vec<IpNet>,
    /// Connections at a time. Those beyond wait until one ends.
    #[serde(default = "default_connections")]
    pub connections: u32,
    /// How long a connection may take for the head of a request, and stay idle between two.
    #[serde(default = "default_head")]
    pub head_millis: u64,
    /// SHA-256 of the key of who operates the server: makes and suspends tenants. Absent: nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator_key_sha256: Option<Digest>,
    /// Where the newest checkpoint of each tenant is kept, outside the data directory: what is older than
    /// that is not served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_dir: Option<PathBuf>,
    /// Networks of proxies in front, whose `x-forwarded-for` is believed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_proxies: Vec<IpNet>,
    /// How long people stay signed in, in minutes: 1 to 1440.
    #[serde(default = "default_session")]
    pub session_minutes: u32,
    /// And without a request.
    #[serde(default = "default_idle")]
    pub session_idle_minutes: u32,
    /// How the log is written; absent: as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_format: Option<crate::args::LogFormat>,
    /// Where traces are exported to; absent: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otlp: Option<crate::otlp::Config>,
}

pub const fn default_key_days() -> u32 {
    intended_runtime::key_age::DEFAULT_KEY_DAYS
}
fn is_usual(thresholds: &Thresholds) -> bool {
    *thresholds == Thresholds::default()
}
pub const fn default_session() -> u32 {
    8 * 60
}
pub const fn default_idle() -> u32 {
    60
}
pub const fn default_drain() -> u64 {
    500
}
pub const fn default_finish() -> u64 {
    10_000
}

/// Far above what an agent needs, and below what would keep others from being served.
pub const fn default_requests() -> u32 {
    5_000
}

/// Some hundred kilobytes of kernel memory each at the worst, so below what a small machine has.
pub const fn default_connections() -> u32 {
    4_096
}
pub const fn default_head() -> u64 {
    30_000
}

impl Config {
    pub fn read(dir: &Path) -> Result<Self, CliError> {
        let path = dir.join(CONFIG);
        let text = std::fs::read_to_string(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => CliError::usage(
                format!("{}: there is no {CONFIG}", dir.display()),
                format!("set it up first: intended init --data-dir {}", dir.display()),
            ),
            _ => file(&path)(e),
        })?;
        toml::from_str(&text).map_err(|e| CliError::Usage(format!("{}: {}", path.display(), e), None))
    }
    pub fn root_key(&self, dir: &Path) -> Result<RootKey, CliError> {
        let (place, text) = match (&self.root_key_file, &self.root_key_env, &self.root_key_command) {
            (Some(path), None, None) => {
                let path = dir.join(path);
                let text = std::fs::read_to_string(&path).map_err(file(&path))?;
                (path.display().to_string(), Zeroizing::new(text))
            }
            (None, Some(name), None) => {
                let text = crate::config::variable(name).map(Zeroizing::new).ok_or_else(|| {
                    let hint =
                        format!("`root_key_env` in {} says that the root key is there", dir.join(CONFIG).display());
                    CliError::usage(format!("the environment variable {name} is not set"), hint)
                })?;
                (format!("the environment variable {name}"), text)
            }
            (None, None, Some(command)) => ("the output of root_key_command".to_owned(), printed(command)?),
            _ => {
                return Err(CliError::usage(
                    format!("{}: it is not said where the root key is", dir.join(CONFIG).display()),
                    "give exactly one of root_key_file, root_key_env and root_key_command",
                ));
            }
        };
        RootKey::parse(&text).map_err(|e| CliError::Usage(format!("{place}: {e}"), None))
    }
}

/// The root key as a restart would get it: what the config file says by then.
pub struct Restart(pub PathBuf);

impl RootSource for Restart {
    fn read(&self) -> Result<RootKey, String> {
        let read = || Config::read(&self.0)?.root_key(&self.0);
        read().map_err(|error| error.to_string())
    }
}

/// How long a command may take to print the root key.
const KEY_PATIENCE: Duration = Duration::from_secs(30);
/// More than this it does not print.
const KEY_MAX: u64 = 1024;

/// What a command prints. Its stderr is the operator's to read.
fn printed(command: &[String]) -> Result<Zeroizing<String>, CliError> {
    use std::io::Read as _;
    let failed = |what: String| CliError::Failed(format!("root_key_command: {what}"), ExitCode::Usage);
    let (program, arguments) = command.split_first().ok_or_else(|| failed("no program is named".to_owned()))?;
    let mut child = std::process::Command::new(program)
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .map_err(|e| failed(format!("{program}: {e}")))?;
    const LOOK: Duration = Duration::from_millis(10);
    let mut left = KEY_PATIENCE;
    let status = loop {
        match child.try_wait().map_err(|e| failed(format!("{program}: {e}")))? {
            Some(status) => break status,
            None if left.is_zero() => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(format!("{program} has not ended after {} s", KEY_PATIENCE.as_secs())));
            }
            None => {
                std::thread::sleep(LOOK);
                left = left.saturating_sub(LOOK);
            }
        }
    };
    if !status.success() {
        return Err(failed(format!("{program} ended with {status}")));
    }
    let mut text = Zeroizing::new(String::new());
    if let Some(out) = child.stdout.take() {
        out.take(KEY_MAX).read_to_string(&mut text).map_err(|e| failed(format!("{program}: {e}")))?;
    }
    Ok(text)
}

/// What a node is called that nobody has named: as its host is, as far as that can be a name.
pub fn host() -> Option<Name> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let plain = |c: char| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c.to_ascii_lowercase() } else { '-' };
    let host: String = host.trim().chars().map(plain).take(60).collect();
    Name::new(host.trim_start_matches(['.', '-', '_'])).ok()
}

/// Opens the store and the runtime of a data directory.
pub async fn open(dir: &Path, root: RootKey, issuer: &str, max_bytes: Option<u64>) -> Result<Arc<Runtime>, CliError> {
    let options = Options { max_bytes, shared: false };
    let named = |e: intended_runtime::RuntimeError| CliError::from(e).about(&dir.join(FILE));
    let store = SqliteStore::open(dir, &options).map_err(|e| named(e.into()))?;
    let clock = Arc::new(SystemClock::default());
    let rng = Arc::new(SystemRng::default());
    Ok(Arc::new(Runtime::open(Arc::new(store), clock, rng, root, issuer).await.map_err(named)?))
}

/// Lets a runtime send webhooks: to public addresses, and to these networks.
pub fn send_webhooks(runtime: &Runtime, networks: Vec<ipnet::IpNet>) -> Result<(), CliError> {
    let notifier = crate::notifier::HttpNotifier::new(intended_runtime::webhooks::Reach::new(networks));
    let failed = |e: reqwest::Error| CliError::Failed(format!("webhooks cannot be sent: {e}"), ExitCode::Usage);
    runtime.set_notifier(Arc::new(notifier.map_err(failed)?));
    Ok(())
}

/// Opens a data directory that was set up before: its data file is there, and a tenant is in it.
/// A lost file must not come back as a new and empty one, so it is looked at before anything is written.
pub async fn reopen(dir: &Path, root: RootKey, issuer: &str, max_bytes: Option<u64>) -> Result<Arc<Runtime>, CliError> {
    let path = dir.join(FILE);
    let lost = |what: String| {
        CliError::usage(
            format!("{}: {what}", path.display()),
            "the directory was set up, so its ledger was here: keep what is left, and restore a backup",
        )
    };
    match ReadOnly::open(dir).and_then(|store| store.tenants()) {
        Ok(tenants) if tenants.is_empty() => return Err(lost("no tenant is in it".to_owned())),
        Ok(_) => {}
        Err(error) => return Err(lost(error.to_string())),
    }
    open(dir, root, issuer, max_bytes).await
}

/// Listens. A port of 0 takes a free one.
pub async fn listen(address: &str, loopback_only: bool) -> Result<(tokio::net::TcpListener, SocketAddr), CliError> {
    let parsed: SocketAddr = address
        .parse()
        .map_err(|_| CliError::usage(format!("`{address}` is not an address"), "write it like 127.0.0.1:7070"))?;
    if loopback_only && !parsed.ip().is_loopback() {
        return Err(CliError::usage(
            format!("`intended dev` listens on loopback only, not on {}", parsed.ip()),
            "a server for others is set up with `intended init` and run with `intended serve`",
        ));
    }
    let failed = |e: std::io::Error| {
        CliError::usage(format!("{address}: {e}"), "another one may be running; choose one with --listen 127.0.0.1:0")
    };
    let listener = tokio::net::TcpListener::bind(parsed).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// How stopping goes: not ready for so long, then so long for what is running.
#[derive(Clone, Copy)]
pub struct Stopping {
    pub drain: Duration,
    pub finish: Duration,
}

/// What one server takes at a time, and how long it waits for a client to say what it wants.
#[derive(Clone, Copy)]
pub struct Limits {
    pub connections: u32,
    pub head: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: default_connections(), head: Duration::from_millis(default_head()) }
    }
}

/// Serves until `stop` is done, then shuts down in order.
pub async fn serve(
    listener: tokio::net::TcpListener,
    app: App,
    limits: Limits,
    stopping: Stopping,
    dir: &Path,
    traces: Option<Traces>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), CliError> {
    let app = match intended_telemetry::queued() {
        Some(queue) => app.logged(queue.counts()),
        None => app,
    };
    let (app, router) = match &traces {
        Some(traces) => {
            let app = app.traced(traces.counts());
            (app.clone(), traces.over(intended_api::router(app)))
        }
        None => (app.clone(), intended_api::router(app)),
    };
    let housekeeping = tokio::spawn(Arc::clone(&app.runtime).keep_house());
    let delivering = tokio::spawn(Arc::clone(&app.runtime).keep_delivering());
    let requests = tokio::spawn(crate::requests::serve(Arc::clone(&app.runtime), dir.to_path_buf()));
    let (runtime, draining) = (Arc::clone(&app.runtime), app.clone());
    let door = Arc::clone(app.runtime.door());
    door.places(limits.connections.max(1));
    let (drained, overtime) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async move {
        stop.await;
        draining.drain();
        tokio::time::sleep(stopping.drain).await;
        let _ = drained.send(());
    };
    // A connection that sends nothing, or half a request and no more, would be waited for without end.
    let overtime = async move {
        if overtime.await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(stopping.finish).await;
    };
    let cut = tokio::select! {
        () = accept(listener, router, limits, door, shutdown) => false,
        () = overtime => true,
    };
    if cut {
        tracing::warn!("some connections did not end in time and were cut");
    }
    housekeeping.abort();
    delivering.abort();
    requests.abort();
    let closed = runtime.close().await;
    if let Some(traces) = traces {
        traces.stop(FLUSH).await;
    }
    Ok(closed?)
}

/// How long the last spans may take to be exported.
const FLUSH: Duration = Duration::from_secs(2);

/// Takes connections until `shutdown` is done, then waits until those that are open have ended.
async fn accept(
    listener: tokio::net::TcpListener,
    router: axum::Router,
    limits: Limits,
    door: Arc<Door>,
    shutdown: impl Future<Output = ()>,
) {
    let service = hyper_util::service::TowerToHyperService::new(router);
    let connections = limits.connections.max(1);
    let places = Arc::new(Semaphore::new(usize::try_from(connections).unwrap_or(Semaphore::MAX_PERMITS)));
    let (closing, close) = watch::channel(());
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        // A place first: who finds none waits in the system's queue, where it costs nothing here.
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, (stream, peer)) = tokio::select! {
            (place, accepted) = next => match (place, accepted) {
                (Ok(place), Ok((stream, peer))) => (place, (stream, peer)),
                (_, Err(error)) if of_the_client(&error) => continue,
                (Err(_), _) => break,
                // No more files, say. It passes when others end.
                (_, Err(error)) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = &mut shutdown => break,
        };
        let _ = stream.set_nodelay(true);
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(hyper_util::rt::TokioTimer::new())
            .header_read_timeout(limits.head)
            .serve_connection(hyper_util::rt::TokioIo::new(stream), From { peer: peer.ip(), service: service.clone() });
        let (mut close, inside) = (close.clone(), door.enter());
        tokio::spawn(rewake::at_once(async move {
            let _inside = (place, inside);
            let mut connection = std::pin::pin!(connection);
            let served = tokio::select! {
                served = connection.as_mut() => served,
                _ = close.changed() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = served {
                tracing::debug!(%error, "a connection ended");
            }
        }));
    }
    drop(listener);
    let _ = closing.send(());
    // All places are free when the last connection has ended.
    drop(places.acquire_many(connections).await);
}

/// Says of each request of a connection where it comes from.
struct From<S> {
    peer: IpAddr,
    service: S,
}

impl<S, B> hyper::service::Service<hyper::Request<B>> for From<S>
where
    S: hyper::service::Service<hyper::Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, mut request: hyper::Request<B>) -> Self::Future {
        request.extensions_mut().insert(Peer(self.peer));
        self.service.call(request)
    }
}

/// The client went while it was still waiting to be taken.
fn of_the_client(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused)
}

/// Until the process is asked to stop. From the call on, not only once it is waited for: a request
/// that comes while the server starts is not lost, and does not end it half started.
pub fn stopped() -> Result<impl Future<Output = ()> + Send + 'static, CliError> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |e: std::io::Error| CliError::Failed(format!("signals cannot be caught: {e}"), ExitCode::Usage);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Writes a file that only its owner can read.
pub fn write_secret(path: &Path, text: &str) -> Result<(), CliError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let mut out = options.write(true).create_new(true).mode(0o600).open(path).map_err(file(path))?;
    out.write_all(text.as_bytes()).and_then(|()| out.sync_all()).map_err(file(path))
}
