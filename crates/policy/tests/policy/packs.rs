//! What is refused before anything is decided by it: packs that cannot be read, with file, line and
//! column, and policies that the schema does not hold. Both are `pack.invalid` to a caller; here each
//! cause is told from the others by its words.

use std::collections::BTreeMap;

use intended_policy::pack::{MAX_DEPTH, MAX_FILE, MAX_NESTING, MAX_POLICIES, MAX_TOKENS, MAX_TOTAL};
use intended_policy::{EvalRequest, Pack, PackError, PackSource, PolicySetVersion, Schema, ToolAction, validate};

use crate::request::{pack, usual};

const MANIFEST: &str = "name = \"test\"\nversion = \"1\"\n";
const SOUND: &str = "@id(\"a\") permit (principal, action, resource);\n";

fn read(files: &[(&str, &str)]) -> Result<Pack, PackError> {
    Pack::parse(&PackSource { files: files.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect() })
}

fn of_policies(text: &str) -> PackError {
    read(&[("pack.toml", MANIFEST), ("p.cedar", text)]).unwrap_err()
}

#[test]
fn policies_that_cannot_be_read_are_refused_by_place_and_cause() {
    let all = "(principal, action, resource)";
    for (text, place, says) in [
        (format!("{SOUND}@id(\"b\") permit {all}\n"), "p.cedar:2:46", "unexpected end of input"),
        (format!("{SOUND}@id(\"b\") permits {all};"), "p.cedar:2:10", "permits"),
        (format!("{SOUND}\n  @id(\"b) permit"), "p.cedar:3:7", "a string never ends"),
        (format!("permit {all};"), "p.cedar:1:1", "a policy has no `@id(\"…\")`"),
        (format!("@id(\"A b\") permit {all};"), "p.cedar:1:1", "policy `A b`: "),
        (
            format!("{SOUND}\n {SOUND}"),
            "p.cedar:3:2",
            "policy `a`: the id stands twice in the pack; it stands first in p.cedar:1:1",
        ),
        (
            "\n@id(\"a\") permit (principal == ?principal, action, resource);".to_owned(),
            "p.cedar:2:1",
            "templates are not supported: write policies without slots",
        ),
        (
            format!("@id(\"a\") @esclate(\"1 of x\") permit {all};"),
            "p.cedar:1:10",
            "policy `a`: unknown annotation `@esclate`; did you mean `@escalate`?",
        ),
        (
            format!("@id(\"a\") @ticket(\"1\") permit {all};"),
            "p.cedar:1:10",
            "policy `a`: unknown annotation `@ticket`",
        ),
        (
            format!("@id(\"a\") @escalate(\"1 of x\") forbid {all};"),
            "p.cedar:1:10",
            "policy `a`: `@escalate` stands on a forbid; obligations belong on permits",
        ),
        (
            format!("@id(\"a\") @escalate(\"1 of x\") @defer(\"y\") permit {all};"),
            "p.cedar:1:10",
            "policy `a`: a policy has one kind of obligation",
        ),
        (
            format!("@id(\"a\") @escalate(\"two of x\") permit {all};"),
            "p.cedar:1:10",
            "policy `a`: `@escalate` wants `<count> of <group>`, joined by `or` and `then`, not `two of x`",
        ),
        (
            format!("@id(\"a\") @escalate(\"21 of x\") permit {all};"),
            "p.cedar:1:10",
            "`@escalate` asks for 1 to 20 approvals",
        ),
        (
            format!("@id(\"a\") @escalate(\"1 of X\") permit {all};"),
            "p.cedar:1:10",
            "policy `a`: `@escalate`: the group: ",
        ),
        (
            format!("@id(\"a\") @defer(\" \") permit {all};"),
            "p.cedar:1:10",
            "policy `a`: `@defer` names what is missing",
        ),
        (
            format!("@id(\"a\") @modify(\"swap x\") permit {all};"),
            "p.cedar:1:10",
            "`swap` is not `set`, `cap` or `drop`",
        ),
        (format!("@id(\"a\") @modify(\"set x\") permit {all};"), "p.cedar:1:10", "`set x` lacks ` = `"),
        (format!("@id(\"a\") @modify(\"set x = {{\") permit {all};"), "p.cedar:1:10", "policy `a`: `@modify`: `{`: "),
        (format!("@id(\"a\") @modify(\"cap x = true\") permit {all};"), "p.cedar:1:10", "`true` is not a number"),
        (
            format!("@id(\"a\") @modify(\"cap x = 0.00001\") permit {all};"),
            "p.cedar:1:10",
            "a cap has at most four decimals",
        ),
        (
            format!("@id(\"a\") @modify(\"drop x; set x = 1\") permit {all};"),
            "p.cedar:1:10",
            "`x` stands twice or is empty",
        ),
    ] {
        let error = of_policies(&text);
        assert!(error.to_string().contains(says), "{text}\n{error}");
        assert_eq!(error.place(), place, "{text}\n{error}");
    }
}

