//! The statement: "I know m with H(m) = h", h public. Three constraints a round, and one for the equality.

use ark_bn254::Fr;
use ark_r1cs_std::alloc::AllocVar;
use ark_r1cs_std::eq::EqGadget;
use ark_r1cs_std::fields::fp::FpVar;
use ark_r1cs_std::fields::FieldVar;
use ark_relations::r1cs::{ConstraintSynthesizer, ConstraintSystemRef, SynthesisError};

use crate::mimc;

/// `None` where only the shape matters: the setup.
#[derive(Clone, Copy, Default)]
pub struct PreimageCircuit {
    /// The witness m.
    pub preimage: Option<Fr>,
    /// The public input h.
    pub hash: Option<Fr>,
}

impl ConstraintSynthesizer<Fr> for PreimageCircuit {
    fn generate_constraints(self, cs: ConstraintSystemRef<Fr>) -> Result<(), SynthesisError> {
        let missing = SynthesisError::AssignmentMissing;
        let hash = FpVar::new_input(cs.clone(), || self.hash.ok_or(missing))?;
        let missing = SynthesisError::AssignmentMissing;
        let preimage = FpVar::new_witness(cs, || self.preimage.ok_or(missing))?;
        hash_gadget(&preimage)?.enforce_equal(&hash)
    }
}

/// [`mimc::hash`] on a variable.
fn hash_gadget(preimage: &FpVar<Fr>) -> Result<FpVar<Fr>, SynthesisError> {
    let mut x = preimage.clone();
    for constant in mimc::constants() {
        let sum = x + *constant;
        let square = sum.square()?;
        x = square.square()? * sum;
    }
    Ok(x + preimage)
}
