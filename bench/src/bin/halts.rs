//! `halts --server 127.0.0.1:7070 --tenant demo --key-file FILE [--environment staging] [--seconds 10] [--rounds 20]`
//!
//! What halts cost, and how fast they are, against a running server, with a key that may throw and lift
//! halts and submit intents in the environment (one where a single person lifts a halt):
//!
//! 1. a decision with no halt in force and no breaker of one's own, and with 1,000 halts and 1,000
//!    breakers that cover something else, in turns;
//! 2. under 32 clients, from sending a halt to its answer, to the last allow that any client got, and to
//!    the last answer to a request that was under way when the halt was answered.
//!
//! Exits with 1 when a promise is missed.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use intended_bench::{Client, Latencies, encode};

struct Options {
    server: String,
    tenant: String,
    key: String,
    environment: String,
    seconds: u64,
    rounds: usize,
}

fn options() -> Result<Options, String> {
    let mut o = Options {
        server: "127.0.0.1:7070".into(),
        tenant: "demo".into(),
        key: String::new(),
        environment: "staging".into(),
        seconds: 10,
        rounds: 20,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next().ok_or_else(|| format!("{arg} wants a value"))?;
        match arg.as_str() {
            "--server" => o.server = value,
            "--tenant" => o.tenant = value,
            "--environment" => o.environment = value,
            "--key-file" => {
                let text = std::fs::read_to_string(&value).map_err(|e| format!("{value}: {e}"))?;
                text.trim().clone_into(&mut o.key);
            }
            "--seconds" => o.seconds = value.parse().map_err(|_| "--seconds wants a number")?,
            "--rounds" => o.rounds = value.parse().map_err(|_| "--rounds wants a number")?,
            _ => return Err(format!("unknown option {arg}")),
        }
    }
    Ok(o)
}

impl Options {
    fn post(&self, path: &str, body: &str) -> Vec<u8> {
        let path = format!("/v1/tenants/{}/{path}", self.tenant);
        encode("POST", &self.server, &path, Some(&self.key), Some(body))
    }
    fn decision(&self) -> Vec<u8> {
        let body = format!(
            r#"{{"action":{{"name":"orders.get_order","properties":{{"order":"1042"}}}},"environment":"{}","resource":{{"id":"1042","type":"order"}},"subject":{{"id":"support-agent","type":"agent"}}}}"#,
            self.environment
        );
        self.post("intents", &body)
    }
    /// Throws a halt and gives its name.
    async fn halt(&self, client: &mut Client, on: &str) -> io::Result<String> {
        let body = format!(r#"{{"environment":"{}","reason":"bench"{on}}}"#, self.environment);
        let answer = client.send(&self.post("emergency/halts", &body)).await?;
        let body: serde_json::Value = serde_json::from_slice(&answer.body).map_err(io::Error::other)?;
        let name = body.get("halt").and_then(|h| h.as_str()).map(str::to_owned);
        name.ok_or_else(|| io::Error::other(format!("{}: {body}", answer.status)))
    }
    /// Sets a breaker on a tool that nobody uses, or takes it away.
    async fn breaker(&self, client: &mut Client, n: usize, active: bool) -> io::Result<()> {
        let path = format!("/v1/tenants/{}/breakers/bench-{n}", self.tenant);
        let body = format!(
            r#"{{"active":{active},"environment":"{}","on":{{"scope":"tool","target":"gmail.send_email"}},"rules":{{"window":{{"secs":60}},"minimum_calls":20,"error_rate_permille":500}}}}"#,
            self.environment
        );
        let answer = client.send(&encode("PUT", &self.server, &path, Some(&self.key), Some(&body))).await?;
        if answer.status == 200 {
            return Ok(());
        }
        Err(io::Error::other(format!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body))))
    }
    async fn resume(&self, client: &mut Client, halt: &str) -> io::Result<()> {
        let path = format!("emergency/halts/{halt}/resume");
        let answer = client.send(&self.post(&path, r#"{"reason":"bench"}"#)).await?;
        if answer.status == 200 {
            return Ok(());
        }
        Err(io::Error::other(format!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body))))
    }
}

