//! Where two values differ first, for people.

use intended_model::Value;

/// Longest text of a value that is shown.
const MAX_SHOWN: usize = 120;

/// The place (RFC 6901) and both values there; absent members are said to be so.
pub fn difference(left: &Value, right: &Value) -> Option<(String, String, String)> {
    at(String::new(), Some(left), Some(right))
}

fn at(pointer: String, left: Option<&Value>, right: Option<&Value>) -> Option<(String, String, String)> {
    match (left, right) {
        (Some(a), Some(b)) if a == b => None,
        (None, None) => None,
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let missing = b.iter().filter(|(name, _)| a.get(name).is_none());
            let names = a.iter().chain(missing).map(|(name, _)| name);
            names.into_iter().find_map(|name| {
                let escaped = name.replace('~', "~0").replace('/', "~1");
                at(format!("{pointer}/{escaped}"), a.get(name), b.get(name))
            })
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            (0..a.len().max(b.len())).find_map(|i| at(format!("{pointer}/{i}"), a.get(i), b.get(i)))
        }
        (a, b) => Some((pointer, shown(a), shown(b))),
    }
}

fn shown(value: Option<&Value>) -> String {
    let Some(value) = value else { return "nothing".to_owned() };
    let text = value.to_canonical();
    let mut cut: String = text.chars().take(MAX_SHOWN).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_that_differs_is_named_with_both_values() {
        let read = |t: &str| intended_model::json::parse(t.as_bytes()).unwrap();
        for (left, right, pointer, a, b) in [
            (r#"{"a":[1,{"b/c":2}]}"#, r#"{"a":[1,{"b/c":3}]}"#, "/a/1/b~1c", "2", "3"),
            (r#"{"a":1}"#, r#"{"b":1}"#, "/a", "1", "nothing"),
            (r#"{}"#, r#"{"b":[]}"#, "/b", "nothing", "[]"),
            (r#"[1,2]"#, r#"[1]"#, "/1", "2", "nothing"),
            (r#"1"#, r#""1""#, "", "1", "\"1\""),
        ] {
            assert_eq!(difference(&read(left), &read(right)), Some((pointer.into(), a.into(), b.into())));
        }
        assert_eq!(difference(&read(r#"{"a":1}"#), &read(r#"{"a":1}"#)), None);
    }
}
