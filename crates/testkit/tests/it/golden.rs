//! A ledger of decision procedure 1, kept: every later release must re-execute it as it stands.
//! `INTENDED_GOLDEN=write` writes it anew, which is right only before the first release: after it a
//! change that this test notices is a new procedure (`intended_model::decision::PROCEDURE`), with the
//! earlier one kept callable and a golden ledger of its own.

use intended_ledger::ExportHeader;
use intended_model::decision::Outcome;
use intended_runtime::Submission;
use intended_testkit::{World, environment, intent, refund};
use intended_token::Binding;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/procedure-1.jsonl");

const PACK: &str = r#"
@id("capped") @modify("cap amount = 100; set memo = \"capped\"")
permit (principal, action == Action::"stripe.create_refund", resource);
@id("ticket") @defer("ticket")
permit (principal, action == Action::"orders.get_order", resource) unless { context.text.hasTag("ticket") };
"#;

/// Every outcome, a session, a budget, a use, a halt, a rotation, a timeout.
async fn made() -> (ExportHeader, Vec<Vec<u8>>) {
    let world = World::new().await.unwrap();
    let production = environment("production").unwrap();
    let submit = async |intent| {
        world.clock.advance_millis(1_234);
        let submission = Submission { intent, idempotency_key: None, audience: None };
        world.runtime.submit(&world.owner, submission).await.unwrap()
    };
    let decided = submit(refund(40, Some("s")).unwrap()).await;
    submit(refund(400, Some("s")).unwrap()).await;
    submit(refund(4_000, Some("s")).unwrap()).await;
    for (tool, resource) in
        [("crm.delete_customer", "customer"), ("no.such_tool", "order"), ("orders.get_order", "order")]
    {
        let text = format!(
            r#"{{"subject":{{"type":"agent","id":"support-agent"}},"action":{{"name":"{tool}"}},"resource":{{"type":"{resource}","id":"7"}},"environment":"production","goal":"look up 7"}}"#
        );
        submit(intent(&text).unwrap()).await;
    }
    let token = decided.token.unwrap();
    let binding = Binding::IntentHash(decided.record.input.intent_hash);
    let verify = world.runtime.verify_token(&world.owner, token.as_str(), "intended", &production, &binding, true);
    verify.await.unwrap();
    let (halt, _) = world.runtime.halt(&world.owner, Some(production.clone()), "drill").await.unwrap();
    submit(refund(41, None).unwrap()).await;
    world.runtime.resume(&world.owner, halt, "over").await.unwrap();
    // Another key, another version: one that changes arguments, and one that lacks context.
    world.runtime.rotate_key(&world.owner, &production, intended_token::Alg::Es256).await.unwrap();
    let mut pack = intended_testkit::demo_pack();
    pack.insert("support.cedar".into(), PACK.into());
    world.runtime.deploy_pack(&world.owner, &production, pack).await.unwrap();
    let modified = submit(refund(500, None).unwrap()).await;
    assert_eq!(modified.record.decision.decision, Outcome::Modify);
    let deferred = intent(
        r#"{"subject":{"type":"agent","id":"support-agent"},"action":{"name":"orders.get_order","properties":{"why":null,"tags":{}}},"resource":{"type":"order","id":"7"},"environment":"production"}"#,
    );
    assert_eq!(submit(deferred.unwrap()).await.record.decision.decision, Outcome::Defer);
    world.clock.advance_millis(30 * 24 * 3_600_000);
    world.runtime.close_overdue().await.unwrap();
    submit(refund(42, None).unwrap()).await;
    world.export().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_of_procedure_1_is_still_re_executed() {
    if std::env::var("INTENDED_GOLDEN").as_deref() == Ok("write") {
        let (header, leaves) = made().await;
        let lines = leaves.iter().map(|l| String::from_utf8(l.clone()).unwrap());
        let text: String = std::iter::once(header.to_line().unwrap()).chain(lines).map(|l| l + "\n").collect();
        std::fs::write(PATH, text).unwrap();
    }
    let kept = std::fs::read_to_string(PATH).unwrap();
    let mut lines = kept.lines().map(str::as_bytes);
    let mut verifier =
        intended_verify::Verifier::new(ExportHeader::parse(lines.next().unwrap()).unwrap(), None).unwrap();
    lines.for_each(|leaf| verifier.entry(leaf).unwrap());
    let report = verifier.finish().unwrap();
    assert_eq!((report.entries, report.decisions, report.allowed, report.consumptions), (33, 10, 4, 1));
}
