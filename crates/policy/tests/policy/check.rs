//! All that is to be said of a pack, at once and with places.

use intended_policy::{
    Checked, Diagnostic, Pack, PackSource, Schema, Severity, ToolAction, Vocabulary, check, validate,
};

pub const MANIFEST: &str = "name = \"test\"\nversion = \"1\"\n";

pub fn tools() -> Vec<ToolAction> {
    [
        ("m.get", "OIL-101", "OIL-100", "read"),
        ("m.all", "OIL-101", "OIL-100", "list"),
        ("m.drop", "OIL-102", "OIL-100", "delete"),
        ("pay.refund", "OIL-503", "OIL-500", "transfer"),
    ]
    .map(|(tool, category, domain, operation)| ToolAction {
        tool: tool.to_owned(),
        category: category.to_owned(),
        domain: domain.to_owned(),
        operation,
    })
    .to_vec()
}

pub fn vocabulary() -> Vocabulary {
    let names = |all: &[&str]| all.iter().map(|n| (*n).to_owned()).collect();
    Vocabulary {
        agents: names(&["refunds-bot"]),
        teams: names(&["support", "release"]),
        capabilities: names(&["shop-orders"]),
        groups: names(&["support-leads"]),
        environments: [("production".to_owned(), "production".to_owned()), ("test".to_owned(), "staging".to_owned())]
            .into(),
    }
}

pub fn schema() -> Schema {
    Schema::generate(&tools()).unwrap()
}

pub fn source(files: &[(&str, &str)]) -> PackSource {
    let files = files.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect();
    let mut source = PackSource { files };
    source.files.entry("pack.toml".to_owned()).or_insert_with(|| MANIFEST.to_owned());
    source
}

pub fn checked(policies: &str) -> Checked {
    check(&source(&[("p.cedar", policies)]), &schema(), Some(&vocabulary()))
}

fn places(checked: &Checked) -> Vec<(String, &str)> {
    checked.diagnostics.iter().map(|d| (d.place(), d.code)).collect()
}

#[test]
fn all_errors_of_all_files_are_named_in_order() {
    let files = [
        ("pack.toml", "name = \"test\"\nversion = \"1\"\n[thresholds]\ncoverage_percent = 101\n"),
        ("README.md", "x"),
        (
            "a.cedar",
            "@id(\"a\") permit (principal, action, resource) when { context.nope };\npermit (principal, action, resource);\n@id(\"a\") forbid (principal, action, resource);\n",
        ),
        (
            "b.cedar",
            "@id(\"b\") @esclate(\"1 of x\") @defer(\" \") permit (principal, action, resource) when { principal.nope == 1 };\n",
        ),
        (
            "c.cedar",
            "@id(\"c\") permits (principal, action, resource);\n@id(\"d\") forbids (principal, action, resource);\n",
        ),
        ("d.cedar", "@id(\"e\") permit (principal, action, resource) when { context.risk < \"x };"),
    ];
    let checked = check(&source(&files), &schema(), None);
    assert!(checked.pack.is_none() && !checked.is_valid());
    let errors: Vec<(String, &str)> = checked.errors().map(|d| (d.place(), d.code)).collect();
    let expected = [
        ("README.md:1:1", "file"),
        ("a.cedar:1:54", "schema"),
        ("a.cedar:2:1", "annotation"),
        ("a.cedar:3:1", "duplicate-id"),
        ("b.cedar:1:10", "annotation"),
        ("b.cedar:1:29", "annotation"),
        ("b.cedar:1:85", "schema"),
        ("c.cedar:1:10", "syntax"),
        ("c.cedar:2:10", "syntax"),
        ("d.cedar:1:69", "syntax"),
        ("pack.toml:3:1", "manifest"),
    ];
    assert_eq!(errors, expected.map(|(p, c)| (p.to_owned(), c)));
    // What reading alone refuses is the first of what it found.
    assert_eq!(Pack::parse(&source(&files)).unwrap_err().place(), "README.md:1:1");
}

#[test]
fn every_finding_in_a_policy_has_its_place_and_line() {
    let text = "// ö\n  @id(\"a\")\npermit (principal in Team::\"suport\", action, resource)\n  when { context.tier == \"prod\" };\n";
    let checked = checked(text);
    assert!(!checked.is_valid() && checked.pack.is_some());
    assert_eq!(places(&checked), [("p.cedar:3:22".into(), "unknown-name"), ("p.cedar:4:26".into(), "unknown-name")]);
    let [team, tier] = checked.diagnostics.as_slice() else { panic!() };
    assert_eq!(
        *team,
        Diagnostic {
            severity: Severity::Error,
            code: "unknown-name",
            file: "p.cedar".into(),
            line: 3,
            column: 22,
            end_column: Some(36),
            policy: Some("a".into()),
            message: "the tenant has no team `suport`".into(),
            help: Some("did you mean `Team::\"support\"`?".into()),
            source_line: Some("permit (principal in Team::\"suport\", action, resource)".into()),
        }
    );
    assert_eq!(tier.to_string(), "policy `a`: there is no tier `prod`; did you mean `production`?");
    assert_eq!(serde_json::to_value(tier).unwrap()["severity"], "error");
}

#[test]
fn a_sound_pack_is_valid_without_a_word() {
    let checked = checked(
        "@id(\"a\") permit (principal in Team::\"support\", action == Action::\"m.get\", resource in Capability::\"shop-orders\");",
    );
    assert!(checked.is_valid() && checked.diagnostics.is_empty(), "{:#?}", checked.diagnostics);
    assert_eq!(checked.pack.unwrap().policies().len(), 1);
}

