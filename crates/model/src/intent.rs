//! An intent: what an agent declares it wants to do. The information model is AuthZEN's (subject,
//! action, resource, context) plus the goal and the session.
//!
//! Names that are shown or compared (tool, resource, subject, session) are printable ASCII:
//! look-alike, invisible and bidirectional characters are refused, never normalised, so what a
//! person reads is what is hashed. Argument values are kept exactly as they were sent.

use serde::{Deserialize, Serialize};

use crate::json::{Object, Value};
use crate::{Code, Digest, EnvironmentId};

/// Longest tool name.
pub const MAX_TOOL: usize = 128;
/// Longest resource id, subject id: a path or a URL fits.
pub const MAX_RESOURCE_ID: usize = 512;
/// Longest session name.
pub const MAX_SESSION: usize = 128;
/// Longest goal, in bytes.
pub const MAX_GOAL: usize = 4096;

/// One declared action. Fields stand in canonical order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    pub action: Action,
    /// What else the caller says about the situation. Never trusted for risk.
    #[serde(default = "Value::object", skip_serializing_if = "is_empty")]
    pub context: Value,
    pub environment: EnvironmentId,
    /// What the agent is trying to achieve, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal: Option<Box<str>>,
    pub resource: Resource,
    /// Groups the actions of one run of an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Box<str>>,
    pub subject: Subject,
}

/// The tool to call and its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// The tool's name, `system.tool`.
    pub name: Box<str>,
    /// The arguments, exactly as the tool would get them.
    #[serde(default = "Value::object", skip_serializing_if = "is_empty")]
    pub properties: Value,
}

/// What the action touches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    pub id: Box<str>,
    #[serde(default = "Value::object", skip_serializing_if = "is_empty")]
    pub properties: Value,
    #[serde(rename = "type")]
    pub kind: Box<str>,
}

/// The agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    pub id: Box<str>,
    #[serde(default = "Value::object", skip_serializing_if = "is_empty")]
    pub properties: Value,
    #[serde(rename = "type")]
    pub kind: Box<str>,
}

fn is_empty(value: &Value) -> bool {
    matches!(value, Value::Object(object) if object.is_empty())
}

/// Why an intent was refused, and at which member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct IntentError {
    pub code: Code,
    /// JSON Pointer (RFC 6901) of the member.
    pub pointer: String,
    pub message: String,
}

impl IntentError {
    fn new(code: Code, pointer: &str, message: impl Into<String>) -> Self {
        Self { code, pointer: pointer.to_owned(), message: message.into() }
    }
}

impl Intent {
    /// Checks a strict JSON value and makes an intent of it. `environment` is the one to use when
    /// the body names none. Members that an agent could mistype are refused when unknown, unless
    /// `lenient`, for standards that say to ignore them (AuthZEN).
    pub fn from_value(value: &Value, environment: Option<&EnvironmentId>, lenient: bool) -> Result<Self, IntentError> {
        let object = object_of(value, "")?;
        if !lenient {
            known(object, "", &["action", "context", "environment", "goal", "resource", "session", "subject"])?;
        }
        let environment = match object.get("environment") {
            None => environment.cloned().ok_or_else(|| {
                IntentError::new(
                    Code::RequestInvalid,
                    "/environment",
                    "name the `environment`: this credential is good for several",
                )
            })?,
            Some(value) => {
                let text = text_of(value, "/environment")?;
                EnvironmentId::new(text)
                    .map_err(|e| IntentError::new(Code::TextUnsafe, "/environment", e.to_string()))?
            }
        };
        let action = part(object, "action", lenient, &["name", "properties"])?;
        let resource = part(object, "resource", lenient, &["id", "properties", "type"])?;
        let subject = part(object, "subject", lenient, &["id", "properties", "type"])?;
        let goal = match object.get("goal") {
            None | Some(Value::Null) => None,
            Some(value) => Some(goal_text(text_of(value, "/goal")?)?),
        };
        let session = match object.get("session") {
            None | Some(Value::Null) => None,
            Some(value) => Some(plain(text_of(value, "/session")?, "/session", MAX_SESSION)?),
        };
        Ok(Self {
            action: Action {
                name: tool_name(member(action, "name", "/action/name")?, "/action/name")?,
                properties: properties(action, "/action/properties")?,
            },
            context: match object.get("context") {
                None | Some(Value::Null) => Value::object(),
                Some(value) => Value::Object(object_of(value, "/context")?.clone()),
            },
            environment,
            goal,
            resource: Resource {
                id: plain(member(resource, "id", "/resource/id")?, "/resource/id", MAX_RESOURCE_ID)?,
                properties: properties(resource, "/resource/properties")?,
                kind: resource_type(member(resource, "type", "/resource/type")?)?,
            },
            session,
            subject: Subject {
                id: plain(member(subject, "id", "/subject/id")?, "/subject/id", MAX_RESOURCE_ID)?,
                properties: properties(subject, "/subject/properties")?,
                kind: plain(member(subject, "type", "/subject/type")?, "/subject/type", 64)?,
            },
        })
    }

