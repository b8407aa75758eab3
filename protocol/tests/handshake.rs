//! Two ends of a handshake, with everything that can differ between them: both come to the same verdict, and it is the
//! one that a plain list of conditions gives.
#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub)] // A test may stop where it fails; modules of a test.

#[allow(dead_code)] // Other tests use the rest.
#[path = "properties/strategies.rs"]
mod strategies;

use std::time::Duration;

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*, sample::select};
use rookery_protocol::{
    ControlFrame, FrameDecoder, Incarnation, SessionId,
    handshake::{
        Action, Agreement, CertificateFacts, Features, Handshake, Hello, NewerLife, RefusalCode, RenewedSession, Role,
    },
    limits::{
        MAX_ADDRESSES_PER_PEER, MAX_CONTROL_BODY_BYTES, MAX_LANES, MAX_MESSAGE_BYTES_CEILING, MAX_MESSAGE_BYTES_FLOOR,
    },
};

/// One end: what it says, what its certificate says, and what its owner decides.
#[derive(Debug, Clone)]
struct Party {
    says: Hello,
    certified_cluster: &'static str,
    certified_role: Role,
    certified_names: Vec<String>,
    refuses: Option<RefusalCode>,
    /// Whether it gives a session to the wrong role, as a broken acceptor would.
    wrong_session: bool,
}

/// Mostly the first of the values, so that many cases get far.
fn mostly<T: std::fmt::Debug + Clone + 'static>(usual: T, others: Vec<T>) -> impl Strategy<Value = T> {
    prop_oneof![12 => Just(usual), 1 => select(others)]
}

fn party(name: &'static str, role: Role) -> impl Strategy<Value = Party> {
    let says = (
        prop_oneof![4 => Just((1, 1)), 4 => Just((1, 9)), 1 => Just((2, 3)), 1 => Just((3, 2)), 1 => Just((0, 1))],
        any::<u64>(),
        mostly("shop", vec!["bank"]),
        mostly(role, vec![Role::Node, Role::Client]),
        mostly(0, vec![1, MAX_ADDRESSES_PER_PEER, MAX_ADDRESSES_PER_PEER + 1]),
        mostly(1 << 20, vec![MAX_MESSAGE_BYTES_FLOOR, MAX_MESSAGE_BYTES_FLOOR - 1, MAX_MESSAGE_BYTES_CEILING + 1, 0]),
        mostly(4, vec![0, 1, MAX_LANES as u8, MAX_LANES as u8 + 1, 255]),
    );
    let says = says.prop_map(move |(versions, features, cluster, role, addresses, message, lanes)| Hello {
        versions,
        features: Features(features),
        cluster: cluster.parse().unwrap(),
        role,
        node: format!("{name}.1f").parse().unwrap(),
        listen_port: 7400,
        advertised: vec!["10.0.0.1:7400".parse().unwrap(); addresses],
        max_message_bytes: message as u32,
        lanes,
        replace: false,
        extensions: vec![("later".into(), vec![1])],
    });
    let names = mostly(vec![name.to_owned(), "spare".to_owned()], vec![vec![], vec!["stranger".to_owned()]]);
    let refuses = option::weighted(0.1, select(vec![RefusalCode::Duplicate, RefusalCode::Draining, RefusalCode::Busy]));
    (
        says,
        mostly("shop", vec!["bank"]),
        mostly(role, vec![Role::Node, Role::Client]),
        names,
        refuses,
        mostly(false, vec![true]),
    )
        .prop_map(|(says, certified_cluster, certified_role, certified_names, refuses, wrong_session)| Party {
            says,
            certified_cluster,
            certified_role,
            certified_names,
            refuses,
            wrong_session,
        })
}

impl Party {
    /// What the other end has learnt of this one by TLS.
    fn facts(&self) -> CertificateFacts {
        CertificateFacts {
            cluster: self.certified_cluster.parse().unwrap(),
            role: self.certified_role,
            allows_name: |names, name| names.iter().any(|allowed| allowed == name),
            names: self.certified_names.clone(),
        }
    }

