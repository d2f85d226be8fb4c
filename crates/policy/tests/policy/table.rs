//! The outcome of every combination of what can be satisfied or fail, against the rule in words.

use intended_policy::PolicyDecision;

use crate::request::{usual, version};

/// The id says what it is; the order of ids is not the order of the rule.
const POLICIES: [(&str, &str); 8] = [
    ("allow", r#"@id("allow") permit (principal, action, resource);"#),
    ("ask", r#"@id("ask") @escalate("2 of owners") permit (principal, action, resource);"#),
    ("cap", r#"@id("cap") @modify("cap amount = 10") permit (principal, action, resource);"#),
    ("defer", r#"@id("defer") @defer("a ticket") permit (principal, action, resource);"#),
    ("fails-forbid", r#"@id("fails-forbid") forbid (principal, action, resource) when { principal.nope };"#),
    ("fails-permit", r#"@id("fails-permit") permit (principal, action, resource) when { principal.nope };"#),
    ("no", r#"@id("no") forbid (principal, action, resource);"#),
    ("other", r#"@id("other") forbid (principal == Agent::"other", action, resource) when { principal.nope };"#),
];

#[test]
fn every_combination_comes_to_what_the_rule_says() {
    for chosen in 1..1_usize << POLICIES.len() {
        let set = || POLICIES.iter().enumerate().filter(|(n, _)| chosen >> n & 1 == 1).map(|(_, p)| *p);
        let has = |id: &str| set().any(|(i, _)| i == id);
        let text: String = set().map(|(_, text)| text).collect();
        let outcome = usual().with(|r| version(&text).evaluate(r).unwrap());

        let failing: Vec<&str> = ["fails-forbid", "fails-permit"].into_iter().filter(|id| has(id)).collect();
        let (code, determining) = if has("no") {
            ("policy.forbid", Some("no"))
        } else if !failing.is_empty() {
            ("policy.error", None)
        } else if has("allow") {
            ("policy.permit", Some("allow"))
        } else if has("ask") {
            ("policy.escalate", Some("ask"))
        } else if has("defer") {
            ("policy.defer", Some("defer"))
        } else if has("cap") {
            ("policy.modify", Some("cap"))
        } else {
            ("policy.no_permit", None)
        };
        assert_eq!(outcome.code, code, "{text}");
        assert_eq!(outcome.determining.iter().map(|d| &**d).collect::<Vec<_>>(), Vec::from_iter(determining), "{text}");
        assert_eq!(outcome.errors.iter().map(|(id, _)| &**id).collect::<Vec<_>>(), failing, "{text}");
        // The policy of another agent is not looked at, so that it neither forbids nor fails.
        assert_eq!(outcome.candidates, set().count() - usize::from(has("other")), "{text}");
        let kind = match outcome.outcome {
            PolicyDecision::Allow => "allow",
            PolicyDecision::Deny => "deny",
            PolicyDecision::Escalate { requirements } => {
                assert_eq!((requirements.len(), requirements[0].count, &*requirements[0].group), (1, 2, "owners"));
                "escalate"
            }
            PolicyDecision::Defer { needs } => {
                assert_eq!(needs, ["a ticket".into()]);
                "defer"
            }
            PolicyDecision::Modify { changes } => {
                assert_eq!((changes.len(), changes[0].argument()), (1, "amount"));
                "modify"
            }
        };
        let expected = match code {
            "policy.permit" => "allow",
            "policy.escalate" | "policy.defer" | "policy.modify" => code.trim_start_matches("policy."),
            _ => "deny",
        };
        assert_eq!(kind, expected, "{text}");
    }
}
