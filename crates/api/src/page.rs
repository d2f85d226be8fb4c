//! Lists in pages. A cursor is opaque to the client and good for one list of one tenant; what was
//! made elsewhere or was cut is refused, and not taken for some other place in the list.

use axum::response::IntoResponse as _;
use http::{HeaderValue, Uri};
use intended_model::{Code, Digest};
use serde::{Deserialize, Serialize};

use crate::{Answer, Problem, input, json};

/// Most rows on a page, and how many there are when nobody says.
pub const MAX_ROWS: usize = 500;

/// Which list a cursor is of.
#[derive(Debug, Clone, Copy)]
pub struct List<'a> {
    pub tenant: &'a str,
    pub name: &'static str,
}

/// The version of cursors that this release makes.
const VERSION: &str = "1";

impl List<'_> {
    /// The cursor that goes on after `at`.
    #[must_use]
    pub fn cursor(&self, at: &str) -> String {
        let text = format!("{VERSION}\n{}\n{}\n{at}", self.tenant, self.name);
        intended_token::base64url(format!("{}\n{text}", sum(&text)).as_bytes())
    }
    /// Where a cursor goes on.
    pub fn place(&self, cursor: &str) -> Result<String, Problem> {
        let read = || {
            let bytes = intended_token::from_base64url(cursor)?;
            let text = String::from_utf8(bytes).ok()?;
            let (check, text) = text.split_once('\n')?;
            let mut parts = text.splitn(4, '\n');
            let here = parts.next()? == VERSION && parts.next()? == self.tenant && parts.next()? == self.name;
            (here && check == sum(text)).then(|| parts.next().map(str::to_owned)).flatten()
        };
        read().ok_or_else(|| Problem::at(Code::RequestInvalid, "/cursor", "this is not a cursor of this list"))
    }
    /// Where a cursor over the ledger goes on.
    pub fn index(&self, cursor: &str) -> Result<u64, Problem> {
        let at = self.place(cursor)?;
        at.parse().map_err(|_| Problem::at(Code::RequestInvalid, "/cursor", "this is not a cursor of this list"))
    }
}

/// Tells a cursor from one with a typing error; it keeps nobody from making one.
fn sum(text: &str) -> String {
    Digest::of(text.as_bytes()).to_string().chars().rev().take(8).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    limit: Option<usize>,
    cursor: Option<String>,
}

/// A page of `rows`, which come with their keys and in their order: those after the cursor's, at most
/// `limit`, and the cursor of the next page, if there is one.
pub fn page<T>(
    list: List<'_>,
    rows: impl IntoIterator<Item = (String, T)>,
    limit: Option<usize>,
    cursor: Option<&str>,
) -> Result<(Vec<T>, Option<String>), Problem> {
    let after = cursor.map(|c| list.place(c)).transpose()?;
    let limit = limit.unwrap_or(MAX_ROWS).clamp(1, MAX_ROWS);
    let mut rest = rows.into_iter().skip_while(|(key, _)| after.as_ref().is_some_and(|after| key <= after)).peekable();
    let (mut page, mut last) = (Vec::new(), String::new());
    while page.len() < limit {
        let Some((key, row)) = rest.next() else { break };
        page.push(row);
        last = key;
    }
    let next = rest.peek().is_some().then(|| list.cursor(&last));
    Ok((page, next))
}

/// Answers a list as [`answer`] does, of rows that can be begun at a place: `from` gives those after
/// a key. A page then costs what is on it, and not what stands before it.
pub fn answer_from<T: Serialize, I: Iterator<Item = (String, T)>>(
    list: List<'_>,
    uri: &Uri,
    from: impl FnOnce(Option<&str>) -> I,
) -> Answer {
    let query: PageQuery = input::query(uri)?;
    let after = query.cursor.as_deref().map(|c| list.place(c)).transpose()?;
    let (rows, next) = page(list, from(after.as_deref()), query.limit, query.cursor.as_deref())?;
    linked(uri, query.limit, &rows, next)
}

/// Answers a list that stands as a bare array with the page that the query asks for. Where to go on
/// stands in the `Link` header (RFC 8288), so that the body stays what it is. Keys ascend.
pub fn answer<T: Serialize>(list: List<'_>, uri: &Uri, rows: impl IntoIterator<Item = (String, T)>) -> Answer {
    let query: PageQuery = input::query(uri)?;
    let (rows, next) = page(list, rows, query.limit, query.cursor.as_deref())?;
    linked(uri, query.limit, &rows, next)
}

fn linked<T: Serialize>(uri: &Uri, limit: Option<usize>, rows: &[T], next: Option<String>) -> Answer {
    let mut response = json(200, &rows)?.into_response();
    if let Some(next) = next {
        let limit = limit.map(|limit| format!("limit={limit}&")).unwrap_or_default();
        let link = format!("<{}?{limit}cursor={next}>; rel=\"next\"", uri.path());
        if let Ok(link) = HeaderValue::try_from(link) {
            response.headers_mut().insert(http::header::LINK, link);
        }
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: List<'static> = List { tenant: "acme", name: "agents" };

    #[test]
    fn pages_hold_every_row_once_and_in_order() {
        let rows: Vec<(String, u32)> = (0..25).map(|n| (format!("{n:02}"), n)).collect();
        let (mut seen, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let (page, next) = page(LIST, rows.clone(), Some(10), cursor.as_deref()).unwrap();
            assert!(page.len() <= 10);
            seen.extend(page);
            let Some(next) = next else { break };
            cursor = Some(next);
        }
        assert_eq!(seen, (0..25).collect::<Vec<_>>());
        assert_eq!(page(LIST, rows, None, None).unwrap().1, None);
    }

    #[test]
    fn a_cursor_of_another_list_or_tenant_or_with_a_typing_error_is_refused() {
        let cursor = LIST.cursor("17");
        assert_eq!(LIST.place(&cursor).unwrap(), "17");
        for other in [List { tenant: "other", ..LIST }, List { name: "intents", ..LIST }] {
            assert!(other.place(&cursor).is_err());
        }
        for at in 0..cursor.len() {
            let mut garbled = cursor.clone().into_bytes();
            garbled[at] = if garbled[at] == b'A' { b'B' } else { b'A' };
            assert!(LIST.place(&String::from_utf8(garbled).unwrap()).is_err(), "{at}");
            assert!(LIST.place(cursor.get(..at).unwrap()).is_err(), "{at}");
        }
    }
}
