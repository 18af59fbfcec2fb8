//! The one function that nobody else may see.

/// The sum of the squares.
pub fn norm(vector: &[i64]) -> i64 {
    vector.iter().map(|entry| entry * entry).sum()
}
