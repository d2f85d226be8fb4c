//! The life of a policy, from a draft to the way back, at the runtime: gates, people, races.

use std::collections::BTreeMap;

use intended_engine::DraftStatus;
use intended_model::entry::{
    AgentSet, CapabilitySet, DeployCause, PolicyDeployed, PolicyGate, PolicySubmitted, PolicyVerified, Role, RoleGrant,
    Scope, Settings, SimulationSummary, Tier,
};
use intended_model::{Code, CredentialId, Digest, Event, MemberId, Name, Outcome};
use intended_runtime::access::{CredentialSpec, MemberSpec};
use intended_runtime::policy::{DraftSpec, RolledBack};
use intended_runtime::{Principal, RuntimeError, Submission};
use intended_testkit::{World, demo_pack, environment, intent, refund};

type Files = BTreeMap<String, String>;

fn edited(from: &str, to: &str) -> Files {
    let mut files = demo_pack();
    let text = files.get_mut("support.cedar").unwrap();
    assert!(text.contains(from), "{from}");
    *text = text.replace(from, to);
    files
}

/// Refunds above 20 take a lead.
fn stricter() -> Files {
    edited("decimal(\"100.0\")", "decimal(\"20.0\")")
}

fn with_expectation(mut files: Files, decision: &str) -> Files {
    let manifest = files.get_mut("pack.toml").unwrap();
    manifest.push_str(&format!(
        "\n[[expect]]\nname = \"a refund of 40\"\nenvironment = \"production\"\ndecision = \"{decision}\"\n\
         [expect.intent]\nsubject = {{ type = \"agent\", id = \"support-agent\" }}\n\
         action = {{ name = \"stripe.create_refund\", properties = {{ amount = 40 }} }}\n\
         resource = {{ type = \"charge\", id = \"ch_1\" }}\n"
    ));
    files
}

async fn person(world: &World, id: &str, groups: &[&str]) -> Principal {
    credential(world, &world.owner, id, &format!("{id}-key"), groups).await
}

async fn credential(world: &World, by: &Principal, member: &str, name: &str, groups: &[&str]) -> Principal {
    let member = MemberId::new(member).unwrap();
    let groups = groups.iter().map(|g| Name::new(g).unwrap()).collect();
    let owner = RoleGrant { environments: Vec::new(), expires_at: None, role: Role::Owner, whole: true };
    let spec = MemberSpec { active: true, grants: vec![owner], groups, ..MemberSpec::default() };
    world.runtime.set_member(by, member.clone(), spec).await.unwrap();
    let spec = CredentialSpec {
        actions: Vec::new(),
        agents: Vec::new(),
        networks: Vec::new(),
        credential: CredentialId::new(name).unwrap(),
        environments: Vec::new(),
        scopes: Scope::ALL.to_vec(),
        expires_at: None,
        live: true,
        member: Some(member),
        whole: true,
    };
    let made = world.runtime.create_credential(by, spec).await.unwrap();
    world.runtime.authenticate(&made.key).unwrap()
}

/// Production takes so many approvals from `approvers`.
async fn rules(world: &World, change: impl Fn(&mut Settings)) {
    let settings = |now: &Settings| {
        let mut settings = now.clone();
        change(&mut settings);
        Ok(settings)
    };
    let production = environment("production").unwrap();
    world.runtime.set_environment(&world.owner, production, Tier::Production, settings).await.unwrap();
}

async fn approvals(world: &World, needed: u32) {
    rules(world, |s| {
        s.policy.approvals = needed;
        s.policy.approvers = Some(Name::new("policy-owners").unwrap());
    })
    .await;
}

fn spec(files: Files) -> DraftSpec {
    DraftSpec { environment: environment("production").unwrap(), files, title: "change".into(), source: None }
}

fn tag(world: &World, id: &Name) -> u64 {
    world.owner.tenant.state().drafts[id].changed_at
}

fn status(world: &World, id: &Name) -> DraftStatus {
    let state = world.owner.tenant.state();
    state.draft_status(&state.drafts[id])
}

async fn submitted(world: &World, by: &Principal, files: Files) -> Name {
    let id = world.runtime.create_draft(by, spec(files)).await.unwrap().answer;
    world.runtime.submit_draft(by, id.clone(), tag(world, &id)).await.unwrap();
    id
}

