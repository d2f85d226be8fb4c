//! The one layout of policies: Cedar's own formatter, held to what it promises.

use cedar_policy_formatter::Config;

use crate::diagnostic::{Diagnostic, Place};
use crate::pack::{MAX_FILE, PARSE_STACK, PackError, syntax};

/// Columns of a line.
const WIDTH: usize = 100;
/// The formatter can want a second look at what it wrote; more than this it never does.
const LOOKS: usize = 4;

/// The text of a file in the one layout; formatting that again changes nothing. Comments and meaning
/// stay, or it is refused.
pub fn format(file: &str, text: &str) -> Result<String, PackError> {
    stacker::maybe_grow(PARSE_STACK, PARSE_STACK, || format_here(file, text))
}

fn format_here(file: &str, text: &str) -> Result<String, PackError> {
    let whole = Place::whole(file, text);
    let wrong = |message: String| Diagnostic::error("format", &whole, message);
    if text.len() > MAX_FILE {
        let message = format!("the file has {} bytes; at most {MAX_FILE} are read", text.len());
        return Err(Diagnostic::error("limit", &whole, message).into());
    }
    if let Err(mut errors) = syntax(file, text) {
        errors.truncate(1);
        return Err(errors.pop().unwrap_or_else(|| wrong("the file cannot be read".to_owned())).into());
    }
    let config = Config { line_width: WIDTH, indent_width: 2 };
    let mut written = text.to_owned();
    for _ in 0..LOOKS {
        // It compares the meaning of what it read and what it wrote.
        let again = cedar_policy_formatter::policies_str_to_pretty(&written, &config)
            .map_err(|e| wrong(format!("the formatter gives up: {e}")))?;
        if again == written {
            return if comments(&written) == comments(text) {
                Ok(written)
            } else {
                Err(wrong("formatting would lose a comment".to_owned()).into())
            };
        }
        written = again;
    }
    Err(wrong("formatting does not come to an end".to_owned()).into())
}

/// The comments in their order.
fn comments(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['"', '/']) {
        let (_, from) = rest.split_at(at);
        rest = if from.starts_with("//") {
            let (comment, after) = from.split_once('\n').unwrap_or((from, ""));
            found.push(comment.trim_end());
            after
        } else if let Some(string) = from.strip_prefix('"') {
            let mut escaped = false;
            let end = string.find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            end.and_then(|e| string.get(e + 1..)).unwrap_or("")
        } else {
            from.get(1..).unwrap_or("")
        };
    }
    found
}

#[cfg(test)]
mod tests {
    #[test]
    fn comments_are_told_from_strings() {
        let text = "// a \n@id(\"//no\\\"//no\") permit (principal, action, resource); // b\r\n/ //c";
        assert_eq!(super::comments(text), ["// a", "// b", "//c"]);
    }
}
