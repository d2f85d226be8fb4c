//! People approving through the runtime, and every way to get an approval that is not one. After each,
//! the ledger verifies, with the facts that go with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use intended_engine::approvals;
use intended_model::decision::Outcome;
use intended_model::entry::{
    AgentSet, AgentState, ApprovalGranted, ApprovalRules, BODY_VERSION, EnvironmentSet, Role, RoleGrant, Scope,
    Settings, SignInMethod, SignInSet, Tier,
};
use intended_model::{Code, Event, Intent, IntentId, Kind, MemberId, Name};
use intended_runtime::access::{CredentialSpec, MemberSpec};
use intended_runtime::approvals::people::Bulk;
use intended_runtime::approvals::requests::Filter;
use intended_runtime::tokens::Verification;
use intended_runtime::{Decided, Principal, RuntimeError, Submission};
use intended_testkit::{World, environment, intent, refund};
use intended_token::Binding;
use intended_verify::{FACTS, Verifier};

/// A world in which people approve.
pub struct Office {
    pub world: World,
    /// What agents submit with: nobody's.
    pub agent: Principal,
}

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}
pub fn member(text: &str) -> MemberId {
    MemberId::new(text).unwrap()
}

impl Office {
    pub async fn new() -> Self {
        Self::with(r#"1 of leads"#).await
    }

    /// Refunds above 100 take this.
    pub async fn with(asks: &str) -> Self {
        let world = World::new().await.unwrap();
        let office = Self { agent: world.owner.clone(), world };
        office.deploy(asks).await;
        let agent = office.key("agent-key", None, &[Scope::IntentSubmit]).await;
        Self { agent, ..office }
    }

    pub async fn deploy(&self, asks: &str) {
        let small =
            r#"context.number.hasTag("amount") && context.number.getTag("amount").lessThanOrEqual(decimal("100.0"))"#;
        let text = format!(
            "@id(\"small\") permit (principal, action, resource) when {{ {small} }};\n@id(\"large\") @escalate(\"{asks}\") permit (principal, action, resource) unless {{ {small} }};\n"
        );
        self.pack(&text).await;
    }

    pub async fn pack(&self, text: &str) {
        let files: BTreeMap<String, String> = [
            ("pack.toml".to_owned(), format!("name = \"office\"\nversion = \"{}\"\n", text.len())),
            ("p.cedar".to_owned(), text.to_owned()),
        ]
        .into();
        let production = environment("production").unwrap();
        self.world.runtime.deploy_pack(&self.world.owner, &production, files).await.unwrap();
    }

    pub async fn key(&self, id: &str, whose: Option<&str>, scopes: &[Scope]) -> Principal {
        self.key_by(&self.world.owner, id, whose, scopes).await
    }

    pub async fn key_by(&self, by: &Principal, id: &str, whose: Option<&str>, scopes: &[Scope]) -> Principal {
        let spec = CredentialSpec {
            actions: Vec::new(),
            credential: intended_model::CredentialId::new(id).unwrap(),
            environments: vec![environment("production").unwrap()],
            scopes: scopes.to_vec(),
            expires_at: None,
            live: true,
            member: whose.map(member),
            agents: Vec::new(),
            networks: Vec::new(),
            whole: false,
        };
        let made = self.world.runtime.create_credential(by, spec).await.unwrap();
        self.world.runtime.authenticate(&made.key).unwrap()
    }

    pub async fn set(&self, id: &str, groups: &[&str], change: impl FnOnce(&mut MemberSpec)) {
        let mut spec = MemberSpec {
            active: true,
            email: None,
            grants: vec![RoleGrant { environments: Vec::new(), expires_at: None, role: Role::Owner, whole: true }],
            groups: groups.iter().map(|g| name(g)).collect(),
            name: None,
        };
        change(&mut spec);
        self.world.runtime.set_member(&self.world.owner, member(id), spec).await.unwrap();
    }

    /// Somebody with a key of their own.
    pub async fn person(&self, id: &str, groups: &[&str]) -> Principal {
        self.set(id, groups, |_| {}).await;
        self.key(&format!("{id}-key"), Some(id), &[Scope::IntentSubmit, Scope::ApprovalRead, Scope::ApprovalDecide])
            .await
    }

    pub async fn submit_as(&self, by: &Principal, intent: Intent) -> Decided {
        let submission = Submission { intent, idempotency_key: None, audience: None };
        self.world.runtime.submit(by, submission).await.unwrap()
    }

    /// Something that escalates.
    pub async fn ask(&self) -> IntentId {
        self.ask_as(&self.agent).await
    }
    pub async fn ask_as(&self, by: &Principal) -> IntentId {
        let decided = self.submit_as(by, refund(150, None).unwrap()).await;
        assert_eq!(decided.record.decision.decision, Outcome::Escalate, "{:?}", decided.record.decision);
        decided.record.input.id
    }

    pub async fn tag(&self, by: &Principal, id: &IntentId) -> String {
        self.world.runtime.approval(by, id).await.unwrap().tag
    }
    pub async fn approve(&self, by: &Principal, id: &IntentId) -> Result<(), RuntimeError> {
        let tag = self.tag(by, id).await;
        self.world.runtime.approve(by, id, &tag, "looked at it").await
    }
    pub async fn outcome(&self, id: &IntentId) -> (Outcome, Code) {
        let decided = self.world.runtime.decision(&self.world.owner, id).await.unwrap().unwrap();
        (decided.record.decision.decision, decided.record.decision.reason)
    }
    pub async fn open(&self, id: &IntentId) -> bool {
        self.world.runtime.open_intent(&self.world.owner.tenant, id).await.unwrap().is_some()
    }

    pub async fn rules(&self, rules: ApprovalRules) {
        let now = Settings::clone(
            &self.world.owner.tenant.state().environments[&environment("production").unwrap()].settings,
        );
        let set = EnvironmentSet {
            by: self.world.owner.credential.clone(),
            environment: environment("production").unwrap(),
            settings: Settings { approvals: rules, ..now },
            tier: Tier::Production,
            v: BODY_VERSION,
        };
        self.world.control(Event::EnvironmentSet(set)).await.unwrap();
    }

    pub async fn agent_is(&self, state: AgentState, owner: &str) {
        let event = AgentSet {
            agent: "support-agent".into(),
            by: self.world.owner.credential.clone(),
            categories: Vec::new(),
            environments: vec![environment("production").unwrap(), environment("staging").unwrap()],
            kind: "agent".into(),
            owner: owner.into(),
            purpose: Box::default(),
            state,
            teams: vec![name("support")],
            tools: Vec::new(),
            trust: 70,
            v: BODY_VERSION,
            workflow: Vec::new(),
        };
        self.world.runtime.set_agent(&self.world.owner, event).await.unwrap();
    }

    /// The ledger verifies, and the facts are what it says.
    pub async fn verifies(&self) {
        let (header, leaves) = self.world.export().await.unwrap();
        let mut verifier = Verifier::new(header, None).unwrap();
        for leaf in &leaves {
            verifier.entry(leaf).unwrap_or_else(|e| panic!("{e}\n{}", String::from_utf8_lossy(leaf)));
        }
        let mut facts = Vec::new();
        for prefix in FACTS {
            let page =
                self.world.runtime.store().facts(&self.world.owner.tenant.id, prefix, "", 100_000).await.unwrap();
            facts.extend(page.into_iter().map(|(key, fact)| (key, fact.value)));
        }
        verifier.facts(facts, self.world.runtime.now()).unwrap();
        verifier.finish().unwrap();
    }
}

#[track_caller]
pub fn refused(result: Result<(), RuntimeError>, code: Code) {
    match result {
        Err(error) => assert_eq!(error.code, code, "{error}"),
        Ok(()) => panic!("it was taken; {code} was expected"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_approved_is_decided_again_and_its_token_waits_for_who_asked() {
    let office = Office::new().await;
    let lead = office.person("lead", &["leads"]).await;
    let id = office.ask().await;
    let shown = office.world.runtime.approval(&lead, &id).await.unwrap();
    assert_eq!((shown.eligible, shown.may.is_ok()), (vec![member("lead")], true));
    office.approve(&lead, &id).await.unwrap();
    assert_eq!(office.outcome(&id).await, (Outcome::Allow, Code::ApprovalMet));
    assert!(!office.open(&id).await);
    // A minute later, which is longer than a token lives otherwise.
    office.world.clock.advance_millis(200_000);
    let runtime = &office.world.runtime;
    let decided = async || runtime.decision(&office.agent, &id).await.unwrap().unwrap();
    for other in [&lead, &office.world.owner] {
        assert!(runtime.with_token(other, decided().await).unwrap().token.is_none(), "{}", other.credential);
    }
    let mine = runtime.with_token(&office.agent, decided().await).unwrap();
    let token = mine.token.expect("it waits");
    let production = environment("production").unwrap();
    let binding = |amount| Binding::IntentHash(refund(amount, None).unwrap().digest().unwrap());
    let verify = async |amount| {
        runtime.verify_token(&office.world.owner, token.as_str(), "intended", &production, &binding(amount), true).await
    };
    // Approve A, run B.
    let code = |v: Verification| if let Verification::Refused(r) = v { Some(r.code()) } else { None };
    assert_eq!(code(verify(4_000).await.unwrap()), Some("token.binding"));
    assert_eq!(code(verify(150).await.unwrap()), None);
    // And once.
    assert_eq!(code(verify(150).await.unwrap()), Some("token.consumed"));
    office.verifies().await;
    // Not for ever.
    office.world.clock.advance_millis(101_000);
    assert!(runtime.with_token(&office.agent, decided().await).unwrap().token.is_none());
}

/// Second account, own key, minted key, owner, principal of the agent, late group, late key, late password.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_approves_their_own_in_any_form() {
    // A second account of one person.
    let office = Office::new().await;
    office.set("ana", &["leads"], |m| m.email = Some("ana@x.example".into())).await;
    office.set("ana.private", &["leads"], |m| m.email = Some("Ana@X.example".into())).await;
    let all = [Scope::IntentSubmit, Scope::ApprovalRead, Scope::ApprovalDecide, Scope::AccessWrite];
    let ana = office.key("ana-key", Some("ana"), &all).await;
    let second = office.key("second", Some("ana.private"), &all).await;
    let id = office.ask_as(&ana).await;
    refused(office.approve(&second, &id).await, Code::ApprovalOwn);
    // The same person, with the same key and with another one of their own.
    let own = office.key("ana-key-2", Some("ana"), &all).await;
    let id = office.ask_as(&ana).await;
    refused(office.approve(&ana, &id).await, Code::ApprovalOwn);
    refused(office.approve(&own, &id).await, Code::ApprovalOwn);
    // A key that the requester has minted: for themselves, which then asks, and ones that nobody is behind.
    let minted = office.key_by(&ana, "minted", None, &[Scope::IntentSubmit]).await;
    let id = office.ask_as(&minted).await;
    for by in [&ana, &own, &second] {
        refused(office.approve(by, &id).await, Code::ApprovalOwn);
    }
    office.verifies().await;

    // The agent's owner, by name, by address and by group.
    for owner in ["lead", "LEAD@x.example", "leads"] {
        let office = Office::new().await;
        office.set("lead", &["leads"], |m| m.email = Some("lead@x.example".into())).await;
        let lead = office.key("lead-key", Some("lead"), &all).await;
        office.agent_is(AgentState::Active, owner).await;
        let id = office.ask().await;
        refused(office.approve(&lead, &id).await, Code::ApprovalOwn);
        office.rules(ApprovalRules { owner_may_approve: true, ..ApprovalRules::default() }).await;
        let id = office.ask().await;
        office.approve(&lead, &id).await.unwrap();
        assert_eq!(office.outcome(&id).await.0, Outcome::Allow, "{owner}");
        office.verifies().await;
    }
    // Where policy leaves the owner out, whatever the settings say.
    let office = Office::with("1 of leads except owner").await;
    office.rules(ApprovalRules { owner_may_approve: true, ..ApprovalRules::default() }).await;
    let lead = office.person("lead", &["leads"]).await;
    office.agent_is(AgentState::Active, "lead").await;
    let id = office.ask().await;
    refused(office.approve(&lead, &id).await, Code::ApprovalOwn);

    // Whom the agent acts for.
    let office = Office::new().await;
    let lead = office.person("lead", &["leads"]).await;
    let on_behalf = intent(
        r#"{"subject":{"type":"agent","id":"support-agent","properties":{"on_behalf_of":{"type":"member","id":"lead"}}},"action":{"name":"stripe.create_refund","properties":{"amount":400}},"resource":{"type":"charge","id":"ch_1"},"environment":"production"}"#,
    );
    let id = office.submit_as(&office.agent, on_behalf.unwrap()).await.record.input.id;
    refused(office.approve(&lead, &id).await, Code::ApprovalOwn);

    // Who came into the group, or got a key or a password, after it was asked for.
    let office = Office::new().await;
    let late = office.person("late", &[]).await;
    office.set("keyless", &["leads"], |_| {}).await;
    let lead = office.person("lead", &["leads"]).await;
    let id = office.ask().await;
    office.set("late", &["leads"], |_| {}).await;
    refused(office.approve(&late, &id).await, Code::ApprovalIneligible);
    let keyless = office.key("keyless-key", Some("keyless"), &all).await;
    refused(office.approve(&keyless, &id).await, Code::ApprovalIneligible);
    let password = SignInSet {
        active: true,
        by: office.world.owner.credential.clone(),
        member: member("keyless"),
        method: SignInMethod::Password,
        provider: None,
        subject: None,
        v: BODY_VERSION,
    };
    office.world.control(Event::SignInSet(password)).await.unwrap();
    let state = office.world.owner.tenant.state();
    let shown = office.world.runtime.approval(&lead, &id).await.unwrap();
    let signed_in = intended_model::CredentialId::of_member(&member("keyless")).unwrap();
    let request = approvals::Request::of(&shown.record, shown.request);
    let may = approvals::may_approve(
        &state,
        &request,
        &shown.progress,
        &signed_in,
        &member("keyless"),
        office.world.runtime.now(),
    );
    assert_eq!(may, Err(approvals::Ineligible::Means));
    assert_eq!(shown.eligible, [member("lead")]);
    // One that leaves and comes back is as new.
    office.set("lead", &[], |_| {}).await;
    office.set("lead", &["leads"], |_| {}).await;
    refused(office.approve(&lead, &id).await, Code::ApprovalIneligible);
    assert!(office.open(&id).await);
    office.verifies().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_person_counts_once_and_a_service_is_nobody() {
    let office = Office::with("2 of leads").await;
    office.set("ana", &["leads"], |m| m.email = Some("ana@x.example".into())).await;
    office.set("ana2", &["leads"], |m| m.email = Some("ana@x.example".into())).await;
    let scopes = [Scope::ApprovalRead, Scope::ApprovalDecide];
    let (ana, again) = (office.key("k1", Some("ana"), &scopes).await, office.key("k2", Some("ana"), &scopes).await);
    let other = office.key("k3", Some("ana2"), &scopes).await;
    let service = office.key("k4", None, &scopes).await;
    let id = office.ask().await;
    refused(office.approve(&service, &id).await, Code::ApprovalIneligible);
    office.approve(&ana, &id).await.unwrap();
    for by in [&ana, &again, &other] {
        refused(office.approve(by, &id).await, Code::ApprovalAgain);
    }
    assert!(office.open(&id).await);
    let ben = office.person("ben", &["leads"]).await;
    refused(office.approve(&ben, &id).await, Code::ApprovalIneligible);
    office.verifies().await;
}

/// Removed from the tenant, from the group, from the role; their key revoked; and taken back.
#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_does_not_count_the_removed() {
    for how in 0..5 {
        let office = Office::with("2 of leads").await;
        let (ana, ben, cleo) = (
            office.person("ana", &["leads"]).await,
            office.person("ben", &["leads"]).await,
            office.person("cleo", &["leads"]).await,
        );
        let id = office.ask().await;
        office.approve(&ana, &id).await.unwrap();
        match how {
            0 => office.set("ana", &["leads"], |m| m.active = false).await,
            1 => office.set("ana", &[], |_| {}).await,
            2 => office.set("ana", &["leads"], |m| m.grants.clear()).await,
            3 => drop(
                office
                    .world
                    .runtime
                    .revoke_credential(&office.world.owner, ana.credential.clone(), "lost")
                    .await
                    .unwrap(),
            ),
            _ => {
                let tag = office.tag(&ana, &id).await;
                office.world.runtime.withdraw(&ana, &id, &tag, "no, wait").await.unwrap();
            }
        }
        let shown = office.world.runtime.approval(&ben, &id).await.unwrap();
        assert!(shown.given.iter().all(|g| !g.counts), "{how}");
        office.approve(&ben, &id).await.unwrap();
        assert!(office.open(&id).await, "{how}: one of two");
        office.approve(&cleo, &id).await.unwrap();
        assert_eq!(office.outcome(&id).await, (Outcome::Allow, Code::ApprovalMet), "{how}");
        office.verifies().await;
    }
}

/// Edit after approval, A for B, and a second run.
#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_of_exactly_what_was_read_and_of_one_run() {
    let office = Office::with("2 of leads").await;
    let (ana, ben) = (office.person("ana", &["leads"]).await, office.person("ben", &["leads"]).await);
    let (a, b) = (office.ask().await, office.ask().await);
    let runtime = &office.world.runtime;
    // The tag of one does not approve the other; nor does one from before somebody said something.
    let tag = office.tag(&ana, &a).await;
    refused(runtime.approve(&ana, &b, &tag, "r").await, Code::ApprovalStale);
    runtime.approve(&ana, &a, &tag, "r").await.unwrap();
    refused(runtime.approve(&ben, &a, &tag, "r").await, Code::ApprovalStale);
    office.approve(&ben, &a).await.unwrap();
    assert_eq!(office.outcome(&a).await.0, Outcome::Allow);
    // What was approved is used up: neither it nor the same action again.
    refused(office.approve(&ben, &a).await, Code::ApprovalClosed);
    assert!(office.open(&b).await);
    let other = office.ask().await;
    assert!(office.open(&other).await && office.world.owner.tenant.state().approvals.get(&other).is_none());
    // Another resource, tool or argument is another intent with a request of its own.
    office.verifies().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_does_not_outlive_policy_halt_or_expiry() {
    // Policy: what was approved under the old one does not count, and the time is not longer.
    let office = Office::with("2 of leads").await;
    let (ana, ben) = (office.person("ana", &["leads"]).await, office.person("ben", &["leads"]).await);
    let id = office.ask().await;
    let until = office.world.runtime.approval(&ana, &id).await.unwrap().expires_at;
    office.approve(&ana, &id).await.unwrap();
    office.world.clock.advance_millis(60_000);
    let before = office.tag(&ben, &id).await;
    office.deploy("1 of leads; 1 of leads").await;
    refused(office.world.runtime.approve(&ben, &id, &before, "r").await, Code::ApprovalStale);
    let shown = office.world.runtime.approval(&ben, &id).await.unwrap();
    assert_eq!(shown.expires_at, until, "never longer");
    assert!(!shown.policy_changed && shown.given.iter().all(|g| !g.counts), "{:?}", shown.given);
    office.approve(&ben, &id).await.unwrap();
    assert_eq!(office.outcome(&id).await.0, Outcome::Allow);
    office.verifies().await;
    // One that the new policy forbids is denied by it, whoever has approved.
    let office = Office::with("2 of leads").await;
    let ana = office.person("ana", &["leads"]).await;
    let id = office.ask().await;
    office.approve(&ana, &id).await.unwrap();
    office.pack("@id(\"no\") forbid (principal, action, resource);").await;
    office.world.runtime.close_overdue().await.unwrap();
    assert_eq!(office.outcome(&id).await, (Outcome::Deny, Code::PolicyForbid));
    office.verifies().await;

    // A halt, and an agent that is paused: decided on the state of that moment.
    for halted in [true, false] {
        let office = Office::new().await;
        let ana = office.person("ana", &["leads"]).await;
        let id = office.ask().await;
        if halted {
            office.world.runtime.halt(&office.world.owner, None, "drill").await.unwrap();
        } else {
            office.agent_is(AgentState::Paused, "platform").await;
        }
        office.approve(&ana, &id).await.unwrap();
        let expected = if halted { Code::HaltTenant } else { Code::AgentInactive };
        assert_eq!(office.outcome(&id).await, (Outcome::Deny, expected));
        assert!(!office.open(&id).await);
        office.verifies().await;
    }

    // A halt between the decision and the agent: the token is not handed out.
    let office = Office::new().await;
    let ana = office.person("ana", &["leads"]).await;
    let id = office.ask().await;
    office.approve(&ana, &id).await.unwrap();
    office.world.runtime.halt(&office.world.owner, None, "drill").await.unwrap();
    let decided = office.world.runtime.decision(&office.agent, &id).await.unwrap().unwrap();
    assert!(office.world.runtime.with_token(&office.agent, decided).unwrap().token.is_none());

    // Expiry: silence and lateness are a no.
    let office = Office::with("2 of leads").await;
    let (ana, ben) = (office.person("ana", &["leads"]).await, office.person("ben", &["leads"]).await);
    let id = office.ask().await;
    office.approve(&ana, &id).await.unwrap();
    let tag = office.tag(&ben, &id).await;
    office.world.clock.advance_millis(3_600_000);
    refused(office.world.runtime.approve(&ben, &id, &tag, "r").await, Code::ApprovalClosed);
    assert_eq!(office.world.runtime.close_overdue().await.unwrap(), 1);
    refused(office.world.runtime.approve(&ben, &id, &tag, "r").await, Code::ApprovalClosed);
    let shown = office.world.runtime.approval(&ben, &id).await.unwrap();
    assert_eq!(shown.ended.as_str(), "timed_out");
    assert_eq!(office.outcome(&id).await.0, Outcome::Escalate, "it was never allowed");
    office.verifies().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_come_in_their_order_and_any_of_several_groups_will_do() {
    let office = Office::with("1 of owners then 1 of security or 2 of leads").await;
    let (owner, sec) = (office.person("olga", &["owners", "leads"]).await, office.person("sam", &["security"]).await);
    let (ana, ben) = (office.person("ana", &["leads"]).await, office.person("ben", &["leads"]).await);
    let id = office.ask().await;
    refused(office.approve(&sec, &id).await, Code::ApprovalIneligible);
    office.approve(&owner, &id).await.unwrap();
    let shown = office.world.runtime.approval(&sec, &id).await.unwrap();
    assert_eq!((shown.progress[0].current, shown.progress[0].steps[0].by.clone()), (1, vec![member("olga")]));
    // Who counted for the first step counts for no other, though in a group of it.
    assert_eq!(shown.eligible, [member("ana"), member("ben"), member("sam")]);
    refused(office.approve(&owner, &id).await, Code::ApprovalAgain);
    office.approve(&ana, &id).await.unwrap();
    assert!(office.open(&id).await);
    office.approve(&ben, &id).await.unwrap();
    assert_eq!(office.outcome(&id).await.0, Outcome::Allow);
    // The other way to meet the second step.
    let id = office.ask().await;
    office.approve(&owner, &id).await.unwrap();
    office.approve(&sec, &id).await.unwrap();
    assert_eq!(office.outcome(&id).await.0, Outcome::Allow);
    office.verifies().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_person_with_a_say_ends_it_and_others_may_ask() {
    let office = Office::with("2 of leads").await;
    let (ana, viewer) = (office.person("ana", &["leads"]).await, office.person("val", &[]).await);
    let id = office.ask().await;
    let runtime = &office.world.runtime;
    let tag = office.tag(&ana, &id).await;
    refused(runtime.deny(&viewer, &id, &tag, "no").await, Code::ApprovalIneligible);
    refused(runtime.deny(&ana, &id, "other", "no").await, Code::ApprovalStale);
    for nothing in ["", "  ", "\u{1b}[31m", &"x".repeat(501)] {
        refused(runtime.deny(&ana, &id, &tag, nothing).await, Code::RequestInvalid);
        refused(runtime.approve(&ana, &id, &tag, nothing).await, Code::RequestInvalid);
    }
    runtime.ask(&ana, &id, "which customer?").await.unwrap();
    refused(runtime.answer(&ana, &id, "me").await, Code::NotFound);
    runtime.answer(&office.agent, &id, "the one of ch_1").await.unwrap();
    let shown = runtime.approval(&ana, &id).await.unwrap();
    let notes: Vec<_> = shown.notes.iter().map(|n| (n.answer, &*n.text)).collect();
    assert_eq!(notes, [(false, "which customer?"), (true, "the one of ch_1")]);
    runtime.deny(&ana, &id, &tag, "not this one").await.unwrap();
    let shown = runtime.approval(&ana, &id).await.unwrap();
    assert_eq!(shown.ended.as_str(), "denied");
    let decided = runtime.decision(&office.agent, &id).await.unwrap().unwrap();
    assert_eq!(
        runtime.standing(&office.agent, &decided.record).await.unwrap(),
        intended_runtime::escalations::Standing::Denied
    );
    refused(office.world.runtime.approve(&ana, &id, &tag, "yes").await, Code::ApprovalClosed);
    refused(runtime.ask(&ana, &id, "and now?").await, Code::ApprovalClosed);
    office.verifies().await;
}

/// Between the last approval and the decision the server dies: what is due is found.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_approved_before_a_crash_is_decided_after_it() {
    let office = Office::new().await;
    let lead = office.person("lead", &["leads"]).await;
    let id = office.ask().await;
    let shown = office.world.runtime.approval(&lead, &id).await.unwrap();
    let granted = Event::ApprovalGranted(ApprovalGranted {
        approver: member("lead"),
        at: Some(office.world.runtime.now()),
        by: lead.credential.clone(),
        environment: environment("production").unwrap(),
        expires_at: shown.expires_at.unwrap(),
        intent: id,
        intent_hash: shown.record.input.intent_hash,
        policy: shown.record.decision.policy.as_ref().unwrap().digest,
        reason: "r".into(),
        request: Some(shown.request),
        v: BODY_VERSION,
    });
    // As the runtime commits it, and no further.
    let (counter, until) = intended_engine::keys::approvals(
        &environment("production").unwrap(),
        &member("lead"),
        office.world.runtime.now(),
    );
    let change = |_: &Principal, _: &intended_engine::State| {
        let mut change = intended_runtime::admin::Change::new(granted.clone(), ());
        let add = intended_store::Write::Add { key: counter.as_str().into(), n: 1, max: 9, expires_at: Some(until) };
        change.writes.push(add);
        Ok(change)
    };
    office.world.runtime.change(&lead, (), change).await.unwrap();
    let Office { world, agent } = office;
    let world = world.reopen().await.unwrap();
    let office = Office { world, agent };
    assert!(office.open(&id).await);
    office.world.runtime.close_overdue().await.unwrap();
    assert_eq!(office.outcome(&id).await, (Outcome::Allow, Code::ApprovalMet));
    office.verifies().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_approves_more_in_an_hour_than_they_can_read() {
    let office = Office::new().await;
    let lead = office.person("lead", &["leads"]).await;
    office.rules(ApprovalRules { max_per_person_per_hour: 3, ..ApprovalRules::default() }).await;
    for _ in 0..3 {
        let id = office.ask().await;
        office.approve(&lead, &id).await.unwrap();
    }
    let id = office.ask().await;
    assert_eq!(office.world.runtime.approval(&lead, &id).await.unwrap().rate, (3, 3));
    refused(office.approve(&lead, &id).await, Code::ApprovalRate);
    office.verifies().await;
    office.world.clock.advance_millis(3_600_000);
    // Another hour of the clock; but the request itself is too old by then.
    let id = office.ask().await;
    office.approve(&lead, &id).await.unwrap();
    office.verifies().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_approved_at_once_only_where_none_of_them_is_risky() {
    let office = Office::new().await;
    let lead = office.person("lead", &["leads"]).await;
    let ids = [office.ask().await, office.ask().await];
    let items = async || {
        let mut items = Vec::new();
        for id in ids {
            items.push(Bulk { id, etag: office.tag(&lead, &id).await });
        }
        items
    };
    let risk = office.world.runtime.approval(&lead, &ids[0]).await.unwrap().record.decision.risk.unwrap().score;
    office.rules(ApprovalRules { bulk_max_risk: risk - 1, ..ApprovalRules::default() }).await;
    let all = office.world.runtime.approve_bulk(&lead, &items().await, "all of them").await;
    assert_eq!(all.unwrap_err().code, Code::ApprovalBulkRisk);
    office.rules(ApprovalRules { bulk_max_risk: risk, ..ApprovalRules::default() }).await;
    let mut some = items().await;
    some[1].etag = "stale".into();
    let results = office.world.runtime.approve_bulk(&lead, &some, "all of them").await.unwrap();
    assert!(results[0].is_ok());
    assert_eq!(results[1].as_ref().unwrap_err().code, Code::ApprovalStale);
    assert_eq!((office.open(&ids[0]).await, office.open(&ids[1]).await), (false, true));
    // Each is its own entry.
    let given = office.world.owner.tenant.state().approvals.len();
    assert_eq!(given, 1);
    office.verifies().await;
}

/// Approve and revoke at the same time: whichever comes first, what is allowed was allowed before the
/// revocation, and the ledger holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_an_approval_and_a_revocation_that_race_the_ledger_knows_the_first() {
    let mut both = [0; 2];
    for round in 0..12 {
        let office = Arc::new(Office::new().await);
        let lead = office.person("lead", &["leads"]).await;
        let id = office.ask().await;
        let tag = office.tag(&lead, &id).await;
        let approving = {
            let (office, lead, tag) = (Arc::clone(&office), lead.clone(), tag.clone());
            tokio::spawn(async move {
                if round % 2 == 1 {
                    tokio::task::yield_now().await
                }
                office.world.runtime.approve(&lead, &id, &tag, "r").await
            })
        };
        let revoking = {
            let (office, lead) = (Arc::clone(&office), lead.clone());
            tokio::spawn(async move {
                match round % 3 {
                    0 => drop(
                        office
                            .world
                            .runtime
                            .revoke_credential(&office.world.owner, lead.credential.clone(), "lost")
                            .await
                            .unwrap(),
                    ),
                    1 => office.set("lead", &["leads"], |m| m.active = false).await,
                    _ => drop(office.world.runtime.deny(&lead, &id, &tag, "no").await),
                }
            })
        };
        let _ = approving.await.unwrap();
        revoking.await.unwrap();
        office.world.runtime.close_overdue().await.unwrap();
        let entries = office.world.runtime.evidence(&office.world.owner, &id).await.unwrap();
        let allowed = entries.iter().find_map(|(e, event)| match event {
            Event::Decision(r) if r.decision.decision.permits() => Some(e.index),
            _ => None,
        });
        let kinds = [Kind::CredentialRevoked, Kind::EscalationClosed, Kind::MemberSet];
        let (_, leaves) = office.world.export().await.unwrap();
        let revoked =
            leaves.iter().enumerate().skip(usize::try_from(entries[0].0.index).unwrap()).find_map(|(at, leaf)| {
                let leaf = intended_ledger::Leaf::parse(leaf).unwrap();
                kinds.iter().any(|k| k.as_str() == leaf.kind).then_some(at as u64)
            });
        if let (Some(allowed), Some(revoked)) = (allowed, revoked) {
            assert!(allowed < revoked, "round {round}: allowed at {allowed}, revoked at {revoked}");
        }
        both[usize::from(allowed.is_some())] += 1;
        office.verifies().await;
    }
    assert!(both[1] > 0, "{both:?}");
}

/// Two of two at the same moment, and twenty times the same: one decision.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn approvals_at_the_same_time_come_to_one_decision() {
    let office = Arc::new(Office::with("2 of leads").await);
    let mut people = Vec::new();
    for who in ["a", "b", "c", "d"] {
        people.push(office.person(who, &["leads"]).await);
    }
    let id = office.ask().await;
    let tasks: Vec<_> = people
        .iter()
        .cycle()
        .take(20)
        .cloned()
        .map(|by| {
            let office = Arc::clone(&office);
            tokio::spawn(async move { office.approve(&by, &id).await.map_err(|e| e.code) })
        })
        .collect();
    for task in tasks {
        let result = task.await.unwrap();
        assert!(
            matches!(result, Ok(()) | Err(Code::ApprovalStale | Code::ApprovalAgain | Code::ApprovalClosed)),
            "{result:?}"
        );
    }
    for by in &people {
        if office.open(&id).await {
            let _ = office.approve(by, &id).await;
        }
    }
    let entries = office.world.runtime.evidence(&office.world.owner, &id).await.unwrap();
    let decided = entries.iter().filter(|(_, e)| matches!(e, Event::Decision(r) if r.decision.decision.permits()));
    assert_eq!(decided.count(), 1);
    office.verifies().await;
}

/// Who waits is told at once, and not by looking again and again.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_woken_when_it_is_settled() {
    let office = Office::new().await;
    let lead = office.person("lead", &["leads"]).await;
    let id = office.ask().await;
    let settled = office.world.runtime.settled();
    office.approve(&lead, &id).await.unwrap();
    tokio::time::timeout(Duration::from_secs(1), settled).await.expect("it was told");
    let settled = office.world.runtime.settled();
    let other = office.ask().await;
    let tag = office.tag(&lead, &other).await;
    office.world.runtime.deny(&lead, &other, &tag, "no").await.unwrap();
    tokio::time::timeout(Duration::from_secs(1), settled).await.expect("also of a no");
}

/// Thousands wait: a page of them comes at once, and everybody's own are among them.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_requests_is_listed_in_pages_and_hides_nothing() {
    let office = Office::new().await;
    let lead = office.person("lead", &["leads"]).await;
    let count: usize = std::env::var("INTENDED_OPEN").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..count {
        ids.insert(office.ask().await.to_string());
    }
    let runtime = &office.world.runtime;
    let filter = Filter { mine: true, ..Filter::default() };
    // What the housekeeping does each second reads them all.
    runtime.close_overdue().await.unwrap();
    let (mut seen, mut after, mut longest) = (std::collections::BTreeSet::new(), None, Duration::ZERO);
    loop {
        let began = std::time::Instant::now();
        let (rows, next) = runtime.approvals(&lead, &filter, after.as_ref(), 100).await.unwrap();
        longest = longest.max(began.elapsed());
        seen.extend(rows.iter().map(|r| r.open.record.input.id.to_string()));
        let Some(next) = next else { break };
        after = Some(next);
    }
    assert_eq!(seen, ids);
    eprintln!("{count} open: the longest page took {longest:?}");
    if std::env::var("INTENDED_OPEN").is_ok() {
        assert!(longest < Duration::from_millis(50), "{longest:?}");
    }
    let one = Filter { agent: Some("release-agent".into()), ..Filter::default() };
    assert!(runtime.approvals(&lead, &one, None, 100).await.unwrap().0.is_empty());
}
