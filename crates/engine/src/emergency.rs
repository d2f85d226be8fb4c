//! Halts, what lifts them, and which tokens are dead.
//!
//! A halt covers decisions, and it kills tokens: whatever was granted before its ledger position and
//! lies within it is good for nothing from there on, also after it is lifted. So is what a bulk
//! revocation means. Every path that verifies, consumes, lists or hands out a token asks
//! [`State::dead_token`], and nothing else, so that no path knows less than another.
//!
//! What a halt covers is found by looking it up, not by looking at every halt: a decision costs the
//! same under a thousand halts as under one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use intended_intents::domain_of;
use intended_model::decision::{Classification, DecisionRecord};
use intended_model::emergency::{DrillKind, DrillStep, HaltScope, HaltTarget, TokenSelector, connector_of};
use intended_model::entry::{
    BreakGlassPrepared, DrillRecorded, HaltResumeAsked, HaltResumed, HaltThrown, Scope, Tier, TokensRevoked,
};
use intended_model::{Code, CredentialId, EnvironmentId, Intent, Name, Timestamp, Value};

use crate::decide::delegation;
use crate::lifecycle::Person;
use crate::state::{Credential, FoldError, State};

/// How long what is known of a revocation is kept: no token is good for longer than 300 s, and what
/// was asked for is recorded up to 10 s later.
pub const REVOKED_MS: i64 = 310_000;
/// Most halts and revocations whose exact reach is remembered after they are over. What is older kills
/// every token from before it, which by then have long expired.
pub const MAX_PAST: usize = 10_000;
/// Most drills that are remembered.
pub const MAX_DRILLS: usize = 200;

/// What an entry about an emergency cannot follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EmergencyError {
    #[error("a halt on `{0}` could cover nothing")]
    Target(HaltTarget),
    #[error("lifting this halt takes {expected} people, the entry says {}", stated.map_or_else(|| "nothing".to_owned(), |n| n.to_string()))]
    People { stated: Option<u32>, expected: u32 },
    #[error("lifting the halt `{halt}` takes {needed} people; {given} have asked for it")]
    ResumePeople { halt: Name, given: u32, needed: u32 },
    #[error("one person lifts the halt `{0}`")]
    Alone(Name),
    #[error("the break-glass credential `{0}` is for another halt")]
    GlassScope(CredentialId),
    #[error("the break-glass credential `{0}` was used before")]
    GlassSpent(CredentialId),
    #[error("the selector means every token: it is not said which")]
    Selector,
    #[error("no drill is held in production")]
    Drill,
}

/// What a decision is about, as far as halts are concerned.
#[derive(Debug, Clone)]
pub struct About<'a> {
    pub environment: &'a EnvironmentId,
    pub agent: &'a str,
    /// Whom the agent acts for.
    pub on_behalf: Vec<&'a str>,
    pub tool: &'a str,
    /// `None` where it is not known: then every halt on a category covers it.
    pub category: Option<&'a str>,
}

impl<'a> About<'a> {
    #[must_use]
    pub fn of(intent: &'a Intent, classification: &'a Classification) -> Self {
        let named = |value: &&'a Value| value.get("id").and_then(Value::as_str);
        Self {
            environment: &intent.environment,
            agent: &intent.subject.id,
            on_behalf: delegation(intent).iter().filter_map(named).collect(),
            tool: &intent.action.name,
            category: classification.category.as_deref().filter(|_| !classification.ambiguous),
        }
    }
}

/// Something that is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halt {
    pub environment: Option<EnvironmentId>,
    /// `None`: everything there.
    pub on: Option<HaltTarget>,
    pub reason: Box<str>,
    pub by: CredentialId,
    /// Ledger position.
    pub index: u64,
    /// How many people it takes to lift it.
    pub people: u32,
    /// Who asked for it to be lifted, where it takes two.
    pub asked: Option<AskedResume>,
}

