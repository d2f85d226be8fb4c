//! What an entry is about: in one line for people, and in the words of those who watch many products.
//! Total over the events, so that a new one cannot be left out.

use crate::decision::{DecisionRecord, Operation, Outcome};
use crate::emergency::HaltTarget;
use crate::entry::{ActionOutcome, DeployCause};
use crate::{Code, CredentialId, Event, IntentId, MemberId};

/// How much it matters to who watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Informational,
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Informational => "Informational",
            Self::Low => "Low",
            Self::Medium => "Medium",
            Self::High => "High",
            Self::Critical => "Critical",
        }
    }
    /// OCSF `severity_id`.
    #[must_use]
    pub const fn ocsf(self) -> u8 {
        match self {
            Self::Informational => 1,
            Self::Low => 2,
            Self::Medium => 3,
            Self::High => 4,
            Self::Critical => 5,
        }
    }
    /// CEF, 0 to 10.
    #[must_use]
    pub const fn cef(self) -> u8 {
        match self {
            Self::Informational => 1,
            Self::Low => 3,
            Self::Medium => 5,
            Self::High => 8,
            Self::Critical => 10,
        }
    }
    /// RFC 5424, section 6.2.1.
    #[must_use]
    pub const fn syslog(self) -> u8 {
        match self {
            Self::Informational => 6,
            Self::Low => 5,
            Self::Medium => 4,
            Self::High => 3,
            Self::Critical => 2,
        }
    }
}

/// What was done, in OCSF's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    Create,
    Read,
    Update,
    Delete,
    /// Whatever has no number there, by its name.
    Other(&'static str),
}

/// The OCSF class that an entry is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A decision: somebody wants to call something.
    Api,
    /// Somebody signed in or out.
    Authentication,
    /// Everything else is a change of something that is managed here.
    Entity,
}

/// What an entry is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About<'e> {
    pub class: Class,
    pub activity: Activity,
    /// `policy deployment`, `halt`.
    pub entity: &'static str,
    pub id: String,
    pub by: Option<&'e CredentialId>,
    /// The member it concerns, where it concerns one.
    pub member: Option<&'e MemberId>,
    pub agent: Option<&'e str>,
    pub intent: Option<IntentId>,
    /// In the words of who did it.
    pub reason: Option<&'e str>,
    pub severity: Severity,
    /// One line.
    pub summary: String,
}

/// A score from here on makes what was allowed worth a look.
const RISKY: u8 = 70;

/// How a line about a self-test begins.
const SELF_TEST: &str = "self-test: ";

/// What the intent is that an entry is about, where it is about one.
#[must_use]
pub const fn intent_class(event: &Event) -> Option<crate::Class> {
    match event {
        Event::Decision(record) => Some(record.input.class),
        Event::TokenConsumed(e) => Some(e.class),
        _ => None,
    }
}

fn decision(record: &DecisionRecord) -> About<'_> {
    let (intent, decision) = (&record.input.intent, &record.decision);
    let risky = decision.risk.as_ref().is_some_and(|r| r.score >= RISKY);
    let halted = matches!(
        decision.reason,
        Code::HaltTenant
            | Code::HaltEnvironment
            | Code::HaltAgent
            | Code::HaltConnector
            | Code::HaltTool
            | Code::HaltCategory
            | Code::BreakerOpen
    );
    let severity = match decision.decision {
        Outcome::Deny if risky || halted => Severity::High,
        Outcome::Deny => Severity::Medium,
        Outcome::Allow | Outcome::Modify if risky => Severity::Medium,
        Outcome::Escalate | Outcome::Defer | Outcome::Modify => Severity::Low,
        Outcome::Allow => Severity::Informational,
    };
    let activity = match record.input.classification.operation {
        Some(Operation::Create) => Activity::Create,
        Some(Operation::Read | Operation::List) => Activity::Read,
        Some(Operation::Update | Operation::Configure) => Activity::Update,
        Some(Operation::Delete | Operation::Revoke) => Activity::Delete,
        Some(other) => Activity::Other(other.as_str()),
        None => Activity::Other("unknown"),
    };
    About {
        class: Class::Api,
        activity,
        entity: "intent",
        id: record.input.id.to_string(),
        by: Some(&record.input.credential),
        member: None,
        agent: Some(&intent.subject.id),
        intent: Some(record.input.id),
        reason: None,
        severity,
        summary: format!(
            "{}{} ({}): {} on {}/{} by {} in {}",
            if record.input.class.is_synthetic() { SELF_TEST } else { "" },
            decision.decision.as_str(),
            decision.reason.as_str(),
            intent.action.name,
            intent.resource.kind,
            intent.resource.id,
            intent.subject.id,
            intent.environment,
        ),
    }
}

