//! What the shipped catalogue promises, and what an attacker or a tenant can do to a name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

use std::collections::BTreeMap;

use intended_intents::{Catalogue, CatalogueError, INDICATORS, ToolEntry, domain_of, oil};
use intended_model::decision::{Classification, Operation, Reversible};
use intended_model::intent::tool_name;
use proptest::prelude::*;

const SHIPPED: &str = include_str!("../data/catalogue.toml");

fn entries() -> BTreeMap<String, ToolEntry> {
    toml::from_str(SHIPPED).unwrap()
}
fn unknown() -> Classification {
    Classification {
        ambiguous: false,
        blast: 100,
        category: None,
        confidence: 0,
        indicators: Vec::new(),
        operation: None,
        reversible: Reversible::No,
        system: None,
    }
}
fn entry(name: &str, category: &str, operation: &str) -> String {
    format!("\"{name}\" = {{ category = \"{category}\", operation = \"{operation}\" }}\n")
}

#[test]
fn the_shipped_catalogue_has_well_over_200_tools_of_the_kinds_agents_use() {
    let entries = entries();
    assert!(entries.len() >= 450, "{}", entries.len());
    let systems: BTreeMap<&str, usize> = entries.keys().fold(BTreeMap::new(), |mut n, tool| {
        *n.entry(tool.split_once('.').unwrap().0).or_default() += 1;
        n
    });
    for (system, least) in [
        ("github", 100),
        ("stripe", 20),
        ("slack", 15),
        ("kubernetes", 35),
        ("aws", 40),
        ("postgres", 8),
        ("gmail", 10),
        ("calendar", 8),
        ("filesystem", 14),
        ("shell", 8),
        ("browser", 20),
        ("jira", 8),
        ("linear", 8),
        ("zendesk", 7),
    ] {
        assert!(systems[system] >= least, "{system}: {}", systems[system]);
    }
    for tool in [
        "github.get_file_contents",
        "github.create_pull_request",
        "github.run_workflow",
        "stripe.create_refund",
        "orders.get_order",
        "crm.delete_customer",
    ] {
        assert!(entries.contains_key(tool), "{tool}");
    }
}

#[test]
fn every_shipped_entry_is_a_tool_name_in_a_known_category_and_classifies_as_it_says() {
    let shipped = Catalogue::builtin();
    assert_eq!(shipped.len(), entries().len(), "the built-in catalogue is the shipped file");
    for (tool, entry) in entries() {
        tool_name(&tool, "").unwrap_or_else(|e| panic!("{tool}: {e}"));
        assert!(oil::category_name(&entry.category).is_some(), "{tool}");
        assert!(oil::domains().contains_key(domain_of(&entry.category)), "{tool}");
        let c = shipped.classify(&tool);
        assert_eq!(
            (c.category.as_deref(), c.operation),
            (Some(entry.category.as_str()), Some(entry.operation)),
            "{tool}"
        );
        assert!(c.confidence > 0 && c.blast <= 100 && !c.ambiguous, "{tool}");
        assert!(c.indicators.is_sorted() && c.indicators.iter().all(|i| INDICATORS.contains(&&**i)), "{tool}");
        assert_eq!(c.system.as_deref(), tool.split_once('.').map(|(system, _)| system));
    }
}

#[test]
fn what_deletes_pays_or_runs_code_is_never_shipped_as_harmless() {
    let shipped = Catalogue::builtin();
    for (tool, _, operation) in shipped.tools() {
        let c = shipped.classify(tool);
        match operation {
            Operation::Read | Operation::List => {
                let verb = tool.split_once('.').map_or(tool, |(_, name)| name);
                for harmful in
                    ["create", "delete", "drop", "write", "send", "exec", "update", "merge", "refund", "grant"]
                {
                    let all = verb.split(['_', '-']).all(|word| word != harmful);
                    assert!(all, "{tool} is said to {}", operation.as_str());
                }
            }
            Operation::Transfer => {
                assert!(c.indicators.iter().any(|i| &**i == "financial"), "{tool}");
                assert_eq!(c.reversible, Reversible::No, "{tool}");
            }
            _ => {}
        }
        let code = ["exec", "execute", "shell", "evaluate", "sql"];
        if tool.split(['.', '_', '-']).any(|word| code.contains(&word))
            && operation == Operation::Execute
            && !tool.ends_with("kill_process")
        {
            assert!(c.indicators.iter().any(|i| &**i == "code_execution"), "{tool}");
        }
    }
}

