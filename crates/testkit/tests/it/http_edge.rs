//! The HTTP edge: bad input refused by name, isolation, the OpenAPI document against the routes.

use axum::body::Body;
use http::Request;
use intended_testkit::World;
use serde_json::{Value, json};
use tower::ServiceExt as _;

/// One request against the application in memory.
pub async fn call(
    app: &axum::Router,
    method: &str,
    path: &str,
    key: Option<&str>,
    body: Option<&Value>,
) -> (u16, Value) {
    raw(app, method, path, key, body.map(|b| b.to_string().into_bytes()), "application/json").await
}

pub async fn raw(
    app: &axum::Router,
    method: &str,
    path: &str,
    key: Option<&str>,
    body: Option<Vec<u8>>,
    kind: &str,
) -> (u16, Value) {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    if body.is_some() {
        request = request.header("content-type", kind);
    }
    let request = request.body(body.map_or_else(Body::empty, Body::from)).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

pub async fn app() -> (World, axum::Router, String) {
    let world = World::new().await.unwrap();
    let app = intended_api::router(intended_api::App::new(world.runtime.clone()));
    let key = world.owner_key.clone();
    (world, app, key)
}

pub const INTENTS: &str = "/v1/tenants/acme/intents";
pub const GOOD: &str = r#"{"subject":{"type":"agent","id":"support-agent"},"action":{"name":"stripe.create_refund","properties":{"amount":40}},"resource":{"type":"charge","id":"ch_1"},"environment":"production"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_answers_with_its_whole_trace_a_token_and_a_receipt_that_holds() {
    let (world, app, key) = app().await;
    let (status, body) = raw(&app, "POST", INTENTS, Some(&key), Some(GOOD.into()), "application/json").await;
    assert_eq!((status, body["decision"].as_str()), (200, Some("allow")), "{body}");
    assert_eq!(body["gates"].as_array().unwrap().len(), 9);
    assert_eq!(body["risk"]["factors"].as_array().unwrap().len(), 8);
    let receipt: intended_ledger::Receipt = serde_json::from_str(&body["receipt"].to_string()).unwrap();
    let vkey = world.owner.tenant.state().vkey.to_string();
    receipt.verify(&vkey).unwrap();
    let id = body["id"].as_str().unwrap();
    for part in ["", "/explain", "/receipt", "/evidence"] {
        assert_eq!(call(&app, "GET", &format!("{INTENTS}/{id}{part}"), Some(&key), None).await.0, 200, "{part}");
    }
    let (_, replay) = call(&app, "POST", &format!("{INTENTS}/{id}/replay"), Some(&key), None).await;
    assert_eq!(replay["same"], json!(true));
    let (_, proof) = call(&app, "GET", "/v1/tenants/acme/audit/proof?index=3", Some(&key), None).await;
    serde_json::from_str::<intended_ledger::Receipt>(&proof.to_string()).unwrap().verify(&vkey).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_by_name_and_nothing_is_recorded() {
    let (world, app, key) = app().await;
    let before = world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size;
    let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
    for (body, status, code) in [
        ("{".to_owned(), 400, "json.malformed"),
        (format!("\u{feff}{GOOD}"), 400, "json.malformed"),
        (GOOD.replace("\"amount\":40", "\"amount\":40,\"amount\":4000"), 400, "json.duplicate_key"),
        (GOOD.replace("40", "9007199254740993"), 400, "json.number_range"),
        (GOOD.replace("40", "1e400"), 400, "json.number_range"),
        (GOOD.replace("40", "-0"), 400, "json.number_precision"),
        (GOOD.replace("40", "0.10000000000000000001"), 400, "json.number_precision"),
        (GOOD.replace("ch_1", "\\ud800"), 400, "json.lone_surrogate"),
        (GOOD.replace("{\"amount\":40}", &deep), 400, "json.too_deep"),
        (GOOD.replace("stripe.create_refund", "stripe.creаte_refund"), 400, "request.text_unsafe"),
        (GOOD.replace("support-agent", "support\u{200b}-agent"), 400, "request.text_unsafe"),
        (GOOD.replace("\"environment\"", "\"approved_by\":\"me\",\"environment\""), 400, "request.unknown_field"),
        (GOOD.replace("\"type\":\"charge\"", "\"type\":7"), 400, "request.invalid"),
        (format!("{GOOD}{}", " ".repeat(70_000)), 413, "request.too_large"),
    ] {
        let (got, problem) =
            raw(&app, "POST", INTENTS, Some(&key), Some(body.clone().into_bytes()), "application/json").await;
        assert_eq!((got, problem["code"].as_str()), (status, Some(code)), "{}", &body[..body.len().min(200)]);
        assert!(problem["hint"].is_string() && problem["type"].is_string());
    }
    let (status, problem) = raw(&app, "POST", INTENTS, Some(&key), Some(GOOD.into()), "text/plain").await;
    assert_eq!((status, problem["code"].as_str()), (415, Some("request.media_type")));
    assert_eq!(world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_and_catalogues_that_are_not_valid_are_refused_with_their_place_and_not_stored() {
    let (world, app, key) = app().await;
    let before = world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size;
    let deploy = |policy: String| json!({"environment": "staging", "files": {"pack.toml": "name = \"p\"\nversion = \"1\"\n", "a.cedar": policy}});
    for policy in [
        "permit (principal, action, resource)".to_owned(),
        "permit (principal, action, resource);".to_owned(),
        "@id(\"a\") permit (principal, action == Action::\"no.such_tool\", resource);".to_owned(),
        "@id(\"a\") permit (principal, action, resource) when { context.rissk > 3 };".to_owned(),
        "@id(\"a\") permit (principal, action, resource) when { context.text.getTag(\"x\") == \"y\" };".to_owned(),
        "@id(\"a\") @esclate(\"1 of x\") permit (principal, action, resource);".to_owned(),
        "@id(\"a\") @escalate(\"lots\") permit (principal, action, resource);".to_owned(),
        "@id(\"a\") forbid (principal, action, resource); @id(\"a\") forbid (principal, action, resource);".to_owned(),
        format!(
            "@id(\"a\") permit (principal, action, resource) when {{ {}true{} }};",
            "(".repeat(10_000),
            ")".repeat(10_000)
        ),
        format!("@id(\"a\") permit (principal, action, resource) when {{ {}true }};", "!".repeat(10_000)),
        "@id(\"a) permit".to_owned(),
    ] {
        let (status, problem) =
            call(&app, "POST", "/v1/tenants/acme/deployments", Some(&key), Some(&deploy(policy.clone()))).await;
        assert_eq!(
            (status, problem["code"].as_str()),
            (422, Some("pack.invalid")),
            "{}: {problem}",
            &policy[..policy.len().min(120)]
        );
        assert!(problem["errors"][0]["pointer"].as_str().unwrap().starts_with("/files/a.cedar"), "{problem}");
    }
    let (status, problem) =
        call(&app, "PUT", "/v1/tenants/acme/catalogue", Some(&key), Some(&json!({"text": "\"a\" = 1"}))).await;
    assert_eq!((status, problem["code"].as_str()), (422, Some("catalogue.invalid")));
    assert_eq!(world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size, before);
}

/// Every route of the document: without a credential, with a mistyped one, with another tenant's.
#[tokio::test(flavor = "multi_thread")]
async fn i9_no_route_of_a_tenant_answers_anyone_else() {
    let (world, app, key) = app().await;
    let other = intended_model::TenantId::new("other").unwrap();
    let environments = vec![(
        intended_testkit::environment("production").unwrap(),
        intended_model::entry::Tier::Production,
        Default::default(),
    )];
    let foreign = world.runtime.create_tenant(&other, &environments).await.unwrap().owner.key;
    let document = serde_json::to_value(intended_api::openapi()).unwrap();
    let mut walked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        if !path.starts_with("/v1/tenants/") {
            continue;
        }
        let concrete = path.replace("{tenant}", "acme").replace("{id}", "0192f0c1-7b1e-7fff-bfff-ffffffffffff");
        let concrete = concrete.replace(['{', '}'], "");
        for method in item.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            let body = json!({});
            let body = (method != "GET").then_some(&body);
            // Who signs in has no credential yet: see `sign_in_http`.
            if method == "POST" && intended_api::v1::sign_in::OPEN.contains(&path.as_str()) {
                continue;
            }
            walked += 1;
            assert_eq!(call(&app, &method, &concrete, None, body).await.0, 401, "{method} {path}");
            let mistyped = format!("{}x", &key[..key.len() - 1]);
            assert_eq!(call(&app, &method, &concrete, Some(&mistyped), body).await.0, 401, "{method} {path}");
            let (status, problem) = call(&app, &method, &concrete, Some(&foreign), body).await;
            assert_eq!((status, problem["code"].as_str()), (404, Some("not_found")), "{method} {path}: {problem}");
        }
    }
    assert!(walked > 25, "{walked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_document_says_is_routed_and_the_rest_is_not() {
    let (_world, app, key) = app().await;
    let document = serde_json::to_value(intended_api::openapi()).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    for (path, item) in document["paths"].as_object().unwrap() {
        let concrete = path.replace(['{', '}'], "");
        let methods: Vec<String> = item.as_object().unwrap().keys().map(|m| m.to_uppercase()).collect();
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            let (status, _) = call(&app, method, &concrete, Some(&key), None).await;
            assert_eq!(status != 405, methods.iter().any(|m| m == method), "{method} {path}: {status}");
        }
    }
    assert_eq!(call(&app, "GET", "/v1/tenants/acme/nothing", None, None).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn halts_over_http_stop_and_resume() {
    let (_world, app, key) = app().await;
    let (status, halt) =
        call(&app, "POST", "/v1/tenants/acme/emergency/halts", Some(&key), Some(&json!({"reason": "drill"}))).await;
    assert_eq!(status, 201);
    let (status, body) = raw(&app, "POST", INTENTS, Some(&key), Some(GOOD.into()), "application/json").await;
    assert_eq!((status, body["reason"].as_str()), (403, Some("halt.tenant")));
    let path = format!("/v1/tenants/acme/emergency/halts/{}/resume", halt["halt"].as_str().unwrap());
    assert_eq!(call(&app, "POST", &path, Some(&key), Some(&json!({"reason": "over"}))).await.0, 200);
    assert_eq!(call(&app, "POST", &path, Some(&key), Some(&json!({"reason": "over"}))).await.0, 404);
    assert_eq!(raw(&app, "POST", INTENTS, Some(&key), Some(GOOD.into()), "application/json").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_readiness_and_metrics_answer_and_draining_is_not_ready() {
    let world = World::new().await.unwrap();
    let state = intended_api::App::new(world.runtime.clone());
    let app = intended_api::router(state.clone());
    assert_eq!(call(&app, "GET", "/livez", None, None).await.0, 200);
    assert_eq!(call(&app, "GET", "/readyz", None, None).await.0, 200);
    let (status, health) = call(&app, "GET", "/healthz", None, None).await;
    assert_eq!((status, health["status"].as_str()), (200, Some("healthy")), "{health}");
    assert_eq!(call(&app, "GET", "/metrics", None, None).await.0, 200);
    state.drain();
    assert_eq!(call(&app, "GET", "/readyz", None, None).await.0, 503);
    assert_eq!(call(&app, "GET", "/livez", None, None).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_asks_too_often_is_told_when_to_come_back() {
    let (world, app, key) = app().await;
    world.runtime.limit_requests(3);
    let get = || Request::get(INTENTS).header("authorization", format!("Bearer {key}")).body(Body::empty()).unwrap();
    for left in ["2", "1", "0"] {
        let answer = app.clone().oneshot(get()).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["ratelimit-policy"], "\"credential\";q=3;w=1");
        assert_eq!(answer.headers()["ratelimit"], format!("\"credential\";r={left};t=1").as_str());
    }
    let refused = app.clone().oneshot(get()).await.unwrap();
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["retry-after"], "1");
    let body = axum::body::to_bytes(refused.into_body(), usize::MAX).await.unwrap();
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((problem["code"].as_str(), problem["retryable"].as_bool()), (Some("rate_limited"), Some(true)));
    world.clock.advance_millis(1_000);
    assert_eq!(app.clone().oneshot(get()).await.unwrap().status(), 200);
}

/// What a caller's tracer says of the trace that a request belongs to.
pub const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_carries_a_request_id_and_a_problem_names_it() {
    let (_world, app, _) = app().await;
    let given = Request::get(INTENTS).header("x-request-id", "mine-1").header("traceparent", PARENT);
    let answer = app.clone().oneshot(given.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(answer.headers()["x-request-id"], "mine-1");
    assert_eq!(answer.headers()["traceparent"], PARENT);
    let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["request_id"], "mine-1");
    let odd = Request::get(INTENTS).header("traceparent", "00-4bf9-00f0-01").body(Body::empty()).unwrap();
    assert!(
        !app.clone().oneshot(odd).await.unwrap().headers().contains_key("traceparent"),
        "what is none is not passed on"
    );

    let mut made = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let (_, problem) = call(&app, "GET", INTENTS, None, None).await;
        made.insert(problem["request_id"].as_str().unwrap().to_owned());
    }
    assert_eq!(made.len(), 3, "each request gets an id of its own");
}

/// A credential of one environment: what it may not find it cannot list, prove or take along.
#[tokio::test(flavor = "multi_thread")]
async fn a_credential_of_one_environment_sees_nothing_of_another() {
    let (world, app, key) = app().await;
    let (_, decided) = raw(&app, "POST", INTENTS, Some(&key), Some(GOOD.into()), "application/json").await;
    let (id, index) = (decided["id"].as_str().unwrap(), decided["receipt"]["index"].as_u64().unwrap());
    let new = json!({"credential": "staging", "environments": ["staging"], "scopes": ["intent:submit", "intent:read", "audit:read"]});
    let (status, created) = call(&app, "POST", "/v1/tenants/acme/credentials", Some(&key), Some(&new)).await;
    assert!(status < 300, "{created}");
    let narrow = created["key"].as_str().unwrap();
    let (status, problem) = raw(&app, "POST", INTENTS, Some(narrow), Some(GOOD.into()), "application/json").await;
    assert_eq!((status, problem["code"].as_str()), (403, Some("credential.environment")));
    for path in [
        format!("intents/{id}"),
        format!("intents/{id}/explain"),
        format!("intents/{id}/receipt"),
        format!("intents/{id}/evidence"),
        format!("audit/proof?index={index}"),
        format!("audit/proof?index={index}&size={}", index + 1),
    ] {
        let at = format!("/v1/tenants/acme/{path}");
        assert_eq!(call(&app, "GET", &at, Some(&key), None).await.0, 200, "{path}");
        let (status, problem) = call(&app, "GET", &at, Some(narrow), None).await;
        assert_eq!((status, problem["code"].as_str()), (404, Some("not_found")), "{path}");
    }
    for (path, list) in [("intents", "intents"), ("audit?kind=decision", "entries")] {
        let (_, page) = call(&app, "GET", &format!("/v1/tenants/acme/{path}"), Some(narrow), None).await;
        assert_eq!(page[list], json!([]), "{path}");
    }
    assert_eq!(call(&app, "POST", "/v1/tenants/acme/audit/exports", Some(narrow), None).await.0, 403);
    drop(world);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_has_expired_or_was_revoked_is_refused_by_name() {
    let (world, app, key) = app().await;
    let expires = (world.clock_now() + 60_000).to_string();
    let new = json!({"credential": "brief", "environments": ["production"], "scopes": ["intent:submit"], "expires_at": expires.parse::<i64>().unwrap()});
    let (status, created) = call(&app, "POST", "/v1/tenants/acme/credentials", Some(&key), Some(&new)).await;
    assert!(status < 300, "{created}");
    let brief = created["key"].as_str().unwrap().to_owned();
    let submit = async || {
        let (status, body) = raw(&app, "POST", INTENTS, Some(&brief), Some(GOOD.into()), "application/json").await;
        (status, body["code"].as_str().map(str::to_owned))
    };
    assert_eq!(submit().await.0, 200);
    world.clock.advance_millis(60_000);
    assert_eq!(submit().await, (401, Some("credential.expired".to_owned())));
    let revoke = "/v1/tenants/acme/credentials/brief/revoke";
    let (status, body) = call(&app, "POST", revoke, Some(&key), Some(&json!({"reason": "lost"}))).await;
    assert!(status < 300, "{body}");
    assert_eq!(submit().await, (401, Some("credential.revoked".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_escalation_can_be_waited_for() {
    let (world, app, key) = app().await;
    let (status, body) =
        raw(&app, "POST", INTENTS, Some(&key), Some(GOOD.replace("40", "400").into()), "application/json").await;
    assert_eq!((status, body["state"].as_str()), (202, Some("open")), "{body}");
    let at = format!("{INTENTS}/{}", body["id"].as_str().unwrap());
    for wrong in ["30", "s", "30h", "-1s", ""] {
        assert_eq!(call(&app, "GET", &format!("{at}?wait={wrong}"), Some(&key), None).await.0, 400, "{wrong}");
    }
    let (_, still) = call(&app, "GET", &format!("{at}?wait=10ms"), Some(&key), None).await;
    assert_eq!(still["state"], "open");
    let waiting = call_later(&app, &format!("{at}?wait=30s"), &key);
    world.clock.advance_millis(10 * 24 * 3_600_000);
    let (status, closed) = waiting.await.unwrap();
    assert_eq!((status, closed["state"].as_str(), closed["decision"].as_str()), (200, Some("timed_out"), Some("deny")));
}

fn call_later(app: &axum::Router, path: &str, key: &str) -> tokio::task::JoinHandle<(u16, Value)> {
    let (app, path, key) = (app.clone(), path.to_owned(), key.to_owned());
    tokio::spawn(async move { call(&app, "GET", &path, Some(&key), None).await })
}

/// A credential that may administer one environment: what is everyone's it may not change.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_responsible_for_one_environment_changes_nothing_of_the_others() {
    let (_world, app, key) = app().await;
    let scopes = ["access:read", "access:write", "policy:write", "emergency:read", "emergency:write", "key:write"];
    let new = json!({"credential": "staging-admin", "environments": ["staging"], "scopes": scopes});
    let (status, created) = call(&app, "POST", "/v1/tenants/acme/credentials", Some(&key), Some(&new)).await;
    assert!(status < 300, "{created}");
    let narrow = created["key"].as_str().unwrap();
    let (status, halted) = call(
        &app,
        "POST",
        "/v1/tenants/acme/emergency/halts",
        Some(&key),
        Some(&json!({"reason": "everything stops"})),
    )
    .await;
    assert!(status < 300, "{halted}");
    let resume = format!("emergency/halts/{}/resume", halted["halt"].as_str().unwrap());
    let agent = json!({"environments": ["staging"], "owner": "x", "trust": 50, "state": "paused"});
    let capability = json!({"resource_type": "order", "pattern": "*", "criticality": "low", "data_class": "public"});
    for (method, path, body) in [
        ("POST", resume.as_str(), json!({"reason": "let it run"})),
        ("POST", "emergency/halts", json!({"reason": "stop all"})),
        ("POST", "emergency/halts", json!({"reason": "stop", "environment": "production"})),
        ("POST", "credentials/owner/revoke", json!({"reason": "mine now"})),
        ("PUT", "agents/support-agent", agent),
        ("PUT", "capabilities-registry/orders", capability),
        ("PUT", "catalogue", json!({"text": ""})),
        ("PUT", "environments/production", json!({"tier": "development"})),
        ("PUT", "environments/mine", json!({"tier": "development"})),
        ("POST", "keys/rotate", json!({"environment": "production"})),
    ] {
        let (status, problem) =
            call(&app, method, &format!("/v1/tenants/acme/{path}"), Some(narrow), Some(&body)).await;
        assert_eq!((status, problem["code"].as_str()), (403, Some("credential.environment")), "{path}: {problem}");
    }
    // Their own they do change.
    let (status, own) = call(
        &app,
        "POST",
        "/v1/tenants/acme/emergency/halts",
        Some(narrow),
        Some(&json!({"reason": "stop", "environment": "staging"})),
    )
    .await;
    assert!(status < 300, "{own}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_makes_an_environment_can_let_others_into_it() {
    let (world, app, key) = app().await;
    let put = json!({"tier": "development"});
    let (status, made) = call(&app, "PUT", "/v1/tenants/acme/environments/lab", Some(&key), Some(&put)).await;
    assert!(status < 300, "{made}");
    let new = json!({"credential": "lab", "environments": ["lab"], "scopes": ["intent:submit"]});
    let (status, created) = call(&app, "POST", "/v1/tenants/acme/credentials", Some(&key), Some(&new)).await;
    assert!(status < 300, "{created}");
    let lab = created["key"].as_str().unwrap();
    let body = GOOD.replace("production", "lab");
    let (status, denied) = raw(&app, "POST", INTENTS, Some(lab), Some(body.into()), "application/json").await;
    assert_eq!(
        (status, denied["decision"].as_str()),
        (403, Some("deny")),
        "decided, and nothing is deployed: {denied}"
    );
    drop(world);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_says_nothing_of_tenants_to_strangers() {
    let (world, app, key) = app().await;
    let other = intended_model::TenantId::new("other").unwrap();
    let environments = vec![(
        intended_testkit::environment("vault").unwrap(),
        intended_model::entry::Tier::Production,
        Default::default(),
    )];
    let foreign = world.runtime.create_tenant(&other, &environments).await.unwrap().owner.key;
    let (status, stranger) = call(&app, "GET", "/healthz", None, None).await;
    assert_eq!(
        (status, stranger["status"].as_str(), stranger["tenants_with_trouble"].as_u64()),
        (200, Some("healthy"), Some(1)),
        "nothing is deployed for one: {stranger}"
    );
    for secret in ["acme", "other", "production", "vault", "demo", "sha256"] {
        assert!(!stranger.to_string().contains(secret), "{secret}: {stranger}");
        // A tier is one of three words, whoever has it.
        let page = crate::operate::text(&app, "/metrics", None).await.replace("tier=\"production\"", "");
        assert!(!page.contains(secret), "{secret}: {page}");
    }
    let (_, own) = call(&app, "GET", "/healthz", Some(&key), None).await;
    assert!(own.to_string().contains("acme/production") && !own.to_string().contains("vault"), "{own}");
    let (_, theirs) = call(&app, "GET", "/healthz", Some(&foreign), None).await;
    assert!(theirs.to_string().contains("other/vault") && !theirs.to_string().contains("acme"), "{theirs}");
}

/// Two who may administer everything, and one of them makes an environment: the other still can
/// stop, resume, export and revoke.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_the_kill_switch_from_the_owner() {
    let (_world, app, key) = app().await;
    let post = async |key: &str, path: &str, body: Value| {
        call(&app, "POST", &format!("/v1/tenants/acme/{path}"), Some(key), Some(&body)).await
    };
    let all = json!({"credential": "ci", "environments": ["production", "staging"], "scopes": ["access:write"]});
    let (_, created) = post(&key, "credentials", all).await;
    let ci = created["key"].as_str().unwrap();
    let (_, halted) = post(&key, "emergency/halts", json!({"reason": "stop"})).await;
    let put = json!({"tier": "development"});
    let (status, refused) = call(&app, "PUT", "/v1/tenants/acme/environments/x", Some(ci), Some(&put)).await;
    assert_eq!((status, refused["code"].as_str()), (403, Some("credential.environment")));
    let whole = json!({"credential": "second", "whole": true, "scopes": ["access:write"]});
    assert_eq!(post(ci, "credentials", whole.clone()).await.0, 403, "nobody makes a wider one");
    let (_, second) = post(&key, "credentials", whole).await;
    let second = second["key"].as_str().unwrap();
    assert_eq!(call(&app, "PUT", "/v1/tenants/acme/environments/x", Some(second), Some(&put)).await.0, 200);
    // An environment later the owner is still the owner.
    let resume = format!("emergency/halts/{}/resume", halted["halt"].as_str().unwrap());
    assert_eq!(post(&key, &resume, json!({"reason": "go on"})).await.0, 200);
    assert_eq!(post(&key, "emergency/halts", json!({"reason": "again"})).await.0, 201);
    assert_eq!(post(&key, "audit/exports", json!({})).await.0, 200);
    for name in ["ci", "second"] {
        assert_eq!(post(&key, &format!("credentials/{name}/revoke"), json!({"reason": "gone"})).await.0, 200);
    }
    // And what is brief does not make what lasts.
    let soon =
        json!({"credential": "brief", "whole": true, "scopes": ["access:write"], "expires_at": 1_795_521_660_000_i64});
    let (_, brief) = post(&key, "credentials", soon).await;
    let brief = brief["key"].as_str().unwrap();
    let lasting = json!({"credential": "lasting", "whole": true, "scopes": ["access:write"]});
    assert_eq!(post(brief, "credentials", lasting).await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_that_is_left_out_stays_as_it_is() {
    let (world, app, key) = app().await;
    let budgets = || {
        world.owner.tenant.state().environments[&intended_testkit::environment("production").unwrap()].settings.clone()
    };
    let before = budgets();
    assert_eq!(before.budgets.len(), 1);
    let put = async |body: Value| {
        call(&app, "PUT", "/v1/tenants/acme/environments/production", Some(&key), Some(&body)).await
    };
    assert_eq!(put(json!({"tier": "production", "settings": {"risk_deny_at": 50}})).await.0, 200);
    let after = budgets();
    assert_eq!((after.risk_deny_at, &after.budgets), (50, &before.budgets));
    assert_eq!(put(json!({"tier": "staging"})).await.0, 200);
    assert_eq!(budgets().risk_deny_at, 50);
    for wrong in
        [json!({"risk_deny": 1}), json!({"hours": {"offset_minutes": -2147483648_i64}}), json!({"token_ttl_secs": 0})]
    {
        let (status, problem) = put(json!({"tier": "staging", "settings": wrong})).await;
        assert_eq!((status, problem["code"].as_str()), (422, Some("settings.invalid")), "{problem}");
    }
}

/// Numbers at the end of their range, objects with thousands of members: refused or decided, never a
/// connection that just closes, and read again in no time.
#[tokio::test(flavor = "multi_thread")]
async fn extreme_input_is_answered() {
    let (_world, app, key) = app().await;
    for number in ["-9223372036854775808", "9223372036854775807", "-9007199254740992"] {
        let body = GOOD.replace("40", number).into_bytes();
        let (status, problem) = raw(&app, "POST", INTENTS, Some(&key), Some(body), "application/json").await;
        assert_eq!((status, problem["code"].as_str()), (400, Some("json.number_range")), "{number}");
    }
    let members: Vec<String> = (0..7_000).map(|n| format!("\"{n:04}\":1")).collect();
    let wide = GOOD.replace("{\"amount\":40}", &format!("{{{}}}", members.join(",")));
    assert!(wide.len() < 64 * 1024);
    for _ in 0..20 {
        let (_, denied) =
            raw(&app, "POST", INTENTS, Some(&key), Some(wide.clone().into_bytes()), "application/json").await;
        assert_eq!(denied["decision"], "deny");
    }
    let (status, page) = call(&app, "GET", "/v1/tenants/acme/audit?limit=20", Some(&key), None).await;
    assert_eq!((status, page["entries"].as_array().map(Vec::len)), (200, Some(20)));
}

/// What would make a parser or an evaluator run out of stack is refused with its place. The server
/// does not end.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_of_any_shape_is_refused_before_it_is_too_deep() {
    let (_world, app, key) = app().await;
    let many = |part: &str, n: usize| part.repeat(n);
    for condition in [
        format!("1{} > 0", many("+1", 500)),
        format!("1{} > 0", many("+1", 100_000)),
        format!("context{} == 1", many(".a", 100_000)),
        format!("{}true{}", many("if(true)then ", 5_000), many(" else false", 5_000)),
        format!("{}true", many("true || ", 2_000)),
        format!("[{}] == []", many("[],", 20_000)),
        format!("{}1 == 1", many("-", 5_000)),
    ] {
        let policy = format!("@id(\"a\") permit (principal, action, resource) when {{ {condition} }};");
        let body = json!({"environment": "staging", "files": {"pack.toml": "name = \"p\"\nversion = \"1\"\n", "a.cedar": policy}});
        let (status, problem) = call(&app, "POST", "/v1/tenants/acme/deployments", Some(&key), Some(&body)).await;
        assert_eq!((status, problem["code"].as_str()), (422, Some("pack.invalid")), "{:.80}", policy);
    }
}

/// Whoever is unknown gets their answer before anything of the body is read.
#[tokio::test(flavor = "multi_thread")]
async fn no_body_is_read_of_a_caller_who_is_unknown() {
    let (_world, app, _key) = app().await;
    for path in [INTENTS, "/v1/tenants/acme/deployments", "/access/v1/evaluation"] {
        let never = Body::from_stream(Never);
        let request = Request::post(path).header("content-type", "application/json").body(never).unwrap();
        let answer = tokio::time::timeout(std::time::Duration::from_secs(30), app.clone().oneshot(request));
        assert_eq!(answer.await.expect("it waits for the body").unwrap().status(), 401, "{path}");
    }
}

/// A body that never comes.
struct Never;

impl futures_core::Stream for Never {
    type Item = Result<bytes::Bytes, std::io::Error>;
    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Pending
    }
}
