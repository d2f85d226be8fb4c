//! The capability truth matrix: that each row is what is so, seen by breaking what it is about; and that
//! what is claimed is described, tested and said of in the README.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use intended_engine::keys;
use intended_model::entry::{BODY_VERSION, MemberSet, Role, RoleGrant, Settings, Tier};
use intended_model::{Event, MemberId, Name, TenantId};
use intended_runtime::capabilities::{Capability, KEPT_MS};
use intended_runtime::siem::{Collector, Exporter, Filter, Format, Line, Sending, Sink, SinkSpec, Start};
use intended_runtime::webhooks::{Notifier, Post, Reach, WebhookSpec};
use intended_store::{Commit, Write};
use intended_testkit::{World, environment};
use serde_json::{Value, json};

use crate::http_edge::{GOOD, INTENTS, app, call, raw};
use crate::slow;

const AT: &str = "/v1/tenants/acme/capabilities";

/// What is found now, by capability: not what was found before.
pub async fn found(world: &World, app: &axum::Router, key: &str) -> BTreeMap<String, (String, String)> {
    world.clock.advance_millis(KEPT_MS);
    let (status, body) = call(app, "GET", AT, Some(key), None).await;
    assert_eq!(status, 200, "{body}");
    let text = |row: &Value, member: &str| row[member].as_str().unwrap().to_owned();
    let rows = body["capabilities"].as_array().unwrap().iter();
    rows.map(|row| (text(row, "capability"), (text(row, "status"), text(row, "result")))).collect()
}

fn with_status<'f>(found: &'f BTreeMap<String, (String, String)>, status: &str) -> Vec<&'f str> {
    found.iter().filter(|(_, (s, _))| s == status).map(|(id, _)| id.as_str()).collect()
}

#[track_caller]
pub fn is(found: &BTreeMap<String, (String, String)>, capability: &str, status: &str, says: &str) {
    let (is, result) = &found[capability];
    assert!(is == status && result.contains(says), "{capability} is {is}: {result}; wanted {status}: {says}");
}

