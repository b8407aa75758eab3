//! From a value as given to a value of the right type: numbers, times, sizes, lists, paths.
//!
//! Pure functions from figment's `Value` (text from flags and variables; text, numbers, truth values and lists from
//! TOML) to a type or to the rest of a sentence that says what is wrong. `settings.rs` adds the option's name, the
//! value, its origin and what is accepted.

use std::path::PathBuf;
use std::time::Duration;

use figment::value::Value;
use rookery_node::trace::config::{Endpoint, ParseEndpointError};

/// What is wrong with a value, as the rest of a sentence that begins with the value.
pub(crate) type Wrong = String;

/// The value as its writer would recognise it, for messages.
pub(crate) fn show(value: &Value) -> String {
    match value {
        Value::Array(_, items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
        Value::Dict(..) => "{…}".to_owned(),
        other => scalar(other).unwrap_or_default(),
    }
}

/// The text of anything that is one value.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.clone()),
        Value::Char(_, character) => Some(character.to_string()),
        Value::Bool(_, truth) => Some(truth.to_string()),
        Value::Num(_, number) => number
            .to_i128()
            .map(|n| n.to_string())
            .or_else(|| number.to_u128().map(|n| n.to_string()))
            .or_else(|| number.to_f64().map(|n| n.to_string())),
        Value::Empty(..) | Value::Dict(..) | Value::Array(..) => None,
    }
}

/// Text that is not empty. A number is no text: a name that must look like one is quoted.
pub(crate) fn text(value: &Value) -> Result<String, Wrong> {
    match value.as_str().map(str::trim) {
        Some("") => Err("is empty".to_owned()),
        Some(text) => Ok(text.to_owned()),
        None => Err("is no text".to_owned()),
    }
}

/// A path; it need not exist yet.
pub(crate) fn path(value: &Value) -> Result<PathBuf, Wrong> {
    text(value).map(PathBuf::from)
}

/// A collector's address.
pub(crate) fn endpoint(value: &Value) -> Result<Endpoint, Wrong> {
    text(value)?.parse().map_err(|error: ParseEndpointError| format!("is no endpoint ({error})"))
}

/// A part of a whole.
pub(crate) fn part(value: &Value) -> Result<f64, Wrong> {
    let number = scalar(value).and_then(|text| text.trim().parse::<f64>().ok()).ok_or("is no number")?;
    if (0.0..=1.0).contains(&number) { Ok(number) } else { Err("is not between 0 and 1".to_owned()) }
}

/// A truth value.
pub(crate) fn truth(value: &Value) -> Result<bool, Wrong> {
    value.to_bool().ok_or_else(|| "is neither true nor false".to_owned())
}

/// A list: a TOML list of texts, or one text with commas. An empty text is an empty list.
pub(crate) fn list(value: &Value) -> Result<Vec<String>, Wrong> {
    match value {
        Value::Array(_, items) => items
            .iter()
            .map(|item| text(item).map_err(|wrong| format!("has an item, `{}`, that {wrong}", show(item))))
            .collect(),
        Value::String(..) | Value::Char(..) => {
            let text = scalar(value).unwrap_or_default();
            Ok(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())
        }
        _ => Err("is no list of texts".to_owned()),
    }
}

/// A list whose items are read by `item`; the first wrong item is named.
pub(crate) fn list_of<T>(value: &Value, item: impl Fn(&str) -> Result<T, Wrong>) -> Result<Vec<T>, Wrong> {
    list(value)?.iter().map(|text| item(text).map_err(|wrong| format!("has an item, `{text}`, that {wrong}"))).collect()
}

/// A whole number within bounds.
pub(crate) fn whole(value: &Value, least: u64, most: u64) -> Result<u64, Wrong> {
    let text = scalar(value).ok_or("is no whole number")?;
    let number: u64 = text.trim().parse().map_err(|_| "is no whole number within the bounds")?;
    within(number, least, most, |n| n.to_string())
}

/// A time within bounds: milliseconds, or a number with `ms`, `s`, `m` or `h`.
pub(crate) fn time(value: &Value, least: Duration, most: Duration) -> Result<Duration, Wrong> {
    let (number, unit) = number_and_unit(value, "is no time")?;
    let factor = match unit.as_str() {
        "" | "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("has the unit `{unit}`, which is none of ms, s, m, h")),
    };
    let milliseconds = number.checked_mul(factor).ok_or("is too large")?;
    within(Duration::from_millis(milliseconds), least, most, |time| format!("{} ms", time.as_millis()))
}

/// A size within bounds: bytes, or a number with `B`, `KB`/`MB`/`GB` (1000) or `KiB`/`MiB`/`GiB` (1024; also `Ki`,
/// `Mi`, `Gi` as Kubernetes writes them).
pub(crate) fn size(value: &Value, least: u64, most: u64) -> Result<u64, Wrong> {
    let (number, unit) = number_and_unit(value, "is no size")?;
    let factor: u64 = match unit.as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" | "ki" => 1 << 10,
        "mib" | "mi" => 1 << 20,
        "gib" | "gi" => 1 << 30,
        _ => return Err(format!("has the unit `{unit}`, which is none of B, KB, MB, GB, KiB, MiB, GiB")),
    };
    let bytes = number.checked_mul(factor).ok_or("is too large")?;
    within(bytes, least, most, show_size)
}