async fn approve(world: &World, by: &Principal, id: &Name) -> Result<(), RuntimeError> {
    world.runtime.approve_draft(by, id.clone(), tag(world, id), "looked at it").await.map(drop)
}

fn deployed(world: &World) -> Digest {
    let state = world.owner.tenant.state();
    state.environments[&environment("production").unwrap()].deployed.as_ref().unwrap().digest
}

async fn decide(world: &World, amount: i64) -> Outcome {
    let submission = Submission { intent: refund(amount, None).unwrap(), idempotency_key: None, audience: None };
    world.runtime.submit(&world.owner, submission).await.unwrap().record.decision.decision
}

/// The ledger holds, everything in it made again.
async fn holds(world: &World) {
    let (header, leaves) = world.export().await.unwrap();
    let mut verifier = intended_verify::Verifier::new(header, None).unwrap();
    leaves.iter().for_each(|leaf| verifier.entry(leaf).unwrap());
    verifier.finish().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_is_submitted_approved_by_two_and_decides_from_its_deployments_position_on() {
    let world = World::new().await.unwrap();
    approvals(&world, 2).await;
    let (ana, ben, cleo) = (
        person(&world, "ana", &[]).await,
        person(&world, "ben", &["policy-owners"]).await,
        person(&world, "cleo", &["policy-owners"]).await,
    );
    assert_eq!(decide(&world, 40).await, Outcome::Allow);
    let id = submitted(&world, &ana, stricter()).await;
    assert_eq!(status(&world, &id), DraftStatus::Submitted);
    let early = world.runtime.deploy_draft(&ana, id.clone()).await.unwrap_err();
    assert_eq!((early.code, &*early.detail), (Code::DraftApproval, "0 of 2 approvals are given"));
    approve(&world, &ben, &id).await.unwrap();
    assert_eq!(approve(&world, &ben, &id).await.unwrap_err().code, Code::DraftApproval, "once");
    approve(&world, &cleo, &id).await.unwrap();
    assert_eq!(status(&world, &id), DraftStatus::Approved);
    assert_eq!(decide(&world, 40).await, Outcome::Allow, "approved is not deployed");
    world.runtime.deploy_draft(&ana, id.clone()).await.unwrap();
    assert_eq!(status(&world, &id), DraftStatus::Deployed);
    assert_eq!(decide(&world, 40).await, Outcome::Escalate);
    assert_eq!(
        world.runtime.deploy_draft(&ana, id).await.unwrap_err().code,
        Code::DraftState,
        "a draft is deployed once"
    );
    holds(&world).await;
    let world = world.reopen().await.unwrap();
    assert_eq!(decide(&world, 40).await, Outcome::Escalate);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_approves_their_own_in_any_form() {
    let world = World::new().await.unwrap();
    approvals(&world, 1).await;
    let ana = person(&world, "ana", &["policy-owners"]).await;
    let id = submitted(&world, &ana, stricter()).await;
    let refused = async |by: &Principal| {
        let error = approve(&world, by, &id).await.unwrap_err();
        assert_eq!(error.code, Code::DraftApproval, "{error}");
    };
    refused(&ana).await;
    let second_key = credential(&world, &world.owner, "ana", "ana-second-key", &["policy-owners"]).await;
    refused(&second_key).await;
    let second_person = credential(&world, &ana, "anna", "anna-key", &["policy-owners"]).await;
    refused(&second_person).await;
    refused(&world.owner).await; // a service credential is nobody
    let stranger = person(&world, "dan", &["other"]).await;
    refused(&stranger).await;
    // Whoever edits becomes an author, too.
    let ben = person(&world, "ben", &["policy-owners"]).await;
    world.runtime.edit_draft(&ben, id.clone(), tag(&world, &id), spec(edited("100.0", "30.0"))).await.unwrap();
    world.runtime.submit_draft(&ana, id.clone(), tag(&world, &id)).await.unwrap();
    refused(&ben).await;
    let cleo = person(&world, "cleo", &["policy-owners"]).await;
    approve(&world, &cleo, &id).await.unwrap();
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_voids_approvals_and_who_is_removed_counts_no_more() {
    let world = World::new().await.unwrap();
    approvals(&world, 1).await;
    let (ana, ben) = (person(&world, "ana", &[]).await, person(&world, "ben", &["policy-owners"]).await);
    let id = submitted(&world, &ana, stricter()).await;
    let seen = tag(&world, &id);
    world.runtime.edit_draft(&ana, id.clone(), seen, spec(edited("100.0", "30.0"))).await.unwrap();
    let stale = world.runtime.approve_draft(&ben, id.clone(), seen, "what I saw").await.unwrap_err();
    assert_eq!(stale.code, Code::DraftStale, "approve A, deploy B");
    world.runtime.submit_draft(&ana, id.clone(), tag(&world, &id)).await.unwrap();
    approve(&world, &ben, &id).await.unwrap();
    assert_eq!(status(&world, &id), DraftStatus::Approved);
    world.runtime.edit_draft(&ana, id.clone(), tag(&world, &id), spec(edited("100.0", "31.0"))).await.unwrap();
    assert_eq!(status(&world, &id), DraftStatus::Draft);
    assert_eq!(world.runtime.deploy_draft(&ana, id.clone()).await.unwrap_err().code, Code::DraftState);
    world.runtime.submit_draft(&ana, id.clone(), tag(&world, &id)).await.unwrap();
    approve(&world, &ben, &id).await.unwrap();
    world.runtime.set_member(&world.owner, MemberId::new("ben").unwrap(), MemberSpec::default()).await.unwrap();
    assert_eq!(status(&world, &id), DraftStatus::Submitted, "quorum does not count the removed");
    assert_eq!(world.runtime.deploy_draft(&ana, id).await.unwrap_err().code, Code::DraftApproval);
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_deployments_one_wins_and_the_other_is_told() {
    let world = World::new().await.unwrap();
    approvals(&world, 1).await;
    let (ana, ben) = (person(&world, "ana", &[]).await, person(&world, "ben", &["policy-owners"]).await);
    let (one, two) =
        (submitted(&world, &ana, stricter()).await, submitted(&world, &ana, edited("100.0", "30.0")).await);
    approve(&world, &ben, &one).await.unwrap();
    approve(&world, &ben, &two).await.unwrap();
    let (first, second) = tokio::join!(world.runtime.deploy_draft(&ana, one), world.runtime.deploy_draft(&ana, two));
    let (won, lost) = match (first, second) {
        (Ok(won), Err(lost)) | (Err(lost), Ok(won)) => (won, lost),
        other => panic!("{other:?}"),
    };
    assert_eq!(lost.code, Code::DeploymentSuperseded);
    assert_eq!(won.digest, deployed(&world));
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_gate_stops_what_it_is_there_for() {
    let world = World::new().await.unwrap();
    approvals(&world, 1).await;
    let ana = person(&world, "ana", &[]).await;
    let submit = async |files: Files| {
        let id = world.runtime.create_draft(&ana, spec(files)).await.unwrap().answer;
        let error = world.runtime.submit_draft(&ana, id.clone(), tag(&world, &id)).await.unwrap_err();
        assert_eq!((error.code, status(&world, &id)), (Code::GateFailed, DraftStatus::Draft));
        error.errors[0].pointer.clone()
    };
    // Validation: what does not validate is no draft at all.
    let broken = edited("context.number.hasTag(\"amount\") &&", "context.nmber.hasTag(\"amount\") &&");
    let before = world.owner.tenant.state().control;
    assert_eq!(world.runtime.create_draft(&ana, spec(broken)).await.unwrap_err().code, Code::PackInvalid);
    assert_eq!(world.owner.tenant.state().control, before, "nothing is stored");
    // Tests.
    let mut failing = stricter();
    failing.insert(
        "tests/a.yaml".into(),
        "fixtures:\n  agents: { support-agent: { teams: [support] } }\n  capabilities: { charges: { type: charge } }\n\
         \x20 intents: { refund: { action: stripe.create_refund, resource: charge/1, arguments: { amount: 40 } } }\n\
         tests:\n  - name: refunds\n    environments: [production]\n    expect: [{ decision: allow }]\n"
            .into(),
    );
    assert_eq!(submit(failing).await, "/gates/tests");
    let mut uncovered = stricter();
    uncovered.get_mut("pack.toml").unwrap().push_str("\n[thresholds]\ncoverage_percent = 50\n");
    assert_eq!(submit(uncovered).await, "/gates/tests");
    // Simulation: the environment's limit, and the pack's own.
    for _ in 0..10 {
        decide(&world, 40).await;
    }
    rules(&world, |s| s.policy.max_blast_permille = 100).await;
    assert_eq!(submit(stricter()).await, "/gates/simulation");
    rules(&world, |s| {
        s.policy.max_blast_permille = 1000;
        s.policy.max_new_escalations_per_hour = Some(0);
    })
    .await;
    assert_eq!(submit(stricter()).await, "/gates/simulation");
    rules(&world, |s| s.policy.max_new_escalations_per_hour = None).await;
    let id = submitted(&world, &ana, stricter()).await;
    let state = world.owner.tenant.state();
    let submission = state.drafts[&id].submission.as_ref().unwrap();
    assert_eq!(
        submission.gates.iter().map(|g| g.gate).collect::<Vec<_>>(),
        [PolicyGate::Validation, PolicyGate::Tests, PolicyGate::Simulation]
    );
    let s = &submission.simulation;
    assert_eq!(
        (s.decisions, s.replayed, s.changed, s.blast_permille, s.new_escalations_per_hour),
        (10, 10, 10, 1000, 10),
        "the busiest hour, not the day's mean"
    );
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_does_other_than_expected_is_taken_back_by_itself() {
    let world = World::new().await.unwrap();
    let production = environment("production").unwrap();
    let before = deployed(&world);
    let error =
        world.runtime.deploy_pack(&world.owner, &production, with_expectation(stricter(), "allow")).await.unwrap_err();
    assert_eq!(error.code, Code::VerificationFailed);
    assert!(error.detail.contains("`a refund of 40`: expected allow, got escalate"), "{}", error.detail);
    assert_eq!(deployed(&world), before);
    assert_eq!(decide(&world, 40).await, Outcome::Allow);
    let (_, leaves) = world.export().await.unwrap();
    let kinds: Vec<String> = leaves.iter().map(|l| intended_ledger::Leaf::parse(l).unwrap().kind.to_owned()).collect();
    let tail: Vec<&str> = kinds.iter().rev().skip(1).take(3).map(String::as_str).collect();
    assert_eq!(tail, ["policy.deployed", "policy.verified", "policy.deployed"], "all of it is in the ledger");
    // The other outcome is as expected, and recorded.
    let done =
        world.runtime.deploy_pack(&world.owner, &production, with_expectation(stricter(), "escalate")).await.unwrap();
    assert_eq!((done.verification.len(), done.verification[0].decision), (1, Outcome::Escalate));
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expectations_are_verified_under_a_halt_as_without_one() {
    let world = World::new().await.unwrap();
    let production = environment("production").unwrap();
    world.runtime.halt(&world.owner, None, "drill").await.unwrap();
    world.runtime.deploy_pack(&world.owner, &production, with_expectation(stricter(), "escalate")).await.unwrap();
    assert_eq!(decide(&world, 40).await, Outcome::Deny);
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_in_production_takes_two_people_unless_an_incident_is_open() {
    let world = World::new().await.unwrap();
    let production = environment("production").unwrap();
    let (ana, ben) = (person(&world, "ana", &[]).await, person(&world, "ben", &[]).await);
    let good = deployed(&world);
    let bad = world.runtime.deploy_pack(&world.owner, &production, stricter()).await.unwrap().digest;
    let back = async |by: &Principal| world.runtime.rollback(by, &production, None, None, "too strict").await;
    let RolledBack::Waiting { to, .. } = back(&ana).await.unwrap() else { panic!("one person did it") };
    assert_eq!((to, deployed(&world)), (good, bad));
    assert_eq!(back(&ana).await.unwrap_err().code, Code::RollbackPeople, "the same person twice is one");
    let second = credential(&world, &ana, "anna", "anna-key", &[]).await;
    assert_eq!(back(&second).await.unwrap_err().code, Code::RollbackPeople, "and so is who they made");
    let RolledBack::Done(done) = back(&ben).await.unwrap() else { panic!("two people did not") };
    assert_eq!((done.digest, deployed(&world)), (good, good));
    assert_eq!(decide(&world, 40).await, Outcome::Allow);
    // Asked for too long ago is not asked for.
    world.runtime.deploy_pack(&world.owner, &production, stricter()).await.unwrap();
    back(&ana).await.unwrap();
    world.clock.advance_millis(3_600_001);
    assert!(matches!(back(&ben).await.unwrap(), RolledBack::Waiting { .. }));
    // In an incident one person is enough.
    let incident = world.runtime.open_incident(&ben, Some(production.clone()), "refunds stuck").await.unwrap().answer;
    assert!(matches!(back(&ana).await.unwrap(), RolledBack::Done(_)));
    world.runtime.close_incident(&ben, incident.clone(), "over").await.unwrap();
    assert_eq!(world.runtime.close_incident(&ben, incident, "again").await.unwrap_err().code, Code::NotFound);
    // To a named version, which was deployed here before.
    assert!(matches!(
        world.runtime.rollback(&ana, &production, None, Some(bad), "as it was").await.unwrap(),
        RolledBack::Waiting { .. }
    ));
    let never = Digest::of(b"never");
    assert_eq!(
        world.runtime.rollback(&ana, &production, None, Some(never), "x").await.unwrap_err().code,
        Code::NotFound
    );
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_names_what_is_gone_is_stale_and_helps_nothing_through() {
    let world = World::new().await.unwrap();
    let production = environment("production").unwrap();
    let mut files = demo_pack();
    files.insert(
        "vault.cedar".into(),
        "@id(\"vault.never\") forbid (principal, action == Action::\"stripe.create_refund\", resource in Capability::\"vault\");\n\
         @id(\"look.orders\") permit (principal in Team::\"release\", action == Action::\"orders.get_order\", resource in Capability::\"orders\");\n"
            .into(),
    );
    let capability = |id: &str, pattern: &str, active: bool| CapabilitySet {
        active,
        by: world.owner.credential.clone(),
        capability: Name::new(id).unwrap(),
        criticality: intended_model::entry::Criticality::High,
        data_class: intended_model::decision::DataClass::Restricted,
        environment: None,
        owner: "platform".into(),
        pattern: pattern.into(),
        resource_type: "charge".into(),
        v: 1,
    };
    world.runtime.set_capability(&world.owner, capability("vault", "vault-*", true)).await.unwrap();
    world.runtime.deploy_pack(&world.owner, &production, files).await.unwrap();
    let vault = r#"{"subject":{"type":"agent","id":"support-agent"},"action":{"name":"stripe.create_refund","properties":{"amount":4}},"resource":{"type":"charge","id":"vault-1"},"environment":"production"}"#;
    let on = async |text: &str| {
        let submission = Submission { intent: intent(text).unwrap(), idempotency_key: None, audience: None };
        world.runtime.submit(&world.owner, submission).await.unwrap().record.decision
    };
    assert_eq!(on(vault).await.reason, Code::PolicyForbid);
    assert_eq!(decide(&world, 40).await, Outcome::Allow);
    let rows = world.runtime.policies(&world.owner);
    let active = |rows: &[intended_runtime::standing::PolicyRow]| {
        rows.iter().find(|r| r.environment == production && r.status.contains(&"active")).unwrap().clone()
    };
    assert_eq!(active(&rows).status, ["active"]);
    // Without the capability, `vault-1` is a charge like any other; what stood against it must not be lost.
    world.runtime.set_capability(&world.owner, capability("vault", "vault-*", false)).await.unwrap();
    let decision = on(vault).await;
    assert_eq!((decision.decision, decision.reason), (Outcome::Deny, Code::PolicyStale));
    assert_eq!(decide(&world, 40).await, Outcome::Deny, "which charges the forbid meant is not known any more");
    let orders = r#"{"subject":{"type":"agent","id":"support-agent"},"action":{"name":"orders.get_order"},"resource":{"type":"order","id":"7"},"environment":"production"}"#;
    assert_eq!(on(orders).await.decision, Outcome::Allow, "what does not rely on it is decided as before");
    let row = active(&world.runtime.policies(&world.owner));
    assert!(row.status.contains(&"stale") && row.status.contains(&"orphaned"), "{row:?}");
    assert!(row.why.iter().any(|w| w.contains("`vault.never` names the capability `vault`")), "{:?}", row.why);
    // An agent that is gone makes it stale, too.
    let gone = AgentSet {
        agent: "release-agent".into(),
        by: world.owner.credential.clone(),
        environments: vec![production.clone()],
        kind: "agent".into(),
        owner: "platform".into(),
        state: intended_model::entry::AgentState::Retired,
        teams: vec![Name::new("release").unwrap()],
        trust: 70,
        categories: Vec::new(),
        purpose: Box::default(),
        tools: Vec::new(),
        workflow: Vec::new(),
        v: 1,
    };
    world.runtime.set_agent(&world.owner, gone).await.unwrap();
    let row = active(&world.runtime.policies(&world.owner));
    assert!(row.why.iter().any(|w| w.contains("the team `release`")), "{:?}", row.why);
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_stands_somewhere_and_says_why() {
    let world = World::new().await.unwrap();
    approvals(&world, 1).await;
    let production = environment("production").unwrap();
    let (ana, ben) = (person(&world, "ana", &[]).await, person(&world, "ben", &["policy-owners"]).await);
    let find = |status: &str| -> Vec<(Digest, Vec<String>)> {
        let rows = world.runtime.policies(&world.owner);
        let of = rows.into_iter().filter(|r| r.environment == production && r.status.contains(&status));
        of.map(|r| (r.digest, r.why)).collect()
    };
    // Deployed before drafts were asked for.
    assert!(find("orphaned")[0].1[0].contains("without a draft"), "{:?}", find("orphaned"));
    let first = deployed(&world);
    let one = submitted(&world, &ana, stricter()).await;
    assert_eq!(find("submitted")[0].1, ["0 of 1 approvals"]);
    approve(&world, &ben, &one).await.unwrap();
    assert_eq!(find("approved").len(), 1);
    assert!(find("stale")[0].1.iter().any(|w| w.contains("behind the approved draft")), "{:?}", find("stale"));
    world.runtime.deploy_draft(&ana, one).await.unwrap();
    assert_eq!(find("superseded")[0].0, first);
    assert!(find("stale").is_empty(), "{:?}", find("stale"));
    // Its source holds something else.
    let source = intended_model::entry::PolicySource { location: "git:shop".into(), revision: None };
    world.runtime.report_source(&ana, production.clone(), Digest::of(b"other"), source.clone()).await.unwrap();
    assert!(find("stale")[0].1[0].contains("its source `git:shop` holds"), "{:?}", find("stale"));
    world.runtime.report_source(&ana, production.clone(), deployed(&world), source).await.unwrap();
    assert!(find("stale").is_empty());
    let two = world.runtime.create_draft(&ana, spec(edited("100.0", "30.0"))).await.unwrap().answer;
    assert_eq!(find("draft")[0].1, ["not submitted"]);
    world.runtime.submit_draft(&ana, two.clone(), tag(&world, &two)).await.unwrap();
    world.runtime.reject_draft(&ben, two.clone(), tag(&world, &two), "not now").await.unwrap();
    assert_eq!(find("rejected")[0].1, ["rejected by ben: not now"]);
    assert_eq!(approve(&world, &ben, &two).await.unwrap_err().code, Code::DraftState);
    // A rejected draft can be written anew.
    world.runtime.edit_draft(&ana, two.clone(), tag(&world, &two), spec(edited("100.0", "31.0"))).await.unwrap();
    assert_eq!(status(&world, &two), DraftStatus::Draft);
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_without_its_quorum_is_found_in_the_ledger() {
    let world = World::new().await.unwrap();
    approvals(&world, 1).await;
    let (ana, ben) = (person(&world, "ana", &[]).await, person(&world, "ben", &["policy-owners"]).await);
    let id = submitted(&world, &ana, stricter()).await;
    approve(&world, &ben, &id).await.unwrap();
    world.runtime.deploy_draft(&ana, id).await.unwrap();
    let (_, leaves) = world.export().await.unwrap();
    // The fold alone refuses it: without the approval the deployment cannot follow.
    let mut state = None;
    let mut refused = None;
    for (index, leaf) in (0_u64..).zip(&leaves) {
        let event = intended_runtime::tenant::event_of(leaf).unwrap();
        if matches!(event, Event::PolicyApproved(_)) || !event.kind().is_control() {
            continue;
        }
        match &mut state {
            None => state = Some(intended_engine::State::genesis(&event).unwrap()),
            Some(state) => {
                if let Err(error) = state.apply(index, &event) {
                    refused = Some((event.kind(), error.to_string()));
                    break;
                }
            }
        }
    }
    assert_eq!(refused, Some((intended_model::Kind::PolicyDeployed, "0 of 1 approvals are given".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_fails_is_taken_back_under_an_idempotency_key_as_well() {
    let world = World::new().await.unwrap();
    let production = environment("production").unwrap();
    let before = deployed(&world);
    let once = || world.owner.clone().once(Some("key-1".into()));
    let failing = || with_expectation(stricter(), "allow");
    let error = world.runtime.deploy_pack(&once(), &production, failing()).await.unwrap_err();
    assert_eq!((error.code, deployed(&world)), (Code::VerificationFailed, before));
    let again = world.runtime.deploy_pack(&once(), &production, failing()).await.unwrap_err();
    assert_eq!((again.code, deployed(&world)), (Code::DeploymentSuperseded, before), "it is not said to have worked");
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_undone_by_who_deployed_is_done_by_housekeeping() {
    let world = World::new().await.unwrap();
    let production = environment("production").unwrap();
    let before = deployed(&world);
    let files = with_expectation(stricter(), "allow");
    let boxed = files.iter().map(|(n, t)| (n.as_str().into(), t.as_str().into())).collect();
    let version = intended_engine::Version::compile(&boxed).unwrap();
    // As far as a process comes that is killed right after the deployment.
    world
        .control(Event::PolicyPublished(intended_model::entry::PolicyPublished {
            by: world.owner.credential.clone(),
            digest: version.digest,
            files: boxed,
            pack: version.pack.clone(),
            version: version.version.clone(),
            v: 1,
        }))
        .await
        .unwrap();
    world.control(deployment(&world, version.digest, DeployCause::Deploy, before)).await.unwrap();
    let world = world.crash().await.unwrap().reopen().await.unwrap();
    assert_eq!(deployed(&world), version.digest);
    world.runtime.settle_deployments().await;
    assert_eq!(deployed(&world), before);
    world.runtime.settle_deployments().await;
    holds(&world).await;
    // And the way back does not lead to what failed.
    let incident = world.runtime.open_incident(&world.owner, Some(production.clone()), "x").await.unwrap();
    let back = world.runtime.rollback(&world.owner, &production, None, None, "x").await.unwrap_err();
    assert_eq!(back.code, Code::NotFound, "no earlier version was deployed but the one that failed");
    drop(incident);
}

fn deployment(world: &World, digest: Digest, cause: DeployCause, replaces: Digest) -> Event {
    Event::PolicyDeployed(PolicyDeployed {
        by: world.owner.credential.clone(),
        cause,
        digest,
        draft: None,
        environment: environment("production").unwrap(),
        pack: Name::new("demo").unwrap(),
        reason: None,
        replaces: Some(replaces),
        simulation: None,
        v: 1,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn who_can_mint_a_second_identity_is_still_one_person() {
    let world = World::new().await.unwrap();
    approvals(&world, 2).await;
    let production = environment("production").unwrap();
    let ana = person(&world, "ana", &["policy-owners"]).await;
    let ben = person(&world, "ben", &["policy-owners"]).await;
    let service = async |by: &Principal, name: &str| {
        let spec = CredentialSpec {
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
        let made = world.runtime.create_credential(by, spec).await.unwrap();
        world.runtime.authenticate(&made.key).unwrap()
    };
    let refused = async |by: &Principal, id: &Name, what: &str| {
        assert_eq!(approve(&world, by, id).await.unwrap_err().code, Code::DraftApproval, "{what}");
    };
    // The author's service, and somebody whom the same person made.
    let (one, two) = (service(&ana, "ana-service").await, service(&ana, "ana-other-service").await);
    let anna = credential(&world, &ana, "anna", "anna-key", &["policy-owners"]).await;
    let id = submitted(&world, &one, stricter()).await;
    refused(&ana, &id, "who made the author").await;
    refused(&anna, &id, "whom the author's maker made").await;
    // One person does not fill a quorum with the names of others.
    approve(&world, &ben, &id).await.unwrap();
    let cleo_by_ben = credential(&world, &ben, "cleo", "cleo-by-ben", &["policy-owners"]).await;
    refused(&cleo_by_ben, &id, "whom the first approver made").await;
    let dora = person(&world, "dora", &["policy-owners"]).await;
    approve(&world, &dora, &id).await.unwrap();
    world.runtime.deploy_draft(&ana, id).await.unwrap();
    // Two services are not two people.
    let back = async |by: &Principal| world.runtime.rollback(by, &production, None, None, "x").await;
    assert!(matches!(back(&one).await.unwrap(), RolledBack::Waiting { .. }));
    assert_eq!(back(&two).await.unwrap_err().code, Code::RollbackPeople);
    assert_eq!(back(&ben).await.unwrap_err().code, Code::RollbackPeople, "a person and a service");
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_change_of_policy_takes_is_not_lowered_by_who_may_deploy_it() {
    let world = World::new().await.unwrap();
    approvals(&world, 2).await;
    let production = environment("production").unwrap();
    let spec = CredentialSpec {
        actions: Vec::new(),
        agents: Vec::new(),
        networks: Vec::new(),
        credential: CredentialId::new("production-admin").unwrap(),
        environments: vec![production.clone()],
        scopes: Scope::ALL.to_vec(),
        expires_at: None,
        live: true,
        member: None,
        whole: false,
    };
    let made = world.runtime.create_credential(&world.owner, spec).await.unwrap();
    let admin = world.runtime.authenticate(&made.key).unwrap();
    let set = async |tier, change: fn(&mut Settings)| {
        let settings = |now: &Settings| {
            let mut settings = now.clone();
            change(&mut settings);
            Ok(settings)
        };
        world.runtime.set_environment(&admin, production.clone(), tier, settings).await
    };
    set(Tier::Production, |s| s.audience = "gateway".into()).await.unwrap();
    for (tier, change) in [
        (Tier::Production, (|s: &mut Settings| s.policy.approvals = 0) as fn(&mut Settings)),
        (Tier::Production, |s| s.policy.rollback_people = Some(1)),
        (Tier::Development, |_| {}),
    ] {
        assert_eq!(set(tier, change).await.unwrap_err().code, Code::EnvironmentForbidden);
    }
    // Fewer approvals later are not fewer for what was submitted before.
    let (ana, ben) = (person(&world, "ana", &[]).await, person(&world, "ben", &["policy-owners"]).await);
    let id = submitted(&world, &ana, stricter()).await;
    approvals(&world, 0).await;
    approve(&world, &ben, &id).await.unwrap();
    assert_eq!(status(&world, &id), DraftStatus::Submitted);
    assert_eq!(world.runtime.deploy_draft(&ana, id).await.unwrap_err().code, Code::DraftApproval);
    holds(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_about_policy_that_break_a_rule_cannot_follow() {
    let world = World::new().await.unwrap();
    let before = deployed(&world);
    approvals(&world, 1).await;
    let ana = person(&world, "ana", &[]).await;
    let id = submitted(&world, &ana, stricter()).await;
    let state = world.owner.tenant.state();
    let draft = &state.drafts[&id];
    let submitted = |gates| {
        Event::PolicySubmitted(PolicySubmitted {
            by: ana.credential.clone(),
            digest: draft.digest,
            draft: id.clone(),
            gates,
            replaces: Some(before),
            simulation: SimulationSummary::default(),
            v: 1,
        })
    };
    let measured = draft.submission.as_ref().unwrap().gates.clone();
    let mut reordered = measured.clone();
    reordered.reverse();
    let mut of_a_draft = deployment(&world, before, DeployCause::Rollback, before);
    if let Event::PolicyDeployed(e) = &mut of_a_draft {
        e.draft = Some(id.clone());
    }
    let verified = Event::PolicyVerified(PolicyVerified {
        at: intended_model::Timestamp::from_millis(world.clock_now()),
        by: world.owner.credential.clone(),
        digest: before,
        environment: environment("production").unwrap(),
        passed: false,
        results: Vec::new(),
        v: 1,
    });
    for (what, event) in [
        ("no gates", submitted(Vec::new())),
        ("one gate", submitted(measured[..1].to_vec())),
        ("another order", submitted(reordered)),
        ("taken back without having failed", deployment(&world, before, DeployCause::Reverted, before)),
        ("a rollback that ends a draft", of_a_draft),
        ("without a draft", deployment(&world, draft.digest, DeployCause::Deploy, before)),
        ("a verification that says other than there is", verified),
    ] {
        let mut tried = intended_engine::State::clone(&state);
        assert!(tried.apply(1_000, &event).is_err(), "{what}");
        assert!(world.control(event).await.is_err(), "{what}");
    }
}
