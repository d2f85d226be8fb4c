//! The policy engine: what decides in each environment, whether it has all that it names, and how long
//! it takes to decide something.

use std::sync::Arc;
use std::time::Duration;

use intended_engine::{Environment, State, decide};
use intended_model::decision::{Decision, GateName, Input, PROCEDURE};
use intended_model::entry::AgentState;
use intended_model::intent::{Action, Resource, Subject};
use intended_model::{Class, Code, CredentialId, EnvironmentId, Intent, IntentId, Value};

use super::{Finding, POLICY, Sheet, degraded, healthy, unavailable};
use crate::metrics::Stopwatch;
use crate::{Runtime, RuntimeError, Tenant};

/// A decision that takes this long is felt by whoever waits for it.
const SLOW: Duration = Duration::from_millis(100);
/// And this long nobody waits for one.
const STUCK: Duration = Duration::from_secs(2);
/// Tools that are tried, spread over the catalogue: policies are found by what they are about.
const TRIED: usize = 8;
/// Names that are told.
const TOLD: usize = 5;

const SLOW_TODO: &str = "See which policies are evaluated (`intended policy lint`); take back the version that was \
    deployed last: `intended policy rollback`.";

impl Runtime {
    pub(super) fn check_version(sheet: &mut Sheet, tenant: &Tenant, environment: &Environment) {
        let of = format!("{}/{}", tenant.id, environment.id);
        let found = match &environment.deployed {
            Some(v) => healthy(format!("{} {} ({})", v.pack, v.version, v.digest.short())),
            None => degraded(
                "nothing deployed, everything is denied",
                "Deploy a version: `intended policy deploy <directory> -e <environment>`.",
            ),
        };
        sheet.add(POLICY, "policy version", found.of(&of));
        let Some(version) = &environment.deployed else { return };
        let names = &environment.missing.names;
        let found = if names.is_empty() {
            healthy(format!("{} policies have all that they name", version.compiled.ids().count()))
        } else {
            let told = names.iter().take(TOLD).map(|(named, policy)| format!("`{}` in `{policy}`", named.id));
            let told: Vec<String> = told.collect();
            let more = names.len().saturating_sub(TOLD);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            degraded(
                format!("not there any more: {}{more}", told.join(", ")),
                "Register what is missing again, or deploy a version that does not name it: what is missing helps \
                 nothing through.",
            )
        };
        sheet.add(POLICY, "names", found.of(of));
    }

    /// Decides something that nobody asked for, on the state as it is. It is a function of values:
    /// nothing is recorded or counted.
    pub(super) async fn check_evaluation(
        &self,
        sheet: &mut Sheet,
        tenant: &Tenant,
        state: &Arc<State>,
        of: &EnvironmentId,
    ) {
        let (state, environment, at) = (Arc::clone(state), of.clone(), self.now());
        let trying = tokio::task::spawn_blocking(move || try_tools(&state, &environment, at));
        let found = match tokio::time::timeout(STUCK, trying).await {
            Ok(Ok(Ok(found))) => found,
            Ok(Ok(Err(error))) => unavailable(error.to_string(), SLOW_TODO),
            Ok(Err(_)) => unavailable("deciding ended without a decision", SLOW_TODO),
            Err(_) => unavailable(format!("no decision after {} ms", STUCK.as_millis()), SLOW_TODO),
        };
        sheet.add(POLICY, "evaluation", found.of(format!("{}/{of}", tenant.id)));
    }
}

fn try_tools(
    state: &State,
    environment: &EnvironmentId,
    at: intended_model::Timestamp,
) -> Result<Finding, RuntimeError> {
    let tools: Vec<&str> = state.catalogue.tools().map(|(tool, _, _)| tool).collect();
    let step = tools.len().div_ceil(TRIED).max(1);
    let mut worst = Duration::ZERO;
    for tool in tools.into_iter().step_by(step) {
        let input = made_up(state, environment, tool, at)?;
        let watch = Stopwatch::start();
        let decision = decide(state, &input);
        worst = worst.max(watch.elapsed());
        if decide(state, &input) != decision {
            return Ok(unavailable(
                "the same input was decided in two ways",
                "Halt, stop this node and keep its memory and its log: this must not happen.",
            ));
        }
        if let Some(errors) = failed(&decision) {
            return Ok(degraded(
                format!("`{tool}` cannot be evaluated: {errors}"),
                "An evaluation error in any policy denies. Guard what the policy asks for with `hasTag`, and deploy it.",
            ));
        }
        if worst > STUCK {
            break;
        }
    }
    let detail = format!("a decision takes {:.2} ms", worst.as_secs_f64() * 1000.0);
    Ok(if worst < SLOW {
        healthy(detail)
    } else if worst < STUCK {
        degraded(detail, SLOW_TODO)
    } else {
        unavailable(detail, SLOW_TODO)
    })
}

/// The policies that could not be evaluated, if any.
fn failed(decision: &Decision) -> Option<&str> {
    let gate = decision.gates.iter().find(|g| g.gate == GateName::Policy && g.code == Code::PolicyError)?;
    Some(&gate.detail)
}

/// An intent of an agent that is there, to use a tool that there is.
fn made_up(
    state: &State,
    environment: &EnvironmentId,
    tool: &str,
    at: intended_model::Timestamp,
) -> Result<Input, RuntimeError> {
    let here = |a: &intended_engine::Agent| a.state == AgentState::Active && a.environments.contains(environment);
    let agent = state.agents.iter().find(|(_, a)| here(a));
    let (id, kind) = agent.map_or(("health-probe", "agent"), |(id, a)| (&**id, &*a.kind));
    let resource = state.capabilities.first().map_or("health-probe", |c| &*c.resource_type);
    let intent = Intent {
        action: Action { name: tool.into(), properties: Value::object() },
        context: Value::object(),
        environment: environment.clone(),
        goal: None,
        resource: Resource { id: "health-probe".into(), kind: resource.into(), properties: Value::object() },
        session: None,
        subject: Subject { id: id.into(), kind: kind.into(), properties: Value::object() },
    };
    Ok(Input {
        approvals: Vec::new(),
        at,
        audience: None,
        catalogue: state.catalogue.digest(),
        class: Class::Traffic,
        classification: state.classify(PROCEDURE, tool),
        control: state.control,
        counters: std::collections::BTreeMap::new(),
        credential: CredentialId::new("health-probe").map_err(RuntimeError::internal)?,
        expires_at: None,
        id: IntentId::v7(at, [0; 10]),
        intent_hash: intent.digest().map_err(RuntimeError::internal)?,
        intent,
        procedure: PROCEDURE,
        session: None,
    })
}
