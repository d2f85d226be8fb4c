//! Approvals (I5), written into a ledger past the runtime by somebody with all keys: what an approval
//! allows is the one intent that waited, once, when somebody else who may says so.

use intended_engine::{State, decide};
use intended_ledger::Leaf;
use intended_model::decision::{ApprovalRef, DecisionRecord, Grant, Outcome};
use intended_model::entry::{
    ApprovalGranted, ApprovalNote, BODY_VERSION, CredentialCreated, EscalationClosed, MemberSet, Role, RoleGrant, Scope,
};
use intended_model::{Code, CredentialId, Digest, Event, MemberId, Name, Timestamp};
use intended_runtime::Submission;
use intended_testkit::{World, environment, refund};
use intended_verify::Check;

use crate::tampering::{Forge, verify};

fn member(text: &str) -> MemberId {
    MemberId::new(text).unwrap()
}
fn credential(text: &str) -> CredentialId {
    CredentialId::new(text).unwrap()
}

/// A ledger in which a refund waits for a support lead, and the state at its end.
struct Waiting {
    forge: Forge,
    state: State,
    escalated: DecisionRecord,
    at: Timestamp,
    request: u64,
}

impl Waiting {
    /// The refund is asked for with this credential.
    async fn new(asked_by: &str) -> Self {
        Self::of(asked_by, &["support-leads"]).await
    }

    /// The lead is in these groups.
    async fn of(asked_by: &str, groups: &[&str]) -> Self {
        let leads: Vec<Name> = groups.iter().map(|g| Name::new(g).unwrap()).collect();
        let world = World::new().await.unwrap();
        for (person, groups) in [("lead", leads), ("clerk", vec![])] {
            let set = MemberSet {
                by: world.owner.credential.clone(),
                groups,
                member: member(person),
                active: true,
                email: None,
                grants: vec![RoleGrant { environments: Vec::new(), expires_at: None, role: Role::Owner, whole: true }],
                name: None,
                v: BODY_VERSION,
            };
            world.control(Event::MemberSet(set)).await.unwrap();
            let created = CredentialCreated {
                by: world.owner.credential.clone(),
                credential: credential(&format!("{person}-key")),
                environments: vec![environment("production").unwrap()],
                expires_at: None,
                hash: Digest::of(person.as_bytes()),
                member: Some(member(person)),
                scopes: vec![Scope::IntentSubmit, Scope::ApprovalDecide],
                whole: false,
                actions: Vec::new(),
                agents: Vec::new(),
                networks: Vec::new(),
                test: false,
                v: BODY_VERSION,
            };
            world.control(Event::CredentialCreated(created)).await.unwrap();
        }
        let asker = CredentialCreated {
            actions: Vec::new(),
            by: world.owner.credential.clone(),
            credential: credential("asker"),
            environments: vec![environment("production").unwrap()],
            expires_at: None,
            hash: Digest::of(b"asker"),
            member: None,
            agents: Vec::new(),
            networks: Vec::new(),
            scopes: vec![Scope::IntentSubmit],
            test: false,
            v: BODY_VERSION,
            whole: false,
        };
        world.control(Event::CredentialCreated(asker)).await.unwrap();
        let mut by = world.runtime.authenticate(&world.owner_key).unwrap();
        by.credential = credential(asked_by);
        let submission = Submission { intent: refund(400, None).unwrap(), idempotency_key: None, audience: None };
        let decided = world.runtime.submit(&by, submission).await.unwrap();
        assert_eq!(decided.record.decision.decision, Outcome::Escalate);
        let leaves = world.export().await.unwrap().1;
        let at = Leaf::parse(leaves.last().unwrap()).unwrap().at;
        let state = State::clone(&world.owner.tenant.state());
        Self { forge: Forge::of(&leaves), state, escalated: decided.record, at, request: decided.index }
    }

