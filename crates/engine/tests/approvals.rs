//! A second model of who approves what: naive, and obviously right. It keeps what happened as a list and
//! looks through it for every question; the engine must come to the same, for any history.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use intended_engine::{State, Version, approvals, decide};
use intended_intents::Catalogue;
use intended_model::decision::{DataClass, Input, Outcome, PROCEDURE};
use intended_model::entry::{
    AgentSet, AgentState, ApprovalGranted, ApprovalRules, ApprovalWithdrawn, BODY_VERSION, CapabilitySet,
    CredentialCreated, CredentialRevoked, Criticality, DeployCause, EnvironmentSet, MemberSet, PolicyDeployed,
    PolicyPublished, Role, RoleGrant, Scope, Settings, TenantCreated, Tier,
};
use intended_model::{
    Code, CredentialId, Digest, EnvironmentId, Event, Intent, IntentId, MemberId, Name, TenantId, Timestamp,
};
use proptest::prelude::*;

const GROUPS: [&str; 3] = ["ga", "gb", "gc"];
/// Each asks for the groups by number: requirements of steps of (count, group).
type Spec = &'static [(&'static [&'static [(u32, usize)]], bool)];
const PACKS: [(&str, Spec); 5] = [
    ("1 of ga", &[(&[&[(1, 0)]], false)]),
    ("2 of ga", &[(&[&[(2, 0)]], false)]),
    ("1 of ga then 1 of gb or 2 of gc", &[(&[&[(1, 0)], &[(1, 1), (2, 2)]], false)]),
    ("1 of ga; 1 of gb", &[(&[&[(1, 0)]], false), (&[&[(1, 1)]], false)]),
    ("1 of ga then 1 of ga or 1 of gb except owner", &[(&[&[(1, 0)], &[(1, 0), (1, 1)]], true)]),
];
const PEOPLE: usize = 5;
/// Whose each key is, and what it was made with. The last two are nobody's.
const KEYS: [(&str, Option<usize>, &str); 9] = [
    ("k0", Some(0), "boot"),
    ("k1", Some(1), "boot"),
    ("k2", Some(2), "boot"),
    ("k3", Some(3), "boot"),
    ("k4", Some(4), "boot"),
    ("k2-by-k0", Some(2), "k0"),
    ("k1-by-svc", Some(1), "svc"),
    ("svc", None, "boot"),
    ("svc-by-k0", None, "k0"),
];
const OWNERS: [&str; 4] = ["nobody", "m0", "M1@x.example", "gc"];

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}
fn credential(text: &str) -> CredentialId {
    CredentialId::new(text).unwrap()
}
fn member(n: usize) -> MemberId {
    MemberId::new(&format!("m{n}")).unwrap()
}
/// The third and the fourth are one person.
fn email(n: usize) -> String {
    format!("m{}@x.example", if n == 4 { 3 } else { n })
}
fn environment() -> EnvironmentId {
    EnvironmentId::new("e").unwrap()
}
fn at() -> Timestamp {
    Timestamp::from_millis(1_795_521_600_000)
}

#[derive(Debug, Clone)]
enum Happened {
    Member { who: usize, groups: [bool; 3], active: bool, approver: bool },
    Revoked { key: usize },
    Approved { key: usize, hash: bool },
    Withdrawn { key: usize },
}

fn happened() -> impl Strategy<Value = Happened> {
    let often = || prop_oneof![4 => Just(true), 1 => Just(false)];
    prop_oneof![
        2 => (0..PEOPLE, any::<[bool; 3]>(), often(), often())
            .prop_map(|(who, groups, active, approver)| Happened::Member { who, groups, active, approver }),
        1 => (0..KEYS.len()).prop_map(|key| Happened::Revoked { key }),
        6 => (0..KEYS.len(), prop_oneof![9 => Just(true), 1 => Just(false)])
            .prop_map(|(key, hash)| Happened::Approved { key, hash }),
        1 => (0..7_usize).prop_map(|key| Happened::Withdrawn { key }),
    ]
}

