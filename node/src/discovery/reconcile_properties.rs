//! What the dialling book promises, checked against all sorts of histories.
//!
//! A plain model beside the book tracks who is connected, being dialled or this node itself; proptest
//! makes the histories. Small sets of addresses make collisions likely, large ones test the bounds.

// Tests say what they expect by failing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::dial::{DialStatus, NodeKey, Refusal};
use super::jitter::Jitter;
use super::limits;
use super::reconcile::DialBook;
use super::sources::Source;

fn addr(index: usize) -> SocketAddr {
    let [high, low] = u16::try_from(index).unwrap().to_be_bytes();
    SocketAddr::from(([10, 0, high, low], 4370))
}

fn source(index: usize) -> Source {
    Source::Peer(format!("source-{index}").into())
}

fn peer(index: usize) -> NodeKey {
    NodeKey::new(format!("node-{index}"))
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn book_with(addrs: &[usize]) -> DialBook {
    let mut book = DialBook::new(Jitter::new(1));
    book.addresses(source(0), &addrs.iter().copied().map(addr).collect(), secs(0));
    book
}

/// One step of a history. Indexes are taken modulo what there is.
#[derive(Debug, Clone)]
enum Step {
    Addresses(usize, BTreeSet<usize>),
    Learned(usize),
    Newcomer(usize),
    Started(usize),
    Pass(u64),
    Failed(usize),
    Connected(usize, usize),
    Already(usize, usize),
    Itself(usize),
    Refused(usize, u8),
    Disconnected(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3_usize, prop::collection::btree_set(0..60_usize, 0..50)).prop_map(|(s, a)| Step::Addresses(s, a)),
        2 => (0..60_usize).prop_map(Step::Learned),
        2 => (0..60_usize).prop_map(Step::Newcomer),
        1 => (0..60_usize).prop_map(Step::Started),
        6 => (0..10_000_u64).prop_map(Step::Pass),
        6 => any::<usize>().prop_map(Step::Failed),
        5 => (any::<usize>(), 0..6_usize).prop_map(|(a, p)| Step::Connected(a, p)),
        2 => (0..60_usize, 0..6_usize).prop_map(|(a, p)| Step::Already(a, p)),
        1 => any::<usize>().prop_map(Step::Itself),
        2 => (any::<usize>(), any::<u8>()).prop_map(|(a, r)| Step::Refused(a, r)),
        2 => (0..6_usize).prop_map(Step::Disconnected),
    ]
}

/// The model: what a bystander knows.
struct Model {
    book: DialBook,
    now: Duration,
    dialling: BTreeSet<SocketAddr>,
    connected: BTreeMap<SocketAddr, NodeKey>,
    itself: BTreeSet<SocketAddr>,
    named: BTreeMap<Source, BTreeSet<SocketAddr>>,
}

impl Model {
    fn new(seed: u64) -> Self {
        Self {
            book: DialBook::new(Jitter::new(seed)),
            now: Duration::ZERO,
            dialling: BTreeSet::new(),
            connected: BTreeMap::new(),
            itself: BTreeSet::new(),
            named: BTreeMap::new(),
        }
    }

    fn pick(&self, index: usize) -> Option<SocketAddr> {
        self.dialling.iter().nth(index % self.dialling.len().max(1)).copied()
    }

