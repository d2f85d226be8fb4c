//! An incident as evidence: JSON lines that can be checked without the server. A header with a signed
//! checkpoint, the timeline, and for each entry on it a proof that it is in the ledger. What was
//! counted rather than recorded, a spike of denials, says so; the file holds some of the denials.

use std::collections::{BTreeMap, BTreeSet};

use intended_ledger::{Checkpoint, NoteVerifier, Receipt, origin};
use intended_model::{Event, Kind, Name, TenantId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::timeline::{Item, Spike, concerns, item};

/// What the header's `format` says.
pub const FORMAT: &str = "intended-incident-evidence";

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// A signed note; every proof is against it.
    pub checkpoint: String,
    pub format: String,
    /// The timeline's beginning, exclusive its end.
    pub from: Timestamp,
    pub incident: Name,
    pub size: u64,
    pub tenant: TenantId,
    pub to: Timestamp,
    /// Entries of that time that were not looked at, because there were too many.
    #[serde(default)]
    pub unseen: u64,
    pub v: u32,
    /// The ledger's public key. Trust one that you got from elsewhere rather than this.
    pub vkey: String,
}

/// A line between the first and the last.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Line {
    Item(Item),
    Spike(Spike),
    Receipt(Box<Receipt>),
}

/// The last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trailer {
    pub end: bool,
    /// How many lines there are between.
    pub lines: u64,
    /// [`seal_text`] as a note that the ledger's key signed: no line can be left out or added.
    pub seal: String,
}

/// What is signed of a file: the digest of all that stands before the trailer, line ends included.
#[must_use]
pub fn seal_text(tenant: &TenantId, incident: &Name, before: &str) -> String {
    let digest = intended_model::Digest::of(before.as_bytes());
    format!("intended.so/incident-evidence/1\n{tenant}\n{incident}\n{digest}\n")
}

/// Why a file does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    #[error("the first line is not the header of an incident's evidence: {0}")]
    Header(String),
    #[error("line {line}: {what}")]
    Line { line: usize, what: String },
    #[error("the file is signed with another key than the trusted one")]
    Key,
    #[error("the checkpoint: {0}")]
    Checkpoint(String),
    #[error("the last line is not the trailer: the file is cut short")]
    Trailer,
    #[error("the seal does not fit: lines were changed, left out or added, or another key signed it")]
    Seal,
    #[error("{0}")]
    Whole(String),
}

/// What was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    pub header: Header,
    pub title: String,
    /// Absent while it was open.
    pub closed_at: Option<Timestamp>,
    /// In order.
    pub items: Vec<Item>,
    pub proven: usize,
    pub spikes: Vec<Spike>,
    pub root: String,
}

