//! What a decision's policy costs as the set grows: the index, and beside it Cedar's authorizer over
//! the whole set, for 10 to 10,000 policies. At the end the ratios.
//!
//! Each size is asked in two ways. *Spread*: [`REQUESTS`] requests of different agents for different
//! tools and targets, one after the other, so that a large set pays for memory that is not in the
//! cache. *One*: the same request again and again, where all is in the cache. Every request has the
//! same number of policies to evaluate at every size: only the set's size differs. The index is asked as
//! a decision asks it, on what its candidates' conditions look at; Cedar's side has everything.
//!
//! `cargo bench -p intended-policy -- table` skips the single measurements and prints the table.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::indexing_slicing
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion};
use intended_model::Value;
use intended_model::decision::SessionContext;
use intended_policy::compiled::Full;
use intended_policy::{EvalRequest, Pack, PackSource, PolicySetVersion};

const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];
const REQUESTS: usize = 1_000;
/// Policies of each request: two for everyone, one of its agent, one of its tool, one of its target.
const EVALUATED: usize = 5;
/// A pack's file is at most 1 MiB.
const POLICIES_PER_FILE: usize = 2_000;
/// What 10,000 policies may cost at most, in what 10 cost.
const PROMISE: f64 = 1.2;

/// As an organisation has them: a few rules for everyone, the rest by agent, team, tool and target.
fn pack(size: usize) -> Pack {
    let shared = [
        r#"@id("risky") forbid (principal, action, resource) when { context.risk > 90 };"#,
        r#"@id("never") forbid (principal, action in Action::"op:delete", resource) when { context.risk > 60 };"#,
        r#"@id("reads") permit (principal in Team::"support", action in Action::"op:read", resource) when { context.risk < 40 };"#,
        r#"@id("refund") permit (principal in Team::"support", action == Action::"stripe.create_refund", resource in Capability::"charges") when { context.number.hasTag("amount") && context.number.getTag("amount").lessThan(decimal("100.0")) };"#,
    ];
    let mut files = BTreeMap::from([("pack.toml".to_owned(), "name = \"bench\"\nversion = \"1\"\n".to_owned())]);
    for n in 0..size {
        let text = files.entry(format!("p{}.cedar", n / POLICIES_PER_FILE)).or_default();
        let _ = match (shared.get(n), n % 3) {
            (Some(policy), _) => writeln!(text, "{policy}"),
            (None, 0) => writeln!(
                text,
                "@id(\"p{n}\") permit (principal == Agent::\"agent-{n}\", action in Action::\"OIL-{}\", resource) when {{ context.risk < {} }};",
                101 + n % 9,
                n % 100
            ),
            (None, 1) => writeln!(
                text,
                "@id(\"p{n}\") permit (principal in Team::\"team-{n}\", action == Action::\"tool.{n}\", resource in Capability::\"target-{n}\");"
            ),
            (None, _) => writeln!(
                text,
                "@id(\"p{n}\") forbid (principal, action, resource == Resource::\"order/{n}\") unless {{ context.environment == \"production\" }};"
            ),
        };
    }
    Pack::parse(&PackSource { files }).unwrap()
}

/// One request's own words.
struct Asked {
    agent: String,
    category: String,
    tool: String,
    team: String,
    capability: String,
    order: String,
}

/// Requests that each meet one policy of every kind, spread over the set.
fn asked(size: usize) -> Vec<Asked> {
    // The policies of one kind stand from 4 on, three apart.
    let pick = |k: usize, rest: usize| {
        let first = (4..7).find(|n| n % 3 == rest).unwrap();
        first + 3 * (k.wrapping_mul(0x9E37_79B9) % (size - first).div_ceil(3))
    };
    let one = |k: usize| {
        let (agent, tool, order) = (pick(k, 0), pick(k + REQUESTS, 1), pick(k + 2 * REQUESTS, 2));
        Asked {
            agent: format!("agent-{agent}"),
            category: format!("OIL-{}", 101 + agent % 9),
            tool: format!("tool.{tool}"),
            team: format!("team-{tool}"),
            capability: format!("target-{tool}"),
            order: order.to_string(),
        }
    };
    (0..REQUESTS).map(one).collect()
}

/// What is the same in all requests.
struct Common {
    arguments: Value,
    none: Value,
    session: SessionContext,
}

fn request<'a>(asked: &'a Asked, teams: &'a [&'a str], common: &'a Common) -> EvalRequest<'a> {
    EvalRequest {
        agent: &asked.agent,
        agent_kind: "agent",
        trust: 60,
        agent_owner: "platform",
        teams,
        tool: &asked.tool,
        category: &asked.category,
        domain: "OIL-100",
        operation: "read",
        resource_kind: "order",
        resource_id: &asked.order,
        capability: Some(&asked.capability),
        resource_known: true,
        criticality: 2,
        data_class: 2,
        resource_owner: "platform",
        resource_environment: "",
        environment: "production",
        tier: "production",
        confidence: 100,
        indicators: &[],
        reversible: "partly",
        risk: 60,
        risk_factors: [75, 100, 30, 50, 60, 0, 40, 0],
        arguments: &common.arguments,
        subject_claims: &common.none,
        resource_claims: &common.none,
        context_claims: &common.none,
        goal_declared: false,
        goal_mentions: &[],
        session_declared: false,
        session: &common.session,
        budgets: &[("refunds", 1_200)],
        hour: 12,
        minute: 0,
        weekday: 2,
        epoch: 1_795_521_600,
        approvals: 0,
    }
}

