//! Telling others what happens to approvals, over HTTP.
//!
//! A webhook follows the ledger: it has a cursor, a ledger index, which moves on when a delivery was
//! acknowledged or given up. So nothing is lost in a crash, what happened comes in order, and some of
//! it may come twice; its id is the same then. A receiver that fails is tried again for about a day;
//! meanwhile nothing else is sent to it. What is sent is that something happened; whoever wants to
//! act on it signs in.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use intended_engine::keys;
use intended_model::entry::{BODY_VERSION, Scope, WebhookSet};
use intended_model::{Code, Digest, EnvironmentId, Event, Name, Timestamp};
use intended_store::{Commit, StoreError, Write};
use serde::{Deserialize, Serialize};
use serde_json::json;
use zeroize::Zeroizing;

use crate::admin::Change;
use crate::tenant::event_of;
use crate::{Principal, Runtime, RuntimeError, Tenant};

pub mod address;
pub mod message;
mod resolve;

pub use address::Reach;
pub use message::EVENTS;
pub use resolve::Resolver;

/// When a delivery that failed is tried again: seconds after each failure. Then it is given up.
pub const RETRIES: [i64; 9] = [5, 30, 120, 600, 1_800, 7_200, 18_000, 28_800, 28_800];
/// Most webhooks of a tenant.
pub const MAX_WEBHOOKS: usize = 32;
/// How long the secret from before a rotation signs as well.
pub const OVERLAP_MS: i64 = 24 * 3_600_000;
/// Most deliveries to one webhook in one round: others get their turn.
const MAX_ROUND: usize = 64;
const PAGE: usize = 512;

/// One request to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post {
    pub url: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

/// What sends requests. It follows no redirect, connects to no address that its [`Reach`] does not
/// allow, gives up after some seconds, and answers the status.
pub trait Notifier: Send + Sync + 'static {
    fn reach(&self) -> &Reach;
    fn post(&self, post: Post) -> Pin<Box<dyn Future<Output = Result<u16, String>> + Send>>;
}

/// What a webhook is to be.
#[derive(Debug, Clone, Serialize)]
pub struct WebhookSpec {
    pub webhook: Name,
    pub url: Box<str>,
    pub events: Vec<Box<str>>,
    pub environment: Option<EnvironmentId>,
}

/// How far a webhook has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The next ledger index to look at.
    pub next: u64,
    /// How often the delivery at `next` has failed.
    pub attempt: u32,
    /// Not before then.
    pub due_at: Option<Timestamp>,
    /// Why it failed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    pub delivered: u64,
    /// Given up after all retries.
    pub dropped: u64,
    pub last_at: Option<Timestamp>,
    /// The receiver said that it is gone (410): nothing more is sent until it is set again.
    #[serde(default)]
    pub gone: bool,
}

#[derive(Serialize, Deserialize)]
struct Secrets {
    current: String,
    previous: Option<(String, Timestamp)>,
}

fn cursor_key(webhook: &Name) -> String {
    format!("wh/{webhook}")
}
fn secret_key(webhook: &Name) -> String {
    keys::sealed_key("webhook", webhook.as_str())
}

impl Runtime {
    /// Sets what sends requests. Without one nothing is sent.
    pub fn set_notifier(&self, notifier: Arc<dyn Notifier>) {
        let _ = self.notifier.set(notifier);
    }

    fn sendable(&self) -> Reach {
        self.notifier.get().map(|n| n.reach().clone()).unwrap_or_default()
    }

