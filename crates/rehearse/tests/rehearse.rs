//! Tests of packs, simulation and drift, from the outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::sync::Arc;

use intended_engine::{State, Version};
use intended_intents::Catalogue;
use intended_ledger::encode_leaf;
use intended_model::decision::{ApprovalRef, DecisionRecord, Input, Outcome};
use intended_model::entry::*;
use intended_model::{
    Code, CredentialId, Digest, EnvironmentId, Event, Intent, IntentId, MemberId, Name, TenantId, Timestamp,
};
use intended_rehearse::suite::{NOON, is_test_file};
use intended_rehearse::{
    Shares, Simulation, Simulator, Suite, SuiteError, SuiteReport, drift, junit, run, scaffold, simulate,
};

type Files = BTreeMap<String, String>;

fn new_pack() -> Files {
    scaffold::scaffold(&Name::new("shop").unwrap())
}

fn version(files: &Files) -> Arc<Version> {
    let files = files.iter().map(|(n, t)| (n.as_str().into(), t.as_str().into())).collect();
    Arc::new(Version::compile(&files).unwrap())
}

fn suite(files: &Files) -> Result<Suite, SuiteError> {
    Suite::parse(files.iter().map(|(n, t)| (n.as_str(), t.as_str())))
}

fn tested(files: &Files) -> SuiteReport {
    run(&suite(files).unwrap(), &version(files), &|_, _| true).unwrap()
}

fn with(file: &str, from: &str, to: &str) -> Files {
    let mut files = new_pack();
    let text = files.get_mut(file).unwrap();
    assert!(text.contains(from), "{from}");
    *text = text.replace(from, to);
    files
}

#[test]
fn a_new_pack_passes_its_tests_and_covers_all_its_policies() {
    let report = tested(&new_pack());
    let wrong: Vec<_> = report.cases.iter().filter(|c| !c.passed()).map(|c| (c.name(), &c.differs)).collect();
    assert!(report.passed(), "{wrong:?}");
    assert_eq!((report.cases.len(), report.coverage.percent()), (8, 100));
}

#[test]
fn what_no_row_names_is_expected_to_be_denied() {
    let report = tested(&with(
        "support.cedar",
        "principal in Team::\"support\",\n  action == Action::\"orders.get_order\"",
        "principal,\n  action == Action::\"orders.get_order\"",
    ));
    let failed: Vec<_> = report.cases.iter().filter(|c| !c.passed()).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(
        (failed[0].agent.as_str(), failed[0].intent.as_str(), failed[0].expected),
        ("stranger", "look-up", Outcome::Deny)
    );
    assert_eq!(failed[0].differs, ["expected deny, because no row names it; got allow (policy.permit)"]);
    assert_eq!(failed[0].gates.len(), 9, "a failing case has the whole trace");
}

#[test]
fn decision_reason_obligation_and_policies_are_each_held_against_the_row() {
    for (from, to, says) in [
        ("decision: allow }", "decision: deny }", "expected deny, got allow (policy.permit)"),
        (
            "reason: policy.forbid",
            "reason: policy.no_permit",
            "expected the reason policy.no_permit, got policy.forbid",
        ),
        (
            "obligation: 1 of support-leads",
            "obligation: 2 of support-leads",
            "expected the obligation `2 of support-leads`, got `1 of support-leads`",
        ),
        (
            "policies: [support.refund-small]",
            "policies: [support.lookup]",
            "expected the policies support.lookup, got support.refund-small",
        ),
    ] {
        let report = tested(&with("tests/support.yaml", from, to));
        let differs: Vec<&str> = report.cases.iter().flat_map(|c| c.differs.iter().map(String::as_str)).collect();
        assert!(!differs.is_empty() && differs.iter().all(|d| *d == says), "{from}: {differs:?}");
    }
}