/// What an entry is about.
#[must_use]
#[expect(clippy::too_many_lines, reason = "one line for each kind of entry")]
pub fn about(event: &Event) -> About<'_> {
    use Activity::{Create, Delete, Other, Update};
    use Severity::{Critical, High, Informational, Low, Medium};
    let plain = |entity: &'static str, id: &dyn std::fmt::Display, by, activity, severity, what: String| About {
        class: Class::Entity,
        activity,
        entity,
        id: id.to_string(),
        by,
        member: None,
        agent: None,
        intent: None,
        reason: None,
        severity,
        summary: what,
    };
    let scope = |e: &Option<crate::EnvironmentId>| e.as_ref().map_or("the tenant".to_owned(), |e| format!("`{e}`"));
    let stops = |environment: &Option<crate::EnvironmentId>, on: &Option<HaltTarget>| match on {
        None => scope(environment),
        Some(on) => format!("{on} in {}", scope(environment)),
    };
    let watched = |target: &Option<Box<str>>| target.as_ref().map_or(String::new(), |t| format!(" on `{t}`"));
    match event {
        Event::Decision(record) => decision(record),
        Event::TenantCreated(e) => {
            plain("tenant", &e.tenant, None, Create, Informational, format!("tenant `{}` created", e.tenant))
        }
        Event::EnvironmentSet(e) => {
            let what = format!("environment `{}` set, tier {}", e.environment, e.tier.as_str());
            plain("environment", &e.environment, Some(&e.by), Update, Low, what)
        }
        Event::MemberSet(e) => {
            let what = format!("member `{}` set{}", e.member, if e.active { "" } else { ", not active" });
            About { member: Some(&e.member), ..plain("member", &e.member, Some(&e.by), Update, Low, what) }
        }
        Event::CredentialCreated(e) => {
            let what = format!("credential `{}` created", e.credential);
            About { member: e.member.as_ref(), ..plain("credential", &e.credential, Some(&e.by), Create, Low, what) }
        }
        Event::CredentialRotated(e) => {
            let what = format!("credential `{}` rotated", e.credential);
            plain("credential", &e.credential, Some(&e.by), Update, Low, what)
        }
        Event::CredentialRevoked(e) => {
            let what = format!("credential `{}` revoked: {}", e.credential, e.reason);
            let about = plain("credential", &e.credential, Some(&e.by), Delete, Medium, what);
            About { reason: Some(&e.reason), ..about }
        }
        Event::AccessSuspended(e) => {
            let what = format!("{} suspended: {}", scope(&e.environment), e.reason);
            let about = plain("access", &scope(&e.environment), Some(&e.by), Other("suspend"), High, what);
            About { reason: Some(&e.reason), ..about }
        }
        Event::AccessReinstated(e) => {
            let what = format!("{} reinstated: {}", scope(&e.environment), e.reason);
            let about = plain("access", &scope(&e.environment), Some(&e.by), Other("reinstate"), Medium, what);
            About { reason: Some(&e.reason), ..about }
        }
        Event::SignInSet(e) => {
            let what = format!("means of signing in of `{}` {}", e.member, if e.active { "set" } else { "removed" });
            let activity = if e.active { Update } else { Delete };
            About {
                member: Some(&e.member),
                ..plain("means of signing in", &e.member, Some(&e.by), activity, Low, what)
            }
        }
        Event::LinkIssued(e) => {
            let what = format!("link to sign in issued for `{}`", e.member);
            About { member: Some(&e.member), ..plain("sign-in link", &e.member, Some(&e.by), Create, Low, what) }
        }
        Event::IdentityProviderSet(e) => {
            let what = format!("identity provider `{}` {}", e.provider, if e.active { "set" } else { "removed" });
            plain("identity provider", &e.provider, Some(&e.by), if e.active { Update } else { Delete }, Medium, what)
        }
        Event::ReviewMade(e) => {
            let what = format!("access review `{}` made", e.review);
            plain("access review", &e.review, Some(&e.by), Create, Informational, what)
        }
        Event::ReviewSigned(e) => {
            let what = format!("access review `{}` signed by `{}`", e.review, e.member);
            let about = plain("access review", &e.review, Some(&e.by), Update, Informational, what);
            About { member: Some(&e.member), reason: Some(&e.reason), ..about }
        }
        Event::WebhookSet(e) => {
            let what = format!("webhook `{}` {}", e.webhook, if e.active { "set" } else { "removed" });
            plain("webhook", &e.webhook, Some(&e.by), if e.active { Update } else { Delete }, Low, what)
        }
        Event::AgentSet(e) => {
            let what = format!("agent `{}` set", e.agent);
            About { agent: Some(&e.agent), ..plain("agent", &e.agent, Some(&e.by), Update, Low, what) }
        }
        Event::CapabilitySet(e) => {
            let what = format!("capability `{}` {}", e.capability, if e.active { "set" } else { "removed" });
            plain("capability", &e.capability, Some(&e.by), if e.active { Update } else { Delete }, Low, what)
        }
        Event::CatalogueSet(e) => {
            plain("tool catalogue", &e.digest, Some(&e.by), Update, Low, "tool catalogue set".to_owned())
        }
        Event::PolicyPublished(e) => {
            let what = format!("policy {} {} published", e.pack, e.version);
            plain("policy version", &e.digest, Some(&e.by), Create, Informational, what)
        }
        Event::PolicyDeployed(e) => {
            let (severity, verb) = match e.cause {
                DeployCause::Deploy => (Medium, "deployed"),
                DeployCause::Rollback => (High, "deployed as a rollback"),
                DeployCause::Reverted => (High, "deployed again, because the version before did not verify"),
            };
            let what = format!("policy {} {verb} in `{}`", e.pack, e.environment);
            let about = plain("policy deployment", &e.digest, Some(&e.by), Update, severity, what);
            About { reason: e.reason.as_deref(), ..about }
        }
        Event::PolicyDrafted(e) => {
            let what = format!("policy draft `{}` for `{}`", e.draft, e.environment);
            plain("policy draft", &e.draft, Some(&e.by), Update, Informational, what)
        }
        Event::PolicySubmitted(e) => {
            let what = format!("policy draft `{}` submitted", e.draft);
            plain("policy draft", &e.draft, Some(&e.by), Update, Informational, what)
        }
        Event::PolicyApproved(e) => {
            let what = format!("policy draft `{}` approved by `{}`", e.draft, e.approver);
            let about = plain("policy draft", &e.draft, Some(&e.by), Other("approve"), Low, what);
            About { member: Some(&e.approver), reason: Some(&e.reason), ..about }
        }
        Event::PolicyRejected(e) => {
            let what = format!("policy draft `{}` rejected", e.draft);
            let about = plain("policy draft", &e.draft, Some(&e.by), Other("reject"), Low, what);
            About { reason: Some(&e.reason), ..about }
        }
        Event::RollbackRequested(e) => {
            let what = format!("rollback of `{}` asked for", e.environment);
            let about = plain("policy deployment", &e.environment, Some(&e.by), Other("request"), Medium, what);
            About { reason: Some(&e.reason), ..about }
        }
        Event::PolicyVerified(e) => {
            let passed = if e.passed { "has" } else { "has NOT" };
            let what = format!("policy deployed in `{}` {passed} the outcomes that it is expected to", e.environment);
            let severity = if e.passed { Informational } else { High };
            plain("policy deployment", &e.digest, Some(&e.by), Other("verify"), severity, what)
        }
        Event::PolicySourced(e) => {
            let what = format!("the source of the policy of `{}` was reported", e.environment);
            plain("policy source", &e.environment, Some(&e.by), Update, Informational, what)
        }
        Event::IncidentOpened(e) => {
            let what = format!("incident `{}` opened for {}: {}", e.incident, scope(&e.environment), e.title);
            plain("incident", &e.incident, Some(&e.by), Create, High, what)
        }
        Event::IncidentNoted(e) => {
            let what = format!("incident `{}`: {}", e.incident, e.text);
            let about = plain("incident", &e.incident, Some(&e.by), Update, Low, what);
            About { reason: Some(&e.text), ..about }
        }
        Event::IncidentClosed(e) => {
            let what = format!("incident `{}` closed: {}", e.incident, e.reason);
            let about = plain("incident", &e.incident, Some(&e.by), Delete, Medium, what);
            About { reason: Some(&e.reason), ..about }
        }
        Event::HaltThrown(e) => {
            let severity = if e.environment.is_none() && e.on.is_none() { Critical } else { High };
            let what = format!("halt `{}` of {} thrown: {}", e.halt, stops(&e.environment, &e.on), e.reason);
            let about = plain("halt", &e.halt, Some(&e.by), Create, severity, what);
            About { reason: Some(&e.reason), ..about }
        }
        Event::HaltResumeAsked(e) => {
            let what = format!("lifting of halt `{}` asked for: {}", e.halt, e.reason);
            About { reason: Some(&e.reason), ..plain("halt", &e.halt, Some(&e.by), Other("request"), High, what) }
        }
        Event::HaltResumed(e) => {
            let what = format!("halt `{}` lifted: {}", e.halt, e.reason);
            About { reason: Some(&e.reason), ..plain("halt", &e.halt, Some(&e.by), Delete, High, what) }
        }
        Event::LedgerRestored(e) => {
            let lost = match &e.lost {
                Some(lost) => format!(", {} entries are lost", lost.size.saturating_sub(e.copied.size)),
                None => String::new(),
            };
            let what = format!("ledger restored from a copy of {} entries{lost}: {}", e.copied.size, e.reason);
            let about = plain("ledger", &"ledger", Some(&e.by), Other("restore"), Critical, what);
            About { reason: Some(&e.reason), ..about }
        }
        Event::TokensRevoked(e) => {
            let what = format!("authority tokens in {} revoked in bulk: {}", scope(&e.selector.environment), e.reason);
            let about =
                plain("authority token", &scope(&e.selector.environment), Some(&e.by), Other("revoke"), High, what);
            About { agent: e.selector.agent.as_deref(), intent: e.selector.intent, reason: Some(&e.reason), ..about }
        }
        Event::BreakGlassPrepared(e) => {
            let what =
                format!("break-glass credential `{}` made, to halt {}", e.credential, stops(&e.environment, &e.on));
            plain("credential", &e.credential, Some(&e.by), Create, Medium, what)
        }
        Event::DrillRecorded(e) => {
            let came = match (e.passed, e.restored) {
                (_, false) => "NOT everything is as it was before",
                (true, true) => "passed",
                (false, true) => "NOT passed",
            };
            let what = format!("drill `{}` held in `{}`: {came}", e.drill.as_str(), e.environment);
            let severity = if e.passed && e.restored { Informational } else { High };
            plain("drill", &e.environment, Some(&e.by), Other(e.drill.as_str()), severity, what)
        }
        Event::BreakerHeld(e) => {
            let what = format!("breaker `{}` held on `{}` in `{}`: {}", e.breaker, e.target, e.environment, e.reason);
            About { reason: Some(&e.reason), ..plain("breaker", &e.breaker, Some(&e.by), Create, High, what) }
        }
        Event::BreakerReleased(e) => {
            let what = format!("breaker `{}` released: {}", e.breaker, e.reason);
            About { reason: Some(&e.reason), ..plain("breaker", &e.breaker, Some(&e.by), Delete, Medium, what) }
        }
        Event::BreakerSet(e) => {
            let done = if e.active { "set" } else { "removed" };
            let what = format!("breaker `{}` on {} in `{}` {done}", e.breaker, e.on, e.environment);
            plain("breaker", &e.breaker, Some(&e.by), if e.active { Update } else { Delete }, Low, what)
        }
        Event::BreakerOpened(e) => {
            let (measured, metric) = (&e.measured, e.measured.metric);
            let what = format!(
                "breaker `{}`{} opened in `{}`: {} {} reached {} {}",
                e.breaker,
                watched(&e.target),
                e.environment,
                metric.as_str(),
                measured.value,
                measured.threshold,
                metric.unit(),
            );
            plain("breaker", &e.breaker, None, Other("open"), High, what)
        }
        Event::BreakerProbing(e) => {
            let what = format!("breaker `{}`{} is tried again in `{}`", e.breaker, watched(&e.target), e.environment);
            plain("breaker", &e.breaker, None, Other("probe"), Low, what)
        }
        Event::BreakerClosed(e) => {
            let what = format!("breaker `{}`{} closed in `{}`", e.breaker, watched(&e.target), e.environment);
            plain("breaker", &e.breaker, None, Other("close"), Medium, what)
        }
        Event::KeyAdded(e) => {
            let what = format!("signing key {} of `{}` made", e.kid, e.environment);
            plain("signing key", &e.kid, Some(&e.by), Create, Medium, what)
        }
        Event::KeyRetired(e) => {
            let what = format!("signing key {} of `{}` retired: {}", e.kid, e.environment, e.reason);
            About { reason: Some(&e.reason), ..plain("signing key", &e.kid, Some(&e.by), Delete, High, what) }
        }
        Event::ApprovalGranted(e) => {
            let what = format!("intent {} approved by `{}`", e.intent, e.approver);
            let about = plain("approval", &e.intent, Some(&e.by), Create, Low, what);
            About { member: Some(&e.approver), intent: Some(e.intent), reason: Some(&e.reason), ..about }
        }
        Event::ApprovalWithdrawn(e) => {
            let what = format!("approval of intent {} by `{}` taken back", e.intent, e.approver);
            let about = plain("approval", &e.intent, Some(&e.by), Delete, Low, what);
            About { member: Some(&e.approver), intent: Some(e.intent), reason: Some(&e.reason), ..about }
        }
        Event::ApprovalNote(e) => {
            let what = format!("{} about intent {}", if e.answer { "answer" } else { "question" }, e.intent);
            let about = plain("approval", &e.intent, Some(&e.by), Update, Informational, what);
            About { intent: Some(e.intent), reason: Some(&e.text), ..about }
        }
        Event::TokenConsumed(e) => {
            let mark = if e.class.is_synthetic() { SELF_TEST } else { "" };
            let what = format!("{mark}authority token of intent {} consumed in `{}`", e.intent, e.environment);
            let about = plain("authority token", &e.jti, Some(&e.by), Other("consume"), Informational, what);
            About { intent: Some(e.intent), ..about }
        }
        Event::TokenRevoked(e) => {
            let what = format!("authority token of intent {} revoked: {}", e.intent, e.reason);
            let about = plain("authority token", &e.jti, Some(&e.by), Delete, Medium, what);
            About { intent: Some(e.intent), reason: Some(&e.reason), ..about }
        }
        Event::IntentOutcome(e) => {
            let what = format!("what intent {} was let do in `{}`: {}", e.intent, e.environment, e.outcome.as_str());
            let severity = if e.outcome == ActionOutcome::Succeeded { Informational } else { Low };
            let about = plain("outcome", &e.intent, Some(&e.by), Create, severity, what);
            About { intent: Some(e.intent), reason: e.detail.as_deref(), ..about }
        }
        Event::EscalationClosed(e) => {
            let what = format!("intent {} is no longer open: {}", e.intent, e.reason.title());
            let about = plain("escalation", &e.intent, e.by.as_ref(), Delete, Low, what);
            About { intent: Some(e.intent), reason: e.note.as_deref(), ..about }
        }
        Event::SessionStarted(e) => {
            let what = format!("`{}` signed in", e.member);
            let about = plain("session", &e.session, None, Other("logon"), Informational, what);
            About { class: Class::Authentication, member: Some(&e.member), ..about }
        }
        Event::SessionEnded(e) => {
            let what = format!("session of `{}` ended: {}", e.member, e.reason);
            let about = plain("session", &e.session, Some(&e.by), Other("logoff"), Informational, what);
            About { class: Class::Authentication, member: Some(&e.member), reason: Some(&e.reason), ..about }
        }
    }
}
