//! The administration point for policy: drafts, gates, deployment, verification, the way back.
//!
//! Five gates stand before and behind a deployment: validation against the tenant's schema, the
//! pack's own tests, a simulation on recorded decisions within the blast-radius limit, approvals by
//! people, and, once it decides, the outcomes it is expected to have; failing those takes it back by
//! itself. What is measured and who approved is in the ledger, and the fold refuses a deployment
//! without it (`intended_engine::lifecycle`): this module only measures and asks.

use std::collections::BTreeMap;
use std::sync::Arc;

use intended_engine::{DraftStatus, Environment, LifecycleError, Person, State, Version, verify_expectations};
use intended_model::entry::{
    BODY_VERSION, DeployCause, ExpectationResult, GateMeasure, IncidentClosed, IncidentOpened, PolicyApproved,
    PolicyDeployed, PolicyDrafted, PolicyGate, PolicyPublished, PolicyRejected, PolicySource, PolicySourced,
    PolicySubmitted, PolicyVerified, RollbackRequested, Scope, SimulationSummary,
};
use intended_model::{Code, Digest, EnvironmentId, Event, Name};
use intended_policy::Pack;
use intended_rehearse::{Simulation, Suite};
use intended_store::{Commit, Conflict, StoreError};
use serde::{Deserialize, Serialize};

use crate::admin::{Change, Changed, entry_of, validated};
use crate::simulation::Plan;
use crate::{Member, Principal, Runtime, RuntimeError, Tenant};

/// How long a rollback waits for the second person.
pub const ROLLBACK_TTL_SECS: i64 = 3_600;
/// How often a verification that lost its commit is made again.
const MAX_ATTEMPTS: usize = 16;

/// What a draft is to hold.
#[derive(Debug, Clone, Serialize)]
pub struct DraftSpec {
    pub environment: EnvironmentId,
    pub files: BTreeMap<String, String>,
    pub title: Box<str>,
    pub source: Option<PolicySource>,
}

/// What to deploy.
struct Deployment {
    version: Arc<Version>,
    /// What is deployed now.
    replaces: Option<Digest>,
    draft: Option<Name>,
    /// What was measured of it just now.
    simulation: SimulationSummary,
}

/// A version that decides from `index` on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Deployed {
    pub environment: EnvironmentId,
    pub digest: Digest,
    pub replaces: Option<Digest>,
    /// Its expected outcomes and what came of them.
    pub verification: Vec<ExpectationResult>,
    pub index: u64,
}

/// What asking for a rollback came to.
#[derive(Debug, Clone)]
pub enum RolledBack {
    /// The earlier version decides again.
    Done(Deployed),
    /// A second person must ask for the same.
    Waiting { to: Digest, expires_at: intended_model::Timestamp, index: u64 },
}

impl Runtime {
    /// Begins a draft. Its content must parse and validate: nothing else is stored.
    pub async fn create_draft(&self, by: &Principal, spec: DraftSpec) -> Result<Changed<Name>, RuntimeError> {
        let hex = intended_model::digest::hex(&self.random::<4>()?);
        let id = Name::new(&format!("draft-{hex}")).map_err(RuntimeError::internal)?;
        self.write_draft(by, id, None, spec).await
    }

    /// Puts another content into a draft; what was submitted or approved of it is void. `tag` is the
    /// draft's entity tag as the caller has read it.
    pub async fn edit_draft(
        &self,
        by: &Principal,
        id: Name,
        tag: u64,
        spec: DraftSpec,
    ) -> Result<Changed<Name>, RuntimeError> {
        self.write_draft(by, id, Some(tag), spec).await
    }

