//! Obligations: what a permit asks for besides. Written as annotations, checked when the pack is
//! read, so that a typing error is found before anything is decided by it.
//!
//! * `@escalate("1 of owners then 1 of security or 2 of leads; 1 of legal")`: people must approve
//! * `@defer("ticket")`: context is missing, named
//! * `@modify("set draft = true; cap amount = 100; drop cc")`: the arguments are transformed

use std::collections::BTreeMap;

pub use intended_model::decision::{Quorum, Requirement};
use intended_model::json::Number;
use intended_model::{Name, Value};

/// Most approvals one requirement can ask for.
pub const MAX_COUNT: u32 = 20;

/// Most steps of one requirement, and most ways to meet a step.
pub const MAX_STEPS: usize = 8;

/// One transformation of the arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Set {
        argument: Box<str>,
        value: Value,
    },
    /// The argument becomes at most this.
    Cap {
        argument: Box<str>,
        at: Number,
    },
    Drop {
        argument: Box<str>,
    },
}

/// What a permit's annotation asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obligation {
    Escalate(Vec<Requirement>),
    Defer(Box<str>),
    Modify(Vec<Change>),
}

/// The arguments cannot be transformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModifyError {
    #[error("the argument `{0}` is missing or not a number")]
    NotANumber(Box<str>),
    #[error("the arguments are not an object")]
    NotAnObject,
}

impl Obligation {
    /// Reads the annotation `name`, if it is one.
    pub fn parse(name: &str, text: &str) -> Option<Result<Self, String>> {
        Some(match name {
            "escalate" => requirements(text).map(Self::Escalate),
            "defer" => {
                let text = text.trim();
                if text.is_empty() || text.len() > 200 {
                    Err("`@defer` names what is missing, in 1 to 200 characters".to_owned())
                } else {
                    Ok(Self::Defer(text.into()))
                }
            }
            "modify" => changes(text).map(Self::Modify),
            _ => return None,
        })
    }
}

/// `1 of a then 1 of b or 2 of c; 1 of d except owner`. What the last says of the owner is said of all:
/// who reads it at the end of a line does not ask which part it belongs to.
fn requirements(text: &str) -> Result<Vec<Requirement>, String> {
    const EXCEPT: [&str; 2] = ["except", "owner"];
    let bare = |part: &str| {
        let mut words: Vec<&str> = part.split_whitespace().collect();
        let except = words.ends_with(&EXCEPT) && words.len() > EXCEPT.len();
        if except {
            words.truncate(words.len() - EXCEPT.len());
        }
        (words.join(" "), except)
    };
    let parts: Vec<(String, bool)> = text.split(';').map(bare).collect();
    let except_owner = parts.last().is_some_and(|(_, except)| *except);
    if !except_owner && parts.iter().any(|(_, except)| *except) {
        return Err("`@escalate`: `except owner` stands at the end, and is about all of it".to_owned());
    }
    let mut out = parts.iter().map(|(part, _)| requirement(part, except_owner)).collect::<Result<Vec<_>, String>>()?;
    out.sort();
    Ok(out)
}

