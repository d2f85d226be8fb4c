//! `load --server 127.0.0.1:7070 --tenant demo --key-file FILE [--seconds 60] [--cerbos node_modules/.bin/cerbos]`
//!
//! HTTP decisions, durable and signed, against a running server, in one run with what they are
//! compared with: an fdatasync of 4 KiB on the same disk plus an empty axum handler (a process of its
//! own, as the server is), a naive spike ([`spike`], before it and for 10 s at most), and Cerbos where its binary is given (`npm install cerbos`): it is started
//! with 10, 100 and 1,000 rules. Prints ratios.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::serve::ListenerExt as _;
use intended_bench::{Latencies, encode, fdatasync_p50, load};
use intended_keyring::{SigningKey, SystemRng};
use intended_token::{Alg, TokenSigner as _};
use tokio::sync::oneshot;

/// The spike's too: what it is compared with has the same.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Options {
    server: String,
    tenant: String,
    key: String,
    seconds: u64,
    dir: PathBuf,
    cerbos: Option<PathBuf>,
}

fn options() -> Result<Options, String> {
    let mut o = Options {
        server: "127.0.0.1:7070".into(),
        tenant: "demo".into(),
        key: String::new(),
        seconds: 60,
        dir: PathBuf::from("."),
        cerbos: None,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next().ok_or_else(|| format!("{arg} wants a value"))?;
        match arg.as_str() {
            "--server" => o.server = value,
            "--tenant" => o.tenant = value,
            "--key-file" => {
                let text = std::fs::read_to_string(&value).map_err(|e| format!("{value}: {e}"))?;
                text.trim().clone_into(&mut o.key);
            }
            "--seconds" => o.seconds = value.parse().map_err(|_| "--seconds wants a number")?,
            "--dir" => o.dir = value.into(),
            "--cerbos" => o.cerbos = Some(value.into()),
            _ => return Err(format!("unknown option {arg}")),
        }
    }
    Ok(o)
}

