//! Any text as an id: no panic; what is taken prints as the very same text, and an error shows little of it.
#![no_main]

use std::{fmt::Display, str::FromStr};

use libfuzzer_sys::fuzz_target;
use rookery_protocol::{BehaviourName, ClusterName, NodeId, NodeName, ParseIdError, Pid, ProcessName};

fn check<T: FromStr<Err = ParseIdError> + Display>(text: &str) {
    match text.parse::<T>() {
        Ok(id) => assert_eq!(id.to_string(), text),
        Err(error) => {
            let shown = error.to_string();
            assert!(shown.chars().count() < 300 && !shown.contains(char::is_control));
        }
    }
}

fuzz_target!(|text: &str| {
    check::<Pid>(text);
    check::<NodeId>(text);
    check::<NodeName>(text);
    check::<ClusterName>(text);
    check::<ProcessName>(text);
    check::<BehaviourName>(text);
});
