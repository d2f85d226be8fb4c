//! A new pack: small, of every kind of file, and passing its own tests.

use std::collections::BTreeMap;

use intended_model::Name;

/// The files of a new pack, by name.
#[must_use]
pub fn scaffold(name: &Name) -> BTreeMap<String, String> {
    [
        ("pack.toml", MANIFEST),
        ("support.cedar", POLICIES),
        ("tests/fixtures.yaml", FIXTURES),
        ("tests/support.yaml", TESTS),
    ]
    .into_iter()
    .map(|(file, text)| (file.to_owned(), text.replace("{name}", name.as_str())))
    .collect()
}

const MANIFEST: &str = r#"name = "{name}"
version = "0.1.0"
description = "What the support agent may do by itself, and what a person decides."
owners = ["your-team"]

# What must hold before it is deployed; the environment's own limits hold besides.
[thresholds]
coverage_percent = 100
# max_blast_permille = 50
# max_new_escalations_per_hour = 10

# Decided right after each deployment; another outcome rolls it back.
[[expect]]
name = "nobody deletes a customer"
decision = "deny"
[expect.intent]
subject = { type = "agent", id = "support-agent" }
action = { name = "crm.delete_customer" }
resource = { type = "customer", id = "c-1" }
"#;

const POLICIES: &str = r#"// The support agent looks orders up and makes small refunds; a lead decides about larger ones.
@id("support.lookup")
permit (
  principal in Team::"support",
  action == Action::"orders.get_order",
  resource
);

@id("support.refund-small")
permit (
  principal in Team::"support",
  action == Action::"stripe.create_refund",
  resource
)
when
{
  context.number.hasTag("amount") &&
  context.number.getTag("amount").lessThanOrEqual(decimal("100.0"))
};

@id("support.refund-large")
@escalate("1 of support-leads")
permit (
  principal in Team::"support",
  action == Action::"stripe.create_refund",
  resource
)
when
{
  context.number.hasTag("amount") && context.number.getTag("amount").greaterThan(decimal("100.0"))
};

@id("never.delete-customers")
@reason("customers are deleted by people")
forbid (
  principal,
  action == Action::"crm.delete_customer",
  resource
);
"#;

const FIXTURES: &str = r#"# Shared by the test files beside this one.
fixtures:
  agents:
    support-agent: { teams: [support] }
    stranger: { teams: [] }
  capabilities:
    orders: { type: order, data_class: confidential }
    charges: { type: charge, data_class: confidential, criticality: high }
    customers: { type: customer, data_class: restricted, criticality: high }
  intents:
    look-up: { action: orders.get_order, resource: order/1042 }
    refund-40: { action: stripe.create_refund, resource: charge/ch_1, arguments: { amount: 40 } }
    refund-4000: { action: stripe.create_refund, resource: charge/ch_1, arguments: { amount: 4000 } }
    delete: { action: crm.delete_customer, resource: customer/c-1 }
"#;

const TESTS: &str = r#"name: support
now: 2026-11-24T12:00:00Z

tests:
  # Every agent with every intent. What no row names is expected to be denied.
  - name: what the support agent may do
    environments: [production]
    expect:
      - { agent: support-agent, intent: look-up, decision: allow }
      - { agent: support-agent, intent: refund-40, decision: allow, policies: [support.refund-small] }
      - { agent: support-agent, intent: refund-4000, decision: escalate, obligation: 1 of support-leads }
      - { intent: delete, decision: deny, reason: policy.forbid }
"#;
