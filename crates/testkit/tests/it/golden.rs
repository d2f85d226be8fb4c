//! A ledger of each decision procedure, kept: every later release must re-execute it as it stands.
//! `INTENDED_GOLDEN=write` writes the one of the procedure that is run now. A change that this test
//! notices in an earlier one is a new procedure (`intended_model::decision::PROCEDURE`), with the
//! earlier ones kept callable.

use intended_ledger::ExportHeader;
use intended_model::decision::{Outcome, PROCEDURE};
use intended_model::entry::Scope;
use intended_runtime::Submission;
use intended_testkit::{World, environment, intent, refund};
use intended_token::Binding;
use intended_verify::Report;

use crate::approving::Office;
use crate::self_test;

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");

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
    people_and_chains(world).await
}

const WAITING: &str = r#"
@id("ticket") @defer("ticket")
permit (principal, action == Action::"orders.get_order", resource) unless { context.text.hasTag("@context.ticket") };
@id("look")
permit (principal, action == Action::"orders.get_order", resource) when { context.text.hasTag("@context.ticket") };
@id("large") @escalate("1 of leads then 1 of security")
permit (principal, action == Action::"stripe.create_refund", resource) when { context.session.declared };
@id("small") permit (principal, action == Action::"stripe.create_refund", resource) unless { context.session.declared };
"#;

/// What the second procedure brought: approvals in steps, a session that waits, chains of delegation.
async fn people_and_chains(world: World) -> (ExportHeader, Vec<Vec<u8>>) {
    let office = Office { agent: world.owner.clone(), world };
    office.pack(WAITING).await;
    let lead = office.person("lea", &["leads"]).await;
    let guard = office.person("gus", &["security"]).await;
    let agent = office.key("agent-key", None, &[Scope::IntentSubmit]).await;
    let submit = async |intent| {
        office.world.clock.advance_millis(1_234);
        office.submit_as(&agent, intent).await
    };
    let asked = submit(refund(400, Some("large")).unwrap()).await;
    assert_eq!(asked.record.decision.decision, Outcome::Escalate);
    for person in [&lead, &guard] {
        office.world.clock.advance_millis(1_234);
        office.approve(person, &asked.record.input.id).await.unwrap();
    }
    let look = |subject: &str, more: &str| {
        intent(&format!(
            r#"{{"subject":{{"type":"agent","id":"support-agent"{subject}}},"action":{{"name":"orders.get_order"}},"resource":{{"type":"order","id":"7"}},"environment":"production"{more}}}"#
        ))
        .unwrap()
    };
    // The second waits for the first, which is closed by time.
    assert_eq!(submit(look("", r#","session":"w""#)).await.record.decision.decision, Outcome::Defer);
    let waits = r#","session":"w","context":{"ticket":"T-1"}"#;
    assert_eq!(submit(look("", waits)).await.record.decision.decision, Outcome::Defer);
    for (chain, outcome) in [
        (r#"{"type":"agent","id":"release-agent","on_behalf_of":{"type":"member","id":"lea"}}"#, Outcome::Allow),
        (r#"{"type":"agent","id":"release-agent","on_behalf_of":{"type":"agent","id":"nobody"}}"#, Outcome::Deny),
    ] {
        let subject = format!(r#","properties":{{"on_behalf_of":{chain}}}"#);
        let decided = submit(look(&subject, r#","context":{"ticket":"T-2"}"#)).await;
        assert_eq!(decided.record.decision.decision, outcome);
    }
    office.world.clock.advance_millis(3_600_000);
    office.world.runtime.close_overdue().await.unwrap();
    self_tests(&office).await;
    office.world.export().await.unwrap()
}

/// What the third procedure brought: one that is allowed and used, one under a halt.
async fn self_tests(office: &Office) {
    let (runtime, owner) = (&office.world.runtime, &office.world.owner);
    let allowed = self_test::run(office, owner).await;
    assert_eq!(allowed.record.decision.decision, Outcome::Allow);
    self_test::check(runtime, owner, &allowed, true).await.unwrap();
    let (halt, _) = runtime.halt(owner, None, "drill").await.unwrap();
    assert_eq!(self_test::run(office, owner).await.record.decision.decision, Outcome::Deny);
    runtime.resume(owner, halt, "over").await.unwrap();
}

fn verified(procedure: u32) -> Report {
    let kept = std::fs::read_to_string(format!("{DIRECTORY}/procedure-{procedure}.jsonl")).unwrap();
    let mut lines = kept.lines().map(str::as_bytes);
    let mut verifier =
        intended_verify::Verifier::new(ExportHeader::parse(lines.next().unwrap()).unwrap(), None).unwrap();
    lines.for_each(|leaf| verifier.entry(leaf).unwrap());
    verifier.finish().unwrap()
}

/// Entries, decisions, allowed, consumptions: a file that lost something would re-execute as well.
const KEPT: [(u32, [u64; 4]); 3] = [(1, [33, 10, 4, 1]), (2, [50, 16, 6, 1]), (3, [55, 18, 7, 2])];

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_of_each_procedure_is_still_re_executed() {
    if std::env::var("INTENDED_GOLDEN").as_deref() == Ok("write") {
        let (header, leaves) = made().await;
        let lines = leaves.iter().map(|l| String::from_utf8(l.clone()).unwrap());
        let text: String = std::iter::once(header.to_line().unwrap()).chain(lines).map(|l| l + "\n").collect();
        std::fs::write(format!("{DIRECTORY}/procedure-{PROCEDURE}.jsonl"), text).unwrap();
    }
    for (procedure, kept) in KEPT {
        let report = verified(procedure);
        let found = [report.entries, report.decisions, report.allowed, report.consumptions];
        assert_eq!(found, kept, "procedure {procedure}");
    }
    assert_eq!(KEPT.map(|(procedure, _)| procedure).to_vec(), (1..=PROCEDURE).collect::<Vec<_>>());
}
