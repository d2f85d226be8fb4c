//! Who learns of a trouble: whoever watches the server, whose it is, and nobody else. And what is found
//! only where it is looked for again: the root key, random numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use intended_engine::keys;
use intended_keyring::{RngError, RngSource, RootKey};
use intended_model::entry::Tier;
use intended_model::{Code, Name, TenantId};
use intended_runtime::health::Status;
use intended_runtime::readiness::{Ask, Verdict};
use intended_runtime::{RootSource, Runtime};
use intended_store::StoreError;
use intended_store_sqlite::{Options, SqliteStore};
use intended_testkit::{SeededRng, World, environment, root_key};
use serde_json::Value;

use crate::health::{of, sick, until};
use crate::http_edge::{GOOD, INTENTS, app, call, raw};
use crate::operate::{text, value};
use crate::readiness::{check, figure};
use crate::slow;

/// Another tenant of a world, and its owner's key.
async fn another(runtime: &Runtime, tenant: &str) -> (TenantId, String) {
    let tenant = TenantId::new(tenant).unwrap();
    let environments = [(environment("vault").unwrap(), Tier::Production, Default::default())];
    let key = runtime.create_tenant(&tenant, &environments).await.unwrap().owner.key;
    (tenant, key.to_string())
}

fn component<'v>(health: &'v Value, name: &str) -> &'v Value {
    health["components"].as_array().unwrap().iter().find(|c| c["component"] == name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn altered_entries_are_a_figure_for_who_watches_the_server_and_the_trouble_of_one_tenant_only() {
    const FIGURE: &str = r#"intended_health{component="audit ledger"}"#;
    let (world, app, key) = app().await;
    let (_, foreign) = another(&world.runtime, "other").await;
    raw(&app, "POST", INTENTS, Some(&key), Some(GOOD.into()), "application/json").await;
    until(&world.runtime, "audit ledger", "entries", Status::Healthy).await;
    for who in [None, Some(&*key), Some(&*foreign)] {
        assert_eq!(value(&text(&app, "/metrics", who).await, FIGURE), Some(0.0), "{who:?}");
    }
    let file = rusqlite::Connection::open(world.dir.path().join("ledger.db")).unwrap();
    let alter = "UPDATE entries SET leaf = CAST(replace(CAST(leaf AS TEXT), 'support-agent', 'support-agenT') AS BLOB) \
        WHERE control = 0";
    assert!(file.execute(alter, []).unwrap() > 0);
    let found = until(&world.runtime, "audit ledger", "entries", Status::Unavailable).await;
    sick(&found, "acme: ", "evidence");

    // What strangers are told is kept for a second.
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    for (who, expected) in [(None, 2.0), (Some(&*key), 2.0), (Some(&*foreign), 0.0)] {
        let page = text(&app, "/metrics", who).await;
        assert_eq!(value(&page, FIGURE), Some(expected), "{who:?}\n{page}");
        assert_eq!(value(&page, r#"intended_health{component="store"}"#), Some(0.0));
    }
    let (status, own) = call(&app, "GET", "/healthz", Some(&key), None).await;
    assert_eq!((status, own["status"].as_str()), (503, Some("unavailable")), "{own}");
    assert!(own.get("tenants_with_trouble").is_none(), "{own}");
    let (status, theirs) = call(&app, "GET", "/healthz", Some(&foreign), None).await;
    // Nothing is deployed there, which is its own.
    assert_eq!((status, theirs["status"].as_str()), (200, Some("degraded")), "{theirs}");
    assert_eq!(component(&theirs, "audit ledger")["status"], "healthy", "{theirs}");
    let (status, stranger) = call(&app, "GET", "/healthz", None, None).await;
    assert_eq!((status, stranger["status"].as_str()), (200, Some("healthy")), "{stranger}");
    assert_eq!(
        (&stranger["tenants_with_trouble"], &component(&stranger, "audit ledger")["status"]),
        (&2.into(), &"unavailable".into())
    );
    assert!(world.runtime.ready().await, "one tenant's damage takes the node from no other");
    let document: Value = serde_json::from_str(&text(&app, "/openapi.json", None).await).unwrap();
    let schema = &document["paths"]["/healthz"]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
    crate::operate::fits(&document, schema, &stranger, "").unwrap();
    // How many tenants there are is nobody's to know there.
    let tenants =
        component(&own, "enforcement runtime")["checks"].as_array().unwrap().iter().find(|c| c["check"] == "tenants");
    assert!(tenants.is_some_and(|t| t["status"] == "healthy" && t.get("detail").is_none()), "{own}");
}

/// A place where a root key is, or is not.
struct Place {
    key: std::sync::Mutex<Option<RootKey>>,
    read: AtomicUsize,
}

impl RootSource for Place {
    fn read(&self) -> Result<RootKey, String> {
        self.read.fetch_add(1, Ordering::SeqCst);
        let key = self.key.lock().unwrap();
        let key = key.as_ref().ok_or_else(|| "it is not there".to_owned())?;
        RootKey::parse(&key.expose()).map_err(|e| e.to_string())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_key_that_is_gone_or_another_one_is_told_before_a_restart_and_read_every_five_minutes_at_most() {
    let world = World::new().await.unwrap();
    assert!(check(&world).await.measurements.iter().flat_map(|m| &m.figures).all(|f| &*f.figure != "root key"));
    let place = Arc::new(Place { key: Some(root_key().unwrap()).into(), read: AtomicUsize::new(0) });
    world.runtime.root_key_from(Arc::clone(&place) as Arc<dyn RootSource>);
    until(&world.runtime, "token service", "root key", Status::Healthy).await;
    assert_eq!(figure(&check(&world).await, "root key").verdict, Verdict::Pass);
    let other = || RootKey::generate(&SeededRng::new(5)).unwrap();
    for (at, (key, says)) in [(None, "cannot be read any more"), (Some(other()), "another one")].into_iter().enumerate()
    {
        *place.key.lock().unwrap() = key;
        world.clock.advance_millis(299_999);
        for _ in 0..3 {
            let found = of(&world.runtime.health().await, "token service", "root key");
            assert_eq!(found.len(), 1);
        }
        assert_eq!(place.read.load(Ordering::SeqCst), 1 + at, "not before five minutes are over, however many ask");
        world.clock.advance_millis(1);
        let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            let found = until(&world.runtime, "token service", "root key", Status::Degraded).await;
            if sick(&found, "a restart would not come up", "Do not restart").detail.contains(says) {
                break;
            }
            assert!(std::time::Instant::now() < end, "{says}: {found:?}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let run = check(&world).await;
        let figure = figure(&run, "root key");
        assert!(figure.verdict == Verdict::Fail && run.verdict == Verdict::Fail, "{figure:?}");
        assert!(world.runtime.ready().await, "it signs from memory");
    }
    *place.key.lock().unwrap() = Some(root_key().unwrap());
    world.clock.advance_millis(300_000);
    until(&world.runtime, "token service", "root key", Status::Healthy).await;
    assert_eq!(place.read.load(Ordering::SeqCst), 4);
}

/// Gives randomness until it does no more.
struct Drying {
    source: intended_testkit::SeededRng,
    dry: std::sync::atomic::AtomicBool,
}

impl RngSource for Drying {
    fn fill(&self, to: &mut [u8]) -> Result<(), RngError> {
        if self.dry.load(std::sync::atomic::Ordering::SeqCst) { Err(RngError) } else { self.source.fill(to) }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_name_itself_does_not_say_that_it_can_write() {
    let world = World::new().await.unwrap();
    let store = SqliteStore::open(world.dir.path(), &Options { shared: true, ..Options::default() }).unwrap();
    let (clock, rng) =
        (Arc::clone(&world.clock), Arc::new(Drying { source: intended_testkit::SeededRng::new(7), dry: false.into() }));
    let root = root_key().unwrap();
    let source = Arc::clone(&rng);
    let runtime = Runtime::open(Arc::new(store), clock, rng, root, "http://intended.test").await.unwrap();
    source.dry.store(true, std::sync::atomic::Ordering::SeqCst);
    let found = until(&runtime, "store", "writable", Status::Unavailable).await;
    assert!(found[0].detail.contains("no name to write under"), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_cannot_be_told_keeps_no_other_from_being_told_that_the_node_is_there() {
    let (world, slow) = slow::world().await;
    world.runtime.name_node(Name::new("one").unwrap());
    let (last, _) = another(&world.runtime, "zeta").await;
    let acme = world.owner.tenant.id.clone();
    assert!(acme < last, "the one that fails comes first");
    *slow.refuses_for.lock().unwrap() = Some((acme.clone(), StoreError::Unavailable("acme's part is gone".to_owned())));
    let failed = world.runtime.beat().await.unwrap_err();
    assert_eq!(failed.code, Code::StoreUnavailable, "it is said all the same: {failed}");
    let note = |tenant: &TenantId| {
        world.runtime.store().fact_now(tenant, &keys::node(&Name::new("one").unwrap())).unwrap().is_some()
    };
    assert!(note(&last) && !note(&acme));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_readiness_run_names_the_node_as_others_call_it() {
    let world = World::new().await.unwrap();
    world.runtime.name_node(Name::new("blue-1").unwrap());
    let run = world.runtime.check_readiness(&world.owner, Ask::default()).await.unwrap();
    assert_eq!(&*run.node, "blue-1");
}
