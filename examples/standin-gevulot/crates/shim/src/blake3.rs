//! BLAKE3 of a file, written from its specification (sections 2.1 to 2.6), so that this library needs no other.

use std::io::Read;

const IV: [u32; 8] = [
    0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19,
];
const ORDER: [usize; 16] = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8];
const CHUNK: usize = 1024;
const BLOCK: usize = 64;
const CHUNK_START: u32 = 1;
const CHUNK_END: u32 = 2;
const PARENT: u32 = 4;
const ROOT: u32 = 8;

type Words = [u32; 8];

fn quarter(v: &mut [u32; 16], [a, b, c, d]: [usize; 4], x: u32, y: u32) {
    for (word, turn, last) in [(x, 16, 12), (y, 8, 7)] {
        v[a] = v[a].wrapping_add(v[b]).wrapping_add(word);
        v[d] = (v[d] ^ v[a]).rotate_right(turn);
        v[c] = v[c].wrapping_add(v[d]);
        v[b] = (v[b] ^ v[c]).rotate_right(last);
    }
}

fn compress(chaining: &Words, block: &[u8], counter: u64, flags: u32) -> Words {
    let mut m = [0u32; 16];
    for (word, bytes) in m.iter_mut().zip(block.chunks(4)) {
        let mut four = [0; 4];
        four[..bytes.len()].copy_from_slice(bytes);
        *word = u32::from_le_bytes(four);
    }
    let mut v = [0u32; 16];
    v[..8].copy_from_slice(chaining);
    v[8..12].copy_from_slice(&IV[..4]);
    v[12..].copy_from_slice(&[
        counter as u32,
        (counter >> 32) as u32,
        block.len() as u32,
        flags,
    ]);
    for round in 0..7 {
        for i in 0..4 {
            quarter(&mut v, [i, i + 4, i + 8, i + 12], m[2 * i], m[2 * i + 1]);
        }
        for i in 0..4 {
            let lanes = [i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4];
            quarter(&mut v, lanes, m[8 + 2 * i], m[9 + 2 * i]);
        }
        if round < 6 {
            m = ORDER.map(|from| m[from]);
        }
    }
    std::array::from_fn(|i| v[i] ^ v[i + 8])
}

fn chunk(data: &[u8], counter: u64, root: u32) -> Words {
    let mut chaining = IV;
    let count = data.len().div_ceil(BLOCK).max(1);
    for i in 0..count {
        let block = &data[i * BLOCK..data.len().min((i + 1) * BLOCK)];
        let mut flags = if i == 0 { CHUNK_START } else { 0 };
        if i == count - 1 {
            flags |= CHUNK_END | root;
        }
        chaining = compress(&chaining, block, counter, flags);
    }
    chaining
}

fn parent(left: &Words, right: &Words, root: u32) -> Words {
    let mut block = [0; BLOCK];
    for (place, word) in block.chunks_mut(4).zip(left.iter().chain(right)) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    compress(&IV, &block, 0, PARENT | root)
}

/// Reads to the end; chunks are joined as soon as two subtrees have the same size, so memory stays small.
pub(crate) fn hash(mut input: impl Read) -> std::io::Result<[u8; 32]> {
    let mut stack: Vec<Words> = Vec::new();
    let (mut current, mut next) = (read_chunk(&mut input)?, Vec::new());
    let mut counter = 0;
    if current.len() == CHUNK {
        next = read_chunk(&mut input)?;
    }
    while !next.is_empty() {
        let mut node = chunk(&current, counter, 0);
        counter += 1;
        let mut full = counter;
        while full & 1 == 0 {
            node = parent(&stack.pop().expect("as many as bits say"), &node, 0);
            full >>= 1;
        }
        stack.push(node);
        current = next;
        next = if current.len() == CHUNK {
            read_chunk(&mut input)?
        } else {
            Vec::new()
        };
    }
    let mut node = chunk(&current, counter, if stack.is_empty() { ROOT } else { 0 });
    while let Some(left) = stack.pop() {
        node = parent(&left, &node, if stack.is_empty() { ROOT } else { 0 });
    }
    let mut digest = [0; 32];
    for (place, word) in digest.chunks_mut(4).zip(node) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    Ok(digest)
}

fn read_chunk(input: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut data = Vec::with_capacity(CHUNK);
    input.take(CHUNK as u64).read_to_end(&mut data)?;
    Ok(data)
}
