//! How a tenant stands, in one answer: all of it, and to each credential only what it may see.

use intended_testkit::refund;
use serde_json::{Value, json};

use crate::http_edge::{app, call};
use crate::operate::fits;

const STATUS: &str = "/v1/tenants/acme/status";

#[tokio::test(flavor = "multi_thread")]
async fn one_answer_has_all_that_is_halted_open_waiting_and_revoked() {
    let (world, app, owner) = app().await;
    let get = async || call(&app, "GET", STATUS, Some(&owner), None).await;
    let post = async |path: &str, body: Value| {
        let (status, answer) = call(&app, "POST", &format!("/v1/tenants/acme/{path}"), Some(&owner), Some(&body)).await;
        assert!(status < 300, "{path}: {status} {answer}");
        answer
    };
    let (status, quiet) = get().await;
    assert_eq!(status, 200, "{quiet}");
    assert_eq!((&quiet["halts"]["in_force"], &quiet["breakers"]["not_closed"]), (&json!(0), &json!(0)), "{quiet}");
    assert_eq!((&quiet["approvals"]["open"], &quiet["incidents"]["open"]), (&json!(0), &json!(0)));
    assert_eq!((&quiet["revocations"]["bulk"], &quiet["not_shown"]), (&json!(0), &json!([])));
    assert!(quiet["breakers"]["total"].as_u64().unwrap() > 0, "an environment has breakers of itself");

    let submission = |amount| intended_runtime::Submission {
        intent: refund(amount, None).unwrap(),
        idempotency_key: None,
        audience: None,
    };
    let asked = world.runtime.submit(&world.owner, submission(400)).await.unwrap();
    world.clock.advance_millis(60_000);
    world.runtime.submit(&world.owner, submission(401)).await.unwrap();
    post("revocations", json!({"reason": "prompt injection", "selector": {"agent": "support-agent"}})).await;
    post("incidents", json!({"title": "refunds twice", "environment": "production"})).await;
    let environment = json!({"reason": "it loops", "environment": "staging"});
    post("emergency/halts", environment).await;
    let rows = call(&app, "GET", "/v1/tenants/acme/breakers", Some(&owner), None).await.1;
    let row = rows.as_array().unwrap().iter().find(|r| r["environment"] == "production").unwrap();
    let name = row["breaker"].as_str().unwrap();
    let on = json!({"scope": "agent", "target": "support-agent"});
    post(&format!("breakers/{name}/hold"), json!({"reason": "they change it", "on": on})).await;

    let (_, now) = get().await;
    let document = serde_json::to_value(intended_api::openapi()).unwrap();
    let schema = &document["paths"]["/v1/tenants/{tenant}/status"]["get"]["responses"]["200"]["content"]["application/json"]
        ["schema"];
    for answer in [&quiet, &now] {
        fits(&document, schema, answer, "").unwrap();
    }
    let halt = &now["halts"]["newest"][0];
    assert_eq!((&halt["scope"], &halt["reason"]), (&json!("environment:staging"), &json!("it loops")));
    assert!(halt["since"].is_string() && now["halts"]["in_force"] == 1, "{now}");
    let breaker = &now["breakers"]["worst"][0];
    assert_eq!((&breaker["breaker"], &breaker["state"]), (&json!(name), &json!("held")));
    assert_eq!(breaker["held"][0]["reason"], "they change it");
    let oldest = &now["approvals"]["oldest"];
    assert_eq!((&now["approvals"]["open"], &oldest["intent"]), (&json!(2), &json!(asked.record.input.id.to_string())));
    assert_eq!(
        (&now["incidents"]["open"], &now["incidents"]["newest"][0]["title"]),
        (&json!(1), &json!("refunds twice"))
    );
    assert_eq!(
        (&now["revocations"]["bulk"], &now["revocations"]["last_reason"]),
        (&json!(1), &json!("prompt injection"))
    );
    let production = now["environments"].as_array().unwrap().iter().find(|e| e["environment"] == "production").unwrap();
    assert!(production["policy"]["digest"].is_string() && production["key"]["kid"].is_string(), "{production}");
    let size = world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size;
    assert_eq!(now["ledger"]["size"], size);
    assert_eq!(now["control"], world.owner.tenant.state().control);
    // A day later what was revoked is no news.
    world.clock.advance_millis(25 * 3_600_000);
    assert_eq!(get().await.1["revocations"]["bulk"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_see_less_is_told_less_and_what_it_is() {
    let (world, app, owner) = app().await;
    let key = async |name: &str, environments: &[&str], scopes: &[&str]| {
        let body = json!({"credential": name, "environments": environments, "scopes": scopes});
        let (status, made) = call(&app, "POST", "/v1/tenants/acme/credentials", Some(&owner), Some(&body)).await;
        assert_eq!(status, 201, "{made}");
        made["key"].as_str().unwrap().to_owned()
    };
    for (scope, reason) in [("production", "secret-there"), ("staging", "said-here")] {
        let body = json!({"reason": reason, "environment": scope});
        assert_eq!(call(&app, "POST", "/v1/tenants/acme/emergency/halts", Some(&owner), Some(&body)).await.0, 201);
    }
    let little = key("little", &["staging"], &["status:read"]).await;
    let (status, seen) = call(&app, "GET", STATUS, Some(&little), None).await;
    assert_eq!(status, 200, "{seen}");
    for hidden in ["halts", "breakers", "incidents", "approvals", "revocations"] {
        assert!(seen.get(hidden).is_none(), "{hidden}: {seen}");
    }
    let needs: Vec<&str> = seen["not_shown"].as_array().unwrap().iter().map(|n| n["needs"].as_str().unwrap()).collect();
    assert_eq!(needs, ["policy:read", "emergency:read", "approval:read", "token:verify"]);
    let environments: Vec<_> = seen["environments"].as_array().unwrap().iter().map(|e| &e["environment"]).collect();
    assert_eq!(environments, ["staging"]);
    assert!(seen["environments"][0].get("policy").is_none());
    assert!(!seen.to_string().contains("secret-there") && !seen.to_string().contains("production"), "{seen}");

    let more = key("more", &["staging"], &["status:read", "emergency:read"]).await;
    let (_, seen) = call(&app, "GET", STATUS, Some(&more), None).await;
    assert_eq!((&seen["halts"]["in_force"], &seen["halts"]["newest"][0]["reason"]), (&json!(1), &json!("said-here")));
    assert!(!seen.to_string().contains("secret-there"), "{seen}");
    let none = key("none", &["staging"], &["intent:read"]).await;
    assert_eq!(call(&app, "GET", STATUS, Some(&none), None).await.0, 403);
    assert_eq!(call(&app, "GET", STATUS, None, None).await.0, 401);
    drop(world);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_halted_is_told_also_when_the_store_can_be_read_no_more() {
    let (world, store) = crate::slow::world().await;
    let runtime = std::sync::Arc::clone(&world.runtime);
    let app = intended_api::router(intended_api::App::new(runtime));
    let get = async || call(&app, "GET", "/v1/tenants/acme/status", Some(&world.owner_key), None).await;
    world.runtime.halt(&world.owner, None, "it loops").await.unwrap();
    let (status, well) = get().await;
    assert_eq!((status, &well["failed"]), (200, &json!([])), "{well}");
    store.unreadable.store(true, std::sync::atomic::Ordering::SeqCst);
    let (status, now) = get().await;
    assert_eq!((status, &now["halts"]["in_force"]), (200, &json!(1)), "{now}");
    let failed: Vec<_> = now["failed"].as_array().unwrap().iter().map(|part| part["what"].as_str().unwrap()).collect();
    assert!(failed.contains(&"ledger") && now.get("ledger").is_none(), "{now}");
    let names = |of: &Value| {
        of["environments"].as_array().unwrap().iter().map(|e| e["environment"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&now), names(&well));
}
