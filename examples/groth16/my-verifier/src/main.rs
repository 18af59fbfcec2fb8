//! Gevulot verifier: checks my-prover's proof.
//!
//! Task: the files `proof.bin` and `public.txt`; `--hash N` in place of the latter.
//! Result: the data `true` or `false`. Bytes that are no proof are `false` too: they prove nothing.

use std::path::Path;
use std::process::ExitCode;

use gevulot_task::{serve, Answer, Error, Task};
use preimage_circuit::{format_number, keys, parse_number, verify, Bn254, Fr, VerifyingKey};

/// Where `stage.files` of project.yaml puts it in the image.
const VERIFYING_KEY: &str = "/params/verifying.key";

fn main() -> ExitCode {
    serve(work)
}

fn work(task: &Task) -> Result<Answer, Error> {
    println!("my-verifier: task {}", task.id);
    let hash = hash(task)?;
    let proof = read(task, "proof.bin")?;
    let key: VerifyingKey<Bn254> = keys::read(Path::new(VERIFYING_KEY))?;
    let valid = verify(&key, hash, &proof).unwrap_or_else(|reason| {
        println!("my-verifier: {reason}");
        false
    });
    let verdict = if valid { "valid" } else { "NOT valid" };
    println!(
        "my-verifier: the proof for {} is {verdict}",
        format_number(hash)
    );
    Ok(Answer {
        data: valid.to_string().into_bytes(),
        files: Vec::new(),
    })
}

fn hash(task: &Task) -> Result<Fr, Error> {
    if let Some(number) = task.option("hash") {
        return Ok(parse_number(number)?);
    }
    Ok(parse_number(&String::from_utf8_lossy(&read(
        task,
        "public.txt",
    )?))?)
}

fn read(task: &Task, name: &str) -> Result<Vec<u8>, Error> {
    let path = task
        .file(name)
        .ok_or_else(|| format!("the task has no file {name}"))?;
    Ok(std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?)
}