#[test]
fn a_stated_session_and_a_stated_time_reach_the_policies() {
    let mut files = new_pack();
    files.insert(
        "more.cedar".into(),
        "@id(\"never.after-restricted\") forbid (principal, action, resource) when { context.session.dataClass >= 3 };\n\
         @id(\"never.at-night\") forbid (principal, action, resource) when { context.time.hour < 6 };\n"
            .into(),
    );
    files.insert(
        "tests/session.yaml".into(),
        "fixtures:\n  sessions:\n    tainted: { allowed: 1, data_class: restricted }\ntests:\n\
         \x20 - name: after restricted data\n    session: tainted\n    agents: [support-agent]\n    intents: [look-up]\n    environments: [production]\n\
         \x20   expect: [{ decision: deny, policies: [never.after-restricted] }]\n\
         \x20 - name: at night\n    now: 2026-11-24T03:00:00Z\n    agents: [support-agent]\n    intents: [look-up]\n    environments: [production]\n\
         \x20   expect: [{ decision: deny, policies: [never.at-night] }]\n"
            .into(),
    );
    let report = tested(&files);
    assert!(report.passed(), "{:?}", report.cases.iter().flat_map(|c| &c.differs).collect::<Vec<_>>());
    assert_eq!(report.coverage.percent(), 100);
}

#[test]
fn a_policy_that_no_case_satisfies_is_named_as_uncovered() {
    let mut files = new_pack();
    files.insert(
        "x.cedar".into(),
        "@id(\"never.used\") permit (principal, action == Action::\"slack.post_message\", resource);".into(),
    );
    let report = tested(&files);
    assert_eq!(report.coverage.uncovered.iter().map(|p| &**p).collect::<Vec<_>>(), ["never.used"]);
    assert_eq!(report.coverage.percent(), 80);
}

#[test]
fn bad_test_files_are_refused_with_their_place() {
    let broken = |text: &str| {
        let mut files = new_pack();
        files.insert("tests/broken.yaml".into(), text.into());
        let error = suite(&files).unwrap_err();
        assert_eq!(error.file, "tests/broken.yaml");
        (error.line, error.message)
    };
    let (line, message) = broken("tests:\n  - name: \"never ends\n");
    assert!(line >= 2, "{line}: {message}");
    let (line, message) = broken("tests:\n  - name: x\n    expects: []\n");
    assert!(line == 3 && message.contains("expects"), "{line}: {message}");
    let (line, message) = broken("tests:\n  - name: x\n    intents: [no-such]\n    expect: []\n");
    assert!(line == 2 && message.contains("no intent `no-such`") && message.contains("look-up"), "{line}: {message}");
    let (line, message) = broken("tests:\n  - name: x\n    expect:\n      - { decision: perhaps }\n");
    assert!(line == 4, "{line}: {message}");
    let (line, message) =
        broken("tests:\n  - name: x\n    expect:\n      - { decision: deny, reason: policy.maybe }\n");
    assert!(line == 4 && message.contains("`policy.maybe` is no reason code"), "{line}: {message}");
    let (_, message) = broken(
        "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\ntests: []\n",
    );
    assert!(!message.is_empty());
    let (_, message) = broken(&format!("tests: {}{}", "[".repeat(20_000), "]".repeat(20_000)));
    assert!(!message.is_empty());
    let (_, message) = broken("tests:\n  - name: x\n    now: yesterday\n    expect: []\n");
    assert!(message.contains("`yesterday` is not a time"), "{message}");
    assert!(is_test_file("tests/a.yaml") && !is_test_file("tests/sub/a.yaml") && !is_test_file("a.yaml"));
}

#[test]
fn too_many_cases_are_refused_before_any_is_decided() {
    let mut files = new_pack();
    let names: Vec<String> = (0..400).map(|i| format!("i{i}")).collect();
    let mut text = "fixtures:\n  intents:\n".to_owned();
    for name in &names {
        text.push_str(&format!("    {name}: {{ action: orders.get_order, resource: order/1 }}\n"));
    }
    text.push_str("  agents:\n");
    (0..400).for_each(|i| text.push_str(&format!("    a{i}: {{}}\n")));
    text.push_str("tests:\n  - name: all\n    environments: [production]\n    expect: []\n");
    files.insert("tests/large.yaml".into(), text);
    assert!(suite(&files).unwrap_err().message.contains("more than 100000 cases"));
}

