//! Changes that meet: each is about the state that it is committed on, whoever was first, and whoever
//! is gone by then.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use intended_model::entry::{AgentSet, AgentState, BODY_VERSION, Scope, Tier};
use intended_model::{Code, CredentialId, EnvironmentId};
use intended_runtime::access::CredentialSpec;
use intended_runtime::tokens::Verification;
use intended_runtime::{Decided, Principal, Submission};
use intended_testkit::{World, environment, refund};
use intended_token::{Binding, Refusal};
use serde_json::json;

use crate::http_edge::call;
use crate::slow;

async fn verifies(world: &World) -> intended_verify::Report {
    let (header, leaves) = world.export().await.unwrap();
    let mut verifier = intended_verify::Verifier::new(header, None).unwrap();
    leaves.iter().for_each(|leaf| verifier.entry(leaf).unwrap());
    verifier.finish().unwrap()
}

pub async fn credential(world: &World, name: &str, environments: Vec<EnvironmentId>, scopes: &[Scope]) -> Principal {
    let spec = CredentialSpec {
        actions: Vec::new(),
        agents: Vec::new(),
        networks: Vec::new(),
        credential: CredentialId::new(name).unwrap(),
        whole: environments.is_empty(),
        environments,
        scopes: scopes.to_vec(),
        expires_at: None,
        live: true,
        member: None,
    };
    let new = world.runtime.create_credential(&world.owner, spec).await.unwrap();
    world.runtime.authenticate(&new.key).unwrap()
}

async fn allowed(world: &World) -> Decided {
    let submission = Submission { intent: refund(1, None).unwrap(), idempotency_key: None, audience: None };
    let decided = world.runtime.submit(&world.owner, submission).await.unwrap();
    assert!(decided.token.is_some());
    decided
}

async fn consume(world: &World, by: &Principal, decided: &Decided) -> Result<Result<(), Refusal>, Code> {
    let binding = Binding::IntentHash(decided.record.input.intent_hash);
    let (token, production) = (decided.token.as_ref().unwrap().as_str(), environment("production").unwrap());
    match world.runtime.verify_token(by, token, "intended", &production, &binding, true).await {
        Ok(Verification::Accepted(_)) => Ok(Ok(())),
        Ok(Verification::Refused(refusal)) => Ok(Err(refusal)),
        Err(error) => Err(error.code),
    }
}