/// Checks a file. `trusted` is the ledger's public key as known from elsewhere.
pub fn verify(text: &str, trusted: Option<&str>) -> Result<Evidence, EvidenceError> {
    let mut lines = text.lines().enumerate();
    let first = lines.next().map(|(_, l)| l).unwrap_or_default();
    let header: Header =
        intended_model::json::from_slice(first.as_bytes()).map_err(|e| EvidenceError::Header(e.to_string()))?;
    if header.format != FORMAT || header.v != 2 {
        return Err(EvidenceError::Header(format!("the format is `{}`, version {}", header.format, header.v)));
    }
    if trusted.is_some_and(|t| t != header.vkey) {
        return Err(EvidenceError::Key);
    }
    let key = NoteVerifier::parse(&header.vkey).map_err(|e| EvidenceError::Checkpoint(e.to_string()))?;
    let checkpoint =
        Checkpoint::verified(&header.checkpoint, &key).map_err(|e| EvidenceError::Checkpoint(e.to_string()))?;
    if checkpoint.size != header.size || key.name() != origin(&header.tenant) {
        return Err(EvidenceError::Checkpoint("it is of another ledger or size than the header says".to_owned()));
    }
    let (mut items, mut spikes, mut ended, mut count) = (Vec::new(), Vec::new(), false, 0_u64);
    let mut sealed = None;
    let mut proven: BTreeMap<u64, (Timestamp, Event)> = BTreeMap::new();
    for (n, text) in lines {
        let wrong = |what: String| EvidenceError::Line { line: n + 1, what };
        if ended {
            return Err(wrong("it stands after the trailer".to_owned()));
        }
        if text.starts_with("{\"end\"") {
            let trailer: Trailer =
                intended_model::json::from_slice(text.as_bytes()).map_err(|e| wrong(e.to_string()))?;
            if !trailer.end || trailer.lines != count {
                return Err(EvidenceError::Trailer);
            }
            sealed = Some(trailer.seal);
            ended = true;
            continue;
        }
        count += 1;
        // Read as it stands: an entry's bytes are what is proved.
        match serde_json::from_str::<Line>(text).map_err(|e| wrong(e.to_string()))? {
            Line::Item(item) => items.push(item),
            Line::Spike(spike) => spikes.push(spike),
            Line::Receipt(receipt) => {
                if receipt.checkpoint != header.checkpoint {
                    return Err(wrong("its proof is against another checkpoint".to_owned()));
                }
                let proved = receipt.verify(&header.vkey).map_err(|e| wrong(e.to_string()))?;
                let kind =
                    Kind::parse(&proved.kind).ok_or_else(|| wrong(format!("the kind `{}` is unknown", proved.kind)))?;
                let body =
                    intended_model::json::parse_recorded(proved.body.as_bytes()).map_err(|e| wrong(e.to_string()))?;
                let event = Event::parse(kind, &body).map_err(|e| wrong(e.to_string()))?;
                if proven.insert(proved.index, (proved.at, event)).is_some() {
                    return Err(wrong(format!("entry {} stands twice", proved.index)));
                }
            }
        }
    }
    let Some(seal) = sealed.filter(|_| ended) else { return Err(EvidenceError::Trailer) };
    let before = text.rfind("{\"end\"").and_then(|end| text.get(..end)).unwrap_or_default();
    let sealed = key.verify(&seal).map_err(|_| EvidenceError::Seal)?;
    if sealed != seal_text(&header.tenant, &header.incident, before) {
        return Err(EvidenceError::Seal);
    }
    whole(&header, &items, &spikes, &proven)?;
    let of_it = |name: &Name| *name == header.incident;
    let title = proven.values().find_map(|(_, e)| match e {
        Event::IncidentOpened(e) if of_it(&e.incident) => Some(e.title.to_string()),
        _ => None,
    });
    let title = title.ok_or_else(|| EvidenceError::Whole("the entry that opened it is not there".to_owned()))?;
    let closed_at = proven.values().find_map(|(at, e)| match e {
        Event::IncidentClosed(e) if of_it(&e.incident) => Some(*at),
        _ => None,
    });
    Ok(Evidence { title, closed_at, proven: proven.len(), items, spikes, root: checkpoint.root.to_string(), header })
}

/// Each line of the timeline is what its entry says, and each entry has its line.
fn whole(
    header: &Header,
    items: &[Item],
    spikes: &[Spike],
    proven: &BTreeMap<u64, (Timestamp, Event)>,
) -> Result<(), EvidenceError> {
    let wrong = |what: String| Err(EvidenceError::Whole(what));
    if items.windows(2).any(|w| matches!(w, [a, b] if a.at > b.at)) {
        return wrong("the timeline is not in order".to_owned());
    }
    let mut counted: Vec<Item> = spikes.iter().map(Spike::item).collect();
    let mut seen = BTreeSet::new();
    for line in items {
        let Some(index) = line.index else {
            let Some(at) = counted.iter().position(|c| c == line) else {
                return wrong(format!("`{}` is no entry, and nothing was counted so", line.what));
            };
            counted.swap_remove(at);
            continue;
        };
        let Some((at, event)) = proven.get(&index) else {
            return wrong(format!("entry {index} is not proved"));
        };
        if item(index, *at, event) != *line {
            return wrong(format!("entry {index} does not say `{}`", line.what));
        }
        if !(header.from..header.to).contains(at) || !(concerns(event.kind()) || matches!(event, Event::Decision(_))) {
            return wrong(format!("entry {index} does not belong to it"));
        }
        if !seen.insert(index) {
            return wrong(format!("entry {index} stands on the timeline twice"));
        }
    }
    match proven.keys().find(|index| !seen.contains(index)) {
        Some(index) => wrong(format!("entry {index} is not on the timeline")),
        None if !counted.is_empty() => wrong("a spike is not on the timeline".to_owned()),
        None => Ok(()),
    }
}