    async fn write_draft(
        &self,
        by: &Principal,
        id: Name,
        tag: Option<u64>,
        spec: DraftSpec,
    ) -> Result<Changed<Name>, RuntimeError> {
        if spec.title.is_empty() || spec.title.len() > 200 {
            return Err(RuntimeError::at(Code::RequestInvalid, "/title", "a title has 1 to 200 characters"));
        }
        // Where it is new, the same request makes the same draft under an idempotency key.
        let request = ("draft", tag.is_some().then_some(&id), tag, &spec);
        self.change(by, request, |by, state| {
            by.require(Scope::PolicyWrite, Some(&spec.environment))?;
            let (pack, mut events) = self.published(by, state, &spec.files)?;
            let revision = match tag {
                None => 1,
                Some(tag) => draft_at(state, by, &id, tag)?.revision + 1,
            };
            events.push(Event::PolicyDrafted(PolicyDrafted {
                by: by.credential.clone(),
                digest: pack.digest(),
                draft: id.clone(),
                environment: spec.environment.clone(),
                pack: pack_name(&pack)?,
                revision,
                source: spec.source.clone(),
                title: spec.title.clone(),
                v: BODY_VERSION,
            }));
            let at = events.len() - 1;
            Ok(Change { events, reads: Vec::new(), writes: Vec::new(), answer: id.clone(), at })
        })
        .await
    }

    /// A validated pack, and the event that publishes it if it is not known yet.
    fn published(
        &self,
        by: &Principal,
        state: &State,
        files: &BTreeMap<String, String>,
    ) -> Result<(Pack, Vec<Event>), RuntimeError> {
        let pack = validated(state, files)?;
        if state.versions.contains_key(&pack.digest()) {
            return Ok((pack, Vec::new()));
        }
        let event = Event::PolicyPublished(PolicyPublished {
            by: by.credential.clone(),
            digest: pack.digest(),
            files: files.iter().map(|(n, t)| (n.as_str().into(), t.as_str().into())).collect(),
            pack: pack_name(&pack)?,
            version: pack.version().into(),
            v: BODY_VERSION,
        });
        Ok((pack, vec![event]))
    }

    /// Measures a draft and, if it passes, hands it to the people who approve.
    pub async fn submit_draft(
        &self,
        by: &Principal,
        id: Name,
        tag: u64,
    ) -> Result<Changed<Vec<GateMeasure>>, RuntimeError> {
        by.require(Scope::PolicyWrite, None)?;
        if let Some(before) = self.made_before(by, ("draft.submit", &id, tag)).await? {
            return Ok(before);
        }
        let state = by.tenant.state();
        let draft = draft_at(&state, by, &id, tag)?.clone();
        let version = state.versions.get(&draft.digest).cloned().ok_or(Code::NotFound)?;
        let replaces = deployed(&state, &draft.environment)?;
        let (gates, simulation) = self.measure(by, &state, &draft.environment, &version).await?;
        refuse_failed(&gates)?;
        self.change(by, ("draft.submit", &id, tag), |by, state| {
            by.require(Scope::PolicyWrite, Some(&draft.environment))?;
            draft_at(state, by, &id, tag)?;
            let event = Event::PolicySubmitted(PolicySubmitted {
                by: by.credential.clone(),
                digest: draft.digest,
                draft: id.clone(),
                gates: gates.clone(),
                replaces,
                simulation: simulation.clone(),
                v: BODY_VERSION,
            });
            Ok(Change::new(event, gates.clone()))
        })
        .await
    }

    /// One person's yes to a draft's content as it is.
    pub async fn approve_draft(
        &self,
        by: &Principal,
        id: Name,
        tag: u64,
        reason: &str,
    ) -> Result<Changed<()>, RuntimeError> {
        reasoned(reason)?;
        self.change(by, ("draft.approve", &id, tag, reason), |by, state| {
            let draft = draft_at(state, by, &id, tag)?;
            by.require(Scope::PolicyApprove, Some(&draft.environment))?;
            let approver = match state.person(&by.credential) {
                Person::Member(member) => member,
                person @ Person::Service(_) => return Err(fold(LifecycleError::NotEligible(person))),
            };
            let event = Event::PolicyApproved(PolicyApproved {
                approver,
                by: by.credential.clone(),
                digest: draft.digest,
                draft: id.clone(),
                reason: reason.into(),
                v: BODY_VERSION,
            });
            Ok(Change::new(event, ()))
        })
        .await
    }

    /// One person's no, which ends this revision of a draft.
    pub async fn reject_draft(
        &self,
        by: &Principal,
        id: Name,
        tag: u64,
        reason: &str,
    ) -> Result<Changed<()>, RuntimeError> {
        reasoned(reason)?;
        self.change(by, ("draft.reject", &id, tag, reason), |by, state| {
            let draft = draft_at(state, by, &id, tag)?;
            by.require(Scope::PolicyApprove, Some(&draft.environment))?;
            let event = Event::PolicyRejected(PolicyRejected {
                by: by.credential.clone(),
                digest: draft.digest,
                draft: id.clone(),
                reason: reason.into(),
                v: BODY_VERSION,
            });
            Ok(Change::new(event, ()))
        })
        .await
    }

