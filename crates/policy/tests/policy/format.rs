//! The one layout: nothing is lost in it, and it is its own.

use cedar_policy::PolicySet;
use intended_policy::format;
use proptest::prelude::*;

use crate::grammar;

const SHIPPED: &[(&str, &str)] = &[
    ("release.cedar", include_str!("../../../../policies/demo/release.cedar")),
    ("support.cedar", include_str!("../../../../policies/demo/support.cedar")),
    ("banking.cedar", include_str!("../../../../policies/banking/banking.cedar")),
    ("records.cedar", include_str!("../../../../policies/authzen/records.cedar")),
];

/// The policies without their places and ids, in their order.
fn meaning(text: &str) -> Vec<String> {
    let set: PolicySet = text.parse().unwrap();
    let mut all: Vec<_> = set.policies().collect();
    all.sort_by_key(|p| AsRef::<cedar_policy_core::ast::Policy>::as_ref(*p).loc().map(|l| l.start()));
    all.iter().map(|p| p.to_json().unwrap().to_string()).collect()
}

fn comments(text: &str) -> Vec<&str> {
    text.lines().filter_map(|l| l.split_once("//").map(|(_, comment)| comment.trim_end())).collect()
}

#[test]
fn the_shipped_packs_have_the_layout() {
    for (file, text) in SHIPPED {
        assert_eq!(format(file, text).unwrap(), *text, "{file}");
    }
}

#[test]
fn formatting_keeps_comments_and_meaning() {
    let text = r#"
// first
@id("a") // behind an annotation
@reason("why")
permit(principal in Team::"x", // who
  action   in [Action::"m.x", // one
    Action::"m.y"], // another
  resource)
// before the condition
when { context.risk<5&& // low
  // alone
  (context.tier=="a"||context.tier=="b") };


// between
@id("b") forbid(principal,action,resource) unless{ // why not
context.text.hasTag("http") && context.text.getTag("http") like "https:*" };
// last"#;
    let formatted = format("p.cedar", text).unwrap();
    assert_ne!(formatted, text);
    assert_eq!(comments(&formatted), comments(text));
    assert_eq!(meaning(&formatted), meaning(text));
    assert_eq!(format("p.cedar", &formatted).unwrap(), formatted);
    let expected = r#"// first
@id("a") // behind an annotation
@reason("why")
permit (
  principal in Team::"x", // who
  action in
    [Action::"m.x", // one
     Action::"m.y"], // another
  resource
)
// before the condition
when
{
  context.risk < 5 && // low
  // alone
  (context.tier == "a" ||
   context.tier == "b")
};

// between
@id("b")
forbid (principal, action, resource)
unless
{ // why not
  context.text.hasTag("http") && context.text.getTag("http") like "https:*"
};
// last
"#;
    assert_eq!(formatted, expected);
}

#[test]
fn what_cannot_be_read_is_not_formatted_and_has_its_place() {
    for (text, place) in [
        ("@id(\"a\") permits (principal, action, resource);", "p.cedar:1:10"),
        ("\n@id(\"a) permit", "p.cedar:2:5"),
        (&format!("// {}", "x".repeat(2 << 20)), "p.cedar:1:1"),
        (&format!("permit (principal, action, resource) when {{ {}true }};", "(".repeat(10_000)), "p.cedar:1:108"),
    ] {
        assert_eq!(format("p.cedar", text).unwrap_err().place(), place);
    }
}

#[test]
fn any_set_of_policies_keeps_its_meaning_and_its_comments() {
    let policies = proptest::collection::vec((grammar::spec(), 0..4_u8), 1..6);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: crate::cases(200),
        ..ProptestConfig::default()
    });
    runner
        .run(&policies, |policies| {
            let text: String = policies
                .iter()
                .enumerate()
                .map(|(n, (policy, comment))| {
                    let text = std::format!("@id(\"p{n}\") {}", policy.text());
                    let text = if comment & 1 == 1 { text.replacen("permit", "// c\npermit", 1) } else { text };
                    if comment & 2 == 2 { std::format!("// before {n}\n{text} // behind {n}\n") } else { text }
                })
                .collect();
            let formatted = format("p.cedar", &text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
            prop_assert_eq!(meaning(&formatted), meaning(&text));
            prop_assert_eq!(&format("p.cedar", &formatted).unwrap(), &formatted);
            for comment in ["// c", "// before", "// behind"] {
                prop_assert_eq!(formatted.matches(comment).count(), text.matches(comment).count(), "{}", comment);
            }
            Ok(())
        })
        .unwrap();
}
