//! The self-test: through everything that a real intent goes through, and good for nothing else. What
//! never counts it is in `self_test_uncounted`.

use intended_ledger::Receipt;
use intended_model::decision::{GateName, Outcome};
use intended_model::entry::{BreakerHeld, BreakerScope, Scope, Settings, Tier};
use intended_model::{Class, Code, CredentialId, Event, Intent, Value, synthetic};
use intended_runtime::tokens::{Asked, Verification};
use intended_runtime::{Decided, Principal, Runtime, RuntimeError, Submission};
use intended_testkit::{environment, intent, refund};
use intended_token::{Binding, Call, Expectations, KeySet, Refusal, Verifier};
use intended_verify::Check;
use serde_json::json;

use crate::approving::{Office, name, refused};
use crate::http_edge::{app, call, raw};
use crate::tampering::{Forge, verify};

pub fn the_intent() -> Intent {
    synthetic::intent(environment("production").unwrap())
}

pub async fn ask(office: &Office, by: &Principal, intent: Intent) -> Result<Decided, RuntimeError> {
    let submission = Submission { intent, idempotency_key: None, audience: None };
    office.world.runtime.submit(by, submission).await
}

pub async fn run(office: &Office, by: &Principal) -> Decided {
    ask(office, by, the_intent()).await.unwrap()
}

/// Who may test and nothing else.
pub async fn prober(office: &Office) -> Principal {
    office.key("prober", None, &[Scope::TokenTest]).await
}

pub fn said(decided: &Decided) -> (Outcome, Code) {
    (decided.record.decision.decision, decided.record.decision.reason)
}

/// Verified online as a self-test's token.
pub async fn check(
    runtime: &Runtime,
    by: &Principal,
    decided: &Decided,
    consume: bool,
) -> Result<Verification, RuntimeError> {
    let asked = Asked {
        class: Class::Synthetic,
        audience: synthetic::NAME,
        environment: &environment("production").unwrap(),
        binding: &Binding::IntentHash(decided.record.input.intent_hash),
        consume,
    };
    runtime.verify_as(by, decided.token.as_ref().unwrap().as_str(), &asked).await
}

