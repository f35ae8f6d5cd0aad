//! The same as `codec` and `room`, in instructions, whose counts do not depend on the machine's load.

#![allow(missing_docs, reason = "the macros write none")]

use std::hint::black_box;

use axum_cloud_variables::{
    Dialect,
    internals::{Bench, decode},
};
use gungraun::prelude::*;

mod messages;

fn message(name: &str) -> (Dialect, String) {
    let (_, dialect, message) =
        messages::all().into_iter().find(|(n, ..)| *n == name).expect("a message of that name");
    (dialect, message)
}

#[library_benchmark(setup = message)]
#[bench::set("set")]
#[bench::set_of_scratch("set of Scratch")]
#[bench::set_with_escapes("set with escapes")]
#[bench::set_of_10_kb("set of 10 KB")]
#[bench::handshake("handshake")]
fn codec((dialect, message): (Dialect, String)) -> bool {
    decode(dialect, black_box(&message))
}

fn members(count: usize) -> Bench {
    let mut room = Bench::new(Dialect::Spec, count, 10, 40);
    // The first set of a variable costs more.
    room.set(0, 0, "1");
    room.deliver();
    room
}

#[library_benchmark(setup = members)]
#[bench::of_2(2)]
#[bench::of_20(20)]
#[bench::of_1000(1_000)]
fn one_set(mut room: Bench) -> (usize, Bench) {
    room.set(0, 0, black_box("1234567890123456789012345678901234567890"));
    (room.deliver(), room)
}

#[library_benchmark(setup = members)]
#[bench::of_20(20)]
fn each_sets(mut room: Bench) -> (usize, Bench) {
    (0..20).for_each(|member| room.set(member, member % 10, black_box("12345678901234567890")));
    (room.deliver(), room)
}

library_benchmark_group!(name = reading; benchmarks = codec);
library_benchmark_group!(name = room; benchmarks = one_set, each_sets);
main!(library_benchmark_groups = reading, room);
