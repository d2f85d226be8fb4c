//! Patterns of tool names: a literal prefix, one `*`, a literal suffix that may be empty.
//!
//! The `*` stands for any run of signs, also none; prefix and suffix never overlap in a name. One
//! pattern is narrower than another when its prefix and its suffix both extend the other's, so for
//! patterns that end in `*` the longer prefix is the narrower. The narrowest match speaks. Two
//! matches of which neither is narrower and which say different things are ambiguous: guessing
//! which one was meant could turn a delete into a read. There are no regular expressions, so a
//! look-up is bounded by the lengths of the name and of the prefixes, whatever the catalogue says.

use std::collections::{BTreeMap, BTreeSet};

use intended_model::decision::Classification;

/// Most suffixes after one prefix; bounds a look-up.
pub const MAX_SUFFIXES: usize = 64;

/// What the patterns of a catalogue say of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    Nothing,
    One(&'a Classification),
    /// At least two that disagree.
    Disagree,
}

/// All patterns of a catalogue, by prefix. Order of insertion leaves no trace.
#[derive(Debug, Clone, Default)]
pub(crate) struct Patterns {
    by_prefix: BTreeMap<Box<str>, Vec<Tail>>,
    /// The lengths that prefixes have.
    lengths: BTreeSet<usize>,
}

/// A suffix and what the pattern says. Kept longest first, so the first that fits is the narrowest.
#[derive(Debug, Clone)]
struct Tail {
    suffix: Box<str>,
    says: Classification,
}

impl Patterns {
    /// Adds a pattern, or replaces what the same pattern said. False when its prefix has too many.
    pub(crate) fn set(&mut self, prefix: &str, suffix: &str, says: Classification) -> bool {
        let tails = self.by_prefix.entry(prefix.into()).or_default();
        self.lengths.insert(prefix.len());
        if let Some(same) = tails.iter_mut().find(|t| *t.suffix == *suffix) {
            same.says = says;
            return true;
        }
        if tails.len() >= MAX_SUFFIXES {
            return false;
        }
        tails.push(Tail { suffix: suffix.into(), says });
        tails.sort_by(|a, b| b.suffix.len().cmp(&a.suffix.len()).then_with(|| a.suffix.cmp(&b.suffix)));
        true
    }

    /// Takes over all of `own`, replacing what is here under the same pattern.
    pub(crate) fn extend(&mut self, own: &Self) {
        for (prefix, tails) in &own.by_prefix {
            let here = self.by_prefix.entry(prefix.clone()).or_default();
            here.retain(|t| tails.iter().all(|o| o.suffix != t.suffix));
            here.extend(tails.iter().cloned());
            here.sort_by(|a, b| b.suffix.len().cmp(&a.suffix.len()).then_with(|| a.suffix.cmp(&b.suffix)));
        }
        self.lengths.extend(&own.lengths);
    }

