//! Gevulot prover: shows that it knows the preimage of a MiMC hash.
//!
//! Task: `--preimage N` (decimal, or hexadecimal after 0x), or a file `preimage.txt` that holds N.
//! Result: the files `proof.bin` and `public.txt` (the hash), and the hash once more as data.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gevulot_task::{serve, Answer, Error, Task, WORKSPACE};
use preimage_circuit::{format_number, keys, parse_number, prove, Bn254, Fr, ProvingKey};

/// Where `stage.files` of project.yaml puts it in the image.
const PROVING_KEY: &str = "/params/proving.key";

fn main() -> ExitCode {
    serve(work)
}

fn work(task: &Task) -> Result<Answer, Error> {
    println!("my-prover: task {}", task.id);
    let preimage = preimage(task)?;
    let key: ProvingKey<Bn254> = keys::read(Path::new(PROVING_KEY))?;
    let (hash, proof) = prove(&key, preimage)?;
    let public = format_number(hash);
    println!("my-prover: proved knowledge of a preimage of {public}");
    Ok(Answer {
        files: vec![
            write("proof.bin", &proof)?,
            write("public.txt", format!("{public}\n").as_bytes())?,
        ],
        data: public.into_bytes(),
    })
}

fn preimage(task: &Task) -> Result<Fr, Error> {
    if let Some(number) = task.option("preimage") {
        return Ok(parse_number(number)?);
    }
    let path = task
        .file("preimage.txt")
        .ok_or("no preimage; give the argument --preimage N or a file preimage.txt")?;
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(parse_number(&text)?)
}

fn write(name: &str, bytes: &[u8]) -> Result<PathBuf, Error> {
    let path = Path::new(WORKSPACE).join(name);
    std::fs::write(&path, bytes).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(path)
}
