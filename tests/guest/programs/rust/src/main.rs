//! Rust with rayon: a thread pool, `Once`, thread-locals, a panic caught; what lld's layout loses on Nanos 0.1.51.

use rayon::prelude::*;
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{mpsc, Once, OnceLock};

static ONCE: Once = Once::new();
static TABLE: OnceLock<Vec<u64>> = OnceLock::new();
static mut INITIAL: [u64; 4] = [1, 2, 3, 4];

thread_local! {
    static SEEN: Cell<u32> = const { Cell::new(7) };
}

fn main() {
    let mut ran = false;
    ONCE.call_once(|| ran = true);
    println!("once ran: {ran}");
    // SAFETY: no other thread is running yet.
    println!("initial {}", unsafe { (*std::ptr::addr_of!(INITIAL)).iter().sum::<u64>() });
    println!("table {}", TABLE.get_or_init(|| (0..100).collect()).len());

    let sum: u64 = (0..1_000_000u64).into_par_iter().map(|n| n * n % 11).sum();
    println!("sum {sum} on {} threads", rayon::current_num_threads());
    let mut numbers: Vec<u64> = (0..200_000).map(|n| n * 7919 % 200_003).collect();
    numbers.par_sort_unstable();
    println!("sorted {}", numbers.windows(2).all(|pair| pair[0] <= pair[1]));

    let caught = std::panic::catch_unwind(|| panic!("on purpose")).is_err();
    println!("caught {caught}");

    let (sender, receiver) = mpsc::channel();
    let threads: Vec<_> = (0..4)
        .map(|n| {
            let sender = sender.clone();
            std::thread::spawn(move || {
                SEEN.with(|seen| seen.set(seen.get() + n));
                sender.send(SEEN.with(Cell::get)).unwrap();
            })
        })
        .collect();
    drop(sender);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    println!("thread-locals {}", receiver.iter().sum::<u32>());

    std::fs::write("/workspace/rust.txt", "written").unwrap();
    let counts: HashMap<_, usize> = std::fs::read_to_string("/workspace/rust.txt").unwrap().chars().fold(
        HashMap::new(),
        |mut counts, letter| {
            *counts.entry(letter).or_default() += 1;
            counts
        },
    );
    println!("letters {}", counts.len());
}
