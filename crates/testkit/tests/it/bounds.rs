//! What a bound on a key, or on a session, is worth at its edges.

use intended_model::entry::{Role, RoleGrant, Scope};
use intended_model::{Code, CredentialId, MemberId};
use intended_runtime::access::{CredentialSpec, MemberSpec};
use intended_runtime::sign_in::SessionRules;
use intended_runtime::{Principal, RuntimeError};
use intended_testkit::{World, environment};

use crate::sign_in::{PASSWORD, whole, with_password};

async fn bound(world: &World, name: &str, change: impl FnOnce(&mut CredentialSpec)) -> Principal {
    let mut spec = CredentialSpec {
        actions: Vec::new(),
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
