//! Passwords, kept as PBKDF2-HMAC-SHA256, and comparing secrets.

use hmac::{Hmac, Mac};
use sha2::Sha256;
use uuid::Uuid;

/// Few, because this is a test double whose accounts guard nothing; many enough to be the real thing in kind.
const ITERATIONS: u32 = 1_000;

/// A fresh salt, and the hash of the password with it.
pub(super) fn hashed(password: &str) -> (Vec<u8>, Vec<u8>) {
    let salt = Uuid::new_v4().as_bytes().to_vec();
    let hash = pbkdf2(password.as_bytes(), &salt, ITERATIONS);
    (salt, hash.to_vec())
}

/// Whether the password has this hash.
pub(super) fn matches(password: &str, salt: &[u8], hash: &[u8]) -> bool {
    same(&pbkdf2(password.as_bytes(), salt, ITERATIONS), hash)
}

/// Whether two secrets are the same, without telling by the time where they differ: their MACs under a key of the moment are
/// compared in constant time.
pub(super) fn same(one: &[u8], other: &[u8]) -> bool {
    let key = prf(Uuid::new_v4().as_bytes());
    key.clone().chain_update(one).verify(&key.chain_update(other).finalize().into_bytes()).is_ok()
}

/// The first block of PBKDF2, which is all that a hash of 32 bytes needs.
fn pbkdf2(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 32] {
    let prf = prf(password);
    let mut block: [u8; 32] = prf.clone().chain_update(salt).chain_update(1_u32.to_be_bytes()).finalize().into_bytes().into();
    let mut sum = block;
    for _ in 1..iterations {
        block = prf.clone().chain_update(block).finalize().into_bytes().into();
        for (sum, byte) in sum.iter_mut().zip(block) {
            *sum ^= byte;
        }
    }
    sum
}

fn prf(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pbkdf2_gives_the_published_vector() {
        // RFC 7914, section 11: the first 32 of its 64 bytes.
        let hex = pbkdf2(b"passwd", b"salt", 1).map(|byte| format!("{byte:02x}")).concat();
        assert_eq!(hex, "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc");
    }

    #[test]
    fn only_the_right_password_matches() {
        let (salt, hash) = hashed("right");
        assert!(matches("right", &salt, &hash));
        assert!(!matches("wrong", &salt, &hash));
    }
}
