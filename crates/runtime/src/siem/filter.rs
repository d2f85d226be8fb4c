//! Which entries a collector gets. Everything that is given must match; of a list, any of it.

use std::collections::BTreeSet;

use intended_engine::State;
use intended_model::decision::Outcome;
use intended_model::{Event, Kind};
use serde::{Deserialize, Serialize};

use crate::audit::Environments;
use intended_model::about::About;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// Decisions that come out so; entries that are no decisions are not concerned.
    pub decisions: Vec<Outcome>,
    /// Kinds of entries, `decision`, `halt.thrown`, or `halt.*`.
    pub kinds: Vec<String>,
    /// Whose entries: any of these three.
    pub agents: Vec<String>,
    pub credentials: Vec<String>,
    pub members: Vec<String>,
    /// What is about the whole tenant is about each of them.
    pub environments: Vec<String>,
}

impl Filter {
    /// A word of it that means nothing.
    #[must_use]
    pub fn wrong(&self) -> Option<String> {
        let known = |text: &str| match text.strip_suffix('*') {
            Some(begin) => Kind::ALL.iter().any(|k| k.as_str().starts_with(begin)),
            None => Kind::parse(text).is_some(),
        };
        let kind = self.kinds.iter().find(|k| !known(k));
        kind.map(|k| format!("`{k}` is no kind of entry"))
    }

    /// Whether an entry is to be sent.
    #[must_use]
    pub fn takes(&self, event: &Event, about: &About<'_>, environments: Environments<'_>, state: &State) -> bool {
        let any = |list: &[String], word: Option<&str>| word.is_some_and(|w| list.iter().any(|l| l == w));
        let kind = event.kind().as_str();
        let of_kind = |text: &String| match text.strip_suffix('*') {
            Some(begin) => kind.starts_with(begin),
            None => kind == text,
        };
        if !self.kinds.is_empty() && !self.kinds.iter().any(of_kind) {
            return false;
        }
        if let (Event::Decision(record), false) = (event, self.decisions.is_empty())
            && !self.decisions.contains(&record.decision.decision)
        {
            return false;
        }
        if !(self.agents.is_empty() && self.credentials.is_empty() && self.members.is_empty()) {
            let by = about.by;
            let own = by.and_then(intended_model::CredentialId::member);
            let holder = by.and_then(|by| state.credentials.get(by)).and_then(|c| c.member.as_ref());
            let people: BTreeSet<&str> =
                [own.as_ref(), holder, about.member].into_iter().flatten().map(|m| m.as_str()).collect();
            let whose = any(&self.agents, about.agent)
                || any(&self.credentials, by.map(|b| b.as_str()))
                || self.members.iter().any(|m| people.contains(m.as_str()));
            if !whose {
                return false;
            }
        }
        self.environments.is_empty()
            || matches!(environments, Environments::Every)
            || self.environments.iter().any(|e| environments.name(e))
    }
}