fn requirement(text: &str, except_owner: bool) -> Result<Requirement, String> {
    let wrong = || format!("`@escalate` wants `<count> of <group>`, joined by `or` and `then`, not `{}`", text.trim());
    let mut words = text.split_whitespace();
    let (mut steps, mut step) = (Vec::new(), Vec::<Quorum>::new());
    loop {
        let (count, of, group) = (words.next(), words.next(), words.next());
        let (Some(count), Some("of"), Some(group)) = (count, of, group) else { return Err(wrong()) };
        let count: u32 = count.parse().map_err(|_| wrong())?;
        if !(1..=MAX_COUNT).contains(&count) {
            return Err(format!("`@escalate` asks for 1 to {MAX_COUNT} approvals"));
        }
        let group = Name::new(group).map_err(|e| format!("`@escalate`: the group: {e}"))?;
        if step.iter().any(|q| *q.group == *group.as_str()) {
            return Err(format!("`@escalate`: `{group}` stands twice in one step"));
        }
        step.push(Quorum { count, group: group.as_str().into() });
        match words.next() {
            Some("or") => {}
            Some("then") => steps.push(std::mem::take(&mut step)),
            None => break,
            Some(_) => return Err(wrong()),
        }
    }
    steps.push(step);
    if steps.len() > MAX_STEPS || steps.iter().any(|s| s.len() > MAX_STEPS) {
        return Err(format!("`@escalate` has at most {MAX_STEPS} steps, and as many ways to meet one"));
    }
    // A person counts for one step of a chain: it takes as many as all steps together.
    let people: u32 = steps.iter().map(|s| s.iter().map(|q| q.count).min().unwrap_or(0)).sum();
    if people > MAX_COUNT {
        return Err(format!("`@escalate`: its steps take {people} people; at most {MAX_COUNT}"));
    }
    let mut steps = steps.into_iter();
    let mut first = steps.next().unwrap_or_default().into_iter();
    let Quorum { count, group } = first.next().ok_or_else(wrong)?;
    Ok(Requirement { count, except_owner, group, or: first.collect(), then: steps.collect() })
}

fn changes(text: &str) -> Result<Vec<Change>, String> {
    let mut seen = std::collections::BTreeSet::new();
    text.split(';')
        .map(|part| {
            let part = part.trim();
            let (verb, rest) =
                part.split_once(' ').ok_or_else(|| format!("`@modify`: `{part}` is not `set`, `cap` or `drop`"))?;
            let assigned = || {
                rest.split_once('=')
                    .map(|(a, v)| (a.trim(), v.trim()))
                    .ok_or_else(|| format!("`@modify`: `{part}` lacks ` = `"))
            };
            let json =
                |v: &str| intended_model::json::parse(v.as_bytes()).map_err(|e| format!("`@modify`: `{v}`: {e}"));
            let change = match verb {
                "set" => {
                    let (argument, value) = assigned()?;
                    Change::Set { argument: argument.into(), value: json(value)? }
                }
                "cap" => {
                    let (argument, value) = assigned()?;
                    let Value::Number(at) = json(value)? else {
                        return Err(format!("`@modify`: `{value}` is not a number"));
                    };
                    at.scaled(4).ok_or_else(|| "`@modify`: a cap has at most four decimals".to_owned())?;
                    Change::Cap { argument: argument.into(), at }
                }
                "drop" => Change::Drop { argument: rest.trim().into() },
                _ => return Err(format!("`@modify`: `{verb}` is not `set`, `cap` or `drop`")),
            };
            if change.argument().is_empty() || !seen.insert(Box::<str>::from(change.argument())) {
                return Err(format!("`@modify`: `{}` stands twice or is empty", change.argument()));
            }
            Ok(change)
        })
        .collect()
}

impl Change {
    #[must_use]
    pub fn argument(&self) -> &str {
        let (Self::Set { argument, .. } | Self::Cap { argument, .. } | Self::Drop { argument }) = self;
        argument
    }
}

/// Several policies' changes as one, or the argument that they disagree about.
pub fn merge<'c>(changes: impl IntoIterator<Item = &'c Change>) -> Result<Vec<Change>, Box<str>> {
    let mut merged: BTreeMap<&str, &Change> = BTreeMap::new();
    for change in changes {
        match merged.insert(change.argument(), change) {
            Some(other) if other != change => return Err(change.argument().into()),
            _ => {}
        }
    }
    Ok(merged.into_values().cloned().collect())
}

