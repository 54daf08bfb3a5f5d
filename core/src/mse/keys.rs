//! The secret that both ends of an obfuscated connection agree on, and what they make of it.

use super::rc4::Rc4;
use crate::id::InfoHash;
use crate::rng::Rng;
use crypto_bigint::modular::ConstMontyForm;
use crypto_bigint::{U192, U768, const_monty_params};
use sha1::{Digest as _, Sha1};

const_monty_params!(
    Prime,
    U768,
    "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74\
     020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f1437\
     4fe1356d6d51c245e485b576625e7ec6f44c42e9a63a36210000000000090563",
    "The field in which keys are exchanged."
);

type Element = ConstMontyForm<Prime, { U768::LIMBS }>;

/// The half of a key exchange that is ours.
#[derive(Clone)]
pub(super) struct Private(U192);

impl Private {
    pub(super) fn new(rng: &mut Rng) -> Self {
        let mut bytes = [0; 20];
        rng.fill(&mut bytes);
        Self::from_bytes(bytes)
    }

    pub(super) fn from_bytes(bytes: [u8; 20]) -> Self {
        let mut wide = [0; 24];
        wide[4..].copy_from_slice(&bytes);
        Self(U192::from_be_slice(&wide))
    }

    /// What the other end is told.
    pub(super) fn public(&self) -> [u8; KEY_LEN] {
        to_bytes(&self.power_of(&U768::from_u8(2)))
    }

    /// The secret, if the other end's key makes one that not everybody knows.
    pub(super) fn secret(&self, theirs: &[u8; KEY_LEN]) -> Option<Secret> {
        let theirs = U768::from_be_slice(theirs);
        let is_good = theirs > U768::ONE && theirs < Prime::largest();
        is_good.then(|| Secret(to_bytes(&self.power_of(&theirs))))
    }

    fn power_of(&self, base: &U768) -> U768 {
        Element::new(base).pow_bounded_exp(&self.0, PRIVATE_BITS).retrieve()
    }
}

impl Prime {
    /// One less than the prime: its powers are only itself and one.
    fn largest() -> U768 {
        use crypto_bigint::modular::ConstMontyParams as _;
        Self::PARAMS.modulus().as_ref().wrapping_sub(&U768::ONE)
    }
}

/// Says nothing of the key.
impl core::fmt::Debug for Private {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Private").finish_non_exhaustive()
    }
}

/// What both ends know and nobody else does.
#[derive(Clone)]
pub(super) struct Secret(pub(super) [u8; KEY_LEN]);

impl Secret {
    /// Where the initiator's padding ends.
    pub(super) fn mark(&self) -> [u8; 20] {
        hash(b"req1", &[&self.0])
    }

    /// What hides which torrent is meant, and tells it.
    pub(super) fn mask(&self, torrent: [u8; 20]) -> [u8; 20] {
        let mut masked = hash(b"req3", &[&self.0]);
        masked.iter_mut().zip(torrent).for_each(|(byte, other)| *byte ^= other);
        masked
    }

    /// The cipher of what the initiator sends.
    pub(super) fn initiators(&self, torrent: InfoHash) -> Rc4 {
        Rc4::new(&hash(b"keyA", &[&self.0, &torrent.0]))
    }

    /// The cipher of what the responder sends.
    pub(super) fn responders(&self, torrent: InfoHash) -> Rc4 {
        Rc4::new(&hash(b"keyB", &[&self.0, &torrent.0]))
    }
}

/// Says nothing of the secret.
impl core::fmt::Debug for Secret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

/// The name of a torrent in an initiator's first words. It does not depend on the connection.
pub fn torrent_mark(torrent: InfoHash) -> [u8; 20] {
    hash(b"req2", &[&torrent.0])
}

fn hash(label: &[u8; 4], parts: &[&[u8]]) -> [u8; 20] {
    let mut hash = Sha1::new_with_prefix(label);
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

fn to_bytes(number: &U768) -> [u8; KEY_LEN] {
    let mut bytes = [0; KEY_LEN];
    bytes.copy_from_slice(number.to_be_bytes().as_ref());
    bytes
}

/// The length of a public key.
pub(super) const KEY_LEN: usize = 96;

const PRIVATE_BITS: u32 = 160;

#[cfg(test)]
mod tests {
    use super::{KEY_LEN, Private, hash, torrent_mark};
    use crate::id::InfoHash;
    use alloc::format;
    use alloc::string::String;
    use sha1::{Digest as _, Sha1};

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn both_ends_come_to_one_secret() {
        let (a, b) = (Private::from_bytes([1; 20]), Private::from_bytes([2; 20]));
        assert_eq!(hex(&Sha1::digest(a.public())), "5bd409f611a4d480d9633c484980636997739ddf");
        assert_eq!(hex(&Sha1::digest(b.public())), "8320c6c7ff03ea7e6537478a479c81d869c79273");
        let secret = a.secret(&b.public()).unwrap();
        assert_eq!(secret.0, b.secret(&a.public()).unwrap().0);
        assert_eq!(hex(&Sha1::digest(secret.0)), "c7d24be603a528b6ee64e4823a5441fa36ef7f06");
        let torrent = InfoHash([0xaa; 20]);
        assert_eq!(hex(&secret.mark()), "0a6d483c3bc61484a210fa0f37d99062fd569483");
        let masked = secret.mask(torrent_mark(torrent));
        assert_eq!(hex(&masked), "6c6816e45dd786ccc916483dbf61bf2eac1d7b9b");
        assert_eq!(secret.mask(masked), torrent_mark(torrent), "a mask undoes itself");
        assert_eq!(hex(&hash(b"keyA", &[&secret.0, &torrent.0])), "d017ab94cbc5d92234869faada8c9f02cb960bdc");
        for (mut cipher, expected) in [
            (secret.initiators(torrent), "29f82066c2916234"),
            (secret.responders(torrent), "4e1a0ab34843e109"),
        ] {
            let mut zeros = [0; 8];
            cipher.apply(&mut zeros);
            assert_eq!(hex(&zeros), expected);
        }
    }

    #[test]
    fn keys_that_make_a_known_secret_are_refused() {
        let private = Private::from_bytes([3; 20]);
        let (mut zero, mut one, mut two) = ([0; KEY_LEN], [0; KEY_LEN], [0; KEY_LEN]);
        (one[KEY_LEN - 1], two[KEY_LEN - 1]) = (1, 2);
        let mut largest = super::to_bytes(&super::Prime::largest());
        assert!(private.secret(&zero).is_none() && private.secret(&one).is_none());
        assert!(private.secret(&largest).is_none() && private.secret(&[0xff; KEY_LEN]).is_none());
        largest[KEY_LEN - 1] -= 1;
        assert!(private.secret(&two).is_some() && private.secret(&largest).is_some());
        zero.fill(0x55);
        assert!(private.secret(&zero).is_some());
    }
}