/// The first of two people who want a halt lifted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedResume {
    pub by: CredentialId,
    pub reason: Box<str>,
    pub expires_at: Timestamp,
    pub index: u64,
}

impl Halt {
    /// Why what it covers is refused.
    #[must_use]
    pub const fn code(&self) -> Code {
        match (&self.on, &self.environment) {
            (Some(HaltTarget::Agent(_)), _) => Code::HaltAgent,
            (Some(HaltTarget::Connector(_)), _) => Code::HaltConnector,
            (Some(HaltTarget::Tool(_)), _) => Code::HaltTool,
            (Some(HaltTarget::Category(_)), _) => Code::HaltCategory,
            (None, None) => Code::HaltTenant,
            (None, Some(_)) => Code::HaltEnvironment,
        }
    }
    #[must_use]
    pub fn scope(&self) -> HaltScope {
        HaltScope { environment: self.environment.clone(), on: self.on.clone() }
    }
    /// What stands in the trace of a decision that it covers.
    #[must_use]
    pub fn detail(&self, name: &Name) -> String {
        match &self.on {
            None => format!("halt `{name}`: {}", self.reason),
            Some(on) => format!("halt `{name}` on {on}: {}", self.reason),
        }
    }
}

/// A bulk revocation whose tokens may not all have expired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    pub index: u64,
    pub by: CredentialId,
    pub reason: Box<str>,
    pub selector: TokenSelector,
    pub until: Timestamp,
}

/// A drill that was held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drill {
    pub index: u64,
    pub by: CredentialId,
    pub drill: DrillKind,
    pub environment: EnvironmentId,
    pub passed: bool,
    pub restored: bool,
    pub started_at: Timestamp,
    pub steps: Vec<DrillStep>,
}

/// Why a token that was granted is good for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dead {
    /// A halt covers it, or did since it was granted.
    Halted(Code),
    /// It was revoked with others.
    Revoked,
}

/// What follows from the halts and revocations so far.
#[derive(Debug, Clone, Default)]
pub struct Emergency {
    /// By what they cover, the halts in force.
    active: Cover<BTreeSet<Name>>,
    /// By what they cover, the position of the newest halt there was.
    past: Cover<Option<(u64, Code)>>,
    /// The same by position.
    thrown: BTreeMap<u64, HaltScope>,
    revocations: Vec<Revocation>,
    /// Tokens granted before this position are dead, whatever they are.
    dead_before: u64,
    /// Whether halts say how many people it takes to lift them.
    says_people: bool,
    /// Newest last.
    drills: Vec<Drill>,
}

impl Emergency {
    /// The halts that there were, by position: the newest of each scope.
    pub fn thrown(&self) -> impl Iterator<Item = (u64, &HaltScope)> {
        self.thrown.iter().map(|(index, scope)| (*index, scope))
    }
    #[must_use]
    pub fn revocations(&self) -> &[Revocation] {
        &self.revocations
    }
    #[must_use]
    pub const fn dead_before(&self) -> u64 {
        self.dead_before
    }
    #[must_use]
    pub fn drills(&self) -> &[Drill] {
        &self.drills
    }

    fn note_thrown(&mut self, index: u64, scope: &HaltScope, code: Code) {
        let mut before = None;
        self.past.edit(scope.environment.as_ref(), scope.on.as_ref(), |newest| {
            before = newest.replace((index, code));
            true
        });
        if let Some((before, _)) = before {
            self.thrown.remove(&before);
        }
        self.thrown.insert(index, scope.clone());
        if self.thrown.len() > MAX_PAST
            && let Some((oldest, scope)) = self.thrown.pop_first()
        {
            self.past.edit(scope.environment.as_ref(), scope.on.as_ref(), |_| false);
            self.dead_before = self.dead_before.max(oldest);
        }
    }
}

/// Something by what it covers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cover<T> {
    places: HashMap<Option<EnvironmentId>, Place<T>>,
}

