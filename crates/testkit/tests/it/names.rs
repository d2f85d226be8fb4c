//! What a deployed version names and the tenant no longer has: it helps nothing through, and stops
//! nothing that it cannot have meant.

use std::collections::BTreeMap;

use intended_model::entry::{AgentSet, AgentState};
use intended_model::{Code, Name, Outcome};
use intended_runtime::Submission;
use intended_testkit::{World, demo_pack, environment, intent};

const ORDERS: &str = "orders.get_order";
const REFUND: &str = "stripe.create_refund";
/// A category that no shipped tool is in.
const OWN: &str = "OIL-1201";

async fn agent(world: &World, id: &str, teams: &[&str]) {
    let set = AgentSet {
        agent: id.into(),
        by: world.owner.credential.clone(),
        environments: vec![environment("production").unwrap(), environment("staging").unwrap()],
        kind: "agent".into(),
        owner: "platform".into(),
        state: AgentState::Active,
        teams: teams.iter().map(|t| Name::new(t).unwrap()).collect(),
        trust: 70,
        categories: Vec::new(),
        purpose: Box::default(),
        tools: Vec::new(),
        workflow: Vec::new(),
        v: 1,
    };
    world.runtime.set_agent(&world.owner, set).await.unwrap();
}

async fn deploy(world: &World, own: &str) {
    let mut files: BTreeMap<String, String> = demo_pack();
    files.insert("own.cedar".into(), own.into());
    let production = environment("production").unwrap();
    world.runtime.deploy_pack(&world.owner, &production, files).await.unwrap();
}

