//! What keeps Cedar's recursion within its stack: looked at before Cedar reads a text, and before
//! what it read is used.

use crate::diagnostic::{Diagnostic, Place};
use crate::pack::{MAX_NESTING, MAX_TOKENS};

/// Refuses text nested so deeply that a recursive parser could run out of stack. Strings and
/// comments do not count.
pub(super) fn nesting(file: &str, text: &str) -> Result<(), Diagnostic> {
    let wrong =
        |at: usize, code, message: String| Diagnostic::error(code, &Place::new(file, text, at..at + 1), message);
    let mut depth = 0_usize;
    let mut run = 0_usize;
    let (mut tokens, mut in_word) = (0_usize, false);
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let word = c.is_alphanumeric() || c == '_';
        tokens += usize::from(!(c.is_whitespace() || word && in_word));
        in_word = word;
        if c == ';' && depth == 0 {
            tokens = 0;
        }
        if tokens > MAX_TOKENS {
            return Err(wrong(
                at,
                "limit",
                format!("a policy has more than {MAX_TOKENS} words and signs: make several of it"),
            ));
        }
        match c {
            '"' => {
                let mut closed = false;
                while let Some((_, c)) = chars.next() {
                    match c {
                        '\\' => {
                            chars.next();
                        }
                        '"' => {
                            closed = true;
                            break;
                        }
                        _ => {}
                    }
                }
                if !closed {
                    return Err(wrong(at, "syntax", "a string never ends".to_owned()));
                }
            }
            '/' if chars.peek().is_some_and(|(_, n)| *n == '/') => {
                while chars.next_if(|(_, c)| *c != '\n').is_some() {}
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        // A run of negations, or of `if … then if …` without brackets, nests too.
        if matches!(c, '!' | '-') {
            run += 1;
        } else if c == ';' {
            run = 0;
        } else if c == 'i' && text.get(at..).is_some_and(|t| t.starts_with("if ")) {
            run += 1;
        }
        if depth > MAX_NESTING || run > MAX_NESTING * 4 {
            return Err(wrong(at, "limit", format!("conditions are nested deeper than {MAX_NESTING} levels")));
        }
    }
    Ok(())
}

/// How deep an expression is; without recursion, because that is what it is asked for.
pub(super) fn depth(expr: cedar_policy_core::ast::Expr) -> usize {
    use cedar_policy_core::ast::{Expr, ExprKind as E};
    let mut deepest = 0;
    let mut todo: Vec<(&Expr, usize)> = vec![(&expr, 1)];
    while let Some((expr, depth)) = todo.pop() {
        deepest = deepest.max(depth);
        let below = depth + 1;
        match expr.expr_kind() {
            E::If { test_expr, then_expr, else_expr } => {
                todo.extend([test_expr, then_expr, else_expr].map(|e| (&**e, below)));
            }
            E::And { left, right } | E::Or { left, right } => todo.extend([left, right].map(|e| (&**e, below))),
            E::BinaryApp { arg1, arg2, .. } => todo.extend([arg1, arg2].map(|e| (&**e, below))),
            E::UnaryApp { arg: e, .. }
            | E::GetAttr { expr: e, .. }
            | E::HasAttr { expr: e, .. }
            | E::Like { expr: e, .. }
            | E::ExtHasAttr { expr: e, .. }
            | E::Is { expr: e, .. } => todo.push((e, below)),
            E::ExtensionFunctionApp { args, .. } => todo.extend(args.iter().map(|e| (e, below))),
            E::Set(items) => todo.extend(items.iter().map(|e| (e, below))),
            E::Record(members) => todo.extend(members.values().map(|e| (e, below))),
            E::Lit(_) | E::Var(_) | E::Slot(_) | E::Unknown(_) => {}
        }
    }
    deepest
}