#[derive(Debug, Clone, Default)]
struct Place<T> {
    all: T,
    agents: HashMap<Box<str>, T>,
    connectors: HashMap<Box<str>, T>,
    tools: Patterns<T>,
    categories: Patterns<T>,
}

/// Texts and prefixes. A text is looked up once, and once for each length that prefixes have.
#[derive(Debug, Clone, Default)]
struct Patterns<T> {
    exact: HashMap<Box<str>, T>,
    prefixes: HashMap<Box<str>, T>,
    /// How many prefixes have a length.
    lengths: BTreeMap<usize, usize>,
}

impl<T: Default> Cover<T> {
    /// Changes what is kept for exactly this; it is forgotten when `change` says so.
    pub(crate) fn edit(
        &mut self,
        environment: Option<&EnvironmentId>,
        on: Option<&HaltTarget>,
        change: impl FnOnce(&mut T) -> bool,
    ) {
        let place = self.places.entry(environment.cloned()).or_default();
        match on {
            None => {
                if !change(&mut place.all) {
                    place.all = T::default();
                }
            }
            Some(HaltTarget::Agent(agent)) => edit(&mut place.agents, agent, change),
            Some(HaltTarget::Connector(system)) => edit(&mut place.connectors, &system.to_ascii_lowercase(), change),
            Some(HaltTarget::Tool(pattern)) => place.tools.edit(pattern, change),
            Some(HaltTarget::Category(pattern)) => place.categories.edit(pattern, change),
        }
    }

    /// Gives `found` whatever covers it.
    pub(crate) fn covering<'s>(&'s self, about: &About<'_>, mut found: impl FnMut(&'s T)) {
        if self.places.is_empty() {
            return;
        }
        let everywhere = self.places.get(&None);
        let here = self.places.get(&Some(about.environment.clone()));
        for place in everywhere.into_iter().chain(here) {
            found(&place.all);
            if !place.agents.is_empty() {
                let named = std::iter::once(&about.agent).chain(&about.on_behalf);
                named.filter_map(|agent| place.agents.get(*agent)).for_each(&mut found);
            }
            if !place.connectors.is_empty() {
                match connector_of(about.tool) {
                    Some(system) => place.connectors.get(&*system).into_iter().for_each(&mut found),
                    // What is not known is not provably something else.
                    None => place.connectors.values().for_each(&mut found),
                }
            }
            place.tools.covering(about.tool, &mut found);
            match about.category {
                Some(category) => {
                    place.categories.covering(category, &mut found);
                    place.categories.exact.get(domain_of(category)).into_iter().for_each(&mut found);
                }
                None => place.categories.exact.values().chain(place.categories.prefixes.values()).for_each(&mut found),
            }
        }
    }
}

fn edit<T: Default>(map: &mut HashMap<Box<str>, T>, text: &str, change: impl FnOnce(&mut T) -> bool) {
    if !change(map.entry(text.into()).or_default()) {
        map.remove(text);
    }
}

impl<T: Default> Patterns<T> {
    fn edit(&mut self, pattern: &str, change: impl FnOnce(&mut T) -> bool) {
        let Some(prefix) = pattern.strip_suffix('*') else { return edit(&mut self.exact, pattern, change) };
        let before = self.prefixes.len();
        edit(&mut self.prefixes, prefix, change);
        let count = self.lengths.entry(prefix.len()).or_default();
        *count = count.saturating_add(self.prefixes.len()).saturating_sub(before);
        if *count == 0 {
            self.lengths.remove(&prefix.len());
        }
    }
    fn covering<'s>(&'s self, text: &str, mut found: impl FnMut(&'s T)) {
        if let Some(exact) = self.exact.get(text) {
            found(exact);
        }
        for length in self.lengths.keys().take_while(|length| **length <= text.len()) {
            if let Some(prefix) = text.get(..*length).and_then(|prefix| self.prefixes.get(prefix)) {
                found(prefix);
            }
        }
    }
}

