//! Readiness: what a run says, that it leaves live traffic alone, whose it is, and how long it is kept.

use std::collections::BTreeMap;

use intended_model::entry::Tier;
use intended_model::{Code, TenantId};
use intended_runtime::Submission;
use intended_runtime::readiness::history::KEPT;
use intended_runtime::readiness::{Ask, Bound, Figure, Limit, MEASUREMENTS, Run, Thresholds, Verdict};
use intended_runtime::tokens::Verification;
use intended_store::{Commit, Write};
use intended_testkit::{World, environment, refund};
use intended_token::{Binding, Refusal, issue_probe};
use serde_json::{Value, json};

use crate::http_edge::{GOOD, INTENTS, app, call, raw};
use crate::operate::{fits, text};

pub const READINESS: &str = "/v1/tenants/acme/readiness";

/// Thresholds that nothing measured here exceeds, however slow the machine is, but for some.
pub fn only(changes: &[(Limit, u64, u64)]) -> Thresholds {
    let far = Bound { warn: u64::MAX / 2, fail: u64::MAX / 2 };
    let mut all: BTreeMap<String, Bound> = Limit::ALL.iter().map(|l| (l.as_str().to_owned(), far)).collect();
    for (limit, warn, fail) in changes {
        all.insert(limit.as_str().to_owned(), Bound { warn: *warn, fail: *fail });
    }
    Thresholds::try_from(all).unwrap()
}

pub async fn check(world: &World) -> Run {
    world.runtime.check_readiness(&world.owner, Ask::default()).await.unwrap()
}

pub fn measured<'r>(run: &'r Run, name: &str) -> (Verdict, &'r [Figure]) {
    let found = run.measurements.iter().find(|m| &*m.measurement == name).unwrap();
    (found.verdict, &found.figures)
}

/// A figure, of the first environment that has it.
pub fn figure<'r>(run: &'r Run, name: &str) -> &'r Figure {
    let mut all = run.measurements.iter().flat_map(|m| &m.figures);
    all.find(|f| &*f.figure == name).unwrap_or_else(|| panic!("{name}: {run:?}"))
}