#[test]
fn junit_names_each_case_and_escapes_what_it_holds() {
    let report = tested(&with("tests/support.yaml", "name: what the support agent may do", "name: \"<&\\\"\\e>\""));
    let xml = junit::junit("shop", &report);
    assert!(xml.starts_with(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"shop\" tests=\"8\" failures=\"0\">"
    ));
    assert!(xml.contains("&lt;&amp;&quot;\u{fffd}&gt;: support-agent → look-up in production"), "{xml}");
    let failing = tested(&with("tests/support.yaml", "decision: allow }", "decision: deny }"));
    let xml = junit::junit("shop", &failing);
    assert!(
        xml.contains("failures=\"1\"")
            && xml.contains("<failure message=\"expected deny, got allow (policy.permit)\">emergency  pass"),
        "{xml}"
    );
}

// Simulation.

fn by() -> CredentialId {
    CredentialId::new("owner").unwrap()
}
fn production() -> EnvironmentId {
    EnvironmentId::new("production").unwrap()
}

/// A ledger: set up with the new pack, then one decision a minute.
struct Ledger {
    state: State,
    leaves: Vec<Vec<u8>>,
}

impl Ledger {
    fn new(files: &Files) -> Self {
        let genesis = Event::TenantCreated(TenantCreated {
            catalogue: Catalogue::builtin().digest(),
            tenant: TenantId::new("acme").unwrap(),
            vkey: "k".into(),
            v: BODY_VERSION,
        });
        let mut ledger = Self { state: State::genesis(&genesis).unwrap(), leaves: Vec::new() };
        ledger.push(&genesis, NOON);
        let agent = |id: &str, team: &str| {
            Event::AgentSet(AgentSet {
                agent: id.into(),
                by: by(),
                environments: vec![production()],
                kind: "agent".into(),
                owner: "o".into(),
                state: AgentState::Active,
                teams: vec![Name::new(team).unwrap()],
                trust: 70,
                categories: Vec::new(),
                purpose: Box::default(),
                tools: Vec::new(),
                workflow: Vec::new(),
                v: BODY_VERSION,
            })
        };
        let capability = |id: &str, kind: &str| {
            Event::CapabilitySet(CapabilitySet {
                active: true,
                by: by(),
                capability: Name::new(id).unwrap(),
                criticality: Criticality::Medium,
                data_class: intended_model::decision::DataClass::Internal,
                environment: None,
                owner: "o".into(),
                pattern: "*".into(),
                resource_type: kind.into(),
                v: BODY_VERSION,
            })
        };
        let environment = Event::EnvironmentSet(EnvironmentSet {
            by: by(),
            environment: production(),
            settings: Settings::default(),
            tier: Tier::Production,
            v: BODY_VERSION,
        });
        for event in [
            environment,
            agent("support-agent", "support"),
            capability("orders", "order"),
            capability("charges", "charge"),
        ] {
            ledger.control(&event);
        }
        ledger.deploy(files);
        ledger
    }

    fn push(&mut self, event: &Event, at: Timestamp) {
        let body = event.to_canonical().unwrap();
        let index = self.leaves.len() as u64;
        self.leaves.push(encode_leaf(&TenantId::new("acme").unwrap(), index, at, event.kind().as_str(), &body));
    }

    fn control(&mut self, event: &Event) {
        self.state.apply(self.leaves.len() as u64, event).unwrap();
        self.push(event, NOON);
    }

