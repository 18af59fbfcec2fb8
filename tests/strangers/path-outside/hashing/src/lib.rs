//! FNV-1a of 64 bits.
pub fn tag(data: &[u8]) -> String {
    let hash = data.iter().fold(0xcbf29ce484222325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100000001b3)
    });
    format!("{hash:016x}")
}
