//! Proof that whoever announces or puts something has received what was sent to the address it gives (BEP 5).

use super::node_id::NodeId;
use crate::machine::Timestamp;
use crate::rng::Rng;
use core::net::IpAddr;
use core::time::Duration;
use sha1::{Digest as _, Sha1};

/// What a node hands out in answers, and wants to see again in announces and puts.
pub type Token = [u8; 8];

/// Makes tokens and knows them again, without keeping any.
///
/// A token is a hash of a secret, the address, what is asked for, and the time in steps of [`STEP`]. One of this step or
/// the step before is good, so it lives for five to ten minutes.
pub struct Tokens {
    secret: [u8; 20],
}

impl Tokens {
    /// The secret is drawn from `rng`.
    pub fn new(mut rng: Rng) -> Self {
        let mut secret = [0; 20];
        rng.fill(&mut secret);
        Self { secret }
    }

    /// The token for who asks from `ip` about `target`.
    pub fn issue(&self, now: Timestamp, ip: IpAddr, target: NodeId) -> Token {
        self.token(step(now), ip, target)
    }

    /// Whether `token` was issued to `ip` about `target` not too long ago.
    pub fn accepts(&self, now: Timestamp, ip: IpAddr, target: NodeId, token: &[u8]) -> bool {
        let step = step(now);
        let good = [Some(step), step.checked_sub(1)];
        good.into_iter().flatten().any(|step| self.token(step, ip, target) == token)
    }

    fn token(&self, step: u64, ip: IpAddr, target: NodeId) -> Token {
        let hash = Sha1::new().chain_update(self.secret).chain_update(step.to_be_bytes());
        let hash = match ip.to_canonical() {
            IpAddr::V4(v4) => hash.chain_update(v4.octets()),
            IpAddr::V6(v6) => hash.chain_update(v6.octets()),
        };
        *hash.chain_update(target.0).finalize().first_chunk().expect("20 bytes hold 8")
    }
}

/// The secret stays out of logs.
impl core::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Tokens")
    }
}

fn step(now: Timestamp) -> u64 {
    now.as_micros() / STEP.as_micros() as u64
}

/// BEP 5: the secret changes every five minutes.
pub const STEP: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::{STEP, Tokens};
    use crate::dht::node_id::NodeId;
    use crate::machine::Timestamp;
    use crate::rng::Rng;
    use core::net::IpAddr;
    use core::time::Duration;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    const TARGET: NodeId = NodeId([1; 20]);

    #[test]
    fn a_token_is_good_for_its_address_and_target_alone() {
        let tokens = Tokens::new(Rng::from_number(1));
        let now = Timestamp::from_micros(1);
        let token = tokens.issue(now, ip("8.8.8.8"), TARGET);
        assert!(tokens.accepts(now, ip("8.8.8.8"), TARGET, &token));
        assert!(tokens.accepts(now, ip("::ffff:8.8.8.8"), TARGET, &token));
        assert!(!tokens.accepts(now, ip("8.8.8.9"), TARGET, &token), "stolen");
        assert!(!tokens.accepts(now, ip("8.8.8.8"), NodeId([2; 20]), &token), "for something else");
        assert!(
            !Tokens::new(Rng::from_number(2)).accepts(now, ip("8.8.8.8"), TARGET, &token),
            "of another node"
        );
        for wrong in [&b""[..], &token[..7], &[&token[..], &token[..1]].concat()] {
            assert!(!tokens.accepts(now, ip("8.8.8.8"), TARGET, wrong));
        }
    }

    proptest! {
        /// INV-S-32.
        #[test]
        fn a_token_lives_for_five_to_ten_minutes(at in 0..1_u64 << 40, later in 0..1_300_000_000_u64) {
            let tokens = Tokens::new(Rng::from_number(1));
            let (issued, used) = (Timestamp::from_micros(at), Timestamp::from_micros(at + later));
            let token = tokens.issue(issued, ip("2001:db8::1"), TARGET);
            let accepted = tokens.accepts(used, ip("2001:db8::1"), TARGET, &token);
            let age = Duration::from_micros(later);
            prop_assert!(accepted || age > STEP);
            prop_assert!(!accepted || age < 2 * STEP);
        }
    }
}
