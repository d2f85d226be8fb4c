//! What a bound on a key, or on a session, is worth at its edges.

use intended_model::entry::{Role, RoleGrant, Scope};
use intended_model::{Code, CredentialId, MemberId};
use intended_runtime::access::{CredentialSpec, MemberSpec};
use intended_runtime::sign_in::SessionRules;
use intended_runtime::{Principal, RuntimeError, Submission};
use intended_testkit::{World, environment, intent};
use serde_json::json;

use crate::sign_in::{PASSWORD, whole, with_password};
use crate::tampering::{Forge, verify};

async fn bound(world: &World, name: &str, change: impl FnOnce(&mut CredentialSpec)) -> Principal {
    let mut spec = CredentialSpec {
        actions: Vec::new(),
        agents: Vec::new(),
        networks: Vec::new(),
        credential: CredentialId::new(name).unwrap(),
        environments: Vec::new(),
        scopes: Scope::ALL.to_vec(),
        expires_at: None,
        live: true,
        member: None,
        whole: true,
    };
    change(&mut spec);
    let new = world.runtime.create_credential(&world.owner, spec).await.unwrap();
    world.runtime.authenticate_from(&new.key, Some("10.1.2.3".parse().unwrap())).unwrap()
}

fn code(result: Result<impl Sized, RuntimeError>) -> Code {
    result.err().expect("it is refused").code
}