fn agent(by: &Principal, environments: Vec<EnvironmentId>) -> AgentSet {
    AgentSet {
        agent: "newcomer".into(),
        by: by.credential.clone(),
        environments,
        kind: "agent".into(),
        owner: "platform".into(),
        state: AgentState::Active,
        teams: vec![],
        trust: 50,
        categories: Vec::new(),
        purpose: Box::default(),
        tools: Vec::new(),
        workflow: Vec::new(),
        v: BODY_VERSION,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_is_revoked_meanwhile_consumes_and_revokes_nothing() {
    let (world, store) = slow::world().await;
    let decided = allowed(&world).await;
    let scopes = [Scope::TokenVerify, Scope::TokenRevoke];
    let production = vec![environment("production").unwrap()];

    let gate = credential(&world, "gate", production.clone(), &scopes).await;
    store.before.close();
    let revoked = async {
        store.before.reached().await;
        world.runtime.revoke_credential(&world.owner, gate.credential.clone(), "leaked").await.unwrap();
        store.before.open();
    };
    let (consumed, ()) = tokio::join!(consume(&world, &gate, &decided), revoked);
    assert_eq!(consumed, Err(Code::CredentialRevoked));

    let desk = credential(&world, "desk", production, &scopes).await;
    let grant = decided.record.grant.clone().unwrap();
    let id = decided.record.input.id.to_string();
    store.before.close();
    let revoked = async {
        store.before.reached().await;
        world.runtime.revoke_credential(&world.owner, desk.credential.clone(), "leaked").await.unwrap();
        store.before.open();
    };
    let (by_desk, ()) = tokio::join!(world.runtime.revoke_token(&desk, &id, &grant.jti, "x"), revoked);
    assert_eq!(by_desk.unwrap_err().code, Code::CredentialRevoked);

    assert_eq!(consume(&world, &world.owner, &decided).await, Ok(Ok(())), "neither left anything behind");
    assert_eq!(verifies(&world).await.consumptions, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_revoked_although_the_state_changes_meanwhile() {
    let (world, store) = slow::world().await;
    let decided = allowed(&world).await;
    let (id, jti) = (decided.record.input.id.to_string(), decided.record.grant.clone().unwrap().jti);
    store.before.close();
    let meanwhile = async {
        store.before.reached().await;
        world.runtime.halt(&world.owner, Some(environment("staging").unwrap()), "else").await.unwrap();
        store.before.open();
    };
    let (revoked, ()) = tokio::join!(world.runtime.revoke_token(&world.owner, &id, &jti, "x"), meanwhile);
    revoked.unwrap();
    assert_eq!(consume(&world, &world.owner, &decided).await, Ok(Err(Refusal::Revoked)));
    verifies(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_made_twice_at_once_has_one_key_and_a_ledger_that_verifies() {
    let (world, store) = slow::world().await;
    let fresh = environment("fresh").unwrap();
    // It may make environments, and may not rotate keys.
    let maker = credential(&world, "maker", vec![], &[Scope::AccessWrite]).await;
    store.before.close();
    let meanwhile = async {
        store.before.reached().await;
        let set = world.runtime.set_environment(&world.owner, fresh.clone(), Tier::Staging, |now| Ok(now.clone()));
        set.await.unwrap();
        store.before.open();
    };
    let second = world.runtime.set_environment(&maker, fresh.clone(), Tier::Production, |now| Ok(now.clone()));
    let (second, ()) = tokio::join!(second, meanwhile);
    second.unwrap();
    let state = world.owner.tenant.state();
    let made = &state.environments[&fresh];
    assert_eq!((made.keys.len(), made.tier), (1, Tier::Production));
    verifies(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_environment_and_its_key_are_one_commit() {
    let (world, store) = slow::world().await;
    let fresh = environment("fresh").unwrap();
    let head = async || world.runtime.store().head(&world.owner.tenant.id).await.unwrap();
    let before = head().await.size;
    store.after.close();
    let (runtime, owner, of) = (Arc::clone(&world.runtime), world.owner.clone(), fresh.clone());
    let putting =
        tokio::spawn(async move { runtime.set_environment(&owner, of, Tier::Staging, |now| Ok(now.clone())).await });
    store.after.reached().await;
    putting.abort();
    assert!(putting.await.unwrap_err().is_cancelled());
    assert_eq!(head().await.size, before + 2, "after the first commit both entries are there");
    store.after.open();
    eventually(|| world.owner.tenant.signer(&fresh).is_ok()).await;
    verifies(&world).await;
}

/// Within some seconds.
async fn eventually(holds: impl Fn() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come to hold");
}

/// The client is gone between the commit and its answer. What is committed holds all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_caller_is_gone_after_the_commit_is_seen() {
    let (world, store) = slow::world().await;
    let reader = credential(&world, "reader", vec![], &[Scope::IntentRead]).await;
    let owner = &world.owner;

    store.after.close();
    let (runtime, by, whose) = (Arc::clone(&world.runtime), owner.clone(), reader.credential.clone());
    let revoking = tokio::spawn(async move { runtime.revoke_credential(&by, whose, "leaked").await });
    store.after.reached().await;
    revoking.abort();
    assert!(revoking.await.unwrap_err().is_cancelled());
    store.after.open();
    eventually(|| owner.tenant.state().credentials[&reader.credential].revoked).await;

    store.after.close();
    let (runtime, by) = (Arc::clone(&world.runtime), owner.clone());
    let halting = tokio::spawn(async move { runtime.halt(&by, None, "stop").await });
    store.after.reached().await;
    halting.abort();
    assert!(halting.await.unwrap_err().is_cancelled());
    store.after.open();
    eventually(|| owner.tenant.state().halts.len() == 1).await;
    verifies(&world).await;
}

/// What another node changed, and what this one could not read just then.
#[tokio::test(flavor = "multi_thread")]
async fn housekeeping_takes_in_what_others_changed() {
    let (world, _store) = slow::world().await;
    let options = intended_store_sqlite::Options { shared: true, ..Default::default() };
    let store = intended_store_sqlite::SqliteStore::open(world.dir.path(), &options).unwrap();
    let rng = Arc::new(intended_testkit::SeededRng::new(3));
    let (root, clock) = (intended_testkit::root_key().unwrap(), Arc::clone(&world.clock));
    let other = intended_runtime::Runtime::open(Arc::new(store), clock, rng, root, "http://intended.test");
    let other = other.await.unwrap();
    let owner = other.authenticate(&world.owner_key).unwrap();
    let spec = CredentialSpec {
        actions: Vec::new(),
        agents: Vec::new(),
        networks: Vec::new(),
        credential: CredentialId::new("made-elsewhere").unwrap(),
        environments: vec![],
        scopes: vec![Scope::IntentRead],
        expires_at: None,
        live: true,
        member: None,
        whole: true,
    };
    let new = other.create_credential(&owner, spec).await.unwrap();
    assert_eq!(world.runtime.authenticate(&new.key).unwrap_err().code, Code::CredentialUnknown);
    world.runtime.close_overdue().await.unwrap();
    assert!(world.runtime.authenticate(&new.key).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_two_change_at_once_are_both_kept() {
    let (world, store) = slow::world().await;
    let app = intended_api::router(intended_api::App::new(world.runtime.clone()));
    let path = "/v1/tenants/acme/environments/production";
    let put = async |settings: serde_json::Value| {
        let body = json!({"tier": "production", "settings": settings});
        let (status, body) = call(&app, "PUT", path, Some(&world.owner_key), Some(&body)).await;
        assert_eq!(status, 200, "{body}");
    };
    store.before.close();
    let stricter = async {
        store.before.reached().await;
        put(json!({"risk_deny_at": 40})).await;
        store.before.open();
    };
    tokio::join!(put(json!({"token_ttl_secs": 30})), stricter);
    put(json!({"hours": {"to_minute": 600}})).await;
    let state = world.owner.tenant.state();
    let settings = &state.environments[&environment("production").unwrap()].settings;
    assert_eq!((settings.token_ttl_secs, settings.risk_deny_at, settings.budgets.len()), (30, 40, 1));
    assert_eq!((settings.hours.to_minute, settings.hours.from_minute), (600, 480), "an object member by member");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_put_leaves_out_stays_as_it_is() {
    let (world, _store) = slow::world().await;
    let app = intended_api::router(intended_api::App::new(world.runtime.clone()));
    let put = async |path: &str, body: serde_json::Value| {
        let path = format!("/v1/tenants/acme/{path}");
        let (status, body) = call(&app, "PUT", &path, Some(&world.owner_key), Some(&body)).await;
        assert_eq!(status, 200, "{body}");
    };
    let state = || world.owner.tenant.state();
    put("agents/support-agent", json!({"environments": ["production"], "trust": 70, "state": "paused"})).await;
    put("agents/support-agent", json!({"environments": ["production"], "trust": 60})).await;
    let agent = Arc::clone(&state().agents["support-agent"]);
    assert_eq!((agent.state, agent.trust, &*agent.owner, agent.teams.len()), (AgentState::Paused, 60, "platform", 1));
    put("agents/fresh", json!({"environments": ["production"], "trust": 1})).await;
    assert_eq!((state().agents["fresh"].state, &*state().agents["fresh"].kind), (AgentState::Active, "agent"));

    let path = "capabilities-registry/vault";
    let body = json!({"resource_type": "vault", "pattern": "*", "criticality": "high", "data_class": "restricted"});
    let with = |member: &str, value: serde_json::Value| {
        let mut body = body.clone();
        body[member] = value;
        body
    };
    let vault = || state().capabilities.iter().find(|c| c.id.as_str() == "vault").unwrap().environment.clone();
    put(path, with("environment", json!("production"))).await;
    put(path, with("owner", json!("security"))).await;
    assert_eq!(vault(), Some(environment("production").unwrap()), "forgotten, it does not open the target to all");
    put(path, with("environment", json!(null))).await;
    assert_eq!(vault(), None, "said, it does");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_refused_that_its_maker_may_not_make_any_more() {
    let (world, store) = slow::world().await;
    let (staging, production) = (environment("staging").unwrap(), environment("production").unwrap());
    let keeper = credential(&world, "keeper", vec![staging.clone()], &[Scope::AccessWrite]).await;
    store.before.close();
    let meanwhile = async {
        store.before.reached().await;
        world.runtime.set_agent(&world.owner, agent(&world.owner, vec![production.clone()])).await.unwrap();
        store.before.open();
    };
    let (set, ()) = tokio::join!(world.runtime.set_agent(&keeper, agent(&keeper, vec![staging.clone()])), meanwhile);
    assert_eq!(set.unwrap_err().code, Code::EnvironmentForbidden, "the agent is in production by now");
    assert_eq!(world.owner.tenant.state().agents["newcomer"].environments, vec![production]);
}

/// The disk stands still while a token is consumed: it is used up, and nothing goes ahead.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumption_that_outlasts_its_token_or_the_deadline_is_not_active() {
    let (world, store) = slow::world().await;
    let decided = allowed(&world).await;
    store.takes.store(61_000, Ordering::SeqCst);
    assert_eq!(consume(&world, &world.owner, &decided).await, Ok(Err(Refusal::Expired)));
    let decided = allowed(&world).await;
    store.takes.store(11_000, Ordering::SeqCst);
    assert_eq!(consume(&world, &world.owner, &decided).await, Err(Code::DecisionLate));
    assert_eq!(consume(&world, &world.owner, &decided).await, Ok(Err(Refusal::Consumed)));
    assert_eq!(verifies(&world).await.consumptions, 2);
}
