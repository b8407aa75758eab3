//! Many nodes' replicas of the directory in one thread: no clock, no sockets, seeded. Connections come and go (which each
//! end notices when it notices), updates are delayed lane by lane, nodes crash and come back as new incarnations,
//! processes register, hand names over, join, leave and end; and at any moment the contract's rows hold that can be seen then. When all is
//! quiet, all replicas are the same as the truth.
//!
//! A seed that fails is printed with the command that plays it again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test may stop where it fails.

mod checks;
mod handing;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque, btree_map::Entry};

use rookery_protocol::{DirectoryUpdate, Group, Incarnation, NodeId, NodeName, Pid, ProcessName, Serial};

use super::{
    arbiter::arbiter_of,
    groups::GroupTable,
    names::{Contest, NameTable},
};

/// Nodes of one run.
const NODES: usize = 4;
/// Lanes of a connection, each way.
const LANES: u64 = 2;
/// Steps of one run, before all is left to become quiet.
const STEPS: usize = 250;
/// What arrives at most until all is quiet.
const QUIET_WITHIN: usize = 20_000;
/// Runs of the test; `ROOKERY_SEEDS` takes another number, `ROOKERY_SEED` one run.
const SEEDS: u64 = 4_000;

/// What is done wrong on purpose, to see that the simulation finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    /// A new peer is not told what own processes hold.
    NoSnapshot,
    /// The younger holder keeps a name, on one node.
    OneNodeDisagrees,
    /// A lost node's entries stay.
    LossIgnored,
    /// A name is taken without asking.
    NoArbiter,
    /// Who loses a name does not tell the others.
    LoserIsSilent,
    /// Who seems to lose a name asks nobody.
    LosesUnasked,
    /// Who takes a name behind its holder contests it with nobody.
    SucceedsUncontested,
    /// A process's node asks for what the process has.
    AsksTwice,
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }
}

#[derive(Debug, Clone)]
enum Packet {
    Update(Pid, DirectoryUpdate),
    Claim(Pid, ProcessName),
    Answer(Pid, ProcessName, Result<(), Pid>),
    /// Who has the name is asked, and who that is.
    Where(Contest),
    Holder(Contest, Option<Pid>),
    /// The first process hands a name over: some process there takes it, and says so.
    HandOver(Pid, ProcessName),
    Commit(Pid, ProcessName),
}

struct Node {
    id: NodeId,
    names: NameTable,
    groups: GroupTable,
    /// Live processes.
    alive: BTreeSet<Pid>,
    next_serial: u64,
    /// Names that are being asked for, and of whom.
    asking: BTreeMap<(Pid, ProcessName), NodeId>,
    /// What is being handed over. Who hands over does nothing else.
    handing: BTreeSet<(Pid, ProcessName)>,
    /// The connections that this end believes in, by peer: the number of the connection.
    links: HashMap<NodeId, u64>,
    clock: u64,
}

struct World {
    random: Random,
    bug: Bug,
    nodes: Vec<Node>,
    /// What is under way: by connection, receiver and lane, in order.
    wires: BTreeMap<(u64, NodeId, u64), VecDeque<Packet>>,
    next_link: u64,
    next_incarnation: u64,
    /// Whether connections are lost and nodes crash.
    stormy: bool,
    /// No connection was ever lost: then no name has ever two holders (N2), and nobody loses one.
    calm: bool,
    names: Vec<ProcessName>,
    groups: Vec<Group>,
    /// Who takes whose place, and which name.
    handed: VecDeque<(Pid, Pid, ProcessName)>,
    /// What each live process holds or has joined, by its own node: the truth.
    joined: BTreeMap<(Pid, Group), u32>,
}

impl World {
    fn new(seed: u64, bug: Bug) -> Self {
        let mut world = Self {
            random: Random(seed),
            bug,
            nodes: Vec::new(),
            wires: BTreeMap::new(),
            next_link: 0,
            next_incarnation: 0,
            stormy: !seed.is_multiple_of(4),
            calm: true,
            names: ["a", "b", "c"].map(|name| name.parse().unwrap()).to_vec(),
            groups: ["g", "s#g"].map(|group| group.parse().unwrap()).to_vec(),
            handed: VecDeque::new(),
            joined: BTreeMap::new(),
        };
        for number in 0..NODES {
            let node = world.start(number);
            world.nodes.push(node);
        }
        for (one, other) in pairs() {
            world.connect(one, other);
        }
        world
    }

