//! The statement, the keys and the proof, as prover and verifier use them.

use std::sync::OnceLock;

use ark_ff::{Field, PrimeField};
use ark_relations::r1cs::{ConstraintSynthesizer, ConstraintSystem};
use ark_serialize::CanonicalSerialize;
use preimage_circuit::{
    format_number, keys, mimc, parse_number, prove, verify, Bn254, Fr, PreimageCircuit, ProvingKey,
    VerifyingKey, PROOF_LEN,
};
use sha2::{Digest, Sha256};

fn demo_keys() -> &'static (ProvingKey<Bn254>, VerifyingKey<Bn254>) {
    static KEYS: OnceLock<(ProvingKey<Bn254>, VerifyingKey<Bn254>)> = OnceLock::new();
    KEYS.get_or_init(|| keys::demo_setup().unwrap())
}

/// (satisfied, number of constraints)
fn synthesise(preimage: Fr, hash: Fr) -> (bool, usize) {
    let cs = ConstraintSystem::new_ref();
    let circuit = PreimageCircuit {
        preimage: Some(preimage),
        hash: Some(hash),
    };
    circuit.generate_constraints(cs.clone()).unwrap();
    (cs.is_satisfied().unwrap(), cs.num_constraints())
}

fn sha256_of(key: &impl CanonicalSerialize) -> String {
    let mut bytes = Vec::new();
    key.serialize_compressed(&mut bytes).unwrap();
    Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

#[test]
fn the_circuit_says_what_the_hash_says() {
    for preimage in [Fr::from(0), Fr::from(1), Fr::from(12345), -Fr::from(1)] {
        let hash = mimc::hash(preimage);
        assert_eq!(synthesise(preimage, hash), (true, 3 * mimc::ROUNDS + 1));
        assert!(!synthesise(preimage, hash + Fr::from(1)).0);
        assert!(!synthesise(preimage + Fr::from(1), hash).0);
    }
}

#[test]
fn the_exponent_makes_a_bijection_and_the_rounds_reach_the_bound() {
    // x ↦ x^d is a bijection of the field exactly when d has no divisor in common with r − 1.
    let order_minus_one: num_bigint::BigUint = (-Fr::from(1)).into();
    assert_ne!(&order_minus_one % 5u32, 0u32.into());
    assert_eq!(&order_minus_one % 3u32, 0u32.into());
    let modulus: num_bigint::BigUint = Fr::MODULUS.into();
    let rounds = u32::try_from(mimc::ROUNDS).unwrap();
    assert!(num_bigint::BigUint::from(5u32).pow(rounds) >= modulus);
    assert!(num_bigint::BigUint::from(5u32).pow(rounds - 1) < modulus);
}

#[test]
fn the_constants_are_those_that_the_documentation_derives() {
    // From hashlib and integers in Python: int.from_bytes(sha512(DOMAIN + i.to_bytes(4, "little")).digest(), "little") % r
    assert_eq!(mimc::constants()[0], Fr::from(0));
    assert_eq!(
        format_number(mimc::constants()[1]),
        "0x0ccfaf04d177205c7c0a05a20296e5496a8925cecf05277b4b7f769b4afa8fcd"
    );
    assert_eq!(
        format_number(mimc::constants()[109]),
        "0x2c0ff6692402c23b28c7eecdf0ee86b2d964d498b6c9c65a108b5ff29c79bdcd"
    );
    assert_eq!(
        format_number(mimc::hash(Fr::from(12345))),
        "0x0d8ee0b892d8fbbfc4a4f5b921e874606332c3e7435cc1ce3518427cd6595de3"
    );
}

#[test]
fn the_setup_gives_these_keys_and_no_others() {
    // Prover's and verifier's images must fit each other, and a rebuilt image must have the same bytes.
    let (proving, verifying) = demo_keys();
    let again = keys::demo_setup().unwrap();
    assert_eq!(
        (sha256_of(proving), sha256_of(verifying)),
        (sha256_of(&again.0), sha256_of(&again.1))
    );
    assert_eq!(
        sha256_of(proving),
        "149769b6950c5eb890c97de608e4f8841c812b765c498131d4a6889e96690d9c"
    );
    assert_eq!(
        sha256_of(verifying),
        "1ccafa94eb1ff6b4a17e4fe9446b267475394039843b79beea05f4cf05ec35af"
    );
}

#[test]
fn a_proof_holds_for_its_hash_only() {
    let (proving, verifying) = demo_keys();
    let (hash, proof) = prove(proving, Fr::from(7)).unwrap();
    assert_eq!(proof.len(), PROOF_LEN);
    assert_eq!(hash, mimc::hash(Fr::from(7)));
    assert!(verify(verifying, hash, &proof).unwrap());
    assert!(!verify(verifying, hash + Fr::from(1), &proof).unwrap());
    let (_, second) = prove(proving, Fr::from(7)).unwrap();
    assert_ne!(proof, second, "a proof must be blinded");
    assert!(verify(verifying, hash, &second).unwrap());
}

#[test]
fn no_flipped_bit_is_accepted() {
    let (proving, verifying) = demo_keys();
    let (hash, proof) = prove(proving, Fr::from(7)).unwrap();
    for byte in 0..proof.len() {
        let mut tampered = proof.clone();
        tampered[byte] ^= 1 << (byte % 8);
        assert!(
            !matches!(verify(verifying, hash, &tampered), Ok(true)),
            "byte {byte}"
        );
    }
    assert!(verify(verifying, hash, &proof[..PROOF_LEN - 1]).is_err());
    assert!(verify(verifying, hash, &[proof.as_slice(), &[0]].concat()).is_err());
    assert!(verify(verifying, hash, &[]).is_err());
}

#[test]
fn keys_survive_a_file_and_a_damaged_one_is_refused() {
    let path = std::env::temp_dir().join(format!("preimage-circuit-{}.key", std::process::id()));
    let (proving, verifying) = demo_keys();
    keys::write(&path, verifying).unwrap();
    assert_eq!(
        &keys::read::<VerifyingKey<Bn254>>(&path).unwrap(),
        verifying
    );
    keys::write(&path, proving).unwrap();
    assert_eq!(&keys::read::<ProvingKey<Bn254>>(&path).unwrap(), proving);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.push(0);
    std::fs::write(&path, &bytes).unwrap();
    let error = keys::read::<ProvingKey<Bn254>>(&path)
        .unwrap_err()
        .to_string();
    assert!(error.contains("1 bytes too many"), "{error}");
    std::fs::remove_file(&path).unwrap();
    let error = keys::read::<ProvingKey<Bn254>>(&path)
        .unwrap_err()
        .to_string();
    assert!(error.contains(&path.display().to_string()), "{error}");
}

#[test]
fn numbers_are_read_as_written_and_never_reduced() {
    assert_eq!(parse_number(" 12345\n").unwrap(), Fr::from(12345));
    assert_eq!(parse_number("0x3039").unwrap(), Fr::from(12345));
    let largest = -Fr::ONE;
    assert_eq!(parse_number(&format_number(largest)).unwrap(), largest);
    let modulus = "21888242871839275222246405745257275088548364400416034343698204186575808495617";
    for bad in [
        "",
        "0x",
        "-1",
        "+1",
        "1_0",
        "12a",
        "0xg",
        "1 2",
        "0x0x1",
        modulus,
        &"9".repeat(1000),
    ] {
        assert!(parse_number(bad).is_err(), "{bad}");
    }
}