    fn approval(&self) -> ApprovalGranted {
        ApprovalGranted {
            approver: member("lead"),
            by: credential("lead-key"),
            environment: environment("production").unwrap(),
            expires_at: self.at.plus_secs(600),
            intent: self.escalated.input.id,
            intent_hash: self.escalated.input.intent_hash,
            policy: self.escalated.decision.policy.as_ref().unwrap().digest,
            reason: "a good customer".into(),
            at: Some(self.at),
            request: Some(self.request),
            v: BODY_VERSION,
        }
    }

    /// Appends the approval; its position.
    fn approve(&mut self, approval: &ApprovalGranted) -> u64 {
        let index = self.forge.0.len() as u64;
        let event = Event::ApprovalGranted(approval.clone());
        self.forge.0.push((self.at, event.kind().as_str().to_owned(), event.to_canonical().unwrap()));
        // The fold refuses some of what is tried here; the state is then as before.
        let _ = self.state.apply(index, &event);
        index
    }

    /// The decision that counts the approval at `entry`, as the engine makes it after `change`.
    fn again(
        &self,
        entry: u64,
        approval: &ApprovalGranted,
        change: impl FnOnce(&mut DecisionRecord),
    ) -> DecisionRecord {
        let mut record = self.escalated.clone();
        record.input.control = self.state.control;
        record.input.approvals = vec![ApprovalRef {
            approver: approval.approver.clone(),
            entry,
            expires_at: approval.expires_at,
            intent_hash: approval.intent_hash,
            policy: approval.policy,
        }];
        record.input.expires_at = self.escalated.decision.obligations.expires_at;
        change(&mut record);
        record.decision = decide(&self.state, &record.input);
        let key = self.state.environments[&record.input.intent.environment].keys.last().unwrap();
        record.grant = record.decision.decision.permits().then(|| Grant {
            aud: "intended".into(),
            exp: record.input.at.as_secs() + 300,
            iat: record.input.at.as_secs(),
            jti: intended_token::base64url(Digest::of(format!("{}", self.forge.0.len()).as_bytes()).as_bytes()).into(),
            kid: key.kid.clone(),
        });
        record
    }

    fn push(&mut self, record: &DecisionRecord) -> u64 {
        let at = self.at.max(record.input.at);
        self.forge.0.push((at, "decision".to_owned(), serde_json::to_string(record).unwrap()));
        self.forge.0.len() as u64 - 1
    }