#[derive(Debug, Clone)]
struct Case {
    before: Vec<([bool; 3], bool)>,
    after: Vec<Happened>,
    /// Which of the last keys are made only after the request.
    late: [bool; 2],
    pack: usize,
    requester: usize,
    acts_for: Option<usize>,
    owner: usize,
    owner_may: bool,
}

fn case() -> impl Strategy<Value = Case> {
    let groups = prop_oneof![3 => any::<[bool; 3]>(), 2 => Just([true; 3])];
    let started = proptest::collection::vec((groups, prop_oneof![9 => Just(true), 1 => Just(false)]), PEOPLE);
    let requester = prop_oneof![6 => Just(7_usize), 1 => Just(0), 1 => Just(8), 1 => Just(3)];
    let what = (0..PACKS.len(), requester, proptest::option::weighted(0.2, 0..PEOPLE), 0..OWNERS.len(), any::<bool>());
    (started, proptest::collection::vec(happened(), 0..14), any::<[bool; 2]>(), what).prop_map(
        |(before, after, late, (pack, requester, acts_for, owner, owner_may))| Case {
            before,
            after,
            late,
            pack,
            requester,
            acts_for,
            owner,
            owner_may,
        },
    )
}

/// The naive model: who is there, and what they said.
struct Naive<'c> {
    case: &'c Case,
    /// In order; the request stands between `before` and the rest.
    done: Vec<Happened>,
}

impl Naive<'_> {
    fn person(n: usize) -> usize {
        if n == 4 { 3 } else { n }
    }
    /// Everybody who is behind a key, also behind what it was made with; a key that is nobody's is itself.
    fn behind(key: usize) -> BTreeSet<String> {
        let mut out = BTreeSet::new();
        let mut name = KEYS[key].0;
        while let Some((n, whose, by)) = KEYS.iter().find(|k| k.0 == name) {
            out.insert(whose.map_or_else(|| (*n).to_owned(), |p| format!("person {}", Self::person(p))));
            name = by;
        }
        out
    }
    fn one_person(a: usize, b: usize) -> bool {
        a == b || !Self::behind(a).is_disjoint(&Self::behind(b))
    }
    fn sets(&self, who: usize) -> Vec<(bool, [bool; 3], bool, bool)> {
        let first = self.case.before[who];
        let later = self.done.iter().filter_map(|h| match h {
            Happened::Member { who: w, groups, active, approver } if *w == who => {
                Some((false, *groups, *active, *approver))
            }
            _ => None,
        });
        std::iter::once((true, first.0, true, first.1)).chain(later).collect()
    }
    fn active(&self, who: usize) -> bool {
        self.sets(who).last().unwrap().2
    }
    /// With the role now, and without a break since before the request.
    fn approver(&self, who: usize) -> bool {
        self.sets(who).iter().all(|s| s.2 && s.3)
    }
    /// In the group now, and without a break since before the request.
    fn belongs(&self, who: usize, group: usize) -> bool {
        let sets = self.sets(who);
        // A break is a time out of the group, or not active before the last change.
        sets.iter().all(|s| s.1[group]) && sets[..sets.len() - 1].iter().all(|s| s.2)
    }
    fn revoked(&self, key: usize) -> bool {
        self.done.iter().any(|h| matches!(h, Happened::Revoked { key: k } if *k == key))
    }
    fn is_late(&self, key: usize) -> bool {
        (5..7).contains(&key) && self.case.late[key - 5]
    }
    /// Approvals that stand: (key, whether of this intent).
    fn standing(&self) -> Vec<(usize, bool)> {
        let mut out = Vec::new();
        for h in &self.done {
            match h {
                Happened::Approved { key, hash } => out.push((*key, *hash)),
                Happened::Withdrawn { key } => out.retain(|(k, _): &(usize, bool)| KEYS[*k].1 != KEYS[*key].1),
                _ => {}
            }
        }
        out
    }
    fn follows(&self, next: &Happened) -> bool {
        match next {
            Happened::Member { .. } | Happened::Revoked { .. } => true,
            Happened::Withdrawn { key } => self.standing().iter().any(|(k, _)| KEYS[*k].1 == KEYS[*key].1),
            Happened::Approved { key, .. } => {
                let Some(who) = KEYS[*key].1 else { return false };
                let again = self.standing().iter().any(|(k, _)| Self::one_person(*k, *key));
                self.active(who) && !self.revoked(*key) && !self.is_late(*key) && !again
            }
        }
    }
    fn owns(&self, who: usize) -> bool {
        match self.case.owner {
            1 => who == 0,
            2 => who == 1,
            // When it was asked for, or ever since.
            3 => self.sets(who).iter().any(|s| s.1[2]),
            _ => false,
        }
    }
    /// Whether this person, with this key, is somebody else.
    fn else_(&self, key: usize) -> bool {
        let who = KEYS[key].1.unwrap();
        let asks = Self::one_person(key, self.case.requester)
            || Self::behind(self.case.requester).contains(&format!("person {}", Self::person(who)));
        let acts_for = self.case.acts_for.is_some_and(|m| Self::person(m) == Self::person(who));
        !asks && !acts_for && (self.case.owner_may || !self.owns(who))
    }
    fn met(&self) -> bool {
        PACKS[self.case.pack].1.iter().all(|(steps, except_owner)| {
            let mut said: Vec<usize> = Vec::new();
            for (key, hash) in self.standing() {
                let who = KEYS[key].1.unwrap();
                let good = hash && self.else_(key) && self.approver(who) && !self.revoked(key);
                if good && !(*except_owner && self.owns(who)) {
                    said.push(who);
                }
            }
            let mut said = said.into_iter();
            // Each step takes whom it asks, until it is met; who comes too early is not heard.
            steps.iter().all(|step| {
                let mut of_step: Vec<usize> = Vec::new();
                loop {
                    let enough = |(count, group): &(u32, usize)| {
                        of_step.iter().filter(|w| self.belongs(**w, *group)).count() >= *count as usize
                    };
                    if step.iter().any(enough) {
                        return true;
                    }
                    match said.next() {
                        Some(who) if step.iter().any(|(_, group)| self.belongs(who, *group)) => of_step.push(who),
                        Some(_) => {}
                        None => return false,
                    }
                }
            })
        })
    }
}

