//! fast-peer without trackers: by the DHT, by peers, by the local network, and from no more than a magnet link.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use peers::case::{Case, Route};
use peers::client::{Kind, Want};
use peers::content::Content;
use peers::dht::{Node, Nodes};
use peers::namespace::Family;
use peers::runner;

fn main() -> ExitCode {
    runner::run([dht(), metadata(), peer_exchange(), local_network()].concat(), every_value_was_run)
}

/// From a magnet link and the address of one node to the payload; and the commands that only ask the DHT.
fn dht() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut push = |first, others, seeder, leecher| {
        let route = Route::Dht(Nodes { first, others });
        cases.push(Case { route, magnet: true, ..Case::new(seeder, leecher) });
    };
    use Node::{FastPeer as Ours, Libtorrent, Mainline};
    // librqbit can't announce itself in a DHT as small as this, see the harness.
    for seeder in [Kind::Aria2, Kind::Libtorrent, Kind::Qbittorrent, Kind::Transmission] {
        push(Libtorrent, Libtorrent, seeder, Kind::FastPeer);
    }
    for leecher in Kind::OTHERS {
        push(Ours, Ours, Kind::FastPeer, leecher);
    }
    for node in [Ours, Libtorrent, Mainline] {
        push(node, node, Kind::FastPeer, Kind::FastPeer);
    }
    push(Libtorrent, Libtorrent, Kind::FastPeer, Kind::Libtorrent);
    push(Ours, Libtorrent, Kind::FastPeer, Kind::Libtorrent);
    // Of the others, only aria2 and Transmission can speak to nodes of `mainline`.
    push(Mainline, Mainline, Kind::Aria2, Kind::FastPeer);
    push(Mainline, Mainline, Kind::FastPeer, Kind::Aria2);
    push(Ours, Mainline, Kind::FastPeer, Kind::Aria2);

    for (node, seeder) in [(Libtorrent, Kind::Libtorrent), (Mainline, Kind::Aria2)] {
        let case = Case { route: Route::Dht(Nodes::all(node)), ..Case::new(seeder, Kind::FastPeer) };
        for want in [Want::Lookup, Want::Peers] {
            cases.push(Case { want, ..case.clone() });
        }
        for want in [Want::Metadata, Want::Peers] {
            cases.push(Case { want, magnet: true, ..case.clone() });
        }
    }
    cases
}

/// From a magnet link with a tracker, or with the address of a peer beside it.
fn metadata() -> Vec<Case> {
    let mut cases = Vec::new();
    for other in Kind::OTHERS {
        for pair in [Case::new(other, Kind::FastPeer), Case::new(Kind::FastPeer, other)] {
            let case = Case { content: Content::Folder, magnet: true, ..pair };
            let leecher = case.leechers[0];
            if leecher.takes_peers() {
                cases.push(Case { route: Route::Direct, ..case.clone() });
            }
            if leecher == Kind::FastPeer {
                cases.push(Case { route: Route::Direct, want: Want::Metadata, ..case.clone() });
            }
            cases.push(case);
        }
    }
    cases
}

/// From the address of a peer that has nothing, but knows who has.
fn peer_exchange() -> Vec<Case> {
    let pairs = [
        (Kind::Libtorrent, Kind::FastPeer),
        (Kind::FastPeer, Kind::Libtorrent),
        (Kind::FastPeer, Kind::Qbittorrent),
        (Kind::FastPeer, Kind::FastPeer),
    ];
    let case =
        |(between, leecher)| Case { route: Route::Pex(between), ..Case::new(Kind::Libtorrent, leecher) };
    pairs.map(case).to_vec()
}

/// From nothing, among hosts on one switch.
fn local_network() -> Vec<Case> {
    let mut cases = Vec::new();
    for other in Kind::OTHERS {
        for pair in [Case::new(other, Kind::FastPeer), Case::new(Kind::FastPeer, other)] {
            cases.push(Case { route: Route::Lsd, ..pair });
        }
    }
    let ipv6 = [
        Case::new(Kind::Libtorrent, Kind::FastPeer),
        Case::new(Kind::FastPeer, Kind::Libtorrent),
        Case::new(Kind::FastPeer, Kind::FastPeer),
    ];
    cases.extend(ipv6.map(|pair| Case { route: Route::Lsd, family: Family::V6, ..pair }));
    cases
}

/// Asks for each value by itself, so that a mistake in the tables above can't leave one out.
fn every_value_was_run(passed: &[Case]) -> Result<()> {
    let ran = |what: &str, matches: &dyn Fn(&Case) -> bool| {
        ensure!(passed.iter().any(matches), "{what} did not pass");
        Ok(())
    };
    let seeds = |case: &Case| case.seeder == Kind::FastPeer;
    let leeches = |case: &Case| case.leechers == [Kind::FastPeer];
    for node in [Node::FastPeer, Node::Libtorrent, Node::Mainline] {
        let route = Route::Dht(Nodes::all(node));
        ran(&format!("a seeder among nodes of {node:?}"), &|case| case.route == route && seeds(case))?;
        ran(&format!("a leecher among nodes of {node:?}"), &|case| case.route == route && leeches(case))?;
    }
    for other in Kind::OTHERS {
        let gives = |case: &Case| case.seeder == other && leeches(case);
        let gets = |case: &Case| case.leechers == [other] && seeds(case);
        ran(&format!("metadata from {other}"), &|case| case.magnet && gives(case))?;
        ran(&format!("metadata for {other}"), &|case| case.magnet && gets(case))?;
        ran(&format!("a call by {other}"), &|case| case.route == Route::Lsd && gives(case))?;
        ran(&format!("a call for {other}"), &|case| case.route == Route::Lsd && gets(case))?;
    }
    for want in [Want::Lookup, Want::Metadata, Want::Peers] {
        ran(&format!("{want:?}"), &|case| case.want == want)?;
    }
    ran("hearing of peers", &|case| case.route == Route::Pex(Kind::Libtorrent) && leeches(case))?;
    ran("telling of peers", &|case| case.route == Route::Pex(Kind::FastPeer) && !leeches(case))?;
    let ipv6 = |case: &Case| (case.route, case.family) == (Route::Lsd, Family::V6);
    ran("calling over IPv6", &|case| ipv6(case) && leeches(case) && !seeds(case))?;
    ran("being called over IPv6", &|case| ipv6(case) && seeds(case) && !leeches(case))
}
