//! Who may know whom, and what the core may not contain.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn packages_depend_only_downwards() {
    for (manifest, allowed) in [
        ("Cargo.toml", &["fast-peer-core", "fast-peer-io"][..]),
        ("core/Cargo.toml", &[]),
        ("io/Cargo.toml", &["fast-peer-core"]),
        ("sim/Cargo.toml", &["fast-peer-core", "fast-peer-io"]),
        ("tests/peers/Cargo.toml", &["fast-peer-core"]),
    ] {
        let text = read(manifest);
        let ours: BTreeSet<_> = dependencies(&text).filter(|name| OURS.contains(name)).collect();
        assert!(ours.iter().all(|name| allowed.contains(name)), "{manifest} depends on {ours:?}");
    }
}

#[test]
fn only_the_simulator_knows_turmoil() {
    let users =
        ["Cargo.toml", "core/Cargo.toml", "io/Cargo.toml", "sim/Cargo.toml", "tests/peers/Cargo.toml"]
            .into_iter()
            .filter(|manifest| dependencies(&read(manifest)).any(|name| name == "turmoil"));
    assert_eq!(users.collect::<Vec<_>>(), ["sim/Cargo.toml"]);
}

#[test]
fn the_core_is_without_std_and_unsafe_code() {
    let root = read("core/src/lib.rs");
    assert!(root.lines().any(|line| line == "#![no_std]"));
    assert!(root.lines().any(|line| line == "#![forbid(unsafe_code)]"));
    for file in sources("core/src") {
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains("extern crate std"), "{} brings std in", file.display());
    }
}

#[test]
fn the_cores_dependencies_are_without_std() {
    let workspace = read("Cargo.toml");
    let core = read("core/Cargo.toml");
    let normal = core.split("[dev-dependencies]").next().unwrap();
    for name in dependencies(normal) {
        let line = workspace.lines().find(|line| line.split(' ').next() == Some(name)).unwrap();
        assert!(line.contains("default-features = false"), "{line}");
    }
    let features = ["-e", "features,no-dev", "--prefix", "none"];
    let tree = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["tree", "--offline", "--package", "fast-peer-core"])
        .args(features)
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    for name in dependencies(normal) {
        assert!(tree.lines().any(|line| line.starts_with(name)), "{name} is in the tree");
        let std = format!("{name} feature \"std\"");
        assert!(!tree.lines().any(|line| line.starts_with(&std)), "{std} is on");
    }
}

#[test]
fn unsafe_code_is_only_where_it_has_to_be() {
    let used = ["cli", "core/src", "io/src", "sim/src", "tests/peers/src"].into_iter().flat_map(sources);
    let used = used.filter(|file| {
        let text = fs::read_to_string(file).unwrap();
        text.lines()
            .any(|line| ["unsafe {", "unsafe fn", "unsafe impl"].iter().any(|word| line.contains(word)))
    });
    let used: BTreeSet<_> = used.collect();
    assert_eq!(used, UNSAFE.iter().map(|file| path(file)).collect());
}

/// Clippy reads only the nearest `clippy.toml`.
#[test]
fn the_cores_bans_repeat_the_workspaces() {
    let core = read("core/clippy.toml");
    for ban in read("clippy.toml").lines().filter(|line| line.contains("path = ")) {
        assert!(core.lines().any(|line| line == ban), "core/clippy.toml lacks {ban}");
    }
}

/// The names of the packages in all tables of dependencies of a manifest.
fn dependencies(manifest: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    manifest.lines().filter_map(move |line| {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]") && !line.starts_with("[workspace");
            return None;
        }
        let name = line.split(['.', ' ', '=']).next()?;
        (inside && !name.is_empty() && !name.starts_with('#')).then_some(name)
    })
}

/// All Rust files below a folder.
fn sources(folder: &str) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![path(folder)], vec![]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    assert!(!files.is_empty(), "{folder} has no sources");
    files
}

fn read(relative: &str) -> String {
    fs::read_to_string(path(relative)).unwrap()
}

fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

const OURS: [&str; 5] = ["fast-peer", "fast-peer-core", "fast-peer-io", "peers", "sim"];

/// A process moves into a network namespace of its own.
const UNSAFE: [&str; 1] = ["tests/peers/src/namespace.rs"];