#[test]
fn one_id_in_two_files_is_refused_in_the_second() {
    let error = read(&[("pack.toml", MANIFEST), ("a.cedar", SOUND), ("b.cedar", SOUND)]).unwrap_err();
    assert_eq!(
        (error.place(), error.to_string().as_str()),
        ("b.cedar:1:1".into(), "policy `a`: the id stands twice in the pack; it stands first in a.cedar:1:1")
    );
}

#[test]
fn a_file_that_is_none_of_a_packs_is_refused_by_name() {
    for (name, allowed) in [
        ("a.cedar", true),
        ("tests/a.yaml", true),
        ("tests/a.yml", true),
        ("p.txt", false),
        ("README.md", false),
        (".cedar", false),
        (".a.cedar", false),
        ("sub/a.cedar", false),
        ("../a.cedar", false),
        ("a\\b.cedar", false),
        ("tests/a.cedar", false),
        ("tests/sub/a.yaml", false),
        ("tests/../a.yaml", false),
        ("a.yaml", false),
        ("PACK.toml", false),
        ("", false),
    ] {
        let read = read(&[("pack.toml", MANIFEST), ("sound.cedar", SOUND), (name, "")]);
        match read {
            Ok(_) => assert!(allowed, "{name}"),
            Err(error) => {
                assert!(!allowed, "{name}: {error}");
                assert_eq!(error.place(), format!("{name}:1:1"));
                assert!(error.to_string().contains("is no file of a pack"), "{error}");
            }
        }
    }
}

/// What a hostile or careless pack holds: refused with its place, in bounded time and stack.
#[test]
fn what_is_far_too_large_or_deep_is_refused_with_its_place() {
    let condition = |c: String| format!("@id(\"a\") permit (principal, action, resource)\nwhen {{ {c} }};");
    let n = 10_000;
    for (text, place, says) in [
        (format!("// {}\n{SOUND}", "x".repeat(5 << 20)), "p.cedar:1:1", "at most 1048576 are read"),
        (condition(format!("{}true{}", "(".repeat(n), ")".repeat(n))), "p.cedar:2:71", "nested deeper than 64"),
        (condition(format!("{}true", "!".repeat(n))), "p.cedar:2:264", "nested deeper than 64"),
        (condition(format!("{}true{}", "if true then true else (".repeat(n), ")".repeat(n))), "p.cedar:2", "deeper"),
        (condition(format!("{}true", "if true then true else ".repeat(n))), "p.cedar:2", "nested deeper than 64"),
        (condition(format!("true{}", " && true".repeat(n))), "p.cedar:2", "words and signs"),
        (condition(format!("true{}", " && context.risk > 1".repeat(150))), "p.cedar:2:8", "expressions deep"),
        (
            format!("@id(\"a\") permit (principal, action, resource){};", " when { true }".repeat(n)),
            "p.cedar:1:",
            "words and signs",
        ),
        (format!("{SOUND}@id(\"b) permit (principal, action, resource);"), "p.cedar:2:5", "a string never ends"),
        (format!("{SOUND}{SOUND}"), "p.cedar:2:1", "it stands first in p.cedar:1:1"),
    ] {
        let error = of_policies(&text);
        assert!(error.to_string().contains(says), "{says}: {error}");
        assert!(error.place().starts_with(place), "{says}: {}", error.place());
    }
}

