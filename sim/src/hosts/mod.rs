//! Hosts that run the real driver over turmoil's network.
//!
//! A [`World`] has a few hosts: clients with a disk in memory that outlives them, trackers, and whatever else a scenario
//! makes up. Time is virtual, and everything that happens follows from one seed, so that a run can be repeated; what
//! happened is written down in a [`Trace`].
//!
//! This is where connects, accepts and resets race, where hosts crash and come back, and where sessions stop. turmoil
//! has no bandwidth: a scenario that needs time sets a session's own limits. Rates, fairness and crowds belong to the
//! other simulator.

mod client;
mod content;
mod disk;
mod net;
mod proxy;
mod trace;
mod tracker;

pub use client::{Client, PORT, Setup};
pub use content::Content;
pub use disk::{SimDisk, Storage};
pub use net::{SimListener, SimNet, SimStream, SimUdp, Sought};
pub use proxy::SOCKS_PORT;
pub use trace::Trace;
pub use tracker::{Protocol, Tracker};

use fast_peer_core::rng::Rng;
use fast_peer_io::net::{Exempt, Proxy};
use net::Names;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use tracing::info;
use turmoil::{Builder, Sim};

/// The hosts, and the network between them.
pub struct World {
    sim: Sim<'static>,
    trace: Trace,
    rng: Rng,
    names: Names,
    family: Family,
    hosts: u8,
}

/// The address family of a world's hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What a crash does to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process dies: what it wrote stays.
    Process,
    /// The power fails: any part of what was not synced is lost.
    Power,
}

/// Runs a scenario twice from one seed, and demands the same trace of both.
///
/// # Panics
/// If the scenario does; if the two differ; if an error was logged. The seed is printed before.
pub fn check(seed: u64, family: Family, scenario: impl Fn(&mut World)) {
    println!("seed {seed}");
    let first = run(seed, family, &scenario).text();
    if let Some(error) = first.lines().find(|line| line.starts_with("ERROR")) {
        panic!("seed {seed}: {error}");
    }
    let second = run(seed, family, &scenario).text();
    let differs = first.lines().zip(second.lines()).enumerate().find(|(_, (a, b))| a != b);
    if let Some((number, (a, b))) = differs {
        panic!("seed {seed}: line {number} differs\n  first:  {a}\n  second: {b}");
    }
    assert_eq!(first.len(), second.len(), "seed {seed}: one run ends earlier");
}

/// Runs a scenario once.
pub fn run(seed: u64, family: Family, scenario: impl FnOnce(&mut World)) -> Trace {
    let trace = Trace::default();
    let tail = TailOnPanic(&trace);
    trace.of(|| scenario(&mut World::new(seed, family, trace.clone())));
    drop(tail);
    trace
}

impl World {
    fn new(seed: u64, family: Family, trace: Trace) -> Self {
        let sim = Builder::new()
            .rng_seed(seed)
            .epoch(SystemTime::UNIX_EPOCH + EPOCH)
            .simulation_duration(Duration::from_secs(24 * 60 * 60))
            .tick_duration(Duration::from_millis(1))
            .min_message_latency(Duration::from_millis(2))
            .max_message_latency(Duration::from_millis(30))
            .enable_random_order()
            // A listener with this many remotes waiting would panic.
            .tcp_capacity(4096)
            .udp_capacity(1024)
            .build();
        Self { sim, trace, rng: Rng::from_number(seed), names: Names::default(), family, hosts: 0 }
    }

    /// Random numbers for the scenario itself.
    pub fn rng(&self, label: &str) -> Rng {
        self.rng.fork("scenario").fork(label)
    }

    /// What has happened so far.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// A torrent with these trackers, and its bytes.
    pub fn content(&self, trackers: &[&str]) -> Rc<Content> {
        Rc::new(Content::new(&mut self.rng.fork("content"), trackers))
    }

    /// The address of the host that is added as the `number`th, counted from one.
    pub fn ip(&self, number: u8) -> IpAddr {
        // Each in a network of its own, as strangers are.
        match self.family {
            Family::V4 => Ipv4Addr::new(20, 0, number, 1).into(),
            Family::V6 => Ipv6Addr::new(0x2600, 0, u16::from(number), 0, 0, 0, 0, 1).into(),
        }
    }

    /// Adds a client, and starts it.
    pub fn client(&mut self, name: &str, setup: Setup) -> Client {
        let client =
            Client::new(self.ip(self.hosts + 1), setup, self.net(name), self.rng.fork("client").fork(name));
        let runs = client.clone();
        self.host(name, move |_| runs.clone().run());
        client
    }