fn set(who: usize, groups: [bool; 3], active: bool, approver: bool) -> Event {
    let groups = GROUPS.iter().zip(groups).filter(|(_, on)| *on).map(|(g, _)| name(g)).collect();
    let role = RoleGrant { environments: vec![environment()], expires_at: None, role: Role::Approver, whole: false };
    let grants = if approver { vec![role] } else { vec![] };
    let (member, email) = (member(who), Some(email(who).into()));
    Event::MemberSet(MemberSet {
        active,
        by: credential("boot"),
        email,
        grants,
        groups,
        member,
        name: None,
        v: BODY_VERSION,
    })
}

fn key(n: usize) -> Event {
    let (id, whose, by) = KEYS[n];
    Event::CredentialCreated(CredentialCreated {
        actions: vec![],
        agents: vec![],
        by: credential(by),
        credential: credential(id),
        environments: vec![environment()],
        expires_at: None,
        hash: Digest::of(id.as_bytes()),
        member: whose.map(member),
        networks: vec![],
        scopes: vec![Scope::IntentSubmit, Scope::ApprovalDecide],
        test: false,
        v: BODY_VERSION,
        whole: false,
    })
}

fn pack(n: usize) -> (std::collections::BTreeMap<Box<str>, Box<str>>, Digest) {
    let text = PACKS[n].0;
    let cedar = format!("@id(\"ask\") @escalate(\"{text}\") permit (principal, action, resource);");
    let files: std::collections::BTreeMap<Box<str>, Box<str>> =
        [("pack.toml".into(), "name = \"p\"\nversion = \"1\"\n".into()), ("p.cedar".into(), cedar.into())].into();
    let source = files.iter().map(|(n, t)| (n.to_string(), t.to_string())).collect();
    let digest = intended_policy::Pack::parse(&intended_policy::PackSource { files: source }).unwrap().digest();
    (files, digest)
}

