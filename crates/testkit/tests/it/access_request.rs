//! The AuthZEN Access Request and Approval Profile (draft 1): a denial that people can be asked about, the
//! request, where it stands, and the approval that is brought to another evaluation.

use serde_json::{Value, json};

use crate::approving_http::{call, send, setup};

const EVALUATION: &str = "/access/v1/evaluation";
const REQUESTS: &str = "/access/v1/requests";
const ERROR: &str = "urn:openid:authzen:access-request:error:";

fn refund(amount: i64) -> Value {
    json!({"subject": {"type": "agent", "id": "support-agent"},
        "action": {"name": "stripe.create_refund", "properties": {"amount": amount}},
        "resource": {"type": "charge", "id": "ch_1"}, "context": {"ticket": "T-1"}})
}

/// What asks for access to what was denied.
fn request(of: &Value, denied: &Value) -> Value {
    let mut request = of.clone();
    request["denial"] = json!({
        "evaluation_id": denied["context"]["evaluation_id"],
        "evaluated_at": denied["context"]["evaluated_at"],
        "expires_at": denied["context"]["access_request"]["expires_at"],
        "reason": denied["context"]["reason"],
    });
    request
}

fn with_approval(of: &Value, approval: &Value) -> Value {
    let mut asked = of.clone();
    asked["context"]["approval"] = approval.clone();
    asked
}

