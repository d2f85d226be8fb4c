//! `readiness`.

use std::time::Duration;

use intended_model::{EnvironmentId, ExitCode};
use serde_json::{Map, Value, json};

use super::Outcome;
use crate::args::{Format, Readiness, ReadinessCheck};
use crate::client::Client;
use crate::config::Global;
use crate::error::CliError;
use crate::output::{list, note, one, safe, say, table};
use crate::when;

/// How often the way to the server is gone for the figure of it.
const ROUND_TRIPS: usize = 5;

pub async fn run(global: &Global, args: Readiness) -> Outcome {
    match args {
        Readiness::Check(args) => check(global, &args).await,
        Readiness::History { limit, cursor } => history(global, limit, cursor).await,
    }
}

fn text(of: &Value, name: &str) -> String {
    of.get(name).map(|v| v.as_str().map_or_else(|| v.to_string(), safe)).unwrap_or_default()
}

fn rows<'v>(of: &'v Value, name: &str) -> &'v [Value] {
    of.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

async fn check(global: &Global, args: &ReadinessCheck) -> Outcome {
    let client = Client::new(global)?;
    let mut body = Map::new();
    // Not a profile's: a check says itself what it is about, and without that it is about everything.
    if let Some(environment) = &global.environment_flag {
        let id = EnvironmentId::new(environment).map_err(|e| CliError::Usage(format!("-e: {e}"), None))?;
        body.insert("environments".to_owned(), json!([id]));
    }
    if !args.thresholds.is_empty() {
        let bounds =
            args.thresholds.iter().map(|(name, warn, fail)| (name.clone(), json!({"warn": warn, "fail": fail})));
        body.insert("thresholds".to_owned(), Value::Object(bounds.collect()));
    }
    if !client.says_only() {
        let took = u64::try_from(round_trip(&client).await?.as_micros()).unwrap_or(u64::MAX);
        body.insert("round_trip_micros".to_owned(), took.into());
    }
    let run = client.change("readiness", &Value::Object(body)).await?.body;
    let verdict = text(&run, "verdict");
    if global.output == Format::Table {
        say(&shown(&run, global.verbose));
    } else {
        one(global.output, &run);
    }
    match run.get("run").and_then(Value::as_u64) {
        Some(number) => note(&format!("kept as run {number}: intended readiness history")),
        None => note("warning: the run could not be kept: the store takes nothing"),
    }
    match verdict.as_str() {
        "pass" => Ok(ExitCode::Ok),
        "warn" if !args.strict => {
            note("warning: ready, but not everything is as it should be");
            Ok(ExitCode::Ok)
        }
        _ => Ok(ExitCode::Invalid),
    }
}

/// The middle one of some ways to the server and back, over a connection that is open.
async fn round_trip(client: &Client) -> Result<Duration, CliError> {
    client.text("/livez").await?;
    let mut times = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let started = when::started();
        client.text("/livez").await?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    Ok(times.get(ROUND_TRIPS / 2).copied().unwrap_or_default())
}