#[test]
fn an_alias_of_a_dangerous_tool_is_unknown_and_named_as_a_near_miss() {
    let shipped = Catalogue::builtin();
    for (alias, near) in [
        ("CRM.delete_customer", Some("crm.delete_customer")),
        ("crm.delete-customer", Some("crm.delete_customer")),
        ("crm.Delete_Customer", Some("crm.delete_customer")),
        ("outlook.send_mail", Some("outlook.send-mail")),
        ("crm.delete_customer_", None),
        ("crm.delete_customers", None),
        ("crm:delete_customer", None),
        ("crm..delete_customer", None),
        ("x.crm.delete_customer", None),
        ("delete_customer", None),
        ("crm.get_customer/../delete_customer", None),
        ("", None),
        ("*", None),
        ("crm.*", None),
    ] {
        assert_eq!(shipped.classify(alias), unknown(), "{alias}");
        assert_eq!(shipped.near(alias), near, "{alias}");
    }
    assert_eq!(shipped.near("crm.delete_customer"), None, "it is known");
}

#[test]
fn a_look_alike_never_reaches_the_catalogue() {
    for alias in [
        "crm.delete_\u{441}ustomer",
        "crm.delete_customer\u{200b}",
        "crm.delete_customer ",
        "crm\u{ff0e}delete_customer",
        "crm.delete\ncustomer",
        "crm.*",
    ] {
        assert!(tool_name(alias, "/action/name").is_err(), "{alias:?}");
        assert_eq!(Catalogue::builtin().classify(alias), unknown(), "{alias:?}");
        assert!(matches!(
            Catalogue::parse(&entry(&alias.escape_unicode().to_string(), "OIL-101", "read")),
            Err(CatalogueError::Name { .. } | CatalogueError::Syntax { .. })
        ));
    }
}

#[test]
fn two_crossing_patterns_that_disagree_are_ambiguous_until_one_says_which() {
    let crossing = entry("acme.create_*", "OIL-503", "create") + &entry("acme.*_refund", "OIL-502", "transfer");
    let found = Catalogue::parse(&crossing).unwrap().classify("acme.create_refund");
    assert_eq!(found, Classification { ambiguous: true, ..unknown() });
    let settled = crossing.clone() + &entry("acme.create_*_refund", "OIL-502", "transfer");
    assert!(
        Catalogue::parse(&settled).unwrap().classify("acme.create_refund").ambiguous,
        "it does not match: nothing stands between"
    );
    let settled = crossing + &entry("acme.create_refund", "OIL-502", "transfer");
    let found = Catalogue::parse(&settled).unwrap().classify("acme.create_refund");
    assert_eq!((found.ambiguous, found.confidence, found.operation), (false, 100, Some(Operation::Transfer)));
}

#[test]
fn a_narrower_pattern_beats_a_wider_and_a_name_beats_both() {
    let text = entry("acme.*", "OIL-101", "read")
        + &entry("acme.*_now", "OIL-102", "execute")
        + &entry("acme.x_*", "OIL-103", "list")
        + &entry("acme.x_*_now", "OIL-104", "execute")
        + &entry("acme.x_y_now", "OIL-105", "delete");
    let catalogue = Catalogue::parse(&text).unwrap();
    for (tool, category, confidence) in [
        ("acme.", "OIL-101", 80),
        ("acme.a", "OIL-101", 80),
        ("acme.a_now", "OIL-102", 80),
        ("acme.x_a", "OIL-103", 80),
        ("acme.x_a_now", "OIL-104", 80),
        ("acme.x_y_now", "OIL-105", 100),
    ] {
        let c = catalogue.classify(tool);
        assert_eq!((c.category.as_deref(), c.confidence), (Some(category), confidence), "{tool}");
    }
    assert_eq!(catalogue.classify("acm"), unknown());
}

#[test]
fn a_tenants_own_entry_replaces_the_shipped_one_and_touches_nothing_else() {
    let base = Catalogue::parse(
        &(entry("a.*", "OIL-101", "read") + &entry("a.b", "OIL-101", "read") + &entry("a.c", "OIL-101", "read")),
    )
    .unwrap();
    let own = Catalogue::parse(&(entry("a.*", "OIL-104", "delete") + &entry("a.b", "OIL-104", "delete"))).unwrap();
    let both = Catalogue::with_overlay(&base, &own);
    assert_eq!(both.len(), 3);
    assert_eq!(both.classify("a.b"), own.classify("a.b"));
    assert_eq!(both.classify("a.z"), own.classify("a.z"));
    assert_eq!(both.classify("a.c"), base.classify("a.c"), "a shipped name is not overruled by an own pattern");
    assert_eq!(both.near("A.B"), Some("a.b"));
    assert_ne!(both.digest(), base.digest());
    assert_ne!(both.digest(), Catalogue::with_overlay(&own, &base).digest());
}

