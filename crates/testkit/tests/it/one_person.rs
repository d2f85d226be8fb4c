//! One person who looks like two: by a key that they rotated, an account that they let themselves
//! into, an address that they edited, an agent that they gave away after asking, a role that came
//! after. The runtime refuses each, and the verifier finds each where it was written past the runtime.

use intended_model::entry::{
    AgentState, ApprovalRules, BODY_VERSION, Role, RoleGrant, Scope, Settings, SignInMethod, SignInSet, Tier,
};
use intended_model::{Code, CredentialId, Event, IntentId, Outcome};
use intended_runtime::Principal;
use intended_runtime::admin::Change;
use intended_runtime::policy::DraftSpec;
use intended_runtime::sign_in::session::Proof;
use intended_testkit::{demo_pack, environment};
use intended_verify::{Check, Failure};
use serde_json::{Value, json};

use crate::approving::{Office, member, name, refused};
use crate::tampering::{Forge, verify};

fn role(role: Role) -> RoleGrant {
    RoleGrant { environments: Vec::new(), expires_at: None, role, whole: true }
}
fn credential(text: &str) -> CredentialId {
    CredentialId::new(text).unwrap()
}

impl Office {
    /// Somebody with a key for everything, made by the tenant's first key, which is nobody's.
    async fn mighty(&self, id: &str, groups: &[&str]) -> Principal {
        self.set(id, groups, |_| {}).await;
        let spec = intended_runtime::access::CredentialSpec {
            actions: Vec::new(),
            credential: credential(&format!("{id}-key")),
            environments: Vec::new(),
            scopes: Scope::ALL.to_vec(),
            expires_at: None,
            live: true,
            member: Some(member(id)),
            agents: Vec::new(),
            networks: Vec::new(),
            whole: true,
        };
        let made = self.world.runtime.create_credential(&self.world.owner, spec).await.unwrap();
        self.world.runtime.authenticate(&made.key).unwrap()
    }

    /// A session of somebody, by a link that another one gave.
    async fn let_in(&self, by: &Principal, id: &str) -> Principal {
        let link = self.world.runtime.issue_link(by, &member(id)).await.unwrap().code;
        let session = self.world.runtime.sign_in("acme", None, Proof::Link { link, code: None }).await.unwrap();
        self.world.runtime.authenticate(session.key.expose()).unwrap()
    }

    async fn rotated(&self, by: &Principal, id: &str) -> Principal {
        let key = self.world.runtime.rotate_credential(by, credential(id), 0).await.unwrap().key;
        self.world.runtime.authenticate(&key).unwrap()
    }

    async fn change(&self, by: &Principal, event: Event) -> u64 {
        let change = |_: &Principal, _: &intended_engine::State| Ok(Change::new(event.clone(), ()));
        self.world.runtime.change(by, (), change).await.unwrap().index
    }

    async fn allowed(&self, by: &Principal, id: &IntentId) {
        self.approve(by, id).await.unwrap();
        assert_eq!(self.outcome(id).await.0, Outcome::Allow);
    }

    async fn forge(&self) -> Forge {
        let forge = Forge::of(&self.world.export().await.unwrap().1);
        verify(Forge(forge.0.clone()).rebuild()).unwrap();
        forge
    }
}

