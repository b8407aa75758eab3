//! What the tests of the whole stand on: placements, in which each test of the contract is run; puppets, processes that
//! a test moves from outside; fences and conditions with deadlines instead of sleeps; behaviours that can be started by
//! name. The tests themselves are in `tests/`; `contract_x.rs` holds the rows of the contract whose ids begin with X.

// Whatever fails here fails a test, and says why.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod behaviours;
pub mod cluster;
pub mod collector;
pub mod fence;
pub mod fleet;
pub mod flow;
pub mod hand;
pub mod http;
pub mod isolation;
pub mod machine;
pub mod mounted;
pub mod patience;
pub mod placement;
pub mod program;
pub mod puppet;
pub mod relay;
pub mod stalls;

pub use behaviours::CounterMessage;
pub use fence::fence;
pub use patience::{DEADLINE, eventually, within};
pub use placement::{Placement, check};
pub use puppet::{Held, Note, Puppet, Watch, watch};
