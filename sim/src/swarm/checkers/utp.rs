//! What a client sends over uTP: INV-S-38.
//!
//! It acknowledges what came and no more, sends the same bytes under the same number each time, and until an address is
//! proven, by a packet that acknowledges the first answer, nothing of what its connections say goes there, nor more bytes
//! than came from there.

use super::{Observation, Verdict, hold};
use core::net::SocketAddr;
use fast_peer_core::utp::{Kind, Packet};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

#[derive(Debug, Default)]
pub(super) struct Utp {
    /// By remote and the name in the SYN; one that the client opened, and one that the remote did.
    opened: BTreeMap<(SocketAddr, u16), Stream>,
    accepted: BTreeMap<(SocketAddr, u16), Stream>,
    remotes: BTreeMap<SocketAddr, Remote>,
}

/// One stream, as both clients' packets show it.
#[derive(Debug, Default)]
struct Stream {
    proven: bool,
    /// Our first answer to a SYN.
    answer: Option<u16>,
    /// The last number up to which all came.
    came: Option<u16>,
    ahead: BTreeSet<u16>,
    /// What was sent under each of the last numbers.
    sent: BTreeMap<u16, u64>,
}

#[derive(Debug, Default)]
struct Remote {
    trusted: bool,
    bytes_in: u64,
    bytes_out: u64,
}

impl Utp {
    pub(super) fn observe(&mut self, observation: &Observation<'_>) -> Verdict {
        match *observation {
            Observation::UtpCame { from, data } => {
                let remote = self.remotes.entry(from).or_default();
                remote.bytes_in += data.len() as u64;
                if let Some(packet) = Packet::parse(data) {
                    self.on_came(from, &packet);
                }
                Ok(())
            }
            Observation::UtpSent { to, data } => match Packet::parse(data) {
                Some(packet) => self.on_sent(to, &packet, data.len()),
                None => hold(false, "INV-S-38", || format!("it sends {to} what nobody can read")),
            },
            _ => Ok(()),
        }
    }

    fn on_came(&mut self, from: SocketAddr, packet: &Packet<'_>) {
        let header = packet.header;
        let name = header.connection;
        if header.kind == Kind::Syn {
            let stream = self.accepted.entry((from, name)).or_default();
            if stream.came.is_none_or(|came| stream.answer.is_none() || came != header.seq) && !stream.proven
            {
                *stream = Stream { came: Some(header.seq), ..Stream::default() };
            }
            return;
        }
        if let Some(stream) = self.opened.get_mut(&(from, name)) {
            if header.kind == Kind::State && stream.came.is_none() {
                stream.came = Some(header.seq.wrapping_sub(1));
                stream.proven = true;
                self.remotes.entry(from).or_default().trusted = true;
            }
            stream.take(header.kind, header.seq);
        }
        if let Some(stream) = self.accepted.get_mut(&(from, name.wrapping_sub(1))) {
            if stream.answer.is_some_and(|answer| header.ack == answer.wrapping_sub(1)) {
                stream.proven = true;
                self.remotes.entry(from).or_default().trusted = true;
            }
            stream.take(header.kind, header.seq);
        }
    }

    fn on_sent(&mut self, to: SocketAddr, packet: &Packet<'_>, len: usize) -> Verdict {
        let header = packet.header;
        let name = header.connection;
        let remote = self.remotes.entry(to).or_default();
        if header.kind == Kind::Syn {
            self.opened.entry((to, name)).or_default();
            remote.trusted = true;
            return Ok(());
        }
        remote.bytes_out += len as u64;
        let (given, had) = (remote.bytes_out, remote.bytes_in);
        hold(remote.trusted || given <= had, "INV-S-38", || {
            format!("it sends {given} bytes to the unproven {to} for {had}")
        })?;
        if header.kind == Kind::Reset {
            return Ok(());
        }
        let stream = match self.opened.get_mut(&(to, name.wrapping_sub(1))) {
            Some(stream) => stream,
            None => match self.accepted.get_mut(&(to, name)) {
                Some(stream) => stream,
                None => {
                    return hold(false, "INV-S-38", || format!("it sends {to} a packet of no stream"));
                }
            },
        };
        if header.kind == Kind::State && stream.answer.is_none() {
            stream.answer = Some(header.seq);
        }
        let says = |what: &str| format!("to {to} it {what} in {:?} {}", header.kind, header.seq);
        let upper = header.kind != Kind::State;
        hold(stream.proven || !upper, "INV-S-38", || says("tells an unproven address something"))?;
        let beyond = stream.came.is_none_or(|came| header.ack.wrapping_sub(came).cast_signed() > 0);
        hold(!beyond, "INV-S-38", || says("acknowledges what did not come"))?;
        let first = header.ack.wrapping_add(2);
        for (byte, mask) in packet.sack.iter().enumerate() {
            for bit in (0..8).filter(|bit| mask >> bit & 1 == 1) {
                let number = first.wrapping_add(byte as u16 * 8 + bit);
                let there = stream.has(number);
                hold(there, "INV-S-38", || says("says that it has what did not come"))?;
            }
        }
        if upper {
            let mut hasher = DefaultHasher::new();
            packet.payload.hash(&mut hasher);
            let hash = hasher.finish();
            let before = stream.sent.insert(header.seq, hash);
            hold(before.is_none_or(|before| before == hash), "INV-S-38", || says("changes what it said"))?;
            // The numbers go round.
            stream.sent.remove(&header.seq.wrapping_sub(0x8000));
        }
        Ok(())
    }
}