impl State {
    /// The halt that covers something, if there is one: of several the first by name.
    #[must_use]
    pub fn halt_over(&self, about: &About<'_>) -> Option<(&Name, &Halt)> {
        let mut first: Option<&Name> = None;
        self.emergency.active.covering(about, |names: &BTreeSet<Name>| {
            first = first.into_iter().chain(names.first()).min();
        });
        self.halts.get_key_value(first?)
    }

    /// Why the token that a recorded decision at a ledger position granted is good for nothing.
    #[must_use]
    pub fn dead_token(&self, record: &DecisionRecord, index: u64) -> Option<Dead> {
        let about = About::of(&record.input.intent, &record.input.classification);
        if let Some((_, halt)) = self.halt_over(&about) {
            return Some(Dead::Halted(halt.code()));
        }
        let emergency = &self.emergency;
        let mut newest: Option<(u64, Code)> = None;
        emergency.past.covering(&about, |halt| newest = newest.into_iter().chain(*halt).max());
        if let Some((_, code)) = newest.filter(|(halt, _)| *halt > index) {
            return Some(Dead::Halted(code));
        }
        let means = |r: &Revocation| r.index > index && self.means(&r.selector, record);
        (index < emergency.dead_before || emergency.revocations.iter().any(means)).then_some(Dead::Revoked)
    }

    /// Whether a selector means the token that a recorded decision granted.
    #[must_use]
    pub fn means(&self, selector: &TokenSelector, record: &DecisionRecord) -> bool {
        let input = &record.input;
        let is = |wanted: &Option<Box<str>>| {
            wanted.as_deref().is_none_or(|wanted| {
                let about = About::of(&input.intent, &input.classification);
                about.agent == wanted || about.on_behalf.contains(&wanted)
            })
        };
        is(&selector.agent)
            && selector.credential.as_ref().is_none_or(|c| *c == input.credential)
            && selector.environment.as_ref().is_none_or(|e| *e == input.intent.environment)
            && selector.from.is_none_or(|from| input.at >= from)
            && selector.to.is_none_or(|to| input.at < to)
            && selector.intent.is_none_or(|id| id == input.id)
            && selector.member.as_ref().is_none_or(|m| self.member_behind(&input.credential).as_ref() == Some(m))
            && selector.policy.is_none_or(|p| record.decision.policy.as_ref().is_some_and(|used| used.digest == p))
    }

    /// How many people it takes to lift a halt: of all environments that it is in, the most.
    #[must_use]
    pub fn resume_people(&self, environment: Option<&EnvironmentId>) -> u32 {
        let covered = self.environments.values().filter(|e| environment.is_none_or(|only| *only == e.id));
        covered.map(|e| e.settings.emergency.resume_people(e.tier)).max().unwrap_or(1)
    }

    /// Whether two credentials are two people's: where two are asked for, two services are none.
    #[must_use]
    pub fn two_people(&self, a: &CredentialId, b: &CredentialId) -> bool {
        let member = |c| matches!(self.person(c), Person::Member(_));
        member(a) && member(b) && !self.same_person(a, b)
    }

    /// The state as if one bulk revocation had not been: what was alive before it.
    pub fn forget_revocation(&mut self, index: u64) {
        Arc::make_mut(&mut self.emergency).revocations.retain(|r| r.index != index);
    }

    /// The state as if nothing were halted.
    pub(crate) fn unhalted(&mut self) {
        self.halts = Arc::default();
        Arc::make_mut(&mut self.emergency).active = Cover::default();
    }