    fn settle(&mut self, addr: SocketAddr) {
        self.dialling.remove(&addr);
        self.connected.remove(&addr);
        self.itself.remove(&addr);
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Addresses(index, set) => {
                let set: BTreeSet<SocketAddr> = set.into_iter().map(addr).collect();
                self.book.addresses(source(index), &set, self.now);
                if set.is_empty() {
                    return;
                }
                let old = self.named.insert(source(index), set.clone()).unwrap_or_default();
                if old != set {
                    self.itself.retain(|addr| !old.contains(addr));
                }
            }
            Step::Learned(index) => self.book.learned(addr(index), self.now),
            Step::Newcomer(index) => self.book.newcomer(addr(index), self.now),
            Step::Started(index) => {
                let addr = addr(index);
                self.book.dial_started(addr);
                if !self.connected.contains_key(&addr) && !self.itself.contains(&addr) {
                    self.dialling.insert(addr);
                }
            }
            Step::Pass(by) => {
                self.now += millis(by);
                self.poll();
            }
            Step::Failed(index) => {
                if let Some(addr) = self.pick(index) {
                    self.book.dial_failed(addr, "nobody there", self.now);
                    self.dialling.remove(&addr);
                }
            }
            Step::Connected(index, at) => {
                if let Some(addr) = self.pick(index) {
                    self.book.connected(addr, peer(at));
                    self.settle(addr);
                    self.connected.insert(addr, peer(at));
                }
            }
            Step::Already(index, at) => {
                self.book.already_connected(addr(index), peer(at));
                self.settle(addr(index));
                self.connected.insert(addr(index), peer(at));
            }
            Step::Itself(index) => {
                if let Some(addr) = self.pick(index) {
                    self.book.is_self(addr);
                    self.settle(addr);
                    self.itself.insert(addr);
                }
            }
            Step::Refused(index, kind) => {
                if let Some(addr) = self.pick(index) {
                    let kinds = [Refusal::Stranger, Refusal::Incompatible, Refusal::Busy];
                    self.book.refused(addr, kinds[usize::from(kind) % 3], self.now);
                    self.dialling.remove(&addr);
                }
            }
            Step::Disconnected(at) => {
                self.book.disconnected(&peer(at), self.now);
                self.connected.retain(|_, there| *there != peer(at));
            }
        }
    }

    fn poll(&mut self) -> Vec<SocketAddr> {
        let before = self.dialling.len();
        let dials = self.book.poll_dials(self.now);
        assert!(before + dials.len() <= limits::PARALLEL_DIALS.max(before), "too many at a time");
        for addr in &dials {
            assert!(!self.connected.contains_key(addr), "{addr} is connected");
            assert!(!self.itself.contains(addr), "{addr} is this node");
            assert!(self.dialling.insert(*addr), "{addr} is being dialled");
        }
        dials
    }

    /// What has to be dialled again: named by a source, no peer there, not this node.
    fn wanted(&self) -> BTreeSet<SocketAddr> {
        let named: BTreeSet<SocketAddr> = self.named.values().flatten().copied().collect();
        let settled =
            |addr: &SocketAddr| matches!(self.book.status(*addr), Some(DialStatus::Connected(_) | DialStatus::Itself));
        named.into_iter().filter(|addr| !settled(addr)).collect()
    }
}

proptest! {
    #[test]
    fn never_dials_what_is_connected_itself_or_being_dialled(
        seed: u64,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut model = Model::new(seed);
        for step in steps {
            model.apply(step);
            model.poll();
            // The bystander's knowledge and the book's are the same.
            for (addr, peer) in &model.connected {
                prop_assert_eq!(model.book.status(*addr), Some(DialStatus::Connected(peer.clone())));
            }
            for addr in &model.dialling {
                prop_assert_eq!(model.book.status(*addr), Some(DialStatus::Dialling));
            }
        }
    }

    #[test]
    fn every_named_unconnected_address_is_dialled_again_within_the_bound(
        seed: u64,
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut model = Model::new(seed);
        for step in steps {
            model.apply(step);
        }
        for addr in std::mem::take(&mut model.dialling) {
            model.book.dial_failed(addr, "nobody there", model.now);
        }
        // The longest wait is a stranger's; the dials here fail at once, so the queue costs no time.
        let bound = model.now + limits::STRANGER_RETRY.mul_f64(1.0 + limits::REFUSAL_JITTER) + millis(1);
        let mut wanted = model.wanted();
        while !wanted.is_empty() {
            let due = model.book.next_due();
            prop_assert!(due.is_some_and(|due| due <= bound), "{wanted:?} not dialled by {bound:?}: {due:?}");
            model.now = due.unwrap().max(model.now);
            for addr in model.poll() {
                wanted.remove(&addr);
                model.dialling.remove(&addr);
                model.book.dial_failed(addr, "nobody there", model.now);
            }
        }
    }

    #[test]
    fn an_empty_answer_removes_nothing(seed: u64, steps in prop::collection::vec(step(), 1..60)) {
        let mut model = Model::new(seed);
        for step in steps {
            model.apply(step);
        }
        let before: Vec<_> = model.book.statuses().collect();
        for index in 0..4 {
            model.book.addresses(source(index), &BTreeSet::new(), model.now);
        }
        prop_assert_eq!(model.book.statuses().collect::<Vec<_>>(), before);
    }

    #[test]
    fn backoff_grows_within_its_bounds(seed: u64, failures in 1..40_usize) {
        let mut book = DialBook::new(Jitter::new(seed));
        book.addresses(source(0), &[addr(1)].into(), secs(0));
        let mut now = secs(0);
        let mut nominal = limits::BACKOFF_MIN;
        for _ in 0..failures {
            prop_assert_eq!(book.poll_dials(now), vec![addr(1)]);
            book.dial_failed(addr(1), "nobody there", now);
            nominal = (nominal * 2).min(limits::BACKOFF_MAX);
            let wait = book.next_due().unwrap() - now;
            prop_assert!(wait >= nominal / 2 && wait <= nominal, "{wait:?} for {nominal:?}");
            prop_assert!(wait >= limits::BACKOFF_MIN && wait <= limits::BACKOFF_MAX);
            now = book.next_due().unwrap();
        }
    }

    #[test]
    fn refusals_wait_their_time_and_their_jitter(seed: u64, kind in 0..3_usize) {
        let (refusal, nominal) = [
            (Refusal::Stranger, limits::STRANGER_RETRY),
            (Refusal::Incompatible, limits::INCOMPATIBLE_RETRY),
            (Refusal::Busy, limits::BUSY_RETRY),
        ][kind];
        let mut book = DialBook::new(Jitter::new(seed));
        book.addresses(source(0), &[addr(1)].into(), secs(0));
        book.poll_dials(secs(0));
        book.refused(addr(1), refusal, secs(0));
        let wait = book.next_due().unwrap();
        prop_assert!(wait >= nominal.mul_f64(0.899) && wait <= nominal.mul_f64(1.101), "{wait:?}");
    }

}

