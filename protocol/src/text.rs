//! Cutting texts at a limit. What people read may come shortened, never broken in the middle of a character.

/// The longest beginning of `text` that has at most `limit` bytes.
pub(crate) fn cut(text: &str, limit: usize) -> &str {
    text.get(..text.floor_char_boundary(limit)).unwrap_or_default()
}

/// Cuts `text` in place, and keeps no more memory than what is left needs.
pub(crate) fn cut_string(text: &mut String, limit: usize) {
    if text.len() > limit {
        *text = cut(text, limit).to_owned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("häh", 0), "");
        assert_eq!(cut("häh", 2), "h");
        assert_eq!(cut("häh", 3), "hä");
        assert_eq!(cut("häh", 100), "häh");
    }
}