/// One size: the version, all of it as one Cedar set, and who asks.
struct Sized<'a> {
    version: PolicySetVersion,
    full: Full,
    requests: Vec<EvalRequest<'a>>,
}

fn index(sized: &Sized<'_>, k: usize) {
    black_box(sized.version.evaluate(black_box(&sized.requests[k % REQUESTS])).unwrap());
}
fn cedar(sized: &Sized<'_>, k: usize) {
    black_box(sized.full.evaluate(&sized.version, black_box(&sized.requests[k % REQUESTS])).unwrap());
}

impl Sized<'_> {
    /// The index evaluates what it should and says what Cedar says.
    fn check(&self) {
        for r in self.requests.iter().step_by(REQUESTS / 10) {
            let (index, cedar) = (self.version.evaluate(r).unwrap(), self.full.evaluate(&self.version, r).unwrap());
            assert_eq!((&index.outcome, &index.determining), (&cedar.outcome, &cedar.determining));
            assert_eq!((index.candidates, cedar.candidates), (EVALUATED, self.version.len()));
        }
    }
}

/// Medians in nanoseconds, one for each of `sizes`, of rounds of `per_round` runs. The sizes take
/// turns, so that a machine which becomes slower or faster meanwhile does so for all of them; each
/// turn begins with one round that is not counted, so that none pays for what another left behind.
fn medians(sizes: &[Sized<'_>], per_round: usize, run: impl Fn(&Sized<'_>, usize)) -> Vec<f64> {
    let mut rounds = vec![Vec::new(); sizes.len()];
    let until = Instant::now() + Duration::from_secs(6);
    while Instant::now() < until || rounds[0].len() < 9 {
        for (size, rounds) in sizes.iter().zip(&mut rounds) {
            (0..per_round).for_each(|k| run(size, k));
            for _ in 0..3 {
                let started = Instant::now();
                (0..per_round).for_each(|k| run(size, k));
                rounds.push(started.elapsed().as_nanos() as f64 / per_round as f64);
            }
        }
    }
    let median = |mut rounds: Vec<f64>| {
        rounds.sort_by(f64::total_cmp);
        rounds[rounds.len() / 2]
    };
    rounds.into_iter().map(median).collect()
}

fn main() {
    let common = Common {
        arguments: intended_model::json::parse(br#"{"amount":40,"charge":"ch_1"}"#).unwrap(),
        none: Value::object(),
        session: SessionContext::default(),
    };
    let asked = SIZES.map(asked);
    let teams = asked.each_ref().map(|all| all.iter().map(|a| ["support", a.team.as_str()]).collect::<Vec<_>>());
    let sizes: Vec<Sized<'_>> = SIZES
        .iter()
        .zip(asked.iter().zip(&teams))
        .map(|(size, (asked, teams))| {
            let version = PolicySetVersion::compile(&pack(*size)).unwrap();
            assert_eq!(version.len(), *size);
            let full = version.full().unwrap();
            let requests = asked.iter().zip(teams).map(|(a, teams)| request(a, teams, &common)).collect();
            Sized { version, full, requests }
        })
        .collect();
    sizes.iter().for_each(Sized::check);

    let mut criterion =
        Criterion::default().sample_size(20).measurement_time(Duration::from_secs(3)).configure_from_args();
    let mut group = criterion.benchmark_group("policy");
    for (size, sized) in SIZES.iter().zip(&sizes) {
        for (name, run) in [("index", index as fn(&Sized<'_>, usize)), ("cedar", cedar)] {
            group.bench_function(BenchmarkId::new(name, size), |b| {
                let mut k = 0;
                b.iter(|| {
                    k += 1;
                    run(sized, k);
                });
            });
        }
    }
    group.finish();

    let spread = medians(&sizes, REQUESTS, index);
    let one = medians(&sizes, REQUESTS, |sized, _| index(sized, 0));
    let full = medians(&sizes, 2, cedar);
    println!("\n policies  evaluated    index, spread       ×10    index, one       ×10    cedar, all  cedar/index");
    for (n, size) in SIZES.iter().enumerate() {
        println!(
            "{size:>9}  {EVALUATED:>9}  {:>12.1} µs  {:>7.2}×  {:>8.1} µs  {:>8.2}×  {:>9.1} µs  {:>10.1}×",
            spread[n] / 1_000.0,
            spread[n] / spread[0],
            one[n] / 1_000.0,
            one[n] / one[0],
            full[n] / 1_000.0,
            full[n] / spread[n]
        );
    }
    for (how, at) in [("spread", &spread), ("one", &one)] {
        let ratio = at[SIZES.len() - 1] / at[0];
        let kept = if ratio <= PROMISE { "kept" } else { "NOT KEPT" };
        println!("promised: 10,000 policies cost at most {PROMISE}× what 10 cost; {how}: {ratio:.2}×, {kept}");
    }
}