    fn start(&mut self, number: usize) -> Node {
        self.next_incarnation += 1;
        let id = NodeId::new(NodeName::new(format!("n{number}")).unwrap(), Incarnation(self.next_incarnation));
        Node {
            names: NameTable::new(id.clone()),
            groups: GroupTable::new(id.clone()),
            alive: BTreeSet::new(),
            next_serial: 1,
            asking: BTreeMap::new(),
            handing: BTreeSet::new(),
            links: HashMap::new(),
            // Clocks differ by a lot, and that must not matter but for who wins.
            clock: self.random.next() % 1_000,
            id,
        }
    }

    fn connect(&mut self, one: usize, other: usize) {
        let (a, b) = (self.nodes[one].id.clone(), self.nodes[other].id.clone());
        if self.nodes[one].links.contains_key(&b) || self.nodes[other].links.contains_key(&a) {
            return;
        }
        self.next_link += 1;
        for (from, to) in [(one, b), (other, a)] {
            self.nodes[from].links.insert(to.clone(), self.next_link);
            let node = &self.nodes[from];
            let names = node
                .names
                .own()
                .map(|(pid, name, stamp)| (pid.clone(), DirectoryUpdate::Hold { name: name.clone(), stamp }));
            let groups = node
                .groups
                .own()
                .map(|(pid, group, times)| (pid.clone(), DirectoryUpdate::Join { group: group.clone(), times }));
            let snapshot: Vec<_> = names.chain(groups).collect();
            if self.bug != Bug::NoSnapshot {
                for (pid, update) in snapshot {
                    self.push(from, &to, Packet::Update(pid, update));
                }
            }
        }
    }

    /// One end notices that a connection is gone.
    fn notice(&mut self, at: usize, peer: &NodeId) {
        let Some(link) = self.nodes[at].links.remove(peer) else { return };
        self.calm = false;
        let own = self.nodes[at].id.clone();
        for lane in 0..LANES {
            self.wires.remove(&(link, own.clone(), lane));
        }
        if self.bug != Bug::LossIgnored {
            self.nodes[at].names.node_lost(peer);
            self.nodes[at].groups.node_lost(peer);
        }
        // Requests to there fail; whoever asked asks another arbiter, or gives up: here it gives up.
        self.nodes[at].asking.retain(|_, arbiter| arbiter != peer);
        // Whoever was handing over, to there most of all, goes on as before.
        self.nodes[at].handing.clear();
    }

    fn push(&mut self, from: usize, to: &NodeId, packet: Packet) {
        let Some(&link) = self.nodes[from].links.get(to) else { return };
        let lane = match &packet {
            // What is offered is the process's own answer.
            Packet::Update(pid, _) | Packet::Claim(pid, _) | Packet::HandOver(pid, _) => pid.serial().0 % LANES,
            // The node's own, on its own lane.
            Packet::Answer(..) | Packet::Where(_) | Packet::Holder(..) | Packet::Commit(..) => 0,
        };
        self.wires.entry((link, to.clone(), lane)).or_default().push_back(packet);
    }

    fn tell(&mut self, from: usize, pid: &Pid, update: &DirectoryUpdate) {
        for peer in self.nodes[from].links.keys().cloned().collect::<Vec<_>>() {
            self.push(from, &peer, Packet::Update(pid.clone(), update.clone()));
        }
    }

    fn step(&mut self) {
        let at = self.random.below(NODES);
        let what = if self.stormy { 100 } else { 90 };
        match self.random.below(what) {
            0..40 => self.deliver(),
            40..48 => self.spawn(at),
            48..66 => self.ask_for_name(at),
            66..70 => self.release(at),
            70..74 => self.hand_over(at),
            74..78 => self.go_on_with_hand_over(),
            78..82 => self.join_or_leave(at),
            82..90 => self.end_process(at),
            90..93 => self.cut(),
            93..94 => self.crash(at),
            _ => {
                let other = self.random.below(NODES);
                if at != other {
                    self.connect(at, other);
                }
            }
        }
    }

    /// The first packet of some lane arrives, if its receiver still believes in the connection.
    fn deliver(&mut self) {
        let busy: Vec<_> =
            self.wires.iter().filter(|(_, queue)| !queue.is_empty()).map(|(key, _)| key.clone()).collect();
        if busy.is_empty() {
            return;
        }
        let key = busy[self.random.below(busy.len())].clone();
        let packet = self.wires.get_mut(&key).unwrap().pop_front().unwrap();
        let Some(at) = self.nodes.iter().position(|node| node.id == key.1) else { return };
        let Some(from) = self.nodes[at].links.iter().find(|(_, link)| **link == key.0).map(|(peer, _)| peer.clone())
        else {
            return;
        };
        self.receive(at, &from, packet);
    }

