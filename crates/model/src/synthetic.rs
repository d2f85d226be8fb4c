//! The self-test: an intent that the runtime makes of itself, to see that a decision, a token, its
//! verification and its proof work, in any environment and at any time.
//!
//! It touches nothing and is about nobody, so there is exactly one of it in each environment: one that
//! says anything else is refused. It is decided, recorded and signed like every other intent, by the
//! same gates; what it is never counted as is traffic.

use serde::{Deserialize, Serialize};

use crate::decision::{Classification, Operation, Reversible};
use crate::intent::{Action, Resource, Subject};
use crate::{EnvironmentId, Intent, Value};

/// The tool's name and the agent's, and whom the token is for. Nobody can register either.
pub const NAME: &str = "intended.self-test";
/// The type of the resource that is nobody's.
pub const RESOURCE_TYPE: &str = "intended";
/// And its name.
pub const RESOURCE_ID: &str = "self-test";
/// The built-in permit, as decisions name it. A policy's id has no dot.
pub const PERMIT: &str = "intended.self-test";
/// Monitoring and observability.
pub const CATEGORY: &str = "OIL-303";
/// And its domain.
pub const DOMAIN: &str = "OIL-300";
/// The first decision procedure that knows it. Before that the name was one like any other.
const SINCE: u32 = 3;

/// What an intent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// What an agent wants to do.
    #[default]
    Traffic,
    /// What the runtime asks of itself.
    Synthetic,
}

impl Class {
    pub const ALL: [Self; 2] = [Self::Traffic, Self::Synthetic];

    /// What an intent for a tool is, by a decision procedure. The tool alone says it: nothing that a
    /// caller can leave out makes an intent more, or less, than it is.
    #[must_use]
    pub fn of(procedure: u32, tool: &str) -> Self {
        if procedure >= SINCE && tool == NAME { Self::Synthetic } else { Self::Traffic }
    }
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Traffic => "traffic",
            Self::Synthetic => "synthetic",
        }
    }
    #[must_use]
    pub const fn is_traffic(&self) -> bool {
        matches!(self, Self::Traffic)
    }
    #[must_use]
    pub const fn is_synthetic(&self) -> bool {
        matches!(self, Self::Synthetic)
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The self-test of an environment, whole.
#[must_use]
pub fn intent(environment: EnvironmentId) -> Intent {
    Intent {
        action: Action { name: NAME.into(), properties: Value::object() },
        context: Value::object(),
        environment,
        goal: None,
        resource: Resource { id: RESOURCE_ID.into(), properties: Value::object(), kind: RESOURCE_TYPE.into() },
        session: None,
        subject: Subject { id: NAME.into(), properties: Value::object(), kind: "agent".into() },
    }
}

/// What the self-test is classified as, whatever a tenant's catalogue says.
#[must_use]
pub fn classification() -> Classification {
    Classification {
        ambiguous: false,
        blast: 0,
        category: Some(CATEGORY.into()),
        confidence: 100,
        indicators: Vec::new(),
        operation: Some(Operation::Probe),
        reversible: Reversible::Yes,
        system: NAME.split_once('.').map(|(system, _)| system.into()),
    }
}

/// Whether a name is the self-test's, or would be taken for it: case, punctuation and letters that look
/// alike make no difference. Other than printable ASCII stands in no name anyway.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    skeleton(name).eq(skeleton(NAME))
}

/// The letters of a name as the eye has them (after UTS #39, for ASCII): `I`, `l`, `1` and `|` are one.
fn skeleton(name: &str) -> impl Iterator<Item = char> {
    name.chars().filter_map(|c| {
        Some(match c.to_ascii_lowercase() {
            'i' | '1' | '|' | '!' => 'l',
            '0' => 'o',
            '3' => 'e',
            '4' | '@' => 'a',
            '5' | '$' => 's',
            '7' | '+' => 't',
            c if c.is_alphanumeric() => c,
            _ => return None,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_that_is_read_as_the_reserved_name_is_reserved() {
        for name in [
            "intended.self-test",
            "Intended.Self-Test",
            "INTENDED.SELF-TEST",
            "intended.self_test",
            "intended/self:test",
            "intendedselftest",
            "lntended.self-test",
            "intended.seIf-test",
            "1ntended.se1f-7est",
            "intended.s3lf-t3st",
            "|ntended.5elf+est",
            " intended . self - test ",
        ] {
            assert!(is_reserved(name), "{name}");
        }
        for name in ["intended.self-tests", "intended.test", "self-test", "support-agent", "", "intended.self-testing"]
        {
            assert!(!is_reserved(name), "{name}");
        }
    }

    #[test]
    fn look_alikes_that_are_no_ascii_are_no_names_at_all() {
        // A Cyrillic e, a fullwidth t, a zero-width space, a combining accent, a Kelvin-like l.
        for name in [
            "int\u{435}nded.self-test",
            "intended.self-\u{ff54}est",
            "intended.self\u{200b}-test",
            "intended.se\u{301}lf-test",
            "intended.se\u{29f8}f-test",
        ] {
            assert!(crate::intent::tool_name(name, "/action/name").is_err(), "{name}");
        }
    }

    #[test]
    fn the_class_follows_from_the_tool_from_the_third_procedure_on() {
        assert_eq!(Class::of(3, NAME), Class::Synthetic);
        assert_eq!(Class::of(2, NAME), Class::Traffic);
        assert_eq!(Class::of(3, "intended.Self-test"), Class::Traffic);
        let intent = intent(EnvironmentId::new("production").unwrap());
        let read =
            crate::json::from_value::<Intent>(&crate::json::parse(intent.to_canonical().unwrap().as_bytes()).unwrap());
        assert_eq!(read.unwrap(), intent);
    }
}