#[test]
fn manifests_are_read_strictly() {
    for (manifest, place, says) in [
        ("name = \"test\"\n", "pack.toml:1:1", "missing field `version`"),
        ("name = \"test\"\nversion = \"1\"\nowner = \"x\"\n", "pack.toml:3:1", "unknown field `owner`"),
        ("name = \"Not a name\"\nversion = \"1\"\n", "pack.toml:1:8", ""),
        ("name = \n", "pack.toml:1:8", ""),
    ] {
        let error = read(&[("pack.toml", manifest), ("p.cedar", SOUND)]).unwrap_err();
        assert!(error.to_string().contains(says), "{manifest}\n{error}");
        assert_eq!(error.place(), place, "{manifest}\n{error}");
    }
    let error = read(&[("p.cedar", SOUND)]).unwrap_err();
    assert_eq!((error.place(), error.to_string().as_str()), ("pack.toml:1:1".into(), "the pack has no `pack.toml`"));
    for nothing in [&[("pack.toml", MANIFEST)][..], &[("pack.toml", MANIFEST), ("p.cedar", "// nothing\n")]] {
        let error = read(nothing).unwrap_err();
        assert_eq!(error.to_string(), "the pack has no policies; it denies everything");
    }
}

/// Every limit: what is just within is read, one more is not.
#[test]
fn limits_hold_where_they_say() {
    let condition = |c: String| format!("@id(\"a\") permit (principal, action, resource) when {{ {c} }};");
    let many = |n: usize| -> String {
        (0..n).map(|n| format!("@id(\"p{n}\") permit (principal, action, resource);\n")).collect()
    };
    let nested = |n: usize| condition(format!("{}true{}", "(".repeat(n), ")".repeat(n)));
    // The braces of `when` are one level.
    assert!(pack(&nested(MAX_NESTING - 1)).is_ok());
    assert!(of_policies(&nested(MAX_NESTING)).to_string().contains("nested deeper than"));

    let deep = |n: usize| condition(format!("1{} > 0", " + 1".repeat(n)));
    let deepest = (1..MAX_DEPTH).rev().find(|n| pack(&deep(*n)).is_ok()).unwrap();
    assert!(deepest > MAX_DEPTH * 9 / 10);
    assert!(of_policies(&deep(deepest + 1)).to_string().contains(&format!("is {} expressions deep", MAX_DEPTH + 1)));

    let wide = |n: usize| condition(format!("[{}].contains(1)", "1,".repeat(n)));
    assert!(pack(&wide(MAX_TOKENS / 2 - 50)).is_ok());
    assert!(of_policies(&wide(MAX_TOKENS / 2)).to_string().contains("words and signs"));
    // The tokens are those of one policy, not of the file.
    assert!(pack(&many(MAX_TOKENS / 10)).is_ok());

    let padded =
        |name: &str, to: usize| format!("// {}\n@id(\"{name}\") permit (principal, action, resource);", "x".repeat(to));
    let line = padded("a", 0).len();
    assert!(pack(&padded("a", MAX_FILE - line)).is_ok());
    assert!(of_policies(&padded("a", MAX_FILE - line + 1)).to_string().contains("at most 1048576 are read"));
    let filled = |name: &str| padded(name, MAX_FILE - line);
    let texts = ["a", "b", "c", "d"].map(|n| (format!("{n}.cedar"), filled(n)));
    let mut files: BTreeMap<String, String> = texts.into();
    files.insert("pack.toml".to_owned(), MANIFEST.to_owned());
    let error = Pack::parse(&PackSource { files: files.clone() }).unwrap_err();
    assert_eq!(error.to_string(), format!("the pack has more than {MAX_TOTAL} bytes"));
    files.remove("d.cedar");
    assert_eq!(Pack::parse(&PackSource { files }).unwrap().policies().len(), 3);

    assert_eq!(pack(&many(MAX_POLICIES)).unwrap().policies().len(), MAX_POLICIES);
    assert!(of_policies(&many(MAX_POLICIES + 1)).to_string().contains("at most 10000 policies"));
}

#[test]
fn a_packs_digest_is_of_its_content() {
    let digest = |files: &[(&str, &str)]| read(files).unwrap().digest();
    let usual = digest(&[("pack.toml", MANIFEST), ("p.cedar", SOUND)]);
    assert_eq!(usual, digest(&[("p.cedar", SOUND), ("pack.toml", MANIFEST)]));
    let spaced = format!("{SOUND}\n");
    for other in [
        &[("pack.toml", MANIFEST), ("q.cedar", SOUND)][..],
        &[("pack.toml", MANIFEST), ("p.cedar", &spaced)],
        &[("pack.toml", MANIFEST), ("p.cedar", SOUND), ("tests/a.yaml", "")],
    ] {
        assert_ne!(usual, digest(other));
    }
}