    pub(crate) fn halt_thrown(&mut self, index: u64, e: &HaltThrown) -> Result<(), FoldError> {
        if self.halts.contains_key(&e.halt) {
            return Err(FoldError::HaltExists(e.halt.clone()));
        }
        if let Some(environment) = &e.environment {
            self.environment_mut(environment)?;
        }
        if let Some(on) = e.on.as_ref().filter(|on| !on.is_valid()) {
            return Err(EmergencyError::Target(on.clone()).into());
        }
        let expected = self.resume_people(e.environment.as_ref());
        let says = self.emergency.says_people;
        if e.resume_people.map_or(says, |stated| stated != expected) {
            return Err(EmergencyError::People { stated: e.resume_people, expected }.into());
        }
        let halt = Halt {
            environment: e.environment.clone(),
            on: e.on.clone(),
            reason: e.reason.clone(),
            by: e.by.clone(),
            index,
            people: e.resume_people.unwrap_or(1),
            asked: None,
        };
        self.break_glass(index, e, &halt)?;
        Arc::make_mut(&mut self.emergency).says_people |= e.resume_people.is_some();
        self.throw(halt, &e.halt);
        Ok(())
    }

    /// From here on it is in force, and kills what it covers.
    pub(crate) fn throw(&mut self, halt: Halt, name: &Name) {
        let emergency = Arc::make_mut(&mut self.emergency);
        emergency.active.edit(halt.environment.as_ref(), halt.on.as_ref(), |names| names.insert(name.clone()));
        emergency.note_thrown(halt.index, &halt.scope(), halt.code());
        Arc::make_mut(&mut self.halts).insert(name.clone(), halt);
    }

    /// A break-glass credential throws the halt that it is for, once.
    fn break_glass(&mut self, index: u64, e: &HaltThrown, halt: &Halt) -> Result<(), FoldError> {
        let Some(glass) = self.credentials.get(&e.by).and_then(|c| c.glass.as_ref()) else { return Ok(()) };
        if glass.spent.is_some() {
            return Err(EmergencyError::GlassSpent(e.by.clone()).into());
        }
        if glass.scope != halt.scope() {
            return Err(EmergencyError::GlassScope(e.by.clone()).into());
        }
        let known = Arc::make_mut(&mut self.credentials).get_mut(&e.by);
        if let Some(glass) = known.and_then(|c| Arc::make_mut(c).glass.as_mut()) {
            glass.spent = Some(index);
        }
        Ok(())
    }

    fn halt_mut(&mut self, name: &Name) -> Result<&mut Halt, FoldError> {
        Arc::make_mut(&mut self.halts).get_mut(name).ok_or_else(|| FoldError::NoHalt(name.clone()))
    }

    pub(crate) fn halt_resume_asked(&mut self, index: u64, e: &HaltResumeAsked) -> Result<(), FoldError> {
        let asks = matches!(self.person(&e.by), Person::Member(_));
        let halt = self.halt_mut(&e.halt)?;
        if halt.people < 2 {
            return Err(EmergencyError::Alone(e.halt.clone()).into());
        }
        if !asks {
            return Err(EmergencyError::ResumePeople { halt: e.halt.clone(), given: 0, needed: halt.people }.into());
        }
        let (by, reason, expires_at) = (e.by.clone(), e.reason.clone(), e.expires_at);
        halt.asked = Some(AskedResume { by, reason, expires_at, index });
        Ok(())
    }

    pub(crate) fn halt_resumed(&mut self, e: &HaltResumed) -> Result<(), FoldError> {
        let halt = self.halts.get(&e.halt).ok_or_else(|| FoldError::NoHalt(e.halt.clone()))?;
        let other = halt.asked.as_ref().is_some_and(|asked| self.two_people(&asked.by, &e.by));
        let given = 1 + u32::from(other);
        if given < halt.people {
            return Err(EmergencyError::ResumePeople { halt: e.halt.clone(), given, needed: halt.people }.into());
        }
        if let Some(halt) = Arc::make_mut(&mut self.halts).remove(&e.halt) {
            Arc::make_mut(&mut self.emergency).active.edit(halt.environment.as_ref(), halt.on.as_ref(), |names| {
                names.remove(&e.halt);
                !names.is_empty()
            });
        }
        Ok(())
    }