/// A run as people read it: a line for each measurement, or with `every` for each figure; then what to
/// do; then whether it is ready.
fn shown(run: &Value, every: bool) -> String {
    let measurements = rows(run, "measurements");
    let mut lines = Vec::new();
    for measurement in measurements {
        let name = text(measurement, "measurement");
        if !every {
            let line = |f: &Value| vec![name.clone(), text(measurement, "verdict"), figure(f), bound(f)];
            lines.extend(worst(measurement).map(line));
            continue;
        }
        for (n, of) in rows(measurement, "figures").iter().enumerate() {
            let name = if n == 0 { name.clone() } else { String::new() };
            lines.push(vec![name, text(of, "verdict"), figure(of), bound(of), text(of, "detail")]);
        }
    }
    let header: &[&str] = if every {
        &["measurement", "verdict", "figure", "warns, fails above", "detail"]
    } else {
        &["measurement", "verdict", "figure", "warns, fails above"]
    };
    let mut out = table(header, lines);
    for measurement in measurements {
        for of in rows(measurement, "figures").iter().filter(|f| text(f, "verdict") != "pass") {
            out.push_str(&format!("\n\n{}: {}, {}", text(of, "verdict"), text(measurement, "measurement"), figure(of)));
            if of.get("bound").is_none() || of.get("value").is_none() {
                out.push_str(&format!("\n  {}", text(of, "detail")));
            } else {
                out.push_str(&format!(", above {} ({})", exceeded(of), text(of, "threshold")));
            }
            out.push_str(&format!("\n  do: {}", text(of, "do")));
        }
    }
    let failed = measurements.iter().filter(|m| text(m, "verdict") == "fail").count();
    let warned = measurements.iter().filter(|m| text(m, "verdict") == "warn").count();
    let of = measurements.len();
    let summary = match (failed, warned) {
        (0, 0) => format!("ready: all {of} measurements pass"),
        (0, warned) => format!("ready, with warnings: {warned} of {of} measurements warn"),
        (failed, _) => format!("not ready: {failed} of {of} measurements failed"),
    };
    let places: Vec<String> = rows(run, "environments").iter().filter_map(Value::as_str).map(safe).collect();
    format!("{out}\n\n{summary} ({})", places.join(", "))
}

/// The figure that says most of a measurement: the worst, and of those the one that is closest to its
/// threshold or furthest above. What could not be measured at all comes first of what did not pass; what
/// has no number comes last of what did.
fn worst(measurement: &Value) -> Option<&Value> {
    let rank = |f: &Value| ["pass", "warn", "fail"].iter().position(|v| *v == text(f, "verdict")).unwrap_or(2);
    let number = |f: &Value, at: &str| f.pointer(at).and_then(Value::as_u64);
    // Thousandths of what fails it.
    let share = |f: &Value| match (number(f, "/value"), number(f, "/bound/fail")) {
        (Some(value), Some(fail)) => u128::from(value) * 1000 / u128::from(fail.max(1)) + 1,
        _ if rank(f) > 0 => u128::MAX,
        _ => 0,
    };
    // Of equals the first.
    rows(measurement, "figures").iter().rev().max_by_key(|f| (rank(f), share(f)))
}

/// `production p99 0.041 ms`.
fn figure(of: &Value) -> String {
    let place = of.get("environment").and_then(Value::as_str).map(|e| format!("{} ", safe(e))).unwrap_or_default();
    let value = of.get("value").and_then(Value::as_u64).map(|v| format!(" {}", amount(v, &text(of, "unit"))));
    format!("{place}{}{}", text(of, "figure"), value.unwrap_or_default())
}

fn bound(of: &Value) -> String {
    let Some(bound) = of.get("bound") else { return String::new() };
    let side =
        |name: &str| bound.get(name).and_then(Value::as_u64).map(|v| amount(v, &text(of, "unit"))).unwrap_or_default();
    format!("{}, {}", side("warn"), side("fail"))
}

/// The bound that was exceeded.
fn exceeded(of: &Value) -> String {
    let side = if text(of, "verdict") == "fail" { "/bound/fail" } else { "/bound/warn" };
    of.pointer(side).and_then(Value::as_u64).map(|v| amount(v, &text(of, "unit"))).unwrap_or_default()
}

/// A number with the unit that it reads best in.
fn amount(value: u64, unit: &str) -> String {
    match unit {
        "micros" if value < 1_000 => format!("{value} µs"),
        "micros" if value < 1_000_000 => decimal(value, 1_000, "ms"),
        "micros" => decimal(value, 1_000_000, "s"),
        "seconds" => when::span(i64::try_from(value).unwrap_or(i64::MAX)),
        "days" if value == 1 => "1 day".to_owned(),
        _ => format!("{value} {unit}"),
    }
}

/// With one digit after the point, unless that is 0.
fn decimal(value: u64, of: u64, unit: &str) -> String {
    match (value / of, value % of * 10 / of) {
        (whole, 0) => format!("{whole} {unit}"),
        (whole, tenth) => format!("{whole}.{tenth} {unit}"),
    }
}