    fn sizes_are_right(&self) -> bool {
        let message = self.says.max_message_bytes as usize;
        (MAX_MESSAGE_BYTES_FLOOR..=MAX_MESSAGE_BYTES_CEILING).contains(&message)
            && (1..=MAX_LANES).contains(&usize::from(self.says.lanes))
            && self.says.advertised.len() <= MAX_ADDRESSES_PER_PEER
    }

    fn name_is_certified(&self) -> bool {
        self.certified_names.iter().any(|name| name == self.says.node.name().as_str())
    }
}

/// The version that the two should come to speak, by a plain reading of the rules.
fn expected(dialler: &Party, acceptor: &Party) -> Option<u16> {
    let (d, a) = (dialler.says.versions, acceptor.says.versions);
    let version = (1..=9).rev().find(|version| (d.0..=d.1).contains(version) && (a.0..=a.1).contains(version))?;
    let right = dialler.says.cluster == acceptor.says.cluster
        && acceptor.says.cluster.as_str() == dialler.certified_cluster
        && dialler.says.cluster.as_str() == acceptor.certified_cluster
        && dialler.says.role == dialler.certified_role
        && acceptor.certified_role == Role::Node
        && [dialler, acceptor].iter().all(|party| party.sizes_are_right() && party.name_is_certified())
        && dialler.refuses.is_none()
        && acceptor.refuses.is_none()
        && !acceptor.wrong_session;
    right.then_some(version)
}

#[derive(Debug)]
enum Verdict {
    Agreed(Box<Agreement>),
    Refused { code: RefusalCode, by_us: bool },
}

/// A frame as the other end gets it: over the wire.
fn carried(frame: &ControlFrame) -> ControlFrame {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes).unwrap();
    let mut decoder = FrameDecoder::new(MAX_CONTROL_BODY_BYTES);
    decoder.push(Bytes::from(bytes));
    ControlFrame::decode(&decoder.next_frame().unwrap().unwrap()).unwrap()
}

/// Does what an owner does; gives what is to be sent, and notes the verdict.
fn act(party: &Party, end: &mut Handshake, actions: Vec<Action>, verdict: &mut Option<Verdict>) -> Vec<ControlFrame> {
    let mut sent = Vec::new();
    for action in actions {
        let found = match action {
            Action::Send(frame) => {
                sent.push(frame);
                continue;
            }
            Action::Decide(peer) => {
                let client = peer.role == Role::Client;
                let session = SessionId::new(7).filter(|_| client != party.wrong_session);
                let then = match party.refuses {
                    None => end.admit(session),
                    Some(code) => end.refuse(code, "the owner says no"),
                };
                sent.extend(act(party, end, then, verdict));
                continue;
            }
            Action::Agreed(agreement) => Verdict::Agreed(agreement),
            Action::Refused { refusal, by_us } => Verdict::Refused { code: refusal.code, by_us },
        };
        assert!(verdict.is_none(), "a second verdict: {found:?}");
        *verdict = Some(found);
    }
    sent
}

fn shake_hands(dialling: &Party, accepting: &Party) -> (Verdict, Verdict) {
    let mut dialler = Handshake::dial(dialling.says.clone(), accepting.facts());
    let mut acceptor = Handshake::accept(accepting.says.clone(), dialling.facts());
    let (mut dialled, mut accepted) = (None, None);
    let start = dialler.start();
    let mut to_acceptor = act(dialling, &mut dialler, start, &mut dialled);
    for _ in 0..4 {
        let mut to_dialler = Vec::new();
        for frame in to_acceptor.drain(..) {
            let actions = acceptor.handle(carried(&frame)).unwrap();
            to_dialler.extend(act(accepting, &mut acceptor, actions, &mut accepted));
        }
        for frame in to_dialler {
            let actions = dialler.handle(carried(&frame)).unwrap();
            to_acceptor.extend(act(dialling, &mut dialler, actions, &mut dialled));
        }
    }
    assert!(to_acceptor.is_empty());
    (dialled.unwrap(), accepted.unwrap())
}

