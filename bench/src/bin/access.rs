//! Many people and keys: what lists, authentication and one more key cost then.
//!
//! `cargo run --release -p intended-bench --bin access -- [members] [credentials]`: 10,000 and 5,000 unless they
//! are named. Everything is in one process, with a real store, through the whole HTTP application
//! without a network.

#![allow(clippy::disallowed_methods, reason = "measuring time is what this is for")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use http::Request;
use intended_bench::Latencies;
use intended_keyring::{RootKey, SystemRng};
use intended_model::entry::{BODY_VERSION, MemberSet, Role, RoleGrant, Scope, Settings, Tier};
use intended_model::{CredentialId, Digest, EnvironmentId, Event, MemberId, Name, TenantId};
use intended_runtime::access::CredentialSpec;
use intended_runtime::admin::Change;
use intended_runtime::{Principal, Runtime, SystemClock};
use intended_store_sqlite::{Options, SqliteStore};
use tower::ServiceExt as _;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<usize>());
    let members = arguments.next().transpose()?.unwrap_or(10_000);
    let credentials = arguments.next().transpose()?.unwrap_or(5_000);
    let dir = tempfile::tempdir()?;
    let store = SqliteStore::open(dir.path(), &Options::default())?;
    let (clock, rng) = (Arc::new(SystemClock::default()), Arc::new(SystemRng::default()));
    let root = RootKey::generate(&SystemRng::default())?;
    let runtime = Arc::new(Runtime::open(Arc::new(store), clock, rng, root, "http://bench").await?);
    let production = EnvironmentId::new("production")?;
    let environments = [(production.clone(), Tier::Production, Settings::default())];
    let owner = runtime.create_tenant(&TenantId::new("acme")?, &environments).await?.owner.key;
    let by = runtime.authenticate(&owner)?;

    let all: Vec<usize> = (0..members).collect();
    let started = Instant::now();
    for part in all.chunks(500) {
        people(&runtime, &by, part).await?;
    }
    println!("{members} members in {:.1?}", started.elapsed());

    // One by one, as people make them. What it costs must not grow with how many there are.
    let mut keys = Vec::with_capacity(credentials);
    let mut times = Vec::with_capacity(credentials);
    for n in 0..credentials {
        let spec = CredentialSpec {
            actions: Vec::new(),
            credential: CredentialId::new(&format!("key-{n:05}"))?,
            environments: vec![production.clone()],
            scopes: vec![Scope::IntentSubmit, Scope::IntentRead],
            expires_at: None,
            live: true,
            member: None,
            agents: Vec::new(),
            networks: Vec::new(),
            whole: false,
        };
        let at = Instant::now();
        keys.push(runtime.create_credential(&by, spec).await?.key);
        times.push(at.elapsed());
    }
    let tenth = (credentials / 10).max(1);
    let median = |times: &[Duration]| {
        let mut sorted = times.to_vec();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    };
    let first = median(times.get(..tenth).unwrap_or_default());
    let last = median(times.get(credentials - tenth..).unwrap_or_default());
    println!(
        "{credentials} credentials one by one in {:.1?}: the first tenth {first:.0?} each, the last {last:.0?} (x{:.1})",
        times.iter().sum::<Duration>(),
        last.as_secs_f64() / first.as_secs_f64()
    );

    let app = intended_api::router(intended_api::App::new(Arc::clone(&runtime)));
    println!("\nlists, each page (the promise: below 50 ms)");
    for list in ["members", "credentials"] {
        let (mut pages, mut rows) = (Latencies::default(), 0);
        let mut next = Some(format!("/v1/tenants/acme/{list}?limit=500"));
        while let Some(path) = next.take() {
            let at = Instant::now();
            let (link, body) = get(&app, &path, &owner).await?;
            pages.add(at);
            rows += serde_json::from_slice::<Vec<serde_json::Value>>(&body)?.len();
            next = link;
        }
        let n = pages.len();
        println!(
            "  {list:<12} {rows:>6} rows, {n:>3} pages of 500: median {:>7.0} us, worst {:>7.0} us",
            pages.quantile(0.5),
            pages.quantile(1.0)
        );
    }

    println!("\nauthentication of one request (the promise: below 20 us)");
    // The median of many short rounds: what it costs, and not what else the machine did.
    let each = |work: &mut dyn FnMut(usize)| {
        let mut rounds = Latencies::default();
        for round in 0..2_000 {
            let at = Instant::now();
            (round * 50..(round + 1) * 50).for_each(&mut *work);
            rounds.add(at);
        }
        rounds.quantile(0.5) / 50.0
    };
    let sha = each(&mut |n| {
        black_box(Digest::of(keys[n % keys.len()].as_bytes()));
    });
    let known = each(&mut |n| {
        let _ = black_box(runtime.authenticate(&keys[(n * 7_919) % keys.len()]));
    });
    println!("  SHA-256 of a key        {sha:>8.2} us");
    println!("  a key that is known     {known:>8.2} us  (x{:.1} of a SHA-256)", known / sha);
    // After a change of state what each may do is looked at anew.
    let mut anew = Latencies::default();
    for n in 0..200 {
        people(&runtime, &by, &[n]).await?;
        let at = Instant::now();
        black_box(runtime.authenticate(&keys[(n * 7_919) % keys.len()])?);
        anew.add(at);
    }
    println!("  after a change of state {:>8.2} us  (median)", anew.quantile(0.5));

    println!("\nthe same through the whole application, without a network");
    let mut empty = Latencies::default();
    let mut with = Latencies::default();
    for n in 0..20_000 {
        let at = Instant::now();
        get(&app, "/livez", &owner).await?;
        empty.add(at);
        let at = Instant::now();
        get(&app, "/v1/tenants/acme/jwks.json", &keys[n % keys.len()]).await?;
        with.add(at);
    }
    let (empty, with) = (empty.quantile(0.5), with.quantile(0.5));
    println!("  an empty handler        {empty:>8.2} us");
    println!("  one with authentication {with:>8.2} us  (x{:.1}; it writes the public keys as well)", with / empty);
    runtime.close().await?;
    Ok(())
}

