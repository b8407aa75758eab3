//! What stands behind the `?` of an address: read, and written. Values are percent-encoded, since they are names from anywhere.

use std::fmt;

/// The parts of a query, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query; what is no UTF-8 is replaced. A head is bounded, and so is this.
    pub(super) fn read(text: Option<&str>) -> Self {
        let parts = text.unwrap_or_default().split('&').filter(|part| !part.is_empty());
        Self(
            parts
                .map(|part| part.split_once('=').unwrap_or((part, "")))
                .map(|(k, v)| (decoded(k), decoded(v)))
                .collect(),
        )
    }

    /// What a part says; nothing if it is not there, or empty.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        let value = self.0.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str());
        value.filter(|value| !value.is_empty())
    }

    /// The page that is asked for, from 0 on, and below `most`.
    pub(super) fn page(&self, most: u32) -> u32 {
        self.get("page").and_then(|page| page.parse().ok()).unwrap_or(0).min(most.saturating_sub(1))
    }

    /// Only these parts, in this order: so that two who ask the same ask it in the same words.
    pub(super) fn only(&self, keys: &[&str]) -> Self {
        let known = keys.iter().filter_map(|key| Some(((*key).to_owned(), self.get(key)?.to_owned())));
        Self(known.collect())
    }

    /// The same with another value of one part; an empty one takes it out.
    pub(super) fn with(&self, key: &str, value: &str) -> Self {
        let mut parts: Vec<(String, String)> = self.0.iter().filter(|(k, _)| k != key).cloned().collect();
        if !value.is_empty() {
            parts.push((key.to_owned(), value.to_owned()));
        }
        Self(parts)
    }

    /// A link to `page` with this query.
    pub(super) fn link(&self, page: &'static str) -> Link {
        Link(page, self.clone())
    }
}

/// A link within the dashboard. Without a path, so that it holds behind a proxy that has put one in front.
#[derive(Debug)]
pub(super) struct Link(&'static str, Query);

impl Link {
    /// To `page`, with one part.
    pub(super) fn to(page: &'static str, key: &str, value: &dyn fmt::Display) -> Self {
        Self(page, Query::default().with(key, &value.to_string()))
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)?;
        for (at, (key, value)) in self.1.0.iter().enumerate() {
            write!(f, "{}{}={}", if at == 0 { '?' } else { '&' }, Encoded(key), Encoded(value))?;
        }
        Ok(())
    }
}

struct Encoded<'t>(&'t str);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    write!(f, "{}", char::from(byte))?
                }
                _ => write!(f, "%{byte:02X}")?,
            }
        }
        Ok(())
    }
}

/// As forms encode: `+` is a space, `%2B` a plus.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let hex = behind.get(..2).filter(|_| first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (_, Some(byte)) => {
                bytes.push(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            (b'+', None) => {
                bytes.push(b' ');
                rest = behind;
            }
            (byte, None) => {
                bytes.push(byte);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_read_as_it_was_written() {
        let query = Query::default().with("pid", "<a.1f.2>").with("filter", "ä &=+%\"");
        let link = query.link("processes").to_string();
        assert_eq!(link, "processes?pid=%3Ca.1f.2%3E&filter=%C3%A4%20%26%3D%2B%25%22");
        assert_eq!(Query::read(link.split_once('?').map(|(_, query)| query)), query);
    }

    #[test]
    fn whatever_is_typed_is_read() {
        let query = Query::read(Some("page=99999999999&x=%zz%&&=&page=3&y=%ff+a"));
        assert_eq!((query.get("x"), query.get("y"), query.page(10)), (Some("%zz%"), Some("\u{fffd} a"), 0));
        assert_eq!(Query::read(Some("page=12")).page(10), 9);
        assert_eq!(Query::read(None).get("page"), None);
        assert_eq!(query.only(&["y", "none"]), Query::default().with("y", "\u{fffd} a"));
    }
}
