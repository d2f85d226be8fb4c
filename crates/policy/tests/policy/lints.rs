//! Each lint where it strikes, and where it looks similar and does not.

use intended_policy::Severity;

use crate::check::checked;

/// The findings of these policies: code, policy, and place.
fn found(policies: &str) -> Vec<(&'static str, String, Severity)> {
    let checked = checked(policies);
    let all = checked.diagnostics.iter();
    all.map(|d| (d.code, d.policy.clone().unwrap_or_default(), d.severity)).collect()
}

fn strikes(code: &'static str, policy: &str, policies: &str) {
    let found = found(policies);
    assert_eq!(found, [(code, policy.to_owned(), Severity::Warning)], "{policies}");
}

fn is_silent(policies: &str) {
    assert_eq!(found(policies), [], "{policies}");
}

const SUPPORT: &str = "principal in Team::\"support\"";
const REFUND: &str = "action == Action::\"pay.refund\"";

/// A permit of refunds by support.
fn refund(id: &str, annotation: &str, condition: &str) -> String {
    format!("@id(\"{id}\") {annotation} permit ({SUPPORT}, {REFUND}, resource) {condition};\n")
}

#[test]
fn a_permit_of_more_than_reading_in_production_wants_a_condition() {
    for policy in [
        refund("a", "", ""),
        refund("a", "", "when { true }"),
        refund("a", "@modify(\"cap amount = 5\")", ""),
        refund("a", "", "when { context.tier == \"production\" }"),
        refund("a", "", "when { context.environment == \"production\" }"),
        refund("a", "", "unless { context.tier == \"development\" }"),
        "@id(\"a\") permit (principal, action in Action::\"OIL-100\", resource);".to_owned(),
        // All unconstrained, whatever the operations are.
        "@id(\"a\") permit (principal, action, resource);".to_owned(),
    ] {
        strikes("unconditional-permit", "a", &policy);
    }
    for policy in [
        refund("a", "", "when { context.risk < 50 }"),
        refund("a", "", "when { context.tier == \"production\" && context.risk < 50 }"),
        refund("a", "", "when { context.tier == \"staging\" }"),
        refund("a", "", "when { context.environment == \"test\" }"),
        refund("a", "", "unless { context.tier == \"production\" }"),
        refund("a", "@escalate(\"1 of support-leads\")", ""),
        refund("a", "@defer(\"ticket\")", ""),
        format!("@id(\"a\") permit ({SUPPORT}, action in Action::\"OIL-101\", resource);"),
        format!("@id(\"a\") permit ({SUPPORT}, action in [Action::\"op:read\", Action::\"op:list\"], resource);"),
        format!("@id(\"a\") forbid ({SUPPORT}, {REFUND}, resource);"),
    ] {
        is_silent(&policy);
    }
}

#[test]
fn a_permit_under_a_forbid_that_always_matches_too_is_shadowed() {
    let permit = refund("a", "", "when { context.risk < 50 && context.confidence > 80 }");
    for forbid in [
        "@id(\"no\") forbid (principal, action, resource);".to_owned(),
        "@id(\"no\") forbid (principal is Agent, action in Action::\"OIL-500\", resource is Resource);".to_owned(),
        format!(
            "@id(\"no\") forbid ({SUPPORT}, {REFUND}, resource) when {{ context.risk < 50 && context.confidence > 80 }};"
        ),
        "@id(\"no\") forbid (principal, action, resource) when { context.confidence > 80 };".to_owned(),
    ] {
        strikes("shadowed-permit", "a", &format!("{permit}{forbid}"));
    }
    for forbid in [
        "@id(\"no\") forbid (principal, action in Action::\"OIL-100\", resource);",
        "@id(\"no\") forbid (principal in Team::\"release\", action, resource);",
        "@id(\"no\") forbid (principal, action, resource in Capability::\"shop-orders\");",
        "@id(\"no\") forbid (principal, action, resource) when { context.confidence > 90 };",
        "@id(\"no\") forbid (principal, action, resource) when { context.risk < 50 && context.approvals > 1 };",
        "@id(\"no\") forbid (principal, action, resource) unless { context.confidence > 80 };",
    ] {
        is_silent(&format!("{permit}{forbid}"));
    }
    let named = checked(&format!("{permit}@id(\"no\") forbid (principal, action, resource);"));
    assert!(named.diagnostics[0].message.contains("`no` (p.cedar:2:1)"), "{}", named.diagnostics[0]);
}

