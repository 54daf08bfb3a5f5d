//! What two clients come to, for each pair of what they may want.

use core::time::Duration;
use fast_peer_core::mse::{Method, Methods};
use fast_peer_core::session::{Encryption, Policy};
use sim::swarm::{HostId, Pair, Plan, World};

const WANTS: [(&str, Encryption); 4] = [
    ("off", both(Policy::Off, Methods::ALL)),
    ("prefer", both(Policy::Prefer, Methods::ALL)),
    ("require", both(Policy::Require, Methods::ALL)),
    ("require RC4", both(Policy::Require, Methods::RC4)),
];

/// What the dialler (down) and the acceptor (across) come to.
const TABLE: [[End; 4]; 4] = [
    [End::Plain, End::Plain, End::Nothing, End::Nothing],
    [
        End::Plain,
        End::Obfuscated(Method::Plain),
        End::Obfuscated(Method::Plain),
        End::Obfuscated(Method::Rc4),
    ],
    [
        End::Nothing,
        End::Obfuscated(Method::Plain),
        End::Obfuscated(Method::Plain),
        End::Obfuscated(Method::Rc4),
    ],
    [End::Nothing, End::Obfuscated(Method::Rc4), End::Obfuscated(Method::Rc4), End::Obfuscated(Method::Rc4)],
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Nothing,
    Obfuscated(Method),
    Plain,
}

const fn both(policy: Policy, methods: Methods) -> Encryption {
    Encryption { incoming: policy, outgoing: policy, methods }
}

/// How the one connection of a client is sent, if there is one on which handshakes were exchanged.
fn end(world: &World, host: HostId) -> Option<End> {
    let session = world.session(host);
    let mut peers = session.torrents().flat_map(|(_, torrent)| torrent.peers());
    let open = peers.find(|(peer, _)| peer.is_open())?;
    Some(session.obfuscation(open.0.conn()).map_or(End::Plain, End::Obfuscated))
}

/// Row P-19: 16 pairs; no policy that forces obfuscation ever goes without.
#[test]
fn every_pair_of_policies_comes_to_what_the_table_says() {
    for ((dialler, ours), expected) in WANTS.iter().zip(TABLE) {
        for ((acceptor, theirs), expected) in WANTS.iter().zip(expected) {
            let plan = Plan::small(32 << 10, 200_000);
            let mut pair = Pair::with_encryption(&plan, &[], [*theirs, *ours], true);
            let (a, b, torrent) = (pair.a, pair.b, pair.torrent);
            let mut seen = End::Nothing;
            let until = pair.world.now() + Duration::from_secs(60);
            pair.world.run_to(until, |world| {
                if let (Some(one), Some(other)) = (end(world, a), end(world, b)) {
                    assert_eq!(one, other, "{dialler} dials {acceptor}");
                    seen = one;
                }
                world.is_complete(b, torrent)
            });
            assert!(
                pair.world.violation().is_none(),
                "{dialler} dials {acceptor}: {:?}",
                pair.world.violation()
            );
            println!("{dialler} dials {acceptor}: {seen:?}");
            assert_eq!(seen, expected, "{dialler} dials {acceptor}");
            assert_eq!(
                pair.world.is_complete(b, torrent),
                seen != End::Nothing,
                "{dialler} dials {acceptor}"
            );
        }
    }
}
