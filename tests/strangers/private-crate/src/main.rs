//! Uses a crate of a private repository.
fn main() {
    println!("norm of (3, 4, 12): {}", lattice::norm(&[3, 4, 12]));
}