    /// Makes a webhook, or changes it. A new one gets a secret, which is answered and shown once.
    pub async fn set_webhook(
        &self,
        by: &Principal,
        spec: WebhookSpec,
    ) -> Result<(u64, Option<Zeroizing<String>>), RuntimeError> {
        self.sendable().check(&spec.url).map_err(|why| RuntimeError::at(Code::WebhookUrl, "/url", why))?;
        let known: HashSet<&str> = EVENTS.into_iter().collect();
        if spec.events.is_empty() || spec.events.iter().collect::<HashSet<_>>().len() != spec.events.len() {
            return Err(RuntimeError::at(Code::RequestInvalid, "/events", "name each event once"));
        }
        if let Some(at) = spec.events.iter().position(|e| !known.contains(&**e)) {
            let detail = format!("one of {}", EVENTS.join(", "));
            return Err(RuntimeError::at(Code::RequestInvalid, format!("/events/{at}"), detail));
        }
        let fresh = self.new_secret()?;
        let sealed = self.seal_secrets(by, &spec.webhook, &Secrets { current: fresh.to_string(), previous: None })?;
        let start = self.store().head(&by.tenant.id).await?.size;
        let changed = self.change(by, ("webhook", &spec), |by, state| {
            let known = state.webhooks.get(&spec.webhook);
            if let Some(known) = known {
                by.require_in(Scope::AccessWrite, known.environment.as_ref())?;
            }
            by.require_in(Scope::AccessWrite, spec.environment.as_ref())?;
            if known.is_none() && state.webhooks.len() >= MAX_WEBHOOKS {
                let detail = format!("there are {MAX_WEBHOOKS} webhooks already");
                return Err(RuntimeError::new(Code::Conflict, detail));
            }
            let event = Event::WebhookSet(WebhookSet {
                active: true,
                by: by.credential.clone(),
                environment: spec.environment.clone(),
                events: spec.events.clone(),
                url: spec.url.clone(),
                webhook: spec.webhook.clone(),
                v: BODY_VERSION,
            });
            let mut change = Change::new(event, known.is_none());
            // One that is set again begins with what happens from here on, and is tried anew.
            change.writes.push(put(cursor_key(&spec.webhook), &Cursor { next: start, ..Cursor::default() })?);
            if known.is_none() {
                change.writes.push(sealed.clone());
            }
            Ok(change)
        });
        let changed = changed.await?;
        Ok((changed.index, (changed.answer && !changed.repeated).then_some(fresh)))
    }

    /// Removes a webhook.
    pub async fn remove_webhook(&self, by: &Principal, webhook: &Name) -> Result<u64, RuntimeError> {
        let changed = self.change(by, ("webhook.remove", webhook), |by, state| {
            let known = state.webhooks.get(webhook).ok_or(Code::NotFound)?;
            by.require_in(Scope::AccessWrite, known.environment.as_ref())?;
            let event = WebhookSet { active: false, by: by.credential.clone(), ..known.clone() };
            let mut change = Change::new(Event::WebhookSet(event), ());
            change.writes.push(Write::Delete { key: cursor_key(webhook).into() });
            change.writes.push(Write::Delete { key: secret_key(webhook).into() });
            Ok(change)
        });
        Ok(changed.await?.index)
    }

    /// Gives a webhook another secret. For a day both sign.
    pub async fn rotate_webhook(
        &self,
        by: &Principal,
        webhook: &Name,
    ) -> Result<(u64, Zeroizing<String>), RuntimeError> {
        by.require(Scope::AccessWrite, None)?;
        let before = self.secrets(&by.tenant, webhook)?.ok_or(Code::NotFound)?;
        let fresh = self.new_secret()?;
        let until = self.now().plus_millis(OVERLAP_MS);
        let secrets = Secrets { current: fresh.to_string(), previous: Some((before.current, until)) };
        let sealed = self.seal_secrets(by, webhook, &secrets)?;
        let changed = self.change(by, ("webhook.rotate", webhook), |by, state| {
            let known = state.webhooks.get(webhook).ok_or(Code::NotFound)?;
            by.require_in(Scope::AccessWrite, known.environment.as_ref())?;
            // The ledger says that it was set; what its secret is stays beside it.
            let event = WebhookSet { by: by.credential.clone(), ..known.clone() };
            let mut change = Change::new(Event::WebhookSet(event), ());
            change.writes.push(sealed.clone());
            Ok(change)
        });
        let changed = changed.await?;
        if changed.repeated {
            let detail = "this request rotated the secret before; it was in the first answer and is kept nowhere";
            return Err(RuntimeError::new(Code::Conflict, detail));
        }
        Ok((changed.index, fresh))
    }

