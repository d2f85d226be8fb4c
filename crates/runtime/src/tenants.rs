//! Tenants and environments as wholes: who operates the server makes tenants, and takes one, or has
//! one of its own take an environment, out of everything until it is reinstated.
//!
//! The operator's key is in no ledger: its SHA-256 stands in the server's configuration. It is good
//! for this and for nothing of any tenant.

use std::net::IpAddr;
use std::sync::Arc;

use intended_engine::access::OPERATOR;
use intended_keyring::{ApiKey, KeyKind};
use intended_model::entry::{AccessReinstated, AccessSuspended, BODY_VERSION, Scope, Settings, Tier};
use intended_model::{Code, CredentialId, Digest, EnvironmentId, Event, TenantId};

use crate::admin::{Bootstrap, Change};
use crate::{Principal, Runtime, RuntimeError, Tenant};

/// What the operator's key begins with.
pub const OPERATOR_PREFIX: &str = KeyKind::Operator.prefix();

/// Whoever operates the server. There is none without the key.
#[derive(Debug)]
pub struct Operator(());

impl Runtime {
    /// Says whose key the operator's is, by its SHA-256; `None`: nobody's.
    pub fn operated_by(&self, key: Option<Digest>) {
        self.operator.store(key.map(Arc::new));
    }

    /// The operator, by their key.
    pub fn authenticate_operator(&self, key: &str, from: Option<IpAddr>) -> Result<Operator, RuntimeError> {
        let key = ApiKey::parse(key).ok().filter(|k| k.kind() == KeyKind::Operator).map(|k| k.hash());
        if key.is_some() && key.as_ref() == self.operator.load().as_deref() {
            return Ok(Operator(()));
        }
        Err(self.guessed(Code::CredentialUnknown, from))
    }

    /// [`Self::create_tenant`], while the server runs.
    pub async fn found_tenant(
        &self,
        _: &Operator,
        id: &TenantId,
        environments: &[(EnvironmentId, Tier, Settings)],
    ) -> Result<Bootstrap, RuntimeError> {
        self.create_tenant(id, environments).await
    }

    /// Takes a tenant out of everything: every decision denies, and its credentials are refused.
    pub async fn suspend_tenant(&self, _: &Operator, id: &TenantId, reason: &str) -> Result<u64, RuntimeError> {
        let by = CredentialId::new(OPERATOR).map_err(RuntimeError::internal)?;
        let reason = reason.into();
        self.operate(id, Event::AccessSuspended(AccessSuspended { by, environment: None, reason, v: BODY_VERSION }))
            .await
    }
    pub async fn reinstate_tenant(&self, _: &Operator, id: &TenantId, reason: &str) -> Result<u64, RuntimeError> {
        let by = CredentialId::new(OPERATOR).map_err(RuntimeError::internal)?;
        let reason = reason.into();
        self.operate(id, Event::AccessReinstated(AccessReinstated { by, environment: None, reason, v: BODY_VERSION }))
            .await
    }

    async fn operate(&self, id: &TenantId, event: Event) -> Result<u64, RuntimeError> {
        let tenant: Arc<Tenant> = self.tenant(id).ok_or(Code::NotFound)?;
        Ok(self.change_of(&tenant, None, None, |_, _| Ok(Change::new(event.clone(), ()))).await?.index)
    }

    /// Takes an environment out of everything. It is the whole tenant's to say: who is responsible for
    /// an environment does not stop the others' access to it.
    pub async fn suspend_environment(
        &self,
        by: &Principal,
        environment: &EnvironmentId,
        reason: &str,
    ) -> Result<u64, RuntimeError> {
        let changed = self.change(by, ("environment.suspend", environment, reason), |by, _| {
            by.require_whole(Scope::AccessWrite)?;
            Ok(Change::new(
                Event::AccessSuspended(AccessSuspended {
                    by: by.credential.clone(),
                    environment: Some(environment.clone()),
                    reason: reason.into(),
                    v: BODY_VERSION,
                }),
                (),
            ))
        });
        Ok(changed.await?.index)
    }
    pub async fn reinstate_environment(
        &self,
        by: &Principal,
        environment: &EnvironmentId,
        reason: &str,
    ) -> Result<u64, RuntimeError> {
        let changed = self.change(by, ("environment.reinstate", environment, reason), |by, _| {
            by.require_whole(Scope::AccessWrite)?;
            Ok(Change::new(
                Event::AccessReinstated(AccessReinstated {
                    by: by.credential.clone(),
                    environment: Some(environment.clone()),
                    reason: reason.into(),
                    v: BODY_VERSION,
                }),
                (),
            ))
        });
        Ok(changed.await?.index)
    }
}
