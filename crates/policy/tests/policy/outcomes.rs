//! From satisfied policies to the outcome.

use intended_policy::{PolicyDecision, PolicyOutcome};

use crate::request::{usual, version};

fn decide(policies: &str) -> PolicyOutcome {
    usual().with(|r| version(policies).evaluate(r).unwrap())
}

const PERMIT: &str = r#"@id("permit") permit (principal, action, resource);"#;
const FORBID: &str = r#"@id("forbid") forbid (principal, action, resource) when { context.risk < 50 };"#;
const ERROR: &str = r#"@id("error") permit (principal, action, resource) when { context.text.getTag("nope") == "x" };"#;
const ASK: &str = r#"@id("ask") @escalate("2 of owners") permit (principal, action, resource);"#;
const DEFER: &str = r#"@id("defer") @defer("a ticket") permit (principal, action, resource);"#;
const CAP: &str = r#"@id("cap") @modify("cap amount = 10") permit (principal, action, resource);"#;

#[test]
fn what_is_satisfied_settles_the_outcome_in_this_order() {
    for (policies, code, determining) in [
        (&[PERMIT, ASK, FORBID, ERROR][..], "policy.forbid", &["forbid"][..]),
        (&[PERMIT, ASK, ERROR], "policy.error", &[]),
        (&[ERROR], "policy.error", &[]),
        (&[PERMIT, ASK, DEFER, CAP], "policy.permit", &["permit"]),
        (&[ASK, DEFER, CAP], "policy.escalate", &["ask"]),
        (&[DEFER, CAP], "policy.defer", &["defer"]),
        (&[CAP], "policy.modify", &["cap"]),
    ] {
        let outcome = decide(&policies.concat());
        assert_eq!(
            (outcome.code, outcome.determining.iter().map(|d| &**d).collect::<Vec<_>>()),
            (code, determining.to_vec())
        );
        assert_eq!(outcome.outcome == PolicyDecision::Deny, matches!(code, "policy.forbid" | "policy.error"));
    }
}

/// A permit of the runtime's own is one of the permits: it settles what permits would settle, and
/// nothing that denies.
#[test]
fn one_more_permit_allows_and_outweighs_no_forbid_and_no_failure() {
    let with = |policies: &[&str]| {
        let version = version(&policies.concat());
        usual().with(|r| version.evaluate_with(r, &Default::default(), Some("own")).unwrap())
    };
    const OTHER: &str = r#"@id("other") permit (principal == Agent::"somebody-else", action, resource);"#;
    let permits = ["own", "permit"];
    for (policies, code, determining) in [
        (&[PERMIT, FORBID][..], "policy.forbid", &["forbid"][..]),
        (&[FORBID], "policy.forbid", &["forbid"]),
        (&[PERMIT, ERROR], "policy.error", &[]),
        (&[ERROR], "policy.error", &[]),
        (&[PERMIT, ASK], "policy.permit", &permits),
        (&[ASK, DEFER, CAP], "policy.permit", &["own"]),
        (&[OTHER], "policy.permit", &["own"]),
    ] {
        let outcome = with(policies);
        let found: Vec<_> = outcome.determining.iter().map(|d| &**d).collect();
        assert_eq!((outcome.code, found), (code, determining.to_vec()), "{policies:?}");
    }
}

#[test]
fn nothing_that_matches_denies() {
    let other = r#"@id("other") permit (principal == Agent::"somebody-else", action, resource);"#;
    let outcome = decide(other);
    assert_eq!((outcome.outcome, outcome.code, outcome.candidates), (PolicyDecision::Deny, "policy.no_permit", 0));
}

/// Cedar alone would skip a policy that fails; here it denies, and is named.
#[test]
fn a_policy_that_fails_denies_and_is_named() {
    let outcome = decide(&[PERMIT, ERROR].concat());
    assert_eq!(outcome.outcome, PolicyDecision::Deny);
    assert_eq!(outcome.errors.iter().map(|(id, _)| &**id).collect::<Vec<_>>(), ["error"]);
    assert!(outcome.errors[0].1.contains("nope"), "{}", outcome.errors[0].1);
}

/// Neither condition speaks of who asks, what or on what, so none of them is made for it. What then fails
/// fails nonetheless as the policy that it stands in, whose scope asks for all three.
#[test]
fn what_fails_fails_where_its_scope_could_only_match_what_its_condition_does_not_look_at() {
    let asked = usual();
    let (team, category) = (asked.teams[0].clone(), asked.category.clone());
    let capability = asked.capability.clone().unwrap();
    for condition in [r#"context.text.getTag("nope") == "x""#, "context.risk", "context.session.nope"] {
        let policy = format!(
            "@id(\"error\") forbid (principal in Team::\"{team}\", action in Action::\"{category}\", \
             resource in Capability::\"{capability}\") when {{ {condition} }};"
        );
        let outcome = decide(&[PERMIT, &policy].concat());
        assert_eq!((outcome.code, outcome.errors.len()), ("policy.error", 1), "{condition}");
    }
}

#[test]
fn a_policy_that_would_fail_for_somebody_else_does_not_fail_here() {
    let elsewhere = r#"@id("elsewhere") forbid (principal == Agent::"a9", action, resource) when { context.nope };"#;
    assert_eq!(decide(&[PERMIT, elsewhere].concat()).outcome, PolicyDecision::Allow);
}

#[test]
fn changes_that_contradict_each_other_deny() {
    let set = |id: &str, to: &str| {
        format!("@id(\"{id}\") @modify(\"set draft = {to}\") permit (principal, action, resource);")
    };
    assert_eq!(decide(&(set("a", "true") + &set("b", "false"))).code, "policy.ambiguous");
    let agreed = decide(&(set("a", "true") + &set("b", "true")));
    assert_eq!((agreed.code, agreed.determining.len()), ("policy.modify", 2));
}

#[test]
fn an_argument_that_cannot_be_kept_exactly_is_an_error_not_an_absence() {
    for arguments in
        [r#"{"amount":0.00001}"#, r#"{"amount":1e15}"#, r#"{"a.b":1}"#, r#"{"@subject":1}"#, r#"{"a":{"b[0]":1}}"#]
    {
        let mut asked = usual();
        asked.arguments = arguments.to_owned();
        let error = asked.with(|r| version(PERMIT).evaluate(r).unwrap_err());
        assert!(!error.argument().is_empty(), "{arguments}");
    }
    let mut many = usual();
    many.arguments = format!("{{\"a\":[{}]}}", vec!["1"; 300].join(","));
    assert!(many.with(|r| version(PERMIT).evaluate(r).is_err()));
}

/// A tool that is named like what it belongs to would be its own ancestor.
#[test]
fn a_tool_named_like_a_category_or_operation_is_not_evaluated() {
    for tool in ["OIL-101", "OIL-100", "op:read"] {
        let mut asked = usual();
        asked.tool = tool.to_owned();
        assert!(asked.with(|r| version(PERMIT).evaluate(r).is_err()), "{tool}");
    }
}
