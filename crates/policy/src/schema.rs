//! The Cedar schema that policies are validated against, made from the tools, their categories and
//! operations. Every action has the same context, so a policy on a whole category is checked as
//! strictly as one on a single tool.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use intended_model::decision::Operation;
use intended_model::synthetic;

use crate::vocabulary::Vocabulary;

/// A tool as an action.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ToolAction {
    pub tool: String,
    pub category: String,
    pub domain: String,
    pub operation: &'static str,
}

/// The schema, as text and parsed.
pub struct Schema {
    text: String,
    pub(crate) parsed: cedar_policy::Schema,
    actions: BTreeSet<String>,
    tools: BTreeSet<ToolAction>,
    vocabulary: Option<Vocabulary>,
}

impl std::fmt::Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Schema").field("actions", &self.actions.len()).finish_non_exhaustive()
    }
}

/// The generated text is not a schema: a tool or category has a name that Cedar cannot hold.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the schema cannot be made: {0}")]
pub struct SchemaError(String);

const ENTITIES: &str = r#"// Generated. The vocabulary of policies.

entity Team;
entity Agent in [Team] {
  id: String,
  kind: String,
  owner: String,
  trust: Long, // 0-100
};

entity Capability;
entity Resource in [Capability] {
  kind: String,
  id: String,
  known: Bool,       // described by the registry
  criticality: Long, // 0 low, 1 medium, 2 high, 3 critical
  dataClass: Long,   // 0 public, 1 internal, 2 confidential, 3 restricted, 4 unknown
  owner: String,
  environment: String,
};

// The call's arguments, by type: context.text.getTag("recipient") after context.text.hasTag("recipient").
entity Text tags String;
entity Number tags decimal;
entity Flag tags Bool;
entity List tags Set<String>;
entity Counter tags Long;

type RiskFactors = {
  baseAction: Long, environment: Long, blastRadius: Long, reversibility: Long,
  dataSensitivity: Long, privilege: Long, actorTrust: Long, timeOfDay: Long,
};

type IntentContext = {
  environment: String,
  tier: String, // development, staging, production
  tool: String, category: String, domain: String, operation: String,
  confidence: Long, // 0-100
  indicators: Set<String>,
  reversible: String, // yes, partly, no
  risk: Long, // 0-100
  riskFactors: RiskFactors,
  text: Text, number: Number, flag: Flag, list: List,
  budgets: Counter, // what each budget that applies has counted
  goal: { declared: Bool, mentions: Set<String> },
  session: {
    declared: Bool, intents: Long, allowed: Long, denied: Long,
    dataClass: Long, categories: Set<String>, tools: Set<String>, indicators: Set<String>,
  },
  time: { hour: Long, minute: Long, weekday: Long, epoch: Long },
  approvals: Long,
};

"#;

impl Schema {
    /// Makes the schema of these tools. Categories and operations are the groups that tools are in.
    pub fn generate(tools: &[ToolAction]) -> Result<Self, SchemaError> {
        Self::make(tools, ENTITIES.to_owned(), None)
    }

    /// As [`Schema::generate`], with the tenant's names: teams and capabilities are enumerated, so that
    /// Cedar itself refuses others, and an editor completes them. Environments and agents are there to
    /// be read: a context names the one by text, and the other come and go.
    pub fn generate_for(tools: &[ToolAction], vocabulary: &Vocabulary) -> Result<Self, SchemaError> {
        let list = |names: &mut dyn Iterator<Item = &String>| names.map(|n| quoted(n)).collect::<Vec<_>>().join(", ");
        let mut text = ENTITIES.to_owned();
        for (plain, names) in [("entity Team;", &vocabulary.teams), ("entity Capability;", &vocabulary.capabilities)] {
            // An enumeration without a member is none.
            if !names.is_empty() {
                let all = format!("{} enum [{}];", plain.trim_end_matches(';'), list(&mut names.iter()));
                text = text.replace(plain, &all);
            }
        }
        if !vocabulary.environments.is_empty() {
            text.push_str("// What `context.environment` can be:\n");
            for (name, tier) in &vocabulary.environments {
                let _ = writeln!(text, "//   {}: {}", name.escape_debug(), tier.escape_debug());
            }
            let all = list(&mut vocabulary.environments.keys());
            let _ = writeln!(text, "entity Environment enum [{all}];\n");
        }
        if !vocabulary.agents.is_empty() {
            text.push_str("// Agents:\n");
            for name in &vocabulary.agents {
                let _ = writeln!(text, "//   Agent::{}", quoted(name));
            }
            text.push('\n');
        }
        Self::make(tools, text, Some(vocabulary.clone()))
    }

    fn make(tools: &[ToolAction], mut text: String, vocabulary: Option<Vocabulary>) -> Result<Self, SchemaError> {
        let mut actions = BTreeSet::new();
        // No catalogue has the self-test, and a policy can forbid it.
        let mut tools = tools.to_vec();
        tools.push(ToolAction {
            tool: synthetic::NAME.to_owned(),
            category: synthetic::CATEGORY.to_owned(),
            domain: synthetic::DOMAIN.to_owned(),
            operation: Operation::Probe.as_str(),
        });
        let domains: BTreeSet<&str> = tools.iter().map(|t| t.domain.as_str()).collect();
        let categories: BTreeMap<&str, &str> = tools.iter().map(|t| (t.category.as_str(), t.domain.as_str())).collect();
        let operations: BTreeSet<&str> = tools.iter().map(|t| t.operation).collect();
        for domain in domains {
            let _ = writeln!(text, "action {};", quoted(domain));
            actions.insert(domain.to_owned());
        }
        for (category, domain) in categories {
            let _ = writeln!(text, "action {} in [{}];", quoted(category), quoted(domain));
            actions.insert(category.to_owned());
        }
        for operation in operations {
            let name = format!("op:{operation}");
            let _ = writeln!(text, "action {};", quoted(&name));
            actions.insert(name);
        }
        text.push('\n');
        let tools: BTreeSet<ToolAction> = tools.into_iter().collect();
        for tool in &tools {
            let operation = format!("op:{}", tool.operation);
            let _ = writeln!(
                text,
                "action {} in [{}, {}] appliesTo {{ principal: [Agent], resource: [Resource], context: IntentContext }};",
                quoted(&tool.tool),
                quoted(&tool.category),
                quoted(&operation),
            );
            actions.insert(tool.tool.clone());
        }
        let (parsed, _) = cedar_policy::Schema::from_cedarschema_str(&text).map_err(|e| SchemaError(e.to_string()))?;
        Ok(Self { text, parsed, actions, tools, vocabulary })
    }
    /// The schema in Cedar's own syntax, for editors.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
    /// Every action and action group.
    pub fn actions(&self) -> impl Iterator<Item = &str> {
        self.actions.iter().map(String::as_str)
    }
    /// The tools that it is made of, and the self-test.
    pub fn tools(&self) -> impl Iterator<Item = &ToolAction> {
        self.tools.iter()
    }
    /// The tenant's names, if it is made with them.
    #[must_use]
    pub const fn vocabulary(&self) -> Option<&Vocabulary> {
        self.vocabulary.as_ref()
    }
    pub(crate) fn has_action(&self, name: &str) -> bool {
        self.actions.contains(name)
    }
}

/// A Cedar string, on one line whatever the name.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.escape_debug())
}