pub async fn submit(app: &axum::Router, key: &str) -> u64 {
    let (status, body) = raw(app, "POST", INTENTS, Some(key), Some(GOOD.into()), "application/json").await;
    assert_eq!(status, 200, "{body}");
    body["index"].as_u64().unwrap_or_else(|| body["receipt"]["index"].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_tenant_that_is_well_every_capability_is_probed_and_none_is_unavailable() {
    let (world, app, key) = app().await;
    let before = found(&world, &app, &key).await;
    is(&before, "replay", "not configured", "nothing was decided");
    submit(&app, &key).await;
    let found = found(&world, &app, &key).await;
    assert_eq!(found.len(), Capability::ALL.len());
    assert_eq!(with_status(&found, "unavailable"), Vec::<&str>::new(), "{found:#?}");
    // What this tenant has not set up, and what it has in part: its one owner, nobody to approve.
    let unset = with_status(&found, "not configured");
    for id in ["webhooks", "siem", "identity-providers", "break-glass", "drills", "postgres", "rate-limit", "passwords"]
    {
        assert!(unset.contains(&id), "{id}: {unset:?}");
    }
    assert_eq!(with_status(&found, "degraded"), ["approvers", "halt-reach"], "{found:#?}");
    is(&found, "sqlite", "working", "SQLite");
    is(&found, "policy-index", "working", "alike in 2 environments");
    is(&found, "token-signing", "working", "2 environments sign");
    is(&found, "halt", "working", "6 of 6 scopes");
    is(&found, "budgets", "working", "2 set");
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_leave_ledger_state_and_facts_as_they_are() {
    let (world, app, key) = app().await;
    submit(&app, &key).await;
    let tenant = &world.owner.tenant;
    let ledger = async || {
        let head = world.runtime.store().head(&tenant.id).await.unwrap();
        (head.size, head.root, head.control_version, tenant.state().control)
    };
    let before = ledger().await;
    let counted = world.runtime.metrics().tokens_issued();
    found(&world, &app, &key).await;
    assert_eq!(ledger().await, before);
    assert_eq!(world.runtime.metrics().tokens_issued(), counted, "no token was issued");
    for prefix in ["y/", "i/", keys::CONSUMED_PREFIX, keys::BUDGET_PREFIX] {
        let left = world.runtime.store().facts(&tenant.id, prefix, "", 10).await.unwrap();
        let probes: Vec<_> = left.iter().filter(|(key, _)| prefix == "y/" || key.contains("probe")).collect();
        assert!(probes.is_empty(), "{prefix}: {probes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_found_is_kept_for_some_seconds_and_of_one_area_alone_if_asked() {
    let (world, app, key) = app().await;
    let at = async |query: &str| {
        let (status, body) = call(&app, "GET", &format!("{AT}{query}"), Some(&key), None).await;
        assert_eq!(status, 200, "{body}");
        body["capabilities"].as_array().unwrap().clone()
    };
    let first = at("?area=emergency").await;
    assert!(first.iter().all(|row| row["area"] == "emergency") && first.len() > 5, "{first:?}");
    world.clock.advance_millis(KEPT_MS - 1);
    let all = at("").await;
    let row = |rows: &[Value], id: &str| rows.iter().find(|r| r["capability"] == id).unwrap().clone();
    assert_eq!(row(&all, "halt")["probed_at"], row(&first, "halt")["probed_at"], "it is shown again");
    assert_ne!(row(&all, "gates")["probed_at"], row(&first, "halt")["probed_at"], "it was not asked for before");
    world.clock.advance_millis(1);
    assert_ne!(row(&at("").await, "halt")["probed_at"], row(&first, "halt")["probed_at"], "it is probed again");
    let (status, body) = call(&app, "GET", &format!("{AT}?area=weather"), Some(&key), None).await;
    assert_eq!(status, 400, "{body}");
    assert!(body["errors"][0]["message"].as_str().unwrap().contains("emergency"), "it says which there are: {body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_told_to_who_may_read_the_status_and_says_what_they_see() {
    let (world, app, key) = app().await;
    submit(&app, &key).await;
    assert_eq!(call(&app, "GET", AT, None, None).await.0, 401);
    let (narrow, blind) = (
        json!({"credential": "narrow", "environments": ["staging"], "scopes": ["status:read"]}),
        json!({"credential": "blind", "environments": ["staging"], "scopes": ["intent:submit"]}),
    );
    let new = async |spec| {
        let (status, body) = call(&app, "POST", "/v1/tenants/acme/credentials", Some(&key), Some(spec)).await;
        assert_eq!(status, 201, "{body}");
        body["key"].as_str().unwrap().to_owned()
    };
    let (narrow, blind) = (new(&narrow).await, new(&blind).await);
    assert_eq!(call(&app, "GET", AT, Some(&blind), None).await.0, 403);
    // What is wrong in production is not theirs to know, nor anything else of it.
    world.runtime.halt(&world.owner, Some(environment("production").unwrap()), "a secret reason").await.unwrap();
    let theirs = found(&world, &app, &narrow).await;
    for (id, (_, result)) in &theirs {
        // A policy of theirs is called `release.production`.
        let others = result.replace("release.production", "").contains("production");
        assert!(!others && !result.contains("secret"), "{id}: {result}");
    }
    is(&theirs, "halt", "working", "0 halts in force");
    is(&theirs, "replay", "not configured", "nothing was decided");
    is(&found(&world, &app, &key).await, "halt", "working", "1 halt in force");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halt_or_a_suspension_in_force_makes_no_row_unavailable() {
    let (world, app, key) = app().await;
    submit(&app, &key).await;
    world.runtime.halt(&world.owner, None, "stop").await.unwrap();
    let under = found(&world, &app, &key).await;
    assert_eq!(with_status(&under, "unavailable"), Vec::<&str>::new(), "{under:#?}");
    is(&under, "revocation-list", "working", "with a halt in force");
    let suspend = json!({"reason": "being rebuilt"});
    let (status, body) =
        call(&app, "POST", "/v1/tenants/acme/environments/production/suspend", Some(&key), Some(&suspend)).await;
    assert_eq!(status, 200, "{body}");
    let under = found(&world, &app, &key).await;
    assert_eq!(with_status(&under, "unavailable"), Vec::<&str>::new(), "{under:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_takes_no_writes_is_seen_by_what_writes() {
    let (world, store) = slow::world().await;
    let app = intended_api::router(intended_api::App::new(world.runtime.clone()));
    let key = world.owner_key.clone();
    submit(&app, &key).await;
    store.read_only.store(true, std::sync::atomic::Ordering::SeqCst);
    let broken = found(&world, &app, &key).await;
    is(&broken, "durable-writes", "unavailable", "no writes");
    assert_eq!(
        with_status(&broken, "unavailable"),
        ["budgets", "durable-writes", "fence", "idempotency", "single-use"],
        "what reads goes on: {broken:#?}"
    );
    store.read_only.store(false, std::sync::atomic::Ordering::SeqCst);
    let whole = found(&world, &app, &key).await;
    assert_eq!(with_status(&whole, "unavailable"), Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_key_that_does_not_unseal_is_named_before_the_server_is_restarted() {
    let (world, app, key) = app().await;
    let tenant = &world.owner.tenant;
    let state = tenant.state();
    let production = environment("production").unwrap();
    let kid = state.environments[&production].keys.last().unwrap().kid.clone();
    let name: Box<str> = keys::sealed_key("production", &kid).into();
    let sealed = world.runtime.store().fact_now(&tenant.id, &name).unwrap().unwrap().value;
    let put = async |value: Vec<u8>| {
        let writes = vec![Write::Put { key: name.clone(), value, expires_at: None }];
        let (now, reads, entries) = (world.runtime.now(), Vec::new(), Vec::new());
        let commit = Commit { tenant: tenant.id.clone(), now, control_version: None, reads, writes, entries };
        world.runtime.store().commit(commit).await.unwrap();
    };
    let mut flipped = sealed.clone();
    let last = flipped.len() - 3;
    flipped[last] = if flipped[last] == b'A' { b'B' } else { b'A' };
    put(flipped).await;
    let broken = found(&world, &app, &key).await;
    is(&broken, "keys-at-rest", "unavailable", "of `production`");
    is(&broken, "token-signing", "working", "");
    put(sealed).await;
    is(&found(&world, &app, &key).await, "keys-at-rest", "working", "3 keys");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_policy_is_deployed_is_said() {
    let (world, app, _) = app().await;
    let tenant = TenantId::new("globex").unwrap();
    let place = |e: &str| (environment(e).unwrap(), Tier::Production, Settings::default());
    let made = world.runtime.create_tenant(&tenant, &[place("one"), place("two")]).await.unwrap();
    let owner = world.runtime.authenticate(&made.owner.key).unwrap();
    let status = async || {
        world.clock.advance_millis(KEPT_MS);
        let at = "/v1/tenants/globex/capabilities?area=policy";
        let (_, body) = call(&app, "GET", at, Some(&made.owner.key), None).await;
        let row =
            body["capabilities"].as_array().unwrap().iter().find(|r| r["capability"] == "policy-deployed").cloned();
        let row = row.unwrap();
        (row["status"].as_str().unwrap().to_owned(), row["result"].as_str().unwrap().to_owned())
    };
    assert_eq!(status().await.0, "not configured");
    let files = [
        ("pack.toml", "name = \"small\"\nversion = \"1.0.0\"\n"),
        ("small.cedar", "@id(\"small\") permit (principal, action == Action::\"orders.get_order\", resource);"),
    ];
    let files: BTreeMap<String, String> = files.map(|(n, t)| (n.to_owned(), t.to_owned())).into();
    for (deploy, wanted, says) in
        [("one", "degraded", "nothing is deployed in two"), ("two", "working", "2 environments")]
    {
        world.runtime.deploy_pack(&owner, &environment(deploy).unwrap(), files.clone()).await.unwrap();
        let (is, result) = status().await;
        assert!(is == wanted && result.contains(says), "{is}: {result}");
    }
}

/// Takes events, or does not.
#[derive(Clone, Default)]
struct Taker(Arc<Mutex<Option<String>>>);

impl Collector for Taker {
    fn send<'a>(&'a mut self, _batch: &'a [Line]) -> Sending<'a, Duration> {
        let why = self.0.lock().unwrap().clone();
        Box::pin(async move { why.map_or(Ok(Duration::ZERO), Err) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_fails_is_degraded_and_working_when_it_takes_events_again() {
    let (world, app, key) = app().await;
    let spec = SinkSpec {
        name: Name::new("soc").unwrap(),
        format: Format::Ocsf,
        filter: Filter::default(),
        tenants: Vec::new(),
        start: Start::Beginning,
        transport: "https",
        batch: 8,
    };
    let taker = Taker::default();
    let mut exporter = Exporter::new(Sink::new(spec), Box::new(taker.clone()));
    world.runtime.set_sinks(vec![exporter.sink()]);
    *taker.0.lock().unwrap() = Some("the collector answers 503".to_owned());
    world.runtime.export_round(&mut exporter).await;
    is(&found(&world, &app, &key).await, "siem", "degraded", "`soc` is failing");
    *taker.0.lock().unwrap() = None;
    // It waits after a failure; a new process does not.
    let mut exporter = Exporter::new(exporter.sink(), Box::new(taker.clone()));
    while world.runtime.export_round(&mut exporter).await {}
    is(&found(&world, &app, &key).await, "siem", "working", "1 sink up to date");
}

/// Answers what it is told to.
struct Receiver(Mutex<Result<u16, String>>, Reach);

impl Notifier for Receiver {
    fn reach(&self) -> &Reach {
        &self.1
    }
    fn post(&self, _: Post) -> std::pin::Pin<Box<dyn Future<Output = Result<u16, String>> + Send>> {
        let answer = self.0.lock().unwrap().clone();
        Box::pin(async move { answer })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_fails_is_degraded_and_working_when_it_is_delivered() {
    let (world, app, key) = app().await;
    let receiver = Arc::new(Receiver(Mutex::new(Ok(503)), Reach::default()));
    is(&found(&world, &app, &key).await, "webhooks", "not configured", "none is set");
    world.runtime.set_notifier(Arc::clone(&receiver) as Arc<dyn Notifier>);
    let spec = WebhookSpec {
        webhook: Name::new("pager").unwrap(),
        url: "https://hooks.acme.example/pager".into(),
        events: vec!["approval.requested".into()],
        environment: None,
    };
    world.runtime.set_webhook(&world.owner, spec).await.unwrap();
    is(&found(&world, &app, &key).await, "webhooks", "working", "1 set");
    let escalates = GOOD.replace("40", "400");
    assert_eq!(raw(&app, "POST", INTENTS, Some(&key), Some(escalates.into()), "application/json").await.0, 202);
    world.runtime.deliver_webhooks().await;
    is(&found(&world, &app, &key).await, "webhooks", "degraded", "`pager` failed");
    *receiver.0.lock().unwrap() = Ok(204);
    world.clock.advance_millis(60_000);
    assert_eq!(world.runtime.deliver_webhooks().await, 1);
    is(&found(&world, &app, &key).await, "webhooks", "working", "1 delivered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_in_the_newest_decision_is_named_by_its_entry() {
    let (world, app, key) = app().await;
    submit(&app, &key).await;
    let tampered = submit(&app, &key).await;
    is(&found(&world, &app, &key).await, "replay", "working", &format!("entry {tampered}"));
    let file = rusqlite::Connection::open(world.dir.path().join(intended_store_sqlite::FILE)).unwrap();
    let at = [i64::try_from(tampered).unwrap()];
    let leaf: Vec<u8> =
        file.query_row("SELECT leaf FROM entries WHERE id & ((1 << 40) - 1) = ?1", at, |row| row.get(0)).unwrap();
    let changed = String::from_utf8(leaf).unwrap().replacen("\"amount\":40", "\"amount\":41", 1).into_bytes();
    let update = "UPDATE entries SET leaf = ?1 WHERE id & ((1 << 40) - 1) = ?2";
    assert_eq!(file.execute(update, rusqlite::params![changed, at[0]]).unwrap(), 1);
    let broken = found(&world, &app, &key).await;
    for id in ["replay", "explain", "inclusion", "receipts"] {
        is(&broken, id, "unavailable", &format!("entry {tampered}"));
    }
    is(&broken, "gates", "working", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn approvers_and_who_can_halt_are_counted_as_they_come() {
    let (world, app, key) = app().await;
    let before = found(&world, &app, &key).await;
    is(&before, "approvers", "degraded", "asks 2 of release-managers, and 3 more like it");
    is(&before, "halt-reach", "degraded", "only one");
    let grants = vec![RoleGrant { environments: Vec::new(), expires_at: None, role: Role::Approver, whole: true }];
    let member = MemberSet {
        active: true,
        by: world.owner.credential.clone(),
        email: None,
        grants,
        groups: vec![Name::new("support-leads").unwrap()],
        member: MemberId::new("ann").unwrap(),
        name: None,
        v: BODY_VERSION,
    };
    world.control(Event::MemberSet(member)).await.unwrap();
    let halter = json!({"credential": "pager", "scopes": ["emergency:halt"], "whole": true});
    let (status, body) = call(&app, "POST", "/v1/tenants/acme/credentials", Some(&key), Some(&halter)).await;
    assert_eq!(status, 201, "{body}");
    let after = found(&world, &app, &key).await;
    is(&after, "approvers", "degraded", "asks 2 of release-managers, and 1 more like it");
    is(&after, "halt-reach", "working", "at least two");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// A heading as a link names it.
fn slug(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn every_claim_has_its_page_its_heading_and_its_tests() {
    for capability in Capability::ALL {
        let claim = capability.claim();
        let (page, anchor) =
            claim.docs.split_once('#').map_or((claim.docs, None), |(page, anchor)| (page, Some(anchor)));
        let text = read(page);
        if let Some(anchor) = anchor {
            let headings: Vec<String> =
                text.lines().filter(|l| l.starts_with('#')).map(|l| slug(l.trim_start_matches('#'))).collect();
            assert!(
                headings.iter().any(|h| h == anchor),
                "{}: {} has no heading {anchor}: {headings:?}",
                claim.id,
                page
            );
        }
        for test in claim.tests {
            let (file, name) = test.split_once("::").unwrap_or_else(|| panic!("{}: {test}", claim.id));
            let text = read(file);
            let at = text.find(&format!("fn {name}(")).unwrap_or_else(|| panic!("{}: no {name} in {file}", claim.id));
            // What stands right before it makes it a test; the conformance suite's are called by both engines'.
            let before: String = text[..at].lines().rev().take(6).collect::<Vec<_>>().join("\n");
            let listed = read("crates/store/src/conformance/mod.rs").contains(name);
            assert!(before.contains("test") || text.contains("proptest!") || listed, "{}: {name} is no test", claim.id);
        }
    }
}

#[test]
fn the_readme_claims_what_the_table_has_and_nothing_else() {
    let text = read("README.md");
    let (_, list) = text.split_once("<!-- capabilities: generated").expect("the list");
    let (list, rest) = list.split_once("<!-- end of capabilities -->").unwrap();
    let linked: Vec<&str> = list.split("docs/capabilities.md#").skip(1).map(|l| l.split(')').next().unwrap()).collect();
    let all: Vec<&str> = Capability::ALL.iter().map(|c| c.id()).collect();
    assert_eq!(linked, all);
    // And what it says holds is held by rows of the table.
    let (_, holds) = rest.split_once("## What holds").unwrap();
    let holds = holds.split("\n## ").next().unwrap();
    let points: Vec<&str> = holds.lines().filter(|l| l.starts_with(|c: char| c.is_ascii_digit())).collect();
    assert!(points.len() >= 4, "{points:?}");
    for point in points {
        let ids = point.split_once("<!-- holds: ").unwrap_or_else(|| panic!("nothing holds it: {point}")).1;
        for id in ids.split(" -->").next().unwrap().split(' ') {
            assert!(all.contains(&id), "{id} is no capability: {point}");
        }
    }
}