    fn receive(&mut self, at: usize, from: &NodeId, packet: Packet) {
        match packet {
            Packet::Update(pid, update) => self.update(at, &pid, update),
            Packet::Claim(pid, name) => {
                let answer = self.nodes[at].names.grant(&name, &pid);
                self.push(at, from, Packet::Answer(pid, name, answer));
            }
            Packet::Where(contest) => {
                let holder = self.nodes[at].names.holder(&contest.name).cloned();
                self.push(at, from, Packet::Holder(contest, holder));
            }
            Packet::HandOver(of, name) => {
                self.spawn(at);
                let new = self.nodes[at].alive.last().unwrap().clone();
                self.succeed(at, &new, of, name);
            }
            Packet::Commit(of, name) => self.commit(at, &of, &name),
            Packet::Holder(contest, holder) if holder.as_ref() == Some(&contest.holder) => self.lose(at, contest),
            Packet::Holder(contest, _) => self.contest(at, contest),
            Packet::Answer(pid, name, answer) => {
                if self.nodes[at].asking.remove(&(pid.clone(), name.clone())).is_some()
                    && answer.is_ok()
                    && !(self.nodes[at].alive.contains(&pid) && self.take(at, &pid, &name))
                {
                    self.push(at, from, Packet::Update(pid, DirectoryUpdate::Release { name }));
                }
            }
        }
    }

    fn update(&mut self, at: usize, pid: &Pid, update: DirectoryUpdate) {
        let node = &mut self.nodes[at];
        match update {
            DirectoryUpdate::Hold { name, stamp } => {
                let stamp = if self.bug == Bug::OneNodeDisagrees && at == 0 {
                    rookery_protocol::Stamp(u64::MAX - stamp.0)
                } else {
                    stamp
                };
                for contest in node.names.hold(&name, pid, stamp) {
                    self.contest(at, contest);
                }
            }
            DirectoryUpdate::Release { name } => drop(node.names.release(&name, pid)),
            DirectoryUpdate::Join { group, times } => drop(node.groups.join(&group, pid, times)),
            DirectoryUpdate::Leave { group, times } => drop(node.groups.leave(&group, pid, times)),
            DirectoryUpdate::Gone => {
                node.names.gone(pid);
                node.groups.gone(pid);
            }
        }
    }

    /// A process of this node seems to lose a name.
    fn contest(&mut self, at: usize, contest: Contest) {
        if self.bug == Bug::LosesUnasked {
            self.lose(at, contest);
        } else if self.nodes[at].names.stands(&contest) {
            let node = contest.holder.node().clone();
            self.push(at, &node, Packet::Where(contest));
        }
    }

    fn lose(&mut self, at: usize, contest: Contest) {
        let node = &mut self.nodes[at];
        if !node.names.stands(&contest) {
            return;
        }
        let Contest { name, loser, holder, .. } = contest;
        assert!(!self.calm, "N2: {loser} loses `{name}` to {holder}, though no connection was ever lost");
        node.names.release(&name, &loser);
        if self.bug != Bug::LoserIsSilent {
            self.tell(at, &loser, &DirectoryUpdate::Release { name });
        }
    }

    /// Takes a name that was granted; false if it is to be given back.
    fn take(&mut self, at: usize, pid: &Pid, name: &ProcessName) -> bool {
        let node = &mut self.nodes[at];
        node.clock += 1;
        match node.names.take(name, pid, node.clock) {
            Ok(Some(stamp)) => self.tell(at, pid, &DirectoryUpdate::Hold { name: name.clone(), stamp }),
            Ok(None) => {}
            Err(_) => {
                node.names.release(name, pid);
                return false;
            }
        }
        true
    }

    fn some_process(&mut self, at: usize) -> Option<Pid> {
        let count = self.nodes[at].alive.len();
        if count == 0 {
            return None;
        }
        let chosen = self.random.below(count);
        self.nodes[at].alive.iter().nth(chosen).cloned()
    }

    fn spawn(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let pid = Pid::new(node.id.clone(), Serial(node.next_serial));
        node.next_serial += 1;
        node.alive.insert(pid);
    }

    fn ask_for_name(&mut self, at: usize) {
        let Some(pid) = self.some_process(at) else { return };
        let name = self.names[self.random.below(self.names.len())].clone();
        let node = &mut self.nodes[at];
        if node.names.has(&name, &pid) && self.bug != Bug::AsksTwice {
            return;
        }
        let members: Vec<NodeId> = node.links.keys().cloned().chain([node.id.clone()]).collect();
        let arbiter = arbiter_of(&name, &members).unwrap().clone();
        if arbiter == node.id || self.bug == Bug::NoArbiter {
            if node.names.grant(&name, &pid).is_ok() {
                self.take(at, &pid, &name);
            }
            return;
        }
        if let Entry::Vacant(asking) = node.asking.entry((pid.clone(), name.clone())) {
            asking.insert(arbiter.clone());
            self.push(at, &arbiter, Packet::Claim(pid, name));
        }
    }

