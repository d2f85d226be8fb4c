//! The ledger over HTTP: who sees what of it, in pages, as events, verified.

use std::time::Duration;

use axum::body::Body;
use futures_core::Stream as _;
use http::Request;
use intended_testkit::World;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::http_edge::{GOOD, INTENTS, app, call, raw};

async fn narrow(app: &axum::Router, key: &str, name: &str, environment: &str) -> String {
    let scopes = ["audit:read", "policy:read", "emergency:read", "token:verify", "intent:read"];
    let new = json!({"credential": name, "environments": [environment], "scopes": scopes});
    let (status, created) = call(app, "POST", "/v1/tenants/acme/credentials", Some(key), Some(&new)).await;
    assert_eq!(status, 201, "{created}");
    created["key"].as_str().unwrap().to_owned()
}

async fn get(app: &axum::Router, key: &str, path: &str) -> Value {
    let (status, body) = call(app, "GET", &format!("/v1/tenants/acme/{path}"), Some(key), None).await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

fn kinds(page: &Value) -> Vec<String> {
    let rows = page["entries"].as_array().unwrap();
    rows.iter().map(|e| format!("{} {}", e["kind"].as_str().unwrap(), e["index"])).collect()
}

/// Everything that can name an environment, in production; and what of it somebody for staging sees.
#[tokio::test(flavor = "multi_thread")]
async fn control_entries_are_seen_by_those_they_are_about() {
    let (world, app, key) = app().await;
    let staging = narrow(&app, &key, "watcher", "staging").await;
    let first = world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size;
    let mut seen = Vec::new();
    for environment in ["production", "staging"] {
        let post = async |path: &str, body: Value| {
            let (status, answer) =
                call(&app, "POST", &format!("/v1/tenants/acme/{path}"), Some(&key), Some(&body)).await;
            assert!(status < 300, "{path}: {answer}");
            answer
        };
        let put = async |path: &str, body: Value| {
            let (status, answer) =
                call(&app, "PUT", &format!("/v1/tenants/acme/{path}"), Some(&key), Some(&body)).await;
            assert!(status < 300, "{path}: {answer}");
        };
        let halt = post("emergency/halts", json!({"reason": "stop", "environment": environment})).await;
        let resume = format!("emergency/halts/{}/resume", halt["halt"].as_str().unwrap());
        post(&resume, json!({"reason": "go on"})).await;
        post("keys/rotate", json!({"environment": environment})).await;
        put(&format!("environments/{environment}"), json!({"tier": "staging"})).await;
        put(&format!("agents/{environment}-agent"), json!({"environments": [environment], "trust": 1})).await;
        let capability = json!({"resource_type": environment, "pattern": "x", "criticality": "low", "data_class": "public", "environment": environment});
        put(&format!("capabilities-registry/of-{environment}"), capability).await;
        let credential = format!("of-{environment}");
        post(
            "credentials",
            json!({"credential": credential, "environments": [environment], "scopes": ["intent:read"]}),
        )
        .await;
        post(&format!("credentials/{credential}/revoke"), json!({"reason": "gone"})).await;
        let rule = format!("@id(\"of-{environment}\") forbid (principal, action, resource);");
        let files = json!({"pack.toml": format!("name = \"p\"\nversion = \"{environment}\"\n"), "a.cedar": rule});
        post("deployments", json!({"environment": environment, "files": files})).await;
        seen.push(get(&app, &key, "audit?limit=500").await["entries"].as_array().unwrap().len());
    }
    let whole = get(&app, &key, "audit?limit=500").await;
    let part = get(&app, &staging, "audit?limit=500").await;
    let since = |page: &Value| {
        let rows = page["entries"].as_array().unwrap();
        rows.iter().filter(|e| e["index"].as_u64().unwrap() >= first).count()
    };
    assert_eq!((since(&whole), since(&part)), (20, 10), "{:?}", kinds(&part));
    for row in part["entries"].as_array().unwrap().iter().filter(|e| e["index"].as_u64().unwrap() >= first) {
        assert!(!row.to_string().contains("production"), "{row}");
    }
    // What is everyone's is seen by everyone.
    let everyones = kinds(&part);
    for kind in ["tenant.created", "credential.created"] {
        assert!(everyones.iter().any(|k| k.starts_with(kind)), "{kind}: {everyones:?}");
    }
    // What is hidden in the list cannot be had as a proof.
    let hidden = whole["entries"].as_array().unwrap().iter().find(|e| e["kind"] == "halt.resumed").unwrap();
    let hidden_of_production = whole["entries"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|e| e["kind"] == "halt.resumed")
        .find(|e| e["index"] != hidden["index"])
        .unwrap();
    let at = format!("/v1/tenants/acme/audit/proof?index={}", hidden_of_production["index"]);
    assert_eq!(call(&app, "GET", &at, Some(&staging), None).await.0, 404);
    assert_eq!(call(&app, "GET", &at, Some(&key), None).await.0, 200);

    // The filter knows the environment of whatever has one.
    let filtered = get(&app, &key, "audit?limit=500&environment=production").await;
    let rows = filtered["entries"].as_array().unwrap();
    assert_eq!(rows.iter().filter(|e| e["index"].as_u64().unwrap() >= first).count(), 10, "{:?}", kinds(&filtered));
    assert!(rows.iter().any(|e| e["kind"] == "halt.resumed") && rows.iter().any(|e| e["kind"] == "key.added"));
    // And what is halted elsewhere.
    for environment in ["production", "staging"] {
        let halt = json!({"reason": "stop", "environment": environment});
        call(&app, "POST", "/v1/tenants/acme/emergency/halts", Some(&key), Some(&halt)).await;
    }
    let halts = get(&app, &staging, "emergency").await;
    assert_eq!(halts["halts"].as_array().unwrap().len(), 1, "{halts}");
    assert_eq!(halts["halts"][0]["scope"], "environment:staging");
    let deployments = get(&app, &staging, "deployments").await;
    assert_eq!(deployments.as_array().unwrap().len(), 1, "{deployments}");
    assert_eq!(deployments[0]["environment"], "staging");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_go_on_where_they_stopped_and_take_no_cursor_of_another() {
    let (_world, app, key) = app().await;
    narrow(&app, &key, "second", "staging").await;
    for amount in 1..=7 {
        let body = GOOD.replace("40", &amount.to_string());
        raw(&app, "POST", INTENTS, Some(&key), Some(body.into()), "application/json").await;
    }
    let mut ids = std::collections::BTreeSet::new();
    let mut at = "intents?limit=3".to_owned();
    let mut cursor = String::new();
    loop {
        let page = get(&app, &key, &at).await;
        ids.extend(page["intents"].as_array().unwrap().iter().map(|r| r["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["cursor"].as_str() else { break };
        assert!(next.parse::<u64>().is_err(), "opaque");
        cursor = next.to_owned();
        at = format!("intents?limit=3&cursor={next}");
    }
    assert_eq!(ids.len(), 7);
    for (list, wrong) in [("audit", cursor.as_str()), ("intents", "17"), ("intents", "!"), ("intents", &cursor[1..])] {
        let path = format!("/v1/tenants/acme/{list}?cursor={wrong}");
        let (status, problem) = call(&app, "GET", &path, Some(&key), None).await;
        assert_eq!((status, problem["code"].as_str()), (400, Some("request.invalid")), "{list} {wrong}");
        assert_eq!(problem["errors"][0]["pointer"], "/cursor");
    }
    // A list that is an array says in a header where to go on.
    for (list, name) in [
        ("deployments", "environment"),
        ("credentials", "credential"),
        ("agents", "agent"),
        ("capabilities-registry", "capability"),
    ] {
        let whole = get(&app, &key, list).await;
        let mut path = format!("/v1/tenants/acme/{list}?limit=1");
        let mut rows: Vec<Value> = Vec::new();
        loop {
            let request = Request::get(&path).header("authorization", format!("Bearer {key}"));
            let answer = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            let link = answer.headers().get("link").map(|l| l.to_str().unwrap().to_owned());
            let bytes = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
            let page: Vec<Value> = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(page.len(), 1, "{list}");
            rows.extend(page);
            let Some(link) = link else { break };
            path = link.strip_prefix('<').unwrap().split_once(">; rel=\"next\"").unwrap().0.to_owned();
        }
        assert!(!rows.is_empty() && rows[0][name].is_string(), "{list}");
        assert_eq!(json!(rows), whole, "{list}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revocations_are_read_after_an_index() {
    let (_world, app, key) = app().await;
    let mut revoked = Vec::new();
    for _ in 0..3 {
        let (_, allowed) = raw(&app, "POST", INTENTS, Some(&key), Some(GOOD.into()), "application/json").await;
        let grant = &allowed["receipt"]["entry"]["body"]["grant"];
        let path = format!("/v1/tenants/acme/tokens/{}/revoke", grant["jti"].as_str().unwrap());
        let body = json!({"intent": allowed["id"], "reason": "changed my mind"});
        let (status, answer) = call(&app, "POST", &path, Some(&key), Some(&body)).await;
        assert_eq!(status, 200, "{answer}");
        revoked.push((answer["index"].as_u64().unwrap(), grant["jti"].clone()));
    }
    let page = get(&app, &key, "revocations?after=0&limit=2").await;
    let rows = page["revocations"].as_array().unwrap();
    let got: Vec<_> = rows.iter().map(|r| (r["index"].as_u64().unwrap(), r["jti"].clone())).collect();
    assert_eq!(got, revoked[..2]);
    assert_eq!((page["after"].as_u64(), page["more"].as_bool()), (Some(revoked[1].0), Some(true)));
    let page = get(&app, &key, &format!("revocations?after={}", revoked[1].0)).await;
    assert_eq!(page["revocations"][0]["jti"], revoked[2].1);
    assert_eq!((page["revocations"].as_array().unwrap().len(), page["more"].as_bool()), (1, Some(false)));
    assert_eq!(page["cuts"], json!([]));
    // What kills many at once stands there too: who asks for no more than this misses nothing.
    let selector = json!({"agent": "support-agent", "environment": "production"});
    let bulk = json!({"selector": selector, "reason": "leaked"});
    let (status, bulk) = call(&app, "POST", "/v1/tenants/acme/revocations", Some(&key), Some(&bulk)).await;
    assert_eq!(status, 201, "{bulk}");
    let halt = json!({"environment": "production", "on": {"tool": "x.*"}, "reason": "it loops"});
    let (status, halt) = call(&app, "POST", "/v1/tenants/acme/emergency/halts", Some(&key), Some(&halt)).await;
    assert_eq!(status, 201, "{halt}");
    let page = get(&app, &key, &format!("revocations?after={}&limit=1", revoked[2].0)).await;
    assert_eq!(page["cuts"][0]["selector"], selector);
    assert_eq!((&page["cuts"][0]["by"], &page["cuts"][0]["index"]), (&json!("revoked"), &bulk["index"]));
    assert_eq!(page["more"], true);
    let page = get(&app, &key, &format!("revocations?after={}&limit=1", page["after"])).await;
    assert_eq!(page["cuts"][0]["on"], json!({"tool": "x.*"}));
    assert_eq!((&page["cuts"][0]["by"], &page["cuts"][0]["index"]), (&json!("halted"), &halt["index"]));
    assert_eq!(get(&app, &key, "revocations?after=0&environment=staging").await["cuts"], json!([]));
    // Nothing of another environment.
    let staging = narrow(&app, &key, "verifier", "staging").await;
    let page = get(&app, &staging, "revocations?after=0").await;
    assert_eq!((&page["revocations"], &page["cuts"]), (&json!([]), &json!([])));
    let at = "/v1/tenants/acme/revocations?after=0&environment=production";
    assert_eq!(call(&app, "GET", at, Some(&staging), None).await.0, 403);
    assert_eq!(get(&app, &key, "revocations?after=0&environment=staging").await["revocations"], json!([]));
}

/// A stream of events that is being read.
struct Watching {
    body: std::pin::Pin<Box<axum::body::BodyDataStream>>,
    text: String,
}

impl Watching {
    async fn open(app: &axum::Router, key: &str, path: &str, last: Option<u64>) -> Result<Self, (u16, Value)> {
        let mut request =
            Request::get(format!("/v1/tenants/acme/{path}")).header("authorization", format!("Bearer {key}"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let answer = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        if status != 200 {
            let bytes = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
            return Err((status, serde_json::from_slice(&bytes).unwrap()));
        }
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Ok(Self { body: Box::pin(answer.into_body().into_data_stream()), text: String::new() })
    }
    /// The next chunk; `None` at the end.
    async fn more(&mut self) -> Option<()> {
        let next = std::future::poll_fn(|cx| self.body.as_mut().poll_next(cx));
        let chunk = tokio::time::timeout(Duration::from_secs(20), next).await.expect("nothing comes")?;
        self.text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        Some(())
    }
    /// Reads until there are so many events, as index and kind.
    async fn events(&mut self, n: usize) -> Vec<(u64, String)> {
        loop {
            let found: Vec<_> = self.text.split("\n\n").filter_map(event).collect();
            if found.len() >= n {
                return found;
            }
            self.more().await.expect("it ended");
        }
    }
}

fn event(text: &str) -> Option<(u64, String)> {
    let line = |name: &str| text.lines().find_map(|l| l.strip_prefix(name));
    let data: Value = serde_json::from_str(line("data: ")?).unwrap();
    let (id, kind) = (line("id: ")?.parse().unwrap(), line("event: ")?.to_owned());
    assert_eq!((data["index"].as_u64(), data["kind"].as_str()), (Some(id), Some(kind.as_str())));
    Some((id, kind))
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_in_order_and_go_on_where_the_client_was() {
    let (world, app, key) = app().await;
    let submit = async || raw(&app, "POST", INTENTS, Some(&key), Some(GOOD.into()), "application/json").await.0;
    let size = world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size;
    let mut live = Watching::open(&app, &key, "events", None).await.unwrap();
    live.more().await.unwrap();
    assert_eq!(live.text, format!(": alive\nid: {}\n\n", size - 1), "it lives, and says from where");
    for _ in 0..3 {
        assert_eq!(submit().await, 200);
    }
    let decisions: Vec<_> = (size..size + 3).map(|at| (at, "decision".to_owned())).collect();
    assert_eq!(live.events(3).await, decisions);
    // From the middle, by either way; the header is what counts for who comes back.
    let mut again = Watching::open(&app, &key, &format!("events?after={size}"), None).await.unwrap();
    assert_eq!(again.events(2).await, decisions[1..]);
    let mut back = Watching::open(&app, &key, "events?after=0", Some(size + 1)).await.unwrap();
    assert_eq!(back.events(1).await, decisions[2..]);
    // From the start all of it.
    let mut all = Watching::open(&app, &key, "events?after=0", None).await.unwrap();
    let indexes: Vec<u64> = all.events(usize::try_from(size + 2).unwrap()).await.iter().map(|e| e.0).collect();
    assert_eq!(indexes, (1..size + 3).collect::<Vec<_>>());

    for (path, last, pointer) in
        [(format!("events?after={}", size + 3), None, "/after"), ("events".to_owned(), Some(u64::MAX), "/after")]
    {
        let (status, problem) = Watching::open(&app, &key, &path, last).await.map(drop).unwrap_err();
        assert_eq!((status, problem["errors"][0]["pointer"].as_str()), (400, Some(pointer)), "{problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_show_what_the_credential_may_see_for_as_long_as_it_may() {
    let (_world, app, key) = app().await;
    let staging = narrow(&app, &key, "watcher", "staging").await;
    let mut stream = Watching::open(&app, &staging, "events", None).await.unwrap();
    raw(&app, "POST", INTENTS, Some(&key), Some(GOOD.into()), "application/json").await;
    let theirs = GOOD.replace("\"production\"", "\"staging\"");
    let (_, seen) = raw(&app, "POST", INTENTS, Some(&key), Some(theirs.into()), "application/json").await;
    assert_eq!(stream.events(1).await, [(seen["receipt"]["index"].as_u64().unwrap(), "decision".to_owned())]);
    let revoke = "/v1/tenants/acme/credentials/watcher/revoke";
    assert_eq!(call(&app, "POST", revoke, Some(&key), Some(&json!({"reason": "lost"}))).await.0, 200);
    raw(&app, "POST", INTENTS, Some(&key), Some(GOOD.replace("production", "staging").into()), "application/json")
        .await;
    while stream.more().await.is_some() {}
    assert!(!stream.text.contains("production"), "{}", stream.text);
    assert!(stream.events(1).await.len() <= 2, "its own revocation at most");
    let new = json!({"credential": "none", "environments": ["staging"], "scopes": ["intent:read"]});
    let (_, created) = call(&app, "POST", "/v1/tenants/acme/credentials", Some(&key), Some(&new)).await;
    let refused = Watching::open(&app, created["key"].as_str().unwrap(), "events", None).await.map(drop);
    assert_eq!(refused.unwrap_err().0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_bounded_and_end_when_the_server_stops() {
    let world = World::new().await.unwrap();
    let state = intended_api::App::new(world.runtime.clone());
    let app = intended_api::router(state.clone());
    let key = &world.owner_key;
    let mut open = Vec::new();
    for _ in 0..intended_api::watch::MAX_STREAMS {
        open.push(Watching::open(&app, key, "events", None).await.unwrap());
    }
    let (status, problem) = Watching::open(&app, key, "events", None).await.map(drop).unwrap_err();
    assert_eq!((status, problem["code"].as_str()), (429, Some("rate_limited")));
    // One that goes makes room, as soon as it is noticed.
    drop(open.pop());
    let mut room = Watching::open(&app, key, "events", None).await;
    for _ in 0..100 {
        if room.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        room = Watching::open(&app, key, "events", None).await;
    }
    open.push(room.unwrap());
    state.drain();
    for mut stream in open {
        while stream.more().await.is_some() {}
    }
}

async fn verified(app: &axum::Router, key: &str) -> Value {
    let at = "/v1/tenants/acme/audit/verification";
    let (status, started) = call(app, "POST", at, Some(key), None).await;
    assert_eq!((status, started["state"].as_str()), (202, Some("running")), "{started}");
    for _ in 0..600 {
        let (_, body) = call(app, "GET", at, Some(key), None).await;
        if body["state"] == "idle" {
            return body["last"].clone();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it does not end");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_is_verified_in_the_background_and_what_fails_is_named() {
    let (world, app, key) = app().await;
    for _ in 0..5 {
        raw(&app, "POST", INTENTS, Some(&key), Some(GOOD.into()), "application/json").await;
    }
    assert_eq!(get(&app, &key, "audit/verification").await, json!({"state": "idle"}));
    let size = world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size;
    let held = verified(&app, &key).await;
    assert_eq!((held["outcome"].as_str(), held["size"].as_u64()), (Some("holds"), Some(size)), "{held}");
    assert_eq!(held["decisions"], 5);

    // A decision is changed where nobody looks: in the file.
    let tampered = size - 3;
    let file = rusqlite::Connection::open(world.dir.path().join(intended_store_sqlite::FILE)).unwrap();
    let leaf: Vec<u8> = file
        .query_row(
            "SELECT leaf FROM entries WHERE id & ((1 << 40) - 1) = ?1",
            [i64::try_from(tampered).unwrap()],
            |row| row.get(0),
        )
        .unwrap();
    let changed = String::from_utf8(leaf).unwrap().replace("\"amount\":40", "\"amount\":41").into_bytes();
    let rows = file
        .execute(
            "UPDATE entries SET leaf = ?1 WHERE id & ((1 << 40) - 1) = ?2",
            rusqlite::params![changed, i64::try_from(tampered).unwrap()],
        )
        .unwrap();
    assert_eq!(rows, 1);
    let failed = verified(&app, &key).await;
    assert_eq!(
        (failed["outcome"].as_str(), failed["failure"]["index"].as_u64()),
        (Some("fails"), Some(tampered)),
        "{failed}"
    );
    assert!(failed["failure"]["message"].is_string());
    // Who is responsible for a part learns that and where, not what; and starts none.
    let staging = narrow(&app, &key, "auditor", "staging").await;
    let shown = get(&app, &staging, "audit/verification").await;
    assert_eq!(shown["last"]["failure"]["index"].as_u64(), Some(tampered));
    assert!(shown["last"]["failure"].get("message").is_none(), "{shown}");
    let at = "/v1/tenants/acme/audit/verification";
    assert_eq!(call(&app, "POST", at, Some(&staging), None).await.0, 403);
}
