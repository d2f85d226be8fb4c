//! What was let in can be read back: the deepest intent, the deepest argument that a policy sets, and
//! names that a JSON library gives a meaning of its own.

use intended_model::Code;
use intended_model::decision::Outcome;
use intended_model::json::MAX_DEPTH;
use intended_runtime::audit::Query;
use intended_runtime::{Decided, Submission};
use intended_testkit::{World, environment, intent, refund};
use serde_json::json;

use crate::http_edge::call;
use crate::tampering::verify;

fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

fn submission(intent: intended_model::Intent) -> Submission {
    Submission { intent, idempotency_key: None, audience: None }
}

/// Through everything that reads a record.
async fn is_read_back(world: &World, decided: &Decided) {
    let receipt =
        intended_ledger::Receipt::new(&decided.leaf, decided.index, &decided.proof, &decided.checkpoint).unwrap();
    let vkey = world.owner.tenant.state().vkey.to_string();
    assert_eq!(receipt.verify(&vkey).unwrap().index, decided.index);
    let page = world.runtime.query(&world.owner, &Query { limit: 100, ..Query::default() }).await.unwrap();
    assert!(page.entries.iter().any(|(e, _)| e.index == decided.index));
    assert!(world.runtime.replay(&world.owner, &decided.record, decided.index, Default::default()).await.unwrap().same);
    verify(world.export().await.unwrap()).unwrap();
    let app = intended_api::router(intended_api::App::new(world.runtime.clone()));
    let id = decided.record.input.id;
    for path in ["audit?limit=100".to_owned(), format!("audit/proof?index={}", decided.index)]
        .into_iter()
        .chain(["", "/receipt", "/evidence", "/explain"].map(|part| format!("intents/{id}{part}")))
    {
        let path = format!("/v1/tenants/acme/{path}");
        let (status, body) = call(&app, "GET", &path, Some(&world.owner_key), None).await;
        assert_eq!(status, 200, "{path}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deepest_intent_that_is_taken_is_recorded_proved_queried_and_verified() {
    let mut world = World::new().await.unwrap();
    for (members, outside) in [
        (r#""action":{"name":"orders.get_order","properties":{"a":DEEP}}"#, 3),
        (r#""action":{"name":"orders.get_order"},"context":{"a":DEEP}"#, 2),
    ] {
        for (agent, reason) in [("nobody", Code::AgentUnknown), ("support-agent", Code::PolicyPermit)] {
            let of = |levels: usize| {
                let members = members.replace("DEEP", &nested(levels));
                intent(&format!(
                    r#"{{"subject":{{"type":"agent","id":"{agent}"}},{members},"resource":{{"type":"order","id":"1"}},"environment":"production"}}"#
                ))
            };
            assert_eq!(of(MAX_DEPTH - outside + 1).unwrap_err().code, Code::JsonTooDeep);
            let intent = of(MAX_DEPTH - outside).unwrap();
            let decided = world.runtime.submit(&world.owner, submission(intent)).await.unwrap();
            assert_eq!(decided.record.decision.reason, reason, "{:?}", decided.record.decision);
            is_read_back(&world, &decided).await;
        }
    }
    world = world.reopen().await.unwrap();
    verify(world.export().await.unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deepest_argument_that_a_policy_sets_is_recorded_proved_queried_and_verified() {
    let world = World::new().await.unwrap();
    let production = environment("production").unwrap();
    let pack = |levels: usize| {
        let mut pack = intended_testkit::demo_pack();
        let text = format!(
            "@id(\"deep\") @modify(\"set memo = {}\") permit (principal, action == Action::\"stripe.create_refund\", resource);",
            nested(levels)
        );
        pack.insert("support.cedar".into(), text);
        pack
    };
    assert!(world.runtime.deploy_pack(&world.owner, &production, pack(MAX_DEPTH + 1)).await.is_err());
    world.runtime.deploy_pack(&world.owner, &production, pack(MAX_DEPTH)).await.unwrap();
    let decided = world.runtime.submit(&world.owner, submission(refund(40, None).unwrap())).await.unwrap();
    assert_eq!(decided.record.decision.decision, Outcome::Modify);
    is_read_back(&world, &decided).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_argument_cannot_hide_behind_a_name_of_the_json_library() {
    let world = World::new().await.unwrap();
    let app = intended_api::router(intended_api::App::new(world.runtime.clone()));
    for name in ["$serde_json::private::RawValue", "$serde_json::private::Number"] {
        let body = json!({
            "subject": {"type": "agent", "id": "nobody"},
            "action": {"name": "orders.get_order", "properties": {"a": {name: "not json"}}},
            "resource": {"type": "order", "id": "1"}, "environment": "production",
        });
        // As text: building it as a value is what goes wrong.
        let text = format!("{body}");
        assert!(text.contains(name));
        let parsed = intended_model::json::parse(text.as_bytes()).unwrap_err();
        assert_eq!(parsed.kind.code(), Code::JsonReservedName);
        let (status, refused) =
            call(&app, "POST", "/v1/tenants/acme/intents", Some(&world.owner_key), Some(&body)).await;
        assert_eq!((status, refused["code"].as_str()), (400, Some("json.reserved_name")), "{refused}");
    }
}
