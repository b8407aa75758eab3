//! The pid table: from a serial to a process. A serial is a slot and a generation, so a lookup is an index and a
//! comparison, and a serial is never given twice: a slot whose generations are used up is retired (P1).

use std::sync::{
    Arc, RwLock,
    atomic::{AtomicUsize, Ordering},
};

use rookery_protocol::{Serial, SessionId};

use crate::{
    process::AnyProcess,
    sync::{read, write},
};

/// Shards, so that threads that spawn and look up seldom wait for each other.
const SHARDS: usize = 64;

/// Where a walk through a table goes on.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cursor {
    shard: usize,
    index: usize,
}

/// How a table lays out its serials.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    session: Option<SessionId>,
    slot_bits: u32,
    generation_bits: u32,
}

impl Layout {
    /// A node's table: 2^32 slots of 2^31 generations.
    pub(crate) const NODE: Self = Self { session: None, slot_bits: 32, generation_bits: 31 };

    /// A client session's: 2^20 slots of 2^12 generations.
    pub(crate) fn session(session: SessionId) -> Self {
        Self { session: Some(session), slot_bits: 20, generation_bits: 12 }
    }

    fn serial(self, slot: u64, generation: u32) -> Serial {
        let number = (u64::from(generation) << self.slot_bits) | slot;
        match self.session {
            // A session's numbers have 32 bits by its layout.
            #[allow(clippy::cast_possible_truncation)]
            Some(session) => Serial::of_client(session, number as u32),
            None => Serial(number),
        }
    }

    fn slot(self, serial: Serial) -> Option<(u64, u32)> {
        if serial.session() != self.session {
            return None;
        }
        let bits = self.slot_bits + self.generation_bits;
        let number = serial.0 & ((1 << bits) - 1);
        // A generation has at most 31 bits.
        #[allow(clippy::cast_possible_truncation)]
        Some((number & ((1 << self.slot_bits) - 1), (number >> self.slot_bits) as u32))
    }
}

pub(crate) struct Table {
    layout: Layout,
    shards: Vec<Shard>,
    /// Where the next process goes; round robin keeps the shards even.
    next: AtomicUsize,
    /// How many processes live.
    count: AtomicUsize,
    /// How many may.
    limit: usize,
}

#[derive(Default)]
struct Shard {
    slots: RwLock<Slots>,
    /// Processes that have left their slots, and have not told everybody yet.
    telling: AtomicUsize,
}

#[derive(Default)]
struct Slots {
    slots: Vec<Slot>,
    /// Slots that are free; the one freed last is used first, since it is warm.
    free: Vec<usize>,
}

struct Slot {
    generation: u32,
    process: Option<Arc<dyn AnyProcess>>,
}

/// A process that has left its table, until it has told everybody who must know.
pub(crate) struct Telling<'a>(&'a Shard);

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        self.0.telling.fetch_sub(1, Ordering::Release);
    }
}

impl Table {
    pub(crate) fn new(layout: Layout, limit: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Shard::default()).collect();
        let limit = limit.min((1 << layout.slot_bits) - SHARDS);
        Self { layout, shards, next: AtomicUsize::new(0), count: AtomicUsize::new(0), limit }
    }

    /// Makes a process with a fresh serial, and enters it; `None` if the table is full.
    pub(crate) fn insert<P: AnyProcess + 'static>(&self, make: impl FnOnce(Serial) -> Arc<P>) -> Option<Arc<P>> {
        if self.count.fetch_add(1, Ordering::Relaxed) >= self.limit {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed).wrapping_add(1) % SHARDS;
        let mut shard = write(&self.shards[number].slots);
        let Slots { slots, free } = &mut *shard;
        let index = free.pop().unwrap_or_else(|| {
            if number == 0 && slots.is_empty() {
                // Slot 0 is the node, or the client, itself.
                slots.push(Slot { generation: 0, process: None });
            }
            slots.push(Slot { generation: 0, process: None });
            slots.len() - 1
        });
        let slot = &mut slots[index];
        let serial = self.layout.serial((index * SHARDS + number) as u64, slot.generation);
        let process = make(serial);
        slot.process = Some(process.clone());
        Some(process)
    }

    pub(crate) fn get(&self, serial: Serial) -> Option<Arc<dyn AnyProcess>> {
        let (number, index, generation) = self.place(serial)?;
        let shard = read(&self.shards[number].slots);
        shard.slots.get(index).filter(|slot| slot.generation == generation)?.process.clone()
    }

    /// Takes a process out. Until what this gives is dropped, it counts as one that has to tell of its end.
    pub(crate) fn remove(&self, serial: Serial) -> Option<Telling<'_>> {
        let (number, index, generation) = self.place(serial)?;
        let mut shard = write(&self.shards[number].slots);
        let Slots { slots, free } = &mut *shard;
        let slot = slots.get_mut(index).filter(|slot| slot.generation == generation)?;
        let removed = slot.process.take();
        let worn_out = slot.generation >= ((1_u64 << self.layout.generation_bits) - 1) as u32;
        if removed.is_some() {
            self.shards[number].telling.fetch_add(1, Ordering::Relaxed);
            // Whoever finds nobody finds that this one is telling.
            self.count.fetch_sub(1, Ordering::Release);
            if !worn_out {
                slot.generation += 1;
                free.push(index);
            }
        }
        drop(shard);
        removed.map(|_| Telling(&self.shards[number]))
    }

    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// How many have left their slots, and have not told everybody yet. Looked at after [`len`](Self::len): whoever has found nobody
    /// there finds them here.
    pub(crate) fn telling(&self) -> usize {
        self.shards.iter().map(|shard| shard.telling.load(Ordering::Acquire)).sum()
    }

    /// Every process that lives now, in no order. For people and for shutting down, not for the hot path.
    pub(crate) fn all(&self) -> Vec<Arc<dyn AnyProcess>> {
        self.shards
            .iter()
            .flat_map(|shard| {
                read(&shard.slots).slots.iter().filter_map(|slot| slot.process.clone()).collect::<Vec<_>>()
            })
            .collect()
    }

    /// Adds the processes of the next `slots` slots from `cursor` on to `page`; gives where to go on, `None` at the end.
    pub(crate) fn page(&self, cursor: Cursor, slots: usize, page: &mut Vec<Arc<dyn AnyProcess>>) -> Option<Cursor> {
        let shard = &read(&self.shards.get(cursor.shard)?.slots).slots;
        let end = cursor.index.saturating_add(slots).min(shard.len());
        let some = shard.get(cursor.index..end).unwrap_or_default();
        page.extend(some.iter().filter_map(|slot| slot.process.clone()));
        match end < shard.len() {
            true => Some(Cursor { index: end, ..cursor }),
            false => (cursor.shard + 1 < self.shards.len()).then_some(Cursor { shard: cursor.shard + 1, index: 0 }),
        }
    }

    fn place(&self, serial: Serial) -> Option<(usize, usize, u32)> {
        let (slot, generation) = self.layout.slot(serial)?;
        let slot = usize::try_from(slot).ok()?;
        Some((slot % SHARDS, slot / SHARDS, generation))
    }
}