/// Makes members, in one commit.
async fn people(runtime: &Runtime, by: &Principal, which: &[usize]) -> Result<(), Failure> {
    let events = which
        .iter()
        .map(|n| {
            let grant = RoleGrant { environments: Vec::new(), expires_at: None, role: Role::Viewer, whole: true };
            Ok(Event::MemberSet(MemberSet {
                active: true,
                by: by.credential.clone(),
                email: Some(format!("person-{n:05}@acme.example").into()),
                grants: vec![grant],
                groups: vec![Name::new("staff")?],
                member: MemberId::new(&format!("person-{n:05}"))?,
                name: Some(format!("Person {n}").into()),
                v: BODY_VERSION,
            }))
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    let make = |_: &Principal, _: &intended_engine::State| {
        Ok(Change { events: events.clone(), reads: Vec::new(), writes: Vec::new(), answer: (), at: 0 })
    };
    runtime.change(by, (), make).await?;
    Ok(())
}

async fn get(app: &axum::Router, path: &str, key: &str) -> Result<(Option<String>, Vec<u8>), Failure> {
    let request = Request::get(path).header("authorization", format!("Bearer {key}")).body(Body::empty())?;
    let response = app.clone().oneshot(request).await?;
    if response.status() != 200 {
        return Err(format!("{path}: {}", response.status()).into());
    }
    let link = response.headers().get("link").and_then(|l| l.to_str().ok());
    let link = link.and_then(|l| l.strip_prefix('<')).and_then(|l| l.split('>').next()).map(str::to_owned);
    Ok((link, axum::body::to_bytes(response.into_body(), usize::MAX).await?.to_vec()))
}
