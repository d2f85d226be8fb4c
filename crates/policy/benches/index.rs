//! What a decision's policy costs as the set grows: the index, and beside it Cedar's authorizer over
//! the whole set, for 10 to 10,000 policies. At the end the ratios.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::indexing_slicing
)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion};
use intended_model::Value;
use intended_model::decision::SessionContext;
use intended_policy::compiled::Full;
use intended_policy::{EvalRequest, Pack, PackSource, PolicySetVersion};

const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];

/// As an organisation has them: a few rules for everyone, the rest by agent, team, tool and target.
fn version(size: usize) -> (PolicySetVersion, Full) {
    let mut text = String::from(
        r#"@id("never") forbid (principal, action in Action::"op:delete", resource) when { context.risk > 60 };
           @id("reads") permit (principal in Team::"support", action in Action::"op:read", resource) when { context.risk < 40 };
           @id("big") forbid (principal, action == Action::"stripe.create_refund", resource) when { context.number.hasTag("amount") && context.number.getTag("amount").greaterThan(decimal("5000.0")) };
           @id("refund") permit (principal in Team::"support", action == Action::"stripe.create_refund", resource in Capability::"charges") when { context.number.hasTag("amount") && context.number.getTag("amount").lessThan(decimal("100.0")) };
        "#,
    );
    let mut files = std::collections::BTreeMap::new();
    for n in 4..size {
        if n % 2_000 == 0 {
            files.insert(format!("{n:05}.cedar"), std::mem::take(&mut text));
        }
        let _ = match n % 3 {
            0 => writeln!(
                text,
                "@id(\"p{n}\") permit (principal == Agent::\"agent-{n}\", action in Action::\"OIL-{}\", resource) when {{ context.risk < {} }};",
                101 + n % 9,
                n % 100
            ),
            1 => writeln!(
                text,
                "@id(\"p{n}\") permit (principal in Team::\"team-{n}\", action == Action::\"tool.{n}\", resource in Capability::\"target-{n}\");"
            ),
            _ => writeln!(
                text,
                "@id(\"p{n}\") forbid (principal, action, resource == Resource::\"order/{n}\") unless {{ context.environment == \"production\" }};"
            ),
        };
    }
    files.insert("pack.toml".to_owned(), "name = \"bench\"\nversion = \"1\"\n".to_owned());
    files.insert("last.cedar".to_owned(), text);
    let pack = Pack::parse(&PackSource { files }).unwrap();
    let version = PolicySetVersion::compile(&pack).unwrap();
    let full = version.full().unwrap();
    (version, full)
}

fn asked<T>(ask: impl FnOnce(&EvalRequest<'_>) -> T) -> T {
    let (arguments, none) =
        (intended_model::json::parse(br#"{"amount":40,"charge":"ch_1"}"#).unwrap(), Value::object());
    let session = SessionContext::default();
    ask(&EvalRequest {
        agent: "support-agent",
        agent_kind: "agent",
        trust: 60,
        agent_owner: "platform",
        teams: &["support"],
        tool: "stripe.create_refund",
        category: "OIL-503",
        domain: "OIL-500",
        operation: "transfer",
        resource_kind: "charge",
        resource_id: "ch_1",
        capability: Some("charges"),
        resource_known: true,
        criticality: 2,
        data_class: 2,
        resource_owner: "platform",
        resource_environment: "",
        environment: "production",
        tier: "production",
        confidence: 100,
        indicators: &["financial".into()],
        reversible: "partly",
        risk: 60,
        risk_factors: [75, 100, 30, 50, 60, 0, 40, 0],
        arguments: &arguments,
        subject_claims: &none,
        resource_claims: &none,
        goal_declared: false,
        goal_mentions: &[],
        session_declared: false,
        session: &session,
        budgets: &[("refunds", 1_200)],
        hour: 12,
        minute: 0,
        weekday: 2,
        epoch: 1_795_521_600,
        approvals: 0,
    })
}

/// Median of some rounds, in nanoseconds.
fn median(mut run: impl FnMut()) -> f64 {
    let mut rounds = Vec::new();
    let until = Instant::now() + Duration::from_millis(800);
    while Instant::now() < until || rounds.len() < 5 {
        let started = Instant::now();
        for _ in 0..16 {
            run();
        }
        rounds.push(started.elapsed().as_nanos() as f64 / 16.0);
    }
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args().sample_size(20);
    let mut table = Vec::new();
    let mut group = criterion.benchmark_group("policy");
    for size in SIZES {
        let (version, full) = version(size);
        asked(|r| {
            assert_eq!(version.evaluate(r).unwrap().outcome, full.evaluate(&version, r).unwrap().outcome);
            group.bench_function(BenchmarkId::new("index", size), |b| b.iter(|| version.evaluate(black_box(r))));
            group.bench_function(BenchmarkId::new("cedar", size), |b| b.iter(|| full.evaluate(&version, black_box(r))));
            let index = median(|| drop(black_box(version.evaluate(black_box(r)))));
            let cedar = median(|| drop(black_box(full.evaluate(&version, black_box(r)))));
            table.push((size, index, cedar, version.evaluate(r).unwrap().candidates));
        });
    }
    group.finish();
    let smallest = table[0].1;
    println!(
        "\n{:>9}  {:>10}  {:>11}  {:>11}  {:>8}  {:>10}",
        "policies", "evaluated", "index", "cedar, all", "index/10", "cedar/index"
    );
    for (size, index, cedar, candidates) in table {
        println!(
            "{size:>9}  {candidates:>10}  {:>8.1} µs  {:>8.1} µs  {:>7.2}×  {:>9.1}×",
            index / 1_000.0,
            cedar / 1_000.0,
            index / smallest,
            cedar / index
        );
    }
    println!("promised: 10,000 policies cost at most 1.2 × what 10 cost");
}
