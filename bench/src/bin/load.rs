//! `load --server 127.0.0.1:7070 --tenant demo --key-file FILE [--seconds 60] [--cerbos node_modules/.bin/cerbos]`
//!
//! HTTP decisions, durable and signed, against a running server, in one run with what they are
//! compared with: an fdatasync of 4 KiB on the same disk plus an empty axum handler (a process of its
//! own, as the server is), and Cerbos where its binary is given (`npm install cerbos`): it is started
//! with 10, 100 and 1,000 rules. Prints ratios.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::serve::ListenerExt as _;
use intended_bench::{Latencies, encode, fdatasync_p50, load};

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
    let o = options().map_err(io::Error::other)?;
    let duration = Duration::from_secs(o.seconds);

    let disk = fdatasync_p50(&o.dir, 2000)?;
    let (empty_process, empty) = start_empty_handler()?;
    println!("{:<42} {:>11}   p50 {disk:>8.1} µs", "fdatasync of 4 KiB", "");

    let (mut l, rate) =
        load(&empty, 1, Duration::from_secs(5), move |_, _| encode("GET", "x", "/", None, None), |s| s == 200).await?;
    let handler = row("empty axum handler, 1 client", &mut l, rate);
    let floor = disk + handler;
    drop(empty_process);

    let body = r#"{"action":{"name":"orders.get_order","properties":{"order":"1042"}},"environment":"production","resource":{"id":"1042","type":"order"},"subject":{"id":"support-agent","type":"agent"}}"#;
    let path = format!("/v1/tenants/{}/intents", o.tenant);
    let request = encode("POST", &o.server, &path, Some(&o.key), Some(body));
    for clients in [1, 32] {
        let bytes = request.clone();
        let (mut l, rate) = load(&o.server, clients, duration, move |_, _| bytes.clone(), |s| s == 200).await?;
        let p50 = row(&format!("decision, {clients} client(s)"), &mut l, rate);
        println!("{:<42} p99 {:.1} × p50   [promised ≤ 10]", "", l.quantile(0.99) / p50);
        if clients == 1 {
            println!("{:<42} {:.2} × (fdatasync + empty handler)   [promised ≤ 1.3]", "", p50 / floor);
        } else {
            println!("{:<42} {rate:.0} decisions/s   [promised ≥ 15,000]", "");
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

/// Starts [`empty_handler`]; it ends with the guard.
fn start_empty_handler() -> io::Result<(Guard, String)> {
    let mut child = std::process::Command::new(std::env::current_exe()?)
        .process_group(0)
        .arg("--empty-handler")
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