fn both() -> impl Strategy<Value = (Party, Party)> {
    prop_oneof![Just(Role::Node), Just(Role::Client)]
        .prop_flat_map(|role| (party("dialler", role), party("acceptor", Role::Node)))
}

#[derive(Debug, Clone)]
enum Step {
    Start,
    Handle(Box<ControlFrame>),
    Admit(bool),
    Refuse,
}

fn step() -> impl Strategy<Value = Step> {
    let usual = (party("dialler", Role::Node), party("acceptor", Role::Node)).prop_map(|(dialler, _)| dialler.says);
    prop_oneof![
        1 => Just(Step::Start),
        3 => strategies::control().prop_map(|frame| Step::Handle(Box::new(frame))),
        2 => usual.prop_map(|hello| Step::Handle(Box::new(ControlFrame::Hello(hello)))),
        2 => Just(Step::Handle(Box::new(ControlFrame::Confirm))),
        2 => any::<bool>().prop_map(Step::Admit),
        1 => Just(Step::Refuse),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn both_ends_come_to_the_same_verdict((dialling, accepting) in both()) {
        let expected = expected(&dialling, &accepting);
        match shake_hands(&dialling, &accepting) {
            (Verdict::Agreed(dialled), Verdict::Agreed(accepted)) => {
                prop_assert_eq!(Some(dialled.version), expected);
                prop_assert_eq!(dialled.version, accepted.version);
                let common = dialling.says.features.common(accepting.says.features);
                prop_assert_eq!((dialled.features, accepted.features), (common, common));
                prop_assert_eq!(dialled.session, accepted.session);
                prop_assert_eq!(dialled.session.is_some(), dialling.says.role == Role::Client);
                prop_assert_eq!(&dialled.peer.node, &accepting.says.node);
                prop_assert_eq!(&accepted.peer.node, &dialling.says.node);
                prop_assert_eq!(accepted.peer.max_message_bytes, dialling.says.max_message_bytes as usize);
                prop_assert_eq!(dialled.peer.lanes, accepting.says.lanes);
            }
            (Verdict::Refused { code, by_us }, Verdict::Refused { code: other, by_us: by_other }) => {
                prop_assert_eq!(code, other);
                prop_assert!(by_us != by_other, "one of them refuses, and the other is told");
                prop_assert_eq!(expected, None, "refused with {}, though all is right", code.name());
            }
            (dialled, accepted) => prop_assert!(false, "the ends differ: {dialled:?} and {accepted:?}"),
        }
    }

    #[test]
    fn frames_and_decisions_in_any_order_never_panic(
        dial in any::<bool>(),
        own in party("acceptor", Role::Node),
        other in party("dialler", Role::Node),
        steps in vec(step(), 0..12),
    ) {
        let mut end =
            if dial { Handshake::dial(own.says, other.facts()) } else { Handshake::accept(own.says, other.facts()) };
        let (mut verdicts, mut broken) = (0, false);
        for step in steps {
            let actions = match step {
                Step::Start => end.start(),
                Step::Handle(frame) => end.handle(*frame).unwrap_or_else(|_| {
                    broken = true;
                    Vec::new()
                }),
                Step::Admit(client) => end.admit(SessionId::new(1).filter(|_| client)),
                Step::Refuse => end.refuse(RefusalCode::TooSlow, "late"),
            };
            prop_assert!(actions.is_empty() || verdicts == 0, "something happens after the verdict");
            let verdict = actions.iter().filter(|it| matches!(it, Action::Agreed(_) | Action::Refused { .. })).count();
            prop_assert!(!broken || verdict == 0 || verdicts == 0);
            verdicts += verdict;
        }
        prop_assert!(verdicts <= 1);
    }
}

fn usual(name: &str) -> Party {
    Party {
        says: Hello {
            versions: (1, 1),
            features: Features(0),
            cluster: "shop".parse().unwrap(),
            role: Role::Node,
            node: format!("{name}.1f").parse().unwrap(),
            listen_port: 7400,
            advertised: Vec::new(),
            max_message_bytes: 1 << 20,
            lanes: 4,
            replace: false,
            extensions: Vec::new(),
        },
        certified_cluster: "shop",
        certified_role: Role::Node,
        certified_names: vec![name.to_owned()],
        refuses: None,
        wrong_session: false,
    }
}

#[test]
fn d5_a_newer_peer_is_spoken_to_in_our_version() {
    let ours = usual("acceptor");
    let mut newer = usual("dialler");
    newer.says.versions = (1, 9);
    newer.says.features = Features(u64::MAX);
    newer.says.extensions = vec![("trace".into(), vec![1, 2, 3]), ("zip".into(), Vec::new())];
    for (dialling, accepting) in [(&newer, &ours), (&ours, &newer)] {
        let (Verdict::Agreed(dialled), Verdict::Agreed(accepted)) = shake_hands(dialling, accepting) else {
            panic!("a newer peer that speaks our version is refused")
        };
        assert_eq!((dialled.version, accepted.version), (1, 1));
        assert_eq!((dialled.features, accepted.features), (Features(0), Features(0)));
    }
    let mut too_new = usual("dialler");
    too_new.says.versions = (2, 9);
    let (Verdict::Refused { code, by_us: false }, Verdict::Refused { by_us: true, .. }) = shake_hands(&too_new, &ours)
    else {
        panic!("a peer without a common version is taken")
    };
    assert_eq!(code, RefusalCode::NoCommonVersion);
}

#[test]
fn a_dialler_may_say_after_how_much_silence_it_is_gone() {
    let (silent, ours) = (usual("dialler"), usual("acceptor"));
    let heard = |says: Hello| {
        let (Verdict::Agreed(_), Verdict::Agreed(accepted)) = shake_hands(&Party { says, ..silent.clone() }, &ours)
        else {
            panic!("it is refused")
        };
        accepted.peer.idle_timeout
    };
    assert_eq!(heard(silent.says.clone()), None);
    let five = Duration::from_secs(5);
    assert_eq!(heard(silent.says.clone().with_idle_timeout(five)), Some(five));
    let mut short = silent.says.clone().with_idle_timeout(five);
    short.extensions[0].1.pop();
    assert_eq!(heard(short), None, "what cannot be read is as if it had not been said");
}

#[test]
fn a_client_may_say_which_session_goes_on() {
    let (dialler, ours) = (usual("dialler"), usual("acceptor"));
    let heard = |says: Hello| {
        let (Verdict::Agreed(_), Verdict::Agreed(accepted)) = shake_hands(&Party { says, ..dialler.clone() }, &ours)
        else {
            panic!("it is refused")
        };
        accepted.peer.renewed_session
    };
    let renewed = RenewedSession { session: SessionId::new(70_000).unwrap(), proof: [7; 32] };
    assert_eq!(heard(dialler.says.clone()), None);
    let says = dialler.says.clone().with_session(&renewed);
    assert_eq!(heard(says.clone()), Some(renewed));
    let spoils: [fn(&mut Vec<u8>); 4] =
        [|value| value.truncate(35), |value| value.push(0), |value| value.truncate(3), Vec::clear];
    for spoil in spoils {
        let mut says = says.clone();
        spoil(&mut says.extensions[0].1);
        assert_eq!(heard(says), None, "what cannot be read is as if it had not been said");
    }
}

#[test]
fn who_is_refused_for_an_older_life_is_told_of_the_newer_one() {
    let (older, ours) = (usual("dialler"), usual("acceptor"));
    let newer = NewerLife { incarnation: Incarnation(0x2a), runs: false };
    let carry = |to: &mut Handshake, actions: Vec<Action>| {
        let mut answers = Vec::new();
        for action in actions {
            if let Action::Send(frame) = action {
                answers.extend(to.handle(carried(&frame)).unwrap());
            }
        }
        answers
    };
    let told = |answers: Vec<Action>| match answers.as_slice() {
        [Action::Refused { refusal, by_us: false }] => {
            assert_eq!(refusal.code, RefusalCode::OlderIncarnation);
            refusal.newer_life
        }
        other => panic!("{other:?}"),
    };
    let pair = || {
        let mut dialler = Handshake::dial(older.says.clone(), ours.facts());
        let mut acceptor = Handshake::accept(ours.says.clone(), older.facts());
        let start = dialler.start();
        assert!(matches!(carry(&mut acceptor, start).as_slice(), [Action::Decide(_)]));
        (dialler, acceptor)
    };

    let (mut dialler, mut acceptor) = pair();
    let refused = acceptor.refuse_life(newer, "an older life");
    assert_eq!(told(carry(&mut dialler, refused)), Some(newer));

    let (mut dialler, mut acceptor) = pair();
    let welcomed = acceptor.admit(None);
    assert!(matches!(carry(&mut dialler, welcomed).as_slice(), [Action::Decide(_)]));
    let aborted = dialler.refuse_life(newer, "an older life");
    assert_eq!(told(carry(&mut acceptor, aborted)), Some(newer));

    // An older release says no more than its refusal.
    let (mut dialler, mut acceptor) = pair();
    let refused = acceptor.refuse(RefusalCode::OlderIncarnation, "an older life");
    assert_eq!(told(carry(&mut dialler, refused)), None);
}

#[test]
fn a_newer_life_is_told_once_and_by_whoever_may_refuse() {
    let newer = ControlFrame::NewerLife(NewerLife { incarnation: Incarnation(0x2a), runs: true });
    let (theirs, ours) = (usual("dialler"), usual("acceptor"));
    let mut acceptor = Handshake::accept(ours.says.clone(), theirs.facts());
    assert!(acceptor.handle(newer.clone()).is_err(), "the handshake begins with Hello");

    let mut dialler = Handshake::dial(theirs.says.clone(), ours.facts());
    drop(dialler.start());
    assert_eq!(dialler.handle(newer.clone()).unwrap(), Vec::new());
    assert!(dialler.handle(newer).is_err(), "a peer could go on for ever");
    assert!(dialler.admit(None).is_empty(), "an error ends the handshake");
}

#[test]
fn every_wrong_claim_has_its_own_code() {
    type Spoil = fn(&mut Party);
    let ours = usual("acceptor");
    let cases: [(Spoil, RefusalCode); 7] = [
        (|it| it.says.cluster = "bank".parse().unwrap(), RefusalCode::WrongCluster),
        (|it| it.certified_cluster = "bank", RefusalCode::WrongCluster),
        (|it| it.certified_role = Role::Client, RefusalCode::WrongRole),
        (|it| it.certified_names.clear(), RefusalCode::NameNotInCertificate),
        (|it| it.says.lanes = 0, RefusalCode::BadHello),
        (|it| it.says.max_message_bytes = u32::MAX, RefusalCode::BadHello),
        (|it| it.says.versions = (9, 1), RefusalCode::NoCommonVersion),
    ];
    for (spoil, expected) in cases {
        let mut theirs = usual("dialler");
        spoil(&mut theirs);
        let (Verdict::Refused { code, .. }, Verdict::Refused { code: other, .. }) = shake_hands(&theirs, &ours) else {
            panic!("{} is not noticed", expected.name())
        };
        assert_eq!((code, other), (expected, expected));
    }
}