#[test]
fn an_unknown_action_is_named_once_with_the_nearest() {
    let checked = checked(
        "@id(\"a\") permit (principal, action in [Action::\"m.get\", Action::\"pay.refnd\"], resource) when { context.risk < 5 };",
    );
    let [found] = checked.diagnostics.as_slice() else { panic!("{:#?}", checked.diagnostics) };
    assert_eq!((found.code, found.severity, found.column), ("unknown-name", Severity::Error, 57));
    assert_eq!(
        found.to_string(),
        "policy `a`: there is no action `Action::\"pay.refnd\"`; did you mean `Action::\"pay.refund\"`?"
    );
}

#[test]
fn a_schema_of_the_tenant_refuses_other_names_and_each_is_said_once() {
    let schema = Schema::generate_for(&tools(), &vocabulary()).unwrap();
    assert!(schema.text().contains("entity Team enum [\"release\", \"support\"];"), "{}", schema.text());
    assert!(schema.text().contains("entity Capability enum [\"shop-orders\"];"));
    assert!(schema.text().contains("entity Environment enum [\"production\", \"test\"];"));
    assert!(schema.text().contains("//   test: staging\n") && schema.text().contains("//   Agent::\"refunds-bot\"\n"));

    let text = "@id(\"a\") permit (principal in Team::\"suport\", action == Action::\"m.get\", resource in Capability::\"shop\");\n\
                @id(\"b\") permit (principal == Agent::\"refund-bot\", action == Action::\"m.get\", resource)\n\
                when { principal in Team::\"relase\" };\n";
    let source = source(&[("p.cedar", text)]);
    let says = |found: &[Diagnostic]| -> Vec<String> { found.iter().map(|d| format!("{} {d}", d.place())).collect() };
    let expected = [
        "p.cedar:1:31 policy `a`: the tenant has no team `suport`; did you mean `Team::\"support\"`?",
        "p.cedar:1:86 policy `a`: the tenant has no capability `shop`; did you mean `Capability::\"shop-orders\"`?",
        "p.cedar:2:31 policy `b`: the tenant has no agent `refund-bot`; did you mean `Agent::\"refunds-bot\"`?",
        "p.cedar:3:21 policy `b`: the tenant has no team `relase`; did you mean `Team::\"release\"`?",
    ];
    // The names stand in the schema; saying them again changes nothing.
    assert_eq!(says(&check(&source, &schema, None).diagnostics), expected);
    assert_eq!(says(&check(&source, &schema, Some(&vocabulary())).diagnostics), expected);
    assert_eq!(says(&validate(&Pack::parse(&source).unwrap(), &schema).errors), expected);
    // A team that is new since the schema was made is Cedar's to refuse.
    let mut newer = vocabulary();
    newer.teams.extend(["suport".to_owned(), "relase".to_owned()]);
    newer.agents.insert("refund-bot".to_owned());
    newer.capabilities.insert("shop".to_owned());
    let found = check(&source, &schema, Some(&newer));
    assert!(found.errors().any(|d| d.code == "schema" && d.place() == "p.cedar:1:31"), "{:#?}", found.diagnostics);
}

#[test]
fn a_schema_of_a_tenant_that_has_nothing_yet_takes_any_name() {
    let schema = Schema::generate_for(&tools(), &Vocabulary::default()).unwrap();
    assert_eq!(schema.text(), Schema::generate(&tools()).unwrap().text());
    // Names with signs that a Cedar text has to escape, and that must not break out of a comment.
    let odd = "a\"b\\\n'c".to_owned();
    let vocabulary = Vocabulary {
        agents: [odd.clone()].into(),
        teams: [odd.clone()].into(),
        environments: [(odd.clone(), odd)].into(),
        ..Vocabulary::default()
    };
    Schema::generate_for(&tools(), &vocabulary).unwrap();
}

/// The shipped packs, against a tenant that has what they name.
#[test]
fn the_shipped_packs_have_no_error() {
    let packs = [
        vec![
            ("release.cedar", include_str!("../../../../policies/demo/release.cedar")),
            ("support.cedar", include_str!("../../../../policies/demo/support.cedar")),
        ],
        vec![("banking.cedar", include_str!("../../../../policies/banking/banking.cedar"))],
        vec![("records.cedar", include_str!("../../../../policies/authzen/records.cedar"))],
    ];
    let catalogue = intended_intents::Catalogue::builtin();
    let mut tools: Vec<ToolAction> = catalogue
        .tools()
        .map(|(tool, category, operation)| ToolAction {
            tool: tool.to_owned(),
            category: category.to_owned(),
            domain: intended_intents::domain_of(category).to_owned(),
            operation: operation.as_str(),
        })
        .collect();
    for (tool, operation) in [
        ("read", "read"),
        ("write", "update"),
        ("delete", "delete"),
        ("bank.send_money", "transfer"),
        ("bank.schedule_transaction", "transfer"),
        ("bank.update_scheduled_transaction", "update"),
        ("bank.update_password", "update"),
        ("bank.update_user_info", "update"),
    ] {
        tools.push(ToolAction {
            tool: tool.to_owned(),
            category: "OIL-101".to_owned(),
            domain: "OIL-100".to_owned(),
            operation,
        });
    }
    let schema = Schema::generate(&tools).unwrap();
    for files in packs {
        let checked = check(&source(&files), &schema, None);
        let codes: Vec<_> = checked.diagnostics.iter().map(|d| format!("{} {} {d}", d.place(), d.code)).collect();
        assert!(checked.is_valid(), "{codes:#?}");
        assert!(checked.warnings().all(|d| d.code == "unconditional-permit"), "{codes:#?}");
    }
}