proptest! {
    // Thousands of addresses each: a few histories cost as much as all of the others.
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn the_book_is_bounded_and_named_addresses_go_before_hearsay(
        seed: u64,
        hearsay in 0..6_000_usize,
        named in 1..3_000_usize,
    ) {
        let mut book = DialBook::new(Jitter::new(seed));
        for index in 0..hearsay {
            book.learned(addr(10_000 + index), secs(0));
        }
        for index in 0..3 {
            let from = index * named;
            book.addresses(source(index), &(from..from + named).map(addr).collect(), secs(0));
        }
        prop_assert!(book.len() <= limits::BOOK_ADDRESSES);
        let held = (0..named * 3).filter(|index| book.status(addr(*index)).is_some()).count();
        prop_assert_eq!(held, (named * 3).min(limits::BOOK_ADDRESSES));
        if hearsay + named * 3 > limits::BOOK_ADDRESSES * 2 {
            prop_assert!(book.turned_away() > 0);
        }
    }
}

#[test]
fn a_new_address_is_due_at_once_and_at_most_32_are_dialled_at_a_time() {
    let mut book = book_with(&(0..100).collect::<Vec<_>>());
    let first = book.poll_dials(secs(0));
    assert_eq!(first.len(), limits::PARALLEL_DIALS);
    assert_eq!((book.poll_dials(secs(9)), book.next_due()), (vec![], None));
    book.connected(first[0], peer(1));
    assert_eq!(book.next_due(), Some(secs(0)));
    assert_eq!(book.poll_dials(secs(0)).len(), 1);
}

#[test]
fn an_address_that_leaves_dns_stays_while_a_peer_is_connected_there() {
    let mut book = book_with(&[1, 2, 3]);
    book.poll_dials(secs(0));
    book.connected(addr(1), peer(1));
    book.dial_failed(addr(2), "nobody there", secs(0));
    book.addresses(source(0), &[addr(9)].into(), secs(1));
    assert_eq!(book.status(addr(1)), Some(DialStatus::Connected(peer(1))));
    assert_eq!(book.status(addr(2)), None, "nobody was there");
    assert_eq!(book.status(addr(3)), Some(DialStatus::Dialling));
    book.dial_failed(addr(3), "nobody there", secs(1));
    assert_eq!(book.status(addr(3)), None);
    // Once its peer is gone, it is tried a few times more and then forgotten.
    book.disconnected(&peer(1), secs(2));
    let mut tries = 0;
    let mut now = secs(2);
    while book.status(addr(1)).is_some() {
        now = book.next_due().unwrap().max(now);
        for dialled in book.poll_dials(now) {
            tries += u32::from(dialled == addr(1));
            book.dial_failed(dialled, "nobody there", now);
        }
    }
    assert_eq!(tries, limits::LEARNED_FAILURES);
}

#[test]
fn what_two_sources_name_is_kept_until_both_drop_it() {
    let mut book = book_with(&[1, 2]);
    book.addresses(source(1), &[addr(1)].into(), secs(0));
    book.addresses(source(0), &[addr(2)].into(), secs(1));
    assert!(book.status(addr(1)).is_some());
    book.addresses(source(1), &[addr(2)].into(), secs(1));
    assert!(book.status(addr(1)).is_none());
}

#[test]
fn own_address_is_left_alone_until_its_set_changes() {
    let mut book = book_with(&[1, 2]);
    book.addresses(source(1), &[addr(3)].into(), secs(0));
    book.poll_dials(secs(0));
    for index in 2..4 {
        book.connected(addr(index), peer(index));
    }
    book.is_self(addr(1));
    book.addresses(source(0), &[addr(1), addr(2)].into(), secs(9));
    book.addresses(source(1), &[addr(4)].into(), secs(9));
    book.poll_dials(secs(9));
    assert_eq!(book.status(addr(1)), Some(DialStatus::Itself), "its own set is the same");
    book.addresses(source(0), &[addr(1), addr(2), addr(5)].into(), secs(10));
    assert!(book.poll_dials(secs(10) + limits::RECONNECT_SPREAD).contains(&addr(1)));
}