    /// Adds a tracker, and starts it.
    pub fn tracker(&mut self, name: &str, protocol: Protocol) -> Tracker {
        let tracker = Tracker::new(name, protocol, self.rng.fork("tracker").fork(name));
        let (runs, is_ipv6) = (tracker.clone(), self.family == Family::V6);
        self.host(name, move |net| runs.clone().run(net, is_ipv6));
        tracker
    }

    /// Adds a SOCKS5 proxy, starts it, and says how a client reaches it. It looks names up.
    pub fn proxy(&mut self, name: &str) -> (IpAddr, Proxy) {
        let ip = self.host(name, proxy::serve);
        let (host, exempt) = (name.to_owned(), Exempt::default());
        (ip, Proxy { host, port: SOCKS_PORT, login: None, looks_up: true, exempt })
    }

    /// Ends whatever a host runs, in the middle of what it does.
    pub fn kill(&mut self, host: IpAddr) {
        info!("{host} crashes");
        self.sim.crash(host);
    }

    /// Starts a host's software again.
    pub fn revive(&mut self, host: IpAddr) {
        info!("{host} starts again");
        self.sim.bounce(host);
    }

    /// Adds a host that does what the scenario makes up; the others can look up its name.
    pub fn host<F>(&mut self, name: &str, software: impl Fn(SimNet) -> F + 'static) -> IpAddr
    where
        F: Future<Output = turmoil::Result> + 'static,
    {
        let (ip, net) = (self.ip(self.hosts + 1), self.net(name));
        info!("{name} is {ip}");
        self.hosts += 1;
        self.names.borrow_mut().insert(name.to_owned(), ip);
        self.sim.host(ip, move || software(net.clone()));
        ip
    }

    /// Lets time pass until `met` is true, and says how long that took.
    ///
    /// # Panics
    /// If it takes longer than `limit`.
    pub fn until(&mut self, what: &str, limit: Duration, mut met: impl FnMut() -> bool) -> Duration {
        let start = self.sim.elapsed();
        while !met() {
            assert!(self.sim.elapsed() - start < limit, "{what}: not within {limit:?}");
            self.sim.step().unwrap_or_else(|error| panic!("{what}: a host failed: {error}"));
        }
        let took = self.sim.elapsed() - start;
        info!("{what}: after {took:?}, at {:?}", self.sim.elapsed());
        took
    }

    /// Lets so much time pass.
    pub fn pass(&mut self, time: Duration) {
        let end = self.sim.elapsed() + time;
        while self.sim.elapsed() < end {
            self.sim.step().unwrap_or_else(|error| panic!("a host failed: {error}"));
        }
    }

    /// Ends the client's process in the middle of what it does. Its peers learn of it, as its system tells them.
    pub fn crash(&mut self, client: &Client, crash: Crash) {
        info!("{} crashes: {crash:?}", client.ip());
        self.sim.crash(client.ip());
        client.died();
        if crash == Crash::Power {
            client
                .disk()
                .cut_power(&mut self.rng.fork_nth("power cut", self.sim.elapsed().as_micros() as u64));
        }
    }

    /// Starts a client that crashed or ended again.
    pub fn restart(&mut self, client: &Client) {
        info!("{} starts again", client.ip());
        client.died();
        self.sim.bounce(client.ip());
    }

    /// From now on nothing arrives that one of the two sends to the other.
    pub fn hold(&mut self, a: IpAddr, b: IpAddr) {
        info!("{a} and {b} do not reach each other");
        self.sim.hold(a, b);
    }

    /// What was held back arrives, and what is sent from now on.
    pub fn release(&mut self, a: IpAddr, b: IpAddr) {
        info!("{a} and {b} reach each other again");
        self.sim.release(a, b);
    }

    /// The network of the host that is added next.
    fn net(&self, name: &str) -> SimNet {
        SimNet::new(self.ip(self.hosts + 1), Rc::clone(&self.names), self.rng.fork("net").fork(name))
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("names", &self.names).finish_non_exhaustive()
    }
}

/// Shows what happened last when a scenario fails.
struct TailOnPanic<'t>(&'t Trace);

impl Drop for TailOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = self.0.text();
            let lines: Vec<_> = text.lines().collect();
            let tail = &lines[lines.len().saturating_sub(TAIL)..];
            eprintln!("the last of {} lines:\n{}", lines.len(), tail.join("\n"));
        }
    }
}

/// Some day in 2001.
const EPOCH: Duration = Duration::from_secs(1_000_000_000);

/// Lines that are shown of a run that failed.
const TAIL: usize = 60;
