//! The README tells the truth: its Rust code is the example's, which is compiled and run with the other tests; each row of
//! the contract that it calls kept has tests of its name; and the files that it and the other pages lead to are there.
#![allow(clippy::unwrap_used, missing_docs)] // A test may stop where it fails.

use std::path::Path;

/// What stands between two lines of a text, without them.
fn between<'t>(text: &'t str, begin: &str, end: &str) -> &'t str {
    let (_, rest) = text.split_once(begin).unwrap();
    rest.split_once(end).unwrap().0
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

#[test]
fn the_readmes_code_is_the_example_that_runs() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let example = std::fs::read_to_string(root().join("node/examples/counter.rs")).unwrap();
    let shown = between(&readme, "```rust\n", "```\n");
    let run = between(&example, "    // README: begin\n", "    // README: end\n");
    let run: String = run.lines().map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line))).collect();
    assert_eq!(shown, run);
}

#[test]
fn what_the_pages_link_to_is_there() {
    for page in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md"] {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
        for target in targets.filter(|target| !target.contains("://")) {
            let path = target.split('#').next().unwrap_or_default();
            assert!(root().join(path).exists(), "{page} links to {target}, which is not there");
        }
    }
}

#[test]
fn what_the_pages_name_in_code_is_there() {
    for page in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        let named = text.split('`').skip(1).step_by(2).filter(|name| is_path(name));
        for name in named {
            assert!(root().join(name).exists(), "{page} names `{name}`, which is not there");
        }
    }
}

#[test]
fn each_row_that_is_called_kept_has_tests_of_its_name() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let rows: Vec<String> = between(&readme, "<!-- rows: kept -->", "<!-- rows: end -->")
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(' ').next())
        .filter(|id| id.ends_with(|last: char| last.is_ascii_digit()))
        .map(str::to_lowercase)
        .collect();
    assert!(rows.len() > 20, "the table was not read: {rows:?}");
    let mut sources = String::new();
    for room in ["protocol/src", "protocol/tests", "node/src", "node/runtime/src", "client/src", "tests/tests"] {
        gather(&root().join(room), &mut sources);
    }
    for row in rows {
        assert!(sources.contains(&format!("fn {row}_")), "no test is named {row}_…");
    }
}

/// Appends every Rust file below `folder`.
fn gather(folder: &Path, sources: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

/// Whether code in a page is the path of one of our files: `node/src/node.rs`, as against `Outbound::push`.
fn is_path(name: &str) -> bool {
    let rooms = ["protocol/", "node/", "client/", "tests/", "deploy/"];
    rooms.iter().any(|room| name.starts_with(room)) && !name.contains([' ', '*', '{', '<'])
}
