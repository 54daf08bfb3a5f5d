//! Whether routers are asked to let peers in, and what came of it.

use crate::exit::Failure;
use crate::output::Output;
use fast_peer_core::portmap::{Mapping, Method, Mode, Protocol, Why};
use fast_peer_core::session::Notice;
use serde_json::{Value, json};

/// How to ask the router to let peers in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum PortMap {
    /// By PCP or NAT-PMP, or by UPnP where neither works
    Auto,
    /// By PCP or NAT-PMP
    NatPmp,
    /// By UPnP
    Upnp,
    /// Not at all
    Off,
}

impl PortMap {
    pub(crate) const fn mode(self) -> Mode {
        match self {
            Self::Auto => Mode::Auto,
            Self::NatPmp => Mode::NatPmp,
            Self::Upnp => Mode::Upnp,
            Self::Off => Mode::Off,
        }
    }
}

/// Logs what there is to say about the router, and those of others.
pub(crate) fn log(notice: &Notice) {
    if json_of(notice).is_some() || matches!(notice, Notice::HolepunchFailed { .. }) {
        tracing::info!("{notice}");
    }
}

/// Prints it, for who reads JSON.
pub(crate) fn tell(notice: &Notice, out: &mut Output) -> Result<(), Failure> {
    let Some(value) = json_of(notice).filter(|_| out.is_json()) else { return Ok(()) };
    out.json(&value)?;
    out.flush()
}

fn json_of(notice: &Notice) -> Option<Value> {
    Some(match notice {
        Notice::PortLost { protocol, why } => {
            json!({ "event": "port_lost", "protocol": protocol_name(*protocol), "why": why.to_string() })
        }
        Notice::PortMapped(Mapping { protocol, method, external_ip, external, lifetime }) => json!({
            "event": "port_mapped",
            "protocol": protocol_name(*protocol),
            "method": method_name(*method),
            "address": external_ip.map(|ip| ip.to_string()),
            "port": external,
            "lifetime": lifetime.as_secs(),
        }),
        Notice::PortNotMapped { tried, retry_in } => {
            let why = |(method, why): &(Method, Why)| json!({ "method": method_name(*method), "why": why.to_string() });
            let tried: Vec<Value> = tried.iter().map(why).collect();
            json!({ "event": "port_not_mapped", "tried": tried, "retry_in": retry_in.as_secs() })
        }
        _ => return None,
    })
}

const fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

const fn method_name(method: Method) -> &'static str {
    match method {
        Method::NatPmp => "nat-pmp",
        Method::Pcp => "pcp",
        Method::Upnp => "upnp",
    }
}
