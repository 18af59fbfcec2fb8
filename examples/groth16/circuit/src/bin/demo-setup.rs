//! `demo-setup DIR`: writes the demo keys, proving.key and verifying.key, into DIR. See `preimage_circuit::keys`.

use std::path::PathBuf;
use std::process::ExitCode;

use preimage_circuit::{keys, Error};

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1) else {
        eprintln!("usage: demo-setup DIR");
        return ExitCode::from(2);
    };
    match write_keys(&directory.into()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo-setup: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write_keys(directory: &PathBuf) -> Result<(), Error> {
    std::fs::create_dir_all(directory).map_err(|e| Error::about(directory, e))?;
    let (proving, verifying) = keys::demo_setup()?;
    keys::write(&directory.join(keys::PROVING_KEY), &proving)?;
    keys::write(&directory.join(keys::VERIFYING_KEY), &verifying)?;
    println!(
        "demo keys (not from a ceremony) written to {}",
        directory.display()
    );
    Ok(())
}