fn row(name: &str, latencies: &mut Latencies, rate: f64) -> f64 {
    let (p50, p99, max) = (latencies.quantile(0.5), latencies.quantile(0.99), latencies.quantile(1.0));
    println!(
        "{name:<42} {rate:>9.0}/s   p50 {p50:>8.1} µs   p99 {p99:>9.1} µs ({:>4.1} × p50)   max {max:>9.0} µs",
        p99 / p50
    );
    p50
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> io::Result<()> {
    if std::env::args().nth(1).as_deref() == Some("--empty-handler") {
        return empty_handler().await;
    }
    if std::env::args().nth(1).as_deref() == Some("--spike") {
        return spike(Path::new(&std::env::args().nth(2).unwrap_or_default())).await;
    }
    let o = options().map_err(io::Error::other)?;
    let duration = Duration::from_secs(o.seconds);

    let disk = fdatasync_p50(&o.dir, 2000)?;
    let (empty_process, empty) = start(&["--empty-handler".as_ref()])?;
    println!("{:<42} {:>11}   p50 {disk:>8.1} µs", "fdatasync of 4 KiB", "");

    let (mut l, rate) =
        load(&empty, 1, Duration::from_secs(5), move |_, _| encode("GET", "x", "/", None, None), |s| s == 200).await?;
    let handler = row("empty axum handler, 1 client", &mut l, rate);
    let floor = disk + handler;
    drop(empty_process);

    let body = r#"{"action":{"name":"orders.get_order","properties":{"order":"1042"}},"environment":"production","resource":{"id":"1042","type":"order"},"subject":{"id":"support-agent","type":"agent"}}"#;
    let path = format!("/v1/tenants/{}/intents", o.tenant);
    let request = encode("POST", &o.server, &path, Some(&o.key), Some(body));
    let at_spike = tempfile::tempdir_in(&o.dir)?;
    let (spike_process, spike) = start(&["--spike".as_ref(), at_spike.path().as_os_str()])?;
    let mut naive = Vec::new();
    for clients in [1, 32] {
        let bytes = encode("POST", &spike, "/", None, Some(body));
        let time = Duration::from_secs(10.min(o.seconds));
        let (mut l, rate) = load(&spike, clients, time, move |_, _| bytes.clone(), |s| s == 200).await?;
        let p50 = row(&format!("naive spike, {clients} client(s)"), &mut l, rate);
        if clients == 1 {
            println!("{:<42} {:.2} × (fdatasync + empty handler)", "", p50 / floor);
        }
        naive.push((p50, rate));
    }
    drop(spike_process);
    for (clients, naive) in [1, 32].into_iter().zip(naive) {
        let bytes = request.clone();
        let (mut l, rate) = load(&o.server, clients, duration, move |_, _| bytes.clone(), |s| s == 200).await?;
        let p50 = row(&format!("decision, {clients} client(s)"), &mut l, rate);
        println!("{:<42} p99 {:.1} × p50   [promised ≤ 10]", "", l.quantile(0.99) / p50);
        if clients == 1 {
            println!("{:<42} {:.2} × (fdatasync + empty handler)   [promised ≤ 1.3]", "", p50 / floor);
            println!("{:<42} {:.2} × the naive spike", "", p50 / naive.0);
        } else {
            println!("{:<42} {rate:.0} decisions/s   [promised ≥ 15,000]", "");
            println!("{:<42} {:.2} of the naive spike's rate", "", rate / naive.1);
        }
    }
    // As an agent's framework sends them: in a session, safe to repeat. Two facts besides the entry.
    for clients in [1, 32] {
        let (server, path, key) = (o.server.clone(), path.clone(), o.key.clone());
        let run = std::process::id();
        let send = move |client: usize, n: u64| {
            let session = format!(r#","session":"{run}-{client}-{}","subject""#, n / 50);
            let body = body.replace(r#","subject""#, &session);
            let text = encode("POST", &server, &path, Some(&key), Some(&body));
            let repeat = format!("POST {path} HTTP/1.1\r\nidempotency-key: {run}-{client}-{n}\r\n");
            [repeat.as_bytes(), &text[format!("POST {path} HTTP/1.1\r\n").len()..]].concat()
        };
        let (mut l, rate) = load(&o.server, clients, duration / 2, send, |s| s == 200).await?;
        row(&format!("in a session, repeatable, {clients} client(s)"), &mut l, rate);
    }
    if let Some(binary) = &o.cerbos {
        for rules in [10, 100, 1_000] {
            let (_process, cerbos) = start_cerbos(binary, rules).await?;
            let body = format!(
                r#"{{"requestId":"x","principal":{{"id":"p","roles":["user"],"attr":{{"team":"t{n}"}}}},"resources":[{{"actions":["a{n}"],"resource":{{"kind":"order","id":"1"}}}}]}}"#,
                n = rules / 2
            );
            for clients in [1, 32] {
                let bytes = encode("POST", &cerbos, "/api/check/resources", None, Some(&body));
                let (time, send) = (Duration::from_secs(10.min(o.seconds)), move |_, _| bytes.clone());
                let (mut l, rate) = load(&cerbos, clients, time, send, |s| s == 200).await?;
                row(&format!("cerbos, {rules} rules, {clients} client(s)"), &mut l, rate);
            }
        }
    }
    Ok(())
}

/// Starts a Cerbos server with one resource policy of so many rules, each with a condition.
async fn start_cerbos(binary: &Path, rules: usize) -> io::Result<(Cerbos, String)> {
    use std::fmt::Write as _;
    let directory = tempfile::tempdir()?;
    let policies = directory.path().join("policies");
    std::fs::create_dir(&policies)?;
    let mut policy =
        "apiVersion: api.cerbos.dev/v1\nresourcePolicy:\n  resource: order\n  version: default\n  rules:\n".to_owned();
    for n in 0..rules {
        let _ = write!(
            policy,
            "    - actions: [a{n}]\n      effect: EFFECT_ALLOW\n      roles: [user]\n      condition:\n        match:\n          expr: P.attr.team == \"t{n}\"\n"
        );
    }
    std::fs::write(policies.join("order.yaml"), policy)?;
    // Two free ports; Cerbos cannot be asked which one it took.
    let free = || std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
    let (http, grpc) = (free()?.to_string(), free()?.to_string());
    let config = directory.path().join("config.yaml");
    std::fs::write(
        &config,
        format!(
            "server:\n  httpListenAddr: {http}\n  grpcListenAddr: {grpc}\nstorage:\n  driver: disk\n  disk:\n    directory: {}\ntelemetry:\n  disabled: true\n",
            policies.display()
        ),
    )?;
    let child = std::process::Command::new(binary)
        .process_group(0)
        .args(["server", "--log-level=error", "--config"])
        .arg(&config)
        .stdout(std::process::Stdio::null())
        .spawn()
        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", binary.display())))?;
    let cerbos = Cerbos { _process: Guard(child), _directory: directory };
    for _ in 0..300 {
        if tokio::net::TcpStream::connect(&http).await.is_ok() {
            return Ok((cerbos, http));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(io::Error::other("cerbos did not start"))
}

/// A running Cerbos: the process first, then its directory.
struct Cerbos {
    _process: Guard,
    _directory: tempfile::TempDir,
}

/// An axum server that does nothing, on a free port that it prints: run as a process of its own, as
/// the server that it is compared with is.
async fn empty_handler() -> io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let app = axum::Router::new().route("/", axum::routing::get(|| async { "" }));
    axum::serve(listener.tap_io(|s| drop(s.set_nodelay(true))), app).await
}

/// What anybody would write first: the request is parsed and hashed, a thread commits what has come in to
/// SQLite, in one transaction, and what was recorded is signed. No policy, no state, no ledger, no proofs,
/// and an answer of 200 bytes. On a free port that it prints, with its file in `dir`.
async fn spike(dir: &Path) -> io::Result<()> {
    let connection = rusqlite::Connection::open(dir.join("spike.db")).map_err(io::Error::other)?;
    let set_up = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE log (hash BLOB, body TEXT)";
    connection.execute_batch(set_up).map_err(io::Error::other)?;
    let key = SigningKey::generate(Alg::EdDSA, &SystemRng::default()).map_err(io::Error::other)?;
    let key = std::sync::Arc::new(key);
    let (queue, jobs) = std::sync::mpsc::channel::<Recorded>();
    std::thread::spawn(move || {
        while let Ok(first) = jobs.recv() {
            let batch: Vec<Recorded> = std::iter::once(first).chain(jobs.try_iter()).collect();
            if let Err(error) = record(&connection, &batch) {
                eprintln!("the spike cannot write: {error}");
                return;
            }
            for one in batch {
                let _ = one.done.send(());
            }
        }
    });
    let handler = move |body: axum::body::Bytes| {
        let (queue, key) = (queue.clone(), std::sync::Arc::clone(&key));
        async move {
            let bad = axum::http::StatusCode::BAD_REQUEST;
            let Ok(intent) = serde_json::from_slice::<serde_json::Value>(&body) else { return Err(bad) };
            let text = intent.to_string();
            let (hash, (done, recorded)) = (intended_model::Digest::of(text.as_bytes()), oneshot::channel());
            let _ = queue.send(Recorded { hash, text, done });
            recorded.await.map_err(|_| axum::http::StatusCode::INTERNAL_SERVER_ERROR)?;
            let claims = intended_token::base64url(format!(r#"{{"intent_hash":"{hash}"}}"#).as_bytes());
            let signature = key.sign(claims.as_bytes()).map_err(|_| bad)?;
            Ok(format!(r#"{{"token":"{claims}.{}"}}"#, intended_token::base64url(&signature)))
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let app = axum::Router::new().route("/", axum::routing::post(handler));
    axum::serve(listener.tap_io(|s| drop(s.set_nodelay(true))), app).await
}

/// Something for the spike to record.
struct Recorded {
    hash: intended_model::Digest,
    text: String,
    done: oneshot::Sender<()>,
}

fn record(connection: &rusqlite::Connection, batch: &[Recorded]) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    {
        let mut insert = transaction.prepare_cached("INSERT INTO log VALUES (?1, ?2)")?;
        for one in batch {
            insert.execute((one.hash.as_bytes(), &one.text))?;
        }
    }
    transaction.commit()
}

/// Starts this program as a server of another kind, which prints its address; it ends with the guard.
fn start(arguments: &[&std::ffi::OsStr]) -> io::Result<(Guard, String)> {
    let mut child = std::process::Command::new(std::env::current_exe()?)
        .process_group(0)
        .args(arguments)
        .stdout(std::process::Stdio::piped())
        .spawn()?;
    let out = child.stdout.take().ok_or_else(|| io::Error::other("no output"))?;
    let guard = Guard(child);
    let mut address = String::new();
    io::BufRead::read_line(&mut io::BufReader::new(out), &mut address)?;
    Ok((guard, address.trim().to_owned()))
}

struct Guard(std::process::Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // The whole group: what npm installs as a binary is a script that starts it.
        let _ = std::process::Command::new("kill").args(["-KILL", "--", &format!("-{}", self.0.id())]).status();
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
