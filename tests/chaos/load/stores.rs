//! Writers: each writes growing numbers under its own key to the store of each node, and reads what it and others have written.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rookery_node::{
    Address, Context, NodeId, Pid, ProcessName, Runtime, SpawnError, ask::Ask, json::Json, stock::Entry, stock::Kv,
};
use tokio::time::sleep;

use crate::{
    history::What,
    load::{CALL_LIMIT, Life, Phase, Shared, address, outcome_of, pairs::runtime_pid},
    recorder::unanswered,
};

/// How often one writes.
const EVERY: Duration = Duration::from_millis(300);

/// Keys that are remembered for reading.
const REMEMBERED: usize = 100;

/// Starts one.
pub(super) fn writer(shared: &Arc<Shared>, runtime: &Runtime, _: usize) -> Result<Pid, SpawnError> {
    let shared = shared.clone();
    let address = runtime.spawn(async move |context: Context<()>| {
        let life = Life::new(&shared, context.pid());
        let key = life.pid.to_string();
        let mut writer = Writer { by: key, stores: BTreeMap::new(), number: 0 };
        let mut chance = shared.chance();
        loop {
            sleep(EVERY).await;
            if shared.phase() == Phase::Finish {
                continue;
            }
            let nodes = shared.nodes();
            let Some(node) = chance.one_of(&nodes) else { continue };
            let Some(store) = writer.store(context.runtime(), node).await else { continue };
            writer.put(&shared, context.runtime(), &store).await;
            let keys = shared.known().keys.clone();
            if let Some((store, key)) = chance.one_of(&keys) {
                writer.get(&shared, context.runtime(), store, key).await;
            }
        }
    });
    address.map(|address| runtime_pid(runtime, &address))
}

struct Writer {
    by: String,
    /// The store of each node, by its incarnation.
    stores: BTreeMap<NodeId, Pid>,
    number: u64,
}

impl Writer {
    async fn store(&mut self, runtime: &Runtime, node: &NodeId) -> Option<Pid> {
        if let Some(store) = self.stores.get(node) {
            return Some(store.clone());
        }
        let store = runtime.whereis_on(node, &ProcessName::new("kv").ok()?).await.ok()??;
        self.stores.insert(node.clone(), store.clone());
        Some(store)
    }

    async fn put(&mut self, shared: &Shared, runtime: &Runtime, store: &Pid) {
        self.number += 1;
        let (key, value) = (self.by.clone(), self.number);
        let what =
            What::Put { by: self.by.clone(), store: store.to_string(), key: key.clone(), value, outcome: unanswered() };
        let pending = shared.recorder.begin(what);
        let entry = Entry { key: key.clone(), value: Json::from(value) };
        let there: Address<Kv> = address(runtime, store);
        let put = there.call_within(CALL_LIMIT, |reply| Kv::Put(Ask::new(entry, reply))).await;
        pending.end(outcome_of(&put));
        let mut known = shared.known();
        let place = (store.clone(), key);
        if !known.keys.contains(&place) {
            let extra = (known.keys.len() + 1).saturating_sub(REMEMBERED);
            known.keys.drain(..extra);
            known.keys.push(place);
        }
    }

    async fn get(&self, shared: &Shared, runtime: &Runtime, store: &Pid, key: &str) {
        let what = What::Get {
            by: self.by.clone(),
            store: store.to_string(),
            key: key.to_owned(),
            value: None,
            outcome: unanswered(),
        };
        let pending = shared.recorder.begin(what);
        let there: Address<Kv> = address(runtime, store);
        let wanted = key.to_owned();
        let got = there.call_within(CALL_LIMIT, |reply| Kv::Get(Ask::new(wanted, reply))).await;
        let read = got.as_ref().ok().and_then(|value| value.as_ref()?.0.as_u64());
        pending.end_with(outcome_of(&got), |what| {
            if let What::Get { value, .. } = what {
                *value = read;
            }
        });
    }
}