    /// Deploys an approved draft. Takes effect at its ledger position for every later decision; then
    /// its expected outcomes are decided, and another outcome takes it back.
    pub async fn deploy_draft(&self, by: &Principal, id: Name) -> Result<Deployed, RuntimeError> {
        by.require(Scope::PolicyWrite, None)?;
        if let Some(before) = self.deployed_before(by, &id).await? {
            return Ok(before);
        }
        let state = by.tenant.state();
        let draft = state.drafts.get(&id).filter(|d| by.sees(&d.environment));
        let draft = draft.ok_or(Code::NotFound)?.clone();
        let environment = draft.environment.clone();
        if state.draft_status(&draft) != DraftStatus::Approved {
            let given = state.approvals_given(&draft);
            let needed = state.approvals_needed(&draft);
            let status = state.draft_status(&draft).as_str();
            let error = match state.draft_status(&draft) {
                DraftStatus::Submitted => LifecycleError::Approvals { given, needed },
                _ => LifecycleError::Status { draft: id, status },
            };
            return Err(fold(error));
        }
        let version = state.versions.get(&draft.digest).cloned().ok_or(Code::NotFound)?;
        let replaces = deployed(&state, &environment)?;
        // What was measured when it was submitted was another day, or against another version.
        let (gates, simulation) = self.measure(by, &state, &environment, &version).await?;
        refuse_failed(&gates)?;
        let what = Deployment { version, replaces, draft: Some(id.clone()), simulation };
        self.deploy(by, &environment, what, &id).await
    }

    /// The answer to a deployment that was made under the same idempotency key, as long as it stands.
    async fn deployed_before(
        &self,
        by: &Principal,
        asked: &(impl Serialize + Sync),
    ) -> Result<Option<Deployed>, RuntimeError> {
        let before = self.made_before::<Deployed>(by, ("deployment", asked)).await?;
        let Some(Changed { answer, index, .. }) = before else { return Ok(None) };
        if deployed(&by.tenant.state(), &answer.environment)? != Some(answer.digest) {
            return Err(fold(LifecycleError::Superseded { environment: answer.environment }));
        }
        let verification = verify_expectations(&by.tenant.state(), &answer.environment, self.now());
        Ok(Some(Deployed { index, verification, ..answer }))
    }

    /// Validates and measures a pack, and deploys it without a draft: where the environment asks for
    /// no approvals.
    pub async fn deploy_pack(
        &self,
        by: &Principal,
        environment: &EnvironmentId,
        files: BTreeMap<String, String>,
    ) -> Result<Deployed, RuntimeError> {
        by.require(Scope::PolicyWrite, Some(environment))?;
        let asked = (environment, &files);
        if let Some(before) = self.deployed_before(by, &asked).await? {
            return Ok(before);
        }
        let state = by.tenant.state();
        if settings(&state, environment)?.settings.policy.approvals > 0 {
            return Err(fold(LifecycleError::DraftNeeded(environment.clone())));
        }
        validated(&state, &files)?;
        let boxed = files.iter().map(|(n, t)| (n.as_str().into(), t.as_str().into())).collect();
        let version = Arc::new(Version::compile(&boxed)?);
        let replaces = deployed(&state, environment)?;
        let (gates, simulation) = self.measure(by, &state, environment, &version).await?;
        refuse_failed(&gates)?;
        self.deploy(by, environment, Deployment { version, replaces, draft: None, simulation }, &asked).await
    }

