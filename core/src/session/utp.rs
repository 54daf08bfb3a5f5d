//! Streams of uTP.

use super::{Action, Session};
use crate::machine::Timestamp;
use crate::utp;
use bytes::Bytes;
use core::net::SocketAddr;

impl Session {
    pub(super) fn on_utp_datagram(&mut self, now: Timestamp, from: SocketAddr, data: Bytes) {
        if let Some(utp) = &mut self.utp {
            utp.handle_datagram(now, from, data, &mut self.pending.utp);
            self.drain_utp();
        }
    }

    pub(super) fn drain_utp(&mut self) {
        while let Some(action) = self.pending.utp.pop_front() {
            match action {
                utp::Action::Incoming { stream, .. } => {
                    if let Some(utp) = &mut self.utp {
                        utp.reset(stream, &mut self.pending.utp);
                    }
                }
                utp::Action::WantSend => self.actions.push_back(Action::WantSend),
                _ => {}
            }
        }
    }
}