fn schema() -> Schema {
    let tool = |tool: &str, category: &str, operation| ToolAction {
        tool: tool.to_owned(),
        category: category.to_owned(),
        domain: "OIL-100".to_owned(),
        operation,
    };
    Schema::generate(&[tool("m.x", "OIL-101", "read"), tool("m.y", "OIL-102", "delete")]).unwrap()
}

#[test]
fn policies_that_the_schema_does_not_hold_are_named_with_their_place() {
    for (policy, says) in [
        ("permit (principal, action, resource) when { principal.nope == 1 };", "attribute `nope`"),
        ("permit (principal, action, resource) when { context.nope };", "attribute `nope`"),
        ("permit (principal, action, resource) when { context.session.nope == 1 };", "attribute `session.nope`"),
        ("permit (principal == User::\"a\", action, resource);", "`User`"),
        ("permit (principal, action == Action::\"m.z\", resource);", "`Action::\"m.z\"`"),
        ("permit (principal, action in [Action::\"m.x\", Action::\"OIL-103\"], resource);", "`Action::\"OIL-103\"`"),
        ("permit (principal, action, resource) when { context.risk == \"high\" };", "not compatible"),
        ("permit (principal, action, resource) when { context.risk };", "Bool"),
        ("permit (principal, action, resource) when { context.text.getTag(\"to\") == \"x\" };", "tag"),
        (
            "permit (principal, action, resource) when { context.text.hasTag(\"to\") && context.text.getTag(\"cc\") == \"x\" };",
            "tag",
        ),
        ("permit (principal, action, resource) when { decimal(\"x\") == decimal(\"1.0\") };", "extension"),
        ("permit (principal, action, resource) when { decimal(context.tool) == decimal(\"1.0\") };", "literal"),
    ] {
        let text = format!("{SOUND}@id(\"wrong\") {policy}");
        let report = validate(&pack(&text).unwrap(), &schema());
        assert!(!report.errors.is_empty(), "{policy}");
        for problem in &report.errors {
            assert_eq!((problem.policy.as_deref(), problem.line), (Some("wrong"), 2), "{policy}");
            assert_eq!(problem.source_line.as_deref(), text.lines().nth(1), "{policy}");
            assert!(problem.end_column.is_some_and(|end| end > problem.column), "{problem:?}");
            assert!(problem.to_string().starts_with("policy `wrong`: "), "{problem}");
        }
        assert!(report.errors.iter().any(|p| p.message.contains(says)), "{policy}\n{:#?}", report.errors);
    }
}

#[test]
fn a_policy_that_can_never_match_is_a_warning() {
    for policy in [
        "@id(\"never\") permit (principal is Team, action, resource);",
        "@id(\"never\") permit (principal, action, resource) when { false };",
    ] {
        let report = validate(&pack(policy).unwrap(), &schema());
        assert_eq!(report.errors, []);
        assert!(
            report.warnings.iter().any(|w| w.policy.as_deref() == Some("never") && w.message.contains("impossible")),
            "{report:?}"
        );
    }
}

