//! Somebody has a signing key of an environment, and a grant that is in the ledger. Neither makes a
//! token for anything but what was granted.

use std::sync::Arc;

use intended_runtime::submit::claims_of;
use intended_runtime::tokens::Verification;
use intended_runtime::{Decided, Submission};
use intended_testkit::{World, environment, refund};
use intended_token::{Binding, Call, Claims, Refusal, issue};

async fn decided(world: &World, key: Option<&str>) -> Decided {
    let submission =
        Submission { intent: refund(40, None).unwrap(), idempotency_key: key.map(Into::into), audience: None };
    world.runtime.submit(&world.owner, submission).await.unwrap()
}

fn claims(decided: &Decided) -> Claims {
    let grant = decided.record.grant.as_ref().unwrap();
    claims_of("http://intended.test", "acme", &decided.record, grant, decided.index, &decided.head)
}

async fn online(world: &World, token: &str, binding: &Binding, consume: bool) -> Result<(), Refusal> {
    let production = environment("production").unwrap();
    match world.runtime.verify_token(&world.owner, token, "intended", &production, binding, consume).await.unwrap() {
        Verification::Accepted(_) => Ok(()),
        Verification::Refused(refusal) => Err(refusal),
    }
}

/// The binding of the call that the claims speak of.
fn call(claims: &Claims) -> Binding {
    Binding::Call(Call {
        agent: claims.sub.clone(),
        tool: claims.action.tool.clone(),
        resource_type: claims.action.resource_type.clone(),
        resource_id: claims.action.resource_id.clone(),
        arguments_digest: claims.action.arguments_digest,
    })
}

type Change = fn(&mut Claims);

#[tokio::test(flavor = "multi_thread")]
async fn a_leaked_key_and_a_real_grant_make_no_token_for_another_call() {
    let world = World::new().await.unwrap();
    let production = environment("production").unwrap();
    let decided = decided(&world, None).await;
    let signer: Arc<_> = world.owner.tenant.signer(&production).unwrap();
    let real = claims(&decided);
    let mut forged: Vec<(&str, Change)> = vec![
        ("another tool", |c| c.action.tool = "crm.delete_customer".to_owned()),
        ("another resource", |c| c.action.resource_id = "ch_2".to_owned()),
        ("another type of resource", |c| c.action.resource_type = "customer".to_owned()),
        ("another operation", |c| c.action.operation = "read".to_owned()),
        ("another agent", |c| c.sub = "release-agent".to_owned()),
        ("other arguments", |c| c.action.arguments_digest = intended_model::Digest::of(b"{}")),
        ("another intent", |c| c.intent_hash = intended_model::Digest::of(b"")),
        ("another intent's id", |c| c.txn = "01900000-0000-7000-8000-000000000000".to_owned()),
        ("another policy", |c| c.policy = intended_model::Digest::of(b"").to_string()),
        ("another token id", |c| c.jti = "a".repeat(43)),
        ("a longer life", |c| c.exp += 60),
        ("a later start", |c| c.nbf += 1),
        ("another position", |c| c.ledger.index -= 1),
        ("whom it acts for", |c| c.act = Some(intended_token::claims::Actor { sub: "owner".to_owned(), act: None })),
    ];
    forged.push(("an earlier issue", |c| c.iat -= 1));
    for (what, change) in forged {
        let mut claims = real.clone();
        change(&mut claims);
        assert_ne!(claims, real, "{what}");
        let token = issue(&claims, &*signer).unwrap();
        for binding in [call(&claims), Binding::IntentHash(claims.intent_hash)] {
            assert_eq!(online(&world, &token, &binding, true).await, Err(Refusal::NotGranted), "{what}");
        }
    }
    // What was granted, signed again, is the granted token, and good once.
    let token = issue(&real, &*signer).unwrap();
    assert_eq!(signer.kid(), &*decided.record.grant.as_ref().unwrap().kid);
    assert_eq!(online(&world, &token, &call(&real), true).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_once_also_one_after_the_other_and_however_it_was_signed() {
    let world = World::new().await.unwrap();
    let decided = decided(&world, None).await;
    let binding = Binding::IntentHash(decided.record.input.intent_hash);
    let token = decided.token.as_ref().unwrap().as_str();
    assert_eq!(online(&world, token, &binding, true).await, Ok(()));
    let signer = world.owner.tenant.signer(&environment("production").unwrap()).unwrap();
    let again = issue(&claims(&decided), &*signer).unwrap();
    for token in [token, token, &again] {
        assert_eq!(online(&world, token, &binding, true).await, Err(Refusal::Consumed));
        assert_eq!(online(&world, token, &binding, false).await, Err(Refusal::Consumed));
    }
}

/// An answer that is given again is signed by the key of now. The grant is one of the key of then.
#[tokio::test(flavor = "multi_thread")]
async fn a_grant_dies_with_the_key_it_names_also_when_a_successor_signs_for_it() {
    let world = World::new().await.unwrap();
    let production = environment("production").unwrap();
    let first = decided(&world, Some("k")).await;
    let kid = first.record.grant.as_ref().unwrap().kid.clone();
    world.runtime.rotate_key(&world.owner, &production, intended_token::Alg::EdDSA).await.unwrap();
    let binding = Binding::IntentHash(first.record.input.intent_hash);
    let again = decided(&world, Some("k")).await;
    assert!(again.replayed);
    let token = again.token.as_ref().unwrap().as_str();
    assert_eq!(online(&world, token, &binding, false).await, Ok(()), "rotated is not retired");
    world.runtime.retire_key(&world.owner, &production, &kid, "leaked").await.unwrap();
    assert_eq!(online(&world, token, &binding, true).await, Err(Refusal::NotGranted));
}
