//! `policy bench`: what the number of policies costs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use intended_engine::{State, Version, decide};
use intended_model::ExitCode;
use intended_model::decision::Input;
use serde_json::{Value, json};

use super::files::Files;
use super::{grouped, local, many};
use crate::args::Format;
use crate::cmd::Outcome;
use crate::config::Global;
use crate::error::CliError;
use crate::output::{one, say, table};
use crate::when;

/// Most durations that are kept of one measurement.
const MAX_SAMPLES: usize = 4_000_000;

pub fn run(global: &Global, path: &Path, seconds: u64) -> Outcome {
    let pack = local::load(path)?;
    let cases = |version: &Arc<Version>| {
        intended_rehearse::cases(&pack.suite, version)
            .map_err(|e| CliError::Failed(format!("{}: {e}", path.display()), ExitCode::Invalid))
    };
    let own = cases(&pack.version)?;
    if own.is_empty() {
        return Err(CliError::usage(
            format!("{}: there are no tests, so there is nothing to decide", path.display()),
            "write some in tests/*.yaml, as `intended policy new` does",
        ));
    }
    let single: Files = [
        ("pack.toml", "name = \"one\"\nversion = \"0\"\n"),
        ("one.cedar", "@id(\"one\")\npermit (principal, action, resource);\n"),
    ]
    .into_iter()
    .map(|(name, text)| (name.to_owned(), text.to_owned()))
    .collect();
    let other = cases(&Arc::new(local::compiled(path, &single)?))?;
    // Half the time each, in turns, so that a machine that is slower for a while is so for both.
    let mut sides = [(own, Measured::default()), (other, Measured::default())];
    let turn = Duration::from_millis(100);
    for (cases, _) in &sides {
        Measured::default().measure(cases, turn);
    }
    for _ in 0..seconds * 5 {
        for (cases, measured) in &mut sides {
            measured.measure(cases, turn);
        }
    }
    let [(_, own), (_, one_policy)] = sides;
    let (a, b) = (own.figures(), one_policy.figures());
    let policies = pack.version.compiled.len();
    let hundredths = (a.p50 * 100).checked_div(b.p50).unwrap_or(0);
    let ratio = format!("{}.{:02}", hundredths / 100, hundredths % 100);
    if global.output == Format::Table {
        let line = |name: String, f: &Figures| vec![name, grouped(f.per_second), micros(f.p50), micros(f.p99)];
        let lines = vec![line(many(policies, "policy", "policies"), &a), line("1 policy".to_owned(), &b)];
        say(&table(&["", "decisions/s", "p50", "p99"], lines));
        say(&format!("\nratio of the medians {ratio}; one thread, the pack's own test cases"));
    } else {
        one(
            global.output,
            &json!({"pack": pack.pack.name(), "policies": policies, "own": a.value(), "one_policy": b.value(), "ratio": ratio.parse::<f64>().unwrap_or_default()}),
        );
    }
    Ok(ExitCode::Ok)
}

#[derive(Default)]
struct Measured {
    decisions: u64,
    took: Duration,
    /// Nanoseconds of each decision, of the first so many.
    samples: Vec<u64>,
}

impl Measured {
    /// Decides the cases over and over for so long.
    fn measure(&mut self, cases: &[(Arc<State>, Input)], turn: Duration) {
        let began = when::started();
        let mut at = began;
        while at.duration_since(began) < turn {
            for (state, input) in cases {
                std::hint::black_box(&decide(state, input));
                let now = when::started();
                self.decisions += 1;
                if self.samples.len() < MAX_SAMPLES {
                    self.samples.push(u64::try_from(now.duration_since(at).as_nanos()).unwrap_or(u64::MAX));
                }
                at = now;
            }
        }
        self.took += at.duration_since(began);
    }

    fn figures(mut self) -> Figures {
        self.samples.sort_unstable();
        let last = self.samples.len().saturating_sub(1);
        let at = |percent: usize| self.samples.get(last * percent / 100).copied().unwrap_or(0);
        let per_second = (u128::from(self.decisions) * 1_000_000_000).div_euclid(self.took.as_nanos().max(1));
        Figures { per_second: u64::try_from(per_second).unwrap_or(u64::MAX), p50: at(50), p99: at(99) }
    }
}

struct Figures {
    per_second: u64,
    /// Nanoseconds.
    p50: u64,
    p99: u64,
}

impl Figures {
    fn value(&self) -> Value {
        json!({"decisions_per_second": self.per_second, "p50_ns": self.p50, "p99_ns": self.p99})
    }
}

fn micros(nanos: u64) -> String {
    format!("{}.{} µs", nanos / 1000, nanos % 1000 / 100)
}