    /// The webhooks that the caller sees, with how far each has come.
    pub fn webhooks(&self, by: &Principal) -> Result<Vec<(WebhookSet, Cursor)>, RuntimeError> {
        let state = by.tenant.state();
        let seen = |w: &&WebhookSet| w.environment.as_ref().map_or(by.sees_all(), |e| by.sees(e));
        let rows = state.webhooks.values().filter(seen);
        rows.map(|w| Ok((w.clone(), self.cursor(&by.tenant, &w.webhook)?.0))).collect()
    }

    /// Sends a test event now and says what came of it.
    pub async fn test_webhook(&self, by: &Principal, webhook: &Name) -> Result<Result<u16, String>, RuntimeError> {
        let state = by.tenant.state();
        let known = state.webhooks.get(webhook).ok_or(Code::NotFound)?.clone();
        by.require_in(Scope::AccessWrite, known.environment.as_ref())?;
        let now = self.now();
        let data = json!({"tenant": by.tenant.id.as_str(), "webhook": webhook.as_str()});
        let id = format!("msg_test_{}", self.random_id()?);
        let post = self.signed_post(&by.tenant, &known, &id, "webhook.test", &data, now)?;
        Ok(match self.notifier.get() {
            Some(notifier) => notifier.post(post).await,
            None => Err("this server sends nothing".to_owned()),
        })
    }

