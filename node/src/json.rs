//! Any JSON value as part of a message. In JSON it stands as it is; in bincode, which cannot tell types apart, as its
//! text. For messages of which people type some part, as what `echo` echoes and what `kv` keeps.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::Value;

/// Any JSON value. `null` by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Json(pub Value);

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: Into<Value>> From<T> for Json {
    fn from(value: T) -> Self {
        Self(value.into())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            self.0.serialize(serializer)
        } else {
            serializer.serialize_str(&serde_json::to_string(&self.0).map_err(ser::Error::custom)?)
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            Value::deserialize(deserializer).map(Self)
        } else {
            let text = String::deserialize(deserializer)?;
            serde_json::from_str(&text).map(Self).map_err(de::Error::custom)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use rookery_runtime::protocol::codec;

    use super::*;

    #[test]
    fn any_value_goes_through_both_codecs() {
        for text in ["null", "7", r#""hi""#, r#"{"a":[1,{"b":null}]}"#] {
            let value: Json = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&value).unwrap(), text);
            let mut bytes = Vec::new();
            codec::append(&value, &mut bytes).unwrap();
            assert_eq!(codec::decode_payload::<Json>(&bytes).unwrap(), value);
        }
    }
}
