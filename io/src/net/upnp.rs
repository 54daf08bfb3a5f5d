//! Asking a router by UPnP, which the library igd-next speaks.

use fast_peer_core::portmap::{Protocol, UpnpError, UpnpRequest};
use igd_next::aio::tokio::search_gateway;
use igd_next::{AddPortError, GatewayIpVersion, PortMappingProtocol, SearchError, SearchOptions};
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::time::timeout;

/// Looks for a router in the network of our address, and asks it.
pub(super) async fn ask(request: UpnpRequest, asked: &Cell<bool>) -> Result<Option<Ipv4Addr>, UpnpError> {
    match timeout(LIMIT, search_and_ask(request, asked)).await {
        Ok(result) => result,
        Err(_) => Err(UpnpError::Refused("the router takes too long".into())),
    }
}

async fn search_and_ask(request: UpnpRequest, asked: &Cell<bool>) -> Result<Option<Ipv4Addr>, UpnpError> {
    let local = match request {
        UpnpRequest::Map { local, .. } => *local.ip(),
        UpnpRequest::Unmap { local, .. } => local,
    };
    let mut options = SearchOptions::default();
    options.bind_addr = SocketAddr::new(local.into(), 0);
    options.timeout = Some(SEARCH_LIMIT);
    options.gateway_ip_version = GatewayIpVersion::V4;
    let router = search_gateway(options).await.map_err(|error| match error {
        SearchError::NoResponseWithinTimeout => UpnpError::NoRouter,
        error => refused(&error),
    })?;
    asked.set(true);
    match request {
        UpnpRequest::Map { local, protocol, external, lifetime_s } => {
            let mapped =
                router.add_port(kind(protocol), external, local.into(), lifetime_s, DESCRIPTION).await;
            mapped.map_err(|error| match error {
                AddPortError::PortInUse => UpnpError::Conflict,
                AddPortError::OnlyPermanentLeasesSupported => UpnpError::OnlyPermanent,
                error => refused(&error),
            })?;
            // The mapping is worth having also when the router does not tell where it is.
            Ok(match router.get_external_ip().await {
                Ok(IpAddr::V4(ip)) => Some(ip).filter(|ip| !ip.is_unspecified()),
                Ok(IpAddr::V6(_)) | Err(_) => None,
            })
        }
        UpnpRequest::Unmap { protocol, external, .. } => {
            router.remove_port(kind(protocol), external).await.map_err(|error| refused(&error))?;
            Ok(None)
        }
    }
}

fn kind(protocol: Protocol) -> PortMappingProtocol {
    match protocol {
        Protocol::Tcp => PortMappingProtocol::TCP,
        Protocol::Udp => PortMappingProtocol::UDP,
    }
}

fn refused(error: &dyn std::error::Error) -> UpnpError {
    UpnpError::Refused(error.to_string())
}

/// What routers show their owners.
const DESCRIPTION: &str = "fast-peer";

/// Routers answer within the three seconds that the question names.
const SEARCH_LIMIT: Duration = Duration::from_secs(4);

/// The whole conversation.
const LIMIT: Duration = Duration::from_secs(10);
