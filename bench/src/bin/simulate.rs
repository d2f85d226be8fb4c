//! `simulate --server 127.0.0.1:7070 --tenant demo --key-file D/owner.key [--pack policies/demo] [--decisions 100000] [--seconds 20]`
//!
//! Fills a running server's ledger with so many decisions, then simulates a pack on all of them: how
//! many a second, alone; and what it does to the latency of decisions that are made meanwhile, in
//! turns with the same load without it. The server must not limit requests (`intended dev` does not).

#![allow(clippy::disallowed_methods, reason = "measuring time is what this is for")]

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use intended_bench::{Client, Latencies, encode, load};
use serde_json::{Value, json};

struct Target {
    server: String,
    tenant: String,
    key: String,
    files: BTreeMap<String, String>,
}

fn pack(directory: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        if name == "pack.toml" || name.ends_with(".cedar") {
            files.insert(name, std::fs::read_to_string(&path)?);
        }
    }
    Ok(files)
}

impl Target {
    fn path(&self, rest: &str) -> String {
        format!("/v1/tenants/{}/{rest}", self.tenant)
    }

    async fn call(&self, method: &str, rest: &str, body: Option<&Value>) -> io::Result<Value> {
        let mut client = Client::connect(&self.server).await?;
        let body = body.map(Value::to_string);
        let request = encode(method, &self.server, &self.path(rest), Some(&self.key), body.as_deref());
        let response = client.send(&request).await?;
        let text = String::from_utf8_lossy(&response.body).into_owned();
        if response.status >= 300 {
            return Err(io::Error::other(format!("{method} {rest}: {}: {text}", response.status)));
        }
        serde_json::from_str(&text).map_err(io::Error::other)
    }

    /// Simulates the pack on everything; how many decisions, how many changed, and how long it took.
    async fn simulate(&self) -> io::Result<(u64, u64, f64)> {
        let body = json!({"environment": "production", "files": self.files, "window_secs": 2_678_400});
        let started = Instant::now();
        let id = self.call("POST", "simulations", Some(&body)).await?["id"].as_str().unwrap_or_default().to_owned();
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let job = self.call("GET", &format!("simulations/{id}"), None).await?;
            match job["state"].as_str() {
                Some("running") => {}
                Some("done") => {
                    let count = |name: &str| job["result"][name].as_u64().unwrap_or_default();
                    return Ok((count("replayed"), count("changed"), started.elapsed().as_secs_f64()));
                }
                _ => return Err(io::Error::other(job.to_string())),
            }
        }
    }

    fn decision(&self) -> Vec<u8> {
        let body = r#"{"action":{"name":"orders.get_order","properties":{"order":"1042"}},"environment":"production","resource":{"id":"1042","type":"order"},"subject":{"id":"support-agent","type":"agent"}}"#;
        encode("POST", &self.server, &self.path("intents"), Some(&self.key), Some(body))
    }

    async fn latencies(&self, time: Duration) -> io::Result<Latencies> {
        let bytes = self.decision();
        Ok(load(&self.server, 1, time, move |_, _| bytes.clone(), |s| s == 200).await?.0)
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> io::Result<()> {
    let mut options: BTreeMap<String, String> = [
        ("--server", "127.0.0.1:7070"),
        ("--tenant", "demo"),
        ("--pack", "policies/demo"),
        ("--decisions", "100000"),
        ("--seconds", "20"),
    ]
    .map(|(n, v)| (n.to_owned(), v.to_owned()))
    .into();
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().ok_or_else(|| io::Error::other(format!("{name} wants a value")))?;
        options.insert(name, value);
    }
    let key = options.get("--key-file").ok_or_else(|| io::Error::other("--key-file is missing"))?;
    let number =
        |name: &str| options[name].parse::<u64>().map_err(|_| io::Error::other(format!("{name} wants a number")));
    let (wanted, seconds) = (number("--decisions")?, number("--seconds")?);
    let target = Arc::new(Target {
        server: options["--server"].clone(),
        tenant: options["--tenant"].clone(),
        key: std::fs::read_to_string(key)?.trim().to_owned(),
        files: pack(Path::new(&options["--pack"]))?,
    });

    let (filled, left) = (Instant::now(), Arc::new(AtomicU64::new(wanted)));
    let mut clients = Vec::new();
    for _ in 0..32 {
        let (target, left) = (Arc::clone(&target), Arc::clone(&left));
        clients.push(tokio::spawn(async move {
            let mut client = Client::connect(&target.server).await?;
            let request = target.decision();
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
                let response = client.send(&request).await?;
                if response.status != 200 {
                    return Err(io::Error::other(format!("a decision was answered {}", response.status)));
                }
            }
            Ok(())
        }));
    }
    for client in clients {
        client.await.map_err(io::Error::other)??;
    }
    println!("{wanted} decisions made in {:.1} s", filled.elapsed().as_secs_f64());

    let (replayed, changed, took) = target.simulate().await?;
    let rate = replayed as f64 / took;
    println!(
        "simulation alone: {replayed} replayed, {changed} changed, {took:.2} s: {rate:.0}/s   [promised ≥ 30,000 a core]"
    );

    let (mut without, mut with) = (Latencies::default(), Latencies::default());
    let mut simulations = 0;
    for _ in 0..4 {
        without.merge(target.latencies(Duration::from_secs(seconds) / 4).await?);
        let (stop, running) = (Arc::new(AtomicBool::new(false)), Arc::clone(&target));
        let until = Arc::clone(&stop);
        let simulating = tokio::spawn(async move {
            let mut done = 0;
            while !until.load(Ordering::Relaxed) {
                running.simulate().await?;
                done += 1;
            }
            Ok::<_, io::Error>(done)
        });
        with.merge(target.latencies(Duration::from_secs(seconds) / 4).await?);
        stop.store(true, Ordering::Relaxed);
        simulations += simulating.await.map_err(io::Error::other)??;
    }
    for (name, latencies) in [("without", &mut without), ("with", &mut with)] {
        println!(
            "decisions {name:<8} a simulation: {:>7} p50 {:>7.1} µs   p99 {:>8.1} µs",
            latencies.len(),
            latencies.quantile(0.5),
            latencies.quantile(0.99)
        );
    }
    let ratio = with.quantile(0.99) / without.quantile(0.99);
    println!("{simulations} simulations meanwhile: p99 {ratio:.2} ×   [promised ≤ 1.3]");
    Ok(())
}