/// A size as people read it: the largest binary unit that divides it.
pub(crate) fn show_size(bytes: u64) -> String {
    [("GiB", 30), ("MiB", 20), ("KiB", 10)]
        .into_iter()
        .find(|(_, shift)| bytes != 0 && bytes.trailing_zeros() >= *shift)
        .map_or_else(|| format!("{bytes} B"), |(unit, shift)| format!("{} {unit}", bytes >> shift))
}

/// One of a few words.
pub(crate) fn choice<T: Copy>(value: &Value, choices: &[(&str, T)]) -> Result<T, Wrong> {
    let given = text(value)?;
    choices
        .iter()
        .find(|(word, _)| *word == given)
        .map(|(_, choice)| *choice)
        .ok_or_else(|| "is none of the choices".to_owned())
}

/// A DNS name in lower case, without the dot at its end.
pub(crate) fn dns_name(given: &str) -> Result<String, Wrong> {
    /// RFC 1035: 255 octets on the wire, which is 253 characters of text.
    const NAME_MAX: usize = 253;
    /// RFC 1035: length of one label.
    const LABEL_MAX: usize = 63;
    let name = given.strip_suffix('.').unwrap_or(given);
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(format!("is not 1 to {NAME_MAX} characters long"));
    }
    for label in name.split('.') {
        if label.is_empty() || label.len() > LABEL_MAX {
            return Err(format!("has a part between dots that is not 1 to {LABEL_MAX} characters long"));
        }
        if let Some(bad) = label.chars().find(|c| !c.is_ascii_alphanumeric() && *c != '-') {
            return Err(format!("has the character `{bad}`"));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err("has a part that begins or ends with `-`".to_owned());
        }
    }
    Ok(name.to_ascii_lowercase())
}

fn number_and_unit(value: &Value, wrong: &str) -> Result<(u64, String), Wrong> {
    let text = scalar(value).ok_or(wrong)?;
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let number = digits.parse().map_err(|_| if digits.is_empty() { wrong } else { "is too large" })?;
    Ok((number, unit.trim().to_ascii_lowercase()))
}

fn within<T: PartialOrd + Copy>(value: T, least: T, most: T, show: impl Fn(T) -> String) -> Result<T, Wrong> {
    if value < least {
        Err(format!("is below the least, {}", show(least)))
    } else if value > most {
        Err(format!("is above the most, {}", show(most)))
    } else {
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn sizes_take_binary_and_decimal_units() {
        let size_of = |text: &str| size(&Value::from(text), 0, u64::MAX);
        assert_eq!(size_of("65536"), Ok(65_536));
        assert_eq!(size_of("16MiB"), Ok(16 << 20));
        assert_eq!(size_of("8 MB"), Ok(8_000_000));
        assert_eq!(size_of("4Ki"), Ok(4_096));
        assert_eq!(size(&Value::from(1_024), 0, u64::MAX), Ok(1_024));
        assert!(size_of("8 apples").unwrap_err().contains("apples"));
        assert!(size_of("-1").is_err());
        assert!(size_of("1.5MiB").is_err());
        assert!(size_of("99999999999999999999").unwrap_err().contains("too large"));
        assert!(size_of("18446744073709551615GiB").unwrap_err().contains("too large"));
    }

    #[test]
    fn sizes_are_shown_in_the_largest_unit_that_divides_them() {
        assert_eq!(show_size(16 << 20), "16 MiB");
        assert_eq!(show_size(1_025), "1025 B");
        assert_eq!(show_size(0), "0 B");
    }

    #[test]
    fn times_are_milliseconds_or_carry_a_unit() {
        let time_of = |text: &str| time(&Value::from(text), Duration::ZERO, HOUR);
        assert_eq!(time_of("1500"), Ok(Duration::from_millis(1_500)));
        assert_eq!(time_of("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(time_of("500 ms"), Ok(Duration::from_millis(500)));
        assert_eq!(time_of("1h"), Ok(HOUR));
        assert!(time_of("2h").unwrap_err().contains("most"));
        assert!(time_of("2 fortnights").unwrap_err().contains("fortnights"));
        assert!(time_of("").is_err());
    }

    #[test]
    fn lists_are_toml_lists_or_commas() {
        assert_eq!(list(&Value::from("a, b,,c")).unwrap(), ["a", "b", "c"]);
        assert_eq!(list(&Value::from(vec!["a", "b"])).unwrap(), ["a", "b"]);
        assert!(list(&Value::from("")).unwrap().is_empty());
        assert!(list(&Value::from(vec![1, 2])).unwrap_err().contains("`1`"));
        assert!(list(&Value::from(7)).is_err());
    }

    #[test]
    fn dns_names_are_checked_by_label() {
        assert_eq!(dns_name("Orders-0.Orders.svc.").unwrap(), "orders-0.orders.svc");
        for bad in ["", ".", "a..b", "-a", "a-", "a_b", "a b", &"x".repeat(64), &"a.".repeat(130)] {
            assert!(dns_name(bad).is_err(), "{bad}");
        }
    }
}
