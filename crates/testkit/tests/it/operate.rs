//! What is said of the whole: health, metrics, the document of the interface.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use http::Request;
use intended_testkit::environment;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::http_edge::{GOOD, INTENTS, app, call, raw};

pub async fn text(app: &axum::Router, path: &str, key: Option<&str>) -> String {
    let mut request = Request::get(path);
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    let answer = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200, "{path}");
    let bytes = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub fn value(page: &str, sample: &str) -> Option<f64> {
    page.lines().find_map(|l| l.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_say_what_was_done_by_name_to_its_tenant_and_in_sums_to_others() {
    let (world, app, key) = app().await;
    let (_, first) = raw(&app, "POST", INTENTS, Some(&key), Some(GOOD.into()), "application/json").await;
    raw(&app, "POST", INTENTS, Some(&key), Some(GOOD.into()), "application/json").await;
    raw(&app, "POST", INTENTS, Some(&key), Some(GOOD.replace("40", "400").into()), "application/json").await;
    let unknown = GOOD.replace("stripe.create_refund", "no.such_tool");
    raw(&app, "POST", INTENTS, Some(&key), Some(unknown.into()), "application/json").await;
    let verify = json!({"token": first["token"], "environment": "production", "intent_hash": first["intent_hash"], "consume": true});
    for _ in 0..2 {
        call(&app, "POST", "/v1/tenants/acme/tokens/verify", Some(&key), Some(&verify)).await;
    }
    let halt = json!({"reason": "drill", "environment": "staging"});
    assert_eq!(call(&app, "POST", "/v1/tenants/acme/emergency/halts", Some(&key), Some(&halt)).await.0, 201);
    world.clock.advance_millis(7_000);

    let size = world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size;
    let page = text(&app, "/metrics", Some(&key)).await;
    for (sample, expected) in [
        (r#"intended_decisions_total{environment="production",decision="allow",reason="policy.permit"}"#, 2.0),
        (r#"intended_decisions_total{environment="production",decision="escalate",reason="policy.escalate"}"#, 1.0),
        (r#"intended_decisions_total{environment="production",decision="deny",reason="classify.tool_unknown"}"#, 1.0),
        ("intended_tokens_issued_total", 2.0),
        (r#"intended_token_verifications_total{result="accepted"}"#, 1.0),
        (r#"intended_token_verifications_total{result="token.consumed"}"#, 1.0),
        ("intended_ledger_size", size as f64),
        ("intended_checkpoint_age_seconds", 7.0),
        (r#"intended_halt_active{scope="tenant"}"#, 0.0),
        (r#"intended_halt_active{scope="environment"}"#, 1.0),
        ("intended_escalations_open", 1.0),
        ("intended_commit_conflicts_total", 0.0),
    ] {
        assert_eq!(value(&page, sample), Some(expected), "{sample}\n{page}");
    }
    for phase in ["evaluate", "commit", "sign", "total"] {
        let of = |what: &str| {
            let labels = format!(r#"environment="production",phase="{phase}""#);
            let sample = format!("intended_decision_duration_seconds_{what}");
            value(&page, &format!("{sample}{{{labels}}}"))
                .or_else(|| value(&page, &format!(r#"{sample}{{le="+Inf",{labels}}}"#)))
        };
        assert_eq!((of("count"), of("bucket")), (Some(4.0), Some(4.0)), "{phase}\n{page}");
        assert!(of("sum").unwrap() > 0.0, "{phase}");
    }
    assert!(page.contains(r#"le="0.00005""#) || page.contains(r#"le="5e-5""#), "{page}");
    assert!(value(&page, "intended_audit_append_duration_seconds_count").unwrap() >= 5.0, "{page}");
    let policy = page.lines().find(|l| l.starts_with(r#"intended_policy_info{environment="production",version=""#));
    assert!(policy.unwrap().ends_with("} 1"));
    assert!(value(&page, "process_resident_memory_bytes").unwrap() > 1e6, "{page}");
    assert!(value(&page, "process_open_fds").unwrap() > 1.0);
    assert!(
        value(&page, "process_cpu_seconds_total").is_some() && value(&page, "process_start_time_seconds").is_some()
    );

    world.runtime.save_checkpoint(&world.owner.tenant).await.unwrap();
    let page = text(&app, "/metrics", Some(&key)).await;
    assert_eq!(value(&page, "intended_checkpoint_age_seconds"), Some(0.0));
}

/// Two tenants with names of their own for everything. A tier is one of three words for everyone.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_name_nothing_of_a_tenant_to_strangers_or_to_another_one() {
    let (world, app, key) = app().await;
    let other = intended_model::TenantId::new("globex").unwrap();
    let settings = intended_model::entry::Settings::default();
    let environments = vec![(environment("vault").unwrap(), intended_model::entry::Tier::Production, settings)];
    let foreign = world.runtime.create_tenant(&other, &environments).await.unwrap().owner.key;
    raw(&app, "POST", INTENTS, Some(&key), Some(GOOD.into()), "application/json").await;
    let at = "/v1/tenants/globex/intents";
    let theirs = GOOD.replace("\"production\"", "\"vault\"");
    raw(&app, "POST", at, Some(&foreign), Some(theirs.into()), "application/json").await;

    let stranger = text(&app, "/metrics", None).await;
    for secret in [
        "acme",
        "globex",
        "vault",
        "environment=",
        "sha256",
        "demo",
        "release",
        "version=",
        "-agent",
        ".agents",
        "breaker=",
        "sink=",
    ] {
        assert!(!stranger.contains(secret), "{secret}: {stranger}");
    }
    let counted: f64 = stranger
        .lines()
        .filter(|l| l.starts_with(r#"intended_decisions_total{tier="production""#))
        .map(|l| l.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
        .sum();
    assert_eq!(counted, 2.0, "{stranger}");
    let theirs = text(&app, "/metrics", Some(&foreign)).await;
    assert!(theirs.contains(r#"environment="vault""#), "{theirs}");
    for secret in ["acme", "production", "staging", "demo", "sink="] {
        assert!(!theirs.contains(secret), "{secret}: {theirs}");
    }
    assert_eq!(
        value(&theirs, "intended_ledger_size").unwrap() as u64,
        world.runtime.store().head(&other).await.unwrap().size
    );
    // Who may not see the status is not shown it.
    let new = json!({"credential": "agent", "environments": ["production"], "scopes": ["intent:submit"]});
    let (_, created) = call(&app, "POST", "/v1/tenants/acme/credentials", Some(&key), Some(&new)).await;
    assert_eq!(call(&app, "GET", "/metrics", created["key"].as_str(), None).await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_component_says_its_version_uptime_and_checks_and_a_stranger_gets_it_once_a_second() {
    let (world, app, key) = app().await;
    world.clock.advance_millis(5_000);
    let (_, health) = call(&app, "GET", "/healthz", Some(&key), None).await;
    let components = health["components"].as_array().unwrap();
    let names: BTreeSet<&str> = components.iter().map(|c| c["component"].as_str().unwrap()).collect();
    let expected = ["audit ledger", "enforcement runtime", "gateway", "policy engine", "store", "token service"];
    assert_eq!(names, BTreeSet::from(expected));
    for component in components {
        assert_eq!(component["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(component["uptime_seconds"], 5, "{component}");
        assert!(component["checks"].as_array().unwrap().iter().all(|c| c["check"].is_string()), "{component}");
    }
    let gateway = components.iter().find(|c| c["component"] == "gateway").unwrap();
    assert!(gateway["checks"][0]["detail"].as_str().unwrap().contains("ms"), "it measured something: {gateway}");

    let (_, first) = call(&app, "GET", "/healthz", None, None).await;
    assert_eq!(first["uptime_seconds"], 5);
    world.clock.advance_millis(60_000);
    let started = std::time::Instant::now();
    let (_, again) = call(&app, "GET", "/healthz", None, None).await;
    if started.elapsed().as_millis() < 500 {
        assert_eq!(again, first, "made once for all who ask");
    }
    let (_, known) = call(&app, "GET", "/healthz", Some(&key), None).await;
    assert_eq!(known["uptime_seconds"], 65, "who says who they are gets it as it is");
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    assert_eq!(call(&app, "GET", "/healthz", None, None).await.1["uptime_seconds"], 65);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_a_credential_of_its_own_environments_only() {
    let (_world, app, key) = app().await;
    let new = json!({"credential": "watch", "environments": ["staging"], "scopes": ["status:read"]});
    let (_, created) = call(&app, "POST", "/v1/tenants/acme/credentials", Some(&key), Some(&new)).await;
    let (_, health) = call(&app, "GET", "/healthz", created["key"].as_str(), None).await;
    assert!(health.to_string().contains("acme/staging") && !health.to_string().contains("acme/production"), "{health}");
    let page = text(&app, "/metrics", created["key"].as_str()).await;
    assert!(page.contains(r#"environment="staging""#) && !page.contains("production"), "{page}");
}

/// The paths that the router knows, as it says itself.
fn routed(app: &axum::Router) -> BTreeSet<String> {
    let shown = format!("{app:?}");
    let paths = shown.split('"').filter(|part| part.starts_with('/')).map(str::to_owned);
    // The two ways of the router to hold a fallback.
    paths.filter(|p| !p.contains("__private__axum") && p != "/").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_exists_that_the_document_does_not_describe() {
    let (_world, app, _key) = app().await;
    let document: Value = serde_json::from_str(&text(&app, "/openapi.json", None).await).unwrap();
    let described: BTreeSet<String> = document["paths"].as_object().unwrap().keys().cloned().collect();
    assert!(described.contains("/openapi.json") && described.len() > 30);
    assert_eq!(routed(&app), described);
    // It would find one.
    let more = app.clone().merge(axum::Router::new().route("/hidden", axum::routing::get(|| async {})));
    assert!(routed(&more).contains("/hidden"));
    // And what is not described is not there, also beside what is.
    for path in ["/", "/v1", "/v1/tenants/acme", "/console", "/debug", "/docs", "/swagger.json"] {
        assert_eq!(call(&app, "GET", path, None, None).await.0, 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_says_who_must_say_who_they_are() {
    let (_world, app, _key) = app().await;
    let document: Value = serde_json::from_str(&text(&app, "/openapi.json", None).await).unwrap();
    assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
    assert_eq!(document["security"], json!([{"bearer": []}]));
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let open = operation.get("security").is_some();
            let concrete = path.replace(['{', '}'], "");
            let (status, _) = call(&app, &method.to_uppercase(), &concrete, None, Some(&json!({}))).await;
            assert_eq!(status == 401, !open, "{method} {path}: {status}");
            let refused = &operation["responses"]["default"]["content"]["application/problem+json"]["schema"]["$ref"];
            assert_eq!(refused, "#/components/schemas/Problem", "{method} {path}");
        }
    }
}

/// Holds a value against a schema of the document: every member described, none missing, the right
/// types. Says what does not fit.
pub fn fits(document: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        return fits(document, &document["components"]["schemas"][name], value, at);
    }
    if let Some(some) = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array()) {
        let tried: Vec<_> = some.iter().map(|s| fits(document, s, value, at)).collect();
        return if tried.iter().any(Result::is_ok) { Ok(()) } else { tried.into_iter().next_back().unwrap() };
    }
    if let Some(allowed) = schema["enum"].as_array() {
        return if allowed.contains(value) { Ok(()) } else { Err(format!("{at}: {value}")) };
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(some) => some.iter().filter_map(Value::as_str).collect(),
        // Anything at all.
        _ => return Ok(()),
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !types.contains(&kind) {
        return Err(format!("{at}: {kind}, and not one of {types:?}"));
    }
    if let Some(items) = value.as_array() {
        return items
            .iter()
            .enumerate()
            .try_for_each(|(n, v)| fits(document, &schema["items"], v, &format!("{at}/{n}")));
    }
    let (Some(members), Some(described)) = (value.as_object(), schema["properties"].as_object()) else { return Ok(()) };
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !members.contains_key(required) {
            return Err(format!("{at}: {required} is missing"));
        }
    }
    for (name, member) in members {
        let schema = described.get(name).ok_or_else(|| format!("{at}: {name} is not described"))?;
        fits(document, schema, member, &format!("{at}/{name}"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_and_requests_are_as_the_document_describes_them() {
    let (world, app, key) = app().await;
    let document: Value = serde_json::from_str(&text(&app, "/openapi.json", None).await).unwrap();
    let answer = |method: &str, path: &str, status: u16, kind: &str| -> Value {
        let path = format!("/v1/tenants/{{tenant}}/{path}");
        let content = &document["paths"][path.as_str()][method]["responses"][status.to_string()]["content"];
        assert!(content[kind]["schema"].is_object(), "{method} {path} {status}: {content}");
        content[kind]["schema"].clone()
    };
    let json_kind = "application/json";
    let submit = &document["paths"]["/v1/tenants/{tenant}/intents"]["post"]["requestBody"]["content"][json_kind];
    let mut decided = BTreeMap::new();
    for body in [
        GOOD.to_owned(),
        GOOD.replace("40", "400"),
        GOOD.replace("40", "40000000"),
        GOOD.replace("stripe.create_refund", "no.such_tool"),
    ] {
        fits(&document, &submit["schema"], &serde_json::from_str(&body).unwrap(), "").unwrap();
        let (status, body) = raw(&app, "POST", INTENTS, Some(&key), Some(body.into()), json_kind).await;
        fits(&document, &answer("post", "intents", status, json_kind), &body, "").unwrap();
        decided.insert(status, body);
    }
    assert_eq!(decided.keys().copied().collect::<Vec<_>>(), [200, 202, 403]);
    let id = decided[&202]["id"].as_str().unwrap();
    for (method, path) in [
        ("get", "intents"),
        ("get", "intents/{id}"),
        ("get", "intents/{id}/explain"),
        ("get", "intents/{id}/receipt"),
        ("get", "intents/{id}/evidence"),
        ("post", "intents/{id}/replay"),
        ("get", "jwks.json"),
        ("get", "audit/verification"),
        ("get", "capabilities"),
    ] {
        let concrete = format!("/v1/tenants/acme/{}", path.replace("{id}", id));
        let (status, body) = call(&app, &method.to_uppercase(), &concrete, Some(&key), None).await;
        fits(&document, &answer(method, path, status, json_kind), &body, "").map_err(|e| format!("{path}{e}")).unwrap();
    }
    let allowed = &decided[&200];
    let verify = json!({"token": allowed["token"], "environment": "production", "intent_hash": allowed["intent_hash"], "consume": true});
    let described =
        &document["paths"]["/v1/tenants/{tenant}/tokens/verify"]["post"]["requestBody"]["content"][json_kind];
    fits(&document, &described["schema"], &verify, "").unwrap();
    for active in [true, false] {
        let (status, body) = call(&app, "POST", "/v1/tenants/acme/tokens/verify", Some(&key), Some(&verify)).await;
        assert_eq!(body["active"], json!(active));
        fits(&document, &answer("post", "tokens/verify", status, json_kind), &body, "").unwrap();
    }
    let (_, health) = call(&app, "GET", "/healthz", Some(&key), None).await;
    fits(
        &document,
        &document["paths"]["/healthz"]["get"]["responses"]["200"]["content"][json_kind]["schema"],
        &health,
        "",
    )
    .unwrap();
    let (_, problem) = call(&app, "GET", "/v1/tenants/acme/audit?limit=x", Some(&key), None).await;
    fits(&document, &document["components"]["schemas"]["Problem"], &problem, "").unwrap();
    // It tells one that does not fit.
    for wrong in [json!({}), json!({"active": "yes"}), json!({"active": true, "more": 1})] {
        fits(&document, &answer("post", "tokens/verify", 200, json_kind), &wrong, "").unwrap_err();
    }
    drop(world);
}

#[test]
fn every_refusal_of_a_token_is_in_the_catalogue() {
    // Each refusal's code is a member of the catalogue by its type; here: the page has them all.
    let page = include_str!("../../../../docs/errors/README.md");
    for code in intended_model::Code::ALL {
        assert!(page.contains(&format!("| `{code}` |")), "{code}");
    }
    let tokens = intended_model::Code::ALL.iter().filter(|c| c.as_str().starts_with("token.")).count();
    assert_eq!(tokens, 24, "23 refusals and one that is not known");
    assert_eq!(intended_token::Refusal::Consumed.catalogued(), intended_model::Code::TokenConsumed);
}
