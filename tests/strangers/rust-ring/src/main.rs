//! Signs with a fixed Ed25519 seed (RFC 8032, test 1) and prints the first bytes of the signature.
use ring::signature::{Ed25519KeyPair, KeyPair, UnparsedPublicKey, ED25519};

const SEED: [u8; 32] = [
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
    0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
];

fn main() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&SEED).expect("a seed of 32 bytes");
    let signature = pair.sign(b"");
    let public = UnparsedPublicKey::new(&ED25519, pair.public_key().as_ref());
    let valid = public.verify(b"", signature.as_ref()).is_ok();
    let text: String = signature.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    println!("ed25519={text} valid={valid}");
}
