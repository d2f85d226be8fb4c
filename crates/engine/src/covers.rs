//! Which of many things cover an action. However many there are, only those are looked at that name
//! its agent, tool, category or connector, or a prefix of one.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use intended_intents::domain_of;
use intended_model::Intent;
use intended_model::decision::Classification;
use intended_model::entry::BreakerScope;

/// What an action is known by.
#[derive(Debug, Clone, Copy)]
pub struct Acting<'a> {
    pub agent: &'a str,
    pub tool: &'a str,
    /// An unknown tool has none, and is denied for that.
    pub category: Option<&'a str>,
    /// Of the category.
    pub domain: Option<&'a str>,
    pub connector: Option<&'a str>,
}

impl<'a> Acting<'a> {
    /// As a decision procedure has it. Before the third, what covered a domain covered nothing, and a
    /// connector was what the entry of the catalogue says.
    #[must_use]
    pub fn by(procedure: u32, intent: &'a Intent, classification: &'a Classification) -> Self {
        let domain = classification.category.as_deref().filter(|_| procedure > 2).map(domain_of);
        Self { domain, ..Self::with(intent, classification, classification.system.as_deref()) }
    }

    /// As it is now, whenever it was recorded, with [`connector_of`](intended_model::emergency::connector_of)
    /// its tool.
    #[must_use]
    pub fn with(intent: &'a Intent, classification: &'a Classification, connector: Option<&'a str>) -> Self {
        let category = classification.category.as_deref();
        Self {
            agent: &intent.subject.id,
            tool: &intent.action.name,
            category,
            domain: category.map(domain_of),
            // What nobody has catalogued is nobody's connector: it is denied for that, and is any name at all.
            connector: connector.filter(|_| category.is_some()),
        }
    }
    /// What it is in a scope.
    #[must_use]
    pub fn text(&self, scope: BreakerScope) -> Option<&'a str> {
        match scope {
            BreakerScope::Agent => Some(self.agent),
            BreakerScope::Tool => Some(self.tool),
            BreakerScope::Category => self.category,
            BreakerScope::Connector => self.connector,
            BreakerScope::Tenant => Some(""),
        }
    }
}

/// How what a breaker watches is written where it is looked up: systems are the same in any case.
#[must_use]
pub fn as_watched(scope: BreakerScope, target: &str) -> Cow<'_, str> {
    if scope == BreakerScope::Connector && target.bytes().any(|b| b.is_ascii_uppercase()) {
        return target.to_ascii_lowercase().into();
    }
    target.into()
}

type ByText<T> = HashMap<Box<str>, Vec<T>>;

/// Things by what they cover.
#[derive(Debug, Clone)]
pub struct Covers<T> {
    exact: HashMap<BreakerScope, ByText<T>>,
    /// By length: as many look-ups as there are different ones.
    prefixes: HashMap<BreakerScope, BTreeMap<usize, ByText<T>>>,
}

impl<T> Default for Covers<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), prefixes: HashMap::new() }
    }
}

fn prefix(scope: BreakerScope, target: &str) -> Option<&str> {
    target.strip_suffix('*').filter(|_| scope.has_patterns())
}

impl<T> Covers<T> {
    pub fn add(&mut self, scope: BreakerScope, target: &str, thing: T) {
        let (texts, text) = match prefix(scope, target) {
            Some(prefix) => (self.prefixes.entry(scope).or_default().entry(prefix.len()).or_default(), prefix),
            None => (self.exact.entry(scope).or_default(), target),
        };
        texts.entry(text.into()).or_default().push(thing);
    }

    pub fn remove(&mut self, scope: BreakerScope, target: &str, which: impl Fn(&T) -> bool) {
        fn take<T>(texts: &mut ByText<T>, text: &str, which: impl Fn(&T) -> bool) {
            if let Some(things) = texts.get_mut(text) {
                things.retain(|t| !which(t));
                if things.is_empty() {
                    texts.remove(text);
                }
            }
        }
        match prefix(scope, target) {
            None => {
                if let Some(texts) = self.exact.get_mut(&scope) {
                    take(texts, target, which);
                    if texts.is_empty() {
                        self.exact.remove(&scope);
                    }
                }
            }
            Some(prefix) => {
                if let Some(lengths) = self.prefixes.get_mut(&scope) {
                    if let Some(texts) = lengths.get_mut(&prefix.len()) {
                        take(texts, prefix, which);
                    }
                    lengths.retain(|_, texts| !texts.is_empty());
                    if lengths.is_empty() {
                        self.prefixes.remove(&scope);
                    }
                }
            }
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefixes.is_empty()
    }

    /// Gives `found` whatever covers an action, in no particular order.
    pub fn covering<'s>(&'s self, acting: &Acting<'_>, mut found: impl FnMut(&'s T)) {
        for (scope, texts) in &self.exact {
            let of = |text: &str| texts.get(text).into_iter().flatten();
            acting.text(*scope).into_iter().flat_map(of).for_each(&mut found);
            if *scope == BreakerScope::Category {
                let domain = acting.domain.filter(|domain| acting.category != Some(domain));
                domain.into_iter().flat_map(of).for_each(&mut found);
            }
        }
        for (scope, lengths) in &self.prefixes {
            let Some(text) = acting.text(*scope) else { continue };
            let prefixes = lengths.iter().filter_map(|(length, texts)| texts.get(text.get(..*length)?));
            prefixes.flatten().for_each(&mut found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_covers_is_found_by_name_and_by_every_prefix_and_what_was_removed_is_not() {
        let acting = Acting {
            agent: "a*",
            tool: "stripe.create_refund",
            category: Some("OIL-104"),
            domain: Some("OIL-100"),
            connector: None,
        };
        let all = [
            (BreakerScope::Agent, "a*", true),
            (BreakerScope::Agent, "a", false),
            (BreakerScope::Agent, "*", false),
            (BreakerScope::Tool, "*", true),
            (BreakerScope::Tool, "stripe.*", true),
            (BreakerScope::Tool, "stripe.create_refund*", true),
            (BreakerScope::Tool, "stripe.create_refund", true),
            (BreakerScope::Tool, "stripe.create_refunds*", false),
            (BreakerScope::Tool, "strip", false),
            (BreakerScope::Category, "OIL-1*", true),
            (BreakerScope::Category, "OIL-2*", false),
            (BreakerScope::Category, "OIL-100", true),
            (BreakerScope::Category, "OIL-500", false),
            (BreakerScope::Connector, "stripe", false),
            (BreakerScope::Tenant, "", true),
        ];
        let mut covers = Covers::default();
        for (at, (scope, target, _)) in all.iter().enumerate() {
            covers.add(*scope, target, at);
        }
        let found = |covers: &Covers<usize>| {
            let mut found = Vec::new();
            covers.covering(&acting, |at| found.push(*at));
            found.sort_unstable();
            found
        };
        let expected: Vec<usize> = (0..all.len()).filter(|at| all[*at].2).collect();
        assert_eq!(found(&covers), expected);
        for (at, (scope, target, _)) in all.iter().enumerate() {
            covers.remove(*scope, target, |t| *t == at);
            assert!(!found(&covers).contains(&at));
        }
        assert!(covers.is_empty());
    }
}