async fn history(global: &Global, limit: u64, cursor: Option<String>) -> Outcome {
    let client = Client::new(global)?;
    let found = client.list("readiness", &[], "runs", limit, cursor).await?;
    if global.output != Format::Table {
        list(global.output, &found.rows, &[]);
    } else {
        let row = |run: &Value| {
            let bad = rows(run, "measurements").iter().filter(|m| text(m, "verdict") != "pass");
            let bad: Vec<String> = bad.map(|m| format!("{}: {}", text(m, "measurement"), text(m, "verdict"))).collect();
            let places: Vec<String> = rows(run, "environments").iter().filter_map(Value::as_str).map(safe).collect();
            let about = if run.get("whole") == Some(&Value::Bool(true)) { "all".to_owned() } else { places.join(", ") };
            vec![
                text(run, "run"),
                text(run, "at"),
                text(run, "verdict"),
                about,
                text(run, "by"),
                text(run, "node"),
                bad.join("; "),
            ]
        };
        let header = ["run", "at", "verdict", "environments", "by", "node", "not passed"];
        say(&table(&header, found.rows.iter().map(row).collect()));
        if found.rows.is_empty() {
            note("no check was made yet: intended readiness check");
        }
    }
    if let Some(cursor) = found.cursor {
        note(&format!("more: --cursor {}", safe(&cursor)));
    }
    Ok(ExitCode::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_in_the_unit_that_fits() {
        for (value, unit, expected) in [
            (0, "micros", "0 µs"),
            (999, "micros", "999 µs"),
            (1_000, "micros", "1 ms"),
            (12_345, "micros", "12.3 ms"),
            (2_000_000, "micros", "2 s"),
            (4_050_000, "micros", "4 s"),
            (61, "seconds", "61 s"),
            (600, "seconds", "10 min"),
            (1, "days", "1 day"),
            (365, "days", "365 days"),
        ] {
            assert_eq!(amount(value, unit), expected);
        }
    }

    fn of(verdict: &str, name: &str, value: Option<u64>) -> Value {
        json!({"figure": name, "verdict": verdict, "value": value, "unit": "micros", "bound": {"warn": 10, "fail": 100}})
    }

    #[test]
    fn a_measurement_is_shown_by_its_worst_figure() {
        let name = |figures: &[Value]| worst(&json!({"figures": figures})).map(|f| text(f, "figure")).unwrap();
        assert_eq!(name(&[of("pass", "a", Some(3)), of("pass", "b", Some(7)), of("pass", "c", Some(5))]), "b");
        assert_eq!(name(&[of("warn", "a", Some(99)), of("fail", "b", Some(101)), of("pass", "c", Some(5))]), "b");
        assert_eq!(name(&[of("fail", "a", Some(5_000)), of("fail", "b", None)]), "b", "what did not come at all");
        assert_eq!(name(&[of("pass", "a", None), of("pass", "b", Some(0)), of("pass", "c", Some(0))]), "b", "a number");
    }

    #[test]
    fn what_did_not_pass_is_said_with_what_to_do() {
        let mut slow = of("warn", "p99", Some(50));
        slow["environment"] = json!("production");
        slow["do"] = json!("make it faster");
        slow["threshold"] = json!("signing_p99_micros");
        let run = json!({"environments": ["production"], "measurements": [
            {"measurement": "token signing latency", "verdict": "warn", "figures": [slow]},
            {"measurement": "key material available", "verdict": "pass", "figures": [of("pass", "x", Some(1))]},
        ]});
        let text = shown(&run, false);
        assert!(
            text.contains("warn: token signing latency, production p99 50 µs, above 10 µs (signing_p99_micros)"),
            "{text}"
        );
        assert!(text.contains("\n  do: make it faster"), "{text}");
        assert!(text.ends_with("ready, with warnings: 1 of 2 measurements warn (production)"), "{text}");
    }
}
