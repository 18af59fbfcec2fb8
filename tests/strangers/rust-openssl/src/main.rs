//! Signs a message with a new key of P-256, checks the signature, and prints the SHA-256 of the message.
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::{hash, MessageDigest};
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::sign::{Signer, Verifier};

const MESSAGE: &[u8] = b"gevulot";

fn main() -> Result<(), openssl::error::ErrorStack> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    let key = PKey::from_ec_key(EcKey::generate(&group)?)?;
    let mut signer = Signer::new(MessageDigest::sha256(), &key)?;
    let signature = signer.sign_oneshot_to_vec(MESSAGE)?;
    let mut verifier = Verifier::new(MessageDigest::sha256(), &key)?;
    let valid = verifier.verify_oneshot(&signature, MESSAGE)?;
    let digest = hash(MessageDigest::sha256(), MESSAGE)?;
    let text: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{} sha256={text} valid={valid}", openssl::version::version().split(' ').next().unwrap());
    Ok(())
}