    pub(crate) fn tokens_revoked(&mut self, index: u64, e: &TokensRevoked) -> Result<(), FoldError> {
        if e.selector.is_empty() {
            return Err(EmergencyError::Selector.into());
        }
        if let Some(environment) = &e.selector.environment {
            self.environment_mut(environment)?;
        }
        let emergency = Arc::make_mut(&mut self.emergency);
        let now = e.until.plus_millis(-REVOKED_MS);
        emergency.revocations.retain(|r| r.until >= now);
        let (by, reason, selector) = (e.by.clone(), e.reason.clone(), e.selector.clone());
        emergency.revocations.push(Revocation { index, by, reason, selector, until: e.until });
        if emergency.revocations.len() > MAX_PAST {
            let oldest = emergency.revocations.remove(0);
            emergency.dead_before = emergency.dead_before.max(oldest.index);
        }
        Ok(())
    }

    pub(crate) fn break_glass_prepared(&mut self, index: u64, e: &BreakGlassPrepared) -> Result<(), FoldError> {
        if self.credentials.contains_key(&e.credential) {
            return Err(FoldError::CredentialExists(e.credential.clone()));
        }
        crate::people::check_credential_id(&e.credential)?;
        if let Some(environment) = &e.environment {
            self.environment_mut(environment)?;
        }
        if let Some(on) = e.on.as_ref().filter(|on| !on.is_valid()) {
            return Err(EmergencyError::Target(on.clone()).into());
        }
        let scope = HaltScope { environment: e.environment.clone(), on: e.on.clone() };
        let credential = Credential {
            id: e.credential.clone(),
            actions: Vec::new(),
            agents: Vec::new(),
            by: e.by.clone(),
            created_at: index,
            environments: e.environment.iter().cloned().collect(),
            expires_at: Some(e.expires_at),
            glass: Some(Glass { scope, spent: None }),
            hash: e.hash,
            member: None,
            networks: Vec::new(),
            previous: None,
            revoked: false,
            rotated_at: None,
            rotated_by: BTreeSet::new(),
            scopes: vec![Scope::EmergencyHalt],
            test: false,
            whole: e.environment.is_none(),
        };
        Arc::make_mut(&mut self.credentials).insert(e.credential.clone(), Arc::new(credential));
        Ok(())
    }

    pub(crate) fn drill_recorded(&mut self, index: u64, e: &DrillRecorded) -> Result<(), FoldError> {
        if self.environment_mut(&e.environment)?.tier == Tier::Production {
            return Err(EmergencyError::Drill.into());
        }
        let drills = &mut Arc::make_mut(&mut self.emergency).drills;
        drills.push(Drill {
            index,
            by: e.by.clone(),
            drill: e.drill,
            environment: e.environment.clone(),
            passed: e.passed,
            restored: e.restored,
            started_at: e.started_at,
            steps: e.steps.clone(),
        });
        if drills.len() > MAX_DRILLS {
            drills.remove(0);
        }
        Ok(())
    }
}

/// What a break-glass credential is for, and where it was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glass {
    pub scope: HaltScope,
    /// Ledger position.
    pub spent: Option<u64>,
}

/// Whether a halt of this scope covers something: what the look-up must come to, said plainly.
#[must_use]
pub fn covers(scope: &HaltScope, about: &About<'_>) -> bool {
    let fits = crate::access::matches;
    if scope.environment.as_ref().is_some_and(|only| only != about.environment) {
        return false;
    }
    match &scope.on {
        None => true,
        Some(HaltTarget::Agent(agent)) => about.agent == &**agent || about.on_behalf.contains(&&**agent),
        Some(HaltTarget::Connector(system)) => {
            connector_of(about.tool).is_none_or(|of| of.eq_ignore_ascii_case(system))
        }
        Some(HaltTarget::Tool(pattern)) => fits(pattern, about.tool),
        Some(HaltTarget::Category(pattern)) => {
            about.category.is_none_or(|category| fits(pattern, category) || **pattern == *domain_of(category))
        }
    }
}