    fn deploy(&mut self, files: &Files) -> Digest {
        let version = version(files);
        if !self.state.versions.contains_key(&version.digest) {
            self.control(&Event::PolicyPublished(PolicyPublished {
                by: by(),
                digest: version.digest,
                files: version.files.clone(),
                pack: version.pack.clone(),
                version: version.version.clone(),
                v: BODY_VERSION,
            }));
        }
        let replaces = self.state.environments[&production()].deployed.as_ref().map(|v| v.digest);
        self.control(&Event::PolicyDeployed(PolicyDeployed {
            by: by(),
            cause: DeployCause::Deploy,
            digest: version.digest,
            draft: None,
            environment: production(),
            pack: version.pack.clone(),
            reason: None,
            replaces,
            simulation: None,
            v: BODY_VERSION,
        }));
        version.digest
    }

    fn decide(&mut self, tool: &str, resource: &str, amount: Option<u32>, minute: i64) -> Outcome {
        let input = self.input(tool, resource, amount, NOON.plus_secs(60 * minute));
        self.record(input)
    }

    fn input(&self, tool: &str, resource: &str, amount: Option<u32>, at: Timestamp) -> Input {
        let arguments = amount.map_or(String::new(), |a| format!(r#","properties":{{"amount":{a}}}"#));
        let text = format!(
            r#"{{"action":{{"name":"{tool}"{arguments}}},"resource":{{"type":"{resource}","id":"1"}},"subject":{{"type":"agent","id":"support-agent"}}}}"#
        );
        let value = intended_model::json::parse(text.as_bytes()).unwrap();
        let intent = Intent::from_value(&value, Some(&production()), false).unwrap();
        intended_engine::expect::input(&self.state, intent, by(), at)
    }

    fn record(&mut self, input: Input) -> Outcome {
        let at = input.at;
        let decision = intended_engine::decide(&self.state, &input);
        let outcome = decision.decision;
        self.push(&Event::Decision(DecisionRecord { decision, grant: None, input, v: BODY_VERSION }), at);
        outcome
    }

    /// A refund that escalates; a lead approves it, and it is decided again.
    fn decide_with_approval(&mut self, minute: i64) -> Outcome {
        let lea = MemberId::new("lea").unwrap();
        self.control(&Event::MemberSet(MemberSet {
            active: true,
            by: by(),
            groups: vec![Name::new("support-leads").unwrap()],
            member: lea.clone(),
            email: None,
            grants: vec![RoleGrant { environments: Vec::new(), expires_at: None, role: Role::Approver, whole: true }],
            name: None,
            v: BODY_VERSION,
        }));
        let mut input = self.input("stripe.create_refund", "charge", Some(4_000), NOON.plus_secs(60 * minute));
        let request = self.leaves.len() as u64;
        assert_eq!(self.record(input.clone()), Outcome::Escalate);
        let policy = self.state.environments[&production()].deployed.as_ref().unwrap().digest;
        let (entry, expires_at) = (self.leaves.len() as u64, input.at.plus_secs(600));
        self.control(&Event::ApprovalGranted(ApprovalGranted {
            approver: lea.clone(),
            at: Some(input.at),
            by: CredentialId::of_member(&lea).unwrap(),
            environment: production(),
            expires_at,
            intent: input.id,
            intent_hash: input.intent_hash,
            policy,
            reason: "r".into(),
            request: Some(request),
            v: BODY_VERSION,
        }));
        input.approvals =
            vec![ApprovalRef { approver: lea, entry, expires_at, intent_hash: input.intent_hash, policy }];
        input.expires_at = Some(expires_at);
        self.record(input)
    }

    fn simulate(&self, files: &Files, minutes: std::ops::Range<i64>) -> Simulation {
        self.simulate_as(files, minutes, |simulator| simulator)
    }

    fn simulate_as(
        &self,
        files: &Files,
        minutes: std::ops::Range<i64>,
        with: impl FnOnce(Simulator) -> Simulator,
    ) -> Simulation {
        let (from, to) = (NOON.plus_secs(60 * minutes.start), NOON.plus_secs(60 * minutes.end));
        let mut simulator = with(Simulator::new(production(), version(files), from, to));
        self.leaves.iter().for_each(|leaf| simulator.entry(leaf).unwrap());
        simulator.finish()
    }
}

#[test]
fn the_version_that_decided_changes_nothing() {
    let mut ledger = Ledger::new(&new_pack());
    for minute in 0..10 {
        ledger.decide("orders.get_order", "order", None, minute);
        ledger.decide("stripe.create_refund", "charge", Some(40 * u32::try_from(minute).unwrap()), minute);
    }
    let same = ledger.simulate(&new_pack(), 0..10);
    assert_eq!(
        (same.summary.decisions, same.summary.replayed, same.summary.changed, same.other_reason),
        (20, 20, 0, 0)
    );
    assert_eq!((same.coverage_percent(), same.summary.blast_permille, same.summary.matched), (100, 0, 20));
}

#[test]
fn changes_are_counted_by_what_they_are_and_listed() {
    let mut ledger = Ledger::new(&new_pack());
    for minute in 0..10 {
        ledger.decide("orders.get_order", "order", None, minute);
        ledger.decide("stripe.create_refund", "charge", Some(50), minute);
    }
    assert_eq!(ledger.decide("slack.post_message", "order", None, 10), Outcome::Deny);
    // Refunds above 20 now take a lead, and messages are permitted.
    let mut tried = with("support.cedar", "decimal(\"100.0\")", "decimal(\"20.0\")");
    tried.insert(
        "chat.cedar".into(),
        "@id(\"chat\") permit (principal, action == Action::\"slack.post_message\", resource);".into(),
    );
    let found = ledger.simulate(&tried, 0..60);
    assert_eq!(
        found.transitions,
        BTreeMap::from([("allow → escalate".to_owned(), 10), ("deny → allow".to_owned(), 1)])
    );
    assert_eq!(
        (found.summary.changed, found.summary.blast_permille, found.summary.new_escalations_per_hour),
        (11, 524, 10)
    );
    assert_eq!(
        (&*found.by_action[0].name, found.by_action[0].changed, found.by_action[0].replayed),
        ("stripe.create_refund", 10, 10)
    );
    assert_eq!(&*found.by_agent[0].name, "support-agent");
    let change = &found.changes[0];
    assert_eq!(
        (change.before, change.after, change.after_reason),
        (Outcome::Allow, Outcome::Escalate, Code::PolicyEscalate)
    );
    assert_eq!(
        (&*change.before_policies[0], &*change.after_policies[0]),
        ("support.refund-small", "support.refund-large")
    );
}

/// The scaffold's refunds by a lead, with something else that no decision here meets.
fn with_another_policy(mut files: Files) -> Files {
    files.insert(
        "chat.cedar".into(),
        "@id(\"chat\") permit (principal, action == Action::\"slack.post_message\", resource);".into(),
    );
    files
}

#[test]
fn what_was_approved_stays_approved_under_another_version() {
    let mut ledger = Ledger::new(&new_pack());
    for minute in [0, 1] {
        assert_eq!(ledger.decide_with_approval(minute), Outcome::Allow);
    }
    let other = with_another_policy(new_pack());
    let found = ledger.simulate(&other, 0..5);
    assert_eq!((found.summary.replayed, found.summary.changed, found.other_reason), (4, 0, 0), "{:?}", found.changes);
    // Also against another version than the recorded one, which has the same approvals.
    let found = ledger.simulate_as(&other, 0..5, |s| s.against(version(&new_pack())));
    assert_eq!((found.summary.replayed, found.summary.changed), (4, 0), "{:?}", found.changes);
    let found = ledger.simulate_as(&new_pack(), 0..5, |s| s.against(version(&other)));
    assert_eq!((found.summary.replayed, found.summary.changed), (4, 0), "{:?}", found.changes);
    // But one approval is not two.
    let two = with("support.cedar", "1 of support-leads", "2 of support-leads");
    let found = ledger.simulate(&two, 0..5);
    assert_eq!((found.transitions["allow → escalate"], found.summary.new_escalations_per_hour), (2, 2));
}

#[test]
fn an_approval_leaves_the_state_around_it_as_it_is_and_other_entries_do_not() {
    let mut ledger = Ledger::new(&new_pack());
    assert_eq!(ledger.decide_with_approval(0), Outcome::Allow);
    ledger.control(&Event::MemberSet(MemberSet {
        active: false,
        by: by(),
        groups: vec![],
        member: MemberId::new("lea").unwrap(),
        email: None,
        grants: Vec::new(),
        name: None,
        v: BODY_VERSION,
    }));
    let leaf = intended_ledger::Leaf::parse(&ledger.leaves[ledger.leaves.len() - 2]).unwrap();
    let again: DecisionRecord = serde_json::from_str(leaf.body).unwrap();
    assert_eq!(ledger.record(again.input), Outcome::Escalate, "who approved is gone");
    let found = ledger.simulate(&with_another_policy(new_pack()), 0..5);
    assert_eq!((found.summary.replayed, found.summary.changed), (3, 0), "{:?}", found.changes);
}

#[test]
fn a_weaker_obligation_is_a_change_that_counts_and_is_listed() {
    let mut ledger = Ledger::new(&with("support.cedar", "1 of support-leads", "2 of support-leads"));
    assert_eq!(ledger.decide("stripe.create_refund", "charge", Some(4_000), 0), Outcome::Escalate);
    ledger.decide("orders.get_order", "order", None, 1);
    let found = ledger.simulate(&with("support.cedar", "1 of support-leads", "1 of interns"), 0..5);
    assert_eq!(found.transitions, BTreeMap::from([("escalate → escalate (other obligation)".to_owned(), 1)]));
    assert_eq!(
        (found.summary.changed, found.summary.blast_permille, found.summary.new_escalations_per_hour),
        (1, 500, 0),
        "no new escalation"
    );
    assert_eq!(
        (&*found.changes[0].before_obligation, &*found.changes[0].after_obligation),
        ("2 of support-leads", "1 of interns")
    );
    assert_eq!((found.by_action[0].changed, found.other_reason), (1, 0));
}

#[test]
fn other_arguments_are_another_obligation() {
    let modified = |amount: &str| {
        let mut files = with("support.cedar", "@id(\"support.refund-small\")", "@id(\"unused\")");
        let text = files.get_mut("support.cedar").unwrap();
        *text = text.replace("@id(\"unused\")", &format!("@id(\"m\") @modify(\"set amount = {amount}\")"));
        files
    };
    let mut ledger = Ledger::new(&modified("10"));
    assert_eq!(ledger.decide("stripe.create_refund", "charge", Some(40), 0), Outcome::Modify);
    assert_eq!(ledger.simulate(&modified("10"), 0..5).summary.changed, 0);
    let found = ledger.simulate(&modified("30"), 0..5);
    assert_eq!(found.transitions, BTreeMap::from([("modify → modify (other obligation)".to_owned(), 1)]));
    assert_eq!((&*found.changes[0].before_obligation, &*found.changes[0].after_obligation), ("amount=10", "amount=30"));
}

#[test]
fn escalations_are_counted_in_the_busiest_hour() {
    let mut ledger = Ledger::new(&new_pack());
    // A day with one refund an hour, and ten within an hour that begins at half past eight.
    let burst = 510..520;
    for minute in 0..1_440 {
        if minute % 60 == 0 || burst.contains(&minute) {
            ledger.decide("stripe.create_refund", "charge", Some(50), minute);
        }
    }
    let tried = with("support.cedar", "decimal(\"100.0\")", "decimal(\"20.0\")");
    let found = ledger.simulate(&tried, 0..1_440);
    assert_eq!((found.summary.changed, found.summary.new_escalations_per_hour), (34, 11));
    assert_eq!(ledger.simulate(&tried, 0..300).summary.new_escalations_per_hour, 1);
}

#[test]
fn breakdowns_are_bounded_and_what_they_leave_out_is_summed_up() {
    const NAMES: u32 = 10_300;
    let mut ledger = Ledger::new(&new_pack());
    let mut input = ledger.input("stripe.create_refund", "charge", Some(50), NOON);
    let decision = intended_engine::decide(&ledger.state, &input);
    for id in 0..NAMES {
        input.intent.resource.id = id.to_string().into();
        let (decision, input) = (decision.clone(), input.clone());
        ledger.push(&Event::Decision(DecisionRecord { decision, grant: None, input, v: BODY_VERSION }), NOON);
    }
    let found = ledger.simulate(&with("support.cedar", "decimal(\"100.0\")", "decimal(\"20.0\")"), 0..5);
    assert_eq!(found.summary.changed, u64::from(NAMES));
    let (last, rows) = found.by_resource.split_last().unwrap();
    assert_eq!((&*last.name, rows.len()), (simulate::OTHERS, simulate::MAX_ROWS));
    assert_eq!(found.by_resource.iter().map(|r| r.changed).sum::<u64>(), u64::from(NAMES), "none is lost");
    assert_eq!((found.by_agent.len(), found.by_agent[0].changed), (1, u64::from(NAMES)));
    // All are counted; the first are listed, and any can be opened by its intent.
    assert_eq!((found.changes.len(), found.changes_omitted), (simulate::MAX_CHANGES, 300));
}

#[test]
fn one_intent_alone_can_be_looked_at() {
    let mut ledger = Ledger::new(&new_pack());
    for minute in 0..5 {
        ledger.decide("stripe.create_refund", "charge", Some(50), minute);
    }
    let tried = with("support.cedar", "decimal(\"100.0\")", "decimal(\"20.0\")");
    let all = ledger.simulate(&tried, 0..10);
    let one = ledger.simulate_as(&tried, 0..10, |s| s.only(all.changes[3].intent));
    assert_eq!((one.summary.decisions, one.summary.changed), (1, 1));
    assert_eq!(one.changes, all.changes[3..4]);
    assert_eq!(one.summary.from_index, all.changes[3].index);
    let none = ledger.simulate_as(&tried, 0..10, |s| s.only(IntentId::from_bytes([0; 16])));
    assert_eq!((none.summary.decisions, none.coverage_percent()), (0, 100));
}

#[test]
fn an_unreadable_record_counts_where_it_is_or_may_be() {
    let mut ledger = Ledger::new(&new_pack());
    let mut unreadable = |from: &str, to: &str| {
        ledger.decide("orders.get_order", "order", None, 1);
        let text = String::from_utf8(ledger.leaves.pop().unwrap()).unwrap();
        assert!(text.contains(from), "{from} in {text}");
        let text = text.replace("\"decision\":\"allow\"", "\"decision\":\"maybe\"").replace(from, to);
        ledger.leaves.push(text.into_bytes());
    };
    unreadable("\"environment\":\"production\"", "\"environment\":\"staging\"");
    unreadable("\"environment\":\"production\"", "\"environment\":\"production\"");
    unreadable("\"environment\":\"production\"", "\"habitat\":\"staging\"");
    let found = ledger.simulate(&new_pack(), 0..5);
    assert_eq!(found.skipped, BTreeMap::from([("unreadable", 2)]));
    let last = ledger.leaves.len() as u64;
    assert_eq!((found.summary.decisions, found.summary.from_index, found.summary.to_index), (2, last - 2, last));
}

#[test]
fn only_the_window_counts_but_what_came_before_it_is_folded() {
    let mut ledger = Ledger::new(&new_pack());
    for minute in 0..10 {
        ledger.decide("orders.get_order", "order", None, minute);
    }
    assert_eq!(ledger.simulate(&new_pack(), 3..7).summary.decisions, 4);
    assert_eq!(
        ledger.simulate(&new_pack(), 20..30).summary,
        SimulationSummary { window_secs: 600, ..SimulationSummary::default() }
    );
}

#[test]
fn a_version_deployed_within_the_window_does_not_end_the_simulation() {
    let mut ledger = Ledger::new(&new_pack());
    ledger.decide("stripe.create_refund", "charge", Some(50), 1);
    let stricter = with("support.cedar", "decimal(\"100.0\")", "decimal(\"20.0\")");
    ledger.deploy(&stricter);
    assert_eq!(ledger.decide("stripe.create_refund", "charge", Some(50), 2), Outcome::Escalate);
    let found = ledger.simulate(&new_pack(), 0..5);
    assert_eq!(found.transitions, BTreeMap::from([("escalate → allow".to_owned(), 1)]));
    assert_eq!(found.recorded_by.len(), 2);
}

#[test]
fn what_cannot_be_replayed_is_counted_with_its_reason() {
    let mut ledger = Ledger::new(&new_pack());
    ledger.decide("orders.get_order", "order", None, 1);
    let text = String::from_utf8(ledger.leaves.pop().unwrap()).unwrap();
    ledger.leaves.push(text.replace("\"procedure\":3", "\"procedure\":99").into_bytes());
    ledger.decide("orders.get_order", "order", None, 2);
    let text = String::from_utf8(ledger.leaves.pop().unwrap()).unwrap();
    ledger.leaves.push(text.replace("\"decision\":\"allow\"", "\"decision\":\"maybe\"").into_bytes());
    let found = ledger.simulate(&new_pack(), 0..5);
    assert_eq!((found.summary.decisions, found.summary.replayed, found.coverage_percent()), (2, 0, 0));
    assert_eq!(found.skipped, BTreeMap::from([("procedure", 1), ("unreadable", 1)]));
}

#[test]
fn two_windows_are_compared_by_their_mixture() {
    let record = |ledger: &Ledger, at: usize| -> DecisionRecord {
        let leaf = intended_ledger::Leaf::parse(&ledger.leaves[at]).unwrap();
        serde_json::from_str(leaf.body).unwrap()
    };
    let mut ledger = Ledger::new(&new_pack());
    let start = ledger.leaves.len();
    ledger.decide("orders.get_order", "order", None, 1);
    ledger.decide("stripe.create_refund", "charge", Some(4_000), 2);
    let (look_up, refund) = (record(&ledger, start), record(&ledger, start + 1));
    let (mut a, mut b) = (Shares::default(), Shares::default());
    (0..3).for_each(|_| a.add(&look_up));
    a.add(&refund);
    (0..6).for_each(|_| b.add(&look_up));
    (0..2).for_each(|_| b.add(&refund));
    assert_eq!(drift(&a, &b).distance_permille, 0, "twice as many of the same mixture");
    (0..8).for_each(|_| b.add(&refund));
    let found = drift(&a, &b);
    assert_eq!((found.before, found.after, found.distance_permille), (4, 16, 375));
    assert_eq!(
        (&*found.rows[0].action, found.rows[0].before_permille, found.rows[0].after_permille),
        ("orders.get_order", 750, 375)
    );
    assert_eq!(drift(&Shares::default(), &b).distance_permille, 1000);
    // Names are the callers': beyond a bound they are counted as one.
    let mut many = Shares::default();
    let mut record = look_up;
    for id in 0..drift::MAX_KINDS + 500 {
        record.input.intent.subject.id = id.to_string().into();
        many.add(&record);
    }
    let found = drift(&Shares::default(), &many);
    assert_eq!((found.after, found.appeared), (drift::MAX_KINDS as u64 + 500, drift::MAX_KINDS + 1));
    assert_eq!((&*found.rows[0].agent, found.rows[0].after), (simulate::OTHERS, 500));
}
