//! The outcomes that a version is expected to have, decided on a tenant's state: what is verified
//! right after a deployment, and by anyone who reads the ledger.
//!
//! These decisions are about policy. They are made as if nothing were halted and no breaker held, in
//! a fresh session, with empty budgets: an emergency does not make a version wrong.

use std::collections::BTreeMap;

use intended_model::decision::{Input, PROCEDURE};
use intended_model::entry::ExpectationResult;
use intended_model::{Class, CredentialId, Digest, EnvironmentId, Intent, IntentId, Timestamp};
use intended_policy::Expectation;

use crate::decide::decide;
use crate::state::State;

/// The expectations of the deployed version that concern an environment.
pub fn expectations<'s>(state: &'s State, environment: &'s EnvironmentId) -> impl Iterator<Item = &'s Expectation> {
    let deployed = state.environments.get(environment).and_then(|e| e.deployed.as_deref());
    let all = deployed.map(|v| &*v.expectations).unwrap_or_default();
    all.iter().filter(move |e| e.environment.as_ref().is_none_or(|only| only == environment))
}

/// Decides each expected outcome of the deployed version. The same state and time give the same results.
#[must_use]
pub fn verify_expectations(state: &State, environment: &EnvironmentId, at: Timestamp) -> Vec<ExpectationResult> {
    let mut calm = state.clone();
    calm.unhalted();
    std::sync::Arc::make_mut(&mut calm.breakers).calm();
    let Ok(credential) = CredentialId::new("verification") else { return Vec::new() };
    expectations(state, environment)
        .map(|expectation| {
            let mut intent = expectation.intent.clone();
            intent.environment = environment.clone();
            let decision = decide(&calm, &input(&calm, intent, credential.clone(), at));
            ExpectationResult {
                decision: decision.decision,
                expected: expectation.decision,
                expected_reason: expectation.reason,
                name: expectation.name.clone(),
                reason: decision.reason,
            }
        })
        .collect()
}

/// The input of a decision that nobody asked for: first in its session, with empty budgets.
#[must_use]
pub fn input(state: &State, intent: Intent, credential: CredentialId, at: Timestamp) -> Input {
    let session = intent.session.is_some().then(Default::default);
    Input {
        approvals: Vec::new(),
        at,
        audience: None,
        catalogue: state.catalogue.digest(),
        class: Class::of(PROCEDURE, &intent.action.name),
        classification: state.classify(PROCEDURE, &intent.action.name),
        control: state.control,
        counters: BTreeMap::new(),
        credential,
        expires_at: None,
        id: IntentId::v7(at, [0; 10]),
        intent_hash: intent.digest().unwrap_or_else(|_| Digest::of(b"")),
        intent,
        procedure: PROCEDURE,
        session,
    }
}
