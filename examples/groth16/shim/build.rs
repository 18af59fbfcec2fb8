//! Tells the linker where the build left the Gevulot shim.

/// Where the orchestrator's first stage leaves it in the build container.
const DEFAULT_DIR: &str = "/build/gevulot/target/release";

fn main() {
    println!("cargo:rerun-if-env-changed=GEVULOT_LIB_DIR");
    let dir = std::env::var("GEVULOT_LIB_DIR").unwrap_or_else(|_| DEFAULT_DIR.into());
    println!("cargo:rustc-link-search=native={dir}");
    println!("cargo:rustc-link-lib=dylib=gevulot_shim_ffi");
}