#[test]
fn losing_a_peer_makes_all_its_addresses_due_soon() {
    let mut book = book_with(&[1, 2, 3]);
    book.poll_dials(secs(0));
    book.connected(addr(1), peer(1));
    book.already_connected(addr(2), peer(1));
    book.connected(addr(3), peer(3));
    assert_eq!(book.next_due(), None);
    book.disconnected(&peer(1), secs(5));
    let dials: BTreeSet<_> = book.poll_dials(secs(5) + limits::RECONNECT_SPREAD).into_iter().collect();
    assert_eq!(dials, [addr(1), addr(2)].into());
}

#[test]
fn one_node_in_two_notations_is_dialled_once_and_nowhere_is_never_dialled() {
    let mut book = DialBook::new(Jitter::new(1));
    let set = [
        "10.0.0.1:4370",
        "[::ffff:10.0.0.1]:4370",
        "0.0.0.0:4370",
        "[::]:4370",
        "10.0.0.2:0",
        "224.0.0.1:4370",
        "255.255.255.255:4370",
        "[ff02::1]:4370",
    ];
    book.addresses(source(0), &set.map(|text| text.parse().unwrap()).into(), secs(0));
    book.learned("0.0.0.0:1".parse().unwrap(), secs(0));
    assert_eq!(book.poll_dials(secs(0)), ["10.0.0.1:4370".parse().unwrap()]);
    assert_eq!(book.len(), 1);
}

#[test]
fn a_newcomer_is_waited_for_and_then_dialled() {
    let mut book = book_with(&[1]);
    book.poll_dials(secs(0));
    book.newcomer(addr(2), secs(0));
    book.newcomer(addr(3), secs(0));
    book.newcomer(addr(4), secs(0));
    assert_eq!(book.poll_dials(limits::NEWCOMER_PATIENCE - Duration::from_millis(1)), []);
    // One has dialled, of another this node is told as of who is there already, the third does not come.
    book.already_connected(addr(2), peer(2));
    book.learned(addr(3), limits::NEWCOMER_PATIENCE / 2);
    assert_eq!(book.poll_dials(limits::NEWCOMER_PATIENCE / 2), [addr(3)]);
    assert_eq!(book.poll_dials(2 * limits::NEWCOMER_PATIENCE), [addr(4)]);
    // It is told of again while it is known not to answer.
    book.dial_failed(addr(4), "nobody", secs(1));
    book.learned(addr(4), secs(1));
    assert_eq!(book.poll_dials(secs(1)), []);
    // A source names it as well.
    book.newcomer(addr(5), secs(2));
    book.addresses(source(0), &[addr(1), addr(5)].into(), secs(2));
    assert!(book.poll_dials(secs(2)).contains(&addr(5)));
    // What was lost is dialled in its own time, whatever is told of it.
    book.connected(addr(1), peer(1));
    book.disconnected(&peer(1), secs(3));
    let due = book.next_due();
    book.learned(addr(1), secs(3));
    assert_eq!(book.next_due(), due);
}

#[test]
fn a_late_failure_does_not_undo_a_connection() {
    let mut book = book_with(&[1]);
    book.poll_dials(secs(0));
    book.connected(addr(1), peer(1));
    book.dial_failed(addr(1), "late", secs(1));
    book.refused(addr(1), Refusal::Busy, secs(1));
    assert_eq!(book.status(addr(1)), Some(DialStatus::Connected(peer(1))));
}

#[test]
fn who_is_being_dialled_when_dials_are_to_be_retried_is_dialled_again_soon() {
    let mut book = book_with(&[1, 2]);
    assert_eq!(book.poll_dials(secs(0)).len(), 2);
    book.refused(addr(2), Refusal::Stranger, secs(0));
    book.retry(secs(1));
    book.refused(addr(1), Refusal::Stranger, secs(1));
    assert!(book.next_due() <= Some(secs(1) + limits::RECONNECT_SPREAD));
    assert_eq!(book.poll_dials(secs(2)).len(), 2);
    // Once.
    book.refused(addr(1), Refusal::Stranger, secs(2));
    book.refused(addr(2), Refusal::Stranger, secs(2));
    assert_eq!(book.poll_dials(secs(10)), []);
}

#[test]
fn a_long_reason_is_cut_between_characters() {
    let mut book = book_with(&[1]);
    book.poll_dials(secs(0));
    book.dial_failed(addr(1), &"é".repeat(1_000), secs(0));
    let Some(DialStatus::Waiting { trouble: Some(trouble), .. }) = book.status(addr(1)) else {
        panic!("not waiting: {:?}", book.status(addr(1)));
    };
    assert!(trouble.len() <= limits::REASON_BYTES && trouble.starts_with('é'));
}