async fn decisions(o: &Options, time: Duration) -> io::Result<Latencies> {
    let (bytes, started) = (o.decision(), Instant::now());
    let mut client = Client::connect(&o.server).await?;
    let mut latencies = Latencies::default();
    while started.elapsed() < time {
        let sent = Instant::now();
        let answer = client.send(&bytes).await?;
        latencies.add(sent);
        if answer.status != 200 {
            return Err(io::Error::other(String::from_utf8_lossy(&answer.body).into_owned()));
        }
    }
    Ok(latencies)
}

/// What one client saw: when each allow came, and every request with its answer.
#[derive(Default)]
struct Seen {
    allows: Vec<Instant>,
    requests: Vec<(Instant, Instant)>,
}

async fn round(o: &Arc<Options>) -> io::Result<(f64, f64, f64, usize)> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for _ in 0..32 {
        let (o, stop) = (Arc::clone(o), Arc::clone(&stop));
        clients.push(tokio::spawn(async move {
            let (bytes, mut seen) = (o.decision(), Seen::default());
            let mut client = Client::connect(&o.server).await?;
            while !stop.load(Ordering::Relaxed) {
                let sent = Instant::now();
                let answer = client.send(&bytes).await?;
                let now = Instant::now();
                seen.requests.push((sent, now));
                if answer.status == 200 {
                    seen.allows.push(now);
                }
            }
            Ok::<_, io::Error>(seen)
        }));
    }
    let mut client = Client::connect(&o.server).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let sent = Instant::now();
    let halt = o.halt(&mut client, "").await?;
    let answered = Instant::now();
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.store(true, Ordering::Relaxed);
    let (mut last_allow, mut last_answer, mut all) = (sent, answered, 0);
    for client in clients {
        let seen = client.await.map_err(io::Error::other)??;
        all += seen.requests.len();
        last_allow = seen.allows.iter().copied().fold(last_allow, Instant::max);
        let under_way = seen.requests.iter().filter(|(s, e)| *s < answered && *e > answered).map(|(_, e)| *e);
        last_answer = under_way.fold(last_answer, Instant::max);
    }
    o.resume(&mut client, &halt).await?;
    let ms = |to: Instant, from: Instant| to.saturating_duration_since(from).as_secs_f64() * 1000.0;
    Ok((ms(answered, sent), ms(last_allow, sent), ms(last_answer, answered), all))
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> io::Result<()> {
    let o = Arc::new(options().map_err(io::Error::other)?);
    let part = Duration::from_secs(o.seconds) / 4;
    let mut control = Client::connect(&o.server).await?;
    decisions(&o, part).await?;
    let (mut none, mut thousand) = (Latencies::default(), Latencies::default());
    for _ in 0..2 {
        none.merge(decisions(&o, part).await?);
        let mut halts = Vec::new();
        for n in 0..1_000 {
            let kind = ["agent", "connector", "tool", "category"][n % 4];
            let star = if n % 8 > 3 && n % 4 > 1 { "*" } else { "" };
            halts.push(o.halt(&mut control, &format!(r#","on":{{"{kind}":"bench-{n}{star}"}}"#)).await?);
        }
        for n in 0..1_000 {
            o.breaker(&mut control, n, true).await?;
        }
        thousand.merge(decisions(&o, part).await?);
        for halt in halts {
            o.resume(&mut control, &halt).await?;
        }
        for n in 0..1_000 {
            o.breaker(&mut control, n, false).await?;
        }
    }
    let (a, b) = (none.quantile(0.5), thousand.quantile(0.5));
    println!("decision, no halt          p50 {a:>8.1} µs   p99 {:>9.1} µs", none.quantile(0.99));
    println!("… 1,000 halts, breakers    p50 {b:>8.1} µs   p99 {:>9.1} µs", thousand.quantile(0.99));
    println!("                           {:.3} ×   [promised ≤ 1.1]", b / a);

    let mut worst = (0.0_f64, 0.0_f64, 0.0_f64);
    for _ in 0..o.rounds {
        let (answer, allow, under_way, _) = round(&o).await?;
        worst = (worst.0.max(answer), worst.1.max(allow), worst.2.max(under_way));
    }
    println!("halt under 32 clients, worst of {}:", o.rounds);
    println!("  sent to answered                             {:>7.2} ms", worst.0);
    println!("  sent to the last allow that anybody got      {:>7.2} ms", worst.1);
    println!("  answered to the last that was under way      {:>7.2} ms   [promised < 50]", worst.2);
    if b / a > 1.1 || worst.2 >= 50.0 {
        return Err(io::Error::other("a promise is missed"));
    }
    Ok(())
}
