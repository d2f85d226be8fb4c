//! Incidents: what happened while something was wrong, taken from the ledger, and a proof of it for
//! those who were not there.

use std::collections::BTreeMap;

use intended_ledger::Receipt;
use intended_model::decision::Outcome;
use intended_model::entry::{BODY_VERSION, IncidentNoted, IncidentOpened, Scope};
use intended_model::{Code, CredentialId, EnvironmentId, Event, Name, Timestamp};
use intended_store::StoredEntry;
use intended_verify::incident::{FORMAT, Header, Line, Trailer, seal_text};
use intended_verify::timeline::{BASELINE_MINUTES, Item, Spike, concerns, item, spikes};

use crate::admin::Change;
use crate::audit::Environments;
use crate::tenant::event_of;
use crate::{Principal, Runtime, RuntimeError};

/// How long before an incident was opened its timeline begins.
pub const BEFORE_SECS: i64 = 3_600;
/// And at most.
pub const MAX_BEFORE_SECS: i64 = 86_400;
/// Most entries that one timeline looks at: a bound on work. What is beyond is said to be.
pub const MAX_SCAN: u64 = 200_000;
/// Denials of a spike that are shown and proved, each minute.
const SHOWN: usize = 5;
const PAGE: usize = 256;

/// An incident, open or closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    pub incident: Name,
    pub environment: Option<EnvironmentId>,
    pub title: Box<str>,
    pub by: CredentialId,
    pub index: u64,
    pub opened_at: Timestamp,
    pub notes: u32,
    pub closed: Option<Closed>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    pub index: u64,
    pub at: Timestamp,
    pub by: CredentialId,
    pub summary: Box<str>,
}

impl Case {
    pub(crate) fn opened(index: u64, at: Timestamp, e: IncidentOpened) -> Self {
        Self {
            incident: e.incident,
            environment: e.environment,
            title: e.title,
            by: e.by,
            index,
            opened_at: at,
            notes: 0,
            closed: None,
        }
    }
}

/// What happened.
#[derive(Debug, Clone)]
pub struct Timeline {
    pub from: Timestamp,
    /// Exclusive.
    pub to: Timestamp,
    /// In order.
    pub items: Vec<Item>,
    pub spikes: Vec<Spike>,
    /// Entries within that were not looked at.
    pub unseen: u64,
}

impl Runtime {
    /// An incident that the caller sees.
    pub async fn incident(&self, by: &Principal, incident: &Name) -> Result<Case, RuntimeError> {
        let reach = self.reach(&by.tenant).await?;
        let case = reach.incidents.get(incident).ok_or(Code::NotFound)?;
        if case.environment.as_ref().is_some_and(|e| !by.sees(e)) {
            return Err(Code::NotFound.into());
        }
        Ok(case.clone())
    }

    /// Notes what was found or done.
    pub async fn note_incident(&self, by: &Principal, incident: Name, text: &str) -> Result<u64, RuntimeError> {
        let changed = self.change(by, ("incident.note", &incident, text), |by, state| {
            let open = state
                .incidents
                .get(&incident)
                .ok_or_else(|| RuntimeError::new(Code::NotFound, format!("the incident `{incident}` is not open")))?;
            by.require_in(Scope::EmergencyWrite, open.environment.as_ref())?;
            let event = Event::IncidentNoted(IncidentNoted {
                by: by.credential.clone(),
                incident: incident.clone(),
                text: text.into(),
                v: BODY_VERSION,
            });
            Ok(Change::new(event, ()))
        });
        Ok(changed.await?.index)
    }

    /// What happened from some time before an incident was opened until it was closed, or until now:
    /// as far as the caller sees it.
    pub async fn timeline(&self, by: &Principal, case: &Case, before_secs: i64) -> Result<Timeline, RuntimeError> {
        let size = self.store().head(&by.tenant.id).await?.size;
        self.timeline_until(by, case, before_secs, size).await.map(|(timeline, _)| timeline)
    }