    async fn deploy(
        &self,
        by: &Principal,
        environment: &EnvironmentId,
        what: Deployment,
        asked: &(impl Serialize + Sync),
    ) -> Result<Deployed, RuntimeError> {
        let Deployment { version, replaces, draft, simulation } = what;
        let state = by.tenant.state();
        if replaces.is_none() {
            // There is nothing to go back to: what fails is not deployed.
            let tried = state.trying(environment, &version).ok_or(Code::EnvironmentUnknown)?;
            verified(&verify_expectations(&tried, environment, self.now()), Code::GateFailed)?;
        }
        let files: BTreeMap<String, String> =
            version.files.iter().map(|(n, t)| (n.to_string(), t.to_string())).collect();
        let answer = Deployed {
            environment: environment.clone(),
            digest: version.digest,
            replaces,
            verification: Vec::new(),
            index: 0,
        };
        let changed = self.change(by, ("deployment", asked), |by, state| {
            by.require(Scope::PolicyWrite, Some(environment))?;
            // Validated again, on the state that it is deployed into.
            let (_, mut events) = self.published(by, state, &files)?;
            events.push(Event::PolicyDeployed(PolicyDeployed {
                by: by.credential.clone(),
                cause: DeployCause::Deploy,
                digest: version.digest,
                draft: draft.clone(),
                environment: environment.clone(),
                pack: version.pack.clone(),
                reason: None,
                replaces,
                simulation: Some(simulation.clone()),
                v: BODY_VERSION,
            }));
            let at = events.len() - 1;
            Ok(Change { events, reads: Vec::new(), writes: Vec::new(), answer: answer.clone(), at })
        });
        let index = changed.await?.index;
        let verification = self.settle(&by.tenant, environment, index).await?;
        verified(&verification, Code::VerificationFailed)?;
        Ok(Deployed { verification, index, ..answer })
    }

    /// Decides the expected outcomes of a deployment that nobody has decided yet, records what came of
    /// them, and takes the version back if they were others. Whoever deploys waits for it; what is left
    /// undone by a crash or by a caller who is gone, housekeeping does.
    async fn settle(
        &self,
        tenant: &Arc<Tenant>,
        environment: &EnvironmentId,
        deployment: u64,
    ) -> Result<Vec<ExpectationResult>, RuntimeError> {
        let mut results = Vec::new();
        for _ in 0..MAX_ATTEMPTS {
            let state = tenant.state();
            let history = &settings(&state, environment)?.history;
            let Some(last) = history.last() else { return Ok(results) };
            if last.index != deployment {
                // It was taken back just now, or another one was faster: either way it decides no more.
                return match results.is_empty() {
                    false => Ok(results),
                    true => Err(fold(LifecycleError::Superseded { environment: environment.clone() })),
                };
            }
            let now = self.now();
            let event = match last.verified {
                None => {
                    results = verify_expectations(&state, environment, now);
                    if results.is_empty() {
                        return Ok(results);
                    }
                    Event::PolicyVerified(PolicyVerified {
                        at: now,
                        by: last.credential.clone(),
                        digest: last.version.digest,
                        environment: environment.clone(),
                        passed: results.iter().all(ExpectationResult::as_expected),
                        results: results.clone(),
                        v: BODY_VERSION,
                    })
                }
                Some(false) if last.cause == DeployCause::Deploy && history.len() > 1 => {
                    let before = history.iter().rev().nth(1).map(|d| &d.version).ok_or(Code::NotFound)?;
                    Event::PolicyDeployed(PolicyDeployed {
                        by: last.credential.clone(),
                        cause: DeployCause::Reverted,
                        digest: before.digest,
                        draft: None,
                        environment: environment.clone(),
                        pack: before.pack.clone(),
                        reason: Some("its expected outcomes were others".into()),
                        replaces: Some(last.version.digest),
                        simulation: None,
                        v: BODY_VERSION,
                    })
                }
                Some(_) => return Ok(results),
            };
            let commit = Commit {
                tenant: tenant.id.clone(),
                now,
                control_version: Some(state.control),
                reads: Vec::new(),
                writes: Vec::new(),
                entries: vec![entry_of(&event)?],
            };
            match self.append(commit).await {
                Ok(_) | Err(StoreError::Conflict(Conflict::Control { .. } | Conflict::Fact { .. })) => {
                    self.follow(tenant).await?;
                }
                Err(StoreError::Conflict(Conflict::Late { head })) => self.saw(head),
                Err(error) => return Err(error.into()),
            }
        }
        Err(Code::ConflictExhausted.into())
    }

    /// Settles every deployment that was left in between. For housekeeping.
    pub async fn settle_deployments(&self) {
        for tenant in self.tenants() {
            self.settle_deployments_of(&tenant).await;
        }
    }

