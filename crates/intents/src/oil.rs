//! The Open Intent Layer 2.0: domains (`OIL-100`) and categories (`OIL-104`).

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;

/// One domain with its categories.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Domain {
    pub name: String,
    /// Code → name.
    pub categories: BTreeMap<String, String>,
}

const TEXT: &str = include_str!("../data/oil.toml");

/// Every domain by its code.
pub fn domains() -> &'static BTreeMap<String, Domain> {
    static DOMAINS: OnceLock<BTreeMap<String, Domain>> = OnceLock::new();
    // The file is part of the program; a test reads it.
    DOMAINS.get_or_init(|| toml::from_str(TEXT).unwrap_or_default())
}

/// A category's name.
#[must_use]
pub fn category_name(code: &str) -> Option<&'static str> {
    domains().get(domain_of(code))?.categories.get(code).map(String::as_str)
}

/// The domain's code of a category's: `OIL-104` → `OIL-100`, `OIL-1504` → `OIL-1500`.
#[must_use]
pub fn domain_of(category: &str) -> &'static str {
    let number = category.strip_prefix("OIL-").and_then(|n| n.parse::<u32>().ok()).unwrap_or(0);
    const DOMAINS: [&str; 30] = [
        "OIL-0", "OIL-100", "OIL-200", "OIL-300", "OIL-400", "OIL-500", "OIL-600", "OIL-700", "OIL-800", "OIL-900",
        "OIL-1000", "OIL-1100", "OIL-1200", "OIL-1300", "OIL-1400", "OIL-1500", "OIL-1600", "OIL-1700", "OIL-1800",
        "OIL-1900", "OIL-2000", "OIL-2100", "OIL-2200", "OIL-2300", "OIL-2400", "OIL-2500", "OIL-2600", "OIL-2700",
        "OIL-2800", "OIL-2900",
    ];
    usize::try_from(number / 100).ok().and_then(|i| DOMAINS.get(i)).copied().unwrap_or("OIL-0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layer_has_29_domains_and_173_categories() {
        assert_eq!(domains().len(), 29);
        assert_eq!(domains().values().map(|d| d.categories.len()).sum::<usize>(), 173);
        for (code, domain) in domains() {
            for category in domain.categories.keys() {
                assert_eq!(domain_of(category), code);
                assert!(category_name(category).is_some());
            }
        }
    }
}
