//! fast-peer with every client that others wrote: as the one that downloads and as the one that seeds.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use peers::case::{Case, Route};
use peers::client::{Kind, Link};
use peers::content::Content;
use peers::namespace::Family;
use peers::runner;

fn main() -> ExitCode {
    runner::run(cases(), every_value_was_run)
}

/// One content over all routes and address families, and all contents over one route: for each client and both roles.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for other in Kind::OTHERS {
        for pair in [Case::new(other, Kind::FastPeer), Case::new(Kind::FastPeer, other)] {
            for content in Content::ALL {
                cases.push(Case { content, ..pair.clone() });
            }
            cases.push(Case { route: Route::UdpTracker, ..pair.clone() });
            cases.push(Case { family: Family::V6, ..pair.clone() });
            if pair.leechers[0].takes_peers() {
                cases.push(Case { route: Route::Direct, ..pair.clone() });
                cases.push(Case { route: Route::Direct, family: Family::V6, ..pair.clone() });
            }
            for link in ENCRYPTED.into_iter().filter(|link| other.speaks(*link)) {
                cases.push(Case { link, content: Content::Folder, ..pair.clone() });
            }
            for (family, route) in over_utp(other) {
                let content = Content::LargePieces;
                cases.push(Case { link: Link::Utp, family, route, content, ..pair.clone() });
            }
        }
    }
    cases.push(Case { leechers: Kind::OTHERS.to_vec(), ..Case::new(Kind::FastPeer, Kind::FastPeer) });
    let mixed =
        [Kind::Libtorrent, Kind::FastPeer, Kind::Rqbit, Kind::FastPeer, Kind::Libtorrent, Kind::Transmission];
    cases.push(Case { leechers: mixed.to_vec(), mixed: true, ..Case::new(Kind::FastPeer, Kind::FastPeer) });
    let everyone = [&Kind::OTHERS[..], &[Kind::FastPeer]].concat();
    cases.push(Case { leechers: everyone, ..Case::new(Kind::Libtorrent, Kind::FastPeer) });
    cases
}

/// The address families over which a client speaks uTP, each with a tracker that takes no TCP between hosts.
fn over_utp(other: Kind) -> impl Iterator<Item = (Family, Route)> {
    let families = [(Family::V4, Route::UdpTracker), (Family::V6, Route::HttpTracker)];
    families.into_iter().filter(move |(family, _)| {
        other.speaks(Link::Utp) && (other != Kind::Transmission || *family == Family::V4)
    })
}

/// Asks for each value by itself, so that a mistake in the table above can't leave one out.
fn every_value_was_run(passed: &[Case]) -> Result<()> {
    for other in Kind::OTHERS {
        for (seeder, leecher) in [(other, Kind::FastPeer), (Kind::FastPeer, other)] {
            let ran = |what: &str, matches: &dyn Fn(&Case) -> bool| {
                let mut pairs =
                    passed.iter().filter(|case| case.seeder == seeder && case.leechers == [leecher]);
                ensure!(pairs.any(matches), "{seeder} to {leecher}: {what} did not pass");
                Ok(())
            };
            for content in Content::ALL {
                ran(&format!("{content:?}"), &|case| case.content == content)?;
            }
            ran("tracker over HTTP", &|case| case.route == Route::HttpTracker)?;
            ran("tracker over UDP", &|case| case.route == Route::UdpTracker)?;
            for link in ENCRYPTED.into_iter().filter(|link| other.speaks(*link)) {
                ran(&format!("{link:?}"), &|case| case.link == link)?;
            }
            for (family, _) in over_utp(other) {
                ran("uTP", &|case| (case.link, case.family) == (Link::Utp, family))?;
            }
            ran("IPv4", &|case| case.family == Family::V4)?;
            ran("IPv6", &|case| case.family == Family::V6)?;
            if !matches!(leecher, Kind::Aria2 | Kind::Transmission) {
                ran("direct", &|case| case.route == Route::Direct)?;
            }
        }
    }
    ensure!(passed.iter().any(|case| case.mixed), "no swarm with mixed links passed");
    for seeder in [Kind::FastPeer, Kind::Libtorrent] {
        let swarm = |case: &&Case| case.seeder == seeder && case.leechers.len() >= Kind::OTHERS.len();
        ensure!(passed.iter().any(|case| swarm(&case)), "no swarm with {seeder} as its seeder passed");
    }
    Ok(())
}

/// The links on which both clients insist on encryption.
const ENCRYPTED: [Link; 3] = [Link::Encrypted, Link::Plaintext, Link::Rc4];