/// The last approval in the ledger is what is found, for this reason.
#[track_caller]
fn found(forge: Forge, says: &str) {
    let at = forge.0.iter().rposition(|(_, kind, _)| kind == "approval.granted").unwrap();
    let failure: Failure = verify(forge.rebuild()).unwrap_err();
    assert_eq!((failure.check, failure.index), (Check::Approval, Some(at as u64)), "{failure}");
    assert!(failure.what.contains(says), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_rotates_a_key_is_who_asks_with_it() {
    let office = Office::new().await;
    let mallory = office.mighty("mallory", &["leads"]).await;
    office.mighty("lead", &["leads"]).await;
    let ben = office.person("ben", &["leads"]).await;
    // The agent's key, which another made.
    let agent = office.rotated(&mallory, "agent-key").await;
    let id = office.ask_as(&agent).await;
    refused(office.approve(&mallory, &id).await, Code::ApprovalOwn);
    office.allowed(&ben, &id).await;
    // An approver's, and whoever rotates it after does not give it back.
    let stolen = office.rotated(&mallory, "lead-key").await;
    let stolen = office.rotated(&stolen, "lead-key").await;
    let id = office.ask_as(&mallory).await;
    refused(office.approve(&stolen, &id).await, Code::ApprovalOwn);
    office.allowed(&ben, &id).await;
    // And with one that was made by one that was rotated.
    let parent = office.key("parent", None, &[Scope::AccessWrite, Scope::IntentSubmit]).await;
    let child = office.key_by(&parent, "child", None, &[Scope::IntentSubmit]).await;
    office.rotated(&mallory, "parent").await;
    let id = office.ask_as(&child).await;
    refused(office.approve(&mallory, &id).await, Code::ApprovalOwn);
    office.verifies().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lets_somebody_in_is_that_somebody() {
    let office = Office::new().await;
    let mallory = office.mighty("mallory", &["leads"]).await;
    for id in ["lead", "coded", "ana", "ben"] {
        office.set(id, &["leads"], |_| {}).await;
    }
    // Long before, by a link; and by whom she let in so.
    let lead = office.let_in(&mallory, "lead").await;
    let further = office.let_in(&lead, "ana").await;
    // An authenticator less, where the password is known.
    let set = |by: &Principal, method, active| {
        let by = by.credential.clone();
        Event::SignInSet(SignInSet {
            active,
            by,
            member: member("coded"),
            method,
            provider: None,
            subject: None,
            v: BODY_VERSION,
        })
    };
    for method in [SignInMethod::Password, SignInMethod::Totp] {
        office.change(&office.world.owner, set(&office.world.owner, method, true)).await;
    }
    office.change(&mallory, set(&mallory, SignInMethod::Totp, false)).await;
    let coded = office.let_in(&office.world.owner, "coded").await;
    // By somebody who is nobody: that is no member's doing.
    let ben = office.let_in(&office.world.owner, "ben").await;
    let id = office.ask_as(&mallory).await;
    for by in [&lead, &further, &coded, &mallory] {
        refused(office.approve(by, &id).await, Code::ApprovalOwn);
    }
    let shown = office.world.runtime.approval(&ben, &id).await.unwrap();
    assert_eq!(shown.eligible, [member("ben")]);
    office.allowed(&ben, &id).await;
    // What they ask for is not hers to approve either, nor what is asked with a key that they made.
    let made = office.key_by(&lead, "made", None, &[Scope::IntentSubmit]).await;
    for by in [&lead, &made] {
        let id = office.ask_as(by).await;
        refused(office.approve(&mallory, &id).await, Code::ApprovalOwn);
        office.allowed(&ben, &id).await;
    }
    office.verifies().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_whom_one_person_let_in_are_one_in_a_quorum_a_review_and_a_draft() {
    let office = Office::with("2 of leads").await;
    let mallory = office.mighty("mallory", &["leads"]).await;
    for id in ["x", "y", "z"] {
        office.set(id, &["leads"], |_| {}).await;
    }
    let (x, y) = (office.let_in(&mallory, "x").await, office.let_in(&mallory, "y").await);
    let z = office.let_in(&office.world.owner, "z").await;
    let id = office.ask().await;
    office.approve(&x, &id).await.unwrap();
    for by in [&y, &mallory] {
        refused(office.approve(by, &id).await, Code::ApprovalAgain);
    }
    office.allowed(&z, &id).await;
    // A review.
    let runtime = &office.world.runtime;
    let made = runtime.make_review(&office.world.owner).await.unwrap().answer;
    let kept = runtime.review(&office.world.owner, &made.review).await.unwrap();
    let sign =
        async |by: &Principal| runtime.sign_review(by, &made.review, kept.review.digest, "r").await.map(|c| c.answer);
    sign(&x).await.unwrap();
    for by in [&mallory, &y] {
        assert!(sign(by).await.is_err(), "{}", by.credential);
    }
    assert!(sign(&z).await.unwrap());
    // A draft.
    let production = environment("production").unwrap();
    let settings = |now: &Settings| {
        let mut settings = now.clone();
        settings.policy.approvals = 1;
        Ok(settings)
    };
    runtime.set_environment(&office.world.owner, production.clone(), Tier::Production, settings).await.unwrap();
    let spec = DraftSpec { environment: production.clone(), files: demo_pack(), title: "t".into(), source: None };
    let draft = runtime.create_draft(&mallory, spec).await.unwrap().answer;
    let tag = || office.world.owner.tenant.state().drafts[&draft].changed_at;
    runtime.submit_draft(&mallory, draft.clone(), tag()).await.unwrap();
    let own = runtime.approve_draft(&x, draft.clone(), tag(), "r").await.map(drop);
    refused(own, Code::DraftApproval);
    runtime.approve_draft(&z, draft.clone(), tag(), "r").await.unwrap();
    runtime.deploy_draft(&mallory, draft.clone()).await.unwrap();
    // The way back, which takes two.
    let back = async |by: &Principal| runtime.rollback(by, &production, None, None, "back").await;
    back(&mallory).await.unwrap();
    let now = || office.world.owner.tenant.state().environments[&production].history.len();
    let before = now();
    assert_eq!(back(&y).await.unwrap_err().code, Code::RollbackPeople, "the same person, twice");
    assert_eq!(now(), before);
    back(&z).await.unwrap();
    assert_eq!(now(), before + 1);
    office.verifies().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn editing_an_address_makes_nobody_of_one_person_two() {
    let office = Office::new().await;
    let ana = office.mighty("ana", &["leads"]).await;
    let second = office.person("second", &["leads"]).await;
    office.set("ana", &["leads"], |m| m.email = Some("ana@x.example".into())).await;
    office.set("second", &["leads"], |m| m.email = Some("ANA@x.example".into())).await;
    office.set("second", &["leads"], |m| m.email = Some("other@x.example".into())).await;
    let id = office.ask_as(&ana).await;
    refused(office.approve(&second, &id).await, Code::ApprovalOwn);
    // Nor does she give herself more by the other name.
    let spec = || intended_runtime::access::MemberSpec {
        active: true,
        email: Some("other@x.example".into()),
        grants: vec![role(Role::Owner)],
        groups: vec![name("leads")],
        name: None,
    };
    let set = async |spec| office.world.runtime.set_member(&ana, member("second"), spec).await.map(drop);
    let more = intended_runtime::access::MemberSpec { groups: vec![name("leads"), name("security")], ..spec() };
    refused(set(more).await, Code::AccessOwn);
    let away = intended_runtime::access::MemberSpec { email: None, ..spec() };
    refused(set(away).await, Code::AccessOwn);
    let renamed = intended_runtime::access::MemberSpec { name: Some("Ana".into()), ..spec() };
    set(renamed).await.unwrap();
    assert_eq!(
        office.world.runtime.issue_link(&ana, &member("second")).await.map(drop).unwrap_err().code,
        Code::AccessOwn
    );
    office.verifies().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_does_not_step_aside_after_asking() {
    for how in ["named", "addressed", "grouped", "twice", "left"] {
        let office = Office::new().await;
        let address = |m: &mut intended_runtime::access::MemberSpec| m.email = Some("lead@x.example".into());
        office.set("lead", &["leads", "owners"], address).await;
        let scopes = [Scope::IntentSubmit, Scope::ApprovalRead, Scope::ApprovalDecide];
        let lead = office.key("lead-key", Some("lead"), &scopes).await;
        let owner = match how {
            "addressed" => "Lead@x.example",
            "grouped" | "left" => "owners",
            _ => "lead",
        };
        office.agent_is(AgentState::Active, owner).await;
        let id = office.ask().await;
        match how {
            "left" => office.set("lead", &["leads"], address).await,
            "twice" => {
                office.agent_is(AgentState::Active, "platform").await;
                office.agent_is(AgentState::Active, "someone").await;
            }
            // Also not by an address less.
            "addressed" => {
                office.set("lead", &["leads", "owners"], |_| {}).await;
                office.agent_is(AgentState::Active, "platform").await;
            }
            _ => office.agent_is(AgentState::Active, "platform").await,
        }
        refused(office.approve(&lead, &id).await, Code::ApprovalOwn);
        let shown = office.world.runtime.approval(&lead, &id).await.unwrap();
        assert!(shown.eligible.is_empty(), "{how}");
        // What is asked for from then on is not theirs.
        let id = office.ask().await;
        office.allowed(&lead, &id).await;
        // Who becomes the owner while it waits is one.
        let id = office.ask().await;
        office.agent_is(AgentState::Active, "lead").await;
        refused(office.approve(&lead, &id).await, Code::ApprovalOwn);
        office.verifies().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_approvals_take_is_the_whole_tenants_to_say_and_for_what_is_asked_from_then_on() {
    let office = Office::new().await;
    office.agent_is(AgentState::Active, "lead").await;
    let lead = office.person("lead", &["leads"]).await;
    let narrow = office.key("narrow", None, &[Scope::AccessWrite]).await;
    let loosen = async |by: &Principal| {
        let settings = |now: &Settings| {
            let approvals = ApprovalRules { owner_may_approve: true, ..now.approvals.clone() };
            Ok(Settings { approvals, ..now.clone() })
        };
        let production = environment("production").unwrap();
        office.world.runtime.set_environment(by, production, Tier::Production, settings).await.map(drop)
    };
    let before = office.ask().await;
    refused(loosen(&narrow).await, Code::EnvironmentForbidden);
    loosen(&office.world.owner).await.unwrap();
    refused(office.approve(&lead, &before).await, Code::ApprovalOwn);
    let after = office.ask().await;
    // Said again, it is as it was.
    loosen(&office.world.owner).await.unwrap();
    office.allowed(&lead, &after).await;
    office.verifies().await;

    let honest = office.forge().await;
    let mut forge = Forge(honest.0);
    let at = forge.0.iter().rposition(|(_, kind, _)| kind == "environment.set").unwrap();
    forge.0.truncate(at);
    let nth = forge.0.iter().rposition(|(_, kind, _)| kind == "environment.set").unwrap();
    forge.edit(nth, |b| b["by"] = json!("narrow"));
    let failure = verify(forge.rebuild()).unwrap_err();
    assert_eq!((failure.check, failure.index), (Check::Authority, Some(nth as u64)), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_came_after_the_request_decides_nothing_of_it() {
    let office = Office::new().await;
    let production = || vec![environment("production").unwrap()];
    office.set("late", &["leads"], |m| m.grants = vec![role(Role::Auditor)]).await;
    let scopes = [Scope::ApprovalRead, Scope::ApprovalDecide];
    let late = office.key("late-key", Some("late"), &scopes).await;
    let soon = intended_model::Timestamp::from_millis(office.world.clock_now() + 600_000);
    let until = |m: &mut intended_runtime::access::MemberSpec| m.grants[0].expires_at = Some(soon);
    office.set("ending", &["leads"], until).await;
    let ending = office.key("ending-key", Some("ending"), &scopes).await;
    let id = office.ask().await;
    office.set("late", &["leads"], |_| {}).await;
    refused(office.approve(&late, &id).await, Code::ApprovalIneligible);
    assert_eq!(office.world.runtime.approval(&ending, &id).await.unwrap().eligible, [member("ending")]);
    // Another role, in fewer places, with as much of a say there, is no later one.
    let here = RoleGrant { environments: production(), expires_at: None, role: Role::Owner, whole: false };
    office.set("ending", &["leads"], |m| m.grants = vec![here.clone()]).await;
    office.allowed(&ending, &id).await;
    let id = office.ask().await;
    office.set("ending", &["leads"], |_| {}).await;
    office.allowed(&ending, &id).await;
    // One that was made to last longer is, for what it adds.
    office.set("ending", &["leads"], until).await;
    let id = office.ask().await;
    office.set("ending", &["leads"], |_| {}).await;
    office.world.clock.advance_millis(600_001);
    refused(office.approve(&ending, &id).await, Code::ApprovalIneligible);
    office.allowed(&late, &id).await;
    // One that is taken and given again is as new.
    let id = office.ask().await;
    office.set("late", &["leads"], |m| m.grants = vec![role(Role::Auditor)]).await;
    office.set("late", &["leads"], |_| {}).await;
    refused(office.approve(&late, &id).await, Code::ApprovalIneligible);
    office.verifies().await;
}

/// Each written past the runtime: one entry that came earlier is another than it was.
#[tokio::test(flavor = "multi_thread")]
async fn approvals_of_ones_own_that_were_forged_are_found() {
    let edit = |forge: &mut Forge, kind: &str, back: usize, change: fn(&mut Value)| {
        let all: Vec<usize> = (0..forge.0.len()).filter(|at| forge.0[*at].1 == kind).collect();
        forge.edit(all[all.len() - 1 - back], change);
    };

    // A key that was rotated.
    let office = Office::new().await;
    let mallory = office.mighty("mallory", &["leads"]).await;
    office.key("spare", None, &[Scope::IntentSubmit]).await;
    office.rotated(&mallory, "spare").await;
    let id = office.ask().await;
    office.allowed(&mallory, &id).await;
    let mut forge = office.forge().await;
    edit(&mut forge, "credential.rotated", 0, |b| b["credential"] = json!("agent-key"));
    found(forge, "the same person");

    // A link.
    let office = Office::new().await;
    let mallory = office.mighty("mallory", &["leads"]).await;
    for id in ["lead", "decoy"] {
        office.set(id, &["leads"], |_| {}).await;
    }
    let lead = office.let_in(&office.world.owner, "lead").await;
    office.world.runtime.issue_link(&mallory, &member("decoy")).await.unwrap();
    let id = office.ask_as(&mallory).await;
    office.allowed(&lead, &id).await;
    let mut forge = office.forge().await;
    edit(&mut forge, "sign_in.link_issued", 0, |b| b["member"] = json!("lead"));
    found(forge, "the same person");

    // An address.
    let office = Office::new().await;
    let ana = office.mighty("ana", &["leads"]).await;
    let second = office.person("second", &["leads"]).await;
    office.set("ana", &["leads"], |m| m.email = Some("ana@x.example".into())).await;
    office.set("second", &["leads"], |m| m.email = Some("b@x.example".into())).await;
    office.set("second", &["leads"], |m| m.email = Some("c@x.example".into())).await;
    let id = office.ask_as(&ana).await;
    office.allowed(&second, &id).await;
    let mut forge = office.forge().await;
    edit(&mut forge, "member.set", 1, |b| b["email"] = json!("ana@x.example"));
    found(forge, "the same person");

    // An owner who stepped aside, and one who may since.
    let office = Office::new().await;
    let lead = office.person("lead", &["leads"]).await;
    office.agent_is(AgentState::Active, "someone").await;
    let id = office.ask().await;
    office.rules(ApprovalRules { owner_may_approve: true, ..ApprovalRules::default() }).await;
    office.agent_is(AgentState::Active, "platform").await;
    office.allowed(&lead, &id).await;
    let honest = office.forge().await;
    for back in [0, 1] {
        let mut forge = Forge(honest.0.clone());
        edit(&mut forge, "agent.set", back, |b| b["owner"] = json!("lead"));
        found(forge, "owns the agent");
    }

    // A role.
    let office = Office::new().await;
    office.set("lead", &["leads"], |_| {}).await;
    let lead = office.key("lead-key", Some("lead"), &[Scope::ApprovalRead, Scope::ApprovalDecide]).await;
    let id = office.ask().await;
    office.set("lead", &["leads"], |m| m.name = Some("Lead".into())).await;
    office.allowed(&lead, &id).await;
    let mut forge = office.forge().await;
    edit(&mut forge, "member.set", 1, |b| b["grants"][0]["role"] = json!("viewer"));
    found(forge, "since before it was asked for");
}