    fn new_secret(&self) -> Result<Zeroizing<String>, RuntimeError> {
        use base64::Engine as _;
        let bytes = Zeroizing::new(self.random::<32>()?);
        Ok(Zeroizing::new(format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(*bytes))))
    }

    fn seal_secrets(&self, by: &Principal, webhook: &Name, secrets: &Secrets) -> Result<Write, RuntimeError> {
        let clear = Zeroizing::new(serde_json::to_vec(secrets).map_err(RuntimeError::internal)?);
        let context = format!("{}/{webhook}", by.tenant.id);
        let sealed = self.root_key().seal("webhook", &context, &clear, self.rng()).map_err(RuntimeError::internal)?;
        Ok(Write::Put { key: secret_key(webhook).into(), value: sealed.into_bytes(), expires_at: None })
    }

    fn secrets(&self, tenant: &Tenant, webhook: &Name) -> Result<Option<Secrets>, RuntimeError> {
        let Some(fact) = self.store().fact_now(&tenant.id, &secret_key(webhook))? else { return Ok(None) };
        let context = format!("{}/{webhook}", tenant.id);
        let clear = self
            .root_key()
            .open("webhook", &context, &String::from_utf8_lossy(&fact.value))
            .map_err(|e| RuntimeError::new(Code::KeySealed, e.to_string()))?;
        serde_json::from_slice(&clear).map(Some).map_err(RuntimeError::internal)
    }

    fn cursor(&self, tenant: &Tenant, webhook: &Name) -> Result<(Cursor, u64), RuntimeError> {
        match self.store().fact_now(&tenant.id, &cursor_key(webhook))? {
            Some(fact) => Ok((serde_json::from_slice(&fact.value).map_err(RuntimeError::internal)?, fact.version)),
            None => Ok((Cursor::default(), 0)),
        }
    }

    fn signed_post(
        &self,
        tenant: &Tenant,
        webhook: &WebhookSet,
        id: &str,
        event: &str,
        data: &serde_json::Value,
        occurred: Timestamp,
    ) -> Result<Post, RuntimeError> {
        use base64::Engine as _;
        let now = self.now();
        let secrets = self.secrets(tenant, &webhook.webhook)?.ok_or(Code::KeyMissing)?;
        let previous = secrets.previous.filter(|(_, until)| now < *until).map(|(secret, _)| secret);
        let decoded: Vec<Zeroizing<Vec<u8>>> = std::iter::once(secrets.current)
            .chain(previous)
            .filter_map(|s| {
                base64::engine::general_purpose::STANDARD.decode(s.strip_prefix("whsec_")?).ok().map(Zeroizing::new)
            })
            .collect();
        let body = json!({"type": event, "timestamp": occurred.to_string(), "data": data});
        let body = serde_json::to_vec(&body).map_err(RuntimeError::internal)?;
        let raw: Vec<&[u8]> = decoded.iter().map(|s| s.as_slice()).collect();
        let mut headers = vec![("content-type", "application/json".to_owned())];
        headers.extend(message::signed(id, now, &body, &raw));
        Ok(Post { url: webhook.url.to_string(), headers, body })
    }

    /// Whether something sends what is due.
    pub(crate) fn sends(&self) -> bool {
        self.notifier.get().is_some()
    }

    /// Signs a message for a webhook as if it were to be sent.
    pub(crate) fn signable(&self, tenant: &Tenant, webhook: &WebhookSet) -> Result<(), RuntimeError> {
        let data = json!({"webhook": webhook.webhook.as_str()});
        self.signed_post(tenant, webhook, "msg_probe", "webhook.test", &data, self.now()).map(drop)
    }

    /// Whether any tenant has a webhook.
    #[must_use]
    pub fn has_webhooks(&self) -> bool {
        self.tenants().iter().any(|t| !t.state().webhooks.is_empty())
    }

    /// Sends what is due to every webhook, each as far as it takes it. Called by the shell every
    /// second; one round at a time. Answers how many deliveries were acknowledged.
    pub async fn deliver_webhooks(&self) -> usize {
        let Some(_round) = self.round_of_deliveries() else { return 0 };
        let mut delivered = 0;
        for tenant in self.tenants() {
            delivered += self.deliver_webhooks_of(&tenant).await;
        }
        delivered
    }

    /// Begins a round, if none goes on: it does for as long as this is held.
    pub(crate) fn round_of_deliveries(&self) -> Option<Round<'_>> {
        let begun = self.notifier.get().is_some() && !self.delivering.swap(true, Ordering::AcqRel);
        begun.then(|| Round(&self.delivering))
    }

    pub(crate) async fn deliver_webhooks_of(&self, tenant: &Arc<Tenant>) -> usize {
        let (state, mut delivered) = (tenant.state(), 0);
        // A receiver that is slow holds up its own deliveries and nobody else's.
        let rounds = state.webhooks.values().map(|webhook| self.deliver(tenant, webhook));
        for (webhook, done) in state.webhooks.keys().zip(join_all(rounds).await) {
            match done {
                Ok(n) => delivered += n,
                Err(error) => {
                    tracing::warn!(tenant = %tenant.id, %webhook, %error, "a webhook could not be delivered");
                }
            }
        }
        delivered
    }

    async fn deliver(&self, tenant: &Arc<Tenant>, webhook: &WebhookSet) -> Result<usize, RuntimeError> {
        let Some(notifier) = self.notifier.get() else { return Ok(0) };
        let (mut cursor, mut version) = self.cursor(tenant, &webhook.webhook)?;
        if cursor.gone || cursor.due_at.is_some_and(|due| self.now() < due) {
            return Ok(0);
        }
        let began = cursor.next;
        let mut delivered = 0;
        for _ in 0..MAX_ROUND {
            let Some((index, at, event)) = self.next_event(tenant, &mut cursor.next).await? else { break };
            let state = tenant.state();
            let message = message::message(index, at, &event, &state).filter(|m| {
                webhook.events.iter().any(|e| **e == *m.event)
                    && webhook.environment.as_ref().is_none_or(|e| m.environment.as_ref() == Some(e))
            });
            let Some(message) = message else {
                cursor.next = index + 1;
                continue;
            };
            // The same for every attempt: a receiver can tell what it has had.
            let id =
                format!("msg_{}", Digest::of(format!("{}/{}/{index}", tenant.id, webhook.webhook).as_bytes()).to_hex());
            let now = self.now();
            let post = self.signed_post(tenant, webhook, &id, message.event, &message.data, at)?;
            let outcome = notifier.post(post).await;
            let failed = match outcome {
                Ok(200..=299) => None,
                Ok(410) => {
                    cursor.gone = true;
                    Some("the receiver says that it is gone (410)".to_owned())
                }
                Ok(status) => Some(format!("the receiver answered {status}")),
                Err(why) => Some(why),
            };
            cursor.last_at = Some(now);
            match failed {
                None => {
                    delivered += 1;
                    cursor = Cursor {
                        next: index + 1,
                        attempt: 0,
                        due_at: None,
                        failed: None,
                        delivered: cursor.delivered + 1,
                        ..cursor
                    };
                }
                Some(why) => {
                    let wait = usize::try_from(cursor.attempt).ok().and_then(|n| RETRIES.get(n));
                    tracing::info!(tenant = %tenant.id, webhook = %webhook.webhook, index, %why, "a delivery failed");
                    cursor.next = index;
                    match wait {
                        Some(wait) => {
                            cursor.attempt += 1;
                            cursor.due_at = Some(now.plus_secs(*wait));
                        }
                        None => {
                            cursor = Cursor {
                                next: index + 1,
                                attempt: 0,
                                due_at: None,
                                dropped: cursor.dropped + 1,
                                ..cursor
                            };
                        }
                    }
                    cursor.failed = Some(why);
                    self.keep(tenant, &webhook.webhook, &cursor, version).await?;
                    return Ok(delivered);
                }
            }
            version = self.keep(tenant, &webhook.webhook, &cursor, version).await?;
        }
        if cursor.next > began {
            self.keep(tenant, &webhook.webhook, &cursor, version).await?;
        }
        Ok(delivered)
    }

    /// The next entry that can matter; `next` moves over those that cannot.
    async fn next_event(
        &self,
        tenant: &Tenant,
        next: &mut u64,
    ) -> Result<Option<(u64, Timestamp, Event)>, RuntimeError> {
        loop {
            let page = self.store().entries(&tenant.id, *next, PAGE).await?;
            let Some(last) = page.last().map(|e| e.index) else { return Ok(None) };
            for entry in page {
                if message::can_matter(&entry.leaf) {
                    return Ok(Some((entry.index, entry.at, event_of(&entry.leaf)?)));
                }
            }
            *next = last + 1;
        }
    }

    /// Writes down how far a webhook has come. One that was set again meanwhile is left as it is.
    async fn keep(&self, tenant: &Tenant, webhook: &Name, cursor: &Cursor, version: u64) -> Result<u64, RuntimeError> {
        let key = cursor_key(webhook);
        let commit = Commit {
            tenant: tenant.id.clone(),
            now: self.now(),
            control_version: None,
            reads: vec![(key.as_str().into(), version)],
            writes: vec![put(key.clone(), cursor)?],
            entries: Vec::new(),
        };
        match self.follower.commit(commit).await {
            Ok(_) => Ok(self.store().fact_now(&tenant.id, &key)?.map_or(0, |f| f.version)),
            Err(StoreError::Conflict(_)) => Err(RuntimeError::new(Code::Conflict, "the webhook was changed")),
            Err(error) => Err(error.into()),
        }
    }
}

fn put(key: String, value: &Cursor) -> Result<Write, RuntimeError> {
    let value = serde_json::to_vec(value).map_err(RuntimeError::internal)?;
    Ok(Write::Put { key: key.into(), value, expires_at: None })
}

/// One round of deliveries. However it ends, the next can begin.
pub(crate) struct Round<'a>(&'a AtomicBool);

impl Drop for Round<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Runs all to their end, side by side on this task.
async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(|f| (Box::pin(f), None)).collect();
    std::future::poll_fn(|cx| {
        let mut all = true;
        for (future, done) in &mut running {
            if done.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(output) => *done = Some(output),
                    std::task::Poll::Pending => all = false,
                }
            }
        }
        if all { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    running.into_iter().filter_map(|(_, done)| done).collect()
}
