//! Watching what is around the host: its addresses, its router, and the time that it sleeps.

use super::calls::{self, Channel};
use super::hub::Hub;
use crate::disk::Disk;
use crate::net::{Net, Surroundings};
use std::io::ErrorKind;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;
use tracing::debug;

/// Tells the session at once, and whenever something has changed, for ever.
///
/// Sockets on all addresses go on as addresses come and go, and those on one address when it is back; only the groups
/// of local networks have to be joined again.
pub(super) async fn watch<N: Net, D: Disk>(hub: Rc<Hub<N, D>>, listening: Vec<IpAddr>) {
    let mut known: Option<Surroundings> = None;
    loop {
        match hub.net.surroundings() {
            Ok(found) => {
                let found = found.seen_from(&listening);
                let before = known.replace(found.clone());
                let slept = before.as_ref().map_or(Duration::ZERO, |it| found.slept.saturating_sub(it.slept));
                if slept >= SLEEP_MIN {
                    debug!("the host slept for {slept:?}");
                    hub.add_sleep(slept);
                }
                let same = |it: &Surroundings| (&it.addresses, it.router) == (&found.addresses, found.router);
                if !before.as_ref().is_some_and(same) {
                    debug!("addresses {:?}, router {:?}", found.addresses, found.router);
                    hear_router(&hub, &found);
                    // Sockets first: what is called into a network should leave by them.
                    if let Err(error) = calls::join(&hub).await {
                        debug!("not in the groups of the local network: {error}");
                    }
                    hub.turn(|turn| turn.network_changed(found.addresses, found.router));
                }
            }
            // It never changes.
            Err(error) if error.kind() == ErrorKind::Unsupported => return,
            Err(error) => debug!("looking for this host's addresses: {error}"),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
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

/// Less is the time between two readings of clocks.
const SLEEP_MIN: Duration = Duration::from_secs(1);