fn refusal(verification: Verification) -> Refusal {
    match verification {
        Verification::Refused(refusal) => refusal,
        Verification::Accepted(_) => panic!("it was accepted"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_self_test_is_decided_recorded_signed_used_once_and_proved() {
    let office = Office::new().await;
    let by = prober(&office).await;
    let runtime = &office.world.runtime;
    let decided = run(&office, &by).await;
    assert_eq!(said(&decided), (Outcome::Allow, Code::PolicyPermit), "{:?}", decided.record.decision);
    let record = &decided.record;
    assert_eq!((record.input.class, record.decision.gates.len()), (Class::Synthetic, 9));
    // Marked for who reads the ledger.
    assert!(String::from_utf8_lossy(&decided.leaf).contains(r#""class":"synthetic""#));
    let about = intended_model::about::about(&Event::Decision(record.clone())).summary;
    assert!(about.starts_with("self-test: allow (policy.permit): intended.self-test on intended/self-test"), "{about}");
    // And for who reads the token, which is for nobody who acts.
    let grant = record.grant.as_ref().unwrap();
    assert_eq!(&*grant.aud, "intended.self-test");
    let production = environment("production").unwrap();
    let keys = KeySet::from_jwks(&Runtime::key_set(&by.tenant.state(), Some(&production)).unwrap()).unwrap();
    let expect = Expectations {
        issuer: runtime.issuer().to_owned(),
        audience: synthetic::NAME.to_owned(),
        tenant: "acme".to_owned(),
        environment: "production".to_owned(),
    };
    let verifier = Verifier { keys: &keys, expect, revocations: None };
    let token = decided.token.as_ref().unwrap().as_str();
    let binding = Binding::IntentHash(the_intent().digest().unwrap());
    let accepted = verifier.verify_class(Class::Synthetic, token, &binding, decided.recorded_at).unwrap();
    assert_eq!((accepted.claims.class, &*accepted.claims.action.operation), (Class::Synthetic, "probe"));

    let used = check(runtime, &by, &decided, true).await.unwrap();
    assert!(matches!(used, Verification::Accepted(v) if v.consumed_at == Some(decided.index + 1)));
    assert_eq!(refusal(check(runtime, &by, &decided, true).await.unwrap()), Refusal::Consumed);
    assert_eq!(refusal(check(runtime, &by, &decided, false).await.unwrap()), Refusal::Consumed);
    let receipt = Receipt::new(&decided.leaf, decided.index, &decided.proof, &decided.checkpoint).unwrap();
    assert_eq!(receipt.verify(&by.tenant.state().vkey).unwrap().index, decided.index);

    // It is decided again like any other, and read like any other.
    let owner = &office.world.owner;
    let again = runtime.replay(owner, record, decided.index, Default::default()).await.unwrap();
    assert!(again.same);
    runtime.explain(owner, record, decided.index).await.unwrap();
    office.verifies().await;
}

/// The organisation's word stands: the runtime's own permit outweighs nothing.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_denies_an_intent_denies_the_self_test() {
    let office = Office::new().await;
    let by = prober(&office).await;
    let owner = office.world.owner.clone();
    let runtime = &office.world.runtime;
    let all = r#"@id("all") permit (principal, action, resource);"#;
    for (text, reason) in [
        (
            format!("{all} @id(\"no\") forbid (principal, action == Action::\"intended.self-test\", resource);"),
            Code::PolicyForbid,
        ),
        (format!("{all} @id(\"no\") forbid (principal, action in Action::\"OIL-303\", resource);"), Code::PolicyForbid),
        (
            format!("{all} @id(\"no\") forbid (principal, action in Action::\"op:probe\", resource);"),
            Code::PolicyForbid,
        ),
        (
            format!("{all} @id(\"no\") forbid (principal, action, resource) unless {{ context.goal.declared }};"),
            Code::PolicyForbid,
        ),
    ] {
        office.pack(&text).await;
        let decided = run(&office, &by).await;
        assert_eq!(said(&decided), (Outcome::Deny, reason), "{text}");
        assert!(decided.token.is_none());
    }
    // Nothing that permits, and what asks people: neither is asked for.
    for text in [
        r#"@id("other") permit (principal, action == Action::"stripe.create_refund", resource);"#,
        r#"@id("ask") @escalate("1 of leads") permit (principal, action, resource);"#,
        r#"@id("ticket") @defer("ticket") permit (principal, action, resource);"#,
        r#"@id("cap") @modify("set memo = \"x\"") permit (principal, action, resource);"#,
    ] {
        office.pack(text).await;
        let decided = run(&office, &by).await;
        assert_eq!(said(&decided), (Outcome::Allow, Code::PolicyPermit), "{text}");
        let policy = decided.record.decision.policy.unwrap();
        assert_eq!(policy.determining, [synthetic::PERMIT.into()], "{text}");
        assert!(decided.record.decision.obligations.is_empty());
    }

    // Breakers that people hold, on everything or on it.
    let ana = crate::breakers::person(&office.world, "ana").await;
    for (breaker, scope, target) in [
        ("b1", BreakerScope::Tenant, ""),
        ("b2", BreakerScope::Tool, "intended.*"),
        ("b3", BreakerScope::Connector, "intended"),
    ] {
        let held = BreakerHeld {
            breaker: name(breaker),
            by: owner.credential.clone(),
            environment: environment("production").unwrap(),
            reason: "maintenance".into(),
            scope,
            target: target.into(),
            v: 1,
        };
        office.world.control(Event::BreakerHeld(held)).await.unwrap();
        assert_eq!(said(&run(&office, &by).await), (Outcome::Deny, Code::BreakerOpen), "{scope:?}");
        let released = intended_model::entry::BreakerReleased {
            breaker: name(breaker),
            by: ana.credential.clone(),
            reason: "over".into(),
            v: 1,
        };
        office.world.control(Event::BreakerReleased(released)).await.unwrap();
    }

    // A token from before a halt dies with it, and none comes under it.
    let before = run(&office, &by).await;
    let production = environment("production").unwrap();
    let (halt, _) = runtime.halt(&owner, Some(production.clone()), "stop").await.unwrap();
    assert_eq!(said(&run(&office, &by).await), (Outcome::Deny, Code::HaltEnvironment));
    assert_eq!(refusal(check(runtime, &by, &before, true).await.unwrap()), Refusal::Halted);
    runtime.resume(&owner, halt, "over").await.unwrap();
    let on = intended_model::emergency::HaltTarget::Tool("intended.self-test".into());
    let scope = intended_model::emergency::HaltScope { environment: Some(production.clone()), on: Some(on) };
    runtime.throw(&owner, scope, "no tests").await.unwrap();
    assert_eq!(said(&run(&office, &by).await), (Outcome::Deny, Code::HaltTool));

    runtime.suspend_environment(&owner, &production, "closed").await.unwrap();
    let suspended = ask(&office, &by, the_intent()).await;
    match suspended {
        Ok(decided) => assert_eq!(decided.record.decision.decision, Outcome::Deny),
        Err(error) => assert_eq!(error.code, Code::EnvironmentSuspended),
    }

    // Where no version is deployed, and where any risk is too much.
    let anew = || runtime.authenticate(&office.world.owner_key).unwrap();
    for (place, settings, reason) in [
        ("empty", Settings::default(), Code::PolicyNone),
        ("strict", Settings { risk_deny_at: 0, ..Settings::default() }, Code::RiskAboveLimit),
    ] {
        let place = environment(place).unwrap();
        runtime.set_environment(&owner, place.clone(), Tier::Staging, |_| Ok(settings.clone())).await.unwrap();
        if reason == Code::RiskAboveLimit {
            runtime.deploy_pack(&anew(), &place, intended_testkit::demo_pack()).await.unwrap();
        }
        let decided = ask(&office, &anew(), synthetic::intent(place)).await.unwrap();
        assert_eq!(said(&decided), (Outcome::Deny, reason));
    }
    office.verifies().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_of_an_agents_gets_nothing_by_it_and_one_that_tests_does_nothing_else() {
    let office = Office::new().await;
    let by = prober(&office).await;
    // An agent's: it may submit and verify, and not test.
    let agent = office.key("an-agent", None, &[Scope::IntentSubmit, Scope::TokenVerify]).await;
    refused(ask(&office, &agent, the_intent()).await.map(drop), Code::ScopeMissing);
    let decided = run(&office, &by).await;
    refused(check(&office.world.runtime, &agent, &decided, true).await.map(drop), Code::ScopeMissing);
    // Who answers for the signing keys may, from before there was a scope for it too.
    let keeper = office.key("keeper", None, &[Scope::KeyWrite]).await;
    let tested = run(&office, &keeper).await;
    assert!(matches!(check(&office.world.runtime, &keeper, &tested, true).await.unwrap(), Verification::Accepted(_)));
    // And the other way round.
    refused(ask(&office, &by, refund(40, None).unwrap()).await.map(drop), Code::ScopeMissing);
    let real = office.submit_as(&agent, refund(40, None).unwrap()).await;
    let production = environment("production").unwrap();
    let binding = Binding::IntentHash(real.record.input.intent_hash);
    let token = real.token.as_ref().unwrap().as_str();
    let runtime = &office.world.runtime;
    let verified = runtime.verify_token(&by, token, "intended", &production, &binding, true).await;
    refused(verified.map(drop), Code::ScopeMissing);
    // A real token is no self-test's, whoever asks, and is not used up by asking.
    let asked = Asked {
        class: Class::Synthetic,
        audience: "intended",
        environment: &production,
        binding: &binding,
        consume: true,
    };
    assert_eq!(refusal(runtime.verify_as(&by, token, &asked).await.unwrap()), Refusal::Class);
    let used = runtime.verify_token(&agent, token, "intended", &production, &binding, true).await.unwrap();
    assert!(matches!(used, Verification::Accepted(_)));
    // A credential for other tools is not for this one either.
    let narrow = intended_runtime::access::CredentialSpec {
        actions: vec!["orders.*".into()],
        agents: Vec::new(),
        credential: CredentialId::new("narrow").unwrap(),
        environments: vec![production],
        scopes: vec![Scope::TokenTest],
        expires_at: None,
        live: true,
        member: None,
        networks: Vec::new(),
        whole: false,
    };
    let narrow = runtime.create_credential(&office.world.owner, narrow).await.unwrap();
    let narrow = runtime.authenticate(&narrow.key).unwrap();
    refused(ask(&office, &narrow, the_intent()).await.map(drop), Code::CredentialAction);
    office.verifies().await;
}

/// What embeds the verifier, and what asks the server: both refuse it for any call there could be.
#[tokio::test(flavor = "multi_thread")]
async fn its_token_is_refused_by_every_enforcement_point_that_did_not_ask_for_one() {
    let office = Office::new().await;
    let by = prober(&office).await;
    let decided = run(&office, &by).await;
    let token = decided.token.as_ref().unwrap().as_str();
    let production = environment("production").unwrap();
    let runtime = &office.world.runtime;
    let call = Call {
        agent: synthetic::NAME.to_owned(),
        tool: synthetic::NAME.to_owned(),
        resource_type: synthetic::RESOURCE_TYPE.to_owned(),
        resource_id: synthetic::RESOURCE_ID.to_owned(),
        arguments_digest: intended_model::intent::arguments_digest(&Value::object()),
    };
    let other = Call { tool: "stripe.create_refund".to_owned(), ..call.clone() };
    let keys = KeySet::from_jwks(&Runtime::key_set(&by.tenant.state(), None).unwrap()).unwrap();
    let own = Binding::IntentHash(decided.record.input.intent_hash);
    for binding in [own, Binding::Call(call), Binding::Call(other)] {
        for audience in ["intended.self-test", "intended"] {
            let expect = Expectations {
                issuer: runtime.issuer().to_owned(),
                audience: audience.to_owned(),
                tenant: "acme".to_owned(),
                environment: "production".to_owned(),
            };
            let offline = Verifier { keys: &keys, expect, revocations: None };
            assert_eq!(offline.verify(token, &binding, decided.recorded_at), Err(Refusal::Class));
            let owner = &office.world.owner;
            let online = runtime.verify_token(owner, token, audience, &production, &binding, true).await.unwrap();
            assert_eq!(refusal(online), Refusal::Class);
        }
    }
    // None of that used it up; and nothing comes of it.
    assert!(matches!(check(runtime, &by, &decided, true).await.unwrap(), Verification::Accepted(_)));
    let report = intended_runtime::outcomes::Report {
        outcome: intended_model::entry::ActionOutcome::Failed,
        duration_ms: Some(1),
        detail: None,
    };
    let reported = runtime.report_outcome(&office.world.owner, &decided.record.input.id, report).await;
    refused(reported.map(drop), Code::OutcomeNotPermitted);
    office.verifies().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_self_test_that_says_anything_more_is_refused_by_name() {
    let office = Office::new().await;
    let by = office.key("both", None, &[Scope::TokenTest, Scope::IntentSubmit]).await;
    type Change = fn(&mut Intent);
    let parse = |text: &str| intended_model::json::parse(text.as_bytes()).unwrap();
    let cases: [(&str, Change); 9] = [
        ("action", |i| i.action.properties = intended_model::json::parse(br#"{"amount":1000000}"#).unwrap()),
        ("context", |i| i.context = intended_model::json::parse(br#"{"ticket":"T-1"}"#).unwrap()),
        ("goal", |i| i.goal = Some("pay".into())),
        ("resource", |i| i.resource.id = "ch_1".into()),
        ("resource", |i| i.resource.kind = "charge".into()),
        ("session", |i| i.session = Some("s".into())),
        ("subject", |i| i.subject.id = "support-agent".into()),
        ("subject", |i| i.subject.kind = "service".into()),
        ("subject", |i| {
            let behalf = br#"{"on_behalf_of":{"type":"agent","id":"support-agent"}}"#;
            i.subject.properties = intended_model::json::parse(behalf).unwrap();
        }),
    ];
    for (what, change) in cases {
        let mut changed = the_intent();
        change(&mut changed);
        let decided = ask(&office, &by, changed).await.unwrap();
        assert_eq!(said(&decided), (Outcome::Deny, Code::SyntheticShape), "{what}");
        let gate = decided.record.decision.gates.iter().find(|g| g.gate == GateName::Identity).unwrap();
        assert!(gate.detail.contains(what), "{what}: {}", gate.detail);
        assert!(decided.token.is_none());
    }
    let submission = Submission { intent: the_intent(), idempotency_key: None, audience: Some("payments".into()) };
    let decided = office.world.runtime.submit(&by, submission).await.unwrap();
    assert_eq!(said(&decided), (Outcome::Deny, Code::SyntheticShape));
    // Acting for it is acting under a name that is kept.
    let mut chain = refund(40, None).unwrap();
    chain.subject.properties = parse(r#"{"on_behalf_of":{"type":"agent","id":"intended.self-test"}}"#);
    assert_eq!(said(&office.submit_as(&by, chain).await), (Outcome::Deny, Code::NameReserved));
    office.verifies().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_registers_its_name_in_any_spelling() {
    let (world, app, key) = app().await;
    let body = json!({"kind": "agent", "environments": ["production"], "trust": 50, "owner": "x", "teams": []});
    for (spelling, path) in [
        ("as it is", "intended.self-test"),
        ("case", "Intended.Self-Test"),
        ("punctuation", "intended_self.test"),
        ("look-alikes", "lntended.se1f-test"),
        ("encoded", "intended%2Eself%2Dtest"),
        ("a Cyrillic e", "int%D0%B5nded.self-test"),
        ("fullwidth", "intended.self-%EF%BD%94est"),
        ("a zero-width space", "intended.self%E2%80%8B-test"),
        ("a combining accent", "intended.se%CC%81lf-test"),
    ] {
        let path = format!("/v1/tenants/acme/agents/{path}");
        let (status, answer) = call(&app, "PUT", &path, Some(&key), Some(&body)).await;
        assert!((400..=422).contains(&status), "{spelling}: {status} {answer}");
    }
    let (status, answer) =
        call(&app, "PUT", "/v1/tenants/acme/agents/intended.self-tester", Some(&key), Some(&body)).await;
    assert_eq!(status, 200, "{answer}");
    for tool in ["intended.self-test", "INTENDED.SELF-TEST", "intended/self:test", "lntended.seIf-test"] {
        let text = format!("\"{tool}\" = {{ category = \"OIL-502\", operation = \"transfer\" }}");
        let refusal = world.runtime.set_catalogue(&world.owner, &text).await.unwrap_err();
        assert_eq!(refusal.code, Code::CatalogueInvalid, "{tool}");
    }
    let probing = "\"acme.probe\" = { category = \"OIL-303\", operation = \"probe\" }";
    assert_eq!(world.runtime.set_catalogue(&world.owner, probing).await.unwrap_err().code, Code::CatalogueInvalid);
    // What was registered past that, before the names were kept, is denied; and a pattern that would
    // cover the tool says nothing of it.
    let legacy = intended_model::entry::AgentSet {
        agent: "lntended.self-test".into(),
        by: world.owner.credential.clone(),
        categories: Vec::new(),
        environments: vec![environment("production").unwrap()],
        kind: "agent".into(),
        owner: "x".into(),
        purpose: Box::default(),
        state: intended_model::entry::AgentState::Active,
        teams: vec![name("support")],
        tools: Vec::new(),
        trust: 100,
        workflow: Vec::new(),
        v: 1,
    };
    world.control(Event::AgentSet(legacy)).await.unwrap();
    let pattern = "\"intended.*\" = { category = \"OIL-502\", operation = \"transfer\" }";
    world.runtime.set_catalogue(&world.owner, pattern).await.unwrap();
    let submit = async |text: &str| {
        let submission = Submission { intent: intent(text).unwrap(), idempotency_key: None, audience: None };
        said(&world.runtime.submit(&world.owner, submission).await.unwrap())
    };
    let by = |agent: &str, tool: &str| {
        format!(
            r#"{{"subject":{{"type":"agent","id":"{agent}"}},"action":{{"name":"{tool}","properties":{{"amount":1}}}},"resource":{{"type":"charge","id":"1"}},"environment":"production"}}"#
        )
    };
    assert_eq!(submit(&by("lntended.self-test", "stripe.create_refund")).await, (Outcome::Deny, Code::NameReserved));
    assert_eq!(submit(&by("support-agent", "intended.Self-test")).await, (Outcome::Deny, Code::NameReserved));
    let own = Submission { intent: the_intent(), idempotency_key: None, audience: None };
    let own = world.runtime.submit(&world.owner, own).await.unwrap();
    assert_eq!(own.record.input.classification, synthetic::classification());
    assert_eq!(own.record.decision.decision, Outcome::Allow);
    // One that stands in the ledger from before can be retired.
    let retire = json!({"environments": ["production"], "trust": 100, "state": "retired"});
    let path = "/v1/tenants/acme/agents/lntended.self-test";
    let (status, answer) = call(&app, "PUT", path, Some(&key), Some(&retire)).await;
    assert_eq!(status, 200, "{answer}");
    verify(world.export().await.unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_it_is_limited_like_everything_else() {
    let (world, app, key) = app().await;
    world.runtime.limit_requests(3);
    let body = json!({"environment": "production"});
    let path = "/v1/tenants/acme/tokens/test";
    let size = || async { world.runtime.store().head(&world.owner.tenant.id).await.unwrap().size };
    let before = size().await;
    for _ in 0..3 {
        assert_eq!(call(&app, "POST", path, Some(&key), Some(&body)).await.0, 200);
    }
    for _ in 0..20 {
        let (status, answer) = call(&app, "POST", path, Some(&key), Some(&body)).await;
        assert_eq!((status, answer["code"].as_str()), (429, Some("rate_limited")));
    }
    assert_eq!(size().await - before, 3);
    world.clock.advance_millis(1_000);
    assert_eq!(call(&app, "POST", path, Some(&key), Some(&body)).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn its_route_takes_an_environment_and_nothing_else() {
    let (world, app, key) = app().await;
    let path = "/v1/tenants/acme/tokens/test";
    let send =
        async |body: &str| raw(&app, "POST", path, Some(&key), Some(body.to_owned().into()), "application/json").await;
    let (status, answer) = send(r#"{"environment":"production"}"#).await;
    assert_eq!(
        (status, answer["class"].as_str(), answer["decision"].as_str()),
        (200, Some("synthetic"), Some("allow"))
    );
    let verify = |class: Option<&str>| {
        let mut body =
            json!({"token": answer["token"], "environment": "production", "intent_hash": answer["intent_hash"]});
        if let Some(class) = class {
            body["class"] = class.into();
        }
        body
    };
    let at = "/v1/tenants/acme/tokens/verify";
    for (class, active, refusal) in [
        (None, false, Some("token.class")),
        (Some("traffic"), false, Some("token.class")),
        (Some("synthetic"), true, None),
    ] {
        let (status, verdict) = call(&app, "POST", at, Some(&key), Some(&verify(class))).await;
        assert_eq!((status, verdict["active"].as_bool(), verdict["refusal"].as_str()), (200, Some(active), refusal));
    }
    assert_eq!(call(&app, "POST", at, Some(&key), Some(&verify(Some("other")))).await.0, 400);
    for (body, status) in [
        (r#"{"environment":"production","arguments":{"amount":1}}"#, 400),
        (r#"{"environment":"production","action":{"name":"stripe.create_refund"}}"#, 400),
        (r#"{"environment":"nowhere"}"#, 403),
        (r#"{}"#, 400),
    ] {
        let (was, answer) = send(body).await;
        assert_eq!(was, status, "{body}: {answer}");
    }
    // Found, and told apart.
    raw(&app, "POST", crate::http_edge::INTENTS, Some(&key), Some(crate::http_edge::GOOD.into()), "application/json")
        .await;
    for (class, found) in [("synthetic", 1), ("traffic", 1)] {
        for (list, member) in [("intents", "intents"), ("audit", "entries")] {
            let path = format!("/v1/tenants/acme/{list}?class={class}");
            let (status, rows) = call(&app, "GET", &path, Some(&key), None).await;
            assert_eq!((status, rows[member].as_array().map(Vec::len)), (200, Some(found)), "{path}: {rows}");
            if list == "intents" {
                assert_eq!(rows[member][0]["class"], class);
            }
        }
    }
    assert_eq!(call(&app, "GET", "/v1/tenants/acme/intents?class=real", Some(&key), None).await.0, 400);
    verify_export(&world).await;
}

async fn verify_export(world: &intended_testkit::World) {
    verify(world.export().await.unwrap()).unwrap();
}

/// By somebody who holds the ledger's key.
#[tokio::test(flavor = "multi_thread")]
async fn the_verifier_names_a_self_test_that_is_none() {
    let office = Office::new().await;
    let by = prober(&office).await;
    let agent = office.key("agent", None, &[Scope::IntentSubmit, Scope::TokenVerify]).await;
    let decided = run(&office, &by).await;
    check(&office.world.runtime, &by, &decided, true).await.unwrap();
    office.submit_as(&agent, refund(40, None).unwrap()).await;
    let honest = Forge::of(&office.world.export().await.unwrap().1);
    verify(Forge(honest.0.clone()).rebuild()).unwrap();
    type Change = fn(&mut serde_json::Value);
    let cases: [(&str, usize, Change, Check, &str); 9] = [
        (
            "decision",
            0,
            |b| drop(b["input"].as_object_mut().unwrap().remove("class")),
            Check::Decision,
            "another class",
        ),
        ("decision", 1, |b| b["input"]["class"] = json!("synthetic"), Check::Decision, "another class"),
        ("decision", 0, |b| b["input"]["procedure"] = json!(2), Check::Decision, "another class"),
        ("decision", 0, |b| b["input"]["credential"] = json!("agent"), Check::Decision, "could not submit it"),
        ("decision", 0, |b| b["grant"]["aud"] = json!("payments"), Check::Durable, "for somebody who acts"),
        ("decision", 0, |b| b["input"]["classification"]["blast"] = json!(1), Check::Decision, "classification"),
        ("token.consumed", 0, |b| b["by"] = json!("agent"), Check::Authority, "token:test"),
        (
            "token.consumed",
            0,
            |b| {
                b["by"] = json!("agent");
                b.as_object_mut().unwrap().remove("class");
            },
            Check::Consumption,
            "another class",
        ),
        (
            "decision",
            0,
            |b| {
                let mut intent = b["input"]["intent"].clone();
                intent["action"]["properties"] = json!({"amount": 1});
                let text = intended_model::json::canonical(&intent).unwrap();
                b["input"]["intent_hash"] = json!(intended_model::Digest::of(text.as_bytes()).to_string());
                b["input"]["intent"] = intent;
            },
            Check::Decision,
            "says more",
        ),
    ];
    for (kind, nth, change, check, says) in cases {
        let mut forge = Forge(honest.0.clone());
        let at = forge.position(kind, nth);
        forge.edit(at, change);
        let failure = verify(forge.rebuild()).unwrap_err();
        assert_eq!((failure.check, failure.index), (check, Some(at as u64)), "{says}: {failure}");
        assert!(failure.what.contains(says), "{says}: {failure}");
    }
    // An outcome of it is one of nothing.
    let mut forge = Forge(honest.0.clone());
    let outcome = json!({
        "by": "owner", "environment": "production", "intent": decided.record.input.id.to_string(),
        "outcome": "failed", "v": 1,
    });
    let at = forge.0.len();
    let time = forge.0.last().unwrap().0;
    forge.0.push((time, "intent.outcome".to_owned(), intended_model::json::canonical(&outcome).unwrap()));
    let failure = verify(forge.rebuild()).unwrap_err();
    assert_eq!((failure.check, failure.index), (Check::Outcome, Some(at as u64)), "{failure}");
}

/// Environments that are made later have it too: it is registered nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn an_environment_that_was_just_made_can_be_tested_as_soon_as_it_has_a_policy() {
    let office = Office::new().await;
    let owner = &office.world.owner;
    let place = environment("fresh").unwrap();
    let settings = |_: &Settings| Ok(Settings::default());
    office.world.runtime.set_environment(owner, place.clone(), Tier::Production, settings).await.unwrap();
    let intent = || synthetic::intent(place.clone());
    let owner = &office.world.runtime.authenticate(&office.world.owner_key).unwrap();
    assert_eq!(said(&ask(&office, owner, intent()).await.unwrap()), (Outcome::Deny, Code::PolicyNone));
    office.world.runtime.deploy_pack(owner, &place, intended_testkit::demo_pack()).await.unwrap();
    assert_eq!(said(&ask(&office, owner, intent()).await.unwrap()), (Outcome::Allow, Code::PolicyPermit));
    office.verifies().await;
}
