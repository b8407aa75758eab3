//! HTML that is safe by type: markup is `&'static str`, and so from the code alone; whatever else is put into it is escaped. Names, labels
//! and reasons come from other nodes, and may be anything.

use std::fmt::{self, Display, Write};

/// Where a template has a value.
const HOLE: &str = "{}";

/// A piece of HTML.
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// Adds `template`, with each `{}` in it replaced by the next of `values`, escaped. Between tags and in quoted attributes alike.
    pub(super) fn put(&mut self, template: &'static str, values: &[&dyn Display]) -> &mut Self {
        debug_assert_eq!(template.matches(HOLE).count(), values.len(), "{template}");
        let mut values = values.iter();
        for (at, part) in template.split(HOLE).enumerate() {
            if at > 0
                && let Some(value) = values.next()
            {
                // Writing to a text does not fail; a value that cannot be written stays out.
                let _ = write!(Escaped(&mut self.0), "{value}");
            }
            self.0.push_str(part);
        }
        self
    }

    /// Adds another piece.
    pub(super) fn add(&mut self, other: &Self) -> &mut Self {
        self.0.push_str(&other.0);
        self
    }

    /// As it is sent.
    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// Writes what is no markup.
struct Escaped<'t>(&'t mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                // Nothing that HTML has no place for, and nothing that turns the order of what stands behind it.
                c if (c.is_control() && c != '\n' && c != '\t') || is_bidi_control(c) => self.0.push('\u{fffd}'),
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

fn is_bidi_control(character: char) -> bool {
    matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_stays_text() {
        let mut html = Html::default();
        html.put("<a title=\"{}\">{}</a>", &[&"\" onclick='x'", &"</a><script>&\0\u{202e}"]);
        assert_eq!(
            html.finish(),
            "<a title=\"&quot; onclick=&#39;x&#39;\">&lt;/a&gt;&lt;script&gt;&amp;\u{fffd}\u{fffd}</a>"
        );
    }

    #[test]
    fn a_value_with_a_hole_is_not_filled() {
        let mut html = Html::default();
        html.put("{}-{}", &[&"{}", &"b"]);
        assert_eq!(html.finish(), "{}-b");
    }
}
