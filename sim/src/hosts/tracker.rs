//! A host that is a tracker.

use super::net::SimNet;
use fast_peer_core::id::InfoHash;
use fast_peer_core::machine::Timestamp;
use fast_peer_core::rng::Rng;
use fast_peer_core::tracker::{ScrapeCounts, TrackerServer};
use fast_peer_io::http::{serve_http, serve_udp};
use fast_peer_io::net::Net as _;
use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

/// How a tracker is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// BEP 3.
    Http,
    /// BEP 15.
    Udp,
}

/// A host that is a tracker, as the scenario sees it: between two ticks.
#[derive(Clone, Debug)]
pub struct Tracker(Rc<Host>);

#[derive(Debug)]
struct Host {
    name: String,
    protocol: Protocol,
    server: RefCell<TrackerServer>,
    /// Who said that they stop.
    stopped: RefCell<Vec<IpAddr>>,
}

impl Tracker {
    pub(super) fn new(name: &str, protocol: Protocol, rng: Rng) -> Self {
        let server = RefCell::new(TrackerServer::new(INTERVAL, rng));
        Self(Rc::new(Host { name: name.to_owned(), protocol, server, stopped: RefCell::default() }))
    }

    /// Where to announce to.
    pub fn url(&self) -> String {
        let scheme = match self.0.protocol {
            Protocol::Http => "http",
            Protocol::Udp => "udp",
        };
        format!("{scheme}://{}:{PORT}/announce", self.0.name)
    }

    /// The peers that it would name now.
    pub fn counts(&self, torrent: InfoHash) -> ScrapeCounts {
        let counts = self.0.server.borrow_mut().counts(Timestamp::ZERO, torrent);
        counts.unwrap_or_default()
    }

    /// Who said that they stop, in order.
    pub fn stopped(&self) -> Vec<IpAddr> {
        self.0.stopped.borrow().clone()
    }

    pub(super) async fn run(self, net: SimNet, is_ipv6: bool) -> turmoil::Result {
        let ip: IpAddr = if is_ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let local = SocketAddr::new(ip, PORT);
        match self.0.protocol {
            Protocol::Http => {
                let listener = net.listen(local).await?;
                serve_http(listener, move |target, from| {
                    self.note(from, target.contains("event=stopped"));
                    (200, self.0.server.borrow_mut().handle_http(now(), target, from.ip()))
                })
                .await;
                Ok(())
            }
            Protocol::Udp => {
                let error = serve_udp(net.udp(local).await?, move |data, from| {
                    // BEP 15: the action of an announce is 1, its event is at 80, and 3 means stopped.
                    self.note(from, data.get(8..12) == Some(&[0, 0, 0, 1]) && data.get(83) == Some(&3));
                    self.0.server.borrow_mut().handle_udp(now(), data, from)
                })
                .await;
                Err(error.into())
            }
        }
    }

    fn note(&self, from: SocketAddr, stops: bool) {
        if stops {
            self.0.stopped.borrow_mut().push(from.ip());
        }
    }
}

fn now() -> Timestamp {
    let elapsed = turmoil::sim_elapsed().expect("a tracker answers within the simulation");
    Timestamp::from_micros(elapsed.as_micros() as u64)
}

const INTERVAL: Duration = Duration::from_secs(120);

const PORT: u16 = 6969;