    /// The canonical text of the intent: its fields are declared in canonical order.
    pub fn to_canonical(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// SHA-256 of the canonical text.
    pub fn digest(&self) -> Result<Digest, serde_json::Error> {
        Ok(Digest::of(self.to_canonical()?.as_bytes()))
    }

    /// SHA-256 of the canonical arguments alone (`{}` when there are none): what an enforcement
    /// point recomputes from the call that it is about to make.
    #[must_use]
    pub fn arguments_digest(&self) -> Digest {
        arguments_digest(&self.action.properties)
    }
}

/// SHA-256 of the canonical text of a call's arguments.
#[must_use]
pub fn arguments_digest(arguments: &Value) -> Digest {
    Digest::of(arguments.to_canonical().as_bytes())
}

fn object_of<'v>(value: &'v Value, pointer: &str) -> Result<&'v Object, IntentError> {
    value.as_object().ok_or_else(|| IntentError::new(Code::RequestInvalid, pointer, "an object was expected"))
}
fn text_of<'v>(value: &'v Value, pointer: &str) -> Result<&'v str, IntentError> {
    value.as_str().ok_or_else(|| IntentError::new(Code::RequestInvalid, pointer, "a text was expected"))
}
fn member<'v>(object: &'v Object, name: &str, pointer: &str) -> Result<&'v str, IntentError> {
    let value = object
        .get(name)
        .ok_or_else(|| IntentError::new(Code::RequestInvalid, pointer, format!("`{name}` is missing")))?;
    text_of(value, pointer)
}
fn part<'v>(object: &'v Object, name: &str, lenient: bool, members: &[&str]) -> Result<&'v Object, IntentError> {
    let pointer = ["/", name].concat();
    let value = object
        .get(name)
        .ok_or_else(|| IntentError::new(Code::RequestInvalid, &pointer, format!("`{name}` is missing")))?;
    let part = object_of(value, &pointer)?;
    if !lenient {
        known(part, &pointer, members)?;
    }
    Ok(part)
}
fn properties(object: &Object, pointer: &str) -> Result<Value, IntentError> {
    match object.get("properties") {
        None | Some(Value::Null) => Ok(Value::object()),
        Some(value) => Ok(Value::Object(object_of(value, pointer)?.clone())),
    }
}
fn known(object: &Object, pointer: &str, members: &[&str]) -> Result<(), IntentError> {
    match object.iter().find(|(name, _)| !members.contains(name)) {
        None => Ok(()),
        Some((name, _)) => Err(IntentError::new(
            Code::RequestUnknownField,
            &format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1")),
            format!("unknown member `{}`; known are {}", name.escape_default(), members.join(", ")),
        )),
    }
}

/// Printable ASCII, not starting or ending with a space.
fn plain(text: &str, pointer: &str, max: usize) -> Result<Box<str>, IntentError> {
    if text.is_empty() || text.len() > max {
        return Err(IntentError::new(Code::RequestInvalid, pointer, format!("1 to {max} characters were expected")));
    }
    if let Some(c) = text.chars().find(|c| !matches!(c, ' '..='~')) {
        return Err(IntentError::new(
            Code::TextUnsafe,
            pointer,
            format!("the character U+{:04X} is not printable ASCII; percent-encode it", u32::from(c)),
        ));
    }
    if text.starts_with(' ') || text.ends_with(' ') {
        return Err(IntentError::new(Code::TextUnsafe, pointer, "it starts or ends with a space"));
    }
    Ok(text.into())
}

/// A type is the part before the first `/` of a resource's id in policies, `type/id`: it holds none.
fn resource_type(text: &str) -> Result<Box<str>, IntentError> {
    if text.contains('/') {
        let message = "the character U+002F may not stand in a resource's type";
        return Err(IntentError::new(Code::TextUnsafe, "/resource/type", message));
    }
    plain(text, "/resource/type", 64)
}

