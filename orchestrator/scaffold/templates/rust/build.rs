// Link to the Gevulot shim, which the image build puts at GEVULOT_LIB_DIR.
fn main() {
    let directory = std::env::var("GEVULOT_LIB_DIR").unwrap_or_else(|_| "/build/gevulot/target/release".into());
    println!("cargo:rerun-if-env-changed=GEVULOT_LIB_DIR");
    println!("cargo:rustc-link-search=native={directory}");
    println!("cargo:rustc-link-lib=dylib=gevulot_shim_ffi");
}
