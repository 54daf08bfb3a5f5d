//! From the operating system's words to core's.

use super::ProxyDown;
use super::lookup::NoNameServer;
use fast_peer_core::session::NetError;
use std::io::{self, ErrorKind};

/// What an error of a socket means to the session.
pub fn net_error(error: &io::Error) -> NetError {
    if error.get_ref().is_some_and(|inner| inner.is::<ProxyDown>()) {
        return NetError::Proxy;
    }
    match error.kind() {
        ErrorKind::AddrNotAvailable | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            NetError::Unreachable
        }
        ErrorKind::ConnectionRefused => NetError::Refused,
        ErrorKind::BrokenPipe
        | ErrorKind::ConnectionAborted
        | ErrorKind::ConnectionReset
        | ErrorKind::NotConnected
        | ErrorKind::UnexpectedEof => NetError::Reset,
        ErrorKind::TimedOut => NetError::TimedOut,
        _ => NetError::Other(error.raw_os_error().unwrap_or(0)),
    }
}

/// What an error of [`Net::resolve`](super::Net::resolve) means to the session.
pub fn resolve_error(error: &io::Error) -> NetError {
    if NoNameServer::is_in(error) {
        NetError::NoNameServer
    } else if error.raw_os_error().is_none() && error.kind() != ErrorKind::TimedOut {
        NetError::NoSuchName
    } else {
        net_error(error)
    }
}