    fn release(&mut self, at: usize) {
        let Some((pid, name)) = self.some_name(at) else { return };
        self.nodes[at].names.release(&name, &pid);
        self.tell(at, &pid, &DirectoryUpdate::Release { name });
    }

    /// One that a process of this node has, neither hands over, nor waits for.
    fn some_name(&mut self, at: usize) -> Option<(Pid, ProcessName)> {
        let node = &self.nodes[at];
        let held: Vec<_> = node.names.own().map(|(pid, name, _)| (pid.clone(), name.clone())).collect();
        let free =
            |held: &(Pid, ProcessName)| !node.handing.contains(held) && node.names.holder(&held.1) == Some(&held.0);
        let held: Vec<_> = held.into_iter().filter(free).collect();
        if held.is_empty() { None } else { Some(held[self.random.below(held.len())].clone()) }
    }

    fn join_or_leave(&mut self, at: usize) {
        let Some(pid) = self.some_process(at) else { return };
        let group = self.groups[self.random.below(self.groups.len())].clone();
        let count = self.joined.entry((pid.clone(), group.clone())).or_default();
        if self.random.below(3) > 0 {
            *count += 1;
            self.nodes[at].groups.join(&group, &pid, 1);
            self.tell(at, &pid, &DirectoryUpdate::Join { group, times: 1 });
        } else if *count > 0 {
            *count -= 1;
            self.nodes[at].groups.leave(&group, &pid, 1);
            self.tell(at, &pid, &DirectoryUpdate::Leave { group, times: 1 });
        }
    }

    fn end_process(&mut self, at: usize) {
        let Some(pid) = self.some_process(at) else { return };
        let node = &mut self.nodes[at];
        // The arbiter may hear of its end before it hears of its successor, and then two have the name until they hear of each other.
        if self.calm && node.handing.iter().any(|(of, _)| *of == pid) {
            return;
        }
        node.alive.remove(&pid);
        node.names.gone(&pid);
        node.groups.gone(&pid);
        self.joined.retain(|(member, _), _| *member != pid);
        self.tell(at, &pid, &DirectoryUpdate::Gone);
    }

    /// One end of a connection gives it up; the other end notices at once, or later.
    fn cut(&mut self) {
        let (one, other) = pairs()[self.random.below(pairs().len())];
        let (a, b) = (self.nodes[one].id.clone(), self.nodes[other].id.clone());
        self.notice(one, &b);
        if self.random.below(2) == 0 {
            self.notice(other, &a);
        }
    }

    fn crash(&mut self, at: usize) {
        let old = self.nodes[at].id.clone();
        self.calm = false;
        self.joined.retain(|(pid, _), _| *pid.node() != old);
        self.nodes[at] = self.start(at);
        self.wires.retain(|(_, to, _), _| *to != old);
        // The others notice when they hear of the new incarnation, at the latest.
        for other in (0..NODES).filter(|other| *other != at) {
            self.notice(other, &old);
        }
    }
}

fn pairs() -> Vec<(usize, usize)> {
    (0..NODES).flat_map(|one| (one + 1..NODES).map(move |other| (one, other))).collect()
}

fn run(seed: u64, bug: Bug) {
    let mut world = World::new(seed, bug);
    for _ in 0..STEPS {
        world.step();
        world.check_now();
    }
    world.check_quiet();
}

/// Whether a run fails.
fn fails(seed: u64, bug: Bug) -> bool {
    std::panic::catch_unwind(|| run(seed, bug)).is_err()
}

#[test]
fn n2_n3_g2_replicas_agree_whatever_happens_to_nodes_and_connections() {
    let number = |variable: &str| std::env::var(variable).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("ROOKERY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ROOKERY_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed, Bug::None)) {
            eprintln!("seed {seed} fails; again: ROOKERY_SEED={seed} cargo test -p rookery-runtime replicas_agree");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn the_simulation_finds_each_bug_that_is_planted() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let bugs = [
        Bug::NoSnapshot,
        Bug::OneNodeDisagrees,
        Bug::LossIgnored,
        Bug::NoArbiter,
        Bug::LoserIsSilent,
        Bug::LosesUnasked,
        Bug::SucceedsUncontested,
        Bug::AsksTwice,
    ];
    let missed: Vec<Bug> = bugs.into_iter().filter(|&bug| !(0..SEEDS).any(|seed| fails(seed, bug))).collect();
    std::panic::set_hook(hook);
    assert_eq!(missed, [], "not found within {SEEDS} seeds");
}