async fn approve(app: &axum::Router, lead: &str, id: &str) {
    let (_, _, tag) = send(app, "GET", &format!("approvals/{id}"), lead, &[], None).await;
    let said = Some(json!({"reason": "spoke to the customer"}));
    let (status, body, _) =
        send(app, "POST", &format!("approvals/{id}/approve"), lead, &[("if-match", &tag)], said).await;
    assert_eq!(status, 200, "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metadata_says_where_access_is_asked_for() {
    let (_office, app, agent, _lead) = setup().await;
    let (_, metadata) = call(&app, "GET", "/.well-known/authzen-configuration", &agent, &[], None).await;
    assert_eq!(metadata["access_request_endpoint"], "http://intended.test/access/v1/requests");
    assert_eq!(metadata["capabilities"], json!(["urn:openid:authzen:capability:access-request"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_denied_is_asked_for_approved_and_evaluated_again() {
    let (_office, app, agent, lead) = setup().await;
    let asked = refund(400);
    let (_, denied) = call(&app, "POST", EVALUATION, &agent, &[], Some(asked.clone())).await;
    assert_eq!(denied["decision"], false, "a denial stays one: {denied}");
    let id = denied["context"]["evaluation_id"].as_str().unwrap().to_owned();
    assert_eq!(denied["context"]["access_request"]["endpoint"], "http://intended.test/access/v1/requests");

    let mut body = request(&asked, &denied);
    body["context"]["business_justification"] = "the customer waits".into();
    let key = [("idempotency-key", "one")];
    let (status, first) = call(&app, "POST", REQUESTS, &agent, &key, Some(body.clone())).await;
    assert_eq!((status, first["task"]["status"].as_str()), (202, Some("pending")), "{first}");
    assert_eq!(first["task"]["progress"], json!({"current_step": 1, "total_steps": 1}));
    assert!(first.get("result").is_none());
    let (status, again) = call(&app, "POST", REQUESTS, &agent, &key, Some(body.clone())).await;
    assert_eq!((status, &again), (202, &first), "the same request is the same task");
    body["context"]["business_justification"] = "another reason".into();
    let (status, other) = call(&app, "POST", REQUESTS, &agent, &key, Some(body)).await;
    assert_eq!((status, other["type"].as_str()), (409, Some(&*format!("{ERROR}duplicate_request"))), "{other}");
    // Those who decide read why; once.
    let (_, shown, _) = send(&app, "GET", &format!("approvals/{id}"), &lead, &[], None).await;
    assert_eq!(shown["notes"].as_array().unwrap().len(), 1, "{shown}");
    assert_eq!(shown["notes"][0]["text"], "the customer waits");

    // Not approved yet: bringing it changes nothing.
    let early = with_approval(&asked, &json!({"id": id}));
    let (_, early) = call(&app, "POST", EVALUATION, &agent, &[], Some(early)).await;
    assert_eq!(
        (&early["decision"], early["context"]["reason"].as_str()),
        (&json!(false), Some("approval_unverifiable"))
    );

    approve(&app, &lead, &id).await;
    let place = first["task"]["status_endpoint"].as_str().unwrap().strip_prefix("http://intended.test").unwrap();
    let (status, done) = call(&app, "GET", place, &agent, &[], None).await;
    assert_eq!((status, done["task"]["status"].as_str()), (200, Some("approved")), "{done}");
    assert_eq!(done["result"]["mode"], "reevaluate");
    let approval = &done["result"]["approval"];
    let (_, allowed) = call(&app, "POST", EVALUATION, &agent, &[], Some(with_approval(&asked, approval))).await;
    assert_eq!(allowed["decision"], true, "{allowed}");
    assert_eq!(allowed["context"]["approval"]["approved_until"], approval["approved_until"]);
    assert!(allowed["context"]["token"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_applies_to_exactly_what_was_denied_to_who_asked_and_once() {
    let (office, app, agent, lead) = setup().await;
    let asked = refund(400);
    let (_, denied) = call(&app, "POST", EVALUATION, &agent, &[], Some(asked.clone())).await;
    let id = denied["context"]["evaluation_id"].as_str().unwrap().to_owned();
    approve(&app, &lead, &id).await;
    let approval = json!({"id": id, "approved_until": "2100-01-01T00:00:00Z"});
    let other_amount = with_approval(&refund(401), &approval);
    let mut other_context = with_approval(&asked, &approval);
    other_context["context"]["ticket"] = "T-2".into();
    let mut less = with_approval(&asked, &approval);
    less["context"].as_object_mut().unwrap().remove("ticket");
    for (body, key, reason) in [
        (other_amount, &agent, "out_of_scope"),
        (other_context, &agent, "out_of_scope"),
        (less, &agent, "out_of_scope"),
        (with_approval(&asked, &json!({"id": "no such"})), &agent, "approval_unverifiable"),
        (with_approval(&asked, &json!({})), &agent, "approval_unverifiable"),
        (with_approval(&asked, &approval), &office.world.owner_key, "approval_unverifiable"),
    ] {
        let mut body = body;
        body["environment"] = "production".into();
        let (_, answer) = call(&app, "POST", EVALUATION, key, &[], Some(body)).await;
        assert_eq!(
            (&answer["decision"], answer["context"]["reason"].as_str()),
            (&json!(false), Some(reason)),
            "{answer}"
        );
        // It was evaluated anew, and people can be asked about that.
        assert_eq!(answer["context"]["next_action"], "request");
        assert!(answer["context"]["access_request"]["expires_at"].is_string());
    }
    // Used, it is done with.
    let brought = with_approval(&asked, &approval);
    let (_, allowed) = call(&app, "POST", EVALUATION, &agent, &[], Some(brought.clone())).await;
    let verify = json!({"token": allowed["context"]["token"], "environment": "production", "consume": true,
        "intent_hash": office.world.runtime.decision(&office.world.owner, &id.parse().unwrap()).await.unwrap().unwrap().record.input.intent_hash.to_string()});
    let (status, used, _) = send(&app, "POST", "tokens/verify", &office.world.owner_key, &[], Some(verify)).await;
    assert_eq!((status, &used["active"]), (200, &json!(true)), "{used}");
    let (_, again) = call(&app, "POST", EVALUATION, &agent, &[], Some(brought)).await;
    assert_eq!((&again["decision"], again["context"]["reason"].as_str()), (&json!(false), Some("approval_expired")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_not_about_its_denial_is_refused_by_name() {
    let (office, app, agent, _lead) = setup().await;
    let asked = refund(400);
    let (_, denied) = call(&app, "POST", EVALUATION, &agent, &[], Some(asked.clone())).await;
    let good = request(&asked, &denied);
    let change = |f: &dyn Fn(&mut Value)| {
        let mut body = good.clone();
        f(&mut body);
        body
    };
    for (what, body) in [
        ("no denial", change(&|b| drop(b.as_object_mut().unwrap().remove("denial")))),
        ("no evaluation", change(&|b| drop(b["denial"].as_object_mut().unwrap().remove("evaluation_id")))),
        (
            "another evaluation",
            change(&|b| b["denial"]["evaluation_id"] = "0192f0c1-7b1e-7c3a-9f00-1a2b3c4d5e6f".into()),
        ),
        ("another subject", change(&|b| b["subject"]["id"] = "release-agent".into())),
        ("other arguments", change(&|b| b["action"]["properties"]["amount"] = 401.into())),
        ("another resource", change(&|b| b["resource"]["id"] = "ch_2".into())),
        ("a changed context", change(&|b| b["context"]["ticket"] = "T-2".into())),
        ("a longer time", change(&|b| b["denial"]["expires_at"] = "2100-01-01T00:00:00Z".into())),
        ("a bundle", change(&|b| b["items"] = json!([]))),
    ] {
        let (status, problem) = call(&app, "POST", REQUESTS, &agent, &[], Some(body)).await;
        assert_eq!(
            (status, problem["type"].as_str()),
            (400, Some(&*format!("{ERROR}invalid_denial_binding"))),
            "{what}: {problem}"
        );
    }
    // Of somebody else's evaluation nothing is learnt.
    let (status, problem) = call(&app, "POST", REQUESTS, &office.world.owner_key, &[], Some(good.clone())).await;
    assert_eq!((status, problem["code"].as_str()), (400, Some("access_request.invalid_denial_binding")), "{problem}");
    let id = denied["context"]["evaluation_id"].as_str().unwrap();
    let place = format!("{REQUESTS}/{id}");
    let (status, problem) = call(&app, "GET", &place, &office.world.owner_key, &[], None).await;
    assert_eq!((status, problem["type"].as_str()), (404, Some(&*format!("{ERROR}unknown_task"))), "{problem}");

    office.world.clock.advance_millis(3_600_000);
    let (status, problem) = call(&app, "POST", REQUESTS, &agent, &[], Some(good)).await;
    assert_eq!((status, problem["type"].as_str()), (400, Some(&*format!("{ERROR}expired_denial"))), "{problem}");
    office.world.runtime.close_overdue().await.unwrap();
    let (_, task) = call(&app, "GET", &place, &agent, &[], None).await;
    assert_eq!(task["task"]["status"], "expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asked_can_cancel_and_the_ledger_holds_it() {
    let (office, app, agent, lead) = setup().await;
    let asked = refund(400);
    let (_, denied) = call(&app, "POST", EVALUATION, &agent, &[], Some(asked.clone())).await;
    let id = denied["context"]["evaluation_id"].as_str().unwrap();
    let place = format!("{REQUESTS}/{id}/cancel");
    let (status, _) = call(&app, "POST", &place, &office.world.owner_key, &[], None).await;
    assert_eq!(status, 404);
    let (status, task) = call(&app, "POST", &place, &agent, &[], None).await;
    assert_eq!((status, task["task"]["status"].as_str()), (200, Some("cancelled")), "{task}");
    let (status, problem) = call(&app, "POST", &place, &agent, &[], None).await;
    assert_eq!((status, problem["code"].as_str()), (409, Some("access_request.invalid_state")), "{problem}");
    let (_, shown, _) = send(&app, "GET", &format!("approvals/{id}"), &lead, &[], None).await;
    assert_eq!(shown["state"], "denied", "{shown}");
    let (header, leaves) = office.world.export().await.unwrap();
    let mut verifier = intended_verify::Verifier::new(header, None).unwrap();
    leaves.iter().for_each(|leaf| verifier.entry(leaf).unwrap());
    verifier.finish().unwrap();
    // By somebody else it is found.
    let forged: Vec<Vec<u8>> = leaves.clone();
    let mut forge = crate::tampering::Forge::of(&forged);
    let at = forge.position("escalation.closed", 0);
    forge.edit(at, |b| b["by"] = "owner".into());
    let failure = crate::tampering::verify(forge.rebuild()).unwrap_err();
    assert_eq!(failure.index, Some(at as u64), "{failure}");
}
