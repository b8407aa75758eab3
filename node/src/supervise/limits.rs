//! Every limit and default of supervision, with its reason. The defaults are those of OTP's supervisor where it has
//! them; where it has none, or one that is no use across pods, the reason says so.

use std::time::Duration;

/// Children of one supervisor: as many as an answer of the default size can list.
pub const MAX_CHILDREN: usize = 65_536;

/// A child's id stands in each log line and table row about it.
pub const MAX_CHILD_ID_BYTES: usize = 255;

/// Restarts within [`DEFAULT_PERIOD`] unless told. OTP's 1 is too few where a node's loss is an ordinary event that
/// takes several children with it.
pub const DEFAULT_INTENSITY: u32 = 3;

/// The period of the intensity unless told: OTP's.
pub const DEFAULT_PERIOD: Duration = Duration::from_secs(5);

/// How long a child may take to shut down unless told: OTP's for workers.
pub const DEFAULT_SHUTDOWN: Duration = Duration::from_secs(5);

/// The first wait for a child that has no node to live on; a node that comes up ends the wait at once.
pub const PLACE_WAIT_MIN: Duration = Duration::from_millis(100);

/// The longest wait for a node, should its coming have been missed.
pub const PLACE_WAIT_MAX: Duration = Duration::from_secs(5);

/// How often a child that spreads moves to a node that has fewer: ten a second. A tree of a thousand fills a new node in
/// minutes, and no service loses more than one child at a time to it.
pub const SPREAD_MOVE_EVERY: Duration = Duration::from_millis(100);

/// How long a start waits to hear what is known of the nodes; without, it chooses by who is up. A quarter of the second
/// within which the children of a lost node are started elsewhere.
pub const LOOK_TIMEOUT: Duration = Duration::from_millis(250);

/// How long the start of a child waits for its cluster name: longer than a lost node is taken for alive by the last to
/// notice.
pub const NAME_PATIENCE: Duration = Duration::from_secs(15);

/// How often it is tried meanwhile.
pub const NAME_RETRY: Duration = Duration::from_millis(50);

/// Trees that the cluster runs, and has run and been told to run no more. Each is known on every node.
pub const MAX_TREES: usize = 1_024;

/// Bytes of such a tree's spec as JSON; all of them are told to each node that comes up.
pub const MAX_TREE_BYTES: usize = 256 * 1024;

/// How long a node that has come up looks for others before it runs a tree that they may run already. Pods that start side
/// by side find each other within a second or two; a node that finds them later loses the name, and ends its copy.
pub const JOIN_GRACE: Duration = Duration::from_secs(1);

/// How long a tree that gave up by itself is left alone, before some node runs it again. And how long a node that runs it
/// no more has to hear that it was changed or removed.
pub const TREE_PAUSE: Duration = Duration::from_secs(1);

/// Children that are handed over at a time from a node that leaves: each has its state in memory three times.
pub const HAND_OVER_AT_ONCE: usize = 32;

/// How often a child is tried to be handed over, before it is started elsewhere without its state.
pub const HAND_OVER_TRIES: u32 = 3;

/// How soon it is tried again.
pub const HAND_OVER_RETRY: Duration = Duration::from_millis(100);

/// How soon a child that spreads, and was not handed over, is chosen to move again, or the node that did not take it is: either may be
/// busy for a while.
pub const MOVE_AGAIN: Duration = Duration::from_secs(5);

/// How long one question of a supervisor that takes the place of another may take: the other may have children under way.
pub const BEQUEST_PATIENCE: Duration = Duration::from_secs(3);

/// How long a supervisor whose place is taken changes nothing; then it goes on.
pub const BEQUEST_LIMIT: Duration = Duration::from_secs(8);

/// How long it passes on what still comes for it.
pub const BEQUEST_FORWARDS: Duration = Duration::from_secs(10);

/// How many nodes are asked in turn to run a tree of a node that leaves, and how long one may take.
pub const HEIRS: usize = 3;
/// See [`HEIRS`].
pub const HEIR_PATIENCE: Duration = Duration::from_secs(7);

/// Requests to start, stop or restart a child that wait at a time for their child; more are refused. Each waits for a
/// process of somebody else's, who may be slow.
pub const MAX_PENDING_COMMANDS: usize = 1_024;

const _: () = assert!(2 * BEQUEST_PATIENCE.as_millis() < BEQUEST_LIMIT.as_millis());
const _: () = assert!(2 * BEQUEST_PATIENCE.as_millis() < HEIR_PATIENCE.as_millis());
const _: () = assert!(PLACE_WAIT_MIN.as_millis() < PLACE_WAIT_MAX.as_millis());