/// A tool's name: `A-Z a-z 0-9 . _ : / -`, 1 to 128.
pub fn tool_name(text: &str, pointer: &str) -> Result<Box<str>, IntentError> {
    if text.is_empty() || text.len() > MAX_TOOL {
        return Err(IntentError::new(
            Code::RequestInvalid,
            pointer,
            format!("1 to {MAX_TOOL} characters were expected"),
        ));
    }
    match text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '/' | '-'))) {
        None => Ok(text.into()),
        Some(c) => Err(IntentError::new(
            Code::TextUnsafe,
            pointer,
            format!("the character U+{:04X} may not stand in a tool's name", u32::from(c)),
        )),
    }
}

/// Whether a character is not seen, or changes how others are: controls (but for line ends and tabs),
/// marks of direction, line and paragraph separators, and what Unicode ignores by default, but for the
/// variation selectors that emoji are written with.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\t'))
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}')
        || matches!(c, '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}')
        || matches!(c, '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// A goal is prose in any script, without control, bidirectional or invisible characters.
fn goal_text(text: &str) -> Result<Box<str>, IntentError> {
    if text.is_empty() || text.len() > MAX_GOAL {
        return Err(IntentError::new(Code::RequestInvalid, "/goal", format!("1 to {MAX_GOAL} bytes were expected")));
    }
    match text.chars().find(|c| is_hidden(*c)) {
        None => Ok(text.into()),
        Some(c) => Err(IntentError::new(
            Code::TextUnsafe,
            "/goal",
            format!("the character U+{:04X} is invisible or changes direction", u32::from(c)),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Intent, IntentError> {
        let env = EnvironmentId::new("production").unwrap();
        Intent::from_value(&crate::json::parse(text.as_bytes()).unwrap(), Some(&env), false)
    }
    const GOOD: &str = r#"{"subject":{"type":"agent","id":"support"},"action":{"name":"stripe.create_refund","properties":{"amount":40}},"resource":{"type":"charge","id":"ch_1"}}"#;

    #[test]
    fn the_canonical_text_has_a_fixed_order_and_survives_reading() {
        let intent = read(GOOD).unwrap();
        let text = intent.to_canonical().unwrap();
        assert_eq!(
            text,
            r#"{"action":{"name":"stripe.create_refund","properties":{"amount":40}},"environment":"production","resource":{"id":"ch_1","type":"charge"},"subject":{"id":"support","type":"agent"}}"#
        );
        let value = crate::json::parse(text.as_bytes()).unwrap();
        assert_eq!(value.to_canonical(), text);
        assert_eq!(crate::json::from_value::<Intent>(&value).unwrap(), intent);
    }

    #[test]
    fn look_alikes_and_typos_are_refused_by_name() {
        for (from, to, code, pointer) in [
            ("stripe.create_refund", "stripe.creаte_refund", Code::TextUnsafe, "/action/name"),
            ("\"id\":\"support\"", "\"id\":\"sup\u{200b}port\"", Code::TextUnsafe, "/subject/id"),
            ("ch_1", "ch_\u{202e}1", Code::TextUnsafe, "/resource/id"),
            ("\"resource\":{", "\"resource\":{\"risk\":0,", Code::RequestUnknownField, "/resource/risk"),
            ("{\"subject\"", "{\"decision\":\"allow\",\"subject\"", Code::RequestUnknownField, "/decision"),
            ("\"type\":\"charge\"", "\"type\":\"charge/ch\"", Code::TextUnsafe, "/resource/type"),
            ("{\"subject\"", "{\"goal\":\"a\u{61c}b\",\"subject\"", Code::TextUnsafe, "/goal"),
            ("{\"subject\"", "{\"goal\":\"a\u{ad}b\",\"subject\"", Code::TextUnsafe, "/goal"),
            ("{\"subject\"", "{\"goal\":\"a\u{2028}b\",\"subject\"", Code::TextUnsafe, "/goal"),
            ("{\"subject\"", "{\"goal\":\"a\u{2029}b\",\"subject\"", Code::TextUnsafe, "/goal"),
            ("{\"subject\"", "{\"goal\":\"a\u{202e}b\",\"subject\"", Code::TextUnsafe, "/goal"),
            ("\"stripe.create_refund\"", "17", Code::RequestInvalid, "/action/name"),
        ] {
            let error = read(&GOOD.replace(from, to)).unwrap_err();
            assert_eq!((error.code, error.pointer.as_str()), (code, pointer));
        }
    }
}