async fn decide(world: &World, agent: &str, tool: &str) -> (Outcome, Code) {
    let (arguments, target) = match tool {
        REFUND => (r#","properties":{"amount":4}"#, "charge"),
        _ => ("", "order"),
    };
    let text = format!(
        r#"{{"subject":{{"type":"agent","id":"{agent}"}},"action":{{"name":"{tool}"{arguments}}},"resource":{{"type":"{target}","id":"7"}},"environment":"production"}}"#
    );
    let submission = Submission { intent: intent(&text).unwrap(), idempotency_key: None, audience: None };
    let decision = world.runtime.submit(&world.owner, submission).await.unwrap().record.decision;
    (decision.decision, decision.reason)
}

/// The ledger holds, everything in it made again.
async fn holds(world: &World) {
    let (header, leaves) = world.export().await.unwrap();
    let mut verifier = intended_verify::Verifier::new(header, None).unwrap();
    leaves.iter().for_each(|leaf| verifier.entry(leaf).unwrap());
    verifier.finish().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forbid_on_a_team_that_got_another_name_still_stands() {
    let world = World::new().await.unwrap();
    for forbid in [
        "@id(\"own\") forbid (principal in Team::\"contractors\", action == Action::\"stripe.create_refund\", resource);",
        "@id(\"own\") forbid (principal, action == Action::\"stripe.create_refund\", resource) \
         when { principal in Team::\"contractors\" };",
    ] {
        agent(&world, "support-agent", &["support", "contractors"]).await;
        deploy(&world, forbid).await;
        assert_eq!(decide(&world, "support-agent", REFUND).await, (Outcome::Deny, Code::PolicyForbid), "{forbid}");
        agent(&world, "support-agent", &["support", "externals"]).await;
        assert_eq!(decide(&world, "support-agent", REFUND).await, (Outcome::Deny, Code::PolicyStale), "{forbid}");
        assert_eq!(
            decide(&world, "support-agent", ORDERS).await,
            (Outcome::Allow, Code::PolicyPermit),
            "what it could not have meant is decided as before: {forbid}"
        );
        let rows = world.runtime.policies(&world.owner);
        let why = "policy `own` names the team `contractors`, which is not there";
        assert!(rows.iter().any(|r| r.why.iter().any(|w| w == why)), "{rows:?}");
        // Another agent of that team, and the forbid says again who is meant.
        agent(&world, "other-agent", &["contractors"]).await;
        assert_eq!(decide(&world, "support-agent", REFUND).await, (Outcome::Allow, Code::PolicyPermit), "{forbid}");
        agent(&world, "other-agent", &[]).await;
    }
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permit_unless_in_a_team_that_is_gone_permits_nobody_and_denies_nothing_that_another_permits() {
    let world = World::new().await.unwrap();
    agent(&world, "release-agent", &["release", "contractors"]).await;
    deploy(
        &world,
        "@id(\"own\") permit (principal, action == Action::\"orders.get_order\", resource) \
         unless { principal in Team::\"contractors\" };",
    )
    .await;
    assert_eq!(decide(&world, "release-agent", ORDERS).await, (Outcome::Deny, Code::PolicyNoPermit));
    agent(&world, "release-agent", &["release", "externals"]).await;
    assert_eq!(decide(&world, "release-agent", ORDERS).await, (Outcome::Deny, Code::PolicyStale));
    assert_eq!(decide(&world, "support-agent", ORDERS).await, (Outcome::Allow, Code::PolicyPermit));
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forbid_on_a_category_that_a_new_catalogue_drops_still_stands() {
    let world = World::new().await.unwrap();
    let own = format!("\"{REFUND}\" = {{ category = \"{OWN}\", operation = \"create\" }}\n");
    for forbid in [
        format!("@id(\"own\") forbid (principal, action in Action::\"{OWN}\", resource);"),
        format!(
            "@id(\"own\") forbid (principal, action in [Action::\"{OWN}\", Action::\"crm.delete_customer\"], resource);"
        ),
        format!("@id(\"own\") forbid (principal, action, resource) when {{ action in Action::\"{OWN}\" }};"),
    ] {
        world.runtime.set_catalogue(&world.owner, &own).await.unwrap();
        deploy(&world, &forbid).await;
        assert_eq!(decide(&world, "support-agent", REFUND).await, (Outcome::Deny, Code::PolicyForbid), "{forbid}");
        assert_eq!(decide(&world, "support-agent", ORDERS).await, (Outcome::Allow, Code::PolicyPermit), "{forbid}");
        world.runtime.set_catalogue(&world.owner, "").await.unwrap();
        assert_eq!(decide(&world, "support-agent", REFUND).await, (Outcome::Deny, Code::PolicyStale), "{forbid}");
        let rows = world.runtime.policies(&world.owner);
        let why = format!("policy `own` names the action `{OWN}`, which is not there");
        assert!(rows.iter().any(|r| r.why.contains(&why)), "{rows:?}");
    }
    // A catalogue that has it again is enough.
    world.runtime.set_catalogue(&world.owner, &own).await.unwrap();
    assert_eq!(decide(&world, "support-agent", ORDERS).await, (Outcome::Allow, Code::PolicyPermit));
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_validate_in_one_tenant_is_not_said_of_another() {
    let world = World::new().await.unwrap();
    let runtime = &world.runtime;
    let production = environment("production").unwrap();
    let pack: BTreeMap<String, String> = [
        ("pack.toml", "name = \"same\"\nversion = \"1.0.0\"\n"),
        (
            "same.cedar",
            "@id(\"same\") permit (principal in Team::\"support\", action == Action::\"orders.get_order\", resource);",
        ),
    ]
    .map(|(n, t)| (n.to_owned(), t.to_owned()))
    .into();
    // Two tenants with the same version after the same number of changes; one has lost the team.
    let mut said = Vec::new();
    for (tenant, teams_after) in [("whole", "support"), ("bereft", "other")] {
        let settings = intended_model::entry::Settings::default();
        let environments = [(production.clone(), intended_model::entry::Tier::Production, settings)];
        let tenant = intended_model::TenantId::new(tenant).unwrap();
        let owner =
            runtime.authenticate(&runtime.create_tenant(&tenant, &environments).await.unwrap().owner.key).unwrap();
        let set = |team: &str| AgentSet {
            agent: "agent".into(),
            by: owner.credential.clone(),
            environments: vec![production.clone()],
            kind: "agent".into(),
            owner: "platform".into(),
            state: AgentState::Active,
            teams: vec![Name::new(team).unwrap()],
            trust: 70,
            categories: Vec::new(),
            purpose: Box::default(),
            tools: Vec::new(),
            workflow: Vec::new(),
            v: 1,
        };
        runtime.set_agent(&owner, set("support")).await.unwrap();
        runtime.deploy_pack(&owner, &production, pack.clone()).await.unwrap();
        runtime.set_agent(&owner, set(teams_after)).await.unwrap();
        let rows = runtime.policies(&owner);
        let invalid = rows[0].why.iter().any(|w| w.starts_with("it does not validate any more"));
        said.push((owner.tenant.state().control, rows[0].digest, invalid));
    }
    assert_eq!((said[0].0, said[0].1), (said[1].0, said[1].1), "the same but for the tenant");
    assert_eq!((said[0].2, said[1].2), (false, true), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permit_that_asks_people_is_not_dropped_in_favour_of_one_that_asks_less() {
    let world = World::new().await.unwrap();
    agent(&world, "other-agent", &["contractors"]).await;
    deploy(
        &world,
        "@id(\"own.people\") @escalate(\"1 of support-leads\") \
         permit (principal, action == Action::\"orders.get_order\", resource) \
         unless { principal in Team::\"contractors\" };\n\
         @id(\"own.ticket\") @defer(\"ticket\") \
         permit (principal, action == Action::\"orders.get_order\", resource);",
    )
    .await;
    assert_eq!(decide(&world, "release-agent", ORDERS).await, (Outcome::Escalate, Code::PolicyEscalate));
    agent(&world, "other-agent", &[]).await;
    assert_eq!(decide(&world, "release-agent", ORDERS).await, (Outcome::Deny, Code::PolicyStale));
    holds(&world).await;
}