#[test]
fn a_policy_that_can_never_match_is_unreachable_and_named_once() {
    let with = |c: &str| refund("a", "", &format!("when {{ {c} }}"));
    for policy in [
        with("context.tier == \"production\" && context.tier == \"staging\""),
        with("context.risk > 5 && (context.session.declared && context.risk < 6)"),
        with("[\"production\", \"staging\"].contains(context.tier) && context.tier == \"development\""),
        with("context.tier == \"staging\" && context.tier != \"staging\""),
        with("context.session.declared && !context.session.declared"),
        with(
            "context.number.hasTag(\"x\") && context.number.getTag(\"x\").lessThan(decimal(\"0.5\")) && context.number.getTag(\"x\").greaterThanOrEqual(decimal(\"0.5\"))",
        ),
        with("false"),
        with("context.risk < 5 && false"),
        refund("a", "", "unless { true }"),
        // Only Cedar's types show these.
        format!("@id(\"a\") permit (principal is Team, {REFUND}, resource) when {{ context.risk < 5 }};"),
        with("resource is Team"),
        // A group is no tool.
        format!("@id(\"a\") permit ({SUPPORT}, action == Action::\"OIL-503\", resource);"),
    ] {
        strikes("unreachable", "a", &policy);
    }
    for condition in [
        "context.tier == \"production\" || context.tier == \"staging\"",
        "context.risk > 5 && context.risk < 7",
        "context.risk >= 5 && context.risk <= 5",
        "context.risk > 5 && context.confidence < 5",
        "[\"production\", \"staging\"].contains(context.tier) && context.tier != \"staging\" && context.risk < 5",
        "context.session.declared && !context.goal.declared",
    ] {
        let found = found(&with(condition));
        assert!(found.iter().all(|f| f.0 == "unconditional-permit"), "{condition}: {found:?}");
    }
    let group = checked(&format!("@id(\"a\") permit ({SUPPORT}, action == Action::\"OIL-503\", resource);"));
    assert!(group.diagnostics[0].help.as_ref().unwrap().contains("`action in …`"));
}

#[test]
fn an_obligation_that_a_plain_permit_always_outdoes_is_unused() {
    let asks = refund("ask", "@escalate(\"1 of support-leads\")", "when { context.risk < 50 }");
    for plain in [
        "@id(\"plain\") permit (principal in Team::\"support\", action, resource) when { context.risk < 50 };",
        "@id(\"plain\") permit (principal, action in Action::\"OIL-500\", resource) when { context.risk < 50 };",
    ] {
        strikes("unused-obligation", "ask", &format!("{asks}{plain}"));
    }
    let unconditional = found(&format!("{asks}{}", refund("plain", "", "")));
    assert!(unconditional.iter().any(|f| f.0 == "unused-obligation" && f.1 == "ask"), "{unconditional:?}");
    for plain in [
        refund("plain", "", "when { context.risk < 20 }"),
        refund("plain", "", "when { context.risk < 50 && context.approvals > 0 }"),
        refund("plain", "@escalate(\"1 of support-leads\")", ""),
        "@id(\"plain\") permit (principal, action in Action::\"OIL-101\", resource);".to_owned(),
        "@id(\"plain\") forbid (principal in Team::\"release\", action, resource);".to_owned(),
    ] {
        is_silent(&format!("{asks}{plain}"));
    }
}

#[test]
fn obligations_that_differ_and_can_meet_conflict() {
    const LEADS: &str = "@escalate(\"1 of support-leads\")";
    let pair = |a: &str, other: &str, b: &str| refund("a", LEADS, a) + &refund("b", other, b);
    for policies in [
        pair("", "@escalate(\"2 of support-leads\")", ""),
        pair("", "@defer(\"ticket\")", "when { context.risk < 5 }"),
        pair("when { context.risk < 50 }", "@defer(\"ticket\")", "when { context.risk > 48 }"),
        pair("when { context.risk < 50 }", "@defer(\"ticket\")", "when { context.confidence > 80 }"),
        pair("when { context.tier == \"staging\" }", "@defer(\"ticket\")", "when { context.tier != \"production\" }"),
        refund("a", LEADS, "")
            + "@id(\"b\") @defer(\"ticket\") permit (principal, action in Action::\"OIL-500\", resource);",
    ] {
        strikes("conflicting-obligations", "a", &policies);
    }
    let amount = "context.number.hasTag(\"amount\") && context.number.getTag(\"amount\")";
    for policies in [
        pair("", LEADS, ""),
        pair("when { context.tier == \"staging\" }", "@defer(\"t\")", "when { context.tier == \"production\" }"),
        pair("when { context.tier == \"staging\" }", "@defer(\"t\")", "unless { context.tier == \"staging\" }"),
        pair(
            "when { context.tier == \"staging\" || context.tier == \"development\" }",
            "@defer(\"t\")",
            "when { context.tier == \"production\" }",
        ),
        pair("when { context.risk <= 50 }", "@defer(\"t\")", "when { context.risk > 50 }"),
        pair("when { context.risk < 50 }", "@defer(\"t\")", "when { 50 <= context.risk }"),
        pair(
            &format!("when {{ {amount}.lessThanOrEqual(decimal(\"100.0\")) }}"),
            "@defer(\"t\")",
            &format!("when {{ {amount}.greaterThan(decimal(\"100.00\")) }}"),
        ),
        pair("when { context.session.declared }", "@defer(\"t\")", "unless { context.session.declared }"),
        pair(
            "when { context.session.declared && context.risk < 5 }",
            "@defer(\"t\")",
            "unless { context.session.declared && context.risk < 5 }",
        ),
        refund("a", LEADS, "")
            + "@id(\"b\") @defer(\"t\") permit (principal, action in Action::\"OIL-101\", resource);",
        refund("a", LEADS, "")
            + "@id(\"b\") @defer(\"t\") permit (principal in Team::\"release\", action == Action::\"pay.refund\", resource);",
    ] {
        is_silent(&policies);
    }
    // Where the bounds meet in one value, so do the permits.
    let close = |decimal: &str| {
        pair(
            &format!("when {{ {amount}.lessThanOrEqual(decimal(\"100.0001\")) }}"),
            "@defer(\"t\")",
            &format!("when {{ {amount}.greaterThan(decimal(\"{decimal}\")) }}"),
        )
    };
    strikes("conflicting-obligations", "a", &close("100.0"));
    is_silent(&close("100.0001"));
}