/// The arguments after the changes.
pub fn apply_changes(arguments: &Value, changes: &[Change]) -> Result<Value, ModifyError> {
    let mut out = arguments.as_object().ok_or(ModifyError::NotAnObject)?.clone();
    for change in changes {
        match change {
            Change::Set { argument, value } => out.insert(argument, value.clone()),
            Change::Drop { argument } => {
                out.remove(argument);
            }
            Change::Cap { argument, at } => {
                let Some(Value::Number(given)) = out.get(argument) else {
                    return Err(ModifyError::NotANumber(argument.clone()));
                };
                let (Some(given), Some(limit)) = (given.scaled(4), at.scaled(4)) else {
                    return Err(ModifyError::NotANumber(argument.clone()));
                };
                if given > limit {
                    out.insert(argument, Value::Number(at.clone()));
                }
            }
        }
    }
    Ok(Value::Object(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_read_strictly() {
        let parse = |n: &str, t: &str| Obligation::parse(n, t).unwrap();
        assert_eq!(
            parse("escalate", "2 of release-managers; 1 of security"),
            Ok(Obligation::Escalate(vec![Requirement::of(1, "security"), Requirement::of(2, "release-managers"),]))
        );
        for (name, text) in [
            ("escalate", ""),
            ("escalate", "two of x"),
            ("escalate", "0 of x"),
            ("escalate", "1 of X"),
            ("escalate", "1 x"),
            ("escalate", "1 of x;"),
            ("escalate", "1 of x then"),
            ("escalate", "or 1 of x"),
            ("escalate", "1 of x and 1 of y"),
            ("escalate", "1 of x or 2 of x"),
            ("escalate", "1 of x except owner; 1 of y"),
            ("escalate", "except owner"),
            ("escalate", "1 of x except owner except owner"),
            ("escalate", "11 of x then 10 of y"),
            ("escalate", "1 of a or 1 of b or 1 of c or 1 of d or 1 of e or 1 of f or 1 of g or 1 of h or 1 of i"),
            ("defer", " "),
            ("modify", ""),
            ("modify", "cap amount = \"x\""),
            ("modify", "set a"),
            ("modify", "drop a; drop a"),
            ("modify", "cap amount = 0.00001"),
        ] {
            assert!(parse(name, text).is_err(), "{name} {text}");
        }
        assert!(Obligation::parse("reason", "x").is_none());
    }

    #[test]
    fn steps_and_alternatives_are_read_and_written_alike() {
        for (text, written) in [
            ("1 of owners then 1 of security or 2 of leads", "1 of owners then 1 of security or 2 of leads"),
            ("2 of a or 1 of b\n  then 1 of c", "2 of a or 1 of b then 1 of c"),
            ("1 of then then 1 of or or 1 of of", "1 of then then 1 of or or 1 of of"),
            ("1 of owner except owner", "1 of owner except owner"),
            ("1 of b; 1 of a  except  owner", "1 of a except owner; 1 of b except owner"),
        ] {
            let Ok(Obligation::Escalate(read)) = Obligation::parse("escalate", text).unwrap() else { panic!("{text}") };
            let again = read.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            assert_eq!(again, written);
            let all = Obligation::parse("escalate", written).unwrap();
            assert_eq!(all, Ok(Obligation::Escalate(read)), "what is written reads back: {written}");
        }
    }

    #[test]
    fn changes_apply_and_disagreement_is_found() {
        let Ok(Obligation::Modify(changes)) =
            Obligation::parse("modify", "cap amount = 100; drop cc; set draft = true").unwrap()
        else {
            panic!()
        };
        let arguments = intended_model::json::parse(br#"{"amount":400.5,"cc":"x","to":"y"}"#).unwrap();
        assert_eq!(
            apply_changes(&arguments, &changes).unwrap().to_canonical(),
            r#"{"amount":100,"draft":true,"to":"y"}"#
        );
        let other = [Change::Cap { argument: "amount".into(), at: Number::Int(50) }];
        assert_eq!(merge(changes.iter().chain(&other)), Err("amount".into()));
        assert!(apply_changes(&Value::object(), &other).is_err());
    }
}