/// A pack without a problem does not fail for want of an attribute, a tag or a type: the request holds
/// all that the schema promises, and each with its own value.
#[test]
fn every_field_of_the_schema_has_its_value() {
    let arguments = intended_model::json::parse(br#"{"t":"text","n":1.25,"f":true,"l":["p","q"]}"#).unwrap();
    let claims = |name: &str| intended_model::json::parse(format!("{{\"c\":\"{name}\"}}").as_bytes()).unwrap();
    let (subject, resource, said, mut session) = (claims("s"), claims("r"), claims("x"), usual().session);
    (session.intents, session.allowed, session.denied, session.data_class) = (31, 32, 33, 34);
    session.categories = ["sc".into()].into();
    session.tools = ["st".into()].into();
    session.indicators = ["si".into()].into();
    let request = EvalRequest {
        agent: "agent",
        agent_kind: "kind",
        trust: 11,
        agent_owner: "owner",
        teams: &["t1", "t2"],
        tool: "m.x",
        category: "OIL-101",
        domain: "OIL-100",
        operation: "read",
        resource_kind: "order",
        resource_id: "1",
        capability: Some("cap"),
        resource_known: true,
        criticality: 12,
        data_class: 13,
        resource_owner: "ro",
        resource_environment: "re",
        environment: "env",
        tier: "tier",
        confidence: 14,
        indicators: &["i".into()],
        reversible: "partly",
        risk: 15,
        risk_factors: [21, 22, 23, 24, 25, 26, 27, 28],
        arguments: &arguments,
        subject_claims: &subject,
        resource_claims: &resource,
        context_claims: &said,
        goal_declared: true,
        goal_mentions: &["t".into()],
        session_declared: true,
        session: &session,
        budgets: &[("b", 41)],
        hour: 1,
        minute: 2,
        weekday: 3,
        epoch: 4,
        approvals: 5,
    };
    let conditions = [
        r#"principal == Agent::"agent" && principal.id == "agent" && principal.kind == "kind""#,
        r#"principal.owner == "owner" && principal.trust == 11"#,
        r#"principal in Team::"t1" && principal in Team::"t2" && !(principal in Team::"t3")"#,
        r#"action == Action::"m.x" && action in Action::"OIL-101" && action in Action::"OIL-100""#,
        r#"action in Action::"op:read" && !(action in Action::"op:delete")"#,
        r#"resource == Resource::"order/1" && resource in Capability::"cap""#,
        r#"resource.kind == "order" && resource.id == "1" && resource.known"#,
        "resource.criticality == 12 && resource.dataClass == 13",
        r#"resource.owner == "ro" && resource.environment == "re""#,
        r#"context.environment == "env" && context.tier == "tier" && context.tool == "m.x""#,
        r#"context.category == "OIL-101" && context.domain == "OIL-100" && context.operation == "read""#,
        r#"context.confidence == 14 && context.indicators == ["i"] && context.reversible == "partly""#,
        "context.risk == 15 && context.riskFactors.baseAction == 21 && context.riskFactors.environment == 22",
        "context.riskFactors.blastRadius == 23 && context.riskFactors.reversibility == 24",
        "context.riskFactors.dataSensitivity == 25 && context.riskFactors.privilege == 26",
        "context.riskFactors.actorTrust == 27 && context.riskFactors.timeOfDay == 28",
        r#"context.text.hasTag("t") && context.text.getTag("t") == "text""#,
        r#"context.text.hasTag("@subject.c") && context.text.getTag("@subject.c") == "s""#,
        r#"context.text.hasTag("@resource.c") && context.text.getTag("@resource.c") == "r""#,
        r#"context.text.hasTag("@context.c") && context.text.getTag("@context.c") == "x""#,
        r#"context.number.hasTag("n") && context.number.getTag("n") == decimal("1.25")"#,
        r#"context.number.hasTag("l.length") && context.number.getTag("l.length") == decimal("2.0")"#,
        r#"context.flag.hasTag("f") && context.flag.getTag("f")"#,
        r#"context.list.hasTag("l") && context.list.getTag("l") == ["q", "p"]"#,
        r#"context.budgets.hasTag("b") && context.budgets.getTag("b") == 41"#,
        r#"context.goal.declared && context.goal.mentions == ["t"]"#,
        "context.session.declared && context.session.intents == 31 && context.session.allowed == 32",
        "context.session.denied == 33 && context.session.dataClass == 34",
        r#"context.session.categories == ["sc"] && context.session.tools == ["st"]"#,
        r#"context.session.indicators == ["si"]"#,
        "context.time.hour == 1 && context.time.minute == 2 && context.time.weekday == 3 && context.time.epoch == 4",
        "context.approvals == 5",
    ];
    let text: String = conditions
        .iter()
        .enumerate()
        .map(|(n, c)| format!("@id(\"p{n}\") permit (principal, action, resource) when {{ {c} }};\n"))
        .collect();
    let pack = pack(&text).unwrap();
    let report = validate(&pack, &schema());
    assert_eq!(report.errors, [], "the schema holds all of these");
    let outcome = PolicySetVersion::compile(&pack).unwrap().evaluate(&request).unwrap();
    assert_eq!(outcome.errors, []);
    for (n, condition) in conditions.iter().enumerate() {
        assert!(outcome.determining.iter().any(|id| **id == *format!("p{n}")), "{condition}");
    }
    // Each name that the schema declares is asked for above: one that is added must be added here.
    let declared = schema().text().split("action ").next().unwrap().to_owned();
    let code = declared.lines().map(|l| l.split("//").next().unwrap()).collect::<String>();
    let names = code.split(['{', ',', ';']).filter_map(|f| f.split_once(':')).map(|(name, _)| name.trim().to_owned());
    let mut asked_for = 0;
    for name in names {
        assert!(text.contains(&format!(".{name}")), "`{name}` is not asked for");
        asked_for += 1;
    }
    assert!(asked_for > 40, "{asked_for}");
}
