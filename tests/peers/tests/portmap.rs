//! fast-peer behind a router, which it has let peers in: by PCP, NAT-PMP and UPnP, as miniupnpd speaks them.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use peers::router::{Speaks, seed_behind};

fn main() -> ExitCode {
    let trial = |name: &str, speaks| {
        Trial::test(name, move || seed_behind(speaks).map_err(|error| format!("{error:#}").into()))
    };
    let trials =
        vec![trial("nat-pmp", Speaks::NatPmp), trial("pcp", Speaks::Pcp), trial("upnp", Speaks::Upnp)];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
