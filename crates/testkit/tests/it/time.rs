//! Time that steps, sessions that end, halts between a token and its use: the ledger stays one that
//! verifies, and what had ended stays ended.

use intended_model::decision::Outcome;
use intended_model::{Code, Timestamp};
use intended_runtime::tokens::Verification;
use intended_runtime::{Decided, Submission};
use intended_testkit::{NOON, World, environment, refund};
use intended_token::{Binding, Refusal};

const HOUR: i64 = 3_600_000;

async fn submit(world: &World, session: Option<&str>) -> Decided {
    let submission = Submission { intent: refund(1, session).unwrap(), idempotency_key: None, audience: None };
    world.runtime.submit(&world.owner, submission).await.unwrap()
}

async fn use_token(world: &World, decided: &Decided) -> Result<(), Refusal> {
    let binding = Binding::IntentHash(decided.record.input.intent_hash);
    let token = decided.token.as_ref().unwrap().as_str();
    let production = environment("production").unwrap();
    match world.runtime.verify_token(&world.owner, token, "intended", &production, &binding, true).await.unwrap() {
        Verification::Accepted(_) => Ok(()),
        Verification::Refused(refusal) => Err(refusal),
    }
}

async fn verifies(world: &World) -> intended_verify::Report {
    let (header, leaves) = world.export().await.unwrap();
    let mut verifier = intended_verify::Verifier::new(header, None).unwrap();
    leaves.iter().for_each(|leaf| verifier.entry(leaf).unwrap());
    verifier.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_set_back_revives_no_token_and_leaves_a_ledger_that_verifies() {
    let world = World::new().await.unwrap();
    let (used, unused) = (submit(&world, None).await, submit(&world, None).await);
    assert_eq!(use_token(&world, &used).await, Ok(()));
    world.clock.advance_millis(3 * HOUR);
    submit(&world, Some("s")).await;
    world.runtime.purge().await.unwrap();
    for back in [30_000, HOUR, 2 * HOUR + 59 * 60_000] {
        world.clock.set(Timestamp::from_millis(NOON + 3 * HOUR - back));
        let decided = submit(&world, Some("s")).await;
        assert_eq!(decided.record.decision.decision, Outcome::Allow);
        assert!(decided.record.input.at >= Timestamp::from_millis(NOON + 3 * HOUR), "decided by the ledger's time");
        assert_eq!(use_token(&world, &decided).await, Ok(()));
        for old in [&used, &unused] {
            assert_eq!(use_token(&world, old).await, Err(Refusal::Expired));
        }
    }
    let world = world.reopen().await.unwrap();
    submit(&world, Some("s")).await;
    assert_eq!(use_token(&world, &used).await, Err(Refusal::Expired));
    assert_eq!(verifies(&world).await.consumptions, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_use_is_not_forgotten_before_a_ledger_is_past_it_whatever_the_clock_says() {
    let world = World::new().await.unwrap();
    let used = submit(&world, None).await;
    assert_eq!(use_token(&world, &used).await, Ok(()));
    // Nothing is recorded any more, time goes by, and the power is cut; the clock comes back wrong.
    world.clock.advance_millis(3 * HOUR);
    world.runtime.purge().await.unwrap();
    let world = world.crash().await.unwrap();
    world.clock.set(Timestamp::from_millis(NOON + 30_000));
    let world = world.reopen().await.unwrap();
    assert_eq!(use_token(&world, &used).await, Err(Refusal::Consumed));
    assert_eq!(verifies(&world).await.consumptions, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_ahead_and_comes_back_does_not_stop_decisions() {
    let world = World::new().await.unwrap();
    world.clock.advance_millis(400 * 24 * HOUR);
    submit(&world, None).await;
    world.clock.set(Timestamp::from_millis(NOON));
    let decided = submit(&world, None).await;
    assert_eq!(use_token(&world, &decided).await, Ok(()));
    verifies(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_after_a_day_whether_or_not_its_fact_was_removed() {
    for removed in [false, true] {
        let world = World::new().await.unwrap();
        let seen = async || submit(&world, Some("s")).await.record.input.session.unwrap().intents;
        assert_eq!((seen().await, seen().await), (0, 1));
        world.clock.advance_millis(24 * HOUR - 1);
        assert_eq!(seen().await, 2, "one millisecond before its end");
        world.clock.advance_millis(24 * HOUR);
        if removed {
            world.runtime.purge().await.unwrap();
            world.clock.advance_millis(2 * HOUR);
            world.runtime.purge().await.unwrap();
        }
        assert_eq!(seen().await, 0, "a new session of the same name");
        assert_eq!(seen().await, 1);
        verifies(&world).await;
    }
}

/// I2, at the point of enforcement: what was allowed before a halt is not carried out under it.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_issued_before_a_halt_is_not_accepted_under_it() {
    let world = World::new().await.unwrap();
    for scope in [None, Some(environment("production").unwrap())] {
        let decided = submit(&world, None).await;
        let elsewhere = world.runtime.halt(&world.owner, Some(environment("staging").unwrap()), "else").await.unwrap();
        let (halt, _) = world.runtime.halt(&world.owner, scope, "stop").await.unwrap();
        assert_eq!(use_token(&world, &decided).await, Err(Refusal::Halted));
        world.runtime.resume(&world.owner, halt, "go on").await.unwrap();
        // What was granted before it stays dead; a halt elsewhere covers nothing here.
        assert_eq!(use_token(&world, &decided).await, Err(Refusal::Halted));
        assert_eq!(use_token(&world, &submit(&world, None).await).await, Ok(()));
        world.runtime.resume(&world.owner, elsewhere.0, "go on").await.unwrap();
    }
    verifies(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotent_answer_hands_out_no_token_under_a_halt_nor_after_its_time() {
    let world = World::new().await.unwrap();
    let again = async || {
        let key = Some("order-7".into());
        let submission = Submission { intent: refund(1, None).unwrap(), idempotency_key: key, audience: None };
        world.runtime.submit(&world.owner, submission).await
    };
    let first = again().await.unwrap();
    assert_eq!(again().await.unwrap().token.unwrap().as_str(), first.token.unwrap().as_str());
    let (halt, _) = world.runtime.halt(&world.owner, None, "stop").await.unwrap();
    assert_eq!(again().await.unwrap_err().code, Code::HaltTenant);
    world.runtime.resume(&world.owner, halt, "go on").await.unwrap();
    assert!(again().await.unwrap().token.is_none(), "what was granted before a halt is not handed out after it");
    world.clock.advance_millis(120_000);
    let late = again().await.unwrap();
    assert!(late.replayed && late.token.is_none(), "the decision stands, its token has expired");
    assert_eq!(verifies(&world).await.decisions, 1);
}