#[test]
fn a_refused_catalogue_names_the_line_and_the_reason() {
    for (text, message) in [
        (
            "\n\"a.b\" = { category = \"OIL-100\", operation = \"read\" }".to_owned(),
            "tool `a.b`: `OIL-100` is not an Open Intent Layer category (line 2)",
        ),
        (
            entry("a.b", "OIL-101", "read") + "\"a.c\" = { category = \"OIL-101\", operation = \"read\", blast = 101 }",
            "tool `a.c`: blast and confidence lie within 0 to 100 (line 2)",
        ),
        (entry("a.b*", "OIL-101", "read") + &entry("a*b*", "OIL-101", "read"), "tool `a*b*`: a name has"),
        ((0..65).map(|n| entry(&format!("a*{n}"), "OIL-101", "read")).collect(), "more than 64 patterns begin alike"),
    ] {
        let error = Catalogue::parse(&text).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let twice = entry("a.b", "OIL-101", "read") + &entry("a.c", "OIL-101", "read") + &entry("a.b", "OIL-101", "delete");
    assert!(
        matches!(Catalogue::parse(&twice), Err(CatalogueError::Syntax { line: 3, .. })),
        "{:?}",
        Catalogue::parse(&twice)
    );
}

proptest! {
    #[test]
    fn the_order_of_entries_in_the_file_changes_no_answer(
        names in prop::collection::btree_map("[ab]{1,3}\\*?[ab]{0,2}", (101_u32..106, prop::sample::select(&["read", "delete"][..])), 1..10),
        tool in "[ab]{0,6}",
        turn in 0_usize..10,
    ) {
        let lines: Vec<String> = names.iter().map(|(name, (code, operation))| entry(name, &format!("OIL-{code}"), operation)).collect();
        let mut turned = lines.clone();
        turned.rotate_left(turn % lines.len());
        turned.reverse();
        let (one, two) = (Catalogue::parse(&lines.concat()).unwrap(), Catalogue::parse(&turned.concat()).unwrap());
        prop_assert_eq!(one.classify(&tool), two.classify(&tool));
        prop_assert_eq!(one.classify(&tool), one.clone().classify(&tool));
        prop_assert_eq!(one.near(&tool), two.near(&tool));
        let (half, rest) = lines.split_at(lines.len() / 2);
        let both = Catalogue::with_overlay(&Catalogue::parse(&half.concat()).unwrap(), &Catalogue::parse(&rest.concat()).unwrap());
        prop_assert_eq!(both.classify(&tool), one.classify(&tool), "a catalogue may be split into base and overlay");
    }

    #[test]
    fn no_name_makes_the_classifier_fail_or_guess(tool in "\\PC{0,140}") {
        let c = Catalogue::builtin().classify(&tool);
        prop_assert_eq!(c.confidence > 0, entries().contains_key(&tool));
        let _ = Catalogue::builtin().near(&tool);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,80}") {
        let _ = Catalogue::parse(&text);
    }
}

#[test]
fn the_self_test_is_in_a_category_of_the_layer_and_in_no_catalogue() {
    use intended_model::synthetic;
    assert_eq!(domain_of(synthetic::CATEGORY), synthetic::DOMAIN);
    assert!(oil::category_name(synthetic::CATEGORY).is_some());
    let shipped = Catalogue::builtin();
    assert!(shipped.reserved().is_none() && shipped.classify(synthetic::NAME).confidence == 0);
    let line =
        |tool: &str, operation: &str| format!("\"{tool}\" = {{ category = \"OIL-303\", operation = \"{operation}\" }}");
    assert_eq!(Catalogue::parse(&line("Intended.Self-Test", "read")).unwrap().reserved(), Some("Intended.Self-Test"));
    // Only the self-test does what it does.
    let refused = Catalogue::parse(&line("acme.probe", "probe")).unwrap_err();
    assert!(matches!(refused, CatalogueError::Probe { line: 1, .. }), "{refused}");
}