    pub(crate) async fn settle_deployments_of(&self, tenant: &Arc<Tenant>) {
        let state = tenant.state();
        let open = state.environments.values().filter_map(|e| {
            let last = e.history.last()?;
            let expects = intended_engine::expectations(&state, &e.id).next().is_some();
            let undone = last.verified.is_none() && expects
                || last.verified == Some(false) && last.cause == DeployCause::Deploy && e.history.len() > 1;
            undone.then(|| (e.id.clone(), last.index))
        });
        for (environment, deployment) in open.collect::<Vec<_>>() {
            if let Err(error) = self.settle(tenant, &environment, deployment).await {
                tracing::warn!(tenant = %tenant.id, %environment, %error, "a deployment is not settled yet");
            }
        }
    }

    /// Goes back to the version before, or to a named one that was deployed here, once it validates
    /// again. Where that takes two people, the first asks and the second, asking for the same, does it.
    pub async fn rollback(
        &self,
        by: &Principal,
        environment: &EnvironmentId,
        from: Option<u64>,
        to: Option<Digest>,
        reason: &str,
    ) -> Result<RolledBack, RuntimeError> {
        reasoned(reason)?;
        let now = self.now();
        let changed = self.change(by, ("rollback", environment, from, to, reason), |by, state| {
            by.require(Scope::PolicyWrite, Some(environment))?;
            let known = settings(state, environment)?;
            let nothing = || RuntimeError::new(Code::NotFound, "nothing is deployed here");
            let current = known.history.last().ok_or_else(nothing)?;
            if from.is_some_and(|index| index != current.index) {
                return Err(fold(LifecycleError::Superseded { environment: environment.clone() }));
            }
            let from = current.version.digest;
            let none = || RuntimeError::new(Code::NotFound, "no earlier version was deployed here");
            let to = to.or_else(|| previous(known)).ok_or_else(none)?;
            let version = state.versions.get(&to).ok_or(Code::NotFound)?;
            let files = version.files.iter().map(|(n, t)| (n.to_string(), t.to_string())).collect();
            validated(state, &files)?;
            let asked = known.rollback.as_ref().filter(|p| p.to == to && p.from == from && p.expires_at > now);
            let given = 1 + u32::from(asked.is_some_and(|p| state.is_another(p, &by.credential)));
            let needed = state.rollback_people(known);
            if given >= needed {
                let event = Event::PolicyDeployed(PolicyDeployed {
                    by: by.credential.clone(),
                    cause: DeployCause::Rollback,
                    digest: to,
                    draft: None,
                    environment: environment.clone(),
                    pack: version.pack.clone(),
                    reason: Some(reason.into()),
                    replaces: Some(from),
                    simulation: None,
                    v: BODY_VERSION,
                });
                return Ok(Change::new(event, (from, to, None)));
            }
            if asked.is_some() {
                return Err(fold(LifecycleError::RollbackPeople { given, needed }));
            }
            let expires_at = now.plus_secs(ROLLBACK_TTL_SECS);
            let event = Event::RollbackRequested(RollbackRequested {
                by: by.credential.clone(),
                environment: environment.clone(),
                expires_at,
                from,
                reason: reason.into(),
                to,
                v: BODY_VERSION,
            });
            Ok(Change::new(event, (from, to, Some(expires_at))))
        });
        let changed = changed.await?;
        let (from, to, waiting) = changed.answer;
        if let Some(expires_at) = waiting {
            return Ok(RolledBack::Waiting { to, expires_at, index: changed.index });
        }
        let verification = match changed.repeated {
            true => Vec::new(),
            false => self.settle(&by.tenant, environment, changed.index).await?,
        };
        Ok(RolledBack::Done(Deployed {
            environment: environment.clone(),
            digest: to,
            replaces: Some(from),
            verification,
            index: changed.index,
        }))
    }

