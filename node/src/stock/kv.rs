//! `kv`: JSON values by key, in the memory of one process, in the order of the keys. What goes over a limit is refused
//! with the limit's value, and changes nothing.

use std::collections::BTreeMap;

use rookery_runtime::{Context, ExitReason, Handover, ReplyTo, Server};
use serde::{Deserialize, Serialize};

use crate::{
    ask::Ask,
    json::Json,
    stock::limits::{MAX_ENTRIES, MAX_KEY_BYTES, MAX_STORE_BYTES, MAX_VALUE_BYTES},
};

/// What `kv` understands. In JSON: `{"Put":{"key":"a","value":1}}`, `{"Get":"a"}`, `{"Delete":"a"}`, `{"Keys":null}`.
#[derive(Debug, Serialize, Deserialize)]
pub enum Kv {
    /// Sets a key's value; the former one is replaced. Answered with unit when it is kept.
    Put(Ask<Entry, ()>),
    /// A key's value; `None`, in JSON `null`, if there is none.
    Get(Ask<String, Option<Json>>),
    /// Removes a key; the answer is whether there was one.
    Delete(Ask<String, bool>),
    /// All keys, in order.
    Keys(ReplyTo<Vec<String>>),
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The key, at most [`MAX_KEY_BYTES`].
    pub key: String,
    /// Its value, at most [`MAX_VALUE_BYTES`] as JSON text.
    pub value: Json,
}

/// The process.
#[derive(Debug, Default)]
pub struct KvServer {
    /// Values as compact JSON text, which takes less room than the value and has a size.
    entries: BTreeMap<String, Box<str>>,
    /// Of all keys and values.
    bytes: usize,
}

impl KvServer {
    fn put(&mut self, Entry { key, value }: Entry) -> Result<(), String> {
        let text = value.to_string();
        if key.len() > MAX_KEY_BYTES {
            return Err(format!("the key has {} bytes, more than {MAX_KEY_BYTES}", key.len()));
        }
        if text.len() > MAX_VALUE_BYTES {
            return Err(format!("the value has {} bytes, more than {MAX_VALUE_BYTES}", text.len()));
        }
        let former = self.entries.get(&key).map(|former| key.len() + former.len());
        if former.is_none() && self.entries.len() >= MAX_ENTRIES {
            return Err(format!("the store has its limit of {MAX_ENTRIES} entries; delete some"));
        }
        let bytes = self.bytes - former.unwrap_or(0) + key.len() + text.len();
        if bytes > MAX_STORE_BYTES {
            return Err(format!("the store would hold {bytes} bytes, more than {MAX_STORE_BYTES}; delete some"));
        }
        self.bytes = bytes;
        self.entries.insert(key, text.into());
        Ok(())
    }

    fn get(&self, key: &str) -> Option<Json> {
        // It is text that a value was made into, so it is one.
        self.entries.get(key).and_then(|text| serde_json::from_str(text).ok())
    }

    fn delete(&mut self, key: &str) -> bool {
        let former = self.entries.remove(key);
        self.bytes -= former.as_ref().map_or(0, |value| key.len() + value.len());
        former.is_some()
    }
}

impl Server for KvServer {
    type Message = Kv;
    type Arguments = ();

    async fn init((): (), _: &mut Context<Kv>) -> Result<Self, ExitReason> {
        Ok(Self::default())
    }

    /// All keys and values.
    async fn hand_over(&mut self, context: &mut Context<Kv>) -> Option<Handover> {
        let state = Handover::new(1, &self.entries);
        state.inspect_err(|error| tracing::error!(kv = %context.pid(), error, "the store cannot be handed over")).ok()
    }

    async fn take_over(state: Handover, (): (), _: &mut Context<Kv>) -> Result<Self, ExitReason> {
        let entries: BTreeMap<String, Box<str>> = state.read().map_err(ExitReason::Error)?;
        let bytes = entries.iter().map(|(key, value)| key.len() + value.len()).sum();
        Ok(Self { entries, bytes })
    }

    async fn handle(&mut self, message: Kv, _: &mut Context<Kv>) -> Result<(), ExitReason> {
        match message {
            Kv::Put(ask) => match self.put(ask.value) {
                Ok(()) => ask.reply.answer(()),
                Err(why) => ask.reply.refuse(why),
            },
            Kv::Get(ask) => ask.reply.answer(self.get(&ask.value)),
            Kv::Delete(ask) => ask.reply.answer(self.delete(&ask.value)),
            Kv::Keys(reply) => reply.answer(self.entries.keys().cloned().collect()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use super::*;

    fn entry(key: impl Into<String>, value: impl Into<String>) -> Entry {
        Entry { key: key.into(), value: Json::from(value.into()) }
    }

    #[test]
    fn limits_refuse_and_change_nothing() {
        let mut store = KvServer::default();
        store.put(entry("a", "1")).unwrap();
        let key = store.put(entry("k".repeat(MAX_KEY_BYTES + 1), "1")).unwrap_err();
        assert!(key.contains("1024"), "{key}");
        let value = store.put(entry("a", "v".repeat(MAX_VALUE_BYTES))).unwrap_err();
        assert!(value.contains("1048576"), "{value}");
        assert_eq!(store.get("a"), Some(Json::from("1")));
    }

    #[test]
    fn the_sum_is_bounded_and_comes_back() {
        let mut store = KvServer::default();
        let large = "v".repeat(MAX_VALUE_BYTES - 2);
        let full = (0..).find(|n| store.put(entry(n.to_string(), large.clone())).is_err()).unwrap();
        assert_eq!(full, MAX_STORE_BYTES / MAX_VALUE_BYTES - 1);
        store.put(entry("0", "replaced")).unwrap();
        store.put(entry(full.to_string(), large)).unwrap();
        let keys: Vec<String> = store.entries.keys().cloned().collect();
        assert!(keys.iter().all(|key| store.delete(key)));
        assert_eq!((store.bytes, store.delete("0")), (0, false));
    }
}
