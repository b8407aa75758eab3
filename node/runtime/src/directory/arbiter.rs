//! Who decides about a cluster name.

use rookery_protocol::{NodeId, ProcessName};

/// Which of `members` decides who may have `name`: the one whose name and it give the highest hash, so that each member
/// decides about as many names, and the coming or going of one moves no more than its own share ("rendezvous hashing",
/// Thaler and Ravishankar, 1998). All nodes must compute it alike: the hash is part of the protocol.
pub(crate) fn arbiter_of<'a>(name: &ProcessName, members: impl IntoIterator<Item = &'a NodeId>) -> Option<&'a NodeId> {
    members.into_iter().max_by_key(|node| (weight(name, node), *node))
}

fn weight(name: &ProcessName, node: &NodeId) -> u64 {
    // FNV-1a over both, with a byte between them that neither has; then the last step of MurmurHash3, since FNV's high
    // bits hardly feel the last bytes.
    let bytes = name.as_str().bytes().chain([0]).chain(node.name().as_str().bytes());
    let mut hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop where it fails.
    use super::*;

    fn name(text: &str) -> ProcessName {
        text.parse().unwrap()
    }

    #[test]
    fn arbiters_are_chosen_alike_for_ever() {
        let members: Vec<NodeId> = ["shop-0.1", "shop-1.1", "shop-2.1"].map(|id| id.parse().unwrap()).to_vec();
        let chosen = ["orders", "till", "stock", "shop/eu-west-1/4711", "a", "b"]
            .map(|text| arbiter_of(&name(text), &members).unwrap().name().to_string());
        assert_eq!(chosen, ["shop-2", "shop-1", "shop-1", "shop-2", "shop-1", "shop-0"], "this is the protocol");
        let reborn: Vec<NodeId> = ["shop-2.9", "shop-0.8", "shop-1.7"].map(|id| id.parse().unwrap()).to_vec();
        assert_eq!(
            arbiter_of(&name("orders"), &reborn).unwrap().name(),
            arbiter_of(&name("orders"), &members).unwrap().name()
        );
    }

    #[test]
    fn arbiters_share_the_work_and_a_loss_moves_only_the_lost_ones() {
        let members: Vec<NodeId> = (0..5).map(|n| format!("shop-{n}.1").parse().unwrap()).collect();
        let mut count = [0; 5];
        for number in 0..10_000 {
            let name = name(&format!("order/{number}"));
            let chosen = members.iter().position(|node| node == arbiter_of(&name, &members).unwrap()).unwrap();
            count[chosen] += 1;
            let left = arbiter_of(&name, &members[..4]).unwrap();
            assert!(chosen == 4 || *left == members[chosen], "{name} moved without need");
        }
        assert!(count.iter().all(|&count| (1_700..2_300).contains(&count)), "{count:?}");
    }
}