    /// Validation, tests, simulation: what can be measured before people look.
    pub async fn measure(
        &self,
        by: &Principal,
        state: &State,
        environment: &EnvironmentId,
        version: &Arc<Version>,
    ) -> Result<(Vec<GateMeasure>, SimulationSummary), RuntimeError> {
        let files: BTreeMap<String, String> =
            version.files.iter().map(|(n, t)| (n.to_string(), t.to_string())).collect();
        let gate = |gate, passed, detail: String| GateMeasure { detail: detail.into(), gate, passed };
        let pack = match validated(state, &files) {
            Ok(pack) => pack,
            Err(error) => {
                let failed = gate(PolicyGate::Validation, false, error.detail);
                return Ok((vec![failed], SimulationSummary::default()));
            }
        };
        let mut gates = vec![gate(PolicyGate::Validation, true, format!("{} policies", version.compiled.len()))];
        gates.push(self.tests(&pack, version, &files).await?);
        let simulation = self.simulate_recent(by, environment, version).await?;
        let rules = &settings(state, environment)?.settings.policy;
        gates.push(within_limits(rules, pack.thresholds(), &simulation.summary));
        Ok((gates, simulation.summary))
    }

    /// Measures one thing of a version, for whoever wants to know before submitting it.
    pub async fn measure_one(
        &self,
        state: &State,
        version: &Arc<Version>,
        gate: PolicyGate,
    ) -> Result<GateMeasure, RuntimeError> {
        let files: BTreeMap<String, String> =
            version.files.iter().map(|(n, t)| (n.to_string(), t.to_string())).collect();
        match validated(state, &files) {
            Ok(pack) if gate == PolicyGate::Tests => self.tests(&pack, version, &files).await,
            Ok(_) => {
                Ok(GateMeasure { detail: format!("{} policies", version.compiled.len()).into(), gate, passed: true })
            }
            Err(error) => Ok(GateMeasure { detail: error.detail.into(), gate: PolicyGate::Validation, passed: false }),
        }
    }

    /// Runs a pack's tests, away from the threads that decide.
    async fn tests(
        &self,
        pack: &Pack,
        version: &Arc<Version>,
        files: &BTreeMap<String, String>,
    ) -> Result<GateMeasure, RuntimeError> {
        let (version, files) = (Arc::clone(version), files.clone());
        let wanted = pack.thresholds().coverage_percent;
        let tested = tokio::task::spawn_blocking(move || {
            let suite = Suite::parse(files.iter().map(|(n, t)| (n.as_str(), t.as_str())))?;
            intended_rehearse::run(&suite, &version, &|_, _| true)
        });
        let measure = |passed, detail: String| GateMeasure { detail: detail.into(), gate: PolicyGate::Tests, passed };
        Ok(match tested.await.map_err(RuntimeError::internal)? {
            Err(error) => measure(false, error.to_string()),
            Ok(report) => {
                let (cases, failed, coverage) = (report.cases.len(), report.failed(), report.coverage.percent());
                let first = report.cases.iter().find(|c| !c.passed());
                let detail = match first {
                    Some(case) => format!(
                        "{failed} of {cases} cases fail; first {}:{}: {}: {}",
                        case.file,
                        case.line,
                        case.name(),
                        case.differs.join("; ")
                    ),
                    None => {
                        format!("{cases} cases pass, {coverage} % of the policies covered (at least {wanted} % wanted)")
                    }
                };
                measure(failed == 0 && coverage >= wanted, detail)
            }
        })
    }

    /// Replays the environment's recent decisions through a version.
    pub async fn simulate_recent(
        &self,
        by: &Principal,
        environment: &EnvironmentId,
        version: &Arc<Version>,
    ) -> Result<Simulation, RuntimeError> {
        let state = by.tenant.state();
        let window = i64::from(settings(&state, environment)?.settings.policy.simulation_window_secs);
        let to = self.now().plus_millis(1);
        let plan = Plan {
            environment: environment.clone(),
            version: Arc::clone(version),
            base: None,
            only: None,
            from: to.plus_secs(-window),
            to,
        };
        self.simulate(by, plan, Arc::default()).await
    }

    /// Notes what the source of an environment's policy holds.
    pub async fn report_source(
        &self,
        by: &Principal,
        environment: EnvironmentId,
        digest: Digest,
        source: PolicySource,
    ) -> Result<u64, RuntimeError> {
        let changed = self.change(by, ("source", &environment, digest, &source), |by, _| {
            by.require(Scope::PolicyWrite, Some(&environment))?;
            let event = Event::PolicySourced(PolicySourced {
                by: by.credential.clone(),
                digest,
                environment: environment.clone(),
                source: source.clone(),
                v: BODY_VERSION,
            });
            Ok(Change::new(event, ()))
        });
        Ok(changed.await?.index)
    }

