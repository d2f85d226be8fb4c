//! What breakers cost a decision: its median with 1,000 defined, beside none, in one run and in turns.
//! Durable and signed, and once more without the disk. `cargo run --release -p intended-testkit --example breakers`

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::disallowed_methods, reason = "a program that measures")]

use std::time::{Duration, Instant};

use intended_engine::{decide, needs};
use intended_model::Name;
use intended_model::entry::{BreakerDefaults, BreakerRules, BreakerScope, BreakerSpend, BreakerTarget, Settings, Tier};
use intended_runtime::Submission;
use intended_runtime::breakers::{BreakerSpec, HoldSpec};
use intended_testkit::{World, environment, refund};

const DEFINED: usize = 1_000;
const TURNS: usize = 40;
const IN_A_TURN: usize = 100;

async fn world(breakers: bool) -> World {
    let world = World::new().await.unwrap();
    let production = environment("production").unwrap();
    let settings = |_: &Settings| Ok(Settings { breakers: BreakerDefaults::None, ..Settings::default() });
    world.runtime.set_environment(&world.owner, production.clone(), Tier::Production, settings).await.unwrap();
    if !breakers {
        return world;
    }
    for n in 0..DEFINED {
        // Some watch what is decided here, with thresholds that are not reached; the others something else.
        let (scope, target) = match n {
            0 => (BreakerScope::Agent, "support-agent".to_owned()),
            1 => (BreakerScope::Tool, "stripe.create_refund".to_owned()),
            2 => (BreakerScope::Tool, "stripe.*".to_owned()),
            3 => (BreakerScope::Connector, "stripe".to_owned()),
            4 => (BreakerScope::Category, "OIL-5*".to_owned()),
            _ => match n % 5 {
                0 => (BreakerScope::Agent, format!("agent-{n}")),
                1 => (BreakerScope::Tool, format!("tool.{n}")),
                2 => (BreakerScope::Tool, format!("{}.{n}*", "x".repeat(n % 50))),
                3 => (BreakerScope::Connector, format!("system-{n}")),
                _ => (BreakerScope::Category, format!("OIL-{n}")),
            },
        };
        let rules = BreakerRules {
            error_rate_permille: Some(500),
            denial_rate_permille: Some(900),
            velocity: Some(1_000_000),
            spend: Some(BreakerSpend { argument: "amount".into(), limit: 1 << 50 }),
            ..BreakerRules::default()
        };
        let on = BreakerTarget { scope, target: Some(target.into()) };
        let name = Name::new(&format!("b{n}")).unwrap();
        let spec = BreakerSpec { active: true, environment: Some(production.clone()), on: Some(on), rules };
        world.runtime.set_breaker(&world.owner, name.clone(), spec).await.unwrap();
        if n >= DEFINED - 100 {
            let hold = HoldSpec { environment: None, on: None, reason: "held".into() };
            world.runtime.hold_breaker(&world.owner, name, hold).await.unwrap();
        }
    }
    world
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}

#[tokio::main]
async fn main() {
    let worlds = [world(false).await, world(true).await];
    let (mut durable, mut pure) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for turn in 0..TURNS {
        for (at, world) in worlds.iter().enumerate() {
            // The first turn warms up.
            let keep = |times: &mut Vec<Duration>, took| {
                if turn > 0 {
                    times.push(took)
                }
            };
            let mut last = None;
            for _ in 0..IN_A_TURN {
                let intent = refund(1, None).unwrap();
                let started = Instant::now();
                let submission = Submission { intent, idempotency_key: None, audience: None };
                let decided = world.runtime.submit(&world.owner, submission).await.unwrap();
                keep(&mut durable[at], started.elapsed());
                assert!(decided.token.is_some());
                last = Some(decided.record.input);
            }
            let (state, input) = (world.owner.tenant.state(), last.unwrap());
            for _ in 0..IN_A_TURN {
                let started = Instant::now();
                std::hint::black_box(needs(&state, input.procedure, &input.intent, input.at));
                std::hint::black_box(decide(&state, &input));
                keep(&mut pure[at], started.elapsed());
            }
        }
    }
    for (what, times) in [("decided, durable, signed", &mut durable), ("decided only", &mut pure)] {
        let [none, many] = times.each_mut().map(|t| median(t));
        println!("{what:<26} p50 {none:>8.1} µs without, {many:>8.1} µs with {DEFINED} breakers: {:.3} ×", many / none);
    }
}
