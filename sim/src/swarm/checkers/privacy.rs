//! What may not be told: INV-S-29.

use super::{Observation, Verdict, hold};

pub(super) fn observe(observation: &Observation<'_>) -> Verdict {
    let Observation::Datagram { to, private } = observation else { return Ok(()) };
    hold(private.is_none(), "INV-S-29", || {
        format!("a datagram to {to}, where no tracker is, names a private torrent: {private:?}")
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::expect_breach;
    use super::{Observation, observe};
    use fast_peer_core::id::TorrentId;

    #[test]
    fn a_private_torrent_is_no_business_of_strangers() {
        let to = ([11, 0, 0, 1], 6881).into();
        observe(&Observation::Datagram { to, private: None }).unwrap();
        expect_breach(observe(&Observation::Datagram { to, private: Some(TorrentId(0)) }), "INV-S-29");
    }
}
