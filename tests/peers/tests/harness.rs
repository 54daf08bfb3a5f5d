//! Proves the harness without fast-peer: clients of others exchange torrents with each other, so that every adapter
//! works in both roles, on every route, and with every kind of link and content.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use peers::case::{Case, Route};
use peers::client::{Kind, Link};
use peers::content::Content;
use peers::dht::{Node, Nodes};
use peers::namespace::Family;
use peers::runner;

fn main() -> ExitCode {
    runner::run(cases(), every_role_was_played)
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (seeder, leecher) in ring(1, |_| true) {
        cases.push(Case { content: Content::Folder, ..Case::new(seeder, leecher) });
        cases.push(Case { content: Content::Folder, magnet: true, ..Case::new(seeder, leecher) });
    }
    for (seeder, leecher) in ring(2, |_| true) {
        let pair = Case::new(seeder, leecher);
        cases.push(Case { route: Route::UdpTracker, content: Content::OddPieces, ..pair.clone() });
        cases.push(Case { family: Family::V6, content: Content::Tiny, ..pair });
    }
    for (seeder, leecher) in ring(1, |kind| kind.speaks(Link::Utp)) {
        cases.push(Case { link: Link::Utp, route: Route::UdpTracker, ..Case::new(seeder, leecher) });
    }
    for (seeder, leecher) in ring(1, |kind| kind.speaks(Link::Encrypted)) {
        cases.push(Case { link: Link::Encrypted, ..Case::new(seeder, leecher) });
    }
    for (seeder, leecher) in ring(3, |_| true).filter(|(_, leecher)| leecher.takes_peers()) {
        cases.push(Case {
            route: Route::Direct,
            content: Content::LargePieces,
            ..Case::new(seeder, leecher)
        });
    }
    cases.extend(trackerless());
    cases.push(Case { leechers: Kind::OTHERS.to_vec(), ..Case::new(Kind::Libtorrent, Kind::Libtorrent) });
    cases
}

/// Cases without a tracker: by the DHT, by peers, and by the local network.
fn trackerless() -> Vec<Case> {
    let mut cases = Vec::new();
    // librqbit announces itself to nodes only whose first 16 bits are the infohash's: there are none among a dozen.
    let pairs = [
        (Node::Libtorrent, Kind::Aria2, Kind::Libtorrent),
        (Node::Libtorrent, Kind::Libtorrent, Kind::Aria2),
        (Node::Libtorrent, Kind::Libtorrent, Kind::Qbittorrent),
        (Node::Libtorrent, Kind::Libtorrent, Kind::Transmission),
        (Node::Libtorrent, Kind::Qbittorrent, Kind::Rqbit),
        (Node::Libtorrent, Kind::Transmission, Kind::Libtorrent),
        // These drop what has not a transaction id of four bytes, and so nearly all that the others send.
        (Node::Mainline, Kind::Aria2, Kind::Aria2),
        (Node::Mainline, Kind::Aria2, Kind::Transmission),
    ];
    for (node, seeder, leecher) in pairs {
        let route = Route::Dht(Nodes::all(node));
        cases.push(Case { route, magnet: true, ..Case::new(seeder, leecher) });
    }
    for leecher in [Kind::Libtorrent, Kind::Qbittorrent] {
        let route = Route::Pex(Kind::Libtorrent);
        cases.push(Case { route, ..Case::new(Kind::Libtorrent, leecher) });
    }
    for (seeder, leecher) in ring(2, |_| true) {
        cases.push(Case { route: Route::Lsd, ..Case::new(seeder, leecher) });
    }
    for (seeder, leecher) in ring(1, |kind| matches!(kind, Kind::Libtorrent | Kind::Qbittorrent)) {
        cases.push(Case { route: Route::Lsd, family: Family::V6, ..Case::new(seeder, leecher) });
    }
    cases
}

/// Pairs each client with the one that comes `step` after it, among those that match.
fn ring(step: usize, matches: impl Fn(Kind) -> bool) -> impl Iterator<Item = (Kind, Kind)> {
    let kinds: Vec<_> = Kind::OTHERS.into_iter().filter(|kind| matches(*kind)).collect();
    (0..kinds.len()).map(move |i| (kinds[i], kinds[(i + step) % kinds.len()]))
}

fn every_role_was_played(passed: &[Case]) -> Result<()> {
    for kind in Kind::OTHERS {
        ensure!(passed.iter().any(|case| case.seeder == kind), "{kind} never seeded");
        ensure!(passed.iter().any(|case| case.leechers.contains(&kind)), "{kind} never leeched");
    }
    Ok(())
}