#[test]
fn names_that_nobody_has_are_found_wherever_they_stand() {
    let with = |c: &str| refund("a", "", &format!("when {{ context.risk < 5 && {c} }}"));
    use Severity::{Error, Warning};
    for (policy, severity, says) in [
        (
            with("principal == Agent::\"refund-bot\""),
            Error,
            "no agent `refund-bot`; did you mean `Agent::\"refunds-bot\"`?",
        ),
        (with("principal in Team::\"supprot\""), Error, "no team `supprot`; did you mean `Team::\"support\"`?"),
        (with("resource in Capability::\"shop\""), Error, "did you mean `Capability::\"shop-orders\"`?"),
        (with("resource in Capability::\"else\""), Error, "no capability `else`"),
        (with("context.environment == \"prod\""), Error, "no environment `prod`; did you mean `production`?"),
        (with("\"tset\" == resource.environment"), Error, "no environment `tset`; did you mean `test`?"),
        (with("context.tier != \"prod\""), Error, "no tier `prod`; did you mean `production`?"),
        (
            with("[\"pay.refund\", \"pay.refunds\"].contains(context.tool)"),
            Warning,
            "no tool `pay.refunds`; did you mean",
        ),
        (with("context.category == \"OIL-530\""), Warning, "no category `OIL-530`; did you mean `OIL-503`?"),
        (with("context.domain == \"OIL-900\""), Warning, "no domain `OIL-900`"),
        (with("context.operation == \"remove\""), Warning, "no operation `remove`"),
        (
            with("context.indicators.contains(\"finacial\")"),
            Warning,
            "no indicator `finacial`; did you mean `financial`?",
        ),
        (with("context.session.tools.containsAny([\"m.gt\"])"), Warning, "no tool `m.gt`; did you mean `m.get`?"),
        (with("context.reversible == \"maybe\""), Warning, "no reversibility `maybe`"),
        (
            refund("a", "@escalate(\"1 of support-lead\")", ""),
            Warning,
            "no group of members `support-lead`: nobody could approve; did you mean `support-leads`?",
        ),
    ] {
        let checked = checked(&policy);
        let [found] = checked.diagnostics.as_slice() else { panic!("{policy}\n{:#?}", checked.diagnostics) };
        assert_eq!((found.code, found.severity), ("unknown-name", severity), "{policy}");
        assert!(found.to_string().contains(says), "{found}");
        assert_eq!(checked.is_valid(), severity == Warning);
        // The place is the name itself.
        let columns = found.column - 1..found.end_column.unwrap() - 1;
        let name = found.message.split('`').nth(1).unwrap();
        assert!(policy.get(columns.clone()).unwrap().contains(name), "{found}: {:?}", policy.get(columns));
    }
    for policy in [
        with("principal == Agent::\"refunds-bot\" && principal in Team::\"release\""),
        with("context.environment == \"test\" && resource.environment == \"\""),
        with("context.tier == \"development\" && context.tool == \"pay.refund\" && context.operation == \"grant\""),
        with("context.indicators.containsAll([\"bulk\", \"financial\"]) && context.domain == \"OIL-500\""),
        with("context.text.hasTag(\"to\") && context.text.getTag(\"to\") == \"nobody\" && principal.owner == \"x\""),
        refund("a", "@escalate(\"1 of support-leads\")", ""),
    ] {
        is_silent(&policy);
    }
}

/// Without a vocabulary nothing is said of the tenant's names.
#[test]
fn names_that_nobody_told_of_are_not_judged() {
    let policy = refund("a", "@escalate(\"1 of nobody\")", "when { context.environment == \"x\" }");
    let policy = policy.replace("Team::\"support\"", "Team::\"nobody\"");
    let source = crate::check::source(&[("p.cedar", &policy)]);
    let checked = intended_policy::check(&source, &crate::check::schema(), None);
    assert_eq!(checked.diagnostics, []);
}

/// Ten thousand policies that all meet: bounded, and it says so.
#[test]
fn more_pairs_than_are_compared_are_said_to_be_uncompared() {
    let many = |n: usize| -> String {
        let one = |n| {
            format!(
                "@id(\"p{n}\") @defer(\"t{n}\") permit (principal == Agent::\"refunds-bot\", {REFUND}, resource == Resource::\"order/{n}\");\n"
            )
        };
        (0..n).map(one).collect()
    };
    is_silent(&many(100));
    assert_eq!(found(&many(2_100)), [("incomplete", String::new(), Severity::Warning)]);
}
