//! Each thing that can break is broken, and the right component says so, with what to do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use http::Request;
use intended_engine::keys;
use intended_model::entry::{AgentSet, AgentState, BODY_VERSION, Settings, Tier};
use intended_model::{EnvironmentId, TenantId, Timestamp};
use intended_runtime::Runtime;
use intended_runtime::health::{CHECKS, Check, Status};
use intended_store::{Commit, Store, StoreError, Write};
use intended_testkit::{NOON, World, environment};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::http_edge::{GOOD, INTENTS, app, call, raw};
use crate::slow;

/// What is measured may be a second old.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until a check is as is said, and answers with those of its name.
pub async fn until(runtime: &Runtime, component: &str, name: &str, status: Status) -> Vec<Check> {
    let end = Instant::now() + PATIENCE;
    loop {
        let found = of(&runtime.health().await, component, name);
        if found.iter().map(|c| c.status).max() == Some(status) {
            return found;
        }
        assert!(Instant::now() < end, "{component}: {name} is not {status:?}: {found:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub fn of(checks: &[Check], component: &str, name: &str) -> Vec<Check> {
    checks.iter().filter(|c| c.component == component && c.check == name).cloned().collect()
}

/// The one that is not well, which says what to do and where that is written down.
#[track_caller]
pub fn sick(found: &[Check], detail: &str, todo: &str) -> Check {
    let bad: Vec<&Check> = found.iter().filter(|c| c.status > Status::Healthy).collect();
    assert_eq!(bad.len(), 1, "{found:#?}");
    assert!(bad[0].detail.contains(detail), "{:?}", bad[0]);
    assert!(bad[0].todo.contains(todo), "{:?}", bad[0]);
    bad[0].clone()
}

/// Everything else is well: what is broken is told from what is not.
async fn alone(runtime: &Runtime, component: &str, names: &[&str]) {
    let also: Vec<Check> = runtime
        .health()
        .await
        .into_iter()
        .filter(|c| c.status > Status::Healthy && !(c.component == component && names.contains(&c.check)))
        .collect();
    assert!(also.is_empty(), "{also:#?}");
}

async fn put(world: &World, key: &str, value: &[u8]) {
    let write = Write::Put { key: key.into(), value: value.to_vec(), expires_at: None };
    let commit = Commit {
        tenant: world.owner.tenant.id.clone(),
        now: Timestamp::from_millis(NOON),
        control_version: None,
        reads: Vec::new(),
        writes: vec![write],
        entries: Vec::new(),
    };
    world.runtime.store().commit(commit).await.unwrap();
}

fn sealed_name(world: &World, environment: &EnvironmentId) -> String {
    let state = world.owner.tenant.state();
    let key = state.environments[environment].keys.last().unwrap();
    keys::sealed_key(environment.as_str(), &key.kid)
}

fn sql(world: &World, text: &str) -> usize {
    rusqlite::Connection::open(world.dir.path().join("ledger.db")).unwrap().execute(text, []).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_check_is_listed_and_has_its_section_and_a_whole_world_is_well() {
    let world = World::new().await.unwrap();
    let door = world.runtime.door();
    door.places(10);
    let _loop = world.runtime.loops().begin("housekeeping", Duration::from_secs(3600));
    world.runtime.start_verification(&world.owner.tenant).await.unwrap();
    until(&world.runtime, "audit ledger", "verification", Status::Healthy).await;
    let checks = world.runtime.health().await;
    alone(&world.runtime, "", &[]).await;
    let page = include_str!("../../../../docs/health.md");
    for (component, names) in CHECKS {
        assert!(page.contains(&format!("\n## {component}\n")), "{component}");
        for name in *names {
            assert!(page.contains(&format!("\n### {name}\n")), "{name}");
        }
    }
    let listed: BTreeSet<_> = CHECKS.iter().flat_map(|(c, names)| names.iter().map(move |n| (*c, *n))).collect();
    let made: BTreeSet<_> = checks.iter().map(|c| (c.component, c.check)).collect();
    assert!(made.is_subset(&listed), "{:?}", made.difference(&listed));
    // Without a bound, without sinks, and of a key that came from nowhere, there is nothing to say of them.
    let unsaid: Vec<_> = listed.difference(&made).collect();
    assert_eq!(unsaid, [&("audit ledger", "siem"), &("store", "size"), &("token service", "root key")]);
    for check in &checks {
        assert!(check.todo.is_empty(), "{check:?}");
    }
    // In the order in which they are shown.
    let order = |c: &Check| CHECKS.iter().position(|(component, _)| *component == c.component);
    assert!(checks.is_sorted_by_key(order));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_takes_no_writes_says_why_and_the_node_is_not_ready() {
    let (world, slow) = slow::world().await;
    let why = || "the device says so".to_owned();
    for (error, todo) in [
        (StoreError::ReadOnly(why()), "not mounted read-only"),
        (StoreError::Full(why()), "Make room"),
        (StoreError::Stopped(why()), "restart this node"),
        (StoreError::Corrupt(why()), "evidence"),
        (StoreError::Unavailable(why()), "locked"),
    ] {
        *slow.refuses.lock().unwrap() = Some(error.clone());
        let found = until(&world.runtime, "store", "writable", Status::Unavailable).await;
        sick(&found, &error.to_string(), todo);
        alone(&world.runtime, "store", &["writable"]).await;
        let ready = world.runtime.readiness().await;
        let no: Vec<_> = ready.parts.iter().filter_map(|p| Some((p.component, p.failed?))).collect();
        assert_eq!((ready.ready, &*no), (false, &[("store", "writable")][..]));
        *slow.refuses.lock().unwrap() = None;
        until(&world.runtime, "store", "writable", Status::Healthy).await;
        assert!(world.runtime.ready().await, "it is looked at again");
    }
    *slow.refuses.lock().unwrap() = Some(StoreError::Overloaded);
    let found = until(&world.runtime, "store", "writable", Status::Degraded).await;
    sick(&found, "too many commits", "Fewer requests");
    assert!(world.runtime.ready().await, "a busy store is no reason to send everything elsewhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_never_ends_is_no_write() {
    let (world, slow) = slow::world().await;
    *slow.hangs.lock().unwrap() = Some("h/w/");
    let found = until(&world.runtime, "store", "writable", Status::Unavailable).await;
    sick(&found, "no answer after", "locked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_nearly_as_large_as_it_may_be_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let open = |max| {
        let options = intended_store_sqlite::Options { max_bytes: max, ..Default::default() };
        intended_store_sqlite::SqliteStore::open(dir.path(), &options).unwrap()
    };
    let store = open(None);
    assert!(store.alone() && store.health().await.used_bytes.is_none());
    store.close().await.unwrap();
    drop(store);
    let size = std::fs::metadata(dir.path().join("ledger.db")).unwrap().len();
    for (max, status) in [(size * 2, Status::Healthy), (size + size / 20, Status::Degraded)] {
        let store = Arc::new(open(Some(max)));
        let (used, of) = store.health().await.used_bytes.unwrap();
        assert!(used <= size && used > 0 && of == max, "{used} of {of}, {size}");
        let clock = Arc::new(intended_runtime::ManualClock::at(NOON));
        let rng = Arc::new(intended_testkit::SeededRng::new(1));
        let root = intended_testkit::root_key().unwrap();
        let runtime = Runtime::open(store, clock, rng, root, "http://intended.test").await.unwrap();
        let found = until(&runtime, "store", "size", status).await;
        if status == Status::Degraded {
            sick(&found, "MiB", "Raise `max_bytes`");
        }
        runtime.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_does_not_unseal_any_more_is_named_while_the_one_in_memory_still_signs() {
    let (world, app, key) = app().await;
    let production = environment("production").unwrap();
    let name = sealed_name(&world, &production);
    let store = world.runtime.store();
    let whole = store.fact_now(&world.owner.tenant.id, &name).unwrap().unwrap().value;
    let other = sealed_name(&world, &environment("staging").unwrap());
    let other = store.fact_now(&world.owner.tenant.id, &other).unwrap().unwrap().value;
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for (value, what) in
        [(flipped, "does not unseal"), (b"nonsense".to_vec(), "does not unseal"), (other, "another key")]
    {
        put(&world, &name, &value).await;
        let found = until(&world.runtime, "token service", "sealed keys", Status::Degraded).await;
        let sick = sick(&found, what, "rotate it");
        assert_eq!(sick.environment, Some(production.clone()));
        assert!(sick.detail.starts_with("acme/production: "), "{sick:?}");
        alone(&world.runtime, "token service", &["sealed keys"]).await;
        put(&world, &name, &whole).await;
        until(&world.runtime, "token service", "sealed keys", Status::Healthy).await;
    }
    put(&world, &keys::sealed_key("ledger", "1"), &whole).await;
    let found = until(&world.runtime, "token service", "sealed keys", Status::Degraded).await;
    sick(&found, "acme: another key is sealed in the place of the ledger's key", "root key");
    assert_eq!(raw(&app, "POST", INTENTS, Some(&key), Some(GOOD.into()), "application/json").await.0, 200);
}

/// The sealed key of one environment under the name of another's: it unseals, and what it signs is
/// refused by everyone.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_signatures_do_not_verify_is_found_before_a_token_is_refused() {
    let world = World::new().await.unwrap();
    let staging = sealed_name(&world, &environment("staging").unwrap());
    let value = world.runtime.store().fact_now(&world.owner.tenant.id, &staging).unwrap().unwrap().value;
    put(&world, &sealed_name(&world, &environment("production").unwrap()), &value).await;
    let world = world.reopen().await.unwrap();
    let found = until(&world.runtime, "token service", "signature", Status::Unavailable).await;
    sick(&found, "acme/production: what it signs does not verify", "Rotate");
    assert!(world.runtime.ready().await, "staging still signs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_to_be_rotated_says_since_when() {
    let world = World::new().await.unwrap();
    let (production, staging) = (environment("production").unwrap(), environment("staging").unwrap());
    world.clock.advance_millis(90 * 24 * 3_600_000 - 1);
    until(&world.runtime, "token service", "key age", Status::Healthy).await;
    world.clock.advance_millis(1);
    world.runtime.rotate_key(&world.owner, &staging, intended_token::Alg::EdDSA).await.unwrap();
    let found = until(&world.runtime, "token service", "key age", Status::Degraded).await;
    sick(&found, "acme/production: 90 days old, to be rotated since", "Rotate");
    world.runtime.rotate_key(&world.owner, &production, intended_token::Alg::EdDSA).await.unwrap();
    until(&world.runtime, "token service", "key age", Status::Healthy).await;
    // Without such a policy no age is too much.
    world.clock.advance_millis(90 * 24 * 3_600_000);
    until(&world.runtime, "token service", "key age", Status::Degraded).await;
    world.runtime.rotate_keys_within(0);
    until(&world.runtime, "token service", "key age", Status::Healthy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_set_back_is_told_by_the_node_and_by_the_ledger() {
    let (world, app, key) = app().await;
    raw(&app, "POST", INTENTS, Some(&key), Some(GOOD.into()), "application/json").await;
    world.clock.set(Timestamp::from_millis(NOON - 3_600_000));
    let found = until(&world.runtime, "enforcement runtime", "clock", Status::Degraded).await;
    sick(&found, "3600 s ahead", "Set the system's clock right");
    let found = until(&world.runtime, "audit ledger", "time", Status::Degraded).await;
    sick(&found, "3600 s ahead of this node's clock", "Compare the clocks");
    world.clock.set(Timestamp::from_millis(NOON));
    until(&world.runtime, "audit ledger", "time", Status::Healthy).await;
    alone(&world.runtime, "", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_without_a_policy_and_names_that_are_gone_are_told() {
    let world = World::new().await.unwrap();
    let (lab, tier) = (environment("lab").unwrap(), Tier::Development);
    world.runtime.set_environment(&world.owner, lab.clone(), tier, |_| Ok(Settings::default())).await.unwrap();
    let found = until(&world.runtime, "policy engine", "policy version", Status::Degraded).await;
    assert_eq!(sick(&found, "acme/lab: nothing deployed", "intended policy deploy").environment, Some(lab));

    let retired = AgentSet {
        agent: "release-agent".into(),
        by: world.owner.credential.clone(),
        environments: vec![environment("production").unwrap()],
        kind: "agent".into(),
        owner: "platform".into(),
        state: AgentState::Retired,
        teams: vec![intended_model::Name::new("release").unwrap()],
        trust: 70,
        categories: Vec::new(),
        purpose: Box::default(),
        tools: Vec::new(),
        workflow: Vec::new(),
        v: BODY_VERSION,
    };
    world.runtime.set_agent(&world.owner, retired).await.unwrap();
    let found = until(&world.runtime, "policy engine", "names", Status::Degraded).await;
    let bad: Vec<_> = found.iter().filter(|c| c.status > Status::Healthy).collect();
    assert_eq!(bad.len(), 2, "in both environments: {found:#?}");
    assert!(bad[0].detail.contains("`release` in `") && bad[0].todo.contains("Register"), "{:?}", bad[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_was_changed_under_a_running_server_is_found_wherever_it_stands() {
    let (world, app, key) = app().await;
    for n in 0..300 {
        let body = GOOD.replace("ch_1", &format!("ch_{n}"));
        raw(&app, "POST", INTENTS, Some(&key), Some(body.into()), "application/json").await;
    }
    until(&world.runtime, "audit ledger", "entries", Status::Healthy).await;
    let size = world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size;
    let change = |index: u64, from: &str, to: &str| {
        let text = format!(
            "UPDATE entries SET leaf = CAST(replace(CAST(leaf AS TEXT), '{from}', '{to}') AS BLOB) \
             WHERE (id & 1099511627775) = {index}"
        );
        assert_eq!(sql(&world, &text), 1);
    };
    // The newest block, and one that only comes up in turn.
    for (index, entries) in [(size - 1, format!("entries 256 to {}", size - 1)), (40, "entries 0 to 255".to_owned())] {
        change(index, "support-agent", "support-agenT");
        let found = until(&world.runtime, "audit ledger", "entries", Status::Unavailable).await;
        sick(&found, &entries, "evidence");
        // It stays said, however often it is asked.
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(1_050)).await;
            let found = of(&world.runtime.health().await, "audit ledger", "entries");
            assert_eq!(found[0].status, Status::Unavailable, "{found:?}");
        }
        change(index, "support-agenT", "support-agent");
        until(&world.runtime, "audit ledger", "entries", Status::Healthy).await;
    }
    // A row that says something else than its leaf.
    assert_eq!(sql(&world, "UPDATE entries SET at = at + 1 WHERE (id & 1099511627775) = 256"), 1);
    let found = until(&world.runtime, "audit ledger", "entries", Status::Unavailable).await;
    sick(&found, "entry 256 stands where another belongs", "evidence");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_is_of_another_ledger_or_does_not_come_is_told() {
    let (world, app, key) = app().await;
    world.runtime.save_checkpoint(&world.owner.tenant).await.unwrap();
    raw(&app, "POST", INTENTS, Some(&key), Some(GOOD.into()), "application/json").await;
    world.clock.advance_millis(121_000);
    let found = until(&world.runtime, "audit ledger", "checkpoint", Status::Degraded).await;
    sick(&found, "121 s ago", "housekeeping");
    world.runtime.save_checkpoint(&world.owner.tenant).await.unwrap();
    until(&world.runtime, "audit ledger", "checkpoint", Status::Healthy).await;
    assert!(
        sql(
            &world,
            "UPDATE facts SET value = CAST(replace(CAST(value AS TEXT), 'acme', 'evil') AS BLOB) WHERE key LIKE 'c/%'"
        ) > 0
    );
    let found = until(&world.runtime, "audit ledger", "checkpoint", Status::Unavailable).await;
    sick(&found, "the newest kept checkpoint", "evidence");
    assert!(!world.runtime.ready().await, "no tenant has a ledger that holds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verification_that_failed_stays_said() {
    let (world, app, key) = app().await;
    raw(&app, "POST", INTENTS, Some(&key), Some(GOOD.into()), "application/json").await;
    assert!(of(&world.runtime.health().await, "audit ledger", "verification").is_empty(), "nothing was verified");
    sql(
        &world,
        "UPDATE entries SET leaf = CAST(replace(CAST(leaf AS TEXT), 'support-agent', 'support-agenT') AS BLOB) WHERE control = 0",
    );
    world.runtime.start_verification(&world.owner.tenant).await.unwrap();
    let found = until(&world.runtime, "audit ledger", "verification", Status::Unavailable).await;
    sick(&found, "acme: ", "intended verify");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_housekeeping_that_hangs_or_ends_is_named_with_the_step_that_it_hangs_in() {
    let (world, slow) = slow::world().await;
    assert!(of(&world.runtime.health().await, "enforcement runtime", "housekeeping").is_empty());
    *slow.hangs.lock().unwrap() = Some("h/n/");
    let house = tokio::spawn(Arc::clone(&world.runtime).keep_house());
    let sinks = tokio::spawn(Arc::clone(&world.runtime).keep_delivering());
    until(&world.runtime, "enforcement runtime", "housekeeping", Status::Healthy).await;
    // It comes to the step within some seconds of its own, and then time goes on without it.
    let end = Instant::now() + PATIENCE;
    let detail = loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        world.clock.advance_millis(31_000);
        let found = of(&world.runtime.health().await, "enforcement runtime", "housekeeping");
        if found[0].status > Status::Healthy && found[0].detail.contains("saying that this node is there") {
            break found[0].detail.clone();
        }
        assert!(Instant::now() < end, "{found:?}");
    };
    assert!(detail.contains("`housekeeping` has been at `saying that this node is there`"), "{detail}");
    world.clock.advance_millis(121_000);
    let found = until(&world.runtime, "enforcement runtime", "housekeeping", Status::Unavailable).await;
    sick(&found, "`housekeeping` has been at", "Restart this node");
    house.abort();
    sinks.abort();
    let _ = (house.await, sinks.await);
    let found = until(&world.runtime, "enforcement runtime", "housekeeping", Status::Unavailable).await;
    sick(&found, "`housekeeping` has ended, at `saying that this node is there`", "Restart this node");
    assert!(world.runtime.ready().await, "what is decided does not wait for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_panics_for_one_tenant_is_named_and_housekeeping_goes_on_for_all_others() {
    let (world, slow) = slow::world().await;
    // Before the other in every round.
    let first = TenantId::new("aaa").unwrap();
    let environments = [(environment("production").unwrap(), Tier::Production, Settings::default())];
    world.runtime.create_tenant(&first, &environments).await.unwrap();
    let target = json!({"scope": "tool", "target": crate::breakers::TOOL});
    crate::breakers::set(&world, "refunds", target, json!({"velocity": 1, "minimum_calls": 1})).await;
    crate::breakers::small(&world).await;
    *slow.panics.lock().unwrap() = Some(first);
    let house = tokio::spawn(Arc::clone(&world.runtime).keep_house());
    let found = until(&world.runtime, "enforcement runtime", "housekeeping", Status::Degraded).await;
    let bad = sick(
        &found,
        "`housekeeping` breaks off in `closing what is overdue` of 1 tenant",
        "names the step, the tenant",
    );
    assert!(!bad.detail.contains("aaa") && bad.tenant.is_none(), "every tenant sees this: {bad:?}");
    assert!(world.runtime.ready().await);
    // What was open for long enough is tried again, in a round after the one that broke off.
    world.clock.advance_millis(60_000);
    let end = Instant::now() + PATIENCE;
    while crate::breakers::standing(&world, "refunds") != Some("half_open") {
        assert!(Instant::now() < end && !house.is_finished(), "housekeeping stands still");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // And what comes after it in a round is done too: this node says that it is there.
    let tenant = &world.owner.tenant.id;
    while world.runtime.store().facts(tenant, keys::NODE_PREFIX, "", 10).await.unwrap().is_empty() {
        assert!(Instant::now() < end && !house.is_finished(), "what follows is left out");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    *slow.panics.lock().unwrap() = None;
    until(&world.runtime, "enforcement runtime", "housekeeping", Status::Healthy).await;
    house.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_nearly_full_or_stops_says_so() {
    let world = World::new().await.unwrap();
    let door = world.runtime.door();
    door.places(10);
    let mut inside: Vec<_> = (0..8).map(|_| door.enter()).collect();
    let found = until(&world.runtime, "gateway", "connections", Status::Healthy).await;
    assert_eq!(found[0].detail, "8 of 10 in use");
    inside.push(door.enter());
    let found = until(&world.runtime, "gateway", "connections", Status::Degraded).await;
    sick(&found, "9 of 10 in use", "`connections`");
    inside.clear();
    until(&world.runtime, "gateway", "connections", Status::Healthy).await;
    door.drain();
    let found = until(&world.runtime, "gateway", "draining", Status::Unavailable).await;
    sick(&found, "asked to stop", "another node");
    assert!(!world.runtime.ready().await);
}

async fn readyz(app: &axum::Router, accept: Option<&str>) -> (u16, String, String) {
    let mut request = Request::get("/readyz?verbose");
    if let Some(accept) = accept {
        request = request.header("accept", accept);
    }
    let answer = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    let status = answer.status().as_u16();
    let bytes = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    (status, kind, String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn readyz_says_each_component_as_text_or_as_json_and_names_nothing_of_a_tenant() {
    let (world, slow) = slow::world().await;
    let state = intended_api::App::new(world.runtime.clone());
    let app = intended_api::router(state.clone());
    let (status, kind, text) = readyz(&app, Some("*/*")).await;
    assert_eq!((status, &*kind), (200, "text/plain; charset=utf-8"));
    let expected = "[+]gateway ok\n[+]policy engine ok\n[+]token service ok\n[+]audit ledger ok\n[+]store ok\n\
        [+]enforcement runtime ok\nready\n";
    assert_eq!(text, expected);
    // The engine's own text can name a tenant.
    *slow.refuses.lock().unwrap() = Some(StoreError::Corrupt("`acme`: its heads contradict each other".to_owned()));
    until(&world.runtime, "store", "writable", Status::Unavailable).await;
    let (status, _, text) = readyz(&app, None).await;
    assert_eq!(status, 503);
    assert!(text.contains("[-]store failed: writable\n   Stop this node") && text.ends_with("not ready\n"), "{text}");
    let (status, kind, json) = readyz(&app, Some("text/html, application/json;q=0.9")).await;
    assert_eq!((status, &*kind), (503, "application/json"));
    let body: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&body["ready"], &body["draining"], &body["store"]),
        (&json!(false), &json!(false), &json!("store.unavailable"))
    );
    let store = body["checks"].as_array().unwrap().iter().find(|c| c["component"] == "store").unwrap();
    assert_eq!((&store["ok"], &store["check"]), (&json!(false), &json!("writable")));
    assert!(store["do"].as_str().unwrap().contains("evidence"), "{store}");
    let (_, health) = call(&app, "GET", "/healthz", None, None).await;
    for said in [text, json, health.to_string()] {
        for secret in ["acme", "production", "staging", "demo", "node-", "contradict"] {
            assert!(!said.contains(secret), "{secret}: {said}");
        }
    }
    let document: Value = serde_json::from_str(&crate::operate::text(&app, "/openapi.json", None).await).unwrap();
    let schema = &document["paths"]["/readyz"]["get"]["responses"]["503"]["content"]["application/json"]["schema"];
    crate::operate::fits(&document, schema, &body, "").unwrap();
    *slow.refuses.lock().unwrap() = None;
    until(&world.runtime, "store", "writable", Status::Healthy).await;
    assert_eq!(call(&app, "GET", "/readyz", None, None).await.0, 200);
    state.drain();
    let (status, _, text) = readyz(&app, None).await;
    assert!(status == 503 && text.starts_with("[-]gateway failed: draining\n"), "{text}");
}

/// However many strangers ask, it is measured as often as for one.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_who_ask_often_cost_no_more_than_one_who_asks_once_a_second() {
    let (world, slow) = slow::world().await;
    let app = intended_api::router(intended_api::App::new(world.runtime.clone()));
    let (began, before) = (Instant::now(), slow.commits.load(std::sync::atomic::Ordering::SeqCst));
    for _ in 0..100 {
        let ask = |path: &'static str| call(&app, "GET", path, None, None);
        let _ = tokio::join!(ask("/readyz"), ask("/readyz?verbose"), ask("/healthz"), ask("/healthz"));
        // Nor does it help to go before the answer is there.
        let gone = tokio::time::timeout(Duration::from_micros(50), world.runtime.health()).await;
        drop(gone);
    }
    let written = slow.commits.load(std::sync::atomic::Ordering::SeqCst) - before;
    assert!(written as u64 <= 2 + began.elapsed().as_secs(), "{written} in {:?}", began.elapsed());
    assert!(written >= 1, "it was measured");
}
