//! `load --server 127.0.0.1:7070 --tenant demo --key-file FILE [--seconds 60] [--cerbos 127.0.0.1:3592]`
//!
//! HTTP decisions, durable and signed, against a running server, in one run with what they are
//! compared with: an fdatasync of 4 KiB on the same disk plus an empty axum handler (a process of its
//! own, as the server is), and Cerbos where one is running. Prints ratios.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use axum::serve::ListenerExt as _;
use intended_bench::{Latencies, encode, fdatasync_p50, load};

struct Options {
    server: String,
    tenant: String,
    key: String,
    seconds: u64,
    dir: PathBuf,
    cerbos: Option<String>,
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
            "--cerbos" => o.cerbos = Some(value),
            _ => return Err(format!("unknown option {arg}")),
        }
    }
    Ok(o)
}

fn row(name: &str, latencies: &mut Latencies, rate: f64) -> f64 {
    let (p50, p99, max) = (latencies.quantile(0.5), latencies.quantile(0.99), latencies.quantile(1.0));
    println!(
        "{name:<34} {rate:>9.0}/s   p50 {p50:>8.1} µs   p99 {p99:>9.1} µs ({:>4.1} × p50)   max {max:>9.0} µs",
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
    println!("{:<34} {:>11}   p50 {disk:>8.1} µs", "fdatasync of 4 KiB", "");

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
        if clients == 1 {
            println!("{:<34} {:.2} × (fdatasync + empty handler)   [promised ≤ 1.3]", "", p50 / floor);
        } else {
            println!("{:<34} {rate:.0} decisions/s   [promised ≥ 15,000]", "");
        }
    }
    if let Some(cerbos) = &o.cerbos {
        let body = r#"{"requestId":"x","principal":{"id":"p","roles":["user"]},"resources":[{"actions":["view"],"resource":{"kind":"r1","id":"1"}}]}"#;
        for clients in [1, 32] {
            let bytes = encode("POST", cerbos, "/api/check/resources", None, Some(body));
            let (mut l, rate) =
                load(cerbos, clients, Duration::from_secs(10.min(o.seconds)), move |_, _| bytes.clone(), |s| s == 200)
                    .await?;
            row(&format!("cerbos check, {clients} client(s)"), &mut l, rate);
        }
    }
    Ok(())
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
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
