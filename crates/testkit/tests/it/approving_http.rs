//! Approvals over HTTP, from the agent that waits to the person who has read what it is about.

use std::time::{Duration, Instant};

use axum::body::Body;
use http::Request;
use intended_model::entry::{ApprovalRules, Scope};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::approving::Office;

const BASE: &str = "/v1/tenants/acme";

/// A request, and its answer with the entity tag.
pub async fn send(
    app: &axum::Router,
    method: &str,
    path: &str,
    key: &str,
    headers: &[(&str, &str)],
    body: Option<Value>,
) -> (u16, Value, String) {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("{BASE}/{path}"))
        .header("authorization", format!("Bearer {key}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = match body {
        Some(body) => {
            request = request.header("content-type", "application/json");
            Body::from(body.to_string())
        }
        None => Body::empty(),
    };
    let response = app.clone().oneshot(request.body(body).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let tag = response.headers().get("etag").map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null), tag)
}

/// The same with the whole path.
pub async fn call(
    app: &axum::Router,
    method: &str,
    path: &str,
    key: &str,
    headers: &[(&str, &str)],
    body: Option<Value>,
) -> (u16, Value) {
    let mut request = Request::builder().method(method).uri(path).header("authorization", format!("Bearer {key}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = match body {
        Some(body) => {
            request = request.header("content-type", "application/json");
            Body::from(body.to_string())
        }
        None => Body::empty(),
    };
    let response = app.clone().oneshot(request.body(body).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

/// The office over HTTP: the agent's key and a lead's.
pub async fn setup() -> (Office, axum::Router, String, String) {
    let office = Office::new().await;
    let app = intended_api::router(intended_api::App::new(office.world.runtime.clone()));
    office.set("lead", &["leads"], |_| {}).await;
    let make = async |id: &str, member: Option<&str>, scopes: &[Scope]| {
        let scopes: Vec<&str> = scopes.iter().map(|s| s.as_str()).collect();
        let mut body = json!({"credential": id, "environments": ["production"], "scopes": scopes});
        if let Some(member) = member {
            body["member"] = member.into();
        }
        let (status, made, _) = send(&app, "POST", "credentials", &office.world.owner_key, &[], Some(body)).await;
        assert_eq!(status, 201, "{made}");
        made["key"].as_str().unwrap().to_owned()
    };
    let agent = make("agent", None, &[Scope::IntentSubmit]).await;
    let lead = make("lead-key", Some("lead"), &[Scope::ApprovalRead, Scope::ApprovalDecide, Scope::IntentRead]).await;
    (office, app, agent, lead)
}

fn refund(amount: i64) -> Value {
    json!({"subject": {"type": "agent", "id": "support-agent"}, "action": {"name": "stripe.create_refund", "properties": {"amount": amount, "memo": "sorry\u{202e}"}},
        "resource": {"type": "charge", "id": "ch_1"}, "environment": "production", "goal": "calm the customer"})
}

async fn asked(app: &axum::Router, agent: &str) -> String {
    let (status, body, _) = send(app, "POST", "intents", agent, &[], Some(refund(400))).await;
    assert_eq!((status, body["state"].as_str()), (202, Some("open")), "{body}");
    body["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_waits_a_person_approves_and_the_token_is_there_at_once() {
    let (office, app, agent, lead) = setup().await;
    let id = asked(&app, &agent).await;
    let (status, list, _) = send(&app, "GET", "approvals?mine=true", &lead, &[], None).await;
    assert_eq!((status, list["approvals"].as_array().unwrap().len()), (200, 1), "{list}");
    assert_eq!(list["approvals"][0]["requirements"][0]["requirement"], "1 of leads");
    let (status, shown, tag) = send(&app, "GET", &format!("approvals/{id}"), &lead, &[], None).await;
    assert_eq!((status, shown["state"].as_str(), shown["etag"].as_str()), (200, Some("open"), Some(&*tag)), "{shown}");
    // What is shown is what is hashed: all of it, character for character.
    assert_eq!(shown["arguments"], "{\"amount\":400,\"memo\":\"sorry\u{202e}\"}");
    let hashed = intended_model::json::parse(shown["intent"].to_string().as_bytes()).unwrap();
    let hashed: intended_model::Intent = intended_model::json::from_value(&hashed).unwrap();
    assert_eq!(shown["intent_hash"], hashed.digest().unwrap().to_string());
    assert_eq!(shown["eligible"], json!(["lead"]));
    let waiting = {
        let (app, agent, id) = (app.clone(), agent.clone(), id.clone());
        tokio::spawn(async move {
            let began = Instant::now();
            let answer = send(&app, "GET", &format!("intents/{id}?wait=30s"), &agent, &[], None).await;
            (answer, began.elapsed())
        })
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    let path = format!("approvals/{id}/approve");
    let yes = || Some(json!({"reason": "spoke to the customer"}));
    for (headers, code, expected) in
        [(vec![], "approval.unconditional", 428), (vec![("if-match", "\"other\"")], "approval.stale", 412)]
    {
        let (status, body, _) = send(&app, "POST", &path, &lead, &headers, yes()).await;
        assert_eq!((status, body["code"].as_str()), (expected, Some(code)), "{body}");
    }
    let headers = [("if-match", &*tag), ("idempotency-key", "k")];
    let (status, body, _) = send(&app, "POST", &path, &agent, &headers, yes()).await;
    assert_eq!(status, 403, "{body}");
    let approved = Instant::now();
    let (status, body, _) = send(&app, "POST", &path, &lead, &headers, yes()).await;
    assert_eq!((status, body["state"].as_str()), (200, Some("allowed")), "{body}");
    let ((status, decided, _), _) = waiting.await.unwrap();
    assert_eq!(
        (status, decided["decision"].as_str(), decided["reason"].as_str()),
        (200, Some("allow"), Some("approval.met"))
    );
    assert!(decided["token"].is_string(), "{decided}");
    assert!(approved.elapsed() < Duration::from_secs(5));
    // The same request again says the same, and others see no token.
    let (status, body, _) = send(&app, "POST", &path, &lead, &headers, yes()).await;
    assert_eq!((status, body["state"].as_str()), (200, Some("allowed")), "{body}");
    let (_, seen, _) = send(&app, "GET", &format!("intents/{id}"), &lead, &[], None).await;
    assert_eq!((seen["decision"].as_str(), seen["token"].is_null()), (Some("allow"), true));
    // An agent reads its own decisions and nobody else's.
    let (_, other, _) = send(&app, "POST", "intents", &office.world.owner_key, &[], Some(refund(40))).await;
    let other = format!("intents/{}", other["id"].as_str().unwrap());
    assert_eq!(send(&app, "GET", &other, &agent, &[], None).await.0, 404);
    office.verifies().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_no_a_question_and_many_at_once_over_http() {
    let (office, app, agent, lead) = setup().await;
    let id = asked(&app, &agent).await;
    let question = Some(json!({"text": "which customer?"}));
    let (status, body, _) = send(&app, "POST", &format!("approvals/{id}/ask"), &lead, &[], question).await;
    assert_eq!((status, body["notes"][0]["by"].as_str()), (200, Some("lead")), "{body}");
    let answer = Some(json!({"text": "the one of ch_1"}));
    assert_eq!(send(&app, "POST", &format!("approvals/{id}/answer"), &agent, &[], answer).await.0, 204);
    let (_, shown, tag) = send(&app, "GET", &format!("approvals/{id}"), &lead, &[], None).await;
    assert_eq!(shown["notes"][1]["text"], "the one of ch_1");
    let no = Some(json!({"reason": "not this one"}));
    let (status, body, _) = send(&app, "POST", &format!("approvals/{id}/deny"), &lead, &[("if-match", &tag)], no).await;
    assert_eq!((status, body["state"].as_str()), (200, Some("denied")), "{body}");
    assert_eq!(
        (body["closed"]["by"].as_str(), body["closed"]["reason"].as_str()),
        (Some("lead"), Some("not this one"))
    );
    let (_, decided, _) = send(&app, "GET", &format!("intents/{id}"), &agent, &[], None).await;
    assert_eq!((decided["decision"].as_str(), decided["reason"].as_str()), (Some("deny"), Some("escalation.denied")));

    let ids = [asked(&app, &agent).await, asked(&app, &agent).await];
    let (_, list, _) = send(&app, "GET", "approvals", &lead, &[], None).await;
    let named: Vec<Value> =
        list["approvals"].as_array().unwrap().iter().map(|a| json!({"id": a["id"], "etag": a["etag"]})).collect();
    assert_eq!(named.len(), 2);
    let body = json!({"approvals": named, "reason": "the usual"});
    office.rules(ApprovalRules { bulk_max_risk: 0, ..ApprovalRules::default() }).await;
    let (status, answer, _) = send(&app, "POST", "approvals/bulk", &lead, &[], Some(body.clone())).await;
    assert_eq!((status, answer["code"].as_str()), (422, Some("approval.bulk_risk")), "{answer}");
    office.rules(ApprovalRules { bulk_max_risk: 100, ..ApprovalRules::default() }).await;
    let (status, answer, _) = send(&app, "POST", "approvals/bulk", &lead, &[], Some(body)).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer["results"].as_array().unwrap().iter().all(|r| r["approved"] == true), "{answer}");
    for id in ids {
        let (_, decided, _) = send(&app, "GET", &format!("intents/{id}"), &agent, &[], None).await;
        assert!(decided["token"].is_string(), "{decided}");
    }
    office.verifies().await;
}

/// A `modify`: the token is for what policy made of the arguments, and the record has both.
#[tokio::test(flavor = "multi_thread")]
async fn a_modified_action_is_bound_to_the_changed_arguments_and_records_both() {
    let (office, app, agent, _) = setup().await;
    office.pack("@id(\"cap\") @modify(\"cap amount = 100; drop memo\") permit (principal, action, resource);").await;
    let (status, body, _) = send(&app, "POST", "intents", &agent, &[], Some(refund(400))).await;
    assert_eq!((status, body["decision"].as_str()), (200, Some("modify")), "{body}");
    assert_eq!(body["obligations"]["arguments"], json!({"amount": 100}));
    let owner = &office.world.owner_key;
    let verify = async |arguments: Value| {
        let call = json!({"agent": "support-agent", "tool": "stripe.create_refund", "resource": {"type": "charge", "id": "ch_1"}, "arguments": arguments});
        let mut intent = refund(0);
        intent["action"]["properties"] = call["arguments"].clone();
        let parsed = intended_model::json::parse(intent.to_string().as_bytes()).unwrap();
        let hash = intended_model::Intent::from_value(&parsed, None, false).unwrap().digest().unwrap().to_string();
        let request = json!({"token": body["token"], "intent_hash": hash, "environment": "production"});
        send(&app, "POST", "tokens/verify", owner, &[], Some(request)).await.1
    };
    let (asked_for, allowed) =
        (verify(json!({"amount": 400, "memo": "sorry\u{202e}"})).await, verify(json!({"amount": 100})).await);
    assert_eq!(
        (asked_for["active"].as_bool(), allowed["active"].as_bool()),
        (Some(false), Some(true)),
        "{asked_for} {allowed}"
    );
    let path = format!("intents/{}/evidence", body["id"].as_str().unwrap());
    let (_, evidence, _) = send(&app, "GET", &path, owner, &[], None).await;
    let text = evidence.to_string();
    assert!(text.contains("400") && text.contains("sorry"), "the original is in the record: {text}");
}
