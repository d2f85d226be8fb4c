//! What is deferred waits for context, and what comes after it in its session waits with it.

use intended_ledger::Leaf;
use intended_model::decision::Outcome;
use intended_model::entry::{AgentState, Scope};
use intended_model::{Code, Intent, IntentId, Value};
use intended_runtime::escalations::Standing;
use intended_runtime::{Decided, Submission};
use intended_testkit::{intent, refund};

use crate::approving::{Office, refused};
use crate::restored::signed;
use crate::tampering::{Forge, verify};

const PACK: &str = r#"
@id("ticket") @defer("ticket") permit (principal, action == Action::"stripe.create_refund", resource) unless { context.text.hasTag("@context.ticket") };
@id("refund") permit (principal, action == Action::"stripe.create_refund", resource) when { context.text.hasTag("@context.ticket") };
@id("look") permit (principal, action == Action::"orders.get_order", resource);
"#;

fn look(session: &str, n: usize) -> Intent {
    intent(&format!(
        r#"{{"subject":{{"type":"agent","id":"support-agent"}},"action":{{"name":"orders.get_order","properties":{{"n":{n}}}}},"resource":{{"type":"order","id":"7"}},"environment":"production","session":"{session}"}}"#
    ))
    .unwrap()
}

fn context(text: &str) -> Value {
    intended_model::json::parse(text.as_bytes()).unwrap()
}

async fn office() -> Office {
    let office = Office::new().await;
    office.pack(PACK).await;
    office
}

fn said(decided: &Decided) -> (Outcome, Code) {
    (decided.record.decision.decision, decided.record.decision.reason)
}