/// Compiled once for all cases.
fn compiled() -> BTreeMap<Digest, Arc<Version>> {
    static ALL: OnceLock<BTreeMap<Digest, Arc<Version>>> = OnceLock::new();
    let compile = |n| {
        let (files, digest) = pack(n);
        (digest, Arc::new(Version::compile(&files).unwrap()))
    };
    ALL.get_or_init(|| (0..PACKS.len()).map(compile).collect()).clone()
}

fn start(case: &Case) -> Vec<Event> {
    let (files, digest) = pack(case.pack);
    let rules = ApprovalRules { owner_may_approve: case.owner_may, ..ApprovalRules::default() };
    let by = || credential("boot");
    let mut out = vec![
        Event::TenantCreated(TenantCreated {
            catalogue: Catalogue::builtin().digest(),
            tenant: TenantId::new("acme").unwrap(),
            vkey: "k".into(),
            v: BODY_VERSION,
        }),
        Event::EnvironmentSet(EnvironmentSet {
            by: by(),
            environment: environment(),
            settings: Settings { approvals: rules, risk_deny_at: 101, ..Settings::default() },
            tier: Tier::Staging,
            v: BODY_VERSION,
        }),
        Event::PolicyPublished(PolicyPublished {
            by: by(),
            digest,
            files,
            pack: name("p"),
            version: "1".into(),
            v: BODY_VERSION,
        }),
        Event::PolicyDeployed(PolicyDeployed {
            by: by(),
            cause: DeployCause::Deploy,
            digest,
            draft: None,
            environment: environment(),
            pack: name("p"),
            reason: None,
            replaces: None,
            simulation: None,
            v: BODY_VERSION,
        }),
        Event::AgentSet(AgentSet {
            agent: "a".into(),
            by: by(),
            categories: vec![],
            environments: vec![environment()],
            kind: "agent".into(),
            owner: OWNERS[case.owner].into(),
            purpose: "".into(),
            state: AgentState::Active,
            teams: vec![],
            tools: vec![],
            trust: 50,
            workflow: vec![],
            v: BODY_VERSION,
        }),
        Event::CapabilitySet(CapabilitySet {
            active: true,
            by: by(),
            capability: name("c"),
            criticality: Criticality::Low,
            data_class: DataClass::Public,
            environment: None,
            owner: "o".into(),
            pattern: "*".into(),
            resource_type: "order".into(),
            v: BODY_VERSION,
        }),
    ];
    out.extend((0..PEOPLE).map(|n| set(n, case.before[n].0, true, case.before[n].1)));
    out.extend((0..KEYS.len()).filter(|k| !((5..7).contains(k) && case.late[k - 5])).map(key));
    out
}

