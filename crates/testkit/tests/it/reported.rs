//! Who says what came of an action: who let it through, and not who asked for it.

use intended_model::entry::{ActionOutcome, Scope};
use intended_model::{Code, MemberId};
use intended_runtime::{Principal, Submission};
use intended_testkit::{World, refund};
use intended_verify::Check;
use serde_json::json;

use crate::breakers::{consume_as, holds, key, person, report, set, standing};
use crate::tampering::{Forge, verify};

async fn allowed(world: &World, by: &Principal) -> intended_runtime::Decided {
    let submission = Submission { intent: refund(1, None).unwrap(), idempotency_key: None, audience: None };
    world.runtime.submit(by, submission).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_let_an_action_through_says_what_came_of_it() {
    let world = World::new().await.unwrap();
    let agents = key(&world, "agents", None, &[Scope::IntentSubmit, Scope::IntentRead, Scope::TokenVerify]).await;
    let point = key(&world, "point", None, &[Scope::TokenVerify]).await;
    let other = key(&world, "other-point", None, &[Scope::TokenVerify]).await;
    set(
        &world,
        "refunds",
        json!({"scope": "tool", "target": "stripe.*"}),
        json!({"error_rate_permille": 1000, "minimum_calls": 1}),
    )
    .await;
    let decided = allowed(&world, &agents).await;
    let id = decided.record.input.id;
    consume_as(&world, &point, &decided).await;
    // The agent is first, and says that all is well.
    for by in [&agents, &other, &world.owner] {
        assert_eq!(report(&world, by, id, ActionOutcome::Succeeded).await, Err(Code::OutcomeNotYours));
    }
    report(&world, &point, id, ActionOutcome::Failed).await.unwrap();
    assert_eq!(standing(&world, "refunds"), Some("open"));
    holds(&world).await;
    let honest = Forge::of(&world.export().await.unwrap().1);
    let at = honest.position("intent.outcome", 0);
    for by in ["agents", "other-point"] {
        let mut forge = Forge(honest.0.clone());
        forge.edit(at, |b| b["by"] = json!(by));
        let failure = verify(forge.rebuild()).unwrap_err();
        assert_eq!((failure.check, failure.index), (Check::Outcome, Some(at as u64)), "{failure}");
        assert!(failure.what.contains("somebody else than who let the action through"), "{failure}");
    }
    // What earlier procedures decided, anybody who verifies has reported.
    let mut forge = Forge(honest.0.clone());
    let decision =
        forge.0.iter().position(|(_, kind, body)| kind == "decision" && body.contains("\"agents\"")).unwrap();
    forge.edit(decision, |b| b["input"]["procedure"] = json!(2));
    forge.edit(at, |b| b["by"] = json!("other-point"));
    verify(forge.rebuild()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_of_the_same_person_may_and_the_key_that_asked_may_where_it_is_the_same() {
    let world = World::new().await.unwrap();
    person(&world, "ana").await;
    let ana = || Some(MemberId::new("ana").unwrap());
    let asked = key(&world, "ana-asks", ana(), &[Scope::IntentSubmit, Scope::TokenVerify]).await;
    let used = key(&world, "ana-uses", ana(), &[Scope::TokenVerify]).await;
    let says = key(&world, "ana-says", ana(), &[Scope::TokenVerify]).await;
    let decided = allowed(&world, &asked).await;
    consume_as(&world, &used, &decided).await;
    let id = decided.record.input.id;
    assert_eq!(report(&world, &asked, id, ActionOutcome::Succeeded).await, Err(Code::OutcomeNotYours), "it had asked");
    report(&world, &says, id, ActionOutcome::Succeeded).await.unwrap();
    // Where one key does it all, there is nobody else to say it.
    let decided = allowed(&world, &asked).await;
    consume_as(&world, &asked, &decided).await;
    report(&world, &asked, decided.record.input.id, ActionOutcome::Succeeded).await.unwrap();
    holds(&world).await;
    let mut forge = Forge::of(&world.export().await.unwrap().1);
    let at = forge.position("intent.outcome", 0);
    forge.edit(at, |b| b["by"] = json!("ana-asks"));
    let failure = verify(forge.rebuild()).unwrap_err();
    assert_eq!((failure.check, failure.index), (Check::Outcome, Some(at as u64)), "{failure}");
}
