//! Proves knowledge of `a` with a * a = 49 in halo2 over the Pasta curves, and verifies the proof.
use halo2_proofs::{
    circuit::{Layouter, SimpleFloorPlanner, Value},
    pasta::{EqAffine, Fp},
    plonk::{
        create_proof, keygen_pk, keygen_vk, verify_proof, Advice, Circuit, Column, ConstraintSystem, Error, Instance,
        Selector, SingleVerifier,
    },
    poly::{commitment::Params, Rotation},
    transcript::{Blake2bRead, Blake2bWrite, Challenge255},
};
use rand::rngs::OsRng;

#[derive(Clone)]
struct Config {
    factor: Column<Advice>,
    square: Column<Advice>,
    public: Column<Instance>,
    enabled: Selector,
}

#[derive(Default)]
struct Square {
    root: Value<Fp>,
}

impl Circuit<Fp> for Square {
    type Config = Config;
    type FloorPlanner = SimpleFloorPlanner;

    fn without_witnesses(&self) -> Self {
        Self::default()
    }

    fn configure(meta: &mut ConstraintSystem<Fp>) -> Config {
        let (factor, square) = (meta.advice_column(), meta.advice_column());
        let public = meta.instance_column();
        let enabled = meta.selector();
        meta.enable_equality(square);
        meta.enable_equality(public);
        meta.create_gate("square", |meta| {
            let root = meta.query_advice(factor, Rotation::cur());
            let product = meta.query_advice(square, Rotation::cur());
            let enabled = meta.query_selector(enabled);
            vec![enabled * (root.clone() * root - product)]
        });
        Config { factor, square, public, enabled }
    }

    fn synthesize(&self, config: Config, mut layouter: impl Layouter<Fp>) -> Result<(), Error> {
        let product = layouter.assign_region(
            || "square",
            |mut region| {
                config.enabled.enable(&mut region, 0)?;
                region.assign_advice(|| "root", config.factor, 0, || self.root)?;
                region.assign_advice(|| "square", config.square, 0, || self.root * self.root)
            },
        )?;
        layouter.constrain_instance(product.cell(), config.public, 0)
    }
}

fn main() -> Result<(), Error> {
    let params: Params<EqAffine> = Params::new(4);
    let vk = keygen_vk(&params, &Square::default())?;
    let pk = keygen_pk(&params, vk, &Square::default())?;
    let public = [Fp::from(49)];
    let circuit = Square { root: Value::known(Fp::from(7)) };
    let mut transcript = Blake2bWrite::<_, EqAffine, Challenge255<_>>::init(vec![]);
    create_proof(&params, &pk, &[circuit], &[&[&public]], OsRng, &mut transcript)?;
    let proof = transcript.finalize();
    let check = |value: u64| {
        let mut transcript = Blake2bRead::<_, EqAffine, Challenge255<_>>::init(&proof[..]);
        let public = [Fp::from(value)];
        verify_proof(&params, pk.get_vk(), SingleVerifier::new(&params), &[&[&public]], &mut transcript).is_ok()
    };
    println!("halo2 49={} 50={}", check(49), check(50));
    Ok(())
}