    /// Opens an incident, of one environment or of the tenant.
    pub async fn open_incident(
        &self,
        by: &Principal,
        environment: Option<EnvironmentId>,
        title: &str,
    ) -> Result<Changed<Name>, RuntimeError> {
        if title.trim().is_empty() || title.len() > 200 {
            return Err(RuntimeError::at(Code::RequestInvalid, "/title", "a title has 1 to 200 characters"));
        }
        let hex = intended_model::digest::hex(&self.random::<4>()?);
        let incident = Name::new(&format!("incident-{hex}")).map_err(RuntimeError::internal)?;
        self.change(by, ("incident", &environment, title), |by, _| {
            by.require_in(Scope::EmergencyWrite, environment.as_ref())?;
            let event = Event::IncidentOpened(IncidentOpened {
                by: by.credential.clone(),
                environment: environment.clone(),
                incident: incident.clone(),
                title: title.into(),
                v: BODY_VERSION,
            });
            Ok(Change::new(event, incident.clone()))
        })
        .await
    }

    /// Closes an incident, with a summary of what happened and what was done.
    pub async fn close_incident(&self, by: &Principal, incident: Name, reason: &str) -> Result<u64, RuntimeError> {
        if reason.trim().is_empty() || reason.len() > intended_engine::MAX_NOTE {
            return Err(RuntimeError::at(Code::RequestInvalid, "/summary", "a summary has 1 to 4,000 characters"));
        }
        let changed = self.change(by, ("incident.close", &incident, reason), |by, state| {
            let open = state.incidents.get(&incident);
            let open = open.ok_or_else(|| fold(LifecycleError::NoIncident(incident.clone())))?;
            by.require_in(Scope::EmergencyWrite, open.environment.as_ref())?;
            let event = Event::IncidentClosed(IncidentClosed {
                by: by.credential.clone(),
                incident: incident.clone(),
                reason: reason.into(),
                v: BODY_VERSION,
            });
            Ok(Change::new(event, ()))
        });
        Ok(changed.await?.index)
    }
}

fn fold(error: LifecycleError) -> RuntimeError {
    intended_engine::FoldError::from(error).into()
}

pub(crate) fn reasoned(reason: &str) -> Result<(), RuntimeError> {
    if reason.trim().is_empty() || reason.len() > 1_000 {
        return Err(RuntimeError::at(Code::RequestInvalid, "/reason", "a reason has 1 to 1,000 characters"));
    }
    Ok(())
}

fn pack_name(pack: &Pack) -> Result<Name, RuntimeError> {
    Name::new(pack.name()).map_err(|e| RuntimeError::at(Code::PackInvalid, "/files/pack.toml", e.to_string()))
}

fn settings<'s>(state: &'s State, environment: &EnvironmentId) -> Result<&'s Environment, RuntimeError> {
    state.environments.get(environment).ok_or_else(|| Code::EnvironmentUnknown.into())
}

fn deployed(state: &State, environment: &EnvironmentId) -> Result<Option<Digest>, RuntimeError> {
    Ok(settings(state, environment)?.deployed.as_ref().map(|v| v.digest))
}

/// The version to go back to: the newest that was deployed before the current one, is another, and
/// was not itself taken back.
#[must_use]
pub fn previous(environment: &Environment) -> Option<Digest> {
    let current = environment.deployed.as_ref()?.digest;
    let failed = |d: &&intended_engine::Deployment| d.verified == Some(false);
    let good = environment.history.iter().rev().filter(|d| !failed(d));
    good.map(|d| d.version.digest).find(|d| *d != current)
}

/// A draft that the caller may see, at the entity tag that they have read.
fn draft_at<'s>(
    state: &'s State,
    by: &Principal,
    id: &Name,
    tag: u64,
) -> Result<&'s intended_engine::Draft, RuntimeError> {
    let draft = state.drafts.get(id).filter(|d| by.sees(&d.environment)).ok_or(Code::NotFound)?;
    if draft.changed_at != tag {
        let detail = format!("it is at revision {} with the tag \"{}\"", draft.revision, draft.changed_at);
        return Err(RuntimeError::new(Code::DraftStale, detail));
    }
    Ok(draft)
}