    #[track_caller]
    fn fails(self, check: Check, index: u64, what: &str) {
        let failure = verify(self.forge.rebuild()).unwrap_err();
        assert_eq!((failure.check, failure.index), (check, Some(index)), "{failure}");
        assert!(failure.what.contains(what), "{failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approved_intent_is_decided_again_and_allowed_once() {
    let mut waiting = Waiting::new("asker").await;
    let approval = waiting.approval();
    let entry = waiting.approve(&approval);
    let allowed = waiting.again(entry, &approval, |_| {});
    assert_eq!(allowed.decision.decision, Outcome::Allow, "{:?}", allowed.decision);
    waiting.push(&allowed);
    let report = verify(Forge(waiting.forge.0.clone()).rebuild()).unwrap();
    assert_eq!((report.decisions, report.allowed), (2, 1));
    // The same approval, a second run.
    let twice = waiting.again(entry, &approval, |_| {});
    let index = waiting.push(&twice);
    waiting.fails(Check::Approval, index, "does not wait");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_allows_no_other_intent_and_nobody_elses() {
    type Change = fn(&mut DecisionRecord);
    let other_arguments: Change = |r| {
        r.input.intent = refund(9999, None).unwrap();
        r.input.intent_hash = r.input.intent.digest().unwrap();
    };
    let other_id: Change = |r| r.input.id = "01900000-0000-7000-8000-000000000000".parse().unwrap();
    let other_requester: Change = |r| r.input.credential = credential("clerk-key");
    let too_late: Change = |r| r.input.at = r.input.at.plus_secs(3600);
    for (change, what) in [
        (other_arguments, "not the intent that waits"),
        (other_id, "does not wait"),
        (other_requester, "not the intent that waits"),
        (too_late, "after its time"),
    ] {
        let mut waiting = Waiting::new("asker").await;
        let approval = waiting.approval();
        let entry = waiting.approve(&approval);
        let record = waiting.again(entry, &approval, change);
        let index = waiting.push(&record);
        waiting.fails(Check::Approval, index, what);
    }
}

/// Approve A, run B: the approval names the intent that waits and carries what another one would need.
#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_of_exactly_what_waits() {
    type Change = fn(&mut ApprovalGranted);
    let changes: [Change; 4] = [
        |a| a.intent_hash = refund(9999, None).unwrap().digest().unwrap(),
        |a| a.policy = Digest::of(b"another"),
        |a| (a.environment, a.by) = (environment("staging").unwrap(), credential("owner")),
        |a| a.intent = "01900000-0000-7000-8000-000000000000".parse().unwrap(),
    ];
    for change in changes {
        let mut waiting = Waiting::new("asker").await;
        let mut approval = waiting.approval();
        change(&mut approval);
        let index = waiting.approve(&approval);
        // The engine does not count it either.
        let again = waiting.again(index, &approval, |_| {});
        assert_eq!(again.decision.decision, Outcome::Escalate, "{approval:?}");
        waiting.fails(Check::Approval, index, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_given_by_the_person_with_their_own_credential_and_not_by_who_asks() {
    for (asked_by, by, approver, check, what) in [
        ("asker", "owner", "lead", Check::Approval, "the approver's own"),
        ("asker", "clerk-key", "lead", Check::Approval, "the approver's own"),
        ("asker", "nobody", "lead", Check::Authority, "not a credential"),
        ("lead-key", "lead-key", "lead", Check::Approval, "nobody approves what they asked for"),
    ] {
        let mut waiting = Waiting::new(asked_by).await;
        let approval = ApprovalGranted { by: credential(by), approver: member(approver), ..waiting.approval() };
        let index = waiting.approve(&approval);
        waiting.fails(check, index, what);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_cannot_count_what_was_never_approved() {
    let waiting = Waiting::new("asker").await;
    let approval = waiting.approval();
    for entry in [3, 10_000] {
        let mut record = waiting.again(entry, &approval, |_| {});
        assert_eq!(record.decision.decision, Outcome::Escalate, "the engine does not count it");
        // And if it is written as if it had.
        record.input.approvals[0].entry = entry;
        let mut forge = Forge(waiting.forge.0.clone());
        let index = forge.0.len() as u64;
        forge.0.push((waiting.at, "decision".to_owned(), serde_json::to_string(&record).unwrap()));
        let failure = verify(forge.rebuild()).unwrap_err();
        assert_eq!((failure.check, failure.index), (Check::Approval, Some(index)), "{failure}");
        assert!(failure.what.contains("does not hold"), "{failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_made_by_who_may() {
    let waiting = Waiting::new("asker").await;
    for by in ["nobody", "clerk-key"] {
        let mut forge = Forge(waiting.forge.0.clone());
        let at = forge.position("member.set", 1);
        forge.edit(at, |b| b["by"] = by.into());
        let failure = verify(forge.rebuild()).unwrap_err();
        assert_eq!((failure.check, failure.index), (Check::Authority, Some(at as u64)), "{failure}");
    }
}

/// What the runtime refuses, the verifier finds: each written past the runtime by somebody with all keys.
#[tokio::test(flavor = "multi_thread")]
async fn an_approval_that_nobody_may_give_is_found() {
    type Change = fn(&mut ApprovalGranted, &Waiting);
    let changes: [(Change, &str); 6] = [
        (|a, _| a.request = Some(a.request.unwrap() - 1), "another request"),
        (|a, _| a.request = None, "another request"),
        (|a, w| a.expires_at = w.at.plus_secs(86_400), "longer than what it approves"),
        (|a, _| a.at = None, "when it was given"),
        (|a, w| a.at = Some(w.at.plus_secs(-60)), "another time"),
        (|a, _| (a.approver, a.by) = (member("clerk"), credential("clerk-key")), "none of the groups"),
    ];
    for (change, what) in changes {
        let mut waiting = Waiting::new("asker").await;
        let mut approval = waiting.approval();
        change(&mut approval, &waiting);
        let at = approval.at;
        let index = waiting.approve(&approval);
        // An entry without `request` is of a time before there were any, and has no time either.
        let what = if approval.request.is_none() && at.is_some() { "another request" } else { what };
        waiting.fails(Check::Approval, index, what);
    }
    // The owner of the agent, who is a member of the group that the registration names.
    let mut waiting = Waiting::of("asker", &["support-leads", "platform"]).await;
    let approval = waiting.approval();
    let index = waiting.approve(&approval);
    waiting.fails(Check::Approval, index, "owns the agent");
    // One person twice is no history.
    let mut waiting = Waiting::new("asker").await;
    let approval = waiting.approval();
    waiting.approve(&approval);
    let event = Event::ApprovalGranted(approval);
    waiting.forge.0.push((waiting.at, event.kind().as_str().to_owned(), event.to_canonical().unwrap()));
    let index = waiting.forge.0.len() as u64 - 1;
    waiting.fails(Check::Approval, index, "has approved it");
}

#[tokio::test(flavor = "multi_thread")]
async fn deciding_again_without_a_reason_or_for_longer_is_found() {
    type Change = fn(&mut DecisionRecord);
    let changes: [(Change, &str); 4] = [
        (|r| r.input.approvals.clear(), "without anything that is new"),
        (|r| r.input.expires_at = Some(r.input.at.plus_secs(86_400)), "until when it waits"),
        (|r| r.input.expires_at = None, "until when it waits"),
        (|r| r.input.audience = Some("another".into()), "for somebody else"),
    ];
    for (change, what) in changes {
        let mut waiting = Waiting::new("asker").await;
        let approval = waiting.approval();
        let entry = waiting.approve(&approval);
        let record = waiting.again(entry, &approval, change);
        let index = waiting.push(&record);
        waiting.fails(Check::Approval, index, what);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_or_a_word_by_somebody_without_a_say_is_found() {
    for (by, note, check, what) in [
        (Some("lead-key"), Some("no"), None, ""),
        (Some("clerk-key"), Some("no"), Some(Check::Approval), "none of the groups"),
        (Some("asker"), Some("no"), Some(Check::Authority), "approval:decide"),
        (Some("nobody"), Some("no"), Some(Check::Authority), "not a credential"),
        (Some("lead-key"), None, Some(Check::Decision), "another reason"),
        (None, Some("no"), Some(Check::Decision), "another reason"),
    ] {
        let mut waiting = Waiting::new("asker").await;
        let event = Event::EscalationClosed(EscalationClosed {
            by: by.map(credential),
            environment: environment("production").unwrap(),
            expires_at: waiting.escalated.decision.obligations.expires_at.unwrap(),
            intent: waiting.escalated.input.id,
            note: note.map(Into::into),
            reason: Code::EscalationDenied,
            v: BODY_VERSION,
        });
        waiting.forge.0.push((waiting.at, event.kind().as_str().to_owned(), event.to_canonical().unwrap()));
        let index = waiting.forge.0.len() as u64 - 1;
        match check {
            Some(check) => waiting.fails(check, index, what),
            None => drop(verify(waiting.forge.rebuild()).unwrap()),
        }
    }
    for (by, answer, good) in
        [("lead-key", false, true), ("asker", true, true), ("clerk-key", true, false), ("asker", false, false)]
    {
        let mut waiting = Waiting::new("asker").await;
        let event = Event::ApprovalNote(ApprovalNote {
            answer,
            by: credential(by),
            environment: environment("production").unwrap(),
            intent: waiting.escalated.input.id,
            text: "why?".into(),
            v: BODY_VERSION,
        });
        waiting.forge.0.push((waiting.at, event.kind().as_str().to_owned(), event.to_canonical().unwrap()));
        assert_eq!(verify(waiting.forge.rebuild()).is_ok(), good, "{by} {answer}");
    }
}
