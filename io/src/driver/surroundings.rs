//! Watching what is around the host: its addresses, its router, and the time that it sleeps.

use super::calls::{self, Channel};
use super::hub::Hub;
use super::listen;
use crate::disk::Disk;
use crate::net::{Net, Surroundings};
use std::io::ErrorKind;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;
use tracing::{debug, warn};

/// Tells the session at once, and whenever something has changed, for ever.
///
/// Sockets on all addresses go on as addresses come and go, and those on one address when it is back; only the groups
/// of local networks have to be joined again. Those on an interface are dead when it is made anew, and are opened again,
/// at each look until all are: an address of IPv6 can be seen before it can be used.
///
/// What has changed counts when it is seen twice: an interface that is set up shows much that lasts for a moment.
pub(super) async fn watch<N: Net, D: Disk>(hub: Rc<Hub<N, D>>, listening: Vec<IpAddr>) {
    let (mut known, mut doubted): (Option<Surroundings>, Option<Surroundings>) = (None, None);
    let mut slept = None;
    let (mut opened_on, mut open) = (None, true);
    loop {
        let mut pause = LOOK_EVERY;
        match hub.net.surroundings() {
            Ok(found) => {
                let found = found.seen_from(&listening);
                let before = slept.replace(found.slept);
                let slept = before.map_or(Duration::ZERO, |before| found.slept.saturating_sub(before));
                if slept >= SLEEP_MIN {
                    debug!("the host slept for {slept:?}");
                    hub.add_sleep(slept);
                }
                if known.as_ref().is_some_and(|known| is_same(known, &found)) {
                    doubted = None;
                    if !open {
                        open = reopen(&hub, &listening, &found, &mut opened_on).await;
                    }
                } else if known.is_some() && !doubted.as_ref().is_some_and(|it| is_same(it, &found)) {
                    doubted = Some(found);
                    pause = LOOK_AGAIN;
                } else {
                    debug!("addresses {:?}, router {:?}", found.addresses, found.router);
                    let is_anew = known.is_some() && opened_on != found.interface;
                    if known.is_none() {
                        opened_on = found.interface;
                    } else {
                        let was = std::mem::replace(
                            &mut open,
                            reopen(&hub, &listening, &found, &mut opened_on).await,
                        );
                        if was && !open {
                            warn!("not listening everywhere on the interface; it is tried again");
                        }
                    }
                    (known, doubted) = (Some(found.clone()), None);
                    hear_router(&hub, &found);
                    // Sockets first: what is called into a network should leave by them.
                    if let Err(error) = calls::join(&hub).await {
                        debug!("not in the groups of the local network: {error}");
                    }
                    hub.turn(|turn| turn.network_changed(found.addresses, found.router, is_anew));
                }
            }
            // It never changes.
            Err(error) if error.kind() == ErrorKind::Unsupported => return,
            Err(error) => debug!("looking for this host's addresses: {error}"),
        }
        tokio::time::sleep(pause).await;
    }
}

/// Opens what should be open on an interface and is not, or all if that is another one than before. Tells whether
/// nothing is left to be opened.
async fn reopen<N: Net, D: Disk>(
    hub: &Rc<Hub<N, D>>,
    listening: &[IpAddr],
    found: &Surroundings,
    opened_on: &mut Option<u32>,
) -> bool {
    // What it had is gone with it, and comes back with it.
    if found.interface.is_none() {
        return true;
    }
    match listen::reopen(hub, listening, *opened_on != found.interface).await {
        Ok(all) => {
            *opened_on = found.interface;
            all
        }
        Err(error) => {
            debug!("not listening on the interface: {error}");
            false
        }
    }
}

/// But for the time of sleep.
fn is_same(one: &Surroundings, other: &Surroundings) -> bool {
    (&one.addresses, one.router, one.interface) == (&other.addresses, other.router, other.interface)
}

/// Routers call out that they have started: it matters to a session that has them let peers in.
fn hear_router<N: Net, D: Disk>(hub: &Hub<N, D>, found: &Surroundings) {
    let asks = found.router.is_some() && hub.state().session.port_mapper().is_some();
    let mut channels = hub.channels.borrow_mut();
    if asks {
        channels.insert(Channel::Router);
    } else {
        channels.remove(&Channel::Router);
    }
}

/// How often it is looked. It costs some system calls.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// How soon it is looked once more after a change.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Less is the time between two readings of clocks.
const SLEEP_MIN: Duration = Duration::from_secs(1);