/// Of a window's decisions, at least so many in a hundred must have been made again: a radius of what
/// could not be measured is no radius.
const MIN_COVERAGE_PERCENT: u64 = 90;

/// The blast radius and the new escalations against the stricter of the environment's and the pack's limits.
fn within_limits(
    rules: &intended_model::entry::PolicyRules,
    own: &intended_policy::Thresholds,
    summary: &SimulationSummary,
) -> GateMeasure {
    let blast = own.max_blast_permille.unwrap_or(1000).min(rules.max_blast_permille);
    let escalations =
        [own.max_new_escalations_per_hour, rules.max_new_escalations_per_hour].into_iter().flatten().min();
    let radius = summary.blast_permille;
    let mut over = Vec::new();
    if summary.replayed.saturating_mul(100) < summary.decisions.saturating_mul(MIN_COVERAGE_PERCENT) {
        over.push(format!("less than {MIN_COVERAGE_PERCENT} % of the decisions could be replayed"));
    }
    if radius > blast {
        over.push(format!("blast radius {} % is above {} %", permille(radius), permille(blast)));
    }
    if let Some(most) = escalations.filter(|most| summary.new_escalations_per_hour > *most) {
        over.push(format!("{} new escalations in an hour are more than {most}", summary.new_escalations_per_hour));
    }
    let found = format!(
        "{} of {} decisions replayed, {} change ({} %), {} new escalations in the busiest hour",
        summary.replayed,
        summary.decisions,
        summary.changed,
        permille(radius),
        summary.new_escalations_per_hour
    );
    let passed = over.is_empty();
    let detail = if passed { found } else { format!("{}: {found}", over.join(", ")) };
    GateMeasure { detail: detail.into(), gate: PolicyGate::Simulation, passed }
}

/// Thousandths as percent.
fn permille(n: u32) -> String {
    if n.is_multiple_of(10) { format!("{}", n / 10) } else { format!("{}.{}", n / 10, n % 10) }
}

fn refuse_failed(gates: &[GateMeasure]) -> Result<(), RuntimeError> {
    let failed = gates.iter().filter(|g| !g.passed);
    let errors: Vec<Member> = failed
        .map(|g| Member {
            pointer: format!("/gates/{}", g.gate.as_str()),
            message: g.detail.to_string(),
            position: None,
        })
        .collect();
    let Some(first) = gates.iter().find(|g| !g.passed) else { return Ok(()) };
    let detail = format!("{}: {}", first.gate.as_str(), first.detail);
    Err(RuntimeError { errors, ..RuntimeError::new(Code::GateFailed, detail) })
}

/// Fails with what came out otherwise than expected.
fn verified(results: &[ExpectationResult], code: Code) -> Result<(), RuntimeError> {
    let errors: Vec<Member> = results
        .iter()
        .enumerate()
        .filter(|(_, r)| !r.as_expected())
        .map(|(n, r)| {
            let what =
                format!("`{}`: expected {}, got {} ({})", r.name, r.expected.as_str(), r.decision.as_str(), r.reason);
            Member { pointer: format!("/expectations/{n}"), message: what, position: None }
        })
        .collect();
    let Some(first) = errors.first() else { return Ok(()) };
    let detail = format!("verification: {}", first.message);
    Err(RuntimeError { errors, ..RuntimeError::new(code, detail) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulation_that_could_replay_too_little_passes_no_gate() {
        let rules = intended_model::entry::PolicyRules { max_blast_permille: 1000, ..Default::default() };
        let gate = |decisions, replayed| {
            let summary = SimulationSummary { decisions, replayed, ..SimulationSummary::default() };
            within_limits(&rules, &intended_policy::Thresholds::default(), &summary)
        };
        for (decisions, replayed, passed) in [(1_000, 0, false), (1_000, 899, false), (1_000, 900, true), (0, 0, true)]
        {
            let gate = gate(decisions, replayed);
            assert_eq!(gate.passed, passed, "{}", gate.detail);
            assert_eq!(gate.detail.contains("less than 90 %"), !passed, "{}", gate.detail);
        }
    }
}