    /// The same over the first `size` entries, with the entries.
    async fn timeline_until(
        &self,
        by: &Principal,
        case: &Case,
        before_secs: i64,
        size: u64,
    ) -> Result<(Timeline, BTreeMap<u64, StoredEntry>), RuntimeError> {
        let tenant = &by.tenant;
        let from = case.opened_at.plus_secs(-before_secs.clamp(0, MAX_BEFORE_SECS));
        let to = case.closed.as_ref().map_or_else(|| self.now(), |c| c.at).plus_millis(1);
        let minute = |at: Timestamp| at.as_millis().div_euclid(60_000);
        // What is usual is seen in what was before.
        let baseline = from.plus_secs(-BASELINE_MINUTES * 60);
        let mut next = self.first_at(tenant, baseline, size).await?;
        let end = self.first_at(tenant, to, size).await?;
        // The opening and everything after it is worth more than a long time before.
        let unseen_before = (end.saturating_sub(next)).saturating_sub(MAX_SCAN).min(case.index.saturating_sub(next));
        next += unseen_before;
        let stop = end.min(next.saturating_add(MAX_SCAN));
        let unseen = unseen_before + (end - stop);
        let (mut kept, mut items) = (BTreeMap::new(), Vec::new());
        let mut denials: BTreeMap<i64, u32> = BTreeMap::new();
        let mut shown: BTreeMap<i64, Vec<StoredEntry>> = BTreeMap::new();
        let reach = self.reach(tenant).await?;
        while next < stop {
            tokio::task::yield_now().await;
            let limit = usize::try_from(stop - next).unwrap_or(PAGE).min(PAGE);
            let page = self.store().entries(&tenant.id, next, limit).await?;
            let Some(last) = page.last() else { break };
            next = last.index + 1;
            for entry in page {
                let event = event_of(&entry.leaf)?;
                let environments = reach.of(&event);
                if !environments.seen_by(by) || !within(case, environments, &event) {
                    continue;
                }
                if let Event::Decision(record) = &event {
                    if record.decision.decision == Outcome::Deny && record.input.class.is_traffic() {
                        let minute = minute(entry.at);
                        *denials.entry(minute).or_default() += 1;
                        let some = shown.entry(minute).or_default();
                        if some.len() < SHOWN && entry.at >= from {
                            some.push(entry);
                        }
                    }
                } else if entry.at >= from && concerns(event.kind()) {
                    items.push(item(entry.index, entry.at, &event));
                    kept.insert(entry.index, entry);
                }
            }
        }
        let spikes = spikes(&denials, minute(from), minute(to));
        for spike in &spikes {
            items.push(spike.item());
            let some = shown.range(spike.from_minute..=spike.to_minute).flat_map(|(_, entries)| entries);
            for entry in some {
                items.push(item(entry.index, entry.at, &event_of(&entry.leaf)?));
                kept.insert(entry.index, entry.clone());
            }
        }
        items.sort_by(|a, b| a.at.cmp(&b.at).then_with(|| a.index.cmp(&b.index)));
        Ok((Timeline { from, to, items, spikes, unseen }, kept))
    }

    /// The incident as evidence: lines that [`intended_verify::incident::verify`] checks.
    pub async fn incident_evidence(
        &self,
        by: &Principal,
        case: &Case,
        before_secs: i64,
    ) -> Result<String, RuntimeError> {
        let tenant = &by.tenant;
        let (head, note) = self.head(tenant).await?;
        let (timeline, entries) = self.timeline_until(by, case, before_secs, head.size).await?;
        let header = Header {
            checkpoint: note.to_string(),
            format: FORMAT.to_owned(),
            from: timeline.from,
            incident: case.incident.clone(),
            size: head.size,
            tenant: tenant.id.clone(),
            to: timeline.to,
            unseen: timeline.unseen,
            v: 2,
            vkey: tenant.state().vkey.to_string(),
        };
        let mut out = serde_json::to_string(&header).map_err(RuntimeError::internal)?;
        let mut lines = 0;
        let mut add = |line: &Line| {
            lines += 1;
            out.push('\n');
            out.push_str(&serde_json::to_string(line).map_err(RuntimeError::internal)?);
            Ok::<_, RuntimeError>(())
        };
        timeline.items.into_iter().try_for_each(|item| add(&Line::Item(item)))?;
        timeline.spikes.into_iter().try_for_each(|spike| add(&Line::Spike(spike)))?;
        for (index, entry) in entries {
            let proof = self.store().inclusion_proof(&tenant.id, index, head.size).await?;
            let receipt = Receipt::new(&entry.leaf, index, &proof, &note).map_err(RuntimeError::internal)?;
            add(&Line::Receipt(Box::new(receipt)))?;
        }
        out.push('\n');
        let seal = tenant.sign_note(&seal_text(&tenant.id, &case.incident, &out));
        let trailer = serde_json::to_string(&Trailer { end: true, lines, seal }).map_err(RuntimeError::internal)?;
        Ok(format!("{out}{trailer}\n"))
    }
}

/// Whether an entry is about what the incident is about. Of other incidents nothing is.
fn within(case: &Case, environments: Environments<'_>, event: &Event) -> bool {
    let other = match event {
        Event::IncidentOpened(e) => e.incident != case.incident,
        Event::IncidentNoted(e) => e.incident != case.incident,
        Event::IncidentClosed(e) => e.incident != case.incident,
        _ => false,
    };
    let here = match (&case.environment, environments) {
        (None, _) | (_, Environments::Every) => true,
        (Some(environment), environments) => environments.name(environment.as_str()),
    };
    here && !other
}
