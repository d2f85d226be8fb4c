//! Rows of the capability truth matrix about watching the server, keys, copies and who may say what: each
//! is seen to say so when what it is about is missing or breaks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use intended_engine::keys;
use intended_model::TenantId;
use intended_model::entry::{ActionOutcome, Scope};
use intended_runtime::elsewhere::Elsewhere;
use intended_runtime::readiness::{Ask, Thresholds};
use intended_runtime::spans::TraceCounts;
use intended_store::{Commit, Write};
use intended_testkit::environment;
use intended_token::Alg;
use serde_json::json;

use crate::breakers::{consume_as, key, report};
use crate::capabilities::{found, is, submit};
use crate::http_edge::{app, call};
use crate::readiness::only;

const DAY_MS: i64 = 24 * 3_600_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_key_near_its_rotation_overdue_or_without_a_policy_is_said() {
    let (world, app, owner) = app().await;
    is(&found(&world, &app, &owner).await, "key-rotation", "working", "2 keys active, the oldest 0 days old");
    world.clock.advance_millis(76 * DAY_MS);
    is(&found(&world, &app, &owner).await, "key-rotation", "degraded", "soon due in `production` (76 days old)");
    let staging = environment("staging").unwrap();
    world.runtime.rotate_key(&world.owner, &staging, Alg::EdDSA).await.unwrap();
    world.clock.advance_millis(14 * DAY_MS);
    is(&found(&world, &app, &owner).await, "key-rotation", "degraded", "overdue in `production` (90 days old)");
    // And the status says it, of that one alone.
    let (_, status) = call(&app, "GET", "/v1/tenants/acme/status", Some(&owner), None).await;
    let keys: BTreeMap<_, _> = status["environments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| (e["environment"].as_str().unwrap(), (e["key"]["age_days"].clone(), e["key"]["rotation"].clone())))
        .collect();
    assert_eq!(keys["production"], (json!(90), json!("overdue")), "{status}");
    assert_eq!(keys["staging"], (json!(14), json!("fine")), "{status}");
    let by = status["environments"][0]["key"]["rotate_by"].as_str().unwrap();
    assert!(by <= status["at"].as_str().unwrap(), "{status}");
    world.runtime.rotate_keys_within(0);
    is(&found(&world, &app, &owner).await, "key-rotation", "not configured", "no policy says when");
    let (_, status) = call(&app, "GET", "/v1/tenants/acme/status", Some(&owner), None).await;
    assert_eq!(status["environments"][0]["key"]["rotation"], "fine");
    assert!(status["environments"][0]["key"].get("rotate_by").is_none(), "{status}");
    // A short policy is near for a sixth of it, and not from the beginning.
    world.runtime.rotate_key(&world.owner, &environment("production").unwrap(), Alg::EdDSA).await.unwrap();
    world.runtime.rotate_key(&world.owner, &staging, Alg::EdDSA).await.unwrap();
    world.runtime.rotate_keys_within(6);
    world.clock.advance_millis(5 * DAY_MS - 3_600_000);
    is(&found(&world, &app, &owner).await, "key-rotation", "working", "within the policy");
    world.clock.advance_millis(3_600_000);
    is(&found(&world, &app, &owner).await, "key-rotation", "degraded", "soon due");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_readiness_run_is_told_with_its_age_and_verdict() {
    let (world, app, owner) = app().await;
    is(&found(&world, &app, &owner).await, "readiness", "not configured", "no check was ever made");
    // However slow the machine is.
    world.runtime.hold_readiness_to(only(&[]));
    world.runtime.save_checkpoint(&world.owner.tenant).await.unwrap();
    world.runtime.check_readiness(&world.owner, Ask::default()).await.unwrap();
    world.clock.advance_millis(2 * 3_600_000);
    is(&found(&world, &app, &owner).await, "readiness", "working", "run 1, 2 h ago: pass");
    // Of a run about more than somebody sees they are told nothing.
    let narrow = json!({"credential": "narrow", "environments": ["staging"], "scopes": ["status:read"]});
    let (_, made) = call(&app, "POST", "/v1/tenants/acme/credentials", Some(&owner), Some(&narrow)).await;
    is(&found(&world, &app, made["key"].as_str().unwrap()).await, "readiness", "not configured", "yours to see");
    world.clock.advance_millis(31 * DAY_MS);
    is(&found(&world, &app, &owner).await, "readiness", "degraded", "run 1, 31 days ago: pass");
    // A key that is old enough to fail a run.
    world.clock.advance_millis(366 * DAY_MS);
    world.runtime.hold_readiness_to(Thresholds::default());
    world.runtime.check_readiness(&world.owner, Ask::default()).await.unwrap();
    is(&found(&world, &app, &owner).await, "readiness", "degraded", ": fail");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_self_test_is_denied_where_something_is_halted_and_recorded_nowhere() {
    let (world, app, owner) = app().await;
    let size = async || world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size;
    let before = size().await;
    is(&found(&world, &app, &owner).await, "self-test", "working", "allowed in 2 environments");
    assert_eq!(size().await, before);
    assert_eq!(world.runtime.metrics().synthetic().map(|(_, n)| n).sum::<u64>(), 0);
    let halt = json!({"reason": "it loops", "environment": "staging"});
    assert_eq!(call(&app, "POST", "/v1/tenants/acme/emergency/halts", Some(&owner), Some(&halt)).await.0, 201);
    is(&found(&world, &app, &owner).await, "self-test", "degraded", "allowed in 1, denied in `staging`: halt.");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_nodes_say_how_they_answered_and_what_is_missing() {
    let (world, app, owner) = app().await;
    let rows = found(&world, &app, &owner).await;
    is(&rows, "health", "working", "6 of 6 components answer with");
    is(&rows, "nodes", "working", "1 node, this one");
    is(&rows, "status", "working", "2 environments");
    let staging = keys::node(&intended_model::Name::new("other").unwrap());
    let now = world.runtime.now();
    let said = json!({
        "beat_at": now, "control": 1, "run": "r", "started_at": now, "status": "healthy", "trouble": [], "version": "0.1.0",
    });
    let commit = Commit {
        tenant: world.owner.tenant.id.clone(),
        now,
        control_version: None,
        reads: Vec::new(),
        writes: vec![Write::Put { key: staging.into(), value: said.to_string().into_bytes(), expires_at: None }],
        entries: Vec::new(),
    };
    world.runtime.store().commit(commit).await.unwrap();
    is(&found(&world, &app, &owner).await, "nodes", "working", "2 nodes");
    world.clock.advance_millis(60_000);
    is(&found(&world, &app, &owner).await, "nodes", "degraded", "`other` says nothing since");
    // What is wrong is told of the component that it is wrong with; saying it works.
    let sealed = world.runtime.store().facts(&world.owner.tenant.id, "k/", "", 10).await.unwrap();
    assert!(!sealed.is_empty(), "sealed keys are facts of this prefix");
    for (key, _) in sealed {
        let commit = Commit {
            tenant: world.owner.tenant.id.clone(),
            now: world.runtime.now(),
            control_version: None,
            reads: Vec::new(),
            writes: vec![Write::Delete { key: key.into() }],
            entries: Vec::new(),
        };
        world.runtime.store().commit(commit).await.unwrap();
    }
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    for _ in 0..100 {
        let rows = found(&world, &app, &owner).await;
        if rows["health"].1.contains("token service") {
            return is(&rows, "health", "working", "degraded: ");
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("health never says it of the token service");
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_are_made_of_a_page_that_somebody_reads() {
    let (world, app, owner) = app().await;
    is(&found(&world, &app, &owner).await, "metrics", "working", "families on the page");
    is(&found(&world, &app, &owner).await, "alerts", "not configured", "no alert can fire");
    assert_eq!(call(&app, "GET", "/metrics", Some(&owner), None).await.0, 200);
    is(&found(&world, &app, &owner).await, "alerts", "working", "last read 5 s ago");
    world.clock.advance_millis(10 * 60_000);
    is(&found(&world, &app, &owner).await, "alerts", "not configured", "nobody has read it in 10 minutes");
    // Everyone's page has this tenant's figures in its sums; another tenant's own has not.
    let made = world.runtime.create_tenant(&TenantId::new("globex").unwrap(), &[]).await.unwrap();
    assert_eq!(call(&app, "GET", "/metrics", Some(&made.owner.key), None).await.0, 200);
    is(&found(&world, &app, &owner).await, "alerts", "not configured", "no alert can fire");
    assert_eq!(call(&app, "GET", "/metrics", None, None).await.0, 200);
    is(&found(&world, &app, &owner).await, "alerts", "working", "last read");
}

#[test]
fn the_figures_of_the_shipped_alert_rules_are_those_that_are_looked_for() {
    let rules = include_str!("../../../../deploy/prometheus/intended.rules.yml");
    let family = |name: &str| {
        let name = name.trim_end_matches("_bucket");
        name.strip_suffix("_total").unwrap_or(name).to_owned()
    };
    // In expressions alone: what is said in words beside them counts for nothing.
    let named = rules.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|w| w.starts_with("intended_"));
    let used: BTreeSet<String> = named.map(family).collect();
    let looked_for: BTreeSet<String> = intended_api::v1::watched::ALERTED.iter().map(|f| (*f).to_owned()).collect();
    assert_eq!(used, looked_for);
    // And every family that the page of figures documents is one that the metrics' row looks for.
    let page = include_str!("../../../../docs/operate.md");
    let rows = page.lines().filter(|l| l.starts_with("| `intended_"));
    let documented: BTreeSet<String> = rows
        .flat_map(|l| l.split('|').nth(1).unwrap().split('`').skip(1).step_by(2))
        .map(|span| family(span.split('{').next().unwrap()))
        .filter(|f| !f.starts_with("intended_trace_"))
        .collect();
    let families: BTreeSet<String> = intended_api::v1::watched::FAMILIES.iter().map(|f| (*f).to_owned()).collect();
    assert_eq!(documented, families);
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_are_told_by_what_became_of_them() {
    let (world, app, owner) = app().await;
    is(&found(&world, &app, &owner).await, "traces", "not configured", "spans go nowhere");
    let counts = Arc::new(TraceCounts::default());
    let app = intended_api::router(intended_api::App::new(world.runtime.clone()).traced(Arc::clone(&counts)));
    is(&found(&world, &app, &owner).await, "traces", "working", "0 spans exported");
    counts.failed();
    is(&found(&world, &app, &owner).await, "traces", "unavailable", "1 failed attempts");
    counts.exported(200);
    is(&found(&world, &app, &owner).await, "traces", "working", "200 spans exported");
    counts.dropped(3);
    is(&found(&world, &app, &owner).await, "traces", "degraded", "3 dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_told_by_what_it_takes() {
    use tracing_subscriber::layer::SubscriberExt as _;
    let said = |filter: &str| {
        let filter = tracing_subscriber::EnvFilter::new(filter);
        let log = tracing_subscriber::registry().with(filter);
        tracing::subscriber::with_default(log, || {
            let found = intended_api::v1::watched::logs();
            (found.status.as_str(), found.result)
        })
    };
    assert_eq!(said("off").0, "not configured");
    assert_eq!(said("error").0, "degraded");
    assert_eq!(said("warn"), ("working", "warnings are written, and no line for each request".to_owned()));
    assert_eq!(
        said("warn,intended::access=info"),
        ("working", "warnings are written, and a line for each request".to_owned())
    );
}

/// A place for checkpoints, as it is told to be.
#[derive(Clone, Default)]
struct Place(Arc<Mutex<Option<String>>>, Arc<Mutex<bool>>);

impl Elsewhere for Place {
    fn newest(&self, _: &TenantId) -> Result<Option<String>, String> {
        if *self.1.lock().unwrap() {
            return Err("the directory is not there".to_owned());
        }
        Ok(self.0.lock().unwrap().clone())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_is_kept_elsewhere_is_held_against_and_a_missing_or_foreign_one_said() {
    let (world, app, owner) = app().await;
    is(&found(&world, &app, &owner).await, "kept-checkpoints", "not configured", "keeps none elsewhere");
    is(&found(&world, &app, &owner).await, "restore", "working", "never gone on from one here");
    let place = Place::default();
    world.runtime.keeps_checkpoints_in(place.clone());
    is(&found(&world, &app, &owner).await, "kept-checkpoints", "degraded", "none is kept yet");
    let (head, note) = world.runtime.head(&world.owner.tenant).await.unwrap();
    *place.0.lock().unwrap() = Some(note.to_string());
    let says = format!("signs for {0} of {0} entries", head.size);
    is(&found(&world, &app, &owner).await, "kept-checkpoints", "working", &says);
    submit(&app, &owner).await;
    let says = format!("signs for {} of {} entries", head.size, head.size + 1);
    is(&found(&world, &app, &owner).await, "kept-checkpoints", "working", &says);
    world.clock.advance_millis(61_000);
    is(&found(&world, &app, &owner).await, "kept-checkpoints", "degraded", "it is behind");
    // One of another tenant's ledger, one that somebody wrote, and a directory that is gone.
    let globex = TenantId::new("globex").unwrap();
    world.runtime.create_tenant(&globex, &[]).await.unwrap();
    let tenant = world.runtime.tenant(&globex).unwrap();
    let (_, foreign) = world.runtime.head(&tenant).await.unwrap();
    *place.0.lock().unwrap() = Some(foreign.to_string());
    let rows = found(&world, &app, &owner).await;
    is(&rows, "kept-checkpoints", "unavailable", "another ledger's");
    assert!(!rows["kept-checkpoints"].1.contains("globex"), "{rows:?}");
    let forged = note.replacen(&format!("\n{}\n", head.size), &format!("\n{}\n", head.size + 100), 1);
    assert_ne!(forged, note.to_string());
    *place.0.lock().unwrap() = Some(forged);
    is(&found(&world, &app, &owner).await, "kept-checkpoints", "unavailable", "checkpoint of `acme`");
    *place.1.lock().unwrap() = true;
    is(&found(&world, &app, &owner).await, "kept-checkpoints", "unavailable", "the directory is not there");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_one_agent_are_counted_and_whose_word_on_an_outcome_stands_is_looked_up() {
    let (world, app, owner) = app().await;
    let rows = found(&world, &app, &owner).await;
    is(&rows, "bound-keys", "not configured", "none is bound");
    is(&rows, "outcomes", "working", "none is among the newest");
    let bound = json!({"credential": "support", "agents": ["support-*"], "scopes": ["intent:submit"], "whole": true});
    assert_eq!(call(&app, "POST", "/v1/tenants/acme/credentials", Some(&owner), Some(&bound)).await.0, 201);
    is(&found(&world, &app, &owner).await, "bound-keys", "working", "1 of 2 keys that submit are bound");
    let agents = key(&world, "agents", None, &[Scope::IntentSubmit, Scope::IntentRead]).await;
    let point = key(&world, "point", None, &[Scope::TokenVerify]).await;
    let submission = intended_runtime::Submission {
        intent: intended_testkit::refund(1, None).unwrap(),
        idempotency_key: None,
        audience: None,
    };
    let decided = world.runtime.submit(&agents, submission).await.unwrap();
    consume_as(&world, &point, &decided).await;
    report(&world, &point, decided.record.input.id, ActionOutcome::Succeeded).await.unwrap();
    let at = world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size - 1;
    is(&found(&world, &app, &owner).await, "outcomes", "working", &format!("entry {at} is by who did"));
    // As if somebody else had said it: what stands in the file is changed under the server.
    let file = rusqlite::Connection::open(world.dir.path().join(intended_store_sqlite::FILE)).unwrap();
    let changed = file.execute(
        "UPDATE entries SET leaf = CAST(replace(CAST(leaf AS TEXT), '\"by\":\"point\"', '\"by\":\"agents\"') AS BLOB) \
         WHERE id & ((1 << 40) - 1) = ?1",
        [i64::try_from(at).unwrap()],
    );
    assert_eq!(changed.unwrap(), 1);
    is(&found(&world, &app, &owner).await, "outcomes", "unavailable", &format!("entry {at} is not by who"));
}