    /// What patterns begin with.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = &str> {
        self.by_prefix.keys().map(|prefix| &**prefix)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_prefix.values().map(Vec::len).sum()
    }

    /// The narrowest match of `tool`. Allocates nothing.
    pub(crate) fn find(&self, tool: &str) -> Found<'_> {
        let mut best: Option<&Tail> = None;
        let mut longest_suffix = 0;
        // From the longest prefix down: a later match is dominated by an earlier one exactly when
        // its suffix is no longer than the longest seen, since both end the same name.
        for length in self.lengths.range(..=tool.len()).rev() {
            let Some((prefix, rest)) = tool.split_at_checked(*length) else { continue };
            let Some(tails) = self.by_prefix.get(prefix) else { continue };
            let Some(tail) = tails.iter().find(|t| rest.ends_with(&*t.suffix)) else { continue };
            match best {
                None => best = Some(tail),
                Some(_) if tail.suffix.len() <= longest_suffix => {}
                Some(other) if other.says != tail.says => return Found::Disagree,
                Some(_) => {}
            }
            longest_suffix = longest_suffix.max(tail.suffix.len());
        }
        best.map_or(Found::Nothing, |tail| Found::One(&tail.says))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use intended_model::decision::Reversible;
    use proptest::prelude::*;

    fn says(blast: u8) -> Classification {
        Classification {
            ambiguous: false,
            blast,
            category: None,
            confidence: 80,
            indicators: Vec::new(),
            operation: None,
            reversible: Reversible::No,
            system: None,
        }
    }

    /// The rule in its plain form, over every pattern.
    fn plainly(patterns: &BTreeMap<(String, String), u8>, tool: &str) -> Option<Result<u8, ()>> {
        let matching: Vec<_> = patterns
            .iter()
            .filter(|((p, s), _)| {
                tool.len() >= p.len() + s.len() && tool.starts_with(p.as_str()) && tool.ends_with(s.as_str())
            })
            .collect();
        let narrower = |((p, s), _): &(&(String, String), &u8), ((q, t), _): &(&(String, String), &u8)| {
            p.starts_with(q.as_str()) && s.ends_with(t.as_str()) && (p, s) != (q, t)
        };
        let narrowest: BTreeSet<u8> =
            matching.iter().filter(|m| !matching.iter().any(|n| narrower(n, m))).map(|(_, b)| **b).collect();
        match narrowest.len() {
            0 => None,
            1 => narrowest.first().copied().map(Ok),
            _ => Some(Err(())),
        }
    }

    #[test]
    fn neither_of_two_crossing_patterns_is_guessed() {
        let mut patterns = Patterns::default();
        assert!(patterns.set("stripe.create_", "", says(1)));
        assert!(patterns.set("stripe.", "_refund", says(2)));
        assert_eq!(patterns.find("stripe.create_refund"), Found::Disagree);
        assert_eq!(patterns.find("stripe.list_refund"), Found::One(&says(2)));
        assert_eq!(patterns.find("stripe.create_price"), Found::One(&says(1)));
        assert!(
            patterns.set("stripe.create", "_refund", says(3)),
            "narrower than neither: `create` does not extend `create_`"
        );
        assert_eq!(patterns.find("stripe.create_refund"), Found::Disagree);
        assert!(patterns.set("stripe.create_", "refund", says(1)));
        assert!(patterns.set("stripe.", "_refund", says(1)));
        assert!(patterns.set("stripe.create", "_refund", says(1)));
        assert_eq!(patterns.find("stripe.create_refund"), Found::One(&says(1)), "they agree");
    }

    #[test]
    fn prefix_and_suffix_never_share_a_sign() {
        let mut patterns = Patterns::default();
        assert!(patterns.set("ab", "bc", says(1)));
        assert_eq!(patterns.find("abc"), Found::Nothing);
        assert_eq!(patterns.find("abbc"), Found::One(&says(1)));
        assert_eq!(patterns.find("abéc"), Found::Nothing);
    }

    #[test]
    fn the_number_of_suffixes_after_a_prefix_is_bounded() {
        let mut patterns = Patterns::default();
        for n in 0..MAX_SUFFIXES {
            assert!(patterns.set("a", &format!("{n}"), says(1)));
        }
        assert!(!patterns.set("a", "more", says(1)));
        assert!(patterns.set("a", "0", says(2)), "replacing is not adding");
    }

    proptest! {
        #[test]
        fn the_index_says_what_the_rule_says_in_any_order(
            entries in prop::collection::vec(("[ab]{1,3}", "[ab]{0,3}", 0_u8..3), 0..12),
            tool in "[ab]{0,7}",
        ) {
            let unique: BTreeMap<(String, String), u8> = entries.iter().map(|(p, s, b)| ((p.clone(), s.clone()), *b)).collect();
            let wanted = plainly(&unique, &tool);
            let build = |order: Vec<(&(String, String), &u8)>| {
                let mut patterns = Patterns::default();
                for ((p, s), b) in order {
                    assert!(patterns.set(p, s, says(*b)));
                }
                patterns
            };
            for patterns in [build(unique.iter().collect()), build(unique.iter().rev().collect())] {
                let found = match patterns.find(&tool) {
                    Found::Nothing => None,
                    Found::One(c) => Some(Ok(c.blast)),
                    Found::Disagree => Some(Err(())),
                };
                prop_assert_eq!(found, wanted);
            }
        }
    }
}
