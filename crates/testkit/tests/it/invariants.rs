//! I1 to I9, on the running runtime.

use intended_model::decision::Outcome;
use intended_model::{Code, Event};
use intended_runtime::Submission;
use intended_runtime::escalations::Standing;
use intended_runtime::tokens::Verification;
use intended_testkit::{World, environment, intent, refund};
use intended_token::{Alg, Binding, Refusal};

fn submission(intent: intended_model::Intent) -> Submission {
    Submission { intent, idempotency_key: None, audience: None }
}

async fn verify_all(world: &World) -> intended_verify::Report {
    let (header, leaves) = world.export().await.unwrap();
    let mut verifier = intended_verify::Verifier::new(header, None).unwrap();
    for leaf in &leaves {
        verifier.entry(leaf).unwrap();
    }
    verifier.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_an_allow_is_in_the_ledger_before_its_token_and_the_token_names_its_position() {
    let world = World::new().await.unwrap();
    let decided = world.runtime.submit(&world.owner, submission(refund(40, None).unwrap())).await.unwrap();
    assert_eq!(decided.record.decision.decision, Outcome::Allow);
    let stored = world.runtime.store().entry(&world.owner.tenant.id, decided.index).await.unwrap().unwrap();
    assert_eq!(stored.leaf, decided.leaf);
    assert!(decided.token.is_some());
    let denied = intent(r#"{"subject":{"type":"agent","id":"support-agent"},"action":{"name":"crm.delete_customer"},"resource":{"type":"customer","id":"7"},"environment":"production"}"#).unwrap();
    let denied = world.runtime.submit(&world.owner, submission(denied)).await.unwrap();
    assert_eq!(
        (denied.record.decision.decision, denied.token.is_some(), denied.record.grant.is_some()),
        (Outcome::Deny, false, false)
    );
    assert_eq!(verify_all(&world).await.decisions, 2);
}

/// Many clients, halts thrown and lifted among them: the ledger's order proves that no allow stands
/// under a halt.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn i2_no_allow_follows_a_halt_under_load() {
    let world = World::new().await.unwrap();
    let mut clients = Vec::new();
    for _ in 0..16 {
        let (runtime, owner) = (world.runtime.clone(), world.owner.clone());
        clients.push(tokio::spawn(async move {
            let mut allowed = 0;
            for _ in 0..60 {
                let intent = intent(r#"{"subject":{"type":"agent","id":"support-agent"},"action":{"name":"orders.get_order"},"resource":{"type":"order","id":"1"},"environment":"production"}"#).unwrap();
                match runtime.submit(&owner, submission(intent)).await {
                    Ok(d) => allowed += u32::from(d.record.decision.decision == Outcome::Allow),
                    // A halt overtook it: it is in the ledger, and nobody was given its token.
                    Err(e) if e.code.as_str().starts_with("halt.") => allowed += 1,
                    Err(e) => assert_eq!(e.code, Code::ConflictExhausted),
                }
            }
            allowed
        }));
    }
    let mut halts = 0;
    for round in 0..10 {
        let scope = (round % 2 == 0).then(|| environment("production").unwrap());
        let (halt, _) = world.runtime.halt(&world.owner, scope, "test").await.unwrap();
        tokio::task::yield_now().await;
        let probe = world.runtime.submit(&world.owner, submission(refund(1, None).unwrap())).await.unwrap();
        assert_eq!(probe.record.decision.decision, Outcome::Deny);
        world.runtime.resume(&world.owner, halt, "test").await.unwrap();
        halts += 1;
    }
    let mut allowed = 0;
    for client in clients {
        allowed += client.await.unwrap();
    }
    assert!(allowed > 0);
    assert_eq!(halts, 10);
    // The verifier checks I2 by a rule of its own, entry by entry.
    assert_eq!(verify_all(&world).await.allowed, u64::from(allowed));
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_every_decision_re_executes_also_after_policy_and_settings_changed() {
    let world = World::new().await.unwrap();
    for amount in [10, 400, 20] {
        world.runtime.submit(&world.owner, submission(refund(amount, Some("s1")).unwrap())).await.unwrap();
        let mut pack = intended_testkit::demo_pack();
        pack.insert(
            "more.cedar".into(),
            format!("@id(\"more.{amount}\")\nforbid (principal, action == Action::\"gmail.send_email\", resource);"),
        );
        world.runtime.deploy_pack(&world.owner, &environment("production").unwrap(), pack).await.unwrap();
    }
    let page = world
        .runtime
        .query(
            &world.owner,
            &intended_runtime::audit::Query {
                kind: Some(intended_model::Kind::Decision),
                limit: 10,
                ..Default::default()
            },
        )
        .await
        .unwrap();
    for (entry, event) in &page.entries {
        let Event::Decision(record) = event else { panic!() };
        assert!(world.runtime.replay(&world.owner, record, entry.index, Default::default()).await.unwrap().same);
    }
    assert_eq!(verify_all(&world).await.decisions, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn i4_a_token_is_consumed_once_by_a_thousand_at_once_and_not_after_a_restart() {
    let world = World::new().await.unwrap();
    let decided = world.runtime.submit(&world.owner, submission(refund(40, None).unwrap())).await.unwrap();
    let token = decided.token.as_ref().unwrap().as_str().to_owned();
    let binding = Binding::IntentHash(decided.record.input.intent_hash);
    let production = environment("production").unwrap();
    let mut racers = Vec::new();
    for _ in 0..1000 {
        let (runtime, owner, token, binding, production) =
            (world.runtime.clone(), world.owner.clone(), token.clone(), binding.clone(), production.clone());
        racers.push(tokio::spawn(async move {
            runtime.verify_token(&owner, &token, "intended", &production, &binding, true).await.unwrap()
        }));
    }
    let mut accepted = 0;
    for racer in racers {
        match racer.await.unwrap() {
            Verification::Accepted(_) => accepted += 1,
            Verification::Refused(refusal) => assert_eq!(refusal, Refusal::Consumed),
        }
    }
    assert_eq!(accepted, 1);
    let world = world.reopen().await.unwrap();
    let again =
        world.runtime.verify_token(&world.owner, &token, "intended", &production, &binding, true).await.unwrap();
    assert!(matches!(again, Verification::Refused(Refusal::Consumed)));
    assert_eq!(verify_all(&world).await.consumptions, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_whatever_is_unknown_denies_by_name() {
    let world = World::new().await.unwrap();
    let base = r#"{"subject":{"type":"agent","id":"support-agent"},"action":{"name":"orders.get_order"},"resource":{"type":"order","id":"1"},"environment":"production"}"#;
    for (from, to, reason) in [
        ("support-agent", "nobody", Code::AgentUnknown),
        ("\"type\":\"agent\"", "\"type\":\"user\"", Code::AgentKind),
        ("orders.get_order", "orders.get_all", Code::ToolUnknown),
        ("\"type\":\"order\"", "\"type\":\"planet\"", Code::CapabilityUnknown),
        ("orders.get_order", "gmail.send_email", Code::PolicyNoPermit),
        ("\"name\":\"orders.get_order\"", "\"name\":\"stripe.create_refund\"", Code::BudgetUnreadable),
        (
            "\"name\":\"orders.get_order\"",
            "\"name\":\"orders.get_order\",\"properties\":{\"x\":0.00001}",
            Code::ContextUnrepresentable,
        ),
    ] {
        let intent = intent(&base.replacen(from, to, 1)).unwrap();
        let decided = world.runtime.submit(&world.owner, submission(intent)).await.unwrap();
        assert_eq!((decided.record.decision.decision, decided.record.decision.reason), (Outcome::Deny, reason), "{to}");
        assert_eq!(decided.record.decision.gates.len(), 9);
    }
    verify_all(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_errs_at_run_time_denies_even_beside_a_permit() {
    let world = World::new().await.unwrap();
    let mut pack = intended_testkit::demo_pack();
    pack.insert(
        "err.cedar".into(),
        "@id(\"errs\")\nforbid (principal, action, resource) when { context.time.epoch + 9223372036854775807 > 0 };"
            .into(),
    );
    world.runtime.deploy_pack(&world.owner, &environment("production").unwrap(), pack).await.unwrap();
    let decided = world.runtime.submit(&world.owner, submission(refund(40, None).unwrap())).await.unwrap();
    assert_eq!((decided.record.decision.decision, decided.record.decision.reason), (Outcome::Deny, Code::PolicyError));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_budget_holds_when_many_spend_at_once() {
    let world = World::new().await.unwrap();
    let mut clients = Vec::new();
    for _ in 0..32 {
        let (runtime, owner) = (world.runtime.clone(), world.owner.clone());
        clients.push(tokio::spawn(async move {
            runtime.submit(&owner, submission(refund(90, None).unwrap())).await.unwrap().record.decision.decision
        }));
    }
    let mut allowed = 0;
    for client in clients {
        allowed += i32::from(client.await.unwrap() == Outcome::Allow);
    }
    // 100,000 hundredths are 1,000: eleven refunds of 90.
    assert_eq!(allowed, 11);
    verify_all(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_escalation_stays_open_until_its_timeout_which_denies() {
    let world = World::new().await.unwrap();
    let decided = world.runtime.submit(&world.owner, submission(refund(400, None).unwrap())).await.unwrap();
    assert_eq!(decided.record.decision.decision, Outcome::Escalate);
    assert!(matches!(world.runtime.standing(&world.owner, &decided.record).await.unwrap(), Standing::Open { .. }));
    world.clock.advance_millis(3_599_000);
    assert_eq!(world.runtime.close_overdue().await.unwrap(), 0);
    world.clock.advance_millis(2_000);
    assert_eq!(world.runtime.standing(&world.owner, &decided.record).await.unwrap(), Standing::TimedOut);
    assert_eq!(world.runtime.close_overdue().await.unwrap(), 1);
    assert_eq!(world.runtime.close_overdue().await.unwrap(), 0);
    verify_all(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_idempotency_key_gives_the_same_token_and_another_body_is_refused() {
    let world = World::new().await.unwrap();
    let with_key = |amount| Submission {
        intent: refund(amount, None).unwrap(),
        idempotency_key: Some("k1".into()),
        audience: None,
    };
    let first = world.runtime.submit(&world.owner, with_key(40)).await.unwrap();
    let again = world.runtime.submit(&world.owner, with_key(40)).await.unwrap();
    assert_eq!(first.record, again.record);
    assert!(again.replayed);
    assert_eq!(world.runtime.submit(&world.owner, with_key(41)).await.unwrap_err().code, Code::IdempotencyMismatch);
    assert_eq!(verify_all(&world).await.decisions, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_the_previous_still_verifies_and_a_retired_one_is_refused_by_name() {
    let world = World::new().await.unwrap();
    let production = environment("production").unwrap();
    for alg in [Alg::Es256, Alg::Rs256, Alg::EdDSA] {
        let before = world.runtime.submit(&world.owner, submission(refund(1, None).unwrap())).await.unwrap();
        let old_kid = before.record.grant.as_ref().unwrap().kid.clone();
        world.runtime.rotate_key(&world.owner, &production, alg).await.unwrap();
        let check = async |d: &intended_runtime::Decided, consume| {
            let binding = Binding::IntentHash(d.record.input.intent_hash);
            world
                .runtime
                .verify_token(
                    &world.owner,
                    d.token.as_ref().unwrap().as_str(),
                    "intended",
                    &production,
                    &binding,
                    consume,
                )
                .await
                .unwrap()
        };
        assert!(matches!(check(&before, false).await, Verification::Accepted(_)));
        let after = world.runtime.submit(&world.owner, submission(refund(1, None).unwrap())).await.unwrap();
        assert!(matches!(check(&after, true).await, Verification::Accepted(_)));
        world.runtime.retire_key(&world.owner, &production, &old_kid, "test").await.unwrap();
        assert!(matches!(check(&before, true).await, Verification::Refused(Refusal::KeyRetired)));
    }
    verify_all(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_credential_and_a_revoked_token_are_refused_at_once() {
    let world = World::new().await.unwrap();
    let production = environment("production").unwrap();
    let spec = intended_runtime::access::CredentialSpec {
        actions: Vec::new(),
        agents: Vec::new(),
        networks: Vec::new(),
        credential: intended_model::CredentialId::new("bot").unwrap(),
        environments: vec![production.clone()],
        scopes: vec![intended_model::entry::Scope::IntentSubmit],
        expires_at: None,
        live: true,
        member: None,
        whole: false,
    };
    let new = world.runtime.create_credential(&world.owner, spec.clone()).await.unwrap();
    let bot = world.runtime.authenticate(&new.key).unwrap();
    // It cannot mint, nor act in another environment, nor verify.
    assert_eq!(
        world.runtime.create_credential(&bot, spec).await.map(|k| k.index).unwrap_err().code,
        Code::ScopeMissing
    );
    assert_eq!(world.runtime.halt(&bot, None, "x").await.unwrap_err().code, Code::ScopeMissing);
    let decided = world.runtime.submit(&bot, submission(refund(1, None).unwrap())).await.unwrap();
    let grant = decided.record.grant.clone().unwrap();
    world.runtime.revoke_token(&world.owner, &decided.record.input.id.to_string(), &grant.jti, "test").await.unwrap();
    let binding = Binding::IntentHash(decided.record.input.intent_hash);
    let verdict = world
        .runtime
        .verify_token(&world.owner, decided.token.unwrap().as_str(), "intended", &production, &binding, true)
        .await
        .unwrap();
    assert!(matches!(verdict, Verification::Refused(Refusal::Revoked)));
    world.runtime.revoke_credential(&world.owner, bot.credential.clone(), "test").await.unwrap();
    assert_eq!(world.runtime.authenticate(&new.key).unwrap_err().code, Code::CredentialRevoked);
    assert_eq!(
        world.runtime.submit(&bot, submission(refund(1, None).unwrap())).await.unwrap_err().code,
        Code::CredentialRevoked
    );
    verify_all(&world).await;
}

/// What policy changed is what may be done, and nothing else: by the call, and by the intent's hash.
#[tokio::test(flavor = "multi_thread")]
async fn a_modified_intent_lets_only_the_modified_call_go_ahead() {
    let world = World::new().await.unwrap();
    let staging = environment("staging").unwrap();
    let mut pack = intended_testkit::demo_pack();
    pack.retain(|file, _| file == "pack.toml");
    let policy = r#"@id("cap") @modify("cap amount = 100") permit (principal, action, resource);"#;
    pack.insert("cap.cedar".to_owned(), policy.to_owned());
    world.runtime.deploy_pack(&world.owner, &staging, pack).await.unwrap();
    let of = |amount: u32| {
        intent(&format!(r#"{{"subject":{{"type":"agent","id":"support-agent"}},"action":{{"name":"stripe.create_refund","properties":{{"amount":{amount}}}}},"resource":{{"type":"charge","id":"ch_1"}},"environment":"staging"}}"#)).unwrap()
    };
    let decided = world.runtime.submit(&world.owner, submission(of(900))).await.unwrap();
    assert_eq!(decided.record.decision.decision, Outcome::Modify);
    let token = decided.token.unwrap();
    let verify = async |binding: Binding, consume| {
        let verdict = world.runtime.verify_token(&world.owner, token.as_str(), "intended", &staging, &binding, consume);
        match verdict.await.unwrap() {
            Verification::Accepted(_) => Ok(()),
            Verification::Refused(refusal) => Err(refusal),
        }
    };
    let call = |amount: u32| {
        Binding::Call(intended_token::Call {
            agent: "support-agent".into(),
            tool: "stripe.create_refund".into(),
            resource_type: "charge".into(),
            resource_id: "ch_1".into(),
            arguments_digest: intended_model::intent::arguments_digest(&of(amount).action.properties),
        })
    };
    for refused in [call(900), Binding::IntentHash(of(900).digest().unwrap()), call(101)] {
        assert_eq!(verify(refused, true).await, Err(Refusal::Binding));
    }
    assert_eq!(verify(Binding::IntentHash(of(100).digest().unwrap()), false).await, Ok(()));
    assert_eq!(verify(call(100), true).await, Ok(()));
    verify_all(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_revoked_once_and_not_after_its_time() {
    let world = World::new().await.unwrap();
    let decided = world.runtime.submit(&world.owner, submission(refund(1, None).unwrap())).await.unwrap();
    let (id, jti) = (decided.record.input.id.to_string(), decided.record.grant.unwrap().jti);
    let revoke = async || world.runtime.revoke_token(&world.owner, &id, &jti, "test").await.map_err(|e| e.code);
    assert!(revoke().await.is_ok());
    assert_eq!(revoke().await, Err(Code::Conflict));
    for _ in 0..3 {
        world.clock.advance_millis(2 * 3_600_000);
        world.runtime.purge().await.unwrap();
        assert_eq!(revoke().await, Err(Code::Conflict));
    }
    verify_all(&world).await;
}

/// A signature is not an authority: one made with a key that leaked is refused, because no decision
/// in the ledger granted it.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_no_decision_granted_is_refused_though_its_signature_holds() {
    let world = World::new().await.unwrap();
    let production = environment("production").unwrap();
    let decided = world.runtime.submit(&world.owner, submission(refund(40, None).unwrap())).await.unwrap();
    let signer = world.owner.tenant.signer(&production).unwrap();
    let grant = decided.record.grant.clone().unwrap();
    let claims = intended_runtime::submit::claims_of(
        "http://intended.test",
        "acme",
        &decided.record,
        &grant,
        decided.index,
        &decided.head,
    );
    type Change = fn(&mut intended_token::Claims);
    let changes: [(&str, Change); 6] = [
        ("another id", |c| c.jti = "A".repeat(43)),
        ("another position", |c| c.ledger.index -= 1),
        ("a position that is not there", |c| c.ledger.index += 1_000),
        ("a longer life", |c| c.exp += 60),
        ("other arguments", |c| c.action.arguments_digest = intended_model::Digest::of(b"x")),
        ("another agent", |c| c.sub = "release-agent".to_owned()),
    ];
    let check = async |claims: &intended_token::Claims| {
        let token = intended_token::issue(claims, &*signer).unwrap();
        let binding = Binding::IntentHash(claims.intent_hash);
        world.runtime.verify_token(&world.owner, &token, "intended", &production, &binding, false).await.unwrap()
    };
    assert!(matches!(check(&claims).await, Verification::Accepted(_)));
    for (what, change) in changes {
        let mut forged = claims.clone();
        change(&mut forged);
        assert!(matches!(check(&forged).await, Verification::Refused(Refusal::NotGranted)), "{what}");
    }
}
