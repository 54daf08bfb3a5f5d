//! Under which topic of a trace an input or a decision stands.

use crate::swarm::trace::{Topic, Way};
use fast_peer_core::session::{Action, Event};

pub(super) fn topic_of(event: &Event) -> Topic {
    match event {
        Event::AddPeers { .. }
        | Event::CancelLookup { .. }
        | Event::LearnNodes { .. }
        | Event::Listening { .. }
        | Event::RemoveTorrent { .. }
        | Event::RestoreNodes { .. }
        | Event::SetIpFilter { .. }
        | Event::SetLimits { .. }
        | Event::Stop => Topic::Command,
        Event::Closed { .. } | Event::ConnectFailed { .. } | Event::Connected { .. } => Topic::Stream,
        Event::Datagram { .. }
        | Event::HttpDone { .. }
        | Event::Multicast { .. }
        | Event::NetworkChanged { .. }
        | Event::Resolved { .. }
        | Event::UpnpDone { .. } => Topic::Lookup,
        Event::DiskDone { .. } => Topic::Disk,
    }
}

pub(super) fn topic_of_action(action: &Action) -> Topic {
    match action {
        Action::Connect { .. } | Action::Disconnect { .. } => Topic::Stream,
        Action::Disk { .. } => Topic::Disk,
        Action::Http { .. } | Action::Multicast { .. } | Action::Resolve { .. } | Action::Upnp { .. } => {
            Topic::Lookup
        }
        Action::Notice(_) => Topic::Notice,
        Action::ReadCredit { .. } | Action::WantSend | Action::WantWrite { .. } => Topic::Bytes,
    }
}

pub(super) fn way_of(action: &Action) -> Way {
    match action {
        Action::Disk { .. } => Way::Within,
        _ => Way::Out,
    }
}