async fn verifies(world: &World) {
    let (header, leaves) = world.export().await.unwrap();
    let mut verifier = intended_verify::Verifier::new(header, None).unwrap();
    leaves.iter().for_each(|leaf| verifier.entry(leaf).unwrap());
    verifier.finish().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_key_makes_no_person_who_is_not_bound() {
    let world = World::new().await.unwrap();
    let member = MemberId::new("mallory").unwrap();
    let role = |role, whole, environments: &[&str]| RoleGrant {
        environments: environments.iter().map(|e| environment(e).unwrap()).collect(),
        expires_at: None,
        role,
        whole,
    };
    for (name, by) in [
        ("test", bound(&world, "test", |s| s.live = false).await),
        ("actions", bound(&world, "actions", |s| s.actions = vec!["orders.*".into()]).await),
        ("networks", bound(&world, "networks", |s| s.networks = vec!["10.0.0.0/8".into()]).await),
    ] {
        for grants in [vec![role(Role::Owner, true, &[])], vec![role(Role::Viewer, false, &["staging"])]] {
            let spec = MemberSpec { active: true, grants, ..MemberSpec::default() };
            let refused = code(world.runtime.set_member(&by, member.clone(), spec).await);
            assert!([Code::AccessWider, Code::EnvironmentForbidden].contains(&refused), "{name}: {refused}");
        }
    }
    assert!(!world.owner.tenant.state().members.contains_key(&member));
    verifies(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_key_that_is_good_everywhere_touches_nothing_that_is_production_too() {
    let world = World::new().await.unwrap();
    let by = bound(&world, "test", |s| s.live = false).await;
    let (halt, _) = world.runtime.halt(&world.owner, None, "stop").await.unwrap();
    assert_eq!(code(world.runtime.resume(&by, halt.clone(), "go on").await), Code::EnvironmentForbidden);
    assert_eq!(code(world.runtime.halt(&by, None, "stop").await), Code::EnvironmentForbidden);
    assert_eq!(code(world.runtime.set_catalogue(&by, "").await), Code::EnvironmentForbidden);
    let owner = CredentialId::new("owner").unwrap();
    assert_eq!(code(world.runtime.revoke_credential(&by, owner, "mine now").await), Code::EnvironmentForbidden);
    world.runtime.halt(&by, Some(environment("staging").unwrap()), "stop").await.unwrap();
    world.runtime.resume(&world.owner, halt, "go on").await.unwrap();
    verifies(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_the_longest_time_is_one_for_the_verifier_too() {
    let world = World::new().await.unwrap();
    world.runtime.limit_sessions(SessionRules { absolute_ms: 24 * 3_600_000, idle_ms: 24 * 3_600_000 });
    with_password(&world, "ann", vec![whole(Role::Viewer)]).await;
    assert!(!PASSWORD.is_empty());
    verifies(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_for_one_agent_is_for_no_other_and_makes_none_that_is() {
    let world = World::new().await.unwrap();
    let by = bound(&world, "support", |s| s.agents = vec!["support-*".into()]).await;
    let submit = async |by: &Principal, agent: &str| {
        let intent = intent(&format!(
            r#"{{"subject":{{"type":"agent","id":"{agent}"}},"action":{{"name":"orders.get_order"}},"resource":{{"type":"order","id":"1"}},"environment":"production"}}"#
        ));
        let submission = Submission { intent: intent.unwrap(), idempotency_key: None, audience: None };
        world.runtime.submit(by, submission).await.unwrap()
    };
    assert!(submit(&by, "support-agent").await.token.is_some());
    // Nothing is said of whether there is such an agent.
    for other in ["release-agent", "nobody", "Support-agent"] {
        let denied = submit(&by, other).await;
        let decision = &denied.record.decision;
        assert_eq!((decision.reason, denied.token.is_none()), (Code::CredentialAgent, true), "{other}");
        let why = world.runtime.explain(&by, &denied.record, denied.index).await.unwrap();
        assert!(why.obstacles[0].what.contains("is for the agents"), "{why:?}");
    }
    let wider = |agents: &[&str]| {
        let agents = agents.iter().map(|a| (*a).into()).collect();
        CredentialSpec {
            agents,
            ..CredentialSpec::from(&*world.owner.tenant.state().credentials[&CredentialId::new("support").unwrap()])
        }
    };
    for (name, agents) in [("any", &[][..]), ("other", &["release-agent"]), ("more", &["support-agent", "*"])] {
        let spec = CredentialSpec { credential: CredentialId::new(name).unwrap(), ..wider(agents) };
        assert_eq!(code(world.runtime.create_credential(&by, spec).await), Code::AccessWider, "{name}");
    }
    let narrower = CredentialSpec { credential: CredentialId::new("one").unwrap(), ..wider(&["support-agent"]) };
    world.runtime.create_credential(&by, narrower).await.unwrap();
    assert_eq!(
        code(world.runtime.rotate_credential(&by, CredentialId::new("owner").unwrap(), 0).await),
        Code::AccessWider
    );
    verifies(&world).await;
    // And the verifier holds it: made wider, or made by who may not.
    let leaves = world.export().await.unwrap().1;
    let mut forge = Forge::of(&leaves);
    let at = (0..forge.0.len()).find(|at| forge.0[*at].2.contains("\"credential\":\"one\"")).unwrap();
    forge.edit(at, |b| b["agents"] = json!(["*"]));
    let failure = verify(forge.rebuild()).unwrap_err();
    assert_eq!(failure.index, Some(at as u64), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_have_been_allowed_instead_is_told_to_who_may_read_policy() {
    let world = World::new().await.unwrap();
    let by = bound(&world, "agents", |s| s.scopes = vec![Scope::IntentSubmit, Scope::IntentRead]).await;
    let refund = intended_testkit::refund(4_000_000, None).unwrap();
    let submission = Submission { intent: refund, idempotency_key: None, audience: None };
    let denied = world.runtime.submit(&by, submission).await.unwrap();
    assert!(denied.token.is_none());
    let why = world.runtime.explain(&by, &denied.record, denied.index).await.unwrap();
    assert!(!why.obstacles.is_empty() && why.would_allow.is_empty() && why.tried == 0, "{why:?}");
    let why = world.runtime.explain(&world.owner, &denied.record, denied.index).await.unwrap();
    assert!(why.tried > 0, "{why:?}");
}