async fn last(office: &Office, id: &IntentId) -> Decided {
    office.world.runtime.decision(&office.agent, id).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missing_can_be_added_and_nothing_changed() {
    let office = office().await;
    let mut asked = refund(40, None).unwrap();
    asked.context = context(r#"{"why":"late"}"#);
    let decided = office.submit_as(&office.agent, asked).await;
    assert_eq!(said(&decided), (Outcome::Defer, Code::PolicyDefer));
    let id = decided.record.input.id;
    let runtime = &office.world.runtime;
    let other = office.key("other-key", None, &[Scope::IntentSubmit]).await;
    let add = async |by, text: &str| runtime.add_context(by, &id, &context(text)).await.map(drop);
    refused(add(&other, r#"{"ticket":"T-1"}"#).await, Code::NotFound);
    refused(add(&office.agent, r#"{"why":"other"}"#).await, Code::Conflict);
    refused(add(&office.agent, r#"{"why":"late","ticket":"T-1"}"#).await, Code::Conflict);
    refused(add(&office.agent, "{}").await, Code::RequestInvalid);
    refused(add(&office.agent, r#""ticket""#).await, Code::RequestInvalid);
    // Something else than what is missing: it goes on waiting, no longer than before.
    let until = decided.record.decision.obligations.expires_at;
    office.world.clock.advance_millis(60_000);
    let still = runtime.add_context(&office.agent, &id, &context(r#"{"note":"n"}"#)).await.unwrap();
    assert_eq!(
        (said(&still), still.record.decision.obligations.expires_at),
        ((Outcome::Defer, Code::PolicyDefer), until)
    );
    let once = office.agent.clone().once(Some("k".into()));
    let allowed = runtime.add_context(&once, &id, &context(r#"{"ticket":"T-1"}"#)).await.unwrap();
    assert_eq!(said(&allowed), (Outcome::Allow, Code::PolicyPermit));
    assert!(allowed.token.is_some());
    assert_ne!(allowed.record.input.intent_hash, decided.record.input.intent_hash);
    let again = runtime.add_context(&once, &id, &context(r#"{"ticket":"T-1"}"#)).await.unwrap();
    assert_eq!(again.index, allowed.index);
    let mismatch = runtime.add_context(&once, &id, &context(r#"{"ticket":"T-2"}"#)).await.map(drop);
    refused(mismatch, Code::IdempotencyMismatch);
    refused(add(&office.agent, r#"{"more":"x"}"#).await, Code::ApprovalClosed);
    office.verifies().await;

    // Silence is a no.
    let id = office.submit_as(&office.agent, refund(40, None).unwrap()).await.record.input.id;
    office.world.clock.advance_millis(3_600_000);
    let late = runtime.add_context(&office.agent, &id, &context(r#"{"ticket":"T-1"}"#)).await.map(drop);
    refused(late, Code::ApprovalClosed);
    assert_eq!(runtime.close_overdue().await.unwrap(), 1);
    let record = last(&office, &id).await.record;
    assert_eq!(runtime.standing(&office.agent, &record).await.unwrap(), Standing::TimedOut);
    office.verifies().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_in_the_session_waits_with_it_and_is_decided_in_order() {
    let office = office().await;
    let runtime = &office.world.runtime;
    let first = office.submit_as(&office.agent, refund(40, Some("s")).unwrap()).await;
    assert_eq!(said(&first), (Outcome::Defer, Code::PolicyDefer));
    let mut waiting = Vec::new();
    for n in 0..16 {
        let next = office.submit_as(&office.agent, look("s", n)).await;
        assert_eq!(said(&next), (Outcome::Defer, Code::SessionWaiting), "{n}");
        waiting.push(next.record.input.id);
    }
    let full = office.submit_as(&office.agent, look("s", 16)).await;
    assert_eq!(said(&full), (Outcome::Deny, Code::SessionWaitingFull));
    // Another session and none at all wait for nothing.
    assert_eq!(office.submit_as(&office.agent, look("t", 0)).await.record.decision.decision, Outcome::Allow);
    runtime.close_overdue().await.unwrap();
    assert_eq!(said(&last(&office, &waiting[0]).await), (Outcome::Defer, Code::SessionWaiting), "not its turn");
    office.verifies().await;
    let allowed = runtime.add_context(&office.agent, &first.record.input.id, &context(r#"{"ticket":"T-1"}"#)).await;
    assert_eq!(allowed.unwrap().record.decision.decision, Outcome::Allow);
    let mut before = 0;
    for id in &waiting {
        let decided = last(&office, id).await;
        assert_eq!(said(&decided), (Outcome::Allow, Code::PolicyPermit));
        assert!(decided.index > before, "in order");
        before = decided.index;
        let decided = runtime.with_token(&office.agent, decided).unwrap();
        assert!(decided.token.is_some(), "its token waits");
    }
    // All of it was seen: what came before is what the last one knows.
    let session = last(&office, &waiting[15]).await.record.input.session.unwrap();
    assert!(session.tools.contains("stripe.create_refund") && session.waiting == [waiting[15]]);
    assert_eq!(office.submit_as(&office.agent, look("s", 17)).await.record.decision.decision, Outcome::Allow);
    office.verifies().await;
}

/// Denied, timed out, or itself waiting for more: whatever comes of the first, the others go on.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_goes_on_when_the_first_is_denied_or_times_out() {
    let office = office().await;
    let runtime = &office.world.runtime;
    let first = office.submit_as(&office.agent, refund(40, Some("s")).unwrap()).await.record.input.id;
    office.world.clock.advance_millis(60_000);
    let second = office.submit_as(&office.agent, refund(41, Some("s")).unwrap()).await;
    assert_eq!(said(&second), (Outcome::Defer, Code::SessionWaiting));
    let third = office.submit_as(&office.agent, look("s", 1)).await;
    office.world.clock.advance_millis(3_540_000);
    assert_eq!(runtime.close_overdue().await.unwrap(), 1);
    // The second is deferred by policy itself now, for the rest of its time, and the third waits on.
    let now = last(&office, &second.record.input.id).await;
    assert_eq!(said(&now), (Outcome::Defer, Code::PolicyDefer));
    assert_eq!(now.record.decision.obligations.expires_at, second.record.decision.obligations.expires_at);
    assert_eq!(said(&last(&office, &third.record.input.id).await), (Outcome::Defer, Code::SessionWaiting));
    office.verifies().await;
    // The agent is paused: the context comes and the action is denied, and so is what waited.
    office.agent_is(AgentState::Paused, "platform").await;
    let denied = runtime.add_context(&office.agent, &second.record.input.id, &context(r#"{"ticket":"T"}"#)).await;
    assert_eq!(said(&denied.unwrap()), (Outcome::Deny, Code::AgentInactive));
    assert_eq!(said(&last(&office, &third.record.input.id).await), (Outcome::Deny, Code::AgentInactive));
    assert!(!office.open(&first).await);
    office.verifies().await;
}

/// Somebody with all keys resumes what was deferred as something else, or without any reason.
#[tokio::test(flavor = "multi_thread")]
async fn the_verifier_finds_a_deferral_that_was_resumed_as_something_else() {
    let office = office().await;
    let mut asked = refund(40, None).unwrap();
    asked.context = context(r#"{"why":"late"}"#);
    let id = office.submit_as(&office.agent, asked).await.record.input.id;
    office.world.runtime.add_context(&office.agent, &id, &context(r#"{"ticket":"T-1"}"#)).await.unwrap();
    let leaves = office.world.export().await.unwrap().1;
    let at = leaves.len() - 1;
    let ours = |leaf: &[u8]| Leaf::parse(leaf).unwrap().kind == "decision";
    assert!(ours(&leaves[at]));
    let rehash = |body: &mut serde_json::Value| {
        let intent = intended_model::json::parse(body["input"]["intent"].to_string().as_bytes()).unwrap();
        let intent: Intent = intended_model::json::from_value(&intent).unwrap();
        body["input"]["intent_hash"] = intent.digest().unwrap().to_string().into();
    };
    type Change = fn(&mut serde_json::Value);
    let changes: [(Change, &str); 6] = [
        (|b| b["input"]["intent"]["action"]["properties"]["amount"] = 4000.into(), "more than its context"),
        (|b| b["input"]["intent"]["resource"]["id"] = "ch_2".into(), "more than its context"),
        (|b| b["input"]["intent"]["context"]["why"] = "other".into(), "more than its context"),
        (|b| drop(b["input"]["intent"]["context"].as_object_mut().unwrap().remove("ticket")), "nothing"),
        (|b| b["input"]["credential"] = "owner".into(), "somebody else's"),
        (|b| b["input"]["expires_at"] = 1.into(), "until when"),
    ];
    for (change, what) in changes {
        let mut forge = Forge::of(&leaves);
        forge.edit(at, |body| {
            change(body);
            rehash(body);
        });
        let failure = verify(forge.rebuild()).unwrap_err();
        let what = if what == "nothing" { "without anything that is new" } else { what };
        assert!(failure.index == Some(at as u64) && failure.what.contains(what), "{what}: {failure}");
    }
}

/// The same key, the same answer, also after what was deferred has been decided.
#[tokio::test(flavor = "multi_thread")]
async fn the_answer_to_a_key_is_the_last_decision() {
    let office = office().await;
    let submission = || Submission {
        intent: refund(40, None).unwrap(),
        idempotency_key: Some("k".into()),
        audience: Some("till".into()),
    };
    let runtime = &office.world.runtime;
    let deferred = runtime.submit(&office.agent, submission()).await.unwrap();
    let id = deferred.record.input.id;
    runtime.add_context(&office.agent, &id, &context(r#"{"ticket":"T-1"}"#)).await.unwrap();
    let again = runtime.submit(&office.agent, submission()).await.unwrap();
    assert!(again.replayed && again.token.is_some());
    assert_eq!(again.record.grant.unwrap().aud, "till".into(), "who was to verify it is kept");
    let mut other = submission();
    other.intent = refund(41, None).unwrap();
    refused(runtime.submit(&office.agent, other).await.map(drop), Code::IdempotencyMismatch);
    office.verifies().await;
}

/// It may have been decided, used and carried out in what is lost.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_deferred_when_a_copy_was_made_is_not_decided_after_it() {
    let office = office().await;
    let runtime = &office.world.runtime;
    let first = office.submit_as(&office.agent, refund(40, Some("s")).unwrap()).await.record.input.id;
    office.world.clock.advance_millis(60_000);
    let next = office.submit_as(&office.agent, look("s", 0)).await.record.input.id;
    let alone = office.submit_as(&office.agent, refund(42, None).unwrap()).await.record.input.id;
    let gone_on = runtime.go_on_from_copy(&office.world.owner.tenant.id, &[], "the disk died").await.unwrap();
    runtime.resume(&office.world.owner, gone_on.halt, "looked at it").await.unwrap();
    let ticket = context(r#"{"ticket":"T-1"}"#);
    for id in [&first, &alone] {
        let refused = runtime.add_context(&office.agent, id, &ticket).await.unwrap_err();
        assert!(refused.code == Code::ApprovalClosed && refused.detail.contains("submit it again"), "{refused}");
    }
    // What is submitted after it waits and is decided as ever.
    let again = office.submit_as(&office.agent, refund(42, None).unwrap()).await.record.input.id;
    let allowed = runtime.add_context(&office.agent, &again, &ticket).await.unwrap();
    assert_eq!(said(&allowed), (Outcome::Allow, Code::PolicyPermit));
    office.verifies().await;
    // The same decision of what waited before is no ledger's.
    let mut forged = Forge::of(&office.world.export().await.unwrap().1);
    let at = forged.0.len() - 1;
    forged.edit(at, |body| body["input"]["id"] = alone.to_string().into());
    let failure = verify(signed(forged, true)).unwrap_err();
    assert!(failure.index == Some(at as u64) && failure.what.contains("restored from a copy"), "{failure}");
    // Its turn comes when the first has ended, and is not taken: it ends by its own time.
    office.world.clock.advance_millis(3_540_000);
    assert_eq!(runtime.close_overdue().await.unwrap(), 1);
    assert!(office.open(&next).await);
    assert_eq!(said(&last(&office, &next).await), (Outcome::Defer, Code::SessionWaiting));
    office.world.clock.advance_millis(60_000);
    assert_eq!(runtime.close_overdue().await.unwrap(), 2);
    for id in [&first, &next, &alone] {
        let standing = runtime.standing(&office.agent, &last(&office, id).await.record).await.unwrap();
        assert_eq!(standing, Standing::TimedOut);
    }
    assert_eq!(said(&last(&office, &next).await), (Outcome::Defer, Code::SessionWaiting));
    office.verifies().await;
}