fn intent(case: &Case) -> Intent {
    let on_behalf = case
        .acts_for
        .map_or(String::new(), |m| format!(r#","properties":{{"on_behalf_of":{{"type":"member","id":"m{m}"}}}}"#));
    let text = format!(
        r#"{{"subject":{{"type":"agent","id":"a"{on_behalf}}},"action":{{"name":"orders.get_order"}},"resource":{{"type":"order","id":"1"}},"environment":"e"}}"#
    );
    Intent::from_value(&intended_model::json::parse(text.as_bytes()).unwrap(), None, false).unwrap()
}

/// What both say of a case: whether it is allowed, and why not.
fn both(case: &Case) -> Result<(bool, Code), TestCaseError> {
    let events = start(case);
    let mut state = State::genesis(&events[0]).unwrap();
    let mut index = 1;
    let compiled = compiled();
    for event in &events[1..] {
        state.apply_reusing(index, event, &compiled).unwrap();
        index += 1;
    }
    let intent = intent(case);
    let digest = state.environments[&environment()].deployed.as_ref().unwrap().digest;
    let mut input = Input {
        approvals: vec![],
        at: at(),
        audience: None,
        catalogue: state.catalogue.digest(),
        class: Default::default(),
        classification: state.catalogue.classify("orders.get_order"),
        control: state.control,
        counters: Default::default(),
        credential: credential(KEYS[case.requester].0),
        expires_at: None,
        id: IntentId::v7(at(), [7; 10]),
        intent_hash: intent.digest().unwrap(),
        intent,
        procedure: PROCEDURE,
        session: None,
    };
    let asked = decide(&state, &input);
    // Whom the agent acts for must be somebody; then nobody is asked.
    if asked.decision != Outcome::Escalate {
        return Ok((false, asked.reason));
    }
    let request = index;
    index += 1;
    for (n, _) in case.late.iter().enumerate().filter(|(_, late)| **late) {
        state.apply(index, &key(5 + n)).unwrap();
        index += 1;
    }
    let mut naive = Naive { case, done: Vec::new() };
    for h in &case.after {
        let event = match h {
            Happened::Member { who, groups, active, approver } => set(*who, *groups, *active, *approver),
            Happened::Revoked { key } => Event::CredentialRevoked(CredentialRevoked {
                by: credential("boot"),
                credential: credential(KEYS[*key].0),
                reason: "r".into(),
                v: BODY_VERSION,
            }),
            Happened::Approved { key, hash } => Event::ApprovalGranted(ApprovalGranted {
                approver: KEYS[*key].1.map_or_else(|| MemberId::new("mx").unwrap(), member),
                at: Some(at()),
                by: credential(KEYS[*key].0),
                environment: environment(),
                expires_at: at().plus_secs(60),
                intent: input.id,
                intent_hash: if *hash { input.intent_hash } else { Digest::of(b"other") },
                policy: digest,
                reason: "r".into(),
                request: Some(request),
                v: BODY_VERSION,
            }),
            Happened::Withdrawn { key } => Event::ApprovalWithdrawn(ApprovalWithdrawn {
                approver: member(KEYS[*key].1.unwrap()),
                by: credential(KEYS[*key].0),
                environment: environment(),
                intent: input.id,
                reason: "r".into(),
                v: BODY_VERSION,
            }),
        };
        let taken = state.apply(index, &event).is_ok();
        prop_assert_eq!(taken, naive.follows(h), "{:?}", h);
        if taken {
            naive.done.push(h.clone());
            index += 1;
        }
    }
    input.approvals = approvals::references(&state, &input.id);
    input.control = state.control;
    input.expires_at = Some(at().plus_secs(60));
    let again = decide(&state, &input);
    // The one whom the agent acts for may have gone: then it is denied, whoever approves.
    if again.decision == Outcome::Deny {
        return Ok((false, again.reason));
    }
    prop_assert_eq!(again.decision == Outcome::Allow, naive.met(), "{:?}", again);
    // What counts is what is referred to, and nothing without a reference is.
    input.approvals = approvals::counting_references(&state, &input);
    prop_assert_eq!(&decide(&state, &input), &again);
    input.approvals.clear();
    prop_assert_eq!(decide(&state, &input).decision, Outcome::Escalate);
    Ok((again.decision == Outcome::Allow, again.reason))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: std::env::var("PROPTEST_CASES").ok().and_then(|c| c.parse().ok()).unwrap_or(4_000), ..ProptestConfig::default() })]

    #[test]
    fn what_people_say_comes_to_what_a_list_and_common_sense_say(case in case()) {
        both(&case)?;
    }
}

/// Without this the property could hold because nothing is ever approved.
#[test]
fn the_generated_cases_are_approved_and_not() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut allowed, mut not) = ([0; PACKS.len()], [0; PACKS.len()]);
    for _ in 0..2_000 {
        let case = case().new_tree(&mut runner).unwrap().current();
        match both(&case).unwrap() {
            (true, _) => allowed[case.pack] += 1,
            (false, _) => not[case.pack] += 1,
        }
    }
    assert!(allowed.iter().chain(&not).all(|n| *n > 10), "{allowed:?} {not:?}");
}