impl Stream {
    fn take(&mut self, kind: Kind, seq: u16) {
        let Some(came) = &mut self.came else { return };
        if matches!(kind, Kind::Data | Kind::Fin) && seq.wrapping_sub(*came).cast_signed() > 0 {
            self.ahead.insert(seq);
            while self.ahead.remove(&came.wrapping_add(1)) {
                *came = came.wrapping_add(1);
            }
        }
    }

    fn has(&self, number: u16) -> bool {
        self.ahead.contains(&number)
            || self.came.is_some_and(|came| number.wrapping_sub(came).cast_signed() <= 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::expect_breach;
    use super::{Kind, Observation, SocketAddr, Utp, Verdict};
    use bytes::BytesMut;
    use fast_peer_core::utp::Header;

    fn remote() -> SocketAddr {
        ([11, 0, 0, 2], 6881).into()
    }

    fn packet(kind: Kind, connection: u16, [seq, ack]: [u16; 2], payload: &[u8]) -> Vec<u8> {
        let mut data = BytesMut::new();
        Header { kind, connection, timestamp: 1, difference: 1, window: 1 << 16, seq, ack }.encode(&mut data);
        data.extend_from_slice(payload);
        data.to_vec()
    }

    fn came(utp: &mut Utp, kind: Kind, connection: u16, numbers: [u16; 2]) {
        let data = packet(kind, connection, numbers, &[]);
        utp.observe(&Observation::UtpCame { from: remote(), data: &data }).unwrap();
    }

    fn sent(utp: &mut Utp, kind: Kind, connection: u16, numbers: [u16; 2], payload: &[u8]) -> Verdict {
        let data = packet(kind, connection, numbers, payload);
        utp.observe(&Observation::UtpSent { to: remote(), data: &data })
    }

    /// A remote asked for a stream with the number 0xffff, and got our answer with 50.
    fn asked() -> Utp {
        let mut utp = Utp::default();
        came(&mut utp, Kind::Syn, 7, [0xffff, 0]);
        sent(&mut utp, Kind::State, 7, [50, 0xffff], &[]).unwrap();
        utp
    }

    fn proven() -> Utp {
        let mut utp = asked();
        came(&mut utp, Kind::Data, 8, [0, 49]);
        utp
    }

    #[test]
    fn s38_words_for_an_unproven_address() {
        let mut utp = asked();
        came(&mut utp, Kind::State, 8, [0, 48]);
        came(&mut utp, Kind::Data, 8, [0, 51]);
        expect_breach(sent(&mut utp, Kind::Data, 7, [50, 0xffff], b""), "INV-S-38");
        sent(&mut proven(), Kind::Data, 7, [50, 0], b"hello").unwrap();
    }

    #[test]
    fn s38_more_for_an_unproven_address_than_came() {
        let mut utp = asked();
        expect_breach(sent(&mut utp, Kind::State, 7, [50, 0xffff], &[]), "INV-S-38");
        let mut utp = Utp::default();
        expect_breach(sent(&mut utp, Kind::Reset, 7, [50, 0], &[]), "INV-S-38");
    }

    #[test]
    fn s38_an_acknowledgement_of_what_did_not_come() {
        let mut utp = proven();
        sent(&mut utp, Kind::State, 7, [50, 0], &[]).unwrap();
        expect_breach(sent(&mut utp, Kind::State, 7, [50, 1], &[]), "INV-S-38");
        came(&mut utp, Kind::Data, 8, [2, 49]);
        expect_breach(sent(&mut utp, Kind::State, 7, [50, 2], &[]), "INV-S-38");
        came(&mut utp, Kind::Data, 8, [1, 49]);
        sent(&mut utp, Kind::State, 7, [50, 2], &[]).unwrap();
    }

    #[test]
    fn s38_two_words_under_one_number() {
        let mut utp = proven();
        sent(&mut utp, Kind::Data, 7, [50, 0], b"one").unwrap();
        sent(&mut utp, Kind::Data, 7, [50, 0], b"one").unwrap();
        expect_breach(sent(&mut utp, Kind::Data, 7, [50, 0], b"two"), "INV-S-38");
    }

    #[test]
    fn s38_a_stream_that_it_opened() {
        let mut utp = Utp::default();
        sent(&mut utp, Kind::Syn, 7, [1, 0], &[]).unwrap();
        expect_breach(sent(&mut utp, Kind::Data, 8, [2, 0], b"early"), "INV-S-38");
        came(&mut utp, Kind::State, 7, [30, 1]);
        sent(&mut utp, Kind::Data, 8, [2, 29], b"now").unwrap();
        expect_breach(sent(&mut utp, Kind::State, 8, [3, 30], &[]), "INV-S-38");
        expect_breach(sent(&mut utp, Kind::State, 9, [3, 29], &[]), "INV-S-38");
    }
}