async fn submit(world: &World, amount: i64) {
    let submission = Submission { intent: refund(amount, None).unwrap(), idempotency_key: None, audience: None };
    world.runtime.submit(&world.owner, submission).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_works_passes_all_five_and_each_figure_stands_beside_its_threshold() {
    let world = World::new().await.unwrap();
    world.runtime.hold_readiness_to(only(&[]));
    world.runtime.save_checkpoint(&world.owner.tenant).await.unwrap();
    let ask = Ask { round_trip_micros: Some(1_500), ..Ask::default() };
    let run = world.runtime.check_readiness(&world.owner, ask).await.unwrap();
    assert_eq!(run.measurements.iter().map(|m| &*m.measurement).collect::<Vec<_>>(), MEASUREMENTS);
    assert_eq!(run.verdict, Verdict::Pass, "{run:#?}");
    assert!(run.whole && !run.stricter && run.run == Some(1) && !run.node.is_empty());
    let names: Vec<String> = run.environments.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["production", "staging"]);
    for (name, limit) in [
        ("store read", Limit::StoreRead),
        ("store write", Limit::StoreWrite),
        ("round trip", Limit::RoundTrip),
        ("key age", Limit::KeyAge),
        ("audit lag", Limit::AuditLag),
        ("checkpoint age", Limit::CheckpointAge),
    ] {
        let of = figure(&run, name);
        assert_eq!((of.threshold.as_deref(), of.unit), (Some(limit.as_str()), Some(limit.unit())), "{name}");
        assert!(of.value.is_some() && of.bound.is_some(), "{name}");
    }
    assert_eq!(figure(&run, "round trip").value, Some(1_500));
    // Both bursts say how many they made, in each environment, and half is not above 99 of 100.
    for (measurement, made) in
        [("policy engine response time", "decisions on"), ("token signing latency", "signatures")]
    {
        let (_, figures) = measured(&run, measurement);
        for place in ["production", "staging"] {
            let of = |name: &str| {
                let found = figures
                    .iter()
                    .find(|f| &*f.figure == name && f.environment.as_ref().is_some_and(|e| e.as_str() == place));
                found.unwrap_or_else(|| panic!("{name} {place}: {figures:?}"))
            };
            let (p50, p99) = (of("p50"), of("p99"));
            assert!(p50.value.unwrap() > 0 && p50.value <= p99.value, "{p50:?} {p99:?}");
            let count: u64 = p50.detail.split(' ').next().unwrap().parse().unwrap();
            assert!(count >= 10 && p50.detail.contains(made), "{}", p50.detail);
        }
    }
    for component in ["gateway", "policy engine", "token service", "audit ledger", "store", "enforcement runtime"] {
        assert_eq!(figure(&run, component).verdict, Verdict::Pass, "{component}");
    }
    // What was asked before is asked again.
    assert!(figure(&run, "p50").detail.contains("made-up"), "{}", figure(&run, "p50").detail);
    submit(&world, 40).await;
    assert!(figure(&check(&world).await, "p50").detail.contains("on recorded intents (1)"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_no_traffic_nothing_is_recorded_or_counted() {
    let (world, app, key) = app().await;
    raw(&app, "POST", INTENTS, Some(&key), Some(GOOD.into()), "application/json").await;
    let counted = async || -> Vec<String> {
        let page = text(&app, "/metrics", Some(&key)).await;
        let ours = page.lines().filter(|l| l.starts_with("intended_") && !l.contains("lag_seconds"));
        // What was asked over HTTP is counted, whatever it was.
        let ours = ours.filter(|l| !l.starts_with("intended_http_requests"));
        ours.map(str::to_owned).collect()
    };
    let places = |world: &World| world.runtime.store().fact_now(&world.owner.tenant.id, "w/since").unwrap();
    let (before, head) = (counted().await, world.runtime.store().head(&world.owner.tenant.id).await.unwrap());
    let noted = places(&world);
    for _ in 0..3 {
        let (status, run) = call(&app, "POST", READINESS, Some(&key), Some(&json!({}))).await;
        assert_eq!(status, 200, "{run}");
    }
    assert!(before.iter().any(|l| l.starts_with("intended_decisions_total")), "{before:?}");
    assert_eq!(counted().await, before, "decisions, tokens, verifications, appends stand where they stood");
    assert_eq!(world.runtime.store().head(&world.owner.tenant.id).await.unwrap(), head, "no entry was made");
    assert_eq!(places(&world), noted);
    // What it wrote to see that it is taken is gone, and what is left follows from no entry and breaks none.
    let left = world.runtime.store().facts(&world.owner.tenant.id, "rd/", "", 10_000).await.unwrap();
    let names: Vec<&str> = left.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["rd/h/001", "rd/h/002", "rd/h/003", "rd/n"]);
    world.runtime.save_checkpoint(&world.owner.tenant).await.unwrap();
    let (header, leaves) = world.export().await.unwrap();
    let mut verifier = intended_verify::Verifier::new(header, None).unwrap();
    leaves.iter().for_each(|leaf| verifier.entry(leaf).unwrap());
    let facts = world.runtime.store().facts(&world.owner.tenant.id, "", "", 100_000).await.unwrap();
    let facts = facts.into_iter().map(|(name, fact)| (name, fact.value));
    verifier.facts(facts, intended_model::Timestamp::from_millis(world.clock_now())).unwrap();
    verifier.finish().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_under_load_leave_every_decision_as_it_would_have_been() {
    let world = World::new().await.unwrap();
    let submits = async {
        let mut outcomes = Vec::new();
        for n in 0..120 {
            let intent = refund(if n % 3 == 0 { 400 } else { 1 }, None).unwrap();
            let submission = Submission { intent, idempotency_key: None, audience: None };
            outcomes.push(world.runtime.submit(&world.owner, submission).await.unwrap());
        }
        outcomes
    };
    let checks = async {
        for _ in 0..3 {
            check(&world).await;
        }
    };
    let (decided, ()) = tokio::join!(submits, checks);
    let mut counted = 0;
    world.runtime.metrics().each(|_, _, of| counted += of.decisions().map(|(.., n)| n).sum::<u64>());
    assert_eq!((decided.len(), counted), (120, 120), "every one was decided once, and no other was");
    for (n, of) in decided.iter().enumerate() {
        let expected = if n % 3 == 0 { Code::PolicyEscalate } else { Code::PolicyPermit };
        assert_eq!(of.record.decision.reason, expected, "{n}");
    }
    assert_eq!(world.runtime.metrics().tokens_issued(), 80);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_signs_with_the_live_key_is_refused_by_online_verification() {
    let world = World::new().await.unwrap();
    let production = environment("production").unwrap();
    let signer = world.owner.tenant.signer(&production).unwrap();
    let probe = issue_probe("n", &*signer).unwrap();
    let binding = Binding::IntentHash(intended_model::Digest::of(b"anything"));
    for audience in ["intended", intended_token::PROBE_AUDIENCE] {
        for consume in [false, true] {
            let said = world.runtime.verify_token(&world.owner, &probe, audience, &production, &binding, consume).await;
            assert!(matches!(said.unwrap(), Verification::Refused(Refusal::Type)), "{audience} {consume}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_outlives_a_restart_and_holds_the_newest_500() {
    let world = World::new().await.unwrap();
    world.runtime.hold_readiness_to(only(&[]));
    let first = check(&world).await;
    world.clock.advance_millis(60_000);
    let second = check(&world).await;
    let world = world.reopen().await.unwrap();
    let page = world.runtime.readiness_history(&world.owner, None, 10).await.unwrap();
    assert_eq!((page.runs, page.before), (vec![second.clone(), first], None));

    // As if many more had been made.
    let place = |n: u64| {
        let run = Run { run: Some(n), ..second.clone() };
        let value = serde_json::to_vec(&run).unwrap();
        Write::Put { key: intended_engine::keys::readiness_run(n % KEPT).into(), value, expires_at: None }
    };
    let mut writes: Vec<Write> = (3..=KEPT).map(place).collect();
    let count = intended_engine::keys::READINESS_COUNT;
    writes.push(Write::Put { key: count.into(), value: KEPT.to_string().into_bytes(), expires_at: None });
    let (tenant, now) = (world.owner.tenant.id.clone(), world.runtime.now());
    let commit = Commit { tenant, now, control_version: None, reads: Vec::new(), writes, entries: Vec::new() };
    world.runtime.store().commit(commit).await.unwrap();
    for n in 1..=2 {
        assert_eq!(check(&world).await.run, Some(KEPT + n));
    }
    let (mut numbers, mut before, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = world.runtime.readiness_history(&world.owner, before, 70).await.unwrap();
        assert!(page.runs.len() <= 70);
        numbers.extend(page.runs.iter().map(|r| r.run.unwrap()));
        pages += 1;
        match page.before {
            Some(next) => before = Some(next),
            None => break,
        }
    }
    assert_eq!(numbers, (3..=KEPT + 2).rev().collect::<Vec<_>>(), "newest first, each once");
    assert_eq!(pages, 8);
    let facts = world.runtime.store().facts(&world.owner.tenant.id, "rd/h/", "", 10_000).await.unwrap();
    assert_eq!(facts.len() as u64, KEPT);
    // A cursor beyond either end is no error, and no wrong page.
    for (at, expected) in [(0, 0), (1, 0), (3, 0), (4, 1), (u64::MAX, 5)] {
        let page = world.runtime.readiness_history(&world.owner, Some(at), 5).await.unwrap();
        assert_eq!(page.runs.len(), expected, "{at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_its_tenants_and_of_the_environments_that_the_caller_sees() {
    let (world, app, key) = app().await;
    let globex = TenantId::new("globex").unwrap();
    let environments = [(environment("vault").unwrap(), Tier::Production, Default::default())];
    let foreign = world.runtime.create_tenant(&globex, &environments).await.unwrap().owner.key;
    assert_eq!(call(&app, "POST", READINESS, Some(&key), Some(&json!({}))).await.0, 200);
    let theirs = "/v1/tenants/globex/readiness";
    let (_, none) = call(&app, "GET", theirs, Some(&foreign), None).await;
    assert_eq!(none, json!({"runs": []}));
    let (_, run) = call(&app, "POST", theirs, Some(&foreign), Some(&json!({}))).await;
    assert_eq!((&run["run"], &run["environments"]), (&json!(1), &json!(["vault"])));
    for secret in ["acme", "production\"", "staging"] {
        assert!(!run.to_string().contains(secret), "{secret}: {run}");
    }
    assert_eq!(call(&app, "GET", READINESS, Some(&foreign), None).await.0, 404);

    let new = json!({"credential": "watch", "environments": ["staging"], "scopes": ["status:read"]});
    let (_, created) = call(&app, "POST", "/v1/tenants/acme/credentials", Some(&key), Some(&new)).await;
    let watch = created["key"].as_str();
    let (_, seen) = call(&app, "GET", READINESS, watch, None).await;
    assert_eq!(seen, json!({"runs": []}), "a run about production is not theirs to see");
    let (status, run) = call(&app, "POST", READINESS, watch, None).await;
    assert_eq!((status, &run["environments"], &run["whole"]), (200, &json!(["staging"]), &json!(false)), "{run}");
    assert!(!run.to_string().contains("production"), "{run}");
    let (_, seen) = call(&app, "GET", READINESS, watch, None).await;
    assert_eq!(seen["runs"].as_array().unwrap().len(), 1);
    let (_, all) = call(&app, "GET", READINESS, Some(&key), None).await;
    let numbers: Vec<u64> = all["runs"].as_array().unwrap().iter().map(|r| r["run"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [2, 1]);
    assert_eq!(all["runs"][0]["by"], "credential watch");
    let asked = json!({"environments": ["production"]});
    let (status, problem) = call(&app, "POST", READINESS, watch, Some(&asked)).await;
    assert_eq!((status, problem["code"].as_str()), (403, Some("credential.environment")), "{problem}");
    let (status, problem) =
        call(&app, "POST", READINESS, Some(&key), Some(&json!({"environments": ["nowhere"]}))).await;
    assert_eq!((status, problem["code"].as_str()), (404, Some("environment.unknown")), "{problem}");
    let new = json!({"credential": "agent", "environments": ["staging"], "scopes": ["intent:submit"]});
    let (_, agent) = call(&app, "POST", "/v1/tenants/acme/credentials", Some(&key), Some(&new)).await;
    for method in ["GET", "POST"] {
        let (status, problem) = call(&app, method, READINESS, agent["key"].as_str(), None).await;
        assert_eq!((status, problem["code"].as_str()), (403, Some("credential.scope")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_runs_it_may_be_stricter_than_the_server_and_never_looser_and_typing_errors_are_refused() {
    let (world, app, key) = app().await;
    world.runtime.hold_readiness_to(only(&[(Limit::KeyAge, 10, 20)]));
    let refused = async |body: Value| {
        let (status, problem) = call(&app, "POST", READINESS, Some(&key), Some(&body)).await;
        assert_eq!(status, 400, "{body}: {problem}");
        (problem["code"].as_str().unwrap().to_owned(), problem["errors"][0]["pointer"].as_str().unwrap().to_owned())
    };
    let of = |code: &str, pointer: &str| (code.to_owned(), pointer.to_owned());
    for looser in [json!({"warn": 11, "fail": 20}), json!({"warn": 10, "fail": 21})] {
        let body = json!({"thresholds": {"key_age_days": looser}});
        assert_eq!(refused(body).await, of("request.invalid", "/thresholds/key_age_days"));
    }
    let body = json!({"thresholds": {"key_age_days": {"warn": 5, "fail": 4}}});
    assert_eq!(refused(body).await, of("request.invalid", "/thresholds/key_age_days"));
    let body = json!({"thresholds": {"key_age_day": {"warn": 1, "fail": 2}}});
    assert_eq!(refused(body).await, of("request.invalid", "/thresholds/key_age_day"));
    assert_eq!(refused(json!({"treshold": {}})).await.0, "request.unknown_field");
    let body = json!({"thresholds": {"key_age_days": {"warn": 1, "fail": 2, "warm": 3}}});
    assert_eq!(refused(body).await.0, "request.unknown_field");
    let (status, _) = call(&app, "GET", &format!("{READINESS}?limt=3"), Some(&key), None).await;
    assert_eq!(status, 400);
    assert!(world.runtime.readiness_history(&world.owner, None, 9).await.unwrap().runs.is_empty(), "none of them ran");

    let body = json!({"thresholds": {"key_age_days": {"warn": 1, "fail": 20}}});
    world.clock.advance_millis(2 * 86_400_000);
    world.runtime.save_checkpoint(&world.owner.tenant).await.unwrap();
    let (_, run) = call(&app, "POST", READINESS, Some(&key), Some(&body)).await;
    assert_eq!((&run["verdict"], &run["stricter"]), (&json!("warn"), &json!(true)), "{run}");
    let (_, run) = call(&app, "POST", READINESS, Some(&key), None).await;
    assert_eq!((&run["verdict"], &run["stricter"]), (&json!("pass"), &json!(false)), "{run}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_as_the_document_describes_them_and_lists_go_on_where_they_were_cut() {
    let (_world, app, key) = app().await;
    let document: Value = serde_json::from_str(&text(&app, "/openapi.json", None).await).unwrap();
    let route = &document["paths"]["/v1/tenants/{tenant}/readiness"];
    let schema = |method: &str| &route[method]["responses"]["200"]["content"]["application/json"]["schema"];
    let request = json!({"environments": ["production"], "thresholds": {"signing_p99_micros": {"warn": 0, "fail": 0}}, "round_trip_micros": 5});
    fits(&document, &route["post"]["requestBody"]["content"]["application/json"]["schema"], &request, "").unwrap();
    for body in [None, Some(&request)] {
        let (status, run) = call(&app, "POST", READINESS, Some(&key), body).await;
        assert_eq!(status, 200, "{run}");
        fits(&document, schema("post"), &run, "").unwrap();
        assert!(fits(&document, schema("post"), &json!({"verdict": "pass"}), "").is_err(), "it tells one that lacks");
    }
    let (_, page) = call(&app, "GET", &format!("{READINESS}?limit=1"), Some(&key), None).await;
    fits(&document, schema("get"), &page, "").unwrap();
    assert_eq!(page["runs"][0]["verdict"], "fail");
    let cursor = page["cursor"].as_str().unwrap();
    let (_, rest) = call(&app, "GET", &format!("{READINESS}?cursor={cursor}"), Some(&key), None).await;
    assert_eq!((&rest["runs"][0]["run"], rest.get("cursor")), (&json!(1), None));
    let (status, _) = call(&app, "GET", &format!("{READINESS}?cursor=x"), Some(&key), None).await;
    assert_eq!(status, 400);
}
